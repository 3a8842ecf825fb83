//! The stretches in which nothing was sent, and the story of one delivery or occurrence, read as it
//! stands at one instant.

use async_trait::async_trait;
use imbabot_bot::DeliveryId;
use imbabot_core::Timestamp;

use super::PostgresStore;
use super::journal::{self, DELIVERY_COLUMNS};
use super::lane::Lane;
use super::ledger::{LINE, read_lines};
use super::row::{get, id as id_of, instant, instant_or_none, number, parsed};
use super::tx::{Param, Tx, params};
use crate::error::Result;
use crate::explanations::{
    BreakerChange, DeliveryStory, Downtime, Explanations, OccurrenceStory, ScheduleStory, Stop,
    Stoppage, Told,
};
use crate::ledger::Line;
use crate::outbox::{DeliveryRecord, DeliveryState};

#[async_trait]
impl Explanations for PostgresStore {
    async fn note_breakers(&self, changes: Vec<BreakerChange>) -> Result<()> {
        self.link
            .fenced(async move |tx| {
                for change in &changes {
                    let scope = format!("widget/{}", change.widget);
                    if change.open {
                        let detail = change.detail.as_deref();
                        begin(tx, &scope, change.reason, change.at, detail).await?;
                    } else {
                        end(tx, &scope, change.reason, change.at).await?;
                    }
                }
                Ok(())
            })
            .await
    }

    async fn lasting_stoppages(&self) -> Result<Vec<Stoppage>> {
        self.link.read(async |tx| lasting(tx).await).await
    }

    async fn delivery_story(&self, id: DeliveryId) -> Result<Option<DeliveryStory>> {
        self.link.read(async move |tx| delivery_story(tx, id).await).await
    }

    async fn occurrence_story(
        &self,
        id: &str,
        key: &str,
        nominal_at: Timestamp,
    ) -> Result<OccurrenceStory> {
        let (id, key) = (id.to_owned(), key.to_owned());
        self.link.read(async move |tx| occurrence_story(tx, &id, &key, nominal_at).await).await
    }

    async fn schedule_story(&self, key: &str, until: Timestamp) -> Result<ScheduleStory> {
        let key = key.to_owned();
        self.link.read(async move |tx| schedule_story(tx, &key, until).await).await
    }
}

/// From now on nothing of this scope is sent. False if that was so already.
pub(super) async fn begin(
    tx: &Tx<'_>,
    scope: &str,
    reason: Stop,
    at: Timestamp,
    detail: Option<&str>,
) -> Result<bool> {
    // What ended in this very instant goes on: its row gives way to one that lasts.
    tx.execute(
        "DELETE FROM stoppage
         WHERE scope = $1 AND reason = $2 AND since = $3 AND until IS NOT NULL
           AND NOT EXISTS (SELECT 1 FROM stoppage
               WHERE scope = $1 AND reason = $2 AND until IS NULL)",
        params![scope, reason.as_str(), at.as_micros()],
    )
    .await?;
    // Whichever key is in the way: if another instance has just said so, that is waited for.
    let changed = tx
        .execute(
            "INSERT INTO stoppage (scope, reason, since, detail) VALUES ($1, $2, $3, $4)
             ON CONFLICT DO NOTHING",
            params![scope, reason.as_str(), at.as_micros(), detail],
        )
        .await?;
    Ok(changed > 0)
}

/// That is over. False if it did not last.
pub(super) async fn end(tx: &Tx<'_>, scope: &str, reason: Stop, at: Timestamp) -> Result<bool> {
    let changed = tx
        .execute(
            "UPDATE stoppage SET until = greatest(since, $3)
             WHERE scope = $1 AND reason = $2 AND until IS NULL",
            params![scope, reason.as_str(), at.as_micros()],
        )
        .await?;
    Ok(changed > 0)
}

/// A new run knows of no breaker.
pub(super) async fn breakers_end(tx: &Tx<'_>, now: Timestamp) -> Result<()> {
    tx.execute(
        "UPDATE stoppage SET until = greatest(since, $1)
         WHERE until IS NULL AND reason <> 'paused'",
        params![now.as_micros()],
    )
    .await?;
    Ok(())
}

async fn delivery_story(tx: &Tx<'_>, id: DeliveryId) -> Result<Option<DeliveryStory>> {
    let bytes = id.as_bytes().to_vec();
    let sql = format!(
        "SELECT {DELIVERY_COLUMNS}, seq, ended_at, resend_at, next_attempt_at
         FROM delivery WHERE id = $1"
    );
    let Some(row) = tx.maybe(&sql, params![bytes]).await? else { return Ok(None) };
    let record = journal::read_delivery(&row)?;
    let (seq, until, resend_at): (i64, _, _) =
        (get(&row, 21)?, instant_or_none(&row, 22)?, instant_or_none(&row, 23)?);
    let next_attempt_at = instant(&row, 24)?;
    let lines = lines_of_delivery(tx, id).await?;
    let cause = cause(tx, &record).await?;
    let mut scopes = vec!["all".to_owned(), format!("widget/{}", record.widget)];
    scopes.extend(record.bot.as_ref().map(|bot| format!("bot/{bot}")));
    let stoppages = stoppages(tx, &scopes, record.created_at, until).await?;
    let downtimes = downtimes(tx, record.created_at, until).await?;
    let queued = record.state == DeliveryState::Queued;
    let behind = if queued { behind(tx, seq).await? } else { None };
    let due_at = queued.then(|| record.not_before.max(next_attempt_at));
    Ok(Some(DeliveryStory {
        record,
        lines,
        cause,
        stoppages,
        downtimes,
        due_at,
        behind,
        resend_at,
    }))
}

/// What its lane waits for, if that is another: the one that is on its way, else the first open one.
async fn behind(tx: &Tx<'_>, seq: i64) -> Result<Option<DeliveryId>> {
    let Lane { widget, room, sender } = Lane::of(tx, seq).await?;
    let row = tx
        .maybe(
            "SELECT id, seq FROM delivery
             WHERE widget = $1 AND room = $2 AND sender = $3 AND (open OR state = 'sending')
             ORDER BY state <> 'sending', not_before, seq LIMIT 1",
            params![widget, room, sender],
        )
        .await?;
    match row {
        Some(row) if get::<i64>(&row, 1)? != seq => id_of(&row, 0).map(Some),
        _ => Ok(None),
    }
}

/// Lines by the ids under which they were appended.
async fn lines_of_delivery(tx: &Tx<'_>, id: DeliveryId) -> Result<Vec<Told>> {
    let name = id.to_string();
    let (from, to, acts) = (format!("{name}/"), format!("{name}0"), format!("delivery/{name}"));
    told(
        tx,
        &format!(
            "{LINE} WHERE l.id = $1 AND l.kind = 'delivery'
                OR l.id > $2 AND l.id < $3 AND l.kind = 'attempt'
                OR l.id = $4 AND l.kind = 'operator'
             ORDER BY l.seq"
        ),
        params![name, from, to, acts],
    )
    .await
}

async fn cause(tx: &Tx<'_>, record: &DeliveryRecord) -> Result<Vec<Told>> {
    let (kind, id) = match (&record.occurrence, &record.event, &record.bot) {
        (Some(occurrence), _, _) => ("occurrence", occurrence.clone()),
        (None, Some(event), Some(bot)) => ("event", format!("{event}/{bot}")),
        _ => return Ok(Vec::new()),
    };
    told(
        tx,
        &format!("{LINE} WHERE l.id = $1 AND l.kind = $2 ORDER BY l.seq DESC LIMIT 1"),
        params![id, kind],
    )
    .await
}

async fn occurrence_story(
    tx: &Tx<'_>,
    id: &str,
    key: &str,
    nominal_at: Timestamp,
) -> Result<OccurrenceStory> {
    let of = |kind: &str| format!("{LINE} WHERE l.id = $1 AND l.kind = '{kind}' ORDER BY l.seq");
    let mut lines = told(tx, &of("occurrence"), params![id]).await?;
    // What an operator triggered stands beside the calendar, in no run.
    if lines.is_empty() && !id.contains('!') {
        let runs = told(tx, &of("range"), params![key]).await?;
        lines.extend(runs.into_iter().filter(|line| {
            matches!(&line.line.line, Line::Range(run) if run.from <= nominal_at && nominal_at <= run.to)
        }));
    }
    let (from, to) = (format!("occurrence/{id}/"), format!("occurrence/{id}0"));
    let deliveries = tx
        .rows(
            &format!(
                "SELECT {DELIVERY_COLUMNS} FROM delivery WHERE key >= $1 AND key < $2 ORDER BY seq"
            ),
            params![from, to],
        )
        .await?;
    let deliveries = deliveries.iter().map(journal::read_delivery).collect::<Result<_>>()?;
    let row = tx
        .maybe("SELECT left_out, targets IS NOT NULL FROM occurrence WHERE id = $1", params![id])
        .await?;
    let (overlaps, unserved) = match row {
        Some(row) => (number(&row, 0)?, get(&row, 1)?),
        None => (0, false),
    };
    let schedule = tx
        .maybe("SELECT fired_through, present, paused FROM schedule WHERE key = $1", params![key])
        .await?;
    let (fired_through, present, paused) = match schedule {
        Some(row) => (Some(instant(&row, 0)?), get(&row, 1)?, get(&row, 2)?),
        None => (None, false, false),
    };
    let downtimes = downtimes(tx, nominal_at, Some(nominal_at)).await?;
    Ok(OccurrenceStory {
        lines,
        deliveries,
        overlaps,
        unserved,
        fired_through,
        present,
        paused,
        downtimes,
    })
}

async fn schedule_story(tx: &Tx<'_>, key: &str, until: Timestamp) -> Result<ScheduleStory> {
    let row = tx
        .maybe(
            "SELECT nominal_at FROM occurrence
             WHERE schedule = $1 AND nominal_at <= $2 AND id NOT LIKE '%!manual'
             ORDER BY nominal_at DESC LIMIT 1",
            params![key, until.as_micros()],
        )
        .await?;
    let one = row.map_or(Ok(None), |row| instant(&row, 0).map(Some))?;
    let runs = format!("{LINE} WHERE l.id = $1 AND l.kind = 'range'");
    let run =
        told(tx, &runs, params![key]).await?.into_iter().filter_map(|line| match line.line.line {
            Line::Range(run) if run.to <= until => Some(run.to),
            _ => None,
        });
    let run = run.max();
    let paused = tx.maybe("SELECT 1 FROM schedule WHERE key = $1 AND paused", params![key]).await?;
    let mut paused_since = None;
    if paused.is_some() {
        let target = format!("schedule/{key}");
        let acts = format!("{LINE} WHERE l.id = $1 AND l.kind = 'operator' ORDER BY l.seq DESC");
        paused_since = told(tx, &acts, params![target]).await?.into_iter().find_map(|line| {
            let Line::Operator(act) = line.line.line else { return None };
            (act.verb == "schedules pause" && act.before != "paused").then_some(line.at)
        });
    }
    Ok(ScheduleStory { last: one.max(run), paused_since })
}

async fn told(tx: &Tx<'_>, sql: &str, params: &[Param<'_>]) -> Result<Vec<Told>> {
    let rows = tx.rows(sql, params).await?;
    let lines = read_lines(tx, &rows).await?;
    rows.iter().zip(lines).map(|(row, line)| Ok(Told { at: instant(row, 3)?, line })).collect()
}

async fn stoppages(
    tx: &Tx<'_>,
    scopes: &[String],
    from: Timestamp,
    until: Option<Timestamp>,
) -> Result<Vec<Stoppage>> {
    let until = until.map_or(i64::MAX, Timestamp::as_micros);
    let rows = tx
        .rows(
            "SELECT scope, reason, since, until, detail FROM stoppage
             WHERE scope = ANY($1) AND coalesce(until, $2) >= $2 AND since <= $3
             ORDER BY since, array_position($1, scope)",
            params![scopes, from.as_micros(), until],
        )
        .await?;
    rows.iter().map(stoppage).collect()
}

/// Those that have not ended.
async fn lasting(tx: &Tx<'_>) -> Result<Vec<Stoppage>> {
    let rows = tx
        .rows(
            "SELECT scope, reason, since, until, detail FROM stoppage WHERE until IS NULL
             ORDER BY scope COLLATE \"C\", reason COLLATE \"C\"",
            params![],
        )
        .await?;
    rows.iter().map(stoppage).collect()
}

fn stoppage(row: &tokio_postgres::Row) -> Result<Stoppage> {
    Ok(Stoppage {
        scope: get(row, 0)?,
        reason: parsed(row, 1)?,
        since: instant(row, 2)?,
        until: instant_or_none(row, 3)?,
        detail: get(row, 4)?,
    })
}

/// A run, as far as it tells when somebody was there.
struct Run {
    since: Timestamp,
    until: Option<Timestamp>,
    clean: bool,
}

/// The stretches in which no instance ran, those that touch a stretch of time.
async fn downtimes(
    tx: &Tx<'_>,
    from: Timestamp,
    until: Option<Timestamp>,
) -> Result<Vec<Downtime>> {
    let rows = tx
        .rows(
            // Those that reach into it, and the last one before.
            "SELECT started_at, ended_at, clean FROM incarnation
             WHERE ended_at IS NULL OR ended_at >= $1 OR id = (
                 SELECT id FROM incarnation WHERE ended_at < $1 ORDER BY ended_at DESC, id LIMIT 1)
             ORDER BY id",
            params![from.as_micros()],
        )
        .await?;
    let mut runs = Vec::with_capacity(rows.len());
    for row in &rows {
        let (since, noticed) = (instant(row, 0)?, instant_or_none(row, 1)?);
        let clean = get::<Option<bool>>(row, 2)?.unwrap_or(true);
        // The end of a killed run is when somebody noticed: the last line before is nearer to it.
        let until = match noticed {
            Some(noticed) if !clean => Some(last_sign_of_life(tx, noticed).await?),
            other => other,
        };
        runs.push(Run { since, until, clean });
    }
    let mut found = Vec::new();
    for run in &runs {
        let Some(ended) = run.until else { continue };
        let goes_on =
            |other: &Run| other.since <= ended && other.until.is_none_or(|until| until > ended);
        if runs.iter().any(goes_on) {
            continue;
        }
        let to = runs.iter().map(|other| other.since).filter(|since| *since > ended).min();
        if until.is_none_or(|until| ended <= until) && to.is_none_or(|to| to >= from) {
            found.push(Downtime { from: ended, to, killed: !run.clean });
        }
    }
    found.sort_by_key(|down| down.from);
    found.dedup_by_key(|down| down.from);
    Ok(found)
}

async fn last_sign_of_life(tx: &Tx<'_>, noticed_at: Timestamp) -> Result<Timestamp> {
    let row =
        tx.row("SELECT max(at) FROM ledger WHERE at < $1", params![noticed_at.as_micros()]).await?;
    Ok(instant_or_none(&row, 0)?.unwrap_or(noticed_at))
}
