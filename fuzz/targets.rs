//! What is fuzzed, as plain functions: bytes in, a panic if something is wrong. Driven by
//! `crates/bot/tests/fuzz.rs` in every run of the tests, and by cargo-fuzz.
//!
//! The oracle is serde_json, which reads a whole document that is one; what only this program makes of
//! broken documents is held against itself.

use imbabot_bot::Schedule;
use imbabot_core::wire::split::{RawElement, Splitter};
use imbabot_core::{
    Class, ClassifyRules, Room, Seen, SendMsg, Timestamp, User, classify, decode_room, decode_user,
    id_in_broken_row,
};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// A target, and its name.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 4] =
    [("splitter", splitter), ("rows", rows), ("confirmation", confirmation), ("cron", cron)];

/// JSON as serde_json reads it, with all keys in their order.
#[derive(Debug, Clone, PartialEq)]
enum Json {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Json;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("JSON")
            }
            fn visit_unit<E>(self) -> Result<Json, E> {
                Ok(Json::Null)
            }
            fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
                Ok(Json::Bool(value))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
                Ok(Json::Unsigned(value))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
                Ok(Json::Signed(value))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
                Ok(Json::Float(value))
            }
            fn visit_str<E>(self, value: &str) -> Result<Json, E> {
                Ok(Json::Text(value.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Json::List(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Json::Object(fields))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

impl Json {
    fn read(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    fn fields(&self) -> &[(String, Json)] {
        match self {
            Self::Object(fields) => fields,
            _ => &[],
        }
    }

    /// The last of this name.
    fn get(&self, name: &str) -> Option<&Json> {
        self.fields().iter().rev().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// An id, as a number or in a text.
    fn number(&self) -> Option<u64> {
        match self {
            Self::Unsigned(number) => Some(*number),
            Self::Text(text) => {
                let text = text.trim();
                text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
            }
            _ => None,
        }
    }

    fn is_yes(&self) -> bool {
        match self {
            Self::Bool(yes) => *yes,
            Self::Unsigned(1) => true,
            Self::Text(text) => ["1", "true", "TRUE", "True"].contains(&text.trim()),
            _ => false,
        }
    }

    fn is_nothing(&self) -> bool {
        match self {
            Self::Null | Self::Bool(false) | Self::Signed(-1) => true,
            Self::Text(text) => ["", "NULL", "null", "-1"].contains(&text.trim()),
            _ => false,
        }
    }

    fn is_200(&self) -> bool {
        match self {
            Self::Unsigned(number) => *number == 200,
            Self::Text(text) => text.trim().parse() == Ok(200),
            _ => false,
        }
    }
}

type Split = (Vec<Vec<u8>>, Option<(u64, bool)>);

fn split<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Split {
    let mut splitter = Splitter::new(4096);
    let mut elements = Vec::new();
    for piece in pieces {
        let mut keep = |element: RawElement<'_>| elements.push(element.bytes.to_vec());
        if splitter.feed(piece, &mut keep).is_err() {
            return (elements, None);
        }
    }
    let end = splitter.finish().ok().map(|end| (end.elements, end.salvaged));
    (elements, end)
}

/// The elements that a list must have, if it is one; `None` if it is none. The document is one object.
fn list_of(reply: &Json) -> Option<Vec<&Json>> {
    let code = reply.get("code");
    let is_accepted = reply.get("success").is_some_and(Json::is_yes)
        && code.is_none_or(|code| code.is_nothing() || code.is_200());
    let mut lists = reply.fields().iter().filter(|(key, _)| key == "data");
    let (Some((_, data)), None) = (lists.next(), lists.next()) else { return None };
    if !is_accepted {
        return None;
    }
    let is_number = |key: &str| !key.is_empty() && key.bytes().all(|b| b.is_ascii_digit());
    let values = |json: &'_ Json| -> bool { json.fields().iter().all(|(key, _)| is_number(key)) };
    match data {
        Json::List(items) => Some(items.iter().collect()),
        Json::Object(fields) => {
            let mut inner = fields.iter().filter(|(key, _)| key == "data");
            match (inner.next(), inner.next()) {
                (None, _) if values(data) => Some(fields.iter().map(|(_, value)| value).collect()),
                (Some((_, page)), None) if !fields.iter().any(|(key, _)| is_number(key)) => {
                    match page {
                        Json::List(items) => Some(items.iter().collect()),
                        Json::Object(map) if values(page) => {
                            Some(map.iter().map(|(_, value)| value).collect())
                        }
                        _ => None,
                    }
                }
                _ => None,
            }
        }
        _ => None,
    }
}

/// The splitter: the same in pieces as in one; a list exactly where serde_json sees one, with the same
/// elements; and never one that is cut.
pub fn splitter(body: &[u8]) {
    let whole = split(std::iter::once(body));
    // Where it is cut follows from its bytes, so that a finding is one again.
    let seed = body.iter().fold(7_usize, |sum, byte| sum.wrapping_mul(31) + usize::from(*byte));
    let size = 1 + seed % 13;
    let pieces = split(body.chunks(size));
    assert_eq!(whole, pieces, "in pieces of {size}");
    if let Some((count, _)) = whole.1 {
        assert_eq!(whole.0.len() as u64, count);
    }
    let Some(reply) = Json::read(body) else { return };
    let Json::Object(_) = reply else {
        assert_eq!(whole.1, None, "no object is no list");
        return;
    };
    match list_of(&reply) {
        Some(items) => {
            assert_eq!(whole.1, Some((items.len() as u64, false)), "a list");
            for (bytes, item) in whole.0.iter().zip(items) {
                assert_eq!(Json::read(bytes).as_ref(), Some(item));
            }
        }
        None => assert_eq!(whole.1, None, "no list"),
    }
    let end = body.trim_ascii_end().len();
    let cut = split(std::iter::once(&body[..seed % end]));
    assert_eq!(cut.1, None, "cut after {} bytes", seed % end);
}

/// The decoders of rows: what is read is JSON, has the id that stands there, and comes back from the store
/// as it went in.
pub fn rows(row: &[u8]) {
    let shown = id_in_broken_row(row);
    let reply = Json::read(row);
    let id = reply.as_ref().and_then(|row| row.get("id")).and_then(Json::number);
    let has_escapes = row.contains(&b'\\');
    let check = |read: u64| {
        // A number that rounds is none for serde_json's usual types; ids are exact.
        if reply.is_some() {
            assert_eq!(Some(read), id);
        }
        assert!(has_escapes || shown.is_none_or(|shown| shown == read), "{shown:?}, {read}");
    };
    if let Ok(room) = decode_room(row) {
        check(room.id.0);
        let kept = serde_json::to_string(&room).expect("a room is JSON");
        assert_eq!(serde_json::from_str::<Room>(&kept).ok(), Some(room), "{kept}");
    }
    if let Ok(user) = decode_user(row) {
        check(user.id.0);
        let kept = serde_json::to_string(&user).expect("a user is JSON");
        assert_eq!(serde_json::from_str::<User>(&kept).ok(), Some(user), "{kept}");
    }
}

/// What an answer to a message means: delivered only if one object says success and names a message in
/// the room, and then always.
pub fn confirmation(body: &[u8]) {
    let request = SendMsg::new(1.into(), 1536.into(), "hi");
    let seen = Seen::Answer { status: 200, headers: &[], body: Ok(body) };
    let outcome = classify(&request, seen, &ClassifyRules::default());
    assert!(outcome.detail.chars().count() <= 1_300, "{}", outcome.detail);
    let is_delivered = outcome.class == Class::Delivered;
    assert_eq!(is_delivered, outcome.receipt.is_some());
    let Some(reply) = Json::read(body).filter(|reply| matches!(reply, Json::Object(_))) else {
        return;
    };
    let message = reply.get("message");
    let of = |name| message.and_then(|message| message.get(name)).and_then(Json::number);
    let names_ours = of("id").is_some_and(|id| id > 0) && of("room_id") == Some(1536);
    let says_yes = reply.get("success").is_some_and(Json::is_yes);
    if is_delivered {
        assert!(says_yes && names_ours);
    }
    if says_yes && names_ours && reply.get("code").is_none() {
        assert!(is_delivered, "{outcome:?}");
    }
}

/// Cron expressions: read or refused, and what is read can be asked.
pub fn cron(text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    let Ok(schedule) = Schedule::cron("fuzzed", &text) else { return };
    let mut after = Timestamp::from_seconds(1_772_445_600);
    for _ in 0..3 {
        let Some(next) = schedule.next_after(after) else { break };
        assert!(next > after);
        after = next;
    }
}
