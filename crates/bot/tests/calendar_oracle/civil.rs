//! Dates as numbers of days since 1970, by counting: no library is asked.

pub(crate) const DAY: i64 = 86_400;

pub(crate) fn is_leap(year: i64) -> bool {
    year % 4 == 0 && year % 100 != 0 || year % 400 == 0
}

pub(crate) fn length_of(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// A date on which a calendar is read day by day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Date {
    pub(crate) year: i64,
    pub(crate) month: i64,
    pub(crate) day: i64,
    /// Days since 1970-01-01.
    pub(crate) number: i64,
}

impl Date {
    pub(crate) fn first_of(year: i64) -> Self {
        let number = match year >= 1970 {
            true => (1970..year).map(|y| 365 + i64::from(is_leap(y))).sum(),
            false => -(year..1970).map(|y| 365 + i64::from(is_leap(y))).sum::<i64>(),
        };
        Self { year, month: 1, day: 1, number }
    }

    /// The date of a local second.
    pub(crate) fn of(second: i64) -> Self {
        let number = second.div_euclid(DAY);
        let mut year = 1970 + number / 366;
        while Self::first_of(year + 1).number <= number {
            year += 1;
        }
        while Self::first_of(year).number > number {
            year -= 1;
        }
        let mut date = Self::first_of(year);
        while date.number + length_of(date.year, date.month) <= number {
            date.number += length_of(date.year, date.month);
            date.month += 1;
        }
        date.day += number - date.number;
        date.number = number;
        date
    }

    pub(crate) fn next(mut self) -> Self {
        self.number += 1;
        self.day += 1;
        if self.day > length_of(self.year, self.month) {
            self.day = 1;
            self.month += 1;
        }
        if self.month > 12 {
            self.month = 1;
            self.year += 1;
        }
        self
    }

    /// 0 is Sunday; the first of January 1970 was a Thursday.
    pub(crate) fn weekday(self) -> i64 {
        (self.number + 4).rem_euclid(7)
    }

    pub(crate) fn is_weekend(self) -> bool {
        matches!(self.weekday(), 0 | 6)
    }

    pub(crate) fn with_day(self, day: i64) -> Self {
        Self { day, number: self.number + day - self.day, ..self }
    }

    pub(crate) fn length(self) -> i64 {
        length_of(self.year, self.month)
    }

    pub(crate) fn text(self) -> String {
        format!("{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

#[test]
fn days_are_counted_as_the_calendar_on_the_wall_counts_them() {
    assert_eq!(Date::of(0).text(), "1970-01-01");
    assert_eq!(Date::of(951_782_400).text(), "2000-02-29");
    assert_eq!(Date::of(1_774_828_800).text(), "2026-03-30");
    assert_eq!(Date::of(1_774_828_800).weekday(), 1);
    assert_eq!(Date::of(-1).text(), "1969-12-31");
    assert_eq!(Date::of(951_782_400).next().text(), "2000-03-01");
    let mut date = Date::first_of(1999);
    for _ in 0..1500 {
        assert_eq!(date, Date::of(date.number * DAY + 5));
        date = date.next();
    }
}
