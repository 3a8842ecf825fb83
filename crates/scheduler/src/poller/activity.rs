//! Whether `updated_at` moves with messages, judged by the one thing that is certain: a message of our own
//! that the server confirmed. Rooms that are quiet say nothing either way. Pure: no I/O, no clock.

use std::collections::BTreeMap;
use std::time::Duration;

use imbabot_bot::{ActivitySignal, RoomChange};
use imbabot_core::{Room, RoomId, Timestamp};

use crate::diff::room_changes;

/// So many lists without a trace of a message …
const LISTS: u32 = 3;
/// … over so long: a server may serve a list of some minutes ago.
const AT_LEAST: Duration = Duration::from_secs(600);
/// So many messages in a row without a trace, each so long after the one before, are enough.
const MESSAGES: u32 = 3;
/// So many rooms are watched at a time, and so many messages wait to be.
const WATCHED: usize = 16;
/// What moved so shortly before a message may stand still with it: `updated_at` counts seconds.
const SAME: Duration = Duration::from_secs(2);

/// A message of ours that the server confirmed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    /// Where.
    pub(crate) room: RoomId,
    /// When, by the server's clock.
    pub(crate) server_time: Timestamp,
    /// When the request left, on the clock that never goes back.
    pub(crate) began: Duration,
    /// When its answer had come.
    pub(crate) ended: Duration,
}

/// What is known of one server.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    signal: ActivitySignal,
    /// Messages in a row without a trace.
    silent: u32,
    /// When the last of them ended.
    silent_at: Option<Duration>,
    /// When the last list was committed.
    committed_at: Option<Duration>,
    fresh: Vec<Sent>,
    watched: BTreeMap<RoomId, Watched>,
}

#[derive(Debug)]
struct Watched {
    ended: Duration,
    /// As it was listed before the message.
    before: Room,
    lists: u32,
}

impl Activity {
    /// What an earlier run wrote down.
    pub(crate) fn remembered(signal: ActivitySignal, silent: u32) -> Self {
        Self { signal, silent, ..Self::default() }
    }

    pub(crate) fn signal(&self) -> ActivitySignal {
        self.signal
    }

    /// Messages in a row without a trace.
    pub(crate) fn silent(&self) -> u32 {
        self.silent
    }

    /// Whether there is anything left to find out: what was seen once is believed for good.
    pub(crate) fn is_open(&self) -> bool {
        self.signal != ActivitySignal::Seen
    }

    /// A message was confirmed.
    pub(crate) fn sent(&mut self, sent: Sent) {
        if self.is_open() && self.fresh.len() < WATCHED {
            self.fresh.push(sent);
        }
    }

    /// Messages that are to be watched from the list on that is asked for now. Whoever asks knows what
    /// the last list said of their rooms: a list that came while a message was on its way may show it
    /// already, so those are passed over.
    pub(crate) fn fresh(&mut self) -> Vec<Sent> {
        let since = self.committed_at.unwrap_or_default();
        let mut fresh = std::mem::take(&mut self.fresh);
        fresh.retain(|sent| sent.began >= since && !self.watched.contains_key(&sent.room));
        fresh
    }

    /// Watches a message's room, which was listed so before it.
    pub(crate) fn watch(&mut self, sent: Sent, before: Room) {
        let moved_just_now = before.updated_at.is_some_and(|at| {
            let (early, late) = (at.min(sent.server_time), at.max(sent.server_time));
            late.since(early) <= SAME
        });
        if self.is_open() && !moved_just_now && self.watched.len() < WATCHED {
            let watched = Watched { ended: sent.ended, before, lists: 0 };
            self.watched.entry(sent.room).or_insert(watched);
        }
    }

    /// The rooms that are watched.
    pub(crate) fn watched(&self) -> Vec<RoomId> {
        self.watched.keys().copied().collect()
    }

    /// A list was committed that was asked for after [`Activity::fresh`]; what it says of the rooms that
    /// are watched.
    pub(crate) fn listed(&mut self, now: Duration, rooms: &[Room]) {
        self.committed_at = Some(now);
        let mut trace = false;
        for (id, mut watched) in std::mem::take(&mut self.watched) {
            // What is gone, or changed in other ways, says nothing of messages.
            let Some(room) = rooms.iter().find(|room| room.id == id) else { continue };
            match room_changes(&watched.before, room)[..] {
                [] => {}
                [RoomChange::Touched] => {
                    trace = true;
                    continue;
                }
                _ => continue,
            }
            watched.lists += 1;
            if watched.lists < LISTS || now.saturating_sub(watched.ended) < AT_LEAST {
                self.watched.insert(id, watched);
            } else if self.silent_at.is_none_or(|at| watched.ended >= at + AT_LEAST) {
                self.silent_at = Some(watched.ended);
                self.silent = self.silent.saturating_add(1);
            }
        }
        if trace {
            self.touched();
        } else if self.silent >= MESSAGES && self.is_open() {
            self.signal = ActivitySignal::Absent;
        }
    }

    /// Some room's `updated_at` moved and nothing else did.
    pub(crate) fn touched(&mut self) {
        let committed_at = self.committed_at;
        *self = Self { signal: ActivitySignal::Seen, committed_at, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 1_800_000_000;

    fn at(minutes: u64) -> Duration {
        Duration::from_secs(minutes * 60)
    }

    fn server(minutes: u64) -> Timestamp {
        Timestamp::from_seconds(NOON) + at(minutes)
    }

    fn room(id: u64) -> Room {
        let mut room = Room::new(id.into(), "room");
        room.updated_at = Some(Timestamp::from_seconds(NOON - 86_400));
        room
    }

    fn sent(id: u64, minute: u64) -> Sent {
        let (began, ended) = (at(minute), at(minute) + Duration::from_millis(100));
        Sent { room: id.into(), server_time: server(minute), began, ended }
    }

    /// A message in this minute, and lists in all the minutes after it until this one.
    fn message(activity: &mut Activity, id: u64, minute: u64, until: u64, list: &Room) {
        activity.sent(sent(id, minute));
        for minute in minute + 1..=until {
            for sent in activity.fresh() {
                activity.watch(sent, room(sent.room.0));
            }
            activity.listed(at(minute), std::slice::from_ref(list));
        }
    }

    #[test]
    fn three_messages_that_leave_no_trace_are_enough_and_two_are_not() {
        let mut activity = Activity::default();
        activity.listed(at(0), &[]);
        for (n, minute) in [10, 30, 50].into_iter().enumerate() {
            assert_eq!((activity.signal(), activity.silent()), (ActivitySignal::Unknown, n as u32));
            message(&mut activity, 1, minute, minute + 15, &room(1));
        }
        assert_eq!(activity.signal(), ActivitySignal::Absent);
        // It is taken back as soon as a room is touched, and for good.
        let mut touched = room(1);
        touched.updated_at = Some(server(70));
        message(&mut activity, 1, 70, 71, &touched);
        assert_eq!((activity.signal(), activity.silent()), (ActivitySignal::Seen, 0));
        for minute in [100, 130, 160, 190] {
            message(&mut activity, 1, minute, minute + 20, &room(1));
        }
        assert_eq!(activity.signal(), ActivitySignal::Seen);
    }

    #[test]
    fn messages_at_once_count_as_one_and_an_old_list_is_waited_out() {
        let mut activity = Activity::default();
        activity.listed(at(0), &[]);
        let rooms: Vec<Room> = (1..=9).map(room).collect();
        (1..=9).for_each(|id| activity.sent(sent(id, 10)));
        for sent in activity.fresh() {
            activity.watch(sent, room(sent.room.0));
        }
        for minute in 11..20 {
            activity.listed(at(minute), &rooms);
        }
        assert_eq!(activity.silent(), 0, "lists of nine minutes");
        activity.listed(at(21), &rooms);
        assert_eq!((activity.signal(), activity.silent()), (ActivitySignal::Unknown, 1));
        assert!(activity.watched().is_empty());
    }

    #[test]
    fn quiet_rooms_say_nothing_however_long() {
        let mut activity = Activity::default();
        for minute in 0..100_000 {
            assert!(activity.fresh().is_empty());
            activity.listed(at(minute), &[room(1)]);
        }
        assert_eq!((activity.signal(), activity.silent()), (ActivitySignal::Unknown, 0));
    }

    #[test]
    fn what_cannot_be_told_apart_is_no_witness() {
        // A list came while the message was on its way: it may show it already.
        let mut activity = Activity::default();
        activity.sent(sent(1, 10));
        activity.listed(at(10) + Duration::from_millis(50), &[]);
        assert!(activity.fresh().is_empty());
        // The room was opened in the second of the message.
        let mut opened = room(1);
        opened.updated_at = Some(server(20) + Duration::from_secs(1));
        activity.watch(sent(1, 20), opened);
        assert!(activity.watched().is_empty());
        // It was renamed meanwhile, or is gone.
        let mut renamed = room(1);
        renamed.name = "other".into();
        renamed.updated_at = Some(server(31));
        activity.watch(sent(1, 30), room(1));
        activity.watch(sent(2, 30), room(2));
        activity.listed(at(31), &[renamed]);
        assert!(activity.watched().is_empty());
        assert_eq!((activity.signal(), activity.silent()), (ActivitySignal::Unknown, 0));
    }

    #[test]
    fn what_is_watched_is_bounded_and_survives_a_restart_as_a_number() {
        let mut activity = Activity::remembered(ActivitySignal::Unknown, 2);
        (1..=100).for_each(|id| activity.sent(sent(id, 10)));
        let fresh = activity.fresh();
        assert_eq!(fresh.len(), WATCHED);
        fresh.into_iter().for_each(|sent| activity.watch(sent, room(sent.room.0)));
        (101..=200).for_each(|id| activity.watch(sent(id, 10), room(id)));
        assert_eq!(activity.watched().len(), WATCHED);
        let rooms: Vec<Room> = (1..=16).map(room).collect();
        [15, 20, 25].into_iter().for_each(|minute| activity.listed(at(minute), &rooms));
        assert_eq!(activity.signal(), ActivitySignal::Absent);
    }
}
