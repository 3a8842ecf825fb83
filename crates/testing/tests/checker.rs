//! The checker finds what it is there to find: true witnesses, each with one lie put in.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use std::time::Duration;

use imbabot_bot::prelude::*;
use imbabot_bot::{Policy, RoomSelector, Schedule, Template};
use imbabot_core::{SecretKey, Timestamp};
use imbabot_scheduler::{Announcement, Rate};
use imbabot_store::{
    Class, DeliveryRecord, DeliveryState, LedgerLine, Line, OccurrenceOutcome, RangeRecord,
};
use imbabot_testing::{Change, Check, Harness, SeenRequest};

/// Two announcements to two rooms, one of them lost on its way back, and a refused one.
struct Truth {
    lines: Vec<LedgerLine>,
    requests: Vec<SeenRequest>,
}

fn truth() -> Truth {
    let schedule = Schedule::cron("hourly", "0 * * * *").unwrap();
    let text = Template::announcement("It is {{ occurrence.at }}.").unwrap();
    let announcement = Announcement::new(schedule, RoomSelector::named("^Team").unwrap(), text);
    let mut chat = Harness::new().announcement(announcement);
    chat.open_room("Team Blue");
    chat.open_room("Team Red");
    let faults = chat.world().simulator.faults();
    faults.push_spec("send_msg:apply-then-close:nth=2").unwrap();
    faults.push_spec("send_msg:code=422:nth=3").unwrap();
    chat.poll();
    chat.advance(hours(3) + minutes(1));
    let world = chat.world();
    let truth = Truth {
        lines: world.ledger(),
        requests: world.simulator.log().iter().map(Into::into).collect(),
    };
    assert!(truth.violations().is_empty());
    truth
}

impl Truth {
    fn violations(&self) -> Vec<u8> {
        let check = Check::new()
            .requests(self.requests.clone())
            .ledger(self.lines.clone())
            .expected("hourly", [instant("2026-03-02T11:00:00Z"), instant("2026-03-02T12:00:00Z")])
            .rate(Rate::new(100, Duration::from_secs(1)));
        let mut found: Vec<u8> = check.run().into_iter().map(|found| found.invariant).collect();
        found.dedup();
        found
    }

    /// The last line of the first delivery in this state.
    fn last(&mut self, state: DeliveryState) -> &mut DeliveryRecord {
        let lines = self.lines.iter_mut().rev();
        let mut records = lines.filter_map(|line| match &mut line.line {
            Line::Delivery(record) => Some(&mut **record),
            _ => None,
        });
        records.find(|record| record.state == state).unwrap()
    }

    fn sends(&mut self) -> impl Iterator<Item = &mut SeenRequest> {
        let sends = self.requests.iter_mut();
        sends.filter(|request| request.endpoint.as_deref() == Some("send_msg"))
    }

    fn add(&mut self, line: Line) {
        let seq = self.lines.last().unwrap().seq + 1;
        self.lines.push(LedgerLine { schema: 1, seq, line });
    }
}

fn instant(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[track_caller]
fn finds(invariant: u8, lie: impl FnOnce(&mut Truth)) {
    let mut truth = truth();
    lie(&mut truth);
    let found = truth.violations();
    assert!(found.contains(&invariant), "I{invariant} was not found, but {found:?}");
}

#[test]
fn a_request_that_no_attempt_knows_of() {
    finds(1, |truth| truth.sends().next().unwrap().attempt = Some("7".into()));
    finds(1, |truth| truth.sends().next().unwrap().delivery = None);
    finds(1, |truth| truth.sends().next().unwrap().text = Some("another".into()));
    finds(1, |truth| {
        let again = truth.sends().next().unwrap().clone();
        truth.requests.push(again);
    });
}

#[test]
fn a_message_that_is_there_twice() {
    finds(2, |truth| {
        let mut again = truth.sends().next().unwrap().clone();
        again.attempt = Some("2".into());
        again.message_id = Some(99_999);
        truth.requests.push(again);
    });
    finds(2, |truth| {
        let key = truth.last(DeliveryState::Delivered).key.clone();
        truth.last(DeliveryState::Dead).key = key;
    });
}

#[test]
fn a_ledger_that_lies() {
    finds(3, |truth| truth.last(DeliveryState::Delivered).server_message_id = Some(1.into()));
    finds(3, |truth| {
        let sends = truth.sends();
        sends.for_each(|send| send.applied = true);
    });
    finds(3, |truth| truth.last(DeliveryState::Dead).reason = Some("unresolved".into()));
}

#[test]
fn an_instant_that_is_not_accounted_for_once() {
    finds(4, |truth| {
        truth
            .lines
            .retain(|line| !matches!(&line.line, Line::Occurrence(o) if o.id.contains("T11:00")));
    });
    finds(4, |truth| {
        truth.add(Line::Range(RangeRecord {
            schedule: "hourly".into(),
            outcome: OccurrenceOutcome::Missed,
            reason: "misfire".into(),
            from: instant("2026-03-02T11:00:00Z"),
            to: instant("2026-03-02T11:00:00Z"),
            count: 1,
        }));
    });
    finds(4, |truth| {
        truth.lines.retain(|line| {
            !matches!(&line.line, Line::Delivery(d) if d.occurrence.as_deref().is_some_and(|o| o.contains("T12:00")) && d.room.0 == 1536)
        });
        truth
            .lines
            .retain(|line| !matches!(&line.line, Line::Occurrence(o) if o.id.contains("T12:00")));
    });
}

#[test]
fn a_promise_that_was_not_kept() {
    let truth = truth();
    let promised = imbabot_bot::DeliveryId::of_key("never recorded");
    let found = Check::new().ledger(truth.lines).accepted([promised]).run();
    assert_eq!(found.iter().map(|found| found.invariant).collect::<Vec<_>>(), [5]);
}

/// Two messages of a lane are there in another order than both were known in.
fn exchanged(truth: &mut Truth, [one, other]: [usize; 2]) {
    let sends: Vec<usize> = (0..truth.requests.len())
        .filter(|place| truth.requests[*place].endpoint.as_deref() == Some("send_msg"))
        .filter(|place| truth.requests[*place].room == Some(1537))
        .filter(|place| truth.requests[*place].applied)
        .collect();
    // As if both had been known before the first left.
    truth.requests.swap(sends[one], sends[other]);
    truth.lines.sort_by_key(|line| match &line.line {
        Line::Delivery(record) if record.state == DeliveryState::Queued => 0,
        Line::Incarnation(_) => -1,
        _ => 1,
    });
    for (seq, line) in (1..).zip(&mut truth.lines) {
        line.seq = seq;
    }
}

#[test]
fn messages_of_a_lane_in_another_order() {
    finds(6, |truth| exchanged(truth, [1, 2]));
}

#[test]
fn a_message_that_was_unknown_may_arrive_after_one_that_did_not_wait_for_it() {
    let mut truth = truth();
    exchanged(&mut truth, [0, 1]);
    let mut as_sent = |policy| {
        for line in &mut truth.lines {
            if let Line::Delivery(delivery) = &mut line.line {
                delivery.policy = policy;
            }
        }
        truth.violations().contains(&6)
    };
    assert!(!as_sent(Policy::AtMostOnce));
    assert!(as_sent(Policy::AtLeastOnce), "one that is repeated is waited for");
}

#[test]
fn a_state_that_does_not_follow() {
    finds(7, |truth| {
        truth.lines.retain(
            |line| !matches!(&line.line, Line::Delivery(d) if d.state == DeliveryState::Sending),
        );
    });
    finds(7, |truth| truth.lines.swap(3, 9));
    finds(7, |truth| truth.last(DeliveryState::Delivered).reason = Some("because".into()));
    finds(7, |truth| {
        let mut again = truth.last(DeliveryState::Delivered).clone();
        again.state = DeliveryState::Queued;
        truth.add(Line::Delivery(Box::new(again)));
    });
    finds(7, |truth| {
        let mut revived = truth.last(DeliveryState::Dead).clone();
        revived.state = DeliveryState::Queued;
        revived.reason = None;
        truth.add(Line::Delivery(Box::new(revived)));
    });
    finds(7, |truth| {
        let lines = truth.lines.iter_mut();
        let mut attempts = lines.filter_map(|line| match &mut line.line {
            Line::Attempt(attempt) if attempt.class == Some(Class::Delivered) => Some(attempt),
            _ => None,
        });
        attempts.next().unwrap().class = Some(Class::NotSent);
    });
}

#[test]
fn a_request_of_which_half_arrived_although_it_was_not_sent() {
    finds(3, |truth| {
        let lines = truth.lines.iter_mut();
        let attempts = lines.filter_map(|line| match &mut line.line {
            Line::Attempt(attempt) if attempt.class == Some(Class::Rejected) => Some(attempt),
            _ => None,
        });
        let mut refused = None;
        for attempt in attempts {
            attempt.class = Some(Class::NotSent);
            refused = Some(attempt.delivery.to_string());
        }
        let request = truth.requests.iter_mut().find(|request| request.delivery == refused);
        request.unwrap().complete = false;
    });
}

#[test]
fn requests_that_come_too_fast() {
    finds(8, |truth| {
        let send = truth.sends().next().unwrap().clone();
        truth.requests.extend((0..200).map(|_| send.clone()));
    });
}

#[test]
fn a_secret_in_what_was_heard() {
    let key = SecretKey::parse("Tr0ub4dor&3").unwrap();
    let check = Check::new().secret(key).heard("the log", "all is well");
    assert_eq!(check.run(), []);
    let check = check.heard("a page", "Authorization: Basic NjI3OlRyMHViNGRvciYz");
    assert_eq!(check.run()[0].invariant, 9);
}

#[test]
fn an_outage_of_which_nobody_was_told() {
    let at = |second: i64| Timestamp::from_seconds(1_772_445_600 + second);
    let change = |second, good| Change { at: at(second), good };
    let outage = [change(0, true), change(10, false), change(60, true)];
    let told = |ready: &[Change], until| {
        let check = Check::new().readiness(&outage, ready, at(until));
        check.run().iter().map(|found| found.invariant).collect::<Vec<_>>()
    };
    assert_eq!(told(&[change(0, true)], 20), [10]);
    assert_eq!(told(&[change(0, true), change(16, false)], 20), [10]);
    assert!(told(&[change(0, true), change(14, false)], 20).is_empty());
    assert!(told(&[change(0, true)], 14).is_empty(), "there is still time");
}

#[test]
fn metrics_that_a_recount_contradicts() {
    let truth = truth();
    let lie = "imbabot_deliveries_total{state=\"delivered\",reason=\"\"} 40\n";
    let found = Check::new().ledger(truth.lines).metrics(lie).run();
    assert!(found.iter().all(|found| found.invariant == 7));
    assert!(found.iter().any(|found| found.found.contains("is 40")), "{found:?}");
}
