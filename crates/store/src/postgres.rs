//! The store on PostgreSQL, for any number of instances: the same verbs, each one transaction. The
//! database's clock decides about leases; keys, row locks and the fence of a run decide what happens,
//! whoever believes to own what. Works behind a pooler that hands out connections by transaction.
//! Makes no request to ImbaChat, ever.

mod capabilities;
mod care;
mod explanations;
mod fleet;
mod hindsight;
mod inbox;
mod inspection;
mod journal;
mod lane;
mod ledger;
mod lifecycle;
mod link;
mod moving;
mod operations;
mod outbox;
mod paused;
mod retention;
mod row;
mod schedules;
mod schema;
mod server;
mod snapshots;
mod tx;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_rustls::rustls::ClientConfig;

use crate::error::{Error, ErrorKind, Result};
use crate::fleet::Unit;
use crate::sqlite::{Bodies, Role};
use link::Link;
pub(crate) use schedules::{Packed, pack as pack_rooms};
pub use server::ServerFacts;

/// The schema that holds the tables.
const SCHEMA: &str = "imbabot";
/// A transaction that was forgotten in the middle is ended after this, at most.
const IDLE: Duration = Duration::from_secs(3);

/// How an instance uses the store.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// For people who look at the instances; two may have the same.
    pub instance: String,
    /// How long an instance is believed after its last heartbeat.
    pub lease: Duration,
    /// Whether texts stay after their delivery has ended.
    pub bodies: Bodies,
    /// Accepts a server that may forget what it has confirmed (`fsync` or `synchronous_commit` off).
    pub unsafe_durability: bool,
}

/// A store in a PostgreSQL database.
pub struct PostgresStore {
    link: Link,
    bodies: Bodies,
    options: PostgresOptions,
    facts: ServerFacts,
    /// What the last heartbeat said that we own, with the terms.
    told: Mutex<BTreeMap<Unit, u64>>,
    /// Outcomes that wait to be written.
    outcomes: Arc<outbox::Outcomes>,
    /// Whose turn it is among lanes of the inbox.
    turns: inbox::Turns,
    /// The schema goes with this value.
    temporary: Option<String>,
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        let Some(schema) = self.temporary.take() else { return };
        self.link
            .last(async move |tx| tx.batch(&format!("DROP SCHEMA \"{schema}\" CASCADE")).await);
    }
}

impl PostgresStore {
    /// Connects, looks at the server, and makes or upgrades the tables (not as a visitor).
    ///
    /// The URL is `postgres://user:password@host:port/database`, with the parameters that libpq knows;
    /// certificates are verified against the system's roots. With `sslmode=prefer`, which is what it is
    /// if nothing is said, a server on this machine is talked to without TLS.
    ///
    /// # Errors
    /// `Unusable` if the URL, the server or its settings do not do, `Newer` if a newer program made
    /// the tables, `Retryable` if the server does not answer, and for a daemon `Moved` if the store was moved
    /// into a file. No error tells the URL.
    pub async fn open(url: &str, role: Role, options: PostgresOptions) -> Result<Self> {
        Self::open_in(url, SCHEMA, role, options).await
    }

    /// The same in a schema of another name: several stores in one database.
    ///
    /// # Errors
    /// As [`PostgresStore::open`]; `Unusable` if the name is not made of small letters, digits and `_`.
    pub async fn open_in(
        url: &str,
        schema: &str,
        role: Role,
        options: PostgresOptions,
    ) -> Result<Self> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if schema.is_empty() || schema.len() > 60 || !schema.chars().all(plain) {
            return Err(unusable("the name of a schema is made of small letters, digits and _"));
        }
        // The parser's own words could repeat a part of the URL.
        let mut config: Config =
            url.parse().map_err(|_| unusable("the URL of the database cannot be read"))?;
        config
            .application_name("imbabot")
            .connect_timeout(Duration::from_secs(5))
            .tcp_user_timeout(Duration::from_secs(15))
            .keepalives_idle(Duration::from_secs(30));
        if config.get_ssl_mode() == SslMode::Prefer && stays_here(&config) {
            // What does not leave the machine needs no certificate, and a server's own one is rarely
            // made out for it.
            config.ssl_mode(SslMode::Disable);
        }
        let idle = IDLE.min(options.lease / 3);
        let link = Link::start(config, tls()?, schema, idle)?;
        let accepts = options.unsafe_durability;
        let facts = server::look(&link, accepts).await?;
        let name = schema.to_owned();
        if role == Role::Visitor {
            link.read(async move |tx| schema::migrate(tx, &name, role).await).await?;
        } else {
            let make = async move |tx: &tx::Tx<'_>| {
                schema::migrate(tx, &name, role).await?;
                if role == Role::Daemon { moving::still_here(tx).await } else { Ok(()) }
            };
            link.make(make).await.map_err(in_the_way)?;
        }
        let turns = inbox::Turns::default();
        let (bodies, told, outcomes) = (options.bodies, Mutex::default(), Arc::default());
        Ok(Self { link, bodies, options, facts, told, outcomes, turns, temporary: None })
    }

    /// The same store, whose tables are dropped when this value is: for tests.
    #[must_use]
    #[cfg(any(test, feature = "conformance"))]
    pub fn temporary(mut self, schema: &str) -> Self {
        self.temporary = Some(schema.to_owned());
        self
    }

    /// What was noticed about the server on the way.
    #[must_use]
    pub fn server(&self) -> &ServerFacts {
        &self.facts
    }
}

/// Who makes or upgrades the tables waits for nobody who reads them at length.
fn in_the_way(error: Error) -> Error {
    if error.is_retryable() && error.to_string().contains(SqlState::LOCK_NOT_AVAILABLE.code()) {
        let why = "another session, a dump perhaps, holds the tables, which are to be upgraded";
        return Error::new(ErrorKind::Retryable, format!("{why}: {error}"));
    }
    error
}

/// Whether every host is this one.
fn stays_here(config: &Config) -> bool {
    config.get_hosts().iter().all(|host| match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
        }
        _ => true,
    }) && config.get_hostaddrs().iter().all(IpAddr::is_loopback)
}

fn unusable(message: &str) -> Error {
    Error::new(ErrorKind::Unusable, message)
}

fn tls() -> Result<MakeRustlsConnect> {
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(rustls_platform_verifier::BuilderVerifierExt::with_platform_verifier)
        .map_err(|error| unusable(&format!("no TLS: {error}")))?
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}
