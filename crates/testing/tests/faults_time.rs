//! Clocks that jump, hosts that sleep, daemons that are killed at the instant: what is due comes once
//! or is accounted for, and firing goes on.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]
#![allow(clippy::print_stdout, reason = "what was measured is told")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_executor::block_on;
use imbabot_bot::prelude::*;
use imbabot_bot::schedule::{Misfire, Overlap};
use imbabot_bot::{RoomSelector, Schedule, Template};
use imbabot_core::Timestamp;
use imbabot_scheduler::{
    Announcement, Clock, Engine, Inline, NotReady, Parts, Rate, Settings, SystemClock,
    WidgetSettings,
};
use imbabot_store::{
    Bodies, DeliveryState, ErrorKind, Ledger, Line, OccurrenceOutcome, Role, SqliteStore, Store,
};
use imbabot_testing::{Check, FlakyStore, Harness, SimTransport};

/// The number of the first room that is opened.
const FIRST: RoomId = RoomId(1536);

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn cron(id: &str, expression: &str) -> Schedule {
    Schedule::cron(id, expression).unwrap()
}

/// Says which occurrence it is, to rooms that are known by their numbers: no list is waited for.
fn to_first_room(schedule: Schedule) -> Announcement {
    to_rooms(schedule, RoomSelector::ids([FIRST]))
}

fn to_rooms(schedule: Schedule, rooms: RoomSelector) -> Announcement {
    Announcement::new(schedule, rooms, Template::announcement("{{ occurrence.id }}").unwrap())
}

/// A chat with one room, at the usual rate, that begins at this instant.
fn chat_at(start: &str, schedules: impl IntoIterator<Item = Schedule>) -> Harness {
    let mut chat = Harness::new().at(start).with(|settings| {
        settings.delivery.rate = Rate::new(10, seconds(1));
        settings.delivery.rate_per_room = Rate::new(10, seconds(1));
    });
    for schedule in schedules {
        chat = chat.announcement(to_first_room(schedule));
    }
    chat.world().simulator.open_room("Hall");
    chat.poll();
    chat
}

fn set_wall(chat: &mut Harness, to: Timestamp) {
    chat.world().clock.set_wall(to);
    chat.world().step();
}

fn now(chat: &mut Harness) -> Timestamp {
    chat.world().clock.now()
}

fn reasons(chat: &mut Harness) -> Vec<NotReady> {
    chat.world().engine().unwrap().reasons()
}

/// Every `period` from the first to the last, both counted.
fn every(first: &str, last: &str, period: Duration) -> Vec<Timestamp> {
    let last = at(last);
    std::iter::successors(Some(at(first)), |one| Some(*one + period))
        .take_while(|one| *one <= last)
        .collect()
}

/// The occurrences that were said, in order, without the name of the room.
fn said(chat: &Harness) -> Vec<String> {
    chat.sent().into_iter().map(|line| line.split_once(": ").unwrap().1.to_owned()).collect()
}

/// What became of the instants of a schedule, in the order in which it was recorded.
fn recorded(chat: &mut Harness, key: &str) -> Vec<String> {
    let line = |line| match line {
        Line::Occurrence(o) if o.schedule == key => {
            let reason = o.reason.map(|reason| format!("({reason})")).unwrap_or_default();
            Some(format!("{}{reason} {}", o.outcome, o.nominal_at.compact()))
        }
        Line::Range(r) if r.schedule == key => {
            let (from, to) = (r.from.compact(), r.to.compact());
            Some(format!("{}({}) {from}..{to} x{}", r.outcome, r.reason, r.count))
        }
        _ => None,
    };
    chat.world().ledger().into_iter().filter_map(|l| line(l.line)).collect()
}

/// How late each occurrence that fired was recorded.
fn lateness(chat: &mut Harness, key: &str) -> BTreeMap<String, Duration> {
    let late = |line| match line {
        Line::Occurrence(o) if o.schedule == key && o.outcome == OccurrenceOutcome::Fired => {
            Some((o.nominal_at.compact(), o.recorded_at.since(o.nominal_at)))
        }
        _ => None,
    };
    chat.world().ledger().into_iter().filter_map(|l| late(l.line)).collect()
}

/// All invariants hold, and each of these instants is accounted for exactly once.
#[track_caller]
fn accounted(chat: &mut Harness, key: &str, instants: impl IntoIterator<Item = Timestamp>) {
    chat.world().check();
    let world = chat.world();
    let check = Check::new()
        .requests(world.simulator.log().iter().map(Into::into))
        .ledger(world.ledger())
        .expected(key, instants);
    assert_eq!(check.run(), []);
}

// --- T9: the clock goes back -------------------------------------------------------------------

#[test]
fn t9_two_hours_back_repeat_nothing_and_what_comes_after_fires_on_time() {
    let hourly = cron("hourly", "0 * * * *");
    let noon = cron("noon", "0 12 * * *");
    let mut chat = chat_at("2026-03-02T09:30:00Z", [hourly, noon, cron("one", "0 13 * * *")]);
    chat.advance(hours(2) + minutes(30) + seconds(30));
    let before = ["hourly@2026-03-02T10:00:00Z", "hourly@2026-03-02T11:00:00Z"];
    let noon = ["hourly@2026-03-02T12:00:00Z", "noon@2026-03-02T12:00:00Z"];
    assert_eq!(said(&chat), [before, noon].concat());
    assert!(reasons(&mut chat).is_empty());

    set_wall(&mut chat, at("2026-03-02T10:00:30Z"));
    assert_eq!(reasons(&mut chat), [NotReady::ClockSuspect], "nothing fires for two hours");
    // A new schedule, and whatever else was not yet fired, does not wait for anything.
    let quarter = cron("quarter", "15 * * * *");
    chat.world().settings().announcements.push(Arc::new(to_first_room(quarter)));
    chat.world().reload();
    chat.advance(minutes(20));
    assert_eq!(said(&chat)[4..], ["quarter@2026-03-02T10:15:00Z"]);
    assert_eq!(lateness(&mut chat, "quarter")["2026-03-02T10:15:00Z"], Duration::ZERO);

    chat.advance(hours(1) + minutes(39));
    assert_eq!(reasons(&mut chat), [NotReady::ClockSuspect]);
    assert_eq!(said(&chat)[5..], ["quarter@2026-03-02T11:15:00Z"], "nothing came again");
    chat.advance(minutes(1));
    assert!(reasons(&mut chat).is_empty(), "the clock has reached what had fired");
    chat.advance(hours(1) + minutes(5));
    let mut after = said(&chat).split_off(6);
    after.sort();
    let late = "hourly@2026-03-02T13:00:00Z";
    assert_eq!(after, [late, "one@2026-03-02T13:00:00Z", "quarter@2026-03-02T12:15:00Z"]);
    for key in ["hourly", "one"] {
        assert_eq!(lateness(&mut chat, key)["2026-03-02T13:00:00Z"], Duration::ZERO);
    }
    accounted(&mut chat, "hourly", every("2026-03-02T10:00:00Z", "2026-03-02T13:00:00Z", hours(1)));
}

#[test]
fn t9_a_clock_that_goes_back_over_the_change_of_clocks_repeats_nothing() {
    let standup = cron("standup", "0 9 * * MON-FRI").timezone("Europe/Berlin").unwrap();
    let mut chat = chat_at("2026-03-27T18:00:00Z", [standup]);
    chat.advance(hours(61) + minutes(1));
    assert_eq!(said(&chat), ["standup@2026-03-30T07:00:00Z"]);
    set_wall(&mut chat, at("2026-03-30T05:00:00Z"));
    chat.advance(hours(3));
    assert_eq!(said(&chat).len(), 1);
    chat.advance(hours(24));
    assert_eq!(said(&chat).len(), 2);
    accounted(&mut chat, "standup", [at("2026-03-30T07:00:00Z"), at("2026-03-31T07:00:00Z")]);
}

#[test]
fn t9_thirty_days_back_are_no_longer_believed_and_firing_goes_on_within_the_hour() {
    let mut chat = chat_at("2026-03-02T09:30:00Z", [cron("hourly", "0 * * * *")]);
    chat.advance(hours(3));
    assert_eq!(said(&chat).len(), 3);
    set_wall(&mut chat, at("2026-01-31T12:30:00Z"));
    assert!(reasons(&mut chat).is_empty(), "it goes on from now");
    chat.advance(hours(2));
    assert_eq!(said(&chat)[3..], ["hourly@2026-01-31T13:00:00Z", "hourly@2026-01-31T14:00:00Z"]);
    accounted(&mut chat, "hourly", every("2026-01-31T13:00:00Z", "2026-01-31T14:00:00Z", hours(1)));
    accounted(&mut chat, "hourly", every("2026-03-02T10:00:00Z", "2026-03-02T12:00:00Z", hours(1)));
}

#[test]
fn t9_a_clock_that_went_thirty_days_back_and_is_corrected_neither_repeats_nor_recounts() {
    let hourly = cron("hourly", "0 * * * *").expires_after(hours(2));
    let mut chat = chat_at("2026-03-02T09:30:00Z", [hourly]);
    chat.advance(hours(3));
    set_wall(&mut chat, at("2026-01-31T12:30:00Z"));
    chat.advance(hours(2));
    assert_eq!(said(&chat).len(), 5);
    // Ten past: had the instant of twelve not been said under the first clock, it would come now.
    set_wall(&mut chat, at("2026-03-02T12:10:00Z"));
    chat.advance(hours(2));
    assert_eq!(said(&chat)[5..], ["hourly@2026-03-02T13:00:00Z", "hourly@2026-03-02T14:00:00Z"]);
    accounted(&mut chat, "hourly", every("2026-01-31T13:00:00Z", "2026-03-02T14:00:00Z", hours(1)));
    let fired =
        |outcome| format!("imbabot_occurrences_total{{schedule=\"hourly\",outcome=\"{outcome}\"}}");
    let metrics = chat.world().metrics();
    assert!(metrics.contains(&format!("{} 7\n", fired("fired"))), "{metrics}");
}

#[test]
fn t9_what_waits_by_the_clock_that_went_back_is_still_sent_and_still_expires() {
    let mut chat = chat_at("2026-03-02T11:59:00Z", [cron("hourly", "0 * * * *")]);
    chat.world().simulator.faults().push_spec("send_msg:refuse:always").unwrap();
    chat.advance(minutes(1) + seconds(10));
    assert!(said(&chat).is_empty());
    set_wall(&mut chat, at("2026-03-02T10:00:10Z"));
    chat.world().simulator.faults().clear();
    chat.poll();
    chat.advance(hours(2) + minutes(5));
    assert_eq!(said(&chat), ["hourly@2026-03-02T12:00:00Z"], "by its expiry at the latest");
    accounted(&mut chat, "hourly", [at("2026-03-02T12:00:00Z")]);
}

#[test]
fn a_schedule_that_fired_in_2098_goes_on_from_now_when_the_clock_is_corrected() {
    let mut chat = chat_at("2098-06-01T00:00:00Z", [cron("often", "*/5 * * * *")]);
    chat.advance(minutes(11));
    assert_eq!(said(&chat).len(), 2);
    set_wall(&mut chat, at("2026-03-02T10:01:00Z"));
    chat.advance(minutes(10));
    assert_eq!(said(&chat)[2..], ["often@2026-03-02T10:05:00Z", "often@2026-03-02T10:10:00Z"]);
    assert!(reasons(&mut chat).is_empty());
    accounted(
        &mut chat,
        "often",
        every("2026-03-02T10:05:00Z", "2026-03-02T10:10:00Z", minutes(5)),
    );
}

#[test]
fn a_schedule_that_fired_in_2098_goes_on_from_now_also_over_a_restart() {
    let mut chat = chat_at("2098-06-01T00:00:00Z", [cron("often", "*/5 * * * *")]);
    chat.advance(minutes(11));
    chat.world().crash();
    set_wall(&mut chat, at("2026-03-02T10:01:00Z"));
    chat.world().start();
    chat.advance(minutes(10));
    assert_eq!(said(&chat)[2..], ["often@2026-03-02T10:05:00Z", "often@2026-03-02T10:10:00Z"]);
    accounted(
        &mut chat,
        "often",
        every("2026-03-02T10:05:00Z", "2026-03-02T10:10:00Z", minutes(5)),
    );
}

#[test]
fn a_run_that_was_left_out_up_to_2098_ends_at_the_corrected_now() {
    for restart in [false, true] {
        let mut chat = chat_at("2026-03-02T11:30:00Z", [cron("hourly", "0 * * * *")]);
        chat.advance(hours(1));
        set_wall(&mut chat, at("2098-06-01T00:30:00Z"));
        chat.advance(minutes(1));
        let run = "missed(expired) 2026-03-02T13:00:00Z..2098-05-31T23:00:00Z x633323";
        let records = recorded(&mut chat, "hourly");
        assert!(records.contains(&run.to_owned()), "{records:?}");
        if restart {
            chat.world().crash();
        }
        set_wall(&mut chat, at("2026-03-02T15:30:00Z"));
        if restart {
            chat.world().start();
        }
        chat.advance(hours(2));
        let run = "missed(expired) 2026-03-02T13:00:00Z..2026-03-02T15:00:00Z x3";
        let records = recorded(&mut chat, "hourly");
        assert!(records.contains(&run.to_owned()), "{records:?}");
        let instants = every("2026-03-02T12:00:00Z", "2026-03-02T17:00:00Z", hours(1));
        accounted(&mut chat, "hourly", instants);
        let fired: Vec<String> =
            said(&chat).into_iter().filter(|one| one.contains("@2026")).collect();
        let expected = ["12", "16", "17"].map(|hour| format!("hourly@2026-03-02T{hour}:00:00Z"));
        assert_eq!(fired, expected);
    }
}

#[test]
fn what_is_left_out_beside_what_fires_is_told_instant_by_instant() {
    // Down over a day that is left out by `except`: what is missed lies before and behind it.
    let week = days(7);
    let hourly = cron("hourly", "0 * * * *").expires_after(week).except(["2026-03-03"]).unwrap();
    let daily = cron("daily", "0 9 * * *").expires_after(week);
    let daily = daily.except(["2026-03-03", "2026-03-05"]).unwrap();
    let mut chat = chat_at("2026-03-02T10:05:00Z", [hourly, daily]);
    chat.world().crash();
    set_wall(&mut chat, at("2026-03-05T12:30:00Z"));
    chat.world().start();
    chat.advance(seconds(3));
    // The check holds the records against each other, too.
    accounted(&mut chat, "hourly", every("2026-03-02T11:00:00Z", "2026-03-05T12:00:00Z", hours(1)));
    accounted(&mut chat, "daily", every("2026-03-03T09:00:00Z", "2026-03-05T09:00:00Z", days(1)));
    assert!(said(&chat).contains(&"daily@2026-03-04T09:00:00Z".to_owned()), "{:?}", said(&chat));
}

#[test]
fn an_instant_that_was_skipped_under_a_clock_far_ahead_fires_when_it_comes() {
    let mut chat = chat_at("2026-03-02T10:05:00Z", [cron("noon", "0 12 * * *")]);
    let pause = |chat: &mut Harness, paused| {
        let now = now(chat);
        let store = chat.world().store();
        assert!(block_on(store.pause_schedule(now, "noon", paused)).unwrap());
        chat.world().engine().unwrap().wake();
        chat.world().step();
    };
    pause(&mut chat, true);
    for wall in ["2026-03-04T11:59:00Z", "2026-03-04T12:00:01Z", "2026-03-02T10:05:10Z"] {
        set_wall(&mut chat, at(wall));
        chat.advance(seconds(2));
    }
    pause(&mut chat, false);
    chat.advance(days(2) + hours(3));
    let expected = ["02", "03", "04"].map(|day| format!("noon@2026-03-{day}T12:00:00Z"));
    assert_eq!(said(&chat), expected);
    accounted(&mut chat, "noon", every("2026-03-02T12:00:00Z", "2026-03-04T12:00:00Z", days(1)));
}

#[test]
fn a_run_that_is_shortened_under_an_edited_rule_never_grows() {
    let mut chat = chat_at("2026-03-02T10:05:00Z", [cron("s", "0 * * * *")]);
    chat.world().crash();
    set_wall(&mut chat, at("2026-03-06T10:30:00Z"));
    chat.world().start();
    chat.advance(seconds(3));
    chat.world().crash();
    set_wall(&mut chat, at("2026-03-03T10:00:00Z"));
    let edited = Arc::new(to_first_room(cron("s", "* * * * *")));
    chat.world().settings().announcements = vec![edited];
    chat.world().start();
    chat.advance(seconds(3));
    chat.world().check();
}

// --- T10: the clock goes forward ---------------------------------------------------------------

/// An hourly schedule, and a clock that jumps at half past twelve.
fn jumped(to: &str, misfire: Misfire) -> Harness {
    let years = days(3 * 366);
    let hourly =
        cron("hourly", "0 * * * *").misfire(misfire).overlap(Overlap::Allow).expires_after(years);
    let mut chat = chat_at("2026-03-02T11:30:00Z", [hourly]);
    chat.advance(hours(1));
    assert_eq!(said(&chat), ["hourly@2026-03-02T12:00:00Z"]);
    set_wall(&mut chat, at(to));
    chat.advance(minutes(10));
    let last = now(&mut chat);
    let rooms = recorded(&mut chat, "hourly").len();
    assert!(rooms <= 12, "{rooms} records for one jump");
    accounted(&mut chat, "hourly", every("2026-03-02T12:00:00Z", &last.compact(), hours(1)));
    chat
}

#[test]
fn t10_two_hours_forward_follow_the_misfire_rule() {
    let to = "2026-03-02T14:30:00Z";
    let first = "fired 2026-03-02T12:00:00Z".to_owned();
    let mut skip = jumped(to, Misfire::Skip);
    let missed = "missed(misfire) 2026-03-02T13:00:00Z..2026-03-02T14:00:00Z x2".to_owned();
    assert_eq!(recorded(&mut skip, "hourly"), [first.clone(), missed]);
    let mut once = jumped(to, Misfire::FireOnce);
    let expected = ["fired 2026-03-02T14:00:00Z", "missed(misfire) 2026-03-02T13:00:00Z"];
    assert_eq!(recorded(&mut once, "hourly")[1..], expected);
    let mut all = jumped(to, Misfire::CatchUp);
    let expected = ["fired 2026-03-02T13:00:00Z", "fired 2026-03-02T14:00:00Z"];
    assert_eq!(recorded(&mut all, "hourly")[1..], expected);
    for (chat, says) in [(&mut skip, 1), (&mut once, 2), (&mut all, 3)] {
        assert_eq!(said(chat).len(), says);
        chat.advance(minutes(20));
        assert_eq!(said(chat).last().unwrap(), "hourly@2026-03-02T15:00:00Z");
        assert_eq!(lateness(chat, "hourly")["2026-03-02T15:00:00Z"], Duration::ZERO);
        assert_eq!(said(chat).len(), says + 1);
    }
}

#[test]
fn t10_a_year_forward_is_one_range_and_no_more_than_the_bound() {
    let to = "2027-03-02T12:30:00Z";
    let mut skip = jumped(to, Misfire::Skip);
    let missed = "missed(misfire) 2026-03-02T13:00:00Z..2027-03-02T12:00:00Z x8760".to_owned();
    assert_eq!(recorded(&mut skip, "hourly")[1..], [missed]);
    let mut once = jumped(to, Misfire::FireOnce);
    let missed = "missed(misfire) 2026-03-02T13:00:00Z..2027-03-02T11:00:00Z x8759";
    assert_eq!(recorded(&mut once, "hourly")[1..], ["fired 2027-03-02T12:00:00Z", missed]);
    let mut some = jumped(to, Misfire::CatchUp);
    let recorded = recorded(&mut some, "hourly");
    let missed = "missed(misfire) 2026-03-02T13:00:00Z..2027-03-02T02:00:00Z x8750";
    assert_eq!(recorded[11], missed);
    let caught_up: Vec<_> =
        (3..=12).map(|hour| format!("hourly@2027-03-02T{hour:02}:00:00Z")).collect();
    assert_eq!(said(&some)[1..], caught_up, "the latest ten, in order");
}

#[test]
fn t10_a_year_forward_and_back_again_takes_back_what_is_still_to_come() {
    let mut chat = jumped("2027-03-02T12:30:00Z", Misfire::FireOnce);
    set_wall(&mut chat, at("2026-03-02T12:50:00Z"));
    chat.advance(hours(2) + minutes(5));
    // It was recorded as missed, under a clock that is no longer believed.
    let expected = ["hourly@2026-03-02T13:00:00Z", "hourly@2026-03-02T14:00:00Z"];
    assert_eq!(said(&chat)[2..], expected);
    accounted(&mut chat, "hourly", every("2026-03-02T12:00:00Z", "2026-03-02T14:00:00Z", hours(1)));
    assert_eq!(block_on(chat.world().store().cursors()).unwrap()[0].missed, 0);
}

#[test]
fn t10_past_its_expiry_nothing_is_said_under_any_rule() {
    for misfire in [Misfire::Skip, Misfire::FireOnce, Misfire::CatchUp] {
        let daily = cron("daily", "0 9 * * *").misfire(misfire);
        let mut chat = chat_at("2026-03-02T08:00:00Z", [daily]);
        chat.advance(hours(2));
        set_wall(&mut chat, at("2027-03-02T10:30:00Z"));
        chat.advance(minutes(5));
        assert_eq!(said(&chat), ["daily@2026-03-02T09:00:00Z"]);
        let missed = "missed(expired) 2026-03-03T09:00:00Z..2027-03-02T09:00:00Z x365";
        assert_eq!(recorded(&mut chat, "daily")[1..], [missed]);
        accounted(
            &mut chat,
            "daily",
            every("2026-03-02T09:00:00Z", "2027-03-02T09:00:00Z", days(1)),
        );
    }
}

// --- T12: the host sleeps ----------------------------------------------------------------------

#[test]
fn t12_after_eight_hours_of_sleep_lists_are_polled_at_once_and_misfires_are_told() {
    let nine = cron("nine", "0 9 * * *");
    let five = cron("five", "30 4 * * *");
    let mut chat = chat_at("2026-03-02T00:00:00Z", [nine, five])
        .with(|settings| settings.poll.rooms = hours(6));
    chat.world().reload();
    chat.poll();
    chat.advance(hours(1) + minutes(30));
    let polls = |chat: &mut Harness| {
        let asked = |entry: &imbabot_simulator::LogEntry| {
            entry.endpoint == Some(imbabot_simulator::Endpoint::GetRooms)
        };
        chat.world().simulator.log().iter().filter(|entry| asked(entry)).count()
    };
    let before = polls(&mut chat);
    // Nothing elapses for a process while its host sleeps; the wall goes on.
    set_wall(&mut chat, at("2026-03-02T09:30:00Z"));
    assert_eq!(polls(&mut chat), before + 1, "at once");
    chat.advance(seconds(10));
    assert_eq!(said(&chat), ["nine@2026-03-02T09:00:00Z"], "within its hour");
    assert_eq!(recorded(&mut chat, "five"), ["missed(expired) 2026-03-02T04:30:00Z"]);
    accounted(&mut chat, "five", [at("2026-03-02T04:30:00Z")]);
    accounted(&mut chat, "nine", [at("2026-03-02T09:00:00Z")]);
}

// --- T14, T15: kills and restarts --------------------------------------------------------------

#[test]
fn t14_a_kill_within_fifty_milliseconds_of_the_instant_makes_exactly_one_occurrence_of_200() {
    let often = cron("often", "*/5 * * * *");
    let mut chat = chat_at("2026-03-02T00:01:00Z", [often]);
    // An answer takes its time, so that kills also fall between request and answer.
    chat.world().simulator.faults().push_spec("send_msg:late=20ms:always").unwrap();
    let mut instant = at("2026-03-02T00:05:00Z");
    let mut instants = Vec::new();
    for offset in 0..200_u64 {
        // From -50 ms to +49.5 ms.
        let kill_at = instant - ms(50) + Duration::from_micros(500 * offset);
        let now = now(&mut chat);
        chat.advance(kill_at.since(now));
        chat.world().crash();
        // Down for a moment, so that some instants come while nobody runs.
        chat.world().clock.advance(ms(7));
        chat.world().start();
        instants.push(instant);
        instant = instant + minutes(5);
    }
    chat.advance(minutes(2));
    let occurrences: BTreeSet<_> = recorded(&mut chat, "often").into_iter().collect();
    let expected: BTreeSet<_> =
        instants.iter().map(|at| format!("fired {}", at.compact())).collect();
    assert_eq!(occurrences, expected);
    assert_eq!(recorded(&mut chat, "often").len(), 200);
    let deliveries = chat.deliveries();
    assert_eq!(deliveries.len(), 200);
    let unknown = deliveries.iter().filter(|d| d.state == DeliveryState::Unknown).count();
    assert!(unknown > 20, "kills fell between request and answer: {unknown}");
    let times: BTreeSet<_> = said(&chat).into_iter().collect();
    assert_eq!(times.len(), said(&chat).len(), "nothing twice");
    accounted(&mut chat, "often", instants);
}

#[test]
fn t15_restarts_every_ten_seconds_for_half_an_hour_lose_no_instant() {
    let often = cron("often", "*/5 * * * *");
    let weekly = cron("weekly", "15 10 * * MON");
    let mut chat = chat_at("2026-03-02T10:00:03Z", [often, weekly]);
    for n in 0..180 {
        chat.advance(seconds(10));
        if n % 2 == 0 {
            chat.world().crash();
        } else {
            chat.world().stop(ms(100));
        }
        chat.world().start();
    }
    chat.advance(seconds(1));
    let often = every("2026-03-02T10:05:00Z", "2026-03-02T10:30:00Z", minutes(5));
    let mut expected: Vec<_> = often.iter().map(|at| format!("often@{}", at.compact())).collect();
    expected.push("weekly@2026-03-02T10:15:00Z".into());
    let mut said = said(&chat);
    said.sort();
    expected.sort();
    assert_eq!(said, expected);
    accounted(&mut chat, "often", often);
    accounted(&mut chat, "weekly", [at("2026-03-02T10:15:00Z")]);
}

// --- T16: changes at the instant ---------------------------------------------------------------

/// Two milliseconds after the hour, before anybody looked, new announcements come into force.
fn changed_at_the_instant(to: Vec<Announcement>) -> Harness {
    let mut chat = chat_at("2026-03-02T09:00:30Z", [cron("hourly", "0 * * * *")]);
    chat.advance(minutes(59) + seconds(30) - ms(1));
    chat.world().clock.advance(ms(3));
    chat.world().settings().announcements = to.into_iter().map(Arc::new).collect();
    chat.world().reload();
    chat.advance(seconds(10));
    chat
}

#[test]
fn t16_an_edit_at_the_instant_fires_what_was_due_under_the_old_rule_once() {
    let edited = to_first_room(cron("hourly", "30 * * * *"));
    let mut chat = changed_at_the_instant(vec![edited]);
    assert_eq!(said(&chat), ["hourly@2026-03-02T10:00:00Z"]);
    chat.advance(hours(1));
    assert_eq!(said(&chat)[1..], ["hourly@2026-03-02T10:30:00Z"]);
    accounted(&mut chat, "hourly", [at("2026-03-02T10:00:00Z"), at("2026-03-02T10:30:00Z")]);
}

#[test]
fn t16_an_edit_to_a_rule_that_was_due_a_moment_ago_does_not_fire_at_once() {
    let edited = to_first_room(cron("hourly", "*/5 * * * *"));
    let mut chat = changed_at_the_instant(vec![edited]);
    assert_eq!(said(&chat), ["hourly@2026-03-02T10:00:00Z"], "once, not once per rule");
    chat.advance(minutes(5));
    assert_eq!(said(&chat).len(), 2);
    accounted(&mut chat, "hourly", [at("2026-03-02T10:00:00Z"), at("2026-03-02T10:05:00Z")]);
}

#[test]
fn t16_an_edit_of_the_text_at_the_instant_keeps_its_place() {
    let mut edited = to_first_room(cron("hourly", "0 * * * *"));
    edited.text = Template::announcement("anew").unwrap();
    let mut chat = changed_at_the_instant(vec![edited]);
    assert_eq!(said(&chat), ["hourly@2026-03-02T10:00:00Z"]);
    chat.advance(hours(1));
    assert_eq!(said(&chat)[1..], ["anew"]);
    accounted(&mut chat, "hourly", [at("2026-03-02T10:00:00Z"), at("2026-03-02T11:00:00Z")]);
}

#[test]
fn t16_a_new_name_at_the_instant_says_it_once_under_the_old_one() {
    let renamed = to_first_room(cron("renamed", "0 * * * *"));
    let mut chat = changed_at_the_instant(vec![renamed]);
    // What a removed schedule had queued is taken back if it has not left yet.
    let said_before = said(&chat);
    assert!(said_before.iter().all(|one| one == "hourly@2026-03-02T10:00:00Z"));
    assert!(said_before.len() <= 1);
    assert_eq!(recorded(&mut chat, "renamed"), Vec::<String>::new(), "it starts now");
    chat.advance(hours(1));
    assert_eq!(said(&chat)[said_before.len()..], ["renamed@2026-03-02T11:00:00Z"]);
    accounted(&mut chat, "hourly", [at("2026-03-02T10:00:00Z")]);
    accounted(&mut chat, "renamed", [at("2026-03-02T11:00:00Z")]);
}

#[test]
fn t16_disabled_at_the_instant_and_enabled_at_the_next_one_fires_nothing_at_once() {
    let mut off = to_first_room(cron("hourly", "0 * * * *"));
    off.enabled = false;
    let mut chat = changed_at_the_instant(vec![off]);
    assert!(said(&chat).iter().all(|one| one == "hourly@2026-03-02T10:00:00Z"));
    let before = said(&chat).len();
    chat.advance(hours(1) - seconds(10));
    // Eleven has passed while it was off.
    assert!(now(&mut chat) >= at("2026-03-02T11:00:00Z"));
    Arc::make_mut(&mut chat.world().settings().announcements[0]).enabled = true;
    chat.world().reload();
    chat.advance(minutes(50));
    assert_eq!(said(&chat).len(), before, "nothing is backfilled");
    chat.advance(minutes(10));
    assert_eq!(said(&chat)[before..], ["hourly@2026-03-02T12:00:00Z"]);
    accounted(&mut chat, "hourly", [at("2026-03-02T10:00:00Z"), at("2026-03-02T12:00:00Z")]);
}

#[test]
fn t16_off_and_on_again_within_the_instant_says_it_at_most_once() {
    for pause in [0, 1, 5, 50] {
        let mut off = to_first_room(cron("hourly", "0 * * * *"));
        off.enabled = false;
        let mut chat = chat_at("2026-03-02T09:00:30Z", [cron("hourly", "0 * * * *")]);
        chat.advance(minutes(59) + seconds(30) - ms(1));
        chat.world().settings().announcements = vec![Arc::new(off)];
        chat.world().reload();
        chat.world().clock.advance(ms(1 + pause));
        Arc::make_mut(&mut chat.world().settings().announcements[0]).enabled = true;
        chat.world().reload();
        chat.advance(minutes(1));
        assert_eq!(said(&chat), Vec::<String>::new(), "off at the instant, on after {pause} ms");
        chat.advance(hours(1));
        assert_eq!(said(&chat), ["hourly@2026-03-02T11:00:00Z"]);
        accounted(&mut chat, "hourly", [at("2026-03-02T11:00:00Z")]);
    }
}

// --- T18: thousands in one second --------------------------------------------------------------

fn thousands(count: usize, instant: &str) -> Vec<Arc<Announcement>> {
    let one = |n| Schedule::at(&format!("s{n}"), instant).unwrap();
    (0..count).map(|n| Arc::new(to_first_room(one(n)))).collect()
}

#[test]
fn t18_five_thousand_schedules_in_one_second_fire_once_each() {
    let mut chat = Harness::new().at("2026-03-02T10:00:00Z");
    chat.world().settings().announcements = thousands(5_000, "2026-03-02T10:00:05");
    chat.world().simulator.open_room("Hall");
    chat.poll();
    chat.advance(seconds(5));
    let fired: BTreeSet<_> = chat
        .world()
        .ledger()
        .into_iter()
        .filter_map(|line| match line.line {
            Line::Occurrence(o) => Some((o.schedule, o.outcome, o.recorded_at)),
            _ => None,
        })
        .collect();
    assert_eq!(fired.len(), 5_000);
    let instant = at("2026-03-02T10:00:05Z");
    assert!(fired.iter().all(|(_, o, at)| *o == OccurrenceOutcome::Fired && *at == instant));
    let said: BTreeSet<_> = said(&chat).into_iter().collect();
    assert_eq!((said.len(), chat.sent().len()), (5_000, 5_000));
    chat.world().check();
}

/// An engine on a file and on the host's clock, over the simulator in this process.
fn on_a_file(count: usize) -> (Vec<Duration>, Duration) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("imbabot.db");
    let store = Arc::new(SqliteStore::open(&path, Role::Daemon, Bodies::Full).unwrap());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let simulator =
        imbabot_simulator::Simulator::new(<_>::default(), imbabot_simulator::Clock::system());
    simulator.open_room("Hall");
    let mut settings = Settings::new();
    let widget = imbabot_testing::World::new(clock.now()).widget("simulator-secret");
    let transport = Arc::new(SimTransport::new(simulator.clone(), Arc::clone(&clock)));
    let api = imbabot_core::Api::new(transport, widget.api.credentials().clone());
    settings.widgets.push(WidgetSettings { api, ..widget });
    // Time to begin: thousands of schedules are adopted in one transaction.
    let instant = Timestamp::from_seconds(clock.now().as_seconds() + 4);
    let text = instant.compact();
    settings.announcements = thousands(count, text.trim_end_matches('Z'));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let recorded = runtime.block_on(async {
        let over: Arc<dyn Store> = Arc::<SqliteStore>::clone(&store);
        let parts = Parts {
            clock: Arc::clone(&clock),
            store: over,
            executor: Arc::new(Inline),
            settings,
            version: "test".into(),
            seed: 7,
        };
        let engine = Engine::begin(parts).await.unwrap();
        assert!(clock.now() < instant, "begun in time");
        let running = engine.clone();
        let run = async move { running.run().await.unwrap() };
        let look = async {
            clock.sleep(instant.since(clock.now()) + ms(50)).await;
            let mut recorded = BTreeMap::new();
            let mut since = 0;
            while recorded.len() < count {
                assert!(clock.now().since(instant) < seconds(60), "{} recorded", recorded.len());
                // What is seen here is on disk: it comes from a connection of its own.
                for line in store.ledger(since, 100_000).await.unwrap() {
                    since = line.seq;
                    if let Line::Occurrence(o) = line.line {
                        let late = clock.now().since(o.nominal_at);
                        recorded.entry(o.schedule).or_insert(late);
                    }
                }
                clock.sleep(ms(20)).await;
            }
            engine.stop();
            recorded
        };
        futures_util::future::join(run, look).await.1
    });
    let mut late: Vec<Duration> = recorded.into_values().collect();
    late.sort_unstable();
    let p99 = late[(late.len() - 1) * 99 / 100];
    (late, p99)
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a measurement of real time")]
fn t18_a_thousand_and_five_thousand_schedules_are_on_disk_within_one_and_five_seconds() {
    for (count, bound) in [(1_000, seconds(1)), (5_000, seconds(5))] {
        let begun = Instant::now();
        let (late, p99) = on_a_file(count);
        let last = *late.last().unwrap();
        println!(
            "{count} schedules in one second: all on disk after {last:?}, p99 {p99:?}, median {:?} \
             (the whole took {:?})",
            late[late.len() / 2],
            begun.elapsed()
        );
        assert_eq!(late.len(), count);
        assert!(last <= bound, "{count} were on disk after {last:?}");
    }
}

// --- T19: longer than its period ---------------------------------------------------------------

/// Ten rooms, one message a second, every five seconds.
fn crowded(overlap: Overlap) -> Harness {
    let schedule = Schedule::every("crowded", seconds(5)).unwrap().overlap(overlap);
    let mut chat = Harness::new()
        .at("2026-03-02T10:00:01Z")
        .announcement(to_rooms(schedule, RoomSelector::all()));
    chat.world().settings().delivery.rate = Rate::new(1, seconds(1));
    for n in 0..10 {
        chat.world().simulator.open_room(&format!("Room {n}"));
    }
    chat.poll();
    chat.advance(seconds(60));
    chat
}

/// How many deliveries each occurrence came to, in order.
fn deliveries_per_occurrence(chat: &Harness) -> Vec<usize> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for delivery in chat.deliveries() {
        *counts.entry(delivery.occurrence.unwrap()).or_default() += 1;
    }
    counts.into_values().collect()
}

#[test]
fn t19_an_occurrence_that_takes_longer_than_its_period_leaves_out_rooms_that_still_wait() {
    let mut chat = crowded(Overlap::Skip);
    let counts = deliveries_per_occurrence(&chat);
    assert_eq!(counts[0], 10);
    // Five rooms were served before the next comes, and it serves those; the rest is left out.
    assert!(counts[1..].iter().all(|count| (4..=6).contains(count)), "{counts:?}");
    let waiting = chat.deliveries().iter().filter(|d| d.state == DeliveryState::Queued).count();
    assert!(waiting <= 10, "never more than one per room: {waiting}");
    let instants = every("2026-03-02T10:00:05Z", "2026-03-02T10:01:00Z", seconds(5));
    accounted(&mut chat, "crowded", instants);
}

#[test]
fn t19_where_overlap_is_allowed_every_room_is_served_by_every_occurrence() {
    let mut chat = crowded(Overlap::Allow);
    assert_eq!(deliveries_per_occurrence(&chat), [10; 12]);
    let waiting = chat.deliveries().iter().filter(|d| d.state == DeliveryState::Queued).count();
    let sent = chat.sent().len();
    assert_eq!(waiting + sent, 120);
    assert!((55..=57).contains(&sent), "one a second: {sent}");
    chat.world().settings().announcements.clear();
    chat.world().reload();
    let instants = every("2026-03-02T10:00:05Z", "2026-03-02T10:01:00Z", seconds(5));
    accounted(&mut chat, "crowded", instants);
}

#[test]
fn t19_where_every_room_still_waits_the_occurrence_is_skipped_and_says_overlap() {
    let schedule = Schedule::every("crowded", seconds(5)).unwrap();
    let mut chat = chat_at("2026-03-02T10:00:01Z", [schedule]);
    chat.world().simulator.server_down(true);
    chat.advance(seconds(15));
    let first = "fired 2026-03-02T10:00:05Z";
    let told = recorded(&mut chat, "crowded");
    assert_eq!(told[0], first);
    assert!(told.contains(&"skipped(overlap) 2026-03-02T10:00:10Z".to_owned()), "{told:?}");
    chat.world().simulator.server_down(false);
    chat.advance(minutes(1));
    let instants = every("2026-03-02T10:00:05Z", "2026-03-02T10:01:15Z", seconds(5));
    accounted(&mut chat, "crowded", instants);
}

// --- long gaps, many rooms ---------------------------------------------------------------------

#[test]
#[expect(clippy::disallowed_methods, reason = "a measurement of real time")]
fn an_every_second_schedule_after_thirty_days_of_downtime_is_two_ranges_and_goes_on() {
    // Croner without optimisation is slow: a day of it shows the same.
    let cron_days = if cfg!(debug_assertions) { 1 } else { 30 };
    let schedules = [
        (Schedule::every("tick", seconds(1)).unwrap(), 30),
        (cron("tick", "* * * * * *"), cron_days),
    ];
    for (schedule, away) in schedules {
        let mut chat = chat_at("2026-03-02T10:00:00Z", [schedule]);
        chat.advance(seconds(10));
        chat.world().crash();
        chat.world().clock.advance(days(away));
        let back = now(&mut chat);
        let begun = Instant::now();
        chat.world().start();
        let took = begun.elapsed();
        println!("ready {took:?} after {away} days without an every-second schedule");
        let bound = if cfg!(debug_assertions) { seconds(20) } else { seconds(2) };
        assert!(took <= bound, "{took:?}");
        chat.advance(seconds(5));
        let told = recorded(&mut chat, "tick");
        let ranges: Vec<_> = told.iter().filter(|line| line.contains("..")).collect();
        // What is older than its expiry, and what is only late.
        let expired = format!(
            "missed(expired) 2026-03-02T10:00:11Z..{} x{}",
            (back - hours(1)).compact(),
            away * 86_400 - 3_600
        );
        let late = format!(
            "missed(misfire) {}..{} x3539",
            (back - minutes(59) - seconds(59)).compact(),
            (back - seconds(61)).compact()
        );
        assert_eq!(ranges, [&expired, &late]);
        let around = (0..4_200).map(|n| back - hours(1) - minutes(9) + seconds(n));
        accounted(&mut chat, "tick", around.filter(|at| *at <= back + seconds(5)));
    }
}

/// Ten kills while an occurrence is expanded into the deliveries of so many rooms, `batches` of them
/// in each life.
#[expect(clippy::disallowed_methods, reason = "a measurement of real time")]
fn killed_among_rooms(count: u64, batches: u32) {
    let flaky = Arc::new(FlakyStore::over(Arc::new(SqliteStore::in_memory(Bodies::Full).unwrap())));
    let over: Arc<dyn Store> = Arc::<FlakyStore>::clone(&flaky);
    let rooms = RoomSelector::ids((1..=count).map(RoomId));
    let schedule = Schedule::at("all", "2026-03-02T10:00:05").unwrap();
    // Something else is due every second meanwhile.
    let tick = Schedule::every("tick", seconds(1)).unwrap();
    let mut chat = Harness::new()
        .over(over)
        .announcement(to_rooms(schedule, rooms))
        .announcement(to_first_room(tick));
    chat.world().settings().delivery.rate = Rate::new(1, hours(1));
    let begun = Instant::now();
    chat.advance(seconds(4));
    for kill in 0..10 {
        // After some batches the store stumbles, and there it is killed.
        flaky.fail_after(batches, "expand", 1, ErrorKind::Retryable);
        chat.world().start();
        let now = now(&mut chat);
        // The store is asked again after a second: by then it is dead.
        chat.advance(if kill == 0 { at("2026-03-02T10:00:05Z").since(now) } else { ms(900) });
        assert_eq!(flaky.struck("expand"), 1, "killed in the middle, kill {kill}");
        chat.world().crash();
    }
    chat.advance(seconds(5));
    println!("{count} rooms over ten kills in {:?}", begun.elapsed());
    let deliveries: Vec<_> = chat
        .world()
        .ledger()
        .into_iter()
        .filter_map(|line| match line.line {
            Line::Delivery(d) if d.occurrence.as_deref() == Some("all@2026-03-02T10:00:05Z") => {
                Some((d.id, d.room))
            }
            _ => None,
        })
        .collect();
    let rooms: BTreeSet<_> = deliveries.iter().map(|(_, room)| *room).collect();
    let ids: BTreeSet<_> = deliveries.iter().map(|(id, _)| *id).collect();
    let count = usize::try_from(count).unwrap();
    let pairs: BTreeSet<_> = deliveries.iter().collect();
    assert_eq!((rooms.len(), ids.len(), pairs.len()), (count, count, count));
    let instants = every("2026-03-02T10:00:01Z", "2026-03-02T10:00:18Z", seconds(1));
    accounted(&mut chat, "tick", instants);
    accounted(&mut chat, "all", [at("2026-03-02T10:00:05Z")]);
}

#[test]
fn a_schedule_that_reaches_ten_thousand_rooms_is_resumed_after_every_kill() {
    killed_among_rooms(10_000, 1);
}

#[test]
#[ignore = "half a minute without optimisation"]
fn a_schedule_that_reaches_a_hundred_thousand_rooms_is_resumed_after_every_kill() {
    killed_among_rooms(100_000, 12);
}
