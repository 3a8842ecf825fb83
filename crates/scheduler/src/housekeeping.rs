//! What has to be done now and then: prune what is older than the retention; at night hold the records
//! of the store against each other, and check the integrity of its file. Driven by tokio-cron-scheduler:
//! cron-type, UTC, idempotent, a handful of jobs, none of which anybody waits for, and each shown in the
//! status. Announcements never ride on it.

use std::sync::Arc;
use std::time::Duration;

use imbabot_bot::Schedule;
use imbabot_store::{Care, CareKind, InspectionMark};
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

use crate::metrics::Family;
use crate::shared::{Fatal, Shared};
use crate::status::{JobStatus, NotReady};

const TASK: &str = "housekeeping";
/// Records per transaction: a prune must not hold up a claim.
const BATCH: usize = 500;
/// A turn ends after so many batches; the rest comes with the next one.
const BATCHES: usize = 200;
/// Sentences about contradictions that are kept for the status and written to the log. One is enough
/// to act; the others are counted.
const TOLD: usize = 10;
/// No pause between two batches is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

// Seconds first, UTC. Not on the full minute, where announcements are.
const PRUNE: (&str, &str) = ("prune", "17 */10 * * * *");
const INTEGRITY: (&str, &str) = ("integrity", "37 23 3 * * *");
const VERIFY: (&str, &str) = ("verify", "37 41 3 * * *");

/// Runs the jobs until the engine stops. Not part of a simulation: there the functions below are
/// called by hand.
pub(crate) async fn run(shared: Arc<Shared>) -> Result<(), Fatal> {
    match start(&shared).await {
        Ok(mut scheduler) => {
            shared.beat(TASK, "waiting");
            shared.stop.cancelled().await;
            if let Err(error) = scheduler.shutdown().await {
                tracing::debug!(%error, "the housekeeping did not stop by itself");
            }
        }
        Err(error) => {
            // Nothing that is promised depends on it within days.
            tracing::error!(%error, code = "IMB-X-HOUSEKEEPING", "no housekeeping: the store will grow");
            shared.stop.cancelled().await;
        }
    }
    Ok(())
}

async fn start(shared: &Arc<Shared>) -> Result<JobScheduler, JobSchedulerError> {
    let scheduler = JobScheduler::new().await?;
    scheduler.add(job(PRUNE, shared, |s| Box::pin(async move { prune(&s).await }))?).await?;
    scheduler.add(job(INTEGRITY, shared, |s| Box::pin(async move { check(&s).await }))?).await?;
    scheduler.add(job(VERIFY, shared, |s| Box::pin(async move { verify(&s).await }))?).await?;
    scheduler.start().await?;
    Ok(scheduler)
}

fn job(
    named: (&'static str, &str),
    shared: &Arc<Shared>,
    work: fn(Arc<Shared>) -> futures_util::future::BoxFuture<'static, ()>,
) -> Result<Job, JobSchedulerError> {
    show_next(shared, named);
    let shared = Arc::clone(shared);
    Job::new_async(named.1, move |_, _| work(Arc::clone(&shared)))
}

/// The expression is one that our calendar reads, too: seconds first, and in UTC.
fn show_next(shared: &Shared, (name, cron): (&'static str, &str)) {
    let schedule = Schedule::cron(name, cron).ok();
    let next = schedule.and_then(|schedule| schedule.next_after(shared.clock.now()));
    shared.board.job(name, |job| job.next = next);
}

/// A job while it runs. Whatever ends it, it can run again.
struct Turn<'a> {
    shared: &'a Shared,
    named: (&'static str, &'static str),
    begun: Duration,
    done: JobStatus,
}

impl<'a> Turn<'a> {
    /// None while its last turn goes on, and where another instance does the work.
    fn begin(shared: &'a Shared, named: (&'static str, &'static str)) -> Option<Self> {
        if !shared.ownership.has_schedules() {
            show_next(shared, named);
            return None;
        }
        let busy = shared.board.job(named.0, |job| std::mem::replace(&mut job.running, true));
        let begun = shared.clock.elapsed();
        (!busy).then(|| Self { shared, named, begun, done: JobStatus::default() })
    }

    fn problem(&mut self, what: String) {
        self.done.problems += 1;
        if self.done.found.len() < TOLD {
            self.done.found.push(what);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let took = self.shared.clock.elapsed().saturating_sub(self.begun);
        let mut done = std::mem::take(&mut self.done);
        done.last = Some(self.shared.clock.now());
        done.took_seconds = Some(took.as_secs_f64());
        self.shared.board.job(self.named.0, |job| *job = done);
        show_next(self.shared, self.named);
        self.shared.beat(TASK, self.named.0);
    }
}

/// Deletes finished records that are older than the retention.
pub(crate) async fn prune(shared: &Shared) {
    let Some(mut turn) = Turn::begin(shared, PRUNE) else { return };
    let retention = shared.settings.load().retention;
    for _ in 0..BATCHES {
        let now = shared.clock.now();
        match shared.store.prune(now, now - retention, BATCH).await {
            Ok(0) => break,
            Ok(count) => turn.done.records += count,
            Err(error) => {
                shared.metrics.count(Family::store_errors_total, &["prune"]);
                tracing::warn!(code = error.code(), "{error}; pruned again in ten minutes");
                turn.problem(error.to_string());
                break;
            }
        }
        if shared.stop.is_cancelled() {
            break;
        }
    }
    if turn.done.records > 0 {
        tracing::info!(records = turn.done.records, "pruned what is older than the retention");
    }
}

/// Holds the records of the store against each other, a few hundred at a time, with a pause after each
/// batch as long as the batch took: the store has readers for others, and none is held for long. What
/// it finds is told and stops nothing: the daemon does what it can with the store as it is.
pub(crate) async fn verify(shared: &Shared) {
    let Some(mut turn) = Turn::begin(shared, VERIFY) else { return };
    let mut mark = Some(InspectionMark::default());
    while let Some(at) = mark.take() {
        let before = shared.clock.elapsed();
        match shared.store.inspect(at, BATCH).await {
            Ok(batch) => {
                turn.done.records += batch.looked_at;
                for what in batch.found {
                    if turn.done.found.len() < TOLD {
                        tracing::error!(
                            code = "IMB-S-CONTRADICTION",
                            "the store contradicts itself: {what}; the daemon goes on. Keep a copy, \
                             run `imbabot ledger verify`, and restore a backup"
                        );
                    }
                    turn.problem(what);
                }
                mark = batch.next;
            }
            Err(error) => {
                shared.metrics.count(Family::store_errors_total, &["verify"]);
                tracing::warn!(code = error.code(), "the store could not be verified: {error}");
                turn.problem(error.to_string());
                return;
            }
        }
        if shared.stop.is_cancelled() {
            return;
        }
        let took = shared.clock.elapsed().saturating_sub(before).min(LONGEST_PAUSE);
        if mark.is_some() && !took.is_zero() {
            shared.clock.sleep(took).await;
        }
    }
    remember(shared, CareKind::Verify, &turn.done.found).await;
    let JobStatus { records, problems, .. } = turn.done;
    if problems == 0 {
        tracing::info!(records, "no record of the store contradicts another");
    } else {
        tracing::error!(
            records,
            problems,
            code = "IMB-S-CONTRADICTION",
            "the store contradicts itself; `/api/status` has the first places"
        );
    }
}

/// Looks whether the store is whole.
pub(crate) async fn check(shared: &Shared) {
    let Some(mut turn) = Turn::begin(shared, INTEGRITY) else { return };
    match shared.store.check_integrity(true).await {
        Ok(None) => tracing::info!("the store is whole"),
        Ok(Some(found)) => {
            shared.board.reason(NotReady::StoreUnwritable, "integrity", true);
            tracing::error!(
                code = "IMB-S-CORRUPT",
                "the store is damaged: {found}; stop and restore a backup"
            );
            turn.problem(found);
        }
        Err(error) => {
            tracing::warn!(code = error.code(), "the store could not be checked: {error}");
            turn.problem(error.to_string());
        }
    }
    remember(shared, CareKind::Integrity, &turn.done.found).await;
}

/// For `imbabot store info`, also over restarts. A store that does not take it decides nothing.
async fn remember(shared: &Shared, what: CareKind, found: &[String]) {
    let told = found.first().cloned().unwrap_or_default();
    let care = Care { what, at: shared.clock.now(), well: found.is_empty(), told };
    if let Err(error) = shared.store.cared(care).await {
        tracing::debug!(code = error.code(), "{error}; the check is not remembered");
    }
}
