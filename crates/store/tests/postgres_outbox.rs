//! Deliveries on a PostgreSQL that several instances share: each is claimed by one, rates hold over all
//! of them, and what one of them is in the middle of stops no other.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this is a test suite")]
#![allow(
    clippy::disallowed_methods,
    reason = "instances and leases meet in the database's own time"
)]

mod postgres_support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_executor::block_on;
use imbabot_bot::{DeliveryId, Policy};
use imbabot_core::{MessageId, RoomId, Timestamp};
use imbabot_store::{
    Born, ClaimRequest, Claimed, ClaimedDelivery, Class, DeadReason, DeliveryState, ErrorKind,
    Fleet, IncarnationId, Lifecycle, NewDelivery, Next, Outbox, PostgresStore, Recorded, Settle,
    Settled, Standing, Unit, WidgetClaim,
};
use postgres_support::{Database, Hand, database};

const RULES: Settle = Settle {
    wait: Duration::from_secs(60),
    max_resends: 2,
    unresolved_after: Duration::from_secs(86_400),
};
const LEASE: Duration = Duration::from_secs(10);

fn at_ms(milliseconds: i64) -> Timestamp {
    Timestamp::from_micros(1_772_323_200_000_000 + milliseconds * 1_000)
}

fn message(key: &str, widget: &str, room: u64) -> NewDelivery {
    NewDelivery {
        key: key.into(),
        widget: widget.parse().unwrap(),
        room: RoomId(room),
        sender: 7.into(),
        bot: None,
        event: None,
        occurrence: None,
        schedule: None,
        policy: Policy::AtMostOnce,
        text: format!("text of {key}"),
        not_before: None,
        expires_at: at_ms(3_600_000),
        born: Born::Queued,
        detail: None,
        report: false,
    }
}

/// One of several instances, and its run.
struct Instance {
    store: Arc<PostgresStore>,
    run: IncarnationId,
}

impl Instance {
    fn begin(store: PostgresStore) -> Self {
        let run = block_on(store.begin(at_ms(0), "1", RULES)).unwrap().incarnation;
        Self { store: Arc::new(store), run }
    }

    fn request(&self, now: Timestamp, widgets: &[&str], slots: usize) -> ClaimRequest {
        let widgets = widgets
            .iter()
            .map(|widget| WidgetClaim {
                widget: widget.parse().unwrap(),
                slots,
                interval: Duration::ZERO,
                room_interval: Duration::ZERO,
            })
            .collect();
        ClaimRequest { now, incarnation: self.run, widgets, only: None }
    }

    fn claim(&self, now: Timestamp, widgets: &[&str], slots: usize) -> Claimed {
        block_on(self.store.claim(self.request(now, widgets, slots))).unwrap()
    }

    fn paced(&self, now: Timestamp, every: Duration, per_room: Duration) -> Claimed {
        let mut request = self.request(now, &["w"], 100);
        request.widgets[0].interval = every;
        request.widgets[0].room_interval = per_room;
        block_on(self.store.claim(request)).unwrap()
    }

    fn settle(&self, now: Timestamp, outcomes: Vec<Settled>) -> Vec<Recorded> {
        block_on(self.store.settle(now, RULES, outcomes)).unwrap()
    }

    fn state(&self, key: &str) -> DeliveryState {
        block_on(self.store.delivery(DeliveryId::of_key(key))).unwrap().unwrap().state
    }
}

fn outcome(claimed: &ClaimedDelivery, class: Class, next: Next) -> Settled {
    Settled {
        delivery: claimed.id,
        attempt: claimed.attempt,
        class,
        code: "seen".into(),
        http_status: None,
        detail: String::new(),
        next,
    }
}

fn delivered(claimed: &ClaimedDelivery, message: u64) -> Settled {
    let next = Next::Delivered { message: MessageId(message), uuid: None, time: None };
    outcome(claimed, Class::Delivered, next)
}

/// Two instances on one schema, which goes with the first.
fn two(database: &Database) -> (Instance, Instance, String) {
    let schema = database.name();
    let first = database.connect(&schema, imbabot_store::Bodies::Full, LEASE).temporary(&schema);
    let second = database.connect(&schema, imbabot_store::Bodies::Full, LEASE);
    (Instance::begin(first), Instance::begin(second), schema)
}

/// Claims and settles until nothing is left; what was claimed, in order.
fn work(instance: &Instance, widgets: &[&str], number: u64) -> Vec<(DeliveryId, RoomId)> {
    let mut done = Vec::new();
    let mut idle = 0;
    while idle < 3 {
        let now = at_ms(2_000);
        let claimed = instance.claim(now, widgets, 20);
        if claimed.deliveries.is_empty() {
            // Somebody else may have had the rest in hand.
            idle += usize::from(claimed.next_due.is_none());
            std::thread::sleep(Duration::from_millis(5));
            continue;
        }
        idle = 0;
        let message = |place: usize| number + (done.len() + place) as u64;
        let outcomes: Vec<Settled> = claimed
            .deliveries
            .iter()
            .enumerate()
            .map(|(place, claimed)| delivered(claimed, message(place)))
            .collect();
        let told = instance.settle(now, outcomes);
        assert!(told.iter().all(|told| told.state == DeliveryState::Delivered), "{told:?}");
        done.extend(claimed.deliveries.iter().map(|claimed| (claimed.id, claimed.room)));
    }
    done
}

#[test]
fn instances_side_by_side_claim_everything_once_and_in_order() {
    const LANES: u64 = 60;
    const EACH: u64 = 20;
    let Some(database) = database() else { return };
    let (first, second, _) = two(database);
    let widgets = ["v", "w", "x"];
    let all: Vec<NewDelivery> = (0..LANES * EACH)
        .map(|n| {
            let lane = n % LANES;
            let widget = widgets[usize::try_from(lane).unwrap() % widgets.len()];
            message(&format!("k{n}"), widget, lane + 1)
        })
        .collect();
    let keys: Vec<DeliveryId> = all.iter().map(NewDelivery::id).collect();
    // Both record all of it at once, in order: a key is one delivery all the same.
    std::thread::scope(|scope| {
        for instance in [&first, &second] {
            scope.spawn(|| {
                for part in all.chunks(150) {
                    let told = block_on(instance.store.enqueue(at_ms(1_000), part.to_vec()));
                    assert!(told.unwrap().iter().all(|told| !told.refused));
                }
            });
        }
    });
    let parts: Vec<Vec<(DeliveryId, RoomId)>> = std::thread::scope(|scope| {
        let workers: Vec<_> = [(&first, 0), (&second, 1), (&first, 2), (&second, 3)]
            .into_iter()
            .map(|(instance, n)| scope.spawn(move || work(instance, &widgets, n * 1_000_000)))
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let claimed: Vec<DeliveryId> = parts.iter().flatten().map(|(id, _)| *id).collect();
    assert_eq!(claimed.len(), keys.len());
    assert_eq!(claimed.iter().collect::<BTreeSet<_>>(), keys.iter().collect());
    // Whoever claims of a lane claims in its order.
    let place: BTreeMap<DeliveryId, usize> =
        keys.iter().enumerate().map(|(place, id)| (*id, place)).collect();
    for part in &parts {
        let mut last: BTreeMap<RoomId, usize> = BTreeMap::new();
        for (id, room) in part {
            let before = last.insert(*room, place[id]);
            assert!(before.is_none_or(|before| before < place[id]), "the order of room {room}");
        }
    }
}

#[test]
fn a_run_that_was_ended_claims_nothing_and_its_late_answer_is_the_truth() {
    let Some(database) = database() else { return };
    let schema = database.name();
    let connect = |lease| database.connect(&schema, imbabot_store::Bodies::Full, lease);
    let stale = Instance::begin(connect(Duration::from_millis(50)).temporary(&schema));
    let rows =
        vec![message("arrived", "w", 1), message("refused", "w", 2), message("next", "w", 3)];
    block_on(stale.store.enqueue(at_ms(0), rows)).unwrap();
    let claimed = stale.claim(at_ms(1), &["w"], 2).deliveries;
    assert_eq!(claimed.len(), 2);
    std::thread::sleep(Duration::from_millis(100));
    let store = connect(LEASE);
    let begun = block_on(store.begin(at_ms(200), "1", RULES)).unwrap();
    assert_eq!(begun.turned_unknown, 2);
    let other = Instance { store: Arc::new(store), run: begun.incarnation };
    assert_eq!(other.state("arrived"), DeliveryState::Unknown);

    let refused = block_on(stale.store.claim(stale.request(at_ms(300), &["w"], 9))).unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::Fenced);
    // Whoever asks in its name.
    let mut request = other.request(at_ms(300), &["w"], 9);
    request.incarnation = stale.run;
    let refused = block_on(other.store.claim(request)).unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::Fenced);

    let rejected = outcome(&claimed[1], Class::Rejected, Next::Dead(DeadReason::Rejected));
    let told = stale.settle(at_ms(400), vec![delivered(&claimed[0], 5), rejected]);
    assert_eq!(told[0].state, DeliveryState::Delivered);
    assert_eq!(told[1].state, DeliveryState::Dead);
    assert_eq!(other.state("arrived"), DeliveryState::Delivered);
    assert_eq!(other.state("refused"), DeliveryState::Dead);
    assert_eq!(other.claim(at_ms(500), &["w"], 9).deliveries.len(), 1, "the next goes on");
}

#[test]
fn a_run_gives_up_only_what_it_was_sending_itself() {
    let Some(database) = database() else { return };
    let (first, second, _) = two(database);
    let rows = vec![message("mine", "w", 1), message("theirs", "v", 1)];
    block_on(first.store.enqueue(at_ms(0), rows)).unwrap();
    assert_eq!(first.claim(at_ms(1), &["w"], 9).deliveries.len(), 1);
    assert_eq!(second.claim(at_ms(1), &["v"], 9).deliveries.len(), 1);
    assert_eq!(block_on(first.store.give_up_sending(at_ms(2), RULES)).unwrap(), 1);
    assert_eq!(first.state("mine"), DeliveryState::Unknown);
    assert_eq!(first.state("theirs"), DeliveryState::Sending);
}

#[test]
fn rates_hold_over_instances() {
    let Some(database) = database() else { return };
    let (first, second, _) = two(database);
    let rows = (1..=200).map(|n| message(&format!("k{n}"), "w", n % 40 + 1)).collect();
    block_on(first.store.enqueue(at_ms(0), rows)).unwrap();
    let (every, per_room) = (Duration::from_millis(100), Duration::from_millis(700));
    // Both at once, at the same instants.
    let claim = |instance: &Instance| {
        let mut sent = Vec::new();
        for step in 0..60 {
            let now = at_ms(1_000 + step * 50);
            for delivery in instance.paced(now, every, per_room).deliveries {
                sent.push((now, delivery.room));
                let message = u64::try_from(step * 2 + instance.run.0 % 2).unwrap();
                instance.settle(now, vec![delivered(&delivery, message)]);
            }
        }
        sent
    };
    let mut sent = std::thread::scope(|scope| {
        let other = scope.spawn(|| claim(&second));
        let mut sent = claim(&first);
        sent.extend(other.join().unwrap());
        sent
    });
    sent.sort();
    assert!(sent.len() > 10, "{}", sent.len());
    for pair in sent.windows(2) {
        assert!(pair[1].0 >= pair[0].0 + every, "{pair:?}");
    }
    let mut rooms: BTreeMap<RoomId, Timestamp> = BTreeMap::new();
    for (now, room) in sent {
        let last = rooms.insert(room, now);
        assert!(last.is_none_or(|last| now >= last + per_room), "room {room} at {now}");
    }
}

#[test]
fn a_clock_that_lags_behind_another_instance_breaks_no_rate() {
    let Some(database) = database() else { return };
    let (first, second, _) = two(database);
    let rows = (1..=3).map(|n| message(&format!("k{n}"), "w", n)).collect();
    block_on(first.store.enqueue(at_ms(0), rows)).unwrap();
    let every = Duration::from_millis(100);
    assert_eq!(first.paced(at_ms(5_000), every, Duration::ZERO).deliveries.len(), 1);
    let behind = second.paced(at_ms(4_900), every, Duration::ZERO);
    assert_eq!((behind.deliveries.len(), behind.next_due), (0, Some(at_ms(5_100))));
    assert_eq!(second.paced(at_ms(5_100), every, Duration::ZERO).deliveries.len(), 1);
}

/// Another transaction, which stays open until it is told to end.
fn other(database: &Database, schema: &str, sql: &str) -> Hand {
    let hand = Hand::new(&database.url, schema);
    hand.begin(sql);
    hand
}

fn while_locked<T>(database: &Database, schema: &str, lock: &str, then: impl FnOnce() -> T) -> T {
    let other = other(database, schema, lock);
    let value = then();
    other.run("ROLLBACK");
    value
}

#[test]
fn a_lane_that_another_has_is_left_to_it_and_found_again() {
    let Some(database) = database() else { return };
    let (first, _, schema) = two(database);
    let rows = vec![message("locked", "w", 1), message("free", "w", 2), message("alone", "v", 1)];
    block_on(first.store.enqueue(at_ms(0), rows)).unwrap();
    let lock = "SELECT 1 FROM lane WHERE room = 1 FOR UPDATE";
    let now = at_ms(1_000);
    let claimed = while_locked(database, &schema, lock, || first.claim(now, &["v", "w"], 9));
    assert_eq!(claimed.deliveries.len(), 1);
    assert_eq!(claimed.deliveries[0].id, DeliveryId::of_key("free"));
    let due = claimed.next_due.unwrap();
    assert!(due > now && due <= at_ms(1_100), "nobody sleeps past it: {due}");
    assert_eq!(first.claim(due, &["v", "w"], 9).deliveries.len(), 2);
}

#[test]
fn a_widget_of_which_another_claims_is_left_to_it() {
    let Some(database) = database() else { return };
    let (first, _, schema) = two(database);
    let rows = (1..=2).map(|n| message(&format!("k{n}"), "w", n)).collect();
    block_on(first.store.enqueue(at_ms(0), rows)).unwrap();
    let every = Duration::from_millis(10);
    assert_eq!(first.paced(at_ms(1_000), every, Duration::ZERO).deliveries.len(), 1);
    let lock = "SELECT 1 FROM rate WHERE key = 'widget/w' FOR UPDATE";
    let claimed =
        while_locked(database, &schema, lock, || first.paced(at_ms(2_000), every, Duration::ZERO));
    assert_eq!((claimed.deliveries.len(), claimed.next_due), (0, Some(at_ms(2_050))));
    assert_eq!(first.paced(at_ms(2_050), every, Duration::ZERO).deliveries.len(), 1);
}

#[test]
fn a_sweep_leaves_a_lane_to_whoever_has_it() {
    let Some(database) = database() else { return };
    let (first, _, schema) = two(database);
    let stale = |key, room| NewDelivery { expires_at: at_ms(10), ..message(key, "w", room) };
    block_on(first.store.enqueue(at_ms(0), vec![stale("a", 1), stale("b", 2)])).unwrap();
    let lock = "SELECT 1 FROM lane WHERE room = 1 FOR UPDATE";
    let sweep = || block_on(first.store.sweep(at_ms(20), RULES, 100)).unwrap();
    let (moved, next) = while_locked(database, &schema, lock, sweep);
    assert_eq!((moved, next), (1, Some(at_ms(70))));
    assert_eq!(first.state("b"), DeliveryState::Dead);
    assert_eq!(sweep(), (1, None));
}

#[test]
fn a_widget_of_another_run_is_not_claimed() {
    let Some(database) = database() else { return };
    let (first, second, _) = two(database);
    let rows = vec![message("owned", "w", 1), message("nobody's", "v", 1)];
    block_on(first.store.enqueue(at_ms(0), rows)).unwrap();
    let owner = |of: &Instance, units: &[Unit]| {
        let standing = block_on(of.store.heartbeat(of.run, units, RULES)).unwrap();
        let Standing::Member(member) = standing else { panic!("one of several") };
        member.units.len()
    };
    assert_eq!(owner(&first, &[Unit::Widget("w".parse().unwrap())]), 1);
    let claimed = second.claim(at_ms(1), &["v", "w"], 9);
    assert_eq!(claimed.deliveries.len(), 1);
    assert_eq!(claimed.deliveries[0].id, DeliveryId::of_key("nobody's"));
    assert_eq!(claimed.next_due, None, "what is another's is another's to wait for");
    assert_eq!(first.claim(at_ms(1), &["v", "w"], 9).deliveries.len(), 1);
}

#[test]
fn a_claim_waits_for_a_pause_that_is_being_committed() {
    let Some(database) = database() else { return };
    let (first, _, schema) = two(database);
    block_on(first.store.enqueue(at_ms(0), vec![message("k", "w", 1)])).unwrap();
    let pause = "INSERT INTO stoppage (scope, reason, since) VALUES ('widget/w', 'paused', 0)";
    let claimed = std::thread::scope(|scope| {
        let waits = "SELECT 1 FROM pg_locks l JOIN pg_namespace n ON n.nspname = current_schema()
                     JOIN pg_class c ON c.relnamespace = n.oid AND c.oid = l.relation
                     WHERE c.relname = 'stoppage' AND NOT l.granted";
        let other = other(database, &schema, pause);
        let claim = scope.spawn(|| first.claim(at_ms(1), &["w"], 9));
        while !claim.is_finished() && other.ask(waits).is_none() {
            std::thread::yield_now();
        }
        other.run("COMMIT");
        claim.join().unwrap()
    });
    assert_eq!(claimed, Claimed::default(), "it holds from the moment it is committed");
}

#[test]
fn texts_may_hold_any_character() {
    let Some(database) = database() else { return };
    let (first, _, _) = two(database);
    let (key, text) = ("bot/b/\0\u{1}0", "a\0b\u{1}\u{1}0c\u{1}1\0");
    let row = NewDelivery { text: text.into(), ..message(key, "w", 1) };
    block_on(first.store.enqueue(at_ms(0), vec![row.clone()])).unwrap();
    let again = block_on(first.store.enqueue(at_ms(0), vec![row])).unwrap();
    assert!(again[0].known && !again[0].refused);
    let claimed = first.claim(at_ms(1), &["w"], 9).deliveries;
    assert_eq!(claimed[0].text, text);
    let record = block_on(first.store.delivery(DeliveryId::of_key(key))).unwrap().unwrap();
    assert_eq!((record.key.as_str(), record.text.as_deref()), (key, Some(text)));
}

#[test]
fn answers_that_name_one_message_at_the_same_moment_are_not_both_believed() {
    let Some(database) = database() else { return };
    let (first, second, _) = two(database);
    let widgets = [("w".parse().unwrap(), imbabot_core::WidgetId(1))];
    block_on(first.store.adopt_widgets(&widgets)).unwrap();
    for round in 0..20 {
        let rows = (1..=4).map(|n| message(&format!("k{round}/{n}"), "w", n)).collect();
        block_on(first.store.enqueue(at_ms(0), rows)).unwrap();
        let claimed = first.claim(at_ms(1), &["w"], 9).deliveries;
        assert_eq!(claimed.len(), 4);
        let foreign = std::thread::scope(|scope| {
            let workers: Vec<_> = claimed
                .iter()
                .zip([&first, &second, &first, &second])
                .map(|(claimed, by)| {
                    scope.spawn(move || by.settle(at_ms(2), vec![delivered(claimed, round + 1)]))
                })
                .collect();
            let told = workers.into_iter().flat_map(|worker| worker.join().unwrap());
            told.filter(|told| told.foreign_answer).count()
        });
        assert_eq!(foreign, 3);
    }
}

/// Messages into so many rooms, claimed.
fn claimed_in(instance: &Instance, rooms: u64) -> Vec<ClaimedDelivery> {
    let rows = (1..=rooms).map(|n| message(&format!("k{n}"), "w", n)).collect();
    block_on(instance.store.enqueue(at_ms(0), rows)).unwrap();
    let claimed = instance.claim(at_ms(1), &["w"], 1_000).deliveries;
    assert_eq!(claimed.len() as u64, rooms);
    claimed
}

/// Each outcome told by a caller of its own, all at once.
fn settle_each(
    instance: &Instance,
    claimed: &[ClaimedDelivery],
) -> Vec<imbabot_store::Result<Vec<Recorded>>> {
    let each = claimed.iter().map(|claimed| {
        let outcome = delivered(claimed, claimed.room.0);
        instance.store.settle(at_ms(2), RULES, vec![outcome])
    });
    block_on(futures_util::future::join_all(each))
}

#[test]
fn outcomes_that_come_while_others_are_written_are_written_together() {
    let Some(database) = database() else { return };
    let (first, _, schema) = two(database);
    let claimed = claimed_in(&first, 100);
    let hand = other(database, &schema, "SELECT 1 FROM lane FOR UPDATE");
    let told = std::thread::scope(|scope| {
        let told = scope.spawn(|| settle_each(&first, &claimed));
        hand.until_waited_for();
        hand.run("ROLLBACK");
        told.join().unwrap()
    });
    for (told, claimed) in told.into_iter().zip(&claimed) {
        let told = told.unwrap();
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].delivery, told[0].state), (claimed.id, DeliveryState::Delivered));
    }
    let few = "SELECT 1 FROM delivery HAVING count(*) = 100 AND count(DISTINCT xmin::text) <= 4";
    assert!(hand.ask(few).is_some(), "a hundred outcomes took more than four commits");
}

#[test]
fn an_outcome_that_cannot_be_recorded_takes_no_other_with_it() {
    let Some(database) = database() else { return };
    let (first, _, schema) = two(database);
    let claimed = claimed_in(&first, 30);
    let odd = "UPDATE delivery SET policy = 'odd' WHERE room = 15";
    Hand::new(&database.url, &schema).run(odd);
    for (told, claimed) in settle_each(&first, &claimed).into_iter().zip(&claimed) {
        if claimed.room.0 == 15 {
            assert_eq!(*told.unwrap_err().kind(), ErrorKind::Undecodable);
        } else {
            assert_eq!(told.unwrap()[0].state, DeliveryState::Delivered);
        }
    }
}
