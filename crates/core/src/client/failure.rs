//! What a failure of reqwest's means. It is never taken from the error whether anything was written,
//! but from the body of the request: `is_request()` is true for everything, an incomplete message may
//! well have been read, and the same error comes of a connection that ended before the request and
//! after it. Those who guess post twice.

use std::error::Error as StdError;
use std::io;

use crate::text::escape_foreign;
use crate::transport::{NetCode, TransportError};

/// No answer began. `unwritten`: the request was kept back for good before a byte of it left.
pub(super) fn of_request(error: &reqwest::Error, unwritten: bool, host: &str) -> TransportError {
    let code = match unwritten {
        true if error.is_builder() => NetCode::Unsendable,
        true if error.is_connect() => connect_code(error),
        // The time for the whole was over while the connection was still being made.
        true if error.is_timeout() => NetCode::ConnectTimeout,
        true => NetCode::ClosedBeforeWrite,
        false if error.is_timeout() => NetCode::Timeout,
        false => NetCode::Interrupted,
    };
    TransportError::new(code, format!("{host}: {}", reason(error)))
}

/// An answer began and its body failed.
pub(super) fn of_body(error: &reqwest::Error) -> TransportError {
    let cut = find::<io::Error>(error).is_some_and(|io| io.kind() == io::ErrorKind::UnexpectedEof);
    let code = if error.is_timeout() {
        NetCode::Timeout
    } else if cut || find::<hyper::Error>(error).is_some() || !error.is_decode() {
        NetCode::BodyCut
    } else {
        NetCode::Encoding
    };
    TransportError::new(code, reason(error))
}

fn connect_code(error: &reqwest::Error) -> NetCode {
    if error.is_dns() || chain(error).any(|cause| cause.to_string() == "dns error") {
        return NetCode::Dns;
    }
    if error.is_timeout() {
        return NetCode::ConnectTimeout;
    }
    match find::<io::Error>(error).map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => NetCode::Refused,
        Some(
            io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::AddrNotAvailable
            | io::ErrorKind::NetworkDown,
        ) => NetCode::Unreachable,
        // With the TCP connection made, what is left is the handshake.
        _ if chain(error).any(|cause| cause.to_string().starts_with("tcp ")) => NetCode::Connect,
        _ => NetCode::Tls,
    }
}

fn chain<'a>(error: &'a reqwest::Error) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let first: Option<&'a (dyn StdError + 'static)> = StdError::source(error);
    std::iter::successors(first, |cause: &&'a (dyn StdError + 'static)| {
        let cause: &'a (dyn StdError + 'static) = *cause;
        cause.source()
    })
}

fn find<E: StdError + 'static>(error: &reqwest::Error) -> Option<&E> {
    chain(error).find_map(|cause| cause.downcast_ref::<E>())
}

/// The words of the innermost cause: the system's or the TLS library's. They name no header, and
/// reqwest's own, which name the URL, are the outermost.
fn reason(error: &reqwest::Error) -> String {
    match chain(error).last() {
        Some(cause) => escape_foreign(&cause.to_string(), 150),
        None => "the request is not well-formed".into(),
    }
}
