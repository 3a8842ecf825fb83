//! Instants and lengths of time as a person wants to read them in a status, the same on a terminal and
//! on the page.

use std::time::Duration;

use imbabot_bot::units::format_duration;
use imbabot_core::Timestamp;

/// An instant to the second.
pub(crate) fn when(at: Timestamp) -> String {
    Timestamp::from_seconds(at.as_seconds()).compact()
}

/// Since when, and how long that is.
pub(crate) fn since(now: Timestamp, at: Timestamp) -> String {
    format!("since {} ({})", when(at), short(now.since(at)))
}

/// How long ago, and when.
pub(crate) fn ago(now: Timestamp, at: Timestamp) -> String {
    format!("{} ago, at {}", short(now.since(at)), when(at))
}

/// A length of time as exactly as anybody wants to know it.
pub(crate) fn short(length: Duration) -> String {
    let seconds = length.as_secs();
    let unit = match seconds {
        0 if !length.is_zero() => return "less than 1s".into(),
        0..3_600 => 1,
        3_600..172_800 => 60,
        _ => 3_600,
    };
    format_duration(Duration::from_secs(seconds / unit * unit))
}

/// As the beginning of a sentence.
pub(crate) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => String::new(),
    }
}
