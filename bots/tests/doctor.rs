//! `doctor` as a person and a script see it: every failure in words, with what to do about it and the
//! exit code; and that nothing is ever posted.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod support;
#[path = "../../crates/core/tests/tls/mod.rs"]
mod tls;

use std::net::SocketAddr;

use imbabot_simulator::{Options, RoomSeed};
use serde_json::Value;
use support::{Chat, Ended, Home, SECRET, wait_until};

/// The findings of a check, as level and text.
fn findings<'a>(told: &'a Value, check: &str) -> Vec<(&'a str, &'a str)> {
    let all = told["findings"].as_array().unwrap().iter();
    all.filter(|finding| finding["check"] == check)
        .map(|finding| (finding["level"].as_str().unwrap(), finding["text"].as_str().unwrap()))
        .collect()
}

/// What is wrong: check, level, code.
fn wrong(told: &Value) -> Vec<(&str, &str, &str)> {
    let all = told["findings"].as_array().unwrap().iter();
    all.filter(|finding| finding["level"] == "warning" || finding["level"] == "error")
        .map(|finding| {
            assert!(finding["hint"].is_string(), "nobody says what to do: {finding}");
            let word = |name: &str| finding[name].as_str().unwrap_or_default();
            (word("check"), word("level"), word("code"))
        })
        .collect()
}

fn doctor(home: &Home, exit: i32) -> Value {
    home.imbabot(&["doctor", "--json"]).expect(exit).json()
}

fn words(home: &Home, exit: i32) -> Ended {
    home.imbabot(&["doctor"]).expect(exit)
}

fn assert_nothing_was_posted(chat: &Chat) {
    assert!(chat.asked("send_msg").is_empty(), "doctor posted something");
}

/// The words with what differs from run to run left out.
fn steady(text: &str, home: &Home) -> String {
    let mut out = String::new();
    let text = text.replace(&home.folder().display().to_string(), "FOLDER");
    for line in text.lines() {
        let skip = ["ok      version", "ok      zones", "ok      clock ", "ok      disk"];
        if skip.iter().any(|begin| line.starts_with(begin)) {
            continue;
        }
        let word = |word: &str| {
            if word.starts_with("http://127.0.0.1:") { "URL ".into() } else { word.to_owned() }
        };
        let line: String = line.split_inclusive(' ').map(word).collect();
        // How long a list took.
        let line = match line.rfind(" in ") {
            Some(at) if line.ends_with(" ms") => format!("{} in N ms", &line[..at]),
            _ => line,
        };
        let line = match line.rfind(", ") {
            Some(at) if line.ends_with(" s old") => format!("{}, N s old", &line[..at]),
            _ => line,
        };
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

fn site() -> Chat {
    let chat = Chat::open();
    for kind in [0, 0, 1, 3] {
        chat.open_room_with(RoomSeed { kind, ..RoomSeed::default() });
    }
    chat.join("Anna", 1);
    chat.join("Ben", 2);
    chat.set_user_status(1, "admin");
    chat
}

#[test]
fn all_is_well_and_nothing_is_posted() {
    let chat = site();
    let home = Home::at(&chat, "");
    let told = doctor(&home, 0);
    assert_eq!(told["ok"], true);
    assert_eq!(wrong(&told), []);
    assert_eq!(findings(&told, "key").len(), 2);
    assert!(findings(&told, "rooms")[0].1.starts_with("4 rooms, "), "{told}");
    assert!(findings(&told, "users")[0].1.starts_with("2 users, "), "{told}");
    assert_eq!(findings(&told, "clocks"), [("ok", "the server's clock and ours agree")]);
    // As sloppy as the vendor's samples.
    let filters = &told["capabilities"]["main"]["filters"];
    assert_eq!(filters["get_rooms.room_type=0"], "no");
    assert_eq!(filters["get_rooms.room_type=1"], "yes");
    assert_eq!(filters["get_rooms.room_type=3"], "yes");
    assert_eq!(filters["get_rooms.last_message_date"], "no");
    assert_eq!(filters["get_users.id"], "yes");
    assert_eq!(filters["get_users.status"], "no");
    assert!(!home.path("imbabot.db").exists(), "looking makes no store");
    assert_nothing_was_posted(&chat);

    let expected = "\
ok      config       FOLDER/imbabot.toml is fine
note    store        FOLDER/imbabot.db is not there yet
                     -> `imbabot run` makes it

widget main
ok      reached      URL answers, on this machine
ok      key          get_rooms is answered with the secret key
ok      key          get_users is answered with the secret key
ok      clocks       the server's clock and ours agree
ok      rooms        4 rooms, 934 bytes in N ms
note    rooms        quirks, which do no harm: `success` is a word
ok      filters      get_rooms honoured: room_type=1, room_type=3; ignored: room_type=0, status, count_users, last_message_date, banned
ok      users        2 users, 479 bytes in N ms
note    users        quirks, which do no harm: `success` is a word
ok      filters      get_users honoured: id; ignored: status, last_message_date, banned

all is well
";
    assert_eq!(steady(&words(&home, 0).stdout, &home), expected);
}

#[test]
fn a_server_that_honours_every_filter_is_known_for_it_by_the_store_and_the_status() {
    let chat = site();
    chat.configure(|options| options.honour_filters = true);
    let home = Home::at(&chat, "");
    let daemon = home.ready();
    wait_until("a list is remembered", || {
        findings(&home.json(&["doctor"]), "snapshot").iter().any(|(level, _)| *level == "ok")
    });
    let told = doctor(&home, 0);
    let filters = told["capabilities"]["main"]["filters"].as_object().unwrap();
    assert!(filters.values().all(|honoured| honoured == "yes"), "{filters:?}");
    wait_until("the daemon shows it", || {
        let status = daemon.http().get("/api/status").unwrap().json();
        let known = &status["widgets"]["main"]["capabilities"];
        known["doctor"]["filters"] == told["capabilities"]["main"]["filters"]
            && known["polls"]["rooms"]["rows"] == 4
    });
    daemon.stop();
    // A room that came while no daemon ran.
    chat.open_room("New");
    let told = doctor(&home, 0);
    let (level, text) = findings(&told, "snapshot")[0];
    assert!(level == "note" && text.ends_with("since then 1 rooms came and 0 went"), "{text}");
    assert_nothing_was_posted(&chat);
}

#[test]
fn h4_a_refused_key_ends_doctor_with_77_and_says_where_to_look() {
    let chat = site();
    let home = Home::at(&chat, "");
    home.secret("another-secret");
    let told = doctor(&home, 77);
    let refused = ("key", "error", "IMB-API-CREDENTIALS");
    assert_eq!(wrong(&told), [refused, refused]);
    assert!(words(&home, 77).stdout.contains("compare `id`"));
    for spec in ["get_rooms:code=401:always", "get_users:status=403:always"] {
        home.secret(SECRET);
        chat.faults().clear();
        chat.fault(spec);
        assert_eq!(wrong(&doctor(&home, 77)), [refused], "{spec}");
    }
    assert_nothing_was_posted(&chat);
}

#[test]
fn a_token_of_the_sender_is_tried_where_it_is_configured() {
    let chat = site();
    let home = Home::at(&chat, "");
    let file = std::fs::read_to_string(home.path("imbabot.toml")).unwrap();
    let file = file.replacen("sender = 1", "sender = 1\nrooms_auth = \"jwt\"", 1);
    home.write("imbabot.toml", file, 0o600);
    let told = doctor(&home, 0);
    assert_eq!(
        findings(&told, "key")[0],
        ("ok", "get_rooms is answered with a token of the sender")
    );
    chat.fault("get_rooms:code=401:always");
    let told = doctor(&home, 77);
    let (_, text) = findings(&told, "key")[0];
    assert!(text.contains("refuses the token that is made with the secret key"), "{text}");
}

#[test]
fn a_server_that_is_not_there_ends_with_69_and_its_step() {
    for (url, check, code) in [
        ("http://127.0.0.1:9", "connect", "IMB-NET-REFUSED"),
        ("https://nobody.invalid", "name", "IMB-NET-DNS"),
    ] {
        let home = Home::new(url, "");
        let told = doctor(&home, 69);
        assert_eq!(wrong(&told), [(check, "error", code)], "{url}");
    }
    let chat = site();
    let home = Home::at(&chat, "[poll]\ntimeout = \"1s\"\n");
    for (spec, check, code) in [
        ("any:silent:always", "connect", "IMB-NET-TIMEOUT"),
        ("any:close=rst:always", "connect", "IMB-NET-INTERRUPTED"),
    ] {
        chat.faults().clear();
        chat.fault(spec);
        assert_eq!(wrong(&doctor(&home, 69)), [(check, "error", code)], "{spec}");
    }
}

#[test]
fn h9_a_certificate_that_is_not_to_be_trusted_is_told_by_doctor_in_words() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let chat = site();
    let behind: SocketAddr = chat.url().strip_prefix("http://").unwrap().parse().unwrap();
    for (certificate, words_of_it) in [
        (tls::EXPIRED, "the certificate has expired"),
        (tls::NOT_YET_VALID, "is the clock right?"),
        (tls::WRONG_NAME, "the certificate is for another name"),
        (tls::UNKNOWN_CA, "knows who signed the certificate"),
    ] {
        let front = runtime.block_on(tls::front(certificate, behind));
        let home = Home::new(&format!("https://localhost:{}", front.port()), "");
        home.write("ca.pem", tls::CA, 0o644);
        let file = std::fs::read_to_string(home.path("imbabot.toml")).unwrap();
        let file = file.replacen("sender = 1", "sender = 1\nca_file = \"ca.pem\"", 1);
        home.write("imbabot.toml", file, 0o600);
        let told = words(&home, 69).stdout;
        assert!(told.contains("error   tls") && told.contains("IMB-NET-TLS"), "{told}");
        assert!(told.contains(words_of_it), "{words_of_it}:\n{told}");
        for bytes in front.heard() {
            tls::assert_nothing_told(&bytes);
        }
    }
    // A port that speaks plain http.
    let home = Home::new(&chat.url().replacen("http://127.0.0.1", "https://localhost", 1), "");
    assert!(words(&home, 69).stdout.contains("does this port speak https"));
}

#[test]
fn lists_that_are_none_are_told_with_their_code_and_what_to_do() {
    for (spec, exit, code) in [
        ("get_rooms:status=500:always", 69, "IMB-API-STATUS"),
        ("get_rooms:status=404:always", 69, "IMB-API-STATUS"),
        ("get_rooms:body=@html:always", 69, "IMB-LIST-UNDECODABLE"),
        ("get_rooms:list=null:always", 69, "IMB-LIST-NOT-A-LIST"),
        ("get_rooms:code=500:always", 69, "IMB-API-REFUSED"),
        ("get_rooms:truncate=200:always", 69, "IMB-NET-BODY-CUT"),
        (
            "get_rooms:status=301:location=https\\://elsewhere.example/x:always",
            69,
            "IMB-API-REDIRECT",
        ),
        (
            "get_rooms:pages=2:next-page=https\\://elsewhere.example/:always",
            69,
            "IMB-LIST-PAGES-ELSEWHERE",
        ),
        ("get_rooms:other-widget=1:always", 78, "IMB-P-FOREIGN"),
    ] {
        let chat = site();
        chat.fault(spec);
        let home = Home::at(&chat, "");
        let told = doctor(&home, exit);
        let codes: Vec<&str> = wrong(&told).iter().map(|(_, _, code)| *code).collect();
        assert_eq!(codes, [code], "{spec}");
        // The other list is looked at all the same.
        assert!(findings(&told, "users")[0].1.starts_with("2 users"), "{spec}");
        assert_nothing_was_posted(&chat);
    }
}

#[test]
fn quirks_do_no_harm_and_are_named() {
    let chat = site();
    chat.fault("get_rooms:before=@warning:list=map:always");
    chat.fault("get_users:list=doubled:always");
    let home = Home::at(&chat, "");
    let told = doctor(&home, 0);
    let quirks = |list: &str| told["capabilities"]["main"][list]["quirks"].clone();
    assert_eq!(quirks("rooms"), serde_json::json!(["text_around", "success_as_word", "map"]));
    assert_eq!(quirks("users"), serde_json::json!(["success_as_word", "duplicates"]));
    assert!(findings(&told, "rooms")[1].1.contains("a warning of PHP"), "{told}");
}

#[test]
fn rows_that_cannot_be_read_cut_lists_and_clocks_apart_are_warnings() {
    let chat = site();
    let home = Home::at(&chat, "");
    chat.fault("get_rooms:list=bad-row:always");
    let told = doctor(&home, 1);
    assert_eq!(told["ok"], false);
    assert_eq!(wrong(&told), [("rooms", "warning", "")]);
    assert!(findings(&told, "rooms")[1].1.starts_with("1 rows cannot be read"), "{told}");

    chat.faults().clear();
    chat.populate(130);
    chat.fault("get_rooms:limit=100:always");
    assert_eq!(wrong(&doctor(&home, 1)), [("rooms", "warning", "IMB-P-LIMIT")]);
    chat.faults().clear();
    assert_eq!(wrong(&doctor(&home, 0)), []);

    let late = Chat::with(Options { clock_offset_micros: -3_600_000_000, ..Options::default() });
    let home = Home::at(&late, "");
    let told = doctor(&home, 1);
    assert_eq!(wrong(&told), [("clocks", "warning", "")]);
    let (_, text) = findings(&told, "clocks")[0];
    assert!(text.starts_with("the server's clock is 3") && text.ends_with("behind ours"), "{text}");
}

#[test]
fn a_list_that_grew_to_a_round_number_before_the_daemons_eyes_is_not_doubted() {
    let chat = Chat::open();
    chat.populate(99);
    let home = Home::at(&chat, "");
    let daemon = home.ready();
    chat.open_room("The hundredth");
    wait_until("it is listed", || {
        findings(&home.json(&["doctor"]), "snapshot").iter().any(|(level, _)| *level == "ok")
    });
    let told = doctor(&home, 0);
    assert!(findings(&told, "rooms")[0].1.starts_with("100 rooms"), "{told}");
    assert_eq!(told["capabilities"]["main"]["rooms"]["suspected_limit"], Value::Null);
    daemon.stop();
}

#[test]
fn a_store_that_cannot_be_used_ends_with_74_and_the_server_is_looked_at_all_the_same() {
    let chat = site();
    let home = Home::at(&chat, "");
    home.write("imbabot.db", "no database", 0o600);
    let told = doctor(&home, 74);
    assert_eq!(wrong(&told).len(), 1);
    assert_eq!(findings(&told, "store")[0].0, "error");
    assert_eq!(findings(&told, "key").len(), 2);
    // A server that is away is graver.
    chat.down(true);
    doctor(&home, 69);

    let nowhere = Home::new(chat.url(), "[store]\npath = \"missing/imbabot.db\"\n");
    let told = doctor(&nowhere, 69);
    assert_eq!(findings(&told, "disk")[0].0, "error");
}

#[test]
fn others_that_can_read_the_store_are_told_of_with_the_command_that_ends_it() {
    use std::os::unix::fs::PermissionsExt;
    let chat = site();
    let home = Home::at(&chat, "");
    home.ready().stop();
    let path = home.path("imbabot.db");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let told = doctor(&home, 1);
    assert_eq!(wrong(&told), [("store", "warning", "")]);
    assert!(words(&home, 1).stdout.contains(&format!("chmod 600 {}", path.display())));
}

#[test]
fn the_configuration_comes_first_and_a_widget_can_be_chosen() {
    let chat = site();
    let home = Home::at(&chat, "");
    home.imbabot(&["doctor", "--widget", "other"]).expect(65);
    home.imbabot(&["doctor", "--widget", "main"]).expect(0);
    home.write("imbabot.toml", "[poll]\nrooms = 5\n", 0o600);
    home.imbabot(&["doctor"]).expect(78);
}

#[test]
fn what_it_says_holds_no_secret_also_where_the_server_repeats_it() {
    let chat = site();
    chat.fault(&format!("get_rooms:status=500:body={{\"error\"\\:\"{SECRET}\"}}:always"));
    let home = Home::at(&chat, "");
    for arguments in [&["doctor"][..], &["doctor", "--json"]] {
        let told = home.imbabot(arguments).expect(69);
        assert!(!told.stdout.contains(SECRET) && !told.stderr.contains(SECRET), "{told:?}");
    }
}
