//! What an attempt had to wait for, told in the transaction that lets it go. Explains; never holds
//! anything back itself.

use imbabot_core::Timestamp;

use crate::error::Result;
use crate::outbox::Hold;
use crate::postgres::row::{get, instant, parsed};
use crate::postgres::tx::{Tx, params};
use crate::rules::SHORTEST_HOLD;

/// What is known at the claim, before it takes its place in the rates.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) widget: String,
    /// The bot that wanted it.
    pub(super) bot: Option<String>,
    /// From when it could have left.
    pub(super) since: Timestamp,
    /// Since when it is the head of its lane.
    pub(super) head_since: Option<Timestamp>,
    /// From when the room's rate let it through.
    pub(super) room_free: Timestamp,
    /// Until when the server had asked for silence.
    pub(super) silent_until: Timestamp,
    /// From when the widget's rate let it through.
    pub(super) widget_free: Timestamp,
}

/// For each, what ended last of all that held it, and since when it could have left otherwise; none if
/// it hardly waited.
pub(super) async fn holds(
    tx: &Tx<'_>,
    now: Timestamp,
    held: &[Held],
) -> Result<Vec<Option<(Hold, Timestamp)>>> {
    let waited = |held: &Held| now.since(held.since) >= SHORTEST_HOLD;
    let Some(first) = held.iter().filter(|held| waited(held)).map(|held| held.since).min() else {
        return Ok(vec![None; held.len()]);
    };
    let stopped = last_stoppages(tx, held).await?;
    let begun = begun(tx, first).await?;
    let told = held.iter().zip(stopped).map(|(held, stopped)| {
        if !waited(held) {
            return None;
        }
        let mut last = (held.since, Hold::Concurrency);
        let mut ended = |at: Timestamp, hold| {
            if last.0 < at && at <= now {
                last = (at, hold);
            }
        };
        if let Some(head_since) = held.head_since {
            ended(head_since, Hold::Lane);
        }
        ended(held.widget_free, Hold::WidgetRate);
        ended(held.room_free, Hold::RoomRate);
        ended(held.silent_until, Hold::RetryAfter);
        if let Some((at, hold)) = stopped {
            ended(at, hold);
        }
        if let Some(begun) = begun {
            ended(begun, Hold::Downtime);
        }
        Some((last.1, held.since))
    });
    Ok(told.collect())
}

/// The breaker or pause that ended last for each, if one ended since.
async fn last_stoppages(tx: &Tx<'_>, held: &[Held]) -> Result<Vec<Option<(Timestamp, Hold)>>> {
    let widgets: Vec<&str> = held.iter().map(|held| held.widget.as_str()).collect();
    let bots: Vec<Option<&str>> = held.iter().map(|held| held.bot.as_deref()).collect();
    let since: Vec<i64> = held.iter().map(|held| held.since.as_micros()).collect();
    let rows = tx
        .rows(
            "SELECT k.place, s.until, s.reason
             FROM unnest($1, $2, $3) WITH ORDINALITY AS k (widget, bot, since, place)
             CROSS JOIN LATERAL (
                 SELECT until, reason FROM stoppage
                 WHERE until > k.since
                   AND scope IN ('all', 'widget/' || k.widget, 'bot/' || k.bot)
                 ORDER BY until DESC LIMIT 1) AS s",
            params![widgets, bots, since],
        )
        .await?;
    let mut found = vec![None; held.len()];
    for row in &rows {
        let place = usize::try_from(get::<i64>(row, 0)?).unwrap_or_default();
        if let Some(slot) = place.checked_sub(1).and_then(|place| found.get_mut(place)) {
            *slot = Some((instant(row, 1)?, parsed(row, 2)?));
        }
    }
    Ok(found)
}

/// When nobody had been there for the last time since then, and somebody came. One that comes to others
/// ends no downtime.
async fn begun(tx: &Tx<'_>, since: Timestamp) -> Result<Option<Timestamp>> {
    // From the latest back, each by index: runs are kept for ever, and this is asked with every claim.
    let row = tx
        .maybe(
            "SELECT i.started_at FROM incarnation i
             WHERE i.started_at > $1 AND NOT EXISTS (
                 SELECT 1 FROM incarnation j
                 WHERE j.ended_at IS NULL AND j.started_at < i.started_at)
               AND NOT EXISTS (
                 SELECT 1 FROM incarnation j
                 WHERE j.ended_at > i.started_at AND j.started_at < i.started_at)
             ORDER BY i.started_at DESC LIMIT 1",
            params![since.as_micros()],
        )
        .await?;
    row.map(|row| instant(&row, 0)).transpose()
}
