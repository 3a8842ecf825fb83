//! Copies of a store: whole while others write, noticed when they come back, and taken into use without
//! anything being done twice.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod given;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use futures_executor::block_on;
use imbabot_bot::{DeliveryId, Policy};
use imbabot_core::RoomId;
use imbabot_store::*;

use given::{RULES, at, widget};

fn message(key: &str, room: u64, policy: Policy, not_before: Option<i64>) -> NewDelivery {
    let (not_before, expires_at) = (not_before.map(at), at(100_000));
    NewDelivery { policy, not_before, expires_at, ..given::message(key, room) }
}

fn open(path: &Path) -> Result<SqliteStore> {
    SqliteStore::open(path, Role::Daemon, Bodies::Full)
}

/// A run that leaves everything half done: a message of each kind, an event, a timer, a schedule.
fn interrupted(path: &Path) -> SqliteStore {
    let store = open(path).unwrap();
    let begun = block_on(store.begin(at(0), "1", RULES)).unwrap();
    let bot = "b".parse().unwrap();
    block_on(store.adopt_bots(at(0), std::slice::from_ref(&bot))).unwrap();
    let sent = [
        message("once", 1, Policy::AtMostOnce, None),
        message("again", 2, Policy::AtLeastOnce, None),
    ];
    block_on(store.enqueue(at(0), sent.to_vec())).unwrap();
    let claim = |now| ClaimRequest {
        now,
        incarnation: begun.incarnation,
        widgets: vec![widget()],
        only: None,
    };
    assert_eq!(block_on(store.claim(claim(at(1)))).unwrap().deliveries.len(), 1);
    assert_eq!(block_on(store.claim(claim(at(2)))).unwrap().deliveries.len(), 1);
    let lost = Settled {
        delivery: DeliveryId::of_key("again"),
        attempt: 1,
        class: Class::Ambiguous,
        code: "connection_lost".into(),
        http_status: None,
        detail: String::new(),
        next: Next::Unknown,
    };
    block_on(store.settle(at(3), RULES, vec![lost])).unwrap();
    let waiting = [
        message("due", 3, Policy::AtMostOnce, None),
        message("later", 4, Policy::AtMostOnce, Some(5_000)),
    ];
    block_on(store.enqueue(at(4), waiting.to_vec())).unwrap();
    let adopted = AdoptSchedule { key: "s".into(), definition: "d".into() };
    block_on(store.adopt_schedules(at(0), vec![adopted])).unwrap();
    let target = |room| Target { widget: "w".parse().unwrap(), room: RoomId(room) };
    let event = NewEvent {
        widget: "w".parse().unwrap(),
        at: at(10),
        body: EventBody::Timer { key: "k".into(), occurrence: None },
        recipients: vec![bot],
    };
    let commit = OccurrenceCommit {
        key: "s".into(),
        now: at(10),
        from: at(0),
        through: at(10),
        occurrences: vec![NewOccurrence {
            id: format!("s@{}", at(10).compact()),
            nominal_at: at(10),
            outcome: OccurrenceOutcome::Fired,
            reason: None,
            targets: vec![target(5), target(6)],
            events: vec![event],
        }],
        ranges: Vec::new(),
    };
    assert!(block_on(store.commit_occurrences(commit)).unwrap());
    store
}

fn standing(store: &SqliteStore) -> Vec<(String, String)> {
    let mut all = block_on(store.deliveries(&DeliveryFilter::default())).unwrap();
    all.reverse();
    all.into_iter()
        .map(|one| {
            let reason = one.reason.map(|reason| format!("({reason})")).unwrap_or_default();
            (one.key, format!("{}{reason}", one.state.as_str()))
        })
        .collect()
}

fn contradictions(store: &SqliteStore) -> Vec<String> {
    let mut mark = Some(InspectionMark::default());
    let mut found = Vec::new();
    while let Some(at) = mark.take() {
        let batch = block_on(store.inspect(at, 100)).unwrap();
        found.extend(batch.found);
        mark = batch.next;
    }
    found
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    /// Puts a copy where the store was, and nothing else of it.
    fn put(&self, copy: &str) {
        for name in ["imbabot.db-wal", "imbabot.db-shm"] {
            let _ = std::fs::remove_file(self.path(name));
        }
        std::fs::copy(self.path(copy), self.path("imbabot.db")).unwrap();
    }
}

fn refused(path: &Path) -> String {
    let Err(error) = open(path) else { panic!("an old copy was taken for the store") };
    assert_eq!(*error.kind(), ErrorKind::Restored);
    assert_eq!(error.code(), "IMB-S-RESTORED");
    error.to_string()
}

#[test]
fn a_copy_is_whole_private_and_says_that_it_is_one() {
    let folder = Folder::new();
    let store = interrupted(&folder.path("imbabot.db"));
    let copied = block_on(store.backup(&folder.path("copy.db"), at(20))).unwrap();
    assert_eq!(copied.bytes, std::fs::metadata(folder.path("copy.db")).unwrap().len());
    let mode = std::fs::metadata(folder.path("copy.db")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(block_on(store.care()).unwrap()[0].what, CareKind::Backup);

    let copy = SqliteStore::open(&folder.path("copy.db"), Role::Visitor, Bodies::Full).unwrap();
    assert_eq!(standing(&copy), standing(&store));
    let told = block_on(copy.info()).unwrap();
    assert_eq!((told.copied_at, told.seq), (Some(at(20)), copied.seq));
    assert_eq!(block_on(store.info()).unwrap().copied_at, None);
    drop(copy);
    let names: Vec<_> = std::fs::read_dir(folder.0.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("copy"))
        .collect();
    assert_eq!(names, ["copy.db"], "one file, and nothing beside it");
}

#[test]
fn a_copy_is_never_written_over_a_file_and_leaves_nothing_where_it_fails() {
    let folder = Folder::new();
    let store = interrupted(&folder.path("imbabot.db"));
    std::fs::write(folder.path("mine"), "precious").unwrap();
    assert!(block_on(store.backup(&folder.path("mine"), at(20))).is_err());
    assert_eq!(std::fs::read_to_string(folder.path("mine")).unwrap(), "precious");
    let nowhere = folder.path("nowhere/copy.db");
    let error = block_on(store.backup(&nowhere, at(20))).unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
    assert!(block_on(store.care()).unwrap().is_empty());
}

#[test]
fn an_old_copy_is_refused_however_it_was_made() {
    let folder = Folder::new();
    let path = folder.path("imbabot.db");
    let store = interrupted(&path);
    block_on(store.backup(&folder.path("backup.db"), at(20))).unwrap();
    drop(store);
    // By hand, of a store at rest: nothing in it says that it is a copy.
    std::fs::copy(&path, folder.path("by-hand.db")).unwrap();
    let store = open(&path).unwrap();
    block_on(store.begin(at(30), "1", RULES)).unwrap();
    drop(store);
    open(&path).unwrap();

    folder.put("backup.db");
    assert!(refused(&path).contains("made by `store backup` at"));
    folder.put("by-hand.db");
    assert!(refused(&path).contains("its ledger ends at"));
    // To look is allowed.
    SqliteStore::open(&path, Role::Visitor, Bodies::Full).unwrap();
}

#[test]
fn an_old_copy_of_the_same_run_is_refused_by_what_the_daemon_signed_since() {
    let folder = Folder::new();
    let path = folder.path("imbabot.db");
    let store = interrupted(&path);
    drop(store);
    std::fs::copy(&path, folder.path("by-hand.db")).unwrap();
    let store = open(&path).unwrap();
    block_on(store.enqueue(at(40), vec![message("new", 9, Policy::AtMostOnce, None)])).unwrap();
    block_on(store.sign(SignOfLife { at: at(41), stopped: false, status: "{}".into() })).unwrap();
    drop(store);
    folder.put("by-hand.db");
    refused(&path);
}

#[test]
fn the_store_itself_is_never_taken_for_a_copy() {
    let folder = Folder::new();
    let path = folder.path("imbabot.db");
    drop(interrupted(&path));
    for n in 0..3 {
        let store = open(&path).unwrap();
        let begun = block_on(store.begin(at(100 + n), "1", RULES)).unwrap();
        block_on(store.end(begun.incarnation, at(101 + n))).unwrap();
    }
    // Moved to another place with nothing but its file.
    std::fs::copy(&path, folder.path("moved.db")).unwrap();
    open(&folder.path("moved.db")).unwrap();
    // Removed on purpose: the next one is another store.
    for name in ["imbabot.db", "imbabot.db-wal", "imbabot.db-shm"] {
        let _ = std::fs::remove_file(folder.path(name));
    }
    let store = open(&path).unwrap();
    block_on(store.begin(at(200), "1", RULES)).unwrap();
    drop(store);
    open(&path).unwrap();
    // What is no witness says nothing.
    std::fs::write(folder.path("imbabot.db.seen"), "garbage").unwrap();
    open(&path).unwrap();
}

#[test]
fn a_copy_that_is_taken_into_use_does_nothing_again_that_may_have_been_done() {
    let folder = Folder::new();
    let path = folder.path("imbabot.db");
    let store = interrupted(&path);
    let copied = block_on(store.backup(&folder.path("backup.db"), at(20))).unwrap();
    drop(store);
    folder.put("backup.db");
    refused(&path);

    let done = block_on(SqliteStore::reanchor(&path, Bodies::Full, at(1_000))).unwrap();
    assert_eq!(
        done,
        Reanchored {
            cancelled: 1,
            unresolved: 2,
            kept: 1,
            ignored: 1,
            dropped_wakes: 0,
            schedules: 1
        }
    );
    let store = open(&path).unwrap();
    let stands = |key: &str, how: &str| (key.to_owned(), how.to_owned());
    assert_eq!(
        standing(&store),
        [
            stands("once", "unknown(process_died)"),
            stands("again", "dead(unresolved)"),
            stands("due", "dead(cancelled)"),
            stands("later", "queued"),
        ]
    );
    assert_eq!(contradictions(&store), Vec::<String>::new());
    let cursors = block_on(store.cursors()).unwrap();
    assert_eq!(cursors[0].fired_through, at(1_000));
    let line = block_on(store.ledger(copied.seq, 1)).unwrap().remove(0);
    assert!(line.seq > copied.seq, "numbers are not given twice");
    assert_eq!(block_on(store.info()).unwrap().copied_at, None);
    drop(store);

    // Once more changes nothing; and the copy is refused again where it comes back.
    let again = block_on(SqliteStore::reanchor(&path, Bodies::Full, at(1_001))).unwrap();
    assert_eq!((again.cancelled, again.unresolved, again.kept), (0, 0, 1));
    open(&path).unwrap();
    folder.put("backup.db");
    refused(&path);
}

#[test]
fn what_was_queued_under_a_clock_ahead_may_have_been_sent_after_the_copy() {
    let folder = Folder::new();
    let path = folder.path("imbabot.db");
    let store = interrupted(&path);
    let ahead = message("ahead", 7, Policy::AtMostOnce, None);
    let due = NewDelivery { expires_at: at(600_000), ..ahead };
    block_on(store.enqueue(at(500_000), vec![due])).unwrap();
    drop(store);
    let done = block_on(SqliteStore::reanchor(&path, Bodies::Full, at(1_000))).unwrap();
    assert_eq!((done.cancelled, done.kept), (2, 1), "it was due by every clock");
}

#[test]
fn a_kill_between_the_two_files_is_mended_by_doing_it_again() {
    let folder = Folder::new();
    let path = folder.path("imbabot.db");
    let store = interrupted(&path);
    block_on(store.backup(&folder.path("backup.db"), at(20))).unwrap();
    drop(store);
    let witness = std::fs::read(folder.path("imbabot.db.seen")).unwrap();
    folder.put("backup.db");
    block_on(SqliteStore::reanchor(&path, Bodies::Full, at(1_000))).unwrap();
    std::fs::write(folder.path("imbabot.db.seen"), witness).unwrap();
    assert!(refused(&path).contains("another one that ran here"));
    block_on(SqliteStore::reanchor(&path, Bodies::Full, at(1_001))).unwrap();
    open(&path).unwrap();
}

#[test]
fn a_store_of_the_fifth_step_is_upgraded_is_no_copy_and_is_guarded_from_then_on() {
    let folder = Folder::new();
    let path = folder.path("imbabot.db");
    drop(interrupted(&path));
    let hand = rusqlite::Connection::open(&path).unwrap();
    hand.execute_batch("DROP TABLE provenance; DROP TABLE care; PRAGMA user_version = 5").unwrap();
    drop(hand);
    std::fs::remove_file(folder.path("imbabot.db.seen")).unwrap();
    std::fs::copy(&path, folder.path("of-before.db")).unwrap();
    let store = open(&path).unwrap();
    assert_eq!(standing(&store).len(), 4);
    assert_eq!(block_on(store.info()).unwrap().copied_at, None);
    block_on(store.begin(at(30), "2", RULES)).unwrap();
    drop(store);
    open(&path).unwrap();
    folder.put("of-before.db");
    refused(&path);
}
