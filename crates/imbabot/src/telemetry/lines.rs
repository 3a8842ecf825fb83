//! From an event to its line: when, how grave, where in the program, what, and its fields with those of
//! the spans around it (which delivery, which occurrence, which event). Every text is escaped, so that
//! one event is one line whatever somebody wrote into a room's name.

use std::fmt::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use imbabot_core::escape_foreign;
use imbabot_scheduler::{Clock, SystemClock};
use serde_json::{Map, Value, json};
use tracing::field::Visit;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::repeats::{Repeats, Verdict};
use super::sink::Sink;

/// The longest value; what libraries say of themselves at their most talkative may be longer.
const LONGEST: usize = 2_000;

/// A field and its value.
pub(super) type Field = (&'static str, Value);

/// What a line looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Text { colour: bool },
    Json,
}

/// Makes lines of events.
pub(super) struct Lines {
    form: Form,
    clock: SystemClock,
    repeats: Arc<Mutex<Repeats>>,
    sink: Sink,
}

impl Lines {
    pub(super) fn new(form: Form, repeats: Arc<Mutex<Repeats>>, sink: Sink) -> Self {
        Self { form, clock: SystemClock::new(), repeats, sink }
    }
}

/// The fields of a span, kept with it.
struct OfSpan(Fields);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(OfSpan(fields));
        }
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(OfSpan(fields)) = span.extensions_mut().get_mut::<OfSpan>()
        {
            record.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(OfSpan(more)) = span.extensions().get::<OfSpan>() {
                fields.extend(&more.all);
            }
        }
        let metadata = event.metadata();
        let Fields { message, all } = fields;
        if *metadata.level() <= Level::WARN {
            let mut repeats = self.repeats.lock().unwrap_or_else(PoisonError::into_inner);
            let verdict = repeats.judge(&metadata.callsite(), metadata.target(), &all, &message);
            drop(repeats);
            match verdict {
                Verdict::Say => {}
                Verdict::HoldFirst => return self.sink.held(),
                Verdict::Hold => return,
            }
        }
        let at = self.clock.now().to_string();
        self.sink.line(line(self.form, &at, *metadata.level(), metadata.target(), &message, &all));
    }
}

/// A line about the log itself.
pub(super) fn notice(form: Form, target: &str, code: &'static str, text: &str) -> String {
    let at = SystemClock::new().now().to_string();
    line(form, &at, Level::WARN, target, text, &[("code", code.into())])
}

fn line(
    form: Form,
    at: &str,
    level: Level,
    target: &str,
    message: &str,
    fields: &[Field],
) -> String {
    match form {
        Form::Json => {
            let mut object = Map::new();
            object.insert("timestamp".into(), at.into());
            object.insert("level".into(), level.as_str().into());
            object.insert("target".into(), target.into());
            object.insert("message".into(), message.into());
            for (name, value) in fields {
                object.entry(*name).or_insert_with(|| value.clone());
            }
            format!("{}\n", Value::Object(object))
        }
        Form::Text { colour } => {
            let (dim, shade, off) = match colour {
                false => ("", "", ""),
                true => ("\u{1b}[2m", shade(level), "\u{1b}[0m"),
            };
            let mut line = format!("{dim}{at}{off} {shade}{level:>5}{off} {dim}{target}:{off} ");
            line.push_str(message);
            for (name, value) in fields {
                let _ = match value {
                    Value::String(text) if is_bare(text) => {
                        write!(line, " {dim}{name}={off}{text}")
                    }
                    value => write!(line, " {dim}{name}={off}{value}"),
                };
            }
            line.push('\n');
            line
        }
    }
}

fn shade(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\u{1b}[31m",
        Level::WARN => "\u{1b}[33m",
        Level::INFO => "\u{1b}[32m",
        _ => "\u{1b}[2m",
    }
}

/// A text that needs no quotes to be told from what follows it.
fn is_bare(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || "\"'=\\{}".contains(c))
}

/// The message and the fields of an event or a span, escaped.
#[derive(Default)]
struct Fields {
    message: String,
    all: Vec<Field>,
}

impl Fields {
    fn put(&mut self, name: &'static str, value: Value) {
        match (name, value) {
            ("message", Value::String(text)) => self.message = text,
            // What was known by another name to the crate `log`.
            (name, _) if name.starts_with("log.") => {}
            (name, value) => match self.all.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => *known = value,
                None => self.all.push((name, value)),
            },
        }
    }

    fn extend(&mut self, more: &[Field]) {
        for (name, value) in more {
            if !self.all.iter().any(|(known, _)| known == name) {
                self.all.push((name, value.clone()));
            }
        }
    }

    fn text(&mut self, name: &'static str, text: &str) {
        self.put(name, escape_foreign(text, LONGEST).into());
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        self.text(field.name(), value);
    }

    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
        self.text(field.name(), &format!("{value:?}"));
    }

    fn record_bool(&mut self, field: &tracing::field::Field, value: bool) {
        self.put(field.name(), value.into());
    }

    fn record_i64(&mut self, field: &tracing::field::Field, value: i64) {
        self.put(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &tracing::field::Field, value: u64) {
        self.put(field.name(), value.into());
    }

    fn record_f64(&mut self, field: &tracing::field::Field, value: f64) {
        self.put(field.name(), json!(value));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "these are tests")]

    use super::*;

    const AT: &str = "2026-03-30T07:00:00.000000Z";

    fn fields() -> Fields {
        let mut fields = Fields::default();
        fields.text("message", "not \u{1b}[2Jgood\r\nnews");
        fields.text("widget", "main");
        fields.text("name", "a \"name\"\u{202e}\n");
        fields.put("attempt", 2.into());
        fields
    }

    #[test]
    fn one_event_is_one_line_of_text_whatever_it_holds() {
        let Fields { message, all } = fields();
        let text = line(Form::Text { colour: false }, AT, Level::WARN, "a::b", &message, &all);
        assert_eq!(
            text,
            format!(
                "{AT}  WARN a::b: not \\u{{1b}}[2Jgood\\r\\nnews widget=main \
                 name=\"a \\\"name\\\"\\\\u{{202e}}\\\\n\" attempt=2\n"
            )
        );
    }

    #[test]
    fn one_event_is_one_object_of_json() {
        let Fields { message, mut all } = fields();
        all.push(("level", "INFO".into()));
        let text = line(Form::Json, AT, Level::WARN, "a::b", &message, &all);
        assert_eq!(text.matches('\n').count(), 1);
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["level"], "WARN", "a field does not stand for what it is not");
        assert_eq!(value["message"], "not \\u{1b}[2Jgood\\r\\nnews");
        assert_eq!((&value["widget"], &value["attempt"]), (&json!("main"), &json!(2)));
    }

    #[test]
    fn what_is_said_inside_wins_over_the_span_around_it() {
        let mut inner = fields();
        let mut outer = Fields::default();
        outer.text("widget", "other");
        outer.text("delivery", "d");
        inner.extend(&outer.all);
        let value = |name| inner.all.iter().find(|(known, _)| *known == name).unwrap().1.clone();
        assert_eq!((value("widget"), value("delivery")), (json!("main"), json!("d")));
    }
}
