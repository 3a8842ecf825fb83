//! The lists, element by element.

use async_trait::async_trait;
use imbabot_bot::WidgetName;
use imbabot_core::{Room, RoomId, Timestamp, User};
use rusqlite::{OptionalExtension, params};
use serde::de::DeserializeOwned;

use super::SqliteStore;
use super::inbox::insert_event;
use super::journal::from_json;
use crate::error::Result;
use crate::snapshots::{ListKind, PollCommit, SnapshotIndex, Snapshots};

/// How many elements of an index are read at once: a reader is free again after some ten
/// milliseconds.
const INDEX_PAGE: usize = 10_000;

#[async_trait]
impl Snapshots for SqliteStore {
    async fn snapshot_index(&self, widget: &WidgetName, list: ListKind) -> Result<SnapshotIndex> {
        let mut index = self.list_times(widget, list).await?;
        let mut from = Some(i64::MIN);
        while let Some(first) = from {
            from = self.index_page(widget, list, first, &mut index).await?;
        }
        // SQLite orders ids as signed numbers; ours are not.
        index.listed.sort_unstable();
        index.gone.sort_unstable();
        Ok(index)
    }

    async fn baseline_at(&self, widget: &WidgetName, list: ListKind) -> Result<Option<Timestamp>> {
        let widget = widget.clone();
        self.link
            .read(move |tx| {
                let baseline: Option<Option<i64>> = tx
                    .prepare_cached("SELECT baseline_at FROM list WHERE widget = ?1 AND list = ?2")?
                    .query_row(params![widget.as_str(), list.as_str()], |row| row.get(0))
                    .optional()?;
                Ok(baseline.flatten().map(Timestamp::from_micros))
            })
            .await
    }

    async fn commit_poll(&self, poll: PollCommit) -> Result<()> {
        self.link
            .write(move |tx| {
                let (widget, list) = (poll.widget.as_str(), poll.list.as_str());
                let mut whole = tx.prepare_cached(
                    "INSERT INTO item (widget, list, id, hash, gone, body)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                     ON CONFLICT (widget, list, id) DO UPDATE
                     SET hash = excluded.hash, gone = excluded.gone, body = excluded.body",
                )?;
                let mut marks = tx.prepare_cached(
                    "UPDATE item SET hash = ?4, gone = ?5
                     WHERE widget = ?1 AND list = ?2 AND id = ?3",
                )?;
                for change in &poll.changes {
                    let (id, hash) = (change.id.cast_signed(), change.hash.cast_signed());
                    match &change.body {
                        Some(body) => {
                            whole.execute(params![widget, list, id, hash, change.gone, body])?;
                        }
                        None => {
                            marks.execute(params![widget, list, id, hash, change.gone])?;
                        }
                    }
                }
                for event in &poll.events {
                    insert_event(tx, poll.now, event)?;
                }
                if poll.last {
                    tx.prepare_cached(
                        "INSERT INTO list (widget, list, baseline_at, last_good_at)
                         VALUES (?1, ?2, ?3, ?3)
                         ON CONFLICT (widget, list) DO UPDATE
                         SET last_good_at = excluded.last_good_at,
                             baseline_at = coalesce(baseline_at, excluded.baseline_at)",
                    )?
                    .execute(params![widget, list, poll.now.as_micros()])?;
                }
                Ok(())
            })
            .await
    }

    async fn rooms_by_id(&self, widget: &WidgetName, ids: &[RoomId]) -> Result<Vec<Room>> {
        self.items_by_id(widget, ListKind::Rooms, ids.iter().map(|id| id.0).collect()).await
    }

    async fn users_by_id(&self, widget: &WidgetName, ids: &[u64]) -> Result<Vec<User>> {
        self.items_by_id(widget, ListKind::Users, ids.to_vec()).await
    }

    async fn rooms_after(
        &self,
        widget: &WidgetName,
        after: Option<RoomId>,
        limit: usize,
    ) -> Result<Vec<Room>> {
        let widget = widget.clone();
        self.link
            .read(move |tx| {
                // SQLite orders numbers as signed: the upper half of the ids lies below zero.
                let mut statement = tx.prepare_cached(
                    "SELECT body FROM item
                     WHERE widget = ?1 AND list = 'rooms' AND gone = 0 AND id BETWEEN ?2 AND ?3
                     ORDER BY id LIMIT ?4",
                )?;
                let half = 1 << 63;
                let first = match after {
                    None => Some(0),
                    Some(id) => id.0.checked_add(1),
                };
                let Some(first) = first else { return Ok(Vec::new()) };
                let mut found = Vec::new();
                for (from, to) in [(first, half - 1), (first.max(half), u64::MAX)] {
                    let left = i64::try_from(limit - found.len()).unwrap_or(i64::MAX);
                    if from > to || left == 0 {
                        continue;
                    }
                    let (from, to) = (from.cast_signed(), to.cast_signed());
                    let mut rows = statement.query(params![widget.as_str(), from, to, left])?;
                    while let Some(row) = rows.next()? {
                        found.push(from_json(&row.get::<_, String>(0)?)?);
                    }
                }
                Ok(found)
            })
            .await
    }
}

impl SqliteStore {
    async fn list_times(&self, widget: &WidgetName, list: ListKind) -> Result<SnapshotIndex> {
        let widget = widget.clone();
        self.link
            .read(move |tx| {
                let mut index = SnapshotIndex::default();
                let times = tx
                    .query_row(
                        "SELECT baseline_at, last_good_at FROM list WHERE widget = ?1 AND list = ?2",
                        params![widget.as_str(), list.as_str()],
                        |row| Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<i64>>(1)?)),
                    )
                    .optional()?;
                if let Some((baseline, last)) = times {
                    index.baseline_at = baseline.map(Timestamp::from_micros);
                    index.last_good_at = last.map(Timestamp::from_micros);
                }
                Ok(index)
            })
            .await
    }

    /// Adds the elements from this id on, as SQLite counts, and as many as belong to one read; where
    /// the next one begins. Only the poll of this list changes them, and it waits for this.
    async fn index_page(
        &self,
        widget: &WidgetName,
        list: ListKind,
        first: i64,
        index: &mut SnapshotIndex,
    ) -> Result<Option<i64>> {
        let widget = widget.clone();
        let page: Vec<(i64, i64, bool)> = self
            .link
            .read(move |tx| {
                let mut statement = tx.prepare_cached(
                    "SELECT id, hash, gone FROM item WHERE widget = ?1 AND list = ?2 AND id >= ?3
                     ORDER BY id LIMIT ?4",
                )?;
                let limit = i64::try_from(INDEX_PAGE).unwrap_or(i64::MAX);
                let of = params![widget.as_str(), list.as_str(), first, limit];
                let rows =
                    statement.query_map(of, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
                Ok(rows.collect::<rusqlite::Result<_>>()?)
            })
            .await?;
        for (id, hash, gone) in &page {
            match gone {
                true => index.gone.push(id.cast_unsigned()),
                false => index.listed.push((id.cast_unsigned(), hash.cast_unsigned())),
            }
        }
        let last = page.last().filter(|_| page.len() == INDEX_PAGE);
        Ok(last.and_then(|(id, _, _)| id.checked_add(1)))
    }

    async fn items_by_id<T: DeserializeOwned + Send + 'static>(
        &self,
        widget: &WidgetName,
        list: ListKind,
        mut ids: Vec<u64>,
    ) -> Result<Vec<T>> {
        let widget = widget.clone();
        ids.sort_unstable();
        ids.dedup();
        self.link
            .read(move |tx| {
                let mut statement = tx.prepare_cached(
                    "SELECT body FROM item
                     WHERE widget = ?1 AND list = ?2 AND id = ?3 AND gone = 0",
                )?;
                let mut found = Vec::new();
                for id in ids {
                    let body: Option<String> = statement
                        .query_row(
                            params![widget.as_str(), list.as_str(), id.cast_signed()],
                            |row| row.get(0),
                        )
                        .optional()?;
                    if let Some(body) = body {
                        found.push(from_json(&body)?);
                    }
                }
                Ok(found)
            })
            .await
    }
}
