//! `events`: what bots were told, and how it went.

use imbabot_store::EventOutcome;
use serde_json::json;

use super::args::EventsVerb;
use super::{Command, Result, clock};
use crate::exit::{Exit, Failure};
use crate::{output, stores};

pub(crate) async fn events(
    command: &Command,
    verb: Option<EventsVerb>,
    poisoned: bool,
    limit: usize,
) -> Result {
    let loaded = command.loaded_for_store()?;
    let store = stores::visit(&loaded.config).await?;
    if let Some(EventsVerb::Retry { id }) = verb {
        let now = stores::now(&*store, &*clock()).await?;
        if !store.retry_event(now, &id).await? {
            return Err(Failure::bad_input(format!("there is no poisoned event {id:?}"))
                .hint("`imbabot events --poisoned` lists them"));
        }
        command.output.data(&json!({"event": id, "state": "waiting"}), || {
            format!("{id}: told to its bot again")
        });
        return Ok(Exit::Ok);
    }
    let events = store.events(poisoned, limit).await?;
    command.output.data(&json!(events), || {
        let rows = events.iter().map(|event| {
            let outcome = event.outcome.map_or("waiting", |outcome| match outcome {
                EventOutcome::Handled => "handled",
                EventOutcome::Poisoned => "poisoned",
                EventOutcome::Ignored => "ignored",
            });
            vec![
                event.id.clone(),
                event.at.map(|at| at.compact()).unwrap_or_default(),
                event.widget.to_string(),
                event.event_kind.clone(),
                event.room.map(|room| room.to_string()).unwrap_or_default(),
                event.tries.to_string(),
                outcome.to_owned(),
                output::foreign(event.reason.as_deref().unwrap_or_default()),
            ]
        });
        output::table(&["EVENT", "AT", "WIDGET", "KIND", "ROOM", "TRIES", "OUTCOME", "WHY"], rows)
    });
    Ok(Exit::Ok)
}
