//! `multipart/form-data` as curl, PHP and browsers send it. Files are skipped, as PHP puts them
//! elsewhere; a part without its end is dropped.

/// The boundary among the parameters of the content type.
pub(super) fn boundary(parameters: &str) -> Option<String> {
    let value = parameter(parameters, "boundary")?;
    (!value.is_empty()).then_some(value)
}

pub(super) fn parse(boundary: &str, body: &[u8]) -> Vec<(String, String)> {
    let delimiter = format!("--{boundary}").into_bytes();
    let inner_delimiter = [b"\r\n".as_slice(), &delimiter].concat();
    let mut fields = Vec::new();
    let Some(start) = find(body, &delimiter) else { return fields };
    let mut rest = &body[start + delimiter.len()..];
    // Behind a delimiter stands `--` at the end of all, or a line's end before the next part.
    while !rest.starts_with(b"--") {
        let Some(end) = find(rest, &inner_delimiter) else { break };
        fields.extend(part(&rest[..end]));
        rest = &rest[end + inner_delimiter.len()..];
    }
    fields
}

/// Name and value of a part, from the line's end behind its delimiter on.
fn part(part: &[u8]) -> Option<(String, String)> {
    let headers_end = find(part, b"\r\n\r\n")?;
    let headers = String::from_utf8_lossy(&part[..headers_end]);
    let disposition = headers.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then(|| value.to_owned())
    })?;
    let parameters = disposition.split_once(';')?.1;
    if parameter(parameters, "filename").is_some() {
        return None;
    }
    let value = String::from_utf8_lossy(&part[headers_end + 4..]).into_owned();
    Some((parameter(parameters, "name")?, value))
}

/// A parameter of a header: `name=value` or `name="value"`, where `\"` stands for a quote.
fn parameter(parameters: &str, wanted: &str) -> Option<String> {
    let mut rest = parameters;
    loop {
        let (name, after) = rest.split_once('=')?;
        let name = name.trim_matches([';', ' ', '\t']);
        let (value, after) = parameter_value(after.trim_start());
        if name.eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = after;
    }
}

fn parameter_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(';').unwrap_or(text.len());
        return (text[..end].trim().to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            character => value.push(character),
        }
    }
    (value, "")
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut from = 0;
    while let Some(at) = haystack.get(from..)?.iter().position(|byte| *byte == first) {
        if haystack[from + at..].starts_with(needle) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, expected: &[(&str, &str)]) {
        let expected: Vec<_> = expected
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        assert_eq!(parse("XX", body.as_bytes()), expected);
    }

    #[test]
    fn quoted_and_bare_boundaries_are_found() {
        assert_eq!(boundary(" boundary=----abc").as_deref(), Some("----abc"));
        assert_eq!(boundary(" charset=utf-8; boundary=\"a b\"").as_deref(), Some("a b"));
        assert_eq!(boundary(" charset=utf-8"), None);
    }

    #[test]
    fn a_value_may_hold_line_ends_and_dashes() {
        let body = "--XX\r\nContent-Disposition: form-data; name=\"message\"\r\n\r\n\
                    one\r\n--two\r\n\r\n--XX--\r\n";
        check(body, &[("message", "one\r\n--two\r\n")]);
    }

    #[test]
    fn a_preamble_other_headers_and_bare_names_are_read_over() {
        let body = "hello\r\n--XX\r\nContent-Type: text/plain\r\n\
                    content-disposition: form-data; name=a\r\n\r\n1\r\n--XX--";
        check(body, &[("a", "1")]);
    }

    #[test]
    fn a_file_is_no_field_and_an_escaped_quote_belongs_to_the_name() {
        let body = "--XX\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x.txt\"\r\n\r\n\
                    file\r\n--XX\r\nContent-Disposition: form-data; name=\"a\\\"b\"\r\n\r\n\
                    2\r\n--XX--\r\n";
        check(body, &[("a\"b", "2")]);
    }

    #[test]
    fn a_part_without_its_end_is_dropped() {
        check("--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1", &[]);
        check("", &[]);
        check("--XX--", &[]);
    }
}
