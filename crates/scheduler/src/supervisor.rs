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
/// What a run that others ended has in flight gets so long to finish.
const PATIENCE: Duration = Duration::from_secs(25);
/// The pause before a restart grows with the failures.
const PAUSE: Duration = Duration::from_secs(1);

/// A part of the engine: its name, and a way to start it.
pub struct Task {
    pub(crate) name: &'static str,
    pub(crate) start: Box<dyn Fn() -> BoxFuture<'static, Result<(), Fatal>> + Send + Sync>,
    /// It only attends the others: it goes on while they finish, and ends with the last of them.
    pub(crate) attends: bool,
}

impl Task {
    /// Its name in metrics and status.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether it only attends the others, and never ends before them.
    #[must_use]
    pub fn attends(&self) -> bool {
        self.attends
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
    let mut left = 0_usize;
    for task in tasks {
        // One that hangs before its first turn is missed like any other.
        shared.beat(task.name, "starting");
        let attends = task.attends;
        left += usize::from(!attends);
        let running = keep_running(Arc::clone(&shared), task);
        set.spawn(async move { (attends, running.await) });
    }
    let mut result = Ok(());
    let mut patience: BoxFuture<'static, ()> = Box::pin(std::future::pending());
    while left > 0 {
        let ended = tokio::select! {
            ended = set.join_next() => ended,
            () = &mut patience => break,
        };
        let Some(ended) = ended else { break };
        let (attends, end) = ended.unwrap_or_else(|error| {
            // `keep_running` catches the panics of tasks; this is a bug in the supervisor.
            (false, Err(Fatal::Task { task: "supervisor", times: 1, last: error.to_string() }))
        });
        left -= usize::from(!attends);
        if result.is_ok() && end.is_err() {
            result = end;
            // The others finish what they have in flight.
            shared.stop.cancel();
            if shared.is_fenced() {
                // Of a run that others ended it is worth little, and the next one waits for it.
                patience = shared.clock.sleep(PATIENCE);
            }
        }
    }
    // Nothing of it may be under way when another run begins on the same store.
    set.shutdown().await;
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
            attends: false,
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
            attends: false,
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

    fn shared() -> (Arc<Shared>, Arc<Jumps>) {
        let clock = Arc::new(Jumps::default());
        let store = Arc::new(SqliteStore::in_memory(Bodies::Full).unwrap());
        let seen = Arc::clone(&clock);
        let (settings, inline) = (Settings::new(), Arc::new(Inline));
        let begun = (IncarnationId(1), Timestamp::EPOCH);
        let shared = Shared::new(clock, store, inline, settings, begun.0, begun.1, "1", 1);
        (Arc::new(shared), seen)
    }

    fn task<F: Future<Output = Result<(), Fatal>> + Send + 'static>(
        name: &'static str,
        attends: bool,
        run: impl Fn() -> F + Send + Sync + 'static,
    ) -> Task {
        Task { name, start: Box::new(move || Box::pin(run())), attends }
    }

    #[test]
    fn who_only_attends_goes_on_while_others_finish_and_ends_with_the_last_of_them() {
        let (shared, _) = shared();
        let turns = Arc::new(AtomicU32::new(0));
        let (counted, stop) = (Arc::clone(&turns), shared.stop.clone());
        let attends = task("attends", true, move || {
            let counted = Arc::clone(&counted);
            async move {
                loop {
                    counted.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                }
            }
        });
        let seen = Arc::clone(&turns);
        let finishes = task("finishes", false, move || {
            let (stop, seen) = (stop.clone(), Arc::clone(&seen));
            async move {
                stop.cancelled().await;
                let at_stop = seen.load(Ordering::Relaxed);
                while seen.load(Ordering::Relaxed) < at_stop + 10 {
                    tokio::task::yield_now().await;
                }
                Ok(())
            }
        });
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        shared.stop.cancel();
        let end = runtime.block_on(supervise(shared, vec![attends, finishes]));
        assert!(end.is_ok());
        let at_end = turns.load(Ordering::Relaxed);
        runtime.block_on(tokio::task::yield_now());
        assert_eq!(turns.load(Ordering::Relaxed), at_end, "it is gone");
    }

    #[test]
    fn what_a_run_that_others_ended_has_in_flight_is_waited_for_only_so_long() {
        let (shared, clock) = shared();
        let ended = Arc::clone(&shared);
        let fenced = task("fenced", false, move || {
            let ended = Arc::clone(&ended);
            let error = imbabot_store::Error::new(imbabot_store::ErrorKind::Fenced, "ended");
            async move { Err(ended.fenced(error)) }
        });
        let hangs = task("hangs", false, std::future::pending);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let end = runtime.block_on(supervise(shared, vec![fenced, hangs]));
        assert!(matches!(end, Err(Fatal::Store(_))), "{end:?}");
        assert_eq!(clock.0.lock().unwrap().as_slice(), [PATIENCE]);
    }

    #[test]
    fn p16_what_cannot_pass_is_not_tried_again() {
        let broken = || imbabot_store::Error::new(imbabot_store::ErrorKind::Corrupt, "broken");
        let (end, _, slept, starts) = run(move |_, _| Err(Fatal::Store(broken())));
        assert!(matches!(end, Err(Fatal::Store(_))) && starts == 1 && slept.is_empty(), "{end:?}");
    }
}
