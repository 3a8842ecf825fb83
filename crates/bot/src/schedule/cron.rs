//! Cron expressions: 5 fields, or 6 with seconds first, read and searched by croner, on a timeline
//! without zones. What a zone makes of the result is the calendar's business.

mod field;
mod shared;

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;

use field::FIELDS;

/// A cron expression. Day of month and day of week, both restricted, match either; as in Vixie cron a
/// field that begins with `*`, `*/2` too, is not restricted in this sense, and both have to match.
///
/// Whoever reads the same expression shares one: a pattern of croner's takes 5 kB.
#[derive(Clone)]
pub struct Cron(Arc<Read>);

/// An expression that was read.
struct Read {
    expression: String,
    pattern: croner::Cron,
    /// Found when it is first asked for: it takes some searching.
    period: OnceLock<Option<Duration>>,
    /// Neither hour nor minute has a wildcard or a step.
    fixed: bool,
    /// What was searched last, from where to where: nothing lies between. Thousands of schedules
    /// that share an expression mostly ask for the same next match.
    last: Mutex<Option<(i64, i64)>>,
}

/// Why a text is not a cron expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CronError {
    message: String,
    column: usize,
}

impl CronError {
    /// Where in the expression, in characters counted from 1.
    #[must_use]
    pub fn column(&self) -> usize {
        self.column
    }
}

/// No expression that a person writes is longer; a hostile one ends here.
const MAX_LENGTH: usize = 512;
/// How many steps are looked at to find the shortest period.
const PERIOD_STEPS: usize = 64;
/// The beginning of the year 4972. In the 28 years from here to croner's end, the year 5000, each kind of
/// year comes (leap or not, and on which weekday it begins): a date that is not in them is in none.
const LAST_CYCLE: i64 = 94_733_971_200;

impl Cron {
    /// Whether hour and minute are plain numbers, lists or ranges: such times are moved over a
    /// clock change, others run in elapsed time.
    #[must_use]
    pub fn is_fixed_time(&self) -> bool {
        self.0.fixed
    }

    /// The first match at or after `civil`, both in seconds since the epoch as if local time were
    /// UTC; `None` if there is none before the year 5000.
    pub(crate) fn next_civil(&self, civil: i64) -> Option<i64> {
        let last = || self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((from, to)) = *last()
            && (from..=to).contains(&civil)
        {
            return Some(to);
        }
        let start = jiff::Timestamp::from_second(civil).ok()?.to_zoned(TimeZone::UTC);
        let next = self.0.pattern.find_next_occurrence(&start, true).ok()?;
        let next = next.timestamp().as_second();
        *last() = Some((civil, next));
        Some(next)
    }

    pub(crate) fn shortest_period(&self) -> Option<Duration> {
        *self.0.period.get_or_init(|| self.search_shortest_period())
    }

    fn search_shortest_period(&self) -> Option<Duration> {
        // From the start of a leap year: 64 steps see the shape of every usual expression.
        let mut last = self.next_civil(946_684_800)?;
        let mut shortest = None;
        for _ in 0..PERIOD_STEPS {
            let Some(next) = self.next_civil(last + 1) else { break };
            let step = next - last;
            shortest = Some(shortest.map_or(step, |s: i64| s.min(step)));
            last = next;
        }
        shortest.and_then(|s| u64::try_from(s).ok()).map(Duration::from_secs)
    }
}

impl FromStr for Cron {
    type Err = CronError;
    fn from_str(text: &str) -> Result<Self, CronError> {
        let error = |column: usize, message: String| Err(CronError { message, column });
        if let Some(known) = shared::known(text) {
            return Ok(Self(known));
        }
        if text.len() > MAX_LENGTH {
            return error(1, format!("a cron expression has at most {MAX_LENGTH} characters"));
        }
        let fields: Vec<(usize, &str)> = fields(text);
        if fields.first().is_some_and(|(_, field)| field.starts_with('@')) {
            return error(
                1,
                "nicknames such as @daily are not read; write the five fields: \"0 0 * * *\""
                    .into(),
            );
        }
        if fields.len() != 5 && fields.len() != 6 {
            return error(
                1,
                format!(
                    "a cron expression has 5 fields (minute hour day-of-month month day-of-week), or 6 with seconds first; this has {}",
                    fields.len()
                ),
            );
        }
        let joined: Vec<&str> = fields.iter().map(|(_, field)| *field).collect();
        let joined = joined.join(" ");
        if let Some(known) = shared::known(&joined) {
            return Ok(Self(known));
        }
        let mut numbers = Vec::with_capacity(fields.len());
        for ((column, field), kind) in fields.iter().zip(&FIELDS[6 - fields.len()..]) {
            match kind.read(field) {
                Ok(read) => numbers.push(read),
                Err(why) => {
                    let shown: String = field.chars().take(60).collect();
                    let name = kind.name;
                    let message = format!("the {name} field {shown:?} cannot be read: {why}");
                    return error(*column, message);
                }
            }
        }
        let days = [&numbers[fields.len() - 3], &numbers[fields.len() - 1]];
        let pattern = match parser(days).parse(&numbers.join(" ")) {
            Ok(pattern) => pattern,
            Err(cause) => return error(1, cause.to_string()),
        };
        let clock = &fields[fields.len() - 5..fields.len() - 3];
        let fixed = clock.iter().all(|(_, field)| !field.contains(['*', '/', '?']));
        let read = Read {
            expression: joined,
            pattern,
            period: OnceLock::new(),
            fixed,
            last: Mutex::default(),
        };
        let cron = Self(Arc::new(read));
        if cron.next_civil(LAST_CYCLE).is_none() {
            return error(
                fields[fields.len() - 3].0,
                "the expression fits no date of any year, so it would never fire".into(),
            );
        }
        Ok(Self(shared::keep(cron.0)))
    }
}

/// One that reads expressions with these days of month and of week.
fn parser(days: [&String; 2]) -> CronParser {
    // croner takes `*` alone for no restriction, so that "*/2" and "MON" would match either.
    let both = days.iter().any(|day| day.starts_with('*'));
    CronParser::builder()
        .seconds(Seconds::Optional)
        .year(Year::Disallowed)
        .dom_and_dow(both)
        .build()
}

/// The fields with the columns at which they start, counted from 1.
fn fields(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut column = 1;
    for part in text.split(char::is_whitespace) {
        if !part.is_empty() {
            found.push((column, part));
        }
        column += part.chars().count() + 1;
    }
    found
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.expression)
    }
}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cron({})", self.0.expression)
    }
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.expression == other.0.expression
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> (usize, String) {
        let error = text.parse::<Cron>().unwrap_err();
        (error.column(), error.to_string())
    }

    #[test]
    fn an_error_names_the_field_and_its_column() {
        assert_eq!(error("0 25 * * *").0, 3);
        assert!(error("0 25 * * *").1.contains("the hour field \"25\""));
        assert_eq!(error("0  9 * * MON-FRY").0, 10);
        assert!(error("0 9 * *").1.contains("this has 4"));
        assert!(error("0 0 0 1 1 * 2027").1.contains("this has 7"));
        assert!(error("@daily").1.contains("0 0 * * *"));
    }

    #[test]
    fn an_expression_that_never_fires_is_refused() {
        assert!(error("0 0 30 2 *").1.contains("never fire"));
        assert!("0 0 29 2 *".parse::<Cron>().is_ok());
    }

    #[test]
    fn sunday_is_zero_and_seven() {
        let at = |text: &str| text.parse::<Cron>().unwrap().next_civil(1_774_828_800);
        assert_eq!(at("0 0 * * 0"), at("0 0 * * 7"));
        assert_eq!(at("0 0 * * SUN"), at("0 0 * * 7"));
    }

    #[test]
    fn hour_and_minute_decide_whether_a_time_is_fixed() {
        let fixed = |text: &str| text.parse::<Cron>().unwrap().is_fixed_time();
        assert!(fixed("30 2 * * *"));
        assert!(fixed("0 9-17 * * *"));
        assert!(fixed("*/10 0 9 * * *"));
        assert!(!fixed("*/15 2 * * *"));
        assert!(!fixed("0 * * * *"));
    }

    #[test]
    fn every_other_day_and_monday_is_both_as_in_vixie_cron() {
        let day = |text: &str, from: i64| {
            (text.parse::<Cron>().unwrap().next_civil(from).unwrap() - 1_774_828_800) / 86_400
        };
        // 30 March 2026 is a Monday; the next one on an odd day of a month is 13 April.
        let monday = 1_774_828_800;
        assert_eq!(day("0 0 */2 * MON", monday), 14);
        assert_eq!(day("0 0 */1 * MON", monday + 1), 7);
        assert_eq!(day("0 0 13 * */5", monday), 167);
        // Neither begins with `*`: either is enough.
        assert_eq!(day("0 0 1-31/2 * MON", monday + 1), 1);
        assert_eq!(day("0 0 13 * FRI", monday), 4);
    }

    #[test]
    fn names_stand_in_their_own_fields_only() {
        assert_eq!(error("MON 9 * * *").0, 1);
        assert_eq!(error("0 JAN * * *").0, 3);
        assert_eq!(error("0 9 1FEB * *").0, 5);
        assert!(error("0 9 * * MAR").1.contains("\"MAR\" is no number, and no name such as SUN"));
        assert!("0 9 * mar-Oct Mon,fri".parse::<Cron>().is_ok());
    }

    #[test]
    fn from_sunday_to_sunday_is_a_sunday() {
        let at = |text: &str| text.parse::<Cron>().unwrap().next_civil(1_774_828_800);
        assert_eq!(at("0 0 * * SUN-SUN"), at("0 0 * * SUN"));
        assert_eq!(at("0 0 * * SAT-SUN"), at("0 0 * * 6,0"));
    }

    #[test]
    fn hostile_expressions_end_in_an_error_or_a_value() {
        for text in [
            "",
            " ",
            "* * * * * *".repeat(100).as_str(),
            "0 0 L * *",
            "0 0 * * 5#9",
            "0-99999999999 * * * *",
            "*/0 * * * *",
            "0 0 31 4,6 *",
            "é * * * *",
            "60 * * * *",
            "5-1 * * * *",
        ] {
            let _ = text.parse::<Cron>();
        }
    }
}
