//! One transaction as the verbs see it: statements with typed parameters, and rows. Every statement is
//! unnamed and sent whole, so that a pooler which hands each transaction to another connection is no
//! hindrance. Begins and commits nothing.

use std::cell::Cell;

use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use super::link::Taken;
use crate::error::{Error, ErrorKind, Result};

/// A value beside its type, which is said and not asked for: that saves a round trip.
pub(super) type Param<'a> = (&'a (dyn ToSql + Sync), Type);

/// What can be a parameter.
pub(super) trait Bind: ToSql + Sync {
    /// Its type in the database.
    const TYPE: Type;
}

macro_rules! bind {
    ($($of:ty => $type:ident),+ $(,)?) => {$(
        impl Bind for $of { const TYPE: Type = Type::$type; }
    )+};
}

bind! {
    bool => BOOL,
    i64 => INT8,
    &str => TEXT,
    String => TEXT,
    &[u8] => BYTEA,
    Vec<u8> => BYTEA,
    Vec<bool> => BOOL_ARRAY,
    Vec<Option<bool>> => BOOL_ARRAY,
    Vec<i64> => INT8_ARRAY,
    &[i64] => INT8_ARRAY,
    Vec<Option<i64>> => INT8_ARRAY,
    Vec<String> => TEXT_ARRAY,
    Vec<&str> => TEXT_ARRAY,
    &[&str] => TEXT_ARRAY,
    &[String] => TEXT_ARRAY,
    Vec<Option<String>> => TEXT_ARRAY,
    Vec<Option<&str>> => TEXT_ARRAY,
    Vec<Vec<u8>> => BYTEA_ARRAY,
    Vec<Option<Vec<u8>>> => BYTEA_ARRAY,
    Vec<&[u8]> => BYTEA_ARRAY,
}

impl<T: Bind> Bind for Option<T> {
    const TYPE: Type = T::TYPE;
}

pub(super) fn param<T: Bind>(value: &T) -> Param<'_> {
    (value, T::TYPE)
}

/// The parameters of a statement: `params![now.as_micros(), name]`. Instants are micros, numbers are
/// `i64`, names are `&str`.
macro_rules! params {
    ($($value:expr),* $(,)?) => { &[$($crate::postgres::tx::param(&$value)),*] };
}
pub(super) use params;

/// What went wrong in the database first, for whoever decides whether the transaction is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Another transaction was in the way: this one was rolled back, and may be run again.
    Collision,
    /// The connection is gone.
    Cut,
    /// Anything else.
    Other,
}

/// One transaction.
pub(super) struct Tx<'c> {
    client: &'c Client,
    trouble: Cell<Option<Trouble>>,
    taken: &'c Taken,
    session: Option<i64>,
}

impl<'c> Tx<'c> {
    pub(super) fn new(client: &'c Client, session: Option<i64>, taken: &'c Taken) -> Self {
        Self { client, trouble: Cell::new(None), taken, session }
    }

    /// The run that this process has begun on the store; none in a verb beside it.
    pub(super) fn session(&self) -> Option<i64> {
        self.session
    }

    /// What went wrong, even if the verb did not mind.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        self.trouble.get()
    }

    /// Runs the statement that appends so many lines to the ledger.
    pub(super) async fn append(&self, lines: usize, sql: &str, params: &[Param<'_>]) -> Result<()> {
        self.taken.appending(lines, self.execute(sql, params)).await
    }

    /// All rows of a statement.
    pub(super) async fn rows(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>> {
        self.client.query_typed(sql, params).await.map_err(|error| self.failed(&error))
    }

    /// The first row, if there is one.
    pub(super) async fn maybe(&self, sql: &str, params: &[Param<'_>]) -> Result<Option<Row>> {
        Ok(self.rows(sql, params).await?.into_iter().next())
    }

    /// The first row of a statement that always has one.
    pub(super) async fn row(&self, sql: &str, params: &[Param<'_>]) -> Result<Row> {
        self.maybe(sql, params)
            .await?
            .ok_or_else(|| Error::new(ErrorKind::Undecodable, "the database left out a row"))
    }

    /// Runs a statement; how many rows it changed.
    pub(super) async fn execute(&self, sql: &str, params: &[Param<'_>]) -> Result<u64> {
        self.client.execute_typed(sql, params).await.map_err(|error| self.failed(&error))
    }

    /// Runs statements without parameters.
    pub(super) async fn batch(&self, sql: &str) -> Result<()> {
        self.client.batch_execute(sql).await.map_err(|error| self.failed(&error))
    }

    /// Another transaction came between a look and a write: this one is rolled back and run again.
    pub(super) fn collided(&self) -> Error {
        self.trouble.set(Some(Trouble::Collision));
        Error::new(ErrorKind::Retryable, "others changed the same records at the same time")
    }

    fn failed(&self, error: &tokio_postgres::Error) -> Error {
        // What follows the first trouble in a void transaction is only told that it is void.
        if self.trouble.get().is_none() {
            self.trouble.set(Some(trouble(error)));
        }
        told(error)
    }
}

pub(super) fn trouble(error: &tokio_postgres::Error) -> Trouble {
    match error.code() {
        Some(code) if *code == SqlState::T_R_SERIALIZATION_FAILURE => Trouble::Collision,
        Some(code) if *code == SqlState::T_R_DEADLOCK_DETECTED => Trouble::Collision,
        Some(code) if *code == SqlState::LOCK_NOT_AVAILABLE => Trouble::Collision,
        // Two made the same thing at once: who comes second sees it when it looks again.
        Some(code) if *code == SqlState::UNIQUE_VIOLATION => Trouble::Collision,
        Some(code) if cuts(code) => Trouble::Cut,
        Some(_) => Trouble::Other,
        None if error.is_closed() => Trouble::Cut,
        None => match std::error::Error::source(error) {
            Some(source) if source.is::<std::io::Error>() => Trouble::Cut,
            _ => Trouble::Other,
        },
    }
}

/// The server ends the connection with these, or does not let one begin, or may not be written to: then
/// another one may be behind the address by now.
fn cuts(code: &SqlState) -> bool {
    [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
        SqlState::CONNECTION_FAILURE,
        SqlState::CONNECTION_EXCEPTION,
        SqlState::CONNECTION_DOES_NOT_EXIST,
        SqlState::TOO_MANY_CONNECTIONS,
        SqlState::READ_ONLY_SQL_TRANSACTION,
    ]
    .contains(code)
}

/// The error in our words. Only the server's own message is kept: its detail can hold values.
pub(super) fn told(error: &tokio_postgres::Error) -> Error {
    let Some(db) = error.as_db_error() else {
        // The driver's text can name a host, never a password; a parameter that cannot be sent is
        // told without its value.
        let kind = match trouble(error) {
            Trouble::Cut => ErrorKind::Retryable,
            _ if error.to_string().contains("deserializing") => ErrorKind::Undecodable,
            _ => ErrorKind::Retryable,
        };
        return Error::new(kind, format!("the database did not answer: {}", cause(error)));
    };
    let code = db.code();
    let class = code.code().get(..2).unwrap_or_default();
    let kind = match class {
        // Collisions, what is in use, an operator's intervention, lost connections, resources.
        "40" | "55" | "57" | "08" => ErrorKind::Retryable,
        "53" if *code == SqlState::DISK_FULL => ErrorKind::Full,
        "53" => ErrorKind::Retryable,
        // A standby, or a transaction that may only read: after a failover it is another server.
        "25" => ErrorKind::Retryable,
        "28" | "3D" | "42" | "0A" => ErrorKind::Unusable,
        "58" | "XX" => ErrorKind::Io,
        "22" => ErrorKind::Undecodable,
        _ => ErrorKind::Io,
    };
    let message: String = db.message().chars().take(200).collect();
    Error::new(kind, format!("the database refused ({}): {message}", code.code()))
}

fn cause(error: &tokio_postgres::Error) -> String {
    let mut last: &dyn std::error::Error = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string().chars().take(200).collect()
}
