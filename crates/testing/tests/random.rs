//! Random histories of messages, faults, kills and operators: whatever happens, no message is there
//! twice under `at_most_once`, and none is missing under `at_least_once` once the server is well.
//!
//! A failure prints its seed; `IMBABOT_TEST_SEED=… cargo test -p imbabot-testing --test random` runs
//! that history again.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "these are tests")]

#[path = "../src/random.rs"]
mod random;

use std::collections::{BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use futures_executor::block_on;
use imbabot_bot::{DeliveryId, Policy};
use imbabot_core::RoomId;
use imbabot_scheduler::{Clock, Rate};
use imbabot_store::{
    Born, Class, DeliveryFilter, DeliveryRecord, DeliveryState, Line, NewDelivery, PauseScope,
    Resolution,
};
use imbabot_testing::World;
use random::Random;

/// Operations of one history.
const STEPS: u32 = 500;
/// Histories per test; there are four such tests, so 100,000 steps in all.
const HISTORIES: u64 = 50;
const ROOMS: u64 = 6;

/// What can go wrong with a message, from harmless to malicious.
const SEND_FAULTS: [&str; 30] = [
    "refuse:times=3",
    "blackhole",
    "close-unread",
    "close",
    "close=rst:times=4",
    "apply-then-close",
    "apply-then-close=rst:times=3",
    "silent",
    "apply-then-silent",
    "status=500",
    "status=502:times=5",
    "status=503:retry-after=7:applied",
    "status=504:applied",
    "status=408:applied",
    "status=429:retry-after=3",
    "status=302:location=https\\://elsewhere/:applied",
    "body=@html:applied",
    "body=@empty:applied",
    "body=@die",
    "code=500:applied",
    "code=429",
    "interim=103",
    "not-http=nonsense",
    "late=30s",
    "late=5s:times=3",
    "slow=2B/s",
    "truncate=40",
    "stall=10",
    "no-id",
    "wrong-room=9",
];

/// Refused for good: such a message ends as dead(rejected), whatever its policy.
const REFUSALS: [&str; 3] = ["status=422", "code=404", "status=413"];

const POLL_FAULTS: [&str; 8] = [
    "refuse:times=3",
    "status=502:times=4",
    "list=empty",
    "truncate=120",
    "list=half",
    "body=@html",
    "late=10s",
    "close",
];

struct History {
    world: World,
    random: Random,
    rooms: Vec<RoomId>,
    written: u64,
    down: bool,
    paused: bool,
    /// An operator accepted that these may be there twice.
    accepted: BTreeSet<DeliveryId>,
}

impl History {
    fn begin(seed: u64) -> Self {
        let mut world = World::new("2026-03-02T10:00:00Z".parse().unwrap());
        let settings = world.settings();
        settings.delivery.rate = Rate::new(5, Duration::from_secs(1));
        settings.delivery.rate_per_room = Rate::new(2, Duration::from_secs(1));
        settings.delivery.settle.max_resends = u32::MAX;
        settings.delivery.settle.unresolved_after = Duration::from_secs(100 * 86_400);
        settings.poll.rooms = Duration::from_secs(20);
        world.simulator.populate(usize::try_from(ROOMS).unwrap());
        let rooms = world.simulator.rooms();
        let rooms = rooms.iter().map(|room| RoomId(room.id.unsigned_abs())).collect();
        world.start();
        let accepted = BTreeSet::new();
        Self {
            world,
            random: Random(seed),
            rooms,
            written: 0,
            down: false,
            paused: false,
            accepted,
        }
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..=34 => self.write(),
            35..=49 => {
                let fault = self.random.pick(&SEND_FAULTS);
                self.fault("send_msg", fault);
            }
            50..=51 => {
                let fault = self.random.pick(&REFUSALS);
                self.fault("send_msg", fault);
            }
            52..=55 => {
                let fault = self.random.pick(&POLL_FAULTS);
                self.fault("get_rooms", fault);
            }
            56..=79 => {
                let length = self.random.millis(0, 3_000);
                self.world.advance(length);
            }
            80..=86 => {
                let length = self.random.millis(10_000, 90_000);
                self.world.advance(length);
            }
            87..=89 => {
                self.world.crash();
                let length = self.random.millis(0, 20_000);
                self.world.clock.advance(length);
                self.world.start();
            }
            90 => {
                self.world.stop(Duration::from_secs(25));
                self.world.start();
            }
            91..=93 => {
                self.down = !self.down;
                self.world.simulator.server_down(self.down);
            }
            94..=95 => self.pause(!self.paused),
            96 => self.world.reload(),
            97 => self.resolve(),
            98 => self.retry(),
            _ => self.world.poll(),
        }
    }

    fn fault(&mut self, endpoint: &str, fault: &str) {
        self.world.simulator.faults().push_spec(&format!("{endpoint}:{fault}")).unwrap();
    }

    fn write(&mut self) {
        self.written += 1;
        let n = self.written;
        let now = self.world.clock.now();
        let room = usize::try_from(self.random.below(ROOMS)).unwrap();
        let insistent = self.random.below(2) == 0;
        let keeps = if self.random.below(8) == 0 { 20 } else { 50 * 86_400 };
        let later = self.random.below(6) == 0;
        let message = NewDelivery {
            key: format!("cli/{n}"),
            widget: "main".parse().unwrap(),
            room: self.rooms[room],
            sender: (1 + self.random.below(2)).into(),
            bot: None,
            event: None,
            occurrence: None,
            schedule: None,
            policy: if insistent { Policy::AtLeastOnce } else { Policy::AtMostOnce },
            text: format!("message {n}"),
            not_before: later.then(|| now + self.random.millis(0, 60_000)),
            expires_at: now + Duration::from_secs(keeps),
            born: Born::Queued,
            detail: None,
            report: false,
        };
        block_on(self.world.store().enqueue(now, vec![message])).unwrap();
        if let Some(engine) = self.world.engine() {
            engine.wake();
        }
        self.world.step();
    }

    fn pause(&mut self, paused: bool) {
        let now = self.world.clock.now();
        block_on(self.world.store().pause(now, &PauseScope::All, paused)).unwrap();
        self.paused = paused;
        if let Some(engine) = self.world.engine() {
            engine.wake();
        }
        self.world.step();
    }

    fn deliveries(&self, state: Option<DeliveryState>) -> Vec<DeliveryRecord> {
        let filter = DeliveryFilter { state, ..DeliveryFilter::default() };
        block_on(self.world.store().deliveries(&filter)).unwrap()
    }

    /// An operator looks into the room and says what is there.
    fn resolve(&mut self) {
        let unknown = self.deliveries(Some(DeliveryState::Unknown));
        let Some(delivery) = unknown.first() else { return };
        let there = applied(&self.world).contains_key(&delivery.id.to_string());
        if delivery.policy == Policy::AtLeastOnce && !there {
            return;
        }
        let resolution = if there { Resolution::Delivered } else { Resolution::Dead };
        let now = self.world.clock.now();
        block_on(self.world.store().resolve(now, delivery.id, resolution)).unwrap();
    }

    fn retry(&mut self) {
        let unknown = self.deliveries(Some(DeliveryState::Unknown));
        let Some(delivery) = unknown.last() else { return };
        let now = self.world.clock.now();
        block_on(self.world.store().retry(now, delivery.id, true)).unwrap();
        self.accepted.insert(delivery.id);
    }

    /// The server is well again and everything has the time to come to its end.
    fn end(&mut self) {
        self.world.simulator.faults().clear();
        self.world.simulator.server_down(false);
        self.pause(false);
        self.world.advance(Duration::from_secs(600));
        let left = self.deliveries(Some(DeliveryState::Queued)).len()
            + self.deliveries(Some(DeliveryState::Sending)).len();
        assert_eq!(left, 0, "something still waits ten minutes after all was well");
        self.world.check();
        let lines = self.world.ledger().into_iter();
        let refused: BTreeSet<DeliveryId> = lines
            .filter_map(|line| match line.line {
                Line::Attempt(a) if a.class == Some(Class::Rejected) => Some(a.delivery),
                _ => None,
            })
            .collect();
        let times = applied(&self.world);
        for delivery in self.deliveries(None) {
            let times = times.get(&delivery.id.to_string()).copied().unwrap_or(0);
            let reason = delivery.reason.as_deref().unwrap_or_default();
            if delivery.policy == Policy::AtMostOnce && !self.accepted.contains(&delivery.id) {
                assert!(times <= 1, "{} is there {times} times", delivery.id);
            }
            let excused = ["rejected", "expired", "unresolved"].contains(&reason);
            if delivery.policy == Policy::AtLeastOnce && !excused {
                assert!(times >= 1, "{} is {} and not there", delivery.id, delivery.state);
            }
            // In doubt at its expiry, or refused for good after a doubt: an insistent one ends
            // unresolved in no other way.
            if reason == "unresolved" && delivery.policy == Policy::AtLeastOnce {
                let expired = delivery.expires_at <= self.world.clock.now();
                assert!(expired || refused.contains(&delivery.id), "{} gave up", delivery.id);
            }
        }
    }
}

/// How often each delivery is there, by what the server did.
fn applied(world: &World) -> HashMap<String, usize> {
    let mut times = HashMap::new();
    for entry in world.simulator.log() {
        if let (true, Some(delivery)) = (entry.applied, entry.delivery) {
            *times.entry(delivery).or_default() += 1;
        }
    }
    times
}

fn run(seed: u64) {
    let mut history = History::begin(seed);
    for step in 1..=STEPS {
        history.step();
        if step % 250 == 0 {
            history.world.check();
        }
    }
    history.end();
}

/// Histories from this seed on; which one fails is said.
fn histories(first: u64) {
    if let Ok(seed) = std::env::var("IMBABOT_TEST_SEED") {
        run(seed.parse().unwrap());
        return;
    }
    for seed in first..first + HISTORIES {
        let history = catch_unwind(AssertUnwindSafe(|| run(seed)));
        if let Err(panic) = history {
            println!("IMBABOT_TEST_SEED={seed} shows it again");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn whatever_happens_nothing_is_doubled_and_nothing_lost_1() {
    histories(0);
}

#[test]
fn whatever_happens_nothing_is_doubled_and_nothing_lost_2() {
    histories(1_000);
}

#[test]
fn whatever_happens_nothing_is_doubled_and_nothing_lost_3() {
    histories(2_000);
}

#[test]
fn whatever_happens_nothing_is_doubled_and_nothing_lost_4() {
    histories(3_000);
}
