//! Histories: what happens, in steps that are data, so that one that fails can be told in as few of
//! them as show it.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::daemon::{Daemon, End};
use super::oracle::{AGREEING, BOUND, Expected, GONE_AFTER, MASS, Oracle, Told};
use super::random::Random;
use super::served::{Fault, Row, Served, serve};
use super::truth::{Change, State, Truth};

#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    Happens(Change),
    Poll(Fault),
    /// The daemon is killed in the middle of a poll, when so many rooms are committed.
    KilledAt(u64, Fault),
    Restart,
    /// Good polls, after which everything has to be told.
    Settle,
}

/// The steps of this seed.
pub(crate) fn steps(seed: u64, length: usize) -> Vec<Step> {
    let mut random = Random(seed);
    // On a small site no change is a mass; on a larger one one is.
    let rooms = random.pick(&[2, 4, 8, 8, 30, 45]);
    let mut steps = vec![Step::Happens(Change::Open(1, random.below(rooms + 1)))];
    if random.below(10) == 0 {
        steps.push(Step::Happens(Change::Freeze));
    }
    while steps.len() < length {
        steps.push(step(&mut random, rooms));
    }
    steps.push(Step::Settle);
    steps
}

fn step(random: &mut Random, rooms: u64) -> Step {
    let id = 1 + random.below(rooms);
    let many = 1 + random.below(rooms);
    Step::Happens(match random.below(100) {
        0..=6 => Change::Open(id, 1),
        7..=10 => Change::Rename(id, random.below(5)),
        11 => Change::RenameMany(id, many),
        12..=13 => Change::Kind(id, random.pick(&[0, 1, 3, 7])),
        14..=15 => Change::Status(id, random.pick(&[0, 1, 2])),
        16..=17 => Change::Visibility(id),
        18..=19 => Change::Admin(id, 2046 + random.below(3)),
        20..=22 => Change::Touch(id),
        23 => Change::Extra(id),
        24..=27 => Change::Mark(id, 1),
        28..=31 => Change::Leave(id, 1),
        32..=34 => Change::Open(id, many),
        35 => Change::Mark(id, many),
        36..=37 => Change::Leave(id, many),
        38..=43 => return Step::Restart,
        44..=46 => return Step::KilledAt(random.below(rooms), fault(random, rooms)),
        47 => return Step::Settle,
        48..=70 => return Step::Poll(Fault::Nothing),
        _ => return Step::Poll(fault(random, rooms)),
    })
}

fn fault(random: &mut Random, rooms: u64) -> Fault {
    let id = 1 + random.below(rooms);
    match random.below(15) {
        0 => Fault::NoAnswer,
        1 => Fault::NoList(random.below(9)),
        2 => Fault::Cut(random.below(1000)),
        3 | 4 => Fault::Empty,
        5 => Fault::Stale(1 + random.below(6)),
        6 => Fault::Shuffled(random.next()),
        7 => Fault::Doubled(random.next(), random.below(6)),
        8 | 9 => Fault::BadRow(id, random.below(10)),
        10 => Fault::Foreign,
        11 => Fault::Half(random.next()),
        12 => Fault::Without(id),
        13 => Fault::Spelled(random.below(2)),
        _ => Fault::Warned,
    }
}

struct Run {
    past: Vec<Truth>,
    daemon: Daemon,
    oracle: Oracle,
    /// Whole lists in a row that did not have a room that was there, or had it as deleted.
    hidden: BTreeMap<u64, u32>,
    /// Whole lists in a row that did not have a room, or had it as deleted, be it there or not.
    unseen: BTreeMap<u64, u32>,
    polls: usize,
}

/// Runs a history; what was wrong with what the product told.
pub(crate) fn run(steps: &[Step]) -> Result<(), String> {
    let run = AssertUnwindSafe(|| {
        let mut run = Run {
            past: vec![Truth::default()],
            daemon: Daemon::default(),
            oracle: Oracle::default(),
            hidden: BTreeMap::new(),
            unseen: BTreeMap::new(),
            polls: 0,
        };
        for (n, step) in steps.iter().enumerate() {
            run.step(*step).map_err(|problem| format!("step {n}, {step:?}: {problem}"))?;
        }
        Ok(())
    });
    catch_unwind(run).unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().cloned();
        Err(words.unwrap_or_else(|| "a panic".into()))
    })
}

impl Run {
    fn step(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Happens(change) => {
                let mut next = self.past.last().unwrap().clone();
                next.apply(change);
                self.past.push(next);
                // Nothing is staler than this.
                if self.past.len() > 8 {
                    self.past.remove(0);
                }
            }
            Step::Poll(fault) => self.poll(fault, None)?,
            Step::KilledAt(rooms, fault) => {
                self.poll(fault, Some(usize::try_from(rooms).unwrap()))?;
                self.daemon.restart();
                self.oracle.restart();
            }
            Step::Restart => {
                self.daemon.restart();
                self.oracle.restart();
            }
            Step::Settle => {
                for _ in 0..BOUND {
                    self.poll(Fault::Nothing, None)?;
                }
                let truth: BTreeMap<_, _> = self.past.last().unwrap().there().collect();
                let known: BTreeMap<_, _> = self.oracle.there().collect();
                if truth != known {
                    return Err(format!("after {BOUND} good lists {known:?} instead of {truth:?}"));
                }
            }
        }
        Ok(())
    }

    /// What is served: as the fault wants, unless that would hide a room for so long that nobody could
    /// tell it from one that is gone.
    fn serve(&mut self, fault: Fault) -> Served {
        let mut served = serve(&self.past, fault);
        let Some(rows) = &served.rows else { return served };
        let listed = self.oracle.listed();
        let known = self.there_beside(&shown(rows)).filter(|id| listed.contains(id)).count();
        // Where most of the list is hidden, or a row may be anybody's, lists have to agree for longer.
        let most = known >= MASS && known * 2 > listed.len();
        let stray = rows.iter().any(|row| matches!(row, Row::Bad(None)));
        let longest = if most || stray { AGREEING } else { GONE_AFTER } - 1;
        let lists = |id: &u64| self.hidden.get(id).copied().unwrap_or(0) + 1;
        if self.there_beside(&shown_there(rows)).any(|id| lists(&id) > longest) {
            served = serve(&self.past, Fault::Nothing);
        }
        let rows = served.rows.as_deref().unwrap_or_default();
        let shown = shown_there(rows);
        self.hidden = self.there_beside(&shown).map(|id| (id, lists(&id))).collect();
        let rooms = self.past.last().unwrap().rooms.keys();
        self.unseen = rooms
            .filter(|id| !shown.contains(id))
            .map(|id| (*id, self.unseen.get(id).copied().unwrap_or(0) + 1))
            .collect();
        served
    }

    /// The rooms that are there and not among these.
    fn there_beside(&self, shown: &BTreeSet<u64>) -> impl Iterator<Item = u64> {
        let there = self.past.last().unwrap().there().map(|(id, _)| id);
        there.filter(|id| !shown.contains(id))
    }

    fn poll(&mut self, fault: Fault, only: Option<usize>) -> Result<(), String> {
        let served = self.serve(fault);
        self.polls += 1;
        let pieces = [4096, 100, 4096, 13][self.polls % 4];
        let end = self.daemon.poll(served.body.as_deref(), pieces, only);
        let Some(rows) = served.rows else {
            return match end {
                End::NoList => Ok(()),
                _ => Err("what is no list was taken for one".into()),
            };
        };
        if !self.oracle.has_baseline() {
            match end {
                End::Baseline => self.oracle.first(&rows),
                End::PartOfBaseline(rooms) => self.oracle.part_of_first(&rows, &rooms),
                _ => return Err("the first list is no baseline".into()),
            }
            return Ok(());
        }
        let expected = match self.oracle.poll(&rows) {
            Expected::Events(events) => events,
            Expected::Nothing => match end {
                End::Held => return Ok(()),
                End::Told(told) => return Err(format!("not held: {told:?}")),
                _ => return Err("not held".into()),
            },
        };
        let told = match end {
            End::Told(told) => told,
            End::Held => return Err(format!("held, instead of {expected:?}")),
            _ => return Err("a good list was refused".into()),
        };
        for event in told.iter().filter(|event| event.change == "gone") {
            let marked = rows.iter().any(|row| {
                matches!(row, Row::Read(id, room) if *id == event.room && room.state == State::Marked)
            });
            // It was there whenever a list did not have it.
            let lists = |of: &BTreeMap<u64, u32>| of.get(&event.room).copied().unwrap_or(0);
            if !marked && lists(&self.hidden) >= lists(&self.unseen) {
                return Err(format!("room {} is said to be gone, and is there", event.room));
            }
        }
        let (told_by, expected_by) = (by_room(&told), by_room(&expected));
        for (id, events) in &told_by {
            if expected_by.get(id) != Some(events) {
                let expected = expected_by.get(id);
                return Err(format!("of room {id} {events:?} instead of {expected:?}"));
            }
        }
        if only.is_none() && told_by.len() != expected_by.len() {
            return Err(format!("{told:?} instead of {expected:?}"));
        }
        self.oracle.learn(&told);
        Ok(())
    }
}

fn shown(rows: &[Row]) -> BTreeSet<u64> {
    let shown = rows.iter().filter_map(|row| match row {
        Row::Read(id, _) => Some(*id),
        Row::Bad(id) => *id,
    });
    shown.collect()
}

/// Without those that are shown as deleted: of two rows the last counts.
fn shown_there(rows: &[Row]) -> BTreeSet<u64> {
    let mut shown = BTreeSet::new();
    for row in rows {
        match row {
            Row::Read(id, room) if room.state == State::Marked => shown.remove(id),
            Row::Read(id, _) | Row::Bad(Some(id)) => shown.insert(*id),
            Row::Bad(None) => false,
        };
    }
    shown
}

fn by_room(told: &[Told]) -> BTreeMap<u64, Vec<Told>> {
    let mut rooms: BTreeMap<u64, Vec<Told>> = BTreeMap::new();
    for event in told {
        rooms.entry(event.room).or_default().push(event.clone());
    }
    rooms
}

/// As few of the steps as still show something wrong.
pub(crate) fn shortest(steps: &[Step]) -> Vec<Step> {
    let mut left = steps.to_vec();
    let mut size = left.len() / 2;
    while size > 0 {
        let mut at = 0;
        let before = left.len();
        while at < left.len() {
            let mut fewer = left.clone();
            fewer.drain(at..(at + size).min(left.len()));
            if run(&fewer).is_err() { left = fewer } else { at += size }
        }
        if left.len() == before || size > 1 {
            size /= 2;
        }
    }
    left
}
