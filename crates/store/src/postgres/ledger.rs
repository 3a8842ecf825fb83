//! Reading the ledger back. Numbers are given out before lines are committed, so a line may become
//! visible behind one with a larger number: nothing is told beyond the number up to which nobody is
//! about to append any more.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use imbabot_bot::DeliveryId;
use serde_json::Value;
use tokio_postgres::Row;

use super::link::pause;
use super::row::{from_json, get, id, told, unreadable};
use super::tx::{Tx, params};
use super::{PostgresStore, inspection};
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::{Inspected, InspectionMark, Ledger, LedgerLine};

/// Who is in the middle of writing is waited for so long at most, in milliseconds.
const LONGEST_WAIT: u64 = 10_000;
/// Whether that has ended is asked every so many.
const LOOK_AGAIN: u64 = 5;

#[async_trait]
impl Ledger for PostgresStore {
    async fn ledger(&self, since: i64, limit: usize) -> Result<Vec<LedgerLine>> {
        let until = self.link.settled().load(Ordering::Acquire);
        let mut lines = Vec::new();
        if since < until {
            lines = self.page(since, until, limit).await?;
        }
        if lines.len() < limit && self.settle().await? {
            let since = lines.last().map_or(since, |line| line.seq);
            let until = self.link.settled().load(Ordering::Acquire);
            lines.extend(self.page(since, until, limit - lines.len()).await?);
        }
        Ok(lines)
    }

    async fn strays(&self, limit: usize) -> Result<Vec<String>> {
        inspection::strays(&self.link, limit).await
    }

    async fn inspect(&self, mark: InspectionMark, limit: usize) -> Result<Inspected> {
        self.link.read(async move |tx| inspection::inspect(tx, &mark, limit).await).await
    }
}

impl PostgresStore {
    async fn page(&self, since: i64, until: i64, limit: usize) -> Result<Vec<LedgerLine>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let sql = format!("{LINE} WHERE l.seq > $1 AND l.seq <= $2 ORDER BY l.seq LIMIT $3");
        self.link
            .read(async move |tx| {
                let rows = tx.rows(&sql, params![since, until, limit]).await?;
                read_lines(tx, &rows).await
            })
            .await
    }

    /// Finds out up to which number the ledger is settled; whether that is further than it was. Waits
    /// for who was in the middle of writing, and only if numbers were given out since. Nobody waits
    /// for this.
    async fn settle(&self) -> Result<bool> {
        let before = self.link.settled().load(Ordering::Acquire);
        let last = self
            .link
            .read(async move |tx| {
                let last = last_number(tx).await?;
                if last > before {
                    // Whoever took one of these numbers was in the door then, and is now unless that
                    // is committed or never will be.
                    let mut writers = writers(tx, None).await?;
                    let mut waited = 0;
                    while !writers.is_empty() {
                        if waited >= LONGEST_WAIT {
                            return Err(Error::new(
                                ErrorKind::Retryable,
                                "others are in the middle of writing to the ledger for long",
                            ));
                        }
                        pause(LOOK_AGAIN).await;
                        waited += LOOK_AGAIN;
                        writers = self::writers(tx, Some(writers)).await?;
                    }
                }
                Ok(last)
            })
            .await?;
        Ok(self.link.settled().fetch_max(last, Ordering::AcqRel) < last)
    }
}

/// Transactions that are in the ledger's door at this very moment: all, or those of them that still are.
async fn writers(tx: &Tx<'_>, of: Option<Vec<String>>) -> Result<Vec<String>> {
    let rows = tx
        .rows(
            "SELECT l.virtualtransaction || ' ' || l.pid FROM pg_locks l
             WHERE l.locktype = 'relation' AND l.relation = 'ledger_door'::regclass AND l.granted
               AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
               AND l.mode IN ('RowExclusiveLock', 'ExclusiveLock')
               AND ($1 IS NULL OR l.virtualtransaction || ' ' || l.pid = ANY($1))",
            params![of],
        )
        .await?;
    rows.iter().map(|row| get(row, 0)).collect()
}

/// The last number that was given out, to whomever.
async fn last_number(tx: &Tx<'_>) -> Result<i64> {
    let row = tx
        .row(
            "SELECT coalesce(pg_sequence_last_value(
                 pg_get_serial_sequence('ledger', 'seq')::regclass), 0)",
            params![],
        )
        .await?;
    get(&row, 0)
}

/// To be read by [`read_lines`]; more columns may follow.
pub(super) const LINE: &str = "SELECT l.seq, l.kind, l.body, l.at, l.id FROM ledger l";

/// Lines with the texts of deliveries, as far as these are still there.
pub(super) async fn read_lines(tx: &Tx<'_>, rows: &[Row]) -> Result<Vec<LedgerLine>> {
    let mut about: Vec<Option<DeliveryId>> = Vec::with_capacity(rows.len());
    for row in rows {
        let delivery = get::<&str>(row, 1)? == "delivery";
        // What is no id has no text.
        about.push(if delivery { get::<&str>(row, 4)?.parse().ok() } else { None });
    }
    let mut ids: Vec<&[u8]> = about.iter().flatten().map(|id| id.as_bytes().as_slice()).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut texts: HashMap<DeliveryId, (Option<String>, String)> = HashMap::new();
    if !ids.is_empty() {
        let found = tx
            .rows("SELECT id, text, text_sha256 FROM delivery WHERE id = ANY($1)", params![ids])
            .await?;
        for row in &found {
            texts.insert(id(row, 0)?, (get::<Option<&str>>(row, 1)?.map(told), get(row, 2)?));
        }
    }
    let text = |about: &Option<DeliveryId>| about.and_then(|id| texts.get(&id));
    rows.iter().zip(&about).map(|(row, about)| read_line(row, text(about))).collect()
}

fn read_line(row: &Row, text: Option<&(Option<String>, String)>) -> Result<LedgerLine> {
    let mut body: Value = from_json(get(row, 2)?)?;
    let fields = body.as_object_mut().ok_or_else(|| unreadable("a line"))?;
    fields.insert("schema".into(), 1.into());
    fields.insert("seq".into(), get::<i64>(row, 0)?.into());
    fields.insert("kind".into(), get::<String>(row, 1)?.into());
    match text {
        Some((Some(text), _)) => {
            fields.insert("text".into(), text.as_str().into());
            fields.remove("text_sha256");
        }
        Some((None, hash)) => {
            fields.insert("text_sha256".into(), hash.as_str().into());
        }
        None => {}
    }
    serde_json::from_value(body).map_err(|e| unreadable(&e.to_string()))
}
