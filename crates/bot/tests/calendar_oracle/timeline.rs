//! A zone over a range of years as a list of spans of constant offset, found by asking the tz
//! database for the offset again and again; and what a local time means on it.

use jiff::tz::TimeZone;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) from: i64,
    /// Exclusive.
    pub(crate) to: i64,
    pub(crate) offset: i64,
}

pub(crate) struct Timeline {
    pub(crate) spans: Vec<Span>,
}

/// What the clocks on the walls make of a local time.
#[derive(Debug, PartialEq)]
pub(crate) enum Meaning {
    /// It is shown at these instants.
    Shown(Vec<i64>),
    /// It is not shown: the clocks jump over it at this instant.
    Skipped(i64),
}

impl Timeline {
    /// `probe` is the distance in seconds at which the database is asked.
    pub(crate) fn of(zone: &str, from: i64, to: i64, probe: i64) -> Self {
        let zone = TimeZone::get(zone).unwrap();
        let offset = |second: i64| -> i64 {
            i64::from(zone.to_offset(jiff::Timestamp::from_second(second).unwrap()).seconds())
        };
        let mut spans = vec![Span { from, to, offset: offset(from) }];
        let mut at = from;
        while at < to {
            let next = (at + probe).min(to);
            let (before, after) = (offset(at), offset(next));
            if before != after {
                // Somewhere in between: the first second with the new offset.
                let (mut low, mut high) = (at, next);
                while high - low > 1 {
                    let middle = low + (high - low) / 2;
                    match offset(middle) == before {
                        true => low = middle,
                        false => high = middle,
                    }
                }
                assert_eq!(offset(high), after, "two changes within {probe} s: ask more often");
                spans.last_mut().unwrap().to = high;
                spans.push(Span { from: high, to, offset: after });
            }
            at = next;
        }
        Self { spans }
    }

    pub(crate) fn meaning(&self, local: i64) -> Meaning {
        // Those that the local time can lie in: no zone is two days off.
        let first = self.spans.partition_point(|span| span.to + 2 * 86_400 <= local);
        let last = self.spans.partition_point(|span| span.from - 2 * 86_400 <= local);
        let near = &self.spans[first..last];
        if let [span] = near {
            return Meaning::Shown(vec![local - span.offset]);
        }
        let shown: Vec<i64> = near
            .iter()
            .filter(|span| (span.from..span.to).contains(&(local - span.offset)))
            .map(|span| local - span.offset)
            .collect();
        if !shown.is_empty() {
            return Meaning::Shown(shown);
        }
        let seam = near.iter().zip(&near[1..]).find(|(before, after)| {
            before.to + before.offset <= local && local < after.from + after.offset
        });
        match seam {
            Some((_, after)) => Meaning::Skipped(after.from),
            // Before the first second of the timeline, or after its last.
            None => Meaning::Shown(Vec::new()),
        }
    }

    pub(crate) fn offset(&self, second: i64) -> i64 {
        self.spans[self.spans.partition_point(|span| span.to <= second)].offset
    }

    /// The instants at which the offset changes.
    pub(crate) fn seams(&self) -> Vec<i64> {
        self.spans.iter().skip(1).map(|span| span.from).collect()
    }

    /// A local second beside each seam, in the gap or the repeat where there is one.
    pub(crate) fn odd_times(&self) -> Vec<i64> {
        self.spans
            .iter()
            .zip(self.spans.iter().skip(1))
            .map(|(a, b)| b.from + (a.offset + b.offset).div_euclid(2))
            .collect()
    }
}
