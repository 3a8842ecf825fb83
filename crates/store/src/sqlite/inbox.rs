//! Entries of the inbox, bots' memory and wakes.

use std::collections::BTreeMap;

use async_trait::async_trait;
use imbabot_bot::units::format_duration;
use imbabot_bot::{BotName, MemoryWrite, RoomChange, Seen, WidgetName};
use imbabot_core::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::journal::{self, count, from_json, instant, parsed, to_json, unreadable};
use super::outbox::{self, Paused};
use super::{Bodies, SqliteStore};
use crate::error::Result;
use crate::inbox::{
    EventBody, EventClaim, EventEntry, EventOutcome, EventRecord, Handled, HandledOutcome, Inbox,
    NewEvent, SendLimits,
};
use crate::lifecycle::SUSPECTS_WAIT;
use crate::outbox::{Born, DeadReason, NewDelivery};
use crate::rules::{LONGEST_WAIT, OWN, WAIT};

#[async_trait]
impl Inbox for SqliteStore {
    async fn adopt_bots(&self, now: Timestamp, bots: &[BotName]) -> Result<()> {
        let bots = bots.to_vec();
        self.link
            .write(move |tx| {
                tx.execute("UPDATE bot SET present = 0", [])?;
                for bot in &bots {
                    tx.execute(
                        "INSERT INTO bot (name, since, present) VALUES (?1, ?2, 1)
                         ON CONFLICT (name) DO UPDATE SET present = 1",
                        params![bot.as_str(), now.as_micros()],
                    )?;
                }
                let orphans: Vec<(String, i64)> = tx
                    .prepare(
                        "SELECT bot, event FROM inbox
                         WHERE state IN ('waiting', 'running')
                           AND bot NOT IN (SELECT name FROM bot WHERE present = 1)",
                    )?
                    .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                    .collect::<rusqlite::Result<_>>()?;
                for (bot, event) in orphans {
                    end_entry(tx, now, &bot, event, EventOutcome::Ignored, Some("bot_removed"))?;
                }
                tx.execute(
                    "DELETE FROM wake WHERE bot NOT IN (SELECT name FROM bot WHERE present = 1)",
                    [],
                )?;
                Ok(())
            })
            .await
    }

    async fn claim_events(
        &self,
        claim: EventClaim,
    ) -> Result<(Vec<EventEntry>, Option<Timestamp>)> {
        self.link.write(move |tx| claim_events(tx, &claim)).await
    }

    async fn commit_handled(&self, handled: Handled) -> Result<HandledOutcome> {
        let bodies = self.bodies;
        self.link.write(move |tx| commit_handled(tx, &handled, bodies)).await
    }

    async fn fail_event(
        &self,
        entry: &EventEntry,
        now: Timestamp,
        reason: &str,
        retry_at: Option<Timestamp>,
    ) -> Result<()> {
        let (entry, reason) = (entry.clone(), reason.to_owned());
        self.link
            .write(move |tx| {
                let (bot, event) = (entry.bot.as_str(), entry.event);
                if !runs(tx, &entry)? {
                    // A late word of a try that was given up: another one decides.
                    return Ok(());
                }
                match retry_at {
                    Some(at) => put_back(tx, bot, event, at, entry.tries, Some(&reason)),
                    None => end_entry(tx, now, bot, event, EventOutcome::Poisoned, Some(&reason)),
                }
            })
            .await
    }

    async fn give_back(&self, entry: &EventEntry, due_at: Timestamp) -> Result<()> {
        let entry = entry.clone();
        self.link
            .write(move |tx| {
                if !runs(tx, &entry)? {
                    return Ok(());
                }
                let (bot, event) = (entry.bot.as_str(), entry.event);
                // A suspect stays one: it has not shown yet whether it kills.
                tx.prepare_cached(
                    "UPDATE inbox SET state = 'waiting', due_at = ?3, tries = tries - 1
                     WHERE bot = ?1 AND event = ?2",
                )?
                .execute(params![bot, event, due_at.as_micros()])?;
                yield_to_first(tx, bot, event)
            })
            .await
    }

    async fn release_running(&self, now: Timestamp) -> Result<()> {
        self.link
            .write(move |tx| {
                stop_all(tx, now, false)?;
                Ok(())
            })
            .await
    }

    async fn remembered(
        &self,
        bot: &BotName,
        widget: &WidgetName,
        key: &str,
    ) -> Result<Option<(serde_json::Value, i64)>> {
        let (bot, widget, key) = (bot.clone(), widget.clone(), key.to_owned());
        self.link
            .read(move |tx| {
                let found = tx
                    .prepare_cached(
                        "SELECT value, version FROM memory
                         WHERE bot = ?1 AND widget = ?2 AND key = ?3",
                    )?
                    .query_row(params![bot.as_str(), widget.as_str(), key], |row| {
                        Ok((row.get::<_, String>(0)?, row.get(1)?))
                    })
                    .optional()?;
                found.map(|(value, version)| Ok((from_json(&value)?, version))).transpose()
            })
            .await
    }

    async fn fire_wakes(&self, now: Timestamp) -> Result<(u64, Option<Timestamp>)> {
        self.link
            .write(move |tx| {
                let due: Vec<(String, String, String, i64)> = tx
                    .prepare_cached(
                        "SELECT bot, widget, key, due_at FROM wake WHERE due_at <= ?1
                         ORDER BY due_at, bot, widget, key LIMIT 1000",
                    )?
                    .query_map([now.as_micros()], |row| {
                        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
                    })?
                    .collect::<rusqlite::Result<_>>()?;
                for (bot, widget, key, due_at) in &due {
                    let event = NewEvent {
                        widget: widget.parse().map_err(|_| unreadable(widget))?,
                        at: Timestamp::from_micros(*due_at),
                        body: EventBody::Timer { key: key.clone(), occurrence: None },
                        recipients: vec![bot.parse().map_err(|_| unreadable(bot))?],
                    };
                    insert_event(tx, now, &event)?;
                    tx.prepare_cached(
                        "DELETE FROM wake WHERE bot = ?1 AND widget = ?2 AND key = ?3",
                    )?
                    .execute(params![bot, widget, key])?;
                }
                let next: Option<i64> = tx
                    .prepare_cached("SELECT min(due_at) FROM wake")?
                    .query_row([], |row| row.get(0))?;
                Ok((due.len() as u64, next.map(Timestamp::from_micros)))
            })
            .await
    }
}

/// Puts an event into the inboxes of its recipients. An event for nobody leaves no row.
pub(super) fn insert_event(tx: &Connection, now: Timestamp, event: &NewEvent) -> Result<()> {
    if event.recipients.is_empty() {
        return Ok(());
    }
    tx.prepare_cached(
        "INSERT INTO event (widget, at, kind, room, body) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![
        event.widget.as_str(),
        event.at.as_micros(),
        event.body.kind(),
        event.body.room().map(|room| room.0.cast_signed()),
        to_json(&event.body)?,
    ])?;
    let seq = tx.last_insert_rowid();
    let lane = event.body.lane();
    let mut statement = tx.prepare_cached(
        "INSERT INTO inbox (bot, event, widget, lane, state, blocked, due_at)
         VALUES (?1, ?2, ?3, ?4, 'waiting', EXISTS (
             SELECT 1 FROM inbox INDEXED BY inbox_lane
             WHERE bot = ?1 AND widget = ?3 AND lane = ?4
               AND state IN ('waiting', 'running')), ?5)",
    )?;
    for bot in &event.recipients {
        statement.execute(params![
            bot.as_str(),
            seq,
            event.widget.as_str(),
            lane,
            now.as_micros()
        ])?;
    }
    Ok(())
}

fn claim_events(
    tx: &Connection,
    claim: &EventClaim,
) -> Result<(Vec<EventEntry>, Option<Timestamp>)> {
    let now = claim.now;
    let paused = Paused::read(tx)?;
    let free = || claim.free.iter().filter(|(bot, slots)| *slots > 0 && !paused.bot(bot.as_str()));
    // What was running when the process was killed runs alone, so that only the one that kills is
    // counted against.
    let suspects: Vec<(String, bool, bool)> = tx
        .prepare_cached(
            "SELECT bot, state = 'running', blocked = 0 AND due_at <= ?1 FROM inbox
             WHERE suspect = 1 AND state IN ('waiting', 'running')",
        )?
        .query_map([now.as_micros()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<rusqlite::Result<_>>()?;
    if suspects.iter().any(|(_, running, _)| *running) {
        return Ok((Vec::new(), None));
    }
    // A suspect of a bot that is told nothing now holds nobody up.
    let told = |bot: &str| claim.free.iter().any(|(name, _)| name.as_str() == bot);
    let alone = suspects.iter().any(|(bot, _, due)| *due && told(bot) && !paused.bot(bot.as_str()));
    if alone {
        let running: bool = tx
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM inbox WHERE state = 'running')")?
            .query_row([], |row| row.get(0))?;
        if running {
            return Ok((Vec::new(), None));
        }
    }
    let mut entries = Vec::new();
    let mut next_due: Option<i64> = None;
    for (bot, slots) in free() {
        let mut wanted = if alone { 1 } else { *slots };
        // Own changes end here without taking a slot, so look again until the slots are full.
        while wanted > 0 {
            let due = due_entries(tx, bot.as_str(), now, alone, wanted)?;
            if due.is_empty() {
                break;
            }
            for event in due {
                match start_entry(tx, claim, bot, event)? {
                    Some(entry) => {
                        entries.push(entry);
                        wanted -= 1;
                    }
                    None => continue,
                }
            }
            if alone && !entries.is_empty() {
                return Ok((entries, None));
            }
        }
        let next: Option<i64> = tx
            .prepare_cached(
                "SELECT min(due_at) FROM inbox
                 WHERE bot = ?1 AND state = 'waiting' AND blocked = 0 AND due_at > ?2",
            )?
            .query_row(params![bot.as_str(), now.as_micros()], |row| row.get(0))?;
        let next = match next.map(Timestamp::from_micros) {
            Some(next) if next.since(now) > LONGEST_WAIT => {
                recall(tx, bot.as_str(), now)?;
                Some(now.as_micros())
            }
            next => next.map(Timestamp::as_micros),
        };
        next_due = match (next_due, next) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
    Ok((entries, next_due.map(Timestamp::from_micros)))
}

/// What waits for an instant that no entry waits for was put off by a clock that was ahead: it is due now.
fn recall(tx: &Connection, bot: &str, now: Timestamp) -> Result<()> {
    tx.prepare_cached(
        "UPDATE inbox SET due_at = ?2 WHERE bot = ?1 AND state = 'waiting' AND due_at > ?3",
    )?
    .execute(params![bot, now.as_micros(), (now + LONGEST_WAIT).as_micros()])?;
    Ok(())
}

fn due_entries(
    tx: &Connection,
    bot: &str,
    now: Timestamp,
    suspects: bool,
    limit: usize,
) -> Result<Vec<i64>> {
    Ok(tx
        .prepare_cached(
            "SELECT event FROM inbox
             WHERE bot = ?1 AND state = 'waiting' AND blocked = 0 AND due_at <= ?2
               AND (suspect = 1 OR ?3 = 0)
             ORDER BY due_at, event LIMIT ?4",
        )?
        .query_map(
            params![bot, now.as_micros(), suspects, i64::try_from(limit).unwrap_or(i64::MAX)],
            |row| row.get(0),
        )?
        .collect::<rusqlite::Result<_>>()?)
}

/// Counts the try and hands the entry out; `None` if it ended here or has to wait.
fn start_entry(
    tx: &Connection,
    claim: &EventClaim,
    bot: &BotName,
    event: i64,
) -> Result<Option<EventEntry>> {
    let now = claim.now;
    let mut entry = tx
        .prepare_cached(
            "SELECT e.widget, e.at, e.body, i.tries FROM inbox i JOIN event e ON e.seq = i.event
             WHERE i.bot = ?1 AND i.event = ?2",
        )?
        .query_row(params![bot.as_str(), event], |row| {
            Ok((|| -> Result<_> {
                Ok(EventEntry {
                    event,
                    bot: bot.clone(),
                    widget: parsed(row, 0)?,
                    at: instant(row, 1)?,
                    body: from_json(&row.get::<_, String>(2)?)?,
                    tries: count(row, 3)?,
                })
            })())
        })??;
    let ahead = claim.ahead.iter().find(|(widget, _)| *widget == entry.widget);
    match attribute(tx, &entry, ahead.map_or(0, |(_, ahead)| *ahead))? {
        Attribution::Own => {
            end_entry(tx, now, bot.as_str(), event, EventOutcome::Ignored, Some("own_change"))?;
            return Ok(None);
        }
        Attribution::Wait => {
            tx.prepare_cached("UPDATE inbox SET due_at = ?3 WHERE bot = ?1 AND event = ?2")?
                .execute(params![bot.as_str(), event, (now + WAIT).as_micros()])?;
            return Ok(None);
        }
        Attribution::Foreign => {}
    }
    tx.prepare_cached(
        "UPDATE inbox SET state = 'running', tries = tries + 1 WHERE bot = ?1 AND event = ?2",
    )?
    .execute(params![bot.as_str(), event])?;
    entry.tries += 1;
    Ok(Some(entry))
}

/// Whether a change of a room was made by the bots' own messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attribution {
    /// By somebody else.
    Foreign,
    /// By a message of ours.
    Own,
    /// It cannot be said before an attempt there has ended.
    Wait,
}

/// Who made a room's `updated_at` move. Only a touch can be our own doing: no message of ours
/// renames a room. A message that was confirmed has the server's time; an attempt of which nobody
/// knows has only ours, from which the server's differs by `ahead`.
fn attribute(tx: &Connection, entry: &EventEntry, ahead: i64) -> Result<Attribution> {
    let EventBody::Room { change: RoomChange::Touched, room, .. } = &entry.body else {
        return Ok(Attribution::Foreign);
    };
    let Some(moved) = room.updated_at.map(Timestamp::as_micros) else {
        return Ok(Attribution::Foreign);
    };
    let place = params![entry.widget.as_str(), room.id.0.cast_signed()];
    let sending: bool = tx
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM delivery
             WHERE widget = ?1 AND room = ?2 AND state = 'sending')",
        )?
        .query_row(place, |row| row.get(0))?;
    if sending {
        return Ok(Attribution::Wait);
    }
    let confirmed: bool = tx
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM delivery
             WHERE widget = ?1 AND room = ?2 AND server_time BETWEEN ?3 AND ?4)",
        )?
        .query_row(
            params![
                entry.widget.as_str(),
                room.id.0.cast_signed(),
                moved.saturating_sub(OWN),
                moved.saturating_add(OWN)
            ],
            |row| row.get(0),
        )?;
    let unresolved = || -> Result<bool> {
        // The server's clock counts whole seconds: a message of 12:00:00.7 touches at 12:00:00.
        // What has become of the delivery since does not tell whether this attempt was applied.
        Ok(tx
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM attempt a JOIN delivery d ON d.id = a.delivery
                 WHERE d.widget = ?1 AND d.room = ?2 AND d.ambiguous > 0
                   AND a.class = 'ambiguous'
                   AND a.started_at - 1000000 <= ?3 AND a.ended_at + ?4 >= ?3)",
            )?
            .query_row(
                params![
                    entry.widget.as_str(),
                    room.id.0.cast_signed(),
                    moved.saturating_sub(ahead),
                    OWN
                ],
                |row| row.get(0),
            )?)
    };
    Ok(if confirmed || unresolved()? { Attribution::Own } else { Attribution::Foreign })
}

/// Whether this very try is the one that is running.
fn runs(tx: &Connection, entry: &EventEntry) -> Result<bool> {
    Ok(tx
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM inbox
             WHERE bot = ?1 AND event = ?2 AND state = 'running' AND tries = ?3)",
        )?
        .query_row(params![entry.bot.as_str(), entry.event, entry.tries], |row| row.get(0))?)
}

/// running → waiting. The process has survived it, so it is no suspect any more.
fn put_back(
    tx: &Connection,
    bot: &str,
    event: i64,
    due_at: Timestamp,
    tries: u32,
    reason: Option<&str>,
) -> Result<()> {
    tx.prepare_cached(
        "UPDATE inbox SET state = 'waiting', suspect = 0, due_at = ?3, tries = ?4, reason = ?5
         WHERE bot = ?1 AND event = ?2",
    )?
    .execute(params![bot, event, due_at.as_micros(), tries, reason])?;
    yield_to_first(tx, bot, event)
}

/// What was running waits again, because nobody handles it any more; how many that were. After a
/// kill they are suspects and their tries count, otherwise neither.
pub(super) fn stop_all(tx: &Connection, now: Timestamp, killed: bool) -> Result<u64> {
    let running: Vec<(String, i64)> = tx
        .prepare("SELECT bot, event FROM inbox WHERE state = 'running'")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let due_at = if killed { now + SUSPECTS_WAIT } else { now };
    if killed {
        // Those that an earlier kill left behind wait anew: every start begins calmly.
        tx.execute(
            "UPDATE inbox SET due_at = max(due_at, ?1) WHERE suspect = 1 AND state = 'waiting'",
            [due_at.as_micros()],
        )?;
    }
    for (bot, event) in &running {
        tx.execute(
            "UPDATE inbox SET state = 'waiting', due_at = ?3, suspect = iif(?4, 1, suspect),
                 tries = iif(?4, tries, tries - 1)
             WHERE bot = ?1 AND event = ?2",
            params![bot, event, due_at.as_micros(), killed],
        )?;
        yield_to_first(tx, bot, *event)?;
    }
    Ok(running.len() as u64)
}

/// An entry that waits again is not the first of its lane if an earlier one was revived meanwhile.
fn yield_to_first(tx: &Connection, bot: &str, event: i64) -> Result<()> {
    if first_of_lane(tx, bot, event)? != Some(event) {
        block(tx, bot, event)?;
        unblock(tx, bot, event)?;
    }
    Ok(())
}

/// poisoned → waiting, by an operator; false if it is not poisoned. It may be older than what its
/// lane has come to: then it waits for what is running, and the others wait for it.
pub(super) fn revive(tx: &Connection, now: Timestamp, bot: &str, event: i64) -> Result<bool> {
    let changed = tx.execute(
        "UPDATE inbox SET state = 'waiting', blocked = 1, tries = 0, due_at = ?3, ended_at = NULL,
             reason = NULL
         WHERE bot = ?1 AND event = ?2 AND state = 'poisoned'",
        params![bot, event, now.as_micros()],
    )?;
    if changed == 0 {
        return Ok(false);
    }
    let head: Option<(i64, bool)> = tx
        .query_row(
            "SELECT n.event, n.state = 'running' FROM inbox n INDEXED BY inbox_lane
             JOIN inbox e ON e.bot = n.bot AND e.event = ?2
             WHERE n.bot = ?1 AND n.widget = e.widget AND n.lane = e.lane
               AND n.state IN ('waiting', 'running') AND n.blocked = 0",
            params![bot, event],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    match head {
        // Its end lets the first of the lane go, whichever that is.
        Some((_, true)) => {}
        Some((head, false)) if head < event => {}
        Some((head, false)) => {
            block(tx, bot, head)?;
            unblock(tx, bot, event)?;
        }
        None => unblock(tx, bot, event)?,
    }
    journal::event(tx, now, &read_record(tx, bot, event)?)?;
    Ok(true)
}

/// The end of an entry: the next of its lane may go.
pub(super) fn end_entry(
    tx: &Connection,
    now: Timestamp,
    bot: &str,
    event: i64,
    outcome: EventOutcome,
    reason: Option<&str>,
) -> Result<()> {
    let state = match outcome {
        EventOutcome::Handled => "handled",
        EventOutcome::Poisoned => "poisoned",
        EventOutcome::Ignored => "ignored",
    };
    tx.prepare_cached(
        "UPDATE inbox SET state = ?3, ended_at = ?4, reason = ?5, suspect = 0
         WHERE bot = ?1 AND event = ?2",
    )?
    .execute(params![bot, event, state, now.as_micros(), reason])?;
    unblock(tx, bot, event)?;
    let record = read_record(tx, bot, event)?;
    journal::event(tx, now, &record)
}

/// Lets the first of the lane of `event` go.
fn unblock(tx: &Connection, bot: &str, event: i64) -> Result<()> {
    if let Some(first) = first_of_lane(tx, bot, event)? {
        tx.prepare_cached("UPDATE inbox SET blocked = 0 WHERE bot = ?1 AND event = ?2")?
            .execute(params![bot, first])?;
    }
    Ok(())
}

fn block(tx: &Connection, bot: &str, event: i64) -> Result<()> {
    tx.prepare_cached("UPDATE inbox SET blocked = 1 WHERE bot = ?1 AND event = ?2")?
        .execute(params![bot, event])?;
    Ok(())
}

/// The oldest entry that waits or runs in the lane of `event`.
fn first_of_lane(tx: &Connection, bot: &str, event: i64) -> Result<Option<i64>> {
    Ok(tx
        .prepare_cached(FIRST_OF_LANE)?
        .query_row(params![bot, event], |row| row.get(0))
        .optional()?)
}

/// By its own index: without being told, SQLite would read all that the bot was ever told.
const FIRST_OF_LANE: &str = "SELECT n.event FROM inbox n INDEXED BY inbox_lane \
     JOIN inbox e ON e.bot = n.bot AND e.event = ?2 \
     WHERE n.bot = ?1 AND n.widget = e.widget AND n.lane = e.lane \
       AND n.state IN ('waiting', 'running') \
     ORDER BY n.event LIMIT 1";

pub(super) const RECORD: &str = "SELECT i.event, i.bot, e.widget, e.kind, e.room, i.tries, \
     i.state, i.reason, e.at FROM inbox i JOIN event e ON e.seq = i.event";

pub(super) fn record_of(row: &rusqlite::Row<'_>) -> Result<EventRecord> {
    let bot: BotName = parsed(row, 1)?;
    Ok(EventRecord {
        id: format!("e{}/{bot}", row.get::<_, i64>(0)?),
        widget: parsed(row, 2)?,
        bot,
        event_kind: row.get(3)?,
        room: row.get::<_, Option<i64>>(4)?.map(|room| room.cast_unsigned().into()),
        tries: count(row, 5)?,
        outcome: match row.get::<_, String>(6)?.as_str() {
            "handled" => Some(EventOutcome::Handled),
            "poisoned" => Some(EventOutcome::Poisoned),
            "ignored" => Some(EventOutcome::Ignored),
            _ => None,
        },
        reason: row.get(7)?,
        at: Some(instant(row, 8)?),
    })
}

fn read_record(tx: &Connection, bot: &str, event: i64) -> Result<EventRecord> {
    tx.prepare_cached(&format!("{RECORD} WHERE i.bot = ?1 AND i.event = ?2"))?
        .query_row(params![bot, event], |row| Ok(record_of(row)))?
}

fn commit_handled(tx: &Connection, handled: &Handled, bodies: Bodies) -> Result<HandledOutcome> {
    let Handled { entry, now, .. } = handled;
    let (bot, widget) = (entry.bot.as_str(), entry.widget.as_str());
    if !runs(tx, entry)? {
        // A late commit of a handler that was given up: what it wanted was not promised to it.
        return Ok(HandledOutcome::Conflict);
    }
    for write in &handled.memory {
        if !based_on_present(tx, bot, widget, write)? {
            put_back(tx, bot, entry.event, *now, entry.tries.saturating_sub(1), None)?;
            return Ok(HandledOutcome::Conflict);
        }
    }
    for write in &handled.memory {
        remember(tx, bot, widget, write)?;
    }
    for key in &handled.cancels {
        tx.prepare_cached("DELETE FROM wake WHERE bot = ?1 AND widget = ?2 AND key = ?3")?
            .execute(params![bot, widget, key])?;
        let queued: Option<i64> = tx
            .prepare_cached("SELECT seq FROM delivery WHERE key = ?1 AND state = 'queued'")?
            .query_row([format!("bot/{bot}/{key}")], |row| row.get(0))
            .optional()?;
        if let Some(seq) = queued {
            outbox::finish(tx, *now, seq, DeadReason::Cancelled, bodies)?;
        }
    }
    for (key, due_at) in &handled.wakes {
        tx.prepare_cached(
            "INSERT INTO wake (bot, widget, key, due_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (bot, widget, key) DO UPDATE SET due_at = excluded.due_at",
        )?
        .execute(params![bot, widget, key, due_at.as_micros()])?;
    }
    let mut counts = Counts::read(tx, *now, bot, &handled.limits)?;
    let mut results = Vec::with_capacity(handled.sends.len());
    for send in &handled.sends {
        let beyond = match send.born {
            Born::Queued => counts.beyond(tx, *now, send)?,
            Born::Dead(_) => None,
        };
        results.push(match beyond {
            None => outbox::insert(tx, *now, send, bodies)?,
            Some(limit) => {
                let born = Born::Dead(DeadReason::Suppressed);
                let refused = NewDelivery { born, detail: Some(limit), ..send.clone() };
                outbox::insert(tx, *now, &refused, bodies)?
            }
        });
    }
    end_entry(tx, *now, bot, entry.event, EventOutcome::Handled, None)?;
    Ok(HandledOutcome::Committed(results))
}

/// What a bot said lately, against its limits.
struct Counts<'a> {
    limits: &'a SendLimits,
    event: usize,
    bot: u64,
    rooms: BTreeMap<u64, u64>,
}

impl<'a> Counts<'a> {
    fn read(tx: &Connection, now: Timestamp, bot: &str, limits: &'a SendLimits) -> Result<Self> {
        let since = now - limits.per_bot.1;
        let bot = tx
            .prepare_cached(
                "SELECT count(*) FROM delivery WHERE bot = ?1 AND created_at > ?2 AND counts = 1",
            )?
            .query_row(params![bot, since.as_micros()], |row| row.get::<_, i64>(0))?;
        Ok(Self { limits, event: 0, bot: bot.cast_unsigned(), rooms: BTreeMap::new() })
    }

    /// The limit that refuses one more message, in words; it is counted if none does.
    fn beyond(
        &mut self,
        tx: &Connection,
        now: Timestamp,
        send: &NewDelivery,
    ) -> Result<Option<String>> {
        let (most, window) = self.limits.per_bot_and_room;
        let room = match self.rooms.get(&send.room.0) {
            Some(count) => *count,
            None => tx
                .prepare_cached(
                    "SELECT count(*) FROM delivery
                     WHERE bot = ?1 AND widget = ?2 AND room = ?3 AND created_at > ?4
                       AND counts = 1",
                )?
                .query_row(
                    params![
                        send.bot.as_ref().map(AsRef::<str>::as_ref),
                        send.widget.as_str(),
                        send.room.0.cast_signed(),
                        (now - window).as_micros()
                    ],
                    |row| row.get::<_, i64>(0),
                )?
                .cast_unsigned(),
        };
        let known: bool = tx
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM delivery WHERE key = ?1)")?
            .query_row([&send.key], |row| row.get(0))?;
        self.rooms.insert(send.room.0, room);
        if known {
            return Ok(None);
        }
        let (bots_most, bots_window) = self.limits.per_bot;
        if self.event >= self.limits.per_event {
            return Ok(Some(format!("per_event: {} for one event", self.limits.per_event)));
        }
        if self.bot >= u64::from(bots_most) {
            let window = format_duration(bots_window);
            return Ok(Some(format!("per_bot: {bots_most} within {window}")));
        }
        if room >= u64::from(most) {
            let window = format_duration(window);
            return Ok(Some(format!("per_bot_and_room: {most} within {window}")));
        }
        self.event += 1;
        self.bot += 1;
        self.rooms.insert(send.room.0, room + 1);
        Ok(None)
    }
}

fn based_on_present(tx: &Connection, bot: &str, widget: &str, write: &MemoryWrite) -> Result<bool> {
    let Some(seen) = write.based_on else { return Ok(true) };
    let version: Option<i64> = tx
        .prepare_cached("SELECT version FROM memory WHERE bot = ?1 AND widget = ?2 AND key = ?3")?
        .query_row(params![bot, widget, write.key], |row| row.get(0))
        .optional()?;
    Ok(match seen {
        Seen::Absent => version.is_none(),
        Seen::Version(seen) => version == Some(seen),
    })
}

fn remember(tx: &Connection, bot: &str, widget: &str, write: &MemoryWrite) -> Result<()> {
    match &write.value {
        Some(value) => {
            // The number of the ledger's next line, which this commit uses up: no version is ever
            // used twice, also not after a key was removed and written anew.
            tx.prepare_cached(
                "INSERT INTO memory (bot, widget, key, value, version)
                 VALUES (?1, ?2, ?3, ?4, coalesce(
                     (SELECT seq FROM sqlite_sequence WHERE name = 'ledger'), 0) + 1)
                 ON CONFLICT (bot, widget, key) DO UPDATE
                 SET value = excluded.value, version = excluded.version",
            )?
            .execute(params![bot, widget, write.key, to_json(value)?])?;
        }
        None => {
            tx.prepare_cached("DELETE FROM memory WHERE bot = ?1 AND widget = ?2 AND key = ?3")?
                .execute(params![bot, widget, write.key])?;
        }
    }
    Ok(())
}
