//! Faults in words, as in `send_msg:status=502:times=3`, both ways. The grammar stands in the
//! README; an error names the word that is wrong and the words that would be right.

use std::fmt::{self, Write};

use bytes::Bytes;

use super::{Canned, EchoChange, Fault, FaultKind, ListShape, Matcher};
use crate::door::in_process::Close;
use crate::endpoints::Endpoint;

/// Why words are not a fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("fault {spec:?}: {problem}")]
pub struct FaultSpecError {
    spec: String,
    problem: String,
}

const KINDS: &str = "refuse, blackhole, close-unread, close, apply-then-close, silent, \
     apply-then-silent, late, status, header, retry-after, location, body, code, before, after, \
     type, gzip, gzip-bomb, truncate, truncate-chunked, cut, cut-chunked, stall, slow, interim, \
     not-http, no-id, wrong-room, echo, repeat-id, repeat-uuid, success, list, pages, \
     pages-beside, next-page, limit, newest, other-widget, applied, unapplied";
const MATCHERS: &str = "room, next, always, times, nth, every, p";

pub(super) fn parse(spec: &str) -> Result<Fault, FaultSpecError> {
    parse_words(spec).map_err(|problem| FaultSpecError { spec: spec.to_owned(), problem })
}

fn parse_words(spec: &str) -> Result<Fault, String> {
    let words = split(spec);
    let Some((endpoint, words)) = words.split_first() else {
        return Err("is empty".to_owned());
    };
    let mut when = match endpoint.as_str() {
        "any" => Matcher::any(),
        name => Matcher::on(Endpoint::named(name).ok_or_else(|| {
            format!("{name:?} is no endpoint; it is one of send_msg, get_users, get_rooms, any")
        })?),
    };
    let mut what = Vec::new();
    for word in words {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word.as_str(), None),
        };
        let word = Word { name, value };
        match matcher(when.clone(), &word)? {
            Some(changed) => when = changed,
            None => what.extend(kinds(&word)?),
        }
    }
    if what.is_empty() {
        return Err(format!("does not say what goes wrong: {KINDS}"));
    }
    Ok(Fault { when, what })
}

/// Splits at colons, but for `\:` and the one in `://`.
fn split(spec: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut characters = spec.trim().chars().peekable();
    while let Some(character) = characters.next() {
        let escaped = character == '\\' && matches!(characters.peek(), Some(':' | '\\'));
        let ends_word = character == ':' && {
            let mut ahead = characters.clone();
            ahead.next() != Some('/') || ahead.next() != Some('/')
        };
        if ends_word {
            words.push(String::new());
        } else if let Some(word) = words.last_mut() {
            word.push(if escaped { characters.next().unwrap_or(character) } else { character });
        }
    }
    if words == [""] { Vec::new() } else { words }
}

/// A name, and what stands behind its `=`.
struct Word<'a> {
    name: &'a str,
    value: Option<&'a str>,
}

impl<'a> Word<'a> {
    fn required(&self, example: &str) -> Result<&'a str, String> {
        self.value.ok_or_else(|| format!("{:?} needs a value, as in {example}", self.name))
    }

    fn number<T: std::str::FromStr>(&self, example: &str) -> Result<T, String> {
        let value = self.required(example)?;
        value
            .parse()
            .map_err(|_| format!("{value:?} is no number {:?} can use, as in {example}", self.name))
    }

    fn bare(&self, kind: FaultKind) -> Result<Vec<FaultKind>, String> {
        match self.value {
            None => Ok(vec![kind]),
            Some(value) => Err(format!("{:?} takes no value, but has {value:?}", self.name)),
        }
    }

    fn close(&self) -> Result<Close, String> {
        match self.value {
            None | Some("fin") => Ok(Close::Fin),
            Some("rst") => Ok(Close::Rst),
            Some(other) => Err(format!("{other:?} is no way to close: fin or rst")),
        }
    }

    fn status(&self, range: std::ops::RangeInclusive<u16>, example: &str) -> Result<u16, String> {
        let status = self.number(example)?;
        if range.contains(&status) {
            return Ok(status);
        }
        let (low, high) = (range.start(), range.end());
        Err(format!("{status} is not from {low} to {high}, as in {example}"))
    }

    fn canned(&self, example: &str) -> Result<Canned, String> {
        let value = self.required(example)?;
        if !value.starts_with('@') {
            return Ok(Canned::Bytes(Bytes::from(value.to_owned())));
        }
        named(&Canned::NAMED, value).ok_or_else(|| unknown_name(value, &Canned::NAMED))
    }
}

fn named<T: Clone>(names: &[(&str, T)], name: &str) -> Option<T> {
    names.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
}

fn unknown_name<T>(value: &str, names: &[(&str, T)]) -> String {
    let known: Vec<_> = names.iter().map(|(name, _)| *name).collect();
    format!("{value:?} is not known; there are {}", known.join(", "))
}

/// The matcher after this word, or `None` if the word is about something else.
fn matcher(when: Matcher, word: &Word<'_>) -> Result<Option<Matcher>, String> {
    let counted = |example| match word.number::<u64>(example)? {
        0 => Err(format!("{:?} counts from 1, as in {example}", word.name)),
        count => Ok(count),
    };
    Ok(Some(match word.name {
        "room" => when.room(word.number("room=1536")?),
        "next" => when.times(1),
        "always" => when.always(),
        "times" => when.times(counted("times=3")?),
        "nth" => when.nth(counted("nth=2")?),
        "every" => when.every(counted("every=5")?),
        "p" => {
            let probability: f64 = word.number("p=0.5")?;
            if !(0.0..=1.0).contains(&probability) {
                return Err(format!("{probability} is not from 0 to 1, as in p=0.5"));
            }
            when.probability(probability)
        }
        _ => return Ok(None),
    }))
}

fn kinds(word: &Word<'_>) -> Result<Vec<FaultKind>, String> {
    let kind = match word.name {
        "refuse" => return word.bare(FaultKind::Refuse),
        "blackhole" => return word.bare(FaultKind::Blackhole),
        "close-unread" => FaultKind::CloseUnread(word.close()?),
        "close" => FaultKind::CloseUnanswered(word.close()?),
        "apply-then-close" => {
            return Ok(vec![FaultKind::CloseUnanswered(word.close()?), FaultKind::Applied]);
        }
        "silent" => return word.bare(FaultKind::Silent),
        "apply-then-silent" => {
            return word.bare(FaultKind::Silent).map(|mut kinds| {
                kinds.push(FaultKind::Applied);
                kinds
            });
        }
        "late" => FaultKind::Late(duration_micros(word.required("late=30s")?)?),
        "status" => FaultKind::Status(word.status(200..=599, "status=502")?),
        "header" => {
            let example = "header=Retry-After=7";
            let (name, value) = word
                .required(example)?
                .split_once('=')
                .ok_or_else(|| format!("a header has a name and a value, as in {example}"))?;
            header(name, value)?
        }
        "retry-after" => header("Retry-After", word.required("retry-after=7")?)?,
        "location" => header("Location", word.required("location=https://example.com/")?)?,
        "body" => FaultKind::Body(word.canned("body=@html")?),
        "code" => FaultKind::BodyCode(word.number("code=401")?),
        "before" => FaultKind::Before(word.canned("before=@warning")?),
        "after" => FaultKind::After(word.canned("after=@warning")?),
        "type" => FaultKind::ContentType(header_text(word.required("type=text/html")?)?),
        "gzip" => return word.bare(FaultKind::Gzip),
        "gzip-bomb" => FaultKind::GzipBomb(size_bytes(word.required("gzip-bomb=100MiB")?)?),
        "truncate" => FaultKind::Truncate(word.number("truncate=120")?),
        "truncate-chunked" => FaultKind::TruncateChunked(word.number("truncate-chunked=120")?),
        "cut" => FaultKind::Cut(word.number("cut=120")?),
        "cut-chunked" => FaultKind::CutChunked(word.number("cut-chunked=120")?),
        "stall" => FaultKind::Stall(word.number("stall=120")?),
        "slow" => FaultKind::Slow(bytes_per_second(word.required("slow=1B/s")?)?),
        "interim" => FaultKind::OnlyInterim(word.status(100..=199, "interim=102")?),
        "not-http" => {
            FaultKind::NotHttp(Bytes::from(word.required("not-http=garbage")?.to_owned()))
        }
        "no-id" => return word.bare(FaultKind::NoMessageId),
        "wrong-room" => FaultKind::WrongRoom(word.number("wrong-room=1")?),
        "echo" => FaultKind::Echo(match word.required("echo=escaped")? {
            "escaped" => EchoChange::Escaped,
            "trimmed" => EchoChange::Trimmed,
            other => EchoChange::Altered(other.to_owned()),
        }),
        "repeat-id" => return word.bare(FaultKind::RepeatId),
        "repeat-uuid" => return word.bare(FaultKind::RepeatUuid),
        "success" => FaultKind::SuccessAs(json_literal(word.required("success=1")?)?),
        "list" => {
            let value = word.required("list=empty")?;
            let shape = named(&ListShape::NAMED, value);
            FaultKind::List(shape.ok_or_else(|| unknown_name(value, &ListShape::NAMED))?)
        }
        "pages" | "pages-beside" => {
            FaultKind::Pages { size: word.number("pages=15")?, beside: word.name == "pages-beside" }
        }
        "next-page" => {
            FaultKind::NextPage(word.required("next-page=https://example.com/?page=2")?.to_owned())
        }
        "limit" | "newest" => {
            FaultKind::Limit { rows: word.number("limit=100")?, newest: word.name == "newest" }
        }
        "other-widget" => FaultKind::OtherWidget(word.number("other-widget=1")?),
        "applied" => return word.bare(FaultKind::Applied),
        "unapplied" => return word.bare(FaultKind::Unapplied),
        unknown => {
            return Err(format!("{unknown:?} is not known; kinds: {KINDS}; matching: {MATCHERS}"));
        }
    };
    Ok(vec![kind])
}

/// A header that cannot be sent must fail here and not when its request comes.
fn header(name: &str, value: &str) -> Result<FaultKind, String> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) {
        return Err(format!("{name:?} is no name of a header"));
    }
    Ok(FaultKind::Header(name.to_owned(), header_text(value)?))
}

fn header_text(value: &str) -> Result<String, String> {
    if value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Ok(value.to_owned());
    }
    Err(format!("{value:?} cannot stand in a header"))
}

fn json_literal(text: &str) -> Result<String, String> {
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(format!("{text:?} is no JSON, as in success=1 or success=\"true\"")),
    }
}

fn duration_micros(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 5] =
        [("us", 1), ("ms", 1_000), ("s", 1_000_000), ("m", 60_000_000), ("h", 3_600_000_000)];
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let unit = UNITS.iter().find(|(unit, _)| *unit == &text[digits..]);
    unit.and_then(|(_, micros)| text[..digits].parse::<u64>().ok()?.checked_mul(*micros))
        .ok_or_else(|| format!("{text:?} is no duration; it needs a unit, as in 500ms, 30s, 5m"))
}

/// The packed bytes are held in memory, so there is a largest bomb.
fn size_bytes(text: &str) -> Result<u64, String> {
    const LARGEST: u64 = 16 << 30;
    const UNITS: [(&str, u64); 4] =
        [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let unit = UNITS.iter().find(|(unit, _)| *unit == &text[digits..]);
    unit.and_then(|(_, bytes)| text[..digits].parse::<u64>().ok()?.checked_mul(*bytes))
        .filter(|bytes| *bytes <= LARGEST)
        .ok_or_else(|| format!("{text:?} is no size up to 16GiB with its unit, as in 100MiB"))
}

fn bytes_per_second(text: &str) -> Result<u64, String> {
    let bare = text.strip_suffix("B/s").unwrap_or(text);
    bare.parse()
        .ok()
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| format!("{text:?} is no speed in bytes per second, as in 1B/s"))
}

pub(super) fn write(f: &mut fmt::Formatter<'_>, fault: &Fault) -> fmt::Result {
    let when = &fault.when;
    f.write_str(when.endpoint.map_or("any", Endpoint::name))?;
    if let Some(room) = when.room {
        write!(f, ":room={room}")?;
    }
    for kind in &fault.what {
        f.write_char(':')?;
        write_kind(f, kind)?;
    }
    // `nth=3` and `every=3` skip two first; other mixtures cannot be given in words.
    if when.every > 1 {
        write!(f, ":every={}", when.every)?;
    } else if when.skip > 0 {
        write!(f, ":nth={}", when.skip + 1)?;
    }
    if let Some(probability) = when.probability {
        write!(f, ":p={probability}")?;
    }
    let unlimited_by_itself = when.every > 1 || when.probability.is_some();
    match when.times {
        None if !unlimited_by_itself => f.write_str(":always"),
        Some(times) if times > 1 || unlimited_by_itself => write!(f, ":times={times}"),
        _ => Ok(()),
    }
}

fn write_kind(f: &mut fmt::Formatter<'_>, kind: &FaultKind) -> fmt::Result {
    match kind {
        FaultKind::Refuse => f.write_str("refuse"),
        FaultKind::Blackhole => f.write_str("blackhole"),
        FaultKind::CloseUnread(how) => write!(f, "close-unread={}", close_word(*how)),
        FaultKind::CloseUnanswered(how) => write!(f, "close={}", close_word(*how)),
        FaultKind::Silent => f.write_str("silent"),
        FaultKind::Late(micros) if micros.is_multiple_of(1_000_000) => {
            write!(f, "late={}s", micros / 1_000_000)
        }
        FaultKind::Late(micros) => write!(f, "late={micros}us"),
        FaultKind::Status(status) => write!(f, "status={status}"),
        FaultKind::Header(name, value) => write!(f, "header={}={}", name, escaped(value)),
        FaultKind::Body(canned) => write!(f, "body={}", canned_word(canned)),
        FaultKind::BodyCode(code) => write!(f, "code={code}"),
        FaultKind::Before(canned) => write!(f, "before={}", canned_word(canned)),
        FaultKind::After(canned) => write!(f, "after={}", canned_word(canned)),
        FaultKind::ContentType(media_type) => write!(f, "type={}", escaped(media_type)),
        FaultKind::Gzip => f.write_str("gzip"),
        FaultKind::GzipBomb(bytes) => write!(f, "gzip-bomb={bytes}B"),
        FaultKind::Truncate(at) => write!(f, "truncate={at}"),
        FaultKind::TruncateChunked(at) => write!(f, "truncate-chunked={at}"),
        FaultKind::Cut(at) => write!(f, "cut={at}"),
        FaultKind::CutChunked(at) => write!(f, "cut-chunked={at}"),
        FaultKind::Stall(at) => write!(f, "stall={at}"),
        FaultKind::Slow(bytes) => write!(f, "slow={bytes}B/s"),
        FaultKind::OnlyInterim(status) => write!(f, "interim={status}"),
        FaultKind::NotHttp(bytes) => {
            write!(f, "not-http={}", escaped(&String::from_utf8_lossy(bytes)))
        }
        FaultKind::NoMessageId => f.write_str("no-id"),
        FaultKind::WrongRoom(room) => write!(f, "wrong-room={room}"),
        FaultKind::Echo(EchoChange::Escaped) => f.write_str("echo=escaped"),
        FaultKind::Echo(EchoChange::Trimmed) => f.write_str("echo=trimmed"),
        FaultKind::Echo(EchoChange::Altered(other)) => write!(f, "echo={}", escaped(other)),
        FaultKind::RepeatId => f.write_str("repeat-id"),
        FaultKind::RepeatUuid => f.write_str("repeat-uuid"),
        FaultKind::SuccessAs(literal) => write!(f, "success={}", escaped(literal)),
        FaultKind::List(shape) => {
            let name = ListShape::NAMED.iter().find(|(_, known)| known == shape);
            write!(f, "list={}", name.map_or("", |(name, _)| name))
        }
        FaultKind::Pages { size, beside: false } => write!(f, "pages={size}"),
        FaultKind::Pages { size, beside: true } => write!(f, "pages-beside={size}"),
        FaultKind::NextPage(url) => write!(f, "next-page={}", escaped(url)),
        FaultKind::Limit { rows, newest: false } => write!(f, "limit={rows}"),
        FaultKind::Limit { rows, newest: true } => write!(f, "newest={rows}"),
        FaultKind::OtherWidget(id) => write!(f, "other-widget={id}"),
        FaultKind::Applied => f.write_str("applied"),
        FaultKind::Unapplied => f.write_str("unapplied"),
    }
}

fn close_word(how: Close) -> &'static str {
    match how {
        Close::Fin => "fin",
        Close::Rst => "rst",
    }
}

fn canned_word(canned: &Canned) -> String {
    match canned {
        Canned::Bytes(bytes) => escaped(&String::from_utf8_lossy(bytes)),
        named => Canned::NAMED
            .iter()
            .find(|(_, known)| known == named)
            .map_or_else(String::new, |(name, _)| (*name).to_owned()),
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace(':', "\\:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_the_grammar_reads_back_as_it_was_written() {
        let specs = [
            "any:refuse",
            "get_rooms:blackhole:always",
            "any:close-unread=rst:nth=3",
            "send_msg:room=1536:close=fin:applied:times=2",
            "send_msg:silent:applied",
            "send_msg:late=30s",
            "send_msg:late=1500us:p=0.5",
            "get_rooms:status=502:times=3",
            "send_msg:status=429:header=Retry-After=7",
            "send_msg:status=301:header=Location=https\\://example.com\\:8080/a",
            "send_msg:body=@html",
            "send_msg:body={\"success\"\\:true}:every=2",
            "send_msg:code=403",
            "get_rooms:before=@bom:after=@warning:type=text/html",
            "get_rooms:truncate=120:close=rst",
            "get_rooms:truncate-chunked=120",
            "send_msg:cut=15:close=rst",
            "send_msg:room=1536:cut-chunked=320",
            "get_rooms:gzip:gzip:truncate=40",
            "get_rooms:gzip-bomb=1048576B",
            "get_rooms:stall=120",
            "get_rooms:slow=1B/s",
            "send_msg:interim=102",
            "send_msg:not-http=HTTP/1.1 20",
            "send_msg:no-id:wrong-room=1:echo=escaped:repeat-id:repeat-uuid:unapplied",
            "send_msg:echo=trimmed",
            "send_msg:echo=other",
            "send_msg:success=\"true\"",
            "get_rooms:list=bad-row:other-widget=1",
            "get_rooms:pages=15:next-page=https\\://example.com/?page=2:always",
            "get_users:pages-beside=2:limit=100",
            "get_rooms:newest=100",
        ];
        for spec in specs {
            assert_eq!(parse(spec).map(|fault| fault.to_string()), Ok(spec.to_owned()));
        }
    }

    #[test]
    fn short_forms_stand_for_the_long_ones() {
        let check = |short, long| assert_eq!(parse(short), parse(long), "{short}");
        check("send_msg:apply-then-close", "send_msg:close=fin:applied");
        check("send_msg:apply-then-close=rst", "send_msg:close=rst:applied");
        check("send_msg:apply-then-silent", "send_msg:silent:applied");
        check("any:status=503:retry-after=7", "any:status=503:header=Retry-After=7");
        check("any:status=302:location=http://a/", "any:status=302:header=Location=http://a/");
        check("any:refuse:next", "any:refuse");
        check("any:late=2m", "any:late=120s");
        check("any:slow=9", "any:slow=9B/s");
        check("any:gzip-bomb=10MiB", "any:gzip-bomb=10485760B");
    }

    #[test]
    fn a_bad_fault_is_refused_by_name() {
        let check = |spec: &str, expected: &str| {
            let error = parse(spec).unwrap_err().to_string();
            assert!(error.starts_with(&format!("fault {spec:?}: {expected}")), "{error}");
        };
        check("", "is empty");
        check("post:refuse", "\"post\" is no endpoint; it is one of send_msg, get_users");
        check("any", "does not say what goes wrong: refuse, blackhole");
        check("any:times=2", "does not say what goes wrong");
        check("any:statsu=502", "\"statsu\" is not known; kinds: refuse");
        check("any:status", "\"status\" needs a value, as in status=502");
        check("any:status=abc", "\"abc\" is no number \"status\" can use, as in status=502");
        check("any:status=42", "42 is not from 200 to 599, as in status=502");
        check("any:interim=200", "200 is not from 100 to 199");
        check("any:late=30", "\"30\" is no duration; it needs a unit");
        check("any:late=", "\"\" is no duration");
        check("any:slow=0B/s", "\"0B/s\" is no speed");
        check("any:gzip-bomb=17GiB", "\"17GiB\" is no size up to 16GiB");
        check("any:close=hard", "\"hard\" is no way to close: fin or rst");
        check("any:body=@page", "\"@page\" is not known; there are @empty, @html");
        check("any:list=odd", "\"odd\" is not known; there are empty, null");
        check("any:pages=many", "\"many\" is no number \"pages\" can use, as in pages=15");
        check("any:header=X", "a header has a name and a value");
        check("any:header=a b=c", "\"a b\" is no name of a header");
        check("any:type=a\nb", "\"a\\nb\" cannot stand in a header");
        check("any:success=tru", "\"tru\" is no JSON");
        check("any:refuse:p=1.5", "1.5 is not from 0 to 1");
        check("any:refuse:times=0", "\"times\" counts from 1");
        check("any:refuse=1", "\"refuse\" takes no value");
    }
}
