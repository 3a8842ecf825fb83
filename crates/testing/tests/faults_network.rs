//! Faults of the network (N) in virtual time: what the daemon does while the server is away, slow,
//! silent or cut off, and what the ledger says of it. What needs real sockets is in
//! `crates/core/tests/faults_network.rs` and `bots/tests/faults_network.rs`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]
#![allow(clippy::print_stdout, reason = "what was measured is told")]

mod faults;

use std::time::Duration;

use faults::{asked, attempts, chat, classes, count, fault, no_more_faults, open, reasons, until};
use imbabot_bot::prelude::*;
use imbabot_scheduler::{NotReady, Rate};
use imbabot_store::{Class, DeliveryState};
use imbabot_testing::Harness;

/// How a server can be away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Away {
    /// Nobody listens.
    Refused,
    /// Nothing ever comes back.
    Blackhole,
}

impl Away {
    fn begin(self, chat: &mut Harness) {
        match self {
            Self::Refused => chat.world().simulator.server_down(true),
            Self::Blackhole => fault(chat, "any:blackhole:always"),
        }
    }

    fn end(self, chat: &mut Harness) {
        match self {
            Self::Refused => chat.world().simulator.server_down(false),
            Self::Blackhole => no_more_faults(chat),
        }
    }

    /// How long a request takes to fail.
    fn patience(self) -> Duration {
        match self {
            Self::Refused => Duration::ZERO,
            Self::Blackhole => seconds(5),
        }
    }
}

fn an_outage_of_ten_minutes(away: Away, and: Duration) {
    let mut chat = chat(1, seconds(3));
    open(&mut chat, 40);
    chat.advance(seconds(2));
    assert!(chat.sent().is_empty(), "nothing is due yet");

    away.begin(&mut chat);
    let before = asked(&mut chat);
    let first = until(&mut chat, seconds(10), "a request", |chat| asked(chat) > before);
    let shown = until(&mut chat, seconds(12), "/readyz says so", |chat| {
        reasons(chat) == [NotReady::ApiUnreachable]
    });
    assert!(shown <= away.patience(), "shown {shown:?} after the first request began");
    chat.advance(minutes(10) + and - first - shown);

    assert_eq!(reasons(&mut chat), [NotReady::ApiUnreachable]);
    assert_eq!(count(&chat, DeliveryState::Queued), 40, "everything waits");
    let tried = classes(&mut chat);
    assert!(tried.iter().all(|class| *class == Some(Class::NotSent)), "{tried:?}");
    assert!(tried.len() <= 30, "{} messages were tried", tried.len());
    // Those and the polls, which are the probe: one in at most 15 s is 40 at least.
    let all = asked(&mut chat) - before;
    assert!(all <= 70, "{all} connections were tried");
    let messages = tried.len();

    away.end(&mut chat);
    let back = until(&mut chat, seconds(16), "the first message", |chat| !chat.sent().is_empty());
    assert!(back <= seconds(15), "{away:?}, back after {:?}: {back:?}", minutes(10) + and);
    println!(
        "{away:?}: shown after {shown:?}, {messages} messages tried, {all} connections in all, \
         first message {back:?} after the end"
    );
    chat.advance(seconds(30));
    assert_eq!(chat.sent().len(), 40);
    assert_eq!(count(&chat, DeliveryState::Delivered), 40);
    assert!(reasons(&mut chat).is_empty());
    chat.world().check();
}

#[test]
fn n1_a_server_that_refuses_for_ten_minutes_is_waited_for_and_heard_at_once_when_it_is_back() {
    // At any moment between two looks.
    for more in (0..13_000).step_by(3_100) {
        an_outage_of_ten_minutes(Away::Refused, Duration::from_millis(more));
    }
}

#[test]
fn n1_a_server_that_swallows_everything_for_ten_minutes_is_waited_for_as_well() {
    for more in (0..13_000).step_by(3_100) {
        an_outage_of_ten_minutes(Away::Blackhole, Duration::from_millis(more));
    }
}

#[test]
fn n1_an_outage_that_begins_while_messages_leave_drains_under_the_rate_when_it_ends() {
    for away in [Away::Refused, Away::Blackhole] {
        let mut chat = chat(1, seconds(3));
        open(&mut chat, 300);
        chat.advance(seconds(8));
        let before = chat.sent().len();
        assert!((1..300).contains(&before), "{before} left before the outage");
        away.begin(&mut chat);
        chat.advance(minutes(10));
        assert_eq!(chat.sent().len(), before);
        let tried = classes(&mut chat).iter().filter(|c| **c == Some(Class::NotSent)).count();
        assert!(tried <= 30, "{away:?}: {tried} messages were tried");
        away.end(&mut chat);
        chat.advance(minutes(2));
        assert_eq!(chat.sent().len(), 300);
        chat.world().check();
    }
}

#[test]
fn n1_a_message_that_expires_during_an_outage_is_dead_and_was_never_sent() {
    for away in [Away::Refused, Away::Blackhole] {
        let mut chat = chat(1, seconds(3)).with(|s| s.delivery.expires_after = minutes(5));
        open(&mut chat, 3);
        away.begin(&mut chat);
        chat.advance(minutes(4));
        assert_eq!(count(&chat, DeliveryState::Queued), 3);
        chat.advance(minutes(6));
        assert!(chat.deliveries().iter().all(|d| d.reason.as_deref() == Some("expired")));
        away.end(&mut chat);
        chat.advance(minutes(2));
        assert!(chat.sent().is_empty());
        chat.world().check();
    }
}

#[test]
fn n1_ten_outages_in_a_row_lose_and_double_nothing_and_each_ends_within_seconds() {
    let mut chat = chat(20, seconds(1));
    open(&mut chat, 2);
    for n in 0_usize..10 {
        let away = if n.is_multiple_of(2) { Away::Refused } else { Away::Blackhole };
        away.begin(&mut chat);
        chat.advance(seconds(90));
        let before = chat.sent().len();
        away.end(&mut chat);
        if before < 40 {
            let more = |chat: &mut Harness| chat.sent().len() > before;
            until(&mut chat, seconds(15), "a message after the outage", more);
        }
        chat.advance(seconds(5));
    }
    chat.advance(minutes(2));
    assert_eq!(chat.sent().len(), 40);
    chat.world().check();
}

#[test]
fn n1_users_are_not_asked_for_while_the_server_is_looked_for() {
    struct Host;
    #[async_trait]
    impl Bot for Host {
        fn listens(&self) -> Listen {
            Listen::USERS
        }
        async fn on_event(&self, _: &mut Context, _: &Event) -> Result<()> {
            Ok(())
        }
    }
    let mut chat = chat(1, seconds(1)).bot("host", Host).with(|s| s.poll.users = seconds(5));
    open(&mut chat, 1);
    chat.advance(seconds(20));
    Away::Refused.begin(&mut chat);
    chat.advance(seconds(20));
    let before = asked(&mut chat);
    chat.advance(minutes(10));
    let all = asked(&mut chat) - before;
    assert!(all <= 51, "{all} connections were tried");
    Away::Refused.end(&mut chat);
    chat.advance(seconds(15));
    let before = faults::asked_of(&mut chat, "get_users");
    chat.advance(seconds(15));
    assert!(faults::asked_of(&mut chat, "get_users") > before, "users are asked for again");
}

#[test]
fn every_kind_of_failed_request_is_shown_within_five_seconds() {
    // A poll that fails; how long a request takes to fail.
    for (spec, takes) in [
        ("get_rooms:refuse:always", 0),
        ("get_rooms:blackhole:always", 5),
        ("get_rooms:close-unread:always", 0),
        ("get_rooms:close=rst:always", 0),
        ("get_rooms:silent:always", 30),
        ("get_rooms:status=500:always", 0),
        ("get_rooms:status=503:always", 0),
        ("get_rooms:status=404:always", 0),
        ("get_rooms:body=@html:always", 0),
        ("get_rooms:body=@empty:always", 0),
        ("get_rooms:truncate=20:always", 0),
        ("get_rooms:stall=20:always", 30),
        ("get_rooms:list=null:always", 0),
        ("get_rooms:other-widget=9:always", 0),
        ("get_rooms:interim=100:always", 30),
        ("get_rooms:not-http=SSH:always", 0),
    ] {
        let mut chat = chat(0, seconds(0));
        open(&mut chat, 1);
        assert!(reasons(&mut chat).is_empty());
        fault(&mut chat, spec);
        let shown = until(&mut chat, seconds(60), spec, |chat| !reasons(chat).is_empty());
        // From one poll to the next, the request, and then at once.
        assert!(shown <= seconds(5 + takes) + Duration::from_millis(200), "{spec}: {shown:?}");
        assert_eq!(reasons(&mut chat), [NotReady::ApiUnreachable], "{spec}");
        no_more_faults(&mut chat);
        let gone = until(&mut chat, seconds(60), spec, |chat| reasons(chat).is_empty());
        assert!(gone <= seconds(48), "{spec}: shown for {gone:?} too long");
    }
    // A message that fails, while nothing is polled.
    for (spec, takes) in [
        ("send_msg:refuse:always", 0),
        ("send_msg:blackhole:always", 5),
        ("send_msg:close:always", 0),
        ("send_msg:apply-then-close:always", 0),
        ("send_msg:silent:always", 20),
        ("send_msg:status=502:always", 0),
        ("send_msg:body=@html:always", 0),
        ("send_msg:no-id:always", 0),
    ] {
        let mut chat = chat(1, seconds(1)).with(|s| s.poll.rooms = hours(10));
        open(&mut chat, 1);
        fault(&mut chat, spec);
        let shown = until(&mut chat, seconds(30), spec, |chat| !reasons(chat).is_empty());
        assert!(shown <= seconds(1 + takes) + Duration::from_millis(200), "{spec}: {shown:?}");
    }
}

#[test]
fn n4_a_connection_that_never_comes_about_is_given_up_after_five_seconds_and_not_sent() {
    let mut chat = chat(1, seconds(0));
    chat.open_room("Support");
    fault(&mut chat, "send_msg:blackhole");
    chat.poll();
    chat.advance(seconds(7));
    let attempts = attempts(&mut chat);
    assert_eq!(attempts[0].class, Some(Class::NotSent));
    let took = attempts[0].ended_at.unwrap().since(attempts[0].started_at);
    assert!(took <= seconds(6), "{took:?}");
    assert_eq!(chat.sent(), ["Support: number 0"], "and then it is sent");
    chat.world().check();
}

/// One message meets this; under both policies the ledger tells the truth, and `at_most_once` sends
/// it once.
fn ambiguous_and_sent_once(spec: &str, applied: usize) {
    let mut chat = chat(1, seconds(0)).with(|settings| settings.poll.rooms = hours(1));
    chat.open_room("Support");
    fault(&mut chat, spec);
    chat.poll();
    chat.advance(hours(2));
    assert_eq!(chat.sent().len(), applied, "{spec}");
    assert_eq!(classes(&mut chat), [Some(Class::Ambiguous)], "{spec}");
    assert_eq!(chat.deliveries()[0].state, DeliveryState::Unknown, "{spec}");
    // A restart changes nothing about that.
    chat.world().crash();
    chat.world().start();
    chat.advance(hours(23));
    let delivery = &chat.deliveries()[0];
    assert_eq!(delivery.state, DeliveryState::Dead, "{spec}");
    assert_eq!(delivery.reason.as_deref(), Some("unresolved"), "{spec}");
    assert_eq!(faults::asked_of(&mut chat, "send_msg"), 1, "{spec}: sent again");
    chat.world().check();
}

#[test]
fn n6_a_request_lost_before_it_was_applied_is_unknown_and_never_resent() {
    for spec in ["send_msg:close=fin", "send_msg:close=rst", "send_msg:close-unread=rst"] {
        ambiguous_and_sent_once(spec, 0);
    }
}

#[test]
fn n7_reply_lost_after_apply_is_unknown_and_never_resent() {
    for spec in [
        "send_msg:apply-then-close=fin",
        "send_msg:apply-then-close=rst",
        "send_msg:truncate=0",
        "send_msg:truncate=40",
        "send_msg:truncate=40:close=rst",
        "send_msg:truncate-chunked=40",
        "send_msg:stall=40",
        "send_msg:interim=100:applied",
        "send_msg:not-http=SSH-2.0:applied",
    ] {
        ambiguous_and_sent_once(spec, 1);
    }
}

#[test]
fn n6_n7_under_at_least_once_a_lost_request_comes_once_more_and_says_so() {
    for (spec, copies) in [("send_msg:close=rst", 1), ("send_msg:apply-then-close=rst", 2)] {
        let mut chat = chat(1, seconds(0)).with(|s| s.delivery.policy = Policy::AtLeastOnce);
        chat.open_room("Support");
        fault(&mut chat, spec);
        chat.poll();
        chat.advance(seconds(59));
        assert_eq!(faults::asked_of(&mut chat, "send_msg"), 1, "{spec}: before `settle`");
        chat.advance(seconds(3));
        assert_eq!(chat.sent().len(), copies, "{spec}");
        assert!(chat.deliveries()[0].possible_duplicate, "{spec}");
        assert_eq!(chat.deliveries()[0].state, DeliveryState::Delivered, "{spec}");
        chat.world().check();
    }
}

/// How long each message of the other rooms took from the moment it was due, sorted.
fn latencies(chat: &mut Harness, but: RoomId) -> Vec<Duration> {
    let due: std::collections::HashMap<_, _> = chat
        .deliveries()
        .into_iter()
        .filter(|delivery| delivery.room != but)
        .map(|delivery| (delivery.id, delivery.not_before.max(delivery.created_at)))
        .collect();
    let mut all: Vec<_> = attempts(chat)
        .into_iter()
        .filter(|attempt| attempt.class == Some(Class::Delivered))
        .filter_map(|attempt| Some(attempt.ended_at?.since(*due.get(&attempt.delivery)?)))
        .collect();
    all.sort_unstable();
    all
}

#[test]
fn n9_a_room_that_is_never_answered_frees_its_slot_and_leaves_the_others_as_they_are() {
    let mut p99 = Vec::new();
    for silent in [None, Some("silent"), Some("apply-then-silent")] {
        // Five of the eight slots are busy all the time.
        let mut chat = chat(5, seconds(3)).with(|s| s.delivery.rate = Rate::new(50, seconds(1)));
        let rooms = open(&mut chat, 60);
        if let Some(silent) = silent {
            fault(&mut chat, &format!("send_msg:{silent}:room={}:always", rooms[0]));
        }
        fault(&mut chat, "send_msg:late=100ms:always");
        chat.advance(minutes(5));
        let others = latencies(&mut chat, rooms[0]);
        assert_eq!(others.len(), 59 * 5, "{silent:?}");
        p99.push(others[others.len() * 99 / 100].as_secs_f64());
        if silent.is_some() {
            let long: Vec<_> = attempts(&mut chat)
                .into_iter()
                .filter(|attempt| attempt.class == Some(Class::Ambiguous))
                .map(|attempt| attempt.ended_at.unwrap().since(attempt.started_at))
                .collect();
            assert_eq!(long.len(), 5);
            assert!(long.iter().all(|t| (seconds(19)..=seconds(21)).contains(t)), "{long:?}");
            assert_eq!(count(&chat, DeliveryState::Unknown), 5);
        }
        chat.world().check();
    }
    println!("p99 of the other rooms, alone and beside a silent one: {p99:?} s");
    assert!(p99[1] <= p99[0] * 1.2 && p99[2] <= p99[0] * 1.2, "{p99:?}");
}

#[test]
fn n10_a_reply_of_one_byte_per_second_is_given_up_within_21_seconds() {
    for pace in ["slow=1B/s", "slow=3B/s", "late=19s:slow=1B/s"] {
        let mut chat = chat(1, seconds(0));
        chat.open_room("Support");
        fault(&mut chat, &format!("send_msg:{pace}"));
        chat.poll();
        chat.advance(minutes(5));
        let attempts = attempts(&mut chat);
        assert_eq!(attempts.len(), 1);
        let took = attempts[0].ended_at.unwrap().since(attempts[0].started_at);
        assert!(took <= seconds(21), "{pace}: {took:?}");
        assert_eq!(attempts[0].class, Some(Class::Ambiguous));
        assert_eq!(count(&chat, DeliveryState::Unknown), 1);
        chat.world().check();
    }
}

#[test]
fn n13_half_of_all_connections_reset_for_ten_minutes_neither_doubles_nor_floods() {
    for reset in ["close=rst", "apply-then-close=rst", "close-unread=rst", "refuse"] {
        for policy in [Policy::AtMostOnce, Policy::AtLeastOnce] {
            let mut chat = chat(5, seconds(1)).with(|s| s.delivery.policy = policy);
            open(&mut chat, 20);
            fault(&mut chat, &format!("any:{reset}:p=0.5"));
            chat.advance(minutes(10));
            let requests = faults::asked_of(&mut chat, "send_msg");
            // A message comes once, and under the other policy at most twice more.
            let most = if policy == Policy::AtMostOnce { 100 } else { 300 };
            assert!(requests <= most, "{reset}, {policy:?}: {requests} requests for 100 messages");
            no_more_faults(&mut chat);
            chat.advance(minutes(20));
            assert_eq!(count(&chat, DeliveryState::Queued), 0, "{reset}, {policy:?}");
            assert_eq!(count(&chat, DeliveryState::Sending), 0, "{reset}, {policy:?}");
            let delivered = count(&chat, DeliveryState::Delivered);
            println!("{reset}, {policy:?}: {requests} requests, {delivered} of 100 delivered");
            chat.world().check();
        }
    }
}

#[test]
fn n15_after_a_poll_that_hangs_the_next_one_comes_within_half_a_minute() {
    // What the transport sees of a cable that is pulled: nothing for a while, then the end.
    for spec in ["get_rooms:silent", "get_rooms:stall=10", "get_rooms:blackhole"] {
        let mut chat = chat(0, seconds(0));
        open(&mut chat, 1);
        fault(&mut chat, spec);
        chat.advance(seconds(6));
        let failed = until(&mut chat, seconds(31), spec, |chat| !reasons(chat).is_empty());
        let next = until(&mut chat, seconds(60), spec, |chat| reasons(chat).is_empty());
        assert!(next <= seconds(12), "{spec}: {failed:?}, and then {next:?}");
    }
}
