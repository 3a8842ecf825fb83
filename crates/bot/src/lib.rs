#![doc = include_str!("../README.md")]

pub mod activity;
pub mod bot;
pub mod context;
pub mod event;
pub mod foreign;
pub mod memory;
pub mod name;
pub mod outgoing;
pub mod prelude;
pub mod rooms;
pub mod schedule;
pub mod template;
pub mod units;

pub use activity::ActivitySignal;
pub use bot::{Bot, Listen, Result};
pub use context::{Context, Effects, Setting, TooMuch};
pub use event::{DeliveryEvent, Event, RoomChange, RoomEvent, TimerEvent, UserChange, UserEvent};
pub use foreign::{ForeignMarkup, ForeignText};
pub use memory::{Memory, MemoryReader, MemoryWrite, Seen};
pub use name::{BotName, ScheduleId, WidgetName};
pub use outgoing::{DeliveryId, Outgoing, Policy};
pub use rooms::{Room, RoomDirectory, RoomSelector, User};
pub use schedule::Schedule;
pub use template::{Template, Values};
