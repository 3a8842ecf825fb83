//! Beginning and ending: what a kill leaves behind is told as it is.

#![allow(missing_docs, reason = "the name of a case is its sentence")]

use super::Backend;
use super::support::*;
use crate::{Class, DeliveryState, HandledOutcome, IncarnationRecord, Line, PauseScope};

pub fn what_was_being_sent_is_unknown_after_a_kill(backend: &dyn Backend) {
    let mut bench = Bench::new(backend);
    let mut twice = repeated("at least once");
    twice.room = 2.into();
    bench.enqueue(at(0), vec![message("at most once"), twice, to_room("queued", 3)]);
    let mut request = bench.request(at(1));
    request.widgets[0].slots = 2;
    assert_eq!(run(bench.store.claim(request)).deliveries.len(), 2);
    let begun = bench.kill(at(2));
    assert!(begun.after_crash);
    assert_eq!(begun.turned_unknown, 2);
    assert_eq!(bench.state("at most once"), "unknown(process_died)");
    assert_eq!(bench.state("at least once"), "unknown(process_died)");
    assert_eq!(bench.claim_one(at(3)).id, id("queued"));
    bench.sweep(at(62));
    let again = bench.claim_one(at(62));
    assert_eq!((again.id, again.attempt), (id("at least once"), 2));
    let died = bench.lines().into_iter().any(|line| {
        matches!(line.line, Line::Attempt(a) if a.delivery == id("at most once")
            && a.class == Some(Class::Ambiguous) && a.code.as_deref() == Some("process_died"))
    });
    assert!(died, "the attempt has its end");
}

pub fn a_kill_without_resends_left_ends_the_row(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    bench.enqueue(at(0), vec![repeated("k")]);
    bench.claim_one(at(1));
    let rules = crate::Settle { max_resends: 0, ..RULES };
    run(bench.store.begin(at(2), "1", rules));
    assert_eq!(bench.state("k"), "dead(unresolved)");
    use DeliveryState::{Dead, Queued, Sending, Unknown};
    assert_eq!(bench.story("k"), [Queued, Sending, Unknown, Dead]);
}

pub fn runs_have_ascending_numbers_and_are_told_in_the_ledger(backend: &dyn Backend) {
    let store = backend.empty();
    let first = run(store.begin(at(0), "1.0", RULES));
    assert!(!first.after_crash, "there was none before");
    run(store.end(first.incarnation, at(5)));
    run(store.end(first.incarnation, at(6)));
    let second = run(store.begin(at(10), "1.1", RULES));
    assert!(!second.after_crash);
    let third = run(store.begin(at(20), "1.2", RULES));
    assert!(third.after_crash);
    assert!(first.incarnation < second.incarnation && second.incarnation < third.incarnation);
    let told: Vec<IncarnationRecord> = all_lines(&*store)
        .into_iter()
        .filter_map(|line| match line.line {
            Line::Incarnation(record) => Some(record),
            _ => None,
        })
        .collect();
    let ends: Vec<_> = told.iter().map(|r| (r.id, r.ended_at, r.clean)).collect();
    let expected = [
        (first.incarnation, None, None),
        (first.incarnation, Some(at(5)), Some(true)),
        (second.incarnation, None, None),
        (second.incarnation, Some(at(20)), Some(false)),
        (third.incarnation, None, None),
    ];
    assert_eq!(ends, expected);
    assert_eq!(told[0].version, "1.0");
}

pub fn a_graceful_stop_gives_tries_back(backend: &dyn Backend) {
    let mut bench = Bench::new(backend);
    bench.adopt(at(0), &["b"]);
    bench.tell(at(0), vec![opened(1, &["b"])]);
    assert_eq!(bench.entry(at(1)).tries, 1);
    run(bench.store.end(bench.incarnation, at(2)));
    let begun = bench.kill(at(3));
    assert_eq!((begun.after_crash, begun.interrupted_events), (false, 0));
    assert_eq!(bench.entry(at(4)).tries, 1);
}

pub fn the_end_of_a_run_that_ended_before_changes_nothing(backend: &dyn Backend) {
    let mut bench = Bench::new(backend);
    bench.adopt(at(0), &["b"]);
    bench.tell(at(0), vec![opened(1, &["b"])]);
    let before = bench.incarnation;
    bench.kill(at(1));
    let entry = bench.entry(at(2));
    run(bench.store.end(before, at(3)));
    assert!(bench.entries(at(4), &[("b", 1)]).0.is_empty(), "it is still being handled");
    bench.handle(&entry, at(5));
}

pub fn after_a_kill_what_was_in_flight_runs_alone_and_only_it_counts(backend: &dyn Backend) {
    let mut bench = Bench::new(backend);
    bench.adopt(at(0), &["b", "c"]);
    bench.tell(at(0), vec![opened(1, &["b", "c"]), opened(2, &["b"]), opened(3, &["c"])]);
    let (mut running, _) = bench.entries(at(1), &[("b", 1), ("c", 1)]);
    assert_eq!(running.len(), 2);
    assert_eq!(bench.kill(at(2)).interrupted_events, 2);
    let free = [("b", 5), ("c", 5)];
    for _ in 0..2 {
        let (alone, _) = bench.entries(at(3), &free);
        assert_eq!(alone.len(), 1, "one at a time");
        assert_eq!(alone[0].tries, 2, "the try before the kill counts");
        assert!(bench.entries(at(3), &free).0.is_empty(), "nothing beside it");
        running.retain(|entry| (&entry.bot, entry.event) != (&alone[0].bot, alone[0].event));
        bench.handle(&alone[0], at(4));
    }
    assert!(running.is_empty(), "first those that were in flight");
    let (rest, _) = bench.entries(at(5), &free);
    assert_eq!(rest.iter().map(|entry| entry.tries).collect::<Vec<_>>(), [1, 1]);
}

pub fn a_suspect_waits_until_nothing_else_runs(backend: &dyn Backend) {
    let mut bench = Bench::new(backend);
    bench.adopt(at(0), &["b"]);
    bench.tell(at(0), vec![opened(1, &["b"])]);
    bench.entry(at(1));
    bench.kill(at(2));
    let suspect = bench.entry(at(3));
    let later = Some(at(10));
    run(bench.store.fail_event(&suspect, at(3), "error", later));
    bench.tell(at(4), vec![opened(2, &["b"])]);
    let other = bench.entry(at(5));
    assert_eq!(other.tries, 1, "while it waits for its next try, others run");
    bench.handle(&other, at(6));
    assert_eq!(bench.entry(at(10)).tries, 3);
}

pub fn a_suspect_of_a_bot_that_is_told_nothing_holds_nobody_up(backend: &dyn Backend) {
    let mut bench = Bench::new(backend);
    bench.adopt(at(0), &["b", "c"]);
    bench.tell(at(0), vec![opened(1, &["c"])]);
    assert_eq!(bench.entries(at(1), &[("c", 1)]).0.len(), 1);
    bench.kill(at(2));
    bench.tell(at(3), vec![opened(2, &["b"])]);
    run(bench.store.pause(at(3), &PauseScope::Bot(bot("c")), true));
    let (entries, _) = bench.entries(at(4), &[("b", 1), ("c", 1)]);
    assert_eq!(entries.len(), 1, "the other bot goes on");
    let outcome = bench.commit(bench.handled(&entries[0], at(5)));
    assert_eq!(outcome, HandledOutcome::Committed(Vec::new()));
    run(bench.store.pause(at(6), &PauseScope::Bot(bot("c")), false));
    assert_eq!(bench.entries(at(7), &[("b", 1), ("c", 1)]).0[0].tries, 2);
}

pub fn an_empty_store_may_be_changed_by_nobody(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    // It may come for nothing, once.
    let _ = run(bench.store.changed_by_another());
    bench.enqueue(at(0), vec![message("k")]);
    assert!(!run(bench.store.changed_by_another()), "our own writes are not another's");
}

pub fn what_nobody_waits_for_any_more_is_unknown(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    let rows = [message("lost"), to_room("sent", 2), to_room("queued", 3)];
    bench.enqueue(at(0), rows.into());
    let mut request = bench.request(at(1));
    request.widgets[0].slots = 2;
    for claimed in run(bench.store.claim(request)).deliveries {
        if claimed.id == id("sent") {
            bench.settle(at(2), &claimed, delivered(1));
        }
    }
    assert_eq!(run(bench.store.give_up_sending(at(3), RULES)), 1);
    assert_eq!(run(bench.store.give_up_sending(at(3), RULES)), 0);
    assert_eq!(bench.record("lost").state, DeliveryState::Unknown);
    assert_eq!(bench.record("sent").state, DeliveryState::Delivered);
    assert_eq!(bench.claim_one(at(4)).id, id("queued"));
}

pub fn the_name_of_a_widget_belongs_to_one_number(backend: &dyn Backend) {
    let store = backend.empty();
    let number = imbabot_core::WidgetId;
    let adopt = |widgets: &[(imbabot_bot::WidgetName, imbabot_core::WidgetId)]| {
        futures_executor::block_on(store.adopt_widgets(widgets))
    };
    adopt(&[(widget("w"), number(1)), (widget("v"), number(u64::MAX))]).unwrap();
    adopt(&[(widget("v"), number(u64::MAX))]).unwrap();
    let error = adopt(&[(widget("x"), number(3)), (widget("w"), number(2))]).unwrap_err();
    assert_eq!(*error.kind(), crate::ErrorKind::OtherWidget);
    assert!(!error.is_retryable());
    adopt(&[(widget("x"), number(4)), (widget("w"), number(1))]).expect("nothing was changed");
}
