//! One table: a line per goal, with what was measured, the yardstick, their ratio, and the two marks
//! that the goal sets.

use std::io::Write as _;
use std::time::Duration;

/// A mark that a goal sets.
#[derive(Clone, Copy)]
pub(crate) enum Mark {
    /// As much as this or more.
    AtLeast(f64),
    /// As much as this or less.
    AtMost(f64),
}

impl Mark {
    fn is_met_by(self, ratio: f64) -> bool {
        match self {
            Self::AtLeast(mark) => ratio >= mark,
            Self::AtMost(mark) => ratio <= mark,
        }
    }

    fn words(self) -> String {
        match self {
            Self::AtLeast(mark) => format!("≥ {mark}"),
            Self::AtMost(mark) => format!("≤ {mark}"),
        }
    }
}

/// One goal.
pub(crate) struct Line {
    /// Its number and what it is about.
    pub(crate) goal: String,
    /// What was measured.
    pub(crate) ours: String,
    /// Against what.
    pub(crate) yardstick: String,
    /// The figure of the goal.
    pub(crate) ratio: f64,
    /// What is to hold.
    pub(crate) hold: Mark,
    /// What is reached for.
    pub(crate) reach: Mark,
}

/// Prints the lines below a title.
pub(crate) fn print(title: &str, lines: &[Line]) {
    let mut rows =
        vec![["goal", "ours", "yardstick", "ratio", "hold", "reach", ""].map(String::from)];
    for line in lines {
        let verdict = match (line.reach.is_met_by(line.ratio), line.hold.is_met_by(line.ratio)) {
            (true, _) => "reached",
            (false, true) => "holds",
            (false, false) => "MISSED",
        };
        rows.push([
            line.goal.clone(),
            line.ours.clone(),
            line.yardstick.clone(),
            format!("{:.2}", line.ratio),
            line.hold.words(),
            line.reach.words(),
            verdict.into(),
        ]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..7).map(|column| width(column).unwrap_or(0)).collect();
    say(&format!("\n{title}\n"));
    for row in &rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        say(cells.join("  ").trim_end());
    }
}

/// A line for people.
pub(crate) fn say(text: &str) {
    // Nobody reads on at the other end of a closed pipe.
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// A time as people read it.
pub(crate) fn time(seconds: f64) -> String {
    format!("{:.2?}", Duration::from_secs_f64(seconds))
}

/// The middle one of these; the lower one of two.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}
