//! Polls the lists of all widgets, finds what changed, and commits snapshot and events together.
//! One poll of a list at a time; a list that is cut, odd or another widget's is no snapshot, never
//! an empty one. Sends nothing.

mod commit;
mod conclude;
mod list;
mod spool;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use imbabot_bot::{Listen, WidgetName};
use imbabot_core::{Error, Probe, Room, User};
use imbabot_store::ListKind;

use crate::breaker::Refused;
use crate::diff::Index;
use crate::settings::{Settings, WidgetSettings};
use crate::shared::{Fatal, Shared};
use crate::status::NotReady;

use conclude::conclude;
use list::poll_list;

const TASK: &str = "poller";
/// Where the wall gets ahead by so much while a list is waited for, the host was asleep or its clock
/// was set: what the lists were is of another time, and they are asked for at once.
const ASLEEP: Duration = Duration::from_secs(30);

type Key = (WidgetName, ListKind);

/// A list between two polls.
#[derive(Default)]
struct List {
    index: Option<Index>,
    /// When it is polled next, on the clock that never goes back.
    due: Duration,
    in_flight: bool,
    polled: bool,
}

/// How a poll ended.
enum End {
    /// A trusted list: what was committed.
    Good,
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
    /// What differs cannot be kept until it is committed: the disk is full, say. No snapshot.
    Unspooled(String),
    /// The store failed.
    Store(imbabot_store::Error),
}

pub(crate) async fn run(shared: Arc<Shared>) -> Result<(), Fatal> {
    let mut lists: BTreeMap<Key, List> = BTreeMap::new();
    let mut polls = FuturesUnordered::new();
    loop {
        let settings = shared.settings.load_full();
        adopt(&shared, &settings, &mut lists);
        let now = shared.clock.elapsed();
        if shared.poll_all.swap(false, Ordering::AcqRel) {
            lists.values_mut().for_each(|list| list.due = now);
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
            polls.push(
                async move {
                    let begun = shared.clock.elapsed();
                    let (index, end) = poll(&shared, &settings, &widget, key.1, index).await;
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
                list.index = index;
                list.in_flight = false;
                list.polled = true;
                let is_old = !Arc::ptr_eq(&asked, &shared.settings.load());
                if is_old && matches!(end, End::Failed(_) | End::Foreign) {
                    // It was refused under other settings, which says nothing about these.
                    list.due = shared.clock.elapsed();
                    continue;
                }
                let next = conclude(&shared, &settings, &key, end, took).await?;
                let now = shared.clock.elapsed();
                list.due = now + next.distance;
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

/// Which lists there are to poll: rooms always, users while some bot listens to them.
fn adopt(shared: &Shared, settings: &Settings, lists: &mut BTreeMap<Key, List>) {
    let listens = |widget: &WidgetName| {
        settings.bots.iter().any(|b| b.serves(widget) && b.bot.listens().contains(Listen::USERS))
    };
    let mut wanted = Vec::new();
    for widget in &settings.widgets {
        wanted.push((widget.name.clone(), ListKind::Rooms));
        if listens(&widget.name) {
            wanted.push((widget.name.clone(), ListKind::Users));
        }
    }
    // A list whose poll is in flight is dropped when that poll has ended.
    lists.retain(|key, list| list.in_flight || wanted.contains(key));
    for key in wanted {
        let subject = key.0.to_string();
        lists.entry(key).or_insert_with(|| {
            shared.board.reason(NotReady::Starting, &subject, true);
            List::default()
        });
    }
}

async fn poll(
    shared: &Shared,
    settings: &Settings,
    widget: &WidgetSettings,
    kind: ListKind,
    index: Option<Index>,
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
        ListKind::Rooms => poll_list::<Room>(shared, settings, widget, kind, index).await,
        ListKind::Users => poll_list::<User>(shared, settings, widget, kind, index).await,
    }
}
