//! What the tests of a whole store begin with: its rules, its clock, a message and a widget.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::time::Duration;

use imbabot_bot::Policy;
use imbabot_core::{RoomId, Timestamp};
use imbabot_store::{Born, NewDelivery, Settle, WidgetClaim};

pub(crate) const RULES: Settle = Settle {
    wait: Duration::from_secs(10),
    max_resends: 1,
    unresolved_after: Duration::from_secs(1_000),
};

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_seconds(1_772_323_200 + second)
}

/// A message into a room, to be sent once and soon.
pub(crate) fn message(key: &str, room: u64) -> NewDelivery {
    NewDelivery {
        key: key.into(),
        widget: "w".parse().unwrap(),
        room: RoomId(room),
        sender: 7.into(),
        bot: None,
        event: None,
        occurrence: None,
        schedule: None,
        policy: Policy::AtMostOnce,
        text: "x".into(),
        not_before: None,
        expires_at: at(3_600),
        born: Born::Queued,
        detail: None,
        report: false,
    }
}

/// Its widget, which may send as much as it likes.
pub(crate) fn widget() -> WidgetClaim {
    WidgetClaim {
        widget: "w".parse().unwrap(),
        slots: 10,
        interval: Duration::from_millis(1),
        room_interval: Duration::from_millis(1),
    }
}
