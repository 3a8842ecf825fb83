//! Bots without code, in a chat.

#![allow(clippy::unwrap_used, reason = "this is a test")]

use imbabot::rules::Rules;
use imbabot::testing::Harness;
use imbabot_bot::units::{days, hours, minutes};
use imbabot_store::DeliveryState;
use serde_json::{Value, json};

fn porter(settings: Value) -> Harness {
    Harness::new().bot("porter", serde_json::from_value::<Rules>(settings).unwrap())
}

/// How the messages stand: state and reason, oldest first.
fn states(chat: &Harness) -> Vec<(DeliveryState, Option<String>)> {
    chat.deliveries().into_iter().map(|one| (one.state, one.reason)).collect()
}

#[test]
fn a_rule_says_its_text_about_its_change_and_about_no_other() {
    let mut chat = porter(json!({ "when": "opened", "text": "Welcome to {{ room.name }}!" }));
    let room = chat.open_room("Support");
    chat.poll();
    chat.rename_room(room, "Help desk");
    chat.poll();
    assert_eq!(chat.sent(), ["Help desk: Welcome to Support!"]);
    chat.world().check();
}

#[test]
fn several_rules_speak_in_their_order_each_of_the_rooms_that_it_chooses() {
    let mut chat = porter(json!({ "rules": [
        { "when": "opened", "text": "Welcome!" },
        { "when": ["opened", "renamed"], "rooms": { "name": "^Team" }, "text": "{{ event.change }}: {{ room.name }}" },
    ]}));
    let room = chat.open_room("Team 1");
    chat.open_room("Lobby");
    chat.poll();
    // It was chosen by the name that it had.
    chat.rename_room(room, "Crew 1");
    chat.poll();
    assert_eq!(
        chat.sent(),
        [
            "Crew 1: Welcome!",
            "Lobby: Welcome!",
            "Crew 1: opened: Team 1",
            "Crew 1: renamed: Crew 1"
        ]
    );
    chat.world().check();
}

#[test]
fn what_happens_to_a_room_can_be_said_in_another() {
    let mut chat = porter(json!({ "when": "gone", "to": 1536, "text": "{{ room.name }} is gone" }));
    let desk = chat.open_room("Desk");
    assert_eq!(desk.0, 1536, "the number that the rule names");
    let room = chat.open_room("Support");
    chat.poll();
    chat.close_room(room);
    chat.poll();
    assert_eq!(chat.sent(), ["Desk: Support is gone"]);
    chat.world().check();
}

#[test]
fn a_follow_up_comes_after_its_time_and_not_to_a_room_that_is_gone_by_then() {
    let mut chat = porter(json!({ "when": "opened", "text": "Still here?", "after": "24h" }));
    chat.open_room("Stays");
    let goes = chat.open_room("Goes");
    chat.poll();
    chat.advance(hours(23));
    assert!(chat.sent().is_empty());
    chat.close_room(goes);
    chat.poll();
    chat.advance(hours(2));
    assert_eq!(chat.sent(), ["Stays: Still here?"]);
    assert_eq!(
        states(&chat),
        [(DeliveryState::Delivered, None), (DeliveryState::Dead, Some("cancelled".to_owned()))]
    );
    chat.world().check();
}

#[test]
fn every_change_makes_a_follow_up_of_its_own() {
    let mut chat = porter(json!({ "when": "renamed", "text": "{{ room.name }}", "after": "1h" }));
    let room = chat.open_room("a");
    chat.poll();
    for name in ["b", "c", "b"] {
        chat.rename_room(room, name);
        chat.poll();
        chat.advance(minutes(10));
    }
    chat.advance(hours(2));
    assert_eq!(chat.sent(), ["b: b", "b: c", "b: b"]);
    chat.world().check();
}

#[test]
fn a_follow_up_survives_a_kill_and_is_still_taken_back() {
    let mut chat = porter(json!({ "when": "opened", "text": "Still here?", "after": "24h" }));
    chat.open_room("Stays");
    let goes = chat.open_room("Goes");
    chat.poll();
    chat.world().crash();
    chat.world().start();
    chat.close_room(goes);
    chat.poll();
    chat.advance(days(2));
    assert_eq!(chat.sent(), ["Stays: Still here?"]);
    chat.world().check();
}

#[test]
fn an_alarm_about_a_room_that_is_gone_is_taken_back_when_it_returns() {
    let mut chat = porter(json!({ "rules": [
        { "when": "gone", "to": 1536, "text": "{{ room.name }} is gone", "after": "10m" },
        { "when": "returned", "text": "Welcome back!" },
    ]}));
    let desk = chat.open_room("Desk");
    assert_eq!(desk.0, 1536, "the number that the rule names");
    let (missed, lost) = (chat.open_room("Missed"), chat.open_room("Lost"));
    chat.poll();
    chat.close_room(missed);
    chat.close_room(lost);
    chat.poll();
    chat.world().simulator.restore_room(i64::try_from(missed.0).unwrap()).unwrap();
    chat.poll();
    chat.advance(hours(1));
    assert_eq!(chat.sent(), ["Missed: Welcome back!", "Desk: Lost is gone"]);
    chat.world().check();
}

#[test]
fn what_was_said_is_forgotten_and_takes_no_room() {
    let mut chat = porter(json!({ "when": "opened", "text": "Still here?", "after": "1h" }));
    let room = chat.open_room("Support");
    chat.poll();
    let remembered = |chat: &mut Harness| {
        let store = chat.world().store();
        let (bot, widget) = ("porter".parse().unwrap(), "main".parse().unwrap());
        let key = format!("follow-ups/{room}");
        let found = imbabot_store::Inbox::remembered(&*store, &bot, &widget, &key);
        futures_executor::block_on(found).unwrap()
    };
    assert!(remembered(&mut chat).is_some());
    chat.advance(hours(3));
    assert!(remembered(&mut chat).is_none());
    assert_eq!(chat.sent(), ["Support: Still here?"]);
}

#[test]
fn settings_that_are_no_rules_are_refused_with_the_place() {
    let error =
        |settings: Value| serde_json::from_value::<Rules>(settings).unwrap_err().to_string();
    insta::assert_snapshot!(
        [
            json!({}),
            json!({ "rules": [] }),
            json!({ "rules": [{ "when": "opened", "text": "a" }], "text": "b" }),
            json!({ "rules": [{ "when": "opened", "text": "a" }, { "when": "gone", "text": "b" }] }),
            json!({ "when": [], "text": "a" }),
            json!({ "when": "opened", "text": " " }),
            json!({ "when": "opened", "text": "{{ occurrence.at }}" }),
        ]
        .map(error)
        .join("\n"),
        @r"
    a rule has at least `when` and `text`
    rules: there is none
    either `rules`, or the keys of one rule
    rules[1].to: a room that is gone cannot be spoken to
    rules[0].when: it would never say anything
    rules[0].text: it is empty
    rules[0].text: unknown variable `occurrence.at`; known are room.id, room.name, room.kind, event.kind, event.change, event.at
    "
    );
}
