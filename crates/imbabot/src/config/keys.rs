//! The table of all keys: type, default, unit and meaning. Everything that knows the keys reads
//! it here: the check of a file, the environment, `config show`, the schema, the sample and the
//! book. It holds no values.

use std::time::Duration;

use super::{bot, delivery, http, limits, log, poll, schedule, store, widget};

/// A part of the file: `[poll]`, or `[[schedule]]`.
#[derive(Debug)]
pub struct Section {
    /// Its name.
    pub name: &'static str,
    /// For a list: the key by which its entries are known.
    pub named_by: Option<&'static str>,
    /// What it is for.
    pub doc: &'static str,
    /// Its keys.
    pub keys: &'static [Key],
}

/// A key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub shape: Shape,
    /// What it is if nobody says; as an environment variable would say it.
    pub default: Option<&'static str>,
    /// Whether it has to be given.
    pub required: bool,
    /// Whether the sample has it switched off: it means nothing beside the defaults of other keys.
    pub off: bool,
    /// A value for the sample, in TOML, where there is no default.
    pub example: &'static str,
    /// What it means, in one sentence.
    pub doc: &'static str,
}

/// What a key takes.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// Any text.
    Text,
    /// A name of ours.
    Name,
    /// `true` or `false`.
    Flag,
    /// A whole number in this range.
    Count(u64, u64),
    /// A length of time in this range.
    Duration(Duration, Duration),
    /// A number of bytes in this range.
    Size(u64, u64),
    /// So many per length of time.
    Rate,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// One of these words, or a list of them.
    Words(&'static [&'static str]),
    /// A file or folder.
    Path,
    /// The address of the API.
    Url,
    /// An IP address with a port, or `off`.
    Listen,
    /// A site user id: a number or a short text.
    User,
    /// A kind of room: a word or a number.
    RoomKind,
    /// A local date.
    Date,
    /// A list.
    List(&'static Shape),
    /// A table with keys of its own, one by one.
    Table(&'static [Key]),
    /// A selection of rooms.
    Rooms(&'static [Key]),
    /// Whatever the bot takes.
    Free,
}

impl Key {
    /// A key that may be left out.
    pub(crate) const fn new(name: &'static str, shape: Shape, doc: &'static str) -> Self {
        Self { name, shape, default: None, required: false, off: false, example: "", doc }
    }

    /// With a default.
    pub(crate) const fn or(self, default: &'static str) -> Self {
        Self { default: Some(default), ..self }
    }

    /// That has to be given.
    pub(crate) const fn required(self) -> Self {
        Self { required: true, ..self }
    }

    /// That is switched off in the sample.
    pub(crate) const fn off(self) -> Self {
        Self { off: true, ..self }
    }

    /// With a value for the sample.
    pub(crate) const fn example(self, example: &'static str) -> Self {
        Self { example, ..self }
    }

    /// The default as TOML writes it.
    #[must_use]
    pub fn default_toml(&self) -> Option<String> {
        let text = self.default?;
        Some(match self.shape {
            Shape::Flag | Shape::Count(..) | Shape::List(_) | Shape::Table(_) => text.to_owned(),
            _ => format!("{text:?}"),
        })
    }
}

impl Shape {
    /// The unit or the form of the value, in a few words.
    #[must_use]
    pub fn unit(&self) -> String {
        match self {
            Self::Text => "text".into(),
            Self::Name => "name".into(),
            Self::Flag => "true or false".into(),
            Self::Count(min, max) => format!("number, {min} to {max}"),
            Self::Duration(min, _) if !min.is_zero() => {
                format!("duration, at least {}", imbabot_bot::units::format_duration(*min))
            }
            Self::Duration(..) => "duration".into(),
            Self::Size(..) => "size".into(),
            Self::Rate => "rate".into(),
            Self::Choice(words) => words.join(" | "),
            Self::Words(words) => format!("{}, or a list of them", words.join(" | ")),
            Self::Path => "path".into(),
            Self::Url => "URL".into(),
            Self::Listen => "address:port, or \"off\"".into(),
            Self::User => "site user id".into(),
            Self::RoomKind => "dialogue, conference, support or a number".into(),
            Self::Date => "date".into(),
            Self::List(of) => format!("list of: {}", of.unit()),
            Self::Table(_) => "table".into(),
            Self::Rooms(_) => "selection of rooms".into(),
            Self::Free => "table of the bot's own".into(),
        }
    }

    /// What was expected, for a sentence.
    pub(crate) fn expected(&self) -> String {
        match self {
            Self::Text => "a text".into(),
            Self::Name => "a name".into(),
            Self::Flag => "true or false".into(),
            Self::Count(..) => "a whole number".into(),
            Self::Duration(..) => "a length of time such as \"5s\"".into(),
            Self::Size(..) => "a size such as \"32MiB\"".into(),
            Self::Rate => "a rate such as \"5/s\"".into(),
            Self::Choice(words) => {
                let words: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
                words.join(" or ")
            }
            Self::Words(words) => format!("one of {}, or a list of them", words.join(", ")),
            Self::Path => "a path".into(),
            Self::Url => "a URL such as \"https://api.imbachat.com\"".into(),
            Self::Listen => "an address with a port such as \"127.0.0.1:9627\", or \"off\"".into(),
            Self::User => "a site user id: a number or a short text".into(),
            Self::RoomKind => "dialogue, conference, support or a number".into(),
            Self::Date => "a date such as \"2026-12-25\"".into(),
            Self::List(of) => format!("a list, each of it {}", of.expected()),
            Self::Table(_) | Self::Free => "a table".into(),
            Self::Rooms(_) => {
                "a selection of rooms such as { kind = \"conference\" } or { all = true }".into()
            }
        }
    }
}

/// The keys above all sections.
pub static TOP: &[Key] = &[
    Key::new(
        "widgets_file",
        Shape::Path,
        "a file with many [[widget]] entries of its own, read again with HUP",
    )
    .example("\"widgets.toml\""),
    Key::new(
        "allow_group_readable",
        Shape::Flag,
        "accept secret files that group or others can read, for container mounts; also per widget",
    )
    .or("false"),
];

/// The sections, in the order of the sample.
pub static SECTIONS: &[Section] = &[
    Section {
        name: "widget",
        named_by: Some("name"),
        doc: "One or more: the chats in which the bots speak.",
        keys: widget::KEYS,
    },
    Section {
        name: "poll",
        named_by: None,
        doc: "How often the lists of rooms and users are fetched, and when they are believed.",
        keys: poll::KEYS,
    },
    Section {
        name: "delivery",
        named_by: None,
        doc: "How messages are posted, and what happens when nobody knows whether one was.",
        keys: delivery::KEYS,
    },
    Section {
        name: "limits",
        named_by: None,
        doc: "Protects people from bots. Announcements and `send` are never held back by these.",
        keys: limits::KEYS,
    },
    Section {
        name: "schedule",
        named_by: Some("id"),
        doc: "Announcements: a time, rooms, a text. As many as you like.",
        keys: schedule::KEYS,
    },
    Section {
        name: "bot",
        named_by: Some("name"),
        doc: "Running bots; one kind can run several times under several names.",
        keys: bot::KEYS,
    },
    Section {
        name: "store",
        named_by: None,
        doc: "Where everything is remembered. A change needs a restart.",
        keys: store::KEYS,
    },
    Section {
        name: "http",
        named_by: None,
        doc: "The probes, the status as JSON and the metrics. A change needs a restart.",
        keys: http::KEYS,
    },
    Section { name: "log", named_by: None, doc: "What is logged, and how.", keys: log::KEYS },
];

/// The section of this name.
pub(crate) fn section(name: &str) -> Option<&'static Section> {
    SECTIONS.iter().find(|section| section.name == name)
}

/// The key of this name among these.
pub(crate) fn key(keys: &'static [Key], name: &str) -> Option<&'static Key> {
    keys.iter().find(|key| key.name == name)
}

/// Of these names the one that is most like the text, if one is like it at all.
pub(crate) fn nearest<'a>(text: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = text.to_lowercase();
    names
        .into_iter()
        .map(|name| {
            let distance = strsim::damerau_levenshtein(&wanted, name);
            let likeness = strsim::jaro_winkler(&wanted, name);
            (distance, likeness, name)
        })
        .filter(|(distance, likeness, _)| {
            *likeness > 0.82 || *distance <= 1 + wanted.len().min(12) / 5
        })
        .max_by(|a, b| b.0.cmp(&a.0).then(a.1.total_cmp(&b.1)))
        .map(|(_, _, name)| name)
}

/// A second.
pub(crate) const SECOND: Duration = Duration::from_secs(1);
/// A millisecond.
pub(crate) const MILLISECOND: Duration = Duration::from_millis(1);
/// Longer than any promise made here.
pub(crate) const LONG: Duration = Duration::from_secs(36_525 * 86_400);
