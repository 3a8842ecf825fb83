//! The tables, by numbered steps. A step is one transaction: a kill inside it leaves the step
//! before. A file that a newer program wrote is refused, a file that is no store too; neither is
//! ever replaced by a fresh one.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::Role;
use crate::error::{Error, ErrorKind, Result};

/// `imba` in ASCII: says that an SQLite file is a store of imbabot.
const APPLICATION_ID: i64 = 0x696d_6261;

/// Each step brings the schema from its place in this list to the next number. Never edited once
/// released; see `migrations/NOTES.md`.
const STEPS: &[&str] = &[
    include_str!("../../migrations/0001_foundation.sql"),
    include_str!("../../migrations/0002_explanations.sql"),
    include_str!("../../migrations/0003_capabilities.sql"),
    include_str!("../../migrations/0004_message_numbers.sql"),
    include_str!("../../migrations/0005_sign_of_life.sql"),
    include_str!("../../migrations/0006_provenance.sql"),
];

/// Refuses a file that is no store of imbabot, before anything in it is changed.
pub(super) fn recognise(connection: &Connection, path: &Path) -> Result<()> {
    let application = pragma(connection, "application_id")?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let what = match (tables, application) {
        (1.., APPLICATION_ID) => return Ok(()),
        (0, _) => "is empty: the store is lost, or never was one; restore a backup or remove it",
        _ => "is an SQLite database, but not a store of imbabot",
    };
    Err(Error::new(ErrorKind::Corrupt, format!("{} {what}", path.display())))
}

/// Brings the tables to the newest step.
pub(super) fn migrate(connection: &mut Connection, path: &Path, role: Role) -> Result<()> {
    let version = pragma(connection, "user_version")?;
    let newest = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    if version > newest {
        return Err(Error::new(
            ErrorKind::Newer,
            format!(
                "the store {} has schema {version}, this imbabot knows up to {newest}: run the newer imbabot",
                path.display()
            ),
        ));
    }
    if version < newest && role == Role::Visitor {
        return Err(Error::new(
            ErrorKind::Unusable,
            format!(
                "the store {} has schema {version}, this imbabot needs {newest}: `imbabot run` upgrades it",
                path.display()
            ),
        ));
    }
    let start = usize::try_from(version).unwrap_or(0);
    for (place, step) in STEPS.iter().enumerate().skip(start) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(step)?;
        transaction.execute_batch(&format!(
            "PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {};",
            place + 1
        ))?;
        transaction.commit()?;
    }
    Ok(())
}

fn pragma(connection: &Connection, name: &str) -> Result<i64> {
    Ok(connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))?)
}
