//! How statements reach the database: one thread owns the connection that writes, takes whatever
//! is queued, and commits it in one transaction; two threads own read-only connections. In memory
//! there is one connection and no thread.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::oneshot;

use super::role;
use super::stir::Stir;
use crate::error::{Error, ErrorKind, Result};

/// The commit in flight is the batching window; this bounds how long one commit can grow.
const GROUP: usize = 256;
/// Two readers: one may be busy with a long list while the other answers a short question.
const READERS: usize = 2;
/// Half a megabyte of pages per connection, a quarter of what SQLite would take: what they leave out
/// comes from the system's own cache, for a microsecond a page.
const CACHE: &str = "PRAGMA cache_size = -512";
/// Another process of ours (a verb) holds the write lock for milliseconds. Five seconds is a
/// stuck process, and then it is said.
const BUSY: Duration = Duration::from_secs(5);

/// A write, run inside the group's transaction, or told why it cannot run.
type Write = Box<dyn FnOnce(Result<&Connection>) -> Answer + Send>;
/// Called when the group's transaction was committed or failed; `Err` where the write itself
/// failed (its caller knows already) and its changes are to be rolled back.
type Answer = Result<Box<dyn FnOnce(Result<()>) + Send>>;
type Read = Box<dyn FnOnce(&Connection) + Send>;

pub(super) enum Link {
    Threads(Threads),
    Inline(Box<Mutex<Connection>>),
}

/// The queues of the threads that own connections.
pub(super) struct Threads {
    /// `None` only while this is dropped.
    queues: Option<(mpsc::Sender<Write>, mpsc::Sender<Read>)>,
    seen: AtomicI64,
    commits: Commits,
    stir: Stir,
    running: Vec<thread::JoinHandle<()>>,
}

impl Threads {
    fn write(&self, job: Write) -> Result<()> {
        let (write, _) = self.queues.as_ref().ok_or_else(closed)?;
        write.send(job).map_err(|_| closed())
    }

    fn read(&self, job: Read) -> Result<()> {
        let (_, read) = self.queues.as_ref().ok_or_else(closed)?;
        read.send(job).map_err(|_| closed())
    }
}

impl Drop for Threads {
    /// What was queued is committed and the connections are closed before this returns: whoever
    /// takes the daemon's role next finds nobody writing behind its back.
    fn drop(&mut self) {
        self.stir.end();
        self.queues = None;
        for thread in self.running.drain(..) {
            // The last owner may be a task that one of them has just woken.
            if thread.thread().id() != thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

impl Link {
    pub(super) fn inline(connection: Connection) -> Self {
        Self::Inline(Box::new(Mutex::new(connection)))
    }

    pub(super) fn threads(writer: Connection, path: &Path, stir: Stir) -> Result<Self> {
        let start = |name: &str, body: Box<dyn FnOnce() + Send>| {
            thread::Builder::new().name(name.into()).spawn(body).map_err(|e| {
                Error::new(ErrorKind::Unusable, format!("no thread for the store: {}", e.kind()))
            })
        };
        let (write, writes) = mpsc::channel();
        let mut running =
            vec![start("store-writer", Box::new(move || write_all(&writer, &writes)))?];
        let (read, reads) = mpsc::channel::<Read>();
        let reads = Arc::new(Mutex::new(reads));
        for n in 0..READERS {
            let connection = open_reader(path)?;
            let reads = Arc::clone(&reads);
            let body = move || {
                loop {
                    // The lock is held while waiting: the other reader waits for it instead of
                    // the queue, which comes to the same.
                    let next = match reads.lock() {
                        Ok(queue) => queue.recv(),
                        Err(_) => return,
                    };
                    match next {
                        Ok(read) => read(&connection),
                        Err(_) => return,
                    }
                }
            };
            running.push(start(&format!("store-reader-{n}"), Box::new(body))?);
        }
        let queues = Some((write, read));
        let (seen, commits) = (AtomicI64::new(0), Commits::of(path));
        Ok(Self::Threads(Threads { queues, seen, commits, stir, running }))
    }

    /// Runs a write. When this returns `Ok`, it is on disk.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        match self {
            Self::Inline(connection) => {
                let connection = connection.lock().map_err(|_| closed())?;
                let transaction = connection.unchecked_transaction()?;
                let result = job(&transaction)?;
                transaction.commit()?;
                Ok(result)
            }
            Self::Threads(threads) => {
                let (sender, receiver) = oneshot::channel();
                let job: Write = Box::new(move |connection| match connection.and_then(job) {
                    Ok(value) => Ok(Box::new(move |committed: Result<()>| {
                        // A caller that went away does not need the answer.
                        let _ = sender.send(committed.map(|()| value));
                    })),
                    Err(error) => {
                        let _ = sender.send(Err(error.clone()));
                        Err(error)
                    }
                });
                threads.write(job)?;
                receiver.await.map_err(|_| closed())?
            }
        }
    }

    /// Runs a read in a transaction of its own.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        match self {
            Self::Inline(connection) => {
                let connection = connection.lock().map_err(|_| closed())?;
                job(&connection)
            }
            Self::Threads(threads) => {
                let (sender, receiver) = oneshot::channel();
                let job: Read = Box::new(move |connection| {
                    let answer = connection
                        .unchecked_transaction()
                        .map_err(Error::from)
                        .and_then(|transaction| job(&transaction));
                    let _ = sender.send(answer);
                });
                threads.read(job)?;
                receiver.await.map_err(|_| closed())?
            }
        }
    }

    /// Resolves when somebody wrote since this was asked last, or for nothing; without a [`Stir`] that
    /// rings never.
    pub(super) async fn stirred(&self) {
        match self {
            Self::Inline(_) => std::future::pending().await,
            Self::Threads(threads) => threads.stir.heard().await,
        }
    }

    /// Whether another connection wrote since this was asked last.
    pub(super) async fn changed(&self) -> Result<bool> {
        let Self::Threads(threads) = self else { return Ok(false) };
        // Asked several times a second, for years: no thread is woken to say that nothing happened.
        if !threads.commits.are_new() {
            return Ok(false);
        }
        let version = self
            .write(|connection| {
                Ok(connection.query_row("PRAGMA data_version", [], |row| row.get::<_, i64>(0))?)
            })
            .await
            .inspect_err(|_| threads.commits.forget())?;
        Ok(threads.seen.swap(version, Ordering::Relaxed) != version)
    }
}

/// Whether anybody committed anything, from the counter that SQLite keeps in the header of its
/// WAL index (`iChange`, the 4 bytes at 8 of the file beside the database that ends in `-shm`).
///
/// That file is opened once and never closed: a process that closes any descriptor of a file loses all
/// the locks it holds on it, SQLite's own among them.
struct Commits {
    path: PathBuf,
    state: Mutex<(Option<&'static File>, Option<[u8; 4]>)>,
}

impl Commits {
    fn of(database: &Path) -> Self {
        Self { path: role::beside(database, "-shm"), state: Mutex::default() }
    }

    /// Whether there was a commit, of whomever, since this was asked last. Where the counter cannot
    /// be read, there may have been.
    fn are_new(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, seen) = &mut *state;
        if file.is_none() {
            *file = File::open(&self.path).ok().map(|file| &*Box::leak(Box::new(file)));
        }
        let mut counter = [0; 4];
        let read = file.map(|file| file.read_exact_at(&mut counter, 8));
        if !matches!(read, Some(Ok(()))) {
            *seen = None;
            return true;
        }
        seen.replace(counter) != Some(counter)
    }

    /// What was found out could not be used: it is to be found out again.
    fn forget(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1 = None;
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the store was closed")
}

/// Takes what is queued, commits it in one transaction, answers all; until nobody is left to ask.
fn write_all(connection: &Connection, queue: &mpsc::Receiver<Write>) {
    let mut broken: Option<Error> = None;
    while let Ok(first) = queue.recv() {
        let mut group = vec![first];
        while group.len() < GROUP {
            match queue.try_recv() {
                Ok(next) => group.push(next),
                Err(_) => break,
            }
        }
        if let Some(error) = &broken {
            refuse(group, error);
            continue;
        }
        if let Err(error) = write_group(connection, group)
            && matches!(error.kind(), ErrorKind::Io | ErrorKind::Corrupt)
        {
            // After a failed fsync nobody knows what is on disk: no later commit can be believed.
            tracing::error!(
                code = error.code(),
                "{error}; nothing more is written by this process"
            );
            broken = Some(error);
        }
    }
    if let Err(error) = connection.execute_batch("PRAGMA optimize; PRAGMA wal_checkpoint(PASSIVE)")
    {
        tracing::debug!(%error, "the last checkpoint was left to the next start");
    }
}

fn write_group(connection: &Connection, group: Vec<Write>) -> Result<()> {
    if let Err(error) = connection.execute_batch("BEGIN IMMEDIATE") {
        let error = Error::from(error);
        refuse(group, &error);
        return Err(error);
    }
    let mut answers = Vec::with_capacity(group.len());
    let mut failure: Option<Error> = None;
    // Alone it needs no savepoint: there is nobody else whose changes would have to stay. With one,
    // SQLite keeps each page as it was and walks along all of them after every statement: half of
    // the time of a verb that records a thousand rows.
    let alone = group.len() == 1;
    for write in group {
        if failure.is_none() && !alone {
            failure = connection.execute_batch("SAVEPOINT verb").err().map(Error::from);
        }
        if let Some(error) = &failure {
            let _ = write(Err(error.clone()));
            continue;
        }
        let end = match write(Ok(connection)) {
            Ok(answer) => {
                answers.push(answer);
                if alone { "" } else { "RELEASE verb" }
            }
            Err(error) if connection.is_autocommit() => {
                // On a full disk SQLite ends the whole transaction by itself.
                failure = Some(error);
                continue;
            }
            Err(_) if alone => "ROLLBACK; BEGIN",
            Err(_) => "ROLLBACK TO verb; RELEASE verb",
        };
        failure = connection.execute_batch(end).err().map(Error::from);
    }
    let result = match failure {
        Some(error) => Err(error),
        None => connection.execute_batch("COMMIT").map_err(Error::from),
    };
    if result.is_err() && !connection.is_autocommit() {
        let _ = connection.execute_batch("ROLLBACK");
    }
    for answer in answers {
        answer(result.clone());
    }
    result
}

/// Tells everybody why nothing is written.
fn refuse(group: Vec<Write>, error: &Error) {
    for write in group {
        let _ = write(Err(error.clone()));
    }
}

/// Opens a file that is there, without changing anything in it.
pub(super) fn open(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    keep_plans(&connection)?;
    // SQLite falls back to reading a file that it may not write.
    if connection.is_readonly("main")? {
        return Err(Error::new(
            ErrorKind::Unusable,
            format!("the store {} may not be written by this user", path.display()),
        ));
    }
    Ok(connection)
}

fn open_reader(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    keep_plans(&connection)?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.execute_batch(CACHE)?;
    Ok(connection)
}

/// A plan does not depend on the values that are bound. Else SQLite compiles a statement anew each time it
/// is given another value for what the plan once looked at, and that takes longer than to run it.
fn keep_plans(connection: &Connection) -> Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

pub(super) fn configure(connection: &Connection) -> Result<()> {
    connection.busy_timeout(BUSY)?;
    keep_plans(connection)?;
    connection.set_prepared_statement_cache_capacity(256);
    // FULL: with NORMAL a power cut may roll a `sending` mark back, and the message would go out
    // twice.
    connection.execute_batch(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA foreign_keys = ON;
         PRAGMA temp_store = MEMORY;
         PRAGMA wal_autocheckpoint = 1000;
         PRAGMA journal_size_limit = 67108864;",
    )?;
    connection.execute_batch(CACHE)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use futures_executor::block_on;

    use super::*;

    /// A link to a database `db` in a folder of its own, made by these statements.
    fn link(made_by: &str) -> (tempfile::TempDir, Link) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let connection = Connection::open(&path).unwrap();
        configure(&connection).unwrap();
        connection.execute_batch(made_by).unwrap();
        let link = Link::threads(connection, &path, Stir::nowhere()).unwrap();
        (folder, link)
    }

    #[test]
    fn a_full_disk_is_said_and_is_not_the_end() {
        let (_folder, link) = link("CREATE TABLE t (a); PRAGMA max_page_count = 20");
        let insert = |bytes: i64| {
            block_on(link.write(move |tx| {
                tx.execute("REPLACE INTO t VALUES (zeroblob(?1))", [bytes])?;
                Ok(())
            }))
        };
        insert(10).unwrap();
        for _ in 0..3 {
            let error = insert(1_000_000).unwrap_err();
            assert_eq!(*error.kind(), ErrorKind::Full, "{error}");
            assert!(error.is_retryable());
        }
        insert(10).unwrap();
        let rows = |tx: &Connection| {
            Ok(tx.query_row("VALUES ((SELECT count(*) FROM t))", [], |r| r.get(0))?)
        };
        assert_eq!(block_on(link.read::<i64>(rows)).unwrap(), 2);
    }

    #[test]
    fn what_another_connection_commits_is_noticed_and_our_own_commits_are_not() {
        let (folder, link) = link("CREATE TABLE t (a)");
        let changed = || block_on(link.changed()).unwrap();
        let insert = "INSERT INTO t VALUES (1)";
        let own = || {
            block_on(link.write(move |tx| Ok(tx.execute(insert, [])?))).unwrap();
        };
        changed();
        assert!(!changed());
        let other = open(&folder.path().join("db")).unwrap();
        for _ in 0..50 {
            own();
            assert!(!changed());
            other.execute(insert, []).unwrap();
            assert!(changed());
            assert!(!changed());
            own();
            other.execute(insert, []).unwrap();
            own();
            assert!(changed());
            // The log begins anew: the counter goes on.
            other.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(())).unwrap();
            other.execute(insert, []).unwrap();
            assert!(changed());
        }
    }

    #[test]
    fn a_write_that_fails_takes_back_its_own_changes_only() {
        let (_folder, link) = link("CREATE TABLE t (a UNIQUE)");
        // All are queued before the first is waited for, so that they share commits.
        let verbs = (0..20_i64).map(|n| {
            link.write(move |tx| {
                tx.execute("REPLACE INTO t VALUES (?1)", [n])?;
                match n % 2 {
                    0 => Ok(()),
                    _ => Err(Error::new(ErrorKind::Retryable, "no")),
                }
            })
        });
        let results = block_on(futures_of(verbs.collect()));
        assert!(results.iter().enumerate().all(|(n, result)| result.is_ok() == (n % 2 == 0)));
        let sum = |tx: &Connection| {
            Ok(tx.query_row("VALUES ((SELECT sum(a) FROM t))", [], |r| r.get(0))?)
        };
        assert_eq!(block_on(link.read::<i64>(sum)).unwrap(), 90);
    }

    #[test]
    fn a_write_that_fails_alone_leaves_nothing_behind() {
        let (_folder, link) = link("CREATE TABLE t (a)");
        for n in 0..4_i64 {
            let answer = block_on(link.write(move |tx| {
                tx.execute("INSERT INTO t VALUES (?1)", [n])?;
                if n % 2 == 0 { Ok(()) } else { Err(Error::new(ErrorKind::Retryable, "no")) }
            }));
            assert_eq!(answer.is_ok(), n % 2 == 0);
        }
        let sum = |tx: &Connection| {
            Ok(tx.query_row("VALUES ((SELECT group_concat(a) FROM t))", [], |r| r.get(0))?)
        };
        assert_eq!(block_on(link.read::<String>(sum)).unwrap(), "0,2");
    }

    /// Looks at all before it waits for the first.
    async fn futures_of<T>(verbs: Vec<impl Future<Output = T>>) -> Vec<T> {
        let mut verbs: Vec<_> = verbs.into_iter().map(|verb| (Box::pin(verb), None)).collect();
        std::future::poll_fn(|context| {
            let mut waits = false;
            for (verb, answer) in &mut verbs {
                if answer.is_none() {
                    match verb.as_mut().poll(context) {
                        std::task::Poll::Ready(value) => *answer = Some(value),
                        std::task::Poll::Pending => waits = true,
                    }
                }
            }
            if waits { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
        })
        .await;
        verbs.into_iter().filter_map(|(_, answer)| answer).collect()
    }
}
