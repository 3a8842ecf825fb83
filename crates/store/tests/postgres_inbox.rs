//! Bots of several instances on one PostgreSQL: each entry handled once, lanes in order, limits and
//! memory held together, whoever handles what.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this is a test suite")]

mod postgres_support;

use std::collections::BTreeSet;
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use futures_executor::block_on;
use imbabot_bot::{BotName, MemoryWrite, Policy, RoomChange, Seen, WidgetName};
use imbabot_core::{Room, RoomId, Timestamp};
use imbabot_store::{
    Begun, Bodies, Born, DeadReason, ErrorKind, EventBody, EventClaim, EventEntry, Fleet, Handled,
    HandledOutcome, Inbox, Lifecycle, ListKind, NewDelivery, NewEvent, Operations, PollCommit,
    PostgresStore, SendLimits, Settle, Snapshots, Unit,
};
use postgres_support::{Database, database};

const RULES: Settle = Settle {
    wait: Duration::from_secs(60),
    max_resends: 2,
    unresolved_after: Duration::from_secs(86_400),
};

const HOUR: Duration = Duration::from_secs(3_600);
const LIMITS: SendLimits =
    SendLimits { per_event: 50, per_bot: (1_000, HOUR), per_bot_and_room: (1_000, HOUR) };

/// Until a short lease has run out.
#[expect(clippy::disallowed_methods, reason = "leases go by the clock of the database")]
fn out_of_touch() {
    std::thread::sleep(2 * SHORT);
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(1_772_323_200_000_000 + seconds * 1_000_000)
}

fn bot() -> BotName {
    "b".parse().unwrap()
}

fn widget(name: &str) -> WidgetName {
    name.parse().unwrap()
}

/// Instances on one schema.
struct Schema {
    database: &'static Database,
    name: String,
}

type Instance = (Arc<PostgresStore>, Begun);

impl Schema {
    /// One more instance, begun at `now`. The first one that is made drops the schema with it.
    fn instance(&self, lease: Duration, now: Timestamp, first: bool) -> Instance {
        let store = self.database.connect(&self.name, Bodies::Full, lease);
        let store = if first { store.temporary(&self.name) } else { store };
        block_on(store.adopt_bots(now, &[bot()])).unwrap();
        let begun = block_on(store.begin(now, "1", RULES)).unwrap();
        (Arc::new(store), begun)
    }

    fn next(&self, now: Timestamp) -> Instance {
        self.instance(LONG, now, false)
    }
}

/// A new schema with one instance.
fn one_instance(lease: Duration) -> Option<(Schema, Instance)> {
    let database = database()?;
    let schema = Schema { database, name: database.name() };
    let first = schema.instance(lease, at(0), true);
    Some((schema, first))
}

/// A new schema with two.
fn two_instances() -> Option<[Instance; 2]> {
    let (schema, first) = one_instance(LONG)?;
    let second = schema.next(at(0));
    Some([first, second])
}

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(50);

/// Tells bot `b` that these rooms of a widget were opened, in this order.
fn tell(store: &PostgresStore, name: &str, rooms: impl IntoIterator<Item = u64>) {
    let opened = |room| NewEvent {
        widget: widget(name),
        at: at(0),
        body: EventBody::Room {
            change: RoomChange::Opened,
            room: Box::new(Room::new(RoomId(room), "r")),
            before: None,
        },
        recipients: vec![bot()],
    };
    let poll = PollCommit {
        widget: widget(name),
        list: ListKind::Rooms,
        now: at(0),
        changes: Vec::new(),
        events: rooms.into_iter().map(opened).collect(),
        last: false,
    };
    block_on(store.commit_poll(poll)).unwrap();
}

fn claim(store: &PostgresStore, now: Timestamp, slots: usize) -> Vec<EventEntry> {
    let claim = EventClaim { now, free: vec![(bot(), slots)], ahead: Vec::new() };
    block_on(store.claim_events(claim)).unwrap().0
}

fn handled(entry: &EventEntry, now: Timestamp) -> Handled {
    Handled {
        entry: entry.clone(),
        now,
        sends: Vec::new(),
        wakes: Vec::new(),
        cancels: Vec::new(),
        memory: Vec::new(),
        limits: LIMITS,
    }
}

fn handle(store: &PostgresStore, entry: &EventEntry, now: Timestamp) {
    let outcome = block_on(store.commit_handled(handled(entry, now))).unwrap();
    assert_eq!(outcome, HandledOutcome::Committed(Vec::new()));
}

fn room(entry: &EventEntry) -> u64 {
    entry.body.room().unwrap().0
}

#[test]
fn no_entry_is_handled_twice_and_lanes_keep_their_order_with_two_who_claim() {
    let Some(stores) = two_instances() else { return };
    const ROOMS: u64 = 4;
    const EACH: u64 = 15;
    tell(&stores[0].0, "w", (0..ROOMS * EACH).map(|n| 1 + n % ROOMS));
    let log = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for (store, _) in &stores {
            scope.spawn(|| {
                let mut idle = 0;
                while idle < 20 {
                    let entries = claim(store, at(1), 3);
                    idle = if entries.is_empty() { idle + 1 } else { 0 };
                    for entry in &entries {
                        // Before its end is told: what comes after it in its lane is claimed later.
                        log.lock().unwrap().push((room(entry), entry.event));
                        handle(store, entry, at(1));
                    }
                }
            });
        }
    });
    let log = log.into_inner().unwrap();
    let events: BTreeSet<i64> = log.iter().map(|(_, event)| *event).collect();
    assert_eq!((log.len(), events.len()), (60, 60), "each once");
    for of in 1..=ROOMS {
        let lane: Vec<i64> = log.iter().filter(|(room, _)| *room == of).map(|l| l.1).collect();
        assert!(lane.is_sorted(), "room {of}: {lane:?}");
    }
}

#[test]
fn what_belongs_to_a_widget_of_another_run_is_not_handed_out() {
    let Some([(first, one), (second, two)]) = two_instances() else { return };
    let units = [Unit::Widget(widget("w"))];
    block_on(first.heartbeat(one.incarnation, &units, RULES)).unwrap();
    block_on(second.heartbeat(two.incarnation, &units, RULES)).unwrap();
    // More of them than are looked at one by one, in one room and in many.
    tell(&first, "w", [1; 40].into_iter().chain(1..=40));
    assert!(claim(&second, at(1), 9).is_empty());
    tell(&first, "x", [7]);
    let found = claim(&second, at(1), 9);
    assert_eq!(found.iter().map(|entry| entry.widget.as_str()).collect::<Vec<_>>(), ["x"]);
    let own = claim(&first, at(1), 9);
    assert_eq!(own.len(), 9);
    block_on(first.end(one.incarnation, at(2))).unwrap();
    let taken = claim(&second, at(2), 99);
    assert_eq!(taken.len(), 40, "nobody owns it any more");
    assert!(taken.iter().all(|entry| entry.tries == 1), "a stop gives tries back");
}

#[test]
fn a_handler_of_a_run_that_was_ended_keeps_nothing_and_its_entry_runs_again_elsewhere() {
    let Some((schema, (first, _))) = one_instance(SHORT) else { return };
    tell(&first, "w", [1, 2]);
    let entries = claim(&first, at(1), 2);
    out_of_touch();
    let (other, begun) = schema.next(at(2));
    assert!(begun.after_crash);
    assert_eq!(begun.interrupted_events, 2);
    let late = [
        block_on(first.commit_handled(handled(&entries[0], at(3)))).map(drop),
        block_on(first.fail_event(&entries[0], at(3), "late", None)),
        block_on(first.give_back(&entries[0], at(3))),
        block_on(first.release_running(at(3))),
    ];
    for refused in late {
        assert_eq!(*refused.unwrap_err().kind(), ErrorKind::Fenced);
    }
    assert!(claim(&other, at(2), 9).is_empty(), "suspects wait a moment");
    for entry in &entries {
        let again = claim(&other, at(4), 9);
        assert_eq!(again.len(), 1, "and run alone");
        assert_eq!((again[0].event, again[0].tries), (entry.event, 2));
        handle(&other, &again[0], at(4));
    }
}

#[test]
fn a_late_word_about_what_another_instance_handles_by_now_changes_nothing() {
    let Some([(first, _), (second, _)]) = two_instances() else { return };
    tell(&first, "w", [1]);
    let entry = claim(&first, at(1), 1).remove(0);
    block_on(first.give_back(&entry, at(1))).unwrap();
    let taken = claim(&second, at(2), 1).remove(0);
    assert_eq!(taken, entry, "the same try");
    block_on(first.give_back(&entry, at(2))).unwrap();
    block_on(first.fail_event(&entry, at(2), "late", None)).unwrap();
    block_on(first.release_running(at(2))).unwrap();
    let late = block_on(first.commit_handled(handled(&entry, at(2)))).unwrap();
    assert_eq!(late, HandledOutcome::Conflict);
    assert!(claim(&first, at(3), 1).is_empty());
    handle(&second, &taken, at(3));
}

#[test]
fn a_suspect_of_another_instance_holds_nobody_up() {
    let Some((schema, (first, _))) = one_instance(SHORT) else { return };
    tell(&first, "w", [1]);
    claim(&first, at(1), 1);
    out_of_touch();
    let (second, _) = schema.next(at(2));
    let (third, _) = schema.next(at(2));
    let suspect = claim(&second, at(4), 9);
    assert_eq!(suspect.len(), 1);
    tell(&second, "w", [2, 3]);
    assert!(claim(&second, at(4), 9).is_empty(), "it runs alone where it runs");
    assert_eq!(claim(&third, at(4), 9).len(), 2);
}

#[test]
fn two_handlers_of_one_bot_do_not_pass_its_limit_together() {
    let Some(stores) = two_instances() else { return };
    tell(&stores[0].0, "w", 1..=20);
    let limits = SendLimits { per_bot: (5, HOUR), ..LIMITS };
    let shares: Vec<_> = stores.iter().map(|(store, _)| (store, claim(store, at(1), 10))).collect();
    let start = Barrier::new(20);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for (store, entries) in &shares {
            assert_eq!(entries.len(), 10);
            for entry in entries {
                scope.spawn(|| {
                    let sends = vec![message(entry, &entry.event_name(), room(entry))];
                    let handled = Handled { sends, limits, ..handled(entry, at(2)) };
                    start.wait();
                    let outcome = block_on(store.commit_handled(handled)).unwrap();
                    let HandledOutcome::Committed(sent) = outcome else { panic!("a conflict") };
                    results.lock().unwrap().push(sent[0].reason);
                });
            }
        }
    });
    let results = results.into_inner().unwrap();
    assert_eq!(results.len(), 20);
    assert_eq!(results.iter().filter(|reason| reason.is_none()).count(), 5);
    let refused = Some(DeadReason::Suppressed);
    assert_eq!(results.iter().filter(|reason| **reason == refused).count(), 15);
}

fn message(entry: &EventEntry, key: &str, room: u64) -> NewDelivery {
    NewDelivery {
        key: format!("bot/b/{key}"),
        widget: entry.widget.clone(),
        room: RoomId(room),
        sender: 7.into(),
        bot: Some(bot()),
        event: Some(entry.event_name()),
        occurrence: None,
        schedule: None,
        policy: Policy::AtMostOnce,
        text: "text".into(),
        not_before: None,
        expires_at: at(3_600),
        born: Born::Queued,
        detail: None,
        report: false,
    }
}

#[test]
fn of_two_handlers_that_saw_the_same_memory_one_runs_again() {
    let Some(stores) = two_instances() else { return };
    tell(&stores[0].0, "w", 1..=8);
    let shares: Vec<_> = stores.iter().map(|(store, _)| (store, claim(store, at(1), 4))).collect();
    let start = Barrier::new(8);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for (store, entries) in &shares {
            for entry in entries {
                scope.spawn(|| {
                    let write = |key: &str, based_on| MemoryWrite {
                        key: key.into(),
                        value: Some(entry.event.into()),
                        based_on,
                    };
                    let memory = vec![write("blind", None), write("seen", Some(Seen::Absent))];
                    let handled = Handled { memory, ..handled(entry, at(2)) };
                    start.wait();
                    let outcome = block_on(store.commit_handled(handled)).unwrap();
                    results.lock().unwrap().push((outcome, entry.event));
                });
            }
        }
    });
    let mut kept = results.into_inner().unwrap();
    assert_eq!(kept.len(), 8);
    kept.retain(|(outcome, _)| *outcome != HandledOutcome::Conflict);
    assert_eq!(kept.len(), 1, "{kept:?}");
    for key in ["blind", "seen"] {
        let found = block_on(stores[1].0.remembered(&bot(), &widget("w"), key)).unwrap();
        assert_eq!(found.unwrap().0, kept[0].1);
    }
    assert_eq!(claim(&stores[0].0, at(3), 9).len(), 7, "the others run again");
}

#[test]
fn a_wake_rings_once_whoever_rings_it() {
    let Some(stores) = two_instances() else { return };
    tell(&stores[0].0, "w", [1]);
    let entry = claim(&stores[0].0, at(1), 1).remove(0);
    let wakes = (0..40).map(|n| (format!("k{n}"), at(5))).collect();
    block_on(stores[0].0.commit_handled(Handled { wakes, ..handled(&entry, at(1)) })).unwrap();
    let rung: u64 = std::thread::scope(|scope| {
        let rings = stores.each_ref().map(|(store, _)| {
            scope
                .spawn(|| (0..3).map(|_| block_on(store.fire_wakes(at(5))).unwrap().0).sum::<u64>())
        });
        rings.map(|ring| ring.join().unwrap()).iter().sum()
    });
    assert_eq!(rung, 40);
    let entries = claim(&stores[1].0, at(6), 99);
    assert_eq!(entries.len(), 40);
}

#[test]
fn a_room_with_very_much_to_tell_holds_up_no_other() {
    let Some((_, (store, _))) = one_instance(LONG) else { return };
    tell(&store, "w", [1; 1_000]);
    tell(&store, "w", 2..=450);
    let first = claim(&store, at(1), 1);
    assert_eq!(room(&first[0]), 1, "in the order in which they came");
    let mut told = BTreeSet::new();
    for _ in 0..449 / 100 + 4 {
        for entry in claim(&store, at(1), 100) {
            assert!(told.insert(room(&entry)), "one of a lane at a time");
        }
    }
    assert_eq!(told, (2..=450).collect(), "every room has its turn, and the first is busy");
    handle(&store, &first[0], at(2));
    let next = claim(&store, at(2), 1);
    assert_eq!(room(&next[0]), 1);
    assert!(next[0].event > first[0].event);
}

#[test]
fn what_no_text_of_the_database_can_hold_comes_back_as_it_was() {
    let Some((_, (store, _))) = one_instance(LONG) else { return };
    let odd = "a\0b\u{1}0";
    tell(&store, "w", [1, 2]);
    let entries = claim(&store, at(1), 2);
    let memory = vec![MemoryWrite { key: odd.into(), value: Some(odd.into()), based_on: None }];
    let wakes = vec![(odd.to_owned(), at(5)), (format!("{odd}!"), at(5))];
    let effect = Handled { memory, wakes, ..handled(&entries[0], at(1)) };
    block_on(store.commit_handled(effect)).unwrap();
    let (value, _) = block_on(store.remembered(&bot(), &widget("w"), odd)).unwrap().unwrap();
    assert_eq!(value, odd);
    let cancels = vec![format!("{odd}!")];
    block_on(store.commit_handled(Handled { cancels, ..handled(&entries[1], at(1)) })).unwrap();
    assert_eq!(block_on(store.fire_wakes(at(5))).unwrap().0, 1);
    let rung = claim(&store, at(6), 9).remove(0);
    assert_eq!(rung.body, EventBody::Timer { key: odd.into(), occurrence: None });
    block_on(store.fail_event(&rung, at(7), odd, None)).unwrap();
    let poisoned = block_on(store.events(true, 9)).unwrap();
    assert_eq!(poisoned[0].reason.as_deref(), Some(odd));
}
