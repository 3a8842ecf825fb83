//! P1 to P5: a list that is in memory, compared with the list before it, up to the events. Beside it
//! stand what one writes first (`serde_json` into owned structs, and a `HashMap`) and the least that
//! anything can cost that looks at each byte once (a copy of the body).

pub(crate) mod body;
pub(crate) mod naive;
mod ours;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use crate::table::{self, Line, Mark};
use body::Site;
use naive::Apart;
use ours::Ours;

const ROUNDS: usize = 9;

/// Measures and prints.
pub(crate) fn run() -> anyhow::Result<()> {
    let mut lines = Vec::new();
    for (rooms, goal) in [(100_000, "P1"), (1_000_000, "P2")] {
        let site = Site::new(rooms);
        changed(&site, goal, &mut lines)?;
        if rooms == 100_000 {
            unchanged(&site, &mut lines)?;
            memory(&site, &mut lines)?;
        }
    }
    lines.sort_by(|a, b| a.goal.cmp(&b.goal));
    table::print("A list in memory (265 B a room), compared with the last one", &lines);
    Ok(())
}

/// P1, P2 and P3: one room in a hundred changed.
fn changed(site: &Site, goal: &str, lines: &mut Vec<Line>) -> anyhow::Result<()> {
    let bodies = Arc::new([site.body(), site.changed(100)]);
    let mut ours = Ours::new(&*bodies)?;
    let naive = Apart::new(&bodies)?;
    let mut copy = vec![0; bodies[0].len()];
    let (mut own, mut first, mut least) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        let body = &bodies[round % 2];
        least.push(timed(|| copied(&mut copy, body)).0);
        let (seconds, found) = timed(|| ours.poll(body));
        own.push(seconds);
        let (seconds, expected) = naive.poll(round % 2)?;
        first.push(seconds);
        let found = found?;
        anyhow::ensure!(found == expected, "{found} events, and not {expected}");
    }
    let [own, first, least] = [own, first, least].map(table::median);
    let of = |what: &str, seconds| format!("{what} {}", table::time(seconds));
    let (hold, reach) = if goal == "P1" { (10.0, 18.0) } else { (16.0, 33.0) };
    lines.push(Line {
        goal: format!("{goal} {} rooms, 1 % changed", site.rooms()),
        ours: table::time(own),
        yardstick: of("serde_json + HashMap", first),
        ratio: first / own,
        hold: Mark::AtLeast(hold),
        reach: Mark::AtLeast(reach),
    });
    if goal == "P1" {
        lines.push(Line {
            goal: "P3 the same".into(),
            ours: table::time(own),
            yardstick: of("memcpy", least),
            ratio: own / least,
            hold: Mark::AtMost(6.0),
            reach: Mark::AtMost(3.5),
        });
    }
    Ok(())
}

/// P4: the same bytes again.
fn unchanged(site: &Site, lines: &mut Vec<Line>) -> anyhow::Result<()> {
    let body = site.body();
    let mut ours = Ours::new(std::slice::from_ref(&body))?;
    let mut copy = vec![0; body.len()];
    let (mut own, mut least) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        least.push(timed(|| copied(&mut copy, &body)).0);
        let (seconds, found) = timed(|| ours.poll(&body));
        anyhow::ensure!(found? == 0, "events of nothing");
        own.push(seconds);
    }
    let [own, least] = [own, least].map(table::median);
    lines.push(Line {
        goal: format!("P4 {} rooms, unchanged", site.rooms()),
        ours: table::time(own),
        yardstick: format!("memcpy {}", table::time(least)),
        ratio: own / least,
        hold: Mark::AtMost(1.5),
        reach: Mark::AtMost(0.7),
    });
    Ok(())
}

/// P5: what is held while a list is compared, index included, and what an unchanged room allocates.
fn memory(site: &Site, lines: &mut Vec<Line>) -> anyhow::Result<()> {
    let body = site.body();
    let mut ours = None;
    let index = allocation_counter::measure(|| ours = Some(Ours::new(std::slice::from_ref(&body))));
    let Some(ours) = ours else { anyhow::bail!("nothing was measured") };
    let mut ours = ours?;
    let poll = allocation_counter::measure(|| {
        black_box(ours.poll(&body).ok());
    });
    let (few, many) = (Site::new(1_000), site);
    let mut small = Ours::new(&[few.body()])?;
    let few_body = few.body();
    let base = allocation_counter::measure(|| {
        black_box(small.poll(&few_body).ok());
    });
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let (held, more, rooms) = (
        (index.bytes_current.unsigned_abs() + poll.bytes_max) as f64,
        poll.count_total.saturating_sub(base.count_total) as f64,
        many.rooms() as f64,
    );
    lines.push(Line {
        goal: "P5 bytes per room while polling".into(),
        ours: format!("{:.1} MB", held / 1e6),
        yardstick: format!("{rooms} rooms"),
        ratio: held / rooms,
        hold: Mark::AtMost(48.0),
        reach: Mark::AtMost(16.5),
    });
    lines.push(Line {
        goal: "P5 allocations per unchanged room".into(),
        ours: format!("{} in all", poll.count_total),
        yardstick: format!("{} for 1,000 rooms", base.count_total),
        ratio: (more / rooms * 100.0).round() / 100.0,
        hold: Mark::AtMost(0.0),
        reach: Mark::AtMost(0.0),
    });
    Ok(())
}

fn copied(copy: &mut [u8], body: &[u8]) {
    // Some numbers of the changed list are a digit longer.
    let length = copy.len().min(body.len());
    copy[..length].copy_from_slice(&body[..length]);
    black_box(copy);
}

fn timed<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let begun = Instant::now();
    let value = work();
    (begun.elapsed().as_secs_f64(), value)
}
