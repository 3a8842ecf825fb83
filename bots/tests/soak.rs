//! A day of the daemon's life, a hundred times as fast: lists ten times a second, an announcement each second,
//! rooms that open and close, reloads, outages and kills. What the process holds (descriptors, threads,
//! memory) does not grow while it lives, and at the end everything that was promised is kept.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]
#![allow(clippy::disallowed_methods, reason = "another process takes real time")]
#![allow(clippy::print_stdout, reason = "what was measured is told")]

mod support;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::{Chat, Daemon, Home, assert_holds, wait_until};

const CONFIGURATION: &str = r#"
[poll]
rooms = "100ms"

[delivery]
rate = "1000/s"
rate_per_room = "1000/s"
settle = "300ms"
timeout = "2s"
backoff = { min = "10ms", max = "100ms" }

[limits]
per_bot = "1000000/h"

[[bot]]
name = "greeter"
kind = "greeter"
settings = { greeting = "Welcome to {{ room.name }}!" }

[[schedule]]
id = "beat"
every = "1s"
rooms = { name = "^Team" }
text = "{{ occurrence.id }}"
"#;

/// What a process holds.
#[derive(Debug, Clone, Copy)]
struct Held {
    descriptors: usize,
    threads: usize,
    kib: u64,
}

impl Held {
    fn of(daemon: &Daemon) -> Self {
        let process = format!("/proc/{}", daemon.pid());
        let count = |what: &str| std::fs::read_dir(format!("{process}/{what}")).unwrap().count();
        let status = std::fs::read_to_string(format!("{process}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let kib = line.trim().trim_end_matches(" kB").parse().unwrap();
        Self { descriptors: count("fd"), threads: count("task"), kib }
    }

    /// The most of each.
    fn most(held: &[Self]) -> Self {
        let most = |of: fn(&Self) -> usize| held.iter().map(of).max().unwrap();
        let kib = held.iter().map(|held| held.kib).max().unwrap();
        Self { descriptors: most(|held| held.descriptors), threads: most(|held| held.threads), kib }
    }
}

/// Lives through so much, with so many kills in between; what was held early and late in each life.
fn live(length: Duration, lives: u32) -> Vec<(Held, Held)> {
    let chat = Chat::open();
    for n in 0..30 {
        chat.open_room(&if n < 5 { format!("Team {n}") } else { format!("Room {n}") });
    }
    let home = Home::at(&chat, CONFIGURATION);
    let mut fleeting: VecDeque<i64> = VecDeque::new();
    let mut opened = 0;
    let mut told = Vec::new();
    for _ in 0..lives {
        let daemon = home.ready();
        let begun = Instant::now();
        let (mut reloaded, mut out) = (begun, begun);
        let mut held = Vec::new();
        while begun.elapsed() < length / lives {
            opened += 1;
            fleeting.push_back(chat.open_room(&format!("Guest {opened}")));
            if fleeting.len() > 8 {
                chat.close_room(fleeting.pop_front().unwrap(), opened % 2 == 0).unwrap();
            }
            if reloaded.elapsed() > Duration::from_secs(3) {
                daemon.signal(Signal::HUP);
                reloaded = Instant::now();
            }
            if out.elapsed() > Duration::from_secs(10) {
                chat.down(true);
                std::thread::sleep(Duration::from_millis(700));
                chat.down(false);
                out = Instant::now();
            }
            let _ = daemon.http().get("/metrics").map(|page| page.body.len());
            std::thread::sleep(Duration::from_millis(250));
            held.push(Held::of(&daemon));
        }
        let third = held.len() / 3;
        told.push((Held::most(&held[third..2 * third]), Held::most(&held[2 * third..])));
        daemon.kill();
    }
    let daemon = home.ready();
    wait_until("nothing is under way", || {
        daemon.http().metric(r#"imbabot_deliveries{state="queued"}"#) == Some(0.0)
    });
    daemon.stop();
    assert_holds(&home.check(&chat));
    told
}

fn assert_flat(told: &[(Held, Held)]) {
    for (early, late) in told {
        println!("held early {early:?}, late {late:?}");
        assert!(late.descriptors <= early.descriptors + 8, "descriptors: {early:?}, then {late:?}");
        assert!(late.threads <= early.threads + 4, "threads: {early:?}, then {late:?}");
        assert!(late.kib <= early.kib + 4 * 1024, "memory: {early:?}, then {late:?}");
    }
}

#[test]
fn half_an_hour_at_a_hundred_times_leaves_nothing_behind() {
    assert_flat(&live(Duration::from_secs(18), 2));
}

#[test]
#[ignore = "a quarter of an hour: `just soak`"]
fn a_day_at_a_hundred_times_leaves_nothing_behind() {
    assert_flat(&live(Duration::from_secs(864), 4));
}
