//! Lists of which more changed than is held in memory, in virtual time.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use futures_executor::block_on;
use imbabot_core::Timestamp;
use imbabot_scheduler::NotReady;
use imbabot_store::ListKind;
use imbabot_testing::World;

/// Some five megabytes; one is held in memory.
const ROOMS: usize = 20_000;

fn world() -> World {
    let world = World::new(Timestamp::from_micros(1_800_000_000_000_000));
    world.simulator.populate(ROOMS);
    world
}

fn known(world: &World) -> usize {
    let main = "main".parse().unwrap();
    block_on(world.store().snapshot_index(&main, ListKind::Rooms)).unwrap().listed.len()
}

#[test]
fn a_list_that_is_larger_than_the_memory_for_it_waits_in_a_file_and_is_committed_whole() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = world();
    world.settings().spool = Some(folder.path().to_owned());
    world.poll();
    assert_eq!(known(&world), ROOMS);
    let rooms = world.simulator.rooms();
    for room in &rooms {
        world.simulator.rename_room(room.id, &format!("{} again, {}", room.name, room.id)).unwrap();
    }
    world.poll();
    let ids: Vec<_> = rooms.iter().map(|room| room.id.unsigned_abs().into()).collect();
    let stored = block_on(world.store().rooms_by_id(&"main".parse().unwrap(), &ids)).unwrap();
    assert_eq!(stored.len(), ROOMS);
    for (before, after) in rooms.iter().zip(&stored) {
        assert_eq!(after.name, format!("{} again, {}", before.name, before.id));
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn what_cannot_be_kept_until_it_is_committed_is_no_snapshot() {
    let mut world = world();
    world.settings().spool = Some("/nowhere".into());
    world.start();
    assert_eq!(known(&world), 0);
    assert!(world.engine().unwrap().reasons().contains(&NotReady::StoreUnwritable));
    assert!(world.metrics().contains("imbabot_snapshots_rejected_total{why=\"spool\"} 1"));
    // Once there is room, the list is had whole, and is a baseline as ever.
    world.settings().spool = None;
    world.reload();
    assert_eq!(known(&world), ROOMS);
    assert!(world.engine().unwrap().reasons().is_empty());
}
