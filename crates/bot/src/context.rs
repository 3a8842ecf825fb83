//! What a handler has at hand: the rooms, its memory, the time of the event, and a place to record
//! what it wants done. It does no I/O of its own and holds no connection.

use std::sync::Arc;
use std::time::Duration;

use imbabot_core::{RoomId, Timestamp};

use crate::bot::Result;
use crate::foreign::ForeignMarkup;
use crate::memory::{Memory, MemoryReader, MemoryWrite};
use crate::name::{BotName, WidgetName};
use crate::outgoing::Outgoing;
use crate::rooms::{Room, RoomDirectory, RoomSelector};

/// Handed to [`Bot::on_event`](crate::Bot::on_event) for one event.
pub struct Context {
    setting: Setting,
    memory: Memory,
    effects: Effects,
    /// How many messages were recorded, also those that were taken back: it keys them.
    recorded: usize,
}

/// Where and when a handler runs. The engine fills it in.
#[derive(Clone)]
pub struct Setting {
    /// The bot instance.
    pub bot: BotName,
    /// The widget the event belongs to.
    pub widget: WidgetName,
    /// The id of the event: it keys what the handler sends.
    pub event: String,
    /// The event's time.
    pub now: Timestamp,
    /// Whether nothing of this reaches a real room.
    pub rehearsing: bool,
    /// How the widget shows foreign markup.
    pub markup: ForeignMarkup,
    /// Where rooms are looked up.
    pub rooms: Arc<dyn RoomDirectory>,
    /// Where memory is read.
    pub memory: Arc<dyn MemoryReader>,
}

/// What a handler recorded. It is committed as a whole or not at all.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Effects {
    /// Messages, in the order of the calls.
    pub sends: Vec<Outgoing>,
    /// Timers to set: key and instant. A second one with the same key replaces the first.
    pub wakes: Vec<(String, Timestamp)>,
    /// Keys of messages and timers to take back.
    pub cancels: Vec<String>,
    /// Writes to the bot's memory.
    pub memory: Vec<MemoryWrite>,
}

impl Context {
    /// A context for one event.
    #[must_use]
    pub fn new(setting: Setting) -> Self {
        let memory =
            Memory::new(setting.bot.clone(), setting.widget.clone(), Arc::clone(&setting.memory));
        Self { setting, memory, effects: Effects::default(), recorded: 0 }
    }

    /// Records a message to a room. It neither waits nor fails for reasons of the network: it is
    /// committed when the handler returns `Ok`, and sent after that. A text that cannot be sent
    /// (empty, too long) becomes a delivery that is `dead(invalid)`, visible in the ledger.
    pub fn send(&mut self, room: impl Into<RoomId>, text: impl Into<String>) -> &mut Outgoing {
        let room = room.into();
        let Setting { bot, widget, event, now, .. } = &self.setting;
        let ordinal = self.recorded;
        self.recorded += 1;
        let place = self.effects.sends.len();
        self.effects.sends.push(Outgoing {
            room,
            text: text.into(),
            not_before: None,
            key: None,
            sender: None,
            policy: None,
            expires_after: None,
            now: *now,
            key_prefix: format!("bot/{bot}/"),
            own_key: format!("event/{bot}/{event}/{widget}/{room}/{ordinal}"),
        });
        &mut self.effects.sends[place]
    }

    /// Brings a durable [`Event::Timer`](crate::Event::Timer) with this key, `after` the event's
    /// time. The same key set again moves it.
    pub fn wake(&mut self, key: impl Into<String>, after: Duration) {
        let at = self.setting.now + after;
        self.effects.wakes.push((key.into(), at));
    }

    /// Takes back the timer and the still queued message with this key, if there are any: those of
    /// earlier events, and what this handler itself recorded before. What was sent stays sent.
    pub fn cancel(&mut self, key: impl Into<String>) {
        let key = key.into();
        self.effects.wakes.retain(|(wake, _)| *wake != key);
        self.effects.sends.retain(|send| send.key.as_ref() != Some(&key));
        self.effects.cancels.push(key);
    }

    /// The event's time. A handler that is tried again sees the same time again.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.setting.now
    }

    /// The widget the event belongs to.
    #[must_use]
    pub fn widget(&self) -> &WidgetName {
        &self.setting.widget
    }

    /// The name under which this bot runs.
    #[must_use]
    pub fn bot(&self) -> &BotName {
        &self.setting.bot
    }

    /// Whether this is a rehearsal: skip what reaches the world outside by other ways.
    #[must_use]
    pub fn rehearsing(&self) -> bool {
        self.setting.rehearsing
    }

    /// A room of the last committed snapshot.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn room(&self, id: RoomId) -> Result<Option<Room>> {
        let found = self.setting.rooms.room(&self.setting.widget, id).await?;
        Ok(found.map(|room| Room::of(&room, self.setting.markup)))
    }

    /// The rooms of the last committed snapshot that the selector chooses, by ascending number.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn rooms(&self, selector: &RoomSelector) -> Result<Vec<Room>> {
        let found = self.setting.rooms.rooms(&self.setting.widget, selector).await?;
        Ok(found.iter().map(|room| Room::of(room, self.setting.markup)).collect())
    }

    /// The bot's own memory for this widget.
    pub fn memory(&mut self) -> &mut Memory {
        &mut self.memory
    }

    /// What the handler recorded.
    #[must_use]
    pub fn into_effects(self) -> Effects {
        Effects { memory: self.memory.into_writes(), ..self.effects }
    }
}
