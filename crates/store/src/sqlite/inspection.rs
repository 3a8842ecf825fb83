//! What has to hold between the records of a store, looked at a few hundred records at a time: each
//! batch is a short transaction that only reads, and nothing is remembered from one to the next but
//! where it stopped. Needs no more memory for a million records than for one, and holds up neither a
//! commit nor a checkpoint. Mends nothing.
//!
//! What only the whole of the ledger can tell (that two runs of the program were never told of at once,
//! that a record never changed what it is) is left to `ledger verify`.

use rusqlite::{Connection, params};

use crate::error::Result;
use crate::ledger::{Inspected, InspectionMark};

/// So many sentences of one kind and batch are told: one is enough to stop trusting the store.
const TOLD: i64 = 5;

/// One walk over one table.
struct Walk {
    /// Below every key.
    begin: &'static str,
    /// The last key of the next batch after ?1 of at most ?2 records, and how many these are.
    batch: &'static str,
    /// A sentence for each contradiction of the records after ?1 up to ?2, at most ?3.
    contradictions: &'static [&'static str],
}

/// Looks at the batch at `mark`.
pub(super) fn inspect(tx: &Connection, mark: &InspectionMark, limit: usize) -> Result<Inspected> {
    let Some(walk) = WALKS.get(mark.walk) else { return Ok(Inspected::default()) };
    let after = mark.after.as_deref().unwrap_or(walk.begin);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX).max(1);
    let (until, looked_at): (Option<String>, u64) = tx
        .prepare_cached(walk.batch)?
        .query_row(params![after, limit], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?)))
        .map(|(until, count)| (until, count.cast_unsigned()))?;
    let Some(until) = until else {
        let next = InspectionMark { walk: mark.walk + 1, after: None };
        let next = (next.walk < WALKS.len()).then_some(next);
        return Ok(Inspected { next, ..Inspected::default() });
    };
    let mut found = Vec::new();
    for sql in walk.contradictions {
        let mut statement = tx.prepare_cached(sql)?;
        let told = statement.query_map(params![after, until, TOLD], |row| row.get(0))?;
        match told.collect::<rusqlite::Result<Vec<String>>>() {
            Ok(told) => found.extend(told),
            // SQLite gives up at the first line of the ledger that is none.
            Err(rusqlite::Error::SqliteFailure(_, Some(what))) if what.contains("JSON") => {
                found.push("a line of the ledger cannot be read".into());
            }
            Err(error) => return Err(error.into()),
        }
    }
    let next = InspectionMark { walk: mark.walk, after: Some(until) };
    Ok(Inspected { looked_at, found, next: Some(next) })
}

const WALKS: &[Walk] = &[
    Walk {
        begin: "0",
        batch: "SELECT CAST(max(seq) AS TEXT), count(*) FROM
                (SELECT seq FROM delivery WHERE seq > CAST(?1 AS INTEGER) ORDER BY seq LIMIT ?2)",
        contradictions: &[DELIVERIES_TOLD, STANDING, ARROWS, CAUSE, LANE],
    },
    Walk {
        begin: "",
        batch: "SELECT CASE WHEN count(*) > 0 THEN hex(max(delivery)) END, count(*) FROM
                (SELECT DISTINCT delivery FROM attempt WHERE delivery > unhex(?1)
                 ORDER BY delivery LIMIT ?2)",
        contradictions: &[ATTEMPTS_TOLD, ATTEMPTS],
    },
    Walk {
        begin: "",
        batch: "SELECT max(id), count(*) FROM
                (SELECT id FROM occurrence WHERE id > ?1 ORDER BY id LIMIT ?2)",
        contradictions: &[OCCURRENCES_TOLD, OCCURRENCES],
    },
    Walk {
        begin: "",
        batch: "SELECT max(key), count(*) FROM
                (SELECT key FROM schedule WHERE key > ?1 ORDER BY key LIMIT ?2)",
        contradictions: &[RUNS, MISSED],
    },
    Walk {
        begin: "0",
        batch: "SELECT CAST(max(seq) AS TEXT), count(*) FROM
                (SELECT seq FROM event WHERE seq > CAST(?1 AS INTEGER) ORDER BY seq LIMIT ?2)",
        contradictions: &[EVENTS],
    },
    Walk {
        begin: "0",
        batch: "SELECT CAST(max(seq) AS TEXT), count(*) FROM
                (SELECT seq FROM ledger WHERE seq > CAST(?1 AS INTEGER) ORDER BY seq LIMIT ?2)",
        contradictions: &[LINES],
    },
    // Counted in one go: a count of parts that change meanwhile is none.
    Walk {
        begin: "",
        batch: "SELECT CASE WHEN ?1 = '' AND ?2 > 0 THEN 'all' END, 0",
        contradictions: &[TALLY, DOUBLED],
    },
];

/// Deliveries beside their last lines.
const DELIVERIES_TOLD: &str = "
    WITH told AS (
        SELECT lower(hex(d.id)) AS name, d.state AS state, d.reason AS reason,
            (SELECT l.body FROM ledger l WHERE l.id = lower(hex(d.id)) AND l.kind = 'delivery'
             ORDER BY l.seq DESC LIMIT 1) AS body
        FROM delivery d WHERE d.seq > CAST(?1 AS INTEGER) AND d.seq <= CAST(?2 AS INTEGER))
    SELECT 'the delivery ' || name || ' is ' || state || ', its last line says '
        || coalesce(body ->> 'state', 'nothing')
    FROM told WHERE body IS NULL OR body ->> 'state' <> state OR body ->> 'reason' IS NOT reason
    LIMIT ?3";

/// Attempts beside their last lines.
const ATTEMPTS_TOLD: &str = "
    WITH told AS (
        SELECT lower(hex(a.delivery)) || '/' || a.n AS name, a.class AS class,
            (SELECT l.body FROM ledger l
             WHERE l.id = lower(hex(a.delivery)) || '/' || a.n AND l.kind = 'attempt'
             ORDER BY l.seq DESC LIMIT 1) AS body
        FROM attempt a WHERE a.delivery > unhex(?1) AND a.delivery <= unhex(?2))
    SELECT 'the attempt ' || name || ' is ' || coalesce(class, 'open') || ', its last line says '
        || CASE WHEN body IS NULL THEN 'nothing' ELSE coalesce(body ->> 'class', 'open') END
    FROM told WHERE body IS NULL OR body ->> 'class' IS NOT class LIMIT ?3";

/// Occurrences beside their last lines.
const OCCURRENCES_TOLD: &str = "
    WITH told AS (
        SELECT o.id AS name, o.outcome AS outcome, o.deliveries AS deliveries,
            (SELECT l.body FROM ledger l WHERE l.id = o.id AND l.kind = 'occurrence'
             ORDER BY l.seq DESC LIMIT 1) AS body
        FROM occurrence o WHERE o.id > ?1 AND o.id <= ?2
          -- While it is expanded its number falls, and is told at the end.
          AND o.targets IS NULL)
    SELECT 'the occurrence ' || name || ' is ' || outcome || ' with ' || deliveries
        || ' deliveries, its last line says ' || coalesce(body ->> 'outcome', 'nothing')
        || ' with ' || coalesce(body ->> 'deliveries', 'none')
    FROM told WHERE body IS NULL OR body ->> 'outcome' <> outcome
        OR body ->> 'deliveries' <> deliveries LIMIT ?3";

/// A delivery by itself and beside its attempts.
const STANDING: &str = "
    WITH told AS (
        SELECT 'the delivery ' || lower(hex(d.id)) AS name, d.state AS state, d.reason AS reason,
            d.open AS open, d.possible_duplicate AS doubled, d.server_message_id AS message,
            count(a.n) AS attempts, coalesce(max(a.n), 0) AS last,
            count(a.n) - count(a.class) AS unfinished,
            coalesce(sum(a.class = 'delivered'), 0) AS applied,
            coalesce(sum(a.class = 'ambiguous'), 0) AS doubtful
        FROM delivery d LEFT JOIN attempt a ON a.delivery = d.id
        WHERE d.seq > CAST(?1 AS INTEGER) AND d.seq <= CAST(?2 AS INTEGER) GROUP BY d.seq)
    SELECT name || ' is ' || state || ', which is no state' FROM told
    WHERE state NOT IN ('queued', 'sending', 'unknown', 'delivered', 'dead')
    UNION ALL
    SELECT name || ' is ' || state || ' because of ' || coalesce(reason, 'nothing') FROM told
    WHERE CASE state
        WHEN 'queued' THEN reason IS NOT NULL WHEN 'sending' THEN reason IS NOT NULL
        WHEN 'unknown' THEN reason IS NULL
        WHEN 'delivered' THEN reason IS NOT NULL AND reason <> 'operator'
        WHEN 'dead' THEN reason IS NULL OR reason NOT IN
            ('rejected', 'expired', 'unresolved', 'suppressed', 'invalid', 'cancelled')
        ELSE 0 END
    UNION ALL
    SELECT name || ' is delivered as no message' FROM told
    WHERE state = 'delivered' AND reason IS NULL AND message IS NULL
    UNION ALL
    SELECT name || ' is delivered, and none of its ' || attempts || ' attempts says so' FROM told
    WHERE state = 'delivered' AND reason IS NULL AND applied = 0
    UNION ALL
    SELECT name || ' is unknown, and none of its ' || attempts || ' attempts is in doubt' FROM told
    WHERE state = 'unknown' AND doubtful = 0
    UNION ALL
    SELECT name || ' is ' || state || ', and ' || unfinished || ' of its attempts are open' FROM told
    WHERE unfinished <> (state = 'sending')
    UNION ALL
    SELECT name || ' is dead(' || coalesce(reason, '') || ') with ' || doubtful
        || ' attempts in doubt' FROM told
    WHERE state = 'dead' AND (reason IS 'unresolved') <> (doubtful > 0)
    UNION ALL
    SELECT name || ' may be there more than once and does not say so' FROM told
    WHERE applied + doubtful > 1 AND doubled = 0
    UNION ALL
    SELECT name || ' has ' || attempts || ' attempts, the last is number ' || last FROM told
    WHERE attempts <> last
    UNION ALL
    SELECT name || ' is ' || state || ', and its lane does not know of it' FROM told
    WHERE state IN ('queued', 'sending') AND open = 0
    UNION ALL
    SELECT name || ' is ' || state || ', and its lane waits for it' FROM told
    WHERE state IN ('delivered', 'dead') AND open = 1
    LIMIT ?3";

/// The states that the lines of a delivery tell of, one after the other. CROSS JOIN: by delivery, never
/// by a walk over the whole ledger.
const ARROWS: &str = "
    SELECT 'the delivery ' || id || ' went from ' || coalesce(before, 'nothing') || ' to ' || state
    FROM (SELECT l.id AS id, l.seq AS seq, l.body ->> 'state' AS state, d.policy AS policy,
            coalesce(l.body ->> 'possible_duplicate', 0) AS doubled,
            lag(l.body ->> 'state') OVER (PARTITION BY l.id ORDER BY l.seq) AS before
        FROM delivery d CROSS JOIN ledger l ON l.id = lower(hex(d.id)) AND l.kind = 'delivery'
        WHERE d.seq > CAST(?1 AS INTEGER) AND d.seq <= CAST(?2 AS INTEGER)) AS told
    WHERE coalesce(before, '') || '>' || state NOT IN
        ('>queued', '>dead', 'queued>sending', 'queued>dead', 'sending>queued',
         'sending>delivered', 'sending>dead', 'sending>unknown', 'unknown>queued',
         'unknown>delivered', 'unknown>dead', 'dead>queued')
      OR before = 'unknown' AND state = 'queued' AND policy = 'at_most_once' AND doubled = 0
      OR before = 'dead' AND NOT EXISTS (SELECT 1 FROM ledger o
            WHERE o.id = 'delivery/' || told.id AND o.kind = 'operator'
              AND o.body ->> 'verb' = 'deliveries retry')
    LIMIT ?3";

/// What a delivery says it is for.
const CAUSE: &str = "
    SELECT 'the delivery ' || lower(hex(d.id)) || ' belongs to ' || d.occurrence
        || ', which is not there'
    FROM delivery d
    WHERE d.seq > CAST(?1 AS INTEGER) AND d.seq <= CAST(?2 AS INTEGER)
      AND d.occurrence IS NOT NULL AND d.occurrence NOT LIKE '%!manual'
      AND NOT EXISTS (SELECT 1 FROM occurrence o WHERE o.id = d.occurrence)
      AND NOT EXISTS (SELECT 1 FROM ledger l WHERE l.id = d.schedule AND l.kind = 'range'
            AND substr(l.body ->> 'from', 1, 19) <= rtrim(substr(d.occurrence, length(d.schedule) + 2), 'Z')
            AND substr(l.body ->> 'to', 1, 19) >= rtrim(substr(d.occurrence, length(d.schedule) + 2), 'Z'))
    LIMIT ?3";

/// A message that waits where nobody looks.
const LANE: &str = "
    SELECT 'the delivery ' || lower(hex(d.id)) || ' waits in a lane that nobody looks at'
    FROM delivery d
    WHERE d.seq > CAST(?1 AS INTEGER) AND d.seq <= CAST(?2 AS INTEGER) AND d.state = 'queued'
      AND NOT EXISTS (SELECT 1 FROM lane l
            WHERE l.widget = d.widget AND l.room = d.room AND l.sender = d.sender)
    LIMIT ?3";

/// An attempt, its delivery and its run.
const ATTEMPTS: &str = "
    SELECT 'the attempt ' || lower(hex(a.delivery)) || '/' || a.n || CASE
        WHEN d.id IS NULL THEN ' belongs to no delivery'
        WHEN i.id IS NULL THEN ' is of a run that is not there'
        ELSE ' is open, and its run has ended' END
    FROM attempt a LEFT JOIN delivery d ON d.id = a.delivery
        LEFT JOIN incarnation i ON i.id = a.incarnation
    WHERE a.delivery > unhex(?1) AND a.delivery <= unhex(?2)
      AND (d.id IS NULL OR i.id IS NULL OR a.class IS NULL AND i.ended_at IS NOT NULL)
    LIMIT ?3";

/// An occurrence, its deliveries and the runs beside it.
const OCCURRENCES: &str = "
    WITH told AS (
        SELECT o.id AS id, o.schedule AS schedule, o.outcome AS outcome, o.reason AS reason,
            o.deliveries AS says, o.nominal_at AS at,
            (SELECT count(*) FROM delivery d
             WHERE d.key >= 'occurrence/' || o.id || '/' AND d.key < 'occurrence/' || o.id || '0')
                AS has
        FROM occurrence o WHERE o.id > ?1 AND o.id <= ?2)
    SELECT 'the occurrence ' || id || ' has ' || has || ' deliveries and says ' || says FROM told
    WHERE has > says
    UNION ALL
    SELECT 'the occurrence ' || id || ' is ' || outcome || ' and has deliveries' FROM told
    WHERE outcome <> 'fired' AND has > 0
    UNION ALL
    SELECT 'the occurrence ' || id || ' is ' || outcome || ' because of '
        || coalesce(reason, 'nothing') FROM told
    WHERE outcome NOT IN ('fired', 'skipped', 'missed') OR (outcome = 'fired') <> (reason IS NULL)
    UNION ALL
    SELECT 'the instant of ' || id || ' lies in a run, too' FROM told
    WHERE id NOT LIKE '%!manual' AND EXISTS (SELECT 1 FROM ledger l
        WHERE l.id = told.schedule AND l.kind = 'range'
          AND l.body ->> 'from' <= strftime('%Y-%m-%dT%H:%M:%S', told.at / 1000000, 'unixepoch')
                || printf('.%06dZ', told.at % 1000000)
          AND l.body ->> 'to' >= strftime('%Y-%m-%dT%H:%M:%S', told.at / 1000000, 'unixepoch')
                || printf('.%06dZ', told.at % 1000000))
    LIMIT ?3";

/// The runs of one schedule.
const RUNS: &str = "
    SELECT key || '@' || begins || ' lies in two runs'
    FROM (SELECT s.key AS key, l.body ->> 'from' AS begins,
            max(l.body ->> 'to') OVER (PARTITION BY s.key ORDER BY l.body ->> 'from', l.seq
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS reached
        FROM schedule s CROSS JOIN ledger l ON l.id = s.key AND l.kind = 'range'
        WHERE s.key > ?1 AND s.key <= ?2)
    WHERE begins <= reached LIMIT ?3";

/// How many instants a schedule missed.
const MISSED: &str = "
    WITH told AS (
        SELECT s.key AS key, s.missed AS says,
            (SELECT count(*) FROM occurrence o WHERE o.schedule = s.key AND o.outcome = 'missed')
            + (SELECT coalesce(sum(l.body ->> 'count'), 0) FROM ledger l
               WHERE l.id = s.key AND l.kind = 'range' AND l.body ->> 'outcome' = 'missed') AS has
        FROM schedule s WHERE s.key > ?1 AND s.key <= ?2)
    SELECT 'the schedule ' || key || ' says that ' || says || ' were missed, a recount finds ' || has
    FROM told WHERE says <> has LIMIT ?3";

/// What bots are to be told.
const EVENTS: &str = "
    SELECT 'the event e' || i.event || '/' || i.bot || CASE
        WHEN i.state NOT IN ('waiting', 'running', 'handled', 'poisoned', 'ignored')
            THEN ' is ' || i.state || ', which is no state'
        ELSE ' waits behind nothing' END
    FROM inbox i
    WHERE i.event > CAST(?1 AS INTEGER) AND i.event <= CAST(?2 AS INTEGER)
      AND (i.state NOT IN ('waiting', 'running', 'handled', 'poisoned', 'ignored')
        OR i.state = 'waiting' AND i.blocked = 1 AND NOT EXISTS (SELECT 1 FROM inbox n
            WHERE n.bot = i.bot AND n.widget = i.widget AND n.lane = i.lane
              AND n.state IN ('waiting', 'running') AND n.blocked = 0))
    LIMIT ?3";

/// Lines, and the records that they are about: a record goes with all its lines.
const LINES: &str = "
    SELECT 'line ' || l.seq || CASE WHEN json_valid(l.body) THEN ' is about the ' || l.kind || ' '
        || l.id || ', which is not there' ELSE ' cannot be read' END
    FROM ledger l
    WHERE l.seq > CAST(?1 AS INTEGER) AND l.seq <= CAST(?2 AS INTEGER)
      AND (NOT json_valid(l.body) OR CASE l.kind
        WHEN 'delivery' THEN NOT EXISTS (SELECT 1 FROM delivery d WHERE d.id = unhex(l.id))
        WHEN 'attempt' THEN NOT EXISTS (SELECT 1 FROM attempt a
            WHERE a.delivery = unhex(substr(l.id, 1, 32))
              AND a.n = CAST(substr(l.id, 34) AS INTEGER))
        WHEN 'occurrence' THEN NOT EXISTS (SELECT 1 FROM occurrence o WHERE o.id = l.id)
        WHEN 'event' THEN NOT EXISTS (SELECT 1 FROM inbox i
            WHERE i.bot = substr(l.id, instr(l.id, '/') + 1)
              AND i.event = CAST(substr(l.id, 2, instr(l.id, '/') - 2) AS INTEGER))
        ELSE 0 END)
    LIMIT ?3";

/// The counts that are kept beside the deliveries.
const TALLY: &str = "
    WITH has AS (SELECT state, coalesce(reason, '') AS reason, count(*) AS n FROM delivery
        WHERE ?1 < ?2 GROUP BY 1, 2)
    SELECT 'of the deliveries ' || c.present || ' are counted as ' || c.state || ' ' || c.reason
        || ', a recount finds ' || coalesce(h.n, 0)
    FROM delivery_count c LEFT JOIN has h ON h.state = c.state AND h.reason = c.reason
    WHERE c.present <> coalesce(h.n, 0) OR c.total < c.present
    UNION ALL
    SELECT 'none of the deliveries is counted as ' || h.state || ' ' || h.reason
        || ', a recount finds ' || h.n
    FROM has h WHERE NOT EXISTS (SELECT 1 FROM delivery_count c
        WHERE c.state = h.state AND c.reason = h.reason)
    LIMIT ?3";

/// Those that may be there more than once.
const DOUBLED: &str = "
    SELECT 'fewer deliveries are counted as possible duplicates than there are: ' || c.total
    FROM doubled_count c
    WHERE c.total < (SELECT count(*) FROM delivery WHERE possible_duplicate = 1) AND ?1 < ?2 LIMIT ?3";
