//! The clock of a store that several instances share: what counts is what the store shows, whatever the
//! walls of their hosts say. Between two looks at it the time that elapses here is counted on.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, Either, select};
use imbabot_core::Timestamp;
use imbabot_store::Store;
use tokio::sync::watch;

use super::Clock;

/// An answer that took no longer says what time it is; of one that took longer only bounds are known.
const PROMPT: Duration = Duration::from_secs(1);
/// Set back by more than this, an instant that was chosen before belongs to a clock that no longer counts.
/// What is less is the inexactness of looking.
const SET_BACK: Duration = Duration::from_secs(1);

/// What the store showed, when so much had elapsed here.
#[derive(Debug, Clone, Copy)]
struct Base {
    shown: Timestamp,
    elapsed: Duration,
    /// How often it was set back.
    set_back: u64,
}

impl Base {
    fn at(self, elapsed: Duration) -> Timestamp {
        self.shown + elapsed.saturating_sub(self.elapsed)
    }

    /// The base after the store has shown `shown`, somewhere between these two moments.
    fn corrected(self, shown: Timestamp, asked: Duration, answered: Duration) -> Self {
        let took = answered.saturating_sub(asked);
        let (before, earliest, latest) = (self.at(answered), shown, shown + took);
        let now = if took <= PROMPT { shown + took / 2 } else { before.clamp(earliest, latest) };
        let back = u64::from(now + SET_BACK < before);
        Self { shown: now, elapsed: answered, set_back: self.set_back + back }
    }
}

/// A clock that shows what the store's clock shows. Its own wall is never looked at.
pub struct StoreClock {
    host: Arc<dyn Clock>,
    base: watch::Sender<Base>,
}

impl StoreClock {
    /// The store's clock, if it has one that counts; `host` tells how much elapses.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn of(
        host: &Arc<dyn Clock>,
        store: &dyn Store,
    ) -> imbabot_store::Result<Option<Self>> {
        let asked = host.elapsed();
        let Some(shown) = store.clock().await? else { return Ok(None) };
        let elapsed = host.elapsed();
        let shown = shown + elapsed.saturating_sub(asked) / 2;
        let (base, _) = watch::channel(Base { shown, elapsed, set_back: 0 });
        Ok(Some(Self { host: Arc::clone(host), base }))
    }
}

impl Clock for StoreClock {
    fn now(&self) -> Timestamp {
        self.base.borrow().at(self.host.elapsed())
    }

    fn elapsed(&self) -> Duration {
        self.host.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.host.sleep(duration)
    }

    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        let host = Arc::clone(&self.host);
        let mut bases = self.base.subscribe();
        let begun = self.base.borrow().set_back;
        Box::pin(async move {
            loop {
                let base = *bases.borrow_and_update();
                let left = at.since(base.at(host.elapsed()));
                if base.set_back != begun || left.is_zero() {
                    // An instant that is always past must not keep the others on this thread from
                    // their turn.
                    tokio::task::yield_now().await;
                    return;
                }
                let slept = host.sleep(left);
                let moved = std::pin::pin!(bases.changed());
                if let Either::Right((Err(_), slept)) = select(slept, moved).await {
                    // The clock is gone, and nobody sets it any more.
                    slept.await;
                }
            }
        })
    }

    fn hear(&self, shown: Timestamp, asked: Duration) {
        let answered = self.host.elapsed();
        self.base.send_modify(|base| *base = base.corrected(shown, asked, answered));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn base() -> Base {
        Base { shown: at(1_000), elapsed: S * 100, set_back: 0 }
    }

    #[test]
    fn what_elapses_here_is_counted_on() {
        assert_eq!(base().at(S * 160), at(1_060));
    }

    #[test]
    fn a_prompt_answer_is_taken_as_it_is_with_half_its_way() {
        let base = base().corrected(at(2_000), S * 110, S * 110 + S / 10);
        assert_eq!(base.at(S * 110 + S / 10), at(2_000) + S / 20);
        assert_eq!(base.set_back, 0);
    }

    #[test]
    fn an_answer_that_took_long_gives_bounds_and_nothing_else() {
        // The process stood still for a minute, before or after the store was asked: nobody knows.
        let stood = |shown: i64| base().corrected(at(shown), S * 110, S * 170).at(S * 170);
        assert_eq!(stood(1_070), at(1_070), "the store was asked at the end of it");
        assert_eq!(stood(1_010), at(1_070), "at its beginning");
        assert_eq!(stood(1_200), at(1_200), "the host was asleep, and its own time with it");
        assert_eq!(stood(900), at(960), "the store's clock was set back");
    }

    #[test]
    fn a_clock_that_was_set_back_says_so_and_a_slight_difference_is_none() {
        assert_eq!(base().corrected(at(1_009), S * 110, S * 110).set_back, 0);
        assert_eq!(base().corrected(at(1_005), S * 110, S * 110).set_back, 1);
    }
}
