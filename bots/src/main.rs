//! The bots of this installation.
fn main() {}
