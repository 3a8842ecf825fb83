//! Counters and gauges, with the names of the contract, in Prometheus' text format. Every family is
//! declared from the start, also one that has no value yet: a dashboard made on the first day has
//! no holes. No label ever names a room.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};

/// What a family counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

struct Declared {
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
}

macro_rules! families {
    ($($kind:ident $name:ident $labels:tt $help:literal;)+) => {
        /// A family of metrics.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs, non_camel_case_types)]
        pub enum Family { $($name,)+ }

        const DECLARED: &[Declared] = &[$(Declared {
            name: concat!("imbabot_", stringify!($name)),
            kind: Kind::$kind,
            labels: &$labels,
            help: $help,
        },)+];
    };
}

families! {
    Gauge build_info ["version"] "Always 1; the label tells the version.";
    Counter polls_total ["widget", "endpoint", "outcome"] "Polls of a list, by how they ended.";
    Histogram poll_duration_seconds [] "How long polls took.";
    Gauge poll_age_seconds ["widget"] "Time since the last good snapshot of the rooms.";
    Gauge rooms ["widget"] "Rooms in the last snapshot.";
    Counter room_events_total ["kind"] "Changes of rooms that were found.";
    Counter snapshots_rejected_total ["why"] "Lists that were not believed.";
    Counter send_attempts_total ["class"] "Requests to send_msg, by what they meant.";
    Gauge deliveries ["state"] "Deliveries in the store, by state.";
    Counter deliveries_total ["state", "reason"] "Deliveries that reached a state.";
    Histogram delivery_latency_seconds [] "From the instant a delivery could leave to its confirmation.";
    Counter possible_duplicates_total [] "Deliveries that may have been applied more than once.";
    Counter occurrences_total ["schedule", "outcome"] "Occurrences of schedules.";
    Histogram occurrence_lateness_seconds [] "How late occurrences fired.";
    Gauge schedule_next_timestamp_seconds ["schedule"] "The next instant of a schedule, Unix time.";
    Counter bot_invocations_total ["bot", "outcome"] "Handlers that ran.";
    Counter suppressed_total ["reason"] "Messages of bots that a limit held back.";
    Counter events_poisoned_total ["bot"] "Events that a bot failed on every try.";
    Gauge breaker_open ["widget", "reason"] "1 while nothing is sent to the widget for this reason.";
    Histogram store_commit_seconds [] "How long a commit of the store took.";
    Counter store_errors_total ["op"] "Failures of the store.";
    Gauge task_heartbeat_age_seconds ["task"] "Time since a task last made progress.";
    Counter task_restarts_total ["task"] "Restarts of a task after a failure.";
    Counter config_reload_failures_total [] "Reloads that were refused.";
    Gauge units_owned [] "Widgets, and the schedules, that are this instance's, where several share a store.";
    Gauge instances_alive [] "Instances that share the store, this one included.";
    Gauge heartbeat_age_seconds [] "Time since the last heartbeat that the shared store answered.";
    Counter fenced_total [] "Runs of this process that other instances ended.";
}

const BUCKETS: [f64; 13] =
    [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];

#[derive(Debug, Clone, Default)]
struct Histogram {
    buckets: [u64; BUCKETS.len()],
    count: u64,
    sum: f64,
}

#[derive(Default)]
struct Values {
    numbers: BTreeMap<(Family, Vec<String>), f64>,
    histograms: BTreeMap<(Family, Vec<String>), Histogram>,
}

/// The metrics of one engine.
#[derive(Default)]
pub struct Metrics {
    values: Mutex<Values>,
}

impl Metrics {
    /// No values yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One more.
    pub fn count(&self, family: Family, labels: &[&str]) {
        self.add(family, labels, 1.0);
    }

    /// So many more.
    pub fn add(&self, family: Family, labels: &[&str], amount: f64) {
        *self.lock().numbers.entry(key(family, labels)).or_default() += amount;
    }

    /// This many, now.
    pub fn set(&self, family: Family, labels: &[&str], value: f64) {
        self.lock().numbers.insert(key(family, labels), value);
    }

    /// This value, now, or none any more.
    pub fn put(&self, family: Family, labels: &[&str], value: Option<f64>) {
        match value {
            Some(value) => self.set(family, labels, value),
            None => drop(self.lock().numbers.remove(&key(family, labels))),
        }
    }

    /// Forgets the values of a family that are not set anew.
    pub fn clear(&self, family: Family) {
        self.lock().numbers.retain(|(of, _), _| *of != family);
    }

    /// Forgets the gauges of a widget that is not served here any more.
    pub fn forget_widget(&self, widget: &str) {
        self.lock().numbers.retain(|(family, labels), _| {
            let Declared { kind, labels: names, .. } = &DECLARED[*family as usize];
            let place = names.iter().position(|name| *name == "widget");
            *kind != Kind::Gauge
                || place.and_then(|place| labels.get(place)).is_none_or(|label| label != widget)
        });
    }

    /// One more observation.
    pub fn observe(&self, family: Family, seconds: f64) {
        let mut values = self.lock();
        let histogram = values.histograms.entry(key(family, &[])).or_default();
        histogram.count += 1;
        histogram.sum += seconds;
        for (bucket, bound) in histogram.buckets.iter_mut().zip(BUCKETS) {
            *bucket += u64::from(seconds <= bound);
        }
    }

    /// A value, for tests and status.
    #[must_use]
    pub fn value(&self, family: Family, labels: &[&str]) -> f64 {
        self.lock().numbers.get(&key(family, labels)).copied().unwrap_or_default()
    }

    /// All families in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        let values = self.lock();
        let mut text = String::new();
        for (place, declared) in DECLARED.iter().enumerate() {
            let Declared { name, kind, labels, help } = declared;
            let word = match kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {word}");
            let of = |family: Family| family as usize == place;
            for ((_, given), value) in values.numbers.iter().filter(|((f, _), _)| of(*f)) {
                let _ = writeln!(text, "{name}{} {value}", braces(labels, given, None));
            }
            let histograms: Vec<_> =
                values.histograms.iter().filter(|((f, _), _)| of(*f)).collect();
            for ((_, given), histogram) in &histograms {
                render_histogram(&mut text, name, labels, given, histogram);
            }
            // Families without labels have a value from the start.
            if labels.is_empty()
                && *kind == Kind::Counter
                && !values.numbers.keys().any(|(f, _)| of(*f))
            {
                let _ = writeln!(text, "{name} 0");
            }
            if *kind == Kind::Histogram && histograms.is_empty() {
                render_histogram(&mut text, name, labels, &[], &Histogram::default());
            }
        }
        text
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Values> {
        // Numbers stay usable whatever panicked while they were counted.
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(family: Family, labels: &[&str]) -> (Family, Vec<String>) {
    debug_assert_eq!(labels.len(), DECLARED[family as usize].labels.len(), "{family:?}");
    (family, labels.iter().map(|&label| label.to_owned()).collect())
}

fn render_histogram(
    text: &mut String,
    name: &str,
    labels: &[&str],
    given: &[String],
    histogram: &Histogram,
) {
    for (bucket, bound) in histogram.buckets.iter().zip(BUCKETS) {
        let le = braces(labels, given, Some(&bound.to_string()));
        let _ = writeln!(text, "{name}_bucket{le} {bucket}");
    }
    let _ =
        writeln!(text, "{name}_bucket{} {}", braces(labels, given, Some("+Inf")), histogram.count);
    let plain = braces(labels, given, None);
    let _ = writeln!(
        text,
        "{name}_sum{plain} {}\n{name}_count{plain} {}",
        histogram.sum, histogram.count
    );
}

fn braces(names: &[&str], values: &[String], le: Option<&str>) -> String {
    let mut pairs: Vec<String> = names
        .iter()
        .zip(values)
        .map(|(name, value)| {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            format!("{name}=\"{value}\"")
        })
        .collect();
    pairs.extend(le.map(|le| format!("le=\"{le}\"")));
    if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_is_declared_before_anything_happened() {
        let text = Metrics::new().render();
        for declared in DECLARED {
            assert!(text.contains(&format!("# TYPE {} ", declared.name)), "{}", declared.name);
        }
    }

    #[test]
    fn a_widget_that_is_given_away_leaves_its_counters_and_no_gauge() {
        let metrics = Metrics::new();
        for widget in ["main", "other"] {
            metrics.count(Family::polls_total, &[widget, "get_rooms", "ok"]);
            metrics.set(Family::poll_age_seconds, &[widget], 3.0);
            metrics.set(Family::breaker_open, &[widget, "outage"], 1.0);
        }
        metrics.forget_widget("main");
        let text = metrics.render();
        assert!(text.contains(
            "imbabot_polls_total{widget=\"main\",endpoint=\"get_rooms\",outcome=\"ok\"} 1"
        ));
        assert!(!text.contains("imbabot_poll_age_seconds{widget=\"main\""), "{text}");
        assert!(!text.contains("imbabot_breaker_open{widget=\"main\""), "{text}");
        assert!(text.contains("imbabot_poll_age_seconds{widget=\"other\"} 3"));
    }

    #[test]
    fn values_carry_their_labels_escaped() {
        let metrics = Metrics::new();
        metrics.count(Family::polls_total, &["ma\"in", "get_rooms", "ok"]);
        metrics.count(Family::polls_total, &["ma\"in", "get_rooms", "ok"]);
        metrics.observe(Family::poll_duration_seconds, 0.2);
        let text = metrics.render();
        assert!(text.contains(
            "imbabot_polls_total{widget=\"ma\\\"in\",endpoint=\"get_rooms\",outcome=\"ok\"} 2"
        ));
        assert!(text.contains("imbabot_poll_duration_seconds_bucket{le=\"0.25\"} 1"));
        assert!(text.contains("imbabot_poll_duration_seconds_bucket{le=\"0.1\"} 0"));
        assert!(text.contains("imbabot_poll_duration_seconds_count 1"));
    }
}
