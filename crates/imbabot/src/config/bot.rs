//! `[[bot]]`: a running bot. What its settings mean is asked of the bot's kind.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use imbabot_bot::{BotName, Policy, RoomSelector, WidgetName};
use imbabot_core::SiteUserId;

use super::code::Code;
use super::keys::{self, Key, LONG, MILLISECOND, Shape};
use super::mask::{masked_json, without_secrets};
use super::read::POLICIES;
use super::rooms;
use super::rules;
use super::source::Place;
use super::value::{Data, Table, Value, quoted};
use super::walk::{Fault, Part, Walk, few};

/// A `[[bot]]`.
#[derive(Clone, PartialEq)]
pub struct BotConfig {
    /// Its name; it keys what the store remembers.
    pub name: BotName,
    /// Its kind, as the program lists it.
    pub kind: String,
    /// Of which rooms it is told; all if `None`.
    pub rooms: Option<RoomSelector>,
    /// In which widgets it runs; empty for all.
    pub widgets: Vec<WidgetName>,
    /// As whom it speaks, if not as the widget's sender.
    pub sender: Option<SiteUserId>,
    /// Its policy, if not that of `[delivery]`.
    pub policy: Option<Policy>,
    /// How long it may take for one event.
    pub timeout: Duration,
    /// How many events it may handle at once.
    pub concurrency: usize,
    /// What it is told about itself.
    pub settings: serde_json::Value,
}

impl BotConfig {
    /// Whether it runs in this widget.
    #[must_use]
    pub fn serves(&self, widget: &WidgetName) -> bool {
        self.widgets.is_empty() || self.widgets.contains(widget)
    }
}

/// Settings that sound like secrets are shown as stars.
impl fmt::Debug for BotConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BotConfig")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .field("rooms", &self.rooms)
            .field("widgets", &self.widgets)
            .field("sender", &self.sender)
            .field("policy", &self.policy)
            .field("timeout", &self.timeout)
            .field("concurrency", &self.concurrency)
            .field("settings", &masked_json(&self.settings))
            .finish()
    }
}

pub(crate) static KEYS: &[Key] = &[
    Key::new("name", Shape::Name, "unique; keys what the store remembers")
        .required()
        .example("\"greeter\""),
    Key::new("kind", Shape::Text, "as listed in bots/src/main.rs; or rules, a bot without code")
        .required()
        .example("\"greeter\""),
    Key::new("rooms", Shape::Rooms(rooms::KEYS), "of which rooms it is told; default all")
        .example("{ kind = \"conference\" }"),
    Key::new("widgets", Shape::List(&Shape::Name), "in which widgets it runs; default all")
        .example("[\"main\"]"),
    Key::new("sender", Shape::User, "as whom it speaks; default the widget's sender").example("7"),
    Key::new("policy", Shape::Choice(POLICIES), "default that of [delivery]")
        .example("\"at_most_once\""),
    Key::new("timeout", Shape::Duration(MILLISECOND, LONG), "how long it may take for one event")
        .or("30s"),
    Key::new("concurrency", Shape::Count(1, 1_024), "how many events it may handle at once")
        .or("8"),
    Key::new("settings", Shape::Free, "handed to the bot")
        .example("{ greeting = \"Welcome to {{ room.name }}!\" }"),
];

pub(crate) fn read(walk: &mut Walk<'_>, root: &Table) -> Vec<BotConfig> {
    let parts = walk.entries(root, "bot");
    let mut seen: HashMap<String, Place> = HashMap::new();
    let mut bots = Vec::with_capacity(parts.len());
    for part in &parts {
        let name = walk.name::<BotName>(part, "name");
        if let Some((name, place)) = &name {
            match seen.get(name.as_str()).cloned() {
                Some(first) => {
                    let message = format!("two bots have the name {:?}", name.as_str());
                    let fault = Fault::new(Code::Duplicate, place, message);
                    walk.error(fault.label("the second").also(&first, "the first"));
                }
                None => {
                    seen.insert(name.to_string(), place.clone());
                }
            }
        }
        bots.extend(read_one(walk, part, name.map(|(name, _)| name)));
    }
    bots
}

fn read_one(walk: &mut Walk<'_>, part: &Part<'_>, name: Option<BotName>) -> Option<BotConfig> {
    let kind = walk.located::<String>(part, "kind");
    let known = kind.as_ref().is_some_and(|(kind, place)| is_known(walk, part, kind, place));
    let settings = settings(walk, part);
    if let (true, Some((kind, _)), Some(settings)) = (known, &kind, &settings)
        && (!walk.kinds.is_rules(kind) || rules::check(walk, part))
    {
        check_settings(walk, part, kind, settings);
    }
    let rooms = rooms::read(walk, part);
    let widgets = walk.widget_names(part);
    let sender = walk.optional(part, "sender");
    let policy = walk.optional(part, "policy");
    let timeout = walk.get(part, "timeout");
    let concurrency = walk.get(part, "concurrency");
    Some(BotConfig {
        name: name?,
        kind: kind?.0,
        rooms,
        widgets,
        sender,
        policy,
        timeout,
        concurrency,
        settings: settings?,
    })
}

fn is_known(walk: &mut Walk<'_>, part: &Part<'_>, kind: &str, place: &Place) -> bool {
    if walk.kinds.check(kind).is_some() {
        return true;
    }
    let names: Vec<&str> = walk.kinds.names().collect();
    let called = part.called("kind", place);
    let message = format!("{called}: no bot of the kind {} is built in", quoted(kind));
    let hint = match keys::nearest(kind, names.iter().copied()) {
        Some(near) => format!("did you mean {near:?}? known are {}", few(&names)),
        None => format!("known are {}; they are listed in bots/src/main.rs", few(&names)),
    };
    walk.error(Fault::new(Code::UnknownKind, place, message).hint(hint));
    false
}

/// The settings as JSON; a bot without any is handed an empty table.
fn settings(walk: &mut Walk<'_>, part: &Part<'_>) -> Option<serde_json::Value> {
    let Some(value) = part.get("settings") else {
        return Some(serde_json::Value::Object(serde_json::Map::new()));
    };
    if value.as_table().is_none() {
        walk.misread(
            part,
            "settings",
            value,
            super::read::Misread::wrong_type(&Shape::Free, value),
        );
        return None;
    }
    match value.to_json() {
        Ok(json) => Some(json),
        Err((place, why)) => {
            let called = part.called("settings", &place);
            walk.error(Fault::new(Code::BadSettings, &place, format!("{called}: {why}")));
            None
        }
    }
}

fn check_settings(walk: &mut Walk<'_>, part: &Part<'_>, kind: &str, settings: &serde_json::Value) {
    let kinds = walk.kinds;
    let Some(Err(why)) = kinds.check(kind).map(|check| check(settings)) else { return };
    let value = part.get("settings");
    let at = value.and_then(|value| place_of(value, &why));
    let place = at.or(value.map(|value| &value.place)).unwrap_or(&part.place).clone();
    let called = part.called("settings", &place);
    let why: String = without_secrets(&why, settings).chars().take(500).collect();
    walk.error(Fault::new(Code::BadSettings, &place, format!("{called}: {why}")));
}

/// The key that the sentence is about: it starts with `key:` or `key.key:`, or names the key in
/// backticks.
fn place_of<'v>(settings: &'v Value, why: &str) -> Option<&'v Place> {
    let start = why.split(':').next().unwrap_or_default().trim();
    let mut place = None;
    let mut value = settings;
    for step in start.trim_matches('`').split('.') {
        let mut parts = step.split('[');
        let key = parts.next().unwrap_or(step);
        let Some(inner) = value.as_table().and_then(|table| table.get(key)) else { break };
        value = inner;
        for index in parts {
            let at = index.trim_end_matches(']').parse::<usize>().ok();
            let Data::List(list) = &value.data else { break };
            let Some(inner) = at.and_then(|at| list.get(at)) else { break };
            value = inner;
        }
        place = Some(&value.place);
    }
    if place.is_some() {
        return place;
    }
    let rest = why.split_once("unknown field `")?.1;
    let field = rest.split('`').next()?;
    let entries = settings.as_table().map(|table| table.entries.as_slice()).unwrap_or_default();
    entries.iter().find(|entry| entry.key == field).map(|entry| &entry.key_place)
}
