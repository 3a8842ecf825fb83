//! What one file of a bot needs: `use imbabot::prelude::*;`.

pub use async_trait::async_trait;
pub use imbabot_core::{RoomId, RoomKind, SiteUserId, Timestamp, UserId};
pub use serde::{Deserialize, Serialize};

pub use crate::activity::ActivitySignal;
pub use crate::bot::{Bot, Listen, Result};
pub use crate::context::Context;
pub use crate::event::{
    DeliveryEvent, Event, RoomChange, RoomEvent, TimerEvent, UserChange, UserEvent,
};
pub use crate::foreign::ForeignText;
pub use crate::outgoing::{Outgoing, Policy};
pub use crate::rooms::{Room, RoomSelector, User};
pub use crate::schedule::{Dst, Gap, Misfire, Overlap, Repeat, Schedule};
pub use crate::template::{Template, Values};
pub use crate::units::{Span, days, hours, minutes, seconds};
