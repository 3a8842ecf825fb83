//! How often lists are asked for: as far apart as configured and hardly more, further where nothing
//! changes and that is allowed, in time for announcements, never in step, never two at once, and not
//! at all where nobody listens. In virtual time.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod common;

use std::time::Duration;

use common::{Notebook, greeter};
use imbabot_bot::prelude::*;
use imbabot_bot::{RoomSelector, Schedule, Template};
use imbabot_scheduler::{Announcement, Clock, PollSettings};
use imbabot_simulator::Endpoint;
use imbabot_testing::Harness;

/// A chat that is polled by itself, this far apart.
fn chat(poll: PollSettings) -> Harness {
    Harness::new().bot("notebook", Notebook::default()).with(|settings| settings.poll = poll)
}

fn rooms_every(rooms: Duration) -> PollSettings {
    PollSettings { rooms, ..PollSettings::default() }
}

/// When an endpoint was asked, in microseconds.
fn asked(chat: &mut Harness, endpoint: Endpoint) -> Vec<i64> {
    let log = chat.world().simulator.log();
    log.iter().filter(|entry| entry.endpoint == Some(endpoint)).map(|entry| entry.at).collect()
}

/// How far apart the polls of rooms were, in seconds.
fn distances(chat: &mut Harness) -> Vec<f64> {
    let at = asked(chat, Endpoint::GetRooms);
    at.windows(2).map(|pair| (pair[1] - pair[0]) as f64 / 1e6).collect()
}

fn announcement(cron: &str, rooms: RoomSelector) -> Announcement {
    let schedule = Schedule::cron("news", cron).unwrap();
    Announcement::new(schedule, rooms, Template::announcement("News").unwrap())
}

#[test]
fn polls_are_as_far_apart_as_configured_but_for_the_second_which_comes_a_little_sooner() {
    let mut chat = chat(PollSettings::default());
    chat.world().start();
    chat.advance(hours(1));
    let distances = distances(&mut chat);
    assert!((3.75..5.0).contains(&distances[0]), "{}", distances[0]);
    assert!(distances[1..].iter().all(|apart| (*apart - 5.0).abs() < 0.001), "{distances:?}");
}

#[test]
fn one_seed_makes_the_same_polls_at_the_same_moments() {
    let run = || {
        let mut chat = chat(PollSettings { users: seconds(7), ..PollSettings::default() });
        chat.world().simulator.faults().push_spec("get_rooms:status=500:p=0.2").unwrap();
        chat.world().start();
        chat.advance(minutes(30));
        (asked(&mut chat, Endpoint::GetRooms), asked(&mut chat, Endpoint::GetUsers))
    };
    assert_eq!(run(), run());
}

#[test]
fn several_widgets_that_begin_together_do_not_stay_in_step() {
    let mut chat = Harness::new().with(|settings| settings.poll = PollSettings::default());
    for n in 0..8 {
        let mut widget = chat.world().widget("simulator-secret");
        widget.name = format!("w{n}").parse().unwrap();
        chat.world().settings().widgets.push(widget);
    }
    chat.world().start();
    let first = asked(&mut chat, Endpoint::GetRooms);
    assert!(first.iter().all(|at| *at == first[0]), "the first lists are wanted at once");
    chat.advance(minutes(5));
    let at = asked(&mut chat, Endpoint::GetRooms);
    let late = &at[at.len() - 100..];
    let together = late.windows(2).filter(|pair| pair[1] - pair[0] < 1_000).count();
    assert!(together <= 5, "{together} of 100 came together");
}

#[test]
fn a_list_in_which_nothing_changes_is_asked_for_as_always_unless_more_is_allowed() {
    let mut usual = chat(rooms_every(seconds(5)));
    usual.world().simulator.populate(10);
    usual.world().start();
    usual.advance(hours(5));
    assert!(distances(&mut usual).iter().all(|apart| *apart <= 5.001));

    let mut quiet = chat(PollSettings { quiet_max: seconds(60), ..PollSettings::default() });
    quiet.world().simulator.populate(10);
    quiet.world().start();
    quiet.advance(minutes(2));
    let begin = distances(&mut quiet);
    assert!(
        begin.iter().take(9).all(|apart| *apart <= 5.001),
        "a tenth of a short time: {begin:?}"
    );
    quiet.advance(hours(2));
    let late = distances(&mut quiet);
    assert!(late[1..].iter().all(|apart| (4.999..=60.001).contains(apart)), "{late:?}");
    assert!(late.iter().rev().take(20).all(|apart| *apart >= 59.999), "{late:?}");

    // Whatever moves, however little, ends it.
    let room = quiet.world().simulator.rooms()[0].id;
    for change in [0, 1, 2] {
        let simulator = &quiet.world().simulator;
        match change {
            0 => simulator.rename_room(room, "Another name").unwrap(),
            1 => simulator.close_room(room, true).unwrap(),
            _ => drop(simulator.open_room("New")),
        }
        quiet.advance(seconds(64));
        let before = distances(&mut quiet).len();
        quiet.advance(seconds(40));
        let after = distances(&mut quiet).len();
        assert!(after - before >= 6, "change {change}: {} polls in 40 s", after - before);
        quiet.advance(hours(1));
    }
}

#[test]
fn the_rooms_that_an_announcement_chooses_from_are_fresh() {
    for (rooms, quiet_max, oldest) in [(300, 0, 65), (3_600, 0, 725), (5, 300, 12), (60, 1_200, 17)]
    {
        let poll = PollSettings {
            rooms: seconds(rooms),
            quiet_max: seconds(quiet_max),
            ..PollSettings::default()
        };
        let mut chat = chat(poll).announcement(announcement("30 * * * *", RoomSelector::all()));
        chat.world().simulator.populate(3);
        chat.world().start();
        chat.advance(hours(24));
        let asked = asked(&mut chat, Endpoint::GetRooms);
        let start = chat.world().clock.now().as_micros() - 24 * 3_600_000_000;
        for hour in 0..24 {
            let fires = start + hour * 3_600_000_000 + 1_800_000_000;
            let last = asked.iter().filter(|at| **at <= fires).max().unwrap();
            let age = (fires - last) / 1_000_000;
            assert!(age <= oldest, "rooms = {rooms}, quiet_max = {quiet_max}: {age} s old");
        }
        // One more poll an hour at most.
        let usual = 86_400 / rooms.max(quiet_max.min(180)) as usize;
        assert!(asked.len() <= usual + 50 + 24 * 40, "{}", asked.len());
        chat.world().check();
    }
}

#[test]
fn a_room_that_opened_before_the_instant_is_reached_by_it() {
    // The list is asked for once an hour, and not more than a fifth of that before the instant.
    let mut chat = chat(PollSettings { rooms: minutes(60), ..PollSettings::default() })
        .announcement(announcement("30 10 * * *", RoomSelector::named("^Late").unwrap()));
    chat.world().start();
    chat.advance(minutes(17));
    chat.world().simulator.open_room("Late");
    chat.advance(minutes(14));
    assert_eq!(chat.sent(), ["Late: News"]);
}

#[test]
fn an_announcement_that_names_its_rooms_pulls_no_poll() {
    let polls = |rooms: RoomSelector| {
        let mut chat = chat(PollSettings { rooms: minutes(10), ..PollSettings::default() })
            .announcement(announcement("*/7 * * * *", rooms));
        chat.world().simulator.populate(3);
        chat.world().start();
        chat.advance(hours(2));
        asked(&mut chat, Endpoint::GetRooms).len()
    };
    assert!(polls(RoomSelector::ids([RoomId(1536)])) <= 13);
    assert!(polls(RoomSelector::all()) > 13, "or this test shows nothing");
}

#[test]
fn announcements_every_second_do_not_make_polls_closer_than_a_fifth() {
    let mut chat = chat(PollSettings { rooms: seconds(60), ..PollSettings::default() })
        .announcement(announcement("* * * * * *", RoomSelector::all()));
    chat.world().start();
    chat.advance(minutes(30));
    let distances = distances(&mut chat);
    assert!(distances.iter().all(|apart| *apart >= 11.999), "{distances:?}");
    let mut close = chat_of_one_second();
    close.world().start();
    close.advance(minutes(1));
    assert!(self::distances(&mut close).iter().skip(1).all(|apart| *apart >= 0.999));
}

fn chat_of_one_second() -> Harness {
    chat(rooms_every(seconds(1))).announcement(announcement("* * * * * *", RoomSelector::all()))
}

#[test]
fn users_are_asked_for_only_while_somebody_listens_to_them() {
    let mut deaf = Harness::new()
        .bot("greeter", greeter())
        .with(|settings| settings.poll = PollSettings::default());
    deaf.world().start();
    deaf.advance(hours(1));
    assert_eq!(asked(&mut deaf, Endpoint::GetUsers), Vec::<i64>::new());
    assert!(asked(&mut deaf, Endpoint::GetRooms).len() > 600);
    let mut listening = chat(PollSettings::default());
    listening.world().start();
    listening.advance(hours(1));
    assert!((50..=61).contains(&asked(&mut listening, Endpoint::GetUsers).len()));
    // The bot goes: so do the polls.
    listening.world().settings().bots.clear();
    listening.world().reload();
    listening.advance(seconds(1));
    let before = asked(&mut listening, Endpoint::GetUsers).len();
    listening.advance(hours(1));
    assert_eq!(asked(&mut listening, Endpoint::GetUsers).len(), before);
}

#[test]
fn a_slow_server_is_asked_by_one_poll_at_a_time_also_where_announcements_press() {
    let mut chat = chat(PollSettings { rooms: minutes(2), ..PollSettings::default() })
        .announcement(announcement("* * * * *", RoomSelector::all()));
    chat.world().simulator.populate(2);
    chat.world().simulator.faults().push_spec("get_rooms:late=5s:always").unwrap();
    chat.world().start();
    chat.advance(hours(2));
    let distances = distances(&mut chat);
    // Five seconds for the poll, and never more than a tenth of the time.
    assert!(distances.iter().all(|apart| *apart >= 50.0), "{distances:?}");
}
