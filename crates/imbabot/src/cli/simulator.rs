//! `simulator`: the stand-in ImbaChat alone.

use imbabot_simulator::{Clock, Loopback, LoopbackOptions, Options, Simulator};

use super::args;
use super::run::Signals;
use super::{Command, Result};
use crate::config::LogFormat;
use crate::exit::{Exit, Failure};
use crate::{output, telemetry};

pub(crate) async fn simulator(command: &Command, options: args::Simulator) -> Result {
    let level = command.global.log.as_deref().unwrap_or("info");
    telemetry::start(level, LogFormat::Text);
    let mut settings = Options { widget: options.widget, seed: options.seed, ..Options::default() };
    if let Some(path) = &options.secret_file {
        let secret = std::fs::read_to_string(path).map_err(|e| {
            let message = format!("--secret-file {}: {}", path.display(), e.kind());
            Failure::new(Exit::BadInput, "IMB-V-INPUT", message)
        })?;
        settings.secret = secret.trim_end_matches(['\r', '\n']).to_owned();
    }
    let simulator = Simulator::new(settings, Clock::system());
    simulator.populate(options.rooms);
    for spec in &options.fault {
        simulator.faults().push_spec(spec).map_err(|error| {
            Failure::new(Exit::Usage, "IMB-V-FAULT", error.to_string())
                .hint("the grammar stands in crates/simulator/README.md")
        })?;
    }
    let mut signals = Signals::listen()?;
    let door = LoopbackOptions {
        log_file: options.log_file.clone(),
        // Whoever can reach it could rule it.
        control: options.listen.ip().is_loopback(),
    };
    let server = Loopback::bind(options.listen, simulator, door).await.map_err(|error| {
        let message = format!("cannot listen on {}: {}", options.listen, error.kind());
        Failure::new(Exit::Unavailable, "IMB-H-LISTEN", message)
    })?;
    output::line(&format!("ImbaChat simulator: widget {} at {}", options.widget, server.url()));
    signals.stop().await;
    server.shutdown().await;
    Ok(Exit::Ok)
}
