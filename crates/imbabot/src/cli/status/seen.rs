//! A status as it is read back. The daemon that wrote it may be of another version: what is missing is
//! empty, and what nobody here knows is passed over.

use std::collections::BTreeMap;

use imbabot_core::Timestamp;
use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Seen {
    pub(super) ready: bool,
    pub(super) reasons: Vec<String>,
    pub(super) obstacles: Vec<Obstacle>,
    pub(super) started_at: Option<Timestamp>,
    pub(super) version: String,
    pub(super) widgets: BTreeMap<String, Widget>,
    pub(super) tasks: BTreeMap<String, Task>,
    pub(super) next: Vec<Next>,
    pub(super) paused: Vec<String>,
    pub(super) set_aside: BTreeMap<String, Timestamp>,
    pub(super) housekeeping: BTreeMap<String, Job>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Obstacle {
    pub(super) reason: String,
    pub(super) subject: String,
    pub(super) since: Timestamp,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Widget {
    pub(super) rooms: Option<u64>,
    pub(super) last_good_poll: Option<Timestamp>,
    pub(super) last_outcome: Option<String>,
    pub(super) problem: Option<String>,
    pub(super) breaker: Option<(String, Timestamp)>,
    pub(super) capabilities: BTreeMap<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Task {
    pub(super) last_progress: Option<Timestamp>,
    pub(super) last: String,
    pub(super) restarts: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Next {
    pub(super) schedule: String,
    pub(super) at: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Job {
    pub(super) running: bool,
    pub(super) last: Option<Timestamp>,
    pub(super) took_seconds: Option<f64>,
    pub(super) records: u64,
    pub(super) problems: u64,
    pub(super) found: Vec<String>,
    pub(super) next: Option<Timestamp>,
}
