//! How late it has been: by the latest clock that judged the lanes of a widget, so that a clock that
//! goes back is noticed, and that whatever was put off by the other one is put off no longer than it
//! would have been. Moves no row from one state to another.

use std::time::Duration;

use imbabot_core::Timestamp;
use rusqlite::{Connection, params};

use super::lane::Lane;
use super::outbox::free_at;
use crate::error::Result;
use crate::rules::{HINDSIGHT, clock_key, micros};

/// Two verbs may take turns with the instants they were called at. Only beyond this the clock has gone
/// back.
const SLIGHT: Duration = Duration::from_secs(1);

/// The lanes of the widget are judged by this clock.
pub(super) fn note(tx: &Connection, widget: &str, now: Timestamp) -> Result<()> {
    tx.prepare_cached(
        "INSERT INTO rate (key, tat) VALUES (?1, ?2)
         ON CONFLICT (key) DO UPDATE SET tat = excluded.tat WHERE tat < ?3",
    )?
    .execute(params![clock_key(widget), now.as_micros(), (now - HINDSIGHT).as_micros()])?;
    Ok(())
}

/// By how much the clock has gone back since the lanes of the widget were judged, if it has.
pub(super) fn went_back_by(
    tx: &Connection,
    now: Timestamp,
    widget: &str,
) -> Result<Option<Duration>> {
    let back = free_at(tx, &clock_key(widget))?.since(now);
    Ok((back > SLIGHT).then_some(back))
}

/// What lies ahead was put off by a clock that was ahead by so much, or since then by that of a rate:
/// looked at anew, by the clock that counts now. An attempt that has to wait keeps what was left of its
/// wait.
pub(super) fn look_again(
    tx: &Connection,
    now: Timestamp,
    widget: &str,
    back: Option<Duration>,
) -> Result<()> {
    if let Some(back) = back {
        tx.prepare_cached("UPDATE rate SET tat = ?2 WHERE key = ?1")?
            .execute(params![clock_key(widget), now.as_micros()])?;
        let back = micros(back);
        tx.prepare_cached(
            "UPDATE delivery SET next_attempt_at = max(?2, next_attempt_at - ?3)
             WHERE widget = ?1 AND open = 1 AND state = 'queued' AND next_attempt_at > ?2",
        )?
        .execute(params![widget, now.as_micros(), back])?;
    }
    let later: Vec<Lane> = tx
        .prepare_cached("SELECT room, sender FROM lane WHERE widget = ?1 AND ready_at > ?2")?
        .query_map(params![widget, now.as_micros()], |row| {
            Ok(Lane { widget: widget.into(), room: row.get(0)?, sender: row.get(1)? })
        })?
        .collect::<rusqlite::Result<_>>()?;
    later.iter().try_for_each(|lane| lane.refresh(tx, now))
}
