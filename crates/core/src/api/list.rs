//! Asking for a list: page after page, each split while it arrives. All or nothing: a list that is
//! cut, refused or no list is an error, never a shorter list.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::Api;
use super::pages::{Page, Pages};
use crate::error::{Error, ErrorKind};
use crate::outcome::{retry_after, server_time};
use crate::text::escape_foreign;
use crate::time::Timestamp;
use crate::transport::{Request, Response, TransportErrorKind};
use crate::wire::DecodeError;
use crate::wire::split::{Elements, ListEnd, RawElement, Splitter};

/// How much of an error page is read for the words in it.
const MAX_ERROR_PAGE: usize = 16 * 1024;

/// What a list was, beside its elements.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListSummary {
    /// How many elements were handed on.
    pub elements: u64,
    /// How many bytes were read, decompressed.
    pub bytes: u64,
    /// The JSON stood between other text (a PHP warning, a byte order mark).
    pub salvaged: bool,
    /// `success` was a word and no truth value, as the vendor's own samples have it.
    pub success_as_word: bool,
    /// The list was an object with numbers for keys, as PHP writes an array with gaps.
    pub is_map: bool,
    /// The body's `code`.
    pub code: Option<i64>,
    /// The server's clock, from the `Date` header of the last page.
    pub server_time: Option<Timestamp>,
    /// In how many pages the server answered; 1 for a plain list.
    pub pages: u32,
    /// How many elements the server said there are, where it said so.
    pub total: Option<u64>,
}

/// A list with everything that was wrong about it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct List<T> {
    /// The rows that were asked for and are not deleted, in ascending order of their numbers.
    pub items: Vec<T>,
    /// Rows that could not be understood.
    pub quarantined: Vec<Quarantined>,
    /// How many rows had the number of an earlier one, which they replaced.
    pub duplicates: u64,
    /// How many rows were left out because the server sent what was not asked for.
    pub filtered: u64,
    /// How many rows were left out because they are marked as deleted.
    pub deleted: u64,
    /// What the list was.
    pub summary: ListSummary,
}

/// A row that could not be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Quarantined {
    /// Where it stands in the body.
    pub offset: u64,
    /// Why.
    pub reason: String,
}

/// Rows on their way into a [`List`]: of each number the last one, so that a list takes memory for its
/// rooms and not for its rows, and not more of it than a list of that many bytes should.
pub(super) struct Rows<K, T> {
    id: fn(&T) -> K,
    /// With how much each weighs.
    last: BTreeMap<K, (T, u64)>,
    read: u64,
    quarantined: Vec<Quarantined>,
    /// What all of that weighs, and how much it may.
    weight: u64,
    most: u64,
}

impl<K: Ord, T> Rows<K, T> {
    /// Rows of a list that may have so many bytes. Decoded, a row takes memory of its own beside that
    /// of its texts: where it stands in as many bytes or more, twice the bytes are enough for both.
    pub(super) fn new(max_list: u64, id: fn(&T) -> K) -> Self {
        let most = max_list.saturating_mul(2);
        Self { id, last: BTreeMap::new(), read: 0, quarantined: Vec::new(), weight: 0, most }
    }

    pub(super) fn push(
        &mut self,
        element: RawElement<'_>,
        decode: fn(&[u8]) -> Result<T, DecodeError>,
    ) -> ControlFlow<()> {
        match decode(element.bytes) {
            Ok(row) => {
                self.read += 1;
                let weight = (size_of::<T>() + element.bytes.len()) as u64;
                self.weight += weight;
                if let Some((_, before)) = self.last.insert((self.id)(&row), (row, weight)) {
                    self.weight -= before;
                }
            }
            Err(why) => {
                let reason = why.to_string();
                self.weight += (size_of::<Quarantined>() + reason.len()) as u64;
                self.quarantined.push(Quarantined { offset: element.offset, reason });
            }
        }
        if is_senseless(self.quarantined.len() as u64, self.read)
            || repeats_itself(self.read, self.last.len() as u64)
            || self.is_full()
        {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn is_full(&self) -> bool {
        self.weight > self.most
    }

    /// The list, if it came whole.
    ///
    /// # Errors
    ///
    /// Why it did not.
    pub(super) fn finish(
        self,
        summary: Result<ListSummary, Error>,
        is_deleted: impl Fn(&T) -> bool,
        asked_for: impl Fn(&T) -> bool,
    ) -> Result<List<T>, Error> {
        let summary = match summary {
            Ok(summary) => summary,
            Err(_) if self.is_full() => {
                let message = format!("over {} bytes, once its rows are decoded", self.most);
                return Err(Error::new(ErrorKind::TooLarge, message));
            }
            Err(error) => return Err(error),
        };
        let duplicates = self.read - self.last.len() as u64;
        let (mut deleted, mut filtered) = (0, 0);
        let items = self.last.into_values().map(|(row, _)| row).filter(|row| {
            let (gone, wanted) = (is_deleted(row), asked_for(row));
            deleted += u64::from(gone);
            filtered += u64::from(!gone && !wanted);
            !gone && wanted
        });
        let items = items.collect();
        let quarantined = self.quarantined;
        Ok(List { items, quarantined, duplicates, filtered, deleted, summary })
    }
}

/// Whether so many rows that cannot be read, beside so many that can, are no list with bad rows in it:
/// more than ten thousand, and more than the others.
#[must_use]
pub fn is_senseless(unreadable: u64, readable: u64) -> bool {
    unreadable > 10_000 && unreadable > readable
}

/// Whether so many rows that name so few numbers are no list: every row twice is a mistake of the
/// server's; every row more than four times, over tens of thousands of them, is one that never ends.
#[must_use]
pub fn repeats_itself(rows: u64, numbers: u64) -> bool {
    rows >= 32 * 1024 && numbers < rows / 4
}

/// What takes the elements of a list; any closure of this shape does.
pub trait TakeElements: Send {
    /// The next element. `Break` gives the list up, as one that makes no sense.
    fn element(&mut self, element: RawElement<'_>) -> ControlFlow<()>;

    /// As [`Elements::known`]: the length of an element that need not be handed on again, or 0.
    fn known(&mut self, ahead: &[u8]) -> usize {
        let _ = ahead;
        0
    }
}

impl<F: FnMut(RawElement<'_>) -> ControlFlow<()> + Send> TakeElements for F {
    fn element(&mut self, element: RawElement<'_>) -> ControlFlow<()> {
        self(element)
    }
}

/// What takes the elements of a list, whatever it is.
pub type Sink<'a> = dyn TakeElements + 'a;

/// The elements of one page, on their way to who takes those of all.
struct OfPage<'a, 'b> {
    sink: &'a mut Sink<'b>,
    /// Bytes of the pages before.
    before: u64,
    flow: ControlFlow<()>,
}

impl Elements for OfPage<'_, '_> {
    fn element(&mut self, element: RawElement<'_>) {
        if self.flow.is_continue() {
            let offset = self.before + element.offset;
            self.flow = self.sink.element(RawElement { offset, ..element });
        }
    }

    fn known(&mut self, ahead: &[u8]) -> usize {
        self.sink.known(ahead)
    }
}

impl Api {
    pub(super) async fn stream_list(
        &self,
        request: &(dyn Fn(Option<&Page>) -> Request + Send + Sync),
        sink: &mut Sink<'_>,
    ) -> Result<ListSummary, Error> {
        let mut whole = ListSummary {
            elements: 0,
            bytes: 0,
            salvaged: false,
            success_as_word: false,
            is_map: false,
            code: None,
            server_time: None,
            pages: 0,
            total: None,
        };
        let mut pages = Pages::new(self.transport.base_url(), self.options.max_pages);
        loop {
            let page = pages.page();
            let end = self.stream_page(request(page), &mut whole, sink).await;
            let more =
                end.and_then(|end| pages.follow(&end).map_err(|error| self.without_secrets(error)));
            match more {
                Ok(true) => {}
                Ok(false) => return Ok(whole),
                // What stands on earlier pages is no list without this one.
                Err(error) if whole.pages > 0 => return Err(error.on_page(pages.count())),
                Err(error) => return Err(error),
            }
        }
    }

    /// One page, and what stands beside its elements.
    async fn stream_page(
        &self,
        request: Request,
        whole: &mut ListSummary,
        sink: &mut Sink<'_>,
    ) -> Result<ListEnd, Error> {
        let mut response = self.open(request).await?;
        let mut splitter = Splitter::new(self.options.max_element);
        let before = whole.bytes;
        let read = async {
            while let Some(chunk) = response.body.chunk().await.map_err(Error::transport)? {
                whole.bytes += chunk.len() as u64;
                if whole.bytes > self.options.max_list {
                    let message = format!("over {} bytes", self.options.max_list);
                    return Err(Error::new(ErrorKind::TooLarge, message));
                }
                let flow = ControlFlow::Continue(());
                let mut page = OfPage { sink: &mut *sink, before, flow };
                splitter.feed(&chunk, &mut page)?;
                if page.flow.is_break() {
                    let message = format!("given up after {} bytes", whole.bytes);
                    return Err(Error::new(ErrorKind::Senseless, message));
                }
            }
            Ok(())
        };
        let end = match read.await {
            Ok(()) => splitter.finish(),
            Err(error) => Err(error),
        };
        let end = end.map_err(|error| {
            response.body.retire_connection();
            self.without_secrets(error.after(retry_after(&response.headers)))
        })?;
        whole.elements += end.elements;
        whole.salvaged |= end.salvaged;
        whole.success_as_word |= end.success_as_word;
        whole.is_map |= end.is_map;
        whole.code = end.code;
        whole.server_time = server_time(&response.headers);
        whole.pages += 1;
        whole.total = end.total.or(whole.total);
        Ok(end)
    }

    /// Reads only as far as it is clear that the server accepts the question.
    pub(super) async fn peek_list(&self, request: Request) -> Result<(), Error> {
        let mut response = self.open(request).await?;
        let mut splitter = Splitter::new(self.options.max_element);
        let mut bytes = 0;
        let end = loop {
            match response.body.chunk().await {
                Ok(Some(chunk)) => {
                    bytes += chunk.len() as u64;
                    if let Err(error) = splitter.feed(&chunk, &mut |_: RawElement<'_>| {}) {
                        break Err(error);
                    }
                    if splitter.has_begun_well() {
                        break Ok(());
                    }
                    if bytes > self.options.max_list {
                        break Err(Error::new(ErrorKind::TooLarge, ""));
                    }
                }
                Ok(None) => break splitter.finish().map(|_| ()),
                Err(error) => break Err(Error::transport(error)),
            }
        };
        response.body.retire_connection();
        end.map_err(|error| self.without_secrets(error.after(retry_after(&response.headers))))
    }

    /// Sends the request and looks at the status. Only a 2xx comes back.
    async fn open(&self, request: Request) -> Result<Response, Error> {
        let mut response = self.transport.send(request).await.map_err(Error::transport)?;
        let error = match response.status {
            200..=299 => return Ok(response),
            301 | 302 | 303 | 307 | 308 => {
                let location = response.header("location").unwrap_or_default();
                let origin = crate::base_url::origin_of(location).unwrap_or_default();
                Error::new(ErrorKind::Redirect { origin }, "")
            }
            status => {
                let words = error_words(&mut response).await;
                Error::new(ErrorKind::Status(status), words)
            }
        };
        let error = error.after(retry_after(&response.headers));
        Err(self.without_secrets(error))
    }

    fn without_secrets(&self, error: Error) -> Error {
        if self.credentials.secret.leaks_into(error.message()) {
            error.withhold("(withheld: the answer repeats the secret key)")
        } else {
            error
        }
    }
}

/// The beginning of an error page, as far as it comes.
async fn error_words(response: &mut Response) -> String {
    let mut page = Vec::new();
    while page.len() < MAX_ERROR_PAGE {
        match response.body.chunk().await {
            Ok(Some(chunk)) => page.extend_from_slice(&chunk[..chunk.len().min(MAX_ERROR_PAGE)]),
            Ok(None) => break,
            Err(error) if error.kind() == TransportErrorKind::Encoding => return String::new(),
            Err(_) => break,
        }
    }
    escape_foreign(crate::wire::words_of(&page).trim(), 200)
}
