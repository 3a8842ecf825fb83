//! What really happens to the rooms of a site, step by step. Knows nothing of polls but that a list
//! can be asked for.

use std::collections::BTreeMap;
use std::rc::Rc;

/// 2026-03-01T00:00:00Z.
const DAY: i64 = 1_772_323_200;

/// What a bot can be told of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) name: String,
    pub(crate) kind: i64,
    pub(crate) status: i64,
    pub(crate) public: bool,
    pub(crate) admin: u64,
    pub(crate) updated: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// In the list.
    There,
    /// In the list, with a `deleted_at`.
    Marked,
    /// Not in the list any more.
    Away,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) view: View,
    /// A field that no event is about.
    pub(crate) extra: u64,
    pub(crate) state: State,
}

/// The rooms, and the clock of the server.
#[derive(Debug, Clone, Default)]
pub(crate) struct Truth {
    pub(crate) rooms: BTreeMap<u64, Rc<Room>>,
    clock: i64,
    /// `updated_at` moves with nothing.
    pub(crate) frozen: bool,
}

/// What can happen. Numbers of rooms are absolute, so that a history still makes sense when steps are
/// taken out of it: what is about a room that is not there does nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Change {
    /// So many rooms open, from this number on; those that were deleted open again.
    Open(u64, u64),
    Rename(u64, u64),
    RenameMany(u64, u64),
    Kind(u64, i64),
    Status(u64, i64),
    Visibility(u64),
    Admin(u64, u64),
    Touch(u64),
    Extra(u64),
    /// So many rooms get a `deleted_at`, from this number on.
    Mark(u64, u64),
    /// So many rooms leave the list, from this number on.
    Leave(u64, u64),
    /// From here on `updated_at` stands still.
    Freeze,
}

impl Truth {
    pub(crate) fn apply(&mut self, change: Change) {
        self.clock += 1;
        match change {
            Change::Open(first, count) => (first..first + count).for_each(|id| self.open(id)),
            Change::Rename(id, n) => self.edit(id, |room| room.view.name = name(n)),
            Change::RenameMany(first, count) => {
                for id in first..first + count {
                    self.edit(id, |room| room.view.name.push('+'));
                }
            }
            Change::Kind(id, kind) => self.edit(id, |room| room.view.kind = kind),
            Change::Status(id, status) => self.edit(id, |room| room.view.status = status),
            Change::Visibility(id) => self.edit(id, |room| room.view.public ^= true),
            Change::Admin(id, admin) => self.edit(id, |room| room.view.admin = admin),
            Change::Touch(id) => self.edit(id, |_| {}),
            Change::Extra(id) => {
                if let Some(room) = self.rooms.get_mut(&id) {
                    Rc::make_mut(room).extra += 1;
                }
            }
            Change::Mark(first, count) => self.end(first, count, State::Marked),
            Change::Leave(first, count) => self.end(first, count, State::Away),
            Change::Freeze => self.frozen = true,
        }
    }

    fn open(&mut self, id: u64) {
        let updated = DAY + self.clock;
        let view =
            || View { name: name(id), kind: 1, status: 0, public: false, admin: 2046, updated };
        let new = || Rc::new(Room { view: view(), extra: 0, state: State::Away });
        let known = Rc::make_mut(self.rooms.entry(id).or_insert_with(new));
        if known.state != State::There {
            known.state = State::There;
            known.view.updated = if self.frozen { known.view.updated } else { updated };
        }
    }

    fn edit(&mut self, id: u64, edit: impl FnOnce(&mut Room)) {
        let (updated, frozen) = (DAY + self.clock, self.frozen);
        let Some(room) = self.rooms.get_mut(&id).filter(|room| room.state == State::There) else {
            return;
        };
        let room = Rc::make_mut(room);
        edit(room);
        if !frozen {
            room.view.updated = updated;
        }
    }

    fn end(&mut self, first: u64, count: u64, state: State) {
        for (_, room) in self.rooms.range_mut(first..first + count) {
            if room.state == State::There {
                Rc::make_mut(room).state = state;
            }
        }
    }

    /// The rooms that are there.
    pub(crate) fn there(&self) -> impl Iterator<Item = (u64, &View)> {
        let there = self.rooms.iter().filter(|(_, room)| room.state == State::There);
        there.map(|(id, room)| (*id, &room.view))
    }
}

/// Names with the characters that lists are cut at.
fn name(n: u64) -> String {
    match n % 5 {
        0 => format!("room {n}"),
        1 => format!("\"}},{{\"id\":{n}"),
        2 => format!("комната \\ {n} 😀"),
        3 => format!("]}} {n} [\u{202e}"),
        _ => format!("<b>{n}</b>\n"),
    }
}
