#![doc = include_str!("../README.md")]

mod auth;
mod change;
mod clock;
mod control;
mod date;
mod door;
mod endpoints;
mod fault;
mod form;
mod json;
mod log;
mod message;
mod options;
mod rng;
mod room;
mod simulator;
#[cfg(test)]
mod testing;
mod user;

pub use change::Change;
pub use clock::{Clock, ManualClock};
pub use control::control_router;
pub use door::in_process::{Answer, Close, End, Framing, Pace, RawOutcome, RawRequest};
pub use door::loopback::{Loopback, LoopbackOptions};
pub use endpoints::Endpoint;
pub use fault::{Canned, EchoChange, Fault, FaultKind, FaultSpecError, Faults, ListShape, Matcher};
pub use log::LogEntry;
pub use message::Message;
pub use options::Options;
pub use room::{CONFERENCE, DIALOGUE, Room, RoomSeed, SUPPORT};
pub use simulator::{Simulator, SimulatorError};
pub use user::User;
