//! `ledger`: what happened, in order, for machines; and whether it can be believed.

use std::time::Duration;

use imbabot_store::{LedgerLine, Line, SqliteStore, Store};
use imbabot_testing::Check;
use serde_json::json;

use super::args::LedgerVerb;
use super::{Command, Result, clock};
use crate::config::StorePlace;
use crate::exit::{Exit, Failure};
use crate::{output, stores};

/// Lines per read.
const PAGE: usize = 1_000;
/// Records that differ from their last line, at most so many of a kind: one is enough.
const SHOWN: usize = 10;
/// How often a ledger that is followed is looked at.
const LOOK: Duration = Duration::from_millis(200);

pub(crate) async fn ledger(command: &Command, verb: LedgerVerb) -> Result {
    let loaded = command.loaded_for_store()?;
    let config = &loaded.config;
    match (verb, &config.store.place) {
        (LedgerVerb::Export { since, follow }, _) => {
            export(&*stores::visit(config).await?, since, follow).await
        }
        (LedgerVerb::Verify, StorePlace::File(path)) => {
            tell(command, contradictions(&stores::file(path, config)?).await?)
        }
        (LedgerVerb::Verify, StorePlace::Server(_)) => {
            tell(command, contradictions_by_pages(&*stores::visit(config).await?).await?)
        }
    }
}

async fn export(store: &dyn Store, mut since: i64, follow: bool) -> Result {
    let clock = clock();
    loop {
        let lines = store.ledger(since, PAGE).await?;
        for line in &lines {
            let text = serde_json::to_string(line).map_err(|error| {
                Failure::new(Exit::Store, "IMB-S-UNDECODABLE", error.to_string())
            })?;
            if !output::try_line(&text) {
                return Ok(Exit::Ok);
            }
            since = line.seq;
        }
        if lines.len() < PAGE {
            if !follow {
                return Ok(Exit::Ok);
            }
            clock.sleep(LOOK).await;
        }
    }
}

fn tell(command: &Command, (lines, found): (usize, Vec<String>)) -> Result {
    let Some(first) = found.first() else {
        let noun = if lines == 1 { "line" } else { "lines" };
        command.output.data(&json!({"ok": true, "lines": lines}), || {
            format!("{lines} {noun}, no contradiction")
        });
        return Ok(Exit::Ok);
    };
    let places = if found.len() == 1 { "one place" } else { "several places" };
    Err(Failure::new(
        Exit::Store,
        "IMB-S-CONTRADICTION",
        format!("the ledger contradicts itself in {places}; the first: {first}"),
    )
    .hint("keep the store as it is, stop the daemon, and restore a backup"))
}

/// How many lines there are, and what does not hold of them.
pub(super) async fn contradictions(store: &SqliteStore) -> Result<(usize, Vec<String>)> {
    let (check, strays) = store.read_through(Check::new(), read, SHOWN).await?;
    Ok(judged(&check, strays))
}

/// The same where the ledger is read page by page. The retention may take a record between two pages,
/// which is no contradiction, and not there any more at the second look.
pub(super) async fn contradictions_by_pages(store: &dyn Store) -> Result<(usize, Vec<String>)> {
    let (lines, found) = by_pages(store).await?;
    if found.is_empty() {
        return Ok((lines, found));
    }
    let (lines, mut again) = by_pages(store).await?;
    again.retain(|one| found.contains(one));
    Ok((lines, again))
}

async fn by_pages(store: &dyn Store) -> Result<(usize, Vec<String>)> {
    let (mut check, mut since) = (Check::new(), 0);
    loop {
        let lines = store.ledger(since, PAGE).await?;
        let Some(last) = lines.last() else { break };
        since = last.seq;
        check = lines.into_iter().fold(check, read);
    }
    Ok(judged(&check, store.strays(SHOWN).await?))
}

fn read(check: Check, mut line: LedgerLine) -> Check {
    // No rule of the ledger by itself is about the texts, which are the bulk of it.
    if let Line::Delivery(record) = &mut line.line {
        record.text = None;
    }
    check.ledger([line])
}

fn judged(check: &Check, strays: Vec<String>) -> (usize, Vec<String>) {
    let mut found: Vec<String> = check.run().iter().map(ToString::to_string).collect();
    found.extend(strays);
    (check.lines(), found)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_executor::block_on;
    use imbabot_core::Timestamp;
    use imbabot_store::{
        AdoptSchedule, Bodies, NewOccurrence, OccurrenceCommit, OccurrenceOutcome, Operations,
        Role, Schedules,
    };

    use super::*;

    /// More than one page of lines, and many turns of the retention.
    const INSTANTS: u32 = 6_000;

    #[test]
    fn a_retention_that_has_much_to_do_is_no_contradiction() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("imbabot.db");
        let store = SqliteStore::open(&path, Role::Daemon, Bodies::Full).unwrap();
        let begin = Timestamp::from_seconds(1_772_323_200);
        let adopted = AdoptSchedule { key: "tick".into(), definition: "every second".into() };
        block_on(store.adopt_schedules(begin, vec![adopted])).unwrap();
        let at = |n: u32| begin + Duration::from_secs(u64::from(n));
        let occurrences = (1..=INSTANTS).map(|n| NewOccurrence {
            id: format!("tick@{}", at(n).compact()),
            nominal_at: at(n),
            outcome: OccurrenceOutcome::Skipped,
            reason: Some("no_rooms".into()),
            targets: Vec::new(),
            events: Vec::new(),
        });
        let commit = OccurrenceCommit {
            key: "tick".into(),
            now: at(INSTANTS),
            from: begin,
            through: at(INSTANTS),
            occurrences: occurrences.collect(),
            ranges: Vec::new(),
        };
        assert!(block_on(store.commit_occurrences(commit)).unwrap());
        let turns = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let later = at(INSTANTS) + Duration::from_secs(1_000);
                while block_on(store.prune(later, later, 10)).unwrap() > 0 {
                    turns.fetch_add(1, Ordering::Relaxed);
                }
            });
            let all = usize::try_from(INSTANTS / 10).unwrap();
            while turns.load(Ordering::Relaxed) < all {
                let (_, found) = block_on(contradictions(&store)).unwrap();
                assert!(found.is_empty(), "{:?}", found.first());
            }
        });
        let (lines, found) = block_on(contradictions(&store)).unwrap();
        assert_eq!((lines, found.len()), (1, 0), "one run is left");
    }
}
