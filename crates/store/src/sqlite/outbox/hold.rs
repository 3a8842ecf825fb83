//! What an attempt had to wait for, told in the transaction that lets it go. Explains; never holds
//! anything back itself.

use imbabot_bot::BotName;
use imbabot_core::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use crate::error::Result;
use crate::outbox::Hold;
use crate::rules::SHORTEST_HOLD;
use crate::sqlite::journal::{instant, parsed};
use crate::sqlite::lane::Lane;

/// What is known at the claim, before it takes its place in the rates.
pub(super) struct Held<'a> {
    pub(super) lane: &'a Lane,
    /// The bot that wanted it.
    pub(super) bot: Option<&'a BotName>,
    /// From when the room's rate let it through.
    pub(super) room_free: Timestamp,
    /// Until when the server had asked for silence.
    pub(super) silent_until: Timestamp,
    /// From when the widget's rate let it through.
    pub(super) widget_free: Timestamp,
}

impl Held<'_> {
    /// What ended last of all that held it, and since when it could have left otherwise; none if it
    /// hardly waited.
    pub(super) fn hold(
        &self,
        tx: &Connection,
        now: Timestamp,
        seq: i64,
    ) -> Result<Option<(Hold, Timestamp)>> {
        let since: i64 = tx
            .prepare_cached(
                "SELECT max(created_at, not_before, next_attempt_at) FROM delivery WHERE seq = ?1",
            )?
            .query_row([seq], |row| row.get(0))?;
        let since = Timestamp::from_micros(since);
        if now.since(since) < SHORTEST_HOLD {
            return Ok(None);
        }
        let mut last = (since, Hold::Concurrency);
        let mut ended = |at: Timestamp, hold| {
            if last.0 < at && at <= now {
                last = (at, hold);
            }
        };
        if let Some(head_since) = self.lane.head_since(tx)? {
            ended(head_since, Hold::Lane);
        }
        ended(self.widget_free, Hold::WidgetRate);
        ended(self.room_free, Hold::RoomRate);
        ended(self.silent_until, Hold::RetryAfter);
        if let Some((at, hold)) = last_stoppage(tx, &self.lane.widget, self.bot, since)? {
            ended(at, hold);
        }
        let begun: Option<i64> = tx
            .prepare_cached("SELECT max(started_at) FROM incarnation")?
            .query_row([], |row| row.get(0))?;
        ended(begun.map_or(Timestamp::MIN, Timestamp::from_micros), Hold::Downtime);
        Ok(Some((last.1, since)))
    }
}

/// The breaker or pause that ended last, if one ended since.
fn last_stoppage(
    tx: &Connection,
    widget: &str,
    bot: Option<&BotName>,
    since: Timestamp,
) -> Result<Option<(Timestamp, Hold)>> {
    let found = tx
        .prepare_cached(
            "SELECT until, reason FROM stoppage
             WHERE until > ?2 AND +scope IN ('all', 'widget/' || ?1, 'bot/' || ?3)
             ORDER BY until DESC LIMIT 1",
        )?
        .query_row(params![widget, since.as_micros(), bot.map(BotName::as_str)], |row| {
            Ok(instant(row, 0).and_then(|until| Ok((until, parsed(row, 1)?))))
        })
        .optional()?;
    found.transpose()
}
