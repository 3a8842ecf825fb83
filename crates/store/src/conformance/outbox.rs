//! Deliveries: identity, order, rates, and what each outcome of an attempt leads to.

#![allow(missing_docs, reason = "the name of a case is its sentence")]

use std::time::Duration;

use imbabot_core::{MessageId, RoomId};

use super::Backend;
use super::support::*;
use crate::{
    Born, CancelFilter, Class, DeadReason, DeliveryState, EventBody, Line, NewDelivery, Next,
    Resolution, RetryVerdict, WidgetClaim,
};

pub fn a_delivery_is_queued_sent_and_delivered(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    let recorded = bench.enqueue(at(1), vec![message("k")]);
    assert_eq!((recorded[0].id, recorded[0].state), (id("k"), DeliveryState::Queued));
    assert!(!recorded[0].known && !recorded[0].refused);

    let claimed = bench.claim_one(at(2));
    assert_eq!((claimed.id, claimed.attempt, claimed.misses), (id("k"), 1, 0));
    assert_eq!((claimed.text.as_str(), claimed.started_at), ("text of k", at(2)));
    assert_eq!((claimed.created_at, claimed.not_before), (at(1), at(1)));
    assert_eq!(bench.state("k"), "sending");

    let told = bench.settle(at(3), &claimed, delivered(12));
    assert_eq!((told.class, told.state), (Class::Delivered, DeliveryState::Delivered));
    let record = bench.record("k");
    assert_eq!(record.server_message_id, Some(MessageId(12)));
    assert_eq!(record.server_uuid.as_deref(), Some("uuid-12"));
    assert_eq!(record.text.as_deref(), Some("text of k"));
    assert!(!record.possible_duplicate);
    assert!(bench.claim(at(4)).is_empty());
    use DeliveryState::{Delivered, Queued, Sending};
    assert_eq!(bench.story("k"), [Queued, Sending, Delivered]);
}

pub fn the_same_key_is_the_same_delivery(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    let answers = bench.enqueue(at(1), vec![message("k"), message("k")]);
    assert!(!answers[0].known && answers[1].known && !answers[1].refused);
    let claimed = bench.claim_one(at(2));
    bench.settle(at(3), &claimed, delivered(1));
    let lines = bench.lines().len();
    let again = bench.enqueue(at(4), vec![message("k")]).remove(0);
    assert_eq!((again.known, again.refused, again.state), (true, false, DeliveryState::Delivered));
    assert!(bench.claim(at(5)).is_empty());
    assert_eq!(bench.lines().len(), lines, "nothing was changed");
}

pub fn the_same_key_with_other_contents_is_refused(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    bench.enqueue(at(1), vec![message("k")]);
    let others = [
        NewDelivery { text: "another".into(), ..message("k") },
        NewDelivery { room: RoomId(2), ..message("k") },
        NewDelivery { widget: widget("v"), ..message("k") },
        NewDelivery { sender: 8.into(), ..message("k") },
    ];
    for other in others {
        let answer = bench.enqueue(at(2), vec![other]).remove(0);
        assert!(answer.known && answer.refused);
    }
    assert_eq!(bench.record("k").text.as_deref(), Some("text of k"));
    assert_eq!(bench.claim(at(3)).len(), 1);
}

pub fn a_row_can_be_born_dead(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    let born = Born::Dead(DeadReason::Invalid);
    let answer = bench.enqueue(at(1), vec![NewDelivery { born, ..message("k") }]).remove(0);
    assert_eq!((answer.state, answer.reason), (DeliveryState::Dead, Some(DeadReason::Invalid)));
    assert_eq!(bench.state("k"), "dead(invalid)");
    assert!(bench.claim(at(2)).is_empty());
    assert_eq!(bench.story("k"), [DeliveryState::Dead]);
}

pub fn a_lane_is_sent_in_order_and_one_at_a_time(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    let later = NewDelivery { not_before: Some(at(5)), ..message("later") };
    let sooner = NewDelivery { not_before: Some(at(3)), ..message("sooner") };
    bench.enqueue(at(1), vec![later, sooner, message("first"), message("second")]);
    for (place, key) in ["first", "second", "sooner", "later"].into_iter().enumerate() {
        let claimed = bench.claim_one(at(10));
        assert_eq!(claimed.id, id(key));
        assert!(bench.claim(at(10)).is_empty(), "the lane waits for what is on its way");
        bench.settle(at(10), &claimed, delivered(place as u64 + 1));
    }
    assert!(bench.claim(at(10)).is_empty());
}

pub fn an_earlier_message_does_not_overtake_what_is_on_its_way(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    bench.enqueue(at(10), vec![message("on its way")]);
    let claimed = bench.claim_one(at(10));
    let earlier = NewDelivery { not_before: Some(at(1)), ..message("earlier") };
    bench.enqueue(at(11), vec![earlier]);
    assert!(bench.claim(at(12)).is_empty(), "two requests of a lane would race");
    assert!(run(bench.store.waits_behind_others(id("earlier"))));
    bench.settle(at(13), &claimed, again(at(13)));
    assert_eq!(bench.claim_one(at(14)).id, id("earlier"), "then it goes first");
}

pub fn a_message_queued_again_waits_for_what_is_on_its_way(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    bench.enqueue(at(1), vec![message("first"), message("second")]);
    let first = bench.claim_one(at(2));
    bench.settle(at(3), &first, refused());
    let second = bench.claim_one(at(4));
    assert_eq!(run(bench.store.retry(at(5), id("first"), false)), RetryVerdict::Queued);
    assert!(bench.claim(at(6)).is_empty());
    bench.settle(at(7), &second, delivered(1));
    assert_eq!(bench.claim_one(at(8)).id, id("first"));
}

pub fn lanes_do_not_wait_for_each_other(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    let other_sender = NewDelivery { sender: 8.into(), ..message("other sender") };
    let all = vec![message("a"), message("behind a"), to_room("other room", 2), other_sender];
    bench.enqueue(at(1), all);
    let claimed = bench.claim(at(2));
    assert_eq!(claimed.len(), 3);
    for delivery in &claimed {
        let outcome = if delivery.id == id("a") { again(at(100)) } else { delivered(3) };
        bench.settle(at(3), delivery, outcome);
    }
    bench.enqueue(at(4), vec![to_room("more", 2)]);
    assert_eq!(bench.claim_one(at(5)).id, id("more"), "a lane in backoff waits alone");
}

pub fn a_lane_with_many_waiting_lets_others_have_their_turn(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    bench.enqueue(at(0), (0..5).map(|n| message(&format!("many{n}"))).collect());
    bench.enqueue(at(1), vec![to_room("other", 2), to_room("third", 3)]);
    let mut order = Vec::new();
    for now in 2..9 {
        let claimed = bench.paced(at(now), secs(1), secs(0)).deliveries.remove(0);
        order.push(claimed.text.clone());
        bench.settle(at(now), &claimed, delivered(now.unsigned_abs()));
        // A lane is not put back by what comes to wait behind its head.
        bench.enqueue(at(now), vec![message(&format!("late{now}"))]);
    }
    let expected = ["many0", "other", "third", "many1", "many2", "many3", "many4"];
    assert_eq!(order, expected.map(|key| format!("text of {key}")));
}

pub fn a_lane_that_had_its_turn_goes_behind_those_that_wait(backend: &dyn Backend) {
    for outcome in [unknown(), refused(), delivered(9)] {
        let bench = Bench::new(backend);
        bench.enqueue(at(1), vec![message("a"), message("behind a")]);
        bench.enqueue(at(2), vec![to_room("other", 2)]);
        let first = bench.paced(at(3), Duration::from_secs(1), Duration::ZERO).deliveries;
        assert_eq!((first.len(), first[0].id), (1, id("a")));
        bench.settle(at(5), &first[0], outcome);
        let next = bench.paced(at(5), Duration::from_secs(1), Duration::ZERO).deliveries;
        assert_eq!((next.len(), next[0].id), (1, id("other")), "it has waited for its first");
    }
}

pub fn nothing_is_claimed_before_its_time(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    let later = NewDelivery { not_before: Some(at(20)), ..message("k") };
    bench.enqueue(at(1), vec![later]);
    let early = run(bench.store.claim(bench.request(at(19))));
    assert!(early.deliveries.is_empty());
    assert_eq!(early.next_due, Some(at(20)));
    assert_eq!(bench.claim_one(at(20)).id, id("k"));
}

pub fn requests_of_a_widget_are_evenly_spaced(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    bench.enqueue(at(0), (1..=3).map(|n| to_room(&format!("k{n}"), n)).collect());
    let (every, room) = (Duration::from_millis(100), Duration::ZERO);
    let first = bench.paced(at_ms(1_000), every, room);
    assert_eq!((first.deliveries.len(), first.next_due), (1, Some(at_ms(1_100))));
    let early = bench.paced(at_ms(1_099), every, room);
    assert_eq!((early.deliveries.len(), early.next_due), (0, Some(at_ms(1_100))));
    assert_eq!(bench.paced(at_ms(1_100), every, room).deliveries.len(), 1);
    // No credit is saved up while nothing is sent.
    assert_eq!(bench.paced(at_ms(9_000), every, room).deliveries.len(), 1);
    bench.enqueue(at(0), vec![to_room("k4", 4)]);
    assert_eq!(bench.paced(at_ms(9_099), every, room).deliveries.len(), 0);
}

pub fn requests_to_a_room_are_evenly_spaced(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    let other_sender = NewDelivery { sender: 8.into(), ..message("k2") };
    bench.enqueue(at(0), vec![message("k1"), other_sender, to_room("elsewhere", 2)]);
    let claimed = bench.paced(at(1), Duration::ZERO, secs(1));
    assert_eq!(claimed.deliveries.len(), 2, "one per room");
    let early = bench.paced(at_ms(1_999), Duration::ZERO, secs(1));
    assert_eq!((early.deliveries.len(), early.next_due), (0, Some(at(2))));
    assert_eq!(bench.paced(at(2), Duration::ZERO, secs(1)).deliveries.len(), 1);
}

pub fn a_hold_stops_a_widget_until_it_ends(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    bench.enqueue(at(0), vec![message("k")]);
    run(bench.store.hold_widget(&widget("w"), at(30)));
    run(bench.store.hold_widget(&widget("w"), at(10)));
    let held = run(bench.store.claim(bench.request(at(29))));
    assert_eq!((held.deliveries.len(), held.next_due), (0, Some(at(30))), "the longer one holds");
    let other = NewDelivery { widget: widget("v"), ..message("other widget") };
    bench.enqueue(at(0), vec![other]);
    let mut request = bench.request(at(29));
    request.widgets[0].widget = widget("v");
    assert_eq!(run(bench.store.claim(request)).deliveries.len(), 1);
    assert_eq!(bench.claim_one(at(30)).id, id("k"));
}

pub fn a_clock_that_goes_back_stops_no_widget(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    let day = 86_400;
    let other_sender = NewDelivery { sender: 8.into(), ..message("same room") };
    let rows = [message("first"), other_sender, to_room("elsewhere", 2)];
    let rows = rows.map(|row| NewDelivery { expires_at: at(9 * day), ..row });
    bench.enqueue(at(0), rows.into());
    let (every, room) = (secs(1), secs(10));
    assert_eq!(bench.paced(at(day), every, room).deliveries.len(), 1);
    // Makes the lane of the same room wait for its room.
    let busy = bench.paced(at(day + 1), every, room);
    assert_eq!(busy.deliveries.len(), 1);
    assert_eq!(bench.paced(at(day + 2), every, room).deliveries.len(), 0);

    // An hour and a half back, then ten minutes: what was noted under the other clock is void.
    for now in [day - 5_400, day - 6_000] {
        let waited = bench.paced(at(now), every, room).deliveries.len();
        assert_eq!(waited, usize::from(now == day - 5_400), "at {now}");
        let row = to_room(&format!("k{now}"), 3);
        bench.enqueue(at(now), vec![NewDelivery { expires_at: at(9 * day), ..row }]);
        let claimed = bench.paced(at(now + 1), every, room).deliveries;
        assert_eq!(claimed.len(), 1, "at {now}");
        bench.settle(at(now + 1), &claimed[0], delivered(now.cast_unsigned()));
        assert_eq!(bench.paced(at(now + 1), every, room).deliveries.len(), 0);
    }
}

pub fn a_hold_is_honoured_after_the_clock_went_back(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    bench.enqueue(at(0), vec![NewDelivery { expires_at: at(999_999), ..message("k") }]);
    let day = 86_400;
    run(bench.store.hold_widget(&widget("w"), at(day + 60)));
    run(bench.store.hold_widget(&widget("w"), at(60)));
    assert!(bench.claim(at(59)).is_empty());
    assert_eq!(bench.claim(at(60)).len(), 1, "the hold of a day ahead is void");
}

pub fn what_was_queued_under_a_clock_ahead_leaves_when_the_clock_is_right(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    let day = 86_400;
    let keeps = |row| NewDelivery { expires_at: at(9 * day), ..row };
    bench.enqueue(at(5 * day), vec![keeps(message("ahead")), keeps(message("behind it"))]);
    let first = bench.claim_one(at(10));
    assert_eq!(
        (first.id, first.not_before),
        (id("ahead"), at(5 * day)),
        "its place is the old one"
    );
    bench.settle(at(11), &first, delivered(1));
    assert_eq!(bench.claim_one(at(12)).id, id("behind it"));
}

pub fn what_became_first_under_a_clock_ahead_leaves_when_the_clock_is_right(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    let day = 86_400;
    let stale = NewDelivery { expires_at: at(day), ..message("stale") };
    bench.enqueue(at(0), vec![stale, NewDelivery { expires_at: at(9 * day), ..message("k") }]);
    bench.sweep(at(5 * day));
    assert_eq!(bench.state("stale"), "dead(expired)");
    assert_eq!(bench.claim_one(at(10)).id, id("k"), "nothing was sent by the other clock");
}

pub fn what_has_a_time_of_its_own_waits_for_it_by_every_clock(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    let day = 86_400;
    let (not_before, expires_at) = (Some(at(6 * day)), at(9 * day));
    bench.enqueue(at(5 * day), vec![NewDelivery { not_before, expires_at, ..message("k") }]);
    let early = run(bench.store.claim(bench.request(at(10))));
    assert!(early.deliveries.is_empty());
    assert_eq!(early.next_due, not_before);
    assert_eq!(bench.claim_one(at(6 * day)).id, id("k"));
}

pub fn a_repetition_under_a_clock_ahead_waits_no_longer_than_it_would_have(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    let day = 86_400;
    bench.enqueue(at(0), vec![message("k")]);
    let first = bench.claim_one(at(1));
    bench.settle(at(5 * day), &first, again(at(5 * day + 30)));
    let early = run(bench.store.claim(bench.request(at(10))));
    assert_eq!((early.deliveries.len(), early.next_due), (0, Some(at(40))), "thirty seconds");
    assert_eq!(bench.claim_one(at(40)).attempt, 2);
}

pub fn what_became_unknown_under_a_clock_ahead_waits_anew_by_the_right_one(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    let day = 86_400;
    bench.enqueue(at(0), vec![repeated("k"), message("behind"), to_room("never again", 2)]);
    for claimed in bench.claim(at(1)) {
        bench.settle(at(5 * day), &claimed, unknown());
    }
    assert_eq!(bench.sweep(at(10)), (0, Some(at(70))));
    assert!(bench.claim(at(69)).is_empty(), "the lane waits behind it as ever");
    assert_eq!(bench.sweep(at(70)).0, 1);
    let again = bench.claim_one(at(70));
    assert_eq!((again.id, again.attempt), (id("k"), 2));
    bench.settle(at(71), &again, delivered(1));
    assert_eq!(bench.claim_one(at(72)).id, id("behind"));
    bench.sweep(at(9 + day));
    assert_eq!(bench.state("never again"), "unknown(seen_ambiguous)");
    bench.sweep(at(10 + day));
    assert_eq!(bench.state("never again"), "dead(unresolved)", "a day after the clock was right");
}

pub fn what_has_expired_is_not_claimed(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    let stale = NewDelivery { expires_at: at(10), ..message("stale") };
    bench.enqueue(at(1), vec![stale, message("fresh")]);
    let claimed = run(bench.store.claim(bench.request(at(10))));
    assert_eq!(claimed.expired, 1);
    assert_eq!(claimed.deliveries.len(), 1);
    assert_eq!(claimed.deliveries[0].id, id("fresh"));
    assert_eq!(bench.state("stale"), "dead(expired)");
}

pub fn a_flood_of_expired_rows_ends_in_several_claims(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    let stale = |n| NewDelivery { expires_at: at(10), ..message(&format!("k{n}")) };
    bench.enqueue(at(1), (0..1_200).map(stale).collect());
    bench.enqueue(at(1), vec![message("fresh")]);
    let first = run(bench.store.claim(bench.request(at(20))));
    assert!(first.deliveries.is_empty() && first.expired < 1_200);
    assert_eq!(first.next_due, Some(at(20)), "there is more to do at once");
    let second = run(bench.store.claim(bench.request(at(20))));
    assert_eq!(first.expired + second.expired, 1_200);
    assert_eq!(second.deliveries.len(), 1);
}

pub fn what_was_not_applied_is_sent_again_in_its_time(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    bench.enqueue(at(1), vec![message("k"), message("behind")]);
    let first = bench.claim_one(at(2));
    let told = bench.settle(at(3), &first, again(at(9)));
    assert_eq!((told.class, told.state), (Class::NotSent, DeliveryState::Queued));
    let early = run(bench.store.claim(bench.request(at(8))));
    assert_eq!((early.deliveries.len(), early.next_due), (0, Some(at(9))), "its lane waits");
    let second = bench.claim_one(at(9));
    assert_eq!((second.id, second.attempt, second.misses), (id("k"), 2, 1));
    bench.settle(at(10), &second, (Class::Rejected, Next::Retry { at: at(11) }));
    let third = bench.claim_one(at(11));
    assert_eq!((third.attempt, third.misses), (3, 0), "a byte arrived: no misses in a row");
    assert!(!bench.record("k").possible_duplicate);
}

pub fn at_most_once_is_never_sent_again_by_itself(backend: &dyn Backend) {
    let mut bench = Bench::new(backend);
    bench.enqueue(at(1), vec![message("k"), message("behind")]);
    let claimed = bench.claim_one(at(2));
    let told = bench.settle(at(3), &claimed, unknown());
    assert_eq!(told.state, DeliveryState::Unknown);
    assert_eq!(bench.state("k"), "unknown(seen_ambiguous)");
    assert_eq!(bench.claim_one(at(3)).id, id("behind"), "its lane does not wait for it");
    bench.kill(at(4));
    for now in [100, 1_000, 86_402] {
        bench.sweep(at(now));
        assert!(bench.claim(at(now)).is_empty());
        assert_eq!(bench.record("k").state, DeliveryState::Unknown);
    }
    assert_eq!(bench.sweep(at(86_403)).0, 1);
    assert_eq!(bench.state("k"), "dead(unresolved)");
}

pub fn at_least_once_is_repeated_as_often_as_allowed(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    let keeps = NewDelivery { expires_at: at(9_999), ..repeated("k") };
    bench.enqueue(at(0), vec![keeps, repeated("behind")]);
    for (attempt, now) in [(1, 0), (2, 60), (3, 120)] {
        assert_eq!(bench.sweep(at(now) - Duration::from_micros(1)).0, 0);
        bench.sweep(at(now));
        let claimed = bench.claim_one(at(now));
        assert_eq!(
            (claimed.id, claimed.attempt, claimed.ambiguous),
            (id("k"), attempt, attempt - 1)
        );
        assert_eq!(bench.record("k").possible_duplicate, attempt > 1);
        let told = bench.settle(at(now), &claimed, unknown());
        if attempt < 3 {
            assert_eq!(told.state, DeliveryState::Unknown);
            assert!(bench.claim(at(now + 59)).is_empty(), "its lane waits for it");
        }
    }
    assert_eq!(bench.state("k"), "dead(unresolved)", "no resends are left");
    assert_eq!(bench.claim_one(at(121)).id, id("behind"));
    use DeliveryState::{Dead, Queued, Sending, Unknown};
    let round = [Queued, Sending, Unknown];
    assert_eq!(bench.story("k"), [&round[..], &round, &round, &[Dead]].concat());
}

pub fn a_repetition_that_comes_too_late_is_not_sent(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    bench.enqueue(at(0), vec![NewDelivery { expires_at: at(30), ..repeated("k") }]);
    let claimed = bench.claim_one(at(1));
    bench.settle(at(2), &claimed, unknown());
    bench.sweep(at(62));
    assert!(bench.claim(at(62)).is_empty());
    assert_eq!(bench.state("k"), "dead(unresolved)", "nobody may read `never applied` into it");
}

pub fn whatever_ends_a_row_with_an_ambiguous_attempt_it_is_unresolved(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    let rooms = ["cancelled", "expired", "refused"];
    let row =
        |(n, key): (usize, &&str)| NewDelivery { room: RoomId(n as u64 + 1), ..repeated(key) };
    bench.enqueue(at(0), rooms.iter().enumerate().map(row).collect());
    for claimed in bench.claim(at(1)) {
        bench.settle(at(2), &claimed, unknown());
    }
    assert_eq!(bench.sweep(at(62)).0, 3);
    run(bench.store.cancel(at(63), &CancelFilter::Ids(vec![id("cancelled")])));
    for claimed in bench.claim(at(64)) {
        let outcome = if claimed.id == id("refused") { refused() } else { again(at(65)) };
        bench.settle(at(65), &claimed, outcome);
    }
    bench.sweep(at(3_600));
    for key in rooms {
        assert_eq!(bench.state(key), "dead(unresolved)", "{key}");
    }
}

pub fn a_late_answer_says_what_became_of_an_unknown_one(backend: &dyn Backend) {
    let mut bench = Bench::new(backend);
    bench.enqueue(at(0), vec![message("arrived"), to_room("refused", 2)]);
    let claimed = bench.claim(at(1));
    bench.kill(at(2));
    for delivery in &claimed {
        let outcome = if delivery.id == id("arrived") { delivered(5) } else { refused() };
        bench.settle(at(3), delivery, outcome);
    }
    assert_eq!(bench.state("arrived"), "delivered");
    assert_eq!(bench.state("refused"), "dead(rejected)", "its only attempt was not applied");
    assert_eq!(run(bench.store.retry(at(4), id("refused"), false)), RetryVerdict::Queued);
    assert!(!bench.record("refused").possible_duplicate);
}

pub fn a_late_refusal_says_nothing_about_a_later_attempt(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    bench.enqueue(at(0), vec![repeated("k")]);
    let first = bench.claim_one(at(1));
    bench.settle(at(2), &first, unknown());
    bench.sweep(at(62));
    let second = bench.claim_one(at(63));
    bench.settle(at(64), &second, unknown());
    bench.settle(at(65), &first, refused());
    assert_eq!(bench.record("k").state, DeliveryState::Unknown, "the second may have been applied");
    bench.settle(at(66), &first, delivered(9));
    assert_eq!(bench.record("k").state, DeliveryState::Unknown, "a known attempt stays known");
    bench.settle(at(67), &second, delivered(10));
    assert_eq!(bench.state("k"), "delivered");
}

pub fn the_outcome_of_an_attempt_is_recorded_once(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    bench.enqueue(at(0), vec![message("k")]);
    let claimed = bench.claim_one(at(1));
    bench.settle(at(2), &claimed, delivered(5));
    let before = bench.lines();
    for outcome in [delivered(5), unknown(), refused(), again(at(3))] {
        let told = bench.settle(at(3), &claimed, outcome);
        assert_eq!(told.state, DeliveryState::Delivered);
    }
    assert_eq!(bench.lines(), before);
}

pub fn an_answer_to_an_earlier_attempt_moves_nothing(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    bench.enqueue(at(0), vec![message("k")]);
    let first = bench.claim_one(at(1));
    bench.settle(at(2), &first, again(at(2)));
    let second = bench.claim_one(at(3));
    let told = bench.settle(at(4), &first, unknown());
    assert_eq!(told.state, DeliveryState::Sending);
    bench.settle(at(5), &second, delivered(6));
    assert_eq!(bench.state("k"), "delivered");
}

pub fn an_answer_to_an_attempt_that_never_was_moves_nothing(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    bench.enqueue(at(0), vec![message("k")]);
    let mut claimed = bench.claim_one(at(1));
    claimed.attempt = 2;
    assert_eq!(bench.settle(at(2), &claimed, delivered(6)).state, DeliveryState::Sending);
    let outcome = crate::Settled {
        delivery: id("nobody"),
        attempt: 1,
        class: Class::Delivered,
        code: "ok".into(),
        http_status: None,
        detail: String::new(),
        next: delivered(7).1,
    };
    assert!(run(bench.store.settle(at(3), RULES, vec![outcome])).is_empty());
}

pub fn an_outcome_that_contradicts_itself_proves_nothing(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    let outcomes = [
        (Class::Ambiguous, again(at(9)).1),
        (Class::Ambiguous, refused().1),
        (Class::Rejected, delivered(1).1),
        (Class::Delivered, Next::Unknown),
    ];
    for (n, outcome) in outcomes.into_iter().enumerate() {
        let key = format!("k{n}");
        bench.enqueue(at(0), vec![message(&key)]);
        let claimed = bench.claim_one(at(1));
        let told = bench.settle(at(2), &claimed, outcome);
        assert_eq!((told.class, told.state), (Class::Ambiguous, DeliveryState::Unknown), "{key}");
    }
    assert!(bench.claim(at(10)).is_empty());
}

pub fn an_answer_that_names_another_message_is_not_for_us(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    bench.enqueue(at(0), vec![message("mine"), to_room("theirs", 2), to_room("later", 3)]);
    let mut claimed = bench.claim(at(1));
    claimed.sort_by_key(|delivery| delivery.room);
    assert!(!bench.settle(at(2), &claimed[0], delivered(5)).foreign_answer);
    let told = bench.settle(at(600), &claimed[1], delivered(5));
    assert!(told.foreign_answer);
    assert_eq!((told.class, told.state), (Class::Ambiguous, DeliveryState::Unknown));
    let told = bench.settle(at(700), &claimed[2], delivered(5));
    assert!(!told.foreign_answer, "ten minutes later the server may count anew");
    // The number alone tells it too, but not that of another server.
    let elsewhere = NewDelivery { widget: widget("v"), ..message("elsewhere") };
    bench.enqueue(at(700), vec![to_room("again", 4), elsewhere]);
    let of_uuid = |uuid: &str| {
        let uuid = Some(uuid.to_owned());
        (Class::Delivered, Next::Delivered { message: MessageId(5), uuid, time: None })
    };
    let mut request = bench.request(at(701));
    let there = WidgetClaim { widget: widget("v"), ..request.widgets[0].clone() };
    request.widgets.push(there);
    let claimed = run(bench.store.claim(request)).deliveries;
    assert_eq!(claimed.len(), 2);
    for delivery in claimed {
        let told = bench.settle(at(702), &delivery, of_uuid(delivery.widget.as_str()));
        assert_eq!(told.foreign_answer, delivery.id == id("again"));
    }
}

pub fn only_the_delivery_that_is_asked_for_is_claimed(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    bench.enqueue(at(0), vec![to_room("other", 2), message("first"), message("second")]);
    let only = |key: &str, now| {
        let request = crate::ClaimRequest { only: Some(id(key)), ..bench.request(now) };
        run(bench.store.claim(request))
    };
    assert!(only("second", at(1)).deliveries.is_empty(), "another waits before it");
    assert!(run(bench.store.waits_behind_others(id("second"))));
    assert!(!run(bench.store.waits_behind_others(id("first"))));
    assert!(only("nobody", at(1)).deliveries.is_empty());
    let claimed = only("first", at(1)).deliveries;
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].id, id("first"));
    bench.settle(at(2), &claimed[0], delivered(1));
    assert!(only("first", at(3)).deliveries.is_empty());
    assert!(!run(bench.store.waits_behind_others(id("first"))), "what has ended waits for nobody");
    assert_eq!(only("second", at(3)).deliveries.len(), 1);
    assert_eq!(bench.record("other").state, DeliveryState::Queued);
}

pub fn only_the_widgets_that_are_named_are_claimed_up_to_their_slots(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    let foreign = NewDelivery { widget: widget("v"), ..message("foreign") };
    bench.enqueue(at(0), (1..=5).map(|n| to_room(&format!("k{n}"), n)).collect());
    bench.enqueue(at(0), vec![foreign]);
    let mut request = bench.request(at(1));
    request.widgets[0].slots = 3;
    assert_eq!(run(bench.store.claim(request.clone())).deliveries.len(), 3);
    request.widgets[0].slots = 0;
    assert_eq!(run(bench.store.claim(request.clone())).deliveries.len(), 0);
    request.widgets[0].slots = 9;
    request.widgets.push(WidgetClaim { widget: widget("v"), ..request.widgets[0].clone() });
    assert_eq!(run(bench.store.claim(request)).deliveries.len(), 3);
}

pub fn a_sweep_moves_at_most_its_limit_and_says_when_to_come_again(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    let short = |n| NewDelivery { expires_at: at(50), ..to_room(&format!("short{n}"), n) };
    let again = |n| NewDelivery { room: RoomId(n), ..repeated(&format!("again{n}")) };
    let lost = |n| to_room(&format!("lost{n}"), n);
    bench.enqueue(at(0), (1..=2).map(again).chain((3..=4).map(lost)).collect());
    for claimed in bench.claim(at(0)) {
        bench.settle(at(0), &claimed, unknown());
    }
    bench.enqueue(at(0), (5..=6).map(short).collect());
    assert_eq!(bench.sweep(at(1)), (0, Some(at(50))));
    let rules = crate::Settle { unresolved_after: secs(100), ..RULES };
    let sweep = |limit| run(bench.store.sweep(at(200), rules, limit));
    assert_eq!(sweep(1).0, 1);
    assert_eq!(sweep(3).0, 3);
    let (moved, next) = sweep(100);
    assert_eq!(moved, 2);
    assert_eq!(next, Some(at(3_600)), "what was queued again expires then");
}

pub fn a_bot_is_told_what_became_of_its_delivery(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    bench.adopt(at(0), &["b"]);
    let keys = ["delivered", "refused", "unknown", "expired", "cancelled", "untold"];
    let row = |(n, key): (usize, &&str)| NewDelivery {
        bot: Some(bot("b")),
        report: *key != "untold",
        expires_at: at(if *key == "expired" { 1 } else { 3_600 }),
        not_before: (*key == "cancelled").then_some(at(99)),
        ..to_room(&format!("bot/b/{key}"), n as u64 + 1)
    };
    bench.enqueue(at(0), keys.iter().enumerate().map(row).collect());
    for claimed in bench.claim(at(1)) {
        let outcome = match claimed.room {
            RoomId(2) => refused(),
            RoomId(3) => unknown(),
            RoomId(room) => delivered(room),
        };
        bench.settle(at(2), &claimed, outcome);
    }
    let all = CancelFilter::Bot(bot("b"));
    assert_eq!(run(bench.store.cancel(at(3), &all)), [id("bot/b/cancelled")]);
    run(bench.store.resolve(at(4), id("bot/b/unknown"), Resolution::Delivered));
    let mut told = Vec::new();
    for now in 5..20 {
        let (entries, _) = bench.entries(at(now), &[("b", 9)]);
        for entry in entries {
            if let EventBody::Delivery { key, state, reason, .. } = &entry.body {
                let (key, reason) = (key.clone().unwrap(), reason.clone().unwrap_or_default());
                told.push(format!("{key}: {state} {reason}"));
            }
            bench.handle(&entry, at(now));
        }
    }
    told.sort();
    let expected = [
        "cancelled: dead cancelled",
        "delivered: delivered ",
        "expired: dead expired",
        "refused: dead rejected",
        "unknown: delivered operator",
        "unknown: unknown seen_ambiguous",
    ];
    assert_eq!(told, expected);
}

pub fn a_text_goes_with_the_end_of_its_delivery_where_only_hashes_are_kept(backend: &dyn Backend) {
    let mut bench = Bench::on(backend.without_texts());
    let keys =
        ["delivered", "refused", "resolved", "dismissed", "cancelled", "exhausted", "killed"];
    let row = |(n, key): (usize, &&str)| {
        let policy = match *key {
            "exhausted" | "killed" => repeated(key).policy,
            _ => message(key).policy,
        };
        NewDelivery { policy, ..to_room(key, n as u64 + 1) }
    };
    bench.enqueue(at(0), keys.iter().enumerate().map(row).collect());
    let last = crate::Settle { max_resends: 0, ..RULES };
    run(bench.store.cancel(at(0), &CancelFilter::Ids(vec![id("cancelled")])));
    for claimed in bench.claim(at(1)) {
        let key = keys[usize::try_from(claimed.room.0).unwrap() - 1];
        let (class, next) = match key {
            "delivered" => delivered(1),
            "refused" => refused(),
            "killed" => continue,
            _ => unknown(),
        };
        let code = "seen".into();
        let (delivery, attempt) = (claimed.id, claimed.attempt);
        let one = crate::Settled {
            delivery,
            attempt,
            class,
            code,
            http_status: None,
            detail: String::new(),
            next,
        };
        run(bench.store.settle(at(2), last, vec![one]));
    }
    assert!(bench.record("resolved").text.is_some(), "it may be sent again by an operator");
    run(bench.store.resolve(at(3), id("resolved"), Resolution::Delivered));
    run(bench.store.resolve(at(3), id("dismissed"), Resolution::Dead));
    bench.incarnation = run(bench.store.begin(at(4), "1", last)).incarnation;
    let born = Born::Dead(DeadReason::Suppressed);
    bench.enqueue(at(5), vec![NewDelivery { born, ..message("born dead") }]);
    for key in keys.iter().chain(&["born dead"]) {
        let record = bench.record(key);
        assert!(matches!(record.state, DeliveryState::Delivered | DeliveryState::Dead), "{key}");
        assert_eq!(record.text, None, "{key}");
        assert_eq!(record.text_sha256.map(|hash| hash.len()), Some(64), "{key}");
    }
    for line in bench.lines() {
        if let Line::Delivery(record) = line.line {
            assert!(record.text.is_none() && record.text_sha256.is_some());
        }
    }
    assert_eq!(
        run(bench.store.retry(at(6), id("refused"), true)),
        RetryVerdict::NotNow(DeliveryState::Dead),
        "there is nothing to send"
    );
}

pub fn the_largest_numbers_are_kept(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    let room = RoomId(u64::MAX);
    bench.enqueue(at(0), vec![NewDelivery { room, ..message("k") }]);
    let claimed = bench.claim_one(at(1));
    assert_eq!(claimed.room, room);
    bench.settle(at(2), &claimed, delivered(u64::MAX));
    let record = bench.record("k");
    assert_eq!((record.room, record.server_message_id), (room, Some(MessageId(u64::MAX))));
}
