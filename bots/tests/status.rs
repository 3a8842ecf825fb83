//! `status` beside the daemon, while it fails, and after its end, as a person and a script see it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]
#![allow(clippy::disallowed_methods, reason = "another process takes real time")]

mod support;

use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Chat, Ended, Home, wait_for};

const DAILY: &str =
    "[[schedule]]\nid = \"daily\"\ncron = \"0 9 * * *\"\nrooms = { all = true }\ntext = \"x\"\n";

fn home() -> (Chat, Home) {
    let chat = Chat::open();
    chat.open_room("Team 1");
    let home = Home::at(&chat, DAILY);
    (chat, home)
}

fn keys(value: &Value) -> Vec<&String> {
    value.as_object().unwrap().keys().collect()
}

/// Asks until it says this; the daemon writes what has changed within some seconds.
fn wait_said(home: &Home, word: &str) -> Ended {
    let begun = Instant::now();
    loop {
        let said = home.imbabot(&["status"]);
        if said.stdout.contains(word) {
            return said;
        }
        assert!(begun.elapsed() < support::PATIENCE, "{word} is not said:\n{}", said.stdout);
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn before_a_daemon_ran_there_is_nobody_to_ask() {
    let (_chat, home) = home();
    for _ in 0..2 {
        let error = home.imbabot(&["status", "--json"]).expect(69).error();
        assert_eq!(error["code"], "IMB-X-NO-DAEMON");
        assert!(error["hint"].as_str().unwrap().contains("imbabot run"));
        // Also where a verb has made the store.
        home.imbabot(&["pause"]).expect(0);
    }
}

#[test]
fn a_ready_daemon_is_told_as_its_page_tells_it() {
    let (_chat, home) = home();
    let daemon = home.ready();
    let said = wait_said(&home, "ready\n").expect(0);
    for word in ["main", "poller", "daily", &format!("rocess {}", daemon.pid())] {
        assert!(said.stdout.contains(word), "{word}: {}", said.stdout);
    }
    assert!(!said.stdout.contains('\u{1b}'), "no colours in a pipe");
    let page = daemon.http().get("/api/status").unwrap().json();
    let status = wait_for("every task has begun", || {
        let status = home.json(&["status"]);
        (keys(&status["tasks"]) == keys(&page["tasks"])).then_some(status)
    });
    for key in keys(&page) {
        assert!(status.get(key).is_some(), "{key} is missing: {status}");
    }
    for part in ["started_at", "version", "ready", "reasons", "next", "paused"] {
        assert_eq!(status[part], page[part], "{part}");
    }
    assert_eq!(keys(&status["widgets"]["main"]), keys(&page["widgets"]["main"]));
    assert_eq!((&status["running"], &status["silent"]), (&true.into(), &false.into()));
    daemon.stop();
    let said = home.imbabot(&["status"]).expect(69).stdout;
    assert!(said.starts_with("not running: the daemon stopped"), "{said}");
    let status: Value = home.imbabot(&["status", "--json"]).expect(69).json();
    assert_eq!((&status["running"], &status["stopped"]), (&false.into(), &true.into()));
    assert_eq!(status["reasons"], serde_json::json!(["draining"]));
}

#[test]
fn a_paused_daemon_is_not_ready_and_says_how_to_go_on() {
    let (_chat, home) = home();
    let _daemon = home.ready();
    home.imbabot(&["pause", "--widget", "main"]).expect(0);
    let said = wait_said(&home, "paused (widget/main) since").expect(69).stdout;
    assert!(said.lines().next().unwrap().ends_with(": paused"), "{said}");
    assert!(said.contains("imbabot resume"), "{said}");
    home.imbabot(&["resume", "--widget", "main"]).expect(0);
    wait_said(&home, "ready\n").expect(0);
}

#[test]
fn an_unreachable_chat_is_told_with_the_reason() {
    let (chat, home) = home();
    let _daemon = home.ready();
    chat.down(true);
    let said = wait_said(&home, "api_unreachable (main)").expect(69).stdout;
    assert!(said.contains("ImbaChat does not answer"), "{said}");
    assert!(said.starts_with("not ready since"), "{said}");
    let status = home.imbabot(&["status", "--json"]).expect(69).json();
    let problem = status["widgets"]["main"]["problem"].as_str().unwrap().to_owned();
    assert!(problem.contains("127.0.0.1") && said.contains(&problem[..20]), "{problem}: {said}");
    assert_eq!(status["obstacles"][0]["reason"], "api_unreachable");
}

#[test]
fn a_daemon_that_was_killed_was_last_seen_then() {
    let (_chat, home) = home();
    let daemon = home.ready();
    wait_said(&home, "ready\n").expect(0);
    let seen = home.json(&["status"])["seen_at"].clone();
    daemon.kill();
    let killed = home.imbabot(&["status", "--json"]).expect(69).json();
    assert_eq!((&killed["running"], &killed["ready"]), (&false.into(), &false.into()));
    assert_eq!(killed["stopped"], false);
    assert!(killed["seen_at"].as_str().unwrap() >= seen.as_str().unwrap());
    let said = home.imbabot(&["status"]).expect(69).stdout;
    assert!(said.starts_with("not running: the daemon was last seen"), "{said}");
    let _daemon = home.ready();
    wait_said(&home, "ready\n").expect(0);
}
