//! The only place that reads the time or waits for it. Everything else is handed a [`Clock`], so
//! that a test can live through a year in a second and a clock that jumps.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use imbabot_core::Timestamp;

mod of_store;

pub use of_store::StoreClock;

/// Wall time for what people plan, elapsed time for how long things may take.
pub trait Clock: Send + Sync + 'static {
    /// What a clock on the wall shows. It may jump.
    fn now(&self) -> Timestamp;

    /// Time elapsed since some fixed moment; it never goes back.
    fn elapsed(&self) -> Duration;

    /// Resolves when `duration` has elapsed, whatever the wall shows.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;

    /// Resolves when the wall shows `at` or later, also if it got there by a jump; and when the wall
    /// goes back meanwhile: `at` was chosen by a clock that no longer counts, so whoever waits looks
    /// anew.
    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()>;

    /// A store whose clock counts has shown `shown`, to a question that was asked when `asked` had
    /// elapsed and is answered now. A clock that is its own master takes no notice.
    fn hear(&self, shown: Timestamp, asked: Duration) {
        let _ = (shown, asked);
    }
}

/// The host's clock.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    started: Instant,
}

/// Waiting for an instant on the wall looks at the wall at least this often: a clock that is set,
/// or a host that slept, is noticed within a second.
const LOOK: Duration = Duration::from_secs(1);

impl SystemClock {
    /// The host's clock.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the clock")]
fn wall() -> Timestamp {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => Timestamp::EPOCH + since,
        Err(before) => Timestamp::EPOCH - before.duration(),
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the clock")]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        wall()
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }

    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let mut latest = wall();
            loop {
                let now = wall();
                if now < latest {
                    return;
                }
                latest = now;
                let left = at.since(now);
                if left.is_zero() {
                    // An instant that is always past must not keep the others on this thread from
                    // their turn.
                    tokio::task::yield_now().await;
                    return;
                }
                tokio::time::sleep(left.min(LOOK)).await;
            }
        })
    }
}
