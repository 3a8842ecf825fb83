//! An attempt, its delivery, its run and its lines.

use super::{Batch, last_lines, unreadable};
use crate::error::Result;
use crate::postgres::row::get;
use crate::postgres::tx::{Tx, params};

struct Attempt {
    delivery: String,
    name: String,
    class: Option<String>,
    has_delivery: bool,
    has_run: bool,
    run_ended: bool,
}

/// The attempts of the next deliveries that have any, and how many deliveries these are.
async fn page(tx: &Tx<'_>, after: &str, limit: i64) -> Result<(Vec<Attempt>, usize)> {
    let rows = tx
        .rows(
            "SELECT encode(a.delivery, 'hex'), a.n, a.class, d.id IS NOT NULL, i.id IS NOT NULL,
                    i.ended_at IS NOT NULL
             FROM (SELECT DISTINCT delivery FROM attempt WHERE delivery > decode($1, 'hex')
                   ORDER BY delivery LIMIT $2) AS k
             JOIN attempt a USING (delivery)
             LEFT JOIN delivery d ON d.id = a.delivery
             LEFT JOIN incarnation i ON i.id = a.incarnation
             ORDER BY a.delivery, a.n",
            params![after, limit],
        )
        .await?;
    let read = |row| {
        let delivery: String = get(row, 0)?;
        let name = format!("{delivery}/{}", get::<i64>(row, 1)?);
        Ok(Attempt {
            delivery,
            name,
            class: get(row, 2)?,
            has_delivery: get(row, 3)?,
            has_run: get(row, 4)?,
            run_ended: get(row, 5)?,
        })
    };
    let page: Vec<Attempt> = rows.iter().map(read).collect::<Result<_>>()?;
    let others = page.windows(2).filter(|pair| pair[0].delivery != pair[1].delivery).count();
    let deliveries = if page.is_empty() { 0 } else { others + 1 };
    Ok((page, deliveries))
}

pub(super) async fn walk(tx: &Tx<'_>, after: &str, limit: i64) -> Result<Batch> {
    let (page, deliveries) = page(tx, after, limit).await?;
    let mut batch = beside_lines(tx, &page, deliveries, super::TOLD).await?;
    batch.tell(page.iter().filter_map(|one| {
        let what = match one {
            Attempt { has_delivery: false, .. } => "belongs to no delivery",
            Attempt { has_run: false, .. } => "is of a run that is not there",
            Attempt { class: None, run_ended: true, .. } => "is open, and its run has ended",
            _ => return None,
        };
        Some(format!("the attempt {} {what}", one.name))
    }));
    Ok(batch)
}

/// Attempts beside their last lines, and nothing else.
pub(super) async fn strays(tx: &Tx<'_>, after: &str, limit: i64) -> Result<Batch> {
    let (page, deliveries) = page(tx, after, limit).await?;
    beside_lines(tx, &page, deliveries, usize::MAX).await
}

async fn beside_lines(
    tx: &Tx<'_>,
    page: &[Attempt],
    looked_at: usize,
    at_most: usize,
) -> Result<Batch> {
    let names: Vec<String> = page.iter().map(|one| one.name.clone()).collect();
    let last = last_lines(tx, "attempt", &names).await?;
    let until = page.last().map(|one| one.delivery.clone());
    let mut batch = Batch { until, looked_at, found: Vec::new() };
    batch.tell(unreadable(last.values()));
    let differing = page.iter().filter_map(|one| {
        let line = last.get(&one.name);
        let says = line.and_then(|line| line.word("class"));
        (line.is_none() || says != one.class.as_deref()).then(|| {
            let is = one.class.as_deref().unwrap_or("open");
            let says = if line.is_none() { "nothing" } else { says.unwrap_or("open") };
            format!("the attempt {} is {is}, its last line says {says}", one.name)
        })
    });
    batch.found.extend(differing.take(at_most));
    Ok(batch)
}
