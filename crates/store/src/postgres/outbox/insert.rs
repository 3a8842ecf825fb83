//! Recording deliveries, many at once. A key is the arbiter, also between two instances that record the
//! same one at the same time.

use std::collections::{BTreeMap, HashMap};

use imbabot_bot::DeliveryId;
use imbabot_core::Timestamp;

use crate::error::Result;
use crate::outbox::{Born, DeadReason, DeliveryRecord, DeliveryState, Enqueued, NewDelivery};
use crate::postgres::Bodies;
use crate::postgres::journal::Lines;
use crate::postgres::lane::{Lane, Lanes};
use crate::postgres::row::{get, held, id, number, parsed, unreadable};
use crate::postgres::tx::{Tx, params};
use crate::rules::{micros, policy, sha256};

/// What is there under a key.
struct Known {
    state: DeliveryState,
    reason: Option<DeadReason>,
    hash: String,
    widget: String,
    room: u64,
    sender: String,
}

/// A delivery whose key comes here for the first time.
struct Fresh<'a> {
    new: &'a NewDelivery,
    id: DeliveryId,
    record: DeliveryRecord,
    hash: String,
}

/// Records deliveries in order, unless their keys are there: as if one were recorded after the other.
pub(in crate::postgres) async fn insert_all(
    tx: &Tx<'_>,
    now: Timestamp,
    new: &[NewDelivery],
    bodies: Bodies,
) -> Result<Vec<Enqueued>> {
    let ids: Vec<DeliveryId> = new.iter().map(NewDelivery::id).collect();
    let mut known = known(tx, &ids).await?;
    let mut first: BTreeMap<DeliveryId, usize> = BTreeMap::new();
    let mut fresh = Vec::new();
    for (place, (new, id)) in new.iter().zip(&ids).enumerate() {
        if !known.contains_key(id) && !first.contains_key(id) {
            first.insert(*id, place);
            fresh.push(Fresh::of(now, new, *id, bodies));
        }
    }
    let lanes: Lanes = fresh.iter().filter(|f| f.open()).map(|f| f.lane()).collect();
    lanes.lock(tx).await?;
    let inserted = insert(tx, now, &fresh).await?;
    let lost: Vec<DeliveryId> =
        fresh.iter().map(|f| f.id).filter(|id| !inserted.contains_key(id)).collect();
    for (id, row) in self::known(tx, &lost).await? {
        // Another transaction was first, and is committed by now.
        first.remove(&id);
        known.insert(id, row);
    }
    let mut lines = Lines::default();
    for row in fresh.iter().filter(|f| inserted.contains_key(&f.id)) {
        lines.delivery(now, &row.record)?;
        known.insert(row.id, row.known());
    }
    lanes.refresh(tx, now).await?;
    lines.append(tx).await?;
    let told = new.iter().zip(&ids).enumerate().map(|(place, (new, id))| {
        let there = known.get(id).ok_or_else(|| unreadable("a key that is not there"))?;
        let recorded = first.get(id) == Some(&place);
        Ok(Enqueued {
            id: *id,
            state: there.state,
            reason: there.reason,
            detail: new.detail.clone().filter(|_| recorded),
            known: !recorded,
            refused: !recorded && !there.is(new),
        })
    });
    told.collect()
}

impl Known {
    fn is(&self, new: &NewDelivery) -> bool {
        self.hash == sha256(&new.text)
            && self.widget == new.widget.as_str()
            && self.room == new.room.0
            && self.sender == new.sender.as_str()
    }
}

async fn known(tx: &Tx<'_>, ids: &[DeliveryId]) -> Result<HashMap<DeliveryId, Known>> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let bytes: Vec<&[u8]> = ids.iter().map(|id| id.as_bytes().as_slice()).collect();
    let rows = tx
        .rows(
            "SELECT id, state, reason, text_sha256, widget, room, sender FROM delivery
             WHERE id = ANY($1)",
            params![bytes],
        )
        .await?;
    let read = |row| {
        let reason: Option<&str> = get(row, 2)?;
        let known = Known {
            state: parsed(row, 1)?,
            reason: reason.and_then(|reason| reason.parse().ok()),
            hash: get(row, 3)?,
            widget: get(row, 4)?,
            room: number(row, 5)?,
            sender: get(row, 6)?,
        };
        Ok((id(row, 0)?, known))
    };
    rows.iter().map(read).collect()
}

impl<'a> Fresh<'a> {
    fn of(now: Timestamp, new: &'a NewDelivery, id: DeliveryId, bodies: Bodies) -> Self {
        let (state, reason) = match new.born {
            Born::Queued => (DeliveryState::Queued, None),
            Born::Dead(reason) => (DeliveryState::Dead, Some(reason)),
        };
        let keeps = state == DeliveryState::Queued || bodies == Bodies::Full;
        let hash = sha256(&new.text);
        let record = DeliveryRecord {
            id,
            key: new.key.clone(),
            widget: new.widget.clone(),
            room: new.room,
            sender: new.sender.clone(),
            bot: new.bot.clone(),
            event: new.event.clone(),
            occurrence: new.occurrence.clone(),
            policy: new.policy,
            text: keeps.then(|| new.text.clone()),
            text_sha256: (!keeps).then(|| hash.clone()),
            state,
            reason: reason.map(|reason| reason.to_string()),
            detail: new.detail.clone(),
            possible_duplicate: false,
            created_at: now,
            not_before: new.not_before.unwrap_or(now),
            expires_at: new.expires_at,
            server_message_id: None,
            server_uuid: None,
            server_time: None,
        };
        Self { new, id, record, hash }
    }

    fn open(&self) -> bool {
        self.record.state == DeliveryState::Queued
    }

    fn counts(&self) -> bool {
        let refused =
            matches!(self.new.born, Born::Dead(DeadReason::Suppressed | DeadReason::Invalid));
        self.new.bot.is_some() && !refused
    }

    fn lane(&self) -> Lane {
        Lane {
            widget: self.new.widget.to_string(),
            room: self.new.room.0.cast_signed(),
            sender: self.new.sender.as_str().to_owned(),
        }
    }

    fn known(&self) -> Known {
        Known {
            state: self.record.state,
            reason: match self.new.born {
                Born::Queued => None,
                Born::Dead(reason) => Some(reason),
            },
            hash: self.hash.clone(),
            widget: self.new.widget.to_string(),
            room: self.new.room.0,
            sender: self.new.sender.as_str().to_owned(),
        }
    }
}

/// Inserts those whose keys are not there at this moment; their row numbers ascend in the given order.
async fn insert(
    tx: &Tx<'_>,
    now: Timestamp,
    fresh: &[Fresh<'_>],
) -> Result<HashMap<DeliveryId, i64>> {
    if fresh.is_empty() {
        return Ok(HashMap::new());
    }
    let column = |of: fn(&Fresh<'_>) -> i64| fresh.iter().map(of).collect::<Vec<_>>();
    let word = |of: for<'f> fn(&'f Fresh<'_>) -> &'f str| fresh.iter().map(of).collect::<Vec<_>>();
    let perhaps =
        |of: for<'f> fn(&'f Fresh<'_>) -> Option<&'f str>| fresh.iter().map(of).collect::<Vec<_>>();
    let bytes: Vec<&[u8]> = fresh.iter().map(|f| f.id.as_bytes().as_slice()).collect();
    let keys: Vec<String> = fresh.iter().map(|f| held(&f.new.key).into_owned()).collect();
    let kept = |text: Option<&String>| text.map(|text| held(text).into_owned());
    let texts: Vec<Option<String>> = fresh.iter().map(|f| kept(f.record.text.as_ref())).collect();
    let details: Vec<Option<String>> = fresh.iter().map(|f| kept(f.new.detail.as_ref())).collect();
    let open: Vec<bool> = fresh.iter().map(Fresh::open).collect();
    let ended: Vec<Option<i64>> =
        fresh.iter().map(|f| (!f.open()).then_some(now.as_micros())).collect();
    let rows = tx
        .rows(
            "INSERT INTO delivery (id, key, widget, room, sender, bot, event, occurrence, schedule,
                 policy, text, text_sha256, state, reason, open, counts, created_at, not_before,
                 expires_at, ended_at, report, keeps, detail)
             SELECT id, key, widget, room, sender, bot, event, occurrence, schedule, policy, text,
                 hash, state, reason, open, counts, $23, not_before, expires_at, ended_at, report,
                 keeps, detail
             FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,
                     $18, $19, $20, $21, $22) WITH ORDINALITY
                 AS n (id, key, widget, room, sender, bot, event, occurrence, schedule, policy, text,
                     hash, state, reason, open, counts, not_before, expires_at, ended_at, report,
                     keeps, detail, place)
             ORDER BY place
             ON CONFLICT DO NOTHING
             RETURNING id, seq",
            params![
                bytes,
                keys,
                word(|f| f.new.widget.as_str()),
                column(|f| f.new.room.0.cast_signed()),
                word(|f| f.new.sender.as_str()),
                perhaps(|f| f.new.bot.as_ref().map(AsRef::as_ref)),
                perhaps(|f| f.new.event.as_deref()),
                perhaps(|f| f.new.occurrence.as_deref()),
                perhaps(|f| f.new.schedule.as_deref()),
                word(|f| policy(f.new.policy)),
                texts,
                word(|f| &f.hash),
                word(|f| f.record.state.as_str()),
                perhaps(|f| f.record.reason.as_deref()),
                open,
                fresh.iter().map(Fresh::counts).collect::<Vec<_>>(),
                column(|f| f.record.not_before.as_micros()),
                column(|f| f.new.expires_at.as_micros()),
                ended,
                fresh.iter().map(|f| f.new.report).collect::<Vec<_>>(),
                column(|f| {
                    let from = f.record.not_before.max(f.record.created_at);
                    micros(f.new.expires_at.since(from))
                }),
                details,
                now.as_micros(),
            ],
        )
        .await?;
    rows.iter().map(|row| Ok((id(row, 0)?, get(row, 1)?))).collect()
}
