//! The targets of `fuzz/targets.rs`, over a corpus and seeded mutations of it: some seconds' worth in every
//! run of the tests, and as many as one wants on demand:
//!
//! `IMBABOT_FUZZ_TARGET=splitter IMBABOT_FUZZ_RUNS=50000000 cargo test --release -p imbabot-bot --test fuzz \
//!  -- --ignored --nocapture`

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]
#![allow(clippy::print_stdout, reason = "how many were run is what one wants to know")]

#[path = "../../testing/src/random.rs"]
mod random;
#[path = "../../../fuzz/targets.rs"]
#[allow(unreachable_pub, reason = "shared with cargo-fuzz, where it is a library's")]
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use random::Random;
use targets::TARGETS;

const LISTS: [&str; 14] = [
    r#"{"success":"true","data":[{"id":1,"name":"a"},{"id":2,"name":"}]\""}],"code":200}"#,
    r#"{"data":[{"a":{"b":[1,"x"]}},7,null,true,-1.5e3,"]"],"success":true}"#,
    r#"{"success":1,"data":{"0":{"id":1},"2":{"id":3}},"code":"200"}"#,
    r#"{"success":true,"data":{"current_page":1,"data":[{"id":1}],"last_page":2,"next_page_url":"http://x/y?page=2"}}"#,
    r#"{"success":true,"data":{"data":{"5":[]},"total":1},"links":{"next":null},"meta":{"last_page":1}}"#,
    r#"{"success":"1","data":[],"code":null}"#,
    r#"{"code":401,"version":1.0,"error":"Authenticate required!"}"#,
    r#"{"success":true,"data":null}"#,
    r#"{"success":false,"data":[],"errorMsg":"no","code":200}"#,
    "<br />\n<b>Warning</b>: {closure} on line 3<br />\n{\"success\":true,\"data\":[{\"id\":1}]}",
    "\u{feff}{\"success\":true,\"data\":[ {\"id\":1} ,\n{\"id\":2} ]} {x}",
    r#"{"succ\u0065ss":true,"d\u0061ta":[{"\"":"\\"},"\u00e9"]}"#,
    r#"{"x":{"data":[1],"success":false},"success":true,"data":[[[]],[{}]],"y":"\\\""}"#,
    r#"{"success":true,"data":[{"id":1,"name":"\\"},{"id":2,"t":"\"{"},{}]}"#,
];

const ROWS: [&str; 9] = [
    r#"{"id":1853,"pipe":"5fde_16","name":"Technical support","admin_id":2157,"type":3,"tab":0,"is_public":0,"status":0,"imba_id":627,"created_at":"2020-12-19 20:42:07","updated_at":"2020-12-19 20:42:07","deleted_at":null}"#,
    r#"{"id":2046,"login":"NULL","password":"NULL","remote_user_id":"1","status":"admin","avatar_url":"https://x/y?s=48","user_data":null,"imba_id":627,"updated_at":1608275827}"#,
    r#"{"id":"7","name":12345678901234567890123,"type":"1","is_public":"true","meta":[],"x":{"a":[1.50,1e999,{}]}}"#,
    r#"{"id":7,"id":"8","name":"\ud83d\ude00","status":false,"admin_id":-1,"deleted_at":"0000-00-00 00:00:00"}"#,
    r#"{"id":18446744073709551615,"name":null,"status":-9223372036854775808,"deleted_at":[1]}"#,
    r#"{"name":"\",\"id\":9","id" : 10 ,"remote_user_id":"P11-A","type":null}"#,
    r#"{"id":7,"name":NaN}"#,
    r#"{"id":7,"id":" 98","name":"x"}"#,
    "null",
];

const CONFIRMATIONS: [&str; 6] = [
    r#"{"success":true,"message":{"id":4543,"uuid":"1536-1608275827-aB3","message":"hi","time":"1608275827","room_id":"1536","user_id":2046,"meta":[]},"user":{"id":1}}"#,
    r#"{"success":"true","message":{"id":"4543","message":"hi","room_id":1536}}"#,
    r#"{"success":false,"message":"No such room"}"#,
    r#"{"code":422,"error":{"room_id":["wrong"]},"success":true,"message":{"id":1,"room_id":1536}}"#,
    "<b>Notice</b>: x\n{\"success\":1,\"message\":{\"id\":1,\"room_id\":1536}}",
    r#"{"success":true,"message":{"id":1,"room_id":9},"code":200}"#,
];

const CRONS: [&str; 8] = [
    "*/5 * * * *",
    "0 0 30 2 *",
    "0 9-17/2 * jan-mar,DEC mon-fri",
    "30 5 8 1,15 * 5L",
    "0 12 LW * *",
    "0 0 * * 7#5",
    "59 59 23 31 12 *",
    "@daily",
];

fn corpus(target: &str) -> &'static [&'static str] {
    match target {
        "splitter" => &LISTS,
        "rows" => &ROWS,
        "confirmation" => &CONFIRMATIONS,
        _ => &CRONS,
    }
}

/// What breaks JSON, and what breaks those who read it.
const BITS: [&[u8]; 36] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"\\",
    b",",
    b":",
    b" ",
    b"\n",
    b"0",
    b"1",
    b"-1",
    b"200",
    b"true",
    b"false",
    b"null",
    b"NaN",
    b"\\\"",
    b"\\\\",
    b"\\u0000",
    b"\\ud800",
    b"\xff",
    b"\x00",
    b"\"data\":",
    b"\"id\":",
    b"\"success\":true,",
    b"\"code\":200,",
    b"{}",
    b"[]",
    b"1e999",
    b"\xef\xbb\xbf",
    b"*",
    b"/",
    b"L",
    b"#",
];

fn mutate(body: &mut Vec<u8>, corpus: &[&str], random: &mut Random) {
    // Some seeds as they are, most with few changes: what is wholly broken is refused at its first byte.
    for _ in 0..random.place(5) {
        let at = random.place(body.len() + 1);
        let end = (at + 1 + random.place(12)).min(body.len());
        match random.place(8) {
            0 => body.truncate(at),
            1 => drop(body.drain(at..end)),
            2 => {
                let again = body[at..end].to_vec();
                body.splice(at..at, again);
            }
            3 | 4 => drop(body.splice(at..at, BITS[random.place(BITS.len())].iter().copied())),
            5 => drop(body.splice(at..end, BITS[random.place(BITS.len())].iter().copied())),
            6 => {
                let other = corpus[random.place(corpus.len())].as_bytes();
                let from = random.place(other.len());
                let to = (from + 1 + random.place(30)).min(other.len());
                body.splice(at..at, other[from..to].iter().copied());
            }
            _ => {
                if let Some(byte) = body.get_mut(at) {
                    *byte ^= 1 << random.place(8);
                }
            }
        }
        body.truncate(1_000);
    }
}

fn fuzz(name: &str, target: fn(&[u8]), seed: u64, runs: u64) {
    let corpus = corpus(name);
    corpus.iter().for_each(|seed| target(seed.as_bytes()));
    let mut random = Random(seed);
    let mut body = Vec::new();
    for run in 0..runs {
        body.clear();
        body.extend_from_slice(corpus[random.place(corpus.len())].as_bytes());
        mutate(&mut body, corpus, &mut random);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(&body))) {
            println!("{name}, run {run}: {:?}", String::from_utf8_lossy(&body));
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn every_target_holds_over_its_corpus_and_thousands_of_mutations() {
    for (name, target) in TARGETS {
        fuzz(name, target, 1, if name == "cron" { 1_000 } else { 20_000 });
    }
}

#[test]
#[ignore = "as long as one likes; see the top of the file"]
#[expect(clippy::disallowed_methods, reason = "how long it took is printed")]
fn every_target_holds_for_as_long_as_one_likes() {
    let runs: u64 =
        std::env::var("IMBABOT_FUZZ_RUNS").map_or(1_000_000, |runs| runs.parse().unwrap());
    let only = std::env::var("IMBABOT_FUZZ_TARGET").unwrap_or_default();
    for (name, target) in TARGETS.iter().filter(|(name, _)| name.contains(&only)) {
        let start = Instant::now();
        // In parts, so that one sees that it goes on.
        let part = runs.div_ceil(10);
        for n in 0..10 {
            fuzz(name, *target, 1_000 + n, part);
            println!("{name}: {} runs in {:?}", (n + 1) * part, start.elapsed());
        }
    }
}
