//! Moving a whole store from one kind of database to the other: every record, every line of the ledger
//! and every number, so that schedules go on from their cursors, keys stay used, and nothing is sent
//! twice. What was on its way becomes `unknown` when a run begins on the new store, as after a kill.
//!
//! The new store comes into being in one step: until all of it is there and was compared with the old
//! one, there is nothing. Moves nothing while an instance runs, mends nothing, and never writes over
//! anything.

mod table;

use std::path::Path;

use imbabot_core::Timestamp;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::Ledger;
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::InspectionMark;
use crate::postgres::PostgresStore;
use crate::sqlite::{Draft, SqliteStore};
pub(crate) use table::{Digest, Kind, Record, TABLES, Table, Value};

/// So many sentences about a damaged store are told.
const TOLD: usize = 5;
/// Records of one batch of an inspection.
const INSPECTED: usize = 500;

/// The store that is moved.
#[derive(Clone, Copy)]
pub enum MoveFrom<'a> {
    /// A file, by whoever has its daemon's role.
    Sqlite(&'a SqliteStore),
    /// A database on which no instance runs.
    Postgres(&'a PostgresStore),
}

/// Where it is moved to.
#[derive(Clone, Copy)]
pub enum MoveTo<'a> {
    /// A file that is not there yet.
    Sqlite(&'a Path),
    /// A database, with tables that hold nothing.
    Postgres(&'a PostgresStore),
}

/// What was moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Migrated {
    /// How many records of each table.
    pub rows: Vec<(&'static str, u64)>,
    /// The last number of the ledger.
    pub seq: i64,
    /// Whether the old store now says that it was moved away, and refuses to be run on. Where it cannot
    /// say so, nobody may start an instance on it any more.
    pub source_closed: bool,
}

/// The last numbers that were given out, also of records that were pruned since.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) incarnation: i64,
    pub(crate) ledger: i64,
    pub(crate) event: i64,
    pub(crate) delivery: i64,
    pub(crate) care: i64,
    /// Versions of bots' memory.
    pub(crate) memory: i64,
}

/// What a table came to on the way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moved {
    pub(crate) table: &'static Table,
    pub(crate) rows: u64,
    pub(crate) digest: Digest,
}

/// A part of what is moved into a store that takes it in from another thread.
pub(crate) enum Parcel {
    /// Records of a table.
    Records(&'static Table, Vec<Record>),
    /// That was all: it is compared, and kept.
    End(Vec<Moved>, Counters),
}

/// Copies everything from one store into an empty one, tells `progress` how many records of which table
/// are copied so far, compares both, and keeps the copy if it holds.
///
/// # Errors
/// `Occupied` if there is something in the target; `Held` if an instance runs on the source, or somebody
/// changed it meanwhile; `Corrupt` if the source contradicts itself, or the copy differs from it;
/// `Retryable` if a database was lost; and whatever reading and writing fail with. Then nothing was moved.
pub async fn migrate(
    from: MoveFrom<'_>,
    to: MoveTo<'_>,
    now: Timestamp,
    mut progress: impl FnMut(&'static str, u64) + Send,
) -> Result<Migrated> {
    let (rows, seq) = match to {
        MoveTo::Sqlite(path) => {
            let mut draft = Draft::begin(path)?;
            let put = async |parcel| match parcel {
                Parcel::Records(table, records) => draft.put(table, &records),
                Parcel::End(moved, counters) => draft.end(&moved, &counters),
            };
            let copied = copy(from, put, &mut progress).await?;
            draft.publish()?;
            copied
        }
        MoveTo::Postgres(store) => {
            let (parcels, taken) = mpsc::channel(2);
            let copied = async {
                // Dropped with this: whoever waits for more knows that nothing comes.
                let parcels = parcels;
                let put = async |parcel| parcels.send(parcel).await.map_err(|_| gone());
                copy(from, put, &mut progress).await
            };
            match tokio::join!(copied, store.take_in(taken)) {
                (copied, Ok(())) => copied?,
                // Who fills it could not go on because of us, or we because of it.
                (Err(error), Err(cause)) => {
                    return Err(if *error.kind() == ErrorKind::Closed { cause } else { error });
                }
                (Ok(_), Err(cause)) => return Err(cause),
            }
        }
    };
    let source_closed = match from {
        MoveFrom::Sqlite(store) => store.moved_away(now).await.is_ok(),
        MoveFrom::Postgres(store) => store.moved_away(now).await.is_ok(),
    };
    Ok(Migrated { rows, seq, source_closed })
}

fn gone() -> Error {
    Error::new(ErrorKind::Closed, "the new store takes nothing in any more")
}

async fn copy(
    from: MoveFrom<'_>,
    mut put: impl AsyncFnMut(Parcel) -> Result<()>,
    progress: &mut (impl FnMut(&'static str, u64) + Send),
) -> Result<(Vec<(&'static str, u64)>, i64)> {
    from.still().await?;
    from.sound().await?;
    let counters = from.counters().await?;
    let mut moved = Vec::new();
    for table in TABLES {
        let mut of = Moved { table, rows: 0, digest: Digest::default() };
        let mut after: Option<Record> = None;
        loop {
            let page = from.page(table, after.take()).await?;
            let Some(last) = page.last() else { break };
            after = Some(table.key_of(last));
            for record in &page {
                of.digest.add(table, record);
            }
            of.rows += page.len() as u64;
            put(Parcel::Records(table, page)).await?;
            progress(table.name, of.rows);
        }
        if from.count(table).await? != of.rows {
            return Err(changed());
        }
        moved.push(of);
    }
    // Whatever is changed is told in the ledger.
    from.still().await?;
    if from.counters().await? != counters {
        return Err(changed());
    }
    let rows = moved.iter().map(|of| (of.table.name, of.rows)).collect();
    put(Parcel::End(moved, counters)).await?;
    Ok((rows, counters.ledger))
}

fn changed() -> Error {
    let kind = ErrorKind::Held { pid: None, brief: true };
    Error::new(kind, "somebody changed the store while it was copied: begin again")
}

/// The copy of a table against what was read from the source.
pub(crate) fn compare(of: &Moved, rows: u64, digest: Digest) -> Result<()> {
    if (of.rows, of.digest) == (rows, digest) {
        return Ok(());
    }
    let name = of.table.name;
    Err(Error::new(
        ErrorKind::Corrupt,
        format!(
            "the copy differs from the store in what it has of {name}: {rows} records, {} there",
            of.rows
        ),
    ))
}

/// Why a store that contradicts itself is not moved, or kept.
pub(crate) fn damaged(which: &str, found: &[String]) -> Error {
    let told: Vec<&str> = found.iter().take(TOLD).map(String::as_str).collect();
    Error::new(ErrorKind::Corrupt, format!("{which} contradicts itself: {}", told.join("; ")))
}

impl MoveFrom<'_> {
    fn ledger(&self) -> &dyn Ledger {
        match self {
            Self::Sqlite(store) => *store,
            Self::Postgres(store) => *store,
        }
    }

    /// Nothing runs on it.
    async fn still(&self) -> Result<()> {
        match self {
            Self::Sqlite(store) => store.has_role(),
            Self::Postgres(store) => store.still().await,
        }
    }

    /// It does not contradict itself.
    async fn sound(&self) -> Result<()> {
        let mut found = self.ledger().strays(TOLD).await?;
        let mut mark = Some(InspectionMark::default());
        while let Some(at) = mark {
            let batch = self.ledger().inspect(at, INSPECTED).await?;
            found.extend(batch.found);
            mark = batch.next;
        }
        if found.is_empty() { Ok(()) } else { Err(damaged("the store", &found)) }
    }

    async fn counters(&self) -> Result<Counters> {
        match self {
            Self::Sqlite(store) => store.counters().await,
            Self::Postgres(store) => store.counters().await,
        }
    }

    async fn count(&self, table: &'static Table) -> Result<u64> {
        match self {
            Self::Sqlite(store) => store.count(table).await,
            Self::Postgres(store) => store.count(table).await,
        }
    }

    async fn page(&self, table: &'static Table, after: Option<Record>) -> Result<Vec<Record>> {
        match self {
            Self::Sqlite(store) => store.records(table, after).await,
            Self::Postgres(store) => store.records(table, after).await,
        }
    }
}
