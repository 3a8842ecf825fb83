//! The one error of this crate, for what is asked (lists) and what is set up (the client). Posting
//! has no errors: its [`SendOutcome`](crate::SendOutcome) tells what is known.

use std::fmt;
use std::time::Duration;

use crate::transport::{TransportError, TransportErrorKind};

/// Why a list was not had, or a client not made. `Display` says what this layer knows; the cause,
/// where there is one, is the [`source`](std::error::Error::source).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    retry_after: Option<Duration>,
    source: Option<TransportError>,
}

/// What sort of failure it is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A 2xx whose body says no: `success` is not true, or `code` is an error.
    Refused {
        /// The body's `code`, if it had one.
        code: Option<i64>,
    },
    /// An HTTP status that is neither 2xx nor a redirect.
    Status(u16),
    /// A redirect, which is never followed.
    Redirect {
        /// Where it points, without path; empty if it did not say.
        origin: String,
    },
    /// A reply whose `data` is no list: `null`, `false`, a text, or absent.
    NotAList,
    /// The body ended before its JSON did.
    Truncated,
    /// The body is larger than allowed.
    TooLarge,
    /// One element is larger than allowed.
    ElementTooLarge,
    /// No JSON, or not the JSON of a reply.
    Undecodable,
    /// Its rows make no sense: hardly any can be read, or the same come again and again.
    Senseless,
    /// The pages of a paginated reply do not come to an end, or not in an order that can be followed.
    EndlessPages,
    /// A page names a next one on another server, which is not asked.
    PagesElsewhere,
    /// The transport failed.
    Transport(TransportErrorKind),
    /// The client cannot be made from these settings.
    Settings,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None, source: None }
    }

    pub(crate) fn transport(source: TransportError) -> Self {
        let kind = match source.kind() {
            TransportErrorKind::BodyCut => ErrorKind::Truncated,
            TransportErrorKind::BodyTooLarge => ErrorKind::TooLarge,
            other => ErrorKind::Transport(other),
        };
        Self { kind, message: String::new(), retry_after: None, source: Some(source) }
    }

    pub(crate) fn after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }

    /// Says on which page of a list it happened.
    pub(crate) fn on_page(mut self, page: u32) -> Self {
        let words = std::mem::take(&mut self.message);
        let colon = if words.is_empty() { "" } else { ": " };
        self.message = format!("on page {page}{colon}{words}");
        self
    }

    pub(crate) fn withhold(mut self, note: &str) -> Self {
        self.message = note.to_owned();
        self
    }

    /// What sort of failure it is.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// The server's words or the reason, escaped for one line; may be empty.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The failure of the transport underneath, if that was it.
    #[must_use]
    pub fn transport_error(&self) -> Option<&TransportError> {
        self.source.as_ref()
    }

    /// The secret key is not accepted: 401 or 403, as status or inside the body.
    #[must_use]
    pub fn is_credentials(&self) -> bool {
        matches!(
            self.kind,
            ErrorKind::Status(401 | 403) | ErrorKind::Refused { code: Some(401 | 403) }
        )
    }

    /// The server points elsewhere: the base URL is to be corrected.
    #[must_use]
    pub fn is_redirect(&self) -> bool {
        matches!(self.kind, ErrorKind::Redirect { .. })
    }

    /// The server asks for fewer requests.
    #[must_use]
    pub fn is_rate_limit(&self) -> bool {
        matches!(
            self.kind,
            ErrorKind::Status(425 | 429) | ErrorKind::Refused { code: Some(425 | 429) }
        )
    }

    /// Asking again later may go better, without anybody changing anything.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self.kind {
            ErrorKind::Status(status) => passes(i64::from(status)),
            ErrorKind::Refused { code: Some(code) } => passes(code),
            ErrorKind::Refused { code: None } | ErrorKind::Redirect { .. } => false,
            ErrorKind::PagesElsewhere | ErrorKind::Settings => false,
            ErrorKind::TooLarge | ErrorKind::ElementTooLarge => false,
            ErrorKind::NotAList
            | ErrorKind::Truncated
            | ErrorKind::Undecodable
            | ErrorKind::Senseless
            | ErrorKind::EndlessPages
            | ErrorKind::Transport(_) => true,
        }
    }

    /// How long the server asked to be left alone, within 1 s and 1 h.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The stable code, `IMB-…`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        if self.is_credentials() {
            return "IMB-API-CREDENTIALS";
        }
        match (&self.kind, &self.source) {
            (_, Some(source)) => source.code(),
            (ErrorKind::Refused { .. }, _) => "IMB-API-REFUSED",
            (ErrorKind::Status(_), _) => "IMB-API-STATUS",
            (ErrorKind::Redirect { .. }, _) => "IMB-API-REDIRECT",
            (ErrorKind::NotAList, _) => "IMB-LIST-NOT-A-LIST",
            (ErrorKind::Truncated, _) => "IMB-LIST-TRUNCATED",
            (ErrorKind::TooLarge, _) => "IMB-LIST-TOO-LARGE",
            (ErrorKind::ElementTooLarge, _) => "IMB-LIST-ELEMENT-TOO-LARGE",
            (ErrorKind::Undecodable, _) => "IMB-LIST-UNDECODABLE",
            (ErrorKind::Senseless, _) => "IMB-LIST-SENSELESS",
            (ErrorKind::EndlessPages, _) => "IMB-LIST-ENDLESS-PAGES",
            (ErrorKind::PagesElsewhere, _) => "IMB-LIST-PAGES-ELSEWHERE",
            (ErrorKind::Transport(_), _) => "IMB-NET",
            (ErrorKind::Settings, _) => "IMB-CLIENT",
        }
    }
}

/// Statuses that pass by themselves.
fn passes(status: i64) -> bool {
    matches!(status, 408 | 425 | 429 | 500..=599)
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ErrorKind::Refused { code: Some(code) } => {
                write!(f, "the server refused with code {code}")?;
            }
            ErrorKind::Refused { code: None } => f.write_str("the server refused")?,
            ErrorKind::Status(status) => write!(f, "the server answered HTTP {status}")?,
            ErrorKind::Redirect { origin } if origin.is_empty() => {
                f.write_str("the server redirects elsewhere; redirects are not followed")?;
            }
            ErrorKind::Redirect { origin } => {
                write!(f, "the server redirects to {origin}; redirects are not followed")?;
            }
            ErrorKind::NotAList => f.write_str("the answer holds no list")?,
            ErrorKind::Truncated => f.write_str("the answer ended before its JSON did")?,
            ErrorKind::TooLarge => f.write_str("the answer is larger than allowed")?,
            ErrorKind::ElementTooLarge => {
                f.write_str("an element of the list is larger than allowed")?;
            }
            ErrorKind::Undecodable => f.write_str("the answer is not the JSON of a list")?,
            ErrorKind::Senseless => f.write_str("the rows of the list make no sense")?,
            ErrorKind::EndlessPages => {
                f.write_str("the pages of the list do not come to an end")?;
            }
            ErrorKind::PagesElsewhere => {
                f.write_str(
                    "the next page of the list lies on another server, which is not asked",
                )?;
            }
            ErrorKind::Transport(_) => f.write_str("the server was not heard")?,
            ErrorKind::Settings => f.write_str("the HTTP client cannot be made")?,
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::NetCode;

    #[test]
    fn an_error_tells_what_to_do_by_its_predicates() {
        let refused = |code| Error::new(ErrorKind::Refused { code }, "");
        assert!(refused(Some(401)).is_credentials());
        assert_eq!(refused(Some(403)).code(), "IMB-API-CREDENTIALS");
        assert!(!refused(Some(422)).is_retryable());
        assert!(refused(Some(500)).is_retryable());
        assert!(Error::new(ErrorKind::Status(429), "").is_rate_limit());
        let cut = Error::transport(TransportError::new(NetCode::BodyCut, ""));
        assert_eq!((cut.kind(), cut.code()), (&ErrorKind::Truncated, "IMB-NET-BODY-CUT"));
        assert!(cut.is_retryable());
    }
}
