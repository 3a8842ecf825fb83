//! `ledger`: what happened, in order, for machines; and whether it can be believed.

use std::time::Duration;

use imbabot_store::{Ledger, Line, SqliteStore};
use imbabot_testing::Check;
use serde_json::json;

use super::args::LedgerVerb;
use super::{Command, Result, clock, visit};
use crate::exit::{Exit, Failure};
use crate::output;

/// Lines per read.
const PAGE: usize = 1_000;
/// Records that differ from their last line, at most so many of a kind: one is enough.
const SHOWN: usize = 10;
/// How often a ledger that is followed is looked at.
const LOOK: Duration = Duration::from_millis(200);

pub(crate) async fn ledger(command: &Command, verb: LedgerVerb) -> Result {
    let loaded = command.loaded()?;
    let store = visit(&loaded.config)?;
    match verb {
        LedgerVerb::Export { since, follow } => export(&store, since, follow).await,
        LedgerVerb::Verify => verify(command, &store).await,
    }
}

async fn export(store: &SqliteStore, mut since: i64, follow: bool) -> Result {
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

async fn verify(command: &Command, store: &SqliteStore) -> Result {
    let (mut lines, mut found) = contradictions(store).await?;
    if !found.is_empty() {
        // The retention may have gone through it between two pages: what is really one stays one.
        (lines, found) = contradictions(store).await?;
    }
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
async fn contradictions(store: &SqliteStore) -> Result<(usize, Vec<String>)> {
    let mut check = Check::new();
    let mut since = 0;
    loop {
        let mut page = store.ledger(since, PAGE).await?;
        let Some(last) = page.last() else { break };
        since = last.seq;
        // No rule of the ledger by itself is about the texts, which are the bulk of it.
        for line in &mut page {
            if let Line::Delivery(record) = &mut line.line {
                record.text = None;
            }
        }
        check = check.ledger(page);
    }
    let mut found: Vec<String> = check.run().iter().map(ToString::to_string).collect();
    found.extend(store.strays(SHOWN).await?);
    Ok((check.lines(), found))
}
