//! What bots are to be told: durable before a bot sees it, in order per room, each entry handled
//! once per bot. A handler's whole effect is committed with "handled".

use std::time::Duration;

use async_trait::async_trait;
use imbabot_bot::{BotName, DeliveryId, MemoryWrite, RoomChange, UserChange, WidgetName};
use imbabot_core::{Room, RoomId, Timestamp, User};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::outbox::{Enqueued, NewDelivery};

/// What an event says, as it is stored: ImbaChat's types, without anything about presentation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EventBody {
    /// A room changed.
    Room {
        /// What changed.
        change: RoomChange,
        /// The room now.
        room: Box<Room>,
        /// The room before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<Box<Room>>,
    },
    /// A user changed.
    User {
        /// What changed.
        change: UserChange,
        /// The user now.
        user: Box<User>,
        /// The user before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<Box<User>>,
    },
    /// A time has come.
    Timer {
        /// The key of the wake, or the schedule's own id.
        key: String,
        /// The occurrence, for a schedule.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        occurrence: Option<String>,
    },
    /// A delivery came to an end or became unknown.
    Delivery {
        /// Its id.
        delivery: DeliveryId,
        /// The caller's key.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
        /// Its room.
        room: RoomId,
        /// `delivered`, `dead` or `unknown`.
        state: String,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
}

impl EventBody {
    /// The ledger's word for it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Room { .. } => "room",
            Self::User { .. } => "user",
            Self::Timer { .. } => "timer",
            Self::Delivery { .. } => "delivery",
        }
    }

    /// The room it is about.
    #[must_use]
    pub fn room(&self) -> Option<RoomId> {
        match self {
            Self::Room { room, .. } => Some(room.id),
            Self::Delivery { room, .. } => Some(*room),
            Self::User { .. } | Self::Timer { .. } => None,
        }
    }

    /// Entries of one lane are handled in order, entries of different lanes side by side.
    #[must_use]
    pub fn lane(&self) -> String {
        match self {
            Self::Room { room, .. } => format!("room/{}", room.id),
            Self::Delivery { room, .. } => format!("room/{room}"),
            Self::User { user, .. } => format!("user/{}", user.id),
            Self::Timer { key, .. } => format!("timer/{key}"),
        }
    }
}

/// An event to be put into the inbox of some bots.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// The widget.
    pub widget: WidgetName,
    /// When it happened, as far as is known.
    pub at: Timestamp,
    /// What happened.
    pub body: EventBody,
    /// Who is to be told.
    pub recipients: Vec<BotName>,
}

/// An entry that is being handled: its try is already counted.
#[derive(Debug, Clone, PartialEq)]
pub struct EventEntry {
    /// The event.
    pub event: i64,
    /// Who is told.
    pub bot: BotName,
    /// The widget.
    pub widget: WidgetName,
    /// When it happened.
    pub at: Timestamp,
    /// What happened.
    pub body: EventBody,
    /// Which try this is, from 1.
    pub tries: u32,
}

impl EventEntry {
    /// The name of the event, which keys what its handler sends: `e17`.
    #[must_use]
    pub fn event_name(&self) -> String {
        format!("e{}", self.event)
    }
}

/// What may be claimed.
#[derive(Debug, Clone, PartialEq)]
pub struct EventClaim {
    /// Now.
    pub now: Timestamp,
    /// How many more entries each bot can take.
    pub free: Vec<(BotName, usize)>,
    /// How far the clocks of widgets' servers are ahead of this one, in microseconds, where that
    /// is known: what a server says of its rooms, it says by its own clock.
    pub ahead: Vec<(WidgetName, i64)>,
}

/// Bounds on what bots may say, counted over what the store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendLimits {
    /// Messages for one event.
    pub per_event: usize,
    /// Messages of one bot within a window.
    pub per_bot: (u32, Duration),
    /// Messages of one bot to one room within a window.
    pub per_bot_and_room: (u32, Duration),
}

/// The whole effect of a handler that returned `Ok`.
#[derive(Debug, Clone, PartialEq)]
pub struct Handled {
    /// The entry.
    pub entry: EventEntry,
    /// Now.
    pub now: Timestamp,
    /// Messages, in order.
    pub sends: Vec<NewDelivery>,
    /// Timers to set.
    pub wakes: Vec<(String, Timestamp)>,
    /// Keys of timers and queued messages to take back.
    pub cancels: Vec<String>,
    /// Writes to the bot's memory.
    pub memory: Vec<MemoryWrite>,
    /// Bounds.
    pub limits: SendLimits,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandledOutcome {
    /// Everything is durable.
    Committed(Vec<Enqueued>),
    /// Another run wrote the same memory: nothing was kept, the handler is to run again. The try
    /// is given back.
    Conflict,
}

/// How an entry ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventOutcome {
    /// The handler returned `Ok`.
    Handled,
    /// It failed on every try.
    Poisoned,
    /// It was not for the bot: its own doing, or the bot is gone.
    Ignored,
}

/// An entry as the ledger tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRecord {
    /// `e17/greeter`.
    pub id: String,
    /// The widget.
    pub widget: WidgetName,
    /// Who was told.
    pub bot: BotName,
    /// `room`, `user`, `timer` or `delivery`. Not called `kind`: that is the kind of the line.
    pub event_kind: String,
    /// The room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<RoomId>,
    /// How often the handler was started.
    pub tries: u32,
    /// How it ended; absent while it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<EventOutcome>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

/// Claiming and finishing what bots are told.
#[async_trait]
pub trait Inbox {
    /// Says which bots there are. Entries of bots that are gone end as ignored; a bot that is new
    /// starts at now.
    async fn adopt_bots(&self, now: Timestamp, bots: &[BotName]) -> Result<()>;

    /// Entries to handle now, their tries counted and durable, and the instant at which the next
    /// one may be due. Changes that the bots' own messages made end here as ignored.
    async fn claim_events(&self, claim: EventClaim)
    -> Result<(Vec<EventEntry>, Option<Timestamp>)>;

    /// Commits what a handler did, with "handled".
    async fn commit_handled(&self, handled: Handled) -> Result<HandledOutcome>;

    /// The handler failed: try again at `retry_at`, or never (poisoned).
    async fn fail_event(
        &self,
        entry: &EventEntry,
        now: Timestamp,
        reason: &str,
        retry_at: Option<Timestamp>,
    ) -> Result<()>;

    /// The handler had no turn: the entry waits until `due_at`, its try given back.
    async fn give_back(&self, entry: &EventEntry, due_at: Timestamp) -> Result<()>;

    /// What is being handled will never be heard of again: it waits again, its try given back.
    async fn release_running(&self, now: Timestamp) -> Result<()>;

    /// A bot's memory of one key.
    async fn remembered(
        &self,
        bot: &BotName,
        widget: &WidgetName,
        key: &str,
    ) -> Result<Option<(serde_json::Value, i64)>>;

    /// Turns the wakes that are due into events; the instant of the next one.
    async fn fire_wakes(&self, now: Timestamp) -> Result<(u64, Option<Timestamp>)>;
}
