//! Runs simulations. `sim SEED` runs one seed and prints what happens; `sim FROM..TO` runs many;
//! `sim FROM..` runs until it is told to stop. `sim 'seed 17: open team; poll'` runs a history that is
//! written down. A failure is made short and printed as the line that reproduces it.

#![allow(clippy::print_stdout, reason = "a program for a terminal")]

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use imbabot_scheduler::{Clock, SystemClock};
use imbabot_testing::simulation::{History, generate, run, run_traced, shortest};

/// How many shorter histories are tried of one that fails.
const TRIES: u64 = 1_500;
/// After so many failures there is enough to do.
const ENOUGH: u64 = 10;

fn main() -> ExitCode {
    let Some(what) = std::env::args().nth(1) else {
        println!("sim SEED | sim FROM..[TO] | sim 'seed N: operation; operation'");
        return ExitCode::from(2);
    };
    // What panics is told with its history.
    std::panic::set_hook(Box::new(|_| {}));
    match what.split_once("..") {
        Some((from, to)) => {
            let from = from.parse().unwrap_or(0);
            many(from, to.parse().unwrap_or(u64::MAX))
        }
        None => one(&what),
    }
}

fn one(what: &str) -> ExitCode {
    let history = match what.parse() {
        Ok(seed) => generate(seed),
        Err(_) => match what.parse::<History>() {
            Ok(history) => history,
            Err(wrong) => {
                println!("{wrong}");
                return ExitCode::from(2);
            }
        },
    };
    let outcome = run_traced(&history);
    outcome.trace.iter().for_each(|line| println!("{line}"));
    match outcome.problem {
        None => {
            println!("{} lines in the ledger, killed at {:?}", outcome.lines, outcome.killed);
            ExitCode::SUCCESS
        }
        Some(_) => {
            tell(&history);
            ExitCode::FAILURE
        }
    }
}

/// Prints the shortest history that fails in the same way.
fn tell(history: &History) {
    let Some(problem) = run(history).problem else { return };
    println!("seed {}, operation {}: {}", history.seed, problem.at, problem.found);
    let tries = AtomicU64::new(0);
    let same = |shorter: &History| {
        // Each is a whole run: what is not short by then is shown as it is.
        tries.fetch_add(1, Ordering::Relaxed) < TRIES
            && run(shorter).problem.is_some_and(|found| found.kind() == problem.kind())
    };
    let short = shortest(history, same);
    println!("{short}");
    if let Some(problem) = run(&short).problem {
        println!("    {}", problem.found);
    }
}

fn many(from: u64, to: u64) -> ExitCode {
    let (next, done, failed) = (AtomicU64::new(from), AtomicU64::new(0), AtomicU64::new(0));
    let told = Mutex::new(());
    let clock = SystemClock::new();
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while failed.load(Ordering::Relaxed) < ENOUGH {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= to {
                        break;
                    }
                    let history = generate(seed);
                    if run(&history).problem.is_some() {
                        failed.fetch_add(1, Ordering::Relaxed);
                        let _one_at_a_time = told.lock().unwrap_or_else(PoisonError::into_inner);
                        tell(&history);
                    }
                    let count = done.fetch_add(1, Ordering::Relaxed) + 1;
                    if to == u64::MAX && count.is_multiple_of(1_000) {
                        println!("{count} seeds in {} s", clock.elapsed().as_secs());
                    }
                }
            });
        }
    });
    let (done, failed) = (done.load(Ordering::Relaxed), failed.load(Ordering::Relaxed));
    let took = clock.elapsed().as_secs_f64();
    println!("{done} seeds from {from} on in {took:.1} s, {failed} of them failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
