//! What the tests of faults share: a chat whose bot has much to say, and questions to the ledger
//! and to the server about what became of it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]
#![allow(dead_code, reason = "each test binary uses its part")]

use std::time::Duration;

use imbabot_bot::prelude::*;
use imbabot_scheduler::{NotReady, Settings};
use imbabot_store::{AttemptRecord, Class, DeliveryState, Line};
use imbabot_testing::Harness;

/// Says so many things in each room that opens, after a while.
pub(crate) struct Teller {
    pub(crate) messages: usize,
    pub(crate) after: Duration,
}

#[async_trait]
impl Bot for Teller {
    fn listens(&self) -> Listen {
        Listen::ROOMS
    }

    async fn on_event(&self, ctx: &mut Context, event: &Event) -> Result<()> {
        if let Event::Room(RoomEvent { change: RoomChange::Opened, room, .. }) = event {
            for n in 0..self.messages {
                ctx.send(room.id, format!("number {n}")).after(self.after);
            }
        }
        Ok(())
    }
}

/// A chat as the default configuration makes it, rates and polls included, but for the limits on
/// bots; the bot says `messages` things in each room, `after` so long.
pub(crate) fn chat(messages: usize, after: Duration) -> Harness {
    Harness::new().bot("teller", Teller { messages, after }).with(|settings| {
        let usual = Settings::new();
        settings.poll = usual.poll;
        // Rooms that are there at the first look are news, so that many may open at once.
        settings.poll.baseline = false;
        settings.delivery = usual.delivery;
        settings.limits.per_event = 1_000;
        settings.limits.per_bot = (1_000_000, hours(1));
        settings.limits.per_bot_and_room = (1_000_000, hours(1));
    })
}

/// Opens rooms and lets the bot hear of them.
pub(crate) fn open(chat: &mut Harness, rooms: usize) -> Vec<RoomId> {
    let simulator = &chat.world().simulator;
    let id = |n| RoomId(simulator.open_room(&format!("Room {n}")).unsigned_abs());
    let rooms = (0..rooms).map(id).collect();
    chat.poll();
    rooms
}

pub(crate) fn fault(chat: &mut Harness, spec: &str) {
    chat.world().simulator.faults().push_spec(spec).unwrap();
}

pub(crate) fn no_more_faults(chat: &mut Harness) {
    chat.world().simulator.faults().clear();
}

/// The attempts in the ledger, each as it ended.
pub(crate) fn attempts(chat: &mut Harness) -> Vec<AttemptRecord> {
    let mut ended = std::collections::BTreeMap::new();
    for line in chat.world().ledger() {
        if let Line::Attempt(attempt) = line.line {
            ended.insert((attempt.started_at, attempt.delivery, attempt.n), attempt);
        }
    }
    ended.into_values().collect()
}

pub(crate) fn classes(chat: &mut Harness) -> Vec<Option<Class>> {
    attempts(chat).into_iter().map(|attempt| attempt.class).collect()
}

/// How many deliveries are in this state.
pub(crate) fn count(chat: &Harness, state: DeliveryState) -> usize {
    chat.deliveries().iter().filter(|delivery| delivery.state == state).count()
}

pub(crate) fn reasons(chat: &mut Harness) -> Vec<NotReady> {
    chat.world().engine().unwrap().reasons()
}

/// Requests of every kind that reached the server, and connections that it refused.
pub(crate) fn asked(chat: &mut Harness) -> usize {
    let simulator = &chat.world().simulator;
    simulator.log().len() + usize::try_from(simulator.refused_connections()).unwrap()
}

/// Requests to one endpoint.
pub(crate) fn asked_of(chat: &mut Harness, endpoint: &str) -> usize {
    let log = chat.world().simulator.log();
    log.iter().filter(|entry| entry.endpoint.is_some_and(|e| e.name() == endpoint)).count()
}

/// Lets time pass in small steps until it holds; how long that took.
pub(crate) fn until(
    chat: &mut Harness,
    most: Duration,
    what: &str,
    mut holds: impl FnMut(&mut Harness) -> bool,
) -> Duration {
    let step = Duration::from_millis(100);
    let mut waited = Duration::ZERO;
    while !holds(chat) {
        assert!(waited < most, "waited {waited:?} in vain: {what}");
        chat.advance(step);
        waited += step;
    }
    waited
}
