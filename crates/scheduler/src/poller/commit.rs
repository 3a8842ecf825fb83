//! Commits what a poll found, in batches: each element's new state together with its events, so that
//! a kill in between is found again by the next poll. Believes what it is given.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use imbabot_bot::{BotName, Listen, RoomChange, WidgetName};
use imbabot_store::{EventBody, ItemChange, ListKind, NewEvent, PollCommit};

use super::list::Polled;
use super::spool::Spool;
use crate::diff::{Decoded, Delta, Fate};
use crate::metrics::Family;
use crate::settings::Settings;
use crate::shared::Shared;

/// Elements of a first list per transaction: small enough that a claim of the deliverer waits for
/// milliseconds.
const FIRST_BATCH: usize = 1_000;
/// Changed elements per transaction. Each of them is there as it was, as it is, and in what is told of
/// it: so many cost less memory than an index of the list.
const BATCH: usize = 250;

/// What differs, in its spool.
type Found<T> = Decoded<T, Spool>;

/// Commits one poll, in batches: each element's new state together with its events.
pub(super) struct Commit<'a> {
    pub shared: &'a Shared,
    pub settings: &'a Settings,
    pub widget: &'a WidgetName,
    pub kind: ListKind,
}

/// Why a commit came to its end early. What was committed until then stays, and the next poll finds
/// the rest.
pub(super) enum Failure {
    /// The store failed.
    Store(imbabot_store::Error),
    /// An element that was put away cannot be had again.
    Spool,
}

impl From<imbabot_store::Error> for Failure {
    fn from(error: imbabot_store::Error) -> Self {
        Self::Store(error)
    }
}

impl Commit<'_> {
    pub(super) async fn baseline<T: Polled>(&self, found: &Found<T>) -> Result<(), Failure> {
        let mut ids = found.ids().peekable();
        loop {
            let mut changes = Vec::with_capacity(FIRST_BATCH);
            for id in ids.by_ref().take(FIRST_BATCH) {
                let (item, hash) = found.get(id).ok_or(Failure::Spool)?;
                changes.push(upsert(&item, hash)?);
            }
            let last = ids.peek().is_none();
            self.commit(changes, Vec::new(), last).await?;
            if last {
                return Ok(());
            }
        }
    }

    pub(super) async fn delta<T: Polled>(
        &self,
        found: &Found<T>,
        delta: &Delta,
    ) -> Result<(), Failure> {
        let mut fates = delta.fates().peekable();
        loop {
            let batch: Vec<(u64, Fate)> = fates.by_ref().take(BATCH).collect();
            let last = fates.peek().is_none();
            let ids: Vec<u64> = batch.iter().map(|(id, _)| *id).collect();
            let before: HashMap<u64, T> = T::stored(self.shared, self.widget, &ids)
                .await?
                .into_iter()
                .map(|item| (item.id(), item))
                .collect();
            let mut changes = Vec::with_capacity(batch.len());
            let mut events = Vec::new();
            for (id, fate) in batch {
                let (change, bodies) = element(found, id, fate, before.get(&id))?;
                changes.push(change);
                events.extend(bodies.into_iter().map(|body| self.event(body)));
            }
            self.commit(changes, events, last).await?;
            if last {
                return Ok(());
            }
        }
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
        let begun = self.shared.clock.elapsed();
        self.shared.store.commit_poll(poll).await?;
        if !last {
            // Half of the time is left to whoever else writes: verbs in other processes, which can
            // only try again and again for the database's one lock, most of all.
            let took = self.shared.clock.elapsed().saturating_sub(begun);
            self.shared.clock.sleep(took).await;
        }
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

/// The new state of one element, and what is to be told of it.
fn element<T: Polled>(
    found: &Found<T>,
    id: u64,
    fate: Fate,
    before: Option<&T>,
) -> Result<(ItemChange, Vec<EventBody>), Failure> {
    if fate == Fate::Gone {
        let change = ItemChange { id, hash: 0, body: None, gone: true };
        return Ok((change, before.map(Polled::gone).unwrap_or_default()));
    }
    let (after, hash) = found.get(id).ok_or(Failure::Spool)?;
    let bodies = match before {
        Some(before) => after.changed(before),
        None => after.appeared(fate == Fate::Returned),
    };
    Ok((upsert(&after, hash)?, bodies))
}

fn upsert<T: Polled>(item: &T, hash: u64) -> Result<ItemChange, Failure> {
    // What was decoded can be encoded: strings, numbers and what serde_json itself has read.
    let body = serde_json::to_string(item).map_err(|_| Failure::Spool)?;
    Ok(ItemChange { id: item.id(), hash, body: Some(body), gone: false })
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
