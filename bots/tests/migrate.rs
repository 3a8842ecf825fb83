//! `store migrate` on the real program: a store that was lived in goes from a file to PostgreSQL and
//! back, says the same everywhere, and whoever runs on it sends what was queued once and nothing twice.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]
#![allow(clippy::disallowed_methods, reason = "another process takes real time")]

mod support;

use std::collections::BTreeSet;

use serde_json::{Value, json};
use support::postgres::Database;
use support::{Chat, Ended, Home, assert_holds, end_of, free_port, program, wait_until};

const PASSWORD: &str = "hunter2-is-no-secret";

/// The same URL, with a password, whether it is asked for or not.
fn with_password(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap();
    match rest.split_once('@') {
        Some((user, rest)) if !user.contains(':') => format!("{scheme}://{user}:{PASSWORD}@{rest}"),
        _ => url.to_owned(),
    }
}

/// Moves a store, with no configuration and in a folder where there is none.
fn migrate(home: &Home, from: &str, to: &str) -> Ended {
    let mut command = program(&["store", "migrate", "--from", from, "--to", to, "--json"]);
    let nowhere = home.path("nowhere");
    std::fs::create_dir_all(&nowhere).unwrap();
    command.current_dir(nowhere);
    let ended = end_of(command, "");
    for said in [&ended.stdout, &ended.stderr] {
        assert!(!said.contains(PASSWORD), "{said}");
    }
    ended
}

/// The address of a file of this home.
fn address(kind: &str, home: &Home, name: &str) -> String {
    format!("{kind}:{}", home.path(name).display())
}

/// A store with a bit of everything: messages that were sent, one of which nobody knows, two that wait,
/// and a schedule that has fired.
struct LivedIn {
    chat: Chat,
    home: Home,
    _database: Database,
    room: i64,
    ticks: i64,
    deliveries: Value,
}

impl LivedIn {
    fn new() -> Option<Self> {
        let database = Database::new()?;
        let chat = Chat::open();
        let (room, ticks) = (chat.open_room("Team"), chat.open_room("Ticks"));
        let home = Home::at(&chat, "");
        home.write("database_url", with_password(&database.url), 0o600);
        let mut all =
            Self { chat, home, _database: database, room, ticks, deliveries: Value::Null };
        all.stored_at("path = \"imbabot.db\"");
        let daemon = all.home.ready();
        all.send(&["--wait", "20s", "sent"]).expect(0);
        all.chat.fault(&format!("send_msg:room={}:apply-then-close", all.room));
        all.send(&["--wait", "20s", "unknown"]).expect(10);
        wait_until("it ticks", || all.chat.texts(all.ticks).len() > 1);
        all.home.imbabot(&["pause"]).expect(0);
        all.send(&["first"]).expect(0);
        all.send(&["second"]).expect(0);
        daemon.stop();
        all.deliveries = all.home.json(&["deliveries"]);
        Some(all)
    }

    fn send(&self, words: &[&str]) -> Ended {
        self.home.imbabot(&[&["send", "--room", &self.room.to_string()], words].concat())
    }

    /// From here on verbs ask this store.
    fn stored_at(&self, store: &str) {
        let schedule = format!(
            "[[schedule]]\nid = \"tick\"\nevery = \"1s\"\nrooms = {{ ids = [{}] }}\n\
             text = \"{{{{ occurrence.id }}}}\"\n",
            self.ticks
        );
        self.home.configure(self.chat.url(), &format!("{schedule}[store]\n{store}\n"));
    }

    fn on_the_server(&self) {
        self.stored_at("kind = \"postgres\"\nurl_file = \"database_url\"\nlease = \"2s\"");
    }

    /// The store that verbs ask says what the first one said.
    #[track_caller]
    fn says_the_same(&self) {
        self.home.imbabot(&["ledger", "verify"]).expect(0);
        assert_eq!(self.home.json(&["deliveries"]), self.deliveries);
    }

    /// A daemon goes on where the first one stopped.
    #[track_caller]
    fn goes_on(&self) {
        let daemon = self.home.start();
        daemon.wait_reason("paused");
        self.home.imbabot(&["resume"]).expect(0);
        let ticked = self.chat.texts(self.ticks).len();
        wait_until("what was queued is sent", || self.chat.texts(self.room).len() > 3);
        wait_until("the schedule goes on", || self.chat.texts(self.ticks).len() > ticked + 1);
        self.send(&["--wait", "20s", "last"]).expect(0);
        daemon.stop();
        assert_eq!(self.chat.texts(self.room), ["sent", "unknown", "first", "second", "last"]);
        let ticks = self.chat.texts(self.ticks);
        assert_eq!(ticks.iter().collect::<BTreeSet<_>>().len(), ticks.len(), "{ticks:?}");
        self.home.imbabot(&["ledger", "verify"]).expect(0);
        assert_holds(&self.home.check(&self.chat));
    }
}

#[test]
fn a_store_that_was_moved_to_a_server_goes_on_there_and_the_file_is_refused() {
    let Some(all) = LivedIn::new() else { return };
    let (file, server) = (
        address("sqlite", &all.home, "imbabot.db"),
        address("postgres", &all.home, "database_url"),
    );
    let done = migrate(&all.home, &file, &server).expect(0).json();
    assert_eq!(done["rows"]["delivery"], all.deliveries.as_array().unwrap().len());
    assert_eq!(done["rows"]["schedule"], 1, "{done}");
    assert_eq!(done["verified"]["from"], done["verified"]["to"]);
    assert_eq!(
        (&done["source_closed"], &done["to"]),
        (&json!(true), &json!("PostgreSQL on 127.0.0.1"))
    );
    assert!(done["next"].to_string().contains("database_url"), "{done}");
    // The old one is still there to be looked at, and nobody runs on it.
    all.says_the_same();
    let refused = all.home.imbabot(&["run", "--json"]).expect(74).error();
    assert_eq!(refused["code"], "IMB-S-RESTORED");
    let again = migrate(&all.home, &file, &server).expect(74).error();
    assert_eq!(again["code"], "IMB-S-RESTORED", "{again}");
    all.on_the_server();
    all.says_the_same();
    all.goes_on();
}

#[test]
fn a_store_that_went_to_a_server_and_back_goes_on_in_its_file() {
    let Some(all) = LivedIn::new() else { return };
    let server = address("postgres", &all.home, "database_url");
    migrate(&all.home, &address("sqlite", &all.home, "imbabot.db"), &server).expect(0);
    let back = address("sqlite", &all.home, "back.db");
    let done = migrate(&all.home, &server, &back).expect(0).json();
    assert_eq!(done["source_closed"], true);
    assert!(done["next"].to_string().contains("back.db"), "{done}");
    // The database is still there to be looked at, and nobody runs on it or gives it anything to send.
    all.on_the_server();
    all.says_the_same();
    for verb in [&["run", "--json"][..], &["send", "--json", "--room", "1", "lost"]] {
        let refused = all.home.imbabot(verb).expect(74).error();
        assert_eq!(refused["code"], "IMB-S-RESTORED", "{refused}");
        assert!(refused["hint"].as_str().unwrap().contains("moved into"), "{refused}");
    }
    let told = all.home.imbabot(&["status"]).expect(69).stdout;
    assert!(told.contains("was moved into a file at"), "{told}");
    let looked = all.home.imbabot(&["doctor"]).expect(74).stdout;
    assert!(looked.contains("was moved into a file at"), "{looked}");
    all.stored_at("path = \"back.db\"");
    all.says_the_same();
    all.goes_on();
}

#[test]
fn a_database_that_was_restored_goes_over_a_file_to_be_taken_into_use() {
    let Some(all) = LivedIn::new() else { return };
    let Some(empty) = Database::new() else { return };
    let server = address("postgres", &all.home, "database_url");
    migrate(&all.home, &address("sqlite", &all.home, "imbabot.db"), &server).expect(0);
    let between = address("sqlite", &all.home, "between.db");
    migrate(&all.home, &server, &between).expect(0);
    all.stored_at("path = \"between.db\"");
    // What ticked during the pause waits too.
    let queued = all.home.json(&["deliveries", "--state", "queued"]).as_array().unwrap().len();
    assert!(queued > 1);
    assert_eq!(all.home.json(&["store", "reanchor"])["cancelled"], queued);
    all.home.write("database_url", with_password(&empty.url), 0o600);
    migrate(&all.home, &between, &server).expect(0);
    all.on_the_server();
    all.home.imbabot(&["resume"]).expect(0);
    let daemon = all.home.ready();
    let ticked = all.chat.texts(all.ticks).len();
    wait_until("the schedule goes on", || all.chat.texts(all.ticks).len() > ticked + 1);
    daemon.stop();
    assert_eq!(all.chat.texts(all.room), ["sent", "unknown"], "what was queued is not sent");
    all.home.imbabot(&["ledger", "verify"]).expect(0);
}

#[test]
fn nothing_is_moved_where_something_is_or_from_where_somebody_runs() {
    let Some(database) = Database::new() else { return };
    let chat = Chat::open();
    let home = Home::at(&chat, "");
    home.write("database_url", with_password(&database.url), 0o600);
    let server = address("postgres", &home, "database_url");
    let file = address("sqlite", &home, "imbabot.db");
    let none = migrate(&home, &server, &file).expect(74).error();
    assert_eq!(none["code"], "IMB-S-UNUSABLE", "a database without a store: {none}");
    let daemon = home.ready();
    assert_eq!(migrate(&home, &file, &server).expect(75).error()["code"], "IMB-S-HELD");
    daemon.stop();
    home.configure(
        chat.url(),
        "[store]\nkind = \"postgres\"\nurl_file = \"database_url\"\ninstance = \"blue\"\n",
    );
    let daemon = home.ready();
    let occupied = migrate(&home, &file, &server).expect(65).error();
    assert_eq!(occupied["code"], "IMB-S-OCCUPIED", "{occupied}");
    let other = address("sqlite", &home, "other.db");
    let held = migrate(&home, &server, &other).expect(75).error();
    assert_eq!(held["code"], "IMB-S-HELD");
    assert!(held["message"].as_str().unwrap().contains("\"blue\" runs on the store"), "{held}");
    daemon.stop();
    let occupied = migrate(&home, &server, &file).expect(65).error();
    assert_eq!(occupied["code"], "IMB-S-OCCUPIED", "{occupied}");
    assert!(!home.path("other.db").exists());
    // The file is still the store that it was.
    home.configure(chat.url(), "");
    home.ready().stop();
}

#[test]
fn a_source_that_is_missing_and_a_server_that_does_not_answer_are_told_apart() {
    let chat = Chat::open();
    let home = Home::at(&chat, "");
    let url = format!("postgres://imbabot:{PASSWORD}@127.0.0.1:{}/imbabot", free_port());
    home.write("database_url", &url, 0o600);
    let server = address("postgres", &home, "database_url");
    let file = address("sqlite", &home, "imbabot.db");
    let missing = migrate(&home, &file, &server).expect(74).error();
    assert_eq!(missing["code"], "IMB-S-UNUSABLE");
    assert!(missing["message"].as_str().unwrap().contains("there is no store at"), "{missing}");
    assert!(!home.path("imbabot.db").exists(), "none is made");
    home.ready().stop();
    for (from, to) in [(&file, &server), (&server, &address("sqlite", &home, "new.db"))] {
        let error = migrate(&home, from, to).expect(69).error();
        assert_eq!(error["code"], "IMB-S-UNREACHED");
    }
    assert!(!home.path("new.db").exists());
    home.ready().stop();
}

#[test]
fn no_address_has_a_secret_in_it_and_its_file_is_nobody_elses_to_read() {
    let chat = Chat::open();
    let home = Home::at(&chat, "");
    let url = format!("postgres://imbabot:{PASSWORD}@127.0.0.1:1/imbabot");
    for (from, to) in [
        ("sqlite:a.db", &*url),
        (&*url, "sqlite:a.db"),
        ("sqlite:a.db", "sqlite:b.db"),
        ("postgres:", "postgres:file"),
        ("a.db", "postgres:"),
    ] {
        let error = migrate(&home, from, to).expect(2).error();
        assert_eq!(error["code"], "IMB-V-ADDRESS", "{from} {to}");
        assert!(error["hint"].is_string());
    }
    home.ready().stop();
    let file = address("sqlite", &home, "imbabot.db");
    let server = address("postgres", &home, "database_url");
    let absent = migrate(&home, &file, &server).expect(78).error();
    assert_eq!(absent["code"], "IMB-C-041", "{absent}");
    home.write("database_url", &url, 0o644);
    let exposed = migrate(&home, &file, &server).expect(78).error();
    assert_eq!(exposed["code"], "IMB-C-043");
    assert!(exposed["hint"].as_str().unwrap().contains("chmod 600"), "{exposed}");
    assert_eq!(migrate(&home, &file, "postgres:").expect(78).error()["code"], "IMB-C-041");
    home.ready().stop();
}
