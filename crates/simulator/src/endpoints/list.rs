//! What `get_rooms` and `get_users` share: the envelope around rows, and the shapes a fault may
//! give it. Never looks into a row.

use crate::fault::{ListShape, Pages, Tweaks};
use crate::form::Form;
use crate::json::write_to;

/// Collects rows of JSON text into one reply.
pub(super) struct List<'a> {
    tweaks: &'a Tweaks,
    /// Which page is asked for, where lists come in pages.
    page: usize,
    rows: Rows,
}

/// An honest list of a million rooms is one text; only a fault needs its rows apart.
enum Rows {
    Joined(String),
    Apart(Vec<String>),
}

impl<'a> List<'a> {
    pub(super) fn new(form: &Form, tweaks: &'a Tweaks) -> Self {
        let whole = tweaks.list.is_none() && tweaks.pages.is_none() && tweaks.limit.is_none();
        let rows = if whole { Rows::Joined(String::new()) } else { Rows::Apart(Vec::new()) };
        let page = form.value("page").and_then(|page| page.parse().ok());
        Self { tweaks, page: page.unwrap_or(1).max(1), rows }
    }

    pub(super) fn push(&mut self, row: String) {
        match &mut self.rows {
            Rows::Joined(rows) => {
                if !rows.is_empty() {
                    rows.push(',');
                }
                rows.push_str(&row);
            }
            Rows::Apart(rows) => rows.push(row),
        }
    }

    pub(super) fn reply(self) -> String {
        let success = self.tweaks.success.as_deref().unwrap_or(r#""true""#);
        let data = match self.rows {
            Rows::Joined(rows) => format!("[{rows}]"),
            Rows::Apart(mut rows) => {
                match self.tweaks.limit {
                    Some((most, false)) => rows.truncate(most),
                    Some((most, true)) => drop(rows.drain(..rows.len().saturating_sub(most))),
                    None => {}
                }
                if let Some(pages) = self.tweaks.pages {
                    let data = paged(pages, self.page, &rows, self.tweaks.next_page.as_deref());
                    return format!(r#"{{"success":{success},{data},"code":200}}"#);
                }
                match self.tweaks.list {
                    Some(shape) => shaped(shape, rows),
                    None => array(&rows),
                }
            }
        };
        format!(r#"{{"success":{success},"data":{data},"code":200}}"#)
    }
}

/// One page, with what Laravel's paginators write beside it.
fn paged(pages: Pages, page: usize, rows: &[String], named: Option<&str>) -> String {
    let last = rows.len().div_ceil(pages.size).max(1);
    let here: Vec<String> =
        rows.iter().skip((page - 1) * pages.size).take(pages.size).cloned().collect();
    let next = match named {
        Some(url) => crate::json::Dialect::default().quoted(url),
        None if page < last => format!("\"/?page={}\"", page + 1),
        None => "null".to_owned(),
    };
    let (data, size, total) = (array(&here), pages.size, rows.len());
    let numbers =
        format!(r#""current_page":{page},"last_page":{last},"per_page":{size},"total":{total}"#);
    if pages.beside {
        return format!(r#""data":{data},"links":{{"next":{next}}},"meta":{{{numbers}}}"#);
    }
    format!(r#""data":{{{numbers},"next_page_url":{next},"data":{data}}}"#)
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
