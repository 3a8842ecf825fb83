//! Holds what the daemon says it did against what the server says happened. Three witnesses: the
//! server's log S, the ledger L, and the occurrences E that were to be expected. Shares no code
//! with the daemon's own decisions.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use imbabot_bot::{DeliveryId, Policy};
use imbabot_core::Timestamp;
use imbabot_scheduler::Rate;
use imbabot_store::{
    AttemptRecord, Class, DeliveryRecord, DeliveryState, LedgerLine, Line, OccurrenceOutcome,
    OccurrenceRecord, RangeRecord,
};
use serde::Deserialize;

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

/// An invariant that does not hold, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which of the invariants, by its number.
    pub invariant: u8,
    /// What was found.
    pub found: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "I{}: {}", self.invariant, self.found)
    }
}

/// The witnesses, and what is to be expected of them.
#[derive(Default)]
pub struct Check {
    requests: Vec<SeenRequest>,
    /// The server was heard; without it, what the ledger says of it can only be believed.
    server_heard: bool,
    lines: Vec<LedgerLine>,
    expected: Vec<(String, Timestamp)>,
    accepted: Vec<DeliveryId>,
    rate: Option<Rate>,
    quiescent: bool,
}

impl Check {
    /// No witness yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The server's log.
    #[must_use]
    pub fn requests(mut self, requests: impl IntoIterator<Item = SeenRequest>) -> Self {
        self.requests.extend(requests);
        self.server_heard = true;
        self
    }

    /// The daemon's ledger.
    #[must_use]
    pub fn ledger(mut self, lines: impl IntoIterator<Item = LedgerLine>) -> Self {
        self.lines.extend(lines);
        self
    }

    /// Instants that a schedule had to account for.
    #[must_use]
    pub fn expected(
        mut self,
        schedule: &str,
        instants: impl IntoIterator<Item = Timestamp>,
    ) -> Self {
        self.expected.extend(instants.into_iter().map(|at| (schedule.to_owned(), at)));
        self
    }

    /// Ids of deliveries that somebody was promised.
    #[must_use]
    pub fn accepted(mut self, ids: impl IntoIterator<Item = DeliveryId>) -> Self {
        self.accepted.extend(ids);
        self
    }

    /// The rate that requests of `send_msg` have to keep.
    #[must_use]
    pub fn rate(mut self, rate: Rate) -> Self {
        self.rate = Some(rate);
        self
    }

    /// Everything had the time to come to an end: nothing may be queued or on its way.
    #[must_use]
    pub fn quiescent(mut self) -> Self {
        self.quiescent = true;
        self
    }

    /// What does not hold.
    #[must_use]
    pub fn run(&self) -> Vec<Violation> {
        let book = Book::read(&self.lines);
        let mut found = Findings::default();
        self.nothing_is_doubled(&book, &mut found);
        if self.server_heard {
            self.requests_belong_to_attempts(&book, &mut found);
            self.the_ledger_tells_the_truth(&book, &mut found);
        }
        self.nothing_is_lost(&book, &mut found);
        self.order_holds(&book, &mut found);
        states_move_along_the_arrows(&self.lines, &mut found);
        self.the_rate_holds(&mut found);
        found.0
    }

    fn sends(&self) -> impl Iterator<Item = &SeenRequest> {
        self.requests.iter().filter(|request| request.endpoint.as_deref() == Some("send_msg"))
    }

    /// I1: every full `send_msg` belongs to exactly one attempt, same room, sender, text.
    fn requests_belong_to_attempts(&self, book: &Book, found: &mut Findings) {
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
    fn nothing_is_doubled(&self, book: &Book, found: &mut Findings) {
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
        let mut keys = HashMap::new();
        for delivery in book.deliveries.values() {
            if let Some(other) = keys.insert(&delivery.key, delivery.id) {
                found.note(2, format!("{} and {other} have the same key", delivery.id));
            }
        }
    }

    /// I3: what the ledger says of a delivery is what the server saw.
    fn the_ledger_tells_the_truth(&self, book: &Book, found: &mut Findings) {
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
        let whole = self.sends().filter(|request| request.complete);
        let arrived: BTreeSet<_> = whole.filter_map(identity).collect();
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

    /// I4 and I5: every expected instant is accounted for once, what fired has its deliveries, and
    /// what was promised is kept.
    fn nothing_is_lost(&self, book: &Book, found: &mut Findings) {
        for (schedule, at) in &self.expected {
            let ones = book
                .occurrences
                .values()
                .filter(|o| o.schedule == *schedule && o.nominal_at == *at && !o.id.contains('!'))
                .count();
            let runs = book
                .ranges
                .iter()
                .filter(|r| r.schedule == *schedule && r.from <= *at && *at <= r.to)
                .count();
            if ones + runs != 1 {
                let times = ones + runs;
                found
                    .note(4, format!("{schedule}@{} is accounted for {times} times", at.compact()));
            }
        }
        let mut by_occurrence: HashMap<&str, u64> = HashMap::new();
        for delivery in book.deliveries.values() {
            if let Some(occurrence) = &delivery.occurrence {
                *by_occurrence.entry(occurrence).or_default() += 1;
            }
        }
        for (id, occurrence) in &book.occurrences {
            let has = by_occurrence.get(id.as_str()).copied().unwrap_or(0);
            let complete = !self.quiescent || has == occurrence.deliveries;
            if has > occurrence.deliveries || !complete {
                let says = occurrence.deliveries;
                found.note(4, format!("{id} has {has} deliveries and says {says}"));
            }
            if occurrence.outcome != OccurrenceOutcome::Fired && has > 0 {
                found.note(4, format!("{id} is {} and has deliveries", occurrence.outcome));
            }
        }
        if self.quiescent {
            for (id, delivery) in &book.deliveries {
                if matches!(delivery.state, DeliveryState::Queued | DeliveryState::Sending) {
                    found.note(4, format!("{id} is still {}", delivery.state));
                }
            }
        }
        for id in &self.accepted {
            if !book.deliveries.contains_key(id) {
                found.note(5, format!("{id} was promised and is not in the ledger"));
            }
        }
    }

    /// I6: first applied copies of a lane follow (`not_before`, order of recording).
    fn order_holds(&self, book: &Book, found: &mut Findings) {
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

/// I7: each line of a delivery follows from the one before.
fn states_move_along_the_arrows(lines: &[LedgerLine], found: &mut Findings) {
    use DeliveryState::{Dead, Delivered, Queued, Sending, Unknown};
    let mut seq = 0;
    let mut states: HashMap<DeliveryId, DeliveryRecord> = HashMap::new();
    let mut operated = BTreeSet::new();
    let mut ended: HashMap<(DeliveryId, u32), AttemptRecord> = HashMap::new();
    for line in lines {
        if line.seq <= seq {
            found.note(7, format!("line {} comes after line {seq}", line.seq));
        }
        seq = line.seq;
        match &line.line {
            Line::Operator(act) => {
                if let Some(id) = act.target.strip_prefix("delivery/") {
                    operated.insert(id.to_owned());
                }
            }
            Line::Attempt(attempt) => {
                let key = (attempt.delivery, attempt.n);
                if let Some(before) = ended.insert(key, attempt.clone())
                    && before.class.is_some()
                    && before.class != attempt.class
                    && before.code.as_deref() != Some("process_died")
                {
                    found.note(
                        7,
                        format!("attempt {} of {} was rewritten", attempt.n, attempt.delivery),
                    );
                }
            }
            Line::Delivery(now) => {
                let before = states.insert(now.id, (**now).clone());
                let from = before.as_ref().map(|before| before.state);
                let allowed = matches!(
                    (from, now.state),
                    (None, Queued | Dead)
                        | (Some(Queued), Sending | Dead)
                        | (Some(Sending), Queued | Delivered | Dead | Unknown)
                        | (Some(Unknown), Queued | Delivered | Dead)
                ) || (from == Some(Dead) && now.state == Queued);
                if !allowed {
                    found.note(7, format!("{} went from {from:?} to {}", now.id, now.state));
                }
                if let Some(before) = before
                    && (before.key != now.key
                        || before.room != now.room
                        || before.sender != now.sender)
                {
                    found.note(7, format!("{} changed its key, room or sender", now.id));
                }
                let back = from == Some(Unknown) && now.state == Queued;
                if back && now.policy == Policy::AtMostOnce && !now.possible_duplicate {
                    found.note(7, format!("{} was queued again although nobody knows", now.id));
                }
            }
            _ => {}
        }
    }
}

#[derive(Default)]
struct Findings(Vec<Violation>);

impl Findings {
    fn note(&mut self, invariant: u8, found: String) {
        self.0.push(Violation { invariant, found });
    }
}

/// The ledger, by record.
#[derive(Default)]
struct Book {
    deliveries: BTreeMap<DeliveryId, DeliveryRecord>,
    born: HashMap<DeliveryId, i64>,
    claimed: HashMap<DeliveryId, i64>,
    attempts: BTreeMap<(DeliveryId, u32), AttemptRecord>,
    occurrences: BTreeMap<String, OccurrenceRecord>,
    ranges: Vec<RangeRecord>,
    retried: BTreeSet<DeliveryId>,
}

impl Book {
    fn read(lines: &[LedgerLine]) -> Self {
        let mut book = Self::default();
        for line in lines {
            match &line.line {
                Line::Delivery(record) => {
                    book.born.entry(record.id).or_insert(line.seq);
                    if record.state == DeliveryState::Sending {
                        book.claimed.entry(record.id).or_insert(line.seq);
                    }
                    book.deliveries.insert(record.id, (**record).clone());
                }
                Line::Attempt(record) => {
                    book.attempts.insert((record.delivery, record.n), record.clone());
                }
                Line::Occurrence(record) => {
                    book.occurrences.insert(record.id.clone(), record.clone());
                }
                Line::Range(record) => book.ranges.push(record.clone()),
                Line::Operator(act) if act.verb == "deliveries retry" => {
                    let id = act.target.strip_prefix("delivery/");
                    book.retried.extend(id.and_then(|id| id.parse::<DeliveryId>().ok()));
                }
                _ => {}
            }
        }
        book
    }

    fn attempts_of(&self, id: DeliveryId) -> impl Iterator<Item = &AttemptRecord> {
        self.attempts.range((id, 0)..=(id, u32::MAX)).map(|(_, attempt)| attempt)
    }

    /// Whether `id` was recorded before `other` was first claimed.
    fn known_before(&self, id: DeliveryId, other: DeliveryId) -> bool {
        match (self.born.get(&id), self.claimed.get(&other)) {
            (Some(born), Some(claimed)) => born < claimed,
            _ => true,
        }
    }
}

fn identity(request: &SeenRequest) -> Option<(DeliveryId, u32)> {
    Some((request.delivery.as_ref()?.parse().ok()?, request.attempt.as_ref()?.parse().ok()?))
}

fn request_name(request: &SeenRequest) -> String {
    format!("room {:?}, user {:?}, text {:?}", request.room, request.user_id, request.text)
}
