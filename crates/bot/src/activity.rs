//! Whether a server's lists tell that something happens in a room.

use serde::{Deserialize, Serialize};

/// Whether `updated_at` of a room moves when somebody writes in it. ImbaChat does not say so anywhere;
/// the daemon finds out by its own messages. Where it does not move,
/// [`Touched`](crate::RoomChange::Touched) never comes, and a room in which nothing seems to happen may be
/// a busy one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ActivitySignal {
    /// Nobody knows yet.
    #[default]
    Unknown,
    /// A room was seen to be touched.
    Seen,
    /// Several messages of ours were confirmed, and no list since has shown a trace of them.
    #[serde(rename = "no_activity_signal")]
    Absent,
}

impl ActivitySignal {
    /// The word in JSON: `unknown`, `seen` or `no_activity_signal`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Seen => "seen",
            Self::Absent => "no_activity_signal",
        }
    }
}
