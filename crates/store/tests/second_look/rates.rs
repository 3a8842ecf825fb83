//! Even spacing per widget and per room, silence on request, and clocks that go back.

use std::sync::Arc;
use std::time::Duration;

use super::bench::{Bench, FREELY, Rate, id, ms, say, secs, t, widget};
use crate::{NewDelivery, Store};

const EVERY_SECOND: Rate = Rate { interval: Duration::from_secs(1), ..FREELY };
const ROOM_EVERY_TEN: Rate = Rate { room_interval: Duration::from_secs(10), ..FREELY };

/// The second at which each text was claimed and delivered, asking ten times a second.
async fn play(bench: &Bench, rate: Rate, seconds: i64) -> Vec<(String, i64)> {
    let mut played = Vec::new();
    for tenth in 0..seconds * 10 {
        let now = ms(tenth * 100);
        for one in bench.claim_as(now, rate, None).await.deliveries {
            bench.deliver(now, &one).await;
            played.push((one.text, tenth));
        }
    }
    played
}

pub(crate) async fn requests_of_a_widget_keep_their_distance(store: Arc<dyn Store>) {
    let bench = Bench::new(store).await;
    for room in 1..=4 {
        bench.enqueue(t(0), say(&format!("r{room}"), room)).await;
    }
    let first = bench.claim_as(t(0), EVERY_SECOND, None).await;
    assert_eq!((first.deliveries.len(), first.next_due), (1, Some(t(1))));
    bench.deliver(t(0), &first.deliveries[0]).await;
    let tenths: Vec<_> =
        play(&bench, EVERY_SECOND, 5).await.into_iter().map(|(_, at)| at).collect();
    assert_eq!(tenths, [10, 20, 30]);
}

pub(crate) async fn a_pause_brings_no_burst(store: Arc<dyn Store>) {
    let bench = Bench::new(store).await;
    bench.enqueue(t(0), say("first", 1)).await;
    bench.claim_as(t(0), EVERY_SECOND, None).await;
    for room in 2..=4 {
        bench.enqueue(t(100), say(&format!("r{room}"), room)).await;
    }
    assert_eq!(bench.claim_as(t(100), EVERY_SECOND, None).await.deliveries.len(), 1);
    assert_eq!(bench.claim_as(ms(100_999), EVERY_SECOND, None).await.deliveries.len(), 0);
    assert_eq!(bench.claim_as(t(101), EVERY_SECOND, None).await.deliveries.len(), 1);
}

pub(crate) async fn requests_to_a_room_keep_their_distance_and_other_rooms_do_not_wait(
    store: Arc<dyn Store>,
) {
    let bench = Bench::new(store).await;
    for key in ["a1", "a2"] {
        bench.enqueue(t(0), say(key, 1)).await;
    }
    // Another sender is another lane, but the same room.
    let sender = NewDelivery { sender: "8".parse().unwrap(), ..say("a3", 1) };
    bench.enqueue(t(0), sender).await;
    bench.enqueue(t(0), say("b1", 2)).await;
    let played = play(&bench, ROOM_EVERY_TEN, 25).await;
    let at = |key: &str| played.iter().find(|(text, _)| text == key).unwrap().1;
    assert_eq!((at("a1"), at("b1")), (0, 0));
    let mut rest = [at("a2"), at("a3")];
    rest.sort_unstable();
    assert_eq!(rest, [100, 200]);
}

pub(crate) async fn a_widget_that_is_held_is_silent_and_a_shorter_hold_does_not_shorten_it(
    store: Arc<dyn Store>,
) {
    let bench = Bench::new(store).await;
    bench.enqueue(t(0), say("a", 1)).await;
    let other = NewDelivery { widget: "other".parse().unwrap(), ..say("b", 1) };
    bench.enqueue(t(0), other).await;
    bench.store.hold_widget(&widget(), t(300)).await.unwrap();
    bench.store.hold_widget(&widget(), t(30)).await.unwrap();
    let claimed = bench.claim_as(t(1), EVERY_SECOND, None).await;
    assert_eq!(claimed.deliveries.len(), 1);
    assert_eq!(claimed.deliveries[0].text, "b");
    assert_eq!(claimed.next_due, Some(t(300)));
    assert!(bench.claim(t(299)).await.is_empty());
    assert_eq!(bench.texts(t(300)).await, ["a"]);
}

pub(crate) async fn a_hold_outlives_a_restart(store: Arc<dyn Store>) {
    let mut bench = Bench::new(store).await;
    bench.enqueue(t(0), say("a", 1)).await;
    bench.store.hold_widget(&widget(), t(300)).await.unwrap();
    bench.crash(t(10)).await;
    assert!(bench.claim(t(299)).await.is_empty());
    assert_eq!(bench.texts(t(300)).await, ["a"]);
}

pub(crate) async fn a_rate_outlives_a_restart(store: Arc<dyn Store>) {
    let mut bench = Bench::new(store).await;
    let minute = Rate { interval: secs(60), ..FREELY };
    bench.enqueue(t(0), say("a", 1)).await;
    bench.enqueue(t(0), say("b", 2)).await;
    assert_eq!(bench.claim_as(t(0), minute, None).await.deliveries.len(), 1);
    bench.crash(t(1)).await;
    let claimed = bench.claim_as(t(2), minute, None).await;
    assert_eq!((claimed.deliveries.len(), claimed.next_due), (0, Some(t(60))));
}

pub(crate) async fn a_clock_that_goes_back_stops_nobody(store: Arc<dyn Store>) {
    let bench = Bench::new(store).await;
    let rate = Rate { interval: secs(1), room_interval: secs(10), ..FREELY };
    let day = 86_400;
    for key in ["a1", "a2"] {
        bench.enqueue(t(0), say(key, 1)).await;
    }
    bench.enqueue(t(0), say("b", 2)).await;
    bench.store.hold_widget(&widget(), t(day + 1)).await.unwrap();
    let first = bench.claim_as(t(day + 1), rate, None).await.deliveries.remove(0);
    bench.deliver(t(day + 1), &first).await;
    // The room's distance is noted in its lane; then the clock goes back by a day.
    bench.claim_as(t(day + 2), rate, None).await;
    let mut left: Vec<_> = Vec::new();
    for second in 10..60 {
        for one in bench.claim_as(t(second), rate, None).await.deliveries {
            bench.deliver(t(second), &one).await;
            left.push(one.text);
        }
    }
    assert!(left.contains(&"a2".into()), "the room waits for a clock that will not come: {left:?}");
}

pub(crate) async fn claiming_one_delivery_keeps_the_distances_too(store: Arc<dyn Store>) {
    let bench = Bench::new(store).await;
    let rate = Rate { room_interval: secs(10), ..EVERY_SECOND };
    for key in ["a", "b"] {
        bench.enqueue(t(0), say(key, 1)).await;
    }
    let a = bench.claim_as(t(0), rate, Some(id("a"))).await.deliveries.remove(0);
    bench.deliver(t(0), &a).await;
    let claimed = bench.claim_as(ms(500), rate, Some(id("b"))).await;
    assert_eq!((claimed.deliveries.len(), claimed.next_due), (0, Some(t(1))));
    let claimed = bench.claim_as(t(1), rate, Some(id("b"))).await;
    assert_eq!((claimed.deliveries.len(), claimed.next_due), (0, Some(t(10))));
    assert_eq!(bench.claim_as(t(10), rate, Some(id("b"))).await.deliveries.len(), 1);
}
