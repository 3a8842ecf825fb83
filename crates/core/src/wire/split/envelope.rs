//! What stands beside the list: whether it is a success, and whether there are more pages.

use crate::error::{Error, ErrorKind};
use crate::text::escape_foreign;
use crate::wire::lenient::{Fields, Loose};

/// What a list turned out to be at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListEnd {
    /// How many elements were handed on.
    pub elements: u64,
    /// How long the body was.
    pub bytes: u64,
    /// The JSON stood between other text.
    pub salvaged: bool,
    /// The body's `code`.
    pub code: Option<i64>,
    /// `success` was a word and no truth value.
    pub success_as_word: bool,
    /// The list was an object with numbers for keys.
    pub is_map: bool,
    /// The number of the page that follows, if the reply is a page and not the last.
    pub next_page: Option<u64>,
    /// Where the reply says that the next page lies. Not an address to be asked as it is.
    pub next_url: Option<String>,
    /// Which page the reply says it is.
    pub page: Option<u64>,
    /// How many elements the reply says there are on all pages.
    pub total: Option<u64>,
}

/// The fields of a reply other than the list. Of several of a name the last wins.
#[derive(Debug, Default)]
pub(super) struct Envelope {
    success: Option<bool>,
    success_as_word: bool,
    code: Option<i64>,
    error: Option<String>,
    current_page: Option<u64>,
    last_page: Option<u64>,
    total: Option<u64>,
    next_url: Option<String>,
}

impl Envelope {
    /// Whether a field of the outermost object matters.
    pub(super) fn wants(key: &[u8]) -> bool {
        matches!(
            key,
            b"success" | b"code" | b"error" | b"errorMsg" | b"message" | b"links" | b"meta"
        ) || Self::wants_of_page(key)
    }

    /// Whether a field of a paginator's object matters.
    pub(super) fn wants_of_page(key: &[u8]) -> bool {
        matches!(key, b"current_page" | b"last_page" | b"next_page_url" | b"total")
    }

    /// Takes the text of one JSON value.
    pub(super) fn take(&mut self, key: &[u8], raw: &str) {
        let value = Loose::of(raw);
        match key {
            b"success" => {
                self.success = value.as_bool();
                self.success_as_word = matches!(value, Loose::Text(_));
            }
            b"code" => {
                self.code = if value.is_nothing() { None } else { value.as_i64().or(Some(0)) }
            }
            b"error" | b"errorMsg" | b"message" => self.take_error(&value),
            b"meta" | b"links" => self.take_paging(raw),
            b"current_page" => self.current_page = value.as_u64(),
            b"last_page" => self.last_page = value.as_u64(),
            b"total" => self.total = value.as_u64(),
            b"next_page_url" | b"next" => {
                self.next_url = value.as_text().filter(|_| !value.is_nothing()).map(Into::into);
            }
            _ => {}
        }
    }

    fn take_error(&mut self, value: &Loose<'_>) {
        if value.is_nothing() {
            return;
        }
        let text = match value {
            Loose::Text(text) => text.clone().into_owned(),
            Loose::Object(raw) | Loose::List { empty: false, raw } => (*raw).to_owned(),
            Loose::Number(digits) => (*digits).to_owned(),
            _ => return,
        };
        self.error.get_or_insert(text);
    }

    /// `links` and `meta` of Laravel's resource collections.
    fn take_paging(&mut self, raw: &str) {
        if let Ok(mut fields) = Fields::parse(raw.as_bytes()) {
            for name in ["current_page", "last_page", "total", "next"] {
                let value = fields.take(name);
                match (name, value) {
                    (_, Loose::Absent) => {}
                    ("current_page", value) => self.current_page = value.as_u64(),
                    ("last_page", value) => self.last_page = value.as_u64(),
                    ("total", value) => self.total = value.as_u64(),
                    (_, value) => {
                        self.next_url =
                            value.as_text().filter(|_| !value.is_nothing()).map(Into::into);
                    }
                }
            }
        }
    }

    pub(super) fn is_success(&self) -> bool {
        self.success == Some(true) && matches!(self.code, None | Some(200))
    }

    pub(super) fn code(&self) -> Option<i64> {
        self.code
    }

    /// Why this reply is no success.
    pub(super) fn refusal(&self) -> Result<(), Error> {
        let said = self.error.as_deref().map(|text| escape_foreign(text, 200)).unwrap_or_default();
        match self.code {
            None | Some(200) => {}
            code => return Err(Error::new(ErrorKind::Refused { code }, said)),
        }
        match (self.success, &self.error) {
            (Some(true), _) => Ok(()),
            (None, None) => Err(Error::new(ErrorKind::Undecodable, "it does not say success")),
            _ => Err(Error::new(ErrorKind::Refused { code: None }, said)),
        }
    }

    pub(super) fn success_as_word(&self) -> bool {
        self.success_as_word
    }

    pub(super) fn current_page(&self) -> Option<u64> {
        self.current_page
    }

    pub(super) fn total(&self) -> Option<u64> {
        self.total
    }

    pub(super) fn next_url(&self) -> Option<&str> {
        self.next_url.as_deref()
    }

    pub(super) fn next_page(&self) -> Option<u64> {
        let current = self.current_page.unwrap_or(1);
        let more = self.next_url.is_some() || self.last_page.is_some_and(|last| last > current);
        if !more {
            return None;
        }
        let named = self.next_url.as_deref().and_then(page_of);
        Some(named.filter(|_| self.current_page.is_none()).unwrap_or(current.saturating_add(1)))
    }
}

/// `…?page=3` → 3.
fn page_of(url: &str) -> Option<u64> {
    let query = url.split_once('?')?.1;
    let value = query.split('&').find_map(|pair| pair.strip_prefix("page="))?;
    value.parse().ok()
}
