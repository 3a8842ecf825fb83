//! A daemon that has polled a million times holds no more memory than one that has polled a few
//! thousand times. In virtual time; the memory is the process's own, as Linux tells it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "these are tests")]

use std::time::Duration;

use imbabot_core::Timestamp;
use imbabot_testing::World;

/// Megabytes would be a leak of a byte per poll; a mebibyte is what an allocator comes and goes by.
const SLACK_KIB: u64 = 1024;

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
}

/// What the process holds after so many polls, at two moments.
fn held(first: u32, second: u32) -> [u64; 2] {
    let mut world = World::new(Timestamp::from_micros(1_800_000_000_000_000));
    world.simulator.populate(20);
    let every = Duration::from_secs(5);
    world.settings().poll.rooms = every;
    world.start();
    let mut polled = 0;
    [first, second].map(|until| {
        while polled < until {
            world.advance(every);
            polled += 1;
            if polled % 100 == 0 {
                // The server's own log is the test's, not the daemon's.
                world.simulator.clear_log();
            }
        }
        resident_kib()
    })
}

#[test]
fn thousands_of_polls_leave_nothing_behind() {
    let [before, after] = held(500, 3_000);
    println!("{before} KiB after 500 polls, {after} KiB after 3,000");
    assert!(after <= before + SLACK_KIB, "{before} KiB, then {after} KiB");
}

#[test]
#[ignore = "minutes: cargo test --release -p imbabot-testing --test steady_memory -- --ignored --nocapture"]
fn a_million_polls_leave_nothing_behind() {
    let [before, after] = held(50_000, 1_000_000);
    println!("{before} KiB after 50,000 polls, {after} KiB after 1,000,000");
    assert!(after <= before + SLACK_KIB, "{before} KiB, then {after} KiB");
}
