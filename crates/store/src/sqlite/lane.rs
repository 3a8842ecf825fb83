//! Lanes: the deliveries of one widget, room and sender, in order. A lane's row says when its head
//! may be claimed, so that claiming looks at heads only, however many wait behind them.

use imbabot_core::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::hindsight;
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
    ///
    /// What was due when it was recorded is due by every clock: if the clock was ahead then, it does not
    /// wait until the clock is there again.
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
                "SELECT seq, state = 'queued',
                     max(iif(not_before <= created_at, 0, not_before), next_attempt_at)
                 FROM delivery
                 WHERE widget = ?1 AND room = ?2 AND sender = ?3 AND open = 1
                 ORDER BY not_before, seq LIMIT 1",
            )?
            .query_row(params![self.widget, self.room, self.sender], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .optional()?)
    }

    /// Says anew which is the head and when it may be claimed. To be called after every change of an
    /// open row.
    ///
    /// A new head stands behind what other lanes have waiting by now: lanes are served in turn, so
    /// a room with a thousand old messages holds up nobody.
    pub(super) fn refresh(&self, tx: &Connection, now: Timestamp) -> Result<()> {
        hindsight::note(tx, &self.widget, now)?;
        match self.head(tx)? {
            Some((head, queued, at)) => {
                tx.prepare_cached(
                    "INSERT INTO lane (widget, room, sender, ready_at, head, head_since)
                     VALUES (?1, ?2, ?3, max(?4, ?6), ?5, ?6)
                     ON CONFLICT (widget, room, sender) DO UPDATE SET
                         ready_at = max(?4, min(excluded.head_since,
                             iif(head IS excluded.head, head_since, excluded.head_since))),
                         head_since = iif(head IS excluded.head,
                             min(head_since, excluded.head_since), excluded.head_since),
                         head = excluded.head",
                )?
                .execute(params![
                    self.widget,
                    self.room,
                    self.sender,
                    queued.then_some(at),
                    head,
                    now.as_micros()
                ])?;
            }
            None => {
                tx.prepare_cached(
                    "DELETE FROM lane WHERE widget = ?1 AND room = ?2 AND sender = ?3",
                )?
                .execute(params![self.widget, self.room, self.sender])?;
            }
        }
        Ok(())
    }

    /// Not before `until`, for a reason that lies outside the lane (the room's rate); without one,
    /// not before the next refresh.
    pub(super) fn hold(&self, tx: &Connection, until: Option<Timestamp>) -> Result<()> {
        tx.prepare_cached(
            "UPDATE lane SET ready_at = ?4 WHERE widget = ?1 AND room = ?2 AND sender = ?3",
        )?
        .execute(params![
            self.widget,
            self.room,
            self.sender,
            until.map(Timestamp::as_micros)
        ])?;
        Ok(())
    }

    /// Since when the head is the head.
    pub(super) fn head_since(&self, tx: &Connection) -> Result<Option<Timestamp>> {
        let since: Option<Option<i64>> = tx
            .prepare_cached(
                "SELECT head_since FROM lane WHERE widget = ?1 AND room = ?2 AND sender = ?3",
            )?
            .query_row(params![self.widget, self.room, self.sender], |row| row.get(0))
            .optional()?;
        Ok(since.flatten().map(Timestamp::from_micros))
    }
}
