//! After a clock that was far ahead was corrected: what was left out under it, and is to come now,
//! counts as left out no longer. Moves no cursor.

use std::collections::HashMap;

use imbabot_bot::Schedule;
use imbabot_core::Timestamp;
use imbabot_store::{REANCHORED_BEYOND, RangeRecord, Store};

use super::agenda::{Purpose, purposes};
use crate::settings::Settings;

/// Ends at `now` every run of left-out instants that reaches over it, for schedules whose cursor is
/// about to be set back to it. What lies behind `now` altogether is taken back with the cursor.
///
/// # Errors
/// The store refuses.
pub(crate) async fn shorten_runs(
    store: &dyn Store,
    now: Timestamp,
    settings: &Settings,
) -> imbabot_store::Result<()> {
    let mut cursors = store.cursors().await?;
    cursors.retain(|cursor| cursor.fired_through > now + REANCHORED_BEYOND);
    if cursors.is_empty() {
        return Ok(());
    }
    let purposes: Vec<Purpose> = purposes(settings).collect();
    let by_key: HashMap<&str, &Purpose> = purposes.iter().map(|p| (p.key(), p)).collect();
    for cursor in cursors {
        let Some(purpose) = by_key.get(cursor.key.as_str()) else { continue };
        for run in store.runs_across(&cursor.key, now).await? {
            let (to, count) = up_to(purpose.schedule(), &run, now);
            store.shorten_run(now, &run, to, count).await?;
        }
    }
    Ok(())
}

/// The last instant of a run up to `now`, and how many it has up to then: all that the calendar has,
/// for a run has no holes. If the rule was edited meanwhile its instants are not known any more: then the run
/// ends now, so that all of them are still told, and has as many as are its share of the time.
fn up_to(schedule: &Schedule, run: &RangeRecord, now: Timestamp) -> (Timestamp, u64) {
    let before = Timestamp::from_micros(run.from.as_micros().saturating_sub(1));
    let enough = usize::try_from(run.count).unwrap_or(usize::MAX).saturating_add(1);
    let (mut to, mut count, mut all, mut last) = (run.from, 0, 0, before);
    for instant in schedule.instants(before, run.to).take(enough) {
        (all, last) = (all + 1, instant.at);
        if last <= now {
            (to, count) = (last, all);
        }
    }
    if (all, last) != (run.count, run.to) {
        let share = now.since(run.from).as_secs_f64() / run.to.since(run.from).as_secs_f64();
        (to, count) = (now, of(run.count, share));
    }
    (to, count.clamp(1, run.count.saturating_sub(1).max(1)))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a share of a number is about so many"
)]
fn of(count: u64, share: f64) -> u64 {
    (count as f64 * share).round() as u64
}

#[cfg(test)]
mod tests {
    use imbabot_store::OccurrenceOutcome;

    use super::*;

    fn shortened(cron: &str, now: &str) -> (String, u64) {
        let run = RangeRecord {
            schedule: "s".into(),
            outcome: OccurrenceOutcome::Missed,
            reason: "expired".into(),
            from: "2026-03-01T01:00:00Z".parse().unwrap(),
            to: "2026-03-03T00:00:00Z".parse().unwrap(),
            count: 48,
        };
        let schedule = Schedule::cron("s", cron).unwrap();
        let (to, count) = up_to(&schedule, &run, now.parse().unwrap());
        (to.compact(), count)
    }

    #[test]
    fn a_run_ends_at_its_last_instant_before_the_corrected_clock() {
        let hourly = |now| shortened("0 * * * *", now);
        assert_eq!(hourly("2026-03-01T12:30:00Z"), ("2026-03-01T12:00:00Z".into(), 12));
        assert_eq!(hourly("2026-03-01T12:00:00Z"), ("2026-03-01T12:00:00Z".into(), 12));
    }

    #[test]
    fn a_run_of_a_rule_that_was_edited_still_tells_of_all_up_to_the_corrected_clock() {
        let now = "2026-03-01T12:30:00Z";
        for other in ["30 2 * * *", "0 */2 * * *", "30 * * * *", "*/5 * * * *"] {
            assert_eq!(shortened(other, now), (now.into(), 12), "{other}");
        }
    }
}
