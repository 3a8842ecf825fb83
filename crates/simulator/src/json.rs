//! Strings and numbers as JSON text, written by hand in the vendor's order of fields. Never reads
//! JSON.

use std::fmt::Write;

/// How `json_encode` was called on the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Dialect {
    /// PHP's defaults: `\/` for a slash, `\u00e9` for everything beyond ASCII.
    pub(crate) php_escapes: bool,
}

impl Dialect {
    /// Appends `text` with its quotes.
    pub(crate) fn string(self, out: &mut String, text: &str) {
        out.push('"');
        for character in text.chars() {
            match character {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '/' if self.php_escapes => out.push_str("\\/"),
                character if character < ' ' || (self.php_escapes && !character.is_ascii()) => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        write_to(out, format_args!("\\u{unit:04x}"));
                    }
                }
                character => out.push(character),
            }
        }
        out.push('"');
    }

    /// The text with its quotes.
    pub(crate) fn quoted(self, text: &str) -> String {
        let mut out = String::with_capacity(text.len() + 2);
        self.string(&mut out, text);
        out
    }
}

/// Appends to a string, which cannot fail.
pub(crate) fn write_to(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    let written = out.write_fmt(arguments);
    debug_assert!(written.is_ok(), "writing to a String does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_quotes_are_escaped() {
        let plain = Dialect::default();
        assert_eq!(plain.quoted("a\"b\\c\n\u{1b}[2J é/"), r#""a\"b\\c\n\u001b[2J é/""#);
    }

    #[test]
    fn php_escapes_slashes_and_everything_beyond_ascii() {
        let php = Dialect { php_escapes: true };
        assert_eq!(php.quoted("é/🎉"), r#""\u00e9\/\ud83c\udf89""#);
    }
}
