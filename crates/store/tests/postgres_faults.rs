//! A database that goes away, comes back, refuses and stumbles over itself: a verb is done once or not
//! at all, and what was told of it is true.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this is a test suite")]
#![allow(clippy::disallowed_methods, reason = "a real server is waited for")]

mod given;
#[path = "postgres_support/mod.rs"]
mod postgres_support;
#[path = "postgres_support/proxy.rs"]
mod proxy;
#[path = "postgres_support/server.rs"]
mod server;

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use futures_executor::block_on;
use imbabot_bot::DeliveryId;
use imbabot_store::*;

use given::{RULES, at, message};
use postgres_support::{Database, Hand, database};
use proxy::{AtCommit, Proxy};
use server::Server;

const LEASE: Duration = Duration::from_secs(10);

fn options(lease: Duration) -> PostgresOptions {
    PostgresOptions {
        instance: "test".into(),
        lease,
        bodies: Bodies::Full,
        unsafe_durability: true,
    }
}

/// The address in a URL of a database.
fn address(url: &str) -> SocketAddr {
    let rest = url.split_once("://").unwrap().1;
    let host = rest.rsplit('@').next().unwrap().split(['/', '?']).next().unwrap();
    let host = if host.contains(':') { host.to_owned() } else { format!("{host}:5432") };
    host.to_socket_addrs().unwrap().next().unwrap()
}

/// The same database by way of another address.
fn by_way_of(url: &str, at: SocketAddr) -> String {
    let (scheme, rest) = url.split_once("://").unwrap();
    let (user, host) =
        rest.rsplit_once('@').map_or(("postgres", rest), |(user, host)| (user, host));
    let path = host.split_once('/').map_or("", |(_, path)| path);
    format!("{scheme}://{user}@{at}/{path}")
}

/// A store at the end of a wire, and a hand beside it.
fn wired(database: &Database, lease: Duration) -> (PostgresStore, Proxy, Hand) {
    let schema = database.name();
    let proxy = Proxy::to(address(&database.url));
    let url = by_way_of(&database.url, proxy.at);
    let opened = PostgresStore::open_in(&url, &schema, Role::Daemon, options(lease));
    let store = block_on(opened).unwrap().temporary(&schema);
    (store, proxy, Hand::new(&database.url, &schema))
}

fn care(told: &str) -> Care {
    Care { what: CareKind::Backup, at: at(0), well: true, told: told.into() }
}

fn cares(store: &PostgresStore) -> usize {
    block_on(store.care()).unwrap().len()
}

/// Something that is there twice if it is done twice.
fn done_once(store: &PostgresStore, hand: &Hand, told: &str) {
    block_on(store.cared(care(told))).unwrap();
    let sql = format!("SELECT count(*)::text FROM care WHERE told = '{told}'");
    assert_eq!(hand.ask(&sql).unwrap(), "1", "{told}");
}

#[test]
fn m5_a_commit_that_never_arrived_is_done_again_and_one_that_was_not_answered_is_not() {
    let Some(database) = database() else { return };
    let (store, proxy, hand) = wired(database, LEASE);
    for (n, what) in [AtCommit::Passes, AtCommit::Lost, AtCommit::AnswerLost].iter().enumerate() {
        proxy.at_commit(*what);
        done_once(&store, &hand, &format!("{what:?}"));
        assert_eq!(proxy.met(), n, "{what:?}");
    }
    // The same for what must never be there twice, and for what is told of it.
    proxy.at_commit(AtCommit::AnswerLost);
    let told = block_on(store.enqueue(at(0), vec![message("k", 1)])).unwrap();
    assert_eq!(proxy.met(), 3);
    let state = block_on(store.delivery(DeliveryId::of_key("k"))).unwrap().unwrap().state;
    assert_eq!(state, DeliveryState::Queued, "{told:?}");
    let lines = hand.ask("SELECT count(*)::text FROM ledger WHERE kind = 'delivery'");
    assert_eq!(lines.unwrap(), "1");
}

#[test]
fn m5_nothing_is_told_of_a_commit_that_was_not_answered_before_it_is_known() {
    let Some(database) = database() else { return };
    for what in [AtCommit::AnswerLost, AtCommit::Lost] {
        let (store, proxy, hand) = wired(database, LEASE);
        proxy.at_commit(what);
        proxy.down(true);
        let store = Arc::new(store);
        let asking = Arc::clone(&store);
        let asked = thread::spawn(move || block_on(asking.cared(care("k"))));
        thread::sleep(Duration::from_millis(400));
        assert!(!asked.is_finished(), "{what:?}: who cannot know says nothing");
        proxy.down(false);
        asked.join().unwrap().unwrap();
        assert_eq!(proxy.met(), 1);
        assert_eq!(hand.ask("SELECT count(*)::text FROM care").unwrap(), "1", "{what:?}");
    }
}

#[test]
fn m5_a_connection_that_is_ended_in_the_middle_costs_nothing() {
    let Some(database) = database() else { return };
    let (store, _proxy, hand) = wired(database, LEASE);
    let store = Arc::new(store);
    hand.run("BEGIN; LOCK TABLE care IN ACCESS EXCLUSIVE MODE");
    let asking = Arc::clone(&store);
    let asked = thread::spawn(move || block_on(asking.cared(care("k"))));
    let other = Hand::new(&database.url, &hand.schema);
    let ended = until(|| {
        other.ask(&format!(
            "SELECT string_agg(pg_terminate_backend(pid)::text, '') FROM pg_locks
             WHERE relation = '{}.care'::regclass AND NOT granted",
            hand.schema
        ))
    });
    assert_eq!(ended, "true");
    hand.run("COMMIT");
    asked.join().unwrap().unwrap();
    assert_eq!(cares(&store), 1);
}

/// What it says, once it says anything.
fn until<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    for _ in 0..500 {
        if let Some(said) = ask() {
            return said;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("it never came to that")
}

#[test]
fn m5_a_deadlock_is_tried_again() {
    let Some(database) = database() else { return };
    let (store, _proxy, hand) = wired(database, LEASE);
    block_on(store.enqueue(at(0), vec![message("one", 1), message("two", 2)])).unwrap();
    let store = Arc::new(store);
    hand.run("BEGIN; SELECT FROM lane WHERE room = 2 FOR UPDATE");
    let cancelling = Arc::clone(&store);
    let cancelled = thread::spawn(move || {
        let all = CancelFilter::State(DeliveryState::Queued);
        block_on(cancelling.cancel(at(1), &all)).unwrap()
    });
    let other = Hand::new(&database.url, &hand.schema);
    // It has the first lane and waits for the second.
    let free = "SELECT count(*)::text FROM (SELECT FROM lane WHERE room = 1
                FOR UPDATE SKIP LOCKED) AS free";
    until(|| other.ask(free).filter(|free| free == "0"));
    // The server ends the one that began to wait first.
    hand.run("SELECT FROM lane WHERE room = 1 FOR UPDATE");
    assert!(!cancelled.is_finished());
    hand.run("COMMIT");
    assert_eq!(cancelled.join().unwrap().len(), 2);
    let acts = hand.ask("SELECT count(*)::text FROM ledger WHERE kind = 'operator'");
    assert_eq!(acts.unwrap(), "2");
}

#[test]
fn m5_what_others_were_in_the_way_of_is_tried_again_and_not_for_ever() {
    let Some(database) = database() else { return };
    let (store, _proxy, hand) = wired(database, LEASE);
    for code in ["40001", "40P01", "55P03"] {
        hand.run(&format!(
            "CREATE SEQUENCE tries; CREATE FUNCTION stumble() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN IF nextval('tries') < 4 THEN RAISE 'stumbled' USING ERRCODE = '{code}'; END IF;
             RETURN NEW; END $$;
             CREATE TRIGGER stumble BEFORE INSERT ON care
                 FOR EACH ROW EXECUTE FUNCTION stumble()"
        ));
        done_once(&store, &hand, code);
        assert_eq!(hand.ask("SELECT last_value::text FROM tries").unwrap(), "4", "{code}");
        hand.run("ALTER SEQUENCE tries RESTART; ALTER SEQUENCE tries MINVALUE -100000 START -1000");
        hand.run("ALTER SEQUENCE tries RESTART");
        let refused = block_on(store.cared(care("never"))).unwrap_err();
        assert_eq!(*refused.kind(), ErrorKind::Retryable, "{code}: {refused}");
        assert!(refused.to_string().contains(code), "{refused}");
        hand.run("DROP TRIGGER stumble ON care; DROP FUNCTION stumble; DROP SEQUENCE tries");
        done_once(&store, &hand, &format!("after {code}"));
    }
}

#[test]
fn m5_a_lock_that_does_not_come_in_time_is_waited_for_again() {
    let Some(database) = database() else { return };
    let (store, _proxy, hand) = wired(database, LEASE);
    block_on(store.enqueue(at(0), vec![message("k", 1)])).unwrap();
    hand.run("BEGIN; LOCK TABLE ledger_door IN ROW EXCLUSIVE MODE");
    let asked = thread::spawn(move || (block_on(store.ledger(0, 9)).unwrap().len(), store));
    // Longer than a reader waits for the door at once.
    thread::sleep(Duration::from_millis(1_300));
    assert!(!asked.is_finished());
    hand.run("COMMIT");
    assert_eq!(asked.join().unwrap().0, 1);
}

/// A role of a test's own, which is no superuser.
struct Login<'d> {
    hand: Hand,
    name: String,
    database: &'d Database,
}

impl<'d> Login<'d> {
    fn new(database: &'d Database) -> Self {
        let name = database.name();
        let hand = Hand::new(&database.url, "public");
        hand.run(&format!("CREATE ROLE {name} LOGIN PASSWORD 'x'"));
        let into = hand.ask("SELECT quote_ident(current_database())").unwrap();
        hand.run(&format!("GRANT CREATE ON DATABASE {into} TO {name}"));
        Self { hand, name, database }
    }

    fn store(&self) -> Result<PostgresStore> {
        let path = self.database.url.rsplit('/').next().unwrap();
        let at = address(&self.database.url);
        let url = format!("postgres://{}:x@{at}/{path}", self.name);
        let opened = PostgresStore::open_in(&url, &self.name, Role::Daemon, options(LEASE));
        block_on(opened)
    }

    fn alter(&self, how: &str) {
        self.hand.run(&format!("ALTER ROLE {} {how}", self.name));
        // What is there by now knows nothing of it.
        self.hand.ask(&format!(
            "SELECT string_agg(pg_terminate_backend(pid)::text, '') FROM pg_stat_activity
             WHERE usename = '{}'",
            self.name
        ));
    }
}

impl Drop for Login<'_> {
    fn drop(&mut self) {
        self.alter("CONNECTION LIMIT 0");
        self.hand.run(&format!("DROP OWNED BY {0} CASCADE; DROP ROLE {0}", self.name));
    }
}

#[test]
fn m5_too_many_connections_are_waited_for() {
    let Some(database) = database() else { return };
    let login = Login::new(database);
    let store = Arc::new(login.store().unwrap());
    block_on(store.cared(care("before"))).unwrap();
    login.alter("CONNECTION LIMIT 0");
    let refused = block_on(store.cared(care("never"))).unwrap_err();
    assert!(refused.is_retryable(), "{refused:?}");
    assert!(refused.to_string().contains("53300"), "{refused}");
    let none = login.store().map(drop).unwrap_err();
    assert!(none.is_retryable(), "{none:?}");
    let asking = Arc::clone(&store);
    let asked = thread::spawn(move || block_on(asking.cared(care("meanwhile"))));
    thread::sleep(Duration::from_millis(100));
    login.alter("CONNECTION LIMIT -1");
    asked.join().unwrap().unwrap();
    assert_eq!(cares(&store), 2);
}

#[test]
fn m5_a_database_that_may_only_be_read_is_waited_for() {
    let Some(database) = database() else { return };
    let login = Login::new(database);
    let store = login.store().unwrap();
    block_on(store.cared(care("before"))).unwrap();
    login.alter("SET default_transaction_read_only = on");
    let refused = block_on(store.cared(care("never"))).unwrap_err();
    assert!(refused.is_retryable() && refused.to_string().contains("25006"), "{refused:?}");
    assert_eq!(cares(&store), 1, "what is there can be read");
    // Who looks again does it on a new connection: behind the address there may be another server.
    login.hand.run(&format!("ALTER ROLE {} RESET default_transaction_read_only", login.name));
    block_on(store.cared(care("after"))).unwrap();
    assert_eq!(cares(&store), 2);
}

#[test]
fn m5_a_primary_that_became_a_standby_is_waited_for() {
    let Some(server) = Server::start(&[]) else { return };
    let url = server.url();
    let store = |options| block_on(PostgresStore::open(&url, Role::Daemon, options));
    let open = store(options(LEASE)).unwrap();
    block_on(open.cared(care("before"))).unwrap();
    server.stop();
    std::fs::write(server.data().join("standby.signal"), "").unwrap();
    server.go();
    let refused = block_on(open.cared(care("never"))).unwrap_err();
    assert!(refused.is_retryable(), "{refused:?}");
    let refused = store(options(LEASE)).map(drop).unwrap_err();
    assert!(refused.is_retryable() && refused.to_string().contains("standby"), "{refused:?}");
    assert_eq!(cares(&open), 1, "what is there can be read");
    std::fs::remove_file(server.data().join("standby.signal")).unwrap();
    server.stop();
    server.go();
    block_on(open.cared(care("after"))).unwrap();
    assert_eq!(cares(&open), 2);
}

#[test]
fn m5_a_restart_of_the_server_under_load_loses_and_doubles_nothing() {
    let Some(server) = Server::start(&["max_connections = 60"]) else { return };
    let url = server.url();
    let open = |_| block_on(PostgresStore::open(&url, Role::Daemon, options(LEASE))).unwrap();
    let stores: Vec<Arc<PostgresStore>> = (0..2).map(open).map(Arc::new).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicUsize::new(0));
    let workers: Vec<_> = (0..24)
        .map(|worker| {
            let store = Arc::clone(&stores[worker % 2]);
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            thread::spawn(move || {
                let (mut paused, mut refused) = (Vec::new(), Vec::new());
                for n in 0.. {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    let scope = PauseScope::Bot(format!("b{worker}-{n}").parse().unwrap());
                    match block_on(store.pause(at(n), &scope, true)) {
                        Ok(first) => {
                            assert!(first, "{scope} was paused twice");
                            paused.push(scope);
                            done.fetch_add(1, Ordering::SeqCst);
                        }
                        Err(error) => {
                            assert!(error.is_retryable(), "{error:?}");
                            refused.push(scope);
                        }
                    }
                }
                (paused, refused)
            })
        })
        .collect();
    for _ in 0..4 {
        let before = done.load(Ordering::SeqCst);
        until(|| (done.load(Ordering::SeqCst) > before + 200).then_some(()));
        server.stop();
        server.go();
    }
    let before = done.load(Ordering::SeqCst);
    until(|| (done.load(Ordering::SeqCst) > before + 100).then_some(()));
    stop.store(true, Ordering::SeqCst);
    let there = |scope: &PauseScope, all: &[PauseScope]| all.contains(scope);
    let mut told = 0;
    let results: Vec<_> = workers.into_iter().map(|worker| worker.join().unwrap()).collect();
    let all = block_on(stores[0].paused()).unwrap();
    for (paused, refused) in &results {
        for scope in paused {
            assert!(there(scope, &all), "{scope} was told to be paused and is not");
        }
        for scope in refused {
            assert!(!there(scope, &all), "{scope} was told not to be paused and is");
        }
        told += paused.len();
    }
    assert_eq!(all.len(), told);
    let lines = block_on(stores[1].ledger(0, usize::MAX)).unwrap();
    assert_eq!(lines.len(), told, "a line each");
    assert!(lines.windows(2).all(|pair| pair[0].seq < pair[1].seq));
}

#[test]
fn m5_a_crash_that_gives_the_number_of_a_transaction_to_another_deceives_nobody() {
    // What is not committed is not written for a while.
    let Some(server) = Server::start(&["wal_writer_delay = 10s", "autovacuum = off"]) else {
        return;
    };
    let proxy = Proxy::to(server.at);
    let url = by_way_of(&server.url(), proxy.at);
    let store = block_on(PostgresStore::open(&url, Role::Daemon, options(LEASE))).unwrap();
    let store = Arc::new(store);
    block_on(store.cared(care("before"))).unwrap();
    proxy.at_commit(AtCommit::Frozen);
    let asking = Arc::clone(&store);
    let asked = thread::spawn(move || block_on(asking.cared(care("k"))));
    until(|| (proxy.met() == 1).then_some(()));
    // The transaction dies with the server, and nothing of it was ever written.
    proxy.down(true);
    server.stop();
    server.go();
    let hand = Hand::new(&server.url(), "imbabot");
    hand.run("CREATE TABLE other (n INT)");
    for _ in 0..20 {
        hand.run("INSERT INTO other VALUES (1)");
    }
    proxy.down(false);
    proxy.go_on();
    asked.join().unwrap().unwrap();
    let done = "SELECT count(*)::text FROM care WHERE told = 'k'";
    assert_eq!(hand.ask(done).unwrap(), "1");
}

#[test]
fn m5_a_process_that_stops_in_the_middle_holds_up_the_others_for_a_part_of_its_lease() {
    let Some(database) = database() else { return };
    let lease = Duration::from_millis(900);
    let (store, proxy, hand) = wired(database, lease);
    let other = database.open(&hand.schema, Bodies::Full, lease);
    block_on(store.enqueue(at(0), vec![message("k", 1)])).unwrap();
    let store = Arc::new(store);
    proxy.at_commit(AtCommit::Frozen);
    let cancelling = Arc::clone(&store);
    let cancelled = thread::spawn(move || {
        let all = CancelFilter::State(DeliveryState::Queued);
        block_on(cancelling.cancel(at(1), &all)).unwrap()
    });
    until(|| (proxy.met() == 1).then_some(()));
    // It has the lane, and says nothing more.
    let begun = Instant::now();
    block_on(other.enqueue(at(2), vec![message("behind", 1)])).unwrap();
    let waited = begun.elapsed();
    assert!(waited > Duration::from_millis(100) && waited < lease, "{waited:?}");
    proxy.go_on();
    let mut both = cancelled.join().unwrap();
    both.sort();
    let mut expected = [DeliveryId::of_key("k"), DeliveryId::of_key("behind")];
    expected.sort();
    assert_eq!(both, expected, "what it had begun was undone, and it did it again");
}

#[test]
fn a_page_that_cannot_be_read_is_found_by_a_thorough_check() {
    let Some(server) = Server::start(&["autovacuum = off"]) else { return };
    let store = block_on(PostgresStore::open(&server.url(), Role::Daemon, options(LEASE))).unwrap();
    block_on(store.enqueue(at(0), vec![message("k", 1)])).unwrap();
    assert_eq!(block_on(store.check_integrity(true)).unwrap(), None);
    let hand = Hand::new(&server.url(), "imbabot");
    let file = hand.ask("SELECT pg_relation_filepath('ledger')").unwrap();
    drop(hand);
    server.stop_well();
    std::fs::write(server.data().join(file), [0x5a; 8_192]).unwrap();
    server.go();
    assert_eq!(block_on(store.check_integrity(false)).unwrap(), None);
    let found = block_on(store.check_integrity(true)).unwrap().unwrap();
    assert!(found.contains("invalid page"), "{found}");
}

#[test]
fn m10_a_server_that_forgets_is_refused_unless_it_is_accepted() {
    let Some(database) = database() else { return };
    let sure = PostgresOptions { unsafe_durability: false, ..options(LEASE) };
    let schema = database.name();
    let open = |url: &str, options| {
        block_on(PostgresStore::open_in(url, &schema, Role::Daemon, options))
            .map(|store| store.temporary(&schema))
    };
    let refused = |url: &str, setting: &str| {
        let error = open(url, sure.clone()).map(drop).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Unusable);
        assert!(error.to_string().contains(&format!("{setting} = off")), "{error}");
        let accepted = open(url, options(LEASE)).unwrap();
        assert!(!accepted.server().durable);
        block_on(accepted.begin(at(0), "1", RULES)).unwrap();
    };
    let quick = format!("{}?options=-c%20synchronous_commit%3Doff", database.url);
    refused(&quick, "synchronous_commit");
    let Some(server) = Server::start(&["fsync = off"]) else { return };
    refused(&server.url(), "fsync");
}
