//! What is wrong with a configuration: located, coded, with advice. A problem never holds a
//! secret: what it repeats of a file has gone through the mask.

use std::fmt;

use serde_json::json;

use super::code::Code;
use super::render;
use super::source::Excerpt;

/// Whether a problem stops the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It does.
    Error,
    /// It does not.
    Warning,
}

/// One thing that is wrong, or at least odd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Its stable code.
    pub code: Code,
    /// What is wrong, with the key it is about.
    pub message: String,
    /// The file, as the user named it.
    pub file: Option<String>,
    /// The line, counted from 1.
    pub line: Option<usize>,
    /// The column in characters, counted from 1.
    pub column: Option<usize>,
    /// What the reader can do about it.
    pub hint: Option<String>,
    /// What stands beside the caret.
    pub label: Option<String>,
    /// Error or warning.
    pub severity: Severity,
    pub(crate) excerpt: Option<Excerpt>,
    /// A second place that has to do with it, and what it has to do.
    pub(crate) also: Option<(Excerpt, String)>,
}

impl Problem {
    /// As the compiler of Rust would show it: the line, a caret, the code and the hint.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        render::problem(self, colour)
    }

    /// `{"code","message","file","line","column","hint"}`.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        json!({
            "code": self.code.as_str(),
            "message": self.message,
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "hint": self.hint,
        })
    }
}

/// One line: code, place and message.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.code)?;
        match (&self.file, self.line, self.column) {
            (Some(file), Some(line), Some(column)) => write!(f, "{file}:{line}:{column}: ")?,
            (Some(file), ..) => write!(f, "{file}: ")?,
            _ => {}
        }
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

/// Everything that is wrong with a configuration, at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    /// What stops the program; never empty.
    pub errors: Vec<Problem>,
    /// What does not.
    pub warnings: Vec<Problem>,
}

impl Problems {
    /// The exit code that belongs to it: 78.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        78
    }

    /// All of them as a person reads them, with a closing line that counts them.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        render::report(&self.errors, &self.warnings, colour)
    }

    /// The errors as JSON objects.
    #[must_use]
    pub fn errors_json(&self) -> serde_json::Value {
        to_json(&self.errors)
    }

    /// The warnings as JSON objects.
    #[must_use]
    pub fn warnings_json(&self) -> serde_json::Value {
        to_json(&self.warnings)
    }
}

/// A list of problems as JSON objects.
#[must_use]
pub fn to_json(problems: &[Problem]) -> serde_json::Value {
    problems.iter().map(Problem::to_json).collect()
}

/// A line each.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.errors.iter().enumerate() {
            if n > 0 {
                writeln!(f)?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
