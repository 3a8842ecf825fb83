//! Lanes: the deliveries of one widget, room and sender, in order. A lane's row says when its head may
//! be claimed, and it is the lock of the lane: whoever records, moves or ends an open delivery has it
//! first. Several are locked in ascending order, so that two transactions never wait for each other.

use std::collections::BTreeSet;

use imbabot_core::Timestamp;
use tokio_postgres::Row;

use super::hindsight;
use super::row::{get, instant};
use super::tx::{Tx, params};
use crate::error::Result;

/// The key of a lane.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Lane {
    pub(super) widget: String,
    pub(super) room: i64,
    pub(super) sender: String,
}

/// Several lanes, in the order in which they are locked.
#[derive(Debug, Clone, Default)]
pub(super) struct Lanes(BTreeSet<Lane>);

impl FromIterator<Lane> for Lanes {
    fn from_iter<I: IntoIterator<Item = Lane>>(lanes: I) -> Self {
        Self(lanes.into_iter().collect())
    }
}

impl Lanes {
    /// The lanes of deliveries, by row number.
    pub(super) async fn of(tx: &Tx<'_>, seqs: &[i64]) -> Result<Self> {
        let rows = tx
            .rows(
                "SELECT DISTINCT widget, room, sender FROM delivery WHERE seq = ANY($1)",
                params![seqs],
            )
            .await?;
        rows.iter().map(Lane::read).collect()
    }

    pub(super) fn add(&mut self, lane: Lane) {
        self.0.insert(lane);
    }

    pub(super) fn has(&self, lane: &Lane) -> bool {
        self.0.contains(lane)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn columns(&self) -> (Vec<&str>, Vec<i64>, Vec<&str>) {
        let mut columns = (Vec::new(), Vec::new(), Vec::new());
        for lane in &self.0 {
            columns.0.push(lane.widget.as_str());
            columns.1.push(lane.room);
            columns.2.push(lane.sender.as_str());
        }
        columns
    }

    /// Locks them until the transaction ends. What a statement after this reads of their deliveries
    /// stays so until then; what was read before may be stale.
    pub(super) async fn lock(&self, tx: &Tx<'_>) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let (widgets, rooms, senders) = self.columns();
        tx.execute(
            "INSERT INTO lane (widget, room, sender)
             SELECT * FROM unnest($1, $2, $3) AS k (widget, room, sender) ORDER BY 1, 2, 3
             ON CONFLICT (widget, room, sender) DO UPDATE SET head = lane.head",
            params![widgets, rooms, senders],
        )
        .await?;
        Ok(())
    }

    /// Locks those of them that nobody else has now, and says which these are: what another transaction
    /// is in the middle of is for another time.
    pub(super) async fn lock_free(&self, tx: &Tx<'_>) -> Result<Self> {
        if self.0.is_empty() {
            return Ok(Self::default());
        }
        let (widgets, rooms, senders) = self.columns();
        let locked = tx
            .rows(
                "SELECT l.widget, l.room, l.sender
                 FROM unnest($1, $2, $3) AS k (widget, room, sender)
                 JOIN lane l USING (widget, room, sender)
                 ORDER BY 1, 2, 3 FOR UPDATE OF l SKIP LOCKED",
                params![widgets, rooms, senders],
            )
            .await?;
        let mut lanes: Self = locked.iter().map(Lane::read).collect::<Result<_>>()?;
        if lanes.len() == self.len() {
            return Ok(lanes);
        }
        // Lanes in which nothing is open have no row, and those that are locked are left out here.
        let missing = tx
            .rows(
                "INSERT INTO lane (widget, room, sender)
                 SELECT * FROM unnest($1, $2, $3) AS k (widget, room, sender)
                 WHERE NOT EXISTS (SELECT 1 FROM lane l WHERE l.widget = k.widget
                                   AND l.room = k.room AND l.sender = k.sender)
                 ORDER BY 1, 2, 3
                 ON CONFLICT (widget, room, sender) DO NOTHING
                 RETURNING widget, room, sender",
                params![widgets, rooms, senders],
            )
            .await?;
        for row in &missing {
            lanes.add(Lane::read(row)?);
        }
        Ok(lanes)
    }

    /// Says anew which is the head of each and when it may be claimed: the one that is on its way,
    /// else the first open one. To be called once after all changes of a step to open rows, by whoever
    /// has the locks.
    ///
    /// What was due when it was recorded is due by every clock: if the clock was ahead then, it does not
    /// wait until the clock is there again. A new head stands behind what other lanes have waiting by now: lanes are served in turn, so a
    /// room with a thousand old messages holds up nobody.
    pub(super) async fn refresh(&self, tx: &Tx<'_>, now: Timestamp) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let (widgets, rooms, senders) = self.columns();
        tx.execute(
            "WITH k AS (SELECT * FROM unnest($1, $2, $3) AS k (widget, room, sender)),
             h AS (
                 SELECT k.widget, k.room, k.sender, coalesce(s.seq, f.seq) AS head,
                        CASE WHEN s.seq IS NULL AND f.queued THEN f.at END AS at
                 FROM k
                 LEFT JOIN LATERAL (
                     SELECT seq FROM delivery d
                     WHERE d.widget = k.widget AND d.room = k.room AND d.sender = k.sender
                       AND d.state = 'sending' LIMIT 1) AS s ON TRUE
                 LEFT JOIN LATERAL (
                     SELECT seq, state = 'queued' AS queued,
                            greatest(CASE WHEN not_before <= created_at THEN 0 ELSE not_before END,
                                     next_attempt_at) AS at
                     FROM delivery d
                     WHERE d.widget = k.widget AND d.room = k.room AND d.sender = k.sender
                       AND d.open
                     ORDER BY d.not_before, d.seq LIMIT 1) AS f ON TRUE
             ),
             ended AS (
                 DELETE FROM lane l USING h
                 WHERE l.widget = h.widget AND l.room = h.room AND l.sender = h.sender
                   AND h.head IS NULL
             )
             INSERT INTO lane AS l (widget, room, sender, ready_at, head, head_since)
             SELECT widget, room, sender, CASE WHEN at IS NULL THEN NULL ELSE greatest(at, $4) END,
                    head, $4
             FROM h WHERE head IS NOT NULL ORDER BY 1, 2, 3
             ON CONFLICT (widget, room, sender) DO UPDATE SET
                 ready_at = CASE WHEN excluded.ready_at IS NULL THEN NULL
                                 WHEN l.head = excluded.head AND l.head_since IS NOT NULL
                                 THEN greatest(
                                     (SELECT at FROM h WHERE h.widget = excluded.widget
                                        AND h.room = excluded.room AND h.sender = excluded.sender),
                                     least(excluded.head_since, l.head_since))
                                 ELSE excluded.ready_at END,
                 head_since = CASE WHEN l.head = excluded.head
                                   THEN least(l.head_since, excluded.head_since)
                                   ELSE excluded.head_since END,
                 head = excluded.head",
            params![widgets, rooms, senders, now.as_micros()],
        )
        .await?;
        let mut widgets = widgets;
        widgets.dedup();
        hindsight::note(tx, now, &widgets).await
    }
}

impl Lane {
    /// A row that begins with widget, room and sender.
    pub(super) fn read(row: &Row) -> Result<Self> {
        Ok(Self { widget: get(row, 0)?, room: get(row, 1)?, sender: get(row, 2)? })
    }

    /// The delivery that the lane waits for: the one that is on its way, else the first open one.
    /// Its row number, whether it is queued, when it may be claimed.
    pub(super) async fn head(&self, tx: &Tx<'_>) -> Result<Option<(i64, bool, Timestamp)>> {
        // Not always the first: an earlier one may be recorded, or queued again, behind its back.
        let head = tx
            .maybe(
                "SELECT seq, state = 'queued',
                        greatest(CASE WHEN not_before <= created_at THEN 0 ELSE not_before END,
                                 next_attempt_at)
                 FROM delivery
                 WHERE widget = $1 AND room = $2 AND sender = $3 AND open
                 ORDER BY state <> 'sending', not_before, seq LIMIT 1",
                params![self.widget, self.room, self.sender],
            )
            .await?;
        head.map(|row| Ok((get(&row, 0)?, get(&row, 1)?, instant(&row, 2)?))).transpose()
    }

    /// The lane of a delivery.
    pub(super) async fn of(tx: &Tx<'_>, seq: i64) -> Result<Self> {
        Self::read(
            &tx.row("SELECT widget, room, sender FROM delivery WHERE seq = $1", params![seq])
                .await?,
        )
    }

    pub(super) async fn lock(&self, tx: &Tx<'_>) -> Result<()> {
        Lanes::from_iter([self.clone()]).lock(tx).await
    }

    pub(super) async fn refresh(&self, tx: &Tx<'_>, now: Timestamp) -> Result<()> {
        Lanes::from_iter([self.clone()]).refresh(tx, now).await
    }
}
