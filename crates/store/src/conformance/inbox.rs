//! What bots are told: order, tries, the whole effect of a handler or nothing of it.

#![allow(missing_docs, reason = "the name of a case is its sentence")]

use imbabot_bot::{MemoryWrite, RoomChange, Seen, UserChange};
use imbabot_core::{Room, RoomId, Timestamp, User};

use super::Backend;
use super::support::*;
use crate::{
    DeadReason, DeliveryState, Enqueued, EventBody, EventEntry, EventOutcome, EventRecord, Handled,
    HandledOutcome, Line, NewDelivery, NewEvent, PauseScope, SendLimits,
};

fn bench_with(backend: &dyn Backend, bots: &[&str], events: Vec<NewEvent>) -> Bench {
    let bench = Bench::new(backend);
    bench.adopt(at(0), bots);
    bench.tell(at(0), events);
    bench
}

fn records(bench: &Bench) -> Vec<EventRecord> {
    run(bench.store.events(false, 1_000))
}

/// How an entry stands: tries, outcome and reason.
fn stands(bench: &Bench, entry: &EventEntry) -> (u32, Option<EventOutcome>, Option<String>) {
    let id = format!("{}/{}", entry.event_name(), entry.bot);
    let record = records(bench).into_iter().find(|record| record.id == id).expect("it is there");
    (record.tries, record.outcome, record.reason)
}

fn committed(outcome: HandledOutcome) -> Vec<Enqueued> {
    match outcome {
        HandledOutcome::Committed(deliveries) => deliveries,
        HandledOutcome::Conflict => panic!("a conflict"),
    }
}

fn said(entry: &EventEntry, key: &str, room: u64) -> NewDelivery {
    NewDelivery {
        bot: Some(entry.bot.clone()),
        event: Some(entry.event_name()),
        ..to_room(&format!("bot/{}/{key}", entry.bot), room)
    }
}

pub fn entries_of_a_lane_are_handled_in_order(backend: &dyn Backend) {
    let bench = bench_with(backend, &["b"], vec![opened(1, &["b"]), opened(2, &["b"])]);
    bench.tell(at(1), vec![opened(1, &["b"]), opened(1, &["b"])]);
    let (first, _) = bench.entries(at(2), &[("b", 9)]);
    assert_eq!(first.iter().map(|e| e.body.room().unwrap().0).collect::<Vec<_>>(), [1, 2]);
    assert!(first[0].event < first[1].event);
    assert!(bench.entries(at(2), &[("b", 9)]).0.is_empty());
    let mut last = first[0].clone();
    for _ in 0..2 {
        bench.handle(&last, at(3));
        let next = bench.entry(at(3));
        assert!(next.event > last.event);
        last = next;
    }
}

pub fn what_was_seen_under_a_clock_ahead_is_told_when_the_clock_is_right(backend: &dyn Backend) {
    let bench = bench_with(backend, &["b"], vec![]);
    bench.tell(at(8 * 86_400), vec![opened(1, &["b"]), opened(1, &["b"]), opened(2, &["b"])]);
    let (none, next) = bench.entries(at(5), &[("b", 9)]);
    assert_eq!((none.len(), next), (0, Some(at(5))), "ask again now");
    let (told, _) = bench.entries(at(5), &[("b", 9)]);
    assert_eq!(told.iter().map(|e| e.body.room().unwrap().0).collect::<Vec<_>>(), [1, 2]);
    bench.handle(&told[0], at(6));
    assert_eq!(bench.entry(at(6)).body.room().unwrap().0, 1, "the one behind it, too");
}

pub fn bots_are_told_independently(backend: &dyn Backend) {
    let bench = bench_with(backend, &["b", "c"], vec![opened(1, &["b", "c"])]);
    bench.tell(at(1), vec![opened(1, &["c"])]);
    let (entries, _) = bench.entries(at(2), &[("b", 1), ("c", 1)]);
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[0].event, entries[1].event, "one event, two entries");
    run(bench.store.fail_event(&entries[0], at(3), "error", None));
    bench.handle(&entries[1], at(3));
    assert!(bench.entries(at(4), &[("b", 9)]).0.is_empty());
    assert_eq!(bench.entries(at(4), &[("c", 9)]).0.len(), 1);
}

pub fn an_event_for_nobody_leaves_nothing(backend: &dyn Backend) {
    let bench = bench_with(backend, &["b"], vec![opened(1, &[])]);
    assert!(records(&bench).is_empty());
    assert!(bench.entries(at(1), &[("b", 9)]).0.is_empty());
}

pub fn no_more_is_handed_out_than_a_bot_can_take(backend: &dyn Backend) {
    let events = (1..=5).map(|room| opened(room, &["b"])).collect();
    let bench = bench_with(backend, &["b"], events);
    assert!(bench.entries(at(1), &[("b", 0)]).0.is_empty());
    assert!(bench.entries(at(1), &[("c", 9)]).0.is_empty());
    assert_eq!(bench.entries(at(1), &[("b", 2)]).0.len(), 2);
    assert_eq!(bench.entries(at(1), &[("b", 9)]).0.len(), 3);
}

pub fn a_try_is_counted_before_the_handler_runs(backend: &dyn Backend) {
    let mut bench = bench_with(backend, &["b"], vec![opened(1, &["b"])]);
    for tries in 1..=3 {
        let entry = bench.entry(at(i64::from(tries)));
        assert_eq!(entry.tries, tries);
        assert_eq!(stands(&bench, &entry).0, tries, "durable while it runs");
        bench.kill(at(i64::from(tries)));
    }
}

pub fn a_failed_entry_is_tried_again_in_its_time_and_its_lane_waits(backend: &dyn Backend) {
    let bench = bench_with(backend, &["b"], vec![opened(1, &["b"]), opened(1, &["b"])]);
    let first = bench.entry(at(1));
    run(bench.store.fail_event(&first, at(2), "error: no", Some(at(10))));
    let (none, next) = bench.entries(at(9), &[("b", 9)]);
    assert!(none.is_empty());
    assert_eq!(next, Some(at(10)));
    let second = bench.entry(at(10));
    assert_eq!((second.event, second.tries), (first.event, 2));
    run(bench.store.fail_event(&second, at(11), "panic: oh", None));
    let poisoned = Some(EventOutcome::Poisoned);
    assert_eq!(stands(&bench, &second), (2, poisoned, Some("panic: oh".into())));
    assert!(bench.entry(at(12)).event > first.event, "its lane goes on");
    let poisoned = run(bench.store.events(true, 10));
    assert_eq!(poisoned.len(), 1);
    assert_eq!(poisoned[0].id, format!("{}/b", first.event_name()));
}

pub fn the_whole_effect_of_a_handler_is_committed(backend: &dyn Backend) {
    let bench = bench_with(backend, &["b"], vec![opened(1, &["b"])]);
    let entry = bench.entry(at(1));
    let write = |key: &str, value: i64, based_on| MemoryWrite {
        key: key.into(),
        value: Some(value.into()),
        based_on,
    };
    let effect = Handled {
        sends: vec![said(&entry, "one", 1), said(&entry, "two", 2)],
        wakes: vec![("later".into(), at(60))],
        memory: vec![write("seen", 1, Some(Seen::Absent)), write("blind", 2, None)],
        ..bench.handled(&entry, at(2))
    };
    let deliveries = committed(bench.commit(effect.clone()));
    assert_eq!(
        deliveries.iter().map(|d| d.id).collect::<Vec<_>>(),
        [id("bot/b/one"), id("bot/b/two")]
    );
    assert_eq!(bench.claim(at(3)).len(), 2);
    let (value, version) = run(bench.store.remembered(&bot("b"), &widget("w"), "seen")).unwrap();
    assert_eq!(value, 1);
    let (other, same) = run(bench.store.remembered(&bot("b"), &widget("w"), "blind")).unwrap();
    assert_eq!((other, same), (2.into(), version));
    assert_eq!(run(bench.store.remembered(&bot("c"), &widget("w"), "seen")), None);
    assert_eq!(run(bench.store.remembered(&bot("b"), &widget("v"), "seen")), None);
    assert_eq!(run(bench.store.fire_wakes(at(2))), (0, Some(at(60))));
    assert_eq!(stands(&bench, &entry), (1, Some(EventOutcome::Handled), None));
    assert_eq!(bench.commit(effect), HandledOutcome::Conflict, "once");
    assert_eq!(bench.record("bot/b/one").event.as_deref(), Some(entry.event_name().as_str()));
}

pub fn a_conflict_of_memory_keeps_nothing_and_gives_the_try_back(backend: &dyn Backend) {
    let events = vec![opened(1, &["b"]), opened(2, &["b"])];
    let bench = bench_with(backend, &["b"], events);
    let (entries, _) = bench.entries(at(1), &[("b", 2)]);
    let count = |entry: &EventEntry, based_on, value: i64| Handled {
        memory: vec![MemoryWrite { key: "n".into(), value: Some(value.into()), based_on }],
        sends: vec![said(entry, &entry.event_name(), 1)],
        wakes: vec![(entry.event_name(), at(9))],
        ..bench.handled(entry, at(2))
    };
    committed(bench.commit(count(&entries[0], Some(Seen::Absent), 1)));
    let late = bench.commit(count(&entries[1], Some(Seen::Absent), 1));
    assert_eq!(late, HandledOutcome::Conflict);
    let name = entries[1].event_name();
    assert_eq!(run(bench.store.delivery(id(&format!("bot/b/{name}")))), None);
    assert_eq!(run(bench.store.fire_wakes(at(9))).0, 1, "only the wake of the first");
    assert_eq!(stands(&bench, &entries[1]).0, 0);
    let again = bench.entry(at(3));
    assert_eq!((again.event, again.tries), (entries[1].event, 1));
    let (_, version) = run(bench.store.remembered(&bot("b"), &widget("w"), "n")).unwrap();
    committed(bench.commit(count(&again, Some(Seen::Version(version)), 2)));
    let (value, _) = run(bench.store.remembered(&bot("b"), &widget("w"), "n")).unwrap();
    assert_eq!(value, 2);
}

pub fn a_version_of_memory_is_never_used_twice(backend: &dyn Backend) {
    let events = (1..=12).map(|room| opened(room, &["b"])).collect();
    let bench = bench_with(backend, &["b"], events);
    let mut seen = Vec::new();
    // Written, written over, removed and written anew, with old records pruned in between.
    for (n, entry) in bench.entries(at(1), &[("b", 12)]).0.iter().enumerate() {
        let value = (n % 3 != 2).then(|| n.into());
        let memory = vec![MemoryWrite { key: "n".into(), value, based_on: None }];
        committed(bench.commit(Handled { memory, ..bench.handled(entry, at(2)) }));
        if let Some((_, version)) = run(bench.store.remembered(&bot("b"), &widget("w"), "n")) {
            assert!(!seen.contains(&version), "{version} twice");
            seen.push(version);
        }
        run(bench.store.prune(at(10_000), at(9_000), 100));
    }
    assert_eq!(seen.len(), 8);
}

pub fn a_try_that_was_given_up_decides_nothing_any_more(backend: &dyn Backend) {
    let bench = bench_with(backend, &["b"], vec![opened(1, &["b"])]);
    let slow = bench.entry(at(1));
    run(bench.store.fail_event(&slow, at(2), "timeout", Some(at(3))));
    let second = bench.entry(at(3));
    let effect = Handled { sends: vec![said(&slow, "late", 1)], ..bench.handled(&slow, at(4)) };
    assert_eq!(bench.commit(effect), HandledOutcome::Conflict);
    assert_eq!(run(bench.store.delivery(id("bot/b/late"))), None, "it sends nothing");
    run(bench.store.fail_event(&slow, at(4), "late", None));
    assert_eq!(stands(&bench, &second).1, None, "the second try goes on");
    bench.handle(&second, at(5));
    run(bench.store.fail_event(&second, at(6), "later still", None));
    run(bench.store.fail_event(&second, at(6), "later still", Some(at(7))));
    assert_eq!(stands(&bench, &second).1, Some(EventOutcome::Handled), "handled stays handled");
    assert!(bench.entries(at(9), &[("b", 1)]).0.is_empty());
}

pub fn a_poisoned_entry_can_be_tried_again(backend: &dyn Backend) {
    let bench = bench_with(backend, &["b"], vec![opened(1, &["b"])]);
    let entry = bench.entry(at(1));
    let name = format!("{}/b", entry.event_name());
    assert!(!run(bench.store.retry_event(at(1), &name)), "it is not poisoned");
    run(bench.store.fail_event(&entry, at(2), "error", None));
    for wrong in ["e999/b", "17/b", "e1", "", "ex/b", "e1/nobody"] {
        assert!(!run(bench.store.retry_event(at(3), wrong)), "{wrong}");
    }
    assert!(run(bench.store.retry_event(at(3), &name)));
    assert!(!run(bench.store.retry_event(at(3), &name)));
    assert_eq!(stands(&bench, &entry), (0, None, None));
    let told = bench.lines().into_iter().rev().find_map(|line| match line.line {
        Line::Event(record) => Some(record.outcome),
        _ => None,
    });
    assert_eq!(told, Some(None), "the ledger tells that it waits again");
    let again = bench.entry(at(4));
    assert_eq!(again.tries, 1);
    bench.handle(&again, at(5));
}

pub fn a_revived_entry_does_not_run_beside_a_later_one(backend: &dyn Backend) {
    let events = vec![opened(1, &["b"]), opened(1, &["b"]), opened(1, &["b"])];
    let bench = bench_with(backend, &["b"], events);
    let first = bench.entry(at(1));
    run(bench.store.fail_event(&first, at(2), "error", None));
    let second = bench.entry(at(3));
    assert!(run(bench.store.retry_event(at(4), &format!("{}/b", first.event_name()))));
    assert!(bench.entries(at(5), &[("b", 9)]).0.is_empty(), "the lane is busy");
    // The later one fails: then the earlier one has its turn first.
    run(bench.store.fail_event(&second, at(6), "error", Some(at(6))));
    let turn = bench.entry(at(7));
    assert_eq!(turn.event, first.event);
    assert!(bench.entries(at(8), &[("b", 9)]).0.is_empty());
    bench.handle(&turn, at(8));
    let turn = bench.entry(at(9));
    assert_eq!((turn.event, turn.tries), (second.event, 2));
    bench.handle(&turn, at(9));
    assert!(bench.entry(at(10)).event > second.event);
}

pub fn a_revived_entry_has_its_turn_first_whatever_stops_the_later_one(backend: &dyn Backend) {
    for stop in ["kill", "end", "release", "conflict"] {
        let events = vec![opened(1, &["b"]), opened(1, &["b"])];
        let mut bench = bench_with(backend, &["b"], events);
        let first = bench.entry(at(1));
        run(bench.store.fail_event(&first, at(2), "error", None));
        let second = bench.entry(at(3));
        assert!(run(bench.store.retry_event(at(4), &format!("{}/b", first.event_name()))));
        match stop {
            "kill" => drop(bench.kill(at(5))),
            "end" => run(bench.store.end(bench.incarnation, at(5))),
            "release" => run(bench.store.release_running(at(5))),
            _ => {
                let based_on = Some(Seen::Version(99));
                let memory = vec![MemoryWrite { key: "k".into(), value: None, based_on }];
                let outcome = bench.commit(Handled { memory, ..bench.handled(&second, at(5)) });
                assert_eq!(outcome, HandledOutcome::Conflict);
            }
        }
        let (entries, _) = bench.entries(at(6), &[("b", 9)]);
        assert_eq!(entries.len(), 1, "one of a lane at a time, after {stop}");
        assert_eq!(entries[0].event, first.event, "after {stop}");
        bench.handle(&entries[0], at(7));
        let again = bench.entry(at(8));
        assert_eq!((again.event, again.tries), (second.event, if stop == "kill" { 2 } else { 1 }));
    }
}

pub fn what_nobody_handles_any_more_waits_again_with_its_try(backend: &dyn Backend) {
    let bench = bench_with(backend, &["b"], vec![opened(1, &["b"]), opened(2, &["b"])]);
    let (entries, _) = bench.entries(at(1), &[("b", 2)]);
    bench.handle(&entries[0], at(2));
    run(bench.store.release_running(at(3)));
    assert_eq!(stands(&bench, &entries[0]).1, Some(EventOutcome::Handled));
    let again = bench.entry(at(4));
    assert_eq!((again.event, again.tries), (entries[1].event, 1));
    run(bench.store.release_running(at(5)));
    assert_eq!(bench.entries(at(6), &[("b", 9)]).0.len(), 1, "it is no suspect");
}

pub fn an_entry_that_had_no_turn_waits_again_with_its_try(backend: &dyn Backend) {
    let mut bench = bench_with(backend, &["b"], vec![opened(1, &["b"]), opened(1, &["b"])]);
    let entry = bench.entry(at(1));
    run(bench.store.give_back(&entry, at(5)));
    let (none, due) = bench.entries(at(4), &[("b", 9)]);
    assert!(none.is_empty(), "the next of its lane waits for it");
    assert_eq!(due, Some(at(5)));
    let again = bench.entry(at(5));
    assert_eq!((again.event, again.tries), (entry.event, 1));
    // A late word of the try that was given up changes nothing, and a suspect stays one.
    run(bench.store.fail_event(&again, at(6), "error", Some(at(7))));
    run(bench.store.give_back(&again, at(100)));
    assert_eq!(bench.entry(at(7)).tries, 2);
    bench.kill(at(8));
    let suspect = bench.entry(at(9));
    assert_eq!(suspect.tries, 3);
    run(bench.store.give_back(&suspect, at(10)));
    bench.tell(at(10), vec![opened(2, &["b"])]);
    let (alone, _) = bench.entries(at(10), &[("b", 9)]);
    assert_eq!(alone.len(), 1, "it runs alone");
    assert_eq!((alone[0].event, alone[0].tries), (entry.event, 3));
}

pub fn a_revived_entry_goes_before_later_ones_that_wait(backend: &dyn Backend) {
    let events = vec![opened(1, &["b"]), opened(1, &["b"])];
    let bench = bench_with(backend, &["b"], events);
    let first = bench.entry(at(1));
    run(bench.store.fail_event(&first, at(2), "error", None));
    assert!(run(bench.store.retry_event(at(3), &format!("{}/b", first.event_name()))));
    let (entries, _) = bench.entries(at(4), &[("b", 9)]);
    assert_eq!(entries.len(), 1, "one of a lane at a time");
    assert_eq!(entries[0].event, first.event);
    bench.handle(&entries[0], at(5));
    bench.handle(&bench.entry(at(6)), at(6));
    assert!(bench.entries(at(7), &[("b", 9)]).0.is_empty());
}

pub fn a_later_poisoned_entry_waits_for_an_earlier_one(backend: &dyn Backend) {
    let events = vec![opened(1, &["b"]), opened(1, &["b"])];
    let bench = bench_with(backend, &["b"], events);
    let names: Vec<String> = (0..2)
        .map(|n| {
            let entry = bench.entry(at(1 + n));
            run(bench.store.fail_event(&entry, at(1 + n), "error", None));
            format!("{}/b", entry.event_name())
        })
        .collect();
    assert!(run(bench.store.retry_event(at(5), &names[0])));
    assert!(run(bench.store.retry_event(at(5), &names[1])));
    let (entries, _) = bench.entries(at(6), &[("b", 9)]);
    assert_eq!(entries.len(), 1);
    assert_eq!(format!("{}/b", entries[0].event_name()), names[0]);
}

fn limited(
    bench: &Bench,
    entry: &EventEntry,
    now: Timestamp,
    limits: SendLimits,
    rooms: &[u64],
) -> String {
    let sends = rooms.iter().enumerate();
    let sends =
        sends.map(|(n, room)| said(entry, &format!("{}/{n}", entry.event_name()), *room)).collect();
    let deliveries =
        committed(bench.commit(Handled { sends, limits, ..bench.handled(entry, now) }));
    deliveries
        .iter()
        .map(|delivery| match (delivery.state, delivery.reason) {
            (DeliveryState::Queued, None) => 'q',
            (DeliveryState::Dead, Some(DeadReason::Suppressed)) => 's',
            other => panic!("{other:?}"),
        })
        .collect()
}

pub fn what_limits_refuse_is_visible_and_no_error(backend: &dyn Backend) {
    let events = (1..=6).map(|room| opened(room, &["b", "c"])).collect();
    let bench = bench_with(backend, &["b", "c"], events);
    let (entries, _) = bench.entries(at(1), &[("b", 6), ("c", 1)]);
    let per_event = SendLimits { per_event: 2, ..LIMITS };
    assert_eq!(limited(&bench, &entries[0], at(10), per_event, &[1, 2, 3]), "qqs");
    // Two so far, in rooms 1 and 2.
    let per_bot = SendLimits { per_bot: (3, secs(60)), ..LIMITS };
    assert_eq!(limited(&bench, &entries[1], at(20), per_bot, &[9, 9]), "qs");
    let per_room = SendLimits { per_bot_and_room: (1, secs(60)), ..LIMITS };
    assert_eq!(limited(&bench, &entries[2], at(21), per_room, &[1, 5, 5, 6]), "sqsq");
    let c = entries.last().unwrap();
    assert_eq!(c.bot, bot("c"));
    assert_eq!(limited(&bench, c, at(22), per_bot, &[9, 9]), "qq", "each bot for itself");
    // At 10 two, at 20 one, at 21 two: a minute after 10 three are left in the window.
    let per_bot = SendLimits { per_bot: (5, secs(60)), ..LIMITS };
    assert_eq!(limited(&bench, &entries[3], at(70), per_bot, &[7, 7, 7]), "qqs");
    assert_eq!(bench.state(&format!("bot/b/{}/2", entries[3].event_name())), "dead(suppressed)");
}

pub fn a_key_that_is_known_counts_against_no_limit(backend: &dyn Backend) {
    let bench = bench_with(backend, &["b"], vec![opened(1, &["b"]), opened(2, &["b"])]);
    let (entries, _) = bench.entries(at(1), &[("b", 2)]);
    let sends = |entry: &EventEntry, keys: &[&str]| Handled {
        sends: keys.iter().map(|key| said(entry, key, 1)).collect(),
        limits: SendLimits { per_event: 1, ..LIMITS },
        ..bench.handled(entry, at(2))
    };
    committed(bench.commit(sends(&entries[0], &["k"])));
    let answers = committed(bench.commit(sends(&entries[1], &["k", "new"])));
    assert!(answers[0].known && !answers[0].refused);
    assert_eq!(answers[1].state, DeliveryState::Queued);
}

pub fn a_bot_takes_back_messages_and_timers_by_key(backend: &dyn Backend) {
    let events = (1..=3).map(|room| opened(room, &["b"])).collect();
    let bench = bench_with(backend, &["b"], events);
    let (entries, _) = bench.entries(at(1), &[("b", 3)]);
    let later = NewDelivery { not_before: Some(at(99)), ..said(&entries[0], "later", 1) };
    let effect = Handled {
        sends: vec![later, said(&entries[0], "now", 2)],
        wakes: vec![("wake".into(), at(50)), ("moved".into(), at(50))],
        ..bench.handled(&entries[0], at(2))
    };
    committed(bench.commit(effect));
    assert_eq!(bench.claim_one(at(3)).id, id("bot/b/now"));
    let cancels = ["later", "now", "wake", "nothing"].map(String::from).into();
    let wakes = vec![("moved".into(), at(70))];
    committed(bench.commit(Handled { cancels, wakes, ..bench.handled(&entries[1], at(4)) }));
    assert_eq!(bench.state("bot/b/later"), "dead(cancelled)");
    assert_eq!(bench.state("bot/b/now"), "sending", "what is on its way is not taken back");
    assert_eq!(run(bench.store.fire_wakes(at(69))), (0, Some(at(70))));
    assert_eq!(run(bench.store.fire_wakes(at(70))), (1, None));
}

pub fn a_wake_rings_once(backend: &dyn Backend) {
    let bench = bench_with(backend, &["b"], vec![opened(1, &["b"])]);
    let entry = bench.entry(at(1));
    let wakes = vec![("a".into(), at(20)), ("b".into(), at(10)), ("c".into(), at(30))];
    committed(bench.commit(Handled { wakes, ..bench.handled(&entry, at(2)) }));
    assert_eq!(run(bench.store.fire_wakes(at(9))), (0, Some(at(10))));
    assert_eq!(run(bench.store.fire_wakes(at(20))), (2, Some(at(30))));
    assert_eq!(run(bench.store.fire_wakes(at(20))), (0, Some(at(30))));
    let (entries, _) = bench.entries(at(20), &[("b", 9)]);
    let told: Vec<_> = entries.iter().map(|entry| (entry.at, entry.body.clone())).collect();
    let timer = |key: &str| EventBody::Timer { key: key.into(), occurrence: None };
    assert_eq!(told, [(at(10), timer("b")), (at(20), timer("a"))]);
}

pub fn a_bot_that_is_gone_is_told_nothing_any_more(backend: &dyn Backend) {
    let events = vec![opened(1, &["b", "c"]), opened(1, &["b"]), opened(2, &["b"])];
    let bench = bench_with(backend, &["b", "c"], events);
    let (entries, _) = bench.entries(at(1), &[("b", 1)]);
    let wakes = vec![("later".into(), at(50))];
    committed(bench.commit(Handled { wakes, ..bench.handled(&entries[0], at(2)) }));
    let running = bench.entry(at(2));
    bench.adopt(at(3), &["c"]);
    for record in records(&bench) {
        let ignored = record.bot == bot("b") && record.outcome != Some(EventOutcome::Handled);
        if ignored {
            assert_eq!(record.outcome, Some(EventOutcome::Ignored));
            assert_eq!(record.reason.as_deref(), Some("bot_removed"));
        }
    }
    assert_eq!(bench.commit(bench.handled(&running, at(4))), HandledOutcome::Conflict);
    assert_eq!(run(bench.store.fire_wakes(at(60))), (0, None));
    bench.adopt(at(61), &["b", "c"]);
    assert!(bench.entries(at(61), &[("b", 9)]).0.is_empty(), "nothing comes back");
    bench.tell(at(62), vec![opened(1, &["b"])]);
    assert_eq!(bench.entry(at(63)).tries, 1);
    assert_eq!(bench.entries(at(63), &[("c", 9)]).0.len(), 1, "the other bot never noticed");
}

pub fn a_paused_bot_is_told_nothing(backend: &dyn Backend) {
    let bench = bench_with(backend, &["b", "c"], vec![opened(1, &["b", "c"])]);
    let free = [("b", 9), ("c", 9)];
    run(bench.store.pause(at(1), &PauseScope::Bot(bot("b")), true));
    let (entries, _) = bench.entries(at(2), &free);
    assert_eq!(entries.iter().map(|e| e.bot.as_str()).collect::<Vec<_>>(), ["c"]);
    run(bench.store.pause(at(3), &PauseScope::Bot(bot("b")), false));
    run(bench.store.pause(at(3), &PauseScope::All, true));
    assert!(bench.entries(at(4), &free).0.is_empty());
    run(bench.store.pause(at(5), &PauseScope::All, false));
    assert_eq!(bench.entries(at(6), &free).0.len(), 1);
}

pub fn numbers_of_events_are_never_used_twice(backend: &dyn Backend) {
    let bench = bench_with(backend, &["b"], vec![opened(1, &["b"])]);
    let before = bench.entry(at(1));
    bench.handle(&before, at(2));
    while run(bench.store.prune(at(10_000), at(9_000), 100)) > 0 {}
    assert!(records(&bench).is_empty());
    bench.tell(at(10_001), vec![opened(1, &["b"])]);
    let after = bench.entry(at(10_002));
    assert!(after.event > before.event, "its messages would have the keys of older ones");
}

fn touched(room: u64, updated_at: Timestamp) -> NewEvent {
    change(RoomChange::Touched, room, updated_at)
}

fn change(change: RoomChange, room: u64, updated_at: Timestamp) -> NewEvent {
    let mut room = Room::new(RoomId(room), "r");
    room.updated_at = Some(updated_at);
    event(at(0), EventBody::Room { change, room: Box::new(room), before: None }, &["b"])
}

/// The room numbers of what bot `b` is told; each is handled.
fn told(bench: &Bench, now: Timestamp) -> Vec<u64> {
    let (entries, _) = bench.entries(now, &[("b", 99)]);
    entries.iter().for_each(|entry| bench.handle(entry, now));
    entries.iter().filter_map(|entry| entry.body.room()).map(|room| room.0).collect()
}

pub fn a_touch_by_our_own_message_reaches_no_bot(backend: &dyn Backend) {
    let bench = bench_with(backend, &["b"], vec![]);
    bench.enqueue(at(0), vec![message("k")]);
    let claimed = bench.claim_one(at(100));
    // By the server's clock, which is not ours.
    let (class, next) = delivered(1);
    let crate::Next::Delivered { message, uuid, .. } = next else { unreachable!() };
    let next = crate::Next::Delivered { message, uuid, time: Some(at(500)) };
    bench.settle(at(101), &claimed, (class, next));
    for (moved, own) in [
        (at_ms(497_999), false),
        (at(498), true),
        (at(500), true),
        (at(502), true),
        (at_ms(502_001), false),
        (at(100), false),
    ] {
        bench.tell(at(110), vec![touched(1, moved)]);
        assert_eq!(told(&bench, at(110)).is_empty(), own, "{moved}");
    }
    bench.tell(at(110), vec![touched(2, at(500)), change(RoomChange::Renamed, 1, at(500))]);
    assert_eq!(told(&bench, at(111)), [2, 1], "another room, and what no message of ours does");
    let own = records(&bench).into_iter().filter(|r| r.outcome == Some(EventOutcome::Ignored));
    let own: Vec<_> = own.map(|record| (record.tries, record.reason)).collect();
    assert_eq!(own, vec![(0, Some("own_change".into())); 3]);
}

pub fn a_touch_waits_while_a_message_of_ours_is_on_its_way(backend: &dyn Backend) {
    let bench = bench_with(backend, &["b"], vec![]);
    bench.enqueue(at(0), vec![message("k")]);
    let claimed = bench.claim_one(at(1));
    bench.tell(at(2), vec![touched(1, at(1)), opened(1, &["b"]), touched(2, at(1))]);
    let (entries, next) = bench.entries(at(2), &[("b", 9)]);
    assert_eq!(entries.len(), 1, "what comes after it in its lane waits too");
    assert_eq!(entries[0].body.room(), Some(RoomId(2)));
    let next = next.expect("it is looked at again");
    assert!(next > at(2) && next <= at(4));
    bench.settle(at(3), &claimed, refused());
    let (entries, _) = bench.entries(next, &[("b", 9)]);
    assert_eq!(entries.len(), 1, "nobody of us was it");
    assert!(matches!(&entries[0].body, EventBody::Room { change: RoomChange::Touched, .. }));
    assert_eq!(entries[0].tries, 1);
}

pub fn a_touch_during_an_unresolved_attempt_is_our_own(backend: &dyn Backend) {
    let bench = bench_with(backend, &["b"], vec![]);
    bench.enqueue(
        at(0),
        vec![message("lost"), NewDelivery { room: RoomId(2), ..repeated("again") }],
    );
    for claimed in bench.claim(at(100)) {
        bench.settle(at(110), &claimed, unknown());
    }
    bench.sweep(at(170));
    assert_eq!(bench.record("again").state, DeliveryState::Queued);
    for room in [1, 2] {
        let windows = [(at(98), true), (at(100), false), (at(112), false), (at_ms(112_001), true)];
        for (moved, foreign) in windows {
            bench.tell(at(180), vec![touched(room, moved)]);
            assert_eq!(!told(&bench, at(180)).is_empty(), foreign, "room {room} at {moved}");
        }
    }
}

pub fn a_touch_during_an_unresolved_attempt_is_told_by_the_servers_clock(backend: &dyn Backend) {
    for ahead in [3_600_i64, -3_600] {
        let bench = bench_with(backend, &["b"], vec![]);
        bench.enqueue(at(0), vec![message("lost")]);
        for claimed in bench.claim(at(10_000 - 7_000)) {
            bench.settle(at(3_010), &claimed, unknown());
        }
        let claim = |now| {
            let free = vec![(bot("b"), 1)];
            let ahead = vec![(widget("w"), ahead * 1_000_000)];
            run(bench.store.claim_events(crate::EventClaim { now, free, ahead })).0.len()
        };
        for (moved, foreign) in [(2_990, 1), (3_000, 0), (3_012, 0), (3_020, 1)] {
            bench.tell(at(3_100), vec![touched(1, at(moved + ahead))]);
            let told = claim(at(3_100));
            assert_eq!(told, foreign, "{moved}, {ahead} s ahead");
            run(bench.store.release_running(at(3_101)));
            for entry in bench.entries(at(3_101), &[("b", 9)]).0 {
                bench.handle(&entry, at(3_102));
            }
        }
    }
}

pub fn a_touch_without_a_time_is_told(backend: &dyn Backend) {
    let bench = bench_with(backend, &["b"], vec![]);
    bench.enqueue(at(0), vec![message("k")]);
    bench.claim_one(at(1));
    let mut untimed = touched(1, at(1));
    if let EventBody::Room { room, .. } = &mut untimed.body {
        room.updated_at = None;
    }
    bench.tell(at(2), vec![untimed]);
    assert_eq!(told(&bench, at(2)), [1]);
}

pub fn every_kind_of_event_comes_back_as_it_was_put_in(backend: &dyn Backend) {
    let bench = bench_with(backend, &["b"], vec![]);
    let room = Room::new(RoomId(u64::MAX), "  \u{0}odd\u{202e} name ");
    let user = User::new(imbabot_core::UserId(5));
    let bodies = [
        EventBody::Room {
            change: RoomChange::Renamed,
            room: Box::new(room.clone()),
            before: Some(Box::new(Room::new(RoomId(1), "before"))),
        },
        EventBody::User { change: UserChange::Joined, user: Box::new(user), before: None },
        EventBody::Timer { key: "k/ä".into(), occurrence: Some("s@2026-03-01T00:00:00Z".into()) },
        EventBody::Delivery {
            delivery: id("k"),
            key: Some("k".into()),
            room: RoomId(3),
            state: "dead".into(),
            reason: Some("expired".into()),
        },
    ];
    bench.tell(at(1), bodies.iter().map(|body| event(at(7), body.clone(), &["b"])).collect());
    let (entries, _) = bench.entries(at(2), &[("b", 9)]);
    let back: Vec<_> = entries.iter().map(|entry| entry.body.clone()).collect();
    assert_eq!(back, bodies);
    assert!(entries.iter().all(|entry| entry.at == at(7) && entry.widget == widget("w")));
    let rooms: Vec<_> = records(&bench).into_iter().rev().map(|record| record.room).collect();
    assert_eq!(rooms, [Some(room.id), None, None, Some(RoomId(3))]);
}
