//! When the next announcement of each widget comes that chooses its rooms from a list, so that the
//! list is fresh by then. Where no list can be stale, nothing is looked up. Fires nothing: a poll
//! that was not needed does no harm, and one that is missing leaves the last list.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbabot_bot::WidgetName;
use imbabot_core::Timestamp;

use super::pace;
use crate::settings::{Announcement, Settings};

/// So many instants of one schedule are looked at for one that is still to come.
const LOOKED_AT: usize = 100;

/// The next instants, by the settings that they come from.
#[derive(Default)]
pub(super) struct Ahead {
    of: Option<Arc<Settings>>,
    /// By widget, soonest first, with the place of the announcement.
    next: BTreeMap<WidgetName, BTreeSet<(Timestamp, usize)>>,
}

impl Ahead {
    /// When the next announcement comes that chooses rooms of this widget, after `now`.
    pub(super) fn of(
        &mut self,
        settings: &Arc<Settings>,
        widget: &WidgetName,
        now: Timestamp,
    ) -> Option<Timestamp> {
        if !pace::may_be_stale(settings.poll.rooms, settings.poll.quiet_max) {
            return None;
        }
        if self.of.as_ref().is_none_or(|of| !Arc::ptr_eq(of, settings)) {
            self.adopt(settings, now);
        }
        let next = self.next.get_mut(widget)?;
        loop {
            let (at, place) = next.first().copied()?;
            if at > now {
                return Some(at);
            }
            next.pop_first();
            if let Some(at) = next_of(settings.announcements.get(place)?, now) {
                next.insert((at, place));
            }
        }
    }

    fn adopt(&mut self, settings: &Arc<Settings>, now: Timestamp) {
        self.of = Some(Arc::clone(settings));
        self.next.clear();
        for (place, announcement) in settings.announcements.iter().enumerate() {
            // Rooms by their ids alone need no list.
            if !announcement.enabled || announcement.rooms.only_ids().is_some() {
                continue;
            }
            let Some(at) = next_of(announcement, now) else { continue };
            for widget in settings.widgets.iter().filter(|w| announcement.serves(&w.name)) {
                self.next.entry(widget.name.clone()).or_default().insert((at, place));
            }
        }
    }
}

/// When an announcement is due next, its jitter included.
fn next_of(announcement: &Announcement, now: Timestamp) -> Option<Timestamp> {
    let schedule = &announcement.schedule;
    let after = now - schedule.longest_delay();
    let instants = schedule.instants(after, Timestamp::MAX).take(LOOKED_AT);
    let due = |at| schedule.due_at(schedule.id().as_str(), at);
    instants.map(|instant| due(instant.at)).find(|due| *due > now)
}
