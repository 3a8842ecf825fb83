//! What the cases share: instants, short ways to make records, and a bench that runs verbs.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use imbabot_bot::{BotName, DeliveryId, Policy, WidgetName};
use imbabot_core::{MessageId, Room, RoomId, Timestamp};

use super::Backend;
use crate::{
    Born, ClaimRequest, Claimed, ClaimedDelivery, Class, DeadReason, DeliveryRecord, DeliveryState,
    Enqueued, EventBody, EventClaim, EventEntry, Handled, HandledOutcome, IncarnationId, Ledger,
    LedgerLine, Line, NewDelivery, NewEvent, Next, Recorded, SendLimits, Settle, Settled, Store,
    WidgetClaim,
};

/// Rules that leave time for a look in between.
pub(super) const RULES: Settle = Settle {
    wait: Duration::from_secs(60),
    max_resends: 2,
    unresolved_after: Duration::from_secs(86_400),
};

/// Limits that nothing in a case reaches, unless it is about them.
pub(super) const LIMITS: SendLimits = SendLimits {
    per_event: 50,
    per_bot: (1_000, Duration::from_secs(3_600)),
    per_bot_and_room: (1_000, Duration::from_secs(3_600)),
};

/// Runs a verb.
pub(super) fn run<T>(verb: impl Future<Output = crate::Result<T>>) -> T {
    futures_executor::block_on(verb).expect("the verb succeeds")
}

/// So many seconds after the cases begin.
pub(super) fn at(seconds: i64) -> Timestamp {
    at_ms(seconds * 1_000)
}

/// So many milliseconds after the cases begin.
pub(super) fn at_ms(milliseconds: i64) -> Timestamp {
    Timestamp::from_micros(1_772_323_200_000_000 + milliseconds * 1_000)
}

pub(super) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn widget(name: &str) -> WidgetName {
    name.parse().expect("a name")
}

pub(super) fn bot(name: &str) -> BotName {
    name.parse().expect("a name")
}

/// A message to room 1 of widget `w` that keeps for an hour.
pub(super) fn message(key: &str) -> NewDelivery {
    NewDelivery {
        key: key.into(),
        widget: widget("w"),
        room: RoomId(1),
        sender: 7.into(),
        bot: None,
        event: None,
        occurrence: None,
        schedule: None,
        policy: Policy::AtMostOnce,
        text: format!("text of {key}"),
        not_before: None,
        expires_at: at(3_600),
        born: Born::Queued,
        detail: None,
        report: false,
    }
}

/// The same under `at_least_once`.
pub(super) fn repeated(key: &str) -> NewDelivery {
    NewDelivery { policy: Policy::AtLeastOnce, ..message(key) }
}

/// The same to another room.
pub(super) fn to_room(key: &str, room: u64) -> NewDelivery {
    NewDelivery { room: RoomId(room), ..message(key) }
}

pub(super) fn id(key: &str) -> DeliveryId {
    DeliveryId::of_key(key)
}

/// It arrived and became this message.
pub(super) fn delivered(message: u64) -> (Class, Next) {
    let uuid = Some(format!("uuid-{message}"));
    (Class::Delivered, Next::Delivered { message: MessageId(message), uuid, time: None })
}

pub(super) fn unknown() -> (Class, Next) {
    (Class::Ambiguous, Next::Unknown)
}

pub(super) fn refused() -> (Class, Next) {
    (Class::Rejected, Next::Dead(DeadReason::Rejected))
}

pub(super) fn again(at: Timestamp) -> (Class, Next) {
    (Class::NotSent, Next::Retry { at })
}

/// A room of that number that was opened.
pub(super) fn opened(room: u64, bots: &[&str]) -> NewEvent {
    let body = EventBody::Room {
        change: imbabot_bot::RoomChange::Opened,
        room: Box::new(Room::new(RoomId(room), format!("room {room}"))),
        before: None,
    };
    event(at(0), body, bots)
}

pub(super) fn event(at: Timestamp, body: EventBody, bots: &[&str]) -> NewEvent {
    let recipients = bots.iter().map(|name| bot(name)).collect();
    NewEvent { widget: widget("w"), at, body, recipients }
}

/// A store with a run begun on it, at second 0.
pub(super) struct Bench {
    pub(super) store: Arc<dyn Store>,
    pub(super) incarnation: IncarnationId,
}

impl Bench {
    pub(super) fn new(backend: &dyn Backend) -> Self {
        Self::on(backend.empty())
    }

    pub(super) fn on(store: Arc<dyn Store>) -> Self {
        let incarnation = run(store.begin(at(0), "1.0.0", RULES)).incarnation;
        Self { store, incarnation }
    }

    /// The process is killed and started again.
    pub(super) fn kill(&mut self, now: Timestamp) -> crate::Begun {
        let begun = run(self.store.begin(now, "1.0.0", RULES));
        self.incarnation = begun.incarnation;
        begun
    }

    pub(super) fn enqueue(&self, now: Timestamp, deliveries: Vec<NewDelivery>) -> Vec<Enqueued> {
        run(self.store.enqueue(now, deliveries))
    }

    /// A claim of widget `w` without rates.
    pub(super) fn request(&self, now: Timestamp) -> ClaimRequest {
        let widgets = vec![WidgetClaim {
            widget: widget("w"),
            slots: 100,
            interval: Duration::ZERO,
            room_interval: Duration::ZERO,
        }];
        ClaimRequest { now, incarnation: self.incarnation, widgets, only: None }
    }

    /// The same, at that pace.
    pub(super) fn paced(&self, now: Timestamp, every: Duration, per_room: Duration) -> Claimed {
        let mut request = self.request(now);
        request.widgets[0].interval = every;
        request.widgets[0].room_interval = per_room;
        run(self.store.claim(request))
    }

    pub(super) fn claim(&self, now: Timestamp) -> Vec<ClaimedDelivery> {
        run(self.store.claim(self.request(now))).deliveries
    }

    /// The one delivery that may be sent now.
    pub(super) fn claim_one(&self, now: Timestamp) -> ClaimedDelivery {
        let mut claimed = self.claim(now);
        assert_eq!(claimed.len(), 1, "one may be sent");
        claimed.remove(0)
    }

    pub(super) fn settle(
        &self,
        now: Timestamp,
        claimed: &ClaimedDelivery,
        (class, next): (Class, Next),
    ) -> Recorded {
        let outcome = Settled {
            delivery: claimed.id,
            attempt: claimed.attempt,
            class,
            code: format!("seen_{class}"),
            http_status: None,
            detail: String::new(),
            next,
        };
        run(self.store.settle(now, RULES, vec![outcome])).remove(0)
    }

    pub(super) fn sweep(&self, now: Timestamp) -> (u64, Option<Timestamp>) {
        run(self.store.sweep(now, RULES, 1_000))
    }

    pub(super) fn record(&self, key: &str) -> DeliveryRecord {
        run(self.store.delivery(id(key))).expect("it is there")
    }

    /// State and reason, as `dead(expired)`.
    pub(super) fn state(&self, key: &str) -> String {
        let record = self.record(key);
        match record.reason {
            Some(reason) => format!("{}({reason})", record.state),
            None => record.state.to_string(),
        }
    }

    pub(super) fn tell(&self, now: Timestamp, events: Vec<NewEvent>) {
        let poll = crate::PollCommit {
            widget: widget("w"),
            list: crate::ListKind::Rooms,
            now,
            changes: Vec::new(),
            events,
            last: false,
        };
        run(self.store.commit_poll(poll));
    }

    pub(super) fn adopt(&self, now: Timestamp, bots: &[&str]) {
        let bots: Vec<_> = bots.iter().map(|name| bot(name)).collect();
        run(self.store.adopt_bots(now, &bots));
    }

    pub(super) fn entries(
        &self,
        now: Timestamp,
        free: &[(&str, usize)],
    ) -> (Vec<EventEntry>, Option<Timestamp>) {
        let free = free.iter().map(|(name, slots)| (bot(name), *slots)).collect();
        run(self.store.claim_events(EventClaim { now, free, ahead: Vec::new() }))
    }

    /// The one entry that bot `b` may handle now.
    pub(super) fn entry(&self, now: Timestamp) -> EventEntry {
        let (mut entries, _) = self.entries(now, &[("b", 1)]);
        assert_eq!(entries.len(), 1, "one may be handled");
        entries.remove(0)
    }

    pub(super) fn handled(&self, entry: &EventEntry, now: Timestamp) -> Handled {
        Handled {
            entry: entry.clone(),
            now,
            sends: Vec::new(),
            wakes: Vec::new(),
            cancels: Vec::new(),
            memory: Vec::new(),
            limits: LIMITS,
        }
    }

    pub(super) fn commit(&self, handled: Handled) -> HandledOutcome {
        run(self.store.commit_handled(handled))
    }

    /// Handles an entry without any effect.
    pub(super) fn handle(&self, entry: &EventEntry, now: Timestamp) {
        let outcome = self.commit(self.handled(entry, now));
        assert_eq!(outcome, HandledOutcome::Committed(Vec::new()));
    }

    pub(super) fn lines(&self) -> Vec<LedgerLine> {
        all_lines(&*self.store)
    }

    /// The states that the ledger tells of a delivery, in order.
    pub(super) fn story(&self, key: &str) -> Vec<DeliveryState> {
        self.lines()
            .into_iter()
            .filter_map(|line| match line.line {
                Line::Delivery(record) if record.key == key => Some(record.state),
                _ => None,
            })
            .collect()
    }
}

/// The whole ledger, in pages.
pub(super) fn all_lines<S: Ledger + ?Sized>(store: &S) -> Vec<LedgerLine> {
    let mut lines: Vec<LedgerLine> = Vec::new();
    loop {
        let since = lines.last().map_or(0, |line| line.seq);
        let page = run(store.ledger(since, 100));
        if page.is_empty() {
            return lines;
        }
        lines.extend(page);
    }
}
