//! A status in words for a person: first what is wrong, since when and what to do, then the parts. All
//! that comes out of the store is escaped.

use std::time::Duration;

use imbabot_core::{Timestamp, escape_foreign};
use imbabot_store::{DeliveryState, ErrorKind};

use super::{Life, Report, Who};
use crate::output::{foreign, table, wrapped};
use crate::status::instances::Instance;
use crate::status::phrases::{ago, capital, short, since, when};
use crate::status::seen::{Job, Obstacle, Seen};
use crate::status::server;
use crate::status::work::{Bot, Waiting};

/// So many of the next occurrences are shown; `plan` has all.
const NEXT: usize = 5;
/// A problem in full, up to this many characters.
const PROBLEM: usize = 400;
const INDENT: &str = "    ";

pub(super) fn report(report: &Report) -> String {
    let seen = &report.seen;
    let mut parts = vec![head(report)];
    parts.extend(instances(seen));
    // What an earlier run said of itself says nothing of one that is only starting.
    if !matches!(report.life, Life::Starting(..)) {
        parts.extend(obstacles(report));
        parts.extend(widgets(seen));
        parts.extend(deliveries(seen));
        parts.extend(waiting(seen));
        parts.extend(bots(seen));
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
    let sign = report.seen_at.map(|at| ago(now, at)).unwrap_or_default();
    let (line, more) = match report.life {
        Life::Running(who) => {
            let begun = seen.started_at.map(|at| since(now, at)).unwrap_or_default();
            let version = foreign(&seen.version);
            let runs = match who {
                Who::Process(_) => {
                    format!("{} runs {begun}, version {version}; last sign of life {sign}", named(who))
                }
                Who::Instances(_) => {
                    let number = seen.fleet.as_ref().map(|fleet| format!(", {},", fleet.incarnation));
                    format!(
                        "{}; the one that spoke last{} runs {begun}, version {version}; last sign of \
                         life {sign}",
                        named(who),
                        number.unwrap_or_default()
                    )
                }
            };
            if seen.ready {
                return format!("ready\n{}", wrapped(&capital(&runs), INDENT));
            }
            let reasons: Vec<String> = seen.reasons.iter().map(|r| foreign(r)).collect();
            let first = seen.obstacles.iter().map(|obstacle| obstacle.since).min();
            let first = first.map(|at| format!(" {}", since(now, at))).unwrap_or_default();
            (format!("not ready{first}: {}", reasons.join(", ")), format!("{runs}."))
        }
        Life::Starting(who, begun) => {
            let begun = begun.map(|at| since(now, at)).unwrap_or_default();
            (
                format!("starting: {} {begun}", holds(who)),
                "it has not said anything of itself yet. A large store is checked first; if it \
                 stays so, look at the log."
                    .to_owned(),
            )
        }
        Life::Silent(Who::Instances(_)) => (
            format!("hangs: the last sign of life of an instance was {sign}"),
            "an instance should say every ten seconds how it is: none does, though their leases are \
             renewed. Look at their logs. What follows is what was said last."
                .to_owned(),
        ),
        Life::Silent(who) => (
            format!("hangs: {} gave its last sign of life {sign}", named(who)),
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
    let more = match &report.refused {
        Some(why) => {
            let way = match why.kind() {
                ErrorKind::Moved => "`[store]` has to name the store that it was moved into.",
                _ => {
                    "`imbabot store reanchor` takes it into use, and does nothing again that may \
                     have been done."
                }
            };
            format!(
                "{}: `imbabot run` refuses it. {way} What follows is what it said last.",
                escape_foreign(&why.to_string(), PROBLEM)
            )
        }
        None => more,
    };
    format!("{}\n{}", wrapped(&line, ""), wrapped(&capital(&more), INDENT))
}

fn named(who: Who) -> String {
    match who {
        Who::Process(0) => "the daemon".to_owned(),
        Who::Process(pid) => format!("process {pid}"),
        Who::Instances(1) => "one instance runs".to_owned(),
        Who::Instances(count) => format!("{count} instances run"),
    }
}

fn holds(who: Who) -> String {
    match who {
        Who::Process(_) => format!("{} has the store", named(who)),
        Who::Instances(_) => named(who),
    }
}

/// Those that share the store: who is there, and who does what.
fn instances(seen: &Seen) -> Option<String> {
    let row = |one: &Instance| {
        let schedules = if one.schedules { "here" } else { "-" };
        vec![
            one.incarnation.to_string(),
            foreign(&one.name),
            foreign(&one.version),
            one.state().to_owned(),
            when(one.alive_until),
            one.widgets.to_string(),
            schedules.to_owned(),
        ]
    };
    let header = ["INSTANCE", "NAME", "VERSION", "STATE", "BELIEVED UNTIL", "WIDGETS", "SCHEDULES"];
    annotated(&header, seen.work.instances.iter().map(row).collect(), Vec::new())
}

/// Each reason for not being ready in words.
fn obstacles(report: &Report) -> Option<String> {
    let told: Vec<String> =
        report.seen.obstacles.iter().map(|obstacle| explained(obstacle, report.now)).collect();
    (!told.is_empty()).then(|| told.join("\n"))
}

fn explained(obstacle: &Obstacle, now: Timestamp) -> String {
    let Obstacle { reason, subject, since: begun } = obstacle;
    let subject = match obstacle.is_about_all() {
        true => String::new(),
        false => format!(" ({})", foreign(subject)),
    };
    let line = format!("{}{subject} {}", foreign(reason), since(now, *begun));
    let Some(words) = obstacle.words() else { return line };
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
        problem.into_iter().chain(server::words(&widget.capabilities)).collect()
    });
    annotated(&header, rows.collect(), beneath.collect())
}

/// How many there are in each state.
fn deliveries(seen: &Seen) -> Option<String> {
    let counts = &seen.work.deliveries;
    let states = DeliveryState::ALL.iter().map(|state| state.as_str());
    let header: Vec<String> = states.clone().map(str::to_uppercase).collect();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let row = states.map(|state| counts.get(state).copied().unwrap_or_default().to_string());
    (!counts.is_empty()).then(|| table(&header, [row.collect()]))
}

/// What is not done yet, and why.
fn waiting(seen: &Seen) -> Option<String> {
    let row = |waiting: &Waiting| {
        let name = waiting.name.as_deref().map(foreign).unwrap_or_default();
        let room = format!("{} {name}", waiting.room);
        let id = waiting.delivery.to_string();
        vec![id, foreign(&waiting.state), room.trim().into(), when(waiting.since)]
    };
    let all = &seen.work.waiting;
    let why = all.iter().map(|waiting| vec![foreign_long(&waiting.text)]).collect();
    annotated(&["WAITS", "STATE", "ROOM", "SINCE"], all.iter().map(row).collect(), why)
}

fn bots(seen: &Seen) -> Option<String> {
    let row = |(name, bot): (&String, &Bot)| {
        let (waiting, poisoned) = (bot.events_waiting, bot.events_poisoned);
        vec![foreign(name), foreign(&bot.health), waiting.to_string(), poisoned.to_string()]
    };
    let rows = seen.work.bots.iter().map(row).collect();
    annotated(&["BOT", "HEALTH", "EVENTS WAITING", "EVENTS POISONED"], rows, Vec::new())
}

fn foreign_long(text: &str) -> String {
    escape_foreign(text, PROBLEM)
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
