//! `schedules`: what fires when, and the switches for it.

use std::collections::BTreeMap;

use imbabot_bot::Schedule;
use imbabot_core::Timestamp;
use imbabot_scheduler::{Outlook, Settings, Upcoming, bot_schedule_key, reach, trigger};
use imbabot_store::{Cursor, ScheduleStory, Store};
use serde_json::{Value, json};

use super::args::SchedulesVerb;
use super::{Command, Result, clock};
use crate::exit::{Exit, Failure};
use crate::why::{self, Rooms, Standing};
use crate::{output, stores};

pub(crate) async fn schedules(command: &Command, verb: Option<SchedulesVerb>) -> Result {
    let loaded = command.loaded_for_store()?;
    let settings = command.settings(&loaded.config)?;
    let (id, paused) = match verb {
        None => {
            // Before the first run there is no store, and the calendar is known all the same.
            let (store, daemons) = stores::look_if_there(&loaded.config).await?;
            let now = match &store {
                Some(store) => stores::now(&**store, &*clock()).await?,
                None => clock().now(),
            };
            let running = daemons.is_anybody();
            let entries = entries(&settings, store.as_deref(), running, now).await?;
            let rows = entries.iter().map(|entry| entry.value.clone()).collect();
            command.output.data(&Value::Array(rows), || table(&entries));
            return Ok(Exit::Ok);
        }
        Some(SchedulesVerb::Trigger { id }) => {
            let store = stores::visit(&loaded.config).await?;
            known(&settings, &id)?;
            let now = stores::now(&*store, &*clock()).await?;
            let Some(occurrence) = trigger(&*store, &settings, &id, now).await? else {
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
    let store = stores::visit(&loaded.config).await?;
    let now = stores::now(&*store, &*clock()).await?;
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

/// Lists them: the rules in force as the configuration has them, and what the store knows of each.
async fn entries(
    settings: &Settings,
    store: Option<&dyn Store>,
    running: bool,
    now: Timestamp,
) -> Result<Vec<Entry>> {
    let cursors: BTreeMap<String, Cursor> = match store {
        Some(store) => store.cursors().await?.into_iter().map(|c| (c.key.clone(), c)).collect(),
        None => BTreeMap::new(),
    };
    let look = Look { store, cursors, running, now };
    let mut entries = Vec::new();
    for announcement in &settings.announcements {
        let schedule = &announcement.schedule;
        let rooms = match store {
            Some(store) => reach(store, settings, announcement).await?.map(|rooms| rooms.len()),
            None => None,
        };
        let rooms = rooms.map_or(Rooms::Unknown, Rooms::Known);
        let key = schedule.id().as_str();
        entries.push(look.at(key, announcement.enabled, schedule, rooms).await?);
    }
    for bot in &settings.bots {
        for schedule in bot.bot.schedules() {
            let key = bot_schedule_key(&bot.name, &schedule);
            entries.push(look.at(&key, true, &schedule, Rooms::NotAsked).await?);
        }
    }
    Ok(entries)
}

/// Where the schedules are looked up.
struct Look<'a> {
    store: Option<&'a dyn Store>,
    cursors: BTreeMap<String, Cursor>,
    running: bool,
    now: Timestamp,
}

/// A schedule as it is told.
struct Entry {
    value: Value,
    last: Option<String>,
    next: Option<String>,
}

impl Look<'_> {
    async fn at(
        &self,
        key: &str,
        enabled: bool,
        schedule: &Schedule,
        rooms: Rooms,
    ) -> Result<Entry> {
        let cursor = self.cursors.get(key);
        let paused = cursor.is_some_and(|cursor| cursor.paused);
        let mut story = ScheduleStory::default();
        let mut last = None;
        let mut outlook = None;
        if let Some((store, cursor)) = self.store.zip(cursor) {
            outlook = Some(Outlook::of(store, key, schedule, Some(cursor), self.now).await?);
            story = store.schedule_story(key, self.now).await?;
            if let Some(at) = story.last {
                let id = format!("{key}@{}", at.compact());
                last = Some(store.occurrence_story(&id, key, at).await?);
            }
        }
        let next = match &outlook {
            _ if !enabled => None,
            Some(outlook) => outlook.next(),
            None => schedule.next_after(self.now).map(|at| Upcoming { at, notes: Vec::new() }),
        };
        let standing = Standing {
            key,
            schedule,
            enabled,
            paused,
            outlook: outlook.as_ref(),
            story,
            last: last.as_ref(),
            rooms,
            running: self.running,
            now: self.now,
        };
        let why: Vec<String> = why::schedule(&standing)
            .into_iter()
            .map(|decision| format!("{}: {}", decision.reason.as_str(), decision.text))
            .collect();
        let zone = schedule.zone();
        let fired = cursor.and_then(|cursor| cursor.last_fired);
        let rooms = if let Rooms::Known(count) = rooms { Some(count) } else { None };
        let value = json!({
            "id": key,
            "enabled": enabled,
            "paused": paused,
            "last": fired.map(|at| zone.rfc3339(at)),
            "next": next.as_ref().map(|next| zone.rfc3339(next.at)),
            "missed": cursor.map_or(0, |cursor| cursor.missed),
            "rooms": rooms,
            "why": why,
            "notes": next.as_ref().map_or(&[][..], |next| &next.notes),
        });
        let shown = |at: Timestamp| zone.show(at);
        Ok(Entry { value, last: fired.map(shown), next: next.map(|next| shown(next.at)) })
    }
}

/// A line each, and beneath it what there is to say, no wider than most terminals.
fn table(entries: &[Entry]) -> String {
    let rows = entries.iter().map(|entry| {
        let value = &entry.value;
        let text = |name: &str| match &value[name] {
            Value::Null => "-".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let state = match (&value["enabled"], &value["paused"]) {
            (Value::Bool(false), _) => "disabled",
            (_, Value::Bool(true)) => "paused",
            _ => "active",
        };
        let shown = |at: &Option<String>| at.clone().unwrap_or_else(|| "-".into());
        vec![
            text("id"),
            state.to_owned(),
            shown(&entry.last),
            shown(&entry.next),
            text("missed"),
            text("rooms"),
        ]
    });
    let table = output::table(&["SCHEDULE", "STATE", "LAST", "NEXT", "MISSED", "ROOMS"], rows);
    let mut lines = table.lines().map(str::to_owned);
    let mut all: Vec<String> = lines.next().into_iter().collect();
    for (line, entry) in lines.by_ref().zip(entries) {
        all.push(line);
        let notes = entry.value["notes"].as_array().into_iter().flatten();
        let notes = notes.filter_map(Value::as_str).map(|note| format!("note: {note}"));
        let why = entry.value["why"].as_array().into_iter().flatten();
        let why = why.filter_map(Value::as_str).map(str::to_owned);
        all.extend(why.chain(notes).map(|text| output::wrapped(&text, "    ")));
    }
    all.join("\n")
}

#[cfg(test)]
mod tests;
