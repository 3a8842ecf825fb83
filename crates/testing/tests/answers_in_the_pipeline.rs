//! What becomes of a message whose answer is not what it should be: through the whole pipeline, in
//! virtual time, with the ledger held against what the server saw.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use imbabot_bot::units::{hours, minutes};
use imbabot_bot::{RoomSelector, Schedule, Template};
use imbabot_core::{Api, Credentials, Request, Response, SecretKey, Transport, TransportError};
use imbabot_scheduler::Announcement;
use imbabot_store::{DeliveryRecord, DeliveryState, Line};
use imbabot_testing::{Harness, SimTransport};

/// More than an answer has bytes.
const OFFSETS: i64 = 960;
/// The room that opens first.
const FIRST: i64 = 1536;

fn announcement() -> Announcement {
    let schedule = Schedule::cron("noon", "0 12 * * *").unwrap();
    Announcement::new(schedule, RoomSelector::all(), Template::announcement("It is noon.").unwrap())
}

/// The last word on each delivery, by room.
fn ends(chat: &mut Harness) -> BTreeMap<i64, DeliveryRecord> {
    let lines = chat.world().ledger().into_iter();
    let records = lines.filter_map(|line| match line.line {
        Line::Delivery(record) => Some((record.room.0.cast_signed(), *record)),
        _ => None,
    });
    records.collect()
}

/// Of three rooms two have their answers cut, each at an offset of its own, and one has it whole: doubt
/// never comes three times in a row, which would open the breaker.
fn cut_of(room: i64) -> Option<i64> {
    let index = room - FIRST;
    (index % 3 < 2).then_some(index / 3 * 2 + index % 3)
}

fn every_offset(word: &str) {
    let rooms = OFFSETS / 2 * 3;
    let mut chat = Harness::new().at("2026-03-02T11:59:00Z").announcement(announcement());
    chat.world().simulator.populate(usize::try_from(rooms).unwrap());
    chat.poll();
    for room in FIRST..FIRST + rooms {
        if let Some(offset) = cut_of(room) {
            let fault = format!("send_msg:room={room}:{word}={offset}");
            chat.world().simulator.faults().push_spec(&fault).unwrap();
        }
    }
    chat.advance(minutes(30));

    let log = chat.world().simulator.log();
    let sends: Vec<_> = log.iter().filter(|entry| entry.delivery.is_some()).collect();
    assert_eq!(sends.len(), usize::try_from(rooms).unwrap(), "one request for each message");
    assert!(sends.iter().all(|entry| entry.complete && entry.applied));
    // "cut after 0 of 955 bytes"
    let words = &sends.iter().find(|entry| entry.fault.is_some()).unwrap().outcome;
    let whole: i64 = words.rsplit(' ').nth(1).unwrap().parse().unwrap();
    assert!((500..OFFSETS).contains(&whole), "{words}");

    let ended = ends(&mut chat);
    for (room, record) in &ended {
        let offset = cut_of(*room).unwrap_or(whole);
        let is_cut = offset < whole;
        let expected = if is_cut { DeliveryState::Unknown } else { DeliveryState::Delivered };
        assert_eq!(record.state, expected, "{word}={offset}: {record:?}");
        let messages = chat.world().simulator.messages(*room);
        assert_eq!(messages.len(), 1, "{word}={offset}: posted exactly once");
        let named = record.server_message_id.map(|id| id.0.cast_signed());
        assert_eq!(named, (!is_cut).then_some(messages[0].id), "{word}={offset}");
        if is_cut {
            let reason = record.reason.as_deref().unwrap();
            assert!(
                ["connection_lost", "reply_cut"].contains(&reason),
                "{word}={offset}: {reason}"
            );
        }
    }

    // Nobody knows a day later either, and nobody has tried again.
    chat.world().settings().announcements.clear();
    chat.world().reload();
    chat.advance(hours(25));
    let later = ends(&mut chat);
    for (room, record) in &ended {
        let (state, reason) = (later[room].state, later[room].reason.as_deref());
        let expected = match record.state {
            DeliveryState::Unknown => (DeliveryState::Dead, Some("unresolved")),
            state => (state, None),
        };
        assert_eq!((state, reason), expected);
        assert_eq!(chat.world().simulator.messages(*room).len(), 1);
    }
    chat.world().check();
}

#[test]
fn an_answer_that_is_cut_at_any_byte_leaves_the_ledger_true() {
    every_offset("cut");
}

#[test]
fn a_chunked_answer_that_is_cut_at_any_byte_leaves_the_ledger_true() {
    every_offset("cut-chunked");
}

/// Counts how often it was told to let its connections go.
struct Watched {
    inner: SimTransport,
    retired: Arc<AtomicUsize>,
}

#[async_trait]
impl Transport for Watched {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        self.inner.send(request).await
    }

    fn retire_connections(&self) {
        self.retired.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn an_answer_that_names_the_message_of_another_delivery_is_unknown_and_its_connection_goes() {
    let mut chat = Harness::new().at("2026-03-02T11:59:00Z").announcement(announcement());
    let retired = Arc::new(AtomicUsize::new(0));
    let inner =
        SimTransport::new(chat.world().simulator.clone(), Arc::new(chat.world().clock.clone()));
    let secret = SecretKey::parse("simulator-secret").unwrap();
    let watched = Arc::new(Watched { inner, retired: Arc::clone(&retired) });
    chat.world().settings().widgets[0].api =
        Api::new(watched, Credentials::new(627.into(), secret));
    let rooms: Vec<i64> = ["A", "B", "C"].map(|name| chat.open_room(name).0.cast_signed()).to_vec();
    chat.poll();
    let fault = format!("send_msg:room={}:repeat-uuid", rooms[1]);
    chat.world().simulator.faults().push_spec(&fault).unwrap();
    chat.advance(minutes(2));
    let ended = ends(&mut chat);
    let seen = rooms.iter().map(|room| (ended[room].state, ended[room].reason.as_deref()));
    let expected = [
        (DeliveryState::Delivered, None),
        (DeliveryState::Unknown, Some("foreign_answer")),
        (DeliveryState::Delivered, None),
    ];
    assert_eq!(seen.collect::<Vec<_>>(), expected);
    assert_eq!(retired.load(Ordering::Relaxed), 1);
    chat.world().check();
}
