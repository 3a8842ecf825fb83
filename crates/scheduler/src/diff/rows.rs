//! The elements of a list as an index holds them: ids and marks, in the order of the list, so that
//! the next list can be read beside it from front to back. To find an id there is a second order,
//! unless the list ascends by itself, as most do.

use super::mark::DELETED;

/// Ids and marks.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// In the order of the list.
    entries: Vec<(u64, u64)>,
    /// Places in `entries`, ascending by id; empty where `entries` ascend.
    by_id: Vec<u32>,
}

/// Whether a row with this mark counts: it does not say that it was deleted.
pub(super) fn is_live(mark: u64) -> bool {
    mark & DELETED == 0
}

/// Places are kept in 32 bits: a list of four thousand million rooms is no list of a chat.
fn narrow(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

impl Rows {
    /// Rows that ascend, each id once.
    pub(super) fn ascending(entries: Vec<(u64, u64)>) -> Self {
        Self { entries, by_id: Vec::new() }
    }

    /// Rows in the order of a list. Of several with one id the last counts. Also: how many did not
    /// count.
    pub(super) fn listed(mut entries: Vec<(u64, u64)>) -> (Self, u64) {
        let mut replaced = 0;
        let mut by_id = sorted(&entries);
        if let Some(lost) = lost(&entries, &by_id) {
            let mut place = 0;
            entries.retain(|_| {
                place += 1;
                let is_lost = lost[place - 1];
                replaced += u64::from(is_lost);
                !is_lost
            });
            by_id = sorted(&entries);
        }
        (Self { entries, by_id }, replaced)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The row at a place of the list.
    pub(super) fn get(&self, place: usize) -> Option<(u64, u64)> {
        self.entries.get(place).copied()
    }

    /// Where an id stands in the list.
    pub(super) fn place_of(&self, id: u64) -> Option<usize> {
        if self.by_id.is_empty() {
            return self.entries.binary_search_by_key(&id, |(listed, _)| *listed).ok();
        }
        let id_at = |place: &u32| self.entries.get(*place as usize).map(|(listed, _)| *listed);
        let found = self.by_id.binary_search_by_key(&Some(id), id_at).ok()?;
        Some(self.by_id[found] as usize)
    }

    /// All rows, ascending by id.
    pub(super) fn by_id(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let ascending = self.by_id.is_empty();
        (0..self.entries.len()).map(move |n| {
            let place = if ascending { n } else { self.by_id[n] as usize };
            self.entries[place]
        })
    }

    /// The ids of rows that count, ascending.
    pub(super) fn live(&self) -> impl Iterator<Item = u64> + '_ {
        self.by_id().filter(|(_, mark)| is_live(*mark)).map(|(id, _)| id)
    }

    /// Gives a row another mark; the one it had.
    pub(super) fn set(&mut self, id: u64, mark: u64) -> Option<u64> {
        let place = self.place_of(id)?;
        let row = self.entries.get_mut(place)?;
        Some(std::mem::replace(&mut row.1, mark))
    }

    /// With these rows beside, which ascend, where their ids are not listed.
    pub(super) fn with(mut self, more: &[(u64, u64)]) -> Self {
        let new: Vec<_> =
            more.iter().filter(|(id, _)| self.place_of(*id).is_none()).copied().collect();
        if new.is_empty() {
            return self;
        }
        let mut read = self.entries.len();
        self.entries.extend_from_slice(&new);
        if self.by_id.is_empty() {
            // From the back, so that nothing is overwritten that is still to be moved.
            let mut write = self.entries.len();
            for row in new.iter().rev() {
                while read > 0 && self.entries[read - 1].0 > row.0 {
                    (read, write) = (read - 1, write - 1);
                    self.entries[write] = self.entries[read];
                }
                write -= 1;
                self.entries[write] = *row;
            }
        } else {
            self.by_id = sorted(&self.entries);
        }
        self
    }
}

/// The places of these rows, ascending by id and for one id by place; empty if the ids ascend.
fn sorted(entries: &[(u64, u64)]) -> Vec<u32> {
    if entries.is_sorted_by(|(a, _), (b, _)| a < b) {
        return Vec::new();
    }
    let mut by_id: Vec<u32> = (0..entries.len()).map(narrow).collect();
    by_id.sort_unstable_by_key(|place| (entries.get(*place as usize).map(|(id, _)| *id), *place));
    by_id
}

/// Which rows do not count because another one has their id; `None` if all count.
fn lost(entries: &[(u64, u64)], by_id: &[u32]) -> Option<Vec<bool>> {
    let row = |place: u32| entries.get(place as usize).copied().unwrap_or_default();
    if by_id.is_sorted_by(|a, b| row(*a).0 < row(*b).0) {
        return None;
    }
    let mut lost = vec![false; entries.len()];
    for same in by_id.chunk_by(|a, b| row(*a).0 == row(*b).0) {
        let winner = same.last();
        for place in same.iter().filter(|place| Some(*place) != winner) {
            lost[*place as usize] = true;
        }
    }
    Some(lost)
}

/// Which of these rows, in the order of a list, do not count because of others; `None` if all count.
pub(super) fn replaced(entries: &[(u64, u64)]) -> Option<Vec<bool>> {
    lost(entries, &sorted(entries))
}
