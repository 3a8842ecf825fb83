//! Rows that are no JSON, or not such as anybody could mean: whose they are can often be seen all the
//! same. Reads nothing else of them.

/// The `id` of a row that cannot be decoded, looked for in its bytes; of several the last. `None` if it
/// shows none.
///
/// A row that breaks must not look like a room that is gone.
#[must_use]
pub fn id_in_broken_row(bytes: &[u8]) -> Option<u64> {
    let mut found = None;
    let (mut depth, mut before, mut at) = (0_u32, b' ', 0);
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'"' => {
                let end = string_end(bytes, at);
                let is_key = depth == 1 && matches!(before, b'{' | b',');
                if is_key && bytes.get(at..end) == Some(b"id".as_slice()) {
                    found = number_after_colon(bytes.get(end + 1..).unwrap_or_default()).or(found);
                }
                at = end + 1;
            }
            b'{' | b'[' => depth = depth.saturating_add(1),
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if !byte.is_ascii_whitespace() {
            before = byte;
        }
    }
    found
}

/// Where the string that begins here has its closing quote.
fn string_end(bytes: &[u8], begin: usize) -> usize {
    let mut at = begin;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => return at,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// `: 7`, `:"7"`, `:" 7"`: what a row that can be read may say, too.
fn number_after_colon(rest: &[u8]) -> Option<u64> {
    let rest = rest.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
    let rest = rest.strip_prefix(b"\"").map_or(rest, <[u8]>::trim_ascii_start);
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    if matches!(rest.get(digits), Some(b'.' | b'e' | b'E')) {
        return None;
    }
    std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(row: &str) -> Option<u64> {
        id_in_broken_row(row.as_bytes())
    }

    #[test]
    fn whose_a_broken_row_is_can_be_seen() {
        assert_eq!(id(r#"{"id":7,"name":NaN}"#), Some(7));
        assert_eq!(id(r#"{"name":"\ud800", "id" : "7" }"#), Some(7));
        assert_eq!(id("{\"id\": 7 ,\"name\":\"\u{1}"), Some(7));
        assert_eq!(id(r#"{"id":7,"id":8"#), Some(8));
        assert_eq!(id(r#"{"id":7,"id":" 98","name":NaN}"#), Some(98));
        assert_eq!(id_in_broken_row(b"{\"id\":7,\"name\":\"\xff\"}"), Some(7));
    }

    #[test]
    fn what_only_looks_like_its_id_is_none() {
        for row in [
            "",
            "null",
            "[]",
            "{",
            r#"["id",7]"#,
            r#"{"name":"id","x":7}"#,
            r#"{"name":"\",\"id\":7"}"#,
            r#"{"user":{"id":7}}"#,
            r#"{"id":{"id":7}}"#,
            r#"{"id":1.5}"#,
            r#"{"id":1e3}"#,
            r#"{"id":99999999999999999999}"#,
            r#"{"id":"#,
            r#"{"id""#,
            r#"{"id\"#,
        ] {
            assert_eq!(id(row), None, "{row}");
        }
    }
}
