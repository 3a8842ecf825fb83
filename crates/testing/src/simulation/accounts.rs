//! How the ledger accounts for the instants of schedules, by schedule and instant. Reads lines; decides
//! nothing.

use std::collections::{BTreeMap, HashMap};

use imbabot_core::Timestamp;
use imbabot_store::{LedgerLine, Line, OccurrenceRecord, RangeRecord};

/// What the ledger says of one schedule.
#[derive(Debug, Default, Clone)]
pub(super) struct Account {
    pub(super) ones: BTreeMap<Timestamp, OccurrenceRecord>,
    /// By their first instant.
    pub(super) runs: BTreeMap<Timestamp, RangeRecord>,
}

impl Account {
    /// How often this instant is accounted for.
    pub(super) fn times(&self, at: Timestamp) -> usize {
        let run = self.runs.range(..=at).next_back();
        usize::from(self.ones.contains_key(&at))
            + usize::from(run.is_some_and(|(_, run)| at <= run.to))
    }
}

/// What the ledger says of all schedules.
#[derive(Debug, Default, Clone)]
pub(super) struct Accounts(HashMap<String, Account>);

impl Accounts {
    pub(super) fn read(&mut self, line: &LedgerLine) {
        match &line.line {
            Line::Occurrence(record) if !record.id.contains('!') => {
                let account = self.0.entry(record.schedule.clone()).or_default();
                account.ones.insert(record.nominal_at, record.clone());
            }
            Line::Range(record) => {
                let account = self.0.entry(record.schedule.clone()).or_default();
                account.runs.insert(record.from, record.clone());
            }
            _ => {}
        }
    }

    pub(super) fn of(&self, schedule: &str) -> Option<&Account> {
        self.0.get(schedule)
    }

    pub(super) fn times(&self, schedule: &str, at: Timestamp) -> usize {
        self.of(schedule).map_or(0, |account| account.times(at))
    }
}
