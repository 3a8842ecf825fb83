//! A run that others end is followed by another one, in the same process.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use imbabot_scheduler::{Clock, SystemClock};
use imbabot_store::{Bodies, SqliteStore, Store};
use imbabot_testing::FlakyStore;

use super::*;
use crate::cli::args::Global;
use crate::config::{Environment, LoadOptions};
use crate::output::Output;
use crate::registry::Registry;

/// Nobody listens there.
const CONFIG: &str = r#"
[[widget]]
id = 627
sender = 1
base_url = "http://127.0.0.1:9"
"#;

struct Daemon {
    command: Command,
    loaded: Loaded,
    store: Arc<FlakyStore>,
    current: Current,
    _folder: tempfile::TempDir,
}

async fn daemon() -> Daemon {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("imbabot.toml");
    std::fs::write(&file, CONFIG).unwrap();
    let global = Global { config: Some(file.clone()), json: false, log: None, log_format: None };
    let command = Command { registry: Registry::default(), output: Output { json: false }, global };
    let loaded = crate::config::load(&LoadOptions {
        config_path: Some(file),
        flags: Vec::new(),
        environment: Environment::from_iter([("IMBABOT_SECRET_KEY", "not-a-real-key")]),
        kinds: &command.registry.kinds(),
    });
    let loaded = loaded.unwrap_or_else(|problems| panic!("{}", problems.render(false)));
    let inner = SqliteStore::in_memory(Bodies::Full).unwrap();
    let store = Arc::new(FlakyStore::over(Arc::new(inner)));
    let shared: Arc<dyn Store> = Arc::<FlakyStore>::clone(&store);
    let engine = Engine::begin(Parts {
        clock: Arc::new(SystemClock::new()),
        store: shared,
        executor: Arc::new(OwnThreads::new()),
        settings: command.settings(&loaded.config).unwrap(),
        version: "1".into(),
        seed: 1,
    })
    .await
    .unwrap();
    Daemon { command, loaded, store, current: Current::new(engine), _folder: folder }
}

/// Runs it until `look` has seen what it waits for.
fn until(act: impl FnOnce(&FlakyStore), look: impl Fn(&Current, &Arc<Engine>) -> bool) -> Current {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let Daemon { command, loaded, store, current, _folder } = daemon().await;
        let first = current.engine();
        act(&store);
        let orders = Orders {
            signals: Signals::listen().unwrap(),
            command: &command,
            loaded,
            reload: false,
        };
        let notifier = Notifier::nobody();
        let clock = SystemClock::new();
        let seen = async {
            for _ in 0..2_000 {
                if look(&current, &first) {
                    break;
                }
                clock.sleep(Duration::from_millis(5)).await;
            }
            current.engine().stop();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            end = runs(&current, &notifier, orders) => {
                assert_eq!(end.unwrap_or_else(|failure| panic!("{}", failure.message)), Exit::Ok);
            }
            () = seen => {}
        }
        current
    })
}

#[test]
fn a_run_that_others_ended_is_followed_by_another_and_whoever_looks_sees_that_one() {
    let current = until(
        |store| store.fail("claim", 1, ErrorKind::Fenced),
        |current, first| !Arc::ptr_eq(&current.engine(), first),
    );
    let engine = current.engine();
    assert_eq!(engine.begun().incarnation.0, 2);
    let metrics = futures_executor::block_on(engine.metrics());
    assert!(metrics.contains("imbabot_fenced_total 1"), "{metrics}");
}

#[test]
fn a_store_that_does_not_take_the_next_run_is_asked_again() {
    let current = until(
        |store| {
            store.fail("claim", 1, ErrorKind::Fenced);
            store.fail("begin", 1, ErrorKind::Retryable);
        },
        |current, first| !Arc::ptr_eq(&current.engine(), first),
    );
    assert_eq!(current.engine().begun().incarnation.0, 2);
}

#[test]
fn what_is_wrong_with_the_store_for_good_ends_the_daemon() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let end = runtime.block_on(async {
        let Daemon { command, loaded, store, current, _folder } = daemon().await;
        store.fail("claim", 1, ErrorKind::Corrupt);
        let orders = Orders {
            signals: Signals::listen().unwrap(),
            command: &command,
            loaded,
            reload: false,
        };
        runs(&current, &Notifier::nobody(), orders).await
    });
    let Err(failure) = end else { panic!("it goes on") };
    assert_eq!(failure.code, "IMB-S-CORRUPT");
}
