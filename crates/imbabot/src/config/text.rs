//! Templates in the file: compiled once however often they are given, each mistake at its place in
//! the text.

use imbabot_bot::Template;
use imbabot_bot::template::TemplateError;

use super::code::Code;
use super::source::Place;
use super::walk::{Fault, Part, Walk};

/// What the text is for: it says which variables there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum For {
    /// `room`, `schedule` and `occurrence`.
    Announcement,
    /// `room` and `event`.
    Rule,
}

impl For {
    fn parse(self, text: &str) -> Result<Template, TemplateError> {
        match self {
            Self::Announcement => Template::announcement(text),
            Self::Rule => Template::room_event(text),
        }
    }
}

/// The template that a text is, if it is one.
pub(crate) fn compile(
    walk: &mut Walk<'_>,
    part: &Part<'_>,
    key: &str,
    text: &str,
    place: &Place,
    what: For,
) -> Option<Template> {
    if text.trim().is_empty() {
        let called = part.called(key, place);
        let fault = Fault::new(Code::BadTemplate, place, format!("{called}: the text is empty"));
        walk.error(fault.hint("write what is to be said"));
        return None;
    }
    if let Some(template) = walk.templates.get(&(what, text.to_owned())) {
        return Some(template.clone());
    }
    match what.parse(text) {
        Ok(template) => {
            walk.templates.insert((what, text.to_owned()), template.clone());
            Some(template)
        }
        Err(why) => {
            let place = place_in_template(walk, place, text, &why);
            let called = part.called(key, &place);
            let why = why.to_string();
            let (message, hint) = match why.split_once("; ") {
                Some((message, hint)) => (message, Some(hint.to_owned())),
                None => (why.as_str(), None),
            };
            let fault = Fault::new(Code::BadTemplate, &place, format!("{called}: {message}"));
            walk.error(fault.maybe_hint(hint));
            None
        }
    }
}

/// Where in the file a mistake of a template is: at the variable it names, or else on its line.
fn place_in_template(walk: &Walk<'_>, place: &Place, text: &str, why: &TemplateError) -> Place {
    let Place::File { source, span } = place else { return place.clone() };
    let Some(file) = walk.sources.get(*source) else { return place.clone() };
    let is_file = span.is_empty();
    let raw = if is_file { 0..file.text.len() } else { span.clone() };
    let Some(content) = file.text.get(raw.clone()) else { return place.clone() };
    let why_text = why.to_string();
    let named = why_text.split('`').nth(1).filter(|name| !name.is_empty());
    if let Some(at) = named.and_then(|name| content.find(name).map(|at| at..at + name.len())) {
        return place.within(raw.start + at.start..raw.start + at.end);
    }
    let Some(line) = why.line() else { return place.clone() };
    if !is_file && !text.contains('\n') {
        return place.clone();
    }
    // A newline right after the opening quotes is not part of a text in three quotes.
    let skipped = ["\"\"\"\n", "'''\n", "\"\"\"\r\n", "'''\r\n"];
    let skip = usize::from(skipped.iter().any(|quotes| content.starts_with(quotes)));
    let start = raw.start;
    let number = file.line(start) + line - 1 + if is_file { 0 } else { skip };
    let bounds = file.line_span(number);
    place.within(bounds.start.max(start)..bounds.end.max(start))
}
