//! `[poll]`: how often the lists are fetched, and when they are believed.

use std::time::Duration;

use super::keys::{Key, LONG, SECOND, Shape};
use super::value::Table;
use super::walk::Walk;

/// `[poll]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Poll {
    /// From the end of one poll of the rooms to the start of the next.
    pub rooms: Duration,
    /// The same for users, who are polled only while some bot listens to them.
    pub users: Duration,
    /// How far apart polls of a list may come in which nothing changes for long.
    pub quiet_max: Duration,
    /// Good polls in a row without a room before it counts as gone.
    pub gone_after: u32,
    /// Whether the first good snapshot of a list raises no events.
    pub baseline: bool,
    /// How long a poll waits without a byte.
    pub timeout: Duration,
    /// How many bytes an answer may have after decompression.
    pub max_body: u64,
}

pub(crate) static KEYS: &[Key] = &[
    Key::new(
        "rooms",
        Shape::Duration(Duration::from_millis(100), LONG),
        "from the end of one poll to the start of the next; a poll never takes more than a tenth of the time",
    )
    .or("5s"),
    Key::new(
        "users",
        Shape::Duration(Duration::from_millis(100), LONG),
        "the same for users, who are polled only while some bot listens to them",
    )
    .or("60s"),
    Key::new(
        "quiet_max",
        Shape::Duration(Duration::ZERO, LONG),
        "how far apart the polls of a list may come in which nothing changes: a tenth of the time without a change; 0s: always as above",
    )
    .or("0s"),
    Key::new(
        "gone_after",
        Shape::Count(1, 1_000),
        "good polls in a row without a room before it counts as gone",
    )
    .or("3"),
    Key::new("baseline", Shape::Flag, "the first good snapshot of a widget's list raises no events")
        .or("true"),
    Key::new("timeout", Shape::Duration(SECOND, LONG), "how long a poll waits without a byte")
        .or("30s"),
    Key::new(
        "max_body",
        Shape::Size(1 << 10, 1 << 40),
        "how large an answer may be, after decompression",
    )
    .or("512MiB"),
];

pub(crate) fn read(walk: &mut Walk<'_>, root: &Table) -> Poll {
    let part = walk.section(root, "poll");
    Poll {
        rooms: walk.get(&part, "rooms"),
        users: walk.get(&part, "users"),
        quiet_max: walk.get(&part, "quiet_max"),
        gone_after: walk.get(&part, "gone_after"),
        baseline: walk.get(&part, "baseline"),
        timeout: walk.get(&part, "timeout"),
        max_body: walk.get(&part, "max_body"),
    }
}
