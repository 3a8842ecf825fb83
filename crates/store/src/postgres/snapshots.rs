//! The lists, element by element. A list belongs to who owns its widget: another instance's part of a
//! poll is refused, so that two never describe one list in turns. Rooms are read page by page and
//! decoded by whoever asked, not by the thread of the connections.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use async_trait::async_trait;
use imbabot_bot::WidgetName;
use imbabot_core::{Room, RoomId, Timestamp, User};
use serde::de::DeserializeOwned;

use super::row::{from_json, get, instant_or_none, number};
use super::tx::{Tx, params};
use super::{PostgresStore, inbox};
use crate::error::{Error, ErrorKind, Result};
use crate::fleet::Unit;
use crate::snapshots::{ItemChange, ListKind, PollCommit, SnapshotIndex, Snapshots};

/// How many rooms are held at once beside the result.
const PAGE: usize = 1_000;
/// How many elements of an index are read with one statement.
const INDEX_PAGE: usize = 20_000;

#[async_trait]
impl Snapshots for PostgresStore {
    async fn snapshot_index(&self, widget: &WidgetName, list: ListKind) -> Result<SnapshotIndex> {
        let widget = widget.clone();
        self.link.read(async move |tx| read_index(tx, widget.as_str(), list).await).await
    }

    async fn baseline_at(&self, widget: &WidgetName, list: ListKind) -> Result<Option<Timestamp>> {
        let widget = widget.clone();
        self.link
            .read(async move |tx| {
                Ok(list_times(tx, widget.as_str(), list).await?.and_then(|(baseline, _)| baseline))
            })
            .await
    }

    async fn commit_poll(&self, poll: PollCommit) -> Result<()> {
        let unit = Unit::Widget(poll.widget.clone());
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner).get(&unit).copied();
        self.link.fenced(async move |tx| commit(tx, &poll, told).await).await
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
        let (mut found, mut after) = (Vec::new(), after);
        while found.len() < limit {
            let ask = PAGE.min(limit - found.len());
            let page = self.room_page(widget, after, ask).await?;
            let whole = page.len() == ask;
            found.extend(page);
            after = found.last().map(|room| room.id);
            if !whole {
                break;
            }
        }
        Ok(found)
    }
}

impl PostgresStore {
    /// The next listed rooms, at most a page.
    async fn room_page(
        &self,
        widget: &WidgetName,
        after: Option<RoomId>,
        limit: usize,
    ) -> Result<Vec<Room>> {
        let widget = widget.clone();
        let bodies = self
            .link
            .read(async move |tx| {
                let first = match after {
                    None => Some(0),
                    Some(id) => id.0.checked_add(1),
                };
                let mut bodies: Vec<String> = Vec::new();
                for (from, to) in first.into_iter().flat_map(halves_from) {
                    let left = i64::try_from(limit - bodies.len()).unwrap_or(i64::MAX);
                    if left == 0 {
                        break;
                    }
                    let rows = tx
                        .rows(
                            "SELECT body FROM item
                             WHERE widget = $1 AND list = 'rooms' AND NOT gone
                               AND id BETWEEN $2 AND $3
                             ORDER BY id LIMIT $4",
                            params![widget.as_str(), from, to, left],
                        )
                        .await?;
                    for row in &rows {
                        bodies.push(get(row, 0)?);
                    }
                }
                Ok(bodies)
            })
            .await?;
        bodies.iter().map(|body| from_json(body)).collect()
    }

    async fn items_by_id<T: DeserializeOwned>(
        &self,
        widget: &WidgetName,
        list: ListKind,
        mut ids: Vec<u64>,
    ) -> Result<Vec<T>> {
        ids.sort_unstable();
        ids.dedup();
        let mut found = Vec::new();
        for part in ids.chunks(PAGE) {
            let widget = widget.clone();
            let part: Vec<i64> = part.iter().map(|id| id.cast_signed()).collect();
            let bodies: Vec<String> = self
                .link
                .read(async move |tx| {
                    let rows = tx
                        .rows(
                            // As unsigned numbers: the upper half of the ids lies below zero.
                            "SELECT body FROM item
                             WHERE widget = $1 AND list = $2 AND id = ANY($3) AND NOT gone
                             ORDER BY id < 0, id",
                            params![widget.as_str(), list.as_str(), part],
                        )
                        .await?;
                    rows.iter().map(|row| get(row, 0)).collect()
                })
                .await?;
            for body in &bodies {
                found.push(from_json(body)?);
            }
        }
        Ok(found)
    }
}

/// The numbers from this one on, ascending, as ranges of signed ones: the upper half lies below zero.
fn halves_from(first: u64) -> impl Iterator<Item = (i64, i64)> {
    let half = 1 << 63;
    let lower = (first < half).then_some((first.cast_signed(), i64::MAX));
    lower.into_iter().chain([(first.max(half).cast_signed(), -1)])
}

async fn list_times(
    tx: &Tx<'_>,
    widget: &str,
    list: ListKind,
) -> Result<Option<(Option<Timestamp>, Option<Timestamp>)>> {
    let row = tx
        .maybe(
            "SELECT baseline_at, last_good_at FROM list WHERE widget = $1 AND list = $2",
            params![widget, list.as_str()],
        )
        .await?;
    row.map(|row| Ok((instant_or_none(&row, 0)?, instant_or_none(&row, 1)?))).transpose()
}

/// Page by page: of a million elements only two numbers each are held.
async fn read_index(tx: &Tx<'_>, widget: &str, list: ListKind) -> Result<SnapshotIndex> {
    let mut index = SnapshotIndex::default();
    if let Some((baseline, last)) = list_times(tx, widget, list).await? {
        (index.baseline_at, index.last_good_at) = (baseline, last);
    }
    for (mut from, to) in halves_from(0) {
        loop {
            let rows = tx
                .rows(
                    "SELECT id, hash, gone FROM item
                     WHERE widget = $1 AND list = $2 AND id BETWEEN $3 AND $4
                     ORDER BY id LIMIT $5",
                    params![
                        widget,
                        list.as_str(),
                        from,
                        to,
                        i64::try_from(INDEX_PAGE).unwrap_or(i64::MAX)
                    ],
                )
                .await?;
            for row in &rows {
                match get(row, 2)? {
                    true => index.gone.push(number(row, 0)?),
                    false => index.listed.push((number(row, 0)?, number(row, 1)?)),
                }
            }
            let last = rows.last().filter(|_| rows.len() == INDEX_PAGE);
            let last: Option<i64> = last.map(|row| get(row, 0)).transpose()?;
            match last.filter(|last| *last < to) {
                Some(last) => from = last + 1,
                None => break,
            }
        }
    }
    Ok(index)
}

async fn commit(tx: &Tx<'_>, poll: &PollCommit, told: Option<u64>) -> Result<()> {
    let (widget, list) = (poll.widget.as_str(), poll.list.as_str());
    let unit = Unit::Widget(poll.widget.clone()).to_string();
    // It does not change hands before this is committed; and after it did, the former owner's next
    // part comes here and is refused.
    let row =
        tx.maybe("SELECT owner, term FROM unit WHERE name = $1 FOR SHARE", params![unit]).await?;
    if let (Some(row), Some(session)) = (row, tx.session())
        && let Some(owner) = get::<Option<i64>>(&row, 0)?
    {
        // In another term the list was another's in between: what was compared with is not the last.
        let term = get::<i64>(&row, 1)?.cast_unsigned();
        if owner != session || told.is_some_and(|told| told != term) {
            let message = format!("the widget {widget} is another instance's now");
            return Err(Error::new(ErrorKind::Retryable, message));
        }
    }
    let changes = merged(&poll.changes);
    let (whole, marks): (Vec<_>, Vec<_>) =
        changes.values().partition(|change| change.body.is_some());
    if !whole.is_empty() {
        let (ids, hashes, gone) = columns(&whole);
        let bodies: Vec<Option<&str>> = whole.iter().map(|change| change.body).collect();
        tx.execute(
            "INSERT INTO item (widget, list, id, hash, gone, body)
             SELECT $1, $2, * FROM unnest($3, $4, $5, $6)
             ON CONFLICT (widget, list, id) DO UPDATE
             SET hash = excluded.hash, gone = excluded.gone, body = excluded.body",
            params![widget, list, ids, hashes, gone, bodies],
        )
        .await?;
    }
    if !marks.is_empty() {
        let (ids, hashes, gone) = columns(&marks);
        tx.execute(
            "UPDATE item i SET hash = k.hash, gone = k.gone
             FROM unnest($3, $4, $5) AS k (id, hash, gone)
             WHERE i.widget = $1 AND i.list = $2 AND i.id = k.id",
            params![widget, list, ids, hashes, gone],
        )
        .await?;
    }
    if !poll.events.is_empty() {
        inbox::insert_events(tx, poll.now, &poll.events).await?;
    }
    if poll.last {
        tx.execute(
            "INSERT INTO list (widget, list, baseline_at, last_good_at) VALUES ($1, $2, $3, $3)
             ON CONFLICT (widget, list) DO UPDATE
             SET last_good_at = excluded.last_good_at,
                 baseline_at = coalesce(list.baseline_at, excluded.baseline_at)",
            params![widget, list, poll.now.as_micros()],
        )
        .await?;
    }
    Ok(())
}

/// What an element comes to after all that is said of it.
struct Merged<'a> {
    id: i64,
    hash: i64,
    gone: bool,
    body: Option<&'a str>,
}

/// One change for each element: of several the last one counts, and a body stays until there is a new
/// one.
fn merged(changes: &[ItemChange]) -> BTreeMap<i64, Merged<'_>> {
    let mut merged: BTreeMap<i64, Merged<'_>> = BTreeMap::new();
    for change in changes {
        let id = change.id.cast_signed();
        let before = merged.get(&id).and_then(|before| before.body);
        let body = change.body.as_deref().or(before);
        let (hash, gone) = (change.hash.cast_signed(), change.gone);
        merged.insert(id, Merged { id, hash, gone, body });
    }
    merged
}

fn columns(changes: &[&Merged<'_>]) -> (Vec<i64>, Vec<i64>, Vec<bool>) {
    let ids = changes.iter().map(|change| change.id).collect();
    let hashes = changes.iter().map(|change| change.hash).collect();
    (ids, hashes, changes.iter().map(|change| change.gone).collect())
}
