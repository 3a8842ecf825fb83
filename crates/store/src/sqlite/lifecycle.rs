//! Beginning and ending a run.

use async_trait::async_trait;
use imbabot_bot::WidgetName;
use imbabot_core::{Timestamp, WidgetId};
use rusqlite::{Connection, OptionalExtension, params};

use super::witness::Witness;
use super::{Bodies, SqliteStore};
use super::{inbox, outbox};
use super::{journal, provenance};
use crate::error::{Error, ErrorKind, Result};
use crate::lifecycle::{Begun, IncarnationId, IncarnationRecord, Lifecycle, Settle};
use crate::outbox::Class;

#[async_trait]
impl Lifecycle for SqliteStore {
    async fn begin(&self, now: Timestamp, version: &str, settle: Settle) -> Result<Begun> {
        let (version, bodies) = (version.to_owned(), self.bodies);
        let (begun, reached) = self
            .link
            .write(move |tx| {
                let open: Vec<IncarnationRecord> = {
                    let mut statement = tx.prepare(
                        "SELECT id, started_at, version FROM incarnation WHERE ended_at IS NULL",
                    )?;
                    let mut rows = statement.query([])?;
                    let mut open = Vec::new();
                    while let Some(row) = rows.next()? {
                        open.push(IncarnationRecord {
                            id: IncarnationId(row.get(0)?),
                            started_at: journal::instant(row, 1)?,
                            ended_at: Some(now),
                            clean: Some(false),
                            version: row.get(2)?,
                            instance: None,
                        });
                    }
                    open
                };
                for record in &open {
                    tx.execute(
                        "UPDATE incarnation SET ended_at = ?2, clean = 0 WHERE id = ?1",
                        params![record.id.0, now.as_micros()],
                    )?;
                    journal::incarnation(tx, now, record)?;
                }
                let after_crash = !open.is_empty();
                tx.execute(
                    "INSERT INTO incarnation (started_at, version) VALUES (?1, ?2)",
                    params![now.as_micros(), version],
                )?;
                let incarnation = IncarnationId(tx.last_insert_rowid());
                let record = IncarnationRecord {
                    id: incarnation,
                    started_at: now,
                    ended_at: None,
                    clean: None,
                    version,
                    instance: None,
                };
                journal::incarnation(tx, now, &record)?;
                super::explanations::breakers_end(tx, now)?;
                let turned_unknown = sending_becomes_unknown(tx, now, settle, bodies)?;
                // A run that ended by itself gave its tries back in `end`.
                let interrupted_events = inbox::stop_all(tx, now, after_crash)?;
                let begun = Begun { incarnation, after_crash, turned_unknown, interrupted_events };
                Ok((begun, provenance::reached(tx)?))
            })
            .await?;
        self.witness(&reached)?;
        Ok(begun)
    }

    async fn adopt_widgets(&self, widgets: &[(WidgetName, WidgetId)]) -> Result<()> {
        let widgets = widgets.to_vec();
        self.link
            .write(move |tx| {
                for (name, id) in &widgets {
                    let known: Option<i64> = tx
                        .query_row(
                            "SELECT imba_id FROM widget WHERE name = ?1",
                            [name.as_str()],
                            |row| row.get(0),
                        )
                        .optional()?;
                    match known.map(i64::cast_unsigned) {
                        Some(known) if known != id.0 => {
                            return Err(Error::new(
                                ErrorKind::OtherWidget,
                                format!(
                                    "the widget {name} had the id {known} in this store and has \
                                     {id} now: rooms and queued messages of {known} would be taken \
                                     for its own"
                                ),
                            ));
                        }
                        Some(_) => {}
                        None => {
                            tx.execute(
                                "INSERT INTO widget (name, imba_id) VALUES (?1, ?2)",
                                params![name.as_str(), id.0.cast_signed()],
                            )?;
                        }
                    }
                }
                Ok(())
            })
            .await
    }

    async fn end(&self, incarnation: IncarnationId, now: Timestamp) -> Result<()> {
        let reached = self
            .link
            .write(move |tx| {
                let changed = tx.execute(
                    "UPDATE incarnation SET ended_at = ?2, clean = 1
                     WHERE id = ?1 AND ended_at IS NULL",
                    params![incarnation.0, now.as_micros()],
                )?;
                // A run that has ended already owns nothing that is running now.
                if changed > 0 {
                    inbox::stop_all(tx, now, false)?;
                    let record = tx.query_row(
                        "SELECT started_at, version FROM incarnation WHERE id = ?1",
                        [incarnation.0],
                        |row| {
                            Ok(IncarnationRecord {
                                id: incarnation,
                                started_at: Timestamp::from_micros(row.get(0)?),
                                ended_at: Some(now),
                                clean: Some(true),
                                version: row.get(1)?,
                                instance: None,
                            })
                        },
                    )?;
                    journal::incarnation(tx, now, &record)?;
                }
                provenance::reached(tx)
            })
            .await?;
        self.witness(&reached)
    }

    async fn in_use(&self) -> Result<()> {
        let Some(path) = self.path.clone() else { return Ok(()) };
        let look = move |tx: &Connection| {
            let witness = Witness::of(&path);
            // Before the store is: where one runs, it is never ahead of it.
            let seen = witness.read();
            provenance::believe(tx, &path, &witness, seen).map(drop)
        };
        self.link.read(look).await
    }

    async fn changed_by_another(&self) -> Result<bool> {
        self.link.changed().await
    }

    async fn stirred(&self) {
        self.link.stirred().await;
    }
}

/// Nobody will ever hear the answers to what was on its way.
pub(super) fn sending_becomes_unknown(
    tx: &rusqlite::Connection,
    now: Timestamp,
    settle: Settle,
    bodies: Bodies,
) -> Result<u64> {
    let sending: Vec<(i64, u32)> = tx
        .prepare("SELECT seq, attempts FROM delivery WHERE state = 'sending'")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for (seq, attempt) in &sending {
        let end = outbox::AttemptEnd {
            class: Class::Ambiguous,
            code: "process_died",
            http_status: None,
            detail: None,
        };
        outbox::end_attempt(tx, now, *seq, *attempt, &end)?;
        outbox::turn_unknown(tx, now, *seq, settle, "process_died", bodies)?;
    }
    Ok(sending.len() as u64)
}
