//! What polls learn of a widget's server beside its lists: how large and slow they are, which quirks
//! were met. Kept for people, written to the store rarely: when something new is known, or when a
//! size has become another one.

use std::time::Duration;

use imbabot_bot::ActivitySignal;
use imbabot_store::{Capabilities, ListFacts, ListKind, Quirk};

use super::limit::Counted;
use super::list::Seen;

/// What is new is written down not sooner than so long after the last time …
const NEWS: Duration = Duration::from_secs(60);
/// … and what only grew or shrank, not sooner than so long.
const SIZES: Duration = Duration::from_secs(3_600);
/// Clocks that drift by less are still where they were.
const SAME_CLOCK: i64 = 5;

/// What is known of one server.
#[derive(Default)]
pub(super) struct Known {
    now: Capabilities,
    written: Option<(Capabilities, Duration)>,
}

impl Known {
    /// What an earlier run wrote down.
    pub(super) fn remembered(before: Capabilities) -> Self {
        Self { written: Some((before.clone(), Duration::ZERO)), now: before }
    }

    /// All of it.
    pub(super) fn capabilities(&self) -> &Capabilities {
        &self.now
    }

    /// What is known of one of its lists.
    pub(super) fn list(&self, kind: ListKind) -> Option<&ListFacts> {
        match kind {
            ListKind::Rooms => self.now.rooms.as_ref(),
            ListKind::Users => self.now.users.as_ref(),
        }
    }

    /// A good list.
    pub(super) fn note(&mut self, kind: ListKind, seen: &Seen, counted: &Counted, took: Duration) {
        let facts = match kind {
            ListKind::Rooms => self.now.rooms.get_or_insert_default(),
            ListKind::Users => self.now.users.get_or_insert_default(),
        };
        let summary = &seen.summary;
        facts.rows = summary.elements;
        facts.most = counted.most();
        facts.bytes = summary.bytes;
        facts.milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        facts.pages = summary.pages;
        facts.suspected_limit = counted.told();
        facts.quirks.extend(
            [
                (Quirk::TextAround, summary.salvaged),
                (Quirk::SuccessAsWord, summary.success_as_word),
                (Quirk::Map, summary.is_map),
                (Quirk::Pages, summary.pages > 1),
                (Quirk::BadRows, seen.quarantined > 0),
                (Quirk::Duplicates, seen.duplicates > 0),
            ]
            .into_iter()
            .filter_map(|(quirk, met)| met.then_some(quirk)),
        );
        self.now.updated_at_moves |= seen.updated_at_moved;
        if let Some(ahead) = seen.ahead_seconds {
            self.now.server_ahead_seconds = Some(ahead);
        }
    }

    /// Whether `updated_at` moves with messages, and how many of ours moved nothing.
    pub(super) fn note_activity(&mut self, (signal, silent): (ActivitySignal, u32)) {
        self.now.activity = signal;
        self.now.silent_messages = silent;
    }

    /// What is to be written down now, if it is time.
    pub(super) fn due_for_writing(&mut self, elapsed: Duration) -> Option<Capabilities> {
        let wait = match &self.written {
            None => Duration::ZERO,
            Some((before, _)) if is_news(before, &self.now) => NEWS,
            Some((before, _)) if is_other_size(before, &self.now) => SIZES,
            Some(_) => return None,
        };
        let since = self.written.as_ref().map_or(elapsed, |(_, at)| elapsed.saturating_sub(*at));
        if since < wait {
            return None;
        }
        self.written = Some((self.now.clone(), elapsed));
        Some(self.now.clone())
    }
}

fn lists(of: &Capabilities) -> [Option<&ListFacts>; 2] {
    [of.rooms.as_ref(), of.users.as_ref()]
}

/// Something is known that was not.
fn is_news(before: &Capabilities, now: &Capabilities) -> bool {
    let differ = |(a, b): (Option<&ListFacts>, Option<&ListFacts>)| match (a, b) {
        (Some(a), Some(b)) => {
            a.quirks != b.quirks
                || a.suspected_limit != b.suspected_limit
                || (a.pages > 1) != (b.pages > 1)
        }
        (a, b) => a.is_some() != b.is_some(),
    };
    let drifted = match (before.server_ahead_seconds, now.server_ahead_seconds) {
        (Some(a), Some(b)) => a.abs_diff(b) > SAME_CLOCK.unsigned_abs(),
        (a, b) => a.is_some() != b.is_some(),
    };
    drifted
        || before.updated_at_moves != now.updated_at_moves
        || before.activity != now.activity
        || before.silent_messages != now.silent_messages
        || lists(before).into_iter().zip(lists(now)).any(differ)
}

/// A list has grown or shrunk by a quarter, or takes twice or half as long.
fn is_other_size(before: &Capabilities, now: &Capabilities) -> bool {
    let other = |a: u64, b: u64| a.abs_diff(b) > a.max(b) / 4;
    // Below a tenth of a second, twice as long is nothing.
    let slower = |a: u64, b: u64| a.max(b) > 100 && a.max(b) / 2 > a.min(b);
    lists(before).into_iter().zip(lists(now)).any(|pair| match pair {
        (Some(a), Some(b)) => {
            other(a.rows, b.rows)
                || other(a.bytes, b.bytes)
                || slower(a.milliseconds, b.milliseconds)
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(rows: u64) -> Capabilities {
        let facts = ListFacts { rows, bytes: rows * 300, pages: 1, ..ListFacts::default() };
        Capabilities { rooms: Some(facts), ..Capabilities::default() }
    }

    #[test]
    fn the_first_is_written_at_once_news_after_a_minute_and_sizes_after_an_hour() {
        let at = Duration::from_secs;
        let mut known_now = Known { now: known(100), written: None };
        assert!(known_now.due_for_writing(at(1)).is_some());
        assert!(known_now.due_for_writing(at(100_000)).is_none(), "it is as it was");
        known_now.now = known(120);
        assert!(known_now.due_for_writing(at(100_000)).is_none(), "hardly another size");
        known_now.now = known(200);
        assert!(known_now.due_for_writing(at(3_600)).is_none());
        assert!(known_now.due_for_writing(at(3_601)).is_some());
        known_now.now.updated_at_moves = true;
        assert!(known_now.due_for_writing(at(3_660)).is_none());
        assert_eq!(known_now.due_for_writing(at(3_661)), Some(known_now.now.clone()));
    }

    #[test]
    fn what_an_earlier_run_wrote_is_not_written_again() {
        let mut again = Known::remembered(known(100));
        assert!(again.due_for_writing(Duration::from_secs(100_000)).is_none());
        again.now.server_ahead_seconds = Some(3_600);
        assert!(again.due_for_writing(Duration::from_secs(100_000)).is_some());
        again.now.server_ahead_seconds = Some(3_602);
        assert!(again.due_for_writing(Duration::from_secs(200_000)).is_none());
    }
}
