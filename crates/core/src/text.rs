//! Texts that cross the border: what imbabot refuses to send, and how foreign text is made safe to
//! show on one line. Nothing here changes a message: a text is sent as it is, or not at all.

use std::fmt;

/// Why a text is not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// There is nothing in it.
    #[error("the text is empty")]
    Empty,
    /// There are only blanks in it; the server would trim it to nothing.
    #[error("the text is only whitespace")]
    Blank,
    /// It contains U+0000, which databases and PHP cut or refuse.
    #[error("the text contains a NUL character at byte {at}")]
    Nul {
        /// The byte at which it stands.
        at: usize,
    },
    /// It has more bytes than allowed.
    #[error("the text has {bytes} bytes; at most {max} are allowed")]
    TooLong {
        /// Its length in UTF-8.
        bytes: usize,
        /// The limit it was held against.
        max: usize,
    },
}

impl TextError {
    /// The stable code of this refusal.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty => "IMB-V-EMPTY",
            Self::Blank => "IMB-V-BLANK",
            Self::Nul { .. } => "IMB-V-NUL",
            Self::TooLong { .. } => "IMB-V-TOO-LONG",
        }
    }
}

/// What may go wrong with a text although it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TextWarning {
    /// The text is `0`, which PHP's `empty()` takes for nothing: the server may refuse it.
    PhpEmpty,
}

impl TextWarning {
    /// The stable code of this warning.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::PhpEmpty => "IMB-V-PHP-EMPTY",
        }
    }
}

impl fmt::Display for TextWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PhpEmpty => {
                f.write_str("the text is \"0\", which PHP may take for no text at all")
            }
        }
    }
}

/// Whether this text can be sent. Control characters other than NUL are the author's business.
///
/// # Errors
///
/// One of [`TextError`]: empty, only whitespace, a NUL, or longer than `max_bytes`.
pub fn validate_text(text: &str, max_bytes: usize) -> Result<Option<TextWarning>, TextError> {
    if text.is_empty() {
        return Err(TextError::Empty);
    }
    if text.len() > max_bytes {
        return Err(TextError::TooLong { bytes: text.len(), max: max_bytes });
    }
    if let Some(at) = memchr::memchr(0, text.as_bytes()) {
        return Err(TextError::Nul { at });
    }
    match text.trim() {
        "" => Err(TextError::Blank),
        "0" => Ok(Some(TextWarning::PhpEmpty)),
        _ => Ok(None),
    }
}

/// Foreign text on one line of a terminal or a log: control characters, escape sequences,
/// direction overrides and invisible characters become `\u{…}`, and what is longer than
/// `max_chars` ends in `…`. The result never has more than `max_chars` characters.
#[must_use]
pub fn escape_foreign(text: &str, max_chars: usize) -> String {
    let mut out = String::with_capacity(text.len().min(max_chars));
    let mut used = 0;
    // Where to cut back to, so that the mark fits.
    let mut cut = 0;
    for c in text.chars() {
        let escaped = match c {
            '\n' => "\\n".to_owned(),
            '\r' => "\\r".to_owned(),
            '\t' => "\\t".to_owned(),
            c if misleads(c) => format!("\\u{{{:x}}}", u32::from(c)),
            c => c.to_string(),
        };
        let width = escaped.chars().count();
        if used + width > max_chars {
            out.truncate(cut);
            if max_chars > 0 {
                out.push('…');
            }
            return out;
        }
        used += width;
        out.push_str(&escaped);
        if used < max_chars {
            cut = out.len();
        }
    }
    out
}

/// Characters that move the cursor, reorder their neighbours or cannot be seen.
fn misleads(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_refused_for_one_named_reason() {
        assert_eq!(validate_text("", 10), Err(TextError::Empty));
        assert_eq!(validate_text(" \n\u{a0}", 10), Err(TextError::Blank));
        assert_eq!(validate_text("a\0b", 10), Err(TextError::Nul { at: 1 }));
        assert_eq!(validate_text("😀😀😀", 11), Err(TextError::TooLong { bytes: 12, max: 11 }));
        assert_eq!(validate_text("😀😀😀", 12), Ok(None));
        assert_eq!(validate_text("a\u{1b}[2J\nb", 20), Ok(None));
    }

    #[test]
    fn a_lone_zero_is_sent_with_a_warning() {
        assert_eq!(validate_text("0", 10), Ok(Some(TextWarning::PhpEmpty)));
        assert_eq!(validate_text("00", 10), Ok(None));
    }

    #[test]
    fn foreign_text_cannot_move_the_cursor_or_reverse_the_line() {
        assert_eq!(escape_foreign("a\u{1b}[2Jb\r\nc", 200), "a\\u{1b}[2Jb\\r\\nc");
        assert_eq!(escape_foreign("abc\u{202e}gpj", 200), "abc\\u{202e}gpj");
        assert_eq!(escape_foreign("\u{feff}Привет 😀", 200), "\\u{feff}Привет 😀");
    }

    #[test]
    fn foreign_text_is_cut_at_whole_characters() {
        assert_eq!(escape_foreign("привет", 6), "привет");
        assert_eq!(escape_foreign("привет", 5), "прив…");
        assert_eq!(escape_foreign("ab\u{1b}", 4), "ab…");
        assert_eq!(escape_foreign("abc", 0), "");
        for max in 0..20 {
            assert!(escape_foreign("x\u{1b}y\u{202e}z\n\n\n", max).chars().count() <= max);
        }
    }
}
