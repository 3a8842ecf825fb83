//! Prints the tables of `docs/performance.md`, one by its name. Every figure is a ratio against a
//! yardstick that is measured in the same run, and nothing here is a test: a busy machine fails no
//! build.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures time as it is")]

mod daemon;
mod fleet;
mod lists;
mod process;
mod rehearse;
mod schedules;
mod server;
mod table;

use std::process::ExitCode;

const TABLES: &str = "\
lists      P1 to P5: a list in memory, compared with the last one
daemon     P6: the whole daemon over HTTP, with 100,000 rooms and with a million
start      P14 to P16: how soon it starts, what memory it takes, how large it is
schedules  P10 to P12: schedules by the hundred thousand, beside tokio-cron-scheduler
fleet      several instances on one PostgreSQL (IMBABOT_DATABASE_URL), and what a widget costs
rehearse   P17: a year of the sample configuration over 1,000 rooms";

fn main() -> ExitCode {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let given: Vec<&str> = given.iter().map(String::as_str).collect();
    let done = match given[..] {
        ["lists"] => lists::run(),
        ["daemon"] => daemon::run(),
        ["start"] => daemon::start(),
        [daemon::NAIVE, _] => daemon::naive(),
        ["fleet"] => fleet::run(),
        ["rehearse"] => rehearse::run(),
        ["schedules"] => schedules::run(),
        ["schedules", part] => schedules::part(part),
        _ => Err(anyhow::anyhow!("which table?\n{TABLES}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            table::say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}
