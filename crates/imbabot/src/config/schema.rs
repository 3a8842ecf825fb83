//! The JSON Schema of the file, for editors, built from the table of keys. It describes; the check
//! of a file never reads it.

use serde_json::{Map, Value, json};

use super::keys::{Key, SECTIONS, Section, Shape, TOP};
use super::rules;

/// JSON Schema, draft 2020-12.
#[must_use]
pub fn schema() -> Value {
    let mut properties = properties(TOP);
    for section in SECTIONS {
        properties.insert(section.name.into(), of_section(section));
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "imbabot.toml",
        "description": "The configuration of imbabot.",
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    })
}

fn of_section(section: &Section) -> Value {
    let mut table = of_keys(section.keys);
    if section.name == "schedule"
        && let Some(object) = table.as_object_mut()
    {
        let one_of = |keys: &[&str]| -> Value {
            json!({ "oneOf": keys.iter().map(|key| json!({ "required": [key] })).collect::<Value>() })
        };
        let both = json!([one_of(&["cron", "every", "at"]), one_of(&["text", "template_file"])]);
        object.insert("allOf".into(), both);
    }
    if section.name == "bot"
        && let Some(object) = table.as_object_mut()
    {
        object.insert("if".into(), json!({ "properties": { "kind": { "const": rules::KIND } } }));
        object.insert("then".into(), json!({ "properties": { "settings": of_rules() } }));
    }
    let mut whole = match section.named_by {
        Some(_) => json!({ "type": "array", "items": table }),
        None => table,
    };
    if let Some(object) = whole.as_object_mut() {
        object.insert("description".into(), section.doc.into());
    }
    whole
}

/// The settings of a bot without code: one rule, or a list of them.
fn of_rules() -> Value {
    let rule = of_keys(rules::KEYS);
    let list = json!({ "type": "array", "minItems": 1, "items": rule });
    let several = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": { "rules": list },
        "required": ["rules"],
    });
    json!({ "anyOf": [rule, several] })
}

fn of_keys(keys: &[Key]) -> Value {
    let required: Vec<&str> = keys.iter().filter(|key| key.required).map(|key| key.name).collect();
    let mut table = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": properties(keys),
    });
    if let (false, Some(object)) = (required.is_empty(), table.as_object_mut()) {
        object.insert("required".into(), json!(required));
    }
    table
}

fn properties(keys: &[Key]) -> Map<String, Value> {
    keys.iter().map(|key| (key.name.to_owned(), of_key(key))).collect()
}

fn of_key(key: &Key) -> Value {
    let mut value = of_shape(&key.shape);
    if let Some(object) = value.as_object_mut() {
        object.insert("description".into(), format!("{} ({})", key.doc, key.shape.unit()).into());
        let default = key.default.map(|text| default(&key.shape, text));
        object.extend(default.map(|default| ("default".to_owned(), default)));
    }
    value
}

fn default(shape: &Shape, text: &str) -> Value {
    match shape {
        Shape::Flag | Shape::Count(..) | Shape::List(_) => {
            serde_json::from_str(text).unwrap_or_else(|_| text.into())
        }
        _ => text.into(),
    }
}

fn of_shape(shape: &Shape) -> Value {
    let pattern = |pattern: &str| json!({ "type": "string", "pattern": pattern });
    match shape {
        Shape::Text | Shape::Path => json!({ "type": "string", "minLength": 1 }),
        Shape::Name => pattern("^[a-z0-9][a-z0-9_-]{0,63}$"),
        Shape::Flag => json!({ "type": "boolean" }),
        Shape::Count(min, u64::MAX) => json!({ "type": "integer", "minimum": min }),
        Shape::Count(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Shape::Duration(..) => pattern("^([0-9]+(ms|s|m|h|d))+$"),
        Shape::Size(..) => pattern("^[0-9]+ ?(B|KiB|MiB|GiB|[kK]B|MB|GB)$"),
        Shape::Rate => pattern("^[0-9]+ ?/ ?([0-9]+)?(ms|s|m|h|d)([0-9]+(ms|s|m|h|d))*$"),
        Shape::Choice(words) => json!({ "enum": words }),
        Shape::Words(words) => json!({
            "anyOf": [{ "enum": words }, { "type": "array", "minItems": 1, "items": { "enum": words } }],
        }),
        Shape::Url => pattern("^https?://[^@?#]+$"),
        Shape::Listen => pattern("^(off|.+:[0-9]+)$"),
        Shape::User => json!({ "type": ["integer", "string"], "minimum": 0, "minLength": 1 }),
        Shape::RoomKind => json!({
            "anyOf": [{ "enum": ["dialogue", "conference", "support"] }, { "type": "integer" }],
        }),
        Shape::Date => pattern("^[0-9]{4}-[0-9]{2}-[0-9]{2}$"),
        Shape::List(of) => json!({ "type": "array", "items": of_shape(of) }),
        Shape::Table(keys) => of_keys(keys),
        Shape::Rooms(keys) => {
            let mut table = of_keys(keys);
            if let Some(object) = table.as_object_mut() {
                object.insert("minProperties".into(), json!(1));
            }
            table
        }
        Shape::Free => json!({ "type": "object" }),
    }
}
