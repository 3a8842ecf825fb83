//! Where bots run. In production each bot has a thread and a runtime of its own: one that spins
//! without awaiting holds up itself and nobody else. In a simulation they run where they are
//! asked, so that nothing depends on threads.

use std::any::Any;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Mutex, PoisonError};
use std::thread;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use imbabot_bot::{BotName, Effects};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// How a handler ended.
pub type HandlerEnd = Result<imbabot_bot::Result<Effects>, Panicked>;

/// A handler panicked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("panicked: {0}")]
pub struct Panicked(pub String);

/// Where bots run.
pub trait BotExecutor: Send + Sync + 'static {
    /// Runs one handler. Dropping the future stops the handler at its next await.
    fn run(
        &self,
        bot: &BotName,
        handler: BoxFuture<'static, imbabot_bot::Result<Effects>>,
    ) -> BoxFuture<'static, HandlerEnd>;

    /// Resolves when the place where the bot runs does anything at all: never, while a handler
    /// there spins without awaiting.
    fn answers(&self, bot: &BotName) -> BoxFuture<'static, ()>;

    /// A handler of the bot spins without awaiting: what runs after it must not wait for it.
    fn abandon(&self, bot: &BotName);
}

/// Runs handlers where they are asked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Inline;

impl BotExecutor for Inline {
    fn run(
        &self,
        _: &BotName,
        handler: BoxFuture<'static, imbabot_bot::Result<Effects>>,
    ) -> BoxFuture<'static, HandlerEnd> {
        Box::pin(async move {
            AssertUnwindSafe(handler).catch_unwind().await.map_err(|cause| Panicked(words(&*cause)))
        })
    }

    fn answers(&self, _: &BotName) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn abandon(&self, _: &BotName) {}
}

/// A thread and a runtime for each bot.
#[derive(Default)]
pub struct OwnThreads {
    threads: Mutex<HashMap<BotName, Own>>,
    /// How many threads each bot has lost to handlers that never await.
    lost: Mutex<HashMap<BotName, u32>>,
}

/// A bot that has taken so many threads with it gets no other: its events are set aside instead.
const LOST: u32 = 3;

struct Own {
    handle: Handle,
    // Dropping it ends the thread, once nothing on it spins.
    _alive: oneshot::Sender<()>,
}

impl OwnThreads {
    /// No threads yet: each bot gets its own with its first event.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn handle(&self, bot: &BotName) -> Result<Handle, Panicked> {
        let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner).get(bot).copied();
        if lost.is_some_and(|lost| lost >= LOST) {
            return Err(Panicked(format!(
                "quarantined: {LOST} handlers of this bot never awaited; restart after mending it"
            )));
        }
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = threads.get(bot) {
            return Ok(own.handle.clone());
        }
        let own =
            start(bot).map_err(|e| Panicked(format!("no thread for the bot: {}", e.kind())))?;
        let handle = own.handle.clone();
        threads.insert(bot.clone(), own);
        Ok(handle)
    }
}

fn start(bot: &BotName) -> std::io::Result<Own> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let (alive, dead) = oneshot::channel::<()>();
    // The kernel keeps 15 bytes of a thread's name.
    thread::Builder::new().name(format!("bot-{bot}")).spawn(move || {
        let _ = runtime.block_on(dead);
        // A handler that blocks must not hold up the end of the process.
        runtime.shutdown_background();
    })?;
    Ok(Own { handle, _alive: alive })
}

impl BotExecutor for OwnThreads {
    fn run(
        &self,
        bot: &BotName,
        handler: BoxFuture<'static, imbabot_bot::Result<Effects>>,
    ) -> BoxFuture<'static, HandlerEnd> {
        let handle = match self.handle(bot) {
            Ok(handle) => handle,
            Err(error) => return Box::pin(std::future::ready(Err(error))),
        };
        let task = AbortOnDrop(handle.spawn(handler));
        Box::pin(async move {
            let mut task = task;
            (&mut task.0).await.map_err(|error| {
                error.try_into_panic().map_or_else(
                    |_| Panicked("the handler was stopped".into()),
                    |cause| Panicked(words(&*cause)),
                )
            })
        })
    }

    fn answers(&self, bot: &BotName) -> BoxFuture<'static, ()> {
        match self.handle(bot) {
            Ok(handle) => {
                let beat = handle.spawn(async {});
                Box::pin(async move {
                    let _ = beat.await;
                })
            }
            Err(_) => Box::pin(std::future::ready(())),
        }
    }

    fn abandon(&self, bot: &BotName) {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        *lost.entry(bot.clone()).or_default() += 1;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).remove(bot);
    }
}

struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What a panic said.
pub(crate) fn words(cause: &(dyn Any + Send)) -> String {
    let text = cause
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| cause.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "for a reason without words".into())
}
