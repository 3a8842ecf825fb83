//! Whether every instant is accounted for and everything promised is kept (I4, I5).

use std::collections::HashMap;

use imbabot_store::{DeliveryState, OccurrenceOutcome};

use super::{Check, Findings};

impl Check {
    /// I4 and I5: every expected instant is accounted for once, what fired has its deliveries, and
    /// what was promised is kept.
    pub(super) fn nothing_is_lost(&self, found: &mut Findings) {
        let book = &self.book;
        for (schedule, at) in &self.expected {
            let ones = book
                .occurrences
                .values()
                .filter(|o| o.schedule == *schedule && o.nominal_at == *at && !o.id.contains('!'))
                .count();
            let runs = book
                .ranges
                .iter()
                .filter(|r| r.schedule == *schedule && r.from <= *at && *at <= r.to)
                .count();
            if ones + runs != 1 {
                let times = ones + runs;
                found
                    .note(4, format!("{schedule}@{} is accounted for {times} times", at.compact()));
            }
        }
        let mut by_occurrence: HashMap<&str, u64> = HashMap::new();
        for delivery in book.deliveries.values() {
            if let Some(occurrence) = &delivery.occurrence {
                *by_occurrence.entry(occurrence).or_default() += 1;
            }
        }
        for (id, occurrence) in &book.occurrences {
            let has = by_occurrence.get(id.as_str()).copied().unwrap_or(0);
            let complete = !self.quiescent || has == occurrence.deliveries;
            if has > occurrence.deliveries || !complete {
                let says = occurrence.deliveries;
                found.note(4, format!("{id} has {has} deliveries and says {says}"));
            }
            if occurrence.outcome != OccurrenceOutcome::Fired && has > 0 {
                found.note(4, format!("{id} is {} and has deliveries", occurrence.outcome));
            }
        }
        if self.quiescent {
            for (id, delivery) in &book.deliveries {
                if matches!(delivery.state, DeliveryState::Queued | DeliveryState::Sending) {
                    found.note(4, format!("{id} is still {}", delivery.state));
                }
            }
        }
        for id in &self.accepted {
            if !book.deliveries.contains_key(id) {
                found.note(5, format!("{id} was promised and is not in the ledger"));
            }
        }
    }
}
