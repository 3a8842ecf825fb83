//! Which entries may be claimed: the first of each lane, where none of the lane runs, of widgets that
//! no other run owns. Found without reading what waits behind them, however long a lane is and however
//! many lanes there are. Locks nothing and changes nothing.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use imbabot_core::Timestamp;

use crate::error::Result;
use crate::postgres::row::{get, instant};
use crate::postgres::tx::{Tx, params};

/// Beside twice what a bot can take, so many due entries are looked at in the order in which they came.
const LOOK: i64 = 16;
/// So many lanes at least are looked at in their turn, if that order leads through a lane that is held
/// up.
const LANES: i64 = 200;
/// So many entries that are not due yet are looked at.
const AHEAD: i64 = 32;

/// Whether entry `i` is the first of its lane and none of the lane runs. Scalar, so that it is asked of
/// the few entries that are looked at, by index, and never becomes a join of all that waits.
pub(super) const FIRST: &str = "(i.event = (SELECT p.event FROM inbox p
         WHERE p.bot = i.bot AND p.widget = i.widget AND p.lane = i.lane
           AND p.state IN ('waiting', 'running') ORDER BY p.event LIMIT 1)
     AND NOT EXISTS (SELECT 1 FROM inbox p
         WHERE p.bot = i.bot AND p.widget = i.widget AND p.lane = i.lane AND p.state = 'running'))";

/// Whether no run but ours, which is that parameter, owns the widget of `i`.
pub(super) fn ours(parameter: u8) -> String {
    format!(
        "(NOT EXISTS (SELECT 1 FROM unit u WHERE u.name = 'widget/' || i.widget
             AND u.owner IS NOT NULL AND u.owner IS DISTINCT FROM ${parameter}))"
    )
}

/// Up to which lane each bot's were looked at, so that every one has its turn.
#[derive(Debug, Clone, Default)]
pub(in crate::postgres) struct Turns(Arc<Mutex<HashMap<String, Place>>>);

/// A lane of a bot: widget and lane.
type Place = (String, String);

impl Turns {
    fn of(&self, bot: &str) -> Option<Place> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(bot).cloned()
    }

    fn set(&self, bot: &str, place: Option<Place>) {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match place {
            Some(place) => turns.insert(bot.to_owned(), place),
            None => turns.remove(bot),
        };
    }
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Heads {
    /// Bot and event, at most as many of a bot as it can take.
    pub(super) due: Vec<(String, i64)>,
    /// There are lanes that were not looked at, and bots that could take more.
    pub(super) more: bool,
}

/// Entries that are due, for bots that can take so many more each.
pub(super) async fn due(
    tx: &Tx<'_>,
    now: Timestamp,
    asked: &[(&str, usize)],
    turns: &Turns,
) -> Result<Heads> {
    let bots: Vec<&str> = asked.iter().map(|(bot, _)| *bot).collect();
    let windows: Vec<i64> = asked.iter().map(|(_, slots)| window(*slots)).collect();
    // In the order in which they came. Mostly that is all there is to it.
    let sql = format!(
        "SELECT a.n, f.event, f.head FROM unnest($1, $2) WITH ORDINALITY AS a (bot, looks, n)
         CROSS JOIN LATERAL (
             SELECT i.event, i.due_at, {FIRST} AND {} AS head FROM inbox i
             WHERE i.bot = a.bot AND i.state = 'waiting' AND i.due_at <= $3
             ORDER BY i.due_at, i.event LIMIT a.looks) AS f
         ORDER BY a.n, f.due_at, f.event",
        ours(4)
    );
    let rows = tx.rows(&sql, params![bots, windows, now.as_micros(), tx.session()]).await?;
    let mut looks = vec![(0_i64, Vec::new()); asked.len()];
    for row in &rows {
        let n = usize::try_from(get::<i64>(row, 0)?).unwrap_or_default();
        let Some((looked, found)) = n.checked_sub(1).and_then(|n| looks.get_mut(n)) else {
            continue;
        };
        *looked += 1;
        if get::<bool>(row, 2)? {
            found.push(get::<i64>(row, 1)?);
        }
    }
    let mut heads = Heads::default();
    for (((bot, slots), window), (looked, mut found)) in asked.iter().zip(windows).zip(looks) {
        found.truncate(*slots);
        if found.len() < *slots && looked == window {
            let (others, all) = in_turn(tx, now, bot, *slots - found.len(), &found, turns).await?;
            found.extend(others);
            heads.more |= !all && found.len() < *slots;
        }
        heads.due.extend(found.into_iter().map(|event| ((*bot).to_owned(), event)));
    }
    Ok(heads)
}

fn window(slots: usize) -> i64 {
    i64::try_from(slots).unwrap_or(i64::MAX).saturating_mul(2).saturating_add(LOOK)
}

/// The same by lanes instead of by entries, beside those that were found; and whether all lanes were
/// looked at. The lanes after those of the last time come first.
async fn in_turn(
    tx: &Tx<'_>,
    now: Timestamp,
    bot: &str,
    wanted: usize,
    found: &[i64],
    turns: &Turns,
) -> Result<(Vec<i64>, bool)> {
    let known: BTreeSet<i64> = found.iter().copied().collect();
    let mut others = BTreeSet::new();
    let mut from = turns.of(bot);
    loop {
        let began = from.clone();
        let lanes = lanes(tx, now, bot, began.as_ref(), LANES.max(window(wanted))).await?;
        others.extend(lanes.due.into_iter().filter(|(_, event)| !known.contains(event)));
        from = lanes.last;
        let enough = others.len() >= wanted;
        if enough || from.is_some() || began.is_none() {
            let all = from.is_none() && began.is_none();
            turns.set(bot, from);
            return Ok((others.into_iter().take(wanted).map(|(_, event)| event).collect(), all));
        }
        // That was the end of them: once more, from the beginning.
    }
}

/// A look at some lanes.
struct Lanes {
    /// When it was due, and the event.
    due: Vec<(i64, i64)>,
    /// The last lane that was looked at; none if no lane comes after it.
    last: Option<Place>,
}

/// From lane to lane by the index, each by its first entry; a widget that another run owns is one step.
async fn lanes(
    tx: &Tx<'_>,
    now: Timestamp,
    bot: &str,
    after: Option<&Place>,
    most: i64,
) -> Result<Lanes> {
    let ours = ours(3);
    let step = |condition: &str| {
        format!(
            "(SELECT i.widget, i.lane, i.event, i.due_at, i.state, NOT {ours} AS theirs
              FROM inbox i WHERE i.bot = $1 AND i.state IN ('waiting', 'running') AND {condition}
              ORDER BY i.widget, i.lane, i.event LIMIT 1)"
        )
    };
    let sql = format!(
        "WITH RECURSIVE l AS (
             SELECT 1::bigint AS n, f.* FROM {first} AS f
             UNION ALL
             SELECT l.n + 1, x.* FROM l CROSS JOIN LATERAL (
                 {next_lane} UNION ALL {next_widget}) AS x
             WHERE l.n < $4
         )
         SELECT widget, lane, event, due_at,
                state = 'waiting' AND NOT theirs AND due_at <= $2
                AND NOT EXISTS (SELECT 1 FROM inbox p
                    WHERE p.bot = $1 AND p.widget = l.widget AND p.lane = l.lane
                      AND p.state = 'running')
         FROM l ORDER BY n",
        first = step(if after.is_some() { "(i.widget, i.lane) > ($5, $6)" } else { "$5 = $6" }),
        next_lane = step("NOT l.theirs AND (i.widget, i.lane) > (l.widget, l.lane)"),
        next_widget = step("l.theirs AND i.widget > l.widget"),
    );
    let (widget, lane) = after.map_or(("", ""), |(widget, lane)| (widget, lane));
    let rows =
        tx.rows(&sql, params![bot, now.as_micros(), tx.session(), most, widget, lane]).await?;
    let mut lanes = Lanes { due: Vec::new(), last: None };
    for row in &rows {
        if get::<bool>(row, 4)? {
            lanes.due.push((get(row, 3)?, get(row, 2)?));
        }
    }
    if let Some(row) =
        rows.last().filter(|_| i64::try_from(rows.len()).is_ok_and(|looked| looked >= most))
    {
        lanes.last = Some((get(row, 0)?, get(row, 1)?));
    }
    Ok(lanes)
}

/// When the next entry of each bot may be due; too early rather than too late.
pub(super) async fn next(
    tx: &Tx<'_>,
    now: Timestamp,
    bots: &[&str],
) -> Result<Vec<Option<Timestamp>>> {
    let sql = format!(
        "SELECT a.n, f.due_at, f.head FROM unnest($1) WITH ORDINALITY AS a (bot, n)
         CROSS JOIN LATERAL (
             SELECT i.event, i.due_at, {FIRST} AND {} AS head FROM inbox i
             WHERE i.bot = a.bot AND i.state = 'waiting' AND i.due_at > $2
             ORDER BY i.due_at, i.event LIMIT $4) AS f
         ORDER BY a.n, f.due_at, f.event",
        ours(3)
    );
    let rows = tx.rows(&sql, params![bots, now.as_micros(), tx.session(), AHEAD]).await?;
    let mut next: Vec<(i64, Option<Timestamp>, Option<Timestamp>)> =
        vec![(0, None, None); bots.len()];
    for row in &rows {
        let n = usize::try_from(get::<i64>(row, 0)?).unwrap_or_default();
        let Some((looked, any, head)) = n.checked_sub(1).and_then(|n| next.get_mut(n)) else {
            continue;
        };
        let due = instant(row, 1)?;
        *looked += 1;
        any.get_or_insert(due);
        if get::<bool>(row, 2)? {
            head.get_or_insert(due);
        }
    }
    let told = |(looked, any, head): (i64, Option<Timestamp>, Option<Timestamp>)| {
        head.or(any.filter(|_| looked == AHEAD))
    };
    Ok(next.into_iter().map(told).collect())
}
