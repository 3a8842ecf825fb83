//! Handing out entries: their tries are counted and durable before a handler runs. What the bots' own
//! messages did ends here; what was running when a run was killed runs alone. Several instances claim
//! side by side: a row that another has in hand is passed over.

use std::time::Duration;

use imbabot_bot::BotName;
use imbabot_core::Timestamp;

use super::attribute::{Attribution, attribute};
use super::entry::end_entries;
use super::heads::{self, FIRST, Turns, ours};
use crate::error::Result;
use crate::inbox::{EventClaim, EventEntry, EventOutcome};
use crate::postgres::row::{count, from_json, get, instant, parsed};
use crate::postgres::tx::{Tx, params};
use crate::rules::{LONGEST_WAIT, WAIT};

/// Own changes take no slot, so it is looked again until the slots are full, but not for ever.
const ROUNDS: usize = 100;
/// There was more than one claim looks at.
const AGAIN: Duration = Duration::from_millis(50);

pub(super) async fn claim(
    tx: &Tx<'_>,
    claim: &EventClaim,
    turns: &Turns,
) -> Result<(Vec<EventEntry>, Option<Timestamp>)> {
    let now = claim.now;
    let (paused, suspects) = tokio::join!(paused(tx), suspects(tx, now));
    let (paused, suspects) = (paused?, suspects?);
    let told = |bot: &BotName| {
        !paused.iter().any(|scope| {
            scope == "all" || scope.strip_prefix("bot/").is_some_and(|name| name == bot.as_str())
        })
    };
    // What was running when its run was killed runs alone, so that only the one that kills is counted
    // against. Alone among what this instance runs: another process is not killed by it.
    if suspects.iter().any(|suspect| suspect.running) {
        return Ok((Vec::new(), None));
    }
    // A suspect of a bot that is told nothing now holds nobody up.
    let alone = suspects.iter().any(|suspect| {
        suspect.due && claim.free.iter().any(|(bot, _)| *bot.as_str() == suspect.bot && told(bot))
    });
    let free = claim.free.iter().filter(|(bot, slots)| *slots > 0 && told(bot));
    let free: Vec<(&str, usize)> = free.map(|(bot, slots)| (bot.as_str(), *slots)).collect();
    let (entries, more) = if alone {
        if handles(tx).await? {
            return Ok((Vec::new(), None));
        }
        let entries = one_suspect(tx, claim, &free).await?;
        if !entries.is_empty() {
            return Ok((entries, None));
        }
        (entries, false)
    } else {
        fill(tx, claim, free.clone(), turns).await?
    };
    let mut next = if more { Some(now + AGAIN) } else { None };
    let bots: Vec<&str> = free.iter().map(|(bot, _)| *bot).collect();
    let dues = if bots.is_empty() { Vec::new() } else { heads::next(tx, now, &bots).await? };
    for (bot, due) in bots.iter().zip(dues) {
        let due = match due {
            Some(due) if due.since(now) > LONGEST_WAIT => {
                recall(tx, bot, now).await?;
                Some(now)
            }
            due => due,
        };
        next = match (next, due) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
    Ok((entries, next))
}

/// The scopes that are paused.
async fn paused(tx: &Tx<'_>) -> Result<Vec<String>> {
    let rows = tx
        .rows("SELECT scope FROM stoppage WHERE reason = 'paused' AND until IS NULL", params![])
        .await?;
    rows.iter().map(|row| get(row, 0)).collect()
}

/// An entry that was running when its run was killed.
struct Suspect {
    bot: String,
    running: bool,
    due: bool,
}

/// Those that this instance runs or may run.
async fn suspects(tx: &Tx<'_>, now: Timestamp) -> Result<Vec<Suspect>> {
    let sql = format!(
        "SELECT i.bot, i.state = 'running', i.state = 'waiting' AND i.due_at <= $1 AND {FIRST}
         FROM inbox i
         WHERE i.suspect AND i.state IN ('waiting', 'running')
           AND CASE WHEN i.state = 'running' THEN i.owner IS NOT DISTINCT FROM $2 ELSE {} END",
        ours(2)
    );
    let rows = tx.rows(&sql, params![now.as_micros(), tx.session()]).await?;
    let suspect = |row| Ok(Suspect { bot: get(row, 0)?, running: get(row, 1)?, due: get(row, 2)? });
    rows.iter().map(suspect).collect()
}

/// Whether this instance handles anything.
async fn handles(tx: &Tx<'_>) -> Result<bool> {
    let row = tx
        .row(
            "SELECT EXISTS (SELECT 1 FROM inbox
                 WHERE state = 'running' AND owner IS NOT DISTINCT FROM $1)",
            params![tx.session()],
        )
        .await?;
    get(&row, 0)
}

/// As many as each bot can take; and whether there may be more of them.
async fn fill(
    tx: &Tx<'_>,
    claim: &EventClaim,
    mut asked: Vec<(&str, usize)>,
    turns: &Turns,
) -> Result<(Vec<EventEntry>, bool)> {
    let mut entries = Vec::new();
    let mut more = false;
    for _ in 0..ROUNDS {
        if asked.is_empty() {
            return Ok((entries, more));
        }
        let heads = heads::due(tx, claim.now, &asked, turns).await?;
        more |= heads.more;
        let locked = lock(tx, claim.now, &heads.due).await?;
        more |= locked.len() < heads.due.len();
        let round = start(tx, claim, locked).await?;
        asked.retain_mut(|(bot, wanted)| {
            let started = round.started.iter().filter(|entry| entry.bot.as_str() == *bot);
            *wanted = wanted.saturating_sub(started.count());
            *wanted > 0 && round.passed.iter().any(|passed| passed.as_str() == *bot)
        });
        entries.extend(round.started);
    }
    Ok((entries, true))
}

/// The first suspect that may run, of these bots.
async fn one_suspect(
    tx: &Tx<'_>,
    claim: &EventClaim,
    free: &[(&str, usize)],
) -> Result<Vec<EventEntry>> {
    let sql = format!(
        "SELECT i.event FROM inbox i
         WHERE i.bot = $1 AND i.suspect AND i.state = 'waiting' AND i.due_at <= $2
           AND {FIRST} AND {}
         ORDER BY i.due_at, i.event LIMIT 1",
        ours(3)
    );
    for (bot, _) in free {
        // Each round ends or puts off what it found, or hands it out.
        for _ in 0..ROUNDS {
            let found = tx.maybe(&sql, params![*bot, claim.now.as_micros(), tx.session()]).await?;
            let Some(found) = found else { break };
            let locked = lock(tx, claim.now, &[((*bot).to_owned(), get(&found, 0)?)]).await?;
            if locked.is_empty() {
                break;
            }
            let round = start(tx, claim, locked).await?;
            if !round.started.is_empty() {
                return Ok(round.started);
            }
        }
    }
    Ok(Vec::new())
}

/// Those of them that nobody else has in hand and that still may run, in the order in which they came;
/// they are ours until the transaction ends.
async fn lock(tx: &Tx<'_>, now: Timestamp, heads: &[(String, i64)]) -> Result<Vec<EventEntry>> {
    if heads.is_empty() {
        return Ok(Vec::new());
    }
    let bots: Vec<&str> = heads.iter().map(|(bot, _)| bot.as_str()).collect();
    let events: Vec<i64> = heads.iter().map(|(_, event)| *event).collect();
    // What has to hold is a column and no condition: by its key alone a row is found at once.
    let sql = format!(
        "SELECT i.event, i.bot, e.widget, e.at, e.body, i.tries,
                i.state = 'waiting' AND i.due_at <= $3 AND {FIRST}
         FROM unnest($1, $2) WITH ORDINALITY AS k (bot, event, n)
         JOIN inbox i ON i.bot = k.bot AND i.event = k.event
         JOIN event e ON e.seq = i.event
         ORDER BY k.n FOR UPDATE OF i SKIP LOCKED"
    );
    let rows = tx.rows(&sql, params![bots, events, now.as_micros()]).await?;
    let mut entries = Vec::with_capacity(rows.len());
    for row in &rows {
        if get::<bool>(row, 6)? {
            entries.push(EventEntry {
                event: get(row, 0)?,
                bot: parsed(row, 1)?,
                widget: parsed(row, 2)?,
                at: instant(row, 3)?,
                body: from_json(get(row, 4)?)?,
                tries: count(row, 5)?,
            });
        }
    }
    Ok(entries)
}

/// What became of a round.
struct Round {
    started: Vec<EventEntry>,
    /// Bots of which something ended here or has to wait.
    passed: Vec<BotName>,
}

/// Counts the tries and hands entries out, but for those that end here or have to wait.
async fn start(tx: &Tx<'_>, claim: &EventClaim, locked: Vec<EventEntry>) -> Result<Round> {
    let now = claim.now;
    let attributions = attribute(tx, &locked, &claim.ahead).await?;
    let (mut started, mut own, mut wait) = (Vec::new(), Vec::new(), Vec::new());
    for (entry, attribution) in locked.into_iter().zip(attributions) {
        match attribution {
            Attribution::Foreign => started.push(entry),
            Attribution::Own => own.push(entry),
            Attribution::Wait => wait.push(entry),
        }
    }
    if !started.is_empty() {
        let (bots, events) = keys(&started);
        // That no other entry of the lane runs is an index's to say, if another claimed in between.
        tx.execute(
            "UPDATE inbox i SET state = 'running', owner = $3, tries = i.tries + 1
             FROM unnest($1, $2) AS k (bot, event) WHERE i.bot = k.bot AND i.event = k.event",
            params![bots, events, tx.session()],
        )
        .await?;
        started.iter_mut().for_each(|entry| entry.tries += 1);
    }
    if !wait.is_empty() {
        let (bots, events) = keys(&wait);
        tx.execute(
            "UPDATE inbox i SET due_at = $3
             FROM unnest($1, $2) AS k (bot, event) WHERE i.bot = k.bot AND i.event = k.event",
            params![bots, events, (now + WAIT).as_micros()],
        )
        .await?;
    }
    let ended: Vec<_> = own.iter().map(|entry| (entry.bot.as_str(), entry.event)).collect();
    end_entries(tx, now, &ended, EventOutcome::Ignored, Some("own_change")).await?;
    let passed = own.into_iter().chain(wait).map(|entry| entry.bot).collect();
    Ok(Round { started, passed })
}

fn keys(entries: &[EventEntry]) -> (Vec<&str>, Vec<i64>) {
    entries.iter().map(|entry| (entry.bot.as_str(), entry.event)).unzip()
}

/// What waits for an instant that no entry waits for was put off by a clock that was ahead: it is due now.
async fn recall(tx: &Tx<'_>, bot: &str, now: Timestamp) -> Result<()> {
    tx.execute(
        "UPDATE inbox SET due_at = $2 WHERE bot = $1 AND event IN (
             SELECT event FROM inbox WHERE bot = $1 AND state = 'waiting' AND due_at > $3
             FOR UPDATE SKIP LOCKED)",
        params![bot, now.as_micros(), (now + LONGEST_WAIT).as_micros()],
    )
    .await?;
    Ok(())
}
