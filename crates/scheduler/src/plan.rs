//! The calendar of the future: what the schedules of these settings would say, to whom and when, if
//! nothing changed but the time. The instants come from the same function that fires them, the rooms
//! and the words from the same code that writes the messages down. Records nothing.

use std::cmp::Reverse;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::time::Duration;

use imbabot_bot::schedule::{Instants, occurrence_id};
use imbabot_bot::{DeliveryId, WidgetName};
use imbabot_core::{RoomId, Timestamp};
use imbabot_store::{Cursor, NewDelivery, Store, Target};

use crate::announce::{RoomsByPlace, deliveries, reach, rooms_of};
use crate::outlook::Outlook;
use crate::settings::Settings;
use crate::timer::{Purpose, purposes};

/// Announcements that reach one room within this time meet there.
const MEET: Duration = Duration::from_secs(60);

/// What to plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// What the clock shows. Of what is due before it only that is planned which waits for its
    /// jitter, unless `from` lies before it.
    pub now: Timestamp,
    /// From this instant on.
    pub from: Timestamp,
    /// Up to and with this one.
    pub until: Timestamp,
    /// At most so many occurrences.
    pub count: usize,
    /// Only this schedule's.
    pub only: Option<String>,
}

/// An occurrence that is to come.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// `schedule@instant`.
    pub occurrence: String,
    /// The schedule's key.
    pub schedule: String,
    /// The nominal instant.
    pub at: Timestamp,
    /// As a clock on a wall of the schedule's zone shows it.
    pub shown: String,
    /// With the zone's offset, RFC 3339.
    pub local: String,
    /// Its messages, by ascending widget and room.
    pub messages: Vec<PlannedMessage>,
    /// What is good to know.
    pub notes: Vec<String>,
    /// What is likely not meant.
    pub warnings: Vec<String>,
}

/// A message that is to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedMessage {
    /// The id that its delivery will have.
    pub delivery: DeliveryId,
    /// The widget.
    pub widget: WidgetName,
    /// The room.
    pub room: RoomId,
    /// The room's name, if there is a list that has it. Foreign text.
    pub name: Option<String>,
    /// The text as it would be written down now.
    pub text: String,
}

/// Plans. `store` has the last lists of rooms and what is paused.
///
/// # Errors
/// The store refuses.
pub async fn plan(
    store: &dyn Store,
    settings: &Settings,
    ask: &Ask,
) -> imbabot_store::Result<Vec<Planned>> {
    let cursors = store.cursors().await?;
    let cursors: HashMap<&str, &Cursor> =
        cursors.iter().map(|cursor| (cursor.key.as_str(), cursor)).collect();
    let cursor = |key: &str| cursors.get(key).copied();
    let all: Vec<Purpose> = purposes(settings)
        .filter(|purpose| ask.only.as_ref().is_none_or(|only| only == purpose.key()))
        .collect();
    let mut outlooks = Vec::with_capacity(all.len());
    for purpose in &all {
        let (key, schedule) = (purpose.key(), purpose.schedule());
        outlooks.push(Outlook::of(store, key, schedule, cursor(key), ask.now).await?);
    }
    let mut calendars: Vec<Instants<'_>> = all
        .iter()
        .zip(&outlooks)
        .map(|(p, outlook)| p.schedule().instants(outlook.begins(ask.from), ask.until))
        .collect();
    let mut heads = BinaryHeap::new();
    let mut moves = BTreeMap::new();
    let mut next = |place: usize, heads: &mut BinaryHeap<_>, moves: &mut BTreeMap<_, _>| {
        let (Some(calendar), Some(outlook)) = (calendars.get_mut(place), outlooks.get(place))
        else {
            return;
        };
        if let Some(instant) = calendar.find(|instant| !outlook.leaves_out(instant.at, ask.from)) {
            heads.push(Reverse((instant.at, place)));
            moves.insert((instant.at, place), (instant.moved, instant.excepted));
        }
    };
    (0..all.len()).for_each(|place| next(place, &mut heads, &mut moves));
    let mut reached = BTreeMap::new();
    let mut found = Vec::new();
    let mut begun = BTreeSet::new();
    while let Some(Reverse((at, place))) = heads.pop() {
        if found.len() >= ask.count {
            break;
        }
        next(place, &mut heads, &mut moves);
        let (moved, excepted) = moves.remove(&(at, place)).unwrap_or_default();
        let Some((purpose, outlook)) = all.get(place).zip(outlooks.get(place)) else { continue };
        let (key, schedule) = (purpose.key(), purpose.schedule());
        let mut planned = Planned {
            occurrence: occurrence_id(key, at),
            schedule: key.to_owned(),
            at,
            shown: schedule.zone().show(at),
            local: schedule.zone().rfc3339(at),
            messages: Vec::new(),
            notes: Vec::new(),
            warnings: Vec::new(),
        };
        if excepted {
            planned.notes.push("left out: the date stands in `except`".into());
        } else {
            planned.notes = outlook.notes(at, moved);
            if begun.insert(place)
                && let Some(ahead) = outlook.dealt_with_ahead()
            {
                let ahead = schedule.zone().show(ahead);
                planned
                    .notes
                    .push(format!("the clock was set back: up to {ahead} all is dealt with"));
            }
            fill(store, settings, purpose, &mut reached, &mut planned).await?;
        }
        if cursor(key).is_some_and(|cursor| cursor.paused) {
            planned
                .warnings
                .push("the schedule is paused now: it is skipped unless resumed".into());
        }
        found.push(planned);
    }
    meetings(&mut found);
    rates(settings, &all, &mut found);
    Ok(found)
}

/// `reached` has the rooms of the schedules that were asked about before: they are the same for each
/// of their instants.
async fn fill(
    store: &dyn Store,
    settings: &Settings,
    purpose: &Purpose,
    reached: &mut BTreeMap<String, Option<Vec<Target>>>,
    planned: &mut Planned,
) -> imbabot_store::Result<()> {
    let announcement = match purpose {
        Purpose::Announcement(announcement) => announcement,
        Purpose::Bot(own) => {
            let bot = &own.bot;
            planned.notes.push(format!("tells the bot {bot}; what it says is the bot's to decide"));
            return Ok(());
        }
    };
    let targets = match reached.entry(planned.schedule.clone()) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(new) => new.insert(reach(store, settings, announcement).await?),
    };
    let Some(targets) = targets else {
        let note = "which rooms it reaches is known once a daemon has fetched the list of rooms";
        planned.notes.push(note.into());
        return Ok(());
    };
    if targets.is_empty() {
        planned.warnings.push("no room is chosen by the last list: it would be skipped".into());
        return Ok(());
    }
    let of = (planned.occurrence.as_str(), planned.at);
    let rooms = rooms_of(store, targets).await?;
    let messages = deliveries(settings, announcement, of, targets, &rooms);
    for message in messages {
        if let Some(fault) = &message.detail {
            let room = message.room;
            planned.warnings.push(format!("the message to room {room} would not be sent: {fault}"));
        }
        planned.messages.push(message_of(message, &rooms));
    }
    Ok(())
}

fn message_of(message: NewDelivery, rooms: &RoomsByPlace) -> PlannedMessage {
    let delivery = message.id();
    let room = rooms.get(&(message.widget.clone(), message.room));
    let name = room.map(|room| room.name.clone());
    let NewDelivery { widget, room, text, .. } = message;
    PlannedMessage { delivery, widget, room, name, text }
}

/// Several announcements that meet in one room.
fn meetings(planned: &mut [Planned]) {
    let mut last: BTreeMap<(WidgetName, RoomId), (Timestamp, String)> = BTreeMap::new();
    for one in planned {
        let mut met: BTreeMap<String, usize> = BTreeMap::new();
        for message in &one.messages {
            let room = (message.widget.clone(), message.room);
            let here = (one.at, one.schedule.clone());
            if let Some((at, other)) = last.insert(room, here)
                && one.at.since(at) < MEET
                && other != one.schedule
            {
                *met.entry(other).or_default() += 1;
            }
        }
        one.warnings.extend(met.into_iter().map(|(other, rooms)| {
            let rooms = if rooms == 1 { "one room".into() } else { format!("{rooms} rooms") };
            format!("meets {other} in {rooms} within a minute")
        }));
    }
}

/// Messages that the rate does not let through before they expire.
fn rates(settings: &Settings, all: &[Purpose], planned: &mut [Planned]) {
    let interval = settings.delivery.rate.interval();
    let mut free: BTreeMap<WidgetName, Timestamp> = BTreeMap::new();
    for one in planned {
        let Some(purpose) = all.iter().find(|purpose| purpose.key() == one.schedule) else {
            continue;
        };
        let schedule = purpose.schedule();
        let from = one.at + schedule.delay_of(&one.occurrence);
        let expires_at = one.at + schedule.keeps();
        let mut late = 0;
        for message in &one.messages {
            let free = free.entry(message.widget.clone()).or_insert(from);
            let leaves = (*free).max(from);
            if leaves >= expires_at {
                late += 1;
            } else {
                *free = leaves + interval;
            }
        }
        if late > 0 {
            let (count, rate) = (one.messages.len(), &settings.delivery.rate);
            one.warnings.push(format!(
                "{late} of its {count} messages cannot be posted before they expire: the rate is {rate}"
            ));
        }
    }
}
