//! Bots that hold their thread: they spin, block, spin when they are dropped, or leave something
//! behind that spins. On real threads and in real time, because that is what it is about: the
//! engine and its executor are those of the daemon, only the server is in this process.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]
#![allow(clippy::disallowed_methods, reason = "threads take real time")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{greeter, opened};
use futures_executor::block_on;
use imbabot_bot::prelude::*;
use imbabot_core::{Api, Credentials, SecretKey};
use imbabot_scheduler::{
    BotSettings, Clock, Engine, Fatal, NotReady, OwnThreads, Parts, Rate, Settings, SystemClock,
    WidgetSettings,
};
use imbabot_simulator::{Endpoint, Options, Simulator};
use imbabot_store::{Bodies, EventRecord, Operations, SqliteStore, Store};
use imbabot_testing::{Check, SimTransport};

/// How long a handler may take here.
const TIMEOUT: Duration = Duration::from_millis(200);
/// What happens at once may take so long on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A daemon in this process, on real threads.
struct Live {
    simulator: Simulator,
    engine: Engine,
    store: Arc<dyn Store>,
    runtime: tokio::runtime::Runtime,
    running: tokio::task::JoinHandle<Result<(), Fatal>>,
    /// Lets whatever spins go at the end, so that a test leaves nothing behind.
    free: Arc<AtomicBool>,
}

impl Live {
    /// With the bad bot, one handler of it at a time or many, and a greeter beside it.
    fn with(concurrency: usize, bad: impl FnOnce(Arc<AtomicBool>) -> Box<dyn Bot>) -> Self {
        let free = Arc::new(AtomicBool::new(false));
        let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory(Bodies::Full).unwrap());
        let simulator = Simulator::new(Options::default(), imbabot_simulator::Clock::system());
        let settings = settings(&simulator, concurrency, Boxed(bad(Arc::clone(&free))));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let engine = runtime
            .block_on(Engine::begin(Parts {
                clock: Arc::new(SystemClock::new()),
                store: Arc::clone(&store),
                executor: Arc::new(OwnThreads::new()),
                settings,
                version: "test".into(),
                seed: 7,
            }))
            .unwrap();
        let runs = engine.clone();
        let running = runtime.spawn(async move { runs.run().await });
        let live = Self { simulator, engine, store, runtime, running, free };
        live.wait("the first list", || !live.log(Endpoint::GetRooms).is_empty());
        std::thread::sleep(Duration::from_millis(200));
        live
    }

    fn log(&self, endpoint: Endpoint) -> Vec<imbabot_simulator::LogEntry> {
        let mut log = self.simulator.log();
        log.retain(|entry| entry.endpoint == Some(endpoint));
        log
    }

    fn wait(&self, what: &str, holds: impl Fn() -> bool) {
        let begun = Instant::now();
        while !holds() {
            assert!(begun.elapsed() < PATIENCE, "in vain: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The greeter greets a new room while the other bot does what it does.
    fn greets(&self, name: &str) {
        let begun = Instant::now();
        let room = self.simulator.open_room(name);
        self.wait("a greeting", || {
            self.simulator.messages(room).iter().any(|m| m.text.starts_with("Welcome"))
        });
        assert!(begun.elapsed() < Duration::from_secs(2), "{name} after {:?}", begun.elapsed());
    }

    fn said(&self, text: &str) -> usize {
        let said = self.log(Endpoint::SendMsg);
        said.iter().filter(|entry| entry.text.as_deref() == Some(text)).count()
    }

    fn metric(&self, name: &str) -> u64 {
        let text = futures_executor::block_on(self.engine.metrics());
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse().unwrap())
    }

    fn invocations(&self, outcome: &str) -> u64 {
        self.metric(&format!("imbabot_bot_invocations_total{{bot=\"bad\",outcome=\"{outcome}\"}}"))
    }

    fn events(&self, poisoned: bool) -> Vec<EventRecord> {
        block_on(Operations::events(&*self.store, poisoned, 1_000)).unwrap()
    }

    fn is_set_aside(&self) -> bool {
        self.engine.status().set_aside.keys().any(|bot| bot.as_str() == "bad")
    }

    /// Lets what spins go, stops, and holds everything against the server's log.
    fn end(self) {
        self.free.store(true, Ordering::Release);
        self.engine.stop();
        self.runtime.block_on(self.running).unwrap().unwrap();
        let ledger = block_on(self.store.ledger(0, usize::MAX)).unwrap();
        let check =
            Check::new().requests(self.simulator.log().iter().map(Into::into)).ledger(ledger);
        let found: Vec<String> = check.run().iter().map(ToString::to_string).collect();
        assert!(found.is_empty(), "{}", found.join("\n"));
    }
}

fn settings(simulator: &Simulator, concurrency: usize, bad: impl Bot) -> Settings {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let mut settings = Settings::new();
    settings.widgets.push(WidgetSettings {
        name: "main".parse().unwrap(),
        api: Api::new(
            Arc::new(SimTransport::new(simulator.clone(), clock)),
            Credentials {
                widget: simulator.widget().unsigned_abs().into(),
                secret: SecretKey::parse("simulator-secret").unwrap(),
            },
        ),
        sender: 1.into(),
        rooms_by_jwt: false,
        markup: imbabot_bot::ForeignMarkup::Neutralize,
    });
    settings.poll.rooms = Duration::from_millis(20);
    settings.delivery.rate = Rate::new(1_000, Duration::from_secs(1));
    settings.delivery.rate_per_room = settings.delivery.rate;
    let bad = BotSettings::new("bad".parse().unwrap(), Arc::new(bad));
    settings.bots.push(BotSettings { timeout: TIMEOUT, concurrency, ..bad });
    settings.bots.push(BotSettings::new("greeter".parse().unwrap(), Arc::new(greeter())));
    settings
}

struct Boxed(Box<dyn Bot>);

#[async_trait]
impl Bot for Boxed {
    async fn on_event(&self, ctx: &mut Context, event: &Event) -> Result<()> {
        self.0.on_event(ctx, event).await
    }
}

/// Does something bad in rooms whose name begins with "Bad", and says a word in the others.
struct Sometimes<F>(F, AtomicUsize);

#[async_trait]
impl<F, R> Bot for Sometimes<F>
where
    F: Fn() -> R + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    async fn on_event(&self, ctx: &mut Context, event: &Event) -> Result<()> {
        let Some(room) = opened(event) else { return Ok(()) };
        if room.name.to_string().starts_with("Bad") {
            self.1.fetch_add(1, Ordering::Relaxed);
            (self.0)().await;
        }
        ctx.send(room.id, "fine");
        Ok(())
    }
}

fn sometimes<F, R>(bad: F) -> Box<dyn Bot>
where
    F: Fn() -> R + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    Box::new(Sometimes(bad, AtomicUsize::new(0)))
}

/// Holds the thread until the end of the test.
fn spin(free: &AtomicBool) {
    while !free.load(Ordering::Acquire) {
        // Spinning for real would only take the machine from the tests beside it.
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Spins when it is dropped.
struct SpinsInDrop(Arc<AtomicBool>);

impl Drop for SpinsInDrop {
    fn drop(&mut self) {
        spin(&self.0);
    }
}

/// Three rooms bring the bad thing about; others are greeted all the while; then the bot is set
/// aside, that is said, what it is to be told waits, and a reload lets it try again.
fn is_set_aside_after_three<F, R>(bad: impl Fn(Arc<AtomicBool>) -> F)
where
    F: Fn() -> R + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let live = Live::with(1, |free| sometimes(bad(free)));
    live.greets("Before");
    live.wait("the bad one's own word", || live.said("fine") == 1);
    // Three different events, so that the pauses between the tries of one do not take time.
    for n in 0..3 {
        live.greets(&format!("Bad {n}"));
        let lost = u64::try_from(n).unwrap() + 1;
        live.wait("a lost thread", || {
            live.invocations("spins") + live.invocations("held_up") >= lost || live.is_set_aside()
        });
    }
    live.wait("it is set aside", || live.is_set_aside());
    assert_eq!(live.invocations("quarantined"), 1);
    assert_eq!(live.engine.reasons(), [NotReady::TaskStalled]);
    assert!(live.engine.is_alive(), "the tasks of the engine are well");
    // Whatever comes now waits; others are served.
    live.greets("Meanwhile");
    let polls = live.log(Endpoint::GetRooms).len();
    live.wait("lists are asked for", || live.log(Endpoint::GetRooms).len() > polls + 3);
    assert!(live.events(false).iter().any(|e| e.outcome.is_none() && e.tries == 0));
    // Mended, and reloaded.
    live.free.store(true, Ordering::Release);
    let settings = (*live.engine.settings()).clone();
    live.runtime.block_on(live.engine.reload(settings)).unwrap();
    assert!(!live.is_set_aside());
    // Before, Meanwhile, and the first of the bad ones whose next try is due.
    live.wait("what waited", || live.said("fine") >= 3);
    assert!(live.events(true).is_empty(), "nothing is poisoned");
    live.wait("ready again", || live.engine.reasons().is_empty());
    live.end();
}

#[test]
fn a_bot_that_spins_is_set_aside_after_three_threads_and_harms_nobody() {
    is_set_aside_after_three(|free| {
        move || {
            let free = Arc::clone(&free);
            async move { spin(&free) }
        }
    });
}

#[test]
fn a_bot_that_spins_when_its_handler_is_dropped_is_set_aside_too() {
    is_set_aside_after_three(|free| {
        move || {
            let free = Arc::clone(&free);
            async move {
                if free.load(Ordering::Acquire) {
                    return;
                }
                let _spins = SpinsInDrop(free);
                std::future::pending::<()>().await;
            }
        }
    });
}

#[test]
fn a_bot_that_starts_a_task_that_spins_is_set_aside_too() {
    is_set_aside_after_three(|free| {
        move || {
            let free = Arc::clone(&free);
            async move {
                if free.load(Ordering::Acquire) {
                    return;
                }
                let inner = tokio::spawn(async move { spin(&free) });
                let _ = inner.await;
            }
        }
    });
}

#[test]
fn a_thread_that_sleeps_for_a_while_is_given_up_and_the_bot_goes_on_with_another() {
    let live = Live::with(1, |_| {
        let first = AtomicBool::new(true);
        sometimes(move || {
            let blocks = first.swap(false, Ordering::AcqRel);
            async move {
                if blocks {
                    std::thread::sleep(Duration::from_secs(3));
                }
            }
        })
    });
    live.greets("Bad");
    live.greets("Other");
    // The event is tried again and comes to its end; the late end of its first try is nobody's.
    live.wait("both of its words", || live.said("fine") == 2);
    assert_eq!(live.invocations("spins"), 1);
    assert!(!live.is_set_aside());
    assert!(live.engine.reasons().is_empty());
    std::thread::sleep(Duration::from_millis(2_500));
    assert_eq!(live.said("fine"), 2);
    assert!(live.events(true).is_empty());
    live.end();
}

#[test]
fn what_shares_a_thread_with_a_handler_that_spins_has_its_try_given_back() {
    let live = Live::with(8, |free| {
        sometimes(move || {
            let free = Arc::clone(&free);
            async move { spin(&free) }
        })
    });
    // One of eight that are handled side by side; all are on the thread when it is lost.
    live.simulator.open_room("Bad");
    for n in 0..7 {
        live.simulator.open_room(&format!("Room {n}"));
    }
    live.wait("the seven", || live.said("fine") == 7);
    let told = live.events(false);
    let tries = |name: &str| -> Vec<u32> {
        // Without what the bots' own messages touched: nobody is told of that.
        let of_bot =
            told.iter().filter(|e| e.bot.as_str() == name && e.event_kind == "room" && e.tries > 0);
        of_bot.map(|e| e.tries).collect()
    };
    assert_eq!(tries("greeter"), [1; 8]);
    let mut bad = tries("bad");
    bad.sort_unstable();
    assert_eq!(bad[..7], [1; 7], "{bad:?}");
    // Its second try takes another thread, and nobody else is poisoned by it.
    live.wait("the second", || live.invocations("spins") == 2);
    assert_eq!(live.said("fine"), 7);
    assert!(live.events(true).is_empty());
    live.end();
}

#[test]
fn a_bot_that_blocks_in_spawn_blocking_holds_up_only_its_own_handlers() {
    let live = Live::with(4, |free| {
        sometimes(move || {
            let free = Arc::clone(&free);
            async move {
                let _ = tokio::task::spawn_blocking(move || spin(&free)).await;
            }
        })
    });
    for n in 0..12 {
        live.simulator.open_room(&format!("Bad {n}"));
    }
    live.greets("Other");
    live.wait("its own others are handled too", || live.said("fine") >= 1);
    live.wait("time-outs", || live.invocations("timeout") >= 12);
    assert!(!live.is_set_aside(), "its thread answers");
    let threads = std::fs::read_dir("/proc/self/task").unwrap().count();
    assert!(threads < 100, "{threads} threads");
    live.end();
}

#[test]
fn a_stop_does_not_wait_for_a_bot_that_spins_longer_than_for_its_time_out() {
    let live = Live::with(1, |free| {
        sometimes(move || {
            let free = Arc::clone(&free);
            async move { spin(&free) }
        })
    });
    live.greets("Bad");
    let begun = Instant::now();
    live.engine.stop();
    live.wait("the end", || live.running.is_finished());
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    live.end();
}

/// Spins when it is no longer configured.
struct Clinging(SpinsInDrop);

#[async_trait]
impl Bot for Clinging {
    async fn on_event(&self, ctx: &mut Context, event: &Event) -> Result<()> {
        if let Some(room) = opened(event) {
            ctx.send(room.id, "fine");
        }
        let _ = &self.0;
        Ok(())
    }
}

#[test]
fn a_bot_that_spins_when_it_is_removed_stops_no_reload() {
    let live = Live::with(1, |free| Box::new(Clinging(SpinsInDrop(free))));
    live.greets("Before");
    live.wait("its word", || live.said("fine") == 1);
    let mut settings = (*live.engine.settings()).clone();
    settings.bots.remove(0);
    let begun = Instant::now();
    live.runtime.block_on(live.engine.reload(settings)).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    live.greets("After");
    assert_eq!(live.said("fine"), 1);
    assert!(live.engine.reasons().is_empty());
    live.end();
}
