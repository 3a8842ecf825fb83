//! Acts of operators on what waits: pauses, cancellations, retries. Lanes are locked first, and what is
//! in them is looked at again: an instance may be sending meanwhile.

use std::collections::BTreeSet;

use imbabot_bot::DeliveryId;
use imbabot_core::Timestamp;
use tokio_postgres::Row;

use crate::error::Result;
use crate::explanations::Stop;
use crate::operations::{CancelFilter, OperatorRecord, RetryVerdict};
use crate::outbox::{DeadReason, DeliveryState};
use crate::postgres::journal::{self, Lines};
use crate::postgres::lane::{Lane, Lanes};
use crate::postgres::row::{get, parsed};
use crate::postgres::tx::{Tx, params};
use crate::postgres::{Bodies, explanations, outbox};
use crate::rules::{RETRY_KEEPS, no_retry};

/// So many lanes or deliveries are dealt with in one transaction: however many there are, each ends in
/// time and nobody waits for long.
const AT_ONCE: usize = 1_000;

/// Records an operator's act.
pub(in crate::postgres) async fn acted(
    tx: &Tx<'_>,
    now: Timestamp,
    verb: &str,
    target: &str,
    before: &str,
    after: &str,
) -> Result<()> {
    journal::operator(tx, &act(now, verb, target, before, after)).await
}

fn act(now: Timestamp, verb: &str, target: &str, before: &str, after: &str) -> OperatorRecord {
    OperatorRecord {
        verb: verb.into(),
        target: target.into(),
        before: before.into(),
        after: after.into(),
        at: now,
    }
}

pub(super) async fn pause(tx: &Tx<'_>, now: Timestamp, scope: &str, paused: bool) -> Result<bool> {
    let changed = if paused {
        explanations::begin(tx, scope, Stop::Paused, now, None).await?
    } else {
        // Waits, as a pause does, for who is claiming and has seen how it was: what they hold because
        // of a pause is let go after this.
        explanations::end(tx, scope, Stop::Paused, now).await?
    };
    if !changed {
        return Ok(false);
    }
    let word = |paused: bool| if paused { "paused" } else { "running" };
    let verb = if paused { "pause" } else { "resume" };
    acted(tx, now, verb, scope, word(!paused), word(paused)).await?;
    Ok(true)
}

/// Lanes that a pause of their head's bot held may go again: some of those behind this one; the last of
/// them, if there may be more.
pub(super) async fn release_lanes(
    tx: &Tx<'_>,
    now: Timestamp,
    after: Option<Lane>,
) -> Result<Option<Lane>> {
    let (widget, room, sender) =
        after.map_or((None, 0, String::new()), |l| (Some(l.widget), l.room, l.sender));
    let rows = tx
        .rows(
            "SELECT widget, room, sender FROM lane WHERE ready_at IS NULL
               AND ($1 IS NULL OR (widget, room, sender) > ($1, $2, $3))
             ORDER BY widget, room, sender LIMIT $4",
            params![widget, room, sender, i64::try_from(AT_ONCE).unwrap_or(i64::MAX)],
        )
        .await?;
    let held = rows.iter().map(Lane::read).collect::<Result<Vec<_>>>()?;
    let last = held.last().cloned().filter(|_| held.len() == AT_ONCE);
    let lanes: Lanes = held.into_iter().collect();
    lanes.lock(tx).await?;
    lanes.refresh(tx, now).await?;
    Ok(last)
}

/// A delivery as it stands while its lane is locked.
pub(super) struct Found {
    pub(super) seq: i64,
    pub(super) lane: Lane,
    pub(super) state: DeliveryState,
    ambiguous: bool,
    has_text: bool,
}

impl Found {
    pub(super) async fn lock(tx: &Tx<'_>, id: DeliveryId) -> Result<Option<Self>> {
        let bytes = id.as_bytes().to_vec();
        let seq = tx.maybe("SELECT seq FROM delivery WHERE id = $1", params![bytes]).await?;
        let Some(row) = seq else { return Ok(None) };
        let seq = get(&row, 0)?;
        // The lane of a delivery never changes.
        let lane = Lane::of(tx, seq).await?;
        lane.lock(tx).await?;
        let row = tx
            .maybe(
                "SELECT state, ambiguous > 0, text IS NOT NULL FROM delivery WHERE seq = $1
                 FOR UPDATE",
                params![seq],
            )
            .await?;
        let read = |row: &Row| {
            Ok(Self {
                seq,
                lane: lane.clone(),
                state: parsed(row, 0)?,
                ambiguous: get(row, 1)?,
                has_text: get(row, 2)?,
            })
        };
        row.as_ref().map(read).transpose()
    }
}

pub(super) async fn retry(
    tx: &Tx<'_>,
    now: Timestamp,
    id: DeliveryId,
    found: &Found,
    accept_duplicate: bool,
) -> Result<RetryVerdict> {
    let &Found { seq, state, ambiguous, has_text, .. } = found;
    let unsure = state == DeliveryState::Unknown || ambiguous;
    if let Some(verdict) = no_retry(state, unsure, has_text, accept_duplicate) {
        return Ok(verdict);
    }
    // A person wants it now, so what it keeps is counted from now; what had hardly any time left when
    // it was recorded gets a little.
    tx.execute(
        "UPDATE delivery SET expires_at = greatest(expires_at, $2 + greatest(keeps, $3))
         WHERE seq = $1",
        params![seq, now.as_micros(), RETRY_KEEPS],
    )
    .await?;
    outbox::requeue(tx, now, seq, unsure).await?;
    let target = format!("delivery/{id}");
    acted(tx, now, "deliveries retry", &target, state.as_str(), "queued").await?;
    Ok(RetryVerdict::Queued)
}

/// What is to be cancelled of all that a filter names.
#[derive(Clone, Copy, Default)]
pub(super) struct Part {
    /// Deliveries behind this one, in the order in which they were recorded.
    pub(super) after: i64,
    /// Up to this one, which was the last when it began.
    until: Option<i64>,
}

/// Cancels some of what waits; what they were, and where there may be more.
pub(super) async fn cancel(
    tx: &Tx<'_>,
    now: Timestamp,
    filter: &CancelFilter,
    mut part: Part,
    bodies: Bodies,
) -> Result<(Vec<DeliveryId>, Option<Part>)> {
    if part.until.is_none() {
        let last = tx.row("SELECT coalesce(max(seq), 0) FROM delivery", params![]).await?;
        part.until = Some(get(&last, 0)?);
    }
    let found = queued(tx, filter, part).await?;
    let whole = matches!(filter, CancelFilter::Ids(_)) || found.len() < AT_ONCE;
    let rest = found.last().filter(|_| !whole).map(|(seq, _)| Part { after: *seq, ..part });
    let wanted: BTreeSet<i64> = found.iter().map(|(seq, _)| *seq).collect();
    let lanes: Lanes = found.into_iter().map(|(_, lane)| lane).collect();
    lanes.lock(tx).await?;
    // One of them may be on its way by now.
    let queued = queued(tx, filter, part).await?.into_iter();
    let seqs: Vec<i64> = queued.map(|(seq, _)| seq).filter(|seq| wanted.contains(seq)).collect();
    let records = outbox::finish_all(tx, now, &seqs, DeadReason::Cancelled, bodies).await?;
    outbox::report_all(tx, now, &records).await?;
    let mut lines = Lines::default();
    for record in &records {
        let target = format!("delivery/{}", record.id);
        lines.operator(&act(now, "deliveries cancel", &target, "queued", "dead"))?;
    }
    lines.append(tx).await?;
    lanes.refresh(tx, now).await?;
    Ok((records.into_iter().map(|record| record.id).collect(), rest))
}

/// What may still be cancelled of a part, and the lanes that it is in.
async fn queued(tx: &Tx<'_>, filter: &CancelFilter, part: Part) -> Result<Vec<(i64, Lane)>> {
    let columns = "d.seq, d.widget, d.room, d.sender";
    let (after, until) = (part.after, part.until.unwrap_or(i64::MAX));
    let limit = i64::try_from(AT_ONCE).unwrap_or(i64::MAX);
    let of = |condition: &str| {
        format!(
            "SELECT {columns} FROM delivery d WHERE open AND state = 'queued' AND {condition}
               AND seq > $2 AND seq <= $3
             ORDER BY seq LIMIT $4"
        )
    };
    let rows = match filter {
        CancelFilter::Ids(ids) => {
            let ids: Vec<Vec<u8>> = ids.iter().map(|id| id.as_bytes().to_vec()).collect();
            // In the order in which they were asked for.
            let sql = format!(
                "SELECT {columns} FROM (SELECT id, min(n) AS n
                     FROM unnest($1) WITH ORDINALITY AS k (id, n) GROUP BY id) AS k
                 JOIN delivery d USING (id) WHERE open AND state = 'queued' ORDER BY k.n"
            );
            tx.rows(&sql, params![ids]).await?
        }
        CancelFilter::Bot(bot) => {
            tx.rows(&of("bot = $1"), params![bot.as_str(), after, until, limit]).await?
        }
        CancelFilter::Schedule(key) => {
            tx.rows(&of("schedule = $1"), params![key.as_str(), after, until, limit]).await?
        }
        CancelFilter::State(state) => {
            tx.rows(&of("state = $1"), params![state.as_str(), after, until, limit]).await?
        }
    };
    let read = |row: &Row| {
        let lane = Lane { widget: get(row, 1)?, room: get(row, 2)?, sender: get(row, 3)? };
        Ok((get(row, 0)?, lane))
    };
    rows.iter().map(read).collect()
}
