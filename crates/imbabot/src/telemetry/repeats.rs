//! Warnings and errors that come again and again are said some times, then counted: a log that is full
//! of one thing hides all others. What is counted is said a minute later. Looks at no clock but the one
//! that it is given, and never at what is below a warning: that was asked for.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use imbabot_scheduler::{Clock, SystemClock};
use serde_json::Value;
use tracing::callsite::Identifier;

use super::lines::Field;

/// So often within [`WINDOW`] the same is said in full.
const OFTEN: u64 = 10;
const WINDOW: Duration = Duration::from_secs(60);
/// So many different things are counted; beyond that everything is said.
const KINDS: usize = 1_000;
/// What makes two events the same, beside the place in the program. What differs from one to the next
/// (a delivery, a room, an instant) does not.
const SAME: [&str; 11] = [
    "code", "widget", "bot", "schedule", "task", "op", "list", "endpoint", "reason", "status",
    "place",
];

struct Kind {
    since: Duration,
    seen: u64,
    target: &'static str,
    /// The last that was not said.
    last: String,
}

/// What came again.
pub(super) struct Repeats {
    clock: SystemClock,
    kinds: HashMap<u64, Kind>,
}

impl Default for Repeats {
    fn default() -> Self {
        Self { clock: SystemClock::new(), kinds: HashMap::new() }
    }
}

/// What is to be done with an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Say,
    /// Counted only, and the first of its kind that is.
    HoldFirst,
    Hold,
}

impl Repeats {
    pub(super) fn judge(
        &mut self,
        place: &Identifier,
        target: &'static str,
        fields: &[Field],
        message: &str,
    ) -> Verdict {
        self.count(kind(place, fields), self.clock.elapsed(), target, message)
    }

    fn count(&mut self, kind: u64, now: Duration, target: &'static str, message: &str) -> Verdict {
        let full = self.kinds.len() >= KINDS;
        if full {
            // What is over and was said in full is no news.
            self.kinds.retain(|_, kind| kind.seen > OFTEN || now - kind.since < WINDOW);
        }
        if self.kinds.len() >= KINDS && !self.kinds.contains_key(&kind) {
            return Verdict::Say;
        }
        let fresh = || Kind { since: now, seen: 0, target, last: String::new() };
        let known = self.kinds.entry(kind).or_insert_with(fresh);
        if now.saturating_sub(known.since) >= WINDOW && known.seen <= OFTEN {
            *known = fresh();
        }
        known.seen += 1;
        if known.seen <= OFTEN {
            return Verdict::Say;
        }
        message.clone_into(&mut known.last);
        if known.seen == OFTEN + 1 { Verdict::HoldFirst } else { Verdict::Hold }
    }

    /// What was counted and whose minute is over, or all of it; and whether anything is left.
    pub(super) fn told(&mut self, all: bool) -> (Vec<(String, String)>, bool) {
        self.told_at(self.clock.elapsed(), all)
    }

    fn told_at(&mut self, now: Duration, all: bool) -> (Vec<(String, String)>, bool) {
        let mut told = Vec::new();
        self.kinds.retain(|_, kind| {
            let over = all || now.saturating_sub(kind.since) >= WINDOW;
            if over && kind.seen > OFTEN {
                let (count, last) = (kind.seen - OFTEN, &kind.last);
                let text = format!("{count} more of these were not said; the last: {last}");
                told.push((kind.target.to_owned(), text));
            }
            !over
        });
        let left = self.kinds.values().any(|kind| kind.seen > OFTEN);
        (told, left)
    }
}

/// What two events have in common that are the same.
fn kind(place: &impl Hash, fields: &[Field]) -> u64 {
    let mut hasher = DefaultHasher::new();
    place.hash(&mut hasher);
    for (name, value) in fields.iter().filter(|(name, _)| SAME.contains(name)) {
        (name, Value::to_string(value)).hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_comes_again_and_again_is_said_ten_times_a_minute_and_counted() {
        let mut repeats = Repeats::default();
        let mut said = 0;
        for n in 0..50 {
            let verdict = repeats.count(1, SECOND * n, "t", &format!("number {n}"));
            said += u32::from(verdict == Verdict::Say);
            assert_eq!(verdict == Verdict::HoldFirst, n == 10, "{n}");
        }
        assert_eq!(said, 10);
        assert_eq!(repeats.told_at(SECOND * 59, false), (Vec::new(), true));
        let (told, left) = repeats.told_at(SECOND * 60, false);
        let words = "40 more of these were not said; the last: number 49";
        assert_eq!(told, [("t".to_owned(), words.to_owned())]);
        assert!(!left);
        assert_eq!(repeats.count(1, SECOND * 61, "t", "again"), Verdict::Say);
    }

    #[test]
    fn panics_at_two_places_are_two_things_and_two_deliveries_are_not() {
        let event =
            |name, value: &str| kind(&1, &[("code", "IMB-X-PANIC".into()), (name, value.into())]);
        assert_ne!(event("place", "a.rs:1:1"), event("place", "b.rs:1:1"));
        assert_eq!(event("delivery", "a"), event("delivery", "b"));
    }

    #[test]
    fn what_comes_now_and_then_and_what_differs_is_always_said() {
        let mut repeats = Repeats::default();
        for n in 0..1_000 {
            assert_eq!(repeats.count(1, SECOND * 7 * n, "t", "now and then"), Verdict::Say);
        }
        for kind in 0..5_000 {
            assert_eq!(repeats.count(kind, SECOND * 9_000, "t", "different"), Verdict::Say);
        }
        assert!(repeats.kinds.len() <= KINDS);
    }
}
