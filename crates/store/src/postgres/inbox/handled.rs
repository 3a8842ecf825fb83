//! The whole effect of a handler, with "handled", or nothing of it.

use std::collections::BTreeMap;

use imbabot_core::Timestamp;

use super::entry::{end_entry, put_back, runs};
use super::{limits, memory};
use crate::error::Result;
use crate::inbox::{EventOutcome, Handled, HandledOutcome};
use crate::outbox::{Born, DeadReason, NewDelivery};
use crate::postgres::lane::{Lane, Lanes};
use crate::postgres::row::{get, held};
use crate::postgres::tx::{Tx, params};
use crate::postgres::{Bodies, outbox};

pub(super) async fn commit(
    tx: &Tx<'_>,
    handled: &Handled,
    bodies: Bodies,
) -> Result<HandledOutcome> {
    let Handled { entry, now, .. } = handled;
    let (bot, widget) = (entry.bot.as_str(), entry.widget.as_str());
    if handled.sends.iter().any(|send| send.born == Born::Queued) {
        // What is counted below stays so until this transaction ends.
        tx.rows("SELECT 1 FROM bot WHERE name = $1 FOR UPDATE", params![bot]).await?;
    }
    if !runs(tx, entry).await? {
        // A late commit of a handler that was given up: what it wanted was not promised to it.
        return Ok(HandledOutcome::Conflict);
    }
    if !memory::write(tx, bot, widget, &handled.memory).await? {
        put_back(tx, entry, *now, entry.tries.saturating_sub(1), None).await?;
        return Ok(HandledOutcome::Conflict);
    }
    wakes(tx, handled).await?;
    let sends = limits::within(tx, handled).await?;
    let lanes = cancel(tx, handled, &sends, bodies).await?;
    let results = if sends.is_empty() {
        Vec::new()
    } else {
        outbox::insert_all(tx, *now, &sends, bodies).await?
    };
    lanes.refresh(tx, *now).await?;
    end_entry(tx, *now, bot, entry.event, EventOutcome::Handled, None).await?;
    Ok(HandledOutcome::Committed(results))
}

/// Takes timers back and sets others; of one key the last counts.
async fn wakes(tx: &Tx<'_>, handled: &Handled) -> Result<()> {
    let (bot, widget) = (handled.entry.bot.as_str(), handled.entry.widget.as_str());
    if !handled.cancels.is_empty() {
        let keys: Vec<String> = handled.cancels.iter().map(|key| held(key).into_owned()).collect();
        tx.execute(
            "DELETE FROM wake WHERE bot = $1 AND widget = $2 AND key = ANY($3)",
            params![bot, widget, keys],
        )
        .await?;
    }
    if !handled.wakes.is_empty() {
        let wakes: BTreeMap<String, Timestamp> =
            handled.wakes.iter().map(|(key, at)| (held(key).into_owned(), *at)).collect();
        let (keys, ats): (Vec<String>, Vec<i64>) =
            wakes.into_iter().map(|(key, at)| (key, at.as_micros())).unzip();
        tx.execute(
            "INSERT INTO wake (bot, widget, key, due_at)
             SELECT $1, $2, k.key, k.due_at FROM unnest($3, $4) AS k (key, due_at) ORDER BY k.key
             ON CONFLICT (bot, widget, key) DO UPDATE SET due_at = excluded.due_at",
            params![bot, widget, keys, ats],
        )
        .await?;
    }
    Ok(())
}

/// Takes queued messages back by their keys. Their lanes are locked together with those of what is to
/// be sent, in one ascending order; to be refreshed once that is recorded.
async fn cancel(
    tx: &Tx<'_>,
    handled: &Handled,
    sends: &[NewDelivery],
    bodies: Bodies,
) -> Result<Lanes> {
    if handled.cancels.is_empty() {
        return Ok(Lanes::default());
    }
    let bot = handled.entry.bot.as_str();
    let keys: Vec<String> =
        handled.cancels.iter().map(|key| held(&format!("bot/{bot}/{key}")).into_owned()).collect();
    let queued = tx
        .rows(
            "SELECT seq, widget, room, sender FROM delivery
             WHERE key = ANY($1) AND state = 'queued'",
            params![keys],
        )
        .await?;
    if queued.is_empty() {
        return Ok(Lanes::default());
    }
    let mut seqs: Vec<i64> = Vec::with_capacity(queued.len());
    let mut lanes = Vec::with_capacity(queued.len() + sends.len());
    for row in &queued {
        seqs.push(get(row, 0)?);
        lanes.push(Lane { widget: get(row, 1)?, room: get(row, 2)?, sender: get(row, 3)? });
    }
    lanes.extend(sends.iter().filter(|send| send.born == Born::Queued).map(|send| Lane {
        widget: send.widget.to_string(),
        room: send.room.0.cast_signed(),
        sender: send.sender.to_string(),
    }));
    let lanes: Lanes = lanes.into_iter().collect();
    lanes.lock(tx).await?;
    // What was sent or taken back meanwhile is not taken back any more.
    let queued = tx
        .rows(
            "SELECT d.seq FROM unnest($1) WITH ORDINALITY AS k (key, n)
             JOIN delivery d ON d.key = k.key
             WHERE d.seq = ANY($2) AND d.state = 'queued' GROUP BY d.seq ORDER BY min(k.n)",
            params![keys, seqs],
        )
        .await?;
    for row in &queued {
        outbox::finish(tx, handled.now, get(row, 0)?, DeadReason::Cancelled, bodies).await?;
    }
    Ok(lanes)
}
