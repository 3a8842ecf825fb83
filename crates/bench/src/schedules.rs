//! P10 to P12: adding a hundred thousand schedules, ten thousand of them in one second, and what they
//! cost while nothing is due, beside tokio-cron-scheduler. Each measurement is a process of its own,
//! so that neither memory nor threads of one are in the figures of another.

mod ours;
mod theirs;

use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};

use crate::table::{Line, Mark, median, print, say, time};

/// Schedules that are added, and that are there while nothing is due.
const MANY: usize = 100_000;
/// Expressions that they share.
const EXPRESSIONS: usize = 1_000;
/// Schedules that are due in one second.
const AT_ONCE: usize = 10_000;
/// How often everything is measured, in turns.
const ROUNDS: usize = 5;
/// For so long it is watched what nothing costs.
const IDLE: Duration = Duration::from_secs(10);

/// Expressions of working days, at some minute of some hour; none is due within the next hour.
fn expressions() -> impl Iterator<Item = String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let hour = usize::try_from(now.as_secs() / 3_600 % 24).unwrap_or_default();
    (0..MANY).map(move |n| {
        let n = n % EXPRESSIONS;
        format!("{} {} * * MON-FRI", n % 60, (hour + 2 + n / 60) % 24)
    })
}

/// The table.
pub(crate) fn run() -> Result<()> {
    let mut add = [Vec::new(), Vec::new()];
    let mut memory = [Vec::new(), Vec::new()];
    let mut late = [Vec::new(), Vec::new(), Vec::new()];
    let mut lost = Vec::new();
    let mut idle = [Vec::new(), Vec::new()];
    let (mut none, mut adopt) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        say(&format!("round {round} of {ROUNDS}"));
        for (place, who) in ["ours", "theirs"].into_iter().enumerate() {
            let [seconds, bytes] = figures(&format!("add-{who}"))?;
            add[place].push(seconds);
            memory[place].push(bytes);
        }
        let [taken] = figures("late-ours")?;
        late[0].push(taken);
        let [theirs, fired] = figures("late-theirs")?;
        late[1].push(theirs);
        #[expect(clippy::cast_precision_loss, reason = "thousands")]
        lost.push(AT_ONCE as f64 - fired);
        let [recorded] = figures("late-recorded")?;
        late[2].push(recorded);
        let [share, adopted] = figures("idle-ours")?;
        idle[0].push(share);
        adopt.push(adopted);
        let [share, _] = figures("idle-none")?;
        none.push(share);
        let [share] = figures("idle-theirs")?;
        idle[1].push(share);
    }
    let [add_ours, add_theirs] = add.map(median);
    let [memory_ours, memory_theirs] = memory.map(median);
    let [taken, theirs, recorded] = late.map(median);
    let [idle_ours, idle_theirs] = idle.map(median);
    print(
        "Schedules, beside tokio-cron-scheduler 0.15.1",
        &[
            Line {
                goal: format!("P10 add {MANY}"),
                ours: time(add_ours),
                yardstick: time(add_theirs),
                ratio: add_theirs / add_ours,
                hold: Mark::AtLeast(50.0),
                reach: Mark::AtLeast(150.0),
            },
            Line {
                goal: "P10 bytes per schedule".into(),
                ours: format!("{memory_ours:.0} B"),
                yardstick: format!("{memory_theirs:.0} B"),
                ratio: memory_ours,
                hold: Mark::AtMost(300.0),
                reach: Mark::AtMost(120.0),
            },
            Line {
                goal: format!("P11 p99 late, {AT_ONCE} in one second"),
                ours: time(taken),
                yardstick: time(theirs),
                ratio: theirs / taken,
                hold: Mark::AtLeast(10.0),
                reach: Mark::AtLeast(60.0),
            },
            Line {
                goal: format!("P12 CPU of {MANY} idle ones"),
                ours: format!("{:.4} %", idle_ours * 100.0),
                yardstick: format!("{:.3} %", idle_theirs * 100.0),
                ratio: idle_theirs / idle_ours,
                hold: Mark::AtLeast(20.0),
                reach: Mark::AtLeast(300.0),
            },
        ],
    );
    say("");
    say(&format!("Not fired at all by the yardstick in P11: {:.0} of {AT_ONCE}.", median(lost)));
    say(&format!(
        "Recorded on disk by the daemon's engine, what the yardstick does not do: p99 {} late.",
        time(recorded)
    ));
    let [seconds, bytes] = figures("rooms")?;
    say(&format!(
        "One announcement to {MANY} rooms: all recorded as deliveries after {}, with {:.1} MB of memory \
         more than before at most.",
        time(seconds),
        bytes / 1e6
    ));
    say(&format!(
        "In P12 the whole engine is at work; without any schedule it takes {:.4} %.",
        median(none) * 100.0
    ));
    say(&format!(
        "Adopting {MANY} schedules into a store on disk, once per start: {}.",
        time(median(adopt))
    ));
    Ok(())
}

/// Runs a part in a process of its own and reads the figures that it prints.
fn figures<const N: usize>(part: &str) -> Result<[f64; N]> {
    let program = std::env::current_exe().context("where this program is")?;
    let output = Command::new(program).args(["schedules", part]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{part} failed: {text}");
    let last = text.lines().last().unwrap_or_default();
    let figures: Vec<f64> =
        last.split(' ').map(str::parse).collect::<Result<_, _>>().context(text.to_string())?;
    figures.try_into().map_err(|_| anyhow::anyhow!("{part} printed {last:?}"))
}

/// One measurement, in this process; its figures are the last line.
pub(crate) fn part(name: &str) -> Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let figures = match name {
        "add-ours" => ours::add()?,
        "add-theirs" => runtime.block_on(theirs::add())?,
        "late-ours" => ours::late()?,
        "late-recorded" => runtime.block_on(ours::late_recorded())?,
        "rooms" => runtime.block_on(ours::rooms())?,
        "late-theirs" => runtime.block_on(theirs::late())?,
        "idle-ours" => runtime.block_on(ours::idle(MANY))?,
        "idle-none" => runtime.block_on(ours::idle(0))?,
        "idle-theirs" => runtime.block_on(theirs::idle())?,
        _ => bail!("there is no part {name:?}"),
    };
    let words: Vec<String> = figures.iter().map(ToString::to_string).collect();
    say(&words.join(" "));
    Ok(())
}

/// The bytes of this process in memory, without the pages of its program.
fn resident() -> Result<f64> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: Vec<f64> = statm.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    match pages[..] {
        [_, resident, shared, ..] => Ok((resident - shared) * 4096.0),
        _ => bail!("/proc/self/statm has {statm:?}"),
    }
}

/// The time that this process has spent computing.
fn computed() -> Duration {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(spent.tv_sec).unwrap_or(0),
        u32::try_from(spent.tv_nsec).unwrap_or(0),
    )
}

/// Which share of the next seconds is spent computing.
async fn share() -> f64 {
    // What came with the start is over.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (begun, before) = (Instant::now(), computed());
    tokio::time::sleep(IDLE).await;
    (computed() - before).as_secs_f64() / begun.elapsed().as_secs_f64()
}

/// The value that 99 of 100 do not exceed, in seconds.
fn p99(mut late: Vec<Duration>) -> Result<f64> {
    late.sort_unstable();
    let place = (late.len() * 99).div_ceil(100).saturating_sub(1);
    Ok(late.get(place).context("nothing fired")?.as_secs_f64())
}
