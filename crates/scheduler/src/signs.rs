//! Signs of life: the status as the board has it is written into the store, where a verb beside the
//! daemon, or after its end, reads it. Written when there is something to tell, and now and then to
//! show that the daemon is there; never more than once a second, and nothing waits for it.

use std::time::Duration;

use imbabot_store::{ErrorKind, SignOfLife};

use crate::metrics::Family;
use crate::shared::{Fatal, Shared};
use crate::status::{NotReady, Status};

/// With nothing to tell, one sign in so long.
pub(crate) const EVERY: Duration = Duration::from_secs(10);
/// However much there is to tell, no more than one.
const APART: Duration = Duration::from_secs(1);
/// After a failure of the store.
const AGAIN: Duration = Duration::from_secs(2);
/// How the store's verb is called where its failures are told.
const OP: &str = "sign";

/// What was told last.
#[derive(Default)]
pub(crate) struct Signs {
    /// When, by the elapsed time, and whether the store took it.
    tried: Option<(Duration, bool)>,
    told: Option<Status>,
}

impl Signs {
    /// Signs if it is time to.
    ///
    /// # Errors
    /// The store is broken.
    pub(crate) async fn look(&mut self, shared: &Shared) -> Result<(), Fatal> {
        let now = shared.clock.elapsed();
        if !self.may(now) {
            return Ok(());
        }
        let status = shared.board.read();
        let rest = status.clone().at_rest();
        if !self.must(now, &rest) {
            return Ok(());
        }
        let end = write(shared, &status, false).await;
        let failed_before = self.tried.is_some_and(|(_, taken)| !taken);
        self.tried(now, end.is_ok(), rest);
        let Err(error) = end else {
            shared.store_works(OP);
            return Ok(());
        };
        shared.metrics.count(Family::store_errors_total, &[OP]);
        shared.board.reason(NotReady::StoreUnwritable, OP, true);
        if !error.is_retryable() && *error.kind() != ErrorKind::Undecodable {
            return Err(Fatal::Store(error));
        }
        if !failed_before {
            tracing::warn!(
                code = error.code(),
                op = OP,
                "{error}; the status in the store is out of date until it can be written"
            );
        }
        Ok(())
    }

    /// Whether the last one is long enough ago.
    fn may(&self, now: Duration) -> bool {
        self.tried
            .is_none_or(|(at, taken)| now.saturating_sub(at) >= if taken { APART } else { AGAIN })
    }

    /// Whether there is something to tell, or nothing was told for long.
    fn must(&self, now: Duration, rest: &Status) -> bool {
        let fresh = self.tried.is_some_and(|(at, taken)| taken && now.saturating_sub(at) < EVERY);
        !fresh || self.told.as_ref() != Some(rest)
    }

    fn tried(&mut self, now: Duration, taken: bool, rest: Status) {
        self.tried = Some((now, taken));
        if taken {
            self.told = Some(rest);
        }
    }
}

/// Signs, whatever was told before. Whether that was heard decides nothing.
pub(crate) async fn farewell(shared: &Shared, stopped: bool) {
    if let Err(error) = write(shared, &shared.board.read(), stopped).await {
        tracing::debug!(code = error.code(), "{error}; the last status is not in the store");
    }
}

async fn write(shared: &Shared, status: &Status, stopped: bool) -> imbabot_store::Result<()> {
    let status = serde_json::to_string(status).map_err(|error| {
        imbabot_store::Error::new(ErrorKind::Undecodable, format!("the status: {error}"))
    })?;
    shared.store.sign(SignOfLife { at: shared.clock.now(), stopped, status }).await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use imbabot_core::Timestamp;

    use super::*;
    use crate::clock::SystemClock;
    use crate::status::StatusBoard;

    const LOOK: Duration = Duration::from_millis(400);
    const HOUR: u32 = 9_000;

    /// Looks for an hour, after `happens`, at a store that takes a sign or not; how many there were.
    fn an_hour(mut happens: impl FnMut(&StatusBoard, u32), taken: bool) -> u32 {
        let begun = Timestamp::from_seconds(0);
        let board = StatusBoard::new(Arc::new(SystemClock::new()), begun, "1");
        let mut signs = Signs::default();
        let mut count = 0;
        for look in 0..HOUR {
            happens(&board, look);
            let now = LOOK * look;
            let rest = board.read().at_rest();
            if signs.may(now) && signs.must(now, &rest) {
                signs.tried(now, taken, rest);
                count += 1;
            }
        }
        count
    }

    #[test]
    fn a_quiet_daemon_signs_once_in_ten_seconds() {
        let main = "main".parse().unwrap_or_else(|_| panic!("a name"));
        let polls_and_beats = |board: &StatusBoard, look: u32| {
            let now = Timestamp::from_seconds(look.into());
            board.beat("poller", now, LOOK * look, &format!("poll {look}"));
            board.widget(&main, |widget| {
                widget.last_poll = Some(now);
                widget.last_good_poll = Some(now);
                widget.in_flight = usize::from(look.is_multiple_of(2));
            });
        };
        assert_eq!(an_hour(polls_and_beats, true), 360);
    }

    #[test]
    fn what_changes_is_told_within_seconds_and_never_more_than_one_a_second() {
        let once = |board: &StatusBoard, look: u32| {
            board.reason(NotReady::Paused, "all", look >= 10);
        };
        assert_eq!(an_hour(once, true), 361, "at 4 s, and from then on every ten");
        let always = |board: &StatusBoard, look: u32| {
            board.reason(NotReady::Paused, "all", look.is_multiple_of(2));
            board.paused(vec![look.to_string()]);
        };
        assert_eq!(an_hour(always, true), 3_000, "every third look");
    }

    #[test]
    fn a_store_that_takes_nothing_is_asked_every_two_seconds() {
        assert_eq!(an_hour(|_, _| {}, false), 1_800);
    }
}
