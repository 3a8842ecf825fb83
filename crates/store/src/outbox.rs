//! Messages on their way: rows before they are requests. Moves only along the arrows of the state
//! machine; whoever asks for another move is refused.

use std::time::Duration;

use async_trait::async_trait;
use imbabot_bot::{BotName, DeliveryId, Policy, WidgetName};
use imbabot_core::{MessageId, RoomId, SiteUserId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::lifecycle::IncarnationId;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $word)] $variant,)+ }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word in the store and the ledger.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => {
                        let shown: String = text.chars().take(60).collect();
                        let known: Vec<&str> = vec![$($word),+];
                        Err(format!("{shown:?} is not one of {}", known.join(", ")))
                    }
                }
            }
        }
    };
}
pub(crate) use words;

words! {
    /// Where a delivery stands.
    DeliveryState {
        /// Waits to be sent.
        Queued = "queued",
        /// A request for it may be on its way.
        Sending = "sending",
        /// A request left, and nobody knows whether it was applied.
        Unknown = "unknown",
        /// Applied, and confirmed.
        Delivered = "delivered",
        /// Will not be sent; the reason says why.
        Dead = "dead",
    }
}

words! {
    /// Why a delivery is dead.
    DeadReason {
        /// The server refused it for good.
        Rejected = "rejected",
        /// It was worth nothing any more before it could be sent.
        Expired = "expired",
        /// It stayed unknown for too long.
        Unresolved = "unresolved",
        /// A limit on bots held it back.
        Suppressed = "suppressed",
        /// It cannot be sent as it is.
        Invalid = "invalid",
        /// Somebody took it back.
        Cancelled = "cancelled",
    }
}

words! {
    /// What one attempt meant.
    Class {
        /// Applied and confirmed.
        Delivered = "delivered",
        /// No byte of it arrived.
        NotSent = "not_sent",
        /// Arrived and refused.
        Rejected = "rejected",
        /// Nobody knows.
        Ambiguous = "ambiguous",
    }
}

words! {
    /// What an attempt had to wait for last.
    Hold {
        /// An earlier delivery of its lane.
        Lane = "lane",
        /// The distance between two requests to one room.
        RoomRate = "room_rate",
        /// The distance between two requests of one widget.
        WidgetRate = "widget_rate",
        /// The server had asked to be left alone.
        RetryAfter = "retry_after",
        /// An operator had paused it.
        Paused = "paused",
        /// The outage breaker was open.
        Outage = "outage",
        /// The credentials breaker was open.
        Credentials = "credentials",
        /// The redirect breaker was open.
        Redirect = "redirect",
        /// No daemon ran.
        Downtime = "downtime",
        /// As many requests were on their way as may be.
        Concurrency = "concurrency",
    }
}

/// How a row is born.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Born {
    /// To be sent.
    Queued,
    /// Dead at once, so that it can be seen that it was wanted.
    Dead(DeadReason),
}

/// A delivery to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDelivery {
    /// Unique over everything; its hash is the id.
    pub key: String,
    /// The widget.
    pub widget: WidgetName,
    /// The room.
    pub room: RoomId,
    /// Who speaks.
    pub sender: SiteUserId,
    /// The bot that wanted it.
    pub bot: Option<BotName>,
    /// The event it answers.
    pub event: Option<String>,
    /// The occurrence it belongs to.
    pub occurrence: Option<String>,
    /// The schedule of that occurrence.
    pub schedule: Option<String>,
    /// What happens when the outcome is unknown.
    pub policy: Policy,
    /// The text.
    pub text: String,
    /// Not before this instant.
    pub not_before: Option<Timestamp>,
    /// Not after this instant.
    pub expires_at: Timestamp,
    /// How it is born.
    pub born: Born,
    /// Why it is born dead, in words.
    pub detail: Option<String>,
    /// Whether the bot is to be told what became of it.
    pub report: bool,
}

impl NewDelivery {
    /// The id.
    #[must_use]
    pub fn id(&self) -> DeliveryId {
        DeliveryId::of_key(&self.key)
    }
}

/// What became of recording it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enqueued {
    /// The id.
    pub id: DeliveryId,
    /// Where the row stands.
    pub state: DeliveryState,
    /// Why, if it is dead.
    pub reason: Option<DeadReason>,
    /// Why it was born dead, in words.
    pub detail: Option<String>,
    /// The key was there before.
    pub known: bool,
    /// The key was there before with another text, room, sender or widget: nothing was changed.
    pub refused: bool,
}

/// A delivery as the ledger tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryRecord {
    /// The id.
    pub id: DeliveryId,
    /// The key.
    pub key: String,
    /// The widget.
    pub widget: WidgetName,
    /// The room.
    pub room: RoomId,
    /// Who speaks.
    pub sender: SiteUserId,
    /// The bot that wanted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bot: Option<BotName>,
    /// The event it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// The occurrence it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub occurrence: Option<String>,
    /// What happens when the outcome is unknown.
    pub policy: Policy,
    /// The text, where the store keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The hash of the text, where the store does not keep it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_sha256: Option<String>,
    /// Where it stands.
    pub state: DeliveryState,
    /// Why: for `dead` one of the reasons, for `unknown` what made it so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why it was born dead, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// More than one request for it may have been applied.
    pub possible_duplicate: bool,
    /// When it was recorded.
    pub created_at: Timestamp,
    /// Its place in its lane, together with the order of recording.
    pub not_before: Timestamp,
    /// When it is worth nothing any more.
    pub expires_at: Timestamp,
    /// The message it became.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_message_id: Option<MessageId>,
    /// The server's second name for that message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_uuid: Option<String>,
    /// The server's time of that message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_time: Option<Timestamp>,
}

/// An attempt as the ledger tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// The delivery.
    pub delivery: DeliveryId,
    /// Which attempt, from 1.
    pub n: u32,
    /// Whose.
    pub incarnation: IncarnationId,
    /// When its claim was committed; the request left after it.
    pub started_at: Timestamp,
    /// When its outcome was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// What it meant; absent while it is on its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
    /// What was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The HTTP status, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
    /// The server's words or ours, for one line; absent where the store keeps no texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What it had to wait for last, if it waited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_by: Option<Hold>,
    /// Since when it could have left otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_since: Option<Timestamp>,
}

/// What may be claimed of one widget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WidgetClaim {
    /// The widget.
    pub widget: WidgetName,
    /// How many more requests may be in flight.
    pub slots: usize,
    /// The space between two requests of the widget.
    pub interval: Duration,
    /// The space between two requests to one room.
    pub room_interval: Duration,
}

/// A round of claiming.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRequest {
    /// Now.
    pub now: Timestamp,
    /// Who claims.
    pub incarnation: IncarnationId,
    /// What may be claimed. A widget that is not named is left alone.
    pub widgets: Vec<WidgetClaim>,
    /// Only this delivery.
    pub only: Option<DeliveryId>,
}

/// What was claimed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claimed {
    /// To be sent now, each exactly once.
    pub deliveries: Vec<ClaimedDelivery>,
    /// When claiming again makes sense, if nothing else happens.
    pub next_due: Option<Timestamp>,
    /// How many were found to be expired.
    pub expired: u64,
}

/// A delivery that is to be sent now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedDelivery {
    /// The id.
    pub id: DeliveryId,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// The widget.
    pub widget: WidgetName,
    /// The room.
    pub room: RoomId,
    /// Who speaks.
    pub sender: SiteUserId,
    /// The bot that wanted it.
    pub bot: Option<BotName>,
    /// The occurrence it belongs to.
    pub occurrence: Option<String>,
    /// The policy.
    pub policy: Policy,
    /// The text.
    pub text: String,
    /// When it was recorded.
    pub created_at: Timestamp,
    /// The instant from which it could have been sent.
    pub not_before: Timestamp,
    /// When its content is worth nothing any more.
    pub expires_at: Timestamp,
    /// Attempts before this one from which no byte arrived, in a row.
    pub misses: u32,
    /// Ambiguous attempts before this one.
    pub ambiguous: u32,
    /// When the claim was committed.
    pub started_at: Timestamp,
}

/// What follows an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Done.
    Delivered {
        /// The message.
        message: MessageId,
        /// Its second name.
        uuid: Option<String>,
        /// The server's time.
        time: Option<Timestamp>,
    },
    /// It provably was not applied: again, not before this instant.
    Retry {
        /// The instant.
        at: Timestamp,
    },
    /// The end.
    Dead(DeadReason),
    /// Nobody knows.
    Unknown,
}

/// The outcome of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// The delivery.
    pub delivery: DeliveryId,
    /// The attempt.
    pub attempt: u32,
    /// What it meant.
    pub class: Class,
    /// What was seen: one of a closed list of codes.
    pub code: String,
    /// The HTTP status.
    pub http_status: Option<u16>,
    /// The server's words or ours, made safe for one line.
    pub detail: String,
    /// What follows.
    pub next: Next,
}

/// What was recorded of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The delivery.
    pub delivery: DeliveryId,
    /// What the attempt meant, all things considered.
    pub class: Class,
    /// Where the delivery stands.
    pub state: DeliveryState,
    /// The answer named a message that another delivery became: it was not for this request.
    pub foreign_answer: bool,
}

/// Recording, claiming and settling deliveries.
#[async_trait]
pub trait Outbox {
    /// Records deliveries. A key that is there already sends nothing.
    async fn enqueue(&self, now: Timestamp, deliveries: Vec<NewDelivery>) -> Result<Vec<Enqueued>>;

    /// Claims what may be sent now: the head of each lane, as the rates allow. When this returns,
    /// the claims are durable, and only then may a request leave.
    ///
    /// A clock that was ahead holds up nothing once it is right. What was due when it was recorded
    /// (`not_before` no later than `created_at`) is due by every clock, and so is the lane that it is the
    /// head of; its place in the lane stays. A retry keeps what was left of its wait. What has a later
    /// time of its own waits for that.
    async fn claim(&self, request: ClaimRequest) -> Result<Claimed>;

    /// Records the outcome of attempts. What is known of an attempt stays known; an ambiguous one
    /// may become known by its own late answer. A class and a next step that contradict each other
    /// prove nothing: then the outcome is unknown.
    async fn settle(
        &self,
        now: Timestamp,
        settle: crate::lifecycle::Settle,
        outcomes: Vec<Settled>,
    ) -> Result<Vec<Recorded>>;

    /// No request to this widget before this instant (`Retry-After`).
    async fn hold_widget(&self, widget: &WidgetName, until: Timestamp) -> Result<()>;

    /// Moves what time alone moves: queued → expired, unknown → queued (`at_least_once`),
    /// unknown → unresolved. At most `limit` rows; the number moved and the next instant. What became
    /// unknown later than now did so under a clock that was ahead: its waits begin now.
    async fn sweep(
        &self,
        now: Timestamp,
        settle: crate::lifecycle::Settle,
        limit: usize,
    ) -> Result<(u64, Option<Timestamp>)>;

    /// What is being sent will never be heard of again: it becomes unknown. How many that were.
    async fn give_up_sending(
        &self,
        now: Timestamp,
        settle: crate::lifecycle::Settle,
    ) -> Result<u64>;

    /// A delivery.
    async fn delivery(&self, id: DeliveryId) -> Result<Option<DeliveryRecord>>;

    /// Whether older rows wait in the lane of a delivery.
    async fn waits_behind_others(&self, id: DeliveryId) -> Result<bool>;
}
