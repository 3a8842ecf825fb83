//! How the store is looked after: checks, what is remembered of them, and what each run last said of
//! itself. A check reads; the server's own tools mend.

use imbabot_core::Timestamp;

use super::fleet;
use super::link::Link;
use super::row::{get, instant};
use super::tx::{Tx, params};
use crate::error::{ErrorKind, Result};
use crate::operations::{Care, CareKind, SignOfLife};

/// So many checks and backups of each kind are remembered.
const KEPT: i64 = 10;
/// Pages of a table that are read in one transaction.
const PAGES: i64 = 4_096;
/// The first version that finds pages by their number without reading those before.
const BY_PAGE: i64 = 140_000;

/// Looks whether the store is whole, as far as that can be seen from here: that nothing of the schema
/// is missing or switched off, and thoroughly, that every row can be read. A sentence if not.
pub(super) async fn check(link: &Link, thorough: bool) -> Result<Option<String>> {
    if let Some(found) = link.read(async |tx| schema(tx).await).await? {
        return Ok(Some(found));
    }
    if !thorough {
        return Ok(None);
    }
    let (tables, indexes, by_page) = link.read(async |tx| plan(tx).await).await?;
    for (table, pages) in tables {
        let step = if by_page { PAGES } else { i64::MAX };
        let mut from = 0;
        while from < pages.max(1) {
            let (table, until) = (table.clone(), from.saturating_add(step));
            let read =
                link.read(async move |tx| read_pages(tx, &table, from, until, by_page).await);
            if let Some(found) = damage(read.await)? {
                return Ok(Some(found));
            }
            from = until;
        }
    }
    for index in indexes {
        let read = link.read(async move |tx| tx.batch(&index).await);
        if let Some(found) = damage(read.await)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// What the server says of data that it cannot read is what was asked for; anything else is an error.
fn damage(read: Result<()>) -> Result<Option<String>> {
    match read {
        Err(error) if *error.kind() == ErrorKind::Io => Ok(Some(error.to_string())),
        other => other.map(|()| None),
    }
}

/// A key, an index, a trigger that does not hold.
async fn schema(tx: &Tx<'_>) -> Result<Option<String>> {
    let there = tx.maybe("SELECT 1 FROM edition", params![]).await?;
    if there.is_none() {
        return Ok(Some("the store does not say which schema it has".into()));
    }
    let found = tx
        .maybe(
            "WITH ours AS (SELECT c.oid, c.relname FROM pg_class c
                 JOIN pg_namespace n ON n.oid = c.relnamespace
                 WHERE n.nspname = current_schema() AND c.relkind = 'r')
             SELECT 'the index ' || i.indexrelid::regclass || ' is not valid' FROM ours
                 JOIN pg_index i ON i.indrelid = ours.oid
                 WHERE NOT (i.indisvalid AND i.indisready AND i.indislive)
             UNION ALL
             SELECT 'the reference ' || k.conname || ' of ' || ours.relname || ' is not checked'
                 FROM ours JOIN pg_constraint k ON k.conrelid = ours.oid WHERE NOT k.convalidated
             UNION ALL
             SELECT 'the trigger ' || t.tgname || ' of ' || ours.relname || ' is switched off'
                 FROM ours JOIN pg_trigger t ON t.tgrelid = ours.oid WHERE t.tgenabled = 'D'
             UNION ALL
             SELECT 'the trigger ' || k.name || ' of delivery is missing'
                 FROM unnest($1) AS k (name) WHERE NOT EXISTS (SELECT 1 FROM ours
                     JOIN pg_trigger t ON t.tgrelid = ours.oid
                     WHERE ours.relname = 'delivery' AND t.tgname = k.name)
             LIMIT 1",
            params![vec!["delivery_born", "delivery_moved", "delivery_pruned"]],
        )
        .await?;
    found.map(|row| get(&row, 0)).transpose()
}

/// Which tables there are and how many pages each has; what checks each index, where the server has a
/// tool for it that we may use; and whether a table can be read by page.
async fn plan(tx: &Tx<'_>) -> Result<(Vec<(String, i64)>, Vec<String>, bool)> {
    let rows = tx
        .rows(
            "SELECT quote_ident(c.relname),
                    pg_relation_size(c.oid) / current_setting('block_size')::bigint
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE n.nspname = current_schema() AND c.relkind = 'r' ORDER BY 1",
            params![],
        )
        .await?;
    let tables = rows.iter().map(|row| Ok((get(row, 0)?, get(row, 1)?))).collect::<Result<_>>()?;
    let rows = tx
        .rows(
            "SELECT format('SELECT %s(%s::oid::regclass)', p.oid::regproc, c.oid)
             FROM pg_extension e JOIN pg_depend d ON d.refobjid = e.oid AND d.deptype = 'e'
             JOIN pg_proc p ON p.oid = d.objid AND p.proname = 'bt_index_check' AND p.pronargs = 1
             CROSS JOIN pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             JOIN pg_am m ON m.oid = c.relam AND m.amname = 'btree'
             WHERE e.extname = 'amcheck' AND has_function_privilege(p.oid, 'EXECUTE')
               AND n.nspname = current_schema() AND c.relkind = 'i'",
            params![],
        )
        .await?;
    let indexes = rows.iter().map(|row| get(row, 0)).collect::<Result<_>>()?;
    let row = tx.row("SELECT current_setting('server_version_num')::bigint", params![]).await?;
    Ok((tables, indexes, get::<i64>(&row, 0)? >= BY_PAGE))
}

/// Reads every row of these pages whole, also what is kept beside them.
async fn read_pages(tx: &Tx<'_>, table: &str, from: i64, until: i64, by_page: bool) -> Result<()> {
    let pages = if by_page {
        format!("WHERE ctid >= '({from},0)' AND ctid < '({until},0)'")
    } else {
        String::new()
    };
    let sql = format!("SELECT sum(octet_length(t::text))::bigint FROM {table} AS t {pages}");
    tx.row(&sql, params![]).await?;
    Ok(())
}

pub(super) async fn cared(tx: &Tx<'_>, care: &Care) -> Result<()> {
    let what = care.what.as_str();
    tx.execute(
        "INSERT INTO care (what, at, well, told) VALUES ($1, $2, $3, $4)",
        params![what, care.at.as_micros(), care.well, care.told],
    )
    .await?;
    tx.execute(
        "DELETE FROM care WHERE what = $1 AND seq NOT IN
             (SELECT seq FROM care WHERE what = $1 ORDER BY seq DESC LIMIT $2)",
        params![what, KEPT],
    )
    .await?;
    Ok(())
}

pub(super) async fn care(tx: &Tx<'_>) -> Result<Vec<Care>> {
    let rows =
        tx.rows("SELECT what, at, well, told FROM care ORDER BY seq DESC", params![]).await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        let what: &str = get(row, 0)?;
        let kinds = [CareKind::Integrity, CareKind::Verify, CareKind::Backup];
        // A kind that a newer program knows says nothing to this one.
        let Some(what) = kinds.into_iter().find(|kind| kind.as_str() == what) else { continue };
        found.push(Care { what, at: instant(row, 1)?, well: get(row, 2)?, told: get(row, 3)? });
    }
    Ok(found)
}

/// Writes down what this run says of itself. What runs said that are over is forgotten: this is newer.
pub(super) async fn sign(tx: &Tx<'_>, sign: &SignOfLife) -> Result<()> {
    let run = tx.session().unwrap_or(0);
    let told_at = fleet::clock(tx).await?;
    tx.execute(
        "INSERT INTO sign_of_life (incarnation, at, told_at, stopped, status)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (incarnation) DO UPDATE SET at = excluded.at, told_at = excluded.told_at,
             stopped = excluded.stopped, status = excluded.status",
        params![run, sign.at.as_micros(), told_at.as_micros(), sign.stopped, sign.status],
    )
    .await?;
    tx.execute(
        "DELETE FROM sign_of_life s WHERE s.incarnation <> $1
           AND NOT EXISTS (SELECT 1 FROM incarnation i
               WHERE i.id = s.incarnation AND i.ended_at IS NULL)",
        params![run],
    )
    .await?;
    Ok(())
}

/// What was said last: by one that is alive, if one is.
pub(super) async fn last_sign(tx: &Tx<'_>) -> Result<Option<SignOfLife>> {
    let now = fleet::clock(tx).await?;
    let row = tx
        .maybe(
            "SELECT s.at, s.stopped, s.status FROM sign_of_life s
             LEFT JOIN incarnation i ON i.id = s.incarnation AND i.ended_at IS NULL
             LEFT JOIN lease l ON l.incarnation = i.id AND l.until >= $1
             ORDER BY l.incarnation IS NULL, s.told_at DESC, s.incarnation DESC LIMIT 1",
            params![now.as_micros()],
        )
        .await?;
    let read = |row| {
        Ok(SignOfLife {
            at: Timestamp::from_micros(get(&row, 0)?),
            stopped: get(&row, 1)?,
            status: get(&row, 2)?,
        })
    };
    row.map(read).transpose()
}
