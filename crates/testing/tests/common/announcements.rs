//! Announcements made by a seed: odd hours, odd zones, around the days on which clocks change.

use std::time::Duration;

use imbabot_bot::prelude::*;
use imbabot_bot::schedule::{Dst, Gap, Overlap, Repeat};
use imbabot_bot::{RoomSelector, Schedule, Template};
use imbabot_scheduler::Announcement;

use crate::random::Random;

const ZONES: [&str; 8] = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "America/Asuncion",
    "Asia/Kathmandu",
    "Antarctica/Troll",
    "UTC",
];

pub(crate) fn schedule(random: &mut Random, id: &str) -> Schedule {
    let minute = random.below(60);
    let hour = random.pick(&[0, 1, 2, 2, 2, 3, 9, 23]);
    let schedule = match random.below(5) {
        0 => Schedule::cron(id, &format!("{minute} {hour} * * *")),
        1 => Schedule::cron(id, &format!("{minute} {hour} * * MON-FRI")),
        2 => Schedule::cron(id, &format!("{minute} */6 * * *")),
        3 => Schedule::cron(id, &format!("{minute} {hour} 1,15,29 * SUN")),
        _ => Schedule::every(id, Duration::from_secs(3_600 * (3 + random.below(20)))),
    };
    let schedule = schedule.unwrap().timezone(random.pick(&ZONES)).unwrap();
    let dst = Dst {
        gap: random.pick(&[Gap::Shift, Gap::Skip]),
        repeat: random.pick(&[Repeat::First, Repeat::Second, Repeat::Both]),
    };
    let schedule = schedule.dst(dst).overlap(Overlap::Allow);
    let schedule = if random.below(3) == 0 { schedule.jitter(minutes(10)) } else { schedule };
    if random.below(3) == 0 {
        schedule.except(["2026-03-29", "2026-10-25", "2026-11-01"]).unwrap()
    } else {
        schedule
    }
}

pub(crate) fn announcement(random: &mut Random, id: &str) -> Announcement {
    let rooms = random.pick(&["^Team", "^Sales", "Blue$", "Nobody"]);
    let text = random
        .pick(&["{{ room.name }}: it is {{ occurrence.at }}", "Hello from {{ schedule.id }}"]);
    Announcement::new(
        schedule(random, id),
        RoomSelector::named(rooms).unwrap(),
        Template::announcement(text).unwrap(),
    )
}
