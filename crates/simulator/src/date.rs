//! Dates as ImbaChat and HTTP write them, from unix seconds and back. Knows no zone but UTC and
//! never asks what time it is.

const DAY: i64 = 86_400;
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// `2020-12-19 20:42:07`, as in `created_at`.
pub(crate) fn sql(unix: i64) -> String {
    let (year, month, day) = civil(unix.div_euclid(DAY));
    let (hour, minute, second) = clock_face(unix);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// `Sat, 19 Dec 2020 20:42:07 GMT`, as in the `Date` header.
pub(crate) fn http(unix: i64) -> String {
    let days = unix.div_euclid(DAY);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = clock_face(unix);
    let weekday = WEEKDAYS[days.rem_euclid(7) as usize];
    let month = MONTHS[(month - 1) as usize];
    format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

/// Unix seconds of `2020-12-19 20:42:07` or `2020-12-19`.
pub(crate) fn parse_sql(text: &str) -> Option<i64> {
    let (date, time) = text.trim().split_once([' ', 'T']).unwrap_or((text.trim(), "00:00:00"));
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut time = time.splitn(3, ':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    let plausible = (1..=12).contains(&month) && (1..=31).contains(&day);
    plausible.then(|| days(year, month, day) * DAY + hour * 3600 + minute * 60 + second)
}

fn clock_face(unix: i64) -> (i64, i64, i64) {
    let second = unix.rem_euclid(DAY);
    (second / 3600, second / 60 % 60, second % 60)
}

/// Year, month and day of a day counted from 1970-01-01 (Hinnant's `civil_from_days`).
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vendors_room_was_opened_at_the_second_its_pipe_names() {
        assert_eq!(sql(1_608_410_527), "2020-12-19 20:42:07");
        assert_eq!(parse_sql("2020-12-19 20:42:07"), Some(1_608_410_527));
    }

    #[test]
    fn an_http_date_names_its_weekday() {
        assert_eq!(http(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(http(1_608_410_527), "Sat, 19 Dec 2020 20:42:07 GMT");
    }

    #[test]
    fn every_day_of_two_centuries_reads_back() {
        for day in -30_000..60_000 {
            assert_eq!(parse_sql(&sql(day * DAY + 3661)), Some(day * DAY + 3661));
        }
    }
}
