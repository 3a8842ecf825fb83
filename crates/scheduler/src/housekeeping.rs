//! What has to be done now and then: prune what is older than the retention, check the store's
//! integrity at night. Driven by tokio-cron-scheduler: cron-type, UTC, idempotent,
//! a handful of jobs, none of which anybody waits for. Announcements never ride on it.

use std::sync::Arc;

use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

use crate::metrics::Family;
use crate::shared::{Fatal, Shared};
use crate::status::NotReady;

const TASK: &str = "housekeeping";
/// Records per transaction: a prune must not hold up a claim.
const BATCH: usize = 500;
/// A turn ends after so many batches; the rest comes with the next one.
const BATCHES: usize = 200;

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
    // Seconds first. Not on the full minute, where announcements are.
    scheduler
        .add(job("17 */10 * * * *", shared, |shared| {
            Box::pin(async move { prune(&shared).await })
        })?)
        .await?;
    scheduler
        .add(job("37 23 3 * * *", shared, |shared| Box::pin(async move { check(&shared).await }))?)
        .await?;
    scheduler.start().await?;
    Ok(scheduler)
}

fn job(
    cron: &str,
    shared: &Arc<Shared>,
    work: fn(Arc<Shared>) -> futures_util::future::BoxFuture<'static, ()>,
) -> Result<Job, JobSchedulerError> {
    let shared = Arc::clone(shared);
    Job::new_async(cron, move |_, _| work(Arc::clone(&shared)))
}

/// Deletes finished records that are older than the retention.
pub(crate) async fn prune(shared: &Shared) {
    let retention = shared.settings.load().retention;
    let mut gone = 0;
    for _ in 0..BATCHES {
        let now = shared.clock.now();
        match shared.store.prune(now, now - retention, BATCH).await {
            Ok(0) => break,
            Ok(count) => gone += count,
            Err(error) => {
                shared.metrics.count(Family::store_errors_total, &["prune"]);
                tracing::warn!(code = error.code(), "{error}; pruned again in ten minutes");
                break;
            }
        }
        if shared.stop.is_cancelled() {
            break;
        }
    }
    if gone > 0 {
        tracing::info!(records = gone, "pruned what is older than the retention");
    }
    shared.beat(TASK, "pruned");
}

/// Looks whether the store is whole.
pub(crate) async fn check(shared: &Shared) {
    match shared.store.check_integrity(true).await {
        Ok(None) => tracing::info!("the store is whole"),
        Ok(Some(found)) => {
            shared.board.reason(NotReady::StoreUnwritable, "integrity", true);
            tracing::error!(
                code = "IMB-S-CORRUPT",
                "the store is damaged: {found}; stop and restore a backup"
            );
        }
        Err(error) => {
            tracing::warn!(code = error.code(), "the store could not be checked: {error}");
        }
    }
    shared.beat(TASK, "checked");
}
