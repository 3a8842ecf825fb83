//! From a room that opens to a message that lands: the whole pipeline, in virtual time.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use std::time::Duration;

use futures_executor::block_on;
use imbabot_bot::prelude::*;
use imbabot_simulator::RoomSeed;
use imbabot_store::DeliveryState;
use imbabot_testing::Harness;

/// Greets rooms, and once more when they are touched: a bot that would answer itself for ever.
struct Greeter {
    follow_up: Option<Duration>,
}

#[async_trait]
impl Bot for Greeter {
    async fn on_event(&self, ctx: &mut Context, event: &Event) -> Result<()> {
        match event {
            Event::Room(RoomEvent { change: RoomChange::Opened, room, .. }) => {
                ctx.send(room.id, format!("Welcome to {}!", room.name));
                if let Some(delay) = self.follow_up {
                    ctx.send(room.id, "Still here?").after(delay);
                }
            }
            Event::Room(RoomEvent { change: RoomChange::Touched, room, .. }) => {
                ctx.send(room.id, "I saw that.");
            }
            _ => {}
        }
        Ok(())
    }
}

fn greeter() -> Harness {
    Harness::new().bot("greeter", Greeter { follow_up: None })
}

#[test]
fn a_room_that_opens_is_greeted_once() {
    let mut chat = greeter();
    chat.open_room("Support");
    chat.poll();
    chat.poll();
    assert_eq!(chat.sent(), ["Support: Welcome to Support!"]);
    assert_eq!(chat.deliveries()[0].state, DeliveryState::Delivered);
    chat.world().check();
}

#[test]
fn a_follow_up_comes_after_a_day_also_over_a_kill() {
    let mut chat = Harness::new().bot("greeter", Greeter { follow_up: Some(hours(24)) });
    chat.open_room("Support");
    chat.poll();
    chat.advance(hours(12));
    chat.world().crash();
    chat.world().start();
    chat.advance(hours(11));
    assert_eq!(chat.sent().len(), 1);
    chat.advance(hours(2));
    assert_eq!(chat.sent(), ["Support: Welcome to Support!", "Support: Still here?"]);
    chat.world().check();
}

#[test]
fn at_least_once_repeats_an_ambiguous_attempt_and_says_so() {
    struct Insisting;
    #[async_trait]
    impl Bot for Insisting {
        async fn on_event(&self, ctx: &mut Context, event: &Event) -> Result<()> {
            if let Event::Room(RoomEvent { change: RoomChange::Opened, room, .. }) = event {
                ctx.send(room.id, "Important").policy(Policy::AtLeastOnce);
            }
            Ok(())
        }
    }
    let mut chat = Harness::new().bot("insisting", Insisting);
    chat.open_room("Support");
    chat.world().simulator.faults().push_spec("send_msg:apply-then-close").unwrap();
    chat.poll();
    chat.advance(seconds(59));
    assert_eq!(chat.sent().len(), 1);
    chat.advance(seconds(2));
    assert_eq!(chat.sent().len(), 2);
    let delivery = &chat.deliveries()[0];
    assert_eq!(delivery.state, DeliveryState::Delivered);
    assert!(delivery.possible_duplicate);
    chat.world().check();
}

#[test]
fn a_kill_at_every_moment_of_a_greeting_neither_loses_nor_doubles_it() {
    // The reply takes a second; the kill comes before, within and after it.
    for millis in [0, 1, 500, 999, 1_000, 1_500] {
        let mut chat = greeter();
        chat.open_room("Support");
        chat.world().simulator.faults().push_spec("send_msg:late=1s").unwrap();
        chat.poll();
        chat.advance(Duration::from_millis(millis));
        chat.world().crash();
        chat.world().start();
        chat.poll();
        chat.advance(minutes(5));
        assert_eq!(chat.sent().len(), 1, "killed after {millis} ms");
        let state = chat.deliveries()[0].state;
        let expected =
            if millis < 1_000 { DeliveryState::Unknown } else { DeliveryState::Delivered };
        assert_eq!(state, expected, "killed after {millis} ms");
        chat.world().check();
    }
}

#[test]
fn a_wake_rings_once_and_can_be_taken_back() {
    struct Waker;
    #[async_trait]
    impl Bot for Waker {
        async fn on_event(&self, ctx: &mut Context, event: &Event) -> Result<()> {
            match event {
                Event::Room(RoomEvent { change: RoomChange::Opened, room, .. }) => {
                    ctx.wake(format!("check/{}", room.id), hours(1));
                }
                Event::Room(RoomEvent { change: RoomChange::Gone, room, .. }) => {
                    ctx.cancel(format!("check/{}", room.id));
                }
                Event::Timer(timer) => {
                    let room: RoomId = timer.key.trim_start_matches("check/").parse()?;
                    ctx.send(room, "An hour has passed.");
                }
                _ => {}
            }
            Ok(())
        }
    }
    let mut chat = Harness::new().bot("waker", Waker);
    chat.open_room("Stays");
    let gone = chat.open_room("Goes");
    chat.poll();
    chat.close_room(gone);
    chat.poll();
    chat.advance(hours(3));
    assert_eq!(chat.sent(), ["Stays: An hour has passed."]);
    chat.world().check();
}

#[test]
fn b12_a_reversed_list_is_no_news() {
    let mut chat = greeter();
    chat.world().simulator.populate(50);
    chat.poll();
    chat.world().simulator.faults().push_spec("get_rooms:list=reversed:always").unwrap();
    for _ in 0..5 {
        chat.poll();
    }
    assert!(chat.sent().is_empty());
    chat.world().check();
}

#[test]
fn b15_a_hostile_room_name_is_said_as_text() {
    let mut chat = greeter();
    chat.open_room_with(RoomSeed {
        name: "<script>alert(1)</script>\u{202e}{{ secret }}".into(),
        ..RoomSeed::default()
    });
    chat.poll();
    let sent = chat.sent();
    assert!(sent[0].ends_with("Welcome to ‹script›alert(1)‹/script›{{ secret }}!"), "{sent:?}");
}

#[test]
fn a_name_that_stood_for_another_widget_is_refused_instead_of_greeting_its_rooms() {
    let mut chat = greeter();
    chat.open_room("Support");
    chat.poll();
    let other = [("main".parse().unwrap(), imbabot_core::WidgetId(700))];
    let refused = block_on(chat.world().store().adopt_widgets(&other)).unwrap_err();
    assert_eq!(*refused.kind(), imbabot_store::ErrorKind::OtherWidget);
    chat.world().check();
}
