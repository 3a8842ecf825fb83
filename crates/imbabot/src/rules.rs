//! A bot without code, `kind = "rules"`: what it says about which change of which rooms stands in
//! the configuration. It knows nothing that another bot could not know, and does nothing else.

use async_trait::async_trait;
use imbabot_bot::units::{Span, hours};
use imbabot_bot::{
    Bot, Context, Event, Result, Room, RoomChange, RoomEvent, RoomSelector, Template,
};
use imbabot_core::{RoomId, Timestamp};
use serde::{Deserialize, Serialize};

/// The kind under which it is known.
pub(crate) const KIND: &str = "rules";

/// For how long after its time a follow-up may still be taken back: while it waits for a server
/// that does not answer, say.
const LINGER: std::time::Duration = hours(1);

/// So many follow-ups of one room can be taken back, the newest. More than the limits let through in
/// a day, and little enough to be written with each.
const MOST: usize = 1_000;

/// A bot that is made of rules: `{ when = "opened", text = "Welcome!" }`, or several of them as
/// `{ rules = [ … ] }`.
///
/// A rule with `after` makes a *follow-up*. It waits in the outbox, and is taken back when what it
/// is about is over: when the room is gone, or, for a rule about rooms that are gone, has returned.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Settings")]
pub struct Rules(Vec<Rule>);

#[derive(Debug, Clone, PartialEq)]
struct Rule {
    when: Vec<RoomChange>,
    rooms: Option<RoomSelector>,
    text: Template,
    after: Option<Span>,
    to: Option<RoomId>,
}

/// Several rules, or the keys of the only one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    rules: Option<Vec<Given>>,
    when: Option<When>,
    rooms: Option<RoomSelector>,
    text: Option<String>,
    after: Option<Span>,
    to: Option<RoomId>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    when: When,
    rooms: Option<RoomSelector>,
    text: String,
    after: Option<Span>,
    to: Option<RoomId>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum When {
    One(RoomChange),
    Any(Vec<RoomChange>),
}

impl TryFrom<Settings> for Rules {
    type Error = String;
    fn try_from(settings: Settings) -> std::result::Result<Self, String> {
        let Settings { rules, when, rooms, text, after, to } = settings;
        let given = match (rules, when, text) {
            (Some(rules), None, None) if rooms.is_none() && after.is_none() && to.is_none() => {
                rules
            }
            (None, Some(when), Some(text)) => vec![Given { when, rooms, text, after, to }],
            (Some(_), ..) => return Err("either `rules`, or the keys of one rule".into()),
            _ => return Err("a rule has at least `when` and `text`".into()),
        };
        if given.is_empty() {
            return Err("rules: there is none".into());
        }
        let read =
            |(n, rule): (usize, Given)| Rule::of(rule).map_err(|e| format!("rules[{n}].{e}"));
        given.into_iter().enumerate().map(read).collect::<std::result::Result<_, _>>().map(Self)
    }
}

impl Rule {
    fn of(given: Given) -> std::result::Result<Self, String> {
        let when = match given.when {
            When::One(change) => vec![change],
            When::Any(changes) => changes,
        };
        if when.is_empty() {
            return Err("when: it would never say anything".into());
        }
        if given.to.is_none() && when.contains(&RoomChange::Gone) {
            return Err("to: a room that is gone cannot be spoken to".into());
        }
        if given.text.trim().is_empty() {
            return Err("text: it is empty".into());
        }
        let text = Template::room_event(&given.text).map_err(|why| format!("text: {why}"))?;
        Ok(Self { when, rooms: given.rooms, text, after: given.after, to: given.to })
    }

    /// As for a bot's own `rooms`: the room as it is, or as it was.
    fn speaks_of(&self, event: &RoomEvent) -> bool {
        let chosen = |room: &Room| self.rooms.as_ref().is_none_or(|rooms| rooms.includes(room));
        self.when.contains(&event.change)
            && (chosen(&event.room) || event.before.as_ref().is_some_and(chosen))
    }
}

/// A message that waits for its time, as the bot's memory keeps it.
#[derive(Serialize, Deserialize)]
struct FollowUp {
    key: String,
    /// It speaks of a room that is gone.
    of_gone: bool,
    /// Until when it is remembered.
    until: Timestamp,
}

/// The key of a room's follow-ups in the memory, and of the timer that forgets them.
fn shelf(room: RoomId) -> String {
    format!("follow-ups/{room}")
}

fn room_of(shelf: &str) -> Option<RoomId> {
    shelf.strip_prefix("follow-ups/")?.parse().ok().map(RoomId)
}

#[async_trait]
impl Bot for Rules {
    async fn on_event(&self, ctx: &mut Context, event: &Event) -> Result<()> {
        match event {
            Event::Room(event) => self.on_room(ctx, event).await,
            Event::Timer(timer) => match room_of(&timer.key) {
                Some(room) => forget(ctx, room).await,
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

impl Rules {
    async fn on_room(&self, ctx: &mut Context, event: &RoomEvent) -> Result<()> {
        if matches!(event.change, RoomChange::Gone | RoomChange::Returned) {
            take_back(ctx, event).await?;
        }
        let room = event.room.id;
        let whole = Event::Room(event.clone());
        let values = imbabot_bot::template::Values::new().event(&whole);
        let mut more = Vec::new();
        for (n, rule) in self.0.iter().enumerate().filter(|(_, rule)| rule.speaks_of(event)) {
            let text = rule.text.render_with(&values)?;
            let widget = ctx.widget().clone();
            let message = ctx.send(rule.to.unwrap_or(room), text);
            let Some(after) = rule.after.map(Span::get).filter(|after| !after.is_zero()) else {
                continue;
            };
            // Of this event, so that the next one of its kind makes another message.
            let at = event.at.as_micros();
            let key = format!("follow-up/{widget}/{room}/{}/{at}/{n}", event.change.as_str());
            message.after(after).key(&*key);
            let until = event.at + after + LINGER;
            more.push(FollowUp { key, of_gone: event.change == RoomChange::Gone, until });
        }
        if more.is_empty() {
            return Ok(());
        }
        let mut kept = remembered(ctx, room).await?;
        kept.extend(more);
        kept.drain(..kept.len().saturating_sub(MOST));
        remember(ctx, room, &kept)
    }
}

async fn remembered(ctx: &mut Context, room: RoomId) -> Result<Vec<FollowUp>> {
    let now = ctx.now();
    let mut kept: Vec<FollowUp> = ctx.memory().get(&shelf(room)).await?.unwrap_or_default();
    kept.retain(|one| one.until > now);
    Ok(kept)
}

/// Keeps them until the last of them is past.
fn remember(ctx: &mut Context, room: RoomId, kept: &[FollowUp]) -> Result<()> {
    let now = ctx.now();
    match kept.iter().map(|one| one.until).max() {
        Some(last) => {
            ctx.memory().set(shelf(room), &kept)?;
            ctx.wake(shelf(room), last.since(now));
        }
        None => ctx.memory().remove(shelf(room)),
    }
    Ok(())
}

async fn forget(ctx: &mut Context, room: RoomId) -> Result<()> {
    let kept = remembered(ctx, room).await?;
    remember(ctx, room, &kept)
}

/// What is over is no longer spoken of.
async fn take_back(ctx: &mut Context, event: &RoomEvent) -> Result<()> {
    let room = event.room.id;
    let is_gone = event.change == RoomChange::Gone;
    let (over, kept): (Vec<FollowUp>, Vec<FollowUp>) =
        remembered(ctx, room).await?.into_iter().partition(|one| one.of_gone != is_gone);
    if over.is_empty() {
        return Ok(());
    }
    over.into_iter().for_each(|one| ctx.cancel(one.key));
    remember(ctx, room, &kept)
}
