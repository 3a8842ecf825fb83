//! A store for several instances without a database: SQLite in memory under a table of owners. It keeps to
//! what a shared store promises: one owner per unit, a lease by its own clock, nothing more from a run that
//! was ended, and the truth about a request from whoever sent it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_executor::block_on;
use imbabot_bot::{BotName, DeliveryId, RoomSelector, WidgetName};
use imbabot_core::{Room, RoomId, Timestamp, User, WidgetId};
use imbabot_scheduler::Clock;
use imbabot_store::*;
use serde_json::Value;
use tokio::sync::watch;

use crate::clock::VirtualClock;
use crate::flaky::wrap_groups;
use crate::world::must;

/// What a run whose lease has run out left in doubt; a store says the same after a kill.
const DIED: &str = "process_died";

/// What all instances share.
pub(super) struct Table {
    clock: VirtualClock,
    lease: Duration,
    inner: Arc<SqliteStore>,
    /// The one run that SQLite knows of.
    under: IncarnationId,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    runs: BTreeMap<IncarnationId, Run>,
    owners: BTreeMap<Unit, Owner>,
    /// Units that only the instance of this name may have.
    kept_for: BTreeMap<Unit, String>,
}

#[derive(Default)]
struct Owner {
    run: Option<IncarnationId>,
    term: u64,
}

struct Run {
    name: String,
    started_at: Timestamp,
    heartbeat_at: Timestamp,
    lease_until: Timestamp,
    draining: bool,
    /// It takes units: one that stops serves none.
    serves: bool,
    ended: bool,
    sending: BTreeSet<(DeliveryId, u32)>,
    handling: Vec<EventEntry>,
}

impl State {
    fn owns(&self, run: IncarnationId, widget: &WidgetName) -> bool {
        let owner = self.owners.get(&Unit::Widget(widget.clone()));
        owner.is_some_and(|owner| owner.run == Some(run))
    }

    fn units_of(&self, run: IncarnationId) -> BTreeMap<Unit, u64> {
        let owned = self.owners.iter().filter(|(_, owner)| owner.run == Some(run));
        owned.map(|(unit, owner)| (unit.clone(), owner.term)).collect()
    }

    fn release(&mut self, run: IncarnationId) {
        for owner in self.owners.values_mut().filter(|owner| owner.run == Some(run)) {
            owner.run = None;
        }
    }

    fn alive(&self) -> impl Iterator<Item = &Run> {
        self.runs.values().filter(|run| !run.ended)
    }
}

impl Table {
    pub(super) fn new(clock: VirtualClock, lease: Duration) -> Self {
        let inner = Arc::new(must(SqliteStore::in_memory(Bodies::Full)));
        let settle = imbabot_scheduler::DeliverySettings::default().settle;
        let under = must(block_on(inner.begin(clock.now(), "fleet", settle))).incarnation;
        Self { clock, lease, inner, under, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn inner(&self) -> &Arc<SqliteStore> {
        &self.inner
    }

    pub(super) fn keep_for(&self, unit: Unit, name: &str) {
        self.state().kept_for.insert(unit, name.to_owned());
    }

    /// Who has a widget, by name.
    pub(super) fn owner(&self, widget: &WidgetName) -> Option<String> {
        let state = self.state();
        let run = state.owners.get(&Unit::Widget(widget.clone()))?.run?;
        state.runs.get(&run).map(|run| run.name.clone())
    }

    pub(super) fn run_of(&self, name: &str) -> Option<IncarnationId> {
        let state = self.state();
        let found = state.runs.iter().rev().find(|(_, run)| run.name == name && !run.ended);
        found.map(|(id, _)| *id)
    }

    /// Ends runs whose lease has run out, and says what they left in doubt.
    async fn end_the_dead(
        &self,
        but: IncarnationId,
        settle: Settle,
    ) -> Result<Vec<(IncarnationId, u64)>> {
        let now = self.clock.now();
        let dead: Vec<IncarnationId> = {
            let state = self.state();
            let dead = state
                .runs
                .iter()
                .filter(|(id, run)| **id != but && !run.ended && run.lease_until < now);
            dead.map(|(id, _)| *id).collect()
        };
        let mut ended = Vec::new();
        for id in dead {
            ended.push((id, self.end(id, settle).await?));
        }
        Ok(ended)
    }

    /// Ends a run. How many of its deliveries are in doubt.
    pub(super) async fn end(&self, id: IncarnationId, settle: Settle) -> Result<u64> {
        self.state().release(id);
        if let Some(run) = self.state().runs.get_mut(&id) {
            run.ended = true;
        }
        let doubtful = self.give_up_sending(id, settle).await?;
        self.give_back(id).await?;
        Ok(doubtful)
    }

    async fn give_up_sending(&self, id: IncarnationId, settle: Settle) -> Result<u64> {
        let sending = match self.state().runs.get_mut(&id) {
            Some(run) => std::mem::take(&mut run.sending),
            None => BTreeSet::new(),
        };
        let outcomes: Vec<Settled> = sending
            .iter()
            .map(|(delivery, attempt)| Settled {
                delivery: *delivery,
                attempt: *attempt,
                class: Class::Ambiguous,
                code: DIED.into(),
                http_status: None,
                detail: String::new(),
                next: Next::Unknown,
            })
            .collect();
        let count = outcomes.len() as u64;
        self.inner.settle(self.clock.now(), settle, outcomes).await?;
        Ok(count)
    }

    async fn give_back(&self, id: IncarnationId) -> Result<()> {
        let handling = match self.state().runs.get_mut(&id) {
            Some(run) => std::mem::take(&mut run.handling),
            None => Vec::new(),
        };
        for entry in handling {
            self.inner.give_back(&entry, self.clock.now()).await?;
        }
        Ok(())
    }

    /// Gives back what is beyond a fair share or not to be served, and takes what is free.
    fn share(&self, id: IncarnationId, serves: &[Unit]) {
        let mut state = self.state();
        for unit in serves {
            state.owners.entry(unit.clone()).or_default();
        }
        let name = state.runs.get(&id).map(|run| run.name.clone()).unwrap_or_default();
        let draining = state.runs.get(&id).is_none_or(|run| run.draining);
        let takers = state.alive().filter(|run| run.serves && !run.draining).count().max(1);
        let free_for_all = state.owners.keys().filter(|unit| !state.kept_for.contains_key(*unit));
        let share = free_for_all.count().div_ceil(takers);
        let kept_for = state.kept_for.clone();
        let mut count = 0;
        for (unit, owner) in &mut state.owners {
            let kept = kept_for.get(unit);
            let may = !draining && serves.contains(unit) && kept.is_none_or(|kept| *kept == name);
            let beyond = kept.is_none() && count >= share;
            match owner.run {
                Some(run) if run == id && (!may || beyond) => owner.run = None,
                None if may && !beyond => *owner = Owner { run: Some(id), term: owner.term + 1 },
                _ => {}
            }
            count += usize::from(owner.run == Some(id) && kept.is_none());
        }
    }
}

/// The store as one instance has it.
pub struct FleetStore {
    pub(super) table: Arc<Table>,
    inner: Arc<SqliteStore>,
    name: String,
    run: Mutex<Option<IncarnationId>>,
    /// The way to it is cut.
    away: AtomicBool,
    /// The way to it swallows everything: what is asked is not answered before this is false.
    silent: watch::Sender<bool>,
    /// What was claimed comes back only when this is false.
    holds_claims: watch::Sender<bool>,
}

impl FleetStore {
    pub(super) fn of(table: &Arc<Table>, name: &str) -> Self {
        Self {
            table: Arc::clone(table),
            inner: Arc::clone(&table.inner),
            name: name.to_owned(),
            run: Mutex::default(),
            away: AtomicBool::new(false),
            silent: watch::channel(false).0,
            holds_claims: watch::channel(false).0,
        }
    }

    /// Whether nothing can be asked of it from here.
    pub fn is_away(&self, away: bool) {
        self.away.store(away, Ordering::Release);
    }

    /// Whether it neither answers nor fails from here.
    pub fn is_silent(&self, silent: bool) {
        self.silent.send_replace(silent);
    }

    /// Whether a claim that was committed is still on its way back.
    pub fn hold_claims(&self, hold: bool) {
        self.holds_claims.send_replace(hold);
    }

    fn run(&self) -> Option<IncarnationId> {
        *self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is known of the own run.
    fn own<T>(&self, change: impl FnOnce(&mut Run) -> T) -> Option<T> {
        let id = self.run()?;
        self.table.state().runs.get_mut(&id).map(change)
    }

    async fn enter(&self, verb: &str) -> Result<()> {
        // The sender lives as long as this does.
        let _ = self.silent.subscribe().wait_for(|silent| !*silent).await;
        if self.away.load(Ordering::Acquire) {
            let why = format!("{verb}: there is no way to the store");
            return Err(Error::new(ErrorKind::Retryable, why));
        }
        // What became of a request is always heard; a new run begins after one that was ended.
        if !matches!(verb, "settle" | "begin" | "clock") && self.own(|run| run.ended) == Some(true)
        {
            return Err(Error::new(ErrorKind::Fenced, "others have ended this run"));
        }
        Ok(())
    }

    #[expect(clippy::unused_async, reason = "others wait here")]
    async fn leave(&self, _: &str) {}

    fn owned_elsewhere(&self, widget: &WidgetName) -> bool {
        self.run().is_none_or(|run| !self.table.state().owns(run, widget))
    }
}

wrap_groups! { FleetStore;
    Lifecycle {
        fn adopt_widgets(widgets: &[(WidgetName, WidgetId)]) -> ();
        fn in_use() -> ();
        fn changed_by_another() -> bool;
        own {
            async fn begin(&self, now: Timestamp, _: &str, _: Settle) -> Result<Begun> {
                self.enter("begin").await?;
                let mut state = self.table.state();
                let incarnation = IncarnationId(state.runs.len() as i64 + 1);
                let run = Run {
                    name: self.name.clone(),
                    started_at: now,
                    heartbeat_at: self.table.clock.now(),
                    lease_until: self.table.clock.now() + self.table.lease,
                    draining: false,
                    serves: true,
                    ended: false,
                    sending: BTreeSet::new(),
                    handling: Vec::new(),
                };
                state.runs.insert(incarnation, run);
                *self.run.lock().unwrap_or_else(PoisonError::into_inner) = Some(incarnation);
                Ok(Begun { incarnation, after_crash: false, turned_unknown: 0, interrupted_events: 0 })
            }

            async fn end(&self, incarnation: IncarnationId, _: Timestamp) -> Result<()> {
                self.enter("end").await?;
                let settle = imbabot_scheduler::DeliverySettings::default().settle;
                self.table.end(incarnation, settle).await.map(drop)
            }
        }
    }
    Snapshots {
        fn snapshot_index(widget: &WidgetName, list: ListKind) -> SnapshotIndex;
        fn baseline_at(widget: &WidgetName, list: ListKind) -> Option<Timestamp>;
        fn rooms_by_id(widget: &WidgetName, ids: &[RoomId]) -> Vec<Room>;
        fn rooms_after(widget: &WidgetName, after: Option<RoomId>, limit: usize) -> Vec<Room>;
        fn users_by_id(widget: &WidgetName, ids: &[u64]) -> Vec<User>;
        fn select_rooms(widget: &WidgetName, selector: &RoomSelector) -> Vec<Room>;
        own {
            async fn commit_poll(&self, poll: PollCommit) -> Result<()> {
                self.enter("commit_poll").await?;
                if self.owned_elsewhere(&poll.widget) {
                    let why = "this widget is another instance's now";
                    return Err(Error::new(ErrorKind::Retryable, why));
                }
                self.inner.commit_poll(poll).await
            }
        }
    }
    Inbox {
        fn adopt_bots(now: Timestamp, bots: &[BotName]) -> ();
        fn remembered(bot: &BotName, widget: &WidgetName, key: &str) -> Option<(Value, i64)>;
        fn fire_wakes(now: Timestamp) -> (u64, Option<Timestamp>);
        own {
            async fn claim_events(
                &self,
                mut claim: EventClaim,
            ) -> Result<(Vec<EventEntry>, Option<Timestamp>)> {
                self.enter("claim_events").await?;
                let (mut ours, mut others) = (Vec::new(), Vec::new());
                let next = loop {
                    let (found, next) = self.inner.claim_events(claim.clone()).await?;
                    if found.is_empty() {
                        break next;
                    }
                    for entry in found {
                        if self.owned_elsewhere(&entry.widget) {
                            others.push(entry);
                            continue;
                        }
                        let free = claim.free.iter_mut().find(|(bot, _)| *bot == entry.bot);
                        free.into_iter().for_each(|(_, slots)| *slots = slots.saturating_sub(1));
                        ours.push(entry);
                    }
                };
                for entry in others {
                    self.inner.give_back(&entry, claim.now).await?;
                }
                self.own(|run| run.handling.extend(ours.iter().cloned()));
                Ok((ours, next))
            }

            async fn commit_handled(&self, handled: Handled) -> Result<HandledOutcome> {
                self.enter("commit_handled").await?;
                let entry = handled.entry.clone();
                let end = self.inner.commit_handled(handled).await?;
                self.own(|run| run.handling.retain(|other| *other != entry));
                Ok(end)
            }

            async fn fail_event(
                &self,
                entry: &EventEntry,
                now: Timestamp,
                reason: &str,
                retry_at: Option<Timestamp>,
            ) -> Result<()> {
                self.enter("fail_event").await?;
                self.inner.fail_event(entry, now, reason, retry_at).await?;
                self.own(|run| run.handling.retain(|other| other != entry));
                Ok(())
            }

            async fn give_back(&self, entry: &EventEntry, due_at: Timestamp) -> Result<()> {
                self.enter("give_back").await?;
                self.inner.give_back(entry, due_at).await?;
                self.own(|run| run.handling.retain(|other| other != entry));
                Ok(())
            }

            async fn release_running(&self, _: Timestamp) -> Result<()> {
                self.enter("release_running").await?;
                match self.run() {
                    Some(run) => self.table.give_back(run).await,
                    None => Ok(()),
                }
            }
        }
    }
    Outbox {
        fn enqueue(now: Timestamp, deliveries: Vec<NewDelivery>) -> Vec<Enqueued>;
        fn hold_widget(widget: &WidgetName, until: Timestamp) -> ();
        fn sweep(now: Timestamp, settle: Settle, limit: usize) -> (u64, Option<Timestamp>);
        fn delivery(id: DeliveryId) -> Option<DeliveryRecord>;
        fn waits_behind_others(id: DeliveryId) -> bool;
        own {
            async fn claim(&self, mut request: ClaimRequest) -> Result<Claimed> {
                self.enter("claim").await?;
                request.widgets.retain(|claim| !self.owned_elsewhere(&claim.widget));
                request.incarnation = self.table.under;
                let claimed = self.inner.claim(request).await?;
                let sent = claimed.deliveries.iter().map(|d| (d.id, d.attempt));
                self.own(|run| run.sending.extend(sent));
                let mut held = self.holds_claims.subscribe();
                // It can only be gone with this store.
                let _ = held.wait_for(|held| !held).await;
                Ok(claimed)
            }

            async fn settle(
                &self,
                now: Timestamp,
                settle: Settle,
                outcomes: Vec<Settled>,
            ) -> Result<Vec<Recorded>> {
                self.enter("settle").await?;
                for outcome in &outcomes {
                    self.own(|run| run.sending.remove(&(outcome.delivery, outcome.attempt)));
                }
                self.inner.settle(now, settle, outcomes).await
            }

            async fn give_up_sending(&self, _: Timestamp, settle: Settle) -> Result<u64> {
                self.enter("give_up_sending").await?;
                match self.run() {
                    Some(run) => self.table.give_up_sending(run, settle).await,
                    None => Ok(0),
                }
            }
        }
    }
}

crate::flaky::wrap_plain_groups!(FleetStore via std::convert::identity);

#[async_trait::async_trait]
impl Fleet for FleetStore {
    async fn clock(&self) -> Result<Option<Timestamp>> {
        self.enter("clock").await?;
        Ok(Some(self.table.clock.now()))
    }

    async fn heartbeat(
        &self,
        incarnation: IncarnationId,
        serves: &[Unit],
        settle: Settle,
    ) -> Result<Standing> {
        self.enter("heartbeat").await?;
        let now = self.table.clock.now();
        self.own(|run| {
            (run.heartbeat_at, run.lease_until) = (now, now + self.table.lease);
            run.serves = !serves.is_empty();
        });
        let ended = self.table.end_the_dead(incarnation, settle).await?;
        self.table.share(incarnation, serves);
        let state = self.table.state();
        Ok(Standing::Member(Membership {
            now,
            lease: self.table.lease,
            units: state.units_of(incarnation),
            draining: state.runs.get(&incarnation).is_some_and(|run| run.draining),
            alive: state.alive().count(),
            ended,
        }))
    }

    async fn instances(&self) -> Result<Vec<InstanceRecord>> {
        self.enter("instances").await?;
        let state = self.table.state();
        let alive = state.runs.iter().filter(|(_, run)| !run.ended);
        Ok(alive
            .map(|(id, run)| InstanceRecord {
                incarnation: *id,
                name: run.name.clone(),
                version: env!("CARGO_PKG_VERSION").into(),
                started_at: run.started_at,
                heartbeat_at: run.heartbeat_at,
                lease_until: run.lease_until,
                draining: run.draining,
                units: state
                    .units_of(*id)
                    .into_iter()
                    .map(|(u, term)| (u.to_string(), term))
                    .collect(),
            })
            .collect())
    }

    async fn drain(
        &self,
        _: Timestamp,
        incarnation: IncarnationId,
        draining: bool,
    ) -> Result<bool> {
        self.enter("drain").await?;
        let mut state = self.table.state();
        let run = state.runs.get_mut(&incarnation).filter(|run| !run.ended);
        Ok(run.map(|run| run.draining = draining).is_some())
    }
}
