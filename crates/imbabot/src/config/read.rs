//! From a value to a type: what each type takes, and what is said about anything else. Reading
//! one value knows nothing of the other values.

use std::time::Duration;

use imbabot_bot::Policy;
use imbabot_bot::units::{format_duration, parse_duration};
use imbabot_core::{RoomKind, SiteUserId};

use super::code::Code;
use super::keys::Shape;
use imbabot_scheduler::Rate;

use super::units::{format_size, parse_size};
use super::value::{Data, Value, quoted};

/// Why a value is not what its key takes. The key and the place are added by who reads it.
#[derive(Debug)]
pub(crate) struct Misread {
    pub(crate) code: Code,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Misread {
    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self { code: Code::BadValue, message: message.into(), hint: None }
    }

    /// A sentence of the form "what is wrong; what to do".
    pub(crate) fn split(sentence: &str) -> Self {
        match sentence.split_once("; ") {
            Some((message, hint)) => Self::bad(message).hint(hint),
            None => Self::bad(sentence),
        }
    }

    pub(crate) fn wrong_type(shape: &Shape, value: &Value) -> Self {
        let message = format!("expected {}, found {}", shape.expected(), value.describe());
        Self { code: Code::WrongType, message, hint: None }
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// A type that a value can become.
pub(crate) trait Readable: Sized {
    fn read(shape: &Shape, value: &Value) -> Result<Self, Misread>;

    /// Stands for a value that could not be read; it never leaves a load that failed.
    fn placeholder() -> Self;
}

impl Readable for String {
    fn read(shape: &Shape, value: &Value) -> Result<Self, Misread> {
        match &value.data {
            Data::Text(text) => Ok(text.clone()),
            _ => Err(Misread::wrong_type(shape, value)),
        }
    }
    fn placeholder() -> Self {
        Self::new()
    }
}

impl Readable for bool {
    fn read(shape: &Shape, value: &Value) -> Result<Self, Misread> {
        match (&value.data, shape) {
            (Data::Flag(flag), _) => Ok(*flag),
            (Data::Text(text), _) if text == "true" || text == "false" => {
                Err(Misread::wrong_type(shape, value).hint(format!("write {text} without quotes")))
            }
            _ => Err(Misread::wrong_type(shape, value).hint("write true or false, without quotes")),
        }
    }
    fn placeholder() -> Self {
        false
    }
}

impl Readable for u64 {
    fn read(shape: &Shape, value: &Value) -> Result<Self, Misread> {
        match shape {
            Shape::Size(min, max) => read_size(shape, value, *min, *max),
            Shape::Count(min, max) => read_count(shape, value, *min, *max),
            _ => read_count(shape, value, 0, u64::MAX),
        }
    }
    fn placeholder() -> Self {
        0
    }
}

fn read_count(shape: &Shape, value: &Value, min: u64, max: u64) -> Result<u64, Misread> {
    let Data::Integer(number) = value.data else {
        let wrong = Misread::wrong_type(shape, value);
        return Err(match &value.data {
            Data::Text(text) if text.parse::<i128>().is_ok() => {
                wrong.hint(format!("write {text} without quotes"))
            }
            _ => wrong,
        });
    };
    let range = match (min, max) {
        (min, u64::MAX) => format!("{min} or more"),
        (min, max) => format!("{min} to {max}"),
    };
    u64::try_from(number)
        .ok()
        .filter(|number| (min..=max).contains(number))
        .ok_or_else(|| Misread::bad(format!("{number} is out of range: expected {range}")))
}

fn read_size(shape: &Shape, value: &Value, min: u64, max: u64) -> Result<u64, Misread> {
    let text = match &value.data {
        Data::Text(text) => text,
        Data::Integer(number) => {
            let hint = format!("a size carries a unit: write \"{number}B\" or \"{number}KiB\"");
            return Err(Misread::wrong_type(shape, value).hint(hint));
        }
        _ => return Err(Misread::wrong_type(shape, value)),
    };
    let size = parse_size(text).map_err(|why| Misread::split(&why))?;
    if size < min || size > max {
        let range = format!("{} to {}", format_size(min), format_size(max));
        return Err(Misread::bad(format!("{} is out of range: expected {range}", quoted(text))));
    }
    Ok(size)
}

impl Readable for u32 {
    fn read(shape: &Shape, value: &Value) -> Result<Self, Misread> {
        let number = u64::read(shape, value)?;
        Self::try_from(number).map_err(|_| Misread::bad(format!("{number} is too large")))
    }
    fn placeholder() -> Self {
        0
    }
}

impl Readable for u16 {
    fn read(shape: &Shape, value: &Value) -> Result<Self, Misread> {
        let number = u64::read(shape, value)?;
        Self::try_from(number).map_err(|_| Misread::bad(format!("{number} is too large")))
    }
    fn placeholder() -> Self {
        0
    }
}

impl Readable for usize {
    fn read(shape: &Shape, value: &Value) -> Result<Self, Misread> {
        let number = u64::read(shape, value)?;
        Self::try_from(number).map_err(|_| Misread::bad(format!("{number} is too large")))
    }
    fn placeholder() -> Self {
        0
    }
}

impl Readable for Duration {
    fn read(shape: &Shape, value: &Value) -> Result<Self, Misread> {
        let text = match &value.data {
            Data::Text(text) => text,
            Data::Integer(number) if *number >= 0 => {
                let hint = format!("a length of time carries a unit: write \"{number}s\"");
                return Err(Misread::wrong_type(shape, value).hint(hint));
            }
            _ => return Err(Misread::wrong_type(shape, value)),
        };
        if text.trim().starts_with('-') {
            return Err(Misread::bad(format!(
                "{} is not a length of time: it is negative",
                quoted(text)
            ))
            .hint("write a number with a unit, as \"5s\""));
        }
        let length = parse_duration(text).map_err(|why| Misread::split(&why))?;
        if let Shape::Duration(min, max) = shape {
            let limit = match length {
                length if length < *min => Some(("at least", min)),
                length if length > *max => Some(("at most", max)),
                _ => None,
            };
            if let Some((which, limit)) = limit {
                let limit = format_duration(*limit);
                let text = quoted(text);
                return Err(Misread::bad(format!(
                    "{text} is out of range: expected {which} {limit}"
                )));
            }
        }
        Ok(length)
    }
    fn placeholder() -> Self {
        Self::ZERO
    }
}

impl Readable for Rate {
    fn read(shape: &Shape, value: &Value) -> Result<Self, Misread> {
        match &value.data {
            Data::Text(text) => text.parse().map_err(|why: String| Misread::split(&why)),
            Data::Integer(number) if *number > 0 => Err(Misread::wrong_type(shape, value)
                .hint(format!("a rate says in how long: write \"{number}/s\""))),
            _ => Err(Misread::wrong_type(shape, value)),
        }
    }
    fn placeholder() -> Self {
        Self::new(1, Duration::from_secs(1))
    }
}

impl Readable for SiteUserId {
    fn read(shape: &Shape, value: &Value) -> Result<Self, Misread> {
        match &value.data {
            Data::Integer(number) => u64::try_from(*number)
                .map(Self::from)
                .map_err(|_| Misread::bad(format!("{number} is no site user id"))),
            Data::Text(text) => text.parse().map_err(|why| Misread::bad(format!("{why}"))),
            _ => Err(Misread::wrong_type(shape, value)),
        }
    }
    fn placeholder() -> Self {
        Self::from(0)
    }
}

impl Readable for RoomKind {
    fn read(shape: &Shape, value: &Value) -> Result<Self, Misread> {
        match &value.data {
            Data::Integer(number) => i64::try_from(*number)
                .map(Self::from)
                .map_err(|_| Misread::bad(format!("{number} is too large"))),
            Data::Text(text) => text.parse().map_err(|why: String| {
                let wrong = Misread::bad(why);
                match super::keys::nearest(text, ["dialogue", "conference", "support"]) {
                    Some(near) => wrong.hint(format!("did you mean {near:?}?")),
                    None => wrong,
                }
            }),
            _ => Err(Misread::wrong_type(shape, value)),
        }
    }
    fn placeholder() -> Self {
        Self::Dialogue
    }
}

/// A word of a closed list. The word itself is checked against the shape.
pub(crate) fn read_word<T: Copy>(
    shape: &Shape,
    value: &Value,
    words: &[(&str, T)],
) -> Result<T, Misread> {
    let Data::Text(text) = &value.data else { return Err(Misread::wrong_type(shape, value)) };
    if let Some((_, found)) = words.iter().find(|(word, _)| word == text) {
        return Ok(*found);
    }
    let message = format!("expected {}, found {}", shape.expected(), quoted(text));
    let wrong = Misread::bad(message);
    Err(match super::keys::nearest(text, words.iter().map(|(word, _)| *word)) {
        Some(word) => wrong.hint(format!("did you mean {word:?}?")),
        None => wrong,
    })
}

/// Makes a type readable that is a word of a closed list.
macro_rules! words {
    ($type:ty, $first:expr, { $($word:literal => $value:expr),* $(,)? }) => {
        impl $crate::config::read::Readable for $type {
            fn read(
                shape: &$crate::config::keys::Shape,
                value: &$crate::config::value::Value,
            ) -> Result<Self, $crate::config::read::Misread> {
                $crate::config::read::read_word(shape, value, &[$(($word, $value)),*])
            }
            fn placeholder() -> Self {
                $first
            }
        }
    };
}
pub(crate) use words;

words!(Policy, Policy::AtMostOnce, {
    "at_most_once" => Policy::AtMostOnce,
    "at_least_once" => Policy::AtLeastOnce,
});

/// What [`Policy`] can be.
pub(crate) const POLICIES: &[&str] = &["at_most_once", "at_least_once"];
