//! A client and its idle connections, as a unit that can be set aside and made anew.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Certificate, Client, redirect, retry};

use super::HttpSettings;
use crate::error::{Error, ErrorKind};
use crate::transport::{NetCode, TransportError};

/// Apache closes idle connections after 5 s, nginx after 60 s and more: we are first.
const IDLE: Duration = Duration::from_secs(4);
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
    /// `None` after the last one was set aside.
    client: Option<Client>,
}

impl Pool {
    pub(super) fn new(purpose: Use, settings: &HttpSettings) -> Result<Self, Error> {
        let client = build(purpose, settings)?;
        let current = Current { generation: 0, client: Some(client) };
        Ok(Self { purpose, current: Arc::new(Mutex::new(current)) })
    }

    /// The present client, made anew if the last one was set aside.
    pub(super) fn lease(&self, settings: &HttpSettings) -> Result<Lease, TransportError> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let client = match &current.client {
            Some(client) => client.clone(),
            None => {
                let client = build(self.purpose, settings)
                    .map_err(|error| TransportError::new(NetCode::Unsendable, error.message()))?;
                current.client.insert(client).clone()
            }
        };
        Ok(Lease { client, generation: current.generation, current: self.current.clone() })
    }

    pub(super) fn refresh(&self) {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).set_aside();
    }
}

impl Current {
    fn set_aside(&mut self) {
        self.generation += 1;
        self.client = None;
    }
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
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.generation == self.generation {
            current.set_aside();
        }
    }
}

fn build(purpose: Use, settings: &HttpSettings) -> Result<Client, Error> {
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
        .connect_timeout(settings.connect_timeout);
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
