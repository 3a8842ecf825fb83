//! What a bot said lately, against its limits. Whoever counts has the bot's row locked, so that two
//! handlers of one bot, wherever they run, do not both take its last message.

use std::collections::{BTreeMap, BTreeSet};

use imbabot_bot::units::format_duration;

use crate::error::Result;
use crate::inbox::{Handled, SendLimits};
use crate::outbox::{Born, DeadReason, NewDelivery};
use crate::postgres::row::{get, held};
use crate::postgres::tx::{Tx, params};

/// The handler's messages as they are to be recorded: those beyond a limit are refused, visibly.
pub(super) async fn within(tx: &Tx<'_>, handled: &Handled) -> Result<Vec<NewDelivery>> {
    let sends = &handled.sends;
    if !sends.iter().any(|send| send.born == Born::Queued) {
        return Ok(sends.clone());
    }
    let mut counts = Counts::read(tx, handled).await?;
    let mut within = Vec::with_capacity(sends.len());
    for send in sends {
        let beyond = match send.born {
            Born::Queued => counts.beyond(send),
            Born::Dead(_) => None,
        };
        // Whatever it is born as, its key is taken.
        counts.known.insert(send.key.clone());
        within.push(match beyond {
            None => send.clone(),
            Some(limit) => {
                let born = Born::Dead(DeadReason::Suppressed);
                NewDelivery { born, detail: Some(limit), ..send.clone() }
            }
        });
    }
    Ok(within)
}

struct Counts<'a> {
    limits: &'a SendLimits,
    event: usize,
    bot: u64,
    rooms: BTreeMap<u64, u64>,
    known: BTreeSet<String>,
}

impl<'a> Counts<'a> {
    async fn read(tx: &Tx<'_>, handled: &'a Handled) -> Result<Self> {
        let (limits, bot) = (&handled.limits, handled.entry.bot.as_str());
        let since = |window| (handled.now - window).as_micros();
        let count = tx
            .row(
                "SELECT count(*) FROM delivery WHERE bot = $1 AND created_at > $2 AND counts",
                params![bot, since(limits.per_bot.1)],
            )
            .await?;
        let rooms: BTreeSet<i64> = handled.sends.iter().map(|s| s.room.0.cast_signed()).collect();
        let rooms: Vec<i64> = rooms.into_iter().collect();
        let counted = tx
            .rows(
                "SELECT k.room, (SELECT count(*) FROM delivery d
                     WHERE d.bot = $1 AND d.widget = $2 AND d.room = k.room AND d.created_at > $3
                       AND d.counts)
                 FROM unnest($4) AS k (room)",
                params![
                    bot,
                    handled.entry.widget.as_str(),
                    since(limits.per_bot_and_room.1),
                    rooms
                ],
            )
            .await?;
        let mut of_rooms = BTreeMap::new();
        for row in &counted {
            let (room, count): (i64, i64) = (get(row, 0)?, get(row, 1)?);
            of_rooms.insert(room.cast_unsigned(), count.cast_unsigned());
        }
        let keys: BTreeMap<String, &str> =
            handled.sends.iter().map(|s| (held(&s.key).into_owned(), s.key.as_str())).collect();
        let asked: Vec<&str> = keys.keys().map(String::as_str).collect();
        let found = tx.rows("SELECT key FROM delivery WHERE key = ANY($1)", params![asked]).await?;
        let mut known = BTreeSet::new();
        for row in &found {
            known.extend(keys.get(get::<&str>(row, 0)?).map(|key| (*key).to_owned()));
        }
        let bot = get::<i64>(&count, 0)?.cast_unsigned();
        Ok(Self { limits, event: 0, bot, rooms: of_rooms, known })
    }

    /// The limit that refuses one more message, in words; it is counted if none does. One whose key
    /// is known is no further message.
    fn beyond(&mut self, send: &NewDelivery) -> Option<String> {
        if self.known.contains(&send.key) {
            return None;
        }
        if self.event >= self.limits.per_event {
            return Some(format!("per_event: {} for one event", self.limits.per_event));
        }
        let (most, window) = self.limits.per_bot;
        if self.bot >= u64::from(most) {
            return Some(format!("per_bot: {most} within {}", format_duration(window)));
        }
        let (most, window) = self.limits.per_bot_and_room;
        let room = self.rooms.entry(send.room.0).or_default();
        if *room >= u64::from(most) {
            return Some(format!("per_bot_and_room: {most} within {}", format_duration(window)));
        }
        self.event += 1;
        self.bot += 1;
        *room += 1;
        None
    }
}
