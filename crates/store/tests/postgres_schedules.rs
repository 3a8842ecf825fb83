//! Schedules and lists on PostgreSQL where several instances are at work on them: an instant fires once,
//! a room is served once, and a list is described by who owns its widget. `IMBABOT_TEST_POSTGRES` names
//! the database.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod given;
mod postgres_support;

use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use futures_executor::block_on;
use imbabot_core::{Room, RoomId, Timestamp};
use imbabot_store::*;

use given::{RULES, at, message};
use postgres_support::{Database, database};

/// Instances on one store, each with a run.
fn instances(database: &Database, count: usize) -> Vec<Arc<PostgresStore>> {
    let schema = database.name();
    let lease = Duration::from_secs(30);
    let mut all = vec![Arc::new(database.connect(&schema, Bodies::Full, lease).temporary(&schema))];
    all.extend((1..count).map(|_| database.open(&schema, Bodies::Full, lease)));
    for store in &all {
        block_on(store.begin(at(0), "1", RULES)).unwrap();
    }
    // The tables go with the first: it is dropped last.
    all.reverse();
    all
}

/// The same verb on every instance, at once.
fn at_once<T: Send>(
    stores: &[Arc<PostgresStore>],
    verb: impl Fn(usize, &PostgresStore) -> T + Sync,
) -> Vec<T> {
    let start = Barrier::new(stores.len());
    thread::scope(|scope| {
        let verb = &verb;
        let start = &start;
        let all: Vec<_> = stores
            .iter()
            .enumerate()
            .map(|(n, store)| {
                scope.spawn(move || {
                    start.wait();
                    verb(n, store)
                })
            })
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    })
}

fn adopt(store: &PostgresStore, now: Timestamp, keys: &[&str]) -> Vec<Cursor> {
    let schedules = keys
        .iter()
        .map(|key| AdoptSchedule { key: (*key).into(), definition: "d".into() })
        .collect();
    block_on(store.adopt_schedules(now, schedules)).unwrap()
}

fn fired(key: &str, second: i64, rooms: u64) -> NewOccurrence {
    let target = |room| Target { widget: "w".parse().unwrap(), room: RoomId(room) };
    NewOccurrence {
        id: format!("{key}@{}", at(second).compact()),
        nominal_at: at(second),
        outcome: OccurrenceOutcome::Fired,
        reason: None,
        targets: (1..=rooms).map(target).collect(),
        events: vec![],
    }
}

fn step(key: &str, from: i64, to: i64, rooms: u64) -> OccurrenceCommit {
    OccurrenceCommit {
        key: key.into(),
        now: at(to),
        from: at(from),
        through: at(to),
        occurrences: vec![fired(key, to, rooms)],
        ranges: vec![],
    }
}

fn batch(pinned: &Pinned, now: i64) -> Expansion {
    let deliver = |target: &Target| NewDelivery {
        occurrence: Some(pinned.id.clone()),
        schedule: Some(pinned.key.clone()),
        ..message(&format!("occurrence/{}/w/{}", pinned.id, target.room), target.room.0)
    };
    Expansion {
        id: pinned.id.clone(),
        now: at(now),
        position: pinned.position,
        served: pinned.targets.len(),
        deliveries: pinned.targets.iter().map(deliver).collect(),
        skip_overlap: true,
    }
}

fn contradictions(store: &PostgresStore) -> Vec<String> {
    let mut mark = Some(InspectionMark::default());
    let mut found = block_on(store.strays(9)).unwrap();
    while let Some(at) = mark.take() {
        let batch = block_on(store.inspect(at, 500)).unwrap();
        found.extend(batch.found);
        mark = batch.next;
    }
    found
}

#[test]
fn an_instant_fires_once_whoever_takes_it() {
    let Some(database) = database() else { return };
    let stores = instances(database, 3);
    adopt(&stores[0], at(0), &["s"]);
    for n in 0..20 {
        let done = at_once(&stores, |_, store| {
            block_on(store.commit_occurrences(step("s", n, n + 1, 2))).unwrap()
        });
        assert_eq!(done.iter().filter(|done| **done).count(), 1, "{n}");
    }
    assert_eq!(block_on(stores[0].pinned(100)).unwrap().len(), 20);
    assert_eq!(contradictions(&stores[0]), Vec::<String>::new());
}

#[test]
fn a_room_is_served_once_whoever_expands() {
    let Some(database) = database() else { return };
    let stores = instances(database, 3);
    adopt(&stores[0], at(0), &["s"]);
    assert!(block_on(stores[0].commit_occurrences(step("s", 0, 1, 100))).unwrap());
    let done: usize = at_once(&stores, |_, store| {
        let mut done = 0;
        loop {
            let pinned = block_on(store.pinned(7)).unwrap();
            let Some(pinned) = pinned.first() else { return done };
            done += usize::from(block_on(store.expand(batch(pinned, 2))).unwrap());
        }
    })
    .into_iter()
    .sum();
    assert_eq!(done, 15);
    let all = block_on(stores[0].deliveries(&DeliveryFilter::default())).unwrap();
    let mut rooms: Vec<u64> = all.iter().map(|one| one.room.0).collect();
    rooms.sort_unstable();
    assert_eq!(rooms, (1..=100).collect::<Vec<_>>());
    assert_eq!(contradictions(&stores[0]), Vec::<String>::new());
}

#[test]
fn of_two_occurrences_that_are_expanded_at_once_one_reaches_a_room() {
    let Some(database) = database() else { return };
    let stores = instances(database, 2);
    adopt(&stores[0], at(0), &["s"]);
    for n in 0..10 {
        let (from, to) = (2 * n, 2 * n + 1);
        assert!(block_on(stores[0].commit_occurrences(step("s", from, to, 20))).unwrap());
        assert!(block_on(stores[0].commit_occurrences(step("s", to, to + 1, 20))).unwrap());
        let pinned = block_on(stores[0].pinned(100)).unwrap();
        assert_eq!(pinned.len(), 2);
        let done =
            at_once(&stores, |n, store| block_on(store.expand(batch(&pinned[n], to + 1))).unwrap());
        assert_eq!(done, [true, true]);
        let all = block_on(stores[0].deliveries(&DeliveryFilter::default())).unwrap();
        assert_eq!(all.len(), 20, "the others are left out: an earlier one waits there");
    }
    assert_eq!(contradictions(&stores[0]), Vec::<String>::new());
}

#[test]
fn whoever_removes_a_schedule_removes_what_others_were_about_to_queue() {
    let Some(database) = database() else { return };
    let stores = instances(database, 2);
    for n in 0..10_i64 {
        let key = format!("s{n}");
        adopt(&stores[0], at(n), &[&key]);
        assert!(block_on(stores[0].commit_occurrences(step(&key, n, n + 1, 60))).unwrap());
        let (tell, told) = mpsc::channel();
        let told = Mutex::new(told);
        at_once(&stores, |which, store| {
            if which == 0 {
                // In the middle of it, each time a little later.
                let told = told.lock().unwrap();
                (0..n).for_each(|_| told.recv().unwrap());
                adopt(store, at(n + 2), &[]);
                return;
            }
            while let Some(pinned) = block_on(store.pinned(5)).unwrap().first() {
                block_on(store.expand(batch(pinned, n + 2))).unwrap();
                let _ = tell.send(());
            }
        });
        let waits = |one: &DeliveryRecord| one.state == DeliveryState::Queued;
        let all = block_on(stores[0].deliveries(&DeliveryFilter::default())).unwrap();
        assert!(!all.iter().any(waits), "{n}");
        assert_eq!(block_on(stores[0].pinned(9)).unwrap(), []);
    }
    assert_eq!(contradictions(&stores[0]), Vec::<String>::new());
}

#[test]
fn instances_that_begin_at_once_adopt_the_same_cursors() {
    let Some(database) = database() else { return };
    let stores = instances(database, 3);
    let keys: Vec<String> = (0..2_000).map(|n| format!("s{n:04}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    // Their clocks differ: the one that comes first counts, and no cursor moves back.
    let adopted =
        at_once(&stores, |n, store| adopt(store, at(10 * i64::try_from(n).unwrap()), &keys));
    assert_eq!(adopted[0], adopted[1]);
    assert_eq!(adopted[1], adopted[2]);
    assert_eq!(adopted[0].len(), 2_000);
}

#[test]
fn a_long_queue_of_a_removed_schedule_is_cancelled_to_its_end() {
    let Some(database) = database() else { return };
    let stores = instances(database, 1);
    let store = &stores[0];
    adopt(store, at(0), &["s"]);
    assert!(block_on(store.commit_occurrences(step("s", 0, 1, 2_500))).unwrap());
    while let Some(pinned) = block_on(store.pinned(500)).unwrap().first() {
        assert!(block_on(store.expand(batch(pinned, 2))).unwrap());
    }
    adopt(store, at(3), &[]);
    let tally = block_on(store.tally()).unwrap();
    let told: Vec<String> = tally
        .deliveries
        .iter()
        .filter(|count| count.present > 0)
        .map(|count| format!("{:?} {}", count.reason, count.present))
        .collect();
    assert_eq!(told, ["Some(\"cancelled\") 2500"]);
    assert_eq!(contradictions(store), Vec::<String>::new());
}

#[test]
fn only_the_rooms_that_are_next_are_read() {
    let Some(database) = database() else { return };
    let stores = instances(database, 1);
    let store = &stores[0];
    adopt(store, at(0), &["s"]);
    assert!(block_on(store.commit_occurrences(step("s", 0, 1, 300_000))).unwrap());
    let mut position = 0;
    for _ in 0..4 {
        let pinned = block_on(store.pinned(500)).unwrap().remove(0);
        assert_eq!((pinned.position, pinned.targets.len()), (position, 500));
        assert_eq!(pinned.targets[499].room.0, position as u64 + 500);
        assert!(block_on(store.expand(batch(&pinned, 2))).unwrap());
        position += 500;
    }
}

#[test]
fn a_list_is_described_by_who_owns_its_widget() {
    let Some(database) = database() else { return };
    let stores = instances(database, 2);
    let widget = "w".parse::<imbabot_bot::WidgetName>().unwrap();
    let runs: Vec<IncarnationId> =
        block_on(stores[0].instances()).unwrap().iter().map(|one| one.incarnation).collect();
    // The instances were made in the other order.
    let (owner, other) = ((&stores[0], runs[1]), (&stores[1], runs[0]));
    let room = |id: u64| ItemChange {
        id,
        hash: id,
        body: Some(serde_json::to_string(&Room::new(RoomId(id), "room")).unwrap()),
        gone: false,
    };
    let poll = |id| PollCommit {
        widget: widget.clone(),
        list: ListKind::Rooms,
        now: at(1),
        changes: vec![room(id)],
        events: vec![],
        last: true,
    };
    let index = || {
        let index = block_on(stores[0].snapshot_index(&widget, ListKind::Rooms)).unwrap();
        index.listed.iter().map(|(id, _)| *id).collect::<Vec<_>>()
    };
    // As long as it is nobody's, anybody may.
    block_on(other.0.commit_poll(poll(1))).unwrap();
    let beat = |(store, run): (&Arc<PostgresStore>, IncarnationId)| {
        block_on(store.heartbeat(run, &[Unit::Widget(widget.clone())], RULES)).unwrap()
    };
    let Standing::Member(member) = beat(owner) else { panic!() };
    assert_eq!(member.units.len(), 1);
    block_on(owner.0.commit_poll(poll(2))).unwrap();
    let refused = block_on(other.0.commit_poll(poll(3))).unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::Retryable);
    assert_eq!(refused.to_string(), "the widget w is another instance's now");
    assert_eq!(index(), [1, 2]);
    // It changes hands, and so does who is refused.
    block_on(stores[0].drain(at(2), owner.1, true)).unwrap();
    beat(owner);
    let Standing::Member(member) = beat(other) else { panic!() };
    assert_eq!(member.units.len(), 1);
    block_on(other.0.commit_poll(poll(4))).unwrap();
    assert!(block_on(owner.0.commit_poll(poll(5))).is_err());
    assert_eq!(index(), [1, 2, 4]);
}
