//! `status`: how the daemon is, by what it last wrote of itself into the store, beside it or after its
//! end. Whether one runs is known from its lock, not from what it wrote. Asks no network, changes nothing.

mod tell;

use std::time::Duration;

use imbabot_core::Timestamp;
use imbabot_store::{Holder, Operations, SignOfLife, SqliteStore};
use serde_json::{Value, json};

use super::{Command, Result, clock, visit};
use crate::exit::{Exit, Failure};
use crate::status::seen::Seen;
use crate::status::work::Work;

/// A daemon gives a sign of life every ten seconds; one that has given none for so long hangs.
const SILENT: Duration = Duration::from_secs(30);

pub(crate) async fn status(command: &Command) -> Result {
    let loaded = command.loaded_for_store()?;
    let path = &loaded.config.store.path;
    let nobody = |message: String| {
        Failure::new(Exit::Unavailable, "IMB-X-NO-DAEMON", message).hint(
            "`imbabot run` starts one; the configuration says in `[store] path` where its store is",
        )
    };
    if !path.exists() && SqliteStore::daemon(path).is_none() {
        return Err(nobody(format!("no daemon runs, and there is no store at {}", path.display())));
    }
    // The lock is looked at before what was written: a daemon that ends between the two has signed.
    let holder = SqliteStore::daemon(path);
    let store = visit(&loaded.config)?;
    let sign = store.last_sign().await?;
    if holder.is_none() && sign.is_none() {
        return Err(nobody(format!("no daemon has run on the store {} yet", path.display())));
    }
    let now = clock().now();
    let mut report = Report::of(holder, sign, now)?;
    let bots: Vec<_> = loaded.config.bots.iter().map(|bot| bot.name.clone()).collect();
    let running = report.is_running();
    if !running && let Err(error) = store.in_use().await {
        report.refused = Some(error.to_string());
    }
    let aside = |bot: &str| running && report.seen.set_aside.contains_key(bot);
    report.add(Work::read(&store, &bots, aside, now, running).await?)?;
    command.output.data(&report.value(), || tell::report(&report));
    Ok(if report.is_healthy() { Exit::Ok } else { Exit::Unavailable })
}

/// How a daemon stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// It runs and says so.
    Running(u32),
    /// It has the store, and has not said anything yet: since when.
    Starting(u32, Option<Timestamp>),
    /// It has the store and says nothing any more.
    Silent(u32),
    /// It ended by itself.
    Stopped,
    /// It is not there, and has not said goodbye.
    Gone,
}

/// What there is to tell.
struct Report {
    life: Life,
    now: Timestamp,
    /// When what follows was written.
    seen_at: Option<Timestamp>,
    seen: Seen,
    /// Why no daemon would start on this store.
    refused: Option<String>,
    /// The same as it was written.
    written: Value,
}

fn unreadable(error: &serde_json::Error) -> Failure {
    let message = format!("the status in the store cannot be read: {error}");
    Failure::new(Exit::Store, "IMB-S-UNDECODABLE", message)
}

impl Report {
    fn of(holder: Option<Holder>, sign: Option<SignOfLife>, now: Timestamp) -> Result<Self> {
        let written: Value = match &sign {
            Some(sign) => serde_json::from_str(&sign.status).map_err(|error| unreadable(&error))?,
            None => json!({}),
        };
        let seen: Seen =
            serde_json::from_value(written.clone()).map_err(|error| unreadable(&error))?;
        let life = match (holder, &sign) {
            (Some(holder), Some(sign)) if is_of(sign, &seen, holder) => {
                if now.since(sign.at) > SILENT {
                    Life::Silent(holder.pid)
                } else {
                    Life::Running(holder.pid)
                }
            }
            (Some(holder), _) => Life::Starting(holder.pid, holder.since),
            (None, Some(sign)) if sign.stopped => Life::Stopped,
            (None, _) => Life::Gone,
        };
        Ok(Self { life, now, seen_at: sign.map(|sign| sign.at), seen, refused: None, written })
    }

    /// How the work stands now, by the store.
    fn add(&mut self, work: Work) -> Result<()> {
        let value = serde_json::to_value(&work).map_err(|error| unreadable(&error))?;
        if let (Value::Object(written), Value::Object(more)) = (&mut self.written, value) {
            written.extend(more);
        }
        self.seen.work = work;
        Ok(())
    }

    fn is_running(&self) -> bool {
        !matches!(self.life, Life::Stopped | Life::Gone)
    }

    fn is_healthy(&self) -> bool {
        matches!(self.life, Life::Running(_)) && self.seen.ready
    }

    /// As `/api/status`, and what only an onlooker can say.
    fn value(&self) -> Value {
        let mut value = self.written.clone();
        let (running, silent, pid) = match self.life {
            Life::Running(pid) | Life::Starting(pid, _) => (true, false, Some(pid)),
            Life::Silent(pid) => (true, true, Some(pid)),
            Life::Stopped | Life::Gone => (false, false, None),
        };
        // What an earlier run said is no news of one that has said nothing.
        value["ready"] = self.is_healthy().into();
        value["running"] = running.into();
        value["silent"] = silent.into();
        value["pid"] = pid.filter(|pid| *pid != 0).into();
        value["seen_at"] = json!(self.seen_at);
        value["stopped"] = (self.life == Life::Stopped).into();
        value
    }
}

/// Whether a sign is of the daemon that has the role, and not of a run before it.
fn is_of(sign: &SignOfLife, seen: &Seen, holder: Holder) -> bool {
    let begun = seen.started_at;
    !sign.stopped && holder.since.is_none_or(|since| begun.is_none_or(|begun| begun >= since))
}

#[cfg(test)]
mod tests;
