//! Message templates: minijinja with a closed list of variables. They are checked when they are
//! loaded, values are data and never templates, and a template cannot read anything but its
//! values or run for long.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use imbabot_core::{RoomId, RoomKind};
use minijinja::{Environment, UndefinedBehavior, Value};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::bot::Result;
use crate::event::Event;
use crate::foreign::{ForeignMarkup, ForeignText};
use crate::rooms::Room;

/// Instructions that one rendering may take: a thousand times what a long announcement needs, and
/// still less than ten milliseconds.
const FUEL: u64 = 100_000;
/// A template longer than this is a mistake, not a message.
const MAX_SOURCE: usize = 64 * 1024;

const ROOM: &[&str] = &["room.id", "room.name", "room.kind"];
const SCHEDULE: &[&str] = &["schedule.id", "occurrence.id", "occurrence.at"];
const EVENT: &[&str] = &["event.kind", "event.change", "event.at"];

/// A text with values to be filled in: `"Welcome to {{ room.name }}!"`.
///
/// Variables: `room.id`, `room.name`, `room.kind`; in announcements also `schedule.id`,
/// `occurrence.id`, `occurrence.at`; in bots also `event.kind`, `event.change`, `event.at`.
/// Anything else is an error when the template is loaded.
#[derive(Clone)]
pub struct Template(Arc<Compiled>);

struct Compiled {
    source: Box<str>,
    environment: Environment<'static>,
    variables: Vec<String>,
}

/// Why a text is not a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TemplateError {
    message: String,
    line: Option<usize>,
}

impl TemplateError {
    /// The line of the template, counted from 1, where that is known.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        self.line
    }
}

/// The one name under which the source is known inside the environment; shown in no message.
const NAME: &str = "text";

impl Template {
    /// A template for an announcement: `room`, `schedule` and `occurrence` can be used.
    ///
    /// # Errors
    /// The text is no template, or uses a variable, filter or test that does not exist.
    pub fn announcement(source: &str) -> std::result::Result<Self, TemplateError> {
        Self::compile(source, &[ROOM, SCHEDULE])
    }

    /// A template for what is said about a change of a room: `room` and `event` can be used.
    ///
    /// # Errors
    /// The text is no template, or uses a variable, filter or test that does not exist.
    pub fn room_event(source: &str) -> std::result::Result<Self, TemplateError> {
        Self::compile(source, &[ROOM, EVENT])
    }

    fn compile(source: &str, known: &[&[&str]]) -> std::result::Result<Self, TemplateError> {
        if source.len() > MAX_SOURCE {
            let message = format!("the template has more than {MAX_SOURCE} bytes");
            return Err(TemplateError { message, line: None });
        }
        let mut environment = environment();
        environment.add_template_owned(NAME, source.to_owned()).map_err(|error| explain(&error))?;
        let mut variables: Vec<String> = environment
            .get_template(NAME)
            .map_err(|error| explain(&error))?
            .undeclared_variables(true)
            .into_iter()
            .collect();
        variables.sort();
        let known: Vec<&str> = known.concat();
        for variable in &variables {
            // `room` alone, or `room.name.first`, are as unknown as `rom.name`.
            let is_function = ["range", "dict", "namespace"].contains(&variable.as_str());
            if !known.contains(&variable.as_str()) && !is_function {
                let line = source.lines().position(|l| l.contains(variable.as_str()));
                return Err(TemplateError {
                    message: format!(
                        "unknown variable `{}`; known are {}",
                        variable.chars().take(80).collect::<String>(),
                        known.join(", ")
                    ),
                    line: line.map(|n| n + 1),
                });
            }
        }
        let template = Self(Arc::new(Compiled { source: source.into(), environment, variables }));
        // Unknown filters and tests, wrong arguments: minijinja finds them only when it renders.
        template.fill(&Values::sample()).map_err(|error| explain(&error))?;
        Ok(template)
    }

    /// The text as it was written.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// Whether the text needs to know more of a room than its number.
    #[must_use]
    pub fn needs_room(&self) -> bool {
        self.0.variables.iter().any(|v| v == "room.name" || v == "room.kind")
    }

    /// The text for one room.
    ///
    /// # Errors
    /// The template uses values that are not given here, or does not end.
    pub fn render(&self, room: &Room) -> Result<String> {
        self.render_with(&Values::new().room(room))
    }

    /// The text with these values.
    ///
    /// # Errors
    /// The template uses values that are not given, or does not end.
    pub fn render_with(&self, values: &Values) -> Result<String> {
        self.fill(values).map_err(|error| explain(&error).into())
    }

    fn fill(&self, values: &Values) -> std::result::Result<String, minijinja::Error> {
        self.0.environment.get_template(NAME)?.render(Value::from(values.0.clone()))
    }
}

/// The filters, tests and functions of minijinja; nothing is ever loaded from outside.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(50);
    environment.set_debug(false);
    environment
}

fn explain(error: &minijinja::Error) -> TemplateError {
    let message = match error.kind() {
        minijinja::ErrorKind::OutOfFuel => "the template does not come to an end".to_owned(),
        kind => match error.detail() {
            Some(detail) => format!("{kind}: {}", detail.chars().take(200).collect::<String>()),
            None => kind.to_string(),
        },
    };
    TemplateError { message, line: error.line() }
}

impl FromStr for Template {
    type Err = TemplateError;
    /// A template for a bot: `room`, `event`, `schedule` and `occurrence` can be used.
    fn from_str(source: &str) -> std::result::Result<Self, TemplateError> {
        Self::compile(source, &[ROOM, EVENT, SCHEDULE])
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Template({:?})", self.0.source)
    }
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        self.0.source == other.0.source
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let source = String::deserialize(deserializer)?;
        source.parse().map_err(de::Error::custom)
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.source)
    }
}

/// The values of one rendering. They are data: `{{` inside a value stays `{{`.
#[derive(Debug, Clone, Default)]
pub struct Values(BTreeMap<&'static str, Value>);

impl Values {
    /// No values.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// `room.id`, `room.name`, `room.kind`.
    #[must_use]
    pub fn room(self, room: &Room) -> Self {
        self.room_parts(room.id, &room.name, room.kind)
    }

    fn room_parts(mut self, id: RoomId, name: &ForeignText, kind: RoomKind) -> Self {
        let parts = BTreeMap::from([
            ("id", Value::from(id.0)),
            ("name", Value::from(name.to_string())),
            ("kind", Value::from(kind.to_string())),
        ]);
        self.0.insert("room", Value::from(parts));
        self
    }

    /// `room.id` alone, for a room of which nothing else is known.
    #[must_use]
    pub fn room_id(mut self, id: RoomId) -> Self {
        self.0.insert("room", Value::from(BTreeMap::from([("id", Value::from(id.0))])));
        self
    }

    /// `schedule.id`, `occurrence.id`, and `occurrence.at` as it is to be shown.
    #[must_use]
    pub fn occurrence(mut self, schedule: &str, id: &str, at: &str) -> Self {
        let schedule = BTreeMap::from([("id", Value::from(schedule))]);
        let occurrence = BTreeMap::from([("id", Value::from(id)), ("at", Value::from(at))]);
        self.0.insert("schedule", Value::from(schedule));
        self.0.insert("occurrence", Value::from(occurrence));
        self
    }

    /// `event.kind`, `event.change`, `event.at`, and the room of a room event.
    #[must_use]
    pub fn event(mut self, event: &Event) -> Self {
        let (change, at) = match event {
            Event::Room(event) => (event.change.as_str(), event.at),
            Event::User(event) => (event.change.as_str(), event.at),
            Event::Timer(event) => ("due", event.at),
            Event::Delivery(event) => (event.state.as_str(), event.at),
        };
        let parts = BTreeMap::from([
            ("kind", Value::from(event.kind())),
            ("change", Value::from(change)),
            ("at", Value::from(at.compact())),
        ]);
        self.0.insert("event", Value::from(parts));
        match event {
            Event::Room(event) => self.room(&event.room),
            _ => self,
        }
    }

    fn sample() -> Self {
        let mut values = Self::new()
            .room_parts(
                RoomId(1536),
                &ForeignText::new("Team", ForeignMarkup::Raw),
                RoomKind::Conference,
            )
            .occurrence("standup", "standup@2026-03-30T07:00:00Z", "2026-03-30 09:00");
        let parts = [("kind", "room"), ("change", "opened"), ("at", "2026-03-30T07:00:00Z")];
        values.0.insert("event", Value::from(BTreeMap::from(parts)));
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(name: &str) -> Room {
        Room::of(&imbabot_core::Room::new(RoomId(7), name), ForeignMarkup::Neutralize)
    }

    fn error(source: &str) -> String {
        Template::announcement(source).unwrap_err().to_string()
    }

    #[test]
    fn a_room_is_greeted_by_name() {
        let template: Template =
            "Welcome to {{ room.name }} ({{ room.id }}, {{ room.kind }})!".parse().unwrap();
        assert_eq!(
            template.render(&room("Support")).unwrap(),
            "Welcome to Support (7, conference)!"
        );
    }

    #[test]
    fn a_value_is_never_a_template() {
        let template: Template = "{{ room.name }}".parse().unwrap();
        assert_eq!(
            template.render(&room("{{ secret }}{% for %}")).unwrap(),
            "{{ secret }}{% for %}"
        );
        assert_eq!(template.render(&room("<script>")).unwrap(), "‹script›");
    }

    #[test]
    fn what_does_not_exist_is_an_error_at_load() {
        assert!(error("{{ rom.name }}").contains("unknown variable `rom.name`"));
        assert!(error("{{ room.nmae }}").contains("unknown variable `room.nmae`"));
        assert!(error("{{ event.change }}").contains("unknown variable `event.change`"));
        assert!(error("{{ room.name | shout }}").contains("shout"));
        assert!(error("{{ room.name").contains("syntax error"));
        assert!(error("{% include 'secret_key' %}").contains("template not found"));
        assert!(error("{% for a in range(9999) %}{% for b in range(9999) %}{{ b }}{% endfor %}{% endfor %}").contains("come to an end"));
    }

    #[test]
    fn an_error_names_its_line() {
        let error = Template::announcement("Hello,\n{{ room.nmae }}!").unwrap_err();
        assert_eq!(error.line(), Some(2));
    }

    #[test]
    fn about_a_change_of_a_room_nothing_is_known_of_an_occurrence() {
        assert!(Template::room_event("{{ room.name }} {{ event.change }}").is_ok());
        let error = Template::room_event("{{ occurrence.at }}").unwrap_err().to_string();
        assert!(error.contains("unknown variable `occurrence.at`"), "{error}");
    }

    #[test]
    fn only_a_name_or_a_kind_needs_the_room() {
        assert!(!Template::announcement("Stand-up in {{ room.id }}").unwrap().needs_room());
        assert!(Template::announcement("Hello {{ room.name }}").unwrap().needs_room());
    }
}
