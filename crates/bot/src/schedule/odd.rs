//! The odd days: on which a clock change bears on a schedule, found from the changes of its zone and
//! not by walking through the year. Decides nothing: what happens then is the calendar's.

use imbabot_core::Timestamp;

use super::{Schedule, Zone};

/// A change of a zone's offset from UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockChange {
    /// When.
    pub at: Timestamp,
    /// Seconds east of UTC before it.
    pub before: i64,
    /// Seconds east of UTC after it.
    pub after: i64,
}

/// A day on which a clock change bears on a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OddDay {
    /// The local time, as the schedule names it: `2026-10-25 02:30:00`.
    pub local: String,
    /// It comes twice on that day; otherwise it does not exist.
    pub twice: bool,
    /// The first instant after the change.
    pub change: Timestamp,
}

impl Zone {
    /// The changes of its offset in a range, ascending.
    #[must_use]
    pub fn clock_changes(&self, after: Timestamp, until: Timestamp) -> Vec<ClockChange> {
        let Ok(start) = jiff::Timestamp::from_microsecond(after.as_micros()) else {
            return Vec::new();
        };
        let mut before = i64::from(self.zone.to_offset(start).seconds());
        let mut found = Vec::new();
        for transition in self.zone.following(start) {
            let at = Timestamp::from_seconds(transition.timestamp().as_second());
            if at > until {
                break;
            }
            // Only the name may change.
            let offset = i64::from(transition.offset().seconds());
            if offset != before {
                found.push(ClockChange { at, before, after: offset });
                before = offset;
            }
        }
        found
    }
}

impl Schedule {
    /// The days on which these changes of its zone bear on it: the first time of each change. Rules
    /// that run in elapsed time, and `every`, have none.
    #[must_use]
    pub fn odd_days(&self, changes: &[ClockChange]) -> Vec<OddDay> {
        changes.iter().filter_map(|change| self.odd_day(*change)).collect()
    }

    fn odd_day(&self, change: ClockChange) -> Option<OddDay> {
        let seconds = change.at.as_seconds();
        let (early, late) = (change.before.min(change.after), change.before.max(change.after));
        // The local times that are skipped, or that come twice.
        let (from, to) = (seconds + early, seconds + late);
        if !self.rule.is_fixed() {
            return None;
        }
        let civil = self.rule.next_civil(from).filter(|civil| *civil < to)?;
        let local = jiff::Timestamp::from_second(civil).ok()?.strftime("%Y-%m-%d %H:%M:%S");
        let twice = change.after < change.before;
        Some(OddDay { local: local.to_string(), twice, change: change.at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn odd(cron: &str, zone: &str) -> Vec<String> {
        let schedule = Schedule::cron("s", cron).unwrap().timezone(zone).unwrap();
        let year = |n: i64| Timestamp::from_seconds(1_767_225_600 + n * 31_536_000);
        let changes = schedule.zone().clock_changes(year(0), year(1));
        let days = schedule.odd_days(&changes).into_iter();
        days.map(|day| format!("{} {}", day.local, if day.twice { "twice" } else { "missing" }))
            .collect()
    }

    #[test]
    fn fixed_times_have_two_odd_days_where_clocks_are_changed_over_them() {
        assert_eq!(
            odd("30 2 * * *", "Europe/Berlin"),
            ["2026-03-29 02:30:00 missing", "2026-10-25 02:30:00 twice"]
        );
        // Both hemispheres, half an hour, and a zone without changes.
        assert_eq!(odd("15 2 * * *", "Australia/Lord_Howe"), ["2026-10-04 02:15:00 missing"]);
        assert_eq!(odd("45 1 * * *", "Australia/Lord_Howe"), ["2026-04-05 01:45:00 twice"]);
        assert!(odd("30 2 * * *", "Asia/Kathmandu").is_empty());
        assert!(odd("0 9 * * *", "Europe/Berlin").is_empty());
        assert!(odd("30 2 * * MON", "Europe/Berlin").is_empty(), "the changes are on Sundays");
    }

    #[test]
    fn rules_in_elapsed_time_have_none() {
        assert!(odd("*/15 2 * * *", "Europe/Berlin").is_empty());
        assert!(odd("30 * * * *", "Europe/Berlin").is_empty());
    }

    #[test]
    fn the_calendar_agrees_about_the_odd_days() {
        use super::super::{Dst, Moved, Repeat};
        for (zone, cron) in [("Europe/Dublin", "30 1 * * *"), ("Antarctica/Troll", "30 2 * * *")] {
            let dst = Dst { repeat: Repeat::Both, ..Dst::default() };
            let schedule = Schedule::cron("s", cron).unwrap().timezone(zone).unwrap().dst(dst);
            let (from, to) =
                (Timestamp::from_seconds(1_767_225_600), Timestamp::from_seconds(1_798_761_600));
            let moved: Vec<bool> = schedule
                .instants(from, to)
                .filter(|instant| matches!(instant.moved, Some(Moved::Shifted | Moved::SecondPass)))
                .map(|instant| instant.moved == Some(Moved::SecondPass))
                .collect();
            let days = schedule.odd_days(&schedule.zone().clock_changes(from, to));
            assert_eq!(days.iter().map(|day| day.twice).collect::<Vec<_>>(), moved, "{zone}");
        }
    }
}
