//! Values as they were given, each with its place: a tree that file, environment and flags build
//! together, before anything is understood.

use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::source::Place;

/// A value and where it comes from.
#[derive(Debug, Clone)]
pub(crate) struct Value {
    pub(crate) data: Data,
    pub(crate) place: Place,
}

/// What TOML can say.
#[derive(Debug, Clone)]
pub(crate) enum Data {
    Text(String),
    Integer(i128),
    Float(f64),
    Flag(bool),
    Date(String),
    List(Vec<Value>),
    Table(Table),
}

/// Keys and values, in the order in which they were given.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) entries: Vec<Entry>,
    /// Its header, its braces, or the key that made it.
    pub(crate) place: Place,
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_place: Place,
    pub(crate) value: Value,
}

impl Value {
    pub(crate) fn text(text: impl Into<String>, place: Place) -> Self {
        Self { data: Data::Text(text.into()), place }
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        match &self.data {
            Data::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn as_table(&self) -> Option<&Table> {
        match &self.data {
            Data::Table(table) => Some(table),
            _ => None,
        }
    }

    /// What it is, for a sentence that begins with "found". Texts are cut and escaped.
    pub(crate) fn describe(&self) -> String {
        match &self.data {
            Data::Text(text) => format!("the text {}", quoted(text)),
            Data::Integer(number) => format!("the number {number}"),
            Data::Float(number) => format!("the number {number}"),
            Data::Flag(flag) => format!("{flag}"),
            Data::Date(date) => format!("the date {date}"),
            Data::List(_) => "a list".into(),
            Data::Table(_) => "a table".into(),
        }
    }

    /// The same as JSON; what JSON cannot say is an error with its place.
    pub(crate) fn to_json(&self) -> Result<serde_json::Value, (Place, String)> {
        Ok(match &self.data {
            Data::Text(text) | Data::Date(text) => text.as_str().into(),
            Data::Flag(flag) => (*flag).into(),
            Data::Integer(number) => serde_json::Number::from_i128(*number)
                .map(serde_json::Value::Number)
                .ok_or_else(|| (self.place.clone(), "the number is too large".to_owned()))?,
            Data::Float(number) => {
                serde_json::Number::from_f64(*number).map(serde_json::Value::Number).ok_or_else(
                    || (self.place.clone(), format!("{number} is no number to count with")),
                )?
            }
            Data::List(list) => {
                serde_json::Value::Array(list.iter().map(Self::to_json).collect::<Result<_, _>>()?)
            }
            Data::Table(table) => serde_json::Value::Object(
                table
                    .entries
                    .iter()
                    .map(|entry| Ok((entry.key.clone(), entry.value.to_json()?)))
                    .collect::<Result<_, (Place, String)>>()?,
            ),
        })
    }
}

/// A foreign text in quotation marks: escaped, and cut at 80 characters.
pub(crate) fn quoted(text: &str) -> String {
    let shown: String = text.chars().take(80).collect();
    let more = if shown.len() < text.len() { "…" } else { "" };
    format!("{shown:?}{more}")
}

impl Table {
    pub(crate) fn new(place: Place) -> Self {
        Self { entries: Vec::new(), place }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Value> {
        self.entries.iter_mut().find(|entry| entry.key == key).map(|entry| &mut entry.value)
    }

    /// Replaces what the key had.
    pub(crate) fn set(&mut self, key: &str, value: Value) {
        match self.entries.iter_mut().find(|entry| entry.key == key) {
            Some(entry) => {
                entry.key_place = value.place.clone();
                entry.value = value;
            }
            None => self.entries.push(Entry {
                key: key.to_owned(),
                key_place: value.place.clone(),
                value,
            }),
        }
    }

    /// The document as a tree of ours, in the order of the file.
    pub(crate) fn from_toml(table: &DeTable<'_>, source: usize, place: Place) -> Self {
        let mut entries: Vec<Entry> = table
            .iter()
            .map(|(key, value)| Entry {
                key: key.get_ref().to_string(),
                key_place: Place::File { source, span: key.span() },
                value: Value::from_toml(value, &Home::File(source)),
            })
            .collect();
        entries.sort_by_key(|entry| match &entry.key_place {
            Place::File { span, .. } => span.start,
            _ => 0,
        });
        Self { entries, place }
    }
}

/// Where the parts of a parsed value are to be: at their spans in a file, or all at one place.
enum Home {
    File(usize),
    Elsewhere(Place),
}

impl Value {
    fn from_toml(value: &Spanned<DeValue<'_>>, home: &Home) -> Self {
        let place = match home {
            Home::File(source) => Place::File { source: *source, span: value.span() },
            Home::Elsewhere(place) => place.clone(),
        };
        let data = match value.get_ref() {
            DeValue::String(text) => Data::Text(text.to_string()),
            DeValue::Integer(number) => Data::Integer(
                i128::from_str_radix(number.as_str(), number.radix()).unwrap_or(i128::MAX),
            ),
            DeValue::Float(number) => Data::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(flag) => Data::Flag(*flag),
            DeValue::Datetime(date) => Data::Date(date.to_string()),
            DeValue::Array(list) => {
                Data::List(list.iter().map(|value| Self::from_toml(value, home)).collect())
            }
            DeValue::Table(table) => Data::Table(match home {
                Home::File(source) => Table::from_toml(table, *source, place.clone()),
                Home::Elsewhere(_) => Table {
                    entries: table
                        .iter()
                        .map(|(key, value)| Entry {
                            key: key.get_ref().to_string(),
                            key_place: place.clone(),
                            value: Self::from_toml(value, home),
                        })
                        .collect(),
                    place: place.clone(),
                },
            }),
        };
        Self { data, place }
    }

    /// A value written in TOML outside of a file.
    pub(crate) fn parse(text: &str, place: &Place) -> Option<Self> {
        let value = DeValue::parse(text).ok()?;
        Some(Self::from_toml(&value, &Home::Elsewhere(place.clone())))
    }
}

/// The place of a variable or a flag.
pub(crate) fn variable(name: &str) -> Place {
    Place::Variable(Arc::from(name))
}
