//! `[delivery]`: how messages are posted, and what happens when nobody knows whether one was.

use std::time::Duration;

use imbabot_bot::Policy;
use imbabot_bot::units::format_duration;

use super::code::Code;
use super::keys::{Key, LONG, MILLISECOND, SECOND, Shape};
use super::read::POLICIES;
use super::value::Table;
use super::walk::{Fault, Walk};
use imbabot_scheduler::Rate;

/// `[delivery]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// What happens when nobody knows whether a message was applied.
    pub policy: Policy,
    /// How long a message keeps, counted from when it may first be sent.
    pub expires_after: Duration,
    /// How many messages per widget, over all instances.
    pub rate: Rate,
    /// How many messages per room.
    pub rate_per_room: Rate,
    /// How many requests at once, per widget.
    pub concurrency: usize,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long one attempt may take in all.
    pub timeout: Duration,
    /// How long a failed message waits before it is tried again.
    pub backoff: Backoff,
    /// Under `at_least_once`: how long an ambiguous attempt rests before it is repeated.
    pub settle: Duration,
    /// Under `at_least_once`: how often an ambiguous attempt is repeated.
    pub max_ambiguous_resends: u32,
    /// After how long an unknown outcome is given up.
    pub unresolved_after: Duration,
    /// HTTP statuses that prove that nothing was applied.
    pub not_applied_statuses: Vec<u16>,
    /// How many bytes a message may have.
    pub max_text: usize,
}

/// Full jitter between these, growing from the first to the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The first wait.
    pub min: Duration,
    /// The longest wait.
    pub max: Duration,
}

static BACKOFF: &[Key] = &[
    Key::new("min", Shape::Duration(MILLISECOND, LONG), "the first wait").or("500ms"),
    Key::new("max", Shape::Duration(MILLISECOND, LONG), "the longest wait").or("60s"),
];

pub(crate) static KEYS: &[Key] = &[
    Key::new(
        "policy",
        Shape::Choice(POLICIES),
        "when nobody knows whether a message was applied: never send it again, or send it again as a possible duplicate",
    )
    .or("at_most_once"),
    Key::new(
        "expires_after",
        Shape::Duration(SECOND, LONG),
        "how long a message keeps, counted from when it may first be sent",
    )
    .or("1h"),
    Key::new("rate", Shape::Rate, "messages per widget, over all instances").or("10/s"),
    Key::new("rate_per_room", Shape::Rate, "messages per room").or("1/s"),
    Key::new("concurrency", Shape::Count(1, 1_024), "requests at once, per widget").or("8"),
    Key::new("connect_timeout", Shape::Duration(MILLISECOND, LONG), "how long connecting may take")
        .or("5s"),
    Key::new("timeout", Shape::Duration(MILLISECOND, LONG), "how long one attempt may take in all")
        .or("20s"),
    Key::new(
        "backoff",
        Shape::Table(BACKOFF),
        "how long a message waits that certainly was not applied, before it is tried again",
    ),
    Key::new(
        "settle",
        Shape::Duration(Duration::ZERO, LONG),
        "at_least_once: wait before an ambiguous attempt is repeated",
    )
    .or("60s"),
    Key::new(
        "max_ambiguous_resends",
        Shape::Count(0, 100),
        "at_least_once: how often an ambiguous attempt is repeated",
    )
    .or("2"),
    Key::new(
        "unresolved_after",
        Shape::Duration(SECOND, LONG),
        "after how long an unknown outcome is given up: dead(unresolved)",
    )
    .or("24h"),
    Key::new(
        "not_applied_statuses",
        Shape::List(&Shape::Count(400, 599)),
        "HTTP statuses that prove that nothing was applied",
    )
    .or("[429]"),
    Key::new("max_text", Shape::Size(1, 16 << 20), "how long a message may be").or("16KiB"),
];

pub(crate) fn read(walk: &mut Walk<'_>, root: &Table) -> Delivery {
    let part = walk.section(root, "delivery");
    let inner = walk.inner(&part, "backoff");
    let backoff = Backoff { min: walk.get(&inner, "min"), max: walk.get(&inner, "max") };
    if backoff.min > backoff.max
        && let Some(value) = inner.get("min").or(inner.get("max"))
    {
        let message = format!(
            "`delivery.backoff`: min ({}) is longer than max ({})",
            format_duration(backoff.min),
            format_duration(backoff.max)
        );
        let hint = "the wait grows from min to max: max is the longer one";
        walk.error(Fault::new(Code::BadValue, &value.place, message).hint(hint));
    }
    let statuses = walk.list(&part, "not_applied_statuses").unwrap_or_default();
    let mut statuses: Vec<u16> = statuses.into_iter().map(|(status, _)| status).collect();
    statuses.sort_unstable();
    statuses.dedup();
    Delivery {
        policy: walk.get(&part, "policy"),
        expires_after: walk.get(&part, "expires_after"),
        rate: walk.get(&part, "rate"),
        rate_per_room: walk.get(&part, "rate_per_room"),
        concurrency: walk.get(&part, "concurrency"),
        connect_timeout: walk.get(&part, "connect_timeout"),
        timeout: walk.get(&part, "timeout"),
        backoff,
        settle: walk.get(&part, "settle"),
        max_ambiguous_resends: walk.get(&part, "max_ambiguous_resends"),
        unresolved_after: walk.get(&part, "unresolved_after"),
        not_applied_statuses: statuses,
        max_text: walk.get(&part, "max_text"),
    }
}
