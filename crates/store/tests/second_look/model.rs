//! Random sequences of verbs against a small oracle of the state machine.
use std::collections::BTreeMap;
use std::sync::Arc;

use futures_executor::block_on;
use proptest::prelude::*;

use super::bench::{Bench, delivered, id, insist, say, settle, t};
use crate::{
    Bodies, ClaimedDelivery, Class, DeadReason, DeliveryState as State, NewDelivery, Next,
    Resolution, RetryVerdict, SqliteStore,
};

#[derive(Debug, Clone)]
enum Verb {
    Enqueue { key: u8, room: u8, insist: bool, after: u8, keeps: u16 },
    Claim { slots: u8 },
    End { which: u8, how: u8 },
    Late { which: u8, how: u8 },
    Wait { seconds: u16 },
    Sweep,
    Crash,
    Cancel { key: u8 },
    Retry { key: u8, accept: bool },
    Resolve { key: u8, delivered: bool },
}

fn verbs() -> impl Strategy<Value = Vec<Verb>> {
    let verb = prop_oneof![
        4 => (0..24_u8, 0..3_u8, any::<bool>(), 0..40_u8, 1..2_000_u16).prop_map(
            |(key, room, insist, after, keeps)| Verb::Enqueue { key, room, insist, after, keeps }
        ),
        5 => (1..4_u8).prop_map(|slots| Verb::Claim { slots }),
        5 => (any::<u8>(), 0..5_u8).prop_map(|(which, how)| Verb::End { which, how }),
        1 => (any::<u8>(), 0..5_u8).prop_map(|(which, how)| Verb::Late { which, how }),
        3 => (0..300_u16).prop_map(|seconds| Verb::Wait { seconds }),
        3 => Just(Verb::Sweep),
        1 => Just(Verb::Crash),
        1 => (0..24_u8).prop_map(|key| Verb::Cancel { key }),
        1 => (0..24_u8, any::<bool>()).prop_map(|(key, accept)| Verb::Retry { key, accept }),
        1 => (0..24_u8, any::<bool>())
            .prop_map(|(key, delivered)| Verb::Resolve { key, delivered }),
    ];
    prop::collection::vec(verb, 1..60)
}

#[derive(Debug)]
struct Row {
    seq: usize,
    room: u8,
    insist: bool,
    not_before: i64,
    expires: i64,
    keeps: i64,
    state: State,
    reason: Option<DeadReason>,
    next: i64,
    attempts: BTreeMap<u32, Option<Class>>,
    resends: u32,
    since: i64,
    resend: Option<i64>,
    doubled: bool,
}

impl Row {
    fn ambiguous(&self) -> bool {
        self.attempts.values().any(|class| *class == Some(Class::Ambiguous))
    }
    fn last(&self) -> u32 {
        self.attempts.keys().last().copied().unwrap_or(0)
    }
    fn die(&mut self, reason: DeadReason) {
        self.state = State::Dead;
        self.resend = None;
        self.reason = Some(if self.ambiguous() { DeadReason::Unresolved } else { reason });
    }
    fn turn_unknown(&mut self, now: i64) {
        self.state = State::Unknown;
        self.since = now;
        self.resend = None;
        if self.insist {
            if self.resends < settle().max_resends {
                self.resend = Some(now + 60);
            } else {
                self.die(DeadReason::Unresolved);
            }
        }
    }
    fn queue(&mut self, now: i64, doubled: bool) {
        self.state = State::Queued;
        self.reason = None;
        self.resend = None;
        self.next = now;
        self.doubled |= doubled;
    }
    fn open(&self) -> bool {
        matches!(self.state, State::Queued | State::Sending) || self.resend.is_some()
    }
}

#[derive(Default, Debug)]
struct Oracle {
    rows: BTreeMap<u8, Row>,
    recorded: usize,
}

impl Oracle {
    /// The row that each lane waits for.
    fn head(&self, room: u8) -> Option<u8> {
        let open = || self.rows.iter().filter(|(_, row)| row.room == room && row.open());
        let sending = open().find(|(_, row)| row.state == State::Sending);
        let first = open().min_by_key(|(_, row)| (row.not_before, row.seq));
        sending.or(first).map(|(key, _)| *key)
    }

    fn settle(&mut self, key: u8, n: u32, class: Class, next: &Next, now: i64) {
        let row = self.rows.get_mut(&key).unwrap();
        let Some(known) = row.attempts.get_mut(&n) else { return };
        let news = known.is_none() || *known == Some(Class::Ambiguous) && class != Class::Ambiguous;
        if !news {
            return;
        }
        *known = Some(class);
        let own = row.last() == n;
        match (row.state, next) {
            (State::Sending, next) if own => match next {
                Next::Delivered { .. } => (row.state, row.reason) = (State::Delivered, None),
                Next::Retry { .. } => {
                    row.queue(now, false);
                    row.next = now + 30;
                }
                Next::Dead(reason) => row.die(*reason),
                Next::Unknown => row.turn_unknown(now),
            },
            (State::Unknown, Next::Delivered { .. }) => {
                (row.state, row.reason, row.resend) = (State::Delivered, None, None);
            }
            (State::Unknown, Next::Dead(reason)) if own => row.die(*reason),
            _ => {}
        }
    }
}

fn outcome(how: u8, now: i64) -> (Class, Next) {
    match how {
        0 => (Class::Delivered, delivered(1)),
        1 => (Class::Rejected, Next::Dead(DeadReason::Rejected)),
        2 => (Class::NotSent, Next::Retry { at: t(now + 30) }),
        3 => (Class::Rejected, Next::Retry { at: t(now + 30) }),
        _ => (Class::Ambiguous, Next::Unknown),
    }
}

fn play(verbs: Vec<Verb>) {
    let store = Arc::new(SqliteStore::in_memory(Bodies::Full).unwrap());
    let mut bench = block_on(Bench::new(store));
    let mut oracle = Oracle::default();
    let mut now = 0_i64;
    let mut flying: Vec<(u8, ClaimedDelivery)> = Vec::new();
    let mut landed: Vec<(u8, ClaimedDelivery)> = Vec::new();
    for verb in verbs {
        match verb {
            Verb::Enqueue { key, room, insist: at_least_once, after, keeps } => {
                let (after, keeps) = (i64::from(after), i64::from(keeps));
                let base = if at_least_once { insist } else { say };
                let new = NewDelivery {
                    not_before: Some(t(now + after)),
                    expires_at: t(now + after + keeps),
                    ..base(&key.to_string(), u64::from(room))
                };
                let found = block_on(bench.enqueue(t(now), new));
                assert_eq!(found.known, oracle.rows.contains_key(&key));
                oracle.recorded += 1;
                let seq = oracle.recorded;
                oracle.rows.entry(key).or_insert(Row {
                    seq,
                    room,
                    insist: at_least_once,
                    not_before: now + after,
                    expires: now + after + keeps,
                    keeps,
                    state: State::Queued,
                    reason: None,
                    next: 0,
                    attempts: BTreeMap::new(),
                    resends: 0,
                    since: 0,
                    resend: None,
                    doubled: false,
                });
            }
            Verb::Claim { slots } => {
                let rate = super::bench::Rate { slots: slots.into(), ..super::bench::FREELY };
                let claimed = block_on(bench.claim_as(t(now), rate, None)).deliveries;
                let mut may = 0;
                for room in 0..3 {
                    // Expired heads end on the way, if the claim gets that far.
                    while let Some(head) = oracle.head(room) {
                        let row = oracle.rows.get_mut(&head).unwrap();
                        let ready =
                            row.state == State::Queued && row.not_before.max(row.next) <= now;
                        if !ready {
                            break;
                        }
                        if row.expires > now {
                            may += 1;
                            break;
                        }
                        let stands = block_on(bench.record(&head.to_string())).state;
                        if stands == State::Queued {
                            assert_eq!(claimed.len(), usize::from(slots), "an expired head stays");
                            may += 1;
                            break;
                        }
                        row.die(DeadReason::Expired);
                    }
                }
                assert_eq!(claimed.len(), may.min(slots.into()), "claimed at {now}");
                for one in claimed {
                    let key: u8 = one.text.parse().unwrap();
                    let room = oracle.rows[&key].room;
                    assert_eq!(oracle.head(room), Some(key), "not the head of its lane");
                    let row = oracle.rows.get_mut(&key).unwrap();
                    assert!(row.state == State::Queued && row.expires > now);
                    row.state = State::Sending;
                    assert_eq!(one.attempt, row.last() + 1);
                    row.attempts.insert(one.attempt, None);
                    flying.push((key, one));
                }
            }
            Verb::End { which, how } if !flying.is_empty() => {
                let (key, one) = flying.swap_remove(usize::from(which) % flying.len());
                let (class, next) = outcome(how, now);
                block_on(bench.end(t(now), &one, class, next.clone()));
                oracle.settle(key, one.attempt, class, &next, now);
                landed.push((key, one));
            }
            Verb::Late { which, how } if !landed.is_empty() => {
                let (key, one) = landed[usize::from(which) % landed.len()].clone();
                let (class, next) = outcome(how, now);
                block_on(bench.end(t(now), &one, class, next.clone()));
                oracle.settle(key, one.attempt, class, &next, now);
            }
            Verb::Wait { seconds } => now += i64::from(seconds),
            Verb::Sweep => {
                block_on(bench.sweep(t(now)));
                for row in oracle.rows.values_mut() {
                    if row.state == State::Queued && row.expires <= now {
                        row.die(DeadReason::Expired);
                    } else if row.resend.is_some_and(|at| at <= now) {
                        if row.expires <= now {
                            row.die(DeadReason::Expired);
                        } else {
                            row.resends += 1;
                            row.queue(now, true);
                        }
                    } else if row.state == State::Unknown && row.since + 3_600 <= now {
                        row.die(DeadReason::Unresolved);
                        row.reason = Some(DeadReason::Unresolved);
                    }
                }
            }
            Verb::Crash => {
                let begun = block_on(bench.crash(t(now)));
                assert_eq!(begun.turned_unknown, flying.len() as u64);
                for (key, one) in flying.drain(..) {
                    oracle.settle(key, one.attempt, Class::Ambiguous, &Next::Unknown, now);
                    landed.push((key, one));
                }
            }
            Verb::Cancel { key } => {
                let ids = crate::CancelFilter::Ids(vec![id(&key.to_string())]);
                let gone = block_on(bench.store.cancel(t(now), &ids)).unwrap();
                if let Some(row) = oracle.rows.get_mut(&key) {
                    assert_eq!(gone.len(), usize::from(row.state == State::Queued));
                    if row.state == State::Queued {
                        row.die(DeadReason::Cancelled);
                    }
                }
            }
            Verb::Retry { key, accept } => {
                let verdict = block_on(bench.store.retry(t(now), id(&key.to_string()), accept));
                let expected = match oracle.rows.get_mut(&key) {
                    None => RetryVerdict::Missing,
                    Some(row) if !matches!(row.state, State::Dead | State::Unknown) => {
                        RetryVerdict::NotNow(row.state)
                    }
                    Some(row) => {
                        let unsure = row.ambiguous() || row.state == State::Unknown;
                        if unsure && !accept {
                            RetryVerdict::NeedsAcceptance
                        } else {
                            row.expires = row.expires.max(now + row.keeps.max(60));
                            row.queue(now, unsure);
                            RetryVerdict::Queued
                        }
                    }
                };
                assert_eq!(verdict.unwrap(), expected);
            }
            Verb::Resolve { key, delivered } => {
                let as_ = if delivered { Resolution::Delivered } else { Resolution::Dead };
                let found = block_on(bench.store.resolve(t(now), id(&key.to_string()), as_));
                assert_eq!(found.unwrap(), oracle.rows.get(&key).map(|row| row.state));
                if let Some(row) = oracle.rows.get_mut(&key)
                    && row.state == State::Unknown
                {
                    if delivered {
                        (row.state, row.reason, row.resend) = (State::Delivered, None, None);
                    } else {
                        row.die(DeadReason::Unresolved);
                    }
                }
            }
            Verb::End { .. } | Verb::Late { .. } => {}
        }
        for (key, row) in &oracle.rows {
            let record = block_on(bench.record(&key.to_string()));
            assert_eq!(record.state, row.state, "{key}: {row:?}");
            if row.state == State::Dead {
                assert_eq!(record.reason.as_deref(), row.reason.map(DeadReason::as_str), "{row:?}");
            }
            assert_eq!(record.possible_duplicate, row.doubled, "{key}: {row:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_sequence_of_verbs_does_what_the_state_machine_says(verbs in verbs()) {
        play(verbs);
    }
}
