//! What the records tell of why.

#![allow(missing_docs, reason = "the name of a case is its sentence")]

use imbabot_core::RoomId;

use super::Backend;
use super::support::*;
use crate::{
    AttemptRecord, BreakerChange, Class, DeadReason, Hold, Line, NewDelivery, NewOccurrence,
    NewRange, Next, OccurrenceCommit, OccurrenceOutcome, PauseScope, Resolution, ScheduleStory,
    Settled, Stop, Target,
};

/// What held the last attempt of a delivery, and since which second.
fn held(bench: &Bench, key: &str) -> Option<(Hold, i64)> {
    let attempts = bench.lines().into_iter().filter_map(|line| match line.line {
        Line::Attempt(attempt) if attempt.delivery == id(key) => Some(attempt),
        _ => None,
    });
    let last: AttemptRecord = attempts.last().expect("there is an attempt");
    let seconds = |since: imbabot_core::Timestamp| since.as_seconds() - at(0).as_seconds();
    Some((last.held_by?, last.held_since.map(seconds)?))
}

fn breaker(reason: Stop, second: i64, open: bool) -> BreakerChange {
    let detail = (reason == Stop::Redirect && open).then(|| "https://elsewhere".to_owned());
    BreakerChange { widget: widget("w"), reason, at: at(second), open, detail }
}

pub fn an_attempt_that_leaves_at_once_was_held_by_nothing(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    bench.enqueue(at(1), vec![message("k")]);
    bench.claim_one(at(1));
    assert_eq!(held(&bench, "k"), None);
}

pub fn an_attempt_says_what_held_it_last(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    bench.enqueue(at(1), vec![message("first"), message("second"), to_room("elsewhere", 2)]);
    // One every 2 s in a widget, every 10 s in a room.
    let next = |now: i64| bench.paced(at(now), secs(2), secs(10)).deliveries;
    let first = next(1).remove(0);
    let elsewhere = next(3).remove(0);
    assert_eq!(held(&bench, "elsewhere"), Some((Hold::WidgetRate, 1)));
    bench.settle(at(4), &elsewhere, delivered(2));
    assert!(next(5).is_empty(), "its lane waits for the first");
    bench.settle(at(6), &first, delivered(1));
    next(11);
    assert_eq!(held(&bench, "second"), Some((Hold::RoomRate, 1)));
}

pub fn a_message_says_that_it_waited_for_the_one_before_it(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    bench.enqueue(at(1), vec![message("first"), message("second")]);
    let first = bench.claim_one(at(1));
    bench.settle(at(20), &first, delivered(1));
    bench.claim_one(at(21));
    assert_eq!(held(&bench, "second"), Some((Hold::Lane, 1)));
}

pub fn an_attempt_says_that_the_server_had_asked_for_silence(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    bench.enqueue(at(1), vec![message("k")]);
    run(bench.store.hold_widget(&widget("w"), at(30)));
    assert!(bench.claim(at(2)).is_empty());
    bench.claim_one(at(30));
    assert_eq!(held(&bench, "k"), Some((Hold::RetryAfter, 1)));
}

pub fn an_attempt_says_that_it_was_stopped(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    let mut second = 0;
    for (stop, hold) in [
        (Stop::Outage, Hold::Outage),
        (Stop::Credentials, Hold::Credentials),
        (Stop::Redirect, Hold::Redirect),
    ] {
        let key = stop.as_str();
        bench.enqueue(at(second), vec![message(key)]);
        run(bench.store.note_breakers(vec![breaker(stop, second + 1, true)]));
        run(bench.store.note_breakers(vec![breaker(stop, second + 9, false)]));
        let claimed = bench.claim_one(at(second + 10));
        assert_eq!(held(&bench, key), Some((hold, second)));
        bench.settle(at(second + 10), &claimed, delivered(second.unsigned_abs() + 1));
        second += 20;
    }
    let of_bot = NewDelivery { bot: Some(bot("b")), ..message("paused") };
    bench.enqueue(at(100), vec![of_bot]);
    run(bench.store.pause(at(101), &PauseScope::Bot(bot("b")), true));
    run(bench.store.pause(at(109), &PauseScope::Bot(bot("b")), false));
    bench.claim_one(at(110));
    assert_eq!(held(&bench, "paused"), Some((Hold::Paused, 100)));
}

pub fn the_pause_of_one_bot_explains_no_wait_of_another(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    bench.enqueue(at(1), vec![NewDelivery { bot: Some(bot("b")), ..message("k") }]);
    run(bench.store.pause(at(2), &PauseScope::Bot(bot("a")), true));
    run(bench.store.pause(at(3), &PauseScope::Bot(bot("a")), false));
    bench.claim_one(at(4));
    assert_eq!(held(&bench, "k"), Some((Hold::Concurrency, 1)));
    let story = run(bench.store.delivery_story(id("k"))).expect("it is there");
    assert!(story.stoppages.is_empty());
}

pub fn an_attempt_says_that_nobody_was_there(backend: &dyn Backend) {
    let mut bench = Bench::new(backend);
    bench.enqueue(at(1), vec![message("k")]);
    bench.kill(at(60));
    bench.claim_one(at(61));
    assert_eq!(held(&bench, "k"), Some((Hold::Downtime, 1)));
    let story = run(bench.store.delivery_story(id("k"))).expect("it is there");
    assert_eq!(story.downtimes.len(), 1);
    let down = story.downtimes[0];
    assert!(down.killed && down.from == at(1) && down.to == Some(at(60)), "{down:?}");
}

pub fn a_breaker_is_told_once_and_ends_with_the_run(backend: &dyn Backend) {
    let mut bench = Bench::new(backend);
    bench.enqueue(at(0), vec![message("k")]);
    for _ in 0..2 {
        run(bench.store.note_breakers(vec![breaker(Stop::Redirect, 5, true)]));
    }
    let story = || run(bench.store.delivery_story(id("k"))).expect("it is there").stoppages;
    let told = story();
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].reason, told[0].since, told[0].until), (Stop::Redirect, at(5), None));
    assert_eq!(told[0].detail.as_deref(), Some("https://elsewhere"));
    bench.kill(at(9));
    let story = run(bench.store.delivery_story(id("k"))).expect("it is there").stoppages;
    assert_eq!(story[0].until, Some(at(9)));
}

pub fn what_stops_sending_now_is_told_until_it_ends(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    let lasting = || -> Vec<(String, Stop, imbabot_core::Timestamp, Option<String>)> {
        let all = run(bench.store.lasting_stoppages());
        assert!(all.iter().all(|stoppage| stoppage.until.is_none()));
        all.into_iter().map(|s| (s.scope, s.reason, s.since, s.detail)).collect()
    };
    assert_eq!(lasting(), []);
    let elsewhere = Some("https://elsewhere".to_owned());
    run(bench.store.note_breakers(vec![
        breaker(Stop::Redirect, 5, true),
        breaker(Stop::Outage, 6, true),
        breaker(Stop::Outage, 8, false),
    ]));
    run(bench.store.pause(at(7), &PauseScope::Bot(bot("b")), true));
    assert_eq!(
        lasting(),
        [
            ("bot/b".to_owned(), Stop::Paused, at(7), None),
            ("widget/w".to_owned(), Stop::Redirect, at(5), elsewhere),
        ]
    );
    run(bench.store.note_breakers(vec![breaker(Stop::Redirect, 9, false)]));
    run(bench.store.pause(at(9), &PauseScope::Bot(bot("b")), false));
    assert_eq!(lasting(), []);
}

pub fn the_story_of_a_delivery_has_all_that_happened_to_it(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    assert_eq!(run(bench.store.delivery_story(id("k"))), None);
    bench.enqueue(at(0), vec![message("k"), message("other"), message("kk")]);
    let claimed = bench.claim_one(at(1));
    let outcome = Settled {
        delivery: claimed.id,
        attempt: 1,
        class: Class::Ambiguous,
        code: "no_answer".into(),
        http_status: None,
        detail: "no answer in 20 s".into(),
        next: Next::Unknown,
    };
    run(bench.store.settle(at(21), RULES, vec![outcome]));
    run(bench.store.resolve(at(90), id("k"), Resolution::Delivered));
    let other = bench.claim_one(at(91));
    bench.settle(at(91), &other, delivered(3));
    let story = run(bench.store.delivery_story(id("k"))).expect("it is there");
    let told: Vec<String> = story
        .lines
        .iter()
        .map(|line| match &line.line.line {
            Line::Delivery(record) => format!("delivery {}", record.state),
            Line::Attempt(attempt) => format!("attempt {:?} {:?}", attempt.class, attempt.detail),
            Line::Operator(act) => act.verb.clone(),
            other => format!("{other:?}"),
        })
        .collect();
    assert_eq!(
        told,
        [
            "delivery queued",
            "delivery sending",
            "attempt None None",
            r#"attempt Some(Ambiguous) Some("no answer in 20 s")"#,
            "delivery unknown",
            "delivery delivered",
            "deliveries resolve",
        ]
    );
    assert_eq!(story.behind, None);
}

pub fn a_queued_delivery_says_what_it_waits_for(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    bench.enqueue(at(0), vec![message("first")]);
    bench.enqueue(at(1), vec![message("second")]);
    let first = bench.claim_one(at(1));
    bench.settle(at(2), &first, again(at(50)));
    let story = |key: &str| run(bench.store.delivery_story(id(key))).expect("it is there");
    assert_eq!((story("first").due_at, story("first").behind), (Some(at(50)), None));
    assert_eq!((story("second").due_at, story("second").behind), (Some(at(1)), Some(id("first"))));
}

pub fn why_a_row_was_born_dead_is_kept(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    let detail = Some("the text is empty".to_owned());
    let born = crate::Born::Dead(DeadReason::Invalid);
    bench.enqueue(at(0), vec![NewDelivery { born, detail: detail.clone(), ..message("k") }]);
    assert_eq!(bench.record("k").detail, detail);
}

pub fn the_server_s_words_are_not_kept_where_no_texts_are(backend: &dyn Backend) {
    let bench = Bench::on(backend.without_texts());
    bench.enqueue(at(0), vec![message("k"), to_room("l", 2)]);
    let claimed = bench.claim(at(1));
    for (delivery, status) in claimed.iter().zip([Some(422), None]) {
        let (class, next) = (Class::Rejected, Next::Dead(DeadReason::Rejected));
        let detail = "no room for 'text of k'".to_owned();
        let outcome = Settled {
            delivery: delivery.id,
            attempt: 1,
            class,
            code: "http_4xx".into(),
            http_status: status,
            detail,
            next,
        };
        run(bench.store.settle(at(2), RULES, vec![outcome]));
    }
    let details: Vec<_> = bench
        .lines()
        .into_iter()
        .filter_map(|line| match line.line {
            Line::Attempt(attempt) if attempt.class.is_some() => Some(attempt.detail.is_some()),
            _ => None,
        })
        .collect();
    assert_eq!(details, [false, true]);
}

pub fn the_story_of_an_occurrence_has_its_deliveries_and_what_was_left_out(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    let adopted = crate::AdoptSchedule { key: "daily".into(), definition: "d".into() };
    run(bench.store.adopt_schedules(at(0), vec![adopted]));
    let id_of = |second: i64| format!("daily@{}", at(second).compact());
    let target = |room| Target { widget: widget("w"), room: RoomId(room) };
    let commit = OccurrenceCommit {
        key: "daily".into(),
        now: at(100),
        from: at(0),
        through: at(100),
        occurrences: vec![NewOccurrence {
            id: id_of(100),
            nominal_at: at(100),
            outcome: OccurrenceOutcome::Fired,
            reason: None,
            targets: vec![target(1), target(2)],
            events: vec![],
        }],
        ranges: vec![NewRange {
            outcome: OccurrenceOutcome::Missed,
            reason: "misfire".into(),
            from: at(10),
            to: at(90),
            count: 9,
        }],
    };
    assert!(run(bench.store.commit_occurrences(commit)));
    let story =
        |second: i64| run(bench.store.occurrence_story(&id_of(second), "daily", at(second)));
    assert!(story(100).unserved);
    let pinned = run(bench.store.pinned(10)).remove(0);
    let deliver = |room: u64| NewDelivery {
        key: format!("occurrence/{}/w/{room}", pinned.id),
        occurrence: Some(pinned.id.clone()),
        schedule: Some("daily".into()),
        ..to_room("", room)
    };
    let expansion = crate::Expansion {
        id: pinned.id.clone(),
        now: at(101),
        position: 0,
        served: 2,
        deliveries: vec![deliver(1), deliver(2)],
        skip_overlap: true,
    };
    assert!(run(bench.store.expand(expansion)));
    let fired = story(100);
    assert_eq!(fired.deliveries.len(), 2);
    assert!(!fired.unserved && fired.present && !fired.paused);
    assert_eq!(fired.fired_through, Some(at(100)));
    assert!(
        matches!(fired.lines.last().map(|l| &l.line.line), Some(Line::Occurrence(o)) if o.deliveries == 2)
    );
    let missed = story(50);
    assert!(
        matches!(&missed.lines[..], [line] if matches!(&line.line.line, Line::Range(run) if run.count == 9))
    );
    assert!(story(5).lines.is_empty() && story(5).deliveries.is_empty());
}

pub fn the_story_of_a_schedule_has_its_latest_instant_and_its_pause(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    let adopted = crate::AdoptSchedule { key: "daily".into(), definition: "d".into() };
    run(bench.store.adopt_schedules(at(0), vec![adopted]));
    let story = |until: i64| run(bench.store.schedule_story("daily", at(until)));
    assert_eq!(story(1_000), ScheduleStory::default());
    let occurrence = |second: i64, manual: &str| NewOccurrence {
        id: format!("daily@{}{manual}", at(second).compact()),
        nominal_at: at(second),
        outcome: OccurrenceOutcome::Skipped,
        reason: Some("no_rooms".into()),
        targets: vec![],
        events: vec![],
    };
    let missed = |from: i64, to: i64| NewRange {
        outcome: OccurrenceOutcome::Missed,
        reason: "misfire".into(),
        from: at(from),
        to: at(to),
        count: 2,
    };
    let commit = OccurrenceCommit {
        key: "daily".into(),
        now: at(100),
        from: at(0),
        through: at(100),
        occurrences: vec![occurrence(30, "")],
        ranges: vec![missed(10, 20), missed(90, 100)],
    };
    assert!(run(bench.store.commit_occurrences(commit)));
    run(bench.store.trigger(at(500), "daily", occurrence(500, crate::MANUAL)));
    for (until, last) in [(1_000, Some(100)), (99, Some(30)), (25, Some(20)), (5, None)] {
        assert_eq!(story(until).last, last.map(at), "up to {until}");
    }
    assert!(run(bench.store.pause_schedule(at(200), "daily", true)));
    assert!(run(bench.store.pause_schedule(at(210), "daily", true)));
    assert_eq!(story(1_000).paused_since, Some(at(200)), "a second pause begins nothing");
    assert!(run(bench.store.pause_schedule(at(220), "daily", false)));
    assert_eq!(story(1_000).paused_since, None);
    assert!(run(bench.store.pause_schedule(at(230), "daily", true)));
    assert_eq!(story(1_000).paused_since, Some(at(230)));
}
