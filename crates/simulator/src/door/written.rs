//! An answer as the bytes of HTTP/1.1, for the door that writes past hyper, and for both where one
//! is cut. Says nothing that the answer does not say.

use axum::http::StatusCode;
use bytes::Bytes;

use super::in_process::{Answer, End, Framing};

/// A part of an answer on the wire.
pub(super) struct Piece {
    pub(super) bytes: Bytes,
    /// Of the body itself, and not of the head or the coding.
    pub(super) is_body: bool,
}

/// Status line and headers, to the blank line.
pub(super) fn head(answer: &Answer) -> String {
    let mut head = format!("HTTP/1.1 {}\r\n", status_text(answer.status));
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    match answer.framing {
        Framing::Length(length) => head.push_str(&format!("Content-Length: {length}\r\n")),
        Framing::Chunked => head.push_str("Transfer-Encoding: chunked\r\n"),
    }
    if answer.then == End::Complete {
        head.push_str("Connection: close\r\n");
    }
    head.push_str("\r\n");
    head
}

/// The whole answer, with the end of its coding, in pieces of which the first is the head.
pub(super) fn pieces(answer: &Answer) -> Vec<Piece> {
    let plain = |text: String| Piece { bytes: Bytes::from(text), is_body: false };
    let mut pieces = vec![plain(head(answer))];
    for chunk in &answer.body_chunks {
        let body = Piece { bytes: chunk.clone(), is_body: true };
        if answer.framing == Framing::Chunked {
            pieces.extend([plain(format!("{:x}\r\n", chunk.len())), body, plain("\r\n".into())]);
        } else {
            pieces.push(body);
        }
    }
    if answer.framing == Framing::Chunked {
        pieces.push(plain("0\r\n\r\n".into()));
    }
    pieces
}

pub(super) fn status_text(status: u16) -> String {
    match StatusCode::from_u16(status) {
        Ok(known) => format!("{status} {}", known.canonical_reason().unwrap_or("Unknown")),
        Err(_) => format!("{status} Unknown"),
    }
}
