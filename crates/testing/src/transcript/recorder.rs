//! Writes the transcript, step by step: first what people did since the last step, then what the
//! daemon made of it, in the order of its ledger. Looks at the simulator and the store, and changes
//! neither.

use std::collections::{BTreeMap, HashMap, VecDeque};

use imbabot_bot::{DeliveryId, WidgetName};
use imbabot_core::{RoomId, RoomKind, Timestamp};
use imbabot_simulator::{Change, Room, Simulator};
use imbabot_store::{
    AttemptRecord, Class, DeliveryRecord, DeliveryState, EventOutcome, EventRecord, LedgerLine,
    Line, OccurrenceOutcome, OccurrenceRecord,
};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;

use super::{Deed, Entry, Message, Transcript, What};
use crate::clock::VirtualClock;
use crate::witness::{Heard, HeardEnd, Witness};

/// Watches sites, bots and the ledger.
pub(crate) struct Recorder {
    pub(crate) witness: Witness,
    sites: Vec<Site>,
    /// The last line of the ledger that was read.
    pub(crate) seq: i64,
    heard: VecDeque<Heard>,
    /// Deliveries that have not ended.
    pub(crate) open: HashMap<DeliveryId, DeliveryRecord>,
    pub(crate) transcript: Transcript,
    /// Tries of handlers that failed.
    pub(crate) failures: Vec<String>,
    /// As their last line has them.
    pub(crate) occurrences: BTreeMap<String, OccurrenceRecord>,
    /// When the events happened that bots were told.
    pub(crate) events: HashMap<String, Timestamp>,
}

/// One simulated site.
struct Site {
    widget: WidgetName,
    changes: Receiver<Change>,
    rooms: HashMap<i64, Room>,
    /// Something of its lists may be another than at the last poll.
    moved: bool,
}

impl Recorder {
    pub(crate) fn new(clock: VirtualClock) -> Self {
        Self {
            witness: Witness::new(clock),
            sites: Vec::new(),
            seq: 0,
            heard: VecDeque::new(),
            open: HashMap::new(),
            transcript: Transcript::default(),
            failures: Vec::new(),
            occurrences: BTreeMap::new(),
            events: HashMap::new(),
        }
    }

    /// Watches a site from now on; what is there already is no news.
    pub(crate) fn watch(&mut self, widget: WidgetName, simulator: &Simulator) {
        let changes = simulator.subscribe();
        let rooms = simulator.rooms().into_iter().map(|room| (room.id, room)).collect();
        self.sites.push(Site { widget, changes, rooms, moved: false });
    }

    /// Whether a list may be another than when this was asked last.
    pub(crate) fn take_moved(&mut self) -> bool {
        let mut moved = false;
        for site in &mut self.sites {
            moved |= std::mem::take(&mut site.moved);
        }
        moved
    }

    pub(crate) fn has_moved(&self) -> bool {
        self.sites.iter().any(|site| site.moved)
    }

    /// How many open deliveries could be sent up to this instant.
    pub(crate) fn waits_until(&self, until: Timestamp) -> usize {
        self.open.values().filter(|record| record.not_before <= until).count()
    }

    pub(crate) fn room_name(&self, widget: &WidgetName, room: RoomId) -> Option<String> {
        let site = self.sites.iter().find(|site| site.widget == *widget)?;
        Some(site.rooms.get(&i64::try_from(room.0).ok()?)?.name.clone())
    }

    /// Something that was done to the server or the daemon.
    pub(crate) fn fault(&mut self, at: Timestamp, what: String) {
        let what = What::Fault(what);
        self.transcript.push(Entry { at, widget: None, room: None, name: None, what });
    }

    /// What people did since the last step.
    pub(crate) fn people(&mut self, now: Timestamp) {
        for site in &mut self.sites {
            loop {
                match site.changes.try_recv() {
                    Ok(change) => {
                        site.moved = true;
                        let widget = site.widget.clone();
                        if let Some(entry) = site.deed(now, widget, change) {
                            self.transcript.push(entry);
                        }
                    }
                    Err(TryRecvError::Lagged(missed)) => {
                        site.moved = true;
                        let what = What::Fault(format!("{missed} more changes that are not told"));
                        let widget = Some(site.widget.clone());
                        self.transcript.push(Entry {
                            at: now,
                            widget,
                            room: None,
                            name: None,
                            what,
                        });
                    }
                    Err(_) => break,
                }
            }
        }
    }

    /// What the daemon did in this step.
    pub(crate) fn daemon(&mut self, now: Timestamp, lines: Vec<LedgerLine>) {
        // What it did to the site stands in its ledger.
        for site in &mut self.sites {
            while let Ok(_) | Err(TryRecvError::Lagged(_)) = site.changes.try_recv() {
                site.moved = true;
            }
        }
        self.heard.extend(self.witness.take_ended());
        for line in lines {
            self.seq = self.seq.max(line.seq);
            match line.line {
                Line::Delivery(record) => self.delivery(now, *record),
                Line::Attempt(record) => self.attempt(now, &record),
                Line::Event(record) => self.event(now, record),
                Line::Occurrence(record) => self.occurrence(now, record),
                Line::Range(record) => {
                    self.left_out(
                        now,
                        (record.schedule, record.from, record.count),
                        record.outcome,
                        record.reason,
                    );
                }
                Line::Incarnation(_) | Line::Operator(_) => {}
            }
        }
        // Tries of which the store keeps nothing.
        while let Some(heard) = self.heard.pop_front() {
            self.told(heard);
        }
    }

    fn left_out(
        &mut self,
        at: Timestamp,
        (schedule, from, count): (String, Timestamp, u64),
        outcome: OccurrenceOutcome,
        reason: String,
    ) {
        // What fired long ago becomes a run, too, when it is pruned.
        if outcome == OccurrenceOutcome::Fired {
            return;
        }
        let what = What::LeftOut { schedule, from, count, outcome, reason };
        self.transcript.push(Entry { at, widget: None, room: None, name: None, what });
    }

    fn occurrence(&mut self, now: Timestamp, record: OccurrenceRecord) {
        if record.outcome != OccurrenceOutcome::Fired {
            let reason = record.reason.clone().unwrap_or_default();
            let which = (record.schedule.clone(), record.nominal_at, 1);
            self.left_out(now, which, record.outcome, reason);
        }
        self.occurrences.insert(record.id.clone(), record);
    }

    fn event(&mut self, now: Timestamp, record: EventRecord) {
        let Some((event, _)) = record.id.split_once('/') else { return };
        if let Some(at) = record.at {
            self.events.insert(event.to_owned(), at);
        }
        let event = event.to_owned();
        match record.outcome {
            Some(EventOutcome::Handled) => self.tell(&event, record.bot.as_str()),
            Some(EventOutcome::Poisoned) => {
                self.tell(&event, record.bot.as_str());
                let name = record.room.and_then(|room| self.room_name(&record.widget, room));
                let what = What::Poisoned { bot: record.bot, event };
                let widget = Some(record.widget);
                self.transcript.push(Entry { at: now, widget, room: record.room, name, what });
            }
            _ => {}
        }
    }

    /// Tells what a bot was told in this event, before what follows from it.
    fn tell(&mut self, event: &str, bot: &str) {
        let is_it = |heard: &Heard| {
            heard.bot.as_str() == bot && heard.told.as_ref().is_some_and(|told| told.event == event)
        };
        while let Some(place) = self.heard.iter().position(is_it) {
            if let Some(heard) = self.heard.remove(place) {
                self.told(heard);
            }
        }
    }

    fn told(&mut self, heard: Heard) {
        let Heard { at, bot, told: Some(told), end } = heard else { return };
        let own_doing = matches!(end, Some(HeardEnd::Failed(_)));
        let failed = match end {
            Some(HeardEnd::Failed(why)) => Some(why),
            Some(HeardEnd::Killed) => Some("the daemon was killed meanwhile".into()),
            _ => None,
        };
        let name = told.room.and_then(|room| self.room_name(&told.widget, room));
        let what = What::Told { bot, event: told.event, what: told.what, failed };
        let entry = Entry { at, widget: Some(told.widget), room: told.room, name, what };
        if own_doing {
            self.failures.push(entry.words(true));
        }
        self.transcript.push(entry);
    }

    fn delivery(&mut self, now: Timestamp, record: DeliveryRecord) {
        if let (Some(event), Some(bot)) = (record.event.clone(), record.bot.clone()) {
            // Taken back: not by the handler that had wanted it, but by the one that runs now.
            let taken_back = record.reason.as_deref() == Some("cancelled");
            match self.heard.iter().position(|heard| taken_back && heard.bot == bot) {
                Some(place) => {
                    if let Some(heard) = self.heard.remove(place) {
                        self.told(heard);
                    }
                }
                None => self.tell(&event, bot.as_str()),
            }
        }
        let known = self.open.contains_key(&record.id);
        let is_told = match record.state {
            DeliveryState::Queued => !known && record.not_before > now,
            DeliveryState::Sending => false,
            DeliveryState::Delivered | DeliveryState::Dead | DeliveryState::Unknown => true,
        };
        if is_told {
            self.message(now, &record, None);
        }
        if matches!(record.state, DeliveryState::Delivered | DeliveryState::Dead) {
            self.open.remove(&record.id);
        } else {
            self.open.insert(record.id, record);
        }
    }

    /// An attempt that ended without an end of its delivery.
    fn attempt(&mut self, now: Timestamp, attempt: &AttemptRecord) {
        let Some(Class::NotSent) = attempt.class else { return };
        let Some(record) = self.open.get(&attempt.delivery).cloned() else { return };
        let code = attempt.code.as_deref().unwrap_or("not sent").to_owned();
        let record = DeliveryRecord { state: DeliveryState::Queued, ..record };
        self.message(now, &record, Some(code));
    }

    fn message(&mut self, at: Timestamp, record: &DeliveryRecord, why: Option<String>) {
        let schedule = record.occurrence.as_ref().and_then(|o| o.split('@').next());
        let bot = record.bot.as_ref().map(|bot| bot.as_str());
        let reason = record.reason.clone().filter(|_| record.state != DeliveryState::Delivered);
        let reason = match (reason, &record.detail) {
            (Some(reason), Some(detail)) => Some(format!("{reason}: {detail}")),
            (reason, _) => reason,
        };
        let duplicate = record.possible_duplicate.then(|| "perhaps twice".to_owned());
        let message = Message {
            delivery: record.id,
            from: bot.or(schedule).unwrap_or("send").to_owned(),
            occurrence: record.occurrence.clone(),
            event: record.event.clone(),
            text: record.text.clone().unwrap_or_default(),
            state: record.state,
            reason: why.or(reason).or(duplicate),
            recorded_at: record.created_at,
            not_before: record.not_before,
        };
        let name = self.room_name(&record.widget, record.room);
        let what = What::Message(Box::new(message));
        let widget = Some(record.widget.clone());
        self.transcript.push(Entry { at, widget, room: Some(record.room), name, what });
    }
}

impl Site {
    fn deed(&mut self, at: Timestamp, widget: WidgetName, change: Change) -> Option<Entry> {
        let (room, who, did) = match change {
            Change::RoomOpened(room) => {
                let kind = RoomKind::from(room.kind);
                let kind = (kind != RoomKind::Conference).then(|| kind.to_string());
                (Some(room), None, Deed::Opens(kind))
            }
            Change::RoomChanged(room) => {
                let did = match self.rooms.get(&room.id) {
                    Some(before) => difference(before, &room),
                    None => Deed::Touches,
                };
                (Some(room), None, did)
            }
            Change::UserJoined(user) => (None, Some(user.name), Deed::Joins),
            Change::UserChanged(user) => (None, Some(user.name), Deed::Turns),
            Change::Message(message) => {
                let room = self.rooms.get(&message.room).cloned();
                (room, Some(message.user), Deed::Posts(message.text))
            }
            Change::Server { down } => {
                let what = if down { "the server goes down" } else { "the server is back" };
                let what = What::Fault(what.into());
                return Some(Entry { at, widget: Some(widget), room: None, name: None, what });
            }
        };
        let (number, name) = match room {
            Some(room) => {
                let number = RoomId(room.id.unsigned_abs());
                let name = room.name.clone();
                self.rooms.insert(room.id, room);
                (Some(number), Some(name))
            }
            None => (None, None),
        };
        let what = What::People { who, did };
        Some(Entry { at, widget: Some(widget), room: number, name, what })
    }
}

fn difference(before: &Room, after: &Room) -> Deed {
    match () {
        () if before.deleted_at.is_none() && after.deleted_at.is_some() => Deed::Closes,
        () if before.deleted_at.is_some() && after.deleted_at.is_none() => Deed::Restores,
        () if before.name != after.name => Deed::Renames(before.name.clone()),
        () if before.kind != after.kind => {
            Deed::Changes("kind", RoomKind::from(after.kind).to_string())
        }
        () if before.status != after.status => Deed::Changes("status", after.status.to_string()),
        () if before.is_public != after.is_public => {
            Deed::Changes("visibility", if after.is_public { "public" } else { "private" }.into())
        }
        () if before.admin_id != after.admin_id => {
            Deed::Changes("owner", format!("user {}", after.admin_id))
        }
        () => Deed::Touches,
    }
}
