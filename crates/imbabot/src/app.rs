//! The program: the bots it knows, and its command line.

use std::process::ExitCode;

use imbabot_bot::Bot;
use serde::de::DeserializeOwned;

use crate::cli;
use crate::registry::Registry;

/// A daemon with these kinds of bots.
///
/// ```no_run
/// # use imbabot::{App, prelude::*};
/// # #[derive(Deserialize)] struct Greeter {}
/// # #[async_trait] impl Bot for Greeter {
/// #     async fn on_event(&self, _: &mut Context, _: &Event) -> Result<()> { Ok(()) }
/// # }
/// fn main() -> std::process::ExitCode {
///     App::new().bot::<Greeter>("greeter").main()
/// }
/// ```
#[must_use]
#[derive(Default)]
pub struct App {
    registry: Registry,
}

impl App {
    /// No kinds of bots yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// And this kind: `kind = "…"` in a `[[bot]]` makes one, from its `settings`.
    pub fn bot<B: Bot + DeserializeOwned>(mut self, kind: &str) -> Self {
        self.registry.add::<B>(kind);
        self
    }

    /// Reads the command line and does what it says.
    #[must_use]
    pub fn main(self) -> ExitCode {
        cli::main(self.registry).into()
    }
}
