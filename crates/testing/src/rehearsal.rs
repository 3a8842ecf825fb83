//! A configuration lived through in virtual time: the real engine with the real bots, a simulated site
//! for each widget, and what came of it as a transcript. Nothing of it reaches a real room: there is
//! no transport but the simulators'. It asks for a list only where one may have changed: a poll that
//! finds nothing leaves nothing behind, and a year has six million of them.

mod life;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_executor::block_on;
use imbabot_bot::WidgetName;
use imbabot_core::{Credentials, RoomId, SecretKey, SiteUserId, Timestamp, Transport, WidgetId};
use imbabot_scheduler::{Clock, Fatal, Parts, Settings};
use imbabot_simulator::{Clock as ServerClock, Options, Room, Simulator};
use imbabot_store::{Bodies, DeliveryRecord, OccurrenceRecord, SqliteStore, Store};

use crate::clock::VirtualClock;
use crate::running::Running;
use crate::transcript::{Entry, Recorder, Transcript, What};
use crate::transport::SimTransport;
use life::Life;

/// No secret: it opens a simulator that lives for a moment.
const KEY: &str = "simulator-secret";
/// Polls are asked for where something changed, and never come by themselves.
const NEVER: Duration = Duration::from_secs(100 * 365 * 86_400);
const DAY: Duration = Duration::from_secs(86_400);
/// A list that is polled at this distance or a shorter one is always fresh enough for an announcement.
const FRESH: Duration = Duration::from_secs(5);
/// The engine polls so long before an announcement that would find an older list.
const LEAD: Duration = Duration::from_secs(1);
/// What the rates hold back at the end is waited for so long.
const PATIENCE: Duration = DAY;

/// Which rooms a site has when it begins.
#[derive(Debug, Clone)]
pub enum Rooms {
    /// These.
    Listed(Vec<imbabot_core::Room>),
    /// So many as the simulator makes up, and these besides.
    MadeUp(usize, BTreeSet<RoomId>),
}

/// What to live through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// From this instant on.
    pub from: Timestamp,
    /// Up to and with this one.
    pub until: Timestamp,
    /// People open rooms and close them again, as this seed has it. Without one nobody does anything.
    pub seed: Option<u64>,
}

/// A stage on which nothing has happened yet.
pub struct Rehearsal {
    wanted: Wanted,
    clock: VirtualClock,
    sites: BTreeMap<WidgetName, Simulator>,
}

/// What happened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Rehearsed {
    /// Everything up to the end, and what followed from it.
    pub transcript: Transcript,
    /// The occurrences of announcements and of bots' own schedules, by instant.
    pub occurrences: Vec<OccurrenceRecord>,
    /// What is still to be posted at the end, by widget, room and instant.
    pub waiting: Vec<DeliveryRecord>,
    /// Tries of handlers that failed.
    pub failures: Vec<String>,
    /// What the rooms are called at the end.
    pub names: BTreeMap<(WidgetName, RoomId), String>,
    /// How often the lists were polled.
    pub polls: u64,
}

/// Why a rehearsal ended early.
#[derive(Debug, thiserror::Error)]
#[error("the {task} gave up: {fatal}")]
pub struct GaveUp {
    task: &'static str,
    /// Why.
    pub fatal: Fatal,
}

impl Rehearsal {
    /// A stage that begins just before `from`: what is due at that instant belongs to it.
    #[must_use]
    pub fn new(wanted: Wanted) -> Self {
        let start = Timestamp::from_micros(wanted.from.as_micros().saturating_sub(1));
        Self { wanted, clock: VirtualClock::at(start), sites: BTreeMap::new() }
    }

    /// Sets up the site of a widget: the way to it, and what opens it.
    ///
    /// # Errors
    /// Never, as long as the simulator's own key is one.
    pub fn site(
        &mut self,
        widget: &WidgetName,
        number: WidgetId,
        rooms: Rooms,
    ) -> Result<(Arc<dyn Transport>, Credentials), imbabot_core::SecretKeyError> {
        let start = self.clock.now();
        let time = self.clock.clone();
        let server_time = ServerClock::new(move || (start + time.elapsed()).as_micros());
        let options = Options {
            widget: i64::try_from(number.0).unwrap_or(i64::MAX),
            secret: KEY.into(),
            seed: self.wanted.seed.unwrap_or_default(),
            ..Options::default()
        };
        let simulator = Simulator::new(options, server_time);
        match rooms {
            Rooms::Listed(rooms) => {
                simulator.place_rooms(rooms.iter().map(|room| row(room, start)));
            }
            Rooms::MadeUp(count, besides) => {
                simulator.populate(count);
                let missing = besides.into_iter().map(|id| {
                    let room = imbabot_core::Room::new(id, format!("Room {id}"));
                    row(&room, start)
                });
                let missing: Vec<Room> =
                    missing.filter(|room| simulator.room(room.id).is_none()).collect();
                simulator.place_rooms(missing);
            }
        }
        let transport = SimTransport::new(simulator.clone(), Arc::new(self.clock.clone()));
        self.sites.insert(widget.clone(), simulator);
        Ok((Arc::new(transport), Credentials { widget: number, secret: SecretKey::parse(KEY)? }))
    }

    /// Lives through it. The widgets of `settings` reach the sites that were set up.
    ///
    /// # Errors
    /// A part of the engine gave up.
    pub fn run(self, mut settings: Settings) -> Result<Rehearsed, GaveUp> {
        let Self { wanted, clock, sites } = self;
        let distance = settings.poll.rooms.max(Duration::from_millis(1));
        settings.poll.rooms = NEVER;
        settings.poll.users = NEVER;
        settings.rehearsing = true;
        settings.spool = None;
        for (widget, simulator) in &sites {
            // Who speaks for the bots is a user of the site: that is no news.
            for sender in senders(&settings, widget) {
                simulator.join(&format!("user {sender}"), sender);
            }
        }
        let longest = longest_delay(&settings);
        let mut recorder = Recorder::new(clock.clone());
        sites.iter().for_each(|(widget, site)| recorder.watch(widget.clone(), site));
        let settings = recorder.witness.watching(settings);
        let store = SqliteStore::in_memory(Bodies::Full).map_err(broken)?;
        let store: Arc<dyn Store> = Arc::new(store);
        let parts = Parts {
            clock: Arc::new(clock.clone()),
            store: Arc::clone(&store),
            executor: Arc::new(recorder.witness.clone()),
            settings,
            version: env!("CARGO_PKG_VERSION").into(),
            seed: wanted.seed.unwrap_or_default(),
        };
        let running = Running::begin(parts).map_err(broken)?;
        let lives = wanted.seed.map(|seed| Life::of(seed, &wanted, &sites));
        let mut stage = Stage {
            // Seen from `from` on, and not from a microsecond before.
            began: clock.elapsed() + Duration::from_micros(1),
            pruned: clock.elapsed(),
            polls: 1,
            clock,
            store,
            running,
            recorder,
            distance,
            poll_at: None,
            lives: lives.unwrap_or_default(),
        };
        stage.step()?;
        stage.go_to(wanted.until)?;
        stage.lives.clear();
        // What is due then and waits for its jitter, and what the rates hold back.
        let end = wanted.until + longest;
        stage.go_to(end)?;
        let limit = end + PATIENCE;
        while stage.clock.now() < limit && stage.recorder.waits_until(end) > 0 {
            let next = stage.next().unwrap_or(PATIENCE).min(PATIENCE);
            stage.go_to((stage.clock.now() + next).min(limit))?;
        }
        Ok(stage.rehearsed(wanted, &sites))
    }
}

/// A rehearsal while it runs.
struct Stage {
    clock: VirtualClock,
    store: Arc<dyn Store>,
    running: Running,
    recorder: Recorder,
    began: Duration,
    /// How far apart polls are.
    distance: Duration,
    /// When the lists are polled next, if something changed since the last poll.
    poll_at: Option<Duration>,
    polls: u64,
    pruned: Duration,
    lives: Vec<Life>,
}

impl Stage {
    /// Runs everything until nothing is due, and writes down what that was.
    fn step(&mut self) -> Result<(), GaveUp> {
        let now = self.clock.now();
        self.recorder.people(now);
        self.running.step().map_err(|(task, fatal)| GaveUp { task, fatal })?;
        let lines = block_on(self.store.ledger(self.recorder.seq, usize::MAX)).map_err(broken)?;
        self.recorder.daemon(now, lines);
        Ok(())
    }

    /// How long until something is due.
    fn next(&self) -> Option<Duration> {
        let poll = self.poll_at.map(|at| at.saturating_sub(self.clock.elapsed()));
        let now = self.clock.now();
        let people = self.lives.iter().filter_map(Life::next).min().map(|at| at.since(now));
        [self.clock.until_next(), poll, people].into_iter().flatten().min()
    }

    fn go_to(&mut self, end: Timestamp) -> Result<(), GaveUp> {
        loop {
            self.plan_poll();
            let left = end.since(self.clock.now());
            let Some(next) = self.next().filter(|next| *next <= left) else {
                self.clock.advance(left);
                return self.step();
            };
            self.clock.advance(next);
            let now = self.clock.now();
            self.lives.iter_mut().for_each(|life| life.act(now));
            self.step()?;
            if self.poll_at.is_some_and(|at| at <= self.clock.elapsed()) {
                self.poll_at = None;
                self.recorder.take_moved();
                self.polls += 1;
                self.running.engine.poll_now();
                self.step()?;
            }
            self.prune()?;
        }
    }

    /// The polls of a daemon come at a distance of each other; that one comes which is the first to
    /// see a change. Where they are far apart, one comes in time for an announcement.
    fn plan_poll(&mut self) {
        if self.poll_at.is_some() && self.distance <= FRESH || !self.recorder.has_moved() {
            return;
        }
        let elapsed = self.clock.elapsed();
        let since = elapsed.saturating_sub(self.began);
        let polls = since.as_micros() / self.distance.as_micros().max(1) + 1;
        let regular = self.distance.saturating_mul(u32::try_from(polls).unwrap_or(u32::MAX));
        let mut at = self.began + regular;
        if self.distance > FRESH {
            let now = self.clock.now();
            let soon = self.running.engine.status().next.first().map(|next| next.at_utc);
            if let Some(until) = soon.map(|soon| soon.since(now)).filter(|until| *until > LEAD) {
                at = at.min(elapsed + until - LEAD);
            }
        }
        self.poll_at = Some(at);
    }

    /// What is older than the retention goes once a day, as it does in a daemon: a key of a bot's own
    /// can be used again after that.
    fn prune(&mut self) -> Result<(), GaveUp> {
        if self.clock.elapsed().saturating_sub(self.pruned) < DAY {
            return Ok(());
        }
        self.pruned = self.clock.elapsed();
        block_on(self.running.engine.prune());
        // That occurrences became runs is nothing that happened.
        let lines = block_on(self.store.ledger(self.recorder.seq, usize::MAX)).map_err(broken)?;
        self.recorder.seq = lines.last().map_or(self.recorder.seq, |line| line.seq);
        Ok(())
    }

    fn rehearsed(self, wanted: Wanted, sites: &BTreeMap<WidgetName, Simulator>) -> Rehearsed {
        let Recorder { mut transcript, occurrences, events, open, failures, .. } = self.recorder;
        let until = wanted.until;
        let mut of_the_time = Times { until, occurrences: &occurrences, events: &events };
        transcript.retain(|entry| of_the_time.has(entry));
        let mut waiting: Vec<DeliveryRecord> = open
            .into_values()
            .filter(|record| {
                let (occurrence, event) = (record.occurrence.as_deref(), record.event.as_deref());
                of_the_time.caused(occurrence, event, record.created_at)
            })
            .collect();
        waiting.sort_by(|a, b| {
            let place =
                |r: &DeliveryRecord| (r.widget.clone(), r.room, r.not_before, r.id.to_string());
            place(a).cmp(&place(b))
        });
        let mut names = BTreeMap::new();
        for (widget, site) in sites {
            for room in site.rooms() {
                names.insert((widget.clone(), RoomId(room.id.unsigned_abs())), room.name);
            }
        }
        let mut occurrences: Vec<OccurrenceRecord> =
            occurrences.into_values().filter(|one| one.nominal_at <= until).collect();
        occurrences.sort_by(|a, b| (a.nominal_at, &a.id).cmp(&(b.nominal_at, &b.id)));
        Rehearsed { transcript, occurrences, waiting, failures, names, polls: self.polls }
    }
}

/// What belongs to the time that was asked for: what happened then, and what followed from it.
struct Times<'a> {
    until: Timestamp,
    occurrences: &'a BTreeMap<String, OccurrenceRecord>,
    events: &'a std::collections::HashMap<String, Timestamp>,
}

impl Times<'_> {
    fn has(&mut self, entry: &Entry) -> bool {
        match &entry.what {
            What::Told { event, .. } | What::Poisoned { event, .. } => {
                self.events.get(event).copied().unwrap_or(entry.at) <= self.until
            }
            What::Message(message) => self.caused(
                message.occurrence.as_deref(),
                message.event.as_deref(),
                message.recorded_at,
            ),
            What::LeftOut { from, .. } => *from <= self.until,
            What::People { .. } | What::Fault(_) => entry.at <= self.until,
        }
    }

    fn caused(&self, occurrence: Option<&str>, event: Option<&str>, at: Timestamp) -> bool {
        let known = occurrence.and_then(|id| self.occurrences.get(id)).map(|one| one.nominal_at);
        let told = event.and_then(|event| self.events.get(event)).copied();
        known.or(told).unwrap_or(at) <= self.until
    }
}

fn broken(error: imbabot_store::Error) -> GaveUp {
    GaveUp { task: "store", fatal: Fatal::Store(error) }
}

/// As whom something is said in a widget.
fn senders(settings: &Settings, widget: &WidgetName) -> BTreeSet<SiteUserId> {
    let usual = settings.widget(widget).map(|widget| widget.sender.clone());
    let bots = settings.bots.iter().filter(|bot| bot.serves(widget));
    let announcements = settings.announcements.iter().filter(|one| one.serves(widget));
    usual
        .into_iter()
        .chain(bots.filter_map(|bot| bot.sender.clone()))
        .chain(announcements.filter_map(|one| one.sender.clone()))
        .collect()
}

/// No schedule delays an occurrence for longer.
fn longest_delay(settings: &Settings) -> Duration {
    let bots = settings.bots.iter().flat_map(|bot| bot.bot.schedules());
    let bots = bots.map(|schedule| schedule.longest_delay());
    let announcements = settings.announcements.iter().map(|one| one.schedule.longest_delay());
    bots.chain(announcements).max().unwrap_or_default()
}

/// A room of a list as the simulator keeps it.
fn row(room: &imbabot_core::Room, now: Timestamp) -> Room {
    let created_at = room.created_at.unwrap_or(now).as_seconds();
    Room {
        id: i64::try_from(room.id.0).unwrap_or(i64::MAX),
        pipe: room.pipe.clone(),
        name: room.name.clone(),
        admin_id: room.admin_id.map_or(0, |user| i64::try_from(user.0).unwrap_or(i64::MAX)),
        kind: room.kind.number(),
        status: room.status,
        is_public: room.is_public,
        created_at,
        updated_at: room.updated_at.map_or(created_at, Timestamp::as_seconds),
        deleted_at: room.deleted_at.map(Timestamp::as_seconds),
        vanished: false,
    }
}
