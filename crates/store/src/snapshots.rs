//! The last trusted state of a widget's lists, and the events that a poll found, committed
//! together. What is trusted is decided elsewhere.

use async_trait::async_trait;
use imbabot_bot::{RoomSelector, WidgetName};
use imbabot_core::{Room, RoomId, Timestamp, User};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::inbox::NewEvent;

/// Which of a widget's lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListKind {
    /// `get_rooms`.
    Rooms,
    /// `get_users`.
    Users,
}

impl ListKind {
    /// `rooms` or `users`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rooms => "rooms",
            Self::Users => "users",
        }
    }
}

/// What the store remembers of a list without decoding it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotIndex {
    /// When the first good snapshot was committed whole; `None` before the baseline.
    pub baseline_at: Option<Timestamp>,
    /// When the last good snapshot was committed whole.
    pub last_good_at: Option<Timestamp>,
    /// Ids and hashes of the listed elements, ascending by id.
    pub listed: Vec<(u64, u64)>,
    /// Ids that were listed once and are gone, ascending.
    pub gone: Vec<u64>,
}

/// The new state of one element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemChange {
    /// Its id.
    pub id: u64,
    /// The hash of its bytes.
    pub hash: u64,
    /// The element as JSON under clean types; `None` keeps what is there.
    pub body: Option<String>,
    /// It is gone now: kept only so that a return can be told from an opening.
    pub gone: bool,
}

/// A part of a poll's result: at most 1,000 elements, each with its events.
#[derive(Debug, Clone, PartialEq)]
pub struct PollCommit {
    /// The widget.
    pub widget: WidgetName,
    /// The list.
    pub list: ListKind,
    /// When the poll ended.
    pub now: Timestamp,
    /// Elements that changed.
    pub changes: Vec<ItemChange>,
    /// What is to be told about it.
    pub events: Vec<NewEvent>,
    /// This is the last part: the snapshot is whole.
    pub last: bool,
}

/// A selector looks at so many rooms at a time.
const PAGE: usize = 1_000;

/// Reading and committing snapshots.
#[async_trait]
pub trait Snapshots {
    /// What is known of a list.
    async fn snapshot_index(&self, widget: &WidgetName, list: ListKind) -> Result<SnapshotIndex>;

    /// When the first good snapshot of a list was committed whole; `None` before the baseline. Looks
    /// at no element.
    async fn baseline_at(&self, widget: &WidgetName, list: ListKind) -> Result<Option<Timestamp>>;

    /// Commits a part of a poll: each element's new state together with its events.
    async fn commit_poll(&self, poll: PollCommit) -> Result<()>;

    /// Rooms by number, ascending; those that are not listed are left out.
    async fn rooms_by_id(&self, widget: &WidgetName, ids: &[RoomId]) -> Result<Vec<Room>>;

    /// The next `limit` listed rooms after a number, ascending.
    async fn rooms_after(
        &self,
        widget: &WidgetName,
        after: Option<RoomId>,
        limit: usize,
    ) -> Result<Vec<Room>>;

    /// Users by ImbaChat's number, ascending; those that are not listed are left out.
    async fn users_by_id(&self, widget: &WidgetName, ids: &[u64]) -> Result<Vec<User>>;

    /// The listed rooms that the selector chooses, ascending: one pass, nothing but the result is
    /// held.
    async fn select_rooms(
        &self,
        widget: &WidgetName,
        selector: &RoomSelector,
    ) -> Result<Vec<Room>> {
        if let Some(ids) = selector.only_ids() {
            return self.rooms_by_id(widget, ids).await;
        }
        let mut chosen = Vec::new();
        let mut after = None;
        loop {
            let page = self.rooms_after(widget, after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(chosen) };
            after = Some(last.id);
            chosen.extend(page.into_iter().filter(|room| selector.matches(room)));
        }
    }
}
