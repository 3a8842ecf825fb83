#![doc = include_str!("../README.md")]

pub mod capabilities;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod error;
pub mod explanations;
pub mod fleet;
pub mod inbox;
pub mod ledger;
pub mod lifecycle;
pub mod migrate;
pub mod operations;
pub mod outbox;
pub mod postgres;
mod rules;
pub mod schedules;
pub mod snapshots;
pub mod sqlite;

pub use capabilities::{Capabilities, Honoured, Knowledge, Learned, ListFacts, Quirk, Source};
pub use error::{Error, ErrorKind, Result};
pub use explanations::{
    BreakerChange, DeliveryStory, Downtime, Explanations, OccurrenceStory, ScheduleStory, Stop,
    Stoppage, Told,
};
pub use fleet::{Fleet, InstanceRecord, Membership, Standing, Unit};
pub use inbox::{
    EventBody, EventClaim, EventEntry, EventOutcome, EventRecord, Handled, HandledOutcome, Inbox,
    NewEvent, SendLimits,
};
pub use ledger::{Inspected, InspectionMark, Ledger, LedgerLine, Line};
pub use lifecycle::{Begun, IncarnationId, IncarnationRecord, Lifecycle, Settle};
pub use migrate::{Migrated, MoveFrom, MoveTo, migrate};
pub use operations::{
    Backlog, CancelFilter, Care, CareKind, DeliveryFilter, Operations, OperatorRecord, PauseScope,
    Resolution, RetryVerdict, SignOfLife, StateCount, Tally,
};
pub use outbox::{
    AttemptRecord, Born, ClaimRequest, Claimed, ClaimedDelivery, Class, DeadReason, DeliveryRecord,
    DeliveryState, Enqueued, Hold, NewDelivery, Next, Outbox, Recorded, Settled, WidgetClaim,
};
pub use postgres::{PostgresOptions, PostgresStore, ServerFacts};
pub use schedules::{
    AdoptSchedule, Cursor, Expansion, MANUAL, NewOccurrence, NewRange, OccurrenceCommit,
    OccurrenceOutcome, OccurrenceRecord, Pinned, REANCHORED_BEYOND, RangeRecord, Schedules, Target,
};
pub use snapshots::{ItemChange, ListKind, PollCommit, SnapshotIndex, Snapshots};
pub use sqlite::{Bodies, Copied, Holder, Reanchored, Role, SqliteStore, StoreInfo};

/// The durable state of one imbabot: everything that has to survive a kill at any instant.
///
/// A verb is one atomic step: it happens as a whole or not at all, and it is on disk when it
/// returns. No verb spans a request to ImbaChat.
pub trait Store:
    Lifecycle
    + Snapshots
    + Inbox
    + Outbox
    + Schedules
    + Operations
    + Ledger
    + Explanations
    + Knowledge
    + Fleet
    + Send
    + Sync
    + 'static
{
}

impl<T> Store for T where
    T: Lifecycle
        + Snapshots
        + Inbox
        + Outbox
        + Schedules
        + Operations
        + Ledger
        + Explanations
        + Knowledge
        + Fleet
        + Send
        + Sync
        + 'static
{
}
