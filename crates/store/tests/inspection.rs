//! The inspection of a store: nothing to say of a whole one, and a sentence for every lie that a hand in
//! the database told.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod given;

use imbabot_store::*;

use given::found;

/// A store with a delivery that was delivered, one that waits, an occurrence and a run.
fn lived_in() -> (tempfile::TempDir, SqliteStore, rusqlite::Connection) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("imbabot.db");
    let store = SqliteStore::open(&path, Role::Daemon, Bodies::Full).unwrap();
    given::lived_in(&store);
    let hand = rusqlite::Connection::open(&path).unwrap();
    (folder, store, hand)
}

#[test]
fn a_store_that_was_lived_in_has_no_contradiction() {
    let (_folder, store, _hand) = lived_in();
    for batch in [1, 2, 500] {
        assert_eq!(found(&store, batch), [""; 0]);
    }
}

#[test]
fn every_lie_is_found_in_its_own_words() {
    for (lie, words) in [
        (
            "UPDATE delivery SET state = 'delivered', open = 0, server_message_id = 5
          WHERE key = 'waits'",
            "is delivered, and none of its 0 attempts says so",
        ),
        ("DELETE FROM attempt", "is delivered, and none of its 0 attempts says so"),
        ("UPDATE delivery SET state = 'lost' WHERE key = 'waits'", "is lost, which is no state"),
        (
            "UPDATE delivery SET reason = 'because' WHERE key = 'waits'",
            "is queued because of because",
        ),
        ("UPDATE delivery SET server_message_id = NULL", "is delivered as no message"),
        (
            "INSERT INTO attempt (delivery, n, incarnation, started_at, class)
          SELECT delivery, 2, 1, 0, 'delivered' FROM attempt",
            "may be there more than once",
        ),
        ("UPDATE attempt SET n = 2", "has 1 attempts, the last is number 2"),
        ("UPDATE attempt SET class = NULL", "1 of its attempts are open"),
        ("UPDATE delivery SET open = 0 WHERE key = 'waits'", "its lane does not know of it"),
        ("DELETE FROM lane", "waits in a lane that nobody looks at"),
        (
            "UPDATE ledger SET body = json_set(body, '$.state', 'dead')
          WHERE kind = 'delivery' AND body ->> 'state' = 'sending'",
            "went from dead to delivered",
        ),
        (
            "UPDATE ledger SET body = json_set(body, '$.state', 'unknown')
          WHERE kind = 'delivery' AND body ->> 'state' = 'sending'",
            "went from queued to unknown",
        ),
        (
            "UPDATE delivery SET occurrence = 's@2026-03-02T00:00:00Z', schedule = 's'
          WHERE key = 'waits'",
            "belongs to s@2026-03-02T00:00:00Z, which is not there",
        ),
        ("UPDATE attempt SET incarnation = 9", "is of a run that is not there"),
        ("DELETE FROM delivery WHERE key = 'sent'", "belongs to no delivery"),
        ("DELETE FROM delivery WHERE key = 'waits'", ", which is not there"),
        ("UPDATE occurrence SET nominal_at = nominal_at - 50000000", "lies in a run, too"),
        ("UPDATE occurrence SET outcome = 'fired'", "is fired because of no_rooms"),
        ("UPDATE schedule SET missed = 7", "says that 7 were missed, a recount finds 9"),
        (
            "INSERT INTO ledger (kind, id, at, body)
          SELECT kind, id, at, body FROM ledger WHERE kind = 'range'",
            "lies in two runs",
        ),
        ("UPDATE ledger SET body = 'nonsense' WHERE seq = 1", "line 1 cannot be read"),
        ("UPDATE ledger SET body = 'nonsense' WHERE kind = 'delivery'", "cannot be read"),
        (
            "UPDATE delivery_count SET present = 4 WHERE state = 'queued'",
            "4 are counted as queued , a recount finds 1",
        ),
        (
            "DELETE FROM delivery_count WHERE state = 'queued'",
            "none of the deliveries is counted as queued",
        ),
        (
            "UPDATE delivery SET possible_duplicate = 1; UPDATE doubled_count SET total = 0",
            "fewer deliveries are counted as possible duplicates",
        ),
    ] {
        let (_folder, store, hand) = lived_in();
        hand.execute_batch(lie).unwrap();
        let sorted = |batch| {
            let mut told = found(&store, batch);
            told.sort();
            told.dedup();
            told
        };
        let told = sorted(500);
        assert!(told.iter().any(|one| one.contains(words)), "{lie}\n{told:#?}");
        assert_eq!(told, sorted(1), "{lie}: it does not depend on the batches");
    }
}
