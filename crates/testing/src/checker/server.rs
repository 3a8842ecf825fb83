//! What only the server can say: which requests arrived, what became of them, in which order and at
//! which pace (I1, I2, I3, I6, I8).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use imbabot_bot::{DeliveryId, Policy};
use imbabot_core::Timestamp;
use imbabot_store::{Class, DeliveryState};
use serde::Deserialize;

use super::{Check, Findings};

/// A request as the server met it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SeenRequest {
    /// When it had arrived, Unix microseconds.
    pub at: i64,
    /// `send_msg`, `get_rooms`, `get_users`.
    pub endpoint: Option<String>,
    /// Whether it arrived whole.
    pub complete: bool,
    /// Whether it became a message.
    pub applied: bool,
    /// The room it asked for.
    pub room: Option<i64>,
    /// The sender it named.
    pub user_id: Option<String>,
    /// The text it carried.
    pub text: Option<String>,
    /// The delivery it said it belongs to.
    pub delivery: Option<String>,
    /// The attempt it said it is.
    pub attempt: Option<String>,
    /// The message it became.
    pub message_id: Option<i64>,
}

impl From<&imbabot_simulator::LogEntry> for SeenRequest {
    fn from(entry: &imbabot_simulator::LogEntry) -> Self {
        Self {
            at: entry.at,
            endpoint: entry.endpoint.map(|endpoint| endpoint.name().to_owned()),
            complete: entry.complete,
            applied: entry.applied,
            room: entry.room,
            user_id: entry.user_id.clone(),
            text: entry.text.clone(),
            delivery: entry.delivery.clone(),
            attempt: entry.attempt.clone(),
            message_id: entry.message_id,
        }
    }
}

impl Check {
    pub(super) fn the_server_agrees(&self, found: &mut Findings) {
        self.requests_belong_to_attempts(found);
        self.nothing_is_doubled(found);
        self.the_ledger_tells_the_truth(found);
        self.order_holds(found);
        self.the_rate_holds(found);
    }

    fn sends(&self) -> impl Iterator<Item = &SeenRequest> {
        self.requests.iter().filter(|request| request.endpoint.as_deref() == Some("send_msg"))
    }

    /// I1: every full `send_msg` belongs to exactly one attempt, same room, sender, text.
    fn requests_belong_to_attempts(&self, found: &mut Findings) {
        let book = &self.book;
        let mut seen = BTreeSet::new();
        for request in self.sends().filter(|request| request.complete) {
            let name = request_name(request);
            let Some((id, n)) = identity(request) else {
                found.note(1, format!("a request without delivery and attempt: {name}"));
                continue;
            };
            if !seen.insert((id, n)) {
                found.note(1, format!("two requests for attempt {n} of {id}"));
            }
            let (Some(delivery), Some(_)) = (book.deliveries.get(&id), book.attempts.get(&(id, n)))
            else {
                found.note(
                    1,
                    format!("a request for attempt {n} of {id}, which is not in the ledger"),
                );
                continue;
            };
            let same = request.room.map(i64::unsigned_abs) == Some(delivery.room.0)
                && request.user_id.as_deref() == Some(delivery.sender.as_str())
                && delivery.text.as_ref().is_none_or(|text| Some(text) == request.text.as_ref());
            if !same {
                found.note(1, format!("a request that differs from its delivery {id}: {name}"));
            }
        }
    }

    /// I2: nothing doubled beyond what the policy allows and the ledger admits.
    fn nothing_is_doubled(&self, found: &mut Findings) {
        let book = &self.book;
        for (id, applied) in self.applied() {
            let Some(delivery) = book.deliveries.get(&id) else { continue };
            let ambiguous = book
                .attempts_of(id)
                .filter(|attempt| attempt.class == Some(Class::Ambiguous))
                .count();
            let allowed = match delivery.policy {
                Policy::AtLeastOnce => 1 + ambiguous,
                _ if delivery.possible_duplicate => 1 + ambiguous,
                _ => 1,
            };
            if applied.len() > allowed {
                let times = applied.len();
                found.note(2, format!("{id} was applied {times} times, {allowed} allowed"));
            }
            if applied.len() > 1 && !delivery.possible_duplicate {
                found.note(2, format!("{id} was applied more than once and does not say so"));
            }
        }
    }

    /// I3: what the ledger says of a delivery is what the server saw.
    fn the_ledger_tells_the_truth(&self, found: &mut Findings) {
        let book = &self.book;
        let applied = self.applied();
        for (id, delivery) in &book.deliveries {
            let messages = applied.get(id).map(Vec::as_slice).unwrap_or_default();
            let doubtful =
                book.attempts_of(*id).any(|a| matches!(a.class, Some(Class::Ambiguous) | None));
            match (delivery.state, delivery.reason.as_deref()) {
                (DeliveryState::Delivered, Some("operator")) => {}
                (DeliveryState::Delivered, _) => {
                    let named = delivery.server_message_id.map(|m| m.0);
                    if !messages.iter().any(|m| Some(m.unsigned_abs()) == named) {
                        found.note(
                            3,
                            format!("{id} is delivered as {named:?}, the server has {messages:?}"),
                        );
                    }
                }
                (DeliveryState::Queued, _)
                | (
                    DeliveryState::Dead,
                    Some("rejected" | "expired" | "cancelled" | "suppressed" | "invalid"),
                ) if !doubtful && !messages.is_empty() => {
                    found.note(3, format!("{id} is {} and was applied", delivery.state));
                }
                _ => {}
            }
        }
        // Whole or not: of what was not sent not a byte may have arrived.
        let arrived: BTreeSet<_> = self.sends().filter_map(identity).collect();
        let applied = self.sends().filter(|request| request.applied);
        let applied: BTreeSet<_> = applied.filter_map(identity).collect();
        for ((id, n), attempt) in &book.attempts {
            if attempt.class == Some(Class::NotSent) && arrived.contains(&(*id, *n)) {
                found.note(3, format!("attempt {n} of {id} is not_sent and arrived"));
            }
            if attempt.class == Some(Class::Rejected) && applied.contains(&(*id, *n)) {
                found.note(3, format!("attempt {n} of {id} is rejected and was applied"));
            }
        }
    }

    /// I6: first applied copies of a lane follow (`not_before`, order of recording). What is sent at most
    /// once holds up nobody while it is `unknown`.
    fn order_holds(&self, found: &mut Findings) {
        let book = &self.book;
        let mut last: HashMap<(String, u64, String), (Timestamp, i64, DeliveryId)> = HashMap::new();
        let mut first = BTreeSet::new();
        for request in self.sends().filter(|request| request.applied) {
            let Some((id, _)) = identity(request) else { continue };
            if book.retried.contains(&id) || !first.insert(id) {
                continue;
            }
            let (Some(delivery), Some(seq)) = (book.deliveries.get(&id), book.born.get(&id)) else {
                continue;
            };
            let lane = (delivery.widget.to_string(), delivery.room.0, delivery.sender.to_string());
            let place = (delivery.not_before, *seq, id);
            // A message recorded later with an earlier place could not have been known of.
            if let Some(before) = last.insert(lane, place)
                && (before.0, before.1) > (place.0, place.1)
                && book.known_before(id, before.2)
                && !book.gave_way(id, before.2)
            {
                found.note(6, format!("{id} was applied after {}, which comes later", before.2));
            }
        }
    }

    /// I8: requests keep the rate (+1) in every window of a second and of a minute.
    fn the_rate_holds(&self, found: &mut Findings) {
        let Some(rate) = self.rate else { return };
        let mut times: Vec<i64> = self.sends().map(|request| request.at).collect();
        times.sort_unstable();
        for window in [1_000_000_i64, 60_000_000] {
            let per = rate.per().as_secs_f64();
            #[expect(clippy::cast_precision_loss, reason = "a window is small")]
            let most = (window as f64 / 1e6 / per * f64::from(rate.count())).ceil() + 1.0;
            let mut from = 0;
            for (to, at) in times.iter().enumerate() {
                while times[from] <= at - window {
                    from += 1;
                }
                #[expect(clippy::cast_precision_loss, reason = "a count")]
                let count = (to - from + 1) as f64;
                if count > most {
                    found.note(8, format!("{count} requests within {} s", window / 1_000_000));
                    break;
                }
            }
        }
    }

    /// The messages that each delivery became.
    fn applied(&self) -> BTreeMap<DeliveryId, Vec<i64>> {
        let mut applied: BTreeMap<DeliveryId, Vec<i64>> = BTreeMap::new();
        for request in self.sends().filter(|request| request.applied) {
            if let (Some((id, _)), Some(message)) = (identity(request), request.message_id) {
                applied.entry(id).or_default().push(message);
            }
        }
        applied
    }
}

fn identity(request: &SeenRequest) -> Option<(DeliveryId, u32)> {
    Some((request.delivery.as_ref()?.parse().ok()?, request.attempt.as_ref()?.parse().ok()?))
}

fn request_name(request: &SeenRequest) -> String {
    format!("room {:?}, user {:?}, text {:?}", request.room, request.user_id, request.text)
}
