//! Reading the ledger back.

use async_trait::async_trait;
use rusqlite::{Row, params};
use serde_json::Value;

use super::SqliteStore;
use super::journal::{from_json, unreadable};
use crate::error::Result;
use crate::ledger::{Ledger, LedgerLine};

#[async_trait]
impl Ledger for SqliteStore {
    async fn ledger(&self, since: i64, limit: usize) -> Result<Vec<LedgerLine>> {
        self.link
            .read(move |tx| {
                let mut statement =
                    tx.prepare_cached(&format!("{LINE} WHERE l.seq > ?1 ORDER BY l.seq LIMIT ?2"))?;
                let mut rows =
                    statement.query(params![since, i64::try_from(limit).unwrap_or(i64::MAX)])?;
                let mut lines = Vec::new();
                while let Some(row) = rows.next()? {
                    lines.push(read_line(row)?);
                }
                Ok(lines)
            })
            .await
    }
}

/// To be read by [`read_line`].
pub(super) const LINE: &str =
    "SELECT l.seq, l.kind, l.body, d.text, d.text_sha256, l.at FROM ledger l
     LEFT JOIN delivery d ON l.kind = 'delivery' AND d.id = unhex(l.id)";

pub(super) fn read_line(row: &Row<'_>) -> Result<LedgerLine> {
    let mut body: Value = from_json(row.get_ref(2)?.as_str().unwrap_or_default())?;
    let fields = body.as_object_mut().ok_or_else(|| unreadable("a line"))?;
    fields.insert("schema".into(), 1.into());
    fields.insert("seq".into(), row.get::<_, i64>(0)?.into());
    fields.insert("kind".into(), row.get::<_, String>(1)?.into());
    if let Some(text) = row.get::<_, Option<String>>(3)? {
        fields.insert("text".into(), text.into());
        fields.remove("text_sha256");
    } else if let Some(hash) = row.get::<_, Option<String>>(4)? {
        fields.insert("text_sha256".into(), hash.into());
    }
    serde_json::from_value(body).map_err(|e| unreadable(&e.to_string()))
}
