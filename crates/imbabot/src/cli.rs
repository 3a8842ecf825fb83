//! The command line: reads it, loads what a verb needs, and turns every end into an exit code.

pub(crate) mod args;
mod config_verb;
mod deliveries;
mod doctor;
mod drain;
mod events;
mod ledger;
mod lists;
mod manual;
mod pause;
mod plan;
#[cfg(feature = "rehearse")]
mod rehearse;
pub(crate) mod run;
mod schedules;
mod send;
#[cfg(feature = "simulator")]
mod simulator;
mod status;
mod store;
mod when;
mod why;

use std::sync::Arc;

use clap::Parser;
use imbabot_scheduler::{Clock, Settings, SystemClock};

use crate::config::{Config, Environment, LoadOptions, Loaded, Problems, load, load_for_store};
#[cfg(feature = "demo")]
use crate::demo;
use crate::exit::{Exit, Failure};
use crate::output::{self, Output};
use crate::registry::Registry;
use crate::{core_dumps, setup, telemetry};
use args::{Arguments, Verb};
#[cfg(feature = "simulator")]
pub(crate) use run::Signals;

/// What every verb has at hand.
pub(crate) struct Command {
    pub(crate) registry: Registry,
    pub(crate) output: Output,
    pub(crate) global: args::Global,
}

type Loading = std::result::Result<Loaded, Problems>;

/// A verb's end.
pub(crate) type Result<T = Exit> = std::result::Result<T, Failure>;

pub(crate) fn main(registry: Registry) -> Exit {
    core_dumps::none();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no failures.
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Ok };
            let json = exit == Exit::Usage && std::env::args_os().any(|word| word == "--json");
            if json {
                let told = error.to_string();
                let first = told.split("\n\n").next().unwrap_or_default();
                let words: Vec<&str> = first.split_whitespace().collect();
                let message = words.join(" ");
                let message = message.trim_start_matches("error: ");
                let failure = Failure::new(exit, "IMB-V-USAGE", message);
                Output { json }.failure(&failure.hint("`imbabot --help` shows how"));
            } else {
                let _ = error.print();
            }
            return exit;
        }
    };
    let Arguments { global, verb } = arguments;
    let command = Command { registry, output: Output { json: global.json }, global };
    let done = match run_verb(&command, verb) {
        Ok(Exit::Ok) => output::lost().map_or(Ok(Exit::Ok), Err),
        done => done,
    };
    let exit = match done {
        Ok(exit) => exit,
        Err(failure) => {
            command.output.failure(&failure);
            failure.exit
        }
    };
    telemetry::flush();
    exit
}

fn run_verb(command: &Command, verb: Verb) -> Result {
    match verb {
        Verb::Check => config_verb::check(command),
        Verb::Config { verb } => config_verb::config(command, verb),
        Verb::Version { verbose } => Ok(config_verb::version(command, verbose)),
        #[cfg(feature = "demo")]
        Verb::Demo(options) => block_on(demo::run(command, options)),
        Verb::Run { once } => block_on(run::run(command, once)),
        Verb::Send(options) => block_on(send::send(command, options)),
        Verb::Rooms(options) => block_on(lists::rooms(command, options)),
        Verb::Users(options) => block_on(lists::users(command, options)),
        Verb::Doctor(options) => block_on(doctor::doctor(command, options)),
        Verb::Plan(options) => block_on(plan::plan(command, options)),
        #[cfg(feature = "rehearse")]
        Verb::Rehearse(options) => block_on(rehearse::rehearse(command, options)),
        Verb::Schedules { verb } => block_on(schedules::schedules(command, verb)),
        Verb::Deliveries { verb, filter } => {
            block_on(deliveries::deliveries(command, verb, filter))
        }
        Verb::Events { verb, poisoned, limit } => {
            block_on(events::events(command, verb, poisoned, limit))
        }
        Verb::Status => block_on(status::status(command)),
        Verb::Why { id } => block_on(why::why(command, &id)),
        Verb::Pause(scope) => block_on(pause::pause(command, scope, true)),
        Verb::Resume(scope) => block_on(pause::pause(command, scope, false)),
        Verb::Drain { instance, undo } => block_on(drain::drain(command, instance, !undo)),
        Verb::Ledger { verb } => block_on(ledger::ledger(command, verb)),
        Verb::Store { verb } => block_on(store::store(command, verb)),
        Verb::Completions { shell } => Ok(manual::completions(shell)),
        Verb::Man => manual::man(),
        #[cfg(feature = "simulator")]
        Verb::Simulator(options) => block_on(simulator::simulator(command, options)),
    }
}

/// Two workers: one may be busy with a long list while the other answers a probe. Bots have threads
/// of their own.
fn block_on(future: impl Future<Output = Result>) -> Result {
    let refused = |why: &str| {
        let failure = Failure::new(Exit::Internal, "IMB-X-RUNTIME", format!("no runtime: {why}"));
        Err(failure.hint("look at the limits of the process: open files, threads, memory"))
    };
    // Where files cannot be opened it panics instead of saying so.
    let runtime = imbabot_scheduler::contained(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("imbabot")
            .enable_all()
            .build()
    });
    match runtime {
        Ok(Ok(runtime)) => {
            let end = runtime.block_on(future);
            runtime.shutdown_background();
            end
        }
        Ok(Err(error)) => refused(&error.kind().to_string()),
        Err(words) => refused(&imbabot_core::escape_foreign(&words, 200)),
    }
}

impl Command {
    /// Reads and checks the configuration.
    pub(crate) fn load(&self) -> Loading {
        self.load_by(load)
    }

    /// Reads and checks it with one of the functions that do.
    pub(crate) fn load_by(&self, by: fn(&LoadOptions<'_>) -> Loading) -> Loading {
        let kinds = self.registry.kinds();
        by(&LoadOptions {
            config_path: self.global.config.clone(),
            flags: self.global.flags(),
            environment: Environment::of_process(),
            kinds: &kinds,
        })
    }

    /// The configuration of a verb that cannot do without: its problems are told here.
    pub(crate) fn loaded(&self) -> Result<Loaded> {
        self.told(self.load())
    }

    /// The same for a verb that asks the store and no other server: it looks at no secret but the URL of
    /// the database, and so works where the others are not, beside a service that was stopped and whose
    /// credentials went with it.
    pub(crate) fn loaded_for_store(&self) -> Result<Loaded> {
        self.told(self.load_by(load_for_store))
    }

    fn told(&self, loading: Loading) -> Result<Loaded> {
        let loaded = loading.map_err(|problems| self.problems(&problems))?;
        telemetry::start(&loaded.config.log.level, loaded.config.log.format);
        Ok(loaded)
    }

    /// Tells problems, and the failure that they are.
    pub(crate) fn problems(&self, problems: &Problems) -> Failure {
        if !self.output.json {
            output::error_line(problems.render(output::colour()).trim_end());
        }
        let count = problems.errors.len();
        let mistakes = if count == 1 { "mistake" } else { "mistakes" };
        let first = problems.errors.first().map(ToString::to_string).unwrap_or_default();
        let message = if self.output.json {
            format!("the configuration has {count} {mistakes}; the first: {first}")
        } else {
            format!("the configuration has {count} {mistakes}")
        };
        Failure::new(Exit::Config, "IMB-C", message).hint("`imbabot check` shows all of them")
    }

    /// The engine's settings by this configuration.
    pub(crate) fn settings(&self, config: &Config) -> Result<Settings> {
        setup::settings(config, &self.registry)
    }
}

pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}
