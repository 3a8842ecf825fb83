//! Random numbers from a seed (`SplitMix64`): the same seed, the same history, on every machine. They are
//! not for secrets. Tests of other crates have this very file, so it asks for nothing but the standard
//! library.

#![allow(dead_code, reason = "whoever has this file uses its part of it")]

use std::time::Duration;

#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// Numbers that have nothing to do with those of the neighbouring seed.
    pub(crate) fn of(seed: u64) -> Self {
        let mut random = Self(seed);
        Self(random.next() ^ seed.rotate_left(32))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than the bound; 0 below 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub(crate) fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }

    /// A place among so many; 0 among none.
    pub(crate) fn place(&mut self, many: usize) -> usize {
        usize::try_from(self.below(many as u64)).unwrap_or_default()
    }

    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.place(from.len())].clone()
    }

    pub(crate) fn seconds(&mut self, bound: u64) -> Duration {
        Duration::from_secs(self.below(bound))
    }

    pub(crate) fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }

    /// A length that is as likely to be short as to be long: of each order of magnitude.
    pub(crate) fn length(&mut self, least: Duration, most: Duration) -> Duration {
        let millis = |length: Duration| u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        let (least, most) = (millis(least).max(1), millis(most));
        let orders = u64::from(64 - (most / least).leading_zeros());
        let scale = least << self.below(orders);
        Duration::from_millis((scale + self.below(scale)).min(most))
    }
}
