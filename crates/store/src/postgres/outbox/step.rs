//! A step over deliveries: they are read once, under the locks of their lanes, moved here along the
//! arrows of the state machine, and written back together, however many they are. Nothing else writes
//! `delivery.state`.

use std::collections::BTreeMap;

use imbabot_bot::Policy;
use imbabot_core::{MessageId, Timestamp};
use tokio_postgres::Row;

use super::attempt::Attempt;
use crate::error::Result;
use crate::lifecycle::Settle;
use crate::outbox::{DeadReason, DeliveryRecord, DeliveryState};
use crate::postgres::Bodies;
use crate::postgres::journal::{DELIVERY_COLUMNS, Lines, read_delivery};
use crate::postgres::lane::{Lane, Lanes};
use crate::postgres::row::{count, get, held, instant_or_none, unreadable};
use crate::postgres::tx::{Tx, params};

/// A delivery as the store has it.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    pub(super) seq: i64,
    pub(super) record: DeliveryRecord,
    hash: String,
    open: bool,
    /// The bot asked to be told.
    report: bool,
    pub(super) next_attempt_at: Timestamp,
    pub(super) attempts: u32,
    pub(super) misses: u32,
    pub(super) ambiguous: u32,
    resends: u32,
    pub(super) unknown_since: Option<Timestamp>,
    pub(super) resend_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    /// Differs from what is written.
    changed: bool,
    moved: bool,
    /// The states it went through since it was written: the counts are of all that a row ever was.
    through: Vec<(DeliveryState, Option<String>)>,
}

impl Delivery {
    /// How many columns [`Delivery::read`] reads.
    pub(super) const COLUMNS: usize = 32;

    /// The columns of a whole delivery, for [`Delivery::read`].
    pub(super) fn columns() -> String {
        format!(
            "{DELIVERY_COLUMNS}, seq, open, report, next_attempt_at, attempts, misses, ambiguous, \
             resends, unknown_since, resend_at, ended_at"
        )
    }

    pub(super) fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            record: read_delivery(row)?,
            hash: get(row, 10)?,
            seq: get(row, 21)?,
            open: get(row, 22)?,
            report: get(row, 23)?,
            next_attempt_at: Timestamp::from_micros(get(row, 24)?),
            attempts: count(row, 25)?,
            misses: count(row, 26)?,
            ambiguous: count(row, 27)?,
            resends: count(row, 28)?,
            unknown_since: instant_or_none(row, 29)?,
            resend_at: instant_or_none(row, 30)?,
            ended_at: instant_or_none(row, 31)?,
            changed: false,
            moved: false,
            through: Vec::new(),
        })
    }

    pub(super) fn lane(&self) -> Lane {
        Lane {
            widget: self.record.widget.to_string(),
            room: self.record.room.0.cast_signed(),
            sender: self.record.sender.as_str().to_owned(),
        }
    }

    pub(super) fn at_least_once(&self) -> bool {
        self.record.policy == Policy::AtLeastOnce
    }

    fn go(&mut self, state: DeliveryState, reason: Option<String>) {
        if self.moved {
            self.through.push((self.record.state, self.record.reason.take()));
        }
        (self.moved, self.changed) = (true, true);
        self.record.state = state;
        self.record.reason = reason;
    }

    fn ends(&mut self, now: Timestamp, bodies: Bodies) {
        (self.open, self.resend_at, self.ended_at) = (false, None, Some(now));
        if bodies == Bodies::Hash {
            self.record.text = None;
            self.record.text_sha256 = Some(self.hash.clone());
        }
    }
}

/// What is done together.
pub(super) struct Step {
    pub(super) now: Timestamp,
    pub(super) bodies: Bodies,
    pub(super) rows: BTreeMap<i64, Delivery>,
    pub(super) attempts: BTreeMap<(i64, u32), Attempt>,
    pub(super) lines: Lines,
    reports: Vec<DeliveryRecord>,
}

impl Step {
    pub(super) fn new(now: Timestamp, bodies: Bodies) -> Self {
        Self {
            now,
            bodies,
            rows: BTreeMap::new(),
            attempts: BTreeMap::new(),
            lines: Lines::default(),
            reports: Vec::new(),
        }
    }

    /// Reads deliveries whose lanes are locked.
    pub(super) async fn load(&mut self, tx: &Tx<'_>, seqs: &[i64]) -> Result<()> {
        if seqs.is_empty() {
            return Ok(());
        }
        let sql = format!("SELECT {} FROM delivery WHERE seq = ANY($1)", Delivery::columns());
        for row in tx.rows(&sql, params![seqs]).await? {
            self.add(Delivery::read(&row)?);
        }
        Ok(())
    }

    pub(super) fn add(&mut self, delivery: Delivery) {
        self.rows.insert(delivery.seq, delivery);
    }

    pub(super) fn lanes(&self) -> Lanes {
        self.rows.values().map(Delivery::lane).collect()
    }

    pub(super) fn row(&mut self, seq: i64) -> Result<&mut Delivery> {
        self.rows.get_mut(&seq).ok_or_else(|| unreadable("a delivery that is not there"))
    }

    /// A line of the ledger that tells the delivery as it stands now.
    fn line(&mut self, seq: i64) -> Result<()> {
        let (now, rows) = (self.now, &self.rows);
        let row = rows.get(&seq).ok_or_else(|| unreadable("a delivery that is not there"))?;
        self.lines.delivery(now, &row.record)
    }

    /// Tells the bot that asked for it what became of its delivery.
    fn report(&mut self, seq: i64) -> Result<()> {
        let row = self.row(seq)?;
        if row.report && row.record.bot.is_some() {
            let record = row.record.clone();
            self.reports.push(record);
        }
        Ok(())
    }

    /// queued → sending. The request may leave once this is committed.
    pub(super) fn start(&mut self, seq: i64) -> Result<()> {
        let row = self.row(seq)?;
        row.attempts += 1;
        row.go(DeliveryState::Sending, row.record.reason.clone());
        self.line(seq)
    }

    /// An ambiguous attempt became known: it no longer stands against the delivery.
    pub(super) fn known_late(&mut self, seq: i64) -> Result<()> {
        let row = self.row(seq)?;
        row.ambiguous = row.ambiguous.saturating_sub(1);
        row.changed = true;
        Ok(())
    }

    /// sending or unknown → delivered.
    pub(super) fn deliver(
        &mut self,
        seq: i64,
        message: MessageId,
        uuid: Option<&str>,
        time: Option<Timestamp>,
    ) -> Result<DeliveryState> {
        let (now, bodies) = (self.now, self.bodies);
        let row = self.row(seq)?;
        row.go(DeliveryState::Delivered, None);
        row.ends(now, bodies);
        row.record.server_message_id = Some(message);
        row.record.server_uuid = uuid.map(str::to_owned);
        row.record.server_time = time;
        self.line(seq)?;
        self.report(seq)?;
        Ok(DeliveryState::Delivered)
    }

    /// sending → queued, because it provably was not applied.
    pub(super) fn retry(&mut self, seq: i64, at: Timestamp, missed: bool) -> Result<DeliveryState> {
        let row = self.row(seq)?;
        row.go(DeliveryState::Queued, row.record.reason.clone());
        row.next_attempt_at = at;
        row.misses = if missed { row.misses + 1 } else { 0 };
        self.line(seq)?;
        Ok(DeliveryState::Queued)
    }

    /// sending → unknown, and when it moves on by itself.
    pub(super) fn turn_unknown(
        &mut self,
        seq: i64,
        settle: Settle,
        reason: &str,
    ) -> Result<DeliveryState> {
        let now = self.now;
        let row = self.row(seq)?;
        let at_least_once = row.at_least_once();
        let again = at_least_once && row.resends < settle.max_resends;
        row.go(DeliveryState::Unknown, Some(reason.to_owned()));
        row.open = again;
        row.resend_at = again.then(|| now + settle.wait);
        row.unknown_since = Some(now);
        row.ambiguous += 1;
        row.misses = 0;
        self.line(seq)?;
        if at_least_once && !again {
            // No resends are left, and waiting brings no knowledge.
            return self.end(seq, DeadReason::Unresolved);
        }
        self.report(seq)?;
        Ok(DeliveryState::Unknown)
    }

    /// queued, sending or unknown → dead. A row that ever had an ambiguous attempt ends as unresolved,
    /// whatever ends it: nobody may read "never applied" into it.
    pub(super) fn finish(&mut self, seq: i64, reason: DeadReason) -> Result<()> {
        let (now, bodies) = (self.now, self.bodies);
        let row = self.row(seq)?;
        let reason = if row.ambiguous > 0 { DeadReason::Unresolved } else { reason };
        row.go(DeliveryState::Dead, Some(reason.to_string()));
        row.ends(now, bodies);
        self.line(seq)
    }

    /// The same, and the bot is told.
    pub(super) fn end(&mut self, seq: i64, reason: DeadReason) -> Result<DeliveryState> {
        self.finish(seq, reason)?;
        self.report(seq)?;
        Ok(DeliveryState::Dead)
    }

    /// unknown → delivered, because a person has seen it there.
    pub(super) fn confirm(&mut self, seq: i64) -> Result<()> {
        let (now, bodies) = (self.now, self.bodies);
        let row = self.row(seq)?;
        row.go(DeliveryState::Delivered, Some("operator".into()));
        row.ends(now, bodies);
        self.line(seq)
    }

    /// dead or unknown → queued again, by time or by an operator. Its place in the lane is the old one.
    pub(super) fn requeue(&mut self, seq: i64, possible_duplicate: bool) -> Result<()> {
        let now = self.now;
        let row = self.row(seq)?;
        row.go(DeliveryState::Queued, None);
        row.open = true;
        (row.resend_at, row.ended_at, row.unknown_since) = (None, None, None);
        (row.next_attempt_at, row.misses) = (now, 0);
        row.record.possible_duplicate |= possible_duplicate;
        self.line(seq)
    }

    /// unknown → queued, `at_least_once` only: from here on it may have been applied twice.
    pub(super) fn resend(&mut self, seq: i64) -> Result<()> {
        let now = self.now;
        let row = self.row(seq)?;
        if row.record.expires_at <= now {
            return self.end(seq, DeadReason::Expired).map(drop);
        }
        row.resends += 1;
        self.requeue(seq, true)
    }

    /// Writes what has changed, says anew what the heads of these lanes are, and tells the bots and the
    /// ledger.
    pub(super) async fn commit(mut self, tx: &Tx<'_>, lanes: &Lanes) -> Result<()> {
        self.save(tx).await?;
        lanes.refresh(tx, self.now).await?;
        self.tell(tx).await
    }

    /// Tells the bots and the ledger: the last part of a step.
    pub(super) async fn tell(self, tx: &Tx<'_>) -> Result<()> {
        super::tell_bots(tx, self.now, &self.reports).await?;
        self.lines.append(tx).await
    }

    /// Writes what has changed since it was written last.
    pub(super) async fn save(&mut self, tx: &Tx<'_>) -> Result<()> {
        let changed: Vec<&Delivery> = self.rows.values().filter(|row| row.changed).collect();
        if !changed.is_empty() {
            let depth = changed.iter().map(|row| row.through.len()).max().unwrap_or_default();
            for level in 0..depth {
                pass_through(tx, &changed, level).await?;
            }
            write(tx, &changed).await?;
        }
        for row in self.rows.values_mut() {
            (row.changed, row.moved) = (false, false);
            row.through.clear();
        }
        super::attempt::save(tx, &mut self.attempts).await
    }
}

/// A state in which rows stayed for no longer than this step.
async fn pass_through(tx: &Tx<'_>, rows: &[&Delivery], level: usize) -> Result<()> {
    let mut columns = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        if let Some((state, reason)) = row.through.get(level) {
            columns.0.push(row.seq);
            columns.1.push(state.as_str());
            columns.2.push(reason.as_deref());
        }
    }
    tx.execute(
        "UPDATE delivery d SET state = n.state, reason = n.reason
         FROM unnest($1, $2, $3) AS n (seq, state, reason) WHERE d.seq = n.seq",
        params![columns.0, columns.1, columns.2],
    )
    .await?;
    Ok(())
}

async fn write(tx: &Tx<'_>, rows: &[&Delivery]) -> Result<()> {
    let numbers = |of: fn(&Delivery) -> i64| rows.iter().map(|row| of(row)).collect::<Vec<_>>();
    let flags = |of: fn(&Delivery) -> bool| rows.iter().map(|row| of(row)).collect::<Vec<_>>();
    let perhaps =
        |of: fn(&Delivery) -> Option<i64>| rows.iter().map(|row| of(row)).collect::<Vec<_>>();
    let states: Vec<&str> = rows.iter().map(|row| row.record.state.as_str()).collect();
    let reasons: Vec<Option<&str>> = rows.iter().map(|row| row.record.reason.as_deref()).collect();
    let uuids: Vec<Option<String>> = rows
        .iter()
        .map(|row| row.record.server_uuid.as_deref().map(|uuid| held(uuid).into_owned()))
        .collect();
    tx.execute(
        "UPDATE delivery d SET
             state = n.state, reason = n.reason, open = n.open, possible_duplicate = n.doubled,
             next_attempt_at = n.next_attempt_at, attempts = n.attempts, misses = n.misses,
             ambiguous = n.ambiguous, resends = n.resends, unknown_since = n.unknown_since,
             resend_at = n.resend_at, ended_at = n.ended_at, server_message_id = n.message,
             server_uuid = n.uuid, server_time = n.server_time,
             text = CASE WHEN n.keeps THEN d.text END
         FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
              AS n (seq, state, reason, open, doubled, next_attempt_at, attempts, misses, ambiguous,
                    resends, unknown_since, resend_at, ended_at, message, uuid, server_time, keeps)
         WHERE d.seq = n.seq",
        params![
            numbers(|row| row.seq),
            states,
            reasons,
            flags(|row| row.open),
            flags(|row| row.record.possible_duplicate),
            numbers(|row| row.next_attempt_at.as_micros()),
            numbers(|row| row.attempts.into()),
            numbers(|row| row.misses.into()),
            numbers(|row| row.ambiguous.into()),
            numbers(|row| row.resends.into()),
            perhaps(|row| row.unknown_since.map(Timestamp::as_micros)),
            perhaps(|row| row.resend_at.map(Timestamp::as_micros)),
            perhaps(|row| row.ended_at.map(Timestamp::as_micros)),
            perhaps(|row| row.record.server_message_id.map(|id| id.0.cast_signed())),
            uuids,
            perhaps(|row| row.record.server_time.map(Timestamp::as_micros)),
            flags(|row| row.record.text.is_some()),
        ],
    )
    .await?;
    Ok(())
}
