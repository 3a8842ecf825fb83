//! What is known of servers, a row per widget and source.

use async_trait::async_trait;

use super::PostgresStore;
use super::row::{from_json, get, instant, to_json};
use super::tx::params;
use crate::capabilities::{Knowledge, Learned, Source};
use crate::error::Result;

#[async_trait]
impl Knowledge for PostgresStore {
    async fn learn(&self, learned: Learned) -> Result<()> {
        let body = to_json(&learned.capabilities)?;
        self.link
            .write(async move |tx| {
                tx.execute(
                    "INSERT INTO capability (widget, source, at, body) VALUES ($1, $2, $3, $4)
                     ON CONFLICT (widget, source) DO UPDATE
                     SET at = excluded.at, body = excluded.body",
                    params![
                        learned.widget.as_str(),
                        learned.source.as_str(),
                        learned.at.as_micros(),
                        body
                    ],
                )
                .await?;
                Ok(())
            })
            .await
    }

    async fn learned(&self) -> Result<Vec<Learned>> {
        self.link
            .read(async |tx| {
                let rows =
                    tx.rows("SELECT widget, source, at, body FROM capability", params![]).await?;
                let mut all = Vec::new();
                for row in &rows {
                    let (widget, source): (&str, &str) = (get(row, 0)?, get(row, 1)?);
                    let source = Source::ALL.into_iter().find(|known| known.as_str() == source);
                    // What a hand or another version wrote is nobody's loss.
                    let (Ok(widget), Some(source)) = (widget.parse(), source) else { continue };
                    let Ok(capabilities) = from_json(get(row, 3)?) else { continue };
                    all.push(Learned { widget, source, at: instant(row, 2)?, capabilities });
                }
                // By bytes, whatever the database's collation is.
                all.sort_by(|a, b| {
                    (&a.widget, a.source.as_str()).cmp(&(&b.widget, b.source.as_str()))
                });
                Ok(all)
            })
            .await
    }
}
