//! What a fault's kinds mean together: how far the request gets, whether it is applied, and what
//! becomes of the reply. Pure; it touches neither state nor sockets.

use bytes::Bytes;

use super::{Canned, EchoChange, Fault, FaultKind, ListShape};
use crate::door::in_process::{Close, Pace};

/// How one request shall fare. `Default` is an honest answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plan {
    pub(crate) reach: Reach,
    pub(crate) applied: bool,
    /// In place of the server's own reply.
    pub(crate) replacement: Option<Replacement>,
    pub(crate) tweaks: Tweaks,
    pub(crate) before: Option<Bytes>,
    pub(crate) after: Option<Bytes>,
    pub(crate) content_type: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
    /// How many times the body is put into gzip.
    pub(crate) gzip: u32,
    /// Unpacked bytes of a gzip bomb.
    pub(crate) bomb: Option<u64>,
    pub(crate) ending: Ending,
    pub(crate) delay_micros: u64,
    pub(crate) pace: Option<Pace>,
}

/// How far the request gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Reach {
    Refused,
    Blackhole,
    Unread(Close),
    #[default]
    Read,
}

#[derive(Debug, Clone)]
pub(crate) enum Replacement {
    /// HTTP status and body; a body fit for the status if `None`.
    Status(u16, Option<Canned>),
    /// The vendor's error body with this code.
    Code(u16),
}

/// How the connection ends.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Ending {
    #[default]
    Answered,
    Truncated {
        at: u64,
        chunked: bool,
        close: Close,
    },
    /// Counted over the whole answer, head included.
    Cut {
        at: u64,
        chunked: bool,
        close: Close,
    },
    Stalled(u64),
    Closed(Close),
    Silent,
    Interim(u16, Option<Close>),
    NotHttp(Bytes, Close),
}

/// Changes to a genuine reply.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tweaks {
    /// Answer as if, and store nothing.
    pub(crate) phantom: bool,
    pub(crate) no_id: bool,
    pub(crate) room: Option<i64>,
    pub(crate) echo: Option<EchoChange>,
    pub(crate) repeat_id: bool,
    pub(crate) repeat_uuid: bool,
    pub(crate) success: Option<String>,
    pub(crate) list: Option<ListShape>,
    pub(crate) imba_id: Option<i64>,
    pub(crate) pages: Option<Pages>,
    pub(crate) next_page: Option<String>,
    /// How many rows of a list come, and whether those are its last.
    pub(crate) limit: Option<(usize, bool)>,
}

/// How a list is cut into pages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pages {
    pub(crate) size: usize,
    pub(crate) beside: bool,
}

impl Plan {
    /// The plan of a request that no fault took.
    pub(crate) fn honest() -> Self {
        Self { applied: true, ..Self::default() }
    }

    pub(crate) fn of(fault: &Fault) -> Self {
        let mut plan = Self::honest();
        let mut applied = None;
        let mut status = None;
        let mut body = None;
        // `truncate`, `cut` and `interim` may stand beside `close=rst`, which then tells how they end.
        let mut close = None;
        for kind in &fault.what {
            match kind.clone() {
                FaultKind::Refuse => plan.reach = Reach::Refused,
                FaultKind::Blackhole => plan.reach = Reach::Blackhole,
                FaultKind::CloseUnread(how) => plan.reach = Reach::Unread(how),
                FaultKind::CloseUnanswered(how) => close = Some(how),
                FaultKind::Silent => plan.ending = Ending::Silent,
                FaultKind::Late(micros) => plan.delay_micros = micros,
                FaultKind::Status(code) => status = Some(code),
                FaultKind::Header(name, value) => plan.headers.push((name, value)),
                FaultKind::Body(canned) => body = Some(canned),
                FaultKind::BodyCode(code) => plan.replacement = Some(Replacement::Code(code)),
                FaultKind::Before(canned) => plan.before = Some(canned.bytes()),
                FaultKind::After(canned) => plan.after = Some(canned.bytes()),
                FaultKind::ContentType(media_type) => plan.content_type = Some(media_type),
                FaultKind::Gzip => plan.gzip += 1,
                FaultKind::GzipBomb(unpacked) => plan.bomb = Some(unpacked),
                FaultKind::Truncate(at) => {
                    plan.ending = Ending::Truncated { at, chunked: false, close: Close::Fin };
                }
                FaultKind::TruncateChunked(at) => {
                    plan.ending = Ending::Truncated { at, chunked: true, close: Close::Fin };
                }
                FaultKind::Cut(at) => {
                    plan.ending = Ending::Cut { at, chunked: false, close: Close::Fin };
                }
                FaultKind::CutChunked(at) => {
                    plan.ending = Ending::Cut { at, chunked: true, close: Close::Fin };
                }
                FaultKind::Stall(at) => plan.ending = Ending::Stalled(at),
                FaultKind::Slow(bytes_per_second) => plan.pace = Some(Pace { bytes_per_second }),
                FaultKind::OnlyInterim(code) => plan.ending = Ending::Interim(code, None),
                FaultKind::NotHttp(bytes) => plan.ending = Ending::NotHttp(bytes, Close::Fin),
                FaultKind::NoMessageId => plan.tweaks.no_id = true,
                FaultKind::WrongRoom(room) => plan.tweaks.room = Some(room),
                FaultKind::Echo(change) => plan.tweaks.echo = Some(change),
                FaultKind::RepeatId => plan.tweaks.repeat_id = true,
                FaultKind::RepeatUuid => plan.tweaks.repeat_uuid = true,
                FaultKind::SuccessAs(literal) => plan.tweaks.success = Some(literal),
                FaultKind::List(shape) => plan.tweaks.list = Some(shape),
                FaultKind::Pages { size, beside } => {
                    plan.tweaks.pages = Some(Pages { size: size.max(1), beside });
                }
                FaultKind::NextPage(url) => plan.tweaks.next_page = Some(url),
                FaultKind::Limit { rows, newest } => plan.tweaks.limit = Some((rows, newest)),
                FaultKind::OtherWidget(id) => plan.tweaks.imba_id = Some(id),
                FaultKind::Applied => applied = Some(true),
                FaultKind::Unapplied => applied = Some(false),
            }
        }
        if let Some(how) = close {
            plan.ending = plan.ending.closed(how);
        }
        if status.is_some() || body.is_some() {
            plan.replacement = Some(Replacement::Status(status.unwrap_or(200), body));
        }
        plan.applied = applied.unwrap_or(plan.is_genuine());
        plan.tweaks.phantom = !plan.applied;
        plan
    }

    /// Whether the client is shown the server's own reply, at least in part.
    fn is_genuine(&self) -> bool {
        self.replacement.is_none()
            && self.bomb.is_none()
            && matches!(
                self.ending,
                Ending::Answered
                    | Ending::Truncated { .. }
                    | Ending::Cut { .. }
                    | Ending::Stalled(_)
            )
    }
}

impl Ending {
    fn closed(self, how: Close) -> Self {
        match self {
            Self::Truncated { at, chunked, .. } => Self::Truncated { at, chunked, close: how },
            Self::Cut { at, chunked, .. } => Self::Cut { at, chunked, close: how },
            Self::Interim(code, _) => Self::Interim(code, Some(how)),
            Self::NotHttp(bytes, _) => Self::NotHttp(bytes, how),
            _ => Self::Closed(how),
        }
    }
}
