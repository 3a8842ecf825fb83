//! The names that people choose: of widgets, bots and schedules. A type each, one rule for all:
//! `[a-z0-9][a-z0-9_-]*`, at most 64 characters. They key what the store remembers, so they are
//! never derived from a position in a file.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, de};

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a name: a name has 1 to 64 characters of a-z, 0-9, _ and -, and starts with a letter or a digit"
)]
pub struct InvalidName {
    text: String,
}

fn check(text: &str) -> Result<Arc<str>, InvalidName> {
    let mut bytes = text.bytes();
    let starts = bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let goes_on =
        bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-');
    if starts && goes_on && text.len() <= 64 {
        Ok(text.into())
    } else {
        Err(InvalidName { text: text.chars().take(80).collect() })
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as it is written.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                check(text).map(Self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    };
}

name! {
    /// What a configuration calls a widget. ImbaChat's own number of it is a `WidgetId`.
    WidgetName
}
name! {
    /// One running instance of a bot; a kind of bot can run under several names.
    BotName
}
name! {
    /// A schedule. It names the occurrences, so it stays when everything else about it changes.
    ScheduleId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_starts_with_a_letter_or_a_digit_and_stays_small() {
        for good in ["main", "0", "a-b_c9"] {
            assert!(good.parse::<WidgetName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "_a", "A", "a b", "ä", "a/b", &"a".repeat(65)] {
            assert!(bad.parse::<ScheduleId>().is_err(), "{bad}");
        }
    }
}
