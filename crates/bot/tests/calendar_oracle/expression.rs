//! A cron expression as the documentation describes it, read into tables of what matches: 5 fields,
//! or 6 with seconds first; names or numbers; Sunday is 0 or 7; `L`, `W` and `#` for days. Two
//! restricted days match either; a field that begins with `*` restricts nothing in that sense, as in
//! Vixie cron. It reads only what is well formed.

use super::civil::Date;

const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

pub(crate) struct Expression {
    pub(crate) seconds: Vec<bool>,
    pub(crate) minutes: Vec<bool>,
    pub(crate) hours: Vec<bool>,
    months: Vec<bool>,
    days: Vec<DayOfMonth>,
    weekdays: Vec<DayOfWeek>,
    /// Both days are restricted: one that matches either is enough.
    either: bool,
    /// Neither hour nor minute has a wildcard or a step.
    pub(crate) fixed: bool,
}

enum DayOfMonth {
    Plain(Vec<bool>),
    Last,
    LastWorkday,
    NearestWorkday(i64),
}

enum DayOfWeek {
    Plain(Vec<bool>),
    Nth(i64, i64),
    LastOf(i64),
}

/// What `base` or `base/step` selects among 0..=most.
fn plain(item: &str, least: usize, most: usize, names: &[&str], first_name: usize) -> Vec<bool> {
    let (base, step) = match item.split_once('/') {
        Some((base, step)) => (base, step.parse().unwrap()),
        None => (item, 1),
    };
    let number = |text: &str, ends_range: bool| -> usize {
        match names.iter().position(|name| name.eq_ignore_ascii_case(text)) {
            // "FRI-SUN" ends with the Sunday after the Friday.
            Some(0) if ends_range && names.len() == 7 => 7,
            Some(place) => place + first_name,
            None => text.parse().unwrap(),
        }
    };
    let (from, to) = match base.split_once('-') {
        _ if base == "*" => (least, most),
        Some((from, to)) => (number(from, false), number(to, true)),
        None => (number(base, false), number(base, false)),
    };
    assert!(least <= from && from <= to && to <= most, "the test wrote {item:?}");
    (0..=most).map(|n| from <= n && n <= to && (n - from) % step == 0).collect()
}

fn clock(field: &str, most: usize) -> Vec<bool> {
    let mut all = vec![false; most + 1];
    for item in field.split(',') {
        for (n, selected) in plain(item, 0, most, &[], 0).into_iter().enumerate() {
            all[n] |= selected;
        }
    }
    all
}

impl Expression {
    pub(crate) fn read(text: &str) -> Self {
        let mut fields: Vec<&str> = text.split_whitespace().collect();
        if fields.len() == 5 {
            fields.insert(0, "0");
        }
        let [seconds, minutes, hours, days, months, weekdays] = fields[..] else {
            panic!("{text:?} has {} fields", fields.len());
        };
        let mut month_table = vec![false; 13];
        for item in months.split(',') {
            for (n, selected) in plain(item, 1, 12, &MONTHS, 1).into_iter().enumerate() {
                month_table[n] |= selected;
            }
        }
        Self {
            seconds: clock(seconds, 59),
            minutes: clock(minutes, 59),
            hours: clock(hours, 23),
            months: month_table,
            days: days.split(',').map(day_of_month).collect(),
            weekdays: weekdays.split(',').map(day_of_week).collect(),
            either: !days.starts_with('*') && !weekdays.starts_with('*'),
            fixed: ![minutes, hours].iter().any(|f| f.contains('*') || f.contains('/')),
        }
    }

    pub(crate) fn matches_day(&self, date: Date) -> bool {
        if !self.months[usize::try_from(date.month).unwrap()] {
            return false;
        }
        let month = self.days.iter().any(|day| day.matches(date));
        let week = self.weekdays.iter().any(|day| day.matches(date));
        match self.either {
            true => month || week,
            false => month && week,
        }
    }

    /// How many local times a matching day has.
    pub(crate) fn times_per_day(&self) -> usize {
        let count = |table: &[bool]| table.iter().filter(|s| **s).count();
        count(&self.seconds) * count(&self.minutes) * count(&self.hours)
    }
}

fn day_of_month(item: &str) -> DayOfMonth {
    match item.strip_suffix('W') {
        Some("L") => DayOfMonth::LastWorkday,
        Some(day) => DayOfMonth::NearestWorkday(day.parse().unwrap()),
        None if item == "L" => DayOfMonth::Last,
        None => DayOfMonth::Plain(plain(item, 1, 31, &[], 0)),
    }
}

fn day_of_week(item: &str) -> DayOfWeek {
    let day = |text: &str| {
        let table = plain(text, 0, 7, &DAYS, 0);
        i64::try_from(table.iter().position(|s| *s).unwrap() % 7).unwrap()
    };
    if let Some((weekday, nth)) = item.split_once('#') {
        return DayOfWeek::Nth(day(weekday), nth.parse().unwrap());
    }
    match item.strip_suffix('L') {
        Some(weekday) => DayOfWeek::LastOf(day(weekday)),
        None => DayOfWeek::Plain(plain(item, 0, 7, &DAYS, 0)),
    }
}

impl DayOfMonth {
    fn matches(&self, date: Date) -> bool {
        match self {
            Self::Plain(table) => table[usize::try_from(date.day).unwrap()],
            Self::Last => date.day == date.length(),
            Self::LastWorkday => {
                let mut last = date.with_day(date.length());
                while last.is_weekend() {
                    last = last.with_day(last.day - 1);
                }
                date == last
            }
            // The workday nearest to it in the same month, if the month has that day.
            Self::NearestWorkday(wanted) => {
                (1..=date.length()).contains(wanted)
                    && (1..=date.length())
                        .map(|day| date.with_day(day))
                        .filter(|day| !day.is_weekend())
                        .min_by_key(|day| (day.day - wanted).abs())
                        == Some(date)
            }
        }
    }
}

impl DayOfWeek {
    fn matches(&self, date: Date) -> bool {
        match self {
            Self::Plain(table) => {
                let weekday = usize::try_from(date.weekday()).unwrap();
                table[weekday] || weekday == 0 && table[7]
            }
            Self::Nth(weekday, nth) => {
                date.weekday() == *weekday
                    && (1..=date.day)
                        .filter(|day| date.with_day(*day).weekday() == *weekday)
                        .count()
                        == usize::try_from(*nth).unwrap()
            }
            Self::LastOf(weekday) => date.weekday() == *weekday && date.day + 7 > date.length(),
        }
    }
}
