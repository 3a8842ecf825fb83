//! The door without a socket: a request goes in as a value, and what a client at the other end of
//! a wire would see comes out as a value. A function of state and time; it needs no runtime and
//! waits for nothing.

use bytes::Bytes;

use super::{gzip, written};
use crate::date;
use crate::endpoints::{self, Asked, Endpoint, Reply};
use crate::fault::{Canned, Ending, Fault, Plan, Reach, Replacement, Stage};
use crate::form::Form;
use crate::log::LogEntry;
use crate::simulator::{Simulator, State};

/// How large the pieces of a body are: what a kernel hands over at once, as a rule.
const CHUNK: usize = 64 * 1024;

/// A request as it comes off the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawRequest {
    /// `GET`, `POST` …
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Names (in any case) and values.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Bytes,
}

/// What a client sees of its request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RawOutcome {
    /// An answer, at least its head.
    Answer(Answer),
    /// The connection was refused: nothing was sent.
    Refused,
    /// The connection is never established: nothing was sent, and nothing ever comes back.
    Blackhole,
    /// The connection was closed before the request was read.
    ClosedUnread(Close),
    /// The connection was closed after the whole request was read.
    ClosedUnanswered {
        /// How it was closed.
        close: Close,
        /// After how many microseconds.
        delay_micros: u64,
    },
    /// The whole request was read, the connection stays open, and nothing ever comes back.
    NoAnswer,
    /// An interim status (1xx) and nothing after it.
    OnlyInterim {
        /// The interim status.
        status: u16,
        /// What comes instead of an answer.
        then: End,
        /// After how many microseconds the interim status comes.
        delay_micros: u64,
    },
    /// An answer that ends before its end, wherever that is: also in its status line.
    Cut {
        /// What reaches the client, as it is on the wire.
        bytes: Bytes,
        /// How many bytes the whole answer would have had.
        promised: u64,
        /// What a client makes of these bytes, if the head is among them.
        answer: Option<Answer>,
        /// How the connection is closed after them.
        close: Close,
        /// After how many microseconds they come.
        delay_micros: u64,
    },
    /// Bytes that are no HTTP answer.
    NotHttp {
        /// The bytes.
        bytes: Bytes,
        /// How the connection is closed after them.
        close: Close,
        /// After how many microseconds they come.
        delay_micros: u64,
    },
}

/// An answer whose head reaches the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Names and values; `content-length` and `transfer-encoding` are told by `framing`.
    pub headers: Vec<(String, String)>,
    /// How the body's length is told.
    pub framing: Framing,
    /// The bytes of the body that reach the client, without any transfer coding.
    pub body_chunks: Vec<Bytes>,
    /// What follows after these bytes.
    pub then: End,
    /// How long the head takes, in microseconds.
    pub delay_micros: u64,
    /// How fast the body comes; at once if `None`.
    pub pace: Option<Pace>,
}

/// How the length of a body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// `content-length` promises so many bytes.
    Length(u64),
    /// `transfer-encoding: chunked`.
    Chunked,
}

/// What follows after the bytes of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The answer is complete, the connection can serve another request.
    Complete,
    /// The connection is closed, although more was promised.
    Cut(Close),
    /// Nothing: the connection stays open.
    NeverEnds,
}

/// How the server closes a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// In good order: the client reads the end of the stream.
    Fin,
    /// By a reset: the client reads an error.
    Rst,
}

/// How fast a body comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Never 0.
    pub bytes_per_second: u64,
}

impl RawRequest {
    /// The value of a header, by its name in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        header.map(|(_, value)| value.as_str())
    }

    pub(crate) fn path_only(&self) -> &str {
        self.path.split_once('?').map_or(&self.path, |(path, _)| path)
    }

    fn query(&self) -> &str {
        self.path.split_once('?').map_or("", |(_, query)| query)
    }

    fn endpoint(&self) -> Option<Endpoint> {
        endpoints::of_path(self.path_only()).map(|(endpoint, _)| endpoint)
    }

    fn form(&self) -> Form {
        Form::parse(self.query(), self.header("content-type").unwrap_or(""), &self.body)
    }
}

impl Simulator {
    /// Serves one request that arrives whole, now.
    #[must_use]
    pub fn handle(&self, request: &RawRequest) -> RawOutcome {
        if self.is_down() {
            self.state().refused += 1;
            return RawOutcome::Refused;
        }
        self.receive_head(request).unwrap_or_else(|| self.receive_whole(request))
    }

    /// Notes a request that was cut off by the client: only its head and the given part of its
    /// body arrived, so nothing is done about it.
    pub fn receive_incomplete(&self, request: &RawRequest) {
        let now = self.now_micros();
        let mut state = self.state();
        let entry = entry(request, &Form::default(), now);
        state.log.push(LogEntry { outcome: "cut by the client".to_owned(), ..entry });
    }

    /// What becomes of a request whose head has arrived, if that is decided without its body.
    pub(crate) fn receive_head(&self, request: &RawRequest) -> Option<RawOutcome> {
        let endpoint = request.endpoint()?;
        let now = self.now_micros();
        let mut state = self.state();
        let fault = state.faults.take(Stage::Head, endpoint, None)?;
        Some(state.leave_unread(request, &fault, Plan::of(&fault).reach, now))
    }

    /// What becomes of a request that has arrived whole.
    pub(crate) fn receive_whole(&self, request: &RawRequest) -> RawOutcome {
        let now = self.now_micros();
        self.state().serve(request, now)
    }
}

impl State {
    fn leave_unread(
        &mut self,
        request: &RawRequest,
        fault: &Fault,
        reach: Reach,
        now_micros: i64,
    ) -> RawOutcome {
        let outcome = match reach {
            Reach::Unread(close) => RawOutcome::ClosedUnread(close),
            Reach::Blackhole => RawOutcome::Blackhole,
            Reach::Refused | Reach::Read => RawOutcome::Refused,
        };
        if !matches!(reach, Reach::Unread(_)) {
            // Not a byte arrived, so there is no request to write down.
            self.refused += 1;
            return outcome;
        }
        let entry = entry(request, &Form::default(), now_micros);
        self.log.push(LogEntry {
            outcome: "closed unread".to_owned(),
            fault: Some(fault.to_string()),
            ..entry
        });
        outcome
    }

    fn serve(&mut self, request: &RawRequest, now_micros: i64) -> RawOutcome {
        let form = request.form();
        let mut entry = entry(request, &form, now_micros);
        let fault = entry
            .endpoint
            .and_then(|endpoint| self.faults.take(Stage::Whole, endpoint, entry.room));
        let plan = fault.as_ref().map_or_else(Plan::honest, Plan::of);
        if let Some(fault) = &fault
            && plan.reach != Reach::Read
        {
            return self.leave_unread(request, fault, plan.reach, now_micros);
        }
        let reply = self.reply(&Asked { request, form: &form, now_micros }, &plan);
        entry.complete = true;
        entry.applied = reply.applied.is_some();
        (entry.message_id, entry.uuid) = reply.applied.clone().unzip();
        entry.fault = fault.map(|fault| fault.to_string());
        let outcome = self.outcome(reply, plan, now_micros);
        (entry.status, entry.outcome) = described(&outcome);
        self.log.push(entry);
        outcome
    }

    /// The reply, after the request was applied or not, as planned.
    fn reply(&mut self, asked: &Asked<'_>, plan: &Plan) -> Reply {
        let Some(replacement) = &plan.replacement else {
            return endpoints::answer(self, asked, &plan.tweaks);
        };
        let applied =
            if plan.applied { endpoints::answer(self, asked, &plan.tweaks).applied } else { None };
        let (status, body) = match replacement {
            Replacement::Code(code) => (200, endpoints::error_body(self, *code, reason(*code))),
            Replacement::Status(status, Some(canned)) => (*status, canned.bytes()),
            Replacement::Status(status, None) if (400..500).contains(status) => {
                (*status, endpoints::error_body(self, *status, reason(*status)))
            }
            Replacement::Status(status, None) => (*status, Canned::Html.bytes()),
        };
        Reply { status, body, applied }
    }

    fn outcome(&self, reply: Reply, plan: Plan, now_micros: i64) -> RawOutcome {
        let delay_micros = self.options.latency_micros + plan.delay_micros;
        match plan.ending {
            Ending::Closed(close) => RawOutcome::ClosedUnanswered { close, delay_micros },
            Ending::Silent => RawOutcome::NoAnswer,
            Ending::Interim(status, close) => {
                let then = close.map_or(End::NeverEnds, End::Cut);
                RawOutcome::OnlyInterim { status, then, delay_micros }
            }
            Ending::NotHttp(bytes, close) => RawOutcome::NotHttp { bytes, close, delay_micros },
            Ending::Cut { at, chunked, close } => {
                let plan = Plan { ending: Ending::Answered, ..plan };
                let mut answer = self.framed(reply, plan, now_micros, delay_micros);
                if chunked {
                    answer.framing = Framing::Chunked;
                }
                cut(answer, at, close)
            }
            Ending::Answered | Ending::Truncated { .. } | Ending::Stalled(_) => {
                RawOutcome::Answer(self.framed(reply, plan, now_micros, delay_micros))
            }
        }
    }

    fn framed(&self, reply: Reply, plan: Plan, now_micros: i64, delay_micros: u64) -> Answer {
        let content_type = plan.content_type.unwrap_or_else(|| match &plan.replacement {
            Some(Replacement::Status(_, Some(canned))) => canned.content_type().to_owned(),
            Some(Replacement::Status(status, None)) if !(400..500).contains(status) => {
                Canned::Html.content_type().to_owned()
            }
            _ => "application/json".to_owned(),
        });
        let mut body = match (plan.before, plan.after) {
            (None, None) => reply.body,
            (before, after) => Bytes::from(
                [before.unwrap_or_default(), reply.body, after.unwrap_or_default()].concat(),
            ),
        };
        let mut codings = vec!["gzip"; plan.gzip as usize];
        if let Some(unpacked) = plan.bomb {
            body = Bytes::from(gzip::bomb(unpacked));
            codings.push("gzip");
        }
        for _ in 0..plan.gzip {
            body = Bytes::from(gzip::stored(&body));
        }
        let promised = body.len() as u64;
        let until = |at: u64| usize::try_from(at.min(promised)).unwrap_or(body.len());
        let (framing, sent, then) = match plan.ending {
            Ending::Truncated { at, chunked: true, close } => {
                (Framing::Chunked, until(at), End::Cut(close))
            }
            Ending::Truncated { at, close, .. } if at < promised => {
                (Framing::Length(promised), until(at), End::Cut(close))
            }
            Ending::Stalled(at) if at < promised => {
                (Framing::Length(promised), until(at), End::NeverEnds)
            }
            _ => (Framing::Length(promised), body.len(), End::Complete),
        };
        let mut headers = vec![
            ("Date".to_owned(), date::http(self.server_time(now_micros))),
            ("Content-Type".to_owned(), content_type),
        ];
        if !codings.is_empty() {
            headers.push(("Content-Encoding".to_owned(), codings.join(", ")));
        }
        headers.extend(plan.headers);
        Answer {
            status: reply.status,
            headers,
            framing,
            body_chunks: chunks(body.slice(..sent)),
            then,
            delay_micros,
            pace: plan.pace,
        }
    }
}

/// The first `at` bytes of an answer, and how much of it they are to a client.
fn cut(mut answer: Answer, at: u64, close: Close) -> RawOutcome {
    answer.then = End::Cut(close);
    let pieces = written::pieces(&answer);
    let promised = pieces.iter().map(|piece| piece.bytes.len() as u64).sum();
    if at >= promised {
        return RawOutcome::Answer(Answer { then: End::Complete, ..answer });
    }
    let mut left = usize::try_from(at).unwrap_or(usize::MAX);
    let head_is_whole = left >= pieces[0].bytes.len();
    let (mut sent, mut body_chunks) = (Vec::new(), Vec::new());
    for piece in pieces {
        let part = piece.bytes.slice(..left.min(piece.bytes.len()));
        left -= part.len();
        sent.extend_from_slice(&part);
        if piece.is_body && !part.is_empty() {
            body_chunks.push(part);
        }
    }
    RawOutcome::Cut {
        bytes: Bytes::from(sent),
        promised,
        close,
        delay_micros: answer.delay_micros,
        answer: head_is_whole.then_some(Answer { body_chunks, ..answer }),
    }
}

fn chunks(mut body: Bytes) -> Vec<Bytes> {
    let mut chunks = Vec::with_capacity(body.len() / CHUNK + 1);
    while body.len() > CHUNK {
        chunks.push(body.split_to(CHUNK));
    }
    if !body.is_empty() {
        chunks.push(body);
    }
    chunks
}

/// An entry that says what arrived, and nothing yet of what came of it.
fn entry(request: &RawRequest, form: &Form, now_micros: i64) -> LogEntry {
    LogEntry {
        seq: 0,
        at: now_micros,
        endpoint: request.endpoint(),
        method: request.method.clone(),
        path: request.path_only().to_owned(),
        complete: false,
        applied: false,
        room: form.value("room_id").and_then(|room| room.parse().ok()),
        user_id: form.value("user_id").map(str::to_owned),
        text: form.text("message").map(str::to_owned),
        delivery: request.header("x-imbabot-delivery").map(str::to_owned),
        attempt: request.header("x-imbabot-attempt").map(str::to_owned),
        status: None,
        outcome: String::new(),
        fault: None,
        message_id: None,
        uuid: None,
    }
}

/// The status that was sent and what was done, for the log.
fn described(outcome: &RawOutcome) -> (Option<u16>, String) {
    let (status, words) = match outcome {
        RawOutcome::Answer(answer) => {
            let sent: usize = answer.body_chunks.iter().map(Bytes::len).sum();
            let words = match answer.then {
                End::Complete => "answered".to_owned(),
                End::Cut(_) => format!("cut after {sent} bytes"),
                End::NeverEnds => format!("stalled after {sent} bytes"),
            };
            return (Some(answer.status), words);
        }
        RawOutcome::Cut { bytes, promised, answer, .. } => {
            let words = format!("cut after {} of {promised} bytes", bytes.len());
            return (answer.as_ref().map(|answer| answer.status), words);
        }
        RawOutcome::Refused => (None, "refused"),
        RawOutcome::Blackhole => (None, "never connected"),
        RawOutcome::ClosedUnread(_) => (None, "closed unread"),
        RawOutcome::ClosedUnanswered { .. } => (None, "closed unanswered"),
        RawOutcome::NoAnswer => (None, "never answered"),
        RawOutcome::OnlyInterim { status, .. } => (Some(*status), "only an interim status"),
        RawOutcome::NotHttp { .. } => (None, "answered with bytes that are not HTTP"),
    };
    (status, words.to_owned())
}

/// What such an error says, in the vendor's tone.
fn reason(code: u16) -> &'static str {
    match code {
        401 => "Authenticate required!",
        403 => "Access denied!",
        404 => "Page not found!",
        422 => "The required parameter was not passed!",
        429 => "Too many requests!",
        _ => "Something went wrong!",
    }
}
