//! What polls learn of a server beside its lists: shown, and written down rarely. In virtual time.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod common;

use common::Notebook;
use futures_executor::block_on;
use imbabot_bot::prelude::*;
use imbabot_scheduler::PollSettings;
use imbabot_store::{Capabilities, Quirk, Source};
use imbabot_testing::Harness;

fn chat(rooms: usize) -> Harness {
    let mut chat = Harness::new()
        .bot("notebook", Notebook::default())
        .with(|settings| settings.poll = PollSettings::default());
    chat.world().simulator.populate(rooms);
    chat
}

/// What the status shows.
fn shown(chat: &mut Harness) -> Capabilities {
    let status = chat.world().engine().unwrap().status();
    status.widgets.into_values().next().unwrap().capabilities.remove(&Source::Polls).unwrap()
}

/// What is on disk.
fn written(chat: &mut Harness) -> Option<(Timestamp, Capabilities)> {
    let learned = block_on(chat.world().store().learned()).unwrap();
    learned.into_iter().next().map(|learned| (learned.at, learned.capabilities))
}

#[test]
fn sizes_and_quirks_are_learned_shown_and_kept_over_a_restart() {
    let mut chat = chat(40);
    let faults = chat.world().simulator.faults();
    faults.push_spec("get_rooms:list=map").unwrap();
    faults.push_spec("get_rooms:before=@warning:list=doubled").unwrap();
    faults.push_spec("get_rooms:list=bad-row:success=true").unwrap();
    faults.push_spec("get_rooms:pages=15:times=3").unwrap();
    chat.world().start();
    chat.advance(minutes(2));
    let rooms = shown(&mut chat).rooms.unwrap();
    assert_eq!((rooms.rows, rooms.most, rooms.pages), (40, 80, 1));
    assert!(rooms.bytes > 5_000, "{rooms:?}");
    let quirks: Vec<Quirk> = rooms.quirks.iter().copied().collect();
    let all = [
        Quirk::TextAround,
        Quirk::SuccessAsWord,
        Quirk::Map,
        Quirk::Pages,
        Quirk::BadRows,
        Quirk::Duplicates,
    ];
    assert_eq!(quirks, all);
    assert!(shown(&mut chat).users.is_some(), "somebody listens to users");
    chat.world().crash();
    chat.world().start();
    let after = shown(&mut chat).rooms.unwrap();
    assert_eq!(after.quirks.into_iter().collect::<Vec<_>>(), all);
}

#[test]
fn nothing_is_written_again_while_nothing_new_is_known() {
    let mut chat = chat(40);
    chat.world().settings().poll.rooms = minutes(1);
    chat.world().start();
    chat.advance(minutes(5));
    let (first, _) = written(&mut chat).unwrap();
    chat.advance(hours(12));
    assert_eq!(written(&mut chat).unwrap().0, first);
    // Twice as many rooms: written down, an hour later at most.
    chat.world().simulator.populate(50);
    chat.advance(hours(2));
    let (second, known) = written(&mut chat).unwrap();
    assert!(second > first);
    assert_eq!(known.rooms.unwrap().rows, 90);
    chat.advance(hours(12));
    assert_eq!(written(&mut chat).unwrap().0, second);
}

#[test]
fn whether_updated_at_moves_is_learned_by_looking() {
    let mut chat = chat(3);
    let room = chat.world().simulator.rooms()[0].id;
    chat.world().simulator.configure(|options| options.bump_updated_at_on_send = false);
    chat.world().start();
    chat.world().simulator.post(room, 1, "hello").unwrap();
    chat.advance(minutes(1));
    assert!(!shown(&mut chat).updated_at_moves);
    chat.world().simulator.configure(|options| options.bump_updated_at_on_send = true);
    chat.world().simulator.post(room, 1, "hello").unwrap();
    chat.advance(minutes(1));
    assert!(shown(&mut chat).updated_at_moves);
    chat.advance(minutes(2));
    assert!(written(&mut chat).unwrap().1.updated_at_moves);
}

#[test]
fn a_clock_that_is_an_hour_ahead_is_known() {
    let mut chat = chat(1);
    chat.world().simulator.configure(|options| options.clock_offset_micros = 3_600_000_000);
    chat.world().start();
    chat.advance(minutes(1));
    let ahead = shown(&mut chat).server_ahead_seconds.unwrap();
    assert!((3_595..=3_605).contains(&ahead), "{ahead}");
}

#[test]
fn a_limit_that_was_told_is_remembered_over_a_restart_and_not_told_again() {
    let mut chat = chat(130);
    chat.world().simulator.faults().push_spec("get_rooms:limit=100:always").unwrap();
    chat.world().start();
    chat.advance(minutes(5));
    assert_eq!(shown(&mut chat).rooms.unwrap().suspected_limit, Some(100));
    chat.world().crash();
    chat.world().start();
    assert_eq!(shown(&mut chat).rooms.unwrap().suspected_limit, Some(100));
}
