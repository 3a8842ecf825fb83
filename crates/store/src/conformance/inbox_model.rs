//! Random sequences of verbs on the inbox, compared with a model: entries of a lane one at a time
//! and in order, tries counted before a run and given back where that is promised, suspects alone
//! after a kill, memory compared before it is set, effects kept once or not at all.

#![allow(missing_docs, reason = "the name of a case is its sentence")]

use std::collections::{BTreeMap, BTreeSet};

use imbabot_bot::{MemoryWrite, Seen};
use imbabot_core::Timestamp;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::Backend;
use super::support::*;
use crate::{
    EventEntry, EventOutcome, EventRecord, Handled, HandledOutcome, Line, NewDelivery, PauseScope,
};

const BOTS: [&str; 3] = ["a", "b", "c"];

#[derive(Debug, Clone)]
enum Op {
    Tell {
        room: u8,
        bots: u8,
    },
    Claim {
        slots: [usize; 3],
    },
    /// A handler returned `Ok`; `stale` bases its memory on what it did not see.
    Handle {
        which: usize,
        stale: bool,
        forget: bool,
        wake: Option<u8>,
        cancel: bool,
    },
    Fail {
        which: usize,
        wait: Option<u8>,
    },
    Ring,
    Kill,
    Stop,
    Revive {
        which: usize,
    },
    Pause {
        bot: u8,
        paused: bool,
    },
    Adopt {
        bots: u8,
    },
    Wait {
        seconds: u8,
    },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..3_u8, 1..8_u8).prop_map(|(room, bots)| Op::Tell { room, bots }),
        8 => prop::array::uniform3(0..3_usize).prop_map(|slots| Op::Claim { slots }),
        8 => (any::<usize>(), prop::bool::weighted(0.2), prop::bool::weighted(0.2), prop::option::weighted(0.2, 0..20_u8), prop::bool::weighted(0.2))
            .prop_map(|(which, stale, forget, wake, cancel)| Op::Handle { which, stale, forget, wake, cancel }),
        4 => (any::<usize>(), prop::option::of(0..15_u8)).prop_map(|(which, wait)| Op::Fail { which, wait }),
        2 => Just(Op::Ring),
        2 => Just(Op::Kill),
        2 => Just(Op::Stop),
        4 => any::<usize>().prop_map(|which| Op::Revive { which }),
        1 => (0..3_u8, any::<bool>()).prop_map(|(bot, paused)| Op::Pause { bot, paused }),
        1 => prop::sample::select(vec![7_u8, 7, 7, 3, 5, 6]).prop_map(|bots| Op::Adopt { bots }),
        4 => (0..12_u8).prop_map(|seconds| Op::Wait { seconds }),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Running,
    Ended(EventOutcome),
}

#[derive(Debug, Clone)]
struct Entry {
    lane: String,
    state: State,
    tries: u32,
    due: Timestamp,
    suspect: bool,
    reason: Option<String>,
}

type Key = (String, i64);

struct Model {
    bench: Bench,
    now: Timestamp,
    entries: BTreeMap<Key, Entry>,
    /// Every entry that was ever handed out, with what its handler saw of its bot's memory.
    handed: Vec<(EventEntry, Option<(i64, i64)>)>,
    memory: BTreeMap<String, (i64, i64)>,
    versions: BTreeSet<i64>,
    wakes: BTreeMap<(String, String), Timestamp>,
    sent: BTreeSet<String>,
    paused: BTreeSet<String>,
    present: BTreeSet<String>,
    ledger: i64,
    told: BTreeMap<String, EventRecord>,
    writes: i64,
}

fn chosen(bits: u8) -> Vec<&'static str> {
    (0..3).filter(|n| bits & (1 << n) != 0).map(|n| BOTS[n]).collect()
}

impl Model {
    fn new(backend: &dyn Backend) -> Self {
        let bench = Bench::new(backend);
        bench.adopt(at(0), &BOTS);
        Self {
            bench,
            now: at(0),
            entries: BTreeMap::new(),
            handed: Vec::new(),
            memory: BTreeMap::new(),
            versions: BTreeSet::new(),
            wakes: BTreeMap::new(),
            sent: BTreeSet::new(),
            paused: BTreeSet::new(),
            present: BOTS.map(String::from).into(),
            ledger: 0,
            told: BTreeMap::new(),
            writes: 0,
        }
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Tell { room, bots } => {
                let bots: Vec<_> =
                    chosen(*bots).into_iter().filter(|b| self.present.contains(*b)).collect();
                self.bench.tell(self.now, vec![opened((*room).into(), &bots)]);
                self.find_new(&format!("room/{room}"));
            }
            Op::Claim { slots } => self.claim(slots),
            Op::Handle { which, stale, forget, wake, cancel } => {
                if !self.handed.is_empty() {
                    let n = which % self.handed.len();
                    self.handle(n, *stale, *forget, *wake, *cancel);
                }
            }
            Op::Fail { which, wait } => {
                if !self.handed.is_empty() {
                    self.fail(which % self.handed.len(), *wait);
                }
            }
            Op::Ring => self.ring(),
            Op::Kill => self.stop(true),
            Op::Stop => self.stop(false),
            Op::Revive { which } => self.revive(*which),
            Op::Pause { bot: n, paused } => {
                let name = BOTS[usize::from(*n)];
                run(self.bench.store.pause(self.now, &PauseScope::Bot(bot(name)), *paused));
                if *paused {
                    self.paused.insert(name.into());
                } else {
                    self.paused.remove(name);
                }
            }
            Op::Adopt { bots } => self.adopt(&chosen(*bots)),
            Op::Wait { seconds } => self.now = self.now + secs((*seconds).into()),
        }
    }

    /// Entries that came into being, which the store has numbered.
    fn find_new(&mut self, lane: &str) {
        for record in run(self.bench.store.events(false, 10_000)) {
            let (event, bot) = record.id.split_once('/').unwrap();
            let key = (bot.to_owned(), event[1..].parse().unwrap());
            let due = self.now;
            self.entries.entry(key).or_insert_with(|| Entry {
                lane: lane.into(),
                state: State::Waiting,
                tries: 0,
                due,
                suspect: false,
                reason: None,
            });
        }
    }

    /// The entries that may run, by bot: the first of each lane in which none runs.
    fn heads(&self) -> BTreeMap<(&str, &str), (i64, &Entry)> {
        let mut heads = BTreeMap::new();
        let mut busy = BTreeSet::new();
        for ((bot, event), entry) in &self.entries {
            let lane = (bot.as_str(), entry.lane.as_str());
            match entry.state {
                State::Waiting => drop(heads.entry(lane).or_insert((*event, entry))),
                State::Running => drop(busy.insert(lane)),
                State::Ended(_) => {}
            }
        }
        heads.retain(|lane, _| !busy.contains(lane));
        heads
    }

    fn claim(&mut self, slots: &[usize; 3]) {
        let free: Vec<(&str, usize)> =
            BOTS.into_iter().zip(*slots).filter(|(bot, _)| self.present.contains(*bot)).collect();
        let (got, next) = self.bench.entries(self.now, &free);
        let running = self.entries.values().any(|entry| entry.state == State::Running);
        let suspect_runs =
            self.entries.values().any(|entry| entry.suspect && entry.state == State::Running);
        let told = |bot: &str| !self.paused.contains(bot) && self.present.contains(bot);
        let due: Vec<(&str, i64, bool)> = self
            .heads()
            .into_iter()
            .filter(|((bot, _), (_, entry))| told(bot) && entry.due <= self.now)
            .map(|((bot, _), (event, entry))| (bot, event, entry.suspect))
            .collect();
        let alone = due.iter().any(|(.., suspect)| *suspect);
        if suspect_runs || alone && running {
            assert!(got.is_empty(), "a suspect runs alone");
        } else if alone {
            let slot = |bot: &str| free.iter().any(|(name, slots)| *name == bot && *slots > 0);
            let may = due.iter().filter(|(bot, _, suspect)| *suspect && slot(bot)).count();
            assert_eq!(got.len(), may.min(1), "one suspect at a time");
            assert!(got.iter().all(|entry| due.contains(&(entry.bot.as_str(), entry.event, true))));
        } else {
            for (bot, slots) in &free {
                let may = due.iter().filter(|(name, ..)| name == bot).count();
                let of_bot = got.iter().filter(|entry| entry.bot.as_str() == *bot).count();
                assert_eq!(of_bot, may.min(*slots), "{bot} gets what waits, as far as it can");
            }
            let later = self.heads().into_iter().filter(|((bot, _), (_, entry))| {
                let slot = free.iter().any(|(name, slots)| name == bot && *slots > 0);
                told(bot) && slot && entry.due > self.now
            });
            let later = later.map(|(_, (_, entry))| entry.due).min();
            assert_eq!(next, later, "the next that may be due");
        }
        let due: BTreeSet<Key> =
            due.iter().map(|(bot, event, _)| ((*bot).into(), *event)).collect();
        for entry in got {
            let key = (entry.bot.to_string(), entry.event);
            assert!(due.contains(&key), "{key:?} may not run");
            let seen = self.memory.get(&key.0).copied();
            let known = self.entries.get_mut(&key).unwrap();
            known.state = State::Running;
            known.tries += 1;
            assert_eq!(entry.tries, known.tries);
            self.handed.push((entry, seen));
        }
    }

    fn runs(&self, entry: &EventEntry) -> bool {
        let known = &self.entries[&(entry.bot.to_string(), entry.event)];
        known.state == State::Running && known.tries == entry.tries
    }

    fn handle(&mut self, n: usize, stale: bool, forget: bool, wake: Option<u8>, cancel: bool) {
        let (entry, seen) = self.handed[n].clone();
        let name = entry.bot.to_string();
        let based_on = match (seen, stale) {
            (Some((_, version)), false) => Seen::Version(version),
            (None, false) => Seen::Absent,
            (_, true) => Seen::Version(-1),
        };
        self.writes += 1;
        let value = (!forget).then(|| self.writes.into());
        let sent = format!("bot/{name}/{}/{}", entry.event_name(), self.writes);
        let effect = Handled {
            sends: vec![NewDelivery { bot: Some(entry.bot.clone()), ..message(&sent) }],
            wakes: wake
                .map(|w| (format!("w{}", w % 3), self.now + secs(w.into())))
                .into_iter()
                .collect(),
            cancels: if cancel { vec!["w0".into(), "w1".into()] } else { Vec::new() },
            memory: vec![MemoryWrite { key: "m".into(), value, based_on: Some(based_on) }],
            ..self.bench.handled(&entry, self.now)
        };
        let wakes = effect.wakes.clone();
        let outcome = self.bench.commit(effect);
        let present = match self.memory.get(&name) {
            None => Seen::Absent,
            Some((_, version)) => Seen::Version(*version),
        };
        let runs = self.runs(&entry);
        let kept = runs && based_on == present;
        assert_eq!(matches!(outcome, HandledOutcome::Committed(_)), kept, "{outcome:?}");
        let known = self.entries.get_mut(&(name.clone(), entry.event)).unwrap();
        if !kept {
            if runs {
                known.state = State::Waiting;
                known.tries -= 1;
                known.due = self.now;
                known.suspect = false;
                known.reason = None;
            }
            return;
        }
        known.state = State::Ended(EventOutcome::Handled);
        known.suspect = false;
        known.reason = None;
        self.sent.insert(sent);
        if cancel {
            self.wakes.remove(&(name.clone(), "w0".into()));
            self.wakes.remove(&(name.clone(), "w1".into()));
        }
        for (key, at) in wakes {
            self.wakes.insert((name.clone(), key), at);
        }
        let now = run(self.bench.store.remembered(&entry.bot, &widget("w"), "m"));
        match now {
            None => {
                assert!(forget);
                self.memory.remove(&name);
            }
            Some((value, version)) => {
                assert_eq!(value, self.writes);
                assert!(self.versions.insert(version), "a version is used twice");
                self.memory.insert(name, (self.writes, version));
            }
        }
    }

    fn fail(&mut self, n: usize, wait: Option<u8>) {
        let entry = self.handed[n].0.clone();
        let retry_at = wait.map(|seconds| self.now + secs(seconds.into()));
        run(self.bench.store.fail_event(&entry, self.now, "error", retry_at));
        if self.runs(&entry) {
            let known = self.entries.get_mut(&(entry.bot.to_string(), entry.event)).unwrap();
            known.suspect = false;
            known.reason = Some("error".into());
            match retry_at {
                Some(at) => {
                    known.state = State::Waiting;
                    known.due = at;
                }
                None => known.state = State::Ended(EventOutcome::Poisoned),
            }
        }
    }

    fn ring(&mut self) {
        let (rung, next) = run(self.bench.store.fire_wakes(self.now));
        let now = self.now;
        let mut due: Vec<_> = self
            .wakes
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(key, at)| (*at, key.clone()))
            .collect();
        due.sort();
        self.wakes.retain(|_, at| *at > now);
        assert_eq!((rung, next), (due.len() as u64, self.wakes.values().min().copied()));
        // One event each, in this order; the store has given them ascending numbers.
        let before: BTreeSet<Key> = self.entries.keys().cloned().collect();
        self.find_new("timer");
        let mut new: Vec<Key> =
            self.entries.keys().filter(|key| !before.contains(*key)).cloned().collect();
        new.sort_by_key(|(_, event)| *event);
        assert_eq!(new.len(), due.len());
        for (key, (_, (bot, wake))) in new.into_iter().zip(due) {
            assert_eq!(key.0, bot);
            self.entries.get_mut(&key).unwrap().lane = format!("timer/{wake}");
        }
    }

    fn stop(&mut self, killed: bool) {
        if !killed {
            run(self.bench.store.end(self.bench.incarnation, self.now));
        }
        let begun = self.bench.kill(self.now);
        let mut interrupted = 0;
        let calm = self.now + crate::lifecycle::SUSPECTS_WAIT;
        let waits = |entry: &&mut Entry| entry.suspect && entry.state == State::Waiting;
        for entry in self.entries.values_mut().filter(waits).filter(|_| killed) {
            entry.due = entry.due.max(calm);
        }
        for entry in self.entries.values_mut().filter(|entry| entry.state == State::Running) {
            entry.state = State::Waiting;
            entry.due = self.now;
            if killed {
                entry.suspect = true;
                entry.due = calm;
                interrupted += 1;
            } else {
                entry.tries -= 1;
            }
        }
        assert_eq!((begun.after_crash, begun.interrupted_events), (killed, interrupted));
        // Nobody of the last run is there any more to commit anything.
        self.handed.clear();
    }

    fn revive(&mut self, which: usize) {
        let poisoned: Vec<Key> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.state == State::Ended(EventOutcome::Poisoned))
            .map(|(key, _)| key.clone())
            .collect();
        if poisoned.is_empty() {
            return;
        }
        let key = &poisoned[which % poisoned.len()];
        if !self.present.contains(&key.0) {
            return;
        }
        assert!(run(self.bench.store.retry_event(self.now, &format!("e{}/{}", key.1, key.0))));
        let entry = self.entries.get_mut(key).unwrap();
        entry.state = State::Waiting;
        entry.tries = 0;
        entry.due = self.now;
        entry.reason = None;
        self.handed.retain(|(handed, _)| (handed.bot.as_str(), handed.event) != (&key.0, key.1));
    }

    fn adopt(&mut self, bots: &[&str]) {
        self.bench.adopt(self.now, bots);
        self.present = bots.iter().map(|bot| (*bot).to_owned()).collect();
        for ((bot, _), entry) in &mut self.entries {
            let alive = matches!(entry.state, State::Waiting | State::Running);
            if alive && !self.present.contains(bot) {
                entry.state = State::Ended(EventOutcome::Ignored);
                entry.suspect = false;
                entry.reason = Some("bot_removed".into());
            }
        }
        self.wakes.retain(|(bot, _), _| self.present.contains(bot));
    }

    fn check(&mut self) {
        let records = run(self.bench.store.events(false, 10_000));
        assert_eq!(records.len(), self.entries.len());
        let mut present = BTreeMap::new();
        for record in records {
            let (event, bot) = record.id.split_once('/').unwrap();
            let entry = &self.entries[&(bot.to_owned(), event[1..].parse().unwrap())];
            let outcome = match entry.state {
                State::Ended(outcome) => Some(outcome),
                _ => None,
            };
            assert_eq!((record.outcome, record.tries), (outcome, entry.tries), "{record:?}");
            assert_eq!(record.reason, entry.reason, "{record:?}");
            present.insert(record.id.clone(), record);
        }
        for line in run(self.bench.store.ledger(self.ledger, 10_000)) {
            assert!(line.seq > self.ledger);
            self.ledger = line.seq;
            if let Line::Event(record) = line.line {
                self.told.insert(record.id.clone(), record);
            }
        }
        for (id, record) in &present {
            match self.told.get(id) {
                Some(told) if record.outcome.is_some() => assert_eq!(told, record),
                Some(told) => assert_eq!(told.outcome, None, "it was revived"),
                None => assert_eq!(record.outcome, None, "every end is told"),
            }
        }
        let waiting = present.values().filter(|record| record.outcome.is_none()).count();
        assert_eq!(run(self.bench.store.tally()).events_waiting, waiting as u64);
    }

    /// Every bot is told everything, and nothing of what was not kept was sent.
    fn finish(&mut self) {
        self.adopt(&BOTS);
        for name in BOTS {
            run(self.bench.store.pause(self.now, &PauseScope::Bot(bot(name)), false));
        }
        self.paused.clear();
        self.now = self.now + secs(100);
        self.ring();
        let mut rounds = 0;
        loop {
            for n in 0..self.handed.len() {
                let entry = self.handed[n].0.clone();
                if self.runs(&entry) {
                    self.fail(n, None);
                }
            }
            self.handed.clear();
            self.claim(&[2, 2, 2]);
            if self.handed.is_empty() {
                break;
            }
            rounds += 1;
            assert!(rounds < 1_000, "there is no end");
        }
        self.check();
        assert!(self.entries.values().all(|entry| matches!(entry.state, State::Ended(_))));
        let sent = run(self.bench.store.deliveries(&crate::DeliveryFilter::default()));
        let sent: BTreeSet<String> = sent.into_iter().map(|delivery| delivery.key).collect();
        assert_eq!(sent, self.sent);
    }
}

pub fn any_sequence_of_verbs_tells_every_bot_everything_in_order(backend: &dyn Backend) {
    let config = Config {
        cases: backend.sequences(),
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..Config::default()
    };
    let ops = prop::collection::vec(op(), 40..140);
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
