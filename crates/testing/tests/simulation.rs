//! Simulated histories: hundreds of seeds, those that once showed something wrong, the defects that
//! have to be found, and that the same seed is the same history to the last byte.
//!
//! A failure prints the line that reproduces it, made as short as it can be. `just sim SEED` shows the
//! history of a seed; the line goes into `crates/testing/reproductions`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "these are tests")]

use std::collections::BTreeSet;

use imbabot_testing::simulation::{
    Defect, History, Operation, generate, run, run_over, run_traced, shortest,
};

/// Seeds of each of the four tests.
const SEEDS: u64 = 130;
/// Of each history so many operations: they are run whole in release (`just sim-night`).
const LENGTH: usize = 32;

/// Seeds from this one on; the first that fails is made short and told.
fn seeds(from: u64, count: u64) {
    for seed in from..from + count {
        let mut history = generate(seed);
        history.operations.truncate(LENGTH);
        holds(&history);
    }
}

fn holds(history: &History) {
    let Some(problem) = run(history).problem else { return };
    let same = |shorter: &History| {
        run(shorter).problem.is_some_and(|found| found.kind() == problem.kind())
    };
    let short = shortest(history, same);
    panic!("{}\nreproduced by\n{short}", problem.found);
}

#[test]
fn the_invariants_hold_in_every_history_1() {
    seeds(0, SEEDS);
}

#[test]
fn the_invariants_hold_in_every_history_2() {
    seeds(1_000, SEEDS);
}

#[test]
fn the_invariants_hold_in_every_history_3() {
    seeds(2_000, SEEDS);
}

#[test]
fn the_invariants_hold_in_every_history_4() {
    seeds(3_000, SEEDS);
}

#[test]
fn what_was_found_once_stays_mended() {
    let text = include_str!("../reproductions");
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        let history: History = line.parse().unwrap();
        assert_eq!(history.to_string(), line, "a line is written as it would be printed");
        if let Some(problem) = run(&history).problem {
            panic!("{line}\n{}", problem.found);
        }
    }
}

#[test]
fn the_same_seed_is_the_same_history_to_the_last_byte() {
    for seed in 0..12 {
        let (one, two) = (run_traced(&generate(seed)), run_traced(&generate(seed)));
        assert!(one.trace.len() > 20, "{:?}", one.trace);
        assert_eq!(one.trace, two.trace, "seed {seed}");
    }
    assert_ne!(run_traced(&generate(1)).trace, run_traced(&generate(2)).trace);
}

#[test]
fn what_is_written_of_a_history_reads_back() {
    let mut words = BTreeSet::new();
    for seed in 0..400 {
        let history = generate(seed);
        let text = history.to_string();
        assert_eq!(text.parse::<History>(), Ok(history.clone()), "{text}");
        for operation in &history.operations {
            let text = operation.to_string();
            words.insert(text.split(' ').next().unwrap().to_owned());
        }
    }
    let all = [
        "ban",
        "bot",
        "cancel",
        "crash",
        "delete",
        "down",
        "fault",
        "join",
        "kill",
        "kind",
        "open",
        "pass",
        "pause",
        "poll",
        "post",
        "publish",
        "reload",
        "rename",
        "resolve",
        "restart",
        "restore",
        "resume",
        "retry",
        "retry-event",
        "schedule",
        "secret",
        "send",
        "start",
        "suspend",
        "touch",
        "trigger",
        "unban",
        "unschedule",
        "up",
        "vanish",
        "wall",
    ];
    assert_eq!(words.iter().map(String::as_str).collect::<Vec<_>>(), all);
    for wrong in ["", "seed x: poll", "seed 1: dance", "seed 1: crash before lunch 1", "poll"] {
        assert!(wrong.parse::<History>().is_err(), "{wrong:?}");
    }
}

#[test]
fn the_daemon_is_killed_at_every_kind_of_point() {
    let verbs = ["begin", "claim", "settle", "commit_poll", "commit_handled", "commit_occurrences"];
    let places = ["unsent", "half", "unanswered", "unrecorded", "byte="];
    let sides = verbs.map(|verb| [format!("before {verb}"), format!("after {verb}")]);
    let mut wanted: Vec<String> = sides.into_iter().flatten().collect();
    wanted.extend(places.map(|place| format!("send_msg {place}")));
    for seed in 0..60 {
        let killed = run(&generate(seed)).killed;
        wanted.retain(|point| !killed.iter().any(|at| at.starts_with(point)));
        if wanted.is_empty() {
            return;
        }
    }
    panic!("never killed at {wanted:?}");
}

/// The defect shows within so many seeds.
fn is_found(defect: Defect, within: u64) {
    let found = (0..within).find_map(|seed| {
        let problem = run_over(&generate(seed), Some(defect), false).problem?;
        Some((seed, problem))
    });
    let Some((seed, problem)) = found else { panic!("{defect:?} is not found") };
    println!("{defect:?}: seed {seed}, operation {}: {}", problem.at, problem.found);
}

#[test]
fn a_daemon_that_queues_again_what_was_being_sent_is_found_out() {
    is_found(Defect::RequeueSending, 10);
}

#[test]
fn a_daemon_that_moves_the_cursor_in_a_second_transaction_is_found_out() {
    is_found(Defect::CursorApart, 60);
    is_found(Defect::CursorFirst, 20);
}

#[test]
fn a_daemon_that_repeats_what_was_not_answered_in_time_is_found_out() {
    is_found(Defect::RetryOnTimeout, 20);
}

#[test]
fn a_daemon_that_forgets_which_changes_are_its_own_is_found_out() {
    is_found(Defect::ForgetOwnChanges, 20);
}

#[test]
fn a_daemon_for_which_a_key_given_twice_is_two_messages_is_found_out() {
    is_found(Defect::NonUniqueKey, 20);
}

#[test]
fn a_daemon_that_commits_a_claim_after_it_was_sent_is_found_out() {
    is_found(Defect::CommitAfterSend, 20);
}

#[test]
fn a_daemon_that_commits_rooms_and_events_apart_is_found_out() {
    is_found(Defect::EventsApart, 100);
}

#[test]
fn a_history_that_fails_becomes_short_and_fails_in_the_same_way() {
    let fails = |history: &History| {
        run_over(history, Some(Defect::RequeueSending), false).problem.map(|found| found.kind())
    };
    let history = (0..40).map(generate).find(|history| fails(history).is_some()).unwrap();
    let kind = fails(&history);
    let short = shortest(&history, |shorter| fails(shorter) == kind);
    assert!(short.operations.len() <= 8, "{short}");
    assert!(short.operations.iter().any(|o| matches!(o, Operation::Crash(_) | Operation::Kill)));
    assert_eq!(fails(&short.to_string().parse().unwrap()), kind);
}
