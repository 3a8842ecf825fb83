//! What a schedule does in a range, by the words of the documentation ("The two odd days").

use std::collections::{BTreeMap, BTreeSet};

use imbabot_bot::schedule::{Dst, Gap, Moved, Repeat};

use super::civil::{DAY, Date};
use super::expression::Expression;
use super::timeline::{Meaning, Timeline};

/// An instant with how a change of clocks bears on it, and whether an `except` date cancels it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) at: i64,
    pub(crate) moved: Option<Moved>,
    pub(crate) excepted: bool,
}

pub(crate) struct Oracle<'a> {
    pub(crate) timeline: &'a Timeline,
    pub(crate) dst: Dst,
    pub(crate) except: &'a BTreeSet<String>,
}

impl Oracle<'_> {
    /// In (`after`, `until`].
    pub(crate) fn cron(&self, expression: &Expression, after: i64, until: i64) -> Vec<Found> {
        let mut found = BTreeMap::new();
        let mut date = Date::of(after - 2 * DAY);
        while date.number * DAY <= until + 2 * DAY {
            if expression.matches_day(date) {
                for hour in (0..24).filter(|hour| expression.hours[*hour]) {
                    for minute in (0..60).filter(|minute| expression.minutes[*minute]) {
                        for second in (0..60).filter(|second| expression.seconds[*second]) {
                            let time = i64::try_from(hour * 3600 + minute * 60 + second).unwrap();
                            self.place(date.number * DAY + time, expression.fixed, &mut found);
                        }
                    }
                }
            }
            date = date.next();
        }
        self.finish(found, after, until)
    }

    /// Once, at this local second.
    pub(crate) fn at(&self, local: i64, after: i64, until: i64) -> Vec<Found> {
        let mut found = BTreeMap::new();
        self.place(local, true, &mut found);
        self.finish(found, after, until)
    }

    /// Every multiple of `period` since 1970.
    pub(crate) fn every(&self, period: i64, after: i64, until: i64) -> Vec<Found> {
        let multiples = (after..=until).filter(|second| second % period == 0);
        self.finish(multiples.map(|second| (second, None)).collect(), after, until)
    }

    fn place(&self, local: i64, fixed: bool, found: &mut BTreeMap<i64, Option<Moved>>) {
        match self.timeline.meaning(local) {
            Meaning::Skipped(seam) => {
                if fixed && self.dst.gap == Gap::Shift {
                    found.insert(seam, Some(Moved::Shifted));
                }
            }
            Meaning::Shown(instants) => {
                let last = instants.len().saturating_sub(1);
                for (pass, at) in instants.into_iter().enumerate() {
                    let chosen = match self.dst.repeat {
                        _ if !fixed => true,
                        Repeat::First => pass == 0,
                        Repeat::Second => pass == last,
                        Repeat::Both => true,
                    };
                    let moved = match (pass, last) {
                        (_, 0) => None,
                        (0, _) => Some(Moved::FirstPass),
                        _ => Some(Moved::SecondPass),
                    };
                    if chosen {
                        found.entry(at).or_insert(moved);
                    }
                }
            }
        }
    }

    fn finish(&self, found: BTreeMap<i64, Option<Moved>>, after: i64, until: i64) -> Vec<Found> {
        found
            .into_iter()
            .filter(|(at, _)| after < *at && *at <= until)
            .map(|(at, moved)| {
                let excepted = !self.except.is_empty()
                    && self.except.contains(&Date::of(at + self.timeline.offset(at)).text());
                Found { at, moved, excepted }
            })
            .collect()
    }
}
