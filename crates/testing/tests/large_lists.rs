//! Lists of many rooms in virtual time: of which more changed than is held in memory, with a row among
//! ten thousand that is none, in another order each time.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod common;
#[path = "../src/random.rs"]
mod random;

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use common::Notebook;
use futures_executor::block_on;
use imbabot_core::{Api, Endpoint, Request, Response, Room, Timestamp, Transport, TransportError};
use imbabot_scheduler::NotReady;
use imbabot_store::{ListKind, Quirk, Source};
use imbabot_testing::{Harness, SimTransport, World};
use random::Random;

/// Answers with the rooms in another order each time, some of them twice, the first time as they never
/// were.
struct Shuffling(SimTransport, Mutex<Random>);

#[async_trait]
impl Transport for Shuffling {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let is_list = request.endpoint == Endpoint::GetRooms;
        let mut response = self.0.send(request).await?;
        if !is_list {
            return Ok(response);
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.body.chunk().await? {
            body.extend_from_slice(&chunk);
        }
        let mut list: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let rows = list["data"].as_array_mut().unwrap();
        let mut random = self.1.lock().unwrap();
        for last in (1..rows.len()).rev() {
            rows.swap(last, random.place(last + 1));
        }
        let mut again: Vec<_> = rows.iter().filter(|_| random.below(10) == 0).cloned().collect();
        again.iter_mut().for_each(|row| row["name"] = "never so".into());
        again.append(rows);
        *rows = again;
        Ok(Response::chunks(response.status, response.headers, [Ok(list.to_string().into())]))
    }
}

#[test]
fn b12_rows_in_another_order_each_time_and_some_of_them_twice_are_no_news() {
    let notebook = Notebook::default();
    let mut chat = Harness::new().bot("notebook", notebook.clone());
    let world = chat.world();
    world.simulator.populate(2_000);
    let direct = SimTransport::new(world.simulator.clone(), Arc::new(world.clock.clone()));
    let credentials = world.settings().widgets[0].api.credentials().clone();
    let shuffling = Arc::new(Shuffling(direct, Mutex::new(Random(12))));
    world.settings().widgets[0].api = Api::new(shuffling, credentials);
    for _ in 0..25 {
        chat.poll();
    }
    assert_eq!(notebook.take(), Vec::<String>::new());
    // A change among them is seen once.
    let room = chat.world().simulator.rooms()[1_000].id;
    chat.world().simulator.rename_room(room, "Renamed").unwrap();
    for _ in 0..3 {
        chat.poll();
    }
    assert_eq!(notebook.take(), ["renamed Renamed"]);
    let quirks = &known_of(chat.world()).quirks;
    assert!(quirks.contains(&Quirk::Duplicates) && !quirks.contains(&Quirk::BadRows), "{quirks:?}");
}

/// What polls have learned of the list of rooms.
fn known_of(world: &World) -> imbabot_store::ListFacts {
    let status = world.engine().unwrap().status();
    let widget = status.widgets.values().next().unwrap();
    widget.capabilities[&Source::Polls].rooms.clone().unwrap()
}

/// The rooms that are stored, by number.
fn stored(world: &World) -> Vec<Room> {
    let ids: Vec<_> =
        world.simulator.rooms().iter().map(|room| room.id.unsigned_abs().into()).collect();
    block_on(world.store().rooms_by_id(&"main".parse().unwrap(), &ids)).unwrap()
}

#[test]
fn b11_of_ten_thousand_rows_one_is_bad_and_the_others_are_served() {
    let mut world = World::new(Timestamp::from_micros(1_800_000_000_000_000));
    world.simulator.populate(10_000);
    let bad_row = "get_rooms:list=bad-row";
    // In the first list of all.
    world.simulator.faults().push_spec(bad_row).unwrap();
    world.start();
    assert_eq!(stored(&world).len(), 9_999);
    world.poll();
    assert_eq!(stored(&world).len(), 10_000);
    // In a list in which every other row changed: that room stays as it was until its row can be read.
    for room in world.simulator.rooms() {
        world.simulator.rename_room(room.id, "Renamed").unwrap();
    }
    let renamed = |world: &World| stored(world).iter().filter(|r| r.name == "Renamed").count();
    for _ in 0..5 {
        world.simulator.faults().push_spec(bad_row).unwrap();
        world.poll();
        assert_eq!((renamed(&world), stored(&world).len()), (9_999, 10_000));
    }
    world.poll();
    assert_eq!(renamed(&world), 10_000);
    assert!(known_of(&world).quirks.contains(&Quirk::BadRows));
}

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
