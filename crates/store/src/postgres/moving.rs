//! A store that is moved to another kind of database, or comes from one: its records in the form of
//! [`crate::migrate`], page by page, and the one transaction in which all of them come in.

use std::sync::{Mutex, PoisonError};

use imbabot_core::Timestamp;
use tokio::sync::mpsc;
use tokio_postgres::Row;

use super::row::{get, held, instant, told};
use super::tx::{Param, Tx, param, params};
use super::{PostgresStore, fleet, inspection};
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::InspectionMark;
use crate::migrate::{
    Counters, Digest, Kind, Moved, Parcel, Record, TABLES, Table, Value, compare, damaged,
};

/// Records of one batch of an inspection.
const INSPECTED: usize = 500;

impl PostgresStore {
    /// Refuses a store that was moved before, or on which an instance runs: one whose lease has run out
    /// was killed, and does not.
    pub(crate) async fn still(&self) -> Result<()> {
        self.link.read(nobody_runs).await
    }

    /// No run begins on it any more.
    pub(crate) async fn moved_away(&self, now: Timestamp) -> Result<()> {
        self.link
            .write(async move |tx| {
                // Whoever is about to begin a run is waited for, and seen.
                tx.batch("LOCK TABLE moved_away IN EXCLUSIVE MODE").await?;
                nobody_runs(tx).await?;
                let sql = "INSERT INTO moved_away VALUES (TRUE, $1)";
                tx.execute(sql, params![now.as_micros()]).await.map(drop)
            })
            .await
    }

    pub(crate) async fn records(
        &self,
        table: &'static Table,
        after: Option<Record>,
    ) -> Result<Vec<Record>> {
        self.link.read(async move |tx| page(tx, table, after.as_ref()).await).await
    }

    pub(crate) async fn count(&self, table: &'static Table) -> Result<u64> {
        self.link
            .read(async move |tx| {
                let sql = format!("SELECT count(*) FROM {} AS t", source(table));
                Ok(get::<i64>(&tx.row(&sql, params![]).await?, 0)?.cast_unsigned())
            })
            .await
    }

    pub(crate) async fn counters(&self) -> Result<Counters> {
        self.link
            .read(async |tx| {
                let mut last = [0; 6];
                for (last, sequence) in last.iter_mut().zip(SEQUENCES) {
                    let sql = format!("SELECT coalesce(pg_sequence_last_value({sequence}), 0)");
                    *last = get(&tx.row(&sql, params![]).await?, 0)?;
                }
                let [incarnation, ledger, event, delivery, care, memory] = last;
                Ok(Counters { incarnation, ledger, event, delivery, care, memory })
            })
            .await
    }

    /// Takes a whole store in, in one transaction: refused if there is anything already, and given up
    /// if the copy does not hold.
    pub(crate) async fn take_in(&self, parcels: mpsc::Receiver<Parcel>) -> Result<()> {
        let parcels = Mutex::new(Some(parcels));
        self.link
            .whole(async move |tx| {
                let taken = parcels.lock().unwrap_or_else(PoisonError::into_inner).take();
                let Some(mut parcels) = taken else {
                    let message = "the database was lost while the store was filled: begin again";
                    return Err(Error::new(ErrorKind::Retryable, message));
                };
                empty(tx).await?;
                while let Some(parcel) = parcels.recv().await {
                    match parcel {
                        Parcel::Records(table, records) => put(tx, table, &records).await?,
                        Parcel::End(moved, counters) => return end(tx, &moved, counters).await,
                    }
                }
                // Whoever sent them knows why.
                Err(Error::new(ErrorKind::Closed, "the store was not filled to its end"))
            })
            .await
    }
}

/// Refuses a store that was moved into a file.
pub(super) async fn still_here(tx: &Tx<'_>) -> Result<()> {
    let Some(row) = tx.maybe("SELECT at FROM moved_away", params![]).await? else { return Ok(()) };
    let at = instant(&row, 0)?.compact();
    let message = format!(
        "the store was moved into a file at {at}: run on that one, what was sent since is not in this one"
    );
    Err(Error::new(ErrorKind::Moved, message))
}

/// The same for whoever begins a run, which is seen by whoever moves the store from here on.
pub(super) async fn stays_here(tx: &Tx<'_>) -> Result<()> {
    tx.batch("LOCK TABLE moved_away IN SHARE MODE").await?;
    still_here(tx).await
}

async fn nobody_runs(tx: &Tx<'_>) -> Result<()> {
    still_here(tx).await?;
    let clock = fleet::clock(tx).await?;
    let row = tx
        .maybe(
            "SELECT l.name FROM incarnation i JOIN lease l ON l.incarnation = i.id
             WHERE i.ended_at IS NULL AND l.until >= $1 ORDER BY i.id LIMIT 1",
            params![clock.as_micros()],
        )
        .await?;
    let Some(row) = row else { return Ok(()) };
    let name: String = get(&row, 0)?;
    let message = format!(
        "the instance {name:?} runs on the store: stop it first, or wait for the end of its lease if it \
         was killed"
    );
    Err(Error::new(ErrorKind::Held { pid: None, brief: false }, message))
}

/// In the order of [`Counters`].
const SEQUENCES: [&str; 6] = [
    "pg_get_serial_sequence('incarnation', 'id')::regclass",
    "pg_get_serial_sequence('ledger', 'seq')::regclass",
    "pg_get_serial_sequence('event', 'seq')::regclass",
    "pg_get_serial_sequence('delivery', 'seq')::regclass",
    "pg_get_serial_sequence('care', 'seq')::regclass",
    "'memory_version'::regclass",
];

/// A table as it is read: what is kept in parts here, as a whole.
fn source(table: &Table) -> &'static str {
    match table.name {
        "delivery_count" => {
            "(SELECT state, reason, sum(present)::bigint AS present, sum(total)::bigint AS total
              FROM delivery_count GROUP BY state, reason)"
        }
        "doubled_count" => "(SELECT coalesce(sum(total), 0)::bigint AS total FROM doubled_count)",
        // The other kind has one run at a time, and keeps the last.
        "sign_of_life" => "(SELECT * FROM sign_of_life ORDER BY told_at DESC LIMIT 1)",
        _ => table.name,
    }
}

/// A column that is only here, and what it begins with.
fn own(table: &Table) -> Option<(&'static str, &'static str)> {
    match table.name {
        "delivery_count" | "doubled_count" => Some(("shard", "0")),
        _ => None,
    }
}

async fn page(tx: &Tx<'_>, table: &Table, after: Option<&Record>) -> Result<Vec<Record>> {
    let columns: Vec<&str> = table.column_names().collect();
    let key = table.key_names();
    // A value goes as an array of one: there are parameters of these only.
    let places: Vec<String> = (1..=key.len()).map(|place| format!("(${place})[1]")).collect();
    let behind = match after {
        None => String::new(),
        Some(_) => format!("WHERE ({}) > ({})", key.join(", "), places.join(", ")),
    };
    let sql = format!(
        "SELECT {} FROM {} AS t {behind} ORDER BY {} LIMIT {}",
        columns.join(", "),
        source(table),
        key.join(", "),
        table.page
    );
    let kinds = table.key.iter().filter_map(|place| Some(table.columns.get(*place)?.1));
    let after: Vec<Column> = after
        .into_iter()
        .flatten()
        .zip(kinds)
        .map(|(value, kind)| {
            let mut column = Column::of(kind);
            column.push(value);
            column
        })
        .collect();
    let given: Vec<Param<'_>> = after.iter().map(Column::param).collect();
    let rows = tx.rows(&sql, &given).await?;
    rows.iter().map(|row| read(table, row)).collect()
}

fn read(table: &Table, row: &Row) -> Result<Record> {
    let value = |(place, (_, kind)): (usize, &(&str, Kind))| -> Result<Value> {
        let value = match kind {
            Kind::Int => get::<Option<_>>(row, place)?.map(Value::Int),
            Kind::Bool => get::<Option<_>>(row, place)?.map(Value::Bool),
            Kind::Text => get::<Option<&str>>(row, place)?.map(told).map(Value::Text),
            Kind::Bytes => get::<Option<_>>(row, place)?.map(Value::Bytes),
        };
        Ok(value.unwrap_or(Value::Null))
    };
    table.columns.iter().enumerate().map(value).collect()
}

/// The values of one column.
enum Column {
    Ints(Vec<Option<i64>>),
    Bools(Vec<Option<bool>>),
    Texts(Vec<Option<String>>),
    Bytes(Vec<Option<Vec<u8>>>),
}

impl Column {
    fn of(kind: Kind) -> Self {
        match kind {
            Kind::Int => Self::Ints(Vec::new()),
            Kind::Bool => Self::Bools(Vec::new()),
            Kind::Text => Self::Texts(Vec::new()),
            Kind::Bytes => Self::Bytes(Vec::new()),
        }
    }

    fn push(&mut self, value: &Value) {
        match (self, value) {
            (Self::Ints(all), Value::Int(number)) => all.push(Some(*number)),
            (Self::Bools(all), Value::Bool(bool)) => all.push(Some(*bool)),
            (Self::Texts(all), Value::Text(text)) => all.push(Some(held(text).into_owned())),
            (Self::Bytes(all), Value::Bytes(bytes)) => all.push(Some(bytes.clone())),
            (Self::Ints(all), _) => all.push(None),
            (Self::Bools(all), _) => all.push(None),
            (Self::Texts(all), _) => all.push(None),
            (Self::Bytes(all), _) => all.push(None),
        }
    }

    fn param(&self) -> Param<'_> {
        match self {
            Self::Ints(all) => param(all),
            Self::Bools(all) => param(all),
            Self::Texts(all) => param(all),
            Self::Bytes(all) => param(all),
        }
    }
}

/// Refuses a store in which there is anything.
async fn empty(tx: &Tx<'_>) -> Result<()> {
    for table in TABLES {
        let sql = format!("SELECT EXISTS (SELECT 1 FROM {})", table.name);
        if get(&tx.row(&sql, params![]).await?, 0)? {
            let message = format!(
                "there is a store in the database already (it has something of {}): a store is moved \
                 into an empty place",
                table.name
            );
            return Err(Error::new(ErrorKind::Occupied, message));
        }
    }
    Ok(())
}

async fn put(tx: &Tx<'_>, table: &Table, records: &[Record]) -> Result<()> {
    if table.derived {
        tx.batch(&format!("DELETE FROM {}", table.name)).await?;
    }
    let columns: Vec<Column> = table
        .columns
        .iter()
        .enumerate()
        .map(|(place, (_, kind))| {
            let mut column = Column::of(*kind);
            for record in records {
                column.push(record.get(place).unwrap_or(&Value::Null));
            }
            column
        })
        .collect();
    let mut names: Vec<&str> = table.column_names().collect();
    let places: Vec<String> = (1..=names.len()).map(|place| format!("${place}")).collect();
    let mut values = "u.*".to_owned();
    if let Some((column, value)) = own(table) {
        names.push(column);
        values = format!("{values}, {value}");
    }
    let sql = format!(
        "INSERT INTO {} ({}) SELECT {values} FROM unnest({}) AS u",
        table.name,
        names.join(", "),
        places.join(", ")
    );
    let given: Vec<Param<'_>> = columns.iter().map(Column::param).collect();
    tx.execute(&sql, &given).await?;
    Ok(())
}

/// What follows from the records; then all is compared and looked at.
async fn end(tx: &Tx<'_>, moved: &[Moved], counters: Counters) -> Result<()> {
    // Runs that were killed have no lease any more: the first that begins here ends them, and what
    // they were sending becomes unknown.
    tx.batch(
        "INSERT INTO lease (incarnation, name, heartbeat_at, until)
         SELECT id, 'moved', started_at, 0 FROM incarnation WHERE ended_at IS NULL",
    )
    .await?;
    let last = [
        counters.incarnation,
        counters.ledger,
        counters.event,
        counters.delivery,
        counters.care,
        counters.memory,
    ];
    for (sequence, last) in SEQUENCES.iter().zip(last) {
        if last > 0 {
            let sql = format!("SELECT setval({sequence}, $1)");
            tx.row(&sql, params![last]).await?;
        }
    }
    for of in moved {
        let (mut rows, mut digest, mut after) = (0, Digest::default(), None);
        loop {
            let page = page(tx, of.table, after.as_ref()).await?;
            let Some(last) = page.last() else { break };
            after = Some(of.table.key_of(last));
            page.iter().for_each(|record| digest.add(of.table, record));
            rows += page.len() as u64;
        }
        compare(of, rows, digest)?;
    }
    // Without it, each look at what is new here is a walk over all there is.
    let tables: Vec<&str> = TABLES.iter().map(|table| table.name).collect();
    tx.batch(&format!("ANALYZE {}", tables.join(", "))).await?;
    let (mut found, mut mark) = (Vec::new(), Some(InspectionMark::default()));
    while let Some(at) = mark {
        let batch = inspection::inspect(tx, &at, INSPECTED).await?;
        found.extend(batch.found);
        mark = batch.next;
    }
    if found.is_empty() { Ok(()) } else { Err(damaged("the copy", &found)) }
}
