//! Turns the rooms of occurrences into deliveries, batch by batch, from where the last batch ended.
//! Chooses no room: those were pinned when the occurrence fired.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use imbabot_bot::schedule::Overlap;
use imbabot_core::Timestamp;
use imbabot_store::{Expansion, MANUAL, Pinned, Target};

use super::agenda::{Agenda, Purpose};
use crate::announce::{RoomsByPlace, deliveries, rooms_of};
use crate::settings::{Announcement, Settings};
use crate::shared::Shared;

/// Deliveries per batch. The occurrences of a batch share commits.
const BATCH: usize = 500;

/// Turns pinned rooms into deliveries, batch by batch; a kill in between is continued here. Stops
/// where something else is to be done first: a schedule is due, settings wait, the daemon stops.
pub(super) async fn expand(
    shared: &Shared,
    settings: &Settings,
    agenda: &Agenda,
) -> imbabot_store::Result<usize> {
    let soonest = agenda.soonest();
    let mut batches = 0;
    let interrupted = |batches: usize| {
        let waiting = || shared.reload.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        batches > 0
            && (soonest.is_some_and(|due| due <= shared.clock.now())
                || shared.stop.is_cancelled()
                || waiting())
    };
    while !interrupted(batches) {
        let pinned = shared.store.pinned(BATCH).await?;
        if pinned.is_empty() {
            break;
        }
        let rooms = rooms_for(shared, agenda, &pinned).await?;
        let now = shared.clock.now();
        let expansions: Vec<BoxFuture<'_, imbabot_store::Result<bool>>> = pinned
            .into_iter()
            .map(|pinned| {
                let announcement = announcement(agenda, &pinned.key);
                let batch = batch_of(settings, announcement, &pinned, &rooms, now);
                shared.store.expand(batch).boxed()
            })
            .collect();
        for expanded in join_all(expansions).await {
            expanded?;
        }
        shared.idle.deliverer.store(false, Ordering::Release);
        shared.bells.deliverer.notify_one();
        batches += 1;
    }
    Ok(batches)
}

fn announcement<'a>(agenda: &'a Agenda, key: &str) -> Option<&'a Announcement> {
    match &agenda.find(key)?.purpose {
        Purpose::Announcement(announcement) => Some(announcement),
        Purpose::Bot(_) => None,
    }
}

/// What is known of the rooms of a batch, as far as the texts ask for it.
async fn rooms_for(
    shared: &Shared,
    agenda: &Agenda,
    pinned: &[Pinned],
) -> imbabot_store::Result<RoomsByPlace> {
    let named = pinned
        .iter()
        .filter(|pinned| announcement(agenda, &pinned.key).is_some_and(|a| a.text.needs_room()));
    let mut targets: Vec<Target> = named.flat_map(|pinned| pinned.targets.clone()).collect();
    targets.sort_unstable();
    targets.dedup();
    rooms_of(&*shared.store, &targets).await
}

fn batch_of(
    settings: &Settings,
    announcement: Option<&Announcement>,
    pinned: &Pinned,
    rooms: &RoomsByPlace,
    now: Timestamp,
) -> Expansion {
    let of = (pinned.id.as_str(), pinned.nominal_at);
    let deliveries = announcement.map(|a| deliveries(settings, a, of, &pinned.targets, rooms));
    Expansion {
        id: pinned.id.clone(),
        now,
        position: pinned.position,
        served: pinned.targets.len(),
        deliveries: deliveries.unwrap_or_default(),
        // A person who asks for one now means now.
        skip_overlap: !pinned.id.ends_with(MANUAL)
            && announcement.is_some_and(|a| a.schedule.overlap_rule() == Overlap::Skip),
    }
}
