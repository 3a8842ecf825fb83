//! Every verb as a script sees it: exit code, stdout, stderr, and what the server got.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod support;

use std::time::Duration;

use imbabot_simulator::{DIALOGUE, RoomSeed};
use imbabot_store::DeliveryState;
use serde_json::{Value, json};
use support::{
    Chat, Daemon, Ended, Home, Signal, assert_holds, end_of, holds_for, program, wait_for,
    wait_until,
};

/// Nobody listens there.
const NOWHERE: &str = "http://127.0.0.1:9";

const BROKEN: &str = r#"[[widget]]
id = "six"
base_url = "ftp://example.com"
secret_key_file = "secret_key"
sender = 1

[poll]
rooms = "5"
gone_afer = 3

[delivery]
policy = "exactly_once"
rate = "10"

[[schedule]]
id = "a"
cron = "61 * * * *"
timezone = "Europe/Berln"
rooms = { all = true }
text = "x {{ nope }}"

[[bot]]
name = "greeter"
kind = "greetr"
"#;

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn ids(list: &Value) -> Vec<i64> {
    list.as_array().unwrap().iter().map(|entry| entry["id"].as_i64().unwrap()).collect()
}

/// A chat with one room, and a folder for it.
fn one_room(more: &str) -> (Chat, Home, i64, String) {
    let chat = Chat::open();
    let room = chat.open_room("Team 1");
    let home = Home::at(&chat, more);
    (chat, home, room, room.to_string())
}

fn send(home: &Home, room: &str, more: &[&str]) -> Ended {
    let mut arguments = vec!["send", "--json", "--room", room];
    arguments.extend(more);
    home.imbabot(&arguments)
}

// Configuration

#[test]
fn check_and_run_give_the_same_verdict_on_ten_mistakes() {
    let home = Home::new(NOWHERE, "");
    home.write("imbabot.toml", BROKEN, 0o600);
    let check = home.imbabot(&["check", "--json"]).expect(78).json();
    assert_eq!(check["ok"], false);
    let errors = check["errors"].as_array().unwrap();
    let found: Vec<_> =
        errors.iter().map(|e| (e["code"].as_str().unwrap(), e["line"].as_u64().unwrap())).collect();
    assert_eq!(
        found,
        [
            ("IMB-C-012", 2),
            ("IMB-C-031", 3),
            ("IMB-C-013", 8),
            ("IMB-C-011", 9),
            ("IMB-C-013", 12),
            ("IMB-C-013", 13),
            ("IMB-C-050", 17),
            ("IMB-C-051", 18),
            ("IMB-C-053", 20),
            ("IMB-C-060", 24),
        ]
    );
    for error in errors {
        assert_eq!(keys(error), ["code", "message", "file", "line", "column", "hint"]);
        assert!(error["column"].as_u64().unwrap() >= 1);
        assert!(error["file"].as_str().unwrap().ends_with("imbabot.toml"));
    }

    let check = home.imbabot(&["check"]).expect(78);
    assert_eq!(check.stderr.matches("error[IMB-C-").count(), 10, "{}", check.stderr);
    assert!(check.stderr.contains("imbabot.toml:9:1"), "{}", check.stderr);
    assert!(check.stderr.contains("did you mean `gone_after`?"), "{}", check.stderr);
    assert!(!check.stderr.contains('\u{1b}'), "no colours into a pipe");
    let run = home.imbabot(&["run"]).expect(78);
    assert!(run.stderr.starts_with(&check.stderr), "{}\n{}", run.stderr, check.stderr);
    assert!(!home.path("imbabot.db").exists());
}

#[test]
fn a_good_file_is_fine_for_check() {
    let home = Home::new(NOWHERE, "");
    let check = home.json(&["check"]);
    assert_eq!(check, json!({"ok": true, "errors": [], "warnings": []}));
    let told = home.imbabot(&["check"]).expect(0);
    assert!(told.stdout.contains("is fine"), "{}", told.stdout);
    assert!(!home.path("imbabot.db").exists(), "checking is offline and leaves nothing");
}

#[test]
fn the_sample_configuration_is_refused_until_it_is_filled_in() {
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/imbabot.toml");
    for verb in [&["check"][..], &["run"], &["rooms"]] {
        let mut command = program(verb);
        command.args(["--config", sample]);
        let ended = end_of(command, "").expect(78);
        assert!(ended.stderr.contains("`widget.main.id` is missing"), "{}", ended.stderr);
    }
}

#[test]
fn config_shows_values_with_their_origin_and_masks_secrets() {
    let home = Home::new(NOWHERE, "");
    let shown = home.json(&["config", "show"]);
    for (key, value) in shown.as_object().unwrap() {
        assert_eq!(keys(value), ["value", "origin"], "{key}");
    }
    assert_eq!(shown["poll.gone_after"], json!({"value": 3, "origin": "default"}));
    assert!(shown["poll.rooms"]["origin"].as_str().unwrap().contains("imbabot.toml:"), "{shown}");

    let mut command = home.command(&["config", "show", "--json"]);
    command.env("IMBABOT__POLL__GONE_AFTER", "5").env("IMBABOT_SECRET_KEY", "from-the-environment");
    let ended = end_of(command, "").expect(0);
    let shown = ended.json();
    let from = json!({"value": 5, "origin": "IMBABOT__POLL__GONE_AFTER"});
    assert_eq!(shown["poll.gone_after"], from);
    for ended in [ended, home.imbabot(&["config", "show"]).expect(0)] {
        assert!(!ended.stdout.contains("simulator-secret"), "{}", ended.stdout);
        assert!(!ended.stdout.contains("from-the-environment"), "{}", ended.stdout);
        assert!(ended.stdout.contains("***"), "{}", ended.stdout);
    }
}

#[test]
fn the_schema_is_json_and_needs_no_configuration() {
    let ended = end_of(program(&["config", "schema"]), "").expect(0);
    assert!(ended.json()["$schema"].as_str().unwrap().contains("json-schema.org"));
}

#[test]
fn version_tells_what_it_was_built_with() {
    let version = end_of(program(&["version"]), "").expect(0);
    assert_eq!(version.stdout, format!("imbabot {}\n", env!("CARGO_PKG_VERSION")));
    let verbose = end_of(program(&["version", "--verbose"]), "").expect(0);
    for word in ["revision", "rustc", "features", "SQLite 3.", "time zones 20"] {
        assert!(verbose.stdout.contains(word), "{word}: {}", verbose.stdout);
    }
    let json = end_of(program(&["version", "--verbose", "--json"]), "").expect(0).json();
    assert_eq!(json["bots"], json!(["digest", "greeter", "rules"]));
}

#[test]
fn words_that_nobody_knows_are_usage_errors() {
    for words in [
        &["frobnicate"][..],
        &[],
        &["run", "--nonsense"],
        &["send", "--room", "x", "text"],
        &["send", "text"],
        &["send", "--room", "1"],
        &["deliveries", "cancel"],
        &["deliveries", "retry", "not-an-id"],
        &["rooms", "--kind", "palace"],
        &["demo", "--for", "3"],
        &["simulator", "--fault", "send_msg:wat", "--listen", "127.0.0.1:0"],
    ] {
        let ended = end_of(program(words), "").expect(2);
        assert_eq!(ended.stdout, "", "{words:?}");
        assert!(!ended.stderr.is_empty(), "{words:?}");
        let mut with_json = words.to_vec();
        with_json.push("--json");
        let error = end_of(program(&with_json), "").expect(2).error();
        assert_eq!(keys(&error), ["code", "message", "hint"], "{words:?}");
    }
    let help = end_of(program(&["--help"]), "").expect(0);
    assert!(help.stdout.contains("Exit codes:"), "{}", help.stdout);
}

// send

#[test]
fn send_without_a_daemon_posts_one_message() {
    let (chat, home, room, id) = one_room("");
    let sent = send(&home, &id, &["--wait", "10s", "hello <b>there</b>"]).expect(0).json();
    assert_eq!(keys(&sent), ["delivery", "state", "reason"]);
    assert_eq!((&sent["state"], &sent["reason"]), (&json!("delivered"), &Value::Null));
    assert_eq!(chat.texts(room), ["hello <b>there</b>"]);

    let plain = home.imbabot(&["send", "--room", &id, "--as", "7", "plain"]).expect(0);
    let deliveries = home.deliveries();
    assert_eq!(plain.stdout.trim(), deliveries[1].id.to_string(), "the id alone");
    let post = chat.asked("send_msg").pop().unwrap();
    assert_eq!(post.user_id.as_deref(), Some("7"));
    assert_eq!(post.delivery.as_deref(), Some(plain.stdout.trim()));
    assert_eq!(post.attempt.as_deref(), Some("1"));
    assert_holds(&home.check(&chat).quiescent());
}

#[test]
fn send_ends_as_its_message_does() {
    let (chat, home, room, id) = one_room("");
    for (fault, code, state, reason) in [
        ("send_msg:apply-then-close", 10, "unknown", json!("connection_lost")),
        ("send_msg:status=500", 10, "unknown", json!("http_5xx")),
        ("send_msg:status=422", 11, "dead", json!("rejected")),
        ("send_msg:code=404", 11, "dead", json!("rejected")),
        ("send_msg:echo=escaped", 0, "delivered", Value::Null),
    ] {
        chat.fault(fault);
        let text = format!("after {fault}");
        let sent = send(&home, &id, &["--wait", "10s", &text]).expect(code).json();
        assert_eq!((&sent["state"], &sent["reason"]), (&json!(state), &reason), "{fault}");
    }
    assert_eq!(
        chat.texts(room),
        ["after send_msg:apply-then-close", "after send_msg:echo=escaped"]
    );
    assert_holds(&home.check(&chat).quiescent());
}

#[test]
fn send_with_a_wrong_secret_says_so_and_keeps_the_message() {
    let (chat, home, room, id) = one_room("");
    home.secret("not-the-secret");
    let sent = send(&home, &id, &["--wait", "5s", "hello"]).expect(77).json();
    assert_eq!(sent["state"], "queued");
    assert!(chat.texts(room).is_empty());
    assert!(chat.log().len() <= 3, "{:?}", chat.log());
    home.secret(support::SECRET);
    let daemon = home.ready();
    wait_until("delivered by the daemon", || chat.texts(room) == ["hello"]);
    daemon.stop();
    assert_holds(&home.check(&chat).quiescent());
}

#[test]
fn send_to_a_server_that_is_down_is_not_finished() {
    let (chat, home, room, id) = one_room("");
    chat.down(true);
    let sent = send(&home, &id, &["--wait", "1s", "patient"]).expect(12).json();
    assert_eq!(sent["state"], "queued");
    // Without --wait, durable is all that is asked for.
    send(&home, &id, &["behind it"]).expect(12);
    let other = chat.open_room("Team 2");
    let unwaited = send(&home, &other.to_string(), &["elsewhere"]).expect(0).json();
    assert_eq!(unwaited["state"], "queued");
    chat.down(false);
    let daemon = home.ready();
    wait_until("both, in order", || chat.texts(room) == ["patient", "behind it"]);
    wait_until("the third too", || chat.texts(other) == ["elsewhere"]);
    daemon.stop();
    assert_holds(&home.check(&chat).quiescent());
}

#[test]
fn the_same_key_is_the_same_message() {
    let (chat, home, room, id) = one_room("");
    let once = send(&home, &id, &["--key", "k", "--wait", "10s", "hello"]).expect(0).json();
    let twice = send(&home, &id, &["--key", "k", "--wait", "10s", "hello"]).expect(0).json();
    assert_eq!(once, twice);
    for (room, text) in [(id.as_str(), "another text"), ("1", "hello")] {
        let error = send(&home, room, &["--key", "k", text]).expect(65).error();
        assert!(error["message"].as_str().unwrap().contains(once["delivery"].as_str().unwrap()));
    }
    assert_eq!(chat.texts(room), ["hello"]);

    let daemon = home.ready();
    let beside = send(&home, &id, &["--key", "k", "--wait", "10s", "hello"]).expect(0).json();
    assert_eq!(beside, once);
    send(&home, &id, &["--key", "k", "another text"]).expect(65);
    daemon.stop();
    assert_eq!(chat.texts(room), ["hello"]);
    assert_holds(&home.check(&chat).quiescent());
}

#[test]
fn what_cannot_be_sent_is_refused_before_the_store() {
    let (chat, home, _, id) = one_room("");
    for (arguments, code) in [
        (&["--room", &id, ""][..], "IMB-V-EMPTY"),
        (&["--room", &id, " \t\n"], "IMB-V-BLANK"),
        (&["--room", &id, &"x".repeat(16 * 1024 + 1)], "IMB-V-TOO-LONG"),
        (&["--room", "0", "text"], "IMB-V-INPUT"),
        (&["--room", &id, "--key", "", "text"], "IMB-V-INPUT"),
        (&["--room", &id, "--widget", "other", "text"], "IMB-V-INPUT"),
    ] {
        let mut words = vec!["send", "--json"];
        words.extend(arguments);
        assert_eq!(home.imbabot(&words).expect(65).error()["code"], code);
    }
    let nul = home.command(&["send", "--json", "--room", &id, "--stdin"]);
    assert_eq!(end_of(nul, "a\0b").expect(65).error()["code"], "IMB-V-NUL");
    assert!(chat.log().is_empty());
    assert!(!home.path("imbabot.db").exists());
}

#[test]
fn a_text_can_come_from_standard_input() {
    let (chat, home, room, id) = one_room("");
    let command = home.command(&["send", "--room", &id, "--wait", "10s", "--stdin"]);
    end_of(command, "two\nlines, ünïcode 🎉\n").expect(0);
    assert_eq!(chat.texts(room), ["two\nlines, ünïcode 🎉"]);
}

#[test]
fn beside_a_running_daemon_the_daemon_posts() {
    let (chat, home, room, id) = one_room("");
    let daemon = home.ready();
    let sent = send(&home, &id, &["--wait", "10s", "hello"]).expect(0).json();
    assert_eq!(sent["state"], "delivered");
    chat.fault("send_msg:apply-then-close");
    send(&home, &id, &["--wait", "10s", "in doubt"]).expect(10);
    chat.fault("send_msg:status=422");
    send(&home, &id, &["--wait", "10s", "refused"]).expect(11);
    send(&home, &id, &["not waited for"]).expect(0);
    wait_until("the daemon posts it", || chat.texts(room).len() == 3);
    daemon.stop();
    assert_holds(&home.check(&chat).quiescent());
}

#[test]
fn pause_holds_everything_until_resume() {
    let (chat, home, room, id) = one_room("");
    let daemon = home.ready();
    let paused = home.json(&["pause"]);
    assert_eq!(paused["state"], "paused");
    daemon.wait_reason("paused");
    let sent = send(&home, &id, &["--wait", "2s", "held"]).expect(12).json();
    assert_eq!(sent["state"], "queued");
    // Kept over a restart.
    daemon.kill();
    let daemon = home.start();
    daemon.wait_reason("paused");
    assert!(chat.texts(room).is_empty());
    home.imbabot(&["resume"]).expect(0);
    wait_until("delivered", || chat.texts(room) == ["held"]);
    daemon.wait_ready();
    daemon.stop();
    // Without a daemon too.
    home.imbabot(&["pause", "--widget", "main"]).expect(0);
    send(&home, &id, &["--wait", "1s", "held again"]).expect(12);
    assert_eq!(chat.texts(room), ["held"]);
    assert_holds(&home.check(&chat));
}

// Lists

#[test]
fn rooms_are_listed_with_the_shape_and_the_filters_of_the_contract() {
    let chat = Chat::open();
    let team = chat.open_room("Team 1");
    let talk = chat.open_room_with(RoomSeed {
        name: "a ~ b".into(),
        kind: DIALOGUE,
        ..RoomSeed::default()
    });
    let hostile = chat.open_room("\u{1b}[2Jgone {{ x }} <script>");
    let home = Home::at(&chat, "");
    let all = home.json(&["rooms"]);
    assert_eq!(ids(&all), [team, talk, hostile]);
    for room in all.as_array().unwrap() {
        assert_eq!(
            keys(room),
            [
                "widget",
                "id",
                "name",
                "kind",
                "admin_id",
                "is_public",
                "status",
                "pipe",
                "created_at",
                "updated_at",
            ]
        );
    }
    assert_eq!(all[0]["widget"], "main");
    assert_eq!(all[0]["name"], "Team 1");
    assert_eq!(all[0]["kind"], "conference");
    assert!(all[0]["is_public"].is_boolean());
    assert!(all[0]["created_at"].as_str().unwrap().ends_with('Z'), "{all}");

    let filtered = |words: &[&str]| {
        let mut arguments = vec!["rooms"];
        arguments.extend(words);
        ids(&home.json(&arguments))
    };
    assert_eq!(filtered(&["--name", "^Team"]), [team]);
    assert_eq!(filtered(&["--kind", "dialogue"]), [talk]);
    assert_eq!(filtered(&["--kind", "0"]), [talk]);
    assert_eq!(filtered(&["--limit", "2"]), [team, talk]);
    assert_eq!(filtered(&["--changed-since", "1h"]), [team, talk, hostile]);
    assert_eq!(filtered(&["--changed-since", "2100-01-01T00:00:00Z"]), [0_i64; 0]);
    assert_eq!(filtered(&["--server-filter", "room_type=1"]), [team, hostile]);

    let told = home.imbabot(&["rooms"]).expect(0).stdout;
    assert!(!told.contains('\u{1b}') && told.contains("Team 1"), "{told}");
    chat.down(true);
    home.imbabot(&["rooms"]).expect(69);
    chat.down(false);
    home.secret("not-the-secret");
    home.imbabot(&["rooms"]).expect(77);
    home.imbabot(&["users"]).expect(77);
    assert!(!home.path("imbabot.db").exists(), "lists need no store");
}

#[test]
fn users_are_listed_with_the_shape_and_the_filters_of_the_contract() {
    let chat = Chat::open();
    let ada = chat.join("Ada", 7);
    let bob = chat.join("Bob", "P11-A");
    let home = Home::at(&chat, "");
    let all = home.json(&["users"]);
    assert_eq!(ids(&all), [ada, bob]);
    for user in all.as_array().unwrap() {
        assert_eq!(
            keys(user),
            [
                "widget",
                "id",
                "site_user_id",
                "login",
                "status",
                "avatar_url",
                "created_at",
                "updated_at",
            ]
        );
    }
    // Users of a site have no login in the chat: the server says "NULL".
    assert_eq!((&all[0]["login"], &all[0]["site_user_id"]), (&Value::Null, &json!(7)));
    assert_eq!(all[1]["site_user_id"], "P11-A");
    assert!(!all.to_string().contains("password"));
    assert_eq!(ids(&home.json(&["users", "--name", "^B"])), [0_i64; 0]);
    assert_eq!(ids(&home.json(&["users", "--limit", "1"])), [ada]);
    assert_eq!(ids(&home.json(&["users", "--changed-since", "1h"])), [ada, bob]);
    assert_eq!(ids(&home.json(&["users", "--server-filter", &format!("id={bob}")])), [bob]);
    home.imbabot(&["users", "--name", "("]).expect(65);
}

// Schedules

#[test]
fn schedules_can_be_seen_paused_resumed_and_triggered() {
    let schedule = r#"
[[schedule]]
id = "standup"
cron = "0 9 1 1 *"
timezone = "Europe/Berlin"
rooms = { name = "^Team" }
text = "Good morning, {{ room.name }}!"

[[schedule]]
id = "off"
every = "1h"
rooms = { all = true }
text = "never"
enabled = false
"#;
    let (chat, home, room, _) = one_room(schedule);
    chat.open_room("Lobby");
    let before = home.json(&["schedules"]);
    assert_eq!(before[0]["id"], "standup");
    assert!(!home.path("imbabot.db").exists());
    home.imbabot(&["schedules", "trigger", "standup"]).expect(74);

    let daemon = home.ready();
    let listed = home.json(&["schedules"]);
    for entry in listed.as_array().unwrap() {
        assert_eq!(
            keys(entry),
            ["id", "enabled", "paused", "last", "next", "missed", "rooms", "why", "notes"]
        );
    }
    let standup = &listed[0];
    assert_eq!(standup["rooms"], 1);
    assert_eq!((&standup["enabled"], &standup["paused"]), (&json!(true), &json!(false)));
    assert_eq!((&standup["last"], &standup["missed"]), (&Value::Null, &json!(0)));
    assert!(standup["next"].as_str().unwrap().ends_with("-01-01T09:00:00+01:00"), "{standup}");
    assert_eq!((&listed[1]["enabled"], &listed[1]["next"]), (&json!(false), &Value::Null));
    assert_eq!((&standup["why"], &standup["notes"]), (&json!([]), &json!([])));
    assert_eq!(listed[1]["why"], json!(["disabled: `enabled = false`: nothing is due by it"]));

    let triggered = home.json(&["schedules", "trigger", "standup"]);
    let occurrence = triggered["occurrence"].as_str().unwrap();
    assert!(occurrence.starts_with("standup@") && occurrence.ends_with("!manual"), "{occurrence}");
    wait_until("the daemon posts it", || chat.texts(room) == ["Good morning, Team 1!"]);

    home.imbabot(&["schedules", "pause", "standup"]).expect(0);
    let paused = home.json(&["schedules"])[0].clone();
    assert_eq!(paused["paused"], true);
    assert!(paused["why"][0].as_str().unwrap().starts_with("paused: "), "{paused}");
    home.imbabot(&["schedules", "resume", "standup"]).expect(0);
    assert_eq!(home.json(&["schedules"])[0]["paused"], false);
    for verb in ["pause", "resume", "trigger"] {
        home.imbabot(&["schedules", verb, "nope"]).expect(65);
    }
    daemon.stop();
    assert_holds(&home.check(&chat).quiescent());
    let told = home.imbabot(&["schedules"]).expect(0).stdout;
    assert!(told.starts_with("SCHEDULE"), "{told}");
    assert!(told.contains("\n    not_running: "), "{told}");
}

// Deliveries

#[test]
fn what_is_unknown_is_retried_only_with_open_eyes_or_resolved() {
    let (chat, home, room, id) = one_room("");
    let unknown = |text: &str| {
        chat.fault("send_msg:apply-then-close");
        let sent = send(&home, &id, &["--wait", "10s", text]).expect(10).json();
        sent["delivery"].as_str().unwrap().to_owned()
    };
    let (again, done, gone) = (unknown("again"), unknown("done"), unknown("gone"));

    let error = home.imbabot(&["deliveries", "retry", &again, "--json"]).expect(65).error();
    assert!(error["hint"].as_str().unwrap().contains("--accept-duplicate"), "{error}");
    home.imbabot(&["deliveries", "resolve", &done, "--as", "delivered"]).expect(0);
    home.imbabot(&["deliveries", "resolve", &gone, "--as", "dead"]).expect(0);
    home.imbabot(&["deliveries", "resolve", &gone, "--as", "dead"]).expect(65);
    let queued = home.json(&["deliveries", "retry", &again, "--accept-duplicate"]);
    assert_eq!(queued, json!({"delivery": again, "state": "queued"}));

    let daemon = home.ready();
    wait_until("posted again", || chat.texts(room) == ["again", "done", "gone", "again"]);
    daemon.stop();
    let states: Vec<_> =
        home.deliveries().into_iter().map(|d| (d.state, d.reason, d.possible_duplicate)).collect();
    let operator = || Some("operator".to_owned());
    assert_eq!(states[0].0, DeliveryState::Delivered);
    assert!(states[0].2, "it says that it may be there twice");
    assert_eq!((states[1].0, states[1].1.clone()), (DeliveryState::Delivered, operator()));
    assert_eq!(states[2].0, DeliveryState::Dead);
    assert_holds(&home.check(&chat).quiescent());
    home.imbabot(&["ledger", "verify"]).expect(0);
}

#[test]
fn deliveries_are_listed_filtered_and_cancelled() {
    let (chat, home, room, id) = one_room("");
    send(&home, &id, &["--wait", "10s", "first"]).expect(0);
    chat.down(true);
    let mut waiting = Vec::new();
    for (room, text) in [("1", "second"), ("2", "third"), ("3", "fourth")] {
        let sent = send(&home, room, &[text]).expect(0).json();
        waiting.push(sent["delivery"].as_str().unwrap().to_owned());
    }
    let texts = |words: &[&str]| -> Vec<String> {
        let mut arguments = vec!["deliveries"];
        arguments.extend(words);
        let list = home.json(&arguments);
        let list = list.as_array().unwrap();
        list.iter().map(|d| d["text"].as_str().unwrap().to_owned()).collect()
    };
    let mut all = texts(&[]);
    all.sort();
    assert_eq!(all, ["first", "fourth", "second", "third"]);
    assert_eq!(texts(&["--state", "delivered"]), ["first"]);
    assert_eq!(texts(&["--state", "dead"]), [""; 0]);
    assert_eq!(texts(&["--limit", "1"]).len(), 1);
    assert_eq!(texts(&["--since", "1h"]).len(), 4);
    assert_eq!(texts(&["--since", "2100-01-01T00:00:00Z"]), [""; 0]);
    let record = &home.json(&["deliveries", "--state", "delivered"])[0];
    for key in [
        "id",
        "key",
        "widget",
        "room",
        "sender",
        "policy",
        "state",
        "possible_duplicate",
        "created_at",
        "expires_at",
        "server_message_id",
        "server_uuid",
    ] {
        assert!(record.get(key).is_some(), "{key}: {record}");
    }

    let cancelled = home.json(&["deliveries", "cancel", &waiting[0]]);
    assert_eq!(cancelled, json!({"cancelled": [waiting[0]]}));
    home.imbabot(&["deliveries", "cancel", &waiting[0]]).expect(65);
    let cancelled = home.json(&["deliveries", "cancel", "--state", "queued"]);
    assert_eq!(cancelled["cancelled"].as_array().map(Vec::len), Some(2));
    let retried = home.json(&["deliveries", "retry", &waiting[0]]);
    assert_eq!(retried["state"], "queued");
    home.imbabot(&["deliveries", "cancel", "--state", "queued"]).expect(0);

    chat.down(false);
    let daemon = home.ready();
    send(&home, &id, &["--wait", "10s", "last"]).expect(0);
    daemon.stop();
    assert_eq!(chat.texts(room), ["first", "last"]);
    let missing = "0".repeat(waiting[0].len());
    for words in [&["cancel"][..], &["retry"], &["resolve", "--as", "dead"]] {
        let mut arguments = vec!["deliveries"];
        arguments.extend(words);
        arguments.push(&missing);
        home.imbabot(&arguments).expect(65);
    }
    assert_holds(&home.check(&chat).quiescent());
}

// Ledger, store

#[test]
fn the_ledger_is_exported_from_any_line_on_and_verified() {
    let (chat, home, _, id) = one_room("");
    send(&home, &id, &["--wait", "10s", "hello"]).expect(0);
    let daemon = home.ready();
    send(&home, &id, &["--wait", "10s", "beside"]).expect(0);
    let export = home.imbabot(&["ledger", "export"]).expect(0).stdout;
    let lines: Vec<Value> =
        export.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let seqs: Vec<i64> = lines.iter().map(|line| line["seq"].as_i64().unwrap()).collect();
    assert!(seqs.is_sorted_by(|a, b| a < b), "{seqs:?}");
    for line in &lines {
        assert_eq!(line["schema"], 1);
        let kind = line["kind"].as_str().unwrap();
        assert!(["incarnation", "delivery", "attempt"].contains(&kind), "{line}");
    }
    let since = seqs[seqs.len() / 2].to_string();
    let rest = home.imbabot(&["ledger", "export", "--since", &since]).expect(0).stdout;
    assert!(export.ends_with(&rest));
    assert_eq!(rest.lines().count(), seqs.len() - seqs.len() / 2 - 1, "since is exclusive");
    assert_eq!(home.json(&["ledger", "verify"])["ok"], true);
    daemon.stop();
    assert_holds(&home.check(&chat).quiescent());
}

#[test]
fn a_followed_ledger_shows_what_is_new() {
    let (_chat, home, _, id) = one_room("");
    send(&home, &id, &["--wait", "10s", "old"]).expect(0);
    let follower = Daemon::spawn(home.command(&["ledger", "export", "--follow"]), &home);
    wait_until("what was there", || follower.log().contains("\"old\""));
    send(&home, &id, &["--wait", "10s", "new"]).expect(0);
    wait_until("what is new", || follower.log().contains("\"new\""));
    follower.kill();
}

#[test]
fn a_store_that_cannot_be_is_an_error_and_never_replaced() {
    let (chat, home, _, id) = one_room("[store]\npath = \"nowhere/imbabot.db\"\n");
    for words in [&["run"][..], &["send", "--room", &id, "hello"], &["deliveries"]] {
        let mut arguments = words.to_vec();
        arguments.push("--json");
        let error = home.imbabot(&arguments).expect(74).error();
        assert!(error["message"].as_str().unwrap().contains("nowhere/imbabot.db"), "{error}");
    }
    assert!(!home.path("nowhere").exists());

    for (garbage, place) in [
        (b"this is no database, however long it may be. ".repeat(200), "garbage.db"),
        (Vec::new(), "empty.db"),
        (b"SQLite format 3\0".repeat(512), "liar.db"),
    ] {
        home.configure(chat.url(), &format!("[store]\npath = \"{place}\"\n"));
        home.write(place, &garbage, 0o600);
        for words in [
            &["run"][..],
            &["run", "--once"],
            &["send", "--room", &id, "hello"],
            &["deliveries"],
            &["ledger", "verify"],
            &["pause"],
        ] {
            let ended = home.imbabot(words).expect(74);
            assert!(ended.stderr.contains("IMB-S-CORRUPT"), "{}", ended.stderr);
            assert!(std::fs::read(home.path(place)).unwrap() == garbage, "{words:?} on {place}");
        }
    }
    assert!(chat.log().is_empty(), "nothing was asked of the server");
}

#[test]
fn verbs_before_the_first_run_say_that_there_is_no_store() {
    let (_chat, home, ..) = one_room("");
    for words in [&["deliveries"][..], &["events"], &["ledger", "export"], &["resume"]] {
        let ended = home.imbabot(words).expect(74);
        assert!(ended.stderr.contains("imbabot run"), "{}", ended.stderr);
    }
    assert!(!home.path("imbabot.db").exists());
}

#[test]
fn the_emergency_stop_holds_also_where_it_came_before_the_first_run() {
    let (chat, home, _, id) = one_room("");
    home.imbabot(&["pause"]).expect(0);
    let daemon = home.start();
    daemon.wait_reason("paused");
    send(&home, &id, &["hello"]).expect(0);
    holds_for(Duration::from_millis(500), "nothing is sent", || chat.asked("send_msg").is_empty());
    home.imbabot(&["resume"]).expect(0);
    wait_until("it is sent", || chat.asked("send_msg").len() == 1);
    daemon.stop();
}

// Bots

#[test]
fn events_show_what_bots_were_told() {
    let bot = r#"
[[bot]]
name = "greeter"
kind = "greeter"
settings = { greeting = "Welcome!" }
"#;
    let (chat, home, ..) = one_room(bot);
    let daemon = home.ready();
    let room = chat.open_room("New");
    wait_until("greeted", || chat.texts(room) == ["Welcome!"]);
    let events = wait_for("the event is there", || {
        let events = home.json(&["events"]);
        (!events.as_array().unwrap().is_empty()).then_some(events)
    });
    let event = &events[0];
    for key in ["id", "widget", "bot", "event_kind", "room", "tries", "outcome"] {
        assert!(event.get(key).is_some(), "{key}: {event}");
    }
    assert_eq!((&event["bot"], &event["outcome"]), (&json!("greeter"), &json!("handled")));
    assert_eq!(home.json(&["events", "--poisoned"]), json!([]));
    home.imbabot(&["pause", "--bot", "greeter"]).expect(0);
    let held = chat.open_room("Held");
    holds_for(Duration::from_millis(800), "a paused bot says nothing", || {
        chat.texts(held).is_empty()
    });
    home.imbabot(&["resume", "--bot", "greeter"]).expect(0);
    wait_until("greeted later", || chat.texts(held) == ["Welcome!"]);
    daemon.stop();
    assert_holds(&home.check(&chat).quiescent());
}

// Errors as JSON

#[test]
fn every_verb_tells_its_errors_as_json() {
    let (_chat, home, _, id) = one_room("");
    home.imbabot(&["run", "--once"]).expect(0);
    let none = "0".repeat(32);
    let good: &[(&[&str], i32)] = &[
        (&["send", "--room", &id, ""], 65),
        (&["send", "--room", &id, "--widget", "nope", "x"], 65),
        (&["rooms", "--name", "("], 65),
        (&["users", "--widget", "nope"], 65),
        (&["schedules", "pause", "nope"], 65),
        (&["schedules", "resume", "nope"], 65),
        (&["schedules", "trigger", "nope"], 65),
        (&["deliveries", "cancel", &none], 65),
        (&["deliveries", "retry", &none], 65),
        (&["deliveries", "resolve", &none, "--as", "dead"], 65),
        (&["events", "retry", "e99/greeter"], 65),
        (&["pause", "--bot", "nope"], 65),
        (&["resume", "--widget", "nope"], 65),
        (&["simulator", "--secret-file", "/nonexistent"], 65),
        (&["demo", "--listen", "0.0.0.0:0"], 2),
    ];
    let tell = |words: &[&str], code: i32| {
        let mut arguments = words.to_vec();
        arguments.push("--json");
        let ended = home.imbabot(&arguments).expect(code);
        let error = ended.error();
        assert_eq!(keys(&error), ["code", "message", "hint"], "{words:?}");
        assert!(error["code"].as_str().unwrap().starts_with("IMB-"), "{words:?}: {error}");
        assert!(!error["message"].as_str().unwrap().is_empty(), "{words:?}: {error}");
        assert!(error["hint"].is_null() || error["hint"].is_string(), "{words:?}: {error}");
    };
    for (words, code) in good {
        tell(words, *code);
    }
    home.write("imbabot.toml", BROKEN, 0o600);
    for words in [
        &["run"][..],
        &["run", "--once"],
        &["send", "--room", "1", "x"],
        &["rooms"],
        &["users"],
        &["schedules"],
        &["deliveries"],
        &["events"],
        &["pause"],
        &["resume"],
        &["ledger", "export"],
        &["ledger", "verify"],
        &["config", "show"],
    ] {
        tell(words, 78);
    }
}

// Demo

#[test]
fn the_demo_serves_a_page_that_runs_no_foreign_script_and_ends_in_time() {
    let home = Home::new(NOWHERE, "");
    let words = ["demo", "--for", "3s", "--no-open", "--rooms", "4"];
    let demo = Daemon::spawn(program(&words), &home);
    let address = wait_for("its address", || {
        let log = demo.log();
        Some(log.split_once("open http://")?.1.split_once('/')?.0.to_owned())
    });
    let http = support::Http(address.parse().unwrap());
    let page = wait_for("its page", || http.get("/"));
    assert_eq!(page.status, 200);
    assert!(page.head.contains("content-security-policy: default-src 'self'"), "{}", page.head);
    assert!(page.head.contains("x-content-type-options: nosniff"), "{}", page.head);
    for script in page.body.split("<script").skip(1) {
        let (tag, rest) = script.split_once('>').unwrap();
        assert!(tag.contains("src=\"") && !tag.contains("//"), "<script{tag}>");
        assert!(rest.starts_with("</script>"), "an inline script: {rest}");
    }
    for handler in ["onclick", "onload", "onerror", "javascript:", "style="] {
        assert!(!page.body.contains(handler), "{handler}");
    }
    for path in ["/page.js", "/page.css", "/api/status", "/metrics", "/livez"] {
        assert_eq!(http.get(path).unwrap().status, 200, "{path}");
    }
    let foreign = "GET /api/status HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    assert_eq!(support::request(http.0, foreign).unwrap().status, 421);
    assert_eq!(demo.end(), Some(0));
}

#[test]
fn a_port_that_is_taken_is_told_and_nothing_is_left_behind() {
    let (_chat, home, _, id) = one_room("");
    let taken = std::net::TcpListener::bind(home.http().0).unwrap();
    let error = home.imbabot(&["run", "--json"]).expect(69).error();
    assert_eq!(error["code"], "IMB-H-LISTEN");
    drop(taken);
    // The store was given back.
    send(&home, &id, &["--wait", "10s", "hello"]).expect(0);
    let daemon = home.ready();
    daemon.signal(Signal::INT);
    assert_eq!(daemon.end(), Some(0));
}
