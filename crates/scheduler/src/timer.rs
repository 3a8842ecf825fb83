//! Fires what is due: announcements, bots' own schedules, wakes. On each turn it enumerates the
//! instants between the cursor and now, so that nothing depends on having been awake at a moment;
//! occurrence and cursor move in one transaction. Decides nothing about rooms by hearsay: what an
//! occurrence reaches is pinned when it fires.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use imbabot_bot::schedule::{Misfire, Overlap};
use imbabot_bot::{BotName, Schedule};
use imbabot_core::Timestamp;
use imbabot_store::{
    AdoptSchedule, Cursor, EventBody, Expansion, MANUAL, NewEvent, NewOccurrence, NewRange,
    OccurrenceCommit, OccurrenceOutcome, REANCHORED_BEYOND, Store,
};

use crate::announce::{Rooms, RoomsByPlace, choose, deliveries, rooms_of};
use crate::metrics::Family;
use crate::settings::{Announcement, Settings};
use crate::shared::{Fatal, Reload, Shared};
use crate::status::{NextOccurrence, NotReady};

const TASK: &str = "timer";
/// Deliveries per transaction while an occurrence is expanded.
const BATCH: usize = 500;
/// Steps of schedules that are on their way to the store at once. The store commits together what
/// waits together: thousands that are due in one second share a few commits.
const AT_ONCE: usize = 256;
/// A clock that is corrected by less than this is not worth a word.
const SLIGHT: Duration = Duration::from_secs(5);
/// An announcement that waits for the first snapshot of a widget asks again after this.
const SNAPSHOT_PAUSE: Duration = Duration::from_secs(1);
/// How many next instants the status shows.
const SHOWN: usize = 50;

/// Who is served by a schedule.
#[derive(Clone)]
pub(crate) enum Purpose {
    Announcement(Box<Announcement>),
    Bot { bot: BotName, id: String },
}

/// A schedule in force.
struct Entry {
    key: String,
    schedule: Schedule,
    purpose: Purpose,
    through: Timestamp,
    /// The last instant that fired. It lies ahead of the cursor where the clock went far back.
    last_fired: Option<Timestamp>,
    paused: bool,
    /// When it has to be looked at next.
    due: Option<Timestamp>,
    /// It is due, and no snapshot says yet to which rooms.
    awaits_snapshot: bool,
}

/// The key of a bot's own schedule: no name of a person's choosing has a slash.
#[must_use]
pub fn bot_schedule_key(bot: &BotName, schedule: &Schedule) -> String {
    format!("bot/{bot}/{}", schedule.id())
}

/// The schedules of these settings as the store knows them.
pub(crate) fn definitions(settings: &Settings) -> Vec<AdoptSchedule> {
    entries(settings)
        .map(|(key, schedule, _)| AdoptSchedule { key, definition: schedule.time_definition() })
        .collect()
}

pub(crate) fn entries(
    settings: &Settings,
) -> impl Iterator<Item = (String, Schedule, Purpose)> + '_ {
    let announcements = settings.announcements.iter().filter(|a| a.enabled).map(|a| {
        let key = a.schedule.id().to_string();
        (key, a.schedule.clone(), Purpose::Announcement(Box::new(a.clone())))
    });
    let bots = settings.bots.iter().flat_map(|bot| {
        bot.bot.schedules().into_iter().map(|schedule| {
            let purpose = Purpose::Bot { bot: bot.name.clone(), id: schedule.id().to_string() };
            (bot_schedule_key(&bot.name, &schedule), schedule, purpose)
        })
    });
    announcements.chain(bots)
}

pub(crate) async fn run(shared: Arc<Shared>) -> Result<(), Fatal> {
    let mut loaded = false;
    let mut entries = Vec::new();
    let mut wake_at = Timestamp::MIN;
    loop {
        let settings = shared.settings.load_full();
        let round = async {
            let now = shared.clock.now();
            if !loaded {
                entries = load(&shared, &settings).await?;
                loaded = true;
                show_next(&shared, &entries);
            }
            if refresh(&shared, &mut entries).await? {
                show_next(&shared, &entries);
            }
            if entries.iter().any(|entry| entry.through > now + REANCHORED_BEYOND) {
                // The clock was far ahead when these fired. To adopt says so and goes on from now.
                crate::engine::adopt(&*shared.store, now, &settings).await?;
                entries = load(&shared, &settings).await?;
                show_next(&shared, &entries);
            }
            let suspect = entries.iter().any(|entry| entry.through > now + SLIGHT);
            shared.board.reason(NotReady::ClockSuspect, TASK, suspect);
            // Chosen before the clock went back, it may lie years ahead.
            wake_at = wake_at.min(now + shared.look());
            if wake_at <= now {
                let (fired, next) = shared.store.fire_wakes(now).await?;
                wake_at = next.unwrap_or(now + shared.look());
                if fired > 0 {
                    shared.idle.dispatcher.store(false, Ordering::Release);
                    shared.bells.dispatcher.notify_one();
                }
            }
            let fired = fire(&shared, &settings, &mut entries, now).await?;
            if fired > 0 {
                show_next(&shared, &entries);
            }
            let soonest = entries.iter().filter_map(|entry| entry.due).min();
            let expanded = expand(&shared, &settings, soonest).await?;
            Ok::<_, imbabot_store::Error>((fired, expanded))
        };
        match round.await {
            Ok((fired, expanded)) => {
                shared.store_works("timer");
                shared.beat(TASK, if fired + expanded > 0 { "fired" } else { "idle" });
            }
            Err(error) => {
                shared.store_failed("timer", error).await?;
                continue;
            }
        }
        let waiting = shared.reload.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Reload { settings, done }) = waiting {
            // What is due under the old rules has just fired.
            let adopted = put_into_force(&shared, settings, &entries).await;
            // Whoever asked may have gone: the settings are in force all the same.
            let _ = done.send(adopted);
            loaded = false;
            continue;
        }
        let now = shared.clock.now();
        // A cursor that lies ahead is looked at when the clock reaches it.
        let ahead = entries.iter().map(|entry| entry.through).filter(|through| *through > now);
        let due = entries.iter().filter_map(|entry| entry.due).chain(ahead).min();
        let due = due.unwrap_or(now + shared.look()).min(wake_at).min(now + shared.look());
        shared.idle.timer.store(due > now, Ordering::Release);
        tokio::select! {
            biased;
            () = shared.stop.cancelled() => return Ok(()),
            () = shared.bells.timer.notified() => wake_at = wake_at.min(shared.clock.now()),
            () = shared.clock.sleep_until(due) => {}
        }
    }
}

/// Adopts new settings. An instant that is due and could not fire (it waits for a snapshot) ends
/// here if its rule was edited or removed: under the new rule it does not exist.
async fn put_into_force(
    shared: &Shared,
    settings: Settings,
    entries: &[Entry],
) -> imbabot_store::Result<()> {
    let now = shared.clock.now();
    let kept = definitions(&settings);
    for entry in entries.iter().filter(|entry| entry.awaits_snapshot) {
        let definition = entry.schedule.time_definition();
        if kept.iter().any(|kept| kept.key == entry.key && kept.definition == definition) {
            continue;
        }
        let mut step = judge(entry, now, &BTreeSet::new());
        let Some(through) = step.through else { continue };
        for at in std::mem::take(&mut step.fire) {
            step.leave_out(at, OccurrenceOutcome::Missed, "edited");
        }
        let step = commit_of(entry, now, through, Vec::new(), step.runs);
        shared.store.commit_occurrences(step).await?;
    }
    crate::engine::adopt(&*shared.store, now, &settings).await?;
    shared.settings.store(Arc::new(settings));
    Ok(())
}

async fn load(shared: &Shared, settings: &Settings) -> imbabot_store::Result<Vec<Entry>> {
    let cursors = shared.store.cursors().await?;
    let mut cursors: BTreeMap<String, Cursor> =
        cursors.into_iter().map(|cursor| (cursor.key.clone(), cursor)).collect();
    Ok(entries(settings)
        .filter_map(|(key, schedule, purpose)| {
            let cursor = cursors.remove(&key)?;
            let mut entry = Entry {
                key,
                schedule,
                purpose,
                through: cursor.fired_through,
                last_fired: cursor.last_fired,
                paused: cursor.paused,
                due: None,
                awaits_snapshot: false,
            };
            entry.plan();
            Some(entry)
        })
        .collect())
}

/// A pause and a moved cursor may come from another process.
async fn refresh(shared: &Shared, entries: &mut [Entry]) -> imbabot_store::Result<bool> {
    if !shared.schedules_changed.swap(false, Ordering::AcqRel) {
        return Ok(false);
    }
    let cursors = shared.store.cursors().await?;
    let cursors: BTreeMap<&str, &Cursor> =
        cursors.iter().map(|cursor| (cursor.key.as_str(), cursor)).collect();
    for entry in entries {
        if let Some(cursor) = cursors.get(entry.key.as_str()) {
            entry.paused = cursor.paused;
            entry.through = cursor.fired_through;
            entry.last_fired = cursor.last_fired;
            entry.plan();
        }
    }
    Ok(true)
}

impl Entry {
    /// Finds the next instant after the cursor.
    fn plan(&mut self) {
        let next = self.schedule.instants(self.through, Timestamp::MAX).next();
        self.due = next.map(|instant| self.due_at(instant.at));
    }

    fn occurrence(&self, at: Timestamp) -> String {
        format!("{}@{}", self.key, at.compact())
    }

    /// The nominal instant and its jitter.
    fn due_at(&self, at: Timestamp) -> Timestamp {
        // Asked of millions of instants after a long gap.
        if self.schedule.longest_delay().is_zero() {
            return at;
        }
        at + self.schedule.delay_of(&self.occurrence(at))
    }
}

/// Fires every schedule that is due; how many steps that were.
async fn fire(
    shared: &Shared,
    settings: &Settings,
    entries: &mut [Entry],
    now: Timestamp,
) -> imbabot_store::Result<usize> {
    let mut due: Vec<&mut Entry> =
        entries.iter_mut().filter(|entry| entry.due.is_some_and(|due| due <= now)).collect();
    let mut fired = 0;
    for some in due.chunks_mut(AT_ONCE) {
        let mut steps: Vec<BoxFuture<'_, imbabot_store::Result<bool>>> = Vec::new();
        for entry in some {
            steps.push(fire_one(shared, settings, entry, now).boxed());
        }
        // Each is seen to its end, also beside one that failed: what is recorded is counted.
        for step in join_all(steps).await {
            fired += usize::from(step?);
        }
    }
    Ok(fired)
}

/// Whether there was anything to record.
async fn fire_one(
    shared: &Shared,
    settings: &Settings,
    entry: &mut Entry,
    now: Timestamp,
) -> imbabot_store::Result<bool> {
    let recorded = if entry.last_fired.is_some_and(|last| last > entry.through) {
        shared.store.recorded(&entry.key, entry.through, now).await?
    } else {
        BTreeSet::new()
    };
    let step = judge(entry, now, &recorded);
    let Some(step) = resolve(shared, settings, entry, step, now).await? else {
        // No snapshot to choose rooms from: asked again, until the instant has expired.
        entry.due = Some(now + SNAPSHOT_PAUSE);
        entry.awaits_snapshot = true;
        return Ok(false);
    };
    let committed = shared.store.commit_occurrences(step.clone()).await?;
    if committed {
        entry.through = step.through;
        let fired = step.occurrences.iter().filter(|o| o.outcome == OccurrenceOutcome::Fired);
        entry.last_fired = entry.last_fired.max(fired.map(|o| o.nominal_at).max());
        entry.awaits_snapshot = false;
        tell(shared, entry, &step);
        if matches!(entry.purpose, Purpose::Bot { .. }) {
            shared.idle.dispatcher.store(false, Ordering::Release);
            shared.bells.dispatcher.notify_one();
        }
    } else {
        shared.schedules_changed.store(true, Ordering::Release);
    }
    entry.plan();
    Ok(committed)
}

/// A step before anything is known of rooms: the instants that fire, and the runs that do not.
#[derive(Debug, Default, PartialEq)]
struct Step {
    fire: Vec<Timestamp>,
    runs: Vec<NewRange>,
    through: Option<Timestamp>,
    /// What is left out next is no continuation of what was left out before.
    apart: bool,
}

impl Step {
    fn leave_out(&mut self, at: Timestamp, outcome: OccurrenceOutcome, reason: &str) {
        let apart = std::mem::take(&mut self.apart);
        match self.runs.last_mut() {
            Some(run)
                if !apart && run.outcome == outcome && run.reason == reason && run.to < at =>
            {
                run.to = at;
                run.count += 1;
            }
            _ => {
                let reason = reason.to_owned();
                self.runs.push(NewRange { outcome, reason, from: at, to: at, count: 1 });
            }
        }
    }
}

/// What becomes of each instant between the cursor and now, but for those that are recorded.
fn judge(entry: &Entry, now: Timestamp, recorded: &BTreeSet<Timestamp>) -> Step {
    use OccurrenceOutcome::{Missed, Skipped};
    let schedule = &entry.schedule;
    let bound = match schedule.misfire_rule() {
        Misfire::Skip => 0,
        Misfire::CatchUp => usize::try_from(schedule.catch_up_bound()).unwrap_or(usize::MAX),
        _ => 1,
    };
    let once = schedule.misfire_rule() == Misfire::FireOnce;
    let mut step = Step::default();
    // The latest late ones that may still fire; what falls out at the front is missed.
    let mut late: VecDeque<Timestamp> = VecDeque::new();
    let mut on_time = Vec::new();
    for instant in schedule.instants(entry.through, now) {
        let at = instant.at;
        let due = entry.due_at(at);
        if due > now {
            break;
        }
        step.through = Some(at);
        if recorded.contains(&at) {
            // Under another clock. No run may reach over it.
            step.apart = true;
        } else if instant.excepted {
            step.leave_out(at, Skipped, "except");
        } else if entry.paused {
            step.leave_out(at, Skipped, "paused");
        } else if at + schedule.keeps() <= now {
            let why = if entry.awaits_snapshot { "no_snapshot" } else { "expired" };
            step.leave_out(at, Missed, why);
        } else if now.since(due) <= schedule.grace_period() {
            on_time.push(at);
        } else if bound == 0 {
            step.leave_out(at, Missed, "misfire");
        } else {
            late.push_back(at);
            if late.len() > bound
                && let Some(oldest) = late.pop_front()
            {
                step.leave_out(oldest, Missed, "misfire");
            }
        }
    }
    // One of everything that is due: a late one is not worth saying beside one that is on time.
    if once && !on_time.is_empty() {
        for at in late.drain(..) {
            step.leave_out(at, Missed, "misfire");
        }
    }
    step.fire.extend(late);
    step.fire.extend(on_time);
    step
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
            Purpose::Bot { .. } => Rooms::None,
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
                (Purpose::Bot { bot, id: key }, _) => {
                    fired(Vec::new(), events_of(settings, bot, key, &id, *at))
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

fn commit_of(
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
        key: entry.key.clone(),
        now,
        from: entry.through,
        through,
        occurrences,
        ranges,
    }
}

fn events_of(
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

/// Makes one extra occurrence now, beside the schedule's own; its id. `None` if there is no such
/// schedule, or no room that it would reach.
///
/// # Errors
/// The store refuses.
pub async fn trigger(
    store: &dyn Store,
    settings: &Settings,
    key: &str,
    now: Timestamp,
) -> imbabot_store::Result<Option<String>> {
    let Some((key, schedule, purpose)) = entries(settings).find(|(k, _, _)| k == key) else {
        return Ok(None);
    };
    // Two in one second are two.
    let id = format!("{key}@{}{MANUAL}", now.compact());
    let (targets, events) = match &purpose {
        Purpose::Bot { bot, id: own } => (Vec::new(), events_of(settings, bot, own, &id, now)),
        Purpose::Announcement(announcement) => {
            match choose(store, settings, announcement, &[schedule_instant(&schedule, now)], now)
                .await?
            {
                Rooms::Chosen(targets) => (targets, Vec::new()),
                Rooms::None | Rooms::Wait => return Ok(None),
            }
        }
    };
    let occurrence = NewOccurrence {
        id: id.clone(),
        nominal_at: now,
        outcome: OccurrenceOutcome::Fired,
        reason: None,
        targets,
        events,
    };
    store.trigger(now, &key, occurrence).await?;
    Ok(Some(id))
}

/// A manual occurrence does not wait for widgets that have never answered.
fn schedule_instant(schedule: &Schedule, now: Timestamp) -> Timestamp {
    now - schedule.grace_period() - Duration::from_secs(1)
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
            schedule = entry.key,
            reason = range.reason,
            count = range.count,
            from = range.from.compact(),
            to = range.to.compact(),
            "{}",
            range.outcome
        );
    }
    for (outcome, count) in outcomes {
        shared.metrics.add(Family::occurrences_total, &[&entry.key, outcome], count);
    }
}

/// Turns pinned rooms into deliveries, batch by batch; a kill in between is continued here. Stops
/// where something else is to be done first: a schedule is due, settings wait, the daemon stops.
async fn expand(
    shared: &Shared,
    settings: &Settings,
    soonest: Option<Timestamp>,
) -> imbabot_store::Result<usize> {
    let mut batches = 0;
    let interrupted = |batches: usize| {
        let waiting = || shared.reload.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        batches > 0
            && (soonest.is_some_and(|due| due <= shared.clock.now())
                || shared.stop.is_cancelled()
                || waiting())
    };
    while !interrupted(batches)
        && let Some(pinned) = shared.store.next_pinned(BATCH).await?
    {
        let announcement = settings
            .announcements
            .iter()
            .find(|announcement| announcement.schedule.id().as_str() == pinned.key);
        let deliveries = match announcement {
            Some(announcement) => {
                let of = (pinned.id.as_str(), pinned.nominal_at);
                let rooms = if announcement.text.needs_room() {
                    rooms_of(&*shared.store, &pinned.targets).await?
                } else {
                    RoomsByPlace::new()
                };
                deliveries(settings, announcement, of, &pinned.targets, &rooms)
            }
            None => Vec::new(),
        };
        let batch = Expansion {
            id: pinned.id.clone(),
            now: shared.clock.now(),
            position: pinned.position,
            served: pinned.targets.len(),
            deliveries,
            // A person who asks for one now means now.
            skip_overlap: !pinned.id.ends_with(MANUAL)
                && announcement.is_some_and(|a| a.schedule.overlap_rule() == Overlap::Skip),
        };
        shared.store.expand(batch).await?;
        shared.idle.deliverer.store(false, Ordering::Release);
        shared.bells.deliverer.notify_one();
        batches += 1;
    }
    Ok(batches)
}

fn show_next(shared: &Shared, entries: &[Entry]) {
    let mut next: Vec<NextOccurrence> = Vec::new();
    shared.metrics.clear(Family::schedule_next_timestamp_seconds);
    for entry in entries {
        let Some(at) = entry.due else { continue };
        #[expect(clippy::cast_precision_loss, reason = "seconds fit")]
        let seconds = at.as_seconds() as f64;
        shared.metrics.set(Family::schedule_next_timestamp_seconds, &[&entry.key], seconds);
        next.push(NextOccurrence {
            schedule: entry.key.clone(),
            at: entry.schedule.zone().rfc3339(at),
            at_utc: at,
        });
    }
    next.sort_by_key(|next| next.at_utc);
    next.truncate(SHOWN);
    shared.board.next(next);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(schedule: Schedule, through: &str) -> Entry {
        Entry {
            key: "s".into(),
            schedule,
            purpose: Purpose::Bot { bot: "b".parse().unwrap(), id: "s".into() },
            through: through.parse().unwrap(),
            last_fired: None,
            paused: false,
            due: None,
            awaits_snapshot: false,
        }
    }

    fn hourly() -> Schedule {
        Schedule::cron("s", "0 * * * *").unwrap().expires_after(Duration::from_secs(86_400))
    }

    fn fired(schedule: Schedule, through: &str, now: &str) -> (Vec<String>, Vec<(String, u64)>) {
        let now = now.parse().unwrap();
        let step = judge(&entry(schedule, through), now, &BTreeSet::new());
        let runs = step.runs.into_iter().map(|run| (run.reason, run.count)).collect();
        (step.fire.into_iter().map(Timestamp::compact).collect(), runs)
    }

    #[test]
    fn on_time_fires() {
        let (fire, runs) = fired(hourly(), "2026-03-01T09:00:00Z", "2026-03-01T10:00:30Z");
        assert_eq!(fire, ["2026-03-01T10:00:00Z"]);
        assert!(runs.is_empty());
    }

    #[test]
    fn after_a_gap_the_latest_fires_once() {
        let (fire, runs) = fired(hourly(), "2026-03-01T04:00:00Z", "2026-03-01T10:30:00Z");
        assert_eq!(fire, ["2026-03-01T10:00:00Z"]);
        assert_eq!(runs, [("misfire".to_owned(), 5)]);
    }

    #[test]
    fn what_is_on_time_makes_what_is_late_superfluous() {
        let (fire, runs) = fired(hourly(), "2026-03-01T04:00:00Z", "2026-03-01T10:00:30Z");
        assert_eq!(fire, ["2026-03-01T10:00:00Z"]);
        assert_eq!(runs, [("misfire".to_owned(), 5)]);
    }

    #[test]
    fn catching_up_is_bounded() {
        let schedule = hourly().misfire(Misfire::CatchUp).catch_up_max(3);
        let (fire, runs) = fired(schedule, "2026-03-01T00:00:00Z", "2026-03-01T10:30:00Z");
        assert_eq!(fire.len(), 3);
        assert_eq!(fire[0], "2026-03-01T08:00:00Z");
        assert_eq!(runs, [("misfire".to_owned(), 7)]);
    }

    #[test]
    fn skipping_skips_what_is_late_and_only_that() {
        let schedule = hourly().misfire(Misfire::Skip);
        let (fire, runs) = fired(schedule.clone(), "2026-03-01T04:00:00Z", "2026-03-01T10:30:00Z");
        assert!(fire.is_empty());
        assert_eq!(runs, [("misfire".to_owned(), 6)]);
        let (fire, _) = fired(schedule, "2026-03-01T09:00:00Z", "2026-03-01T10:00:10Z");
        assert_eq!(fire.len(), 1);
    }

    #[test]
    fn past_its_expiry_nothing_fires_under_any_rule() {
        let schedule = Schedule::cron("s", "0 9 * * *").unwrap().misfire(Misfire::CatchUp);
        let (fire, runs) = fired(schedule, "2026-03-01T09:00:00Z", "2026-03-03T10:00:00Z");
        assert!(fire.is_empty());
        assert_eq!(runs, [("expired".to_owned(), 2)]);
    }

    #[test]
    fn a_clock_that_went_back_fires_nothing_again() {
        let step = judge(
            &entry(hourly(), "2026-03-01T10:00:00Z"),
            "2026-03-01T08:00:30Z".parse().unwrap(),
            &BTreeSet::new(),
        );
        assert_eq!(step, Step::default());
    }
}
