//! `run`: the daemon, its signals and its reloads.

use std::convert::Infallible;
use std::process;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use imbabot_scheduler::{Engine, Fatal, NotReady, OwnThreads, Parts, StoreClock};
use imbabot_store::ErrorKind;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Command, Result, clock};
use crate::config::{Config, Loaded};
use crate::current::Current;
use crate::exit::{Exit, Failure};
use crate::http::{self, Access};
use crate::notify::Notifier;
use crate::{stores, telemetry};

/// What is in flight has so long to finish.
const DRAIN: Duration = Duration::from_secs(25);
/// After that the store has so long to take down that the run has ended.
const LEAVE: Duration = Duration::from_secs(2);
/// A store that does not take another run is asked again after this.
const AGAIN: Duration = Duration::from_secs(1);

pub(crate) async fn run(command: &Command, once: bool) -> Result {
    let mut signals = Signals::listen()?;
    let loaded = command.loaded()?;
    for warning in loaded.warnings.iter().chain(&loaded.past(clock().now())) {
        tracing::warn!(code = warning.code.as_str(), "{warning}");
    }
    let settings = command.settings(&loaded.config)?;
    let clock = clock();
    let store = tokio::select! {
        store = stores::open(&loaded.config, &*clock) => store?,
        () = signals.stop() => return Ok(Exit::Ok),
    };
    // Where several instances share a store, its clock is the one that counts.
    let clock = match StoreClock::of(&clock, &*store).await? {
        Some(clock) => Arc::new(clock),
        None => clock,
    };
    // A run that cannot begin is none: what comes after it should not take it for one that was killed.
    let listener = if once { None } else { listen(&loaded.config).await? };
    let seed = u64::from(process::id()) ^ clock.now().as_micros().unsigned_abs();
    let engine = Engine::begin(Parts {
        clock: Arc::clone(&clock),
        store,
        executor: Arc::new(OwnThreads::new()),
        settings,
        version: env!("CARGO_PKG_VERSION").into(),
        seed,
    })
    .await?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        config = %loaded.file.display(),
        widgets = loaded.config.widgets.len(),
        bots = loaded.config.bots.len(),
        schedules = loaded.config.schedules.len(),
        after_crash = engine.begun().after_crash,
        "imbabot started"
    );
    if once {
        let nobody = Notifier::nobody();
        let mut orders = Orders { signals, command, loaded, reload: false };
        let end = drained(engine.run_once(), &engine, &nobody, &mut orders).await?;
        return outcome_of_once(&engine, end);
    }
    let current = Current::new(engine);
    let served = served(&current, &loaded.config, listener);
    let notifier = Notifier::of_process();
    notifier.ready(&current.engine());
    let orders = Orders { signals, command, loaded, reload: false };
    tokio::select! {
        end = runs(&current, &notifier, orders) => end,
        never = served => match never {},
        never = notifier.watch(&current) => match never {},
    }
}

/// What operators ask of the daemon, by signals and by the configuration.
struct Orders<'a> {
    signals: Signals,
    command: &'a Command,
    /// The configuration in force.
    loaded: Loaded,
    /// A reload was asked for, and there was no run to take it.
    reload: bool,
}

/// Run after run: where others share the store, they may end one that they have not heard of for too
/// long, and then another one follows it.
async fn runs(current: &Current, notifier: &Notifier, mut orders: Orders<'_>) -> Result {
    loop {
        let engine = current.engine();
        let error = match drained(engine.run(), &engine, notifier, &mut orders).await {
            Err(Fatal::Store(error)) if is_fenced(&error) => error,
            end => return Ok(end?),
        };
        tracing::warn!(
            code = error.code(),
            "this instance was out of touch with the store for longer than its lease, and others have \
             ended its run ({error}): another one begins"
        );
        let Some(next) = begun_anew(&engine, &mut orders).await? else { return Ok(Exit::Ok) };
        notifier.ready(&next);
        current.follow(next);
        tracing::info!("another run has begun");
    }
}

fn is_fenced(error: &imbabot_store::Error) -> bool {
    *error.kind() == ErrorKind::Fenced
}

/// The run that follows one that others ended, as soon as the store takes it; none if a stop came first.
async fn begun_anew(engine: &Engine, orders: &mut Orders<'_>) -> Result<Option<Engine>> {
    let clock = Arc::clone(engine.clock());
    let mut told = false;
    loop {
        let beginning = async {
            match engine.begin_anew().await {
                Err(error) if error.is_retryable() || is_fenced(&error) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!(code = error.code(), "{error}; trying again every second");
                    }
                    clock.sleep(AGAIN).await;
                    Ok(None)
                }
                begun => begun.map(Some),
            }
        };
        tokio::select! {
            begun = beginning => if let Some(next) = begun? {
                return Ok(Some(next));
            },
            what = orders.signals.next() => match what {
                Caught::Stop => return Ok(None),
                Caught::Reload => orders.reload = true,
            }
        }
    }
}

/// What a script that starts `run --once` has to know: whether it could do its work.
fn outcome_of_once(engine: &Engine, end: Exit) -> Result {
    let reasons = engine.reasons();
    let failure = |exit, code, message: &str| Err(Failure::new(exit, code, message));
    if reasons.contains(&NotReady::CredentialsRejected) {
        return failure(
            Exit::Credentials,
            "IMB-API-CREDENTIALS",
            "ImbaChat refuses the secret key",
        );
    }
    if reasons.contains(&NotReady::Redirected) || reasons.contains(&NotReady::ApiUnreachable) {
        return failure(
            Exit::Unavailable,
            "IMB-API-STATUS",
            "ImbaChat did not answer as it should; everything is kept",
        );
    }
    Ok(end)
}

/// Takes the address of the HTTP surface, if it has one.
async fn listen(config: &Config) -> Result<Option<TcpListener>> {
    let Some(address) = config.http.listen else { return Ok(None) };
    let bound = TcpListener::bind(address).await;
    bound.map(Some).map_err(|error| {
        let message = format!("cannot listen on {address}: {}", error.kind());
        Failure::new(Exit::Unavailable, "IMB-H-LISTEN", message)
            .hint("another daemon may have it; `[http] listen` chooses another address, or \"off\"")
    })
}

/// The HTTP surface, which never ends.
fn served(
    current: &Current,
    config: &Config,
    listener: Option<TcpListener>,
) -> futures_util::future::BoxFuture<'static, Infallible> {
    let Some(listener) = listener else { return Box::pin(std::future::pending()) };
    let clock = Arc::clone(current.engine().clock());
    let (token, hosts) = (config.http.token.clone(), &config.http.allowed_hosts);
    let access = Access::new(token, hosts, Arc::clone(&clock));
    let router = http::router(current.clone(), access, http::PAGE);
    if let Some(address) = config.http.listen {
        tracing::info!(%address, "status, probes and metrics are served");
    }
    Box::pin(http::serve::serve(listener, router, clock))
}

/// Runs the engine to its end while signals are obeyed.
///
/// # Errors
/// A part of the engine cannot go on, or others have ended the run.
async fn drained(
    running: impl Future<Output = std::result::Result<(), Fatal>>,
    engine: &Engine,
    notifier: &Notifier,
    orders: &mut Orders<'_>,
) -> std::result::Result<Exit, Fatal> {
    tokio::pin!(running);
    loop {
        // A store that hangs must not keep a signal or an end from being obeyed.
        if orders.reload {
            notifier.reloading();
            tokio::select! {
                () = reload(orders.command, engine, &mut orders.loaded) => {
                    orders.reload = false;
                    notifier.ready(engine);
                }
                () = orders.signals.stop() => break,
                end = &mut running => {
                    end?;
                    return Ok(Exit::Ok);
                }
            }
        }
        tokio::select! {
            end = &mut running => {
                end?;
                tracing::info!("imbabot ended");
                return Ok(Exit::Ok);
            }
            what = orders.signals.next() => match what {
                Caught::Reload => orders.reload = true,
                Caught::Stop => break,
            }
        }
    }
    tracing::info!("stopping: what is in flight is finished");
    notifier.stopping();
    engine.stop();
    let clock = Arc::clone(engine.clock());
    let patience = clock.sleep(DRAIN);
    tokio::pin!(patience);
    loop {
        tokio::select! {
            end = &mut running => {
                match end {
                    // Others have done what was left to do.
                    Err(Fatal::Store(error)) if is_fenced(&error) => {
                        tracing::warn!(code = error.code(), "{error}; it was to end anyway");
                    }
                    end => end?,
                }
                tracing::info!("imbabot ended");
                return Ok(Exit::Ok);
            }
            () = &mut patience => {
                // What is still on its way becomes `unknown` at the next start, as it should.
                tracing::warn!(code = "IMB-X-DRAIN", "not everything finished within {DRAIN:?}");
                let leaving = std::pin::pin!(engine.take_leave());
                match select(leaving, clock.sleep(LEAVE)).await {
                    Either::Left((end, _)) => {
                        end?;
                        return Ok(Exit::Ok);
                    }
                    Either::Right(_) => {
                        // Nor does it help to wait for what else was asked of it.
                        tracing::warn!(
                            code = "IMB-X-DRAIN",
                            "the store does not answer: the run ends without a word in it, as after a kill"
                        );
                        telemetry::flush();
                        process::exit(i32::from(Exit::Ok.code()));
                    }
                }
            }
            what = orders.signals.next() => if matches!(what, Caught::Stop) {
                tracing::warn!(code = "IMB-X-FORCED", "stopped by force");
                telemetry::flush();
                process::exit(i32::from(Exit::Forced.code()));
            }
        }
    }
}

/// All or nothing: the old configuration stays on any error.
async fn reload(command: &Command, engine: &Engine, loaded: &mut Loaded) {
    let refused = |why: &str| {
        engine.reload_failed();
        tracing::warn!(
            code = "IMB-C-RELOAD",
            "the configuration was not reloaded: {why}; the old one stays"
        );
    };
    let fresh = match command.load() {
        Ok(fresh) => fresh,
        Err(problems) => {
            for problem in &problems.errors {
                tracing::warn!(code = problem.code.as_str(), "{problem}");
            }
            return refused(&format!("{} mistakes", problems.errors.len()));
        }
    };
    let (old, new) = (&loaded.config, &fresh.config);
    if old.store != new.store {
        return refused("a change of [store] needs a restart");
    }
    let http = |config: &Config| {
        use secrecy::ExposeSecret;
        let token = config.http.token.as_ref().map(|t| t.expose_secret().to_owned());
        (config.http.listen, config.http.allowed_hosts.clone(), token)
    };
    if http(old) != http(new) {
        return refused("a change of [http] needs a restart");
    }
    if (old.log.format, &old.log.level) != (new.log.format, &new.log.level) {
        tracing::warn!(
            code = "IMB-C-LOG",
            "a change of [log] needs a restart; everything else is reloaded"
        );
    }
    let settings = match command.settings(new) {
        Ok(settings) => settings,
        Err(failure) => return refused(&failure.message),
    };
    match engine.reload(settings).await {
        Ok(()) => {
            tracing::info!(
                widgets = new.widgets.len(),
                bots = new.bots.len(),
                schedules = new.schedules.len(),
                "the configuration was reloaded: {}",
                crate::config::summary(old, new)
            );
            *loaded = fresh;
        }
        Err(error) => refused(&error.to_string()),
    }
}

enum Caught {
    Stop,
    Reload,
}

/// The signals of the contract.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    pub(crate) fn listen() -> Result<Self> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                let message = format!("no signals: {}", error.kind());
                Failure::new(Exit::Internal, "IMB-X-SIGNALS", message)
            })
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Caught {
        tokio::select! {
            _ = self.terminate.recv() => Caught::Stop,
            _ = self.interrupt.recv() => Caught::Stop,
            _ = self.hangup.recv() => Caught::Reload,
        }
    }

    /// Resolves when the program is asked to stop.
    pub(crate) async fn stop(&mut self) {
        while matches!(self.next().await, Caught::Reload) {}
    }
}

#[cfg(test)]
mod tests;
