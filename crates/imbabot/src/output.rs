//! The only place that prints: data on stdout, errors on stderr, tables for people, JSON for
//! machines. Foreign text is escaped before it reaches a terminal.

use std::io::{IsTerminal, Write};

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use imbabot_core::escape_foreign;
use serde_json::{Value, json};

use crate::exit::Failure;

/// The longest foreign text in a cell of a table.
const CELL: usize = 80;

/// Prose is not wider than this.
const WIDTH: usize = 100;

/// How a verb talks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    pub(crate) json: bool,
}

impl Output {
    /// Prints data: JSON where it was asked for, otherwise what `text` makes of it.
    pub(crate) fn data(self, value: &Value, text: impl FnOnce() -> String) {
        if self.json { line(&value.to_string()) } else { line(text().trim_end()) }
    }

    /// Prints a failure on stderr.
    pub(crate) fn failure(self, failure: &Failure) {
        let Failure { code, message, hint, .. } = failure;
        if self.json {
            error_line(
                &json!({"error": {"code": code, "message": message, "hint": hint}}).to_string(),
            );
        } else {
            let hint = hint.as_ref().map(|hint| format!("\n  {hint}")).unwrap_or_default();
            error_line(&format!("imbabot: {code}: {message}{hint}"));
        }
    }
}

/// Whether what people read may have colours.
pub(crate) fn colour() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// A line on stdout. A reader that went away is no error of ours.
pub(crate) fn line(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Bytes on stdout, as they are.
pub(crate) fn bytes(bytes: &[u8]) {
    let _ = std::io::stdout().lock().write_all(bytes);
}

/// Whether the reader of stdout is still there.
pub(crate) fn try_line(text: &str) -> bool {
    writeln!(std::io::stdout().lock(), "{text}").is_ok()
}

/// A line on stderr.
pub(crate) fn error_line(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Foreign text for a terminal.
pub(crate) fn foreign(text: &str) -> String {
    escape_foreign(text, CELL)
}

/// A paragraph beneath a line: indented, and broken between words so that it fits most terminals.
pub(crate) fn wrapped(text: &str, indent: &str) -> String {
    let mut lines = vec![indent.to_owned()];
    for word in text.split(' ') {
        let wide = lines.last().map_or(0, |line| line.chars().count() + 1 + word.chars().count());
        match lines.last_mut() {
            Some(line) if line.len() == indent.len() => line.push_str(word),
            Some(line) if wide <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("{indent}  {word}")),
        }
    }
    lines.join("\n")
}

/// A table without lines, as wide as the terminal allows.
pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().copied());
    let mut count = 0;
    for row in rows {
        table.add_row(row);
        count += 1;
    }
    if count == 0 {
        return "none".into();
    }
    let text = table.to_string();
    // Each cell is padded on both sides; at the edge that is only noise.
    let lines = text.lines().map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end());
    lines.collect::<Vec<_>>().join("\n")
}
