//! Where bots run. In production each bot has a thread and a runtime of its own: one that spins
//! without awaiting holds up itself and nobody else. In a simulation they run where they are
//! asked, so that nothing depends on threads. Whatever a handler does, a panic in it (also one in
//! a `Drop`, also one with an odd payload) never leaves this module.

use std::any::Any;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use futures_util::future::{BoxFuture, Either, select};
use imbabot_bot::{Bot, BotName, Effects};
use imbabot_core::escape_foreign;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// A handler: what it wants done, or what it says went wrong.
pub type Handler = BoxFuture<'static, Result<Effects, String>>;

/// How a handler ended.
#[derive(Debug, Clone, PartialEq)]
pub enum HandlerEnd {
    /// It returned `Ok`.
    Done(Effects),
    /// It returned an error.
    Failed(String),
    /// It panicked.
    Panicked(String),
    /// It had no turn, or not its whole turn, for a reason that is not its own.
    HeldUp(String),
}

/// A handler that was started.
pub struct Started {
    /// How it ends. Dropping this stops the handler at its next await.
    pub end: BoxFuture<'static, HandlerEnd>,
    /// Where it runs.
    pub place: Arc<dyn Place>,
}

/// Whose doing it is that a handler did not end in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// It takes long, and lets others run meanwhile.
    Slow,
    /// It, or something that it started, holds its place without awaiting.
    Spins,
    /// Something else held the place.
    HeldUp,
}

/// What is to be said about a handler that did not end in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Whose doing it is.
    pub blame: Blame,
    /// The place was given up with this: what runs after it does not wait for it.
    pub lost: bool,
}

/// Where one handler runs.
pub trait Place: Send + Sync {
    /// Resolves when anything at all runs there: never, while code there spins without awaiting.
    fn answers(&self) -> BoxFuture<'static, ()>;

    /// The handler did not end in time; `answered` says whether its place did. A place that does
    /// not is given up.
    fn judge(&self, answered: bool) -> Verdict;
}

/// Where bots run.
pub trait BotExecutor: Send + Sync + 'static {
    /// Runs one handler.
    fn run(&self, bot: &BotName, handler: Handler) -> Started;

    /// Whether the bot has lost so many places that it gets no other.
    fn is_set_aside(&self, bot: &BotName) -> bool;

    /// New settings with these bots: each has another chance, and what others held is given up.
    fn reloaded(&self, bots: &[BotName]);
}

/// Runs handlers where they are asked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Inline;

impl BotExecutor for Inline {
    fn run(&self, _: &BotName, handler: Handler) -> Started {
        Started { end: Box::pin(Turn::new(handler)), place: Arc::new(Here) }
    }

    fn is_set_aside(&self, _: &BotName) -> bool {
        false
    }

    fn reloaded(&self, _: &[BotName]) {}
}

/// The place of whoever asks.
struct Here;

impl Place for Here {
    fn answers(&self) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn judge(&self, _: bool) -> Verdict {
        Verdict { blame: Blame::Slow, lost: false }
    }
}

/// A bot that has taken so many threads with it gets no other: its events wait instead.
const LOST: u32 = 3;
/// What `spawn_blocking` may use of one bot: as many as it has handlers by default.
const BLOCKING: usize = 8;

/// The Drop of a bot that is no longer configured is waited for so long.
const DROP: Duration = Duration::from_millis(500);

/// A thread and a runtime for each bot.
#[derive(Default)]
pub struct OwnThreads {
    bots: Bots,
    next: AtomicU64,
}

type Bots = Arc<Mutex<HashMap<BotName, Home>>>;

/// What a bot has of this executor.
#[derive(Default)]
struct Home {
    thread: Option<Own>,
    /// How many threads it has lost to code that never awaits.
    lost: u32,
}

#[derive(Clone)]
struct Own {
    handle: Handle,
    /// The handler whose code runs at this moment; 0 for none.
    holder: Arc<AtomicU64>,
    /// Rung when the thread is given up: whoever waits for it need not wait longer.
    given_up: CancellationToken,
    // Dropping the last one ends the thread, once nothing on it spins.
    _alive: Arc<oneshot::Sender<()>>,
}

impl OwnThreads {
    /// No threads yet: each bot gets its own with its first event.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn thread(&self, bot: &BotName) -> Result<Own, String> {
        let mut bots = lock(&self.bots);
        let home = bots.entry(bot.clone()).or_default();
        if home.lost >= LOST {
            return Err(format!("set aside: {LOST} threads of this bot were lost"));
        }
        if let Some(own) = &home.thread {
            return Ok(own.clone());
        }
        let own = start(bot).map_err(|error| format!("no thread for the bot: {}", error.kind()))?;
        home.thread = Some(own.clone());
        Ok(own)
    }
}

fn lock(bots: &Bots) -> MutexGuard<'_, HashMap<BotName, Home>> {
    // Nothing here panics half-way through a change.
    bots.lock().unwrap_or_else(PoisonError::into_inner)
}

fn start(bot: &BotName) -> std::io::Result<Own> {
    let runtime =
        Builder::new_current_thread().enable_all().max_blocking_threads(BLOCKING).build()?;
    let handle = runtime.handle().clone();
    let (alive, dead) = oneshot::channel::<()>();
    // The kernel keeps 15 bytes of a thread's name.
    thread::Builder::new().name(format!("bot-{bot}")).spawn(move || {
        let _ = runtime.block_on(dead);
        // A handler that blocks must not hold up the end of the process.
        runtime.shutdown_background();
    })?;
    Ok(Own {
        handle,
        holder: Arc::default(),
        given_up: CancellationToken::new(),
        _alive: Arc::new(alive),
    })
}

impl BotExecutor for OwnThreads {
    fn run(&self, bot: &BotName, handler: Handler) -> Started {
        let own = match self.thread(bot) {
            Ok(own) => own,
            Err(why) => {
                let end = Box::pin(std::future::ready(HandlerEnd::HeldUp(why)));
                return Started { end, place: Arc::new(Here) };
            }
        };
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let begun = Arc::new(AtomicBool::new(false));
        let turn = Turn {
            handler: Some(handler),
            seat: Some((id, Arc::clone(&own.holder), Arc::clone(&begun))),
        };
        let task = AbortOnDrop(own.handle.spawn(turn));
        let (given_up, holder) = (own.given_up.clone(), Arc::clone(&own.holder));
        let end = Box::pin(async move {
            let mut task = task;
            let held_up = || HandlerEnd::HeldUp("the bot's thread was given up".into());
            let given_up = std::pin::pin!(async {
                given_up.cancelled().await;
                // The one that holds the thread is judged by its own time.
                if holder.load(Ordering::Acquire) == id {
                    std::future::pending::<()>().await;
                }
            });
            match select(&mut task.0, given_up).await {
                // The runtime ended under it.
                Either::Left((end, _)) => end.unwrap_or_else(|_| held_up()),
                Either::Right(_) => held_up(),
            }
        });
        let bots = Arc::clone(&self.bots);
        Started {
            end,
            place: Arc::new(Seat { id, begun, own: seen(&own), bot: bot.clone(), bots }),
        }
    }

    fn is_set_aside(&self, bot: &BotName) -> bool {
        lock(&self.bots).get(bot).is_some_and(|home| home.lost >= LOST)
    }

    fn reloaded(&self, keep: &[BotName]) {
        let mut bots = lock(&self.bots);
        bots.retain(|name, _| keep.contains(name));
        bots.values_mut().for_each(|home| home.lost = 0);
    }
}

/// A thread as a handler's place sees it: it does not keep it alive.
struct Seen {
    handle: Handle,
    holder: Arc<AtomicU64>,
    given_up: CancellationToken,
}

fn seen(own: &Own) -> Seen {
    Seen {
        handle: own.handle.clone(),
        holder: Arc::clone(&own.holder),
        given_up: own.given_up.clone(),
    }
}

/// The place of one handler on its bot's thread.
struct Seat {
    id: u64,
    begun: Arc<AtomicBool>,
    own: Seen,
    bot: BotName,
    bots: Bots,
}

impl Place for Seat {
    fn answers(&self) -> BoxFuture<'static, ()> {
        let beat = self.own.handle.spawn(async {});
        Box::pin(async move {
            let _ = beat.await;
        })
    }

    fn judge(&self, answered: bool) -> Verdict {
        let begun = self.begun.load(Ordering::Acquire);
        let holder = self.own.holder.load(Ordering::Acquire);
        if answered {
            let held_up = !begun || self.own.given_up.is_cancelled();
            let blame = if held_up { Blame::HeldUp } else { Blame::Slow };
            return Verdict { blame, lost: false };
        }
        let mut bots = lock(&self.bots);
        let lost = !self.own.given_up.is_cancelled();
        if lost {
            self.own.given_up.cancel();
            let home = bots.entry(self.bot.clone()).or_default();
            home.lost += 1;
            home.thread = None;
        }
        // Held by none of the handlers: by a task that one of those that have begun has started.
        let own = holder == self.id || holder == 0 && begun;
        Verdict { blame: if own { Blame::Spins } else { Blame::HeldUp }, lost }
    }
}

struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A handler with its panics kept in, and a note of when its code runs.
struct Turn {
    handler: Option<Handler>,
    seat: Option<(u64, Arc<AtomicU64>, Arc<AtomicBool>)>,
}

impl Turn {
    fn new(handler: Handler) -> Self {
        Self { handler: Some(handler), seat: None }
    }

    /// Runs code of the handler.
    fn run<T>(&mut self, code: impl FnOnce(&mut Option<Handler>) -> T) -> Result<T, String> {
        if let Some((id, holder, _)) = &self.seat {
            holder.store(*id, Ordering::Release);
        }
        let handler = &mut self.handler;
        let end = catch_unwind(AssertUnwindSafe(|| code(handler)));
        if let Some((_, holder, _)) = &self.seat {
            holder.store(0, Ordering::Release);
        }
        end.map_err(words)
    }
}

impl Future for Turn {
    type Output = HandlerEnd;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<HandlerEnd> {
        if let Some((_, _, begun)) = &self.seat {
            begun.store(true, Ordering::Release);
        }
        let polled = self.run(|handler| match handler {
            Some(handler) => handler.as_mut().poll(context),
            None => Poll::Ready(Err("the handler has ended before".into())),
        });
        let end = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(Ok(effects))) => HandlerEnd::Done(effects),
            Ok(Poll::Ready(Err(error))) => HandlerEnd::Failed(error),
            Err(panicked) => HandlerEnd::Panicked(panicked),
        };
        Poll::Ready(end)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // What it holds may panic or spin when it is dropped.
        if self.handler.is_some()
            && let Err(panicked) = self.run(|handler| drop(handler.take()))
        {
            tracing::warn!(
                code = "IMB-B-DROP",
                "a handler that was stopped panicked in a Drop: {panicked}"
            );
        }
    }
}

/// Runs code of a bot that is not a handler; what its panic said, if it panicked.
///
/// # Errors
/// The code panicked.
pub fn contained<T>(code: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(code)).map_err(words)
}

/// Drops a bot where neither a panic nor a loop in its Drop does harm: on a thread of its own, for
/// which nobody waits longer than a moment.
pub(crate) fn discard(bot: Arc<dyn Bot>) {
    let (done, ended) = mpsc::channel::<()>();
    let drops = move || {
        if let Err(panicked) = contained(|| drop(bot)) {
            tracing::warn!(
                code = "IMB-B-DROP",
                "a bot panicked in its Drop: {}",
                escape_foreign(&panicked, 200)
            );
        }
        drop(done);
    };
    // Where no thread can be had the closure is dropped here, and the bot with it.
    let spawned = contained(|| thread::Builder::new().name("bot-drop".into()).spawn(drops));
    if matches!(spawned, Ok(Ok(_))) && ended.recv_timeout(DROP) == Err(RecvTimeoutError::Timeout) {
        tracing::warn!(
            code = "IMB-B-DROP",
            "a bot has not ended its Drop within {DROP:?}: it is left alone with it"
        );
    }
}

/// What a panic said.
pub(crate) fn words(cause: Box<dyn Any + Send>) -> String {
    let cause = match cause.downcast::<&str>() {
        Ok(text) => return (*text).to_owned(),
        Err(cause) => cause,
    };
    match cause.downcast::<String>() {
        Ok(text) => *text,
        Err(cause) => {
            // Dropping something unknown could panic again, here, where nobody expects it.
            std::mem::forget(cause);
            "for a reason without words".into()
        }
    }
}
