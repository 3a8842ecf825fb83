//! What happened, in order: a line for each change of a record, appended in the transaction that
//! made the change. Nothing here is ever rewritten; retention only removes from the far end.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::inbox::EventRecord;
use crate::lifecycle::IncarnationRecord;
use crate::operations::OperatorRecord;
use crate::outbox::{AttemptRecord, DeliveryRecord};
use crate::schedules::{OccurrenceRecord, RangeRecord};

/// A line of the ledger. As JSON: `{"schema":1,"seq":…,"kind":…, …}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LedgerLine {
    /// The version of these shapes: 1.
    pub schema: u32,
    /// Ascending, never used twice.
    pub seq: i64,
    /// The record after the change.
    #[serde(flatten)]
    pub line: Line,
}

/// What a line is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Line {
    /// A run of the program.
    Incarnation(IncarnationRecord),
    /// An occurrence of a schedule.
    Occurrence(OccurrenceRecord),
    /// A run of occurrences.
    Range(RangeRecord),
    /// A delivery.
    Delivery(Box<DeliveryRecord>),
    /// What a bot was told.
    Event(EventRecord),
    /// An attempt.
    Attempt(AttemptRecord),
    /// An operator's act.
    Operator(OperatorRecord),
}

/// Where an inspection stands; it begins with the default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InspectionMark {
    /// Which kind of record it is at. For the backend only.
    pub walk: usize,
    /// The last of that kind that was looked at. For the backend only.
    pub after: Option<String>,
}

/// What one batch of an inspection found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inspected {
    /// How many records were looked at.
    pub looked_at: u64,
    /// A sentence for each contradiction, at most a few of a kind.
    pub found: Vec<String>,
    /// Where to go on; none at the end.
    pub next: Option<InspectionMark>,
}

/// Reading the ledger.
#[async_trait]
pub trait Ledger {
    /// The next `limit` lines after `since`, ascending.
    async fn ledger(&self, since: i64, limit: usize) -> Result<Vec<LedgerLine>>;

    /// Deliveries, attempts and occurrences that stand otherwise than their last line says, or that
    /// have none: a sentence each, at most `limit`. There should be none.
    async fn strays(&self, limit: usize) -> Result<Vec<String>>;

    /// Holds the next `limit` records against each other and against the ledger: their states and
    /// attempts, the arrows between their states, what accounts for each instant, the counts that are
    /// kept. Each batch is judged as it stands at one instant, whatever goes on meanwhile, and
    /// nothing is kept in memory between two.
    async fn inspect(&self, mark: InspectionMark, limit: usize) -> Result<Inspected>;
}
