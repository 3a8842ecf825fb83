//! The configuration as its users meet it: files in, types or located errors out. Nothing here
//! touches the environment of the process.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of a test may fail as the test itself may"
)]

#[path = "config/support.rs"]
mod support;

#[path = "config/errors.rs"]
mod errors;
#[path = "config/layers.rs"]
mod layers;
#[path = "config/nasty_times.rs"]
mod nasty_times;
#[path = "config/rules.rs"]
mod rules;
#[path = "config/samples.rs"]
mod samples;
#[path = "config/secrets.rs"]
mod secrets;
#[path = "config/store.rs"]
mod store;
