//! Where a schedule stands on its calendar: what is dealt with, what is overdue, which instant comes
//! next. `plan` and `schedules` say it with this code, so they say the same. Fires nothing and
//! decides nothing: that is the timer's.

use std::collections::BTreeSet;

use imbabot_bot::Schedule;
use imbabot_bot::schedule::{Moved, occurrence_id};
use imbabot_bot::units::format_duration;
use imbabot_core::Timestamp;
use imbabot_store::{Cursor, REANCHORED_BEYOND, Store};

/// A schedule, its cursor, and now.
#[derive(Debug)]
pub struct Outlook<'a> {
    key: &'a str,
    schedule: &'a Schedule,
    now: Timestamp,
    /// Every instant up to this one is dealt with.
    through: Timestamp,
    /// Recorded ahead of that, under a clock that was more than a day ahead.
    recorded: BTreeSet<Timestamp>,
}

/// The next instant of a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upcoming {
    /// The nominal instant: what the occurrence is named after.
    pub at: Timestamp,
    /// What is good to know of it, in the words of `plan`.
    pub notes: Vec<String>,
}

impl<'a> Outlook<'a> {
    /// Without a cursor no daemon ever ran with the schedule: it starts now.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn of(
        store: &dyn Store,
        key: &'a str,
        schedule: &'a Schedule,
        cursor: Option<&Cursor>,
        now: Timestamp,
    ) -> imbabot_store::Result<Self> {
        let through = cursor.map_or(now, |cursor| cursor.fired_through);
        // As it will be adopted, within a second or at the next start.
        let through = if through > now + REANCHORED_BEYOND { now } else { through };
        // An edited rule is in force from the next reload or start on, and fires nothing at once.
        let is_edited = cursor.is_some_and(|c| c.definition != schedule.time_definition());
        let through = if is_edited { through.max(now) } else { through };
        let ahead = cursor.and_then(|cursor| cursor.last_fired).is_some_and(|last| last > through);
        let recorded = if ahead {
            store.recorded(key, through, Timestamp::MAX).await?
        } else {
            BTreeSet::new()
        };
        Ok(Self { key, schedule, now, through, recorded })
    }

    /// The next instant that is to fire: it is not dealt with, not overdue, and on no date of
    /// `except`.
    #[must_use]
    pub fn next(&self) -> Option<Upcoming> {
        let mut after = self.through.max(self.now - self.schedule.longest_delay());
        loop {
            let at = self.schedule.next_after(after)?;
            if !self.is_behind(at) {
                return Some(Upcoming { at, notes: self.notes(at, self.moved(at)) });
            }
            after = at;
        }
    }

    /// The first instant that is due and not dealt with.
    #[must_use]
    pub fn overdue(&self) -> Option<Timestamp> {
        let mut after = self.through;
        loop {
            let at = self.schedule.next_after(after)?;
            if self.due(at) > self.now {
                return None;
            }
            if !self.recorded.contains(&at) {
                return Some(at);
            }
            after = at;
        }
    }

    /// The clock was set back: up to this instant everything was dealt with, and does not come
    /// again.
    #[must_use]
    pub fn dealt_with_ahead(&self) -> Option<Timestamp> {
        (self.through > self.now).then_some(self.through)
    }

    /// Where a plan from `from` on begins: what waits for its jitter belongs to it.
    pub(crate) fn begins(&self, from: Timestamp) -> Timestamp {
        let just_before = Timestamp::from_micros(from.as_micros().saturating_sub(1));
        if self.through > self.now {
            return just_before.max(self.through);
        }
        if from > self.now {
            return just_before;
        }
        just_before.min(self.through.max(self.now - self.schedule.longest_delay()))
    }

    /// Whether a plan from `from` on leaves out this instant after [`Outlook::begins`].
    pub(crate) fn leaves_out(&self, at: Timestamp, from: Timestamp) -> bool {
        self.recorded.contains(&at) || at < from && self.is_behind(at)
    }

    /// What is good to know of an instant that is to fire.
    pub(crate) fn notes(&self, at: Timestamp, moved: Option<Moved>) -> Vec<String> {
        let mut notes: Vec<String> =
            moved.map(|moved| words(moved).to_owned()).into_iter().collect();
        let delay = self.schedule.delay_of(&self.occurrence(at));
        if !delay.is_zero() {
            notes.push(format!("fires {} later, by its jitter", format_duration(delay)));
        }
        notes
    }

    fn is_behind(&self, at: Timestamp) -> bool {
        at <= self.through || self.recorded.contains(&at) || self.due(at) <= self.now
    }

    fn moved(&self, at: Timestamp) -> Option<Moved> {
        let just_before = Timestamp::from_micros(at.as_micros().saturating_sub(1));
        self.schedule.instants(just_before, at).next().and_then(|instant| instant.moved)
    }

    fn occurrence(&self, at: Timestamp) -> String {
        occurrence_id(self.key, at)
    }

    fn due(&self, at: Timestamp) -> Timestamp {
        self.schedule.due_at(self.key, at)
    }
}

fn words(moved: Moved) -> &'static str {
    match moved {
        Moved::Shifted => {
            "moved by a clock change: its local time does not exist on that day, so it comes right after the gap"
        }
        Moved::FirstPass => {
            "a clock change lets its local time come twice on that day: this is the first pass"
        }
        Moved::SecondPass => {
            "a clock change lets its local time come twice on that day: this is the second pass"
        }
        _ => "a clock change bears on it",
    }
}
