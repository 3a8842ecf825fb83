//! The store on SQLite: a file for the daemon, `:memory:` for tests, the same SQL in both. One
//! thread owns the connection that writes and commits in groups; others only read. No request to
//! ImbaChat is ever made from here.

mod backup;
mod capabilities;
mod explanations;
mod hindsight;
mod inbox;
mod inspection;
mod journal;
mod lane;
mod ledger;
mod lifecycle;
mod link;
mod moving;
mod operations;
mod outbox;
#[cfg(test)]
mod plans;
mod provenance;
mod reanchor;
mod retention;
mod role;
mod schedules;
mod schema;
mod snapshots;
mod stir;
mod witness;

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::error::{Error, ErrorKind, Result};
pub use backup::{Copied, StoreInfo};
use link::{Link, configure};
pub(crate) use moving::Draft;
pub use reanchor::Reanchored;
pub use role::Holder;
use role::RoleLock;
use stir::Stir;
use witness::Witness;

/// Whether texts stay in the store after their delivery has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Bodies {
    /// They stay, as long as the record does.
    #[default]
    Full,
    /// Only their hash stays.
    Hash,
}

/// In which role a process opens a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The one that polls, dispatches and delivers: one process at a time.
    Daemon,
    /// The same for a moment: a verb that sends one row where no daemon runs.
    Brief,
    /// A verb beside it: reads, and adds or changes rows.
    Visitor,
}

/// A store in an SQLite database.
pub struct SqliteStore {
    link: Link,
    bodies: Bodies,
    path: Option<PathBuf>,
    /// How far the store ever came; of whoever has the daemon's role.
    witness: Option<Witness>,
    // Held for its lock; released when the store is dropped or the process dies.
    _role: Option<RoleLock>,
}

impl SqliteStore {
    /// Opens the database at `path`; the daemon's role creates it where it is missing.
    ///
    /// Files are made with mode 0600 whatever the umask; a file of another user is refused.
    ///
    /// # Errors
    /// `Held` if another process has the daemon's role, `Corrupt` if the file is damaged or no
    /// store, `Newer` if a newer program wrote it, `Unusable` if it cannot be opened as asked, and for the
    /// daemon's role `Restored` if it is a copy that was not yet taken into use and `Moved` if it was moved
    /// away.
    pub fn open(path: &Path, role: Role, bodies: Bodies) -> Result<Self> {
        Self::open_as(path, role, bodies, false)
    }

    fn open_as(path: &Path, role: Role, bodies: Bodies, copies: bool) -> Result<Self> {
        let lock = match role {
            Role::Daemon | Role::Brief => Some(RoleLock::take(path, role)?),
            Role::Visitor => None,
        };
        if !role::find_file(path, role)? {
            make(path)?;
        }
        let mut connection = link::open(path)?;
        schema::recognise(&connection, path)?;
        configure(&connection)?;
        if role != Role::Visitor {
            check(&connection, "quick_check")?.map_or(Ok(()), |found| {
                Err(Error::new(
                    ErrorKind::Corrupt,
                    format!("the store {} is damaged: {found}", path.display()),
                ))
            })?;
        }
        schema::migrate(&mut connection, path, role)?;
        let witness = (role != Role::Visitor).then(|| Witness::of(path));
        if let (Some(witness), false) = (&witness, copies) {
            provenance::recognise(&connection, path, witness)?;
        }
        // Only a daemon stays long enough to be told of anything.
        let stir = if role == Role::Daemon { Stir::of(path) } else { Stir::nowhere() };
        let link = Link::threads(connection, path, stir)?;
        Ok(Self { link, bodies, path: Some(path.to_owned()), witness, _role: lock })
    }

    /// The store came so far, and never falls behind that again.
    fn witness(&self, reached: &provenance::Reached) -> Result<()> {
        self.witness.as_ref().map_or(Ok(()), |witness| witness.write(reached))
    }

    /// The process in the daemon's role, if there is one; 0 if its number cannot be read.
    #[must_use]
    pub fn holder(path: &Path) -> Option<u32> {
        role::holder(path).map(|holder| holder.pid)
    }

    /// The daemon that runs on the store, if one does. A verb that has the role for a moment is none.
    #[must_use]
    pub fn daemon(path: &Path) -> Option<Holder> {
        role::holder(path).filter(|holder| !holder.brief)
    }

    /// An empty store that lives as long as this value.
    ///
    /// # Errors
    /// SQLite cannot make one.
    pub fn in_memory(bodies: Bodies) -> Result<Self> {
        let mut connection = Connection::open_in_memory()?;
        configure(&connection)?;
        schema::migrate(&mut connection, Path::new(":memory:"), Role::Daemon)?;
        Ok(Self { link: Link::inline(connection), bodies, path: None, witness: None, _role: None })
    }

    /// The version of the bundled SQLite.
    #[must_use]
    pub fn sqlite_version() -> &'static str {
        rusqlite::version()
    }
}

// A file is for one instance: its role is a lock.
impl crate::fleet::Fleet for SqliteStore {}

/// Makes a store. It gets its name when it is whole and on disk, so that a file of that name without
/// anything in it is never taken for a store that is still to be made. Nobody waits for its steps one by
/// one: a draft that a power cut leaves is made anew.
fn make(path: &Path) -> Result<()> {
    let draft = role::draft(path)?;
    let mut connection = link::open(&draft)?;
    connection.execute_batch("PRAGMA synchronous = OFF")?;
    schema::migrate(&mut connection, path, Role::Daemon)?;
    drop(connection);
    role::publish(&draft, path)
}

/// Tables without anything in them.
#[cfg(test)]
pub(crate) fn fresh_tables() -> Result<Connection> {
    let mut connection = Connection::open_in_memory()?;
    schema::migrate(&mut connection, Path::new(":memory:"), Role::Daemon)?;
    Ok(connection)
}

/// Runs `quick_check` or `integrity_check`; what it found, if anything.
fn check(connection: &Connection, pragma: &str) -> Result<Option<String>> {
    let found: String =
        connection.query_row(&format!("PRAGMA {pragma}(1)"), [], |row| row.get(0))?;
    Ok((found != "ok").then_some(found))
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode as Code;
        let kind = match &error {
            rusqlite::Error::SqliteFailure(cause, _) => match cause.code {
                Code::DatabaseBusy | Code::DatabaseLocked => ErrorKind::Retryable,
                Code::DiskFull => ErrorKind::Full,
                Code::DatabaseCorrupt | Code::NotADatabase => ErrorKind::Corrupt,
                Code::CannotOpen | Code::ReadOnly | Code::PermissionDenied => ErrorKind::Unusable,
                _ => ErrorKind::Io,
            },
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::Utf8Error(..) => ErrorKind::Undecodable,
            _ => ErrorKind::Io,
        };
        // Only SQLite's own words: the driver's text can hold values of the statement.
        let message = match &error {
            rusqlite::Error::SqliteFailure(cause, text) => {
                text.clone().unwrap_or_else(|| cause.to_string())
            }
            rusqlite::Error::FromSqlConversionFailure(column, _, _) => {
                format!("a record cannot be read (column {column})")
            }
            other => other.to_string().chars().take(200).collect(),
        };
        Self::new(kind, format!("the store failed: {message}"))
    }
}
