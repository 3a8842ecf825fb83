//! `doctor`: looks at this host, the store and the servers of all widgets, and says in a line each what
//! it found and what to do about it. It asks for lists only, with the methods of the daemon; it never
//! posts. What it found of a server it writes into the store, if there is one.

mod filters;
mod host;
mod server;

use std::collections::BTreeMap;

use imbabot_bot::WidgetName;
use imbabot_store::{Capabilities, Learned, Source};
use serde_json::{Value, json};

use super::args::Doctor;
use super::{Command, Result, clock};
use crate::exit::{Exit, Failure};
use crate::output;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// As it should be.
    Ok,
    /// Worth knowing, and nothing is wrong.
    Note,
    /// It works, and somebody should look.
    Warning,
    /// It does not work.
    Error,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    /// What was looked at, a word.
    check: &'static str,
    level: Level,
    text: String,
    /// What to do about it.
    hint: Option<String>,
    /// How the verb ends for it.
    exit: Exit,
    /// The stable code, where it is one of docs/errors.md.
    code: Option<&'static str>,
}

impl Finding {
    fn new(check: &'static str, level: Level, text: impl Into<String>) -> Self {
        let exit = if level >= Level::Warning { Exit::Failure } else { Exit::Ok };
        Self { check, level, text: text.into(), hint: None, exit, code: None }
    }

    pub(super) fn ok(check: &'static str, text: impl Into<String>) -> Self {
        Self::new(check, Level::Ok, text)
    }

    pub(super) fn note(check: &'static str, text: impl Into<String>) -> Self {
        Self::new(check, Level::Note, text)
    }

    pub(super) fn warning(check: &'static str, text: impl Into<String>) -> Self {
        Self::new(check, Level::Warning, text)
    }

    pub(super) fn error(check: &'static str, exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, ..Self::new(check, Level::Error, text) }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }
}

/// All that was found, about the host and about each widget.
#[derive(Default)]
struct Report {
    host: Vec<Finding>,
    widgets: Vec<(WidgetName, Vec<Finding>)>,
    capabilities: BTreeMap<WidgetName, Capabilities>,
}

pub(crate) async fn doctor(command: &Command, options: Doctor) -> Result {
    let loaded = command.loaded()?;
    let config = &loaded.config;
    if let Some(name) = &options.widget
        && config.widget(name).is_none()
    {
        return Err(Failure::bad_input(format!("there is no widget {name}")));
    }
    let clock = clock();
    let mut report = Report::default();
    let warnings = loaded.warnings.len();
    report.host.push(match warnings {
        0 => Finding::ok("config", format!("{} is fine", loaded.file.display())),
        _ => Finding::note("config", format!("{} has {warnings} warnings", loaded.file.display()))
            .hint("`imbabot check` shows them"),
    });
    report.host.extend(host::examine(&clock, config));
    let (store, findings) = host::store(config, &clock).await;
    report.host.extend(findings);
    let chosen = |name: &WidgetName| options.widget.as_ref().is_none_or(|wanted| wanted == name);
    for widget in config.widgets.iter().filter(|widget| chosen(&widget.name)) {
        let (findings, capabilities) =
            server::examine(&clock, config, widget, store.as_deref()).await?;
        if let Some(capabilities) = &capabilities
            && let Some(store) = &store
        {
            let learned = Learned {
                widget: widget.name.clone(),
                source: Source::Doctor,
                at: clock.now(),
                capabilities: capabilities.clone(),
            };
            if let Err(error) = store.learn(learned).await {
                let text = format!("what was found is not kept: {error}");
                report.host.push(Finding::note("store", text));
            }
        }
        report.capabilities.extend(capabilities.map(|found| (widget.name.clone(), found)));
        report.widgets.push((widget.name.clone(), findings));
    }
    let exit = report.exit();
    command.output.data(&report.json(exit), || report.text());
    Ok(exit)
}

impl Report {
    fn all(&self) -> impl Iterator<Item = &Finding> {
        self.host.iter().chain(self.widgets.iter().flat_map(|(_, findings)| findings))
    }

    /// The gravest: a refused key before a server that is not there, that before the store.
    fn exit(&self) -> Exit {
        let met = |exit: Exit| self.all().any(|finding| finding.exit == exit);
        [Exit::Credentials, Exit::Unavailable, Exit::Config, Exit::Store, Exit::Held, Exit::Failure]
            .into_iter()
            .find(|exit| met(*exit))
            .unwrap_or(Exit::Ok)
    }

    fn json(&self, exit: Exit) -> Value {
        let finding = |widget: Option<&WidgetName>, finding: &Finding| {
            json!({
                "widget": widget, "check": finding.check, "level": finding.level.as_str(),
                "text": finding.text, "hint": finding.hint, "code": finding.code,
            })
        };
        let host = self.host.iter().map(|found| finding(None, found));
        let widgets = self.widgets.iter().flat_map(|(name, findings)| {
            findings.iter().map(move |found| finding(Some(name), found))
        });
        let findings: Vec<Value> = host.chain(widgets).collect();
        json!({
            "ok": exit == Exit::Ok, "findings": findings, "capabilities": self.capabilities,
        })
    }

    fn text(&self) -> String {
        let mut lines = Vec::new();
        lines.extend(self.host.iter().map(line_of));
        for (name, findings) in &self.widgets {
            lines.push(format!("\nwidget {name}"));
            lines.extend(findings.iter().map(line_of));
        }
        let count = |level: Level| self.all().filter(|finding| finding.level == level).count();
        let end = match (count(Level::Error), count(Level::Warning)) {
            (0, 0) => "all is well".to_owned(),
            (errors, warnings) => format!("{errors} errors, {warnings} warnings"),
        };
        lines.push(format!("\n{end}"));
        lines.join("\n")
    }
}

fn line_of(finding: &Finding) -> String {
    let level = finding.level.as_str();
    let code = finding.code.map(|code| format!(" ({code})")).unwrap_or_default();
    let mut line = format!("{level:<8}{:<13}{}{code}", finding.check, finding.text);
    if let Some(hint) = &finding.hint {
        line.push_str(&format!("\n{:21}-> {hint}", ""));
    }
    line
}

/// Foreign text, made safe for a terminal.
pub(super) fn foreign(text: &str) -> String {
    output::foreign(text)
}
