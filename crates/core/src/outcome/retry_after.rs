//! `Retry-After`: seconds, or a date that is held against the reply's own `Date`, so that no clock
//! of ours is asked.

use std::time::Duration;

use crate::time::Timestamp;
use crate::transport::header;

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(3600);

/// How long the server asks to be left alone, within 1 s and 1 h; `None` if it does not say, or
/// names a date without telling its own.
pub(crate) fn retry_after(headers: &[(String, String)]) -> Option<Duration> {
    let value = header(headers, "retry-after")?.trim();
    let wait = if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than fit are a long time too.
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        http_date(value)?.since(server_time(headers)?)
    };
    Some(wait.clamp(SHORTEST, LONGEST))
}

/// The reply's `Date`.
pub(crate) fn server_time(headers: &[(String, String)]) -> Option<Timestamp> {
    http_date(header(headers, "date")?)
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`. The two obsolete forms of HTTP are not read.
fn http_date(text: &str) -> Option<Timestamp> {
    if text.len() > 60 {
        return None;
    }
    let zoned = jiff::fmt::rfc2822::parse(text.trim()).ok()?;
    Some(Timestamp::from_micros(zoned.timestamp().as_microsecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(headers: &[(&str, &str)]) -> Option<u64> {
        let headers: Vec<_> = headers.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
        retry_after(&headers).map(|wait| wait.as_secs())
    }

    #[test]
    fn seconds_are_held_within_a_second_and_an_hour() {
        assert_eq!(after(&[("retry-after", "7")]), Some(7));
        assert_eq!(after(&[("retry-after", "0")]), Some(1));
        assert_eq!(after(&[("retry-after", "99999")]), Some(3600));
        assert_eq!(after(&[("retry-after", "99999999999999999999999")]), Some(3600));
        assert_eq!(after(&[("retry-after", "-5")]), None);
        assert_eq!(after(&[("retry-after", "soon")]), None);
        assert_eq!(after(&[]), None);
    }

    #[test]
    fn a_date_counts_from_the_servers_own_date() {
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(after(&[date, ("retry-after", "Sun, 06 Nov 1994 08:50:37 GMT")]), Some(60));
        assert_eq!(after(&[date, ("retry-after", "Sun, 06 Nov 1994 08:40:37 GMT")]), Some(1));
        assert_eq!(after(&[("retry-after", "Sun, 06 Nov 1994 08:50:37 GMT")]), None);
    }
}
