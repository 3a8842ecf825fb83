//! What happened, in order.

#![allow(missing_docs, reason = "the name of a case is its sentence")]

use super::Backend;
use super::support::*;
use crate::{AttemptRecord, Class, LedgerLine, Line};

fn busy(backend: &dyn Backend) -> Bench {
    let mut bench = Bench::new(backend);
    bench.adopt(at(0), &["b"]);
    bench.tell(at(0), vec![opened(1, &["b"])]);
    bench.handle(&bench.entry(at(1)), at(1));
    bench.enqueue(at(2), (1..=5).map(|n| to_room(&format!("k{n}"), n)).collect());
    for claimed in bench.claim(at(3)) {
        let outcome = match claimed.room.0 {
            1 => delivered(1),
            2 => unknown(),
            3 => again(at(9)),
            4 => refused(),
            _ => continue,
        };
        bench.settle(at(4), &claimed, outcome);
    }
    bench.kill(at(5));
    run(bench.store.pause(at(6), &crate::PauseScope::All, true));
    bench
}

pub fn lines_ascend_and_are_never_rewritten(backend: &dyn Backend) {
    let bench = busy(backend);
    let before = bench.lines();
    assert!(before.windows(2).all(|pair| pair[0].seq < pair[1].seq));
    assert!(before.iter().all(|line| line.schema == 1));
    run(bench.store.pause(at(7), &crate::PauseScope::All, false));
    for claimed in bench.claim(at(9)) {
        bench.settle(at(10), &claimed, delivered(2));
    }
    let after = bench.lines();
    assert_eq!(after[..before.len()], before);
    assert!(after.len() > before.len());
}

pub fn it_is_read_in_pages_from_anywhere(backend: &dyn Backend) {
    let bench = busy(backend);
    let all = bench.lines();
    for limit in [1, 2, 7, 1_000] {
        let mut paged: Vec<LedgerLine> = Vec::new();
        loop {
            let page = run(bench.store.ledger(paged.last().map_or(0, |line| line.seq), limit));
            assert!(page.len() <= limit);
            if page.is_empty() {
                break;
            }
            paged.extend(page);
        }
        assert_eq!(paged, all);
    }
    assert!(run(bench.store.ledger(all.last().unwrap().seq, 9)).is_empty());
}

pub fn the_last_line_of_a_delivery_is_the_delivery(backend: &dyn Backend) {
    let bench = busy(backend);
    for n in 1..=5 {
        let key = format!("k{n}");
        let last = bench.lines().into_iter().rev().find_map(|line| match line.line {
            Line::Delivery(record) if record.key == key => Some(*record),
            _ => None,
        });
        assert_eq!(last, Some(bench.record(&key)));
    }
}

pub fn every_attempt_has_a_line_when_it_starts_and_when_it_ends(backend: &dyn Backend) {
    let bench = busy(backend);
    let attempts: Vec<AttemptRecord> = bench
        .lines()
        .into_iter()
        .filter_map(|line| match line.line {
            Line::Attempt(record) => Some(record),
            _ => None,
        })
        .collect();
    assert_eq!(attempts.len(), 10);
    for n in 1..=5 {
        let of: Vec<_> = attempts.iter().filter(|a| a.delivery == id(&format!("k{n}"))).collect();
        assert_eq!((of[0].class, of[0].started_at, of[0].ended_at), (None, at(3), None));
        assert_eq!((of[0].n, of[1].n, of[1].started_at), (1, 1, at(3)));
        assert!(of[1].class.is_some() && of[1].ended_at.is_some());
        assert_eq!(of[0].incarnation, of[1].incarnation);
    }
    assert_eq!(attempts.last().unwrap().class, Some(Class::Ambiguous), "the kill");
}

pub fn a_line_reads_what_it_writes(backend: &dyn Backend) {
    for line in busy(backend).lines() {
        let json = serde_json::to_string(&line).unwrap();
        assert_eq!(serde_json::from_str::<LedgerLine>(&json).unwrap(), line, "{json}");
    }
}

pub fn no_record_stands_otherwise_than_its_last_line(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    assert!(run(bench.store.strays(9)).is_empty());
    bench.enqueue(at(0), vec![message("k"), to_room("l", 2), to_room("m", 3)]);
    for claimed in bench.claim(at(1)) {
        let outcome = match claimed.room.0 {
            1 => delivered(1),
            2 => unknown(),
            _ => continue,
        };
        bench.settle(at(2), &claimed, outcome);
    }
    assert!(run(bench.store.strays(9)).is_empty());
}
