//! Deliveries and attempts. The arrows of the state machine are the moves of a [`Step`]; no other
//! module writes `delivery.state`. What others do to deliveries goes through the functions here; who
//! calls them has locked the lanes. Each says the heads of its lanes anew, so that nothing is left to
//! be done after it.

mod attempt;
mod claim;
mod hold;
mod insert;
mod rate;
mod settle;
mod step;
mod sweep;

use async_trait::async_trait;
use imbabot_bot::{DeliveryId, WidgetName};
use imbabot_core::Timestamp;

pub(super) use insert::insert_all;
pub(super) use settle::Outcomes;

use super::journal::{DELIVERY_COLUMNS, read_delivery};
use super::lane::{Lane, Lanes};
use super::row::{get, unreadable};
use super::tx::{Tx, params};
use super::{Bodies, PostgresStore};
use crate::error::Result;
use crate::inbox::{EventBody, NewEvent};
use crate::lifecycle::Settle;
use crate::outbox::{
    ClaimRequest, Claimed, Class, DeadReason, DeliveryRecord, DeliveryState, Enqueued, NewDelivery,
    Outbox, Recorded, Settled,
};
use attempt::AttemptEnd;
use step::Step;

#[async_trait]
impl Outbox for PostgresStore {
    async fn enqueue(&self, now: Timestamp, deliveries: Vec<NewDelivery>) -> Result<Vec<Enqueued>> {
        let bodies = self.bodies;
        self.link.write(async move |tx| insert_all(tx, now, &deliveries, bodies).await).await
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Claimed> {
        let bodies = self.bodies;
        self.link.fenced(async move |tx| claim::claim(tx, &request, bodies).await).await
    }

    async fn settle(
        &self,
        now: Timestamp,
        settle: Settle,
        outcomes: Vec<Settled>,
    ) -> Result<Vec<Recorded>> {
        let bodies = self.bodies;
        // Never fenced: what is known of an attempt is the truth, whoever has taken over since.
        let told = (now, settle, outcomes);
        self.link
            .together(&self.outcomes, told, async move |tx, told| {
                settle::settle_all(tx, told, bodies).await
            })
            .await
    }

    async fn hold_widget(&self, widget: &WidgetName, until: Timestamp) -> Result<()> {
        let key = rate::silence_key(widget.as_str());
        self.link
            .write(async move |tx| {
                // A hold that ends long after this one was written before the clock went back.
                tx.execute(
                    "INSERT INTO rate AS r (key, tat) VALUES ($1, $2)
                     ON CONFLICT (key) DO UPDATE SET tat = CASE WHEN r.tat > $3 THEN excluded.tat
                         ELSE greatest(r.tat, excluded.tat) END",
                    params![key, until.as_micros(), (until + rate::LONGEST_SILENCE).as_micros()],
                )
                .await?;
                Ok(())
            })
            .await
    }

    async fn sweep(
        &self,
        now: Timestamp,
        settle: Settle,
        limit: usize,
    ) -> Result<(u64, Option<Timestamp>)> {
        let bodies = self.bodies;
        self.link.fenced(async move |tx| sweep::sweep(tx, now, settle, limit, bodies).await).await
    }

    async fn give_up_sending(&self, now: Timestamp, settle: Settle) -> Result<u64> {
        let bodies = self.bodies;
        self.link
            .write(async move |tx| {
                // Others' requests are on their way still.
                let own = tx.session().map(|run| [run]);
                let runs = own.as_ref().map(<[i64; 1]>::as_slice);
                sending_becomes_unknown(tx, now, settle, bodies, runs).await
            })
            .await
    }

    async fn delivery(&self, id: DeliveryId) -> Result<Option<DeliveryRecord>> {
        self.link
            .read(async move |tx| {
                let sql = format!("SELECT {DELIVERY_COLUMNS} FROM delivery WHERE id = $1");
                let found = tx.maybe(&sql, params![id.as_bytes().as_slice()]).await?;
                found.as_ref().map(read_delivery).transpose()
            })
            .await
    }

    async fn waits_behind_others(&self, id: DeliveryId) -> Result<bool> {
        self.link
            .read(async move |tx| {
                let found = tx
                    .maybe(
                        "SELECT seq FROM delivery WHERE id = $1 AND open",
                        params![id.as_bytes().as_slice()],
                    )
                    .await?;
                // What has ended waits for nobody.
                let Some(row) = found else { return Ok(false) };
                let seq: i64 = get(&row, 0)?;
                let head = Lane::of(tx, seq).await?.head(tx).await?;
                Ok(head.is_some_and(|(first, _, _)| first != seq))
            })
            .await
    }
}

/// Nobody will ever hear the answers to what was on its way: of these runs, or of all. How many that
/// were.
pub(super) async fn sending_becomes_unknown(
    tx: &Tx<'_>,
    now: Timestamp,
    settle: Settle,
    bodies: Bodies,
    runs: Option<&[i64]>,
) -> Result<u64> {
    let rows = match runs {
        None => tx.rows("SELECT seq FROM delivery WHERE state = 'sending'", params![]).await?,
        Some(runs) => {
            tx.rows(
                "SELECT d.seq FROM attempt a JOIN delivery d ON d.id = a.delivery
                 WHERE a.incarnation = ANY($1) AND a.ended_at IS NULL
                   AND d.state = 'sending' AND d.attempts = a.n",
                params![runs],
            )
            .await?
        }
    };
    let seqs: Vec<i64> = rows.iter().map(|row| get(row, 0)).collect::<Result<_>>()?;
    if seqs.is_empty() {
        return Ok(0);
    }
    let lanes = Lanes::of(tx, &seqs).await?;
    lanes.lock(tx).await?;
    let mut step = Step::new(now, bodies);
    step.load(tx, &seqs).await?;
    let last: Vec<(i64, u32)> = step.rows.values().map(|row| (row.seq, row.attempts)).collect();
    step.load_attempts(tx, &last).await?;
    let mut turned = 0;
    for (seq, n) in last {
        // Its outcome may have come while its lane was waited for, and another run may have it now.
        let sending = step.row(seq)?.record.state == DeliveryState::Sending;
        let whose = step.attempts.get(&(seq, n)).map(|attempt| attempt.record.incarnation.0);
        let theirs = runs.is_none_or(|runs| whose.is_some_and(|run| runs.contains(&run)));
        if !sending || !theirs {
            continue;
        }
        let end = AttemptEnd {
            class: Class::Ambiguous,
            code: "process_died",
            http_status: None,
            detail: None,
        };
        step.end_attempt(seq, n, &end)?;
        step.turn_unknown(seq, settle, "process_died")?;
        turned += 1;
    }
    step.commit(tx, &lanes).await?;
    Ok(turned)
}

/// A step over some deliveries whose lanes the caller has locked.
async fn step_over(
    tx: &Tx<'_>,
    now: Timestamp,
    seqs: &[i64],
    bodies: Bodies,
    mut go: impl FnMut(&mut Step, i64) -> Result<()>,
) -> Result<Vec<DeliveryRecord>> {
    let mut step = Step::new(now, bodies);
    step.load(tx, seqs).await?;
    let mut records = Vec::new();
    for seq in seqs {
        go(&mut step, *seq)?;
        records.push(step.row(*seq)?.record.clone());
    }
    let lanes = step.lanes();
    step.commit(tx, &lanes).await?;
    Ok(records)
}

fn only(mut records: Vec<DeliveryRecord>) -> Result<DeliveryRecord> {
    records.pop().ok_or_else(|| unreadable("a delivery that is not there"))
}

/// queued, sending or unknown → dead, in the given order. A row that ever had an ambiguous attempt ends
/// as unresolved, whatever ends it. Tells no bot: see [`report`].
pub(super) async fn finish_all(
    tx: &Tx<'_>,
    now: Timestamp,
    seqs: &[i64],
    reason: DeadReason,
    bodies: Bodies,
) -> Result<Vec<DeliveryRecord>> {
    step_over(tx, now, seqs, bodies, |step, seq| step.finish(seq, reason)).await
}

/// The same for one.
pub(super) async fn finish(
    tx: &Tx<'_>,
    now: Timestamp,
    seq: i64,
    reason: DeadReason,
    bodies: Bodies,
) -> Result<DeliveryRecord> {
    only(finish_all(tx, now, &[seq], reason, bodies).await?)
}

/// unknown → delivered, because a person has seen it there. Tells no bot: see [`report`].
pub(super) async fn confirm(
    tx: &Tx<'_>,
    now: Timestamp,
    seq: i64,
    bodies: Bodies,
) -> Result<DeliveryRecord> {
    only(step_over(tx, now, &[seq], bodies, Step::confirm).await?)
}

/// dead or unknown → queued again, by time or by an operator. Its place in the lane is the old one.
pub(super) async fn requeue(
    tx: &Tx<'_>,
    now: Timestamp,
    seq: i64,
    possible_duplicate: bool,
) -> Result<()> {
    // A text that is queued is kept, whatever becomes of it later.
    let go = |step: &mut Step, seq| step.requeue(seq, possible_duplicate);
    step_over(tx, now, &[seq], Bodies::Full, go).await.map(drop)
}

/// Puts a delivery event into the inbox of each bot that asked to be told of one of these.
pub(super) async fn report_all(
    tx: &Tx<'_>,
    now: Timestamp,
    records: &[DeliveryRecord],
) -> Result<()> {
    let ids: Vec<&[u8]> = records
        .iter()
        .filter(|record| record.bot.is_some())
        .map(|record| record.id.as_bytes().as_slice())
        .collect();
    if ids.is_empty() {
        return Ok(());
    }
    let rows =
        tx.rows("SELECT id FROM delivery WHERE id = ANY($1) AND report", params![ids]).await?;
    let asked: Vec<DeliveryId> =
        rows.iter().map(|row| super::row::id(row, 0)).collect::<Result<_>>()?;
    let told: Vec<DeliveryRecord> =
        records.iter().filter(|record| asked.contains(&record.id)).cloned().collect();
    tell_bots(tx, now, &told).await
}

/// The same for one.
pub(super) async fn report(tx: &Tx<'_>, now: Timestamp, record: &DeliveryRecord) -> Result<()> {
    report_all(tx, now, std::slice::from_ref(record)).await
}

/// Tells bots that asked for it what became of their deliveries.
async fn tell_bots(tx: &Tx<'_>, now: Timestamp, records: &[DeliveryRecord]) -> Result<()> {
    let mut bots: Vec<&str> =
        records.iter().filter_map(|r| Some(r.bot.as_ref()?.as_str())).collect();
    bots.sort_unstable();
    bots.dedup();
    if bots.is_empty() {
        return Ok(());
    }
    // A bot that was removed meanwhile is told nothing any more: its entry would wait for nobody.
    let gone =
        tx.rows("SELECT name FROM bot WHERE name = ANY($1) AND NOT present", params![bots]).await?;
    let gone: Vec<&str> = gone.iter().map(|row| get(row, 0)).collect::<Result<_>>()?;
    let mut events = Vec::new();
    for record in records {
        let Some(bot) = record.bot.as_ref().filter(|bot| !gone.contains(&bot.as_str())) else {
            continue;
        };
        let prefix = format!("bot/{bot}/");
        events.push(NewEvent {
            widget: record.widget.clone(),
            at: now,
            body: EventBody::Delivery {
                delivery: record.id,
                key: record.key.strip_prefix(&prefix).map(str::to_owned),
                room: record.room,
                state: record.state.to_string(),
                reason: record.reason.clone(),
            },
            recipients: vec![bot.clone()],
        });
    }
    super::inbox::insert_events(tx, now, &events).await
}
