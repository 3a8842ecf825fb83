//! What is paused, as a transaction that claims has to know it. Pauses nothing itself.

use super::row::get;
use super::tx::{Tx, params};
use crate::error::Result;

/// The scopes that are paused.
pub(super) struct Paused(Vec<String>);

impl Paused {
    /// Reads them, and holds off whoever pauses or resumes one until this transaction ends: a claim that
    /// has not seen a pause is committed before it is, and a lane that is held because of what is read
    /// here is among those that `resume` lets go. To be read before lanes are locked.
    pub(super) async fn read(tx: &Tx<'_>) -> Result<Self> {
        let (locked, rows) = tokio::join!(
            tx.batch("LOCK TABLE stoppage IN SHARE MODE"),
            tx.rows(
                "SELECT scope FROM stoppage WHERE reason = 'paused' AND until IS NULL",
                params![],
            )
        );
        locked?;
        Ok(Self(rows?.iter().map(|row| get(row, 0)).collect::<Result<_>>()?))
    }

    pub(super) fn widget(&self, widget: &str) -> bool {
        self.0.iter().any(|scope| {
            scope == "all" || scope.strip_prefix("widget/").is_some_and(|name| name == widget)
        })
    }

    pub(super) fn bot(&self, bot: &str) -> bool {
        self.0.iter().any(|scope| {
            scope == "all" || scope.strip_prefix("bot/").is_some_and(|name| name == bot)
        })
    }
}
