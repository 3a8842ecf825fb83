//! Several instances on one store: who is there, who owns what, and until when that is believed.
//! Ownership saves work and keeps lists and rates in one hand; that nothing happens twice is
//! decided by locks, keys and fences inside each verb, never by this.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use imbabot_bot::WidgetName;
use imbabot_core::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::lifecycle::{IncarnationId, Settle};

/// What is owned as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unit {
    /// The calendar: schedules, sweeps and housekeeping.
    Schedules,
    /// A widget: its polls, its bots' events and its messages.
    Widget(WidgetName),
}

impl std::fmt::Display for Unit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Schedules => f.write_str("schedules"),
            Self::Widget(name) => write!(f, "widget/{name}"),
        }
    }
}

/// Where an instance stands after a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// The store is for one instance: everything is its own.
    Alone,
    /// One of several.
    Member(Membership),
}

/// What an instance owns until its lease ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// Whose clock counts: the store's, when it answered.
    pub now: Timestamp,
    /// How long a lease is.
    pub lease: Duration,
    /// What it owns, each with its term: how often the unit has changed hands.
    pub units: BTreeMap<Unit, u64>,
    /// An operator asked it to give everything away.
    pub draining: bool,
    /// How many instances are alive, this one included.
    pub alive: usize,
    /// Instances whose lease had run out, ended by this heartbeat, and how many of their deliveries
    /// are `unknown` since.
    pub ended: Vec<(IncarnationId, u64)>,
}

/// An instance as the others see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceRecord {
    /// Its run.
    pub incarnation: IncarnationId,
    /// The name it was given, for people: two may have the same.
    pub name: String,
    /// The version of the program.
    pub version: String,
    /// When it began.
    pub started_at: Timestamp,
    /// Its last heartbeat, by the store's clock.
    pub heartbeat_at: Timestamp,
    /// Until when it is believed.
    pub lease_until: Timestamp,
    /// An operator asked it to give everything away.
    pub draining: bool,
    /// What it owns: the unit and its term.
    pub units: Vec<(String, u64)>,
}

/// Heartbeats and what they tell. A store for one instance has nothing to add to what is here.
#[async_trait]
pub trait Fleet {
    /// What the store's own clock shows; none where the host's clock counts.
    async fn clock(&self) -> Result<Option<Timestamp>> {
        Ok(None)
    }

    /// Renews the lease; ends instances whose lease has run out (what they were sending becomes
    /// `unknown`, what their bots were handling waits again); takes units that nobody owns, up to a
    /// fair share of those in `serves`, and gives back what is beyond it.
    ///
    /// # Errors
    /// `Fenced` if this instance was ended by another.
    async fn heartbeat(
        &self,
        incarnation: IncarnationId,
        serves: &[Unit],
        settle: Settle,
    ) -> Result<Standing> {
        let _ = (incarnation, serves, settle);
        Ok(Standing::Alone)
    }

    /// The instances that have not ended, by their number. Empty where there can be only one.
    async fn instances(&self) -> Result<Vec<InstanceRecord>> {
        Ok(Vec::new())
    }

    /// Asks an instance to give everything away and take nothing more, or takes that back; false if
    /// there is none of this number. Recorded in the ledger as an operator's act.
    async fn drain(
        &self,
        now: Timestamp,
        incarnation: IncarnationId,
        draining: bool,
    ) -> Result<bool> {
        let _ = (now, incarnation, draining);
        Ok(false)
    }
}
