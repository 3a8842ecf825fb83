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
