//! Even spacing without burst (GCRA), per widget and per room, and the silence a server asked for.
//! Knows no delivery.

use std::time::Duration;

use imbabot_core::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use crate::error::Result;
pub(super) use crate::rules::{LONGEST_SILENCE, silence_key, widget_key};

/// When the next request of this rate may leave, or until when the server asked for silence.
pub(in crate::sqlite) fn free_at(tx: &Connection, key: &str) -> Result<Timestamp> {
    let tat: Option<i64> = tx
        .prepare_cached("SELECT tat FROM rate WHERE key = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()?;
    Ok(tat.map_or(Timestamp::MIN, Timestamp::from_micros))
}

/// A rate reaches one interval ahead at most. What lies further was written before the clock went
/// back. Whether it was so.
pub(super) fn clock_went_back(
    tx: &Connection,
    now: Timestamp,
    widget: &str,
    interval: Duration,
) -> Result<bool> {
    let voided = tx
        .prepare_cached("UPDATE rate SET tat = ?2 WHERE key = ?1 AND tat > ?3")?
        .execute(params![widget_key(widget), now.as_micros(), (now + interval).as_micros()])?;
    Ok(voided > 0)
}

/// Even spacing without burst: the next request leaves an interval after this one.
pub(super) fn take(tx: &Connection, key: &str, now: Timestamp, interval: Duration) -> Result<()> {
    tx.prepare_cached(
        "INSERT INTO rate (key, tat) VALUES (?1, ?2)
         ON CONFLICT (key) DO UPDATE SET tat = excluded.tat",
    )?
    .execute(params![key, (now + interval).as_micros()])?;
    Ok(())
}
