//! After an hour without a server ten thousand messages wait: nothing is lost to doubt, nothing
//! storms, everything keeps its order.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use std::collections::BTreeMap;
use std::time::Duration;

use futures_executor::block_on;
use imbabot_bot::Policy;
use imbabot_core::RoomId;
use imbabot_scheduler::{Clock, Rate};
use imbabot_store::{Born, DeliveryState, Line, NewDelivery};
use imbabot_testing::{SeenRequest, World};

const ROOMS: u64 = 100;
const MESSAGES: u64 = 10_000;
const HOUR: Duration = Duration::from_secs(3_600);

/// A daemon as it is configured by default, with so many rooms.
fn world() -> (World, Vec<RoomId>) {
    let mut world = World::new("2026-03-02T10:00:00Z".parse().unwrap());
    world.settings().delivery.rate = Rate::new(10, Duration::from_secs(1));
    world.simulator.populate(usize::try_from(ROOMS).unwrap());
    let rooms = world.simulator.rooms().iter().map(|room| RoomId(room.id.unsigned_abs())).collect();
    world.start();
    world.advance(Duration::from_secs(20));
    (world, rooms)
}

/// Each third of the messages is worth nothing any more before the hour is over.
fn write_down(world: &World, rooms: &[RoomId]) {
    let now = world.clock.now();
    let message = |n: u64| NewDelivery {
        key: format!("cli/{n}"),
        widget: "main".parse().unwrap(),
        room: rooms[usize::try_from(n % ROOMS).unwrap()],
        sender: 1.into(),
        bot: None,
        event: None,
        occurrence: None,
        schedule: None,
        policy: Policy::AtMostOnce,
        text: format!("message {n}"),
        not_before: None,
        expires_at: now + if n.is_multiple_of(3) { HOUR / 2 } else { 24 * HOUR },
        born: Born::Queued,
        detail: None,
        report: false,
    };
    for batch in 0..MESSAGES / 500 {
        let messages = (batch * 500..(batch + 1) * 500).map(message).collect();
        block_on(world.store().enqueue(now, messages)).unwrap();
    }
    world.engine().unwrap().wake();
}

/// The present of every delivery, counted by state and reason.
fn counts(world: &World) -> BTreeMap<String, usize> {
    let mut present = BTreeMap::new();
    for line in world.ledger() {
        if let Line::Delivery(record) = line.line {
            let reason = record.reason.filter(|_| record.state == DeliveryState::Dead);
            let reason = reason.map(|reason| format!("({reason})")).unwrap_or_default();
            present.insert(record.id, format!("{}{reason}", record.state));
        }
    }
    let mut counts = BTreeMap::new();
    for standing in present.into_values() {
        *counts.entry(standing).or_default() += 1;
    }
    counts
}

fn sends(world: &World) -> Vec<SeenRequest> {
    let log = world.simulator.log();
    let seen = log.iter().map(SeenRequest::from);
    seen.filter(|request| request.endpoint.as_deref() == Some("send_msg")).collect()
}

/// What has to hold after the server came back: the first message within 15 s, no more than the
/// rate at any time, and in the end everything that still meant something.
fn drains(world: &mut World, doubtful: usize) {
    let before = sends(world).len();
    world.advance(Duration::from_secs(15));
    assert!(sends(world).len() > before, "the first message leaves within 15 s");
    world.advance(Duration::from_secs(MESSAGES / 10));
    let counts = counts(world);
    let expired = usize::try_from(MESSAGES / 3 + 1).unwrap();
    let count = |standing: &str| counts.get(standing).copied().unwrap_or_default();
    assert_eq!(count("queued") + count("sending"), 0, "{counts:?}");
    assert_eq!(count("unknown"), doubtful, "{counts:?}");
    // A message in doubt may have been one of those that would have expired.
    let gone = count("dead(expired)");
    assert!(gone <= expired && gone + doubtful >= expired, "{counts:?}");
    assert_eq!(count("delivered") + gone + doubtful, usize::try_from(MESSAGES).unwrap());
    world.check();
}

#[test]
fn o7_an_hour_of_refused_connections_costs_no_message_and_ends_without_a_storm() {
    let (mut world, rooms) = world();
    world.simulator.server_down(true);
    write_down(&world, &rooms);
    world.advance(HOUR);
    assert!(sends(&world).is_empty());
    let attempts = |world: &World| {
        let lines = world.ledger().into_iter();
        lines.filter(|line| matches!(&line.line, Line::Attempt(a) if a.class.is_none())).count()
    };
    assert!(attempts(&world) <= 16, "{} attempts against a closed port", attempts(&world));
    world.simulator.server_down(false);
    drains(&mut world, 0);
}

#[test]
fn o7_an_hour_of_502_from_a_proxy_leaves_no_more_in_doubt_than_were_on_their_way() {
    let (mut world, rooms) = world();
    world.simulator.faults().push_spec("any:status=502:always").unwrap();
    write_down(&world, &rooms);
    world.advance(HOUR);
    let doubtful = sends(&world).len();
    assert!(doubtful <= 8, "{doubtful} messages were put at risk");
    world.simulator.faults().clear();
    drains(&mut world, doubtful);
}

#[test]
fn a_reload_hides_no_outage() {
    let (mut world, _) = world();
    let ready = |world: &World| world.engine().unwrap().reasons().is_empty();
    assert!(ready(&world));
    for fault in ["get_rooms:close", "get_rooms:status=401"] {
        world.simulator.faults().push_spec(fault).unwrap();
        world.poll();
        assert!(!ready(&world), "{fault}");
        world.simulator.faults().push_spec("get_rooms:late=10s").unwrap();
        world.reload();
        world.advance(Duration::from_secs(9));
        assert!(!ready(&world), "{fault}: nothing is known yet of the new settings");
        world.advance(Duration::from_secs(2));
        assert!(ready(&world), "{fault}");
    }
}
