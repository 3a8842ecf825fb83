//! What is older than the retention goes: a record together with all its lines, in one transaction,
//! so that what can be read is always whole. No identity is lost: a schedule's cursor stays, and its
//! old occurrences become runs that still account for every instant.

use imbabot_bot::DeliveryId;
use imbabot_core::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::{journal, schedules};
use crate::error::Result;
use crate::schedules::{MANUAL, OccurrenceOutcome, RangeRecord};

/// Finished records older than `before`, oldest first, at most `limit` of each kind. The cursors
/// stay, so no instant fires again; a caller's key may be used again after its retention, as
/// documented. What still waits, is unknown or was poisoned stays, with its whole history.
pub(super) fn prune(
    tx: &Connection,
    now: Timestamp,
    before: Timestamp,
    limit: usize,
) -> Result<u64> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let bound = before.as_micros();
    let mut gone = deliveries(tx, bound, limit)?;
    gone += inbox(tx, bound, limit)?;
    gone += compact(tx, now, bound, limit)?;
    // What is about no record that is kept here: acts on schedules and pauses. Runs of the program
    // and runs of occurrences stay: each is a line, and what they tell is told nowhere else.
    gone += tx.execute(
        "DELETE FROM ledger WHERE seq IN (SELECT seq FROM ledger
             WHERE at < ?1 AND kind = 'operator'
               AND id NOT LIKE 'delivery/%' AND id NOT LIKE 'event/%' ORDER BY at LIMIT ?2)",
        params![bound, limit],
    )?;
    gone += tx.execute("DELETE FROM rate WHERE tat < ?1", [bound])?;
    gone += tx.execute("DELETE FROM stoppage WHERE until < ?1", [bound])?;
    Ok(gone as u64)
}

fn deliveries(tx: &Connection, bound: i64, limit: i64) -> Result<usize> {
    let ended: Vec<[u8; 16]> = tx
        .prepare_cached(
            "SELECT id FROM delivery
             WHERE state IN ('delivered', 'dead') AND created_at < ?1 AND ended_at < ?1
             ORDER BY created_at LIMIT ?2",
        )?
        .query_map(params![bound, limit], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for id in &ended {
        tx.prepare_cached("DELETE FROM attempt WHERE delivery = ?1")?.execute([id])?;
        tx.prepare_cached("DELETE FROM delivery WHERE id = ?1")?.execute([id])?;
        let name = DeliveryId::from_bytes(*id).to_string();
        // Its own lines and, behind a slash, those of its attempts.
        tx.prepare_cached("DELETE FROM ledger WHERE id >= ?1 AND id < ?1 || '0'")?
            .execute([&name])?;
        tx.prepare_cached("DELETE FROM ledger WHERE id = 'delivery/' || ?1")?.execute([&name])?;
    }
    Ok(ended.len())
}

/// An event goes with the last of its entries.
fn inbox(tx: &Connection, bound: i64, limit: i64) -> Result<usize> {
    let ended: Vec<(String, i64)> = tx
        .prepare_cached(
            "SELECT bot, event FROM inbox WHERE state IN ('handled', 'ignored') AND ended_at < ?1
             ORDER BY ended_at LIMIT ?2",
        )?
        .query_map(params![bound, limit], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for (bot, event) in &ended {
        tx.prepare_cached("DELETE FROM inbox WHERE bot = ?1 AND event = ?2")?
            .execute(params![bot, event])?;
        tx.prepare_cached(
            "DELETE FROM event WHERE seq = ?1
               AND NOT EXISTS (SELECT 1 FROM inbox WHERE event = ?1)",
        )?
        .execute([event])?;
        let name = format!("e{event}/{bot}");
        tx.prepare_cached("DELETE FROM ledger WHERE id = ?1 AND kind = 'event'")?
            .execute([&name])?;
        tx.prepare_cached("DELETE FROM ledger WHERE id = 'event/' || ?1")?.execute([&name])?;
    }
    Ok(ended.len())
}

/// Old occurrences become runs: neighbours that ended alike, with nothing else of their schedule
/// between them. One that an operator triggered belongs to no run.
fn compact(tx: &Connection, now: Timestamp, bound: i64, limit: i64) -> Result<usize> {
    struct Old {
        id: String,
        schedule: String,
        at: i64,
        outcome: OccurrenceOutcome,
        reason: Option<String>,
    }
    let mut old = Vec::new();
    let mut statement = tx.prepare_cached(
        "SELECT id, schedule, nominal_at, outcome, reason FROM occurrence
         WHERE targets IS NULL AND recorded_at < ?1 ORDER BY recorded_at LIMIT ?2",
    )?;
    let mut rows = statement.query(params![bound, limit])?;
    while let Some(row) = rows.next()? {
        let outcome = journal::parsed(row, 3)?;
        let (id, schedule) = (row.get(0)?, row.get(1)?);
        old.push(Old { id, schedule, at: row.get(2)?, outcome, reason: row.get(4)? });
    }
    old.iter().try_for_each(|one| schedules::forget(tx, &one.id))?;
    let gone = old.len();
    old.retain(|one| !one.id.ends_with(MANUAL));
    old.sort_by(|a, b| (&a.schedule, a.at).cmp(&(&b.schedule, b.at)));
    let mut runs: Vec<RangeRecord> = Vec::new();
    // What the ledger has of one schedule is read once for all of its occurrences.
    let mut earlier: Option<Earlier> = None;
    for one in old {
        let earlier = match &mut earlier {
            Some(earlier) if earlier.schedule == one.schedule => earlier,
            other => other.insert(Earlier::of(tx, &one.schedule)?),
        };
        let (schedule, outcome, at) = (one.schedule, one.outcome, Timestamp::from_micros(one.at));
        let reason = one.reason.unwrap_or_else(|| "retention".into());
        match runs.last_mut() {
            Some(run)
                if (&run.schedule, run.outcome, &run.reason) == (&schedule, outcome, &reason)
                    && !earlier.anything_between(tx, run.to, at)? =>
            {
                run.to = at;
                run.count += 1;
            }
            _ => runs.push(RangeRecord { schedule, outcome, reason, from: at, to: at, count: 1 }),
        }
    }
    for run in runs {
        journal::range(tx, now, &continued(tx, run)?)?;
    }
    Ok(gone)
}

/// The runs that a schedule has already.
struct Earlier {
    schedule: String,
    begins: Vec<Timestamp>,
}

impl Earlier {
    fn of(tx: &Connection, schedule: &str) -> Result<Self> {
        let begins: Vec<Option<String>> = tx
            .prepare_cached("SELECT body ->> 'from' FROM ledger WHERE id = ?1 AND kind = 'range'")?
            .query_map([schedule], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        // One that cannot be read is told by whoever verifies the ledger.
        let begins = begins.into_iter().flatten().filter_map(|begin| begin.parse().ok()).collect();
        Ok(Self { schedule: schedule.to_owned(), begins })
    }

    fn anything_between(&self, tx: &Connection, from: Timestamp, to: Timestamp) -> Result<bool> {
        if self.begins.iter().any(|begin| from < *begin && *begin < to) {
            return Ok(true);
        }
        Ok(tx
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM occurrence
                     WHERE schedule = ?1 AND nominal_at > ?2 AND nominal_at < ?3
                       AND id NOT LIKE '%!manual')",
            )?
            .query_row(params![self.schedule, from.as_micros(), to.as_micros()], |row| {
                row.get(0)
            })?)
    }
}

/// A run that goes on where an earlier one of its kind ended takes that one's place: a schedule that
/// always fires is one line after years.
fn continued(tx: &Connection, run: RangeRecord) -> Result<RangeRecord> {
    let last: Option<(i64, String)> = tx
        .prepare_cached(
            "SELECT seq, body FROM ledger WHERE id = ?1 AND kind = 'range'
               AND body ->> 'to' < ?2 AND body ->> 'outcome' = ?3 AND body ->> 'reason' = ?4
             ORDER BY body ->> 'to' DESC LIMIT 1",
        )?
        .query_row(
            params![run.schedule, run.from.to_string(), run.outcome.as_str(), run.reason],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    let Some((seq, body)) = last else { return Ok(run) };
    let earlier: RangeRecord = journal::from_json(&body)?;
    if Earlier::of(tx, &run.schedule)?.anything_between(tx, earlier.to, run.from)? {
        return Ok(run);
    }
    tx.prepare_cached("DELETE FROM ledger WHERE seq = ?1")?.execute([seq])?;
    Ok(RangeRecord { from: earlier.from, count: earlier.count + run.count, ..run })
}
