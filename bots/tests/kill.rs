//! `kill -9`, again and again, in the middle of everything: whatever was promised is kept, and
//! nothing is said twice.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]
#![allow(clippy::disallowed_methods, reason = "another process takes real time")]
#![allow(clippy::print_stdout, reason = "what was measured is told")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use imbabot_bot::{DeliveryId, Policy};
use imbabot_core::Timestamp;
use imbabot_simulator::Options;
use imbabot_store::{DeliveryState, Line, OccurrenceOutcome};
use support::{Chat, Home, Rng, assert_holds, now_micros, present, wait_until};

/// Rooms that are there from the start: enough that no cycle's new ones are a mass change.
const ROOMS: usize = 40;

fn configuration(rooms: &[i64]) -> String {
    format!(
        r#"
[poll]
rooms = "100ms"

[delivery]
rate = "1000/s"
rate_per_room = "1000/s"
settle = "300ms"
timeout = "2s"
backoff = {{ min = "10ms", max = "100ms" }}

[limits]
per_bot = "1000000/h"

[[bot]]
name = "greeter"
kind = "greeter"
settings = {{ greeting = "Welcome to {{{{ room.name }}}}!" }}

[[schedule]]
id = "once"
every = "1s"
rooms = {{ ids = {rooms:?} }}
text = "{{{{ occurrence.id }}}} in {{{{ room.id }}}}"
policy = "at_most_once"

[[schedule]]
id = "often"
every = "1s"
rooms = {{ name = "^Team" }}
text = "{{{{ occurrence.id }}}} in {{{{ room.id }}}}"
policy = "at_least_once"
"#
    )
}

/// A `send` in a process of its own, which may be killed too.
struct Sender {
    child: Child,
    key: usize,
    kill_at: Option<Instant>,
}

/// A start that takes longer has failed.
const NEVER_READY: Duration = Duration::from_secs(10);

/// What one run of cycles has gathered.
struct Storm {
    chat: Chat,
    home: Home,
    rng: Rng,
    rooms: Vec<i64>,
    opened: BTreeMap<i64, String>,
    senders: Vec<Sender>,
    sent: usize,
    accepted: Vec<(usize, DeliveryId)>,
    first_poll: Vec<Duration>,
    ready: Vec<Duration>,
}

impl Storm {
    fn begin() -> Self {
        let rng = Rng::new();
        let chat = Chat::with(Options { latency_micros: 3_000, ..Options::default() });
        chat.populate(ROOMS);
        let rooms: Vec<i64> = (1..=12).map(|n| chat.open_room(&format!("Team {n}"))).collect();
        let home = Home::at(&chat, &configuration(&rooms));
        Self {
            chat,
            home,
            rng,
            rooms,
            opened: BTreeMap::new(),
            senders: Vec::new(),
            sent: 0,
            accepted: Vec::new(),
            first_poll: Vec::new(),
            ready: Vec::new(),
        }
    }

    fn faults(&self) {
        for spec in [
            "send_msg:apply-then-close:p=0.04",
            "send_msg:apply-then-close=rst:p=0.02",
            "send_msg:close:p=0.03",
            "send_msg:close-unread=rst:p=0.02",
            "send_msg:refuse:p=0.02",
            "send_msg:status=502:applied:p=0.02",
            "send_msg:status=503:p=0.02",
            "send_msg:late=40ms:p=0.3",
            "get_rooms:truncate=400:p=0.05",
            "get_rooms:status=502:p=0.03",
        ] {
            self.chat.fault(spec);
        }
    }

    fn open_room(&mut self) {
        let name = format!("Opened {}", self.opened.len());
        let room = self.chat.open_room(&name);
        self.opened.insert(room, name);
    }

    fn send(&mut self) {
        let key = self.sent;
        self.sent += 1;
        let room = self.rng.pick(&self.rooms).to_string();
        let policy = self.rng.pick(&["at_most_once", "at_least_once"]);
        let (key_text, text) = (format!("k{key}"), format!("by hand {key}"));
        let mut command = self
            .home
            .command(&["send", "--room", &room, "--key", &key_text, "--policy", policy, &text]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let dies = self.rng.once_in(3);
        let kill_at = dies.then(|| Instant::now() + self.rng.millis(5, 120));
        self.senders.push(Sender { child, key, kill_at });
    }

    /// Collects `send`s that have ended, and kills those whose time has come.
    fn look_after_senders(&mut self) {
        let mut running = Vec::new();
        for mut sender in self.senders.drain(..) {
            if sender.kill_at.is_some_and(|at| at <= Instant::now()) {
                sender.child.kill().unwrap();
                sender.kill_at = None;
            }
            if sender.child.try_wait().unwrap().is_none() {
                running.push(sender);
                continue;
            }
            let output = sender.child.wait_with_output().unwrap();
            let printed = String::from_utf8(output.stdout).unwrap();
            match output.status.code() {
                Some(0 | 12) | None => {
                    // An id that was printed is a promise, however the process ended.
                    let id = printed.strip_suffix('\n').map(|id| id.parse().unwrap());
                    assert!(output.status.code().is_none() || id.is_some(), "no id: {printed:?}");
                    self.accepted.extend(id.map(|id| (sender.key, id)));
                }
                other => panic!("send k{} ended with {other:?}", sender.key),
            }
        }
        self.senders = running;
    }

    /// One life of the daemon; `at_least_ready` is not over before it was ready once.
    fn cycle(&mut self, mut to_live: Duration, at_least_ready: bool) {
        let spawned = now_micros();
        let seen = self.chat.log().len();
        let daemon = self.home.start();
        let mut opens: Vec<Duration> =
            (0..self.rng.within(2, 8)).map(|_| self.rng.millis(0, 300)).collect();
        let mut send_at = self.rng.once_in(3).then(|| self.rng.millis(0, 250));
        let mut ready = None;
        if at_least_ready {
            to_live = to_live.max(NEVER_READY);
        }
        while daemon.age() < to_live {
            let age = daemon.age();
            let due = opens.iter().filter(|at| **at <= age).count();
            opens.retain(|at| *at > age);
            (0..due).for_each(|_| self.open_room());
            if send_at.is_some_and(|at| at <= age) {
                send_at = None;
                self.send();
            }
            self.look_after_senders();
            if ready.is_none() && daemon.http().is_ready() {
                ready = Some(daemon.age());
                if at_least_ready {
                    to_live = daemon.age() + self.rng.millis(0, 250);
                }
            }
            std::thread::sleep(Duration::from_millis(4).min(to_live.saturating_sub(daemon.age())));
        }
        if ready.is_none() && at_least_ready {
            let reasons = daemon.http().get("/readyz").map(|page| page.body);
            let status = daemon.http().get("/api/status").map(|page| page.body);
            panic!("not ready within {NEVER_READY:?}: {reasons:?}\n{status:?}\n{}", daemon.log());
        }
        daemon.kill();
        self.ready.extend(ready);
        let first = self.chat.log().into_iter().skip(seen).find(|entry| {
            entry.endpoint.is_some_and(|e| e.name() == "get_rooms") && entry.at >= spawned
        });
        self.first_poll
            .extend(first.map(|first| Duration::from_micros((first.at - spawned).unsigned_abs())));
    }

    /// Nothing is on its way any more.
    fn is_quiet(&self) -> bool {
        let deliveries = self.home.deliveries();
        let greeted = |room: &i64| {
            deliveries.iter().any(|d| d.bot.is_some() && d.room.0 == room.unsigned_abs())
        };
        self.opened.keys().all(greeted)
            && deliveries.iter().all(|d| match d.state {
                DeliveryState::Queued | DeliveryState::Sending => false,
                DeliveryState::Unknown => d.policy == Policy::AtMostOnce,
                _ => true,
            })
    }
}

fn quantiles(mut of: Vec<Duration>) -> String {
    if of.is_empty() {
        return "none seen".into();
    }
    of.sort_unstable();
    let at = |q: usize| of[(of.len() - 1) * q / 100];
    let (count, most) = (of.len(), at(100));
    format!("{count} seen, median {:?}, p95 {:?}, p99 {:?}, most {most:?}", at(50), at(95), at(99))
}

/// Every other life lasts until the daemon is ready, so that slow starts are not left out of the
/// measure by being killed.
fn storm(cycles: u32) -> Vec<Duration> {
    let mut storm = Storm::begin();
    // The first look is a baseline: rooms that are opened before it are not greeted.
    let daemon = storm.home.ready();
    let first_tick = now_micros() / 1_000_000 + 1;
    wait_until("the first occurrence", || now_micros() / 1_000_000 > first_tick);
    daemon.kill();
    storm.faults();

    let begun = Instant::now();
    for cycle in 0..cycles {
        let to_live = storm.rng.millis(20, 400);
        let known = storm.ready.len();
        storm.cycle(to_live, cycle % 2 == 0);
        if cycle % 2 == 1 {
            storm.ready.truncate(known);
        }
    }
    println!("{cycles} kills in {:?}", begun.elapsed());

    // A quiet end: the faults are over, the senders end, everything due is said.
    storm.chat.faults().clear();
    let daemon = storm.home.ready();
    println!("the last start was ready after {:?}", daemon.age());
    wait_until("every send ends", || {
        storm.look_after_senders();
        storm.senders.is_empty()
    });
    let last_tick = now_micros() / 1_000_000;
    storm.home.imbabot(&["schedules", "pause", "once"]).expect(0);
    storm.home.imbabot(&["schedules", "pause", "often"]).expect(0);
    wait_until("quiescence", || storm.is_quiet());
    daemon.stop();

    let ledger = storm.home.ledger();
    let ticks = || (first_tick..=last_tick).map(Timestamp::from_seconds);
    let check = storm
        .home
        .check(&storm.chat)
        .expected("once", ticks())
        .expected("often", ticks())
        .accepted(storm.accepted.iter().map(|(_, id)| *id))
        .quiescent();
    assert_holds(&check);

    let deliveries = present(&ledger);
    for (room, name) in &storm.opened {
        let greetings: Vec<_> = deliveries
            .iter()
            .filter(|d| d.bot.is_some() && d.room.0 == room.unsigned_abs())
            .collect();
        assert_eq!(greetings.len(), 1, "room {room} was greeted by {greetings:?}");
        assert!(storm.chat.texts(*room).len() <= 1, "{:?}", storm.chat.texts(*room));
        let expected = format!("Welcome to {name}!");
        assert_eq!(greetings[0].text.as_deref(), Some(expected.as_str()));
    }
    for (key, id) in &storm.accepted {
        let record = deliveries.iter().find(|d| d.id == *id).unwrap();
        assert_eq!(record.key, format!("cli/k{key}"));
    }
    let fired: BTreeSet<&str> = ledger
        .iter()
        .filter_map(|line| match &line.line {
            Line::Occurrence(o) if o.outcome == OccurrenceOutcome::Fired => Some(o.id.as_str()),
            _ => None,
        })
        .collect();
    let unknown = deliveries.iter().filter(|d| d.state == DeliveryState::Unknown).count();
    let doubled = deliveries.iter().filter(|d| d.possible_duplicate).count();
    println!(
        "{} rooms greeted, {} of {} sends accepted, {} occurrences, {} deliveries: {unknown} \
         unknown, {doubled} possible duplicates; {} requests seen, {} ledger lines",
        storm.opened.len(),
        storm.accepted.len(),
        storm.sent,
        fired.len(),
        deliveries.len(),
        storm.chat.log().len(),
        ledger.len(),
    );
    let died: BTreeSet<String> = ledger
        .iter()
        .filter_map(|line| match &line.line {
            Line::Attempt(a) if a.code.as_deref() == Some("process_died") => {
                Some(format!("{} {}", a.delivery, a.n))
            }
            _ => None,
        })
        .collect();
    let applied = storm.chat.log().into_iter().filter(|entry| entry.applied).filter(|entry| {
        let (Some(id), Some(n)) = (&entry.delivery, &entry.attempt) else { return false };
        died.contains(&format!("{id} {n}"))
    });
    println!(
        "{} attempts died with their process, {} of them were applied",
        died.len(),
        applied.count()
    );
    println!("spawn to first poll: {}", quantiles(storm.first_poll));
    println!("spawn to ready: {}", quantiles(storm.ready.clone()));
    storm.home.imbabot(&["ledger", "verify"]).expect(0);
    storm.ready.sort_unstable();
    storm.ready
}

#[test]
fn kill_nine_at_random_moments_loses_and_doubles_nothing() {
    storm(100);
}

#[test]
#[ignore = "takes ten minutes"]
fn kill_nine_a_thousand_times_loses_and_doubles_nothing() {
    let ready = storm(1_000);
    let p99 = ready[(ready.len() - 1) * 99 / 100];
    assert!(p99 <= Duration::from_secs(1), "p99 of recovery is {p99:?}");
}

#[test]
fn a_kill_in_the_first_moments_leaves_a_store_that_opens_or_none() {
    let chat = Chat::open();
    let room = chat.open_room("Team 1").to_string();
    let mut rng = Rng::new();
    for _ in 0..20 {
        let home = Home::at(&chat, "");
        for _ in 0..3 {
            let daemon = home.start();
            let to_live = rng.millis(0, 40);
            std::thread::sleep(to_live);
            daemon.kill();
        }
        // The exit code of a store that is damaged, lost or half made would be another.
        home.imbabot(&["send", "--room", &room, "--wait", "10s", "hello"]).expect(0);
        home.imbabot(&["ledger", "verify"]).expect(0);
    }
}
