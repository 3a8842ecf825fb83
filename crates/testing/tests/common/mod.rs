//! What the tests of faults share: bots that write down what they are told, and bots that answer.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]
#![allow(dead_code, reason = "each test binary uses its part")]

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use futures_executor::block_on;
use imbabot_bot::prelude::*;
use imbabot_core::Timestamp;
use imbabot_scheduler::Clock;
use imbabot_store::{EventRecord, Line, Operations, PauseScope};
use imbabot_testing::{Check, Harness, VirtualClock};

/// Writes down everything that it is told, and says nothing.
#[derive(Clone, Default)]
pub(crate) struct Notebook(Arc<Mutex<Vec<String>>>);

impl Notebook {
    /// What was written since this was asked last.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    pub(crate) fn write(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }
}

/// An event in a few words.
pub(crate) fn words(event: &Event) -> String {
    match event {
        Event::Room(event) => format!("{} {}", event.change.as_str(), event.room.name),
        Event::User(event) => {
            format!("{} user {}", event.change.as_str(), event.user.id)
        }
        Event::Timer(event) => format!("timer {}", event.key),
        Event::Delivery(event) => {
            let reason = event.reason.as_deref().unwrap_or("-");
            format!("delivery {} {reason}", event.state)
        }
        _ => "something new".into(),
    }
}

#[async_trait]
impl Bot for Notebook {
    fn listens(&self) -> Listen {
        Listen::ROOMS | Listen::USERS | Listen::DELIVERIES
    }

    async fn on_event(&self, _: &mut Context, event: &Event) -> Result<()> {
        self.write(words(event));
        Ok(())
    }
}

/// What a bot does about an event, as a function.
pub(crate) struct On<F>(pub(crate) F);

#[async_trait]
impl<F> Bot for On<F>
where
    F: Fn(&mut Context, &Event) + Send + Sync + 'static,
{
    fn listens(&self) -> Listen {
        Listen::ROOMS | Listen::DELIVERIES
    }

    async fn on_event(&self, ctx: &mut Context, event: &Event) -> Result<()> {
        (self.0)(ctx, event);
        Ok(())
    }
}

/// The room that was opened, if one was.
pub(crate) fn opened(event: &Event) -> Option<&Room> {
    match event {
        Event::Room(RoomEvent { change: RoomChange::Opened, room, .. }) => Some(room),
        _ => None,
    }
}

/// Greets a room that opens, and asks to be told what became of it.
pub(crate) fn greeter() -> impl Bot {
    On(|ctx: &mut Context, event: &Event| {
        if let Some(room) = opened(event) {
            ctx.send(room.id, format!("Welcome to {}!", room.name));
        }
    })
}

/// The clock of the harness, for bots that take time in it.
#[derive(Clone, Default)]
pub(crate) struct Hourglass(Arc<OnceLock<VirtualClock>>);

impl Hourglass {
    pub(crate) fn of(&self, chat: &mut Harness) {
        assert!(self.0.set(chat.world().clock.clone()).is_ok());
    }

    pub(crate) async fn sleep(&self, length: Duration) {
        self.0.get().unwrap().sleep(length).await;
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.0.get().unwrap().now()
    }
}

/// Everything that bots were told, newest first.
pub(crate) fn events(chat: &mut Harness, poisoned: bool) -> Vec<EventRecord> {
    let store = chat.world().store();
    block_on(Operations::events(&*store, poisoned, usize::MAX >> 1)).unwrap()
}

/// Pauses or resumes.
pub(crate) fn pause(chat: &mut Harness, scope: &PauseScope, paused: bool) {
    let (store, now) = (chat.world().store(), chat.world().clock.now());
    assert!(block_on(store.pause(now, scope, paused)).unwrap());
    chat.world().engine().unwrap().wake();
    chat.world().step();
}

/// The invariants hold, and nothing is left that waits.
#[track_caller]
pub(crate) fn assert_quiescent(chat: &mut Harness) {
    let rate = chat.world().settings().delivery.rate;
    let world = chat.world();
    let found = Check::new()
        .requests(world.simulator.log().iter().map(Into::into))
        .ledger(world.ledger())
        .rate(rate)
        .quiescent()
        .run();
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// What became of the occurrences of a schedule: `instant recorded outcome`.
pub(crate) fn occurrences(chat: &mut Harness) -> Vec<(Timestamp, Timestamp, String)> {
    let mut all = std::collections::BTreeMap::new();
    for line in chat.world().ledger() {
        if let Line::Occurrence(o) = line.line {
            all.insert(o.id.clone(), (o.nominal_at, o.recorded_at, o.outcome.to_string()));
        }
    }
    all.into_values().collect()
}
