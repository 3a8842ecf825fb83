//! Starting and stopping on a store: one process in the daemon's role at a time, and what a kill
//! left behind is told truthfully before anything else happens.

use std::time::Duration;

use async_trait::async_trait;
use imbabot_bot::WidgetName;
use imbabot_core::{Timestamp, WidgetId};
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// After a kill, what was in flight waits for so long before it runs alone: a process that is
/// killed again and again within a moment of its start is not killed by what it handles.
pub const SUSPECTS_WAIT: Duration = Duration::from_secs(1);

/// One run of a process in the daemon's role. Ascending; it fences what an earlier run claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IncarnationId(pub i64);

/// What `begin` found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// The new incarnation.
    pub incarnation: IncarnationId,
    /// The run before this one did not end by itself.
    pub after_crash: bool,
    /// Deliveries that were being sent and are `unknown` now.
    pub turned_unknown: u64,
    /// Events whose handlers were running.
    pub interrupted_events: u64,
}

/// An incarnation as the ledger tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncarnationRecord {
    /// Its id.
    pub id: IncarnationId,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended; for one that was killed, when that was noticed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Whether it ended by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clean: Option<bool>,
    /// The version of the program.
    pub version: String,
    /// What its instance is called, where several share the store and go on side by side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
}

/// Beginning and ending a run.
#[async_trait]
pub trait Lifecycle {
    /// Begins a run: what was `sending` becomes `unknown`; handlers that were running are to run
    /// again, if the last run was killed after [`SUSPECTS_WAIT`] and one at a time.
    async fn begin(&self, now: Timestamp, version: &str, settle: Settle) -> Result<Begun>;

    /// Says which number of ImbaChat's each widget has. What is remembered under a name (rooms,
    /// queued messages) belongs to one number.
    ///
    /// # Errors
    /// `OtherWidget` if a name was used for another number before; nothing is changed then.
    async fn adopt_widgets(&self, widgets: &[(WidgetName, WidgetId)]) -> Result<()>;

    /// Ends a run that finished what it had in flight. Handlers that were stopped get their try
    /// back.
    async fn end(&self, incarnation: IncarnationId, now: Timestamp) -> Result<()>;

    /// Whether a run may begin on it, asked without beginning one.
    ///
    /// # Errors
    /// `Restored` if it is a copy that was not yet taken into use, `Moved` if it was moved into another
    /// database; or it cannot be read.
    async fn in_use(&self) -> Result<()>;

    /// Whether another process may have changed the store since this was asked last.
    async fn changed_by_another(&self) -> Result<bool>;

    /// Resolves when somebody, this process or another, may have written since this was awaited last:
    /// a hint to ask [`Lifecycle::changed_by_another`] now. It may come for nothing, and where a
    /// store cannot tell it never comes, so it replaces no asking from time to time.
    async fn stirred(&self) {
        std::future::pending::<()>().await;
    }
}

/// When an `unknown` delivery moves on by itself; see [`Next::Unknown`](crate::Next::Unknown).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settle {
    /// `at_least_once`: how long to wait before an ambiguous attempt is repeated.
    pub wait: std::time::Duration,
    /// `at_least_once`: how often it is repeated at most.
    pub max_resends: u32,
    /// When `unknown` becomes `dead(unresolved)`.
    pub unresolved_after: std::time::Duration,
}
