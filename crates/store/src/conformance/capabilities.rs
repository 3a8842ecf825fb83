//! What is known of servers.

#![allow(missing_docs, reason = "the name of a case is its sentence")]

use super::Backend;
use super::support::*;
use crate::{Capabilities, Honoured, Learned, ListFacts, Quirk, Source};

pub fn what_was_learned_replaces_what_the_same_source_knew_of_that_widget(backend: &dyn Backend) {
    let store = backend.empty();
    assert_eq!(run(store.learned()), []);
    let learned = |name: &str, source, now, rows| {
        let quirks = [Quirk::Map, Quirk::BadRows].into();
        let facts = ListFacts { rows, most: u64::MAX, quirks, ..ListFacts::default() };
        let filters = [("get_rooms.room_type".to_owned(), Honoured::Wrongly)].into();
        let capabilities = Capabilities { rooms: Some(facts), filters, ..Capabilities::default() };
        Learned { widget: widget(name), source, at: at(now), capabilities }
    };
    for (name, source, now, rows) in [
        ("w", Source::Polls, 1, 10),
        ("w", Source::Doctor, 2, 20),
        ("v", Source::Polls, 3, 30),
        ("w", Source::Polls, 4, 40),
    ] {
        run(store.learn(learned(name, source, now, rows)));
    }
    let known = [
        learned("v", Source::Polls, 3, 30),
        learned("w", Source::Doctor, 2, 20),
        learned("w", Source::Polls, 4, 40),
    ];
    assert_eq!(run(store.learned()), known);
}
