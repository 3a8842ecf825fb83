//! Entries of the inbox, bots' memory and wakes. Of the entries of one bot in one lane the first may be
//! claimed, and only while none of them runs: that is asked for when they are claimed. An entry is only
//! ever moved on by the run that handles it, or for that run once it is over.

mod arrive;
mod attribute;
mod claim;
mod entry;
mod handled;
mod heads;
mod limits;
mod memory;

use async_trait::async_trait;
use imbabot_bot::{BotName, WidgetName};
use imbabot_core::Timestamp;

use super::PostgresStore;
use super::row::{from_json, get, held};
use super::tx::params;
use crate::error::Result;
use crate::inbox::{EventClaim, EventEntry, EventOutcome, Handled, HandledOutcome, Inbox};

pub(super) use arrive::insert_events;
pub(super) use entry::{RECORD, end_entry, record_of, revive, stop};
pub(super) use heads::Turns;

#[async_trait]
impl Inbox for PostgresStore {
    async fn adopt_bots(&self, now: Timestamp, bots: &[BotName]) -> Result<()> {
        let bots: Vec<String> = bots.iter().map(ToString::to_string).collect();
        self.link.write(async move |tx| entry::adopt(tx, now, &bots).await).await
    }

    async fn claim_events(
        &self,
        claim: EventClaim,
    ) -> Result<(Vec<EventEntry>, Option<Timestamp>)> {
        let turns = self.turns.clone();
        self.link.fenced(async move |tx| claim::claim(tx, &claim, &turns).await).await
    }

    async fn commit_handled(&self, handled: Handled) -> Result<HandledOutcome> {
        let bodies = self.bodies;
        self.link.fenced(async move |tx| handled::commit(tx, &handled, bodies).await).await
    }

    async fn fail_event(
        &self,
        entry: &EventEntry,
        now: Timestamp,
        reason: &str,
        retry_at: Option<Timestamp>,
    ) -> Result<()> {
        let (entry, reason) = (entry.clone(), reason.to_owned());
        self.link
            .fenced(async move |tx| {
                if !entry::runs(tx, &entry).await? {
                    // A late word of a try that was given up: another one decides.
                    return Ok(());
                }
                let (bot, event) = (entry.bot.as_str(), entry.event);
                match retry_at {
                    Some(at) => entry::put_back(tx, &entry, at, entry.tries, Some(&reason)).await,
                    None => {
                        let outcome = EventOutcome::Poisoned;
                        end_entry(tx, now, bot, event, outcome, Some(&reason)).await
                    }
                }
            })
            .await
    }

    async fn give_back(&self, entry: &EventEntry, due_at: Timestamp) -> Result<()> {
        let entry = entry.clone();
        self.link
            .fenced(async move |tx| {
                if !entry::runs(tx, &entry).await? {
                    return Ok(());
                }
                // A suspect stays one: it has not shown yet whether it kills.
                tx.execute(
                    "UPDATE inbox SET state = 'waiting', owner = NULL, due_at = $3,
                         tries = tries - 1
                     WHERE bot = $1 AND event = $2",
                    params![entry.bot.as_str(), entry.event, due_at.as_micros()],
                )
                .await?;
                Ok(())
            })
            .await
    }

    async fn release_running(&self, now: Timestamp) -> Result<()> {
        self.link
            .fenced(async move |tx| {
                // A process without a run has no entries of its own to be told from others'.
                tx.execute(
                    "UPDATE inbox SET state = 'waiting', owner = NULL, due_at = $1,
                         tries = tries - 1
                     WHERE state = 'running' AND ($2 IS NULL OR owner = $2)",
                    params![now.as_micros(), tx.session()],
                )
                .await?;
                Ok(())
            })
            .await
    }

    async fn remembered(
        &self,
        bot: &BotName,
        widget: &WidgetName,
        key: &str,
    ) -> Result<Option<(serde_json::Value, i64)>> {
        let (bot, widget, key) = (bot.clone(), widget.clone(), held(key).into_owned());
        self.link
            .read(async move |tx| {
                let found = tx
                    .maybe(
                        "SELECT value, version FROM memory
                         WHERE bot = $1 AND widget = $2 AND key = $3",
                        params![bot.as_str(), widget.as_str(), key],
                    )
                    .await?;
                found.map(|row| Ok((from_json(get(&row, 0)?)?, get(&row, 1)?))).transpose()
            })
            .await
    }

    async fn fire_wakes(&self, now: Timestamp) -> Result<(u64, Option<Timestamp>)> {
        self.link.fenced(async move |tx| arrive::fire_wakes(tx, now).await).await
    }
}
