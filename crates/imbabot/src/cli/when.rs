//! Instants on the command line: written out, or as a length of time from now.

use std::time::Duration;

use imbabot_bot::units::parse_duration;
use imbabot_core::Timestamp;
use imbabot_scheduler::{Clock, SystemClock};

/// `2026-03-30T07:00:00Z`, or `2h` for two hours ago.
pub(crate) fn parse_when(text: &str) -> Result<Timestamp, String> {
    parse(text, "ago", |now, ago| now - ago)
}

/// `2026-03-30T07:00:00Z`, or `2h` for in two hours.
pub(crate) fn parse_future(text: &str) -> Result<Timestamp, String> {
    parse(text, "from now", |now, ahead| now + ahead)
}

fn parse(
    text: &str,
    direction: &str,
    go: fn(Timestamp, Duration) -> Timestamp,
) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    match parse_duration(text) {
        Ok(length) => Ok(go(SystemClock::new().now(), length)),
        Err(_) => Err(format!(
            "{text:?} is neither an instant (2026-03-30T07:00:00Z) nor a length of time {direction} (2h)"
        )),
    }
}
