//! Fires what is due: announcements, bots' own schedules, wakes. On each turn it enumerates the
//! instants between the cursor and now, so that nothing depends on having been awake at a moment;
//! occurrence and cursor move in one transaction. Decides nothing about rooms by hearsay: what an
//! occurrence reaches is pinned when it fires.

mod agenda;
mod correction;
mod expand;
mod fire;
mod judge;
mod trigger;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use imbabot_core::Timestamp;
use imbabot_store::{OccurrenceOutcome, REANCHORED_BEYOND};

use crate::metrics::Family;
use crate::settings::Settings;
use crate::shared::{Fatal, Reload, Shared};
use crate::status::{NextOccurrence, NotReady};

pub use agenda::{Agenda, bot_schedule_key};
pub(crate) use agenda::{Purpose, definitions, purposes};
pub(crate) use correction::shorten_runs;
pub use trigger::trigger;

use agenda::Entry;
use expand::expand;
use fire::{Fired, commit_of};
use judge::judge;

const TASK: &str = "timer";
/// Steps of schedules that are on their way to the store at once. The store commits together what
/// waits together: thousands that are due in one second share a few commits.
const AT_ONCE: usize = 256;
/// A clock that is corrected by less than this is not worth a word.
const SLIGHT: Duration = Duration::from_secs(5);
/// An announcement that waits for the first snapshot of a widget asks again after this.
const SNAPSHOT_PAUSE: Duration = Duration::from_secs(1);
/// How many next instants the status shows.
const SHOWN: usize = 50;

pub(crate) async fn run(shared: Arc<Shared>) -> Result<(), Fatal> {
    let mut loaded = false;
    let mut agenda = Agenda::default();
    let mut wake_at = Timestamp::MIN;
    let mut term = shared.ownership.now().schedules();
    loop {
        let settings = shared.settings.load_full();
        let owned = shared.ownership.now().schedules();
        if std::mem::replace(&mut term, owned) != owned {
            // Whoever had them meanwhile has moved them on.
            (loaded, wake_at) = (false, Timestamp::MIN);
            agenda = Agenda::default();
            show_all(&shared, &agenda);
        }
        let round = async {
            let now = shared.clock.now();
            if owned.is_none() {
                shared.board.reason(NotReady::ClockSuspect, TASK, false);
                if !reload_waits(&shared) {
                    return Ok((0, 0, now));
                }
                // Whoever has them may not have come to what is due, and under other rules nobody would.
                agenda = of_same_rules(&shared, &settings).await?;
                let fired = fire(&shared, &settings, &mut agenda, now).await?;
                return Ok((fired, 0, now));
            }
            if !loaded {
                agenda = load(&shared, &settings).await?;
                loaded = true;
            }
            refresh(&shared, &mut agenda).await?;
            if agenda.farthest().is_some_and(|through| through > now + REANCHORED_BEYOND) {
                // The clock was far ahead when these fired. To adopt says so and goes on from now.
                crate::engine::adopt(&*shared.store, now, &settings).await?;
                agenda = load(&shared, &settings).await?;
            }
            let suspect = agenda.farthest().is_some_and(|through| through > now + SLIGHT);
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
            let fired = fire(&shared, &settings, &mut agenda, now).await?;
            let expanded = expand(&shared, &settings, &agenda).await?;
            Ok::<_, imbabot_store::Error>((fired, expanded, now))
        };
        let fired_until = match round.await {
            Ok((fired, expanded, now)) => {
                shared.store_works("timer");
                shared.beat(TASK, if fired + expanded > 0 { "fired" } else { "idle" });
                now
            }
            Err(error) => {
                shared.store_failed("timer", error).await?;
                continue;
            }
        };
        let waiting = shared.reload.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Reload { settings, done }) = waiting {
            // What was due under the old rules then has just fired; what came due since belongs to the
            // new ones.
            let adopted = put_into_force(&shared, settings, &agenda, fired_until).await;
            // Whoever asked may have gone: the settings are in force all the same.
            let _ = done.send(adopted);
            loaded = false;
            if owned.is_none() {
                agenda = Agenda::default();
                show_all(&shared, &agenda);
            }
            continue;
        }
        let now = shared.clock.now();
        // A cursor that lies ahead is looked at when the clock reaches it.
        let due = agenda.soonest().into_iter().chain(agenda.ahead_of(now)).min();
        let look = now + shared.look();
        let due = match owned {
            Some(_) => due.unwrap_or(look).min(wake_at).min(look),
            None => look,
        };
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
    agenda: &Agenda,
    now: Timestamp,
) -> imbabot_store::Result<()> {
    let kept = definitions(&settings);
    for entry in agenda.entries().iter().filter(|entry| entry.awaits_snapshot) {
        let definition = entry.schedule().time_definition();
        if kept.iter().any(|kept| kept.key == entry.key() && kept.definition == definition) {
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

fn reload_waits(shared: &Shared) -> bool {
    shared.reload.lock().unwrap_or_else(PoisonError::into_inner).is_some()
}

/// The schedules whose rules are still those of these settings: of others an instance may have read
/// newer ones.
async fn of_same_rules(shared: &Shared, settings: &Settings) -> imbabot_store::Result<Agenda> {
    let definitions = definitions(settings);
    let ours: BTreeSet<(&str, &str)> =
        definitions.iter().map(|ours| (ours.key.as_str(), ours.definition.as_str())).collect();
    let mut cursors = shared.store.cursors().await?;
    cursors.retain(|cursor| ours.contains(&(cursor.key.as_str(), cursor.definition.as_str())));
    Ok(Agenda::of(settings, cursors))
}

async fn load(shared: &Shared, settings: &Settings) -> imbabot_store::Result<Agenda> {
    let agenda = Agenda::of(settings, shared.store.cursors().await?);
    show_all(shared, &agenda);
    Ok(agenda)
}

/// A pause and a moved cursor may come from another process.
async fn refresh(shared: &Shared, agenda: &mut Agenda) -> imbabot_store::Result<()> {
    if shared.schedules_changed.swap(false, Ordering::AcqRel) {
        let cursors = shared.store.cursors().await?;
        // Most of what others change is no schedule.
        if agenda.follow(&cursors) {
            show_all(shared, agenda);
        }
    }
    Ok(())
}

/// Fires every schedule that is due; how many steps that were.
async fn fire(
    shared: &Shared,
    settings: &Settings,
    agenda: &mut Agenda,
    now: Timestamp,
) -> imbabot_store::Result<usize> {
    let mut recorded = 0;
    let due = agenda.due_until(now);
    for places in due.chunks(AT_ONCE) {
        let steps: Vec<BoxFuture<'_, imbabot_store::Result<Fired>>> = places
            .iter()
            .filter_map(|place| agenda.get(*place))
            .map(|entry| fire::fire(shared, settings, entry, now).boxed())
            .collect();
        // Each is seen to its end, also beside one that failed: what is recorded is counted.
        let ends = join_all(steps).await;
        let mut failed = None;
        for (place, end) in places.iter().zip(ends) {
            match end {
                Ok(Fired::Recorded { through, last }) => {
                    recorded += 1;
                    agenda.update(*place, |entry| {
                        entry.through = through;
                        entry.last_fired = entry.last_fired.max(last.unwrap_or(Timestamp::MIN));
                        entry.awaits_snapshot = false;
                    });
                    agenda.get(*place).into_iter().for_each(|entry| show(shared, entry));
                }
                Ok(Fired::Overtaken) => {
                    shared.schedules_changed.store(true, Ordering::Release);
                    agenda.look_again(*place, now + SNAPSHOT_PAUSE);
                }
                // Asked again, until the instant has expired.
                Ok(Fired::Waits) => agenda.put_off(*place, now + SNAPSHOT_PAUSE),
                Err(error) => failed = Some(error),
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
    }
    if !due.is_empty() {
        show_next(shared, agenda);
    }
    Ok(recorded)
}

/// Shows when every schedule comes next.
fn show_all(shared: &Shared, agenda: &Agenda) {
    shared.metrics.clear(Family::schedule_next_timestamp_seconds);
    agenda.entries().iter().for_each(|entry| show(shared, entry));
    show_next(shared, agenda);
}

fn show(shared: &Shared, entry: &Entry) {
    #[expect(clippy::cast_precision_loss, reason = "seconds fit")]
    let seconds = entry.due().map(|at| at.as_seconds() as f64);
    shared.metrics.put(Family::schedule_next_timestamp_seconds, &[entry.key()], seconds);
}

fn show_next(shared: &Shared, agenda: &Agenda) {
    let next = agenda.next().take(SHOWN).map(|(at, entry)| NextOccurrence {
        schedule: entry.key().to_owned(),
        at: entry.schedule().zone().rfc3339(at),
        at_utc: at,
    });
    shared.board.next(next.collect());
}
