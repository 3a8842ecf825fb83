//! What was due and what became of it: cursors, occurrences, runs of missed ones. An occurrence
//! and its schedule's cursor move in one transaction, so an instant fires once.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use imbabot_bot::WidgetName;
use imbabot_core::{RoomId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::inbox::NewEvent;
use crate::outbox::{NewDelivery, words};

/// How the id of an occurrence ends that an operator triggered.
pub const MANUAL: &str = "!manual";

words! {
    /// What became of an occurrence.
    OccurrenceOutcome {
        /// It fired.
        Fired = "fired",
        /// It was left out by a rule.
        Skipped = "skipped",
        /// Nobody was there in time.
        Missed = "missed",
    }
}

/// A cursor that lies further in the future than this was written under a wrong clock: to adopt its
/// schedule sets it to now.
pub const REANCHORED_BEYOND: Duration = Duration::from_secs(24 * 3_600);

/// A schedule as the engine presents it. The key is the id of an announcement's schedule, or
/// `bot/<bot>/<id>` for one of a bot's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdoptSchedule {
    /// The key.
    pub key: String,
    /// All that decides about its instants.
    pub definition: String,
}

/// How far a schedule has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The key.
    pub key: String,
    /// What decides about its instants, as it was adopted last.
    pub definition: String,
    /// Every instant up to this one is dealt with.
    pub fired_through: Timestamp,
    /// Paused by an operator.
    pub paused: bool,
    /// The last instant that fired.
    pub last_fired: Option<Timestamp>,
    /// How many were missed, ever.
    pub missed: u64,
    /// The cursor lay more than a day in the future and was set to now.
    pub reanchored: bool,
}

/// One room of one widget.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// The widget.
    pub widget: WidgetName,
    /// The room.
    pub room: RoomId,
}

/// An occurrence to be recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct NewOccurrence {
    /// `schedule@instant`.
    pub id: String,
    /// The nominal instant.
    pub nominal_at: Timestamp,
    /// What became of it.
    pub outcome: OccurrenceOutcome,
    /// Why, unless it fired.
    pub reason: Option<String>,
    /// The rooms it is for, ascending: pinned now, expanded later.
    pub targets: Vec<Target>,
    /// For a bot's own schedule: what the bot is told.
    pub events: Vec<NewEvent>,
}

/// A run of occurrences that did not fire for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRange {
    /// What became of them.
    pub outcome: OccurrenceOutcome,
    /// Why.
    pub reason: String,
    /// The first instant.
    pub from: Timestamp,
    /// The last instant.
    pub to: Timestamp,
    /// How many.
    pub count: u64,
}

/// A step of a schedule: occurrences and cursor, in one transaction.
#[derive(Debug, Clone, PartialEq)]
pub struct OccurrenceCommit {
    /// The schedule.
    pub key: String,
    /// Now.
    pub now: Timestamp,
    /// Where the cursor stood when this was computed. If it stands elsewhere, nothing is done.
    pub from: Timestamp,
    /// Where it stands afterwards; never before `from`.
    pub through: Timestamp,
    /// What is recorded one by one.
    pub occurrences: Vec<NewOccurrence>,
    /// What is recorded as runs.
    pub ranges: Vec<NewRange>,
}

/// An occurrence whose deliveries are not all recorded yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    /// The occurrence.
    pub id: String,
    /// Its schedule.
    pub key: String,
    /// The nominal instant.
    pub nominal_at: Timestamp,
    /// The rooms that are still to be served, ascending, at most as many as asked for.
    pub targets: Vec<Target>,
    /// How many were served before them.
    pub position: usize,
}

/// A batch of an occurrence's deliveries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expansion {
    /// The occurrence.
    pub id: String,
    /// Now.
    pub now: Timestamp,
    /// How many were served before this batch. If that is not so, nothing is done.
    pub position: usize,
    /// How many targets this batch deals with.
    pub served: usize,
    /// Its deliveries.
    pub deliveries: Vec<NewDelivery>,
    /// Leave out rooms in which a delivery of the schedule still waits.
    pub skip_overlap: bool,
}

/// An occurrence as the ledger tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OccurrenceRecord {
    /// `schedule@instant`.
    pub id: String,
    /// The schedule.
    pub schedule: String,
    /// The nominal instant.
    pub nominal_at: Timestamp,
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// What became of it.
    pub outcome: OccurrenceOutcome,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How many deliveries it has.
    pub deliveries: u64,
}

/// A run as the ledger tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeRecord {
    /// The schedule.
    pub schedule: String,
    /// What became of them.
    pub outcome: OccurrenceOutcome,
    /// Why.
    pub reason: String,
    /// The first instant.
    pub from: Timestamp,
    /// The last instant.
    pub to: Timestamp,
    /// How many.
    pub count: u64,
}

/// Cursors and occurrences.
#[async_trait]
pub trait Schedules {
    /// Says which schedules there are. New ones start now; one whose time was edited goes on from
    /// now; those that are gone keep their cursor, and what they had queued is cancelled. One whose
    /// cursor lies further ahead than [`REANCHORED_BEYOND`] goes on from now, and what was recorded as
    /// left out after now is taken back.
    async fn adopt_schedules(
        &self,
        now: Timestamp,
        schedules: Vec<AdoptSchedule>,
    ) -> Result<Vec<Cursor>>;

    /// The cursors of the schedules that were adopted last.
    async fn cursors(&self) -> Result<Vec<Cursor>>;

    /// Records a step; false if the cursor had moved meanwhile and nothing was done.
    async fn commit_occurrences(&self, step: OccurrenceCommit) -> Result<bool>;

    /// The instants in (`after`, `until`] that have an occurrence already. There are such ahead of a
    /// cursor only where the clock went far back.
    async fn recorded(
        &self,
        key: &str,
        after: Timestamp,
        until: Timestamp,
    ) -> Result<BTreeSet<Timestamp>>;

    /// The runs of a schedule that did not fire, begin at or before `at`, and end after it.
    async fn runs_across(&self, key: &str, at: Timestamp) -> Result<Vec<RangeRecord>>;

    /// Ends a run earlier than it was recorded, under a clock that was ahead: its last instant is
    /// `to`, and so many are left of it, fewer than there were. False if there is no such run.
    async fn shorten_run(
        &self,
        now: Timestamp,
        run: &RangeRecord,
        to: Timestamp,
        count: u64,
    ) -> Result<bool>;

    /// One extra occurrence, now: `schedule@instant!manual`. The cursor does not move.
    async fn trigger(&self, now: Timestamp, key: &str, occurrence: NewOccurrence) -> Result<()>;

    /// The oldest occurrences with rooms still to be served, and the first of these rooms: as many
    /// as come to `limit` rooms together.
    async fn pinned(&self, limit: usize) -> Result<Vec<Pinned>>;

    /// Records a batch of deliveries with its position; false if it was recorded before.
    async fn expand(&self, batch: Expansion) -> Result<bool>;

    /// Pauses or resumes a schedule; false if there is none of this key.
    async fn pause_schedule(&self, now: Timestamp, key: &str, paused: bool) -> Result<bool>;
}
