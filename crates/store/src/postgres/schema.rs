//! The tables, by numbered steps, each one transaction. A database that a newer program wrote is
//! refused; what is there is never replaced. Two instances that start at once make them once.

use super::row::get;
use super::tx::{Tx, params};
use crate::error::{Error, ErrorKind, Result};
use crate::sqlite::Role;

/// Each step brings the schema from its place in this list to the next number. Never edited once
/// released; see `migrations/NOTES.md`.
const STEPS: &[&str] = &[
    include_str!("../../migrations/postgres/0001_foundation.sql"),
    include_str!("../../migrations/postgres/0002_moved_away.sql"),
    include_str!("../../migrations/postgres/0003_serves.sql"),
];

/// The oldest schema that a build must know to go on with the newest of these: builds one step apart
/// run side by side while they are exchanged, if the step only added.
const COMPATIBLE_FROM: i64 = 1;

/// Whoever waits for a whole table has everybody who comes later wait behind it: a dump that takes its time
/// must not cost others their lease. Longer than the second after which the server ends a vacuum that is in
/// the way.
const PATIENCE: &str = "SET LOCAL lock_timeout = '2s'";

/// For the lock under which tables are made: nobody else's number.
const LOCK: i64 = 0x696d_6261_626f_7400;

fn newest() -> i64 {
    i64::try_from(STEPS.len()).unwrap_or(i64::MAX)
}

/// The version that is there; none where there are no tables.
async fn version(tx: &Tx<'_>) -> Result<Option<(i64, i64)>> {
    let there = tx.row("SELECT to_regclass('edition') IS NOT NULL", params![]).await?;
    if !get::<bool>(&there, 0)? {
        return Ok(None);
    }
    let row = tx.maybe("SELECT version, compatible_from FROM edition", params![]).await?;
    row.map(|row| Ok((get(&row, 0)?, get(&row, 1)?))).transpose()
}

/// Brings the tables to the newest step; in a verb that only looks on, they have to be there.
pub(super) async fn migrate(tx: &Tx<'_>, schema: &str, role: Role) -> Result<()> {
    if role == Role::Visitor {
        return match version(tx).await? {
            None => Err(Error::new(
                ErrorKind::Absent,
                "the database has no store of imbabot: `imbabot run` makes it",
            )),
            Some((version, _)) if version < newest() => Err(Error::new(
                ErrorKind::Unusable,
                format!(
                    "the store has schema {version}, this imbabot needs {}: `imbabot run` upgrades it",
                    newest()
                ),
            )),
            Some((version, _)) if version > newest() => Err(newer(version)),
            Some(_) => Ok(()),
        };
    }
    // Held until the transaction ends, wherever a pooler puts us.
    tx.row("SELECT pg_advisory_xact_lock($1) IS NULL", params![LOCK]).await?;
    tx.batch(PATIENCE).await?;
    let there = tx.maybe("SELECT 1 FROM pg_namespace WHERE nspname = $1", params![schema]).await?;
    if there.is_none() {
        tx.batch(&format!("CREATE SCHEMA \"{schema}\"")).await?;
    }
    let from = match version(tx).await? {
        Some((version, _)) if version > newest() => return Err(newer(version)),
        Some((version, _)) if version == newest() => return Ok(()),
        Some((version, _)) => version,
        None => {
            tx.batch(
                "CREATE TABLE edition (
                     one             BOOLEAN PRIMARY KEY CHECK (one),
                     version         BIGINT NOT NULL,
                     compatible_from BIGINT NOT NULL
                 )",
            )
            .await?;
            0
        }
    };
    for step in STEPS.iter().skip(usize::try_from(from).unwrap_or(usize::MAX)) {
        tx.batch(step).await?;
    }
    tx.execute(
        "INSERT INTO edition VALUES (TRUE, $1, $2)
         ON CONFLICT (one) DO UPDATE SET version = excluded.version,
             compatible_from = excluded.compatible_from",
        params![newest(), COMPATIBLE_FROM],
    )
    .await?;
    Ok(())
}

/// Whether this build may go on with what is there by now: a newer one may have upgraded it meanwhile.
pub(super) async fn still_ours(tx: &Tx<'_>) -> Result<()> {
    match version(tx).await? {
        Some((version, compatible_from)) if compatible_from > newest() => Err(newer(version)),
        _ => Ok(()),
    }
}

fn newer(version: i64) -> Error {
    Error::new(
        ErrorKind::Newer,
        format!(
            "the store has schema {version}, this imbabot knows up to {}: run the newer imbabot",
            newest()
        ),
    )
}
