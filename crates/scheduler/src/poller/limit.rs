//! Whether a list looks as if the server cut it without a word: a count that sticks at a number such
//! as people write into a query. Pure: it is told what each good list held, and says at most once
//! per number that something is odd. It never changes what is believed.

use std::fmt;

/// So many lists in a row have to say the same, where nothing but the number speaks.
const STEADY: u32 = 10;
/// So many lists with rooms that came, and yet with the same number, are enough.
const TURNOVER: u32 = 3;
/// So many lists in a row that name a larger total than they hold: while a list is read, rooms come.
const SHORT: u32 = 3;

/// What of one list speaks for or against a limit of the server.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counted {
    /// The most that one list ever held. A list that held more has no limit there.
    most: u64,
    /// The one count that all lists had, and how many that were; a count that was reached from below
    /// is none of these.
    steady: Option<(u64, u32)>,
    seen: bool,
    turnover: u32,
    short: u32,
    told: Option<u64>,
}

/// What looks cut, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// The server names a larger number than it sends.
    Short { rows: u64, total: u64 },
    /// The count stays while rooms come.
    Turnover { rows: u64 },
    /// The count never was another one.
    Steady { rows: u64 },
}

impl Counted {
    /// What earlier runs saw.
    pub(super) fn remembered(most: u64, told: Option<u64>) -> Self {
        Self { most, told, seen: most > 0, ..Self::default() }
    }

    /// The number that was told, while nothing has contradicted it.
    pub(super) fn told(&self) -> Option<u64> {
        self.told
    }

    /// The most that one list ever held.
    pub(super) fn most(&self) -> u64 {
        self.most
    }

    /// A good list: how many rows it had, how many the server said there are, in how many pages it
    /// came, and whether some of them were not there before.
    pub(super) fn note(
        &mut self,
        rows: u64,
        total: Option<u64>,
        pages: u32,
        came: bool,
    ) -> Option<Cut> {
        let first = !std::mem::replace(&mut self.seen, true);
        if rows > self.most {
            // It holds more than it ever did: what was said of a limit was wrong.
            self.most = rows;
            self.told = None;
            self.turnover = 0;
            self.steady = first.then_some((rows, 0));
        } else if self.steady.is_some_and(|(known, _)| known != rows) {
            self.steady = None;
        }
        self.short = if total.is_some_and(|total| total > rows) { self.short + 1 } else { 0 };
        let cut = self.cut(rows, total, pages, came)?;
        (self.told.replace(rows) != Some(rows)).then_some(cut)
    }

    fn cut(&mut self, rows: u64, total: Option<u64>, pages: u32, came: bool) -> Option<Cut> {
        if let Some(total) = total.filter(|_| self.short >= SHORT) {
            return Some(Cut::Short { rows, total });
        }
        // A server that sends pages has told where they end.
        if pages > 1 || rows < self.most || !is_round(rows) {
            return None;
        }
        self.turnover += u32::from(came);
        if self.turnover >= TURNOVER {
            return Some(Cut::Turnover { rows });
        }
        let (_, polls) = self.steady.as_mut()?;
        *polls += 1;
        (*polls >= STEADY).then_some(Cut::Steady { rows })
    }
}

/// Numbers that people write where they limit something: 100, 200, 250, 500, 1000 and so on.
#[must_use]
pub fn is_round(rows: u64) -> bool {
    let mut digits = rows;
    while digits > 0 && digits.is_multiple_of(10) {
        digits /= 10;
    }
    rows >= 100 && matches!(digits, 1 | 2 | 5 | 25)
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short { rows, total } => {
                write!(
                    f,
                    "the server says that there are {total}, and sends {rows} again and again"
                )
            }
            Self::Turnover { rows } => {
                write!(f, "the list holds exactly {rows} again and again, although new ones come")
            }
            Self::Steady { rows } => {
                write!(f, "the list has never held anything but exactly {rows}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lists of these sizes, none with anything new; at which of them, from 1, something was said.
    fn said(sizes: impl IntoIterator<Item = u64>) -> Vec<(usize, Cut)> {
        let mut counted = Counted::default();
        let note = |(n, rows)| counted.note(rows, None, 1, false).map(|cut| (n + 1, cut));
        sizes.into_iter().enumerate().filter_map(note).collect()
    }

    #[test]
    fn a_list_that_never_was_anything_but_a_round_number_is_told_once() {
        assert_eq!(said([500; 100]), [(10, Cut::Steady { rows: 500 })]);
        assert_eq!(said([100; 9]), []);
        for other in [0, 1, 20, 50, 99, 101, 150, 499, 1001, 1234, 10_500] {
            assert_eq!(said([other; 100]), [], "{other}");
        }
    }

    #[test]
    fn a_site_that_grows_to_a_round_number_or_shrinks_to_one_is_none_of_these() {
        assert_eq!(said((1..=100).chain([100; 1000])), []);
        assert_eq!(said([101].into_iter().chain([100; 1000])), []);
        assert_eq!(said([100, 99, 100].into_iter().chain([100; 1000])), []);
    }

    #[test]
    fn a_count_that_stays_while_rooms_come_is_told_also_where_it_was_reached_from_below() {
        let mut counted = Counted::default();
        for rows in 90..=100 {
            assert_eq!(counted.note(rows, None, 1, true), None);
        }
        // The hundredth came itself.
        assert_eq!(counted.note(100, None, 1, false), None);
        assert_eq!(counted.note(100, None, 1, true), None);
        assert_eq!(counted.note(100, None, 1, true), Some(Cut::Turnover { rows: 100 }));
        assert_eq!(counted.note(100, None, 1, true), None, "once");
        // The limit was raised, or never was one.
        assert_eq!((counted.note(101, None, 1, true), counted.told()), (None, None));
    }

    #[test]
    fn a_total_that_is_not_kept_is_told_whatever_the_number_and_pages_are_believed() {
        let mut counted = Counted::default();
        assert_eq!(counted.note(37, Some(40), 1, false), None);
        assert_eq!(counted.note(37, Some(40), 1, false), None);
        let cut = Cut::Short { rows: 37, total: 40 };
        assert_eq!(counted.note(37, Some(40), 1, false), Some(cut));
        let mut paged = Counted::default();
        assert!((0..100).all(|_| paged.note(500, Some(500), 5, true).is_none()));
    }

    #[test]
    fn what_was_told_before_a_restart_is_not_told_again() {
        let mut counted = Counted::remembered(500, Some(500));
        assert!((0..100).all(|_| counted.note(500, None, 1, true).is_none()));
        let mut grown = Counted::remembered(600, None);
        assert!((0..100).all(|_| grown.note(500, None, 1, true).is_none()));
    }
}
