//! Text that somebody else wrote (a room's name, a user's login) and that a bot may repeat. It is
//! never evaluated and never shown raw by accident.

use std::fmt;

use serde::{Deserialize, Serialize};

/// At most this many characters of one foreign value are repeated in a message: long enough for
/// every name a person chooses, short enough that nobody's name fills the screens of a room.
pub const MAX_CHARS: usize = 200;

/// What happens to markup inside foreign text when it becomes part of a message. The default is
/// `neutralize`: it is readable whether or not a widget escapes HTML itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ForeignMarkup {
    /// `<` and `>` become `‹` and `›`.
    #[default]
    Neutralize,
    /// HTML escapes: `&lt;` and so on.
    Escape,
    /// Left as it is. Only where it is known that nobody else can name rooms.
    Raw,
}

/// Foreign text. Its `Display` is safe to post: control characters (the invisible ones that turn
/// the direction of writing included) are gone, it has at most 200 characters, markup is treated
/// as the widget's `foreign_markup` says.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ForeignText {
    raw: String,
    markup: ForeignMarkup,
}

impl ForeignText {
    /// Wraps a foreign text, to be shown as `markup` says.
    #[must_use]
    pub fn new(raw: impl Into<String>, markup: ForeignMarkup) -> Self {
        Self { raw: raw.into(), markup }
    }

    /// The text as it came: for comparing, never for posting.
    #[must_use]
    pub fn raw(&self) -> &str {
        &self.raw
    }
}

impl fmt::Display for ForeignText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.raw.chars().filter(|c| !is_control(*c));
        for (count, c) in shown.enumerate() {
            if count == MAX_CHARS {
                return f.write_str("…");
            }
            match (self.markup, c) {
                (ForeignMarkup::Neutralize, '<') => f.write_str("‹")?,
                (ForeignMarkup::Neutralize, '>') => f.write_str("›")?,
                (ForeignMarkup::Escape, '<') => f.write_str("&lt;")?,
                (ForeignMarkup::Escape, '>') => f.write_str("&gt;")?,
                (ForeignMarkup::Escape, '&') => f.write_str("&amp;")?,
                (ForeignMarkup::Escape, '"') => f.write_str("&quot;")?,
                (ForeignMarkup::Escape, '\'') => f.write_str("&#39;")?,
                (_, c) => fmt::Write::write_char(f, c)?,
            }
        }
        Ok(())
    }
}

impl PartialEq<str> for ForeignText {
    fn eq(&self, other: &str) -> bool {
        self.raw == other
    }
}

impl PartialEq<&str> for ForeignText {
    fn eq(&self, other: &&str) -> bool {
        self.raw == *other
    }
}

/// Control characters in the wide sense: those of Unicode's class Cc, and the invisible ones that
/// change the direction or the joining of what follows.
fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200B}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}'
            | '\u{2060}'..='\u{2069}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E007F}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(raw: &str, markup: ForeignMarkup) -> String {
        ForeignText::new(raw, markup).to_string()
    }

    #[test]
    fn markup_is_neutralised_unless_it_is_asked_for() {
        let raw = "<b>Team & \"co\"</b>";
        assert_eq!(shown(raw, ForeignMarkup::Neutralize), "‹b›Team & \"co\"‹/b›");
        assert_eq!(
            shown(raw, ForeignMarkup::Escape),
            "&lt;b&gt;Team &amp; &quot;co&quot;&lt;/b&gt;"
        );
        assert_eq!(shown(raw, ForeignMarkup::Raw), raw);
    }

    #[test]
    fn control_characters_and_turned_writing_are_gone() {
        let raw = "a\u{1b}[2J\r\nb\u{202e}c\u{feff}";
        assert_eq!(shown(raw, ForeignMarkup::Raw), "a[2Jbc");
    }

    #[test]
    fn a_megabyte_of_name_is_cut_at_200_characters() {
        let text = shown(&"é".repeat(1 << 20), ForeignMarkup::Neutralize);
        assert_eq!(text.chars().count(), 201);
        assert!(text.ends_with('…'));
    }
}
