//! The real program under a server that cuts its answers: a message for every seventh byte of an
//! answer, over real sockets, and the program's own ledger held against what the server saw.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]
#![allow(clippy::disallowed_methods, reason = "another process takes real time")]

mod support;

use imbabot_store::DeliveryState;
use support::{Chat, Home, assert_holds, wait_until};

/// More than an answer has bytes.
const LONGEST: i64 = 1_000;

fn configuration(rooms: &[i64]) -> String {
    format!(
        "[delivery]\nrate = \"1000/s\"\nrate_per_room = \"1000/s\"\n\
         [[schedule]]\nid = \"once\"\nevery = \"1h\"\nrooms = {{ ids = {rooms:?} }}\n\
         text = \"An announcement.\"\n"
    )
}

#[test]
fn answers_that_are_cut_anywhere_leave_unknown_messages_and_no_doubled_ones() {
    let chat = Chat::open();
    // Of two rooms one is answered in full, so that the outage breaker does not hold everything up.
    let rooms: Vec<i64> =
        (0..LONGEST / 7 * 2).map(|n| chat.open_room(&format!("Team {n}"))).collect();
    for (n, pair) in (0_i64..).zip(rooms.chunks(2)) {
        chat.fault(&format!("send_msg:room={}:cut={}", pair[0], n * 7));
    }
    let home = Home::at(&chat, &configuration(&rooms));
    let daemon = home.ready();
    home.imbabot(&["schedules", "trigger", "once"]).expect(0);
    wait_until("every message has been sent", || chat.asked("send_msg").len() >= rooms.len());
    daemon.stop();

    assert_eq!(chat.asked("send_msg").len(), rooms.len(), "one request for each message");
    let deliveries = home.deliveries();
    assert_eq!(deliveries.len(), rooms.len());
    for delivery in &deliveries {
        let room = delivery.room.0.cast_signed();
        assert_eq!(chat.messages(room).len(), 1, "{delivery:?}");
        let fault = chat.asked("send_msg").into_iter().find(|entry| entry.room == Some(room));
        let is_cut = fault.unwrap().outcome.starts_with("cut after");
        let expected = if is_cut { DeliveryState::Unknown } else { DeliveryState::Delivered };
        assert_eq!(delivery.state, expected, "{delivery:?}");
    }
    assert!(deliveries.iter().any(|d| d.state == DeliveryState::Unknown));
    assert_holds(&home.check(&chat).quiescent());
}
