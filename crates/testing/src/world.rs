//! The whole daemon in one thread and in virtual time: the production parts, unmodified, over the
//! virtual clock, the in-process simulator and SQLite in memory. It can be killed at any moment
//! and started again on the same store.

use std::sync::Arc;
use std::time::Duration;

use futures_executor::block_on;
use futures_util::future::{Either, select};
use futures_util::task::LocalSpawnExt;
use imbabot_bot::ForeignMarkup;
use imbabot_core::{Api, Credentials, SecretKey, SiteUserId, Timestamp, Transport};
use imbabot_scheduler::{BotExecutor, Clock, Engine, Inline, Parts, Settings, WidgetSettings};
use imbabot_simulator::{Options, Simulator};
use imbabot_store::{Bodies, InspectionMark, LedgerLine, SqliteStore, Store};

use crate::checker::{Change, Check, Violation};
use crate::clock::VirtualClock;
use crate::running::Running;
use crate::simulation::Kill;
use crate::simulation::MortalTransport;
use crate::transcript::Recorder;
use crate::transport::SimTransport;

/// The secret of the simulated widget.
const SECRET: &str = "simulator-secret";

/// A daemon, a server and a clock.
pub struct World {
    /// The clock.
    pub clock: VirtualClock,
    /// The server.
    pub simulator: Simulator,
    transport: Arc<SimTransport>,
    ready: Vec<Change>,
    store: Arc<dyn Store>,
    settings: Settings,
    running: Option<Running>,
    recorder: Option<Recorder>,
    /// When the server comes back, on the clock that never goes back.
    down_until: Option<Duration>,
    kill: Kill,
}

impl World {
    /// A world that begins at `start`, with one widget `main` and nothing else to do.
    ///
    /// # Panics
    /// SQLite cannot make a store in memory.
    #[must_use]
    pub fn new(start: Timestamp) -> Self {
        Self::over(start, Arc::new(must(SqliteStore::in_memory(Bodies::Full))))
    }

    /// The same, on a store that is there already.
    #[must_use]
    pub fn over(start: Timestamp, store: Arc<dyn Store>) -> Self {
        let clock = VirtualClock::at(start);
        let server_time = {
            // The server has a clock of its own: setting ours does not set it.
            let clock = clock.clone();
            imbabot_simulator::Clock::new(move || (start + clock.elapsed()).as_micros())
        };
        let simulator = Simulator::new(Options::default(), server_time);
        let transport = SimTransport::new(simulator.clone(), Arc::new(clock.clone()));
        let mut world = Self {
            transport: Arc::new(transport),
            ready: Vec::new(),
            clock,
            simulator,
            store,
            settings: Settings::new(),
            running: None,
            recorder: None,
            down_until: None,
            kill: Kill::default(),
        };
        let widget = world.widget(SECRET);
        world.settings.widgets.push(widget);
        world
    }

    /// The widget `main` with this secret.
    #[must_use]
    pub fn widget(&self, secret: &str) -> WidgetSettings {
        let transport: Arc<dyn Transport> = Arc::<SimTransport>::clone(&self.transport);
        let widget = self.simulator.widget().unsigned_abs().into();
        let secret = must(SecretKey::parse(secret));
        WidgetSettings {
            name: must("main".parse()),
            api: Api::new(transport, Credentials { widget, secret }),
            sender: SiteUserId::from(1),
            rooms_by_jwt: false,
            markup: ForeignMarkup::Neutralize,
        }
    }

    /// What the daemon is to do, from its next start or [`World::reload`] on.
    pub fn settings(&mut self) -> &mut Settings {
        &mut self.settings
    }

    /// Starts the daemon, unless it runs, and lets it do what is due.
    ///
    /// # Panics
    /// The store refuses.
    pub fn start(&mut self) {
        if self.running.is_some() {
            return;
        }
        let executor: Arc<dyn BotExecutor> = match &self.recorder {
            Some(recorder) => Arc::new(recorder.witness.clone()),
            None => Arc::new(Inline),
        };
        let parts = Parts {
            clock: Arc::new(self.clock.clone()),
            store: Arc::clone(&self.store),
            executor,
            settings: self.watched_settings(),
            version: env!("CARGO_PKG_VERSION").into(),
            seed: 7,
        };
        let Some(begun) = self.unless_killed(Engine::begin(parts)) else { return };
        self.running = Some(Running::of(must(begun)));
        self.step();
    }

    /// Writes down from now on what happens, for a transcript.
    pub(crate) fn record(&mut self) {
        let mut recorder = Recorder::new(self.clock.clone());
        for widget in &self.settings.widgets {
            recorder.watch(widget.name.clone(), &self.simulator);
        }
        recorder.seq = self.ledger().last().map_or(0, |line| line.seq);
        self.recorder = Some(recorder);
    }

    pub(crate) fn recorder(&mut self) -> Option<&mut Recorder> {
        self.recorder.as_mut()
    }

    fn watched_settings(&self) -> Settings {
        match &self.recorder {
            Some(recorder) => recorder.witness.watching(self.settings.clone()),
            None => self.settings.clone(),
        }
    }

    /// Nobody can connect to the server until this much has passed. When it is back the lists are
    /// polled.
    pub fn server_down_for(&mut self, duration: Duration) {
        self.simulator.server_down(true);
        self.down_until = Some(self.clock.elapsed() + duration);
    }

    /// The engine, while it runs.
    #[must_use]
    pub fn engine(&self) -> Option<&Engine> {
        self.running.as_ref().map(|running| &running.engine)
    }

    /// Runs every task until nothing is due.
    ///
    /// # Panics
    /// A task gave up.
    pub fn step(&mut self) {
        let now = self.clock.now();
        if let Some(recorder) = &mut self.recorder {
            recorder.people(now);
        }
        if let Some(running) = &mut self.running
            && let Err((task, fatal)) = running.step()
        {
            fail(&format!("the {task} gave up: {fatal}"));
        }
        if let Some(recorder) = &mut self.recorder {
            let lines = must(block_on(self.store.ledger(recorder.seq, usize::MAX)));
            recorder.daemon(now, lines);
        }
        let good = self.running.as_ref().is_some_and(|running| running.engine.reasons().is_empty());
        if self.ready.last().is_none_or(|last| last.good != good) {
            self.ready.push(Change { at: self.clock.now(), good });
        }
    }

    /// Polls every list, and does what follows from it now.
    pub fn poll(&mut self) {
        self.start();
        if let Some(running) = &self.running {
            running.engine.poll_now();
        }
        self.step();
    }

    /// Lets time pass, stopping at each moment at which something is due.
    pub fn advance(&mut self, by: Duration) {
        self.step();
        let target = self.clock.elapsed() + by;
        while let Some(until) = self.down_until {
            if until > target {
                break;
            }
            self.go_to(until);
            self.down_until = None;
            self.simulator.server_down(false);
            self.step();
            if let Some(running) = &self.running {
                running.engine.poll_now();
                self.step();
            }
        }
        self.go_to(target);
    }

    fn go_to(&mut self, target: Duration) {
        while let Some(next) = self.clock.until_next() {
            let left = target.saturating_sub(self.clock.elapsed());
            if next > left {
                break;
            }
            // A sleeper that is due already is woken by moving on by nothing.
            self.clock.advance(next);
            self.step();
        }
        self.clock.advance(target.saturating_sub(self.clock.elapsed()));
        self.step();
    }

    /// Puts the settings into force, as SIGHUP does.
    ///
    /// # Panics
    /// The store refuses.
    pub fn reload(&mut self) {
        let settings = self.watched_settings();
        if let Some(running) = &self.running {
            let engine = running.engine.clone();
            let reload = async move {
                must(engine.reload(settings).await);
            };
            must(running.pool.spawner().spawn_local(reload));
        }
        self.step();
    }

    /// Kills the daemon where it stands: nothing it holds survives but the store.
    pub fn crash(&mut self) {
        self.note_end("the daemon is killed");
        self.without_blame(|world| world.running = None);
        self.step();
    }

    /// Stops the daemon as SIGTERM does: what is in flight is finished, within `patience`.
    ///
    /// # Panics
    /// The store refuses.
    pub fn stop(&mut self, patience: Duration) {
        if let Some(running) = &self.running {
            running.engine.stop();
        }
        self.advance(patience);
        self.note_end("the daemon stops");
        self.without_blame(|world| {
            if let Some(running) = world.running.take() {
                world.unless_killed(running.engine.end()).map(must);
            }
        });
    }

    /// From here on `kill` decides when the daemon is killed. Its store has to be a
    /// [`MortalStore`](crate::simulation::MortalStore) of the same; its requests go a mortal way.
    pub fn is_mortal(&mut self, kill: &Kill) {
        let transport = MortalTransport::over(Arc::clone(&self.transport), kill.clone());
        let transport: Arc<dyn Transport> = Arc::new(transport);
        for widget in &mut self.settings.widgets {
            widget.api = Api::new(Arc::clone(&transport), widget.api.credentials().clone());
        }
        self.kill = kill.clone();
    }

    /// Waits for something that a kill may cut short.
    fn unless_killed<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let killed = std::pin::pin!(self.kill.struck());
        match block_on(select(std::pin::pin!(work), killed)) {
            Either::Left((done, _)) => Some(done),
            Either::Right(_) => None,
        }
    }

    fn note_end(&mut self, how: &str) {
        let now = self.clock.now();
        if let Some(recorder) = &mut self.recorder
            && self.running.is_some()
        {
            recorder.fault(now, how.into());
        }
    }

    /// Handlers that end now end because the daemon does.
    fn without_blame(&mut self, end: impl FnOnce(&mut Self)) {
        let witness = self.recorder.as_ref().map(|recorder| recorder.witness.clone());
        witness.iter().for_each(|witness| witness.killing(true));
        end(self);
        witness.iter().for_each(|witness| witness.killing(false));
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    /// The whole ledger.
    ///
    /// # Panics
    /// The store refuses.
    #[must_use]
    pub fn ledger(&self) -> Vec<LedgerLine> {
        must(block_on(self.store.ledger(0, usize::MAX)))
    }

    /// The metrics, while the daemon runs.
    #[must_use]
    pub fn metrics(&self) -> String {
        let running = self.running.as_ref();
        running.map(|running| block_on(running.engine.metrics())).unwrap_or_default()
    }

    /// What the invariants say of everything so far.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        let delivery = &self.settings.delivery;
        let check = Check::new()
            .requests(self.simulator.log().iter().map(Into::into))
            .ledger(self.ledger())
            .rate(delivery.rate)
            .readiness(&self.transport.answered(), &self.ready, self.clock.now())
            .secret(must(SecretKey::parse(SECRET)));
        // A daemon that does not run shows no metrics.
        if self.running.is_some() { check.metrics(self.metrics()).run() } else { check.run() }
    }

    /// What the store's own inspection says of its records.
    ///
    /// # Panics
    /// The store refuses.
    #[must_use]
    pub fn inspect(&self) -> Vec<String> {
        let (mut mark, mut found) = (Some(InspectionMark::default()), Vec::new());
        while let Some(at) = mark.take() {
            let batch = must(block_on(self.store.inspect(at, 100)));
            found.extend(batch.found);
            mark = batch.next;
        }
        found
    }

    /// Fails the test, with every violation, unless all invariants hold.
    ///
    /// # Panics
    /// An invariant is broken.
    pub fn check(&self) {
        let violations = self.violations();
        if !violations.is_empty() {
            let list: Vec<String> = violations.iter().map(ToString::to_string).collect();
            fail(&list.join("\n"));
        }
        let contradictions = self.inspect();
        if !contradictions.is_empty() {
            fail(&contradictions.join("\n"));
        }
    }
}

/// A test cannot go on without this.
#[track_caller]
pub(crate) fn must<T, E: std::fmt::Display>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| fail(&error.to_string()))
}

/// Ends a test.
#[track_caller]
#[expect(clippy::panic, reason = "this crate serves tests: a panic is how they fail")]
pub(crate) fn fail(message: &str) -> ! {
    panic!("{message}")
}
