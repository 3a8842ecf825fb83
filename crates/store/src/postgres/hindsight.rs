//! How late it has been: by the latest clock that judged the lanes of a widget, so that a clock that
//! goes back is noticed, and that whatever was put off by the other one is put off no longer than it
//! would have been. Moves no row from one state to another.

use imbabot_core::Timestamp;

use super::lane::Lanes;
use super::tx::{Tx, params};
use crate::error::Result;
use crate::rules::{HINDSIGHT, clock_key};

/// The lanes of these widgets are judged by this clock.
pub(super) async fn note(tx: &Tx<'_>, now: Timestamp, widgets: &[&str]) -> Result<()> {
    let keys: Vec<String> = widgets.iter().map(|widget| clock_key(widget)).collect();
    tx.execute(
        "WITH known AS (
             UPDATE rate r SET tat = $2
             FROM (SELECT key FROM rate WHERE key = ANY($1) AND tat < $3
                   ORDER BY key FOR UPDATE SKIP LOCKED) AS k
             WHERE r.key = k.key
         )
         INSERT INTO rate (key, tat) SELECT k.key, $2 FROM unnest($1) AS k (key)
         WHERE NOT EXISTS (SELECT 1 FROM rate r WHERE r.key = k.key) ORDER BY 1
         ON CONFLICT (key) DO NOTHING",
        params![keys, now.as_micros(), (now - HINDSIGHT).as_micros()],
    )
    .await?;
    Ok(())
}

/// The clock of these widgets has gone back: what was put off by the one before, in lanes that this
/// transaction has locked, keeps what was left of its wait.
pub(super) async fn look_again(
    tx: &Tx<'_>,
    now: Timestamp,
    widgets: &[&str],
    locked: &Lanes,
) -> Result<()> {
    let keys: Vec<String> = widgets.iter().map(|widget| clock_key(widget)).collect();
    let (names, rooms, senders) = locked.columns();
    tx.execute(
        "UPDATE delivery d SET next_attempt_at = greatest($4, d.next_attempt_at - (c.tat - $4))
         FROM unnest($1, $2, $3) AS k (widget, room, sender)
         JOIN rate c ON c.key = 'clock/' || k.widget AND c.key = ANY($5) AND c.tat > $4
         WHERE d.widget = k.widget AND d.room = k.room AND d.sender = k.sender AND d.open
           AND d.state = 'queued' AND d.next_attempt_at > $4",
        params![names, rooms, senders, now.as_micros(), keys],
    )
    .await?;
    tx.execute(
        "UPDATE rate r SET tat = $2
         FROM (SELECT key FROM rate WHERE key = ANY($1) ORDER BY key FOR UPDATE SKIP LOCKED) AS k
         WHERE r.key = k.key",
        params![keys, now.as_micros()],
    )
    .await?;
    Ok(())
}
