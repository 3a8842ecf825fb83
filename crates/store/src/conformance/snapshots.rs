//! The lists of a widget, element by element.

#![allow(missing_docs, reason = "the name of a case is its sentence")]

use std::sync::Arc;

use imbabot_bot::RoomSelector;
use imbabot_core::{Room, RoomId, RoomKind, User, UserId};

use super::Backend;
use super::support::*;
use crate::{ItemChange, ListKind, PollCommit, SnapshotIndex, Store};

fn item(id: u64, name: &str) -> ItemChange {
    let body = serde_json::to_string(&Room::new(RoomId(id), name)).unwrap();
    ItemChange { id, hash: id ^ u64::MAX, body: Some(body), gone: false }
}

fn gone(id: u64) -> ItemChange {
    ItemChange { id, hash: 0, body: None, gone: true }
}

fn poll(store: &Arc<dyn Store>, now: i64, changes: Vec<ItemChange>, last: bool) {
    let (widget, list) = (widget("w"), ListKind::Rooms);
    run(store.commit_poll(PollCommit {
        widget,
        list,
        now: at(now),
        changes,
        events: vec![],
        last,
    }));
}

fn index(store: &Arc<dyn Store>) -> SnapshotIndex {
    run(store.snapshot_index(&widget("w"), ListKind::Rooms))
}

fn names(rooms: Vec<Room>) -> Vec<String> {
    rooms.into_iter().map(|room| room.name).collect()
}

pub fn a_snapshot_is_the_baseline_once_it_is_whole(backend: &dyn Backend) {
    let store = backend.empty();
    assert_eq!(index(&store), SnapshotIndex::default());
    poll(&store, 1, vec![item(2, "b")], false);
    assert_eq!(index(&store).baseline_at, None);
    let baseline = || run(store.baseline_at(&widget("w"), ListKind::Rooms));
    assert_eq!(baseline(), None);
    poll(&store, 2, vec![item(1, "a")], true);
    poll(&store, 3, vec![], true);
    let found = index(&store);
    assert_eq!((found.baseline_at, found.last_good_at), (Some(at(2)), Some(at(3))));
    assert_eq!(found.listed, [(1, 1 ^ u64::MAX), (2, 2 ^ u64::MAX)]);
    assert!(found.gone.is_empty());
    assert_eq!(baseline(), Some(at(2)));
    assert_eq!(run(store.snapshot_index(&widget("v"), ListKind::Rooms)), SnapshotIndex::default());
    assert_eq!(run(store.snapshot_index(&widget("w"), ListKind::Users)), SnapshotIndex::default());
}

pub fn what_is_gone_is_remembered_and_not_listed(backend: &dyn Backend) {
    let store = backend.empty();
    poll(&store, 1, vec![item(1, "a"), item(2, "b")], true);
    poll(&store, 2, vec![gone(1), gone(7)], true);
    let found = index(&store);
    assert_eq!((found.listed.len(), found.gone), (1, vec![1]));
    let both = [RoomId(1), RoomId(2)];
    assert_eq!(names(run(store.rooms_by_id(&widget("w"), &both))), ["b"]);
    assert_eq!(names(run(store.rooms_after(&widget("w"), None, 9))), ["b"]);
    // It returns with the body that is still there, or with a new one.
    poll(&store, 3, vec![ItemChange { gone: false, hash: 9, ..gone(1) }], true);
    assert_eq!(index(&store).listed[0], (1, 9));
    assert_eq!(names(run(store.rooms_by_id(&widget("w"), &both))), ["a", "b"]);
    poll(&store, 4, vec![item(1, "again")], true);
    assert_eq!(names(run(store.rooms_after(&widget("w"), None, 1))), ["again"]);
}

pub fn rooms_come_in_pages_by_ascending_number_to_the_largest(backend: &dyn Backend) {
    let store = backend.empty();
    let half = 1 << 63;
    let ids = [0, 1, 5, half - 1, half, half + 1, u64::MAX - 1, u64::MAX];
    poll(&store, 1, ids.iter().rev().map(|id| item(*id, &id.to_string())).collect(), true);
    assert_eq!(index(&store).listed.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ids);
    for limit in 1..=9 {
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let page = run(store.rooms_after(&widget("w"), after, limit));
            assert!(page.len() <= limit);
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            found.extend(page.into_iter().map(|room| room.id.0));
        }
        assert_eq!(found, ids, "by {limit}");
    }
    assert!(run(store.rooms_after(&widget("w"), None, 0)).is_empty());
    let some = [RoomId(u64::MAX), RoomId(1), RoomId(half), RoomId(1), RoomId(44)];
    let found = run(store.rooms_by_id(&widget("w"), &some));
    assert_eq!(found.iter().map(|room| room.id.0).collect::<Vec<_>>(), [1, half, u64::MAX]);
}

pub fn an_index_of_any_length_comes_whole_and_in_order(backend: &dyn Backend) {
    // The index is read in pieces that nobody sees: around the ends of two of them, with rooms that are
    // gone in between, up to the largest numbers.
    for count in [9_999, 10_000, 10_001, 20_000, 25_003] {
        let store = backend.empty();
        let number = |n: u64| if n.is_multiple_of(2) { n } else { u64::MAX - n };
        let is_gone = |n: u64| n % 7 == 3;
        let changes: Vec<ItemChange> = (0..count)
            .map(|n| ItemChange { gone: is_gone(n), hash: n, ..item(number(n), "room") })
            .collect();
        for part in changes.chunks(1_000) {
            poll(&store, 1, part.to_vec(), false);
        }
        poll(&store, 2, vec![], true);
        let found = index(&store);
        let mut listed: Vec<(u64, u64)> =
            (0..count).filter(|n| !is_gone(*n)).map(|n| (number(n), n)).collect();
        let mut gone: Vec<u64> = (0..count).filter(|n| is_gone(*n)).map(number).collect();
        listed.sort_unstable();
        gone.sort_unstable();
        assert!(found.listed == listed, "{count}: {} listed", found.listed.len());
        assert!(found.gone == gone, "{count}: {} gone", found.gone.len());
    }
}

pub fn a_selector_chooses_among_all_rooms(backend: &dyn Backend) {
    let store = backend.empty();
    let rooms = (1..=2_500).map(|id| {
        let mut room = Room::new(RoomId(id), format!("room {id}"));
        room.kind = if id % 500 == 0 { RoomKind::Support } else { RoomKind::Dialogue };
        let body = serde_json::to_string(&room).unwrap();
        ItemChange { id, hash: id, body: Some(body), gone: id == 1_500 }
    });
    for part in rooms.collect::<Vec<_>>().chunks(1_000) {
        poll(&store, 1, part.to_vec(), part.len() < 1_000);
    }
    let chosen = |selector| {
        let rooms = run(store.select_rooms(&widget("w"), &selector));
        rooms.into_iter().map(|room| room.id.0).collect::<Vec<_>>()
    };
    assert_eq!(chosen(RoomSelector::of_kind(RoomKind::Support)), [500, 1_000, 2_000, 2_500]);
    assert_eq!(chosen(RoomSelector::all()).len(), 2_499);
    assert_eq!(chosen(RoomSelector::named("^room 250.?$").unwrap()), [250, 2_500]);
    assert_eq!(chosen(RoomSelector::ids([RoomId(9), RoomId(3), RoomId(9_999)])), [3, 9]);
}

pub fn users_are_kept_beside_rooms(backend: &dyn Backend) {
    let store = backend.empty();
    poll(&store, 1, vec![item(1, "a")], true);
    let user = User::new(UserId(1));
    let body = Some(serde_json::to_string(&user).unwrap());
    let changes = vec![ItemChange { id: 1, hash: 4, body, gone: false }];
    let (now, list) = (at(2), ListKind::Users);
    run(store.commit_poll(PollCommit {
        widget: widget("w"),
        list,
        now,
        changes,
        events: vec![],
        last: true,
    }));
    assert_eq!(run(store.users_by_id(&widget("w"), &[1, 2])), [user]);
    assert_eq!(names(run(store.rooms_by_id(&widget("w"), &[RoomId(1)]))), ["a"]);
}

pub fn a_room_and_its_events_are_committed_together(backend: &dyn Backend) {
    let bench = Bench::new(backend);
    bench.adopt(at(0), &["b"]);
    let poll = PollCommit {
        widget: widget("w"),
        list: ListKind::Rooms,
        now: at(1),
        changes: vec![item(1, "a")],
        events: vec![opened(1, &["b"])],
        last: true,
    };
    run(bench.store.commit_poll(poll));
    assert_eq!(names(run(bench.store.rooms_after(&widget("w"), None, 9))), ["a"]);
    assert_eq!(bench.entry(at(2)).body.room(), Some(RoomId(1)));
}
