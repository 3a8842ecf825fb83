//! `pause` and `resume`: a row in the store, obeyed within a second.

use imbabot_store::PauseScope;
use serde_json::json;

use super::args::Scope;
use super::{Command, Result, clock};
use crate::exit::{Exit, Failure};
use crate::stores;

pub(crate) async fn pause(command: &Command, scope: Scope, paused: bool) -> Result {
    let loaded = command.loaded_for_store()?;
    let (scope, configured) = match (scope.widget, scope.bot) {
        (Some(name), _) => {
            let known = loaded.config.widget(&name).is_some();
            (PauseScope::Widget(name), known)
        }
        (None, Some(name)) => {
            let known = loaded.config.bots.iter().any(|bot| bot.name == name);
            (PauseScope::Bot(name), known)
        }
        (None, None) => (PauseScope::All, true),
    };
    let unknown = || Failure::bad_input(format!("{scope} is not in the configuration"));
    if paused && !configured {
        return Err(unknown());
    }
    let store = if paused {
        // The emergency stop has to work before the first run too: that run obeys it.
        stores::visit_or_make(&loaded.config).await?
    } else {
        stores::visit(&loaded.config).await?
    };
    let now = stores::now(&*store, &*clock()).await?;
    let changed = store.pause(now, &scope, paused).await?;
    // What was paused when it was configured can be resumed when it no longer is.
    if !configured && !changed {
        return Err(unknown());
    }
    let state = if paused { "paused" } else { "running" };
    let value = json!({"scope": scope.to_string(), "state": state, "changed": changed});
    command.output.data(&value, || {
        let already = if changed { "" } else { " already" };
        format!("{scope}: {state}{already}")
    });
    Ok(Exit::Ok)
}
