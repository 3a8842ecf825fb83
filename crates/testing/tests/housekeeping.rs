//! What the housekeeping shows of its jobs in the status.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use std::sync::Arc;

use futures_executor::block_on;
use imbabot_bot::prelude::*;
use imbabot_store::{Bodies, Care, CareKind, ErrorKind, Operations, SqliteStore};
use imbabot_testing::{FlakyStore, Harness};

struct Greeter;

#[async_trait]
impl Bot for Greeter {
    async fn on_event(&self, ctx: &mut Context, event: &Event) -> Result<()> {
        if let Event::Room(RoomEvent { room, .. }) = event {
            ctx.send(room.id, "Welcome");
        }
        Ok(())
    }
}

#[test]
fn each_job_says_when_it_ran_and_what_it_found() {
    let store = Arc::new(SqliteStore::in_memory(Bodies::Full).unwrap());
    let flaky = Arc::new(FlakyStore::over(store));
    let mut chat = Harness::new().over(Arc::<FlakyStore>::clone(&flaky)).bot("greeter", Greeter);
    chat.open_room("Support");
    chat.poll();
    let engine = chat.world().engine().unwrap().clone();
    assert!(engine.status().housekeeping.is_empty(), "nothing ran yet");
    let now = engine.clock().now();

    block_on(engine.verify());
    let verified = engine.status().housekeeping["verify"].clone();
    assert!(verified.records > 3, "{verified:?}");
    assert_eq!((verified.last, verified.problems, verified.running), (Some(now), 0, false));
    assert_eq!(verified.next, Some("2026-03-03T03:41:37Z".parse().unwrap()));

    // Also for whoever asks the store, after a restart.
    let cared = block_on(Operations::care(&*flaky)).unwrap();
    let told = String::new();
    assert_eq!(cared, [Care { what: CareKind::Verify, at: now, well: true, told }]);

    block_on(engine.prune());
    let pruned = engine.status().housekeeping["prune"].clone();
    assert_eq!((pruned.last, pruned.records, pruned.problems), (Some(now), 0, 0));
    assert_eq!(pruned.next, Some("2026-03-02T10:00:17Z".parse().unwrap()));

    flaky.fail("inspect", 1, ErrorKind::Retryable);
    block_on(engine.verify());
    let failed = engine.status().housekeeping["verify"].clone();
    assert_eq!((failed.problems, failed.found.len()), (1, 1), "{failed:?}");
    assert!(engine.reasons().is_empty(), "it holds up nothing");
    block_on(engine.verify());
    assert_eq!(engine.status().housekeeping["verify"].problems, 0);
}
