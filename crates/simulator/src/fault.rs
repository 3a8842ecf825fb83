//! Scripted faults: what goes wrong, with which requests. A fault never decides what the server
//! would have done; it decides how much of that happens and how the client hears of it.

mod matcher;
mod plan;
mod queue;
mod spec;

use std::fmt;

use bytes::Bytes;

use crate::door::in_process::Close;

pub use matcher::Matcher;
pub(crate) use plan::{Ending, Pages, Plan, Reach, Replacement, Tweaks};
pub use queue::Faults;
pub(crate) use queue::{FaultQueue, Stage};
pub use spec::FaultSpecError;

/// What goes wrong with the requests that match.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// Which requests.
    pub when: Matcher,
    /// What goes wrong; all of it at once, the later winning where two contradict each other.
    pub what: Vec<FaultKind>,
}

impl Fault {
    /// One thing that goes wrong.
    #[must_use]
    pub fn new(when: Matcher, what: FaultKind) -> Self {
        Self { when, what: vec![what] }
    }

    /// Another thing that goes wrong at the same time.
    #[must_use]
    pub fn and(mut self, what: FaultKind) -> Self {
        self.what.push(what);
        self
    }
}

/// Something that goes wrong.
///
/// Faults that stop before the server's reply or put another in its place (`CloseUnanswered`,
/// `Silent`, `Status`, `Body`, `BodyCode`, `GzipBomb`, `OnlyInterim`, `NotHttp`) leave the request unapplied
/// unless [`FaultKind::Applied`] stands beside them. All others alter or delay a genuine reply, so
/// the request is applied unless [`FaultKind::Unapplied`] stands beside them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// The connection is refused: not a byte arrives. The loopback door has accepted by then, so
    /// there it resets the connection unread; take the server down for a true refusal.
    Refuse,
    /// The connection is never established. The loopback door has accepted by then, so there it
    /// reads nothing and says nothing.
    Blackhole,
    /// The connection is closed before the request was read.
    CloseUnread(Close),
    /// The connection is closed after the whole request was read, without an answer.
    CloseUnanswered(Close),
    /// The whole request is read and nothing is ever answered.
    Silent,
    /// The answer begins this many microseconds late; what the request asks for is done at once.
    Late(u64),
    /// Another HTTP status. Without `Body`, a body as such servers send it.
    Status(u16),
    /// One more header.
    Header(String, String),
    /// Another body, with HTTP 200 unless `Status` says otherwise.
    Body(Canned),
    /// HTTP 200 and the vendor's error body with this code.
    BodyCode(u16),
    /// Something in front of the body.
    Before(Canned),
    /// Something behind the body.
    After(Canned),
    /// Another content type.
    ContentType(String),
    /// The body in gzip, whether the client asked for it or not; twice is gzip in gzip.
    Gzip,
    /// A gzip body that unpacks to about this many blanks, in place of the reply.
    GzipBomb(u64),
    /// The body ends after this many bytes and the connection is closed; `content-length` promises
    /// all of them.
    Truncate(u64),
    /// As `Truncate`, with the chunked coding: the last chunk never comes.
    TruncateChunked(u64),
    /// The answer ends after this many bytes, counted from the first of its status line, and the
    /// connection is closed.
    Cut(u64),
    /// As `Cut`, with the chunked coding, whose own bytes count too.
    CutChunked(u64),
    /// The body stops after this many bytes; the connection stays open.
    Stall(u64),
    /// So many bytes per second of the body.
    Slow(u64),
    /// An interim status (1xx) and nothing after it.
    OnlyInterim(u16),
    /// These bytes instead of an HTTP answer, then the connection is closed.
    NotHttp(Bytes),
    /// `send_msg`: the reply has no message id.
    NoMessageId,
    /// `send_msg`: the reply names this room.
    WrongRoom(i64),
    /// `send_msg`: the reply's text differs from what was sent.
    Echo(EchoChange),
    /// `send_msg`: the reply has the id of the message before.
    RepeatId,
    /// `send_msg`: the reply has the uuid of the message before.
    RepeatUuid,
    /// This JSON text as the value of `success`.
    SuccessAs(String),
    /// Lists: another shape of `data`.
    List(ListShape),
    /// Lists: in pages of so many rows, as Laravel cuts them.
    Pages {
        /// Rows per page.
        size: usize,
        /// The list stands in `data` and the numbers in `links` and `meta`, instead of all inside `data`.
        beside: bool,
    },
    /// Lists in pages: what each page names as the next one.
    NextPage(String),
    /// Lists: not more than so many rows, and no word of the others.
    Limit {
        /// How many.
        rows: usize,
        /// The last of them instead of the first.
        newest: bool,
    },
    /// Lists: every row claims to be of this widget.
    OtherWidget(i64),
    /// The request is applied.
    Applied,
    /// The request is not applied.
    Unapplied,
}

/// Ready-made bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Canned {
    /// Nothing.
    Empty,
    /// A page as a crashed October or a proxy shows it.
    Html,
    /// What `die('…')` leaves.
    Die,
    /// A warning as PHP prints it into the output.
    Warning,
    /// A byte order mark.
    Bom,
    /// `)]}'` and a line's end, the guard against JSON hijacking.
    Guard,
    /// These bytes.
    Bytes(Bytes),
}

impl Canned {
    const NAMED: [(&'static str, Self); 6] = [
        ("@empty", Self::Empty),
        ("@html", Self::Html),
        ("@die", Self::Die),
        ("@warning", Self::Warning),
        ("@bom", Self::Bom),
        ("@guard", Self::Guard),
    ];

    pub(crate) fn bytes(&self) -> Bytes {
        match self {
            Self::Empty => Bytes::new(),
            Self::Html => Bytes::from_static(
                b"<!DOCTYPE html>\n<html>\n<head><title>Error</title></head>\n\
                  <body>\n<h1>Whoops, looks like something went wrong.</h1>\n</body>\n</html>\n",
            ),
            Self::Die => Bytes::from_static(b"Could not connect to the database"),
            Self::Warning => Bytes::from_static(
                b"<br />\n<b>Warning</b>:  Undefined variable $room in \
                  <b>/var/www/plugins/imbachat/Api.php</b> on line <b>211</b><br />\n",
            ),
            Self::Bom => Bytes::from_static(b"\xEF\xBB\xBF"),
            Self::Guard => Bytes::from_static(b")]}'\n"),
            Self::Bytes(bytes) => bytes.clone(),
        }
    }

    /// The content type that such a body comes with.
    pub(crate) fn content_type(&self) -> &'static str {
        match self {
            Self::Bytes(bytes) if bytes.starts_with(b"{") || bytes.starts_with(b"[") => {
                "application/json"
            }
            _ => "text/html; charset=UTF-8",
        }
    }
}

/// How the text in a reply differs from the text that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EchoChange {
    /// `<` has become `&lt;`, and so on.
    Escaped,
    /// Without blanks at its ends.
    Trimmed,
    /// Quite another text.
    Altered(String),
}

/// Shapes of a list's `data`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListShape {
    /// `[]`, whatever there is.
    Empty,
    /// `null`.
    Null,
    /// `false`.
    False,
    /// `{}`, whatever there is.
    Object,
    /// `{"0":…,"2":…}`: PHP's array with gaps.
    Map,
    /// `{"data":[…]}` with page numbers beside it.
    Paged,
    /// All rows in the other order.
    Reversed,
    /// Every row twice.
    Doubled,
    /// The first half of the rows.
    Half,
    /// All rows, but the middle one makes no sense.
    BadRow,
}

impl ListShape {
    const NAMED: [(&'static str, Self); 10] = [
        ("empty", Self::Empty),
        ("null", Self::Null),
        ("false", Self::False),
        ("object", Self::Object),
        ("map", Self::Map),
        ("paged", Self::Paged),
        ("reversed", Self::Reversed),
        ("doubled", Self::Doubled),
        ("half", Self::Half),
        ("bad-row", Self::BadRow),
    ];
}

impl fmt::Display for Fault {
    /// In the words of the fault grammar.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        spec::write(f, self)
    }
}
