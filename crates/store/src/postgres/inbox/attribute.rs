//! Whether a change of a room was made by the bots' own messages. Changes nothing.

use imbabot_bot::{RoomChange, WidgetName};
use imbabot_core::Timestamp;

use crate::error::Result;
use crate::inbox::{EventBody, EventEntry};
use crate::postgres::row::get;
use crate::postgres::tx::{Tx, params};
use crate::rules::OWN;

/// Who made the change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attribution {
    /// Somebody else.
    Foreign,
    /// A message of ours.
    Own,
    /// It cannot be said before an attempt there has ended.
    Wait,
}

/// Who made rooms' `updated_at` move, an answer for each entry. Only a touch can be our own doing: no
/// message of ours renames a room. A message that was confirmed has the server's time; an attempt of
/// which nobody knows has only ours, from which the server's differs by what `ahead` says.
///
/// What may have touched a room was on its way before the room was listed, so one look at what is
/// committed now finds it, whichever instance sent it.
pub(super) async fn attribute(
    tx: &Tx<'_>,
    entries: &[EventEntry],
    ahead: &[(WidgetName, i64)],
) -> Result<Vec<Attribution>> {
    let mut answers = vec![Attribution::Foreign; entries.len()];
    let mut places = Vec::new();
    let (mut widgets, mut rooms) = (Vec::new(), Vec::new());
    let (mut lows, mut highs, mut ours) = (Vec::new(), Vec::new(), Vec::new());
    for (place, entry) in entries.iter().enumerate() {
        let EventBody::Room { change: RoomChange::Touched, room, .. } = &entry.body else {
            continue;
        };
        let Some(moved) = room.updated_at.map(Timestamp::as_micros) else { continue };
        let ahead = ahead.iter().find(|(widget, _)| *widget == entry.widget);
        places.push(place);
        widgets.push(entry.widget.as_str());
        rooms.push(room.id.0.cast_signed());
        lows.push(moved.saturating_sub(OWN));
        highs.push(moved.saturating_add(OWN));
        ours.push(moved.saturating_sub(ahead.map_or(0, |(_, ahead)| *ahead)));
    }
    if places.is_empty() {
        return Ok(answers);
    }
    // The server's clock counts whole seconds: a message of 12:00:00.7 touches at 12:00:00. What has
    // become of a delivery since does not tell whether an attempt of it was applied.
    let rows = tx
        .rows(
            "SELECT EXISTS (SELECT 1 FROM delivery d
                     WHERE d.widget = k.widget AND d.room = k.room AND d.state = 'sending'),
                 EXISTS (SELECT 1 FROM delivery d
                     WHERE d.widget = k.widget AND d.room = k.room
                       AND d.server_time BETWEEN k.low AND k.high)
                 OR EXISTS (SELECT 1 FROM attempt a JOIN delivery d ON d.id = a.delivery
                     WHERE d.widget = k.widget AND d.room = k.room AND d.ambiguous > 0
                       AND a.class = 'ambiguous'
                       AND a.started_at - 1000000 <= k.ours AND a.ended_at + $6 >= k.ours)
             FROM unnest($1, $2, $3, $4, $5) WITH ORDINALITY AS k (widget, room, low, high, ours, n)
             ORDER BY k.n",
            params![widgets, rooms, lows, highs, ours, OWN],
        )
        .await?;
    for (place, row) in places.into_iter().zip(&rows) {
        let (sending, own): (bool, bool) = (get(row, 0)?, get(row, 1)?);
        let answer = match (sending, own) {
            (true, _) => Attribution::Wait,
            (false, true) => Attribution::Own,
            (false, false) => Attribution::Foreign,
        };
        if let Some(slot) = answers.get_mut(place) {
            *slot = answer;
        }
    }
    Ok(answers)
}
