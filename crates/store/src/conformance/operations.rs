//! What operators do and look at.

#![allow(missing_docs, reason = "the name of a case is its sentence")]

use std::collections::BTreeMap;

use imbabot_core::RoomId;

use super::Backend;
use super::support::*;
use crate::{
    AdoptSchedule, CancelFilter, Class, DeliveryFilter, DeliveryRecord, DeliveryState, Line,
    NewDelivery, NewOccurrence, OccurrenceCommit, OccurrenceOutcome, PauseScope, RangeRecord,
    Resolution, RetryVerdict, SignOfLife,
};

fn acts(bench: &Bench) -> Vec<String> {
    let lines = bench.lines().into_iter();
    lines
        .filter_map(|line| match line.line {
            Line::Operator(act) => {
                Some(format!("{} {}: {} -> {}", act.verb, act.target, act.before, act.after))
            }
            _ => None,
        })
        .collect()
}

pub fn a_pause_in_the_instant_of_the_one_before_holds_as_well(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    for scope in [PauseScope::All, PauseScope::Bot(bot("b"))] {
        for (paused, changes) in [(true, true), (false, true), (true, true), (true, false)] {
            assert_eq!(run(bench.store.pause(at(5), &scope, paused)), changes, "{scope}");
            assert_eq!(run(bench.store.paused()).contains(&scope), paused, "{scope}");
        }
    }
}

pub fn a_pause_holds_from_the_moment_it_is_committed(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    let of_bot = NewDelivery { bot: Some(bot("b")), room: RoomId(2), ..message("of bot") };
    let foreign = NewDelivery { widget: widget("v"), ..message("foreign") };
    let claim = |key: &str, now| {
        bench.enqueue(at(0), vec![message(key), of_bot.clone(), foreign.clone()]);
        let mut request = bench.request(at(now));
        let other = crate::WidgetClaim { widget: widget("v"), ..request.widgets[0].clone() };
        request.widgets.push(other);
        let claimed = run(bench.store.claim(request)).deliveries;
        let mut keys: Vec<_> = claimed.iter().map(|c| bench_key(&bench, c.id)).collect();
        for delivery in &claimed {
            bench.settle(at(now), delivery, again(at(now)));
        }
        keys.sort();
        keys.join(" ")
    };
    let all = "foreign k of bot";
    assert_eq!(claim("k", 1), all);
    for (now, scope, left) in [
        (2, PauseScope::All, ""),
        (4, PauseScope::Widget(widget("w")), "foreign"),
        (6, PauseScope::Bot(bot("b")), "foreign k"),
    ] {
        assert!(run(bench.store.pause(at(now), &scope, true)));
        assert!(!run(bench.store.pause(at(now), &scope, true)), "it is already");
        assert_eq!(run(bench.store.paused()), std::slice::from_ref(&scope));
        assert_eq!(claim("k", now), left, "{scope}");
        assert!(run(bench.store.pause(at(now + 1), &scope, false)));
        assert!(!run(bench.store.pause(at(now + 1), &scope, false)));
        assert_eq!(claim("k", now + 1), all, "after {scope}");
    }
    assert!(run(bench.store.paused()).is_empty());
    assert_eq!(
        acts(&bench)[..2],
        ["pause all: running -> paused", "resume all: paused -> running"]
    );
}

fn bench_key(bench: &Bench, id: imbabot_bot::DeliveryId) -> String {
    run(bench.store.delivery(id)).expect("it is there").key
}

pub fn a_paused_bot_holds_its_lane_and_no_other(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    let of_bot = NewDelivery { bot: Some(bot("b")), expires_at: at(50), ..message("of bot") };
    bench.enqueue(at(0), vec![of_bot, message("behind")]);
    run(bench.store.pause(at(1), &PauseScope::Bot(bot("b")), true));
    assert!(bench.claim(at(2)).is_empty(), "order holds");
    bench.sweep(at(50));
    assert_eq!(bench.state("of bot"), "dead(expired)", "a pause keeps nothing fresh");
    assert_eq!(bench.claim_one(at(51)).id, id("behind"));
}

pub fn what_is_not_done_is_listed_by_what_presses_most(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    bench.adopt(at(0), &["b", "c"]);
    bench.tell(at(0), (1..=3).map(|room| opened(room, &["b", "c"])).collect());
    let (entries, _) = bench.entries(at(1), &[("b", 1)]);
    bench.handle(&entries[0], at(2));
    for (n, expires) in [(1, 900), (2, 900), (3, 800), (4, 700), (5, 600)] {
        let key = format!("k{n}");
        let room = RoomId(n);
        let new = NewDelivery { room, expires_at: at(expires), ..message(&key) };
        bench.enqueue(at(0), vec![new]);
        // The first two are in doubt, one after the other.
        if n <= 2 {
            let claimed = bench.claim_one(at(10 * n.cast_signed()));
            bench.settle(at(10 * n.cast_signed()), &claimed, unknown());
        }
    }
    let keys = |records: &[DeliveryRecord]| -> String {
        records.iter().map(|record| record.key.as_str()).collect::<Vec<_>>().join(" ")
    };
    let backlog = run(bench.store.backlog(2));
    assert_eq!(keys(&backlog.unknown), "k1 k2");
    assert_eq!(keys(&backlog.queued), "k5 k4");
    assert_eq!(backlog.events, [(bot("b"), 2), (bot("c"), 3)]);
    assert_eq!(keys(&run(bench.store.backlog(9)).queued), "k5 k4 k3");
}

pub fn deliveries_are_listed_newest_first(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    for n in 1..=5 {
        bench.enqueue(at(n), vec![to_room(&format!("k{n}"), n.cast_unsigned())]);
    }
    let claimed = bench.claim(at(6));
    bench.settle(at(6), &claimed[0], delivered(1));
    let list = |filter: DeliveryFilter| -> String {
        let found = run(bench.store.deliveries(&filter));
        found.iter().map(|delivery| delivery.key.as_str()).collect::<Vec<_>>().join(" ")
    };
    let all = DeliveryFilter::default;
    assert_eq!(list(all()), "k5 k4 k3 k2 k1");
    assert_eq!(list(DeliveryFilter { limit: Some(2), ..all() }), "k5 k4");
    assert_eq!(list(DeliveryFilter { since: Some(at(4)), ..all() }), "k5 k4");
    assert_eq!(list(DeliveryFilter { state: Some(DeliveryState::Delivered), ..all() }), "k1");
    let some = DeliveryFilter { state: Some(DeliveryState::Sending), limit: Some(1), ..all() };
    assert_eq!(list(DeliveryFilter { since: Some(at(3)), ..some }), "k5");
}

pub fn only_what_is_queued_is_cancelled(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    let of_bot = NewDelivery { bot: Some(bot("b")), ..to_room("of bot", 3) };
    let of_schedule = NewDelivery {
        schedule: Some("s".into()),
        occurrence: Some("s@1".into()),
        ..to_room("of schedule", 4)
    };
    bench.enqueue(at(0), vec![to_room("sent", 1), to_room("lost", 2)]);
    for claimed in bench.claim(at(1)) {
        let outcome = if claimed.id == id("sent") { delivered(1) } else { unknown() };
        bench.settle(at(2), &claimed, outcome);
    }
    bench.enqueue(at(3), vec![of_bot, of_schedule, message("k"), message("rest")]);
    let cancel = |filter| run(bench.store.cancel(at(4), &filter));
    let ids = CancelFilter::Ids(vec![id("sent"), id("lost"), id("k"), id("nobody")]);
    assert_eq!(cancel(ids), [id("k")]);
    assert_eq!(cancel(CancelFilter::Bot(bot("b"))), [id("of bot")]);
    assert_eq!(cancel(CancelFilter::Schedule("s".into())), [id("of schedule")]);
    assert!(cancel(CancelFilter::State(DeliveryState::Unknown)).is_empty());
    assert_eq!(cancel(CancelFilter::State(DeliveryState::Queued)), [id("rest")]);
    assert_eq!(bench.state("k"), "dead(cancelled)");
    assert!(bench.claim(at(5)).is_empty());
    let first = format!("deliveries cancel delivery/{}: queued -> dead", id("k"));
    assert_eq!(acts(&bench)[0], first);
}

pub fn a_retry_needs_the_word_that_a_duplicate_is_accepted(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    bench.enqueue(at(0), vec![to_room("lost", 1), to_room("refused", 2), to_room("sent", 3)]);
    for claimed in bench.claim(at(1)) {
        let outcome = match claimed.room.0 {
            1 => unknown(),
            2 => refused(),
            _ => delivered(1),
        };
        bench.settle(at(2), &claimed, outcome);
    }
    let retry = |key: &str, accept| run(bench.store.retry(at(3), id(key), accept));
    assert_eq!(retry("nobody", true), RetryVerdict::Missing);
    assert_eq!(retry("sent", true), RetryVerdict::NotNow(DeliveryState::Delivered));
    assert_eq!(retry("lost", false), RetryVerdict::NeedsAcceptance);
    assert_eq!(retry("refused", false), RetryVerdict::Queued);
    assert_eq!(retry("refused", false), RetryVerdict::NotNow(DeliveryState::Queued));
    assert_eq!(bench.state("lost"), "unknown(seen_ambiguous)");
    assert_eq!(retry("lost", true), RetryVerdict::Queued);
    assert!(bench.record("lost").possible_duplicate);
    assert!(!bench.record("refused").possible_duplicate);
    let claimed = bench.claim(at(4));
    assert_eq!(claimed.iter().map(|c| c.attempt).collect::<Vec<_>>(), [2, 2]);
    for delivery in &claimed {
        bench.settle(at(5), delivery, refused());
    }
    assert_eq!(bench.state("refused"), "dead(rejected)");
    assert_eq!(bench.state("lost"), "dead(unresolved)", "of the first attempt nothing is known");
    assert_eq!(retry("lost", false), RetryVerdict::NeedsAcceptance);
}

pub fn a_retry_starts_the_time_that_the_content_keeps_anew(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    let keeps = NewDelivery { not_before: Some(at(100)), expires_at: at(400), ..message("k") };
    let stale = NewDelivery { expires_at: at(0), room: RoomId(2), ..message("stale") };
    bench.enqueue(at(0), vec![keeps, stale]);
    bench.sweep(at(400));
    for now in [1_000, 2_000, 3_000] {
        assert_eq!(run(bench.store.retry(at(now), id("k"), false)), RetryVerdict::Queued);
        assert_eq!(bench.record("k").expires_at, at(now + 300), "five minutes, each time");
        bench.sweep(at(now + 300));
        assert_eq!(bench.state("k"), "dead(expired)");
    }
    run(bench.store.retry(at(4_000), id("stale"), false));
    assert_eq!(bench.claim_one(at(4_010)).id, id("stale"), "a person wants it now");
    let long = NewDelivery { expires_at: at(99_999), room: RoomId(3), ..message("long") };
    bench.enqueue(at(4_000), vec![long]);
    run(bench.store.cancel(at(4_001), &CancelFilter::Ids(vec![id("long")])));
    run(bench.store.retry(at(4_002), id("long"), false));
    assert!(bench.record("long").expires_at >= at(99_999), "never shorter");
}

pub fn a_retry_by_a_person_uses_up_no_repetition(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    bench.enqueue(at(0), vec![NewDelivery { expires_at: at(9_999), ..repeated("k") }]);
    let lose = |now| {
        let claimed = bench.claim_one(at(now));
        bench.settle(at(now), &claimed, unknown()).state
    };
    assert_eq!(lose(1), DeliveryState::Unknown);
    assert_eq!(run(bench.store.retry(at(2), id("k"), true)), RetryVerdict::Queued);
    for now in [3, 100] {
        assert_eq!(lose(now), DeliveryState::Unknown, "two are allowed");
        bench.sweep(at(now + 60));
    }
    assert_eq!(lose(200), DeliveryState::Dead);
}

pub fn a_person_resolves_what_is_unknown_and_nothing_else(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    let keys = ["seen", "not seen", "refused", "queued"];
    let rows = keys.iter().enumerate().map(|(n, key)| to_room(key, n as u64));
    bench.enqueue(at(0), rows.collect());
    let behind = NewDelivery { room: RoomId(0), ..repeated("behind") };
    for claimed in bench.claim(at(1)) {
        let outcome = match claimed.room.0 {
            0 | 1 => unknown(),
            2 => refused(),
            _ => again(at(1)),
        };
        bench.settle(at(2), &claimed, outcome);
    }
    bench.enqueue(at(3), vec![behind]);
    let resolve = |key: &str, as_| run(bench.store.resolve(at(4), id(key), as_));
    assert_eq!(resolve("nobody", Resolution::Dead), None);
    assert_eq!(resolve("queued", Resolution::Dead), Some(DeliveryState::Queued));
    assert_eq!(resolve("refused", Resolution::Delivered), Some(DeliveryState::Dead));
    assert_eq!(resolve("seen", Resolution::Delivered), Some(DeliveryState::Unknown));
    assert_eq!(resolve("not seen", Resolution::Dead), Some(DeliveryState::Unknown));
    assert_eq!(bench.state("seen"), "delivered(operator)");
    assert_eq!(bench.state("not seen"), "dead(unresolved)");
    assert_eq!(bench.state("queued"), "queued");
    assert_eq!(bench.state("refused"), "dead(rejected)");
    assert_eq!(acts(&bench).len(), 2);
    bench.sweep(at(99_999));
    assert_eq!(bench.state("seen"), "delivered(operator)");
}

pub fn a_lane_goes_on_when_what_it_waited_for_is_resolved(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    bench.enqueue(at(0), vec![repeated("k"), repeated("behind")]);
    let claimed = bench.claim_one(at(1));
    bench.settle(at(2), &claimed, unknown());
    assert!(bench.claim(at(3)).is_empty());
    run(bench.store.resolve(at(4), id("k"), Resolution::Delivered));
    assert_eq!(bench.claim_one(at(5)).id, id("behind"));
}

/// How a delivery stands.
type Standing = (DeliveryState, Option<String>);

/// How many deliveries stand in each way, and how often one came to it, by the ledger.
fn recount(bench: &Bench) -> Vec<(Standing, u64, u64)> {
    let mut counts: BTreeMap<Standing, (u64, u64)> = BTreeMap::new();
    let mut last = BTreeMap::new();
    for line in bench.lines() {
        if let Line::Delivery(record) = line.line {
            let standing = (record.state, record.reason.clone());
            counts.entry(standing.clone()).or_default().1 += 1;
            last.insert(record.id.to_string(), standing);
        }
    }
    for standing in last.into_values() {
        counts.entry(standing).or_default().0 += 1;
    }
    counts.into_iter().map(|(standing, (present, total))| (standing, present, total)).collect()
}

pub fn counts_are_what_a_recount_finds(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    bench.adopt(at(0), &["b", "c"]);
    bench.tell(at(0), (1..=4).map(|room| opened(room, &["b", "c"])).collect());
    bench.enqueue(
        at(0),
        (1..=6).map(|n| NewDelivery { room: RoomId(n), ..repeated(&format!("k{n}")) }).collect(),
    );
    for claimed in bench.claim(at(1)) {
        let outcome = match claimed.room.0 {
            1 => delivered(1),
            2 | 3 => unknown(),
            4 => refused(),
            _ => continue,
        };
        bench.settle(at(2), &claimed, outcome);
    }
    bench.sweep(at(62));
    let (entries, _) = bench.entries(at(63), &[("b", 3)]);
    run(bench.store.fail_event(&entries[0], at(64), "error", None));
    bench.handle(&entries[1], at(64));
    run(bench
        .store
        .adopt_schedules(at(0), vec![AdoptSchedule { key: "s".into(), definition: "d".into() }]));
    run(bench.store.trigger(
        at(1),
        "s",
        old_occurrence("s", 1, OccurrenceOutcome::Missed, Some("x")),
    ));
    let told = || {
        let counts = run(bench.store.tally()).deliveries;
        let mut told: Vec<_> =
            counts.into_iter().map(|c| ((c.state, c.reason), c.present, c.total)).collect();
        told.sort();
        told
    };
    assert_eq!(told(), recount(&bench));
    let states = told().iter().filter(|(_, present, _)| *present > 0).count();
    assert_eq!(states, 4, "{:?}", told());
    let tally = run(bench.store.tally());
    assert_eq!(tally.possible_duplicates, 2);
    assert_eq!(tally.events_waiting, 6);
    assert_eq!(tally.events_poisoned, [(bot("b"), 1)]);
    // What was pruned is no longer there, and has been.
    let before = told();
    run(bench.store.prune(at(10_000), at(9_000), 100));
    let (delivered, present, total) = told()
        .into_iter()
        .find(|((state, _), ..)| *state == DeliveryState::Delivered)
        .expect("one was delivered");
    assert_eq!((present, total), (0, 1), "{delivered:?}");
    assert!(before.len() <= told().len());
}

fn old_occurrence(
    key: &str,
    nominal: i64,
    outcome: OccurrenceOutcome,
    reason: Option<&str>,
) -> NewOccurrence {
    NewOccurrence {
        id: format!("{key}@{}", at(nominal).compact()),
        nominal_at: at(nominal),
        outcome,
        reason: reason.map(str::to_owned),
        targets: vec![],
        events: vec![],
    }
}

fn prune(bench: &Bench, now: i64, before: i64) -> u64 {
    let mut gone = 0;
    loop {
        match run(bench.store.prune(at(now), at(before), 3)) {
            0 => return gone,
            some => gone += some,
        }
    }
}

pub fn pruning_takes_what_is_old_and_finished(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    bench.adopt(at(0), &["b"]);
    bench.tell(at(0), (1..=9).map(|room| opened(room, &["b"])).collect());
    bench.enqueue(at(0), (1..=9).map(|n| to_room(&format!("k{n}"), n)).collect());
    for claimed in bench.claim(at(1)) {
        bench.settle(at(1), &claimed, delivered(claimed.room.0));
    }
    for entry in bench.entries(at(1), &[("b", 9)]).0 {
        bench.handle(&entry, at(1));
    }
    bench.enqueue(at(50), vec![message("fresh")]);
    assert_eq!(prune(&bench, 100, 1), 0, "not older than the first second");
    assert!(prune(&bench, 100, 40) > 0);
    let left = run(bench.store.deliveries(&DeliveryFilter::default()));
    assert_eq!(left.iter().map(|delivery| delivery.key.as_str()).collect::<Vec<_>>(), ["fresh"]);
    assert!(run(bench.store.events(false, 99)).is_empty());
    for line in bench.lines() {
        match line.line {
            Line::Delivery(record) => assert_eq!(record.key, "fresh"),
            Line::Incarnation(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(!bench.enqueue(at(101), vec![message("k1")]).remove(0).known);
}

pub fn pruning_keeps_what_is_still_needed(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    bench.adopt(at(0), &["b"]);
    bench.tell(at(0), (1..=8).map(|room| opened(room, &["b"])).collect());
    let (entries, _) = bench.entries(at(1), &[("b", 8)]);
    for entry in &entries[..4] {
        run(bench.store.fail_event(entry, at(1), "error", None));
    }
    run(bench.store.fail_event(&entries[4], at(1), "error", Some(at(2))));
    bench.handle(&entries[7], at(1));
    let later = NewDelivery { expires_at: at(99_999), ..to_room("queued", 2) };
    bench.enqueue(at(0), vec![to_room("unknown", 1), later, to_room("sending", 3)]);
    for claimed in bench.claim(at(1)) {
        match claimed.room.0 {
            1 => drop(bench.settle(at(1), &claimed, unknown())),
            2 => drop(bench.settle(at(1), &claimed, again(at(2)))),
            _ => {}
        }
    }
    let schedule = AdoptSchedule { key: "s".into(), definition: "d".into() };
    run(bench.store.adopt_schedules(at(0), vec![schedule]));
    let targets = vec![crate::Target { widget: widget("w"), room: RoomId(1) }];
    let pinned = old_occurrence("s", 1, OccurrenceOutcome::Fired, None);
    run(bench.store.trigger(at(1), "s", NewOccurrence { targets, ..pinned }));
    let memory =
        vec![imbabot_bot::MemoryWrite { key: "k".into(), value: Some(1.into()), based_on: None }];
    let wakes = vec![("w".into(), at(5))];
    let effect = crate::Handled { memory, wakes, ..bench.handled(&entries[6], at(1)) };
    bench.commit(effect);
    let before = bench.lines();
    let cursors = run(bench.store.cursors());

    assert!(prune(&bench, 5_000, 4_000) > 0, "two entries were handled");
    assert_eq!(run(bench.store.events(true, 99)).len(), 4, "poisoned ones wait for a person");
    assert_eq!(run(bench.store.events(false, 99)).len(), 6);
    assert_eq!(bench.record("unknown").state, DeliveryState::Unknown);
    assert_eq!(bench.record("sending").state, DeliveryState::Sending);
    assert_eq!(bench.record("queued").state, DeliveryState::Queued);
    assert_eq!(run(bench.store.cursors()), cursors);
    assert_eq!(run(bench.store.pinned(9)).len(), 1);
    assert!(run(bench.store.remembered(&bot("b"), &widget("w"), "k")).is_some());
    assert_eq!(run(bench.store.fire_wakes(at(5))).0, 1);
    let handled = [&entries[6], &entries[7]].map(|entry| format!("{}/b", entry.event_name()));
    let kept = before
        .into_iter()
        .filter(|line| !matches!(&line.line, Line::Event(record) if handled.contains(&record.id)));
    let after = bench.lines();
    assert_eq!(after, kept.collect::<Vec<_>>(), "what lives keeps its whole history");
    assert!(run(bench.store.retry_event(at(5_001), &format!("{}/b", entries[0].event_name()))));
    assert_eq!(bench.claim_one(at(5_002)).id, id("queued"));
}

pub fn many_poisoned_entries_do_not_stop_the_pruning(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    bench.adopt(at(0), &["b"]);
    bench.tell(at(0), (1..=12).map(|room| opened(room, &["b"])).collect());
    for (n, entry) in bench.entries(at(1), &[("b", 12)]).0.iter().enumerate() {
        if n < 9 {
            run(bench.store.fail_event(entry, at(1), "error", None));
        } else {
            bench.handle(entry, at(1));
        }
    }
    prune(&bench, 5_000, 4_000);
    assert_eq!(run(bench.store.events(false, 99)).len(), 9);
}

pub fn an_occurrence_does_not_fire_again_after_it_was_pruned(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    let schedule = AdoptSchedule { key: "s".into(), definition: "d".into() };
    run(bench.store.adopt_schedules(at(0), vec![schedule.clone()]));
    let occurrence = old_occurrence("s", 10, OccurrenceOutcome::Fired, None);
    let step = OccurrenceCommit {
        key: "s".into(),
        now: at(10),
        from: at(0),
        through: at(10),
        occurrences: vec![occurrence],
        ranges: vec![],
    };
    assert!(run(bench.store.commit_occurrences(step.clone())));
    prune(&bench, 5_000, 4_000);
    assert!(!run(bench.store.commit_occurrences(step)), "the cursor stays");
    assert_eq!(
        run(bench.store.adopt_schedules(at(5_000), vec![schedule]))[0].fired_through,
        at(10)
    );
}

pub fn old_occurrences_become_runs_that_do_not_overlap(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    let schedule = |key: &str| AdoptSchedule { key: key.into(), definition: "d".into() };
    run(bench.store.adopt_schedules(at(0), vec![schedule("s"), schedule("t")]));
    use OccurrenceOutcome::{Fired, Missed, Skipped};
    let one = |n, outcome, reason| old_occurrence("s", n, outcome, reason);
    let occurrences = vec![
        one(1, Fired, None),
        one(2, Fired, None),
        one(3, Missed, Some("expired")),
        one(4, Fired, None),
        // 5 to 7 are a run already.
        one(8, Fired, None),
        one(9, Skipped, Some("overlap")),
        one(10, Skipped, Some("no_rooms")),
    ];
    let range = crate::NewRange {
        outcome: Missed,
        reason: "misfire".into(),
        from: at(5),
        to: at(7),
        count: 3,
    };
    let step = OccurrenceCommit {
        key: "s".into(),
        now: at(10),
        from: at(0),
        through: at(10),
        occurrences,
        ranges: vec![range],
    };
    assert!(run(bench.store.commit_occurrences(step)));
    let manual = NewOccurrence { id: "s@x!manual".into(), ..one(2, Fired, None) };
    run(bench.store.trigger(at(11), "s", manual));
    run(bench.store.trigger(at(12), "t", old_occurrence("t", 3, Fired, None)));
    let lines = bench.lines();
    let last = lines.last().unwrap().seq;
    while run(bench.store.prune(at(5_000), at(4_000), 100)) > 0 {}
    let runs: Vec<String> = run(bench.store.ledger(last, 99))
        .into_iter()
        .filter_map(|line| match line.line {
            Line::Range(RangeRecord { schedule, outcome, reason, from, to, count }) => {
                let span = (from.since(at(0)).as_secs(), to.since(at(0)).as_secs());
                Some(format!("{schedule} {outcome} {reason} {}-{} {count}", span.0, span.1))
            }
            _ => None,
        })
        .collect();
    let expected = [
        "s fired retention 1-2 2",
        "s missed expired 3-3 1",
        "s fired retention 4-4 1",
        "s fired retention 8-8 1",
        "s skipped overlap 9-9 1",
        "s skipped no_rooms 10-10 1",
        "t fired retention 3-3 1",
    ];
    assert_eq!(runs, expected);
}

pub fn a_schedule_that_always_fires_is_one_run_after_years(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    let schedule = AdoptSchedule { key: "s".into(), definition: "d".into() };
    run(bench.store.adopt_schedules(at(0), vec![schedule]));
    for n in 1..=30 {
        let step = OccurrenceCommit {
            key: "s".into(),
            now: at(n),
            from: at(n - 1),
            through: at(n),
            occurrences: vec![old_occurrence("s", n, OccurrenceOutcome::Fired, None)],
            ranges: vec![],
        };
        assert!(run(bench.store.commit_occurrences(step)));
        run(bench.store.prune(at(n), at(n), 100));
    }
    let runs: Vec<RangeRecord> = bench
        .lines()
        .into_iter()
        .filter_map(|line| match line.line {
            Line::Range(range) => Some(range),
            _ => None,
        })
        .collect();
    assert_eq!(runs.len(), 1, "{runs:?}");
    assert_eq!((runs[0].from, runs[0].to, runs[0].count), (at(1), at(29), 29));
    // Long after: what accounts for instants is not forgotten.
    run(bench.store.prune(at(1_000_000), at(900_000), 100));
    let told = bench.lines().into_iter().find(|line| matches!(line.line, Line::Range(_)));
    assert!(matches!(told.unwrap().line, Line::Range(run) if run.count == 30));
}

pub fn a_record_goes_with_all_its_lines_at_once(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    bench.adopt(at(0), &["b"]);
    for n in 1..=5 {
        bench.enqueue(at(n), vec![to_room(&format!("k{n}"), n.unsigned_abs())]);
        bench.tell(at(n), vec![opened(n.unsigned_abs(), &["b"])]);
    }
    for claimed in bench.claim(at(10)) {
        bench.settle(at(11), &claimed, delivered(claimed.room.0));
    }
    let (entries, _) = bench.entries(at(12), &[("b", 5)]);
    for entry in &entries {
        bench.handle(entry, at(12));
    }
    loop {
        let gone = run(bench.store.prune(at(5_000), at(4_000), 1));
        let mut lines: BTreeMap<String, usize> = BTreeMap::new();
        for line in bench.lines() {
            let (name, whole) = match line.line {
                Line::Delivery(record) => (record.id.to_string(), 5),
                Line::Attempt(attempt) => (attempt.delivery.to_string(), 5),
                Line::Event(event) => (event.id, 0),
                _ => continue,
            };
            *lines.entry(name).or_insert(0) += usize::from(whole > 0);
        }
        // Queued, sending, delivered; the attempt's beginning and end.
        assert!(lines.values().all(|count| [0, 5].contains(count)), "{lines:?}");
        if gone == 0 {
            assert!(lines.is_empty(), "{lines:?}");
            break;
        }
    }
}

pub fn a_new_store_is_whole(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    bench.enqueue(at(0), vec![message("k")]);
    assert_eq!(run(bench.store.check_integrity(false)), None);
    assert_eq!(run(bench.store.check_integrity(true)), None);
}

pub fn a_message_that_another_person_cancels_meanwhile_is_settled_as_it_went(
    backend: &dyn Backend,
) {
    let bench = Bench::new(backend);
    bench.enqueue(at(0), vec![message("k")]);
    let claimed = bench.claim_one(at(1));
    let ids = CancelFilter::Ids(vec![id("k")]);
    assert!(run(bench.store.cancel(at(2), &ids)).is_empty(), "it is on its way");
    assert_eq!(
        run(bench.store.retry(at(2), id("k"), true)),
        RetryVerdict::NotNow(DeliveryState::Sending)
    );
    assert_eq!(
        run(bench.store.resolve(at(2), id("k"), Resolution::Dead)),
        Some(DeliveryState::Sending)
    );
    assert_eq!(bench.settle(at(3), &claimed, delivered(1)).class, Class::Delivered);
    assert_eq!(bench.state("k"), "delivered");
}

pub fn the_last_sign_of_life_is_kept_over_runs_and_is_no_part_of_the_ledger(backend: &dyn Backend) {
    let mut bench = Bench::new(backend);
    let lines = bench.lines().len();
    assert_eq!(run(bench.store.last_sign()), None);
    for (second, stopped) in [(7, false), (9, true), (8, false)] {
        let status = format!("{{\"ready\":{stopped}}}");
        let sign = SignOfLife { at: at(second), stopped, status };
        run(bench.store.sign(sign.clone()));
        assert_eq!(run(bench.store.last_sign()), Some(sign), "also if the clock went back");
    }
    assert_eq!(bench.lines().len(), lines);
    bench.kill(at(20));
    while run(bench.store.prune(at(5_000), at(4_000), 100)) > 0 {}
    assert_eq!(run(bench.store.last_sign()).map(|sign| sign.at), Some(at(8)));
}
