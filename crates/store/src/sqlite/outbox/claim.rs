//! Claiming: which deliveries may be sent now, by lane, rate and pause. Marks them as being sent, in
//! the transaction that found them; never decides what an outcome means.

use imbabot_bot::DeliveryId;
use imbabot_core::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::hold::Held;
use super::rate::{self, clock_went_back, free_at, take};
use super::{Bodies, expire};
use crate::error::Result;
use crate::outbox::{AttemptRecord, ClaimRequest, Claimed, ClaimedDelivery, Hold, WidgetClaim};
use crate::sqlite::hindsight;
use crate::sqlite::journal::{self, count, id, instant, parsed, parsed_or_none};
use crate::sqlite::lane::Lane;

/// A claim ends at most so many expired rows; the rest comes with the next one, so that what is
/// fresh does not wait for a long transaction.
const EXPIRED_PER_CLAIM: u64 = 1_000;

/// What is paused, read in the transaction that claims: a pause holds from the moment it is
/// committed.
pub(in crate::sqlite) struct Paused(Vec<String>);

impl Paused {
    pub(in crate::sqlite) fn read(tx: &Connection) -> Result<Self> {
        let scopes = tx
            .prepare_cached("SELECT scope FROM stoppage WHERE reason = 'paused' AND until IS NULL")?
            .query_map([], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        Ok(Self(scopes))
    }

    pub(in crate::sqlite) fn widget(&self, widget: &str) -> bool {
        self.0.iter().any(|scope| {
            scope == "all" || scope.strip_prefix("widget/").is_some_and(|name| name == widget)
        })
    }

    pub(in crate::sqlite) fn bot(&self, bot: &str) -> bool {
        self.0.iter().any(|scope| {
            scope == "all" || scope.strip_prefix("bot/").is_some_and(|name| name == bot)
        })
    }
}

pub(super) fn claim_widget(
    tx: &Connection,
    request: &ClaimRequest,
    widget: &WidgetClaim,
    paused: &Paused,
    bodies: Bodies,
    claimed: &mut Claimed,
) -> Result<()> {
    let now = request.now;
    let name = widget.widget.as_str();
    let wait_until = |claimed: &mut Claimed, at: Timestamp| {
        claimed.next_due = Some(claimed.next_due.map_or(at, |due| due.min(at)));
    };
    let back = hindsight::went_back_by(tx, now, name)?;
    if clock_went_back(tx, now, name, widget.interval)? || back.is_some() {
        hindsight::look_again(tx, now, name, back)?;
    }
    let mut slots = widget.slots;
    while slots > 0 {
        let ready = match request.only {
            None => next_ready(tx, name)?,
            Some(id) => lane_of_id(tx, id, name)?,
        };
        let Some((lane, ready_at)) = ready else { return Ok(()) };
        if ready_at > now {
            wait_until(claimed, ready_at);
            return Ok(());
        }
        let Some((seq, _, _)) = lane.head(tx)? else {
            lane.refresh(tx, now)?;
            continue;
        };
        let head = read_head(tx, seq)?;
        if request.only.is_some_and(|only| only != head.id) {
            return Ok(());
        }
        if head.expires_at <= now {
            expire(tx, now, seq, bodies)?;
            claimed.expired += 1;
            if request.only.is_some() {
                return Ok(());
            }
            if claimed.expired >= EXPIRED_PER_CLAIM {
                wait_until(claimed, now);
                return Ok(());
            }
            continue;
        }
        if head.bot.as_ref().is_some_and(|bot| paused.bot(bot.as_str())) {
            // `resume` refreshes the lane.
            lane.hold(tx, None)?;
            continue;
        }
        let held_until = free_at(tx, &rate::silence_key(name))?;
        let silent = held_until > now && held_until <= now + rate::LONGEST_SILENCE;
        let widget_free =
            free_at(tx, &rate::widget_key(name))?.max(if silent { held_until } else { now });
        if widget_free > now {
            wait_until(claimed, widget_free);
            return Ok(());
        }
        let room_key = format!("{}/{}", rate::widget_key(name), head.room);
        let room_free = free_at(tx, &room_key)?;
        // Further away than its space: written before the clock went back.
        if room_free > now && room_free <= now + widget.room_interval {
            lane.hold(tx, Some(room_free))?;
            if request.only.is_some() {
                wait_until(claimed, room_free);
                return Ok(());
            }
            continue;
        }
        let held = Held {
            lane: &lane,
            bot: head.bot.as_ref(),
            room_free,
            silent_until: held_until,
            widget_free: free_at(tx, &rate::widget_key(name))?,
        };
        let hold = held.hold(tx, now, seq)?;
        take(tx, &rate::widget_key(name), now, widget.interval)?;
        take(tx, &room_key, now, widget.room_interval)?;
        claimed.deliveries.push(start_attempt(tx, request, seq, head, hold)?);
        lane.refresh(tx, now)?;
        slots -= 1;
    }
    Ok(())
}

fn next_ready(tx: &Connection, widget: &str) -> Result<Option<(Lane, Timestamp)>> {
    let found = tx
        .prepare_cached(
            "SELECT room, sender, ready_at FROM lane
             WHERE widget = ?1 AND ready_at IS NOT NULL ORDER BY ready_at LIMIT 1",
        )?
        .query_row([widget], |row| {
            let lane = Lane { widget: widget.into(), room: row.get(0)?, sender: row.get(1)? };
            Ok((lane, Timestamp::from_micros(row.get(2)?)))
        })
        .optional()?;
    Ok(found)
}

fn lane_of_id(tx: &Connection, id: DeliveryId, widget: &str) -> Result<Option<(Lane, Timestamp)>> {
    let found = tx
        .query_row(
            "SELECT l.room, l.sender, l.ready_at FROM delivery d
             JOIN lane l USING (widget, room, sender)
             WHERE d.id = ?1 AND d.widget = ?2 AND d.state = 'queued' AND l.ready_at IS NOT NULL",
            params![id.as_bytes(), widget],
            |row| {
                let lane = Lane { widget: widget.into(), room: row.get(0)?, sender: row.get(1)? };
                Ok((lane, Timestamp::from_micros(row.get(2)?)))
            },
        )
        .optional()?;
    Ok(found)
}

fn read_head(tx: &Connection, seq: i64) -> Result<ClaimedDelivery> {
    tx.prepare_cached(
        "SELECT id, attempts, widget, room, sender, bot, policy, text, created_at, not_before,
                expires_at, misses, ambiguous, occurrence
         FROM delivery WHERE seq = ?1",
    )?
    .query_row([seq], |row| {
        Ok((|| -> Result<_> {
            Ok(ClaimedDelivery {
                id: id(row, 0)?,
                attempt: count(row, 1)? + 1,
                widget: parsed(row, 2)?,
                room: journal::number(row, 3)?.into(),
                sender: parsed(row, 4)?,
                bot: parsed_or_none(row, 5)?,
                occurrence: row.get(13)?,
                policy: parsed(row, 6)?,
                text: row.get(7)?,
                created_at: instant(row, 8)?,
                not_before: instant(row, 9)?,
                expires_at: instant(row, 10)?,
                misses: count(row, 11)?,
                ambiguous: count(row, 12)?,
                started_at: Timestamp::EPOCH,
            })
        })())
    })?
}

/// queued → sending. The request may leave once this is committed.
fn start_attempt(
    tx: &Connection,
    request: &ClaimRequest,
    seq: i64,
    head: ClaimedDelivery,
    hold: Option<(Hold, Timestamp)>,
) -> Result<ClaimedDelivery> {
    let now = request.now;
    tx.prepare_cached(
        "UPDATE delivery SET state = 'sending', attempts = attempts + 1 WHERE seq = ?1",
    )?
    .execute([seq])?;
    let attempt = AttemptRecord {
        delivery: head.id,
        n: head.attempt,
        incarnation: request.incarnation,
        started_at: now,
        ended_at: None,
        class: None,
        code: None,
        http_status: None,
        detail: None,
        held_by: hold.map(|(by, _)| by),
        held_since: hold.map(|(_, since)| since),
    };
    tx.prepare_cached(
        "INSERT INTO attempt (delivery, n, incarnation, started_at, held_by, held_since)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![
        head.id.as_bytes(),
        head.attempt,
        request.incarnation.0,
        now.as_micros(),
        attempt.held_by.map(Hold::as_str),
        attempt.held_since.map(Timestamp::as_micros)
    ])?;
    journal::delivery(tx, now, seq)?;
    journal::attempt(tx, now, &attempt)?;
    Ok(ClaimedDelivery { started_at: now, ..head })
}
