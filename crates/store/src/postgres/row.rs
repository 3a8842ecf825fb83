//! Reading columns: a value that does not fit is an error about the record, never a panic. Knows no
//! table.

use std::borrow::Cow;
use std::str::FromStr;

use imbabot_bot::DeliveryId;
use imbabot_core::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use crate::error::Result;
pub(super) use crate::rules::{from_json, to_json, unreadable};

/// A column as it is.
pub(super) fn get<'r, T: FromSql<'r>>(row: &'r Row, column: usize) -> Result<T> {
    row.try_get(column).map_err(|_| unreadable(&format!("column {column}")))
}

/// An id of a delivery.
pub(super) fn id(row: &Row, column: usize) -> Result<DeliveryId> {
    let bytes: &[u8] = get(row, column)?;
    let bytes = bytes.try_into().map_err(|_| unreadable("an id of another length"))?;
    Ok(DeliveryId::from_bytes(bytes))
}

/// A number of ImbaChat's, kept bit by bit in a signed integer.
pub(super) fn number(row: &Row, column: usize) -> Result<u64> {
    Ok(get::<i64>(row, column)?.cast_unsigned())
}

/// A small count.
pub(super) fn count(row: &Row, column: usize) -> Result<u32> {
    Ok(u32::try_from(get::<i64>(row, column)?).unwrap_or(u32::MAX))
}

/// An instant.
pub(super) fn instant(row: &Row, column: usize) -> Result<Timestamp> {
    Ok(Timestamp::from_micros(get(row, column)?))
}

/// An instant, if there is one.
pub(super) fn instant_or_none(row: &Row, column: usize) -> Result<Option<Timestamp>> {
    Ok(get::<Option<i64>>(row, column)?.map(Timestamp::from_micros))
}

/// One of our words or names.
pub(super) fn parsed<T: FromStr>(row: &Row, column: usize) -> Result<T> {
    let text: &str = get(row, column)?;
    text.parse().map_err(|_| unreadable(text))
}

/// One of our words or names, if there is one.
pub(super) fn parsed_or_none<T: FromStr>(row: &Row, column: usize) -> Result<Option<T>> {
    let text: Option<&str> = get(row, column)?;
    text.map(|text| text.parse().map_err(|_| unreadable(text))).transpose()
}

/// A text of others as a column can hold it. The database's texts cannot hold the character NUL, and
/// authors' texts, keys and servers' words can: it is written as two others, and so is the first of
/// those two.
pub(super) fn held(text: &str) -> Cow<'_, str> {
    if !text.contains(['\0', '\u{1}']) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace('\u{1}', "\u{1}1").replace('\0', "\u{1}0"))
}

/// The text that [`held`] was given.
pub(super) fn told(text: &str) -> String {
    if !text.contains('\u{1}') {
        return text.to_owned();
    }
    text.replace("\u{1}0", "\0").replace("\u{1}1", "\u{1}")
}
