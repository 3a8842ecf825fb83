//! `[log]`: what is logged, and how.

use tracing_subscriber::EnvFilter;

use super::code::Code;
use super::keys::{self, Key, Shape};
use super::read::words;
use super::value::{Table, quoted};
use super::walk::{Fault, Walk};

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// For people or for machines.
    pub format: LogFormat,
    /// A level, or a filter such as `info,imbabot_scheduler=debug`.
    pub level: String,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// A line for a person.
    Text,
    /// A JSON object.
    Json,
}

words!(LogFormat, LogFormat::Text, { "text" => LogFormat::Text, "json" => LogFormat::Json });

pub(crate) static KEYS: &[Key] = &[
    Key::new("format", Shape::Choice(&["text", "json"]), "for people, or a JSON object per line")
        .or("text"),
    Key::new(
        "level",
        Shape::Text,
        "error, warn, info, debug or trace; or a filter such as info,imbabot_scheduler=debug",
    )
    .or("info"),
];

const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];

pub(crate) fn read(walk: &mut Walk<'_>, root: &Table) -> Log {
    let part = walk.section(root, "log");
    let format = walk.get(&part, "format");
    let level = walk.located::<String>(&part, "level");
    if let Some((level, place)) = &level
        && !is_filter(level)
    {
        let called = part.called("level", place);
        let message = format!("{called}: {} is neither a level nor a filter", quoted(level));
        let hint = match keys::nearest(level, LEVELS.iter().copied()) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("levels are {}", LEVELS.join(", ")),
        };
        walk.error(Fault::new(Code::BadValue, place, message).hint(hint));
    }
    Log { format, level: level.map(|(level, _)| level).unwrap_or_default() }
}

/// A single word would be taken for the name of a module: here it has to be a level.
fn is_filter(text: &str) -> bool {
    match text.contains(['=', ',', '[']) {
        true => EnvFilter::try_new(text).is_ok(),
        false => LEVELS.contains(&text.to_lowercase().as_str()),
    }
}
