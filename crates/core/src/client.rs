//! The transport over real sockets, and the only module that touches reqwest. It is set up so that
//! nothing happens to a request that was not asked for: no redirect, no retry, no proxy of the
//! environment, no cookie, no referer, HTTP/1.1 only, no compression that was not asked for.
//!
//! Posting and listing use clients of their own: a connection that a poll left in a doubtful state
//! never carries a message. Whether anything of a request was written is known from its body, see
//! `payload`; how long an idle connection may carry the next one, from `pool`.

mod failure;
mod payload;
mod pool;
mod resolve;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use crate::base_url::BaseUrl;
use crate::error::Error;
use crate::transport::{
    BodyStream, Endpoint, NetCode, Request, Response, Transport, TransportError, header,
};
use payload::Payload;
use pool::{Lease, Pool, Use};

pub use resolve::Resolver;

/// How the server is reached. [`HttpSettings::new`] has the defaults.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HttpSettings {
    /// Where the API lives.
    pub base_url: BaseUrl,
    /// For DNS, TCP and TLS together. Default 5 s.
    pub connect_timeout: Duration,
    /// For a whole `send_msg`, from the name lookup to the last byte. Default 20 s.
    pub send_timeout: Duration,
    /// For a list: how long without a byte. Default 30 s.
    pub poll_read_timeout: Duration,
    /// The largest list, after decompression. Default 512 MiB.
    pub max_body: u64,
    /// The largest answer to `send_msg`. Default 1 MiB.
    pub send_max_body: u64,
    /// Certificates (PEM) to trust beside those of the system.
    pub ca_pem: Option<Vec<u8>>,
    /// Idle connections that are kept for posting: as many as there are posts at a time. Default 8.
    pub pool_size: usize,
    /// How long connections are used without a break before new ones are made and the host's name
    /// is looked up for them again. Default 40 s: a name that moves is followed within a minute.
    pub max_connection_age: Duration,
}

impl HttpSettings {
    /// The defaults, for this server.
    #[must_use]
    pub fn new(base_url: BaseUrl) -> Self {
        Self {
            base_url,
            connect_timeout: Duration::from_secs(5),
            send_timeout: Duration::from_secs(20),
            poll_read_timeout: Duration::from_secs(30),
            max_body: 512 * 1024 * 1024,
            send_max_body: 1024 * 1024,
            ca_pem: None,
            pool_size: 8,
            max_connection_age: Duration::from_secs(40),
        }
    }
}

/// Carries requests to one server, over HTTP/1.1 and, but for loopback, TLS.
///
/// **After an odd answer** (see [`BodyStream::retire_connection`]) the connection it came over may be
/// out of step, and reqwest gives no hold on a single pooled connection. So the whole pool that it
/// belongs to is set aside: requests in flight finish on it, and the next request opens a new
/// connection. Odd answers are rare, and a reply that was not read to its end closes its connection
/// anyway.
#[derive(Debug)]
pub struct HttpTransport {
    settings: HttpSettings,
    sends: Pool,
    polls: Pool,
}

impl HttpTransport {
    /// Makes the clients. Opens no connection.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Settings`](crate::ErrorKind::Settings): the certificates cannot be read.
    pub fn new(settings: HttpSettings) -> Result<Self, Error> {
        Self::with_resolver(settings, Resolver::system())
    }

    /// As [`HttpTransport::new`], with another way from names to addresses; for tests.
    ///
    /// # Errors
    ///
    /// As [`HttpTransport::new`].
    pub fn with_resolver(settings: HttpSettings, resolver: Resolver) -> Result<Self, Error> {
        let sends = Pool::new(Use::Sends, &settings, resolver.clone())?;
        let polls = Pool::new(Use::Polls, &settings, resolver)?;
        Ok(Self { settings, sends, polls })
    }

    /// How the server is reached.
    #[must_use]
    pub fn settings(&self) -> &HttpSettings {
        &self.settings
    }

    /// Sets all connections aside now, so that the next requests look the host's name up again.
    /// Connections that are never idle are set aside by their age, without being asked.
    pub fn refresh(&self) {
        self.sends.refresh();
        self.polls.refresh();
    }
}

#[async_trait]
impl Transport for HttpTransport {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let host = self.settings.base_url.host();
        let is_send = request.endpoint == Endpoint::SendMsg;
        let (pool, max) = if is_send {
            (&self.sends, self.settings.send_max_body)
        } else {
            (&self.polls, self.settings.max_body)
        };
        let lease = pool.lease(&self.settings)?;
        let url = self.settings.base_url.join(&request.path);
        let headers = header_map(&request, is_send)?;
        let (payload, ticket) = Payload::new(request.body);
        let body = reqwest::Body::wrap(payload);
        let sent = lease.client().post(url).headers(headers).body(body).send().await;
        let answer = sent.map_err(|error| {
            let failure = failure::of_request(&error, ticket.revoke(), host);
            if is_send && failure.net_code() == NetCode::Interrupted {
                lease.lost();
            }
            failure
        })?;
        lease.answered();
        let status = answer.status().as_u16();
        let headers = headers_of(answer.headers());
        let body = Body { answer, lease, left: max, max, encoding: encoding_of(&headers) };
        Ok(Response::new(status, headers, Box::new(body)))
    }

    fn base_url(&self) -> Option<&BaseUrl> {
        Some(&self.settings.base_url)
    }

    fn retire_connections(&self) {
        self.sends.refresh();
    }
}

fn header_map(request: &Request, is_send: bool) -> Result<HeaderMap, TransportError> {
    let value = |name: &str, text: &str| {
        HeaderValue::from_str(text)
            .map_err(|_| TransportError::new(NetCode::Unsendable, format!("header {name}")))
    };
    let mut map = HeaderMap::with_capacity(request.headers.len() + 3);
    map.insert(CONTENT_TYPE, value("Content-Type", &request.content_type)?);
    if is_send {
        map.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    for (name, text) in &request.headers {
        let known: HeaderName = name
            .parse()
            .map_err(|_| TransportError::new(NetCode::Unsendable, format!("header {name}")))?;
        let mut value = value(name, text.expose())?;
        value.set_sensitive(text.is_secret());
        map.insert(known, value);
    }
    Ok(map)
}

fn headers_of(map: &HeaderMap) -> Vec<(String, String)> {
    map.iter()
        .map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        })
        .collect()
}

/// The encoding that is still on the body: reqwest takes off the header of the one it undoes.
fn encoding_of(headers: &[(String, String)]) -> Option<String> {
    let encoding = header(headers, "content-encoding")?.trim();
    let plain = encoding.is_empty() || encoding.eq_ignore_ascii_case("identity");
    (!plain).then(|| crate::text::escape_foreign(encoding, 40))
}

struct Body {
    answer: reqwest::Response,
    lease: Lease,
    left: u64,
    max: u64,
    encoding: Option<String>,
}

#[async_trait]
impl BodyStream for Body {
    async fn chunk(&mut self) -> Result<Option<Bytes>, TransportError> {
        if let Some(encoding) = &self.encoding {
            return Err(TransportError::new(NetCode::Encoding, encoding.clone()));
        }
        let read = self.answer.chunk().await;
        let Some(chunk) = read.map_err(|error| failure::of_body(&error))? else {
            return Ok(None);
        };
        match self.left.checked_sub(chunk.len() as u64) {
            Some(left) => self.left = left,
            None => {
                let message = format!("over {} bytes", self.max);
                return Err(TransportError::new(NetCode::BodyTooLarge, message));
            }
        }
        Ok(Some(chunk))
    }

    fn retire_connection(&mut self) {
        self.lease.retire();
    }
}
