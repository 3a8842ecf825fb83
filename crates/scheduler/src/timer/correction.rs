//! After a clock that was far ahead was corrected: what was left out under it, and is to come now,
//! counts as left out no longer. Moves no cursor.

use std::collections::HashMap;

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
            let (to, count) = up_to(purpose, &run, now);
            store.shorten_run(now, &run, to, count).await?;
        }
    }
    Ok(())
}

/// The last instant of a run up to `now`, and how many it has up to then: all that the calendar has,
/// for a run has no holes. If the rule was edited meanwhile it is a guess: the first instant at least was left
/// out, and fewer than the run had.
fn up_to(purpose: &Purpose, run: &RangeRecord, now: Timestamp) -> (Timestamp, u64) {
    let before = Timestamp::from_micros(run.from.as_micros().saturating_sub(1));
    let instants = purpose.schedule().instants(before, now);
    let (to, count) = instants.fold((run.from, 0), |(_, n), instant| (instant.at, n + 1));
    (to, count.clamp(1, run.count.saturating_sub(1).max(1)))
}
