//! What a bot can be told. Room and user events are inferred from two polls; nobody tells who did
//! what, and no event carries the text of a message: the API cannot read messages.

use imbabot_core::{RoomId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::outgoing::DeliveryId;
use crate::rooms::{Room, User};

/// Something a bot is told. Exactly once per change, in order per room, durable before a bot sees
/// it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A room changed.
    Room(RoomEvent),
    /// A user changed.
    User(UserEvent),
    /// A time has come: of a schedule of the bot's own, or of [`Context::wake`](crate::Context::wake).
    Timer(TimerEvent),
    /// A message of the bot's own reached its end, or its outcome is unknown.
    Delivery(DeliveryEvent),
}

impl Event {
    /// `room`, `user`, `timer` or `delivery`: the word that the ledger uses.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Room(_) => "room",
            Self::User(_) => "user",
            Self::Timer(_) => "timer",
            Self::Delivery(_) => "delivery",
        }
    }

    /// The room it is about, if it is about one.
    #[must_use]
    pub fn room_id(&self) -> Option<RoomId> {
        match self {
            Self::Room(event) => Some(event.room.id),
            Self::Delivery(event) => Some(event.room),
            Self::User(_) | Self::Timer(_) => None,
        }
    }
}

/// A change of a room between two polls. A room in which several things changed at once brings
/// several events, each with the same before and after.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RoomEvent {
    /// What changed.
    pub change: RoomChange,
    /// The room now; for `Gone`, as it was last seen.
    pub room: Room,
    /// The room before, if it was known.
    pub before: Option<Room>,
    /// When the poll saw it.
    pub at: Timestamp,
}

impl RoomEvent {
    /// An event as the engine makes it.
    #[must_use]
    pub fn new(change: RoomChange, room: Room, before: Option<Room>, at: Timestamp) -> Self {
        Self { change, room, before, at }
    }
}

/// What changed about a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RoomChange {
    /// It was not listed before.
    Opened,
    /// Its name.
    Renamed,
    /// Its kind.
    KindChanged,
    /// Its status.
    StatusChanged,
    /// Whether it is public.
    VisibilityChanged,
    /// Its administrator.
    AdminChanged,
    /// Only `updated_at` moved. Changes that the bots' own messages made are left out.
    Touched,
    /// It is no longer listed, or marked as deleted.
    Gone,
    /// It was gone and is listed again.
    Returned,
}

impl RoomChange {
    /// All of them, in the order of this page.
    pub const ALL: &'static [Self] = &[
        Self::Opened,
        Self::Renamed,
        Self::KindChanged,
        Self::StatusChanged,
        Self::VisibilityChanged,
        Self::AdminChanged,
        Self::Touched,
        Self::Gone,
        Self::Returned,
    ];

    /// The word that the ledger and templates use: `opened`, `renamed` …
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Renamed => "renamed",
            Self::KindChanged => "kind_changed",
            Self::StatusChanged => "status_changed",
            Self::VisibilityChanged => "visibility_changed",
            Self::AdminChanged => "admin_changed",
            Self::Touched => "touched",
            Self::Gone => "gone",
            Self::Returned => "returned",
        }
    }
}

/// A change of a user between two polls.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UserEvent {
    /// What changed.
    pub change: UserChange,
    /// The user now; for `Gone`, as last seen.
    pub user: User,
    /// The user before, if known.
    pub before: Option<User>,
    /// When the poll saw it.
    pub at: Timestamp,
}

impl UserEvent {
    /// An event as the engine makes it.
    #[must_use]
    pub fn new(change: UserChange, user: User, before: Option<User>, at: Timestamp) -> Self {
        Self { change, user, before, at }
    }
}

/// What changed about a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum UserChange {
    /// Not listed before.
    Joined,
    /// Anything about the row.
    Changed,
    /// No longer listed, or marked as deleted.
    Gone,
}

impl UserChange {
    /// The word that the ledger and templates use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Joined => "joined",
            Self::Changed => "changed",
            Self::Gone => "gone",
        }
    }
}

/// A time has come.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TimerEvent {
    /// The key given to `ctx.wake`, or the id of the bot's own schedule.
    pub key: String,
    /// The occurrence of the schedule; `None` for a wake.
    pub occurrence: Option<String>,
    /// The instant that was meant, not the one at which it is handled.
    pub at: Timestamp,
}

impl TimerEvent {
    /// An event as the engine makes it.
    #[must_use]
    pub fn new(key: impl Into<String>, occurrence: Option<String>, at: Timestamp) -> Self {
        Self { key: key.into(), occurrence, at }
    }
}

/// What became of a message of the bot's own.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeliveryEvent {
    /// The id that `Outgoing::id` gave.
    pub delivery: DeliveryId,
    /// The caller's key, if one was given.
    pub key: Option<String>,
    /// The room it was for.
    pub room: RoomId,
    /// `delivered`, `dead` or `unknown`.
    pub state: String,
    /// Why, for `dead` and `unknown`.
    pub reason: Option<String>,
    /// When it came to that.
    pub at: Timestamp,
}

impl DeliveryEvent {
    /// An event as the engine makes it.
    #[must_use]
    pub fn new(
        delivery: DeliveryId,
        key: Option<String>,
        room: RoomId,
        state: impl Into<String>,
        reason: Option<String>,
        at: Timestamp,
    ) -> Self {
        Self { delivery, key, room, state: state.into(), reason, at }
    }
}
