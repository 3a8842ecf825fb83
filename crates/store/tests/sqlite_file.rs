//! The store in a file: what any backend has to do, in the daemon's role and beside a daemon, and
//! what only a file can do: permissions, locks, damage, kills.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this is a test suite")]

use std::cell::RefCell;
use std::fs;
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier};
use std::task::{Context, Waker};
use std::thread;
use std::time::Duration;

use imbabot_bot::{DeliveryId, Policy};
use imbabot_core::{RoomId, Timestamp};
use imbabot_store::conformance::Backend;
use imbabot_store::{
    Bodies, Born, ClaimRequest, DeliveryFilter, DeliveryState, ErrorKind, Knowledge, Ledger,
    Lifecycle, NewDelivery, Operations, Outbox, Role, Settle, SignOfLife, SqliteStore, Store,
    WidgetClaim,
};
use tempfile::TempDir;

/// Stores in folders of their own, which go with this.
struct Files {
    role: Role,
    kept: RefCell<Vec<(Option<SqliteStore>, TempDir)>>,
}

impl Files {
    fn of(role: Role) -> Self {
        Self { role, kept: RefCell::default() }
    }

    fn make(&self, bodies: Bodies) -> Arc<dyn Store> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("imbabot.db");
        // Beside a daemon that does nothing.
        let daemon = (self.role == Role::Visitor)
            .then(|| SqliteStore::open(&path, Role::Daemon, bodies).unwrap());
        let store = SqliteStore::open(&path, self.role, bodies).unwrap();
        self.kept.borrow_mut().push((daemon, folder));
        Arc::new(store)
    }
}

impl Backend for Files {
    fn empty(&self) -> Arc<dyn Store> {
        self.make(Bodies::Full)
    }

    fn without_texts(&self) -> Arc<dyn Store> {
        self.make(Bodies::Hash)
    }

    fn sequences(&self) -> u32 {
        3
    }
}

mod daemon {
    imbabot_store::store_conformance!(crate::Files::of(imbabot_store::Role::Daemon));
}

mod visitor {
    imbabot_store::store_conformance!(crate::Files::of(imbabot_store::Role::Visitor));
}

const RULES: Settle = Settle {
    wait: Duration::from_secs(60),
    max_resends: 2,
    unresolved_after: Duration::from_secs(86_400),
};

fn run<T>(verb: impl Future<Output = imbabot_store::Result<T>>) -> T {
    futures_executor::block_on(verb).unwrap()
}

fn now() -> Timestamp {
    Timestamp::from_seconds(1_772_323_200)
}

fn message(key: &str) -> NewDelivery {
    NewDelivery {
        key: key.into(),
        widget: "w".parse().unwrap(),
        room: RoomId(1),
        sender: 1.into(),
        bot: None,
        event: None,
        occurrence: None,
        schedule: None,
        policy: Policy::AtMostOnce,
        text: format!("text of {key} {}", "x".repeat(100)),
        not_before: None,
        expires_at: now() + Duration::from_secs(3_600),
        born: Born::Queued,
        detail: None,
        report: false,
    }
}

fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("imbabot.db");
    (folder, path)
}

fn open(path: &Path, role: Role) -> imbabot_store::Result<SqliteStore> {
    SqliteStore::open(path, role, Bodies::Full)
}

/// How opening in this role fails.
fn failure(path: &Path, role: Role) -> imbabot_store::Error {
    match open(path, role) {
        Ok(_) => panic!("{} opens", path.display()),
        Err(error) => error,
    }
}

/// Opening is refused with this kind, and the file stays as it is.
fn assert_refused(path: &Path, roles: &[Role], kind: &ErrorKind) {
    let before = fs::read(path).unwrap();
    for role in roles {
        let error = failure(path, *role);
        assert_eq!(error.kind(), kind, "{error}");
        assert!(fs::read(path).unwrap() == before, "the file was changed");
    }
}

/// A closed store with some hundred rows.
fn filled() -> (TempDir, PathBuf) {
    let (folder, path) = place();
    let store = open(&path, Role::Daemon).unwrap();
    run(store.begin(now(), "1", RULES));
    run(store.enqueue(now(), (0..200).map(|n| message(&format!("k{n}"))).collect()));
    (folder, path)
}

fn log_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

/// The files as a kill at this instant would leave them.
fn as_after_a_kill(path: &Path) -> (TempDir, PathBuf) {
    let (folder, copy) = place();
    fs::copy(path, &copy).unwrap();
    if log_of(path).exists() {
        fs::copy(log_of(path), log_of(&copy)).unwrap();
    }
    (folder, copy)
}

fn claim(store: &SqliteStore, slots: usize) -> usize {
    let incarnation = run(store.begin(now(), "1", RULES)).incarnation;
    let widgets = vec![WidgetClaim {
        widget: "w".parse().unwrap(),
        slots,
        interval: Duration::ZERO,
        room_interval: Duration::ZERO,
    }];
    run(store.claim(ClaimRequest { now: now(), incarnation, widgets, only: None })).deliveries.len()
}

#[test]
fn every_file_is_for_its_owner_only_whatever_the_umask() {
    let before = rustix::process::umask(rustix::fs::Mode::empty());
    let (folder, path) = place();
    let store = open(&path, Role::Daemon).unwrap();
    run(store.enqueue(now(), vec![message("k")]));
    let modes: Vec<(String, u32)> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|e| (e.file_name().into_string().unwrap(), e.metadata().unwrap().permissions().mode()))
        .collect();
    rustix::process::umask(before);
    assert!(modes.iter().all(|(_, mode)| mode & 0o777 == 0o600), "{modes:?}");
    for ending in ["", "-wal", "-shm", ".lock", ".seen"] {
        let name = format!("imbabot.db{ending}");
        assert!(modes.iter().any(|(found, _)| *found == name), "{name} is missing in {modes:?}");
    }
    assert_eq!(modes.len(), 5, "{modes:?}");
}

#[test]
fn one_process_at_a_time_has_the_role_of_the_daemon() {
    let (_folder, path) = place();
    assert_eq!(SqliteStore::holder(&path), None);
    let daemon = open(&path, Role::Daemon).unwrap();
    let me = std::process::id();
    assert_eq!(SqliteStore::holder(&path), Some(me));
    for role in [Role::Daemon, Role::Brief] {
        let error = failure(&path, role);
        assert_eq!(*error.kind(), ErrorKind::Held { pid: Some(me), brief: false });
        assert!(error.to_string().contains(&me.to_string()), "{error}");
    }
    drop(daemon);
    assert_eq!(SqliteStore::holder(&path), None);
    let brief = open(&path, Role::Brief).unwrap();
    assert_eq!(
        *failure(&path, Role::Daemon).kind(),
        ErrorKind::Held { pid: Some(me), brief: true }
    );
    drop(brief);
    open(&path, Role::Daemon).unwrap();
}

#[test]
fn a_visitor_beside_the_daemon_sees_and_is_seen() {
    let (_folder, path) = place();
    let daemon = open(&path, Role::Daemon).unwrap();
    let visitor = open(&path, Role::Visitor).unwrap();
    // It may come for nothing, once.
    run(daemon.changed_by_another());
    assert!(!run(daemon.changed_by_another()));
    run(daemon.enqueue(now(), vec![message("of the daemon")]));
    assert!(!run(daemon.changed_by_another()), "its own writes");
    assert!(run(visitor.delivery(DeliveryId::of_key("of the daemon"))).is_some());
    run(visitor.enqueue(now(), vec![message("of the visitor")]));
    assert!(run(daemon.changed_by_another()));
    assert!(!run(daemon.changed_by_another()));
    assert!(run(daemon.delivery(DeliveryId::of_key("of the visitor"))).is_some());
    assert_eq!(claim(&daemon, 9), 1, "of one lane");
}

#[test]
fn a_visitor_makes_no_store() {
    let (folder, path) = place();
    let error = failure(&path, Role::Visitor);
    assert_eq!(*error.kind(), ErrorKind::Unusable, "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_file_that_is_no_store_is_refused_and_left_alone() {
    let (_folder, path) = place();
    let all = [Role::Daemon, Role::Brief, Role::Visitor];
    for garbage in [
        &b""[..],
        b"x",
        &b"This is a letter and not a database. ".repeat(300),
        &[0; 100],
        &[0; 8_192],
    ] {
        fs::write(&path, garbage).unwrap();
        assert_refused(&path, &all, &ErrorKind::Corrupt);
    }
    fs::remove_file(&path).unwrap();
    let foreign = rusqlite::Connection::open(&path).unwrap();
    foreign.execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES (1)").unwrap();
    drop(foreign);
    assert_refused(&path, &all, &ErrorKind::Corrupt);
    fs::remove_file(&path).unwrap();
    let foreign = rusqlite::Connection::open(&path).unwrap();
    foreign.execute_batch("PRAGMA user_version = 1; CREATE TABLE delivery (seq)").unwrap();
    drop(foreign);
    assert_refused(&path, &all, &ErrorKind::Corrupt);
}

#[test]
fn a_damaged_store_is_refused_and_never_replaced() {
    let (_folder, path) = filled();
    let whole = fs::read(&path).unwrap();
    let page = 4_096;
    assert!(whole.len() > 30 * page && whole.len() % page == 0);
    let refused = |damaged: &[u8]| {
        fs::write(&path, damaged).unwrap();
        assert_refused(&path, &[Role::Daemon], &ErrorKind::Corrupt);
    };
    let mut headless = whole.clone();
    headless[..100].fill(0);
    refused(&headless);
    headless[..16].copy_from_slice(b"SQLite format 3\0");
    refused(&headless);
    for length in [1, 99, 100, page, page + 1, whole.len() / 2, whole.len() - page] {
        refused(&whole[..length]);
    }
    // Whichever page it is.
    for start in (0..whole.len()).step_by(page) {
        let mut flipped = whole.clone();
        flipped[start..start + page].iter_mut().for_each(|byte| *byte ^= 0xff);
        refused(&flipped);
    }
    fs::write(&path, &whole).unwrap();
    let store = open(&path, Role::Daemon).unwrap();
    assert_eq!(run(store.deliveries(&DeliveryFilter::default())).len(), 200);
}

#[test]
fn a_store_of_a_newer_program_is_refused_and_left_alone() {
    let (_folder, path) = filled();
    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.execute_batch("PRAGMA user_version = 999").unwrap();
    drop(raw);
    assert_refused(&path, &[Role::Daemon, Role::Brief, Role::Visitor], &ErrorKind::Newer);
}

#[test]
fn a_log_without_its_store_is_not_mixed_into_a_new_one() {
    let (_folder, path) = place();
    let store = open(&path, Role::Daemon).unwrap();
    run(store.enqueue(now(), vec![message("k")]));
    let (_other, copy) = as_after_a_kill(&path);
    fs::remove_file(&copy).unwrap();
    let error = failure(&copy, Role::Daemon);
    assert_eq!(*error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(!copy.exists());
}

#[test]
fn what_a_kill_left_of_making_a_store_is_no_hindrance() {
    let (folder, path) = place();
    for name in ["imbabot.db.new", "imbabot.db.new-journal"] {
        fs::write(folder.path().join(name), b"half of it").unwrap();
    }
    let store = open(&path, Role::Daemon).unwrap();
    run(store.enqueue(now(), vec![message("k")]));
    assert!(!folder.path().join("imbabot.db.new").exists());
}

#[test]
fn a_place_that_cannot_be_used_is_said_to_be_so() {
    let (folder, path) = place();
    let unusable = |path: &Path| {
        let error = failure(path, Role::Daemon);
        assert_eq!(*error.kind(), ErrorKind::Unusable, "{error}");
    };
    unusable(&folder.path().join("missing/imbabot.db"));
    unusable(folder.path());
    fs::write(&path, "a file").unwrap();
    unusable(&path.join("imbabot.db"));
    fs::remove_file(&path).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o500)).unwrap();
    // The superuser is bound by no permission.
    if !rustix::process::geteuid().is_root() {
        unusable(&path);
    }
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_store_of_another_user_is_refused() {
    let (_folder, path) = filled();
    // Only the superuser can give a file away.
    if std::os::unix::fs::chown(&path, Some(12_345), None).is_ok() {
        for role in [Role::Daemon, Role::Visitor] {
            let error = failure(&path, role);
            assert_eq!(*error.kind(), ErrorKind::Unusable);
            assert!(error.to_string().contains("12345"), "{error}");
        }
    }
}

#[test]
fn opened_again_everything_is_there() {
    let (_folder, path) = place();
    let store = open(&path, Role::Daemon).unwrap();
    run(store.enqueue(now(), (0..9).map(|n| message(&format!("k{n}"))).collect()));
    assert_eq!(claim(&store, 9), 1);
    let filter = DeliveryFilter::default();
    let before = (run(store.deliveries(&filter)), run(store.ledger(0, 1_000)));
    drop(store);
    for role in [Role::Daemon, Role::Visitor, Role::Brief, Role::Daemon] {
        let store = open(&path, role).unwrap();
        assert_eq!((run(store.deliveries(&filter)), run(store.ledger(0, 1_000))), before);
        assert_eq!(run(store.check_integrity(true)), None);
    }
    let store = open(&path, Role::Daemon).unwrap();
    assert_eq!((run(store.deliveries(&filter)), run(store.ledger(0, 1_000))), before);
    assert_eq!(run(store.begin(now(), "1", RULES)).turned_unknown, 1);
}

#[test]
fn whatever_had_returned_is_there_after_a_kill() {
    let (_folder, path) = place();
    let store = open(&path, Role::Daemon).unwrap();
    let mut kept = 0;
    for round in 0..6_usize {
        run(store.enqueue(
            now(),
            vec![NewDelivery { room: RoomId(round as u64), ..message(&format!("a{round}")) }],
        ));
        kept += 1;
        let sending = claim(&store, 1);
        let (_other, copy) = as_after_a_kill(&path);
        let survivor = open(&copy, Role::Daemon).unwrap();
        let all = run(survivor.deliveries(&DeliveryFilter::default()));
        assert_eq!(all.len(), kept);
        let before = run(store.ledger(0, 10_000));
        assert_eq!(run(survivor.ledger(0, 10_000)), before);
        let begun = run(survivor.begin(now(), "1", RULES));
        assert!(begun.after_crash);
        assert_eq!(begun.turned_unknown, sending as u64);
        let states = run(survivor.deliveries(&DeliveryFilter::default()));
        assert!(states.iter().all(|record| record.state != DeliveryState::Sending));
        assert_eq!(run(survivor.check_integrity(true)), None);
    }
}

#[test]
fn five_hundred_at_once_are_all_durable() {
    let (_folder, path) = place();
    let store = open(&path, Role::Daemon).unwrap();
    let threads = 20;
    let start = Barrier::new(threads);
    thread::scope(|scope| {
        for n in 0..threads {
            let (store, start) = (&store, &start);
            scope.spawn(move || {
                start.wait();
                for m in 0..25 {
                    let answer = run(store.enqueue(now(), vec![message(&format!("{n}/{m}"))]));
                    assert!(!answer[0].known);
                }
            });
        }
    });
    let (_other, copy) = as_after_a_kill(&path);
    let survivor = open(&copy, Role::Daemon).unwrap();
    assert_eq!(run(survivor.deliveries(&DeliveryFilter::default())).len(), 500);
    let lines = run(survivor.ledger(0, 10_000));
    assert_eq!(lines.len(), 500);
    assert!(lines.windows(2).all(|pair| pair[0].seq < pair[1].seq));
}

#[test]
fn what_was_asked_for_is_written_before_the_role_is_given_up() {
    let (_folder, path) = place();
    for round in 1..=10 {
        let store = open(&path, Role::Daemon).unwrap();
        let key = format!("k{round}");
        let mut verb = store.enqueue(now(), vec![message(&key)]);
        let _ = verb.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        drop(verb);
        drop(store);
        let store = open(&path, Role::Daemon).unwrap();
        assert_eq!(run(store.deliveries(&DeliveryFilter::default())).len(), round);
    }
}

#[test]
fn a_store_of_the_step_before_is_upgraded_with_its_queue_and_its_pauses() {
    let (_folder, path) = place();
    {
        let old = rusqlite::Connection::open(&path).unwrap();
        old.execute_batch(include_str!("../migrations/0001_foundation.sql")).unwrap();
        old.execute_batch(
            "PRAGMA application_id = 0x696d6261; PRAGMA user_version = 1;
             INSERT INTO pause VALUES ('widget/w', 5), ('bot/b', 6);
             INSERT INTO delivery (id, key, widget, room, sender, policy, text, text_sha256, state,
                 open, counts, created_at, not_before, expires_at, keeps)
             VALUES (unhex('00112233445566778899aabbccddeeff'), 'k', 'w', 1, '7', 'at_most_once',
                 'text', 'hash', 'queued', 1, 0, 1, 1, 9000000000000000, 1);
             INSERT INTO lane VALUES ('w', 1, '7', 1);
             INSERT INTO ledger (kind, id, at, body) VALUES
                 ('delivery', 'ffffffffffffffffffffffffffffffff', 1, '{}'),
                 ('attempt', 'ffffffffffffffffffffffffffffffff/1', 1, '{}'),
                 ('event', 'e1/b', 1, '{}'), ('occurrence', 's@x', 1, '{}');",
        )
        .unwrap();
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(*failure(&path, Role::Visitor).kind(), ErrorKind::Unusable, "only `run` upgrades");
    let store = open(&path, Role::Daemon).unwrap();
    let left = run(store.ledger(0, 99));
    assert!(left.is_empty(), "a line without its record: {left:?}");
    let paused: Vec<String> = run(store.paused()).iter().map(ToString::to_string).collect();
    assert_eq!(paused, ["bot/b", "widget/w"]);
    assert_eq!(claim(&store, 10), 0, "the pause holds");
    let widget = imbabot_store::PauseScope::Widget("w".parse().unwrap());
    assert!(run(store.pause(now(), &widget, false)));
    assert_eq!(claim(&store, 10), 1);
}

/// The steps, as they were when each was the newest.
const STEPS: [&str; 5] = [
    include_str!("../migrations/0001_foundation.sql"),
    include_str!("../migrations/0002_explanations.sql"),
    include_str!("../migrations/0003_capabilities.sql"),
    include_str!("../migrations/0004_message_numbers.sql"),
    include_str!("../migrations/0005_sign_of_life.sql"),
];

/// A store as that step left it.
fn of_step(path: &Path, step: usize) -> rusqlite::Connection {
    let old = rusqlite::Connection::open(path).unwrap();
    STEPS[..step].iter().for_each(|step| old.execute_batch(step).unwrap());
    let version = format!("PRAGMA application_id = 0x696d6261; PRAGMA user_version = {step}");
    old.execute_batch(&version).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    old
}

/// A store as the second step left it, in which this is paused.
fn of_step_two(path: &Path, paused: &str) {
    let old = of_step(path, 2);
    old.execute("INSERT INTO stoppage (scope, reason, since) VALUES (?1, 'paused', 5)", [paused])
        .unwrap();
}

#[test]
fn a_store_of_the_third_or_fourth_step_is_upgraded_with_its_queue_and_what_it_knows_of_servers() {
    for step in [3, 4] {
        let (_folder, path) = place();
        // As that version wrote it: what is learned since was not known then.
        of_step(&path, step)
            .execute_batch(
                "INSERT INTO capability VALUES ('w', 'polls', 5, '{\"updated_at_moves\":true,\"filters\":{},
                     \"rooms\":{\"rows\":7,\"most\":9,\"bytes\":2100,\"milliseconds\":12,\"pages\":1}}');
                 INSERT INTO stoppage (scope, reason, since) VALUES ('bot/b', 'paused', 5);
                 INSERT INTO delivery (id, key, widget, room, sender, policy, text, text_sha256, state,
                     open, counts, created_at, not_before, expires_at, keeps)
                 VALUES (unhex('00112233445566778899aabbccddeeff'), 'k', 'w', 1, '7', 'at_most_once',
                     'text', 'hash', 'queued', 1, 0, 1, 1, 9000000000000000, 1);
                 INSERT INTO lane (widget, room, sender, ready_at) VALUES ('w', 1, '7', 1);",
            )
            .unwrap();
        let visitor = failure(&path, Role::Visitor);
        assert_eq!(*visitor.kind(), ErrorKind::Unusable, "only `run` upgrades");
        let store = open(&path, Role::Daemon).unwrap();
        let learned = run(store.learned());
        let known = &learned[0].capabilities;
        assert_eq!(known.rooms.as_ref().map(|rooms| (rooms.rows, rooms.most)), Some((7, 9)));
        assert!(known.updated_at_moves);
        assert_eq!(known.activity, imbabot_bot::ActivitySignal::Unknown);
        assert_eq!(run(store.paused()).len(), 1);
        assert_eq!(run(store.last_sign()), None);
        assert_eq!(claim(&store, 10), 1, "what waited goes on waiting and then goes");
        drop(store);
        let version: i64 = rusqlite::Connection::open(&path)
            .unwrap()
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .unwrap();
        assert!(version >= 5, "{version}");
        run(open(&path, Role::Daemon).unwrap().learn(learned[0].clone()));
    }
}

#[test]
fn a_store_of_the_second_step_is_upgraded_and_knows_nothing_of_servers_yet() {
    let (_folder, path) = place();
    of_step_two(&path, "widget/w");
    let store = open(&path, Role::Daemon).unwrap();
    assert_eq!(run(store.paused()).len(), 1);
    assert_eq!(run(store.learned()), []);
    let learned = imbabot_store::Learned {
        widget: "w".parse().unwrap(),
        source: imbabot_store::Source::Polls,
        at: now(),
        capabilities: imbabot_store::Capabilities::default(),
    };
    run(store.learn(learned.clone()));
    drop(store);
    assert_eq!(run(open(&path, Role::Visitor).unwrap().learned()), [learned]);
}

#[test]
fn a_store_of_step_two_is_upgraded_and_knows_of_no_sign_of_life() {
    let (_folder, path) = place();
    of_step_two(&path, "all");
    assert_eq!(*failure(&path, Role::Visitor).kind(), ErrorKind::Unusable, "only `run` upgrades");
    let store = open(&path, Role::Daemon).unwrap();
    assert_eq!(run(store.paused()), [imbabot_store::PauseScope::All]);
    assert_eq!(run(store.last_sign()), None);
    let sign = SignOfLife { at: now(), stopped: false, status: "{}".into() };
    run(store.sign(sign.clone()));
    assert_eq!(run(open(&path, Role::Visitor).unwrap().last_sign()), Some(sign));
}

#[test]
fn the_daemons_own_sign_of_life_is_no_change_by_another() {
    let (_folder, path) = place();
    let store = open(&path, Role::Daemon).unwrap();
    run(store.changed_by_another());
    for n in 0..20 {
        let sign = SignOfLife { at: now(), stopped: false, status: n.to_string() };
        run(store.sign(sign));
        assert!(!run(store.changed_by_another()));
    }
    let beside = open(&path, Role::Visitor).unwrap();
    run(beside.pause(now(), &imbabot_store::PauseScope::All, true));
    assert!(run(store.changed_by_another()));
}

#[test]
fn a_verb_that_holds_the_role_for_a_moment_is_no_daemon() {
    let (_folder, path) = place();
    let brief = open(&path, Role::Brief).unwrap();
    assert_eq!(SqliteStore::holder(&path), Some(std::process::id()));
    assert_eq!(SqliteStore::daemon(&path), None);
    drop(brief);
    let daemon = open(&path, Role::Daemon).unwrap();
    let found = SqliteStore::daemon(&path).unwrap();
    assert_eq!((found.pid, found.brief), (std::process::id(), false));
    drop(daemon);
    assert_eq!(SqliteStore::daemon(&path), None);
}

#[test]
fn whoever_only_asks_for_the_daemon_keeps_none_from_starting() {
    let (_folder, path) = place();
    drop(open(&path, Role::Daemon).unwrap());
    let done = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let _ = SqliteStore::daemon(&path);
                }
            });
        }
        let opened: Vec<_> = (0..200).map(|_| open(&path, Role::Daemon).map(drop)).collect();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        let refused = opened.into_iter().find_map(Result::err);
        assert!(refused.is_none(), "{refused:?}");
    });
}

#[test]
fn a_hand_in_the_database_is_found_out() {
    let (_folder, path) = place();
    let store = open(&path, Role::Daemon).unwrap();
    run(store.begin(now(), "1", RULES));
    run(store.enqueue(now(), vec![message("k"), message("l")]));
    claim(&store, 1);
    assert!(run(store.strays(9)).is_empty());
    let hand = rusqlite::Connection::open(&path).unwrap();
    hand.execute("UPDATE delivery SET state = 'delivered' WHERE key = 'k'", []).unwrap();
    hand.execute("UPDATE attempt SET class = 'delivered'", []).unwrap();
    let found = run(store.strays(9));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("is delivered, its last line says sending"), "{found:?}");
    assert!(found[1].contains("is delivered, its last line says open"), "{found:?}");
}

#[test]
fn a_message_that_somebody_took_out_of_the_database_is_missed() {
    let (_folder, path) = place();
    let store = open(&path, Role::Daemon).unwrap();
    run(store.begin(now(), "1", RULES));
    run(store.enqueue(now(), vec![message("k"), message("l")]));
    let hand = rusqlite::Connection::open(&path).unwrap();
    hand.execute("DELETE FROM delivery WHERE key = 'l'", []).unwrap();
    let found = run(store.strays(9));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("is not there, its last line says queued"), "{found:?}");
}

#[test]
fn a_write_by_another_process_stirs_the_store_at_once() {
    let (_folder, path) = place();
    let store = std::sync::Arc::new(open(&path, Role::Daemon).unwrap());
    run(store.changed_by_another());
    let beside = open(&path, Role::Visitor).unwrap();
    run(beside.pause(now(), &imbabot_store::PauseScope::All, true));
    let (said, heard) = std::sync::mpsc::channel();
    let listening = std::sync::Arc::clone(&store);
    std::thread::spawn(move || {
        futures_executor::block_on(listening.stirred());
        said.send(()).unwrap();
    });
    heard.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(run(store.changed_by_another()));
}

#[test]
fn a_store_that_is_closed_leaves_no_thread_behind() {
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().filter_map(Result::ok);
    let watching = |id: &std::fs::DirEntry| {
        std::fs::read_to_string(id.path().join("comm"))
            .is_ok_and(|name| name.trim() == "store-watch")
    };
    let (_folder, path) = place();
    // Other tests have stores too: only that none is left over for each of many is to be seen.
    for _ in 0..50 {
        drop(open(&path, Role::Daemon).unwrap());
    }
    assert!(threads().filter(watching).count() < 30);
}

#[test]
fn who_has_the_role_and_has_not_said_its_name_yet_is_waited_for() {
    let (_folder, path) = place();
    drop(open(&path, Role::Daemon).unwrap());
    let lock = path.with_file_name(format!("{}.lock", path.file_name().unwrap().to_str().unwrap()));
    let held = std::fs::File::options().read(true).write(true).open(&lock).unwrap();
    held.lock().unwrap();
    // Nothing is written yet; the name of one that was killed still stands there.
    for (says, pid) in [("", None), ("4194305 daemon\n", Some(4_194_305))] {
        std::fs::write(&lock, says).unwrap();
        let error = failure(&path, Role::Daemon);
        assert_eq!(*error.kind(), ErrorKind::Held { pid, brief: true }, "{says:?}");
    }
    std::fs::write(&lock, format!("{} daemon\n", std::process::id())).unwrap();
    let me = Some(std::process::id());
    assert_eq!(*failure(&path, Role::Daemon).kind(), ErrorKind::Held { pid: me, brief: false });
}
