//! How verbs reach the database: a thread of our own runs a few connections, so that a handler which
//! holds up the program's threads holds up no transaction, and a verb whose caller went away is still
//! finished. A verb is one transaction; one that others were in the way of is run again, and one whose
//! commit was not answered is found out about before anything is said of it: by a mark that each
//! transaction leaves, because a crash of the server can give the number of a transaction that it lost
//! to another one.

mod together;
mod turns;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::Duration;

use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime,
};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::row::get;
use super::tx::{Trouble, Tx, params, told, trouble};
use crate::error::{Error, ErrorKind, Result};
pub(super) use together::Gathering;
use turns::Turns;

/// Connections of one process, beside the one for its lease.
const CONNECTIONS: usize = 7;
/// Making a connection, or waiting for one.
const CONNECT: Duration = Duration::from_secs(5);
/// One try of a verb; beyond that the connection is given up.
const TRY: Duration = Duration::from_secs(30);
/// A verb that others were in the way of is tried so often.
const TRIES: u32 = 8;

type Job = Box<dyn FnOnce(Rc<Inner>) -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// A verb, whatever it comes to: what surrounds it is compiled once and not for each.
trait Act {
    /// Does it, once more if need be, and keeps what came of it.
    fn act<'a>(&'a self, tx: &'a Tx<'a>) -> Pin<Box<dyn Future<Output = Result<()>> + 'a>>;
}

struct Verb<T, F> {
    act: F,
    kept: RefCell<Option<T>>,
}

impl<T, F: AsyncFn(&Tx<'_>) -> Result<T>> Act for Verb<T, F> {
    fn act<'a>(&'a self, tx: &'a Tx<'a>) -> Pin<Box<dyn Future<Output = Result<()>> + 'a>> {
        Box::pin(async move {
            let value = (self.act)(tx).await?;
            self.kept.replace(Some(value));
            Ok(())
        })
    }
}

/// What kind of transaction a verb needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Changes something.
    Write,
    /// The same, and refused if this run was ended by others.
    Fenced,
    /// The same, on the connection that is kept for it.
    Lease,
    /// Only reads, all of it as it stands at one instant.
    Read,
    /// Makes the tables: takes its time, and there is no ledger yet.
    Make,
    /// Only reads what is there without any table.
    Bare,
    /// Fills a store: nobody else writes anything, however long it takes.
    Whole,
}

/// The thread's end of the queue.
pub(super) struct Link {
    /// `None` only while this is dropped.
    jobs: Option<mpsc::UnboundedSender<Job>>,
    closing: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
    /// The run that was begun here; 0 if none was.
    session: Arc<AtomicI64>,
    /// Numbers of the ledger that we took ourselves.
    taken: Arc<Taken>,
    /// Every number of the ledger up to here is written or never will be.
    settled: AtomicI64,
    /// How many numbers of the ledger others had taken at least, when that was asked last.
    seen: std::sync::Mutex<Option<i64>>,
}

/// How transactions of each kind begin.
struct Begins {
    write: String,
    read: String,
    make: String,
    /// Leaves a mark: held by this transaction until it ends.
    mark: String,
    /// The mark that is there, once nobody is in the middle of leaving one.
    marked: String,
}

impl Begins {
    fn of(schema: &str, idle: Duration) -> Self {
        // Our statements read little. Where the database takes one for large, to compile it costs a
        // hundred times what it does.
        let limits = format!(
            "SET LOCAL search_path TO \"{schema}\"; SET LOCAL lock_timeout = '5s'; \
             SET LOCAL statement_timeout = '20s'; SET LOCAL jit = off; \
             SET LOCAL idle_in_transaction_session_timeout = '{}ms'",
            idle.as_millis()
        );
        Self {
            write: format!(
                "BEGIN ISOLATION LEVEL READ COMMITTED; {limits}; \
                 LOCK TABLE ledger_door IN ROW EXCLUSIVE MODE"
            ),
            read: format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {limits}"),
            make: format!(
                "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL search_path TO \"{schema}\""
            ),
            mark: format!(
                "INSERT INTO \"{schema}\".mark (link, slot, n) VALUES ($1, $2, $3)
                 ON CONFLICT (link, slot) DO UPDATE SET n = excluded.n, at = excluded.at"
            ),
            marked: format!(
                "INSERT INTO \"{schema}\".mark AS m (link, slot, n) VALUES ($1, $2, 0)
                 ON CONFLICT (link, slot) DO UPDATE SET n = m.n RETURNING n"
            ),
        }
    }
}

struct Inner {
    pool: Pool,
    /// One more connection, for saying that we are alive: whatever the others wait for, they do not
    /// cost us the lease.
    lease: Pool,
    begins: Begins,
    turns: Turns,
    /// Nobody asks for anything any more, and whoever ends this waits: no more tries.
    closing: Arc<AtomicBool>,
    session: Arc<AtomicI64>,
    taken: Arc<Taken>,
    /// Whose marks these are; nobody else's number.
    link: i64,
    /// How many transactions were marked.
    marks: Cell<i64>,
    /// Slots for marks that nobody uses now, and how many there are: one for each transaction at a time.
    free: RefCell<Vec<i64>>,
    slots: Cell<i64>,
}

/// A connection in use. Unless it is known to be in the middle of nothing it is closed and not used
/// again, whatever ends its use: else another verb would commit what a first one had begun.
struct Borrowed {
    /// `None` only while this is dropped.
    object: Option<Object>,
    clean: Cell<bool>,
}

impl Borrowed {
    fn new(object: Object) -> Self {
        Self { object: Some(object), clean: Cell::new(false) }
    }

    fn client(&self) -> Result<&Client> {
        self.object.as_deref().map(|client| &**client).ok_or_else(closed)
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Some(object) = self.object.take().filter(|_| !self.clean.get()) {
            drop(Object::take(object));
        }
    }
}

/// Numbers of the ledger that this process takes. Those that a statement which is under way may or may
/// not have taken are in one of the two and not in the other.
#[derive(Default)]
pub(super) struct Taken {
    most: AtomicI64,
    least: AtomicI64,
}

impl Taken {
    /// Appends so many lines. Whether they are committed later makes no difference: the numbers are
    /// taken.
    pub(super) async fn appending(
        &self,
        lines: usize,
        append: impl Future<Output = Result<u64>>,
    ) -> Result<()> {
        struct Perhaps<'t>(&'t AtomicI64, i64);
        impl Drop for Perhaps<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(self.1, Ordering::AcqRel);
            }
        }
        let lines = i64::try_from(lines).unwrap_or(i64::MAX);
        self.most.fetch_add(lines, Ordering::AcqRel);
        let mut perhaps = Perhaps(&self.most, lines);
        append.await?;
        self.least.fetch_add(lines, Ordering::AcqRel);
        perhaps.1 = 0;
        Ok(())
    }

    /// At most so many.
    pub(super) fn most(&self) -> i64 {
        self.most.load(Ordering::Acquire)
    }

    /// At least so many.
    pub(super) fn least(&self) -> i64 {
        self.least.load(Ordering::Acquire)
    }
}

/// What a transaction leaves behind if it is committed.
struct Mark {
    slot: i64,
    n: i64,
}

impl Drop for Link {
    /// What was asked for is finished before this returns, unless the database is away.
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Release);
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // The last owner may be a task that the thread itself has just ended.
            if thread.thread().id() != thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

/// A function for each kind of transaction.
macro_rules! ways {
    ($($(#[$doc:meta])* $name:ident: $mode:ident;)+) => {$(
        $(#[$doc])*
        pub(super) async fn $name<T, F>(&self, verb: F) -> Result<T>
        where
            T: Send + 'static,
            F: AsyncFn(&Tx<'_>) -> Result<T> + Send + 'static,
        {
            self.run(Mode::$mode, verb).await
        }
    )+};
}

impl Link {
    /// Begins. The tables are in this schema; a transaction that its process forgot in the middle is
    /// ended after `idle`, so that a process that was stopped holds up nobody for longer than its lease.
    pub(super) fn start(
        config: Config,
        tls: MakeRustlsConnect,
        schema: &str,
        idle: Duration,
    ) -> Result<Self> {
        let (session, taken) = (Arc::new(AtomicI64::new(0)), Arc::new(Taken::default()));
        let closing = Arc::new(AtomicBool::new(false));
        let begins = Begins::of(schema, idle);
        let no_thread = |what: &str| {
            Error::new(ErrorKind::Unusable, format!("no thread for the store: {what}"))
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| no_thread(&error.kind().to_string()))?;
        let (jobs, queue) = mpsc::unbounded_channel();
        let (of_thread, lines) = (Arc::clone(&session), Arc::clone(&taken));
        let ends = Arc::clone(&closing);
        let thread = thread::Builder::new()
            .name("store-postgres".into())
            .spawn(move || {
                let local = tokio::task::LocalSet::new();
                local.block_on(&runtime, async move {
                    let pools = (pool(&config, &tls, CONNECTIONS), pool(&config, &tls, 1));
                    if let (Ok(pool), Ok(lease)) = pools {
                        let inner = Inner {
                            pool,
                            lease,
                            begins,
                            turns: Turns::default(),
                            closing: ends,
                            session: of_thread,
                            taken: lines,
                            link: chance().cast_signed(),
                            marks: Cell::new(0),
                            free: RefCell::default(),
                            slots: Cell::new(0),
                        };
                        serve(Rc::new(inner), queue).await;
                    }
                });
                // Until the last verb is answered.
                runtime.block_on(local);
            })
            .map_err(|error| no_thread(&error.kind().to_string()))?;
        Ok(Self {
            jobs: Some(jobs),
            closing,
            thread: Some(thread),
            session,
            taken,
            settled: AtomicI64::new(0),
            seen: std::sync::Mutex::new(None),
        })
    }

    ways! {
        /// Runs a verb that changes something, whoever asks.
        write: Write;
        /// Runs a verb of a run: refused if the run was ended by others. In a process that has begun
        /// none, the same as [`Link::write`].
        fenced: Fenced;
        /// The same for what a run's lease hangs on: it waits for no other verb of this process.
        lease: Lease;
        /// Runs a verb that only reads; all its statements see one instant.
        read: Read;
        /// Runs something that has the store for itself and takes as long as it takes. What it captured
        /// may be used up by a first try: then it says so in a second one.
        whole: Whole;
        /// Makes or upgrades the tables.
        make: Make;
        /// Reads what there is without any table of ours.
        bare: Bare;
    }

    async fn run<T, F>(&self, mode: Mode, verb: F) -> Result<T>
    where
        T: Send + 'static,
        F: AsyncFn(&Tx<'_>) -> Result<T> + Send + 'static,
    {
        let (answer, told) = oneshot::channel();
        let job: Job = Box::new(move |inner| {
            Box::pin(async move {
                // Nobody may wait for it any more.
                let _ = answer.send(inner.verb(mode, verb).await);
            })
        });
        self.jobs.as_ref().ok_or_else(closed)?.send(job).map_err(|_| closed())?;
        told.await.map_err(|_| closed())?
    }

    /// Runs something without waiting for it; it is finished before the link is gone.
    pub(super) fn last<F>(&self, verb: F)
    where
        F: AsyncFn(&Tx<'_>) -> Result<()> + Send + 'static,
    {
        let job: Job = Box::new(move |inner| {
            Box::pin(async move {
                if let Err(error) = inner.verb(Mode::Make, verb).await {
                    tracing::debug!(%error, "what was to be done last was not done");
                }
            })
        });
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(job);
        }
    }

    /// The run that this process has begun, if it has.
    pub(super) fn session(&self) -> Option<i64> {
        Some(self.session.load(Ordering::Acquire)).filter(|id| *id != 0)
    }

    /// This process runs as this one now, or as none.
    pub(super) fn set_session(&self, session: Option<i64>) {
        self.session.store(session.unwrap_or(0), Ordering::Release);
    }

    /// Which numbers of the ledger are our own.
    pub(super) fn taken(&self) -> &Taken {
        &self.taken
    }

    /// Up to which number nothing can be appended to the ledger any more.
    pub(super) fn settled(&self) -> &AtomicI64 {
        &self.settled
    }

    /// How many numbers of the ledger others had taken at least, when that was asked last.
    pub(super) fn seen(&self) -> &std::sync::Mutex<Option<i64>> {
        &self.seen
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the store is closed")
}

fn pool(
    config: &Config,
    tls: &MakeRustlsConnect,
    size: usize,
) -> Result<Pool, deadpool_postgres::BuildError> {
    let recycling_method = RecyclingMethod::Fast;
    let config_of = ManagerConfig { recycling_method };
    let manager = Manager::from_config(config.clone(), tls.clone(), config_of);
    Pool::builder(manager)
        .max_size(size)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(TRY))
        .create_timeout(Some(CONNECT))
        .recycle_timeout(Some(CONNECT))
        .build()
}

async fn serve(inner: Rc<Inner>, mut jobs: mpsc::UnboundedReceiver<Job>) {
    while let Some(job) = jobs.recv().await {
        tokio::task::spawn_local(job(Rc::clone(&inner)));
    }
}

/// What comes of it within the time of a try; none if it takes longer.
#[expect(clippy::disallowed_methods, reason = "the database's time is never simulated")]
async fn in_time<T>(work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(TRY, work).await.ok()
}

fn too_slow() -> Error {
    Error::new(ErrorKind::Retryable, "the database did not answer in time")
}

#[expect(clippy::disallowed_methods, reason = "the database's time is never simulated")]
pub(super) async fn pause(milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}

/// How one try of a verb ended.
enum End {
    Done,
    /// Nothing happened, and it may go otherwise the next time.
    Again(Error),
    Failed(Error),
    /// The commit was sent and not answered. What it would leave.
    Unsure(Mark),
}

impl Inner {
    /// Runs a verb, and says what came of it.
    async fn verb<T, F>(&self, mode: Mode, act: F) -> Result<T>
    where
        F: AsyncFn(&Tx<'_>) -> Result<T> + 'static,
    {
        let verb = Verb { act, kept: RefCell::new(None) };
        self.run(mode, &self.turns.of::<F>(), &verb).await?;
        verb.kept.take().ok_or_else(closed)
    }

    async fn run(&self, mode: Mode, queue: &Semaphore, verb: &dyn Act) -> Result<()> {
        let mut tries = 0;
        loop {
            tries += 1;
            let Some(turn) = in_time(queue.acquire()).await else { return Err(too_slow()) };
            let end = self.attempt(mode, verb).await;
            drop(turn);
            let error = match end {
                End::Done => return Ok(()),
                End::Failed(error) => return Err(error),
                End::Unsure(mark) => {
                    if self.committed(&mark).await? {
                        return Ok(());
                    }
                    Error::new(ErrorKind::Retryable, "the database lost a transaction")
                }
                End::Again(error) => error,
            };
            if tries >= TRIES || self.closing.load(Ordering::Acquire) {
                return Err(error);
            }
            pause(spread(10 << tries.min(6))).await;
        }
    }

    /// One try of a verb.
    async fn attempt(&self, mode: Mode, verb: &dyn Act) -> End {
        let pool = if mode == Mode::Lease { &self.lease } else { &self.pool };
        let connection = match pool.get().await {
            Ok(object) => Borrowed::new(object),
            Err(error) => return unreachable(&error),
        };
        let session = Some(self.session.load(Ordering::Acquire)).filter(|id| *id != 0);
        let client = match connection.client() {
            Ok(client) => client,
            Err(error) => return End::Failed(error),
        };
        let tx = Tx::new(client, session, &self.taken);
        let mark = self.mark(mode);
        let slot = mark.as_ref().map(|mark| mark.slot);
        let body = self.body(&tx, mode, verb, mark.as_ref());
        let done = if mode == Mode::Whole { Some(body.await) } else { in_time(body).await };
        let (end, clean) = match done {
            None => (End::Failed(too_slow()), false),
            Some(Err(error)) => {
                let trouble = tx.trouble();
                let clean = trouble != Some(Trouble::Cut)
                    && matches!(in_time(tx.batch("ROLLBACK")).await, Some(Ok(())));
                let again = matches!(trouble, Some(Trouble::Collision | Trouble::Cut));
                (if again { End::Again(error) } else { End::Failed(error) }, clean)
            }
            Some(Ok(())) => match (in_time(tx.batch("COMMIT")).await, mark) {
                (Some(Ok(())), _) => (End::Done, true),
                // Refused, and so rolled back.
                (Some(Err(error)), _) if tx.trouble() == Some(Trouble::Collision) => {
                    (End::Again(error), false)
                }
                (_, Some(mark)) => (End::Unsure(mark), false),
                // Tables that are made are made once, however often that is asked for.
                (Some(Err(error)), None) if mode == Mode::Make => (End::Again(error), false),
                (None, None) if mode == Mode::Make => (End::Failed(too_slow()), false),
                // Nothing was to be kept.
                (_, None) => (End::Done, false),
            },
        };
        connection.clean.set(clean);
        // In doubt, the slot may still be locked behind the connection.
        if clean {
            self.free.borrow_mut().extend(slot);
        }
        end
    }

    /// Begins, and does what the verb does.
    async fn body(
        &self,
        tx: &Tx<'_>,
        mode: Mode,
        verb: &dyn Act,
        mark: Option<&Mark>,
    ) -> Result<()> {
        self.begin(tx, mode, mark).await?;
        verb.act(tx).await?;
        // A statement failed, and the verb did not mind: the transaction is void all the same.
        if tx.trouble().is_some() {
            return Err(Error::new(ErrorKind::Io, "a statement failed inside a transaction"));
        }
        Ok(())
    }

    /// Begins, and leaves a mark.
    async fn begin(&self, tx: &Tx<'_>, mode: Mode, mark: Option<&Mark>) -> Result<()> {
        let begin = match mode {
            Mode::Read => self.begins.read.as_str(),
            Mode::Bare => "BEGIN READ ONLY",
            Mode::Make | Mode::Whole => &self.begins.make,
            Mode::Write | Mode::Fenced | Mode::Lease => &self.begins.write,
        };
        let Some(Mark { slot, n }) = mark else { return tx.batch(begin).await };
        // One round trip: the connection sends them one after the other without waiting.
        let mark = params![self.link, *slot, *n];
        let (begun, left) = tokio::join!(tx.batch(begin), tx.execute(&self.begins.mark, mark));
        begun?;
        left?;
        if mode == Mode::Whole {
            // Whoever changes anything goes through this door.
            tx.batch("LOCK TABLE ledger_door IN EXCLUSIVE MODE").await?;
        }
        let fences = matches!(mode, Mode::Fenced | Mode::Lease);
        if let Some(session) = tx.session().filter(|_| fences) {
            let ended = tx
                .maybe(
                    "SELECT ended_at IS NOT NULL FROM incarnation WHERE id = $1 FOR SHARE",
                    params![session],
                )
                .await?;
            if ended.map_or(Ok(false), |row| get::<bool>(&row, 0))? {
                return Err(fenced());
            }
        }
        Ok(())
    }

    /// The mark of a transaction that begins, if it is to leave one: no other has had it, and no other
    /// has its slot now.
    fn mark(&self, mode: Mode) -> Option<Mark> {
        if !matches!(mode, Mode::Write | Mode::Fenced | Mode::Lease | Mode::Whole) {
            return None;
        }
        let free = self.free.borrow_mut().pop();
        let slot = free.unwrap_or_else(|| self.slots.replace(self.slots.get() + 1));
        self.marks.set(self.marks.get() + 1);
        Some(Mark { slot, n: self.marks.get() })
    }

    /// Whether a transaction whose commit was not answered was committed. Asked until the database says
    /// it: until then nothing may be told of the verb, and nothing else could be done either. While the
    /// transaction still goes on, its mark is locked.
    async fn committed(&self, mark: &Mark) -> Result<bool> {
        let mut tries = 0;
        loop {
            let asked = async {
                let object = self.pool.get().await.map_err(|_| closed())?;
                let connection = Borrowed::new(object);
                let rows = connection
                    .client()?
                    .query_typed(&self.begins.marked, params![self.link, mark.slot])
                    .await;
                connection.clean.set(rows.is_ok());
                match rows {
                    Ok(rows) => rows.first().map_or(Ok(0), |row| get::<i64>(row, 0)),
                    Err(error) => Err(told(&error)),
                }
            };
            match in_time(asked).await {
                Some(Ok(n)) => return Ok(n == mark.n),
                Some(Err(error)) if *error.kind() == ErrorKind::Unusable => {
                    return Err(Error::new(
                        ErrorKind::Io,
                        format!("what became of a transaction cannot be asked any more: {error}"),
                    ));
                }
                _ if self.closing.load(Ordering::Acquire) => {
                    return Err(Error::new(
                        ErrorKind::Io,
                        "the database is away, and what became of a transaction is not known",
                    ));
                }
                _ => {}
            }
            tries = (tries + 1).min(5);
            pause(spread(50 << tries)).await;
        }
    }
}

/// A number that no other process has, whatever its number and its start: where two instances collided,
/// they must not take the same pauses.
fn chance() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Somewhere in the upper half of so many milliseconds: who collided does not meet again.
fn spread(milliseconds: u64) -> u64 {
    milliseconds / 2 + chance() % (milliseconds / 2 + 1)
}

/// The run was ended by others.
pub(super) fn fenced() -> Error {
    Error::new(
        ErrorKind::Fenced,
        "this instance was out of touch for longer than its lease, and others have taken over",
    )
}

fn unreachable(error: &PoolError) -> End {
    match error {
        PoolError::Backend(error) => {
            let again = trouble(error) == Trouble::Cut;
            let error = told(error);
            // Where it is a password or a database that is not there, no second try helps.
            if again { End::Again(error) } else { End::Failed(error) }
        }
        PoolError::Timeout(_) => {
            End::Failed(Error::new(ErrorKind::Retryable, "the database did not let us in in time"))
        }
        _ => End::Failed(closed()),
    }
}

#[cfg(test)]
mod tests;
