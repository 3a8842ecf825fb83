//! From a room that opens to a message that lands: the whole pipeline, in virtual time.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
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
fn a_bot_does_not_see_its_own_messages_as_a_change() {
    let mut chat = greeter();
    let room = chat.open_room("Support");
    for _ in 0..100 {
        chat.poll();
        chat.advance(seconds(5));
    }
    assert_eq!(chat.sent().len(), 1);
    chat.post(room, 7, "hello");
    chat.poll();
    assert_eq!(chat.sent(), ["Support: Welcome to Support!", "Support: I saw that."]);
    chat.world().check();
}

#[test]
fn ten_thousand_rooms_at_the_first_poll_are_no_news() {
    let mut chat = greeter();
    chat.world().simulator.populate(10_000);
    chat.poll();
    chat.poll();
    assert!(chat.sent().is_empty());
    chat.open_room("New");
    chat.poll();
    assert_eq!(chat.sent(), ["New: Welcome to New!"]);
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
fn k1_a_bot_that_panics_is_tried_three_times_and_harms_nobody() {
    struct Panicking(Arc<AtomicUsize>);
    #[async_trait]
    impl Bot for Panicking {
        async fn on_event(&self, ctx: &mut Context, event: &Event) -> Result<()> {
            if let Event::Room(RoomEvent { room, .. }) = event {
                ctx.send(room.id, "this is never said");
            }
            self.0.fetch_add(1, Ordering::Relaxed);
            panic!("on purpose");
        }
    }
    let runs = Arc::new(AtomicUsize::new(0));
    let mut chat = greeter().bot("panicking", Panicking(Arc::clone(&runs)));
    chat.open_room("Support");
    chat.poll();
    chat.advance(minutes(5));
    assert_eq!(chat.sent(), ["Support: Welcome to Support!"]);
    assert_eq!(runs.load(Ordering::Relaxed), 3);
    chat.world().check();
}

#[test]
fn k8_an_event_on_which_the_process_dies_three_times_is_not_run_again() {
    struct Deadly(Arc<AtomicUsize>);
    #[async_trait]
    impl Bot for Deadly {
        async fn on_event(&self, _: &mut Context, _: &Event) -> Result<()> {
            self.0.fetch_add(1, Ordering::Relaxed);
            // The process is killed here.
            std::future::pending().await
        }
    }
    let runs = Arc::new(AtomicUsize::new(0));
    let mut chat = Harness::new().bot("deadly", Deadly(Arc::clone(&runs)));
    chat.open_room("Support");
    chat.poll();
    for _ in 0..5 {
        chat.world().crash();
        chat.world().start();
        chat.advance(seconds(1));
    }
    assert_eq!(runs.load(Ordering::Relaxed), 3);
    let store = chat.world().store();
    let poisoned = block_on(imbabot_store::Operations::events(&*store, true, 10)).unwrap();
    assert_eq!(poisoned.len(), 1);
    chat.world().check();
}

#[test]
fn k2_a_handler_that_never_returns_is_stopped_and_others_go_on() {
    struct Hanging;
    #[async_trait]
    impl Bot for Hanging {
        async fn on_event(&self, _: &mut Context, _: &Event) -> Result<()> {
            std::future::pending().await
        }
    }
    let mut chat = greeter().bot("hanging", Hanging);
    chat.open_room("Support");
    chat.poll();
    assert_eq!(chat.sent(), ["Support: Welcome to Support!"]);
    chat.advance(minutes(5));
    chat.open_room("Sales");
    chat.poll();
    assert_eq!(chat.sent().len(), 2);
    chat.world().check();
}

#[test]
fn k5_a_storm_from_one_event_ends_at_the_limit_and_stays_visible() {
    struct Storm;
    #[async_trait]
    impl Bot for Storm {
        async fn on_event(&self, ctx: &mut Context, event: &Event) -> Result<()> {
            if let Event::Room(RoomEvent { change: RoomChange::Opened, room, .. }) = event {
                for n in 0..1_000 {
                    ctx.send(room.id, format!("number {n}"));
                }
            }
            Ok(())
        }
    }
    let mut chat = Harness::new().bot("storm", Storm);
    chat.open_room("Support");
    chat.poll();
    chat.advance(minutes(1));
    assert_eq!(chat.sent().len(), 5);
    let suppressed =
        chat.deliveries().iter().filter(|d| d.reason.as_deref() == Some("suppressed")).count();
    assert_eq!(suppressed, 995);
    chat.world().check();
}

#[test]
fn k9_a_text_that_cannot_be_sent_is_a_dead_row_and_no_error() {
    struct Mute;
    #[async_trait]
    impl Bot for Mute {
        async fn on_event(&self, ctx: &mut Context, event: &Event) -> Result<()> {
            if let Event::Room(RoomEvent { change: RoomChange::Opened, room, .. }) = event {
                ctx.send(room.id, "");
                ctx.send(room.id, "x".repeat(17 * 1024));
                ctx.send(RoomId(0), "nowhere");
                ctx.send(room.id, "fine");
            }
            Ok(())
        }
    }
    let mut chat = Harness::new().bot("mute", Mute);
    chat.open_room("Support");
    chat.poll();
    assert_eq!(chat.sent(), ["Support: fine"]);
    let dead = chat.deliveries().iter().filter(|d| d.reason.as_deref() == Some("invalid")).count();
    assert_eq!(dead, 3);
    chat.world().check();
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
