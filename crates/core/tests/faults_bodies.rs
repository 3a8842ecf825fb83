//! Bodies as PHP writes them, and as nobody should: each is a list or a typed error, each answer to a
//! message has its class, none panics, none takes a second, and none takes memory for what is not kept.
//!
//! Time is what the thread itself worked, and memory what it had allocated at a time: neither depends on
//! what else runs beside it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on stops")]
#![allow(clippy::print_stdout, reason = "an answer that is not stood is printed")]

#[path = "../../testing/src/random.rs"]
mod random;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use imbabot_core::{
    Api, ApiOptions, BodyStream, Class, Credentials, Error, ErrorKind, GetRooms, GetUsers, List,
    OutcomeCode, Request, Response, Room, SecretKey, SendMsg, SendOutcome, TextError, TextWarning,
    Transport, TransportError, User, validate_text,
};
use random::Random;

const ROOMS: &str = include_str!("fixtures/get_rooms.response.json");
const USERS: &str = include_str!("fixtures/get_users.response.json");
const SENT: &str = include_str!("fixtures/send_msg.response.json");
/// For one body at one endpoint, of the processor, without optimisation too.
const LIMIT: Duration = Duration::from_secs(1);
/// What is held at most, however long a body is: an element or an answer may have 1 MiB, a buffer that
/// grows is there twice for a moment, and of ten thousand rows that cannot be read there are reasons.
const HELD: u64 = 4 * 1024 * 1024;

/// A body of any length that takes no memory itself.
#[derive(Clone)]
struct Long {
    head: Vec<u8>,
    filling: Bytes,
    times: usize,
    tail: Vec<u8>,
}

impl Long {
    fn short(body: &[u8]) -> Self {
        Self { head: body.to_vec(), filling: Bytes::new(), times: 0, tail: Vec::new() }
    }

    /// `head`, then `filling` for so many bytes, then `tail`.
    fn of(head: &str, filling: &str, bytes: usize, tail: &str) -> Self {
        let filling = filling.repeat(64 * 1024 / filling.len());
        let times = bytes.div_ceil(filling.len());
        Self { head: head.into(), filling: filling.into(), times, tail: tail.into() }
    }
}

#[async_trait]
impl BodyStream for Long {
    async fn chunk(&mut self) -> Result<Option<Bytes>, TransportError> {
        if !self.head.is_empty() {
            return Ok(Some(std::mem::take(&mut self.head).into()));
        }
        if self.times > 0 {
            self.times -= 1;
            return Ok(Some(self.filling.clone()));
        }
        Ok((!self.tail.is_empty()).then(|| std::mem::take(&mut self.tail).into()))
    }
}

/// Answers everything with one body.
struct Says(Mutex<(u16, Long)>);

#[async_trait]
impl Transport for Says {
    async fn send(&self, _: Request) -> Result<Response, TransportError> {
        let (status, body) = self.0.lock().unwrap().clone();
        Ok(Response::new(status, Vec::new(), Box::new(body)))
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn api(status: u16, body: Long) -> Api {
    let secret = SecretKey::parse("k3y-of-the-w1dget").unwrap();
    let credentials = Credentials::new(627.into(), secret);
    Api::new(Arc::new(Says(Mutex::new((status, body)))), credentials)
}

fn rooms(body: &str) -> Result<List<Room>, Error> {
    run(api(200, Long::short(body.as_bytes())).rooms(&GetRooms::new()))
}

fn users(body: &str) -> Result<List<User>, Error> {
    run(api(200, Long::short(body.as_bytes())).users(&GetUsers::new()))
}

fn message() -> SendMsg {
    SendMsg::new(1.into(), 1536.into(), "api message")
}

fn sent(body: &str) -> SendOutcome {
    run(api(200, Long::short(body.as_bytes())).send_msg(&message()))
}

/// How long this thread has worked.
fn worked() -> Duration {
    rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime).try_into().unwrap()
}

/// What something costs: how long this thread worked on it, and how much it held at a time.
fn cost<T>(work: impl FnOnce() -> T) -> (T, Duration, u64) {
    let begun = worked();
    let mut value = None;
    let memory = allocation_counter::measure(|| value = Some(work()));
    (value.unwrap(), worked() - begun, memory.bytes_max)
}

/// What became of one body.
struct Stood {
    rooms: Result<List<Room>, Error>,
    sent: SendOutcome,
    /// The most that one endpoint took.
    slowest: Duration,
    held: u64,
    /// Bytes that this test held itself.
    whole: u64,
}

/// All three endpoints answer this: each in time, in little memory, none with a panic.
fn stands(status: u16, body: &Long) -> Stood {
    let api = api(status, body.clone());
    let (rooms, took_rooms, held_rooms) = cost(|| run(api.rooms(&GetRooms::new())));
    let (users, took_users, held_users) = cost(|| run(api.users(&GetUsers::new())));
    let (sent, took_sent, held_sent) = cost(|| run(api.send_msg(&message())));
    let slowest = took_rooms.max(took_users).max(took_sent);
    assert!(slowest < LIMIT, "{took_rooms:?}, {took_users:?}, {took_sent:?}");
    let whole = (body.head.len() + body.tail.len()) as u64;
    let held = held_rooms.max(held_users).max(held_sent);
    assert!(held < HELD + whole, "{held_rooms}, {held_users}, {held_sent} bytes of {whole}");
    for error in [rooms.as_ref().err(), users.as_ref().err()].into_iter().flatten() {
        assert!(error.code().starts_with("IMB-"), "{error:?}");
        assert!(error.to_string().chars().count() <= 400, "{error}");
    }
    assert!(!sent.code.as_str().is_empty() && sent.detail.chars().count() <= 200, "{sent:?}");
    assert_eq!(sent.class == Class::Delivered, sent.receipt.is_some());
    Stood { rooms, sent, slowest, held, whole }
}

#[test]
fn b1_yes_and_no_are_read_in_every_spelling() {
    let confirmation =
        |success: &str| SENT.replacen("\"success\": true", &format!("\"success\": {success}"), 1);
    assert_ne!(confirmation("0"), SENT, "the sample says success as expected");
    for yes in ["true", "\"true\"", "1", "\"1\""] {
        assert_eq!(sent(&confirmation(yes)).class, Class::Delivered, "{yes}");
        assert!(rooms(&format!("{{\"success\":{yes},\"data\":[]}}")).is_ok(), "{yes}");
    }
    for no in ["false", "\"false\"", "0", "\"0\"", "\"\""] {
        let body = format!("{{\"success\":{no},\"message\":\"no\"}}");
        assert_eq!(sent(&body).class, Class::Rejected, "{no}");
        assert!(rooms(&format!("{{\"success\":{no},\"data\":[]}}")).is_err(), "{no}");
    }
    // Neither yes nor no.
    for odd in ["null", "2", "[]", "{}", "\"yes\""] {
        assert_eq!(sent(&confirmation(odd)).class, Class::Ambiguous, "{odd}");
        assert!(rooms(&format!("{{\"success\":{odd},\"data\":[]}}")).is_err(), "{odd}");
    }
}

#[test]
fn b3_a_list_comes_in_several_shapes_and_nothing_is_not_one_of_them() {
    let of = |data: &str| rooms(&format!("{{\"success\":true,\"code\":200,\"data\":{data}}}"));
    for (data, count) in [
        ("[]", 0),
        ("{}", 0),
        ("[{\"id\":1},{\"id\":2}]", 2),
        ("{\"0\":{\"id\":1},\"2\":{\"id\":2}}", 2),
        ("{\"data\":[{\"id\":1}],\"current_page\":1,\"last_page\":1}", 1),
    ] {
        assert_eq!(of(data).unwrap().items.len(), count, "{data}");
    }
    for data in ["null", "false", "true", "\"\"", "0", "{\"x\":{\"id\":1}}"] {
        assert_eq!(*of(data).unwrap_err().kind(), ErrorKind::NotAList, "{data}");
    }
}

#[test]
fn b4_what_stands_around_the_json_is_left_out_and_flagged() {
    let warning = "<br />\n<b>Warning</b>:  Undefined {closure} in x.php on line 3<br />\n";
    for (before, after) in
        [(warning, ""), ("", warning), ("\u{feff}", ""), (")]}'\n", ""), (warning, warning)]
    {
        let list = rooms(&format!("{before}{ROOMS}{after}")).unwrap();
        assert_eq!((list.items.len(), list.summary.salvaged), (2, true), "{before}");
        let outcome = sent(&format!("{before}{SENT}{after}"));
        assert_eq!((outcome.class, outcome.code), (Class::Delivered, OutcomeCode::Salvaged));
    }
}

#[test]
fn b5_text_html_or_nothing_is_no_list_and_no_confirmation() {
    for body in ["", " \n", "die", "<!DOCTYPE html><h1>Whoops</h1>", "null", "[]", "\0"] {
        assert_eq!(*rooms(body).unwrap_err().kind(), ErrorKind::Undecodable, "{body:?}");
        assert_eq!(sent(body).class, Class::Ambiguous, "{body:?}");
    }
}

#[test]
fn b6_a_code_in_the_body_of_a_200_counts_as_a_status() {
    for (code, class) in [
        (401, Class::Rejected),
        (403, Class::Rejected),
        (404, Class::Rejected),
        (422, Class::Rejected),
        (429, Class::Rejected),
        (408, Class::Ambiguous),
        (500, Class::Ambiguous),
        (503, Class::Ambiguous),
    ] {
        let body = format!("{{\"code\":{code},\"version\":1.0,\"error\":\"no\"}}");
        assert_eq!(sent(&body).class, class, "{code}");
        let error = rooms(&body).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Refused { code: Some(code) });
        assert_eq!(error.is_credentials(), code == 401 || code == 403);
    }
}

#[test]
fn b7_a_list_that_is_cut_anywhere_is_no_list() {
    for (whole, end) in [(ROOMS, ROOMS.trim_end().len()), (USERS, USERS.trim_end().len())] {
        for at in 0..end {
            assert!(rooms(&whole[..at]).is_err(), "cut after {at} bytes");
            assert!(users(&whole[..at]).is_err(), "cut after {at} bytes");
        }
    }
}

#[test]
fn b9_what_is_deep_wide_or_long_beyond_reason_takes_neither_time_nor_memory() {
    const HUGE: usize = 100 * 1024 * 1024;
    let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
    let list = |row: &str| format!("{{\"success\":true,\"data\":[{row},{{\"id\":2}}]}}");
    for row in [
        format!("{{\"id\":1,\"x\":{}}}", deep(65)),
        format!("{{\"id\":1,\"x\":{}}}", deep(100_000)),
        format!("{{\"id\":1,\"x\":{}}}", "[".repeat(1_000)) + &"]".repeat(0),
        "{\"id\":1,\"type\":NaN}".into(),
        "{\"id\":1,\"type\":1e99999}".into(),
        "{\"id\":1,\"type\":-Infinity}".into(),
    ] {
        let Stood { rooms, sent, .. } = stands(200, &Long::short(list(&row).as_bytes()));
        assert_eq!(sent.class, Class::Ambiguous);
        // Its row is set aside, or the whole is none; it is never read.
        if let Ok(list) = rooms {
            assert_eq!((list.items.len(), list.quarantined.len()), (1, 1), "{row:.40}");
        }
    }
    // The last of a key counts, on every level.
    let twice =
        "{\"success\":false,\"success\":true,\"data\":[{\"id\":1,\"name\":\"a\",\"name\":\"b\"}]}";
    assert_eq!(stands(200, &Long::short(twice.as_bytes())).rooms.unwrap().items[0].name, "b");
    // A million keys: in a row, beside the list, and in the list that is a map.
    let keys = |n: usize| (0..n).map(|n| format!("\"k{n}\":0,")).collect::<String>();
    let row = list(&format!("{{{}\"id\":1}}", keys(1_000_000)));
    assert_eq!(
        *stands(200, &Long::short(row.as_bytes())).rooms.unwrap_err().kind(),
        ErrorKind::ElementTooLarge
    );
    let beside = format!("{{{}\"success\":true,\"data\":[]}}", keys(1_000_000));
    let _ = stands(200, &Long::short(beside.as_bytes()));
    drop((row, beside));
    // A hundred MiB of one string, wherever one can stand.
    for (head, tail) in [
        ("{\"success\":true,\"data\":[{\"id\":1,\"name\":\"", "\"}]}"),
        ("{\"success\":true,\"error\":\"", "\",\"data\":[]}"),
        ("{\"success\":true,\"x\":\"", "\",\"data\":[]}"),
        ("{\"success\":true,\"", "\":1,\"data\":[]}"),
        ("{\"success\":true,\"message\":{\"id\":1,\"room_id\":1536,\"message\":\"", "\"}}"),
        ("", SENT),
    ] {
        let Stood { rooms, sent, .. } = stands(200, &Long::of(head, "x", HUGE, tail));
        assert!(rooms.is_err(), "{head}");
        assert_eq!(
            (sent.class, sent.code),
            (Class::Ambiguous, OutcomeCode::ReplyTooLarge),
            "{head}"
        );
    }
    for (head, filling) in [("{\"success\":true,\"data\":[", " "), ("", "{")] {
        assert!(stands(200, &Long::of(head, filling, HUGE, "")).rooms.is_err(), "{head}{filling}");
    }
}

#[test]
fn b9_a_list_that_says_the_same_without_end_is_none() {
    const HUGE: usize = 100 * 1024 * 1024;
    let head = "{\"success\":true,\"data\":[{\"id\":1}";
    for rows in [",{\"id\":1}", ",{\"id\":1},{\"id\":2}", ",{}", ",7", ",{\"id\":1},7"] {
        let Stood { rooms, .. } = stands(200, &Long::of(head, rows, HUGE, "]}"));
        assert_eq!(*rooms.unwrap_err().kind(), ErrorKind::Senseless, "{rows}");
    }
    // Some rows twice are a mistake of the server's, of which the last counts.
    let Stood { rooms, .. } =
        stands(200, &Long::of(head, ",{\"id\":1,\"name\":\"b\"}", 500_000, "]}"));
    let rooms = rooms.unwrap();
    assert_eq!((rooms.items.len(), rooms.items[0].name.as_str()), (1, "b"));
    assert_eq!(rooms.duplicates, rooms.summary.elements - 1);
}

#[test]
fn b9_a_list_in_memory_takes_no_more_than_twice_what_a_list_may_have() {
    let of = |rows: u64, row: &dyn Fn(u64) -> String| {
        let rows: Vec<String> = (1..=rows).map(row).collect();
        let body = format!("{{\"success\":true,\"data\":[{}]}}", rows.join(","));
        let mut options = ApiOptions::default();
        options.max_list = body.len() as u64;
        let api = api(200, Long::short(body.as_bytes())).with_options(options);
        let (rooms, _, held) = cost(|| run(api.rooms(&GetRooms::new())));
        (rooms, held, body.len() as u64)
    };
    // Real rows are as long as what is made of them.
    let (rooms, _, _) =
        of(2_000, &|id| format!("{{\"id\":{id},\"name\":\"{}\",\"type\":1}}", "x".repeat(240)));
    assert_eq!(rooms.unwrap().items.len(), 2_000);
    let (rooms, held, bytes) = of(100_000, &|id| format!("{{\"id\":{id}}}"));
    assert_eq!(*rooms.unwrap_err().kind(), ErrorKind::TooLarge);
    assert!(held < 6 * bytes, "{held} of {bytes}");
    // What cannot be read is remembered with a reason, which weighs too.
    let (rooms, held, bytes) =
        of(100_000, &|id| if id % 2 == 0 { "7".into() } else { format!("{{\"id\":{id}}}") });
    assert_eq!(*rooms.unwrap_err().kind(), ErrorKind::TooLarge);
    assert!(held < 6 * bytes, "{held} of {bytes}");
}

#[test]
fn b14_a_success_without_a_message_of_ours_is_in_doubt() {
    for body in [
        "{\"success\":true}",
        "{\"success\":true,\"message\":null}",
        "{\"success\":true,\"message\":\"ok\"}",
        "{\"success\":true,\"message\":{\"room_id\":1536,\"message\":\"api message\"}}",
        "{\"success\":true,\"message\":{\"id\":0,\"room_id\":1536}}",
        "{\"success\":true,\"message\":{\"id\":\"x\",\"room_id\":1536}}",
        "{\"success\":true,\"message\":{\"id\":7}}",
        "{\"success\":true,\"message\":{\"id\":7,\"room_id\":1537}}",
    ] {
        let outcome = sent(body);
        assert_eq!(outcome.class, Class::Ambiguous, "{body}");
        assert!(outcome.drop_connection, "{body}");
    }
}

#[test]
fn b16_texts_that_a_server_would_lose_are_refused_before_they_leave() {
    let check = |text: &str| validate_text(text, 64 * 1024);
    assert_eq!(check(""), Err(TextError::Empty));
    assert_eq!(check(" \n\u{a0}"), Err(TextError::Blank));
    assert_eq!(check("a\0b"), Err(TextError::Nul { at: 1 }));
    assert_eq!(
        check(&"x".repeat(64 * 1024 + 1)),
        Err(TextError::TooLong { bytes: 65_537, max: 65_536 })
    );
    assert_eq!(check("0"), Ok(Some(TextWarning::PhpEmpty)));
    assert_eq!(check("\u{1f600}"), Ok(None));
    // A server that cannot store four bytes says so by its echo.
    let emoji = SendMsg::new(1.into(), 1536.into(), "hi \u{1f600}");
    for (echo, code) in
        [("hi \u{1f600}", OutcomeCode::Accepted), ("hi ?", OutcomeCode::EchoDiffers)]
    {
        let body = SENT.replacen("api message", echo, 1);
        assert_ne!(body, SENT);
        let outcome = run(api(200, Long::short(body.as_bytes())).send_msg(&emoji));
        assert_eq!((outcome.class, outcome.code), (Class::Delivered, code), "{echo}");
    }
}

/// Values that stand where another was.
const VALUES: [&str; 22] = [
    "null",
    "true",
    "false",
    "0",
    "-1",
    "1e999",
    "NaN",
    "18446744073709551616",
    "0.1",
    "\"\"",
    "\"NULL\"",
    "\"0\"",
    "[]",
    "{}",
    "[[]]",
    "{\"id\":1}",
    "\"\\ud800\"",
    "\"\u{1}\"",
    "\"\u{202e}x\"",
    "\"</script>\"",
    "[",
    "\"",
];

/// One mistake of the grammar of mistakes.
fn mistake(body: &mut Vec<u8>, random: &mut Random) {
    let text = String::from_utf8_lossy(body).into_owned();
    let at = random.place(body.len() + 1);
    let values: Vec<usize> = text.match_indices(':').map(|(at, _)| at + 1).collect();
    match random.place(12) {
        0 => body.truncate(at),
        1 => body.insert(at, random.place(256).to_le_bytes()[0]),
        2 if at < body.len() => body[at] = random.place(256).to_le_bytes()[0],
        3 if at < body.len() => drop(body.remove(at)),
        // A value of another kind.
        4..=6 if !values.is_empty() => {
            let from = values[random.place(values.len())];
            let rest = &text[from..];
            let to = from + rest.find([',', '}', '\n']).unwrap_or(rest.len());
            let value = VALUES[random.place(VALUES.len())];
            *body = [&text[..from], value, &text[to..]].concat().into_bytes();
        }
        // A piece twice, or nothing from there on: keys that come twice, rows, brackets.
        7 | 8 if !text.is_empty() => {
            let mut lines: Vec<&str> = text.split_inclusive([',', '{']).collect();
            let n = random.place(lines.len());
            if random.place(2) == 0 {
                lines.truncate(n);
            } else {
                lines.insert(n, lines[n]);
            }
            *body = lines.concat().into_bytes();
        }
        9 => {
            let around = ["<b>Warning</b> {x}\n", "\u{feff}", ")]}'", "{}", "\0\0", "{\"a\":"];
            let around = around[random.place(around.len())].as_bytes();
            let at = if random.place(2) == 0 { 0 } else { body.len() };
            body.splice(at..at, around.iter().copied());
        }
        10 => body.extend_from_slice(&body.clone()),
        _ => {
            let many = VALUES[random.place(VALUES.len())].repeat(1 + random.place(2_000));
            body.splice(at..at, many.into_bytes());
        }
    }
}

#[test]
fn b18_thousands_of_malformed_answers_are_each_a_typed_outcome() {
    let corpus = [
        ROOMS,
        USERS,
        SENT,
        "{\"code\":401,\"version\":1.0,\"error\":\"Authenticate required!\"}",
        "{\"success\":false,\"errorMsg\":{\"room_id\":[\"wrong\"]}}",
        "{\"success\":true,\"data\":{\"current_page\":1,\"data\":[{\"id\":1}],\"last_page\":1}}",
        "{\"success\":1,\"data\":{\"0\":{\"id\":1},\"2\":{\"id\":\"2\"}},\"code\":\"200\"}",
        "<br />\n<b>Fatal error</b>:  Uncaught Error in x.php:3\nStack trace:\n#0 {main}",
        "<!DOCTYPE html><html><body><h1>502 Bad Gateway</h1></body></html>",
    ];
    let mut random = Random(18);
    let (mut slowest, mut held) = (Duration::ZERO, 0);
    for run in 0..5_400 {
        let mut body = corpus[run % corpus.len()].as_bytes().to_vec();
        for _ in 0..=random.place(4) {
            mistake(&mut body, &mut random);
        }
        body.truncate(256 * 1024);
        let status = [200, 200, 200, 200, 201, 400, 422, 500][random.place(8)];
        let body = Long::short(&body);
        let stood = catch_unwind(AssertUnwindSafe(|| {
            let stood = stands(status, &body);
            let (held, whole) = (stood.held, stood.whole);
            assert!(held < 32 * 1024 + 8 * whole, "{held} bytes of {whole}");
            stood
        }));
        match stood {
            Ok(stood) => {
                slowest = slowest.max(stood.slowest);
                held = held.max(stood.held);
            }
            Err(panic) => {
                println!("run {run}, status {status}: {:?}", String::from_utf8_lossy(&body.head));
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!("the slowest took {slowest:?}, the largest {held} bytes");
}
