//! Copies of a store, and what is to be told of one. A copy is made from one snapshot while others write,
//! is checked before it gets its name, and says that it is a copy.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use imbabot_core::Timestamp;
use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};
use serde::Serialize;

use super::{SqliteStore, check, journal, link, provenance, role};
use crate::error::{Error, ErrorKind, Result};
use crate::lifecycle::{IncarnationId, IncarnationRecord};
use crate::operations::{Care, CareKind, Operations};

/// A copy that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Copied {
    /// Where it is.
    pub path: PathBuf,
    /// How long it is.
    pub bytes: u64,
    /// The last line of the ledger that is in it.
    pub seq: i64,
}

/// What a store is and holds.
#[derive(Debug, Clone, Serialize)]
pub struct StoreInfo {
    /// The step of its tables.
    pub schema: i64,
    /// When it was copied, if it is a copy that was not yet taken into use.
    pub copied_at: Option<Timestamp>,
    /// Bytes of the database, and of them those that are free.
    pub bytes: u64,
    /// Of them those that hold nothing.
    pub free_bytes: u64,
    /// Bytes of SQLite's log beside it.
    pub log_bytes: u64,
    /// Records by what they are.
    pub rows: Vec<(&'static str, u64)>,
    /// The last line of the ledger.
    pub seq: i64,
    /// The last run.
    pub incarnation: Option<IncarnationRecord>,
    /// How it was looked after, newest first.
    pub care: Vec<Care>,
}

impl SqliteStore {
    /// Makes a consistent copy, beside whoever writes. It has the name only if it is whole and on disk.
    ///
    /// # Errors
    /// There is a file of that name already, it cannot be written, or the copy does not hold.
    pub async fn backup(&self, to: &Path, now: Timestamp) -> Result<Copied> {
        let place = Place::reserve(to)?;
        let copied = self.link.read(move |tx| copy(tx, place, now)).await?;
        // Whoever looks for it later stands somewhere else.
        let told = std::path::absolute(&copied.path).unwrap_or_else(|_| copied.path.clone());
        let told = told.display().to_string();
        self.cared(Care { what: CareKind::Backup, at: now, well: true, told }).await?;
        Ok(copied)
    }

    /// What it is and holds.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn info(&self) -> Result<StoreInfo> {
        let log = self.path.as_ref().map(|path| role::beside(path, "-wal"));
        let log = log.and_then(|path| std::fs::metadata(path).ok());
        let log_bytes = log.map_or(0, |data| data.len());
        self.link.read(move |tx| Ok(StoreInfo { log_bytes, ..info(tx)? })).await
    }
}

/// A name for a copy, kept from others by an empty file until the copy is whole.
struct Place {
    path: PathBuf,
    draft: PathBuf,
    kept: bool,
}

impl Place {
    fn reserve(path: &Path) -> Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        options.open(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => Error::new(
                ErrorKind::Unusable,
                format!("{} is there already and is not written over", path.display()),
            ),
            _ => role::unusable(path, "the copy cannot be made", &error),
        })?;
        let mut place = Self { path: path.to_owned(), draft: PathBuf::new(), kept: false };
        place.draft = role::draft(path)?;
        Ok(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.kept {
            // What is no copy should not look like one.
            let _ = std::fs::remove_file(&self.draft);
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn copy(tx: &Connection, mut place: Place, now: Timestamp) -> Result<Copied> {
    let mut copy = link::open(&place.draft)?;
    // In one step: another process that commits meanwhile would make it begin again, and again.
    match Backup::new(tx, &mut copy)?.step(-1)? {
        StepResult::Done => {}
        _ => return Err(Error::new(ErrorKind::Retryable, "the store is busy: no copy was made")),
    }
    // One file, that is whole by itself.
    copy.execute_batch("PRAGMA synchronous = FULL; PRAGMA journal_mode = DELETE")?;
    copy.execute("UPDATE provenance SET copied_at = ?1", [now.as_micros()])?;
    if let Some(found) = check(&copy, "quick_check")? {
        return Err(Error::new(ErrorKind::Corrupt, format!("the copy is damaged: {found}")));
    }
    let seq = provenance::last_of(&copy, "ledger")?;
    copy.close().map_err(|(_, error)| error)?;
    let failed =
        |error: &std::io::Error| role::unusable(&place.path, "the copy cannot be made", error);
    let file = File::open(&place.draft).map_err(|e| failed(&e))?;
    file.sync_all().map_err(|e| failed(&e))?;
    let bytes = file.metadata().map_err(|e| failed(&e))?.len();
    role::publish(&place.draft, &place.path)?;
    place.kept = true;
    Ok(Copied { path: place.path.clone(), bytes, seq })
}

/// What is counted: the tables that grow.
const COUNTED: &[(&str, &str)] = &[
    ("deliveries", "SELECT count(*) FROM delivery"),
    ("attempts", "SELECT count(*) FROM attempt"),
    ("occurrences", "SELECT count(*) FROM occurrence"),
    ("schedules", "SELECT count(*) FROM schedule"),
    ("events", "SELECT count(*) FROM event"),
    ("inbox", "SELECT count(*) FROM inbox"),
    ("rooms", "SELECT count(*) FROM item WHERE list = 'rooms'"),
    ("users", "SELECT count(*) FROM item WHERE list = 'users'"),
    ("memory", "SELECT count(*) FROM memory"),
    ("wakes", "SELECT count(*) FROM wake"),
    ("ledger", "SELECT count(*) FROM ledger"),
];

fn info(tx: &Connection) -> Result<StoreInfo> {
    let number = |sql: &str| -> Result<u64> {
        Ok(tx.query_row(sql, [], |row| row.get::<_, i64>(0))?.cast_unsigned())
    };
    let page = number("PRAGMA page_size")?;
    let rows = COUNTED.iter().map(|(name, sql)| Ok((*name, number(sql)?)));
    let mut statement = tx.prepare(
        "SELECT id, started_at, ended_at, clean, version FROM incarnation ORDER BY id DESC LIMIT 1",
    )?;
    let mut runs = statement.query([])?;
    let incarnation = match runs.next()? {
        Some(row) => Some(IncarnationRecord {
            id: IncarnationId(row.get(0)?),
            started_at: journal::instant(row, 1)?,
            ended_at: journal::instant_or_none(row, 2)?,
            clean: row.get(3)?,
            version: row.get(4)?,
            instance: None,
        }),
        None => None,
    };
    Ok(StoreInfo {
        schema: tx.query_row("PRAGMA user_version", [], |row| row.get(0))?,
        copied_at: provenance::copied_at(tx)?,
        bytes: page * number("PRAGMA page_count")?,
        free_bytes: page * number("PRAGMA freelist_count")?,
        log_bytes: 0,
        rows: rows.collect::<Result<_>>()?,
        seq: provenance::last_of(tx, "ledger")?,
        incarnation,
        care: provenance::care(tx)?,
    })
}
