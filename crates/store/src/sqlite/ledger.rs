//! Reading the ledger back.

use async_trait::async_trait;
use rusqlite::{Connection, Row, params};
use serde_json::Value;

use super::journal::{from_json, unreadable};
use super::{SqliteStore, inspection};
use crate::error::Result;
use crate::ledger::{Inspected, InspectionMark, Ledger, LedgerLine};

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

    async fn strays(&self, limit: usize) -> Result<Vec<String>> {
        self.link.read(move |tx| strays(tx, limit)).await
    }

    async fn inspect(&self, mark: InspectionMark, limit: usize) -> Result<Inspected> {
        self.link.read(move |tx| inspection::inspect(tx, &mark, limit)).await
    }
}

impl SqliteStore {
    /// Every line, and the records that differ from their last line (at most `strays` of a kind), all
    /// as they stand at one instant: whatever the daemon or the retention does meanwhile.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn read_through<T: Send + 'static>(
        &self,
        begin: T,
        mut each: impl FnMut(T, LedgerLine) -> T + Send + 'static,
        strays: usize,
    ) -> Result<(T, Vec<String>)> {
        self.link
            .read(move |tx| {
                let mut statement = tx.prepare_cached(&format!("{LINE} ORDER BY l.seq"))?;
                let mut rows = statement.query([])?;
                let mut so_far = begin;
                while let Some(row) = rows.next()? {
                    so_far = each(so_far, read_line(row)?);
                }
                Ok((so_far, self::strays(tx, strays)?))
            })
            .await
    }
}

fn strays(tx: &Connection, limit: usize) -> Result<Vec<String>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut found = Vec::new();
    for sql in STRAYS {
        let mut statement = tx.prepare_cached(sql)?;
        for sentence in statement.query_map([limit], |row| row.get::<_, String>(0))? {
            found.push(sentence?);
        }
    }
    Ok(found)
}

/// Each record beside its last line, and each delivery that has not ended beside its record. Both are
/// written, and go, in one transaction, so nothing but damage or a hand in the database makes them
/// differ.
const STRAYS: [&str; 4] = [
    "WITH told AS (
         SELECT lower(hex(d.id)) AS name, d.state AS state, d.reason AS reason,
             (SELECT l.body FROM ledger l WHERE l.id = lower(hex(d.id)) AND l.kind = 'delivery'
              ORDER BY l.seq DESC LIMIT 1) AS body
         FROM delivery d)
     SELECT 'the delivery ' || name || ' is ' || state || ', its last line says '
         || coalesce(body ->> 'state', 'nothing')
     FROM told WHERE body IS NULL OR body ->> 'state' <> state OR body ->> 'reason' IS NOT reason
     LIMIT ?1",
    "WITH told AS (
         SELECT lower(hex(a.delivery)) || '/' || a.n AS name, a.class AS class,
             (SELECT l.body FROM ledger l
              WHERE l.id = lower(hex(a.delivery)) || '/' || a.n AND l.kind = 'attempt'
              ORDER BY l.seq DESC LIMIT 1) AS body
         FROM attempt a)
     SELECT 'the attempt ' || name || ' is ' || coalesce(class, 'open') || ', its last line says '
         || coalesce(body ->> 'class', 'open')
     FROM told WHERE body IS NULL OR body ->> 'class' IS NOT class LIMIT ?1",
    "WITH told AS (
         SELECT o.id AS name, o.outcome AS outcome, o.deliveries AS deliveries,
             (SELECT l.body FROM ledger l WHERE l.id = o.id AND l.kind = 'occurrence'
              ORDER BY l.seq DESC LIMIT 1) AS body
         FROM occurrence o)
     SELECT 'the occurrence ' || name || ' is ' || outcome || ' with ' || deliveries
         || ' deliveries, its last line says ' || coalesce(body ->> 'outcome', 'nothing')
         || ' with ' || coalesce(body ->> 'deliveries', 'none')
     FROM told WHERE body IS NULL OR body ->> 'outcome' <> outcome
         OR body ->> 'deliveries' <> deliveries LIMIT ?1",
    "SELECT 'the delivery ' || l.id || ' is not there, its last line says ' || (l.body ->> 'state')
     FROM ledger l
     WHERE l.kind = 'delivery' AND l.body ->> 'state' IN ('queued', 'sending', 'unknown')
       AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.id = unhex(l.id))
       AND NOT EXISTS (SELECT 1 FROM ledger n
           WHERE n.id = l.id AND n.kind = 'delivery' AND n.seq > l.seq)
     LIMIT ?1",
];

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
