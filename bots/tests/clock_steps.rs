//! The real program under a clock that is set while it runs: back, forward, far off and corrected,
//! stopped, and a year's two odd days. The chat keeps true time, as a server does.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]
#![allow(clippy::disallowed_methods, reason = "another process takes real time")]
#![allow(clippy::print_stdout, reason = "what was measured is told")]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use imbabot_core::Timestamp;
use imbabot_store::{DeliveryState, Line, OccurrenceOutcome};
use support::wall::{Wall, truth};
use support::{Chat, Daemon, Home, Signal, assert_holds, end_of, now_micros, wait_for, wait_until};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn schedule(id: &str, rule: &str, room: i64, more: &str) -> String {
    format!(
        "[[schedule]]\nid = \"{id}\"\n{rule}\nrooms = {{ ids = [{room}] }}\n\
         text = \"{{{{ occurrence.id }}}}\"\n{more}\n"
    )
}

/// What became of a schedule's instants, as the ledger has it.
#[derive(Debug, Default)]
struct Told {
    fired: Vec<Timestamp>,
    /// How late each of them was recorded, by the daemon's clock.
    late: Vec<Duration>,
    runs: Vec<(String, Timestamp, Timestamp, u64)>,
}

fn told(home: &Home, key: &str) -> Told {
    let mut told = Told::default();
    for line in home.ledger() {
        match line.line {
            Line::Occurrence(o) if o.schedule == key => match o.outcome {
                OccurrenceOutcome::Fired => {
                    told.fired.push(o.nominal_at);
                    told.late.push(o.recorded_at.since(o.nominal_at));
                }
                _ => {
                    let at = o.nominal_at;
                    told.runs.push((o.reason.unwrap_or_default(), at, at, 1));
                }
            },
            Line::Range(r) if r.schedule == key => {
                told.runs.push((r.reason, r.from, r.to, r.count));
            }
            _ => {}
        }
    }
    told
}

/// Waits until a schedule has fired for an instant after this one.
fn fires_after(home: &Home, key: &str, after: Timestamp) -> Timestamp {
    wait_for(&format!("{key} fires after {}", after.compact()), || {
        told(home, key).fired.into_iter().find(|at| *at > after)
    })
}

fn seconds_between(from: Timestamp, to: Timestamp) -> Vec<Timestamp> {
    (from.as_seconds()..=to.as_seconds()).map(Timestamp::from_seconds).collect()
}

/// The daemon stops; every instant is accounted for once, and nothing was said twice.
#[track_caller]
fn settle(chat: &Chat, home: &Home, daemon: Daemon, room: i64, key: &str, due: Vec<Timestamp>) {
    wait_until("nothing is on its way", || {
        home.deliveries()
            .iter()
            .all(|d| !matches!(d.state, DeliveryState::Queued | DeliveryState::Sending))
    });
    daemon.stop();
    let texts = chat.texts(room);
    let different: BTreeSet<_> = texts.iter().collect();
    assert_eq!(different.len(), texts.len(), "said twice: {texts:?}");
    assert_holds(&home.check(chat).expected(key, due));
    home.imbabot(&["ledger", "verify"]).expect(0);
}

#[test]
fn t9_back_two_hours_and_corrected_repeats_nothing_and_new_instants_fire_at_once() {
    let chat = Chat::open();
    let room = chat.open_room("Hall");
    let tick = schedule("tick", "every = \"1s\"", room, "");
    let home = Home::at(&chat, &tick);
    let mut wall = Wall::new(&home);
    let daemon = wall.start(&home);
    let first = fires_after(&home, "tick", Timestamp::MIN);

    let stepped_at = wall.now();
    wall.back(2 * HOUR);
    daemon.wait_reason("clock_suspect");
    // What was not fired yet does not wait: a message, a new schedule.
    let mut send = home.command(&["send", "--room", &room.to_string(), "--wait", "5s", "by hand"]);
    wall.shown_to(&mut send);
    end_of(send, "").expect(0);
    let late = schedule("late", "every = \"1s\"", room, "");
    home.configure(chat.url(), &format!("{tick}{late}"));
    daemon.signal(Signal::HUP);
    let resumed = fires_after(&home, "late", wall.now());
    fires_after(&home, "late", resumed + Duration::from_secs(1));
    let before = told(&home, "tick");
    assert!(before.fired.iter().all(|at| *at <= stepped_at + Duration::from_secs(1)), "{before:?}");
    assert!(before.runs.is_empty());

    let told = told(&home, "late");
    assert!(told.late.iter().all(|late| *late < Duration::from_secs(2)), "{told:?}");

    wall.forward(2 * HOUR);
    let last = fires_after(&home, "tick", wall.now());
    daemon.wait_ready();
    settle(&chat, &home, daemon, room, "tick", seconds_between(first, last));
}

#[test]
fn t10_forward_two_hours_is_one_range_one_warning_and_firing_goes_on() {
    let chat = Chat::open();
    let room = chat.open_room("Hall");
    let home = Home::at(&chat, &schedule("tick", "every = \"1s\"", room, "overlap = \"allow\""));
    let mut wall = Wall::new(&home);
    let daemon = wall.start(&home);
    let first = fires_after(&home, "tick", Timestamp::MIN);
    wall.forward(2 * HOUR);
    let stepped_to = wall.now();
    let last = fires_after(&home, "tick", stepped_to + Duration::from_secs(1));
    let told = told(&home, "tick");
    // A run for each of the two reasons: what had expired, and what was only late.
    let reasons: Vec<_> = told.runs.iter().map(|run| run.0.as_str()).collect();
    assert_eq!(reasons, ["expired", "misfire"]);
    let missed: u64 = told.runs.iter().map(|run| run.3).sum();
    // The last minute is within the grace.
    assert!((7_130..=7_141).contains(&missed), "{missed}");
    let warnings = daemon.log().lines().filter(|line| line.contains("missed")).count();
    assert_eq!(warnings, 2, "{}", daemon.log());
    settle(&chat, &home, daemon, room, "tick", seconds_between(first, last));
}

#[test]
fn t10_forward_a_year_is_bounded_and_firing_goes_on() {
    let chat = Chat::open();
    let room = chat.open_room("Hall");
    let rule = "every = \"30s\"\nmisfire = \"catch_up\"\ncatch_up_max = 3\noverlap = \"allow\"\ngrace = \"1s\"";
    let home = Home::at(&chat, &schedule("often", rule, room, "[store]\nretention = \"400d\""));
    let mut wall = Wall::new(&home);
    // Shortly before an instant, so that nobody waits for half a minute.
    let half_minute =
        |after: Timestamp| Timestamp::from_seconds((after.as_seconds() / 30 + 1) * 30);
    let first = half_minute(wall.now());
    wall.set(first - Duration::from_millis(1_500), 1);
    let daemon = wall.start(&home);
    fires_after(&home, "often", Timestamp::MIN);
    let to = half_minute(wall.now() + 365 * DAY) - Duration::from_secs(3);
    wall.set(to, 1);
    let last = fires_after(&home, "often", to);
    assert_eq!(last, to + Duration::from_secs(3));
    let told = told(&home, "often");
    assert_eq!(told.fired.len(), 5, "one before, three caught up, one after: {told:?}");
    assert!(told.late.last().unwrap() < &Duration::from_secs(2));
    let missed: u64 = told.runs.iter().map(|run| run.3).sum();
    assert_eq!(missed, 365 * 24 * 120 - 3);
    // Some of the million.
    let due = (0..=365 * 24 * 120_u64)
        .step_by(997)
        .map(|n| first + n.try_into().map(|n: u32| 30 * Duration::from_secs(1) * n).unwrap());
    settle(&chat, &home, daemon, room, "often", due.filter(|at| *at <= last).collect());
}

#[test]
fn t13_a_stop_of_three_seconds_costs_nothing_and_the_next_instant_is_on_time() {
    let chat = Chat::open();
    let room = chat.open_room("Hall");
    let home = Home::at(&chat, &schedule("tick", "every = \"1s\"", room, ""));
    let daemon = home.ready();
    let first = fires_after(&home, "tick", Timestamp::MIN);
    daemon.signal(Signal::STOP);
    std::thread::sleep(Duration::from_secs(3));
    daemon.signal(Signal::CONT);
    let last = fires_after(&home, "tick", truth() + Duration::from_secs(1));
    let told = told(&home, "tick");
    assert!(told.late.last().unwrap() < &Duration::from_millis(900), "{told:?}");
    settle(&chat, &home, daemon, room, "tick", seconds_between(first, last));
}

#[test]
fn a_boot_in_2098_that_is_corrected_while_it_runs_goes_on_from_now_and_says_so() {
    let chat = Chat::open();
    let room = chat.open_room("Hall");
    let home = Home::at(&chat, &schedule("tick", "every = \"1s\"", room, ""));
    let mut wall = Wall::new(&home);
    wall.set(at("2098-01-01T00:00:00Z"), 1);
    let daemon = wall.start(&home);
    fires_after(&home, "tick", at("2098-01-01T00:00:01Z"));
    wall.set(truth(), 1);
    let corrected = truth();
    let first = wait_for("it fires in the present", || {
        told(&home, "tick")
            .fired
            .into_iter()
            .find(|at| *at >= corrected - DAY && *at < corrected + DAY)
    });
    assert!(first.since(corrected) <= Duration::from_secs(5), "{first:?}");
    std::thread::sleep(Duration::from_secs(2));
    daemon.wait_ready();
    assert_eq!(daemon.log().matches("IMB-T-REANCHORED").count(), 1, "{}", daemon.log());
    let last = told(&home, "tick").fired.into_iter().filter(|at| *at < corrected + DAY).max();
    settle(&chat, &home, daemon, room, "tick", seconds_between(first, last.unwrap()));
}

#[test]
fn a_daily_rule_over_both_changes_of_the_clocks_at_a_hundred_times_the_speed() {
    let chat = Chat::open();
    let room = chat.open_room("Hall");
    let rule = "cron = \"30 2 * * *\"\ntimezone = \"Europe/Berlin\"";
    let home = Home::at(&chat, &schedule("night", rule, room, "[store]\nretention = \"400d\""));
    let mut wall = Wall::new(&home);
    wall.set(at("2026-03-28T01:29:00Z"), 1);
    let daemon = wall.start(&home);
    // Half past two in winter, in the gap, in summer; the same in October, where it comes twice.
    let instants = [
        "2026-03-28T01:30:00Z",
        "2026-03-29T01:00:00Z",
        "2026-03-30T00:30:00Z",
        "2026-10-24T00:30:00Z",
        "2026-10-25T00:30:00Z",
        "2026-10-26T01:30:00Z",
    ]
    .map(at);
    for (n, instant) in instants.into_iter().enumerate() {
        wall.set(instant - Duration::from_secs(60), 100);
        wall.reach(instant + Duration::from_secs(30));
        wait_until(&format!("{} is said", instant.compact()), || chat.texts(room).len() > n);
        // Where it would come again: half past two of the other pass, and of winter's time.
        for again in [Duration::from_secs(1_800), HOUR] {
            wall.set(instant + again - Duration::from_secs(20), 100);
            wall.reach(instant + again + Duration::from_secs(40));
        }
    }
    std::thread::sleep(Duration::from_millis(1_200));
    let said: Vec<_> = instants.iter().map(|at| format!("night@{}", at.compact())).collect();
    assert_eq!(chat.texts(room), said);
    let told = told(&home, "night");
    assert_eq!(told.fired, instants);
    // From the last day of March to the one before the second change nobody was there.
    let run = ("expired".to_owned(), at("2026-03-31T00:30:00Z"), at("2026-10-23T00:30:00Z"), 207);
    assert_eq!(told.runs, [run]);
    settle(&chat, &home, daemon, room, "night", instants.to_vec());
}

/// Kills the daemon around an instant of an every-second schedule, once per offset.
fn kills_around_the_instant(offsets: &[i64]) {
    let chat = Chat::open();
    let room = chat.open_room("Hall");
    // Every instant is on time for a minute, so each has to fire.
    let home = Home::at(&chat, &schedule("tick", "every = \"1s\"", room, "expires_after = \"1h\""));
    let daemon = home.ready();
    let first = fires_after(&home, "tick", Timestamp::MIN);
    daemon.kill();
    for offset in offsets {
        let daemon = home.start();
        wait_until("it fires", || daemon.http().get("/livez").is_some());
        let instant = (now_micros() / 1_000_000 + 1) * 1_000_000;
        let instant = if instant - now_micros() < 100_000 { instant + 1_000_000 } else { instant };
        let kill_at = instant + offset * 1_000;
        while now_micros() < kill_at - 2_000 {
            std::thread::sleep(Duration::from_millis(1));
        }
        while now_micros() < kill_at {
            std::hint::spin_loop();
        }
        daemon.kill();
    }
    let daemon = home.ready();
    let last = fires_after(&home, "tick", truth());
    let told = told(&home, "tick");
    let fired: BTreeSet<_> = told.fired.iter().copied().collect();
    let due = seconds_between(first, last);
    assert_eq!(fired.len(), told.fired.len(), "an occurrence was recorded twice");
    assert_eq!(fired, due.iter().copied().collect(), "each second exactly one");
    let deliveries = home.deliveries();
    let unknown = deliveries.iter().filter(|d| d.state == DeliveryState::Unknown).count();
    println!("{} kills, {} occurrences, {unknown} unknown", offsets.len(), due.len());
    settle(&chat, &home, daemon, room, "tick", due);
}

#[test]
fn t14_kill_nine_within_fifty_milliseconds_of_the_instant_makes_exactly_one_occurrence() {
    std::thread::scope(|scope| {
        for lane in 0..2 {
            scope.spawn(move || {
                let offsets: Vec<i64> = (0..10).map(|n| -50 + 10 * n + 5 * lane).collect();
                kills_around_the_instant(&offsets);
            });
        }
    });
}

#[test]
#[ignore = "takes a minute or two"]
fn t14_kill_nine_at_two_hundred_offsets_around_the_instant_makes_exactly_one_occurrence() {
    std::thread::scope(|scope| {
        for lane in 0..4 {
            scope.spawn(move || {
                let offsets: Vec<i64> = (0..50).map(|n| -50 + 2 * n + lane % 2).collect();
                kills_around_the_instant(&offsets);
            });
        }
    });
}

#[test]
fn version_says_which_time_zones_are_built_in() {
    let told = end_of(support::program(&["version", "--verbose", "--json"]), "").expect(0).json();
    let tzdb = told["tzdb"].as_str().unwrap();
    // A year and a letter, as IANA names them.
    let (year, letter) = tzdb.split_at(4);
    assert!(year.parse::<u16>().unwrap() >= 2024 && letter.len() == 1, "{tzdb}");
    let text = end_of(support::program(&["version", "--verbose"]), "").expect(0).stdout;
    assert!(text.contains(&format!("time zones {tzdb}")), "{text}");
}
