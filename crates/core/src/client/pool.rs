//! A client and its idle connections, as a unit that can be set aside and made anew: after an odd
//! answer, and when connections were in use without a break for so long that the host's name may
//! lead elsewhere by now. What is in flight finishes on the client that it began on.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::{Certificate, Client, redirect, retry};

use super::HttpSettings;
use super::resolve::Resolver;
use crate::error::{Error, ErrorKind};
use crate::transport::{NetCode, TransportError};

/// Apache closes idle connections after 5 s, nginx after 60 s and more: we are first.
const IDLE: Duration = Duration::from_secs(4);
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
    /// `None` after the last one was set aside.
    client: Option<Client>,
    /// Since when there may be connections without a break.
    since: Instant,
    /// Requests in flight, and when the last one ended.
    busy: usize,
    last_used: Instant,
}

impl Pool {
    pub(super) fn new(
        purpose: Use,
        settings: &HttpSettings,
        resolver: Resolver,
    ) -> Result<Self, Error> {
        let client = build(purpose, settings, &resolver)?;
        let host = settings.base_url.host();
        let is_address = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        let max_age = (!is_address).then_some(settings.max_connection_age);
        let (since, last_used) = (now(), now());
        let current = Current { generation: 0, client: Some(client), since, busy: 0, last_used };
        Ok(Self { purpose, resolver, max_age, current: Arc::new(Mutex::new(current)) })
    }

    /// The present client, made anew if the last one was set aside or has grown old.
    pub(super) fn lease(&self, settings: &HttpSettings) -> Result<Lease, TransportError> {
        let mut current = lock(&self.current);
        let now = now();
        if current.busy == 0 && now.duration_since(current.last_used) > IDLE {
            // No connection outlives that: the next one is new anyway.
            current.since = now;
        }
        if self.max_age.is_some_and(|max| now.duration_since(current.since) >= max) {
            current.set_aside(now);
        }
        let client = match &current.client {
            Some(client) => client.clone(),
            None => {
                let client = build(self.purpose, settings, &self.resolver)
                    .map_err(|error| TransportError::new(NetCode::Unsendable, error.message()))?;
                current.client.insert(client).clone()
            }
        };
        current.busy += 1;
        Ok(Lease { client, generation: current.generation, current: self.current.clone() })
    }

    pub(super) fn refresh(&self) {
        lock(&self.current).set_aside(now());
    }
}

impl Current {
    fn set_aside(&mut self, now: Instant) {
        self.generation += 1;
        self.client = None;
        self.since = now;
        self.busy = 0;
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
    generation: u64,
    current: Arc<Mutex<Current>>,
}

impl Lease {
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Sets this client aside, unless that was done already.
    pub(super) fn retire(&self) {
        let mut current = lock(&self.current);
        if current.generation == self.generation {
            current.set_aside(now());
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut current = lock(&self.current);
        if current.generation == self.generation {
            current.busy = current.busy.saturating_sub(1);
            current.last_used = now();
        }
    }
}

fn build(purpose: Use, settings: &HttpSettings, resolver: &Resolver) -> Result<Client, Error> {
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
        .pool_idle_timeout(IDLE)
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
