//! `status`: how the daemon is, by what it last wrote of itself into the store, beside it or after its
//! end. Whether one runs is known from its lock or its lease, not from what it wrote. Asks no network, changes nothing.

mod tell;

use std::time::Duration;

use imbabot_core::Timestamp;
use imbabot_store::SignOfLife;
use serde_json::{Value, json};

use super::{Command, Result, clock};
use crate::exit::{Exit, Failure};
use crate::status::seen::Seen;
use crate::status::work::Work;
use crate::stores::{self, Daemons};

/// A daemon gives a sign of life every ten seconds; one that has given none for so long hangs.
const SILENT: Duration = Duration::from_secs(30);

pub(crate) async fn status(command: &Command) -> Result {
    let loaded = command.loaded_for_store()?;
    let config = &loaded.config;
    let place = &config.store.place;
    let nobody = |message: String| {
        Failure::new(Exit::Unavailable, "IMB-X-NO-DAEMON", message).hint(
            "`imbabot run` starts one; the configuration says in `[store]` where its store is",
        )
    };
    let (store, daemons) = match stores::look_if_there(config).await? {
        (Some(store), daemons) => (store, daemons),
        (None, daemons) if daemons.is_anybody() => (stores::visit(config).await?, daemons),
        (None, _) => {
            return Err(nobody(format!("no daemon runs, and there is no store yet: {place}")));
        }
    };
    let sign = store.last_sign().await?;
    if !daemons.is_anybody() && sign.is_none() {
        return Err(nobody(format!("no daemon has run on the store {place} yet")));
    }
    let now = stores::now(&*store, &*clock()).await?;
    let mut report = Report::of(&daemons, sign, now)?;
    let bots: Vec<_> = config.bots.iter().map(|bot| bot.name.clone()).collect();
    let running = report.is_running();
    if !running {
        report.refused = store.in_use().await.err();
    }
    let aside = |bot: &str| running && report.seen.set_aside.contains_key(bot);
    report.add(Work::read(&*store, &bots, aside, now, running).await?)?;
    command.output.data(&report.value(), || tell::report(&report));
    Ok(if report.is_healthy() { Exit::Ok } else { Exit::Unavailable })
}

/// How a daemon stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// It runs and says so.
    Running(Who),
    /// It has the store, and has not said anything yet: since when.
    Starting(Who, Option<Timestamp>),
    /// It has the store and says nothing any more.
    Silent(Who),
    /// It ended by itself.
    Stopped,
    /// It is not there, and has not said goodbye.
    Gone,
}

/// Who has a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    /// A process of this host; 0 if its number is not known.
    Process(u32),
    /// So many instances, on whatever hosts.
    Instances(usize),
}

/// What there is to tell.
struct Report {
    life: Life,
    now: Timestamp,
    /// When what follows was written.
    seen_at: Option<Timestamp>,
    seen: Seen,
    /// Why no daemon would start on this store.
    refused: Option<imbabot_store::Error>,
    /// The same as it was written.
    written: Value,
}

fn unreadable(error: &serde_json::Error) -> Failure {
    let message = format!("the status in the store cannot be read: {error}");
    Failure::new(Exit::Store, "IMB-S-UNDECODABLE", message)
}

impl Report {
    fn of(daemons: &Daemons, sign: Option<SignOfLife>, now: Timestamp) -> Result<Self> {
        let written: Value = match &sign {
            Some(sign) => serde_json::from_str(&sign.status).map_err(|error| unreadable(&error))?,
            None => json!({}),
        };
        let seen: Seen =
            serde_json::from_value(written.clone()).map_err(|error| unreadable(&error))?;
        let life = match (who(daemons), &sign) {
            (Some((who, since)), Some(sign)) if is_of(sign, &seen, who, since) => {
                if now.since(sign.at) > SILENT { Life::Silent(who) } else { Life::Running(who) }
            }
            (Some((who, since)), _) => Life::Starting(who, since),
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
        let (running, silent, who) = match self.life {
            Life::Running(who) | Life::Starting(who, _) => (true, false, Some(who)),
            Life::Silent(who) => (true, true, Some(who)),
            Life::Stopped | Life::Gone => (false, false, None),
        };
        let pid = match who {
            Some(Who::Process(pid)) if pid != 0 => Some(pid),
            _ => None,
        };
        // What an earlier run said is no news of one that has said nothing.
        value["ready"] = self.is_healthy().into();
        value["running"] = running.into();
        value["silent"] = silent.into();
        value["pid"] = pid.into();
        value["seen_at"] = json!(self.seen_at);
        value["stopped"] = (self.life == Life::Stopped).into();
        value
    }
}

/// Who has the store, and since when.
fn who(daemons: &Daemons) -> Option<(Who, Option<Timestamp>)> {
    match daemons {
        Daemons::OfFile(holder) => holder.map(|holder| (Who::Process(holder.pid), holder.since)),
        Daemons::OfServer(..) => {
            let first = daemons.alive().map(|instance| instance.started_at).min()?;
            Some((Who::Instances(daemons.alive().count()), Some(first)))
        }
    }
}

/// Whether a sign is of a daemon that has the role, and not of a run before it.
fn is_of(sign: &SignOfLife, seen: &Seen, who: Who, since: Option<Timestamp>) -> bool {
    let after = |at: Option<Timestamp>| since.is_none_or(|since| at.is_none_or(|at| at >= since));
    match who {
        // The clock may have been set meanwhile; when it began it knows by the same clock.
        Who::Process(_) => !sign.stopped && after(seen.started_at),
        Who::Instances(_) => !sign.stopped && after(Some(sign.at)),
    }
}

#[cfg(test)]
mod tests;
