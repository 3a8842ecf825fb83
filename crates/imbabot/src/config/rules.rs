//! The settings of a bot without code (`kind = "rules"`): every mistake of every rule at its own
//! place. What the rules do is the business of [`crate::rules`].

use imbabot_core::RoomId;

use super::code::Code;
use super::keys::{self, Key, LONG, Shape};
use super::read::Misread;
use super::rooms;
use super::text::{self, For};
use super::value::{Data, Table, Value, quoted};
use super::walk::{Fault, Part, Walk};

pub(crate) use crate::rules::KIND;

/// The changes of rooms, in the words of `event.change`.
pub(crate) const CHANGES: &[&str] = &[
    "opened",
    "renamed",
    "kind_changed",
    "status_changed",
    "visibility_changed",
    "admin_changed",
    "touched",
    "gone",
    "returned",
];

pub(crate) static KEYS: &[Key] = &[
    Key::new("when", Shape::Words(CHANGES), "the change of a room about which something is said")
        .required()
        .example("\"opened\""),
    Key::new(
        "rooms",
        Shape::Rooms(rooms::KEYS),
        "of which rooms; default all that the bot is told of",
    )
    .example("{ kind = \"conference\" }"),
    Key::new("text", Shape::Text, "what is said, with room.* and event.*")
        .required()
        .example("\"Welcome to {{ room.name }}!\""),
    Key::new(
        "after",
        Shape::Duration(std::time::Duration::ZERO, LONG),
        "how long after the change; taken back if the room is gone by then",
    )
    .example("\"24h\""),
    Key::new(
        "to",
        Shape::Count(1, u64::MAX),
        "the number of another room, in which it is said; default the room itself",
    )
    .example("1536"),
];

/// Looks at the settings; false if something is wrong with them.
pub(crate) fn check(walk: &mut Walk<'_>, bot: &Part<'_>) -> bool {
    let before = walk.found();
    let path = format!("{}.settings", bot.path);
    let settings = bot.get("settings").and_then(Value::as_table);
    match settings.and_then(|table| Some((table, table.get("rules")?))) {
        Some((table, rules)) => several(walk, &path, table, rules),
        None => match settings {
            Some(table) if !table.entries.is_empty() => rule(walk, path, table),
            _ if bot.get("settings").is_none_or(|value| value.as_table().is_some()) => {
                let message = format!("`{path}` has no rule");
                let hint = "give { when = \"opened\", text = \"Welcome!\" }, or several with \
                            [[bot.settings.rules]]";
                walk.error(Fault::new(Code::Missing, &bot.place, message).hint(hint));
            }
            // No table at all: that was said.
            _ => {}
        },
    }
    walk.found() == before
}

fn several(walk: &mut Walk<'_>, path: &str, table: &Table, rules: &Value) {
    for entry in table.entries.iter().filter(|entry| entry.key != "rules") {
        if keys::key(KEYS, &entry.key).is_some() {
            let message = format!("`{path}` has both `rules` and `{}`", entry.key);
            let fault = Fault::new(Code::Conflict, &entry.key_place, message);
            let fault = fault.hint("a single rule needs no `rules`; of several, each has its own");
            walk.error(fault.also(&rules.place, "the rules"));
        } else {
            let message = format!("unknown key `{path}.{}`", entry.key);
            let hint = match keys::nearest(&entry.key, ["rules"]) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "known is rules".into(),
            };
            walk.error(Fault::new(Code::UnknownKey, &entry.key_place, message).hint(hint));
        }
    }
    let Data::List(list) = &rules.data else {
        let message = format!("`{path}.rules`: expected a list, found {}", rules.describe());
        let hint = "write [[bot.settings.rules]] with double brackets: there can be several";
        return walk.error(Fault::new(Code::WrongType, &rules.place, message).hint(hint));
    };
    if list.is_empty() {
        let message = format!("`{path}.rules` is empty: the bot would never say anything");
        let hint = "add a rule, or remove the bot";
        walk.error(Fault::new(Code::BadValue, &rules.place, message).hint(hint));
    }
    for (n, value) in list.iter().enumerate() {
        let path = format!("{path}.rules[{}]", n + 1);
        match value.as_table() {
            Some(table) => rule(walk, path, table),
            None => {
                let message = format!("`{path}`: expected a rule, found {}", value.describe());
                let hint = "a rule is { when = \"opened\", text = \"Welcome!\" }";
                walk.error(Fault::new(Code::WrongType, &value.place, message).hint(hint));
            }
        }
    }
}

fn rule(walk: &mut Walk<'_>, path: String, table: &Table) {
    let part = Part { path, keys: KEYS, table: Some(table), place: table.place.clone() };
    walk.check_keys(&part);
    let when = when(walk, &part);
    rooms::read(walk, &part);
    if let Some((text, place)) = walk.located::<String>(&part, "text") {
        text::compile(walk, &part, "text", &text, &place, For::Rule);
    }
    walk.optional::<std::time::Duration>(&part, "after");
    let to = walk.optional::<u64>(&part, "to").map(RoomId);
    if let (Some(place), None, None) = (when.gone, to, part.get("to")) {
        let called = part.called("when", place);
        let message = format!("{called}: a room that is gone cannot be spoken to");
        let hint = "say with `to` in which other room it is said: to = 1536";
        walk.error(Fault::new(Code::Conflict, place, message).hint(hint));
    }
}

/// What matters of `when` for the other keys.
struct When<'t> {
    /// Where it says `gone`.
    gone: Option<&'t super::source::Place>,
}

fn when<'t>(walk: &mut Walk<'_>, part: &Part<'t>) -> When<'t> {
    let shape = Shape::Words(CHANGES);
    let Some(value) = part.get("when") else {
        walk.missing(part, "when", Some("when = \"opened\", say"));
        return When { gone: None };
    };
    let words = match &value.data {
        Data::List(list) => list.iter().collect(),
        _ => vec![value],
    };
    if words.is_empty() {
        let misread = Misread::bad("it is empty: the rule would never say anything");
        walk.misread(part, "when", value, misread.hint("when = [\"opened\", \"returned\"], say"));
    }
    let mut gone = None;
    for word in words {
        match &word.data {
            Data::Text(text) if CHANGES.contains(&text.as_str()) => {
                if text == "gone" {
                    gone = Some(&word.place);
                }
            }
            Data::Text(text) => {
                let wrong = Misread::bad(format!("{} is no change of a room", quoted(text)));
                walk.misread(part, "when", word, wrong.hint(advice(text)));
            }
            _ => walk.misread(part, "when", word, Misread::wrong_type(&shape, word)),
        }
    }
    When { gone }
}

fn advice(text: &str) -> String {
    match keys::nearest(text, CHANGES.iter().copied()) {
        Some(near) => format!("did you mean {near:?}?"),
        None => format!("known are {}", CHANGES.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use imbabot_bot::RoomChange;

    #[test]
    fn every_change_of_a_room_can_be_spoken_of() {
        let all: Vec<&str> = RoomChange::ALL.iter().map(|change| change.as_str()).collect();
        assert_eq!(super::CHANGES, all);
    }
}
