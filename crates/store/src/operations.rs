//! What operators do and look at: pauses, cancellations, resolutions, counts. Each act is recorded
//! in the ledger.

use async_trait::async_trait;
use imbabot_bot::{BotName, DeliveryId, WidgetName};
use imbabot_core::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::inbox::EventRecord;
use crate::outbox::{DeliveryRecord, DeliveryState};

/// What is paused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PauseScope {
    /// Everything.
    All,
    /// One widget: nothing is sent to it.
    Widget(WidgetName),
    /// One bot: it is told nothing, and nothing of it is sent.
    Bot(BotName),
}

impl std::fmt::Display for PauseScope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Widget(name) => write!(f, "widget/{name}"),
            Self::Bot(name) => write!(f, "bot/{name}"),
        }
    }
}

/// Which deliveries to list; conditions are joined by AND.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeliveryFilter {
    /// In this state.
    pub state: Option<DeliveryState>,
    /// Recorded at or after this instant.
    pub since: Option<Timestamp>,
    /// At most so many, the newest.
    pub limit: Option<usize>,
}

/// Which deliveries to cancel: only those still queued ever are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CancelFilter {
    /// These.
    Ids(Vec<DeliveryId>),
    /// Those of a bot.
    Bot(BotName),
    /// Those of a schedule.
    Schedule(String),
    /// Those in a state; only `queued` has any that can be cancelled.
    State(DeliveryState),
}

/// What an operator knows about an unknown delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// It is there.
    Delivered,
    /// It is not, and shall not be.
    Dead,
}

/// What became of an operator's retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryVerdict {
    /// It is queued again.
    Queued,
    /// There is no such delivery.
    Missing,
    /// Its outcome is unknown: another request may double it.
    NeedsAcceptance,
    /// It is in a state from which nothing is retried.
    NotNow(DeliveryState),
}

/// An operator's act as the ledger tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorRecord {
    /// What was done.
    pub verb: String,
    /// To what.
    pub target: String,
    /// How it stood before.
    pub before: String,
    /// How it stands now.
    pub after: String,
    /// When.
    pub at: Timestamp,
}

/// How many deliveries stand in one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateCount {
    /// The state.
    pub state: DeliveryState,
    /// The reason, if it has one.
    pub reason: Option<String>,
    /// How many stand so now.
    pub present: u64,
    /// How often a delivery came to stand so, since the store was made.
    pub total: u64,
}

/// Counts of what the store holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Deliveries by state and reason: how many there are, and how often one came to it, ever.
    pub deliveries: Vec<StateCount>,
    /// Deliveries that may have been applied more than once, ever.
    pub possible_duplicates: u64,
    /// Entries of the inbox that wait or are being handled.
    pub events_waiting: u64,
    /// Poisoned entries by bot.
    pub events_poisoned: Vec<(BotName, u64)>,
}

/// What the daemon last said about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignOfLife {
    /// When.
    pub at: Timestamp,
    /// It was the last of a run that ended by itself.
    pub stopped: bool,
    /// Its status, as JSON. The store does not read it.
    pub status: String,
}

/// What was done for the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CareKind {
    /// Its file was checked.
    Integrity,
    /// Its records were held against each other.
    Verify,
    /// It was copied.
    Backup,
}

impl CareKind {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Integrity => "integrity",
            Self::Verify => "verify",
            Self::Backup => "backup",
        }
    }
}

/// One time at which the store was looked after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Care {
    /// What was done.
    pub what: CareKind,
    /// When.
    pub at: Timestamp,
    /// Whether all was well.
    pub well: bool,
    /// What was found, or which file was made.
    pub told: String,
}

/// An operator's acts and looks.
#[async_trait]
pub trait Operations {
    /// Pauses or resumes; true if that changed anything.
    async fn pause(&self, now: Timestamp, scope: &PauseScope, paused: bool) -> Result<bool>;

    /// What is paused now.
    async fn paused(&self) -> Result<Vec<PauseScope>>;

    /// Lists deliveries, newest first.
    async fn deliveries(&self, filter: &DeliveryFilter) -> Result<Vec<DeliveryRecord>>;

    /// Cancels what is still queued; the ids that were cancelled.
    async fn cancel(&self, now: Timestamp, filter: &CancelFilter) -> Result<Vec<DeliveryId>>;

    /// Queues a dead or unknown delivery again, at its old place in its lane; what its content
    /// keeps is counted from now. Uses up none of the repetitions that `at_least_once` allows.
    async fn retry(
        &self,
        now: Timestamp,
        id: DeliveryId,
        accept_duplicate: bool,
    ) -> Result<RetryVerdict>;

    /// Says what became of an unknown delivery; the state in which it was found, `None` if there
    /// is none.
    async fn resolve(
        &self,
        now: Timestamp,
        id: DeliveryId,
        as_: Resolution,
    ) -> Result<Option<DeliveryState>>;

    /// Lists entries of the inbox, newest first.
    async fn events(&self, poisoned_only: bool, limit: usize) -> Result<Vec<EventRecord>>;

    /// Tries a poisoned entry (`e17/greeter`) again; false if there is none.
    async fn retry_event(&self, now: Timestamp, id: &str) -> Result<bool>;

    /// Counts.
    async fn tally(&self) -> Result<Tally>;

    /// Deletes what is older than `before` and finished, and no longer needed to tell the same key
    /// or occurrence again; how many records went.
    async fn prune(&self, now: Timestamp, before: Timestamp, limit: usize) -> Result<u64>;

    /// Looks whether the store is whole; a sentence if it is not.
    async fn check_integrity(&self, thorough: bool) -> Result<Option<String>>;

    /// Remembers that the store was looked after. No part of the ledger.
    async fn cared(&self, care: Care) -> Result<()>;

    /// How it was looked after: the newest few of each kind, newest first.
    async fn care(&self) -> Result<Vec<Care>>;

    /// The daemon says how it is; what it said before is forgotten. No part of the ledger.
    async fn sign(&self, sign: SignOfLife) -> Result<()>;

    /// What the daemon last said, also after its end; `None` before any ran.
    async fn last_sign(&self) -> Result<Option<SignOfLife>>;
}
