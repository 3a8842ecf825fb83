//! The page for people: what is wrong, since when and what to do about it first, then how everything
//! stands. Made anew for each request out of what `/api/status` says; runs no script, loads nothing,
//! and shows every foreign text as text.

mod instances;

use std::fmt::Write;
use std::sync::LazyLock;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use imbabot_core::{Timestamp, escape_foreign};
use imbabot_scheduler::NotReady;
use sha2::{Digest, Sha256};

use crate::status::phrases::{capital, short, since, when};
use crate::status::seen::{Job, Obstacle, Seen, Task, Widget};
use crate::status::server;
use crate::status::work::Waiting;

const STYLE: &str = include_str!("page.css");
/// The page asks anew after so many seconds, while somebody looks at it.
const AGAIN: u32 = 15;
/// The longest foreign text: names, and what was wrong.
const NAME: usize = 80;
const WORDS: usize = 400;
/// So many of the next occurrences are shown; `plan` has all.
const NEXT: usize = 8;

/// Nothing but this very style may come into effect.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = BASE64_STANDARD.encode(Sha256::digest(STYLE));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    )
});

/// The page as an answer.
pub(super) fn answer(seen: &Seen, now: Timestamp) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY.as_str()),
    ];
    (headers, page(seen, now)).into_response()
}

fn page(seen: &Seen, now: Timestamp) -> String {
    let parts = [
        wrong(seen, now),
        instances::instances(seen, now),
        widgets(seen, now),
        deliveries(seen),
        waiting(seen, now),
        next(seen, now),
        bots(seen),
        tasks(seen, now),
        housekeeping(seen, now),
    ];
    let (class, state) = state(seen, now);
    let title = if seen.ready { "ready" } else { "not ready" };
    let begun = seen.started_at.map(|at| since(now, at)).unwrap_or_default();
    let (version, sections) = (text(&seen.version, NAME), parts.concat());
    let state = text(&state, WORDS);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"refresh\" content=\"{AGAIN}\">\n\
         <title>{title} – imbabot</title>\n<style>{STYLE}</style>\n\
         <header><h1>imbabot <span>{version}</span></h1>\n\
         <p class=\"state {class}\">{state}</p>\n\
         <p class=\"when\">as of {} · asks again every {AGAIN} s</p></header>\n\
         <main>\n{sections}</main>\n\
         <footer>Runs {begun}. All times are UTC unless they say otherwise. \
         The same for programs: <a href=\"api/status\">status</a>, \
         <a href=\"metrics\">metrics</a>, <a href=\"readyz\">readiness</a>. What a single message \
         waits for, or became: <code>imbabot why ID</code></footer>\n</html>\n",
        instant(now)
    )
}

/// The one line that says whether all is well, and its colour.
fn state(seen: &Seen, now: Timestamp) -> (&'static str, String) {
    if seen.ready {
        return ("good", "Ready".into());
    }
    let first = seen.obstacles.iter().map(|obstacle| obstacle.since).min();
    let first = first.map(|at| format!(" {}", since(now, at))).unwrap_or_default();
    ("bad", format!("Not ready{first}"))
}

/// Each reason for not being ready, in the words that `imbabot status` has too.
fn wrong(seen: &Seen, now: Timestamp) -> String {
    let mut told: Vec<String> = seen.obstacles.iter().map(|o| obstacle(o, now)).collect();
    if let Some(why) = &seen.unread {
        told.push(format!(
            "<article><h3>The store cannot be read</h3><p>{}</p></article>",
            text(why, WORDS)
        ));
    }
    match told.is_empty() {
        true => String::new(),
        false => format!(
            "<section class=\"wrong\"><h2>What is wrong</h2>\n{}</section>\n",
            told.concat()
        ),
    }
}

fn obstacle(obstacle: &Obstacle, now: Timestamp) -> String {
    let Obstacle { reason, subject, since: begun } = obstacle;
    let about = match obstacle.is_about_all() {
        true => String::new(),
        false => format!(" · {}", text(subject, NAME)),
    };
    let begun = text(&since(now, *begun), NAME);
    let Some(words) = obstacle.words() else {
        return format!(
            "<article><h3>{}{about}</h3><p>{begun}</p></article>\n",
            text(reason, NAME)
        );
    };
    let what = prose(&capital(words.what));
    let title = format!("<h3>{what}{about}</h3>");
    format!(
        "<article>{title}<p class=\"soft\"><code>{}</code> {begun}</p>\
         <p>The daemon {}.</p><p><strong>What to do:</strong> {}.</p></article>\n",
        text(reason, NAME),
        prose(words.daemon),
        prose(words.you)
    )
}

/// Which share of the work is this instance's, where it has company.
fn widgets(seen: &Seen, now: Timestamp) -> String {
    let mut table =
        Table::new(&["Widget", "Server", "Last good list", "#Rooms", "Last poll", "Sending"]);
    for (name, widget) in &seen.widgets {
        let dash = || soft("–");
        let server = reached(seen, name, widget);
        let last = widget.last_good_poll.map_or_else(dash, |at| moment(now, at));
        let rooms = widget.rooms.map_or_else(dash, |rooms| rooms.to_string());
        let outcome = widget.last_outcome.as_deref().map_or_else(dash, |word| text(word, NAME));
        let sends = match &widget.breaker {
            Some((why, at)) => {
                coloured("bad", &format!("nothing for {}: {why}", short(now.since(*at))))
            }
            None if seen
                .paused
                .iter()
                .any(|scope| *scope == "all" || *scope == format!("widget/{name}")) =>
            {
                coloured("warn", "paused")
            }
            None if widget.in_flight > 0 => format!("{} in flight", widget.in_flight),
            None => "open".into(),
        };
        table.row(&[text(name, NAME), server, last, rooms, outcome, sends]);
        if let Some(problem) = &widget.problem {
            table.note(&text(problem, WORDS));
        }
        for (list, rows) in &widget.suspected_limits {
            let words = format!("the list of {list} may be cut at {rows} rows (IMB-P-LIMIT)");
            table.note(&text(&words, WORDS));
        }
        if let Some(words) = server::words(&widget.capabilities) {
            table.note(&text(&words, WORDS));
        }
    }
    section("Widgets", "", &table.html())
}

/// Whether the server is reached, by what was last heard of it.
fn reached(seen: &Seen, name: &str, widget: &Widget) -> String {
    let holds = |reason: NotReady| {
        seen.obstacles.iter().any(|o| o.reason == reason.as_str() && o.subject == name)
    };
    if holds(NotReady::ApiUnreachable) {
        coloured("bad", "not reachable")
    } else if holds(NotReady::CredentialsRejected) {
        coloured("bad", "refuses the key")
    } else if holds(NotReady::Redirected) {
        coloured("bad", "redirects")
    } else if widget.last_good_poll.is_none() {
        coloured("warn", "not heard yet")
    } else {
        coloured("good", "reachable")
    }
}

fn deliveries(seen: &Seen) -> String {
    let mut list = String::from("<dl class=\"counts\">");
    for state in ["queued", "sending", "unknown", "delivered", "dead"] {
        let count = seen.work.deliveries.get(state).copied().unwrap_or_default();
        let class = if state == "unknown" && count > 0 { " class=\"warn\"" } else { "" };
        let _ = write!(list, "<div><dt>{state}</dt><dd{class}>{count}</dd></div>");
    }
    list.push_str("</dl>");
    let dead: Vec<String> = seen
        .work
        .dead
        .iter()
        .map(|(reason, count)| format!("{count} {}", text(reason, NAME)))
        .collect();
    if !dead.is_empty() {
        let _ = write!(list, "<p class=\"soft\">Dead: {}.</p>", dead.join(", "));
    }
    section("Deliveries", "", &list)
}

fn waiting(seen: &Seen, now: Timestamp) -> String {
    let all = &seen.work.waiting;
    if all.is_empty() {
        return section("What waits, and why", "", &soft("Nothing waits."));
    }
    let mut table = Table::new(&["Room", "For", "State", "#Age", "Delivery"]);
    for waiting in all {
        let Waiting { room, state, widget, .. } = waiting;
        let name = match &waiting.name {
            Some(name) => text(name, NAME),
            None => format!("room {room}"),
        };
        let place = format!("{name} <small>{room} of {}</small>", text(widget, NAME));
        let cause = waiting.cause.as_deref().unwrap_or("imbabot send");
        let state = match state.as_str() {
            "unknown" => coloured("warn", state),
            state => text(state, NAME),
        };
        let id = format!("<code>{}</code>", waiting.delivery);
        let age = text(&short(now.since(waiting.since)), NAME);
        table.row(&[place, text(cause, NAME), state, age, id]);
        table.note(&prose(&escape_foreign(&capital(&waiting.text), WORDS)));
    }
    let shown = u64::try_from(all.len()).unwrap_or(u64::MAX);
    let count = |state: &str| seen.work.deliveries.get(state).copied().unwrap_or_default();
    let rest = (count("queued") + count("unknown")).saturating_sub(shown);
    let mut html = table.html();
    if rest > 0 {
        let _ = write!(
            html,
            "<p class=\"soft\">and {rest} more: <code>imbabot deliveries --state queued</code></p>"
        );
    }
    section("What waits, and why", "", &html)
}

fn next(seen: &Seen, now: Timestamp) -> String {
    let mut table = Table::new(&["Announcement", "At", "In"]);
    for next in seen.next.iter().take(NEXT) {
        let left = next.at_utc.map(|at| short(at.since(now))).unwrap_or_default();
        // Whole minutes, as almost everything is announced.
        let at = next.at.replacen(":00+", "+", 1).replacen(":00-", "-", 1).replace('T', " ");
        let at = format!("<time>{}</time>", text(&at, NAME));
        table.row(&[text(&next.schedule, NAME), at, text(&left, NAME)]);
    }
    let elsewhere = seen.fleet.as_ref().is_some_and(|fleet| !fleet.units.contains_key("schedules"));
    let html = match seen.next.is_empty() {
        true if elsewhere => soft("The schedules are another instance's."),
        true => soft("Nothing is announced."),
        false => table.html(),
    };
    section("Next announcements", "half", &html)
}

fn bots(seen: &Seen) -> String {
    let mut table = Table::new(&["Bot", "Health", "#Events waiting", "#Poisoned"]);
    for (name, bot) in &seen.work.bots {
        let class = match bot.health.as_str() {
            "ok" => "good",
            "failing" | "set_aside" => "bad",
            _ => "warn",
        };
        let health = coloured(class, &bot.health.replace('_', " "));
        let (waiting, poisoned) = (bot.events_waiting, bot.events_poisoned);
        table.row(&[text(name, NAME), health, waiting.to_string(), poisoned.to_string()]);
        let note = match bot.health.as_str() {
            "failing" => {
                "It failed on events on every try: `imbabot events --poisoned` shows them."
            }
            "set_aside" => "It never awaits, and is told nothing: mend it and restart, or reload.",
            "paused" => "`imbabot resume` ends the pause.",
            "removed" => "It is no longer configured; what is left for it waits.",
            _ => continue,
        };
        table.note(&prose(note));
    }
    let html = match seen.work.bots.is_empty() {
        true => soft("No bot is configured."),
        false => table.html(),
    };
    section("Bots", "half", &html)
}

fn tasks(seen: &Seen, now: Timestamp) -> String {
    let mut table = Table::new(&["Task", "Last progress", "#Restarts", "What"]);
    for (name, task) in &seen.tasks {
        let Task { last_progress, restarts, last } = task;
        let progress = last_progress.map_or_else(|| soft("–"), |at| moment(now, at));
        let restarts = match restarts {
            0 => "0".into(),
            more => coloured("warn", &more.to_string()),
        };
        table.row(&[text(name, NAME), progress, restarts, text(last, NAME)]);
    }
    section("Tasks", "half", &table.html())
}

fn housekeeping(seen: &Seen, now: Timestamp) -> String {
    let mut table = Table::new(&["Housekeeping", "Last", "#Problems", "Next"]);
    for (name, job) in &seen.housekeeping {
        let Job { running, last, problems, found, next, .. } = job;
        let last = match (running, last) {
            (true, _) => "now".into(),
            (false, Some(at)) => moment(now, *at),
            (false, None) => soft("–"),
        };
        let problems = match problems {
            0 => "0".into(),
            more => coloured("bad", &more.to_string()),
        };
        let next = next.map(|at| format!("in {}", short(at.since(now)))).unwrap_or_default();
        table.row(&[text(name, NAME), last, problems, text(&next, NAME)]);
        for found in found {
            table.note(&text(found, WORDS));
        }
    }
    section("Housekeeping", "half", &table.html())
}

fn section(title: &str, class: &str, html: &str) -> String {
    format!("<section class=\"{class}\"><h2>{title}</h2>\n{html}</section>\n")
}

/// Rows under a header, which on a phone stand beneath each other with their labels.
struct Table {
    header: Vec<(&'static str, bool)>,
    rows: String,
}

impl Table {
    /// Columns; those of numbers begin with `#`.
    fn new(columns: &[&'static str]) -> Self {
        let column = |name: &&'static str| match name.strip_prefix('#') {
            Some(number) => (number, true),
            None => (*name, false),
        };
        Self { header: columns.iter().map(column).collect(), rows: String::new() }
    }

    fn row<const N: usize>(&mut self, cells: &[String; N]) {
        self.rows.push_str("<tr>");
        for (place, (cell, (label, number))) in cells.iter().zip(&self.header).enumerate() {
            let class = match (place, number) {
                (0, _) => " class=\"name\"",
                (_, true) => " class=\"number\"",
                // What the task or the poll says of itself may be long.
                _ if place + 1 == N => " class=\"wide\"",
                _ => "",
            };
            let _ = write!(self.rows, "<td{class} data-label=\"{label}\">{cell}</td>");
        }
        self.rows.push_str("</tr>\n");
    }

    /// What there is to say about the row before.
    fn note(&mut self, html: &str) {
        let columns = self.header.len();
        let _ = writeln!(
            self.rows,
            "<tr class=\"note\"><td colspan=\"{columns}\" class=\"soft\">{html}</td></tr>"
        );
    }

    fn html(&self) -> String {
        let header = self.header.iter().map(|(name, number)| {
            let class = if *number { " class=\"number\"" } else { "" };
            format!("<th scope=\"col\"{class}>{name}</th>")
        });
        let header: String = header.collect();
        format!("<table><thead><tr>{header}</tr></thead>\n<tbody>{}</tbody></table>\n", self.rows)
    }
}

fn instant(at: Timestamp) -> String {
    format!("<time>{}</time>", text(&when(at), NAME))
}

/// How long ago; when exactly, to whoever points at it.
fn moment(now: Timestamp, at: Timestamp) -> String {
    format!("<span title=\"{}\">{} ago</span>", when(at), short(now.since(at)))
}

fn coloured(class: &str, words: &str) -> String {
    format!("<span class=\"{class}\">{}</span>", text(words, NAME))
}

fn soft(words: &str) -> String {
    format!("<span class=\"soft\">{}</span>", text(words, NAME))
}

/// Foreign text: characters that mislead are spelled out, and nothing in it is markup.
fn text(foreign: &str, most: usize) -> String {
    escaped(&escape_foreign(foreign, most))
}

/// Our own words, in which `…` is something to type.
fn prose(words: &str) -> String {
    let mut html = String::new();
    for (place, part) in words.split('`').enumerate() {
        let part = escaped(part);
        match place % 2 {
            0 => html.push_str(&part),
            _ => html.push_str(&format!("<code>{part}</code>")),
        }
    }
    html
}

fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            c => html.push(c),
        }
    }
    html
}

#[cfg(test)]
mod tests;
