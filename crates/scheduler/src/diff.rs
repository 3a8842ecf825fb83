//! What changed between two lists, and whether to believe it. Pure: bytes and an index in, a
//! verdict out; no I/O, no clock.
//!
//! Elements are compared by a mark of their bytes, in the order in which the server listed them last
//! time. What the mark says of an element's length makes that cheap: where the next element is
//! expected, so many bytes are hashed, and if they are the same, nobody looks for their end. Only what
//! differs is decoded, and its bytes, not the element, are kept until the list is whole. An index
//! holds two words per element, never an element.

#[cfg(test)]
mod agreement;
mod mark;
mod observe;
mod rows;
mod spool;

use std::collections::{BTreeMap, HashMap};

use imbabot_bot::{RoomChange, UserChange};
use imbabot_core::{Room, User, WidgetId, decode_room, decode_user};

use mark::Marker;
use rows::{Rows, is_live};

pub use observe::{Decoded, Observation, Observed};
pub use spool::{InMemory, Spool};

/// An element of a list.
pub trait Item: Sized + Send + 'static {
    /// Decodes one.
    ///
    /// # Errors
    /// A sentence about what is wrong with it.
    fn decode(bytes: &[u8]) -> Result<Self, String>;
    /// Its id.
    fn id(&self) -> u64;
    /// Whether the row says that it was deleted.
    fn is_deleted(&self) -> bool;
    /// The widget it says it belongs to.
    fn widget(&self) -> Option<WidgetId>;
}

impl Item for Room {
    fn decode(bytes: &[u8]) -> Result<Self, String> {
        decode_room(bytes).map_err(|e| e.to_string())
    }
    fn id(&self) -> u64 {
        self.id.0
    }
    fn is_deleted(&self) -> bool {
        self.deleted_at.is_some()
    }
    fn widget(&self) -> Option<WidgetId> {
        self.widget
    }
}

impl Item for User {
    fn decode(bytes: &[u8]) -> Result<Self, String> {
        decode_user(bytes).map_err(|e| e.to_string())
    }
    fn id(&self) -> u64 {
        self.id.0
    }
    fn is_deleted(&self) -> bool {
        self.deleted_at.is_some()
    }
    fn widget(&self) -> Option<WidgetId> {
        self.widget
    }
}

/// When a list is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trust {
    /// Good lists in a row without an element before it counts as gone.
    pub gone_after: u32,
    /// A change of at least so many elements at once can be suspicious …
    pub mass: usize,
    /// … and is believed after so many lists that agree.
    pub agreeing: u32,
}

impl Trust {
    /// The rules of the daemon: 20 elements, and more than half of the list; ten lists.
    #[must_use]
    pub fn after(gone_after: u32) -> Self {
        Self { gone_after: gone_after.max(1), mass: 20, agreeing: 10 }
    }
}

/// What is known of a list.
#[derive(Debug, Default)]
pub struct Index {
    /// Whether a first list was believed.
    has_baseline: bool,
    /// The elements of the last list, and those that were not in it but are not gone yet.
    rows: Rows,
    /// How many of them count: the others say that they were deleted.
    live: usize,
    /// Ids that were listed once and are gone, ascending.
    gone: Vec<u64>,
    /// Listed ids that the last lists did not have.
    missing: BTreeMap<u64, Lists>,
    /// A mass change that is not believed yet.
    suspicion: Option<Suspicion>,
}

/// For how many lists in a row something was so.
#[derive(Debug, Clone, Copy, Default)]
struct Lists {
    all: u32,
    /// Without those in which some row did not even show whose it is: it may be anybody's.
    sure: u32,
}

impl Lists {
    fn and_another(self, is_sure: bool) -> Self {
        Self { all: self.all + 1, sure: self.sure + u32::from(is_sure) }
    }
}

/// Who appeared or is missing in a change that is too large to be believed, and for how many lists in
/// a row each of them did. An id is listed or it is not, so one map serves both.
#[derive(Debug, Default)]
struct Suspicion {
    claims: HashMap<u64, Lists>,
    /// Lists in a row that were held.
    said: u32,
}

impl Suspicion {
    /// Takes another list in. Who is not claimed by it was never claimed.
    fn hear<'a>(&mut self, claimed: impl Iterator<Item = &'a u64>, is_sure: bool) {
        let claims = claimed.map(|id| (*id, self.lists(*id).and_another(is_sure))).collect();
        self.claims = claims;
        self.said += 1;
    }

    /// How many lists in a row claimed this.
    fn lists(&self, id: u64) -> Lists {
        self.claims.get(&id).copied().unwrap_or_default()
    }
}

/// Two lists side by side. All ids ascend.
#[derive(Default)]
struct Compared {
    delta: Delta,
    /// Listed before and not now, or only as deleted.
    missing: Vec<u64>,
    /// Those of them that are listed as deleted.
    deleted: Vec<u64>,
}

/// What differs, by id, ascending.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delta {
    /// Not listed before.
    pub appeared: Vec<u64>,
    /// Gone before, listed again.
    pub returned: Vec<u64>,
    /// Listed with other bytes.
    pub changed: Vec<u64>,
    /// Missing for long enough, or marked as deleted.
    pub gone: Vec<u64>,
}

/// What became of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Not listed before.
    Appeared,
    /// Gone before, listed again.
    Returned,
    /// Listed with other bytes.
    Changed,
    /// Missing for long enough, or marked as deleted.
    Gone,
}

impl Delta {
    /// Everything that differs, ascending by id.
    pub fn fates(&self) -> impl Iterator<Item = (u64, Fate)> + '_ {
        let mut left = [
            (&self.appeared[..], Fate::Appeared),
            (&self.returned[..], Fate::Returned),
            (&self.changed[..], Fate::Changed),
            (&self.gone[..], Fate::Gone),
        ];
        std::iter::from_fn(move || {
            let next =
                left.iter_mut().filter(|(ids, _)| !ids.is_empty()).min_by_key(|(ids, _)| ids[0])?;
            let (id, rest) = next.0.split_first()?;
            next.0 = rest;
            Some((*id, next.1))
        })
    }
}

/// Whether a list is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The first list: everything is new, and nothing is an event.
    Baseline,
    /// Believed.
    Believed(Delta),
    /// Most of the list changed at once. It is held until enough lists say the same.
    Held {
        /// How many appeared.
        appeared: usize,
        /// How many are missing.
        missing: usize,
        /// How many lists in a row have said so.
        said: u32,
    },
}

impl Index {
    /// What the store remembers.
    #[must_use]
    pub fn restore(has_baseline: bool, mut listed: Vec<(u64, u64)>, mut gone: Vec<u64>) -> Self {
        listed.sort_unstable();
        gone.sort_unstable();
        let live = listed.len();
        Self { has_baseline, rows: Rows::ascending(listed), live, gone, ..Self::default() }
    }

    /// How many elements are listed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether nothing is listed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Whether a first list was believed.
    #[must_use]
    pub fn has_baseline(&self) -> bool {
        self.has_baseline
    }

    /// Begins to read a list; what differs is kept in memory.
    #[must_use]
    pub fn observe<T: Item>(&self, seed: u64) -> Observation<'_, T> {
        self.observe_with(seed, InMemory::default())
    }

    /// Begins to read a list; what differs is kept there.
    #[must_use]
    pub fn observe_with<T: Item, S: Spool>(&self, seed: u64, spool: S) -> Observation<'_, T, S> {
        Observation::new(&self.rows, self.live, Marker::new(seed), spool)
    }

    /// Judges a whole list. Counts what is missing; nothing else changes before
    /// [`Index::commit`].
    pub fn judge<T, S>(&mut self, observed: &Observed<T, S>, trust: Trust) -> Verdict {
        let is_sure = observed.strays == 0;
        if !self.has_baseline {
            // What an earlier first list showed, whose commit was cut short, is known and missing.
            let missing = self.compare(observed).missing;
            let once = Lists::default().and_another(is_sure);
            self.missing = missing.into_iter().map(|id| (id, once)).collect();
            return Verdict::Baseline;
        }
        let Compared { mut delta, missing, deleted } = self.compare(observed);
        // Whoever is in a list was not away, be the list believed or not.
        self.missing.retain(|id, _| missing.binary_search(id).is_ok());
        let appeared = || delta.appeared.iter().chain(&delta.returned);
        let vanished = || missing.iter().filter(|id| deleted.binary_search(id).is_err());
        // Only what is newly missing or new can be a mass: what was believed before is settled.
        let mass = |count: usize| count >= trust.mass && count * 2 > self.live;
        let mut suspicion = self.suspicion.take().unwrap_or_default();
        if mass(appeared().count()) || mass(vanished().count()) {
            suspicion.hear(appeared().chain(vanished()), is_sure);
            // What enough lists agree on is settled; the rest is judged as if it came alone.
            let is_fresh = |id: &&u64| suspicion.lists(**id).all < trust.agreeing;
            let is_mass = mass(appeared().filter(is_fresh).count())
                || mass(vanished().filter(is_fresh).count());
            if is_mass {
                let (appeared, missing) = (appeared().count(), vanished().count());
                let said = suspicion.said;
                self.suspicion = Some(suspicion);
                return Verdict::Held { appeared, missing, said };
            }
        } else {
            suspicion = Suspicion::default();
        }
        for id in missing {
            let claimed = suspicion.lists(id);
            let away = self.missing.entry(id).or_default();
            *away = away.and_another(is_sure);
            *away = Lists { all: away.all.max(claimed.all), sure: away.sure.max(claimed.sure) };
            let is_gone = away.sure >= trust.gone_after
                || away.all >= trust.gone_after.max(trust.agreeing)
                || claimed.all >= trust.agreeing;
            if is_gone || deleted.binary_search(&id).is_ok() {
                delta.gone.push(id);
            }
        }
        Verdict::Believed(delta)
    }

    fn compare<T, S>(&self, observed: &Observed<T, S>) -> Compared {
        let mut found = Compared::default();
        let Some(rows) = observed.rows() else {
            // The same ids in the same order: only what was kept can differ.
            for (id, new) in observed.decoded.marks() {
                let old = self.rows.place_of(id).and_then(|at| self.rows.get(at));
                self.note(&mut found, id, old.map(|(_, mark)| mark), Some(new));
            }
            return found;
        };
        let (mut old, mut new) = (self.rows.by_id().peekable(), rows.by_id().peekable());
        loop {
            let (id, before, after) = match (old.peek().copied(), new.peek().copied()) {
                (None, None) => return found,
                (Some((a, before)), Some((b, after))) if a == b => (a, Some(before), Some(after)),
                (Some((a, before)), other) if other.is_none_or(|(b, _)| a < b) => {
                    (a, Some(before), None)
                }
                (_, Some((b, after))) => (b, None, Some(after)),
                (Some((a, before)), None) => (a, Some(before), None),
            };
            if before.is_some() {
                old.next();
            }
            if after.is_some() {
                new.next();
            }
            self.note(&mut found, id, before, after);
        }
    }

    /// Notes what became of one id, by its marks before and now.
    fn note(&self, found: &mut Compared, id: u64, before: Option<u64>, after: Option<u64>) {
        match (before.is_some_and(is_live), after.is_some_and(is_live)) {
            (true, true) if before != after => found.delta.changed.push(id),
            (true, false) => {
                found.missing.push(id);
                if after.is_some() {
                    found.deleted.push(id);
                }
            }
            (false, true) if self.gone.binary_search(&id).is_ok() => found.delta.returned.push(id),
            (false, true) => found.delta.appeared.push(id),
            (true, true) | (false, false) => {}
        }
    }

    /// The list was committed: it is what the next one is compared with.
    pub fn commit<T, S>(&mut self, observed: Observed<T, S>, gone: &[u64]) {
        for id in gone {
            self.missing.remove(id);
        }
        self.gone.extend_from_slice(gone);
        self.gone.sort_unstable();
        self.gone.dedup();
        let is_same = observed.rows().is_none() && observed.decoded.marks().next().is_none();
        match observed.into_rows() {
            Ok(rows) => {
                let kept = |id: &u64| self.rows.get(self.rows.place_of(*id)?);
                // What is missing but not gone stays listed, with the bytes it had.
                let kept: Vec<_> = self.missing.keys().filter_map(kept).collect();
                self.rows = rows.with(&kept);
                // Listed as deleted in a first list, and known from one that was cut short: the next
                // list tells that it is gone.
                for (id, mark) in kept {
                    let now = self.rows.place_of(id).and_then(|place| self.rows.get(place));
                    if now.is_some_and(|(_, now)| !is_live(now)) {
                        self.rows.set(id, mark);
                    }
                }
                self.live = self.rows.live().count();
            }
            Err(marks) => {
                for (id, mark) in marks {
                    if !is_live(mark) && self.missing.contains_key(&id) {
                        continue;
                    }
                    let Some(before) = self.rows.set(id, mark) else { continue };
                    self.live =
                        self.live + usize::from(is_live(mark)) - usize::from(is_live(before));
                }
            }
        }
        if !is_same && !self.gone.is_empty() {
            let mut live = self.rows.live().peekable();
            self.gone.retain(|id| {
                while live.next_if(|listed| listed < id).is_some() {}
                live.peek() != Some(id)
            });
        }
        self.has_baseline = true;
        self.suspicion = None;
    }
}

/// What changed about a room. `Touched` only if nothing else did.
#[must_use]
pub fn room_changes(before: &Room, after: &Room) -> Vec<RoomChange> {
    let mut changes = Vec::new();
    let mut note = |differs: bool, change| {
        if differs {
            changes.push(change);
        }
    };
    note(before.name != after.name, RoomChange::Renamed);
    note(before.kind != after.kind, RoomChange::KindChanged);
    note(before.status != after.status, RoomChange::StatusChanged);
    note(before.is_public != after.is_public, RoomChange::VisibilityChanged);
    note(before.admin_id != after.admin_id, RoomChange::AdminChanged);
    if changes.is_empty() && before.updated_at != after.updated_at {
        changes.push(RoomChange::Touched);
    }
    changes
}

/// What changed about a user.
#[must_use]
pub fn user_changes(before: &User, after: &User) -> Vec<UserChange> {
    if before == after { Vec::new() } else { vec![UserChange::Changed] }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRUST: Trust = Trust { gone_after: 3, mass: 20, agreeing: 10 };

    fn row(id: u64, name: &str) -> Vec<u8> {
        format!(r#"{{"id":{id},"name":"{name}","type":1}}"#).into_bytes()
    }

    fn list(rows: &[(u64, &str)]) -> Vec<Vec<u8>> {
        rows.iter().map(|(id, name)| row(*id, name)).collect()
    }

    /// Reads a list, judges it, and commits it if it is believed.
    fn poll(index: &mut Index, rows: &[Vec<u8>]) -> (Verdict, usize) {
        let mut observation = index.observe::<Room>(7);
        for row in rows {
            assert!(observation.push(row).is_continue());
        }
        let observed = observation.finish();
        let decoded = observed.decoded.len();
        let verdict = index.judge(&observed, TRUST);
        match &verdict {
            Verdict::Baseline => index.commit(observed, &[]),
            Verdict::Believed(delta) => index.commit(observed, &delta.gone),
            Verdict::Held { .. } => {}
        }
        (verdict, decoded)
    }

    fn delta(index: &mut Index, rows: &[Vec<u8>]) -> Delta {
        match poll(index, rows).0 {
            Verdict::Believed(delta) => delta,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_first_list_is_a_baseline() {
        let mut index = Index::default();
        assert_eq!(poll(&mut index, &list(&[(1, "a"), (2, "b")])).0, Verdict::Baseline);
        assert_eq!(delta(&mut index, &list(&[(1, "a"), (2, "b")])), Delta::default());
    }

    #[test]
    fn what_a_first_list_showed_that_was_cut_short_is_known_and_may_be_gone() {
        // Room 1 was committed, and then came a kill.
        let mut index = Index::restore(false, vec![(1, 0)], vec![]);
        assert_eq!(poll(&mut index, &list(&[(2, "b")])).0, Verdict::Baseline);
        assert_eq!(index.len(), 2);
        assert_eq!(delta(&mut index, &list(&[(2, "b")])), Delta::default());
        assert_eq!(delta(&mut index, &list(&[(2, "b")])).gone, [1]);
    }

    #[test]
    fn what_a_first_list_showed_that_was_cut_short_and_the_next_shows_as_deleted_is_gone() {
        let deleted = br#"{"id":1,"name":"a","deleted_at":"2026-01-01 00:00:00"}"#.to_vec();
        for known in [vec![(1, 0)], vec![(1, 0), (2, 0)]] {
            let mut index = Index::restore(false, known, vec![]);
            let rows = [vec![deleted.clone()], list(&[(2, "b")])].concat();
            assert_eq!(poll(&mut index, &rows).0, Verdict::Baseline);
            assert_eq!(index.len(), 2);
            assert_eq!(delta(&mut index, &rows).gone, [1]);
            assert_eq!(delta(&mut index, &rows), Delta::default());
            assert_eq!(index.len(), 1);
        }
    }

    #[test]
    fn only_what_changed_is_decoded() {
        let mut index = Index::default();
        poll(&mut index, &list(&[(3, "c"), (1, "a"), (2, "b")]));
        assert_eq!(poll(&mut index, &list(&[(3, "c"), (1, "a"), (2, "b")])).1, 0);
        let (verdict, decoded) = poll(&mut index, &list(&[(3, "c"), (1, "A"), (2, "b"), (4, "d")]));
        assert_eq!(decoded, 2);
        let expected = Delta { appeared: vec![4], changed: vec![1], ..Delta::default() };
        assert_eq!(verdict, Verdict::Believed(expected));
    }

    #[test]
    fn order_carries_no_meaning() {
        let mut index = Index::default();
        poll(&mut index, &list(&[(1, "a"), (2, "b"), (3, "c")]));
        assert_eq!(delta(&mut index, &list(&[(3, "c"), (2, "b"), (1, "a")])), Delta::default());
        assert_eq!(poll(&mut index, &list(&[(3, "c"), (2, "b"), (1, "a")])).1, 0);
    }

    #[test]
    fn a_list_costs_memory_for_its_rooms_and_not_for_its_rows() {
        // 40,000 rooms, three times over: the last of each counts, and every one of the rest is told.
        let mut index = Index::default();
        let mut observation = index.observe::<Room>(7);
        for name in ["a", "b", "c"] {
            for id in 1..=40_000 {
                assert!(observation.push(&row(id, name)).is_continue());
            }
        }
        assert!(observation.seen.len() < 100_000, "{}", observation.seen.len());
        let observed = observation.finish();
        assert_eq!((observed.len(), observed.duplicates), (40_000, 80_000));
        assert!(observed.decoded.values().all(|room| room.name == "c"));
        index.commit(observed, &[]);
        let rows: Vec<_> = (1..=40_000).map(|id| row(id, "c")).collect();
        assert_eq!(poll(&mut index, &rows).1, 0);
    }

    #[test]
    fn a_list_of_one_row_over_and_over_or_of_none_is_given_up() {
        for bytes in [&row(1, "a")[..], b"0", b"{}", b"[[]]"] {
            let index = Index::default();
            let mut observation = index.observe::<Room>(7);
            let given_up = (0..100_000).find(|_| observation.push(bytes).is_break());
            assert!(given_up.is_some(), "{}", String::from_utf8_lossy(bytes));
        }
        // Rows that are known and cannot be read any more are rows.
        let mut index = Index::default();
        let rows: Vec<_> = (1..=12_000).map(|id| row(id, "a")).collect();
        poll(&mut index, &rows);
        let broken: Vec<_> =
            (1..=12_000).map(|id| format!("{{\"id\":{id},\"name\":{{}}}}").into()).collect();
        assert_eq!(delta(&mut index, &broken), Delta::default());
    }

    #[test]
    fn of_two_rows_with_one_id_the_last_wins() {
        let mut index = Index::default();
        poll(&mut index, &list(&[(1, "a"), (2, "b")]));
        assert_eq!(delta(&mut index, &list(&[(1, "x"), (2, "b"), (1, "a")])), Delta::default());
        assert_eq!(delta(&mut index, &list(&[(1, "a"), (2, "b"), (1, "x")])).changed, [1]);
    }

    #[test]
    fn a_room_is_gone_after_three_lists_without_it() {
        let mut index = Index::default();
        poll(&mut index, &list(&[(1, "a"), (2, "b")]));
        let without = list(&[(1, "a")]);
        assert!(delta(&mut index, &without).gone.is_empty());
        assert!(delta(&mut index, &without).gone.is_empty());
        assert_eq!(delta(&mut index, &without).gone, [2]);
        assert!(delta(&mut index, &without).gone.is_empty());
        assert_eq!(delta(&mut index, &list(&[(1, "a"), (2, "b")])).returned, [2]);
    }

    #[test]
    fn a_room_that_is_back_in_time_was_never_away() {
        let mut index = Index::default();
        let both = list(&[(1, "a"), (2, "b")]);
        poll(&mut index, &both);
        for _ in 0..10 {
            assert_eq!(delta(&mut index, &list(&[(1, "a")])), Delta::default());
            assert_eq!(delta(&mut index, &list(&[(1, "a")])), Delta::default());
            assert_eq!(delta(&mut index, &both), Delta::default());
        }
    }

    #[test]
    fn a_row_marked_as_deleted_is_gone_at_once_and_once() {
        let mut index = Index::default();
        poll(&mut index, &list(&[(1, "a"), (2, "b")]));
        let deleted =
            br#"{"id":2,"name":"b","type":1,"deleted_at":"2026-01-01 00:00:00"}"#.to_vec();
        let rows = vec![row(1, "a"), deleted];
        assert_eq!(delta(&mut index, &rows).gone, [2]);
        assert_eq!(poll(&mut index, &rows), (Verdict::Believed(Delta::default()), 0));
        assert_eq!(delta(&mut index, &list(&[(1, "a"), (2, "b")])).returned, [2]);
    }

    #[test]
    fn a_row_that_cannot_be_read_is_neither_changed_nor_gone() {
        let mut index = Index::default();
        poll(&mut index, &list(&[(1, "a"), (2, "b")]));
        for _ in 0..5 {
            let rows = vec![row(1, "a"), br#"{"id":2,"name":{"deep":[]},"type":[]}"#.to_vec()];
            assert_eq!(delta(&mut index, &rows), Delta::default());
        }
    }

    #[test]
    fn one_empty_list_among_good_ones_is_no_event() {
        let mut index = Index::default();
        let many: Vec<Vec<u8>> = (1..=100).map(|id| row(id, "room")).collect();
        poll(&mut index, &many);
        assert!(matches!(poll(&mut index, &[]).0, Verdict::Held { missing: 100, .. }));
        assert_eq!(delta(&mut index, &many), Delta::default());
    }

    #[test]
    fn a_mass_change_is_believed_after_ten_lists_that_agree() {
        let mut index = Index::default();
        let many: Vec<Vec<u8>> = (1..=100).map(|id| row(id, "room")).collect();
        poll(&mut index, &many);
        for _ in 0..9 {
            assert!(matches!(poll(&mut index, &many[..10]).0, Verdict::Held { .. }));
        }
        assert_eq!(delta(&mut index, &many[..10]).gone.len(), 90);
        assert_eq!(delta(&mut index, &many[..10]), Delta::default());
    }

    #[test]
    fn a_site_on_which_life_goes_on_is_believed_all_the_same() {
        let mut index = Index::default();
        let room = |id| row(id, "room");
        poll(&mut index, &(1..=9).map(room).collect::<Vec<_>>());
        for more in 0..9 {
            let rows: Vec<_> = (1..=40 + more).map(room).collect();
            assert!(matches!(poll(&mut index, &rows).0, Verdict::Held { .. }), "{more}");
        }
        let rows: Vec<_> = (1..=49).map(room).collect();
        assert_eq!(delta(&mut index, &rows).appeared.len(), 40);
    }

    #[test]
    fn of_two_rows_with_one_id_the_last_wins_also_where_one_is_deleted() {
        let mut index = Index::default();
        poll(&mut index, &list(&[(1, "a"), (2, "b")]));
        let deleted = br#"{"id":2,"name":"b","deleted_at":"2026-01-01 00:00:00"}"#.to_vec();
        let there_last = vec![row(1, "a"), deleted.clone(), row(2, "b")];
        assert_eq!(delta(&mut index, &there_last), Delta::default());
        let deleted_last = vec![row(1, "a"), row(2, "b"), deleted.clone()];
        assert_eq!(delta(&mut index, &deleted_last).gone, [2]);
        // It is known by its bytes now, and is still the last.
        assert_eq!(delta(&mut index, &deleted_last), Delta::default());
        assert_eq!(delta(&mut index, &there_last).returned, [2]);
    }

    #[test]
    fn a_room_that_is_listed_as_deleted_again_and_again_is_counted_once() {
        let mut index = Index::default();
        poll(&mut index, &list(&[(1, "a")]));
        let deleted = |day: u8| {
            format!(r#"{{"id":1,"name":"a","deleted_at":"2026-01-0{day} 00:00:00"}}"#).into_bytes()
        };
        assert_eq!(delta(&mut index, &[deleted(1), deleted(2), deleted(3)]).gone, [1]);
        assert_eq!(index.len(), 0);
    }

    #[test]
    fn a_row_that_is_no_json_any_more_is_not_gone_either() {
        let mut index = Index::default();
        poll(&mut index, &list(&[(1, "a"), (2, "b")]));
        for broken in [&br#"{"id":2,"name":NaN}"#[..], b"{\"id\":\"2\",\"name\":\"\xff\x01\"}"] {
            for _ in 0..5 {
                let rows = vec![row(1, "a"), broken.to_vec()];
                assert_eq!(delta(&mut index, &rows), Delta::default());
            }
        }
    }

    #[test]
    fn a_row_that_does_not_show_whose_it_is_makes_nobody_gone_before_ten_lists() {
        let mut index = Index::default();
        let both = list(&[(1, "a"), (2, "b")]);
        poll(&mut index, &both);
        let stray = vec![row(1, "a"), b"null".to_vec()];
        for _ in 0..3 {
            for _ in 0..9 {
                assert_eq!(delta(&mut index, &stray), Delta::default());
            }
            assert_eq!(delta(&mut index, &both), Delta::default());
        }
        // But a room that left beside a row that stays so is not there for ever.
        let gone = (0..10).map(|_| delta(&mut index, &stray).gone).collect::<Vec<_>>();
        assert_eq!((gone.concat(), &gone[9]), (vec![2], &vec![2]));
    }

    #[test]
    fn a_room_that_a_held_list_shows_was_not_away() {
        let mut index = Index::default();
        let many: Vec<Vec<u8>> = (1..=40).map(|id| row(id, "room")).collect();
        poll(&mut index, &many);
        for _ in 0..5 {
            assert_eq!(delta(&mut index, &many[1..]), Delta::default());
            assert_eq!(delta(&mut index, &many[1..]), Delta::default());
            assert!(matches!(poll(&mut index, &many[..5]).0, Verdict::Held { .. }));
        }
    }

    #[test]
    fn what_only_the_last_of_ten_lists_says_is_not_believed_with_what_all_of_them_say() {
        let mut index = Index::default();
        let rows = |from: u64, to: u64| (from..=to).map(|id| row(id, "room")).collect::<Vec<_>>();
        poll(&mut index, &rows(1, 40));
        for _ in 0..9 {
            assert!(matches!(poll(&mut index, &rows(1, 90)).0, Verdict::Held { .. }));
        }
        // Fifty rooms opened, ten lists say. One is missing from the last of them only.
        let delta_now = delta(&mut index, &rows(2, 90));
        assert_eq!((delta_now.appeared.len(), delta_now.gone), (50, vec![]));
        assert!(delta(&mut index, &rows(2, 90)).gone.is_empty());
        assert_eq!(delta(&mut index, &rows(2, 90)).gone, [1]);
    }

    #[test]
    fn a_mass_that_only_the_last_of_ten_lists_claims_has_its_own_ten() {
        let mut index = Index::default();
        let rows = |from: u64, to: u64| (from..=to).map(|id| row(id, "room")).collect::<Vec<_>>();
        poll(&mut index, &rows(1, 40));
        for _ in 0..7 {
            assert!(matches!(poll(&mut index, &rows(1, 90)).0, Verdict::Held { .. }));
        }
        // The new ones are true; that most of the old ones are missing is a mistake.
        for _ in 0..9 {
            assert!(matches!(poll(&mut index, &rows(36, 90)).0, Verdict::Held { .. }));
        }
        let delta = delta(&mut index, &rows(1, 90));
        assert_eq!((delta.appeared.len(), delta.gone), (50, vec![]));
    }

    #[test]
    fn a_mass_of_which_one_leaves_again_is_believed_when_ten_lists_agree_on_the_others() {
        let mut index = Index::default();
        poll(&mut index, &(1..=9).map(|id| row(id, "room")).collect::<Vec<_>>());
        for fewer in 0..9 {
            let rows: Vec<_> = (1..=60 - fewer).map(|id| row(id, "room")).collect();
            assert!(matches!(poll(&mut index, &rows).0, Verdict::Held { .. }), "{fewer}");
        }
        let rows: Vec<_> = (1..=51).map(|id| row(id, "room")).collect();
        assert_eq!(delta(&mut index, &rows).appeared.len(), 42);
    }

    #[test]
    fn room_changes_are_named_one_by_one() {
        let before = Room::new(1.into(), "a");
        let mut after = before.clone();
        assert_eq!(room_changes(&before, &after), []);
        after.updated_at = Some(imbabot_core::Timestamp::EPOCH);
        assert_eq!(room_changes(&before, &after), [RoomChange::Touched]);
        after.name = "b".into();
        after.is_public = true;
        assert_eq!(
            room_changes(&before, &after),
            [RoomChange::Renamed, RoomChange::VisibilityChanged]
        );
    }
}
