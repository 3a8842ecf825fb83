//! Cursors, occurrences, pinned rooms.
use std::sync::Arc;

use imbabot_core::Timestamp;

use super::bench::{Bench, FREELY, bot, id, opened, say, t, widget};
use crate::{
    AdoptSchedule, Expansion, Line, NewDelivery, NewOccurrence, NewRange, OccurrenceCommit,
    OccurrenceOutcome, OccurrenceRecord, Store, Target,
};

fn schedule(key: &str, definition: &str) -> AdoptSchedule {
    AdoptSchedule { key: key.into(), definition: definition.into() }
}

fn fires(key: &str, at: i64, rooms: &[u64]) -> NewOccurrence {
    NewOccurrence {
        id: format!("{key}@{}", t(at).compact()),
        nominal_at: t(at),
        outcome: OccurrenceOutcome::Fired,
        reason: None,
        targets: rooms.iter().map(|r| Target { widget: widget(), room: (*r).into() }).collect(),
        events: Vec::new(),
    }
}

fn step(key: &str, from: Timestamp, through: i64, one: Vec<NewOccurrence>) -> OccurrenceCommit {
    let (key, through) = (key.into(), t(through));
    OccurrenceCommit { key, now: through, from, through, occurrences: one, ranges: Vec::new() }
}

fn of(occurrence: &str, key: &str, room: u64) -> NewDelivery {
    NewDelivery {
        occurrence: Some(occurrence.into()),
        schedule: Some(key.into()),
        ..say(&format!("{occurrence}/main/{room}"), room)
    }
}

fn batch(occurrence: &str, key: &str, position: usize, rooms: &[u64]) -> Expansion {
    Expansion {
        id: occurrence.into(),
        now: t(50),
        position,
        served: rooms.len(),
        deliveries: rooms.iter().map(|room| of(occurrence, key, *room)).collect(),
        skip_overlap: true,
    }
}

async fn told(bench: &Bench, occurrence: &str) -> OccurrenceRecord {
    let lines = bench.ledger().await.into_iter().rev();
    let found = lines.filter_map(|line| match line.line {
        Line::Occurrence(record) if record.id == occurrence => Some(record),
        _ => None,
    });
    found.into_iter().next().expect("the ledger tells of it")
}

async fn adopt(bench: &Bench, at: i64, all: &[(&str, &str)]) -> Vec<crate::Cursor> {
    let all = all.iter().map(|(key, definition)| schedule(key, definition)).collect();
    bench.store.adopt_schedules(t(at), all).await.unwrap()
}

pub(crate) async fn a_new_schedule_starts_now_and_keeps_its_cursor(store: Arc<dyn Store>) {
    let bench = Bench::new(store).await;
    let cursors = adopt(&bench, 10, &[("s", "1"), ("a", "1")]).await;
    assert_eq!(cursors.iter().map(|c| c.key.as_str()).collect::<Vec<_>>(), ["a", "s"]);
    assert!(cursors.iter().all(|c| c.fired_through == t(10) && !c.reanchored && !c.paused));
    assert_eq!(adopt(&bench, 99, &[("s", "1"), ("a", "1")]).await, cursors);
    assert_eq!(bench.store.cursors().await.unwrap(), cursors);
}

pub(crate) async fn a_cursor_moves_by_compare_and_set_and_never_back(store: Arc<dyn Store>) {
    let bench = Bench::new(store).await;
    adopt(&bench, 0, &[("s", "1")]).await;
    let commit =
        |from, through, one| bench.store.commit_occurrences(step("s", t(from), through, one));
    assert!(commit(0, 10, vec![fires("s", 5, &[1])]).await.unwrap());
    assert!(!commit(0, 20, vec![fires("s", 15, &[1])]).await.unwrap());
    assert!(commit(10, 3, vec![]).await.unwrap());
    let cursor = bench.store.cursors().await.unwrap().remove(0);
    assert_eq!((cursor.fired_through, cursor.last_fired), (t(10), Some(t(5))));
    let nobody = bench.store.commit_occurrences(step("nobody", t(0), 5, vec![])).await.unwrap();
    assert!(!nobody);
}

pub(crate) async fn an_occurrence_is_recorded_once(store: Arc<dyn Store>) {
    let bench = Bench::new(store).await;
    bench.store.adopt_bots(t(0), &[bot("a")]).await.unwrap();
    adopt(&bench, 0, &[("s", "1")]).await;
    let one = NewOccurrence { events: vec![opened(1, &["a"])], ..fires("s", 5, &[1]) };
    for (from, through) in [(0, 10), (10, 20)] {
        let step = step("s", t(from), through, vec![one.clone()]);
        assert!(bench.store.commit_occurrences(step).await.unwrap());
    }
    bench.store.trigger(t(30), "s", one.clone()).await.unwrap();
    assert_eq!(bench.told(t(40), &[("a", 9)]).await.len(), 1);
    let lines = bench.ledger().await;
    let count = lines.iter().filter(|l| matches!(&l.line, Line::Occurrence(_))).count();
    assert_eq!(count, 1);
}

pub(crate) async fn what_did_not_fire_is_counted_and_told(store: Arc<dyn Store>) {
    let bench = Bench::new(store).await;
    adopt(&bench, 0, &[("s", "1")]).await;
    let missed = NewOccurrence {
        outcome: OccurrenceOutcome::Missed,
        reason: Some("misfire".into()),
        ..fires("s", 5, &[])
    };
    let range = |outcome, count| NewRange {
        outcome,
        reason: "misfire".into(),
        from: t(6),
        to: t(9),
        count,
    };
    let ranges = vec![range(OccurrenceOutcome::Missed, 4), range(OccurrenceOutcome::Skipped, 9)];
    let step = OccurrenceCommit { ranges, ..step("s", t(0), 10, vec![missed]) };
    assert!(bench.store.commit_occurrences(step).await.unwrap());
    assert_eq!(bench.store.cursors().await.unwrap()[0].missed, 5);
    let tally = bench.store.tally().await.unwrap();
    assert_eq!(tally.occurrences, [("s".into(), "missed".into(), 1)]);
    let lines = bench.ledger().await;
    assert_eq!(lines.iter().filter(|l| matches!(l.line, Line::Range(_))).count(), 2);
}

pub(crate) async fn a_trigger_leaves_the_cursor_alone(store: Arc<dyn Store>) {
    let bench = Bench::new(store).await;
    adopt(&bench, 0, &[("s", "1")]).await;
    let mut one = fires("s", 7, &[1, 2]);
    one.id += "!manual";
    bench.store.trigger(t(7), "s", one.clone()).await.unwrap();
    assert_eq!(bench.store.cursors().await.unwrap()[0].fired_through, t(0));
    assert_eq!(bench.store.next_pinned(9).await.unwrap().unwrap().id, one.id);
}

pub(crate) async fn pinned_rooms_are_served_from_every_position_without_doubling(
    store: Arc<dyn Store>,
) {
    let mut bench = Bench::new(store).await;
    adopt(&bench, 0, &[("s", "1")]).await;
    let rooms = [1, 2, 3, u64::MAX, 5];
    let one = fires("s", 5, &rooms);
    let name = one.id.clone();
    let step = step("s", t(0), 5, vec![one]);
    assert!(bench.store.commit_occurrences(step).await.unwrap());
    for position in 0..rooms.len() {
        bench.crash(t(10)).await;
        let pinned = bench.store.next_pinned(2).await.unwrap().unwrap();
        assert_eq!((pinned.position, pinned.key.as_str()), (position, "s"));
        let expected: Vec<_> = rooms[position..].iter().take(2).copied().collect();
        assert_eq!(pinned.targets.iter().map(|t| t.room.0).collect::<Vec<_>>(), expected);
        let next = batch(&name, "s", position, &expected[..1]);
        assert!(bench.store.expand(next.clone()).await.unwrap());
        assert!(!bench.store.expand(next).await.unwrap(), "a batch was recorded twice");
        if position > 0 {
            assert!(!bench.store.expand(batch(&name, "s", 0, &[1])).await.unwrap());
        }
    }
    assert_eq!(bench.store.next_pinned(2).await.unwrap(), None);
    assert_eq!(bench.claim(t(60)).await.len(), rooms.len());
    assert_eq!(told(&bench, &name).await.deliveries, 5);
}

pub(crate) async fn the_oldest_occurrence_is_served_first(store: Arc<dyn Store>) {
    let bench = Bench::new(store).await;
    adopt(&bench, 0, &[("b", "1"), ("a", "1")]).await;
    bench.store.commit_occurrences(step("b", t(0), 5, vec![fires("b", 5, &[1])])).await.unwrap();
    bench.store.commit_occurrences(step("a", t(0), 6, vec![fires("a", 6, &[1])])).await.unwrap();
    assert_eq!(bench.store.next_pinned(9).await.unwrap().unwrap().key, "b");
}

pub(crate) async fn a_room_that_still_waits_is_left_out_for_overlap(store: Arc<dyn Store>) {
    let bench = Bench::new(store).await;
    adopt(&bench, 0, &[("s", "1")]).await;
    let (first, second) = (fires("s", 5, &[1, 2]), fires("s", 15, &[1, 2]));
    let (one, two) = (first.id.clone(), second.id.clone());
    bench.store.commit_occurrences(step("s", t(0), 10, vec![first])).await.unwrap();
    bench.store.expand(batch(&one, "s", 0, &[1, 2])).await.unwrap();
    let sent = bench.claim_as(t(50), FREELY, Some(id(&format!("{one}/main/2")))).await;
    bench.deliver(t(51), &sent.deliveries[0]).await;
    bench.store.commit_occurrences(step("s", t(10), 20, vec![second])).await.unwrap();
    bench.store.expand(batch(&two, "s", 0, &[1, 2])).await.unwrap();
    assert!(bench.store.delivery(id(&format!("{two}/main/1"))).await.unwrap().is_none());
    assert!(bench.store.delivery(id(&format!("{two}/main/2"))).await.unwrap().is_some());
    let record = told(&bench, &two).await;
    assert_eq!((record.deliveries, record.outcome), (1, OccurrenceOutcome::Fired));
    let third = fires("s", 25, &[1, 2]);
    let three = third.id.clone();
    bench.store.commit_occurrences(step("s", t(20), 30, vec![third])).await.unwrap();
    bench.store.expand(batch(&three, "s", 0, &[1, 2])).await.unwrap();
    let record = told(&bench, &three).await;
    assert_eq!((record.deliveries, record.outcome), (0, OccurrenceOutcome::Skipped));
    assert_eq!(record.reason.as_deref(), Some("overlap"));
}

pub(crate) async fn rooms_that_are_gone_are_no_overlap(store: Arc<dyn Store>) {
    let bench = Bench::new(store).await;
    adopt(&bench, 0, &[("s", "1")]).await;
    let one = fires("s", 5, &[1, 2]);
    let name = one.id.clone();
    bench.store.commit_occurrences(step("s", t(0), 10, vec![one])).await.unwrap();
    let empty = Expansion { served: 2, ..batch(&name, "s", 0, &[]) };
    assert!(bench.store.expand(empty).await.unwrap());
    let record = told(&bench, &name).await;
    assert_eq!(record.outcome, OccurrenceOutcome::Skipped);
    assert_eq!(record.reason.as_deref(), Some("no_rooms"));
}

pub(crate) async fn an_edited_schedule_goes_on_from_now_and_never_back(store: Arc<dyn Store>) {
    let bench = Bench::new(store).await;
    adopt(&bench, 0, &[("s", "1")]).await;
    assert_eq!(adopt(&bench, 100, &[("s", "2")]).await[0].fired_through, t(100));
    // The clock went back a little.
    assert_eq!(adopt(&bench, 50, &[("s", "3")]).await[0].fired_through, t(100));
}

pub(crate) async fn a_removed_schedule_takes_back_what_it_had_queued(store: Arc<dyn Store>) {
    let bench = Bench::new(store).await;
    adopt(&bench, 0, &[("s", "1"), ("other", "1")]).await;
    let one = fires("s", 5, &[1, 2, 3]);
    let name = one.id.clone();
    bench.store.commit_occurrences(step("s", t(0), 10, vec![one])).await.unwrap();
    bench.store.expand(batch(&name, "s", 0, &[1, 2])).await.unwrap();
    let key = |room: u64| format!("{name}/main/{room}");
    let sending = bench.claim_as(t(50), FREELY, Some(id(&key(1)))).await.deliveries.remove(0);
    adopt(&bench, 60, &[("other", "1")]).await;
    assert_eq!(bench.state(&key(2)).await, "dead(cancelled)");
    assert_eq!(bench.state(&key(1)).await, "sending");
    bench.deliver(t(61), &sending).await;
    assert_eq!(bench.store.next_pinned(9).await.unwrap(), None);
    // Two were recorded, and the ledger does not promise a third.
    assert_eq!(told(&bench, &name).await.deliveries, 2);
    assert!(!bench.store.commit_occurrences(step("s", t(10), 70, vec![])).await.unwrap());
    assert!(!bench.store.pause_schedule(t(61), "s", true).await.unwrap());
    // Back again: nothing of the meantime is made up for.
    let back = adopt(&bench, 900, &[("s", "1"), ("other", "1")]).await;
    assert_eq!(back[1].fired_through, t(900));
    assert_eq!(back[1].last_fired, Some(t(5)));
    assert_eq!(back[0].fired_through, t(0));
}

pub(crate) async fn a_cursor_a_day_ahead_is_set_to_now_and_says_so(store: Arc<dyn Store>) {
    let bench = Bench::new(store).await;
    let day = 86_400;
    adopt(&bench, 2 * day, &[("same", "1"), ("edited", "1")]).await;
    let cursors = adopt(&bench, day, &[("same", "1"), ("edited", "1")]).await;
    assert!(cursors.iter().all(|c| !c.reanchored && c.fired_through == t(2 * day)));
    let cursors = adopt(&bench, day - 1, &[("same", "1"), ("edited", "2")]).await;
    assert!(cursors.iter().all(|c| c.reanchored && c.fired_through == t(day - 1)), "{cursors:?}");
}

pub(crate) async fn a_pause_of_a_schedule_is_kept(store: Arc<dyn Store>) {
    let bench = Bench::new(store).await;
    adopt(&bench, 0, &[("s", "1")]).await;
    assert!(!bench.store.pause_schedule(t(1), "none", true).await.unwrap());
    assert!(bench.store.pause_schedule(t(1), "s", true).await.unwrap());
    assert!(adopt(&bench, 2, &[("s", "1")]).await[0].paused);
    assert!(bench.store.pause_schedule(t(3), "s", false).await.unwrap());
    assert!(!bench.store.cursors().await.unwrap()[0].paused);
}
