//! The bots of this installation: one file each, and one line each in this list.

mod digest;
mod greeter;

use std::process::ExitCode;

use imbabot::App;

fn main() -> ExitCode {
    App::new().bot::<greeter::Greeter>("greeter").bot::<digest::Digest>("digest").main()
}
