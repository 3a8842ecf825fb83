//! Faults of HTTP (H) in virtual time: redirects, refused credentials, errors of the server, and
//! answers that are labelled or packed in odd ways. What needs real sockets (TLS, second listeners,
//! memory) is in `crates/core/tests/http.rs`, `crates/core/tests/faults_tls.rs` and
//! `bots/tests/faults_http.rs`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod faults;

use std::time::Duration;

use faults::{
    asked, asked_of, attempts, chat, classes, count, fault, no_more_faults, open, reasons, until,
};
use imbabot_bot::prelude::*;
use imbabot_scheduler::NotReady;
use imbabot_store::{Class, DeliveryState};
use imbabot_testing::Harness;

const ELSEWHERE: &str = "location=https\\://elsewhere.example/imbachat?key=1";

/// What the breaker of the widget shows, and since when.
fn breaker(chat: &mut Harness) -> Option<(String, Timestamp)> {
    let status = chat.world().engine().unwrap().status();
    status.widgets.into_values().next().unwrap().breaker
}

/// Puts the same settings into force again, as SIGHUP does.
fn reload(chat: &mut Harness) {
    chat.world().reload();
}

/// From now on the right key is another one, on both sides.
fn new_key(chat: &mut Harness, key: &str) {
    let by_jwt = chat.world().settings().widgets[0].rooms_by_jwt;
    let mut widget = chat.world().widget(key);
    widget.rooms_by_jwt = by_jwt;
    chat.world().settings().widgets = vec![widget];
    reload(chat);
}

#[test]
fn h1_a_redirect_of_everything_is_not_followed_and_holds_everything() {
    for status in [301, 307, 308] {
        let mut chat = chat(1, seconds(3));
        open(&mut chat, 20);
        fault(&mut chat, &format!("any:status={status}:{ELSEWHERE}:always"));
        chat.advance(seconds(10));
        let opened = breaker(&mut chat).unwrap();
        assert_eq!(opened.0, "redirect");
        let before = asked(&mut chat);
        for _ in 0..100 {
            chat.advance(seconds(6));
            assert_eq!(reasons(&mut chat), [NotReady::Redirected], "{status}");
            assert_eq!(breaker(&mut chat).as_ref(), Some(&opened), "{status}: it flaps");
        }
        let requests = asked(&mut chat) - before;
        assert!(requests <= 10, "{status}: {requests} requests in ten minutes");
        assert_eq!(count(&chat, DeliveryState::Queued), 20, "held, not dead");
        assert!(classes(&mut chat).iter().all(|c| *c == Some(Class::Rejected)));
        no_more_faults(&mut chat);
        reload(&mut chat);
        chat.advance(seconds(10));
        assert_eq!(count(&chat, DeliveryState::Delivered), 20);
        assert!(reasons(&mut chat).is_empty());
        chat.world().check();
    }
}

#[test]
fn h1_a_redirect_of_messages_alone_holds_them_and_one_a_minute_tries_again() {
    for status in [301, 308] {
        let mut chat = chat(1, seconds(3));
        open(&mut chat, 20);
        fault(&mut chat, &format!("send_msg:status={status}:{ELSEWHERE}:always"));
        chat.advance(seconds(10));
        let opened = breaker(&mut chat).unwrap();
        let before = asked_of(&mut chat, "send_msg");
        assert!(before <= 8, "{before} messages met it");
        for _ in 0..600 {
            chat.advance(seconds(1));
            assert_eq!(reasons(&mut chat), [NotReady::Redirected]);
            assert_eq!(breaker(&mut chat).as_ref(), Some(&opened), "it flaps");
        }
        let tried = asked_of(&mut chat, "send_msg") - before;
        assert!((1..=10).contains(&tried), "{tried} messages tried again in ten minutes");
        assert_eq!(count(&chat, DeliveryState::Queued), 20);
        // Mended at the server, without anybody touching us.
        no_more_faults(&mut chat);
        chat.advance(seconds(150));
        assert_eq!(count(&chat, DeliveryState::Delivered), 20);
        assert!(reasons(&mut chat).is_empty());
        chat.world().check();
    }
}

#[test]
fn h1_a_message_that_probes_a_redirect_and_is_refused_instead_is_not_asked_again_and_again() {
    for status in [401, 403] {
        let mut chat = chat(1, seconds(3));
        open(&mut chat, 20);
        fault(&mut chat, &format!("send_msg:status=308:{ELSEWHERE}:always"));
        chat.advance(seconds(10));
        assert_eq!(breaker(&mut chat).unwrap().0, "redirect");
        no_more_faults(&mut chat);
        fault(&mut chat, &format!("send_msg:status={status}:always"));
        let before = asked_of(&mut chat, "send_msg");
        chat.advance(minutes(5));
        // The key is good, as the list shows, so each is refused by itself and once.
        let asked = asked_of(&mut chat, "send_msg") - before;
        assert!(asked <= 20 + 8, "{asked} requests for 20 messages");
        assert_eq!(count(&chat, DeliveryState::Dead), 20, "{status}");
        assert_eq!(breaker(&mut chat), None);
        assert!(reasons(&mut chat).is_empty());
        chat.world().check();
    }
}

#[test]
fn what_was_asked_before_a_reload_says_nothing_about_the_settings_after_it() {
    for spec in [
        "get_rooms:status=401:late=8s".to_owned(),
        format!("get_rooms:status=308:{ELSEWHERE}:late=8s"),
        format!("send_msg:status=308:{ELSEWHERE}:late=8s"),
    ] {
        let mut chat = chat(1, seconds(3));
        fault(&mut chat, &spec);
        if spec.starts_with("get_rooms") {
            chat.advance(seconds(1));
        }
        open(&mut chat, 1);
        chat.advance(seconds(5));
        reload(&mut chat);
        chat.advance(seconds(20));
        assert_eq!(breaker(&mut chat), None, "{spec}");
        assert!(reasons(&mut chat).is_empty(), "{spec}");
        assert_eq!(count(&chat, DeliveryState::Delivered), 1, "{spec}");
        chat.world().check();
    }
}

#[test]
fn h1_a_redirect_of_the_list_alone_holds_the_messages_as_well() {
    for status in [301, 302, 303, 307, 308] {
        let mut chat = chat(1, seconds(8));
        open(&mut chat, 3);
        fault(&mut chat, &format!("get_rooms:status={status}:{ELSEWHERE}:always"));
        chat.advance(minutes(10));
        assert_eq!(reasons(&mut chat), [NotReady::Redirected]);
        assert_eq!(count(&chat, DeliveryState::Queued), 3);
        let problem = chat.world().engine().unwrap().status().widgets.into_values().next();
        let problem = problem.unwrap().problem.unwrap();
        assert!(problem.contains("https://elsewhere.example;"), "the origin alone: {problem}");
        no_more_faults(&mut chat);
        chat.advance(seconds(75));
        assert_eq!(count(&chat, DeliveryState::Delivered), 3);
        chat.world().check();
    }
}

#[test]
fn h1_a_redirect_that_names_no_target_or_nonsense_is_one_all_the_same() {
    for location in ["", "location=", "location=/elsewhere", "location=javascript\\:alert(1)"] {
        let mut chat = chat(1, seconds(0));
        open(&mut chat, 1);
        fault(&mut chat, &format!("any:status=301:{location}:always").replace("::", ":"));
        chat.advance(seconds(10));
        assert_eq!(reasons(&mut chat), [NotReady::Redirected], "{location:?}");
    }
}

#[test]
fn h2_a_see_other_after_the_message_was_applied_is_unknown_and_never_resent() {
    for (status, applied) in [(302, true), (303, true), (302, false), (303, false), (300, true)] {
        let mut chat = chat(1, seconds(0)).with(|s| s.poll.rooms = hours(1));
        chat.open_room("Support");
        let word = if applied { "applied" } else { "unapplied" };
        fault(&mut chat, &format!("send_msg:status={status}:{ELSEWHERE}:{word}"));
        chat.poll();
        chat.advance(hours(3));
        assert_eq!(classes(&mut chat), [Some(Class::Ambiguous)], "{status}");
        assert_eq!(count(&chat, DeliveryState::Unknown), 1, "{status}");
        assert_eq!(chat.sent().len(), usize::from(applied));
        chat.world().check();
    }
}

/// Ways to refuse a key.
const REFUSALS: [&str; 4] = ["status=401", "status=403", "code=401", "code=403"];

#[test]
fn h4_a_refused_key_is_asked_about_eleven_times_in_ten_minutes_and_a_reload_lets_all_go() {
    for as_200 in [false, true] {
        let mut chat = chat(1, seconds(3));
        chat.world().simulator.configure(|options| options.errors_as_200 = as_200);
        open(&mut chat, 40);
        chat.world().simulator.set_secret("another-secret");
        let before = asked(&mut chat);
        let shown = until(&mut chat, seconds(6), "it shows", |chat| !reasons(chat).is_empty());
        let opened = breaker(&mut chat).unwrap();
        for _ in 0..600 {
            chat.advance(seconds(1));
            assert_eq!(reasons(&mut chat), [NotReady::CredentialsRejected]);
            assert_eq!(breaker(&mut chat).as_ref(), Some(&opened), "it flaps");
        }
        let requests = asked(&mut chat) - before;
        println!("errors as 200: {as_200}: shown after {shown:?}, {requests} requests");
        assert!(requests <= 11, "{requests} requests in ten minutes");
        assert_eq!(count(&chat, DeliveryState::Queued), 40, "nothing is dead");
        new_key(&mut chat, "another-secret");
        chat.advance(seconds(10));
        assert_eq!(count(&chat, DeliveryState::Delivered), 40);
        assert!(reasons(&mut chat).is_empty());
        chat.world().check();
    }
}

#[test]
fn h4_a_key_that_messages_find_refused_is_asked_about_once_and_then_as_seldom() {
    // Nothing is polled meanwhile: the messages are the first to know.
    for (slow, refusal) in REFUSALS.iter().enumerate() {
        let mut chat = chat(1, seconds(3));
        open(&mut chat, 40);
        chat.advance(Duration::from_millis(2_900));
        fault(&mut chat, &format!("any:{refusal}:always"));
        if slow > 1 {
            // The answers take a while: others are on their way before the first is refused.
            no_more_faults(&mut chat);
            fault(&mut chat, &format!("any:{refusal}:late=150ms:always"));
        }
        let before = asked(&mut chat);
        chat.advance(minutes(10));
        let requests = asked(&mut chat) - before;
        println!("{refusal}: {requests} requests, {} of messages", asked_of(&mut chat, "send_msg"));
        assert!(requests <= 11, "{refusal}: {requests} requests in ten minutes");
        assert_eq!(reasons(&mut chat), [NotReady::CredentialsRejected], "{refusal}");
        assert_eq!(count(&chat, DeliveryState::Queued), 40, "{refusal}");
        no_more_faults(&mut chat);
        // Mended at the server: the next probe finds out.
        let back = until(&mut chat, seconds(72), "the first message", |c| !c.sent().is_empty());
        println!("{refusal}: mended at the server, and {back:?} later the first message leaves");
        chat.advance(seconds(10));
        assert_eq!(count(&chat, DeliveryState::Delivered), 40, "{refusal}");
        chat.world().check();
    }
}

#[test]
fn h4_a_refused_token_beside_an_accepted_key_is_one_steady_state() {
    for refusal in REFUSALS {
        let mut chat = chat(1, seconds(8)).with(|settings| {
            settings.widgets[0].rooms_by_jwt = true;
        });
        open(&mut chat, 10);
        fault(&mut chat, &format!("get_rooms:{refusal}:always"));
        let before = asked(&mut chat);
        until(&mut chat, seconds(6), "it shows", |chat| !reasons(chat).is_empty());
        let opened = breaker(&mut chat).unwrap();
        for _ in 0..600 {
            chat.advance(seconds(1));
            assert_eq!(reasons(&mut chat), [NotReady::CredentialsRejected], "{refusal}");
            assert_eq!(breaker(&mut chat).as_ref(), Some(&opened), "{refusal}: it flaps");
        }
        let requests = asked(&mut chat) - before;
        println!("token, {refusal}: {requests} requests");
        assert!(requests <= 11, "{refusal}: {requests} requests in ten minutes");
        assert_eq!(count(&chat, DeliveryState::Queued), 10);
        no_more_faults(&mut chat);
        until(&mut chat, seconds(72), "the first message", |c| !c.sent().is_empty());
        chat.advance(seconds(5));
        assert_eq!(count(&chat, DeliveryState::Delivered), 10);
        chat.world().check();
    }
}

#[test]
fn h4_a_refused_key_beside_an_accepted_token_is_probed_with_the_key_and_lets_go_at_once() {
    let mut chat = chat(1, seconds(3)).with(|settings| settings.widgets[0].rooms_by_jwt = true);
    open(&mut chat, 10);
    fault(&mut chat, "send_msg:code=401:always");
    fault(&mut chat, "get_users:code=401:always");
    let before = asked(&mut chat);
    until(&mut chat, seconds(6), "it shows", |chat| !reasons(chat).is_empty());
    let opened = breaker(&mut chat).unwrap();
    let lists = asked_of(&mut chat, "get_rooms");
    for _ in 0..600 {
        chat.advance(seconds(1));
        assert_eq!(reasons(&mut chat), [NotReady::CredentialsRejected]);
        assert_eq!(breaker(&mut chat).as_ref(), Some(&opened), "it flaps");
    }
    let requests = asked(&mut chat) - before;
    assert!(requests <= 11, "{requests} requests in ten minutes");
    assert_eq!(asked_of(&mut chat, "get_rooms"), lists, "the list says nothing about the key");
    no_more_faults(&mut chat);
    // The probe that is accepted rings the deliverer's bell.
    until(&mut chat, seconds(69), "the first message", |chat| !chat.sent().is_empty());
    let probes = asked_of(&mut chat, "get_rooms");
    assert_eq!(probes, lists, "not only the poll after the probe");
    chat.advance(seconds(10));
    assert_eq!(count(&chat, DeliveryState::Delivered), 10);
    chat.world().check();
}

#[test]
fn h4_a_message_that_is_forbidden_while_the_key_is_good_holds_nobody_else() {
    for refusal in REFUSALS {
        let mut chat = chat(2, seconds(3));
        let rooms = open(&mut chat, 10);
        fault(&mut chat, &format!("send_msg:{refusal}:room={}:always", rooms[0]));
        chat.advance(minutes(1));
        assert!(reasons(&mut chat).is_empty(), "{refusal}");
        assert_eq!(count(&chat, DeliveryState::Delivered), 18, "{refusal}");
        let dead =
            chat.deliveries().into_iter().filter(|d| d.reason.as_deref() == Some("rejected"));
        assert!(dead.map(|d| d.room).eq([rooms[0], rooms[0]]), "{refusal}");
        chat.world().check();
    }
}

#[test]
fn h4_where_the_question_gets_no_answer_either_nothing_dies_and_nothing_is_flooded() {
    for probe in ["refuse", "status=500", "silent", "body=@html"] {
        let mut chat = chat(1, seconds(3));
        open(&mut chat, 40);
        fault(&mut chat, "send_msg:status=403:always");
        fault(&mut chat, &format!("get_users:{probe}:always"));
        let before = asked(&mut chat) - asked_of(&mut chat, "get_rooms");
        chat.advance(minutes(10));
        let requests = asked(&mut chat) - asked_of(&mut chat, "get_rooms") - before;
        println!("403 and {probe}: {requests} requests");
        assert!(requests <= 250, "{probe}: {requests} requests in ten minutes");
        let waiting = count(&chat, DeliveryState::Queued) + count(&chat, DeliveryState::Sending);
        assert_eq!(waiting, 40, "{probe}");
        no_more_faults(&mut chat);
        chat.advance(minutes(3));
        assert_eq!(count(&chat, DeliveryState::Delivered), 40, "{probe}");
        chat.world().check();
    }
}

#[test]
fn h6_h7_errors_of_the_server_are_unknown_whether_applied_or_not() {
    let codes = ["status=500", "status=502", "status=503", "status=504", "status=520", "code=500"];
    let mut faults: Vec<String> = codes.iter().map(|&code| code.to_owned()).collect();
    faults.push("status=503:retry-after=7".into());
    faults.push("status=503:retry-after=86400".into());
    faults.push("status=503:retry-after=soon".into());
    faults.push("status=408".into());
    for what in faults {
        for applied in [true, false] {
            for policy in [Policy::AtMostOnce, Policy::AtLeastOnce] {
                let mut chat = chat(1, seconds(0)).with(|settings| {
                    settings.poll.rooms = hours(1);
                    settings.delivery.policy = policy;
                });
                chat.open_room("Support");
                let word = if applied { "applied" } else { "unapplied" };
                fault(&mut chat, &format!("send_msg:{what}:{word}"));
                chat.poll();
                chat.advance(minutes(30));
                let said = format!("{what}, {word}, {policy:?}");
                let classes = classes(&mut chat);
                assert_eq!(classes[0], Some(Class::Ambiguous), "{said}");
                let again = usize::from(policy == Policy::AtLeastOnce);
                assert_eq!(classes.len(), 1 + again, "{said}");
                assert_eq!(chat.sent().len(), usize::from(applied) + again, "{said}");
                let state = chat.deliveries()[0].state;
                if policy == Policy::AtMostOnce {
                    assert_eq!(state, DeliveryState::Unknown, "{said}");
                } else {
                    assert_eq!(state, DeliveryState::Delivered, "{said}");
                    assert!(chat.deliveries()[0].possible_duplicate, "{said}");
                }
                chat.world().check();
            }
        }
    }
}

#[test]
fn h6_an_outage_behind_a_proxy_turns_three_messages_into_unknown_and_not_the_queue() {
    for status in [502, 503, 504] {
        let mut chat = chat(1, seconds(3));
        open(&mut chat, 100);
        fault(&mut chat, &format!("any:status={status}:always"));
        chat.advance(minutes(10));
        let unknown = count(&chat, DeliveryState::Unknown);
        assert!(unknown <= 8, "{status}: {unknown} unknown");
        assert_eq!(count(&chat, DeliveryState::Queued), 100 - unknown);
        assert_eq!(reasons(&mut chat), [NotReady::ApiUnreachable]);
        no_more_faults(&mut chat);
        let sent = chat.sent().len();
        until(&mut chat, seconds(15), "the first message", |chat| chat.sent().len() > sent);
        chat.advance(seconds(30));
        assert_eq!(count(&chat, DeliveryState::Delivered), 100 - unknown);
        chat.world().check();
    }
}

#[test]
fn h7_a_503_of_a_list_with_retry_after_leaves_the_server_alone_for_so_long() {
    for (spec, least) in [("retry-after=40", 40), ("retry-after=300", 300)] {
        let mut chat = chat(0, seconds(0));
        open(&mut chat, 1);
        fault(&mut chat, &format!("get_rooms:status=503:{spec}"));
        chat.advance(seconds(6));
        let before = asked(&mut chat);
        assert_eq!(reasons(&mut chat), [NotReady::ApiUnreachable]);
        chat.advance(seconds(least - 7));
        assert_eq!(asked(&mut chat), before, "{spec}");
        chat.advance(seconds(10));
        assert!(asked(&mut chat) > before, "{spec}");
    }
}

#[test]
fn h15_what_an_answer_is_says_its_content_and_not_its_label() {
    // JSON under any label is JSON.
    let labels = ["text/html", "text/plain; charset=UTF-8", "application/octet-stream", "x", ""];
    for label in labels {
        let mut chat = chat(1, seconds(0));
        chat.open_room("Support");
        fault(&mut chat, &format!("send_msg:type={label}"));
        fault(&mut chat, &format!("get_rooms:type={label}:always"));
        chat.poll();
        assert_eq!(classes(&mut chat), [Some(Class::Delivered)], "{label}");
        chat.world().check();
    }
    // HTML is not JSON because somebody says so.
    for body in ["@html", "@die", "@empty"] {
        for applied in ["applied", "unapplied"] {
            let mut chat = chat(1, seconds(0));
            chat.open_room("Support");
            let spec = format!("send_msg:body={body}:type=application/json:{applied}");
            fault(&mut chat, &spec);
            chat.poll();
            assert_eq!(classes(&mut chat), [Some(Class::Ambiguous)], "{spec}");
            assert_eq!(count(&chat, DeliveryState::Unknown), 1);
            let rooms = format!("get_rooms:body={body}:type=application/json");
            fault(&mut chat, &rooms);
            chat.poll();
            let status = chat.world().engine().unwrap().status();
            assert_eq!(status.widgets.into_values().next().unwrap().rooms, Some(1), "{rooms}");
            chat.world().check();
        }
    }
}

#[test]
fn h16_an_answer_that_is_packed_unasked_is_unknown() {
    for spec in ["gzip", "gzip:gzip", "gzip:truncate=30", "gzip-bomb=10MiB:applied"] {
        let mut chat = chat(1, seconds(0));
        chat.open_room("Support");
        fault(&mut chat, &format!("send_msg:{spec}"));
        chat.poll();
        assert_eq!(attempts(&mut chat)[0].class, Some(Class::Ambiguous), "{spec}");
        assert_eq!(count(&chat, DeliveryState::Unknown), 1, "{spec}");
        assert_eq!(chat.sent().len(), 1, "{spec}: applied all the same");
        chat.world().check();
    }
}
