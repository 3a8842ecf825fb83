//! An announcement on time, once, to the rooms that were meant.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use std::sync::Arc;
use std::time::Duration;

use imbabot_bot::prelude::*;
use imbabot_bot::{RoomSelector, Schedule, Template};
use imbabot_scheduler::Announcement;
use imbabot_store::{DeliveryState, Line};
use imbabot_testing::{Check, Harness};

fn standup(rooms: RoomSelector) -> Announcement {
    let schedule =
        Schedule::cron("standup", "0 9 * * MON-FRI").unwrap().timezone("Europe/Berlin").unwrap();
    let text = Template::announcement("Good morning, {{ room.name }}!").unwrap();
    Announcement::new(schedule, rooms, text)
}

fn teams() -> RoomSelector {
    RoomSelector::named("^Team").unwrap()
}

/// A Friday evening in Berlin, before the clocks go forward.
fn chat(announcement: Announcement) -> Harness {
    Harness::new().at("2026-03-27T18:00:00Z").announcement(announcement)
}

/// The weekend passes while the daemon is off; it starts a minute before nine on Monday.
fn sleep_until_shortly_before(chat: &mut Harness) {
    chat.world().crash();
    chat.world().clock.advance(hours(61) - minutes(1));
    chat.world().start();
}

#[test]
fn every_weekday_at_nine_in_berlin_over_the_change_of_clocks() {
    let mut chat = chat(standup(teams()));
    chat.open_room("Team Blue");
    chat.open_room("Support");
    chat.poll();
    chat.advance(hours(48 + 12 + 1));
    // Monday, 07:00 UTC is nine in the morning.
    assert_eq!(chat.sent(), ["Team Blue: Good morning, Team Blue!"]);
    chat.advance(days(7));
    assert_eq!(chat.sent().len(), 6);
    let expected =
        ["2026-03-30", "2026-03-31", "2026-04-01", "2026-04-02", "2026-04-03", "2026-04-06"];
    let expected = expected.map(|day| format!("{day}T07:00:00Z").parse().unwrap());
    let world = chat.world();
    let violations = Check::new()
        .requests(world.simulator.log().iter().map(Into::into))
        .ledger(world.ledger())
        .expected("standup", expected)
        .quiescent()
        .run();
    assert_eq!(violations, []);
}

#[test]
fn a_kill_at_the_instant_neither_loses_nor_doubles_it() {
    for millis in [-1_000, -1, 0, 1, 50, 1_000] {
        let mut chat = chat(standup(teams()));
        chat.open_room("Team Blue");
        chat.poll();
        let until = Duration::from_millis(u64::try_from(61 * 3_600_000 + millis).unwrap());
        chat.advance(until);
        chat.world().crash();
        chat.world().start();
        chat.advance(minutes(5));
        assert_eq!(chat.sent().len(), 1, "killed {millis} ms from the instant");
        chat.world().check();
    }
}

#[test]
fn what_was_missed_for_longer_than_it_keeps_is_recorded_and_not_said() {
    let mut chat = chat(standup(teams()));
    chat.open_room("Team Blue");
    chat.poll();
    chat.world().crash();
    let world = chat.world();
    world.clock.advance(days(5));
    chat.world().start();
    chat.advance(minutes(1));
    assert!(chat.sent().is_empty());
    let ranges: Vec<_> = chat
        .world()
        .ledger()
        .into_iter()
        .filter_map(|line| match line.line {
            Line::Range(range) => Some((range.reason, range.count)),
            _ => None,
        })
        .collect();
    assert_eq!(ranges, [("expired".to_owned(), 3)]);
    chat.world().check();
}

#[test]
fn a_late_start_within_the_hour_still_says_good_morning_once() {
    let mut chat = chat(standup(teams()));
    chat.open_room("Team Blue");
    chat.poll();
    chat.world().crash();
    chat.world().clock.advance(hours(61) + minutes(30));
    chat.world().start();
    chat.advance(minutes(1));
    assert_eq!(chat.sent().len(), 1);
    chat.world().check();
}

#[test]
fn without_a_snapshot_it_waits_for_the_first_one() {
    let mut chat = chat(standup(teams())).with(|settings| settings.poll.rooms = seconds(5));
    chat.world().simulator.open_room("Team Blue");
    chat.world().simulator.server_down(true);
    chat.world().start();
    sleep_until_shortly_before(&mut chat);
    chat.advance(minutes(1) + seconds(10));
    assert!(chat.sent().is_empty());
    chat.world().simulator.server_down(false);
    chat.advance(seconds(30));
    assert_eq!(chat.sent(), ["Team Blue: Good morning, Team Blue!"]);
    chat.world().check();
}

#[test]
fn without_any_snapshot_until_it_expires_it_is_missed_and_says_why() {
    let mut chat = chat(standup(teams())).with(|settings| settings.poll.rooms = minutes(1));
    chat.world().simulator.server_down(true);
    chat.world().start();
    sleep_until_shortly_before(&mut chat);
    chat.advance(hours(2));
    let reasons: Vec<_> = chat
        .world()
        .ledger()
        .into_iter()
        .filter_map(|line| match line.line {
            Line::Occurrence(occurrence) => occurrence.reason,
            _ => None,
        })
        .collect();
    assert_eq!(reasons, ["no_snapshot"]);
    chat.world().check();
}

#[test]
fn numbers_alone_need_no_snapshot() {
    let schedule = Schedule::at("once", "2026-03-27T18:05:00").unwrap();
    let text = Template::announcement("Now, in {{ room.id }}").unwrap();
    let mut chat = chat(Announcement::new(schedule, RoomSelector::ids([RoomId(1536)]), text));
    chat.world().simulator.open_room("Any");
    chat.world().simulator.faults().push_spec("get_rooms:status=500:always").unwrap();
    chat.advance(minutes(6));
    assert_eq!(chat.sent(), ["Any: Now, in 1536"]);
    chat.world().check();
}

#[test]
fn no_room_is_said_in_the_ledger() {
    let mut chat = chat(standup(RoomSelector::named("^Nobody").unwrap()));
    chat.open_room("Team Blue");
    chat.poll();
    chat.advance(hours(62));
    let reasons: Vec<_> = chat
        .world()
        .ledger()
        .into_iter()
        .filter_map(|line| match line.line {
            Line::Occurrence(occurrence) => occurrence.reason,
            _ => None,
        })
        .collect();
    assert_eq!(reasons, ["no_rooms"]);
}

#[test]
fn a_thousand_rooms_are_reached_over_a_kill_in_the_middle() {
    let schedule = Schedule::at("all", "2026-03-27T18:05:00").unwrap().expires_after(hours(10));
    let text = Template::announcement("Hello {{ room.name }}").unwrap();
    let mut chat = chat(Announcement::new(schedule, RoomSelector::all(), text));
    chat.world().settings().delivery.rate = imbabot_scheduler::Rate::new(100, seconds(1));
    chat.world().simulator.populate(1_000);
    chat.poll();
    chat.advance(minutes(5) + seconds(4));
    chat.world().crash();
    chat.world().start();
    chat.advance(minutes(5));
    let unknown = chat.deliveries().iter().filter(|d| d.state == DeliveryState::Unknown).count();
    assert_eq!(chat.sent().len() + unknown, 1_000);
    assert_eq!(chat.deliveries().len(), 1_000);
    chat.world().check();
}

#[test]
fn a_removed_schedule_takes_back_what_it_had_queued() {
    let schedule = Schedule::at("all", "2026-03-27T18:05:00").unwrap();
    let text = Template::announcement("Hello").unwrap();
    let mut chat = chat(Announcement::new(schedule, RoomSelector::all(), text));
    chat.world().settings().delivery.rate = imbabot_scheduler::Rate::new(1, minutes(1));
    chat.world().simulator.populate(10);
    chat.poll();
    chat.advance(minutes(5) + seconds(1));
    chat.world().settings().announcements.clear();
    chat.world().reload();
    chat.advance(hours(1));
    assert_eq!(chat.sent().len(), 1);
    let cancelled =
        chat.deliveries().iter().filter(|d| d.reason.as_deref() == Some("cancelled")).count();
    assert_eq!(cancelled, 9);
    chat.world().check();
}

#[test]
fn an_edited_time_does_not_fire_at_once() {
    let mut chat = chat(standup(teams()));
    chat.open_room("Team Blue");
    chat.poll();
    let mut edited = standup(teams());
    edited.schedule =
        Schedule::cron("standup", "0 8 * * *").unwrap().timezone("Europe/Berlin").unwrap();
    chat.world().settings().announcements = vec![Arc::new(edited)];
    chat.world().reload();
    chat.advance(minutes(10));
    assert!(chat.sent().is_empty());
    // Saturday at eight in the morning.
    chat.advance(hours(13));
    assert_eq!(chat.sent().len(), 1);
    chat.world().check();
}

#[test]
fn a_bots_own_schedule_brings_a_timer_event() {
    struct Clockwork;
    #[async_trait]
    impl Bot for Clockwork {
        fn schedules(&self) -> Vec<Schedule> {
            vec![Schedule::cron("noon", "0 12 * * *").unwrap()]
        }
        async fn on_event(&self, ctx: &mut Context, event: &Event) -> Result<()> {
            if let Event::Timer(timer) = event {
                for room in ctx.rooms(&RoomSelector::all()).await? {
                    ctx.send(room.id, format!("{} at {}", timer.key, timer.at.compact()));
                }
            }
            Ok(())
        }
    }
    let mut chat = Harness::new().at("2026-03-02T10:00:00Z").bot("clockwork", Clockwork);
    chat.open_room("Hall");
    chat.poll();
    chat.advance(hours(3));
    assert_eq!(chat.sent(), ["Hall: noon at 2026-03-02T12:00:00Z"]);
    chat.world().check();
}
