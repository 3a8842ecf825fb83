//! The classification table: from what was seen of an attempt to what it meant. Pure. The rule
//! behind every row: a message is called rejected only if the server said that it did not take it,
//! and delivered only if the server named it; all else is ambiguous.

use super::{Advice, Class, ClassifyRules, OutcomeCode, Seen, SendOutcome, echo, retry_after};
use crate::api::SendMsg;
use crate::base_url::origin_of;
use crate::model::{Message, Receipt};
use crate::text::escape_foreign;
use crate::transport::{NetCode, TransportError, TransportErrorKind, header};
use crate::wire::{Reply, words_of};

/// What the attempt to send `request` meant, from what was seen of it.
#[must_use]
pub fn classify(request: &SendMsg, seen: Seen<'_>, rules: &ClassifyRules) -> SendOutcome {
    match seen {
        Seen::Failed(error) => failed(error),
        Seen::TooLate => too_late(),
        Seen::Answer { status, headers, body } => {
            let mut outcome = answered(request, status, headers, body, rules);
            outcome.http_status = Some(status);
            outcome
        }
    }
}

fn failed(error: &TransportError) -> SendOutcome {
    let detail = error.to_string();
    if error.kind() != TransportErrorKind::NotSent {
        return ambiguous(transport_code(error), &detail);
    }
    let code = match error.net_code() {
        NetCode::Dns => OutcomeCode::Dns,
        NetCode::Refused => OutcomeCode::ConnectRefused,
        NetCode::Unreachable => OutcomeCode::Unreachable,
        NetCode::ConnectTimeout => OutcomeCode::ConnectTimeout,
        NetCode::Tls => OutcomeCode::Tls,
        NetCode::ClosedBeforeWrite => OutcomeCode::ClosedBeforeWrite,
        NetCode::Unsendable => OutcomeCode::Unsendable,
        _ => OutcomeCode::ConnectFailed,
    };
    outcome(Class::NotSent, code, &detail, Advice::Backoff)
}

/// It says nothing about the server, and nothing is gained by waiting.
fn too_late() -> SendOutcome {
    let detail = "this process stood still for longer than its lease";
    outcome(Class::NotSent, OutcomeCode::ClaimTooOld, detail, Advice::None)
}

fn answered(
    request: &SendMsg,
    status: u16,
    headers: &[(String, String)],
    body: Result<&[u8], &TransportError>,
    rules: &ClassifyRules,
) -> SendOutcome {
    let reply = body.ok().and_then(Reply::parse);
    let words = || match body {
        Ok(body) => words_of(body),
        Err(error) => error.to_string(),
    };
    let refused = match status {
        200..=299 => return accepted(request, headers, body, reply, rules),
        301 | 307 | 308 => {
            let origin = header(headers, "location").and_then(origin_of).unwrap_or_default();
            let advice = Advice::Redirect { origin };
            outcome(Class::Rejected, OutcomeCode::Redirect, &words(), advice)
        }
        _ => match Verdict::of(i64::from(status), rules) {
            Some(verdict) => verdict.outcome(Where::Status, headers, &words()),
            None if (300..=399).contains(&status) => ambiguous(OutcomeCode::Http3xx, &words()),
            None => ambiguous(OutcomeCode::HttpOdd, &words()),
        },
    };
    unless_confirmed(refused, request, reply.as_ref())
}

/// A 2xx: the body decides.
fn accepted(
    request: &SendMsg,
    headers: &[(String, String)],
    body: Result<&[u8], &TransportError>,
    reply: Option<Reply>,
    rules: &ClassifyRules,
) -> SendOutcome {
    let body = match body {
        Ok(body) => body,
        Err(error) => return ambiguous(transport_code(error), &error.to_string()),
    };
    let Some(reply) = reply else {
        let empty = body.trim_ascii().is_empty();
        let code = if empty { OutcomeCode::ReplyEmpty } else { OutcomeCode::ReplyNotJson };
        return ambiguous(code, &words_of(body));
    };
    let words = || reply.error.clone().unwrap_or_default();
    let verdict = reply.code.and_then(|code| Verdict::of(code, rules));
    if let Some(verdict) = verdict {
        let refused = verdict.outcome(Where::Body, headers, &words());
        return unless_confirmed(refused, request, Some(&reply));
    }
    match reply.success {
        Some(true) => confirmed(request, reply),
        Some(false) => {
            let refused =
                outcome(Class::Rejected, OutcomeCode::SuccessFalse, &words(), Advice::Permanent);
            unless_confirmed(refused, request, Some(&reply))
        }
        None if reply.is_error => {
            let refused =
                outcome(Class::Rejected, OutcomeCode::BodyError, &words(), Advice::Permanent);
            unless_confirmed(refused, request, Some(&reply))
        }
        None => ambiguous(OutcomeCode::ReplyUnclear, &words_of(body)),
    }
}

/// A success: does it name our message?
fn confirmed(request: &SendMsg, reply: Reply) -> SendOutcome {
    let Some(message) = reply.message else {
        return ambiguous(OutcomeCode::NoMessageId, &reply.error.unwrap_or_default());
    };
    match message.room_id {
        None => return ambiguous(OutcomeCode::NoEchoRoom, &format!("message {}", message.id)),
        Some(room) if room != request.room_id => {
            let detail = format!("message {} in room {room}", message.id);
            return ambiguous(OutcomeCode::BadEchoRoom, &detail);
        }
        Some(_) => {}
    }
    let echo_differs = !message.text.as_ref().is_some_and(|e| echo::same_text(&request.message, e));
    let code = match (echo_differs, reply.salvaged) {
        (true, _) => OutcomeCode::EchoDiffers,
        (false, true) => OutcomeCode::Salvaged,
        (false, false) => OutcomeCode::Accepted,
    };
    let mut receipt = Receipt::new(message);
    receipt.echo_differs = echo_differs;
    receipt.salvaged = reply.salvaged;
    let mut delivered = outcome(Class::Delivered, code, "", Advice::None);
    delivered.drop_connection = code != OutcomeCode::Accepted;
    delivered.receipt = Some(receipt);
    delivered
}

/// A refusal that names our message as posted refuses nothing: who knows which half is true.
fn unless_confirmed(refused: SendOutcome, request: &SendMsg, reply: Option<&Reply>) -> SendOutcome {
    let is_ours = |message: &Message| message.room_id == Some(request.room_id);
    match reply {
        Some(reply)
            if refused.class == Class::Rejected
                && reply.success == Some(true)
                && reply.message.as_ref().is_some_and(is_ours) =>
        {
            ambiguous(OutcomeCode::Contradictory, &refused.detail)
        }
        _ => refused,
    }
}

/// What a status means, be it the reply's own or the `code` inside it.
#[derive(Clone, Copy)]
enum Verdict {
    Unauthorized,
    Forbidden,
    TooMany,
    NotApplied,
    TimedOut,
    ServerError,
    Refused,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    Status,
    Body,
}

impl Verdict {
    fn of(status: i64, rules: &ClassifyRules) -> Option<Self> {
        let listed = |status| rules.not_applied_statuses.iter().any(|s| i64::from(*s) == status);
        match status {
            401 => Some(Self::Unauthorized),
            403 => Some(Self::Forbidden),
            425 | 429 => Some(Self::TooMany),
            408 | 500..=599 if listed(status) => Some(Self::NotApplied),
            408 => Some(Self::TimedOut),
            500..=599 => Some(Self::ServerError),
            400..=499 => Some(Self::Refused),
            300..=399 if listed(status) => Some(Self::NotApplied),
            _ => None,
        }
    }

    fn outcome(self, at: Where, headers: &[(String, String)], words: &str) -> SendOutcome {
        use OutcomeCode as Code;
        let pick = |status, body| if at == Where::Status { status } else { body };
        let later = || Advice::RetryAfter(retry_after(headers));
        let rejected = |code, advice| outcome(Class::Rejected, code, words, advice);
        match self {
            Self::Unauthorized => {
                rejected(pick(Code::Http401, Code::Body401), Advice::CheckCredentials)
            }
            Self::Forbidden => {
                rejected(pick(Code::Http403, Code::Body403), Advice::CheckCredentials)
            }
            Self::TooMany => rejected(pick(Code::Http429, Code::Body429), later()),
            Self::NotApplied => rejected(Code::NotApplied, later()),
            Self::Refused => rejected(pick(Code::Http4xx, Code::Body4xx), Advice::Permanent),
            Self::TimedOut => ambiguous(pick(Code::Http408, Code::Body408), words),
            Self::ServerError => ambiguous(pick(Code::Http5xx, Code::Body5xx), words),
        }
    }
}

fn transport_code(error: &TransportError) -> OutcomeCode {
    match error.kind() {
        TransportErrorKind::Timeout => OutcomeCode::NoAnswer,
        TransportErrorKind::BodyCut => OutcomeCode::ReplyCut,
        TransportErrorKind::BodyTooLarge => OutcomeCode::ReplyTooLarge,
        TransportErrorKind::Encoding => OutcomeCode::ReplyEncoding,
        // An answer had begun, so "not sent" would be a mistake of the transport's.
        TransportErrorKind::Interrupted | TransportErrorKind::NotSent => {
            OutcomeCode::ConnectionLost
        }
    }
}

fn ambiguous(code: OutcomeCode, detail: &str) -> SendOutcome {
    let mut unknown = outcome(Class::Ambiguous, code, detail, Advice::None);
    unknown.drop_connection = true;
    unknown
}

fn outcome(class: Class, code: OutcomeCode, detail: &str, advice: Advice) -> SendOutcome {
    SendOutcome {
        class,
        code,
        http_status: None,
        detail: escape_foreign(detail.trim(), 200),
        receipt: None,
        advice,
        drop_connection: false,
    }
}

#[cfg(test)]
#[path = "classify_tests.rs"]
mod tests;
