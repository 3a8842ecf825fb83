//! Splits the body of a list reply into its elements while it arrives, in pieces of any size. It
//! keeps one element at most, decodes none, and in the end tells whether the reply was a whole and
//! successful list. Elements are handed on before that is known: they count only after
//! [`Splitter::finish`] returned `Ok`.
//!
//! Outside of elements the JSON is read strictly enough that nothing but a whole list passes; inside
//! only strings and brackets are followed, and what an element is worth is for its decoder to say.

mod envelope;
mod scan;

use envelope::Envelope;
use scan::Scan;

use crate::error::{Error, ErrorKind};

pub use envelope::ListEnd;

/// One element of a list as it stands in the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawElement<'a> {
    /// Its bytes, without blanks around; balanced, but not checked any further.
    pub bytes: &'a [u8],
    /// Where it begins, counted from the beginning of the body (of the first page's, if there are
    /// several).
    pub offset: u64,
}

/// What takes the elements of a list; any closure over [`RawElement`] does.
pub trait Elements {
    /// The next element.
    fn element(&mut self, element: RawElement<'_>);

    /// The length of the element that begins these bytes, if it is one that was handed on before in
    /// some list, byte by byte; 0 if it is not, or if nobody can tell. Such an element is whole and
    /// ends where it ended then, so it is not looked for, and not handed on again.
    fn known(&mut self, ahead: &[u8]) -> usize {
        let _ = ahead;
        0
    }
}

impl<F: FnMut(RawElement<'_>) + ?Sized> Elements for F {
    fn element(&mut self, element: RawElement<'_>) {
        self(element);
    }
}

/// Text around the JSON that is looked through: a PHP warning is short, and a page of HTML that
/// goes on longer is no reply.
const MAX_FOREIGN: u64 = 64 * 1024;
/// Beyond the largest element, so many bytes may go by without the end of one: blanks, long keys and
/// values that nobody wants. What unpacks to gigabytes of those is no list, and is not read on.
const MAX_FILLER: u64 = 1024 * 1024;
/// The longest key and the longest value of the envelope that are looked at.
const MAX_CAPTURE: usize = 64 * 1024;

/// A push parser for list replies.
#[derive(Debug)]
pub struct Splitter {
    max_element: usize,
    phase: Phase,
    stack: Vec<Frame>,
    /// The key before the value in progress, without quotes.
    key: Vec<u8>,
    /// What of the value in progress came in earlier pieces.
    partial: Vec<u8>,
    scan: Scan,
    role: Role,
    value_at: u64,
    /// Bytes of earlier pieces.
    seen: u64,
    foreign: u64,
    /// Bytes since the last element.
    filler: u64,
    salvaged: bool,
    /// Some element had a number for its key.
    is_map: bool,
    elements: u64,
    list: Shape,
    envelope: Envelope,
    failed: Option<Error>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Before the first brace.
    Before,
    /// After a brace that may open the reply.
    BeforeBrace,
    /// A key or the end of an object.
    KeyOrEnd,
    /// A key, after a comma.
    Key,
    InKey,
    InKeyEscape,
    Colon,
    /// A value or the end of an array.
    ValueOrEnd,
    Value,
    InValue,
    CommaOrEnd,
    /// After the last brace.
    After,
    /// After a brace behind the last brace.
    AfterBrace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frame {
    /// The outermost object.
    Envelope,
    /// The object that is `data`: a list with gaps, or a page that has its own `data`.
    Page,
    /// The object that is `data.data`.
    Map,
    /// The array of elements.
    List,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Element,
    Capture,
    Skip,
}

/// What was found under `data`.
#[derive(Debug, Clone, Copy, Default)]
struct Shape {
    /// Some `data` was a list.
    is_list: bool,
    /// Some `data` was none.
    is_other: bool,
    /// `data` came, on each of its two levels.
    outer: bool,
    inner: bool,
    /// Keys that are numbers, and keys that are neither that nor a paginator's.
    numbered: bool,
    named: bool,
}

impl Splitter {
    /// A splitter that refuses elements larger than this.
    #[must_use]
    pub fn new(max_element: usize) -> Self {
        Self {
            max_element,
            phase: Phase::Before,
            stack: Vec::with_capacity(3),
            key: Vec::new(),
            partial: Vec::new(),
            scan: Scan::default(),
            role: Role::Skip,
            value_at: 0,
            seen: 0,
            foreign: 0,
            filler: 0,
            salvaged: false,
            is_map: false,
            elements: 0,
            list: Shape::default(),
            envelope: Envelope::default(),
            failed: None,
        }
    }

    /// Takes the next piece of the body and hands the elements that it completes to `sink`.
    ///
    /// # Errors
    ///
    /// The body is no list reply, whatever follows; every later call fails alike.
    pub fn feed<S>(&mut self, chunk: &[u8], sink: &mut S) -> Result<(), Error>
    where
        S: Elements + ?Sized,
    {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let before = self.elements;
        let mut fed = self.run(chunk, sink);
        self.seen += chunk.len() as u64;
        self.filler = if self.elements == before { self.filler + chunk.len() as u64 } else { 0 };
        if fed.is_ok() && self.filler > MAX_FILLER + self.max_element as u64 {
            fed = Err(undecodable("too much between the elements of the list"));
        }
        if let Err(error) = &fed {
            self.failed = Some(error.clone());
            self.partial = Vec::new();
        }
        fed
    }

    /// Whether what came so far shows that the server accepted the question: it said success, and
    /// a list has begun.
    #[must_use]
    pub fn has_begun_well(&self) -> bool {
        self.envelope.is_success() && self.list.is_list
    }

    /// The verdict after the last piece.
    ///
    /// # Errors
    ///
    /// The reply refuses, is cut, or holds no list.
    pub fn finish(self) -> Result<ListEnd, Error> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        match self.phase {
            Phase::After | Phase::AfterBrace => {}
            Phase::Before => return Err(undecodable("no JSON object in it")),
            _ => {
                return Err(Error::new(ErrorKind::Truncated, format!("after {} bytes", self.seen)));
            }
        }
        self.envelope.refusal()?;
        let shape = self.list;
        let mixed = if shape.inner { shape.numbered } else { shape.numbered && shape.named };
        let foreign_map = shape.named && !shape.inner;
        if !shape.is_list || shape.is_other || mixed || foreign_map {
            return Err(Error::new(ErrorKind::NotAList, ""));
        }
        Ok(ListEnd {
            elements: self.elements,
            bytes: self.seen,
            salvaged: self.salvaged,
            code: self.envelope.code(),
            success_as_word: self.envelope.success_as_word(),
            is_map: self.is_map,
            next_page: self.envelope.next_page(),
            next_url: self.envelope.next_url().map(ToOwned::to_owned),
            page: self.envelope.current_page(),
            total: self.envelope.total(),
        })
    }

    fn run<S>(&mut self, chunk: &[u8], sink: &mut S) -> Result<(), Error>
    where
        S: Elements + ?Sized,
    {
        let mut at = 0;
        while at < chunk.len() {
            at = match self.phase {
                Phase::InValue => self.in_value(chunk, at, sink)?,
                Phase::InKey => self.in_key(chunk, at)?,
                _ => self.structure(chunk, at, sink)?,
            };
        }
        Ok(())
    }

    /// One byte of structure, or the beginning of a value.
    fn structure<S>(&mut self, chunk: &[u8], at: usize, sink: &mut S) -> Result<usize, Error>
    where
        S: Elements + ?Sized,
    {
        let byte = chunk[at];
        match (self.phase, byte) {
            (Phase::Before | Phase::BeforeBrace | Phase::After | Phase::AfterBrace, _) => {
                self.around(byte)?;
            }
            (Phase::InKeyEscape, _) => {
                self.push_key(&[byte]);
                self.phase = Phase::InKey;
            }
            (_, b' ' | b'\n' | b'\r' | b'\t') => {}
            (Phase::KeyOrEnd | Phase::Key, b'"') => self.begin_key(),
            (Phase::KeyOrEnd, b'}') | (Phase::ValueOrEnd, b']') => self.close(),
            (Phase::Colon, b':') => self.phase = Phase::Value,
            (Phase::Value | Phase::ValueOrEnd, _) => return self.begin_value(chunk, at, sink),
            (Phase::CommaOrEnd, b',') => {
                let in_list = self.stack.last() == Some(&Frame::List);
                self.phase = if in_list { Phase::Value } else { Phase::Key };
            }
            (Phase::CommaOrEnd, b'}' | b']') => {
                if (byte == b']') != (self.stack.last() == Some(&Frame::List)) {
                    return Err(self.unexpected(byte, at));
                }
                self.close();
            }
            _ => return Err(self.unexpected(byte, at)),
        }
        Ok(at + 1)
    }

    /// Text before the reply's object and behind it.
    fn around(&mut self, byte: u8) -> Result<(), Error> {
        let blank = byte.is_ascii_whitespace();
        let open = matches!(self.phase, Phase::BeforeBrace | Phase::AfterBrace);
        if open && !blank {
            match (self.phase, byte) {
                (Phase::BeforeBrace, b'"' | b'}') => {
                    self.stack.push(Frame::Envelope);
                    self.foreign = 0;
                    if byte == b'"' {
                        self.begin_key();
                    } else {
                        self.close();
                    }
                    return Ok(());
                }
                (Phase::AfterBrace, b'"' | b'}') => {
                    return Err(undecodable("more than one JSON object in it"));
                }
                // That brace belonged to a warning.
                _ => self.salvaged = true,
            }
        }
        let before = matches!(self.phase, Phase::Before | Phase::BeforeBrace);
        self.phase = match (before, byte) {
            (true, b'{') => Phase::BeforeBrace,
            (false, b'{') => Phase::AfterBrace,
            _ if blank => self.phase,
            (true, _) => Phase::Before,
            (false, _) => Phase::After,
        };
        if !blank {
            self.salvaged |= byte != b'{' || !before;
            self.foreign += 1;
            if self.foreign > MAX_FOREIGN {
                return Err(undecodable("too much text around the JSON"));
            }
        }
        Ok(())
    }

    fn begin_key(&mut self) {
        self.key.clear();
        self.phase = Phase::InKey;
    }

    fn push_key(&mut self, bytes: &[u8]) {
        let room = MAX_CAPTURE.saturating_sub(self.key.len());
        self.key.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn in_key(&mut self, chunk: &[u8], at: usize) -> Result<usize, Error> {
        let rest = &chunk[at..];
        let Some(end) = memchr::memchr2(b'"', b'\\', rest) else {
            self.push_key(rest);
            return Ok(chunk.len());
        };
        self.push_key(&rest[..end]);
        if rest[end] == b'\\' {
            self.push_key(b"\\");
            self.phase = Phase::InKeyEscape;
        } else {
            self.unescape_key()?;
            self.phase = Phase::Colon;
        }
        Ok(at + end + 1)
    }

    fn unescape_key(&mut self) -> Result<(), Error> {
        if self.key.contains(&b'\\') {
            let quoted = [b"\"".as_slice(), &self.key, b"\""].concat();
            let key: String =
                serde_json::from_slice(&quoted).map_err(|_| undecodable("a broken key"))?;
            self.key = key.into_bytes();
        }
        Ok(())
    }

    /// What the value that begins here is for.
    fn begin_value<S>(&mut self, chunk: &[u8], at: usize, sink: &mut S) -> Result<usize, Error>
    where
        S: Elements + ?Sized,
    {
        let byte = chunk[at];
        if !matches!(byte, b'"' | b'{' | b'[' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n') {
            return Err(self.unexpected(byte, at));
        }
        let frame = self.stack.last().copied().unwrap_or(Frame::Envelope);
        if frame == Frame::List && byte == b'{' {
            let end = self.flat_run(chunk, at, sink)?;
            if end > at {
                return Ok(end);
            }
        }
        let is_data = self.key == b"data";
        let numbered = !self.key.is_empty() && self.key.iter().all(u8::is_ascii_digit);
        self.role = match frame {
            Frame::List => Role::Element,
            Frame::Envelope if is_data => return self.begin_data(byte, at),
            Frame::Page if is_data => return self.begin_data(byte, at),
            Frame::Page | Frame::Map if numbered => {
                self.list.numbered |= frame == Frame::Page;
                self.is_map = true;
                Role::Element
            }
            Frame::Envelope if Envelope::wants(&self.key) => Role::Capture,
            Frame::Page => {
                self.list.named = true;
                if Envelope::wants_of_page(&self.key) { Role::Capture } else { Role::Skip }
            }
            Frame::Map => {
                self.list.is_other = true;
                Role::Skip
            }
            Frame::Envelope => Role::Skip,
        };
        self.value_at = self.seen + at as u64;
        self.scan = Scan::begin(byte);
        self.partial.clear();
        self.phase = Phase::InValue;
        Ok(at)
    }

    /// Nearly every list is a run of flat objects, each followed by a comma and at most a blank or
    /// two. Hands on as many of them as lie whole in this piece, but for those that are known; where
    /// the run ends.
    fn flat_run<S>(&mut self, chunk: &[u8], begin: usize, sink: &mut S) -> Result<usize, Error>
    where
        S: Elements + ?Sized,
    {
        let mut end = begin;
        let mut at = begin;
        loop {
            let ahead = &chunk[at..];
            self.value_at = self.seen + at as u64;
            let known = sink.known(ahead).min(ahead.len());
            if known > 0 {
                self.count(known)?;
                end = at + known;
            } else if let Some(length) = scan::flat_object(ahead) {
                end = at + length;
                self.emit(&chunk[at..end], sink)?;
            } else {
                break;
            }
            self.phase = Phase::CommaOrEnd;
            match chunk.get(end..) {
                Some([b',', b'{', ..]) => at = end + 1,
                Some([b',', b' ' | b'\n', b'{', ..]) => at = end + 2,
                _ => break,
            }
        }
        Ok(end)
    }

    /// The value of a key `data`: a list opens a level, anything else is noted and left out.
    fn begin_data(&mut self, byte: u8, at: usize) -> Result<usize, Error> {
        let inner = self.stack.last() == Some(&Frame::Page);
        let before = if inner { &mut self.list.inner } else { &mut self.list.outer };
        if std::mem::replace(before, true) {
            return Err(undecodable("\"data\" comes twice"));
        }
        match byte {
            b'[' => {
                self.list.is_list = true;
                self.stack.push(Frame::List);
                self.phase = Phase::ValueOrEnd;
            }
            b'{' => {
                self.list.is_list = true;
                self.stack.push(if inner { Frame::Map } else { Frame::Page });
                self.phase = Phase::KeyOrEnd;
            }
            _ => {
                self.list.is_other = true;
                self.role = Role::Skip;
                self.scan = Scan::begin(byte);
                self.phase = Phase::InValue;
                return Ok(at);
            }
        }
        Ok(at + 1)
    }

    fn in_value<S>(&mut self, chunk: &[u8], at: usize, sink: &mut S) -> Result<usize, Error>
    where
        S: Elements + ?Sized,
    {
        let rest = &chunk[at..];
        let end = self.scan.run(rest);
        let part = &rest[..end.unwrap_or(rest.len())];
        match self.role {
            Role::Skip => {}
            Role::Capture => {
                let room = (MAX_CAPTURE + 1).saturating_sub(self.partial.len());
                self.partial.extend_from_slice(&part[..part.len().min(room)]);
            }
            Role::Element => {
                if end.is_some() && self.partial.is_empty() {
                    self.emit(part, sink)?;
                } else if self.partial.len() + part.len() > self.max_element {
                    return Err(self.too_large());
                } else {
                    self.partial.extend_from_slice(part);
                    if end.is_some() {
                        let whole = std::mem::take(&mut self.partial);
                        self.emit(&whole, sink)?;
                        self.partial = whole;
                    }
                }
            }
        }
        let Some(end) = end else { return Ok(chunk.len()) };
        if self.role == Role::Capture && self.partial.len() <= MAX_CAPTURE {
            let value = String::from_utf8_lossy(&self.partial);
            self.envelope.take(&self.key, &value);
        }
        self.phase = Phase::CommaOrEnd;
        Ok(at + end)
    }

    fn emit<S>(&mut self, bytes: &[u8], sink: &mut S) -> Result<(), Error>
    where
        S: Elements + ?Sized,
    {
        self.count(bytes.len())?;
        sink.element(RawElement { bytes, offset: self.value_at });
        Ok(())
    }

    fn count(&mut self, length: usize) -> Result<(), Error> {
        if length > self.max_element {
            return Err(self.too_large());
        }
        self.elements += 1;
        Ok(())
    }

    fn close(&mut self) {
        self.stack.pop();
        self.phase = if self.stack.is_empty() { Phase::After } else { Phase::CommaOrEnd };
    }

    fn too_large(&self) -> Error {
        let message = format!("over {} bytes, at byte {}", self.max_element, self.value_at);
        Error::new(ErrorKind::ElementTooLarge, message)
    }

    fn unexpected(&self, byte: u8, at: usize) -> Error {
        let offset = self.seen + at as u64;
        undecodable(&format!("unexpected {:?} at byte {offset}", char::from(byte)))
    }
}

fn undecodable(message: &str) -> Error {
    Error::new(ErrorKind::Undecodable, message)
}

#[cfg(test)]
#[path = "split/tests.rs"]
mod tests;
