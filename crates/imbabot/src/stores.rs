//! The way to the store that the configuration names, whatever kind it is of, and who runs on it. The
//! one place of this crate that knows the kinds apart; what can only be done to a file asks here for
//! the file. It never says more of a database's URL than the name of its host.

mod daemons;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use imbabot_core::Timestamp;
use imbabot_scheduler::Clock;
use imbabot_store::{
    Bodies, Error, ErrorKind, PostgresOptions, PostgresStore, Role, ServerFacts, SqliteStore, Store,
};

use crate::config::{Config, Server, StorePlace};
use crate::exit::{Exit, Failure};
use crate::{output, setup};
pub(crate) use daemons::Daemons;

/// A verb gives the role on a file back within this; a server that is not there at the start is asked
/// for so long.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the role on a file is asked for.
const LOOK: Duration = Duration::from_millis(100);
/// How often a server is asked that did not answer.
const AGAIN: Duration = Duration::from_secs(1);

type Result<T, E = Failure> = std::result::Result<T, E>;

/// The store beside a daemon, or without one.
pub(crate) async fn visit(config: &Config) -> Result<Arc<dyn Store>> {
    match &config.store.place {
        StorePlace::File(path) => Ok(Arc::new(file(path, config)?)),
        StorePlace::Server(at) => Ok(Arc::new(connected(at, Role::Visitor, config).await?)),
    }
}

/// The same, or nothing where there is none yet. Where that cannot be known (a folder that may not be
/// read) it is said, and not taken for an absence.
pub(crate) async fn visit_if_there(config: &Config) -> Result<Option<Arc<dyn Store>>> {
    match &config.store.place {
        StorePlace::File(path) => match path.try_exists() {
            Ok(false) => Ok(None),
            _ => visit(config).await.map(Some),
        },
        StorePlace::Server(at) => {
            let store = server(at, config).await?;
            Ok(store.map(|store| -> Arc<dyn Store> { Arc::new(store) }))
        }
    }
}

/// The store, made where there is none yet, for a verb that has to work before the first run.
pub(crate) async fn visit_or_make(config: &Config) -> Result<Arc<dyn Store>> {
    if let Some(store) = visit_if_there(config).await? {
        return Ok(store);
    }
    // No run begins by that.
    match &config.store.place {
        StorePlace::File(path) => {
            Ok(Arc::new(SqliteStore::open(path, Role::Brief, setup::bodies(config))?))
        }
        StorePlace::Server(at) => Ok(Arc::new(connected(at, Role::Brief, config).await?)),
    }
}

/// The store, and who runs on it.
pub(crate) async fn look(config: &Config) -> Result<(Arc<dyn Store>, Daemons)> {
    // The lock of a file is looked at before what is written in it: a daemon that ends between the two
    // has said so.
    let holder = config.store.file().map(Daemons::of_file);
    let store = visit(config).await?;
    let daemons = match holder {
        Some(daemons) => daemons,
        None => Daemons::of_server(&*store).await?,
    };
    Ok((store, daemons))
}

/// The same, or nobody on no store.
pub(crate) async fn look_if_there(config: &Config) -> Result<(Option<Arc<dyn Store>>, Daemons)> {
    let holder = config.store.file().map(Daemons::of_file);
    let store = visit_if_there(config).await?;
    let daemons = match (holder, &store) {
        (Some(daemons), _) => daemons,
        (None, Some(store)) => Daemons::of_server(&**store).await?,
        (None, None) => Daemons::nobody(),
    };
    Ok((store, daemons))
}

/// The store for a run of the daemon. A verb that has the role on a file for a moment is waited for, and
/// so is a server that does not answer.
pub(crate) async fn open(config: &Config, clock: &dyn Clock) -> Result<Arc<dyn Store>> {
    match &config.store.place {
        StorePlace::File(path) => {
            let bodies = setup::bodies(config);
            let open = async || SqliteStore::open(path, Role::Daemon, bodies);
            Ok(Arc::new(patiently(clock, LOOK, is_brief, open).await?))
        }
        StorePlace::Server(at) => {
            let told = AtomicBool::new(false);
            let is_passing = |error: &Error| {
                let passing = error.is_retryable();
                if passing && !told.swap(true, Ordering::Relaxed) {
                    let place = &config.store.place;
                    tracing::warn!(
                        code = UNREACHED,
                        "{place} cannot be used yet: {error}; it is asked again for {PATIENCE:?}"
                    );
                }
                passing
            };
            let open = async || connect(at, Role::Daemon, config).await;
            let opened = patiently(clock, AGAIN, is_passing, open).await;
            let store = opened.map_err(|error| refused(at, error))?;
            tracing::info!("the store is {}, {}", config.store.place, noticed(store.server()));
            if !store.server().clears_away {
                tracing::warn!(code = "IMB-S-AUTOVACUUM", "{NEVER_CLEARED}");
            }
            Ok(Arc::new(store))
        }
    }
}

/// Of a server that does not clear away.
pub(crate) const NEVER_CLEARED: &str = "the database has autovacuum = off: dead rows stay in its \
     tables, and everything becomes slower by the day";

/// What was noticed about a server.
pub(crate) fn noticed(facts: &ServerFacts) -> String {
    let pooled = if facts.pooled { ", behind a pooler of transactions" } else { "" };
    format!("version {}{pooled}", output::foreign(&facts.version))
}

fn is_brief(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Held { brief: true, .. })
}

/// The store in a file that is there, with nobody on it as long as this value lives.
pub(crate) async fn alone(path: &Path, clock: &dyn Clock) -> Result<SqliteStore> {
    if matches!(path.try_exists(), Ok(false)) {
        let message = format!("there is no store at {}", path.display());
        return Err(Error::new(ErrorKind::Absent, message).into());
    }
    let open = async || SqliteStore::open(path, Role::Brief, Bodies::Full);
    Ok(patiently(clock, LOOK, is_brief, open).await?)
}

/// The store on a server that no configuration names; a role beyond a visitor's makes its tables.
pub(crate) async fn named(at: &Server, role: Role) -> Result<PostgresStore> {
    connect_with(at, role, Bodies::Full).await.map_err(|error| match refused(at, error) {
        failure if failure.exit == Exit::Unavailable => {
            failure.hint("is it running, and can it be reached from here?")
        }
        failure => failure,
    })
}

/// Tries again and again, with a pause between, as long as what is in the way may pass.
async fn patiently<T>(
    clock: &dyn Clock,
    pause: Duration,
    may_pass: impl Fn(&Error) -> bool,
    mut open: impl AsyncFnMut() -> Result<T, Error>,
) -> Result<T, Error> {
    let begun = clock.elapsed();
    loop {
        match open().await {
            Err(error) if may_pass(&error) => {
                if clock.elapsed().saturating_sub(begun) >= PATIENCE {
                    return Err(error);
                }
            }
            end => return end,
        }
        clock.sleep(pause).await;
    }
}

/// The store in a file, for what can be done to no other.
pub(crate) fn file(path: &Path, config: &Config) -> Result<SqliteStore> {
    Ok(SqliteStore::open(path, Role::Visitor, setup::bodies(config))?)
}

/// The store on a server, for what can be asked of no other; nothing where there are no tables yet.
pub(crate) async fn server(at: &Server, config: &Config) -> Result<Option<PostgresStore>> {
    match connect(at, Role::Visitor, config).await {
        Ok(store) => Ok(Some(store)),
        Err(error) if *error.kind() == ErrorKind::Absent => Ok(None),
        Err(error) => Err(refused(at, error)),
    }
}

/// What time it is for what is in the store: by the store's own clock, if it has one.
pub(crate) async fn now(store: &dyn Store, clock: &dyn Clock) -> Result<Timestamp> {
    Ok(store.clock().await?.unwrap_or_else(|| clock.now()))
}

/// What people call this instance.
pub(crate) fn name_of_instance(server: &Server) -> String {
    let of_host = || rustix::system::uname().nodename().to_string_lossy().into_owned();
    server.instance.clone().unwrap_or_else(of_host)
}

async fn connected(at: &Server, role: Role, config: &Config) -> Result<PostgresStore> {
    connect(at, role, config).await.map_err(|error| refused(at, error))
}

async fn connect(at: &Server, role: Role, config: &Config) -> Result<PostgresStore, Error> {
    connect_with(at, role, setup::bodies(config)).await
}

async fn connect_with(at: &Server, role: Role, bodies: Bodies) -> Result<PostgresStore, Error> {
    let options = PostgresOptions {
        instance: name_of_instance(at),
        lease: at.lease,
        bodies,
        unsafe_durability: at.unsafe_durability,
    };
    PostgresStore::open(at.url.expose(), role, options).await
}

pub(crate) const UNREACHED: &str = "IMB-S-UNREACHED";

/// Where the store is on a server, one that does not answer is no failure of the store but an absence,
/// and one that does not do as it is set up is to be set up otherwise.
fn refused(at: &Server, error: Error) -> Failure {
    let place = StorePlace::Server(at.clone());
    match error.kind() {
        ErrorKind::Retryable => {
            let message = format!("{place} cannot be used now: {error}");
            Failure::new(Exit::Unavailable, UNREACHED, message).hint(
                "is it running, and can it be reached from here? Its URL comes from `[store] \
                 url_file` or IMBABOT_DATABASE_URL",
            )
        }
        ErrorKind::Unusable => {
            let message = format!("{place} cannot be used: {error}");
            Failure::new(Exit::Config, error.code(), message).hint(
                "the message says what does not do: the URL, the rights of its user, the settings \
                 or the tables of the server; see \"PostgreSQL\" in docs/operating.md",
            )
        }
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures_executor::block_on;
    use futures_util::future::BoxFuture;

    use super::*;
    use crate::config::DatabaseUrl;

    /// A clock on which waiting takes no time.
    struct Hurried(Mutex<Duration>);

    impl Clock for Hurried {
        fn now(&self) -> Timestamp {
            Timestamp::EPOCH
        }
        fn elapsed(&self) -> Duration {
            *self.0.lock().unwrap()
        }
        fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
            *self.0.lock().unwrap() += duration;
            Box::pin(std::future::ready(()))
        }
        fn sleep_until(&self, _: Timestamp) -> BoxFuture<'static, ()> {
            Box::pin(std::future::pending())
        }
    }

    fn silent() -> Error {
        Error::new(ErrorKind::Retryable, "the database did not answer")
    }

    /// How it ends if the first so many tries fail with this, and how long that took.
    fn waited(fails: u32, error: &Error) -> (bool, Duration) {
        let clock = Hurried(Mutex::default());
        let mut tries = 0;
        let open = async || {
            tries += 1;
            if tries > fails { Ok(()) } else { Err(error.clone()) }
        };
        let end = block_on(patiently(&clock, AGAIN, Error::is_retryable, open));
        (end.is_ok(), clock.elapsed())
    }

    #[test]
    fn a_server_that_does_not_answer_is_asked_for_half_a_minute() {
        assert_eq!(waited(0, &silent()), (true, Duration::ZERO));
        assert_eq!(waited(30, &silent()), (true, Duration::from_secs(30)));
        assert_eq!(waited(31, &silent()), (false, Duration::from_secs(30)));
        let unusable = Error::new(ErrorKind::Unusable, "fsync is off");
        assert_eq!(waited(1, &unusable), (false, Duration::ZERO), "that does not pass");
    }

    #[test]
    fn a_server_that_is_not_there_and_one_that_does_not_do_end_differently_and_tell_no_url() {
        let at = Server {
            url: DatabaseUrl::parse("postgres://imbabot:hunter2@db.example/imbabot").unwrap(),
            lease: Duration::from_secs(10),
            instance: None,
            unsafe_durability: false,
        };
        let end = |kind: ErrorKind| refused(&at, Error::new(kind, "because"));
        for (kind, exit, code) in [
            (ErrorKind::Retryable, Exit::Unavailable, "IMB-S-UNREACHED"),
            (ErrorKind::Unusable, Exit::Config, "IMB-S-UNUSABLE"),
            (ErrorKind::Newer, Exit::Config, "IMB-S-NEWER"),
            (ErrorKind::Absent, Exit::Store, "IMB-S-UNUSABLE"),
        ] {
            let failure = end(kind);
            assert_eq!((failure.exit, failure.code), (exit, code));
            assert!(!format!("{failure:?}").contains("hunter2"), "{failure:?}");
        }
        assert!(end(ErrorKind::Retryable).message.starts_with("PostgreSQL on db.example cannot"));
    }
}
