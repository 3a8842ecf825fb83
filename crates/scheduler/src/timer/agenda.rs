//! Which schedules are in force, how far each has come, and which is due next. Asking for the next one
//! costs the same with one schedule as with a hundred thousand. Pure: no store, no clock; it fires
//! nothing.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use imbabot_bot::schedule::occurrence_id;
use imbabot_bot::{BotName, Schedule};
use imbabot_core::Timestamp;
use imbabot_store::{AdoptSchedule, Cursor};

use crate::settings::{Announcement, Settings};

/// Whom a schedule serves.
#[derive(Clone)]
pub(crate) enum Purpose {
    Announcement(Arc<Announcement>),
    Bot(Arc<OwnSchedule>),
}

/// A schedule of a bot's own.
pub(crate) struct OwnSchedule {
    pub(crate) bot: BotName,
    key: String,
    schedule: Schedule,
}

/// The key of a bot's own schedule: no name of a person's choosing has a slash.
#[must_use]
pub fn bot_schedule_key(bot: &BotName, schedule: &Schedule) -> String {
    format!("bot/{bot}/{}", schedule.id())
}

impl Purpose {
    pub(crate) fn key(&self) -> &str {
        match self {
            Self::Announcement(announcement) => announcement.schedule.id().as_str(),
            Self::Bot(own) => &own.key,
        }
    }

    pub(crate) fn schedule(&self) -> &Schedule {
        match self {
            Self::Announcement(announcement) => &announcement.schedule,
            Self::Bot(own) => &own.schedule,
        }
    }
}

/// The schedules of these settings as the store knows them.
pub(crate) fn definitions(settings: &Settings) -> Vec<AdoptSchedule> {
    purposes(settings)
        .map(|purpose| AdoptSchedule {
            key: purpose.key().to_owned(),
            definition: purpose.schedule().time_definition(),
        })
        .collect()
}

/// The schedules of these settings.
pub(crate) fn purposes(settings: &Settings) -> impl Iterator<Item = Purpose> + '_ {
    let announcements = settings
        .announcements
        .iter()
        .filter(|announcement| announcement.enabled)
        .map(|announcement| Purpose::Announcement(Arc::clone(announcement)));
    let bots = settings.bots.iter().flat_map(|bot| {
        bot.bot.schedules().into_iter().map(|schedule| {
            let key = bot_schedule_key(&bot.name, &schedule);
            Purpose::Bot(Arc::new(OwnSchedule { bot: bot.name.clone(), key, schedule }))
        })
    });
    announcements.chain(bots)
}

/// A schedule in force.
pub(crate) struct Entry {
    pub(super) purpose: Purpose,
    pub(super) through: Timestamp,
    /// The last instant that fired; the beginning of time if none has. It lies ahead of the cursor
    /// where the clock went far back.
    pub(super) last_fired: Timestamp,
    pub(super) paused: bool,
    /// It is due, and no snapshot says yet to which rooms.
    pub(super) awaits_snapshot: bool,
    /// When it has to be looked at next; the end of time if never.
    due: Timestamp,
}

/// An entry that is never due again.
const NEVER: Timestamp = Timestamp::MAX;

impl Entry {
    /// A schedule that has come so far.
    pub(super) fn new(purpose: Purpose, through: Timestamp) -> Self {
        Self {
            purpose,
            through,
            last_fired: Timestamp::MIN,
            paused: false,
            awaits_snapshot: false,
            due: NEVER,
        }
    }

    pub(super) fn key(&self) -> &str {
        self.purpose.key()
    }

    pub(super) fn schedule(&self) -> &Schedule {
        self.purpose.schedule()
    }

    pub(super) fn due(&self) -> Option<Timestamp> {
        (self.due != NEVER).then_some(self.due)
    }

    fn follow(&mut self, cursor: &Cursor) {
        self.through = cursor.fired_through;
        self.last_fired = cursor.last_fired.unwrap_or(Timestamp::MIN);
        self.paused = cursor.paused;
    }

    /// The id of its occurrence at an instant.
    pub(super) fn occurrence(&self, at: Timestamp) -> String {
        occurrence_id(self.key(), at)
    }

    /// An instant and its jitter.
    pub(super) fn due_at(&self, at: Timestamp) -> Timestamp {
        self.schedule().due_at(self.key(), at)
    }

    /// When the next instant after the cursor is due.
    fn next_due(&self) -> Timestamp {
        let next = self.schedule().instants(self.through, Timestamp::MAX).next();
        next.map_or(NEVER, |instant| self.due_at(instant.at))
    }
}

/// The schedules in force, and the order in which they are due. An entry is named by its place, which
/// stays the same as long as the agenda lives.
#[derive(Default)]
pub struct Agenda {
    /// By key.
    entries: Vec<Entry>,
    /// When an entry is due, and its place.
    queue: BTreeSet<(Timestamp, u32)>,
    /// No cursor lies further ahead.
    farthest: Option<Timestamp>,
}

impl Agenda {
    pub(super) fn new(mut entries: Vec<Entry>) -> Self {
        entries.sort_unstable_by(|a, b| a.key().cmp(b.key()));
        entries.iter_mut().for_each(|entry| entry.due = entry.next_due());
        let farthest = entries.iter().map(|entry| entry.through).max();
        let mut queue = Vec::with_capacity(entries.len());
        queue.extend((0..).zip(&entries).filter_map(|(place, entry)| Some((entry.due()?, place))));
        Self { entries, queue: queue.into_iter().collect(), farthest }
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn get(&self, place: u32) -> Option<&Entry> {
        self.entries.get(usize::try_from(place).ok()?)
    }

    pub(super) fn find(&self, key: &str) -> Option<&Entry> {
        let place = self.entries.binary_search_by(|entry| entry.key().cmp(key)).ok()?;
        self.entries.get(place)
    }

    /// The cursor that lies farthest ahead.
    pub(super) fn farthest(&self) -> Option<Timestamp> {
        self.farthest
    }

    /// When the first entry is due; `None` if none will ever be.
    #[must_use]
    pub fn soonest(&self) -> Option<Timestamp> {
        self.queue.first().map(|(due, _)| *due)
    }

    /// The places of what is due up to `now`, the longest due first.
    #[must_use]
    pub fn due_until(&self, now: Timestamp) -> Vec<u32> {
        self.queue.range(..=(now, u32::MAX)).map(|(_, place)| *place).collect()
    }

    /// The entries that are due next, soonest first.
    pub(super) fn next(&self) -> impl Iterator<Item = (Timestamp, &Entry)> {
        self.queue.iter().filter_map(|(due, place)| Some((*due, self.get(*place)?)))
    }

    /// The first cursor that lies ahead of `now`: the clock went back.
    pub(super) fn ahead_of(&self, now: Timestamp) -> Option<Timestamp> {
        // Looked for among all of them, and only where there is one.
        self.farthest.filter(|farthest| *farthest > now)?;
        self.entries.iter().map(|entry| entry.through).filter(|through| *through > now).min()
    }

    /// An entry is dealt with up to this instant: its next one is looked for.
    pub fn advance(&mut self, place: u32, through: Timestamp) {
        self.update(place, |entry| entry.through = entry.through.max(through));
    }

    /// Changes an entry and finds out when it is due next.
    pub(super) fn update(&mut self, place: u32, change: impl FnOnce(&mut Entry)) {
        let Some(entry) = usize::try_from(place).ok().and_then(|n| self.entries.get_mut(n)) else {
            return;
        };
        change(entry);
        let due = entry.next_due();
        self.farthest = self.farthest.max(Some(entry.through));
        self.requeue(place, due);
    }

    /// An entry that could not be dealt with is looked at again at this instant.
    pub(super) fn put_off(&mut self, place: u32, until: Timestamp) {
        if let Some(entry) = usize::try_from(place).ok().and_then(|n| self.entries.get_mut(n)) {
            entry.awaits_snapshot = true;
            self.requeue(place, until);
        }
    }

    /// An entry whose cursor somebody else moved: it is due again when that is followed, or at this
    /// instant at the latest.
    pub(super) fn look_again(&mut self, place: u32, at: Timestamp) {
        self.requeue(place, at);
    }

    fn requeue(&mut self, place: u32, due: Timestamp) {
        let Some(entry) = usize::try_from(place).ok().and_then(|n| self.entries.get_mut(n)) else {
            return;
        };
        let before = std::mem::replace(&mut entry.due, due);
        if before == due {
            return;
        }
        self.queue.remove(&(before, place));
        if due != NEVER {
            self.queue.insert((due, place));
        }
    }

    /// Somebody else may have moved cursors, or paused a schedule. Whether anybody had.
    pub(super) fn follow(&mut self, cursors: &[Cursor]) -> bool {
        let mut moved = false;
        for cursor in cursors {
            let found = self.entries.binary_search_by(|entry| entry.key().cmp(&cursor.key));
            let Ok(place) = found else { continue };
            let Some(entry) = self.entries.get(place) else { continue };
            // As after most looks: nothing is different.
            if entry.through != cursor.fired_through
                || entry.paused != cursor.paused
                || entry.last_fired != cursor.last_fired.unwrap_or(Timestamp::MIN)
            {
                let place = u32::try_from(place).unwrap_or(u32::MAX);
                self.update(place, |entry| entry.follow(cursor));
                moved = true;
            }
        }
        self.farthest = self.entries.iter().map(|entry| entry.through).max();
        moved
    }

    /// The schedules of these settings, where the store says they stand. One that it has not adopted
    /// is left out.
    #[must_use]
    pub fn of(settings: &Settings, mut cursors: Vec<Cursor>) -> Self {
        // The store hands them out like this: then it costs nothing.
        cursors.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        let purposes: Vec<Purpose> = purposes(settings).collect();
        let by_key: HashMap<&str, &Purpose> = purposes.iter().map(|p| (p.key(), p)).collect();
        let mut entries = Vec::with_capacity(cursors.len());
        entries.extend(cursors.iter().filter_map(|cursor| {
            let purpose = *by_key.get(cursor.key.as_str())?;
            let mut entry = Entry::new(purpose.clone(), cursor.fired_through);
            entry.follow(cursor);
            Some(entry)
        }));
        Self::new(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn entry(id: &str, cron: &str) -> Entry {
        let schedule = Schedule::cron(id, cron).unwrap();
        let bot: BotName = "b".parse().unwrap();
        let key = bot_schedule_key(&bot, &schedule);
        let purpose = Purpose::Bot(Arc::new(OwnSchedule { bot, key, schedule }));
        Entry::new(purpose, at("2026-03-01T00:00:00Z"))
    }

    fn agenda() -> Agenda {
        Agenda::new(vec![entry("noon", "0 12 * * *"), entry("ten", "0 10 * * *")])
    }

    fn places_due(agenda: &Agenda, now: &str) -> Vec<String> {
        let due = agenda.due_until(at(now));
        due.iter().map(|place| agenda.get(*place).unwrap().key().to_owned()).collect()
    }

    #[test]
    fn what_is_due_comes_in_the_order_of_its_instants() {
        let agenda = agenda();
        assert_eq!(agenda.soonest(), Some(at("2026-03-01T10:00:00Z")));
        assert_eq!(places_due(&agenda, "2026-03-01T09:59:59Z"), Vec::<String>::new());
        assert_eq!(places_due(&agenda, "2026-03-01T10:00:00Z"), ["bot/b/ten"]);
        assert_eq!(places_due(&agenda, "2026-03-01T13:00:00Z"), ["bot/b/ten", "bot/b/noon"]);
    }

    #[test]
    fn an_entry_whose_cursor_moved_is_due_at_its_next_instant_and_only_there() {
        let mut agenda = agenda();
        let ten = agenda.due_until(at("2026-03-01T10:00:00Z"))[0];
        agenda.update(ten, |entry| entry.through = at("2026-03-01T10:00:00Z"));
        assert_eq!(places_due(&agenda, "2026-03-01T23:00:00Z"), ["bot/b/noon"]);
        let next: Vec<Timestamp> = agenda.next().map(|(due, _)| due).collect();
        assert_eq!(next, [at("2026-03-01T12:00:00Z"), at("2026-03-02T10:00:00Z")]);
    }

    #[test]
    fn an_entry_that_is_put_off_keeps_its_cursor() {
        let mut agenda = agenda();
        let ten = agenda.due_until(at("2026-03-01T10:00:00Z"))[0];
        agenda.put_off(ten, at("2026-03-01T10:00:01Z"));
        assert_eq!(places_due(&agenda, "2026-03-01T10:00:00Z"), Vec::<String>::new());
        assert_eq!(places_due(&agenda, "2026-03-01T10:00:01Z"), ["bot/b/ten"]);
        let entry = agenda.find("bot/b/ten").unwrap();
        assert!(entry.awaits_snapshot);
        assert_eq!(entry.through, at("2026-03-01T00:00:00Z"));
    }

    #[test]
    fn the_first_cursor_ahead_of_a_clock_that_went_back_is_known() {
        let mut agenda = agenda();
        assert_eq!(agenda.ahead_of(at("2026-03-01T00:00:00Z")), None);
        let ten = agenda.due_until(at("2026-03-01T10:00:00Z"))[0];
        agenda.update(ten, |entry| entry.through = at("2026-03-01T10:00:00Z"));
        assert_eq!(agenda.farthest(), Some(at("2026-03-01T10:00:00Z")));
        assert_eq!(agenda.ahead_of(at("2026-03-01T09:00:00Z")), Some(at("2026-03-01T10:00:00Z")));
    }

    #[test]
    fn a_cursor_that_somebody_else_moved_is_followed() {
        let mut agenda = agenda();
        let moved = Cursor {
            key: "bot/b/ten".into(),
            definition: String::new(),
            fired_through: at("2026-03-04T10:00:00Z"),
            paused: true,
            last_fired: None,
            missed: 0,
            reanchored: false,
        };
        assert!(agenda.follow(std::slice::from_ref(&moved)));
        assert!(!agenda.follow(&[moved]));
        assert!(agenda.find("bot/b/ten").unwrap().paused);
        assert_eq!(places_due(&agenda, "2026-03-04T11:00:00Z"), ["bot/b/noon"]);
        assert_eq!(agenda.farthest(), Some(at("2026-03-04T10:00:00Z")));
    }
}
