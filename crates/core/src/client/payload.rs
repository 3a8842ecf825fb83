//! The body of a request, which knows whether the connection ever asked for it. That settles what no
//! error of an HTTP client tells for certain: whether anything of the request was written.
//!
//! hyper takes a request and its body in one go and writes to the socket only after that, so while
//! nobody has asked for the body, not a byte has left, not even of the head. [`Ticket::revoke`]
//! makes that final: a body that was revoked is never given out, so "nothing was written" stays true.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

const WAITING: u8 = 0;
const GIVEN_OUT: u8 = 1;
const REVOKED: u8 = 2;

/// A body in one piece, of known length.
#[derive(Debug)]
pub(super) struct Payload {
    bytes: Bytes,
    ticket: Ticket,
}

/// Outlives its payload, and tells what became of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Ticket(Arc<AtomicU8>);

impl Payload {
    pub(super) fn new(bytes: Bytes) -> (Self, Ticket) {
        let ticket = Ticket::default();
        if bytes.is_empty() {
            // Nobody asks for nothing, so it would prove nothing.
            ticket.change_to(GIVEN_OUT);
        }
        (Self { bytes, ticket: ticket.clone() }, ticket)
    }
}

impl Ticket {
    /// Whether the body can be kept back: nobody asked for it, and now nobody gets it any more.
    pub(super) fn revoke(&self) -> bool {
        self.change_to(REVOKED)
    }

    /// Whether it is in this state now. The first change is the only one.
    fn change_to(&self, state: u8) -> bool {
        match self.0.compare_exchange(WAITING, state, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => true,
            Err(present) => present == state,
        }
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if !self.ticket.change_to(GIVEN_OUT) {
            return Poll::Ready(Some(Err(io::Error::other("the request was given up"))));
        }
        let bytes = std::mem::take(&mut self.bytes);
        Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn ask(payload: &mut Payload) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Pin::new(payload).poll_frame(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn what_was_given_out_cannot_be_revoked() {
        let (mut payload, ticket) = Payload::new(Bytes::from_static(b"form"));
        assert_eq!(payload.size_hint().exact(), Some(4));
        assert!(matches!(ask(&mut payload), Poll::Ready(Some(Ok(_)))));
        assert!(!ticket.revoke());
        assert!(payload.is_end_stream() && matches!(ask(&mut payload), Poll::Ready(None)));
    }

    #[test]
    fn an_empty_body_proves_nothing() {
        assert!(!Payload::new(Bytes::new()).1.revoke());
    }

    #[test]
    fn what_was_revoked_is_not_given_out() {
        let (mut payload, ticket) = Payload::new(Bytes::from_static(b"form"));
        assert!(ticket.revoke() && ticket.revoke());
        assert!(matches!(ask(&mut payload), Poll::Ready(Some(Err(_)))));
    }
}
