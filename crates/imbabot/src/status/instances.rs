//! The instances that share a store on a server: who is there, until when that is believed, and who does
//! what. Of a store in a file there is nothing to tell: it has one.

use imbabot_core::Timestamp;
use imbabot_store::{InstanceRecord, Result, Store, Unit};
use serde::{Deserialize, Serialize};

/// An instance as the store has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Instance {
    /// Its number: that of its run.
    pub(crate) incarnation: i64,
    /// What people call it; two may have the same.
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) started_at: Timestamp,
    pub(crate) heartbeat_at: Timestamp,
    /// Until when it is believed without another heartbeat.
    pub(crate) alive_until: Timestamp,
    /// Whether that is still to come.
    pub(crate) alive: bool,
    /// It was asked to give everything away.
    pub(crate) draining: bool,
    /// Whether it has the schedules.
    pub(crate) schedules: bool,
    /// How many widgets it has.
    pub(crate) widgets: usize,
    /// What it has.
    pub(crate) units: Vec<Owned>,
}

/// Something that an instance has: the schedules, or a widget.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Owned {
    /// `schedules`, or `widget/` and its name.
    pub(crate) name: String,
    /// How often it has changed hands.
    pub(crate) term: u64,
}

impl Instance {
    /// All that have not ended, by their number. `now` counts where the store has no clock of its own.
    pub(super) async fn all<S: Store + ?Sized>(store: &S, now: Timestamp) -> Result<Vec<Self>> {
        let records = store.instances().await?;
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let now = store.clock().await?.unwrap_or(now);
        Ok(records.into_iter().map(|record| Self::of(record, now)).collect())
    }

    pub(crate) fn of(record: InstanceRecord, now: Timestamp) -> Self {
        let schedules = Unit::Schedules.to_string();
        let owns_schedules = record.units.iter().any(|(unit, _)| *unit == schedules);
        Self {
            incarnation: record.incarnation.0,
            name: record.name,
            version: record.version,
            started_at: record.started_at,
            heartbeat_at: record.heartbeat_at,
            alive_until: record.lease_until,
            alive: record.lease_until > now,
            draining: record.draining,
            schedules: owns_schedules,
            widgets: record.units.len() - usize::from(owns_schedules),
            units: record.units.into_iter().map(|(name, term)| Owned { name, term }).collect(),
        }
    }

    /// One word for how it is.
    pub(crate) fn state(&self) -> &'static str {
        match (self.alive, self.draining) {
            (false, _) => "lost",
            (true, true) => "draining",
            (true, false) => "alive",
        }
    }
}
