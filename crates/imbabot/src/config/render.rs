//! Problems as a person reads them, drawn by the renderer of rustc. Foreign text is shown with its
//! control characters replaced.

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::problem::{Problem, Severity};
use super::source::Excerpt;

pub(crate) fn problem(problem: &Problem, colour: bool) -> String {
    let level = match problem.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let message = printable(&problem.message);
    let title = level.primary_title(message).id(problem.code.as_str());
    let mut group = Group::with_title(title);
    match (&problem.excerpt, &problem.file) {
        (Some(excerpt), _) => {
            let kind = AnnotationKind::Primary;
            group = group.element(snippet(excerpt, kind, problem.label.as_deref()));
        }
        (None, Some(file)) => group = group.element(Origin::path(printable(file))),
        (None, None) => {}
    }
    if let Some((excerpt, label)) = &problem.also {
        group = group.element(snippet(excerpt, AnnotationKind::Context, Some(label)));
    }
    if let Some(hint) = &problem.hint {
        group = group.element(Level::HELP.message(printable(hint)));
    }
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    renderer.render(&[group])
}

fn snippet<'a>(
    excerpt: &'a Excerpt,
    kind: AnnotationKind,
    label: Option<&'a str>,
) -> Snippet<'a, Annotation<'a>> {
    let annotation = kind.span(excerpt.span.clone()).label(label.map(printable));
    Snippet::source(&excerpt.text)
        .line_start(excerpt.line)
        .path(printable(&excerpt.file))
        .annotation(annotation)
}

/// Errors first, then warnings, then how many there are.
pub(crate) fn report(errors: &[Problem], warnings: &[Problem], colour: bool) -> String {
    let mut text = String::new();
    for one in errors.iter().chain(warnings) {
        text.push_str(&problem(one, colour));
        text.push_str("\n\n");
    }
    let count = |n: usize, what: &str| match n {
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    };
    let closing = match (errors.len(), warnings.len()) {
        (0, 0) => return text,
        (0, w) => count(w, "warning"),
        (e, 0) => count(e, "error"),
        (e, w) => format!("{}, {}", count(e, "error"), count(w, "warning")),
    };
    text.push_str(&closing);
    text.push('\n');
    text
}

/// Control characters as escapes: what is quoted must not move the cursor of a terminal.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\n' {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}
