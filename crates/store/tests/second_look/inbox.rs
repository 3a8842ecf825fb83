//! What bots are told: order, tries, conflicts, limits, own changes, wakes.
use std::sync::Arc;

use imbabot_bot::{MemoryWrite, RoomChange, Seen};
use imbabot_core::Timestamp;

use super::bench::{
    Bench, bot, delivered, event, id, ms, nothing, numbers, opened, say, secs, settle, t, touched,
    widget,
};
use crate::{
    Class, DeadReason, DeliveryState, EventBody, EventOutcome, Handled, HandledOutcome, Line,
    NewDelivery, Next, SendLimits, Store,
};

async fn adopted(store: Arc<dyn Store>, names: &[&str]) -> Bench {
    let bench = Bench::new(store).await;
    let bots: Vec<_> = names.iter().map(|name| bot(name)).collect();
    bench.store.adopt_bots(t(0), &bots).await.unwrap();
    bench
}

async fn done(bench: &Bench, entry: &crate::EventEntry, at: Timestamp) {
    assert!(matches!(bench.handled(nothing(entry, at)).await, HandledOutcome::Committed(_)));
}

pub(crate) async fn entries_of_a_room_are_told_one_after_the_other(store: Arc<dyn Store>) {
    let bench = adopted(store, &["a", "b"]).await;
    bench.happens(t(1), vec![opened(1, &["a", "b"]), opened(1, &["a"]), opened(2, &["a"])]).await;
    let told = bench.told(t(1), &[("a", 9), ("b", 9)]).await;
    let of = |name: &str| {
        numbers(&told.iter().filter(|e| e.bot == bot(name)).cloned().collect::<Vec<_>>())
    };
    assert_eq!((of("a"), of("b")), (vec![1, 3], vec![1]));
    assert!(bench.told(t(1), &[("a", 9), ("b", 9)]).await.is_empty());
    done(&bench, &told[0], t(2)).await;
    assert_eq!(numbers(&bench.told(t(2), &[("a", 9), ("b", 9)]).await), [2]);
}

pub(crate) async fn slots_are_kept(store: Arc<dyn Store>) {
    let bench = adopted(store, &["a"]).await;
    bench.happens(t(1), (1..=5).map(|room| opened(room, &["a"])).collect()).await;
    assert_eq!(bench.told(t(1), &[("a", 0)]).await.len(), 0);
    assert_eq!(bench.told(t(1), &[("a", 2)]).await.len(), 2);
    assert_eq!(bench.told(t(1), &[("a", 9)]).await.len(), 3);
}

pub(crate) async fn a_retry_keeps_its_lane_and_its_count_until_it_is_poisoned(
    store: Arc<dyn Store>,
) {
    let bench = adopted(store, &["a"]).await;
    bench.happens(t(0), vec![opened(1, &["a"]), opened(1, &["a"])]).await;
    for tries in 1..=3 {
        let at = t(i64::from(tries) * 10);
        let told = bench.told(at, &[("a", 9)]).await;
        assert_eq!((numbers(&told), told[0].tries), (vec![1], tries));
        let again = (tries < 3).then(|| at + secs(10));
        bench.store.fail_event(&told[0], at, "it failed", again).await.unwrap();
        if tries < 3 {
            let (none, due) = bench.told_until(at, &[("a", 9)]).await;
            assert_eq!((none.len(), due), (0, Some(at + secs(10))));
        }
    }
    assert_eq!(numbers(&bench.told(t(30), &[("a", 9)]).await), [2]);
    let poisoned = bench.store.events(true, 10).await.unwrap();
    assert_eq!(poisoned.len(), 1);
    assert_eq!(poisoned[0].id, "e1/a");
    assert_eq!((poisoned[0].tries, poisoned[0].outcome), (3, Some(EventOutcome::Poisoned)));
    assert_eq!(poisoned[0].reason.as_deref(), Some("it failed"));
}

pub(crate) async fn a_poisoned_entry_that_is_tried_again_does_not_run_beside_its_lane(
    store: Arc<dyn Store>,
) {
    let bench = adopted(store, &["a"]).await;
    bench.happens(t(0), (0..4).map(|_| opened(1, &["a"])).collect()).await;
    let first = bench.told(t(0), &[("a", 9)]).await.remove(0);
    bench.store.fail_event(&first, t(0), "no", None).await.unwrap();
    let second = bench.told(t(0), &[("a", 9)]).await.remove(0);
    assert_eq!(second.event, 2);
    assert!(bench.store.retry_event(t(1), "e1/a").await.unwrap());
    assert!(bench.told(t(1), &[("a", 9)]).await.is_empty(), "two of a lane at once");
    done(&bench, &second, t(2)).await;
    let back = bench.told(t(2), &[("a", 9)]).await;
    assert_eq!((numbers(&back), back[0].tries), (vec![1], 1));
    bench.store.fail_event(&back[0], t(2), "no", None).await.unwrap();
    // Now one waits that has not begun: the older one goes first.
    assert!(bench.store.retry_event(t(3), "e1/a").await.unwrap());
    assert_eq!(numbers(&bench.told(t(3), &[("a", 9)]).await), [1]);
    for wrong in ["e1/a", "e9/a", "e1/b", "nonsense", "e/a", ""] {
        assert!(!bench.store.retry_event(t(3), wrong).await.unwrap(), "{wrong}");
    }
}

pub(crate) async fn of_two_poisoned_ones_the_older_goes_first(store: Arc<dyn Store>) {
    let bench = adopted(store, &["a"]).await;
    bench.happens(t(0), (0..2).map(|_| opened(1, &["a"])).collect()).await;
    for _ in 0..2 {
        let one = bench.told(t(0), &[("a", 9)]).await.remove(0);
        bench.store.fail_event(&one, t(0), "no", None).await.unwrap();
    }
    assert!(bench.store.retry_event(t(1), "e2/a").await.unwrap());
    assert!(bench.store.retry_event(t(1), "e1/a").await.unwrap());
    let first = bench.told(t(1), &[("a", 9)]).await;
    assert_eq!(numbers(&first), [1]);
    done(&bench, &first[0], t(1)).await;
    assert_eq!(numbers(&bench.told(t(1), &[("a", 9)]).await), [2]);
}

pub(crate) async fn a_late_word_of_a_handler_that_was_given_up_counts_for_nothing(
    store: Arc<dyn Store>,
) {
    let mut bench = adopted(store, &["a"]).await;
    bench.happens(t(0), vec![opened(1, &["a"])]).await;
    let first = bench.told(t(0), &[("a", 1)]).await.remove(0);
    bench.crash(t(1)).await;
    let second = bench.told(t(1), &[("a", 1)]).await.remove(0);
    assert_eq!(second.tries, 2);
    assert_eq!(bench.handled(nothing(&first, t(2))).await, HandledOutcome::Conflict);
    bench.store.fail_event(&first, t(2), "late", None).await.unwrap();
    done(&bench, &second, t(3)).await;
    bench.store.fail_event(&second, t(4), "late", None).await.unwrap();
    let events = bench.store.events(false, 1).await.unwrap();
    assert_eq!(events[0].outcome, Some(EventOutcome::Handled));
}

pub(crate) async fn after_a_crash_the_suspects_run_alone(store: Arc<dyn Store>) {
    let mut bench = adopted(store, &["a", "b"]).await;
    bench.happens(t(0), (1..=3).map(|room| opened(room, &["a", "b"])).collect()).await;
    assert_eq!(bench.told(t(0), &[("a", 1), ("b", 1)]).await.len(), 2);
    let begun = bench.crash(t(1)).await;
    assert_eq!(begun.interrupted_events, 2);
    let free = [("a", 9), ("b", 9)];
    let first = bench.told(t(1), &free).await;
    assert_eq!((first.len(), first[0].tries), (1, 2));
    assert!(bench.told(t(1), &free).await.is_empty());
    done(&bench, &first[0], t(2)).await;
    let second = bench.told(t(2), &free).await;
    assert_eq!((second.len(), second[0].tries), (1, 2));
    assert!(bench.told(t(2), &free).await.is_empty());
    done(&bench, &second[0], t(3)).await;
    let rest = bench.told(t(3), &free).await;
    assert_eq!(rest.len(), 4);
    assert!(rest.iter().all(|entry| entry.tries == 1));
}

pub(crate) async fn a_suspect_of_a_paused_bot_holds_up_nobody(store: Arc<dyn Store>) {
    let mut bench = adopted(store, &["a", "b"]).await;
    bench.happens(t(0), vec![opened(1, &["a"])]).await;
    bench.told(t(0), &[("a", 1)]).await;
    bench.crash(t(1)).await;
    bench.store.pause(t(1), &crate::PauseScope::Bot(bot("a")), true).await.unwrap();
    bench.happens(t(1), vec![opened(2, &["b"])]).await;
    assert_eq!(bench.told(t(2), &[("a", 1), ("b", 1)]).await.len(), 1);
}

pub(crate) async fn a_clean_end_gives_the_try_back(store: Arc<dyn Store>) {
    let mut bench = adopted(store, &["a"]).await;
    bench.happens(t(0), vec![opened(1, &["a"]), opened(2, &["a"])]).await;
    assert_eq!(bench.told(t(0), &[("a", 9)]).await.len(), 2);
    bench.store.end(bench.run, t(1)).await.unwrap();
    assert_eq!(bench.crash(t(2)).await.interrupted_events, 0);
    let told = bench.told(t(2), &[("a", 9)]).await;
    assert_eq!(told.iter().map(|e| e.tries).collect::<Vec<_>>(), [1, 1]);
}

fn write(key: &str, value: Option<i64>, based_on: Option<Seen>) -> MemoryWrite {
    MemoryWrite { key: key.into(), value: value.map(Into::into), based_on }
}

pub(crate) async fn memory_is_compare_and_set_and_a_conflict_keeps_nothing(store: Arc<dyn Store>) {
    let bench = adopted(store, &["a"]).await;
    bench.happens(t(0), (1..=3).map(|room| opened(room, &["a"])).collect()).await;
    let told = bench.told(t(0), &[("a", 9)]).await;
    let with = |n: usize, memory, sends| Handled { memory, sends, ..nothing(&told[n], t(1)) };
    let first = with(0, vec![write("k", Some(1), Some(Seen::Absent))], vec![]);
    assert_eq!(bench.handled(first).await, HandledOutcome::Committed(vec![]));
    let second = with(
        1,
        vec![write("other", Some(5), None), write("k", Some(2), Some(Seen::Absent))],
        vec![say("lost", 1)],
    );
    assert_eq!(bench.handled(second).await, HandledOutcome::Conflict);
    assert!(bench.store.delivery(id("lost")).await.unwrap().is_none());
    let remembered = |key: &'static str| async {
        bench.store.remembered(&bot("a"), &widget(), key).await.unwrap()
    };
    assert_eq!(remembered("other").await, None);
    let (value, version) = remembered("k").await.unwrap();
    assert_eq!(value, 1);
    let again = bench.told(t(2), &[("a", 9)]).await;
    assert_eq!((numbers(&again), again[0].tries), (vec![2], 1));
    let third = with(2, vec![write("k", Some(3), Some(Seen::Version(version)))], vec![]);
    assert!(matches!(bench.handled(third).await, HandledOutcome::Committed(_)));
    assert_eq!(remembered("k").await.unwrap().0, 3);
}

pub(crate) async fn a_version_is_not_used_again_after_its_key_was_removed(store: Arc<dyn Store>) {
    let bench = adopted(store, &["a"]).await;
    bench.happens(t(0), (1..=9).map(|room| opened(room, &["a"])).collect()).await;
    let told = bench.told(t(0), &[("a", 9)]).await;
    let mut versions = Vec::new();
    for (n, value) in [Some(1), None, Some(1), Some(2), None, Some(1)].into_iter().enumerate() {
        let memory = vec![write("k", value, None)];
        bench.handled(Handled { memory, ..nothing(&told[n], t(1)) }).await;
        let found = bench.store.remembered(&bot("a"), &widget(), "k").await.unwrap();
        assert_eq!(found.is_some(), value.is_some());
        versions.extend(found.map(|(_, version)| version));
    }
    let mut once = versions.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), versions.len(), "{versions:?}");
}

pub(crate) async fn limits_make_suppressed_rows_and_no_errors(store: Arc<dyn Store>) {
    let bench = adopted(store, &["a"]).await;
    bench.happens(t(0), (1..=4).map(|room| opened(room, &["a"])).collect()).await;
    let told = bench.told(t(0), &[("a", 9)]).await;
    let mine = |key: &str, room| NewDelivery { bot: Some(bot("a")), ..say(key, room) };
    let commit = async |n: usize, at, sends, limits| {
        let handled = Handled { sends, limits, ..nothing(&told[n], at) };
        match bench.handled(handled).await {
            HandledOutcome::Committed(found) => {
                found.into_iter().map(|one| one.reason).collect::<Vec<_>>()
            }
            HandledOutcome::Conflict => panic!("no conflict"),
        }
    };
    let loose =
        SendLimits { per_event: 9, per_bot: (9, secs(60)), per_bot_and_room: (9, secs(60)) };
    let no = Some(DeadReason::Suppressed);
    let sends = vec![mine("1", 1), mine("2", 2), mine("3", 3)];
    let event = SendLimits { per_event: 2, ..loose };
    assert_eq!(commit(0, t(0), sends, event).await, [None, None, no]);
    let room = SendLimits { per_bot_and_room: (1, secs(60)), ..loose };
    assert_eq!(commit(1, t(1), vec![mine("4", 1), mine("5", 9)], room).await, [no, None]);
    let all = SendLimits { per_bot: (4, secs(60)), ..loose };
    // Three count so far: suppressed ones do not.
    assert_eq!(commit(2, t(2), vec![mine("6", 5), mine("7", 6)], all).await, [None, no]);
    // What is there already is no new message; and the window moves on.
    assert_eq!(commit(3, t(90), vec![mine("1", 1), mine("8", 1)], all).await, [None, None]);
    assert_eq!(bench.state("3").await, "dead(suppressed)");
}

pub(crate) async fn own_touches_do_not_reach_bots(store: Arc<dyn Store>) {
    let bench = adopted(store, &["a"]).await;
    bench.enqueue(t(0), say("x", 1)).await;
    let one = bench.claim_one(t(100)).await;
    // While it is on its way nobody can say.
    bench.happens(t(101), vec![touched(1, t(100), &["a"]), touched(2, t(100), &["a"])]).await;
    let (told, due) = bench.told_until(t(101), &[("a", 9)]).await;
    assert_eq!((numbers(&told), due), (vec![2], Some(ms(101_500))));
    let next =
        Next::Delivered { message: imbabot_core::MessageId(1), uuid: None, time: Some(t(100)) };
    bench.end(t(102), &one, Class::Delivered, next).await;
    assert!(bench.told(t(103), &[("a", 9)]).await.is_empty());
    let record = bench.store.events(false, 9).await.unwrap();
    let own = record.iter().find(|e| e.id == "e1/a").unwrap();
    assert_eq!(own.outcome, Some(EventOutcome::Ignored));
    bench
        .happens(
            t(104),
            vec![
                touched(1, t(102), &["a"]),
                touched(1, t(98), &["a"]),
                touched(1, ms(102_001), &["a"]),
                event(RoomChange::Renamed, imbabot_core::Room::new(1.into(), "n"), &["a"]),
            ],
        )
        .await;
    assert_eq!(numbers(&bench.told(t(104), &[("a", 9)]).await), [5]);
}

pub(crate) async fn a_touch_by_an_attempt_of_which_nobody_knows_is_own(store: Arc<dyn Store>) {
    let bench = adopted(store, &["a"]).await;
    bench.enqueue(t(0), super::bench::insist("x", 1)).await;
    let one = bench.claim_one(t(100)).await;
    bench.unknown(t(110), &one).await;
    bench.happens(t(111), vec![touched(1, t(105), &["a"]), touched(1, t(113), &["a"])]).await;
    assert_eq!(numbers(&bench.told(t(120), &[("a", 9)]).await), [2]);
    // Queued again: that attempt may still have been the one.
    bench.sweep(t(170)).await;
    bench.happens(t(171), vec![touched(2, t(105), &["a"])]).await;
    bench.happens(t(171), vec![touched(3, t(105), &["a"])]).await;
    let again = bench.told(t(172), &[("a", 9)]).await;
    assert_eq!(again.len(), 2);
    assert_eq!(bench.state("x").await, "queued");
}

pub(crate) async fn removed_bots_are_told_nothing(store: Arc<dyn Store>) {
    let bench = adopted(store, &["a", "b"]).await;
    bench.happens(t(0), vec![opened(1, &["a", "b"]), opened(1, &["a"])]).await;
    let running = bench.told(t(0), &[("a", 1)]).await.remove(0);
    bench.store.adopt_bots(t(1), &[bot("b")]).await.unwrap();
    assert_eq!(bench.handled(nothing(&running, t(2))).await, HandledOutcome::Conflict);
    bench.store.fail_event(&running, t(2), "late", None).await.unwrap();
    assert!(bench.told(t(2), &[("a", 9)]).await.is_empty());
    for event in bench.store.events(false, 9).await.unwrap() {
        if event.bot == bot("a") {
            assert_eq!(event.outcome, Some(EventOutcome::Ignored));
        }
    }
    assert_eq!(bench.store.tally().await.unwrap().events_waiting, 1);
}

pub(crate) async fn wakes_fire_once_and_may_be_replaced_and_cancelled(store: Arc<dyn Store>) {
    let bench = adopted(store, &["a"]).await;
    bench.happens(t(0), (1..=2).map(|room| opened(room, &["a"])).collect()).await;
    let told = bench.told(t(0), &[("a", 9)]).await;
    let wakes = vec![("k".into(), t(10)), ("gone".into(), t(10)), ("later".into(), t(99))];
    bench.handled(Handled { wakes, ..nothing(&told[0], t(0)) }).await;
    let change = Handled {
        wakes: vec![("k".into(), t(20))],
        cancels: vec!["gone".into()],
        ..nothing(&told[1], t(1))
    };
    bench.handled(change).await;
    assert_eq!(bench.store.fire_wakes(t(10)).await.unwrap(), (0, Some(t(20))));
    assert_eq!(bench.store.fire_wakes(t(20)).await.unwrap(), (1, Some(t(99))));
    assert_eq!(bench.store.fire_wakes(t(20)).await.unwrap(), (0, Some(t(99))));
    let told = bench.told(t(20), &[("a", 9)]).await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].body, EventBody::Timer { key: "k".into(), occurrence: None });
    assert_eq!(told[0].at, t(20));
    bench.store.adopt_bots(t(30), &[]).await.unwrap();
    assert_eq!(bench.store.fire_wakes(t(100)).await.unwrap(), (0, None));
}

pub(crate) async fn a_handler_takes_back_only_what_is_still_queued(store: Arc<dyn Store>) {
    let bench = adopted(store, &["a"]).await;
    let mine = |key: &str, room| NewDelivery { bot: Some(bot("a")), ..say(key, room) };
    bench.enqueue(t(0), mine("bot/a/one", 1)).await;
    bench.enqueue(t(0), mine("bot/a/two", 2)).await;
    let only = bench.claim_as(t(0), super::bench::FREELY, Some(id("bot/a/one"))).await;
    bench.happens(t(0), vec![opened(1, &["a"])]).await;
    let told = bench.told(t(0), &[("a", 9)]).await;
    let cancels = vec!["one".into(), "two".into(), "none".into()];
    bench.handled(Handled { cancels, ..nothing(&told[0], t(1)) }).await;
    assert!(bench.is("bot/a/one", DeliveryState::Sending).await);
    assert_eq!(bench.state("bot/a/two").await, "dead(cancelled)");
    bench.end(t(2), &only.deliveries[0], Class::Delivered, delivered(4)).await;
}

pub(crate) async fn a_bot_that_asked_is_told_what_became_of_its_messages(store: Arc<dyn Store>) {
    let bench = adopted(store, &["a"]).await;
    let mine = |key: &str, room| NewDelivery {
        bot: Some(bot("a")),
        report: true,
        expires_at: t(50),
        ..say(key, room)
    };
    for (room, key) in (1..).zip(["bot/a/done", "bot/a/dead", "bot/a/unknown", "bot/a/expired"]) {
        bench.enqueue(t(0), mine(key, room)).await;
    }
    bench.enqueue(t(0), say("quiet", 9)).await;
    for one in bench.claim(t(0)).await {
        match one.text.as_str() {
            "bot/a/done" | "quiet" => bench.deliver(t(1), &one).await,
            "bot/a/dead" => bench.reject(t(1), &one).await,
            "bot/a/unknown" => bench.unknown(t(1), &one).await,
            _ => bench.end(t(1), &one, Class::NotSent, Next::Retry { at: t(60) }).await,
        };
    }
    bench.store.sweep(t(50), settle(), 9).await.unwrap();
    let mut heard = Vec::new();
    for entry in bench.told(t(51), &[("a", 9)]).await {
        let EventBody::Delivery { key, state, .. } = entry.body else { panic!() };
        heard.push(format!("{} {state}", key.unwrap()));
    }
    heard.sort();
    assert_eq!(heard, ["dead dead", "done delivered", "expired dead", "unknown unknown"]);
}

pub(crate) async fn a_report_to_a_bot_that_was_removed_waits_for_nobody(store: Arc<dyn Store>) {
    let bench = adopted(store, &["a"]).await;
    let mine = NewDelivery { bot: Some(bot("a")), report: true, ..say("bot/a/x", 1) };
    bench.enqueue(t(0), mine).await;
    bench.store.adopt_bots(t(1), &[]).await.unwrap();
    let one = bench.claim_one(t(2)).await;
    bench.deliver(t(3), &one).await;
    assert_eq!(bench.store.tally().await.unwrap().events_waiting, 0);
}

pub(crate) async fn an_event_for_nobody_is_nothing(store: Arc<dyn Store>) {
    let bench = adopted(store, &["a"]).await;
    bench.happens(t(0), vec![opened(1, &[])]).await;
    assert_eq!(bench.store.events(false, 9).await.unwrap(), []);
}

pub(crate) async fn the_ledger_tells_of_an_entry_when_it_ends(store: Arc<dyn Store>) {
    let bench = adopted(store, &["a"]).await;
    bench.happens(t(0), vec![opened(7, &["a"])]).await;
    let told = bench.told(t(0), &[("a", 9)]).await;
    done(&bench, &told[0], t(1)).await;
    let last = bench.ledger().await.pop().unwrap();
    let Line::Event(record) = last.line else { panic!("{last:?}") };
    assert_eq!((record.id.as_str(), record.tries), ("e1/a", 1));
    assert_eq!(record.outcome, Some(EventOutcome::Handled));
    assert_eq!(record.room, Some(7.into()));
}
