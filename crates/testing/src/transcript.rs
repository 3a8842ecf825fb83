//! What happened in a chat, in order: what people did, what bots were told, what was posted and what
//! became of it. The same history gives the same text, so it can be kept as a snapshot. Only ever
//! read; the recorder writes it.

mod recorder;

use std::fmt;

use imbabot_bot::{BotName, DeliveryId, WidgetName};
use imbabot_core::{RoomId, Timestamp, escape_foreign};
use imbabot_store::{DeliveryState, OccurrenceOutcome};

pub(crate) use recorder::Recorder;

/// The longest text that a line shows.
const SHOWN: usize = 500;

/// What happened, oldest first. Displayed with a line for each entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transcript {
    entries: Vec<Entry>,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// When, by the daemon's clock.
    pub at: Timestamp,
    /// In which widget; none if it concerns all.
    pub widget: Option<WidgetName>,
    /// In which room.
    pub room: Option<RoomId>,
    /// What the room was called then. Foreign text.
    pub name: Option<String>,
    /// What happened.
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// Somebody did something.
    People {
        /// Who; foreign text. None where the API would not tell either.
        who: Option<String>,
        /// What.
        did: Deed,
    },
    /// Something was done to the server or to the daemon.
    Fault(String),
    /// A bot was told something.
    Told {
        /// The bot.
        bot: BotName,
        /// The id of the event.
        event: String,
        /// What: `room opened`, `timer summary`.
        what: String,
        /// Why its handler failed, if it did: then this try left nothing behind.
        failed: Option<String>,
    },
    /// An event was set aside for a bot: it failed on every try.
    Poisoned {
        /// The bot.
        bot: BotName,
        /// The id of the event.
        event: String,
    },
    /// A message: it was posted, or it will be, or it will not.
    Message(Box<Message>),
    /// Occurrences of a schedule that did not fire.
    LeftOut {
        /// The schedule.
        schedule: String,
        /// The first instant.
        from: Timestamp,
        /// How many.
        count: u64,
        /// `skipped` or `missed`.
        outcome: OccurrenceOutcome,
        /// Why.
        reason: String,
    },
}

/// What people do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Deed {
    /// Opens the room; its kind, where that is not a conference.
    Opens(Option<String>),
    /// Renames it, from this name.
    Renames(String),
    /// Closes it.
    Closes,
    /// Opens it again.
    Restores,
    /// Changes something of it: what, and to what.
    Changes(&'static str, String),
    /// Changes it in a way that only its `updated_at` shows.
    Touches,
    /// Posts into it. Foreign text.
    Posts(String),
    /// Joins the site.
    Joins,
    /// Is changed: renamed, banned, removed.
    Turns,
}

/// A message at one point of its life.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// The delivery.
    pub delivery: DeliveryId,
    /// The bot or the schedule that wanted it; `send` for one of an operator.
    pub from: String,
    /// The occurrence it belongs to.
    pub occurrence: Option<String>,
    /// The event it answers.
    pub event: Option<String>,
    /// The text.
    pub text: String,
    /// Where it stands.
    pub state: DeliveryState,
    /// Why, in words.
    pub reason: Option<String>,
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// Not before this instant.
    pub not_before: Timestamp,
}

impl Transcript {
    /// The entries, oldest first.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whether nothing happened.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn push(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    pub(crate) fn retain(&mut self, keep: impl FnMut(&Entry) -> bool) {
        self.entries.retain(keep);
    }
}

impl fmt::Display for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for entry in &self.entries {
            writeln!(f, "{entry}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  {}", self.at.compact(), self.words(true))
    }
}

impl Entry {
    /// What happened, in words; with the room's name, or as said below a heading that names it.
    #[must_use]
    pub fn words(&self, with_room: bool) -> String {
        let room = match (&self.name, self.room) {
            _ if !with_room => "the room".to_owned(),
            (Some(name), _) => quoted(name),
            (None, Some(room)) => format!("room {room}"),
            (None, None) => "the chat".into(),
        };
        match &self.what {
            What::People { who, did } => {
                let who = who.as_ref().map_or_else(|| "somebody".into(), |who| quoted(who));
                match did {
                    Deed::Opens(kind) => {
                        let number = self.room.filter(|_| with_room);
                        let number = number.map(|n| format!(" (room {n})")).unwrap_or_default();
                        let kind = kind.as_ref().map(|k| format!(", {k}")).unwrap_or_default();
                        format!("{who} opens {room}{number}{kind}")
                    }
                    Deed::Renames(from) if with_room => {
                        format!("{who} renames {} to {room}", quoted(from))
                    }
                    Deed::Renames(_) => {
                        let to = self.name.as_deref().unwrap_or_default();
                        format!("{who} renames {room} to {}", quoted(to))
                    }
                    Deed::Closes => format!("{who} closes {room}"),
                    Deed::Restores => format!("{who} opens {room} again"),
                    Deed::Changes(what, to) => format!("{who} sets the {what} of {room} to {to}"),
                    Deed::Touches => format!("{who} touches {room}"),
                    Deed::Posts(text) => {
                        let place = if with_room { format!(" in {room}") } else { String::new() };
                        format!("{who} posts{place}: {}", escape_foreign(text, SHOWN))
                    }
                    Deed::Joins => format!("{who} joins"),
                    Deed::Turns => format!("{who} changes"),
                }
            }
            What::Fault(what) => what.clone(),
            What::Told { bot, what, failed, .. } => {
                let of = if with_room && self.room.is_some() {
                    format!(" ({room})")
                } else {
                    String::new()
                };
                match failed {
                    None => format!("{bot} is told: {what}{of}"),
                    Some(why) => {
                        format!("{bot} FAILS when told: {what}{of}: {}", escape_foreign(why, SHOWN))
                    }
                }
            }
            What::Poisoned { bot, event } => {
                format!("{event} is set aside for {bot}: it failed on every try")
            }
            What::Message(message) => message.words(if with_room { Some(&room) } else { None }),
            What::LeftOut { schedule, from, count, outcome, reason } => {
                let more =
                    if *count > 1 { format!(" and {} more", count - 1) } else { String::new() };
                format!("{schedule}@{}{more}: {outcome} ({reason})", from.compact())
            }
        }
    }
}

impl Message {
    fn words(&self, room: Option<&str>) -> String {
        let Self { from, text, state, not_before, .. } = self;
        let text = escape_foreign(text, SHOWN);
        let place = room.map(|room| format!(" in {room}")).unwrap_or_default();
        let why = self.reason.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        match state {
            DeliveryState::Delivered if self.reason.is_none() => {
                format!("{from} posts{place}: {text}")
            }
            DeliveryState::Delivered => format!("{from} posts{place}{why}: {text}"),
            DeliveryState::Queued if self.reason.is_some() => {
                format!("{from} cannot post yet{place}{why}: {text}")
            }
            DeliveryState::Queued | DeliveryState::Sending => {
                format!("{from} will post{place} at {}: {text}", not_before.compact())
            }
            DeliveryState::Unknown => {
                format!("{from} may have posted{place}, unknown{why}: {text}")
            }
            DeliveryState::Dead => format!("{from} does not post{place}, dead{why}: {text}"),
        }
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", escape_foreign(name, 200))
}
