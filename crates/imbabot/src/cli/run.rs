//! `run`: the daemon, its signals and its reloads.

use std::convert::Infallible;
use std::process;
use std::sync::Arc;
use std::time::Duration;

use imbabot_scheduler::{Clock, Engine, NotReady, OwnThreads, Parts};
use imbabot_store::{ErrorKind, Role, SqliteStore, Store};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Command, Result, clock};
use crate::config::{Config, Loaded};
use crate::exit::{Exit, Failure};
use crate::http::{self, Access};
use crate::setup;

/// What is in flight has so long to finish.
const DRAIN: Duration = Duration::from_secs(25);
/// A `send` without a daemon gives the store back within this.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn run(command: &Command, once: bool) -> Result {
    let mut signals = Signals::listen()?;
    let loaded = command.loaded()?;
    for warning in loaded.warnings.iter().chain(&loaded.past(clock().now())) {
        tracing::warn!("{warning}");
    }
    let settings = command.settings(&loaded.config)?;
    let clock = clock();
    let store = tokio::select! {
        store = open(&loaded.config, &*clock) => store?,
        () = signals.stop() => return Ok(Exit::Ok),
    };
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
        let end = drained(engine.run_once(), &engine, &mut signals, command, loaded).await?;
        return outcome_of_once(&engine, end);
    }
    let served = serve(&engine, &loaded.config).await?;
    tokio::select! {
        end = drained(engine.run(), &engine, &mut signals, command, loaded) => end,
        never = served => match never {},
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

/// Opens the store in the daemon's role; a verb that holds it for a moment is waited for.
async fn open(config: &Config, clock: &dyn Clock) -> Result<Arc<dyn Store>> {
    let begun = clock.elapsed();
    loop {
        match SqliteStore::open(&config.store.path, Role::Daemon, setup::bodies(config)) {
            Ok(store) => return Ok(Arc::new(store)),
            Err(error) => match error.kind() {
                ErrorKind::Held { brief: true, .. }
                    if clock.elapsed().saturating_sub(begun) < PATIENCE =>
                {
                    clock.sleep(Duration::from_millis(100)).await;
                }
                _ => return Err(error.into()),
            },
        }
    }
}

/// Binds the HTTP surface; what comes back never ends.
async fn serve(
    engine: &Engine,
    config: &Config,
) -> Result<futures_util::future::BoxFuture<'static, Infallible>> {
    let Some(address) = config.http.listen else {
        return Ok(Box::pin(std::future::pending()));
    };
    let listener = TcpListener::bind(address).await.map_err(|error| {
        let message = format!("cannot listen on {address}: {}", error.kind());
        Failure::new(Exit::Unavailable, "IMB-H-LISTEN", message)
            .hint("another daemon may have it; `[http] listen` chooses another address, or \"off\"")
    })?;
    let access = Access {
        token: config.http.token.clone(),
        allowed_hosts: config.http.allowed_hosts.clone(),
    };
    let router = http::router(engine.clone(), access);
    tracing::info!(%address, "probes and metrics are served");
    let clock = Arc::clone(engine.clock());
    Ok(Box::pin(http::serve::serve(listener, router, clock)))
}

/// Runs the engine to its end while signals are obeyed.
async fn drained(
    running: impl Future<Output = std::result::Result<(), imbabot_scheduler::Fatal>>,
    engine: &Engine,
    signals: &mut Signals,
    command: &Command,
    mut loaded: Loaded,
) -> Result {
    tokio::pin!(running);
    loop {
        tokio::select! {
            end = &mut running => {
                end?;
                tracing::info!("imbabot ended");
                return Ok(Exit::Ok);
            }
            what = signals.next() => match what {
                // A store that hangs must not keep a signal or an end from being obeyed.
                Caught::Reload => tokio::select! {
                    () = reload(command, engine, &mut loaded) => {}
                    () = signals.stop() => break,
                    end = &mut running => {
                        end?;
                        return Ok(Exit::Ok);
                    }
                },
                Caught::Stop => break,
            }
        }
    }
    tracing::info!("stopping: what is in flight is finished");
    engine.stop();
    let clock = Arc::clone(engine.clock());
    let patience = clock.sleep(DRAIN);
    tokio::pin!(patience);
    loop {
        tokio::select! {
            end = &mut running => {
                end?;
                tracing::info!("imbabot ended");
                return Ok(Exit::Ok);
            }
            () = &mut patience => {
                // What is still on its way becomes `unknown` at the next start, as it should.
                tracing::warn!("not everything finished within {DRAIN:?}");
                engine.take_leave().await?;
                return Ok(Exit::Ok);
            }
            what = signals.next() => if matches!(what, Caught::Stop) {
                tracing::warn!("stopped by force");
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
                tracing::warn!("{problem}");
            }
            return refused(&format!("{} mistakes", problems.errors.len()));
        }
    };
    let (old, new) = (&loaded.config, &fresh.config);
    let store = |config: &Config| {
        format!("{:?}", (&config.store.kind, &config.store.path, &config.store.bodies))
    };
    if store(old) != store(new) {
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
        tracing::warn!("a change of [log] needs a restart; everything else is reloaded");
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
