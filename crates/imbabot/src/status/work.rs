//! How the work stands: deliveries by state, what waits and why, and the bots. Read from the store when
//! somebody asks, so it is as fresh as the store and costs nobody anything who does not ask.

use std::collections::BTreeMap;

use imbabot_bot::{BotName, DeliveryId};
use imbabot_core::Timestamp;
use imbabot_store::{DeliveryRecord, DeliveryState, PauseScope, Result, Store};
use serde::{Deserialize, Serialize};

use super::instances::Instance;
use crate::why;

/// So many of what is in doubt, and so many of what is queued, are shown one by one.
const SHOWN: usize = 6;

/// How the work stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Work {
    /// How many deliveries there are in each state.
    pub(crate) deliveries: BTreeMap<String, u64>,
    /// Why those are dead that are.
    pub(crate) dead: BTreeMap<String, u64>,
    /// What is in doubt, and what is queued: those first that expire first.
    pub(crate) waiting: Vec<Waiting>,
    /// The bots, and those that are gone while something is left for them.
    pub(crate) bots: BTreeMap<String, Bot>,
    /// Those that share the store; none where it is a file.
    pub(crate) instances: Vec<Instance>,
}

/// A delivery that has not come to its end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Waiting {
    pub(crate) delivery: DeliveryId,
    pub(crate) state: String,
    pub(crate) widget: String,
    pub(crate) room: u64,
    /// What its people call the room.
    pub(crate) name: Option<String>,
    /// The occurrence or the bot that wanted it; none for `send`.
    pub(crate) cause: Option<String>,
    pub(crate) since: Timestamp,
    pub(crate) expires_at: Timestamp,
    /// What it waits for: a reason out of the list of `why`.
    pub(crate) reason: String,
    /// The same as a sentence.
    pub(crate) text: String,
}

/// A bot as it stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Bot {
    /// `ok`, `failing` (there are poisoned events), `paused`, `set_aside` or `removed`.
    pub(crate) health: String,
    pub(crate) events_waiting: u64,
    pub(crate) events_poisoned: u64,
}

impl Work {
    /// Reads it. `bots` are those of the configuration, `set_aside` says which of them are told
    /// nothing; `running`: a daemon runs on the store.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) async fn read<S: Store + ?Sized>(
        store: &S,
        bots: &[BotName],
        set_aside: impl Fn(&str) -> bool,
        now: Timestamp,
        running: bool,
    ) -> Result<Self> {
        let tally = store.tally().await?;
        let backlog = store.backlog(SHOWN).await?;
        let instances = Instance::all(store, now).await?;
        let mut work = Self { instances, ..Self::default() };
        for state in DeliveryState::ALL {
            work.deliveries.insert(state.as_str().into(), 0);
        }
        for count in tally.deliveries.iter().filter(|count| count.present > 0) {
            *work.deliveries.entry(count.state.as_str().into()).or_default() += count.present;
            if count.state == DeliveryState::Dead {
                let reason = count.reason.clone().unwrap_or_default();
                *work.dead.entry(reason).or_default() += count.present;
            }
        }
        for record in backlog.unknown.into_iter().chain(backlog.queued) {
            work.waiting.extend(waiting(store, record, now, running).await?);
        }
        for (bot, events) in backlog.events {
            work.bots.entry(bot.to_string()).or_default().events_waiting = events;
        }
        for (bot, events) in tally.events_poisoned {
            work.bots.entry(bot.to_string()).or_default().events_poisoned = events;
        }
        let paused = store.paused().await?;
        for bot in bots {
            work.bots.entry(bot.to_string()).or_default();
        }
        for (name, bot) in &mut work.bots {
            let is_configured = bots.iter().any(|bot| bot.as_str() == name);
            bot.health = match is_configured {
                true => health(&paused, name, set_aside(name), bot.events_poisoned).into(),
                false => "removed".into(),
            };
        }
        Ok(work)
    }
}

/// One word for how a bot is: the gravest that holds.
fn health(paused: &[PauseScope], name: &str, set_aside: bool, poisoned: u64) -> &'static str {
    let is_paused = paused.iter().any(|scope| match scope {
        PauseScope::All => true,
        PauseScope::Bot(bot) => bot.as_str() == name,
        PauseScope::Widget(_) => false,
    });
    match (set_aside, is_paused, poisoned) {
        (true, ..) => "set_aside",
        (_, true, _) => "paused",
        (_, _, 1..) => "failing",
        _ => "ok",
    }
}

/// What one delivery waits for; nothing if it has come to its end meanwhile.
async fn waiting<S: Store + ?Sized>(
    store: &S,
    record: DeliveryRecord,
    now: Timestamp,
    running: bool,
) -> Result<Option<Waiting>> {
    let Some(story) = store.delivery_story(record.id).await? else { return Ok(None) };
    let Some(decision) = why::present(&story, now, running) else { return Ok(None) };
    let record = story.record;
    let rooms = store.rooms_by_id(&record.widget, &[record.room]).await?;
    Ok(Some(Waiting {
        delivery: record.id,
        state: record.state.as_str().into(),
        widget: record.widget.to_string(),
        room: record.room.0,
        name: rooms.into_iter().next().map(|room| room.name),
        cause: record.occurrence.or_else(|| record.bot.map(|bot| bot.to_string())),
        since: record.created_at,
        expires_at: record.expires_at,
        reason: decision.reason.as_str().into(),
        text: decision.text,
    }))
}
