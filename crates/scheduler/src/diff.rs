//! What changed between two lists, and whether to believe it. Pure: bytes and an index in, a
//! verdict out; no I/O, no clock.
//!
//! Elements are compared by a hash of their bytes, in the order in which the server listed them
//! last time; only what differs is decoded. An index holds a few words per room, never a room.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;

use imbabot_bot::{RoomChange, UserChange};
use imbabot_core::{
    Room, User, WidgetId, decode_room, decode_user, id_in_broken_row, is_senseless,
};
use twox_hash::XxHash3_64;

/// From so many rows on, those that are there twice are let go of while the list arrives: below,
/// they cost a megabyte.
const COMPACT_AT: usize = 64 * 1024;

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
    /// Ids and hashes, ascending by id.
    listed: Vec<(u64, u64)>,
    /// The order of the last list, as positions in `listed`.
    order: Vec<u32>,
    /// Ids that were listed once and are gone.
    gone: HashSet<u64>,
    /// Hashes of rows that say they were deleted, with their ids.
    deleted: HashMap<u64, u64>,
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

/// A list as it arrives.
#[derive(Debug)]
pub struct Observation<'i, T> {
    index: &'i Index,
    seed: u64,
    cursor: usize,
    seen: Vec<(u64, u64)>,
    decoded: HashMap<u64, T>,
    deleted: HashMap<u64, u64>,
    quarantined: u64,
    strays: u64,
    first_quarantined: Option<String>,
    widgets: HashSet<WidgetId>,
    /// Rows that later ones replaced, of those that were let go of already.
    replaced: u64,
    /// When `seen` is looked through for such.
    compact_at: usize,
}

/// A list that arrived whole.
#[derive(Debug)]
pub struct Observed<T> {
    /// Ids and hashes, ascending by id.
    seen: Vec<(u64, u64)>,
    order: Vec<u32>,
    /// What was decoded because its bytes were not known.
    pub decoded: HashMap<u64, T>,
    deleted: HashMap<u64, u64>,
    /// Rows that could not be read.
    pub quarantined: u64,
    /// Of these, rows that do not even show whose they are.
    strays: u64,
    /// What was wrong with the first of them.
    pub first_quarantined: Option<String>,
    /// Ids that were listed more than once: the last one counted.
    pub duplicates: u64,
    /// The widgets that decoded rows say they belong to.
    pub widgets: HashSet<WidgetId>,
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
    pub fn restore(has_baseline: bool, mut listed: Vec<(u64, u64)>, gone: Vec<u64>) -> Self {
        listed.sort_unstable();
        let order = (0..listed.len()).map(position).collect();
        Self { has_baseline, listed, order, gone: gone.into_iter().collect(), ..Self::default() }
    }

    /// How many elements are listed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.listed.len()
    }

    /// Whether nothing is listed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    /// Whether a first list was believed.
    #[must_use]
    pub fn has_baseline(&self) -> bool {
        self.has_baseline
    }

    /// Begins to read a list.
    #[must_use]
    pub fn observe<T: Item>(&self, seed: u64) -> Observation<'_, T> {
        Observation {
            index: self,
            seed,
            cursor: 0,
            seen: Vec::with_capacity(self.listed.len()),
            decoded: HashMap::new(),
            deleted: HashMap::new(),
            quarantined: 0,
            strays: 0,
            first_quarantined: None,
            replaced: 0,
            compact_at: COMPACT_AT,
            widgets: HashSet::new(),
        }
    }

    fn place_of(&self, id: u64) -> Option<usize> {
        self.listed.binary_search_by_key(&id, |(listed, _)| *listed).ok()
    }

    /// Judges a whole list. Counts what is missing; nothing else changes before
    /// [`Index::commit`].
    pub fn judge<T>(&mut self, observed: &Observed<T>, trust: Trust) -> Verdict {
        if !self.has_baseline {
            // What an earlier first list showed, whose commit was cut short, is known and missing.
            let is_listed = |id: &u64| observed.seen.binary_search_by_key(id, |(i, _)| *i).is_ok();
            let known = self.listed.iter().map(|(id, _)| *id);
            let once = Lists::default().and_another(observed.strays == 0);
            self.missing = known.filter(|id| !is_listed(id)).map(|id| (id, once)).collect();
            return Verdict::Baseline;
        }
        let mut delta = Delta::default();
        let mut missing = Vec::new();
        let (mut old, mut new) = (self.listed.iter().peekable(), observed.seen.iter().peekable());
        loop {
            match (old.peek(), new.peek()) {
                (None, None) => break,
                (Some((a, _)), Some((b, _))) if a == b => {
                    let (id, before) = old.next().copied().unwrap_or_default();
                    let (_, after) = new.next().copied().unwrap_or_default();
                    if before != after {
                        delta.changed.push(id);
                    }
                }
                (Some((a, _)), other) if other.is_none_or(|(b, _)| a < b) => {
                    missing.push(*a);
                    old.next();
                }
                (_, Some((b, _))) => {
                    if self.gone.contains(b) {
                        delta.returned.push(*b);
                    } else {
                        delta.appeared.push(*b);
                    }
                    new.next();
                }
                (Some(_), None) => break,
            }
        }
        // Whoever is in a list was not away, be the list believed or not.
        self.missing.retain(|id, _| missing.binary_search(id).is_ok());
        let deleted: HashSet<u64> = observed.deleted.values().copied().collect();
        let appeared = || delta.appeared.iter().chain(&delta.returned);
        let vanished = || missing.iter().filter(|id| !deleted.contains(id));
        // Only what is newly missing or new can be a mass: what was believed before is settled.
        let mass = |count: usize| count >= trust.mass && count * 2 > self.listed.len();
        let is_sure = observed.strays == 0;
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
            if is_gone || deleted.contains(&id) {
                delta.gone.push(id);
            }
        }
        Verdict::Believed(delta)
    }

    /// The list was committed: it is what the next one is compared with.
    pub fn commit<T>(&mut self, observed: Observed<T>, gone: &[u64]) {
        for id in gone {
            self.missing.remove(id);
            self.gone.insert(*id);
        }
        self.deleted = observed.deleted;
        if self.missing.is_empty() {
            self.listed = observed.seen;
            self.order = observed.order;
        } else {
            // What is missing but not gone stays listed, with the bytes it had.
            let old = std::mem::take(&mut self.listed);
            let kept = old.into_iter().filter(|(id, _)| self.missing.contains_key(id));
            let mut listed: Vec<(u64, u64)> = observed.seen.iter().copied().chain(kept).collect();
            listed.sort_unstable();
            let place: Vec<u32> = observed
                .seen
                .iter()
                .filter_map(|(id, _)| listed.binary_search_by_key(id, |(i, _)| *i).ok())
                .map(position)
                .collect();
            self.order =
                observed.order.iter().filter_map(|p| place.get(*p as usize).copied()).collect();
            self.listed = listed;
        }
        for (id, _) in &self.listed {
            self.gone.remove(id);
        }
        self.has_baseline = true;
        self.suspicion = None;
    }
}

/// Positions are kept in 32 bits: a list of four thousand million rooms is no list of a chat.
fn position(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

impl<T: Item> Observation<'_, T> {
    /// The next element of the list. `Break` if it makes no sense to go on: hardly a row can be
    /// read, or the same ones come again and again. Such a list is no snapshot.
    pub fn push(&mut self, bytes: &[u8]) -> ControlFlow<()> {
        self.take(bytes);
        if is_senseless(self.quarantined, self.seen.len() as u64) {
            return ControlFlow::Break(());
        }
        if self.seen.len() >= self.compact_at { self.compact() } else { ControlFlow::Continue(()) }
    }

    /// Lets go of rows that later ones replaced, so that a list costs memory for each of its rooms
    /// and not for each of its rows.
    fn compact(&mut self) -> ControlFlow<()> {
        let before = self.seen.len();
        let last: HashMap<u64, usize> =
            self.seen.iter().enumerate().map(|(place, (id, _))| (*id, place)).collect();
        let mut place = 0;
        self.seen.retain(|(id, _)| {
            place += 1;
            last.get(id) == Some(&(place - 1))
        });
        self.replaced += (before - self.seen.len()) as u64;
        self.compact_at = COMPACT_AT.max(self.seen.len() * 2);
        // Every row twice is a mistake of the server's; every row four times is no list.
        if self.seen.len() < before / 4 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        let hash = XxHash3_64::oneshot_with_seed(self.seed, bytes);
        let listed = &self.index.listed;
        let expected = self.index.order.get(self.cursor).and_then(|at| listed.get(*at as usize));
        if let Some((id, known)) = expected
            && *known == hash
        {
            self.seen.push((*id, hash));
            self.cursor += 1;
            return;
        }
        if let Some(id) = self.index.deleted.get(&hash) {
            self.seen.push((*id, hash));
            self.deleted.insert(hash, *id);
            return;
        }
        match T::decode(bytes) {
            Ok(item) => self.accept(item, hash),
            Err(why) => self.quarantine(bytes, why),
        }
    }

    fn accept(&mut self, item: T, hash: u64) {
        let id = item.id();
        self.widgets.extend(item.widget());
        self.seen.push((id, hash));
        if item.is_deleted() {
            self.deleted.insert(hash, id);
            return;
        }
        if let Some(place) = self.index.place_of(id) {
            // The server's order moved on: go on from here.
            let next = self.index.order.get(self.cursor).copied();
            if next == Some(position(place)) {
                self.cursor += 1;
            } else if let Some(at) = self.find_in_order(place) {
                self.cursor = at + 1;
            }
            if self.index.listed.get(place).is_some_and(|(_, known)| *known == hash) {
                self.decoded.remove(&id);
                return;
            }
        }
        self.decoded.insert(id, item);
    }

    /// Where the list had this element last time, looked for near by: a list in which everything
    /// moved is decoded anyway.
    fn find_in_order(&self, place: usize) -> Option<usize> {
        let wanted = position(place);
        let from = self.cursor;
        let ahead = self.index.order.iter().enumerate().skip(from).take(64);
        ahead.map(|(at, p)| (at, *p)).find(|(_, p)| *p == wanted).map(|(at, _)| at)
    }

    fn quarantine(&mut self, bytes: &[u8], why: String) {
        self.quarantined += 1;
        self.first_quarantined.get_or_insert(why);
        // A row that cannot be read any more is not a row that is gone.
        match id_in_broken_row(bytes) {
            None => self.strays += 1,
            Some(id) => {
                self.seen.extend(self.index.place_of(id).map(|place| self.index.listed[place]));
            }
        }
    }

    /// The list is whole.
    #[must_use]
    pub fn finish(self) -> Observed<T> {
        // By id, and for one id by its place in the list: the last wins.
        let mut by_id: Vec<(u64, u32)> =
            self.seen.iter().enumerate().map(|(place, (id, _))| (*id, position(place))).collect();
        by_id.sort_unstable();
        let mut last: Vec<(u64, u32)> = Vec::with_capacity(by_id.len());
        for (id, place) in by_id {
            match last.last_mut() {
                Some((before, kept)) if *before == id => *kept = place,
                _ => last.push((id, place)),
            }
        }
        let duplicates = self.replaced + (self.seen.len() - last.len()) as u64;
        // Of a room that is there twice, once deleted, the last row counts as well.
        let mut deleted = HashMap::new();
        last.retain(|(id, place)| match self.seen.get(*place as usize) {
            Some((_, hash)) if self.deleted.get(hash) == Some(id) => {
                deleted.insert(*hash, *id);
                false
            }
            _ => true,
        });
        let seen: Vec<(u64, u64)> =
            last.iter().filter_map(|(_, place)| self.seen.get(*place as usize).copied()).collect();
        let mut order: Vec<u32> = (0..last.len()).map(position).collect();
        order.sort_unstable_by_key(|at| last.get(*at as usize).map(|(_, place)| *place));
        let mut decoded = self.decoded;
        decoded.retain(|id, _| seen.binary_search_by_key(id, |(i, _)| *i).is_ok());
        Observed {
            seen,
            order,
            decoded,
            deleted,
            quarantined: self.quarantined,
            strays: self.strays,
            first_quarantined: self.first_quarantined,
            duplicates,
            widgets: self.widgets,
        }
    }
}

impl<T> Observed<T> {
    /// How many elements the list has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether the list is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// The hash of an element.
    #[must_use]
    pub fn hash_of(&self, id: u64) -> Option<u64> {
        let place = self.seen.binary_search_by_key(&id, |(listed, _)| *listed).ok()?;
        self.seen.get(place).map(|(_, hash)| *hash)
    }

    /// All ids, ascending.
    pub fn ids(&self) -> impl Iterator<Item = u64> + '_ {
        self.seen.iter().map(|(id, _)| *id)
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
