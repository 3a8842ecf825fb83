//! Even spacing without burst (GCRA), per widget and per room, and the silence a server asked for. A
//! widget's row is locked by whoever claims of it, so that a rate holds over all instances; the rows of
//! its rooms go with it. Knows no delivery.

use std::collections::HashMap;
use std::time::Duration;

use imbabot_core::Timestamp;

use crate::error::Result;
use crate::postgres::hindsight;
use crate::postgres::lane::{Lane, Lanes};
use crate::postgres::row::{get, instant};
use crate::postgres::tx::{Tx, params};
pub(super) use crate::rules::{LONGEST_SILENCE, silence_key, widget_key};

/// What another instance has written a moment ago may lie ahead of what this one takes for now: it
/// asked for the time later, and was faster. Only what lies further ahead than that is void.
pub(super) const SKEW: Duration = Duration::from_secs(60);

/// A rate reaches one interval ahead at most. What lies further was written before the clock went back.
pub(super) fn believed(free_at: Timestamp, now: Timestamp, interval: Duration) -> bool {
    free_at <= now + interval + SKEW
}

/// When the next request of these rates may leave, or until when the servers asked for silence.
pub(super) async fn free_at(tx: &Tx<'_>, keys: &[String]) -> Result<HashMap<String, Timestamp>> {
    let rows = tx.rows("SELECT key, tat FROM rate WHERE key = ANY($1)", params![keys]).await?;
    rows.iter().map(|row| Ok((get(row, 0)?, instant(row, 1)?))).collect()
}

/// Locks the rates of these widgets and reads them; `there` says whether the row was there a moment
/// ago. Those that another instance claims of right now are left out.
pub(super) async fn lock(
    tx: &Tx<'_>,
    widgets: &[(&str, bool)],
) -> Result<HashMap<String, Timestamp>> {
    let keys = |there: bool| {
        let these = widgets.iter().filter(move |widget| widget.1 == there);
        these.map(|widget| widget_key(widget.0)).collect::<Vec<String>>()
    };
    let (known, new) = (keys(true), keys(false));
    let mut rates = HashMap::new();
    if !known.is_empty() {
        let rows = tx
            .rows(
                "SELECT key, tat FROM rate WHERE key = ANY($1) ORDER BY key FOR UPDATE SKIP LOCKED",
                params![known],
            )
            .await?;
        for row in &rows {
            rates.insert(get(row, 0)?, instant(row, 1)?);
        }
    }
    if !new.is_empty() {
        let rows = tx
            .rows(
                "INSERT INTO rate (key, tat) SELECT k.key, $2 FROM unnest($1) AS k (key) ORDER BY 1
                 ON CONFLICT (key) DO NOTHING RETURNING key",
                params![new, Timestamp::MIN.as_micros()],
            )
            .await?;
        for row in &rows {
            rates.insert(get(row, 0)?, Timestamp::MIN);
        }
    }
    Ok(rates)
}

/// Even spacing without burst: until when these rates are taken.
pub(super) async fn take(tx: &Tx<'_>, until: &HashMap<String, Timestamp>) -> Result<()> {
    if until.is_empty() {
        return Ok(());
    }
    let keys: Vec<&str> = until.keys().map(String::as_str).collect();
    let tats: Vec<i64> = until.values().map(|at| at.as_micros()).collect();
    tx.execute(
        "INSERT INTO rate (key, tat) SELECT * FROM unnest($1, $2) ORDER BY 1
         ON CONFLICT (key) DO UPDATE SET tat = excluded.tat",
        params![keys, tats],
    )
    .await?;
    Ok(())
}

/// The rates of these widgets were written before the clock went back, and so was whatever was held
/// until then: looked at anew, by the clock that counts now.
pub(super) async fn clock_went_back(tx: &Tx<'_>, now: Timestamp, widgets: &[&str]) -> Result<()> {
    let later = tx
        .rows(
            "SELECT widget, room, sender FROM lane WHERE widget = ANY($1) AND ready_at > $2
             FOR UPDATE SKIP LOCKED",
            params![widgets, now.as_micros()],
        )
        .await?;
    let later: Lanes = later.iter().map(Lane::read).collect::<Result<_>>()?;
    hindsight::look_again(tx, now, widgets, &later).await?;
    let keys: Vec<String> = widgets.iter().map(|widget| widget_key(widget)).collect();
    tx.execute(
        "UPDATE rate r SET tat = least(r.tat, $2)
         FROM (SELECT key FROM rate WHERE key = ANY($1) ORDER BY key FOR UPDATE SKIP LOCKED) AS k
         WHERE r.key = k.key",
        params![keys, now.as_micros()],
    )
    .await?;
    later.refresh(tx, now).await
}
