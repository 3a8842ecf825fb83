//! Reading a list beside the last one, element by element. What is the same costs a hash and no
//! memory: it is noted as a run of places of the last list.

use std::collections::HashSet;
use std::marker::PhantomData;
use std::ops::ControlFlow;

use imbabot_core::{WidgetId, id_in_broken_row, is_senseless};

use super::Item;
use super::mark::{self, DELETED, Marker};
use super::rows::{Rows, is_live, replaced};
use super::spool::{InMemory, Spool};

/// From so many rows on, those that are there twice are let go of while the list arrives: below,
/// they cost two megabytes.
const COMPACT_AT: usize = 64 * 1024;
/// How many elements ahead are tried before one is decoded: where some were left out, those behind
/// them are known all the same.
const AHEAD: usize = 8;
/// So many widgets are remembered: one that is not ours is enough to know.
const WIDGETS: usize = 16;
/// Nothing lies in the spool.
const NOWHERE: u64 = u64::MAX;

/// A list as it arrives.
#[derive(Debug)]
pub struct Observation<'i, T, S = InMemory> {
    rows: &'i Rows,
    /// How many of those count.
    live: usize,
    /// How many more count in this list, if each id is in it once. Nobody asks it otherwise.
    gained: i64,
    marker: Marker,
    spool: S,
    /// Where in the last list the next element is expected: after the last one that was known, and
    /// after the last one that was found elsewhere.
    expected: [usize; 2],
    runs: Vec<Run>,
    /// Elements that are in no run.
    pub(super) seen: Vec<Row>,
    /// How many elements are in runs.
    known: usize,
    quarantined: u64,
    strays: u64,
    first_quarantined: Option<String>,
    widgets: HashSet<WidgetId>,
    /// Rows that later ones replaced, of those that were let go of already.
    replaced: u64,
    /// When `seen` is looked through for such.
    compact_at: usize,
    kind: PhantomData<T>,
}

/// Elements that stand one after the other as in the last list, and are the same.
#[derive(Debug, Clone, Copy)]
struct Run {
    /// How many of `seen` come before it.
    after: u32,
    from: u32,
    count: u32,
}

/// An element that is in no run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    id: u64,
    mark: u64,
    /// Where its bytes lie in the spool.
    at: u64,
}

/// A list that arrived whole.
#[derive(Debug)]
pub struct Observed<T, S = InMemory> {
    /// Its rows; `None` if they are those of the last list in the same order, but for marks.
    rows: Option<Rows>,
    len: usize,
    /// What differs from the last list.
    pub decoded: Decoded<T, S>,
    /// Rows that could not be read.
    pub quarantined: u64,
    /// Of these, rows that do not even show whose they are.
    pub(super) strays: u64,
    /// What was wrong with the first of them.
    pub first_quarantined: Option<String>,
    /// Ids that were listed more than once: the last one counted.
    pub duplicates: u64,
    /// The widgets that decoded rows say they belong to, or as many of them as matter.
    pub widgets: HashSet<WidgetId>,
}

/// The elements whose bytes were not known. They are decoded when they are asked for.
#[derive(Debug)]
pub struct Decoded<T, S = InMemory> {
    /// Ascending by id; also rows that are not in the spool.
    rows: Vec<Row>,
    spool: S,
    kind: PhantomData<T>,
}

impl<'i, T: Item, S: Spool> Observation<'i, T, S> {
    pub(super) fn new(rows: &'i Rows, live: usize, marker: Marker, spool: S) -> Self {
        Self {
            rows,
            live,
            gained: 0,
            marker,
            spool,
            expected: [0; 2],
            runs: Vec::new(),
            seen: Vec::new(),
            known: 0,
            quarantined: 0,
            strays: 0,
            first_quarantined: None,
            widgets: HashSet::new(),
            replaced: 0,
            compact_at: COMPACT_AT,
            kind: PhantomData,
        }
    }

    /// The length of the element at the head of these bytes, if it is the one that is expected here
    /// and its bytes did not change; it counts as pushed then. Otherwise 0, and nothing happened.
    pub fn known(&mut self, ahead: &[u8]) -> usize {
        for n in 0..2 {
            let place = self.expected[n];
            let Some((_, mark)) = self.rows.get(place) else { continue };
            let Some(bytes) = mark::length(mark).and_then(|length| ahead.get(..length)) else {
                continue;
            };
            // Most that are not the same do not even end here.
            if bytes.last() == Some(&b'}') && self.marker.of(bytes) == mark & !DELETED {
                self.same(place);
                return bytes.len();
            }
        }
        0
    }

    /// The next element of the list. `Break` if it makes no sense to go on: hardly a row can be
    /// read, the same ones come again and again, or what differs cannot be kept. Such a list is no
    /// snapshot.
    pub fn push(&mut self, bytes: &[u8]) -> ControlFlow<()> {
        if !self.take(bytes)
            || is_senseless(self.quarantined, (self.seen.len() + self.known) as u64)
            || self.known > self.rows.len() * 4 + COMPACT_AT
        {
            return ControlFlow::Break(());
        }
        if self.seen.len() >= self.compact_at { self.compact() } else { ControlFlow::Continue(()) }
    }

    /// Where what differs is kept.
    pub fn spool(&self) -> &S {
        &self.spool
    }

    /// An element is the one at this place of the last list.
    fn same(&mut self, place: usize) {
        self.add_to_run(place);
        if place != self.expected[0] {
            self.expected[1] = self.expected[0];
        }
        self.expected[0] = place + 1;
    }

    fn add_to_run(&mut self, place: usize) {
        self.known += 1;
        let (after, from) = (narrow(self.seen.len()), narrow(place));
        match self.runs.last_mut() {
            Some(run) if run.after == after && run.from + run.count == from => run.count += 1,
            _ => self.runs.push(Run { after, from, count: 1 }),
        }
    }

    /// Lets go of rows that later ones replaced, so that a list costs memory for each of its rooms
    /// and not for each of its rows.
    fn compact(&mut self) -> ControlFlow<()> {
        let before = self.seen.len();
        let rows: Vec<_> = self.seen.iter().map(|row| (row.id, row.mark)).collect();
        if let Some(lost) = replaced(&rows) {
            self.let_go(&lost);
        }
        self.compact_at = COMPACT_AT.max(self.seen.len() * 2);
        // Every row twice is a mistake of the server's; every row four times is no list.
        if self.seen.len() < before / 4 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    fn let_go(&mut self, lost: &[bool]) {
        let (mut runs, mut kept, mut place) = (self.runs.iter_mut().peekable(), 0, 0);
        self.seen.retain(|_| {
            while let Some(run) = runs.next_if(|run| run.after as usize == place) {
                run.after = kept;
            }
            place += 1;
            let is_lost = lost[place - 1];
            kept += u32::from(!is_lost);
            self.replaced += u64::from(is_lost);
            !is_lost
        });
        runs.for_each(|run| run.after = kept);
    }

    /// False if it could not be kept.
    fn take(&mut self, bytes: &[u8]) -> bool {
        let mark = self.marker.of(bytes);
        let [first, second] = self.expected;
        let is_same = |place: &usize| {
            self.rows.get(*place).is_some_and(|(_, known)| known & !DELETED == mark)
        };
        let places = [first, second].into_iter().chain(first + 1..=first + AHEAD);
        if let Some(place) = places.into_iter().find(is_same) {
            self.same(place);
            return true;
        }
        match T::decode(bytes) {
            Ok(item) => self.accept(&item, mark, bytes),
            Err(why) => {
                self.quarantine(bytes, why);
                true
            }
        }
    }

    fn accept(&mut self, item: &T, mark: u64, bytes: &[u8]) -> bool {
        let id = item.id();
        if self.widgets.len() < WIDGETS {
            self.widgets.extend(item.widget());
        }
        let mark = if item.is_deleted() { mark | DELETED } else { mark };
        if let Some((place, before)) = self.find(id) {
            if before == mark {
                self.add_to_run(place);
                return true;
            }
            self.gained += i64::from(is_live(mark)) - i64::from(is_live(before));
        }
        let at = if is_live(mark) { self.spool.put(bytes) } else { Some(NOWHERE) };
        let Some(at) = at else { return false };
        self.seen.push(Row { id, mark, at });
        true
    }

    fn quarantine(&mut self, bytes: &[u8], why: String) {
        self.quarantined += 1;
        self.first_quarantined.get_or_insert(why);
        // A row that cannot be read any more is not a row that is gone.
        match id_in_broken_row(bytes) {
            None => self.strays += 1,
            Some(id) => {
                if let Some((place, _)) = self.find(id) {
                    self.add_to_run(place);
                }
            }
        }
    }

    /// Where the last list had an id, with its mark. The server's order may have moved on: perhaps
    /// it goes on from there.
    fn find(&mut self, id: u64) -> Option<(usize, u64)> {
        let [first, _] = self.expected;
        let here = self.rows.get(first).filter(|(listed, _)| *listed == id).map(|_| first);
        let place = here.or_else(|| self.rows.place_of(id))?;
        self.expected[usize::from(place != first)] = place + 1;
        Some((place, self.rows.get(place)?.1))
    }

    /// The list is whole.
    #[must_use]
    pub fn finish(self) -> Observed<T, S> {
        let (rows, duplicates) = if self.is_in_step() {
            (None, 0)
        } else {
            let mut entries = Vec::with_capacity(self.seen.len() + self.known);
            self.pieces(|piece| match piece {
                Piece::Run(from, count) => {
                    entries.extend((from..from + count).filter_map(|place| self.rows.get(place)));
                }
                Piece::Row(row) => entries.push((row.id, row.mark)),
            });
            let (rows, replaced) = Rows::listed(entries);
            (Some(rows), self.replaced + replaced)
        };
        let mut kept = self.seen;
        if !kept.is_sorted_by(|a, b| a.id < b.id) {
            kept.sort_by_key(|row| row.id);
        }
        if let Some(rows) = &rows {
            // What counts was decided there; of several that are the same one is enough.
            kept.retain(|row| {
                let counts = rows.place_of(row.id).and_then(|place| rows.get(place));
                counts == Some((row.id, row.mark))
            });
            kept.dedup_by_key(|row| row.id);
        }
        let len = match &rows {
            Some(rows) => rows.live().count(),
            None => self.live.saturating_add_signed(isize::try_from(self.gained).unwrap_or(0)),
        };
        Observed {
            rows,
            len,
            decoded: Decoded { rows: kept, spool: self.spool, kind: PhantomData },
            quarantined: self.quarantined,
            strays: self.strays,
            first_quarantined: self.first_quarantined,
            duplicates,
            widgets: self.widgets,
        }
    }

    /// Whether the list has the ids of the last one, each once, in the same order.
    fn is_in_step(&self) -> bool {
        let (mut place, mut in_step) = (0, self.replaced == 0);
        self.pieces(|piece| match piece {
            Piece::Run(from, count) => {
                in_step &= from == place;
                place += count;
            }
            Piece::Row(row) => {
                in_step &= self.rows.get(place).is_some_and(|(id, _)| id == row.id);
                place += 1;
            }
        });
        in_step && place == self.rows.len()
    }

    /// The list in its order.
    fn pieces(&self, mut each: impl FnMut(Piece)) {
        let mut done = 0;
        for run in &self.runs {
            let after = run.after as usize;
            self.seen[done..after].iter().for_each(|row| each(Piece::Row(*row)));
            done = after;
            each(Piece::Run(run.from as usize, run.count as usize));
        }
        self.seen[done..].iter().for_each(|row| each(Piece::Row(*row)));
    }
}

enum Piece {
    Run(usize, usize),
    Row(Row),
}

fn narrow(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

impl<T, S> Observed<T, S> {
    /// How many elements the list has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the list is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn rows(&self) -> Option<&Rows> {
        self.rows.as_ref()
    }

    /// The rows, or, where they are those of the last list, the marks that differ.
    pub(super) fn into_rows(self) -> Result<Rows, impl Iterator<Item = (u64, u64)>> {
        self.rows.ok_or_else(|| self.decoded.rows.into_iter().map(|row| (row.id, row.mark)))
    }
}

impl<T, S> Decoded<T, S> {
    /// The marks of what differs, ascending by id; also of rows that say they were deleted.
    pub(super) fn marks(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.rows.iter().map(|row| (row.id, row.mark))
    }

    fn kept(&self) -> impl Iterator<Item = &Row> + '_ {
        self.rows.iter().filter(|row| row.at != NOWHERE)
    }

    /// The ids of what was kept, ascending.
    pub fn ids(&self) -> impl Iterator<Item = u64> + '_ {
        self.kept().map(|row| row.id)
    }

    /// How many elements were kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kept().count()
    }

    /// Whether nothing was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kept().next().is_none()
    }
}

impl<T: Item, S: Spool> Decoded<T, S> {
    /// An element that was kept, with its mark.
    pub fn get(&self, id: u64) -> Option<(T, u64)> {
        let found = self.rows.binary_search_by_key(&id, |row| row.id).ok()?;
        let row = self.rows.get(found).filter(|row| row.at != NOWHERE)?;
        self.read(row).map(|item| (item, row.mark))
    }

    /// All that was kept, decoded one by one.
    pub fn values(&self) -> impl Iterator<Item = T> + '_ {
        self.kept().filter_map(|row| self.read(row))
    }

    fn read(&self, row: &Row) -> Option<T> {
        T::decode(&self.spool.get(row.at)?).ok()
    }
}
