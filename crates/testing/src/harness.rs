//! For bot authors: a chat in which a bot lives, in a few lines and without a sleep. Rooms open
//! when the test says so, polls happen when the test says so, and time passes when the test says
//! so; everything in between is the real daemon.

use std::sync::Arc;
use std::time::Duration;

use imbabot_bot::Bot;
use imbabot_core::{RoomId, Timestamp};
use imbabot_scheduler::{Announcement, BotSettings, Rate, Settings};
use imbabot_simulator::{Endpoint, RoomSeed};
use imbabot_store::{DeliveryFilter, DeliveryRecord, Operations, Store};

use crate::world::{World, fail, must};

/// Monday, so that "on weekdays" means today.
const START: i64 = 1_772_445_600; // 2026-03-02T10:00:00Z

/// A chat with bots in it.
///
/// ```
/// use imbabot_bot::prelude::*;
/// use imbabot_testing::Harness;
///
/// struct Greeter;
///
/// #[async_trait]
/// impl Bot for Greeter {
///     async fn on_event(&self, ctx: &mut Context, event: &Event) -> Result<()> {
///         if let Event::Room(RoomEvent { change: RoomChange::Opened, room, .. }) = event {
///             ctx.send(room.id, format!("Welcome to {}!", room.name));
///         }
///         Ok(())
///     }
/// }
///
/// let mut chat = Harness::new().bot("greeter", Greeter);
/// chat.open_room("Support");
/// chat.poll();
/// assert_eq!(chat.sent(), ["Support: Welcome to Support!"]);
/// ```
pub struct Harness {
    world: World,
}

impl Default for Harness {
    fn default() -> Self {
        Self::new()
    }
}

impl Harness {
    /// An empty chat, on Monday 2 March 2026 at 10:00 UTC. Messages are not held back by rates,
    /// and nothing is polled but by [`Harness::poll`].
    #[must_use]
    pub fn new() -> Self {
        let mut world = World::new(Timestamp::from_seconds(START));
        let settings = world.settings();
        let at_once = Rate::new(u32::MAX, Duration::from_millis(1));
        settings.delivery.rate = at_once;
        settings.delivery.rate_per_room = at_once;
        // Polls come when the test asks for them.
        settings.poll.rooms = Duration::from_secs(100 * 365 * 86_400);
        settings.poll.users = settings.poll.rooms;
        Self { world }
    }

    /// Lets a bot in, under this name.
    ///
    /// # Panics
    /// The name is not a name, or the chat has begun.
    #[must_use]
    pub fn bot(mut self, name: &str, bot: impl Bot) -> Self {
        if self.world.engine().is_some() {
            fail("bots come in before the first room opens");
        }
        let settings = BotSettings::new(must(name.parse()), Arc::new(bot));
        self.world.settings().bots.push(settings);
        self
    }

    /// Puts an announcement into force.
    #[must_use]
    pub fn announcement(mut self, announcement: Announcement) -> Self {
        self.world.settings().announcements.push(Arc::new(announcement));
        self
    }

    /// Changes the settings before the chat begins.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(self.world.settings());
        self
    }

    /// Begins at this instant, written as `2026-03-02T10:00:00Z`.
    ///
    /// # Panics
    /// The text is no instant.
    #[must_use]
    pub fn at(mut self, start: &str) -> Self {
        let settings = self.world.settings().clone();
        self.world = World::new(must(start.parse()));
        let widgets = std::mem::take(&mut self.world.settings().widgets);
        *self.world.settings() = Settings { widgets, ..settings };
        self
    }

    /// Keeps everything in this store, and begins anew in it.
    #[must_use]
    pub fn over(mut self, store: Arc<dyn Store>) -> Self {
        let settings = self.world.settings().clone();
        self.world = World::over(Timestamp::from_seconds(START), store);
        let widgets = std::mem::take(&mut self.world.settings().widgets);
        *self.world.settings() = Settings { widgets, ..settings };
        self
    }

    /// Somebody opens a room.
    pub fn open_room(&mut self, name: &str) -> RoomId {
        self.world.start();
        id(self.world.simulator.open_room(name))
    }

    /// Somebody opens a room that is not a private conference.
    pub fn open_room_with(&mut self, seed: RoomSeed) -> RoomId {
        self.world.start();
        id(self.world.simulator.open_room_with(seed))
    }

    /// Somebody renames a room.
    ///
    /// # Panics
    /// There is no such room.
    pub fn rename_room(&mut self, room: RoomId, name: &str) {
        self.world.start();
        must(self.world.simulator.rename_room(number(room), name));
    }

    /// Somebody deletes a room.
    ///
    /// # Panics
    /// There is no such room.
    pub fn close_room(&mut self, room: RoomId) {
        self.world.start();
        must(self.world.simulator.close_room(number(room), false));
    }

    /// Somebody joins the site, under this number of the site's.
    pub fn join(&mut self, name: &str, site_user: u64) {
        self.world.start();
        self.world.simulator.join(name, site_user);
    }

    /// A person posts into a room.
    ///
    /// # Panics
    /// There is no such room.
    pub fn post(&mut self, room: RoomId, site_user: u64, text: &str) {
        self.world.start();
        must(self.world.simulator.post(number(room), site_user, text));
    }

    /// Polls rooms and users, and lets the bots react.
    pub fn poll(&mut self) {
        self.world.poll();
    }

    /// Lets time pass: timers ring, schedules fire, expiries expire.
    pub fn advance(&mut self, by: Duration) {
        self.world.start();
        self.world.advance(by);
    }

    /// What was posted by the bots, oldest first, as `room: text`.
    #[must_use]
    pub fn sent(&self) -> Vec<String> {
        let simulator = &self.world.simulator;
        simulator
            .log()
            .into_iter()
            .filter(|entry| entry.endpoint == Some(Endpoint::SendMsg) && entry.applied)
            .map(|entry| {
                let room = entry.room.and_then(|room| simulator.room(room));
                let name = room.map_or_else(|| "?".into(), |room| room.name);
                format!("{name}: {}", entry.text.unwrap_or_default())
            })
            .collect()
    }

    /// The deliveries with their states, oldest first.
    ///
    /// # Panics
    /// The store refuses.
    #[must_use]
    pub fn deliveries(&self) -> Vec<DeliveryRecord> {
        let filter = DeliveryFilter::default();
        let store = self.world.store();
        let mut found = must(futures_executor::block_on(Operations::deliveries(&*store, &filter)));
        found.reverse();
        found
    }

    /// The world underneath: the clock, the simulator with its faults, the store.
    pub fn world(&mut self) -> &mut World {
        &mut self.world
    }
}

fn id(room: i64) -> RoomId {
    RoomId(room.unsigned_abs())
}

fn number(room: RoomId) -> i64 {
    i64::try_from(room.0).unwrap_or(i64::MAX)
}
