//! What bots are to be told, lines beside the records that they are about, and the counts that are
//! kept.

use std::collections::{HashMap, HashSet};

use imbabot_bot::DeliveryId;
use serde_json::Value;

use super::{Batch, TOLD};
use crate::error::Result;
use crate::postgres::row::get;
use crate::postgres::tx::{Tx, params};

pub(super) async fn events(tx: &Tx<'_>, after: i64, limit: i64) -> Result<Batch> {
    let page = tx
        .row(
            "SELECT max(seq), count(*) FROM
                 (SELECT seq FROM event WHERE seq > $1 ORDER BY seq LIMIT $2) AS page",
            params![after, limit],
        )
        .await?;
    let Some(until) = get::<Option<i64>>(&page, 0)? else { return Ok(Batch::default()) };
    let rows = tx
        .rows(
            "SELECT 'the event e' || i.event || '/' || i.bot || CASE
                 WHEN i.state <> 'running' THEN ' is ' || i.state || ', which is no state'
                 ELSE ' is being handled, and its run has ended' END
             FROM inbox i LEFT JOIN incarnation r ON r.id = i.owner
             WHERE i.event > $1 AND i.event <= $2
               AND (i.state NOT IN ('waiting', 'running', 'handled', 'poisoned', 'ignored')
                 OR i.state = 'running' AND r.ended_at IS NOT NULL)
             ORDER BY i.event, i.bot LIMIT $3",
            params![after, until, TOLD as i64],
        )
        .await?;
    let found = rows.iter().map(|row| get(row, 0)).collect::<Result<_>>()?;
    let looked_at = usize::try_from(get::<i64>(&page, 1)?).unwrap_or(usize::MAX);
    Ok(Batch { until: Some(until.to_string()), looked_at, found })
}

struct Line {
    seq: i64,
    kind: String,
    id: String,
    body: Option<Value>,
}

async fn page(tx: &Tx<'_>, after: i64, limit: i64) -> Result<Vec<Line>> {
    let rows = tx
        .rows(
            "SELECT seq, kind, id, body FROM ledger WHERE seq > $1 ORDER BY seq LIMIT $2",
            params![after, limit],
        )
        .await?;
    let read = |row| {
        let body = serde_json::from_str(get(row, 3)?).ok();
        Ok(Line { seq: get(row, 0)?, kind: get(row, 1)?, id: get(row, 2)?, body })
    };
    rows.iter().map(read).collect()
}

fn begun(page: &[Line]) -> Batch {
    let until = page.last().map(|line| line.seq.to_string());
    Batch { until, looked_at: page.len(), found: Vec::new() }
}

/// Lines, and the records that they are about: a record goes with all its lines.
pub(super) async fn lines(tx: &Tx<'_>, after: i64, limit: i64) -> Result<Batch> {
    let page = page(tx, after, limit).await?;
    let deliveries = deliveries(tx, &page).await?;
    let (attempts, occurrences, events) =
        (attempts(tx, &page).await?, occurrences(tx, &page).await?, entries(tx, &page).await?);
    let mut batch = begun(&page);
    batch.tell(page.iter().filter_map(|line| {
        let Line { seq, kind, id, .. } = line;
        if line.body.is_none() {
            return Some(format!("line {seq} cannot be read"));
        }
        let there = match kind.as_str() {
            "delivery" => deliveries.contains(id),
            "attempt" => attempts.contains(id),
            "occurrence" => occurrences.contains(id),
            "event" => events.contains(id),
            _ => true,
        };
        (!there).then(|| format!("line {seq} is about the {kind} {id}, which is not there"))
    }));
    Ok(batch)
}

/// Deliveries that had not ended by their last line, and are not there.
pub(super) async fn orphans(tx: &Tx<'_>, after: i64, limit: i64) -> Result<Batch> {
    let page = page(tx, after, limit).await?;
    let there = deliveries(tx, &page).await?;
    let mut batch = begun(&page);
    let mut missing: HashMap<&str, (i64, &str)> = HashMap::new();
    for line in page.iter().filter(|line| line.kind == "delivery" && !there.contains(&line.id)) {
        let state = line.body.as_ref().and_then(|body| body.get("state")?.as_str());
        missing.insert(&line.id, (line.seq, state.unwrap_or_default()));
    }
    missing.retain(|_, (_, state)| ["queued", "sending", "unknown"].contains(state));
    let mut missing: Vec<_> = missing.into_iter().collect();
    missing.sort_by_key(|(_, (seq, _))| *seq);
    for (id, (seq, state)) in missing {
        let later = tx
            .maybe(
                "SELECT 1 FROM ledger WHERE id = $1 AND kind = 'delivery' AND seq > $2 LIMIT 1",
                params![id, seq],
            )
            .await?;
        if later.is_none() {
            batch.found.push(format!("the delivery {id} is not there, its last line says {state}"));
        }
    }
    Ok(batch)
}

fn ids<'p>(page: &'p [Line], kind: &'p str) -> impl Iterator<Item = &'p str> {
    page.iter().filter(move |line| line.kind == kind).map(|line| line.id.as_str())
}

/// Of the deliveries that the lines are about, those that are there.
async fn deliveries(tx: &Tx<'_>, page: &[Line]) -> Result<HashSet<String>> {
    let wanted: Vec<Vec<u8>> = ids(page, "delivery").filter_map(bytes).collect();
    let sql = "SELECT encode(id, 'hex') FROM delivery WHERE id = ANY($1)";
    names(&tx.rows(sql, params![wanted]).await?)
}

async fn attempts(tx: &Tx<'_>, page: &[Line]) -> Result<HashSet<String>> {
    let wanted = ids(page, "attempt").filter_map(|id| {
        let (delivery, n) = id.split_once('/')?;
        Some((bytes(delivery)?, n.parse::<i64>().ok()?))
    });
    let (deliveries, numbers): (Vec<Vec<u8>>, Vec<i64>) = wanted.unzip();
    let sql = "SELECT encode(a.delivery, 'hex') || '/' || a.n
               FROM unnest($1, $2) AS k (delivery, n) JOIN attempt a USING (delivery, n)";
    names(&tx.rows(sql, params![deliveries, numbers]).await?)
}

async fn occurrences(tx: &Tx<'_>, page: &[Line]) -> Result<HashSet<String>> {
    let wanted: Vec<&str> = ids(page, "occurrence").collect();
    names(&tx.rows("SELECT id FROM occurrence WHERE id = ANY($1)", params![wanted]).await?)
}

async fn entries(tx: &Tx<'_>, page: &[Line]) -> Result<HashSet<String>> {
    let wanted = ids(page, "event").filter_map(|id| {
        let (event, bot) = id.strip_prefix('e')?.split_once('/')?;
        Some((event.parse::<i64>().ok()?, bot))
    });
    let (events, bots): (Vec<i64>, Vec<&str>) = wanted.unzip();
    let sql = "SELECT 'e' || i.event || '/' || i.bot
               FROM unnest($1, $2) AS k (event, bot) JOIN inbox i USING (event, bot)";
    names(&tx.rows(sql, params![events, bots]).await?)
}

fn bytes(id: &str) -> Option<Vec<u8>> {
    Some(id.parse::<DeliveryId>().ok()?.as_bytes().to_vec())
}

fn names(rows: &[tokio_postgres::Row]) -> Result<HashSet<String>> {
    rows.iter().map(|row| get(row, 0)).collect()
}

/// The counts that are kept beside the deliveries, over all shards.
pub(super) async fn counts(tx: &Tx<'_>) -> Result<Batch> {
    let differing = tx
        .rows(
            "SELECT coalesce(c.state, h.state), coalesce(c.reason, h.reason), c.present,
                    coalesce(h.n, 0)
             FROM (SELECT state, reason, sum(present)::bigint AS present,
                          sum(total)::bigint AS total
                   FROM delivery_count GROUP BY 1, 2) AS c
             FULL JOIN (SELECT state, coalesce(reason, '') AS reason, count(*) AS n
                        FROM delivery GROUP BY 1, 2) AS h USING (state, reason)
             WHERE c.present IS DISTINCT FROM coalesce(h.n, 0) OR c.total < c.present
             ORDER BY 1, 2",
            params![],
        )
        .await?;
    let mut batch = Batch { until: Some("all".into()), ..Batch::default() };
    for row in differing.iter().take(TOLD) {
        let (state, reason): (String, String) = (get(row, 0)?, get(row, 1)?);
        let (counted, has): (Option<i64>, i64) = (get(row, 2)?, get(row, 3)?);
        batch.found.push(match counted {
            Some(counted) => format!(
                "of the deliveries {counted} are counted as {state} {reason}, a recount finds {has}"
            ),
            None => format!(
                "none of the deliveries is counted as {state} {reason}, a recount finds {has}"
            ),
        });
    }
    let doubled = tx
        .row(
            "SELECT coalesce((SELECT sum(total)::bigint FROM doubled_count), 0),
                    (SELECT count(*) FROM delivery WHERE possible_duplicate)",
            params![],
        )
        .await?;
    let (counted, has): (i64, i64) = (get(&doubled, 0)?, get(&doubled, 1)?);
    if counted < has {
        batch.found.push(format!(
            "fewer deliveries are counted as possible duplicates than there are: {counted}"
        ));
    }
    Ok(batch)
}
