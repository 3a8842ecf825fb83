//! Taking an old copy into use. Nobody knows what was done after it was made, so what may have been done
//! is not done again: messages that could have left end, schedules go on from now, and the first lists
//! are no news. What stands written stays, with what was given up as lines of the ledger.

use std::path::Path;

use imbabot_core::Timestamp;
use rusqlite::{Connection, Params, params};
use serde::Serialize;

use super::operations::acted;
use super::{Bodies, Role, SqliteStore, inbox, outbox, provenance, schedules};
use crate::error::{Error, ErrorKind, Result};
use crate::inbox::EventOutcome;
use crate::lifecycle::Settle;
use crate::outbox::DeadReason;

/// How it is said of each record.
const VERB: &str = "store reanchor";
const REASON: &str = "restored";
/// Numbers go on so far behind those of the copy: what was given out after it was made is not given
/// again, to events, whose numbers are in the keys of messages, and to lines of the ledger.
const GAP: i64 = 1_000_000;

/// What was given up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Reanchored {
    /// Queued messages whose time had come: cancelled.
    pub cancelled: u64,
    /// Messages that were being sent, or were to be sent again: unknown, or dead as unresolved.
    pub unresolved: u64,
    /// Queued messages whose time is still to come: they stay.
    pub kept: u64,
    /// Events that bots had still to be told: ignored.
    pub ignored: u64,
    /// Timers of bots whose time had come: dropped.
    pub dropped_wakes: u64,
    /// Schedules that go on from now.
    pub schedules: u64,
}

impl SqliteStore {
    /// Takes the database at `path`, which is an old copy, into use. Running it again changes nothing
    /// more.
    ///
    /// # Errors
    /// As for [`SqliteStore::open`]; and `Unusable` if nothing ever ran on it.
    pub async fn reanchor(path: &Path, bodies: Bodies, now: Timestamp) -> Result<Reanchored> {
        if !path.exists() {
            let message = format!("there is no store at {}", path.display());
            return Err(Error::new(ErrorKind::Unusable, message));
        }
        let store = Self::open_as(path, Role::Brief, bodies, true)?;
        let seen = store.witness.as_ref().and_then(super::witness::Witness::read);
        let (done, reached) = store
            .link
            .write(move |tx| {
                let done = reanchor(tx, bodies, now)?;
                let least = seen.map_or(0, |seen| seen.seq);
                leave_a_gap(tx, least)?;
                let told = format!(
                    "{} cancelled, {} unresolved, {} ignored",
                    done.cancelled, done.unresolved, done.ignored
                );
                acted(tx, now, VERB, "store", "a copy", &told)?;
                tx.execute(
                    "UPDATE provenance SET line = lower(hex(randomblob(16))), copied_at = NULL",
                    [],
                )?;
                Ok((done, provenance::reached(tx)?))
            })
            .await?;
        store.witness(&reached)?;
        Ok(done)
    }
}

fn reanchor(tx: &Connection, bodies: Bodies, now: Timestamp) -> Result<Reanchored> {
    let mut done = Reanchored::default();
    // First what bots were to be told: what follows is told to them, too.
    for (bot, event) in
        pairs(tx, "SELECT bot, event FROM inbox WHERE state IN ('waiting', 'running')")?
    {
        inbox::end_entry(tx, now, &bot, event, EventOutcome::Ignored, Some(REASON))?;
        done.ignored += 1;
    }
    // Nobody hears the answers, and a repetition may have come and gone.
    let never = Settle {
        wait: std::time::Duration::ZERO,
        max_resends: 0,
        unresolved_after: std::time::Duration::MAX,
    };
    done.unresolved += super::lifecycle::sending_becomes_unknown(tx, now, never, bodies)?;
    for seq in seqs(tx, "SELECT seq FROM delivery WHERE resend_at IS NOT NULL", [])? {
        let record = outbox::finish(tx, now, seq, DeadReason::Unresolved, bodies)?;
        outbox::report(tx, now, seq, &record)?;
        done.unresolved += 1;
    }
    // What was due when it was recorded is due, whatever the clock was then.
    let due = "SELECT seq FROM delivery WHERE state = 'queued'
               AND (not_before <= ?1 OR not_before <= created_at)";
    for seq in seqs(tx, due, [now.as_micros()])? {
        let record = outbox::finish(tx, now, seq, DeadReason::Cancelled, bodies)?;
        outbox::report(tx, now, seq, &record)?;
        acted(tx, now, VERB, &format!("delivery/{}", record.id), "queued", "dead")?;
        done.cancelled += 1;
    }
    done.kept = tx
        .query_row("SELECT count(*) FROM delivery WHERE state = 'queued'", [], |row| {
            row.get::<_, i64>(0)
        })?
        .cast_unsigned();
    done.dropped_wakes =
        tx.execute("DELETE FROM wake WHERE due_at <= ?1", [now.as_micros()])? as u64;
    schedules::give_up_pinned(tx, now, REASON)?;
    done.schedules = tx.execute(
        "UPDATE schedule SET fired_through = ?1 WHERE fired_through < ?1",
        [now.as_micros()],
    )? as u64;
    tx.execute_batch("DELETE FROM item; DELETE FROM list")?;
    Ok(done)
}

fn leave_a_gap(tx: &Connection, least: i64) -> Result<()> {
    for table in ["event", "ledger"] {
        tx.execute(
            "UPDATE sqlite_sequence SET seq = max(seq, ?2) + ?3 WHERE name = ?1",
            params![table, if table == "ledger" { least } else { 0 }, GAP],
        )?;
    }
    Ok(())
}

fn pairs(tx: &Connection, sql: &str) -> Result<Vec<(String, i64)>> {
    let mut statement = tx.prepare(sql)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn seqs(tx: &Connection, sql: &str, given: impl Params) -> Result<Vec<i64>> {
    let mut statement = tx.prepare(sql)?;
    let rows = statement.query_map(given, |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
