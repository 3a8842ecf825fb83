//! Where the rooms of a rehearsal come from: a file with a reply to `get_rooms`, the last list in the
//! store, or the simulator. The store is read and not changed, also beside a daemon.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use imbabot_bot::WidgetName;
use imbabot_core::{
    Api, Credentials, GetRooms, Request, Response, Room, RoomId, SecretKey, Transport,
    TransportError,
};
use imbabot_store::{ListKind, Store};
use imbabot_testing::Rooms;

use super::super::Result;
use crate::config::{Config, Widget};
use crate::exit::Failure;
use crate::{output, stores};

/// How many rooms a site has of which nothing is known.
const MADE_UP: usize = 6;
/// The number of the first of them, as the simulator counts.
const FIRST: u64 = 1536;
const PAGE: usize = 1_000;

/// The rooms of each widget, and what is to be said of them.
pub(super) struct Sites {
    of: BTreeMap<WidgetName, (Rooms, &'static str)>,
    pub(super) notes: Vec<String>,
}

impl Sites {
    pub(super) fn rooms_of(&self, widget: &WidgetName) -> Rooms {
        match self.of.get(widget) {
            Some((rooms, _)) => rooms.clone(),
            None => Rooms::MadeUp(0, BTreeSet::new()),
        }
    }

    /// `file`, `store` or `made_up`; and how many there are.
    pub(super) fn origin_of(&self, widget: &WidgetName) -> (&'static str, usize) {
        match self.of.get(widget) {
            Some((Rooms::Listed(rooms), origin)) => (origin, rooms.len()),
            Some((Rooms::MadeUp(count, besides), origin)) => {
                let made_up = FIRST..FIRST + MADE_UP as u64;
                let besides = besides.iter().filter(|room| !made_up.contains(&room.0));
                (origin, count + besides.count())
            }
            None => ("made_up", 0),
        }
    }
}

pub(super) async fn of(config: &Config, file: Option<&Path>) -> Result<Sites> {
    let mut sites = Sites { of: BTreeMap::new(), notes: Vec::new() };
    if let Some(file) = file {
        from_file(config, file, &mut sites).await?;
        return Ok(sites);
    }
    let store = stores::visit_if_there(config).await?;
    for widget in &config.widgets {
        let mut known = None;
        if let Some(store) = &store
            && store.baseline_at(&widget.name, ListKind::Rooms).await?.is_some()
        {
            known = Some(listed(&**store, &widget.name).await?);
        }
        let rooms = match known {
            Some(rooms) => (Rooms::Listed(possible(rooms, &mut sites.notes)), "store"),
            None => {
                sites.notes.push(format!(
                    "{}: the store has no list of rooms, so these are made up; give a reply to \
                     get_rooms with --rooms FILE, or let a daemon fetch the list first",
                    widget.name
                ));
                (Rooms::MadeUp(MADE_UP, named(config, &widget.name)), "made_up")
            }
        };
        sites.of.insert(widget.name.clone(), rooms);
    }
    Ok(sites)
}

async fn listed(store: &dyn Store, widget: &WidgetName) -> Result<Vec<Room>> {
    let mut rooms: Vec<Room> = Vec::new();
    loop {
        let after = rooms.last().map(|room| room.id);
        let page = store.rooms_after(widget, after, PAGE).await?;
        if page.is_empty() {
            return Ok(rooms);
        }
        rooms.extend(page);
    }
}

/// The rooms that announcements name by their numbers.
fn named(config: &Config, widget: &WidgetName) -> BTreeSet<RoomId> {
    let serves = |names: &[WidgetName]| names.is_empty() || names.contains(widget);
    let announcements = config.schedules.iter().filter(|one| serves(&one.widgets));
    let ids = announcements.flat_map(|one| one.rooms.only_ids().unwrap_or_default());
    ids.copied().filter(|id| is_possible(*id)).collect()
}

/// The simulator counts rooms with a signed number.
fn is_possible(room: RoomId) -> bool {
    i64::try_from(room.0).is_ok()
}

/// Without the rooms that no simulator can have.
fn possible(mut rooms: Vec<Room>, notes: &mut Vec<String>) -> Vec<Room> {
    let before = rooms.len();
    rooms.retain(|room| is_possible(room.id));
    let left_out = before - rooms.len();
    if left_out > 0 {
        notes.push(format!("{left_out} rooms are left out: their numbers are above {}", i64::MAX));
    }
    rooms
}

async fn from_file(config: &Config, path: &Path, sites: &mut Sites) -> Result<()> {
    let shown = output::foreign(&path.display().to_string());
    let bytes = std::fs::read(path)
        .map_err(|error| Failure::bad_input(format!("--rooms {shown}: {}", error.kind())))?;
    let read = |widget: &Widget| {
        let reply = Reply(bytes.clone());
        let secret = SecretKey::parse("no-secret-is-needed")
            .map_err(|error| Failure::bad_input(error.to_string()))?;
        Ok::<_, Failure>(Api::new(Arc::new(reply), Credentials::new(widget.id, secret)))
    };
    let Some(first) = config.widgets.first() else { return Ok(()) };
    let list = read(first)?.rooms(&GetRooms::new()).await.map_err(|error| {
        let message = format!("--rooms {shown} is no reply to get_rooms: {error}");
        Failure::bad_input(message)
            .hint("it is what the server answers: {\"success\":\"true\",\"data\":[…],\"code\":200}")
    })?;
    if let Some(bad) = list.quarantined.first() {
        let count = list.quarantined.len();
        sites.notes.push(format!("{count} rows cannot be read; the first: {}", bad.reason));
    }
    let alone = config.widgets.len() == 1;
    let mut strange = 0;
    let mut of: BTreeMap<WidgetName, Vec<Room>> = BTreeMap::new();
    for room in possible(list.items, &mut sites.notes) {
        let mut taken = false;
        for widget in &config.widgets {
            if alone || room.widget.is_none_or(|number| number == widget.id) {
                of.entry(widget.name.clone()).or_default().push(room.clone());
                taken = true;
            }
        }
        let is_ours = room.widget.is_none_or(|n| config.widgets.iter().any(|w| w.id == n));
        strange += usize::from(!taken || !is_ours);
    }
    if strange > 0 {
        let fate = if alone { "rehearsed as this one's" } else { "left out" };
        sites.notes.push(format!("{strange} rooms of {shown} are of another widget: {fate}"));
    }
    for widget in &config.widgets {
        let rooms = of.remove(&widget.name).unwrap_or_default();
        sites.of.insert(widget.name.clone(), (Rooms::Listed(rooms), "file"));
    }
    Ok(())
}

/// Answers with what stands in a file.
struct Reply(Vec<u8>);

#[async_trait]
impl Transport for Reply {
    async fn send(&self, _: Request) -> std::result::Result<Response, TransportError> {
        Ok(Response::full(200, Vec::new(), self.0.clone()))
    }
}
