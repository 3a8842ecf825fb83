//! A store that fails when it is told to: before a verb did anything, as SQLite does when another
//! process holds the lock. What it does not fail at goes to the store behind it, unchanged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use imbabot_bot::{BotName, DeliveryId, RoomSelector, WidgetName};
use imbabot_core::{Room, RoomId, Timestamp, User, WidgetId};
use imbabot_store::*;
use serde_json::Value;

/// A store with a switch for every verb.
pub struct FlakyStore {
    inner: Arc<dyn Store>,
    faults: Mutex<BTreeMap<String, Fault>>,
}

struct Fault {
    kind: ErrorKind,
    spared: u32,
    left: u32,
    struck: u32,
}

impl FlakyStore {
    /// A store that works.
    #[must_use]
    pub fn over(inner: Arc<dyn Store>) -> Self {
        Self { inner, faults: Mutex::default() }
    }

    /// The next `times` calls of this verb (`commit_handled`, `settle` …) fail like this.
    pub fn fail(&self, verb: &str, times: u32, kind: ErrorKind) {
        self.fail_after(0, verb, times, kind);
    }

    /// The same, once `spared` calls have gone well.
    pub fn fail_after(&self, spared: u32, verb: &str, times: u32, kind: ErrorKind) {
        let fault = Fault { kind, spared, left: times, struck: 0 };
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).insert(verb.into(), fault);
    }

    /// How often a verb has failed since it was told to.
    #[must_use]
    pub fn struck(&self, verb: &str) -> u32 {
        let faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults.get(verb).map_or(0, |fault| fault.struck)
    }

    #[expect(clippy::unused_async, reason = "others wait here")]
    async fn enter(&self, verb: &str) -> Result<()> {
        self.strike(verb)
    }

    #[expect(clippy::unused_async, reason = "others wait here")]
    async fn leave(&self, _: &str) {}

    fn strike(&self, verb: &str) -> Result<()> {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        match faults.get_mut(verb) {
            Some(fault) if fault.spared > 0 => {
                fault.spared -= 1;
                Ok(())
            }
            Some(fault) if fault.left > 0 => {
                fault.left -= 1;
                fault.struck += 1;
                Err(Error::new(fault.kind.clone(), format!("{verb} was told to fail")))
            }
            _ => Ok(()),
        }
    }
}

/// Implements the groups of verbs for a store that stands before another one. The type has a field
/// `inner`, which has the verbs, and is asked before each (`enter`) and told after each (`leave`). What
/// stands in `own` is a verb of its own.
macro_rules! wrap_groups {
    ($store:ident; $($groups:tt)+) => {
        $crate::flaky::wrap_groups! { $store via std::convert::identity; $($groups)+ }
    };
    ($store:ident via $through:path; $($group:ident {
        $(fn $verb:ident($($given:ident: $of:ty),*) -> $gives:ty;)+
        $(own { $($own:tt)+ })?
    })+) => {$(
        #[async_trait::async_trait]
        impl $group for $store {
            $($($own)+)?
            $(async fn $verb(&self, $($given: $of),*) -> Result<$gives> {
                self.enter(stringify!($verb)).await?;
                let end = $through(self.inner.$verb($($given),*)).await;
                self.leave(stringify!($verb)).await;
                end
            })+
        }
    )+};
}
pub(crate) use wrap_groups;

/// All verbs of a store, for [`wrap_groups`]. Whoever uses it needs the names of this module.
macro_rules! wrap_store {
    ($store:ident) => {
        $crate::flaky::wrap_store! { $store via std::convert::identity }
    };
    ($store:ident via $through:path) => {
        $crate::flaky::wrap_groups! { $store via $through;
            Lifecycle {
                fn begin(now: Timestamp, version: &str, settle: Settle) -> Begun;
                fn adopt_widgets(widgets: &[(WidgetName, WidgetId)]) -> ();
                fn end(incarnation: IncarnationId, now: Timestamp) -> ();
                fn in_use() -> ();
                fn changed_by_another() -> bool;
            }
            Snapshots {
                fn snapshot_index(widget: &WidgetName, list: ListKind) -> SnapshotIndex;
                fn baseline_at(widget: &WidgetName, list: ListKind) -> Option<Timestamp>;
                fn commit_poll(poll: PollCommit) -> ();
                fn rooms_by_id(widget: &WidgetName, ids: &[RoomId]) -> Vec<Room>;
                fn rooms_after(widget: &WidgetName, after: Option<RoomId>, limit: usize) -> Vec<Room>;
                fn users_by_id(widget: &WidgetName, ids: &[u64]) -> Vec<User>;
                fn select_rooms(widget: &WidgetName, selector: &RoomSelector) -> Vec<Room>;
            }
            Inbox {
                fn adopt_bots(now: Timestamp, bots: &[BotName]) -> ();
                fn claim_events(claim: EventClaim) -> (Vec<EventEntry>, Option<Timestamp>);
                fn commit_handled(handled: Handled) -> HandledOutcome;
                fn fail_event(
                    entry: &EventEntry,
                    now: Timestamp,
                    reason: &str,
                    retry_at: Option<Timestamp>
                ) -> ();
                fn give_back(entry: &EventEntry, due_at: Timestamp) -> ();
                fn release_running(now: Timestamp) -> ();
                fn remembered(
                    bot: &BotName,
                    widget: &WidgetName,
                    key: &str
                ) -> Option<(Value, i64)>;
                fn fire_wakes(now: Timestamp) -> (u64, Option<Timestamp>);
            }
            Outbox {
                fn enqueue(now: Timestamp, deliveries: Vec<NewDelivery>) -> Vec<Enqueued>;
                fn claim(request: ClaimRequest) -> Claimed;
                fn settle(now: Timestamp, settle: Settle, outcomes: Vec<Settled>) -> Vec<Recorded>;
                fn hold_widget(widget: &WidgetName, until: Timestamp) -> ();
                fn sweep(now: Timestamp, settle: Settle, limit: usize) -> (u64, Option<Timestamp>);
                fn give_up_sending(now: Timestamp, settle: Settle) -> u64;
                fn delivery(id: DeliveryId) -> Option<DeliveryRecord>;
                fn waits_behind_others(id: DeliveryId) -> bool;
            }
            Fleet {
                fn clock() -> Option<Timestamp>;
                fn heartbeat(
                    incarnation: IncarnationId,
                    serves: &[Unit],
                    settle: Settle
                ) -> Standing;
                fn instances() -> Vec<InstanceRecord>;
                fn drain(now: Timestamp, incarnation: IncarnationId, draining: bool) -> bool;
            }
        }
        $crate::flaky::wrap_plain_groups! { $store via $through }
    };
}
pub(crate) use wrap_store;

/// The groups of verbs of which nobody that stands before a store makes anything of its own.
macro_rules! wrap_plain_groups {
    ($store:ident via $through:path) => {
        $crate::flaky::wrap_groups! { $store via $through;
            Schedules {
                fn adopt_schedules(now: Timestamp, schedules: Vec<AdoptSchedule>) -> Vec<Cursor>;
                fn cursors() -> Vec<Cursor>;
                fn commit_occurrences(step: OccurrenceCommit) -> bool;
                fn recorded(key: &str, after: Timestamp, until: Timestamp) -> BTreeSet<Timestamp>;
                fn runs_across(key: &str, at: Timestamp) -> Vec<RangeRecord>;
                fn shorten_run(now: Timestamp, run: &RangeRecord, to: Timestamp, count: u64) -> bool;
                fn trigger(now: Timestamp, key: &str, occurrence: NewOccurrence) -> ();
                fn pinned(limit: usize) -> Vec<Pinned>;
                fn expand(batch: Expansion) -> bool;
                fn pause_schedule(now: Timestamp, key: &str, paused: bool) -> bool;
            }
            Operations {
                fn pause(now: Timestamp, scope: &PauseScope, paused: bool) -> bool;
                fn paused() -> Vec<PauseScope>;
                fn deliveries(filter: &DeliveryFilter) -> Vec<DeliveryRecord>;
                fn cancel(now: Timestamp, filter: &CancelFilter) -> Vec<DeliveryId>;
                fn retry(now: Timestamp, id: DeliveryId, accept_duplicate: bool) -> RetryVerdict;
                fn resolve(now: Timestamp, id: DeliveryId, as_: Resolution) -> Option<DeliveryState>;
                fn events(poisoned_only: bool, limit: usize) -> Vec<EventRecord>;
                fn retry_event(now: Timestamp, id: &str) -> bool;
                fn tally() -> Tally;
                fn backlog(limit: usize) -> Backlog;
                fn prune(now: Timestamp, before: Timestamp, limit: usize) -> u64;
                fn check_integrity(thorough: bool) -> Option<String>;
                fn cared(care: Care) -> ();
                fn care() -> Vec<Care>;
                fn sign(sign: SignOfLife) -> ();
                fn last_sign() -> Option<SignOfLife>;
            }
            Ledger {
                fn ledger(since: i64, limit: usize) -> Vec<LedgerLine>;
                fn strays(limit: usize) -> Vec<String>;
                fn inspect(mark: InspectionMark, limit: usize) -> Inspected;
            }
            Explanations {
                fn note_breakers(changes: Vec<BreakerChange>) -> ();
                fn lasting_stoppages() -> Vec<Stoppage>;
                fn delivery_story(id: DeliveryId) -> Option<DeliveryStory>;
                fn occurrence_story(id: &str, key: &str, nominal_at: Timestamp) -> OccurrenceStory;
                fn schedule_story(key: &str, until: Timestamp) -> ScheduleStory;
            }
            Knowledge {
                fn learn(learned: Learned) -> ();
                fn learned() -> Vec<Learned>;
            }
        }
    };
}
pub(crate) use wrap_plain_groups;

wrap_store!(FlakyStore);
