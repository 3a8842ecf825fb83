//! Cursors and occurrences. A schedule's row is the lock of its cursor, and the id of an occurrence is
//! the arbiter of whether it fires: however many instances take the same step, it is taken once.

mod adopt;
mod expand;
mod targets;

use std::collections::BTreeSet;

use async_trait::async_trait;
use imbabot_core::Timestamp;

use super::journal::{self, Lines};
use super::row::{from_json, get, instant, instant_or_none, number};
use super::tx::{Tx, params};
use super::{PostgresStore, inbox};
use crate::error::Result;
use crate::inbox::NewEvent;
use crate::operations::OperatorRecord;
use crate::schedules::{
    AdoptSchedule, Cursor, Expansion, NewOccurrence, OccurrenceCommit, OccurrenceOutcome,
    OccurrenceRecord, Pinned, RangeRecord, Schedules,
};
pub(crate) use targets::{Packed, pack};

#[async_trait]
impl Schedules for PostgresStore {
    async fn adopt_schedules(
        &self,
        now: Timestamp,
        schedules: Vec<AdoptSchedule>,
    ) -> Result<Vec<Cursor>> {
        let bodies = self.bodies;
        let adopted = self
            .link
            .write(async move |tx| adopt::adopt(tx, now, &schedules, bodies).await)
            .await?;
        // A queue of any length is cancelled in steps that each end in time. After a kill in between
        // whoever adopts next goes on.
        let mut rest = adopted.uncancelled;
        while let Some(after) = rest {
            rest = self
                .link
                .write(async move |tx| adopt::cancel_queued(tx, now, after, bodies).await)
                .await?;
        }
        Ok(adopted.cursors)
    }

    async fn cursors(&self) -> Result<Vec<Cursor>> {
        self.link.read(async |tx| read_cursors(tx).await).await
    }

    async fn commit_occurrences(&self, step: OccurrenceCommit) -> Result<bool> {
        self.link.fenced(async move |tx| commit(tx, &step).await).await
    }

    async fn recorded(
        &self,
        key: &str,
        after: Timestamp,
        until: Timestamp,
    ) -> Result<BTreeSet<Timestamp>> {
        let key = key.to_owned();
        self.link
            .read(async move |tx| {
                let rows = tx
                    .rows(
                        "SELECT nominal_at FROM occurrence WHERE schedule = $1
                           AND nominal_at > $2 AND nominal_at <= $3 AND id NOT LIKE '%!manual'",
                        params![key, after.as_micros(), until.as_micros()],
                    )
                    .await?;
                rows.iter().map(|row| instant(row, 0)).collect()
            })
            .await
    }

    async fn runs_across(&self, key: &str, at: Timestamp) -> Result<Vec<RangeRecord>> {
        let key = key.to_owned();
        self.link
            .read(async move |tx| {
                let runs = ranges(tx, &[&key]).await?.into_iter().map(|(_, run)| run);
                let across = |run: &RangeRecord| {
                    run.from <= at && run.to > at && run.outcome != OccurrenceOutcome::Fired
                };
                Ok(runs.filter(across).collect())
            })
            .await
    }

    async fn shorten_run(
        &self,
        now: Timestamp,
        run: &RangeRecord,
        to: Timestamp,
        count: u64,
    ) -> Result<bool> {
        let run = run.clone();
        self.link
            .write(async move |tx| {
                lock(tx, &run.schedule).await?;
                let same = |other: &RangeRecord| {
                    (other.from, other.to, other.outcome) == (run.from, run.to, run.outcome)
                        && other.reason == run.reason
                        && other.count > count
                };
                let found = ranges(tx, &[&run.schedule]).await?;
                let Some((seq, _)) = found.into_iter().find(|(_, other)| same(other)) else {
                    return Ok(false);
                };
                // The retention may have joined it to another meanwhile.
                if tx.execute("DELETE FROM ledger WHERE seq = $1", params![seq]).await? == 0 {
                    return Ok(false);
                }
                if run.outcome == OccurrenceOutcome::Missed {
                    take_back_missed(tx, &[&run.schedule], &[run.count.saturating_sub(count)])
                        .await?;
                }
                journal::range(tx, now, &RangeRecord { to, count, ..run.clone() }).await?;
                Ok(true)
            })
            .await
    }

    async fn trigger(&self, now: Timestamp, key: &str, occurrence: NewOccurrence) -> Result<()> {
        let key = key.to_owned();
        self.link
            .write(async move |tx| {
                lock(tx, &key).await?;
                let done = record(tx, now, &key, std::slice::from_ref(&occurrence)).await?;
                if done.last_fired.is_some() || done.missed > 0 {
                    tx.execute(
                        "UPDATE schedule SET last_fired = greatest(last_fired, $2),
                             missed = missed + $3
                         WHERE key = $1",
                        params![key, done.last_fired.map(Timestamp::as_micros), done.missed],
                    )
                    .await?;
                }
                done.tell(tx, now).await
            })
            .await
    }

    async fn pinned(&self, limit: usize) -> Result<Vec<Pinned>> {
        self.link.read(async move |tx| expand::pinned(tx, limit).await).await
    }

    async fn expand(&self, batch: Expansion) -> Result<bool> {
        let bodies = self.bodies;
        self.link.fenced(async move |tx| expand::expand(tx, &batch, bodies).await).await
    }

    async fn pause_schedule(&self, now: Timestamp, key: &str, paused: bool) -> Result<bool> {
        let key = key.to_owned();
        self.link
            .write(async move |tx| {
                let before = tx
                    .maybe(
                        "SELECT paused FROM schedule WHERE key = $1 AND present FOR UPDATE",
                        params![key],
                    )
                    .await?;
                let Some(before) = before else { return Ok(false) };
                tx.execute("UPDATE schedule SET paused = $2 WHERE key = $1", params![key, paused])
                    .await?;
                let word = |paused: bool| if paused { "paused" } else { "running" };
                let act = OperatorRecord {
                    verb: if paused { "schedules pause" } else { "schedules resume" }.into(),
                    target: format!("schedule/{key}"),
                    before: word(get(&before, 0)?).into(),
                    after: word(paused).into(),
                    at: now,
                };
                journal::operator(tx, &act).await?;
                Ok(true)
            })
            .await
    }
}

async fn commit(tx: &Tx<'_>, step: &OccurrenceCommit) -> Result<bool> {
    let stands = tx
        .maybe(
            "SELECT fired_through FROM schedule WHERE key = $1 AND present FOR UPDATE",
            params![step.key],
        )
        .await?;
    let stands = stands.map(|row| instant(&row, 0)).transpose()?;
    if stands != Some(step.from) {
        return Ok(false);
    }
    let mut done = record(tx, step.now, &step.key, &step.occurrences).await?;
    for range in &step.ranges {
        let record = RangeRecord {
            schedule: step.key.clone(),
            outcome: range.outcome,
            reason: range.reason.clone(),
            from: range.from,
            to: range.to,
            count: range.count,
        };
        done.lines.range(step.now, &record)?;
        if range.outcome == OccurrenceOutcome::Missed {
            done.missed = done.missed.saturating_add(signed(range.count));
        }
    }
    tx.execute(
        "UPDATE schedule SET fired_through = $2, last_fired = greatest(last_fired, $3),
             missed = missed + $4
         WHERE key = $1",
        params![
            step.key,
            step.through.max(step.from).as_micros(),
            done.last_fired.map(Timestamp::as_micros),
            done.missed,
        ],
    )
    .await?;
    done.tell(tx, step.now).await?;
    Ok(true)
}

/// What recording occurrences comes to beside their rows: for the schedule, the bots and the ledger.
#[derive(Default)]
struct Recording {
    last_fired: Option<Timestamp>,
    missed: i64,
    events: Vec<NewEvent>,
    lines: Lines,
}

impl Recording {
    /// Tells the bots, and then the ledger.
    async fn tell(self, tx: &Tx<'_>, now: Timestamp) -> Result<()> {
        if !self.events.is_empty() {
            inbox::insert_events(tx, now, &self.events).await?;
        }
        self.lines.append(tx).await
    }
}

/// Records those that are not recorded yet: the id is the arbiter, and what is there does not fire
/// again. To be called by whoever has the schedule's row.
async fn record(
    tx: &Tx<'_>,
    now: Timestamp,
    key: &str,
    occurrences: &[NewOccurrence],
) -> Result<Recording> {
    let mut done = Recording::default();
    for new in occurrences {
        let packed = (!new.targets.is_empty()).then(|| pack(&new.targets)).transpose()?;
        let inserted = tx
            .execute(
                "INSERT INTO occurrence (id, schedule, nominal_at, recorded_at, outcome, reason,
                     deliveries, targets, target_widgets)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (id) DO NOTHING",
                params![
                    new.id,
                    key,
                    new.nominal_at.as_micros(),
                    now.as_micros(),
                    new.outcome.as_str(),
                    new.reason,
                    i64::try_from(new.targets.len()).unwrap_or(i64::MAX),
                    packed.as_ref().map(|packed| packed.rooms.as_slice()),
                    packed.as_ref().map(|packed| packed.widgets.as_str()),
                ],
            )
            .await?;
        if inserted == 0 {
            continue;
        }
        match new.outcome {
            OccurrenceOutcome::Fired => done.last_fired = done.last_fired.max(Some(new.nominal_at)),
            OccurrenceOutcome::Missed => done.missed += 1,
            OccurrenceOutcome::Skipped => {}
        }
        done.events.extend_from_slice(&new.events);
        let told = OccurrenceRecord {
            id: new.id.clone(),
            schedule: key.to_owned(),
            nominal_at: new.nominal_at,
            recorded_at: now,
            outcome: new.outcome,
            reason: new.reason.clone(),
            deliveries: new.targets.len() as u64,
        };
        done.lines.occurrence(now, &told)?;
    }
    Ok(done)
}

/// Locks a schedule's row, if there is one.
async fn lock(tx: &Tx<'_>, key: &str) -> Result<()> {
    tx.maybe("SELECT 1 FROM schedule WHERE key = $1 FOR UPDATE", params![key]).await?;
    Ok(())
}

/// The runs that the ledger tells of these schedules, each with its line's number.
async fn ranges(tx: &Tx<'_>, keys: &[&str]) -> Result<Vec<(i64, RangeRecord)>> {
    let rows = tx
        .rows(
            "SELECT seq, body FROM ledger WHERE id = ANY($1) AND kind = 'range' ORDER BY seq",
            params![keys],
        )
        .await?;
    rows.iter().map(|row| Ok((get(row, 0)?, from_json(get(row, 1)?)?))).collect()
}

/// So many of each schedule's instants were not missed after all.
async fn take_back_missed(tx: &Tx<'_>, keys: &[&str], fewer: &[u64]) -> Result<()> {
    let fewer: Vec<i64> = fewer.iter().map(|count| signed(*count)).collect();
    tx.execute(
        "UPDATE schedule s SET missed = greatest(s.missed - k.fewer, 0)
         FROM unnest($1, $2) AS k (key, fewer) WHERE s.key = k.key",
        params![keys, fewer],
    )
    .await?;
    Ok(())
}

/// Occurrences go with their lines.
pub(super) async fn forget(tx: &Tx<'_>, ids: &[String]) -> Result<()> {
    tx.execute("DELETE FROM occurrence WHERE id = ANY($1)", params![ids]).await?;
    tx.execute("DELETE FROM ledger WHERE id = ANY($1) AND kind = 'occurrence'", params![ids])
        .await?;
    Ok(())
}

async fn read_cursors(tx: &Tx<'_>) -> Result<Vec<Cursor>> {
    let rows = tx
        .rows(
            "SELECT key, fired_through, paused, last_fired, missed, definition FROM schedule
             WHERE present ORDER BY key COLLATE \"C\"",
            params![],
        )
        .await?;
    let cursor = |row| {
        Ok(Cursor {
            key: get(row, 0)?,
            fired_through: instant(row, 1)?,
            paused: get(row, 2)?,
            last_fired: instant_or_none(row, 3)?,
            missed: number(row, 4)?,
            reanchored: false,
            definition: get(row, 5)?,
        })
    };
    rows.iter().map(cursor).collect()
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
