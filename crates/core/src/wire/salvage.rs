//! Finding the one JSON object of a reply among what PHP prints around it: a byte order mark,
//! `)]}'`, warnings before or after. Two objects are no reply: nobody could say which one counts.

use serde::de::IgnoredAny;

/// The object, and whether anything but blanks stood around it. `None` if there is none, it is
/// broken, or there are several.
pub(crate) fn json_object(body: &[u8]) -> Option<(&[u8], bool)> {
    let trimmed = body.trim_ascii();
    if trimmed.starts_with(b"{") {
        if let Some(object) = object_at(trimmed) {
            let rest = &trimmed[object.len()..];
            return next_object(rest).is_none().then_some((object, !rest.is_empty()));
        }
        return None;
    }
    let start = next_object(trimmed)?;
    let object = object_at(&trimmed[start..])?;
    next_object(&trimmed[start + object.len()..]).is_none().then_some((object, true))
}

/// The object that begins here, if it is whole.
fn object_at(bytes: &[u8]) -> Option<&[u8]> {
    let mut stream = serde_json::Deserializer::from_slice(bytes).into_iter::<IgnoredAny>();
    stream.next()?.ok()?;
    bytes.get(..stream.byte_offset())
}

/// Where a JSON object begins: a brace and then a key or the closing brace. A warning may well
/// name a `{closure}`.
fn next_object(bytes: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b'{', bytes).find(|at| {
        let inside = bytes[at + 1..].trim_ascii_start();
        matches!(inside.first(), Some(b'"' | b'}'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(body: &str) -> Option<(&str, bool)> {
        json_object(body.as_bytes()).map(|(json, flag)| (std::str::from_utf8(json).unwrap(), flag))
    }

    #[test]
    fn an_object_alone_is_taken_as_it_is() {
        assert_eq!(found(" {\"a\":1}\n"), Some(("{\"a\":1}", false)));
    }

    #[test]
    fn what_php_prints_around_is_left_out_and_flagged() {
        for body in [
            "\u{feff}{\"a\":1}",
            ")]}'\n{\"a\":1}",
            "<br />\n<b>Warning</b>: in <b>x.php</b> on line 3<br />\n{\"a\":1}",
            "Deprecated: {closure}() in x.php\n{\"a\":1}",
            "{\"a\":1}\n<b>Notice</b>: {closure}",
        ] {
            assert_eq!(found(body), Some(("{\"a\":1}", true)), "{body}");
        }
    }

    #[test]
    fn two_objects_or_half_a_one_are_nothing() {
        for body in
            ["{\"a\":1}{\"a\":2}", "{\"a\":1", "", "null", "[1]", "x {\"a\":1} {}", "{\"a\":NaN}"]
        {
            assert_eq!(found(body), None, "{body}");
        }
    }
}
