//! Bots that misbehave in a real daemon: one that aborts the process, one that spins, floods and
//! hoards, one that panics before it is told anything.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]
#![allow(clippy::disallowed_methods, reason = "another process takes real time")]
#![allow(clippy::print_stdout, reason = "what was measured is told")]

#[path = "../../../bots/tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Chat, Daemon, Home, Signal, assert_holds, holds_for, wait_until, wait_within};

/// A chat with one room in it, and a daemon's folder with a polite bot and one that does this.
fn with(deed: &str) -> (Chat, Home) {
    let chat = Chat::open();
    chat.open_room("There before");
    let home = Home::at(&chat, "");
    let sick = home.write("sick", "", 0o600);
    home.configure(
        chat.url(),
        &format!(
            "[[bot]]\nname = \"bad\"\nkind = \"bad\"\ntimeout = \"300ms\"\nconcurrency = 4\n\
             settings = {{ deed = \"{deed}\", sick = {sick:?} }}\n\
             [[bot]]\nname = \"polite\"\nkind = \"polite\"\n"
        ),
    );
    (chat, home)
}

fn heals(home: &Home) {
    std::fs::remove_file(home.path("sick")).unwrap();
}

/// Opens a room, and waits until the polite one has greeted it.
fn greeted(chat: &Chat, name: &str) -> i64 {
    let room = chat.open_room(name);
    let begun = Instant::now();
    wait_until(&format!("a greeting of {name}"), || {
        chat.texts(room).contains(&format!("Welcome to {name}!"))
    });
    assert!(begun.elapsed() < Duration::from_secs(5), "{name} after {:?}", begun.elapsed());
    room
}

/// Waits for the end of a process that a signal of its own ended.
fn dies(daemon: Daemon) {
    assert_eq!(daemon.end(), None, "killed by a signal, not ended by an exit code");
}

#[test]
fn k8_an_event_on_which_the_process_aborts_is_set_aside_at_the_fourth_start() {
    let (chat, home) = with("abort");
    let daemon = home.ready();
    let healthy = greeted(&chat, "Healthy");
    wait_until("its word", || chat.texts(healthy).contains(&"fine".to_owned()));
    // All at once: what is on the way with the poison is not poisoned by it.
    let poison = chat.open_room("Poison");
    let beside: Vec<i64> = (0..5).map(|n| chat.open_room(&format!("Beside {n}"))).collect();
    dies(daemon);
    for _ in 0..2 {
        dies(home.start());
    }
    let fourth = home.ready();
    let mut fourth = fourth;
    for room in beside.into_iter().chain([poison]) {
        wait_until("everybody is greeted", || {
            chat.texts(room).iter().any(|text| text.starts_with("Welcome"))
        });
    }
    wait_until("it is poisoned", || {
        home.json(&["events", "--poisoned"]).as_array().is_some_and(|events| events.len() == 1)
    });
    let poisoned = home.json(&["events", "--poisoned"]);
    assert_eq!(poisoned[0]["bot"], "bad");
    assert_eq!(poisoned[0]["room"], poison);
    assert_eq!(poisoned[0]["reason"], "the process died on every try");
    holds_for(Duration::from_secs(1), "it runs", || fourth.is_running());
    greeted(&chat, "Later");
    // Started again it stays as it is.
    fourth.stop();
    let fifth = home.ready();
    greeted(&chat, "Later still");
    assert!(!chat.texts(poison).contains(&"fine".to_owned()));
    // Mended, and tried again by hand beside the daemon.
    heals(&home);
    let id = poisoned[0]["id"].as_str().unwrap();
    home.imbabot(&["events", "retry", id]).expect(0);
    wait_until("its word", || chat.texts(poison).contains(&"fine".to_owned()));
    assert_eq!(home.json(&["events", "--poisoned"]), Value::Array(Vec::new()));
    fifth.stop();
    assert_holds(&home.check(&chat).quiescent());
    home.imbabot(&["ledger", "verify"]).expect(0);
}

#[test]
fn k8_an_event_on_which_a_bot_always_panics_is_set_aside_and_listed() {
    let (chat, home) = with("panic");
    let daemon = home.ready();
    let poison = chat.open_room("Poison");
    wait_until("it is poisoned", || {
        home.json(&["events", "--poisoned"])[0]["reason"] == "panicked: poison"
    });
    greeted(&chat, "Later");
    assert_eq!(daemon.http().metric("imbabot_events_poisoned_total{bot=\"bad\"}"), Some(1.0));
    daemon.wait_says("IMB-B-POISONED");
    heals(&home);
    let id = home.json(&["events", "--poisoned"])[0]["id"].as_str().unwrap().to_owned();
    home.imbabot(&["events", "retry", &id]).expect(0);
    wait_until("its word", || chat.texts(poison).contains(&"fine".to_owned()));
    daemon.stop();
    assert_holds(&home.check(&chat).quiescent());
}

#[test]
fn a_bot_that_spins_is_set_aside_for_everybody_to_see_until_a_reload() {
    let (chat, home) = with("spin");
    let daemon = home.ready();
    for n in 0..3 {
        greeted(&chat, &format!("Poison {n}"));
    }
    daemon.wait_reason("task_stalled");
    let status = daemon.http().get("/api/status").unwrap().json();
    assert!(status["set_aside"]["bad"].is_string(), "{status}");
    assert_eq!(
        daemon.http().metric("imbabot_bot_invocations_total{bot=\"bad\",outcome=\"quarantined\"}"),
        Some(1.0)
    );
    assert_eq!(daemon.http().get("/livez").unwrap().status, 200);
    let log = daemon.log();
    assert!(log.contains("IMB-B-SPINS") && log.contains("IMB-B-SET-ASIDE"), "{log}");
    greeted(&chat, "Others go on");
    heals(&home);
    daemon.signal(Signal::HUP);
    daemon.wait_ready();
    wait_until("what waited is said", || {
        chat.asked("send_msg").iter().filter(|e| e.text.as_deref() == Some("fine")).count() == 4
    });
    assert_eq!(home.json(&["events", "--poisoned"]), Value::Array(Vec::new()));
    daemon.stop();
    assert_holds(&home.check(&chat).quiescent());
}

#[test]
fn a_bot_that_was_set_aside_has_another_chance_after_a_restart() {
    let (chat, home) = with("spin");
    let daemon = home.ready();
    for n in 0..3 {
        greeted(&chat, &format!("Poison {n}"));
    }
    daemon.wait_reason("task_stalled");
    // Threads that spin hold up no stop.
    let begun = Instant::now();
    daemon.stop();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    heals(&home);
    let daemon = home.ready();
    wait_until("what waited is said", || {
        chat.asked("send_msg").iter().filter(|e| e.text.as_deref() == Some("fine")).count() == 3
    });
    daemon.stop();
    assert_holds(&home.check(&chat).quiescent());
}

/// The most that a process had in memory, in MiB.
fn peak(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() / 1024
}

#[test]
fn k5_a_bot_that_floods_or_hoards_is_told_so_and_takes_no_memory() {
    for (deed, says) in [
        ("flood", "error: more than 8 MiB of texts and keys were recorded for one event"),
        ("hoard", "error: a value does not fit into a bot's memory: 1048576 bytes at most"),
    ] {
        let (chat, home) = with(deed);
        home.configure(
            chat.url(),
            &std::fs::read_to_string(home.path("imbabot.toml"))
                .unwrap()
                .split_once("[[bot]]")
                .map(|(_, bots)| format!("[[bot]]{}", bots.replace("300ms", "30s")))
                .unwrap(),
        );
        let daemon = home.ready();
        greeted(&chat, "Before");
        let before = peak(&daemon);
        chat.open_room("Poison");
        // Whoever comes next does not wait for it.
        greeted(&chat, "Beside");
        wait_until("its failure", || {
            daemon.http().metric("imbabot_bot_invocations_total{bot=\"bad\",outcome=\"error\"}")
                >= Some(1.0)
        });
        let after = peak(&daemon);
        println!("{deed}: {before} MiB before, {after} MiB at most");
        assert!(after < before + 96, "{deed}: {before} MiB before, {after} MiB at most");
        wait_until("it is listed", || {
            home.json(&["events"]).as_array().unwrap().iter().any(|event| event["reason"] == says)
        });
        daemon.stop();
        assert_holds(&home.check(&chat));
    }
}

#[test]
fn k4_a_slow_bot_and_ten_thousand_changes_take_no_memory() {
    let chat = Chat::open();
    chat.populate(10_000);
    let home = Home::at(
        &chat,
        "[poll]\nrooms = \"1s\"\n\
         [[bot]]\nname = \"slow\"\nkind = \"slow\"\nsettings = { millis = 1000 }\n\
         [[bot]]\nname = \"polite\"\nkind = \"polite\"\n",
    );
    let daemon = home.ready();
    wait_until("the first list", || {
        daemon.http().metric("imbabot_rooms{widget=\"main\"}") == Some(10_000.0)
    });
    let before = peak(&daemon);
    let ids: Vec<i64> = chat.rooms().iter().map(|room| room.id).collect();
    for id in ids {
        chat.rename_room(id, &format!("renamed {id}")).unwrap();
    }
    let renamed = || daemon.http().metric("imbabot_room_events_total{kind=\"renamed\"}");
    // An unoptimised build on a slow machine records them one page after the other.
    let patience = std::time::Duration::from_secs(90);
    wait_within(patience, "all are found", || (renamed() == Some(10_000.0)).then_some(()));
    std::thread::sleep(Duration::from_secs(3));
    // Eight at a time, a second each: the others wait in the store.
    let handled =
        daemon.http().metric("imbabot_bot_invocations_total{bot=\"slow\",outcome=\"ok\"}");
    assert!(handled < Some(200.0), "{handled:?}");
    let after = peak(&daemon);
    println!("10,000 changes: {before} MiB before, {after} MiB at most");
    assert!(after < 128, "{before} MiB before, {after} MiB at most");
    daemon.stop();
}

#[test]
fn k1_a_bot_that_panics_before_it_is_told_anything_is_a_mistake_of_the_configuration() {
    let chat = Chat::open();
    for (kind, settings, words) in [
        ("unborn", "{}", "I never asked to be made"),
        ("shy", "{ of = \"listens\" }", "I would rather not say"),
        ("shy", "{ of = \"schedules\" }", "I would rather not say"),
    ] {
        let polite = "[[bot]]\nname = \"polite\"\nkind = \"polite\"\n";
        let shy =
            format!("{polite}[[bot]]\nname = \"bad\"\nkind = \"{kind}\"\nsettings = {settings}\n");
        let home = Home::at(&chat, &shy);
        for verb in ["check", "run"] {
            let ended = home.imbabot(&[verb]).expect(78);
            let said = format!("{}{}", ended.stdout, ended.stderr);
            assert!(said.contains("IMB-C-061") && said.contains(words), "{said}");
        }
        // A reload that brings such a bot changes nothing.
        home.configure(chat.url(), polite);
        let daemon = home.ready();
        home.configure(chat.url(), &shy);
        daemon.signal(Signal::HUP);
        wait_until("the reload is refused", || {
            daemon.http().metric("imbabot_config_reload_failures_total") == Some(1.0)
        });
        greeted(&chat, &format!("Beside {kind} {settings}"));
        daemon.stop();
    }
}
