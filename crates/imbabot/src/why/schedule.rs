//! Why a schedule stands where it stands: what keeps its next instant from firing, and why the last one
//! that was due did not.

use imbabot_bot::Schedule;
use imbabot_bot::schedule::occurrence_id;
use imbabot_core::Timestamp;
use imbabot_scheduler::Outlook;
use imbabot_store::{OccurrenceStory, ScheduleStory};

use super::occurrence::{Calendar, occurrence};
use super::reason::Reason;
use super::{Decision, local};

/// What is known of a schedule.
pub(crate) struct Standing<'a> {
    /// Its key.
    pub(crate) key: &'a str,
    /// The schedule.
    pub(crate) schedule: &'a Schedule,
    /// It is switched on.
    pub(crate) enabled: bool,
    /// An operator paused it.
    pub(crate) paused: bool,
    /// Where it stands; none if no daemon ever ran with it.
    pub(crate) outlook: Option<&'a Outlook<'a>>,
    /// Its latest instant and its pause.
    pub(crate) story: ScheduleStory,
    /// What the records tell of that instant.
    pub(crate) last: Option<&'a OccurrenceStory>,
    /// The rooms that it would reach; none where there is no list yet. A bot's schedule needs none.
    pub(crate) rooms: Rooms,
    /// A daemon runs on the store.
    pub(crate) running: bool,
    /// Now.
    pub(crate) now: Timestamp,
}

/// Which rooms a schedule would reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rooms {
    /// It says nothing to rooms by itself.
    NotAsked,
    /// No list from which to choose.
    Unknown,
    /// So many.
    Known(usize),
}

/// The reasons, what bears on the next instant first.
pub(crate) fn schedule(standing: &Standing<'_>) -> Vec<Decision> {
    let Standing { schedule, now, story, .. } = *standing;
    let zone = Some(schedule.zone());
    let mut found = Vec::new();
    let mut say = |reason, text: String| found.push(Decision::new(now, reason, text));
    if !standing.enabled {
        say(Reason::DISABLED, "`enabled = false`: nothing is due by it".into());
        return found;
    }
    if standing.paused {
        let since = story.paused_since.map(|at| format!(" since {}", local(at, zone)));
        let key = standing.key;
        say(
            Reason::PAUSED,
            format!(
                "an operator has paused it{}: what comes is skipped until \
                 `imbabot schedules resume {key}`",
                since.unwrap_or_default()
            ),
        );
    }
    match standing.outlook {
        None if standing.running => say(
            Reason::NO_RECORD,
            "the daemon that runs does not have it: it starts with the next reload (SIGHUP)".into(),
        ),
        None => say(
            Reason::NO_RECORD,
            "no daemon ever ran with it: it starts when one does, and nothing is made up for"
                .into(),
        ),
        Some(outlook) => {
            if let Some(ahead) = outlook.dealt_with_ahead() {
                let ahead = local(ahead, zone);
                let text = format!(
                    "the clock was set back: up to {ahead} all is dealt with and does not come again"
                );
                say(Reason::CLOCK_SUSPECT, text);
            }
            waits(standing, outlook, &mut say);
        }
    }
    let next = match standing.outlook {
        Some(outlook) => outlook.next().map(|next| next.at),
        None => schedule.next_after(now),
    };
    if next.is_none() {
        say(Reason::NO_INSTANT, "it has no instant any more: its date or dates are past".into());
    }
    found.extend(left_out(standing));
    found
}

/// What the next instant, or one that is overdue, waits for.
fn waits(standing: &Standing<'_>, outlook: &Outlook<'_>, say: &mut impl FnMut(Reason, String)) {
    let zone = Some(standing.schedule.zone());
    let overdue = outlook.overdue().map(|at| local(at, zone));
    match (overdue, standing.running) {
        (Some(at), false) => say(
            Reason::NOT_RUNNING,
            format!("no daemon runs: what was due at {at} the next one decides, by `misfire`"),
        ),
        (None, false) => {
            say(Reason::NOT_RUNNING, "no daemon runs on this store: nothing fires".into());
        }
        (Some(at), true) if standing.rooms == Rooms::Unknown => say(
            Reason::WAITING,
            format!("due since {at}: it waits for the first list of rooms, until it expires"),
        ),
        (Some(at), true) => {
            say(Reason::WAITING, format!("due since {at}: it fires within a second"));
        }
        (None, true) if standing.rooms == Rooms::Unknown => {
            say(Reason::WAITING, "the first list of rooms, which it needs, is not here yet".into());
        }
        (None, true) => {}
    }
    if standing.rooms == Rooms::Known(0) {
        say(
            Reason::NO_ROOMS,
            "the last list has no room that it chooses: it would be skipped".into(),
        );
    }
}

/// Why the latest instant did not fire.
fn left_out(standing: &Standing<'_>) -> Option<Decision> {
    let (at, story) = standing.story.last.zip(standing.last)?;
    let id = occurrence_id(standing.key, at);
    let schedule = Some(standing.schedule);
    let calendar = Calendar { id: &id, key: standing.key, at, schedule };
    // A run is told of by its last instant, whatever the rule has become since.
    let chain = occurrence(&calendar, story, standing.now, standing.running);
    let end = chain.last()?;
    if chain.iter().any(|decision| decision.reason == Reason::FIRED)
        || [Reason::NO_RECORD, Reason::NO_INSTANT].contains(&end.reason)
    {
        return None;
    }
    let mut text = format!("{} {}", local(at, Some(standing.schedule.zone())), end.text);
    if let Some(away) = chain.iter().find(|decision| decision.reason == Reason::HELD_DOWNTIME) {
        text = format!("{text}; {}", away.text);
    }
    Some(Decision::new(at, end.reason, text))
}
