//! The records of attempts: what was seen stays as it was seen.

use imbabot_bot::DeliveryId;
use imbabot_core::Timestamp;
use rusqlite::{Connection, params};

use crate::error::Result;
use crate::lifecycle::IncarnationId;
use crate::outbox::{AttemptRecord, Class};
use crate::sqlite::journal::{self, instant, instant_or_none, parsed_or_none};

/// How an attempt ended.
pub(in crate::sqlite) struct AttemptEnd<'a> {
    pub(in crate::sqlite) class: Class,
    pub(in crate::sqlite) code: &'a str,
    pub(in crate::sqlite) http_status: Option<u16>,
    pub(in crate::sqlite) detail: Option<&'a str>,
}

/// Writes the end of an attempt; false if that is no news. What is known of it stays; what was
/// ambiguous may become known by its own late answer, and then no longer stands against the
/// delivery.
pub(in crate::sqlite) fn end_attempt(
    tx: &Connection,
    now: Timestamp,
    seq: i64,
    attempt: u32,
    end: &AttemptEnd<'_>,
) -> Result<bool> {
    let id: [u8; 16] = tx
        .prepare_cached("SELECT id FROM delivery WHERE seq = ?1")?
        .query_row([seq], |row| row.get(0))?;
    let late: bool = tx
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM attempt
             WHERE delivery = ?1 AND n = ?2 AND class = 'ambiguous')",
        )?
        .query_row(params![id, attempt], |row| row.get(0))?;
    let changed = tx
        .prepare_cached(
            "UPDATE attempt SET ended_at = ?3, class = ?4, code = ?5, http_status = ?6,
                 detail = ?7
             WHERE delivery = ?1 AND n = ?2
               AND (class IS NULL OR class = 'ambiguous' AND ?4 <> 'ambiguous')",
        )?
        .execute(params![
            id,
            attempt,
            now.as_micros(),
            end.class.as_str(),
            end.code,
            end.http_status,
            end.detail
        ])?;
    if changed > 0 {
        if late {
            tx.prepare_cached("UPDATE delivery SET ambiguous = ambiguous - 1 WHERE seq = ?1")?
                .execute([seq])?;
        }
        let record = tx
            .prepare_cached(
                "SELECT incarnation, started_at, class, held_by, held_since FROM attempt
                 WHERE delivery = ?1 AND n = ?2",
            )?
            .query_row(params![id, attempt], |row| {
                Ok((|| -> Result<_> {
                    Ok(AttemptRecord {
                        delivery: DeliveryId::from_bytes(id),
                        n: attempt,
                        incarnation: IncarnationId(row.get(0)?),
                        started_at: instant(row, 1)?,
                        ended_at: Some(now),
                        class: parsed_or_none(row, 2)?,
                        code: Some(end.code.to_owned()),
                        http_status: end.http_status,
                        detail: end.detail.map(str::to_owned),
                        held_by: parsed_or_none(row, 3)?,
                        held_since: instant_or_none(row, 4)?,
                    })
                })())
            })??;
        journal::attempt(tx, now, &record)?;
    }
    Ok(changed > 0)
}
