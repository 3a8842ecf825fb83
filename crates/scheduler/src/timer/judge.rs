//! What becomes of the instants between a schedule's cursor and now: which fire, and why the others do
//! not. Pure: asks neither the store nor the time, and knows nothing of rooms.

use std::collections::{BTreeSet, VecDeque};

use imbabot_bot::schedule::{Instant, Misfire};
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

/// What an instant comes to.
enum Fate {
    /// It was recorded under another clock.
    Recorded,
    LeftOut(OccurrenceOutcome, &'static str),
    OnTime,
    /// The misfire rule decides.
    Late,
}

fn fate(
    entry: &Entry,
    instant: &Instant,
    due: Timestamp,
    now: Timestamp,
    recorded: &BTreeSet<Timestamp>,
) -> Fate {
    use OccurrenceOutcome::{Missed, Skipped};
    let schedule = entry.schedule();
    if recorded.contains(&instant.at) {
        Fate::Recorded
    } else if instant.excepted {
        Fate::LeftOut(Skipped, "except")
    } else if entry.paused {
        Fate::LeftOut(Skipped, "paused")
    } else if instant.at + schedule.keeps() <= now {
        let why = if entry.awaits_snapshot { "no_snapshot" } else { "expired" };
        Fate::LeftOut(Missed, why)
    } else if now.since(due) <= schedule.grace_period() {
        Fate::OnTime
    } else {
        Fate::Late
    }
}

/// What becomes of each instant between the cursor and now, but for those that are recorded.
pub(super) fn judge(entry: &Entry, now: Timestamp, recorded: &BTreeSet<Timestamp>) -> Step {
    let late = late_that_fire(entry, now, recorded);
    let mut step = Step::default();
    for instant in entry.schedule().instants(entry.through, now) {
        let at = instant.at;
        let due = entry.due_at(at);
        if due > now {
            break;
        }
        let before = step.through.replace(at).unwrap_or(entry.through);
        // Recorded under another clock and another rule: no run may reach over that either.
        step.apart |= recorded.range(before..at).any(|other| *other > before);
        match fate(entry, &instant, due, now, recorded) {
            // No run may reach over it.
            Fate::Recorded => step.apart = true,
            Fate::LeftOut(outcome, reason) => step.leave_out(at, outcome, reason),
            Fate::Late if !late.contains(&at) => {
                step.leave_out(at, OccurrenceOutcome::Missed, "misfire");
            }
            Fate::OnTime | Fate::Late => {
                step.fire.push(at);
                step.apart = true;
            }
        }
    }
    step
}

/// The late instants that fire all the same, by the misfire rule: the latest of them, so many. They
/// are found beforehand, so that the verdicts can be told in the order of their instants.
fn late_that_fire(
    entry: &Entry,
    now: Timestamp,
    recorded: &BTreeSet<Timestamp>,
) -> VecDeque<Timestamp> {
    let schedule = entry.schedule();
    let bound = match schedule.misfire_rule() {
        Misfire::Skip => 0,
        Misfire::CatchUp => usize::try_from(schedule.catch_up_bound()).unwrap_or(usize::MAX),
        _ => 1,
    };
    let mut late = VecDeque::new();
    if bound == 0 {
        return late;
    }
    // What is older has expired.
    let after = entry.through.max(now - schedule.keeps());
    for instant in schedule.instants(after, now) {
        let due = entry.due_at(instant.at);
        if due > now {
            break;
        }
        match fate(entry, &instant, due, now, recorded) {
            Fate::Late => {
                late.push_back(instant.at);
                if late.len() > bound {
                    late.pop_front();
                }
            }
            // One of everything that is due: a late one is not worth saying beside one that is on
            // time.
            Fate::OnTime if schedule.misfire_rule() == Misfire::FireOnce => {
                late.clear();
                break;
            }
            _ => {}
        }
    }
    late
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

    /// Each instant is in one place, and each run has all the instants between its ends.
    fn is_told_once(schedule: &Schedule, through: &str, now: &str, recorded: &BTreeSet<Timestamp>) {
        let (from, to): (Timestamp, Timestamp) = (through.parse().unwrap(), now.parse().unwrap());
        let step = judge(&entry(schedule.clone(), through), to, recorded);
        let all: Vec<Timestamp> = schedule.instants(from, to).map(|instant| instant.at).collect();
        let mut told: Vec<Timestamp> = step.fire.clone();
        told.extend(recorded);
        for run in &step.runs {
            let inside: Vec<Timestamp> =
                all.iter().copied().filter(|at| (run.from..=run.to).contains(at)).collect();
            assert_eq!(inside.len() as u64, run.count, "{run:?}");
            told.extend(inside);
        }
        told.sort_unstable();
        assert_eq!(told, all);
    }

    #[test]
    fn no_run_reaches_over_what_fired_under_a_rule_that_was_edited_since() {
        // Fired at half past by the old rule, under a clock far ahead.
        let recorded = ["2026-03-01T02:30:00Z", "2026-03-01T06:30:00Z"];
        let recorded: BTreeSet<Timestamp> = recorded.map(|at| at.parse().unwrap()).into();
        let schedule = hourly().misfire(Misfire::Skip);
        let now = "2026-03-01T10:30:00Z".parse().unwrap();
        let step = judge(&entry(schedule, "2026-03-01T00:00:00Z"), now, &recorded);
        let runs: Vec<_> =
            step.runs.iter().map(|r| (r.from.compact(), r.to.compact(), r.count)).collect();
        let at = |hour: u8| format!("2026-03-01T{hour:02}:00:00Z");
        assert_eq!(runs, [(at(1), at(2), 2), (at(3), at(6), 4), (at(7), at(10), 4)]);
    }

    #[test]
    fn no_run_reaches_over_an_instant_that_fires_is_recorded_or_is_left_out_for_another_reason() {
        let hour = Duration::from_secs(3_600);
        for misfire in [Misfire::Skip, Misfire::FireOnce, Misfire::CatchUp] {
            for except in [vec![], vec!["2026-03-03"], vec!["2026-03-03", "2026-03-05"]] {
                for keeps in [1, 30, 24 * 9] {
                    for (cron, now) in [
                        ("0 * * * *", "2026-03-04T12:30:00Z"),
                        ("0 * * * *", "2026-03-05T12:00:10Z"),
                        ("0 9 * * *", "2026-03-05T12:00:00Z"),
                    ] {
                        let schedule = Schedule::cron("s", cron).unwrap().misfire(misfire);
                        let schedule = schedule.catch_up_max(20).expires_after(hour * keeps);
                        let schedule = schedule.except(except.clone()).unwrap();
                        let begin = "2026-03-02T00:30:00Z";
                        is_told_once(&schedule, begin, now, &BTreeSet::new());
                        let recorded = schedule
                            .instants(begin.parse().unwrap(), now.parse().unwrap())
                            .map(|instant| instant.at)
                            .skip(1)
                            .step_by(7)
                            .collect();
                        is_told_once(&schedule, begin, now, &recorded);
                    }
                }
            }
        }
    }
}
