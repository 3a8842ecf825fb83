//! `[limits]`: protects people from bots.

use super::keys::{Key, Shape};
use super::value::Table;
use super::walk::Walk;
use imbabot_scheduler::Rate;

/// `[limits]`. Announcements and `send` are never held back by these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Messages that a bot may send for one event.
    pub per_event: u32,
    /// Messages of one bot.
    pub per_bot: Rate,
    /// Messages of one bot in one room.
    pub per_bot_and_room: Rate,
}

pub(crate) static KEYS: &[Key] = &[
    Key::new("per_event", Shape::Count(1, 1_000_000), "messages that a bot may send for one event")
        .or("5"),
    Key::new("per_bot", Shape::Rate, "messages of one bot").or("600/h"),
    Key::new("per_bot_and_room", Shape::Rate, "messages of one bot in one room").or("6/10m"),
];

pub(crate) fn read(walk: &mut Walk<'_>, root: &Table) -> Limits {
    let part = walk.section(root, "limits");
    Limits {
        per_event: walk.get(&part, "per_event"),
        per_bot: walk.get(&part, "per_bot"),
        per_bot_and_room: walk.get(&part, "per_bot_and_room"),
    }
}
