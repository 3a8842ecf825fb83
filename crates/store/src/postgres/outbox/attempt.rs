//! The records of attempts: what was seen stays as it was seen.

use std::collections::BTreeMap;

use imbabot_core::Timestamp;

use super::step::Step;
use crate::error::Result;
use crate::lifecycle::IncarnationId;
use crate::outbox::{AttemptRecord, Class, Hold};
use crate::postgres::row::{count, get, id, instant, instant_or_none, parsed_or_none};
use crate::postgres::tx::{Tx, params};

/// An attempt as the store has it, or is to have it.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub(super) record: AttemptRecord,
    written: Written,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    Not,
    Otherwise,
    AsIs,
}

/// How an attempt ended.
pub(super) struct AttemptEnd<'a> {
    pub(super) class: Class,
    pub(super) code: &'a str,
    pub(super) http_status: Option<u16>,
    pub(super) detail: Option<&'a str>,
}

impl Step {
    /// Reads attempts of deliveries that were read.
    pub(super) async fn load_attempts(&mut self, tx: &Tx<'_>, which: &[(i64, u32)]) -> Result<()> {
        let mut columns = (Vec::new(), Vec::new(), Vec::new());
        for (seq, n) in which {
            if let Some(row) = self.rows.get(seq) {
                columns.0.push(*seq);
                columns.1.push(row.record.id.as_bytes().to_vec());
                columns.2.push(i64::from(*n));
            }
        }
        if columns.0.is_empty() {
            return Ok(());
        }
        let rows = tx
            .rows(
                "SELECT k.seq, a.n, a.delivery, a.incarnation, a.started_at, a.ended_at, a.class,
                        a.code, a.http_status, a.detail, a.held_by, a.held_since
                 FROM unnest($1, $2, $3) AS k (seq, id, n)
                 JOIN attempt a ON a.delivery = k.id AND a.n = k.n",
                params![columns.0, columns.1, columns.2],
            )
            .await?;
        for row in &rows {
            let record = AttemptRecord {
                delivery: id(row, 2)?,
                n: count(row, 1)?,
                incarnation: IncarnationId(get(row, 3)?),
                started_at: instant(row, 4)?,
                ended_at: instant_or_none(row, 5)?,
                class: parsed_or_none(row, 6)?,
                code: get(row, 7)?,
                http_status: get::<Option<i64>>(row, 8)?.and_then(|s| u16::try_from(s).ok()),
                detail: get(row, 9)?,
                held_by: parsed_or_none(row, 10)?,
                held_since: instant_or_none(row, 11)?,
            };
            let key = (get(row, 0)?, record.n);
            self.attempts.insert(key, Attempt { record, written: Written::AsIs });
        }
        Ok(())
    }

    /// Begins an attempt at a delivery that was just started.
    pub(super) fn begin_attempt(&mut self, seq: i64, record: AttemptRecord) -> Result<()> {
        self.lines.attempt(self.now, &record)?;
        self.attempts.insert((seq, record.n), Attempt { record, written: Written::Not });
        Ok(())
    }

    /// Writes the end of an attempt; false if that is no news. What is known of it stays; what was
    /// ambiguous may become known by its own late answer, and then no longer stands against the
    /// delivery.
    pub(super) fn end_attempt(&mut self, seq: i64, n: u32, end: &AttemptEnd<'_>) -> Result<bool> {
        let now = self.now;
        let Some(attempt) = self.attempts.get_mut(&(seq, n)) else { return Ok(false) };
        let late = match attempt.record.class {
            None => false,
            Some(Class::Ambiguous) if end.class != Class::Ambiguous => true,
            Some(_) => return Ok(false),
        };
        let record = &mut attempt.record;
        record.ended_at = Some(now);
        record.class = Some(end.class);
        record.code = Some(end.code.to_owned());
        record.http_status = end.http_status;
        record.detail = end.detail.map(str::to_owned);
        if attempt.written == Written::AsIs {
            attempt.written = Written::Otherwise;
        }
        self.lines.attempt(now, &attempt.record)?;
        if late {
            self.known_late(seq)?;
        }
        Ok(true)
    }
}

/// Writes what is not written.
pub(super) async fn save(tx: &Tx<'_>, attempts: &mut BTreeMap<(i64, u32), Attempt>) -> Result<()> {
    let which =
        |written| attempts.values().filter(move |a| a.written == written).map(|a| &a.record);
    begin(tx, &which(Written::Not).collect::<Vec<_>>()).await?;
    end(tx, &which(Written::Otherwise).collect::<Vec<_>>()).await?;
    for attempt in attempts.values_mut() {
        attempt.written = Written::AsIs;
    }
    Ok(())
}

async fn begin(tx: &Tx<'_>, attempts: &[&AttemptRecord]) -> Result<()> {
    if attempts.is_empty() {
        return Ok(());
    }
    let ids: Vec<&[u8]> = attempts.iter().map(|a| a.delivery.as_bytes().as_slice()).collect();
    let numbers: Vec<i64> = attempts.iter().map(|a| a.n.into()).collect();
    let runs: Vec<i64> = attempts.iter().map(|a| a.incarnation.0).collect();
    let starts: Vec<i64> = attempts.iter().map(|a| a.started_at.as_micros()).collect();
    let held: Vec<Option<&str>> = attempts.iter().map(|a| a.held_by.map(Hold::as_str)).collect();
    let since: Vec<Option<i64>> =
        attempts.iter().map(|a| a.held_since.map(Timestamp::as_micros)).collect();
    tx.execute(
        "INSERT INTO attempt (delivery, n, incarnation, started_at, held_by, held_since)
         SELECT * FROM unnest($1, $2, $3, $4, $5, $6)",
        params![ids, numbers, runs, starts, held, since],
    )
    .await?;
    Ok(())
}

async fn end(tx: &Tx<'_>, attempts: &[&AttemptRecord]) -> Result<()> {
    if attempts.is_empty() {
        return Ok(());
    }
    let ids: Vec<&[u8]> = attempts.iter().map(|a| a.delivery.as_bytes().as_slice()).collect();
    let numbers: Vec<i64> = attempts.iter().map(|a| a.n.into()).collect();
    let ends: Vec<Option<i64>> =
        attempts.iter().map(|a| a.ended_at.map(Timestamp::as_micros)).collect();
    let classes: Vec<Option<&str>> = attempts.iter().map(|a| a.class.map(Class::as_str)).collect();
    let codes: Vec<Option<&str>> = attempts.iter().map(|a| a.code.as_deref()).collect();
    let statuses: Vec<Option<i64>> =
        attempts.iter().map(|a| a.http_status.map(i64::from)).collect();
    let details: Vec<Option<&str>> = attempts.iter().map(|a| a.detail.as_deref()).collect();
    tx.execute(
        "UPDATE attempt a SET ended_at = n.ended_at, class = n.class, code = n.code,
             http_status = n.http_status, detail = n.detail
         FROM unnest($1, $2, $3, $4, $5, $6, $7)
              AS n (delivery, n, ended_at, class, code, http_status, detail)
         WHERE a.delivery = n.delivery AND a.n = n.n",
        params![ids, numbers, ends, classes, codes, statuses, details],
    )
    .await?;
    Ok(())
}
