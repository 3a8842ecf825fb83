//! One poll of one list: asked for, compared while it arrives, judged whole, handed on to be committed.
//! What differs between rooms and users is here; neither decides when to ask again.

use std::future::Future;
use std::ops::ControlFlow;
use std::time::Duration;

use imbabot_bot::{RoomChange, UserChange, WidgetName};
use imbabot_core::{
    Error, GetRooms, GetUsers, ListSummary, RawElement, Room, RoomsAuth, Sink, TakeElements,
    Timestamp, User, escape_foreign,
};
use imbabot_store::{EventBody, ListKind};

use super::End;
use super::commit::{Commit, Failure};
use super::spool::Spool;
use crate::diff::{
    Delta, Index, Item, Observation, Observed, Trust, Verdict, room_changes, user_changes,
};
use crate::metrics::Family;
use crate::settings::{Settings, WidgetSettings};
use crate::shared::Shared;

/// How long a token of ours is valid: longer than any poll, shorter than ImbaChat's own seven hours.
const TOKEN: Duration = Duration::from_secs(900);

/// What differs between the two lists.
pub(super) trait Polled: Item + serde::Serialize + Clone {
    fn list(
        shared: &Shared,
        widget: &WidgetSettings,
        sink: &mut Sink<'_>,
    ) -> impl Future<Output = Result<ListSummary, Error>> + Send;
    fn stored(
        shared: &Shared,
        widget: &WidgetName,
        ids: &[u64],
    ) -> impl Future<Output = imbabot_store::Result<Vec<Self>>> + Send;
    fn updated_at(&self) -> Option<Timestamp>;
    fn appeared(&self, returned: bool) -> Vec<EventBody>;
    fn changed(&self, before: &Self) -> Vec<EventBody>;
    fn gone(&self) -> Vec<EventBody>;
}

impl Polled for Room {
    async fn list(
        shared: &Shared,
        widget: &WidgetSettings,
        sink: &mut Sink<'_>,
    ) -> Result<ListSummary, Error> {
        let mut request = GetRooms::new();
        if widget.rooms_by_jwt {
            let expires = shared.clock.now() + TOKEN;
            request.auth = RoomsAuth::Jwt { user: widget.sender.clone(), expires };
        }
        widget.api.list_rooms(&request, sink).await
    }

    async fn stored(
        shared: &Shared,
        widget: &WidgetName,
        ids: &[u64],
    ) -> imbabot_store::Result<Vec<Self>> {
        let ids: Vec<_> = ids.iter().map(|id| (*id).into()).collect();
        shared.store.rooms_by_id(widget, &ids).await
    }

    fn updated_at(&self) -> Option<Timestamp> {
        self.updated_at
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
        sink: &mut Sink<'_>,
    ) -> Result<ListSummary, Error> {
        widget.api.list_users(&GetUsers::new(), sink).await
    }

    async fn stored(
        shared: &Shared,
        widget: &WidgetName,
        ids: &[u64],
    ) -> imbabot_store::Result<Vec<Self>> {
        shared.store.users_by_id(widget, ids).await
    }

    fn updated_at(&self) -> Option<Timestamp> {
        self.updated_at
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

/// What a good list was.
pub(super) struct Seen {
    /// As it came.
    pub summary: ListSummary,
    /// Something was in it that had not been in the one before.
    pub came: bool,
    /// Rows that could not be read.
    pub quarantined: u64,
    /// Rows that later ones replaced.
    pub duplicates: u64,
    /// Some row's `updated_at` is another one than before.
    pub updated_at_moved: bool,
    /// Some room's `updated_at` moved, and nothing else about it did.
    pub touched: bool,
    /// How many seconds the server's clock is ahead of ours.
    pub ahead_seconds: Option<i64>,
    /// It differed from the one before, or what it lacks may be gone soon.
    pub moved: bool,
}

/// Compares elements as they arrive.
struct Reader<'i, T>(Observation<'i, T, Spool>);

impl<T: Polled> TakeElements for Reader<'_, T> {
    fn element(&mut self, element: RawElement<'_>) -> ControlFlow<()> {
        self.0.push(element.bytes)
    }

    fn known(&mut self, ahead: &[u8]) -> usize {
        self.0.known(ahead)
    }
}

pub(super) async fn poll_list<T: Polled>(
    shared: &Shared,
    settings: &Settings,
    widget: &WidgetSettings,
    kind: ListKind,
    mut index: Index,
    heed_updated_at: bool,
) -> (Option<Index>, End) {
    // The same for every run: hashes are stored, and one installation's say nothing about another's.
    let seed = widget.api.credentials().widget.0;
    let spool = Spool::new(settings.spool.as_deref());
    let mut reader = Reader(index.observe_with::<T, _>(seed, spool));
    let summary = T::list(shared, widget, &mut reader).await;
    if let Some(error) = reader.0.spool().failure() {
        let why = error.to_string();
        return (Some(index), End::Unspooled(why));
    }
    let observed = reader.0.finish();
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
        let appeared = observed.decoded.ids().collect();
        verdict = Verdict::Believed(Delta { appeared, ..Default::default() });
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
    // What is stored is of the list before, until this one is committed.
    let moves = match &delta {
        Some(delta) if heed_updated_at => {
            match moved(shared, &widget.name, &observed, &delta.changed).await {
                Ok(moves) => moves,
                Err(error) => return (Some(index), End::Store(error)),
            }
        }
        _ => Moves::default(),
    };
    let commit = Commit { shared, settings, widget: &widget.name, kind };
    let committed = match &delta {
        None => commit.baseline(&observed.decoded).await,
        Some(delta) => commit.delta(&observed.decoded, delta).await,
    };
    let seen = Seen {
        quarantined: observed.quarantined,
        duplicates: observed.duplicates,
        updated_at_moved: moves.updated_at,
        touched: moves.touched,
        ahead_seconds: shared.server_ahead(&widget.name).map(|micros| micros / 1_000_000),
        came: delta.as_ref().is_some_and(|d| !d.appeared.is_empty() || !d.returned.is_empty()),
        moved: index.len() != observed.len()
            || delta.as_ref().is_none_or(|delta| *delta != Delta::default()),
        summary,
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
            (Some(index), End::Good(Box::new(seen)))
        }
        // What is on disk is not known: the index is read anew.
        Err(Failure::Store(error)) => (None, End::Store(error)),
        Err(Failure::Spool) => {
            (None, End::Unspooled("what was put away cannot be read back".into()))
        }
    }
}

/// What moved in rows that changed.
#[derive(Debug, Clone, Copy, Default)]
struct Moves {
    /// `updated_at`.
    updated_at: bool,
    /// `updated_at` of a room, and nothing else.
    touched: bool,
}

/// How rows that changed differ from before. A few are looked at.
async fn moved<T: Polled>(
    shared: &Shared,
    widget: &WidgetName,
    observed: &Observed<T, Spool>,
    changed: &[u64],
) -> imbabot_store::Result<Moves> {
    const LOOKED_AT: usize = 5;
    let ids = &changed[..changed.len().min(LOOKED_AT)];
    if ids.is_empty() {
        return Ok(Moves::default());
    }
    let before = T::stored(shared, widget, ids).await?;
    let mut moves = Moves::default();
    for before in before {
        let Some((after, _)) = observed.decoded.get(before.id()) else { continue };
        moves.updated_at |= after.updated_at() != before.updated_at();
        moves.touched |= after
            .changed(&before)
            .iter()
            .any(|change| matches!(change, EventBody::Room { change: RoomChange::Touched, .. }));
    }
    Ok(moves)
}

fn note_oddities<T>(
    widget: &WidgetSettings,
    kind: ListKind,
    observed: &Observed<T, Spool>,
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
