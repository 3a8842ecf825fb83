//! Logs on stderr: text for people, JSON for machines, one event one line. Whatever the filter says, the
//! libraries that handle headers never log below `info`: a header holds the secret key. Whoever does not
//! read what is logged holds nobody up: lines are lost then, and that is said.

mod lines;
mod repeats;
mod sink;

use std::io::IsTerminal;
use std::panic::PanicHookInfo;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use imbabot_core::escape_foreign;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::LogFormat;
use lines::{Form, Lines};
use sink::Sink;

/// What is never logged in detail, and what only says that it exists.
const QUIET: [&str; 8] = [
    "hyper=info",
    "hyper_util=info",
    "reqwest=info",
    "rustls=info",
    "h2=info",
    "axum=info",
    "tower=info",
    "tokio_cron_scheduler=warn",
];
/// At its end the program waits so long for a reader of its last lines.
const PATIENCE: Duration = Duration::from_millis(500);

/// Where lines go once logging has started.
static SINK: OnceLock<Sink> = OnceLock::new();

/// Starts logging. A second call does nothing.
pub(crate) fn start(filter: &str, format: LogFormat) {
    let mut directives = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    for quiet in QUIET {
        if let Ok(directive) = quiet.parse() {
            directives = directives.add_directive(directive);
        }
    }
    if SINK.get().is_some() {
        return;
    }
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let form = match format {
        LogFormat::Json => Form::Json,
        LogFormat::Text => Form::Text { colour },
    };
    let repeats = Arc::default();
    // Without a thread for it there is no log; everything else does not depend on it.
    let Some(sink) = Sink::new(form, Arc::clone(&repeats)) else { return };
    let lines = Lines::new(form, repeats, sink.clone());
    // A program that embeds this one may log already.
    if tracing_subscriber::registry().with(directives).with(lines).try_init().is_ok() {
        let _ = SINK.set(sink);
        std::panic::set_hook(Box::new(panicked));
    }
}

/// A line on stderr, after what was logged before it. False where nothing is logged.
pub(crate) fn line(text: &str) -> bool {
    SINK.get().is_some_and(|sink| {
        sink.line(format!("{text}\n"));
        true
    })
}

/// Waits a moment until all that was logged is read.
pub(crate) fn flush() {
    if let Some(sink) = SINK.get() {
        sink.flush(PATIENCE);
    }
}

/// A panic is an event like any other: one line, with what may be foreign escaped. What follows from it
/// is said by whoever contains it.
fn panicked(info: &PanicHookInfo<'_>) {
    let payload = info.payload();
    let words = payload.downcast_ref::<&str>().copied();
    let words = words.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let words = escape_foreign(words.unwrap_or("something that is no text"), 200);
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    tracing::error!(
        code = "IMB-X-PANIC",
        place,
        thread = thread.name().unwrap_or_default(),
        "panicked: {words}"
    );
}
