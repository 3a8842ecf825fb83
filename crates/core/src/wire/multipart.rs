//! A `multipart/form-data` body, as `curl --form` sends it, in one piece of known length. Streaming
//! it costs a third more per request, and no form of ours is large.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use memchr::memmem;

/// The fields of a form, in the order in which they are sent. Its `Debug` shows no values.
#[derive(Clone, Default)]
pub struct Form {
    fields: Vec<(Cow<'static, str>, String)>,
}

impl Form {
    /// Adds a field.
    pub fn add(&mut self, name: impl Into<String>, value: impl Into<String>) -> &mut Self {
        self.fields.push((Cow::Owned(name.into()), value.into()));
        self
    }

    /// Adds a field if there is a value for it.
    pub fn add_some(&mut self, name: &'static str, value: Option<impl Into<String>>) -> &mut Self {
        if let Some(value) = value {
            self.fields.push((Cow::Borrowed(name), value.into()));
        }
        self
    }

    /// Whether there is a field of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(known, _)| known == name)
    }

    /// The content type, which names the boundary, and the body. The same fields always make the
    /// same bytes: the boundary is a hash of them, and another one where it occurs in a value.
    #[must_use]
    pub fn encode(&self) -> (String, Bytes) {
        let boundary = self.boundary();
        let capacity: usize = self.fields.iter().map(|(n, v)| n.len() + v.len() + 120).sum();
        let mut body = Vec::with_capacity(capacity + 60);
        for (name, value) in &self.fields {
            body.extend_from_slice(b"--");
            body.extend_from_slice(boundary.as_bytes());
            body.extend_from_slice(b"\r\nContent-Disposition: form-data; name=\"");
            body.extend_from_slice(quoted(name).as_bytes());
            body.extend_from_slice(b"\"\r\n\r\n");
            body.extend_from_slice(value.as_bytes());
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"--");
        body.extend_from_slice(boundary.as_bytes());
        body.extend_from_slice(b"--\r\n");
        (format!("multipart/form-data; boundary={boundary}"), body.into())
    }

    fn boundary(&self) -> String {
        let mut hasher = DefaultHasher::new();
        self.fields.hash(&mut hasher);
        let mut number = hasher.finish();
        loop {
            let boundary = format!("------------------------{number:016x}");
            let occurs = |text: &str| memmem::find(text.as_bytes(), boundary.as_bytes()).is_some();
            if !self.fields.iter().any(|(name, value)| occurs(name) || occurs(value)) {
                return boundary;
            }
            number = number.wrapping_add(1);
        }
    }
}

impl std::fmt::Debug for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.fields.iter().map(|(name, _)| name)).finish()
    }
}

/// A name between quotes, escaped as browsers do it.
fn quoted(name: &str) -> Cow<'_, str> {
    if name.contains(['"', '\r', '\n']) {
        Cow::Owned(name.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A"))
    } else {
        Cow::Borrowed(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_looks_as_curl_sends_it() {
        let mut form = Form::default();
        form.add("user_id", "1").add("room_id", "1536").add("message", "api message");
        let (content_type, body) = form.encode();
        let boundary = content_type.strip_prefix("multipart/form-data; boundary=").unwrap();
        let expected = [("user_id", "1"), ("room_id", "1536"), ("message", "api message")]
            .map(|(name, value)| {
                format!(
                    "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
                )
            })
            .concat()
            + &format!("--{boundary}--\r\n");
        assert_eq!(body, expected);
        assert_eq!(boundary.len(), 40, "curl's boundaries have 40 characters");
    }

    #[test]
    fn the_same_fields_make_the_same_bytes() {
        let form = |text: &str| Form::default().add("message", text).encode();
        assert_eq!(form("a"), form("a"));
        assert_ne!(form("a").0, form("b").0);
    }

    #[test]
    fn a_value_cannot_end_its_own_part() {
        let mut form = Form::default();
        form.add("message", "x");
        let boundary = form.boundary();
        // Whatever boundary is drawn for this value, the value does not hold it.
        form.fields[0].1 = format!("x\r\n--{boundary}--\r\n");
        let (content_type, body) = form.encode();
        let drawn = content_type.split('=').nth(1).unwrap();
        assert_eq!(memmem::find_iter(&body, drawn).count(), 2);
    }

    #[test]
    fn a_name_cannot_break_its_header() {
        let (_, body) = Form::default().add("a\"\r\nX: y", "v").encode();
        let body = String::from_utf8(body.to_vec()).unwrap();
        assert!(body.contains("name=\"a%22%0D%0AX: y\""), "{body}");
    }
}
