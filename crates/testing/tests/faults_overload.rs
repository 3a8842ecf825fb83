//! More than can be done at once: polls that take longer than their distance, queues that are
//! longer than a rate lets through, rooms in which nothing is ever answered, and the hour after an
//! outage. In virtual time; connections and memory are measured on a real process in
//! `bots/tests/overload.rs`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::{Notebook, assert_quiescent};
use futures_executor::block_on;
use imbabot_bot::prelude::*;
use imbabot_scheduler::{Clock, NotReady, Rate};
use imbabot_simulator::{Endpoint, LogEntry};
use imbabot_store::{Born, DeliveryState, NewDelivery};
use imbabot_testing::Harness;

fn asked(chat: &mut Harness, endpoint: Endpoint) -> Vec<LogEntry> {
    let mut log = chat.world().simulator.log();
    log.retain(|entry| entry.endpoint == Some(endpoint));
    log
}

/// The default rates, which the harness otherwise leaves out.
fn at_default_rates(chat: Harness) -> Harness {
    chat.with(|settings| {
        let usual = imbabot_scheduler::DeliverySettings::default();
        settings.delivery.rate = usual.rate;
        settings.delivery.rate_per_room = usual.rate_per_room;
    })
}

/// Queues so many messages for each of these rooms, one round after the other.
fn queue(chat: &mut Harness, rooms: &[i64], each: usize, policy: Policy) {
    let now = chat.world().clock.now();
    let mut deliveries = Vec::new();
    for round in 0..each {
        for room in rooms {
            deliveries.push(NewDelivery {
                key: format!("test/{room}/{round}"),
                widget: "main".parse().unwrap(),
                room: RoomId(room.unsigned_abs()),
                sender: 1.into(),
                bot: None,
                event: None,
                occurrence: None,
                schedule: None,
                policy,
                text: format!("message {round}"),
                not_before: None,
                expires_at: now + hours(24),
                born: Born::Queued,
                detail: None,
                report: false,
            });
        }
    }
    let store = chat.world().store();
    for batch in deliveries.chunks(1_000) {
        block_on(store.enqueue(now, batch.to_vec())).unwrap();
    }
    chat.world().engine().unwrap().wake();
    chat.world().step();
}

fn populate(chat: &mut Harness, rooms: usize) -> Vec<i64> {
    chat.world().simulator.populate(rooms);
    chat.poll();
    chat.world().simulator.rooms().iter().map(|room| room.id).collect()
}

#[test]
fn o1_a_server_that_takes_half_a_minute_is_asked_by_one_poll_at_a_time() {
    let mut chat = Harness::new().bot("notebook", Notebook::default()).with(|settings| {
        settings.poll.rooms = seconds(1);
        settings.poll.users = seconds(1);
    });
    for endpoint in ["get_rooms", "get_users"] {
        let fault = format!("{endpoint}:late=29s:always");
        chat.world().simulator.faults().push_spec(&fault).unwrap();
    }
    chat.world().start();
    chat.advance(hours(1));
    for endpoint in [Endpoint::GetRooms, Endpoint::GetUsers] {
        let at: Vec<i64> = asked(&mut chat, endpoint).iter().map(|entry| entry.at).collect();
        // Counted from the end of the poll, and never more than a tenth of the time.
        assert!((12..=13).contains(&at.len()), "{endpoint:?} {}", at.len());
        assert!(at.windows(2).all(|pair| pair[1] - pair[0] >= 290_000_000), "{endpoint:?} {at:?}");
    }
    assert!(chat.world().engine().unwrap().reasons().is_empty());
}

#[test]
fn o1_a_server_that_never_answers_is_asked_by_one_poll_at_a_time_and_nobody_waits_for_it() {
    let mut chat =
        at_default_rates(Harness::new()).with(|settings| settings.poll.rooms = seconds(1));
    let rooms = populate(&mut chat, 20);
    chat.world().simulator.faults().push_spec("get_rooms:silent:always").unwrap();
    chat.advance(seconds(2));
    queue(&mut chat, &rooms, 1, Policy::AtMostOnce);
    chat.advance(seconds(5));
    assert_eq!(chat.sent().len(), 20, "messages do not wait for a list");
    chat.advance(minutes(10));
    let at: Vec<i64> = asked(&mut chat, Endpoint::GetRooms).iter().map(|entry| entry.at).collect();
    // The time-out of a poll is 30 s.
    assert!(at.windows(2).skip(2).all(|pair| pair[1] - pair[0] >= 30_000_000), "{at:?}");
    assert_eq!(chat.world().engine().unwrap().reasons(), [NotReady::ApiUnreachable]);
}

#[test]
fn o2_a_long_queue_drains_at_the_cap_and_in_order() {
    const ROOMS: usize = 250;
    const EACH: usize = 8;
    let mut chat = at_default_rates(Harness::new());
    let rooms = populate(&mut chat, ROOMS);
    queue(&mut chat, &rooms, EACH, Policy::AtMostOnce);
    let begun = chat.world().clock.now().as_micros();
    // Killed and started again on the way.
    chat.advance(seconds(60));
    chat.world().crash();
    chat.world().start();
    chat.advance(seconds(160));
    let sent = asked(&mut chat, Endpoint::SendMsg);
    assert_eq!(sent.len(), ROOMS * EACH);
    let took = Duration::from_micros((sent.last().unwrap().at - begun).unsigned_abs());
    // Ten a second, which takes 200 s, and no slower.
    assert!(took >= seconds(199) && took <= seconds(202), "{took:?}");
    let mut of_room: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    for entry in sent {
        of_room.entry(entry.room.unwrap()).or_default().push(entry.text.unwrap());
    }
    let expected: Vec<String> = (0..EACH).map(|n| format!("message {n}")).collect();
    assert!(of_room.values().all(|texts| *texts == expected));
    assert_quiescent(&mut chat);
}

#[test]
fn o2_one_room_with_a_long_queue_keeps_its_own_rate_and_holds_up_no_other() {
    let mut chat = at_default_rates(Harness::new());
    let rooms = populate(&mut chat, 20);
    queue(&mut chat, &rooms[..1], 1_000, Policy::AtMostOnce);
    chat.advance(seconds(30));
    assert!(chat.sent().len() <= 31, "one a second");
    queue(&mut chat, &rooms[1..], 1, Policy::AtMostOnce);
    chat.advance(seconds(3));
    let others = asked(&mut chat, Endpoint::SendMsg);
    let others = others.iter().filter(|entry| entry.room != Some(rooms[0])).count();
    assert_eq!(others, 19);
    chat.world().check();
}

/// Sends to a thousand rooms, of which some never answer; the 99th percentile of the others, from
/// the moment of queueing.
fn p99_of_others(wedged: usize, policy: Policy) -> Duration {
    let mut chat =
        at_default_rates(Harness::new()).with(|settings| settings.poll.rooms = seconds(5));
    chat.world().simulator.configure(|options| options.latency_micros = 100_000);
    let rooms = populate(&mut chat, 1_000);
    chat.advance(seconds(10));
    for room in &rooms[..wedged] {
        let fault = format!("send_msg:silent:room={room}:always");
        chat.world().simulator.faults().push_spec(&fault).unwrap();
    }
    let now = chat.world().clock.now().as_micros();
    // A wedged room has more to say, so that it takes a slot again and again.
    queue(&mut chat, &rooms[..wedged], 10, policy);
    queue(&mut chat, &rooms[wedged..], 1, policy);
    chat.advance(minutes(4));
    let mut took: Vec<i64> = asked(&mut chat, Endpoint::SendMsg)
        .into_iter()
        .filter(|entry| entry.applied && !rooms[..wedged].contains(&entry.room.unwrap()))
        .map(|entry| entry.at - now)
        .collect();
    assert_eq!(took.len(), 1_000 - wedged, "everybody else is served");
    took.sort_unstable();
    chat.world().check();
    Duration::from_micros(took[took.len() * 99 / 100].unsigned_abs())
}

#[test]
fn o3_rooms_that_never_answer_hold_up_no_other() {
    let usual = p99_of_others(0, Policy::AtMostOnce);
    for (wedged, policy) in
        [(1, Policy::AtMostOnce), (5, Policy::AtMostOnce), (5, Policy::AtLeastOnce)]
    {
        let beside = p99_of_others(wedged, policy);
        assert!(beside <= usual * 2, "{wedged} wedged, {policy}: {beside:?}, usually {usual:?}");
    }
}

#[test]
fn o7_the_end_of_an_outage_of_an_hour_is_no_storm() {
    let mut chat =
        at_default_rates(Harness::new()).with(|settings| settings.poll.rooms = seconds(5));
    let rooms = populate(&mut chat, 600);
    chat.world().simulator.server_down(true);
    queue(&mut chat, &rooms, 1, Policy::AtMostOnce);
    chat.advance(hours(1));
    assert_eq!(chat.world().engine().unwrap().reasons(), [NotReady::ApiUnreachable]);
    let refused = chat.world().simulator.refused_connections();
    assert!(refused <= 3_600 / 5, "{refused} connections in an hour");
    chat.world().simulator.server_down(false);
    let back = chat.world().clock.now().as_micros();
    chat.advance(minutes(2));
    let sent = asked(&mut chat, Endpoint::SendMsg);
    assert_eq!(sent.len(), 600);
    let first = Duration::from_micros((sent[0].at - back).unsigned_abs());
    assert!(first <= seconds(15), "the first after {first:?}");
    // Ten a second from there on, which the checker counts, and none slower for its many tries.
    let last = Duration::from_micros((sent[599].at - sent[0].at).unsigned_abs());
    assert!(last <= seconds(70), "the last {last:?} after the first");
    assert!(chat.deliveries().iter().all(|d| d.state == DeliveryState::Delivered));
    assert_quiescent(&mut chat);
}

#[test]
fn o7_an_outage_behind_a_proxy_leaves_the_queue_queued() {
    let mut chat = at_default_rates(Harness::new()).with(|settings| {
        settings.poll.rooms = seconds(5);
        settings.delivery.rate = Rate::new(100, seconds(1));
    });
    let rooms = populate(&mut chat, 300);
    chat.world().simulator.faults().push_spec("any:status=502:always").unwrap();
    queue(&mut chat, &rooms, 1, Policy::AtMostOnce);
    chat.advance(hours(1));
    let unknown = chat.deliveries().iter().filter(|d| d.state == DeliveryState::Unknown).count();
    assert!(unknown <= 10, "{unknown} of 300 are in doubt");
    chat.world().simulator.faults().clear();
    chat.advance(minutes(1));
    assert_eq!(chat.sent().len(), 300 - unknown);
    chat.world().check();
}
