//! Bounds: how fast a widget and a room may be spoken to. Even spacing, no bursts; the store keeps
//! the arithmetic, so that a restart forgets nothing.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use imbabot_bot::units::{format_duration, parse_duration};

/// So many within a length of time: `"10/s"`, `"60/m"`, `"6/10m"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    count: u32,
    per: Duration,
}

impl Rate {
    /// `count` within `per`; both at least one (of a millisecond).
    #[must_use]
    pub fn new(count: u32, per: Duration) -> Self {
        Self { count: count.max(1), per: per.max(Duration::from_millis(1)) }
    }

    /// How many.
    #[must_use]
    pub fn count(self) -> u32 {
        self.count
    }

    /// Within what.
    #[must_use]
    pub fn per(self) -> Duration {
        self.per
    }

    /// The space between two.
    #[must_use]
    pub fn interval(self) -> Duration {
        self.per / self.count
    }
}

impl FromStr for Rate {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let shown: String = text.chars().take(60).collect();
        let wrong = |why: &str| {
            format!(
                "{shown:?} is not a rate: {why}; write it as \"5/s\", \"60/m\", \"600/h\" or \"6/10m\""
            )
        };
        let (count, per) =
            text.trim().split_once('/').ok_or_else(|| wrong("the '/' is missing"))?;
        let count: u32 =
            count.trim().parse().map_err(|_| wrong("it does not start with a whole number"))?;
        if count == 0 {
            return Err(wrong("it would let nothing pass"));
        }
        let per = per.trim();
        let length = if per.starts_with(|c: char| c.is_ascii_digit()) {
            parse_duration(per)
        } else {
            parse_duration(&format!("1{per}"))
        };
        let per = length.map_err(|_| wrong("what follows '/' is not a length of time"))?;
        if per.is_zero() {
            return Err(wrong("the length of time is zero"));
        }
        Ok(Self { count, per })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per = format_duration(self.per);
        let unit = per.strip_prefix('1').filter(|unit| unit.chars().all(char::is_alphabetic));
        write!(f, "{}/{}", self.count, unit.unwrap_or(&per))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_reads_what_it_writes() {
        for text in ["10/s", "60/m", "6/10m", "600/h", "1/500ms", "5/1h30m", "1/d"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        assert_eq!("10/s".parse::<Rate>().unwrap().interval(), Duration::from_millis(100));
        for bad in ["", "10", "0/s", "-1/s", "1/", "1/0s", "1/x", "1.5/s"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
    }
}
