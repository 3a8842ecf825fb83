//! Old occurrences become runs: neighbours that ended alike, with nothing else of their schedule
//! between them. One that an operator triggered belongs to no run.

use std::collections::{BTreeMap, BTreeSet};

use imbabot_core::Timestamp;

use crate::error::Result;
use crate::postgres::journal::Lines;
use crate::postgres::row::{from_json, get, parsed};
use crate::postgres::schedules;
use crate::postgres::tx::{Tx, params};
use crate::schedules::{MANUAL, OccurrenceOutcome, RangeRecord};

/// An occurrence that goes.
struct Old {
    id: String,
    schedule: String,
    at: i64,
    outcome: OccurrenceOutcome,
    reason: Option<String>,
}

/// What is known of a schedule beside what goes.
#[derive(Default)]
struct Rest {
    /// The instants of occurrences that stay.
    kept: BTreeSet<i64>,
    /// The runs that the ledger tells, by their lines; those without one are about to be told.
    runs: Vec<(Option<i64>, RangeRecord)>,
}

impl Rest {
    fn anything_between(&self, from: Timestamp, to: Timestamp) -> bool {
        let (after, before) = (from.as_micros().saturating_add(1), to.as_micros());
        (after < before && self.kept.range(after..before).next().is_some())
            || self.runs.iter().any(|(_, run)| run.from > from && run.from < to)
    }

    /// A run that goes on where an earlier one of its kind ended takes that one's place: a schedule
    /// that always fires is one line after years. The line that it replaces stands beside it.
    fn continued(&self, run: RangeRecord) -> (RangeRecord, Option<i64>) {
        let alike = |(line, earlier): &(Option<i64>, RangeRecord)| {
            let alike = (earlier.outcome, &earlier.reason) == (run.outcome, &run.reason);
            line.filter(|_| alike && earlier.to < run.from).map(|line| (line, earlier.clone()))
        };
        match self.runs.iter().filter_map(alike).max_by_key(|(_, earlier)| earlier.to) {
            Some((line, earlier)) if !self.anything_between(earlier.to, run.from) => {
                let count = earlier.count + run.count;
                (RangeRecord { from: earlier.from, count, ..run }, Some(line))
            }
            _ => (run, None),
        }
    }
}

/// At most `limit` of those that were recorded before `bound`; how many went.
pub(super) async fn compact(tx: &Tx<'_>, now: Timestamp, bound: i64, limit: i64) -> Result<u64> {
    let found = tx
        .rows(
            "SELECT id, schedule FROM occurrence WHERE targets IS NULL AND recorded_at < $1
             ORDER BY recorded_at LIMIT $2",
            params![bound, limit],
        )
        .await?;
    if found.is_empty() {
        return Ok(0);
    }
    let ids = found.iter().map(|row| get(row, 0)).collect::<Result<Vec<String>>>()?;
    let keys = found.iter().map(|row| get(row, 1)).collect::<Result<BTreeSet<String>>>()?;
    let keys: Vec<String> = keys.into_iter().collect();
    // Whoever fires one of them, or moves its runs, waits until they are joined.
    tx.rows("SELECT 1 FROM schedule WHERE key = ANY($1) ORDER BY key FOR UPDATE", params![keys])
        .await?;
    let rows = tx
        .rows(
            "SELECT id, schedule, nominal_at, outcome, reason FROM occurrence
             WHERE id = ANY($1) AND targets IS NULL FOR UPDATE SKIP LOCKED",
            params![ids],
        )
        .await?;
    let mut old = Vec::with_capacity(rows.len());
    for row in &rows {
        let outcome = parsed(row, 3)?;
        let (id, schedule) = (get(row, 0)?, get(row, 1)?);
        old.push(Old { id, schedule, at: get(row, 2)?, outcome, reason: get(row, 4)? });
    }
    let ids: Vec<String> = old.iter().map(|one| one.id.clone()).collect();
    schedules::forget(tx, &ids).await?;
    let gone = old.len() as u64;
    old.retain(|one| !one.id.ends_with(MANUAL));
    old.sort_by(|a, b| (&a.schedule, a.at).cmp(&(&b.schedule, b.at)));
    let mut rest = rest(tx, &old).await?;
    let (mut lines, mut replaced) = (Lines::default(), Vec::new());
    for run in runs(old, &rest) {
        let of_schedule = rest.entry(run.schedule.clone()).or_default();
        let (run, line) = of_schedule.continued(run);
        of_schedule.runs.retain(|(known, _)| line.is_none() || *known != line);
        replaced.extend(line);
        lines.range(now, &run)?;
        of_schedule.runs.push((None, run));
    }
    tx.execute("DELETE FROM ledger WHERE seq = ANY($1)", params![replaced]).await?;
    lines.append(tx).await?;
    Ok(gone)
}

/// Neighbours that ended alike, by schedule and instant.
fn runs(old: Vec<Old>, rest: &BTreeMap<String, Rest>) -> Vec<RangeRecord> {
    let mut runs: Vec<RangeRecord> = Vec::new();
    for one in old {
        let (schedule, outcome, at) = (one.schedule, one.outcome, Timestamp::from_micros(one.at));
        let reason = one.reason.unwrap_or_else(|| "retention".into());
        match runs.last_mut() {
            Some(run)
                if (&run.schedule, run.outcome, &run.reason) == (&schedule, outcome, &reason)
                    && !rest.get(&schedule).is_some_and(|r| r.anything_between(run.to, at)) =>
            {
                run.to = at;
                run.count += 1;
            }
            _ => runs.push(RangeRecord { schedule, outcome, reason, from: at, to: at, count: 1 }),
        }
    }
    runs
}

/// What stays of the schedules of what goes, as far as it can lie between.
async fn rest(tx: &Tx<'_>, old: &[Old]) -> Result<BTreeMap<String, Rest>> {
    let mut rest: BTreeMap<String, Rest> = BTreeMap::new();
    // From the end of the last run before what goes, up to the last of what goes.
    let mut spans: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    for one in old {
        let span = spans.entry(&one.schedule).or_insert((one.at, one.at));
        *span = (span.0.min(one.at), span.1.max(one.at));
    }
    let keys: Vec<&str> = spans.keys().copied().collect();
    let told = tx
        .rows(
            "SELECT seq, body FROM ledger WHERE id = ANY($1) AND kind = 'range' ORDER BY seq",
            params![keys],
        )
        .await?;
    for row in &told {
        let run: RangeRecord = from_json(get(row, 1)?)?;
        rest.entry(run.schedule.clone()).or_default().runs.push((Some(get(row, 0)?), run));
    }
    let (mut lows, mut highs) = (Vec::new(), Vec::new());
    for (key, (low, high)) in &spans {
        let first = Timestamp::from_micros(*low);
        let runs = rest.get(*key).map(|rest| rest.runs.as_slice()).unwrap_or_default();
        let before = runs.iter().map(|(_, run)| run.to).filter(|to| *to < first);
        // One of another kind that ended later lies between by itself.
        lows.push(before.max().map_or(*low, Timestamp::as_micros));
        highs.push(*high);
    }
    let kept = tx
        .rows(
            "SELECT o.schedule, o.nominal_at FROM unnest($1, $2, $3) AS k (key, low, high)
             JOIN occurrence o ON o.schedule = k.key
              AND o.nominal_at > k.low AND o.nominal_at < k.high
             WHERE right(o.id, length($4)) <> $4",
            params![keys, lows, highs, MANUAL],
        )
        .await?;
    for row in &kept {
        rest.entry(get(row, 0)?).or_default().kept.insert(get(row, 1)?);
    }
    Ok(rest)
}
