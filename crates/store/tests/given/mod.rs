//! What the tests of a whole store begin with: its rules, its clock, a message and a widget.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::time::Duration;

use futures_executor::block_on;
use imbabot_bot::{DeliveryId, Policy};
use imbabot_core::{MessageId, RoomId, Timestamp};
use imbabot_store::{
    AdoptSchedule, Born, ClaimRequest, Class, InspectionMark, NewDelivery, NewOccurrence, NewRange,
    Next, OccurrenceCommit, OccurrenceOutcome, Settle, Settled, Store, WidgetClaim,
};

pub(crate) const RULES: Settle = Settle {
    wait: Duration::from_secs(10),
    max_resends: 1,
    unresolved_after: Duration::from_secs(1_000),
};

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_seconds(1_772_323_200 + second)
}

/// A message into a room, to be sent once and soon.
pub(crate) fn message(key: &str, room: u64) -> NewDelivery {
    NewDelivery {
        key: key.into(),
        widget: "w".parse().unwrap(),
        room: RoomId(room),
        sender: 7.into(),
        bot: None,
        event: None,
        occurrence: None,
        schedule: None,
        policy: Policy::AtMostOnce,
        text: "x".into(),
        not_before: None,
        expires_at: at(3_600),
        born: Born::Queued,
        detail: None,
        report: false,
    }
}

/// Its widget, which may send as much as it likes.
pub(crate) fn widget() -> WidgetClaim {
    WidgetClaim {
        widget: "w".parse().unwrap(),
        slots: 10,
        interval: Duration::from_millis(1),
        room_interval: Duration::from_millis(1),
    }
}

/// Fills a store with a delivery that was delivered, one that waits, an occurrence and a run.
pub(crate) fn lived_in(store: &dyn Store) {
    let incarnation = block_on(store.begin(at(0), "1", RULES)).unwrap().incarnation;
    block_on(store.enqueue(at(0), vec![message("sent", 1)])).unwrap();
    let request = ClaimRequest { now: at(1), incarnation, widgets: vec![widget()], only: None };
    assert_eq!(block_on(store.claim(request)).unwrap().deliveries.len(), 1);
    let outcome = Settled {
        delivery: DeliveryId::of_key("sent"),
        attempt: 1,
        class: Class::Delivered,
        code: "accepted".into(),
        http_status: Some(200),
        detail: String::new(),
        next: Next::Delivered { message: MessageId(1), uuid: None, time: None },
    };
    block_on(store.settle(at(2), RULES, vec![outcome])).unwrap();
    block_on(store.enqueue(at(3), vec![message("waits", 2)])).unwrap();
    let adopted = AdoptSchedule { key: "s".into(), definition: "d".into() };
    block_on(store.adopt_schedules(at(0), vec![adopted])).unwrap();
    let commit = OccurrenceCommit {
        key: "s".into(),
        now: at(100),
        from: at(0),
        through: at(100),
        occurrences: vec![NewOccurrence {
            id: format!("s@{}", at(100).compact()),
            nominal_at: at(100),
            outcome: OccurrenceOutcome::Skipped,
            reason: Some("no_rooms".into()),
            targets: Vec::new(),
            events: Vec::new(),
        }],
        ranges: vec![NewRange {
            outcome: OccurrenceOutcome::Missed,
            reason: "misfire".into(),
            from: at(10),
            to: at(90),
            count: 9,
        }],
    };
    assert!(block_on(store.commit_occurrences(commit)).unwrap());
}

/// All that an inspection finds, however small the batches.
pub(crate) fn found(store: &dyn Store, batch: usize) -> Vec<String> {
    let (mut mark, mut found) = (Some(InspectionMark::default()), Vec::new());
    while let Some(at) = mark {
        let inspected = block_on(store.inspect(at, batch)).unwrap();
        found.extend(inspected.found);
        mark = inspected.next;
    }
    found
}
