//! Several instances on one PostgreSQL: who is believed, who is refused, who takes over.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this is a test suite")]
#![allow(clippy::disallowed_methods, reason = "leases run out in the database's own time")]

mod postgres_support;

use std::time::Duration;

use futures_executor::block_on;
use imbabot_core::Timestamp;
use imbabot_store::{Bodies, ErrorKind, Fleet, Lifecycle, Settle, Standing, Unit};
use postgres_support::database;

const RULES: Settle = Settle {
    wait: Duration::from_secs(60),
    max_resends: 2,
    unresolved_after: Duration::from_secs(86_400),
};

#[test]
fn m9_two_instances_of_one_name_are_two() {
    let Some(database) = database() else { return };
    let schema = database.name();
    let first = database.connect(&schema, Bodies::Full, Duration::from_secs(10)).temporary(&schema);
    let second = database.open(&schema, Bodies::Full, Duration::from_secs(10));
    let now = Timestamp::from_micros(1_772_323_200_000_000);
    let one = block_on(first.begin(now, "1", RULES)).unwrap();
    let two = block_on(second.begin(now, "1", RULES)).unwrap();
    assert_ne!(one.incarnation, two.incarnation);
    let units = [Unit::Schedules, Unit::Widget("w".parse().unwrap())];
    let Standing::Member(all) = block_on(first.heartbeat(one.incarnation, &units, RULES)).unwrap()
    else {
        panic!()
    };
    let Standing::Member(rest) =
        block_on(second.heartbeat(two.incarnation, &units, RULES)).unwrap()
    else {
        panic!()
    };
    assert_eq!((all.units.len(), rest.units.len()), (1, 1));
    assert_eq!(block_on(first.instances()).unwrap().len(), 2);
}

#[test]
fn who_was_taken_for_dead_is_refused() {
    let Some(database) = database() else { return };
    let schema = database.name();
    let first =
        database.connect(&schema, Bodies::Full, Duration::from_millis(50)).temporary(&schema);
    let second = database.open(&schema, Bodies::Full, Duration::from_secs(10));
    let now = Timestamp::from_micros(1_772_323_200_000_000);
    let one = block_on(first.begin(now, "1", RULES)).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let two = block_on(second.begin(now, "1", RULES)).unwrap();
    assert!(two.after_crash);
    let refused = block_on(first.heartbeat(one.incarnation, &[], RULES)).unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::Fenced);
}

#[test]
fn a_lease_ends_also_where_the_clock_of_the_database_was_set_back() {
    let Some(database) = database() else { return };
    let schema = database.name();
    let lease = Duration::from_secs(1);
    let first = database.connect(&schema, Bodies::Full, lease).temporary(&schema);
    let second = database.open(&schema, Bodies::Full, lease);
    let now = Timestamp::from_micros(1_772_323_200_000_000);
    let one = block_on(first.begin(now, "1", RULES)).unwrap();
    let two = block_on(second.begin(now, "1", RULES)).unwrap();
    // Its last heartbeat was an hour ahead, by what the clock shows now.
    database.run(&format!(
        "UPDATE {schema}.lease SET heartbeat_at = heartbeat_at + 3600000000, until = until + 3600000000
         WHERE incarnation = {}",
        one.incarnation.0
    ));
    let ended = || match block_on(second.heartbeat(two.incarnation, &[], RULES)).unwrap() {
        Standing::Member(all) => all.ended.len(),
        Standing::Alone => panic!(),
    };
    assert_eq!(ended(), 0, "it may only not have had its turn");
    std::thread::sleep(lease + Duration::from_millis(100));
    assert_eq!(ended(), 1);
}
