//! Occurrences, their deliveries and lines, and the runs of a schedule.

use imbabot_core::Timestamp;

use super::{Batch, TOLD, Told, last_lines, lines_of, unreadable};
use crate::error::Result;
use crate::postgres::row::{get, instant};
use crate::postgres::tx::{Tx, params};
use crate::schedules::MANUAL;

struct Occurrence {
    id: String,
    schedule: String,
    outcome: String,
    reason: Option<String>,
    says: i64,
    has: i64,
    at: Timestamp,
    expanded: bool,
}

async fn page(tx: &Tx<'_>, after: &str, limit: i64) -> Result<Vec<Occurrence>> {
    let rows = tx
        .rows(
            "SELECT o.id, o.schedule, o.outcome, o.reason, o.deliveries, o.nominal_at,
                    o.targets IS NULL,
                    (SELECT count(*) FROM delivery d
                     WHERE d.key >= 'occurrence/' || o.id || '/'
                       AND d.key < 'occurrence/' || o.id || '0')
             FROM occurrence o WHERE o.id > $1 ORDER BY o.id LIMIT $2",
            params![after, limit],
        )
        .await?;
    let read = |row| {
        Ok(Occurrence {
            id: get(row, 0)?,
            schedule: get(row, 1)?,
            outcome: get(row, 2)?,
            reason: get(row, 3)?,
            says: get(row, 4)?,
            at: instant(row, 5)?,
            expanded: get(row, 6)?,
            has: get(row, 7)?,
        })
    };
    rows.iter().map(read).collect()
}

pub(super) async fn occurrences(tx: &Tx<'_>, after: &str, limit: i64) -> Result<Batch> {
    let page = page(tx, after, limit).await?;
    let mut batch = beside_lines(tx, &page, TOLD).await?;
    batch.tell(page.iter().filter(|one| one.has > one.says).map(|one| {
        format!("the occurrence {} has {} deliveries and says {}", one.id, one.has, one.says)
    }));
    batch.tell(
        page.iter()
            .filter(|one| one.outcome != "fired" && one.has > 0)
            .map(|one| format!("the occurrence {} is {} and has deliveries", one.id, one.outcome)),
    );
    let unfounded = |one: &&Occurrence| {
        let known = ["fired", "skipped", "missed"].contains(&one.outcome.as_str());
        !known || (one.outcome == "fired") != one.reason.is_none()
    };
    batch.tell(page.iter().filter(unfounded).map(|one| {
        let reason = one.reason.as_deref().unwrap_or("nothing");
        format!("the occurrence {} is {} because of {reason}", one.id, one.outcome)
    }));
    let mut schedules: Vec<String> = page.iter().map(|one| one.schedule.clone()).collect();
    schedules.sort_unstable();
    schedules.dedup();
    let runs = lines_of(tx, "range", &schedules).await?;
    batch.tell(unreadable(&runs));
    let in_a_run = |one: &&Occurrence| {
        let at = one.at.to_string();
        !one.id.ends_with(MANUAL)
            && runs.iter().any(|run| {
                run.id == one.schedule
                    && run.word("from").is_some_and(|from| from <= at.as_str())
                    && run.word("to").is_some_and(|to| to >= at.as_str())
            })
    };
    batch.tell(
        page.iter()
            .filter(in_a_run)
            .map(|one| format!("the instant of {} lies in a run, too", one.id)),
    );
    Ok(batch)
}

/// Occurrences beside their last lines, and nothing else.
pub(super) async fn strays(tx: &Tx<'_>, after: &str, limit: i64) -> Result<Batch> {
    let page = page(tx, after, limit).await?;
    beside_lines(tx, &page, usize::MAX).await
}

async fn beside_lines(tx: &Tx<'_>, page: &[Occurrence], at_most: usize) -> Result<Batch> {
    let until = page.last().map(|one| one.id.clone());
    let mut batch = Batch { until, looked_at: page.len(), found: Vec::new() };
    // While it is expanded its number falls, and is told at the end.
    let expanded = || page.iter().filter(|one| one.expanded);
    let ids: Vec<String> = expanded().map(|one| one.id.clone()).collect();
    let last = last_lines(tx, "occurrence", &ids).await?;
    batch.tell(unreadable(last.values()));
    let differing = expanded().filter_map(|one| {
        let line = last.get(&one.id);
        let outcome = line.and_then(|line| line.word("outcome"));
        let deliveries = line.and_then(|line| line.count("deliveries"));
        (outcome != Some(&one.outcome) || deliveries != Some(one.says)).then(|| {
            format!(
                "the occurrence {} is {} with {} deliveries, its last line says {} with {}",
                one.id,
                one.outcome,
                one.says,
                outcome.unwrap_or("nothing"),
                deliveries.map_or_else(|| "none".to_owned(), |n| n.to_string()),
            )
        })
    });
    batch.found.extend(differing.take(at_most));
    Ok(batch)
}

/// The runs of schedules, and how many instants these missed.
pub(super) async fn schedules(tx: &Tx<'_>, after: &str, limit: i64) -> Result<Batch> {
    let rows = tx
        .rows(
            "SELECT s.key, s.missed,
                    (SELECT count(*) FROM occurrence o
                     WHERE o.schedule = s.key AND o.outcome = 'missed')
             FROM schedule s WHERE s.key > $1 ORDER BY s.key LIMIT $2",
            params![after, limit],
        )
        .await?;
    let mut schedules: Vec<(String, i64, i64)> = Vec::with_capacity(rows.len());
    for row in &rows {
        schedules.push((get(row, 0)?, get(row, 1)?, get(row, 2)?));
    }
    let keys: Vec<String> = schedules.iter().map(|(key, ..)| key.clone()).collect();
    let until = keys.last().cloned();
    let mut batch = Batch { until, looked_at: keys.len(), found: Vec::new() };
    let runs = lines_of(tx, "range", &keys).await?;
    batch.tell(unreadable(&runs));
    batch.tell(schedules.iter().flat_map(|(key, ..)| twice(key, &runs)));
    batch.tell(schedules.iter().filter_map(|(key, says, beside)| {
        let missed =
            runs.iter().filter(|run| run.id == *key && run.word("outcome") == Some("missed"));
        let has = beside + missed.filter_map(|run| run.count("count")).sum::<i64>();
        (has != *says).then(|| {
            format!("the schedule {key} says that {says} were missed, a recount finds {has}")
        })
    }));
    Ok(batch)
}

/// Runs of one schedule that begin before an earlier one is over.
fn twice(key: &str, runs: &[Told]) -> Vec<String> {
    let mut spans: Vec<(&str, &str)> = runs
        .iter()
        .filter(|run| run.id == key)
        .filter_map(|run| run.word("from").zip(run.word("to")))
        .collect();
    spans.sort_by_key(|(from, _)| *from);
    let mut reached = "";
    let mut found = Vec::new();
    for (from, to) in spans {
        if from <= reached {
            found.push(format!("{key}@{from} lies in two runs"));
        }
        reached = reached.max(to);
    }
    found
}
