//! Several instances: leases, units, and what is done for a run that is over. Instants of leases are
//! the database's, whatever clock a caller has.

mod share;

use std::collections::BTreeMap;
use std::sync::PoisonError;

use async_trait::async_trait;
use imbabot_core::Timestamp;

use super::row::{get, instant};
use super::tx::{Tx, params};
use super::{Bodies, PostgresOptions, PostgresStore, inbox, journal, outbox, schema};
use crate::error::Result;
use crate::fleet::{Fleet, InstanceRecord, Membership, Standing, Unit};
use crate::lifecycle::{IncarnationId, IncarnationRecord, Settle};
use crate::operations::OperatorRecord;
use crate::rules::micros;

/// What was done for runs that were over.
#[derive(Debug, Default)]
pub(super) struct Ended {
    pub(super) runs: u64,
    pub(super) turned_unknown: u64,
    pub(super) interrupted_events: u64,
}

impl Ended {
    pub(super) fn add(&mut self, other: &Self) {
        self.runs += other.runs;
        self.turned_unknown += other.turned_unknown;
        self.interrupted_events += other.interrupted_events;
    }
}

/// What the database's clock shows.
pub(super) async fn clock(tx: &Tx<'_>) -> Result<Timestamp> {
    let row = tx
        .row("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint", params![])
        .await?;
    instant(&row, 0)
}

/// Runs that are over and not ended: those whose lease has run out, and the one that this process had
/// before. Locked, so that each is ended by one; one that gives a sign right now is left alone.
pub(super) async fn over(
    tx: &Tx<'_>,
    clock: Timestamp,
    own: Option<i64>,
) -> Result<Vec<IncarnationId>> {
    let rows = tx
        .rows(
            "SELECT i.id FROM incarnation i JOIN lease l ON l.incarnation = i.id
             WHERE i.ended_at IS NULL AND (l.until < $1 OR i.id = $2)
             ORDER BY i.id FOR UPDATE OF l SKIP LOCKED",
            params![clock.as_micros(), own],
        )
        .await?;
    let mut over: Vec<IncarnationId> =
        rows.iter().map(|row| Ok(IncarnationId(get(row, 0)?))).collect::<Result<_>>()?;
    // Those that came with a store which was moved here never had a lease.
    let moved = tx
        .rows(
            "SELECT id FROM incarnation i WHERE ended_at IS NULL
               AND NOT EXISTS (SELECT 1 FROM lease l WHERE l.incarnation = i.id)
             ORDER BY id FOR UPDATE SKIP LOCKED",
            params![],
        )
        .await?;
    for row in &moved {
        over.push(IncarnationId(get(row, 0)?));
    }
    Ok(over)
}

/// Where the database's clock was set back, or another server took over whose clock is behind, a lease
/// could run on for as long as that: it lasts as long as any other from now on, unless it is renewed.
async fn turned_back(tx: &Tx<'_>, clock: Timestamp, lease: i64) -> Result<()> {
    tx.execute(
        "UPDATE lease SET heartbeat_at = $1, until = $1 + least(until - heartbeat_at, $2)
         WHERE incarnation IN (
             SELECT l.incarnation FROM lease l JOIN incarnation i ON i.id = l.incarnation
             WHERE i.ended_at IS NULL AND l.heartbeat_at > $1 + $2 FOR UPDATE OF l SKIP LOCKED)",
        params![clock.as_micros(), lease],
    )
    .await?;
    Ok(())
}

/// Ends a run that did not end by itself: from here on it is refused whatever it asks for. What it was
/// sending becomes `unknown`, what its bots were handling waits again, what it owned is free.
pub(super) async fn end_killed(
    tx: &Tx<'_>,
    now: Timestamp,
    incarnation: IncarnationId,
    settle: Settle,
    bodies: Bodies,
) -> Result<Ended> {
    // Waits for what the run is in the middle of committing.
    let row = tx
        .maybe(
            "UPDATE incarnation SET ended_at = $2, clean = FALSE WHERE id = $1 AND ended_at IS NULL
             RETURNING started_at, version,
                       (SELECT name FROM lease WHERE incarnation = $1)",
            params![incarnation.0, now.as_micros()],
        )
        .await?;
    let Some(row) = row else { return Ok(Ended::default()) };
    let record = IncarnationRecord {
        id: incarnation,
        started_at: instant(&row, 0)?,
        ended_at: Some(now),
        clean: Some(false),
        version: get(&row, 1)?,
        instance: get(&row, 2)?,
    };
    journal::incarnation(tx, now, &record).await?;
    let runs = [incarnation.0];
    let turned_unknown =
        outbox::sending_becomes_unknown(tx, now, settle, bodies, Some(&runs)).await?;
    let interrupted_events = inbox::stop(tx, now, &runs, true).await?;
    give_up_all(tx, incarnation, now).await?;
    serves_nothing(tx, incarnation).await?;
    Ok(Ended { runs: 1, turned_unknown, interrupted_events })
}

/// What runs were sending that ended by themselves becomes `unknown` as well: a claim whose caller did
/// not wait for it may have been committed just before that end, and nobody will hear its answer.
pub(super) async fn left_sending(
    tx: &Tx<'_>,
    now: Timestamp,
    settle: Settle,
    bodies: Bodies,
) -> Result<u64> {
    let rows = tx
        .rows(
            "SELECT DISTINCT a.incarnation FROM attempt a JOIN incarnation i ON i.id = a.incarnation
             WHERE a.ended_at IS NULL AND i.ended_at IS NOT NULL",
            params![],
        )
        .await?;
    let runs: Vec<i64> = rows.iter().map(|row| get(row, 0)).collect::<Result<_>>()?;
    if runs.is_empty() {
        return Ok(0);
    }
    outbox::sending_becomes_unknown(tx, now, settle, bodies, Some(&runs)).await
}

/// Gives a run its first lease.
pub(super) async fn lease(
    tx: &Tx<'_>,
    incarnation: IncarnationId,
    options: &PostgresOptions,
    clock: Timestamp,
) -> Result<()> {
    tx.execute(
        "INSERT INTO lease (incarnation, name, heartbeat_at, until) VALUES ($1, $2, $3, $4)",
        params![
            incarnation.0,
            options.instance,
            clock.as_micros(),
            (clock + options.lease).as_micros()
        ],
    )
    .await?;
    Ok(())
}

/// How many runs have not ended.
pub(super) async fn alive(tx: &Tx<'_>) -> Result<i64> {
    let row = tx.row("SELECT count(*) FROM incarnation WHERE ended_at IS NULL", params![]).await?;
    get(&row, 0)
}

/// What a run owned is free.
pub(super) async fn give_up_all(
    tx: &Tx<'_>,
    incarnation: IncarnationId,
    now: Timestamp,
) -> Result<()> {
    tx.execute(
        "UPDATE unit SET owner = NULL, since = $2 WHERE owner = $1",
        params![incarnation.0, now.as_micros()],
    )
    .await?;
    Ok(())
}

/// What a run served is as long as its list of widgets, and nobody asks for it once it owns nothing more.
/// For those who hold its lease: whoever ends by himself does not.
async fn serves_nothing(tx: &Tx<'_>, incarnation: IncarnationId) -> Result<()> {
    let sql = "UPDATE lease SET serves = NULL WHERE incarnation = $1 AND serves IS NOT NULL";
    tx.execute(sql, params![incarnation.0]).await?;
    Ok(())
}

#[async_trait]
impl Fleet for PostgresStore {
    async fn clock(&self) -> Result<Option<Timestamp>> {
        self.link.read(async |tx| clock(tx).await.map(Some)).await
    }

    async fn heartbeat(
        &self,
        incarnation: IncarnationId,
        serves: &[Unit],
        settle: Settle,
    ) -> Result<Standing> {
        let (bodies, lease) = (self.bodies, self.options.lease);
        let names: BTreeMap<String, Unit> =
            serves.iter().map(|unit| (unit.to_string(), unit.clone())).collect();
        // The lease first and by itself: whatever the rest has to wait for, this instance is alive.
        let length = micros(lease);
        // Who serves nothing is about to stop: the others do not leave it a share.
        let stopping = serves.is_empty();
        let draining = self
            .link
            .lease(async move |tx| {
                schema::still_ours(tx).await?;
                let row = tx
                    .maybe(
                        "WITH t AS (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
                                    AS now)
                         UPDATE lease SET heartbeat_at = t.now, until = t.now + $2,
                                          draining = draining OR $3 FROM t
                         WHERE incarnation = $1
                           AND EXISTS (SELECT 1 FROM incarnation
                                       WHERE id = $1 AND ended_at IS NULL)
                         RETURNING draining",
                        params![incarnation.0, length, stopping],
                    )
                    .await?;
                row.map_or_else(|| Err(super::link::fenced()), |row| get::<bool>(&row, 0))
            })
            .await?;
        let membership = self
            .link
            .lease(async move |tx| {
                let now = clock(tx).await?;
                let mut ended = Vec::new();
                turned_back(tx, now, length).await?;
                // Not itself, however long this had to wait after it was heard.
                let over = over(tx, now, None).await?;
                for over in over.into_iter().filter(|over| *over != incarnation) {
                    let did = end_killed(tx, now, over, settle, bodies).await?;
                    ended.push((over, did.turned_unknown));
                }
                left_sending(tx, now, settle, bodies).await?;
                let served: Vec<&str> = names.keys().map(String::as_str).collect();
                share::take_part(tx, incarnation, &served, draining, now).await?;
                let rows = tx
                    .rows("SELECT name, term FROM unit WHERE owner = $1", params![incarnation.0])
                    .await?;
                let mut units = BTreeMap::new();
                for row in &rows {
                    if let Some(unit) = names.get(get::<&str>(row, 0)?) {
                        units.insert(unit.clone(), get::<i64>(row, 1)?.cast_unsigned());
                    }
                }
                let alive = usize::try_from(alive(tx).await?).unwrap_or(usize::MAX);
                let now = clock(tx).await?;
                Ok(Membership { now, lease, units, draining, alive, ended })
            })
            .await?;
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = membership.units.clone();
        Ok(Standing::Member(membership))
    }

    async fn instances(&self) -> Result<Vec<InstanceRecord>> {
        self.link
            .read(async |tx| {
                let rows = tx
                    .rows(
                        "SELECT i.id, l.name, i.version, i.started_at, l.heartbeat_at, l.until,
                                l.draining,
                                array(SELECT u.name FROM unit u WHERE u.owner = i.id ORDER BY u.name),
                                array(SELECT u.term FROM unit u WHERE u.owner = i.id ORDER BY u.name)
                         FROM incarnation i JOIN lease l ON l.incarnation = i.id
                         WHERE i.ended_at IS NULL ORDER BY i.id",
                        params![],
                    )
                    .await?;
                rows.iter()
                    .map(|row| {
                        let names: Vec<String> = get(row, 7)?;
                        let terms: Vec<i64> = get(row, 8)?;
                        let terms = terms.into_iter().map(i64::cast_unsigned);
                        Ok(InstanceRecord {
                            incarnation: IncarnationId(get(row, 0)?),
                            name: get(row, 1)?,
                            version: get(row, 2)?,
                            started_at: instant(row, 3)?,
                            heartbeat_at: instant(row, 4)?,
                            lease_until: instant(row, 5)?,
                            draining: get(row, 6)?,
                            units: names.into_iter().zip(terms).collect(),
                        })
                    })
                    .collect()
            })
            .await
    }

    async fn drain(
        &self,
        now: Timestamp,
        incarnation: IncarnationId,
        draining: bool,
    ) -> Result<bool> {
        self.link
            .write(async move |tx| {
                let before = tx
                    .maybe(
                        "SELECT l.draining FROM lease l JOIN incarnation i ON i.id = l.incarnation
                         WHERE l.incarnation = $1 AND i.ended_at IS NULL FOR UPDATE OF l",
                        params![incarnation.0],
                    )
                    .await?;
                let Some(row) = before else { return Ok(false) };
                let was: bool = get(&row, 0)?;
                if was != draining {
                    tx.execute(
                        "UPDATE lease SET draining = $2 WHERE incarnation = $1",
                        params![incarnation.0, draining],
                    )
                    .await?;
                    let word = |draining| if draining { "draining" } else { "serving" };
                    let record = OperatorRecord {
                        verb: if draining { "drain" } else { "drain --undo" }.into(),
                        target: format!("instance/{}", incarnation.0),
                        before: word(was).into(),
                        after: word(draining).into(),
                        at: now,
                    };
                    journal::operator(tx, &record).await?;
                }
                Ok(true)
            })
            .await
    }
}
