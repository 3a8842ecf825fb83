//! Lists that the server may cut without saying so: told once, believed as they are. In virtual time.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod common;

use common::Notebook;
use imbabot_testing::Harness;

fn chat(rooms: usize, fault: &str) -> Harness {
    let mut chat = Harness::new().bot("notebook", Notebook::default());
    chat.world().simulator.populate(rooms);
    if !fault.is_empty() {
        chat.world().simulator.faults().push_spec(fault).unwrap();
    }
    chat
}

fn suspected(chat: &mut Harness) -> Option<u64> {
    let status = chat.world().engine().unwrap().status();
    status.widgets.into_values().next().unwrap().suspected_limits.get("rooms").copied()
}

#[test]
fn a_list_that_ends_at_a_round_number_from_the_first_look_on_is_told_after_ten() {
    let mut chat = chat(130, "get_rooms:limit=100:always");
    // The first is asked for twice: at the start, and now.
    for _ in 0..8 {
        chat.poll();
        assert_eq!(suspected(&mut chat), None);
    }
    chat.poll();
    assert_eq!(suspected(&mut chat), Some(100));
    // The limit goes: nothing is wrong any more.
    chat.world().simulator.faults().clear();
    chat.poll();
    assert_eq!(suspected(&mut chat), None);
    chat.world().check();
}

#[test]
fn a_list_that_shows_only_the_newest_is_told_once_three_rooms_came() {
    let mut chat = chat(95, "get_rooms:newest=100:always");
    for n in 0..7 {
        chat.poll();
        assert_eq!(suspected(&mut chat), None, "{n}");
        chat.world().simulator.open_room("New");
    }
    // 95 to 100 grew; from then on each new room pushes an old one out.
    chat.poll();
    chat.world().simulator.open_room("New");
    chat.poll();
    assert_eq!(suspected(&mut chat), Some(100));
}

#[test]
fn sites_of_a_hundred_rooms_that_are_all_there_are_left_alone_where_they_grew_or_shrank_to_it() {
    let mut grown = chat(99, "");
    grown.poll();
    grown.world().simulator.open_room("The hundredth");
    let mut shrunk = chat(101, "");
    shrunk.poll();
    let first = shrunk.world().simulator.rooms()[0].id;
    shrunk.world().simulator.close_room(first, true).unwrap();
    let mut paged = chat(100, "get_rooms:pages=20:always");
    for chat in [&mut grown, &mut shrunk, &mut paged] {
        for _ in 0..50 {
            chat.poll();
            assert_eq!(suspected(chat), None);
        }
    }
}
