//! What the tests of this crate share: a server whose clock stands still, requests as curl sends
//! them, and answers taken apart.

use base64::Engine;
use bytes::Bytes;
use serde_json::Value;

use crate::{Answer, Clock, End, ManualClock, Options, RawOutcome, RawRequest, Simulator};

/// The second of the vendor's sample message.
pub(crate) const START: i64 = 1_608_275_827;

pub(crate) fn simulator() -> Simulator {
    simulator_and_clock().0
}

pub(crate) fn simulator_and_clock() -> (Simulator, ManualClock) {
    let clock = ManualClock::at(START * 1_000_000);
    let shown: Clock = clock.clock();
    (Simulator::new(Options::default(), shown), clock)
}

pub(crate) fn basic(login: &str, password: &str) -> (String, String) {
    let credentials =
        base64::engine::general_purpose::STANDARD.encode(format!("{login}:{password}"));
    ("authorization".to_owned(), format!("Basic {credentials}"))
}

/// A request with the right credentials and a form as urlencoded fields.
pub(crate) fn request(endpoint: &str, fields: &[(&str, &str)]) -> RawRequest {
    let encoded: Vec<String> =
        fields.iter().map(|(name, value)| format!("{name}={}", percent(value))).collect();
    RawRequest {
        method: "POST".to_owned(),
        path: format!("/imbachat/v2/627/{endpoint}"),
        headers: vec![
            basic("627", "simulator-secret"),
            ("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned()),
        ],
        body: Bytes::from(encoded.join("&")),
    }
}

/// A message of site user 1.
pub(crate) fn send(room: i64, text: &str) -> RawRequest {
    request("send_msg", &[("user_id", "1"), ("room_id", &room.to_string()), ("message", text)])
}

pub(crate) fn percent(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

pub(crate) fn answer(outcome: RawOutcome) -> Answer {
    match outcome {
        RawOutcome::Answer(answer) => answer,
        other => panic!("no answer but {other:?}"),
    }
}

pub(crate) fn body(answer: &Answer) -> String {
    String::from_utf8(answer.body_chunks.concat()).expect("the body is text")
}

/// Status and JSON of a complete answer.
pub(crate) fn ask(simulator: &Simulator, request: &RawRequest) -> (u16, Value) {
    let answer = answer(simulator.handle(request));
    assert_eq!(answer.then, End::Complete);
    (answer.status, serde_json::from_str(&body(&answer)).expect("the body is JSON"))
}
