//! Where the simulator's time comes from: a function given at construction, in unix microseconds.
//! The rest of the crate never reads the system's clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Microseconds in a second.
pub(crate) const SECOND: i64 = 1_000_000;

/// A source of unix microseconds. Cheap to clone.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> i64 + Send + Sync>);

impl Clock {
    /// Time as `now_micros` tells it.
    pub fn new(now_micros: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now_micros))
    }

    /// The machine's clock.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place of this crate that reads the time"
    )]
    pub fn system() -> Self {
        Self::new(|| {
            let now = std::time::SystemTime::now();
            let since_epoch = now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX)
        })
    }

    /// The present in unix microseconds.
    #[must_use]
    pub fn now_micros(&self) -> i64 {
        (self.0)()
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Clock").field(&self.now_micros()).finish()
    }
}

/// A clock that stands still until it is told to move: for tests and for virtual time.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    /// A clock that shows `micros` (unix microseconds).
    #[must_use]
    pub fn at(micros: i64) -> Self {
        Self(Arc::new(AtomicI64::new(micros)))
    }

    /// What to hand to [`Simulator::new`](crate::Simulator::new); it follows this clock.
    #[must_use]
    pub fn clock(&self) -> Clock {
        let shown = Arc::clone(&self.0);
        Clock::new(move || shown.load(Ordering::SeqCst))
    }

    /// Moves the clock by `micros`, backwards if negative.
    pub fn advance(&self, micros: i64) {
        self.0.fetch_add(micros, Ordering::SeqCst);
    }

    /// Sets the clock to `micros` (unix microseconds).
    pub fn set(&self, micros: i64) {
        self.0.store(micros, Ordering::SeqCst);
    }
}
