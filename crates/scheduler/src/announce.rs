//! Announcements: to which rooms, and in which words. The same for what fires now and for what is planned.
//! Fires nothing and records nothing.

use std::collections::BTreeMap;

use imbabot_bot::{Room, RoomSelector, Values, WidgetName};
use imbabot_core::{RoomId, Timestamp, escape_foreign, validate_text};
use imbabot_store::{Born, DeadReason, ListKind, NewDelivery, Store, Target};

use crate::settings::{Announcement, Settings};

/// Rooms that are decoded at once.
const PAGE: usize = 500;

/// The rooms that an announcement would reach by the last snapshots.
///
/// # Errors
/// The store refuses.
pub async fn reach(
    store: &dyn Store,
    settings: &Settings,
    announcement: &Announcement,
) -> imbabot_store::Result<Option<Vec<Target>>> {
    let epoch = [Timestamp::EPOCH];
    Ok(match choose(store, settings, announcement, &epoch, Timestamp::MAX).await? {
        Rooms::Chosen(targets) => Some(targets),
        Rooms::None => Some(Vec::new()),
        Rooms::Wait => None,
    })
}

pub(crate) enum Rooms {
    /// Ascending by widget and room.
    Chosen(Vec<Target>),
    None,
    Wait,
}

pub(crate) async fn choose(
    store: &dyn Store,
    settings: &Settings,
    announcement: &Announcement,
    fire: &[Timestamp],
    now: Timestamp,
) -> imbabot_store::Result<Rooms> {
    let mut widgets: Vec<&WidgetName> = settings
        .widgets
        .iter()
        .map(|widget| &widget.name)
        .filter(|name| announcement.serves(name))
        .collect();
    widgets.sort_unstable();
    let mut targets = Vec::new();
    let mut without_snapshot = false;
    for widget in widgets {
        if !announcement.needs_snapshot() {
            let ids = announcement.rooms.only_ids().unwrap_or_default();
            targets.extend(ids.iter().map(|room| target(widget, *room)));
            continue;
        }
        if store.baseline_at(widget, ListKind::Rooms).await?.is_none() {
            without_snapshot = true;
            continue;
        }
        pin(store, widget, &announcement.rooms, &mut targets).await?;
    }
    // A widget that has never answered must not hold back the others for longer than the grace.
    let latest = fire.last().copied().unwrap_or(now);
    let patient = now.since(latest) <= announcement.schedule.grace_period();
    Ok(match (targets.is_empty(), without_snapshot) {
        (_, true) if patient => Rooms::Wait,
        (true, true) => Rooms::Wait,
        (true, false) => Rooms::None,
        (false, _) => Rooms::Chosen(targets),
    })
}

/// Adds the rooms of a widget that the selector chooses. Of a hundred thousand rooms no more than a
/// page is ever decoded at once.
async fn pin(
    store: &dyn Store,
    widget: &WidgetName,
    selector: &RoomSelector,
    targets: &mut Vec<Target>,
) -> imbabot_store::Result<()> {
    let chosen = |page: &[imbabot_core::Room]| -> Vec<Target> {
        let rooms = page.iter().filter(|room| selector.matches(room));
        rooms.map(|room| target(widget, room.id)).collect()
    };
    if let Some(ids) = selector.only_ids() {
        for ids in ids.chunks(PAGE) {
            targets.extend(chosen(&store.rooms_by_id(widget, ids).await?));
        }
        return Ok(());
    }
    let mut after = None;
    loop {
        let page = store.rooms_after(widget, after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.id);
        targets.extend(chosen(&page));
    }
}

fn target(widget: &WidgetName, room: RoomId) -> Target {
    Target { widget: widget.clone(), room }
}

/// Rooms by their widget and number.
pub(crate) type RoomsByPlace = BTreeMap<(WidgetName, RoomId), imbabot_core::Room>;

/// What the last snapshots tell of these rooms.
pub(crate) async fn rooms_of(
    store: &dyn Store,
    targets: &[Target],
) -> imbabot_store::Result<RoomsByPlace> {
    let mut by_widget: BTreeMap<&WidgetName, Vec<RoomId>> = BTreeMap::new();
    for target in targets {
        by_widget.entry(&target.widget).or_default().push(target.room);
    }
    let mut rooms = RoomsByPlace::new();
    for (widget, ids) in by_widget {
        for room in store.rooms_by_id(widget, &ids).await? {
            rooms.insert((widget.clone(), room.id), room);
        }
    }
    Ok(rooms)
}

/// The messages of an occurrence to these rooms, as they would be recorded now. `rooms` has what is
/// known of them, as far as the text asks for it.
pub(crate) fn deliveries(
    settings: &Settings,
    announcement: &Announcement,
    (occurrence, nominal_at): (&str, Timestamp),
    targets: &[Target],
    rooms: &RoomsByPlace,
) -> Vec<NewDelivery> {
    let key = announcement.schedule.id().as_str();
    let at = announcement.schedule.zone().show(nominal_at);
    let mut deliveries = Vec::with_capacity(targets.len());
    for target in targets {
        let Some(widget) = settings.widget(&target.widget) else { continue };
        let values = Values::new().occurrence(key, occurrence, &at);
        let values = match rooms.get(&(target.widget.clone(), target.room)) {
            Some(room) => values.room(&Room::of(room, widget.markup)),
            // Gone between firing and now: there is nobody to greet by name.
            None if announcement.text.needs_room() => continue,
            None => values.room_id(target.room),
        };
        let (text, fault) = match announcement.text.render_with(&values) {
            Ok(text) => {
                let checked = validate_text(&text, settings.delivery.max_text);
                (text, checked.err().map(|error| error.to_string()))
            }
            Err(error) => {
                tracing::warn!(
                    occurrence, room = %target.room, code = "IMB-T-TEMPLATE",
                    "the text cannot be made: {error}"
                );
                let fault = escape_foreign(&format!("the text cannot be made: {error}"), 200);
                (String::new(), Some(fault))
            }
        };
        deliveries.push(NewDelivery {
            key: format!("occurrence/{occurrence}/{}/{}", target.widget, target.room),
            widget: target.widget.clone(),
            room: target.room,
            sender: announcement.sender.as_ref().unwrap_or(&widget.sender).clone(),
            bot: None,
            event: None,
            occurrence: Some(occurrence.to_owned()),
            schedule: Some(key.to_owned()),
            policy: announcement.policy.unwrap_or(settings.delivery.policy),
            text,
            not_before: None,
            expires_at: nominal_at + announcement.schedule.keeps(),
            born: fault.as_ref().map_or(Born::Queued, |_| Born::Dead(DeadReason::Invalid)),
            detail: fault,
            report: false,
        });
    }
    deliveries
}
