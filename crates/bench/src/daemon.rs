//! P6: the whole daemon, a process of its own that is looked at from outside, against a server that
//! answers with 100,000 rooms and with a million. Beside it the loop that one writes first, in Rust and
//! in Python. All are there at once; each has its turn while the others are stopped.

mod claims;
mod contender;
mod naive;
mod start;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::server::Server;
use crate::table::{self, Line, Mark, median, say};
use contender::Contender;

pub(crate) use naive::{NAIVE, run as naive};
pub(crate) use start::run as start;

const ROUNDS: usize = 5;
/// Between two polls of the daemon.
const PAUSE: &str = "300ms";
/// A first list of a million rooms takes its time.
const PATIENCE: Duration = Duration::from_secs(300);

/// Measures and prints.
pub(crate) fn run() -> anyhow::Result<()> {
    let mut lines = Vec::new();
    small(&mut lines)?;
    large(&mut lines)?;
    table::print("The daemon over HTTP (265 B a room)", &lines);
    Ok(())
}

/// The binary that `cargo build --release` made beside this one.
pub(crate) fn binary() -> anyhow::Result<PathBuf> {
    let beside = std::env::current_exe()?.with_file_name("imbabot");
    let path = std::env::var_os("IMBABOT").map_or(beside, Into::into);
    anyhow::ensure!(
        path.exists(),
        "there is no {}: cargo build --release -p imbabot-bots",
        path.display()
    );
    Ok(path)
}

/// 100,000 rooms, three ways.
fn small(lines: &mut Vec<Line>) -> anyhow::Result<()> {
    let server = Server::start(100_000)?;
    let mut all = vec![Contender::imbabot(&binary()?, &server, PAUSE)?, Contender::naive(&server)?];
    match Contender::aiohttp(&server)? {
        Some(python) => all.push(python),
        None => say("aiohttp is left out: no Python with it (PYTHON=… names one)"),
    }
    for contender in &mut all {
        contender.first(&server, PATIENCE)?;
        contender.stop()?;
    }
    let mut quiet = vec![Vec::new(); all.len()];
    let mut busy = vec![Vec::new(); all.len()];
    for _ in 0..ROUNDS {
        for (changes, figures) in [(0, &mut quiet), (100, &mut busy)] {
            server.change_one_in(changes);
            for (contender, figures) in all.iter().zip(figures) {
                contender.resume()?;
                figures.push(contender.cpu_of_polls(&server, 3)?);
                contender.stop()?;
            }
        }
    }
    let quiet: Vec<f64> = quiet.into_iter().map(median).collect();
    let busy: Vec<f64> = busy.into_iter().map(median).collect();
    let peaks: Vec<f64> = all.iter().map(Contender::peak).collect::<anyhow::Result<_>>()?;
    let now: Vec<f64> = all.iter().map(Contender::resident).collect::<anyhow::Result<_>>()?;
    for (n, contender) in all.iter().enumerate() {
        say(&format!(
            "{}, 100000 rooms: {} of CPU a poll unchanged, {} with 1 % changed; {:.1} MiB at most, {:.1} MiB now",
            contender.name(),
            table::time(quiet[n]),
            table::time(busy[n]),
            peaks[n],
            now[n]
        ));
    }
    let names = ["", "naive Rust", "aiohttp"];
    let marks = [(0.0, 0.0), (8.0, 14.0), (15.0, 25.0)];
    for n in 1..all.len() {
        lines.push(Line {
            goal: format!("P6 CPU per poll, vs {}", names[n]),
            ours: table::time(quiet[0]),
            yardstick: table::time(quiet[n]),
            ratio: quiet[n] / quiet[0],
            hold: Mark::AtLeast(marks[n].0),
            reach: Mark::AtLeast(marks[n].1),
        });
    }
    if all.len() > 2 {
        lines.push(Line {
            goal: "P6 peak memory, vs aiohttp".into(),
            ours: format!("{:.1} MiB", peaks[0]),
            yardstick: format!("{:.1} MiB", peaks[2]),
            ratio: peaks[2] / peaks[0],
            hold: Mark::AtLeast(15.0),
            reach: Mark::AtLeast(25.0),
        });
    }
    lines.push(memory("P6 memory, 100000 rooms", now[0], 40.0));
    Ok(())
}

/// A million rooms: the first list, then nothing new, then one in a hundred.
fn large(lines: &mut Vec<Line>) -> anyhow::Result<()> {
    let server = Server::start(1_000_000)?;
    let mut daemon = Contender::imbabot(&binary()?, &server, PAUSE)?;
    let (seconds, cpu) = daemon.first(&server, PATIENCE).context("the first list")?;
    let (peak, after) = (daemon.peak()?, daemon.resident()?);
    say(&format!(
        "imbabot, 1000000 rooms: the first list took {} ({} of CPU), {peak:.1} MiB at most, {after:.1} MiB after it",
        table::time(seconds),
        table::time(cpu),
    ));
    let mut steady: f64 = after;
    for (what, changes) in [("unchanged", 0), ("1 % changed", 100)] {
        server.change_one_in(changes);
        daemon.forget_peak()?;
        let figures = (0..3).map(|_| daemon.cpu_of_polls(&server, 1));
        let cpu = median(figures.collect::<anyhow::Result<_>>()?);
        let (peak, now) = (daemon.peak()?, daemon.resident()?);
        steady = steady.max(now);
        say(&format!(
            "imbabot, 1000000 rooms, {what}: {} of CPU a poll, {peak:.1} MiB at most, {now:.1} MiB now",
            table::time(cpu),
        ));
    }
    lines.push(memory("P6 memory, 1000000 rooms", steady, 128.0));
    everything_changes(&daemon, &server, lines)
}

/// Every one of a million rooms changes, and meanwhile somebody sends.
fn everything_changes(
    daemon: &Contender,
    server: &Server,
    lines: &mut Vec<Line>,
) -> anyhow::Result<()> {
    server.change_one_in(1);
    daemon.forget_peak()?;
    let (polls, begun) = (server.requests("imbabot"), Instant::now());
    while server.requests("imbabot") == polls {
        daemon.hurry()?;
        std::thread::sleep(Duration::from_millis(100));
    }
    server.change_one_in(0);
    // The next request comes when all of that is committed.
    let over = || server.requests("imbabot") > polls + 1 || begun.elapsed() > PATIENCE;
    let (binary, config) = (binary()?, daemon.config().context("a daemon has a configuration")?);
    claims::send_until(&binary, config, || {
        let _ = daemon.hurry();
        over()
    })?;
    let waits = claims::waits(&binary, config)?;
    let at = |part: f64| waits[((waits.len() - 1) as f64 * part) as usize];
    let (peak, now) = (daemon.peak()?, daemon.resident()?);
    say(&format!(
        "imbabot, 1000000 rooms, all changed: {:.1} s, {peak:.1} MiB at most, {now:.1} MiB now; {} messages waited \
         for their claim {:.0} ms (median), {:.0} ms (p95), {:.0} ms (at most)",
        begun.elapsed().as_secs_f64(),
        waits.len(),
        at(0.5),
        at(0.95),
        at(1.0),
    ));
    lines.push(Line {
        goal: "a claim while 1000000 rooms change, p95".into(),
        ours: format!("{:.0} ms", at(0.95)),
        yardstick: "100 ms".into(),
        ratio: at(0.95) / 100.0,
        hold: Mark::AtMost(1.0),
        reach: Mark::AtMost(1.0),
    });
    lines.push(memory("memory at most, 1000000 rooms change", peak, 128.0));
    Ok(())
}

fn memory(goal: &str, mib: f64, limit: f64) -> Line {
    Line {
        goal: goal.into(),
        ours: format!("{mib:.1} MiB"),
        yardstick: format!("{limit} MiB"),
        ratio: mib / limit,
        hold: Mark::AtMost(1.0),
        reach: Mark::AtMost(1.0),
    }
}
