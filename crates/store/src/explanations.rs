//! What is needed to tell why a message is where it is: the stretches of time in which nothing was
//! sent, and the story of one delivery or one occurrence as the records have it. Records only; the
//! words for people are made elsewhere, and nothing here decides whether anything is sent.

use async_trait::async_trait;
use imbabot_bot::{DeliveryId, WidgetName};
use imbabot_core::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::ledger::LedgerLine;
use crate::outbox::{DeliveryRecord, words};

words! {
    /// Why nothing is sent for a while.
    Stop {
        /// An operator paused it.
        Paused = "paused",
        /// Attempts failed or ended in doubt.
        Outage = "outage",
        /// The secret key is refused.
        Credentials = "credentials",
        /// The server answers with a redirect.
        Redirect = "redirect",
    }
}

/// A breaker of a widget opened or closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerChange {
    /// The widget.
    pub widget: WidgetName,
    /// Which breaker.
    pub reason: Stop,
    /// When.
    pub at: Timestamp,
    /// It opened; otherwise it closed.
    pub open: bool,
    /// Where a redirect points.
    pub detail: Option<String>,
}

/// A stretch of time in which nothing was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stoppage {
    /// `all`, `widget/<name>` or `bot/<name>`.
    pub scope: String,
    /// Why.
    pub reason: Stop,
    /// Its beginning.
    pub since: Timestamp,
    /// Its end; none while it lasts.
    pub until: Option<Timestamp>,
    /// Where a redirect points.
    pub detail: Option<String>,
}

/// A stretch of time in which no daemon ran on the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Downtime {
    /// The end of the run before; of one that was killed, its last sign of life in the ledger.
    pub from: Timestamp,
    /// The beginning of the next run; none if there was none yet.
    pub to: Option<Timestamp>,
    /// The run before was killed.
    pub killed: bool,
}

/// A line of the ledger and when it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// When.
    pub at: Timestamp,
    /// The line.
    pub line: LedgerLine,
}

/// What the records tell of a delivery.
#[derive(Debug, Clone, PartialEq)]
pub struct DeliveryStory {
    /// As it stands.
    pub record: DeliveryRecord,
    /// Its own lines, those of its attempts and those of operators' acts on it, ascending.
    pub lines: Vec<Told>,
    /// The last lines of what caused it: the occurrence, or the event of its bot.
    pub cause: Vec<Told>,
    /// When nothing of its widget or bot was sent, during its life.
    pub stoppages: Vec<Stoppage>,
    /// When no daemon ran, during its life.
    pub downtimes: Vec<Downtime>,
    /// When it may be claimed by itself, if it is queued: after a backoff, or when its time comes.
    pub due_at: Option<Timestamp>,
    /// The delivery of its lane that comes before it, if it is queued.
    pub behind: Option<DeliveryId>,
    /// When it will be sent again or be given up, if it is unknown: whichever comes first is known
    /// by its policy.
    pub resend_at: Option<Timestamp>,
}

/// What the records tell of an instant of a schedule.
#[derive(Debug, Clone, PartialEq)]
pub struct OccurrenceStory {
    /// The lines of the occurrence and the lines of runs that contain its instant, ascending.
    pub lines: Vec<Told>,
    /// Its deliveries, in the order of recording.
    pub deliveries: Vec<DeliveryRecord>,
    /// Rooms that were left out because an earlier delivery still waited there.
    pub overlaps: u64,
    /// Rooms that are still to be served.
    pub unserved: bool,
    /// Up to where the schedule has been dealt with; none if it was never adopted.
    pub fired_through: Option<Timestamp>,
    /// The schedule is still configured.
    pub present: bool,
    /// The schedule is paused now.
    pub paused: bool,
    /// When no daemon ran, around its instant.
    pub downtimes: Vec<Downtime>,
}

/// What the records tell of where a schedule stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScheduleStory {
    /// The latest instant that was dealt with, whatever became of it. What an operator triggered
    /// is beside the calendar.
    pub last: Option<Timestamp>,
    /// Since when an operator has paused it.
    pub paused_since: Option<Timestamp>,
}

/// Recording and reading what explains.
#[async_trait]
pub trait Explanations {
    /// Records that breakers opened or closed. Saying it twice changes nothing.
    async fn note_breakers(&self, changes: Vec<BreakerChange>) -> Result<()>;

    /// The stretches that last, by scope and reason: what is paused, and which breakers are recorded
    /// as open.
    async fn lasting_stoppages(&self) -> Result<Vec<Stoppage>>;

    /// What the records tell of a delivery.
    async fn delivery_story(&self, id: DeliveryId) -> Result<Option<DeliveryStory>>;

    /// What the records tell of `key@nominal_at`, or of the occurrence of this id (which may be
    /// one that an operator triggered).
    async fn occurrence_story(
        &self,
        id: &str,
        key: &str,
        nominal_at: Timestamp,
    ) -> Result<OccurrenceStory>;

    /// What the records tell of a schedule, of instants up to `until`.
    async fn schedule_story(&self, key: &str, until: Timestamp) -> Result<ScheduleStory>;
}
