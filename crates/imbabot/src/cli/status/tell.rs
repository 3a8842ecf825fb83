//! A status in words for a person: first what is wrong, since when and what to do, then the parts. All
//! that comes out of the store is escaped.

use std::collections::BTreeMap;
use std::time::Duration;

use imbabot_bot::units::format_duration;
use imbabot_core::{Timestamp, escape_foreign};
use imbabot_scheduler::NotReady;
use serde_json::Value;

use super::seen::{Job, Obstacle, Seen};
use super::{Life, Report};
use crate::output::{foreign, table, wrapped};

/// So many of the next occurrences are shown; `plan` has all.
const NEXT: usize = 5;
/// A problem in full, up to this many characters.
const PROBLEM: usize = 400;
const INDENT: &str = "    ";

pub(super) fn report(report: &Report) -> String {
    let seen = &report.seen;
    let mut parts = vec![head(report)];
    // What an earlier run said of itself says nothing of one that is only starting.
    if !matches!(report.life, Life::Starting(..)) {
        parts.extend(obstacles(report));
        parts.extend(widgets(seen));
        parts.extend(tasks(seen));
        parts.extend(next(seen));
        parts.extend(stopped(seen));
        parts.extend(housekeeping(seen));
    }
    parts.join("\n\n")
}

/// The first line, and what it means.
fn head(report: &Report) -> String {
    let seen = &report.seen;
    let now = report.now;
    let process = |pid: u32| match pid {
        0 => "the daemon".to_owned(),
        pid => format!("process {pid}"),
    };
    let sign = report.seen_at.map(|at| ago(now, at)).unwrap_or_default();
    let (line, more) = match report.life {
        Life::Running(pid) => {
            let begun = seen.started_at.map(|at| since(now, at)).unwrap_or_default();
            let runs = format!(
                "{} runs {begun}, version {}; last sign of life {sign}",
                process(pid),
                foreign(&seen.version)
            );
            if seen.ready {
                return format!("ready\n{}", wrapped(&capital(&runs), INDENT));
            }
            let reasons: Vec<String> = seen.reasons.iter().map(|r| foreign(r)).collect();
            let first = seen.obstacles.iter().map(|obstacle| obstacle.since).min();
            let first = first.map(|at| format!(" {}", since(now, at))).unwrap_or_default();
            (format!("not ready{first}: {}", reasons.join(", ")), format!("{runs}."))
        }
        Life::Starting(pid, begun) => {
            let begun = begun.map(|at| since(now, at)).unwrap_or_default();
            (
                format!("starting: {} has the store {begun}", process(pid)),
                "it has not said anything of itself yet. A large store is checked first; if it \
                 stays so, look at the log."
                    .to_owned(),
            )
        }
        Life::Silent(pid) => (
            format!("hangs: {} gave its last sign of life {sign}", process(pid)),
            "it has the store, and should say every ten seconds how it is: it hangs, was stopped \
             (SIGSTOP), or cannot write. Look at its log and at the disk; if it makes no progress, \
             end it and start it again: nothing that was accepted is lost. What follows is what it \
             said last."
                .to_owned(),
        ),
        Life::Stopped => (
            format!("not running: the daemon stopped {sign}"),
            "it ended by itself, after what was in flight. `imbabot run` starts it again. What \
             follows is what it said last."
                .to_owned(),
        ),
        Life::Gone => (
            format!("not running: the daemon was last seen {sign}"),
            "it did not stop in order: it was killed, or gave up; its log says more. Nothing that \
             was accepted is lost; `imbabot run` starts it again. What follows is what it said \
             last."
                .to_owned(),
        ),
    };
    format!("{}\n{}", wrapped(&line, ""), wrapped(&capital(&more), INDENT))
}

/// Each reason for not being ready in words.
fn obstacles(report: &Report) -> Option<String> {
    let told: Vec<String> =
        report.seen.obstacles.iter().map(|obstacle| explained(obstacle, report.now)).collect();
    (!told.is_empty()).then(|| told.join("\n"))
}

fn explained(obstacle: &Obstacle, now: Timestamp) -> String {
    let Obstacle { reason, subject, since: begun } = obstacle;
    let known = NotReady::of(reason);
    // There is only one clock, and one daemon that stops.
    let subject = match known {
        Some(NotReady::Draining | NotReady::ClockSuspect) => String::new(),
        _ => format!(" ({})", foreign(subject)),
    };
    let line = format!("{}{subject} {}", foreign(reason), since(now, *begun));
    let Some(words) = known.map(NotReady::words) else { return line };
    let rows = [
        capital(words.what),
        format!("The daemon {}", words.daemon),
        format!("What to do: {}", words.you),
    ];
    let rows = rows.iter().map(|row| wrapped(&format!("{row}."), INDENT));
    std::iter::once(line).chain(rows).collect::<Vec<_>>().join("\n")
}

fn widgets(seen: &Seen) -> Option<String> {
    let dash = || "-".to_owned();
    let rows = seen.widgets.iter().map(|(name, widget)| {
        let breaker = widget.breaker.as_ref();
        vec![
            foreign(name),
            widget.rooms.map_or_else(dash, |rooms| rooms.to_string()),
            widget.last_good_poll.map_or_else(dash, when),
            widget.last_outcome.as_deref().map_or_else(dash, foreign),
            breaker.map_or_else(dash, |(why, at)| format!("{} since {}", foreign(why), when(*at))),
        ]
    });
    let header = ["WIDGET", "ROOMS", "LAST GOOD LIST", "LAST POLL", "NOTHING IS SENT"];
    let beneath = seen.widgets.values().map(|widget| {
        let problem = widget.problem.as_ref().map(|text| escape_foreign(text, PROBLEM));
        problem.into_iter().chain(server(&widget.capabilities)).collect()
    });
    annotated(&header, rows.collect(), beneath.collect())
}

/// What is known of a widget's server, by the daemon's polls and by `doctor`.
fn server(known: &BTreeMap<String, Value>) -> Option<String> {
    let (polls, doctor) = (known.get("polls"), known.get("doctor"));
    let either = |name: &str| {
        let of = |known: Option<&Value>| known?.get(name).filter(|value| !value.is_null()).cloned();
        of(polls).or_else(|| of(doctor))
    };
    let mut said = Vec::new();
    for name in ["rooms", "users"] {
        let Some(list) = either(name) else { continue };
        let number = |field: &str| list.get(field).and_then(Value::as_u64).unwrap_or_default();
        let (rows, bytes, took) = (number("rows"), number("bytes"), number("milliseconds"));
        let mut text = format!("{rows} {name} in {bytes} bytes and {took} ms");
        let quirks = list.get("quirks").and_then(Value::as_array).into_iter().flatten();
        let quirks: Vec<String> = quirks.filter_map(Value::as_str).map(foreign).collect();
        if !quirks.is_empty() {
            text.push_str(&format!(" ({})", quirks.join(", ")));
        }
        said.push(text);
    }
    if let Some(ahead) = either("server_ahead_seconds").and_then(|ahead| ahead.as_i64()) {
        said.push(match ahead {
            0 => "its clock and ours agree".to_owned(),
            1.. => format!("its clock is {ahead} s ahead of ours"),
            _ => format!("its clock is {} s behind ours", ahead.unsigned_abs()),
        });
    }
    let activity = either("activity").and_then(|word| Some(word.as_str()?.to_owned()));
    match activity.as_deref() {
        Some("seen") => said.push("its rooms are touched by messages".to_owned()),
        Some("no_activity_signal") => said.push(
            "no_activity_signal: `updated_at` does not move with messages, so bots are not told of them"
                .to_owned(),
        ),
        _ => {}
    }
    (!said.is_empty()).then(|| format!("Its server: {}.", said.join("; ")))
}

fn tasks(seen: &Seen) -> Option<String> {
    let rows = seen.tasks.iter().map(|(name, task)| {
        vec![
            foreign(name),
            task.last_progress.map_or_else(|| "-".to_owned(), when),
            task.restarts.to_string(),
            foreign(&task.last),
        ]
    });
    annotated(&["TASK", "LAST PROGRESS", "RESTARTS", "WHAT"], rows.collect(), Vec::new())
}

fn next(seen: &Seen) -> Option<String> {
    let rows = seen.next.iter().take(NEXT);
    let rows = rows.map(|next| vec![foreign(&next.schedule), foreign(&next.at)]);
    annotated(&["SCHEDULE", "NEXT"], rows.collect(), Vec::new())
}

/// What is paused, and whom nobody tells anything.
fn stopped(seen: &Seen) -> Option<String> {
    let paused = seen.paused.iter().map(|scope| format!("paused: {}", foreign(scope)));
    let aside = seen.set_aside.iter();
    let aside = aside.map(|(bot, at)| format!("set aside: {} since {}", foreign(bot), when(*at)));
    let lines: Vec<String> = paused.chain(aside).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

fn housekeeping(seen: &Seen) -> Option<String> {
    let shown = |at: Option<Timestamp>| at.map_or_else(|| "-".to_owned(), when);
    let row = |(name, job): (&String, &Job)| {
        let took = job.took_seconds.and_then(|took| Duration::try_from_secs_f64(took).ok());
        let took = took.map_or_else(|| "-".to_owned(), short);
        let last = if job.running { "now".to_owned() } else { shown(job.last) };
        let (records, problems) = match job.last {
            Some(_) => (job.records.to_string(), job.problems.to_string()),
            None => ("-".to_owned(), "-".to_owned()),
        };
        vec![foreign(name), last, took, records, problems, shown(job.next)]
    };
    let header = ["HOUSEKEEPING", "LAST", "TOOK", "RECORDS", "PROBLEMS", "NEXT"];
    let found = seen.housekeeping.values().map(|job| {
        let found = job.found.iter();
        found.map(|text| escape_foreign(text, PROBLEM)).collect()
    });
    annotated(&header, seen.housekeeping.iter().map(row).collect(), found.collect())
}

/// A table, and beneath each line what there is to say; nothing where there is no line.
fn annotated(header: &[&str], rows: Vec<Vec<String>>, beneath: Vec<Vec<String>>) -> Option<String> {
    if rows.is_empty() {
        return None;
    }
    let table = table(header, rows);
    let mut beneath = beneath.into_iter();
    let mut all: Vec<String> = Vec::new();
    for (place, line) in table.lines().enumerate() {
        all.push(line.to_owned());
        if place > 0 {
            let notes = beneath.next().unwrap_or_default();
            all.extend(notes.iter().map(|note| wrapped(note, INDENT)));
        }
    }
    Some(all.join("\n"))
}

/// An instant to the second.
fn when(at: Timestamp) -> String {
    Timestamp::from_seconds(at.as_seconds()).compact()
}

fn since(now: Timestamp, at: Timestamp) -> String {
    format!("since {} ({})", when(at), short(now.since(at)))
}

fn ago(now: Timestamp, at: Timestamp) -> String {
    format!("{} ago, at {}", short(now.since(at)), when(at))
}

/// A length of time as exactly as anybody wants to know it.
fn short(length: Duration) -> String {
    let seconds = length.as_secs();
    let unit = match seconds {
        0 if !length.is_zero() => return "less than 1s".into(),
        0..3_600 => 1,
        3_600..172_800 => 60,
        _ => 3_600,
    };
    format_duration(Duration::from_secs(seconds / unit * unit))
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => String::new(),
    }
}
