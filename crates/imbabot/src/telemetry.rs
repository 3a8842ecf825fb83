//! Logs on stderr: text for people, JSON for machines. Whatever the filter says, the libraries that
//! handle headers never log below `info`: a header holds the secret key.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::LogFormat;

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

/// Starts logging. A second call does nothing.
pub(crate) fn start(filter: &str, format: LogFormat) {
    let mut directives = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    for quiet in QUIET {
        if let Ok(directive) = quiet.parse() {
            directives = directives.add_directive(directive);
        }
    }
    let registry = tracing_subscriber::registry().with(directives);
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    // A program that embeds this one may log already.
    let _ = match format {
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init(),
        LogFormat::Text => registry.with(layer.with_ansi(colour)).try_init(),
    };
}
