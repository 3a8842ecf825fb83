//! Several instances on one store: they share the work, one takes over from another, and nothing is said
//! twice. In virtual time, on a stand-in for a database; the same with real processes and a real one is in
//! the tests of the daemon.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use common::greeter;
use futures_executor::block_on;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use imbabot_bot::prelude::*;
use imbabot_bot::{DeliveryId, RoomSelector, Schedule, Template};
use imbabot_core::Timestamp;
use imbabot_scheduler::{Announcement, BotSettings, Clock, NotReady, Rate, Settings, StoreClock};
use imbabot_store::{
    Born, Class, DeliveryFilter, DeliveryRecord, DeliveryState, Explanations, Line, NewDelivery,
    Operations, Outbox,
};
use imbabot_testing::{Check, Instances, VirtualClock};

const LEASE: Duration = Duration::from_secs(15);
/// Until the others have noticed: the lease, and the distance of their heartbeats.
const NOTICED: Duration = Duration::from_secs(19);

fn start() -> Timestamp {
    "2026-03-02T10:00:30Z".parse().unwrap()
}

/// Instances with these widgets, a room in each, and a bot that greets.
fn instances(widgets: &[&str]) -> Instances {
    let mut all = Instances::new(start(), LEASE, widgets);
    let settings = all.settings();
    settings.bots.push(BotSettings::new("greeter".parse().unwrap(), Arc::new(greeter())));
    settings.poll.rooms = seconds(5);
    settings.poll.baseline = false;
    at_once(settings);
    for widget in widgets {
        all.site(widget).open_room("Team");
    }
    all
}

/// Rates hold back nothing.
fn at_once(settings: &mut Settings) {
    let rate = Rate::new(u32::MAX, Duration::from_millis(1));
    (settings.delivery.rate, settings.delivery.rate_per_room) = (rate, rate);
}

fn every_minute(settings: &mut Settings) {
    let schedule = Schedule::cron("tick", "* * * * *").unwrap();
    let text = Template::announcement("{{ occurrence.at }}").unwrap();
    let rooms = RoomSelector::named("^Team").unwrap();
    settings.announcements.push(Arc::new(Announcement::new(schedule, rooms, text)));
}

/// Queues a message for the first room of a widget, as `imbabot send` does.
fn queue(all: &mut Instances, through: &str, widget: &str, key: &str) -> DeliveryId {
    queue_for(all, through, widget, key, 0, None)
}

/// The same for one of its rooms, to be sent at this instant.
fn queue_for(
    all: &mut Instances,
    through: &str,
    widget: &str,
    key: &str,
    room: usize,
    not_before: Option<Timestamp>,
) -> DeliveryId {
    let now = all.clock.now();
    let room = all.site(widget).rooms()[room].id.unsigned_abs();
    let delivery = NewDelivery {
        key: format!("cli/{key}"),
        widget: widget.parse().unwrap(),
        room: RoomId(room),
        sender: 1.into(),
        bot: None,
        event: None,
        occurrence: None,
        schedule: None,
        policy: Policy::AtMostOnce,
        text: key.into(),
        not_before,
        expires_at: now + hours(24),
        born: Born::Queued,
        detail: None,
        report: false,
    };
    let id = delivery.id();
    block_on(all.store(through).enqueue(now, vec![delivery])).unwrap();
    id
}

fn deliveries(all: &mut Instances, through: &str) -> Vec<DeliveryRecord> {
    block_on(all.store(through).deliveries(&DeliveryFilter::default())).unwrap()
}

fn delivery(all: &mut Instances, through: &str, id: DeliveryId) -> DeliveryRecord {
    block_on(all.store(through).delivery(id)).unwrap().unwrap()
}

/// The last that is told of the attempts of a delivery: class and code.
fn attempts(all: &Instances, id: DeliveryId) -> Vec<(Option<Class>, Option<String>)> {
    let mut ends = std::collections::BTreeMap::new();
    for line in all.ledger() {
        if let Line::Attempt(attempt) = line.line
            && attempt.delivery == id
        {
            ends.insert(attempt.n, (attempt.class, attempt.code));
        }
    }
    ends.into_values().collect()
}

/// Every minute of `minutes` was announced, once, in each of these widgets; and every room greeted once.
#[track_caller]
fn each_once(all: &Instances, widgets: &[&str], minutes: usize) {
    for widget in widgets {
        let mut sent = all.sent(widget);
        assert_eq!(sent.remove(0), "Welcome to Team!", "{widget}");
        let said: BTreeSet<&String> = sent.iter().collect();
        assert_eq!((sent.len(), said.len()), (minutes, minutes), "{widget}: {sent:?}");
    }
    all.check();
}

/// Every instant was recorded within this, and none before it came.
#[track_caller]
fn on_time(all: &Instances, within: Duration) {
    for line in all.ledger() {
        if let Line::Occurrence(occurrence) = line.line {
            let late = occurrence.recorded_at.since(occurrence.nominal_at);
            let early = occurrence.nominal_at.since(occurrence.recorded_at);
            assert!(late <= within && early.is_zero(), "{}: {late:?} {early:?}", occurrence.id);
        }
    }
}

const WIDGETS: [&str; 4] = ["w1", "w2", "w3", "w4"];

fn owned_by(all: &Instances, name: &str) -> Vec<&'static str> {
    WIDGETS.into_iter().filter(|widget| all.owner(widget).as_deref() == Some(name)).collect()
}

#[test]
fn m1_three_instances_share_the_widgets_and_nothing_is_said_twice() {
    let mut all = instances(&WIDGETS);
    every_minute(all.settings());
    for name in ["a", "b", "c"] {
        all.start(name);
    }
    all.advance(minutes(10));
    each_once(&all, &WIDGETS, 10);
    let shares = ["a", "b", "c"].map(|name| owned_by(&all, name).len());
    assert_eq!(shares.iter().sum::<usize>(), 4);
    assert!(shares.iter().all(|share| (1..=2).contains(share)), "{shares:?}");
    // Each list in one hand: one poll in five seconds, whoever asks.
    for widget in WIDGETS {
        let polls: u64 = ["a", "b", "c"].iter().map(|name| all.polls(name, widget)).sum();
        assert!((118..=126).contains(&polls), "{widget}: {polls} polls in ten minutes");
    }
    for name in ["a", "b", "c"] {
        assert!(all.reasons(name).is_empty(), "{name}: {:?}", all.reasons(name));
        assert_eq!(all.fenced(name), 0);
        let fleet = all.engine(name).status().fleet.unwrap();
        assert_eq!(fleet.alive, 3);
    }
}

#[test]
fn m1_what_one_instance_fires_another_delivers_within_the_second() {
    let mut all = instances(&["w1"]);
    every_minute(all.settings());
    all.keep_for("w1", "a");
    all.keep_schedules_for("b");
    all.start("a");
    all.start("b");
    all.advance(seconds(31));
    assert_eq!(all.sent("w1").len(), 2, "the welcome, and the first minute");
    assert!(all.engine("a").status().next.is_empty(), "the calendar is not its own");
    assert_eq!(all.engine("b").status().next.len(), 1);
    all.check();
}

#[test]
fn m2_an_instance_that_dies_is_replaced_within_its_lease_and_a_heartbeat() {
    for victim in ["a", "b"] {
        let mut all = instances(&WIDGETS);
        every_minute(all.settings());
        all.start("a");
        all.start("b");
        all.advance(seconds(60));
        // In the middle of a firing instant's messages, which take their time.
        for widget in WIDGETS {
            all.site(widget).configure(|options| options.latency_micros = 40_000);
        }
        all.advance(Duration::from_millis(29_970));
        all.advance(Duration::from_millis(50));
        let mut in_flight = owned_by(&all, victim);
        assert!(!in_flight.is_empty());
        all.kill(victim);
        let survivor = if victim == "a" { "b" } else { "a" };
        all.advance(NOTICED);
        assert_eq!(owned_by(&all, survivor), WIDGETS);
        all.advance(minutes(8) - NOTICED);
        assert!(all.reasons(survivor).is_empty());
        all.check();
        // What was on its way when it died is in doubt, and everything else was said once.
        let unknown: Vec<DeliveryRecord> = deliveries(&mut all, survivor)
            .into_iter()
            .filter(|delivery| delivery.state == DeliveryState::Unknown)
            .collect();
        in_flight.retain(|widget| unknown.iter().any(|d| d.widget.as_str() == *widget));
        assert_eq!(unknown.len(), in_flight.len(), "at most one for each of its widgets");
        for widget in WIDGETS {
            let sent = all.sent(widget);
            let said: BTreeSet<&String> = sent.iter().collect();
            assert_eq!(said.len(), sent.len(), "{widget}: {sent:?}");
            assert!(sent.len() >= 10, "the welcome and every minute but one: {sent:?}");
        }
    }
}

#[test]
fn m3_what_was_claimed_before_a_standstill_longer_than_the_lease_is_not_sent_after_it() {
    let mut all = instances(&["w1"]);
    all.keep_for("w1", "a");
    all.start("a");
    all.start("b");
    all.advance(seconds(10));
    assert_eq!(all.sent("w1"), ["Welcome to Team!"]);
    // Stopped after the commit of a claim and before its request.
    all.store("a").hold_claims(true);
    let id = queue(&mut all, "b", "w1", "late");
    all.engine("a").wake();
    all.step();
    assert_eq!(delivery(&mut all, "b", id).state, DeliveryState::Sending);
    all.stands_still("a", true);
    all.advance(minutes(1));
    assert_eq!(delivery(&mut all, "b", id).state, DeliveryState::Unknown, "its run was ended");
    all.store("a").hold_claims(false);
    all.stands_still("a", false);
    all.advance(seconds(1));
    assert_eq!(all.sent("w1"), ["Welcome to Team!"], "nothing leaves after that");
    // The truth about its own attempt is taken from a run that was ended, and nothing else of it.
    let known = (Some(Class::NotSent), Some("claim_too_old".to_owned()));
    assert_eq!(attempts(&all, id), [known]);
    assert_eq!(all.fenced("a"), 1);
    all.advance(minutes(2));
    assert_eq!(all.owner("w1").as_deref(), Some("a"), "it takes its share again");
    assert!(all.reasons("a").is_empty());
    all.check();
}

#[test]
fn m3_a_short_standstill_between_claim_and_request_changes_nothing() {
    let mut all = instances(&["w1"]);
    all.keep_for("w1", "a");
    all.start("a");
    all.start("b");
    all.advance(seconds(10));
    all.store("a").hold_claims(true);
    let id = queue(&mut all, "b", "w1", "in time");
    all.engine("a").wake();
    all.step();
    all.stands_still("a", true);
    all.advance(LEASE / 2);
    all.store("a").hold_claims(false);
    all.stands_still("a", false);
    assert_eq!(all.sent("w1"), ["Welcome to Team!", "in time"]);
    assert_eq!(delivery(&mut all, "b", id).state, DeliveryState::Delivered);
    assert_eq!(all.fenced("a"), 0);
    all.check();
}

#[test]
fn m3_the_late_answer_to_a_request_of_a_run_that_was_ended_is_the_truth_about_it() {
    let mut all = instances(&["w1"]);
    all.keep_for("w1", "a");
    all.start("a");
    all.start("b");
    all.advance(seconds(10));
    all.site("w1").faults().push_spec("send_msg:late=10s").unwrap();
    let id = queue(&mut all, "b", "w1", "on its way");
    all.engine("a").wake();
    all.advance(seconds(1));
    all.stands_still("a", true);
    all.advance(seconds(30));
    assert_eq!(delivery(&mut all, "b", id).state, DeliveryState::Unknown);
    all.stands_still("a", false);
    all.advance(seconds(1));
    assert_eq!(delivery(&mut all, "b", id).state, DeliveryState::Delivered);
    assert_eq!(all.sent("w1"), ["Welcome to Team!", "on its way"], "and it was sent once");
    assert_eq!(all.fenced("a"), 1);
    assert!(all.engine("a").status().fleet.unwrap().incarnation.0 > 2, "another run has begun");
    let metrics = block_on(all.engine("a").metrics());
    assert!(metrics.contains("imbabot_fenced_total 1"), "{metrics}");
    all.check();
}

#[test]
fn m3_what_is_in_flight_when_a_run_is_ended_is_heard_to_its_end() {
    let mut all = instances(&["w1"]);
    all.site("w1").open_room("Other");
    all.keep_for("w1", "a");
    all.start("a");
    all.start("b");
    all.advance(Duration::from_millis(10_600));
    all.site("w1").faults().push_spec("send_msg:late=10s").unwrap();
    let first = queue(&mut all, "b", "w1", "on its way");
    let soon = all.clock.now() + Duration::from_millis(800);
    let second = queue_for(&mut all, "b", "w1", "next", 1, Some(soon));
    all.engine("a").wake();
    all.advance(Duration::from_millis(100));
    all.end_run("a");
    // It is its next claim by which it learns, half a second before its next heartbeat.
    all.advance(seconds(2));
    assert_eq!(all.fenced("a"), 0, "it still listens");
    assert_eq!(all.reasons("a"), [NotReady::Starting]);
    all.advance(seconds(10));
    assert_eq!(delivery(&mut all, "b", first).state, DeliveryState::Delivered);
    assert_eq!(attempts(&all, first).len(), 1);
    assert_eq!(all.fenced("a"), 1);
    all.advance(seconds(10));
    assert_eq!(delivery(&mut all, "b", second).state, DeliveryState::Delivered);
    assert_eq!(all.sent("w1")[2..], ["on its way", "next"]);
    assert!(all.reasons("a").is_empty());
    all.check();
}

#[test]
fn m5_who_cannot_reach_the_store_stands_by_and_takes_its_share_again_when_it_can() {
    let mut all = instances(&["w1", "w2"]);
    all.keep_for("w1", "a");
    all.keep_for("w2", "b");
    all.start("a");
    all.start("b");
    all.advance(seconds(30));
    all.store("a").is_away(true);
    all.advance(LEASE);
    assert_eq!(all.reasons("a"), [NotReady::StoreUnwritable]);
    let status = all.engine("a").status();
    assert!(status.fleet.unwrap().units.is_empty() && status.widgets.is_empty(), "it stands by");
    let before = (all.polls("a", "w1"), all.polls("b", "w2"));
    all.advance(minutes(1));
    assert_eq!(all.polls("a", "w1"), before.0, "nothing is asked for nobody");
    assert!(all.polls("b", "w2") >= before.1 + 11, "the other goes on");
    all.store("a").is_away(false);
    all.advance(seconds(10));
    assert_eq!((all.owner("w1").as_deref(), all.fenced("a")), (Some("a"), 1));
    assert!(all.reasons("a").is_empty(), "{:?}", all.reasons("a"));
    assert!(all.polls("a", "w1") > before.0);
    all.check();
}

#[test]
fn m5_a_store_that_does_not_answer_at_all_is_as_good_as_none_when_the_lease_has_run_out() {
    let mut all = instances(&["w1"]);
    all.keep_for("w1", "a");
    all.start("a");
    all.start("b");
    all.advance(seconds(30));
    all.store("a").is_silent(true);
    all.advance(LEASE);
    assert_eq!(all.reasons("a"), [NotReady::StoreUnwritable]);
    let status = all.engine("a").status();
    assert!(status.fleet.unwrap().units.is_empty() && status.widgets.is_empty(), "it stands by");
    all.advance(minutes(1));
    all.store("a").is_silent(false);
    all.advance(seconds(10));
    assert_eq!((all.owner("w1").as_deref(), all.fenced("a")), (Some("a"), 1));
    assert!(all.reasons("a").is_empty(), "{:?}", all.reasons("a"));
    all.check();
}

#[test]
fn m5_a_store_that_answers_late_but_within_the_lease_changes_nothing() {
    let mut all = instances(&["w1"]);
    all.keep_for("w1", "a");
    all.start("a");
    all.start("b");
    all.advance(seconds(30));
    all.store("a").is_silent(true);
    all.advance(LEASE / 2);
    all.store("a").is_silent(false);
    all.advance(minutes(2));
    assert_eq!((all.owner("w1").as_deref(), all.fenced("a")), (Some("a"), 0));
    assert!(all.reasons("a").is_empty(), "{:?}", all.reasons("a"));
    all.check();
}

#[test]
fn m7_walls_ten_minutes_apart_make_no_difference() {
    let mut all = instances(&WIDGETS);
    every_minute(all.settings());
    all.start_at("a", start() - minutes(10));
    all.start_at("b", start() + minutes(10));
    all.advance(minutes(5));
    // The owner of the calendar changes from one wall to the other, and back.
    for name in ["a", "b", "a"] {
        all.keep_schedules_for(name);
        all.advance(minutes(5));
    }
    each_once(&all, &WIDGETS, 20);
    on_time(&all, seconds(4));
}

#[test]
fn m7_the_wall_of_a_host_that_jumps_is_not_looked_at() {
    let mut all = instances(&["w1"]);
    every_minute(all.settings());
    all.start("a");
    all.advance(minutes(2));
    for wall in ["2026-03-02T22:00:00Z", "2026-03-01T22:00:00Z"] {
        all.set_wall("a", wall.parse().unwrap());
        all.advance(minutes(2));
    }
    each_once(&all, &["w1"], 6);
    assert!(all.reasons("a").is_empty());
}

#[test]
fn m7_a_host_that_slept_goes_by_the_clock_of_the_store_when_it_wakes() {
    let mut all = instances(&["w1"]);
    every_minute(all.settings());
    all.start("a");
    all.start("b");
    all.advance(minutes(2));
    all.sleeps("a", true);
    all.advance(minutes(30));
    all.sleeps("a", false);
    all.keep_schedules_for("a");
    all.advance(minutes(5));
    assert_eq!(all.fenced("a"), 1);
    each_once(&all, &["w1"], 37);
    let now = all.clock.now();
    assert_eq!(all.engine("a").clock().now(), now);
    on_time(&all, NOTICED);
}

#[test]
fn m7_whoever_waits_for_an_instant_looks_anew_when_the_clock_of_the_store_has_passed_it_or_went_back()
 {
    let mut all = instances(&["w1"]);
    all.start("a");
    let host = VirtualClock::at(start() + hours(5));
    let of_host: Arc<dyn Clock> = Arc::new(host.clone());
    let clock = block_on(StoreClock::of(&of_host, &*all.store("a"))).unwrap().unwrap();
    let shows = |clock: &StoreClock, at| clock.hear(at, host.elapsed());
    let is_over = |sleep: &mut BoxFuture<'static, ()>| {
        (0..3).any(|_| sleep.as_mut().now_or_never().is_some())
    };
    assert_eq!(clock.now(), start());
    let mut sleep = clock.sleep_until(start() + hours(1));
    assert!(!is_over(&mut sleep));
    shows(&clock, start() + minutes(30));
    assert!(!is_over(&mut sleep));
    shows(&clock, start() + minutes(29) + seconds(59));
    assert!(!is_over(&mut sleep), "a slight difference is none");
    host.advance(minutes(30));
    assert!(!is_over(&mut sleep), "a second is missing");
    host.advance(seconds(1));
    assert!(is_over(&mut sleep));
    let mut sleep = clock.sleep_until(start() + hours(2));
    assert!(!is_over(&mut sleep));
    shows(&clock, start() + hours(3));
    assert!(is_over(&mut sleep), "it was passed");
    let mut sleep = clock.sleep_until(start() + hours(4));
    assert!(!is_over(&mut sleep));
    shows(&clock, start() + minutes(1));
    assert!(is_over(&mut sleep), "it was chosen by a clock that no longer counts");
}

#[test]
fn m11_no_instant_is_missed_while_nobody_has_the_calendar() {
    let mut all = instances(&["w1"]);
    every_minute(all.settings());
    all.keep_for("w1", "b");
    all.start("a");
    all.start("b");
    all.keep_schedules_for("a");
    // A heartbeat before the instant, which comes in the gap.
    all.advance(seconds(29));
    all.kill("a");
    all.keep_schedules_for("b");
    all.advance(seconds(2));
    assert_eq!(all.sent("w1").len(), 1, "nobody has it");
    all.advance(NOTICED);
    assert_eq!(all.sent("w1").len(), 2, "and then it fires");
    all.advance(minutes(3));
    each_once(&all, &["w1"], 4);
    let expected: Vec<Timestamp> = (1..=4).map(|n| (start() - seconds(30)) + minutes(n)).collect();
    let check = Check::new().ledger(all.ledger()).expected("tick", expected).quiescent();
    assert_eq!(check.run(), []);
}

#[test]
fn a_widget_that_moves_is_polled_by_its_new_owner_and_by_nobody_else() {
    let mut all = instances(&["w1"]);
    all.start("a");
    all.start("b");
    all.keep_for("w1", "a");
    all.advance(minutes(1));
    // Whoever had it first has greeted; from here on it is the other's, and back.
    for (from, to) in [("a", "b"), ("b", "a"), ("a", "b")] {
        all.keep_for("w1", to);
        all.advance(LEASE / 2);
        assert_eq!(all.owner("w1").as_deref(), Some(to));
        assert!(all.reasons(to).is_empty(), "its first list has come: {:?}", all.reasons(to));
        let before = (all.polls(from, "w1"), all.polls(to, "w1"));
        let name = format!("Team of {to} {}", before.1);
        all.site("w1").open_room(&name);
        all.advance(minutes(1));
        assert_eq!(all.polls(from, "w1"), before.0);
        assert!((11..=13).contains(&(all.polls(to, "w1") - before.1)));
        assert_eq!(all.sent("w1").last().unwrap(), &format!("Welcome to {name}!"));
    }
    assert_eq!(all.sent("w1").len(), 4, "each room once");
    all.check();
}

#[test]
fn a_list_that_is_waited_for_when_its_widget_moves_is_not_waited_for_any_more() {
    let mut all = instances(&["w1"]);
    all.keep_for("w1", "a");
    all.start("a");
    all.start("b");
    all.advance(seconds(11));
    // It will have the new room, and come when that is known for long.
    all.site("w1").faults().push_spec("get_rooms:late=25s").unwrap();
    all.site("w1").open_room("Other");
    all.advance(seconds(5));
    for to in ["b", "a"] {
        all.keep_for("w1", to);
        all.advance(LEASE / 2);
        assert_eq!(all.owner("w1").as_deref(), Some(to));
    }
    all.site("w1").open_room("Third");
    all.advance(seconds(6));
    let sent = ["Welcome to Team!", "Welcome to Other!", "Welcome to Third!"];
    assert_eq!(all.sent("w1"), sent, "who has it again asks again");
    all.advance(minutes(1));
    assert_eq!(all.sent("w1"), sent, "and what was asked before tells nothing");
    all.check();
}

#[test]
fn a_widget_that_was_given_away_leaves_nothing_behind() {
    let mut all = instances(&["w1", "w2"]);
    all.keep_for("w1", "a");
    all.keep_for("w2", "a");
    all.start("a");
    all.start("b");
    all.advance(seconds(30));
    all.site("w1").server_down(true);
    all.advance(seconds(30));
    assert_eq!(all.reasons("a"), [NotReady::ApiUnreachable]);
    all.keep_for("w1", "b");
    all.advance(seconds(10));
    assert!(all.reasons("a").is_empty(), "{:?}", all.engine("a").status().obstacles);
    assert_eq!(all.reasons("b"), [NotReady::ApiUnreachable]);
    let status = all.engine("a").status();
    assert_eq!(status.widgets.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["w2"]);
    let metrics = block_on(all.engine("a").metrics());
    for gauge in ["poll_age_seconds", "rooms", "breaker_open"] {
        assert!(
            !metrics.contains(&format!("imbabot_{gauge}{{widget=\"w1\"")),
            "{gauge}: {metrics}"
        );
        assert!(metrics.contains(&format!("imbabot_{gauge}{{widget=\"w2\"")), "{gauge}: {metrics}");
    }
    all.site("w1").server_down(false);
    all.advance(seconds(20));
    assert!(all.reasons("b").is_empty());
    all.check();
}

#[test]
fn an_open_breaker_goes_with_its_widget() {
    let mut all = instances(&["w1"]);
    all.keep_for("w1", "a");
    all.start("a");
    all.start("b");
    all.advance(seconds(10));
    // Lists and messages fail alike; three messages in doubt stop the rest.
    all.site("w1").faults().push_spec("any:status=502:always").unwrap();
    for n in 0..20 {
        queue(&mut all, "b", "w1", &format!("message {n}"));
    }
    all.engine("a").wake();
    all.advance(minutes(2));
    let doubtful = |all: &mut Instances| {
        let all = deliveries(all, "b");
        all.iter().filter(|d| d.state == DeliveryState::Unknown).count()
    };
    let before = doubtful(&mut all);
    assert_eq!(before, 3);
    all.kill("a");
    all.keep_for("w1", "b");
    all.advance(minutes(2));
    assert_eq!(all.owner("w1").as_deref(), Some("b"));
    assert_eq!(doubtful(&mut all), before, "its new owner begins where the old one was");
    all.site("w1").faults().clear();
    all.advance(minutes(1));
    assert_eq!(all.sent("w1").iter().filter(|text| text.starts_with("message")).count(), 17);
    all.check();
}

#[test]
fn a_stop_that_was_not_recorded_before_its_widget_was_given_away_is_never_recorded() {
    // Whichever of its tasks reaches the store first.
    for tenths in [0, 3, 5, 8, 10, 13] {
        let mut all = instances(&["w1"]);
        all.start("a");
        all.advance(seconds(30));
        all.store("a").is_away(true);
        all.site("w1").faults().push_spec("get_rooms:status=403:always").unwrap();
        // It stands by, and nobody takes it for dead.
        all.advance(LEASE + seconds(tenths) / 10);
        assert!(all.engine("a").status().widgets.is_empty());
        all.site("w1").faults().clear();
        all.store("a").is_away(false);
        all.advance(minutes(1));
        assert_eq!((all.owner("w1").as_deref(), all.fenced("a")), (Some("a"), 0));
        assert!(all.reasons("a").is_empty(), "{:?}", all.reasons("a"));
        let stops = block_on(all.store("a").lasting_stoppages()).unwrap();
        assert!(stops.is_empty(), "nothing is stopped: {stops:?}");
        all.check();
    }
}

#[test]
fn what_came_due_before_an_edit_is_accounted_for_whoever_reads_the_edit_first() {
    let mut all = instances(&["w1"]);
    all.keep_schedules_for("a");
    every_minute(all.settings());
    all.start("a");
    all.start("b");
    all.advance(seconds(20));
    // 10:01 comes while nobody fires, and the other reads the new rule before it has the calendar.
    all.kill("a");
    all.advance(seconds(12));
    all.keep_schedules_for("b");
    let engine = all.engine("b");
    let mut settings = (*engine.settings()).clone();
    let hourly = Schedule::cron("tick", "0 * * * *").unwrap();
    let text = Template::announcement("{{ occurrence.at }}").unwrap();
    let rooms = RoomSelector::named("^Team").unwrap();
    settings.announcements = vec![Arc::new(Announcement::new(hourly, rooms, text))];
    let mut reload = std::pin::pin!(engine.reload(settings));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(reload.as_mut().poll(&mut context).is_pending());
    all.step();
    assert!(matches!(reload.as_mut().poll(&mut context), std::task::Poll::Ready(Ok(()))));
    all.advance(seconds(60));
    let fired = |line: &imbabot_store::LedgerLine| match &line.line {
        Line::Occurrence(occurrence) => Some(occurrence.id.clone()),
        _ => None,
    };
    let fired: BTreeSet<String> = all.ledger().iter().filter_map(fired).collect();
    assert_eq!(fired.into_iter().collect::<Vec<_>>(), ["tick@2026-03-02T10:01:00Z"]);
    all.check();
}

#[test]
fn an_instance_that_is_drained_gives_everything_away_and_stands_by() {
    let mut all = instances(&WIDGETS);
    every_minute(all.settings());
    all.start("a");
    all.start("b");
    all.advance(seconds(20));
    all.drain("a", true);
    all.advance(LEASE / 2);
    assert_eq!(owned_by(&all, "b"), WIDGETS);
    assert_eq!(all.reasons("a"), [NotReady::Draining]);
    let fleet = all.engine("a").status().fleet.unwrap();
    assert!(fleet.draining && fleet.units.is_empty());
    all.advance(minutes(5));
    all.drain("a", false);
    all.advance(seconds(20));
    assert!(all.reasons("a").is_empty());
    assert_eq!(owned_by(&all, "a").len(), 2);
    all.advance(minutes(5));
    each_once(&all, &WIDGETS, 11);
}

#[test]
fn an_instance_that_stops_hands_over_at_once_what_it_has_not_begun() {
    let mut all = instances(&WIDGETS);
    every_minute(all.settings());
    all.start("a");
    all.start("b");
    all.advance(seconds(60));
    // Something is in flight for longer than a lease.
    let slow = owned_by(&all, "a")[0];
    all.site(slow).faults().push_spec("send_msg:late=19s").unwrap();
    let id = queue(&mut all, "b", slow, "slow");
    all.engine("a").wake();
    all.advance(seconds(1));
    all.engine("a").stop();
    all.advance(LEASE / 2);
    assert_eq!(owned_by(&all, "b"), WIDGETS, "within a heartbeat");
    assert_eq!(delivery(&mut all, "b", id).state, DeliveryState::Sending);
    all.stop("a", seconds(20));
    assert_eq!(delivery(&mut all, "b", id).state, DeliveryState::Delivered);
    assert_eq!(all.fenced("a"), 0, "it finished under its lease");
    all.advance(minutes(3));
    assert_eq!(all.instances("b").len(), 1);
    all.check();
}

#[test]
fn a_reload_reaches_every_instance_whether_it_has_the_schedules_or_not() {
    let mut all = instances(&["w1"]);
    all.keep_for("w1", "a");
    all.keep_schedules_for("b");
    all.start("a");
    all.start("b");
    all.advance(minutes(1));
    every_minute(all.settings());
    all.settings().poll.rooms = seconds(20);
    for name in ["a", "b"] {
        all.reload(name);
        assert_eq!(all.engine(name).settings().announcements.len(), 1, "{name}");
    }
    let before = all.polls("a", "w1");
    all.advance(minutes(10));
    each_once(&all, &["w1"], 10);
    assert!(all.polls("a", "w1") - before <= 40, "by the new distance, and before announcements");
    assert!(all.reasons("a").is_empty() && all.reasons("b").is_empty());
    // Who has had none of the instants goes on where the other stood.
    all.keep_schedules_for("a");
    all.advance(minutes(5));
    each_once(&all, &["w1"], 15);
}

#[test]
fn an_instance_without_a_share_is_ready() {
    let mut all = instances(&["w1"]);
    all.keep_for("w1", "a");
    all.keep_schedules_for("a");
    all.start("a");
    all.start("b");
    assert!(all.reasons("b").is_empty(), "{:?}", all.engine("b").status().obstacles);
    assert_eq!(all.polls("b", "w1"), 0);
    assert!(all.engine("b").status().widgets.is_empty());
}
