//! What one attempt to post meant. Nobody else in the program looks at a status code of
//! `send_msg`: one pure function, [`classify`], maps what was seen to a [`SendOutcome`], and a send
//! is repeated only where that says that nothing was applied. This module sends nothing and
//! remembers nothing.

mod classify;
mod echo;
mod retry_after;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::Receipt;
use crate::transport::TransportError;

pub use classify::classify;
pub(crate) use retry_after::{retry_after, server_time};

/// What is known about the message after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// It was posted: the server said so, with a number.
    Delivered,
    /// No byte of the request left: it may be tried again.
    NotSent,
    /// The server read it and did not post it.
    Rejected,
    /// It may have been posted or not; nothing can tell.
    Ambiguous,
}

impl Class {
    /// `delivered`, `not_sent`, `rejected`, `ambiguous`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::NotSent => "not_sent",
            Self::Rejected => "rejected",
            Self::Ambiguous => "ambiguous",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

macro_rules! outcome_codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Why an attempt is classed as it is: a closed list of stable words.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum OutcomeCode { $($(#[$doc])* $name,)* }

        impl OutcomeCode {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The word, in snake case.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

outcome_codes! {
    /// Posted and echoed as sent.
    Accepted = "accepted",
    /// Posted, but the echo differs from the text by more than escaping and trimming.
    EchoDiffers = "echo_differs",
    /// Posted; the JSON stood between other text.
    Salvaged = "salvaged",
    /// The host name does not resolve.
    Dns = "dns",
    /// The port is closed.
    ConnectRefused = "connect_refused",
    /// No way to the host.
    Unreachable = "unreachable",
    /// No connection in time.
    ConnectTimeout = "connect_timeout",
    /// The certificate or the handshake.
    Tls = "tls",
    /// No connection, for another reason.
    ConnectFailed = "connect_failed",
    /// The connection was closed before anything was written.
    ClosedBeforeWrite = "closed_before_write",
    /// The request could not be made.
    Unsendable = "unsendable",
    /// The claim was too old by the time the request could have left: it did not leave.
    ClaimTooOld = "claim_too_old",
    /// No answer in time.
    NoAnswer = "no_answer",
    /// Reset, closed, or nonsense instead of an answer.
    ConnectionLost = "connection_lost",
    /// The body of the answer ended early.
    ReplyCut = "reply_cut",
    /// The body of the answer is larger than allowed.
    ReplyTooLarge = "reply_too_large",
    /// The body of the answer is compressed, which was not asked for.
    ReplyEncoding = "reply_encoding",
    /// A 2xx without a body.
    ReplyEmpty = "reply_empty",
    /// A 2xx with HTML, bare text or broken JSON.
    ReplyNotJson = "reply_not_json",
    /// A 2xx with JSON that neither confirms nor refuses.
    ReplyUnclear = "reply_unclear",
    /// Success without the number of a message.
    NoMessageId = "no_message_id",
    /// Success that names no room.
    NoEchoRoom = "no_echo_room",
    /// Success in another room.
    BadEchoRoom = "bad_echo_room",
    /// An error that confirms the message at the same time.
    Contradictory = "contradictory",
    /// 408.
    Http408 = "http_408",
    /// 5xx.
    Http5xx = "http_5xx",
    /// A redirect after which PHP has usually acted (302, 303), or another odd 3xx.
    Http3xx = "http_3xx",
    /// A status that is none.
    HttpOdd = "http_odd",
    /// A status of `not_applied_statuses`.
    NotApplied = "not_applied",
    /// 400, 404, 422 and other 4xx.
    Http4xx = "http_4xx",
    /// 401.
    Http401 = "http_401",
    /// 403.
    Http403 = "http_403",
    /// 425 or 429.
    Http429 = "http_429",
    /// A redirect that a POST may not follow (301, 307, 308).
    Redirect = "redirect",
    /// A 2xx whose body has a code 408.
    Body408 = "body_408",
    /// A 2xx whose body has a code 5xx.
    Body5xx = "body_5xx",
    /// A 2xx whose body has a code 4xx.
    Body4xx = "body_4xx",
    /// A 2xx whose body has the code 401.
    Body401 = "body_401",
    /// A 2xx whose body has the code 403.
    Body403 = "body_403",
    /// A 2xx whose body has the code 425 or 429.
    Body429 = "body_429",
    /// A 2xx whose body says that there was no success.
    SuccessFalse = "success_false",
    /// A 2xx whose body holds an error and no success.
    BodyError = "body_error",
}

impl fmt::Display for OutcomeCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for OutcomeCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// What the deliverer is to do next, beside what the class says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Advice {
    /// Nothing special.
    None,
    /// This message will never be taken: do not try it again.
    Permanent,
    /// Leave the whole widget alone for this long (within 1 s and 1 h), or for a default of the
    /// caller's where the server named no time.
    RetryAfter(Option<Duration>),
    /// Ask a list with the same credentials: if they are refused there too, nothing else will work.
    CheckCredentials,
    /// The base URL is wrong: the server points to this origin (empty if it did not say).
    Redirect {
        /// Scheme, host and port; no path, no query.
        origin: String,
    },
    /// Nothing left; try again after a while.
    Backoff,
}

/// The truth about one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SendOutcome {
    /// What is known about the message.
    pub class: Class,
    /// Why.
    pub code: OutcomeCode,
    /// The HTTP status, if an answer began.
    pub http_status: Option<u16>,
    /// The server's words or the reason, escaped for one line, at most 200 characters.
    pub detail: String,
    /// What the server confirmed; only with [`Class::Delivered`].
    pub receipt: Option<Receipt>,
    /// What to do next.
    pub advice: Advice,
    /// The answer was odd: the connection carries no further request.
    pub drop_connection: bool,
}

/// What was seen of one attempt.
#[derive(Debug, Clone, Copy)]
pub enum Seen<'a> {
    /// No answer began.
    Failed(&'a TransportError),
    /// Nothing was begun: what had been claimed was claimed too long ago, and may be another's by now.
    TooLate,
    /// An answer began.
    Answer {
        /// The HTTP status.
        status: u16,
        /// The headers, names in lower case.
        headers: &'a [(String, String)],
        /// The whole body, or why it is not there.
        body: Result<&'a [u8], &'a TransportError>,
    },
}

/// What of the table is the operator's choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassifyRules {
    /// Statuses, also as `code` of a body, that mean for certain that nothing was posted, although
    /// the table would call them ambiguous. 425 and 429 always mean it.
    pub not_applied_statuses: Vec<u16>,
}

impl Default for ClassifyRules {
    fn default() -> Self {
        Self { not_applied_statuses: vec![429] }
    }
}
