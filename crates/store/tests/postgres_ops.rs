//! What operators, the ledger and checks have to do where several instances write at once.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this is a test suite")]
#![allow(clippy::disallowed_methods, reason = "real locks are waited for")]

mod given;
mod postgres_support;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use futures_executor::block_on;
use imbabot_bot::{DeliveryId, WidgetName};
use imbabot_store::*;

use given::{RULES, at, message};
use postgres_support::{Database, Hand, database};

const LEASE: Duration = Duration::from_secs(10);

/// Two instances on one schema, and a hand in it.
fn two(database: &Database) -> (PostgresStore, Arc<PostgresStore>, Hand) {
    let schema = database.name();
    let one = database.connect(&schema, Bodies::Full, LEASE).temporary(&schema);
    let two = database.open(&schema, Bodies::Full, LEASE);
    (one, two, Hand::new(&database.url, &schema))
}

fn seqs(lines: &[LedgerLine]) -> Vec<i64> {
    lines.iter().map(|line| line.seq).collect()
}

/// As a verb of ours would that is slow: through the door, with a number of the ledger.
fn slow_line(hand: &Hand) -> i64 {
    hand.run("BEGIN; LOCK TABLE ledger_door IN ROW EXCLUSIVE MODE");
    let body = r#"{"verb":"pause","target":"all","before":"running","after":"paused","at":"2026-03-01T00:00:00.000000Z"}"#;
    let sql = format!(
        "INSERT INTO ledger (kind, id, at, body) VALUES ('operator', 'all', 1, '{body}')
         RETURNING seq::text"
    );
    hand.ask(&sql).unwrap().parse().unwrap()
}

#[test]
fn a_reader_of_the_ledger_does_not_overtake_a_line_that_took_its_number_earlier() {
    let Some(database) = database() else { return };
    let (one, two, hand) = two(database);
    block_on(one.begin(at(0), "1", RULES)).unwrap();
    let before = seqs(&block_on(two.ledger(0, 99)).unwrap());
    let slow = slow_line(&hand);
    block_on(one.enqueue(at(1), vec![message("quick", 1)])).unwrap();
    let other = Hand::new(&database.url, &hand.schema);
    let visible = other.ask("SELECT max(seq)::text FROM ledger").unwrap();
    assert!(visible.parse::<i64>().unwrap() > slow, "the quick one is there, the slow one is not");
    let reader = Arc::clone(&two);
    let since = *before.last().unwrap();
    let read = thread::spawn(move || block_on(reader.ledger(since, 99)).unwrap());
    thread::sleep(Duration::from_millis(100));
    assert!(!read.is_finished(), "it waits");
    hand.run("COMMIT");
    let told = seqs(&read.join().unwrap());
    assert_eq!(told, [slow, slow + 1]);
    assert_eq!(seqs(&block_on(one.ledger(0, 99)).unwrap()), [before, told].concat());
}

#[test]
fn a_number_of_the_ledger_that_is_never_used_holds_up_nobody() {
    let Some(database) = database() else { return };
    let (one, two, hand) = two(database);
    block_on(one.begin(at(0), "1", RULES)).unwrap();
    let slow = slow_line(&hand);
    hand.run("ROLLBACK");
    block_on(one.enqueue(at(1), vec![message("k", 1)])).unwrap();
    assert_eq!(seqs(&block_on(two.ledger(slow - 1, 99)).unwrap()), [slow + 1]);
}

#[test]
fn a_line_tells_a_text_to_the_letter() {
    let Some(database) = database() else { return };
    let (one, _two, _hand) = two(database);
    let text = "a\0b\u{1}0c";
    block_on(one.enqueue(at(0), vec![NewDelivery { text: text.into(), ..message("k", 1) }]))
        .unwrap();
    let lines = block_on(one.ledger(0, 9)).unwrap();
    let story = block_on(one.delivery_story(DeliveryId::of_key("k"))).unwrap().unwrap();
    for line in [&lines[0], &story.lines[0].line] {
        let Line::Delivery(record) = &line.line else { panic!("{line:?}") };
        assert_eq!(record.text.as_deref(), Some(text));
    }
}

#[test]
fn where_nothing_is_new_nobody_is_waited_for() {
    let Some(database) = database() else { return };
    let (one, two, hand) = two(database);
    block_on(one.begin(at(0), "1", RULES)).unwrap();
    let lines = block_on(two.ledger(0, 99)).unwrap();
    hand.run("BEGIN; LOCK TABLE ledger_door IN ROW EXCLUSIVE MODE");
    let begun = Instant::now();
    assert_eq!(block_on(two.ledger(0, 99)).unwrap(), lines);
    assert_eq!(block_on(two.ledger(lines.last().unwrap().seq, 99)).unwrap(), []);
    assert!(begun.elapsed() < Duration::from_millis(900), "{:?}", begun.elapsed());
    hand.run("COMMIT");
}

#[test]
fn a_pause_waits_for_who_is_in_the_middle_of_claiming() {
    let Some(database) = database() else { return };
    let (one, _two, hand) = two(database);
    // As a claim does it.
    hand.run("BEGIN; LOCK TABLE stoppage IN SHARE MODE");
    let one = Arc::new(one);
    let pausing = Arc::clone(&one);
    let paused =
        thread::spawn(move || block_on(pausing.pause(at(1), &PauseScope::All, true)).unwrap());
    thread::sleep(Duration::from_millis(100));
    assert_eq!(block_on(one.paused()).unwrap(), [], "it does not hold yet");
    hand.run("COMMIT");
    assert!(paused.join().unwrap());
    assert_eq!(block_on(one.paused()).unwrap(), [PauseScope::All]);
}

#[test]
fn a_resume_lets_go_what_a_claim_holds_that_has_just_seen_the_pause() {
    let Some(database) = database() else { return };
    let (one, two, hand) = two(database);
    block_on(one.begin(at(0), "1", RULES)).unwrap();
    block_on(one.enqueue(at(0), vec![message("k", 1)])).unwrap();
    block_on(one.pause(at(1), &PauseScope::All, true)).unwrap();
    // As a claim does it.
    hand.run("BEGIN; LOCK TABLE stoppage IN SHARE MODE");
    let resumed =
        thread::spawn(move || block_on(two.pause(at(2), &PauseScope::All, false)).unwrap());
    thread::sleep(Duration::from_millis(100));
    hand.run("UPDATE lane SET ready_at = NULL; COMMIT");
    assert!(resumed.join().unwrap());
    assert_eq!(hand.ask("SELECT count(*)::text FROM lane WHERE ready_at IS NULL").unwrap(), "0");
}

#[test]
fn two_instances_that_see_one_breaker_tell_of_it_once() {
    let Some(database) = database() else { return };
    let (one, two, hand) = two(database);
    let change = |second| BreakerChange {
        widget: "w".parse::<WidgetName>().unwrap(),
        reason: Stop::Outage,
        at: at(second),
        open: true,
        detail: None,
    };
    let other = thread::spawn(move || {
        for second in 0..20 {
            block_on(two.note_breakers(vec![change(second)])).unwrap();
        }
    });
    for second in 0..20 {
        block_on(one.note_breakers(vec![change(second)])).unwrap();
    }
    other.join().unwrap();
    assert_eq!(hand.ask("SELECT count(*)::text FROM stoppage").unwrap(), "1");
}

#[test]
fn a_message_that_leaves_while_it_is_to_be_cancelled_is_not_cancelled() {
    let Some(database) = database() else { return };
    let (one, two, hand) = two(database);
    block_on(one.enqueue(at(0), vec![message("leaves", 1), message("stays", 2)])).unwrap();
    // As a claim does it: the lane first.
    hand.run("BEGIN; UPDATE lane SET head = head WHERE room = 1");
    let cancelled = thread::spawn(move || {
        block_on(two.cancel(at(1), &CancelFilter::State(DeliveryState::Queued))).unwrap()
    });
    thread::sleep(Duration::from_millis(100));
    hand.run("UPDATE delivery SET state = 'sending' WHERE key = 'leaves'; COMMIT");
    assert_eq!(cancelled.join().unwrap(), [DeliveryId::of_key("stays")]);
    let left = block_on(one.delivery(DeliveryId::of_key("leaves"))).unwrap().unwrap();
    assert_eq!(left.state, DeliveryState::Sending);
}

#[test]
fn the_last_sign_of_life_is_that_of_one_that_is_alive() {
    let Some(database) = database() else { return };
    let (one, two, hand) = two(database);
    let first = block_on(one.begin(at(0), "1", RULES)).unwrap();
    block_on(two.begin(at(0), "1", RULES)).unwrap();
    let sign = |second, stopped| SignOfLife { at: at(second), stopped, status: "{}".into() };
    block_on(one.sign(sign(5, false))).unwrap();
    block_on(two.sign(sign(3, false))).unwrap();
    assert_eq!(block_on(one.last_sign()).unwrap().unwrap().at, at(3), "by the database's clock");
    block_on(one.sign(sign(6, true))).unwrap();
    block_on(one.end(first.incarnation, at(6))).unwrap();
    assert_eq!(block_on(one.last_sign()).unwrap(), Some(sign(3, false)), "the other is alive");
    block_on(two.sign(sign(4, false))).unwrap();
    assert_eq!(hand.ask("SELECT count(*)::text FROM sign_of_life").unwrap(), "1");
}

#[test]
fn between_two_instances_nobody_was_away() {
    let Some(database) = database() else { return };
    let (one, two, _hand) = two(database);
    block_on(one.enqueue(at(0), vec![message("k", 1)])).unwrap();
    let first = block_on(one.begin(at(10), "1", RULES)).unwrap().incarnation;
    let second = block_on(two.begin(at(20), "1", RULES)).unwrap().incarnation;
    block_on(one.end(first, at(30))).unwrap();
    let downtimes = || {
        let story = block_on(one.delivery_story(DeliveryId::of_key("k"))).unwrap().unwrap();
        story.downtimes
    };
    assert_eq!(downtimes(), []);
    block_on(two.end(second, at(40))).unwrap();
    let down = Downtime { from: at(40), to: None, killed: false };
    assert_eq!(downtimes(), [down]);
    block_on(one.begin(at(50), "1", RULES)).unwrap();
    assert_eq!(downtimes(), [Downtime { to: Some(at(50)), ..down }]);
}

#[test]
fn a_trigger_that_is_off_and_an_index_that_does_not_hold_are_found() {
    let Some(database) = database() else { return };
    for (lie, words) in [
        ("ALTER TABLE delivery DISABLE TRIGGER delivery_moved", "delivery_moved"),
        ("DROP TRIGGER delivery_born ON delivery", "delivery_born of delivery is missing"),
        (
            "ALTER TABLE lease ADD CONSTRAINT odd CHECK (until >= 0) NOT VALID",
            "the reference odd of lease is not checked",
        ),
        ("DELETE FROM edition", "which schema"),
    ] {
        let (store, _two, hand) = two(database);
        assert_eq!(block_on(store.check_integrity(false)).unwrap(), None);
        hand.run(lie);
        let found = block_on(store.check_integrity(false)).unwrap().unwrap();
        assert!(found.contains(words), "{lie}: {found}");
    }
}

/// A store with a delivery that was delivered, one that waits, an occurrence and a run.
fn lived_in(database: &Database) -> (PostgresStore, Hand) {
    let (store, _two, hand) = two(database);
    given::lived_in(&store);
    (store, hand)
}

/// All that it finds, each once.
fn found(store: &PostgresStore, batch: usize) -> Vec<String> {
    let mut found = given::found(store, batch);
    found.sort();
    found.dedup();
    found
}

#[test]
fn a_store_that_was_lived_in_has_no_contradiction() {
    let Some(database) = database() else { return };
    let (store, _hand) = lived_in(database);
    for batch in [1, 2, 500] {
        assert_eq!(found(&store, batch), [""; 0]);
    }
    assert_eq!(block_on(store.strays(9)).unwrap(), [""; 0]);
    assert_eq!(block_on(store.check_integrity(true)).unwrap(), None);
}

/// Whoever changes a record behind the store's back is found out; each lie in a transaction that is
/// rolled back is none.
#[test]
fn every_lie_is_found_in_its_own_words() {
    let Some(database) = database() else { return };
    let (store, hand) = lived_in(database);
    let state = |of: &str, is: &str| {
        format!(
            "UPDATE ledger SET body = jsonb_set(body::jsonb, '{{state}}', '\"{is}\"')::text
             WHERE kind = 'delivery' AND body::jsonb ->> 'state' = '{of}'"
        )
    };
    let lies: Vec<(String, &str)> = vec![
        (
            "UPDATE delivery SET state = 'delivered', open = FALSE, server_message_id = 5
             WHERE key = 'waits'"
                .into(),
            "is delivered, and none of its 0 attempts says so",
        ),
        ("DELETE FROM attempt".into(), "is delivered, and none of its 0 attempts says so"),
        (
            "UPDATE delivery SET state = 'lost' WHERE key = 'waits'".into(),
            "is lost, which is no state",
        ),
        (
            "UPDATE delivery SET reason = 'because' WHERE key = 'waits'".into(),
            "is queued because of because",
        ),
        ("UPDATE delivery SET server_message_id = NULL".into(), "is delivered as no message"),
        (
            "INSERT INTO attempt (delivery, n, incarnation, started_at, class)
             SELECT delivery, 2, incarnation, 0, 'delivered' FROM attempt"
                .into(),
            "may be there more than once",
        ),
        ("UPDATE attempt SET n = 2".into(), "has 1 attempts, the last is number 2"),
        ("UPDATE attempt SET class = NULL".into(), "1 of its attempts are open"),
        (
            "UPDATE delivery SET open = FALSE WHERE key = 'waits'".into(),
            "its lane does not know of it",
        ),
        ("DELETE FROM lane".into(), "waits in a lane that nobody looks at"),
        (state("sending", "dead"), "went from dead to delivered"),
        (state("sending", "unknown"), "went from queued to unknown"),
        (
            "UPDATE delivery SET occurrence = 's@2026-03-02T00:00:00Z', schedule = 's'
             WHERE key = 'waits'"
                .into(),
            "belongs to s@2026-03-02T00:00:00Z, which is not there",
        ),
        ("UPDATE attempt SET incarnation = 99".into(), "is of a run that is not there"),
        ("DELETE FROM delivery WHERE key = 'sent'".into(), "belongs to no delivery"),
        ("DELETE FROM delivery WHERE key = 'waits'".into(), ", which is not there"),
        ("UPDATE occurrence SET nominal_at = nominal_at - 50000000".into(), "lies in a run, too"),
        ("UPDATE occurrence SET outcome = 'fired'".into(), "is fired because of no_rooms"),
        ("UPDATE schedule SET missed = 7".into(), "says that 7 were missed, a recount finds 9"),
        (
            "INSERT INTO ledger (kind, id, at, body)
             SELECT kind, id, at, body FROM ledger WHERE kind = 'range'"
                .into(),
            "lies in two runs",
        ),
        (
            "UPDATE ledger SET body = 'nonsense' WHERE seq = (SELECT min(seq) FROM ledger)".into(),
            "cannot be read",
        ),
        (
            "UPDATE ledger SET body = 'nonsense' WHERE kind = 'delivery'".into(),
            "a line of the ledger cannot be read",
        ),
        (
            "UPDATE ledger SET id = 'no id' WHERE kind = 'delivery'".into(),
            "is about the delivery no id, which is not there",
        ),
        (
            "UPDATE delivery_count SET present = 4 WHERE state = 'queued'
               AND shard = (SELECT max(shard) FROM delivery_count WHERE state = 'queued')"
                .into(),
            "are counted as queued , a recount finds 1",
        ),
        (
            "DELETE FROM delivery_count WHERE state = 'queued'".into(),
            "none of the deliveries is counted as queued",
        ),
        (
            "UPDATE delivery SET possible_duplicate = TRUE; UPDATE doubled_count SET total = 0"
                .into(),
            "fewer deliveries are counted as possible duplicates",
        ),
    ];
    hand.keep();
    for (lie, words) in lies {
        hand.run(&lie);
        let told = found(&store, 500);
        assert!(told.iter().any(|one| one.contains(words)), "{lie}\n{told:#?}");
        assert_eq!(told, found(&store, 1), "{lie}: it does not depend on the batches");
        hand.put_back();
        assert_eq!(found(&store, 500), [""; 0], "{lie}: put back");
    }
}

#[test]
fn a_record_that_stands_otherwise_than_its_last_line_is_a_stray() {
    let Some(database) = database() else { return };
    let (store, hand) = lived_in(database);
    hand.keep();
    for (lie, words) in [
        ("UPDATE delivery SET state = 'dead' WHERE key = 'waits'", "its last line says queued"),
        ("UPDATE attempt SET class = 'rejected'", "its last line says delivered"),
        ("UPDATE occurrence SET deliveries = 3", "its last line says skipped with 0"),
        ("DELETE FROM delivery WHERE key = 'waits'", "is not there, its last line says queued"),
    ] {
        hand.run(lie);
        let told = block_on(store.strays(9)).unwrap();
        assert!(told.len() == 1 && told[0].contains(words), "{lie}: {told:?}");
        hand.put_back();
    }
    assert_eq!(block_on(store.strays(9)).unwrap(), [""; 0]);
}
