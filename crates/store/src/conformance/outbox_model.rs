//! Random sequences of verbs on the outbox, compared with a model of the state machine: rows move
//! only along its arrows, a claim takes heads of lanes in order, rates hold, nothing is doubled
//! that may not be, and in the end nothing is left behind.

#![allow(missing_docs, reason = "the name of a case is its sentence")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use imbabot_bot::{DeliveryId, Policy};
use imbabot_core::{RoomId, SiteUserId, Timestamp};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::Backend;
use super::support::*;
use crate::{
    Born, CancelFilter, ClaimRequest, ClaimedDelivery, Class, DeadReason, DeliveryFilter,
    DeliveryRecord, DeliveryState, Line, NewDelivery, Next, PauseScope, Resolution, RetryVerdict,
    Settle, Settled, WidgetClaim,
};
use DeliveryState::{Dead, Delivered, Queued, Sending, Unknown};

const EVERY: Duration = Duration::from_millis(100);
const PER_ROOM: Duration = Duration::from_millis(700);

/// So short that every rule is met often.
const RULES: Settle = Settle {
    wait: Duration::from_secs(4),
    max_resends: 2,
    unresolved_after: Duration::from_secs(60),
};
const WIDGETS: [&str; 2] = ["w", "v"];

#[derive(Debug, Clone)]
enum Op {
    Enqueue {
        key: u8,
        shift: Option<i8>,
        keeps: u16,
        other_text: bool,
        dead: bool,
    },
    Claim {
        slots: usize,
        only: Option<u8>,
    },
    Settle {
        which: usize,
        outcome: u8,
        wait: u8,
    },
    /// An outcome for an attempt that was claimed some time ago, whatever has become of it.
    Late {
        which: usize,
        outcome: u8,
    },
    Sweep {
        limit: usize,
    },
    Kill,
    Cancel {
        key: u8,
    },
    Retry {
        key: u8,
        accept: bool,
    },
    Resolve {
        key: u8,
        seen: bool,
    },
    Pause {
        scope: u8,
        paused: bool,
    },
    Hold {
        widget: u8,
        seconds: u8,
    },
    Wait {
        milliseconds: u32,
    },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => (0..24_u8, prop::option::weighted(0.4, -20..20_i8), 1..200_u16, prop::bool::weighted(0.1), prop::bool::weighted(0.05))
            .prop_map(|(key, shift, keeps, other_text, dead)| Op::Enqueue { key, shift, keeps, other_text, dead }),
        8 => (0..4_usize, prop::option::weighted(0.1, 0..24_u8))
            .prop_map(|(slots, only)| Op::Claim { slots, only }),
        8 => (any::<usize>(), 0..6_u8, 0..20_u8)
            .prop_map(|(which, outcome, wait)| Op::Settle { which, outcome, wait }),
        4 => (any::<usize>(), 0..6_u8).prop_map(|(which, outcome)| Op::Late { which, outcome }),
        4 => (1..4_usize).prop_map(|limit| Op::Sweep { limit }),
        1 => Just(Op::Kill),
        1 => (0..24_u8).prop_map(|key| Op::Cancel { key }),
        2 => (0..24_u8, any::<bool>()).prop_map(|(key, accept)| Op::Retry { key, accept }),
        1 => (0..24_u8, any::<bool>()).prop_map(|(key, seen)| Op::Resolve { key, seen }),
        1 => (0..4_u8, any::<bool>()).prop_map(|(scope, paused)| Op::Pause { scope, paused }),
        1 => (0..2_u8, 0..60_u8).prop_map(|(widget, seconds)| Op::Hold { widget, seconds }),
        6 => prop_oneof![0..1_500_u32, 0..6_000_u32, 0..40_000_u32].prop_map(|milliseconds| Op::Wait { milliseconds }),
    ]
}

/// What the model knows of a row.
#[derive(Debug, Clone)]
struct Row {
    new: NewDelivery,
    seq: usize,
    state: DeliveryState,
    reason: Option<String>,
    possible_duplicate: bool,
    not_before: Timestamp,
    expires_at: Timestamp,
    keeps: Duration,
    next_attempt: Timestamp,
    /// Class of each attempt; `None` while it is on its way.
    attempts: Vec<Option<Class>>,
    misses: u32,
    resends: u32,
    unknown_since: Timestamp,
    resend_at: Option<Timestamp>,
}

impl Row {
    fn ambiguous(&self) -> u32 {
        let ambiguous = self.attempts.iter().filter(|class| **class == Some(Class::Ambiguous));
        u32::try_from(ambiguous.count()).unwrap()
    }

    fn open(&self) -> bool {
        matches!(self.state, Queued | Sending) || self.resend_at.is_some()
    }

    fn lane(&self) -> (String, RoomId, SiteUserId) {
        (self.new.widget.to_string(), self.new.room, self.new.sender.clone())
    }

    fn die(&mut self, reason: DeadReason) {
        let reason = if self.ambiguous() > 0 { DeadReason::Unresolved } else { reason };
        self.state = Dead;
        self.reason = Some(reason.to_string());
        self.resend_at = None;
    }

    fn lose(&mut self, now: Timestamp, code: &str) {
        *self.attempts.last_mut().unwrap() = Some(Class::Ambiguous);
        self.misses = 0;
        self.state = Unknown;
        self.reason = Some(code.into());
        self.unknown_since = now;
        if self.new.policy == Policy::AtLeastOnce {
            if self.resends >= RULES.max_resends {
                self.die(DeadReason::Unresolved);
            } else {
                self.resend_at = Some(now + RULES.wait);
            }
        }
    }

    fn requeue(&mut self, now: Timestamp, possible_duplicate: bool) {
        self.state = Queued;
        self.reason = None;
        self.resend_at = None;
        self.next_attempt = now;
        self.misses = 0;
        self.possible_duplicate |= possible_duplicate;
    }

    /// What time alone may make of the row now.
    fn due(&self, now: Timestamp) -> Vec<Self> {
        let mut ways = Vec::new();
        if self.state == Queued && self.expires_at <= now {
            let mut row = self.clone();
            row.die(DeadReason::Expired);
            ways.push(row);
        }
        if self.resend_at.is_some_and(|at| at <= now) {
            let mut row = self.clone();
            if self.expires_at <= now {
                row.die(DeadReason::Expired);
            } else {
                row.requeue(now, true);
                row.resends += 1;
            }
            ways.push(row);
        }
        if self.state == Unknown && self.unknown_since + RULES.unresolved_after <= now {
            let mut row = self.clone();
            row.die(DeadReason::Unresolved);
            ways.push(row);
        }
        ways
    }

    fn looks_like(&self, record: &DeliveryRecord) -> bool {
        (self.state, &self.reason, self.possible_duplicate, self.expires_at, self.not_before)
            == (
                record.state,
                &record.reason,
                record.possible_duplicate,
                record.expires_at,
                record.not_before,
            )
    }
}

struct Model {
    bench: Bench,
    now: Timestamp,
    rows: BTreeMap<DeliveryId, Row>,
    claimed: Vec<ClaimedDelivery>,
    paused: BTreeSet<PauseScope>,
    /// Per widget: when its last request left, and until when it is held.
    widgets: BTreeMap<String, (Timestamp, Timestamp)>,
    rooms: BTreeMap<(String, RoomId), Timestamp>,
    messages: u64,
    ledger: i64,
    told: BTreeMap<DeliveryId, DeliveryRecord>,
}

fn key_of(number: u8) -> String {
    format!("k{number}")
}

/// What a key stands for never changes, so that keys come back with the same contents.
fn contents(number: u8) -> NewDelivery {
    let policy = if number.is_multiple_of(2) { Policy::AtMostOnce } else { Policy::AtLeastOnce };
    NewDelivery {
        widget: widget(WIDGETS[usize::from(number % 8 == 7)]),
        room: RoomId(u64::from(number % 4 / 3)),
        sender: u64::from(number % 6 / 5).into(),
        bot: number.is_multiple_of(3).then(|| bot("b")),
        policy,
        ..message(&key_of(number))
    }
}

fn scope_of(number: u8) -> PauseScope {
    match number {
        0 => PauseScope::All,
        1 => PauseScope::Widget(widget("w")),
        2 => PauseScope::Widget(widget("v")),
        _ => PauseScope::Bot(bot("b")),
    }
}

impl Model {
    fn new(backend: &dyn Backend) -> Self {
        Self {
            bench: Bench::new(backend),
            now: at(100),
            rows: BTreeMap::new(),
            claimed: Vec::new(),
            paused: BTreeSet::new(),
            widgets: BTreeMap::new(),
            rooms: BTreeMap::new(),
            messages: 0,
            ledger: 0,
            told: BTreeMap::new(),
        }
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Enqueue { key, shift, keeps, other_text, dead } => {
                self.enqueue(*key, *shift, *keeps, *other_text, *dead);
            }
            Op::Claim { slots, only } => {
                self.claim(*slots, only.map(|key| id(&key_of(key))));
            }
            Op::Settle { which, outcome, wait } => {
                let flying: Vec<_> = self.flying();
                if !flying.is_empty() {
                    let claimed = flying[which % flying.len()].clone();
                    self.settle(&claimed, *outcome, *wait);
                }
            }
            Op::Late { which, outcome } => {
                if !self.claimed.is_empty() {
                    let claimed = self.claimed[which % self.claimed.len()].clone();
                    self.settle(&claimed, *outcome, 1);
                }
            }
            Op::Sweep { limit } => {
                self.sweep(*limit);
            }
            Op::Kill => self.kill(),
            Op::Cancel { key } => self.cancel(id(&key_of(*key))),
            Op::Retry { key, accept } => self.retry(id(&key_of(*key)), *accept),
            Op::Resolve { key, seen } => self.resolve(id(&key_of(*key)), *seen),
            Op::Pause { scope, paused } => self.pause(&scope_of(*scope), *paused),
            Op::Hold { widget, seconds } => {
                let name = WIDGETS[usize::from(*widget)];
                let until = self.now + secs(u64::from(*seconds));
                run(self.bench.store.hold_widget(&super::support::widget(name), until));
                let entry = self.widget(name);
                entry.1 = entry.1.max(until);
            }
            Op::Wait { milliseconds } => {
                self.now = self.now + Duration::from_millis(u64::from(*milliseconds));
            }
        }
    }

    fn widget(&mut self, name: &str) -> &mut (Timestamp, Timestamp) {
        self.widgets.entry(name.into()).or_insert((Timestamp::MIN, Timestamp::MIN))
    }

    /// The attempts whose outcome is still to come.
    fn flying(&self) -> Vec<ClaimedDelivery> {
        let on_its_way = |claimed: &&ClaimedDelivery| {
            let row = &self.rows[&claimed.id];
            row.state == Sending && row.attempts.len() == claimed.attempt as usize
        };
        self.claimed.iter().filter(on_its_way).cloned().collect()
    }

    fn enqueue(&mut self, key: u8, shift: Option<i8>, keeps: u16, other_text: bool, dead: bool) {
        let not_before = shift.map(|seconds| {
            let micros = self.now.as_micros() + i64::from(seconds) * 1_000_000;
            Timestamp::from_micros(micros)
        });
        let from = not_before.map_or(self.now, |t| t.max(self.now));
        let mut new = NewDelivery {
            not_before,
            expires_at: from + secs(u64::from(keeps)),
            born: if dead { Born::Dead(DeadReason::Suppressed) } else { Born::Queued },
            ..contents(key)
        };
        if other_text {
            new.text.push_str(", but another");
        }
        let answer = self.bench.enqueue(self.now, vec![new.clone()]).remove(0);
        assert_eq!(answer.id, new.id());
        if let Some(row) = self.rows.get(&new.id()) {
            assert!(answer.known);
            assert_eq!(answer.refused, row.new.text != new.text);
            assert_eq!(answer.state, row.state);
            return;
        }
        assert!(!answer.known && !answer.refused);
        let row = Row {
            seq: self.rows.len(),
            state: answer.state,
            reason: answer.reason.map(|reason| reason.to_string()),
            possible_duplicate: false,
            not_before: not_before.unwrap_or(self.now),
            expires_at: new.expires_at,
            keeps: new.expires_at.since(from),
            next_attempt: Timestamp::MIN,
            attempts: Vec::new(),
            misses: 0,
            resends: 0,
            unknown_since: Timestamp::MIN,
            resend_at: None,
            new,
        };
        assert_eq!(row.state, if dead { Dead } else { Queued });
        self.rows.insert(row.new.id(), row);
    }

    /// The delivery that a lane waits for: what is on its way, else the first open one.
    fn head(&self, lane: &(String, RoomId, SiteUserId)) -> Option<&Row> {
        let of_lane = || self.rows.values().filter(|row| row.open() && row.lane() == *lane);
        let sending = of_lane().find(|row| row.state == Sending);
        sending.or_else(|| of_lane().min_by_key(|row| (row.not_before, row.seq)))
    }

    fn told_nothing(&self, row: &Row) -> bool {
        self.paused.contains(&PauseScope::All)
            || self.paused.contains(&PauseScope::Widget(row.new.widget.clone()))
            || row.new.bot.clone().is_some_and(|bot| self.paused.contains(&PauseScope::Bot(bot)))
    }

    /// When the row may be claimed, if nothing but time stands against it.
    fn may_go(&self, row: &Row) -> Option<Timestamp> {
        let first = self.head(&row.lane()).is_some_and(|head| head.seq == row.seq);
        (first && row.state == Queued && !self.told_nothing(row))
            .then(|| row.not_before.max(row.next_attempt))
    }

    fn claim(&mut self, slots: usize, only: Option<DeliveryId>) -> Option<Timestamp> {
        let request = ClaimRequest {
            now: self.now,
            incarnation: self.bench.incarnation,
            widgets: WIDGETS
                .map(|name| WidgetClaim {
                    widget: widget(name),
                    slots,
                    interval: EVERY,
                    room_interval: PER_ROOM,
                })
                .into(),
            only,
        };
        let claimed = run(self.bench.store.claim(request));
        let records = self.records();
        let mut expired = 0;
        for claim in &claimed.deliveries {
            assert!(only.is_none_or(|only| only == claim.id));
        }
        // What the claim found to be expired was the head of its lane; with it gone, another is.
        loop {
            let gone = self.rows.values().find(|row| {
                row.state == Queued
                    && records[&row.new.id()].state == Dead
                    && self.head(&row.lane()).is_some_and(|head| head.seq == row.seq)
            });
            let Some(gone) = gone.map(|row| row.new.id()) else { break };
            let row = self.rows.get_mut(&gone).unwrap();
            assert!(row.expires_at <= self.now, "{row:?} was not expired");
            row.die(DeadReason::Expired);
            expired += 1;
        }
        assert_eq!(claimed.expired, expired);
        for claim in &claimed.deliveries {
            self.check_claim(claim);
        }
        if only.is_none() && slots > 0 {
            self.check_nothing_was_left(slots, &claimed.deliveries);
        }
        claimed.next_due
    }

    fn check_claim(&mut self, claim: &ClaimedDelivery) {
        let now = self.now;
        let row = &self.rows[&claim.id];
        let due = self.may_go(row).unwrap_or_else(|| panic!("{row:?} may not go"));
        assert!(due <= now && row.expires_at > now, "{row:?} at {now}");
        assert_eq!(claim.attempt as usize, row.attempts.len() + 1);
        assert_eq!((claim.misses, claim.ambiguous), (row.misses, row.ambiguous()));
        assert_eq!((&claim.text, claim.policy), (&row.new.text, row.new.policy));
        if row.new.policy == Policy::AtMostOnce && row.ambiguous() > 0 {
            // Only a person may do that, and it shows.
            assert!(row.possible_duplicate, "{row:?} is doubled");
        }
        let (name, room) = (row.new.widget.to_string(), row.new.room);
        let (last, held) = *self.widget(&name);
        assert!(now >= last + EVERY && now >= held, "the pace of widget {name}");
        let last = self.rooms.insert((name.clone(), room), now);
        assert!(last.is_none_or(|last| now >= last + PER_ROOM), "the pace of room {room}");
        self.widget(&name).0 = now;
        let row = self.rows.get_mut(&claim.id).unwrap();
        row.state = Sending;
        row.attempts.push(None);
        self.claimed.push(claim.clone());
    }

    /// Whatever could go went: a free slot, a free rate and a head that may go never meet.
    fn check_nothing_was_left(&mut self, slots: usize, claimed: &[ClaimedDelivery]) {
        for name in WIDGETS {
            let (last, held) = *self.widget(name);
            let taken = claimed.iter().filter(|claim| claim.widget.as_str() == name).count();
            assert!(taken <= slots);
            if taken == slots || self.now < last + EVERY || self.now < held {
                continue;
            }
            for row in self.rows.values().filter(|row| row.new.widget.as_str() == name) {
                let room = self.rooms.get(&(name.into(), row.new.room));
                let free = room.is_none_or(|last| self.now >= *last + PER_ROOM);
                let may_go = self.may_go(row).is_some_and(|due| due <= self.now);
                assert!(!(free && may_go), "{row:?} was left at {}", self.now);
            }
        }
    }

    fn outcome(&mut self, outcome: u8, wait: u8) -> (Class, Next) {
        self.messages += 1;
        match outcome {
            0 => delivered(self.messages),
            1 | 2 => unknown(),
            3 => refused(),
            4 => (Class::Rejected, Next::Retry { at: self.now + secs(wait.into()) }),
            _ => again(self.now + secs(wait.into())),
        }
    }

    fn settle(&mut self, claimed: &ClaimedDelivery, outcome: u8, wait: u8) {
        let (class, next) = self.outcome(outcome, wait);
        let settled = Settled {
            delivery: claimed.id,
            attempt: claimed.attempt,
            class,
            code: "seen".into(),
            http_status: Some(200),
            detail: String::new(),
            next: next.clone(),
        };
        let told = run(self.bench.store.settle(self.now, RULES, vec![settled])).remove(0);
        let row = self.rows.get_mut(&claimed.id).unwrap();
        let own = row.attempts.len() == claimed.attempt as usize;
        let known = &mut row.attempts[claimed.attempt as usize - 1];
        let news = match known {
            None => true,
            Some(Class::Ambiguous) => class != Class::Ambiguous,
            Some(_) => false,
        };
        if news {
            *known = Some(class);
        }
        match (row.state, &next) {
            _ if !news => {}
            (Sending, Next::Unknown) if own => row.lose(self.now, "seen"),
            (Sending, Next::Retry { at }) if own => {
                row.misses = if class == Class::NotSent { row.misses + 1 } else { 0 };
                row.state = Queued;
                row.next_attempt = *at;
            }
            (Sending | Unknown, Next::Dead(reason)) if own => row.die(*reason),
            (Unknown, Next::Delivered { .. }) | (Sending, Next::Delivered { .. })
                if own || row.state == Unknown =>
            {
                row.state = Delivered;
                row.reason = None;
                row.resend_at = None;
            }
            _ => {}
        }
        assert_eq!(told.state, row.state, "{row:?} after {next:?}");
    }

    fn sweep(&mut self, limit: usize) -> Option<Timestamp> {
        let due = self.rows.values().filter(|row| !row.due(self.now).is_empty()).count();
        let (moved, next) = run(self.bench.store.sweep(self.now, RULES, limit));
        let records = self.records();
        let mut changed = 0;
        for row in self.rows.values_mut() {
            let record = &records[&row.new.id()];
            if !row.looks_like(record) {
                let mut ways = row.due(self.now).into_iter();
                let way = ways.find(|way| way.looks_like(record));
                *row = way.unwrap_or_else(|| panic!("{row:?} became {record:?}"));
                changed += 1;
            }
        }
        assert_eq!((moved, changed), (due.min(limit) as u64, due.min(limit)));
        next
    }

    fn kill(&mut self) {
        let begun = run(self.bench.store.begin(self.now, "1", RULES));
        self.bench.incarnation = begun.incarnation;
        let mut lost = 0;
        for row in self.rows.values_mut().filter(|row| row.state == Sending) {
            row.lose(self.now, "process_died");
            lost += 1;
        }
        assert_eq!(begun.turned_unknown, lost);
        assert!(self.records().values().all(|record| record.state != Sending));
    }

    fn cancel(&mut self, id: DeliveryId) {
        let cancelled = run(self.bench.store.cancel(self.now, &CancelFilter::Ids(vec![id])));
        match self.rows.get_mut(&id) {
            Some(row) if row.state == Queued => {
                assert_eq!(cancelled, [id]);
                row.die(DeadReason::Cancelled);
            }
            _ => assert!(cancelled.is_empty()),
        }
    }

    fn retry(&mut self, id: DeliveryId, accept: bool) {
        let verdict = run(self.bench.store.retry(self.now, id, accept));
        let Some(row) = self.rows.get_mut(&id) else {
            return assert_eq!(verdict, RetryVerdict::Missing);
        };
        let unsure = row.ambiguous() > 0 || row.state == Unknown;
        match row.state {
            Dead | Unknown if unsure && !accept => {
                assert_eq!(verdict, RetryVerdict::NeedsAcceptance);
            }
            Dead | Unknown => {
                assert_eq!(verdict, RetryVerdict::Queued);
                row.requeue(self.now, unsure);
                row.expires_at = row.expires_at.max(self.now + row.keeps.max(secs(60)));
            }
            state => assert_eq!(verdict, RetryVerdict::NotNow(state)),
        }
    }

    fn resolve(&mut self, id: DeliveryId, seen: bool) {
        let as_ = if seen { Resolution::Delivered } else { Resolution::Dead };
        let found = run(self.bench.store.resolve(self.now, id, as_));
        assert_eq!(found, self.rows.get(&id).map(|row| row.state));
        if let Some(row) = self.rows.get_mut(&id).filter(|row| row.state == Unknown) {
            if seen {
                row.state = Delivered;
                row.reason = Some("operator".into());
                row.resend_at = None;
            } else {
                row.die(DeadReason::Unresolved);
                row.reason = Some("unresolved".into());
            }
        }
    }

    fn pause(&mut self, scope: &PauseScope, paused: bool) {
        let changed = run(self.bench.store.pause(self.now, scope, paused));
        let expected =
            if paused { self.paused.insert(scope.clone()) } else { self.paused.remove(scope) };
        assert_eq!(changed, expected);
    }

    fn records(&self) -> BTreeMap<DeliveryId, DeliveryRecord> {
        let all = run(self.bench.store.deliveries(&DeliveryFilter::default()));
        all.into_iter().map(|record| (record.id, record)).collect()
    }

    /// The store holds what the model says, and the ledger tells the same, along the arrows.
    fn check(&mut self) {
        let records = self.records();
        assert_eq!(records.len(), self.rows.len());
        let mut lanes = BTreeSet::new();
        for row in self.rows.values() {
            let record = &records[&row.new.id()];
            assert!(row.looks_like(record), "{row:?} is {record:?}");
            assert_eq!(record.text.as_deref(), Some(row.new.text.as_str()));
            assert!(row.state != Sending || lanes.insert(row.lane()), "two of a lane at once");
            let unresolved = row.reason.as_deref() == Some("unresolved");
            assert!(row.state != Dead || row.ambiguous() == 0 || unresolved);
        }
        for line in run(self.bench.store.ledger(self.ledger, 10_000)) {
            assert!(line.seq > self.ledger);
            self.ledger = line.seq;
            if let Line::Delivery(record) = line.line {
                let from = self.told.get(&record.id).map(|told| told.state);
                let along = matches!(
                    (from, record.state),
                    (None, Queued | Dead)
                        | (Some(Queued), Sending | Dead)
                        | (Some(Sending), Queued | Delivered | Unknown | Dead)
                        | (Some(Unknown), Queued | Delivered | Dead)
                        | (Some(Dead), Queued)
                );
                assert!(along, "{from:?} -> {record:?}");
                self.told.insert(record.id, *record);
            }
        }
        assert_eq!(self.told, records, "the last line of an id is the record");
    }

    /// Everything is let go and answered: then nothing is left, and the instants that the verbs
    /// name are enough to get there.
    fn finish(&mut self) {
        for scope in self.paused.clone() {
            self.pause(&scope, false);
        }
        for _ in 0..500 {
            let swept = self.sweep(100);
            let due = self.claim(3, None);
            for claimed in self.flying() {
                self.settle(&claimed, 0, 0);
            }
            let open =
                self.rows.values().any(|row| matches!(row.state, Queued | Sending | Unknown));
            match due.into_iter().chain(swept).min() {
                Some(next) => self.now = self.now.max(next),
                None if open => {
                    let again = self.sweep(100).is_some() || self.claim(3, None).is_some();
                    assert!(again || !self.flying().is_empty(), "something was forgotten");
                }
                None => return self.check(),
            }
        }
        panic!("there is no end");
    }
}

pub fn any_sequence_of_verbs_keeps_to_the_state_machine(backend: &dyn Backend) {
    let config = Config {
        cases: backend.sequences(),
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..Config::default()
    };
    let ops = prop::collection::vec(op(), 40..160);
    let result = TestRunner::new(config).run(&ops, |ops| {
        let mut model = Model::new(backend);
        for op in &ops {
            model.apply(op);
            model.check();
        }
        model.finish();
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
}
