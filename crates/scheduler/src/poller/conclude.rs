//! What follows from how a poll ended: breakers, readiness, metrics, a line for people, and how long
//! until the next one. Asks nobody for anything.

use std::time::Duration;

use imbabot_bot::WidgetName;
use imbabot_core::{Error, ErrorKind, TransportErrorKind};
use imbabot_store::ListKind;

use super::limit::Cut;
use super::{End, Key, TASK, pace};
use crate::breaker::{LONGEST_POLL, Refused};
use crate::metrics::Family;
use crate::settings::Settings;
use crate::shared::{Fatal, Shared, tell_redirect, tell_refused};
use crate::status::NotReady;

/// A poll takes at most a tenth of the time: after one that took long, nine times as long a pause.
const PAUSE_PER_POLL: u32 = 9;

/// What follows from a poll.
pub(super) struct After {
    /// How long until the next one.
    pub distance: Duration,
    /// How long nobody is to be asked in any case.
    pub least: Duration,
    /// A breaker closed.
    pub reopened: bool,
}

/// Tells what came of a poll of a list in which nothing changed for so long.
pub(super) async fn conclude(
    shared: &Shared,
    settings: &Settings,
    (widget, kind): &Key,
    end: End,
    took: Duration,
    quiet: Duration,
) -> Result<After, Fatal> {
    let now = shared.clock.now();
    let mut reopened = false;
    let name = widget.as_str();
    let endpoint = match kind {
        ListKind::Rooms => "get_rooms",
        ListKind::Users => "get_users",
    };
    let usual = match kind {
        ListKind::Rooms => settings.poll.rooms,
        ListKind::Users => settings.poll.users,
    };
    let usual = pace::stretched(usual, settings.poll.quiet_max, quiet);
    let mut least = took.saturating_mul(PAUSE_PER_POLL);
    let (outcome, problem) = match end {
        End::Good(_) | End::Held => {
            shared.store_works("commit_poll");
            shared.board.reason(NotReady::StoreUnwritable, name, false);
            reopened = answers_again(shared, widget);
            if matches!(end, End::Held) {
                shared.metrics.count(Family::snapshots_rejected_total, &["suspicious"]);
                ("held", Some("more than half of the list changed at once".to_owned()))
            } else {
                ("ok", None)
            }
        }
        End::Accepted => {
            reopened = answers_again(shared, widget);
            ("probe", None)
        }
        // Nothing was asked, or for nobody, so nothing is told.
        End::Spared | End::GivenAway => {
            let distance = shared.breaker(widget, |breaker| breaker.poll_distance(now, usual));
            return Ok(After { distance, least: Duration::ZERO, reopened });
        }
        End::Foreign => {
            shared.metrics.count(Family::snapshots_rejected_total, &["foreign_widget"]);
            shared.breaker(widget, |breaker| breaker.poll_failed(now, false));
            let text = "the list belongs to another widget: check `id` and `base_url`";
            tracing::warn!(widget = name, endpoint, code = "IMB-P-FOREIGN", "{text}");
            ("foreign", Some(text.to_owned()))
        }
        End::Failed(error) => {
            let by_token = *kind == ListKind::Rooms
                && settings.widget(widget).is_some_and(|widget| widget.rooms_by_jwt);
            let refused = if by_token { Refused::Token } else { Refused::Key };
            let outcome = failed(shared, widget, endpoint, refused, &error);
            least = least_after(&error, least).max(error.retry_after().unwrap_or_default());
            (outcome, Some(words_of(&error)))
        }
        End::Unspooled(why) => {
            shared.metrics.count(Family::snapshots_rejected_total, &["spool"]);
            let text = format!("what changed cannot be kept until it is committed: {why}");
            shared.board.reason(NotReady::StoreUnwritable, name, true);
            tracing::warn!(
                widget = name,
                endpoint,
                code = "IMB-P-SPOOL",
                "{text}; the last snapshot stays"
            );
            ("spool", Some(text))
        }
        End::Store(error) => {
            let text = error.to_string();
            shared.store_failed("commit_poll", error).await?;
            ("store", Some(text))
        }
    };
    shared.metrics.count(Family::polls_total, &[name, endpoint, outcome]);
    shared.metrics.observe(Family::poll_duration_seconds, took.as_secs_f64());
    shared.board.reason(NotReady::Starting, name, false);
    shared.beat(TASK, outcome);
    if *kind == ListKind::Rooms {
        shared.board.widget(widget, |status| {
            status.last_poll = Some(now);
            status.last_outcome = Some(outcome.to_owned());
            status.problem = problem;
            if outcome == "ok" {
                status.last_good_poll = Some(now);
            }
        });
    }
    let distance = shared.breaker(widget, |breaker| breaker.poll_distance(now, usual));
    // Where no connection came about, the wait for it counts: the server's return is to be noticed
    // within the distance, not within that and a time-out.
    let waited = if least.is_zero() { took.min(distance / 2) } else { Duration::ZERO };
    Ok(After { distance: distance.saturating_sub(waited).max(least), least, reopened })
}

/// A list looks as if the server cut it.
pub(super) fn tell_cut((widget, kind): &Key, cut: Cut) {
    tracing::warn!(
        widget = widget.as_str(),
        list = kind.as_str(),
        code = "IMB-P-LIMIT",
        "{cut}: the server may cut the list without saying so, and then bots and announcements do \
         not know of the rest. If the site has just so many, all is well"
    );
}

/// The server answers, and what it answers can be used. True if that closed a breaker.
fn answers_again(shared: &Shared, widget: &WidgetName) -> bool {
    let now = shared.clock.now();
    let (before, after) = shared.breaker(widget, |breaker| {
        let before = breaker.open();
        breaker.poll_succeeded(now);
        (before, breaker.open())
    });
    shared.bells.deliverer.notify_one();
    shared.bells.timer.notify_one();
    let (Some((reason, _)), None) = (before, after) else { return false };
    let name = widget.as_str();
    tracing::info!(widget = name, reason = reason.as_str(), "ImbaChat answers again");
    true
}

/// A poll takes at most a tenth of the time, but for one that failed without a list to work on:
/// there the pause would keep the server's return from being noticed.
fn least_after(error: &Error, least: Duration) -> Duration {
    match error.kind() {
        // It asked nobody for anything.
        ErrorKind::Transport(TransportErrorKind::NotSent) => Duration::ZERO,
        ErrorKind::Transport(_) | ErrorKind::Status(_) | ErrorKind::Truncated => {
            least.min(LONGEST_POLL)
        }
        _ => least,
    }
}

fn failed(
    shared: &Shared,
    widget: &WidgetName,
    endpoint: &str,
    refused: Refused,
    error: &Error,
) -> &'static str {
    let now = shared.clock.now();
    let name = widget.as_str();
    if error.is_credentials() {
        if shared.breaker(widget, |breaker| breaker.credentials_refused(now, refused)) {
            tell_refused(widget, endpoint, refused);
        }
        return "credentials";
    }
    if let ErrorKind::Redirect { origin } = error.kind() {
        if shared.breaker(widget, |breaker| breaker.redirected(now, origin)) {
            tell_redirect(widget, endpoint, origin);
        }
        return "redirect";
    }
    if error.is_rate_limit() {
        tracing::warn!(widget = name, endpoint, code = error.code(), "{error}");
        return "rate_limited";
    }
    let first = shared.breaker(widget, |breaker| {
        let first = breaker.unreachable_since().is_none();
        let transport = error.transport_error();
        let is_down = transport.is_some_and(|e| e.kind() == TransportErrorKind::NotSent);
        breaker.poll_failed(now, is_down);
        first
    });
    // An outage of an hour is one line and a state, not three hundred lines.
    if first {
        tracing::warn!(
            widget = name,
            endpoint,
            code = error.code(),
            "{}; the last snapshot stays",
            words_of(error)
        );
    } else {
        tracing::debug!(widget = name, endpoint, code = error.code(), "{}", words_of(error));
    }
    let why = match error.kind() {
        ErrorKind::Transport(_) => return "unreachable",
        ErrorKind::Status(_) => "status",
        ErrorKind::Truncated => "truncated",
        ErrorKind::TooLarge | ErrorKind::ElementTooLarge => "too_large",
        ErrorKind::NotAList => "not_a_list",
        ErrorKind::Refused { .. } => "refused",
        ErrorKind::EndlessPages | ErrorKind::PagesElsewhere => "pages",
        _ => "undecodable",
    };
    shared.metrics.count(Family::snapshots_rejected_total, &[why]);
    why
}

/// An error with its cause: which host, and what was wrong with it.
fn words_of(error: &Error) -> String {
    match error.transport_error() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
