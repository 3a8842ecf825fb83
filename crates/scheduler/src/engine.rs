//! The engine as a whole: it begins a run on a store, hands out the parts as tasks, takes new
//! settings, and ends the run. It knows no particular bot, and not whether its clock, transport
//! and threads are real.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use imbabot_bot::{DeliveryId, WidgetName};
use imbabot_core::{Timestamp, WidgetId};
use imbabot_store::{Begun, Source, Store};
use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::executor::BotExecutor;
use crate::metrics::{Family, Metrics};
use crate::settings::Settings;
use crate::shared::{Fatal, Reload, Shared};
use crate::signs::{self, Signs};
use crate::status::{NotReady, Status};
use crate::supervisor::{self, Task};
use crate::{deliverer, dispatcher, fleet, housekeeping, poller, timer};

/// How often the store is asked whether another process changed it, where it does not say by itself
/// that it was written to: a `send` beside the daemon is posted within a second, a pause obeyed within one.
const WATCH: Duration = Duration::from_millis(400);
/// Under load a store is written to all the time, by ourselves most of all: what comes within so
/// long is one thing to look at.
const GATHER: Duration = Duration::from_millis(20);
/// How often counts and pauses are read for the status.
const COUNT: Duration = Duration::from_secs(5);
/// A task that has not looked around for so long is stalled; each looks at least once a minute.
const STALLED: Duration = Duration::from_secs(180);
/// This one only waits for its jobs, which come when they come.
const WAITS: &str = "housekeeping";

/// What an engine is made of.
pub struct Parts {
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The store, in the daemon's role.
    pub store: Arc<dyn Store>,
    /// Where bots run.
    pub executor: Arc<dyn BotExecutor>,
    /// What is to be done.
    pub settings: Settings,
    /// The version of the program, for ledger and metrics.
    pub version: String,
    /// Spreads retries; the same seed, the same spread.
    pub seed: u64,
}

/// One run of the pipeline.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
    begun: Arc<Begun>,
}

impl Engine {
    /// Begins a run: what was being sent becomes `unknown`, schedules and bots are adopted.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn begin(parts: Parts) -> imbabot_store::Result<Self> {
        Self::begin_only(parts).await?.set_out().await
    }

    /// What comes between the beginning of a run and its first task.
    async fn set_out(self) -> imbabot_store::Result<Self> {
        let shared = &self.shared;
        let settings = shared.settings.load_full();
        note_flaws(shared, &settings);
        // With others on the same store, nothing is this one's before it was told so.
        fleet::beat(shared).await?;
        // From the first moment on: whoever asks before the poller had its first turn is told so.
        for widget in settings.widgets.iter().filter(|w| shared.ownership.has(&w.name)) {
            shared.board.reason(NotReady::Starting, widget.name.as_str(), true);
        }
        adopt(&*shared.store, shared.clock.now(), &settings).await?;
        Ok(self)
    }

    /// Begins a run without adopting bots and schedules: for a verb that delivers one row and
    /// leaves the rest as the daemon left it.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn begin_only(parts: Parts) -> imbabot_store::Result<Self> {
        parts.store.adopt_widgets(&widgets_of(&parts.settings)).await?;
        Self::begin_bare(parts, None).await
    }

    async fn begin_bare(
        parts: Parts,
        metrics: Option<Arc<Metrics>>,
    ) -> imbabot_store::Result<Self> {
        let Parts { clock, store, executor, settings, version, seed } = parts;
        let now = clock.now();
        let begun = store.begin(now, &version, settings.delivery.settle).await?;
        if begun.turned_unknown > 0 {
            tracing::warn!(
                deliveries = begun.turned_unknown,
                code = "IMB-D-UNKNOWN",
                "the last run ended while it was sending: nobody knows whether these were posted; \
                 `imbabot deliveries --state unknown`"
            );
        }
        let mut shared =
            Shared::new(clock, store, executor, settings, begun.incarnation, now, &version, seed);
        if let Some(metrics) = metrics {
            shared.metrics = metrics;
        }
        Ok(Self { shared: Arc::new(shared), begun: Arc::new(begun) })
    }

    /// Begins another run of the same parts with the settings that are in force, after others have ended
    /// this one ([`imbabot_store::ErrorKind::Fenced`]). The metrics go on.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn begin_anew(&self) -> imbabot_store::Result<Self> {
        let shared = &self.shared;
        let settings = shared.settings.load_full();
        let parts = Parts {
            clock: Arc::clone(&shared.clock),
            store: Arc::clone(&shared.store),
            executor: Arc::clone(&shared.executor),
            settings: (*settings).clone(),
            version: shared.version.clone(),
            seed: shared.seed,
        };
        let metrics = Some(Arc::clone(&shared.metrics));
        for widget in &settings.widgets {
            shared.metrics.forget_widget(widget.name.as_str());
        }
        let engine = Self::begin_bare(parts, metrics).await?.set_out().await?;
        shared.metrics.count(Family::fenced_total, &[]);
        for bot in settings.bots.iter().filter(|bot| shared.executor.is_set_aside(&bot.name)) {
            engine.shared.board.set_aside(&bot.name, engine.shared.clock.now());
        }
        Ok(engine)
    }

    /// What the run before this one left behind.
    #[must_use]
    pub fn begun(&self) -> &Begun {
        &self.begun
    }

    /// The parts that a simulation needs: all but those that are about the host.
    #[must_use]
    pub fn tasks(&self) -> Vec<Task> {
        macro_rules! task {
            ($name:literal, $run:path) => {
                self.task($name, |shared| Box::pin($run(shared)))
            };
        }
        let mut tasks = vec![
            task!("poller", poller::run),
            task!("timer", timer::run),
            task!("dispatcher", dispatcher::run),
            task!("deliverer", deliverer::run),
        ];
        if !self.shared.ownership.now().is_alone() {
            tasks.push(Task { attends: true, ..task!("fleet", fleet::run) });
        }
        tasks
    }

    fn task(
        &self,
        name: &'static str,
        run: fn(Arc<Shared>) -> BoxFuture<'static, Result<(), Fatal>>,
    ) -> Task {
        let shared = Arc::clone(&self.shared);
        Task { name, start: Box::new(move || run(Arc::clone(&shared))), attends: false }
    }

    /// Runs everything until [`Engine::stop`], then ends the run.
    ///
    /// # Errors
    /// A part cannot go on: the process has to end.
    pub async fn run(&self) -> Result<(), Fatal> {
        self.shared.watched.store(true, Ordering::Release);
        let mut tasks = self.tasks();
        tasks.push(self.task("housekeeping", |shared| Box::pin(housekeeping::run(shared))));
        tasks.push(self.task("watcher", |shared| Box::pin(watch(shared))));
        self.until_end(tasks).await
    }

    /// Polls each list once, handles and delivers what is due, then stops.
    ///
    /// # Errors
    /// As [`Engine::run`].
    pub async fn run_once(&self) -> Result<(), Fatal> {
        let mut tasks = self.tasks();
        tasks.push(self.task("once", |shared| Box::pin(stop_when_idle(shared))));
        self.until_end(tasks).await
    }

    async fn until_end(&self, tasks: Vec<Task>) -> Result<(), Fatal> {
        if let Err(fatal) = supervisor::supervise(Arc::clone(&self.shared), tasks).await {
            if self.shared.is_fenced() {
                self.shared.board.no_tasks();
                return Err(fatal);
            }
            signs::farewell(&self.shared, false).await;
            return Err(fatal);
        }
        self.take_leave().await
    }

    /// Says in the store how the engine was at its end, and ends the run.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn take_leave(&self) -> Result<(), Fatal> {
        self.end().await?;
        signs::farewell(&self.shared, true).await;
        Ok(())
    }

    /// Delivers one row and no other, as `send` does without a daemon: one attempt, or as many as
    /// fit before `until`. False if older rows wait before it.
    ///
    /// # Errors
    /// The store is broken.
    pub async fn deliver_only(
        &self,
        id: DeliveryId,
        until: Option<Timestamp>,
    ) -> Result<bool, Fatal> {
        deliverer::only(&self.shared, id, until).await
    }

    /// Ends the run in the store: nothing is in flight any more.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn end(&self) -> Result<(), Fatal> {
        let now = self.shared.clock.now();
        self.shared.store.end(self.shared.incarnation, now).await.map_err(Fatal::Store)
    }

    /// Stops claiming; what is in flight is finished.
    pub fn stop(&self) {
        self.shared.board.reason(NotReady::Draining, "engine", true);
        self.shared.stop.cancel();
    }

    /// Whether [`Engine::stop`] was called.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.shared.stop.is_cancelled()
    }

    /// Takes new settings, once what is due under the old rules has fired. Resolves when they are
    /// in force; the engine has to be running.
    ///
    /// # Errors
    /// The store refuses; the old settings stay in force.
    pub async fn reload(&self, settings: Settings) -> imbabot_store::Result<()> {
        let names: Vec<_> = settings.widgets.iter().map(|widget| widget.name.clone()).collect();
        let bots: Vec<_> = settings.bots.iter().map(|bot| bot.name.clone()).collect();
        note_flaws(&self.shared, &settings);
        let (done, told) = oneshot::channel();
        let waiting = Reload { settings, done };
        *self.shared.reload.lock().unwrap_or_else(PoisonError::into_inner) = Some(waiting);
        self.shared.bells.timer.notify_one();
        told.await.unwrap_or_else(|_| {
            Err(imbabot_store::Error::new(
                imbabot_store::ErrorKind::Closed,
                "another reload or the end came first",
            ))
        })?;
        self.shared.board.keep_widgets(&names);
        self.shared.bells.fleet.notify_one();
        self.shared.executor.reloaded(&bots);
        self.shared.board.pardon();
        for name in &names {
            let shut = self.shared.breaker(name, |breaker| breaker.open().is_some());
            // Whether the new settings are the right ones, the next list will tell.
            if shut && self.shared.ownership.has(name) {
                self.shared.board.reason(NotReady::Starting, name.as_str(), true);
            }
            self.shared.breaker(name, |breaker| breaker.reloaded());
        }
        self.poll_now();
        self.wake();
        Ok(())
    }

    /// A reload was refused.
    pub fn reload_failed(&self) {
        self.shared.metrics.count(Family::config_reload_failures_total, &[]);
    }

    /// Polls every list as soon as possible.
    pub fn poll_now(&self) {
        self.shared.poll_all.store(true, Ordering::Release);
        self.shared.bells.poller.notify_one();
    }

    /// Something in the store may have changed: every part looks.
    pub fn wake(&self) {
        wake(&self.shared);
    }

    /// What the engine is doing.
    #[must_use]
    pub fn status(&self) -> Status {
        note_stalled(&self.shared);
        self.shared.board.read()
    }

    /// Why the engine is not ready.
    #[must_use]
    pub fn reasons(&self) -> Vec<NotReady> {
        note_stalled(&self.shared);
        self.shared.board.reasons()
    }

    /// Whether every task has looked around lately.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let beats = self.shared.board.beats(self.shared.clock.elapsed());
        !beats.iter().any(|(task, age)| is_stalled(task, *age))
    }

    /// All metrics in Prometheus' text format, the counts of the store as they are now.
    pub async fn metrics(&self) -> String {
        let metrics = &self.shared.metrics;
        count(&self.shared).await;
        let now = self.shared.clock.now();
        let status = self.status();
        for (name, widget) in status.widgets {
            // One that was never heard is as old as this run: it must not be missed by an alert.
            let age = now.since(widget.last_good_poll.unwrap_or(status.started_at));
            metrics.set(Family::poll_age_seconds, &[name.as_str()], age.as_secs_f64());
        }
        if !self.shared.ownership.now().is_alone() {
            let age = self.shared.clock.elapsed().saturating_sub(self.shared.last_heard());
            metrics.set(Family::heartbeat_age_seconds, &[], age.as_secs_f64());
        }
        for (task, age) in self.shared.board.beats(self.shared.clock.elapsed()) {
            metrics.set(Family::task_heartbeat_age_seconds, &[task], age.as_secs_f64());
        }
        metrics.render()
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.shared.store
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.shared.clock
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        self.shared.settings.load_full()
    }

    /// Deletes finished records that are older than the retention, as housekeeping does.
    pub async fn prune(&self) {
        housekeeping::prune(&self.shared).await;
    }

    /// Holds the records of the store against each other, as housekeeping does at night.
    pub async fn verify(&self) {
        housekeeping::verify(&self.shared).await;
    }
}

fn is_stalled(task: &str, age: Duration) -> bool {
    age >= STALLED && task != WAITS
}

/// A task that makes no progress is a reason for not being ready, until it does. In a simulation
/// nobody watches: there an hour is one step.
fn note_stalled(shared: &Shared) {
    if !shared.watched.load(Ordering::Acquire) {
        return;
    }
    for (task, age) in shared.board.beats(shared.clock.elapsed()) {
        let subject = format!("task/{task}");
        shared.board.reason(NotReady::TaskStalled, &subject, is_stalled(task, age));
    }
}

/// Bots that panicked before they were told anything: they are counted and said, others go on.
fn note_flaws(shared: &Shared, settings: &Settings) {
    for bot in &settings.bots {
        let Some(flaw) = &bot.flaw else { continue };
        shared.metrics.count(Family::bot_invocations_total, &[bot.name.as_str(), "panic"]);
        tracing::error!(
            bot = %bot.name, code = "IMB-B-FLAWED",
            "the bot panicked when it was asked what it listens to and when ({flaw}): it is told nothing"
        );
    }
}

pub(crate) async fn adopt(
    store: &dyn Store,
    now: Timestamp,
    settings: &Settings,
) -> imbabot_store::Result<()> {
    store.adopt_widgets(&widgets_of(settings)).await?;
    let bots: Vec<_> = settings.bots.iter().map(|bot| bot.name.clone()).collect();
    store.adopt_bots(now, &bots).await?;
    // Before the cursors: after a kill in between it is done again.
    timer::shorten_runs(store, now, settings).await?;
    for cursor in store.adopt_schedules(now, timer::definitions(settings)).await? {
        if cursor.reanchored {
            tracing::warn!(
                schedule = cursor.key,
                code = "IMB-T-REANCHORED",
                "the last run fired under a clock that was more than a day ahead; \
                 the schedule goes on from now"
            );
        }
    }
    Ok(())
}

fn widgets_of(settings: &Settings) -> Vec<(WidgetName, WidgetId)> {
    let widget = |w: &crate::settings::WidgetSettings| (w.name.clone(), w.api.credentials().widget);
    settings.widgets.iter().map(widget).collect()
}

pub(crate) fn wake(shared: &Shared) {
    shared.schedules_changed.store(true, Ordering::Release);
    shared.idle.none();
    shared.bells.poller.notify_one();
    shared.bells.timer.notify_one();
    shared.bells.dispatcher.notify_one();
    shared.bells.deliverer.notify_one();
}

/// Notices what other processes did to the store, keeps the counts of the status fresh, and gives
/// signs of life.
async fn watch(shared: Arc<Shared>) -> Result<(), Fatal> {
    let mut counted = None;
    show_doctor(&shared).await;
    let mut signs = Signs::default();
    loop {
        if shared.store.changed_by_another().await.unwrap_or(false) {
            wake(&shared);
            show_doctor(&shared).await;
            counted = None;
        }
        let now = shared.clock.elapsed();
        if counted.is_none_or(|at| now.saturating_sub(at) >= COUNT) {
            counted = Some(now);
            count(&shared).await;
        }
        shared.beat("watcher", "watching");
        note_stalled(&shared);
        signs.look(&shared).await?;
        tokio::select! {
            () = shared.stop.cancelled() => {
                signs::farewell(&shared, false).await;
                return Ok(());
            }
            () = shared.clock.sleep(WATCH) => {}
            () = shared.store.stirred() => shared.clock.sleep(GATHER).await,
        }
    }
}

/// What `doctor` found, which may be while this runs.
async fn show_doctor(shared: &Shared) {
    for learned in shared.store.learned().await.unwrap_or_default() {
        let widgets = &shared.settings.load().widgets;
        let ours = |name: &WidgetName| {
            shared.ownership.has(name) && widgets.iter().any(|widget| widget.name == *name)
        };
        if learned.source == Source::Doctor && ours(&learned.widget) {
            shared.board.widget(&learned.widget, |status| {
                status.capabilities.insert(Source::Doctor, learned.capabilities);
            });
        }
    }
}

async fn count(shared: &Shared) {
    if let Ok(paused) = shared.store.paused().await {
        shared.board.paused(paused.iter().map(ToString::to_string).collect());
    }
    if let Ok(tally) = shared.store.tally().await {
        let metrics = &shared.metrics;
        let mut states = std::collections::BTreeMap::new();
        for count in &tally.deliveries {
            *states.entry(count.state).or_insert(0) += count.present;
            let labels = [count.state.as_str(), count.reason.as_deref().unwrap_or_default()];
            metrics.set(Family::deliveries_total, &labels, float(count.total));
        }
        for state in imbabot_store::DeliveryState::ALL {
            let count = states.get(state).copied().unwrap_or(0);
            metrics.set(Family::deliveries, &[state.as_str()], float(count));
        }
        metrics.set(Family::possible_duplicates_total, &[], float(tally.possible_duplicates));
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge")]
fn float(count: u64) -> f64 {
    count as f64
}

/// For `run --once`: two looks in a row that find nothing left to do.
async fn stop_when_idle(shared: Arc<Shared>) -> Result<(), Fatal> {
    let mut idle = 0;
    while idle < 3 && !shared.stop.is_cancelled() {
        shared.clock.sleep(Duration::from_millis(30)).await;
        idle = if shared.idle.all() { idle + 1 } else { 0 };
    }
    shared.stop.cancel();
    Ok(())
}
