//! Instances, visitors and the server's own peculiarities in each other's way: what must not be lost,
//! stuck, or waited for.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this is a test suite")]
#![allow(clippy::disallowed_methods, reason = "real locks are waited for")]

mod given;
mod postgres_support;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use futures_executor::block_on;
use imbabot_bot::DeliveryId;
use imbabot_store::*;

use given::{RULES, at, message, widget};
use postgres_support::{Database, Hand, database};

const LEASE: Duration = Duration::from_secs(10);

/// Two instances on one schema, and a hand in it.
fn two(database: &Database) -> (Arc<PostgresStore>, Arc<PostgresStore>, Hand) {
    let schema = database.name();
    let one = database.connect(&schema, Bodies::Full, LEASE).temporary(&schema);
    let two = database.open(&schema, Bodies::Full, LEASE);
    (Arc::new(one), two, Hand::new(&database.url, &schema))
}

fn request(incarnation: IncarnationId, seconds: i64) -> ClaimRequest {
    ClaimRequest { now: at(seconds), incarnation, widgets: vec![widget()], only: None }
}

#[test]
fn what_a_run_that_ended_by_itself_left_sending_does_not_stay_so() {
    let Some(database) = database() else { return };
    let (one, two, hand) = two(database);
    let first = block_on(one.begin(at(0), "1", RULES)).unwrap().incarnation;
    let second = block_on(two.begin(at(0), "1", RULES)).unwrap().incarnation;
    block_on(one.enqueue(at(0), vec![message("k", 1), message("next", 1)])).unwrap();
    // As when nobody waits any more for a claim that is being committed.
    assert_eq!(block_on(one.claim(request(first, 1))).unwrap().deliveries.len(), 1);
    block_on(one.end(first, at(2))).unwrap();
    block_on(two.heartbeat(second, &[], RULES)).unwrap();
    let left = block_on(two.delivery(DeliveryId::of_key("k"))).unwrap().unwrap();
    assert_eq!(left.state, DeliveryState::Unknown);
    let ready = hand.ask("SELECT (ready_at IS NOT NULL)::text FROM lane").unwrap();
    assert_eq!(ready, "true", "its lane goes on");
}

#[test]
fn a_visitors_lines_are_noticed_beside_our_own_that_are_not_committed_yet() {
    let Some(database) = database() else { return };
    let (one, two, hand) = two(database);
    hand.run("BEGIN; LOCK TABLE stoppage IN SHARE MODE");
    let beginning = Arc::clone(&one);
    let begun = thread::spawn(move || block_on(beginning.begin(at(0), "1", RULES)).unwrap());
    hand.until_waited_for();
    // The line of the run has its number.
    block_on(one.changed_by_another()).unwrap();
    hand.run("COMMIT");
    begun.join().unwrap();
    block_on(two.enqueue(at(1), vec![message("k", 1)])).unwrap();
    assert!(block_on(one.changed_by_another()).unwrap());
    assert!(!block_on(one.changed_by_another()).unwrap());
    block_on(one.enqueue(at(1), vec![message("l", 1)])).unwrap();
    assert!(!block_on(one.changed_by_another()).unwrap(), "that was we");
}

#[test]
fn after_very_many_starts_a_message_that_waited_is_claimed_all_the_same() {
    let Some(database) = database() else { return };
    let (one, _two, hand) = two(database);
    block_on(one.enqueue(at(0), vec![message("k", 1)])).unwrap();
    hand.run(
        "INSERT INTO incarnation (started_at, ended_at, clean, version)
         SELECT 1772323200000000 + n * 1000, 1772323200000000 + n * 1000 + 500, FALSE, '1'
         FROM generate_series(1, 25000) AS n",
    );
    let run = block_on(one.begin(at(60), "1", RULES)).unwrap().incarnation;
    let begun = Instant::now();
    assert_eq!(block_on(one.claim(request(run, 61))).unwrap().deliveries.len(), 1);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[test]
fn who_reads_the_ledger_holds_up_no_writer() {
    let Some(database) = database() else { return };
    let (one, two, hand) = two(database);
    block_on(one.begin(at(0), "1", RULES)).unwrap();
    let since = block_on(two.ledger(0, 99)).unwrap().last().unwrap().seq;
    // As a verb of ours would that is slow, such as a large prune.
    hand.run("BEGIN; LOCK TABLE ledger_door IN ROW EXCLUSIVE MODE");
    hand.ask("SELECT nextval(pg_get_serial_sequence('ledger', 'seq'))::text").unwrap();
    let reading = Arc::clone(&two);
    let read = thread::spawn(move || block_on(reading.ledger(since, 99)).unwrap());
    thread::sleep(Duration::from_millis(100));
    for n in 0..5 {
        let begun = Instant::now();
        block_on(one.enqueue(at(1), vec![message(&format!("k{n}"), 1)])).unwrap();
        assert!(begun.elapsed() < Duration::from_millis(700), "{:?}", begun.elapsed());
    }
    assert!(!read.is_finished(), "it waits for the slow one");
    hand.run("COMMIT");
    // What was given out when it asked, and no more.
    read.join().unwrap();
    assert_eq!(block_on(two.ledger(since, 99)).unwrap().len(), 5);
}

#[test]
fn what_waits_for_a_lock_does_not_cost_an_instance_its_lease() {
    let Some(database) = database() else { return };
    let (one, _two, hand) = two(database);
    let run = block_on(one.begin(at(0), "1", RULES)).unwrap().incarnation;
    block_on(one.enqueue(at(0), vec![message("k", 1)])).unwrap();
    hand.run("BEGIN; SELECT 1 FROM lane FOR UPDATE");
    let waiting: Vec<_> = (0..20)
        .map(|n| {
            let store = Arc::clone(&one);
            thread::spawn(move || {
                block_on(store.enqueue(at(1), vec![message(&format!("k{n}"), 1)])).unwrap();
            })
        })
        .collect();
    hand.until_waited_for();
    thread::sleep(Duration::from_millis(200));
    let begun = Instant::now();
    block_on(one.heartbeat(run, &[], RULES)).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    hand.run("COMMIT");
    waiting.into_iter().for_each(|one| one.join().unwrap());
}

#[test]
fn who_prunes_and_who_claims_do_not_wait_for_each_other_in_a_circle() {
    let Some(database) = database() else { return };
    let (one, _two, hand) = two(database);
    let begun = block_on(one.begin(at(0), "1", RULES)).unwrap();
    assert!(!begun.after_crash);
    hand.run("INSERT INTO rate (key, tat) VALUES ('widget/w/1', 1)");
    // As a claim does it: what is paused first, and at last the rates.
    hand.run("BEGIN; LOCK TABLE stoppage IN SHARE MODE");
    let pruning = Arc::clone(&one);
    let pruned = thread::spawn(move || block_on(pruning.prune(at(9), at(8), 9)).unwrap());
    for _ in 0..20 {
        if pruned.is_finished() {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    hand.run(
        "SET LOCAL deadlock_timeout = '200ms';
         INSERT INTO rate (key, tat) VALUES ('widget/w/1', 2)
         ON CONFLICT (key) DO UPDATE SET tat = excluded.tat; COMMIT",
    );
    pruned.join().unwrap();
}

#[test]
fn no_index_depends_on_the_collations_of_a_machine() {
    let Some(database) = database() else { return };
    let (_one, _two, hand) = two(database);
    let found = hand.ask(&format!(
        "SELECT string_agg(DISTINCT c.relname || '.' || a.attname, ' ') FROM pg_index x
             JOIN pg_class c ON c.oid = x.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
             CROSS JOIN unnest(x.indkey) AS k (n)
             JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.n
             JOIN pg_collation o ON o.oid = a.attcollation
         WHERE n.nspname = '{}' AND o.collname <> 'C'",
        hand.schema
    ));
    assert_eq!(found, None);
}

#[test]
fn a_database_that_cannot_hold_every_character_is_refused() {
    let Some(database) = database() else { return };
    let name = database.name();
    let (from, sql) = ("TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'", "CREATE DATABASE");
    database.run(&format!("{sql} \"{name}\" ENCODING 'LATIN1' {from}"));
    let (server, _) = database.url.rsplit_once('/').unwrap();
    let options = PostgresOptions {
        instance: "test".into(),
        lease: LEASE,
        bodies: Bodies::Full,
        unsafe_durability: true,
    };
    let opened =
        block_on(PostgresStore::open(&format!("{server}/{name}"), Role::Daemon, options)).map(drop);
    database.run(&format!("DROP DATABASE \"{name}\" WITH (FORCE)"));
    let refused = opened.unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::Unusable);
    assert!(refused.to_string().contains("LATIN1"), "{refused}");
}

#[test]
fn very_many_lanes_that_a_pause_held_go_again_and_very_many_messages_are_cancelled() {
    let Some(database) = database() else { return };
    let (one, two, hand) = two(database);
    for part in 0..5 {
        let rows = (1..=600).map(|n| message(&format!("k{part}/{n}"), part * 600 + n)).collect();
        block_on(one.enqueue(at(0), rows)).unwrap();
    }
    block_on(one.pause(at(1), &PauseScope::All, true)).unwrap();
    hand.run("UPDATE lane SET ready_at = NULL");
    // What is being sent stays as it is, and holds up nothing but itself for long.
    hand.run("BEGIN; SELECT 1 FROM lane WHERE room = 2000 FOR UPDATE");
    let resumed =
        thread::spawn(move || block_on(two.pause(at(2), &PauseScope::All, false)).unwrap());
    hand.until_waited_for();
    let other = Hand::new(&database.url, &hand.schema);
    let held = "SELECT count(*)::text FROM lane WHERE ready_at IS NULL";
    assert_eq!(other.ask(held).unwrap(), "2000", "the first ones go already");
    hand.run("COMMIT");
    assert!(resumed.join().unwrap());
    assert_eq!(hand.ask(held).unwrap(), "0");
    let filter = CancelFilter::State(DeliveryState::Queued);
    assert_eq!(block_on(one.cancel(at(3), &filter)).unwrap().len(), 3_000);
    assert_eq!(hand.ask("SELECT count(*)::text FROM lane").unwrap(), "0");
}
