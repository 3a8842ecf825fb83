//! Rows in which the server had the whole request and the answer does not come, or not whole.

use std::time::Duration;

use imbabot_core::Class::{Ambiguous, Delivered, Rejected};
use imbabot_core::{ClassifyRules, OutcomeCode as Code};

use crate::rows::Next::Dropped;
use crate::rows::Wrong::Fault as F;
use crate::rows::{Row, Stage, check, check_with, send};
use crate::sockets::{Answer, Close, Server, Then, api, confirmation, http, settings};

#[rustfmt::skip]
#[tokio::test]
async fn an_end_before_the_answer_is_ambiguous() {
    check(&[
        Row("FIN after reading", F("send_msg:close"), Ambiguous, Code::ConnectionLost, Dropped),
        Row("RST after reading", F("send_msg:close=rst"), Ambiguous, Code::ConnectionLost, Dropped),
        Row("FIN after the deed", F("send_msg:apply-then-close"), Ambiguous, Code::ConnectionLost, Dropped),
        Row("RST after the deed", F("send_msg:apply-then-close=rst"), Ambiguous, Code::ConnectionLost, Dropped),
        Row("FIN unread, although it was written", F("send_msg:close-unread"), Ambiguous, Code::ConnectionLost, Dropped),
        Row("RST unread, although it was written", F("send_msg:close-unread=rst"), Ambiguous, Code::ConnectionLost, Dropped),
        Row("RST unread after accepting", F("send_msg:refuse"), Ambiguous, Code::ConnectionLost, Dropped),
        Row("garbage", F("send_msg:not-http=SSH-2.0-OpenSSH_9.7\r\n"), Ambiguous, Code::ConnectionLost, Dropped),
        Row("half a status line", F("send_msg:cut=11"), Ambiguous, Code::ConnectionLost, Dropped),
        Row("half a status line, RST", F("send_msg:cut=11:close=rst"), Ambiguous, Code::ConnectionLost, Dropped),
        Row("half a header", F("send_msg:cut=40"), Ambiguous, Code::ConnectionLost, Dropped),
        Row("half a header, RST", F("send_msg:cut=40:close=rst"), Ambiguous, Code::ConnectionLost, Dropped),
        Row("half a 422", F("send_msg:status=422:cut=12"), Ambiguous, Code::ConnectionLost, Dropped),
        Row("only 100", F("send_msg:interim=100:close"), Ambiguous, Code::ConnectionLost, Dropped),
        Row("only 102", F("send_msg:interim=102:close"), Ambiguous, Code::ConnectionLost, Dropped),
        Row("only 103, RST", F("send_msg:interim=103:close=rst"), Ambiguous, Code::ConnectionLost, Dropped),
        Row("only 103 after the deed", F("send_msg:interim=103:close:applied"), Ambiguous, Code::ConnectionLost, Dropped),
    ])
    .await;
}

#[rustfmt::skip]
#[tokio::test]
async fn an_end_within_the_body_is_ambiguous_unless_the_status_refused() {
    check(&[
        Row("nothing of the body", F("send_msg:truncate=0"), Ambiguous, Code::ReplyCut, Dropped),
        Row("half the body", F("send_msg:truncate=120"), Ambiguous, Code::ReplyCut, Dropped),
        Row("half the body, RST", F("send_msg:truncate=120:close=rst"), Ambiguous, Code::ReplyCut, Dropped),
        Row("half the chunks", F("send_msg:truncate-chunked=120"), Ambiguous, Code::ReplyCut, Dropped),
        Row("half the chunks, RST", F("send_msg:truncate-chunked=120:close=rst"), Ambiguous, Code::ReplyCut, Dropped),
        Row("all but the last chunk", F("send_msg:truncate-chunked=100000"), Ambiguous, Code::ReplyCut, Dropped),
        Row("half of a 500", F("send_msg:status=500:truncate=20"), Ambiguous, Code::Http5xx, Dropped),
        Row("half of a 422", F("send_msg:status=422:truncate=20"), Rejected, Code::Http4xx, Dropped),
    ])
    .await;
}

#[rustfmt::skip]
#[tokio::test]
async fn silence_is_ambiguous_when_the_time_is_over() {
    check_with(&[
        Row("silence", F("send_msg:silent"), Ambiguous, Code::NoAnswer, Dropped),
        Row("silence after the deed", F("send_msg:apply-then-silent"), Ambiguous, Code::NoAnswer, Dropped),
        Row("silence, unread", F("send_msg:blackhole"), Ambiguous, Code::NoAnswer, Dropped),
        Row("an answer that comes too late", F("send_msg:late=3s"), Ambiguous, Code::NoAnswer, Dropped),
        Row("only 102, then silence", F("send_msg:interim=102"), Ambiguous, Code::NoAnswer, Dropped),
        Row("half a body, then silence", F("send_msg:stall=120"), Ambiguous, Code::NoAnswer, Dropped),
        Row("a byte per second", F("send_msg:slow=1B/s"), Ambiguous, Code::NoAnswer, Dropped),
    ], &ClassifyRules::default(), Duration::from_millis(400))
    .await;
}

/// What the simulator's HTTP library would not say.
#[tokio::test]
async fn answers_that_no_server_should_give_are_ambiguous() {
    let whole = |status: &str, headers: &str| -> Vec<u8> {
        let body = r#"{"success":true,"message":{"id":7,"room_id":1536,"message":"m"}}"#;
        http(status, headers, body.as_bytes())
    };
    let bad_chunk = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n";
    for (name, bytes, code) in [
        ("a status beyond all", whole("600 Beyond", ""), Code::HttpOdd),
        ("status 999", whole("999 No", ""), Code::HttpOdd),
        ("status 99", whole("99 No", ""), Code::ConnectionLost),
        ("101", b"HTTP/1.1 101 Switching Protocols\r\n\r\n".to_vec(), Code::HttpOdd),
        ("another protocol", b"HTTP/2.0 200 OK\r\n\r\n".to_vec(), Code::ConnectionLost),
        (
            "the preface of HTTP/2",
            b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0d".to_vec(),
            Code::ConnectionLost,
        ),
        ("a header without a name", whole("200 OK", ": x\r\n"), Code::ConnectionLost),
        ("a NUL in a header", whole("200 OK", "X: \0\r\n"), Code::ConnectionLost),
        ("two lengths", whole("200 OK", "Content-Length: 3\r\n"), Code::ConnectionLost),
        (
            "a length that is none",
            b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n".to_vec(),
            Code::ConnectionLost,
        ),
        ("a chunk without a size", bad_chunk.into(), Code::ReplyCut),
        (
            "endless interim answers",
            b"HTTP/1.1 102 Processing\r\n\r\n".repeat(50),
            Code::ConnectionLost,
        ),
    ] {
        let server = Server::start(move |request| {
            let first = request.header("x-imbabot-delivery") == Some("first");
            let good = http("200 OK", "", confirmation(request).as_bytes());
            let then = if first { Then::Close(Close::Fin) } else { Then::Stay };
            Answer { bytes: if first { bytes.clone() } else { good }, then }
        })
        .await;
        let api = api(settings(server.address));
        let outcome = send(&api, 1536, "first", 1).await;
        assert_eq!((outcome.class, outcome.code), (Ambiguous, code), "{name}: {outcome:?}");
        assert_eq!(send(&api, 1536, "second", 1).await.class, Delivered, "{name}");
        let heard = server.heard();
        let connections: Vec<_> = heard.requests.iter().map(|r| r.connection).collect();
        assert_eq!(connections, [0, 1], "{name}");
    }
}

#[tokio::test]
async fn an_interim_status_before_the_answer_is_no_answer_and_no_harm() {
    let server = Server::start(|request| {
        let mut bytes = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".to_vec();
        bytes.extend(http("200 OK", "", confirmation(request).as_bytes()));
        Answer { bytes, then: Then::Stay }
    })
    .await;
    let api = api(settings(server.address));
    for _ in 0..2 {
        let outcome = send(&api, 1536, "d", 1).await;
        assert_eq!((outcome.class, outcome.code), (Delivered, Code::Accepted), "{outcome:?}");
    }
    assert_eq!(server.heard().bytes.len(), 1);
}

#[tokio::test]
async fn our_own_task_aborted_leaves_a_request_that_was_whole_and_is_not_repeated() {
    let stage = Stage::set().await;
    stage.simulator.faults().push_spec("send_msg:apply-then-silent").unwrap();
    let (api, room) = (stage.api.clone(), stage.room);
    #[expect(clippy::disallowed_methods, reason = "to be aborted")]
    let task = tokio::spawn(async move { send(&api, room, "first", 1).await });
    while stage.server.heard().requests.is_empty() {
        tokio::task::yield_now().await;
    }
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert_eq!(stage.send("second", 1).await.class, Delivered);
    let heard = stage.server.heard();
    let seen: Vec<_> = heard
        .requests
        .iter()
        .map(|r| (r.header("x-imbabot-delivery").unwrap(), r.connection))
        .collect();
    // What became of the first is nobody's to say: the ledger calls it unknown.
    assert_eq!(seen, [("first", 0), ("second", 1)]);
}
