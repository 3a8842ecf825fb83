//! What the cases are written with: short ways to record, claim and end things. It decides nothing.

use std::sync::Arc;
use std::time::Duration;

use imbabot_bot::{BotName, DeliveryId, Policy, RoomChange, WidgetName};
use imbabot_core::{MessageId, Room, RoomId, Timestamp};

use crate::{
    Born, ClaimRequest, Claimed, ClaimedDelivery, Class, DeadReason, DeliveryRecord, DeliveryState,
    Enqueued, EventBody, EventClaim, EventEntry, Handled, HandledOutcome, IncarnationId,
    LedgerLine, ListKind, NewDelivery, NewEvent, Next, PollCommit, Recorded, SendLimits, Settle,
    Settled, Store, WidgetClaim,
};

/// So many seconds after the beginning of a case.
pub(crate) fn t(seconds: i64) -> Timestamp {
    ms(seconds * 1_000)
}

/// So many milliseconds after the beginning of a case.
pub(crate) fn ms(milliseconds: i64) -> Timestamp {
    Timestamp::from_micros(1_774_854_000_000_000 + milliseconds * 1_000)
}

pub(crate) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A minute to settle, two resends, an hour until unresolved.
pub(crate) fn settle() -> Settle {
    Settle { wait: secs(60), max_resends: 2, unresolved_after: secs(3_600) }
}

pub(crate) fn widget() -> WidgetName {
    "main".parse().unwrap()
}

pub(crate) fn bot(name: &str) -> BotName {
    name.parse().unwrap()
}

/// A delivery whose text is its key.
pub(crate) fn say(key: &str, room: u64) -> NewDelivery {
    NewDelivery {
        key: key.into(),
        widget: widget(),
        room: RoomId(room),
        sender: "7".parse().unwrap(),
        bot: None,
        event: None,
        occurrence: None,
        schedule: None,
        policy: Policy::AtMostOnce,
        text: key.into(),
        not_before: None,
        expires_at: t(1_000_000),
        born: Born::Queued,
        report: false,
    }
}

/// The same, to be repeated when its outcome is unknown.
pub(crate) fn insist(key: &str, room: u64) -> NewDelivery {
    NewDelivery { policy: Policy::AtLeastOnce, ..say(key, room) }
}

pub(crate) fn id(key: &str) -> DeliveryId {
    DeliveryId::of_key(key)
}

pub(crate) fn delivered(message: u64) -> Next {
    Next::Delivered { message: MessageId(message), uuid: None, time: None }
}

/// How much may be claimed.
#[derive(Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) slots: usize,
    pub(crate) interval: Duration,
    pub(crate) room_interval: Duration,
}

/// As much as there is.
pub(crate) const FREELY: Rate =
    Rate { slots: 100, interval: Duration::ZERO, room_interval: Duration::ZERO };

/// A store in which a run has begun.
pub(crate) struct Bench {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) run: IncarnationId,
}

impl Bench {
    pub(crate) async fn new(store: Arc<dyn Store>) -> Self {
        let run = store.begin(t(0), "1.0.0", settle()).await.unwrap().incarnation;
        Self { store, run }
    }

    /// The process is killed and started again.
    pub(crate) async fn crash(&mut self, at: Timestamp) -> crate::Begun {
        let begun = self.store.begin(at, "1.0.0", settle()).await.unwrap();
        self.run = begun.incarnation;
        begun
    }

    pub(crate) async fn enqueue(&self, at: Timestamp, new: NewDelivery) -> Enqueued {
        self.store.enqueue(at, vec![new]).await.unwrap().remove(0)
    }

    pub(crate) async fn claim_as(
        &self,
        at: Timestamp,
        rate: Rate,
        only: Option<DeliveryId>,
    ) -> Claimed {
        let widgets = ["main", "other"].map(|name| WidgetClaim {
            widget: name.parse().unwrap(),
            slots: rate.slots,
            interval: rate.interval,
            room_interval: rate.room_interval,
        });
        let request =
            ClaimRequest { now: at, incarnation: self.run, widgets: widgets.into(), only };
        self.store.claim(request).await.unwrap()
    }

    pub(crate) async fn claim(&self, at: Timestamp) -> Vec<ClaimedDelivery> {
        self.claim_as(at, FREELY, None).await.deliveries
    }

    /// The texts that may be sent now.
    pub(crate) async fn texts(&self, at: Timestamp) -> Vec<String> {
        self.claim(at).await.into_iter().map(|one| one.text).collect()
    }

    /// Claims the only thing there is to claim.
    pub(crate) async fn claim_one(&self, at: Timestamp) -> ClaimedDelivery {
        let mut claimed = self.claim(at).await;
        assert_eq!(claimed.len(), 1, "exactly one delivery was to be claimed");
        claimed.remove(0)
    }

    pub(crate) async fn end(
        &self,
        at: Timestamp,
        one: &ClaimedDelivery,
        class: Class,
        next: Next,
    ) -> Recorded {
        self.settle(at, one.id, one.attempt, class, next).await
    }

    pub(crate) async fn settle(
        &self,
        at: Timestamp,
        delivery: DeliveryId,
        attempt: u32,
        class: Class,
        next: Next,
    ) -> Recorded {
        let code = match class {
            Class::Delivered => "ok",
            Class::NotSent => "refused",
            Class::Rejected => "http",
            Class::Ambiguous => "timeout",
        };
        let outcome =
            Settled { delivery, attempt, class, code: code.into(), http_status: None, next };
        self.store.settle(at, settle(), vec![outcome]).await.unwrap().remove(0)
    }

    pub(crate) async fn unknown(&self, at: Timestamp, one: &ClaimedDelivery) -> Recorded {
        self.end(at, one, Class::Ambiguous, Next::Unknown).await
    }

    pub(crate) async fn reject(&self, at: Timestamp, one: &ClaimedDelivery) -> Recorded {
        self.end(at, one, Class::Rejected, Next::Dead(DeadReason::Rejected)).await
    }

    pub(crate) async fn deliver(&self, at: Timestamp, one: &ClaimedDelivery) -> Recorded {
        self.end(at, one, Class::Delivered, delivered(1)).await
    }

    pub(crate) async fn sweep(&self, at: Timestamp) -> u64 {
        self.store.sweep(at, settle(), 1_000).await.unwrap().0
    }

    pub(crate) async fn record(&self, key: &str) -> DeliveryRecord {
        self.store.delivery(id(key)).await.unwrap().expect("there is such a delivery")
    }

    /// `queued`, `dead(expired)`, `unknown(timeout)` …
    pub(crate) async fn state(&self, key: &str) -> String {
        let record = self.record(key).await;
        match record.reason {
            Some(reason) => format!("{}({reason})", record.state),
            None => record.state.to_string(),
        }
    }

    pub(crate) async fn is(&self, key: &str, state: DeliveryState) -> bool {
        self.record(key).await.state == state
    }

    /// Puts events into the inbox, as a poll does.
    pub(crate) async fn happens(&self, at: Timestamp, events: Vec<NewEvent>) {
        let poll = PollCommit {
            widget: widget(),
            list: ListKind::Rooms,
            now: at,
            changes: Vec::new(),
            events,
            last: false,
        };
        self.store.commit_poll(poll).await.unwrap();
    }

    pub(crate) async fn told(&self, at: Timestamp, free: &[(&str, usize)]) -> Vec<EventEntry> {
        self.told_until(at, free).await.0
    }

    pub(crate) async fn told_until(
        &self,
        at: Timestamp,
        free: &[(&str, usize)],
    ) -> (Vec<EventEntry>, Option<Timestamp>) {
        let free = free.iter().map(|(name, slots)| (bot(name), *slots)).collect();
        self.store.claim_events(EventClaim { now: at, free }).await.unwrap()
    }

    pub(crate) async fn handled(&self, handled: Handled) -> HandledOutcome {
        self.store.commit_handled(handled).await.unwrap()
    }

    /// The whole ledger.
    pub(crate) async fn ledger(&self) -> Vec<LedgerLine> {
        self.store.ledger(0, usize::MAX).await.unwrap()
    }
}

/// Something happened to a room.
pub(crate) fn event(change: RoomChange, room: Room, bots: &[&str]) -> NewEvent {
    NewEvent {
        widget: widget(),
        at: t(0),
        body: EventBody::Room { change, room: Box::new(room), before: None },
        recipients: bots.iter().map(|name| bot(name)).collect(),
    }
}

pub(crate) fn opened(room: u64, bots: &[&str]) -> NewEvent {
    event(RoomChange::Opened, Room::new(RoomId(room), format!("Room {room}")), bots)
}

pub(crate) fn touched(room: u64, updated_at: Timestamp, bots: &[&str]) -> NewEvent {
    let mut room = Room::new(RoomId(room), "Room");
    room.updated_at = Some(updated_at);
    event(RoomChange::Touched, room, bots)
}

/// A handler that did nothing.
pub(crate) fn nothing(entry: &EventEntry, now: Timestamp) -> Handled {
    Handled {
        entry: entry.clone(),
        now,
        sends: Vec::new(),
        wakes: Vec::new(),
        cancels: Vec::new(),
        memory: Vec::new(),
        limits: SendLimits {
            per_event: 100,
            per_bot: (100, secs(3_600)),
            per_bot_and_room: (100, secs(3_600)),
        },
    }
}

/// The numbers of the events.
pub(crate) fn numbers(entries: &[EventEntry]) -> Vec<i64> {
    entries.iter().map(|entry| entry.event).collect()
}
