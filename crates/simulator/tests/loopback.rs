//! What only the loopback door has to show: half-sent requests, outages, the log file, closing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod common;

use common::{Client, Seen, request, send, wire_bytes};
use imbabot_simulator::{End, Loopback, LoopbackOptions};
use tokio::net::TcpStream;

/// Waits until something holds that another task is about to make true.
async fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        tokio::task::yield_now().await;
    }
}

fn status(seen: &Seen) -> Option<u16> {
    match seen {
        Seen::Answer { status, .. } => Some(*status),
        Seen::Bytes(..) => None,
    }
}

#[tokio::test]
async fn a_request_cut_by_its_client_is_logged_as_incomplete() {
    let simulator = common::sample();
    let door = common::open(&simulator).await;
    let bytes = wire_bytes(&send());
    let mut client = Client::connect(&door).await;
    client.write(&bytes[..bytes.len() - 1]).await;
    drop(client);
    until(|| !simulator.log().is_empty()).await;
    let entry = simulator.log().remove(0);
    assert_eq!((entry.complete, entry.applied, entry.status), (false, false, None));
    assert_eq!(entry.delivery.as_deref(), Some("d1"));
    assert!(simulator.all_messages().is_empty());
}

#[tokio::test]
async fn a_client_that_gives_up_does_not_undo_what_was_applied() {
    let simulator = common::sample();
    simulator.faults().push_spec("send_msg:late=1h").unwrap();
    let door = common::open(&simulator).await;
    let mut client = Client::connect(&door).await;
    client.write(&wire_bytes(&send())).await;
    until(|| !simulator.log().is_empty()).await;
    drop(client);
    assert_eq!(simulator.messages(1536).len(), 1);
    door.shutdown().await;
    assert_eq!(simulator.log().len(), 1);
}

#[tokio::test]
async fn an_outage_refuses_connections_and_ends_on_the_same_port() {
    let simulator = common::sample();
    let door = common::open(&simulator).await;
    let mut idle = Client::connect(&door).await;
    assert_eq!(status(&idle.ask(&wire_bytes(&send())).await), Some(200));

    simulator.server_down(true);
    assert_eq!(status(&idle.read().await), None, "the idle connection is closed");
    while TcpStream::connect(door.addr()).await.is_ok() {
        tokio::task::yield_now().await;
    }

    simulator.server_down(false);
    while TcpStream::connect(door.addr()).await.is_err() {
        tokio::task::yield_now().await;
    }
    let again = Client::connect(&door).await.ask(&wire_bytes(&send())).await;
    assert_eq!(status(&again), Some(200));
    assert_eq!(simulator.messages(1536).len(), 2);
}

#[test]
fn an_outage_refuses_requests_in_process() {
    let simulator = common::sample();
    simulator.server_down(true);
    assert_eq!(simulator.handle(&send()), imbabot_simulator::RawOutcome::Refused);
    assert_eq!((simulator.refused_connections(), simulator.log().len()), (1, 0));
    simulator.server_down(false);
    assert_ne!(simulator.handle(&send()), imbabot_simulator::RawOutcome::Refused);
}

#[tokio::test]
async fn the_log_file_has_the_line_before_the_client_has_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    let log_file = folder.path().join("log.jsonl");
    let simulator = common::sample();
    simulator.faults().push_spec("send_msg:apply-then-silent").unwrap();
    let options = LoopbackOptions { log_file: Some(log_file.clone()), ..Default::default() };
    let door =
        Loopback::bind(([127, 0, 0, 1], 0).into(), simulator.clone(), options).await.unwrap();
    let mut client = Client::connect(&door).await;
    client.write(&wire_bytes(&send())).await;
    until(|| !simulator.log().is_empty()).await;
    let written = std::fs::read_to_string(&log_file).unwrap();
    assert_eq!(written, simulator.log()[0].to_json_line() + "\n");
    let line: serde_json::Value = serde_json::from_str(&written).unwrap();
    let expected = serde_json::json!({
        "seq": 1, "at": 1_608_275_827_000_000_i64, "endpoint": "send_msg", "method": "POST",
        "path": "/imbachat/v2/627/send_msg", "complete": true, "applied": true, "room": 1536,
        "user_id": "1", "text": "api <message> ", "delivery": "d1", "attempt": "1",
        "status": null, "outcome": "never answered", "fault": "send_msg:silent:applied",
        "message_id": 4543, "uuid": simulator.messages(1536)[0].uuid,
    });
    assert_eq!(line, expected);
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let door = common::open(&common::sample()).await;
    let mut client = Client::connect(&door).await;
    let mut get = request("get_rooms", "");
    get.method = "GET".to_owned();
    assert_eq!(status(&client.ask(&wire_bytes(&get)).await), Some(405));
    let mut elsewhere = send();
    elsewhere.path = "/imbachat/v1/627/widget".to_owned();
    assert_eq!(status(&client.ask(&wire_bytes(&elsewhere)).await), Some(404));
}

#[tokio::test]
async fn a_closed_door_closes_its_connections() {
    let simulator = common::sample();
    simulator.faults().push_spec("send_msg:silent").unwrap();
    let door = common::open(&simulator).await;
    let mut waiting = Client::connect(&door).await;
    waiting.write(&wire_bytes(&send())).await;
    until(|| !simulator.log().is_empty()).await;
    let mut watching = Client::connect(&door).await;
    watching.write(b"GET /control/events HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    watching.read_until("text/event-stream").await;
    let addr = door.addr();
    door.shutdown().await;
    let Seen::Bytes(bytes, end) = waiting.read().await else { panic!("an answer") };
    assert!(bytes.is_empty() && end != End::NeverEnds);
    assert!(TcpStream::connect(addr).await.is_err());
}
