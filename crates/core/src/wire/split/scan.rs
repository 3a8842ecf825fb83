//! Finding the end of a JSON value. Most elements are flat objects without escaped quotes, and for
//! them one search for `}` and one pass that counts quotes is enough, both of which the compiler
//! turns into vector instructions. Everything else goes byte by byte, at any chunk boundary.

/// The length of the object that begins these bytes, if it holds no other object, list or escaped
/// quote and ends here. `None` says nothing: look closer.
pub(super) fn flat_object(bytes: &[u8]) -> Option<usize> {
    let mut from = 1;
    let mut quotes = 0_u8;
    loop {
        let brace = from + memchr::memchr(b'}', bytes.get(from..)?)?;
        let (parity, nested) = survey(&bytes[from..brace], &bytes[from + 1..=brace]);
        if nested {
            return None;
        }
        quotes ^= parity;
        if quotes == 0 {
            return Some(brace + 1);
        }
        // That brace stands inside a string.
        from = brace + 1;
    }
}

/// Whether the number of quotes is odd (1), and whether there is a bracket or a backslash
/// that escapes a quote or a backslash. `next` is the same slice, one byte on.
fn survey(bytes: &[u8], next: &[u8]) -> (u8, bool) {
    let mut quotes = 0_u8;
    let mut nested = 0_u8;
    for (&byte, &next) in bytes.iter().zip(next) {
        quotes ^= u8::from(byte == b'"');
        // '{' is 0x7b and '[' is 0x5b, '}' 0x7d and ']' 0x5d: a bracket that closes what was never
        // opened ends the object for the walk, and so may not be passed over here.
        nested |= u8::from(byte | 0x20 == b'{') | u8::from(byte | 0x20 == b'}');
        nested |= u8::from(byte == b'\\') & (u8::from(next == b'"') | u8::from(next == b'\\'));
    }
    (quotes, nested != 0)
}

/// A walk through one value that may pause anywhere.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Scan {
    depth: u32,
    scalar: bool,
    in_string: bool,
    escaped: bool,
}

impl Scan {
    /// Before the first byte of a value, which is this one.
    pub(super) fn begin(byte: u8) -> Self {
        Self { scalar: !matches!(byte, b'"' | b'{' | b'['), ..Self::default() }
    }

    /// Walks on; the number of bytes up to the value's end, or `None` if it does not end here.
    pub(super) fn run(&mut self, bytes: &[u8]) -> Option<usize> {
        if self.scalar {
            return bytes
                .iter()
                .position(|b| matches!(b, b',' | b']' | b'}' | b' ' | b'\n' | b'\r' | b'\t'));
        }
        let mut at = 0;
        while at < bytes.len() {
            if self.escaped {
                self.escaped = false;
                at += 1;
            } else if self.in_string {
                at += memchr::memchr2(b'"', b'\\', &bytes[at..])?;
                self.escaped = bytes[at] == b'\\';
                self.in_string = self.escaped;
                at += 1;
                if !self.in_string && self.depth == 0 {
                    return Some(at);
                }
            } else {
                at += bytes[at..]
                    .iter()
                    .position(|b| matches!(b, b'"' | b'{' | b'}' | b'[' | b']'))?;
                match bytes[at] {
                    b'"' => self.in_string = true,
                    b'{' | b'[' => self.depth = self.depth.saturating_add(1),
                    _ => self.depth = self.depth.saturating_sub(1),
                }
                at += 1;
                if !self.in_string && self.depth == 0 {
                    return Some(at);
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_object_ends_at_its_own_brace() {
        assert_eq!(flat_object(br#"{"a":1},{"b":2}"#), Some(7));
        assert_eq!(flat_object(br#"{"a":"}"},x"#), Some(9));
        assert_eq!(flat_object(br#"{"a":"\u0041\/"}"#), Some(16));
        assert_eq!(flat_object(b"{}"), Some(2));
    }

    #[test]
    fn what_is_not_flat_or_not_whole_is_left_to_the_walk() {
        for json in [
            r#"{"a":{}}"#,
            r#"{"a":[]}"#,
            r#"{"a":1],}"#,
            r#"{"a":"\"}"}"#,
            r#"{"a":"\\"}"#,
            r#"{"a":1"#,
            "{",
        ] {
            assert_eq!(flat_object(json.as_bytes()), None, "{json}");
        }
    }

    #[test]
    fn the_walk_pauses_anywhere() {
        for json in [r#"{"a":{"b":["]}\"",{}]},"c":"\\"}"#, r#""x\"y""#, "[[[]],{}]"] {
            for cut in 0..=json.len() {
                let (head, tail) = json.as_bytes().split_at(cut);
                let mut scan = Scan::begin(json.as_bytes()[0]);
                match scan.run(head) {
                    Some(end) => assert_eq!((end, cut), (json.len(), json.len())),
                    None => {
                        assert_eq!(scan.run(tail), Some(json.len() - cut), "{json} cut at {cut}");
                    }
                }
            }
        }
    }
}
