//! `pause` and `resume`: a row in the store, obeyed within a second.

use imbabot_store::{Operations, PauseScope};
use serde_json::json;

use super::args::Scope;
use super::{Command, Result, clock, visit};
use crate::exit::{Exit, Failure};

pub(crate) async fn pause(command: &Command, scope: Scope, paused: bool) -> Result {
    let loaded = command.loaded()?;
    let scope = match (scope.widget, scope.bot) {
        (Some(widget), _) => {
            if loaded.config.widget(&widget).is_none() {
                return Err(Failure::bad_input(format!("there is no widget {widget}")));
            }
            PauseScope::Widget(widget)
        }
        (None, Some(bot)) => {
            if !loaded.config.bots.iter().any(|known| known.name == bot) {
                return Err(Failure::bad_input(format!("there is no bot {bot}")));
            }
            PauseScope::Bot(bot)
        }
        (None, None) => PauseScope::All,
    };
    let store = visit(&loaded.config)?;
    let changed = store.pause(clock().now(), &scope, paused).await?;
    let state = if paused { "paused" } else { "running" };
    let value = json!({"scope": scope.to_string(), "state": state, "changed": changed});
    command.output.data(&value, || {
        let already = if changed { "" } else { " already" };
        format!("{scope}: {state}{already}")
    });
    Ok(Exit::Ok)
}
