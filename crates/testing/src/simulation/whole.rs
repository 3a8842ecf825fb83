//! What the bots were told of rooms, against what the server has: at the end, after good lists, the
//! last word on each room is the truth, and each room opened once. And no change that a message of
//! theirs made is told to them as somebody's.

use std::collections::{BTreeMap, BTreeSet};

use imbabot_bot::{RoomChange, RoomEvent};
use imbabot_core::Timestamp;
use imbabot_simulator::Simulator;

/// What was told, and who did what.
#[derive(Default)]
pub(super) struct Whole {
    /// By room: what was told last, or nothing of one that is gone.
    known: BTreeMap<i64, Option<String>>,
    /// By room: when it was said to have opened.
    opened: BTreeMap<i64, BTreeSet<Timestamp>>,
    /// The server's seconds at which people moved a room.
    moved: BTreeSet<(i64, i64)>,
    /// Rooms that came when a list was known already.
    after_baseline: BTreeSet<i64>,
}

fn shape(name: &str, kind: i64, public: bool) -> String {
    format!("{name}|{kind}|{public}")
}

impl Whole {
    /// Somebody moved a room, at this second of the server's.
    pub(super) fn moved(&mut self, room: i64, second: i64) {
        self.moved.insert((room, second));
    }

    /// A room opened although a list was there already: the bots have to be told.
    pub(super) fn opened_after_baseline(&mut self, room: i64) {
        self.after_baseline.insert(room);
    }

    /// The recorder was told this. `ours`: at which seconds of the server's a confirmed message of
    /// ours was applied in a room.
    pub(super) fn hear(
        &mut self,
        event: &RoomEvent,
        ours: &BTreeSet<(i64, i64)>,
    ) -> Option<String> {
        let room = event.room.id.0.cast_signed();
        let told = (event.change != RoomChange::Gone)
            .then(|| shape(event.room.name.raw(), event.room.kind.number(), event.room.is_public));
        self.known.insert(room, told);
        if event.change == RoomChange::Opened {
            let opened = self.opened.entry(room).or_default();
            opened.insert(event.at);
            if opened.len() > 1 {
                return Some(format!("room {room} was said to open {} times", opened.len()));
            }
        }
        if event.change == RoomChange::Touched
            && let Some(second) = event.room.updated_at.map(Timestamp::as_seconds)
            && ours.contains(&(room, second))
            && !self.moved.contains(&(room, second))
        {
            return Some(format!(
                "the bots were told that somebody touched room {room} at {second}, and it was their \
                 own message"
            ));
        }
        None
    }

    /// After good lists: whether what was told last is what there is.
    pub(super) fn ends(&self, simulator: &Simulator) -> Option<String> {
        for room in simulator.rooms() {
            let there = room.deleted_at.is_none() && !room.vanished;
            let truth = there.then(|| shape(&room.name, room.kind, room.is_public));
            match self.known.get(&room.id) {
                Some(known) if *known != truth => {
                    let id = room.id;
                    return Some(format!("of room {id} the bots know {known:?}, it is {truth:?}"));
                }
                None if there && self.after_baseline.contains(&room.id) => {
                    return Some(format!("nobody was told of room {}", room.id));
                }
                _ => {}
            }
        }
        None
    }
}
