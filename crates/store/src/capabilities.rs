//! What is known of a widget's server beside its lists, for people: how large they are, which quirks
//! were met, which filters it honours. Nothing is decided by it but whether to warn again.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use imbabot_bot::{ActivitySignal, WidgetName};
use imbabot_core::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// Who found something out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The daemon, by its polls.
    Polls,
    /// `imbabot doctor`.
    Doctor,
}

impl Source {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Polls, Self::Doctor];

    /// `polls` or `doctor`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Polls => "polls",
            Self::Doctor => "doctor",
        }
    }
}

/// What was met in a list that a plain reading of JSON would stumble over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quirk {
    /// The JSON stood between other text.
    TextAround,
    /// `success` was a word and no truth value.
    SuccessAsWord,
    /// The list was an object with numbers for keys.
    Map,
    /// It came in pages.
    Pages,
    /// Rows could not be read.
    BadRows,
    /// Numbers were listed more than once.
    Duplicates,
}

impl Quirk {
    /// The word in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TextAround => "text_around",
            Self::SuccessAsWord => "success_as_word",
            Self::Map => "map",
            Self::Pages => "pages",
            Self::BadRows => "bad_rows",
            Self::Duplicates => "duplicates",
        }
    }
}

/// What is known of one list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListFacts {
    /// Rows of the last list, those that are not counted as rooms or users too.
    pub rows: u64,
    /// The most rows that one list ever had.
    pub most: u64,
    /// Bytes of the last list, decompressed.
    pub bytes: u64,
    /// How long the last list took.
    pub milliseconds: u64,
    /// In how many pages the last list came.
    pub pages: u32,
    /// What was ever met in it.
    #[serde(default)]
    pub quirks: BTreeSet<Quirk>,
    /// It looks as if the server cut it at so many rows.
    #[serde(default)]
    pub suspected_limit: Option<u64>,
}

/// Whether the server does what a filter says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Honoured {
    /// Only what was asked for came.
    Yes,
    /// The filter made no difference.
    No,
    /// Something came that was not asked for, or nothing of what was.
    Wrongly,
    /// There was nothing to tell it by.
    Unclear,
}

impl Honoured {
    /// The word in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Wrongly => "wrongly",
            Self::Unclear => "unclear",
        }
    }
}

/// What is known of a server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Of `get_rooms`.
    #[serde(default)]
    pub rooms: Option<ListFacts>,
    /// Of `get_users`; nothing where nobody asked for them.
    #[serde(default)]
    pub users: Option<ListFacts>,
    /// Some row's `updated_at` was seen to move.
    #[serde(default)]
    pub updated_at_moves: bool,
    /// Whether `updated_at` moves with messages, judged by our own.
    #[serde(default)]
    pub activity: ActivitySignal,
    /// How many of our messages in a row moved nothing.
    #[serde(default)]
    pub silent_messages: u32,
    /// How many seconds the server's clock is ahead of ours.
    #[serde(default)]
    pub server_ahead_seconds: Option<i64>,
    /// Filters that were tried, as `get_rooms.room_type`.
    #[serde(default)]
    pub filters: BTreeMap<String, Honoured>,
}

/// What somebody found out about a widget's server, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Learned {
    /// The widget.
    pub widget: WidgetName,
    /// Who.
    pub source: Source,
    /// When it was written down.
    pub at: Timestamp,
    /// What.
    pub capabilities: Capabilities,
}

/// Remembering what servers are like.
#[async_trait]
pub trait Knowledge {
    /// Writes down what was found out, in place of what the same source had found of that widget.
    async fn learn(&self, learned: Learned) -> Result<()>;

    /// All that is known, by widget and source.
    async fn learned(&self) -> Result<Vec<Learned>>;
}
