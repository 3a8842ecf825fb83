//! Holds what the daemon says it did against what the server says happened. The witnesses: the
//! server's log S, the ledger L, the occurrences E that were to be expected, and what else was
//! heard: outputs, metrics, readiness. Shares no code with the daemon's own decisions, and never
//! mends what it finds.
//!
//! | | invariant | where |
//! |---|---|---|
//! | I1 | every full `send_msg` belongs to one attempt, same room, sender, text | `server` |
//! | I2 | nothing is doubled beyond what policy and ledger say | `server`, `ledger` |
//! | I3 | the ledger tells the truth | `server`, `ledger` |
//! | I4 | nothing is lost: every expected instant, every delivery | `occurrences` |
//! | I5 | what was accepted is kept | `occurrences` |
//! | I6 | first copies of a lane follow its order | `server` |
//! | I7 | states move along the arrows, attempts are append-only, metrics equal recounts | `ledger`, `metrics` |
//! | I8 | requests keep the rate; that polls of a list never overlap is not seen here: the server's log tells when a request came, not when it was answered | `server` |
//! | I9 | no secret in anything that was heard | `heard` |
//! | I10 | within 5 s of the first failed request the daemon says that it is not ready | `heard` |

mod heard;
mod ledger;
mod metrics;
mod occurrences;
mod server;

use std::fmt;

use imbabot_bot::DeliveryId;
use imbabot_core::{SecretKey, Timestamp};
use imbabot_scheduler::Rate;
use imbabot_store::LedgerLine;

pub use heard::Change;
use ledger::Book;
pub use server::SeenRequest;

/// An invariant that does not hold, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which of the invariants, by its number.
    pub invariant: u8,
    /// What was found.
    pub found: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "I{}: {}", self.invariant, self.found)
    }
}

/// The witnesses, and what is to be expected of them.
#[derive(Default)]
pub struct Check {
    requests: Vec<SeenRequest>,
    /// The server was heard; without it, what the ledger says of it can only be believed.
    server_heard: bool,
    book: Book,
    expected: Vec<(String, Timestamp)>,
    accepted: Vec<DeliveryId>,
    rate: Option<Rate>,
    quiescent: bool,
    metrics: Option<String>,
    secrets: Vec<SecretKey>,
    heard: Vec<(String, Vec<u8>)>,
    answered: Vec<Change>,
    ready: Vec<Change>,
    until: Option<Timestamp>,
}

impl Check {
    /// No witness yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The server's log.
    #[must_use]
    pub fn requests(mut self, requests: impl IntoIterator<Item = SeenRequest>) -> Self {
        self.requests.extend(requests);
        self.server_heard = true;
        self
    }

    /// The daemon's ledger, or its next lines: each is read once and then forgotten, but for what
    /// the invariants need.
    #[must_use]
    pub fn ledger(mut self, lines: impl IntoIterator<Item = LedgerLine>) -> Self {
        for line in lines {
            self.book.read(line);
        }
        self
    }

    /// Instants that a schedule had to account for.
    #[must_use]
    pub fn expected(
        mut self,
        schedule: &str,
        instants: impl IntoIterator<Item = Timestamp>,
    ) -> Self {
        self.expected.extend(instants.into_iter().map(|at| (schedule.to_owned(), at)));
        self
    }

    /// Ids of deliveries that somebody was promised.
    #[must_use]
    pub fn accepted(mut self, ids: impl IntoIterator<Item = DeliveryId>) -> Self {
        self.accepted.extend(ids);
        self
    }

    /// The rate that requests of `send_msg` have to keep.
    #[must_use]
    pub fn rate(mut self, rate: Rate) -> Self {
        self.rate = Some(rate);
        self
    }

    /// Everything had the time to come to an end: nothing may be queued or on its way.
    #[must_use]
    pub fn quiescent(mut self) -> Self {
        self.quiescent = true;
        self
    }

    /// The daemon's metrics, as `/metrics` shows them, read after the last line of the ledger.
    #[must_use]
    pub fn metrics(mut self, text: impl Into<String>) -> Self {
        self.metrics = Some(text.into());
        self
    }

    /// A key that may stand nowhere.
    #[must_use]
    pub fn secret(mut self, key: SecretKey) -> Self {
        self.secrets.push(key);
        self
    }

    /// Something that was written or shown, and where: an output, a file, a page.
    #[must_use]
    pub fn heard(mut self, place: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        self.heard.push((place.into(), bytes.into()));
        self
    }

    /// When requests began to fail and to be answered again, when the daemon said that it was ready
    /// and not, each by its changes, and until when that was watched.
    #[must_use]
    pub fn readiness(mut self, answered: &[Change], ready: &[Change], until: Timestamp) -> Self {
        self.answered.extend_from_slice(answered);
        self.ready.extend_from_slice(ready);
        self.until = Some(until);
        self
    }

    /// Forgets the ledger: what is read of it from here on is all that there is.
    pub(crate) fn forget_ledger(&mut self) {
        self.book = Book::default();
    }

    /// Other metrics than before, or none.
    pub(crate) fn show_metrics(&mut self, text: Option<String>) {
        self.metrics = text;
    }

    /// How many lines of the ledger were read.
    #[must_use]
    pub fn lines(&self) -> usize {
        self.book.lines()
    }

    /// What does not hold.
    #[must_use]
    pub fn run(&self) -> Vec<Violation> {
        let mut found = self.book.findings();
        self.book.is_consistent(&mut found);
        if self.server_heard {
            self.the_server_agrees(&mut found);
        }
        self.nothing_is_lost(&mut found);
        if let Some(text) = &self.metrics {
            metrics::equal_recounts(&self.book, text, &mut found);
        }
        self.no_secret_was_heard(&mut found);
        self.an_outage_was_told(&mut found);
        found.0
    }
}

/// What was found so far.
#[derive(Debug, Clone, Default)]
struct Findings(Vec<Violation>);

impl Findings {
    fn note(&mut self, invariant: u8, found: String) {
        self.0.push(Violation { invariant, found });
    }
}
