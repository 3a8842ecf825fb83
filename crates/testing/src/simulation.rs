//! Deterministic simulation: one seed makes a history of people, operators, faults, clock steps,
//! reloads and kills, and the production daemon lives through it in virtual time: before and after any
//! commit, at any byte of a request. After every operation the invariants are looked at. What fails
//! shrinks to a line of text that runs again as a test.
//!
//! The daemon under it is the one that is shipped: its parts are not replaced, and nothing in it knows of
//! this. Defects are made on purpose only between it and its store ([`Defect`]).
//!
//! ```
//! use imbabot_testing::simulation::{History, run};
//!
//! let history: History = "seed 1: open team; poll; crash after claim 1; pass 1m".parse()?;
//! assert!(run(&history).problem.is_none());
//! # Ok::<(), String>(())
//! ```

mod accounts;
mod cast;
mod conditions;
mod crash;
mod expected;
mod generator;
mod operations;
mod plan;
mod runner;
mod sabotage;
mod shrink;
mod whole;

pub(crate) use crash::MortalTransport;
pub use crash::{Crash, CrashPoint, Kill, MortalStore, Place};
pub use generator::generate;
pub use operations::{Change, History, Operation, Scope};
pub use plan::Plan;
pub use runner::{Outcome, Problem, run, run_on, run_over, run_traced};
pub use sabotage::Defect;
pub use shrink::shortest;
