//! What a claim knows of a widget and of a lane. Asks and writes nothing.

use imbabot_core::Timestamp;

use super::super::rate::{self, believed};
use super::super::step::Delivery;
use crate::outbox::WidgetClaim;
use crate::postgres::lane::Lane;

/// A round takes at most so many lanes of one widget.
const LANES_PER_ROUND: i64 = 1_000;

/// A widget that has something ready, or will have.
pub(super) struct Widget<'r> {
    pub(super) ask: &'r WidgetClaim,
    pub(super) name: &'r str,
    pub(super) slots: usize,
    /// From when its first lane may be claimed.
    pub(super) ready_at: Timestamp,
    /// From when its rate lets a request through.
    pub(super) free_at: Timestamp,
    /// Until when its server asked for silence.
    pub(super) silent_until: Timestamp,
    /// The latest clock that judged its lanes.
    pub(super) judged_at: Timestamp,
    /// Its rate has a row, and this transaction the lock on it.
    pub(super) there: bool,
    pub(super) ours: bool,
    /// There may be more to claim.
    pub(super) goes_on: bool,
    /// When to come again is said already.
    pub(super) told: bool,
}

impl Widget<'_> {
    /// When rate and silence let the next request through: now, or later.
    pub(super) fn next(&self, now: Timestamp) -> Timestamp {
        let silence = self.silent_until;
        let silent = silence > now && silence <= now + rate::LONGEST_SILENCE;
        let believed = believed(self.free_at, now, self.ask.interval);
        let rate = if believed { self.free_at } else { now };
        rate.max(if silent { silence } else { now })
    }

    /// How many lanes a round looks at: in later ones more, since the first ones gave nothing.
    pub(super) fn wants(&self, round: u32) -> i64 {
        let slots = if self.ask.interval.is_zero() { self.slots } else { 1 };
        let slots = i64::try_from(slots).unwrap_or(LANES_PER_ROUND);
        slots.saturating_mul(4_i64.saturating_pow(round)).min(LANES_PER_ROUND)
    }
}

/// A locked lane and what it waits for.
pub(super) struct Ready {
    /// The place of its widget.
    pub(super) widget: usize,
    pub(super) lane: Lane,
    pub(super) head_since: Option<Timestamp>,
    pub(super) head: Option<Delivery>,
}

impl Ready {
    /// The key of the rate of its room.
    pub(super) fn room_key(&self) -> String {
        let room = self.lane.room.cast_unsigned();
        format!("{}/{room}", rate::widget_key(&self.lane.widget))
    }
}
