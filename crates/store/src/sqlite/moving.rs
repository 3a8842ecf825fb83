//! A file that is moved to another kind of database, or comes from one: its records in the form of
//! [`crate::migrate`], page by page, and a draft that gets its name once it is whole and compared.

use std::path::{Path, PathBuf};

use imbabot_core::Timestamp;
use rusqlite::types::{ToSqlOutput, Value as Plain};
use rusqlite::{Connection, Row, ToSql, params, params_from_iter};

use super::role::{self, RoleLock};
use super::witness::Witness;
use super::{Role, SqliteStore, check, inspection, link, provenance, schedules, schema};
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::InspectionMark;
use crate::migrate::{Counters, Digest, Kind, Moved, Record, Table, Value, compare, damaged};
use crate::postgres::{Packed, pack_rooms};

/// Records of one batch of an inspection.
const INSPECTED: usize = 500;

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self {
            Self::Null => Ok(ToSqlOutput::Owned(Plain::Null)),
            Self::Int(number) => number.to_sql(),
            Self::Bool(bool) => bool.to_sql(),
            Self::Text(text) => text.to_sql(),
            Self::Bytes(bytes) => bytes.to_sql(),
        }
    }
}

impl SqliteStore {
    /// Nobody else can run on it as long as this value is there.
    pub(crate) fn has_role(&self) -> Result<()> {
        if self._role.is_some() || self.path.is_none() {
            return Ok(());
        }
        let message = "a store is moved by whoever has the daemon's role on it";
        Err(Error::new(ErrorKind::Unusable, message))
    }

    pub(crate) async fn records(
        &self,
        table: &'static Table,
        after: Option<Record>,
    ) -> Result<Vec<Record>> {
        self.link.read(move |tx| page(tx, table, after.as_ref())).await
    }

    pub(crate) async fn count(&self, table: &'static Table) -> Result<u64> {
        self.link
            .read(move |tx| {
                let sql = format!("SELECT count(*) FROM {}", table.name);
                Ok(tx.query_row(&sql, [], |row| row.get::<_, i64>(0))?.cast_unsigned())
            })
            .await
    }

    pub(crate) async fn counters(&self) -> Result<Counters> {
        self.link
            .read(|tx| {
                let last = |table| provenance::last_of(tx, table);
                let ledger = last("ledger")?;
                Ok(Counters {
                    incarnation: last("incarnation")?,
                    ledger,
                    event: last("event")?,
                    delivery: last("delivery")?,
                    care: last("care")?,
                    // A version is the number of a line.
                    memory: ledger,
                })
            })
            .await
    }

    /// From here on it is a copy of what goes on elsewhere, and refuses to be run on.
    pub(crate) async fn moved_away(&self, now: Timestamp) -> Result<()> {
        self.link
            .write(move |tx| {
                tx.execute(
                    "UPDATE provenance SET copied_at = ?1, line = ?2",
                    params![now.as_micros(), provenance::MOVED],
                )?;
                Ok(())
            })
            .await
    }
}

/// A table as it is read: columns that are kept otherwise here, made out.
fn source(table: &Table) -> &'static str {
    match table.name {
        // Whatever runs is run by the one run that there is.
        "inbox" => {
            "(SELECT *, CASE WHEN state = 'running' THEN (SELECT max(id) FROM incarnation) END
                  AS owner FROM inbox)"
        }
        "sign_of_life" => {
            "(SELECT *, (SELECT coalesce(max(id), 0) FROM incarnation) AS incarnation,
                  at AS told_at FROM sign_of_life)"
        }
        "occurrence" => "(SELECT *, overlaps AS left_out, NULL AS target_widgets FROM occurrence)",
        _ => table.name,
    }
}

/// Under which name a column is written; none if it is made out from others.
fn destination(table: &Table, column: &'static str) -> Option<&'static str> {
    match (table.name, column) {
        ("inbox", "owner") | ("sign_of_life", "incarnation" | "told_at") => None,
        ("occurrence", "target_widgets") => None,
        ("occurrence", "left_out") => Some("overlaps"),
        _ => Some(column),
    }
}

/// A column that is only here, and what it begins with.
fn own(table: &Table) -> Option<(&'static str, &'static str)> {
    match table.name {
        "inbox" => Some(("blocked", "0")),
        "sign_of_life" => Some(("one", "1")),
        _ => None,
    }
}

fn page(tx: &Connection, table: &Table, after: Option<&Record>) -> Result<Vec<Record>> {
    let columns: Vec<&str> = table.column_names().collect();
    let key = table.key_names();
    let behind = match after {
        None => String::new(),
        Some(_) => format!("WHERE ({}) > ({})", key.join(", "), places(key.len())),
    };
    let sql = format!(
        "SELECT {} FROM {} {behind} ORDER BY {} LIMIT {}",
        columns.join(", "),
        source(table),
        key.join(", "),
        table.page
    );
    let mut statement = tx.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(after.into_iter().flatten()))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let mut record = read(table, row)?;
        if table.name == "occurrence" {
            repack(table, &mut record)?;
        }
        found.push(record);
    }
    Ok(found)
}

fn places(count: usize) -> String {
    vec!["?"; count].join(", ")
}

fn read(table: &Table, row: &Row<'_>) -> Result<Record> {
    let value = |(place, (_, kind)): (usize, &(&str, Kind))| -> rusqlite::Result<Value> {
        let value = match kind {
            Kind::Int => row.get::<_, Option<_>>(place)?.map(Value::Int),
            Kind::Bool => row.get::<_, Option<_>>(place)?.map(Value::Bool),
            Kind::Text => row.get::<_, Option<_>>(place)?.map(Value::Text),
            Kind::Bytes => row.get::<_, Option<_>>(place)?.map(Value::Bytes),
        };
        Ok(value.unwrap_or(Value::Null))
    };
    Ok(table.columns.iter().enumerate().map(value).collect::<rusqlite::Result<_>>()?)
}

/// Where an occurrence has its rooms, and their widgets.
fn rooms_of(table: &Table) -> Option<(usize, usize)> {
    let place = |name| table.column_names().position(|column| column == name);
    Some((place("targets")?, place("target_widgets")?))
}

/// The rooms of an occurrence, from how they are packed here to how they are elsewhere.
fn repack(table: &Table, record: &mut Record) -> Result<()> {
    let Some((rooms, widgets)) = rooms_of(table) else { return Ok(()) };
    if let Some(Value::Bytes(packed)) = record.get(rooms) {
        let Packed { rooms: bytes, widgets: names } = pack_rooms(&schedules::unpack_all(packed)?)?;
        if let Some(value) = record.get_mut(rooms) {
            *value = Value::Bytes(bytes);
        }
        if let Some(value) = record.get_mut(widgets) {
            *value = Value::Text(names);
        }
    }
    Ok(())
}

/// The same back.
fn pack_again(table: &Table, record: &Record) -> Result<Record> {
    let mut record = record.clone();
    let Some((rooms, widgets)) = rooms_of(table) else { return Ok(record) };
    if let (Some(Value::Bytes(bytes)), Some(Value::Text(names))) =
        (record.get(rooms), record.get(widgets))
    {
        let packed = schedules::pack(&Packed::unpack(names, 0, bytes)?);
        if let Some(value) = record.get_mut(rooms) {
            *value = Value::Bytes(packed);
        }
    }
    Ok(record)
}

/// A store that comes into being: it has no name yet.
pub(crate) struct Draft {
    connection: Connection,
    draft: PathBuf,
    path: PathBuf,
    published: bool,
    _role: RoleLock,
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.published {
            // Whatever is left of it is removed by the next who makes a store here.
            let _ = std::fs::remove_file(&self.draft);
        }
    }
}

impl Draft {
    /// Empty tables, beside the place of the store.
    pub(crate) fn begin(path: &Path) -> Result<Self> {
        let role = RoleLock::take(path, Role::Brief)?;
        if path.symlink_metadata().is_ok() {
            let path = path.display();
            let message = format!("{path} is there already: a store is moved into an empty place");
            return Err(Error::new(ErrorKind::Occupied, message));
        }
        // Not beneath the log of another one either.
        role::find_file(path, Role::Brief)?;
        let draft = role::draft(path)?;
        let mut connection = link::open(&draft)?;
        // Nobody waits for its steps one by one: it is on disk before it gets its name.
        connection.execute_batch("PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY")?;
        schema::migrate(&mut connection, path, Role::Daemon)?;
        connection.execute_batch("PRAGMA foreign_keys = ON; BEGIN")?;
        Ok(Self { connection, draft, path: path.to_owned(), published: false, _role: role })
    }

    /// Writes records of a table.
    pub(crate) fn put(&mut self, table: &'static Table, records: &[Record]) -> Result<()> {
        let written: Vec<(usize, &str)> = table
            .column_names()
            .enumerate()
            .filter_map(|(place, column)| Some((place, destination(table, column)?)))
            .collect();
        let mut columns: Vec<&str> = written.iter().map(|(_, column)| *column).collect();
        let mut values = places(columns.len());
        if let Some((column, value)) = own(table) {
            columns.push(column);
            values = format!("{values}, {value}");
        }
        let sql = format!("INSERT INTO {} ({}) VALUES ({values})", table.name, columns.join(", "));
        if table.derived {
            self.connection.execute(&format!("DELETE FROM {}", table.name), [])?;
        }
        let mut statement = self.connection.prepare_cached(&sql)?;
        for record in records {
            let record = pack_again(table, record)?;
            let values = written.iter().filter_map(|(place, _)| record.get(*place));
            statement.execute(params_from_iter(values))?;
        }
        Ok(())
    }

    /// What follows from the records; then all is compared and looked at.
    pub(crate) fn end(&mut self, moved: &[Moved], counters: &Counters) -> Result<()> {
        let tx = &self.connection;
        tx.execute_batch(BLOCK)?;
        let last = [
            ("incarnation", counters.incarnation),
            // A version of a bot's memory is the number of a line.
            ("ledger", counters.ledger.max(counters.memory)),
            ("event", counters.event),
            ("delivery", counters.delivery),
            ("care", counters.care),
        ];
        for (name, last) in last {
            let known = provenance::last_of(tx, name)?;
            tx.execute("DELETE FROM sqlite_sequence WHERE name = ?1", [name])?;
            let last = last.max(known);
            tx.execute(
                "INSERT INTO sqlite_sequence (name, seq) VALUES (?1, ?2)",
                params![name, last],
            )?;
        }
        for of in moved {
            let (mut rows, mut digest, mut after) = (0, Digest::default(), None);
            loop {
                let page = page(tx, of.table, after.as_ref())?;
                let Some(last) = page.last() else { break };
                after = Some(of.table.key_of(last));
                page.iter().for_each(|record| digest.add(of.table, record));
                rows += page.len() as u64;
            }
            compare(of, rows, digest)?;
        }
        let (mut found, mut mark) = (Vec::new(), Some(InspectionMark::default()));
        while let Some(at) = mark {
            let batch = inspection::inspect(tx, &at, INSPECTED)?;
            found.extend(batch.found);
            mark = batch.next;
        }
        if found.is_empty() { Ok(()) } else { Err(damaged("the copy", &found)) }
    }

    /// Gives it its name, once it is on disk.
    pub(crate) fn publish(mut self) -> Result<()> {
        self.connection.execute_batch("COMMIT")?;
        if let Some(found) = check(&self.connection, "quick_check")? {
            return Err(Error::new(ErrorKind::Corrupt, format!("the copy is damaged: {found}")));
        }
        let reached = provenance::reached(&self.connection)?;
        // What is remembered of an earlier store in this place says nothing about this one.
        Witness::of(&self.path).write(&reached)?;
        role::publish(&self.draft, &self.path)?;
        self.published = true;
        Ok(())
    }
}

/// Of the entries of one bot in one lane only the first may be claimed, or the one that runs.
const BLOCK: &str = "
    UPDATE inbox AS i SET blocked = 1
    WHERE state = 'waiting' AND EXISTS (SELECT 1 FROM inbox o
        WHERE o.bot = i.bot AND o.widget = i.widget AND o.lane = i.lane
          AND (o.state = 'running' OR o.state = 'waiting' AND o.event < i.event));";
