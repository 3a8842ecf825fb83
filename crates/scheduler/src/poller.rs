//! Polls the lists of all widgets, finds what changed, and commits snapshot and events together.
//! One poll of a list at a time; a list that is cut, odd or another widget's is no snapshot, never
//! an empty one. Sends nothing.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use imbabot_bot::{BotName, Listen, RoomChange, UserChange, WidgetName};
use imbabot_core::{Error, ErrorKind, GetRooms, GetUsers, ListSummary, Probe, Room, RoomsAuth};
use imbabot_core::{TransportErrorKind, User, escape_foreign};
use imbabot_store::{EventBody, ItemChange, ListKind, NewEvent, PollCommit};

use crate::breaker::{LONGEST_POLL, Refused};
use crate::diff::{Index, Item, Observed, Trust, Verdict, room_changes, user_changes};
use crate::metrics::Family;
use crate::settings::{Settings, WidgetSettings};
use crate::shared::{Fatal, Shared, tell_redirect, tell_refused};
use crate::status::NotReady;

const TASK: &str = "poller";
/// Elements per transaction: small enough that a claim of the deliverer waits for milliseconds.
const BATCH: usize = 1_000;
/// A poll takes at most a tenth of the time: after one that took long, nine times as long a pause.
const PAUSE_PER_POLL: u32 = 9;
/// How long a token of ours is valid: longer than any poll, shorter than ImbaChat's own seven hours.
const TOKEN: Duration = Duration::from_secs(900);
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

/// What differs between the two lists.
trait Polled: Item + serde::Serialize + Clone {
    fn list(
        shared: &Shared,
        widget: &WidgetSettings,
        sink: &mut (dyn FnMut(&[u8]) -> ControlFlow<()> + Send),
    ) -> impl Future<Output = Result<ListSummary, Error>> + Send;
    fn stored(
        shared: &Shared,
        widget: &WidgetName,
        ids: &[u64],
    ) -> impl Future<Output = imbabot_store::Result<Vec<Self>>> + Send;
    fn appeared(&self, returned: bool) -> Vec<EventBody>;
    fn changed(&self, before: &Self) -> Vec<EventBody>;
    fn gone(&self) -> Vec<EventBody>;
}

impl Polled for Room {
    async fn list(
        shared: &Shared,
        widget: &WidgetSettings,
        sink: &mut (dyn FnMut(&[u8]) -> ControlFlow<()> + Send),
    ) -> Result<ListSummary, Error> {
        let mut request = GetRooms::new();
        if widget.rooms_by_jwt {
            let expires = shared.clock.now() + TOKEN;
            request.auth = RoomsAuth::Jwt { user: widget.sender.clone(), expires };
        }
        widget.api.list_rooms(&request, &mut |element| sink(element.bytes)).await
    }

    async fn stored(
        shared: &Shared,
        widget: &WidgetName,
        ids: &[u64],
    ) -> imbabot_store::Result<Vec<Self>> {
        let ids: Vec<_> = ids.iter().map(|id| (*id).into()).collect();
        shared.store.rooms_by_id(widget, &ids).await
    }

    fn appeared(&self, returned: bool) -> Vec<EventBody> {
        let change = if returned { RoomChange::Returned } else { RoomChange::Opened };
        vec![EventBody::Room { change, room: Box::new(self.clone()), before: None }]
    }

    fn changed(&self, before: &Self) -> Vec<EventBody> {
        room_changes(before, self)
            .into_iter()
            .map(|change| EventBody::Room {
                change,
                room: Box::new(self.clone()),
                before: Some(Box::new(before.clone())),
            })
            .collect()
    }

    fn gone(&self) -> Vec<EventBody> {
        let room = Box::new(self.clone());
        vec![EventBody::Room { change: RoomChange::Gone, before: Some(room.clone()), room }]
    }
}

impl Polled for User {
    async fn list(
        _: &Shared,
        widget: &WidgetSettings,
        sink: &mut (dyn FnMut(&[u8]) -> ControlFlow<()> + Send),
    ) -> Result<ListSummary, Error> {
        widget.api.list_users(&GetUsers::new(), &mut |element| sink(element.bytes)).await
    }

    async fn stored(
        shared: &Shared,
        widget: &WidgetName,
        ids: &[u64],
    ) -> imbabot_store::Result<Vec<Self>> {
        shared.store.users_by_id(widget, ids).await
    }

    fn appeared(&self, _: bool) -> Vec<EventBody> {
        let user = Box::new(self.clone());
        vec![EventBody::User { change: UserChange::Joined, user, before: None }]
    }

    fn changed(&self, before: &Self) -> Vec<EventBody> {
        user_changes(before, self)
            .into_iter()
            .map(|change| EventBody::User {
                change,
                user: Box::new(self.clone()),
                before: Some(Box::new(before.clone())),
            })
            .collect()
    }

    fn gone(&self) -> Vec<EventBody> {
        let user = Box::new(self.clone());
        vec![EventBody::User { change: UserChange::Gone, before: Some(user.clone()), user }]
    }
}

async fn poll_list<T: Polled>(
    shared: &Shared,
    settings: &Settings,
    widget: &WidgetSettings,
    kind: ListKind,
    mut index: Index,
) -> (Option<Index>, End) {
    // The same for every run: hashes are stored, and one installation's say nothing about another's.
    let seed = widget.api.credentials().widget.0;
    let mut observation = index.observe::<T>(seed);
    let summary = T::list(shared, widget, &mut |bytes| observation.push(bytes)).await;
    let observed = observation.finish();
    let summary = match summary {
        Ok(summary) => summary,
        Err(error) => return (Some(index), End::Failed(error)),
    };
    if let Some(server) = summary.server_time {
        shared.server_says(&widget.name, server);
    }
    let ours = widget.api.credentials().widget;
    if observed.widgets.iter().any(|other| *other != ours) {
        return (Some(index), End::Foreign);
    }
    note_oddities(widget, kind, &observed, &summary);
    let mut verdict = index.judge(&observed, Trust::after(settings.poll.gone_after));
    if verdict == Verdict::Baseline && !settings.poll.baseline {
        let appeared = observed.ids().collect();
        verdict = Verdict::Believed(crate::diff::Delta { appeared, ..Default::default() });
    }
    let delta = match verdict {
        Verdict::Held { appeared, missing, said } => {
            if said == 1 {
                tracing::warn!(
                    widget = %widget.name, list = kind.as_str(), appeared, missing,
                    "more than half of the list changed at once: held until ten polls agree"
                );
            }
            return (Some(index), End::Held);
        }
        Verdict::Baseline => None,
        Verdict::Believed(delta) => Some(delta),
    };
    let commit = Commit { shared, settings, widget: &widget.name, kind };
    let committed = match &delta {
        None => commit.baseline(&observed).await,
        Some(delta) => commit.delta(&observed, delta).await,
    };
    match committed {
        Ok(()) => {
            index.commit(observed, delta.as_ref().map_or(&[], |delta| &delta.gone));
            if kind == ListKind::Rooms {
                let rooms = index.len() as u64;
                shared.board.widget(&widget.name, |status| status.rooms = Some(rooms));
                #[expect(clippy::cast_precision_loss, reason = "a gauge")]
                shared.metrics.set(Family::rooms, &[widget.name.as_str()], rooms as f64);
            }
            (Some(index), End::Good)
        }
        // What is on disk is not known: the index is read anew.
        Err(error) => (None, End::Store(error)),
    }
}

fn note_oddities<T>(
    widget: &WidgetSettings,
    kind: ListKind,
    observed: &Observed<T>,
    summary: &ListSummary,
) {
    if let Some(first) = &observed.first_quarantined {
        tracing::warn!(
            widget = %widget.name, list = kind.as_str(), rows = observed.quarantined,
            "rows that cannot be read were set aside; the first: {}", escape_foreign(first, 200)
        );
    }
    if observed.duplicates > 0 {
        tracing::warn!(
            widget = %widget.name, list = kind.as_str(), rows = observed.duplicates,
            "ids that are listed more than once; the last row counts"
        );
    }
    if summary.salvaged {
        tracing::debug!(widget = %widget.name, list = kind.as_str(), "text around the JSON was skipped");
    }
}

/// Commits one poll, in batches: each element's new state together with its events.
struct Commit<'a> {
    shared: &'a Shared,
    settings: &'a Settings,
    widget: &'a WidgetName,
    kind: ListKind,
}

impl Commit<'_> {
    async fn baseline<T: Polled>(&self, observed: &Observed<T>) -> imbabot_store::Result<()> {
        let mut changes = Vec::with_capacity(BATCH);
        for id in observed.ids() {
            changes.extend(upsert(observed, id));
            if changes.len() == BATCH {
                self.commit(std::mem::take(&mut changes), Vec::new(), false).await?;
            }
        }
        self.commit(changes, Vec::new(), true).await
    }

    async fn delta<T: Polled>(
        &self,
        observed: &Observed<T>,
        delta: &crate::diff::Delta,
    ) -> imbabot_store::Result<()> {
        let mut touched: Vec<u64> =
            [&delta.appeared[..], &delta.returned, &delta.changed, &delta.gone].concat();
        touched.sort_unstable();
        let batches = touched.chunks(BATCH);
        let count = batches.len();
        for (n, ids) in batches.enumerate() {
            let before: HashMap<u64, T> = T::stored(self.shared, self.widget, ids)
                .await?
                .into_iter()
                .map(|item| (item.id(), item))
                .collect();
            let mut changes = Vec::with_capacity(ids.len());
            let mut events = Vec::new();
            for id in ids {
                let (change, bodies) = self.element(observed, delta, &before, *id);
                changes.extend(change);
                events.extend(bodies.into_iter().map(|body| self.event(body)));
            }
            self.commit(changes, events, n + 1 == count).await?;
        }
        if count == 0 {
            self.commit(Vec::new(), Vec::new(), true).await?;
        }
        Ok(())
    }

    fn element<T: Polled>(
        &self,
        observed: &Observed<T>,
        delta: &crate::diff::Delta,
        before: &HashMap<u64, T>,
        id: u64,
    ) -> (Option<ItemChange>, Vec<EventBody>) {
        if delta.gone.binary_search(&id).is_ok() {
            let change = ItemChange { id, hash: 0, body: None, gone: true };
            return (Some(change), before.get(&id).map(Polled::gone).unwrap_or_default());
        }
        let bodies = match (observed.decoded.get(&id), before.get(&id)) {
            (Some(after), Some(before)) => after.changed(before),
            (Some(after), None) => after.appeared(delta.returned.binary_search(&id).is_ok()),
            // Only its bytes are known to differ, and they could not be read.
            (None, _) => Vec::new(),
        };
        (upsert(observed, id), bodies)
    }

    fn event(&self, body: EventBody) -> NewEvent {
        let recipients = recipients(self.settings, self.widget, &body);
        NewEvent { widget: self.widget.clone(), at: self.shared.clock.now(), body, recipients }
    }

    async fn commit(
        &self,
        changes: Vec<ItemChange>,
        events: Vec<NewEvent>,
        last: bool,
    ) -> imbabot_store::Result<()> {
        let found: Vec<RoomChange> = events
            .iter()
            .filter_map(|event| match &event.body {
                EventBody::Room { change, .. } => Some(*change),
                _ => None,
            })
            .collect();
        let news = !events.is_empty();
        let poll = PollCommit {
            widget: self.widget.clone(),
            list: self.kind,
            now: self.shared.clock.now(),
            changes,
            events,
            last,
        };
        self.shared.store.commit_poll(poll).await?;
        for change in found {
            self.shared.metrics.count(Family::room_events_total, &[change.as_str()]);
        }
        if news {
            self.shared.idle.dispatcher.store(false, Ordering::Release);
            self.shared.bells.dispatcher.notify_one();
        }
        Ok(())
    }
}

fn upsert<T: Polled>(observed: &Observed<T>, id: u64) -> Option<ItemChange> {
    let body = serde_json::to_string(observed.decoded.get(&id)?).ok()?;
    Some(ItemChange { id, hash: observed.hash_of(id)?, body: Some(body), gone: false })
}

/// Who is told of a change: bots that listen to the kind, serve the widget and chose the room, as
/// it is or as it was.
fn recipients(settings: &Settings, widget: &WidgetName, body: &EventBody) -> Vec<BotName> {
    let wanted = match body {
        EventBody::User { .. } => Listen::USERS,
        _ => Listen::ROOMS,
    };
    settings
        .bots
        .iter()
        .filter(|bot| bot.serves(widget) && bot.bot.listens().contains(wanted))
        .filter(|bot| match (&bot.rooms, body) {
            (Some(selector), EventBody::Room { room, before, .. }) => {
                selector.matches(room) || before.as_ref().is_some_and(|b| selector.matches(b))
            }
            _ => true,
        })
        .map(|bot| bot.name.clone())
        .collect()
}

/// What follows from a poll.
struct After {
    /// How long until the next one.
    distance: Duration,
    /// A breaker closed.
    reopened: bool,
}

/// Tells what came of a poll.
async fn conclude(
    shared: &Shared,
    settings: &Settings,
    (widget, kind): &Key,
    end: End,
    took: Duration,
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
    let mut least = took.saturating_mul(PAUSE_PER_POLL);
    let (outcome, problem) = match end {
        End::Good | End::Held => {
            shared.store_works("commit_poll");
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
        // Nothing was asked, so nothing is told.
        End::Spared => {
            let distance = shared.breaker(widget, |breaker| breaker.poll_distance(now, usual));
            return Ok(After { distance, reopened });
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
    Ok(After { distance: distance.saturating_sub(waited).max(least), reopened })
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
