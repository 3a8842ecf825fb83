//! Random sequences of verbs on schedules, compared with a model: cursors move by compare-and-set
//! and never back, an occurrence comes into being once, its rooms are served once each however the
//! work is cut and repeated, and rooms where an earlier message waits are left out.

#![allow(missing_docs, reason = "the name of a case is its sentence")]

use std::collections::{BTreeMap, BTreeSet};

use imbabot_core::{RoomId, Timestamp};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::Backend;
use super::support::*;
use crate::{
    AdoptSchedule, DeliveryFilter, DeliveryState, Expansion, Line, NewDelivery, NewOccurrence,
    NewRange, OccurrenceCommit, OccurrenceOutcome, Target,
};

const KEYS: [&str; 3] = ["a", "bot/b/b", "c"];
const DAY: i64 = 86_400;

#[derive(Debug, Clone)]
enum Op {
    /// Which schedules there are, and by which definition.
    Adopt {
        definitions: [Option<u8>; 3],
    },
    /// The instants up to now: one fires for so many rooms, some were missed before it.
    Step {
        key: usize,
        rooms: usize,
        missed: u8,
        stale: bool,
    },
    /// An occurrence that was recorded before, again.
    Again {
        which: usize,
    },
    Trigger {
        key: usize,
        rooms: usize,
    },
    Expand {
        size: usize,
        skip_overlap: bool,
        gone: usize,
        repeat: bool,
    },
    Deliver {
        count: usize,
    },
    Pause {
        key: usize,
        paused: bool,
    },
    Kill,
    Wait {
        seconds: u16,
    },
    /// The clock is set back.
    Back {
        days: u8,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let definition = prop::option::weighted(0.85, prop::sample::select(vec![0_u8, 0, 0, 1]));
    prop_oneof![
        3 => prop::array::uniform3(definition).prop_map(|definitions| Op::Adopt { definitions }),
        6 => (0..3_usize, 0..8_usize, 0..4_u8, prop::bool::weighted(0.1))
            .prop_map(|(key, rooms, missed, stale)| Op::Step { key, rooms, missed, stale }),
        1 => any::<usize>().prop_map(|which| Op::Again { which }),
        1 => (0..3_usize, 0..4_usize).prop_map(|(key, rooms)| Op::Trigger { key, rooms }),
        8 => (1..5_usize, any::<bool>(), 0..3_usize, prop::bool::weighted(0.2))
            .prop_map(|(size, skip_overlap, gone, repeat)| Op::Expand { size, skip_overlap, gone, repeat }),
        3 => (1..6_usize).prop_map(|count| Op::Deliver { count }),
        1 => (0..3_usize, any::<bool>()).prop_map(|(key, paused)| Op::Pause { key, paused }),
        1 => Just(Op::Kill),
        6 => (1..500_u16).prop_map(|seconds| Op::Wait { seconds }),
        1 => (0..4_u8).prop_map(|days| Op::Back { days }),
    ]
}

#[derive(Debug, Clone)]
struct Schedule {
    definition: u8,
    through: Timestamp,
    last_fired: Option<Timestamp>,
    missed: u64,
    /// Where each run of missed ones begins, and how many they are.
    runs: Vec<(Timestamp, u64)>,
    paused: bool,
    present: bool,
}

#[derive(Debug, Clone)]
struct Occurrence {
    key: String,
    recorded_at: Timestamp,
    rooms: Vec<u64>,
    /// How many rooms are dealt with; all of them if nothing is left to do.
    position: usize,
    deliveries: u64,
    overlaps: bool,
    /// Its schedule was removed before all rooms were reached.
    cut: bool,
}

struct Model {
    bench: Bench,
    now: Timestamp,
    schedules: BTreeMap<String, Schedule>,
    occurrences: BTreeMap<String, Occurrence>,
    /// Key, schedule and room of every delivery there is to be.
    deliveries: BTreeMap<String, (String, u64)>,
    made: Vec<(String, NewOccurrence)>,
    messages: u64,
}

fn rooms(count: usize) -> Vec<u64> {
    (1..=count as u64).collect()
}

fn occurrence(key: &str, at: Timestamp, rooms: &[u64]) -> NewOccurrence {
    let target = |room: &u64| Target { widget: widget("w"), room: RoomId(*room) };
    NewOccurrence {
        id: format!("{key}@{}", at.compact()),
        nominal_at: at,
        outcome: OccurrenceOutcome::Fired,
        reason: None,
        targets: rooms.iter().map(target).collect(),
        events: Vec::new(),
    }
}

impl Model {
    fn new(backend: &dyn Backend) -> Self {
        Self {
            bench: Bench::new(backend),
            now: at(9 * DAY),
            schedules: BTreeMap::new(),
            occurrences: BTreeMap::new(),
            deliveries: BTreeMap::new(),
            made: Vec::new(),
            messages: 0,
        }
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Adopt { definitions } => self.adopt(definitions),
            Op::Step { key, rooms, missed, stale } => {
                self.step(KEYS[*key], *rooms, *missed, *stale);
            }
            Op::Again { which } => {
                if !self.made.is_empty() {
                    let (key, again) = self.made[which % self.made.len()].clone();
                    run(self.bench.store.trigger(self.now, &key, again));
                }
            }
            Op::Trigger { key, rooms: count } => {
                let mut extra = occurrence(KEYS[*key], self.now, &rooms(*count));
                extra.id.push_str("!manual");
                run(self.bench.store.trigger(self.now, KEYS[*key], extra.clone()));
                self.record(KEYS[*key], extra);
            }
            Op::Expand { size, skip_overlap, gone, repeat } => {
                self.expand(*size, *skip_overlap, *gone, *repeat);
            }
            Op::Deliver { count } => self.deliver(*count),
            Op::Pause { key, paused } => {
                let key = KEYS[*key];
                let done = run(self.bench.store.pause_schedule(self.now, key, *paused));
                let schedule = self.schedules.get_mut(key).filter(|schedule| schedule.present);
                assert_eq!(done, schedule.is_some());
                if let Some(schedule) = schedule {
                    schedule.paused = *paused;
                }
            }
            Op::Kill => drop(self.bench.kill(self.now)),
            Op::Wait { seconds } => self.now = self.now + secs((*seconds).into()),
            Op::Back { days } => self.now = self.now - secs(u64::from(*days) * DAY.cast_unsigned()),
        }
    }

    fn adopt(&mut self, definitions: &[Option<u8>; 3]) {
        let wanted: Vec<(&str, u8)> =
            KEYS.into_iter().zip(*definitions).filter_map(|(k, d)| Some((k, d?))).collect();
        let adopted = wanted
            .iter()
            .map(|(key, definition)| AdoptSchedule {
                key: (*key).into(),
                definition: definition.to_string(),
            })
            .collect();
        let cursors = run(self.bench.store.adopt_schedules(self.now, adopted));
        let mut reanchored = BTreeSet::new();
        let mut before = std::mem::take(&mut self.schedules);
        for (key, definition) in &wanted {
            let schedule = match before.remove(*key) {
                None => Schedule {
                    definition: *definition,
                    through: self.now,
                    last_fired: None,
                    missed: 0,
                    runs: Vec::new(),
                    paused: false,
                    present: true,
                },
                Some(mut schedule) => {
                    if schedule.through > self.now + secs(DAY.cast_unsigned()) {
                        schedule.through = self.now;
                        // What was left out and is still to come is taken back.
                        let (kept, ahead) =
                            schedule.runs.iter().partition(|(from, _)| *from <= self.now);
                        let ahead: Vec<(Timestamp, u64)> = ahead;
                        schedule.runs = kept;
                        schedule.missed -= ahead.iter().map(|(_, count)| count).sum::<u64>();
                        reanchored.insert((*key).to_owned());
                    } else if schedule.definition != *definition || !schedule.present {
                        schedule.through = schedule.through.max(self.now);
                    }
                    schedule.definition = *definition;
                    schedule.present = true;
                    schedule
                }
            };
            self.schedules.insert((*key).into(), schedule);
        }
        for (key, schedule) in before {
            self.schedules.insert(key, Schedule { present: false, ..schedule });
        }
        let marked = cursors.into_iter().filter(|c| c.reanchored).map(|c| c.key).collect();
        assert_eq!(reanchored, marked);
        let gone = |key: &str, schedules: &BTreeMap<String, Schedule>| {
            schedules.get(key).is_none_or(|schedule| !schedule.present)
        };
        for occurrence in self.occurrences.values_mut() {
            if gone(&occurrence.key, &self.schedules)
                && occurrence.position < occurrence.rooms.len()
            {
                occurrence.deliveries -= (occurrence.rooms.len() - occurrence.position) as u64;
                occurrence.position = occurrence.rooms.len();
                occurrence.cut = true;
            }
        }
        for record in run(self.bench.store.deliveries(&DeliveryFilter::default())) {
            let (key, _) = &self.deliveries[&record.key];
            assert!(!gone(key, &self.schedules) || record.state != DeliveryState::Queued);
        }
    }

    /// What the model keeps of an occurrence that comes into being now.
    fn record(&mut self, key: &str, new: NewOccurrence) {
        if self.occurrences.contains_key(&new.id) {
            return;
        }
        if let Some(schedule) = self.schedules.get_mut(key) {
            let last = schedule.last_fired.unwrap_or(Timestamp::MIN);
            schedule.last_fired = Some(last.max(new.nominal_at));
        }
        let rooms: Vec<u64> = new.targets.iter().map(|target| target.room.0).collect();
        let occurrence = Occurrence {
            key: key.into(),
            recorded_at: self.now,
            deliveries: rooms.len() as u64,
            rooms,
            position: 0,
            overlaps: false,
            cut: false,
        };
        self.made.push((key.into(), new.clone()));
        self.occurrences.insert(new.id, occurrence);
    }

    fn step(&mut self, key: &str, count: usize, missed: u8, stale: bool) {
        let stands = self.schedules.get(key).map_or(self.now, |schedule| schedule.through);
        let from = if stale { stands - secs(1) } else { stands };
        let new = occurrence(key, self.now, &rooms(count));
        let range = NewRange {
            outcome: OccurrenceOutcome::Missed,
            reason: "misfire".into(),
            from,
            to: self.now,
            count: missed.into(),
        };
        let step = OccurrenceCommit {
            key: key.into(),
            now: self.now,
            from,
            through: self.now,
            occurrences: vec![new.clone()],
            ranges: if missed > 0 { vec![range] } else { Vec::new() },
        };
        let done = run(self.bench.store.commit_occurrences(step));
        let present = self.schedules.get(key).is_some_and(|schedule| schedule.present);
        assert_eq!(done, present && !stale);
        if done {
            let schedule = self.schedules.get_mut(key).unwrap();
            schedule.through = schedule.through.max(self.now);
            schedule.missed += u64::from(missed);
            if missed > 0 {
                schedule.runs.push((from, missed.into()));
            }
            self.record(key, new);
        }
    }

    fn expand(&mut self, size: usize, skip_overlap: bool, gone: usize, repeat: bool) {
        let next = self
            .occurrences
            .iter()
            .filter(|(_, occurrence)| occurrence.position < occurrence.rooms.len())
            .min_by_key(|(id, occurrence)| (occurrence.recorded_at, (*id).clone()))
            .map(|(id, _)| id.clone());
        let pinned = run(self.bench.store.pinned(size)).into_iter().next();
        assert_eq!(pinned.as_ref().map(|pinned| &pinned.id), next.as_ref());
        let Some(pinned) = pinned else { return };
        let occurrence = self.occurrences.get_mut(&pinned.id).unwrap();
        let rooms: Vec<u64> = pinned.targets.iter().map(|target| target.room.0).collect();
        let expected: Vec<u64> =
            occurrence.rooms.iter().skip(occurrence.position).take(size).copied().collect();
        assert_eq!((pinned.position, &rooms), (occurrence.position, &expected));
        let still_there = &rooms[gone.min(rooms.len())..];
        let key_of = |room: &u64| format!("{}/{room}", pinned.id);
        let deliver = |room: &u64| NewDelivery {
            occurrence: Some(pinned.id.clone()),
            schedule: Some(pinned.key.clone()),
            expires_at: at(99 * DAY),
            ..to_room(&key_of(room), *room)
        };
        let batch = Expansion {
            id: pinned.id.clone(),
            now: self.now,
            position: pinned.position,
            served: rooms.len(),
            deliveries: still_there.iter().map(deliver).collect(),
            skip_overlap,
        };
        let records = run(self.bench.store.deliveries(&DeliveryFilter::default()));
        assert!(run(self.bench.store.expand(batch.clone())));
        if repeat {
            self.bench.kill(self.now);
            assert!(!run(self.bench.store.expand(batch)), "a batch is recorded once");
        }
        occurrence.position += rooms.len();
        occurrence.deliveries -= (rooms.len() - still_there.len()) as u64;
        for room in still_there {
            let waits = records.iter().any(|record| {
                record.room.0 == *room
                    && matches!(record.state, DeliveryState::Queued | DeliveryState::Sending)
                    && record.occurrence.as_ref() != Some(&pinned.id)
                    && self.deliveries[&record.key].0 == pinned.key
            });
            if skip_overlap && waits {
                occurrence.overlaps = true;
                occurrence.deliveries -= 1;
            } else {
                self.deliveries.insert(key_of(room), (pinned.key.clone(), *room));
            }
        }
    }

    fn deliver(&mut self, count: usize) {
        let mut request = self.bench.request(self.now);
        request.widgets[0].slots = count;
        for claimed in run(self.bench.store.claim(request)).deliveries {
            self.messages += 1;
            // Some stay on their way until the next kill.
            if !self.messages.is_multiple_of(4) {
                self.bench.settle(self.now, &claimed, delivered(self.messages));
            }
        }
    }

    fn check(&self) {
        for cursor in run(self.bench.store.cursors()) {
            let schedule = &self.schedules[&cursor.key];
            assert!(schedule.present);
            assert_eq!(
                (cursor.fired_through, cursor.paused, cursor.last_fired, cursor.missed),
                (schedule.through, schedule.paused, schedule.last_fired, schedule.missed),
                "{}",
                cursor.key
            );
        }
        let records = run(self.bench.store.deliveries(&DeliveryFilter::default()));
        let keys: BTreeSet<&String> = records.iter().map(|record| &record.key).collect();
        assert_eq!(keys, self.deliveries.keys().collect());
    }

    /// All rooms are served; then the ledger tells of every occurrence how many there were.
    fn finish(&mut self) {
        while self.occurrences.values().any(|o| o.position < o.rooms.len()) {
            self.expand(3, true, 0, false);
        }
        self.check();
        let mut told = BTreeMap::new();
        for line in self.bench.lines() {
            if let Line::Occurrence(record) = line.line {
                told.insert(record.id.clone(), record);
            }
        }
        assert_eq!(told.len(), self.occurrences.len());
        for (id, occurrence) in &self.occurrences {
            let of = |key: &&String| key.rsplit_once('/').is_some_and(|(of, _)| of == id);
            let made = self.deliveries.keys().filter(of).count() as u64;
            assert_eq!(made, occurrence.deliveries);
            let record = &told[id];
            assert_eq!(record.deliveries, made, "{record:?}");
            let reason = match occurrence {
                _ if made > 0 || occurrence.rooms.is_empty() => None,
                Occurrence { overlaps: true, .. } => Some("overlap"),
                Occurrence { cut: true, .. } => Some("removed"),
                _ => Some("no_rooms"),
            };
            assert_eq!(record.reason.as_deref(), reason, "{record:?}");
            let fired = record.outcome == OccurrenceOutcome::Fired;
            assert_eq!(fired, reason.is_none(), "{record:?}");
        }
    }
}

pub fn any_sequence_of_verbs_serves_every_room_once(backend: &dyn Backend) {
    let config = Config {
        cases: backend.sequences(),
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..Config::default()
    };
    let ops = prop::collection::vec(op(), 1..60);
    let result = TestRunner::new(config).run(&ops, |ops| {
        let mut model = Model::new(backend);
        for op in &ops {
            model.apply(op);
            model.check();
        }
        model.finish();
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
}
