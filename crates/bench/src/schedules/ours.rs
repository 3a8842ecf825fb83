//! What imbabot does with many schedules: its agenda alone, and its engine over a store on disk.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use async_trait::async_trait;
use imbabot_bot::{ForeignMarkup, RoomSelector, Schedule, Template};
use imbabot_core::{
    Api, Credentials, NetCode, Request, Response, RoomId, SecretKey, Timestamp, Transport,
    TransportError, WidgetId,
};
use imbabot_scheduler::{
    Agenda, Announcement, Engine, OwnThreads, Parts, Settings, SystemClock, WidgetSettings,
};
use imbabot_store::{Bodies, Cursor, Line, Role, SqliteStore, Store};

use super::{AT_ONCE, MANY, expressions, p99, resident, share};

fn settings(schedules: impl Iterator<Item = Result<Schedule>>) -> Result<Settings> {
    // One text and one choice of rooms for all: what is measured is the schedules.
    let (text, rooms) = (Template::announcement("Good morning!")?, RoomSelector::all());
    let mut settings = Settings::new();
    for schedule in schedules {
        let announcement = Announcement::new(schedule?, rooms.clone(), text.clone());
        settings.announcements.push(Arc::new(announcement));
    }
    Ok(settings)
}

fn cursors(ids: impl Iterator<Item = String>, now: Timestamp) -> Vec<Cursor> {
    let mut cursors: Vec<Cursor> = ids
        .map(|key| Cursor {
            key,
            definition: String::new(),
            fired_through: now,
            paused: false,
            last_fired: None,
            missed: 0,
            reanchored: false,
        })
        .collect();
    // As the store hands them out.
    cursors.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    cursors
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

fn name(n: usize) -> String {
    format!("s{n}")
}

/// Seconds to read the expressions and to have all on the agenda, and bytes for each.
pub(super) fn add() -> Result<Vec<f64>> {
    let expressions: Vec<String> = expressions().collect();
    let names: Vec<String> = (0..MANY).map(name).collect();
    // What the store would hand out, which is no part of adding.
    let known = cursors((0..MANY).map(name), now());
    let (before, begun) = (resident()?, Instant::now());
    let schedules = names.iter().zip(&expressions).map(|(id, cron)| Ok(Schedule::cron(id, cron)?));
    let settings = settings(schedules)?;
    let agenda = Agenda::of(&settings, known);
    let took = begun.elapsed();
    agenda.soonest().context("nothing will ever be due")?;
    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    let each = (resident()? - before) / MANY as f64;
    Ok(vec![took.as_secs_f64(), each])
}

/// An instant soon, at a full second.
fn soon(distance: i64) -> Timestamp {
    Timestamp::from_seconds(now().as_seconds() + distance)
}

/// Once at this instant, and again in ten years.
fn one_shot(n: usize, at: Timestamp) -> Result<Schedule> {
    Ok(Schedule::at(&name(n), at.compact().trim_end_matches('Z'))?)
}

fn since(instant: Timestamp) -> Duration {
    now().since(instant)
}

/// How late the agenda's entries are taken up: the 99th percentile, in seconds.
pub(super) fn late() -> Result<Vec<f64>> {
    let at = soon(2);
    let settings = settings((0..AT_ONCE).map(|n| one_shot(n, at)))?;
    let mut agenda = Agenda::of(&settings, cursors((0..AT_ONCE).map(name), now()));
    let mut late = Vec::with_capacity(AT_ONCE);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let clock = SystemClock::new();
    while let Some(due) = agenda.soonest() {
        runtime.block_on(imbabot_scheduler::Clock::sleep_until(&clock, due));
        let places = agenda.due_until(now());
        // All of them fire before the next instant of one is looked for.
        late.extend(places.iter().map(|_| since(at)));
        places.into_iter().for_each(|place| agenda.advance(place, at));
    }
    Ok(vec![p99(late)?])
}

/// An engine over a store on disk, without widgets.
async fn engine(
    settings: Settings,
    folder: &tempfile::TempDir,
) -> Result<(Engine, Arc<dyn Store>)> {
    let path = folder.path().join("imbabot.db");
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&path, Role::Daemon, Bodies::Full)?);
    let parts = Parts {
        clock: Arc::new(SystemClock::new()),
        store: Arc::clone(&store),
        executor: Arc::new(OwnThreads::default()),
        settings,
        version: env!("CARGO_PKG_VERSION").into(),
        seed: 1,
    };
    Ok((Engine::begin(parts).await?, store))
}

/// How late occurrences are on disk: the 99th percentile, in seconds.
pub(super) async fn late_recorded() -> Result<Vec<f64>> {
    let folder = tempfile::tempdir()?;
    // Time to adopt them.
    let at = soon(4);
    let settings = settings((0..AT_ONCE).map(|n| one_shot(n, at)))?;
    let (engine, store) = engine(settings, &folder).await?;
    let running = engine.clone();
    let run = tokio::spawn(async move { running.run().await });
    let mut late: Vec<Duration> = Vec::with_capacity(AT_ONCE);
    let mut seq = 0;
    while late.len() < AT_ONCE && now() < at + Duration::from_secs(60) {
        tokio::time::sleep(Duration::from_millis(2)).await;
        // They are on disk when they can be read.
        for line in store.ledger(seq, 10_000).await? {
            seq = line.seq;
            if matches!(&line.line, Line::Occurrence(occurrence) if occurrence.nominal_at == at) {
                late.push(since(at));
            }
        }
    }
    engine.stop();
    run.await??;
    Ok(vec![p99(late)?])
}

/// A server that is away.
struct Away;

#[async_trait]
impl Transport for Away {
    async fn send(&self, _: Request) -> Result<Response, TransportError> {
        Err(TransportError::new(NetCode::Refused, ""))
    }
}

/// Seconds from an instant to the last of its many deliveries on disk, and the most memory that this
/// takes.
pub(super) async fn rooms() -> Result<Vec<f64>> {
    let folder = tempfile::tempdir()?;
    let at = soon(3);
    let rooms = RoomSelector::ids((1..=MANY as u64).map(RoomId));
    let text = Template::announcement("Good morning, {{ room.id }}!")?;
    let mut settings = Settings::new();
    settings.announcements.push(Arc::new(Announcement::new(one_shot(0, at)?, rooms, text)));
    let credentials = Credentials::new(WidgetId(627), SecretKey::parse("simulator-secret")?);
    settings.widgets.push(WidgetSettings {
        name: "main".parse()?,
        api: Api::new(Arc::new(Away), credentials),
        sender: "1".parse()?,
        rooms_by_jwt: false,
        markup: ForeignMarkup::Neutralize,
    });
    let (engine, store) = engine(settings, &folder).await?;
    let running = engine.clone();
    let run = tokio::spawn(async move { running.run().await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (before, mut most) = (resident()?, 0.0_f64);
    loop {
        tokio::time::sleep(Duration::from_millis(10)).await;
        most = most.max(resident()? - before);
        let recorded: u64 = store.tally().await?.deliveries.iter().map(|count| count.present).sum();
        if recorded >= MANY as u64 {
            break;
        }
        ensure!(now() < at + Duration::from_secs(120), "{recorded} after two minutes");
    }
    let took = since(at);
    engine.stop();
    run.await??;
    Ok(vec![took.as_secs_f64(), most])
}

/// Which share of a core the whole engine takes while nothing is due; and the seconds to adopt the
/// schedules.
pub(super) async fn idle(schedules: usize) -> Result<Vec<f64>> {
    let folder = tempfile::tempdir()?;
    let some = expressions().take(schedules);
    let settings =
        settings(some.enumerate().map(|(n, cron)| Ok(Schedule::cron(&name(n), &cron)?)))?;
    let begun = Instant::now();
    let (engine, _store) = engine(settings, &folder).await?;
    let adopted = begun.elapsed();
    let running = engine.clone();
    let run = tokio::spawn(async move { running.run().await });
    let share = share().await;
    engine.stop();
    run.await??;
    Ok(vec![share, adopted.as_secs_f64()])
}
