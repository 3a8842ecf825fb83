//! What operators do, the ledger, pruning.
use std::collections::BTreeMap;
use std::sync::Arc;

use super::bench::{Bench, FREELY, bot, id, insist, nothing, opened, say, t, widget};
use crate::{
    CancelFilter, Class, DeliveryFilter, DeliveryState, Line, NewDelivery, Next, PauseScope,
    Resolution, RetryVerdict, Store,
};

pub(crate) async fn pauses_hold_and_resuming_releases(store: Arc<dyn Store>) {
    let bench = Bench::new(store).await;
    let a = |key: &str, room| NewDelivery { bot: Some(bot("a")), ..say(key, room) };
    bench.enqueue(t(0), a("of a", 1)).await;
    bench.enqueue(t(0), say("behind a", 1)).await;
    bench.enqueue(t(0), say("alone", 2)).await;
    let elsewhere = NewDelivery { widget: "other".parse().unwrap(), ..say("other", 1) };
    bench.enqueue(t(0), elsewhere).await;
    let pause = |scope: PauseScope, on| {
        let store = Arc::clone(&bench.store);
        async move { store.pause(t(1), &scope, on).await.unwrap() }
    };
    assert!(pause(PauseScope::All, true).await);
    assert!(!pause(PauseScope::All, true).await);
    assert!(bench.claim(t(1)).await.is_empty());
    assert!(pause(PauseScope::Widget(widget()), true).await);
    assert!(pause(PauseScope::Bot(bot("a")), true).await);
    assert_eq!(bench.store.paused().await.unwrap().len(), 3);
    assert!(pause(PauseScope::All, false).await);
    assert_eq!(bench.texts(t(1)).await, ["other"]);
    assert!(pause(PauseScope::Widget(widget()), false).await);
    assert_eq!(bench.texts(t(1)).await, ["alone"]);
    assert!(pause(PauseScope::Bot(bot("a")), false).await);
    assert!(!pause(PauseScope::Bot(bot("a")), false).await);
    assert_eq!(bench.texts(t(1)).await, ["of a"]);
}

pub(crate) async fn a_paused_bot_is_told_nothing(store: Arc<dyn Store>) {
    let bench = Bench::new(store).await;
    bench.store.adopt_bots(t(0), &[bot("a"), bot("b")]).await.unwrap();
    bench.happens(t(0), vec![opened(1, &["a", "b"])]).await;
    bench.store.pause(t(0), &PauseScope::Bot(bot("a")), true).await.unwrap();
    let told = bench.told(t(0), &[("a", 1), ("b", 1)]).await;
    assert_eq!(told.iter().map(|e| e.bot.as_str()).collect::<Vec<_>>(), ["b"]);
    bench.store.pause(t(0), &PauseScope::Bot(bot("a")), false).await.unwrap();
    assert_eq!(bench.told(t(0), &[("a", 1), ("b", 1)]).await.len(), 1);
}

pub(crate) async fn cancelling_takes_only_what_is_queued(store: Arc<dyn Store>) {
    let bench = Bench::new(store).await;
    let of = |key: &str, room| NewDelivery {
        bot: Some(bot("a")),
        schedule: Some("s".into()),
        ..say(key, room)
    };
    for (room, key) in (1..).zip(["1", "2", "3", "4"]) {
        bench.enqueue(t(0), of(key, room)).await;
    }
    bench.enqueue(t(0), say("mine", 9)).await;
    let sending = bench.claim_as(t(0), FREELY, Some(id("1"))).await.deliveries.remove(0);
    let cancel = async |filter| bench.store.cancel(t(1), &filter).await.unwrap();
    assert_eq!(cancel(CancelFilter::State(DeliveryState::Sending)).await, []);
    let ids = CancelFilter::Ids(vec![id("1"), id("2"), id("nobody")]);
    assert_eq!(cancel(ids).await, [id("2")]);
    assert_eq!(cancel(CancelFilter::Bot(bot("b"))).await, []);
    assert_eq!(cancel(CancelFilter::Schedule("s".into())).await, [id("3"), id("4")]);
    assert_eq!(cancel(CancelFilter::State(DeliveryState::Queued)).await, [id("mine")]);
    bench.deliver(t(2), &sending).await;
    assert_eq!(bench.state("2").await, "dead(cancelled)");
    assert!(bench.claim(t(3)).await.is_empty());
}

pub(crate) async fn a_retry_gives_its_content_its_time_again(store: Arc<dyn Store>) {
    let bench = Bench::new(store).await;
    bench.enqueue(t(0), NewDelivery { expires_at: t(600), ..say("a", 1) }).await;
    bench.sweep(t(600)).await;
    let retry = async |key, accept, at| bench.store.retry(t(at), id(key), accept).await.unwrap();
    assert_eq!(retry("nobody", true, 0).await, RetryVerdict::Missing);
    assert_eq!(retry("a", false, 5_000).await, RetryVerdict::Queued);
    let record = bench.record("a").await;
    assert_eq!((record.expires_at, record.possible_duplicate), (t(5_600), false));
    assert_eq!(retry("a", true, 5_001).await, RetryVerdict::NotNow(DeliveryState::Queued));
    let one = bench.claim_one(t(5_002)).await;
    assert_eq!(retry("a", true, 5_003).await, RetryVerdict::NotNow(DeliveryState::Sending));
    bench.deliver(t(5_004), &one).await;
    assert_eq!(retry("a", true, 5_005).await, RetryVerdict::NotNow(DeliveryState::Delivered));
}

pub(crate) async fn a_retry_of_what_may_have_arrived_needs_acceptance_and_is_marked(
    store: Arc<dyn Store>,
) {
    let bench = Bench::new(store).await;
    bench.enqueue(t(0), say("unknown", 1)).await;
    bench.enqueue(t(0), say("unresolved", 2)).await;
    for one in bench.claim(t(0)).await {
        bench.unknown(t(0), &one).await;
    }
    bench.store.resolve(t(1), id("unresolved"), Resolution::Dead).await.unwrap();
    for key in ["unknown", "unresolved"] {
        let verdict = bench.store.retry(t(2), id(key), false).await.unwrap();
        assert_eq!(verdict, RetryVerdict::NeedsAcceptance);
        assert_eq!(bench.store.retry(t(2), id(key), true).await.unwrap(), RetryVerdict::Queued);
        assert!(bench.record(key).await.possible_duplicate);
    }
    assert_eq!(bench.store.tally().await.unwrap().possible_duplicates, 2);
    assert_eq!(bench.claim(t(3)).await.len(), 2);
}

pub(crate) async fn an_operators_retry_costs_no_resend(store: Arc<dyn Store>) {
    let bench = Bench::new(store).await;
    bench.enqueue(t(0), insist("a", 1)).await;
    for n in 0..5 {
        let one = bench.claim_one(t(n)).await;
        bench.unknown(t(n), &one).await;
        assert!(bench.is("a", DeliveryState::Unknown).await, "after {n} retries");
        bench.store.retry(t(n), id("a"), true).await.unwrap();
    }
}

pub(crate) async fn resolving_ends_only_what_is_unknown(store: Arc<dyn Store>) {
    let bench = Bench::new(store).await;
    let resolve = async |key, as_| bench.store.resolve(t(9), id(key), as_).await.unwrap();
    assert_eq!(resolve("nobody", Resolution::Dead).await, None);
    for (room, key) in (1..).zip(["there", "not there", "queued"]) {
        bench.enqueue(t(0), say(key, room)).await;
    }
    assert_eq!(resolve("queued", Resolution::Delivered).await, Some(DeliveryState::Queued));
    assert_eq!(bench.state("queued").await, "queued");
    for key in ["there", "not there"] {
        let one = bench.claim_as(t(0), FREELY, Some(id(key))).await.deliveries.remove(0);
        bench.unknown(t(0), &one).await;
    }
    assert_eq!(resolve("there", Resolution::Delivered).await, Some(DeliveryState::Unknown));
    assert_eq!(resolve("not there", Resolution::Dead).await, Some(DeliveryState::Unknown));
    assert!(bench.is("there", DeliveryState::Delivered).await);
    assert_eq!(bench.state("not there").await, "dead(unresolved)");
    assert_eq!(resolve("there", Resolution::Dead).await, Some(DeliveryState::Delivered));
    assert_eq!(bench.sweep(t(100_000)).await, 0);
}

pub(crate) async fn lists_are_newest_first_and_filtered(store: Arc<dyn Store>) {
    let bench = Bench::new(store).await;
    for n in 0..5_u64 {
        bench.enqueue(t(n.cast_signed()), say(&n.to_string(), n)).await;
    }
    let one = bench.claim_as(t(9), FREELY, Some(id("3"))).await.deliveries.remove(0);
    bench.deliver(t(9), &one).await;
    let list = async |filter: DeliveryFilter| {
        let found = bench.store.deliveries(&filter).await.unwrap();
        found.into_iter().map(|record| record.key).collect::<Vec<_>>()
    };
    assert_eq!(list(DeliveryFilter::default()).await, ["4", "3", "2", "1", "0"]);
    let state = Some(DeliveryState::Queued);
    let queued = DeliveryFilter { state, since: Some(t(1)), limit: Some(2) };
    assert_eq!(list(queued).await, ["4", "2"]);
}

/// A bit of everything, then the ledger against what the store says now.
pub(crate) async fn the_ledger_only_grows_and_its_last_lines_are_the_present(
    store: Arc<dyn Store>,
) {
    let bench = Bench::new(store).await;
    bench.store.adopt_bots(t(0), &[bot("a")]).await.unwrap();
    let mut seen: Vec<crate::LedgerLine> = Vec::new();
    for n in 0..40_u64 {
        let at = n.cast_signed() * 10;
        let new = if n % 2 == 0 { say("", n % 5) } else { insist("", n % 5) };
        let (key, text) = (n.to_string(), format!("text {n}"));
        let new = NewDelivery { key, text, expires_at: t(at + 200), ..new };
        bench.enqueue(t(at), new).await;
        for one in bench.claim(t(at)).await {
            match n % 4 {
                0 => bench.deliver(t(at), &one).await,
                1 => bench.unknown(t(at), &one).await,
                2 => bench.reject(t(at), &one).await,
                _ => bench.end(t(at), &one, Class::NotSent, Next::Retry { at: t(at + 9) }).await,
            };
        }
        bench.sweep(t(at)).await;
        bench.happens(t(at), vec![opened(n, &["a"])]).await;
        for entry in bench.told(t(at), &[("a", 1)]).await {
            bench.handled(nothing(&entry, t(at))).await;
        }
        let now = bench.ledger().await;
        // Texts are joined when a line is read, and here they stay; everything else is as it was.
        assert_eq!(now[..seen.len()], seen[..]);
        assert!(now.windows(2).all(|pair| pair[0].seq < pair[1].seq));
        seen = now;
    }
    let mut paged = Vec::new();
    let mut since = 0;
    loop {
        let page = bench.store.ledger(since, 7).await.unwrap();
        let Some(last) = page.last() else { break };
        since = last.seq;
        paged.extend(page);
    }
    assert_eq!(paged, seen);
    let mut last = BTreeMap::new();
    for line in seen {
        if let Line::Delivery(record) = line.line {
            assert!(record.text.is_some());
            last.insert(record.id, *record);
        }
    }
    let present = bench.store.deliveries(&DeliveryFilter::default()).await.unwrap();
    assert_eq!(last.len(), present.len());
    for record in present {
        assert_eq!(last.get(&record.id), Some(&record));
    }
}

pub(crate) async fn pruning_takes_the_old_and_finished_and_nothing_else(store: Arc<dyn Store>) {
    let bench = Bench::new(store).await;
    bench.store.adopt_bots(t(0), &[bot("a"), bot("b")]).await.unwrap();
    for (room, key) in (1..).zip(["old", "queued", "unknown", "fresh end"]) {
        bench.enqueue(t(0), say(key, room)).await;
    }
    for key in ["old", "unknown", "fresh end"] {
        let one = bench.claim_as(t(1), FREELY, Some(id(key))).await.deliveries.remove(0);
        match key {
            "old" => bench.deliver(t(2), &one).await,
            "unknown" => bench.unknown(t(2), &one).await,
            _ => bench.deliver(t(500), &one).await,
        };
    }
    bench.happens(t(0), vec![opened(1, &["a", "b"]), opened(2, &["a"]), opened(3, &["a"])]).await;
    let told = bench.told(t(0), &[("a", 9)]).await;
    bench.handled(nothing(&told[0], t(1))).await;
    bench.store.fail_event(&told[1], t(1), "no", None).await.unwrap();
    bench.handled(nothing(&told[2], t(1))).await;
    while bench.store.prune(t(1_000), t(100), 1).await.unwrap() > 0 {}
    assert!(bench.store.delivery(id("old")).await.unwrap().is_none());
    for key in ["queued", "unknown", "fresh end"] {
        assert!(bench.store.delivery(id(key)).await.unwrap().is_some(), "{key}");
    }
    let left: Vec<_> = bench.store.events(false, 9).await.unwrap();
    let left: Vec<_> = left.iter().map(|event| event.id.as_str()).collect();
    assert_eq!(left, ["e2/a", "e1/b"]);
    assert!(bench.store.retry_event(t(1_001), "e2/a").await.unwrap());
    assert_eq!(bench.told(t(1_001), &[("a", 9), ("b", 9)]).await.len(), 2);
    let mut attempts = Vec::new();
    for line in bench.ledger().await {
        match line.line {
            Line::Delivery(record) => assert_ne!(record.key, "old"),
            Line::Attempt(record) => attempts.push(record.delivery),
            _ => {}
        }
    }
    assert_eq!(attempts.iter().filter(|one| **one == id("unknown")).count(), 2);
    assert!(!attempts.contains(&id("old")));
    // What was pruned is forgotten: its key may be used again.
    assert!(!bench.enqueue(t(1_002), say("old", 1)).await.known);
    assert_eq!(bench.claim(t(1_003)).await.len(), 2);
}

pub(crate) async fn many_poisoned_events_do_not_keep_the_others(store: Arc<dyn Store>) {
    let bench = Bench::new(store).await;
    bench.store.adopt_bots(t(0), &[bot("a")]).await.unwrap();
    bench.happens(t(0), (0..20).map(|room| opened(room, &["a"])).collect()).await;
    for entry in bench.told(t(0), &[("a", 99)]).await {
        if entry.event <= 10 {
            bench.store.fail_event(&entry, t(0), "no", None).await.unwrap();
        } else {
            bench.handled(nothing(&entry, t(0))).await;
        }
    }
    while bench.store.prune(t(1_000), t(100), 5).await.unwrap() > 0 {}
    assert_eq!(bench.store.events(false, 99).await.unwrap().len(), 10);
}

pub(crate) async fn a_whole_store_is_whole(store: Arc<dyn Store>) {
    let bench = Bench::new(store).await;
    bench.enqueue(t(0), say("a", 1)).await;
    assert_eq!(bench.store.check_integrity(false).await.unwrap(), None);
    assert_eq!(bench.store.check_integrity(true).await.unwrap(), None);
}
