//! The trait a bot implements. A bot reacts to events and to time and records what it wants to
//! say; it never talks to the server itself and never learns of a delivery inside a handler.

use std::ops::BitOr;

use async_trait::async_trait;

use crate::context::Context;
use crate::event::Event;
use crate::schedule::Schedule;

/// What a handler returns. Any error will do; it is logged with the bot's name, nothing of the
/// handler's work is kept, and the event is tried again.
pub type Result<T, E = anyhow::Error> = std::result::Result<T, E>;

/// A bot: its settings, and what it does about an event.
///
/// One kind of bot can run several times with different settings. A handler sees one widget and
/// one event at a time. What it sends, remembers and schedules is committed together with "this
/// event is handled", in one transaction, only if it returns `Ok`. A handler that fails, panics
/// or takes longer than its `timeout` has said nothing: the event is tried again after 1 s and
/// 10 s, then it is set aside as poisoned, for this bot only.
///
/// ```
/// use imbabot_bot::prelude::*;
///
/// #[derive(Deserialize)]
/// struct Greeter {
///     greeting: Template,
/// }
///
/// #[async_trait]
/// impl Bot for Greeter {
///     async fn on_event(&self, ctx: &mut Context, event: &Event) -> Result<()> {
///         if let Event::Room(RoomEvent { change: RoomChange::Opened, room, .. }) = event {
///             ctx.send(room.id, self.greeting.render(room)?);
///         }
///         Ok(())
///     }
/// }
/// ```
#[async_trait]
pub trait Bot: Send + Sync + 'static {
    /// Which events it is told of. The default is room events; timers of its own always come.
    fn listens(&self) -> Listen {
        Listen::ROOMS
    }

    /// Its own schedules, each of which brings an [`Event::Timer`] whose key is the schedule's id,
    /// once per widget. The default is none.
    fn schedules(&self) -> Vec<Schedule> {
        Vec::new()
    }

    /// Handles one event.
    ///
    /// # Errors
    /// Whatever went wrong; see the trait's page for what follows.
    async fn on_event(&self, ctx: &mut Context, event: &Event) -> Result<()>;
}

/// Which events a bot is told of; combined with `|`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen(u8);

impl Listen {
    /// None but its own timers.
    pub const NOTHING: Self = Self(0);
    /// Changes of rooms.
    pub const ROOMS: Self = Self(1);
    /// Changes of users. Users are polled only while some bot listens to them.
    pub const USERS: Self = Self(2);
    /// What became of its own messages.
    pub const DELIVERIES: Self = Self(4);

    /// Whether all of `other` is listened to.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Listen {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
