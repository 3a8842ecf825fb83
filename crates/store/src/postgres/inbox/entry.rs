//! What becomes of an entry: it runs, waits again, ends, and what the ledger tells of it. Whoever moves
//! one has its row locked, and nobody waits for another lock of the inbox while holding one.

use imbabot_bot::BotName;
use imbabot_core::Timestamp;
use tokio_postgres::Row;

use crate::error::Result;
use crate::inbox::{EventEntry, EventOutcome, EventRecord};
use crate::lifecycle::SUSPECTS_WAIT;
use crate::postgres::journal::{self, Lines};
use crate::postgres::row::{count, get, held, instant, parsed, told};
use crate::postgres::tx::{Tx, params};

/// To be followed by a condition on `i` or `e`; its rows are for [`record_of`].
pub(in crate::postgres) const RECORD: &str = "SELECT i.event, i.bot, e.widget, e.kind, e.room, \
     i.tries, i.state, i.reason, e.at FROM inbox i JOIN event e ON e.seq = i.event";
/// The same columns of what a statement has changed.
const RETURNING: &str = "RETURNING i.event, i.bot, e.widget, e.kind, e.room, i.tries, i.state, \
     i.reason, e.at";

/// A row of [`RECORD`].
pub(in crate::postgres) fn record_of(row: &Row) -> Result<EventRecord> {
    let bot: BotName = parsed(row, 1)?;
    Ok(EventRecord {
        id: format!("e{}/{bot}", get::<i64>(row, 0)?),
        widget: parsed(row, 2)?,
        bot,
        event_kind: get(row, 3)?,
        room: get::<Option<i64>>(row, 4)?.map(|room| room.cast_unsigned().into()),
        tries: count(row, 5)?,
        outcome: match get::<&str>(row, 6)? {
            "handled" => Some(EventOutcome::Handled),
            "poisoned" => Some(EventOutcome::Poisoned),
            "ignored" => Some(EventOutcome::Ignored),
            _ => None,
        },
        reason: get::<Option<&str>>(row, 7)?.map(told),
        at: Some(instant(row, 8)?),
    })
}

fn word(outcome: EventOutcome) -> &'static str {
    match outcome {
        EventOutcome::Handled => "handled",
        EventOutcome::Poisoned => "poisoned",
        EventOutcome::Ignored => "ignored",
    }
}

/// Whether this very try is the one that is running, and in this run; then nobody else moves it until
/// the transaction ends.
pub(super) async fn runs(tx: &Tx<'_>, entry: &EventEntry) -> Result<bool> {
    // By its key alone: whatever the database takes for many, it finds this row at once.
    let row = tx
        .maybe(
            "SELECT state = 'running' AND tries = $3 AND owner IS NOT DISTINCT FROM $4 FROM inbox
             WHERE bot = $1 AND event = $2 FOR UPDATE",
            params![entry.bot.as_str(), entry.event, i64::from(entry.tries), tx.session()],
        )
        .await?;
    row.map_or(Ok(false), |row| get(&row, 0))
}

/// running → waiting. The process has survived it, so it is no suspect any more.
pub(super) async fn put_back(
    tx: &Tx<'_>,
    entry: &EventEntry,
    due_at: Timestamp,
    tries: u32,
    reason: Option<&str>,
) -> Result<()> {
    let reason = reason.map(|reason| held(reason).into_owned());
    tx.execute(
        "UPDATE inbox SET state = 'waiting', owner = NULL, suspect = FALSE, due_at = $3, tries = $4,
             reason = $5
         WHERE bot = $1 AND event = $2",
        params![entry.bot.as_str(), entry.event, due_at.as_micros(), i64::from(tries), reason],
    )
    .await?;
    Ok(())
}

/// What was running in these runs waits again, because nobody handles it any more; how many that
/// were. After a kill they are suspects and their tries count, otherwise neither.
pub(in crate::postgres) async fn stop(
    tx: &Tx<'_>,
    now: Timestamp,
    runs: &[i64],
    killed: bool,
) -> Result<u64> {
    let due_at = if killed { now + SUSPECTS_WAIT } else { now }.as_micros();
    if killed {
        // Those that an earlier kill left behind wait anew: every start begins calmly.
        tx.execute(
            "UPDATE inbox SET due_at = $1 WHERE suspect AND state = 'waiting' AND due_at < $1",
            params![due_at],
        )
        .await?;
    }
    tx.execute(
        "UPDATE inbox SET state = 'waiting', owner = NULL, due_at = $2, suspect = suspect OR $3,
             tries = tries - CASE WHEN $3 THEN 0 ELSE 1 END
         WHERE state = 'running' AND owner = ANY($1)",
        params![runs, due_at, killed],
    )
    .await
}

/// poisoned → waiting, by an operator; false if it is not poisoned. It may be older than what its
/// lane has come to: then it waits for what is running, and the others wait for it.
pub(in crate::postgres) async fn revive(
    tx: &Tx<'_>,
    now: Timestamp,
    bot: &str,
    event: i64,
) -> Result<bool> {
    let sql = format!(
        "UPDATE inbox i SET state = 'waiting', tries = 0, due_at = $3, ended_at = NULL, reason = NULL
         FROM event e
         WHERE i.bot = $1 AND i.event = $2 AND e.seq = i.event AND i.state = 'poisoned' {RETURNING}"
    );
    let Some(row) = tx.maybe(&sql, params![bot, event, now.as_micros()]).await? else {
        return Ok(false);
    };
    journal::event(tx, now, &record_of(&row)?).await?;
    Ok(true)
}

/// The end of an entry: the next of its lane may go.
pub(in crate::postgres) async fn end_entry(
    tx: &Tx<'_>,
    now: Timestamp,
    bot: &str,
    event: i64,
    outcome: EventOutcome,
    reason: Option<&str>,
) -> Result<()> {
    end_entries(tx, now, &[(bot, event)], outcome, reason).await
}

/// The end of several entries, by bot and event.
pub(super) async fn end_entries(
    tx: &Tx<'_>,
    now: Timestamp,
    entries: &[(&str, i64)],
    outcome: EventOutcome,
    reason: Option<&str>,
) -> Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    let (bots, events): (Vec<&str>, Vec<i64>) = entries.iter().copied().unzip();
    let reason = reason.map(|reason| held(reason).into_owned());
    let sql = format!(
        "UPDATE inbox i SET state = $3, owner = NULL, ended_at = $4, reason = $5, suspect = FALSE
         FROM unnest($1, $2) AS k (bot, event), event e
         WHERE i.bot = k.bot AND i.event = k.event AND e.seq = i.event {RETURNING}"
    );
    let rows = tx.rows(&sql, params![bots, events, word(outcome), now.as_micros(), reason]).await?;
    tell(tx, now, &rows).await
}

/// Lines about entries as they stand now, by event and bot.
async fn tell(tx: &Tx<'_>, now: Timestamp, rows: &[Row]) -> Result<()> {
    let mut records = Vec::with_capacity(rows.len());
    for row in rows {
        records.push((get::<i64>(row, 0)?, record_of(row)?));
    }
    records.sort_by(|(a, of_a), (b, of_b)| (a, &of_a.bot).cmp(&(b, &of_b.bot)));
    let mut lines = Lines::default();
    records.iter().try_for_each(|(_, record)| lines.event(now, record))?;
    lines.append(tx).await
}

/// Says which bots there are. What those that are gone were still to be told ends as ignored.
pub(super) async fn adopt(tx: &Tx<'_>, now: Timestamp, bots: &[String]) -> Result<()> {
    // Two that adopt at once do so one after the other; and a handler that is committing what counts
    // against its bot's limits is waited for here.
    tx.rows("SELECT 1 FROM bot ORDER BY name FOR UPDATE", params![]).await?;
    tx.execute(
        "INSERT INTO bot (name, since, present)
         SELECT k.name, $2, TRUE FROM (SELECT DISTINCT name FROM unnest($1) AS n (name)) AS k
         ORDER BY 1 ON CONFLICT (name) DO UPDATE SET present = TRUE",
        params![bots, now.as_micros()],
    )
    .await?;
    tx.execute(
        "UPDATE bot SET present = FALSE WHERE present AND NOT name = ANY($1)",
        params![bots],
    )
    .await?;
    let sql = format!(
        "UPDATE inbox i SET state = $1, owner = NULL, ended_at = $2, reason = $3, suspect = FALSE
         FROM event e
         WHERE i.state IN ('waiting', 'running') AND e.seq = i.event
           AND NOT EXISTS (SELECT 1 FROM bot b WHERE b.name = i.bot AND b.present) {RETURNING}"
    );
    let ignored = word(EventOutcome::Ignored);
    let rows = tx.rows(&sql, params![ignored, now.as_micros(), "bot_removed"]).await?;
    tell(tx, now, &rows).await?;
    tx.execute(
        "DELETE FROM wake w
         WHERE NOT EXISTS (SELECT 1 FROM bot b WHERE b.name = w.bot AND b.present)",
        params![],
    )
    .await?;
    Ok(())
}
