//! What the page shows; hostile names in every place that takes one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use serde_json::{Value, json};

use super::*;

const HOSTILE: &str =
    "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\u{202e}&amp;\u{1b}[2J";

fn shown(status: Value) -> String {
    let seen: Seen = serde_json::from_value(status).unwrap();
    page(&seen, "2026-03-30T07:00:04Z".parse().unwrap())
}

fn all(name: &str) -> Value {
    let at = "2026-03-30T06:48:00Z";
    let delivery = "00112233445566778899aabbccddeeff";
    json!({
        "ready": false, "reasons": ["api_unreachable", name], "started_at": at, "version": name,
        "obstacles": [
            {"reason": "api_unreachable", "subject": name, "since": at},
            {"reason": name, "subject": name, "since": at},
        ],
        "widgets": {name: {"rooms": 12, "last_good_poll": at, "last_outcome": name, "problem": name,
            "breaker": [name, at], "in_flight": 1, "suspected_limits": {name: 100}}},
        "tasks": {name: {"last_progress": at, "last": name, "restarts": 1}},
        "next": [{"schedule": name, "at": name, "at_utc": "2026-03-30T07:30:00Z"}],
        "paused": [name], "set_aside": {name: at},
        "housekeeping": {name: {"problems": 1, "found": [name], "next": at}},
        "deliveries": {"queued": 9, "unknown": 1}, "dead": {name: 1},
        "waiting": [{"delivery": delivery, "state": name, "widget": name, "room": 7, "name": name,
            "cause": name, "since": at, "expires_at": at, "reason": name, "text": name}],
        "bots": {name: {"health": name, "events_waiting": 1, "events_poisoned": 2}},
        "instances": [{"incarnation": 7, "name": name, "version": name, "started_at": at,
            "heartbeat_at": at, "alive_until": at, "alive": false, "draining": false,
            "schedules": true, "widgets": 2, "units": [{"name": name, "term": 3}]}],
        "unread": name,
        "fleet": {"incarnation": 7, "alive": 2, "units": {name: 1}, "draining": true, "last_heartbeat": at},
    })
}

#[test]
fn b15_a_hostile_name_is_text_wherever_the_page_shows_one() {
    let plain = shown(all("harmless"));
    let hostile = shown(all(HOSTILE));
    let tags = |html: &str| html.matches('<').count();
    assert_eq!(tags(&plain), tags(&hostile), "no tag more than with harmless names");
    assert_eq!(plain.matches('"').count(), hostile.matches('"').count(), "and no attribute");
    assert!(plain.matches("harmless").count() > 15, "{plain}");
    assert!(hostile.matches("&lt;script&gt;").count() > 15);
    assert!(!hostile.contains('\u{202e}') && !hostile.contains('\u{1b}'));
}

#[test]
fn what_is_wrong_is_told_first_with_since_when_and_what_to_do() {
    let html = shown(all("main"));
    let place = |words: &str| html.find(words).unwrap_or_else(|| panic!("{words}: {html}"));
    assert!(place("Not ready since 2026-03-30T06:48:00Z (12m4s)") < place("What is wrong"));
    assert!(place("ImbaChat does not answer") < place("What to do:"));
    assert!(place("What to do:") < place("Widgets"));
    for words in ["not reachable", "nothing for 12m4s: main", "and 9 more", "Deliveries", "Bots"] {
        place(words);
    }
}

#[test]
fn instances_are_shown_where_there_are_several() {
    let html = shown(all("blue"));
    for words in ["Instances", ">blue<", ">lost<", "Its lease ended 12m4s ago", ">here<"] {
        assert!(html.contains(words), "{words}: {html}");
    }
    assert!(!shown(json!({"ready": true})).contains("Instances"));
}

#[test]
fn a_daemon_that_keeps_its_promises_is_ready_and_nothing_is_wrong() {
    let html = shown(json!({"ready": true, "version": "1.2.3"}));
    assert!(html.contains(">Ready<") && html.contains("<title>ready"), "{html}");
    for absent in ["What is wrong", "<script", "src=", "@import", "url("] {
        assert!(!html.contains(absent), "{absent}");
    }
    for words in ["Nothing waits.", "Nothing is announced.", "No bot is configured."] {
        assert!(html.contains(words), "{words}");
    }
}

#[test]
fn an_instance_is_marked_on_its_own_page() {
    let mut status = all("main");
    assert!(shown(status.clone()).contains(">7 <small>this one</small></td>"));
    status["fleet"]["incarnation"] = 8.into();
    assert!(shown(status).contains(">7</td>"));
}

#[test]
fn an_instance_without_the_schedules_says_who_has_them() {
    let mut status = all("main");
    status["next"] = json!([]);
    status["fleet"]["units"] = json!({"schedules": 4});
    assert!(shown(status.clone()).contains("Nothing is announced."));
    status["fleet"]["units"] = json!({});
    assert!(shown(status).contains("The schedules are another instance"));
}

#[test]
fn only_the_style_of_the_page_may_come_into_effect() {
    let policy = POLICY.as_str();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains("script-src"));
    // The hash is that of what stands between the tags, to the byte.
    let html = shown(json!({}));
    let style = html.split("<style>").nth(1).unwrap().split("</style>").next().unwrap();
    assert!(policy.contains(&BASE64_STANDARD.encode(Sha256::digest(style))));
}
