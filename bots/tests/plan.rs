//! `plan` as a site owner and a script see it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod support;

use serde_json::Value;
use support::{Chat, Home};

const STANDUP: &str = r#"
[[schedule]]
id = "standup"
cron = "0 9 * * MON-FRI"
timezone = "Europe/Berlin"
rooms = { name = "^Team" }
text = "Good morning, {{ room.name }}!"

[[schedule]]
id = "by-number"
cron = "0 12 * * *"
rooms = { ids = [1536] }
text = "It is {{ occurrence.at }}"
"#;

fn home() -> (Chat, Home) {
    let chat = Chat::open();
    chat.open_room("Team 1");
    let home = Home::at(&chat, STANDUP);
    (chat, home)
}

fn plan(home: &Home, words: &[&str]) -> Vec<Value> {
    let mut all = vec!["plan", "--from", "2099-03-27T00:00:00Z"];
    all.extend(words);
    home.json(&all).as_array().unwrap().clone()
}

#[test]
fn a_plan_is_there_before_the_first_run_and_knows_rooms_by_their_numbers() {
    let (_chat, home) = home();
    let planned = plan(&home, &["--until", "2099-03-28T00:00:00Z"]);
    let [standup, noon] = &planned[..] else { panic!("{planned:?}") };
    assert_eq!(standup["occurrence"], "standup@2099-03-27T08:00:00Z");
    assert_eq!(standup["at"], "2099-03-27T09:00:00+01:00");
    assert_eq!(standup["at_utc"], "2099-03-27T08:00:00.000000Z");
    assert_eq!(standup["rooms"].as_array().unwrap().len(), 0);
    assert!(standup["notes"][0].as_str().unwrap().contains("list of rooms"), "{standup}");
    let keys: Vec<_> = noon.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["occurrence", "schedule", "at", "at_utc", "rooms", "notes", "warnings"]);
    let room = &noon["rooms"][0];
    let keys: Vec<_> = room.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["widget", "room", "name", "delivery", "text"]);
    assert_eq!(room["text"], "It is 2099-03-27 12:00:00 UTC");
    assert!(!home.path("imbabot.db").exists(), "to look makes nothing");
}

#[test]
fn a_plan_names_the_rooms_of_the_last_list_and_says_what_it_would_say() {
    let (_chat, home) = home();
    home.ready().stop();
    let planned = plan(&home, &["--schedule", "standup", "--count", "3"]);
    let days: Vec<_> = planned.iter().map(|one| one["at"].as_str().unwrap()).collect();
    // Friday, then Monday, after the clocks have gone forward.
    let expected =
        ["2099-03-27T09:00:00+01:00", "2099-03-30T09:00:00+02:00", "2099-03-31T09:00:00+02:00"];
    assert_eq!(days, expected);
    assert_eq!(planned[0]["rooms"][0]["name"], "Team 1");
    assert_eq!(planned[0]["rooms"][0]["text"], "Good morning, Team 1!");
    assert_eq!(plan(&home, &[]).len(), 20, "twenty unless told otherwise");
    let shown = home.imbabot(&["plan", "--from", "2099-03-27T00:00:00Z", "--count", "1"]).expect(0);
    assert!(shown.stdout.contains("2099-03-27 09:00:00 CET  standup  room"), "{}", shown.stdout);
    home.imbabot(&["plan", "--schedule", "nope"]).expect(65);
    home.imbabot(&["plan", "--from", "tomorrow"]).expect(2);
}
