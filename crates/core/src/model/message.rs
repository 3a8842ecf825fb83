//! A message as `send_msg` answers with it.

use serde::{Deserialize, Serialize};

use crate::id::{MessageId, RoomId, UserId};
use crate::time::Timestamp;

/// The message that ImbaChat says it stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Message {
    /// Its number; ascending over all rooms, as far as was seen.
    pub id: MessageId,
    /// `<room>-<unix time>-<six characters>`.
    pub uuid: Option<String>,
    /// The text as ImbaChat keeps it: it may be trimmed or HTML-escaped.
    pub text: Option<String>,
    /// The server's own clock, whole seconds.
    pub time: Option<Timestamp>,
    /// The sender in ImbaChat's numbering.
    pub user_id: Option<UserId>,
    /// The room it landed in.
    pub room_id: Option<RoomId>,
}

/// What a confirmed send left behind, and what was odd about the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// The message as stored.
    pub message: Message,
    /// The echo differed from the text by more than escaping and trimming.
    pub echo_differs: bool,
    /// The JSON had to be picked out of other text (a PHP warning, a byte order mark).
    pub salvaged: bool,
}

impl Receipt {
    /// A receipt for this message, with nothing odd about it.
    #[must_use]
    pub fn new(message: Message) -> Self {
        Self { message, echo_differs: false, salvaged: false }
    }
}

impl Message {
    /// A message with this number and nothing else known.
    #[must_use]
    pub fn new(id: MessageId) -> Self {
        Self { id, uuid: None, text: None, time: None, user_id: None, room_id: None }
    }
}
