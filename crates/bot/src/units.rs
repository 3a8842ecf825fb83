//! Lengths of time as one says them, and as a configuration writes them.

use std::time::Duration;

/// `n` seconds.
#[must_use]
pub const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// `n` minutes.
#[must_use]
pub const fn minutes(n: u64) -> Duration {
    Duration::from_secs(n.saturating_mul(60))
}

/// `n` hours.
#[must_use]
pub const fn hours(n: u64) -> Duration {
    Duration::from_secs(n.saturating_mul(3600))
}

/// `n` days of 24 hours.
#[must_use]
pub const fn days(n: u64) -> Duration {
    Duration::from_secs(n.saturating_mul(86_400))
}

/// More than every unit several times.
const LONGEST_TEXT: usize = 100;

/// Reads `"500ms" "5s" "2m" "1h" "7d"`: whole numbers with a unit, several in a row if need be
/// (`"1h30m"`).
///
/// # Errors
/// A sentence that names what is wrong: no unit, an unknown one, a number out of range.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = |why: &str| {
        let shown: String = text.chars().take(60).collect();
        Err(format!(
            "{shown:?} is not a length of time: {why}; write a number with a unit, as \"500ms\", \"5s\", \"2m\", \"1h\" or \"7d\""
        ))
    };
    let mut rest = text.trim();
    if rest.is_empty() {
        return wrong("it is empty");
    }
    if rest.len() > LONGEST_TEXT {
        return wrong("nobody writes one so long");
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        if number.is_empty() {
            return wrong("a whole number is missing");
        }
        let Ok(number) = number.parse::<u64>() else {
            return wrong("the number is too large");
        };
        let letters = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "" => return wrong("the unit is missing"),
            _ => return wrong("the unit is unknown"),
        };
        let Some(part) = number.checked_mul(millis).map(Duration::from_millis) else {
            return wrong("it is too long");
        };
        total = total.saturating_add(part);
        rest = tail;
    }
    // A century is longer than any promise made here, and keeps every later sum in range.
    if total > days(36_525) {
        return wrong("it is longer than a hundred years");
    }
    Ok(total)
}

/// Writes a length of time so that [`parse_duration`] reads it: `90s` becomes `1m30s`.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let mut millis = duration.as_millis();
    if millis == 0 {
        return "0s".into();
    }
    let mut text = String::new();
    for (unit, size) in
        [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)]
    {
        let count = millis / size;
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
            millis %= size;
        }
    }
    text
}

/// A length of time in a configuration or in a bot's settings, read as [`parse_duration`] does.
///
/// ```
/// # use imbabot_bot::units::Span;
/// #[derive(serde::Deserialize)]
/// struct Settings {
///     after: Span,
/// }
/// let settings: Settings = serde_json::from_str(r#"{"after": "24h"}"#).unwrap();
/// assert_eq!(settings.after.get(), imbabot_bot::units::hours(24));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(Duration);

impl Span {
    /// The length itself.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl From<Duration> for Span {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&format_duration(self.0))
    }
}

impl std::str::FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        parse_duration(text).map(Self)
    }
}

impl<'de> serde::Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl serde::Serialize for Span {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_needs_a_unit() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("1h30m"), Ok(minutes(90)));
        assert_eq!(parse_duration("7d"), Ok(days(7)));
        for bad in
            ["", "5", "s", "-5s", "1.5s", "5 s", "5w", "99999999999999999999s", "40000d", "NaN"]
        {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for text in ["500ms", "1m30s", "1d2h3m4s5ms", "0s"] {
            assert_eq!(format_duration(parse_duration(text).unwrap()), text);
        }
    }
}
