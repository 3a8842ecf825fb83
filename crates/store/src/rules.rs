//! What every backend goes by where it decides about a message or an event: bounds, names and verdicts in
//! which there is no database. Two backends must not differ here. Reads and writes nothing.

use std::time::Duration;

use imbabot_bot::Policy;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::error::{Error, ErrorKind, Result};
use crate::operations::RetryVerdict;
use crate::outbox::{Class, DeliveryState, Next};

/// ImbaChat's clock counts whole seconds and a row is written a little after its message: within
/// this many microseconds of a message of ours, a touched room was touched by it.
pub(crate) const OWN: i64 = 2_000_000;
/// While an attempt is on its way in a room, nobody can say who touched it; ask again after this.
pub(crate) const WAIT: Duration = Duration::from_millis(500);
/// No entry of the inbox waits as long as this: a retry is ten seconds away at most.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// An answer that names a message which another delivery became is not for us, if that was so
/// recently; later the server may really have started to count anew.
pub(crate) const FOREIGN_UUID_WINDOW: Duration = Duration::from_secs(600);
/// The longest `Retry-After` that is honoured is an hour.
pub(crate) const LONGEST_SILENCE: Duration = Duration::from_secs(3_660);
/// A shorter wait of an attempt is nobody's question.
pub(crate) const SHORTEST_HOLD: Duration = Duration::from_millis(100);
/// So exactly it is noted how late it has been: a busy store does not write it with every message.
pub(crate) const HINDSIGHT: Duration = Duration::from_millis(500);
/// What an operator has sent again keeps for so long at least, in microseconds.
pub(crate) const RETRY_KEEPS: i64 = 60_000_000;

/// The row of a widget's rate.
pub(crate) fn widget_key(widget: &str) -> String {
    format!("widget/{widget}")
}

/// The row that has until when a widget's server asked for silence.
pub(crate) fn silence_key(widget: &str) -> String {
    format!("hold/{widget}")
}

/// The row that has the latest clock that judged a widget's lanes.
pub(crate) fn clock_key(widget: &str) -> String {
    format!("clock/{widget}")
}

/// Whether what an attempt meant and what is to follow it go together.
pub(crate) fn agrees(class: Class, next: &Next) -> bool {
    match next {
        Next::Delivered { .. } => class == Class::Delivered,
        Next::Retry { .. } | Next::Dead(_) => matches!(class, Class::NotSent | Class::Rejected),
        Next::Unknown => class == Class::Ambiguous,
    }
}

/// Why an operator's retry is not done, if it is not. `unsure`: another request may double it.
pub(crate) fn no_retry(
    state: DeliveryState,
    unsure: bool,
    has_text: bool,
    accept_duplicate: bool,
) -> Option<RetryVerdict> {
    match state {
        DeliveryState::Dead | DeliveryState::Unknown if !has_text => {
            Some(RetryVerdict::NotNow(state))
        }
        DeliveryState::Dead | DeliveryState::Unknown => {
            (unsure && !accept_duplicate).then_some(RetryVerdict::NeedsAcceptance)
        }
        other => Some(RetryVerdict::NotNow(other)),
    }
}

/// The word for a policy.
pub(crate) fn policy(policy: Policy) -> &'static str {
    match policy {
        Policy::AtLeastOnce => "at_least_once",
        _ => "at_most_once",
    }
}

/// The hash of a text, which stays where the text does not.
pub(crate) fn sha256(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A length of time as it is stored.
pub(crate) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

pub(crate) fn unreadable(what: &str) -> Error {
    let shown: String = what.chars().take(80).collect();
    Error::new(ErrorKind::Undecodable, format!("a record of the store cannot be read: {shown:?}"))
}

pub(crate) fn from_json<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| unreadable(&e.to_string()))
}

pub(crate) fn to_json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| unreadable(&e.to_string()))
}
