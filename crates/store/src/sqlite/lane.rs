//! Lanes: the deliveries of one widget, room and sender, in order. A lane's row says when its head
//! may be claimed, so that claiming looks at heads only, however many wait behind them.

use imbabot_core::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use crate::error::Result;

/// The key of a lane.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Lane {
    pub(super) widget: String,
    pub(super) room: i64,
    pub(super) sender: String,
}

impl Lane {
    /// The lane of a delivery.
    pub(super) fn of(tx: &Connection, seq: i64) -> Result<Self> {
        Ok(tx
            .prepare_cached("SELECT widget, room, sender FROM delivery WHERE seq = ?1")?
            .query_row([seq], |row| {
                Ok(Self { widget: row.get(0)?, room: row.get(1)?, sender: row.get(2)? })
            })?)
    }

    /// The delivery that the lane waits for: the one that is on its way, else the first open one.
    /// Its row number, whether it is queued, when it may be claimed.
    pub(super) fn head(&self, tx: &Connection) -> Result<Option<(i64, bool, i64)>> {
        // Not always the first: an earlier one may be recorded, or queued again, behind its back.
        let sending: Option<i64> = tx
            .prepare_cached(
                "SELECT seq FROM delivery
                 WHERE widget = ?1 AND room = ?2 AND sender = ?3 AND state = 'sending'",
            )?
            .query_row(params![self.widget, self.room, self.sender], |row| row.get(0))
            .optional()?;
        if let Some(seq) = sending {
            return Ok(Some((seq, false, 0)));
        }
        Ok(tx
            .prepare_cached(
                "SELECT seq, state = 'queued', max(not_before, next_attempt_at) FROM delivery
                 WHERE widget = ?1 AND room = ?2 AND sender = ?3 AND open = 1
                 ORDER BY not_before, seq LIMIT 1",
            )?
            .query_row(params![self.widget, self.room, self.sender], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .optional()?)
    }

    /// Says anew when the head may be claimed. To be called after every change of an open row.
    pub(super) fn refresh(&self, tx: &Connection) -> Result<()> {
        match self.head(tx)? {
            Some((_, queued, at)) => self.set(tx, queued.then_some(at)),
            None => {
                tx.prepare_cached(
                    "DELETE FROM lane WHERE widget = ?1 AND room = ?2 AND sender = ?3",
                )?
                .execute(params![self.widget, self.room, self.sender])?;
                Ok(())
            }
        }
    }

    /// The same after an attempt of the lane has ended: now it is the others' turn. Else a room in
    /// which nothing is ever answered, and which has the oldest messages for that very reason,
    /// would have each turn.
    pub(super) fn yield_turn(&self, tx: &Connection, now: Timestamp) -> Result<()> {
        self.refresh(tx)?;
        tx.prepare_cached(
            "UPDATE lane SET ready_at = max(ready_at, ?4)
             WHERE widget = ?1 AND room = ?2 AND sender = ?3",
        )?
        .execute(params![self.widget, self.room, self.sender, now.as_micros()])?;
        Ok(())
    }

    /// Not before `until`, for a reason that lies outside the lane (the room's rate).
    pub(super) fn hold(&self, tx: &Connection, until: Option<Timestamp>) -> Result<()> {
        self.set(tx, until.map(Timestamp::as_micros))
    }

    fn set(&self, tx: &Connection, ready_at: Option<i64>) -> Result<()> {
        tx.prepare_cached(
            "INSERT INTO lane (widget, room, sender, ready_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (widget, room, sender) DO UPDATE SET ready_at = excluded.ready_at",
        )?
        .execute(params![self.widget, self.room, self.sender, ready_at])?;
        Ok(())
    }
}
