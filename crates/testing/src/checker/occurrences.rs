//! Whether every instant is accounted for and everything promised is kept (I4, I5).

use std::collections::{HashMap, HashSet};

use imbabot_core::Timestamp;
use imbabot_store::{DeliveryState, OccurrenceOutcome};

use super::{Check, Findings};

impl Check {
    /// I4 and I5: every expected instant is accounted for once, what fired has its deliveries, and
    /// what was promised is kept.
    pub(super) fn nothing_is_lost(&self, found: &mut Findings) {
        let book = &self.book;
        self.every_instant_is_accounted_for(found);
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

    fn every_instant_is_accounted_for(&self, found: &mut Findings) {
        if self.expected.is_empty() {
            return;
        }
        let book = &self.book;
        let ones: HashSet<(&str, Timestamp)> = book
            .occurrences
            .values()
            .filter(|one| !one.id.contains('!'))
            .map(|one| (one.schedule.as_str(), one.nominal_at))
            .collect();
        let mut runs: HashMap<&str, Vec<(Timestamp, Timestamp)>> = HashMap::new();
        for run in &book.ranges {
            runs.entry(run.schedule.as_str()).or_default().push((run.from, run.to));
        }
        for (schedule, at) in &self.expected {
            let schedule = schedule.as_str();
            let runs = runs.get(schedule).map(Vec::as_slice).unwrap_or_default();
            let covering = runs.iter().filter(|(from, to)| from <= at && at <= to).count();
            let times = usize::from(ones.contains(&(schedule, *at))) + covering;
            if times != 1 {
                found
                    .note(4, format!("{schedule}@{} is accounted for {times} times", at.compact()));
            }
        }
    }
}
