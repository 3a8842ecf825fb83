//! `ledger`: what happened, in order, for machines; and whether it can be believed.

use std::time::Duration;

use imbabot_store::{Ledger, SqliteStore};
use imbabot_testing::Check;
use serde_json::json;

use super::args::LedgerVerb;
use super::{Command, Result, clock, visit};
use crate::exit::{Exit, Failure};
use crate::output;

/// Lines per read.
const PAGE: usize = 1_000;
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
    let mut lines = Vec::new();
    let mut since = 0;
    loop {
        let page = store.ledger(since, PAGE).await?;
        let Some(last) = page.last() else { break };
        since = last.seq;
        lines.extend(page);
    }
    let count = lines.len();
    let violations = Check::new().ledger(lines).run();
    if let Some(first) = violations.first() {
        return Err(Failure::new(
            Exit::Store,
            "IMB-S-CONTRADICTION",
            format!(
                "the ledger contradicts itself in {} places; the first: {first}",
                violations.len()
            ),
        ));
    }
    command
        .output
        .data(&json!({"ok": true, "lines": count}), || format!("{count} lines, no contradiction"));
    Ok(Exit::Ok)
}
