//! `rehearse` as a site owner and a script see it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod support;

use std::collections::BTreeMap;

use serde_json::Value;
use support::{Chat, Home};

const MORE: &str = r#"
[[schedule]]
id = "standup"
cron = "0 9 * * MON-FRI"
timezone = "Europe/Berlin"
rooms = { name = "^Team" }
text = "Good morning, {{ room.name }}!"
jitter = "5m"

[[schedule]]
id = "by-number"
cron = "0 12 * * *"
rooms = { ids = [1536] }
text = "It is {{ occurrence.at }}"

[[bot]]
name = "greeter"
kind = "greeter"
settings = { greeting = "Welcome to {{ room.name }}!", follow_up = "Still here?", after = "48h" }
"#;

const WEEK: [&str; 4] = ["--from", "2099-03-27T12:00:00Z", "--until", "2099-04-03T08:00:00Z"];

fn home() -> (Chat, Home) {
    let chat = Chat::open();
    for name in ["Team 1", "Team \u{1b}[31m2", "Sales"] {
        chat.open_room(name);
    }
    let home = Home::at(&chat, MORE);
    (chat, home)
}

fn words<'a>(verb: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&[verb][..], &WEEK[..], more].concat()
}

/// By its id: the occurrence, the room, the text.
type Messages = BTreeMap<String, (String, u64, String)>;

fn message(of: &Value, occurrence: &str, room: &Value) -> (String, (String, u64, String)) {
    let text = of["text"].as_str().unwrap().to_owned();
    let what = (occurrence.to_owned(), room.as_u64().unwrap(), text);
    (of["delivery"].as_str().unwrap().to_owned(), what)
}

fn planned(home: &Home) -> Messages {
    let plan = home.json(&words("plan", &[]));
    let mut found = Messages::new();
    for one in plan.as_array().unwrap() {
        for room in one["rooms"].as_array().unwrap() {
            found.extend([message(room, one["occurrence"].as_str().unwrap(), &room["room"])]);
        }
    }
    found
}

fn rehearsed(told: &Value) -> Messages {
    let mut found = Messages::new();
    for room in told["rooms"].as_array().unwrap() {
        for entry in room["entries"].as_array().unwrap() {
            if let Some(occurrence) = entry["occurrence"].as_str() {
                assert_eq!(entry["state"], "delivered", "{entry}");
                found.extend([message(entry, occurrence, &room["room"])]);
            }
        }
    }
    found
}

#[test]
fn a_rehearsal_by_the_stores_last_list_says_what_is_planned_beside_a_daemon() {
    let (chat, home) = home();
    let daemon = home.ready();
    let plan = planned(&home);
    assert!(plan.len() > 15, "{plan:?}");
    let told = home.json(&words("rehearse", &[]));
    assert_eq!(rehearsed(&told), plan);
    assert_eq!(
        told["lists"][0],
        serde_json::json!({"widget": "main", "rooms": 3, "from": "store"})
    );
    assert_eq!(told["totals"]["delivered"], plan.len());
    let keys: Vec<_> = told.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "from",
        "until",
        "seed",
        "lists",
        "notes",
        "rooms",
        "elsewhere",
        "occurrences",
        "waiting",
        "failures",
        "totals",
    ];
    assert_eq!(keys, expected);
    assert!(chat.asked("send_msg").is_empty(), "nothing was posted");
    daemon.stop();
    assert!(home.deliveries().is_empty(), "and nothing was recorded");
}

#[test]
fn no_secret_is_needed_and_none_is_read() {
    let home = Home::new("https://chat.example.com", MORE);
    std::fs::remove_file(home.path("secret_key")).unwrap();
    home.imbabot(&["check"]).expect(78);
    home.imbabot(&words("rehearse", &[])).expect(0);
    home.write("secret_key", "everybody-can-read-this", 0o644);
    let shown = home.imbabot(&words("rehearse", &[])).expect(0);
    assert!(!shown.stdout.contains("everybody-can-read-this"));
    assert!(!home.path("imbabot.db").exists(), "to rehearse makes nothing");
}

#[test]
fn one_seed_gives_the_same_bytes_and_people_who_are_welcomed() {
    let home = Home::new("https://chat.example.com", MORE);
    let tell = |more: &[&str]| home.imbabot(&words("rehearse", more)).expect(0).stdout;
    for json in [false, true] {
        let seeded: Vec<&str> =
            if json { vec!["--seed", "7", "--json"] } else { vec!["--seed", "7"] };
        let told = tell(&seeded);
        assert_eq!(told, tell(&seeded));
        assert!(told.contains("Welcome to"), "{told}");
    }
    assert_ne!(tell(&["--seed", "7"]), tell(&["--seed", "8"]));
    assert!(!tell(&[]).contains("Welcome to"));
}

#[test]
fn rooms_come_from_a_reply_to_get_rooms() {
    let home = Home::new("https://chat.example.com", MORE);
    let row = |id: u64, name: &str, widget: u64| {
        format!(
            r#"{{"id":{id},"pipe":"x","name":"{name}","admin_id":1,"type":1,"is_public":1,"created_at":"2020-12-19 20:42:07","updated_at":"2020-12-19 20:42:07","deleted_at":null,"status":0,"imba_id":{widget}}}"#
        )
    };
    let reply =
        |rows: &[String]| format!(r#"{{"success":"true","data":[{}],"code":200}}"#, rows.join(","));
    let rows = [row(1536, "Team Ä", 627), row(7, "Team \\u001b[31mred", 627), row(9, "Hall", 627)];
    home.write("rooms.json", reply(&rows), 0o644);
    let file = home.path("rooms.json").display().to_string();
    let told = home.imbabot(&words("rehearse", &["--rooms", &file])).expect(0).stdout;
    has_in_order(
        &told,
        &[
            "main: 3 rooms, from the file",
            "main, room 7 \"Team \\u{1b}[31mred\"",
            "main, room 1536 \"Team Ä\"",
            "by-number posts: It is 2099-03-28 12:00:00 UTC",
        ],
    );
    assert!(!told.contains('\u{1b}'));
    home.write("rooms.json", reply(&[row(1536, "Team", 1)]), 0o644);
    let told = home.imbabot(&words("rehearse", &["--rooms", &file])).expect(0).stdout;
    assert!(told.contains("1 rooms of") && told.contains("of another widget"), "{told}");
    for broken in ["", "<html>", "{\"success\":false,\"code\":401}", "{\"data\":[{\"id\":1}"] {
        home.write("rooms.json", broken, 0o644);
        let failed = home.imbabot(&words("rehearse", &["--rooms", &file])).expect(65);
        assert!(failed.stderr.contains("is no reply to get_rooms"), "{}", failed.stderr);
    }
    home.imbabot(&words("rehearse", &["--rooms", "nowhere.json"])).expect(65);
}

fn has_in_order(text: &str, expected: &[&str]) {
    let mut rest = text;
    for line in expected {
        let Some((_, after)) = rest.split_once(line) else { panic!("{line:?} is not in\n{text}") };
        rest = after;
    }
}

#[test]
fn what_was_not_said_is_told() {
    let home = Home::new("https://chat.example.com", MORE);
    let told = home.imbabot(&["rehearse", "--until", "1h"]).expect(0).stdout;
    assert!(told.contains("It begins now, since --from was not given."), "{told}");
    assert!(told.contains("6 rooms, made up") && told.contains("--rooms FILE"), "{told}");
    let told = home.imbabot(&["rehearse", "--from", "2099-03-27T12:00:00Z"]).expect(0).stdout;
    assert!(told.contains("to 2099-04-03T12:00:00Z"), "a week: {told}");
}

#[test]
fn what_cannot_be_rehearsed_is_refused() {
    let home = Home::new("https://chat.example.com", MORE);
    home.imbabot(&["rehearse", "--from", "tomorrow"]).expect(2);
    home.imbabot(&["rehearse", "--seed", "x"]).expect(2);
    let from = "2099-03-27T12:00:00Z";
    home.imbabot(&["rehearse", "--from", from, "--until", "2099-03-27T11:00:00Z"]).expect(65);
    home.imbabot(&["rehearse", "--from", from, "--until", from]).expect(0);
    let broken = Home::new("https://chat.example.com", "[[bot]]\nname = \"x\"\nkind = \"nope\"\n");
    broken.imbabot(&["rehearse"]).expect(78);
}
