#![doc = include_str!("../README.md")]

pub mod app;
mod cli;
pub mod config;
mod core_dumps;
mod current;
#[cfg(feature = "demo")]
mod demo;
mod exit;
mod http;
mod notify;
mod output;
mod registry;
pub mod rules;
mod setup;
mod status;
mod stores;
mod telemetry;
mod why;

pub use app::App;
pub use exit::Exit;
pub use imbabot_bot::{
    bot, context, event, foreign, memory, name, outgoing, prelude, rooms, schedule, template, units,
};
pub use imbabot_core as core;
/// Tests for bots: virtual time, a simulated chat, no sleep.
pub use imbabot_testing as testing;

/// The chapter on tests, as tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/testing.md")]
struct Chapter;
