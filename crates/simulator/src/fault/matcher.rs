//! Which requests a fault takes. Looks at the endpoint and the room, and counts; never at what
//! the request says.

use crate::endpoints::Endpoint;
use crate::rng::Rng;

/// Which requests a fault takes. `Matcher::any()` and `Matcher::on(…)` take the next request that
/// fits and no other; the methods change that.
#[derive(Debug, Clone, PartialEq)]
pub struct Matcher {
    /// Requests to this endpoint; to any of the three if `None`.
    pub endpoint: Option<Endpoint>,
    /// Requests with this `room_id`.
    pub room: Option<i64>,
    /// How many fitting requests pass first.
    pub skip: u64,
    /// Then each so-manieth, from the first on. 1 is every one.
    pub every: u64,
    /// How many in all; without end if `None`.
    pub times: Option<u64>,
    /// With this probability, drawn from the simulator's seed.
    pub probability: Option<f64>,
}

impl Matcher {
    /// The next request to any of the three endpoints.
    #[must_use]
    pub fn any() -> Self {
        Self { endpoint: None, room: None, skip: 0, every: 1, times: Some(1), probability: None }
    }

    /// The next request to this endpoint.
    #[must_use]
    pub fn on(endpoint: Endpoint) -> Self {
        Self { endpoint: Some(endpoint), ..Self::any() }
    }

    /// Only requests with this `room_id`.
    #[must_use]
    pub fn room(mut self, room: i64) -> Self {
        self.room = Some(room);
        self
    }

    /// The next `times` of them.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    /// All of them from now on.
    #[must_use]
    pub fn always(mut self) -> Self {
        self.times = None;
        self
    }

    /// The `nth` of them, counted from 1, and no other.
    #[must_use]
    pub fn nth(mut self, nth: u64) -> Self {
        self.skip = nth.saturating_sub(1);
        self.times = Some(1);
        self
    }

    /// Each `every`th of them, without end.
    #[must_use]
    pub fn every(mut self, every: u64) -> Self {
        let every = every.max(1);
        self.skip = every - 1;
        self.every = every;
        self.times = None;
        self
    }

    /// Each of them with this probability, without end.
    #[must_use]
    pub fn probability(mut self, probability: f64) -> Self {
        self.probability = Some(probability);
        self.times = None;
        self
    }

    pub(super) fn fits(&self, endpoint: Endpoint, room: Option<i64>) -> bool {
        self.endpoint.is_none_or(|wanted| wanted == endpoint)
            && self.room.is_none_or(|wanted| Some(wanted) == room)
    }

    /// Whether the `seen`th fitting request (from 1) is one to take.
    pub(super) fn is_due(&self, seen: u64, rng: &mut Rng) -> bool {
        seen > self.skip
            && (seen - self.skip - 1).is_multiple_of(self.every)
            && self.probability.is_none_or(|probability| rng.unit() < probability)
    }
}
