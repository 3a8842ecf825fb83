//! A client and its idle connections, as a unit that can be set aside and made anew, and for posting
//! a second one that keeps no connection at all. Nothing here repeats a request.
//!
//! A server that closes an idle connection while a request is being written makes the outcome
//! ambiguous, and nothing on our side can see it coming: the close may be on its way. So a connection
//! that waits to carry another message is kept for less time than any server is set to keep it; how
//! many requests use such connections at a time grows with the answers; and once one was lost, the
//! next messages each get a connection of their own.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Certificate, Client, redirect, retry};

use super::HttpSettings;
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
/// count because this crate knows no time.
const ALONE: u32 = 20_000;
/// A peer that is gone without a word is noticed after about `KEEPALIVE` + 3 × `KEEPALIVE_STEP`.
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_STEP: Duration = Duration::from_secs(5);

/// What a client is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Sends,
    Polls,
}

#[derive(Debug)]
pub(super) struct Pool {
    purpose: Use,
    current: Arc<Mutex<Current>>,
}

#[derive(Debug)]
struct Current {
    generation: u64,
    /// Keeps idle connections. `None` after the last one was set aside.
    client: Option<Client>,
    /// So many requests use it now, and so many may at a time: one more with each answer.
    using: usize,
    trusted: usize,
    /// So many requests are still to get a connection of their own.
    alone: u32,
    /// Keeps no connection. Made when it is first needed, and then kept: it has nothing to set aside.
    loner: Option<Client>,
}

impl Pool {
    pub(super) fn new(purpose: Use, settings: &HttpSettings) -> Result<Self, Error> {
        let client = Some(build(purpose, settings, Keep::Idle)?);
        // Lists may be asked for again: nothing is lost with their connections.
        let trusted = if purpose == Use::Sends { 1 } else { usize::MAX };
        let current = Current { generation: 0, client, using: 0, trusted, alone: 0, loner: None };
        Ok(Self { purpose, current: Arc::new(Mutex::new(current)) })
    }

    /// The client for the next request, made anew if the last one was set aside.
    pub(super) fn lease(&self, settings: &HttpSettings) -> Result<Lease, TransportError> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let keep = current.next();
        let place = match keep {
            Keep::Idle => &mut current.client,
            Keep::Nothing => &mut current.loner,
        };
        let client = match place {
            Some(client) => client.clone(),
            None => {
                let client = build(self.purpose, settings, keep)
                    .map_err(|error| TransportError::new(NetCode::Unsendable, error.message()))?;
                place.insert(client).clone()
            }
        };
        current.using += usize::from(keep == Keep::Idle);
        let generation = (keep == Keep::Idle).then_some(current.generation);
        Ok(Lease { client, generation, current: self.current.clone() })
    }

    pub(super) fn refresh(&self) {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).set_aside();
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

    fn set_aside(&mut self) {
        self.generation += 1;
        self.client = None;
    }
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
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if self.generation == Some(current.generation) {
            current.set_aside();
        }
    }

    /// An answer began.
    pub(super) fn answered(&self) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if self.generation == Some(current.generation) {
            current.trusted = current.trusted.saturating_add(1);
        }
    }

    /// The connection was lost before an answer. It may have been closed while it was idle, so its
    /// siblings are set aside too, and the next requests go without.
    pub(super) fn lost(&self) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if self.generation == Some(current.generation) {
            current.set_aside();
            current.trusted = 1;
            current.alone = ALONE;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.generation.is_some() {
            let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
            current.using -= 1;
        }
    }
}

/// Which connections a client keeps for its next requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    Idle,
    Nothing,
}

fn build(purpose: Use, settings: &HttpSettings, keep: Keep) -> Result<Client, Error> {
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
        .connect_timeout(settings.connect_timeout);
    builder = match purpose {
        Use::Sends => builder
            .gzip(false)
            .timeout(settings.send_timeout)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(settings.pool_size),
        Use::Polls => builder
            .gzip(true)
            .read_timeout(settings.poll_read_timeout)
            .pool_idle_timeout(IDLE_POLLS)
            .pool_max_idle_per_host(2),
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
