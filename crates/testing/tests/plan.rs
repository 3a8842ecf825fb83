//! What is planned is what then happens: for configurations made by a seed, every message that the plan
//! names is recorded, in its room, in its words, under its id, and no other is.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

#[path = "common/announcements.rs"]
mod announcements;
#[path = "../src/random.rs"]
mod random;

use std::collections::BTreeMap;

use announcements::{announcement, schedule};
use futures_executor::block_on;
use imbabot_bot::prelude::*;
use imbabot_bot::schedule::{Dst, Repeat};
use imbabot_bot::{RoomSelector, Schedule, Template};
use imbabot_core::Timestamp;
use imbabot_scheduler::{Announcement, Ask, Clock, Outlook, Planned, plan};
use imbabot_store::Line;
use imbabot_testing::Harness;
use random::Random;

fn ask(from: Timestamp, until: Timestamp) -> Ask {
    Ask { now: from, from, until, count: usize::MAX, only: None }
}

fn planned(chat: &mut Harness, ask: &Ask) -> Vec<Planned> {
    let settings = chat.world().engine().unwrap().settings();
    block_on(plan(&*chat.world().store(), &settings, ask)).unwrap()
}

/// By its id: the occurrence, the room, the text.
type Messages = BTreeMap<String, (String, u64, String)>;

#[test]
fn a_plan_is_what_then_happens() {
    for seed in 0..24 {
        let mut random = Random(seed);
        // A fortnight around a change of clocks somewhere.
        let start =
            random.pick(&["2026-03-07", "2026-03-22", "2026-03-30", "2026-10-01", "2026-10-20"]);
        let mut chat = Harness::new().at(&format!("{start}T11:00:30Z"));
        for n in 0..4 {
            let announcement = announcement(&mut random, &format!("s{n}"));
            chat = chat.announcement(announcement);
        }
        for name in ["Team Blue", "Team Red", "Sales", "Support"] {
            chat.open_room(name);
        }
        chat.poll();
        let from = chat.world().clock.now();
        let until = from + days(14);
        let plan: Messages = planned(&mut chat, &ask(from, until))
            .into_iter()
            .flat_map(|one| {
                let occurrence = one.occurrence;
                one.messages.into_iter().map(move |message| {
                    let id = message.delivery.to_string();
                    (id, (occurrence.clone(), message.room.0, message.text))
                })
            })
            .collect();
        // What the last instants delay by their jitter comes too, and nothing after it counts.
        chat.advance(days(14) + minutes(11));
        let mut happened: Messages = Messages::new();
        for line in chat.world().ledger() {
            if let Line::Delivery(record) = line.line {
                let occurrence = record.occurrence.clone().unwrap();
                let at: Timestamp = occurrence.rsplit_once('@').unwrap().1.parse().unwrap();
                if at <= until {
                    let text = record.text.clone().unwrap();
                    happened.insert(record.id.to_string(), (occurrence, record.room.0, text));
                }
            }
        }
        assert_eq!(plan, happened, "seed {seed}");
        chat.world().check();
    }
}

#[test]
fn a_plan_says_what_clocks_do_to_it() {
    let odd = |id: &str, dst: Dst| {
        let schedule = Schedule::cron(id, "30 2 * * *").unwrap().timezone("Europe/Berlin").unwrap();
        let text = Template::announcement("x").unwrap();
        Announcement::new(schedule.dst(dst), RoomSelector::named("^Team").unwrap(), text)
    };
    let both = Dst { repeat: Repeat::Both, ..Dst::default() };
    let mut chat = Harness::new().at("2026-03-28T12:00:00Z").announcement(odd("nightly", both));
    chat.open_room("Team Blue");
    chat.poll();
    let day = |from: &str, until: &str| ask(from.parse().unwrap(), until.parse().unwrap());
    let told = |chat: &mut Harness, ask: Ask| -> Vec<String> {
        let found = planned(chat, &ask).into_iter();
        found.map(|one| format!("{} {}", one.shown, one.notes.join("; "))).collect()
    };
    assert_eq!(
        told(&mut chat, day("2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z")),
        [
            "2026-03-29 03:00:00 CEST moved by a clock change: its local time does not exist on that day, \
          so it comes right after the gap"
        ]
    );
    assert_eq!(
        told(&mut chat, day("2026-10-24T12:00:00Z", "2026-10-25T12:00:00Z")),
        [
            "2026-10-25 02:30:00 CEST a clock change lets its local time come twice on that day: this \
             is the first pass",
            "2026-10-25 02:30:00 CET a clock change lets its local time come twice on that day: this \
             is the second pass",
        ]
    );
}

#[test]
fn a_plan_warns_where_announcements_meet_and_where_they_cannot_all_be_posted() {
    let daily = |id: &str, minute: u32| {
        let schedule = Schedule::cron(id, &format!("{minute} 9 * * *")).unwrap();
        let schedule = schedule.expires_after(seconds(2));
        let text = Template::announcement("x").unwrap();
        Announcement::new(schedule, RoomSelector::named("^Team").unwrap(), text)
    };
    let mut chat = Harness::new()
        .at("2026-03-02T08:00:00Z")
        .announcement(daily("first", 0))
        .announcement(daily("second", 0))
        .announcement(daily("later", 30))
        .with(|settings| settings.delivery.rate = imbabot_scheduler::Rate::new(1, seconds(1)));
    for n in 0..3 {
        chat.open_room(&format!("Team {n}"));
    }
    chat.poll();
    let found = planned(
        &mut chat,
        &Ask {
            now: "2026-03-02T08:00:00Z".parse().unwrap(),
            from: "2026-03-02T08:00:00Z".parse().unwrap(),
            until: "2026-03-03T08:00:00Z".parse().unwrap(),
            count: 10,
            only: None,
        },
    );
    let warnings: Vec<_> = found.iter().map(|one| one.warnings.clone()).collect();
    assert_eq!(
        warnings[0],
        ["1 of its 3 messages cannot be posted before they expire: the rate is 1/s"]
    );
    assert_eq!(
        warnings[1],
        [
            "meets first in 3 rooms within a minute",
            "3 of its 3 messages cannot be posted before they expire: the rate is 1/s"
        ]
    );
    assert_eq!(
        warnings[2],
        ["1 of its 3 messages cannot be posted before they expire: the rate is 1/s"]
    );
}

/// The next instant of each schedule, as `schedules` shows it.
fn next_of(chat: &mut Harness) -> BTreeMap<String, Timestamp> {
    let settings = chat.world().engine().unwrap().settings();
    let (store, now) = (chat.world().store(), chat.world().clock.now());
    let cursors = block_on(store.cursors()).unwrap();
    let all = settings.announcements.iter().filter_map(|announcement| {
        let schedule = &announcement.schedule;
        let key = schedule.id().as_str();
        let cursor = cursors.iter().find(|cursor| cursor.key == key);
        let outlook = block_on(Outlook::of(&*store, key, schedule, cursor, now)).unwrap();
        Some((key.to_owned(), outlook.next()?.at))
    });
    all.collect()
}

#[test]
fn what_a_schedule_says_of_its_next_instant_is_what_is_planned_and_what_happens() {
    let (mut behind, mut delayed) = (0, 0);
    for seed in 0..12 {
        let mut random = Random(seed);
        let mut chat = Harness::new().at("2026-03-22T11:00:30Z");
        for n in 0..4 {
            let schedule = schedule(&mut random, &format!("s{n}"));
            let rooms = RoomSelector::named("^Team").unwrap();
            let text = Template::announcement("x").unwrap();
            chat = chat.announcement(Announcement::new(schedule, rooms, text));
        }
        chat.open_room("Team Blue");
        chat.poll();
        chat.advance(days(random.below(6)) + minutes(random.below(1_440)));
        // Right after an instant, so that some wait for their jitter.
        if let Some(next) = next_of(&mut chat).into_values().min() {
            let now = chat.world().clock.now();
            chat.advance(next.since(now) + seconds(1));
        }
        let paused = random.below(3) == 0;
        let now = chat.world().clock.now();
        if paused {
            block_on(chat.world().store().pause_schedule(now, "s1", true)).unwrap();
        }
        // Back by hours, by days, or not at all.
        let back = random.pick(&[0, 0, 5, 23, 30, 70]);
        chat.world().clock.set_wall(now - hours(back));
        chat.world().engine().unwrap().wake();
        chat.advance(seconds(2));
        let now = chat.world().clock.now();
        let said = next_of(&mut chat);
        let mut planned: BTreeMap<String, Timestamp> = BTreeMap::new();
        for one in self::planned(&mut chat, &ask(now, now + days(60))) {
            if !one.notes.iter().any(|note| note.contains("except")) {
                planned.entry(one.schedule).or_insert(one.at);
            }
        }
        let near: BTreeMap<_, _> =
            said.clone().into_iter().filter(|(_, at)| *at <= now + days(60)).collect();
        assert_eq!(planned, near, "seed {seed}, at {now}");
        behind += said.values().filter(|at| at.since(now) > days(1)).count();
        delayed += said.values().filter(|at| **at <= now).count();
        let before = chat.world().ledger().last().map_or(0, |line| line.seq);
        chat.advance(days(9));
        let mut happened: BTreeMap<String, Timestamp> = BTreeMap::new();
        for line in chat.world().ledger().into_iter().filter(|line| line.seq > before) {
            if let Line::Occurrence(record) = line.line
                && record.reason.as_deref() != Some("except")
            {
                happened.entry(record.schedule).or_insert(record.nominal_at);
            }
        }
        let soon = now + days(8);
        let said: BTreeMap<_, _> = said.into_iter().filter(|(_, at)| *at <= soon).collect();
        happened.retain(|_, at| *at <= soon);
        assert_eq!(said, happened, "seed {seed}, at {now}, back by {back} h, paused: {paused}");
    }
    assert!(behind > 0 && delayed > 0, "{behind} after a clock that went back, {delayed} delayed");
}

#[test]
fn a_schedule_that_was_edited_and_not_reloaded_is_due_for_nothing_that_is_past() {
    let daily = |hour: u8| Schedule::cron("s", &format!("0 {hour} * * *")).unwrap();
    let mut chat = Harness::new().at("2026-03-02T08:00:00Z").announcement(Announcement::new(
        daily(9),
        RoomSelector::all(),
        Template::announcement("Good morning!").unwrap(),
    ));
    chat.open_room("Hall");
    chat.poll();
    chat.advance(hours(5));
    let (store, now) = (chat.world().store(), chat.world().clock.now());
    let cursors = block_on(store.cursors()).unwrap();
    let outlook = |schedule: &Schedule| {
        let found = block_on(Outlook::of(&*store, "s", schedule, cursors.first(), now)).unwrap();
        (found.overdue(), found.next().map(|next| next.at.compact()))
    };
    let tomorrow = |hour: u8| Some(format!("2026-03-03T{hour:02}:00:00Z"));
    assert_eq!(outlook(&daily(9)), (None, tomorrow(9)));
    assert_eq!(outlook(&daily(12)), (None, tomorrow(12)));
}
