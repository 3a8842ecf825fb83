//! What a handler has at hand: the rooms, its memory, the time of the event, and a place to record
//! what it wants done. It does no I/O of its own and holds no connection.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use imbabot_core::{RoomId, Timestamp};

use crate::activity::ActivitySignal;
use crate::bot::Result;
use crate::foreign::ForeignMarkup;
use crate::memory::{Memory, MemoryReader, MemoryWrite};
use crate::name::{BotName, WidgetName};
use crate::outgoing::Outgoing;
use crate::rooms::{Room, RoomDirectory, RoomSelector};

/// What one handler may record of each kind (messages, timers, keys to take back): far more than
/// any limit lets through, and little enough to be committed at once.
pub const MOST_RECORDS: usize = 10_000;
/// The bytes of all texts and keys that one handler may record. A text that is too long to be sent
/// counts as one that is just too long.
pub const MOST_BYTES: usize = 8 * 1024 * 1024;

/// Handed to [`Bot::on_event`](crate::Bot::on_event) for one event.
pub struct Context {
    setting: Setting,
    memory: Memory,
    effects: Effects,
    /// How many messages were recorded, also those that were taken back: it keys them.
    recorded: usize,
    /// The bytes of what was recorded, also of what was taken back.
    bytes: usize,
    /// What was recorded beyond the bounds: it is not kept, and the handler fails.
    excess: Option<TooMuch>,
    /// Where calls on a message that is not kept go.
    beyond: Option<Outgoing>,
}

/// A handler recorded more than is kept for one event: nothing of it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TooMuch {
    /// More than [`MOST_RECORDS`] messages.
    Messages,
    /// More than [`MOST_RECORDS`] timers.
    Timers,
    /// More than [`MOST_RECORDS`] keys to take back.
    Cancels,
    /// More than [`MOST_BYTES`] bytes.
    Bytes,
    /// More than fits into [`MOST_WRITTEN`](crate::memory::MOST_WRITTEN).
    Memory,
}

impl fmt::Display for TooMuch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            Self::Messages => "messages",
            Self::Timers => "timers",
            Self::Cancels => "keys to take back",
            Self::Memory => {
                return f.write_str("more keys of the memory were removed than one event may");
            }
            Self::Bytes => {
                return write!(
                    f,
                    "more than {} MiB of texts and keys were recorded for one event",
                    MOST_BYTES >> 20
                );
            }
        };
        write!(f, "more than {MOST_RECORDS} {what} were recorded for one event")
    }
}

impl std::error::Error for TooMuch {}

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
    /// Whether the widget's lists tell that somebody writes.
    pub activity: ActivitySignal,
    /// How the widget shows foreign markup.
    pub markup: ForeignMarkup,
    /// The longest text that can be sent, in bytes.
    pub max_text: usize,
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
        Self {
            setting,
            memory,
            effects: Effects::default(),
            recorded: 0,
            bytes: 0,
            excess: None,
            beyond: None,
        }
    }

    /// Records a message to a room. It neither waits nor fails for reasons of the network: it is
    /// committed when the handler returns `Ok`, and sent after that. A text that cannot be sent
    /// (empty, too long) becomes a delivery that is `dead(invalid)`, visible in the ledger. A
    /// handler that records more than [`MOST_RECORDS`] of them fails when it returns.
    pub fn send(&mut self, room: impl Into<RoomId>, text: impl Into<String>) -> &mut Outgoing {
        let room = room.into();
        let mut text = text.into();
        if text.len() > self.setting.max_text {
            // Too long it is, and too long it stays; the rest says nothing more.
            let mut end = self.setting.max_text + 1;
            while !text.is_char_boundary(end) {
                end += 1;
            }
            text.truncate(end);
            text.shrink_to_fit();
        }
        let fits = self.fits(self.effects.sends.len(), text.len(), TooMuch::Messages);
        let Setting { bot, widget, event, now, .. } = &self.setting;
        let ordinal = self.recorded;
        self.recorded += 1;
        let outgoing = Outgoing {
            room,
            text,
            not_before: None,
            key: None,
            sender: None,
            policy: None,
            expires_after: None,
            now: *now,
            key_prefix: format!("bot/{bot}/"),
            own_key: format!("event/{bot}/{event}/{widget}/{room}/{ordinal}"),
        };
        if !fits {
            return self.beyond.insert(outgoing);
        }
        let place = self.effects.sends.len();
        self.effects.sends.push(outgoing);
        &mut self.effects.sends[place]
    }

    /// Whether one more of a kind, with so many bytes, is within the bounds.
    fn fits(&mut self, count: usize, bytes: usize, kind: TooMuch) -> bool {
        self.bytes = self.bytes.saturating_add(bytes);
        let most = MOST_BYTES.saturating_add(self.setting.max_text);
        let excess = if count >= MOST_RECORDS {
            kind
        } else if self.bytes > most {
            TooMuch::Bytes
        } else {
            return true;
        };
        self.excess.get_or_insert(excess);
        false
    }

    /// Brings a durable [`Event::Timer`](crate::Event::Timer) with this key, `after` the event's
    /// time. The same key set again moves it.
    pub fn wake(&mut self, key: impl Into<String>, after: Duration) {
        let (key, at) = (key.into(), self.setting.now + after);
        if self.fits(self.effects.wakes.len(), key.len(), TooMuch::Timers) {
            self.effects.wakes.push((key, at));
        }
    }

    /// Takes back the timer and the still queued message with this key, if there are any: those of
    /// earlier events, and what this handler itself recorded before. What was sent stays sent.
    pub fn cancel(&mut self, key: impl Into<String>) {
        let key = key.into();
        self.effects.wakes.retain(|(wake, _)| *wake != key);
        self.effects.sends.retain(|send| send.key.as_ref() != Some(&key));
        if self.fits(self.effects.cancels.len(), key.len(), TooMuch::Cancels) {
            self.effects.cancels.push(key);
        }
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

    /// The id of the event, as `imbabot events` shows it: the same when it is tried again.
    #[must_use]
    pub fn event_id(&self) -> &str {
        &self.setting.event
    }

    /// The name under which this bot runs.
    #[must_use]
    pub fn bot(&self) -> &BotName {
        &self.setting.bot
    }

    /// Whether this is a rehearsal (`imbabot rehearse`): skip what reaches the world outside by other
    /// ways. What is sent through this context needs no care: it reaches a simulated chat only.
    #[must_use]
    pub fn rehearsing(&self) -> bool {
        self.setting.rehearsing
    }

    /// Whether rooms of this widget are touched when somebody writes in them, as far as the daemon knows
    /// by now. A bot that takes a room without [`Touched`](crate::RoomChange::Touched) for a quiet one
    /// should not where this is [`ActivitySignal::Absent`].
    #[must_use]
    pub fn activity_signal(&self) -> ActivitySignal {
        self.setting.activity
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
    ///
    /// # Errors
    /// It recorded more than is kept for one event: nothing of it is.
    pub fn into_effects(self) -> Result<Effects, TooMuch> {
        // Keys of messages are given after the message: they count here.
        let keys = self.effects.sends.iter().filter_map(|send| send.key.as_ref());
        let bytes = keys.map(String::len).fold(self.bytes, usize::saturating_add);
        match self.excess {
            Some(excess) => Err(excess),
            None if self.memory.overflowed() => Err(TooMuch::Memory),
            None if bytes > MOST_BYTES.saturating_add(self.setting.max_text) => Err(TooMuch::Bytes),
            None => Ok(Effects { memory: self.memory.into_writes(), ..self.effects }),
        }
    }
}
