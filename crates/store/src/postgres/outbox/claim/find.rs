//! The statements by which a claim finds what is ready, for many widgets at once. What another
//! transaction has locked is not found.

use imbabot_bot::DeliveryId;
use imbabot_core::Timestamp;
use tokio_postgres::Row;

use super::super::step::Delivery;
use super::widget::{Ready, Widget};
use crate::error::Result;
use crate::outbox::{ClaimRequest, WidgetClaim};
use crate::postgres::lane::Lane;
use crate::postgres::row::{get, instant, instant_or_none};
use crate::postgres::tx::{Tx, params};

/// The lane of a delivery that is queued.
pub(super) async fn lane_of(tx: &Tx<'_>, id: DeliveryId) -> Result<Option<Lane>> {
    let row = tx
        .maybe(
            "SELECT widget, room, sender FROM delivery WHERE id = $1 AND state = 'queued'",
            params![id.as_bytes().as_slice()],
        )
        .await?;
    row.as_ref().map(Lane::read).transpose()
}

/// Of those that are asked for, the widgets that have a lane which is or will be ready, and whose unit
/// is not another run's.
pub(super) async fn widgets<'r>(
    tx: &Tx<'_>,
    request: &ClaimRequest,
    asked: &[&'r WidgetClaim],
    only: Option<&Lane>,
) -> Result<Vec<Widget<'r>>> {
    let names: Vec<&str> = asked.iter().map(|claim| claim.widget.as_str()).collect();
    let rows = tx
        .rows(
            "SELECT w.place, l.ready_at, r.tat, h.tat, c.tat
             FROM unnest($1) WITH ORDINALITY AS w (name, place)
             CROSS JOIN LATERAL (
                 SELECT ready_at FROM lane
                 WHERE widget = w.name AND ready_at IS NOT NULL
                   AND ($3 IS NULL OR room = $3 AND sender = $4)
                 ORDER BY ready_at LIMIT 1) AS l
             LEFT JOIN unit u ON u.name = 'widget/' || w.name
             LEFT JOIN rate r ON r.key = 'widget/' || w.name
             LEFT JOIN rate h ON h.key = 'hold/' || w.name
             LEFT JOIN rate c ON c.key = 'clock/' || w.name
             WHERE u.owner IS NULL OR u.owner = $2
             ORDER BY 1",
            params![
                names,
                request.incarnation.0,
                only.map(|lane| lane.room),
                only.map(|lane| lane.sender.as_str()),
            ],
        )
        .await?;
    let mut widgets = Vec::new();
    for row in &rows {
        let Some(ask) = asked.get(place(row)?) else { continue };
        let free_at = instant_or_none(row, 2)?;
        widgets.push(Widget {
            ask,
            name: ask.widget.as_str(),
            slots: ask.slots,
            ready_at: instant(row, 1)?,
            free_at: free_at.unwrap_or(Timestamp::MIN),
            silent_until: instant_or_none(row, 3)?.unwrap_or(Timestamp::MIN),
            judged_at: instant_or_none(row, 4)?.unwrap_or(Timestamp::MIN),
            there: free_at.is_some(),
            ours: false,
            goes_on: true,
            told: false,
        });
    }
    Ok(widgets)
}

/// Locks lanes that are ready, of the widgets that go on, with what each waits for: by widget, and the
/// one that has been ready for longest first.
pub(super) async fn lanes(
    tx: &Tx<'_>,
    now: Timestamp,
    widgets: &[Widget<'_>],
    round: u32,
    only: Option<&Lane>,
) -> Result<Vec<Ready>> {
    let places: Vec<usize> = (0..widgets.len()).filter(|p| widgets[*p].goes_on).collect();
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<&str> = places.iter().map(|place| widgets[*place].name).collect();
    let wants: Vec<i64> = places.iter().map(|place| widgets[*place].wants(round)).collect();
    let rows = tx
        .rows(
            "SELECT w.place, l.widget, l.room, l.sender, l.head_since
             FROM unnest($1, $2) WITH ORDINALITY AS w (name, wants, place)
             CROSS JOIN LATERAL (
                 SELECT widget, room, sender, ready_at, head_since FROM lane
                 WHERE widget = w.name AND ready_at <= $3
                   AND ($4 IS NULL OR room = $4 AND sender = $5)
                 ORDER BY ready_at LIMIT w.wants FOR UPDATE SKIP LOCKED) AS l
             ORDER BY w.place, l.ready_at",
            params![
                names,
                wants,
                now.as_micros(),
                only.map(|lane| lane.room),
                only.map(|lane| lane.sender.as_str()),
            ],
        )
        .await?;
    let mut lanes = Vec::new();
    for row in &rows {
        let lane = Lane { widget: get(row, 1)?, room: get(row, 2)?, sender: get(row, 3)? };
        let Some(widget) = places.get(place(row)?).copied() else { continue };
        lanes.push(Ready { widget, lane, head_since: instant_or_none(row, 4)?, head: None });
    }
    heads(tx, &mut lanes).await?;
    Ok(lanes)
}

/// Reads what locked lanes wait for.
async fn heads(tx: &Tx<'_>, lanes: &mut [Ready]) -> Result<()> {
    if lanes.is_empty() {
        return Ok(());
    }
    let (widgets, rooms, senders) = columns(lanes.iter().map(|ready| &ready.lane));
    let sql = format!(
        "SELECT {}, k.place
         FROM unnest($1, $2, $3) WITH ORDINALITY AS k (w, r, s, place)
         CROSS JOIN LATERAL (
             SELECT * FROM delivery WHERE widget = k.w AND room = k.r AND sender = k.s AND open
             ORDER BY not_before, seq LIMIT 1) AS d",
        Delivery::columns()
    );
    for row in tx.rows(&sql, params![widgets, rooms, senders]).await? {
        let nth = usize::try_from(get::<i64>(&row, Delivery::COLUMNS)? - 1).unwrap_or(usize::MAX);
        if let Some(ready) = lanes.get_mut(nth) {
            ready.head = Some(Delivery::read(&row)?);
        }
    }
    Ok(())
}

/// For each of these locked lanes, the expired deliveries before the first that is not: at most so many.
pub(super) async fn expired(
    tx: &Tx<'_>,
    now: Timestamp,
    lanes: &[Lane],
    most: usize,
) -> Result<Vec<Vec<i64>>> {
    let (widgets, rooms, senders) = columns(lanes.iter());
    let rows = tx
        .rows(
            "SELECT k.place, d.seq, d.expired
             FROM unnest($1, $2, $3) WITH ORDINALITY AS k (w, r, s, place)
             CROSS JOIN LATERAL (
                 SELECT seq, not_before, state = 'queued' AND expires_at <= $4 AS expired
                 FROM delivery WHERE widget = k.w AND room = k.r AND sender = k.s AND open
                 ORDER BY not_before, seq LIMIT $5) AS d
             ORDER BY k.place, d.not_before, d.seq",
            params![
                widgets,
                rooms,
                senders,
                now.as_micros(),
                i64::try_from(most).unwrap_or(i64::MAX)
            ],
        )
        .await?;
    let mut runs = vec![(Vec::new(), false); lanes.len()];
    for row in &rows {
        if let Some((run, over)) = runs.get_mut(place(row)?) {
            *over |= !get::<bool>(row, 2)?;
            if !*over {
                run.push(get(row, 1)?);
            }
        }
    }
    Ok(runs.into_iter().map(|(run, _)| run).collect())
}

/// Lets lanes wait for what lies outside of them.
pub(super) async fn hold(tx: &Tx<'_>, lanes: &[(Lane, Option<Timestamp>)]) -> Result<()> {
    if lanes.is_empty() {
        return Ok(());
    }
    let (widgets, rooms, senders) = columns(lanes.iter().map(|(lane, _)| lane));
    let until: Vec<Option<i64>> =
        lanes.iter().map(|(_, until)| until.map(Timestamp::as_micros)).collect();
    tx.execute(
        "UPDATE lane l SET ready_at = k.until
         FROM unnest($1, $2, $3, $4) AS k (widget, room, sender, until)
         WHERE l.widget = k.widget AND l.room = k.room AND l.sender = k.sender",
        params![widgets, rooms, senders, until],
    )
    .await?;
    Ok(())
}

/// When the first lane of each widget is ready, for those that have one.
pub(super) async fn next(tx: &Tx<'_>, names: &[&str]) -> Result<Vec<(usize, Timestamp)>> {
    let rows = tx
        .rows(
            "SELECT w.place, l.ready_at
             FROM unnest($1) WITH ORDINALITY AS w (name, place)
             CROSS JOIN LATERAL (
                 SELECT ready_at FROM lane WHERE widget = w.name AND ready_at IS NOT NULL
                 ORDER BY ready_at LIMIT 1) AS l",
            params![names],
        )
        .await?;
    rows.iter().map(|row| Ok((place(row)?, instant(row, 1)?))).collect()
}

fn columns<'l>(lanes: impl Iterator<Item = &'l Lane>) -> (Vec<&'l str>, Vec<i64>, Vec<&'l str>) {
    let mut columns = (Vec::new(), Vec::new(), Vec::new());
    for lane in lanes {
        columns.0.push(lane.widget.as_str());
        columns.1.push(lane.room);
        columns.2.push(lane.sender.as_str());
    }
    columns
}

/// A column that counts from 1, as an index.
fn place(row: &Row) -> Result<usize> {
    Ok(usize::try_from(get::<i64>(row, 0)? - 1).unwrap_or(usize::MAX))
}
