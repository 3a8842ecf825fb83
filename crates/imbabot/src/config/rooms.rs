//! `rooms = { … }`: which rooms, for schedules and bots alike. Every condition is checked at its
//! own place before the selector is built.

use imbabot_bot::RoomSelector;
use imbabot_core::RoomKind;
use serde_json::{Map, json};

use super::code::Code;
use super::keys::{Key, Shape};
use super::value::{Table, Value};
use super::walk::{Fault, Part, Walk};

pub(crate) static KEYS: &[Key] = &[
    Key::new("ids", Shape::List(&Shape::Count(1, u64::MAX)), "rooms by number").example("[1536]"),
    Key::new("name", Shape::Text, "a regular expression that is found in the room's name")
        .example("\"^Team\""),
    Key::new("kind", Shape::RoomKind, "the kind of room").example("\"conference\""),
    Key::new("public", Shape::Flag, "whether people may join by themselves").example("true"),
    Key::new("all", Shape::Flag, "true for every room; goes with no other condition")
        .example("true"),
];

const CONDITIONS: &str =
    "give at least one of ids, name, kind, public (joined by AND), or all = true";

/// The selector of a section; `None` if there is none or it cannot be read.
pub(crate) fn read(walk: &mut Walk<'_>, part: &Part<'_>) -> Option<RoomSelector> {
    let value = part.get("rooms")?;
    let inner = walk.inner(part, "rooms");
    inner.table?;
    let mut fields = Map::new();
    let ids = ids(walk, &inner);
    if let Some(ids) = ids {
        fields.insert("ids".into(), json!(ids));
    }
    if let Some(name) = walk.optional::<String>(&inner, "name") {
        fields.insert("name".into(), json!(name));
    }
    if let Some(kind) = walk.optional::<RoomKind>(&inner, "kind") {
        fields.insert("kind".into(), json!(kind));
    }
    if let Some(public) = walk.optional::<bool>(&inner, "public") {
        fields.insert("public".into(), json!(public));
    }
    let all = walk.optional::<bool>(&inner, "all");
    let given = |key: &str| inner.get(key);
    let conditions = ["ids", "name", "kind", "public"].iter().find_map(|key| given(key));
    match (conditions, all) {
        (Some(_), Some(true)) => {
            let place = given("all").map_or(&value.place, |all| &all.place);
            let message = format!("`{}.all` goes with no other condition", inner.path);
            let hint = "drop `all`, or the other conditions";
            walk.error(Fault::new(Code::BadSelector, place, message).hint(hint));
            return None;
        }
        (None, Some(true)) => return Some(RoomSelector::all()),
        // A misspelt condition was named already.
        (None, _) if inner.table.is_some_and(has_unknown) => return None,
        (None, _) if given("all").is_none() || all == Some(false) => {
            let message = format!("`{}` has no condition", inner.path);
            walk.error(Fault::new(Code::BadSelector, &value.place, message).hint(CONDITIONS));
            return None;
        }
        _ => {}
    }
    build(walk, &inner, value, fields)
}

fn has_unknown(table: &Table) -> bool {
    table.entries.iter().any(|entry| KEYS.iter().all(|key| key.name != entry.key))
}

fn ids(walk: &mut Walk<'_>, inner: &Part<'_>) -> Option<Vec<u64>> {
    let value = inner.get("ids")?;
    let ids = walk.list::<u64>(inner, "ids")?;
    if matches!(&value.data, super::value::Data::List(list) if list.is_empty()) {
        let message = format!("`{}.ids` is empty: no room would ever be chosen", inner.path);
        walk.error(Fault::new(Code::BadSelector, &value.place, message).hint(CONDITIONS));
    }
    (!ids.is_empty()).then(|| ids.into_iter().map(|(id, _)| id).collect())
}

fn build(
    walk: &mut Walk<'_>,
    inner: &Part<'_>,
    value: &Value,
    fields: Map<String, serde_json::Value>,
) -> Option<RoomSelector> {
    if fields.is_empty() {
        return None;
    }
    let fields = serde_json::Value::Object(fields);
    let key = fields.to_string();
    let built = walk
        .selectors
        .entry(key)
        .or_insert_with(|| serde_json::from_value(fields).map_err(|error| error.to_string()));
    match built.clone() {
        Ok(selector) => Some(selector),
        Err(why) => {
            // All but the pattern was checked above.
            let place = inner.get("name").map_or(&value.place, |name| &name.place);
            let message = format!("`{}.name`: {why}", inner.path);
            walk.error(Fault::new(Code::BadSelector, place, message));
            None
        }
    }
}
