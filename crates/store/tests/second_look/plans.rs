//! How SQLite goes about every statement that is written in `src/sqlite`: what runs for each
//! message or event goes by an index, and walks it in the order that is asked for.
use std::path::Path;

use regex::Regex;

use crate::{Bodies, Role, SqliteStore};

/// A statement, where it stands, and the steps of its plan.
struct Planned {
    place: String,
    sql: String,
    steps: Vec<String>,
}

fn all() -> Vec<Planned> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.sqlite");
    drop(SqliteStore::open(&path, Role::Daemon, Bodies::Full).unwrap());
    let db = rusqlite::Connection::open(&path).unwrap();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/sqlite");
    let statement = Regex::new(r#""((?:SELECT|UPDATE|DELETE|INSERT|\{RECORD\})\s[^"]*)""#).unwrap();
    let constant = Regex::new(r#"const (\w+): &str = "([^"]*)""#).unwrap();
    let joined = Regex::new(r"\\\n\s*").unwrap();
    let mut texts = Vec::new();
    for entry in std::fs::read_dir(sources).unwrap() {
        let entry = entry.unwrap();
        let text = std::fs::read_to_string(entry.path()).unwrap();
        let name = entry.file_name().into_string().unwrap();
        if name == "plans.rs" {
            // That one talks about statements, it has none.
            continue;
        }
        texts.push((name, joined.replace_all(&text, "").into_owned()));
    }
    texts.sort();
    let constants: Vec<(String, String)> = texts
        .iter()
        .flat_map(|(_, text)| constant.captures_iter(text))
        .map(|found| (format!("{{{}}}", &found[1]), found[2].to_owned()))
        .collect();
    let mut planned = Vec::new();
    for (name, text) in &texts {
        for found in statement.captures_iter(text) {
            let mut sql = found[1].to_owned();
            for (constant, value) in &constants {
                sql = sql.replace(constant, value);
            }
            // A condition that is put together when it runs.
            let sql =
                sql.replace("{condition}", if sql.ends_with("AND {condition}") { "1" } else { "" });
            let mut explained = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect(&sql);
            let steps = (1..=explained.parameter_count())
                .try_for_each(|n| explained.raw_bind_parameter(n, 1))
                .map(|()| explained.raw_query().mapped(|row| row.get(3)))
                .and_then(Iterator::collect)
                .expect(&sql);
            let sql = sql.split_whitespace().collect::<Vec<_>>().join(" ");
            planned.push(Planned { place: name.clone(), sql, steps });
        }
    }
    assert!(planned.len() > 80, "the statements are found: {}", planned.len());
    planned
}

#[test]
fn nothing_that_runs_for_each_message_reads_a_whole_table() {
    let often = ["outbox.rs", "lane.rs", "inbox.rs", "lifecycle.rs", "schedules.rs"];
    let grow = ["delivery", "inbox", "event", "attempt", "ledger", "occurrence", "item"];
    for one in all() {
        if !often.contains(&one.place.as_str()) {
            continue;
        }
        for step in &one.steps {
            let whole = step.strip_prefix("SCAN ").is_some_and(|table| grow.contains(&table));
            assert!(!whole, "{}: {step}: {}", one.place, one.sql);
            let partial = !step.contains("INDEX delivery_tally");
            assert!(partial, "{}: {step}: {}", one.place, one.sql);
        }
    }
}

#[test]
fn what_runs_for_each_message_sorts_nothing() {
    for one in all() {
        let often = ["outbox.rs", "lane.rs"].contains(&one.place.as_str())
            || one.sql.starts_with("SELECT event FROM inbox")
            || one.sql.starts_with("DELETE FROM");
        let sorts = one.steps.iter().any(|step| step.contains("TEMP B-TREE"));
        assert!(!(often && sorts), "{}: {:?}: {}", one.place, one.steps, one.sql);
    }
}

#[test]
fn the_statements_of_each_round_use_the_indexes_that_were_made_for_them() {
    let planned = all();
    for (start, index) in [
        ("SELECT room, sender, ready_at FROM lane WHERE widget = ?1 AND ready_at IS", "lane_ready"),
        ("SELECT seq, state = 'queued', max(not_before, next_attempt_at)", "delivery_lane"),
        ("SELECT seq FROM delivery WHERE widget = ?1 AND room = ?2 AND sender", "delivery_sending"),
        ("SELECT seq FROM delivery WHERE state = 'queued' AND expires_at", "delivery_expiry"),
        ("SELECT seq FROM delivery WHERE resend_at IS NOT NULL", "delivery_resend"),
        ("SELECT seq FROM delivery WHERE state = 'unknown'", "delivery_unknown"),
        ("SELECT min(at) FROM", "delivery_expiry"),
        ("SELECT EXISTS (SELECT 1 FROM delivery WHERE server_uuid", "delivery_uuid"),
        ("SELECT event FROM inbox WHERE bot = ?1 AND state = 'waiting'", "inbox_due"),
        ("SELECT min(due_at) FROM inbox", "inbox_due"),
        ("INSERT INTO inbox", "inbox_lane"),
        ("SELECT bot, widget, key, due_at FROM wake", "wake_due"),
        ("SELECT id, schedule, nominal_at, targets, position FROM occurrence", "occurrence_pinned"),
        ("SELECT bot, count(*) FROM inbox WHERE state = 'poisoned'", "inbox_poisoned"),
        ("DELETE FROM delivery", "delivery_created"),
        ("DELETE FROM ledger", "ledger_by_at"),
    ] {
        let found: Vec<_> = planned.iter().filter(|one| one.sql.starts_with(start)).collect();
        assert!(!found.is_empty(), "no statement starts with {start}");
        for one in found {
            let used = one.steps.iter().any(|step| step.contains(&format!("INDEX {index}")));
            assert!(used, "{index}: {:?}: {}", one.steps, one.sql);
        }
    }
}
#[test]
fn no_lookup_reads_all_that_a_bot_was_ever_told() {
    for one in all() {
        let all = one.steps.iter().any(|step| step.ends_with("PRIMARY KEY (bot=?)"));
        assert!(!all, "{}: {:?}: {}", one.place, one.steps, one.sql);
    }
}
