//! Whether the text that the server echoes is the text that was sent. Servers trim and escape;
//! anything beyond that is a difference. Nothing is decided here: a difference is a flag.

use std::borrow::Cow;

/// Equal, but for HTML escaping, line ends and blanks around.
pub(super) fn same_text(sent: &str, echo: &str) -> bool {
    let (sent, echo) = (trim(sent), trim(echo));
    if sent == echo {
        return true;
    }
    let sent_lines = sent.replace("\r\n", "\n");
    let echo_lines = echo.replace("\r\n", "\n");
    let once = unescape(&echo_lines);
    trim(&once) == sent_lines || trim(&once) == trim(&unescape(&sent_lines))
}

/// What PHP's `trim` and ours take away.
fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || c == '\0' || c == '\u{b}')
}

/// The entities that `htmlspecialchars`, `htmlentities` and numeric escapes make of plain text.
fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('&') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        // The longest entity read here has eight characters between & and ;.
        let end = rest.bytes().take(11).position(|b| b == b';');
        match end.and_then(|end| Some((end, entity(&rest[1..end])?))) {
            Some((end, c)) => {
                out.push(c);
                rest = &rest[end + 1..];
            }
            None => {
                out.push('&');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

fn entity(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        "nbsp" => Some('\u{a0}'),
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaping_and_trimming_make_no_difference() {
        assert!(same_text("a <b> & 'c' \"d\"", "a &lt;b&gt; &amp; &#039;c&#039; &quot;d&quot;"));
        assert!(same_text("  hello \n", "hello"));
        assert!(same_text("a\r\nb", "a\nb"));
        assert!(same_text("😀", "&#128512;"));
        assert!(same_text("😀", "&#x1F600;"));
        assert!(same_text("5 &lt; 6", "5 &lt; 6"));
        assert!(same_text("5 &lt; 6", "5 &amp;lt; 6"));
    }

    #[test]
    fn other_words_are_a_difference() {
        assert!(!same_text("hello", "hell"));
        assert!(!same_text("😀", "?"));
        assert!(!same_text("a &bogus; b", "a b"));
        assert!(!same_text("&é;", "&"));
    }
}
