//! Commits what a poll found, in batches: each element's new state together with its events, so that
//! a kill in between is found again by the next poll. Believes what it is given.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use imbabot_bot::{BotName, Listen, RoomChange, WidgetName};
use imbabot_store::{EventBody, ItemChange, ListKind, NewEvent, PollCommit};

use super::list::Polled;
use crate::diff::{Delta, Observed};
use crate::metrics::Family;
use crate::settings::Settings;
use crate::shared::Shared;

/// Elements per transaction: small enough that a claim of the deliverer waits for milliseconds.
const BATCH: usize = 1_000;

/// Commits one poll, in batches: each element's new state together with its events.
pub(super) struct Commit<'a> {
    pub shared: &'a Shared,
    pub settings: &'a Settings,
    pub widget: &'a WidgetName,
    pub kind: ListKind,
}

impl Commit<'_> {
    pub(super) async fn baseline<T: Polled>(
        &self,
        observed: &Observed<T>,
    ) -> imbabot_store::Result<()> {
        let mut changes = Vec::with_capacity(BATCH);
        for id in observed.ids() {
            changes.extend(upsert(observed, id));
            if changes.len() == BATCH {
                self.commit(std::mem::take(&mut changes), Vec::new(), false).await?;
            }
        }
        self.commit(changes, Vec::new(), true).await
    }

    pub(super) async fn delta<T: Polled>(
        &self,
        observed: &Observed<T>,
        delta: &Delta,
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
        delta: &Delta,
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
