//! Cursors and occurrences: an instant fires once, whatever happens in between.

#![allow(missing_docs, reason = "the name of a case is its sentence")]

use imbabot_core::{RoomId, Timestamp};

use super::Backend;
use super::support::*;
use crate::{
    AdoptSchedule, Cursor, EventBody, Expansion, Line, NewDelivery, NewOccurrence, NewRange,
    OccurrenceCommit, OccurrenceOutcome, OccurrenceRecord, Pinned, RangeRecord, Target,
};

fn adopt(bench: &Bench, now: i64, schedules: &[(&str, &str)]) -> Vec<Cursor> {
    let schedules = schedules
        .iter()
        .map(|(key, definition)| AdoptSchedule {
            key: (*key).into(),
            definition: (*definition).into(),
        })
        .collect();
    run(bench.store.adopt_schedules(at(now), schedules))
}

fn cursor(bench: &Bench, key: &str) -> Cursor {
    let cursors = run(bench.store.cursors());
    cursors.into_iter().find(|cursor| cursor.key == key).expect("it is there")
}

fn targets(rooms: &[u64]) -> Vec<Target> {
    rooms.iter().map(|room| Target { widget: widget("w"), room: RoomId(*room) }).collect()
}

fn fires(key: &str, nominal: i64, rooms: &[u64]) -> NewOccurrence {
    NewOccurrence {
        id: format!("{key}@{}", at(nominal).compact()),
        nominal_at: at(nominal),
        outcome: OccurrenceOutcome::Fired,
        reason: None,
        targets: targets(rooms),
        events: vec![],
    }
}

fn ended(key: &str, nominal: i64, outcome: OccurrenceOutcome, reason: &str) -> NewOccurrence {
    let reason = Some(reason.into());
    NewOccurrence { outcome, reason, ..fires(key, nominal, &[]) }
}

/// From where the cursor stands to `through`, with these occurrences.
fn step(
    bench: &Bench,
    key: &str,
    through: i64,
    occurrences: Vec<NewOccurrence>,
) -> OccurrenceCommit {
    OccurrenceCommit {
        key: key.into(),
        now: at(through),
        from: cursor(bench, key).fired_through,
        through: at(through),
        occurrences,
        ranges: vec![],
    }
}

fn fire(bench: &Bench, key: &str, through: i64, rooms: &[u64]) {
    let step = step(bench, key, through, vec![fires(key, through, rooms)]);
    assert!(run(bench.store.commit_occurrences(step)));
}

/// The next batch of at most `size` rooms.
fn batch(bench: &Bench, now: i64, size: usize) -> Option<Expansion> {
    let pinned = run(bench.store.pinned(size)).into_iter().next()?;
    let deliver = |target: &Target| NewDelivery {
        occurrence: Some(pinned.id.clone()),
        schedule: Some(pinned.key.clone()),
        ..to_room(&format!("{}/{}", pinned.id, target.room), target.room.0)
    };
    Some(Expansion {
        id: pinned.id.clone(),
        now: at(now),
        position: pinned.position,
        served: pinned.targets.len(),
        deliveries: pinned.targets.iter().map(deliver).collect(),
        skip_overlap: true,
    })
}

fn expand_all(bench: &Bench, now: i64, size: usize) {
    while let Some(batch) = batch(bench, now, size) {
        assert!(run(bench.store.expand(batch)));
    }
}

/// The last that the ledger tells of an occurrence.
fn told(bench: &Bench, id: &str) -> OccurrenceRecord {
    let records = bench.lines().into_iter().filter_map(|line| match line.line {
        Line::Occurrence(record) if record.id == id => Some(record),
        _ => None,
    });
    records.last().expect("it is told")
}

fn count(bench: &Bench) -> usize {
    run(bench.store.deliveries(&crate::DeliveryFilter::default())).len()
}

pub fn a_new_schedule_starts_now(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    let cursors = adopt(&bench, 5, &[("b", "hourly"), ("a", "daily")]);
    let seen: Vec<_> = cursors.iter().map(|c| (c.key.as_str(), c.fired_through)).collect();
    assert_eq!(seen, [("a", at(5)), ("b", at(5))]);
    assert!(cursors.iter().all(|c| !c.paused && !c.reanchored && c.missed == 0));
    adopt(&bench, 100, &[("b", "hourly"), ("a", "daily")]);
    assert_eq!(run(bench.store.cursors()), cursors, "a restart moves nothing");
}

pub fn a_step_that_was_computed_from_elsewhere_does_nothing(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    adopt(&bench, 0, &[("s", "d")]);
    let stale = step(&bench, "s", 20, vec![fires("s", 15, &[1])]);
    fire(&bench, "s", 10, &[1]);
    let lines = bench.lines();
    assert!(!run(bench.store.commit_occurrences(stale)));
    let nobody = OccurrenceCommit { key: "nobody".into(), ..step(&bench, "s", 30, vec![]) };
    assert!(!run(bench.store.commit_occurrences(nobody)));
    assert_eq!(bench.lines(), lines);
    assert_eq!(cursor(&bench, "s").fired_through, at(10));
}

pub fn a_cursor_never_moves_back(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    adopt(&bench, 100, &[("s", "d")]);
    let back = step(&bench, "s", 50, vec![]);
    assert!(run(bench.store.commit_occurrences(back)));
    assert_eq!(cursor(&bench, "s").fired_through, at(100));
    adopt(&bench, 60, &[("s", "d")]);
    assert_eq!(cursor(&bench, "s").fired_through, at(100));
    adopt(&bench, 70, &[("s", "edited")]);
    assert_eq!(cursor(&bench, "s").fired_through, at(100), "what fired cannot fire again");
}

pub fn an_occurrence_fires_once(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    adopt(&bench, 0, &[("s", "d")]);
    fire(&bench, "s", 10, &[1, 2]);
    expand_all(&bench, 11, 10);
    let again = step(&bench, "s", 20, vec![fires("s", 10, &[1, 2])]);
    assert!(run(bench.store.commit_occurrences(again)));
    run(bench.store.trigger(at(21), "s", fires("s", 10, &[1, 2])));
    assert_eq!(run(bench.store.pinned(10)), []);
    assert_eq!(count(&bench), 2);
    assert_eq!(cursor(&bench, "s").last_fired, Some(at(10)));
    let lines = bench.lines().into_iter().filter(|l| matches!(l.line, Line::Occurrence(_)));
    assert_eq!(lines.count(), 1);
}

pub fn one_more_can_be_triggered_without_the_cursor(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    adopt(&bench, 0, &[("s", "d")]);
    let extra = NewOccurrence { id: "s@now!manual".into(), ..fires("s", 7, &[3]) };
    run(bench.store.trigger(at(7), "s", extra.clone()));
    run(bench.store.trigger(at(8), "s", extra));
    assert_eq!(cursor(&bench, "s").fired_through, at(0));
    expand_all(&bench, 9, 10);
    assert_eq!(count(&bench), 1);
}

pub fn pinned_rooms_are_served_once_over_kills_at_every_position(backend: &dyn Backend) {
    let rooms: Vec<u64> = (1..=7).chain([u64::MAX]).collect();
    for size in 1..=9 {
        let mut bench = Bench::new(backend);
        adopt(&bench, 0, &[("s", "d")]);
        fire(&bench, "s", 10, &rooms);
        let mut position = 0;
        while let Some(batch) = batch(&bench, 11, size) {
            assert_eq!(batch.position, position);
            position += batch.served;
            assert!(run(bench.store.expand(batch.clone())));
            bench.kill(at(12));
            assert!(!run(bench.store.expand(batch)), "a batch is recorded once");
            assert_eq!(count(&bench), position);
        }
        assert_eq!(position, rooms.len());
        let id = fires("s", 10, &[]).id;
        assert_eq!(told(&bench, &id).deliveries, 8);
        assert_eq!(told(&bench, &id).outcome, OccurrenceOutcome::Fired);
        let all = run(bench.store.deliveries(&crate::DeliveryFilter::default()));
        let mut served: Vec<_> = all.iter().map(|delivery| delivery.room.0).collect();
        served.sort_unstable();
        assert_eq!(served, rooms);
        assert!(all.iter().all(|delivery| delivery.occurrence.as_ref() == Some(&id)));
    }
}

pub fn the_oldest_occurrence_is_served_first_and_over_several_widgets(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    adopt(&bench, 0, &[("s", "d"), ("t", "d")]);
    fire(&bench, "t", 20, &[1]);
    let mut both = fires("s", 30, &[5, 6]);
    both.targets.insert(0, Target { widget: widget("a"), room: RoomId(9) });
    let step = step(&bench, "s", 30, vec![both.clone()]);
    assert!(run(bench.store.commit_occurrences(step)));
    let first = &run(bench.store.pinned(9))[0];
    assert_eq!((first.key.as_str(), first.nominal_at, first.position), ("t", at(20), 0));
    expand_all(&bench, 31, 1);
    assert_eq!(count(&bench), 4);
    assert_eq!(run(bench.store.pinned(9)), []);
}

pub fn rooms_of_several_occurrences_are_read_together_up_to_a_bound(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    adopt(&bench, 0, &[("s", "d")]);
    fire(&bench, "s", 10, &[1, 2, 3]);
    fire(&bench, "s", 20, &[4, 5]);
    fire(&bench, "s", 30, &[6]);
    let pinned = |limit| -> Vec<Vec<u64>> {
        let rooms = |pinned: Pinned| pinned.targets.iter().map(|target| target.room.0).collect();
        run(bench.store.pinned(limit)).into_iter().map(rooms).collect()
    };
    assert_eq!(pinned(9), [vec![1, 2, 3], vec![4, 5], vec![6]]);
    assert_eq!(pinned(4), [vec![1, 2, 3], vec![4]]);
    assert_eq!(pinned(2), [vec![1, 2]]);
    assert_eq!(pinned(0), Vec::<Vec<u64>>::new());
    let first = batch(&bench, 31, 2).unwrap();
    assert!(run(bench.store.expand(first)));
    assert_eq!(pinned(4), [vec![3], vec![4, 5], vec![6]]);
}

pub fn a_room_in_which_an_earlier_one_waits_is_left_out(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    adopt(&bench, 0, &[("s", "d"), ("t", "d")]);
    fire(&bench, "s", 10, &[1, 2, 3]);
    expand_all(&bench, 10, 10);
    for claimed in bench.claim(at(11)) {
        match claimed.room.0 {
            1 => {} // on its way
            2 => drop(bench.settle(at(12), &claimed, again(at(500)))),
            _ => drop(bench.settle(at(12), &claimed, delivered(1))),
        }
    }
    fire(&bench, "s", 20, &[1, 2, 3]);
    expand_all(&bench, 20, 10);
    let id = fires("s", 20, &[]).id;
    assert_eq!(told(&bench, &id).deliveries, 1);
    assert_eq!(count(&bench), 4);
    // All of them: it was skipped after all.
    fire(&bench, "s", 30, &[1, 2]);
    expand_all(&bench, 30, 1);
    let record = told(&bench, &fires("s", 30, &[]).id);
    assert_eq!((record.outcome, record.deliveries), (OccurrenceOutcome::Skipped, 0));
    assert_eq!(record.reason.as_deref(), Some("overlap"));
    // Another schedule's message does not count, and the rule can be switched off.
    fire(&bench, "t", 40, &[1]);
    expand_all(&bench, 40, 10);
    fire(&bench, "s", 50, &[1]);
    let allowed = Expansion { skip_overlap: false, ..batch(&bench, 50, 10).unwrap() };
    assert!(run(bench.store.expand(allowed)));
    assert_eq!(count(&bench), 6);
}

pub fn an_earlier_one_that_has_expired_holds_up_no_room(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    adopt(&bench, 0, &[("s", "d")]);
    fire(&bench, "s", 10, &[1, 2]);
    let mut first = batch(&bench, 10, 10).unwrap();
    for delivery in &mut first.deliveries {
        delivery.expires_at = at(60);
    }
    assert!(run(bench.store.expand(first)));
    // One is on its way: it may still arrive.
    let claimed = bench.claim(at(11));
    assert_eq!(claimed.len(), 2);
    bench.settle(at(12), &claimed[1], again(at(50)));
    let free = claimed[1].room.0;
    fire(&bench, "s", 59, &[1, 2]);
    expand_all(&bench, 59, 10);
    let record = told(&bench, &fires("s", 59, &[]).id);
    assert_eq!(record.reason.as_deref(), Some("overlap"), "it is not there yet");
    // Nobody has swept yet.
    fire(&bench, "s", 60, &[1, 2]);
    expand_all(&bench, 60, 10);
    assert_eq!(told(&bench, &fires("s", 60, &[]).id).deliveries, 1);
    let all = run(bench.store.deliveries(&crate::DeliveryFilter::default()));
    let made: Vec<u64> = all.iter().filter(|d| d.created_at == at(60)).map(|d| d.room.0).collect();
    assert_eq!(made, [free]);
}

pub fn rooms_that_are_gone_meanwhile_are_not_counted(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    adopt(&bench, 0, &[("s", "d")]);
    fire(&bench, "s", 10, &[1, 2, 3]);
    let mut some = batch(&bench, 11, 10).unwrap();
    some.deliveries.remove(1);
    assert!(run(bench.store.expand(some)));
    assert_eq!(told(&bench, &fires("s", 10, &[]).id).deliveries, 2);
    fire(&bench, "s", 20, &[7, 8]);
    for _ in 0..2 {
        let none = Expansion { deliveries: vec![], ..batch(&bench, 21, 1).unwrap() };
        assert!(run(bench.store.expand(none)));
    }
    let record = told(&bench, &fires("s", 20, &[]).id);
    assert_eq!((record.outcome, record.deliveries), (OccurrenceOutcome::Skipped, 0));
    assert_eq!(record.reason.as_deref(), Some("no_rooms"), "no room was left out for overlap");
}

pub fn an_edited_schedule_goes_on_from_now(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    adopt(&bench, 0, &[("s", "d"), ("same", "d")]);
    let cursors = adopt(&bench, 50, &[("s", "other"), ("same", "d")]);
    assert_eq!((cursors[0].fired_through, cursors[1].fired_through), (at(50), at(0)));
}

pub fn a_cursor_of_a_wrong_clock_is_set_to_now(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    let day = 86_400;
    let keys = [("edited", "d"), ("near", "d"), ("same", "d")];
    adopt(&bench, 10 * day, &keys);
    let cursors = adopt(&bench, 9 * day, &[("edited", "x"), ("near", "d"), ("same", "d")]);
    assert!(cursors.iter().all(|c| c.fired_through == at(10 * day) && !c.reanchored), "a day");
    let cursors = adopt(&bench, 2 * day, &[("edited", "y"), ("same", "d")]);
    assert!(cursors.iter().all(|c| c.fired_through == at(2 * day) && c.reanchored), "and says so");
    let cursors = adopt(&bench, 2 * day, &[("edited", "y"), ("same", "d")]);
    assert!(cursors.iter().all(|c| !c.reanchored), "once");
}

pub fn a_run_can_be_ended_earlier_than_it_was_recorded(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    adopt(&bench, 0, &[("s", "d"), ("t", "d")]);
    let range = |outcome, from, to, count| NewRange {
        outcome,
        reason: "misfire".into(),
        from: at(from),
        to: at(to),
        count,
    };
    let (missed, skipped) = (OccurrenceOutcome::Missed, OccurrenceOutcome::Skipped);
    let ranges = vec![range(skipped, 10, 20, 2), range(missed, 30, 90, 7)];
    let commit = OccurrenceCommit { ranges, ..step(&bench, "s", 90, vec![]) };
    assert!(run(bench.store.commit_occurrences(commit)));
    for (second, count) in [(9, 0), (10, 1), (19, 1), (20, 0), (29, 0), (30, 1), (90, 0)] {
        let found = run(bench.store.runs_across("s", at(second)));
        assert_eq!(found.len(), count, "{second}: {found:?}");
        assert_eq!(run(bench.store.runs_across("t", at(second))), []);
    }
    let long = run(bench.store.runs_across("s", at(45))).remove(0);
    assert!(run(bench.store.shorten_run(at(91), &long, at(40), 2)));
    assert!(!run(bench.store.shorten_run(at(91), &long, at(40), 2)), "it is no longer there");
    assert_eq!(run(bench.store.runs_across("s", at(45))), []);
    let short = run(bench.store.runs_across("s", at(39))).remove(0);
    assert_eq!(short, RangeRecord { to: at(40), count: 2, ..long });
    assert_eq!(cursor(&bench, "s").missed, 2);
}

pub fn a_schedule_that_is_gone_takes_its_queue_along(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    adopt(&bench, 0, &[("s", "d"), ("t", "d")]);
    fire(&bench, "s", 10, &[1, 2, 3, 4]);
    let first = batch(&bench, 10, 2).unwrap();
    assert!(run(bench.store.expand(first)));
    let mut request = bench.request(at(11));
    request.widgets[0].slots = 1;
    assert_eq!(run(bench.store.claim(request)).deliveries.len(), 1);
    adopt(&bench, 12, &[("t", "d")]);
    assert_eq!(run(bench.store.pinned(9)), []);
    let mut states: Vec<_> = run(bench.store.deliveries(&crate::DeliveryFilter::default()))
        .into_iter()
        .map(|delivery| (delivery.state.to_string(), delivery.reason))
        .collect();
    states.sort();
    let cancelled = ("dead".to_owned(), Some("cancelled".to_owned()));
    assert_eq!(states, [cancelled, ("sending".to_owned(), None)]);
    assert_eq!(told(&bench, &fires("s", 10, &[]).id).deliveries, 2, "the ledger tells the truth");
    assert_eq!(run(bench.store.cursors()).len(), 1);
    let step = OccurrenceCommit { key: "s".into(), ..step(&bench, "t", 20, vec![]) };
    assert!(!run(bench.store.commit_occurrences(step)));
}

pub fn a_schedule_that_is_gone_before_it_reached_a_room_was_skipped(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    adopt(&bench, 0, &[("s", "d")]);
    fire(&bench, "s", 10, &[1, 2]);
    adopt(&bench, 12, &[]);
    let record = told(&bench, &fires("s", 10, &[]).id);
    assert_eq!((record.outcome, record.deliveries), (OccurrenceOutcome::Skipped, 0));
    assert_eq!(record.reason.as_deref(), Some("removed"));
}

pub fn a_schedule_that_comes_back_backfills_nothing(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    adopt(&bench, 0, &[("s", "d")]);
    fire(&bench, "s", 10, &[]);
    adopt(&bench, 20, &[]);
    let back = adopt(&bench, 5_000, &[("s", "d")]).remove(0);
    assert_eq!(back.fired_through, at(5_000));
    assert_eq!(back.last_fired, Some(at(10)));
    adopt(&bench, 5_001, &[]);
    let early = adopt(&bench, 4_000, &[("s", "d")]).remove(0);
    assert_eq!(early.fired_through, at(5_000), "nor does anything fire again");
}

pub fn a_schedule_can_be_paused(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    adopt(&bench, 0, &[("s", "d")]);
    assert!(run(bench.store.pause_schedule(at(1), "s", true)));
    assert!(!run(bench.store.pause_schedule(at(1), "nobody", true)));
    assert!(cursor(&bench, "s").paused);
    assert!(adopt(&bench, 2, &[("s", "d")])[0].paused, "over a restart");
    assert!(run(bench.store.pause_schedule(at(3), "s", false)));
    assert!(!cursor(&bench, "s").paused);
    let acts = bench.lines().into_iter().filter_map(|line| match line.line {
        Line::Operator(act) => Some(format!("{} {} -> {}", act.verb, act.before, act.after)),
        _ => None,
    });
    let expected = ["schedules pause running -> paused", "schedules resume paused -> running"];
    assert_eq!(acts.collect::<Vec<_>>(), expected);
}

pub fn what_did_not_fire_is_counted_and_told(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    adopt(&bench, 0, &[("s", "d")]);
    use OccurrenceOutcome::{Missed, Skipped};
    let range = |outcome, reason: &str, from, to, count| NewRange {
        outcome,
        reason: reason.into(),
        from: at(from),
        to: at(to),
        count,
    };
    let occurrences = vec![
        ended("s", 50, Missed, "no_snapshot"),
        ended("s", 60, Skipped, "no_rooms"),
        fires("s", 70, &[]),
    ];
    let ranges = vec![range(Missed, "misfire", 1, 40, 40), range(Skipped, "paused", 41, 45, 5)];
    let step = OccurrenceCommit { ranges, ..step(&bench, "s", 70, occurrences) };
    assert!(run(bench.store.commit_occurrences(step)));
    let cursor = cursor(&bench, "s");
    assert_eq!((cursor.missed, cursor.last_fired), (41, Some(at(70))));
    let told: Vec<_> = bench
        .lines()
        .into_iter()
        .filter_map(|line| match line.line {
            Line::Occurrence(r) => Some((r.outcome, r.reason.unwrap_or_default(), 1)),
            Line::Range(r) => Some((r.outcome, r.reason, r.count)),
            _ => None,
        })
        .map(|(outcome, reason, count)| format!("{outcome} {reason} {count}"))
        .collect();
    let expected = [
        "missed no_snapshot 1",
        "skipped no_rooms 1",
        "fired  1",
        "missed misfire 40",
        "skipped paused 5",
    ];
    assert_eq!(told, expected);
}

pub fn a_schedule_of_a_bot_tells_the_bot_once(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    bench.adopt(at(0), &["b"]);
    adopt(&bench, 0, &[("bot/b/s", "d")]);
    let body = |at: Timestamp| EventBody::Timer {
        key: "s".into(),
        occurrence: Some(format!("bot/b/s@{}", at.compact())),
    };
    let events = vec![event(at(10), body(at(10)), &["b"])];
    let occurrence = NewOccurrence { events, ..fires("bot/b/s", 10, &[]) };
    for through in [10, 11] {
        let step = step(&bench, "bot/b/s", through, vec![occurrence.clone()]);
        assert!(run(bench.store.commit_occurrences(step)));
    }
    let entry = bench.entry(at(12));
    assert_eq!((entry.at, entry.body.clone()), (at(10), body(at(10))));
    bench.handle(&entry, at(13));
    assert!(bench.entries(at(14), &[("b", 9)]).0.is_empty());
}
