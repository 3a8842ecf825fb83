//! Beginning and ending a run. Runs of other instances go on beside it; one that is over (its process
//! is this one, or its lease has run out) is ended first.

use async_trait::async_trait;
use imbabot_bot::WidgetName;
use imbabot_core::{Timestamp, WidgetId};

use super::fleet;
use super::row::get;
use super::tx::{Tx, params};
use super::{PostgresStore, explanations, inbox, journal, moving};
use crate::error::{Error, ErrorKind, Result};
use crate::lifecycle::{Begun, IncarnationId, IncarnationRecord, Lifecycle, Settle};

#[async_trait]
impl Lifecycle for PostgresStore {
    async fn begin(&self, now: Timestamp, version: &str, settle: Settle) -> Result<Begun> {
        let (version, bodies, options) = (version.to_owned(), self.bodies, self.options.clone());
        let begun = self
            .link
            .write(async move |tx| {
                moving::stays_here(tx).await?;
                let clock = fleet::clock(tx).await?;
                let own = tx.session();
                let mut ended = fleet::Ended::default();
                for over in fleet::over(tx, clock, own).await? {
                    ended.add(&fleet::end_killed(tx, now, over, settle, bodies).await?);
                }
                ended.turned_unknown += fleet::left_sending(tx, now, settle, bodies).await?;
                let row = tx
                    .row(
                        "INSERT INTO incarnation (started_at, version) VALUES ($1, $2) RETURNING id",
                        params![now.as_micros(), version],
                    )
                    .await?;
                let incarnation = IncarnationId(get(&row, 0)?);
                fleet::lease(tx, incarnation, &options, clock).await?;
                let record = IncarnationRecord {
                    id: incarnation,
                    started_at: now,
                    ended_at: None,
                    clean: None,
                    version: version.clone(),
                    instance: Some(options.instance.clone()),
                };
                journal::incarnation(tx, now, &record).await?;
                if fleet::alive(tx).await? <= 1 {
                    // Breakers are remembered by those who go on.
                    explanations::breakers_end(tx, now).await?;
                }
                Ok(Begun {
                    incarnation,
                    after_crash: ended.runs > 0,
                    turned_unknown: ended.turned_unknown,
                    interrupted_events: ended.interrupted_events,
                })
            })
            .await?;
        self.link.set_session(Some(begun.incarnation.0));
        Ok(begun)
    }

    async fn adopt_widgets(&self, widgets: &[(WidgetName, WidgetId)]) -> Result<()> {
        let names: Vec<String> = widgets.iter().map(|(name, _)| name.to_string()).collect();
        let ids: Vec<i64> = widgets.iter().map(|(_, id)| id.0.cast_signed()).collect();
        self.link
            .write(async move |tx| {
                tx.execute(
                    "INSERT INTO widget (name, imba_id)
                     SELECT * FROM unnest($1, $2) AS w (name, id) ORDER BY 1
                     ON CONFLICT (name) DO NOTHING",
                    params![names, ids],
                )
                .await?;
                let other = tx
                    .maybe(
                        "SELECT k.name, w.imba_id, k.id FROM unnest($1, $2) AS k (name, id)
                         JOIN widget w USING (name) WHERE w.imba_id <> k.id ORDER BY 1 LIMIT 1",
                        params![names, ids],
                    )
                    .await?;
                let Some(row) = other else { return Ok(()) };
                let name: &str = get(&row, 0)?;
                let known = get::<i64>(&row, 1)?.cast_unsigned();
                let id = get::<i64>(&row, 2)?.cast_unsigned();
                Err(Error::new(
                    ErrorKind::OtherWidget,
                    format!(
                        "the widget {name} had the id {known} in this store and has {id} now: rooms \
                         and queued messages of {known} would be taken for its own"
                    ),
                ))
            })
            .await
    }

    async fn end(&self, incarnation: IncarnationId, now: Timestamp) -> Result<()> {
        self.link.write(async move |tx| end_cleanly(tx, incarnation, now).await).await?;
        if self.link.session() == Some(incarnation.0) {
            self.link.set_session(None);
        }
        Ok(())
    }

    async fn in_use(&self) -> Result<()> {
        self.link.read(moving::still_here).await
    }

    async fn changed_by_another(&self) -> Result<bool> {
        let least = self.link.taken().least();
        let counter = self
            .link
            .read(async |tx| {
                let row = tx
                    .row(
                        "SELECT coalesce(pg_sequence_last_value(
                             pg_get_serial_sequence('ledger', 'seq')::regclass), 0)",
                        params![],
                    )
                    .await?;
                get::<i64>(&row, 0)
            })
            .await?;
        // What is under way of ours may be in the counter or not: it is taken for another's now, once,
        // and hides nothing of another's later.
        let (others, at_least) = (counter - least, counter - self.link.taken().most());
        let mut seen = self.link.seen().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(seen.replace(at_least).is_some_and(|before| others > before))
    }
}

async fn end_cleanly(tx: &Tx<'_>, incarnation: IncarnationId, now: Timestamp) -> Result<()> {
    let row = tx
        .maybe(
            "UPDATE incarnation SET ended_at = $2, clean = TRUE WHERE id = $1 AND ended_at IS NULL
             RETURNING started_at, version,
                       (SELECT name FROM lease WHERE incarnation = $1)",
            params![incarnation.0, now.as_micros()],
        )
        .await?;
    // A run that has ended already owns nothing that is running now.
    let Some(row) = row else { return Ok(()) };
    inbox::stop(tx, now, &[incarnation.0], false).await?;
    fleet::give_up_all(tx, incarnation, now).await?;
    let record = IncarnationRecord {
        id: incarnation,
        started_at: Timestamp::from_micros(get(&row, 0)?),
        ended_at: Some(now),
        clean: Some(true),
        version: get(&row, 1)?,
        instance: get(&row, 2)?,
    };
    journal::incarnation(tx, now, &record).await
}
