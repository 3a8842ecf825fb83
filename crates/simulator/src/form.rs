//! The fields of a request, as PHP would see them: query string and body, multipart or
//! urlencoded, the last value of a name wins. A body it cannot read has no fields.

mod multipart;
mod urlencoded;

/// Named values of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Form {
    fields: Vec<(String, String)>,
}

impl Form {
    pub(crate) fn parse(query: &str, content_type: &str, body: &[u8]) -> Self {
        let mut fields = urlencoded::parse(query.as_bytes());
        let (media_type, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
        let media_type = media_type.trim().to_ascii_lowercase();
        if media_type == "multipart/form-data" {
            let boundary = multipart::boundary(parameters);
            fields.extend(boundary.map(|b| multipart::parse(&b, body)).unwrap_or_default());
        } else if media_type == "application/x-www-form-urlencoded" {
            fields.extend(urlencoded::parse(body));
        }
        Self { fields }
    }

    /// The value as it came: for texts.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.fields.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The value without the quotes and blanks some clients leave around it: for ids and filters.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        let value = self.text(name)?.trim();
        let bare = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        Some(bare.unwrap_or(value))
    }

    /// The value, unless PHP's `empty()` holds: missing, `""` and `"0"`.
    pub(crate) fn non_empty(&self, name: &str) -> Option<&str> {
        self.value(name).filter(|value| !php_empty(value))
    }
}

/// PHP's `empty()` for a string.
pub(crate) fn php_empty(text: &str) -> bool {
    text.is_empty() || text == "0"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_two_equal_names_wins_and_the_body_beats_the_query() {
        let form = Form::parse("a=1", "application/x-www-form-urlencoded", b"a=2&a=3");
        assert_eq!(form.text("a"), Some("3"));
    }

    #[test]
    fn literal_quotes_are_tolerated_around_ids_and_kept_in_texts() {
        let form = Form::parse("", "application/x-www-form-urlencoded", b"user_id=%221%22");
        assert_eq!(form.value("user_id"), Some("1"));
        assert_eq!(form.text("user_id"), Some("\"1\""));
    }

    #[test]
    fn a_zero_is_empty_as_in_php() {
        let form = Form::parse("", "application/x-www-form-urlencoded", b"a=0&b=&c=00");
        assert_eq!(form.non_empty("a"), None);
        assert_eq!(form.non_empty("b"), None);
        assert_eq!(form.non_empty("c"), Some("00"));
    }

    #[test]
    fn a_json_body_has_no_fields() {
        assert_eq!(Form::parse("", "application/json", b"{\"a\":1}"), Form::default());
    }
}
