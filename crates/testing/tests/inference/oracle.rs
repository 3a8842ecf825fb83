//! What has to be told of the lists that were served: the rules of the page of semantics, written
//! down once more in the slowest way there is, over rooms and not over bytes. Shares no code with the
//! product.

use std::collections::{BTreeMap, BTreeSet};

use super::served::Row;
use super::truth::{State, View};

/// Lists in a row without a room before it counts as gone.
pub(crate) const GONE_AFTER: u32 = 3;
/// So many at once, and more than half of the list, are not believed …
pub(crate) const MASS: usize = 20;
/// … before so many lists in a row have said so.
pub(crate) const AGREEING: u32 = 10;
/// Good lists after which everything that lasts has been told, whatever came before: a room that is
/// missing may have been counted down to the last list when what is left is seen to be a mass.
pub(crate) const BOUND: u32 = GONE_AFTER - 1 + AGREEING;

/// What a bot is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) room: u64,
    pub(crate) change: String,
    pub(crate) before: Option<View>,
    pub(crate) after: View,
}

#[derive(Debug, Clone)]
enum Known {
    There(View),
    Gone,
}

/// What is expected of a poll.
pub(crate) enum Expected {
    /// No events, and nothing learnt.
    Nothing,
    /// These events, and then this is known.
    Events(Vec<Told>),
}

#[derive(Default)]
pub(crate) struct Oracle {
    has_baseline: bool,
    known: BTreeMap<u64, Known>,
    /// Believed lists in a row without a room that is known to be there: all of them, and those of which
    /// every row shows whose it is.
    absent: BTreeMap<u64, [u32; 2]>,
    /// How many lists in a row claimed what is not believed yet: that a room is there, or is not.
    claimed: BTreeMap<u64, [u32; 2]>,
}

/// What a list says of a room.
enum Said {
    There(View),
    Marked,
    /// Something that cannot be read.
    Something,
}

impl Oracle {
    pub(crate) fn listed(&self) -> BTreeSet<u64> {
        let there = self.known.iter().filter(|(_, known)| matches!(known, Known::There(_)));
        there.map(|(id, _)| *id).collect()
    }

    /// What a poll has to tell that got these rows.
    pub(crate) fn poll(&mut self, rows: &[Row]) -> Expected {
        let said = what_is_said(rows);
        let is_sure = is_sure(rows);
        let listed = self.listed();
        let there = |id: &u64| matches!(said.get(id), Some(Said::There(_)));
        let appeared: BTreeSet<u64> =
            said.keys().filter(|id| there(id) && !listed.contains(id)).copied().collect();
        let missing: BTreeSet<u64> =
            listed.iter().filter(|id| !said.contains_key(id)).copied().collect();
        // A row that says that a room is deleted does not show it to be there.
        self.absent.retain(|id, _| matches!(said.get(id), None | Some(Said::Marked)));
        let is_mass = |count: usize| count >= MASS && count * 2 > listed.len();
        if is_mass(appeared.len()) || is_mass(missing.len()) {
            let before = std::mem::take(&mut self.claimed);
            let claims = appeared.union(&missing);
            let one_more = |id: &u64| {
                let [all, sure] = before.get(id).copied().unwrap_or_default();
                [all + 1, sure + is_sure]
            };
            self.claimed = claims.map(|id| (*id, one_more(id))).collect();
            let fresh =
                |of: &BTreeSet<u64>| of.iter().filter(|id| self.claimed[id][0] < AGREEING).count();
            if is_mass(fresh(&appeared)) || is_mass(fresh(&missing)) {
                return Expected::Nothing;
            }
        } else {
            self.claimed.clear();
        }
        let mut events = Vec::new();
        for id in appeared {
            let Some(Said::There(view)) = said.get(&id) else { unreachable!() };
            let change = if self.known.contains_key(&id) { "returned" } else { "opened" };
            events.push(Told {
                room: id,
                change: change.into(),
                before: None,
                after: view.clone(),
            });
        }
        for id in &listed {
            let Some(Known::There(before)) = self.known.get(id) else { unreachable!() };
            match said.get(id) {
                Some(Said::There(after)) => {
                    events.extend(differences(*id, before, after));
                }
                Some(Said::Something) => {}
                Some(Said::Marked) => events.push(gone(*id, before)),
                None => {
                    let claimed = self.claimed.get(id).copied().unwrap_or_default();
                    let [all, sure] = self.absent.get(id).copied().unwrap_or_default();
                    let [all, sure] = [(all + 1).max(claimed[0]), (sure + is_sure).max(claimed[1])];
                    self.absent.insert(*id, [all, sure]);
                    if sure >= GONE_AFTER || all >= AGREEING {
                        events.push(gone(*id, before));
                    }
                }
            }
        }
        self.claimed.clear();
        Expected::Events(events)
    }

    /// The whole of the first list is known now. What an earlier beginning of it showed was known
    /// already, and is missing now if it is not in it.
    pub(crate) fn first(&mut self, rows: &[Row]) {
        self.has_baseline = true;
        let said = what_is_said(rows);
        for id in self.listed() {
            if matches!(said.get(&id), None | Some(Said::Marked)) {
                self.absent.insert(id, [1, is_sure(rows)]);
            }
        }
        self.know(&said, |_| true);
    }

    /// Of the first list only these rooms were committed: the daemon was killed. Which they are is the
    /// daemon's to say: those that it knew already cost it nothing.
    pub(crate) fn part_of_first(&mut self, rows: &[Row], rooms: &[u64]) {
        self.know(&what_is_said(rows), |id| rooms.contains(id));
    }

    fn know(&mut self, said: &BTreeMap<u64, Said>, is_known: impl Fn(&u64) -> bool) {
        for (id, said) in said.iter().filter(|(id, _)| is_known(id)) {
            if let Said::There(view) = said {
                self.known.insert(*id, Known::There(view.clone()));
            }
        }
    }

    pub(crate) fn has_baseline(&self) -> bool {
        self.has_baseline
    }

    /// These events were told, and so is what they tell known.
    pub(crate) fn learn(&mut self, told: &[Told]) {
        for event in told {
            let known = if event.change == "gone" {
                self.absent.remove(&event.room);
                Known::Gone
            } else {
                Known::There(event.after.clone())
            };
            self.known.insert(event.room, known);
        }
    }

    /// What is only in the head of the daemon is forgotten.
    pub(crate) fn restart(&mut self) {
        self.absent.clear();
        self.claimed.clear();
    }

    /// What is known to be there.
    pub(crate) fn there(&self) -> impl Iterator<Item = (u64, &View)> {
        self.known.iter().filter_map(|(id, known)| match known {
            Known::There(view) => Some((*id, view)),
            Known::Gone => None,
        })
    }
}

/// 1 if every row shows whose it is: only then is it sure whose is missing.
fn is_sure(rows: &[Row]) -> u32 {
    u32::from(!rows.iter().any(|row| matches!(row, Row::Bad(None))))
}

/// The last row of each room.
fn what_is_said(rows: &[Row]) -> BTreeMap<u64, Said> {
    let mut said = BTreeMap::new();
    for row in rows {
        match row {
            Row::Read(id, room) if room.state == State::Marked => {
                said.insert(*id, Said::Marked);
            }
            Row::Read(id, room) => {
                said.insert(*id, Said::There(room.view.clone()));
            }
            Row::Bad(Some(id)) => {
                said.insert(*id, Said::Something);
            }
            Row::Bad(None) => {}
        }
    }
    said
}

fn gone(room: u64, before: &View) -> Told {
    let before = before.clone();
    Told { room, change: "gone".into(), before: Some(before.clone()), after: before }
}

fn differences(room: u64, before: &View, after: &View) -> Vec<Told> {
    let mut found = Vec::new();
    if before.name != after.name {
        found.push("renamed");
    }
    if before.kind != after.kind {
        found.push("kind_changed");
    }
    if before.status != after.status {
        found.push("status_changed");
    }
    if before.public != after.public {
        found.push("visibility_changed");
    }
    if before.admin != after.admin {
        found.push("admin_changed");
    }
    if found.is_empty() && before.updated != after.updated {
        found.push("touched");
    }
    let told = found.into_iter().map(|change| Told {
        room,
        change: change.into(),
        before: Some(before.clone()),
        after: after.clone(),
    });
    told.collect()
}
