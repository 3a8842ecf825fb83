//! What the engine is doing, for those who ask: reasons for not being ready, and what each part did
//! last. Written by the parts, read by the HTTP surface; it decides nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use imbabot_bot::{BotName, WidgetName};
use imbabot_core::Timestamp;
use imbabot_store::{Capabilities, IncarnationId, Source};
use serde::{Serialize, Serializer};

use crate::clock::Clock;

mod words;

pub use words::Words;

/// Why the daemon is not ready: a closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NotReady {
    /// The first lists are not here yet.
    Starting,
    /// ImbaChat does not answer.
    ApiUnreachable,
    /// ImbaChat refuses the secret key.
    CredentialsRejected,
    /// ImbaChat answers with a redirect.
    Redirected,
    /// The store cannot be written.
    StoreUnwritable,
    /// The clock was set, or is far from the server's.
    ClockSuspect,
    /// A task makes no progress, or a bot was set aside.
    TaskStalled,
    /// The daemon is stopping.
    Draining,
    /// An operator paused something.
    Paused,
}

impl NotReady {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Starting,
        Self::ApiUnreachable,
        Self::CredentialsRejected,
        Self::Redirected,
        Self::StoreUnwritable,
        Self::ClockSuspect,
        Self::TaskStalled,
        Self::Draining,
        Self::Paused,
    ];

    /// The word in `/readyz`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::ApiUnreachable => "api_unreachable",
            Self::CredentialsRejected => "credentials_rejected",
            Self::Redirected => "redirected",
            Self::StoreUnwritable => "store_unwritable",
            Self::ClockSuspect => "clock_suspect",
            Self::TaskStalled => "task_stalled",
            Self::Draining => "draining",
            Self::Paused => "paused",
        }
    }
}

impl Serialize for NotReady {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A widget as it stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct WidgetStatus {
    /// Rooms in the last trusted snapshot.
    pub rooms: Option<u64>,
    /// When the last good list of rooms came.
    pub last_good_poll: Option<Timestamp>,
    /// When the last poll of rooms ended.
    pub last_poll: Option<Timestamp>,
    /// How it ended, as a word.
    pub last_outcome: Option<String>,
    /// What was wrong, escaped for one line.
    pub problem: Option<String>,
    /// Why nothing is sent, and since when.
    pub breaker: Option<(String, Timestamp)>,
    /// Requests in flight.
    pub in_flight: usize,
    /// Lists that look as if the server cut them, with the number of rows at which.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub suspected_limits: BTreeMap<&'static str, u64>,
    /// What is known of its server: by polls, as of now, and by `doctor`, as of its last visit.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub capabilities: BTreeMap<Source, Capabilities>,
}

/// A task as it stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskStatus {
    /// When it last made progress, or looked and found nothing to do.
    pub last_progress: Timestamp,
    /// What it did last, in a few words.
    pub last: String,
    /// How often it was started again after a failure.
    pub restarts: u32,
    #[serde(skip)]
    beat: Duration,
}

/// How an instance stands among those that share its store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FleetStatus {
    /// Its run.
    pub incarnation: IncarnationId,
    /// How many instances are alive, this one included.
    pub alive: usize,
    /// What it owns: each unit with its term, which is how often it has changed hands.
    pub units: BTreeMap<String, u64>,
    /// An operator asked it to give everything away.
    pub draining: bool,
    /// When its last heartbeat was answered.
    pub last_heartbeat: Timestamp,
}

/// The whole, as `/api/status` shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// Whether everything that is promised is kept.
    pub ready: bool,
    /// Why not.
    pub reasons: Vec<NotReady>,
    /// The same in detail: each reason once for every subject, with its beginning.
    pub obstacles: Vec<Obstacle>,
    /// When this run began.
    pub started_at: Timestamp,
    /// The version of the program.
    pub version: String,
    /// The widgets.
    pub widgets: BTreeMap<WidgetName, WidgetStatus>,
    /// The tasks.
    pub tasks: BTreeMap<&'static str, TaskStatus>,
    /// The next instants of schedules, soonest first.
    pub next: Vec<NextOccurrence>,
    /// What is paused.
    pub paused: Vec<String>,
    /// Bots that are told nothing before a restart or a reload, and since when.
    pub set_aside: BTreeMap<BotName, Timestamp>,
    /// The jobs of the housekeeping: `prune`, `verify`, `integrity`.
    pub housekeeping: BTreeMap<&'static str, JobStatus>,
    /// How this instance stands among others; absent where the store is for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetStatus>,
}

/// A reason for not being ready, where it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Obstacle {
    /// The reason.
    pub reason: NotReady,
    /// Whom or what it is about: a widget, a bot (`bot/<name>`), a scope of a pause, a verb of the
    /// store.
    pub subject: String,
    /// Since when this run of the program knows of it.
    pub since: Timestamp,
}

impl Status {
    /// The same without what moves while nothing happens: two such values differ where there is
    /// something to tell.
    #[must_use]
    pub fn at_rest(mut self) -> Self {
        for widget in self.widgets.values_mut() {
            widget.last_good_poll = None;
            widget.last_poll = None;
            widget.in_flight = 0;
            // How long the last list took is another figure each time.
            widget.capabilities.clear();
        }
        if let Some(fleet) = &mut self.fleet {
            fleet.last_heartbeat = self.started_at;
        }
        for task in self.tasks.values_mut() {
            task.last_progress = self.started_at;
            task.beat = Duration::ZERO;
            task.last.clear();
        }
        self
    }
}

/// A job of the housekeeping as it stands. The times are those of this run of the program: what an
/// earlier one did is in its log.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct JobStatus {
    /// It runs now.
    pub running: bool,
    /// When it last ended.
    pub last: Option<Timestamp>,
    /// How long that took, in seconds.
    pub took_seconds: Option<f64>,
    /// How many records it dealt with: pruned, or looked at.
    pub records: u64,
    /// How much was wrong: contradictions, or one for a damaged store or a job that could not be done.
    pub problems: u64,
    /// What was wrong, a sentence each, the first few.
    pub found: Vec<String>,
    /// When it comes next.
    pub next: Option<Timestamp>,
}

/// When a schedule comes next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NextOccurrence {
    /// The schedule.
    pub schedule: String,
    /// The instant, in the schedule's zone.
    pub at: String,
    /// The instant.
    pub at_utc: Timestamp,
}

#[derive(Default)]
struct Board {
    widgets: BTreeMap<WidgetName, WidgetStatus>,
    tasks: BTreeMap<&'static str, TaskStatus>,
    next: Vec<NextOccurrence>,
    paused: Vec<String>,
    set_aside: BTreeMap<BotName, Timestamp>,
    housekeeping: BTreeMap<&'static str, JobStatus>,
    reasons: BTreeMap<NotReady, BTreeMap<String, Timestamp>>,
    fleet: Option<FleetStatus>,
}

impl Board {
    fn forget(&mut self, widget: &WidgetName) {
        self.widgets.remove(widget);
        for subjects in self.reasons.values_mut() {
            subjects.remove(widget.as_str());
        }
    }
}

/// Where the parts write what they do.
pub struct StatusBoard {
    clock: Arc<dyn Clock>,
    started_at: Timestamp,
    version: String,
    board: Mutex<Board>,
}

impl StatusBoard {
    /// An empty board: `starting`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, started_at: Timestamp, version: &str) -> Self {
        Self { clock, started_at, version: version.into(), board: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Board> {
        // A half-written status is still the best there is.
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A reason for not being ready comes or goes, for one subject (a widget, a task).
    pub fn reason(&self, reason: NotReady, subject: &str, holds: bool) {
        let mut board = self.lock();
        let subjects = board.reasons.entry(reason).or_default();
        if holds {
            subjects.entry(subject.to_owned()).or_insert_with(|| self.clock.now());
        } else {
            subjects.remove(subject);
        }
    }

    /// Forgets widgets that are no longer configured, with their reasons.
    pub fn keep_widgets(&self, keep: &[WidgetName]) {
        let mut board = self.lock();
        let gone: Vec<WidgetName> =
            board.widgets.keys().filter(|name| !keep.contains(name)).cloned().collect();
        gone.iter().for_each(|name| board.forget(name));
    }

    /// Forgets a widget that another instance serves, with its reasons.
    pub fn forget_widget(&self, widget: &WidgetName) {
        self.lock().forget(widget);
    }

    /// How this instance stands among others.
    pub fn fleet(&self, fleet: FleetStatus) {
        self.lock().fleet = Some(fleet);
    }

    /// It owns nothing any more, as far as it knows.
    pub(crate) fn no_units(&self) {
        if let Some(fleet) = &mut self.lock().fleet {
            fleet.units.clear();
        }
    }

    /// No task is running, and none is missed: the run was ended, and another one begins.
    pub(crate) fn no_tasks(&self) {
        self.lock().tasks.clear();
    }

    /// Changes what is known of a widget.
    pub fn widget(&self, name: &WidgetName, change: impl FnOnce(&mut WidgetStatus)) {
        change(self.lock().widgets.entry(name.clone()).or_default());
    }

    /// A task made progress, or looked and found nothing to do.
    pub fn beat(&self, task: &'static str, now: Timestamp, elapsed: Duration, last: &str) {
        let mut board = self.lock();
        let status = board.tasks.entry(task).or_insert_with(|| TaskStatus {
            last_progress: now,
            last: String::new(),
            restarts: 0,
            beat: elapsed,
        });
        status.last_progress = now;
        status.beat = elapsed;
        if status.last != last {
            status.last = last.to_owned();
        }
    }

    /// A task was started again.
    pub fn restarted(&self, task: &'static str) {
        if let Some(status) = self.lock().tasks.get_mut(task) {
            status.restarts += 1;
        }
    }

    /// How long ago each task last made progress.
    #[must_use]
    pub fn beats(&self, elapsed: Duration) -> Vec<(&'static str, Duration)> {
        let board = self.lock();
        board.tasks.iter().map(|(name, t)| (*name, elapsed.saturating_sub(t.beat))).collect()
    }

    /// The next instants of schedules.
    pub fn next(&self, next: Vec<NextOccurrence>) {
        self.lock().next = next;
    }

    /// What is paused.
    pub fn paused(&self, paused: Vec<String>) {
        let mut board = self.lock();
        let subjects = board.reasons.entry(NotReady::Paused).or_default();
        let since = |scope: &String| subjects.get(scope).copied();
        let now = || self.clock.now();
        *subjects =
            paused.iter().map(|scope| (scope.clone(), since(scope).unwrap_or_else(now))).collect();
        board.paused = paused;
    }

    /// A bot is told nothing any more.
    pub fn set_aside(&self, bot: &BotName, now: Timestamp) {
        self.lock().set_aside.entry(bot.clone()).or_insert(now);
        self.reason(NotReady::TaskStalled, &subject_of(bot), true);
    }

    /// Every bot has another chance.
    pub fn pardon(&self) {
        let pardoned = std::mem::take(&mut self.lock().set_aside);
        for bot in pardoned.keys() {
            self.reason(NotReady::TaskStalled, &subject_of(bot), false);
        }
    }

    /// Changes what is known of a job of the housekeeping.
    pub fn job<T>(&self, job: &'static str, change: impl FnOnce(&mut JobStatus) -> T) -> T {
        change(self.lock().housekeeping.entry(job).or_default())
    }

    /// The reasons for not being ready, in the order of the contract.
    #[must_use]
    pub fn reasons(&self) -> Vec<NotReady> {
        let board = self.lock();
        let held = |reason: &NotReady| board.reasons.get(reason).is_some_and(|s| !s.is_empty());
        NotReady::ALL.into_iter().filter(|reason| held(reason)).collect()
    }

    /// The whole.
    #[must_use]
    pub fn read(&self) -> Status {
        let reasons = self.reasons();
        let board = self.lock();
        let obstacles = reasons.iter().flat_map(|reason| {
            let subjects = board.reasons.get(reason).into_iter().flatten();
            subjects.map(|(subject, since)| Obstacle {
                reason: *reason,
                subject: subject.clone(),
                since: *since,
            })
        });
        Status {
            ready: reasons.is_empty(),
            obstacles: obstacles.collect(),
            reasons,
            started_at: self.started_at,
            version: self.version.clone(),
            widgets: board.widgets.clone(),
            tasks: board.tasks.clone(),
            next: board.next.clone(),
            paused: board.paused.clone(),
            set_aside: board.set_aside.clone(),
            housekeeping: board.housekeeping.clone(),
            fleet: board.fleet.clone(),
        }
    }
}

/// A bot among the subjects of a reason: tasks have names of their own.
fn subject_of(bot: &BotName) -> String {
    format!("bot/{bot}")
}
