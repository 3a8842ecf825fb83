//! Values as PHP writes them: numbers as strings, booleans as numbers or words, and five ways to
//! say nothing. What is read here is exact: no number passes through a float.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};

use crate::time::Timestamp;

/// The fields of an object in their order, values undecoded. The last of several wins.
pub(crate) struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Fields<'a> {
    /// Reads one JSON object, whose values are checked and not decoded.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// Takes a field out.
    pub(crate) fn take(&mut self, name: &str) -> Loose<'a> {
        let at = self.0.iter().position(|(known, _)| known == name);
        at.map_or(Loose::Absent, |at| Loose::of(self.0.remove(at).1.get()))
    }

    /// What was not taken. Passwords are never kept.
    pub(crate) fn rest(self) -> Map<String, Value> {
        let kept = self.0.into_iter().filter(|(name, _)| !is_password(name));
        kept.map(|(name, raw)| (name.into_owned(), exact_value(raw.get()))).collect()
    }
}

impl<'de> de::Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::with_capacity(16);
                // Rows have a dozen fields; a row with a million is a trap for a quadratic search.
                let mut index = std::collections::HashMap::new();
                while let Some((Name(name), value)) = map.next_entry::<Name<'de>, &RawValue>()? {
                    if fields.len() == 64 && index.is_empty() {
                        index = fields.iter().enumerate().map(|(i, f)| (f.0.clone(), i)).collect();
                    }
                    let known = if fields.len() < 64 {
                        fields.iter().position(|(known, _)| *known == name)
                    } else {
                        index.get(&name).copied()
                    };
                    match known {
                        Some(at) => fields[at].1 = value,
                        None => {
                            if fields.len() >= 64 {
                                index.insert(name.clone(), fields.len());
                            }
                            fields.push((name, value));
                        }
                    }
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// A key, borrowed where it has no escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de> de::Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(text)))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// A value of which nothing is taken for granted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Loose<'a> {
    /// No such field.
    Absent,
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, as its digits stand there.
    Number(&'a str),
    /// A string.
    Text(Cow<'a, str>),
    /// A string that holds half a surrogate pair or the like.
    BadText,
    /// `[]`, or a longer list.
    List { empty: bool, raw: &'a str },
    /// An object.
    Object(&'a str),
}

impl<'a> Loose<'a> {
    /// Looks at the text of one valid JSON value.
    pub(crate) fn of(raw: &'a str) -> Self {
        let raw = raw.trim_ascii();
        match raw.as_bytes().first() {
            None => Self::Absent,
            Some(b'n') => Self::Null,
            Some(b't') => Self::Bool(true),
            Some(b'f') => Self::Bool(false),
            Some(b'"') => match raw.get(1..raw.len() - 1) {
                // A valid string without escapes stands there as it is meant.
                Some(text) if !text.contains('\\') => Self::Text(Cow::Borrowed(text)),
                _ => serde_json::from_str(raw)
                    .map_or(Self::BadText, |text| Self::Text(Cow::Owned(text))),
            },
            Some(b'[') => Self::List { empty: raw[1..].trim_ascii_start().starts_with(']'), raw },
            Some(b'{') => Self::Object(raw),
            Some(_) => Self::Number(raw),
        }
    }

    /// The ways in which PHP says nothing: `null`, `false`, `""`, `"NULL"`, `-1`, or no field.
    pub(crate) fn is_nothing(&self) -> bool {
        match self {
            Self::Absent | Self::Null | Self::Bool(false) => true,
            Self::Number(digits) => *digits == "-1",
            Self::Text(text) => matches!(text.trim(), "" | "NULL" | "null" | "-1"),
            _ => false,
        }
    }

    /// An id or another number from 0 up.
    pub(crate) fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Number(digits) => digits.parse().ok(),
            Self::Text(text) => {
                // Blanks as `id_in_broken_row` knows them, which reads bytes.
                let text = text.trim_ascii();
                text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
            }
            _ => None,
        }
    }

    /// A number of either sign.
    pub(crate) fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Number(digits) => digits.parse().ok(),
            Self::Text(text) => text.trim().parse().ok(),
            Self::Bool(yes) => Some(i64::from(*yes)),
            _ => None,
        }
    }

    /// Yes or no; `None` for what is neither.
    pub(crate) fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(yes) => Some(*yes),
            Self::Number("1") => Some(true),
            Self::Number("0") => Some(false),
            Self::Text(text) => match text.trim() {
                "1" | "true" | "TRUE" | "True" => Some(true),
                "" | "0" | "false" | "FALSE" | "False" => Some(false),
                _ => None,
            },
            _ => None,
        }
    }

    /// A text; a number is the text of its digits.
    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Number(digits) => Some(digits),
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A date of ImbaChat's, a date with a zone, or seconds since 1970.
    pub(crate) fn as_time(&self) -> Option<Timestamp> {
        let text = self.as_text()?.trim();
        if !text.is_empty() && text.len() <= 12 && text.bytes().all(|b| b.is_ascii_digit()) {
            return text.parse().ok().filter(|s| *s > 0).map(Timestamp::from_seconds);
        }
        Timestamp::parse_imbachat(text).or_else(|| text.parse().ok())
    }

    /// Whether it is one of the dates that MySQL writes for none.
    pub(crate) fn is_zero_date(&self) -> bool {
        matches!(self, Self::Text(text) if text.trim().starts_with("0000-00-00"))
            || matches!(self, Self::Number("0"))
            || matches!(self, Self::Text(text) if text.trim() == "0")
    }
}

/// A value as it came, exactly: a number that the usual types would round is kept as the string of
/// its digits.
pub(crate) fn exact_value(raw: &str) -> Value {
    // Nearly everything is a short scalar, and then the usual way is exact.
    if !may_round(raw) && !raw.trim_ascii_start().starts_with(['{', '[']) {
        return serde_json::from_str(raw).unwrap_or_else(|_| Value::String(raw.to_owned()));
    }
    exact_nested(raw, 0)
}

fn exact_nested(raw: &str, depth: usize) -> Value {
    match Loose::of(raw) {
        Loose::Absent | Loose::Null => Value::Null,
        Loose::Bool(yes) => Value::Bool(yes),
        Loose::Text(text) => Value::String(text.into_owned()),
        Loose::BadText => Value::String(raw.to_owned()),
        Loose::Number(digits) => exact_number(digits),
        // Rows nest 64 deep at most; this only keeps the promise locally.
        Loose::List { .. } | Loose::Object(_) if depth > 64 => Value::String(raw.to_owned()),
        Loose::List { raw, .. } => match serde_json::from_str::<Vec<&RawValue>>(raw) {
            Ok(items) => items.iter().map(|item| exact_nested(item.get(), depth + 1)).collect(),
            Err(_) => Value::String(raw.to_owned()),
        },
        Loose::Object(raw) => match Fields::parse(raw.as_bytes()) {
            Ok(Fields(fields)) => fields
                .into_iter()
                .filter(|(name, _)| !is_password(name))
                .map(|(name, raw)| (name.into_owned(), exact_nested(raw.get(), depth + 1)))
                .collect(),
            Err(_) => Value::String(raw.to_owned()),
        },
    }
}

fn exact_number(digits: &str) -> Value {
    let number = serde_json::from_str::<Number>(digits).ok();
    if let Some(number) = number.filter(|number| number.to_string() == digits) {
        return Value::Number(number);
    }
    // Other spellings of a short number (`1.50`) are the same number; std reads them exactly.
    let short = digits.len() <= 15 && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let read = digits.parse().ok().filter(|_| short).and_then(Number::from_f64);
    read.map_or_else(|| Value::String(digits.to_owned()), Value::Number)
}

/// Whether some number in this text may lose digits in `serde_json`: one with a point, an exponent
/// or many digits. Text inside strings may look like one, which costs a closer look.
fn may_round(raw: &str) -> bool {
    let mut run = 0;
    for b in raw.bytes() {
        run = match b {
            b'0'..=b'9' => run + 1,
            b'.' | b'e' | b'E' if run > 0 => return true,
            _ => 0,
        };
        if run > 18 {
            return true;
        }
    }
    false
}

fn is_password(name: &str) -> bool {
    name.eq_ignore_ascii_case("password")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn php_says_nothing_in_many_ways() {
        for raw in ["null", "false", "\"\"", "\"NULL\"", "-1", "\" \""] {
            assert!(Loose::of(raw).is_nothing(), "{raw}");
        }
        for raw in ["0", "true", "\"x\"", "[]", "{}"] {
            assert!(!Loose::of(raw).is_nothing(), "{raw}");
        }
    }

    #[test]
    fn yes_and_no_come_as_words_numbers_and_strings() {
        for raw in ["true", "1", "\"1\"", "\"true\""] {
            assert_eq!(Loose::of(raw).as_bool(), Some(true), "{raw}");
        }
        for raw in ["false", "0", "\"0\"", "\"false\"", "\"\""] {
            assert_eq!(Loose::of(raw).as_bool(), Some(false), "{raw}");
        }
        for raw in ["null", "2", "\"yes\"", "[]", "{}"] {
            assert_eq!(Loose::of(raw).as_bool(), None, "{raw}");
        }
    }

    #[test]
    fn numbers_are_read_to_the_last_digit() {
        assert_eq!(Loose::of("18446744073709551615").as_u64(), Some(u64::MAX));
        assert_eq!(Loose::of("\"18446744073709551615\"").as_u64(), Some(u64::MAX));
        assert_eq!(Loose::of("18446744073709551616").as_u64(), None);
        assert_eq!(Loose::of("1e3").as_u64(), None);
        assert_eq!(Loose::of("\"\"").as_u64(), None);
        assert_eq!(Loose::of("\"+5\"").as_u64(), None);
        assert_eq!(Loose::of("\"-5\"").as_i64(), Some(-5));
    }

    #[test]
    fn a_value_that_a_double_would_round_is_kept_as_digits() {
        assert_eq!(exact_value("0.1"), json!(0.1));
        assert_eq!(exact_value("12345678901234567890123"), json!("12345678901234567890123"));
        assert_eq!(exact_value("18446744073709551615"), json!(u64::MAX));
        assert_eq!(exact_value("0.12345678901234567890"), json!("0.12345678901234567890"));
        assert_eq!(exact_value("1e999"), json!("1e999"));
        assert_eq!(exact_value("1.50"), json!(1.5));
        assert_eq!(exact_value("-1.391663330225772e-42"), json!("-1.391663330225772e-42"));
        let nested = exact_value(r#"{"a":[1,{"b":123456789012345678901}],"c":"x"}"#);
        assert_eq!(nested, json!({"a":[1,{"b":"123456789012345678901"}],"c":"x"}));
    }

    #[test]
    fn the_last_of_several_keys_wins_and_passwords_are_dropped() {
        let json = br#"{"a":1,"a":2,"password":"x","user_data":[{"PASSWORD":"y","n":1}]}"#;
        let fields = Fields::parse(json).unwrap();
        assert_eq!(Value::Object(fields.rest()), json!({"a":2,"user_data":[{"n":1}]}));
    }

    #[test]
    fn a_million_keys_are_read_in_no_time() {
        let mut json = String::from("{");
        for i in 0..300_000 {
            json.push_str(&format!("\"k{i}\":0,"));
        }
        json.push_str("\"k7\":1}");
        let rest = Fields::parse(json.as_bytes()).unwrap().rest();
        assert_eq!((rest.len(), &rest["k7"]), (300_000, &json!(1)));
    }

    #[test]
    fn dates_come_with_and_without_zone_and_as_seconds() {
        let seconds = |raw| Loose::of(raw).as_time().map(Timestamp::as_seconds);
        assert_eq!(seconds("\"2020-12-19 20:42:07\""), Some(1_608_410_527));
        assert_eq!(seconds("\"2020-12-19T20:42:07.000000Z\""), Some(1_608_410_527));
        assert_eq!(seconds("\"1608275827\""), Some(1_608_275_827));
        assert_eq!(seconds("1608275827"), Some(1_608_275_827));
        assert_eq!(seconds("\"0000-00-00 00:00:00\""), None);
        assert_eq!(seconds("\"yesterday\""), None);
        assert_eq!(seconds("[]"), None);
    }
}
