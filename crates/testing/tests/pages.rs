//! Lists that come in pages, should ImbaChat ever send them so: all of them or none, and nobody but
//! ImbaChat is asked. In virtual time.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod common;

use common::Notebook;
use imbabot_simulator::Endpoint;
use imbabot_store::ListKind;
use imbabot_testing::Harness;

/// A chat of forty rooms that a bot knows already.
fn chat() -> (Harness, Notebook) {
    let notebook = Notebook::default();
    let mut chat = Harness::new().bot("notebook", notebook.clone());
    chat.world().simulator.populate(40);
    chat.poll();
    notebook.take();
    (chat, notebook)
}

fn fault(chat: &mut Harness, spec: &str) {
    chat.world().simulator.faults().push_spec(spec).unwrap();
}

/// How many requests for rooms there were.
fn asked(chat: &mut Harness) -> usize {
    let log = chat.world().simulator.log();
    log.iter().filter(|entry| entry.endpoint == Some(Endpoint::GetRooms)).count()
}

/// What the last poll came to.
fn outcome(chat: &mut Harness) -> (String, Option<u64>) {
    let widget = chat.world().engine().unwrap().status().widgets.into_values().next().unwrap();
    (widget.last_outcome.unwrap(), widget.rooms)
}

#[test]
fn pages_of_either_kind_are_one_list() {
    for pages in ["pages=7", "pages-beside=7", "pages=40", "pages-beside=1"] {
        let (mut chat, notebook) = chat();
        fault(&mut chat, &format!("get_rooms:{pages}:always"));
        let before = asked(&mut chat);
        chat.world().simulator.open_room("New");
        chat.poll();
        assert_eq!(outcome(&mut chat), ("ok".to_owned(), Some(41)), "{pages}");
        assert_eq!(notebook.take(), ["opened New"], "{pages}");
        let size: usize = pages.split_once('=').unwrap().1.parse().unwrap();
        assert_eq!(asked(&mut chat) - before, 41_usize.div_ceil(size), "{pages}");
        chat.world().check();
    }
}

#[test]
fn a_page_that_fails_makes_no_snapshot_of_the_others() {
    for failure in
        ["status=500", "list=null", "truncate=300", "body=@html", "other-widget=1", "close=rst"]
    {
        for page in 1..=6 {
            let (mut chat, notebook) = chat();
            fault(&mut chat, &format!("get_rooms:{failure}:nth={page}"));
            fault(&mut chat, "get_rooms:pages=7:always");
            chat.world().simulator.open_room("New");
            chat.poll();
            let (outcome, rooms) = outcome(&mut chat);
            assert_ne!(outcome, "ok", "{failure} on page {page}");
            assert_eq!(rooms, Some(40), "{failure} on page {page}");
            assert_eq!(notebook.take(), Vec::<String>::new(), "{failure} on page {page}");
            chat.poll();
            assert_eq!(notebook.take(), ["opened New"], "{failure} on page {page}");
        }
    }
}

#[test]
fn pages_that_lead_elsewhere_or_go_round_are_no_list_and_are_given_up_at_once() {
    for (next, requests) in [
        ("https\\://elsewhere.example/?page=2", 1),
        ("//elsewhere.example/?page=2", 1),
        ("?page=1", 1),
        ("?page=2", 2),
        ("https\\://api.imbachat.com/rooms?cursor=abc", 2),
    ] {
        let (mut chat, notebook) = chat();
        fault(&mut chat, &format!("get_rooms:pages=7:next-page={next}:always"));
        let before = asked(&mut chat);
        chat.poll();
        assert_eq!(outcome(&mut chat), ("pages".to_owned(), Some(40)), "{next}");
        assert_eq!(asked(&mut chat) - before, requests, "{next}");
        assert_eq!(notebook.take(), Vec::<String>::new(), "{next}");
        let metrics = chat.world().metrics();
        assert!(metrics.contains("imbabot_snapshots_rejected_total{why=\"pages\"} 1"), "{metrics}");
        let status = chat.world().engine().unwrap().status();
        let problem = status.widgets.into_values().next().unwrap().problem.unwrap();
        assert!(problem.contains("page"), "{problem}");
    }
}

#[test]
fn users_come_in_pages_too() {
    let mut chat = Harness::new().bot("notebook", Notebook::default());
    for person in 1..=20 {
        chat.world().simulator.join(&format!("Person {person}"), person);
    }
    fault(&mut chat, "get_users:pages=6:always");
    chat.poll();
    let main = "main".parse().unwrap();
    let store = chat.world().store();
    let users = futures_executor::block_on(store.snapshot_index(&main, ListKind::Users));
    assert_eq!(users.unwrap().listed.len(), 20);
}
