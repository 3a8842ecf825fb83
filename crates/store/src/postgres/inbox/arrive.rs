//! What comes into the inbox: events with their recipients, and wakes that are due. Decides nothing
//! about who may handle what.

use imbabot_core::Timestamp;

use crate::error::Result;
use crate::inbox::{EventBody, NewEvent};
use crate::postgres::row::{get, held, instant, instant_or_none, parsed, to_json, told};
use crate::postgres::tx::{Tx, params};

/// So many wakes ring in one transaction.
const AT_ONCE: i64 = 1_000;

/// Puts events into the inboxes of their recipients, numbered in the order given. An event for nobody
/// leaves no row.
pub(in crate::postgres) async fn insert_events(
    tx: &Tx<'_>,
    now: Timestamp,
    events: &[NewEvent],
) -> Result<()> {
    let told: Vec<&NewEvent> = events.iter().filter(|e| !e.recipients.is_empty()).collect();
    if told.is_empty() {
        return Ok(());
    }
    let mut widgets = Vec::with_capacity(told.len());
    let mut ats = Vec::with_capacity(told.len());
    let mut kinds = Vec::with_capacity(told.len());
    let mut rooms = Vec::with_capacity(told.len());
    let mut bodies = Vec::with_capacity(told.len());
    for event in &told {
        widgets.push(event.widget.as_str());
        ats.push(event.at.as_micros());
        kinds.push(event.body.kind());
        rooms.push(event.body.room().map(|room| room.0.cast_signed()));
        bodies.push(to_json(&event.body)?);
    }
    // The numbers are taken first, so that their order is ours and not a plan's.
    let rows = tx
        .rows(
            "WITH number AS MATERIALIZED (
                 SELECT nextval(pg_get_serial_sequence('event', 'seq')) AS seq
                 FROM generate_series(1, cardinality($1))
             ), ranked AS (SELECT seq, row_number() OVER (ORDER BY seq) AS n FROM number)
             INSERT INTO event (seq, widget, at, kind, room, body)
             SELECT r.seq, k.widget, k.at, k.kind, k.room, k.body
             FROM unnest($1, $2, $3, $4, $5) WITH ORDINALITY AS k (widget, at, kind, room, body, n)
             JOIN ranked r ON r.n = k.n
             RETURNING seq",
            params![widgets, ats, kinds, rooms, bodies],
        )
        .await?;
    let mut seqs = rows.iter().map(|row| get::<i64>(row, 0)).collect::<Result<Vec<_>>>()?;
    seqs.sort_unstable();
    let (mut bots, mut numbers, mut of, mut lanes) = (vec![], vec![], vec![], vec![]);
    for (event, seq) in told.iter().zip(seqs) {
        let lane = held(&event.body.lane()).into_owned();
        for bot in &event.recipients {
            bots.push(bot.as_str());
            numbers.push(seq);
            of.push(event.widget.as_str());
            lanes.push(lane.clone());
        }
    }
    tx.execute(
        "INSERT INTO inbox (bot, event, widget, lane, state, due_at)
         SELECT k.bot, k.event, k.widget, k.lane, 'waiting', $5
         FROM unnest($1, $2, $3, $4) AS k (bot, event, widget, lane)",
        params![bots, numbers, of, lanes, now.as_micros()],
    )
    .await?;
    Ok(())
}

/// Turns the wakes that are due into events; how many, and the instant of the next. One that another
/// transaction has in hand is left to it.
pub(super) async fn fire_wakes(tx: &Tx<'_>, now: Timestamp) -> Result<(u64, Option<Timestamp>)> {
    let rows = tx
        .rows(
            "WITH due AS MATERIALIZED (
                 SELECT bot, widget, key FROM wake WHERE due_at <= $1
                 ORDER BY due_at, bot, widget, key LIMIT $2 FOR UPDATE SKIP LOCKED
             )
             DELETE FROM wake w USING due d
             WHERE w.bot = d.bot AND w.widget = d.widget AND w.key = d.key
             RETURNING w.bot, w.widget, w.key, w.due_at",
            params![now.as_micros(), AT_ONCE],
        )
        .await?;
    let mut due = Vec::with_capacity(rows.len());
    for row in &rows {
        due.push(NewEvent {
            recipients: vec![parsed(row, 0)?],
            widget: parsed(row, 1)?,
            body: EventBody::Timer { key: told(get(row, 2)?), occurrence: None },
            at: instant(row, 3)?,
        });
    }
    due.sort_by(|a, b| {
        let order = |event: &NewEvent| {
            let EventBody::Timer { key, .. } = &event.body else { return None };
            Some((event.at, event.recipients.clone(), event.widget.clone(), key.clone()))
        };
        order(a).cmp(&order(b))
    });
    insert_events(tx, now, &due).await?;
    let next = tx.row("SELECT min(due_at) FROM wake", params![]).await?;
    Ok((due.len() as u64, instant_or_none(&next, 0)?))
}
