//! Makes a history that fails as short as it can: operations are left out, then made smaller, as long
//! as what remains fails in the same way. The seed stays, so that the conditions do.

use std::time::Duration;

use super::operations::{History, Operation};

/// As few and as small operations as still fail.
#[must_use]
pub fn shortest(history: &History, fails: impl Fn(&History) -> bool) -> History {
    let fails = |operations: &[Operation]| {
        fails(&History { seed: history.seed, operations: operations.to_vec() })
    };
    let mut left = history.operations.clone();
    loop {
        let before = left.clone();
        left = fewer(left, &fails);
        left = smaller(left, &fails);
        if left == before {
            return History { seed: history.seed, operations: left };
        }
    }
}

/// Leaves out halves, then quarters, then single ones.
fn fewer(mut left: Vec<Operation>, fails: &impl Fn(&[Operation]) -> bool) -> Vec<Operation> {
    let mut size = left.len().div_ceil(2);
    while size > 0 {
        let mut at = 0;
        let before = left.len();
        while at < left.len() {
            let mut without = left.clone();
            without.drain(at..(at + size).min(left.len()));
            if fails(&without) { left = without } else { at += size }
        }
        if left.len() == before || size > 1 {
            size /= 2;
        }
    }
    left
}

/// Shortens lengths of time, and counts of what comes before a kill.
fn smaller(mut left: Vec<Operation>, fails: &impl Fn(&[Operation]) -> bool) -> Vec<Operation> {
    for at in 0..left.len() {
        for simpler in simpler(&left[at]) {
            let mut with = left.clone();
            with[at] = simpler;
            if fails(&with) {
                left = with;
                break;
            }
        }
    }
    left
}

fn simpler(operation: &Operation) -> Vec<Operation> {
    let lengths = |length: Duration| {
        let round = |unit: u64| Duration::from_secs(length.as_secs() / unit * unit);
        let all = [
            Duration::from_secs(1),
            Duration::from_secs(60),
            Duration::from_secs(3_600),
            round(86_400),
            round(3_600),
            round(60),
            round(1),
        ];
        all.into_iter().filter(move |shorter| *shorter < length && !shorter.is_zero())
    };
    match operation {
        Operation::Pass(length) => lengths(*length).map(Operation::Pass).collect(),
        Operation::Suspend(length) => lengths(*length).map(Operation::Suspend).collect(),
        Operation::Wall(on, length) => {
            lengths(*length).map(|length| Operation::Wall(*on, length)).collect()
        }
        Operation::Crash(point) if point.nth > 1 => (1..point.nth)
            .map(|nth| {
                let mut point = point.clone();
                point.nth = nth;
                Operation::Crash(point)
            })
            .collect(),
        Operation::Send { key, room, insistent, later } => {
            let mut all = Vec::new();
            if !later.is_zero() {
                let (key, room, insistent) = (*key, *room, *insistent);
                all.push(Operation::Send { key, room, insistent, later: Duration::ZERO });
            }
            if *insistent {
                let (key, room, later) = (*key, *room, *later);
                all.push(Operation::Send { key, room, insistent: false, later });
            }
            all
        }
        Operation::Schedule(plan) => {
            let text = plan.to_string();
            let words: Vec<&str> = text.split(' ').collect();
            (2..words.len())
                .filter_map(|without| {
                    let mut words = words.clone();
                    words.remove(without);
                    words.join(" ").parse().ok()
                })
                .map(|plan| Operation::Schedule(Box::new(plan)))
                .collect()
        }
        _ => Vec::new(),
    }
}
