//! What follows an attempt: every arrow of the state machine, and no other.

use std::sync::Arc;

use imbabot_core::{MessageId, SiteUserId};

use super::bench::{Bench, FREELY, delivered, id, insist, say, settle, t};
use crate::{
    Bodies, Born, Class, DeadReason, DeliveryState, Line, NewDelivery, Next, Settled, Store,
};

pub(crate) async fn a_delivered_one_keeps_what_the_server_said(store: Arc<dyn Store>) {
    let bench = Bench::new(store).await;
    bench.enqueue(t(0), say("a", 1)).await;
    let one = bench.claim_one(t(1)).await;
    assert_eq!(one.attempt, 1);
    let next = Next::Delivered {
        message: MessageId(u64::MAX),
        uuid: Some("u-1".into()),
        time: Some(t(2)),
    };
    let recorded = bench.end(t(3), &one, Class::Delivered, next).await;
    assert_eq!((recorded.state, recorded.foreign_answer), (DeliveryState::Delivered, false));
    let record = bench.record("a").await;
    assert_eq!(record.server_message_id, Some(MessageId(u64::MAX)));
    assert_eq!((record.server_uuid.as_deref(), record.server_time), (Some("u-1"), Some(t(2))));
    assert!(!record.possible_duplicate);
    assert!(bench.claim(t(1_000)).await.is_empty());
}

pub(crate) async fn a_retry_is_queued_again_and_counts_its_misses(store: Arc<dyn Store>) {
    let bench = Bench::new(store).await;
    bench.enqueue(t(0), say("a", 1)).await;
    for n in 0..3_u32 {
        let at = i64::from(n) * 10;
        let one = bench.claim_one(t(at)).await;
        assert_eq!((one.attempt, one.misses), (n + 1, n));
        let next = Next::Retry { at: t(at + 10) };
        let recorded = bench.end(t(at), &one, Class::NotSent, next).await;
        assert_eq!(recorded.state, DeliveryState::Queued);
    }
    let one = bench.claim_one(t(30)).await;
    bench.end(t(30), &one, Class::Rejected, Next::Retry { at: t(40) }).await;
    assert_eq!(bench.claim_one(t(40)).await.misses, 0);
    assert!(!bench.record("a").await.possible_duplicate);
}

pub(crate) async fn a_rejected_one_is_dead_and_its_lane_goes_on(store: Arc<dyn Store>) {
    let bench = Bench::new(store).await;
    bench.enqueue(t(0), say("a", 1)).await;
    bench.enqueue(t(0), say("b", 1)).await;
    let one = bench.claim_one(t(1)).await;
    assert_eq!(bench.reject(t(1), &one).await.state, DeliveryState::Dead);
    assert_eq!(bench.state("a").await, "dead(rejected)");
    assert_eq!(bench.texts(t(1)).await, ["b"]);
}

pub(crate) async fn an_ambiguous_one_is_unknown_and_never_sent_again_by_itself(
    store: Arc<dyn Store>,
) {
    let bench = Bench::new(store).await;
    bench.enqueue(t(0), say("a", 1)).await;
    let one = bench.claim_one(t(1)).await;
    assert_eq!(bench.unknown(t(2), &one).await.state, DeliveryState::Unknown);
    assert_eq!(bench.state("a").await, "unknown(timeout)");
    for at in [2, 62, 3_601] {
        assert_eq!(bench.sweep(t(at)).await, 0);
        assert!(bench.claim(t(at)).await.is_empty());
    }
    assert_eq!(bench.sweep(t(3_602)).await, 1);
    assert_eq!(bench.state("a").await, "dead(unresolved)");
}

pub(crate) async fn a_late_answer_resolves_an_unknown_one(store: Arc<dyn Store>) {
    let bench = Bench::new(store).await;
    bench.enqueue(t(0), say("a", 1)).await;
    bench.enqueue(t(0), say("b", 2)).await;
    let both = bench.claim(t(1)).await;
    for one in &both {
        bench.unknown(t(2), one).await;
    }
    bench.deliver(t(3), &both[0]).await;
    bench.reject(t(3), &both[1]).await;
    let mut states = [bench.state(&both[0].text).await, bench.state(&both[1].text).await];
    states.sort();
    assert_eq!(states, ["dead(rejected)", "delivered"]);
}

pub(crate) async fn an_answer_that_comes_twice_changes_nothing(store: Arc<dyn Store>) {
    let bench = Bench::new(store).await;
    bench.enqueue(t(0), say("a", 1)).await;
    let one = bench.claim_one(t(1)).await;
    bench.deliver(t(2), &one).await;
    let lines = bench.ledger().await.len();
    for (class, next) in [
        (Class::Delivered, delivered(9)),
        (Class::Rejected, Next::Dead(DeadReason::Rejected)),
        (Class::NotSent, Next::Retry { at: t(3) }),
        (Class::Ambiguous, Next::Unknown),
    ] {
        assert_eq!(bench.end(t(3), &one, class, next).await.state, DeliveryState::Delivered);
    }
    assert_eq!(bench.record("a").await.server_message_id, Some(MessageId(1)));
    assert_eq!(bench.ledger().await.len(), lines);
}

pub(crate) async fn an_answer_to_an_earlier_attempt_does_not_end_the_present_one(
    store: Arc<dyn Store>,
) {
    let bench = Bench::new(store).await;
    bench.enqueue(t(0), insist("a", 1)).await;
    let first = bench.claim_one(t(1)).await;
    bench.unknown(t(1), &first).await;
    bench.sweep(t(61)).await;
    let second = bench.claim_one(t(61)).await;
    assert_eq!(bench.reject(t(62), &first).await.state, DeliveryState::Sending);
    bench.unknown(t(63), &second).await;
    // The first was refused, but of the second nobody knows.
    assert!(bench.is("a", DeliveryState::Unknown).await);
}

pub(crate) async fn an_outcome_for_nobody_is_left_out(store: Arc<dyn Store>) {
    let bench = Bench::new(store).await;
    let outcome = Settled {
        delivery: id("nobody"),
        attempt: 1,
        class: Class::Delivered,
        code: "ok".into(),
        http_status: Some(200),
        next: delivered(1),
    };
    assert_eq!(bench.store.settle(t(0), settle(), vec![outcome]).await.unwrap(), []);
}

pub(crate) async fn what_contradicts_itself_proves_nothing(store: Arc<dyn Store>) {
    let bench = Bench::new(store).await;
    for (n, (class, next)) in [
        (Class::Ambiguous, Next::Retry { at: t(1) }),
        (Class::Ambiguous, Next::Dead(DeadReason::Rejected)),
        (Class::Rejected, delivered(1)),
        (Class::Delivered, Next::Retry { at: t(1) }),
    ]
    .into_iter()
    .enumerate()
    {
        let key = format!("k{n}");
        bench.enqueue(t(0), say(&key, 1)).await;
        let one = bench.claim_one(t(0)).await;
        assert_eq!(bench.end(t(0), &one, class, next).await.state, DeliveryState::Unknown);
    }
}

pub(crate) async fn the_uuid_of_another_delivery_is_no_confirmation(store: Arc<dyn Store>) {
    let bench = Bench::new(store).await;
    let answer =
        |uuid: &str| Next::Delivered { message: MessageId(5), uuid: Some(uuid.into()), time: None };
    bench.enqueue(t(0), say("a", 1)).await;
    let one = bench.claim_one(t(0)).await;
    bench.end(t(0), &one, Class::Delivered, answer("u")).await;
    bench.enqueue(t(0), say("b", 1)).await;
    let one = bench.claim_one(t(10)).await;
    let recorded = bench.end(t(10), &one, Class::Delivered, answer("u")).await;
    assert!(recorded.foreign_answer);
    assert_eq!((recorded.class, recorded.state), (Class::Ambiguous, DeliveryState::Unknown));
    // Much later the server may really have begun to count anew.
    bench.enqueue(t(0), say("c", 1)).await;
    let one = bench.claim_one(t(1_000)).await;
    let recorded = bench.end(t(1_000), &one, Class::Delivered, answer("u")).await;
    assert_eq!((recorded.foreign_answer, recorded.state), (false, DeliveryState::Delivered));
}

pub(crate) async fn at_least_once_is_repeated_a_bounded_number_of_times_and_says_so(
    store: Arc<dyn Store>,
) {
    let bench = Bench::new(store).await;
    bench.enqueue(t(0), insist("a", 1)).await;
    let mut now = 0;
    for attempt in 1..=3 {
        let one = bench.claim_one(t(now)).await;
        assert_eq!(one.attempt, attempt);
        assert_eq!(bench.record("a").await.possible_duplicate, attempt > 1);
        bench.unknown(t(now), &one).await;
        now += 60;
        bench.sweep(t(now)).await;
    }
    assert!(bench.claim(t(now)).await.is_empty());
    assert_eq!(bench.state("a").await, "dead(unresolved)");
}

pub(crate) async fn what_was_ambiguous_once_ends_only_as_delivered_or_unresolved(
    store: Arc<dyn Store>,
) {
    let bench = Bench::new(store).await;
    let keys = ["rejected", "expired", "cancelled", "delivered"];
    for (room, key) in (1..).zip(keys) {
        bench.enqueue(t(0), NewDelivery { expires_at: t(500), ..insist(key, room) }).await;
    }
    for one in bench.claim(t(0)).await {
        bench.unknown(t(0), &one).await;
    }
    bench.sweep(t(60)).await;
    bench.store.cancel(t(61), &crate::CancelFilter::Ids(vec![id("cancelled")])).await.unwrap();
    for key in ["rejected", "delivered"] {
        let one = bench.claim_as(t(61), FREELY, Some(id(key))).await.deliveries.remove(0);
        match key {
            "rejected" => bench.reject(t(62), &one).await,
            _ => bench.deliver(t(62), &one).await,
        };
    }
    bench.sweep(t(500)).await;
    for key in ["rejected", "expired", "cancelled"] {
        assert_eq!(bench.state(key).await, "dead(unresolved)", "{key}");
    }
    assert_eq!(bench.state("delivered").await, "delivered");
    assert!(bench.record("delivered").await.possible_duplicate);
}

pub(crate) async fn what_is_expired_is_never_sent(store: Arc<dyn Store>) {
    let bench = Bench::new(store).await;
    bench.enqueue(t(0), NewDelivery { expires_at: t(10), ..say("a", 1) }).await;
    bench.enqueue(t(0), NewDelivery { expires_at: t(10), ..say("b", 2) }).await;
    bench.enqueue(t(0), say("behind", 1)).await;
    let claimed = bench.claim_as(t(10), FREELY, Some(id("b"))).await;
    assert_eq!((claimed.deliveries.len(), claimed.expired), (0, 1));
    let claimed = bench.claim_as(t(10), FREELY, None).await;
    assert_eq!((claimed.deliveries.len(), claimed.expired), (1, 1));
    assert_eq!(claimed.deliveries[0].text, "behind");
    assert_eq!(bench.state("a").await, "dead(expired)");
    assert_eq!(bench.state("b").await, "dead(expired)");
}

pub(crate) async fn a_sweep_moves_what_time_moves_and_names_the_next_instant(
    store: Arc<dyn Store>,
) {
    let bench = Bench::new(store).await;
    assert_eq!(bench.store.sweep(t(0), settle(), 10).await.unwrap(), (0, None));
    bench.enqueue(t(0), NewDelivery { expires_at: t(5_000), ..say("waits", 1) }).await;
    bench.enqueue(t(0), say("once", 2)).await;
    bench.enqueue(t(0), insist("insisting", 3)).await;
    for key in ["once", "insisting"] {
        let one = bench.claim_as(t(0), FREELY, Some(id(key))).await.deliveries.remove(0);
        bench.unknown(t(0), &one).await;
    }
    assert_eq!(bench.store.sweep(t(0), settle(), 10).await.unwrap(), (0, Some(t(60))));
    assert_eq!(bench.store.sweep(t(60), settle(), 10).await.unwrap(), (1, Some(t(3_600))));
    assert_eq!(bench.state("insisting").await, "queued");
    assert_eq!(bench.store.sweep(t(3_600), settle(), 10).await.unwrap(), (1, Some(t(5_000))));
    assert_eq!(bench.state("once").await, "dead(unresolved)");
    assert_eq!(bench.sweep(t(5_000)).await, 1);
    assert_eq!(bench.state("waits").await, "dead(expired)");
}

pub(crate) async fn a_sweep_keeps_its_limit(store: Arc<dyn Store>) {
    let bench = Bench::new(store).await;
    let many: Vec<_> =
        (0..10).map(|n| NewDelivery { expires_at: t(1), ..say(&format!("k{n}"), n) }).collect();
    bench.store.enqueue(t(0), many).await.unwrap();
    let mut moved = Vec::new();
    while let (count @ 1.., _) = bench.store.sweep(t(1), settle(), 4).await.unwrap() {
        moved.push(count);
    }
    assert_eq!(moved, [4, 4, 2]);
}

pub(crate) async fn a_resend_that_comes_too_late_is_unresolved(store: Arc<dyn Store>) {
    let bench = Bench::new(store).await;
    bench.enqueue(t(0), NewDelivery { expires_at: t(30), ..insist("a", 1) }).await;
    let one = bench.claim_one(t(0)).await;
    bench.unknown(t(0), &one).await;
    assert_eq!(bench.sweep(t(60)).await, 1);
    assert_eq!(bench.state("a").await, "dead(unresolved)");
}

pub(crate) async fn a_key_is_one_delivery(store: Arc<dyn Store>) {
    let bench = Bench::new(store).await;
    let first = bench.enqueue(t(0), say("a", 1)).await;
    assert_eq!((first.id, first.known, first.refused), (id("a"), false, false));
    let again = bench.enqueue(t(5), say("a", 1)).await;
    assert_eq!((again.id, again.known, again.refused), (id("a"), true, false));
    let one = bench.claim_one(t(6)).await;
    bench.deliver(t(6), &one).await;
    let after = bench.enqueue(t(7), say("a", 1)).await;
    assert_eq!((after.known, after.state), (true, DeliveryState::Delivered));
    assert!(bench.claim(t(8)).await.is_empty());
    assert_eq!(bench.record("a").await.created_at, t(0));
}

pub(crate) async fn a_key_with_another_text_room_or_widget_is_refused(store: Arc<dyn Store>) {
    let bench = Bench::new(store).await;
    bench.enqueue(t(0), say("a", 1)).await;
    let text = NewDelivery { text: "another".into(), ..say("a", 1) };
    let room = say("a", 2);
    let widget = NewDelivery { widget: "other".parse().unwrap(), ..say("a", 1) };
    let found = bench.store.enqueue(t(1), vec![text, room, widget]).await.unwrap();
    assert!(found.iter().all(|one| one.known && one.refused && one.id == id("a")));
    assert_eq!(bench.texts(t(2)).await, ["a"]);
}

pub(crate) async fn a_key_that_comes_twice_in_one_call_is_one_delivery(store: Arc<dyn Store>) {
    let bench = Bench::new(store).await;
    let found = bench.store.enqueue(t(0), vec![say("a", 1), say("a", 1)]).await.unwrap();
    assert_eq!(found.iter().map(|one| one.known).collect::<Vec<_>>(), [false, true]);
    assert_eq!(bench.claim(t(1)).await.len(), 1);
}

pub(crate) async fn what_is_born_dead_is_seen_and_never_sent(store: Arc<dyn Store>) {
    let bench = Bench::new(store).await;
    let born = Born::Dead(DeadReason::Invalid);
    let found = bench.enqueue(t(0), NewDelivery { born, ..say("a", 1) }).await;
    assert_eq!((found.state, found.reason), (DeliveryState::Dead, Some(DeadReason::Invalid)));
    assert!(bench.claim(t(1)).await.is_empty());
    assert_eq!(bench.state("a").await, "dead(invalid)");
}

pub(crate) async fn a_crash_turns_sending_into_unknown_and_never_into_queued(
    store: Arc<dyn Store>,
) {
    let mut bench = Bench::new(store).await;
    bench.enqueue(t(0), say("on its way", 1)).await;
    bench.enqueue(t(0), say("behind", 1)).await;
    bench.enqueue(t(0), insist("insisting", 2)).await;
    let first = bench.claim(t(1)).await;
    assert_eq!(first.len(), 2);
    let begun = bench.crash(t(10)).await;
    assert!(begun.after_crash);
    assert_eq!(begun.turned_unknown, 2);
    assert_eq!(bench.state("on its way").await, "unknown(process_died)");
    assert_eq!(bench.state("insisting").await, "unknown(process_died)");
    assert_eq!(bench.texts(t(11)).await, ["behind"]);
    let ended = bench.ledger().await.into_iter().rev().find_map(|line| match line.line {
        Line::Attempt(record) if record.delivery == id("on its way") => Some(record),
        _ => None,
    });
    assert_eq!(ended.unwrap().class, Some(Class::Ambiguous));
    // The answer that the dead process had heard may still come, through whoever wrote it down.
    let one = first.iter().find(|one| one.text == "on its way").unwrap();
    assert_eq!(bench.deliver(t(12), one).await.state, DeliveryState::Delivered);
}

pub(crate) async fn each_crash_in_flight_costs_a_resend(store: Arc<dyn Store>) {
    let mut bench = Bench::new(store).await;
    bench.enqueue(t(0), insist("a", 1)).await;
    let mut now = 0;
    for _ in 0..3 {
        bench.claim_one(t(now)).await;
        bench.crash(t(now)).await;
        now += 60;
        bench.sweep(t(now)).await;
    }
    assert_eq!(bench.state("a").await, "dead(unresolved)");
}

pub(crate) async fn a_clean_end_is_no_crash(store: Arc<dyn Store>) {
    let mut bench = Bench::new(store).await;
    bench.store.end(bench.run, t(5)).await.unwrap();
    let before = bench.run;
    let begun = bench.crash(t(6)).await;
    assert!(!begun.after_crash);
    assert!(begun.incarnation > before);
    let mut clean = Vec::new();
    for line in bench.ledger().await {
        if let Line::Incarnation(record) = line.line {
            clean.push((record.id, record.clean));
        }
    }
    assert_eq!(clean, [(before, None), (before, Some(true)), (begun.incarnation, None)]);
    // Ended twice is ended once.
    bench.store.end(before, t(7)).await.unwrap();
    assert_eq!(bench.ledger().await.len(), 3);
}

pub(crate) async fn names_beyond_numbers_and_the_highest_ids_come_back_as_they_went(
    store: Arc<dyn Store>,
) {
    let bench = Bench::new(store).await;
    let sender: SiteUserId = "agent é/1".parse().unwrap();
    let text = "two\nlines \u{1f980} and \"quotes\"".to_owned();
    let new = NewDelivery { sender: sender.clone(), text, ..say("a", u64::MAX) };
    bench.enqueue(t(0), new.clone()).await;
    let one = bench.claim_one(t(1)).await;
    assert_eq!((one.room, &one.sender, &one.text), (new.room, &sender, &new.text));
    let record = bench.record("a").await;
    assert_eq!((record.room, record.sender, record.text), (new.room, sender, Some(new.text)));
}

/// For a store that was opened with [`Bodies::Hash`].
pub(crate) async fn a_store_of_hashes_keeps_no_text_after_the_end(store: Arc<dyn Store>) {
    let _ = Bodies::Hash;
    let bench = Bench::new(store).await;
    let keys = ["delivered", "rejected", "expired", "cancelled", "resolved", "unresolved"];
    for (room, key) in (1..).zip(keys) {
        bench.enqueue(t(0), NewDelivery { expires_at: t(50), ..say(key, room) }).await;
    }
    let born = Born::Dead(DeadReason::Suppressed);
    bench.enqueue(t(0), NewDelivery { born, ..say("suppressed", 9) }).await;
    assert_eq!(bench.record("delivered").await.text.as_deref(), Some("delivered"));
    for key in ["delivered", "rejected", "resolved", "unresolved"] {
        let one = bench.claim_as(t(0), FREELY, Some(id(key))).await.deliveries.remove(0);
        match key {
            "delivered" => bench.deliver(t(1), &one).await,
            "rejected" => bench.reject(t(1), &one).await,
            _ => bench.unknown(t(1), &one).await,
        };
    }
    bench.store.cancel(t(1), &crate::CancelFilter::Ids(vec![id("cancelled")])).await.unwrap();
    bench.store.resolve(t(2), id("resolved"), crate::Resolution::Delivered).await.unwrap();
    bench.sweep(t(10_000)).await;
    for key in keys.into_iter().chain(["suppressed"]) {
        let record = bench.record(key).await;
        assert_eq!(record.text, None, "{key}");
        assert_eq!(record.text_sha256.map(|hash| hash.len()), Some(64), "{key}");
        // A repeated key is still told from one with another text.
        let again = bench.enqueue(t(10_001), say(key, record.room.0)).await;
        assert!(again.known && !again.refused, "{key}");
    }
    for line in bench.ledger().await {
        if let Line::Delivery(record) = line.line {
            assert_eq!(record.text, None);
        }
    }
    // Nothing is left that could be sent.
    let verdict = bench.store.retry(t(10_002), id("rejected"), true).await.unwrap();
    assert_eq!(verdict, crate::RetryVerdict::NotNow(DeliveryState::Dead));
}

/// For a store that was opened with [`Bodies::Hash`].
pub(crate) async fn a_store_of_hashes_drops_the_text_when_no_resend_is_left(store: Arc<dyn Store>) {
    let bench = Bench::new(store).await;
    bench.enqueue(t(0), insist("a", 1)).await;
    for n in 0..3 {
        bench.sweep(t(n * 100)).await;
        let one = bench.claim_one(t(n * 100)).await;
        bench.unknown(t(n * 100), &one).await;
    }
    let record = bench.record("a").await;
    assert_eq!((record.state, record.text), (DeliveryState::Dead, None));
}
