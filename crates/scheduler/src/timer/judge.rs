//! What becomes of the instants between a schedule's cursor and now: which fire, and why the others do
//! not. Pure: asks neither the store nor the time, and knows nothing of rooms.

use std::collections::{BTreeSet, VecDeque};

use imbabot_bot::schedule::Misfire;
use imbabot_core::Timestamp;
use imbabot_store::{NewRange, OccurrenceOutcome};

use super::agenda::Entry;

/// A step before anything is known of rooms: the instants that fire, and the runs that do not.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Step {
    pub(super) fire: Vec<Timestamp>,
    pub(super) runs: Vec<NewRange>,
    pub(super) through: Option<Timestamp>,
    /// What is left out next is no continuation of what was left out before.
    apart: bool,
}

impl Step {
    pub(super) fn leave_out(&mut self, at: Timestamp, outcome: OccurrenceOutcome, reason: &str) {
        let apart = std::mem::take(&mut self.apart);
        match self.runs.last_mut() {
            Some(run)
                if !apart && run.outcome == outcome && run.reason == reason && run.to < at =>
            {
                run.to = at;
                run.count += 1;
            }
            _ => {
                let reason = reason.to_owned();
                self.runs.push(NewRange { outcome, reason, from: at, to: at, count: 1 });
            }
        }
    }
}

/// What becomes of each instant between the cursor and now, but for those that are recorded.
pub(super) fn judge(entry: &Entry, now: Timestamp, recorded: &BTreeSet<Timestamp>) -> Step {
    use OccurrenceOutcome::{Missed, Skipped};
    let schedule = entry.schedule();
    let bound = match schedule.misfire_rule() {
        Misfire::Skip => 0,
        Misfire::CatchUp => usize::try_from(schedule.catch_up_bound()).unwrap_or(usize::MAX),
        _ => 1,
    };
    let once = schedule.misfire_rule() == Misfire::FireOnce;
    let mut step = Step::default();
    // The latest late ones that may still fire; what falls out at the front is missed.
    let mut late: VecDeque<Timestamp> = VecDeque::new();
    let mut on_time = Vec::new();
    for instant in schedule.instants(entry.through, now) {
        let at = instant.at;
        let due = entry.due_at(at);
        if due > now {
            break;
        }
        step.through = Some(at);
        if recorded.contains(&at) {
            // Under another clock. No run may reach over it.
            step.apart = true;
        } else if instant.excepted {
            step.leave_out(at, Skipped, "except");
        } else if entry.paused {
            step.leave_out(at, Skipped, "paused");
        } else if at + schedule.keeps() <= now {
            let why = if entry.awaits_snapshot { "no_snapshot" } else { "expired" };
            step.leave_out(at, Missed, why);
        } else if now.since(due) <= schedule.grace_period() {
            on_time.push(at);
        } else if bound == 0 {
            step.leave_out(at, Missed, "misfire");
        } else {
            late.push_back(at);
            if late.len() > bound
                && let Some(oldest) = late.pop_front()
            {
                step.leave_out(oldest, Missed, "misfire");
            }
        }
    }
    // One of everything that is due: a late one is not worth saying beside one that is on time.
    if once && !on_time.is_empty() {
        for at in late.drain(..) {
            step.leave_out(at, Missed, "misfire");
        }
    }
    step.fire.extend(late);
    step.fire.extend(on_time);
    step
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use imbabot_bot::{RoomSelector, Schedule, Template};

    use super::super::agenda::Purpose;
    use super::*;
    use crate::settings::Announcement;

    fn entry(schedule: Schedule, through: &str) -> Entry {
        let text = Template::announcement("Good morning!").unwrap();
        let announcement = Announcement::new(schedule, RoomSelector::all(), text);
        Entry::new(Purpose::Announcement(Arc::new(announcement)), through.parse().unwrap())
    }

    fn hourly() -> Schedule {
        Schedule::cron("s", "0 * * * *").unwrap().expires_after(Duration::from_secs(86_400))
    }

    fn fired(schedule: Schedule, through: &str, now: &str) -> (Vec<String>, Vec<(String, u64)>) {
        let now = now.parse().unwrap();
        let step = judge(&entry(schedule, through), now, &BTreeSet::new());
        let runs = step.runs.into_iter().map(|run| (run.reason, run.count)).collect();
        (step.fire.into_iter().map(Timestamp::compact).collect(), runs)
    }

    #[test]
    fn on_time_fires() {
        let (fire, runs) = fired(hourly(), "2026-03-01T09:00:00Z", "2026-03-01T10:00:30Z");
        assert_eq!(fire, ["2026-03-01T10:00:00Z"]);
        assert!(runs.is_empty());
    }

    #[test]
    fn after_a_gap_the_latest_fires_once() {
        let (fire, runs) = fired(hourly(), "2026-03-01T04:00:00Z", "2026-03-01T10:30:00Z");
        assert_eq!(fire, ["2026-03-01T10:00:00Z"]);
        assert_eq!(runs, [("misfire".to_owned(), 5)]);
    }

    #[test]
    fn what_is_on_time_makes_what_is_late_superfluous() {
        let (fire, runs) = fired(hourly(), "2026-03-01T04:00:00Z", "2026-03-01T10:00:30Z");
        assert_eq!(fire, ["2026-03-01T10:00:00Z"]);
        assert_eq!(runs, [("misfire".to_owned(), 5)]);
    }

    #[test]
    fn catching_up_is_bounded() {
        let schedule = hourly().misfire(Misfire::CatchUp).catch_up_max(3);
        let (fire, runs) = fired(schedule, "2026-03-01T00:00:00Z", "2026-03-01T10:30:00Z");
        assert_eq!(fire.len(), 3);
        assert_eq!(fire[0], "2026-03-01T08:00:00Z");
        assert_eq!(runs, [("misfire".to_owned(), 7)]);
    }

    #[test]
    fn skipping_skips_what_is_late_and_only_that() {
        let schedule = hourly().misfire(Misfire::Skip);
        let (fire, runs) = fired(schedule.clone(), "2026-03-01T04:00:00Z", "2026-03-01T10:30:00Z");
        assert!(fire.is_empty());
        assert_eq!(runs, [("misfire".to_owned(), 6)]);
        let (fire, _) = fired(schedule, "2026-03-01T09:00:00Z", "2026-03-01T10:00:10Z");
        assert_eq!(fire.len(), 1);
    }

    #[test]
    fn past_its_expiry_nothing_fires_under_any_rule() {
        let schedule = Schedule::cron("s", "0 9 * * *").unwrap().misfire(Misfire::CatchUp);
        let (fire, runs) = fired(schedule, "2026-03-01T09:00:00Z", "2026-03-03T10:00:00Z");
        assert!(fire.is_empty());
        assert_eq!(runs, [("expired".to_owned(), 2)]);
    }

    #[test]
    fn a_clock_that_went_back_fires_nothing_again() {
        let step = judge(
            &entry(hourly(), "2026-03-01T10:00:00Z"),
            "2026-03-01T08:00:30Z".parse().unwrap(),
            &BTreeSet::new(),
        );
        assert_eq!(step, Step::default());
    }
}
