//! P14 to P16: how soon a daemon asks for its first list, what memory it takes with a thousand rooms, and how
//! large its program is. Beside it a process in Python with aiohttp, one for Node.js, and one with
//! python-telegram-bot loaded, each where it is there.

use std::fs;
use std::time::{Duration, Instant};

use super::contender::Contender;
use super::{PATIENCE, ROUNDS, binary};
use crate::server::Server;
use crate::table::{self, Line, Mark, median, say};

const ROOMS: u64 = 1_000;
/// So long a process polls before its memory is looked at.
const SETTLED: u64 = 20;

/// Starts a process, if what it needs is there.
type Begin<'a> = &'a dyn Fn() -> anyhow::Result<Option<Contender>>;

/// Measures and prints.
pub(crate) fn run() -> anyhow::Result<()> {
    let server = Server::start(ROOMS)?;
    let binary = binary()?;
    let mut lines = Vec::new();
    let begin: [(&str, Begin<'_>); 3] = [
        ("imbabot", &|| Contender::imbabot(&binary, &server, "100ms").map(Some)),
        ("aiohttp", &|| Contender::aiohttp(&server)),
        ("node", &|| Contender::node(&server)),
    ];
    let (mut starts, mut again) = (vec![Vec::new(); begin.len()], Vec::new());
    for _ in 0..ROUNDS * 2 {
        for ((name, begin), starts) in begin.iter().zip(&mut starts) {
            let before = server.requests(name);
            let begun = Instant::now();
            let Some(contender) = begin()? else { continue };
            server.wait_for(name, before + 1, PATIENCE)?;
            starts.push(begun.elapsed().as_secs_f64());
            if *name == "imbabot" {
                let before = server.requests(name);
                let begun = Instant::now();
                let _contender = contender.again(&binary)?;
                server.wait_for(name, before + 1, PATIENCE)?;
                again.push(begun.elapsed().as_secs_f64());
            }
        }
    }
    let ours = median(again);
    say(&format!(
        "imbabot, 1000 rooms: {} to its first list where it has to make its store, {} where it has one",
        table::time(median(starts[0].clone())),
        table::time(ours)
    ));
    for (n, marks) in [(1, (8.0, 18.0)), (2, (8.0, 18.0))] {
        if starts[n].is_empty() {
            say(&format!("{} is left out: it is not there", begin[n].0));
            continue;
        }
        let theirs = median(starts[n].clone());
        lines.push(Line {
            goal: format!("P14 spawn to first list asked, vs {}", begin[n].0),
            ours: table::time(ours),
            yardstick: table::time(theirs),
            ratio: theirs / ours,
            hold: Mark::AtLeast(marks.0),
            reach: Mark::AtLeast(marks.1),
        });
    }
    memory(&server, &mut lines)?;
    let size = f64::from(u32::try_from(fs::metadata(&binary)?.len())?) / 1e6;
    lines.push(Line {
        goal: "P16 stripped binary".into(),
        ours: format!("{size:.1} MB"),
        yardstick: "20 MB".into(),
        ratio: size,
        hold: Mark::AtMost(20.0),
        reach: Mark::AtMost(10.0),
    });
    table::print("A daemon starts, and stays (1,000 rooms)", &lines);
    Ok(())
}

/// P15, and the CPU that it takes meanwhile.
fn memory(server: &Server, lines: &mut Vec<Line>) -> anyhow::Result<()> {
    let ours = Contender::imbabot(&binary()?, server, "1s")?;
    let theirs = Contender::telegram(server)?;
    let before = server.requests(ours.name());
    server.wait_for(ours.name(), before + 2, PATIENCE)?;
    let (begun, cpu) = (Instant::now(), ours.cpu()?);
    server.wait_for(ours.name(), before + 2 + SETTLED, PATIENCE)?;
    let busy = (ours.cpu()? - cpu) / begun.elapsed().as_secs_f64() * 100.0;
    let mib = ours.resident()?;
    say(&format!(
        "imbabot, 1000 rooms each second: {busy:.2} % of a processor, {mib:.1} MiB, over {:.0} s",
        begun.elapsed().as_secs_f64()
    ));
    let Some(theirs) = theirs else {
        say("python-telegram-bot is left out: no Python with it (PYTHON=… names one)");
        return Ok(());
    };
    server.wait_for(theirs.name(), 3, PATIENCE)?;
    std::thread::sleep(Duration::from_secs(2));
    let other = theirs.resident()?;
    lines.push(Line {
        goal: "P15 memory, 1000 rooms each second, vs python-telegram-bot".into(),
        ours: format!("{mib:.1} MiB"),
        yardstick: format!("{other:.1} MiB"),
        ratio: other / mib,
        hold: Mark::AtLeast(3.0),
        reach: Mark::AtLeast(6.0),
    });
    Ok(())
}
