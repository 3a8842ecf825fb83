//! `plan`: the calendar of the future, in the schedules' own zones, with the rooms and the words.

use std::sync::Arc;

use imbabot_core::Timestamp;
use imbabot_scheduler::{Ask, Planned, plan as planned};
use imbabot_store::{SqliteStore, Store};
use serde_json::{Value, json};

use super::args::Plan;
use super::{Command, Result, clock, schedules};
use crate::exit::Exit;
use crate::{output, setup, stores};

/// Without `--count` and `--until`.
const COUNT: usize = 20;

pub(crate) async fn plan(command: &Command, options: Plan) -> Result {
    let loaded = command.loaded()?;
    let settings = command.settings(&loaded.config)?;
    if let Some(id) = &options.schedule {
        schedules::known(&settings, id)?;
    }
    // Before the first run there is no list of rooms, and the calendar is known all the same.
    let store: Arc<dyn Store> = match stores::visit_if_there(&loaded.config).await? {
        Some(store) => store,
        None => Arc::new(SqliteStore::in_memory(setup::bodies(&loaded.config))?),
    };
    let usual = if options.until.is_some() { usize::MAX } else { COUNT };
    let now = stores::now(&*store, &*clock()).await?;
    let ask = Ask {
        now,
        from: options.from.unwrap_or(now),
        until: options.until.unwrap_or(Timestamp::MAX),
        count: options.count.unwrap_or(usual),
        only: options.schedule,
    };
    let found = planned(&*store, &settings, &ask).await?;
    let value: Vec<Value> = found.iter().map(object).collect();
    command.output.data(&json!(value), || {
        if found.is_empty() {
            return "nothing is planned".into();
        }
        found.iter().map(paragraph).collect::<Vec<_>>().join("\n")
    });
    Ok(Exit::Ok)
}

fn object(planned: &Planned) -> Value {
    let rooms: Vec<Value> = planned
        .messages
        .iter()
        .map(|message| {
            json!({
                "widget": message.widget,
                "room": message.room,
                "name": message.name,
                "delivery": message.delivery,
                "text": message.text,
            })
        })
        .collect();
    json!({
        "occurrence": planned.occurrence,
        "schedule": planned.schedule,
        "at": planned.local,
        "at_utc": planned.at,
        "rooms": rooms,
        "notes": planned.notes,
        "warnings": planned.warnings,
    })
}

fn paragraph(planned: &Planned) -> String {
    let rooms = match &planned.messages[..] {
        [] => String::new(),
        [one] => format!("  room {}: {}", one.room, output::foreign(&one.text)),
        [first, ..] => format!(
            "  {} rooms, the first ({}): {}",
            planned.messages.len(),
            first.room,
            output::foreign(&first.text)
        ),
    };
    let mut lines = vec![format!("{}  {}{rooms}", planned.shown, planned.schedule)];
    lines.extend(planned.notes.iter().map(|note| format!("    note: {note}")));
    lines.extend(planned.warnings.iter().map(|warning| format!("    warning: {warning}")));
    lines.join("\n")
}
