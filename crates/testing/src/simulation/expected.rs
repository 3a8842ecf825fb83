//! Which instants have to be accounted for (E), by what is known of the calendar and of what was
//! configured when: a schedule owes every instant from the moment at which it was put into force. And
//! whether the reason that the ledger gives for each is true. The instants are the calendar's, which is
//! held against an oracle of its own; the rest shares nothing with the timer.

use std::collections::BTreeMap;
use std::time::Duration;

use imbabot_bot::Schedule;
use imbabot_bot::schedule::Misfire;
use imbabot_core::Timestamp;
use imbabot_store::{Cursor, OccurrenceOutcome, OccurrenceRecord, REANCHORED_BEYOND, RangeRecord};

use super::accounts::Accounts;

/// A schedule that waits for the first list of a widget looks for it so often.
const ASKS_AGAIN: Duration = Duration::from_secs(1);

/// A schedule as the configuration has it.
#[derive(Debug, Clone)]
pub(super) struct Owed {
    pub(super) key: String,
    pub(super) schedule: Schedule,
    /// Its rooms or its text can only be known from a list.
    pub(super) needs_snapshot: bool,
}

/// What a schedule owes.
#[derive(Debug, Clone)]
struct Track {
    owed: Owed,
    definition: String,
    present: bool,
    /// Every instant up to here is dealt with.
    through: Timestamp,
    /// When it last waited for the first list, by the wall: it asks again a second later.
    waited: Timestamp,
    /// Under which rule which instants have to be accounted for: those in (from, to].
    stretches: Vec<(Schedule, Timestamp, Timestamp)>,
    /// All rules it ever had.
    rules: Vec<Schedule>,
}

/// What all schedules owe.
#[derive(Debug, Clone, Default)]
pub(super) struct Expected {
    tracks: BTreeMap<String, Track>,
    /// A kill came while settings were put into force: the store knows how far it had come.
    uncertain: bool,
    /// A clock that was far ahead was corrected.
    pub(super) reanchored: bool,
}

impl Expected {
    /// The daemon was killed while it put these schedules into force: they may have been already, and
    /// have fired.
    pub(super) fn killed_in_between(&mut self, all: Vec<Owed>) {
        self.uncertain = true;
        for owed in all {
            if let Some(track) = self.tracks.get_mut(&owed.key) {
                track.learn(owed.schedule);
            }
        }
    }

    /// These schedules are in force since `now`; `before` is where the store stood.
    pub(super) fn adopt(&mut self, now: Timestamp, all: Vec<Owed>, before: &[Cursor]) {
        let uncertain = std::mem::take(&mut self.uncertain);
        let mut present: Vec<String> = Vec::new();
        for owed in all {
            let definition = owed.schedule.time_definition();
            present.push(owed.key.clone());
            let stood = before.iter().find(|cursor| cursor.key == owed.key);
            let Some(track) = self.tracks.get_mut(&owed.key) else {
                let schedule = owed.schedule.clone();
                let track = Track {
                    definition,
                    present: true,
                    through: now,
                    waited: Timestamp::MIN,
                    stretches: vec![(schedule.clone(), now, now)],
                    rules: vec![schedule],
                    owed,
                };
                self.tracks.insert(track.owed.key.clone(), track);
                continue;
            };
            let mut goes_on = track.present && track.definition == definition;
            if uncertain {
                goes_on &= stood.is_some_and(|c| {
                    c.definition == definition && c.fired_through == track.through
                });
            }
            track.learn(owed.schedule.clone());
            if track.through > now + REANCHORED_BEYOND {
                track.correct(now);
                self.reanchored = true;
                goes_on = false;
            }
            if !goes_on {
                track.through = track.through.max(now);
            }
            if !goes_on || track.owed.schedule != owed.schedule {
                track.stretches.push((owed.schedule.clone(), track.through, track.through));
            }
            track.definition = definition;
            track.present = true;
            track.owed = owed;
        }
        for (key, track) in &mut self.tracks {
            track.present &= present.contains(key);
        }
    }

    /// The daemon has done all that is due: every instant up to `now` has to be accounted for, but
    /// for those of a schedule that `waits` for the first list.
    pub(super) fn look(
        &mut self,
        now: Timestamp,
        waits: bool,
        cursors: &[Cursor],
        accounts: &Accounts,
    ) -> Result<(), String> {
        for track in self.tracks.values_mut().filter(|track| track.present) {
            let key = track.owed.key.clone();
            if track.through > now + REANCHORED_BEYOND {
                track.correct(now);
                self.reanchored = true;
                track.stretches.push((track.owed.schedule.clone(), now, now));
            }
            if waits {
                track.waited = track.waited.max(now);
            }
            let waits = now <= track.waited + ASKS_AGAIN;
            let until = if waits && track.owed.needs_snapshot {
                let stands = cursors.iter().find(|cursor| cursor.key == key);
                stands.map_or(track.through, |cursor| cursor.fired_through)
            } else {
                now
            };
            let schedule = &track.owed.schedule;
            let mut through = track.through;
            for instant in schedule.instants(track.through, until) {
                if schedule.due_at(&key, instant.at) > now {
                    break;
                }
                let times = accounts.times(&key, instant.at);
                if times != 1 {
                    let at = instant.at.compact();
                    return Err(format!("{key}@{at} is accounted for {times} times"));
                }
                through = instant.at;
            }
            track.through = through;
            if let Some(stretch) = track.stretches.last_mut() {
                stretch.2 = stretch.2.max(through);
            }
        }
        Ok(())
    }

    /// All instants that have to be accounted for, by schedule.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, Vec<Timestamp>)> {
        self.tracks.values().map(|track| {
            let mut all: Vec<Timestamp> = track
                .stretches
                .iter()
                .flat_map(|(schedule, from, to)| schedule.instants(*from, *to))
                .map(|instant| instant.at)
                .collect();
            all.sort_unstable();
            all.dedup();
            (track.owed.key.as_str(), all)
        })
    }

    /// Whether what became of an occurrence is true by some rule the schedule had; what is wrong if not.
    pub(super) fn is_true(
        &self,
        record: &OccurrenceRecord,
        paused: Option<bool>,
    ) -> Option<String> {
        let track = self.tracks.get(&record.schedule)?;
        let mut wrong = None;
        for schedule in &track.rules {
            wrong = untrue(&record.schedule, schedule, record, paused);
            wrong.as_ref()?;
        }
        wrong.map(|wrong| format!("{} is {}: {wrong}", record.id, record.outcome))
    }

    /// Whether what became of a run is true, if it was recorded at `now` or before.
    pub(super) fn is_true_of_run(&self, run: &RangeRecord, now: Timestamp) -> Option<String> {
        let track = self.tracks.get(&run.schedule)?;
        let before = Timestamp::from_micros(run.from.as_micros() - 1);
        let fits = |schedule: &Schedule| {
            let all: Vec<_> = schedule.instants(before, run.to).collect();
            let ends = all.first().is_some_and(|first| first.at == run.from)
                && all.last().is_some_and(|last| last.at == run.to);
            let reason = match run.reason.as_str() {
                "except" => all.iter().all(|instant| instant.excepted),
                "expired" | "no_snapshot" => run.to + schedule.keeps() <= now,
                "misfire" => {
                    now.since(schedule.due_at(&run.schedule, run.to)) > schedule.grace_period()
                }
                _ => true,
            };
            ends && reason && all.len() as u64 == run.count
        };
        if track.rules.iter().any(fits) {
            return None;
        }
        Some(format!(
            "{} from {} to {} is {} for {}, {} times, and that is not so",
            run.schedule,
            run.from.compact(),
            run.to.compact(),
            run.outcome,
            run.reason,
            run.count
        ))
    }
}

impl Track {
    /// It may have had this rule.
    fn learn(&mut self, rule: Schedule) {
        if !self.rules.contains(&rule) {
            self.rules.push(rule);
        }
    }

    /// What was dealt with under a clock that was far ahead is owed again, unless it fired.
    fn correct(&mut self, now: Timestamp) {
        self.through = now;
        self.stretches.retain(|(_, from, _)| *from < now);
        for stretch in &mut self.stretches {
            stretch.2 = stretch.2.min(now);
        }
    }
}

fn untrue(
    key: &str,
    schedule: &Schedule,
    record: &OccurrenceRecord,
    paused: Option<bool>,
) -> Option<String> {
    let at = record.nominal_at;
    let just_before = Timestamp::from_micros(at.as_micros() - 1);
    let Some(instant) = schedule.instants(just_before, at).next() else {
        return Some("the calendar has no such instant".into());
    };
    let due = schedule.due_at(key, at);
    let late = record.recorded_at.since(due);
    let is_late = late > schedule.grace_period();
    let expired = at + schedule.keeps() <= record.recorded_at;
    let reason = record.reason.as_deref().unwrap_or_default();
    if record.recorded_at < due {
        return Some("it was not due yet".into());
    }
    let wrong = match (record.outcome, reason) {
        (OccurrenceOutcome::Fired, _)
        | (OccurrenceOutcome::Skipped, "no_rooms" | "overlap" | "removed") => {
            if instant.excepted {
                "its date is excepted"
            } else if expired {
                "it had expired"
            } else if is_late && schedule.misfire_rule() == Misfire::Skip {
                "it was late, and what is late is to be skipped"
            } else if paused == Some(true) {
                "the schedule was paused"
            } else {
                return None;
            }
        }
        (OccurrenceOutcome::Skipped, "except") if !instant.excepted => "its date is not excepted",
        (OccurrenceOutcome::Skipped, "paused") if paused == Some(false) => "nothing was paused",
        (OccurrenceOutcome::Missed, "expired" | "no_snapshot") if !expired => "it had not expired",
        (OccurrenceOutcome::Missed, "misfire") if !is_late => "it was on time",
        _ => return None,
    };
    Some(wrong.into())
}
