//! A client and its idle connections, as a unit that can be set aside and made anew, and for posting
//! a second one that keeps no connection at all. Nothing here repeats a request.
//!
//! A server that closes an idle connection while a request is being written makes the outcome
//! ambiguous, and nothing on our side can see it coming: the close may be on its way. So a connection
//! that waits to carry another message is kept for less time than any server is set to keep it; how
//! many requests use such connections at a time grows with the answers; and once one was lost, the
//! next messages each get a connection of their own.
//!
//! Connections that were in use without a break for so long that the host's name may lead elsewhere by
//! now are set aside by their age. What is in flight always finishes on the client that it began on.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::{Certificate, Client, redirect, retry};

use super::HttpSettings;
use super::resolve::Resolver;
use crate::error::{Error, ErrorKind};
use crate::transport::{NetCode, TransportError};

/// For posting. Half of the shortest time that a server is set to (Apache and nginx count in
/// seconds, and so does `Keep-Alive: timeout`), so that our request is there before its close. A
/// burst, where keeping connections pays, has shorter pauses.
const IDLE: Duration = Duration::from_millis(500);
/// For lists, which may be asked for again. Apache closes idle connections after 5 s, nginx after
/// 60 s and more.
const IDLE_POLLS: Duration = Duration::from_secs(4);
/// So many messages go on connections of their own after one was lost on a connection that may have
/// been idle before. A server that closes those at once or after milliseconds, without a word, then
/// costs one or two messages out of this many. The price is a handshake per message; and it is a
/// count because what it bounds is a share of the messages.
const ALONE: u32 = 20_000;
/// A peer that is gone without a word is noticed after about `KEEPALIVE` + 3 × `KEEPALIVE_STEP`
/// while it owes an answer, and after `UNACKNOWLEDGED` when what was written is not even received.
/// With the pause that follows, the next poll comes within half a minute.
const KEEPALIVE: Duration = Duration::from_secs(8);
const KEEPALIVE_STEP: Duration = Duration::from_secs(2);
const UNACKNOWLEDGED: Duration = Duration::from_secs(12);

/// What a client is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Sends,
    Polls,
}

impl Use {
    fn idle(self) -> Duration {
        match self {
            Self::Sends => IDLE,
            Self::Polls => IDLE_POLLS,
        }
    }
}

#[derive(Debug)]
pub(super) struct Pool {
    purpose: Use,
    resolver: Resolver,
    /// `None` for a host that is an address: nobody can move that.
    max_age: Option<Duration>,
    current: Arc<Mutex<Current>>,
}

#[derive(Debug)]
struct Current {
    generation: u64,
    /// Keeps idle connections. `None` after the last one was set aside.
    client: Option<Client>,
    /// Since when there may be connections without a break, and when the last request ended.
    since: Instant,
    last_used: Instant,
    /// So many requests use it now, and so many may at a time: one more with each answer.
    using: usize,
    trusted: usize,
    /// So many requests are still to get a connection of their own.
    alone: u32,
    /// Keeps no connection. Made when it is first needed, and then kept: it has nothing to set aside.
    loner: Option<Client>,
}

impl Pool {
    pub(super) fn new(
        purpose: Use,
        settings: &HttpSettings,
        resolver: Resolver,
    ) -> Result<Self, Error> {
        let client = Some(build(purpose, settings, &resolver, Keep::Idle)?);
        let host = settings.base_url.host();
        let is_address = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        let max_age = (!is_address).then_some(settings.max_connection_age);
        // Lists may be asked for again: nothing is lost with their connections.
        let trusted = if purpose == Use::Sends { 1 } else { usize::MAX };
        let (since, last_used) = (now(), now());
        let current = Current {
            generation: 0,
            client,
            since,
            last_used,
            using: 0,
            trusted,
            alone: 0,
            loner: None,
        };
        Ok(Self { purpose, resolver, max_age, current: Arc::new(Mutex::new(current)) })
    }

    /// The client for the next request, made anew if the last one was set aside or has grown old.
    pub(super) fn lease(&self, settings: &HttpSettings) -> Result<Lease, TransportError> {
        let mut current = lock(&self.current);
        let now = now();
        if current.using == 0 && now.duration_since(current.last_used) > self.purpose.idle() {
            // No connection outlives that: the next one is new anyway.
            current.since = now;
        }
        if self.max_age.is_some_and(|max| now.duration_since(current.since) >= max) {
            current.set_aside(now);
        }
        let keep = current.next();
        let place = match keep {
            Keep::Idle => &mut current.client,
            Keep::Nothing => &mut current.loner,
        };
        let client = match place {
            Some(client) => client.clone(),
            None => {
                let client = build(self.purpose, settings, &self.resolver, keep)
                    .map_err(|error| TransportError::new(NetCode::Unsendable, error.message()))?;
                place.insert(client).clone()
            }
        };
        current.using += usize::from(keep == Keep::Idle);
        let generation = (keep == Keep::Idle).then_some(current.generation);
        Ok(Lease { client, generation, current: self.current.clone() })
    }

    pub(super) fn refresh(&self) {
        lock(&self.current).set_aside(now());
    }
}

impl Current {
    fn next(&mut self) -> Keep {
        if self.alone > 0 {
            self.alone -= 1;
            Keep::Nothing
        } else if self.using >= self.trusted {
            Keep::Nothing
        } else {
            Keep::Idle
        }
    }

    fn set_aside(&mut self, now: Instant) {
        self.generation += 1;
        self.client = None;
        self.since = now;
    }
}

fn lock(current: &Mutex<Current>) -> MutexGuard<'_, Current> {
    current.lock().unwrap_or_else(PoisonError::into_inner)
}

#[expect(clippy::disallowed_methods, reason = "the age of real connections, in real time")]
fn now() -> Instant {
    Instant::now()
}

/// A client for one request.
pub(super) struct Lease {
    client: Client,
    /// `None` for a client that keeps no connection.
    generation: Option<u64>,
    current: Arc<Mutex<Current>>,
}

impl Lease {
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Sets this client aside, unless that was done already.
    pub(super) fn retire(&self) {
        let mut current = lock(&self.current);
        if self.generation == Some(current.generation) {
            current.set_aside(now());
        }
    }

    /// An answer began.
    pub(super) fn answered(&self) {
        let mut current = lock(&self.current);
        if self.generation == Some(current.generation) {
            current.trusted = current.trusted.saturating_add(1);
        }
    }

    /// The connection was lost before an answer. It may have been closed while it was idle, so its
    /// siblings are set aside too, and the next requests go without.
    pub(super) fn lost(&self) {
        let mut current = lock(&self.current);
        if self.generation == Some(current.generation) {
            current.set_aside(now());
            current.trusted = 1;
            current.alone = ALONE;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.generation.is_some() {
            let mut current = lock(&self.current);
            current.using = current.using.saturating_sub(1);
            current.last_used = now();
        }
    }
}

/// Which connections a client keeps for its next requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    Idle,
    Nothing,
}

fn build(
    purpose: Use,
    settings: &HttpSettings,
    resolver: &Resolver,
    keep: Keep,
) -> Result<Client, Error> {
    let mut builder = Client::builder()
        .user_agent(concat!("imbabot/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .http1_only()
        .no_proxy()
        .referer(false)
        .https_only(settings.base_url.is_https())
        .tcp_nodelay(true)
        .tcp_keepalive(KEEPALIVE)
        .tcp_keepalive_interval(KEEPALIVE_STEP)
        .tcp_keepalive_retries(3)
        .pool_idle_timeout(purpose.idle())
        .dns_resolver(Arc::new(resolver.clone()))
        .connect_timeout(settings.connect_timeout);
    #[cfg(target_os = "linux")]
    {
        builder = builder.tcp_user_timeout(UNACKNOWLEDGED);
    }
    builder = match purpose {
        Use::Sends => builder
            .gzip(false)
            .timeout(settings.send_timeout)
            .pool_max_idle_per_host(settings.pool_size),
        Use::Polls => {
            builder.gzip(true).read_timeout(settings.poll_read_timeout).pool_max_idle_per_host(2)
        }
    };
    if keep == Keep::Nothing {
        builder = builder.pool_max_idle_per_host(0);
    }
    if settings.base_url.is_https() {
        builder = builder.tls_certs_merge(extra_roots(settings.ca_pem.as_deref())?);
    } else {
        // Nothing to verify, so the system's certificates need not even exist.
        builder = builder.tls_certs_only([]);
    }
    builder.build().map_err(|_| {
        Error::new(ErrorKind::Settings, "no usable certificates; are ca-certificates installed?")
    })
}

fn extra_roots(pem: Option<&[u8]>) -> Result<Vec<Certificate>, Error> {
    let Some(pem) = pem else { return Ok(Vec::new()) };
    match Certificate::from_pem_bundle(pem) {
        Ok(roots) if !roots.is_empty() => Ok(roots),
        _ => Err(Error::new(ErrorKind::Settings, "ca_file holds no certificate in PEM form")),
    }
}
