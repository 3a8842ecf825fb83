//! Polls the lists of all widgets, finds what changed, and commits snapshot and events together.
//! One poll of a list at a time, and each list at a pace of its own; a list that is cut, odd or another widget's is no snapshot, never
//! an empty one. Sends nothing.

pub(crate) mod activity;
mod ahead;
mod commit;
mod conclude;
mod learn;
mod limit;
mod list;
mod pace;
mod spool;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use imbabot_bot::{ActivitySignal, Listen, WidgetName};
use imbabot_core::{Error, Probe, Room, User};
use imbabot_store::{Capabilities, ErrorKind, Learned, ListKind, Source};
use tokio_util::sync::CancellationToken;

use crate::breaker::Refused;
use crate::diff::Index;
use crate::ownership::{Owned, Term};
use crate::settings::{Settings, WidgetSettings};
use crate::shared::{Fatal, Shared};
use crate::status::NotReady;

use activity::Activity;
use ahead::Ahead;
use conclude::{conclude, tell_cut};
use learn::Known;
use limit::Counted;
use list::{Seen, poll_list};

pub use limit::is_round;

const TASK: &str = "poller";
/// Where the wall gets ahead by so much while a list is waited for, the host was asleep or its clock
/// was set: what the lists were is of another time, and they are asked for at once.
const ASLEEP: Duration = Duration::from_secs(30);
/// A poll that the store would not take comes again after this.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

type Key = (WidgetName, ListKind);

/// A list between two polls.
#[derive(Default)]
struct List {
    index: Option<Index>,
    /// When it is polled next, on the clock that never goes back.
    due: Duration,
    in_flight: bool,
    polled: bool,
    counted: Counted,
    /// It is asked for at the same moment as all others.
    together: bool,
    /// How many polls there were.
    polls: u64,
    /// When it was last seen to change, on the clock that never goes back.
    moved_at: Duration,
    /// The term of its widget when it was first looked at.
    term: Term,
    /// Its widget is another instance's, or was meanwhile: a poll that is under way is worth nothing.
    given_away: CancellationToken,
    /// The store would not take the last poll.
    refused: bool,
}

/// How a poll ended.
enum End {
    /// A trusted list, which was committed: what it was.
    Good(Box<Seen>),
    /// A list that was not believed.
    Held,
    /// Not a list.
    Failed(Error),
    /// A list of somebody else.
    Foreign,
    /// The key is accepted again; a list was not asked for.
    Accepted,
    /// Nothing was asked: the server has to be found first.
    Spared,
    /// The widget is another instance's by now.
    GivenAway,
    /// What differs cannot be kept until it is committed: the disk is full, say. No snapshot.
    Unspooled(String),
    /// The store failed.
    Store(imbabot_store::Error),
}

impl List {
    /// Whether it is still what is asked for: whoever gives a widget away and has it again in the same
    /// term, since nobody took it meanwhile, begins with what is in the store.
    fn belongs(&self, widget: &WidgetName, owned: &Owned) -> bool {
        owned.widget(widget) == Some(self.term) && !self.given_away.is_cancelled()
    }
}

impl End {
    /// Whether the store would not take it now.
    fn is_refused(&self) -> bool {
        matches!(self, Self::Store(error) if *error.kind() == ErrorKind::Retryable)
    }

    /// Whether it shows that the list is on the move.
    fn is_news(&self) -> bool {
        match self {
            Self::Good(seen) => seen.moved,
            Self::Held => true,
            _ => false,
        }
    }
}

pub(crate) async fn run(shared: Arc<Shared>) -> Result<(), Fatal> {
    let mut lists: BTreeMap<Key, List> = BTreeMap::new();
    let mut polls = FuturesUnordered::new();
    let mut ahead = Ahead::default();
    let mut known: Option<BTreeMap<WidgetName, Known>> = None;
    let mut before = shared.ownership.now();
    loop {
        let settings = shared.settings.load_full();
        let owned = shared.ownership.now();
        let gained = owned.gained_since(&before);
        if known.is_none() || !gained.is_empty() {
            // Of those that were there before more is known here than in the store.
            let only = known.as_ref().map(|_| gained.as_slice());
            match remembered(&shared, only).await {
                Ok(found) => known.get_or_insert_default().extend(found),
                Err(error) => {
                    shared.store_failed("learned", error).await?;
                    continue;
                }
            }
        }
        before = Arc::clone(&owned);
        let known = known.get_or_insert_default();
        adopt(&shared, &settings, &owned, &mut lists, known);
        let now = shared.clock.elapsed();
        if shared.poll_all.swap(false, Ordering::AcqRel) {
            for list in lists.values_mut() {
                list.due = now;
                list.together = true;
            }
        }
        for (key, list) in &mut lists {
            if list.in_flight || list.due > now {
                continue;
            }
            let Some(widget) = settings.widget(&key.0) else { continue };
            list.in_flight = true;
            let (shared, settings, widget) =
                (Arc::clone(&shared), Arc::clone(&settings), widget.clone());
            let (key, index) = (key.clone(), list.index.take());
            // That it moves is known once it was seen.
            let heed = known.get(&key.0).is_none_or(|known| !known.capabilities().updated_at_moves)
                || (key.1 == ListKind::Rooms
                    && shared.activity(&key.0, |activity| activity.is_open()));
            let given_away = list.given_away.clone();
            polls.push(
                async move {
                    let begun = shared.clock.elapsed();
                    let polled = poll(&shared, &settings, &widget, key.1, index, heed).boxed();
                    let given_away = given_away.cancelled().boxed();
                    // In this order: what comes back when it is given away is not committed any more.
                    let (index, end) = match select(given_away, polled).await {
                        Either::Left(((), _)) => (None, End::GivenAway),
                        Either::Right((polled, _)) => polled,
                    };
                    let took = shared.clock.elapsed().saturating_sub(begun);
                    (key, index, end, took, settings)
                }
                .boxed(),
            );
        }
        let next = lists.values().filter(|list| !list.in_flight).map(|list| list.due).min();
        shared
            .idle
            .poller
            .store(polls.is_empty() && lists.values().all(|list| list.polled), Ordering::Release);
        shared.beat(TASK, if polls.is_empty() { "waiting" } else { "polling" });
        let wait = next.map_or(shared.look(), |due| due.saturating_sub(now)).min(shared.look());
        let awake_until = shared.clock.now() + wait + ASLEEP;
        tokio::select! {
            biased;
            () = shared.stop.cancelled() => return Ok(()),
            Some((key, index, end, took, asked)) = polls.next(), if !polls.is_empty() => {
                let Some(list) = lists.get_mut(&key) else { continue };
                if !list.belongs(&key.0, &shared.ownership.now()) {
                    // Whoever has it now has begun with what is in the store, and so does this one, if it
                    // should come back.
                    lists.remove(&key);
                    if !shared.ownership.has(&key.0) {
                        shared.board.forget_widget(&key.0);
                    }
                    continue;
                }
                list.index = index;
                list.in_flight = false;
                list.polled = true;
                let refused = !owned.is_alone() && end.is_refused();
                if refused && !std::mem::replace(&mut list.refused, true) {
                    // It may be another instance's, which the next heartbeat tells.
                    shared.bells.fleet.notify_one();
                    list.due = shared.clock.elapsed() + REFUSED_PAUSE;
                    continue;
                }
                list.refused = refused;
                if let End::Good(seen) = &end {
                    let Seen { summary, came, .. } = &**seen;
                    let cut =
                        list.counted.note(summary.elements, summary.total, summary.pages, *came);
                    if let Some(cut) = cut {
                        tell_cut(&key, cut);
                    }
                    let known = known.entry(key.0.clone()).or_default();
                    known.note(key.1, seen, &list.counted, took);
                    let activity =
                        shared.activity(&key.0, |known| (known.signal(), known.silent()));
                    known.note_activity(activity);
                    learn(&shared, &key.0, known).await?;
                    let told = list.counted.told();
                    shared.board.widget(&key.0, |status| {
                        let limits = &mut status.suspected_limits;
                        match told {
                            Some(rows) => limits.insert(key.1.as_str(), rows),
                            None => limits.remove(key.1.as_str()),
                        };
                    });
                }
                let is_old = !Arc::ptr_eq(&asked, &shared.settings.load());
                if is_old && matches!(end, End::Failed(_) | End::Foreign) {
                    // It was refused under other settings, which says nothing about these.
                    list.due = shared.clock.elapsed();
                    continue;
                }
                if end.is_news() {
                    list.moved_at = shared.clock.elapsed();
                }
                let good = matches!(end, End::Good(_));
                let quiet = shared.clock.elapsed().saturating_sub(list.moved_at);
                let next = conclude(&shared, &settings, &key, end, took, quiet).await?;
                let chance = pace::chance(shared.seed, &key.0, key.1, list.polls);
                let mut distance = next.distance;
                if good && std::mem::take(&mut list.together) {
                    distance = pace::spread(distance, chance).max(next.least);
                }
                list.polls += 1;
                if good && key.1 == ListKind::Rooms {
                    let now = shared.clock.now();
                    if let Some(at) = ahead.of(&settings, &key.0, now) {
                        let least = next.least.max(pace::freshness(settings.poll.rooms));
                        distance = pace::pulled(distance, least, at.since(now), took, chance);
                    }
                }
                let now = shared.clock.elapsed();
                list.due = now + distance;
                if next.reopened && key.1 == ListKind::Rooms
                    && let Some(users) = lists.get_mut(&(key.0, ListKind::Users))
                {
                    // It was not asked meanwhile.
                    users.due = now;
                }
            }
            () = shared.bells.poller.notified() => {}
            () = shared.clock.sleep(wait) => {}
            () = shared.clock.sleep_until(awake_until) => {
                if shared.clock.now() >= awake_until {
                    shared.poll_all.store(true, Ordering::Release);
                }
            }
        }
    }
}

/// What earlier runs, or other instances, learned of the servers: of all, or only of these widgets.
async fn remembered(
    shared: &Shared,
    only: Option<&[WidgetName]>,
) -> imbabot_store::Result<BTreeMap<WidgetName, Known>> {
    let learned = shared.store.learned().await?.into_iter();
    let polls = learned.filter(|learned| {
        let wanted = only.is_none_or(|only| only.contains(&learned.widget));
        learned.source == Source::Polls && wanted
    });
    Ok(polls
        .map(|l| {
            let Capabilities { activity, silent_messages, .. } = l.capabilities;
            shared.activity(&l.widget, |known| {
                *known = Activity::remembered(activity, silent_messages);
            });
            (l.widget, Known::remembered(l.capabilities))
        })
        .collect())
}

/// Shows what is known of a server, and writes it down if it is time.
async fn learn(shared: &Shared, widget: &WidgetName, known: &mut Known) -> Result<(), Fatal> {
    let now = known.capabilities().clone();
    shared.board.widget(widget, |status| {
        status.capabilities.insert(Source::Polls, now);
    });
    let Some(capabilities) = known.due_for_writing(shared.clock.elapsed()) else { return Ok(()) };
    let learned = Learned {
        widget: widget.clone(),
        source: Source::Polls,
        at: shared.clock.now(),
        capabilities,
    };
    if let Err(error) = shared.store.learn(learned).await {
        shared.store_failed("learn", error).await?;
    } else {
        shared.store_works("learn");
    }
    Ok(())
}

/// Which lists there are to poll: rooms of every widget that is owned, users while some bot listens to
/// them.
fn adopt(
    shared: &Shared,
    settings: &Settings,
    owned: &Owned,
    lists: &mut BTreeMap<Key, List>,
    known: &BTreeMap<WidgetName, Known>,
) {
    let listens = |widget: &WidgetName| {
        settings.bots.iter().any(|b| b.serves(widget) && b.bot.listens().contains(Listen::USERS))
    };
    let mut wanted = Vec::new();
    for widget in settings.widgets.iter().filter(|w| owned.widget(&w.name).is_some()) {
        wanted.push((widget.name.clone(), ListKind::Rooms));
        if listens(&widget.name) {
            wanted.push((widget.name.clone(), ListKind::Users));
        }
    }
    // A list whose poll is in flight is dropped when that poll has ended.
    lists.retain(|key, list| {
        let same = list.belongs(&key.0, owned);
        if !same {
            list.given_away.cancel();
        }
        list.in_flight || (same && wanted.contains(key))
    });
    for key in wanted {
        let subject = key.0.to_string();
        lists.entry(key.clone()).or_insert_with(|| {
            shared.board.reason(NotReady::Starting, &subject, true);
            let before = known.get(&key.0).and_then(|known| known.list(key.1));
            let counted = before
                .map(|facts| Counted::remembered(facts.most, facts.suspected_limit))
                .unwrap_or_default();
            let moved_at = shared.clock.elapsed();
            let term = owned.widget(&key.0).unwrap_or_default();
            List { moved_at, together: true, counted, term, ..List::default() }
        });
    }
}

/// Watches the rooms of messages that were confirmed since the last list, as that one had them. What
/// cannot be read is not watched; the next verb of the store tells why.
async fn watch(shared: &Shared, widget: &WidgetName) {
    let fresh = shared.activity(widget, Activity::fresh);
    let ids: Vec<_> = fresh.iter().map(|sent| sent.room).collect();
    if ids.is_empty() {
        return;
    }
    let Ok(before) = shared.store.rooms_by_id(widget, &ids).await else { return };
    shared.activity(widget, |activity| {
        for sent in fresh {
            if let Some(room) = before.iter().find(|room| room.id == sent.room) {
                activity.watch(sent, room.clone());
            }
        }
    });
}

/// What a good list says of the rooms that are watched.
async fn look_at_watched(shared: &Shared, widget: &WidgetName, seen: &Seen) {
    let watched = shared.activity(widget, |activity| activity.watched());
    let rooms = if watched.is_empty() {
        Some(Vec::new())
    } else {
        shared.store.rooms_by_id(widget, &watched).await.ok()
    };
    let now = shared.clock.elapsed();
    let (before, after) = shared.activity(widget, |activity| {
        let before = activity.signal();
        if seen.touched && activity.is_open() {
            activity.touched();
        }
        if let Some(rooms) = &rooms {
            activity.listed(now, rooms);
        }
        (before, activity.signal())
    });
    if before != after && after == ActivitySignal::Absent {
        tracing::warn!(
            widget = widget.as_str(),
            code = "IMB-P-NO-ACTIVITY",
            "no_activity_signal: messages of ours were confirmed, and `updated_at` of their rooms has not \
             moved since. Bots are never told that somebody wrote (`touched`), and can ask for that"
        );
    }
}

async fn poll(
    shared: &Shared,
    settings: &Settings,
    widget: &WidgetSettings,
    kind: ListKind,
    index: Option<Index>,
    heed_updated_at: bool,
) -> (Option<Index>, End) {
    let now = shared.clock.now();
    let (spared, refused) = shared.breaker(&widget.name, |breaker| {
        let early = breaker.only_probes() && !breaker.until_probe(now).is_zero();
        (early || (kind == ListKind::Users && breaker.only_rooms()), breaker.refused())
    });
    if spared {
        return (index, End::Spared);
    }
    // A list that is asked for with a token says nothing about the key that messages need. Where
    // the token was refused, the list itself is the probe.
    if widget.rooms_by_jwt && refused == Some(Refused::Key) {
        return match widget.api.probe_credentials().await {
            Probe::Accepted => (index, End::Accepted),
            Probe::Refused(error) | Probe::Undecided(error) => (index, End::Failed(error)),
        };
    }
    let index = match index {
        Some(index) => index,
        None => match shared.store.snapshot_index(&widget.name, kind).await {
            Ok(known) => Index::restore(known.baseline_at.is_some(), known.listed, known.gone),
            Err(error) => return (None, End::Store(error)),
        },
    };
    match kind {
        ListKind::Rooms => {
            watch(shared, &widget.name).await;
            let polled =
                poll_list::<Room>(shared, settings, widget, kind, index, heed_updated_at).await;
            if let End::Good(seen) = &polled.1 {
                look_at_watched(shared, &widget.name, seen).await;
            }
            polled
        }
        ListKind::Users => {
            poll_list::<User>(shared, settings, widget, kind, index, heed_updated_at).await
        }
    }
}

#[cfg(test)]
mod tests {
    use imbabot_store::{Membership, Unit};

    use super::*;

    #[test]
    fn a_list_that_was_given_away_stays_so_even_if_its_widget_comes_back_in_the_same_term() {
        let widget: WidgetName = "main".parse().unwrap_or_else(|_| panic!("a name"));
        let owned = Owned::of(&Membership {
            now: imbabot_core::Timestamp::EPOCH,
            lease: Duration::from_secs(15),
            units: BTreeMap::from([(Unit::Widget(widget.clone()), 3)]),
            draining: false,
            alive: 1,
            ended: Vec::new(),
        });
        let list = List { term: 3, ..List::default() };
        assert!(list.belongs(&widget, &owned));
        assert!(!List { term: 2, ..List::default() }.belongs(&widget, &owned));
        assert!(!list.belongs(&widget, &owned.nothing()));
        // Its poll is ended, and every later one would be.
        list.given_away.cancel();
        assert!(!list.belongs(&widget, &owned));
    }
}
