//! Order within a lane, independence between lanes, one request of a lane at a time.

use std::sync::Arc;

use super::bench::{Bench, FREELY, id, insist, say, t};
use crate::{Class, NewDelivery, Next, Store};

pub(crate) async fn a_lane_goes_by_not_before_and_then_by_the_order_of_recording(
    store: Arc<dyn Store>,
) {
    let bench = Bench::new(store).await;
    for (key, at) in [("late", 30), ("b", 10), ("c", 10), ("early", 5)] {
        bench.enqueue(t(0), NewDelivery { not_before: Some(t(at)), ..say(key, 1) }).await;
    }
    let mut order = Vec::new();
    for second in 0..100 {
        for one in bench.claim(t(second)).await {
            bench.deliver(t(second), &one).await;
            order.push(one.text);
        }
    }
    assert_eq!(order, ["early", "b", "c", "late"]);
}

pub(crate) async fn one_request_of_a_lane_is_on_its_way_and_the_next_waits_for_its_end(
    store: Arc<dyn Store>,
) {
    let bench = Bench::new(store).await;
    bench.enqueue(t(0), say("a", 1)).await;
    bench.enqueue(t(0), say("b", 1)).await;
    let first = bench.claim_one(t(1)).await;
    assert!(bench.claim(t(1_000)).await.is_empty());
    bench.deliver(t(1_001), &first).await;
    assert_eq!(bench.texts(t(1_001)).await, ["b"]);
}

pub(crate) async fn what_is_recorded_in_front_of_a_request_on_its_way_waits_too(
    store: Arc<dyn Store>,
) {
    let bench = Bench::new(store).await;
    bench.enqueue(t(10), say("later", 1)).await;
    let first = bench.claim_one(t(10)).await;
    bench.enqueue(t(11), NewDelivery { not_before: Some(t(1)), ..say("earlier", 1) }).await;
    assert!(bench.claim(t(12)).await.is_empty());
    bench.deliver(t(13), &first).await;
    assert_eq!(bench.texts(t(13)).await, ["earlier"]);
}

pub(crate) async fn lanes_are_widget_room_and_sender_and_never_wait_for_each_other(
    store: Arc<dyn Store>,
) {
    let bench = Bench::new(store).await;
    bench.enqueue(t(0), say("room 1", 1)).await;
    bench.enqueue(t(0), say("room 2", 2)).await;
    let other = NewDelivery { widget: "other".parse().unwrap(), ..say("widget", 1) };
    bench.enqueue(t(0), other).await;
    let sender = NewDelivery { sender: "8".parse().unwrap(), ..say("sender", 1) };
    bench.enqueue(t(0), sender).await;
    let mut texts = bench.texts(t(1)).await;
    texts.sort();
    assert_eq!(texts, ["room 1", "room 2", "sender", "widget"]);
}

pub(crate) async fn a_backoff_blocks_its_own_lane_only(store: Arc<dyn Store>) {
    let bench = Bench::new(store).await;
    bench.enqueue(t(0), say("head", 1)).await;
    bench.enqueue(t(0), say("behind", 1)).await;
    let head = bench.claim_one(t(0)).await;
    bench.end(t(1), &head, Class::NotSent, Next::Retry { at: t(60) }).await;
    bench.enqueue(t(1), say("elsewhere", 2)).await;
    assert_eq!(bench.texts(t(30)).await, ["elsewhere"]);
    let due = bench.claim_as(t(30), FREELY, None).await.next_due;
    assert_eq!(due, Some(t(60)));
    assert_eq!(bench.texts(t(60)).await, ["head"]);
}

pub(crate) async fn an_unknown_blocks_its_lane_only_at_least_once_and_while_it_settles(
    store: Arc<dyn Store>,
) {
    let bench = Bench::new(store).await;
    bench.enqueue(t(0), say("once", 1)).await;
    bench.enqueue(t(0), say("after once", 1)).await;
    bench.enqueue(t(0), insist("insisting", 2)).await;
    bench.enqueue(t(0), say("after insisting", 2)).await;
    for one in bench.claim(t(0)).await {
        bench.unknown(t(1), &one).await;
    }
    assert_eq!(bench.texts(t(2)).await, ["after once"]);
    assert_eq!(bench.sweep(t(60)).await, 0);
    assert_eq!(bench.sweep(t(61)).await, 1);
    let again = bench.claim_one(t(61)).await;
    assert_eq!((again.text.as_str(), again.attempt, again.ambiguous), ("insisting", 2, 1));
    bench.deliver(t(62), &again).await;
    assert_eq!(bench.texts(t(62)).await, ["after insisting"]);
}

pub(crate) async fn an_unknown_without_resends_left_no_longer_blocks_its_lane(
    store: Arc<dyn Store>,
) {
    let bench = Bench::new(store).await;
    bench.enqueue(t(0), insist("a", 1)).await;
    bench.enqueue(t(0), say("b", 1)).await;
    let mut now = 0;
    for _ in 0..3 {
        let one = bench.claim_one(t(now)).await;
        assert_eq!(one.text, "a");
        bench.unknown(t(now), &one).await;
        now += 100;
        bench.sweep(t(now)).await;
    }
    assert_eq!(bench.state("a").await, "dead(unresolved)");
    assert_eq!(bench.texts(t(now)).await, ["b"]);
}

pub(crate) async fn what_waits_behind_older_rows_says_so(store: Arc<dyn Store>) {
    let bench = Bench::new(store).await;
    bench.enqueue(t(0), say("a", 1)).await;
    bench.enqueue(t(0), say("b", 1)).await;
    let waits = |key: &'static str| bench.store.waits_behind_others(id(key));
    assert!(!waits("a").await.unwrap());
    assert!(waits("b").await.unwrap());
    assert!(!waits("nobody").await.unwrap());
    let a = bench.claim_one(t(1)).await;
    assert!(waits("b").await.unwrap());
    bench.deliver(t(2), &a).await;
    assert!(!waits("a").await.unwrap());
    assert!(!waits("b").await.unwrap());
}

pub(crate) async fn a_lane_of_thousands_is_claimed_head_by_head(store: Arc<dyn Store>) {
    let bench = Bench::new(store).await;
    let many = (0..500).map(|n| say(&format!("{n:03}"), 1)).collect();
    bench.store.enqueue(t(0), many).await.unwrap();
    for n in 0..50 {
        let one = bench.claim_one(t(1)).await;
        assert_eq!(one.text, format!("{n:03}"));
        bench.deliver(t(1), &one).await;
    }
}

pub(crate) async fn claiming_only_one_delivery_takes_that_one_or_nothing(store: Arc<dyn Store>) {
    let bench = Bench::new(store).await;
    bench.enqueue(t(0), say("a", 1)).await;
    bench.enqueue(t(0), say("behind", 1)).await;
    bench.enqueue(t(0), say("other", 2)).await;
    bench.enqueue(t(0), NewDelivery { not_before: Some(t(50)), ..say("later", 3) }).await;
    let only = |key: &'static str, at| bench.claim_as(t(at), FREELY, Some(id(key)));
    assert!(only("behind", 1).await.deliveries.is_empty());
    assert!(only("missing", 1).await.deliveries.is_empty());
    let later = only("later", 1).await;
    assert_eq!((later.deliveries.len(), later.next_due), (0, Some(t(50))));
    let other = only("other", 1).await.deliveries;
    assert_eq!(other.iter().map(|one| one.text.as_str()).collect::<Vec<_>>(), ["other"]);
    assert!(only("other", 1).await.deliveries.is_empty());
    assert_eq!(only("a", 1).await.deliveries.len(), 1);
}

pub(crate) async fn a_widget_that_is_not_named_is_left_alone_and_slots_are_kept(
    store: Arc<dyn Store>,
) {
    let bench = Bench::new(store).await;
    for room in 1..=5 {
        bench.enqueue(t(0), say(&format!("r{room}"), room)).await;
    }
    let third = NewDelivery { widget: "third".parse().unwrap(), ..say("third", 1) };
    bench.enqueue(t(0), third).await;
    let claimed = bench.claim_as(t(1), super::bench::Rate { slots: 2, ..FREELY }, None).await;
    assert_eq!(claimed.deliveries.len(), 2);
    assert_eq!(bench.claim(t(1)).await.len(), 3);
    assert_eq!(bench.state("third").await, "queued");
}
