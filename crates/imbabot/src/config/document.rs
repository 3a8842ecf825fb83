//! A file as a tree of values. A mistake in the syntax does not hide the others: the line with the
//! mistake is left out and the rest is read again.

use std::ops::Range;

use toml::de::DeTable;

use super::source::{Place, Source};
use super::value::Table;

/// What could be read, and what could not.
pub(crate) struct Document {
    pub(crate) table: Table,
    pub(crate) errors: Vec<SyntaxError>,
    /// Whether the table is worth looking at in spite of the errors.
    pub(crate) usable: bool,
}

/// A mistake in the syntax.
pub(crate) struct SyntaxError {
    pub(crate) message: String,
    pub(crate) span: Range<usize>,
}

/// More mistakes than this are one mistake that was misunderstood.
const MAX_ERRORS: usize = 50;
/// As many lines in a row with mistakes are one mistake: something is not closed.
const MAX_IN_A_ROW: usize = 3;

pub(crate) fn parse(source: &Source, index: usize) -> Document {
    let place = Place::File { source: index, span: 0..0 };
    let mut text = source.text.clone();
    let mut errors: Vec<SyntaxError> = Vec::new();
    let mut lines: Vec<usize> = Vec::new();
    loop {
        let error = match DeTable::parse(&text) {
            Ok(table) => {
                let table = Table::from_toml(table.get_ref(), index, place);
                errors.sort_by_key(|error| error.span.start);
                return Document { table, errors, usable: true };
            }
            Err(error) => error,
        };
        let span = error.span().unwrap_or(text.len()..text.len());
        let line = source.line(last_of(&text, span.start));
        // The parser does not report in order: what is not closed comes first.
        let goes_on = !lines.contains(&line);
        if goes_on {
            lines.push(line);
            errors.push(SyntaxError { message: words(error.message()), span });
        }
        let below = (0..=line).take_while(|n| lines.contains(&(line - n))).count();
        let above = (1..).take_while(|n| lines.contains(&(line + n))).count();
        let in_a_row = (below + above).max(1);
        let unclosed = !goes_on || in_a_row >= MAX_IN_A_ROW;
        if unclosed || errors.len() >= MAX_ERRORS {
            if unclosed {
                errors.truncate(errors.len() + 1 - in_a_row.min(errors.len()));
            }
            return Document { table: Table::new(place), errors, usable: false };
        }
        blank(&mut text, source, line);
    }
}

/// An error at the very end belongs to the last line that says something.
fn last_of(text: &str, offset: usize) -> usize {
    if offset < text.len() { offset } else { text.trim_end().len().saturating_sub(1) }
}

/// Overwrites a line with spaces; after a header all lines up to the next header, which would
/// otherwise fall to the table above.
fn blank(text: &mut String, source: &Source, line: usize) {
    let first = source.line_span(line);
    let is_header = |span: &Range<usize>| source.text[span.clone()].trim_start().starts_with('[');
    let mut span = first.clone();
    if is_header(&first) {
        let mut next = line + 1;
        loop {
            let bounds = source.line_span(next);
            if bounds.start >= source.text.len() || is_header(&bounds) {
                break;
            }
            span.end = bounds.end;
            next += 1;
        }
    }
    let blanks: String =
        text[span.clone()].bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect();
    text.replace_range(span, &blanks);
}

/// The parser's words, on one line.
fn words(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(text: &str) -> (Vec<(usize, String)>, bool) {
        let source = Source::new("x.toml".into(), text.into());
        let document = parse(&source, 0);
        let found = document.errors.iter().map(|e| (source.line(e.span.start), e.message.clone()));
        (found.collect(), document.usable)
    }

    #[test]
    fn every_broken_line_is_found_and_the_rest_is_read() {
        let (found, usable) = errors("a = \nb = 1\n[c\nd = 1\n[e]\nf = \"x\ng = 2\n");
        assert_eq!(found.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 3, 6]);
        assert!(usable);
    }

    #[test]
    fn what_is_not_closed_is_one_mistake() {
        let (found, usable) = errors("a = [1, 2\nb = 1\nc = 2\nd = 3\ne = 4\n");
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(!usable);
        let (found, _) = errors("a = \"\"\"x\nb = 1\nc = 2\n");
        assert_eq!(found.len(), 1, "{found:?}");
    }

    #[test]
    fn a_key_given_twice_is_a_mistake_of_syntax() {
        let (found, _) = errors("[poll]\nrooms = \"1s\"\nrooms = \"2s\"\n");
        assert_eq!(found, [(3, "duplicate key".to_owned())]);
    }
}
