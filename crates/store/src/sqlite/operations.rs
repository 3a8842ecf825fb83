//! What operators do and look at.

use async_trait::async_trait;
use imbabot_bot::DeliveryId;
use imbabot_core::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::inbox::{RECORD, record_of};
use super::journal::{self, DELIVERY_COLUMNS, parsed, unreadable};
use super::lane::Lane;
use super::{SqliteStore, explanations, inbox, outbox, provenance, retention};
use crate::error::Result;
use crate::explanations::Stop;
use crate::inbox::EventRecord;
use crate::operations::{
    Backlog, CancelFilter, Care, DeliveryFilter, Operations, OperatorRecord, PauseScope,
    Resolution, RetryVerdict, SignOfLife, StateCount, Tally,
};
use crate::outbox::{DeadReason, DeliveryRecord, DeliveryState};
use crate::rules::{RETRY_KEEPS, no_retry};

#[async_trait]
impl Operations for SqliteStore {
    async fn pause(&self, now: Timestamp, scope: &PauseScope, paused: bool) -> Result<bool> {
        let scope = scope.to_string();
        self.link
            .write(move |tx| {
                let changed = if paused {
                    explanations::begin(tx, &scope, Stop::Paused, now, None)?
                } else {
                    explanations::end(tx, &scope, Stop::Paused, now)?
                };
                if !changed {
                    return Ok(false);
                }
                if !paused {
                    release_lanes(tx, now)?;
                }
                let word = |paused: bool| if paused { "paused" } else { "running" };
                let verb = if paused { "pause" } else { "resume" };
                acted(tx, now, verb, &scope, word(!paused), word(paused))?;
                Ok(true)
            })
            .await
    }

    async fn paused(&self) -> Result<Vec<PauseScope>> {
        self.link
            .read(|tx| {
                let mut statement = tx.prepare_cached(
                    "SELECT scope FROM stoppage WHERE reason = 'paused' AND until IS NULL
                     ORDER BY scope",
                )?;
                let mut rows = statement.query([])?;
                let mut scopes = Vec::new();
                while let Some(row) = rows.next()? {
                    let text: String = row.get(0)?;
                    scopes.push(match text.split_once('/') {
                        None => PauseScope::All,
                        Some(("widget", name)) => {
                            PauseScope::Widget(name.parse().map_err(|_| unreadable(name))?)
                        }
                        Some((_, name)) => {
                            PauseScope::Bot(name.parse().map_err(|_| unreadable(name))?)
                        }
                    });
                }
                Ok(scopes)
            })
            .await
    }

    async fn deliveries(&self, filter: &DeliveryFilter) -> Result<Vec<DeliveryRecord>> {
        let filter = filter.clone();
        self.link
            .read(move |tx| {
                let mut statement = tx.prepare_cached(&format!(
                    "SELECT {DELIVERY_COLUMNS} FROM delivery
                     WHERE (?1 IS NULL OR state = ?1) AND (?2 IS NULL OR created_at >= ?2)
                     ORDER BY seq DESC LIMIT ?3"
                ))?;
                let mut rows = statement.query(params![
                    filter.state.map(DeliveryState::as_str),
                    filter.since.map(Timestamp::as_micros),
                    filter.limit.map_or(-1, |n| i64::try_from(n).unwrap_or(i64::MAX)),
                ])?;
                let mut found = Vec::new();
                while let Some(row) = rows.next()? {
                    found.push(journal::read_delivery(row)?);
                }
                Ok(found)
            })
            .await
    }

    async fn cancel(&self, now: Timestamp, filter: &CancelFilter) -> Result<Vec<DeliveryId>> {
        let (filter, bodies) = (filter.clone(), self.bodies);
        self.link
            .write(move |tx| {
                let mut cancelled = Vec::new();
                for seq in queued(tx, &filter)? {
                    let record = outbox::finish(tx, now, seq, DeadReason::Cancelled, bodies)?;
                    outbox::report(tx, now, seq, &record)?;
                    let target = format!("delivery/{}", record.id);
                    acted(tx, now, "deliveries cancel", &target, "queued", "dead")?;
                    cancelled.push(record.id);
                }
                Ok(cancelled)
            })
            .await
    }

    async fn retry(
        &self,
        now: Timestamp,
        id: DeliveryId,
        accept_duplicate: bool,
    ) -> Result<RetryVerdict> {
        self.link
            .write(move |tx| {
                let found = find(tx, id)?;
                let Some((seq, state, ambiguous, has_text)) = found else {
                    return Ok(RetryVerdict::Missing);
                };
                let unsure = state == DeliveryState::Unknown || ambiguous > 0;
                if let Some(verdict) = no_retry(state, unsure, has_text, accept_duplicate) {
                    return Ok(verdict);
                }
                // A person wants it now, so what it keeps is counted from now; what had hardly any
                // time left when it was recorded gets a little.
                tx.execute(
                    "UPDATE delivery SET expires_at = max(expires_at, ?2 + max(keeps, ?3))
                     WHERE seq = ?1",
                    params![seq, now.as_micros(), RETRY_KEEPS],
                )?;
                outbox::requeue(tx, now, seq, unsure)?;
                let target = format!("delivery/{id}");
                acted(tx, now, "deliveries retry", &target, state.as_str(), "queued")?;
                Ok(RetryVerdict::Queued)
            })
            .await
    }

    async fn resolve(
        &self,
        now: Timestamp,
        id: DeliveryId,
        as_: Resolution,
    ) -> Result<Option<DeliveryState>> {
        let bodies = self.bodies;
        self.link
            .write(move |tx| {
                let Some((seq, state, _, _)) = find(tx, id)? else { return Ok(None) };
                if state != DeliveryState::Unknown {
                    return Ok(Some(state));
                }
                let record = match as_ {
                    Resolution::Delivered => outbox::confirm(tx, now, seq, bodies)?,
                    Resolution::Dead => {
                        outbox::finish(tx, now, seq, DeadReason::Unresolved, bodies)?
                    }
                };
                outbox::report(tx, now, seq, &record)?;
                let (target, after) = (format!("delivery/{id}"), record.state.as_str());
                acted(tx, now, "deliveries resolve", &target, "unknown", after)?;
                Ok(Some(state))
            })
            .await
    }

    async fn events(&self, poisoned_only: bool, limit: usize) -> Result<Vec<EventRecord>> {
        self.link
            .read(move |tx| {
                let condition = if poisoned_only { "WHERE i.state = 'poisoned'" } else { "" };
                let mut statement = tx.prepare_cached(&format!(
                    "{RECORD} {condition} ORDER BY i.event DESC, i.bot LIMIT ?1"
                ))?;
                let mut rows = statement.query([i64::try_from(limit).unwrap_or(i64::MAX)])?;
                let mut found = Vec::new();
                while let Some(row) = rows.next()? {
                    found.push(record_of(row)?);
                }
                Ok(found)
            })
            .await
    }

    async fn retry_event(&self, now: Timestamp, id: &str) -> Result<bool> {
        let id = id.to_owned();
        self.link
            .write(move |tx| {
                let Some((event, bot)) = id.strip_prefix('e').and_then(|id| id.split_once('/'))
                else {
                    return Ok(false);
                };
                let Ok(event) = event.parse::<i64>() else { return Ok(false) };
                let revived = inbox::revive(tx, now, bot, event)?;
                if revived {
                    let target = format!("event/{id}");
                    acted(tx, now, "events retry", &target, "poisoned", "waiting")?;
                }
                Ok(revived)
            })
            .await
    }

    async fn tally(&self) -> Result<Tally> {
        self.link.read(tally).await
    }

    async fn backlog(&self, limit: usize) -> Result<Backlog> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.link.read(move |tx| backlog(tx, limit)).await
    }

    async fn prune(&self, now: Timestamp, before: Timestamp, limit: usize) -> Result<u64> {
        self.link.write(move |tx| retention::prune(tx, now, before, limit)).await
    }

    async fn check_integrity(&self, thorough: bool) -> Result<Option<String>> {
        self.link
            .read(move |tx| {
                super::check(tx, if thorough { "integrity_check" } else { "quick_check" })
            })
            .await
    }

    async fn cared(&self, care: Care) -> Result<()> {
        self.link.write(move |tx| provenance::cared(tx, &care)).await
    }

    async fn care(&self) -> Result<Vec<Care>> {
        self.link.read(provenance::care).await
    }

    async fn sign(&self, sign: SignOfLife) -> Result<()> {
        let reached = self
            .link
            .write(move |tx| {
                tx.prepare_cached(
                    "REPLACE INTO sign_of_life (one, at, stopped, status) VALUES (1, ?1, ?2, ?3)",
                )?
                .execute(params![
                    sign.at.as_micros(),
                    sign.stopped,
                    sign.status
                ])?;
                provenance::reached(tx)
            })
            .await?;
        self.witness(&reached)
    }

    async fn last_sign(&self) -> Result<Option<SignOfLife>> {
        self.link
            .read(|tx| {
                let mut statement =
                    tx.prepare_cached("SELECT at, stopped, status FROM sign_of_life")?;
                let read = |row: &rusqlite::Row<'_>| {
                    Ok(SignOfLife {
                        at: Timestamp::from_micros(row.get(0)?),
                        stopped: row.get(1)?,
                        status: row.get(2)?,
                    })
                };
                Ok(statement.query_row([], read).optional()?)
            })
            .await
    }
}

/// Records an operator's act.
pub(super) fn acted(
    tx: &Connection,
    now: Timestamp,
    verb: &str,
    target: &str,
    before: &str,
    after: &str,
) -> Result<()> {
    let record = OperatorRecord {
        verb: verb.into(),
        target: target.into(),
        before: before.into(),
        after: after.into(),
        at: now,
    };
    journal::operator(tx, &record)
}

fn find(tx: &Connection, id: DeliveryId) -> Result<Option<(i64, DeliveryState, i64, bool)>> {
    let found = tx
        .query_row(
            "SELECT seq, state, ambiguous, text IS NOT NULL FROM delivery WHERE id = ?1",
            [id.as_bytes()],
            |row| {
                Ok((|| -> Result<_> {
                    Ok((row.get(0)?, parsed(row, 1)?, row.get(2)?, row.get(3)?))
                })())
            },
        )
        .optional()?;
    found.transpose()
}

fn queued(tx: &Connection, filter: &CancelFilter) -> Result<Vec<i64>> {
    let list = |condition: &str, value: &dyn rusqlite::ToSql| -> Result<Vec<i64>> {
        let sql =
            format!("SELECT seq FROM delivery WHERE open = 1 AND state = 'queued' AND {condition}");
        Ok(tx
            .prepare_cached(&sql)?
            .query_map([value], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?)
    };
    match filter {
        CancelFilter::Ids(ids) => {
            let mut found = Vec::new();
            for id in ids {
                found.extend(list("id = ?1", id.as_bytes())?);
            }
            Ok(found)
        }
        CancelFilter::Bot(bot) => list("bot = ?1", &bot.as_str()),
        CancelFilter::Schedule(key) => list("schedule = ?1", key),
        CancelFilter::State(state) => list("state = ?1", &state.as_str()),
    }
}

/// Lanes that a pause of their head's bot held may go again.
fn release_lanes(tx: &Connection, now: Timestamp) -> Result<()> {
    let held: Vec<Lane> = tx
        .prepare("SELECT widget, room, sender FROM lane WHERE ready_at IS NULL")?
        .query_map([], |row| {
            Ok(Lane { widget: row.get(0)?, room: row.get(1)?, sender: row.get(2)? })
        })?
        .collect::<rusqlite::Result<_>>()?;
    held.iter().try_for_each(|lane| lane.refresh(tx, now))
}

/// Each list goes by an index that holds it in this order.
fn backlog(tx: &Connection, limit: i64) -> Result<Backlog> {
    let list = |rest: &str| -> Result<Vec<DeliveryRecord>> {
        tx.prepare_cached(&format!("SELECT {DELIVERY_COLUMNS} FROM delivery {rest} LIMIT ?1"))?
            .query_map([limit], |row| Ok(journal::read_delivery(row)))?
            .map(|record| record?)
            .collect()
    };
    let mut statement = tx.prepare_cached(
        "SELECT bot, count(*) FROM inbox WHERE state IN ('waiting', 'running') GROUP BY bot",
    )?;
    let mut rows = statement.query([])?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        events.push((parsed(row, 0)?, journal::number(row, 1)?));
    }
    Ok(Backlog {
        unknown: list("WHERE state = 'unknown' ORDER BY unknown_since")?,
        queued: list("WHERE state = 'queued' ORDER BY expires_at")?,
        events,
    })
}

fn tally(tx: &Connection) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut statement =
        tx.prepare_cached("SELECT state, reason, present, total FROM delivery_count")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let reason: String = row.get(1)?;
        tally.deliveries.push(StateCount {
            state: parsed(row, 0)?,
            reason: (!reason.is_empty()).then_some(reason),
            present: journal::number(row, 2)?,
            total: journal::number(row, 3)?,
        });
    }
    let one = |sql: &str| -> Result<u64> {
        Ok(tx.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0))?.cast_unsigned())
    };
    tally.possible_duplicates = one("SELECT total FROM doubled_count")?;
    tally.events_waiting = one("SELECT count(*) FROM inbox WHERE state IN ('waiting', 'running')")?;
    let mut statement =
        tx.prepare_cached("SELECT bot, count(*) FROM inbox WHERE state = 'poisoned' GROUP BY bot")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        tally.events_poisoned.push((parsed(row, 0)?, journal::number(row, 1)?));
    }
    Ok(tally)
}
