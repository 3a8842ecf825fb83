//! What one attempt to post means, over real sockets: the production client against the simulator's
//! loopback door where that can play the part, and against a bare listener where it cannot. Each row
//! says what the attempt is taken for, why, what the server saw of it, and whether the next message
//! may go over the same connection.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod sockets;

#[path = "one_attempt/answered.rs"]
mod answered;
#[path = "one_attempt/elsewhere.rs"]
mod elsewhere;
#[path = "one_attempt/every_offset.rs"]
mod every_offset;
#[path = "one_attempt/not_sent.rs"]
mod not_sent;
#[path = "one_attempt/rows.rs"]
mod rows;
#[path = "one_attempt/unanswered.rs"]
mod unanswered;
