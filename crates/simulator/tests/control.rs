//! The control API: what it does, and whom it refuses.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod common;

use common::{Client, Seen, send, wire_bytes};
use imbabot_simulator::{Loopback, LoopbackOptions, RawRequest, Simulator};
use serde_json::{Value, json};

fn get(path: &str) -> RawRequest {
    RawRequest {
        method: "GET".to_owned(),
        path: path.to_owned(),
        headers: vec![("Host".to_owned(), "localhost:9627".to_owned())],
        body: bytes::Bytes::new(),
    }
}

fn post(path: &str, body: &Value) -> RawRequest {
    let mut request = get(path);
    request.method = "POST".to_owned();
    request.headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
    request.body = body.to_string().into();
    request
}

async fn ask(door: &Loopback, request: &RawRequest) -> (u16, String) {
    match Client::connect(door).await.ask(&wire_bytes(request)).await {
        Seen::Answer { status, body, .. } => (status, body),
        Seen::Bytes(bytes, end) => panic!("no answer but {bytes:?} and {end:?}"),
    }
}

async fn ask_json(door: &Loopback, request: &RawRequest) -> Value {
    let (status, body) = ask(door, request).await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

async fn open() -> (Simulator, Loopback) {
    let simulator = common::sample();
    let door = common::open(&simulator).await;
    (simulator, door)
}

#[tokio::test]
async fn a_page_can_open_rename_and_close_rooms_and_post_as_a_person() {
    let (simulator, door) = open().await;
    let opened = ask_json(&door, &post("/control/rooms", &json!({"name": "Team 1"}))).await;
    assert_eq!(opened, json!({"room": 1537}));
    ask_json(&door, &post("/control/rooms/1537/rename", &json!({"name": "Team 2"}))).await;
    let ask_to_join = post("/control/users", &json!({"name": "harbour", "site_user_id": 3}));
    assert_eq!(ask_json(&door, &ask_to_join).await, json!({"user": 2047}));
    ask_json(&door, &post("/control/rooms/1537/post", &json!({"user": 3, "text": "hello"}))).await;

    let messages = ask_json(&door, &get("/control/rooms/1537/messages")).await;
    assert_eq!(messages[0]["text"], "hello");
    assert_eq!((&messages[0]["user"], &messages[0]["by_bot"]), (&json!("harbour"), &json!(false)));
    let state = ask_json(&door, &get("/control/state")).await;
    let room = &state["rooms"].as_array().unwrap()[2];
    assert_eq!((&room["id"], &room["name"]), (&json!(1537), &json!("Team 2")));
    assert_eq!(room["last_message"], messages[0]);
    assert_eq!(state["users"].as_array().unwrap().len(), 2);

    ask_json(&door, &post("/control/rooms/1537/close", &json!({}))).await;
    assert!(simulator.room(1537).unwrap().deleted_at.is_some());
    let late = post("/control/rooms/1537/post", &json!({"user": "3", "text": "late"}));
    assert_eq!(ask(&door, &late).await.0, 409);
    assert_eq!(ask(&door, &get("/control/rooms/9/messages")).await.0, 404);
}

#[tokio::test]
async fn a_page_can_script_faults_and_is_told_what_is_wrong_with_one() {
    let (simulator, door) = open().await;
    let spec = json!({"spec": "send_msg:status=502"});
    assert_eq!(ask_json(&door, &post("/control/faults", &spec)).await, json!({"waiting": 1}));
    assert_eq!(ask_json(&door, &get("/control/faults")).await, json!(["send_msg:status=502"]));
    let (status, body) = ask(&door, &post("/control/faults", &json!({"spec": "any:odd"}))).await;
    assert_eq!(status, 422);
    assert!(body.contains("is not known; kinds: refuse"), "{body}");
    ask_json(&door, &post("/control/faults/clear", &json!({}))).await;
    assert!(simulator.faults().waiting().is_empty());
}

#[tokio::test]
async fn changes_are_streamed_as_they_happen() {
    let (simulator, door) = open().await;
    let mut client = Client::connect(&door).await;
    client.write(&wire_bytes(&get("/control/events"))).await;
    client.read_until("\r\n\r\n").await;
    let room = simulator.open_room("Team 1");
    let opened = client.read_until("\n\n").await;
    assert!(
        opened.contains("event: room_opened\ndata: {\"id\":1537,\"name\":\"Team 1\""),
        "{opened}"
    );
    simulator.rename_room(room, "Team 2").unwrap();
    client.read_until("event: room_changed").await;
    Client::connect(&door).await.ask(&wire_bytes(&send())).await;
    let message = client.read_until("\"by_bot\":true").await;
    assert!(message.contains("event: message\ndata: {\"room\":1536,"), "{message}");
}

#[tokio::test]
async fn the_log_can_be_read_from_any_entry_on() {
    let (simulator, door) = open().await;
    for _ in 0..3 {
        let _ = simulator.handle(&send());
    }
    let (status, lines) = ask(&door, &get("/control/log?since=3")).await;
    assert_eq!((status, lines), (200, simulator.log()[2].to_json_line() + "\n"));
}

#[tokio::test]
async fn foreign_pages_and_hosts_are_refused_and_change_nothing() {
    let (simulator, door) = open().await;
    let with = |name: &str, value: &str| {
        let mut request = post("/control/rooms", &json!({"name": "x"}));
        request.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        request.headers.push((name.to_owned(), value.to_owned()));
        request
    };
    let before = simulator.rooms();
    for (request, expected) in [
        (with("Host", "example.com"), 421),
        (with("Host", "127.0.0.1.example.com:9627"), 421),
        (with("Origin", "https://example.com"), 403),
        (with("Origin", "null"), 403),
        (with("Sec-Fetch-Site", "cross-site"), 403),
        (with("Content-Type", "text/plain"), 415),
        (with("Content-Type", "application/x-www-form-urlencoded"), 415),
    ] {
        assert_eq!(ask(&door, &request).await.0, expected, "{request:?}");
    }
    assert_eq!(ask(&door, &get("/control/rooms")).await.0, 405);
    assert_eq!(simulator.rooms(), before);
    let own = with("Origin", "http://127.0.0.1:9627");
    assert_eq!(ask(&door, &own).await.0, 200);
}

#[tokio::test]
async fn no_answer_allows_other_origins() {
    let (_, door) = open().await;
    let mut client = Client::connect(&door).await;
    client.write(&wire_bytes(&get("/control/state"))).await;
    let answer = client.read_until("\"users\"").await.to_ascii_lowercase();
    assert!(!answer.contains("access-control-"), "{answer}");
}

#[tokio::test]
async fn the_simulators_own_door_cannot_be_asked_to_close_itself() {
    let (simulator, door) = open().await;
    let outage = post("/control/outage", &json!({"down": true}));
    assert_eq!(ask(&door, &outage).await.0, 404);
    assert!(!simulator.is_down());
}

#[tokio::test]
async fn a_page_of_another_server_can_end_an_outage_it_began() {
    let (simulator, door) = open().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let router = imbabot_simulator::control_router(simulator.clone());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = async {
        tokio::select! {
            served = async { axum::serve(listener, router).await } => served.unwrap(),
            _ = stopped => {}
        }
    };
    let asking = async {
        for down in [true, false] {
            let mut page = Client::to(addr).await;
            page.ask(&wire_bytes(&post("/control/outage", &json!({ "down": down })))).await;
            assert_eq!(simulator.is_down(), down);
        }
        drop(stop);
    };
    tokio::join!(serving, asking);
    drop(door);
}

#[tokio::test]
async fn the_control_api_can_be_left_out() {
    let simulator = common::sample();
    let options = LoopbackOptions { control: false, ..Default::default() };
    let door =
        Loopback::bind(([127, 0, 0, 1], 0).into(), simulator.clone(), options).await.unwrap();
    assert_eq!(ask(&door, &get("/control/state")).await.0, 404);

    // Every address but loopback's leaves it out by itself.
    let door = Loopback::bind(([0, 0, 0, 0], 0).into(), simulator, LoopbackOptions::default());
    let door = door.await.unwrap();
    let seen = Client::to(([127, 0, 0, 1], door.addr().port()).into())
        .await
        .ask(&wire_bytes(&get("/control/state")))
        .await;
    assert!(matches!(seen, Seen::Answer { status: 404, .. }), "{seen:?}");
}
