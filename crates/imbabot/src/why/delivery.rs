//! The chain of decisions about one delivery.

use std::collections::BTreeSet;

use imbabot_bot::Policy;
use imbabot_core::Timestamp;
use imbabot_store::{
    AttemptRecord, Class, DeadReason, DeliveryRecord, DeliveryState, DeliveryStory, Hold, Line,
    OperatorRecord, Stop, Told,
};

use super::reason::{Reason, seen};
use super::{Decision, away, length};

/// A shorter wait is nobody's question.
const SHORTEST: std::time::Duration = std::time::Duration::from_millis(100);

/// What led to the state in which a delivery is. `running`: a daemon runs on the store.
pub(crate) fn delivery(story: &DeliveryStory, now: Timestamp, running: bool) -> Vec<Decision> {
    let mut chain = Chain { story, found: Vec::new(), state: None, ready: story.record.created_at };
    chain.cause();
    let mut lines = story.lines.iter().peekable();
    while let Some(told) = lines.next() {
        // The act comes before what it led to, although it is written down after it.
        let acted = lines.next_if(|next| matches!(next.line.line, Line::Operator(_)));
        if let Some(Told { at, line }) = acted
            && let Line::Operator(act) = &line.line
        {
            chain.act(*at, act, line.seq);
        }
        let seq = told.line.seq;
        match &told.line.line {
            Line::Delivery(record) => chain.moved(told.at, record, seq, acted.is_some()),
            Line::Attempt(attempt) => chain.attempt(told.at, attempt, seq),
            _ => {}
        }
    }
    chain.present(now, running);
    chain.found
}

/// What a delivery waits for now, if it waits: what stops it, or else the end of the chain.
pub(crate) fn present(story: &DeliveryStory, now: Timestamp, running: bool) -> Option<Decision> {
    let record = &story.record;
    if matches!(record.state, DeliveryState::Delivered | DeliveryState::Dead) {
        return None;
    }
    let lasting = story.stoppages.iter().find(|stoppage| stoppage.until.is_none());
    match lasting.filter(|_| running && record.state == DeliveryState::Queued) {
        Some(stoppage) => {
            let (what, until) = (stop(stoppage.reason), second(record.expires_at));
            let since = second(stoppage.since);
            let text = format!("held since {since}: {what}; worth nothing after {until}");
            Some(Decision::new(stoppage.since, stoppage.reason, text))
        }
        None => delivery(story, now, running).pop(),
    }
}

struct Chain<'a> {
    story: &'a DeliveryStory,
    found: Vec<Decision>,
    state: Option<DeliveryState>,
    /// Since when it could have been claimed.
    ready: Timestamp,
}

impl Chain<'_> {
    fn push(&mut self, decision: Decision) {
        self.found.push(decision);
    }

    fn cause(&mut self) {
        for told in &self.story.cause {
            let seq = told.line.seq;
            match &told.line.line {
                Line::Occurrence(occurrence) => {
                    let (at, schedule) = (occurrence.nominal_at, &occurrence.schedule);
                    self.push(
                        Decision::new(at, Reason::DUE, format!("{schedule} was due")).by(seq),
                    );
                    let late = length(occurrence.recorded_at.since(at));
                    let text = format!("{schedule} fired, {late} after its instant");
                    self.push(Decision::new(occurrence.recorded_at, Reason::FIRED, text).by(seq));
                }
                Line::Event(event) => {
                    let room =
                        event.room.map(|room| format!(" of room {room}")).unwrap_or_default();
                    let text = format!(
                        "the bot {} was told of a {} event{room} ({})",
                        event.bot, event.event_kind, event.id
                    );
                    let at = event.at.unwrap_or(told.at);
                    self.push(Decision::new(at, Reason::TOLD, text).by(seq));
                }
                _ => {}
            }
        }
    }

    /// The state changed.
    fn moved(&mut self, at: Timestamp, record: &DeliveryRecord, seq: i64, by_a_person: bool) {
        let before = self.state.replace(record.state);
        let decision = match (before, record.state) {
            (None, DeliveryState::Queued) => {
                self.ready = record.not_before.max(record.created_at);
                Decision::new(at, Reason::RECORDED, recorded(record))
            }
            (_, DeliveryState::Sending) => return,
            (_, DeliveryState::Queued) => {
                self.ready = at;
                if by_a_person {
                    return;
                }
                if before == Some(DeliveryState::Unknown) {
                    let text = "nobody knows whether it is there, and at_least_once sends it again";
                    Decision::new(at, Reason::RESEND, text)
                } else {
                    let text = "it was not applied, so it is queued again";
                    Decision::new(at, Reason::RETRY, text)
                }
            }
            (_, DeliveryState::Unknown) => {
                let text = match record.policy {
                    Policy::AtLeastOnce => "nobody knows whether it was posted",
                    _ => {
                        "nobody knows whether it was posted: at_most_once never sends it again by itself"
                    }
                };
                Decision::new(at, Reason::UNKNOWN, text)
            }
            (_, DeliveryState::Delivered) if record.reason.is_some() => {
                Decision::new(at, Reason::OPERATOR, "delivered, as a person has seen")
            }
            (_, DeliveryState::Delivered) => {
                let id = record.server_message_id.map(|id| format!(" as message {}", id.0));
                let twice = if record.possible_duplicate { ", perhaps more than once" } else { "" };
                let text = format!("delivered{}{twice}", id.unwrap_or_default());
                Decision::new(at, Reason::DELIVERED, text)
            }
            (_, DeliveryState::Dead) => {
                if before == Some(DeliveryState::Queued) {
                    self.held(self.ready, at, None, None);
                }
                let reason = record.reason.as_deref().and_then(|word| word.parse().ok());
                let reason: DeadReason = reason.unwrap_or(DeadReason::Unresolved);
                Decision::new(at, reason, dead(reason, record))
            }
        };
        self.push(decision.by(seq));
    }

    fn attempt(&mut self, at: Timestamp, attempt: &AttemptRecord, seq: i64) {
        let n = attempt.n;
        let (Some(class), Some(code)) = (attempt.class, attempt.code.as_deref()) else {
            if let Some(since) = attempt.held_since {
                self.held(since, attempt.started_at, attempt.held_by, Some(seq));
            }
            let text = format!("attempt {n}: the request left (run {})", attempt.incarnation.0);
            self.push(Decision::new(attempt.started_at, Reason::ATTEMPT, text).by(seq));
            return;
        };
        let means = match class {
            Class::Delivered => "delivered",
            Class::NotSent => "not sent",
            Class::Rejected => "rejected",
            Class::Ambiguous => "ambiguous",
        };
        let took = length(at.since(attempt.started_at));
        let detail = attempt.detail.as_deref().map(|d| format!(" [{d}]")).unwrap_or_default();
        let reason = Reason::of_attempt(code).unwrap_or(Reason::UNKNOWN);
        // When a process died is not known, only when the next one noticed.
        let when = if reason == Reason::PROCESS_DIED { "noticed after" } else { "after" };
        let text = format!("attempt {n} is {means}, {when} {took}: {}{detail}", seen(code));
        self.push(Decision::new(at, reason, text).by(seq));
    }

    fn act(&mut self, at: Timestamp, act: &OperatorRecord, seq: i64) {
        let (reason, text) = match act.verb.as_str() {
            "deliveries cancel" => (Reason::OPERATOR_CANCEL, "an operator took it back".to_owned()),
            "store reanchor" => (
                Reason::REANCHORED,
                "the store was put back from a copy in which it was queued (`store reanchor`): it may \
                 have been sent after the copy was made, so it is not sent again"
                    .to_owned(),
            ),
            "deliveries retry" => {
                (Reason::OPERATOR_RETRY, format!("an operator queued it again ({})", act.before))
            }
            _ => (
                Reason::OPERATOR_RESOLVE,
                format!("an operator said what became of it: {}", act.after),
            ),
        };
        self.push(Decision::new(at, reason, text).by(seq));
    }

    /// What held it from `from` to `to`; `last` is what the attempt itself says.
    fn held(&mut self, from: Timestamp, to: Timestamp, last: Option<Hold>, seq: Option<i64>) {
        // By beginning, so that the chain reads in order.
        let mut stretches: BTreeSet<(Timestamp, Timestamp, Reason, String)> = BTreeSet::new();
        for stoppage in &self.story.stoppages {
            let (since, until) = (stoppage.since.max(from), stoppage.until.unwrap_or(to).min(to));
            if since < until {
                let detail = stoppage.detail.as_deref().map(|d| format!(" (to {d})"));
                let what = format!("{}{}", stop(stoppage.reason), detail.unwrap_or_default());
                stretches.insert((since, until, stoppage.reason.into(), what));
            }
        }
        for down in &self.story.downtimes {
            let (since, until) = (down.from.max(from), down.to.unwrap_or(to).min(to));
            if since < until {
                let what = away(down.killed);
                stretches.insert((since, until, Reason::HELD_DOWNTIME, what.to_owned()));
            }
        }
        let mut rest = from;
        for (since, until, reason, what) in stretches {
            rest = rest.max(until);
            let text = format!("held {}: {what}", length(until.since(since)));
            self.push(Decision::new(since, reason, text));
        }
        let Some(hold) = last else { return };
        let what = match hold {
            Hold::Lane => "an earlier message to the room came first",
            Hold::RoomRate => "the rate of the room",
            Hold::WidgetRate => "the rate of the widget",
            Hold::RetryAfter => "the server had asked for silence",
            Hold::Concurrency => "its turn had not come",
            // Told above, as stretches.
            Hold::Paused | Hold::Outage | Hold::Credentials | Hold::Redirect | Hold::Downtime => {
                return;
            }
        };
        if to.since(rest) >= SHORTEST {
            let text = format!("held {}: {what}", length(to.since(rest)));
            let decision = Decision::new(rest, hold, text);
            self.push(Decision { seq, ..decision });
        }
    }

    /// What it waits for now.
    fn present(&mut self, now: Timestamp, running: bool) {
        let story = self.story;
        match story.record.state {
            DeliveryState::Queued => {
                self.held(self.ready, now, None, None);
                if !running {
                    let text = "no daemon runs on this store: `imbabot run` sends it";
                    self.push(Decision::new(now, Reason::NOT_RUNNING, text));
                }
                let text = match (story.behind, story.due_at) {
                    (Some(first), _) => format!("waits for {first}, which comes first in its room"),
                    // What was due when it was recorded waits for no clock.
                    (None, Some(due)) if due > now && due > story.record.created_at => {
                        format!("may be sent from {} on", second(due))
                    }
                    _ => "may be sent as soon as nothing holds it".into(),
                };
                let until = second(story.record.expires_at);
                let reason =
                    if story.behind.is_some() { Reason::HELD_LANE } else { Reason::WAITING };
                let text = format!("{text}; worth nothing after {until}");
                self.push(Decision::new(now, reason, text));
            }
            DeliveryState::Sending => {
                let text = if running {
                    "its answer is awaited"
                } else {
                    "no daemon runs on this store: the next one will say that nobody knows"
                };
                let reason = if running { Reason::WAITING } else { Reason::NOT_RUNNING };
                self.push(Decision::new(now, reason, text));
            }
            DeliveryState::Unknown => {
                let text = match story.resend_at {
                    Some(at) => format!("will be sent again at {}", second(at)),
                    None => {
                        "waits for a person: look into the room, then `imbabot deliveries resolve`; \
                         after `unresolved_after` it is given up as unresolved"
                            .into()
                    }
                };
                self.push(Decision::new(now, Reason::WAITING, text));
            }
            DeliveryState::Delivered | DeliveryState::Dead => {}
        }
    }
}

/// To the second: what is still to come is not known better.
fn second(at: Timestamp) -> String {
    Timestamp::from_seconds(at.as_seconds()).compact()
}

fn recorded(record: &DeliveryRecord) -> String {
    let from = match (&record.occurrence, &record.bot) {
        (Some(occurrence), _) => format!("for {occurrence}"),
        (None, Some(bot)) => format!("for the bot {bot}"),
        (None, None) => "by `imbabot send`".into(),
    };
    let later = if record.not_before > record.created_at {
        format!(", not before {}", record.not_before.compact())
    } else {
        String::new()
    };
    let until = record.expires_at.compact();
    format!("written down {from}, {}{later}, worth nothing after {until}", policy(record.policy))
}

fn policy(policy: Policy) -> &'static str {
    match policy {
        Policy::AtLeastOnce => "at_least_once",
        _ => "at_most_once",
    }
}

fn stop(stop: Stop) -> &'static str {
    match stop {
        Stop::Paused => "an operator had paused it",
        Stop::Outage => "ImbaChat did not answer (outage breaker)",
        Stop::Credentials => "ImbaChat refused the secret key (credentials breaker)",
        Stop::Redirect => "ImbaChat answered with a redirect (redirect breaker)",
    }
}

fn dead(reason: DeadReason, record: &DeliveryRecord) -> String {
    let detail = record.detail.as_deref();
    match reason {
        DeadReason::Rejected => "dead: the server refused it for good".into(),
        DeadReason::Expired => "dead: it was worth nothing any more; it was never posted".into(),
        DeadReason::Unresolved => {
            "dead: nobody knows whether it was posted, and nobody will look any more".into()
        }
        DeadReason::Suppressed => {
            format!(
                "dead: a limit on bots held it back ({})",
                detail.unwrap_or("which is not known")
            )
        }
        DeadReason::Invalid => {
            format!("dead: it cannot be sent as it is: {}", detail.unwrap_or("see the text"))
        }
        DeadReason::Cancelled => "dead: it was taken back before it was sent".into(),
    }
}
