//! A status as it is read back. The daemon that wrote it may be of another version: what is missing is
//! empty, and what nobody here knows is passed over.

use std::collections::BTreeMap;

use imbabot_core::Timestamp;
use imbabot_scheduler::NotReady;
use imbabot_scheduler::status::Words;
use serde::Deserialize;
use serde_json::Value;

use super::work::Work;

/// The whole.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Seen {
    pub(crate) ready: bool,
    pub(crate) reasons: Vec<String>,
    pub(crate) obstacles: Vec<Obstacle>,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) version: String,
    pub(crate) widgets: BTreeMap<String, Widget>,
    pub(crate) tasks: BTreeMap<String, Task>,
    pub(crate) next: Vec<Next>,
    pub(crate) paused: Vec<String>,
    pub(crate) set_aside: BTreeMap<String, Timestamp>,
    pub(crate) housekeeping: BTreeMap<String, Job>,
    pub(crate) fleet: Option<Fleet>,
    #[serde(flatten)]
    pub(crate) work: Work,
    /// Why the store could not be asked how the work stands.
    pub(crate) unread: Option<String>,
}

/// A reason for not being ready, where it holds.
#[derive(Debug, Deserialize)]
pub(crate) struct Obstacle {
    pub(crate) reason: String,
    pub(crate) subject: String,
    pub(crate) since: Timestamp,
}

impl Obstacle {
    /// The reason in words, if it is one that is known here.
    pub(crate) fn words(&self) -> Option<Words> {
        NotReady::of(&self.reason).map(|reason| reason.words_about(&self.subject))
    }

    /// There is only one clock, and one daemon that stops or has others beside it.
    pub(crate) fn is_about_all(&self) -> bool {
        let known = NotReady::of(&self.reason);
        matches!(known, Some(NotReady::Draining | NotReady::ClockSuspect))
            || self.subject == "fleet"
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Widget {
    pub(crate) rooms: Option<u64>,
    pub(crate) last_good_poll: Option<Timestamp>,
    pub(crate) last_outcome: Option<String>,
    pub(crate) problem: Option<String>,
    pub(crate) breaker: Option<(String, Timestamp)>,
    pub(crate) in_flight: u64,
    pub(crate) suspected_limits: BTreeMap<String, u64>,
    pub(crate) capabilities: BTreeMap<String, Value>,
}

/// Which of several instances said all this. The store knows more of each: see `instances`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Fleet {
    pub(crate) incarnation: i64,
    /// What it has, and how often each changed hands.
    #[serde(default)]
    pub(crate) units: std::collections::BTreeMap<String, u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Task {
    pub(crate) last_progress: Option<Timestamp>,
    pub(crate) last: String,
    pub(crate) restarts: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Next {
    pub(crate) schedule: String,
    pub(crate) at: String,
    pub(crate) at_utc: Option<Timestamp>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Job {
    pub(crate) running: bool,
    pub(crate) last: Option<Timestamp>,
    pub(crate) took_seconds: Option<f64>,
    pub(crate) records: u64,
    pub(crate) problems: u64,
    pub(crate) found: Vec<String>,
    pub(crate) next: Option<Timestamp>,
}
