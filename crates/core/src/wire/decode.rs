//! Rows of lists and the message of a confirmation, from JSON to models. One bad row is one error
//! and touches no other; a field nobody knows is kept.

use serde_json::{Map, Value};

use super::lenient::{Fields, Loose, exact_value};
use crate::id::{MessageId, RoomId, SiteUserId, UserId, WidgetId};
use crate::model::{Message, Room, RoomKind, User, UserStatus};
use crate::text::escape_foreign;
use crate::time::Timestamp;

/// The deepest nesting of a row or reply that is looked into.
pub(crate) const MAX_DEPTH: usize = 64;

/// Why a row is not understood. Names the field and quotes no text: a server may throw back what it was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DecodeError(String);

impl DecodeError {
    fn field(name: &str, expected: &str, found: &Loose<'_>) -> Self {
        let found = match found {
            Loose::Absent => "nothing".to_owned(),
            Loose::Null => "null".to_owned(),
            Loose::Bool(yes) => yes.to_string(),
            Loose::Number(digits) => escape_foreign(digits, 30),
            Loose::Text(text) => format!("a text of {} characters", text.chars().count()),
            Loose::BadText => "a broken string".to_owned(),
            Loose::List { .. } => "a list".to_owned(),
            Loose::Object(_) => "an object".to_owned(),
        };
        Self(format!("{name} should be {expected}, found {found}"))
    }
}

/// Reads one element of `get_rooms`.
///
/// # Errors
///
/// The element is no object, is nested too deeply, has no `id`, or has a field of a kind that
/// cannot be meant.
pub fn decode_room(bytes: &[u8]) -> Result<Room, DecodeError> {
    let mut fields = parse(bytes)?;
    let mut odd = Map::new();
    let mut room = Room::new(RoomId(id(&mut fields)?), text(&mut fields, "name")?);
    room.kind = RoomKind::from(int(&mut fields, "type")?.unwrap_or(-1));
    room.pipe = text(&mut fields, "pipe")?;
    room.admin_id = some_id(&mut fields, "admin_id")?.map(UserId);
    room.is_public = flag(&mut fields, "is_public")?;
    room.status = int(&mut fields, "status")?.unwrap_or(0);
    room.created_at = time(&mut fields, "created_at", &mut odd);
    room.updated_at = time(&mut fields, "updated_at", &mut odd);
    room.deleted_at = deleted(&mut fields, &mut odd);
    room.widget = some_id(&mut fields, "imba_id")?.map(WidgetId);
    room.extra = fields.rest();
    room.extra.extend(odd);
    Ok(room)
}

/// Reads one element of `get_users`. Its `password` is not kept.
///
/// # Errors
///
/// As [`decode_room`].
pub fn decode_user(bytes: &[u8]) -> Result<User, DecodeError> {
    let mut fields = parse(bytes)?;
    let mut odd = Map::new();
    let mut user = User::new(UserId(id(&mut fields)?));
    user.site_user_id = site_user_id(&mut fields)?;
    user.login = some_text(&mut fields, "login")?;
    user.status = match some_text(&mut fields, "status")? {
        Some(word) => UserStatus::from(word),
        None => UserStatus::User,
    };
    user.avatar_url = some_text(&mut fields, "avatar_url")?;
    user.created_at = time(&mut fields, "created_at", &mut odd);
    user.updated_at = time(&mut fields, "updated_at", &mut odd);
    user.deleted_at = deleted(&mut fields, &mut odd);
    user.widget = some_id(&mut fields, "imba_id")?.map(WidgetId);
    user.extra = fields.rest();
    user.extra.extend(odd);
    Ok(user)
}

/// Reads the `message` of a confirmation; `None` if it has no number. Other fields may be odd.
pub(crate) fn decode_message(raw: &str) -> Option<Message> {
    let mut fields = Fields::parse(raw.as_bytes()).ok()?;
    let number = fields.take("id").as_u64().filter(|number| *number > 0)?;
    let mut message = Message::new(MessageId(number));
    message.uuid = fields.take("uuid").as_text().map(|uuid| escape_foreign(uuid, 200));
    message.text = fields.take("message").as_text().map(ToOwned::to_owned);
    message.time = fields.take("time").as_time();
    message.user_id = fields.take("user_id").as_u64().map(UserId);
    message.room_id = fields.take("room_id").as_u64().map(RoomId);
    Some(message)
}

fn parse(bytes: &[u8]) -> Result<Fields<'_>, DecodeError> {
    if too_deep(bytes) {
        return Err(DecodeError(format!("nested more than {MAX_DEPTH} deep")));
    }
    Fields::parse(bytes).map_err(|why| {
        // serde_json's own words quote what stands there, and a server may throw a secret back.
        let (what, line, column) = (why.classify(), why.line(), why.column());
        let what = match what {
            serde_json::error::Category::Data => "something else",
            serde_json::error::Category::Eof => "it ends early",
            _ => "no JSON",
        };
        DecodeError(format!("not a JSON object: {what}, at line {line} column {column}"))
    })
}

/// Whether brackets outside of strings nest deeper than [`MAX_DEPTH`].
pub(crate) fn too_deep(bytes: &[u8]) -> bool {
    // '{' is 0x7b and '[' is 0x5b. Few brackets cannot nest deep, and counting them is cheap.
    if bytes.iter().filter(|&&b| b | 0x20 == b'{').count() <= MAX_DEPTH {
        return false;
    }
    let mut depth = 0_usize;
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|b| matches!(b, b'"' | b'{' | b'[' | b'}' | b']')) {
        let found = rest[at];
        rest = &rest[at + 1..];
        match found {
            b'"' => rest = after_string(rest),
            b'{' | b'[' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return true;
                }
            }
            _ => depth = depth.saturating_sub(1),
        }
    }
    false
}

/// What follows the string of which the opening quote was taken off.
fn after_string(mut rest: &[u8]) -> &[u8] {
    while let Some(at) = memchr::memchr2(b'"', b'\\', rest) {
        if rest[at] == b'"' {
            return &rest[at + 1..];
        }
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    &[]
}

fn id(fields: &mut Fields<'_>) -> Result<u64, DecodeError> {
    let found = fields.take("id");
    found.as_u64().ok_or_else(|| DecodeError::field("id", "a number", &found))
}

fn some_id(fields: &mut Fields<'_>, name: &str) -> Result<Option<u64>, DecodeError> {
    let found = fields.take(name);
    if found.is_nothing() {
        return Ok(None);
    }
    found.as_u64().map(Some).ok_or_else(|| DecodeError::field(name, "a number", &found))
}

fn int(fields: &mut Fields<'_>, name: &str) -> Result<Option<i64>, DecodeError> {
    let found = fields.take(name);
    // -1 is a number here: kinds and statuses are open lists.
    match found.as_i64() {
        Some(number) if !matches!(found, Loose::Bool(false)) => Ok(Some(number)),
        _ if found.is_nothing() => Ok(None),
        _ => Err(DecodeError::field(name, "a number", &found)),
    }
}

fn flag(fields: &mut Fields<'_>, name: &str) -> Result<bool, DecodeError> {
    let found = fields.take(name);
    match found.as_bool() {
        Some(yes) => Ok(yes),
        None if found.is_nothing() => Ok(false),
        None => Err(DecodeError::field(name, "yes or no", &found)),
    }
}

/// A text that is shown; the word NULL is a name like any other here.
fn text(fields: &mut Fields<'_>, name: &str) -> Result<String, DecodeError> {
    match fields.take(name) {
        Loose::Absent | Loose::Null | Loose::Bool(false) => Ok(String::new()),
        Loose::Text(text) => Ok(text.into_owned()),
        Loose::Number(digits) => Ok(digits.to_owned()),
        found => Err(DecodeError::field(name, "a text", &found)),
    }
}

fn some_text(fields: &mut Fields<'_>, name: &str) -> Result<Option<String>, DecodeError> {
    let found = fields.take(name);
    if found.is_nothing() {
        return Ok(None);
    }
    match found.as_text() {
        Some(text) => Ok(Some(text.to_owned())),
        None => Err(DecodeError::field(name, "a text", &found)),
    }
}

fn site_user_id(fields: &mut Fields<'_>) -> Result<Option<SiteUserId>, DecodeError> {
    const NAME: &str = "remote_user_id";
    match some_text(fields, NAME)? {
        None => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| {
            DecodeError::field(NAME, "a short id", &Loose::Text(text.as_str().into()))
        }),
    }
}

/// A date that is not understood is none, and kept as it came.
fn time(fields: &mut Fields<'_>, name: &str, odd: &mut Map<String, Value>) -> Option<Timestamp> {
    let found = fields.take(name);
    if found.is_nothing() || found.is_zero_date() {
        return None;
    }
    let time = found.as_time();
    if time.is_none() {
        odd.insert(name.to_owned(), loose_value(&found));
    }
    time
}

/// Anything but nothing means deleted, even if it is no date.
fn deleted(fields: &mut Fields<'_>, odd: &mut Map<String, Value>) -> Option<Timestamp> {
    const NAME: &str = "deleted_at";
    let found = fields.take(NAME);
    if found.is_nothing()
        || found.is_zero_date()
        || matches!(found, Loose::List { empty: true, .. })
    {
        return None;
    }
    Some(found.as_time().unwrap_or_else(|| {
        odd.insert(NAME.to_owned(), loose_value(&found));
        Timestamp::EPOCH
    }))
}

fn loose_value(found: &Loose<'_>) -> Value {
    match found {
        Loose::Absent | Loose::Null => Value::Null,
        Loose::Bool(yes) => Value::Bool(*yes),
        Loose::Number(digits) => exact_value(digits),
        Loose::Text(text) => Value::String(text.clone().into_owned()),
        Loose::BadText => Value::String(String::new()),
        Loose::List { raw, .. } | Loose::Object(raw) => exact_value(raw),
    }
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
