//! Takes a schedule that is due up to now: what fires gets its rooms, and occurrences and cursor are
//! committed in one step. Decides no instant and expands no rooms.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use imbabot_bot::BotName;
use imbabot_core::Timestamp;
use imbabot_store::{
    EventBody, NewEvent, NewOccurrence, NewRange, OccurrenceCommit, OccurrenceOutcome,
};

use super::agenda::{Entry, Purpose};
use super::judge::{Step, judge};
use crate::announce::{Rooms, choose};
use crate::metrics::Family;
use crate::settings::Settings;
use crate::shared::Shared;

/// What came of a schedule's turn.
pub(super) enum Fired {
    /// It is recorded; the cursor stands here, and the last instant that fired is this.
    Recorded { through: Timestamp, last: Option<Timestamp> },
    /// Somebody else moved the cursor: nothing was recorded.
    Overtaken,
    /// There is no snapshot to choose rooms from.
    Waits,
}

/// Takes one schedule up to `now`.
pub(super) async fn fire(
    shared: &Shared,
    settings: &Settings,
    entry: &Entry,
    now: Timestamp,
) -> imbabot_store::Result<Fired> {
    let recorded = if entry.last_fired > entry.through {
        shared.store.recorded(entry.key(), entry.through, now).await?
    } else {
        BTreeSet::new()
    };
    let step = judge(entry, now, &recorded);
    let Some(step) = resolve(shared, settings, entry, step, now).await? else {
        return Ok(Fired::Waits);
    };
    if !shared.store.commit_occurrences(step.clone()).await? {
        return Ok(Fired::Overtaken);
    }
    tell(shared, entry, &step);
    if matches!(entry.purpose, Purpose::Bot(_)) {
        shared.idle.dispatcher.store(false, Ordering::Release);
        shared.bells.dispatcher.notify_one();
    }
    let fired = step.occurrences.iter().filter(|o| o.outcome == OccurrenceOutcome::Fired);
    let last = fired.map(|occurrence| occurrence.nominal_at).max();
    Ok(Fired::Recorded { through: step.through, last })
}

/// Finds the rooms of what fires; `None` if that has to wait for a snapshot.
async fn resolve(
    shared: &Shared,
    settings: &Settings,
    entry: &Entry,
    step: Step,
    now: Timestamp,
) -> imbabot_store::Result<Option<OccurrenceCommit>> {
    let Some(through) = step.through else {
        return Ok(Some(commit_of(entry, now, entry.through, Vec::new(), step.runs)));
    };
    let mut occurrences = Vec::new();
    if !step.fire.is_empty() {
        let rooms = match &entry.purpose {
            Purpose::Bot(_) => Rooms::None,
            Purpose::Announcement(announcement) => {
                choose(&*shared.store, settings, announcement, &step.fire, now).await?
            }
        };
        for at in &step.fire {
            let id = entry.occurrence(*at);
            let fired = |targets, events| NewOccurrence {
                id: id.clone(),
                nominal_at: *at,
                outcome: OccurrenceOutcome::Fired,
                reason: None,
                targets,
                events,
            };
            occurrences.push(match (&entry.purpose, &rooms) {
                (Purpose::Bot(own), _) => {
                    let key = entry.schedule().id().as_str();
                    fired(Vec::new(), events_of(settings, &own.bot, key, &id, *at))
                }
                (_, Rooms::Wait) => return Ok(None),
                (_, Rooms::None) => NewOccurrence {
                    outcome: OccurrenceOutcome::Skipped,
                    reason: Some("no_rooms".into()),
                    ..fired(Vec::new(), Vec::new())
                },
                (_, Rooms::Chosen(targets)) => fired(targets.clone(), Vec::new()),
            });
        }
    }
    Ok(Some(commit_of(entry, now, through, occurrences, step.runs)))
}

pub(super) fn commit_of(
    entry: &Entry,
    now: Timestamp,
    through: Timestamp,
    mut occurrences: Vec<NewOccurrence>,
    runs: Vec<NewRange>,
) -> OccurrenceCommit {
    let (ones, ranges): (Vec<_>, Vec<_>) = runs.into_iter().partition(|run| run.count == 1);
    occurrences.extend(ones.into_iter().map(|run| NewOccurrence {
        id: entry.occurrence(run.from),
        nominal_at: run.from,
        outcome: run.outcome,
        reason: Some(run.reason),
        targets: Vec::new(),
        events: Vec::new(),
    }));
    OccurrenceCommit {
        key: entry.key().to_owned(),
        now,
        from: entry.through,
        through,
        occurrences,
        ranges,
    }
}

pub(super) fn events_of(
    settings: &Settings,
    bot: &BotName,
    key: &str,
    occurrence: &str,
    at: Timestamp,
) -> Vec<NewEvent> {
    let served = settings.bot(bot);
    settings
        .widgets
        .iter()
        .filter(|widget| served.is_some_and(|bot| bot.serves(&widget.name)))
        .map(|widget| NewEvent {
            widget: widget.name.clone(),
            at,
            body: EventBody::Timer { key: key.into(), occurrence: Some(occurrence.into()) },
            recipients: vec![bot.clone()],
        })
        .collect()
}

/// What a step that is recorded says to people and metrics.
fn tell(shared: &Shared, entry: &Entry, step: &OccurrenceCommit) {
    let mut outcomes: BTreeMap<&'static str, f64> = BTreeMap::new();
    let now = shared.clock.now();
    for occurrence in &step.occurrences {
        *outcomes.entry(occurrence.outcome.as_str()).or_default() += 1.0;
        match occurrence.outcome {
            OccurrenceOutcome::Fired => {
                let late = now.since(entry.due_at(occurrence.nominal_at));
                shared.metrics.observe(Family::occurrence_lateness_seconds, late.as_secs_f64());
                tracing::info!(
                    occurrence = occurrence.id,
                    rooms = occurrence.targets.len(),
                    "fired"
                );
            }
            _ => tracing::warn!(
                code = "IMB-T-NOT-FIRED",
                occurrence = occurrence.id,
                reason = occurrence.reason,
                "{}",
                occurrence.outcome
            ),
        }
    }
    for range in &step.ranges {
        #[expect(clippy::cast_precision_loss, reason = "a counter")]
        let count = range.count as f64;
        *outcomes.entry(range.outcome.as_str()).or_default() += count;
        tracing::warn!(
            code = "IMB-T-NOT-FIRED",
            schedule = entry.key(),
            reason = range.reason,
            count = range.count,
            from = range.from.compact(),
            to = range.to.compact(),
            "{}",
            range.outcome
        );
    }
    for (outcome, count) in outcomes {
        shared.metrics.add(Family::occurrences_total, &[entry.key(), outcome], count);
    }
}
