//! `store` and what belongs to it, on the real program.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]
#![allow(clippy::disallowed_methods, reason = "another process takes real time")]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};

use imbabot_store::DeliveryState;
use support::{Chat, Home, assert_holds, wait_until};

const GREETER: &str = "
[[bot]]
name = \"greeter\"
kind = \"greeter\"
settings = { greeting = \"Welcome to {{ room.name }}!\" }
";

/// The same, with its store elsewhere.
fn stored_at(chat: &Chat, home: &Home, path: &str) {
    home.configure(chat.url(), &format!("{GREETER}[store]\npath = \"{path}\"\n"));
}

#[test]
fn backups_under_kills_and_sends_are_whole_and_verify_has_nothing_to_say() {
    let chat = Chat::open();
    let room = chat.open_room("Old").to_string();
    let home = Home::at(&chat, GREETER);
    let stop = AtomicBool::new(false);
    let copies = std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let daemon = home.ready();
                let made = chat.open_room(&format!("Room {n}"));
                wait_until("it is greeted", || !chat.texts(made).is_empty());
                daemon.kill();
            }
        });
        scope.spawn(|| {
            for n in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                // Between two daemons it may be told to wait for one.
                home.imbabot(&["send", "--room", &room, &format!("Message {n}")]);
            }
        });
        wait_until("there is a store", || home.path("imbabot.db").exists());
        let copies: Vec<String> = (0..6).map(|n| format!("copy-{n}.db")).collect();
        for copy in &copies {
            let file = home.path(copy);
            let before = chat.seen().len();
            wait_until("there is work", || chat.seen().len() > before + 3);
            let told = home.json(&["store", "backup", file.to_str().unwrap()]);
            assert_eq!(told["bytes"].as_u64(), Some(std::fs::metadata(&file).unwrap().len()));
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        stop.store(true, Ordering::Relaxed);
        copies
    });
    for copy in copies {
        stored_at(&chat, &home, &copy);
        let lines = home.json(&["ledger", "verify"])["lines"].as_u64().unwrap();
        assert!(lines > 3, "{copy} has {lines} lines");
        let info = home.json(&["store", "info"]);
        assert!(info["copied_at"].is_string(), "{info}");
    }
}

#[test]
fn an_old_copy_is_refused_and_after_reanchor_nobody_hears_anything_twice() {
    let chat = Chat::open();
    let old = chat.open_room("Old");
    let home = Home::at(&chat, GREETER);
    let daemon = home.ready();
    // Queued when the copy is made, and sent after that.
    home.imbabot(&["pause"]).expect(0);
    home.imbabot(&["send", "--room", &old.to_string(), "Hello"]).expect(0);
    home.imbabot(&["store", "backup", home.path("copy.db").to_str().unwrap()]).expect(0);
    home.imbabot(&["resume"]).expect(0);
    let late = chat.open_room("Late");
    wait_until("both are greeted", || !chat.texts(old).is_empty() && !chat.texts(late).is_empty());
    daemon.stop();

    for gone in ["imbabot.db-wal", "imbabot.db-shm"] {
        let _ = std::fs::remove_file(home.path(gone));
    }
    std::fs::copy(home.path("copy.db"), home.path("imbabot.db")).unwrap();
    let refused = home.imbabot(&["run", "--json"]).expect(74);
    assert_eq!(refused.error()["code"], "IMB-S-RESTORED");
    assert!(refused.error()["hint"].as_str().unwrap().contains("store reanchor"), "{refused:?}");
    home.imbabot(&["send", "--room", &old.to_string(), "x"]).expect(74);
    home.imbabot(&["ledger", "verify"]).expect(0);

    let done = home.json(&["store", "reanchor"]);
    assert_eq!((&done["cancelled"], &done["schedules"]), (&1.into(), &0.into()), "{done}");
    assert_eq!(home.json(&["store", "info"])["copied_at"], serde_json::Value::Null);
    // Paused it was, when the copy was made.
    home.imbabot(&["resume"]).expect(0);
    let daemon = home.ready();
    let new = chat.open_room("New");
    wait_until("the new room is greeted", || !chat.texts(new).is_empty());
    daemon.stop();
    assert_eq!(chat.texts(old), ["Hello"]);
    assert_eq!(chat.texts(late), ["Welcome to Late!"]);
    home.imbabot(&["ledger", "verify"]).expect(0);
    let states: Vec<DeliveryState> = home.deliveries().iter().map(|one| one.state).collect();
    assert_eq!(states, [DeliveryState::Dead, DeliveryState::Delivered]);
    let why = home.json(&["why", &home.deliveries()[0].id.to_string()]);
    assert!(why.to_string().contains("reanchor"), "{why}");
}

#[test]
fn a_backup_takes_no_name_that_is_taken_and_needs_a_store() {
    let chat = Chat::open();
    let home = Home::at(&chat, "");
    let file = home.path("copy.db");
    let file = file.to_str().unwrap();
    home.imbabot(&["store", "backup", file]).expect(74);
    assert!(!home.path("copy.db").exists());
    home.ready().stop();
    home.imbabot(&["store", "backup", file]).expect(0);
    let before = std::fs::read(file).unwrap();
    let refused = home.imbabot(&["store", "backup", file, "--json"]).expect(65);
    assert_eq!(refused.error()["code"], "IMB-V-INPUT");
    assert_eq!(std::fs::read(file).unwrap(), before);
}

#[test]
fn info_says_what_the_store_is_and_holds_to_a_script_and_to_a_person() {
    let chat = Chat::open();
    chat.open_room("Old");
    let home = Home::at(&chat, GREETER);
    let daemon = home.ready();
    let info = home.json(&["store", "info"]);
    let keys: Vec<_> = info.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        [
            "path",
            "kind",
            "schema",
            "copied_at",
            "bytes",
            "free_bytes",
            "log_bytes",
            "rows",
            "seq",
            "incarnation",
            "daemon",
            "checks",
            "backups"
        ]
    );
    assert_eq!(info["daemon"], daemon.pid());
    assert_eq!(info["rows"]["rooms"], 1);
    assert_eq!(info["incarnation"]["id"], 1);
    home.imbabot(&["store", "backup", home.path("copy.db").to_str().unwrap()]).expect(0);
    daemon.stop();
    let told = home.imbabot(&["store", "info"]).expect(0).stdout;
    assert!(told.contains("copy.db") && told.contains("integrity  not yet"), "{told}");
    assert_eq!(home.json(&["store", "info"])["backups"].as_array().unwrap().len(), 1);
    home.imbabot(&["store", "reanchor"]).expect(0);
    assert_holds(&home.check(&chat));
}

#[test]
fn no_copy_is_taken_into_use_beneath_a_daemon() {
    let chat = Chat::open();
    let home = Home::at(&chat, "");
    let _daemon = home.ready();
    home.imbabot(&["store", "reanchor"]).expect(75);
}
