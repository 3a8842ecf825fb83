//! What has to hold between the records of a store, looked at a few hundred records at a time: each
//! batch is a short transaction that only reads and sees one instant, and nothing is remembered from
//! one to the next but where it stopped. Lines are decoded here and not by the database, which would
//! give up at the first that is none. Mends nothing.
//!
//! What only the whole of the ledger can tell (that a run of the program was told of before it ended,
//! that a record never changed what it is) is left to `ledger verify`.

mod attempts;
mod calendar;
mod deliveries;
mod rest;

use std::collections::HashMap;

use serde_json::Value;

use super::link::Link;
use super::row::get;
use super::tx::{Tx, params};
use crate::error::Result;
use crate::ledger::{Inspected, InspectionMark};

/// So many sentences of one kind and batch are told: one is enough to stop trusting the store.
const TOLD: usize = 5;
/// Walks over one table each, one after the other.
const WALKS: usize = 7;
/// Records of one batch where all are held against their last lines.
const BATCH: i64 = 1_000;

/// What one batch of a walk came to.
#[derive(Default)]
struct Batch {
    /// The last key of the batch; none if there was nothing more.
    until: Option<String>,
    looked_at: usize,
    found: Vec<String>,
}

impl Batch {
    fn tell(&mut self, kind: impl IntoIterator<Item = String>) {
        self.found.extend(kind.into_iter().take(TOLD));
    }
}

/// Looks at the batch at `mark`.
pub(super) async fn inspect(tx: &Tx<'_>, mark: &InspectionMark, limit: usize) -> Result<Inspected> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX).max(1);
    let after = mark.after.as_deref();
    let batch = match mark.walk {
        0 => deliveries::walk(tx, number(after), limit).await?,
        1 => attempts::walk(tx, after.unwrap_or_default(), limit).await?,
        2 => calendar::occurrences(tx, after.unwrap_or_default(), limit).await?,
        3 => calendar::schedules(tx, after.unwrap_or_default(), limit).await?,
        4 => rest::events(tx, number(after), limit).await?,
        5 => rest::lines(tx, number(after), limit).await?,
        // Counted in one go: a count of parts that change meanwhile is none.
        6 if after.is_none() => rest::counts(tx).await?,
        _ => Batch::default(),
    };
    let next = match batch.until {
        Some(until) => Some(InspectionMark { walk: mark.walk, after: Some(until) }),
        None => Some(InspectionMark { walk: mark.walk + 1, after: None })
            .filter(|next| next.walk < WALKS),
    };
    Ok(Inspected { looked_at: batch.looked_at as u64, found: batch.found, next })
}

/// Each record beside its last line, and each delivery that has not ended beside its record. Both are
/// written, and go, in one transaction, so nothing but damage or a hand in the database makes them
/// differ.
pub(super) async fn strays(link: &Link, limit: usize) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for kind in 0..4 {
        let (mut after, mut of_kind) = (None, Vec::new());
        while of_kind.len() < limit {
            let batch = link
                .read(async move |tx| {
                    let text = after.as_deref();
                    match kind {
                        0 => deliveries::strays(tx, number(text), BATCH).await,
                        1 => attempts::strays(tx, text.unwrap_or_default(), BATCH).await,
                        2 => calendar::strays(tx, text.unwrap_or_default(), BATCH).await,
                        _ => rest::orphans(tx, number(text), BATCH).await,
                    }
                })
                .await?;
            of_kind.extend(batch.found);
            let Some(until) = batch.until else { break };
            after = Some(until);
        }
        of_kind.truncate(limit);
        found.extend(of_kind);
    }
    Ok(found)
}

fn number(after: Option<&str>) -> i64 {
    after.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// A line; `None` in place of what cannot be read.
struct Told {
    id: String,
    body: Option<Value>,
}

impl Told {
    fn word(&self, field: &str) -> Option<&str> {
        self.body.as_ref()?.get(field)?.as_str()
    }

    fn flag(&self, field: &str) -> bool {
        self.body.as_ref().and_then(|body| body.get(field)?.as_bool()).unwrap_or(false)
    }

    fn count(&self, field: &str) -> Option<i64> {
        self.body.as_ref()?.get(field)?.as_i64()
    }
}

/// All lines of a kind that were appended under these ids, by id and in their order.
async fn lines_of(tx: &Tx<'_>, kind: &str, ids: &[String]) -> Result<Vec<Told>> {
    select(
        tx,
        "SELECT id, body FROM ledger WHERE id = ANY($1) AND kind = $2 ORDER BY id, seq",
        kind,
        ids,
    )
    .await
}

/// The last line of each id.
async fn last_lines(tx: &Tx<'_>, kind: &str, ids: &[String]) -> Result<HashMap<String, Told>> {
    let sql = "SELECT DISTINCT ON (id) id, body FROM ledger WHERE id = ANY($1) AND kind = $2
               ORDER BY id, seq DESC";
    let lines = select(tx, sql, kind, ids).await?;
    Ok(lines.into_iter().map(|line| (line.id.clone(), line)).collect())
}

async fn select(tx: &Tx<'_>, sql: &str, kind: &str, ids: &[String]) -> Result<Vec<Told>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = tx.rows(sql, params![ids, kind]).await?;
    rows.iter()
        .map(|row| Ok(Told { id: get(row, 0)?, body: serde_json::from_str(get(row, 1)?).ok() }))
        .collect()
}

/// That one of these lines cannot be read, once.
fn unreadable<'a>(lines: impl IntoIterator<Item = &'a Told>) -> Option<String> {
    let mut lines = lines.into_iter();
    lines.any(|line| line.body.is_none()).then(|| "a line of the ledger cannot be read".to_owned())
}
