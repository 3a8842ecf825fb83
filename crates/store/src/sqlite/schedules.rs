//! Cursors, occurrences, and the rooms that an occurrence is still to reach.

use std::collections::BTreeSet;

use async_trait::async_trait;
use imbabot_core::{RoomId, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use super::journal::{self, instant, instant_or_none, unreadable};
use super::outbox;
use super::{Bodies, SqliteStore, inbox};
use crate::error::Result;
use crate::outbox::DeadReason;
use crate::schedules::{
    AdoptSchedule, Cursor, Expansion, NewOccurrence, OccurrenceCommit, OccurrenceOutcome,
    OccurrenceRecord, Pinned, REANCHORED_BEYOND, RangeRecord, Schedules, Target,
};

#[async_trait]
impl Schedules for SqliteStore {
    async fn adopt_schedules(
        &self,
        now: Timestamp,
        schedules: Vec<AdoptSchedule>,
    ) -> Result<Vec<Cursor>> {
        let bodies = self.bodies;
        self.link.write(move |tx| adopt(tx, now, &schedules, bodies)).await
    }

    async fn cursors(&self) -> Result<Vec<Cursor>> {
        self.link.read(read_cursors).await
    }

    async fn commit_occurrences(&self, step: OccurrenceCommit) -> Result<bool> {
        self.link
            .write(move |tx| {
                let moved = tx
                    .prepare_cached(
                        "UPDATE schedule SET fired_through = ?3
                         WHERE key = ?1 AND fired_through = ?2 AND present = 1",
                    )?
                    .execute(params![
                        step.key,
                        step.from.as_micros(),
                        step.through.max(step.from).as_micros()
                    ])?;
                if moved == 0 {
                    return Ok(false);
                }
                for occurrence in &step.occurrences {
                    insert_occurrence(tx, step.now, &step.key, occurrence)?;
                }
                for range in &step.ranges {
                    let record = RangeRecord {
                        schedule: step.key.clone(),
                        outcome: range.outcome,
                        reason: range.reason.clone(),
                        from: range.from,
                        to: range.to,
                        count: range.count,
                    };
                    journal::range(tx, step.now, &record)?;
                    if range.outcome == OccurrenceOutcome::Missed {
                        add_missed(tx, &step.key, range.count)?;
                    }
                }
                Ok(true)
            })
            .await
    }

    async fn recorded(
        &self,
        key: &str,
        after: Timestamp,
        until: Timestamp,
    ) -> Result<BTreeSet<Timestamp>> {
        let key = key.to_owned();
        self.link
            .read(move |tx| {
                let found = tx
                    .prepare_cached(
                        "SELECT nominal_at FROM occurrence WHERE schedule = ?1
                           AND nominal_at > ?2 AND nominal_at <= ?3 AND id NOT LIKE '%!manual'",
                    )?
                    .query_map(params![key, after.as_micros(), until.as_micros()], |row| {
                        Ok(Timestamp::from_micros(row.get(0)?))
                    })?
                    .collect::<rusqlite::Result<_>>()?;
                Ok(found)
            })
            .await
    }

    async fn runs_across(&self, key: &str, at: Timestamp) -> Result<Vec<RangeRecord>> {
        let key = key.to_owned();
        self.link
            .read(move |tx| {
                let bodies: Vec<String> = tx
                    .prepare_cached(
                        "SELECT body FROM ledger WHERE id = ?1 AND kind = 'range'
                           AND body ->> 'from' <= ?2 AND body ->> 'to' > ?2
                           AND body ->> 'outcome' <> 'fired' ORDER BY seq",
                    )?
                    .query_map(params![key, at.to_string()], |row| row.get(0))?
                    .collect::<rusqlite::Result<_>>()?;
                bodies.iter().map(|body| journal::from_json(body)).collect()
            })
            .await
    }

    async fn shorten_run(
        &self,
        now: Timestamp,
        run: &RangeRecord,
        to: Timestamp,
        count: u64,
    ) -> Result<bool> {
        let run = run.clone();
        self.link
            .write(move |tx| {
                let gone = tx
                    .prepare_cached(
                        "DELETE FROM ledger WHERE seq = (SELECT seq FROM ledger
                           WHERE id = ?1 AND kind = 'range'
                             AND body ->> 'from' = ?2 AND body ->> 'to' = ?3
                             AND body ->> 'outcome' = ?4 AND body ->> 'reason' = ?5
                             AND body ->> 'count' > ?6 LIMIT 1)",
                    )?
                    .execute(params![
                        run.schedule,
                        run.from.to_string(),
                        run.to.to_string(),
                        run.outcome.as_str(),
                        run.reason,
                        i64::try_from(count).unwrap_or(i64::MAX)
                    ])?;
                if gone == 0 {
                    return Ok(false);
                }
                if run.outcome == OccurrenceOutcome::Missed {
                    let fewer = i64::try_from(run.count.saturating_sub(count)).unwrap_or(i64::MAX);
                    tx.prepare_cached(
                        "UPDATE schedule SET missed = max(missed - ?2, 0) WHERE key = ?1",
                    )?
                    .execute(params![run.schedule, fewer])?;
                }
                journal::range(tx, now, &RangeRecord { to, count, ..run })?;
                Ok(true)
            })
            .await
    }

    async fn trigger(&self, now: Timestamp, key: &str, occurrence: NewOccurrence) -> Result<()> {
        let key = key.to_owned();
        self.link.write(move |tx| insert_occurrence(tx, now, &key, &occurrence)).await
    }

    async fn pinned(&self, limit: usize) -> Result<Vec<Pinned>> {
        self.link
            .read(move |tx| {
                let mut statement = tx.prepare_cached(
                    "SELECT id, schedule, nominal_at, targets, position FROM occurrence
                     WHERE targets IS NOT NULL ORDER BY recorded_at, id LIMIT ?1",
                )?;
                let mut rows = statement.query([i64::try_from(limit).unwrap_or(i64::MAX)])?;
                let (mut found, mut rest) = (Vec::new(), limit);
                while rest > 0
                    && let Some(row) = rows.next()?
                {
                    let position = usize::try_from(row.get::<_, i64>(4)?)
                        .map_err(|_| unreadable("a position"))?;
                    let targets = row.get_ref(3)?.as_blob().unwrap_or_default();
                    let targets = unpack(targets, position, rest)?;
                    rest -= targets.len();
                    found.push(Pinned {
                        id: row.get(0)?,
                        key: row.get(1)?,
                        nominal_at: instant(row, 2)?,
                        targets,
                        position,
                    });
                }
                Ok(found)
            })
            .await
    }

    async fn expand(&self, batch: Expansion) -> Result<bool> {
        let bodies = self.bodies;
        self.link.write(move |tx| expand(tx, &batch, bodies)).await
    }

    async fn pause_schedule(&self, now: Timestamp, key: &str, paused: bool) -> Result<bool> {
        let key = key.to_owned();
        self.link
            .write(move |tx| {
                let before: Option<bool> = tx
                    .query_row(
                        "SELECT paused FROM schedule WHERE key = ?1 AND present = 1",
                        [&key],
                        |row| row.get(0),
                    )
                    .optional()?;
                let Some(before) = before else { return Ok(false) };
                tx.execute("UPDATE schedule SET paused = ?2 WHERE key = ?1", params![key, paused])?;
                let word = |paused: bool| if paused { "paused" } else { "running" };
                super::operations::acted(
                    tx,
                    now,
                    if paused { "schedules pause" } else { "schedules resume" },
                    &format!("schedule/{key}"),
                    word(before),
                    word(paused),
                )?;
                Ok(true)
            })
            .await
    }
}

fn adopt(
    tx: &Connection,
    now: Timestamp,
    schedules: &[AdoptSchedule],
    bodies: Bodies,
) -> Result<Vec<Cursor>> {
    let before: BTreeSet<String> = tx
        .prepare("SELECT key FROM schedule WHERE present = 1")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    tx.execute("UPDATE schedule SET present = 0", [])?;
    let mut reanchored = Vec::new();
    for schedule in schedules {
        let known: Option<(String, i64)> = tx
            .prepare_cached("SELECT definition, fired_through FROM schedule WHERE key = ?1")?
            .query_row([&schedule.key], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let through = match &known {
            Some((_, through)) if Timestamp::from_micros(*through) > now + REANCHORED_BEYOND => {
                reanchored.push(schedule.key.clone());
                retract(tx, now, &schedule.key)?;
                now.as_micros()
            }
            Some((definition, through))
                if *definition == schedule.definition && before.contains(&schedule.key) =>
            {
                *through
            }
            // Edited, or back after it was removed: nothing is backfilled. Never back either: what
            // fired under the old rule cannot fire again under the new one.
            Some((_, through)) => (*through).max(now.as_micros()),
            None => now.as_micros(),
        };
        tx.prepare_cached(
            "INSERT INTO schedule (key, definition, fired_through) VALUES (?1, ?2, ?3)
             ON CONFLICT (key) DO UPDATE SET definition = excluded.definition,
                 fired_through = excluded.fired_through, present = 1",
        )?
        .execute(params![schedule.key, schedule.definition, through])?;
    }
    let orphans: Vec<i64> = tx
        .prepare(
            "SELECT seq FROM delivery
             WHERE open = 1 AND state = 'queued' AND schedule IS NOT NULL
               AND schedule NOT IN (SELECT key FROM schedule WHERE present = 1)",
        )?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for seq in orphans {
        outbox::finish(tx, now, seq, DeadReason::Cancelled, bodies)?;
    }
    let removed = "schedule NOT IN (SELECT key FROM schedule WHERE present = 1)";
    give_up_where(tx, now, removed, "removed")?;
    let mut cursors = read_cursors(tx)?;
    for cursor in &mut cursors {
        cursor.reanchored = reanchored.contains(&cursor.key);
    }
    Ok(cursors)
}

/// The clock was far ahead, and instants were left out that are still to come: that is taken back,
/// so that they can fire. What fired stays.
fn retract(tx: &Connection, now: Timestamp, key: &str) -> Result<()> {
    let left_out: Vec<(String, bool)> = tx
        .prepare_cached(
            "SELECT id, outcome = 'missed' FROM occurrence
             WHERE schedule = ?1 AND nominal_at > ?2 AND outcome <> 'fired'
               -- What fired and reached nobody in the end has fired.
               AND position = 0 AND reason NOT IN ('overlap', 'removed')
               AND id NOT LIKE '%!manual'",
        )?
        .query_map(params![key, now.as_micros()], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    left_out.iter().try_for_each(|(id, _)| forget(tx, id))?;
    let missed = left_out.iter().filter(|(_, missed)| *missed).count();
    let missed = i64::try_from(missed).unwrap_or(i64::MAX);
    let ahead = "id = ?1 AND kind = 'range' AND body ->> 'from' > ?2
                 AND body ->> 'outcome' <> 'fired'";
    let runs: i64 = tx.query_row(
        &format!(
            "SELECT coalesce(sum(body ->> 'count'), 0) FROM ledger
             WHERE {ahead} AND body ->> 'outcome' = 'missed'"
        ),
        params![key, now.to_string()],
        |row| row.get(0),
    )?;
    tx.execute(&format!("DELETE FROM ledger WHERE {ahead}"), params![key, now.to_string()])?;
    tx.prepare_cached("UPDATE schedule SET missed = max(missed - ?2, 0) WHERE key = ?1")?
        .execute(params![key, missed + runs])?;
    Ok(())
}

/// An occurrence goes with its lines.
pub(super) fn forget(tx: &Connection, id: &str) -> Result<()> {
    tx.prepare_cached("DELETE FROM occurrence WHERE id = ?1")?.execute([id])?;
    tx.prepare_cached("DELETE FROM ledger WHERE id = ?1 AND kind = 'occurrence'")?.execute([id])?;
    Ok(())
}

fn read_cursors(tx: &Connection) -> Result<Vec<Cursor>> {
    let mut statement = tx.prepare_cached(
        "SELECT key, fired_through, paused, last_fired, missed, definition FROM schedule
         WHERE present = 1 ORDER BY key",
    )?;
    let mut rows = statement.query([])?;
    let mut cursors = Vec::new();
    while let Some(row) = rows.next()? {
        cursors.push(Cursor {
            key: row.get(0)?,
            fired_through: instant(row, 1)?,
            paused: row.get(2)?,
            last_fired: instant_or_none(row, 3)?,
            missed: journal::number(row, 4)?,
            reanchored: false,
            definition: row.get(5)?,
        });
    }
    Ok(cursors)
}

fn insert_occurrence(
    tx: &Connection,
    now: Timestamp,
    key: &str,
    occurrence: &NewOccurrence,
) -> Result<()> {
    let targets = (!occurrence.targets.is_empty()).then(|| pack(&occurrence.targets));
    let inserted = tx
        .prepare_cached(
            "INSERT INTO occurrence (id, schedule, nominal_at, recorded_at, outcome, reason,
                 deliveries, targets)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (id) DO NOTHING",
        )?
        .execute(params![
            occurrence.id,
            key,
            occurrence.nominal_at.as_micros(),
            now.as_micros(),
            occurrence.outcome.as_str(),
            occurrence.reason,
            i64::try_from(occurrence.targets.len()).unwrap_or(i64::MAX),
            targets,
        ])?;
    if inserted == 0 {
        // The id is the arbiter: what is recorded already does not fire again.
        return Ok(());
    }
    for event in &occurrence.events {
        inbox::insert_event(tx, now, event)?;
    }
    match occurrence.outcome {
        OccurrenceOutcome::Fired => {
            tx.prepare_cached(
                "UPDATE schedule SET last_fired = max(coalesce(last_fired, ?2), ?2) WHERE key = ?1",
            )?
            .execute(params![key, occurrence.nominal_at.as_micros()])?;
        }
        OccurrenceOutcome::Missed => add_missed(tx, key, 1)?,
        OccurrenceOutcome::Skipped => {}
    }
    journal::occurrence(tx, now, &read_occurrence(tx, &occurrence.id)?)
}

fn add_missed(tx: &Connection, key: &str, count: u64) -> Result<()> {
    tx.prepare_cached("UPDATE schedule SET missed = missed + ?2 WHERE key = ?1")?
        .execute(params![key, i64::try_from(count).unwrap_or(i64::MAX)])?;
    Ok(())
}

fn read_occurrence(tx: &Connection, id: &str) -> Result<OccurrenceRecord> {
    tx.prepare_cached(
        "SELECT id, schedule, nominal_at, recorded_at, outcome, reason, deliveries
         FROM occurrence WHERE id = ?1",
    )?
    .query_row([id], |row| {
        Ok((|| -> Result<_> {
            Ok(OccurrenceRecord {
                id: row.get(0)?,
                schedule: row.get(1)?,
                nominal_at: instant(row, 2)?,
                recorded_at: instant(row, 3)?,
                outcome: journal::parsed(row, 4)?,
                reason: row.get(5)?,
                deliveries: journal::number(row, 6)?,
            })
        })())
    })?
}

fn expand(tx: &Connection, batch: &Expansion, bodies: Bodies) -> Result<bool> {
    let found = tx
        .prepare_cached(
            "SELECT position, targets, schedule FROM occurrence
             WHERE id = ?1 AND targets IS NOT NULL",
        )?
        .query_row([&batch.id], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?, row.get::<_, String>(2)?))
        })
        .optional()?;
    let Some((position, targets, schedule)) = found else { return Ok(false) };
    if usize::try_from(position) != Ok(batch.position) {
        return Ok(false);
    }
    let mut overlapped = 0_i64;
    for delivery in &batch.deliveries {
        let overlaps: bool = batch.skip_overlap
            && tx
                .prepare_cached(
                    "SELECT EXISTS (SELECT 1 FROM delivery
                     WHERE schedule = ?1 AND widget = ?2 AND room = ?3 AND open = 1
                       AND occurrence <> ?4
                       -- One that has expired is never sent, though nobody has said so yet.
                       AND (state = 'sending' OR state = 'queued' AND expires_at > ?5))",
                )?
                .query_row(
                    params![
                        schedule,
                        delivery.widget.as_str(),
                        delivery.room.0.cast_signed(),
                        batch.id,
                        batch.now.as_micros()
                    ],
                    |row| row.get(0),
                )?;
        if overlaps {
            overlapped += 1;
        } else {
            outbox::insert(tx, batch.now, delivery, bodies)?;
        }
    }
    // A target without a delivery (its room is gone meanwhile) is left out as well.
    let without = batch.served.saturating_sub(batch.deliveries.len());
    let left_out = overlapped + i64::try_from(without).unwrap_or(0);
    let position = batch.position + batch.served;
    let done = position >= count(&targets)?;
    tx.prepare_cached(
        "UPDATE occurrence SET position = ?2, targets = iif(?3, NULL, targets),
             deliveries = deliveries - ?4, overlaps = overlaps + ?5
         WHERE id = ?1",
    )?
    .execute(params![
        batch.id,
        i64::try_from(position).unwrap_or(i64::MAX),
        done,
        left_out,
        overlapped
    ])?;
    if done {
        close(tx, batch.now, &batch.id, "no_rooms")?;
    }
    Ok(true)
}

/// All its rooms are dealt with: says in the ledger how many deliveries it came to, if that is not
/// what was said when it fired. Without any it was skipped after all.
/// Rooms that occurrences have still to serve are not served any more.
pub(super) fn give_up_pinned(tx: &Connection, now: Timestamp, reason: &str) -> Result<()> {
    give_up_where(tx, now, "TRUE", reason)
}

fn give_up_where(tx: &Connection, now: Timestamp, which: &str, reason: &str) -> Result<()> {
    let unserved: Vec<(String, i64, Vec<u8>)> = tx
        .prepare(&format!(
            "SELECT id, position, targets FROM occurrence WHERE targets IS NOT NULL AND {which}"
        ))?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for (id, position, targets) in unserved {
        let all = i64::try_from(count(&targets)?).unwrap_or(i64::MAX);
        tx.execute(
            "UPDATE occurrence SET targets = NULL, deliveries = deliveries - ?2 WHERE id = ?1",
            params![id, all - position],
        )?;
        close(tx, now, &id, reason)?;
    }
    Ok(())
}

fn close(tx: &Connection, now: Timestamp, id: &str, reason: &str) -> Result<()> {
    tx.prepare_cached(
        "UPDATE occurrence SET outcome = 'skipped', reason = iif(overlaps > 0, 'overlap', ?2)
         WHERE id = ?1 AND deliveries = 0",
    )?
    .execute(params![id, reason])?;
    let record = read_occurrence(tx, id)?;
    let told: Option<String> = tx
        .prepare_cached(
            "SELECT body FROM ledger WHERE id = ?1 AND kind = 'occurrence'
             ORDER BY seq DESC LIMIT 1",
        )?
        .query_row([id], |row| row.get(0))
        .optional()?;
    let told: Option<OccurrenceRecord> = told.map(|body| journal::from_json(&body)).transpose()?;
    if told.as_ref() != Some(&record) {
        journal::occurrence(tx, now, &record)?;
    }
    Ok(())
}

/// The pinned rooms: for each widget its name, the number of its rooms, and the rooms, eight bytes
/// each. A hundred thousand rooms are 800 kB, written once.
pub(super) fn pack(targets: &[Target]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(targets.len() * 8 + 80);
    let mut rest = targets;
    while let Some(first) = rest.first() {
        let length = rest.iter().take_while(|t| t.widget == first.widget).count();
        let (same, others) = rest.split_at(length);
        let name = first.widget.as_str().as_bytes();
        // A widget's name has at most 64 bytes.
        bytes.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(&(length as u64).to_le_bytes());
        for target in same {
            bytes.extend_from_slice(&target.room.0.to_le_bytes());
        }
        rest = others;
    }
    bytes
}

/// Calls `visit` with each widget's name and the bytes of its rooms.
fn runs<'a>(mut bytes: &'a [u8], mut visit: impl FnMut(&'a str, &'a [u8])) -> Result<()> {
    let damaged = || unreadable("the rooms of an occurrence");
    while let Some((length, rest)) = bytes.split_first() {
        let (name, rest) = rest.split_at_checked(usize::from(*length)).ok_or_else(damaged)?;
        let (count, rest) = rest.split_first_chunk::<8>().ok_or_else(damaged)?;
        let size = usize::try_from(u64::from_le_bytes(*count)).ok().and_then(|n| n.checked_mul(8));
        let (rooms, rest) = rest.split_at_checked(size.ok_or_else(damaged)?).ok_or_else(damaged)?;
        visit(std::str::from_utf8(name).map_err(|_| damaged())?, rooms);
        bytes = rest;
    }
    Ok(())
}

fn count(bytes: &[u8]) -> Result<usize> {
    let mut count = 0;
    runs(bytes, |_, rooms| count += rooms.len() / 8)?;
    Ok(count)
}

/// All pinned rooms.
pub(super) fn unpack_all(bytes: &[u8]) -> Result<Vec<Target>> {
    unpack(bytes, 0, count(bytes)?)
}

fn unpack(bytes: &[u8], position: usize, limit: usize) -> Result<Vec<Target>> {
    let mut found = Vec::new();
    let mut failed = None;
    let mut skip = position;
    runs(bytes, |widget, rooms| {
        let all = rooms.chunks_exact(8);
        let length = all.len();
        match widget.parse::<imbabot_bot::WidgetName>() {
            Ok(widget) => {
                for room in all.skip(skip).take(limit - found.len()) {
                    let mut number = [0; 8];
                    number.copy_from_slice(room);
                    let room = RoomId(u64::from_le_bytes(number));
                    found.push(Target { widget: widget.clone(), room });
                }
            }
            Err(_) => failed = Some(unreadable(widget)),
        }
        skip = skip.saturating_sub(length);
    })?;
    failed.map_or(Ok(found), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pinned_rooms_are_read_back_from_any_position() {
        let target =
            |widget: &str, room| Target { widget: widget.parse().unwrap(), room: RoomId(room) };
        let all = vec![target("a", 1), target("a", u64::MAX), target("b", 3), target("c", 4)];
        let bytes = pack(&all);
        assert_eq!(count(&bytes).unwrap(), 4);
        for position in 0..=4 {
            for limit in 0..=4 {
                let expected: Vec<_> = all.iter().skip(position).take(limit).cloned().collect();
                assert_eq!(unpack(&bytes, position, limit).unwrap(), expected);
            }
        }
        for cut in 1..bytes.len() {
            let _ = unpack(&bytes[..cut], 0, 9);
        }
    }
}
