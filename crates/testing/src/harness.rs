//! For bot authors: a chat in which a bot lives, in a few lines and without a sleep. Rooms open
//! when the test says so, polls happen when the test says so, and time passes when the test says
//! so; everything in between is the real daemon. What goes wrong is told with everything that
//! happened before it.

use std::sync::Arc;
use std::time::Duration;

use imbabot_bot::Bot;
use imbabot_core::{RoomId, Timestamp};
use imbabot_scheduler::{Announcement, BotSettings, Clock, Rate, Settings};
use imbabot_simulator::{Endpoint, RoomSeed, SimulatorError};
use imbabot_store::{DeliveryFilter, DeliveryRecord, Operations, Store};

use crate::transcript::Transcript;
use crate::world::{World, fail, must};

/// Monday, so that "on weekdays" means today.
const START: i64 = 1_772_445_600; // 2026-03-02T10:00:00Z

/// So many lines of the transcript a failing test shows, the last ones.
const SHOWN: usize = 100;

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
///
/// A handler that fails or panics fails the test, at the call in which that happened, with a
/// transcript of everything before it; [`Harness::may_fail`] is for tests of what comes after.
pub struct Harness {
    world: World,
    store: Option<Arc<dyn Store>>,
    start: Timestamp,
    may_fail: bool,
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
        let start = Timestamp::from_seconds(START);
        let mut world = World::new(start);
        let settings = world.settings();
        let at_once = Rate::new(u32::MAX, Duration::from_millis(1));
        settings.delivery.rate = at_once;
        settings.delivery.rate_per_room = at_once;
        // Polls come when the test asks for them.
        settings.poll.rooms = Duration::from_secs(100 * 365 * 86_400);
        settings.poll.users = settings.poll.rooms;
        Self { world, store: None, start, may_fail: false }
    }

    /// Lets a bot in, under this name.
    ///
    /// # Panics
    /// The name is not a name, or the chat has begun.
    #[must_use]
    #[track_caller]
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

    /// Handlers may fail: that stands in the transcript and in [`Harness::failures`], and does not
    /// fail the test.
    #[must_use]
    pub fn may_fail(mut self) -> Self {
        self.may_fail = true;
        self
    }

    /// Begins at this instant, written as `2026-03-02T10:00:00Z`.
    ///
    /// # Panics
    /// The text is no instant.
    #[must_use]
    #[track_caller]
    pub fn at(mut self, start: &str) -> Self {
        self.start = must(start.parse());
        self.anew();
        self
    }

    /// Keeps everything in this store, and begins anew in it.
    #[must_use]
    pub fn over(mut self, store: Arc<dyn Store>) -> Self {
        self.store = Some(store);
        self.anew();
        self
    }

    fn anew(&mut self) {
        let settings = self.world.settings().clone();
        self.world = match &self.store {
            Some(store) => World::over(self.start, Arc::clone(store)),
            None => World::new(self.start),
        };
        let widgets = std::mem::take(&mut self.world.settings().widgets);
        *self.world.settings() = Settings { widgets, ..settings };
    }

    /// Somebody opens a room.
    #[track_caller]
    pub fn open_room(&mut self, name: &str) -> RoomId {
        self.begin();
        id(self.world.simulator.open_room(name))
    }

    /// Somebody opens a room that is not a public conference.
    #[track_caller]
    pub fn open_room_with(&mut self, seed: RoomSeed) -> RoomId {
        self.begin();
        id(self.world.simulator.open_room_with(seed))
    }

    /// Somebody renames a room.
    ///
    /// # Panics
    /// There is no such room.
    #[track_caller]
    pub fn rename_room(&mut self, room: RoomId, name: &str) {
        self.begin();
        let done = self.world.simulator.rename_room(number(room), name);
        self.possible(done);
    }

    /// Somebody deletes a room.
    ///
    /// # Panics
    /// There is no such room.
    #[track_caller]
    pub fn close_room(&mut self, room: RoomId) {
        self.begin();
        let done = self.world.simulator.close_room(number(room), false);
        self.possible(done);
    }

    /// Somebody joins the site, under this number of the site's.
    #[track_caller]
    pub fn join(&mut self, name: &str, site_user: u64) {
        self.begin();
        self.world.simulator.join(name, site_user);
    }

    /// A person posts into a room. Bots are not told what: the API cannot read messages. They may
    /// see that the room was touched.
    ///
    /// # Panics
    /// There is no such room, or it is closed.
    #[track_caller]
    pub fn post(&mut self, room: RoomId, site_user: u64, text: &str) {
        self.begin();
        let done = self.world.simulator.post(number(room), site_user, text);
        self.possible(done.map(drop));
    }

    /// Polls rooms and users, and lets the bots react.
    ///
    /// # Panics
    /// A handler failed.
    #[track_caller]
    pub fn poll(&mut self) {
        self.begin();
        self.world.poll();
        self.no_failures();
    }

    /// Lets time pass: timers ring, schedules fire, expiries expire.
    ///
    /// # Panics
    /// A handler failed.
    #[track_caller]
    pub fn advance(&mut self, by: Duration) {
        self.begin();
        self.world.advance(by);
        self.no_failures();
    }

    /// Lets time pass until this instant, written as `2026-03-03T09:00:00Z`.
    ///
    /// # Panics
    /// The text is no instant, or one that is past; or a handler failed.
    #[track_caller]
    pub fn advance_to(&mut self, instant: &str) {
        self.begin();
        let target: Timestamp = must(instant.parse());
        let now = self.world.clock.now();
        if target < now {
            let (target, now) = (target.compact(), now.compact());
            self.fail_with_transcript(&format!("{target} is past: it is {now} in the chat"));
        }
        self.advance(target.since(now));
    }

    /// The answer to the next message is lost: the message is in its room, and the daemon cannot
    /// know.
    #[track_caller]
    pub fn lose_next_reply(&mut self) {
        self.begin();
        must(self.world.simulator.faults().push_spec("send_msg:apply-then-close"));
        self.fault("the next answer will be lost");
    }

    /// Nobody can connect to the server until this much has passed. When it is back the lists are
    /// polled, as a daemon that polls all the time would find out.
    #[track_caller]
    pub fn server_down_for(&mut self, duration: Duration) {
        self.begin();
        self.world.server_down_for(duration);
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

    /// What was posted last, as `room: text`.
    ///
    /// # Panics
    /// Nothing was posted.
    #[must_use]
    #[track_caller]
    pub fn last_sent(&mut self) -> String {
        match self.sent().pop() {
            Some(last) => last,
            None => self.fail_with_transcript("nothing was posted"),
        }
    }

    /// Fails the test, with the transcript, unless exactly this was posted, oldest first.
    ///
    /// # Panics
    /// Something else was posted.
    #[track_caller]
    pub fn expect_sent<T: AsRef<str>>(&mut self, expected: impl IntoIterator<Item = T>) {
        let expected: Vec<String> = expected.into_iter().map(|line| line.as_ref().into()).collect();
        let sent = self.sent();
        if sent != expected {
            let list = |lines: &[String]| match lines {
                [] => "  nothing".to_owned(),
                lines => lines.iter().map(|l| format!("  {l:?}")).collect::<Vec<_>>().join("\n"),
            };
            let (expected, sent) = (list(&expected), list(&sent));
            self.fail_with_transcript(&format!(
                "expected\n{expected}\nwas posted, but\n{sent}\nwas"
            ));
        }
    }

    /// The deliveries with their states, oldest first.
    ///
    /// # Panics
    /// The store refuses.
    #[must_use]
    #[track_caller]
    pub fn deliveries(&self) -> Vec<DeliveryRecord> {
        let filter = DeliveryFilter::default();
        let store = self.world.store();
        let mut found = must(futures_executor::block_on(Operations::deliveries(&*store, &filter)));
        found.reverse();
        found
    }

    /// What happened so far: what people did, what bots were told, what was posted or will be, and
    /// what became of it. The same test gives the same text.
    #[must_use]
    pub fn transcript(&mut self) -> Transcript {
        self.world.step();
        self.world.recorder().map(|recorder| recorder.transcript.clone()).unwrap_or_default()
    }

    /// The tries of handlers that failed, with what the bot was told and why.
    #[must_use]
    pub fn failures(&mut self) -> Vec<String> {
        self.world.recorder().map(|recorder| recorder.failures.clone()).unwrap_or_default()
    }

    /// The world underneath: the clock, the simulator with its faults, the store.
    pub fn world(&mut self) -> &mut World {
        &mut self.world
    }

    /// The chat begins with the first thing that happens in it.
    #[track_caller]
    fn begin(&mut self) {
        if self.world.recorder().is_none() {
            self.world.record();
        }
        self.world.start();
        // What was done to the world underneath since then.
        self.world.step();
        self.no_failures();
    }

    fn fault(&mut self, what: &str) {
        let now = self.world.clock.now();
        if let Some(recorder) = self.world.recorder() {
            recorder.fault(now, what.to_owned());
        }
    }

    #[track_caller]
    fn possible(&mut self, done: Result<(), SimulatorError>) {
        if let Err(error) = done {
            self.fail_with_transcript(&error.to_string());
        }
    }

    #[track_caller]
    fn no_failures(&mut self) {
        if self.may_fail {
            return;
        }
        if let Some(first) = self.failures().first().cloned() {
            self.fail_with_transcript(&first);
        }
    }

    #[track_caller]
    fn fail_with_transcript(&mut self, message: &str) -> ! {
        let told = self.transcript().to_string();
        let lines: Vec<&str> = told.lines().collect();
        let earlier = lines.len().saturating_sub(SHOWN);
        let mut transcript = match earlier {
            0 => String::new(),
            earlier => format!("({earlier} earlier lines)\n"),
        };
        transcript.extend(lines.iter().skip(earlier).map(|line| format!("{line}\n")));
        if transcript.is_empty() {
            transcript.push_str("nothing\n");
        }
        fail(&format!("{message}\n\nwhat happened:\n{transcript}"))
    }
}

fn id(room: i64) -> RoomId {
    RoomId(room.unsigned_abs())
}

fn number(room: RoomId) -> i64 {
    i64::try_from(room.0).unwrap_or(i64::MAX)
}
