//! The instants of a schedule in a range: one pure function over (schedule, after, until). It
//! never asks what time it is, and it never steps from "the next after now": a caller that was
//! away enumerates what it missed.
//!
//! A zone is a row of stretches of constant offset. Inside a stretch local time is a plain line,
//! on which croner searches; what a rule makes of the seams is decided at the seams:
//!
//! * a gap (the clock jumps forward): fixed times inside it come at the seam, or not at all;
//! * a repeat (the clock goes back): fixed times come on the first pass, the second or both.
//!
//! Rules with a wildcard or a step in hour or minute run in elapsed time: they have nothing to do
//! at a gap and come on both passes of a repeat.

use std::time::Duration;

use imbabot_core::Timestamp;
use jiff::civil;
use jiff::tz::TimeZone;

use super::{Gap, Repeat, Rule, Schedule};

/// One instant of a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Instant {
    /// The nominal instant, before jitter.
    pub at: Timestamp,
    /// It falls on an `except` date: it is recorded as skipped.
    pub excepted: bool,
    /// How a clock change bears on it.
    pub moved: Option<Moved>,
}

/// How a clock change bears on an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Moved {
    /// Its local time does not exist on that day; this is the first instant after the gap.
    Shifted,
    /// Its local time comes twice on that day; this is the first pass.
    FirstPass,
    /// Its local time comes twice on that day; this is the second pass.
    SecondPass,
}

/// The instants in a range; see [`Schedule::instants`].
#[derive(Debug)]
pub struct Instants<'a> {
    schedule: &'a Schedule,
    after: Timestamp,
    until: Timestamp,
    walk: Walk,
}

#[derive(Debug)]
enum Walk {
    Every { next: i128, period: i128 },
    Local(Box<LocalWalk>),
    Done,
}

/// Where a walk along local time stands.
#[derive(Debug)]
struct LocalWalk {
    stretch: Stretch,
    /// The next local second to look at.
    civil: i64,
    /// Whether the seam at the start of the stretch was dealt with.
    seam_done: bool,
    last: Option<i64>,
}

/// A stretch of constant offset, in seconds since the epoch.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    /// The first second in it; `None` where it has no beginning.
    start: Option<i64>,
    /// The first second after it; `None` where it has no end.
    end: Option<i64>,
    offset: i64,
    offset_before: i64,
    offset_after: i64,
}

impl Stretch {
    /// The stretch that `second` lies in.
    fn around(zone: &TimeZone, second: i64) -> Option<Self> {
        let at = jiff::Timestamp::from_second(second).ok()?;
        let offset = i64::from(zone.to_offset(at).seconds());
        let (mut start, mut offset_before) = (None, offset);
        // Transitions of name only (no change of offset) are no seams.
        let mut probe = at.checked_add(Duration::from_secs(1)).ok()?;
        while let Some(transition) = zone.preceding(probe).next() {
            let before = transition.timestamp().checked_sub(Duration::from_nanos(1)).ok();
            let before = before.map_or(offset, |t| i64::from(zone.to_offset(t).seconds()));
            if before != offset {
                start = Some(transition.timestamp().as_second());
                offset_before = before;
                break;
            }
            probe = transition.timestamp();
        }
        let (mut end, mut offset_after) = (None, offset);
        for transition in zone.following(at) {
            let after = i64::from(transition.offset().seconds());
            if after != offset {
                end = Some(transition.timestamp().as_second());
                offset_after = after;
                break;
            }
            if transition.timestamp().as_second() > second.saturating_add(CENTURY) {
                break;
            }
        }
        Some(Self { start, end, offset, offset_before, offset_after })
    }
}

/// Local time is never further from UTC than this, in seconds.
const WIDEST: i64 = 26 * 3600;
/// Where a zone's offset stays for so long, in seconds, it stays: the rules that go on are yearly.
const CENTURY: i64 = 100 * 366 * 86_400;

impl Rule {
    /// The first local second at or after `civil` that it names, both counted as if local time were
    /// UTC. None for a period, which knows no local time.
    pub(super) fn next_civil(&self, civil: i64) -> Option<i64> {
        match self {
            Self::Cron(cron) => cron.next_civil(civil),
            Self::At(local) => {
                let at = civil_second(local.0)?;
                (at >= civil).then_some(at)
            }
            Self::Every(_) => None,
        }
    }

    /// Whether its times are moved over a clock change; others run in elapsed time.
    pub(super) fn is_fixed(&self) -> bool {
        match self {
            Self::Cron(cron) => cron.is_fixed_time(),
            Self::At(_) | Self::Every(_) => true,
        }
    }
}

impl<'a> Instants<'a> {
    pub(super) fn new(schedule: &'a Schedule, after: Timestamp, until: Timestamp) -> Self {
        let walk = match &schedule.rule {
            Rule::Every(period) => {
                // At least a microsecond: a schedule built by hand must not loop for ever.
                let period = i128::try_from(period.as_micros()).unwrap_or(i128::MAX).max(1);
                let next = (i128::from(after.as_micros()).div_euclid(period) + 1) * period;
                Walk::Every { next, period }
            }
            Rule::Cron(_) | Rule::At(_) => {
                match Stretch::around(&schedule.zone.zone, after.as_seconds()) {
                    Some(stretch) => Walk::Local(Box::new(LocalWalk {
                        stretch,
                        civil: after.as_seconds() + 1 + stretch.offset,
                        // The seam at its start lies at or before `after`.
                        seam_done: true,
                        last: None,
                    })),
                    None => Walk::Done,
                }
            }
        };
        Self { schedule, after, until, walk }
    }

    fn next_every(
        next: &mut i128,
        period: i128,
        until: Timestamp,
    ) -> Option<(Timestamp, Option<Moved>)> {
        if *next > i128::from(until.as_micros()) {
            return None;
        }
        let at = Timestamp::from_micros(i64::try_from(*next).ok()?);
        *next += period;
        Some((at, None))
    }

    fn next_local(&self, walk: &mut LocalWalk) -> Option<(Timestamp, Option<Moved>)> {
        let until = self.until.as_seconds();
        loop {
            if let Some(found) = self.next_in_stretch(walk) {
                let (second, moved) = found;
                if second > until {
                    return None;
                }
                // A shifted time and a time that exists at the seam are one instant.
                if walk.last == Some(second) {
                    continue;
                }
                walk.last = Some(second);
                return Some((Timestamp::from_seconds(second), moved));
            }
            let end = walk.stretch.end.filter(|end| *end <= until)?;
            // The clocks from here on show this local time or a later one.
            let ahead = self.schedule.rule.next_civil(end - WIDEST)? - WIDEST;
            let near = ahead <= end;
            // Whatever lies between has nothing to do, the seams in it neither.
            let go_on = if near { end } else { ahead };
            walk.stretch = Stretch::around(&self.schedule.zone.zone, go_on)?;
            walk.civil = go_on + walk.stretch.offset;
            walk.seam_done = !near;
        }
    }

    fn next_in_stretch(&self, walk: &mut LocalWalk) -> Option<(i64, Option<Moved>)> {
        let stretch = walk.stretch;
        let fixed = self.schedule.rule.is_fixed();
        if !walk.seam_done {
            walk.seam_done = true;
            let start = stretch.start?;
            let (from, to) = (start + stretch.offset_before, start + stretch.offset);
            if fixed
                && from < to
                && self.schedule.policies.dst.gap == Gap::Shift
                && self.schedule.rule.next_civil(from).is_some_and(|civil| civil < to)
            {
                return Some((start, Some(Moved::Shifted)));
            }
        }
        loop {
            let civil = self.schedule.rule.next_civil(walk.civil)?;
            let second = civil - stretch.offset;
            if stretch.end.is_some_and(|end| second >= end) {
                return None;
            }
            walk.civil = civil + 1;
            // The second pass of a repeat at the start, the first pass of one at the end.
            let second_pass =
                stretch.start.is_some_and(|start| civil < start + stretch.offset_before);
            let first_pass = stretch.end.is_some_and(|end| civil >= end + stretch.offset_after);
            let repeat = self.schedule.policies.dst.repeat;
            if fixed && second_pass && repeat == Repeat::First
                || fixed && first_pass && repeat == Repeat::Second
            {
                continue;
            }
            let moved = match (first_pass, second_pass) {
                (true, _) => Some(Moved::FirstPass),
                (_, true) => Some(Moved::SecondPass),
                _ => None,
            };
            return Some((second, moved));
        }
    }
}

fn civil_second(local: civil::DateTime) -> Option<i64> {
    local.to_zoned(TimeZone::UTC).ok().map(|z| z.timestamp().as_second())
}

impl Iterator for Instants<'_> {
    type Item = Instant;

    fn next(&mut self) -> Option<Instant> {
        let mut walk = std::mem::replace(&mut self.walk, Walk::Done);
        let found = match &mut walk {
            Walk::Every { next, period } => Self::next_every(next, *period, self.until),
            Walk::Local(local) => self.next_local(local),
            Walk::Done => None,
        };
        let (at, moved) = found?;
        self.walk = walk;
        debug_assert!(at > self.after && at <= self.until);
        let excepted = !self.schedule.policies.except.is_empty()
            && jiff::Timestamp::from_second(at.as_seconds())
                .map(|t| self.schedule.zone.zone.to_datetime(t).date())
                .is_ok_and(|date| self.schedule.policies.except.contains(&date));
        Some(Instant { at, excepted, moved })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Dst;
    use super::*;

    fn local(schedule: &Schedule, after: &str, until: &str) -> Vec<String> {
        schedule
            .instants(after.parse().unwrap(), until.parse().unwrap())
            .map(|i| schedule.zone().rfc3339(i.at) + if i.excepted { " except" } else { "" })
            .collect()
    }

    fn berlin(expression: &str) -> Schedule {
        Schedule::cron("s", expression).unwrap().timezone("Europe/Berlin").unwrap()
    }

    const SPRING: (&str, &str) = ("2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z");
    const AUTUMN: (&str, &str) = ("2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z");

    #[test]
    fn nine_in_berlin_stays_nine_over_both_changes() {
        let nine = berlin("0 9 * * *");
        assert_eq!(
            local(&nine, SPRING.0, SPRING.1),
            ["2026-03-29T09:00:00+02:00", "2026-03-30T09:00:00+02:00"]
        );
        assert_eq!(
            local(&nine, AUTUMN.0, AUTUMN.1),
            ["2026-10-25T09:00:00+01:00", "2026-10-26T09:00:00+01:00"]
        );
    }

    #[test]
    fn a_time_in_the_gap_comes_once_after_it_or_not_at_all() {
        let shift = berlin("30 2 * * *");
        assert_eq!(
            local(&shift, SPRING.0, SPRING.1),
            ["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"]
        );
        let skip = shift.clone().dst(Dst { gap: Gap::Skip, ..Dst::default() });
        assert_eq!(local(&skip, SPRING.0, SPRING.1), ["2026-03-30T02:30:00+02:00"]);
        // 02:00 is shifted onto 03:00, which exists: one instant, not two.
        let both = berlin("0 2,3 * * *");
        assert_eq!(
            local(&both, "2026-03-29T00:00:00Z", "2026-03-29T02:00:00Z"),
            ["2026-03-29T03:00:00+02:00"]
        );
    }

    #[test]
    fn a_time_that_comes_twice_comes_as_often_as_asked() {
        let at = |repeat| {
            local(
                &berlin("30 2 * * *").dst(Dst { repeat, ..Dst::default() }),
                "2026-10-24T12:00:00Z",
                "2026-10-25T12:00:00Z",
            )
        };
        assert_eq!(at(Repeat::First), ["2026-10-25T02:30:00+02:00"]);
        assert_eq!(at(Repeat::Second), ["2026-10-25T02:30:00+01:00"]);
        assert_eq!(at(Repeat::Both), ["2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00"]);
    }

    #[test]
    fn wildcards_run_in_elapsed_time() {
        let hourly = berlin("30 * * * *");
        assert_eq!(
            local(&hourly, "2026-03-28T23:45:00Z", "2026-03-29T02:00:00Z"),
            ["2026-03-29T01:30:00+01:00", "2026-03-29T03:30:00+02:00"]
        );
        assert_eq!(
            local(&hourly, "2026-10-24T23:45:00Z", "2026-10-25T02:00:00Z"),
            ["2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00"]
        );
    }

    #[test]
    fn a_range_that_starts_inside_a_repeat_neither_loses_nor_doubles() {
        let nine = berlin("*/20 2 * * *");
        let whole = local(&nine, AUTUMN.0, AUTUMN.1);
        for cut in [
            "2026-10-25T00:10:00Z",
            "2026-10-25T01:00:00Z",
            "2026-10-25T00:59:59Z",
            "2026-10-25T01:10:00Z",
        ] {
            let mut parts = local(&nine, AUTUMN.0, cut);
            parts.extend(local(&nine, cut, AUTUMN.1));
            assert_eq!(parts, whole, "cut at {cut}");
        }
    }

    #[test]
    fn every_counts_from_the_epoch() {
        let every = Schedule::every("s", Duration::from_secs(900)).unwrap();
        assert_eq!(
            local(&every, "2026-01-01T00:07:00Z", "2026-01-01T00:30:00Z"),
            ["2026-01-01T00:15:00+00:00", "2026-01-01T00:30:00+00:00"]
        );
    }

    #[test]
    fn once_is_once_in_the_zone() {
        let at =
            Schedule::at("s", "2026-03-29T02:30:00").unwrap().timezone("Europe/Berlin").unwrap();
        assert_eq!(local(&at, SPRING.0, SPRING.1), ["2026-03-29T03:00:00+02:00"]);
        assert!(local(&at, "2026-03-29T01:00:00Z", "2030-01-01T00:00:00Z").is_empty());
        assert!(Schedule::at("s", "2026-03-29T02:30:00Z").is_err());
        assert!(Schedule::at("s", "2026-03-29T02:30:00-05:00").is_err());
    }

    #[test]
    fn exceptions_are_local_dates() {
        let nine = berlin("0 0 * * *").except(["2026-03-29"]).unwrap();
        assert_eq!(
            local(&nine, "2026-03-27T23:30:00Z", "2026-03-29T23:30:00Z"),
            ["2026-03-29T00:00:00+01:00 except", "2026-03-30T00:00:00+02:00"]
        );
        assert!(Schedule::cron("s", "* * * * *").unwrap().except(["25.12.2026"]).is_err());
    }

    #[test]
    fn half_an_hour_of_change_and_a_missing_day_are_no_exceptions() {
        let lord_howe =
            Schedule::cron("s", "15 2 * * *").unwrap().timezone("Australia/Lord_Howe").unwrap();
        assert_eq!(
            local(&lord_howe, "2026-10-03T00:00:00Z", "2026-10-04T00:00:00Z"),
            ["2026-10-04T02:30:00+11:00"]
        );
        let apia = Schedule::cron("s", "0 9 * * *").unwrap().timezone("Pacific/Apia").unwrap();
        assert_eq!(
            local(&apia, "2011-12-29T12:00:00Z", "2011-12-31T00:00:00Z"),
            ["2011-12-29T09:00:00-10:00", "2011-12-31T00:00:00+14:00", "2011-12-31T09:00:00+14:00"]
        );
    }
}
