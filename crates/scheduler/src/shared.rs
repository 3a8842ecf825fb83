//! What the parts of one engine have in common: the seams, the settings in force, the breakers, the
//! bells by which they wake each other. No part calls another.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use imbabot_bot::WidgetName;
use imbabot_core::{Timestamp, escape_foreign};
use imbabot_store::{BreakerChange, ErrorKind, IncarnationId, Stop, Stoppage, Store};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use crate::breaker::{Breaker, Reason, Refused, Stops};
use crate::clock::Clock;
use crate::executor::BotExecutor;
use crate::metrics::{Family, Metrics};
use crate::ownership::Ownership;
use crate::poller::activity::Activity;
use crate::settings::Settings;
use crate::status::{NotReady, StatusBoard};

/// A failure after which the process must not go on: what it would say could not be believed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Fatal {
    /// The store is broken.
    #[error(transparent)]
    Store(imbabot_store::Error),
    /// A part failed again and again.
    #[error("the task `{task}` failed {times} times in a row; the last failure: {last}")]
    Task {
        /// Its name.
        task: &'static str,
        /// How often.
        times: u32,
        /// The last failure.
        last: String,
    },
}

/// Among the subjects of reasons: that others share the store.
pub(crate) const FLEET: &str = "fleet";

/// After a passing failure of the store.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// Clocks that differ by less than this are the same, as far as a list's `Date` can tell.
const SAME_CLOCK: u64 = 2_000_000;

/// One bell per part: rung when there may be something to do.
#[derive(Default)]
pub(crate) struct Bells {
    pub(crate) poller: Notify,
    pub(crate) timer: Notify,
    pub(crate) dispatcher: Notify,
    pub(crate) deliverer: Notify,
    pub(crate) fleet: Notify,
}

/// Settings that wait to be put into force, and who is to be told.
pub(crate) struct Reload {
    pub(crate) settings: Settings,
    pub(crate) done: oneshot::Sender<imbabot_store::Result<()>>,
}

pub(crate) struct Shared {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) executor: Arc<dyn BotExecutor>,
    pub(crate) settings: ArcSwap<Settings>,
    pub(crate) breakers: Mutex<BTreeMap<WidgetName, Breaker>>,
    /// What the store was not yet told of them.
    breaker_changes: Mutex<Vec<BreakerChange>>,
    pub(crate) incarnation: IncarnationId,
    /// What of the work is this instance's.
    pub(crate) ownership: Ownership,
    /// When a heartbeat was asked for that was answered, in microseconds of the elapsed time.
    heard: AtomicU64,
    /// Others have ended this run: nothing of it can be recorded any more but what became of requests.
    ended_by_others: AtomicBool,
    pub(crate) board: StatusBoard,
    /// They outlive a run that others ended.
    pub(crate) metrics: Arc<Metrics>,
    /// The version of the program.
    pub(crate) version: String,
    pub(crate) bells: Bells,
    pub(crate) stop: CancellationToken,
    pub(crate) poll_all: AtomicBool,
    /// New settings for the timer to put into force, once what is due under the old ones fired.
    pub(crate) reload: Mutex<Option<Reload>>,
    pub(crate) schedules_changed: AtomicBool,
    pub(crate) idle: Idle,
    /// How far each widget's server is ahead of this host, in microseconds, by its last list.
    ahead: Mutex<BTreeMap<WidgetName, i64>>,
    /// Whether each widget's lists tell that somebody writes.
    activities: Mutex<BTreeMap<WidgetName, Activity>>,
    /// Somebody watches whether the tasks are alive.
    pub(crate) watched: AtomicBool,
    /// What all chance of this run comes from.
    pub(crate) seed: u64,
    jitter: AtomicU64,
}

/// Whether each part has nothing left to do now; for `run --once` and for tests.
#[derive(Default)]
pub(crate) struct Idle {
    pub(crate) poller: AtomicBool,
    pub(crate) timer: AtomicBool,
    pub(crate) dispatcher: AtomicBool,
    pub(crate) deliverer: AtomicBool,
}

impl Idle {
    pub(crate) fn all(&self) -> bool {
        [&self.poller, &self.timer, &self.dispatcher, &self.deliverer]
            .iter()
            .all(|part| part.load(Ordering::Acquire))
    }

    pub(crate) fn none(&self) {
        for part in [&self.poller, &self.timer, &self.dispatcher, &self.deliverer] {
            part.store(false, Ordering::Release);
        }
    }
}

impl Shared {
    #[expect(clippy::too_many_arguments, reason = "each is a seam, named where it is made")]
    pub(crate) fn new(
        clock: Arc<dyn Clock>,
        store: Arc<dyn Store>,
        executor: Arc<dyn BotExecutor>,
        settings: Settings,
        incarnation: IncarnationId,
        started_at: Timestamp,
        version: &str,
        seed: u64,
    ) -> Self {
        let metrics = Arc::new(Metrics::new());
        metrics.set(Family::build_info, &[version], 1.0);
        let board = StatusBoard::new(Arc::clone(&clock), started_at, version);
        Self {
            clock,
            store,
            executor,
            settings: ArcSwap::from_pointee(settings),
            breakers: Mutex::default(),
            breaker_changes: Mutex::default(),
            incarnation,
            ownership: Ownership::default(),
            heard: AtomicU64::new(0),
            ended_by_others: AtomicBool::new(false),
            board,
            metrics,
            version: version.to_owned(),
            bells: Bells::default(),
            stop: CancellationToken::new(),
            poll_all: AtomicBool::new(false),
            reload: Mutex::default(),
            schedules_changed: AtomicBool::new(false),
            idle: Idle::default(),
            ahead: Mutex::default(),
            activities: Mutex::default(),
            watched: AtomicBool::new(false),
            seed,
            jitter: AtomicU64::new(seed),
        }
    }

    /// A server said what its clock shows.
    pub(crate) fn server_says(&self, widget: &WidgetName, server: Timestamp) {
        let ahead = server.as_micros().saturating_sub(self.clock.now().as_micros());
        // A `Date` counts whole seconds and was written before the list was read: what lies within
        // that is no difference.
        let ahead = if ahead.unsigned_abs() < SAME_CLOCK { 0 } else { ahead };
        let mut all = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(widget.clone(), ahead);
    }

    /// How far a widget's server is ahead, in microseconds, if it ever said so.
    pub(crate) fn server_ahead(&self, widget: &WidgetName) -> Option<i64> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner).get(widget).copied()
    }

    /// How far each widget's server is ahead, in microseconds.
    pub(crate) fn servers_ahead(&self) -> Vec<(WidgetName, i64)> {
        let all = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(widget, ahead)| (widget.clone(), *ahead)).collect()
    }

    /// Asks or tells what is known of a widget's activity.
    pub(crate) fn activity<T>(
        &self,
        widget: &WidgetName,
        act: impl FnOnce(&mut Activity) -> T,
    ) -> T {
        let mut all = self.activities.lock().unwrap_or_else(PoisonError::into_inner);
        act(all.entry(widget.clone()).or_default())
    }

    /// Asks or tells the breakers of a widget, and shows what follows.
    pub(crate) fn breaker<T>(&self, name: &WidgetName, act: impl FnOnce(&mut Breaker) -> T) -> T {
        let (result, open, unreachable) = {
            let mut all = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
            let breaker = all.entry(name.clone()).or_default();
            let before = breaker.stops();
            let result = act(breaker);
            if self.ownership.has(name) {
                self.note_breaker(name, before, breaker);
            }
            (result, breaker.open(), breaker.unreachable_since())
        };
        // What the last requests to a widget bring that was given away is for its new owner to find out.
        if !self.ownership.has(name) {
            return result;
        }
        let holds = |reason| open.is_some_and(|(open, _)| open == reason);
        let subject = name.as_str();
        self.board.reason(
            NotReady::ApiUnreachable,
            subject,
            unreachable.is_some() || holds(Reason::Outage),
        );
        self.board.reason(NotReady::CredentialsRejected, subject, holds(Reason::Credentials));
        self.board.reason(NotReady::Redirected, subject, holds(Reason::Redirect));
        for reason in [Reason::Outage, Reason::Credentials, Reason::Redirect] {
            let value = if holds(reason) { 1.0 } else { 0.0 };
            self.metrics.set(Family::breaker_open, &[subject, reason.as_str()], value);
        }
        let shown = open.map(|(reason, since)| (reason.as_str().to_owned(), since));
        self.board.widget(name, |status| status.breaker = shown);
        result
    }

    /// A widget is another instance's from now on: what is known of it here is old soon.
    pub(crate) fn give_away(&self, widget: &WidgetName) {
        self.breakers.lock().unwrap_or_else(PoisonError::into_inner).remove(widget);
        self.activities.lock().unwrap_or_else(PoisonError::into_inner).remove(widget);
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner).remove(widget);
        // What the store was not told by now is its new owner's to find out: told later, it would stand
        // there for ever, since nobody knows of it any more.
        let mut changes = self.breaker_changes.lock().unwrap_or_else(PoisonError::into_inner);
        changes.retain(|change| change.widget != *widget);
        drop(changes);
        self.board.forget_widget(widget);
        self.metrics.forget_widget(widget.as_str());
    }

    /// The breaker of a widget that another instance had, by what is recorded of it.
    pub(crate) fn take_breaker(&self, widget: &WidgetName, recorded: &[&Stoppage]) {
        let breaker = Breaker::recorded(recorded);
        // What the last answers to requests brought that were under way when it was given away is old.
        self.activities.lock().unwrap_or_else(PoisonError::into_inner).remove(widget);
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner).remove(widget);
        self.breakers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(widget.clone(), breaker);
    }

    /// Remembers for the store which breakers opened or closed, and lets the deliverer look.
    fn note_breaker(&self, widget: &WidgetName, before: Stops, breaker: &Breaker) {
        let after = breaker.stops();
        if before == after {
            return;
        }
        let at = self.clock.now();
        let mut changes = self.breaker_changes.lock().unwrap_or_else(PoisonError::into_inner);
        for ((reason, was), (_, open)) in before.into_iter().zip(after) {
            if was != open {
                let (reason, points_to) = match reason {
                    Reason::Outage => (Stop::Outage, None),
                    Reason::Credentials => (Stop::Credentials, None),
                    // None once it has closed.
                    Reason::Redirect => (Stop::Redirect, breaker.redirect_origin()),
                };
                let detail = points_to.map(|origin| escape_foreign(origin, 200));
                changes.push(BreakerChange { widget: widget.clone(), reason, at, open, detail });
            }
        }
        self.bells.deliverer.notify_one();
    }

    /// What the store was not yet told of the breakers; from here on it counts as told.
    pub(crate) fn breaker_changes(&self) -> Vec<BreakerChange> {
        let mut changes = self.breaker_changes.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *changes)
    }

    /// The store could not be told.
    pub(crate) fn breaker_changes_again(&self, mut earlier: Vec<BreakerChange>) {
        earlier.retain(|change| self.ownership.has(&change.widget));
        let mut changes = self.breaker_changes.lock().unwrap_or_else(PoisonError::into_inner);
        changes.splice(0..0, earlier);
    }

    /// A failure of the store: final ones end the process, others are told and waited out.
    pub(crate) async fn store_failed(
        &self,
        op: &str,
        error: imbabot_store::Error,
    ) -> Result<(), Fatal> {
        self.metrics.count(Family::store_errors_total, &[op]);
        if *error.kind() == ErrorKind::Fenced {
            return Err(self.fenced(error));
        }
        self.board.reason(NotReady::StoreUnwritable, op, true);
        if !error.is_retryable() && *error.kind() != ErrorKind::Undecodable {
            return Err(Fatal::Store(error));
        }
        tracing::warn!(code = error.code(), op, "{error}; trying again in a second");
        self.clock.sleep(STORE_PAUSE).await;
        Ok(())
    }

    /// Others have ended this run.
    pub(crate) fn fenced(&self, error: imbabot_store::Error) -> Fatal {
        self.ended_by_others.store(true, Ordering::Release);
        self.stop.cancel();
        // Until the run that follows it is told of as any other.
        self.board.reason(NotReady::Starting, FLEET, true);
        Fatal::Store(error)
    }

    /// Whether others have ended this run.
    pub(crate) fn is_fenced(&self) -> bool {
        self.ended_by_others.load(Ordering::Acquire)
    }

    /// A heartbeat that was asked for then was answered.
    pub(crate) fn heard_fleet(&self, asked: Duration) {
        let micros = u64::try_from(asked.as_micros()).unwrap_or(u64::MAX);
        self.heard.store(micros, Ordering::Release);
    }

    /// When a heartbeat was asked for that was answered, on the clock that never goes back.
    pub(crate) fn last_heard(&self) -> Duration {
        Duration::from_micros(self.heard.load(Ordering::Acquire))
    }

    /// With nothing due, a task looks around after this: where somebody watches, it shows that it
    /// is alive. In a simulation nobody does, and an empty hour is one step.
    pub(crate) fn look(&self) -> Duration {
        let watched = self.watched.load(Ordering::Acquire);
        Duration::from_secs(if watched { 60 } else { 3_600 })
    }

    /// The store did what it was asked.
    pub(crate) fn store_works(&self, op: &str) {
        self.board.reason(NotReady::StoreUnwritable, op, false);
    }

    pub(crate) fn beat(&self, task: &'static str, last: &str) {
        self.board.beat(task, self.clock.now(), self.clock.elapsed(), last);
    }

    /// A number from 0 to 1, different each time, the same in every run from one seed.
    pub(crate) fn jitter(&self) -> f64 {
        // SplitMix64: enough to spread retries, and nobody's secret.
        let step = self.jitter.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mut z = step.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let z = z ^ (z >> 31);
        #[expect(clippy::cast_precision_loss, reason = "53 bits are kept")]
        let fraction = (z >> 11) as f64 / (1_u64 << 53) as f64;
        fraction
    }
}

/// The credentials breaker opened.
pub(crate) fn tell_refused(widget: &WidgetName, endpoint: &str, refused: Refused) {
    let what = match refused {
        Refused::Key => "the secret key",
        Refused::Token => "the token that is made with the secret key (rooms_auth)",
    };
    tracing::error!(
        widget = widget.as_str(),
        endpoint,
        code = "IMB-API-CREDENTIALS",
        "ImbaChat refuses {what}: nothing is sent, everything is kept; \
         one probe a minute. Put the right key in place and reload (SIGHUP)"
    );
}

/// The redirect breaker opened.
pub(crate) fn tell_redirect(widget: &WidgetName, endpoint: &str, origin: &str) {
    let to = if origin.is_empty() { "nowhere".into() } else { escape_foreign(origin, 200) };
    tracing::error!(
        widget = widget.as_str(),
        endpoint,
        code = "IMB-API-REDIRECT",
        "ImbaChat answers with a redirect to {to}: it is not followed, nothing is sent, \
         everything is kept. Correct `base_url` and reload (SIGHUP)"
    );
}
