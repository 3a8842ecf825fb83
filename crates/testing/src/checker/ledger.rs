//! The ledger, read line by line, and what has to hold of it by itself: that states move along the
//! arrows, that attempts are appended and agree with them, that nothing is told twice (I7, and what of
//! I2, I3 and I4 can be seen without the server).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use imbabot_bot::{DeliveryId, Policy};
use imbabot_store::{
    AttemptRecord, Class, DeadReason, DeliveryRecord, DeliveryState, IncarnationId,
    IncarnationRecord, LedgerLine, Line, OccurrenceRecord, RangeRecord,
};

use super::Findings;

use DeliveryState::{Dead, Delivered, Queued, Sending, Unknown};

/// A state with its reason.
type Standing = (DeliveryState, Option<String>);

/// The ledger, by record.
#[derive(Default)]
pub(super) struct Book {
    pub(super) deliveries: BTreeMap<DeliveryId, DeliveryRecord>,
    /// The line with which a delivery begins.
    pub(super) born: HashMap<DeliveryId, i64>,
    /// The line with which it was first being sent.
    pub(super) claimed: HashMap<DeliveryId, i64>,
    /// The line with which it was first unknown.
    unsure: HashMap<DeliveryId, i64>,
    pub(super) attempts: BTreeMap<(DeliveryId, u32), AttemptRecord>,
    pub(super) occurrences: BTreeMap<String, OccurrenceRecord>,
    pub(super) ranges: Vec<RangeRecord>,
    /// Queued again by an operator.
    pub(super) retried: BTreeSet<DeliveryId>,
    /// Moved from dead to queued.
    revived: BTreeSet<DeliveryId>,
    /// Runs of instances that share a store: they go on side by side.
    sharing: HashSet<IncarnationId>,
    incarnations: BTreeMap<IncarnationId, IncarnationRecord>,
    totals: BTreeMap<Standing, u64>,
    last: i64,
    count: usize,
    found: Findings,
}

impl Book {
    pub(super) fn read(&mut self, line: LedgerLine) {
        let seq = line.seq;
        if seq <= self.last {
            self.found.note(7, format!("line {seq} comes after line {}", self.last));
        }
        self.last = seq;
        self.count += 1;
        match line.line {
            Line::Delivery(record) => self.delivery(seq, &record),
            Line::Attempt(record) => self.attempt(&record),
            Line::Occurrence(record) => {
                self.occurrences.insert(record.id.clone(), record);
            }
            Line::Range(record) => self.ranges.push(record),
            Line::Incarnation(record) => self.incarnation(record),
            Line::Operator(act) => {
                let id: Option<DeliveryId> =
                    act.target.strip_prefix("delivery/").and_then(|id| id.parse().ok());
                if act.verb == "deliveries retry" {
                    self.retried.extend(id);
                }
            }
            Line::Event(_) => {}
        }
    }

    pub(super) fn lines(&self) -> usize {
        self.count
    }

    pub(super) fn findings(&self) -> Findings {
        self.found.clone()
    }

    /// How often a delivery came to stand in each way.
    pub(super) fn totals(&self) -> impl Iterator<Item = (&Standing, &u64)> {
        self.totals.iter()
    }

    pub(super) fn attempts_of(&self, id: DeliveryId) -> impl Iterator<Item = &AttemptRecord> {
        self.attempts.range((id, 0)..=(id, u32::MAX)).map(|(_, attempt)| attempt)
    }

    /// Whether `id` was recorded before `other` was first claimed.
    pub(super) fn known_before(&self, id: DeliveryId, other: DeliveryId) -> bool {
        match (self.born.get(&id), self.claimed.get(&other)) {
            (Some(born), Some(claimed)) => born < claimed,
            _ => true,
        }
    }

    /// Whether nobody knew what had become of `id` when `other` was first claimed, which does not wait for
    /// that: then a request that was held up on its way may still arrive.
    pub(super) fn gave_way(&self, id: DeliveryId, other: DeliveryId) -> bool {
        let once = |delivery: &DeliveryRecord| delivery.policy == Policy::AtMostOnce;
        self.deliveries.get(&id).is_some_and(once)
            && match (self.unsure.get(&id), self.claimed.get(&other)) {
                (Some(unsure), Some(claimed)) => unsure < claimed,
                _ => false,
            }
    }

    fn delivery(&mut self, seq: i64, now: &DeliveryRecord) {
        let (id, state) = (now.id, now.state);
        self.born.entry(id).or_insert(seq);
        if state == Sending {
            self.claimed.entry(id).or_insert(seq);
        }
        if state == Unknown {
            self.unsure.entry(id).or_insert(seq);
        }
        *self.totals.entry((state, now.reason.clone())).or_default() += 1;
        let before = self.deliveries.insert(id, now.clone());
        let from = before.as_ref().map(|before| before.state);
        let allowed = matches!(
            (from, state),
            (None, Queued | Dead)
                | (Some(Queued), Sending | Dead)
                | (Some(Sending), Queued | Delivered | Dead | Unknown)
                | (Some(Unknown), Queued | Delivered | Dead)
                | (Some(Dead), Queued)
        );
        if !allowed {
            self.found.note(7, format!("{id} went from {from:?} to {state}"));
        }
        if from == Some(Dead) && state == Queued {
            self.revived.insert(id);
        }
        self.reason_fits(now);
        if from == Some(Sending) {
            self.agrees_with_its_attempt(now);
        }
        let Some(before) = before else { return };
        if (&before.key, before.room, &before.sender, &before.widget, before.policy)
            != (&now.key, now.room, &now.sender, &now.widget, now.policy)
        {
            self.found.note(7, format!("{id} changed what it is"));
        }
        if before.possible_duplicate && !now.possible_duplicate {
            self.found.note(7, format!("{id} was a possible duplicate and is none any more"));
        }
        let back = before.state == Unknown && state == Queued;
        if back && now.policy == Policy::AtMostOnce && !now.possible_duplicate {
            self.found.note(7, format!("{id} was queued again although nobody knows"));
        }
    }

    /// Each state has the reasons it may have, and the end has exactly one.
    fn reason_fits(&mut self, now: &DeliveryRecord) {
        let reason = now.reason.as_deref();
        let fits = match now.state {
            Queued | Sending => reason.is_none(),
            Unknown => reason.is_some(),
            Delivered => matches!(reason, None | Some("operator")),
            Dead => reason.is_some_and(|reason| reason.parse::<DeadReason>().is_ok()),
        };
        if !fits {
            self.found.note(7, format!("{} is {} because of {reason:?}", now.id, now.state));
        }
        if now.state == Delivered && reason.is_none() && now.server_message_id.is_none() {
            self.found.note(3, format!("{} is delivered as no message", now.id));
        }
    }

    fn agrees_with_its_attempt(&mut self, now: &DeliveryRecord) {
        let last = self.attempts_of(now.id).last().and_then(|attempt| attempt.class);
        let agrees = match now.state {
            Delivered => last == Some(Class::Delivered),
            Unknown => last == Some(Class::Ambiguous),
            _ => matches!(last, Some(Class::NotSent | Class::Rejected)),
        };
        if !agrees {
            self.found
                .note(7, format!("{} is {} after an attempt that was {last:?}", now.id, now.state));
        }
    }

    fn attempt(&mut self, now: &AttemptRecord) {
        let (id, n) = (now.delivery, now.n);
        let before = self.attempts.insert((id, n), now.clone());
        match before {
            None => {
                if n > 1 && !self.attempts.contains_key(&(id, n - 1)) {
                    self.found.note(7, format!("{id} has an attempt {n} and none before it"));
                }
                if self.deliveries.get(&id).map(|delivery| delivery.state) != Some(Sending) {
                    self.found.note(7, format!("attempt {n} of {id} began while it was not sent"));
                }
                if self.incarnations.get(&now.incarnation).is_none_or(|run| run.ended_at.is_some())
                {
                    self.found
                        .note(7, format!("attempt {n} of {id} is of a run that was not there"));
                }
            }
            Some(before) => {
                // What is known stays; what was in doubt may become known by its own late answer.
                let settled = matches!(before.class, Some(class) if class != Class::Ambiguous);
                if settled && before.class != now.class {
                    self.found.note(7, format!("attempt {n} of {id} was rewritten"));
                }
                if before.started_at != now.started_at || before.incarnation != now.incarnation {
                    self.found.note(7, format!("attempt {n} of {id} changed its beginning"));
                }
            }
        }
    }

    fn incarnation(&mut self, now: IncarnationRecord) {
        let open = |run: &&IncarnationRecord| run.ended_at.is_none() && run.id != now.id;
        if now.instance.is_some() {
            self.sharing.insert(now.id);
        }
        let shares = |id| self.sharing.contains(id);
        let other = self.incarnations.values().find(open).filter(|other| !shares(&other.id));
        if let (Some(other), false) = (other, shares(&now.id)) {
            let (now, other) = (now.id.0, other.id.0);
            self.found.note(7, format!("run {now} is told of while run {other} goes on"));
        }
        self.incarnations.insert(now.id, now);
    }

    /// What the last lines say, taken together.
    pub(super) fn is_consistent(&self, found: &mut Findings) {
        let mut keys = HashMap::new();
        for (id, delivery) in &self.deliveries {
            if let Some(other) = keys.insert(&delivery.key, id) {
                found.note(2, format!("{id} and {other} have the same key"));
            }
            if self.revived.contains(id) && !self.retried.contains(id) {
                found
                    .note(7, format!("{id} was dead and is queued again, and nobody asked for it"));
            }
            self.attempts_agree(delivery, found);
        }
        self.runs_do_not_overlap(found);
        for delivery in self.deliveries.values() {
            if let Some(occurrence) = &delivery.occurrence
                && !self.accounts_for(occurrence)
            {
                found.note(
                    4,
                    format!("{} belongs to {occurrence}, which is not there", delivery.id),
                );
            }
        }
    }

    fn attempts_agree(&self, delivery: &DeliveryRecord, found: &mut Findings) {
        let id = delivery.id;
        let classes: Vec<Option<Class>> = self.attempts_of(id).map(|a| a.class).collect();
        let count = |class| classes.iter().filter(|c| **c == Some(class)).count();
        let doubtful = count(Class::Ambiguous);
        let open = classes.iter().filter(|class| class.is_none()).count();
        if open != usize::from(delivery.state == Sending) {
            found.note(7, format!("{id} is {} and {open} attempts are open", delivery.state));
        }
        if delivery.state == Dead {
            let unresolved = delivery.reason.as_deref() == Some("unresolved");
            if unresolved != (doubtful > 0) {
                let reason = delivery.reason.as_deref().unwrap_or("nothing");
                found.note(3, format!("{id} is dead({reason}) with {doubtful} attempts in doubt"));
            }
        }
        if doubtful + count(Class::Delivered) > 1 && !delivery.possible_duplicate {
            found.note(2, format!("{id} may be there more than once and does not say so"));
        }
    }

    /// I4: an instant is accounted for once.
    fn runs_do_not_overlap(&self, found: &mut Findings) {
        let mut runs: Vec<&RangeRecord> = self.ranges.iter().collect();
        runs.sort_by_key(|run| (&run.schedule, run.from));
        for pair in runs.windows(2) {
            if pair[0].schedule == pair[1].schedule && pair[1].from <= pair[0].to {
                let (schedule, at) = (&pair[0].schedule, pair[1].from.compact());
                found.note(4, format!("{schedule}@{at} lies in two runs"));
            }
        }
        for one in self.occurrences.values().filter(|one| !one.id.contains('!')) {
            let place = runs.partition_point(|run| {
                (&run.schedule, run.from) <= (&one.schedule, one.nominal_at)
            });
            let covering = place.checked_sub(1).and_then(|place| runs.get(place));
            if covering.is_some_and(|run| run.schedule == one.schedule && one.nominal_at <= run.to)
            {
                found.note(4, format!("{} is an occurrence and lies in a run", one.id));
            }
        }
    }

    fn accounts_for(&self, occurrence: &str) -> bool {
        // What an operator triggered belongs to no run, and goes with the retention.
        if occurrence.contains('!') || self.occurrences.contains_key(occurrence) {
            return true;
        }
        let Some((schedule, at)) = occurrence.rsplit_once('@') else { return false };
        let Ok(at) = at.parse() else { return false };
        self.ranges.iter().any(|run| run.schedule == schedule && run.from <= at && at <= run.to)
    }
}
