//! What the engine is to do, as plain data: widgets, bots, announcements, bounds. Where it came
//! from (a file, a test) is not known here.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use imbabot_bot::units::{days, hours, minutes, seconds};
use imbabot_bot::{
    Bot, BotName, Context, Event, ForeignMarkup, Listen, Policy, RoomSelector, Schedule, Template,
    WidgetName,
};
use imbabot_core::{Api, SiteUserId, escape_foreign};
use imbabot_store::{SendLimits, Settle};

use crate::executor::{contained, discard};
use crate::limits::Rate;

/// Everything that a reload can change.
#[derive(Clone)]
pub struct Settings {
    /// The widgets, by name.
    pub widgets: Vec<WidgetSettings>,
    /// The bots, by name.
    pub bots: Vec<BotSettings>,
    /// The announcements, by id.
    pub announcements: Vec<Arc<Announcement>>,
    /// How lists are polled.
    pub poll: PollSettings,
    /// In which folder a list waits, if most of it changed, until it is committed; without one where
    /// the system has its temporary files.
    pub spool: Option<PathBuf>,
    /// How messages are delivered.
    pub delivery: DeliverySettings,
    /// Bounds on bots.
    pub limits: SendLimits,
    /// How long finished records are kept.
    pub retention: Duration,
    /// Nothing of this reaches a real room.
    pub rehearsing: bool,
}

/// A widget.
#[derive(Clone)]
pub struct WidgetSettings {
    /// What the configuration calls it.
    pub name: WidgetName,
    /// Its API, with credentials and transport.
    pub api: Api,
    /// As whom the bots speak.
    pub sender: SiteUserId,
    /// Ask for rooms with a token of the sender instead of Basic.
    pub rooms_by_jwt: bool,
    /// How foreign text is shown in messages.
    pub markup: ForeignMarkup,
}

/// A running bot.
#[derive(Clone)]
pub struct BotSettings {
    /// Its name: it keys what the store remembers.
    pub name: BotName,
    /// The bot.
    pub bot: Arc<dyn Bot>,
    /// Only events of these rooms.
    pub rooms: Option<RoomSelector>,
    /// Only these widgets.
    pub widgets: Option<Vec<WidgetName>>,
    /// As whom it speaks, instead of the widget's sender.
    pub sender: Option<SiteUserId>,
    /// What happens when an outcome is unknown, instead of the general rule.
    pub policy: Option<Policy>,
    /// How long a handler may take.
    pub timeout: Duration,
    /// How many handlers may run at once.
    pub concurrency: usize,
    /// What its panic said, if it panicked when it was asked what it listens to and which
    /// schedules it has. Such a bot is told nothing.
    pub flaw: Option<String>,
}

/// A bot that is asked only once what it listens to and which schedules it has, where a panic does
/// no harm; and whose Drop may do what it likes.
struct Guarded {
    bot: Option<Arc<dyn Bot>>,
    listens: Listen,
    schedules: Vec<Schedule>,
}

#[async_trait]
impl Bot for Guarded {
    fn listens(&self) -> Listen {
        self.listens
    }

    fn schedules(&self) -> Vec<Schedule> {
        self.schedules.clone()
    }

    async fn on_event(&self, ctx: &mut Context, event: &Event) -> imbabot_bot::Result<()> {
        match &self.bot {
            Some(bot) => bot.on_event(ctx, event).await,
            None => Ok(()),
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if let Some(bot) = self.bot.take() {
            discard(bot);
        }
    }
}

impl BotSettings {
    /// A bot with the default bounds: 30 s and 8 handlers at once. Here it is asked what it
    /// listens to and which schedules it has, and never again.
    #[must_use]
    pub fn new(name: BotName, bot: Arc<dyn Bot>) -> Self {
        let declared = contained(|| (bot.listens(), bot.schedules()));
        let (listens, schedules, flaw) = match declared {
            Ok((listens, schedules)) => (listens, schedules, None),
            Err(panicked) => (Listen::NOTHING, Vec::new(), Some(escape_foreign(&panicked, 200))),
        };
        Self {
            name,
            bot: Arc::new(Guarded { bot: Some(bot), listens, schedules }),
            flaw,
            rooms: None,
            widgets: None,
            sender: None,
            policy: None,
            timeout: seconds(30),
            concurrency: 8,
        }
    }

    /// Whether it is told of this widget.
    #[must_use]
    pub fn serves(&self, widget: &WidgetName) -> bool {
        self.widgets.as_ref().is_none_or(|widgets| widgets.contains(widget))
    }
}

/// A text that goes to some rooms at some times.
#[derive(Debug, Clone)]
pub struct Announcement {
    /// When.
    pub schedule: Schedule,
    /// To which rooms.
    pub rooms: RoomSelector,
    /// What.
    pub text: Template,
    /// Only these widgets.
    pub widgets: Option<Vec<WidgetName>>,
    /// As whom, instead of the widget's sender.
    pub sender: Option<SiteUserId>,
    /// What happens when an outcome is unknown, instead of the general rule.
    pub policy: Option<Policy>,
    /// Whether it is in force.
    pub enabled: bool,
}

impl Announcement {
    /// An announcement with the default policies.
    #[must_use]
    pub fn new(schedule: Schedule, rooms: RoomSelector, text: Template) -> Self {
        Self { schedule, rooms, text, widgets: None, sender: None, policy: None, enabled: true }
    }

    /// Whether it is for this widget.
    #[must_use]
    pub fn serves(&self, widget: &WidgetName) -> bool {
        self.widgets.as_ref().is_none_or(|widgets| widgets.contains(widget))
    }

    /// Whether its rooms or its text can only be known from a snapshot.
    #[must_use]
    pub fn needs_snapshot(&self) -> bool {
        self.rooms.only_ids().is_none() || self.text.needs_room()
    }
}

/// How lists are polled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PollSettings {
    /// From the end of one poll of rooms to the start of the next.
    pub rooms: Duration,
    /// The same for users, polled only while some bot listens to them.
    pub users: Duration,
    /// How far apart polls of a list may come in which nothing changes for long; never closer than
    /// the distances above, so zero is as they say.
    pub quiet_max: Duration,
    /// Good polls in a row without a room before it counts as gone.
    pub gone_after: u32,
    /// The first good snapshot raises no events.
    pub baseline: bool,
}

impl Default for PollSettings {
    fn default() -> Self {
        Self {
            rooms: seconds(5),
            users: seconds(60),
            quiet_max: Duration::ZERO,
            gone_after: 3,
            baseline: true,
        }
    }
}

/// How messages are delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliverySettings {
    /// The general rule for unknown outcomes.
    pub policy: Policy,
    /// How long a message keeps.
    pub expires_after: Duration,
    /// Requests of one widget.
    pub rate: Rate,
    /// Requests to one room.
    pub rate_per_room: Rate,
    /// Requests of one widget in flight.
    pub concurrency: usize,
    /// How long an attempt may take.
    pub timeout: Duration,
    /// The first and the longest wait after an attempt of which no byte arrived.
    pub backoff: (Duration, Duration),
    /// How an unknown outcome moves on by itself.
    pub settle: Settle,
    /// The longest text, in bytes.
    pub max_text: usize,
}

impl Default for DeliverySettings {
    fn default() -> Self {
        Self {
            policy: Policy::AtMostOnce,
            expires_after: hours(1),
            rate: Rate::new(10, seconds(1)),
            rate_per_room: Rate::new(1, seconds(1)),
            concurrency: 8,
            timeout: seconds(20),
            backoff: (Duration::from_millis(500), seconds(60)),
            settle: Settle { wait: seconds(60), max_resends: 2, unresolved_after: hours(24) },
            max_text: 16 * 1024,
        }
    }
}

impl Settings {
    /// Nothing to do yet, with the default bounds.
    #[must_use]
    pub fn new() -> Self {
        Self {
            widgets: Vec::new(),
            bots: Vec::new(),
            announcements: Vec::new(),
            poll: PollSettings::default(),
            spool: None,
            delivery: DeliverySettings::default(),
            limits: SendLimits {
                per_event: 5,
                per_bot: (600, hours(1)),
                per_bot_and_room: (6, minutes(10)),
            },
            retention: days(30),
            rehearsing: false,
        }
    }

    /// A widget by its name.
    #[must_use]
    pub fn widget(&self, name: &WidgetName) -> Option<&WidgetSettings> {
        self.widgets.iter().find(|widget| widget.name == *name)
    }

    /// A bot by its name.
    #[must_use]
    pub fn bot(&self, name: &BotName) -> Option<&BotSettings> {
        self.bots.iter().find(|bot| bot.name == *name)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::new()
    }
}
