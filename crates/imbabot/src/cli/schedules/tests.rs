//! What `schedules` says of schedules to which something happened, in virtual time.

use std::time::Duration;

use futures_executor::block_on;
use imbabot_bot::prelude::*;
use imbabot_bot::{RoomSelector, Template};
use imbabot_scheduler::{Announcement, Clock};
use imbabot_testing::Harness;
use insta::assert_snapshot;

use super::{entries, table};

fn announcement(schedule: Schedule) -> Announcement {
    let text = Template::announcement("Good morning!").unwrap();
    Announcement::new(schedule, RoomSelector::named("^Team").unwrap(), text)
}

fn berlin(id: &str, cron: &str) -> Schedule {
    Schedule::cron(id, cron).unwrap().timezone("Europe/Berlin").unwrap()
}

/// As a person sees it; no line is wider than a terminal.
fn told(chat: &mut Harness) -> String {
    let settings = chat.world().settings().clone();
    let running = chat.world().engine().is_some();
    let (store, now) = (chat.world().store(), chat.world().clock.now());
    let found = block_on(entries(&settings, Some(&*store), running, now));
    let found = found.unwrap_or_else(|failure| panic!("{}", failure.message));
    let told = table(&found);
    assert!(told.lines().all(|line| line.chars().count() <= 100), "{told}");
    told
}

#[test]
fn before_a_daemon_ran_the_calendar_is_known_and_nothing_else() {
    let off = Announcement { enabled: false, ..announcement(berlin("off", "0 9 * * *")) };
    let mut chat = Harness::new()
        .announcement(announcement(berlin("standup", "0 9 * * MON-FRI")))
        .announcement(announcement(Schedule::at("party", "2025-12-24T18:00:00").unwrap()))
        .announcement(off);
    assert_snapshot!(told(&mut chat));
}

#[test]
fn what_was_missed_while_nobody_was_there_says_so_and_what_comes_says_what_moves_it() {
    let jittered = berlin("jittered", "0 9 * * *").jitter(Duration::from_secs(600));
    let mut chat = Harness::new()
        .at("2026-03-25T12:00:00Z")
        .announcement(announcement(berlin("nightly", "30 2 * * *")))
        .announcement(announcement(jittered))
        .announcement(announcement(Schedule::at("party", "2026-03-26T18:00:00").unwrap()));
    chat.open_room("Team Blue");
    chat.poll();
    chat.world().crash();
    chat.world().clock.advance(Duration::from_secs(3 * 86_400));
    let before = told(&mut chat);
    chat.world().start();
    chat.advance(Duration::from_secs(5));
    let after = told(&mut chat);
    assert_snapshot!(format!("{before}\n\n{after}"));
}

#[test]
fn a_pause_a_list_without_rooms_and_a_list_that_is_not_there_are_said() {
    let mut chat = Harness::new()
        .at("2026-03-25T06:00:00Z")
        .announcement(announcement(berlin("standup", "0 9 * * *")))
        .announcement(announcement(berlin("other", "0 9 * * *").except(["2026-03-25"]).unwrap()));
    chat.world().simulator.server_down(true);
    chat.world().start();
    let waits = told(&mut chat);
    chat.world().simulator.server_down(false);
    chat.poll();
    let now = chat.world().clock.now();
    block_on(chat.world().store().pause_schedule(now, "standup", true)).unwrap();
    chat.world().engine().unwrap().wake();
    chat.advance(Duration::from_secs(3 * 3_600));
    let paused = told(&mut chat);
    assert_snapshot!(format!("{waits}\n\n{paused}"));
}

#[test]
fn a_clock_that_went_back_is_the_reason_for_a_distant_next() {
    let mut chat = Harness::new()
        .at("2026-03-25T06:00:00Z")
        .announcement(announcement(berlin("hourly", "0 * * * *")));
    chat.open_room("Team Blue");
    chat.poll();
    chat.advance(Duration::from_secs(4 * 3_600));
    chat.world().clock.set_wall("2026-03-25T07:30:00Z".parse().unwrap());
    chat.advance(Duration::from_secs(2));
    assert_snapshot!(told(&mut chat));
}
