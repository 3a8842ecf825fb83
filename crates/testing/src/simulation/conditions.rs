//! What a history takes place under: when it begins, how fast the server answers and how far its
//! clock is off, and the daemon's bounds. Made by the seed alone, so that a shrunken history keeps it.

use std::time::Duration;

use imbabot_bot::Policy;
use imbabot_bot::units::{hours, minutes, seconds};
use imbabot_core::Timestamp;
use imbabot_scheduler::{Rate, Settings};
use imbabot_simulator::Options;

use crate::random::Random;

/// The conditions of a seed.
#[derive(Debug, Clone)]
pub(super) struct Conditions {
    pub(super) start: Timestamp,
    latency: Duration,
    /// How far the server's clock is ahead, in microseconds.
    pub(super) ahead: i64,
    rate: Rate,
    rate_per_room: Rate,
    policy: Policy,
    polls: Duration,
    max_resends: u32,
}

/// An ordinary day, the eves of both changes of clocks, the ends of years, a leap day.
const STARTS: [i64; 6] = [
    1_772_445_600, // 2026-03-02T10:00:00Z
    1_774_735_200, // 2026-03-28T22:00:00Z
    1_792_879_200, // 2026-10-24T22:00:00Z
    1_798_756_200, // 2026-12-31T22:30:00Z
    1_835_388_000, // 2028-02-28T10:00:00Z
    1_777_600_799, // 2026-05-01T01:59:59Z
];

impl Conditions {
    pub(super) fn of(seed: u64) -> Self {
        let mut random = Random::of(seed ^ 0x0c0d_1710);
        Self {
            start: Timestamp::from_seconds(random.pick(&STARTS)),
            latency: random.pick(&[0, 0, 40, 700, 3_000].map(Duration::from_millis)),
            ahead: random.pick(&[0, 0, 0, 3_000_000, -90_000_000, 7_200_000_000]),
            rate: Rate::new(random.pick(&[1, 5, 20]), seconds(1)),
            rate_per_room: Rate::new(random.pick(&[1, 2, 10]), seconds(1)),
            policy: random.pick(&[Policy::AtMostOnce, Policy::AtMostOnce, Policy::AtLeastOnce]),
            polls: random.pick(&[minutes(2), minutes(7), minutes(20)]),
            max_resends: random.pick(&[0, 2, 2, 5]),
        }
    }

    pub(super) fn of_server(&self, options: &mut Options) {
        options.latency_micros = u64::try_from(self.latency.as_micros()).unwrap_or_default();
        options.clock_offset_micros = self.ahead;
    }

    pub(super) fn of_daemon(&self, settings: &mut Settings) {
        settings.delivery.rate = self.rate;
        settings.delivery.rate_per_room = self.rate_per_room;
        settings.delivery.policy = self.policy;
        settings.delivery.settle.max_resends = self.max_resends;
        settings.delivery.settle.unresolved_after = hours(2);
        settings.poll.rooms = self.polls;
        settings.poll.users = self.polls * 3;
    }

    pub(super) fn rate(&self) -> Rate {
        self.rate
    }
}
