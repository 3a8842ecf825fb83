//! `store migrate`: a whole store from a file to a PostgreSQL server, or back. The ledger of the old
//! store is verified before anything is copied, that of the new one afterwards, and both have to agree.
//! Writes over nothing, and changes no configuration: it says what to change.

use std::path::Path;
use std::time::Duration;

use imbabot_scheduler::Clock;
use imbabot_store::{Bodies, ErrorKind, Migrated, MoveFrom, MoveTo, Role, SqliteStore};
use serde_json::{Map, Value, json};

use super::super::args::Format;
use super::super::{Command, Result, clock, ledger};
use super::address::{self, Address, Url, quoted};
use super::listed;
use crate::config::{LogFormat, Server, StorePlace, load_without_secrets};
use crate::exit::{Exit, Failure};
use crate::{stores, telemetry};

/// How often it is said how far it has come.
const TOLD: Duration = Duration::from_secs(10);

pub(super) async fn migrate(command: &Command, from: &str, to: &str) -> Result {
    let (from, to) = (Address::parse("--from", from)?, Address::parse("--to", to)?);
    let accepts_unsafe = set_up(command)?;
    let done = match (from, to) {
        (Address::File(from), Address::Server(to)) => {
            to_server(&from, &to, &to.server(accepts_unsafe)?).await?
        }
        (Address::Server(from), Address::File(to)) => {
            to_file(&from.server(accepts_unsafe)?, &to).await?
        }
        (Address::File(_), Address::File(_)) => {
            return Err(address::alike(
                "a store is moved to the other kind of store, and both of these are files",
                "a file is moved with `mv` while no daemon runs, and copied with `imbabot store backup`",
            ));
        }
        (Address::Server(_), Address::Server(_)) => {
            return Err(address::alike(
                "a store is moved to the other kind of store, and both of these are servers",
                "`pg_dump` and `pg_restore` move a database from one server to another",
            ));
        }
    };
    command.output.data(&done.as_json(), || done.as_text());
    Ok(Exit::Ok)
}

/// Starts the log, and whether a server is accepted that may forget what it has confirmed. A configuration
/// is asked where there is one, and has to be right where one was named.
fn set_up(command: &Command) -> Result<bool> {
    let loaded = match command.load_by(load_without_secrets) {
        Ok(loaded) => Some(loaded),
        Err(problems) if command.global.config.is_some() => {
            return Err(command.problems(&problems));
        }
        Err(_) => None,
    };
    match &loaded {
        Some(loaded) => telemetry::start(&loaded.config.log.level, loaded.config.log.format),
        None => {
            let level = command.global.log.as_deref().unwrap_or("info");
            let format = match command.global.log_format {
                Some(Format::Json) => LogFormat::Json,
                Some(Format::Text) | None => LogFormat::Text,
            };
            telemetry::start(level, format);
        }
    }
    Ok(loaded.is_some_and(|loaded| match loaded.config.store.place {
        StorePlace::Server(server) => server.unsafe_durability,
        StorePlace::File(_) => false,
    }))
}

async fn to_server(from: &Path, url: &Url, at: &Server) -> Result<Done> {
    let clock = clock();
    let (old, new) = (from.display().to_string(), StorePlace::Server(at.clone()).to_string());
    let source = stores::alone(from, &*clock).await?;
    let target = stores::named(at, Role::Brief).await?;
    let lines = sound(&old, ledger::contradictions(&source).await?)?;
    let moved = moved(MoveFrom::Sqlite(&source), MoveTo::Postgres(&target), &*clock).await?;
    agree(&new, lines, ledger::contradictions_by_pages(&target).await?)?;
    let next = vec![
        format!(
            "in `[store]` of the configuration: kind = \"postgres\", {}",
            url.in_configuration()
        ),
        "then start: `imbabot run`, on as many hosts as you like".into(),
        refused_from_now_on(&old, moved.source_closed),
    ];
    Ok(Done { from: old, to: new, lines, moved, next })
}

async fn to_file(at: &Server, to: &Path) -> Result<Done> {
    let clock = clock();
    let (old, new) = (StorePlace::Server(at.clone()).to_string(), to.display().to_string());
    let source = stores::named(at, Role::Visitor).await?;
    let lines = sound(&old, ledger::contradictions_by_pages(&source).await?)?;
    let moved = moved(MoveFrom::Postgres(&source), MoveTo::Sqlite(to), &*clock).await?;
    let target = SqliteStore::open(to, Role::Visitor, Bodies::Full)?;
    agree(&new, lines, ledger::contradictions(&target).await?)?;
    let next = vec![
        format!("in `[store]` of the configuration: kind = \"sqlite\", path = {}", quoted(to)),
        "then start one daemon: a file is for one".into(),
        refused_from_now_on(&old, moved.source_closed),
    ];
    Ok(Done { from: old, to: new, lines, moved, next })
}

/// What becomes of the old store.
fn refused_from_now_on(old: &str, closed: bool) -> String {
    match closed {
        true => format!("{old} is refused from now on; keep it until the new store has run well"),
        false => format!(
            "{old} could not be marked: put it aside, no daemon may be started on it any more"
        ),
    }
}

/// How many lines a ledger has that contradicts itself nowhere.
fn sound(place: &str, (lines, found): (usize, Vec<String>)) -> Result<usize> {
    found.first().map_or(Ok(lines), |first| {
        let message = format!("the ledger of {place} contradicts itself: {first}");
        Err(Failure::new(Exit::Store, "IMB-S-CONTRADICTION", message)
            .hint("nothing was moved; keep the store as it is, or restore a backup of it"))
    })
}

/// The same of the copy, which has as many.
fn agree(place: &str, lines: usize, (there, found): (usize, Vec<String>)) -> Result<()> {
    let differs =
        (there != lines).then(|| format!("it has {there} lines, the one that was copied {lines}"));
    found.into_iter().next().or(differs).map_or(Ok(()), |first| {
        let message = format!("the copy in {place} does not hold: {first}");
        Err(Failure::new(Exit::Store, "IMB-S-CONTRADICTION", message).hint(
            "do not run on it. A file that was copied refuses to be run on by now: `imbabot store \
             reanchor` takes it into use again",
        ))
    })
}

async fn moved(from: MoveFrom<'_>, to: MoveTo<'_>, clock: &dyn Clock) -> Result<Migrated> {
    let mut told = clock.elapsed();
    let progress = |table: &'static str, rows: u64| {
        if clock.elapsed().saturating_sub(told) >= TOLD {
            told = clock.elapsed();
            tracing::info!(table, rows, "copying");
        }
    };
    imbabot_store::migrate(from, to, clock.now(), progress).await.map_err(|error| {
        match error.kind() {
            ErrorKind::Retryable => {
                let message = format!("a database was lost on the way: {error}");
                Failure::new(Exit::Unavailable, stores::UNREACHED, message)
                    .hint("nothing was moved: begin again when it is there")
            }
            ErrorKind::Held { pid: None, .. } => Failure::from(error)
                .hint("nothing was moved. Stop all instances, and let nobody write meanwhile"),
            _ => error.into(),
        }
    })
}

/// What was done, and what is left to do.
struct Done {
    from: String,
    to: String,
    /// Of either ledger.
    lines: usize,
    moved: Migrated,
    next: Vec<String>,
}

impl Done {
    fn as_json(&self) -> Value {
        let rows: Map<String, Value> = self
            .moved
            .rows
            .iter()
            .map(|(kind, count)| ((*kind).to_owned(), json!(count)))
            .collect();
        json!({
            "from": self.from, "to": self.to, "rows": rows, "seq": self.moved.seq,
            "verified": { "from": self.lines, "to": self.lines },
            "source_closed": self.moved.source_closed, "next": self.next,
        })
    }

    fn as_text(&self) -> String {
        let rows: Vec<String> = self
            .moved
            .rows
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(kind, count)| format!("{count} {}", kind.replace('_', " ")))
            .collect();
        let rows = if rows.is_empty() { "none".to_owned() } else { rows.join(", ") };
        let verified = format!("{} lines here and there, no contradiction", self.lines);
        listed(
            [
                ("moved", format!("{} to {}", self.from, self.to)),
                ("records", rows),
                ("ledger", format!("up to line {}", self.moved.seq)),
                ("verified", verified),
                ("next", self.next.join("\n")),
            ]
            .map(|(name, text)| [name.to_owned(), text])
            .into(),
        )
    }
}
