//! Which units an instance takes and gives back with a heartbeat. It never ends anybody's run and never
//! takes a unit from whoever has it.

use imbabot_core::Timestamp;

use super::{give_up_all, serves_nothing};
use crate::error::Result;
use crate::lifecycle::IncarnationId;
use crate::postgres::row::get;
use crate::postgres::tx::{Tx, params};

/// Who shares (`sharing`), which of them serves what (`served`), and how many serve each unit (`sharer`).
/// One that has not said what it serves (it has only begun, or its build does not say) counts as serving
/// everything. A share counts each unit for as much as one divided by those who serve it; a little less
/// than the sum, because thirds and sixths do not add up to what they should.
const SHARERS: &str = "
    WITH sharing AS (
        SELECT i.id, l.serves FROM incarnation i JOIN lease l ON l.incarnation = i.id
        WHERE i.ended_at IS NULL AND NOT l.draining),
    unsaid AS (SELECT count(*) AS by FROM sharing WHERE serves IS NULL),
    served AS (SELECT s.id, k.name FROM sharing s, unnest(s.serves) AS k (name)),
    sharer AS (SELECT name, count(*) + (SELECT by FROM unsaid) AS by FROM served GROUP BY name),
    share AS (
        SELECT v.id, ceil(sum(1.0 / s.by) - 0.000001)::bigint AS fair
        FROM served v JOIN sharer s ON s.name = v.name GROUP BY v.id),
    everybody AS (SELECT count(*) AS by FROM sharing)";

/// Takes what nobody owns, up to a fair share, and gives back what is beyond it. A unit that is given
/// back is taken by another with its next heartbeat.
///
/// What not everybody serves is taken also beyond the share, and only that is given back which somebody
/// serves who has room for it: so what anybody serves is owned, however the configurations differ. Then an
/// instance may stay beyond its share.
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
    // Whoever ends this run meanwhile holds its lease and waits for it: the database finds out in a second.
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
    let row = tx
        .row(
            &format!(
                "{SHARERS}
                 SELECT (SELECT count(*) FROM unit WHERE owner = $1),
                        coalesce((SELECT fair FROM share WHERE id = $1), 0),
                        EXISTS (SELECT 1 FROM unit u JOIN sharer s ON s.name = u.name
                                WHERE u.owner IS NULL AND u.name = ANY($2)
                                  AND s.by < (SELECT by FROM everybody))"
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
                "{SHARERS},
                 has AS (SELECT owner AS id, count(*) AS units FROM unit GROUP BY owner),
                 room AS (
                    SELECT g.id, g.serves IS NULL AS unsaid,
                           coalesce(f.fair, ceil(cardinality($2) / e.by::numeric))
                               - coalesce(h.units, 0) AS places
                    FROM sharing g CROSS JOIN everybody e
                         LEFT JOIN share f ON f.id = g.id LEFT JOIN has h ON h.id = g.id
                    WHERE g.id <> $1)
                 UPDATE unit SET owner = NULL, since = $4 WHERE name = ANY (ARRAY(
                     SELECT u.name FROM unit u JOIN sharer s ON s.name = u.name
                     WHERE u.owner = $1 AND EXISTS (
                         SELECT 1 FROM room r WHERE r.places > 0 AND (r.unsaid OR EXISTS (
                             SELECT 1 FROM served v WHERE v.id = r.id AND v.name = u.name)))
                     ORDER BY s.by DESC, u.since DESC, u.name
                     LIMIT least($3, (SELECT sum(places) FROM room WHERE places > 0))))"
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
                     WHERE u.owner IS NULL AND u.name = ANY($2) AND {which} ORDER BY s.by, u.since, u.name LIMIT $3
                     FOR UPDATE OF u SKIP LOCKED))"
            ),
            params![own, serves, most, micros],
        )
        .await?;
    Ok(i64::try_from(taken).unwrap_or(i64::MAX))
}
