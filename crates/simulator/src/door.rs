//! The two ways in: a function call in virtual time, and a real socket. Both show a client the
//! same things; neither decides anything.

mod gzip;
pub(crate) mod in_process;
pub(crate) mod loopback;
mod pause;
mod wire;
mod written;
