//! The chain of decisions about one instant of a schedule.

use std::collections::BTreeMap;

use imbabot_bot::Schedule;
use imbabot_core::Timestamp;
use imbabot_store::{
    DeliveryRecord, DeliveryState, Line, OccurrenceOutcome, OccurrenceRecord, OccurrenceStory,
    RangeRecord,
};

use super::reason::Reason;
use super::{Decision, away, length, local};

/// So many messages that were not delivered are named; the others are counted.
const NAMED: usize = 5;

/// The instant that is asked about.
pub(crate) struct Calendar<'a> {
    /// `schedule@instant`, with `!manual` behind it where an operator triggered it.
    pub(crate) id: &'a str,
    /// The schedule's key.
    pub(crate) key: &'a str,
    /// The instant.
    pub(crate) at: Timestamp,
    /// The schedule, if it is configured.
    pub(crate) schedule: Option<&'a Schedule>,
}

impl Calendar<'_> {
    /// Whether the schedule, as it is configured, has this instant; unknown counts as yes.
    fn has_instant(&self) -> bool {
        let just_before = Timestamp::from_micros(self.at.as_micros() - 1);
        self.schedule.is_none_or(|schedule| schedule.next_after(just_before) == Some(self.at))
    }

    fn no_instant(&self) -> Decision {
        let zone = self.schedule.map(Schedule::zone);
        let next = self.schedule.and_then(|schedule| schedule.next_after(self.at));
        let next = next.map_or("there is none after it".into(), |next| {
            format!("the next is {}", local(next, zone))
        });
        let text = format!("{} has no instant at {}; {next}", self.key, local(self.at, zone));
        Decision::new(self.at, Reason::NO_INSTANT, text)
    }
}

/// What became of an instant. `running`: a daemon runs on the store.
pub(crate) fn occurrence(
    calendar: &Calendar<'_>,
    story: &OccurrenceStory,
    now: Timestamp,
    running: bool,
) -> Vec<Decision> {
    let manual = calendar.id.contains('!');
    let mut found = Vec::new();
    let shown = local(calendar.at, calendar.schedule.map(Schedule::zone));
    let what = if manual { "was asked for by an operator" } else { "was due" };
    let due =
        Decision::new(calendar.at, Reason::DUE, format!("{} {what} at {shown}", calendar.key));
    match story.lines.first().map(|told| (&told.line.line, told.line.seq)) {
        Some((Line::Occurrence(record), seq)) => {
            found.push(due.by(seq));
            downtime(calendar, story, record.recorded_at, &mut found);
            recorded(calendar, record, seq, &mut found);
            let last = story.lines.last().map_or(seq, |told| told.line.seq);
            if record.outcome == OccurrenceOutcome::Fired {
                became(story, record, last, &mut found);
            }
        }
        Some((Line::Range(run), seq)) => {
            if run.count > 1 && !calendar.has_instant() {
                return vec![calendar.no_instant()];
            }
            found.push(due.by(seq));
            downtime(calendar, story, now, &mut found);
            found.push(of_run(run, calendar.at).by(seq));
        }
        _ => found.push(without_record(calendar, story, now, running)),
    }
    found
}

fn downtime(
    calendar: &Calendar<'_>,
    story: &OccurrenceStory,
    until: Timestamp,
    found: &mut Vec<Decision>,
) {
    for down in &story.downtimes {
        let to = down.to.unwrap_or(until).min(until);
        if to > calendar.at {
            let what = away(down.killed);
            let text = format!("held {}: {what}", length(to.since(calendar.at)));
            found.push(Decision::new(calendar.at, Reason::HELD_DOWNTIME, text));
        }
    }
}

fn recorded(
    calendar: &Calendar<'_>,
    record: &OccurrenceRecord,
    seq: i64,
    found: &mut Vec<Decision>,
) {
    let late = record.recorded_at.since(record.nominal_at);
    let decision = match record.outcome {
        OccurrenceOutcome::Fired => {
            let jitter = calendar.schedule.map(|schedule| schedule.delay_of(calendar.id));
            let jitter = jitter.filter(|jitter| !jitter.is_zero());
            let jitter = jitter.map(|j| format!(", {} of it its jitter", length(j)));
            let text =
                format!("fired {} after its instant{}", length(late), jitter.unwrap_or_default());
            Decision::new(record.recorded_at, Reason::FIRED, text)
        }
        outcome => {
            let word = record.reason.as_deref().unwrap_or_default();
            let reason = Reason::of_occurrence(word).unwrap_or(Reason::NO_RECORD);
            Decision::new(record.recorded_at, reason, format!("{outcome}: {}", words(word)))
        }
    };
    found.push(decision.by(seq));
}

/// The messages of an occurrence that fired.
fn became(
    story: &OccurrenceStory,
    record: &OccurrenceRecord,
    last: i64,
    found: &mut Vec<Decision>,
) {
    let at = story.lines.last().map_or(record.recorded_at, |told| told.at);
    if story.overlaps > 0 {
        let text = format!(
            "{} of its rooms were left out: an earlier message of the schedule still waited there",
            story.overlaps
        );
        let reason = Reason::of_occurrence("overlap").unwrap_or(Reason::REACHED);
        found.push(Decision::new(at, reason, text).by(last));
    }
    if story.unserved {
        let text =
            "some of its rooms are still to be served: their messages are being written down";
        found.push(Decision::new(at, Reason::WAITING, text).by(last));
    }
    let deliveries = &story.deliveries;
    if deliveries.is_empty() {
        let text = "a bot was told of it: `imbabot events`; or it reached no room";
        found.push(Decision::new(at, Reason::REACHED, text).by(last));
        return;
    }
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for delivery in deliveries {
        *counts.entry(state(delivery)).or_default() += 1;
    }
    let counts: Vec<String> = counts.iter().map(|(state, n)| format!("{n} {state}")).collect();
    let odd: Vec<String> = deliveries
        .iter()
        .filter(|delivery| delivery.state != DeliveryState::Delivered)
        .take(NAMED)
        .map(|delivery| format!("{} in room {} of {}", delivery.id, delivery.room, delivery.widget))
        .collect();
    let named = match (odd.is_empty(), deliveries.len()) {
        (true, 1) => format!(": {}", deliveries[0].id),
        (true, _) => String::new(),
        (false, _) => format!("; ask `imbabot why` for {}", odd.join(", ")),
    };
    let messages = if deliveries.len() == 1 { "message" } else { "messages" };
    let text = format!("{} {messages}: {}{named}", deliveries.len(), counts.join(", "));
    found.push(Decision::new(at, Reason::REACHED, text).by(last));
}

fn state(delivery: &DeliveryRecord) -> String {
    match (&delivery.reason, delivery.state) {
        (Some(reason), DeliveryState::Dead) => format!("dead({reason})"),
        (_, state) => state.to_string(),
    }
}

fn of_run(run: &RangeRecord, at: Timestamp) -> Decision {
    let reason = Reason::of_occurrence(&run.reason).unwrap_or(Reason::NO_RECORD);
    let among = if run.count > 1 {
        format!(" (one of {} from {} to {})", run.count, run.from.compact(), run.to.compact())
    } else {
        String::new()
    };
    Decision::new(at, reason, format!("{}: {}{among}", run.outcome, words(&run.reason)))
}

fn without_record(
    calendar: &Calendar<'_>,
    story: &OccurrenceStory,
    now: Timestamp,
    running: bool,
) -> Decision {
    let at = calendar.at;
    if calendar.id.contains('!') {
        return Decision::new(at, Reason::NO_RECORD, "no operator asked for it, or it is too old");
    }
    let zone = calendar.schedule.map(Schedule::zone);
    if !calendar.has_instant() {
        return calendar.no_instant();
    }
    if calendar.schedule.is_none() && story.fired_through.is_none_or(|through| through < at) {
        let text = if story.present && running {
            "the schedule is not in this configuration, or not enabled; the daemon that runs has \
             it until its next reload"
        } else {
            "the schedule is not configured any more, or not enabled: nothing is due by it"
        };
        return Decision::new(at, Reason::NO_RECORD, text);
    }
    if at > now {
        let paused = if story.paused { "; the schedule is paused" } else { "" };
        let text = format!("still to come: due at {}{paused}", local(at, zone));
        return Decision::new(at, Reason::NOT_DUE, text);
    }
    match story.fired_through {
        Some(through) if through >= at => Decision::new(
            at,
            Reason::NO_RECORD,
            "the schedule was not there yet, or was edited or off at that time, or its records are \
             older than the retention",
        ),
        None => Decision::new(at, Reason::NO_RECORD, "no daemon ever ran with this schedule"),
        Some(_) if !running => Decision::new(
            now,
            Reason::NOT_RUNNING,
            "no daemon runs on this store: the next one decides by the schedule's misfire rule",
        ),
        Some(_) => Decision::new(
            now,
            Reason::WAITING,
            "it waits for the first list of rooms, or fires within a second",
        ),
    }
}

fn words(reason: &str) -> &'static str {
    match reason {
        "misfire" => "it was late, and the misfire rule left it out",
        "expired" => "it was later than `expires_after`",
        "overlap" => "in each of its rooms an earlier message still waited",
        "no_rooms" => "no room was chosen, or all that were are gone",
        "no_snapshot" => "until it expired there was no list from which to choose rooms",
        "edited" => "it waited for a list of rooms when its rule was changed or removed",
        "paused" => "the schedule was paused",
        "except" => "it falls on a date of `except`",
        "removed" => "the schedule was removed before its messages were written down",
        "restored" => {
            "the store was put back from a copy before its messages were written down, and they may \
             have been sent after the copy was made"
        }
        "retention" => "it is older than the retention, so only that it fired is kept",
        _ => "for a reason that this version has no words for",
    }
}
