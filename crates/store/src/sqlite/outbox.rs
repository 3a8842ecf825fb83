//! Deliveries and attempts. The arrows of the state machine are the functions of this module; no
//! other module writes `delivery.state`.

mod attempt;
mod claim;
mod hold;
mod rate;

use async_trait::async_trait;
use imbabot_bot::{DeliveryId, Policy, WidgetName};
use imbabot_core::{MessageId, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

pub(super) use attempt::{AttemptEnd, end_attempt};
pub(super) use claim::Paused;
pub(super) use rate::free_at;

use super::journal::{self, DELIVERY_COLUMNS, parsed};
use super::lane::Lane;
use super::{Bodies, SqliteStore};
use crate::error::Result;
use crate::inbox::{EventBody, NewEvent};
use crate::lifecycle::Settle;
use crate::outbox::{
    Born, ClaimRequest, Claimed, Class, DeadReason, DeliveryRecord, DeliveryState, Enqueued,
    NewDelivery, Next, Outbox, Recorded, Settled,
};

use crate::rules::{self, FOREIGN_UUID_WINDOW, agrees, micros, policy as word_of, sha256};

#[async_trait]
impl Outbox for SqliteStore {
    async fn enqueue(&self, now: Timestamp, deliveries: Vec<NewDelivery>) -> Result<Vec<Enqueued>> {
        let bodies = self.bodies;
        self.link
            .write(move |tx| deliveries.iter().map(|d| insert(tx, now, d, bodies)).collect())
            .await
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Claimed> {
        let bodies = self.bodies;
        self.link
            .write(move |tx| {
                let mut claimed = Claimed::default();
                let paused = Paused::read(tx)?;
                for widget in &request.widgets {
                    if !paused.widget(widget.widget.as_str()) {
                        claim::claim_widget(tx, &request, widget, &paused, bodies, &mut claimed)?;
                    }
                }
                Ok(claimed)
            })
            .await
    }

    async fn settle(
        &self,
        now: Timestamp,
        settle: Settle,
        outcomes: Vec<Settled>,
    ) -> Result<Vec<Recorded>> {
        let bodies = self.bodies;
        self.link
            .write(move |tx| {
                outcomes
                    .into_iter()
                    .filter_map(|o| record(tx, now, settle, o, bodies).transpose())
                    .collect()
            })
            .await
    }

    async fn hold_widget(&self, widget: &WidgetName, until: Timestamp) -> Result<()> {
        let key = rules::silence_key(widget.as_str());
        self.link
            .write(move |tx| {
                // A hold that ends long after this one was written before the clock went back.
                tx.prepare_cached(
                    "INSERT INTO rate (key, tat) VALUES (?1, ?2)
                     ON CONFLICT (key) DO UPDATE SET tat = iif(tat > ?3, excluded.tat,
                         max(tat, excluded.tat))",
                )?
                .execute(params![
                    key,
                    until.as_micros(),
                    (until + rate::LONGEST_SILENCE).as_micros()
                ])?;
                Ok(())
            })
            .await
    }

    async fn sweep(
        &self,
        now: Timestamp,
        settle: Settle,
        limit: usize,
    ) -> Result<(u64, Option<Timestamp>)> {
        let bodies = self.bodies;
        self.link.write(move |tx| sweep(tx, now, settle, limit, bodies)).await
    }

    async fn give_up_sending(&self, now: Timestamp, settle: Settle) -> Result<u64> {
        let bodies = self.bodies;
        self.link
            .write(move |tx| super::lifecycle::sending_becomes_unknown(tx, now, settle, bodies))
            .await
    }

    async fn delivery(&self, id: DeliveryId) -> Result<Option<DeliveryRecord>> {
        self.link
            .read(move |tx| {
                let found = tx
                    .prepare_cached(&format!(
                        "SELECT {DELIVERY_COLUMNS} FROM delivery WHERE id = ?1"
                    ))?
                    .query_row([id.as_bytes()], |row| Ok(journal::read_delivery(row)))
                    .optional()?;
                found.transpose()
            })
            .await
    }

    async fn waits_behind_others(&self, id: DeliveryId) -> Result<bool> {
        self.link
            .read(move |tx| {
                let seq: Option<i64> = tx
                    .query_row(
                        "SELECT seq FROM delivery WHERE id = ?1 AND open = 1",
                        [id.as_bytes()],
                        |row| row.get(0),
                    )
                    .optional()?;
                // What has ended waits for nobody.
                let Some(seq) = seq else { return Ok(false) };
                let head = Lane::of(tx, seq)?.head(tx)?;
                Ok(head.is_some_and(|(first, _, _)| first != seq))
            })
            .await
    }
}

/// Records a delivery, unless its key is there.
pub(super) fn insert(
    tx: &Connection,
    now: Timestamp,
    new: &NewDelivery,
    bodies: Bodies,
) -> Result<Enqueued> {
    let id = new.id();
    let hash = sha256(&new.text);
    let known = tx
        .prepare_cached(
            "SELECT state, reason, text_sha256, widget, room, sender FROM delivery WHERE key = ?1",
        )?
        .query_row([&new.key], |row| {
            Ok((|| -> Result<_> {
                let same = row.get::<_, String>(2)? == hash
                    && row.get::<_, String>(3)? == new.widget.as_str()
                    && row.get::<_, i64>(4)? == new.room.0.cast_signed()
                    && row.get::<_, String>(5)? == new.sender.as_str();
                Ok((parsed(row, 0)?, dead_reason(row.get(1)?), same))
            })())
        })
        .optional()?
        .transpose()?;
    if let Some((state, reason, same)) = known {
        return Ok(Enqueued { id, state, reason, detail: None, known: true, refused: !same });
    }
    let (state, reason) = match new.born {
        Born::Queued => (DeliveryState::Queued, None),
        Born::Dead(reason) => (DeliveryState::Dead, Some(reason)),
    };
    let open = state == DeliveryState::Queued;
    let counts =
        new.bot.is_some() && !matches!(reason, Some(DeadReason::Suppressed | DeadReason::Invalid));
    let text = (open || bodies == Bodies::Full).then_some(&new.text);
    let not_before = new.not_before.unwrap_or(now);
    tx.prepare_cached(
        "INSERT INTO delivery (id, key, widget, room, sender, bot, event, occurrence, schedule,
             policy, text, text_sha256, state, reason, open, counts, created_at, not_before,
             expires_at, ended_at, report, keeps, detail)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18,
             ?19, ?20, ?21, ?22, ?23)",
    )?
    .execute(params![
        id.as_bytes(),
        new.key,
        new.widget.as_str(),
        new.room.0.cast_signed(),
        new.sender.as_str(),
        new.bot.as_ref().map(AsRef::<str>::as_ref),
        new.event,
        new.occurrence,
        new.schedule,
        word_of(new.policy),
        text,
        hash,
        state.as_str(),
        reason.map(DeadReason::as_str),
        open,
        counts,
        now.as_micros(),
        not_before.as_micros(),
        new.expires_at.as_micros(),
        (!open).then_some(now.as_micros()),
        new.report,
        micros(new.expires_at.since(not_before.max(now))),
        new.detail,
    ])?;
    let seq = tx.last_insert_rowid();
    journal::delivery(tx, now, seq)?;
    if open {
        Lane::of(tx, seq)?.refresh(tx, now)?;
    }
    let detail = new.detail.clone();
    Ok(Enqueued { id, state, reason, detail, known: false, refused: false })
}

/// sending → unknown, and when it moves on by itself.
pub(super) fn turn_unknown(
    tx: &Connection,
    now: Timestamp,
    seq: i64,
    settle: Settle,
    reason: &str,
    bodies: Bodies,
) -> Result<DeliveryState> {
    let (policy, resends): (String, u32) = tx
        .prepare_cached("SELECT policy, resends FROM delivery WHERE seq = ?1")?
        .query_row([seq], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let at_least_once = policy == word_of(Policy::AtLeastOnce);
    let again = at_least_once && resends < settle.max_resends;
    let resend_at = again.then(|| (now + settle.wait).as_micros());
    tx.prepare_cached(
        "UPDATE delivery SET state = 'unknown', reason = ?2, open = ?3, resend_at = ?4,
             unknown_since = ?5, ambiguous = ambiguous + 1, misses = 0
         WHERE seq = ?1",
    )?
    .execute(params![seq, reason, again, resend_at, now.as_micros()])?;
    let record = journal::delivery(tx, now, seq)?;
    if at_least_once && !again {
        // No resends are left, and waiting brings no knowledge.
        let record = finish(tx, now, seq, DeadReason::Unresolved, bodies)?;
        report(tx, now, seq, &record)?;
        return Ok(DeliveryState::Dead);
    }
    Lane::of(tx, seq)?.refresh(tx, now)?;
    report(tx, now, seq, &record)?;
    Ok(DeliveryState::Unknown)
}

/// queued, sending or unknown → dead. A row that ever had an ambiguous attempt ends as unresolved,
/// whatever ends it: nobody may read "never applied" into it.
pub(super) fn finish(
    tx: &Connection,
    now: Timestamp,
    seq: i64,
    reason: DeadReason,
    bodies: Bodies,
) -> Result<DeliveryRecord> {
    tx.prepare_cached(
        "UPDATE delivery SET state = 'dead', open = 0, resend_at = NULL, ended_at = ?3,
             reason = iif(ambiguous > 0, 'unresolved', ?2),
             text = iif(?4, NULL, text)
         WHERE seq = ?1",
    )?
    .execute(params![seq, reason.as_str(), now.as_micros(), bodies == Bodies::Hash])?;
    let record = journal::delivery(tx, now, seq)?;
    Lane::of(tx, seq)?.refresh(tx, now)?;
    Ok(record)
}

fn expire(tx: &Connection, now: Timestamp, seq: i64, bodies: Bodies) -> Result<()> {
    let record = finish(tx, now, seq, DeadReason::Expired, bodies)?;
    report(tx, now, seq, &record)
}

/// unknown → delivered, because a person has seen it there.
pub(super) fn confirm(
    tx: &Connection,
    now: Timestamp,
    seq: i64,
    bodies: Bodies,
) -> Result<DeliveryRecord> {
    tx.prepare_cached(
        "UPDATE delivery SET state = 'delivered', reason = 'operator', open = 0, resend_at = NULL,
             ended_at = ?2, text = iif(?3, NULL, text)
         WHERE seq = ?1",
    )?
    .execute(params![seq, now.as_micros(), bodies == Bodies::Hash])?;
    let record = journal::delivery(tx, now, seq)?;
    Lane::of(tx, seq)?.refresh(tx, now)?;
    Ok(record)
}

/// Puts a delivery event into the inbox of the bot that asked to be told.
pub(super) fn report(
    tx: &Connection,
    now: Timestamp,
    seq: i64,
    record: &DeliveryRecord,
) -> Result<()> {
    let Some(bot) = &record.bot else { return Ok(()) };
    // A bot that was removed meanwhile is told nothing any more: its entry would wait for nobody.
    let wanted: bool = tx
        .prepare_cached(
            "SELECT report AND NOT EXISTS (SELECT 1 FROM bot WHERE name = ?2 AND present = 0)
             FROM delivery WHERE seq = ?1",
        )?
        .query_row(params![seq, bot.as_str()], |row| row.get(0))?;
    if !wanted {
        return Ok(());
    }
    let prefix = format!("bot/{bot}/");
    let event = NewEvent {
        widget: record.widget.clone(),
        at: now,
        body: EventBody::Delivery {
            delivery: record.id,
            key: record.key.strip_prefix(&prefix).map(str::to_owned),
            room: record.room,
            state: record.state.to_string(),
            reason: record.reason.clone(),
        },
        recipients: vec![bot.clone()],
    };
    super::inbox::insert_event(tx, now, &event)
}

fn record(
    tx: &Connection,
    now: Timestamp,
    settle: Settle,
    mut outcome: Settled,
    bodies: Bodies,
) -> Result<Option<Recorded>> {
    let found = tx
        .prepare_cached("SELECT seq, state, attempts FROM delivery WHERE id = ?1")?
        .query_row([outcome.delivery.as_bytes()], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, u32>(2)?))
        })
        .optional()?;
    let Some((seq, state, attempts)) = found else { return Ok(None) };
    if !agrees(outcome.class, &outcome.next) {
        // Only proof moves a row on: what contradicts itself proves nothing.
        outcome.class = Class::Ambiguous;
        outcome.next = Next::Unknown;
    }
    let foreign_answer = match &outcome.next {
        Next::Delivered { message, uuid, .. } => {
            names_another(tx, now, seq, *message, uuid.as_deref())?
        }
        _ => false,
    };
    if foreign_answer {
        outcome.class = Class::Ambiguous;
        outcome.code = "foreign_answer".into();
        outcome.next = Next::Unknown;
    }
    // Where no texts are kept, the server's words are not kept either: they may quote one.
    let kept = bodies == Bodies::Full || outcome.http_status.is_none();
    let detail = (kept && !outcome.detail.is_empty()).then_some(outcome.detail.as_str());
    let end = AttemptEnd {
        class: outcome.class,
        code: &outcome.code,
        http_status: outcome.http_status,
        detail,
    };
    let news = end_attempt(tx, now, seq, outcome.attempt, &end)?;
    let own = attempts == outcome.attempt;
    let state = match (state.as_str(), &outcome.next) {
        // The usual case.
        ("sending", _) if own && news => apply(tx, now, settle, seq, &outcome, bodies)?,
        // A late answer, after the row was given up as unknown. A refusal ends the row only if
        // there was no later attempt: of that one nothing is known.
        ("unknown", Next::Delivered { .. }) if news => {
            apply(tx, now, settle, seq, &outcome, bodies)?
        }
        ("unknown", Next::Dead(_)) if own && news => apply(tx, now, settle, seq, &outcome, bodies)?,
        // Too late to move anything; the attempt's own record tells what was seen.
        (state, _) => state.parse().map_err(|_| journal::unreadable(state))?,
    };
    Ok(Some(Recorded { delivery: outcome.delivery, class: outcome.class, state, foreign_answer }))
}

fn apply(
    tx: &Connection,
    now: Timestamp,
    settle: Settle,
    seq: i64,
    outcome: &Settled,
    bodies: Bodies,
) -> Result<DeliveryState> {
    match &outcome.next {
        Next::Delivered { message, uuid, time } => {
            tx.prepare_cached(
                "UPDATE delivery SET state = 'delivered', reason = NULL, open = 0,
                     resend_at = NULL, ended_at = ?2, server_message_id = ?3, server_uuid = ?4,
                     server_time = ?5, text = iif(?6, NULL, text)
                 WHERE seq = ?1",
            )?
            .execute(params![
                seq,
                now.as_micros(),
                message.0.cast_signed(),
                uuid,
                time.map(Timestamp::as_micros),
                bodies == Bodies::Hash
            ])?;
            let record = journal::delivery(tx, now, seq)?;
            Lane::of(tx, seq)?.refresh(tx, now)?;
            report(tx, now, seq, &record)?;
            Ok(DeliveryState::Delivered)
        }
        Next::Retry { at } => {
            let missed = outcome.class == Class::NotSent;
            tx.prepare_cached(
                "UPDATE delivery SET state = 'queued', next_attempt_at = ?2,
                     misses = iif(?3, misses + 1, 0)
                 WHERE seq = ?1",
            )?
            .execute(params![seq, at.as_micros(), missed])?;
            journal::delivery(tx, now, seq)?;
            Lane::of(tx, seq)?.refresh(tx, now)?;
            Ok(DeliveryState::Queued)
        }
        Next::Dead(reason) => {
            let record = finish(tx, now, seq, *reason, bodies)?;
            report(tx, now, seq, &record)?;
            Ok(DeliveryState::Dead)
        }
        Next::Unknown => turn_unknown(tx, now, seq, settle, &outcome.code, bodies),
    }
}

/// Whether another delivery of the widget became the message with this number, or with this uuid, a short
/// while ago.
fn names_another(
    tx: &Connection,
    now: Timestamp,
    seq: i64,
    message: MessageId,
    uuid: Option<&str>,
) -> Result<bool> {
    let since = (now - FOREIGN_UUID_WINDOW).as_micros();
    let by_uuid = tx
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM delivery
             WHERE server_uuid = ?1 AND seq <> ?2 AND ended_at >= ?3)",
        )?
        .query_row(params![uuid, seq, since], |row| row.get(0))?;
    if by_uuid {
        return Ok(true);
    }
    // The numbers of two servers have nothing to do with each other.
    Ok(tx
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM delivery
             WHERE server_message_id = ?1 AND seq <> ?2 AND ended_at >= ?3
                 AND widget = (SELECT widget FROM delivery WHERE seq = ?2))",
        )?
        .query_row(params![message.0.cast_signed(), seq, since], |row| row.get(0))?)
}

fn sweep(
    tx: &Connection,
    now: Timestamp,
    settle: Settle,
    limit: usize,
    bodies: Bodies,
) -> Result<(u64, Option<Timestamp>)> {
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    let mut moved = 0;
    // What became unknown under a clock that was ahead waits from now on, by the clock that counts now.
    tx.prepare_cached(
        "UPDATE delivery SET unknown_since = ?1, resend_at = min(resend_at, ?2)
         WHERE state = 'unknown' AND unknown_since > ?1",
    )?
    .execute(params![now.as_micros(), (now + settle.wait).as_micros()])?;
    let list = |sql: &str, bound: i64, moved: u64| -> Result<Vec<i64>> {
        let left = i64::try_from(limit.saturating_sub(moved)).unwrap_or(i64::MAX);
        Ok(tx
            .prepare_cached(sql)?
            .query_map(params![bound, left], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?)
    };
    for seq in list(
        "SELECT seq FROM delivery WHERE state = 'queued' AND expires_at <= ?1
         ORDER BY expires_at LIMIT ?2",
        now.as_micros(),
        moved,
    )? {
        expire(tx, now, seq, bodies)?;
        moved += 1;
    }
    for seq in list(
        "SELECT seq FROM delivery WHERE resend_at IS NOT NULL AND resend_at <= ?1
         ORDER BY resend_at LIMIT ?2",
        now.as_micros(),
        moved,
    )? {
        resend(tx, now, seq, bodies)?;
        moved += 1;
    }
    let given_up = now - settle.unresolved_after;
    for seq in list(
        "SELECT seq FROM delivery WHERE state = 'unknown' AND unknown_since <= ?1
         ORDER BY unknown_since LIMIT ?2",
        given_up.as_micros(),
        moved,
    )? {
        let record = finish(tx, now, seq, DeadReason::Unresolved, bodies)?;
        report(tx, now, seq, &record)?;
        moved += 1;
    }
    let next: Option<i64> = tx
        .prepare_cached(
            "SELECT min(at) FROM (
                 SELECT min(expires_at) AS at FROM delivery WHERE state = 'queued'
                 UNION ALL SELECT min(resend_at) FROM delivery WHERE resend_at IS NOT NULL
                 UNION ALL SELECT min(unknown_since) + ?1 FROM delivery WHERE state = 'unknown')",
        )?
        .query_row([micros(settle.unresolved_after)], |row| row.get(0))?;
    Ok((moved, next.map(Timestamp::from_micros)))
}

/// unknown → queued, `at_least_once` only: from here on it may have been applied twice.
fn resend(tx: &Connection, now: Timestamp, seq: i64, bodies: Bodies) -> Result<()> {
    let expires_at: i64 = tx
        .prepare_cached("SELECT expires_at FROM delivery WHERE seq = ?1")?
        .query_row([seq], |row| row.get(0))?;
    if expires_at <= now.as_micros() {
        return expire(tx, now, seq, bodies);
    }
    tx.prepare_cached("UPDATE delivery SET resends = resends + 1 WHERE seq = ?1")?
        .execute([seq])?;
    requeue(tx, now, seq, true)
}

/// dead or unknown → queued again, by time or by an operator. Its place in the lane is the old one.
pub(super) fn requeue(
    tx: &Connection,
    now: Timestamp,
    seq: i64,
    possible_duplicate: bool,
) -> Result<()> {
    tx.prepare_cached(
        "UPDATE delivery SET state = 'queued', reason = NULL, open = 1, resend_at = NULL,
             ended_at = NULL, unknown_since = NULL, next_attempt_at = ?2, misses = 0,
             possible_duplicate = max(possible_duplicate, ?3)
         WHERE seq = ?1",
    )?
    .execute(params![seq, now.as_micros(), possible_duplicate])?;
    journal::delivery(tx, now, seq)?;
    Lane::of(tx, seq)?.refresh(tx, now)
}

fn dead_reason(text: Option<String>) -> Option<DeadReason> {
    text.and_then(|text| text.parse().ok())
}
