//! What tokio-cron-scheduler does with as many jobs, added one by one as its documents say.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use tokio_cron_scheduler::{Job, JobScheduler};

use super::{AT_ONCE, MANY, expressions, p99, resident, share};

/// Seconds to add them, and bytes for each.
pub(super) async fn add() -> Result<Vec<f64>> {
    let expressions: Vec<String> = expressions().map(|cron| format!("0 {cron}")).collect();
    let scheduler = JobScheduler::new().await?;
    let (before, begun) = (resident()?, Instant::now());
    for cron in &expressions {
        scheduler.add(Job::new_async(cron.as_str(), |_, _| Box::pin(async {}))?).await?;
    }
    let took = begun.elapsed();
    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    let each = (resident()? - before) / MANY as f64;
    Ok(vec![took.as_secs_f64(), each])
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// How late jobs are run, those that are: the 99th percentile, in seconds, and how many.
pub(super) async fn late() -> Result<Vec<f64>> {
    let mut scheduler = JobScheduler::new().await?;
    // Within an hour from now, at a full second that leaves time to add them.
    let at = now().as_secs() + 6;
    let cron = format!("{} {} * * * *", at % 60, at / 60 % 60);
    let late = Arc::new(Mutex::new(Vec::with_capacity(AT_ONCE)));
    let fired = Arc::new(AtomicUsize::new(0));
    for _ in 0..AT_ONCE {
        let (late, fired) = (Arc::clone(&late), Arc::clone(&fired));
        let job = Job::new_async(cron.as_str(), move |_, _| {
            let (late, fired) = (Arc::clone(&late), Arc::clone(&fired));
            Box::pin(async move {
                let since = now().saturating_sub(Duration::from_secs(at));
                late.lock().unwrap_or_else(PoisonError::into_inner).push(since);
                fired.fetch_add(1, Ordering::Relaxed);
            })
        })?;
        scheduler.add(job).await?;
    }
    ensure!(now().as_secs() < at, "it took too long to add them");
    scheduler.start().await?;
    tokio::time::sleep(Duration::from_secs(at + 10).saturating_sub(now())).await;
    scheduler.shutdown().await?;
    let late = std::mem::take(&mut *late.lock().unwrap_or_else(PoisonError::into_inner));
    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    let fired = fired.load(Ordering::Relaxed) as f64;
    Ok(vec![p99(late)?, fired])
}

/// Which share of a core it takes while nothing is due.
pub(super) async fn idle() -> Result<Vec<f64>> {
    let mut scheduler = JobScheduler::new().await?;
    for cron in expressions() {
        let cron = format!("0 {cron}");
        scheduler.add(Job::new_async(cron.as_str(), |_, _| Box::pin(async {}))?).await?;
    }
    scheduler.start().await?;
    let share = share().await;
    scheduler.shutdown().await?;
    Ok(vec![share])
}
