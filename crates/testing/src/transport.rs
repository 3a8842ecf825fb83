//! The way to the simulator without a socket: bytes in, bytes out, in virtual time. What a fault
//! would do to a connection becomes what a client on its other end would see.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::checker::Change;
use crate::world::must;
use async_trait::async_trait;
use bytes::Bytes;
use imbabot_core::{
    BaseUrl, BodyStream, Endpoint, NetCode, Request, Response, Timestamp, Transport, TransportError,
};
use imbabot_scheduler::Clock;
use imbabot_simulator::{Answer, End, RawOutcome, RawRequest, Simulator};

/// Reaches a [`Simulator`] in the same process.
#[derive(Clone)]
pub struct SimTransport {
    simulator: Simulator,
    clock: Arc<dyn Clock>,
    patience: Patience,
    base_url: BaseUrl,
    answered: Answered,
}

/// When requests began to fail, and when they were answered again.
#[derive(Clone, Default)]
struct Answered(Arc<Mutex<Vec<Change>>>);

impl Answered {
    fn note(&self, at: Timestamp, good: bool) {
        let mut changes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if changes.last().is_none_or(|last| last.good != good) {
            changes.push(Change { at, good });
        }
    }
}

/// How long the client waits, as the real one does.
#[derive(Debug, Clone, Copy)]
struct Patience {
    connect: Duration,
    send: Duration,
    read: Duration,
}

impl SimTransport {
    /// A way to this simulator, with the time-outs of a default configuration. It counts as
    /// `https://api.imbachat.com`.
    ///
    /// # Panics
    /// That is no address.
    #[must_use]
    pub fn new(simulator: Simulator, clock: Arc<dyn Clock>) -> Self {
        let patience = Patience {
            connect: Duration::from_secs(5),
            send: Duration::from_secs(20),
            read: Duration::from_secs(30),
        };
        let base_url = must("https://api.imbachat.com".parse());
        Self { simulator, clock, patience, base_url, answered: Answered::default() }
    }

    /// When requests began to fail and to be answered again, by its changes. A refusal of one message
    /// is an answer; an error of the server, a redirect or refused credentials are none.
    #[must_use]
    pub fn answered(&self) -> Vec<Change> {
        self.answered.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn simulator(&self) -> &Simulator {
        &self.simulator
    }

    async fn fail<T>(&self, after: Duration, code: NetCode) -> Result<T, TransportError> {
        if !after.is_zero() {
            self.clock.sleep(after).await;
        }
        Err(TransportError::new(code, "simulated"))
    }

    async fn answer(&self, endpoint: Endpoint, answer: Answer) -> Result<Response, TransportError> {
        let patience = match endpoint {
            Endpoint::SendMsg => self.patience.send,
            _ => self.patience.read,
        };
        let delay = micros(answer.delay_micros);
        if delay >= patience {
            return self.fail(patience, NetCode::Timeout).await;
        }
        if !delay.is_zero() {
            self.clock.sleep(delay).await;
        }
        let headers: Vec<(String, String)> =
            answer.headers.into_iter().map(|(n, v)| (n.to_lowercase(), v)).collect();
        let encoded = headers.iter().find(|(name, _)| name == "content-encoding");
        if let (Endpoint::SendMsg, Some((_, encoding))) = (endpoint, encoded) {
            // As the real one: nobody asked for that.
            let unasked = TransportError::new(NetCode::Encoding, encoding.clone());
            return Ok(Response::chunks(answer.status, headers, [Err(unasked)]));
        }
        let body = Body {
            chunks: answer.body_chunks.into(),
            end: answer.then,
            bytes_per_second: answer.pace.map(|pace| pace.bytes_per_second),
            left: patience.saturating_sub(delay),
            // A whole send has one bound; a poll is bounded from byte to byte.
            renew: (endpoint != Endpoint::SendMsg).then_some(patience),
            clock: Arc::clone(&self.clock),
            usable: !matches!(answer.status, 300..=399 | 401 | 500..),
            answered: self.answered.clone(),
        };
        Ok(Response::new(answer.status, headers, Box::new(body)))
    }
}

/// A request as the server reads it.
pub(crate) fn raw(request: &Request) -> RawRequest {
    let mut headers: Vec<(String, String)> = request
        .headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.expose().to_owned()))
        .collect();
    headers.push(("Content-Type".into(), request.content_type.clone()));
    RawRequest {
        method: "POST".into(),
        path: request.path.clone(),
        headers,
        body: request.body.clone(),
    }
}

fn micros(count: u64) -> Duration {
    Duration::from_micros(count)
}

#[async_trait]
impl Transport for SimTransport {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let sent = self.pass_on(request).await;
        if sent.is_err() {
            self.answered.note(self.clock.now(), false);
        }
        sent
    }

    fn base_url(&self) -> Option<&BaseUrl> {
        Some(&self.base_url)
    }
}

impl SimTransport {
    async fn pass_on(&self, request: Request) -> Result<Response, TransportError> {
        let endpoint = request.endpoint;
        let raw = raw(&request);
        let patience = match endpoint {
            Endpoint::SendMsg => self.patience.send,
            _ => self.patience.read,
        };
        match self.simulator.handle(&raw) {
            RawOutcome::Answer(answer) => self.answer(endpoint, answer).await,
            RawOutcome::Cut { answer: Some(answer), .. } => self.answer(endpoint, answer).await,
            RawOutcome::Refused => self.fail(Duration::ZERO, NetCode::Refused).await,
            RawOutcome::Blackhole => {
                self.fail(self.patience.connect, NetCode::ConnectTimeout).await
            }
            RawOutcome::ClosedUnread(_) => self.fail(Duration::ZERO, NetCode::Interrupted).await,
            RawOutcome::ClosedUnanswered { delay_micros, .. }
            | RawOutcome::Cut { delay_micros, .. }
            | RawOutcome::NotHttp { delay_micros, .. } => {
                let delay = micros(delay_micros).min(patience);
                self.fail(delay, NetCode::Interrupted).await
            }
            RawOutcome::OnlyInterim { then: End::NeverEnds, .. } | RawOutcome::NoAnswer => {
                self.fail(patience, NetCode::Timeout).await
            }
            RawOutcome::OnlyInterim { delay_micros, .. } => {
                self.fail(micros(delay_micros).min(patience), NetCode::Interrupted).await
            }
        }
    }
}

struct Body {
    chunks: VecDeque<Bytes>,
    end: End,
    bytes_per_second: Option<u64>,
    left: Duration,
    renew: Option<Duration>,
    clock: Arc<dyn Clock>,
    usable: bool,
    answered: Answered,
}

#[async_trait]
impl BodyStream for Body {
    async fn chunk(&mut self) -> Result<Option<Bytes>, TransportError> {
        let chunk = self.next().await;
        match &chunk {
            Ok(Some(_)) => {}
            Ok(None) => self.answered.note(self.clock.now(), self.usable),
            Err(_) => self.answered.note(self.clock.now(), false),
        }
        chunk
    }
}

impl Body {
    async fn next(&mut self) -> Result<Option<Bytes>, TransportError> {
        let Some(chunk) = self.chunks.pop_front() else {
            return match self.end {
                End::Complete => Ok(None),
                End::Cut(_) => Err(TransportError::new(NetCode::BodyCut, "simulated")),
                End::NeverEnds => {
                    self.clock.sleep(self.left).await;
                    Err(TransportError::new(NetCode::Timeout, "simulated"))
                }
            };
        };
        if let Some(pace) = self.bytes_per_second {
            let takes = Duration::from_secs_f64(chunk.len() as f64 / pace.max(1) as f64);
            // A poll's bound is renewed with each byte, and bytes come at this pace.
            let bounded = match self.renew {
                Some(bound) => Duration::from_secs_f64(1.0 / pace.max(1) as f64) >= bound,
                None => takes > self.left,
            };
            if bounded {
                self.clock.sleep(self.left).await;
                return Err(TransportError::new(NetCode::Timeout, "simulated"));
            }
            self.clock.sleep(takes).await;
            self.left = self.renew.unwrap_or(self.left.saturating_sub(takes));
        }
        Ok(Some(chunk))
    }
}
