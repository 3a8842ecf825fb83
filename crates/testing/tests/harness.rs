//! The harness as the author of a bot meets it: what is said is posted, faults happen on demand, and
//! what goes wrong is told with everything that happened before it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use imbabot_bot::prelude::*;
use imbabot_store::DeliveryState;
use imbabot_testing::{Harness, RoomSeed};

/// Welcomes rooms, looks in again a day later, and says goodbye.
struct Host;

#[async_trait]
impl Bot for Host {
    async fn on_event(&self, ctx: &mut Context, event: &Event) -> Result<()> {
        let Event::Room(event) = event else { return Ok(()) };
        let key = format!("again/{}", event.room.id);
        match event.change {
            RoomChange::Opened => {
                ctx.send(event.room.id, format!("Welcome to {}!", event.room.name));
                ctx.send(event.room.id, "Still here?").after(hours(24)).key(key);
            }
            RoomChange::Gone => ctx.cancel(key),
            _ => {}
        }
        Ok(())
    }
}

/// Fails when a room is called `bad`, panics when it is called `worse`, and never ends at `worst`.
struct Moody;

#[async_trait]
impl Bot for Moody {
    async fn on_event(&self, ctx: &mut Context, event: &Event) -> Result<()> {
        if let Event::Room(RoomEvent { change: RoomChange::Opened, room, .. }) = event {
            match room.name.raw() {
                "bad" => return Err(std::io::Error::other("no idea what to say").into()),
                "worse" => panic!("no idea at all"),
                "worst" => std::future::pending().await,
                _ => drop(ctx.send(room.id, "Hello")),
            }
        }
        Ok(())
    }
}

/// What a test that fails says.
fn told(test: impl FnOnce()) -> String {
    let Err(cause) = catch_unwind(AssertUnwindSafe(test)) else { panic!("it did not fail") };
    match cause.downcast::<String>() {
        Ok(words) => *words,
        Err(cause) => (*cause.downcast::<&str>().unwrap()).to_owned(),
    }
}

fn ten_lines() {
    let mut chat = Harness::new().bot("host", Host);
    chat.open_room("Support");
    chat.poll();
    assert_eq!(chat.sent(), ["Support: Welcome to Support!"]);
    chat.advance(hours(24));
    assert_eq!(chat.last_sent(), "Support: Still here?");
    chat.world().check();
}

#[test]
fn it_works_in_a_plain_test() {
    ten_lines();
}

#[tokio::test]
async fn it_works_in_a_plain_tokio_test() {
    ten_lines();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_works_in_a_tokio_test_with_threads() {
    ten_lines();
}

#[test]
fn a_transcript_tells_what_people_did_what_bots_were_told_and_what_was_posted() {
    let mut chat = Harness::new().bot("host", Host);
    let support = chat.open_room("Support");
    let lobby =
        chat.open_room_with(RoomSeed { name: "Lobby".into(), kind: 3, ..RoomSeed::default() });
    chat.poll();
    chat.rename_room(support, "Help desk");
    chat.join("Ada", 7);
    chat.post(support, 7, "hello?\u{1b}[31m");
    chat.advance_to("2026-03-02T12:30:00Z");
    chat.close_room(lobby);
    chat.poll();
    chat.advance(hours(24));
    insta::assert_snapshot!(chat.transcript());
    chat.world().check();
}

#[test]
fn a_lost_answer_and_a_server_that_is_away_are_told_and_survived() {
    let mut chat = Harness::new().bot("host", Host);
    chat.lose_next_reply();
    chat.open_room("Lost");
    chat.poll();
    assert_eq!(chat.deliveries()[0].state, DeliveryState::Unknown);
    chat.open_room("Late");
    chat.poll();
    chat.advance(hours(23));
    chat.server_down_for(minutes(75));
    chat.advance(minutes(70));
    let before = chat.sent().len();
    chat.advance(minutes(5));
    assert_eq!(chat.sent().len(), before + 2, "it goes on when the server is back");
    insta::assert_snapshot!(chat.transcript());
    chat.world().check();
}

#[test]
fn a_handler_that_fails_fails_the_test_with_what_happened_before() {
    let mut chat = Harness::new().bot("moody", Moody);
    chat.open_room("good");
    chat.poll();
    let told = told(|| {
        chat.open_room("bad");
        chat.poll();
    });
    insta::assert_snapshot!(told);
}

#[test]
fn a_panic_and_a_handler_without_an_end_fail_the_test_too() {
    for (name, why) in [("worse", "panicked: no idea at all"), ("worst", "within its time-out")] {
        let mut chat = Harness::new().bot("moody", Moody);
        let told = told(|| {
            chat.open_room(name);
            chat.poll();
            chat.advance(minutes(1));
        });
        assert!(told.contains(why), "{told}");
    }
}

#[test]
fn a_test_of_failures_says_so_and_reads_them() {
    let mut chat = Harness::new().bot("moody", Moody).may_fail();
    chat.open_room("bad");
    chat.open_room("good");
    chat.poll();
    chat.advance(minutes(1));
    assert_eq!(chat.sent(), ["good: Hello"]);
    let failures = chat.failures();
    assert_eq!(failures.len(), 3, "{failures:?}");
    assert_eq!(
        failures[0],
        r#"moody FAILS when told: room opened ("bad"): error: no idea what to say"#
    );
    assert!(chat.transcript().to_string().contains("e1 is set aside for moody"));
}

#[test]
fn what_was_expected_and_not_posted_is_told_with_the_transcript() {
    let mut chat = Harness::new().bot("host", Host);
    chat.open_room("Support");
    chat.poll();
    chat.expect_sent(["Support: Welcome to Support!"]);
    let told = told(|| chat.expect_sent(["Support: Welcome!"]));
    insta::assert_snapshot!(told);
}

#[test]
fn what_cannot_be_done_is_told_with_the_transcript() {
    let mut chat = Harness::new().bot("host", Host);
    let nothing = told(|| drop(chat.last_sent()));
    assert!(nothing.starts_with("nothing was posted\n\nwhat happened:\nnothing"), "{nothing}");
    let room = chat.open_room("Support");
    let unknown = told(|| chat.rename_room(9.into(), "x"));
    assert!(
        unknown.starts_with(
            "there is no room 9\n\nwhat happened:\n2026-03-02T10:00:00Z  somebody opens"
        ),
        "{unknown}"
    );
    chat.close_room(room);
    let closed = told(|| chat.post(room, 1, "x"));
    assert!(closed.starts_with("room 1536 is closed\n"), "{closed}");
    let past = told(|| chat.advance_to("2026-03-02T09:00:00Z"));
    assert!(past.starts_with("2026-03-02T09:00:00Z is past: it is 2026-03-02T10:00:00Z"), "{past}");
}

#[test]
fn a_kill_is_no_failure_of_a_bot_and_stands_in_the_transcript() {
    let mut chat = Harness::new().bot("host", Host);
    chat.open_room("Support");
    chat.poll();
    chat.world().crash();
    chat.advance(hours(25));
    assert_eq!(chat.last_sent(), "Support: Still here?");
    assert!(chat.transcript().to_string().contains("the daemon is killed"));
    chat.world().check();
}

#[test]
fn a_start_and_a_store_of_ones_own_go_together() {
    let store = Harness::new().world().store();
    let mut chat = Harness::new().over(store).at("2026-05-01T08:00:00Z").bot("host", Host);
    chat.open_room("Support");
    chat.poll();
    assert!(chat.transcript().to_string().starts_with("2026-05-01T08:00:00Z"));
    let mut again = Harness::new().at("2026-05-02T08:00:00Z").over(chat.world().store());
    again.advance(minutes(1));
    assert_eq!(again.deliveries().len(), 2, "what the first chat recorded is there");
}
