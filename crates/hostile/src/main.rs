#![doc = include_str!("../README.md")]
#![allow(clippy::panic, reason = "these bots are here to misbehave")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use imbabot::App;
use imbabot::prelude::*;
use serde::Deserializer;

fn main() -> ExitCode {
    App::new()
        .bot::<Bad>("bad")
        .bot::<Slow>("slow")
        .bot::<Unborn>("unborn")
        .bot::<Shy>("shy")
        .bot::<Polite>("polite")
        .main()
}

/// The room that was opened, if one was.
fn opened(event: &Event) -> Option<&Room> {
    match event {
        Event::Room(RoomEvent { change: RoomChange::Opened, room, .. }) => Some(room),
        _ => None,
    }
}

/// Greets, as all bots should.
#[derive(Deserialize)]
struct Polite {}

#[async_trait]
impl Bot for Polite {
    async fn on_event(&self, ctx: &mut Context, event: &Event) -> Result<()> {
        if let Some(room) = opened(event) {
            ctx.send(room.id, format!("Welcome to {}!", room.name));
        }
        Ok(())
    }
}

/// What it does in a room whose name begins with "Poison".
#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum Deed {
    Abort,
    Spin,
    Flood,
    Hoard,
    Panic,
}

/// Does its deed as long as this file is there, and says "fine" otherwise.
#[derive(Deserialize)]
struct Bad {
    deed: Deed,
    sick: PathBuf,
}

#[async_trait]
impl Bot for Bad {
    async fn on_event(&self, ctx: &mut Context, event: &Event) -> Result<()> {
        let Some(room) = opened(event) else { return Ok(()) };
        if room.name.to_string().starts_with("Poison") && self.sick.exists() {
            match self.deed {
                Deed::Abort => std::process::abort(),
                Deed::Spin => {
                    while self.sick.exists() {
                        std::hint::spin_loop();
                    }
                }
                Deed::Flood => {
                    for n in 0..1_000_000_u32 {
                        ctx.send(room.id, format!("{n} {}", "x".repeat(10_000)));
                    }
                }
                Deed::Hoard => {
                    for _ in 0..50 {
                        ctx.send(room.id, "x".repeat(10_000_000));
                    }
                    ctx.memory().set("hoard", &"x".repeat(10_000_000))?;
                }
                Deed::Panic => panic!("poison"),
            }
        }
        ctx.send(room.id, "fine");
        Ok(())
    }
}

/// Takes its time for every event, and then only notes it.
#[derive(Deserialize)]
struct Slow {
    millis: u64,
}

#[async_trait]
impl Bot for Slow {
    #[expect(clippy::disallowed_methods, reason = "a bot that takes time takes real time")]
    async fn on_event(&self, ctx: &mut Context, _: &Event) -> Result<()> {
        tokio::time::sleep(Duration::from_millis(self.millis)).await;
        let seen: u64 = ctx.memory().get("seen").await?.unwrap_or_default();
        ctx.memory().set("seen", &(seen + 1))
    }
}

/// Panics when it is made.
struct Unborn;

impl<'de> Deserialize<'de> for Unborn {
    fn deserialize<D: Deserializer<'de>>(_: D) -> std::result::Result<Self, D::Error> {
        panic!("I never asked to be made")
    }
}

#[async_trait]
impl Bot for Unborn {
    async fn on_event(&self, _: &mut Context, _: &Event) -> Result<()> {
        Ok(())
    }
}

/// Panics when it is asked about itself.
#[derive(Deserialize)]
struct Shy {
    of: String,
}

#[async_trait]
impl Bot for Shy {
    fn listens(&self) -> Listen {
        assert_ne!(self.of, "listens", "I would rather not say");
        Listen::ROOMS
    }

    fn schedules(&self) -> Vec<Schedule> {
        assert_ne!(self.of, "schedules", "I would rather not say");
        Vec::new()
    }

    async fn on_event(&self, _: &mut Context, _: &Event) -> Result<()> {
        Ok(())
    }
}
