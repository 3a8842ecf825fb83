//! An extra occurrence that a person asks for. Moves no cursor.

use std::time::Duration;

use imbabot_bot::Schedule;
use imbabot_bot::schedule::occurrence_id;
use imbabot_core::Timestamp;
use imbabot_store::{MANUAL, NewOccurrence, OccurrenceOutcome, Store};

use super::agenda::{Purpose, purposes};
use super::fire::events_of;
use crate::announce::{Rooms, choose};
use crate::settings::Settings;

/// Makes one extra occurrence now, beside the schedule's own; its id. `None` if there is no such
/// schedule, or no room that it would reach.
///
/// # Errors
/// The store refuses.
pub async fn trigger(
    store: &dyn Store,
    settings: &Settings,
    key: &str,
    now: Timestamp,
) -> imbabot_store::Result<Option<String>> {
    let Some(purpose) = purposes(settings).find(|purpose| purpose.key() == key) else {
        return Ok(None);
    };
    let schedule = purpose.schedule();
    // Two in one second are two.
    let id = format!("{}{MANUAL}", occurrence_id(key, now));
    let (targets, events) = match &purpose {
        Purpose::Bot(own) => {
            let events = events_of(settings, &own.bot, schedule.id().as_str(), &id, now);
            (Vec::new(), events)
        }
        Purpose::Announcement(announcement) => {
            match choose(store, settings, announcement, &[schedule_instant(schedule, now)], now)
                .await?
            {
                Rooms::Chosen(targets) => (targets, Vec::new()),
                Rooms::None | Rooms::Wait => return Ok(None),
            }
        }
    };
    let occurrence = NewOccurrence {
        id: id.clone(),
        nominal_at: now,
        outcome: OccurrenceOutcome::Fired,
        reason: None,
        targets,
        events,
    };
    store.trigger(now, key, occurrence).await?;
    Ok(Some(id))
}

/// A manual occurrence does not wait for widgets that have never answered.
fn schedule_instant(schedule: &Schedule, now: Timestamp) -> Timestamp {
    now - schedule.grace_period() - Duration::from_secs(1)
}
