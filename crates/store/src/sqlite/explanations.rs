//! The stretches in which nothing was sent, and the story of one delivery or occurrence, read in
//! one transaction.

use async_trait::async_trait;
use imbabot_bot::DeliveryId;
use imbabot_core::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::SqliteStore;
use super::journal::{self, DELIVERY_COLUMNS, instant, instant_or_none, parsed};
use super::lane::Lane;
use super::ledger::{LINE, read_line};
use crate::error::Result;
use crate::explanations::{
    BreakerChange, DeliveryStory, Downtime, Explanations, OccurrenceStory, ScheduleStory, Stop,
    Stoppage, Told,
};
use crate::ledger::Line;
use crate::outbox::{DeliveryRecord, DeliveryState};

#[async_trait]
impl Explanations for SqliteStore {
    async fn note_breakers(&self, changes: Vec<BreakerChange>) -> Result<()> {
        self.link
            .write(move |tx| {
                for change in &changes {
                    let scope = format!("widget/{}", change.widget);
                    if change.open {
                        begin(tx, &scope, change.reason, change.at, change.detail.as_deref())?;
                    } else {
                        end(tx, &scope, change.reason, change.at)?;
                    }
                }
                Ok(())
            })
            .await
    }

    async fn lasting_stoppages(&self) -> Result<Vec<Stoppage>> {
        self.link.read(lasting).await
    }

    async fn delivery_story(&self, id: DeliveryId) -> Result<Option<DeliveryStory>> {
        self.link.read(move |tx| delivery_story(tx, id)).await
    }

    async fn occurrence_story(
        &self,
        id: &str,
        key: &str,
        nominal_at: Timestamp,
    ) -> Result<OccurrenceStory> {
        let (id, key) = (id.to_owned(), key.to_owned());
        self.link.read(move |tx| occurrence_story(tx, &id, &key, nominal_at)).await
    }

    async fn schedule_story(&self, key: &str, until: Timestamp) -> Result<ScheduleStory> {
        let key = key.to_owned();
        self.link.read(move |tx| schedule_story(tx, &key, until)).await
    }
}

/// From now on nothing of this scope is sent. False if that was so already.
pub(super) fn begin(
    tx: &Connection,
    scope: &str,
    reason: Stop,
    at: Timestamp,
    detail: Option<&str>,
) -> Result<bool> {
    let changed = tx
        .prepare_cached(
            // What ended in this very instant goes on, so that it is not lost.
            "INSERT INTO stoppage (scope, reason, since, detail)
             SELECT ?1, ?2, ?3, ?4 WHERE NOT EXISTS (SELECT 1 FROM stoppage
                 WHERE scope = ?1 AND reason = ?2 AND until IS NULL)
             ON CONFLICT (scope, reason, since) DO UPDATE
             SET until = NULL, detail = excluded.detail",
        )?
        .execute(params![scope, reason.as_str(), at.as_micros(), detail])?;
    Ok(changed > 0)
}

/// That is over. False if it did not last.
pub(super) fn end(tx: &Connection, scope: &str, reason: Stop, at: Timestamp) -> Result<bool> {
    let changed = tx
        .prepare_cached(
            "UPDATE stoppage SET until = max(since, ?3)
             WHERE scope = ?1 AND reason = ?2 AND until IS NULL",
        )?
        .execute(params![scope, reason.as_str(), at.as_micros()])?;
    Ok(changed > 0)
}

/// A new run knows of no breaker.
pub(super) fn breakers_end(tx: &Connection, now: Timestamp) -> Result<()> {
    tx.prepare_cached(
        "UPDATE stoppage SET until = max(since, ?1) WHERE until IS NULL AND reason <> 'paused'",
    )?
    .execute([now.as_micros()])?;
    Ok(())
}

fn delivery_story(tx: &Connection, id: DeliveryId) -> Result<Option<DeliveryStory>> {
    let found = tx
        .prepare_cached(&format!("SELECT {DELIVERY_COLUMNS}, seq FROM delivery WHERE id = ?1"))?
        .query_row([id.as_bytes()], |row| {
            Ok(journal::read_delivery(row)
                .and_then(|record| Ok((record, row.get::<_, i64>("seq")?))))
        })
        .optional()?;
    let Some((record, seq)) = found.transpose()? else { return Ok(None) };
    let lines = lines_of_delivery(tx, id)?;
    let cause = cause(tx, &record)?;
    let (ended, resend_at, next_attempt_at): (Option<i64>, Option<i64>, i64) = tx.query_row(
        "SELECT ended_at, resend_at, next_attempt_at FROM delivery WHERE seq = ?1",
        [seq],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )?;
    let until = ended.map(Timestamp::from_micros);
    let mut scopes = vec!["all".to_owned(), format!("widget/{}", record.widget)];
    scopes.extend(record.bot.as_ref().map(|bot| format!("bot/{bot}")));
    let stoppages = stoppages(tx, &scopes, record.created_at, until)?;
    let downtimes = downtimes(tx, record.created_at, until)?;
    let queued = record.state == DeliveryState::Queued;
    let head = if queued { Lane::of(tx, seq)?.head(tx)? } else { None };
    let behind = match head {
        Some((first, _, _)) if first != seq => {
            Some(tx.query_row("SELECT id FROM delivery WHERE seq = ?1", [first], |row| {
                Ok(journal::id(row, 0))
            })??)
        }
        _ => None,
    };
    let due_at = queued.then(|| record.not_before.max(Timestamp::from_micros(next_attempt_at)));
    Ok(Some(DeliveryStory {
        record,
        lines,
        cause,
        stoppages,
        downtimes,
        due_at,
        behind,
        resend_at: resend_at.map(Timestamp::from_micros),
    }))
}

/// Lines by the ids under which they were appended.
fn lines_of_delivery(tx: &Connection, id: DeliveryId) -> Result<Vec<Told>> {
    let name = id.to_string();
    select_lines(
        tx,
        &format!(
            "{LINE} WHERE l.id = ?1 AND l.kind = 'delivery'
                OR l.id > ?1 || '/' AND l.id < ?1 || '0' AND l.kind = 'attempt'
                OR l.id = 'delivery/' || ?1 AND l.kind = 'operator'
             ORDER BY l.seq"
        ),
        &[&name],
    )
}

fn cause(tx: &Connection, record: &DeliveryRecord) -> Result<Vec<Told>> {
    let (kind, id) = match (&record.occurrence, &record.event, &record.bot) {
        (Some(occurrence), _, _) => ("occurrence", occurrence.clone()),
        (None, Some(event), Some(bot)) => ("event", format!("{event}/{bot}")),
        _ => return Ok(Vec::new()),
    };
    select_lines(
        tx,
        &format!("{LINE} WHERE l.id = ?1 AND l.kind = ?2 ORDER BY l.seq DESC LIMIT 1"),
        &[&id, &kind],
    )
}

fn occurrence_story(
    tx: &Connection,
    id: &str,
    key: &str,
    nominal_at: Timestamp,
) -> Result<OccurrenceStory> {
    let mut lines = select_lines(
        tx,
        &format!("{LINE} WHERE l.id = ?1 AND l.kind = 'occurrence' ORDER BY l.seq"),
        &[&id],
    )?;
    // What an operator triggered stands beside the calendar, in no run.
    if lines.is_empty() && !id.contains('!') {
        let runs = select_lines(
            tx,
            &format!("{LINE} WHERE l.id = ?1 AND l.kind = 'range' ORDER BY l.seq"),
            &[&key],
        )?;
        lines.extend(runs.into_iter().filter(|line| {
            matches!(&line.line.line, Line::Range(run) if run.from <= nominal_at && nominal_at <= run.to)
        }));
    }
    let deliveries = tx
        .prepare_cached(&format!(
            "SELECT {DELIVERY_COLUMNS} FROM delivery
             WHERE key >= 'occurrence/' || ?1 || '/' AND key < 'occurrence/' || ?1 || '0'
             ORDER BY seq"
        ))?
        .query_map([id], |row| Ok(journal::read_delivery(row)))?
        .map(|row| row?)
        .collect::<Result<_>>()?;
    let (overlaps, unserved) = tx
        .prepare_cached("SELECT overlaps, targets IS NOT NULL FROM occurrence WHERE id = ?1")?
        .query_row([id], |row| Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get(1)?)))
        .optional()?
        .unwrap_or((0, false));
    let schedule: Option<(i64, bool, bool)> = tx
        .prepare_cached("SELECT fired_through, present, paused FROM schedule WHERE key = ?1")?
        .query_row([key], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    Ok(OccurrenceStory {
        lines,
        deliveries,
        overlaps,
        unserved,
        fired_through: schedule.map(|(through, _, _)| Timestamp::from_micros(through)),
        present: schedule.is_some_and(|(_, present, _)| present),
        paused: schedule.is_some_and(|(_, _, paused)| paused),
        downtimes: downtimes(tx, nominal_at, Some(nominal_at))?,
    })
}

fn schedule_story(tx: &Connection, key: &str, until: Timestamp) -> Result<ScheduleStory> {
    let one: Option<i64> = tx
        .prepare_cached(
            "SELECT nominal_at FROM occurrence
             WHERE schedule = ?1 AND nominal_at <= ?2 AND id NOT LIKE '%!manual'
             ORDER BY nominal_at DESC LIMIT 1",
        )?
        .query_row(params![key, until.as_micros()], |row| row.get(0))
        .optional()?;
    let run: Option<String> = tx
        .prepare_cached(
            "SELECT max(body ->> 'to') FROM ledger
             WHERE id = ?1 AND kind = 'range' AND body ->> 'to' <= ?2",
        )?
        .query_row(params![key, until.to_string()], |row| row.get(0))?;
    let run = run.map(|at| at.parse().map_err(|_| journal::unreadable(&at))).transpose()?;
    let paused_since = tx
        .prepare_cached(
            "SELECT l.at FROM ledger l JOIN schedule s ON s.key = ?1 AND s.paused = 1
             WHERE l.id = 'schedule/' || ?1 AND l.kind = 'operator'
               AND l.body ->> 'verb' = 'schedules pause' AND l.body ->> 'before' <> 'paused'
             ORDER BY l.seq DESC LIMIT 1",
        )?
        .query_row([key], |row| Ok(Timestamp::from_micros(row.get(0)?)))
        .optional()?;
    Ok(ScheduleStory { last: one.map(Timestamp::from_micros).max(run), paused_since })
}

fn select_lines(
    tx: &Connection,
    sql: &str,
    parameters: &[&dyn rusqlite::ToSql],
) -> Result<Vec<Told>> {
    let mut statement = tx.prepare_cached(sql)?;
    let mut rows = statement.query(parameters)?;
    let mut lines = Vec::new();
    while let Some(row) = rows.next()? {
        lines.push(Told { at: instant(row, 5)?, line: read_line(row)? });
    }
    Ok(lines)
}

fn stoppages(
    tx: &Connection,
    scopes: &[String],
    from: Timestamp,
    until: Option<Timestamp>,
) -> Result<Vec<Stoppage>> {
    let mut found = Vec::new();
    for scope in scopes {
        let mut statement = tx.prepare_cached(
            "SELECT reason, since, until, detail FROM stoppage
             WHERE scope = ?1 AND coalesce(until, ?2) >= ?2 AND since <= ?3",
        )?;
        let until = until.map_or(i64::MAX, Timestamp::as_micros);
        let mut rows = statement.query(params![scope, from.as_micros(), until])?;
        while let Some(row) = rows.next()? {
            found.push(stoppage(scope, row)?);
        }
    }
    found.sort_by_key(|stoppage| stoppage.since);
    Ok(found)
}

fn lasting(tx: &Connection) -> Result<Vec<Stoppage>> {
    let mut statement = tx.prepare_cached(
        "SELECT reason, since, until, detail, scope FROM stoppage WHERE until IS NULL
         ORDER BY scope, reason",
    )?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(stoppage(&row.get::<_, String>(4)?, row)?);
    }
    Ok(found)
}

fn stoppage(scope: &str, row: &Row<'_>) -> Result<Stoppage> {
    Ok(Stoppage {
        scope: scope.to_owned(),
        reason: parsed(row, 0)?,
        since: instant(row, 1)?,
        until: instant_or_none(row, 2)?,
        detail: row.get(3)?,
    })
}

/// The gaps between runs that touch a stretch of time.
fn downtimes(tx: &Connection, from: Timestamp, until: Option<Timestamp>) -> Result<Vec<Downtime>> {
    let until = until.map_or(i64::MAX, Timestamp::as_micros);
    let mut statement = tx.prepare_cached(
        "SELECT i.ended_at, i.clean,
                (SELECT min(n.started_at) FROM incarnation n WHERE n.id > i.id)
         FROM incarnation i WHERE i.ended_at IS NOT NULL AND i.ended_at >= ?1 ORDER BY i.id",
    )?;
    let mut rows = statement.query([from.as_micros()])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let ended_at = instant(row, 0)?;
        let clean: bool = row.get(1)?;
        let to = instant_or_none(row, 2)?;
        // The end of a killed run is when the next one noticed: its last line is nearer to it.
        let ended_at = if clean { ended_at } else { last_sign_of_life(tx, ended_at)? };
        let relevant = ended_at.as_micros() <= until && to.is_none_or(|to| to >= from);
        if relevant && to.is_none_or(|to| to > ended_at) {
            found.push(Downtime { from: ended_at, to, killed: !clean });
        }
    }
    Ok(found)
}

fn last_sign_of_life(tx: &Connection, noticed_at: Timestamp) -> Result<Timestamp> {
    let last: Option<i64> = tx
        .prepare_cached("SELECT max(at) FROM ledger WHERE at < ?1")?
        .query_row([noticed_at.as_micros()], |row| row.get(0))?;
    Ok(last.map_or(noticed_at, Timestamp::from_micros))
}
