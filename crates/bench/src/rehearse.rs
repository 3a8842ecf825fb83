//! P17: a year of the sample configuration, its examples switched on, over a thousand rooms with
//! `imbabot rehearse`; and beside it a year in which half of these rooms are spoken to on each
//! working day. Measured from outside, as an operator waits for it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Result, ensure};

use crate::table::{Line, Mark, median, print, say, time};

const ROOMS: usize = 1_000;
const ROUNDS: usize = 5;
const YEAR: [&str; 4] = ["--from", "2026-01-01T00:00:00Z", "--until", "2027-01-01T00:00:00Z"];

/// The table.
pub(crate) fn run() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let sample = std::fs::read_to_string(root.join("config/imbabot.toml"))?;
    let on = switched_on(&sample);
    let wide = on.replace("rooms = { ids = [1536], ", "rooms = { ");
    ensure!(wide != on, "the sample's selection of rooms is not as expected");
    let (rooms, quiet, busy) = (
        folder.path().join("rooms.json"),
        folder.path().join("a.toml"),
        folder.path().join("b.toml"),
    );
    std::fs::write(&rooms, list())?;
    std::fs::write(&quiet, on)?;
    std::fs::write(&busy, wide)?;
    let (mut still, mut lively) = (Vec::new(), Vec::new());
    let mut told = String::new();
    for round in 1..=ROUNDS {
        say(&format!("round {round} of {ROUNDS}"));
        still.push(rehearse(&quiet, &rooms, &[])?.0);
        let (seconds, last) = rehearse(&quiet, &rooms, &["--seed", "7"])?;
        lively.push(seconds);
        told = last;
    }
    // Once: it takes minutes, and nothing is promised of it.
    let (wide, told_wide) = rehearse(&busy, &rooms, &[])?;
    let line = |goal: &str, seconds: f64| Line {
        goal: goal.into(),
        ours: time(seconds),
        yardstick: "1 s".into(),
        ratio: seconds,
        hold: Mark::AtMost(20.0),
        reach: Mark::AtMost(5.0),
    };
    print(
        &format!("A year rehearsed, {ROOMS} rooms"),
        &[
            line("P17 the sample, nobody else acts", median(still)),
            line("P17 the sample, people come and go", median(lively)),
        ],
    );
    say("");
    say(&format!("Every second room spoken to on each working day, once: {}", time(wide)));
    say(&format!("People come and go: {told}"));
    say(&format!("Every second room: {told_wide}"));
    Ok(())
}

/// The sample with its examples in force and what it leaves to the reader filled in.
fn switched_on(sample: &str) -> String {
    let mut text = String::new();
    for line in sample.lines() {
        let line = match line.strip_prefix('#') {
            // The first line speaks to editors.
            Some(rest) if !rest.is_empty() && !rest.starts_with([' ', ':']) => rest,
            _ => line,
        };
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// A reply to `get_rooms`: every second room is a public conference of a team.
fn list() -> String {
    let mut rows = String::new();
    for n in 0..ROOMS {
        let (id, comma) = (1536 + n, if n == 0 { "" } else { "," });
        let (name, kind, public) =
            if n % 2 == 0 { (format!("Team {n}"), 1, 1) } else { (format!("Project {n}"), 0, 0) };
        let _ = write!(
            rows,
            r#"{comma}{{"id":{id},"pipe":"5fde659f0{id}_1608410527","name":"{name}","admin_id":2046,"type":{kind},"tab":0,"is_public":{public},"created_at":"2020-12-19 20:42:07","updated_at":"2020-12-19 20:42:07","deleted_at":null,"status":0,"imba_id":627}}"#
        );
    }
    format!(r#"{{"success":"true","data":[{rows}],"code":200}}"#)
}

/// How long it takes, and the last line of what it tells.
fn rehearse(config: &Path, rooms: &Path, more: &[&str]) -> Result<(f64, String)> {
    let begun = Instant::now();
    let output = Command::new(program()?)
        .arg("--config")
        .arg(config)
        .arg("rehearse")
        .args(YEAR)
        .arg("--rooms")
        .arg(rooms)
        .args(more)
        .output()?;
    let seconds = begun.elapsed().as_secs_f64();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "imbabot rehearse failed: {errors}");
    let told = String::from_utf8_lossy(&output.stdout);
    Ok((seconds, told.lines().last().unwrap_or_default().to_owned()))
}

fn program() -> Result<PathBuf> {
    let beside = std::env::current_exe()?.with_file_name("imbabot");
    ensure!(beside.exists(), "build it first: cargo build --release");
    Ok(beside)
}
