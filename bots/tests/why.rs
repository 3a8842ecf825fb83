//! `why` and `ledger verify` as a person and a script see them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod support;

use serde_json::Value;
use support::{Chat, Home, wait_until};

fn home(more: &str) -> (Chat, Home, String) {
    let chat = Chat::open();
    let room = chat.open_room("Team 1").to_string();
    let home = Home::at(&chat, more);
    (chat, home, room)
}

fn reasons(chain: &Value) -> Vec<&str> {
    let decisions = chain["decisions"].as_array().unwrap();
    decisions.iter().map(|decision| decision["reason"].as_str().unwrap()).collect()
}

#[test]
fn a_script_and_a_person_learn_why_a_message_was_lost() {
    let (chat, home, room) = home("");
    chat.fault("send_msg:apply-then-close");
    let id = home.imbabot(&["send", "--room", &room, "--wait", "5s", "Hello"]).expect(10).stdout;
    let id = id.trim();
    let chain = home.json(&["why", id]);
    assert_eq!(chain["id"], id);
    assert_eq!(chain["kind"], "delivery");
    assert_eq!(reasons(&chain), ["recorded", "attempt", "connection_lost", "unknown", "waiting"]);
    for decision in chain["decisions"].as_array().unwrap() {
        let keys: Vec<_> = decision.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["at", "reason", "text", "seq"]);
    }
    let line = chain["decisions"][2]["seq"].as_i64().unwrap();
    let before = (line - 1).to_string();
    let export = home.imbabot(&["ledger", "export", "--since", &before]).expect(0).stdout;
    let told: Value = serde_json::from_str(export.lines().next().unwrap()).unwrap();
    assert_eq!(
        (told["kind"].as_str(), told["code"].as_str()),
        (Some("attempt"), Some("connection_lost"))
    );

    home.imbabot(&["deliveries", "resolve", id, "--as", "delivered"]).expect(0);
    let shown = home.imbabot(&["why", id]).expect(0).stdout;
    assert!(shown.starts_with(&format!("{id} to room {room} of main")), "{shown}");
    assert!(shown.lines().last().unwrap().contains("delivered, as a person has seen"), "{shown}");
}

#[test]
fn what_nobody_knows_of_is_said_to_be_unknown() {
    let (_chat, home, room) = home(
        "[[schedule]]\nid = \"daily\"\ncron = \"0 9 * * *\"\nrooms = { all = true }\ntext = \"x\"\n",
    );
    home.imbabot(&["why", "00112233445566778899aabbccddeeff"]).expect(74);
    home.imbabot(&["send", "--room", &room, "x"]).expect(0);
    for (id, word) in [
        ("00112233445566778899aabbccddeeff", "there is no delivery"),
        ("nonsense", "not a delivery id"),
        ("weekly@2026-03-30T07:00:00Z", "there is no schedule"),
        ("daily@nine", "not an instant"),
    ] {
        let said = home.imbabot(&["why", id]).expect(65).stderr;
        assert!(said.contains("IMB-V-INPUT") && said.contains(word), "{id}: {said}");
    }
    let chain = home.json(&["why", "daily@2099-01-01T09:00:00Z"]);
    assert_eq!(reasons(&chain), ["not_due"]);
    assert_eq!(reasons(&home.json(&["why", "daily@2099-01-01T10:00:00+01:00"])), ["not_due"]);
    assert_eq!(reasons(&home.json(&["why", "daily@2026-01-01T09:30:00Z"])), ["no_instant"]);
}

#[test]
fn an_announcement_is_explained_beside_the_running_daemon() {
    let (chat, home, _) = home(
        "[[schedule]]\nid = \"often\"\nevery = \"1s\"\nrooms = { all = true }\ntext = \"x\"\n",
    );
    let _daemon = home.ready();
    wait_until("two were posted", || chat.asked("send_msg").len() >= 2);
    let deliveries = home.deliveries();
    let occurrence = deliveries[0].occurrence.clone().unwrap();
    assert_eq!(reasons(&home.json(&["why", &occurrence])), ["due", "fired", "reached"]);
    let chain = home.json(&["why", &deliveries[0].id.to_string()]);
    assert_eq!(reasons(&chain)[..3], ["due", "fired", "recorded"]);
}

#[test]
fn a_ledger_that_was_tampered_with_is_found_out() {
    let (_chat, home, room) = home("");
    home.imbabot(&["send", "--room", &room, "Hello"]).expect(0);
    assert_eq!(home.json(&["ledger", "verify"])["ok"], true);
    let database = rusqlite::Connection::open(home.path("imbabot.db")).unwrap();
    database
        .execute("DELETE FROM ledger WHERE kind = 'delivery' AND body ->> 'state' = 'sending'", [])
        .unwrap();
    let said = home.imbabot(&["ledger", "verify"]).expect(74).stderr;
    assert!(said.contains("IMB-S-CONTRADICTION") && said.contains("I7"), "{said}");
}
