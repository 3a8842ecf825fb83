//! The only place that spawns. Each part of the engine is a task with a name; one that fails or
//! panics is started again after a pause, one that fails again and again ends the process, because
//! a daemon that pretends to run is worse than one that is down.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::task::JoinSet;

use crate::executor::words;
use crate::metrics::Family;
use crate::shared::{Fatal, Shared};

/// So many failures within [`WINDOW`] are given up on.
const FAILURES: usize = 5;
const WINDOW: Duration = Duration::from_secs(300);
/// The pause before a restart grows with the failures.
const PAUSE: Duration = Duration::from_secs(1);

/// A part of the engine: its name, and a way to start it.
pub struct Task {
    pub(crate) name: &'static str,
    pub(crate) start: Box<dyn Fn() -> BoxFuture<'static, Result<(), Fatal>> + Send + Sync>,
}

impl Task {
    /// Its name in metrics and status.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Starts it; it ends when the engine stops.
    #[must_use]
    pub fn start(&self) -> BoxFuture<'static, Result<(), Fatal>> {
        (self.start)()
    }
}

/// Runs all tasks until the engine stops, or until one of them cannot go on.
pub(crate) async fn supervise(shared: Arc<Shared>, tasks: Vec<Task>) -> Result<(), Fatal> {
    let mut set = JoinSet::new();
    for task in tasks {
        // One that hangs before its first turn is missed like any other.
        shared.beat(task.name, "starting");
        set.spawn(keep_running(Arc::clone(&shared), task));
    }
    let mut result = Ok(());
    while let Some(end) = set.join_next().await {
        let end = end.unwrap_or_else(|error| {
            // `keep_running` catches the panics of tasks; this is a bug in the supervisor.
            Err(Fatal::Task { task: "supervisor", times: 1, last: error.to_string() })
        });
        if result.is_ok() && end.is_err() {
            result = end;
            // The others finish what they have in flight.
            shared.stop.cancel();
        }
    }
    result
}

async fn keep_running(shared: Arc<Shared>, task: Task) -> Result<(), Fatal> {
    let mut failures: VecDeque<Duration> = VecDeque::new();
    loop {
        let last = match AssertUnwindSafe(task.start()).catch_unwind().await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(fatal)) => return Err(fatal),
            Err(cause) => words(cause),
        };
        if shared.stop.is_cancelled() {
            return Ok(());
        }
        let now = shared.clock.elapsed();
        failures.push_back(now);
        failures.retain(|at| now.saturating_sub(*at) <= WINDOW);
        shared.metrics.count(Family::task_restarts_total, &[task.name]);
        shared.board.restarted(task.name);
        if failures.len() >= FAILURES {
            let times = u32::try_from(failures.len()).unwrap_or(u32::MAX);
            return Err(Fatal::Task { task: task.name, times, last });
        }
        tracing::error!(
            task = task.name,
            code = "IMB-X-TASK",
            failures = failures.len(),
            "a task panicked ({last}); it is started again"
        );
        let pause = PAUSE * u32::try_from(failures.len()).unwrap_or(1);
        tokio::select! {
            () = shared.stop.cancelled() => return Ok(()),
            () = shared.clock.sleep(pause) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU32, Ordering};

    use imbabot_core::Timestamp;
    use imbabot_store::{Bodies, IncarnationId, SqliteStore};

    use super::*;
    use crate::clock::Clock;
    use crate::executor::Inline;
    use crate::settings::Settings;

    /// Time passes by being slept, at once; each sleep is remembered.
    #[derive(Default)]
    struct Jumps(Mutex<Vec<Duration>>);

    impl Clock for Jumps {
        fn now(&self) -> Timestamp {
            Timestamp::EPOCH + self.elapsed()
        }

        fn elapsed(&self) -> Duration {
            self.0.lock().unwrap().iter().sum()
        }

        fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
            self.0.lock().unwrap().push(duration);
            Box::pin(tokio::task::yield_now())
        }

        fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
            self.sleep(at.since(self.now()))
        }
    }

    /// Runs a task that does what it is told at each start, beside one that only waits for the stop.
    fn run(
        act: impl Fn(&Jumps, u32) -> Result<bool, Fatal> + Send + Sync + 'static,
    ) -> (Result<(), Fatal>, Arc<Shared>, Vec<Duration>, u32) {
        let clock = Arc::new(Jumps::default());
        let store = Arc::new(SqliteStore::in_memory(Bodies::Full).unwrap());
        let shared = Arc::new(Shared::new(
            Arc::clone(&clock) as Arc<dyn Clock>,
            store,
            Arc::new(Inline),
            Settings::new(),
            IncarnationId(1),
            Timestamp::EPOCH,
            "1",
            1,
        ));
        let (starts, act) = (Arc::new(AtomicU32::new(0)), Arc::new(act));
        let (counted, seen, stop) = (Arc::clone(&starts), Arc::clone(&clock), shared.stop.clone());
        let odd = Task {
            name: "odd",
            start: Box::new(move || {
                let n = counted.fetch_add(1, Ordering::Relaxed) + 1;
                let (act, seen, stop) = (Arc::clone(&act), Arc::clone(&seen), stop.clone());
                Box::pin(async move {
                    // True: it is well, until the stop.
                    if act(&seen, n)? {
                        stop.cancelled().await;
                    }
                    Ok(())
                })
            }),
        };
        let stop = shared.stop.clone();
        let other = Task {
            name: "other",
            start: Box::new(move || {
                let stop = stop.clone();
                Box::pin(async move {
                    stop.cancelled().await;
                    Ok(())
                })
            }),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let until = Arc::clone(&shared);
        let end = runtime.block_on(async {
            let running = supervise(Arc::clone(&shared), vec![odd, other]);
            let enough = async {
                for _ in 0..1_000 {
                    tokio::task::yield_now().await;
                }
                until.stop.cancel();
                std::future::pending::<()>().await;
            };
            tokio::select! {
                end = running => end,
                () = enough => unreachable!("it waits for ever"),
            }
        });
        let slept = clock.0.lock().unwrap().clone();
        (end, shared, slept, starts.load(Ordering::Relaxed))
    }

    #[test]
    fn p16_a_task_that_panics_starts_again_after_a_pause_that_grows() {
        let (end, shared, slept, starts) = run(|_, n| match n {
            1..=3 => panic!("number {n}"),
            _ => Ok(true),
        });
        assert!(end.is_ok() && starts == 4, "{end:?} after {starts} starts");
        assert_eq!(slept, [1, 2, 3].map(Duration::from_secs));
        assert!((shared.metrics.value(Family::task_restarts_total, &["odd"]) - 3.0).abs() < 0.1);
        assert!(shared.metrics.value(Family::task_restarts_total, &["other"]).abs() < 0.1);
        assert_eq!(shared.board.read().tasks["odd"].restarts, 3);
    }

    #[test]
    fn p16_five_panics_within_five_minutes_end_the_process() {
        let (end, shared, slept, starts) = run(|_, n| panic!("number {n}"));
        let Err(Fatal::Task { task, times, last }) = end else { panic!("{end:?}") };
        assert_eq!((task, times, last.as_str(), starts), ("odd", 5, "number 5", 5));
        assert_eq!(slept, [1, 2, 3, 4].map(Duration::from_secs));
        assert!(shared.stop.is_cancelled(), "the others finish what they have in flight");
    }

    #[test]
    fn p16_panics_that_are_far_apart_are_survived_for_ever() {
        let (end, _, _, starts) = run(|clock, n| {
            if n > 50 {
                return Ok(true);
            }
            // Four are within any five minutes, never five.
            clock.0.lock().unwrap().push(Duration::from_secs(90));
            panic!("number {n}")
        });
        assert!(end.is_ok() && starts == 51, "{end:?} after {starts} starts");
    }

    #[test]
    fn p16_what_cannot_pass_is_not_tried_again() {
        let broken = || imbabot_store::Error::new(imbabot_store::ErrorKind::Corrupt, "broken");
        let (end, _, slept, starts) = run(move |_, _| Err(Fatal::Store(broken())));
        assert!(matches!(end, Err(Fatal::Store(_))) && starts == 1 && slept.is_empty(), "{end:?}");
    }
}
