//! What is older than the retention goes: a record together with all its lines, in one transaction,
//! so that what can be read is always whole. No identity is lost: a schedule's cursor stays, and its
//! old occurrences become runs that still account for every instant. One instance prunes at a time, and
//! what others have in hand is left to the next time.

mod runs;

use imbabot_bot::DeliveryId;
use imbabot_core::Timestamp;

use super::row::{get, id};
use super::tx::{Tx, params};
use crate::error::Result;

/// Finished records older than `before`, oldest first, at most `limit` of each kind. The cursors
/// stay, so no instant fires again; a caller's key may be used again after its retention, as
/// documented. What still waits, is unknown or was poisoned stays, with its whole history.
pub(super) async fn prune(
    tx: &Tx<'_>,
    now: Timestamp,
    before: Timestamp,
    limit: usize,
) -> Result<u64> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let bound = before.as_micros();
    let turn = tx.maybe("SELECT 1 FROM edition FOR UPDATE SKIP LOCKED", params![]).await?;
    if turn.is_none() {
        return Ok(0);
    }
    // Schedules are locked before deliveries, as everywhere.
    let mut gone = runs::compact(tx, now, bound, limit).await?;
    gone += deliveries(tx, bound, limit).await?;
    gone += rates(tx, bound).await?;
    gone += inbox(tx, bound, limit).await?;
    // What is about no record that is kept here: acts on schedules and pauses. Runs of the program
    // and runs of occurrences stay: each is a line, and what they tell is told nowhere else.
    gone += tx
        .execute(
            "DELETE FROM ledger WHERE seq IN (SELECT seq FROM ledger
                 WHERE at < $1 AND kind = 'operator'
                   AND id NOT LIKE 'delivery/%' AND id NOT LIKE 'event/%' ORDER BY at LIMIT $2)",
            params![bound, limit],
        )
        .await?;
    Ok(gone)
}

/// Stretches in which nothing was sent. By itself: claims and this wait for each other.
pub(super) async fn stoppages(tx: &Tx<'_>, before: Timestamp) -> Result<u64> {
    let bound = before.as_micros();
    let old = tx.maybe("SELECT 1 FROM stoppage WHERE until < $1 LIMIT 1", params![bound]).await?;
    if old.is_none() {
        return Ok(0);
    }
    tx.execute("DELETE FROM stoppage WHERE until < $1", params![bound]).await
}

async fn deliveries(tx: &Tx<'_>, bound: i64, limit: i64) -> Result<u64> {
    let ended = tx
        .rows(
            "SELECT id FROM delivery
             WHERE state IN ('delivered', 'dead') AND created_at < $1 AND ended_at < $1
             ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED",
            params![bound, limit],
        )
        .await?;
    if ended.is_empty() {
        return Ok(0);
    }
    let ended = ended.iter().map(|row| id(row, 0)).collect::<Result<Vec<DeliveryId>>>()?;
    let ids: Vec<&[u8]> = ended.iter().map(|id| id.as_bytes().as_slice()).collect();
    let attempts = tx
        .rows("DELETE FROM attempt WHERE delivery = ANY($1) RETURNING delivery, n", params![ids])
        .await?;
    tx.execute("DELETE FROM delivery WHERE id = ANY($1)", params![ids]).await?;
    // Their own lines, those of their attempts and those of operators.
    let mut lines = Vec::with_capacity(2 * ended.len() + attempts.len());
    for id in &ended {
        lines.push(id.to_string());
        lines.push(format!("delivery/{id}"));
    }
    for row in &attempts {
        lines.push(format!("{}/{}", id(row, 0)?, get::<i64>(row, 1)?));
    }
    tx.execute("DELETE FROM ledger WHERE id = ANY($1)", params![lines]).await?;
    Ok(ended.len() as u64)
}

/// A place in the rates that has long passed holds nothing back.
async fn rates(tx: &Tx<'_>, bound: i64) -> Result<u64> {
    tx.execute(
        "DELETE FROM rate WHERE key IN (
             SELECT key FROM rate WHERE tat < $1 FOR UPDATE SKIP LOCKED)",
        params![bound],
    )
    .await
}

/// An event goes with the last of its entries.
async fn inbox(tx: &Tx<'_>, bound: i64, limit: i64) -> Result<u64> {
    let ended = tx
        .rows(
            "WITH ended AS MATERIALIZED (
                 SELECT bot, event FROM inbox
                 WHERE state IN ('handled', 'ignored') AND ended_at < $1
                 ORDER BY ended_at LIMIT $2 FOR UPDATE SKIP LOCKED
             )
             DELETE FROM inbox i USING ended e WHERE i.bot = e.bot AND i.event = e.event
             RETURNING i.bot, i.event",
            params![bound, limit],
        )
        .await?;
    if ended.is_empty() {
        return Ok(0);
    }
    let (mut events, mut entries, mut acts) = (Vec::new(), Vec::new(), Vec::new());
    for row in &ended {
        let (bot, event): (&str, i64) = (get(row, 0)?, get(row, 1)?);
        events.push(event);
        entries.push(format!("e{event}/{bot}"));
        acts.push(format!("event/e{event}/{bot}"));
    }
    // Nobody else removes entries at this time: whoever prunes is alone.
    tx.execute(
        "DELETE FROM event e WHERE e.seq = ANY($1)
           AND NOT EXISTS (SELECT 1 FROM inbox i WHERE i.event = e.seq)",
        params![events],
    )
    .await?;
    tx.execute("DELETE FROM ledger WHERE id = ANY($1) AND kind = 'event'", params![entries])
        .await?;
    tx.execute("DELETE FROM ledger WHERE id = ANY($1)", params![acts]).await?;
    Ok(ended.len() as u64)
}
