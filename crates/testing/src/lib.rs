#![doc = include_str!("../README.md")]

pub mod checker;
pub mod clock;
pub mod flaky;
pub mod fleet;
pub mod harness;
mod prompt;
mod random;
pub mod rehearsal;
mod running;
pub mod simulation;
pub mod transcript;
pub mod transport;
mod witness;
pub mod world;

pub use checker::{Change, Check, SeenRequest, Violation};
pub use clock::VirtualClock;
pub use flaky::FlakyStore;
pub use fleet::{FleetStore, Instances};
pub use harness::Harness;
pub use imbabot_simulator::RoomSeed;
pub use rehearsal::{Rehearsal, Rehearsed, Rooms, Wanted};
pub use transcript::Transcript;
pub use transport::SimTransport;
pub use world::World;
