//! Files as they were read, and places in them. A source never gives out a line with a secret in
//! it: what it shows has gone through the mask.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::mask;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nobody gave it.
    Default,
    /// A stretch of bytes of a file.
    File { source: usize, span: Range<usize> },
    /// An environment variable, by its name.
    Variable(Arc<str>),
    /// A flag of the command line, by the key it sets.
    Flag(Arc<str>),
}

impl Place {
    /// A part of the same file.
    pub(crate) fn within(&self, span: Range<usize>) -> Self {
        match self {
            Self::File { source, .. } => Self::File { source: *source, span },
            other => other.clone(),
        }
    }
}

/// A file as it was read.
pub(crate) struct Source {
    /// As the user named it.
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    lines: Vec<usize>,
    hidden: Vec<Range<usize>>,
}

/// A line as it may be shown, with a stretch of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Excerpt {
    pub(crate) file: String,
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) text: String,
    pub(crate) span: Range<usize>,
}

/// A line longer than this is shown cut.
const MAX_LINE: usize = 400;

impl Source {
    pub(crate) fn new(path: PathBuf, text: String) -> Self {
        let starts = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(n, _)| n + 1);
        let lines = std::iter::once(0).chain(starts).collect();
        let hidden = mask::hidden(&text);
        Self { path, text, lines, hidden }
    }

    /// Another of the same.
    pub(crate) fn again(&self) -> Self {
        Self::new(self.path.clone(), self.text.clone())
    }

    /// The folder at which relative paths in this file start.
    pub(crate) fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    /// The number of the line, from 1, in which a byte lies.
    pub(crate) fn line(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start <= offset)
    }

    /// The bytes of a line, without its end.
    pub(crate) fn line_span(&self, line: usize) -> Range<usize> {
        let start = self.lines.get(line.wrapping_sub(1)).copied().unwrap_or(self.text.len());
        let end = self.lines.get(line).copied().unwrap_or(self.text.len());
        let length = self.text[start..end].trim_end_matches(['\n', '\r']).len();
        start..start + length
    }

    /// What may be shown of the line in which the span starts.
    pub(crate) fn excerpt(&self, span: &Range<usize>) -> Excerpt {
        let start = self.boundary(span.start);
        let end = self.boundary(span.end.max(start));
        let line = self.line(start);
        let bounds = self.line_span(line);
        let start = start.min(bounds.end);
        let column = self.text[bounds.start..start].chars().count() + 1;
        // Of a very long line only the neighbourhood is looked at.
        let near = self.boundary(start.saturating_sub(MAX_LINE * 4)).max(bounds.start);
        let far = self.boundary(start.saturating_add(MAX_LINE * 4)).min(bounds.end);
        let bounds = near..far;
        let (text, map) = self.shown(&bounds);
        let from = map(start);
        let to = map(end.min(bounds.end)).max(from);
        let (text, span) = cut(text, from..to);
        Excerpt { file: self.path.display().to_string(), line, column, text, span }
    }

    fn boundary(&self, offset: usize) -> usize {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        offset
    }

    /// The masked text of a line, and where a byte of the file lies in it.
    fn shown(&self, bounds: &Range<usize>) -> (String, impl Fn(usize) -> usize) {
        let mut shown = String::new();
        // Pairs of (byte of the file, byte of the shown line) from which on both run alike.
        let mut steps = vec![(bounds.start, 0)];
        let mut from = bounds.start;
        let first = self.hidden.partition_point(|range| range.end <= bounds.start);
        for range in self.hidden.iter().skip(first).take_while(|range| range.start < bounds.end) {
            shown.push_str(&self.text[from..range.start.max(from)]);
            steps.push((range.start.max(bounds.start), shown.len()));
            shown.push_str(mask::MASK);
            from = range.end.min(bounds.end);
            steps.push((from, shown.len()));
        }
        shown.push_str(&self.text[from..bounds.end]);
        let length = shown.len();
        let map = move |offset: usize| {
            let at = steps.partition_point(|(file, _)| *file <= offset).max(1) - 1;
            let limit = steps.get(at + 1).map_or(length, |(_, shown)| *shown);
            let (file, shown) = steps[at];
            (shown + offset.saturating_sub(file)).min(limit)
        };
        (shown, map)
    }
}

/// Keeps the neighbourhood of the span in a line of any length.
fn cut(text: String, span: Range<usize>) -> (String, Range<usize>) {
    if text.len() <= MAX_LINE {
        return (text, span);
    }
    let down = |mut at: usize| {
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let from = down(span.start.saturating_sub(MAX_LINE / 4));
    let to = down((from + MAX_LINE).min(text.len()));
    let span = span.start - from..span.end.min(to) - from;
    (text[from..to].to_owned(), span)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_line_and_a_column_of_characters() {
        let source = Source::new("x.toml".into(), "a = 1\nb = \"é\" # c\n".into());
        let at = source.text.find('#').unwrap();
        let excerpt = source.excerpt(&(at..at + 1));
        assert_eq!((excerpt.line, excerpt.column), (2, 9));
        assert_eq!(&excerpt.text[excerpt.span], "#");
        let end = source.excerpt(&(source.text.len()..source.text.len()));
        assert_eq!((end.line, end.column), (3, 1));
    }

    #[test]
    fn a_secret_on_the_line_is_masked_and_the_caret_stays_right() {
        let text = r#"widget = [{ secret_key = "hunter2", foo = 1 }]"#;
        let source = Source::new("x.toml".into(), text.into());
        let at = text.find("foo").unwrap();
        let excerpt = source.excerpt(&(at..at + 3));
        assert_eq!(excerpt.text, "widget = [{ secret_key = ***, foo = 1 }]");
        assert_eq!(&excerpt.text[excerpt.span], "foo");
    }

    #[test]
    fn a_line_of_a_megabyte_is_cut_around_the_mistake() {
        let text = format!("{}X{}", "é".repeat(300_000), "é".repeat(300_000));
        let source = Source::new("x.toml".into(), text.clone());
        let at = text.find('X').unwrap();
        let excerpt = source.excerpt(&(at..at + 1));
        assert!(excerpt.text.len() <= MAX_LINE);
        assert_eq!(&excerpt.text[excerpt.span], "X");
    }
}
