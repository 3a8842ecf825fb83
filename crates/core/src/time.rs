//! An instant as imbabot writes it: microseconds since the Unix epoch, RFC 3339 in UTC. This
//! module never asks what time it is; that is the engine's clock.

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An instant in UTC with microseconds. Displayed as `2026-03-30T07:00:00.000000Z`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(i64);

/// Why a text is not an instant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an instant; write it as 2026-03-30T07:00:00Z")]
pub struct InvalidTimestamp {
    text: String,
}

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);
    /// The earliest instant that is handled: the beginning of the year 1.
    pub const MIN: Self = Self(-62_135_596_800_000_000);
    /// The latest instant that is handled: the last microsecond of the year 9998.
    pub const MAX: Self = Self(253_370_764_799_999_999);

    /// From microseconds since the Unix epoch; instants outside `MIN..=MAX` become the nearest of
    /// the two.
    #[must_use]
    pub fn from_micros(micros: i64) -> Self {
        Self(micros).max(Self::MIN).min(Self::MAX)
    }

    /// From seconds since the Unix epoch, limited like [`Timestamp::from_micros`].
    #[must_use]
    pub fn from_seconds(seconds: i64) -> Self {
        Self::from_micros(seconds.saturating_mul(1_000_000))
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub fn as_micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    #[must_use]
    pub fn as_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// How long after `earlier` this is; zero if it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Without needless zeros: `2026-03-30T07:00:00Z`, with a fraction only where there is one.
    /// This form names occurrences.
    #[must_use]
    pub fn compact(self) -> String {
        self.to_jiff().to_string()
    }

    /// Reads ImbaChat's `2020-12-19 20:42:07`: no zone is written, and the unix time inside the
    /// same room's `pipe` shows that it is UTC.
    #[must_use]
    pub fn parse_imbachat(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.len() > 40 || text.starts_with("0000") {
            return None;
        }
        let civil: jiff::civil::DateTime = text.parse().ok()?;
        let zoned = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        Some(Self::from_micros(zoned.timestamp().as_microsecond()))
    }

    fn to_jiff(self) -> jiff::Timestamp {
        // The bounds of this type lie inside those of jiff, so the fallback is never taken.
        jiff::Timestamp::from_microsecond(self.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}", self.to_jiff())
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.compact())
    }
}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;
    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        text.trim()
            .parse::<jiff::Timestamp>()
            .map(|t| Self::from_micros(t.as_microsecond()))
            .map_err(|_| InvalidTimestamp { text: text.chars().take(60).collect() })
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self::from_micros(self.0.saturating_add(micros))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;
    fn sub(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self::from_micros(self.0.saturating_sub(micros))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_reads_what_it_writes() {
        let t = Timestamp::from_micros(1_774_854_000_000_001);
        assert_eq!(t.to_string(), "2026-03-30T07:00:00.000001Z");
        assert_eq!(t.to_string().parse::<Timestamp>().unwrap(), t);
        assert_eq!(Timestamp::from_seconds(1_774_854_000).compact(), "2026-03-30T07:00:00Z");
    }

    #[test]
    fn imbachat_writes_utc_without_saying_so() {
        // The pipe of the same room ends in 1608410527.
        let t = Timestamp::parse_imbachat("2020-12-19 20:42:07").unwrap();
        assert_eq!(t.as_seconds(), 1_608_410_527);
        assert_eq!(Timestamp::parse_imbachat("0000-00-00 00:00:00"), None);
        assert_eq!(Timestamp::parse_imbachat("yesterday"), None);
    }

    #[test]
    fn the_ends_of_time_hold() {
        assert_eq!(Timestamp::MAX + Duration::MAX, Timestamp::MAX);
        assert_eq!(Timestamp::MIN - Duration::MAX, Timestamp::MIN);
        assert_eq!(Timestamp::MAX.to_string(), "9998-12-31T23:59:59.999999Z");
        assert_eq!(Timestamp::MIN.to_string(), "0001-01-01T00:00:00.000000Z");
    }
}
