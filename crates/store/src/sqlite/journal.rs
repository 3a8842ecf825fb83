//! Appends to the ledger, in the transaction that changes the record. The text of a delivery is
//! left out here and joined when lines are read, so that it stands in the database once.

use imbabot_core::Timestamp;
use rusqlite::{Connection, Row, params};
use serde::Serialize;

use crate::error::Result;
use crate::inbox::EventRecord;
use crate::lifecycle::IncarnationRecord;
use crate::operations::OperatorRecord;
use crate::outbox::{AttemptRecord, DeliveryRecord};
pub(super) use crate::rules::{from_json, to_json, unreadable};
use crate::schedules::{OccurrenceRecord, RangeRecord};

pub(super) fn append(
    tx: &Connection,
    kind: &str,
    id: &str,
    at: Timestamp,
    record: &impl Serialize,
) -> Result<()> {
    let body = serde_json::to_string(record).map_err(|e| unreadable(&e.to_string()))?;
    tx.prepare_cached("INSERT INTO ledger (kind, id, at, body) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![kind, id, at.as_micros(), body])?;
    Ok(())
}

pub(super) fn incarnation(
    tx: &Connection,
    now: Timestamp,
    record: &IncarnationRecord,
) -> Result<()> {
    append(tx, "incarnation", &record.id.0.to_string(), now, record)
}

pub(super) fn occurrence(tx: &Connection, now: Timestamp, record: &OccurrenceRecord) -> Result<()> {
    append(tx, "occurrence", &record.id, now, record)
}

pub(super) fn range(tx: &Connection, now: Timestamp, record: &RangeRecord) -> Result<()> {
    append(tx, "range", &record.schedule, now, record)
}

pub(super) fn event(tx: &Connection, now: Timestamp, record: &EventRecord) -> Result<()> {
    append(tx, "event", &record.id, now, record)
}

pub(super) fn operator(tx: &Connection, record: &OperatorRecord) -> Result<()> {
    append(tx, "operator", &record.target, record.at, record)
}

/// A delivery as it stands now. To be called once after all changes of a step.
pub(super) fn delivery(tx: &Connection, now: Timestamp, seq: i64) -> Result<DeliveryRecord> {
    let mut record = tx
        .prepare_cached(&format!("SELECT {DELIVERY_COLUMNS} FROM delivery WHERE seq = ?1"))?
        .query_row([seq], |row| Ok(read_delivery(row)))??;
    let text = record.text.take();
    append(tx, "delivery", &record.id.to_string(), now, &record)?;
    record.text = text;
    Ok(record)
}

pub(super) fn attempt(tx: &Connection, now: Timestamp, record: &AttemptRecord) -> Result<()> {
    append(tx, "attempt", &format!("{}/{}", record.delivery, record.n), now, record)
}

pub(super) const DELIVERY_COLUMNS: &str = "id, key, widget, room, sender, bot, event, occurrence, \
     policy, text, text_sha256, state, reason, possible_duplicate, created_at, not_before, \
     expires_at, server_message_id, server_uuid, server_time, detail";

pub(super) fn read_delivery(row: &Row<'_>) -> Result<DeliveryRecord> {
    let text: Option<String> = row.get(9)?;
    let hash: String = row.get(10)?;
    Ok(DeliveryRecord {
        id: id(row, 0)?,
        key: row.get(1)?,
        widget: parsed(row, 2)?,
        room: number(row, 3)?.into(),
        sender: parsed(row, 4)?,
        bot: parsed_or_none(row, 5)?,
        event: row.get(6)?,
        occurrence: row.get(7)?,
        policy: parsed(row, 8)?,
        text_sha256: text.is_none().then_some(hash),
        text,
        state: parsed(row, 11)?,
        reason: row.get(12)?,
        detail: row.get(20)?,
        possible_duplicate: row.get(13)?,
        created_at: instant(row, 14)?,
        not_before: instant(row, 15)?,
        expires_at: instant(row, 16)?,
        server_message_id: row
            .get::<_, Option<i64>>(17)?
            .map(|n| imbabot_core::MessageId(n.cast_unsigned())),
        server_uuid: row.get(18)?,
        server_time: instant_or_none(row, 19)?,
    })
}

pub(super) fn id(row: &Row<'_>, column: usize) -> Result<imbabot_bot::DeliveryId> {
    Ok(imbabot_bot::DeliveryId::from_bytes(row.get::<_, [u8; 16]>(column)?))
}

/// SQLite's integers are signed; ids are kept bit by bit.
pub(super) fn number(row: &Row<'_>, column: usize) -> Result<u64> {
    Ok(row.get::<_, i64>(column)?.cast_unsigned())
}

pub(super) fn count(row: &Row<'_>, column: usize) -> Result<u32> {
    Ok(u32::try_from(row.get::<_, i64>(column)?).unwrap_or(u32::MAX))
}

pub(super) fn instant(row: &Row<'_>, column: usize) -> Result<Timestamp> {
    Ok(Timestamp::from_micros(row.get(column)?))
}

pub(super) fn instant_or_none(row: &Row<'_>, column: usize) -> Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_micros))
}

pub(super) fn parsed<T: std::str::FromStr>(row: &Row<'_>, column: usize) -> Result<T> {
    let text = row.get_ref(column)?.as_str().map_err(|e| unreadable(&e.to_string()))?;
    text.parse().map_err(|_| unreadable(text))
}

pub(super) fn parsed_or_none<T: std::str::FromStr>(
    row: &Row<'_>,
    column: usize,
) -> Result<Option<T>> {
    if row.get_ref(column)? == rusqlite::types::ValueRef::Null {
        return Ok(None);
    }
    parsed(row, column).map(Some)
}
