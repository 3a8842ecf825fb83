//! Where the daemon can be killed: before and after any verb of its store, and at any byte of a
//! request or its answer. A kill is that from this moment on nothing it asks of the world is
//! heard; then whoever runs it drops it. Counts verbs and requests; changes nothing of them.

use std::collections::BTreeSet;
use std::fmt;
use std::future::pending;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use imbabot_bot::{BotName, DeliveryId, RoomSelector, WidgetName};
use imbabot_core::{
    BaseUrl, BodyStream, Request, Response, Room, RoomId, Timestamp, Transport, TransportError,
    User, WidgetId,
};
use imbabot_store::*;
use serde_json::Value;

use crate::transport::{SimTransport, raw};

/// Verbs that write; a kill around one that only reads is a kill at another moment.
pub(super) const WRITES: [&str; 22] = [
    "begin",
    "adopt_widgets",
    "adopt_bots",
    "adopt_schedules",
    "shorten_run",
    "release_running",
    "give_up_sending",
    "commit_poll",
    "claim_events",
    "commit_handled",
    "fail_event",
    "fire_wakes",
    "commit_occurrences",
    "expand",
    "claim",
    "settle",
    "hold_widget",
    "sweep",
    "note_breakers",
    "learn",
    "cared",
    "end",
];

/// Where a kill comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Crash {
    /// Before a verb of the store did anything.
    Before(String),
    /// After it was committed, and before the daemon heard of it.
    After(String),
    /// At a request to this endpoint.
    Request(String, Place),
}

/// Where within a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Before its first byte left.
    Unsent,
    /// When a part of it had arrived.
    Half,
    /// When it had arrived whole, and nothing was answered.
    Unanswered,
    /// When so many bytes of the answer's body had come.
    Byte(usize),
    /// When the whole answer had come, and nothing of it was recorded.
    Unrecorded,
}

/// A kill, the `nth` time that the daemon comes to it from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrashPoint {
    /// Where.
    pub at: Crash,
    /// Which time, from 1.
    pub nth: u32,
}

impl fmt::Display for CrashPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            Crash::Before(verb) => write!(f, "before {verb}")?,
            Crash::After(verb) => write!(f, "after {verb}")?,
            Crash::Request(endpoint, place) => {
                write!(f, "{endpoint} ")?;
                match place {
                    Place::Unsent => f.write_str("unsent")?,
                    Place::Half => f.write_str("half")?,
                    Place::Unanswered => f.write_str("unanswered")?,
                    Place::Byte(at) => write!(f, "byte={at}")?,
                    Place::Unrecorded => f.write_str("unrecorded")?,
                }
            }
        }
        write!(f, " {}", self.nth)
    }
}

impl FromStr for CrashPoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is no point to be killed at, as in `before settle 1`, \
                 `send_msg unanswered 1`, `get_rooms byte=120 1`"
            )
        };
        let words: Vec<&str> = text.split_whitespace().collect();
        let [first, second, nth] = words.as_slice() else { return Err(wrong()) };
        let nth = nth.parse().ok().filter(|nth| *nth > 0).ok_or_else(wrong)?;
        let verb = |verb: &str| WRITES.contains(&verb).then(|| verb.to_owned()).ok_or_else(wrong);
        let at = match *first {
            "before" => Crash::Before(verb(second)?),
            "after" => Crash::After(verb(second)?),
            "send_msg" | "get_rooms" | "get_users" => {
                let place = match second.split_once('=') {
                    Some(("byte", at)) => Place::Byte(at.parse().map_err(|_| wrong())?),
                    _ => match *second {
                        "unsent" => Place::Unsent,
                        "half" => Place::Half,
                        "unanswered" => Place::Unanswered,
                        "unrecorded" => Place::Unrecorded,
                        _ => return Err(wrong()),
                    },
                };
                Crash::Request((*first).into(), place)
            }
            _ => return Err(wrong()),
        };
        Ok(Self { at, nth })
    }
}

/// What the kill of a daemon is decided by. Clones are the same.
#[derive(Clone, Default)]
pub struct Kill(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    armed: Vec<CrashPoint>,
    struck: Option<String>,
    /// All that were ever struck.
    points: BTreeSet<String>,
}

impl Kill {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The daemon is to be killed there.
    pub fn arm(&self, point: CrashPoint) {
        self.state().armed.push(point);
    }

    /// Nothing kills it any more.
    pub fn disarm(&self) {
        self.state().armed.clear();
    }

    /// Whether it was killed, and not yet buried.
    #[must_use]
    pub fn has_struck(&self) -> bool {
        self.state().struck.is_some()
    }

    /// Where it was killed; from here on a new one lives.
    pub fn bury(&self) -> Option<String> {
        self.state().struck.take()
    }

    /// Where it was killed so far.
    #[must_use]
    pub fn points(&self) -> BTreeSet<String> {
        self.state().points.clone()
    }

    /// It came to such a point: whether it is killed here.
    fn comes_to(&self, reached: impl Fn(&Crash) -> bool) -> Option<Crash> {
        let mut state = self.state();
        let mut struck = None;
        for (n, point) in state.armed.iter_mut().enumerate() {
            if reached(&point.at) {
                point.nth = point.nth.saturating_sub(1);
                if point.nth == 0 && struck.is_none() {
                    struck = Some(n);
                }
            }
        }
        struck.map(|n| state.armed.remove(n).at)
    }

    fn strike(&self, at: &Crash) {
        let mut state = self.state();
        let words = CrashPoint { at: at.clone(), nth: 1 }.to_string();
        let words = words.trim_end_matches(" 1").to_owned();
        state.points.insert(words.clone());
        state.struck.get_or_insert(words);
    }

    /// Whoever is dead waits here for ever.
    async fn unless_dead(&self) {
        if self.has_struck() {
            pending::<()>().await;
        }
    }

    /// Resolves as soon as it is asked again after the kill.
    pub(crate) async fn struck(&self) {
        std::future::poll_fn(|_| {
            if self.has_struck() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    }
}

/// A store whose user can be killed before and after each verb.
pub struct MortalStore {
    inner: Arc<dyn Store>,
    kill: Kill,
}

impl MortalStore {
    /// A store of which whoever is killed by `kill` hears no more.
    #[must_use]
    pub fn over(inner: Arc<dyn Store>, kill: Kill) -> Self {
        Self { inner, kill }
    }

    async fn enter(&self, verb: &str) -> Result<()> {
        self.kill.unless_dead().await;
        let here = |at: &Crash| matches!(at, Crash::Before(wanted) if wanted == verb);
        if let Some(at) = self.kill.comes_to(here) {
            self.kill.strike(&at);
            pending::<()>().await;
        }
        Ok(())
    }

    async fn leave(&self, verb: &str) {
        let here = |at: &Crash| matches!(at, Crash::After(wanted) if wanted == verb);
        if let Some(at) = self.kill.comes_to(here) {
            self.kill.strike(&at);
            pending::<()>().await;
        }
    }
}

crate::flaky::wrap_store!(MortalStore);

/// A way to the simulator whose user can be killed at any byte.
pub(crate) struct MortalTransport {
    inner: Arc<SimTransport>,
    kill: Kill,
}

impl MortalTransport {
    pub(crate) fn over(inner: Arc<SimTransport>, kill: Kill) -> Self {
        Self { inner, kill }
    }
}

#[async_trait]
impl Transport for MortalTransport {
    async fn send(&self, request: Request) -> std::result::Result<Response, TransportError> {
        self.kill.unless_dead().await;
        let name = request.endpoint.name();
        let here = |at: &Crash| matches!(at, Crash::Request(endpoint, _) if endpoint == name);
        let Some(crash) = self.kill.comes_to(here) else { return self.inner.send(request).await };
        let Crash::Request(_, place) = crash else { return pending().await };
        let left = match place {
            Place::Unsent => None,
            Place::Half => {
                self.inner.simulator().receive_incomplete(&raw(&request));
                None
            }
            Place::Unanswered => {
                let _ = self.inner.simulator().handle(&raw(&request));
                None
            }
            Place::Byte(at) => Some(at),
            Place::Unrecorded => Some(usize::MAX),
        };
        let Some(left) = left else {
            self.kill.strike(&crash);
            return pending().await;
        };
        // Without an answer it goes on living, and learns why.
        let answer = self.inner.send(request).await?;
        let body = Dying { inner: answer.body, kill: self.kill.clone(), crash, left };
        Ok(Response::new(answer.status, answer.headers, Box::new(body)))
    }

    fn base_url(&self) -> Option<&BaseUrl> {
        self.inner.base_url()
    }
}

/// An answer whose reader is killed after so many bytes.
struct Dying {
    inner: Box<dyn BodyStream>,
    kill: Kill,
    crash: Crash,
    left: usize,
}

#[async_trait]
impl BodyStream for Dying {
    async fn chunk(&mut self) -> std::result::Result<Option<Bytes>, TransportError> {
        if self.left == 0 {
            self.kill.strike(&self.crash);
            return pending().await;
        }
        match self.inner.chunk().await? {
            Some(chunk) => {
                let part = chunk.slice(..chunk.len().min(self.left));
                self.left -= part.len();
                Ok(Some(part))
            }
            None => {
                // The answer was shorter, or all of it was to be read: what follows is its record.
                self.kill.strike(&self.crash);
                Ok(None)
            }
        }
    }
}
