//! Lists in batches, what is gone, and paging.
use std::sync::Arc;

use imbabot_bot::RoomSelector;
use imbabot_core::{Room, RoomId, User, UserId};

use super::bench::{t, widget};
use crate::{ItemChange, ListKind, PollCommit, Store};

fn room(id: u64, name: &str) -> ItemChange {
    let body = serde_json::to_string(&Room::new(RoomId(id), name)).unwrap();
    ItemChange { id, hash: id.wrapping_mul(31) ^ 7, body: Some(body), gone: false }
}

fn poll(at: i64, changes: Vec<ItemChange>, last: bool) -> PollCommit {
    let (widget, list) = (widget(), ListKind::Rooms);
    PollCommit { widget, list, now: t(at), changes, events: Vec::new(), last }
}

const HIGH: u64 = 1 << 63;

pub(crate) async fn a_baseline_stands_only_when_the_snapshot_is_whole(store: Arc<dyn Store>) {
    let widget = widget();
    let index = || store.snapshot_index(&widget, ListKind::Rooms);
    assert_eq!(index().await.unwrap(), crate::SnapshotIndex::default());
    store.commit_poll(poll(1, vec![room(1, "a")], false)).await.unwrap();
    let part = index().await.unwrap();
    assert_eq!((part.baseline_at, part.last_good_at), (None, None));
    assert_eq!(part.listed.len(), 1);
    store.commit_poll(poll(2, vec![room(2, "b")], true)).await.unwrap();
    store.commit_poll(poll(3, vec![], true)).await.unwrap();
    let whole = index().await.unwrap();
    assert_eq!((whole.baseline_at, whole.last_good_at), (Some(t(2)), Some(t(3))));
    assert_eq!(whole.listed.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 2]);
}

pub(crate) async fn lists_and_widgets_are_apart(store: Arc<dyn Store>) {
    store.commit_poll(poll(1, vec![room(1, "a")], true)).await.unwrap();
    let user = serde_json::to_string(&User::new(UserId(1))).unwrap();
    let change = ItemChange { id: 1, hash: 5, body: Some(user), gone: false };
    let users = PollCommit { list: ListKind::Users, ..poll(2, vec![change], true) };
    store.commit_poll(users).await.unwrap();
    assert_eq!(store.users_by_id(&widget(), &[1, 2]).await.unwrap().len(), 1);
    assert_eq!(store.rooms_by_id(&widget(), &[RoomId(1)]).await.unwrap().len(), 1);
    let other = "other".parse().unwrap();
    assert_eq!(store.rooms_by_id(&other, &[RoomId(1)]).await.unwrap(), []);
    let index = store.snapshot_index(&other, ListKind::Rooms).await.unwrap();
    assert_eq!(index, crate::SnapshotIndex::default());
}

pub(crate) async fn what_is_gone_may_return(store: Arc<dyn Store>) {
    store.commit_poll(poll(1, vec![room(1, "a"), room(2, "b")], true)).await.unwrap();
    let gone = ItemChange { body: None, gone: true, ..room(1, "") };
    store.commit_poll(poll(2, vec![gone], true)).await.unwrap();
    let index = store.snapshot_index(&widget(), ListKind::Rooms).await.unwrap();
    assert_eq!((index.gone, index.listed.len()), (vec![1], 1));
    assert_eq!(store.rooms_by_id(&widget(), &[RoomId(1), RoomId(2)]).await.unwrap().len(), 1);
    assert_eq!(store.rooms_after(&widget(), None, 9).await.unwrap().len(), 1);
    // Back with the body that it had.
    let back = ItemChange { body: None, ..room(1, "") };
    store.commit_poll(poll(3, vec![back], true)).await.unwrap();
    let found = store.rooms_by_id(&widget(), &[RoomId(1)]).await.unwrap();
    assert_eq!(found[0].name, "a");
    assert_eq!(store.snapshot_index(&widget(), ListKind::Rooms).await.unwrap().gone, [0_u64; 0]);
}

pub(crate) async fn rooms_are_paged_ascending_up_to_the_highest_id(store: Arc<dyn Store>) {
    let ids = [0, 1, 2, HIGH - 1, HIGH, HIGH + 1, u64::MAX];
    let changes = ids.iter().rev().map(|id| room(*id, "r")).collect();
    store.commit_poll(poll(1, changes, true)).await.unwrap();
    for limit in 1..=ids.len() + 1 {
        let (mut after, mut found) = (None, Vec::new());
        loop {
            let page = store.rooms_after(&widget(), after, limit).await.unwrap();
            assert!(page.len() <= limit && found.len() <= ids.len());
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            found.extend(page.iter().map(|room| room.id.0));
        }
        assert_eq!(found, ids, "limit {limit}");
    }
    let index = store.snapshot_index(&widget(), ListKind::Rooms).await.unwrap();
    assert_eq!(index.listed.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ids);
    let mixed = [RoomId(HIGH), RoomId(2), RoomId(5), RoomId(2)];
    let by_id = store.rooms_by_id(&widget(), &mixed).await.unwrap();
    assert_eq!(by_id.iter().map(|room| room.id.0).collect::<Vec<_>>(), [2, HIGH]);
    assert!(store.rooms_after(&widget(), None, 0).await.unwrap().is_empty());
}

pub(crate) async fn a_selector_finds_what_it_chooses_over_many_pages(store: Arc<dyn Store>) {
    for batch in 0..3_u64 {
        let changes = (0..1_000)
            .map(|n| room(batch * 1_000 + n, if n % 500 == 0 { "Team" } else { "x" }))
            .collect();
        store.commit_poll(poll(1, changes, batch == 2)).await.unwrap();
    }
    let team = RoomSelector::named("^Team").unwrap();
    let found = store.select_rooms(&widget(), &team).await.unwrap();
    let ids: Vec<_> = found.iter().map(|room| room.id.0).collect();
    assert_eq!(ids, [0, 500, 1_000, 1_500, 2_000, 2_500]);
    let all = store.select_rooms(&widget(), &RoomSelector::all()).await.unwrap();
    assert_eq!(all.len(), 3_000);
    let some = RoomSelector::ids([RoomId(5), RoomId(9_999)]);
    assert_eq!(store.select_rooms(&widget(), &some).await.unwrap().len(), 1);
}
