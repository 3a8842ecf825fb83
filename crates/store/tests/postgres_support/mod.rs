//! A database for tests: a schema for each store, dropped with it. One line says so where there is
//! none.

#![allow(dead_code, reason = "each test file uses a part")]

use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use imbabot_store::{Bodies, PostgresOptions, PostgresStore, Result, Role};

/// Where schemas may be made.
pub(crate) struct Database {
    pub(crate) url: String,
}

/// The database that the environment names.
pub(crate) fn database() -> Option<&'static Database> {
    static DATABASE: OnceLock<Option<Database>> = OnceLock::new();
    DATABASE
        .get_or_init(|| {
            let url = std::env::var("IMBABOT_TEST_POSTGRES").ok();
            if url.is_none() {
                // Past the capture of the test's own output: who leaves something out says so.
                let line =
                    "left out: what needs PostgreSQL; IMBABOT_TEST_POSTGRES names no database\n";
                let _ = std::io::stderr().lock().write_all(line.as_bytes());
            }
            url.map(|url| Database { url })
        })
        .as_ref()
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Database {
    /// A name for a schema that nobody else has.
    pub(crate) fn name(&self) -> String {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        format!("imba_test_{}_{n}", std::process::id())
    }

    /// An empty store in a schema of its own.
    pub(crate) fn store(&self, bodies: Bodies) -> Arc<PostgresStore> {
        let schema = self.name();
        let store = self.connect(&schema, bodies, Duration::from_secs(10));
        Arc::new(store.temporary(&schema))
    }

    /// A store in this schema.
    pub(crate) fn open(&self, schema: &str, bodies: Bodies, lease: Duration) -> Arc<PostgresStore> {
        Arc::new(self.connect(schema, bodies, lease))
    }

    /// The same, in one hand.
    pub(crate) fn connect(&self, schema: &str, bodies: Bodies, lease: Duration) -> PostgresStore {
        self.open_as(Role::Daemon, schema, bodies, lease).unwrap()
    }

    /// The same in any role, or why not.
    pub(crate) fn open_as(
        &self,
        role: Role,
        schema: &str,
        bodies: Bodies,
        lease: Duration,
    ) -> Result<PostgresStore> {
        let options =
            PostgresOptions { instance: "test".into(), lease, bodies, unsafe_durability: true };
        let opened = PostgresStore::open_in(&self.url, schema, role, options);
        futures_executor::block_on(opened)
    }

    /// Statements by a hand in the database.
    pub(crate) fn run(&self, sql: &str) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (client, connection) =
                tokio_postgres::connect(&self.url, tokio_postgres::NoTls).await.unwrap();
            let work = async {
                let client = client;
                client.batch_execute(sql).await.unwrap();
            };
            let (driven, ()) = tokio::join!(connection, work);
            driven.unwrap();
        });
    }
}

/// A hand in the database: a connection that goes past the store. Statements as they come.
pub(crate) struct Hand {
    pub(crate) schema: String,
    runtime: tokio::runtime::Runtime,
    client: tokio_postgres::Client,
}

impl Hand {
    /// In this schema. Without TLS.
    pub(crate) fn new(url: &str, schema: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (client, connection) =
            runtime.block_on(tokio_postgres::connect(url, tokio_postgres::NoTls)).unwrap();
        runtime.spawn(connection);
        let hand = Self { schema: schema.to_owned(), runtime, client };
        hand.run(&format!("SET search_path TO \"{schema}\""));
        hand
    }

    /// Runs statements.
    pub(crate) fn run(&self, sql: &str) {
        self.runtime.block_on(self.client.batch_execute(sql)).unwrap_or_else(|error| {
            panic!("{sql}: {error:?}");
        });
    }

    /// The first column of the first row, if there is one.
    pub(crate) fn ask(&self, sql: &str) -> Option<String> {
        let messages = self.runtime.block_on(self.client.simple_query(sql)).unwrap();
        messages.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        })
    }

    /// Begins a transaction, which does this and stays open.
    pub(crate) fn begin(&self, sql: &str) {
        self.run(&format!("BEGIN; {sql}"));
    }

    /// Waits until a statement of ours waits for a lock that this hand holds.
    pub(crate) fn until_waited_for(&self) {
        let watch = "SELECT 1 FROM pg_locks l JOIN pg_stat_activity a USING (pid)
                     WHERE NOT l.granted AND a.application_name = 'imbabot'
                       AND pg_backend_pid() = ANY (pg_blocking_pids(l.pid))";
        for _ in 0..400 {
            if self.ask(watch).is_some() {
                return;
            }
            // Within a transaction who is connected would stay what it was at the first look.
            self.run("SELECT pg_sleep(0.01), pg_stat_clear_snapshot()");
        }
        panic!("nobody waits");
    }

    /// Keeps every table as it is now, for [`Hand::put_back`].
    pub(crate) fn keep(&self) {
        for table in self.tables() {
            self.run(&format!("CREATE TEMP TABLE \"kept_{table}\" AS TABLE \"{table}\""));
        }
    }

    /// Every table is as it was kept.
    pub(crate) fn put_back(&self) {
        self.run("BEGIN; SET LOCAL session_replication_role = 'replica'");
        for table in self.tables() {
            self.run(&format!(
                "DELETE FROM \"{table}\"; INSERT INTO \"{table}\" TABLE \"kept_{table}\""
            ));
        }
        self.run("COMMIT");
    }

    fn tables(&self) -> Vec<String> {
        let sql = format!(
            "SELECT string_agg(tablename, ' ') FROM pg_tables WHERE schemaname = '{}'",
            self.schema
        );
        self.ask(&sql).unwrap().split(' ').map(str::to_owned).collect()
    }
}
