//! Several instances of the daemon in one thread and in virtual time, on one store that they share: each
//! with a host's clock of its own, a thread that can stand still, and a way to the store that can be cut.
//! The store is a stand-in for a database (see [`FleetStore`]); everything else is what is shipped.

mod store;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_executor::block_on;
use futures_util::task::LocalSpawnExt;
use imbabot_bot::{ForeignMarkup, WidgetName};
use imbabot_core::{
    Api, BaseUrl, Credentials, Endpoint, Request, Response, SecretKey, SiteUserId, Timestamp,
    Transport, TransportError,
};
use imbabot_scheduler::{
    Clock, Engine, Fatal, Inline, NotReady, Parts, Settings, StoreClock, WidgetSettings,
};
use imbabot_simulator::{Clock as ServerClock, Options, Simulator};
use imbabot_store::{ErrorKind, Fleet, InstanceRecord, Ledger, LedgerLine, Store, Unit};

pub use store::FleetStore;

use crate::checker::{Check, Violation};
use crate::clock::VirtualClock;
use crate::running::Running;
use crate::transport::SimTransport;
use crate::world::{fail, must};
use store::Table;

/// No secret: it opens a simulator that lives for a moment.
const KEY: &str = "simulator-secret";
/// The first of the widgets has this number at ImbaChat's.
const FIRST: i64 = 700;

/// Instances, the store that they share, and the sites of their widgets.
pub struct Instances {
    /// The store's clock, which is the one that counts.
    pub clock: VirtualClock,
    start: Timestamp,
    table: Arc<Table>,
    sites: BTreeMap<WidgetName, Simulator>,
    settings: Settings,
    seats: BTreeMap<String, Seat>,
    /// How far the ledger was read when everybody looked last.
    looked: i64,
}

/// An instance, whether it runs or not.
struct Seat {
    clock: VirtualClock,
    store: Arc<FleetStore>,
    asked: Asked,
    running: Option<Running>,
    stands_still: bool,
    /// Time stands still with it.
    asleep: bool,
    /// Others have ended its run, which finishes what it has in flight.
    is_fenced: bool,
    fenced: u32,
}

/// How often an instance asked for lists, by widget.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<BTreeMap<WidgetName, u64>>>);

/// The way of one instance to one site.
struct Way {
    inner: SimTransport,
    widget: WidgetName,
    asked: Asked,
}

#[async_trait]
impl Transport for Way {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        if request.endpoint == Endpoint::GetRooms {
            let mut asked = self.asked.0.lock().unwrap_or_else(PoisonError::into_inner);
            *asked.entry(self.widget.clone()).or_default() += 1;
        }
        self.inner.send(request).await
    }

    fn base_url(&self) -> Option<&BaseUrl> {
        self.inner.base_url()
    }
}

impl Instances {
    /// A store that begins at `start` with this lease, and sites for these widgets. Nobody runs yet.
    ///
    /// # Panics
    /// A name is none.
    #[must_use]
    pub fn new(start: Timestamp, lease: Duration, widgets: &[&str]) -> Self {
        let clock = VirtualClock::at(start);
        let names: Vec<WidgetName> = widgets.iter().map(|name| must(name.parse())).collect();
        let mut sites = BTreeMap::new();
        for (place, name) in (0..).zip(names) {
            let time = clock.clone();
            let server_time = ServerClock::new(move || (start + time.elapsed()).as_micros());
            // Servers that count alike would give two messages one uuid.
            let options =
                Options { widget: FIRST + place, seed: place.unsigned_abs(), ..Options::default() };
            sites.insert(name, Simulator::new(options, server_time));
        }
        let table = Arc::new(Table::new(clock.clone(), lease));
        Self {
            clock,
            start,
            table,
            sites,
            settings: Settings::new(),
            seats: BTreeMap::new(),
            looked: 0,
        }
    }

    /// What all instances are to do, from their next start on.
    pub fn settings(&mut self) -> &mut Settings {
        &mut self.settings
    }

    /// The site of a widget.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn site(&self, widget: &str) -> &Simulator {
        match self.sites.iter().find(|(name, _)| name.as_str() == widget) {
            Some((_, site)) => site,
            None => fail(&format!("there is no widget {widget}")),
        }
    }

    /// Starts an instance whose host's wall is right.
    pub fn start(&mut self, name: &str) {
        self.start_at(name, self.clock.now());
    }

    /// Starts an instance whose host's wall shows this.
    ///
    /// # Panics
    /// The store refuses.
    pub fn start_at(&mut self, name: &str, wall: Timestamp) {
        let (clock, asked) = (VirtualClock::at(wall), Asked::default());
        let store = Arc::new(FleetStore::of(&self.table, name));
        let host: Arc<dyn Clock> = Arc::new(clock.clone());
        let of_store = must(block_on(StoreClock::of(&host, &*store)));
        let time: Arc<dyn Clock> = match of_store {
            Some(of_store) => Arc::new(of_store),
            None => host,
        };
        let settings = self.settings_of(&clock, &asked);
        let shared: Arc<dyn Store> = Arc::<FleetStore>::clone(&store);
        let parts = Parts {
            clock: time,
            store: shared,
            executor: Arc::new(Inline),
            settings,
            version: env!("CARGO_PKG_VERSION").into(),
            seed: 7,
        };
        let running = Some(must(Running::begin(parts)));
        let seat = Seat {
            clock,
            store,
            asked,
            running,
            stands_still: false,
            asleep: false,
            is_fenced: false,
            fenced: 0,
        };
        self.seats.insert(name.to_owned(), seat);
        self.step();
    }

    fn settings_of(&self, clock: &VirtualClock, asked: &Asked) -> Settings {
        let widget = |(widget, site): (&WidgetName, &Simulator)| WidgetSettings {
            name: widget.clone(),
            api: self.api(site, widget, clock, asked),
            sender: SiteUserId::from(1),
            rooms_by_jwt: false,
            markup: ForeignMarkup::Neutralize,
        };
        Settings { widgets: self.sites.iter().map(widget).collect(), ..self.settings.clone() }
    }

    /// Puts the settings into force at an instance, as SIGHUP does.
    ///
    /// # Panics
    /// It does not run, or the store refuses.
    pub fn reload(&mut self, name: &str) {
        let seat = self.seat(name);
        let (clock, asked, engine) = (seat.clock.clone(), seat.asked.clone(), self.engine(name));
        let settings = self.settings_of(&clock, &asked);
        let reload = async move { must(engine.reload(settings).await) };
        if let Some(running) = &self.seat(name).running {
            must(running.pool.spawner().spawn_local(reload));
        }
        self.step();
    }

    fn api(
        &self,
        site: &Simulator,
        widget: &WidgetName,
        clock: &VirtualClock,
        asked: &Asked,
    ) -> Api {
        let inner = SimTransport::new(site.clone(), Arc::new(clock.clone()));
        let way = Way { inner, widget: widget.clone(), asked: asked.clone() };
        let secret = must(SecretKey::parse(KEY));
        let widget = site.widget().unsigned_abs().into();
        Api::new(Arc::new(way), Credentials { widget, secret })
    }

    fn seat(&mut self, name: &str) -> &mut Seat {
        match self.seats.get_mut(name) {
            Some(seat) => seat,
            None => fail(&format!("there is no instance {name}")),
        }
    }

    /// The engine of an instance.
    ///
    /// # Panics
    /// It does not run.
    pub fn engine(&mut self, name: &str) -> Engine {
        match &self.seat(name).running {
            Some(running) => running.engine.clone(),
            None => fail(&format!("{name} does not run")),
        }
    }

    /// Why an instance is not ready.
    pub fn reasons(&mut self, name: &str) -> Vec<NotReady> {
        self.engine(name).reasons()
    }

    /// The store as an instance has it.
    pub fn store(&mut self, name: &str) -> Arc<FleetStore> {
        Arc::clone(&self.seat(name).store)
    }

    /// Kills an instance where it stands.
    pub fn kill(&mut self, name: &str) {
        self.seat(name).running = None;
        self.step();
    }

    /// Stops an instance as SIGTERM does, within `patience`.
    pub fn stop(&mut self, name: &str, patience: Duration) {
        self.engine(name).stop();
        self.advance(patience);
        if let Some(running) = self.seat(name).running.take()
            && let Err(fatal) = block_on(running.engine.end())
        {
            fail(&fatal.to_string());
        }
        self.step();
    }

    /// An instance stands still, as under SIGSTOP, or goes on. What elapses meanwhile elapses for it too.
    pub fn stands_still(&mut self, name: &str, still: bool) {
        self.seat(name).stands_still = still;
        self.step();
    }

    /// The host of an instance sleeps: nothing elapses there, and what its clock shows falls behind.
    pub fn sleeps(&mut self, name: &str, asleep: bool) {
        self.seat(name).asleep = asleep;
        self.stands_still(name, asleep);
    }

    /// Others take the run of an instance for dead, whether it is or not. No watcher notices it.
    ///
    /// # Panics
    /// It does not run.
    pub fn end_run(&mut self, name: &str) {
        let Some(run) = self.table.run_of(name) else { fail(&format!("{name} does not run")) };
        must(block_on(self.table.end(run, self.settings.delivery.settle)));
        self.looked = self.ledger().last().map_or(0, |line| line.seq);
    }

    /// Sets the wall of an instance's host.
    pub fn set_wall(&mut self, name: &str, to: Timestamp) {
        self.seat(name).clock.set_wall(to);
        self.step();
    }

    /// How often others have ended the run of an instance, after which it began anew.
    pub fn fenced(&mut self, name: &str) -> u32 {
        self.seat(name).fenced
    }

    /// How often an instance has asked for the rooms of a widget.
    pub fn polls(&mut self, name: &str, widget: &str) -> u64 {
        let asked = self.seat(name).asked.clone();
        let asked = asked.0.lock().unwrap_or_else(PoisonError::into_inner);
        asked.iter().find(|(name, _)| name.as_str() == widget).map_or(0, |(_, count)| *count)
    }

    /// Who has a widget.
    ///
    /// # Panics
    /// The name is none.
    #[must_use]
    pub fn owner(&self, widget: &str) -> Option<String> {
        self.table.owner(&must(widget.parse()))
    }

    /// From the next heartbeats on only this instance has the widget.
    ///
    /// # Panics
    /// The name is none.
    pub fn keep_for(&mut self, widget: &str, name: &str) {
        self.table.keep_for(Unit::Widget(must(widget.parse())), name);
    }

    /// From the next heartbeats on only this instance has the schedules.
    pub fn keep_schedules_for(&mut self, name: &str) {
        self.table.keep_for(Unit::Schedules, name);
    }

    /// An operator asks an instance to give everything away, or takes that back.
    ///
    /// # Panics
    /// There is no such instance.
    pub fn drain(&mut self, name: &str, draining: bool) {
        let now = self.clock.now();
        let Some(run) = self.table.run_of(name) else { fail(&format!("{name} does not run")) };
        let store = self.store(name);
        if !must(block_on(store.drain(now, run, draining))) {
            fail(&format!("{name} cannot be drained"));
        }
    }

    /// The instances as they know of each other.
    ///
    /// # Panics
    /// The store refuses.
    pub fn instances(&mut self, name: &str) -> Vec<InstanceRecord> {
        let store = self.store(name);
        must(block_on(store.instances()))
    }

    /// Runs every task of everybody until nothing is due. What one wrote the others look at, as a watcher
    /// has them do; whose run was ended begins anew, as `imbabot run` does.
    ///
    /// # Panics
    /// A task gave up.
    pub fn step(&mut self) {
        loop {
            for (name, seat) in &mut self.seats {
                seat.step(name);
            }
            let lines = must(block_on(self.table.inner().ledger(self.looked, usize::MAX)));
            let Some(last) = lines.last() else { return };
            self.looked = last.seq;
            for seat in self.seats.values() {
                seat.running.iter().for_each(|running| running.engine.wake());
            }
        }
    }

    /// Lets time pass for everybody, stopping at each moment at which something is due.
    pub fn advance(&mut self, by: Duration) {
        self.step();
        let target = self.clock.elapsed() + by;
        loop {
            let left = target.saturating_sub(self.clock.elapsed());
            let moving = self.seats.values().filter(|seat| !seat.stands_still);
            let next = moving.filter_map(|seat| seat.clock.until_next()).min();
            let by = next.filter(|next| *next <= left).unwrap_or(left);
            self.clock.advance(by);
            let awake = self.seats.values().filter(|seat| !seat.asleep);
            awake.for_each(|seat| seat.clock.advance(by));
            self.step();
            if next.is_none_or(|next| next > left) {
                return;
            }
        }
    }

    /// The whole ledger.
    ///
    /// # Panics
    /// The store refuses.
    #[must_use]
    pub fn ledger(&self) -> Vec<LedgerLine> {
        must(block_on(self.table.inner().ledger(0, usize::MAX)))
    }

    /// What was posted, by widget, oldest first.
    #[must_use]
    pub fn sent(&self, widget: &str) -> Vec<String> {
        let log = self.site(widget).log().into_iter();
        let sent = log.filter(|entry| entry.endpoint == Some(imbabot_simulator::Endpoint::SendMsg));
        sent.filter(|entry| entry.applied).filter_map(|entry| entry.text).collect()
    }

    /// What the invariants say of everything so far, once everything had the time to end.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        let requests = self.sites.values().flat_map(Simulator::log);
        let requests: Vec<_> = requests.collect();
        Check::new().requests(requests.iter().map(Into::into)).ledger(self.ledger()).run()
    }

    /// Fails the test, with every violation, unless all invariants hold.
    ///
    /// # Panics
    /// An invariant is broken.
    pub fn check(&self) {
        let violations: Vec<String> = self.violations().iter().map(ToString::to_string).collect();
        if !violations.is_empty() {
            fail(&violations.join("\n"));
        }
    }

    /// When everything began.
    #[must_use]
    pub fn began(&self) -> Timestamp {
        self.start
    }
}

impl Seat {
    fn step(&mut self, name: &str) {
        if self.stands_still {
            return;
        }
        let Some(running) = &mut self.running else { return };
        match running.step() {
            Err((_, Fatal::Store(error))) if *error.kind() == ErrorKind::Fenced => {
                self.is_fenced = true;
            }
            Err((task, fatal)) => fail(&format!("the {task} of {name} gave up: {fatal}")),
            Ok(()) => {}
        }
        if !(self.is_fenced && running.is_over()) {
            return;
        }
        let engine = running.engine.clone();
        // Its tasks are gone before the next run begins.
        self.running = None;
        self.is_fenced = false;
        self.fenced += 1;
        let mut next = Running::of(must(block_on(engine.begin_anew())));
        if let Err((task, fatal)) = next.step() {
            fail(&format!("the {task} of {name} gave up after it began anew: {fatal}"));
        }
        self.running = Some(next);
    }
}
