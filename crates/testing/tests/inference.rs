//! Random histories of rooms, seen through every kind of bad list, against what should be told of
//! them: no room is said to be gone that is there, nothing is told twice, everything that lasts is told
//! once, in order, with the right before and after, within a bounded number of good lists, and a
//! restart at any moment changes nothing of that.
//!
//! In most of them the product is the splitter, the decoders and the diff; truth, lists and oracle share no code with
//! it. In some it is the whole daemon, over the simulator. A history that fails prints its seed and as few steps as show it;
//! `IMBABOT_TEST_SEED=… cargo test -p imbabot-testing --test inference` runs it again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]
#![allow(clippy::print_stdout, reason = "a history that fails is printed")]

#[path = "inference/daemon.rs"]
mod daemon;
#[path = "inference/history.rs"]
mod history;
#[path = "inference/oracle.rs"]
mod oracle;
#[path = "../src/random.rs"]
mod random;
#[path = "inference/served.rs"]
mod served;
#[path = "inference/truth.rs"]
mod truth;
#[path = "inference/whole.rs"]
mod whole;

use history::{run, shortest, steps};

/// Histories of each of the four tests: together thousands, in seconds.
const HISTORIES: u64 = 700;
/// Steps of one.
const STEPS: usize = 40;

fn histories(first: u64, count: u64, length: usize) {
    let seed = std::env::var("IMBABOT_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = seed.map_or(first..first + count, |seed: u64| seed..seed + 1);
    for seed in seeds {
        let steps = steps(seed, length);
        if run(&steps).is_err() {
            let few = shortest(&steps);
            let problem = run(&few).unwrap_err();
            println!("IMBABOT_TEST_SEED={seed} shows it again; in few steps:");
            few.iter().for_each(|step| println!("  {step:?}"));
            panic!("{}", problem.chars().take(1_500).collect::<String>());
        }
    }
}

#[test]
fn what_is_told_of_rooms_is_true_whatever_lists_say_1() {
    histories(0, HISTORIES, STEPS);
}

#[test]
fn what_is_told_of_rooms_is_true_whatever_lists_say_2() {
    histories(100_000, HISTORIES, STEPS);
}

#[test]
fn what_is_told_of_rooms_is_true_whatever_lists_say_3() {
    histories(200_000, HISTORIES, STEPS);
}

#[test]
fn what_is_told_of_rooms_is_true_over_long_histories() {
    histories(300_000, HISTORIES / 10, STEPS * 10);
}

#[test]
fn what_the_whole_daemon_tells_of_rooms_is_true_as_well() {
    (400_000..400_030).for_each(whole::history);
}

#[test]
#[ignore = "minutes; run it after a change of what is believed"]
fn what_is_told_of_rooms_is_true_whatever_lists_say_a_hundred_times_over() {
    histories(1_000_000, HISTORIES * 200, STEPS);
    histories(2_000_000, HISTORIES * 10, STEPS * 10);
    (3_000_000..3_003_000).for_each(whole::history);
}
