//! A store on a PostgreSQL server, as somebody meets it who types verbs: what is only for a file says so,
//! a server that is not there is an absence, and what needs a daemon waits for one. The URL is said
//! nowhere.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]
#![allow(clippy::disallowed_methods, reason = "another process takes real time")]

mod support;

use serde_json::{Value, json};
use support::postgres::{self, Database, Server};
use support::{Chat, Ended, Home, free_port, wait_until};

const PASSWORD: &str = "hunter2-is-no-secret";
const STORE: &str = "[store]\nkind = \"postgres\"\nurl_file = \"database_url\"\ninstance = \"blue\"\n\
                     lease = \"2s\"\n";

/// A home whose store is where this URL leads.
fn home(chat: &Chat, url: &str) -> Home {
    let home = Home::at(chat, STORE);
    home.write("database_url", format!("{url}\n"), 0o600);
    home
}

/// A server that is not there.
fn nowhere(chat: &Chat) -> Home {
    let port = free_port();
    home(chat, &format!("postgres://imbabot:{PASSWORD}@127.0.0.1:{port}/imbabot"))
}

/// A home whose store is in a database of its own; the URL has a password, whether it is asked for or not.
fn home_in(database: &Database, chat: &Chat) -> Home {
    let (scheme, rest) = database.url.split_once("://").unwrap();
    let url = match rest.split_once('@') {
        Some((user, rest)) if !user.contains(':') => format!("{scheme}://{user}:{PASSWORD}@{rest}"),
        _ => database.url.clone(),
    };
    home(chat, &url)
}

/// Nothing that was printed has anything of the URL but the host.
#[track_caller]
fn says_no_url(ended: &Ended) {
    for said in [&ended.stdout, &ended.stderr] {
        assert!(!said.contains(PASSWORD) && !said.contains("postgres://"), "{said}");
    }
}

#[test]
fn what_is_only_for_the_other_kind_of_store_says_what_to_do_instead() {
    let chat = Chat::open();
    let on_file = Home::at(&chat, "");
    let error = on_file.imbabot(&["drain", "--json"]).expect(2).error();
    assert_eq!(error["code"], "IMB-V-STORE");
    assert!(error["hint"].as_str().unwrap().contains("systemctl stop"), "{error}");
    // No server has to be there to say so.
    let on_server = nowhere(&chat);
    for (verb, hint) in [
        (&["store", "backup", "copy.db", "--json"][..], "pg_dump"),
        (&["store", "reanchor", "--json"], "deliveries cancel"),
    ] {
        let error = on_server.imbabot(verb).expect(2).error();
        assert_eq!(error["code"], "IMB-V-STORE");
        assert!(error["hint"].as_str().unwrap().contains(hint), "{error}");
    }
}

#[test]
fn a_server_that_is_not_there_is_an_absence_and_no_verb_tells_its_url() {
    let chat = Chat::open();
    let home = nowhere(&chat);
    for verb in [
        &["status"][..],
        &["send", "--room", "1", "Hello"],
        &["plan"],
        &["store", "info"],
        &["drain"],
    ] {
        let ended = home.imbabot(&[verb, &["--json"]].concat()).expect(69);
        says_no_url(&ended);
        let error = ended.error();
        assert_eq!(error["code"], "IMB-S-UNREACHED", "{verb:?}");
        let message = error["message"].as_str().unwrap();
        assert!(message.starts_with("PostgreSQL on 127.0.0.1 cannot be used now"), "{message}");
    }
    // At its most talkative, the driver included.
    says_no_url(&home.imbabot(&["status", "--log", "trace"]).expect(69));
    let doctor = home.imbabot(&["doctor", "--json"]).expect(69);
    says_no_url(&doctor);
    let found = doctor.json();
    let of_store = |f: &&Value| f["check"] == "store";
    let finding = found["findings"].as_array().unwrap().iter().find(of_store).unwrap();
    assert_eq!((&finding["level"], &finding["code"]), (&json!("error"), &json!("IMB-S-UNREACHED")));
    // What needs no store works.
    home.imbabot(&["check"]).expect(0);
    home.write("rooms.json", r#"{"success":"true","data":[],"code":200}"#, 0o600);
    let rooms = home.path("rooms.json");
    home.imbabot(&["rehearse", "--until", "1h", "--rooms", rooms.to_str().unwrap()]).expect(0);
}

#[test]
fn a_run_that_waits_for_its_server_says_so_and_can_be_stopped() {
    let chat = Chat::open();
    let home = nowhere(&chat);
    let daemon = home.start();
    daemon.wait_says("IMB-S-UNREACHED");
    let said = daemon.said();
    assert!(said.contains("it is asked again for 30s") && !said.contains(PASSWORD), "{said}");
    daemon.stop();
}

#[test]
fn before_the_first_run_verbs_say_what_makes_the_store() {
    let Some(database) = Database::new() else { return };
    let chat = Chat::open();
    let home = home_in(&database, &chat);
    assert_eq!(home.imbabot(&["status", "--json"]).expect(69).error()["code"], "IMB-X-NO-DAEMON");
    let none = home.imbabot(&["deliveries", "--json"]).expect(74);
    assert!(none.error()["message"].as_str().unwrap().contains("`imbabot run` makes it"));
    assert_eq!(home.json(&["plan"]), json!([]));
    assert_eq!(home.json(&["schedules"]), json!([]));
    let note = home.imbabot(&["doctor"]).expect(0);
    assert!(note.stdout.contains("has no tables yet"), "{}", note.stdout);
    // The emergency stop works before the first run, and that run obeys it.
    assert_eq!(home.json(&["pause"])["changed"], true);
    assert_eq!(home.json(&["pause"])["changed"], false);
    let daemon = home.start();
    daemon.wait_reason("paused");
    home.imbabot(&["resume"]).expect(0);
    daemon.wait_ready();
    daemon.stop();
}

#[test]
fn a_message_waits_for_an_instance_and_is_then_delivered() {
    let Some(database) = Database::new() else { return };
    let chat = Chat::open();
    let room = chat.open_room("Team 1");
    let home = home_in(&database, &chat);
    let number = room.to_string();
    let send = |more: &[&str]| {
        let ended = home.imbabot(&[&["send", "--room", &number][..], more].concat());
        says_no_url(&ended);
        ended
    };
    let waiting = send(&["--log", "trace", "Before"]).expect(12);
    assert!(waiting.stderr.contains("IMB-D-NOBODY"), "{}", waiting.stderr);
    let id = waiting.stdout.trim().to_owned();
    assert_eq!(chat.texts(room), Vec::<String>::new());
    let why = home.json(&["why", &id]);
    let decisions = why["decisions"].as_array().unwrap();
    assert!(decisions.iter().any(|decision| decision["reason"] == "not_running"), "{why}");
    let daemon = home.ready();
    send(&["--wait", "20s", "After"]).expect(0);
    wait_until("both are there, in order", || chat.texts(room) == ["Before", "After"]);
    daemon.stop();
    home.imbabot(&["ledger", "verify"]).expect(0);
}

#[test]
fn an_instance_is_listed_and_drained_by_its_name() {
    let Some(database) = Database::new() else { return };
    let chat = Chat::open();
    let home = home_in(&database, &chat);
    assert_eq!(home.imbabot(&["drain", "--json"]).expect(74).error()["code"], "IMB-S-UNUSABLE");
    let daemon = home.ready();
    // Whatever the exit code: one that gives everything away is not ready.
    let listed = || home.imbabot(&["status", "--json"]).json()["instances"].clone();
    wait_until("it has said how it is", || home.imbabot(&["status"]).stdout.starts_with("ready"));
    let one = listed()[0].clone();
    assert_eq!(listed().as_array().unwrap().len(), 1);
    assert_eq!((&one["name"], &one["alive"]), (&json!("blue"), &json!(true)), "{one}");
    assert_eq!(one["draining"], false);
    let page = daemon.http().get("/api/status").unwrap().json();
    assert_eq!(page["instances"][0]["incarnation"], one["incarnation"]);
    let number = one["incarnation"].to_string();
    let said = home.imbabot(&["drain"]).expect(0);
    assert!(said.stdout.starts_with(&format!("{number} (blue): gives everything away")));
    assert_eq!(listed()[0]["draining"], true);
    let has = |widgets: u64, schedules: bool| {
        let one = listed()[0].clone();
        one["widgets"] == widgets && one["schedules"] == schedules
    };
    wait_until("it has nothing left", || has(0, false));
    home.imbabot(&["drain", &number, "--undo"]).expect(0);
    assert_eq!(listed()[0]["draining"], false);
    wait_until("it has its share again", || has(1, true));
    assert_eq!(
        home.imbabot(&["drain", "4711", "--json"]).expect(65).error()["code"],
        "IMB-V-INPUT"
    );
    // From a host of another name it has to be said which.
    home.configure(chat.url(), &STORE.replace("blue", "green"));
    let error = home.imbabot(&["drain", "--json"]).expect(2).error();
    assert_eq!(error["code"], "IMB-V-INSTANCE");
    assert!(error["message"].as_str().unwrap().contains(&format!("{number} (blue)")), "{error}");
    let info = home.json(&["store", "info"]);
    assert_eq!(
        (&info["kind"], &info["place"]),
        (&json!("postgres"), &json!("PostgreSQL on 127.0.0.1"))
    );
    assert_eq!(info["instances"], json!([one["incarnation"]]));
    assert!(!daemon.said().contains(PASSWORD));
    daemon.stop();
}

#[test]
fn a_server_that_never_clears_away_is_warned_of() {
    let Some(server) = Server::start() else { return };
    let chat = Chat::open();
    let home = home(&chat, &server.url());
    let daemon = home.ready();
    daemon.wait_says("the store is PostgreSQL on 127.0.0.1, version ");
    daemon.stop();
    assert!(!home.imbabot(&["doctor"]).expect(0).stdout.contains("autovacuum"));
    postgres::run(&server.url(), "ALTER SYSTEM SET autovacuum = off");
    postgres::run(&server.url(), "SELECT pg_reload_conf()");
    let daemon = home.ready();
    daemon.wait_says("IMB-S-AUTOVACUUM");
    daemon.stop();
    assert!(home.imbabot(&["doctor"]).expect(1).stdout.contains("autovacuum"));
    assert_eq!(home.json(&["store", "info"])["clears_away"], false);
}
