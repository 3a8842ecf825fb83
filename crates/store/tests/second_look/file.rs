//! What only a real file shows: permissions, roles, damage, copies.
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use futures_executor::block_on;

use super::bench::{Bench, id, say, t};
use crate::{Bodies, ErrorKind, Lifecycle, Operations, Outbox, Role, SqliteStore};

fn open(path: &Path, role: Role) -> crate::Result<SqliteStore> {
    SqliteStore::open(path, role, Bodies::Full)
}

fn kind(result: crate::Result<SqliteStore>) -> ErrorKind {
    match result {
        Ok(_) => panic!("it opened"),
        Err(error) => error.kind().clone(),
    }
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("imbabot.sqlite");
    (folder, path)
}

/// A store with one delivery, closed.
fn filled() -> (tempfile::TempDir, PathBuf) {
    let (folder, path) = place();
    let store = open(&path, Role::Daemon).unwrap();
    block_on(store.enqueue(t(0), (0..200).map(|n| say(&n.to_string(), n)).collect())).unwrap();
    drop(store);
    (folder, path)
}

fn assert_corrupt_and_untouched(path: &Path) {
    for role in [Role::Daemon, Role::Brief] {
        let before = fs::read(path).unwrap();
        assert_eq!(kind(open(path, role)), ErrorKind::Corrupt);
        assert!(fs::read(path).unwrap() == before, "the file was changed");
    }
}

#[test]
fn every_file_is_private_whatever_the_umask() {
    let old = rustix::process::umask(rustix::fs::Mode::empty());
    let (folder, path) = place();
    let store = open(&path, Role::Daemon).unwrap();
    block_on(store.enqueue(t(0), vec![say("a", 1)])).unwrap();
    let mut names = Vec::new();
    for entry in fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", entry.path().display());
        names.push(entry.file_name().into_string().unwrap());
    }
    rustix::process::umask(old);
    assert!(names.iter().any(|name| name.ends_with("-wal")), "{names:?}");
}

#[test]
fn a_second_daemon_is_told_who_holds_the_store() {
    let (_folder, path) = place();
    assert_eq!(SqliteStore::holder(&path), None);
    let first = open(&path, Role::Daemon).unwrap();
    let me = std::process::id();
    for role in [Role::Daemon, Role::Brief] {
        let ErrorKind::Held { pid, brief } = kind(open(&path, role)) else { panic!() };
        assert_eq!((pid, brief), (Some(me), false));
    }
    assert_eq!(SqliteStore::holder(&path), Some(me));
    drop(first);
    assert_eq!(SqliteStore::holder(&path), None);
    drop(open(&path, Role::Brief).unwrap());
    open(&path, Role::Daemon).unwrap();
}

#[test]
fn a_visitor_works_beside_the_daemon_and_the_daemon_notices() {
    let (_folder, path) = place();
    let daemon = open(&path, Role::Daemon).unwrap();
    block_on(daemon.changed_by_another()).unwrap();
    block_on(daemon.enqueue(t(0), vec![say("mine", 1)])).unwrap();
    assert!(!block_on(daemon.changed_by_another()).unwrap());
    let visitor = open(&path, Role::Visitor).unwrap();
    assert!(block_on(visitor.delivery(id("mine"))).unwrap().is_some());
    block_on(visitor.enqueue(t(1), vec![say("theirs", 2)])).unwrap();
    assert!(block_on(daemon.changed_by_another()).unwrap());
    assert!(!block_on(daemon.changed_by_another()).unwrap());
    assert!(block_on(daemon.delivery(id("theirs"))).unwrap().is_some());
}

#[test]
fn a_visitor_makes_no_store() {
    let (folder, path) = place();
    let error = open(&path, Role::Visitor).err().unwrap();
    assert_eq!(*error.kind(), ErrorKind::Unusable);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    assert_eq!(kind(open(&folder.path().join("none/s.sqlite"), Role::Daemon)), ErrorKind::Unusable);
    assert_eq!(kind(open(folder.path(), Role::Visitor)), ErrorKind::Unusable);
}

#[test]
fn what_is_no_store_is_refused_and_left_as_it_is() {
    let (_folder, path) = place();
    fs::write(&path, "this is no database, only a long enough text ".repeat(100)).unwrap();
    assert_corrupt_and_untouched(&path);
    fs::write(&path, "").unwrap();
    assert_corrupt_and_untouched(&path);
    fs::write(&path, [0; 8_192]).unwrap();
    assert_corrupt_and_untouched(&path);
    fs::remove_file(&path).unwrap();
    let foreign = rusqlite::Connection::open(&path).unwrap();
    foreign.execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES (1)").unwrap();
    drop(foreign);
    assert_corrupt_and_untouched(&path);
    assert_eq!(kind(open(&path, Role::Visitor)), ErrorKind::Corrupt);
}

#[test]
fn a_damaged_store_is_refused_and_left_as_it_is() {
    let (_folder, path) = filled();
    let whole = fs::read(&path).unwrap();
    let mut headless = whole.clone();
    headless[..100].fill(0);
    fs::write(&path, &headless).unwrap();
    assert_corrupt_and_untouched(&path);
    for length in [50, 100, 4_096, 5_000, whole.len() / 2 / 4_096 * 4_096, whole.len() - 4_096] {
        fs::write(&path, &whole[..length]).unwrap();
        assert_corrupt_and_untouched(&path);
    }
    let mut holed = whole.clone();
    holed[4_096 * 2..4_096 * 20].fill(0xa5);
    fs::write(&path, &holed).unwrap();
    assert_corrupt_and_untouched(&path);
    fs::write(&path, &whole).unwrap();
    assert!(block_on(open(&path, Role::Daemon).unwrap().delivery(id("7"))).unwrap().is_some());
}

#[test]
fn a_store_of_a_newer_program_is_refused_and_left_as_it_is() {
    let (_folder, path) = filled();
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("PRAGMA user_version = 4000").unwrap();
    drop(other);
    let before = fs::read(&path).unwrap();
    for role in [Role::Daemon, Role::Brief, Role::Visitor] {
        assert_eq!(kind(open(&path, role)), ErrorKind::Newer);
        assert!(fs::read(&path).unwrap() == before);
    }
}

#[test]
fn a_folder_that_may_not_be_written_is_unusable() {
    let (folder, path) = place();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
    // For the superuser every folder is writable.
    if fs::write(folder.path().join("probe"), "").is_err() {
        assert_eq!(kind(open(&path, Role::Daemon)), ErrorKind::Unusable);
    }
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(&path, "").unwrap();
    assert_eq!(kind(open(&path.join("s.sqlite"), Role::Daemon)), ErrorKind::Unusable);
}

#[test]
fn opened_again_everything_is_there() {
    let (_folder, path) = place();
    let mut run = crate::IncarnationId(0);
    for n in 0..5_i64 {
        let store = std::sync::Arc::new(open(&path, Role::Daemon).unwrap());
        let bench = block_on(Bench::new(store));
        assert!(bench.run > run);
        run = bench.run;
        let room = n.cast_unsigned();
        block_on(bench.enqueue(t(n), say(&n.to_string(), room)));
        for earlier in 0..=n {
            let record = block_on(bench.record(&earlier.to_string()));
            assert_eq!(record.text, Some(earlier.to_string()));
        }
        assert_eq!(block_on(bench.store.check_integrity(true)).unwrap(), None);
    }
}

#[test]
fn a_copy_that_is_taken_while_it_is_open_holds_all_that_was_promised() {
    let (folder, path) = place();
    let store = open(&path, Role::Daemon).unwrap();
    for n in 0..100 {
        block_on(store.enqueue(t(0), vec![say(&n.to_string(), n)])).unwrap();
        if n % 33 == 0 {
            let copy = folder.path().join(format!("copy-{n}.sqlite"));
            fs::copy(&path, &copy).unwrap();
            let log = |path: &Path| PathBuf::from(format!("{}-wal", path.display()));
            fs::copy(log(&path), log(&copy)).unwrap();
            let copy = open(&copy, Role::Daemon).unwrap();
            for earlier in 0..=n {
                assert!(block_on(copy.delivery(id(&earlier.to_string()))).unwrap().is_some());
            }
        }
    }
}

#[test]
fn five_hundred_at_once_are_all_durable() {
    let (_folder, path) = place();
    let store = std::sync::Arc::new(open(&path, Role::Daemon).unwrap());
    let writers: Vec<_> = (0..10_u64)
        .map(|writer| {
            let store = std::sync::Arc::clone(&store);
            std::thread::spawn(move || {
                for n in 0..50_u64 {
                    let key = format!("{writer}/{n}");
                    block_on(store.enqueue(t(0), vec![say(&key, n)])).unwrap();
                }
            })
        })
        .collect();
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    drop(store);
    let store = open(&path, Role::Visitor).unwrap();
    let all = block_on(store.deliveries(&crate::DeliveryFilter::default())).unwrap();
    assert_eq!(all.len(), 500);
}

#[test]
fn what_was_asked_and_not_waited_for_is_not_written_behind_the_next_owner() {
    let (_folder, path) = place();
    let store = open(&path, Role::Daemon).unwrap();
    let mut asked: Vec<_> = (0..50)
        .map(|n| {
            let mut verb = store.enqueue(t(0), vec![say(&n.to_string(), n)]);
            let waker = std::task::Waker::noop();
            let _ = verb.as_mut().poll(&mut std::task::Context::from_waker(waker));
            verb
        })
        .collect();
    asked.clear();
    drop(asked);
    drop(store);
    let store = open(&path, Role::Daemon).unwrap();
    let count = || block_on(store.deliveries(&crate::DeliveryFilter::default())).unwrap().len();
    assert_eq!(count(), 50);
}
