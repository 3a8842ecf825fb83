//! What `get_rooms` and `get_users` share: the envelope around rows, and the shapes a fault may
//! give it. Never looks into a row.

use crate::fault::{ListShape, Tweaks};
use crate::json::write_to;

/// Collects rows of JSON text into one reply.
pub(super) struct List<'a> {
    tweaks: &'a Tweaks,
    rows: Rows,
}

/// An honest list of a million rooms is one text; only a fault needs its rows apart.
enum Rows {
    Joined(String),
    Apart(ListShape, Vec<String>),
}

impl<'a> List<'a> {
    pub(super) fn new(tweaks: &'a Tweaks) -> Self {
        let rows = match tweaks.list {
            None => Rows::Joined(String::new()),
            Some(shape) => Rows::Apart(shape, Vec::new()),
        };
        Self { tweaks, rows }
    }

    pub(super) fn push(&mut self, row: String) {
        match &mut self.rows {
            Rows::Joined(rows) => {
                if !rows.is_empty() {
                    rows.push(',');
                }
                rows.push_str(&row);
            }
            Rows::Apart(_, rows) => rows.push(row),
        }
    }

    pub(super) fn reply(self) -> String {
        let success = self.tweaks.success.as_deref().unwrap_or(r#""true""#);
        let data = match self.rows {
            Rows::Joined(rows) => format!("[{rows}]"),
            Rows::Apart(shape, rows) => shaped(shape, rows),
        };
        format!(r#"{{"success":{success},"data":{data},"code":200}}"#)
    }
}

fn shaped(shape: ListShape, mut rows: Vec<String>) -> String {
    match shape {
        ListShape::Empty => "[]".to_owned(),
        ListShape::Null => "null".to_owned(),
        ListShape::False => "false".to_owned(),
        ListShape::Object => "{}".to_owned(),
        ListShape::Map => map_with_gaps(&rows),
        ListShape::Paged => {
            format!(r#"{{"current_page":1,"data":{},"last_page":1}}"#, array(&rows))
        }
        ListShape::Reversed => {
            rows.reverse();
            array(&rows)
        }
        ListShape::Doubled => {
            rows.extend(rows.clone());
            array(&rows)
        }
        ListShape::Half => {
            rows.truncate(rows.len() / 2);
            array(&rows)
        }
        ListShape::BadRow => {
            let middle = rows.len() / 2;
            if let Some(row) = rows.get_mut(middle) {
                *row = r#"{"id":"?","name":{"broken":[true]},"updated_at":false}"#.to_owned();
            }
            array(&rows)
        }
    }
}

fn array(rows: &[String]) -> String {
    format!("[{}]", rows.join(","))
}

/// As PHP encodes an array after `array_filter`: the keys stay, so it is an object.
fn map_with_gaps(rows: &[String]) -> String {
    let mut out = String::from("{");
    for (index, row) in rows.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        write_to(&mut out, format_args!("{comma}\"{}\":{row}", index * 2));
    }
    out.push('}');
    out
}
