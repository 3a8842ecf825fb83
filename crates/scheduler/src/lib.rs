#![doc = include_str!("../README.md")]

mod announce;
pub mod breaker;
pub mod clock;
mod deliverer;
pub mod diff;
mod dispatcher;
pub mod engine;
pub mod executor;
mod fleet;
mod housekeeping;
pub mod limits;
mod lookup;
pub mod metrics;
pub mod outlook;
mod ownership;
pub mod plan;
mod poller;
pub mod settings;
mod shared;
mod signs;
pub mod status;
mod supervisor;
mod timer;

pub use announce::reach;
pub use clock::{Clock, StoreClock, SystemClock};
pub use engine::{Engine, Parts};
pub use executor::{
    Blame, BotExecutor, Handler, HandlerEnd, Inline, OwnThreads, Place, Started, Verdict, contained,
};
pub use limits::Rate;
pub use outlook::{Outlook, Upcoming};
pub use plan::{Ask, Planned, plan};
pub use poller::is_round;
pub use settings::{
    Announcement, BotSettings, DeliverySettings, PollSettings, Settings, WidgetSettings,
};
pub use shared::Fatal;
pub use status::{NotReady, Status};
pub use supervisor::Task;
pub use timer::{Agenda, bot_schedule_key, trigger};
