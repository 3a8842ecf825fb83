//! How long a `send` waits for its claim while every room of a list changes: from the row, which
//! another process adds, to the attempt, which the daemon makes. Both instants are the ledger's.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use imbabot_core::Timestamp;
use serde_json::Value;

/// Between two of them: half of the rate that a widget has by default.
const PAUSE: Duration = Duration::from_millis(200);

/// Sends, each into a room of its own, until `is_over`.
pub(super) fn send_until(
    binary: &Path,
    config: &Path,
    mut is_over: impl FnMut() -> bool,
) -> anyhow::Result<()> {
    let mut room = 0;
    while !is_over() {
        room += 1;
        let mut send = Command::new(binary);
        send.arg("send").arg("--config").arg(config).args(["--room", &room.to_string(), "Hello!"]);
        let status = send.stdout(Stdio::null()).status()?;
        anyhow::ensure!(status.success(), "`send` ended with {status}");
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// From row to first attempt, in milliseconds, ascending.
pub(super) fn waits(binary: &Path, config: &Path) -> anyhow::Result<Vec<f64>> {
    let export =
        Command::new(binary).args(["ledger", "export", "--config"]).arg(config).output()?;
    anyhow::ensure!(export.status.success(), "`ledger export` ended with {}", export.status);
    let mut created = BTreeMap::new();
    let mut attempted = BTreeMap::new();
    for line in String::from_utf8(export.stdout)?.lines() {
        let line: Value = serde_json::from_str(line)?;
        let text = |field: &str| line.get(field).and_then(Value::as_str).context("a field");
        let (id, field, into) = match text("kind")? {
            "delivery" => (text("id")?, "created_at", &mut created),
            "attempt" => (text("delivery")?, "started_at", &mut attempted),
            _ => continue,
        };
        let at: Timestamp = text(field)?.parse().map_err(|_| anyhow::anyhow!("no instant"))?;
        into.entry(id.to_owned()).or_insert(at);
    }
    let waited = |(id, at): (&String, &Timestamp)| {
        attempted.get(id).map(|begun| begun.since(*at).as_secs_f64() * 1000.0)
    };
    let mut waits: Vec<f64> = created.iter().filter_map(waited).collect();
    waits.sort_by(f64::total_cmp);
    anyhow::ensure!(!waits.is_empty(), "nothing was sent");
    Ok(waits)
}
