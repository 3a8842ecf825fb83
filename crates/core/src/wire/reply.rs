//! The JSON of a reply that is read whole: the confirmation of `send_msg`, or an error in one of
//! the shapes that ImbaChat's code is known to write.

use super::decode::{decode_message, too_deep};
use super::lenient::{Fields, Loose};
use super::salvage::json_object;
use crate::model::Message;

/// A reply, as far as anyone needs it.
#[derive(Debug)]
pub(crate) struct Reply {
    /// `success`, if it is a yes or a no.
    pub(crate) success: Option<bool>,
    /// `code`, if it is a number.
    pub(crate) code: Option<i64>,
    /// `error`, `errorMsg`, or `message` where that is a text.
    pub(crate) error: Option<String>,
    /// `message` where that is a message with a number.
    pub(crate) message: Option<Message>,
    /// The JSON stood between other text.
    pub(crate) salvaged: bool,
    /// There is an `error` or `errorMsg`; a lone text under `message` is less than that.
    pub(crate) is_error: bool,
}

impl Reply {
    /// Reads a body; `None` if it is not one JSON object, or one that nests too deeply.
    pub(crate) fn parse(body: &[u8]) -> Option<Self> {
        let (json, salvaged) = json_object(body)?;
        if too_deep(json) {
            return None;
        }
        let mut fields = Fields::parse(json).ok()?;
        let error = words(&fields.take("error")).or_else(|| words(&fields.take("errorMsg")));
        let message = fields.take("message");
        Some(Self {
            success: fields.take("success").as_bool(),
            code: fields.take("code").as_i64(),
            is_error: error.is_some(),
            error: error.or_else(|| message.as_text().map(ToOwned::to_owned)),
            message: match message {
                Loose::Object(raw) => decode_message(raw),
                _ => None,
            },
            salvaged,
        })
    }
}

/// What an error field says; `None` if it says nothing.
fn words(value: &Loose<'_>) -> Option<String> {
    match value {
        _ if value.is_nothing() => None,
        Loose::Text(text) => Some(text.clone().into_owned()),
        Loose::Number(digits) if *digits != "0" => Some((*digits).to_owned()),
        Loose::Object(raw) | Loose::List { empty: false, raw } => Some((*raw).to_owned()),
        Loose::Bool(true) | Loose::BadText => Some(String::new()),
        _ => None,
    }
}

/// What a body says to a person: its error text, or else its beginning.
pub(crate) fn words_of(body: &[u8]) -> String {
    match Reply::parse(body).and_then(|reply| reply.error) {
        Some(error) => error,
        // Only 200 characters are shown; a character has four bytes at most.
        None => String::from_utf8_lossy(&body[..body.len().min(1000)]).into_owned(),
    }
}
