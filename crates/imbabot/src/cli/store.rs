//! `store`: a copy of it, what it is and holds, taking an old copy into use, and moving it.

mod address;
mod migrate;
mod server;

use std::path::Path;

use imbabot_core::Timestamp;
use imbabot_store::{Care, CareKind, SqliteStore, StoreInfo};
use serde_json::{Map, Value, json};

use super::args::StoreVerb;
use super::{Command, Result, clock};
use crate::config::{Config, StorePlace, format_size};
use crate::exit::{Exit, Failure};
use crate::{output, setup, stores};

pub(crate) async fn store(command: &Command, verb: StoreVerb) -> Result {
    match verb {
        // Both places are named in full: no configuration has to be there for that.
        StoreVerb::Migrate { from, to } => migrate::migrate(command, &from, &to).await,
        StoreVerb::Info => {
            let config = &command.loaded_for_store()?.config;
            match &config.store.place {
                StorePlace::File(path) => info(command, config, path).await,
                StorePlace::Server(at) => server::info(command, config, at).await,
            }
        }
        StoreVerb::Backup { file } => {
            let config = &command.loaded_for_store()?.config;
            let path = file_of(
                config,
                "`store backup` copies a file, and this store is on a PostgreSQL server",
                "`pg_dump` makes a consistent copy while the instances run; see \"PostgreSQL\" in \
                 docs/operating.md",
            )?;
            backup(command, config, path, &file).await
        }
        StoreVerb::Reanchor => {
            let config = &command.loaded_for_store()?.config;
            let path = file_of(
                config,
                "`store reanchor` takes a copied file into use, and this store is on a PostgreSQL \
                 server",
                "a database that was restored is used as it is: before the first start, cancel with \
                 `imbabot deliveries cancel --state queued` what may have been sent since; see \
                 \"PostgreSQL\" in docs/operating.md",
            )?;
            reanchor(command, config, path).await
        }
    }
}

/// The file that the store is, or why the verb does nothing for it.
fn file_of<'a>(config: &'a Config, message: &str, hint: &str) -> Result<&'a Path> {
    let no_file = || Failure::new(Exit::Usage, "IMB-V-STORE", message).hint(hint);
    config.store.file().ok_or_else(no_file)
}

async fn backup(command: &Command, config: &Config, path: &Path, file: &Path) -> Result {
    if std::fs::symlink_metadata(file).is_ok() {
        let message = format!("{} is there already and is not written over", file.display());
        return Err(Failure::bad_input(message).hint("give a name that no file has"));
    }
    let store = stores::file(path, config)?;
    let copied = store.backup(file, clock().now()).await?;
    let value = json!({ "file": copied.path, "bytes": copied.bytes, "seq": copied.seq });
    command.output.data(&value, || {
        format!(
            "{}: {}, whole, up to line {} of the ledger",
            copied.path.display(),
            format_size(copied.bytes),
            copied.seq
        )
    });
    Ok(Exit::Ok)
}

async fn info(command: &Command, config: &Config, path: &Path) -> Result {
    let store = stores::file(path, config)?;
    let info = store.info().await?;
    let daemon = SqliteStore::daemon(path).map(|holder| holder.pid);
    command.output.data(&as_json(path, &info, daemon), || as_text(path, &info, daemon));
    Ok(Exit::Ok)
}

fn last(care: &[Care], what: CareKind) -> Option<&Care> {
    care.iter().find(|one| one.what == what)
}

fn checks(care: &[Care]) -> Value {
    let check = |what: CareKind| {
        last(care, what).map(|one| {
            let found = (!one.well).then_some(&one.told);
            json!({ "at": one.at, "ok": one.well, "found": found })
        })
    };
    json!({ "integrity": check(CareKind::Integrity), "verify": check(CareKind::Verify) })
}

fn as_json(path: &Path, info: &StoreInfo, daemon: Option<u32>) -> Value {
    let backups: Vec<Value> = info
        .care
        .iter()
        .filter(|one| one.what == CareKind::Backup)
        .map(|one| json!({ "at": one.at, "file": one.told }))
        .collect();
    let rows: Map<String, Value> =
        info.rows.iter().map(|(name, count)| ((*name).to_owned(), json!(count))).collect();
    json!({
        "path": path, "kind": "sqlite", "schema": info.schema, "copied_at": info.copied_at,
        "bytes": info.bytes, "free_bytes": info.free_bytes, "log_bytes": info.log_bytes,
        "rows": rows, "seq": info.seq, "incarnation": info.incarnation, "daemon": daemon,
        "checks": checks(&info.care),
        "backups": backups,
    })
}

fn as_text(path: &Path, info: &StoreInfo, daemon: Option<u32>) -> String {
    let mut lines =
        vec![["store".to_owned(), format!("{} (sqlite, schema {})", path.display(), info.schema)]];
    let mut line = |name: &str, text: String| lines.push([name.to_owned(), text]);
    if let Some(at) = info.copied_at {
        let text = "it is not in use: `imbabot store reanchor` takes it into use";
        line("copy", format!("made at {}; {text}", at.compact()));
    }
    line(
        "size",
        format!(
            "{}, of it {} free, and {} of log",
            format_size(info.bytes),
            format_size(info.free_bytes),
            format_size(info.log_bytes)
        ),
    );
    let rows: Vec<String> =
        info.rows.iter().map(|(name, count)| format!("{count} {name}")).collect();
    line("records", rows.join(", "));
    line("ledger", format!("up to line {}", info.seq));
    let run = info.incarnation.as_ref().map_or_else(
        || "none yet".to_owned(),
        |run| {
            let begun = format!("{}, begun {}", run.id.0, run.started_at.compact());
            match (run.ended_at, run.clean) {
                (Some(at), Some(true)) => format!("{begun}, ended {}", at.compact()),
                (Some(at), _) => format!("{begun}, killed, as seen {}", at.compact()),
                (None, _) if daemon.is_some() => format!("{begun}, goes on"),
                (None, _) => format!("{begun}, not ended by itself"),
            }
        },
    );
    line("last run", run);
    line("daemon", daemon.map_or_else(|| "none runs".to_owned(), |pid| format!("process {pid}")));
    for (name, what) in [("integrity", CareKind::Integrity), ("verified", CareKind::Verify)] {
        line(name, told(last(&info.care, what)));
    }
    let copies: Vec<String> = info
        .care
        .iter()
        .filter(|one| one.what == CareKind::Backup)
        .map(|one| format!("{} {}", one.at.compact(), output::foreign(&one.told)))
        .collect();
    line("backups", if copies.is_empty() { "none is known of".into() } else { copies.join("\n") });
    listed(lines)
}

/// A name and what there is to say of it, line by line.
fn listed(lines: Vec<[String; 2]>) -> String {
    let rows = lines.into_iter().map(|[name, text]| {
        let indent = format!("\n{:11}", "");
        format!("{name:11}{}", text.replace('\n', &indent))
    });
    rows.collect::<Vec<_>>().join("\n")
}

fn told(care: Option<&Care>) -> String {
    match care {
        None => "not yet; the daemon does it every night".into(),
        Some(one) if one.well => format!("{}, all well", one.at.compact()),
        Some(one) => format!("{}: {}", one.at.compact(), output::foreign(&one.told)),
    }
}

async fn reanchor(command: &Command, config: &Config, path: &Path) -> Result {
    let now: Timestamp = clock().now();
    let done = SqliteStore::reanchor(path, setup::bodies(config), now).await?;
    let warning = (!config.poll.baseline).then_some(
        "`[poll] baseline` is false: every room would count as opened at the next start; set it to \
         true for that one",
    );
    let mut value = json!(done);
    if let (Some(object), Some(warning)) = (value.as_object_mut(), warning) {
        object.insert("warning".into(), warning.into());
    }
    command.output.data(&value, || {
        let mut text = format!(
            "{}: taken into use. Of what may have happened after the copy was made nothing is done \
             again:\n\
             {} queued messages are cancelled; `imbabot deliveries retry ID` sends one after all\n\
             {} were on their way and stay without an answer\n\
             {} are for later and stay queued\n\
             {} events are not told to bots any more, {} timers of bots are dropped\n\
             {} schedules go on from now\n\
             the first lists are no news",
            path.display(),
            done.cancelled,
            done.unresolved,
            done.kept,
            done.ignored,
            done.dropped_wakes,
            done.schedules,
        );
        if let Some(warning) = warning {
            text.push_str("\nwarning: ");
            text.push_str(warning);
        }
        text
    });
    Ok(Exit::Ok)
}
