//! Which schedules there are from now on. Rare, so whoever adopts has all schedules for itself: no
//! cursor moves meanwhile. Fires nothing.

use std::collections::BTreeMap;

use imbabot_core::Timestamp;

use super::{expand, forget, ranges, read_cursors, take_back_missed};
use crate::error::Result;
use crate::outbox::DeadReason;
use crate::postgres::lane::Lanes;
use crate::postgres::row::get;
use crate::postgres::tx::{Tx, params};
use crate::postgres::{Bodies, outbox};
use crate::schedules::{AdoptSchedule, Cursor, OccurrenceOutcome, REANCHORED_BEYOND};

/// So many schedules are written with one statement.
const BATCH: usize = 1_000;
/// So many deliveries are cancelled in one transaction.
const CANCELLED: usize = 1_000;

/// What came of it.
pub(super) struct Adopted {
    pub(super) cursors: Vec<Cursor>,
    /// Behind which delivery there are more to be cancelled.
    pub(super) uncancelled: Option<i64>,
}

/// What is known of a schedule.
struct Known {
    definition: String,
    through: i64,
    present: bool,
}

pub(super) async fn adopt(
    tx: &Tx<'_>,
    now: Timestamp,
    schedules: &[AdoptSchedule],
    bodies: Bodies,
) -> Result<Adopted> {
    have_all(tx).await?;
    let known = known(tx).await?;
    // Where a key comes twice, the last one counts.
    let wanted: BTreeMap<&str, &str> =
        schedules.iter().map(|new| (new.key.as_str(), new.definition.as_str())).collect();
    let gone: Vec<&str> = known
        .iter()
        .filter(|(key, known)| known.present && !wanted.contains_key(key.as_str()))
        .map(|(key, _)| key.as_str())
        .collect();
    tx.execute("UPDATE schedule SET present = FALSE WHERE key = ANY($1)", params![gone]).await?;
    let (mut reanchored, mut changed) = (Vec::new(), Vec::new());
    for (key, definition) in wanted {
        let through = match known.get(key) {
            Some(known) if Timestamp::from_micros(known.through) > now + REANCHORED_BEYOND => {
                reanchored.push(key);
                now.as_micros()
            }
            Some(known) if known.definition == definition && known.present => continue,
            // Edited, or back after it was removed: nothing is backfilled. Never back either: what
            // fired under the old rule cannot fire again under the new one.
            Some(known) => known.through.max(now.as_micros()),
            None => now.as_micros(),
        };
        changed.push((key, definition, through));
    }
    for part in reanchored.chunks(BATCH) {
        retract(tx, now, part).await?;
    }
    for part in changed.chunks(BATCH) {
        let keys: Vec<&str> = part.iter().map(|(key, _, _)| *key).collect();
        let definitions: Vec<&str> = part.iter().map(|(_, definition, _)| *definition).collect();
        let through: Vec<i64> = part.iter().map(|(_, _, through)| *through).collect();
        tx.execute(
            "INSERT INTO schedule (key, definition, fired_through)
             SELECT * FROM unnest($1, $2, $3)
             ON CONFLICT (key) DO UPDATE SET definition = excluded.definition,
                 fired_through = excluded.fired_through, present = TRUE",
            params![keys, definitions, through],
        )
        .await?;
    }
    // Before it is asked what is queued: whoever was about to queue more is done then.
    let unserved = expand::lock_unserved(tx).await?;
    let uncancelled = cancel_some(tx, now, i64::MIN, bodies).await?;
    expand::give_up(tx, now, &unserved, "removed").await?;
    let mut cursors = read_cursors(tx).await?;
    for cursor in &mut cursors {
        cursor.reanchored = reanchored.binary_search(&cursor.key.as_str()).is_ok();
    }
    Ok(Adopted { cursors, uncancelled })
}

/// Cancels what is queued for schedules that are not there, behind this delivery; behind which one
/// there is more.
pub(super) async fn cancel_queued(
    tx: &Tx<'_>,
    now: Timestamp,
    after: i64,
    bodies: Bodies,
) -> Result<Option<i64>> {
    have_all(tx).await?;
    cancel_some(tx, now, after, bodies).await
}

/// Waits until no schedule is changed, and keeps others from it until the transaction ends. Reading is
/// hindered by nothing.
async fn have_all(tx: &Tx<'_>) -> Result<()> {
    tx.batch("LOCK TABLE schedule IN EXCLUSIVE MODE").await
}

async fn known(tx: &Tx<'_>) -> Result<BTreeMap<String, Known>> {
    let rows =
        tx.rows("SELECT key, definition, fired_through, present FROM schedule", params![]).await?;
    let known = |row| {
        let known =
            Known { definition: get(row, 1)?, through: get(row, 2)?, present: get(row, 3)? };
        Ok((get(row, 0)?, known))
    };
    rows.iter().map(known).collect()
}

async fn cancel_some(
    tx: &Tx<'_>,
    now: Timestamp,
    after: i64,
    bodies: Bodies,
) -> Result<Option<i64>> {
    let rows = tx
        .rows(
            "SELECT d.seq FROM delivery d
             WHERE d.open AND d.state = 'queued' AND d.schedule IS NOT NULL AND d.seq > $1
               AND NOT EXISTS (SELECT 1 FROM schedule s WHERE s.key = d.schedule AND s.present)
             ORDER BY d.seq LIMIT $2",
            params![after, i64::try_from(CANCELLED).unwrap_or(i64::MAX)],
        )
        .await?;
    let queued: Vec<i64> = rows.iter().map(|row| get(row, 0)).collect::<Result<_>>()?;
    let lanes = Lanes::of(tx, &queued).await?;
    lanes.lock(tx).await?;
    // Some may have left meanwhile.
    let rows = tx
        .rows(
            "SELECT seq FROM delivery WHERE seq = ANY($1) AND state = 'queued' ORDER BY seq",
            params![queued],
        )
        .await?;
    let waiting: Vec<i64> = rows.iter().map(|row| get(row, 0)).collect::<Result<_>>()?;
    outbox::finish_all(tx, now, &waiting, DeadReason::Cancelled, bodies).await?;
    // Those in which nothing was cancelled after all.
    lanes.refresh(tx, now).await?;
    Ok(queued.last().copied().filter(|_| queued.len() == CANCELLED))
}

/// The clock was far ahead, and instants were left out that are still to come: that is taken back,
/// so that they can fire. What fired stays.
async fn retract(tx: &Tx<'_>, now: Timestamp, keys: &[&str]) -> Result<()> {
    let mut fewer: BTreeMap<String, u64> = BTreeMap::new();
    let rows = tx
        .rows(
            "SELECT id, schedule, outcome = 'missed' FROM occurrence
             WHERE schedule = ANY($1) AND nominal_at > $2 AND outcome <> 'fired'
               -- What fired and reached nobody in the end has fired.
               AND position = 0 AND reason NOT IN ('overlap', 'removed')
               AND id NOT LIKE '%!manual'
             ORDER BY id FOR UPDATE",
            params![keys, now.as_micros()],
        )
        .await?;
    let mut left_out: Vec<String> = Vec::new();
    for row in &rows {
        left_out.push(get(row, 0)?);
        if get(row, 2)? {
            *fewer.entry(get(row, 1)?).or_default() += 1;
        }
    }
    forget(tx, &left_out).await?;
    let mut ahead: Vec<i64> = Vec::new();
    for (seq, run) in ranges(tx, keys).await? {
        if run.from <= now || run.outcome == OccurrenceOutcome::Fired {
            continue;
        }
        ahead.push(seq);
        if run.outcome == OccurrenceOutcome::Missed {
            let of = fewer.entry(run.schedule).or_default();
            *of = of.saturating_add(run.count);
        }
    }
    tx.execute("DELETE FROM ledger WHERE seq = ANY($1)", params![ahead]).await?;
    let keys: Vec<&str> = fewer.keys().map(String::as_str).collect();
    take_back_missed(tx, &keys, &fewer.values().copied().collect::<Vec<_>>()).await
}
