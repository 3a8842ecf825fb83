//! Defects made on purpose, one at a time, to show that a simulation finds them. They stand between
//! the daemon and its store, where each says exactly what a daemon with this defect would do; the
//! daemon itself carries no switch for them.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use imbabot_bot::{BotName, DeliveryId, RoomSelector, WidgetName};
use imbabot_core::{Room, RoomId, Timestamp, User, WidgetId};
use imbabot_store::*;
use serde_json::Value;

/// A defect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// What was being sent when the process died is queued again at its start.
    RequeueSending,
    /// Occurrences are recorded in one transaction and the cursor moves in the next.
    CursorApart,
    /// The cursor moves in one transaction and occurrences are recorded in the next.
    CursorFirst,
    /// No answer in time counts as "not sent", and it is sent again.
    RetryOnTimeout,
    /// Nobody remembers when the server says that a message of ours was posted.
    ForgetOwnChanges,
    /// A key given twice makes two messages.
    NonUniqueKey,
    /// A claim is committed when the answer is there, not before the request leaves.
    CommitAfterSend,
    /// The state of rooms is committed in one transaction, what is to be told of it in the next.
    EventsApart,
}

impl Defect {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::RequeueSending,
        Self::CursorApart,
        Self::CursorFirst,
        Self::RetryOnTimeout,
        Self::ForgetOwnChanges,
        Self::NonUniqueKey,
        Self::CommitAfterSend,
        Self::EventsApart,
    ];
}

/// A store as a daemon with a defect would use it. Made anew at each start: what it holds dies with the
/// daemon.
pub(super) struct SabotagedStore {
    inner: Saboteur,
}

impl SabotagedStore {
    pub(super) fn over(store: Arc<dyn Store>, defect: Defect) -> Self {
        let inner = Saboteur {
            store,
            defect,
            count: AtomicU64::new(0),
            incarnation: AtomicI64::new(0),
            uncommitted: Mutex::default(),
        };
        Self { inner }
    }

    #[expect(clippy::unused_async, reason = "others wait here")]
    async fn enter(&self, _: &str) -> Result<()> {
        Ok(())
    }

    #[expect(clippy::unused_async, reason = "others wait here")]
    async fn leave(&self, _: &str) {}
}

crate::flaky::wrap_store!(SabotagedStore);

/// Its own verbs come first; all others are the store's.
struct Saboteur {
    store: Arc<dyn Store>,
    defect: Defect,
    count: AtomicU64,
    incarnation: AtomicI64,
    /// Sent, and nobody was told.
    uncommitted: Mutex<BTreeSet<DeliveryId>>,
}

impl Deref for Saboteur {
    type Target = dyn Store;

    fn deref(&self) -> &Self::Target {
        &*self.store
    }
}

impl Saboteur {
    async fn begin(&self, now: Timestamp, version: &str, settle: Settle) -> Result<Begun> {
        self.uncommitted().clear();
        if self.defect == Defect::RequeueSending {
            let filter =
                DeliveryFilter { state: Some(DeliveryState::Sending), ..DeliveryFilter::default() };
            for delivery in self.store.deliveries(&filter).await? {
                let settled = Settled {
                    delivery: delivery.id,
                    attempt: self.attempts(delivery.id).await?,
                    class: Class::NotSent,
                    code: "process_died".into(),
                    http_status: None,
                    detail: String::new(),
                    next: Next::Retry { at: now },
                };
                self.store.settle(now, settle, vec![settled]).await?;
            }
        }
        let begun = self.store.begin(now, version, settle).await?;
        self.incarnation.store(begun.incarnation.0, Ordering::Relaxed);
        Ok(begun)
    }

    async fn commit_occurrences(&self, step: OccurrenceCommit) -> Result<bool> {
        let cursor =
            OccurrenceCommit { occurrences: Vec::new(), ranges: Vec::new(), ..step.clone() };
        match self.defect {
            Defect::CursorApart => {
                let records = OccurrenceCommit { through: step.from, ..step };
                Ok(self.store.commit_occurrences(records).await?
                    && self.store.commit_occurrences(cursor).await?)
            }
            Defect::CursorFirst => {
                let records = OccurrenceCommit { from: step.through, ..step };
                Ok(self.store.commit_occurrences(cursor).await?
                    && self.store.commit_occurrences(records).await?)
            }
            _ => self.store.commit_occurrences(step).await,
        }
    }

    async fn commit_poll(&self, poll: PollCommit) -> Result<()> {
        if self.defect != Defect::EventsApart || poll.events.is_empty() {
            return self.store.commit_poll(poll).await;
        }
        let state = PollCommit { events: Vec::new(), ..poll.clone() };
        self.store.commit_poll(state).await?;
        self.store.commit_poll(PollCommit { changes: Vec::new(), ..poll }).await
    }

    async fn enqueue(&self, now: Timestamp, all: Vec<NewDelivery>) -> Result<Vec<Enqueued>> {
        let all = all.into_iter().map(|delivery| self.keyed(delivery)).collect();
        self.store.enqueue(now, all).await
    }

    async fn commit_handled(&self, mut handled: Handled) -> Result<HandledOutcome> {
        handled.sends = handled.sends.into_iter().map(|delivery| self.keyed(delivery)).collect();
        self.store.commit_handled(handled).await
    }

    async fn expand(&self, mut batch: Expansion) -> Result<bool> {
        batch.deliveries = batch.deliveries.into_iter().map(|d| self.keyed(d)).collect();
        self.store.expand(batch).await
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Claimed> {
        if self.defect != Defect::CommitAfterSend {
            return self.store.claim(request).await;
        }
        let mut claimed = Claimed { next_due: Some(request.now + SLOW), ..Claimed::default() };
        if !self.uncommitted().is_empty() {
            claimed.next_due = Some(request.now + SLOWER);
            return Ok(claimed);
        }
        // It knows nothing of what a widget is held for, and would knock for hours.
        let served = request.widgets.iter().any(|widget| widget.slots > 0);
        let paused = !self.store.paused().await?.is_empty();
        if paused || !served || self.count.load(Ordering::Relaxed) >= CLAIMS {
            return self.store.claim(request).await;
        }
        let filter =
            DeliveryFilter { state: Some(DeliveryState::Queued), ..DeliveryFilter::default() };
        let all = self.store.deliveries(&filter).await?;
        let due = all.into_iter().rev().find(|delivery| {
            delivery.not_before <= request.now && delivery.expires_at > request.now
        });
        let Some(due) = due else { return self.store.claim(request).await };
        self.uncommitted().insert(due.id);
        self.count.fetch_add(1, Ordering::Relaxed);
        let attempt = self.attempts(due.id).await? + 1;
        claimed.deliveries.push(ClaimedDelivery {
            id: due.id,
            attempt,
            widget: due.widget,
            room: due.room,
            sender: due.sender,
            bot: due.bot,
            occurrence: due.occurrence,
            policy: due.policy,
            text: due.text.unwrap_or_default(),
            created_at: due.created_at,
            not_before: due.not_before,
            expires_at: due.expires_at,
            misses: 0,
            ambiguous: 0,
            started_at: request.now,
        });
        Ok(claimed)
    }

    async fn settle(
        &self,
        now: Timestamp,
        settle: Settle,
        mut outcomes: Vec<Settled>,
    ) -> Result<Vec<Recorded>> {
        for outcome in &mut outcomes {
            match (self.defect, &mut outcome.next) {
                (Defect::ForgetOwnChanges, Next::Delivered { time, .. }) => *time = None,
                (Defect::RetryOnTimeout, Next::Unknown) if outcome.code == "no_answer" => {
                    outcome.class = Class::NotSent;
                    outcome.next = Next::Retry { at: now + SLOW };
                }
                _ => {}
            }
            if self.uncommitted().remove(&outcome.delivery) {
                self.commit_late(now, outcome.delivery).await?;
            }
        }
        self.store.settle(now, settle, outcomes).await
    }
}

/// Slower than any rate.
const SLOW: std::time::Duration = std::time::Duration::from_secs(2);
/// An answer wakes the daemon; this is for when none comes.
const SLOWER: std::time::Duration = std::time::Duration::from_secs(60);
/// So many claims of a history are committed late, all later ones as they should be.
const CLAIMS: u64 = 100;

impl Saboteur {
    fn uncommitted(&self) -> std::sync::MutexGuard<'_, BTreeSet<DeliveryId>> {
        self.uncommitted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keyed(&self, mut delivery: NewDelivery) -> NewDelivery {
        if self.defect == Defect::NonUniqueKey {
            let n = self.count.fetch_add(1, Ordering::Relaxed);
            delivery.key = format!("{}#{n}@{}", delivery.key, delivery.expires_at.as_micros());
        }
        delivery
    }

    /// How many attempts the ledger knows of.
    async fn attempts(&self, id: DeliveryId) -> Result<u32> {
        let story = self.store.delivery_story(id).await?;
        let lines = story.into_iter().flat_map(|story| story.lines);
        let attempts = lines.filter_map(|told| match told.line.line {
            Line::Attempt(attempt) => Some(attempt.n),
            _ => None,
        });
        Ok(attempts.max().unwrap_or(0))
    }

    async fn commit_late(&self, now: Timestamp, id: DeliveryId) -> Result<()> {
        let Some(record) = self.store.delivery(id).await? else { return Ok(()) };
        let incarnation = IncarnationId(self.incarnation.load(Ordering::Relaxed));
        let (interval, room_interval) = Default::default();
        let widget = WidgetClaim { widget: record.widget, slots: 1, interval, room_interval };
        let request = ClaimRequest { now, incarnation, widgets: vec![widget], only: Some(id) };
        self.store.claim(request).await?;
        Ok(())
    }
}
