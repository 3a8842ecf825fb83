//! Runs a history: does one operation after the other to a whole daemon in virtual time, buries and
//! restarts it where it is killed, and looks at the invariants after each. At the end everything is well
//! again, time passes, and all of it is looked at once more. Decides nothing by itself: the same
//! history, the same trace.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use futures_executor::block_on;
use imbabot_bot::units::{hours, minutes};
use imbabot_bot::{BotName, DeliveryId, Policy};
use imbabot_core::{RoomId, Timestamp};
use imbabot_scheduler::{Clock, bot_schedule_key};
use imbabot_simulator::{LogEntry, RoomSeed};
use imbabot_store::{
    Bodies, Born, CancelFilter, DeliveryFilter, DeliveryRecord, DeliveryState, LedgerLine, Line,
    ListKind, NewDelivery, Operations, PauseScope, Resolution, SqliteStore, Store,
};

use super::accounts::Accounts;
use super::cast::{self, Notebook, RECORDER};
use super::conditions::Conditions;
use super::crash::{Kill, MortalStore};
use super::expected::{Expected, Owed};
use super::operations::{Change, History, Operation, Scope};
use super::plan::Plan;
use super::sabotage::{Defect, SabotagedStore};
use super::whole::Whole;
use crate::checker::Check;
use crate::prompt::PromptStore;
use crate::world::{World, must};

/// Moments at which something is due within one operation: more than this is a daemon that turns
/// and gets nowhere.
const STOPS: u32 = 200_000;
/// Restarts after a kill: each of them may be killed again.
const RESTARTS: u32 = 20;

/// What went wrong, and at which operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The place of the operation; one more than there are for the end.
    pub at: usize,
    /// What was found.
    pub found: String,
}

impl Problem {
    /// The kind of problem: a shorter history that fails otherwise is another history.
    #[must_use]
    pub fn kind(&self) -> String {
        // Ids, numbers and instants are another history's.
        let plain = |word: &&str| !word.contains(|c: char| c.is_ascii_digit());
        let first = self.found.split("; ").next().unwrap_or_default();
        let (class, rest) = first.split_once(':').unwrap_or(("", first));
        let words: Vec<&str> = rest.split_whitespace().filter(plain).take(8).collect();
        format!("{class}: {}", words.join(" "))
    }
}

/// What became of a history.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// What went wrong, if anything did.
    pub problem: Option<Problem>,
    /// What happened, line by line; empty unless it was asked for.
    pub trace: Vec<String>,
    /// At which points the daemon was killed.
    pub killed: BTreeSet<String>,
    /// How many lines the ledger has.
    pub lines: usize,
}

/// Runs a history.
#[must_use]
pub fn run(history: &History) -> Outcome {
    run_over(history, None, false)
}

/// Runs a history and writes down what happens.
#[must_use]
pub fn run_traced(history: &History) -> Outcome {
    run_over(history, None, true)
}

/// Runs a history over a daemon with this defect.
#[must_use]
pub fn run_over(history: &History, defect: Option<Defect>, traced: bool) -> Outcome {
    let store: Arc<dyn Store> = Arc::new(must(SqliteStore::in_memory(Bodies::Full)));
    live(history, Run::new(history, store, defect, traced))
}

/// Runs a history on this store, which has to be empty and to keep texts.
#[must_use]
pub fn run_on(history: &History, store: Arc<dyn Store>) -> Outcome {
    live(history, Run::new(history, Arc::new(PromptStore::over(store)), None, false))
}

fn live(history: &History, mut run: Run) -> Outcome {
    for (at, operation) in history.operations.iter().enumerate() {
        if let Err(found) = run.contained(|run| run.operate(at, operation)) {
            return run.outcome(Some(Problem { at, found }));
        }
    }
    let end = run.contained(Run::end);
    let at = history.operations.len();
    run.outcome(end.err().map(|found| Problem { at, found }))
}

struct Run {
    world: World,
    /// What survives every kill.
    store: Arc<dyn Store>,
    kill: Kill,
    plans: BTreeMap<String, Plan>,
    bots: BTreeSet<String>,
    notebook: Notebook,
    failures: Arc<AtomicU64>,
    expected: Expected,
    accounts: Accounts,
    check: Check,
    whole: Whole,
    paused: BTreeSet<String>,
    /// Occurrences whose first line was looked at.
    judged: BTreeSet<String>,
    /// Where and at which of its seconds the server applied which message.
    applied: BTreeMap<u64, (i64, i64)>,
    /// Those of them that the daemon knows to be its own.
    ours: BTreeSet<(i64, i64)>,
    /// How far the server's clock is ahead, in microseconds.
    ahead: i64,
    /// Which deliveries said the same thing that is to be said once.
    once: BTreeMap<String, BTreeSet<String>>,
    last_line: i64,
    last_request: u64,
    /// The wall is set back by a day or more: what is recorded may be taken back.
    takes_back: bool,
    trace: Option<Vec<String>>,
}

impl Run {
    fn new(history: &History, store: Arc<dyn Store>, defect: Option<Defect>, traced: bool) -> Self {
        let conditions = Conditions::of(history.seed);
        let kill = Kill::default();
        let mortal: Arc<dyn Store> = Arc::new(MortalStore::over(Arc::clone(&store), kill.clone()));
        let seen = match defect {
            Some(defect) => Arc::new(SabotagedStore::over(mortal, defect)),
            None => mortal,
        };
        let mut world = World::over(conditions.start, seen);
        world.is_mortal(&kill);
        world.simulator.configure(|options| conditions.of_server(options));
        conditions.of_daemon(world.settings());
        let back = |operation: &Operation, least: Duration| matches!(operation, Operation::Wall(false, by) if *by >= least);
        let sets_clocks = history.operations.iter().any(|o| matches!(o, Operation::Wall(..)));
        let takes_back = history.operations.iter().any(|o| back(o, hours(12)));
        let mut check = Check::new();
        if !sets_clocks {
            check = check.rate(conditions.rate());
        }
        Self {
            world,
            store,
            kill,
            plans: BTreeMap::new(),
            bots: BTreeSet::from([RECORDER.to_owned()]),
            notebook: Notebook::default(),
            failures: Arc::default(),
            expected: Expected::default(),
            accounts: Accounts::default(),
            check,
            whole: Whole::default(),
            paused: BTreeSet::new(),
            judged: BTreeSet::new(),
            applied: BTreeMap::new(),
            ours: BTreeSet::new(),
            ahead: conditions.ahead,
            once: BTreeMap::new(),
            last_line: 0,
            last_request: 0,
            takes_back,
            trace: traced.then(Vec::new),
        }
    }

    /// Whatever panics is a problem like any other.
    fn contained(
        &mut self,
        act: impl FnOnce(&mut Self) -> Result<(), String>,
    ) -> Result<(), String> {
        catch_unwind(AssertUnwindSafe(|| act(self))).unwrap_or_else(|panic| {
            let words = panic.downcast_ref::<String>().cloned();
            let words = words.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).into()));
            Err(format!("panic: {}", words.unwrap_or_else(|| "without words".into())))
        })
    }

    fn outcome(self, problem: Option<Problem>) -> Outcome {
        Outcome {
            problem,
            trace: self.trace.unwrap_or_default(),
            killed: self.kill.points(),
            lines: self.check.lines(),
        }
    }

    fn say(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(line());
        }
    }

    fn now(&self) -> Timestamp {
        self.world.clock.now()
    }

    fn operate(&mut self, at: usize, operation: &Operation) -> Result<(), String> {
        let now = self.now().compact();
        self.say(|| format!("{at:3} {now} {operation}"));
        self.act(operation)?;
        self.look(at % 8 == 7)?;
        self.revive()
    }

    /// Whoever was killed is buried, and starts again.
    fn revive(&mut self) -> Result<(), String> {
        for _ in 0..RESTARTS {
            let Some(point) = self.kill.bury() else { return Ok(()) };
            let now = self.now().compact();
            self.say(|| format!("      {now} killed {point}; started again"));
            self.world.crash();
            self.start();
            self.look(false)?;
        }
        Err(format!("restart: killed {RESTARTS} times in a row"))
    }

    fn act(&mut self, operation: &Operation) -> Result<(), String> {
        let simulator = self.world.simulator.clone();
        match operation {
            Operation::Open(name) => {
                let known =
                    block_on(self.store.baseline_at(&must("main".parse()), ListKind::Rooms));
                let name = format!("{name} {}", simulator.rooms().len());
                let room = simulator.open_room_with(RoomSeed { name, ..RoomSeed::default() });
                if must(known).is_some() {
                    self.whole.opened_after_baseline(room);
                }
                self.whole.moved(room, simulator.server_time());
            }
            Operation::Room(change, place) => self.change_room(*change, *place),
            Operation::Join(user) => {
                simulator.join(&format!("user {user}"), user);
            }
            Operation::Fault(spec) => must(simulator.faults().push_spec(spec)),
            Operation::Down(down) => simulator.server_down(*down),
            Operation::Secret(right) => {
                simulator.set_secret(if *right { "simulator-secret" } else { "another-secret" });
            }
            Operation::Banned(banned) => simulator.set_banned(1, *banned),
            Operation::Poll => {
                if let Some(engine) = self.world.engine() {
                    engine.poll_now();
                }
                self.world.step();
            }
            Operation::Pass(length) => self.pass(*length)?,
            Operation::Suspend(length) => {
                self.world.clock.advance(*length);
                self.world.step();
            }
            Operation::Wall(on, by) => {
                let now = self.now();
                self.world.clock.set_wall(if *on { now + *by } else { now - *by });
                self.world.step();
            }
            Operation::Kill => self.world.crash(),
            Operation::Start => self.start(),
            Operation::Restart => {
                if self.world.engine().is_some() {
                    self.stop()?;
                    if self.kill.has_struck() {
                        return Ok(());
                    }
                }
                self.start();
            }
            Operation::Crash(point) => self.kill.arm(point.clone()),
            Operation::Schedule(plan) => {
                self.plans.insert(plan.id().to_owned(), (**plan).clone());
                self.configure();
            }
            Operation::Unschedule(id) => {
                self.plans.remove(id);
                self.configure();
            }
            Operation::Bot(name, true) => {
                self.bots.insert(name.clone());
                self.configure();
            }
            Operation::Bot(name, false) => {
                self.bots.remove(name);
                self.configure();
            }
            Operation::Reload => self.reload(),
            Operation::Pause(paused, scope) => self.pause(*paused, scope),
            Operation::Trigger(id) => {
                if let Some(engine) = self.world.engine() {
                    let (settings, now) = (engine.settings(), self.now());
                    must(block_on(imbabot_scheduler::trigger(&*self.store, &settings, id, now)));
                }
                self.wake();
            }
            Operation::Send { key, room, insistent, later } => {
                self.send(*key, *room, *insistent, *later);
            }
            Operation::Cancel(scope) => {
                let filter = match scope {
                    Scope::Bot(name) => CancelFilter::Bot(must(name.parse())),
                    Scope::Schedule(id) => CancelFilter::Schedule(id.clone()),
                    _ => CancelFilter::State(DeliveryState::Queued),
                };
                must(block_on(self.store.cancel(self.now(), &filter)));
                self.wake();
            }
            Operation::Retry(n) => {
                let all = self.deliveries(None).into_iter();
                let ended = |d: &DeliveryRecord| {
                    matches!(d.state, DeliveryState::Dead | DeliveryState::Unknown)
                };
                let mut found: Vec<_> = all.filter(ended).collect();
                if let Some(delivery) = pick(&mut found, *n) {
                    must(block_on(self.store.retry(self.now(), delivery.id, true)));
                }
                self.wake();
            }
            Operation::Resolve(n) => {
                let mut found = self.deliveries(Some(DeliveryState::Unknown));
                if let Some(delivery) = pick(&mut found, *n) {
                    let id = delivery.id.to_string();
                    let there = |entry: &LogEntry| {
                        entry.applied && entry.delivery.as_deref() == Some(id.as_str())
                    };
                    let there = simulator.log().iter().any(there);
                    let what = if there { Resolution::Delivered } else { Resolution::Dead };
                    must(block_on(self.store.resolve(self.now(), delivery.id, what)));
                }
                self.wake();
            }
            Operation::RetryEvent(n) => {
                let mut found = must(block_on(Operations::events(&*self.store, true, 1_000)));
                if let Some(event) = pick(&mut found, *n) {
                    must(block_on(self.store.retry_event(self.now(), &event.id)));
                }
                self.wake();
            }
        }
        Ok(())
    }

    /// Another process changed something in the store.
    fn wake(&mut self) {
        if let Some(engine) = self.world.engine() {
            engine.wake();
        }
        self.world.step();
    }

    /// Lets time pass, from one moment at which something is due to the next, until it has passed or
    /// the daemon is killed.
    fn pass(&mut self, by: Duration) -> Result<(), String> {
        self.world.step();
        let clock = self.world.clock.clone();
        let target = clock.elapsed() + by;
        for _ in 0..STOPS {
            let left = target.saturating_sub(clock.elapsed());
            let next = clock.until_next().filter(|next| *next <= left);
            match next {
                Some(next) if !self.kill.has_struck() => clock.advance(next),
                _ => {
                    clock.advance(left);
                    if !self.kill.has_struck() {
                        self.world.step();
                    }
                    return Ok(());
                }
            }
            self.world.step();
        }
        Err(format!("turns: {STOPS} moments within {by:?} at which something was due"))
    }

    /// The configuration file is written: it is in force from the next reload or start on.
    fn configure(&mut self) {
        let plans = self.plans.values();
        let announcements = plans.map(|plan| Arc::new(must(plan.announcement()))).collect();
        let bot = |name: &String| cast::bot(name, &self.notebook, &self.failures);
        let bots = self.bots.iter().map(bot).collect();
        let settings = self.world.settings();
        settings.announcements = announcements;
        settings.bots = bots;
    }

    /// The schedules of the configuration.
    fn owed(&mut self) -> Vec<Owed> {
        let settings = self.world.settings();
        let announcements = settings.announcements.iter().map(|announcement| Owed {
            key: announcement.schedule.id().to_string(),
            schedule: announcement.schedule.clone(),
            needs_snapshot: announcement.needs_snapshot(),
        });
        let of_bots = settings.bots.iter().flat_map(|bot| {
            bot.bot.schedules().into_iter().map(|schedule| Owed {
                key: bot_schedule_key(&bot.name, &schedule),
                schedule,
                needs_snapshot: false,
            })
        });
        announcements.chain(of_bots).collect()
    }

    fn start(&mut self) {
        if self.world.engine().is_some() {
            return;
        }
        self.configure();
        let owed = self.owed();
        let (now, before) = (self.now(), must(block_on(self.store.cursors())));
        self.world.start();
        self.adopted(now, owed, &before);
    }

    fn reload(&mut self) {
        if self.world.engine().is_none() {
            return;
        }
        let owed = self.owed();
        let (now, before) = (self.now(), must(block_on(self.store.cursors())));
        self.world.reload();
        self.adopted(now, owed, &before);
    }

    fn adopted(&mut self, now: Timestamp, owed: Vec<Owed>, before: &[imbabot_store::Cursor]) {
        if self.kill.has_struck() {
            self.expected.killed_in_between(owed);
        } else {
            self.expected.adopt(now, owed, before);
        }
    }

    fn stop(&mut self) -> Result<(), String> {
        if let Some(engine) = self.world.engine() {
            engine.stop();
        }
        self.pass(Duration::from_secs(25))?;
        // What is left is to say so in the store.
        if !self.kill.has_struck() {
            self.world.stop(Duration::ZERO);
        }
        Ok(())
    }

    fn change_room(&mut self, change: Change, place: u64) {
        let simulator = self.world.simulator.clone();
        let mut rooms = simulator.rooms();
        let Some(room) = pick(&mut rooms, place) else { return };
        let done = match change {
            Change::Rename => {
                let name = if room.name.starts_with("team") { "hall" } else { "team" };
                simulator.rename_room(room.id, &format!("{name} {place}"))
            }
            Change::Delete => simulator.close_room(room.id, false),
            Change::Vanish => simulator.close_room(room.id, true),
            Change::Restore => simulator.restore_room(room.id),
            Change::Touch => simulator.touch_room(room.id),
            Change::Post => simulator.post(room.id, 40 + place, "hello").map(|_| ()),
            Change::Kind => simulator.set_room_kind(room.id, (room.kind + 1) % 4),
            Change::Publish => simulator.set_room_visibility(room.id, !room.is_public),
        };
        if done.is_ok() {
            self.whole.moved(room.id, simulator.server_time());
        }
    }

    fn pause(&mut self, paused: bool, scope: &Scope) {
        let now = self.now();
        let all = match scope {
            Scope::All => PauseScope::All,
            Scope::Widget => PauseScope::Widget(must("main".parse())),
            Scope::Bot(name) => PauseScope::Bot(must(name.parse::<BotName>())),
            Scope::Schedule(key) => {
                if must(block_on(self.store.pause_schedule(now, key, paused))) {
                    if paused {
                        self.paused.insert(key.clone());
                    } else {
                        self.paused.remove(key);
                    }
                }
                return self.wake();
            }
        };
        must(block_on(self.store.pause(now, &all, paused)));
        self.wake();
    }

    fn send(&mut self, key: u64, room: u64, insistent: bool, later: Duration) {
        let now = self.now();
        let mut rooms = self.world.simulator.rooms();
        let room = pick(&mut rooms, room).map_or(1536, |room| room.id.unsigned_abs());
        let not_before = (!later.is_zero()).then(|| now + later);
        let message = NewDelivery {
            key: format!("cli/{key}"),
            widget: must("main".parse()),
            room: RoomId(room),
            sender: 1.into(),
            bot: None,
            event: None,
            occurrence: None,
            schedule: None,
            policy: if insistent { Policy::AtLeastOnce } else { Policy::AtMostOnce },
            text: format!("[sent {key}]"),
            not_before,
            expires_at: not_before.unwrap_or(now) + hours(1),
            born: Born::Queued,
            detail: None,
            report: false,
        };
        let id = message.id();
        // By the verb's own connection, but through the same defects.
        let store = self.world.store();
        let store = if self.kill.has_struck() { &self.store } else { &store };
        must(block_on(store.enqueue(now, vec![message])));
        self.check = std::mem::take(&mut self.check).accepted([id]);
        self.wake();
    }

    fn deliveries(&self, state: Option<DeliveryState>) -> Vec<DeliveryRecord> {
        let filter = DeliveryFilter { state, ..DeliveryFilter::default() };
        must(block_on(self.store.deliveries(&filter)))
    }

    /// Reads what is new, and looks at the invariants.
    fn look(&mut self, thorough: bool) -> Result<(), String> {
        if self.takes_back {
            // What was read may have been taken back.
            self.check.forget_ledger();
            self.accounts = Accounts::default();
            self.last_line = 0;
        }
        let lines = must(block_on(self.store.ledger(self.last_line, usize::MAX >> 1)));
        if let Some(last) = lines.last() {
            self.last_line = last.seq;
        }
        let requests = self.world.simulator.log_since(self.last_request);
        self.last_request = requests.last().map_or(self.last_request, |entry| entry.seq + 1);
        self.write_down(&lines, &requests);
        for line in &lines {
            self.accounts.read(line);
        }
        for entry in &requests {
            if let (Some(message), Some(room), true) = (entry.message_id, entry.room, entry.applied)
            {
                let second = (entry.at + self.ahead).div_euclid(1_000_000);
                self.applied.insert(message.unsigned_abs(), (room, second));
            }
        }
        let mut untrue = Vec::new();
        for line in &lines {
            untrue.extend(self.judge(line));
        }
        self.said_once(&requests);
        let check = std::mem::take(&mut self.check);
        self.check = check.requests(requests.iter().map(Into::into)).ledger(lines);
        let alive = !self.kill.has_struck();
        if thorough && alive && self.world.engine().is_some() {
            self.check.show_metrics(Some(self.world.metrics()));
        }
        let violations = self.check.run();
        self.check.show_metrics(None);
        if !violations.is_empty() {
            let list: Vec<String> = violations.iter().take(5).map(ToString::to_string).collect();
            return Err(list.join("; "));
        }
        if let Some(wrong) = untrue.into_iter().next() {
            return Err(format!("I4: {wrong}"));
        }
        if let Some((text, all)) = self.once.iter().find(|(_, all)| all.len() > 1) {
            return Err(format!("I2: {} messages say {text}, which is said once", all.len()));
        }
        for event in self.notebook.take() {
            if let Some(wrong) = self.whole.hear(&event, &self.ours) {
                return Err(format!("heard: {wrong}"));
            }
        }
        if alive && self.world.engine().is_some() {
            self.look_at_schedules()?;
        }
        if thorough && alive {
            self.inspect()?;
        }
        Ok(())
    }

    fn look_at_schedules(&mut self) -> Result<(), String> {
        let known = block_on(self.store.baseline_at(&must("main".parse()), ListKind::Rooms));
        let waits = must(known).is_none();
        let cursors = must(block_on(self.store.cursors()));
        let now = self.now();
        let found = self.expected.look(now, waits, &cursors, &self.accounts);
        found.map_err(|wrong| format!("I4: {wrong}"))
    }

    fn inspect(&self) -> Result<(), String> {
        let found = self.world.inspect();
        let strays = must(block_on(self.store.strays(5)));
        match found.iter().chain(&strays).next() {
            Some(first) => Err(format!("inspection: {first}")),
            None => Ok(()),
        }
    }

    /// Whether a new line says what is so; what is wrong if not.
    fn judge(&mut self, line: &LedgerLine) -> Option<String> {
        match &line.line {
            Line::Occurrence(record) if !record.id.contains('!') => {
                if !self.judged.insert(record.id.clone()) {
                    return None;
                }
                let paused = self.paused.contains(&record.schedule);
                self.expected.is_true(record, Some(paused))
            }
            Line::Range(run) if !self.takes_back => self.expected.is_true_of_run(run, self.now()),
            Line::Delivery(record) if record.state == DeliveryState::Delivered => {
                let message = record.server_message_id.map(|message| message.0);
                self.ours.extend(message.and_then(|message| self.applied.get(&message)));
                None
            }
            _ => None,
        }
    }

    fn said_once(&mut self, requests: &[LogEntry]) {
        for entry in requests.iter().filter(|entry| entry.applied) {
            if let (Some(text), Some(delivery)) = (&entry.text, &entry.delivery)
                && (text.starts_with("[keyed") || text.starts_with("[sent"))
            {
                self.once.entry(text.clone()).or_default().insert(delivery.clone());
            }
        }
    }

    fn write_down(&mut self, lines: &[LedgerLine], requests: &[LogEntry]) {
        let Some(trace) = &mut self.trace else { return };
        for line in lines {
            trace.push(format!("      {}", brief(line)));
        }
        for entry in requests {
            let mut text = format!("      server {} {}", entry.seq, entry.outcome);
            if let Some(endpoint) = entry.endpoint {
                let _ = write!(text, " {}", endpoint.name());
            }
            if let (Some(delivery), Some(attempt)) = (&entry.delivery, &entry.attempt) {
                let applied = if entry.applied { "applied" } else { "not applied" };
                let _ = write!(text, " {} #{attempt} {applied}", &delivery[..8]);
            }
            trace.push(text);
        }
    }

    /// A queued message whose time came hours ago. What was due when it was recorded is due also if
    /// the clock was ahead then, as soon as it is the first of its lane.
    fn waits_too_long(&self, message: &DeliveryRecord, now: Timestamp) -> bool {
        let due_at_once = message.not_before <= message.created_at;
        if due_at_once && message.created_at > now {
            return !must(block_on(self.store.waits_behind_others(message.id)));
        }
        message.not_before.max(message.created_at) + hours(2) < now
    }

    /// All is well again, and everything has the time to end.
    fn end(&mut self) -> Result<(), String> {
        self.say(|| "    everything is well again".into());
        self.kill.disarm();
        let simulator = self.world.simulator.clone();
        simulator.faults().clear();
        simulator.server_down(false);
        simulator.set_secret("simulator-secret");
        simulator.set_banned(1, false);
        self.start();
        let mut scopes = vec![Scope::All, Scope::Widget];
        scopes.extend(cast::ALL.map(|name| Scope::Bot(name.into())));
        scopes.extend(self.paused.clone().into_iter().map(Scope::Schedule));
        for scope in &scopes {
            self.pause(false, scope);
        }
        self.look(true)?;
        for _ in 0..12 {
            self.pass(minutes(1))?;
            self.look(false)?;
            // A kill that was on its way already.
            self.revive()?;
            if let Some(engine) = self.world.engine() {
                engine.poll_now();
            }
            self.world.step();
        }
        self.look(false)?;
        self.pass(hours(3) + Duration::from_secs(187))?;
        self.look(true)?;
        let now = self.now();
        let waits = |d: &&DeliveryRecord| self.waits_too_long(d, now);
        if let Some(stuck) = self.deliveries(Some(DeliveryState::Queued)).iter().find(waits) {
            return Err(format!("I4: {} is still queued, hours after all was well", stuck.id));
        }
        // What is to be sent some day, and schedules that go on.
        self.plans.clear();
        self.bots = BTreeSet::from([RECORDER.to_owned()]);
        self.configure();
        self.reload();
        let all = CancelFilter::State(DeliveryState::Queued);
        must(block_on(self.store.cancel(now, &all)));
        self.pass(minutes(10))?;
        self.check = std::mem::take(&mut self.check).quiescent();
        let expected: Vec<(String, Vec<Timestamp>)> =
            self.expected.all().map(|(key, all)| (key.to_owned(), all)).collect();
        for (key, instants) in expected {
            self.check = std::mem::take(&mut self.check).expected(&key, instants);
        }
        self.look(true)?;
        self.whole.ends(&simulator).map_or(Ok(()), |wrong| Err(format!("rooms: {wrong}")))
    }
}

/// The one at this place, counted around.
fn pick<T>(all: &mut Vec<T>, place: u64) -> Option<T> {
    let place = usize::try_from(place).ok()?.checked_rem(all.len())?;
    Some(all.swap_remove(place))
}

/// A line of the ledger in a few words.
fn brief(line: &LedgerLine) -> String {
    let id = |id: &DeliveryId| id.to_string()[..8].to_owned();
    let seq = line.seq;
    match &line.line {
        Line::Delivery(d) => {
            let why = d.reason.as_deref().unwrap_or_default();
            format!("{seq} delivery {} {} {} {why} to {}", id(&d.id), d.key, d.state, d.room)
        }
        Line::Attempt(a) => {
            let class = a.class.map_or("open", imbabot_store::Class::as_str);
            let code = a.code.as_deref().unwrap_or_default();
            format!("{seq} attempt {} #{} {class} {code}", id(&a.delivery), a.n)
        }
        Line::Occurrence(o) => {
            let why = o.reason.as_deref().unwrap_or_default();
            format!("{seq} occurrence {} {} {why} {}", o.id, o.outcome, o.deliveries)
        }
        Line::Range(r) => format!(
            "{seq} range {} {} {} {} to {}, {}",
            r.schedule,
            r.outcome,
            r.reason,
            r.from.compact(),
            r.to.compact(),
            r.count
        ),
        Line::Incarnation(i) => format!("{seq} incarnation {} {:?}", i.id.0, i.clean),
        Line::Event(e) => format!("{seq} event {} {} {:?}", e.id, e.event_kind, e.outcome),
        Line::Operator(o) => format!("{seq} operator {} {} {}", o.verb, o.target, o.after),
    }
}
