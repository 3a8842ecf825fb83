//! The configuration: one file, laid over by environment and flags, checked as a whole, turned
//! into types. It finds every mistake in one pass and says where it is; it never asks the network,
//! never reads the clock, and never repeats a secret.

mod bot;
mod changes;
mod code;
mod database;
mod delivery;
mod document;
mod environment;
mod files;
mod http;
pub mod keys;
mod kinds;
mod layers;
mod limits;
mod load;
mod log;
mod mask;
mod poll;
mod problem;
mod read;
mod render;
mod rooms;
mod rules;
mod sample;
mod schedule;
mod schema;
mod secrets;
mod show;
mod source;
mod store;
mod text;
mod units;
mod value;
mod walk;
mod widget;

pub use bot::BotConfig;
pub use changes::summary;
pub use code::Code;
pub use database::DatabaseUrl;
pub use delivery::{Backoff, Delivery};
pub use environment::Environment;
pub use http::Http;
pub use kinds::Kinds;
pub use limits::Limits;
pub use load::{DEFAULT_PATHS, LoadOptions, Loaded, load, load_for_store, load_without_secrets};
pub use log::{Log, LogFormat};
pub use poll::Poll;
pub use problem::{Problem, Problems, Severity, to_json};
pub use sample::{MINIMAL, SAMPLE, reference};
pub use schedule::ScheduleConfig;
pub use schema::schema;
pub(crate) use secrets::{Refused, database_url_in, database_url_of};
pub use show::{Origins, show, show_json, show_text};
pub use store::{Bodies, Server, Store, StorePlace};
pub use units::{format_size, parse_size};
pub use widget::{RoomsAuth, Widget};

/// A configuration that was checked: every value has its type, every name exists, every secret
/// was read.
#[derive(Debug, Clone)]
pub struct Config {
    /// The chats.
    pub widgets: Vec<Widget>,
    /// How the lists are fetched.
    pub poll: Poll,
    /// How messages are posted.
    pub delivery: Delivery,
    /// What holds bots back.
    pub limits: Limits,
    /// The announcements.
    pub schedules: Vec<ScheduleConfig>,
    /// The bots.
    pub bots: Vec<BotConfig>,
    /// Where everything is remembered.
    pub store: Store,
    /// What is served.
    pub http: Http,
    /// What is logged.
    pub log: Log,
}

impl Config {
    /// The widget of this name.
    #[must_use]
    pub fn widget(&self, name: &imbabot_bot::WidgetName) -> Option<&Widget> {
        self.widgets.iter().find(|widget| widget.name == *name)
    }
}
