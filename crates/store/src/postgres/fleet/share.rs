//! Which units an instance takes and gives back with a heartbeat. It never ends anybody's run and never
//! takes a unit from whoever has it.

use imbabot_core::Timestamp;

use super::{give_up_all, serves_nothing};
use crate::error::Result;
use crate::lifecycle::IncarnationId;
use crate::postgres::row::get;
use crate::postgres::tx::{Tx, params};

/// What each of the units `$2` that `$1` serves is served by: how many of those who share, itself among
/// them. One that has not said what it serves (it has only begun, or its build does not say) counts as
/// serving all of them.
const SHARERS: &str = "
    WITH other AS (
        SELECT l.serves FROM incarnation i JOIN lease l ON l.incarnation = i.id
        WHERE i.ended_at IS NULL AND NOT l.draining AND i.id <> $1),
    said AS (SELECT s.name, count(*) AS by FROM other o, unnest(o.serves) AS s (name) GROUP BY s.name),
    unsaid AS (SELECT count(*) AS by FROM other WHERE serves IS NULL),
    sharer AS (
        SELECT k.name, 1 + unsaid.by + coalesce(said.by, 0) AS by
        FROM unsaid, unnest($2) AS k (name) LEFT JOIN said ON said.name = k.name),
    everybody AS (SELECT 1 + count(*) AS by FROM other)";

/// Takes what nobody owns, up to a fair share, and gives back what is beyond it. A unit that is given
/// back is taken by another with its next heartbeat.
///
/// The fair share counts a unit for as much as one divided by those who serve it. What not everybody
/// serves comes first, also beyond the share, and what most serve is given back first: so a unit that
/// anybody serves is owned, however the configurations differ.
pub(super) async fn take_part(
    tx: &Tx<'_>,
    incarnation: IncarnationId,
    serves: &[&str],
    draining: bool,
    now: Timestamp,
) -> Result<()> {
    let (own, micros) = (incarnation.0, now.as_micros());
    tx.execute(
        "INSERT INTO unit (name, since) SELECT k.name, $2 FROM unnest($1) AS k (name)
         WHERE NOT EXISTS (SELECT 1 FROM unit u WHERE u.name = k.name) ORDER BY 1
         ON CONFLICT (name) DO NOTHING",
        params![serves, micros],
    )
    .await?;
    if draining {
        give_up_all(tx, incarnation, now).await?;
        return serves_nothing(tx, incarnation).await;
    }
    tx.execute(
        "UPDATE lease SET serves = $2 WHERE incarnation = $1 AND serves IS DISTINCT FROM $2",
        params![own, serves],
    )
    .await?;
    // Owned and no longer served: the configuration has it no more.
    tx.execute(
        "UPDATE unit SET owner = NULL, since = $3 WHERE owner = $1 AND NOT name = ANY($2)",
        params![own, serves, micros],
    )
    .await?;
    // A little less than the sum: thirds and sixths do not add up to what they should.
    let row = tx
        .row(
            &format!(
                "{SHARERS}
                 SELECT (SELECT count(*) FROM unit WHERE owner = $1),
                        (SELECT coalesce(ceil(sum(1.0 / by) - 0.000001), 0)::bigint FROM sharer),
                        EXISTS (SELECT 1 FROM unit u JOIN sharer s ON s.name = u.name
                                WHERE u.owner IS NULL AND s.by < (SELECT by FROM everybody))"
            ),
            params![own, serves],
        )
        .await?;
    let (mut owned, fair): (i64, i64) = (get(&row, 0)?, get(&row, 1)?);
    if get(&row, 2)? {
        owned +=
            take(tx, own, serves, "s.by < (SELECT by FROM everybody)", i64::MAX, micros).await?;
    }
    if owned < fair {
        take(tx, own, serves, "TRUE", fair - owned, micros).await?;
    } else if owned > fair {
        tx.execute(
            &format!(
                "{SHARERS}
                 UPDATE unit SET owner = NULL, since = $4 WHERE name = ANY (ARRAY(
                     SELECT u.name FROM unit u JOIN sharer s ON s.name = u.name
                     WHERE u.owner = $1 AND s.by > 1 ORDER BY s.by DESC, u.since DESC, u.name LIMIT $3))"
            ),
            params![own, serves, owned - fair, micros],
        )
        .await?;
    }
    Ok(())
}

/// Takes up to so many of the units that nobody owns and nobody is just taking; those that fewest serve
/// first, and of these those that lay longest.
async fn take(
    tx: &Tx<'_>,
    own: i64,
    serves: &[&str],
    which: &str,
    most: i64,
    micros: i64,
) -> Result<i64> {
    // As an array, which is made once: a join could choose and lock again and again.
    let taken = tx
        .execute(
            &format!(
                "{SHARERS}
                 UPDATE unit SET owner = $1, term = term + 1, since = $4 WHERE name = ANY (ARRAY(
                     SELECT u.name FROM unit u JOIN sharer s ON s.name = u.name
                     WHERE u.owner IS NULL AND {which} ORDER BY s.by, u.since, u.name LIMIT $3
                     FOR UPDATE OF u SKIP LOCKED))"
            ),
            params![own, serves, most, micros],
        )
        .await?;
    Ok(i64::try_from(taken).unwrap_or(i64::MAX))
}
