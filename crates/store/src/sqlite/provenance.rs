//! Whether a store is the one that ran here last, or a copy that was put in its place; and how it was
//! looked after. What happened after a copy was made is not in it: messages that were sent are queued
//! in it, announcements that were made are still to come.

use std::path::Path;

use imbabot_core::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::journal;
use super::witness::Witness;
use crate::error::{Error, ErrorKind, Result};
use crate::operations::{Care, CareKind};

/// So many checks and backups of each kind are remembered.
const KEPT: i64 = 10;

/// What stands in place of a store's own line once it was moved to another kind of database.
pub(super) const MOVED: &str = "moved";

/// How far a store came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reached {
    /// Which store it is.
    pub(super) line: String,
    /// The last line of its ledger.
    pub(super) seq: i64,
}

/// How far it came.
pub(super) fn reached(tx: &Connection) -> Result<Reached> {
    let mut line = tx.prepare_cached("SELECT line FROM provenance")?;
    let line = line.query_row([], |row| row.get(0))?;
    Ok(Reached { line, seq: last_of(tx, "ledger")? })
}

/// The last number that a table gave, also of a row that was pruned since.
pub(super) fn last_of(tx: &Connection, table: &str) -> Result<i64> {
    let mut statement = tx.prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = ?1")?;
    Ok(statement.query_row([table], |row| row.get(0)).optional()?.unwrap_or(0))
}

/// When it was copied, if it is a copy.
pub(super) fn copied_at(tx: &Connection) -> Result<Option<Timestamp>> {
    let mut statement = tx.prepare_cached("SELECT copied_at FROM provenance")?;
    let at: Option<i64> = statement.query_row([], |row| row.get(0))?;
    Ok(at.map(Timestamp::from_micros))
}

/// Refuses a copy that was not yet taken into use; otherwise the place knows how far this one came.
pub(super) fn recognise(tx: &Connection, path: &Path, witness: &Witness) -> Result<()> {
    let now = believe(tx, path, witness, witness.read())?;
    witness.write(&now)
}

/// How far it came, if it is no copy by all that is known: what the place has seen, and what it says.
pub(super) fn believe(
    tx: &Connection,
    path: &Path,
    witness: &Witness,
    seen: Option<Reached>,
) -> Result<Reached> {
    let now = reached(tx)?;
    // Where nothing ever ran, nothing was ever sent.
    if last_of(tx, "incarnation")? > 0 {
        let refused = |what: String| {
            let message = format!("the store {} is a copy: {what}", path.display());
            Err(Error::new(ErrorKind::Restored, message))
        };
        if let Some(at) = copied_at(tx)? {
            let at = at.compact();
            if now.line == MOVED {
                let message = format!(
                    "the store {} was moved into another database at {at}: run on that one, what \
                     was sent since is not in this one",
                    path.display()
                );
                return Err(Error::new(ErrorKind::Moved, message));
            }
            return refused(format!(
                "it was made by `store backup` at {at}, and what was sent since is not in it"
            ));
        }
        match seen {
            Some(seen) if seen.line != now.line => {
                return refused(format!(
                    "{} tells of another one that ran here",
                    witness.path().display()
                ));
            }
            Some(seen) if seen.seq > now.seq => {
                return refused(format!(
                    "its ledger ends at {}, and {} tells that it had come to {}",
                    now.seq,
                    witness.path().display(),
                    seen.seq
                ));
            }
            _ => {}
        }
    }
    Ok(now)
}

pub(super) fn cared(tx: &Connection, care: &Care) -> Result<()> {
    let what = care.what.as_str();
    tx.prepare_cached("INSERT INTO care (what, at, well, told) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![what, care.at.as_micros(), care.well, care.told])?;
    tx.prepare_cached(
        "DELETE FROM care WHERE what = ?1 AND seq NOT IN
             (SELECT seq FROM care WHERE what = ?1 ORDER BY seq DESC LIMIT ?2)",
    )?
    .execute(params![what, KEPT])?;
    Ok(())
}

pub(super) fn care(tx: &Connection) -> Result<Vec<Care>> {
    let mut statement =
        tx.prepare_cached("SELECT what, at, well, told FROM care ORDER BY seq DESC")?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let what: String = row.get(0)?;
        let kinds = [CareKind::Integrity, CareKind::Verify, CareKind::Backup];
        // A kind that a newer program knows says nothing to this one.
        let Some(what) = kinds.into_iter().find(|kind| kind.as_str() == what) else { continue };
        found.push(Care {
            what,
            at: journal::instant(row, 1)?,
            well: row.get(2)?,
            told: row.get(3)?,
        });
    }
    Ok(found)
}
