//! Even spacing without burst (GCRA), per widget and per room, and the silence a server asked for.
//! Knows no delivery.

use std::time::Duration;

use imbabot_core::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use crate::error::Result;
use crate::sqlite::lane::Lane;

/// The longest `Retry-After` that is honoured is an hour.
pub(super) const LONGEST_SILENCE: Duration = Duration::from_secs(3_660);

/// When the next request of this rate may leave, or until when the server asked for silence.
pub(super) fn free_at(tx: &Connection, key: &str) -> Result<Timestamp> {
    let tat: Option<i64> = tx
        .prepare_cached("SELECT tat FROM rate WHERE key = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()?;
    Ok(tat.map_or(Timestamp::MIN, Timestamp::from_micros))
}

/// A rate reaches one interval ahead at most. What lies further was written before the clock went
/// back, and so was whatever was held until then: looked at anew, by the clock that counts now.
pub(super) fn clock_went_back(tx: &Connection, now: Timestamp, widget: &str) -> Result<()> {
    tx.prepare_cached("UPDATE rate SET tat = ?2 WHERE key = ?1")?
        .execute(params![widget_key(widget), now.as_micros()])?;
    let later: Vec<Lane> = tx
        .prepare_cached("SELECT room, sender FROM lane WHERE widget = ?1 AND ready_at > ?2")?
        .query_map(params![widget, now.as_micros()], |row| {
            Ok(Lane { widget: widget.into(), room: row.get(0)?, sender: row.get(1)? })
        })?
        .collect::<rusqlite::Result<_>>()?;
    later.iter().try_for_each(|lane| lane.refresh(tx, now))
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

pub(super) fn widget_key(widget: &str) -> String {
    format!("widget/{widget}")
}

pub(super) fn silence_key(widget: &str) -> String {
    format!("hold/{widget}")
}
