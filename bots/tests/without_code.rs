//! A bot without code, as an operator has it: in the file and nowhere else.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod support;

use support::{Chat, Home, Signal, assert_holds, wait_until};

const PORTER: &str = r#"
[[bot]]
name = "porter"
kind = "rules"

[[bot.settings.rules]]
when = "opened"
text = "Welcome to {{ room.name }}!"

[[bot.settings.rules]]
when = "opened"
text = "Still here?"
after = "24h"
"#;

#[test]
fn a_bot_of_the_file_speaks_is_listed_and_explained_and_taken_back_like_any_other() {
    let chat = Chat::open();
    chat.open_room("Old");
    let home = Home::at(&chat, PORTER);
    let daemon = home.ready();
    let room = chat.open_room("Support");
    wait_until("it is said", || chat.texts(room) == ["Welcome to Support!"]);

    let waiting = home.json(&["deliveries", "--state", "queued"]);
    let [follow_up] = &waiting.as_array().unwrap()[..] else { panic!("{waiting}") };
    assert_eq!((&follow_up["text"], &follow_up["bot"]), (&"Still here?".into(), &"porter".into()));
    let id = follow_up["id"].as_str().unwrap();
    let why = home.imbabot(&["why", id]).expect(0).stdout;
    assert!(why.contains("the bot porter was told of a room event"), "{why}");
    home.imbabot(&["pause", "--bot", "porter"]).expect(0);
    home.imbabot(&["resume", "--bot", "porter"]).expect(0);

    chat.close_room(room, false).unwrap();
    wait_until("it is taken back", || {
        home.json(&["deliveries", "--state", "dead"])[0]["reason"] == "cancelled"
    });
    daemon.stop();
    assert_holds(&home.check(&chat));
}

#[test]
fn a_rule_is_edited_while_the_daemon_runs_and_a_broken_one_changes_nothing() {
    let chat = Chat::open();
    let home = Home::at(&chat, PORTER);
    let daemon = home.ready();
    home.configure(chat.url(), &PORTER.replace("room.name", "room.nmae"));
    home.imbabot(&["check"]).expect(78);
    daemon.signal(Signal::HUP);
    wait_until("the reload is refused", || daemon.log().contains("room.nmae"));
    home.configure(chat.url(), &PORTER.replace("Welcome to", "Hello,"));
    let reloads = || daemon.log().matches("reloaded").count();
    let before = reloads();
    daemon.signal(Signal::HUP);
    wait_until("the reload is told", || reloads() > before);
    assert!(daemon.log().contains("reloaded: bots: changed porter"), "{}", daemon.log());
    let room = chat.open_room("Support");
    wait_until("it is said", || chat.texts(room) == ["Hello, Support!"]);
    daemon.stop();
}
