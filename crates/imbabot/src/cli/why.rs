//! `why`: the chain of decisions that led to a message, or to its absence.

use imbabot_bot::{DeliveryId, Schedule};
use imbabot_core::Timestamp;
use imbabot_scheduler::{Settings, bot_schedule_key};
use imbabot_store::MANUAL;
use serde_json::json;

use super::{Command, Result, clock};
use crate::exit::{Exit, Failure};
use crate::why::{self, Calendar, Decision};
use crate::{output, stores};

pub(crate) async fn why(command: &Command, id: &str) -> Result {
    let loaded = command.loaded_for_store()?;
    let (store, daemons) = stores::look(&loaded.config).await?;
    let running = daemons.is_anybody();
    let now = stores::now(&*store, &*clock()).await?;
    if id.contains('@') {
        let settings = command.settings(&loaded.config)?;
        let (key, at) = parse(id)?;
        let schedule = schedule(&settings, &key);
        let canonical = canonical(&key, at, id.ends_with(MANUAL));
        let story = store.occurrence_story(&canonical, &key, at).await?;
        if schedule.is_none() && story.fired_through.is_none() {
            return Err(Failure::bad_input(format!("there is no schedule {key:?}"))
                .hint("`imbabot schedules` lists them"));
        }
        let calendar = Calendar { id: &canonical, key: &key, at, schedule: schedule.as_ref() };
        let chain = why::occurrence(&calendar, &story, now, running);
        tell(command, &canonical, "occurrence", &canonical, &chain);
        return Ok(Exit::Ok);
    }
    let delivery: DeliveryId = id.parse().map_err(|error: String| {
        Failure::bad_input(error).hint(
            "`imbabot deliveries` shows the ids of deliveries; an occurrence is \
             SCHEDULE@INSTANT, such as standup@2026-03-30T07:00:00Z",
        )
    })?;
    let Some(story) = store.delivery_story(delivery).await? else {
        return Err(Failure::bad_input(format!("there is no delivery {delivery}"))
            .hint("what is older than the `retention` is not kept"));
    };
    let chain = why::delivery(&story, now, running);
    let record = &story.record;
    let title = format!("{delivery} to room {} of {}", record.room, record.widget);
    tell(command, &delivery.to_string(), "delivery", &title, &chain);
    Ok(Exit::Ok)
}

fn tell(command: &Command, id: &str, kind: &str, title: &str, chain: &[Decision]) {
    command.output.data(&json!({"id": id, "kind": kind, "decisions": chain}), || {
        let rows = chain.iter().map(|decision| {
            let seq = decision.seq.map(|seq| seq.to_string()).unwrap_or_default();
            let text = decision.text.clone();
            vec![decision.at.compact(), decision.reason.as_str().to_owned(), text, seq]
        });
        format!("{title}\n{}", output::table(&["AT", "REASON", "WHAT", "SEQ"], rows))
    });
}

fn parse(id: &str) -> Result<(String, Timestamp)> {
    let bare = id.strip_suffix(MANUAL).unwrap_or(id);
    let (key, at) = bare.rsplit_once('@').unwrap_or((bare, ""));
    let at: Timestamp = at.parse().map_err(|_| {
        Failure::bad_input(format!("{at:?} is not an instant"))
            .hint("write the instant with its offset: standup@2026-03-30T07:00:00Z")
    })?;
    Ok((key.to_owned(), at))
}

/// As the engine writes it, whatever offset the question was asked in.
fn canonical(key: &str, at: Timestamp, manual: bool) -> String {
    format!("{key}@{}{}", at.compact(), if manual { MANUAL } else { "" })
}

fn schedule(settings: &Settings, key: &str) -> Option<Schedule> {
    let announced = settings.announcements.iter().map(|a| &a.schedule);
    if let Some(found) = announced.into_iter().find(|s| s.id().as_str() == key) {
        return Some(found.clone());
    }
    settings.bots.iter().find_map(|bot| {
        let own = bot.bot.schedules();
        own.into_iter().find(|schedule| bot_schedule_key(&bot.name, schedule) == key)
    })
}
