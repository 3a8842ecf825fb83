//! Whether the daemon makes progress is asked of its tasks, not of a clock of its own: what hangs is
//! noticed, and what goes on again is well.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::time::Duration;

use imbabot_testing::World;

#[test]
fn tasks_that_do_nothing_for_three_minutes_are_not_alive_until_they_go_on() {
    let mut world = World::new("2026-03-30T07:00:00Z".parse().unwrap());
    world.start();
    let alive = |world: &World| world.engine().unwrap().is_alive();
    assert!(alive(&world));
    // Time passes and no task has its turn: as if the store did not answer.
    world.clock.advance(Duration::from_secs(179));
    assert!(alive(&world), "each looks around once a minute; twice may be missed");
    world.clock.advance(Duration::from_secs(1));
    assert!(!alive(&world));
    world.engine().unwrap().wake();
    world.step();
    assert!(alive(&world), "it went on");
}
