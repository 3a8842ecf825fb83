//! Every fault through both doors: the loopback door shows a raw TCP client what the in-process
//! door says, and both write the same log.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod common;

use common::{Client, Seen, request, seen_in_process, send, wire_bytes};
use imbabot_simulator::{Answer, Close, End, Framing, LogEntry, RawOutcome, RawRequest};

/// What came of one request under a fault.
struct Outcome {
    seen: Seen,
    log: Vec<LogEntry>,
    messages: usize,
}

/// Asks through both doors, checks that they agree, and hands over what they agree on.
async fn under(spec: &str, request: &RawRequest) -> Outcome {
    let simulator = common::sample();
    simulator.post(1536, 2, "a message before").unwrap();
    simulator.faults().push_spec(spec).unwrap();
    let in_process = Outcome {
        seen: seen_in_process(simulator.handle(request)),
        log: simulator.log(),
        messages: simulator.messages(1536).len() - 1,
    };

    let simulator = common::sample();
    simulator.post(1536, 2, "a message before").unwrap();
    simulator.faults().push_spec(spec).unwrap();
    let door = common::open(&simulator).await;
    let mut client = Client::connect(&door).await;
    let seen = match in_process.seen.end() {
        End::NeverEnds => client.ask_silence(&wire_bytes(request)).await,
        End::Complete | End::Cut(_) => client.ask(&wire_bytes(request)).await,
    };
    assert_eq!(seen, in_process.seen, "{spec}");
    assert_eq!(simulator.log(), in_process.log, "{spec}");
    assert_eq!(simulator.messages(1536).len() - 1, in_process.messages, "{spec}");
    in_process
}

fn cut(close: Close) -> Seen {
    Seen::Bytes(String::new(), End::Cut(close))
}

fn status(seen: &Seen) -> u16 {
    match seen {
        Seen::Answer { status, .. } => *status,
        Seen::Bytes(bytes, end) => panic!("no answer but {bytes:?} and {end:?}"),
    }
}

fn entry(outcome: &Outcome) -> &LogEntry {
    assert_eq!(outcome.log.len(), 1);
    &outcome.log[0]
}

#[tokio::test]
async fn a_refused_request_leaves_no_trace() {
    for spec in ["any:refuse", "any:room=1536:refuse", "any:blackhole"] {
        let outcome = under(spec, &send()).await;
        assert!(outcome.log.is_empty());
        assert_eq!(outcome.messages, 0);
    }
}

#[tokio::test]
async fn a_connection_closed_unread_is_logged_as_incomplete() {
    for (spec, close) in
        [("any:close-unread", Close::Fin), ("send_msg:close-unread=rst", Close::Rst)]
    {
        let outcome = under(spec, &send()).await;
        assert_eq!(outcome.seen, cut(close));
        let entry = entry(&outcome);
        assert_eq!((entry.complete, entry.applied, entry.status), (false, false, None));
        assert_eq!(entry.delivery.as_deref(), Some("d1"));
    }
}

#[tokio::test]
async fn a_connection_closed_unanswered_may_have_applied_the_request() {
    for (spec, close, applied) in [
        ("send_msg:close", Close::Fin, false),
        ("send_msg:close=rst", Close::Rst, false),
        ("send_msg:apply-then-close", Close::Fin, true),
        ("send_msg:apply-then-close=rst", Close::Rst, true),
    ] {
        let outcome = under(spec, &send()).await;
        assert_eq!(outcome.seen, cut(close));
        assert_eq!(outcome.messages, usize::from(applied));
        let entry = entry(&outcome);
        assert_eq!((entry.complete, entry.applied), (true, applied));
        assert_eq!(entry.message_id.is_some(), applied);
        assert_eq!(entry.outcome, "closed unanswered");
    }
}

#[tokio::test]
async fn a_silent_server_may_have_applied_the_request() {
    for (spec, applied) in [("send_msg:silent", false), ("send_msg:apply-then-silent", true)] {
        let outcome = under(spec, &send()).await;
        assert_eq!(outcome.seen, Seen::Bytes(String::new(), End::NeverEnds));
        assert_eq!(outcome.messages, usize::from(applied));
        assert_eq!(entry(&outcome).outcome, "never answered");
    }
}

#[tokio::test]
async fn a_late_answer_is_applied_on_arrival() {
    let outcome = under("send_msg:late=20ms", &send()).await;
    assert_eq!((status(&outcome.seen), outcome.messages), (200, 1));
    let simulator = common::sample();
    simulator.faults().push_spec("send_msg:late=30s").unwrap();
    let RawOutcome::Answer(Answer { delay_micros, .. }) = simulator.handle(&send()) else {
        panic!("no answer");
    };
    assert_eq!(delay_micros, 30_000_000);
}

#[tokio::test]
async fn a_status_replaces_the_reply_and_may_follow_the_application() {
    for (spec, expected, applied) in [
        ("send_msg:status=502", 502, false),
        ("send_msg:status=502:applied", 502, true),
        ("send_msg:status=429:retry-after=7", 429, false),
        ("send_msg:status=302:location=http://127.0.0.1/:applied", 302, true),
        ("send_msg:status=401", 401, false),
        ("send_msg:status=503:body=@empty", 503, false),
    ] {
        let outcome = under(spec, &send()).await;
        assert_eq!(status(&outcome.seen), expected);
        assert_eq!(outcome.messages, usize::from(applied), "{spec}");
        assert_eq!((entry(&outcome).status, entry(&outcome).applied), (Some(expected), applied));
    }
}

#[tokio::test]
async fn a_fault_brings_its_headers() {
    let simulator = common::sample();
    simulator.faults().push_spec("any:status=301:location=https://example.com/x").unwrap();
    let RawOutcome::Answer(answer) = simulator.handle(&send()) else { panic!("no answer") };
    assert!(answer.headers.contains(&("Location".to_owned(), "https://example.com/x".to_owned())));

    simulator.faults().push_spec("any:status=429:retry-after=7").unwrap();
    let door = common::open(&simulator).await;
    let mut client = Client::connect(&door).await;
    client.write(&wire_bytes(&send())).await;
    let answer = client.read_until("Too many").await.to_ascii_lowercase();
    assert!(answer.contains("\r\nretry-after: 7\r\n"), "{answer}");
}

#[tokio::test]
async fn a_body_can_be_anything() {
    for (spec, expected) in [
        ("send_msg:body=@empty", ""),
        ("send_msg:body=@die", "Could not connect to the database"),
        ("send_msg:body=[1]", "[1]"),
    ] {
        let outcome = under(spec, &send()).await;
        assert_eq!((outcome.seen.body(), outcome.messages), (expected, 0));
    }
    let outcome = under("send_msg:body=@html:applied", &send()).await;
    assert!(outcome.seen.body().starts_with("<!DOCTYPE html>"));
    assert_eq!(outcome.messages, 1);
    let outcome = under("send_msg:code=403", &send()).await;
    assert_eq!((status(&outcome.seen), &outcome.seen.json()["code"]), (200, &403.into()));
}

#[tokio::test]
async fn noise_around_a_reply_leaves_it_genuine() {
    for (spec, start, end) in [
        ("send_msg:before=@warning", "<br />\n<b>Warning</b>", "\"relation\":0}"),
        ("send_msg:after=@warning", "{\"success\":true", "<br />\n"),
        ("send_msg:before=@bom", "\u{feff}{", "}"),
        ("send_msg:before=@guard", ")]}'\n{", "}"),
    ] {
        let outcome = under(spec, &send()).await;
        let body = outcome.seen.body();
        assert!(body.starts_with(start) && body.ends_with(end), "{body}");
        assert_eq!(outcome.messages, 1);
    }
    let outcome = under("send_msg:type=text/html", &send()).await;
    let Seen::Answer { content_type, .. } = &outcome.seen else { panic!("no answer") };
    assert_eq!(content_type, "text/html");
}

#[tokio::test]
async fn a_body_can_end_at_every_offset() {
    let whole = under("send_msg:late=0s", &send()).await;
    let whole = whole.seen.body();
    for offset in (0..whole.len()).step_by(97) {
        for (spec, close) in [
            (format!("send_msg:truncate={offset}"), Close::Fin),
            (format!("send_msg:truncate={offset}:close=rst"), Close::Rst),
        ] {
            let outcome = under(&spec, &send()).await;
            let Seen::Answer { framing, body, then, .. } = &outcome.seen else { panic!("{spec}") };
            assert_eq!(body, &whole[..offset]);
            assert_eq!(*framing, Framing::Length(whole.len() as u64));
            assert_eq!((*then, outcome.messages), (End::Cut(close), 1));
        }
    }
    let outcome = under(&format!("send_msg:truncate={}", whole.len()), &send()).await;
    assert!(matches!(outcome.seen, Seen::Answer { then: End::Complete, .. }));
}

#[tokio::test]
async fn a_whole_answer_can_end_at_every_offset() {
    for (word, framing) in [("cut", "Content-Length: "), ("cut-chunked", "Transfer-Encoding: ")] {
        let whole = |at| async move { under(&format!("send_msg:{word}={at}"), &send()).await };
        let last = whole(1_000_000).await;
        assert!(matches!(last.seen, Seen::Answer { then: End::Complete, .. }));
        assert_eq!(entry(&last).outcome, "answered");
        let outcome = whole(17).await;
        assert_eq!(outcome.seen, Seen::Bytes("HTTP/1.1 200 OK\r\n".into(), End::Cut(Close::Fin)));
        assert_eq!((entry(&outcome).status, outcome.messages), (None, 1));
        let words = entry(&outcome).outcome.clone();
        let total = words.strip_prefix("cut after 17 of ").unwrap().strip_suffix(" bytes").unwrap();
        let total: usize = total.parse().unwrap();
        for offset in (0..total).step_by(29).chain([total - 1]) {
            let reset = format!("send_msg:{word}={offset}:close=rst");
            for outcome in [whole(offset).await, under(&reset, &send()).await] {
                assert_eq!(outcome.messages, 1, "{word}={offset}");
                assert!(matches!(outcome.seen.end(), End::Cut(_)), "{word}={offset}");
            }
            if let Seen::Bytes(head, _) = whole(offset).await.seen {
                assert_eq!(head.len(), offset);
                let cut_within = head.contains(framing) || offset < 200;
                assert!(cut_within, "{head}");
            }
        }
        let RawOutcome::Answer(answer) = common::sample().handle(&send()) else { panic!() };
        let body: usize = answer.body_chunks.iter().map(bytes::Bytes::len).sum();
        let almost = whole(total - 1).await;
        let missing = if word == "cut" { 1 } else { 0 };
        assert_eq!(almost.seen.body().len(), body - missing);
    }
}

#[tokio::test]
async fn a_chunked_body_can_lack_its_end_and_any_body_can_stall() {
    let outcome = under("get_rooms:truncate-chunked=120", &request("get_rooms", "")).await;
    let Seen::Answer { framing, body, then, .. } = outcome.seen else { panic!("no answer") };
    assert_eq!((framing, body.len(), then), (Framing::Chunked, 120, End::Cut(Close::Fin)));

    let outcome = under("get_rooms:stall=120", &request("get_rooms", "")).await;
    assert_eq!(entry(&outcome).outcome, "stalled after 120 bytes");
    let Seen::Answer { body, then, .. } = outcome.seen else { panic!("no answer") };
    assert_eq!((body.len(), then), (120, End::NeverEnds));
}

#[tokio::test]
async fn a_body_can_be_gzip_or_a_gzip_bomb() {
    let outcome = under("get_rooms:gzip", &request("get_rooms", "")).await;
    assert!(outcome.seen.body().contains("\"code\":200}"), "stored blocks show what is in them");
    let outcome = under("send_msg:gzip-bomb=1MiB", &send()).await;
    let Seen::Answer { framing: Framing::Length(length), .. } = outcome.seen else {
        panic!("no answer");
    };
    assert!(length < 10_000);
    assert_eq!(outcome.messages, 0);

    let simulator = common::sample();
    simulator.faults().push_spec("any:gzip:gzip").unwrap();
    let RawOutcome::Answer(answer) = simulator.handle(&send()) else { panic!("no answer") };
    assert!(answer.headers.contains(&("Content-Encoding".to_owned(), "gzip, gzip".to_owned())));
}

#[tokio::test]
async fn a_slow_body_comes_in_portions() {
    let outcome = under("send_msg:slow=100000B/s", &send()).await;
    assert_eq!((status(&outcome.seen), outcome.messages), (200, 1));
}

#[tokio::test]
async fn an_interim_status_or_garbage_may_be_all() {
    let outcome = under("send_msg:interim=102", &send()).await;
    let interim = "HTTP/1.1 102 Processing\r\n\r\n";
    assert_eq!(outcome.seen, Seen::Bytes(interim.to_owned(), End::NeverEnds));
    let outcome = under("send_msg:interim=102:close:applied", &send()).await;
    assert_eq!(outcome.seen, Seen::Bytes(interim.to_owned(), End::Cut(Close::Fin)));
    assert_eq!(outcome.messages, 1);
    let outcome = under("send_msg:not-http=HTTP/1.1 20", &send()).await;
    assert_eq!(outcome.seen, Seen::Bytes("HTTP/1.1 20".to_owned(), End::Cut(Close::Fin)));
}

#[tokio::test]
async fn a_reply_can_tell_half_the_truth() {
    let message = async |spec: &str| {
        let outcome = under(spec, &send()).await;
        assert_eq!(outcome.messages, 1, "{spec}");
        assert_eq!(entry(&outcome).message_id, Some(4544));
        (outcome.seen.json()["message"].clone(), entry(&outcome).uuid.clone())
    };
    let (no_id, _) = message("send_msg:no-id").await;
    assert!(no_id.get("id").is_none() && no_id.get("uuid").is_some());
    assert_eq!(message("send_msg:wrong-room=7").await.0["room_id"], "7");
    assert_eq!(message("send_msg:repeat-id").await.0["id"], 4543);
    let (repeated, stored) = message("send_msg:repeat-uuid").await;
    assert_ne!(repeated["uuid"].as_str(), stored.as_deref());
    let escaped = message("send_msg:echo=escaped").await.0;
    assert_eq!(escaped["message"], "api &lt;message&gt; ");
    assert_eq!(message("send_msg:echo=trimmed").await.0["message"], "api <message>");
    assert_eq!(message("send_msg:echo=other").await.0["message"], "other");
    let outcome = under("send_msg:success=\"1\"", &send()).await;
    assert_eq!(outcome.seen.json()["success"], "1");
}

#[tokio::test]
async fn a_reply_can_be_a_lie() {
    let outcome = under("send_msg:unapplied", &send()).await;
    assert_eq!((status(&outcome.seen), outcome.messages), (200, 0));
    assert_eq!((entry(&outcome).applied, entry(&outcome).message_id), (false, None));
}

#[tokio::test]
async fn a_list_can_have_odd_shapes() {
    let data = async |shape: &str| {
        let outcome = under(&format!("get_rooms:list={shape}"), &request("get_rooms", "")).await;
        outcome.seen.json()["data"].clone()
    };
    assert_eq!(data("empty").await, serde_json::json!([]));
    assert_eq!(data("null").await, serde_json::Value::Null);
    assert_eq!(data("false").await, false);
    assert_eq!(data("object").await, serde_json::json!({}));
    assert_eq!(data("map").await.as_object().unwrap().keys().collect::<Vec<_>>(), ["0", "2", "4"]);
    assert_eq!(data("paged").await["data"][0]["id"], 1314);
    assert_eq!(data("reversed").await[0]["id"], 1853);
    assert_eq!(data("doubled").await.as_array().unwrap().len(), 6);
    assert_eq!(data("half").await.as_array().unwrap().len(), 1);
    assert_eq!(data("bad-row").await[1]["id"], "?");
    let outcome = under("get_rooms:other-widget=1", &request("get_rooms", "")).await;
    assert_eq!(outcome.seen.json()["data"][0]["imba_id"], 1);
}

#[tokio::test]
async fn a_list_can_come_in_pages_and_be_cut() {
    let list = async |spec: &str, form: &str| {
        let spec = format!("get_rooms:{spec}");
        under(&spec, &request("get_rooms", form)).await.seen.json()
    };
    let ids = |rows: &serde_json::Value| -> Vec<i64> {
        rows.as_array().unwrap().iter().map(|row| row["id"].as_i64().unwrap()).collect()
    };
    let first = list("pages=2", "").await["data"].clone();
    assert_eq!(ids(&first["data"]), [1314, 1536]);
    let numbers =
        ["current_page", "last_page", "per_page", "total"].map(|name| first[name].clone());
    assert_eq!(numbers, [1, 2, 2, 3].map(serde_json::Value::from));
    assert_eq!(first["next_page_url"], "/?page=2");
    let last = list("pages=2", "page=2").await["data"].clone();
    assert_eq!(
        (ids(&last["data"]), &last["next_page_url"]),
        (vec![1853], &serde_json::Value::Null)
    );
    let beside = list("pages-beside=1:next-page=https\\://elsewhere.example/", "page=3").await;
    assert_eq!(ids(&beside["data"]), [1853]);
    assert_eq!(beside["links"]["next"], "https://elsewhere.example/");
    assert_eq!((&beside["meta"]["current_page"], &beside["meta"]["total"]), (&3.into(), &3.into()));
    assert_eq!(ids(&list("limit=2", "").await["data"]), [1314, 1536]);
    assert_eq!(ids(&list("newest=2", "").await["data"]), [1536, 1853]);
}

#[tokio::test]
async fn a_fault_never_applies_what_the_server_would_refuse() {
    let unknown_room = request("send_msg", "user_id=1&room_id=9&message=x");
    let outcome = under("send_msg:status=502:applied", &unknown_room).await;
    assert!(!entry(&outcome).applied);
    let outcome = under("send_msg:late=1ms", &unknown_room).await;
    assert_eq!((status(&outcome.seen), entry(&outcome).applied), (404, false));
}

#[tokio::test]
async fn a_fault_waits_for_its_room_and_its_endpoint() {
    for spec in ["send_msg:room=1853:status=502", "get_users:status=502"] {
        assert_eq!(status(&under(spec, &send()).await.seen), 200);
    }
    assert_eq!(status(&under("send_msg:room=1536:status=502", &send()).await.seen), 502);
}

#[test]
fn a_fault_is_over_after_its_times() {
    let simulator = common::sample();
    simulator.faults().push_spec("get_rooms:status=502:times=2").unwrap();
    let statuses: Vec<_> = (0..3)
        .map(|_| status(&seen_in_process(simulator.handle(&request("get_rooms", "")))))
        .collect();
    assert_eq!(statuses, [502, 502, 200]);
    assert!(simulator.faults().waiting().is_empty());
}

#[test]
fn a_large_list_comes_in_pieces() {
    let simulator = common::sample();
    simulator.populate(1000);
    let RawOutcome::Answer(answer) = simulator.handle(&request("get_rooms", "")) else {
        panic!("no answer");
    };
    let length: usize = answer.body_chunks.iter().map(bytes::Bytes::len).sum();
    assert!(answer.body_chunks.len() > 3);
    assert_eq!(answer.framing, Framing::Length(length as u64));
}
