//! What is known of servers, a row per widget and source.

use async_trait::async_trait;
use imbabot_core::Timestamp;
use rusqlite::params;

use super::SqliteStore;
use super::journal::{from_json, to_json};
use crate::capabilities::{Knowledge, Learned, Source};
use crate::error::Result;

#[async_trait]
impl Knowledge for SqliteStore {
    async fn learn(&self, learned: Learned) -> Result<()> {
        let body = to_json(&learned.capabilities)?;
        self.link
            .write(move |tx| {
                tx.prepare_cached(
                    "INSERT INTO capability (widget, source, at, body) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (widget, source) DO UPDATE
                     SET at = excluded.at, body = excluded.body",
                )?
                .execute(params![
                    learned.widget.as_str(),
                    learned.source.as_str(),
                    learned.at.as_micros(),
                    body
                ])?;
                Ok(())
            })
            .await
    }

    async fn learned(&self) -> Result<Vec<Learned>> {
        self.link
            .read(|tx| {
                let mut statement = tx.prepare_cached(
                    "SELECT widget, source, at, body FROM capability ORDER BY widget, source",
                )?;
                let mut rows = statement.query([])?;
                let mut all = Vec::new();
                while let Some(row) = rows.next()? {
                    let (widget, source): (String, String) = (row.get(0)?, row.get(1)?);
                    let source = Source::ALL.into_iter().find(|known| known.as_str() == source);
                    // What a hand or another version wrote is nobody's loss.
                    let (Ok(widget), Some(source)) = (widget.parse(), source) else { continue };
                    let at = Timestamp::from_micros(row.get(2)?);
                    let Ok(capabilities) = from_json(&row.get::<_, String>(3)?) else { continue };
                    all.push(Learned { widget, source, at, capabilities });
                }
                Ok(all)
            })
            .await
    }
}
