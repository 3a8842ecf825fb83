//! Simulated histories on PostgreSQL: the same operations, kills and invariants as on SQLite, and fewer
//! of them, since each verb is a few round trips. Left out where no database is named.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

#[path = "../../store/tests/postgres_support/mod.rs"]
mod postgres_support;

use std::sync::Arc;
use std::time::Duration;

use imbabot_store::Bodies;
use imbabot_testing::simulation::{generate, run_on};
use postgres_support::{Database, database};

const DAY: Duration = Duration::from_secs(86_400);

/// Histories of so many operations, from this seed on.
fn seeds(from: u64, count: u64, length: usize) {
    let Some(database) = database() else { return };
    // What is looked for does not depend on what a power cut leaves, and commits that wait for the disk
    // make most of the time.
    let joint = if database.url.contains('?') { '&' } else { '?' };
    let url = format!("{}{joint}options=-c%20synchronous_commit%3Doff", database.url);
    let database = Database { url };
    for seed in from..from + count {
        let mut history = generate(seed);
        history.operations.truncate(length);
        // Heartbeats go by the simulated time, of which days pass.
        let schema = database.name();
        let store = database.connect(&schema, Bodies::Full, DAY).temporary(&schema);
        let outcome = run_on(&history, Arc::new(store));
        if let Some(problem) = outcome.problem {
            panic!("seed {seed}, operation {}: {}\n{history}", problem.at, problem.found);
        }
    }
}

#[test]
fn the_invariants_hold_on_postgresql_1() {
    seeds(0, 4, 16);
}

#[test]
fn the_invariants_hold_on_postgresql_2() {
    seeds(5_000, 4, 16);
}

#[test]
#[ignore = "takes many minutes"]
fn the_invariants_hold_on_postgresql_in_two_hundred_histories() {
    seeds(10_000, 200, usize::MAX);
}
