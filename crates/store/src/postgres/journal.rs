//! Appends to the ledger, in the transaction that changes the record, as many lines at once as a step
//! has. The text of a delivery is left out here and joined when lines are read.

use imbabot_core::Timestamp;
use serde::Serialize;
use tokio_postgres::Row;

use super::row::{
    get, id, instant, instant_or_none, number, parsed, parsed_or_none, to_json, told,
};
use super::tx::{Tx, params};
use crate::error::Result;
use crate::inbox::EventRecord;
use crate::lifecycle::IncarnationRecord;
use crate::operations::OperatorRecord;
use crate::outbox::{AttemptRecord, DeliveryRecord};
use crate::schedules::{OccurrenceRecord, RangeRecord};

/// Lines to be appended together, in order.
#[derive(Default)]
pub(super) struct Lines {
    kinds: Vec<&'static str>,
    ids: Vec<String>,
    ats: Vec<i64>,
    bodies: Vec<String>,
}

impl Lines {
    fn push(
        &mut self,
        kind: &'static str,
        id: String,
        at: Timestamp,
        record: &impl Serialize,
    ) -> Result<()> {
        self.bodies.push(to_json(record)?);
        self.kinds.push(kind);
        self.ids.push(id);
        self.ats.push(at.as_micros());
        Ok(())
    }

    pub(super) fn incarnation(&mut self, now: Timestamp, record: &IncarnationRecord) -> Result<()> {
        self.push("incarnation", record.id.0.to_string(), now, record)
    }

    pub(super) fn occurrence(&mut self, now: Timestamp, record: &OccurrenceRecord) -> Result<()> {
        self.push("occurrence", record.id.clone(), now, record)
    }

    pub(super) fn range(&mut self, now: Timestamp, record: &RangeRecord) -> Result<()> {
        self.push("range", record.schedule.clone(), now, record)
    }

    pub(super) fn event(&mut self, now: Timestamp, record: &EventRecord) -> Result<()> {
        self.push("event", record.id.clone(), now, record)
    }

    pub(super) fn operator(&mut self, record: &OperatorRecord) -> Result<()> {
        self.push("operator", record.target.clone(), record.at, record)
    }

    pub(super) fn attempt(&mut self, now: Timestamp, record: &AttemptRecord) -> Result<()> {
        self.push("attempt", format!("{}/{}", record.delivery, record.n), now, record)
    }

    /// A delivery as it stands now.
    pub(super) fn delivery(&mut self, now: Timestamp, record: &DeliveryRecord) -> Result<()> {
        let line = DeliveryRecord { text: None, ..record.clone() };
        self.push("delivery", record.id.to_string(), now, &line)
    }

    /// Appends them.
    pub(super) async fn append(self, tx: &Tx<'_>) -> Result<()> {
        if self.kinds.is_empty() {
            return Ok(());
        }
        tx.append(
            self.kinds.len(),
            "INSERT INTO ledger (kind, id, at, body)
             SELECT * FROM unnest($1, $2, $3, $4)",
            params![self.kinds, self.ids, self.ats, self.bodies],
        )
        .await
    }
}

/// Appends one line.
macro_rules! one {
    ($tx:expr, $verb:ident($($given:expr),+)) => {{
        let mut lines = Lines::default();
        lines.$verb($($given),+)?;
        lines.append($tx).await
    }};
}

pub(super) async fn incarnation(
    tx: &Tx<'_>,
    now: Timestamp,
    record: &IncarnationRecord,
) -> Result<()> {
    one!(tx, incarnation(now, record))
}

pub(super) async fn range(tx: &Tx<'_>, now: Timestamp, record: &RangeRecord) -> Result<()> {
    one!(tx, range(now, record))
}

pub(super) async fn event(tx: &Tx<'_>, now: Timestamp, record: &EventRecord) -> Result<()> {
    one!(tx, event(now, record))
}

pub(super) async fn operator(tx: &Tx<'_>, record: &OperatorRecord) -> Result<()> {
    one!(tx, operator(record))
}

pub(super) const DELIVERY_COLUMNS: &str = "id, key, widget, room, sender, bot, event, occurrence, \
     policy, text, text_sha256, state, reason, possible_duplicate, created_at, not_before, \
     expires_at, server_message_id, server_uuid, server_time, detail";

/// A row of [`DELIVERY_COLUMNS`].
pub(super) fn read_delivery(row: &Row) -> Result<DeliveryRecord> {
    let text = get::<Option<&str>>(row, 9)?.map(told);
    let hash: String = get(row, 10)?;
    Ok(DeliveryRecord {
        id: id(row, 0)?,
        key: told(get(row, 1)?),
        widget: parsed(row, 2)?,
        room: number(row, 3)?.into(),
        sender: parsed(row, 4)?,
        bot: parsed_or_none(row, 5)?,
        event: get(row, 6)?,
        occurrence: get(row, 7)?,
        policy: parsed(row, 8)?,
        text_sha256: text.is_none().then_some(hash),
        text,
        state: parsed(row, 11)?,
        reason: get(row, 12)?,
        detail: get::<Option<&str>>(row, 20)?.map(told),
        possible_duplicate: get(row, 13)?,
        created_at: instant(row, 14)?,
        not_before: instant(row, 15)?,
        expires_at: instant(row, 16)?,
        server_message_id: get::<Option<i64>>(row, 17)?
            .map(|n| imbabot_core::MessageId(n.cast_unsigned())),
        server_uuid: get::<Option<&str>>(row, 18)?.map(told),
        server_time: instant_or_none(row, 19)?,
    })
}
