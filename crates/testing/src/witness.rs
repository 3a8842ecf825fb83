//! Stands between the engine and its bots and writes down what each bot was told and how its handler
//! ended, also where the store keeps nothing of it (a try that failed and comes again). Changes
//! nothing of what passes.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use imbabot_bot::{Bot, BotName, Context, Event, Listen, Schedule, WidgetName};
use imbabot_core::{RoomId, Timestamp, escape_foreign};
use imbabot_scheduler::{BotExecutor, Clock, Handler, HandlerEnd, Inline, Settings, Started};

use crate::clock::VirtualClock;

/// One try of one handler.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    pub(crate) at: Timestamp,
    pub(crate) bot: BotName,
    /// None if the bot's code never ran.
    pub(crate) told: Option<Told>,
    /// None while it runs.
    pub(crate) end: Option<HeardEnd>,
}

/// What the bot was told.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    /// `e17`.
    pub(crate) event: String,
    pub(crate) widget: WidgetName,
    pub(crate) room: Option<RoomId>,
    /// `room opened`, `timer summary`.
    pub(crate) what: String,
}

/// How a try ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HeardEnd {
    Done,
    /// In the handler's words, or those of its panic.
    Failed(String),
    /// The daemon was killed under it.
    Killed,
}

#[derive(Default)]
struct State {
    tries: BTreeMap<u64, Heard>,
    next: u64,
    /// Whose code runs at this moment.
    holder: Option<u64>,
    /// What ends now ends because the daemon does.
    killing: bool,
}

/// Clones write into the same book.
#[derive(Clone)]
pub(crate) struct Witness {
    clock: VirtualClock,
    state: Arc<Mutex<State>>,
}

impl Witness {
    pub(crate) fn new(clock: VirtualClock) -> Self {
        Self { clock, state: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same settings, with every bot watched.
    pub(crate) fn watching(&self, mut settings: Settings) -> Settings {
        for bot in &mut settings.bots {
            bot.bot = Arc::new(Watched { bot: Arc::clone(&bot.bot), witness: self.clone() });
        }
        settings
    }

    /// From here on, or no longer, what ends does so because the daemon is killed.
    pub(crate) fn killing(&self, killing: bool) {
        self.state().killing = killing;
    }

    /// The tries that have ended since this was asked last, in the order in which they began.
    pub(crate) fn take_ended(&self) -> Vec<Heard> {
        let mut state = self.state();
        let (ended, running): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut state.tries)
            .into_iter()
            .partition(|(_, heard)| heard.end.is_some());
        state.tries = running;
        ended.into_values().collect()
    }

    fn begin(&self, bot: &BotName) -> u64 {
        let at = self.clock.now();
        let mut state = self.state();
        let id = state.next;
        state.next += 1;
        state.tries.insert(id, Heard { at, bot: bot.clone(), told: None, end: None });
        id
    }

    fn end(&self, id: u64, end: HeardEnd) {
        if let Some(heard) = self.state().tries.get_mut(&id) {
            heard.end.get_or_insert(end);
        }
    }
}

impl BotExecutor for Witness {
    fn run(&self, bot: &BotName, mut handler: Handler) -> Started {
        let id = self.begin(bot);
        let witness = self.clone();
        let watched: Handler = Box::pin(poll_fn(move |context| {
            witness.state().holder = Some(id);
            handler.as_mut().poll(context)
        }));
        let Started { end, place } = Inline.run(bot, watched);
        let mut open = Open { witness: self.clone(), id };
        let end = Box::pin(async move {
            let end = end.await;
            open.close(&end);
            end
        });
        Started { end, place }
    }

    fn is_set_aside(&self, _: &BotName) -> bool {
        false
    }

    fn reloaded(&self, _: &[BotName]) {}
}

/// A try that has not ended. Dropped so, it was given up.
struct Open {
    witness: Witness,
    id: u64,
}

impl Open {
    fn close(&mut self, end: &HandlerEnd) {
        let end = match end {
            HandlerEnd::Done(_) => HeardEnd::Done,
            HandlerEnd::Failed(error) => HeardEnd::Failed(format!("error: {error}")),
            HandlerEnd::Panicked(words) => HeardEnd::Failed(format!("panicked: {words}")),
            HandlerEnd::HeldUp(why) => HeardEnd::Failed(format!("held up: {why}")),
        };
        self.witness.end(self.id, end);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let end = if self.witness.state().killing {
            HeardEnd::Killed
        } else {
            HeardEnd::Failed("it did not end within its time-out".into())
        };
        // What has ended stays as it ended.
        self.witness.end(self.id, end);
    }
}

/// A bot of which it is written down what it is told.
struct Watched {
    bot: Arc<dyn Bot>,
    witness: Witness,
}

#[async_trait]
impl Bot for Watched {
    fn listens(&self) -> Listen {
        self.bot.listens()
    }

    fn schedules(&self) -> Vec<Schedule> {
        self.bot.schedules()
    }

    async fn on_event(&self, ctx: &mut Context, event: &Event) -> imbabot_bot::Result<()> {
        {
            let told = Told {
                event: ctx.event_id().to_owned(),
                widget: ctx.widget().clone(),
                room: event.room_id(),
                what: words(event),
            };
            let mut state = self.witness.state();
            let holder = state.holder;
            if let Some(heard) = holder.and_then(|id| state.tries.get_mut(&id)) {
                heard.told = Some(told);
            }
        }
        self.bot.on_event(ctx, event).await
    }
}

fn words(event: &Event) -> String {
    match event {
        Event::Room(event) => format!("room {}", event.change.as_str()),
        Event::User(event) => format!("user {} {}", event.user.id, event.change.as_str()),
        Event::Timer(event) => format!("timer {}", escape_foreign(&event.key, 80)),
        Event::Delivery(event) => match &event.reason {
            Some(reason) => format!("delivery {} ({reason})", event.state),
            None => format!("delivery {}", event.state),
        },
        _ => "an event".into(),
    }
}
