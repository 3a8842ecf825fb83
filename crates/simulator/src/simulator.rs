//! The server as one value: a handle that clones cheaply, and the state behind its lock. What
//! people do with rooms, users and messages stands in the files of those names. Starts no task,
//! opens no socket.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{broadcast, watch};

use crate::change::Change;
use crate::clock::{Clock, SECOND};
use crate::fault::{FaultQueue, Faults};
use crate::json::Dialect;
use crate::log::{Log, LogEntry};
use crate::message::Message;
use crate::options::Options;
use crate::rng::Rng;
use crate::room::Room;
use crate::user::User;

/// How many changes a slow subscriber may lag behind before it misses some: two pages of a
/// thousand rooms; more would only hide a reader that has stopped.
const CHANGES_KEPT: usize = 2048;

/// A stand-in ImbaChat server. Clones share one state.
#[derive(Clone)]
pub struct Simulator {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Clock,
    changes: broadcast::Sender<Change>,
    down: watch::Sender<bool>,
    state: Mutex<State>,
}

pub(crate) struct State {
    pub(crate) options: Options,
    pub(crate) rooms: BTreeMap<i64, Room>,
    pub(crate) users: BTreeMap<i64, User>,
    /// ImbaChat's id by the site's id.
    pub(crate) by_site_id: HashMap<String, i64>,
    /// By room, in the order they were posted.
    pub(crate) messages: HashMap<i64, Vec<Message>>,
    pub(crate) last_message: Option<(i64, String)>,
    pub(crate) next_room: i64,
    pub(crate) next_user: i64,
    pub(crate) next_message: i64,
    pub(crate) rng: Rng,
    pub(crate) faults: FaultQueue,
    pub(crate) log: Log,
    pub(crate) refused: u64,
    changes: broadcast::Sender<Change>,
}

/// Why the server's people cannot do what they tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SimulatorError {
    /// No room has this id.
    #[error("there is no room {0}")]
    UnknownRoom(i64),
    /// The room was closed.
    #[error("room {0} is closed")]
    ClosedRoom(i64),
}

impl Simulator {
    /// An empty server. Ids start where the vendor's samples are: the first room is 1536, the
    /// first user 2046, the first message 4543.
    #[must_use]
    pub fn new(options: Options, clock: Clock) -> Self {
        let (changes, _) = broadcast::channel(CHANGES_KEPT);
        let state = State {
            rng: Rng::seeded(options.seed),
            // A generator of its own: adding a fault must not change the uuids.
            faults: FaultQueue::seeded(options.seed ^ 0xFA_017),
            options,
            rooms: BTreeMap::new(),
            users: BTreeMap::new(),
            by_site_id: HashMap::new(),
            messages: HashMap::new(),
            last_message: None,
            next_room: 1536,
            next_user: 2046,
            next_message: 4543,
            log: Log::default(),
            refused: 0,
            changes: changes.clone(),
        };
        let (down, _) = watch::channel(false);
        Self { inner: Arc::new(Inner { clock, changes, down, state: Mutex::new(state) }) }
    }

    /// The widget's id.
    #[must_use]
    pub fn widget(&self) -> i64 {
        self.state().options.widget
    }

    /// The present options.
    #[must_use]
    pub fn options(&self) -> Options {
        self.state().options.clone()
    }

    /// Changes the options from now on; a changed seed has no effect any more.
    pub fn configure(&self, change: impl FnOnce(&mut Options)) {
        change(&mut self.state().options);
    }

    /// Changes the Secret key: requests with the old one are answered 401.
    pub fn set_secret(&self, secret: &str) {
        secret.clone_into(&mut self.state().options.secret);
    }

    /// The faults waiting for their requests.
    #[must_use]
    pub fn faults(&self) -> Faults<'_> {
        Faults::of(self)
    }

    /// Takes the server down (connections are refused) or up again.
    pub fn server_down(&self, down: bool) {
        let changed = self.inner.down.send_if_modified(|now| std::mem::replace(now, down) != down);
        if changed {
            self.state().announce(Change::Server { down });
        }
    }

    /// Whether the server is down.
    #[must_use]
    pub fn is_down(&self) -> bool {
        *self.inner.down.borrow()
    }

    /// How many connections were refused, in process, by faults and while the server was down.
    #[must_use]
    pub fn refused_connections(&self) -> u64 {
        self.state().refused
    }

    /// A live stream of what changes. A subscriber that falls too far behind misses changes and
    /// is told so by the channel.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.inner.changes.subscribe()
    }

    /// Every request received so far, in order.
    #[must_use]
    pub fn log(&self) -> Vec<LogEntry> {
        self.state().log.entries().to_vec()
    }

    /// What was received from sequence number `seq` (inclusive) on.
    #[must_use]
    pub fn log_since(&self, seq: u64) -> Vec<LogEntry> {
        let state = self.state();
        state.log.entries().iter().filter(|entry| entry.seq >= seq).cloned().collect()
    }

    /// Forgets the requests received so far; sequence numbers go on.
    pub fn clear_log(&self) {
        self.state().log.clear();
    }

    /// Appends every further entry of the log to `file` as a JSON line, written before the answer
    /// leaves, so that another process can read it at any time.
    pub fn append_log_to(&self, file: File) {
        self.state().log.append_to(file);
    }

    /// The server's present in unix seconds, its offset included.
    #[must_use]
    pub fn server_time(&self) -> i64 {
        let now = self.now_micros();
        self.state().server_time(now)
    }

    pub(crate) fn now_micros(&self) -> i64 {
        self.inner.clock.now_micros()
    }

    pub(crate) fn down_watch(&self) -> watch::Receiver<bool> {
        self.inner.down.subscribe()
    }

    /// A panic while the lock was held leaves a state that is still good enough for a stand-in.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Unix seconds of the server's clock at `now_micros` of the true one.
    pub(crate) fn server_time(&self, now_micros: i64) -> i64 {
        now_micros.saturating_add(self.options.clock_offset_micros).div_euclid(SECOND)
    }

    pub(crate) fn dialect(&self) -> Dialect {
        Dialect { php_escapes: self.options.php_escapes }
    }

    /// Tells the subscribers; nobody listening is no error.
    pub(crate) fn announce(&self, change: Change) {
        let _ = self.changes.send(change);
    }
}

impl std::fmt::Debug for Simulator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state();
        f.debug_struct("Simulator")
            .field("widget", &state.options.widget)
            .field("rooms", &state.rooms.len())
            .field("users", &state.users.len())
            .finish_non_exhaustive()
    }
}
