//! Why a message is where it is, or why there is none: the records of the store, put into the order
//! in which things were decided, each with a reason out of a closed list. Reads nothing itself and
//! decides nothing: what is not in the records is not told.

mod delivery;
mod occurrence;
mod reason;
mod schedule;
#[cfg(test)]
mod tests;

use std::time::Duration;

use imbabot_bot::schedule::Zone;
use imbabot_bot::units::format_duration;
use imbabot_core::Timestamp;
use serde::Serialize;

pub(crate) use delivery::{delivery, present};
pub(crate) use occurrence::{Calendar, occurrence};
pub(crate) use reason::Reason;
pub(crate) use schedule::{Rooms, Standing, schedule};

/// A step on the way to a message, or to its absence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Decision {
    /// When.
    pub(crate) at: Timestamp,
    /// Out of the closed list in docs/errors.md.
    pub(crate) reason: Reason,
    /// A sentence.
    pub(crate) text: String,
    /// The line of the ledger that says so; none for what lies between two lines.
    pub(crate) seq: Option<i64>,
}

impl Decision {
    fn new(at: Timestamp, reason: impl Into<Reason>, text: impl Into<String>) -> Self {
        Self { at, reason: reason.into(), text: text.into(), seq: None }
    }

    fn by(self, seq: i64) -> Self {
        Self { seq: Some(seq), ..self }
    }
}

/// An instant where people live, if it is known where that is.
fn local(at: Timestamp, zone: Option<&Zone>) -> String {
    zone.map_or_else(|| at.compact(), |zone| zone.show(at))
}

/// Why no daemon was there.
fn away(killed: bool) -> &'static str {
    if killed { "the daemon had been killed" } else { "no daemon ran" }
}

/// A length of time as a person says it.
fn length(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis < 1_000 {
        return format!("{millis}ms");
    }
    if millis < 10_000 && millis % 1_000 >= 100 {
        return format!("{}.{}s", millis / 1_000, millis % 1_000 / 100);
    }
    format_duration(Duration::from_secs(duration.as_secs()))
}
