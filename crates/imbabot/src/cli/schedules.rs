//! `schedules`: what fires when, and the switches for it.

use std::collections::BTreeMap;

use imbabot_core::Timestamp;
use imbabot_scheduler::{Settings, bot_schedule_key, reach, trigger};
use imbabot_store::{Cursor, Schedules, SqliteStore};
use serde_json::{Value, json};

use super::args::SchedulesVerb;
use super::{Command, Result, clock, visit};
use crate::exit::{Exit, Failure};
use crate::output;

pub(crate) async fn schedules(command: &Command, verb: Option<SchedulesVerb>) -> Result {
    let loaded = command.loaded()?;
    let settings = command.settings(&loaded.config)?;
    let now = clock().now();
    let (id, paused) = match verb {
        None => {
            // Before the first run there is no store, and the calendar is known all the same.
            let store = loaded.config.store.path.exists().then(|| visit(&loaded.config));
            return list(command, &settings, store.transpose()?.as_ref(), now).await;
        }
        Some(SchedulesVerb::Trigger { id }) => {
            let store = visit(&loaded.config)?;
            known(&settings, &id)?;
            let Some(occurrence) = trigger(&store, &settings, &id, now).await? else {
                return Err(Failure::bad_input(format!("{id} would reach no room now"))
                    .hint("`imbabot rooms` shows which rooms there are"));
            };
            command.output.data(&json!({ "occurrence": occurrence }), || occurrence.clone());
            return Ok(Exit::Ok);
        }
        Some(SchedulesVerb::Pause { id }) => (id, true),
        Some(SchedulesVerb::Resume { id }) => (id, false),
    };
    known(&settings, &id)?;
    let store = visit(&loaded.config)?;
    if !store.pause_schedule(now, &id, paused).await? {
        return Err(Failure::bad_input(format!(
            "the daemon has not yet run with the schedule {id}"
        )));
    }
    let state = if paused { "paused" } else { "running" };
    command.output.data(&json!({"schedule": id, "state": state}), || format!("{id}: {state}"));
    Ok(Exit::Ok)
}

pub(super) fn known(settings: &Settings, id: &str) -> Result<()> {
    let found = settings.announcements.iter().find(|a| a.schedule.id().as_str() == id);
    if found.is_some_and(|announcement| !announcement.enabled) {
        return Err(Failure::bad_input(format!(
            "the schedule {id} is disabled (`enabled = false`)"
        )));
    }
    let announcement = found.is_some();
    let of_bot = settings.bots.iter().any(|bot| {
        bot.bot.schedules().iter().any(|schedule| bot_schedule_key(&bot.name, schedule) == id)
    });
    if announcement || of_bot {
        Ok(())
    } else {
        Err(Failure::bad_input(format!("there is no schedule {id:?}"))
            .hint("`imbabot schedules` lists them"))
    }
}

async fn list(
    command: &Command,
    settings: &Settings,
    store: Option<&SqliteStore>,
    now: Timestamp,
) -> Result {
    let cursors: BTreeMap<String, Cursor> = match store {
        Some(store) => store.cursors().await?.into_iter().map(|c| (c.key.clone(), c)).collect(),
        None => BTreeMap::new(),
    };
    let mut rows = Vec::new();
    for announcement in &settings.announcements {
        let schedule = &announcement.schedule;
        let rooms = match store {
            Some(store) => reach(store, settings, announcement).await?.map(|rooms| rooms.len()),
            None => None,
        };
        rows.push(row(
            schedule.id().as_str(),
            announcement.enabled,
            schedule,
            &cursors,
            rooms,
            now,
        ));
    }
    for bot in &settings.bots {
        for schedule in bot.bot.schedules() {
            let key = bot_schedule_key(&bot.name, &schedule);
            rows.push(row(&key, true, &schedule, &cursors, None, now));
        }
    }
    command.output.data(&Value::Array(rows.clone()), || {
        let text = |value: &Value| match value {
            Value::Null => "-".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let rows = rows.iter().map(|row| {
            let state = match (&row["enabled"], &row["paused"]) {
                (Value::Bool(false), _) => "disabled",
                (_, Value::Bool(true)) => "paused",
                _ => "running",
            };
            vec![
                text(&row["id"]),
                state.to_owned(),
                text(&row["last"]),
                text(&row["next"]),
                text(&row["missed"]),
                text(&row["rooms"]),
            ]
        });
        output::table(&["SCHEDULE", "STATE", "LAST", "NEXT", "MISSED", "ROOMS"], rows)
    });
    Ok(Exit::Ok)
}

fn row(
    id: &str,
    enabled: bool,
    schedule: &imbabot_bot::Schedule,
    cursors: &BTreeMap<String, Cursor>,
    rooms: Option<usize>,
    now: Timestamp,
) -> Value {
    let cursor = cursors.get(id);
    let next = enabled.then(|| schedule.next_after(now)).flatten();
    json!({
        "id": id,
        "enabled": enabled,
        "paused": cursor.is_some_and(|cursor| cursor.paused),
        "last": cursor.and_then(|c| c.last_fired).map(|at| schedule.zone().rfc3339(at)),
        "next": next.map(|at| schedule.zone().rfc3339(at)),
        "missed": cursor.map_or(0, |cursor| cursor.missed),
        "rooms": rooms,
    })
}
