//! What time alone moves. Any instance may do it; what another one is in the middle of is left to it.

use std::time::Duration;

use imbabot_core::Timestamp;

use super::rate;
use super::step::Step;
use crate::error::Result;
use crate::lifecycle::Settle;
use crate::outbox::{DeadReason, DeliveryState};
use crate::postgres::Bodies;
use crate::postgres::lane::Lanes;
use crate::postgres::row::{get, instant_or_none};
use crate::postgres::tx::{Tx, params};
use crate::rules::micros;

/// A lane that another transaction has is looked at again after this.
pub(super) const SOON: Duration = Duration::from_millis(50);

pub(super) async fn sweep(
    tx: &Tx<'_>,
    now: Timestamp,
    settle: Settle,
    limit: usize,
    bodies: Bodies,
) -> Result<(u64, Option<Timestamp>)> {
    // What became unknown under a clock that was ahead waits from now on, by the clock that counts now.
    tx.execute(
        "UPDATE delivery d SET unknown_since = $1, 
                resend_at = CASE WHEN d.resend_at IS NOT NULL THEN least(d.resend_at, $2) END
         FROM (SELECT seq FROM delivery WHERE state = 'unknown' AND unknown_since > $3
               ORDER BY seq FOR UPDATE SKIP LOCKED) AS k
         WHERE d.seq = k.seq",
        params![now.as_micros(), (now + settle.wait).as_micros(), (now + rate::SKEW).as_micros()],
    )
    .await?;
    let given_up = now - settle.unresolved_after;
    let seqs = due(tx, now, given_up, limit).await?;
    let mut step = Step::new(now, bodies);
    let lanes = Lanes::of(tx, &seqs).await?;
    let ours = lanes.lock_free(tx).await?;
    let skipped = ours.len() < lanes.len();
    step.load(tx, &seqs).await?;
    step.rows.retain(|_, row| ours.has(&row.lane()));
    let mut moved = 0;
    for seq in seqs {
        // As it stands under the lock of its lane.
        let Some(row) = step.rows.get(&seq) else { continue };
        let state = row.record.state;
        if state == DeliveryState::Queued && row.record.expires_at <= now {
            step.end(seq, DeadReason::Expired)?;
        } else if row.resend_at.is_some_and(|at| at <= now) {
            step.resend(seq)?;
        } else if state == DeliveryState::Unknown
            && row.unknown_since.is_some_and(|since| since <= given_up)
        {
            step.end(seq, DeadReason::Unresolved)?;
        } else {
            continue;
        }
        moved += 1;
    }
    step.commit(tx, &ours).await?;
    let row = tx
        .row(
            "SELECT min(at) FROM (
                 SELECT min(expires_at) AS at FROM delivery WHERE state = 'queued'
                 UNION ALL SELECT min(resend_at) FROM delivery WHERE resend_at IS NOT NULL
                 UNION ALL SELECT min(unknown_since) + $1 FROM delivery WHERE state = 'unknown'
             ) AS instants",
            params![micros(settle.unresolved_after)],
        )
        .await?;
    let next = instant_or_none(&row, 0)?;
    Ok((moved, next.map(|next| if skipped { next.max(now + SOON) } else { next })))
}

/// What seems to be due, at most so many: first what has expired, then what is to be repeated, then what
/// is given up.
async fn due(tx: &Tx<'_>, now: Timestamp, given_up: Timestamp, limit: usize) -> Result<Vec<i64>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = tx
        .rows(
            "SELECT seq FROM (
                 (SELECT seq, 1 AS list, expires_at AS at FROM delivery
                  WHERE state = 'queued' AND expires_at <= $1 ORDER BY expires_at LIMIT $3)
                 UNION ALL
                 (SELECT seq, 2, resend_at FROM delivery
                  WHERE resend_at IS NOT NULL AND resend_at <= $1 ORDER BY resend_at LIMIT $3)
                 UNION ALL
                 (SELECT seq, 3, unknown_since FROM delivery
                  WHERE state = 'unknown' AND unknown_since <= $2
                    AND (resend_at IS NULL OR resend_at > $1)
                  ORDER BY unknown_since LIMIT $3)
             ) AS due ORDER BY list, at LIMIT $3",
            params![now.as_micros(), given_up.as_micros(), limit],
        )
        .await?;
    rows.iter().map(|row| get(row, 0)).collect()
}
