//! The seam to the network: bytes in, bytes out. What a request says and what a reply means is
//! decided on this side of it, so a stand-in for the network (another crate, in the same process)
//! exercises the same code as a socket. This module opens no connection and knows no library that
//! does.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};

use crate::base_url::BaseUrl;

/// The three things that ImbaChat's API documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Endpoint {
    /// Posts a message.
    SendMsg,
    /// Lists the users of a widget.
    GetUsers,
    /// Lists the rooms of a widget.
    GetRooms,
}

impl Endpoint {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::SendMsg, Self::GetUsers, Self::GetRooms];

    /// The last segment of its path: `send_msg`, `get_users`, `get_rooms`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SendMsg => "send_msg",
            Self::GetUsers => "get_users",
            Self::GetRooms => "get_rooms",
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The value of a request header. Secret ones print as `***`.
#[derive(Clone)]
pub enum HeaderText {
    /// May be shown.
    Plain(String),
    /// Authorization and the like; never shown.
    Secret(Arc<SecretString>),
}

impl HeaderText {
    /// A value that is never shown.
    #[must_use]
    pub fn secret(text: String) -> Self {
        Self::Secret(Arc::new(SecretString::from(text)))
    }

    /// The value itself, for the wire.
    #[must_use]
    pub fn expose(&self) -> &str {
        match self {
            Self::Plain(text) => text,
            Self::Secret(secret) => secret.expose_secret(),
        }
    }

    /// Whether it must not be shown.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        matches!(self, Self::Secret(_))
    }
}

impl fmt::Debug for HeaderText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(text) => fmt::Debug::fmt(text, f),
            Self::Secret(_) => f.write_str("***"),
        }
    }
}

/// A request, complete but for the server's address. Always a POST.
#[derive(Clone)]
#[non_exhaustive]
pub struct Request {
    /// What is asked.
    pub endpoint: Endpoint,
    /// The path below the base URL: `/imbachat/v2/627/send_msg`.
    pub path: String,
    /// Headers beside `Content-Type` and `Content-Length`.
    pub headers: Vec<(&'static str, HeaderText)>,
    /// The type of the body, boundary included.
    pub content_type: String,
    /// The whole body.
    pub body: Bytes,
}

impl Request {
    /// A request with these parts.
    #[must_use]
    pub fn new(
        endpoint: Endpoint,
        path: String,
        headers: Vec<(&'static str, HeaderText)>,
        content_type: String,
        body: Bytes,
    ) -> Self {
        Self { endpoint, path, headers, content_type, body }
    }

    /// The value of this header, whatever the case of its name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        Some(found.1.expose())
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("endpoint", &self.endpoint)
            .field("path", &self.path)
            .field("headers", &self.headers)
            .field("content_type", &self.content_type)
            .field("body", &format_args!("{} bytes", self.body.len()))
            .finish()
    }
}

/// The beginning of a reply; its body is still to be read.
#[non_exhaustive]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The headers in the order they came, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, decompressed.
    pub body: Box<dyn BodyStream>,
}

impl Response {
    /// A reply whose body comes from a stream.
    #[must_use]
    pub fn new(status: u16, headers: Vec<(String, String)>, body: Box<dyn BodyStream>) -> Self {
        Self { status, headers, body }
    }

    /// A reply whose body is there already.
    #[must_use]
    pub fn full(status: u16, headers: Vec<(String, String)>, body: impl Into<Bytes>) -> Self {
        Self::chunks(status, headers, [Ok(body.into())])
    }

    /// A reply whose body comes in these pieces; the first error ends it.
    #[must_use]
    pub fn chunks(
        status: u16,
        headers: Vec<(String, String)>,
        chunks: impl IntoIterator<Item = Result<Bytes, TransportError>>,
    ) -> Self {
        Self::new(status, headers, Box::new(Chunks(chunks.into_iter().collect())))
    }

    /// The value of this header; the first, if it came several times.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("status", &self.status).finish_non_exhaustive()
    }
}

/// The value of a header among headers, whatever the case of its name.
#[must_use]
pub fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
    Some(&found.1)
}

/// The body of a reply, piece by piece.
#[async_trait]
pub trait BodyStream: Send {
    /// The next piece; `None` after the last one, and only if the body is complete.
    async fn chunk(&mut self) -> Result<Option<Bytes>, TransportError>;

    /// Says that the answer was odd: the connection it came over carries no further request.
    fn retire_connection(&mut self) {}
}

struct Chunks(VecDeque<Result<Bytes, TransportError>>);

#[async_trait]
impl BodyStream for Chunks {
    async fn chunk(&mut self) -> Result<Option<Bytes>, TransportError> {
        self.0.pop_front().transpose()
    }
}

/// What carries requests. One attempt per call: an implementation never repeats a request of which
/// a byte may have left, never follows a redirect, and never answers from a cache.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Sends the request and waits for the head of the reply.
    async fn send(&self, request: Request) -> Result<Response, TransportError>;

    /// Where requests go, if they go to a server that has an address. What an answer says about
    /// further pages is held against it.
    fn base_url(&self) -> Option<&BaseUrl> {
        None
    }

    /// Says that an answer was for another message, which came out only after its connection was
    /// let go: no connection that is idle now carries a further message.
    fn retire_connections(&self) {}
}

/// What a failure of the transport means for the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TransportErrorKind {
    /// Nothing was written: no such host, refused, unreachable, no connection in time, no TLS, or
    /// closed before the first byte.
    NotSent,
    /// No answer in time; the request may have been read.
    Timeout,
    /// The connection ended or talked nonsense instead of an answer; the request may have been read.
    Interrupted,
    /// The answer began and its body ended early.
    BodyCut,
    /// The body is larger than allowed.
    BodyTooLarge,
    /// The body is compressed in a way that was not asked for, or does not decompress.
    Encoding,
}

/// What happened on the way, in more detail than [`TransportErrorKind`]: a closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NetCode {
    /// The host's name does not resolve.
    Dns,
    /// The port is closed.
    Refused,
    /// No way to the host.
    Unreachable,
    /// No connection in time.
    ConnectTimeout,
    /// The certificate or the handshake.
    Tls,
    /// No connection, for another reason.
    Connect,
    /// The connection was closed by the server before anything was written to it.
    ClosedBeforeWrite,
    /// The request could not even be built or the client not be made.
    Unsendable,
    /// No answer in time.
    Timeout,
    /// Reset, closed, or nonsense instead of an answer.
    Interrupted,
    /// The body ended early.
    BodyCut,
    /// The body is larger than allowed.
    BodyTooLarge,
    /// A content encoding that was not asked for, or broken compression.
    Encoding,
}

impl NetCode {
    /// The stable code: `IMB-NET-…`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "IMB-NET-DNS",
            Self::Refused => "IMB-NET-REFUSED",
            Self::Unreachable => "IMB-NET-UNREACHABLE",
            Self::ConnectTimeout => "IMB-NET-CONNECT-TIMEOUT",
            Self::Tls => "IMB-NET-TLS",
            Self::Connect => "IMB-NET-CONNECT",
            Self::ClosedBeforeWrite => "IMB-NET-CLOSED",
            Self::Unsendable => "IMB-NET-UNSENDABLE",
            Self::Timeout => "IMB-NET-TIMEOUT",
            Self::Interrupted => "IMB-NET-INTERRUPTED",
            Self::BodyCut => "IMB-NET-BODY-CUT",
            Self::BodyTooLarge => "IMB-NET-BODY-TOO-LARGE",
            Self::Encoding => "IMB-NET-ENCODING",
        }
    }

    /// What it means for the request.
    #[must_use]
    pub fn kind(self) -> TransportErrorKind {
        match self {
            Self::Dns
            | Self::Refused
            | Self::Unreachable
            | Self::ConnectTimeout
            | Self::Tls
            | Self::Connect
            | Self::ClosedBeforeWrite
            | Self::Unsendable => TransportErrorKind::NotSent,
            Self::Timeout => TransportErrorKind::Timeout,
            Self::Interrupted => TransportErrorKind::Interrupted,
            Self::BodyCut => TransportErrorKind::BodyCut,
            Self::BodyTooLarge => TransportErrorKind::BodyTooLarge,
            Self::Encoding => TransportErrorKind::Encoding,
        }
    }

    fn phrase(self) -> &'static str {
        match self {
            Self::Dns => "the host name does not resolve",
            Self::Refused => "connection refused",
            Self::Unreachable => "host unreachable",
            Self::ConnectTimeout => "no connection in time",
            Self::Tls => "no secure connection",
            Self::Connect => "no connection",
            Self::ClosedBeforeWrite => "connection closed before the request was written",
            Self::Unsendable => "the request could not be made",
            Self::Timeout => "no answer in time",
            Self::Interrupted => "connection lost before the answer",
            Self::BodyCut => "the answer ended early",
            Self::BodyTooLarge => "the answer is too large",
            Self::Encoding => "the answer is encoded in a way that was not asked for",
        }
    }
}

/// A failure on the way. Its text names hosts and reasons, never a header or a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransportError {
    code: NetCode,
    message: String,
}

impl TransportError {
    /// A failure of this sort; `message` adds what is known, and may be empty.
    #[must_use]
    pub fn new(code: NetCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// What it means for the request.
    #[must_use]
    pub fn kind(&self) -> TransportErrorKind {
        self.code.kind()
    }

    /// What happened, one of a closed list.
    #[must_use]
    pub fn net_code(&self) -> NetCode {
        self.code
    }

    /// The stable code: `IMB-NET-…`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.code.as_str()
    }

    /// What is known beside the code.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code.phrase())?;
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for TransportError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_shows_neither_its_secrets_nor_its_body() {
        let request = Request::new(
            Endpoint::SendMsg,
            "/imbachat/v2/627/send_msg".into(),
            vec![
                ("Authorization", HeaderText::secret("Basic c2VjcmV0".into())),
                ("X-Imbabot-Attempt", HeaderText::Plain("1".into())),
            ],
            "multipart/form-data; boundary=b".into(),
            Bytes::from_static(b"password=hunter2"),
        );
        let shown = format!("{request:?}");
        assert!(!shown.contains("c2VjcmV0") && !shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("\"Authorization\", ***") && shown.contains("16 bytes"), "{shown}");
        assert_eq!(request.header("authorization"), Some("Basic c2VjcmV0"));
    }
}
