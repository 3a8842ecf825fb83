//! A store whose verbs are over when they are first looked at, whatever it has to wait for: for
//! simulations, in which nothing but the simulated clock may make anybody wait.

use std::collections::BTreeSet;
use std::future::{Future, Ready, ready};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use imbabot_bot::{BotName, DeliveryId, RoomSelector, WidgetName};
use imbabot_core::{Room, RoomId, Timestamp, User, WidgetId};
use imbabot_store::*;
use serde_json::Value;

/// A store that is waited for.
pub(crate) struct PromptStore {
    inner: Arc<dyn Store>,
}

impl PromptStore {
    /// Over another store.
    #[must_use]
    pub(crate) fn over(inner: Arc<dyn Store>) -> Self {
        Self { inner }
    }

    #[expect(clippy::unused_async, reason = "what the macro calls")]
    async fn enter(&self, _verb: &str) -> Result<()> {
        Ok(())
    }

    #[expect(clippy::unused_async, reason = "what the macro calls")]
    async fn leave(&self, _verb: &str) {}
}

struct Sleeper(Thread);

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits on this thread, also where it is in the middle of running tasks.
fn waited_for<F: Future>(verb: F) -> Ready<F::Output> {
    let waker = Waker::from(Arc::new(Sleeper(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut verb = pin!(verb);
    loop {
        if let Poll::Ready(end) = verb.as_mut().poll(&mut context) {
            return ready(end);
        }
        thread::park();
    }
}

crate::flaky::wrap_store!(PromptStore via waited_for);
