//! Signals, and what holds between two processes: the drain, the reload, the lock, the breaker.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]
#![allow(clippy::disallowed_methods, reason = "measurements of real time")]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use imbabot_store::{DeliveryState, Line};
use serde_json::json;
use support::{
    Chat, Daemon, Home, Rng, SECRET, Signal, assert_holds, end_of, holds_for, path_of_program,
    wait_for, wait_until,
};

const GREETER: &str = r#"
[[bot]]
name = "greeter"
kind = "greeter"
settings = { greeting = "Welcome!" }
"#;

const FAILED_RELOADS: &str = "imbabot_config_reload_failures_total";

/// Adds a message beside the daemon and waits until its request is on its way.
fn send_and_see(chat: &Chat, home: &Home, room: i64) {
    home.imbabot(&["send", "--room", &room.to_string(), "in flight"]).expect(0);
    wait_until("the request arrives", || !chat.asked("send_msg").is_empty());
}

fn states(home: &Home) -> Vec<DeliveryState> {
    home.deliveries().iter().map(|delivery| delivery.state).collect()
}

#[test]
fn sigterm_finishes_what_is_in_flight_and_claims_nothing_more() {
    let chat = Chat::open();
    let room = chat.open_room("Team 1");
    chat.fault("send_msg:late=2s");
    let home = Home::at(&chat, "");
    let daemon = home.ready();
    send_and_see(&chat, &home, room);
    // Behind it in its lane: stays for the next run.
    home.imbabot(&["send", "--room", &room.to_string(), "later"]).expect(0);

    let begun = Instant::now();
    daemon.signal(Signal::TERM);
    wait_until("it says that it drains", || {
        daemon.http().get("/readyz").is_some_and(|page| page.body.contains("draining"))
    });
    assert_eq!(daemon.end(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());

    assert_eq!(states(&home), [DeliveryState::Delivered, DeliveryState::Queued]);
    assert_eq!(chat.texts(room), ["in flight"]);
    assert_holds(&home.check(&chat));
    let clean: Vec<bool> = home
        .ledger()
        .iter()
        .filter_map(|line| match &line.line {
            Line::Incarnation(record) => Some(record.clean?),
            _ => None,
        })
        .collect();
    assert_eq!(clean, [true]);

    let daemon = home.ready();
    wait_until("the next run sends the rest", || chat.texts(room).len() == 2);
    daemon.stop();
    assert_holds(&home.check(&chat).quiescent());
}

#[test]
fn a_stop_at_any_moment_after_the_start_ends_within_moments() {
    let chat = Chat::open();
    let room = chat.open_room("Team 1").to_string();
    let mut rng = Rng::new();
    for _ in 0..25 {
        let home = Home::at(&chat, GREETER);
        chat.down(true);
        for n in 0..3 {
            let text = format!("{n}");
            home.imbabot(&["send", "--room", &room, &text]);
        }
        chat.down(false);
        let daemon = home.start();
        wait_until("it answers", || daemon.http().get("/livez").is_some());
        std::thread::sleep(rng.millis(0, 40));
        let begun = Instant::now();
        daemon.stop();
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
}

#[test]
fn a_second_sigterm_ends_it_at_once_and_the_outcome_is_unknown() {
    let chat = Chat::open();
    let room = chat.open_room("Team 1");
    chat.fault("send_msg:late=60s");
    let home = Home::at(&chat, "");
    let daemon = home.ready();
    send_and_see(&chat, &home, room);

    daemon.signal(Signal::TERM);
    wait_until("it says that it drains", || {
        daemon.http().get("/readyz").is_some_and(|page| page.body.contains("draining"))
    });
    let begun = Instant::now();
    daemon.signal(Signal::INT);
    assert_eq!(daemon.end(), Some(143));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(states(&home), [DeliveryState::Sending]);

    let daemon = home.ready();
    assert_eq!(states(&home), [DeliveryState::Unknown]);
    daemon.stop();
    assert_holds(&home.check(&chat).quiescent());
}

#[test]
fn sighup_with_a_broken_file_keeps_the_old_configuration_and_takes_a_good_one() {
    let chat = Chat::open();
    chat.open_room("Lobby");
    let home = Home::at(&chat, GREETER);
    let daemon = home.ready();
    assert_eq!(daemon.http().metric(FAILED_RELOADS), Some(0.0));

    home.configure(chat.url(), &format!("{}\nbroken = [\n", GREETER.replace("Welcome!", "No!")));
    daemon.signal(Signal::HUP);
    wait_until("a failure is counted", || daemon.http().metric(FAILED_RELOADS) == Some(1.0));
    daemon.wait_says("IMB-C-RELOAD");
    let first = chat.open_room("First");
    wait_until("the old greeting", || chat.texts(first) == ["Welcome!"]);

    home.configure(chat.url(), &GREETER.replace("Welcome!", "Hello, {{ room.name }}!"));
    daemon.signal(Signal::HUP);
    wait_until("it says so", || daemon.log().contains("the configuration was reloaded"));
    let second = chat.open_room("Second");
    wait_until("the new greeting", || chat.texts(second) == ["Hello, Second!"]);
    assert_eq!(daemon.http().metric(FAILED_RELOADS), Some(1.0));
    daemon.stop();
    assert_holds(&home.check(&chat).quiescent());
}

#[test]
fn sighup_refuses_by_name_what_needs_a_restart() {
    let chat = Chat::open();
    let home = Home::at(&chat, GREETER);
    let daemon = home.ready();
    let file = std::fs::read_to_string(home.path("imbabot.toml")).unwrap();
    for (n, (change, section)) in [
        (format!("{file}\n[store]\npath = \"other.db\"\n"), "[store]"),
        (format!("{file}\n[store]\nretention = \"7d\"\n"), "[store]"),
        (file.replace("[http]", "[http]\nallowed_hosts = [\"bots.example\"]"), "[http]"),
    ]
    .into_iter()
    .enumerate()
    {
        home.write("imbabot.toml", change.replace("Welcome!", "No!"), 0o600);
        daemon.signal(Signal::HUP);
        let so_many = Some((n + 1) as f64);
        wait_until("a failure is counted", || daemon.http().metric(FAILED_RELOADS) == so_many);
        daemon.wait_says(&format!("a change of {section} needs a restart"));
    }
    let room = chat.open_room("First");
    wait_until("the old greeting", || chat.texts(room) == ["Welcome!"]);
    assert!(!home.path("other.db").exists());
    daemon.stop();
}

#[test]
fn a_second_daemon_on_the_same_store_is_refused_and_the_first_goes_on() {
    let chat = Chat::open();
    let room = chat.open_room("Team 1");
    let home = Home::at(&chat, "");
    let mut daemon = home.ready();
    let begun = Instant::now();
    let second = home.imbabot(&["run", "--json"]).expect(75);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let error = second.error();
    assert_eq!(error["code"], "IMB-S-HELD");
    let holder = format!("process {}", daemon.pid());
    assert!(error["message"].as_str().unwrap().contains(&holder), "{error}");

    assert!(daemon.is_running());
    let room_id = room.to_string();
    home.imbabot(&["send", "--room", &room_id, "--wait", "10s", "still here"]).expect(0);
    assert_eq!(chat.texts(room), ["still here"]);
    daemon.stop();
}

#[test]
fn a_daemon_waits_for_a_send_that_holds_the_store() {
    let chat = Chat::open();
    let room = chat.open_room("Team 1");
    chat.fault("send_msg:late=1s");
    let home = Home::at(&chat, "");
    let mut send = home.command(&["send", "--room", &room.to_string(), "--wait", "20s", "alone"]);
    let mut send = send.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("the request arrives", || !chat.asked("send_msg").is_empty());
    let daemon = home.ready();
    assert_eq!(send.wait().unwrap().code(), Some(0));
    assert_eq!(states(&home), [DeliveryState::Delivered]);
    daemon.stop();
    assert_holds(&home.check(&chat).quiescent());
}

#[test]
fn h4_a_wrong_secret_kills_nothing_and_the_right_one_comes_with_sighup() {
    let chat = Chat::open();
    let room = chat.open_room("Team 1");
    let home = Home::at(&chat, "");
    home.secret("not-the-secret");
    let daemon = home.start();
    daemon.wait_reason("credentials_rejected");
    let room_id = room.to_string();
    let sent = home.imbabot(&["send", "--room", &room_id, "--key", "k", "patient"]).expect(0);

    // With polls every 100 ms, a daemon that asked on would show at once.
    holds_for(Duration::from_secs(3), "at most one probe a minute, and nothing sent", || {
        chat.asked("get_rooms").len() + chat.asked("get_users").len() <= 2
            && chat.asked("send_msg").len() <= 1
    });
    daemon.wait_reason("credentials_rejected");
    assert_eq!(states(&home), [DeliveryState::Queued]);
    daemon.wait_says("IMB-API-CREDENTIALS");

    home.secret(SECRET);
    daemon.signal(Signal::HUP);
    wait_until("delivered", || chat.texts(room) == ["patient"]);
    daemon.wait_ready();
    daemon.stop();
    let delivered = home.deliveries();
    assert_eq!(delivered[0].id.to_string(), sent.stdout.trim());
    assert_eq!(states(&home), [DeliveryState::Delivered]);
    assert_holds(&home.check(&chat).quiescent());
}

#[test]
fn h4_a_key_that_is_changed_at_the_server_while_it_runs_is_noticed_and_taken() {
    let chat = Chat::open();
    let room = chat.open_room("Team 1");
    let home = Home::at(&chat, "");
    let daemon = home.ready();
    chat.set_secret("a-new-secret");
    daemon.wait_reason("credentials_rejected");
    home.imbabot(&["send", "--room", &room.to_string(), "patient"]).expect(0);
    home.secret("a-new-secret\n");
    daemon.signal(Signal::HUP);
    wait_until("delivered", || chat.texts(room) == ["patient"]);
    daemon.stop();
    assert_holds(&home.check(&chat).quiescent());
}

#[test]
fn every_file_of_the_store_is_private_whatever_the_umask() {
    let chat = Chat::open();
    for umask in ["000", "077", "277"] {
        let home = Home::at(&chat, "");
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("umask {umask}; exec \"$0\" \"$@\"")]);
        shell.arg(path_of_program()).args(["run", "--config"]);
        shell.arg(home.path("imbabot.toml"));
        let daemon = Daemon::spawn(shell, &home);
        daemon.wait_ready();
        for name in ["imbabot.db", "imbabot.db-wal", "imbabot.db-shm", "imbabot.db.lock"] {
            let mode = std::fs::metadata(home.path(name)).unwrap().permissions().mode() & 0o7777;
            let expected = 0o600 & !u32::from_str_radix(umask, 8).unwrap();
            assert_eq!(mode, expected, "{name} with umask {umask}: {mode:o}");
        }
        daemon.stop();
    }
}

#[test]
fn run_once_polls_handles_delivers_and_ends() {
    let chat = Chat::open();
    chat.open_room("Lobby");
    let home = Home::at(&chat, GREETER);
    home.imbabot(&["run", "--once"]).expect(0);
    assert_eq!(chat.asked("send_msg").len(), 0, "the first look is only a baseline");
    let room = chat.open_room("Second");
    home.imbabot(&["run", "--once"]).expect(0);
    assert_eq!(chat.texts(room), ["Welcome!"]);
    home.imbabot(&["run", "--once"]).expect(0);
    assert_eq!(chat.texts(room).len(), 1);
    assert_holds(&home.check(&chat).quiescent());
}

#[test]
fn a_process_that_was_stopped_and_goes_on_misses_nothing() {
    let chat = Chat::open();
    let room = chat.open_room("Team 1");
    let schedule = format!(
        "[[schedule]]\nid = \"tick\"\nevery = \"1s\"\nrooms = {{ ids = [{room}] }}\ntext = \"tick\"\n"
    );
    let home = Home::at(&chat, &schedule);
    let daemon = home.ready();
    wait_until("it ticks", || !chat.texts(room).is_empty());
    daemon.signal(Signal::STOP);
    let before = chat.texts(room).len();
    holds_for(Duration::from_millis(2_500), "nothing while stopped", || {
        chat.texts(room).len() <= before + 1
    });
    daemon.signal(Signal::CONT);
    wait_until("what was due is caught up with", || chat.texts(room).len() >= before + 3);
    daemon.stop();
    assert_holds(&home.check(&chat).quiescent());
}

#[test]
fn the_demo_ends_by_sigterm() {
    let home = Home::new("http://127.0.0.1:9", "");
    let mut demo = Daemon::spawn(support::program(&["demo", "--no-open"]), &home);
    wait_until("it tells its address", || demo.log().contains("open http://"));
    assert!(demo.is_running());
    demo.stop();
}

#[test]
fn the_simulator_tells_its_address_and_ends_by_sigterm() {
    let home = Home::new("http://127.0.0.1:9", "");
    let log = home.path("requests.jsonl");
    let mut command = support::program(&[
        "simulator",
        "--listen",
        "127.0.0.1:0",
        "--rooms",
        "3",
        "--fault",
        "send_msg:no-id",
        "--log-file",
    ]);
    command.arg(&log);
    let simulator = Daemon::spawn(command, &home);
    let url = wait_for("its address", || {
        let log = simulator.log();
        Some(log.split_once("http://")?.1.split_whitespace().next()?.to_owned())
    });
    // As curl sends it: `--user 627:simulator-secret --data imba_id=627`.
    let body = "imba_id=627";
    let page = support::request(
        url.parse().unwrap(),
        &format!(
            "POST /imbachat/v2/627/get_rooms HTTP/1.1\r\nHost: {url}\r\nConnection: close\r\n\
             Authorization: Basic NjI3OnNpbXVsYXRvci1zZWNyZXQ=\r\nContent-Length: {}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\n\r\n{body}",
            body.len()
        ),
    )
    .unwrap();
    assert_eq!(page.status, 200);
    assert_eq!(page.json()["data"].as_array().map(Vec::len), Some(3), "{}", page.body);

    // The program itself against it, in two processes.
    home.configure(&format!("http://{url}"), "");
    let rooms = home.json(&["rooms"]);
    assert_eq!(rooms.as_array().map(Vec::len), Some(3));
    let room = rooms[0]["id"].to_string();
    let sent = home.imbabot(&["send", "--room", &room, "--wait", "5s", "--json", "hi"]).expect(10);
    assert_eq!(sent.json()["state"], json!("unknown"));
    simulator.stop();
    let log = std::fs::read_to_string(log).unwrap();
    let applied = log.lines().filter(|line| line.contains("\"applied\":true")).count();
    assert_eq!(applied, 1, "{log}");

    let bad = support::program(&["simulator", "--fault", "send_msg:wat"]);
    end_of(bad, "").expect(2);
}
