//! The closed list of reasons. Each word stands in docs/errors.md, and a delivery or an occurrence
//! that has come to its end has exactly one of them as its last.

use imbabot_core::OutcomeCode;
use imbabot_store::{DeadReason, Hold, Stop};
use serde::Serialize;

/// A word out of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub(crate) struct Reason(&'static str);

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)+) => {
        impl Reason {
            $($(#[$doc])* pub(crate) const $name: Self = Self($word);)+

            /// Those that stand nowhere else in the ledger.
            #[cfg(test)]
            const OWN: &'static [Self] = &[$(Self::$name),+];
        }
    };
}

reasons! {
    /// An instant of a schedule came.
    DUE = "due",
    /// It fired.
    FIRED = "fired",
    /// The messages that it became.
    REACHED = "reached",
    /// Its instant is still to come.
    NOT_DUE = "not_due",
    /// It waits for something, which the text names.
    WAITING = "waiting",
    /// The schedule has no such instant.
    NO_INSTANT = "no_instant",
    /// The schedule was not there yet, or the records are older than the retention.
    NO_RECORD = "no_record",
    /// The schedule is switched off.
    DISABLED = "disabled",
    /// The schedule is paused, or was.
    PAUSED = "paused",
    /// No room was chosen, or all that were are gone.
    NO_ROOMS = "no_rooms",
    /// The clock was set back over instants that are dealt with.
    CLOCK_SUSPECT = "clock_suspect",
    /// No daemon runs.
    NOT_RUNNING = "not_running",
    /// A bot was told something.
    TOLD = "told",
    /// The message was written down.
    RECORDED = "recorded",
    /// Waited for an earlier message of its lane.
    HELD_LANE = "held_lane",
    /// Waited for the distance between two requests to one room.
    HELD_ROOM_RATE = "held_room_rate",
    /// Waited for the distance between two requests of one widget.
    HELD_WIDGET_RATE = "held_widget_rate",
    /// The server had asked for silence.
    HELD_RETRY_AFTER = "held_retry_after",
    /// An operator had paused it.
    HELD_PAUSED = "held_paused",
    /// The outage breaker was open.
    HELD_OUTAGE = "held_outage",
    /// The credentials breaker was open.
    HELD_CREDENTIALS = "held_credentials",
    /// The redirect breaker was open.
    HELD_REDIRECT = "held_redirect",
    /// No daemon ran.
    HELD_DOWNTIME = "held_downtime",
    /// As many requests were on their way as may be, or its turn had not come.
    HELD_CONCURRENCY = "held_concurrency",
    /// A request left.
    ATTEMPT = "attempt",
    /// The process died while the request was on its way.
    PROCESS_DIED = "process_died",
    /// The answer named a message that another delivery became.
    FOREIGN_ANSWER = "foreign_answer",
    /// It was provably not applied, and is queued again.
    RETRY = "retry",
    /// Nobody knows whether it was posted.
    UNKNOWN = "unknown",
    /// Sent once more although nobody knew (`at_least_once`).
    RESEND = "resend",
    /// An operator took it back.
    OPERATOR_CANCEL = "operator_cancel",
    /// It was queued in a copy of the store that was taken into use.
    REANCHORED = "reanchored",
    /// An operator queued it again.
    OPERATOR_RETRY = "operator_retry",
    /// An operator said what became of it.
    OPERATOR_RESOLVE = "operator_resolve",
    /// The end: posted, and confirmed by the server.
    DELIVERED = "delivered",
    /// The end: posted, as a person has seen.
    OPERATOR = "operator",
}

/// What became of an occurrence that did not fire, and of runs.
const OCCURRENCE: [&str; 11] = [
    "misfire",
    "expired",
    "overlap",
    "no_rooms",
    "no_snapshot",
    "edited",
    "paused",
    "except",
    "removed",
    "restored",
    "retention",
];

impl Reason {
    /// All of them.
    #[cfg(test)]
    pub(crate) fn all() -> Vec<Self> {
        let mut all = Self::OWN.to_vec();
        all.extend(OutcomeCode::ALL.iter().map(|code| Self(code.as_str())));
        all.extend(DeadReason::ALL.iter().map(|reason| Self(reason.as_str())));
        all.extend(OCCURRENCE.map(Self));
        all.sort_unstable();
        all.dedup();
        all
    }

    pub(crate) fn as_str(self) -> &'static str {
        self.0
    }

    /// The code of an attempt, as the ledger has it.
    pub(super) fn of_attempt(code: &str) -> Option<Self> {
        let own = [Self::PROCESS_DIED, Self::FOREIGN_ANSWER];
        own.into_iter()
            .find(|reason| reason.0 == code)
            .or_else(|| outcome(code).map(|code| Self(code.as_str())))
    }

    /// The reason of an occurrence or a run, as the ledger has it.
    pub(super) fn of_occurrence(word: &str) -> Option<Self> {
        OCCURRENCE.iter().find(|known| **known == word).map(|known| Self(known))
    }
}

impl From<DeadReason> for Reason {
    fn from(reason: DeadReason) -> Self {
        Self(reason.as_str())
    }
}

impl From<Hold> for Reason {
    fn from(hold: Hold) -> Self {
        match hold {
            Hold::Lane => Self::HELD_LANE,
            Hold::RoomRate => Self::HELD_ROOM_RATE,
            Hold::WidgetRate => Self::HELD_WIDGET_RATE,
            Hold::RetryAfter => Self::HELD_RETRY_AFTER,
            Hold::Paused => Self::HELD_PAUSED,
            Hold::Outage => Self::HELD_OUTAGE,
            Hold::Credentials => Self::HELD_CREDENTIALS,
            Hold::Redirect => Self::HELD_REDIRECT,
            Hold::Downtime => Self::HELD_DOWNTIME,
            Hold::Concurrency => Self::HELD_CONCURRENCY,
        }
    }
}

impl From<Stop> for Reason {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Paused => Self::HELD_PAUSED,
            Stop::Outage => Self::HELD_OUTAGE,
            Stop::Credentials => Self::HELD_CREDENTIALS,
            Stop::Redirect => Self::HELD_REDIRECT,
        }
    }
}

fn outcome(code: &str) -> Option<OutcomeCode> {
    OutcomeCode::ALL.iter().copied().find(|known| known.as_str() == code)
}

/// What was seen, in words.
pub(super) fn seen(code: &str) -> &'static str {
    use OutcomeCode::{
        Accepted, BadEchoRoom, Body4xx, Body5xx, Body401, Body403, Body408, Body429, BodyError,
        ClaimTooOld, ClosedBeforeWrite, ConnectFailed, ConnectRefused, ConnectTimeout,
        ConnectionLost, Contradictory, Dns, EchoDiffers, Http3xx, Http4xx, Http5xx, Http401,
        Http403, Http408, Http429, HttpOdd, NoAnswer, NoEchoRoom, NoMessageId, NotApplied,
        Redirect, ReplyCut, ReplyEmpty, ReplyEncoding, ReplyNotJson, ReplyTooLarge, ReplyUnclear,
        Salvaged, SuccessFalse, Tls, Unreachable, Unsendable,
    };
    let Some(code) = outcome(code) else {
        return match code {
            "process_died" => "the process ended before there was an answer",
            "foreign_answer" => "the answer named a message that another delivery became",
            _ => "something that this version has no words for",
        };
    };
    match code {
        Accepted => "the server named the message",
        EchoDiffers => "the server named the message and echoed another text",
        Salvaged => "the server named the message between other text",
        Dns => "the name of the host does not resolve",
        ConnectRefused => "the port is closed",
        Unreachable => "there is no way to the host",
        ConnectTimeout => "there was no connection in time",
        Tls => "the certificate or the handshake failed",
        ConnectFailed => "there was no connection",
        ClosedBeforeWrite => "the connection was closed before anything was written",
        Unsendable => "the request could not be made",
        ClaimTooOld => "the daemon stood still for too long before the request could leave",
        NoAnswer => "there was no answer in time",
        ConnectionLost => "the connection ended instead of an answer",
        ReplyCut => "the answer ended early",
        ReplyTooLarge => "the answer was larger than allowed",
        ReplyEncoding => "the answer was compressed, which was not asked for",
        ReplyEmpty => "the answer was empty",
        ReplyNotJson => "the answer was no JSON",
        ReplyUnclear => "the answer neither confirmed nor refused",
        NoMessageId => "the answer named no message",
        NoEchoRoom => "the answer named no room",
        BadEchoRoom => "the answer named another room",
        Contradictory => "the answer was an error that confirmed the message",
        Http408 | Body408 => "the server said that it waited too long (408)",
        Http5xx | Body5xx => "the server failed (5xx)",
        Http3xx => "the server answered with a redirect after which it has usually acted",
        HttpOdd => "the answer had a status that is none",
        NotApplied => "the server answered with one of `not_applied_statuses`",
        Http4xx | Body4xx => "the server refused it (4xx)",
        Http401 | Body401 => "the server refused it (401)",
        Http403 | Body403 => "the server refused it (403)",
        Http429 | Body429 => "the server asked for silence (429)",
        Redirect => "the server answered with a redirect, which is not followed",
        SuccessFalse => "the server said that there was no success",
        BodyError => "the server answered with an error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_stands_in_the_page_of_errors() {
        let page = include_str!("../../../../docs/errors.md");
        let missing: Vec<&str> = Reason::all()
            .into_iter()
            .map(Reason::as_str)
            .filter(|word| {
                !page.contains(&format!("| `{word}` |")) && !page.contains(&format!(" `{word}` |"))
            })
            .collect();
        assert!(missing.is_empty(), "not in docs/errors.md: {missing:?}");
    }

    #[test]
    fn every_code_of_an_attempt_is_a_reason_and_has_words() {
        for code in OutcomeCode::ALL {
            assert_eq!(Reason::of_attempt(code.as_str()).map(Reason::as_str), Some(code.as_str()));
            assert!(!seen(code.as_str()).contains("no words for"));
        }
        assert_eq!(Reason::of_attempt("nonsense"), None);
    }
}
