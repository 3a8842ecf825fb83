//! Turns the rooms of occurrences into deliveries, from a durable position. Chooses no room and no
//! text.

use std::collections::HashMap;

use imbabot_core::Timestamp;

use super::targets::{Packed, ROOM};
use crate::error::Result;
use crate::outbox::NewDelivery;
use crate::postgres::journal::Lines;
use crate::postgres::lane::{Lane, Lanes};
use crate::postgres::row::{from_json, get, instant, number, parsed, unreadable};
use crate::postgres::tx::{Tx, params};
use crate::postgres::{Bodies, outbox};
use crate::schedules::{Expansion, OccurrenceRecord, Pinned};

/// The first rooms that are still to be served: as many as come to `limit` together, of the oldest
/// occurrences. Only they are read, however many an occurrence has.
pub(super) async fn pinned(tx: &Tx<'_>, limit: usize) -> Result<Vec<Pinned>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = tx
        .rows(
            "WITH first AS (
                 SELECT id, recorded_at, position,
                        octet_length(targets)::bigint / 8 - position AS rest
                 FROM occurrence WHERE targets IS NOT NULL
                 ORDER BY recorded_at, id COLLATE \"C\" LIMIT $1
             ), counted AS (
                 SELECT *, coalesce(sum(rest) OVER (ORDER BY recorded_at, id COLLATE \"C\"
                     ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)::bigint AS before
                 FROM first
             )
             SELECT o.id, o.schedule, o.nominal_at, o.position, o.target_widgets,
                    substring(o.targets FROM (c.position * 8 + 1)::int
                        FOR (least(c.rest, $1 - c.before) * 8)::int)
             FROM counted c JOIN occurrence o USING (id)
             WHERE c.before < $1 ORDER BY o.recorded_at, o.id COLLATE \"C\"",
            params![limit],
        )
        .await?;
    let pinned = |row| {
        let position: i64 = get(row, 3)?;
        let position = usize::try_from(position).map_err(|_| unreadable("a position"))?;
        let targets = Packed::unpack(get(row, 4)?, position, get(row, 5)?)?;
        Ok(Pinned {
            id: get(row, 0)?,
            key: get(row, 1)?,
            nominal_at: instant(row, 2)?,
            targets,
            position,
        })
    };
    rows.iter().map(pinned).collect()
}

pub(super) async fn expand(tx: &Tx<'_>, batch: &Expansion, bodies: Bodies) -> Result<bool> {
    let found = tx
        .maybe(
            "SELECT position, octet_length(targets)::bigint, schedule FROM occurrence
             WHERE id = $1 AND targets IS NOT NULL FOR UPDATE",
            params![batch.id],
        )
        .await?;
    let Some(row) = found else { return Ok(false) };
    let (position, size): (i64, i64) = (get(&row, 0)?, get(&row, 1)?);
    if usize::try_from(position) != Ok(batch.position) {
        return Ok(false);
    }
    let lanes = |deliveries: &[NewDelivery]| -> Lanes { deliveries.iter().map(lane_of).collect() };
    let (wanted, left_out) = if batch.skip_overlap {
        // Whether an earlier one waits is asked by whoever has the lanes: then nothing there moves.
        lanes(&batch.deliveries).lock(tx).await?;
        skip_overlap(tx, batch, get(&row, 2)?).await?
    } else {
        (batch.deliveries.clone(), Vec::new())
    };
    if !wanted.is_empty() {
        outbox::insert_all(tx, batch.now, &wanted, bodies).await?;
    }
    // A lane that was locked for nothing leaves no trace.
    lanes(&left_out).refresh(tx, batch.now).await?;
    let overlapped = i64::try_from(left_out.len()).unwrap_or(i64::MAX);
    // A target without a delivery (its room is gone meanwhile) is left out as well.
    let without = batch.served.saturating_sub(batch.deliveries.len());
    let without = i64::try_from(without).unwrap_or(0);
    let position = batch.position + batch.served;
    let done = usize::try_from(size).is_ok_and(|size| position >= size / ROOM);
    tx.execute(
        "UPDATE occurrence SET position = $2, deliveries = deliveries - $3 - $4,
             left_out = left_out + $4
         WHERE id = $1",
        params![batch.id, i64::try_from(position).unwrap_or(i64::MAX), without, overlapped],
    )
    .await?;
    if done {
        tx.execute(
            "UPDATE occurrence SET targets = NULL, target_widgets = NULL WHERE id = $1",
            params![batch.id],
        )
        .await?;
        close(tx, batch.now, std::slice::from_ref(&batch.id), "no_rooms").await?;
    }
    Ok(true)
}

/// The deliveries of a batch for rooms in which no earlier one of the schedule waits, and the others.
async fn skip_overlap(
    tx: &Tx<'_>,
    batch: &Expansion,
    schedule: &str,
) -> Result<(Vec<NewDelivery>, Vec<NewDelivery>)> {
    let widgets: Vec<&str> = batch.deliveries.iter().map(|d| d.widget.as_str()).collect();
    let rooms: Vec<i64> = batch.deliveries.iter().map(|d| d.room.0.cast_signed()).collect();
    let rows = tx
        .rows(
            "SELECT k.place FROM unnest($1, $2) WITH ORDINALITY AS k (widget, room, place)
             WHERE EXISTS (SELECT 1 FROM delivery d
                 WHERE d.schedule = $3 AND d.widget = k.widget AND d.room = k.room AND d.open
                   AND d.occurrence <> $4
                   -- One that has expired is never sent, though nobody has said so yet.
                   AND (d.state = 'sending' OR d.state = 'queued' AND d.expires_at > $5))",
            params![widgets, rooms, schedule, batch.id, batch.now.as_micros()],
        )
        .await?;
    let mut overlaps = vec![false; batch.deliveries.len()];
    for row in &rows {
        let place: i64 = get(row, 0)?;
        if let Some(overlaps) = usize::try_from(place - 1).ok().and_then(|n| overlaps.get_mut(n)) {
            *overlaps = true;
        }
    }
    let mut parts = (Vec::new(), Vec::new());
    for (delivery, overlaps) in batch.deliveries.iter().zip(overlaps) {
        if overlaps { &mut parts.1 } else { &mut parts.0 }.push(delivery.clone());
    }
    Ok(parts)
}

fn lane_of(delivery: &NewDelivery) -> Lane {
    Lane {
        widget: delivery.widget.to_string(),
        room: delivery.room.0.cast_signed(),
        sender: delivery.sender.to_string(),
    }
}

/// Locks the occurrences of schedules that are not there any more and have rooms to serve still: who
/// is in the middle of serving some is waited for.
pub(super) async fn lock_unserved(tx: &Tx<'_>) -> Result<Vec<String>> {
    let rows = tx
        .rows(
            "SELECT o.id FROM occurrence o
             WHERE o.targets IS NOT NULL AND NOT EXISTS
                 (SELECT 1 FROM schedule s WHERE s.key = o.schedule AND s.present)
             ORDER BY o.recorded_at, o.id COLLATE \"C\" FOR UPDATE OF o",
            params![],
        )
        .await?;
    rows.iter().map(|row| get(row, 0)).collect()
}

/// The rooms that they have still to serve are not served any more.
pub(super) async fn give_up(
    tx: &Tx<'_>,
    now: Timestamp,
    ids: &[String],
    reason: &str,
) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    tx.execute(
        "UPDATE occurrence SET targets = NULL, target_widgets = NULL,
             deliveries = deliveries - (octet_length(targets)::bigint / 8 - position)
         WHERE id = ANY($1) AND targets IS NOT NULL",
        params![ids],
    )
    .await?;
    close(tx, now, ids, reason).await
}

/// All their rooms are dealt with: says in the ledger how many deliveries each came to, if that is not
/// what was said when it fired. Without any it was skipped after all.
async fn close(tx: &Tx<'_>, now: Timestamp, ids: &[String], reason: &str) -> Result<()> {
    tx.execute(
        "UPDATE occurrence SET outcome = 'skipped',
             reason = CASE WHEN left_out > 0 THEN 'overlap' ELSE $2 END
         WHERE id = ANY($1) AND deliveries = 0",
        params![ids, reason],
    )
    .await?;
    let rows = tx
        .rows(
            "SELECT DISTINCT ON (id) id, body FROM ledger
             WHERE id = ANY($1) AND kind = 'occurrence' ORDER BY id, seq DESC",
            params![ids],
        )
        .await?;
    let mut told: HashMap<String, OccurrenceRecord> = HashMap::new();
    for row in &rows {
        told.insert(get(row, 0)?, from_json(get(row, 1)?)?);
    }
    let rows = tx
        .rows(
            "SELECT id, schedule, nominal_at, recorded_at, outcome, reason, deliveries
             FROM occurrence WHERE id = ANY($1) ORDER BY recorded_at, id COLLATE \"C\"",
            params![ids],
        )
        .await?;
    let mut lines = Lines::default();
    for row in &rows {
        let record = OccurrenceRecord {
            id: get(row, 0)?,
            schedule: get(row, 1)?,
            nominal_at: instant(row, 2)?,
            recorded_at: instant(row, 3)?,
            outcome: parsed(row, 4)?,
            reason: get(row, 5)?,
            deliveries: number(row, 6)?,
        };
        if told.get(&record.id) != Some(&record) {
            lines.occurrence(now, &record)?;
        }
    }
    lines.append(tx).await
}
