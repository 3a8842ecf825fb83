//! Instants on the command line: written out, or as a length of time ago.

use imbabot_bot::units::parse_duration;
use imbabot_core::Timestamp;
use imbabot_scheduler::{Clock, SystemClock};

/// `2026-03-30T07:00:00Z`, or `2h` for two hours ago.
pub(crate) fn parse_when(text: &str) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    match parse_duration(text) {
        Ok(ago) => Ok(SystemClock::new().now() - ago),
        Err(_) => Err(format!(
            "{text:?} is neither an instant (2026-03-30T07:00:00Z) nor a length of time ago (2h)"
        )),
    }
}

/// `2026-03-30T07:00:00Z`, or `2h` for in two hours.
pub(crate) fn parse_future(text: &str) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    match parse_duration(text) {
        Ok(ahead) => Ok(SystemClock::new().now() + ahead),
        Err(_) => Err(format!(
            "{text:?} is neither an instant (2026-03-30T07:00:00Z) nor a length of time from now (2h)"
        )),
    }
}
