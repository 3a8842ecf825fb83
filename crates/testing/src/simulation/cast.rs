//! The bots of a simulation: one that writes down what it is told, and others that do everything a
//! bot can do: greet, answer, send later, cancel, send under a key, wake, remember, fail.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use imbabot_bot::prelude::*;
use imbabot_bot::units::{minutes, seconds};
use imbabot_scheduler::BotSettings;

use crate::world::must;

/// The bot that is always there and says nothing.
pub(super) const RECORDER: &str = "recorder";

/// The bots that come and go.
pub(super) const ALL: [&str; 7] =
    ["greeter", "echo", "keyed", "waker", "clumsy", "daily", "reporter"];

/// What bots were told, in the order in which it was.
#[derive(Clone, Default)]
pub(super) struct Notebook(Arc<Mutex<Vec<RoomEvent>>>);

impl Notebook {
    pub(super) fn take(&self) -> Vec<RoomEvent> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self, event: &Event) {
        if let Event::Room(event) = event {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event.clone());
        }
    }
}

/// A bot of this name.
pub(super) fn bot(name: &str, notebook: &Notebook, failures: &Arc<AtomicU64>) -> BotSettings {
    let bot: Arc<dyn Bot> = match name {
        RECORDER => Arc::new(Recorder(notebook.clone())),
        "greeter" => Arc::new(Greeter),
        "echo" => Arc::new(Echo),
        "keyed" => Arc::new(Keyed),
        "waker" => Arc::new(Waker),
        "clumsy" => Arc::new(Clumsy(Arc::clone(failures))),
        "daily" => Arc::new(Daily),
        _ => Arc::new(Reporter),
    };
    BotSettings::new(must(name.parse()), bot)
}

struct Recorder(Notebook);

#[async_trait]
impl Bot for Recorder {
    fn listens(&self) -> Listen {
        Listen::ROOMS | Listen::USERS
    }

    async fn on_event(&self, _: &mut Context, event: &Event) -> Result<()> {
        self.0.write(event);
        Ok(())
    }
}

/// Greets at once and again later, unless the room is gone by then.
struct Greeter;

#[async_trait]
impl Bot for Greeter {
    async fn on_event(&self, ctx: &mut Context, event: &Event) -> Result<()> {
        let Event::Room(event) = event else { return Ok(()) };
        let room = event.room.id;
        match event.change {
            RoomChange::Opened => {
                ctx.send(room, format!("Welcome to {}", event.room.name));
                ctx.send(room, "[greeter] still there?")
                    .after(minutes(10))
                    .key(format!("follow/{room}"))
                    .policy(Policy::AtLeastOnce);
            }
            RoomChange::Gone => ctx.cancel(format!("follow/{room}")),
            _ => {}
        }
        Ok(())
    }
}

/// Answers whoever moved a room: if its own message counted as such, it would answer itself.
struct Echo;

#[async_trait]
impl Bot for Echo {
    async fn on_event(&self, ctx: &mut Context, event: &Event) -> Result<()> {
        if let Event::Room(RoomEvent { change: RoomChange::Touched, room, .. }) = event {
            ctx.send(room.id, "I heard that");
        }
        Ok(())
    }
}

/// Says something once per room, however often it is told.
struct Keyed;

#[async_trait]
impl Bot for Keyed {
    async fn on_event(&self, ctx: &mut Context, event: &Event) -> Result<()> {
        if let Event::Room(RoomEvent { change, room, .. }) = event
            && !matches!(change, RoomChange::Gone | RoomChange::Touched)
        {
            ctx.send(room.id, format!("[keyed {}]", room.id)).key(format!("hello/{}", room.id));
        }
        Ok(())
    }
}

/// Reminds three times, and counts in its memory.
struct Waker;

#[async_trait]
impl Bot for Waker {
    async fn on_event(&self, ctx: &mut Context, event: &Event) -> Result<()> {
        match event {
            Event::Room(RoomEvent { change: RoomChange::Opened, room, .. }) => {
                ctx.wake(room.id.to_string(), seconds(90));
            }
            Event::Room(RoomEvent { change: RoomChange::Gone, room, .. }) => {
                ctx.cancel(room.id.to_string());
            }
            Event::Timer(timer) => {
                let Ok(room) = timer.key.parse::<u64>() else { return Ok(()) };
                let count = ctx.memory().get::<u64>(&timer.key).await?.unwrap_or(0) + 1;
                ctx.memory().set(timer.key.clone(), &count)?;
                ctx.send(room, format!("[reminder {count} in {room}]"));
                if count < 3 {
                    ctx.wake(timer.key.clone(), minutes(15));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Fails twice out of three times, after it recorded something that must not be kept.
struct Clumsy(Arc<AtomicU64>);

#[async_trait]
impl Bot for Clumsy {
    async fn on_event(&self, ctx: &mut Context, event: &Event) -> Result<()> {
        let Some(room) = event.room_id() else { return Ok(()) };
        let n = self.0.fetch_add(1, Ordering::Relaxed);
        ctx.send(room, format!("clumsy {n}"));
        if n % 3 == 2 { Ok(()) } else { Err(io::Error::other("dropped it").into()) }
    }
}

/// Has schedules of its own.
struct Daily;

#[async_trait]
impl Bot for Daily {
    fn listens(&self) -> Listen {
        Listen::NOTHING
    }

    fn schedules(&self) -> Vec<Schedule> {
        let morning = must(Schedule::cron("morning", "30 2 * * *"));
        vec![
            must(morning.timezone("Europe/Berlin")),
            must(Schedule::every("often", minutes(45))).misfire(Misfire::CatchUp),
        ]
    }

    async fn on_event(&self, ctx: &mut Context, event: &Event) -> Result<()> {
        if let Event::Timer(timer) = event
            && let Some(room) = ctx.rooms(&RoomSelector::all()).await?.first()
        {
            ctx.send(room.id, format!("{} at {}", timer.key, timer.at.compact()));
        }
        Ok(())
    }
}

/// Says something, and is told what became of it.
struct Reporter;

#[async_trait]
impl Bot for Reporter {
    fn listens(&self) -> Listen {
        Listen::ROOMS | Listen::DELIVERIES
    }

    async fn on_event(&self, ctx: &mut Context, event: &Event) -> Result<()> {
        match event {
            Event::Room(RoomEvent { change: RoomChange::Renamed, room, .. }) => {
                ctx.send(room.id, format!("so this is {}", room.name));
            }
            Event::Delivery(event) => {
                let told = ctx.memory().get::<u64>("told").await?.unwrap_or(0) + 1;
                ctx.memory().set("told", &told)?;
                if event.state == "unknown" {
                    ctx.memory().set(event.delivery.to_string(), &event.state)?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}
