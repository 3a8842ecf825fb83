//! What the server is like, looked at before anything is trusted to it: its version, whether it keeps
//! what it confirms and clears away what is over, whether something in between hands out connections.
//! Changes nothing.

use super::link::Link;
use super::row::get;
use super::tx::params;
use crate::error::{Error, ErrorKind, Result};

/// The oldest version with all that is needed.
const OLDEST: i64 = 130_000;

/// What was noticed about a database server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFacts {
    /// Its version, as it says it.
    pub version: String,
    /// Transactions came to different connections: a pooler in transaction mode is in between.
    pub pooled: bool,
    /// It keeps what it confirms, also over a power cut.
    pub durable: bool,
    /// It clears dead rows away by itself (autovacuum). Where it does not, tables that are always changed
    /// grow without end, and every verb with them.
    pub clears_away: bool,
}

/// Looks, and refuses a server that does not do.
pub(super) async fn look(link: &Link, accepts_unsafe: bool) -> Result<ServerFacts> {
    let look = async |tx: &super::tx::Tx<'_>| {
        let row = tx
            .row(
                "SELECT current_setting('server_version_num')::bigint,
                        current_setting('server_version'),
                        current_setting('fsync'), current_setting('synchronous_commit'),
                        pg_is_in_recovery(), pg_backend_pid()::bigint,
                        current_setting('server_encoding'),
                        current_setting('autovacuum')::bool
                            AND current_setting('track_counts')::bool",
                params![],
            )
            .await?;
        let (number, version): (i64, String) = (get(&row, 0)?, get(&row, 1)?);
        if number < OLDEST {
            return Err(refused(format!("PostgreSQL {version} is too old: 13 or newer is needed")));
        }
        if get::<bool>(&row, 4)? {
            return Err(Error::new(
                ErrorKind::Retryable,
                "the database is a standby: the address has to lead to the primary",
            ));
        }
        let encoding: &str = get(&row, 6)?;
        if encoding != "UTF8" {
            return Err(refused(format!(
                "the database keeps texts as {encoding}, which cannot hold every character: one made \
                 with ENCODING 'UTF8' is needed"
            )));
        }
        let mut off = Vec::new();
        for (column, name) in [(2, "fsync"), (3, "synchronous_commit")] {
            if get::<&str>(&row, column)? == "off" {
                off.push(name);
            }
        }
        Ok((version, off, get::<i64>(&row, 5)?, get::<bool>(&row, 7)?))
    };
    let (version, off, first, clears_away) = link.bare(look).await?;
    if let (Some(setting), false) = (off.first(), accepts_unsafe) {
        return Err(refused(format!(
            "the database has {setting} = off: after a power cut it has forgotten what it confirmed, \
             and messages would be posted twice"
        )));
    }
    let mut pooled = false;
    for _ in 0..3 {
        let (_, _, pid, _) = link.bare(look).await?;
        pooled |= pid != first;
    }
    Ok(ServerFacts { version, pooled, durable: off.is_empty(), clears_away })
}

fn refused(message: String) -> Error {
    Error::new(ErrorKind::Unusable, message)
}
