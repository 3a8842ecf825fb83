//! What operators do and look at.

mod acts;

use async_trait::async_trait;
use imbabot_bot::{BotName, DeliveryId};
use imbabot_core::Timestamp;

use super::inbox::{RECORD, record_of};
use super::journal::{self, DELIVERY_COLUMNS};
use super::row::{get, number, parsed, unreadable};
use super::tx::{Tx, params};
use super::{PostgresStore, care, inbox, outbox, retention};
use crate::error::Result;
use crate::inbox::EventRecord;
use crate::operations::{
    Backlog, CancelFilter, Care, DeliveryFilter, Operations, PauseScope, Resolution, RetryVerdict,
    SignOfLife, StateCount, Tally,
};
use crate::outbox::{DeadReason, DeliveryRecord, DeliveryState};
pub(super) use acts::acted;
use acts::{Found, Part, cancel, pause, release_lanes, retry};

#[async_trait]
impl Operations for PostgresStore {
    async fn pause(&self, now: Timestamp, scope: &PauseScope, paused: bool) -> Result<bool> {
        let scope = scope.to_string();
        let changed = self.link.write(async move |tx| pause(tx, now, &scope, paused).await).await?;
        if !paused {
            // Also if nothing was paused: who resumed before may not have come to the end of this.
            let mut held = None;
            loop {
                let after = held;
                held = self
                    .link
                    .write(async move |tx| release_lanes(tx, now, after.clone()).await)
                    .await?;
                if held.is_none() {
                    break;
                }
            }
        }
        Ok(changed)
    }

    async fn paused(&self) -> Result<Vec<PauseScope>> {
        self.link
            .read(async |tx| {
                let rows = tx
                    .rows(
                        "SELECT scope FROM stoppage WHERE reason = 'paused' AND until IS NULL
                         ORDER BY scope COLLATE \"C\"",
                        params![],
                    )
                    .await?;
                rows.iter().map(|row| scope_of(get(row, 0)?)).collect()
            })
            .await
    }

    async fn deliveries(&self, filter: &DeliveryFilter) -> Result<Vec<DeliveryRecord>> {
        let filter = filter.clone();
        self.link
            .read(async move |tx| {
                let sql = format!(
                    "SELECT {DELIVERY_COLUMNS} FROM delivery
                     WHERE ($1 IS NULL OR state = $1) AND ($2 IS NULL OR created_at >= $2)
                     ORDER BY seq DESC LIMIT $3"
                );
                let state = filter.state.map(DeliveryState::as_str);
                let since = filter.since.map(Timestamp::as_micros);
                let limit = filter.limit.map(|n| i64::try_from(n).unwrap_or(i64::MAX));
                let rows = tx.rows(&sql, params![state, since, limit]).await?;
                rows.iter().map(journal::read_delivery).collect()
            })
            .await
    }

    async fn cancel(&self, now: Timestamp, filter: &CancelFilter) -> Result<Vec<DeliveryId>> {
        let bodies = self.bodies;
        let (mut all, mut rest) = (Vec::new(), Some(Part::default()));
        while let Some(part) = rest {
            let filter = filter.clone();
            let (cancelled, more) = self
                .link
                .write(async move |tx| cancel(tx, now, &filter, part, bodies).await)
                .await?;
            all.extend(cancelled);
            rest = more;
        }
        Ok(all)
    }

    async fn retry(
        &self,
        now: Timestamp,
        id: DeliveryId,
        accept_duplicate: bool,
    ) -> Result<RetryVerdict> {
        self.link
            .write(async move |tx| {
                let Some(found) = Found::lock(tx, id).await? else {
                    return Ok(RetryVerdict::Missing);
                };
                let verdict = retry(tx, now, id, &found, accept_duplicate).await?;
                found.lane.refresh(tx, now).await?;
                Ok(verdict)
            })
            .await
    }

    async fn resolve(
        &self,
        now: Timestamp,
        id: DeliveryId,
        as_: Resolution,
    ) -> Result<Option<DeliveryState>> {
        let bodies = self.bodies;
        self.link
            .write(async move |tx| {
                let Some(found) = Found::lock(tx, id).await? else { return Ok(None) };
                if found.state == DeliveryState::Unknown {
                    let seq = found.seq;
                    let record = match as_ {
                        Resolution::Delivered => outbox::confirm(tx, now, seq, bodies).await?,
                        Resolution::Dead => {
                            outbox::finish(tx, now, seq, DeadReason::Unresolved, bodies).await?
                        }
                    };
                    outbox::report(tx, now, &record).await?;
                    let (target, after) = (format!("delivery/{id}"), record.state.as_str());
                    acted(tx, now, "deliveries resolve", &target, "unknown", after).await?;
                }
                found.lane.refresh(tx, now).await?;
                Ok(Some(found.state))
            })
            .await
    }

    async fn events(&self, poisoned_only: bool, limit: usize) -> Result<Vec<EventRecord>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.link
            .read(async move |tx| {
                let condition = if poisoned_only { "WHERE i.state = 'poisoned'" } else { "" };
                let sql = format!(
                    "{RECORD} {condition} ORDER BY i.event DESC, i.bot COLLATE \"C\" LIMIT $1"
                );
                tx.rows(&sql, params![limit]).await?.iter().map(record_of).collect()
            })
            .await
    }

    async fn retry_event(&self, now: Timestamp, id: &str) -> Result<bool> {
        let id = id.to_owned();
        self.link
            .write(async move |tx| {
                let Some((event, bot)) = id.strip_prefix('e').and_then(|id| id.split_once('/'))
                else {
                    return Ok(false);
                };
                let Ok(event) = event.parse::<i64>() else { return Ok(false) };
                let revived = inbox::revive(tx, now, bot, event).await?;
                if revived {
                    let target = format!("event/{id}");
                    acted(tx, now, "events retry", &target, "poisoned", "waiting").await?;
                }
                Ok(revived)
            })
            .await
    }

    async fn tally(&self) -> Result<Tally> {
        self.link.read(async |tx| tally(tx).await).await
    }

    async fn backlog(&self, limit: usize) -> Result<Backlog> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.link.read(async move |tx| backlog(tx, limit).await).await
    }

    async fn prune(&self, now: Timestamp, before: Timestamp, limit: usize) -> Result<u64> {
        let stoppages =
            self.link.write(async move |tx| retention::stoppages(tx, before).await).await?;
        let records = self
            .link
            .write(async move |tx| {
                // Of processes that are long gone.
                tx.execute("DELETE FROM mark WHERE at < now() - interval '30 days'", params![])
                    .await?;
                retention::prune(tx, now, before, limit).await
            })
            .await?;
        Ok(records + stoppages)
    }

    async fn check_integrity(&self, thorough: bool) -> Result<Option<String>> {
        care::check(&self.link, thorough).await
    }

    async fn cared(&self, care: Care) -> Result<()> {
        self.link.write(async move |tx| care::cared(tx, &care).await).await
    }

    async fn care(&self) -> Result<Vec<Care>> {
        self.link.read(async |tx| care::care(tx).await).await
    }

    async fn sign(&self, sign: SignOfLife) -> Result<()> {
        self.link.write(async move |tx| care::sign(tx, &sign).await).await
    }

    async fn last_sign(&self) -> Result<Option<SignOfLife>> {
        self.link.read(async |tx| care::last_sign(tx).await).await
    }
}

fn scope_of(text: &str) -> Result<PauseScope> {
    Ok(match text.split_once('/') {
        None => PauseScope::All,
        Some(("widget", name)) => PauseScope::Widget(name.parse().map_err(|_| unreadable(name))?),
        Some((_, name)) => PauseScope::Bot(name.parse().map_err(|_| unreadable(name))?),
    })
}

/// Each list goes by an index that holds it in this order.
async fn backlog(tx: &Tx<'_>, limit: i64) -> Result<Backlog> {
    let list = async |rest: &str| -> Result<Vec<DeliveryRecord>> {
        let sql = format!("SELECT {DELIVERY_COLUMNS} FROM delivery {rest} LIMIT $1");
        tx.rows(&sql, params![limit]).await?.iter().map(journal::read_delivery).collect()
    };
    Ok(Backlog {
        unknown: list("WHERE state = 'unknown' ORDER BY unknown_since").await?,
        queued: list("WHERE state = 'queued' ORDER BY expires_at").await?,
        events: by_bot(tx, "state IN ('waiting', 'running')").await?,
    })
}

/// How many entries of the inbox each bot has.
async fn by_bot(tx: &Tx<'_>, condition: &str) -> Result<Vec<(BotName, u64)>> {
    let sql = format!(
        "SELECT bot, count(*) FROM inbox WHERE {condition} GROUP BY bot ORDER BY bot COLLATE \"C\""
    );
    let rows = tx.rows(&sql, params![]).await?;
    rows.iter().map(|row| Ok((parsed(row, 0)?, number(row, 1)?))).collect()
}

async fn tally(tx: &Tx<'_>) -> Result<Tally> {
    let rows = tx
        .rows(
            "SELECT state, reason, sum(present)::bigint, sum(total)::bigint
             FROM delivery_count GROUP BY 1, 2 ORDER BY 1, 2",
            params![],
        )
        .await?;
    let mut tally = Tally::default();
    for row in &rows {
        let reason: String = get(row, 1)?;
        tally.deliveries.push(StateCount {
            state: parsed(row, 0)?,
            reason: (!reason.is_empty()).then_some(reason),
            present: number(row, 2)?,
            total: number(row, 3)?,
        });
    }
    let row = tx
        .row(
            "SELECT coalesce((SELECT sum(total)::bigint FROM doubled_count), 0),
                    (SELECT count(*) FROM inbox WHERE state IN ('waiting', 'running'))",
            params![],
        )
        .await?;
    tally.possible_duplicates = number(&row, 0)?;
    tally.events_waiting = number(&row, 1)?;
    tally.events_poisoned = by_bot(tx, "state = 'poisoned'").await?;
    Ok(tally)
}
