//! The same over the whole daemon: poller, store and a bot that is told, against the simulator. The
//! site is small, so that no change is a mass; what is told must follow from what was told before, and
//! must be what the server has.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use imbabot_bot::prelude::*;
use imbabot_bot::units::seconds;
use imbabot_simulator::{RoomSeed, Simulator};
use imbabot_testing::Harness;

use super::oracle::{BOUND, GONE_AFTER};
use super::random::Random;

const ROOMS: u64 = 9;
const FIRST: i64 = 5_000;

type Heard = Arc<Mutex<Vec<RoomEvent>>>;

struct Listener(Heard);

#[async_trait]
impl Bot for Listener {
    async fn on_event(&self, _: &mut Context, event: &Event) -> Result<()> {
        if let Event::Room(event) = event {
            self.0.lock().unwrap().push(event.clone());
        }
        Ok(())
    }
}

/// What a room is, in words.
fn shape(name: &str, kind: i64, status: i64, public: bool) -> String {
    format!("{name}|{kind}|{status}|{public}")
}

fn shape_of(room: &imbabot_bot::Room) -> String {
    shape(room.name.raw(), room.kind.number(), room.status, room.is_public)
}

/// The rooms that the server shows.
fn truth(simulator: &Simulator) -> BTreeMap<i64, String> {
    let there = simulator.rooms().into_iter().filter(|room| room.deleted_at.is_none());
    there.map(|r| (r.id, shape(&r.name, r.kind, r.status, r.is_public))).collect()
}

pub(crate) fn history(seed: u64) {
    let mut random = Random(seed);
    let heard = Heard::default();
    let mut chat = Harness::new().bot("listener", Listener(Arc::clone(&heard)));
    let simulator = chat.world().simulator.clone();
    chat.poll();
    // What was told last of each room; nothing of one that is gone.
    let mut known: BTreeMap<i64, Option<String>> = BTreeMap::new();
    // What was there at the last polls: a room may come back just when a list does not have it.
    let mut lately: Vec<BTreeMap<i64, String>> = Vec::new();
    let mut hiding = 0;
    for step in 0..60 {
        for _ in 0..random.below(3) {
            change(&simulator, &mut random);
        }
        chat.advance(seconds(5));
        let settles = step % 20 == 19;
        for _ in 0..if settles { BOUND } else { 1 } {
            let mut word = if settles { "" } else { fault(&mut random) };
            // The bad row of the simulator does not show whose it is.
            let hides = ["list=empty", "list=half", "list=bad-row"].contains(&word);
            if hides && hiding + 1 >= GONE_AFTER {
                word = "";
            }
            if !word.is_empty() {
                simulator.faults().push_spec(&format!("get_rooms:{word}")).unwrap();
            }
            // A list that is none says nothing about who was seen.
            match word {
                "" | "list=map" | "list=paged" | "list=reversed" | "list=doubled" => hiding = 0,
                _ if hides => hiding += 1,
                _ => {}
            }
            chat.poll();
            simulator.faults().clear();
            lately.insert(0, truth(&simulator));
            lately.truncate(12);
            for event in heard.lock().unwrap().drain(..) {
                hear(&mut known, &lately, &event, seed);
            }
        }
        if settles {
            let told: BTreeMap<_, _> =
                known.iter().filter_map(|(id, shape)| Some((*id, shape.clone()?))).collect();
            assert_eq!(told, truth(&simulator), "seed {seed}, step {step}");
        }
        if random.below(6) == 0 {
            chat.world().crash();
            // It polls at once, and well.
            hiding = 0;
        }
    }
    chat.world().check();
}

fn hear(
    known: &mut BTreeMap<i64, Option<String>>,
    lately: &[BTreeMap<i64, String>],
    event: &RoomEvent,
    seed: u64,
) {
    let id = event.room.id.0.cast_signed();
    let before = known.get(&id).cloned();
    let context = format!("seed {seed}: {event:?} after {before:?}");
    let now = shape_of(&event.room);
    match event.change {
        RoomChange::Opened => assert!(before.is_none() && event.before.is_none(), "{context}"),
        RoomChange::Returned => assert_eq!(before, Some(None), "{context}"),
        RoomChange::Gone => {
            let was_away = lately.iter().any(|there| !there.contains_key(&id));
            assert!(matches!(before, Some(Some(_))) && was_away, "{context}");
            known.insert(id, None);
            return;
        }
        change => {
            let was = event.before.as_ref().unwrap();
            let differs = match change {
                RoomChange::Renamed => was.name != event.room.name,
                RoomChange::KindChanged => was.kind != event.room.kind,
                RoomChange::StatusChanged => was.status != event.room.status,
                RoomChange::VisibilityChanged => was.is_public != event.room.is_public,
                _ => was.updated_at != event.room.updated_at,
            };
            // Of several changes at once each has the same before.
            let known = before.clone().flatten();
            assert!(
                differs && (known == Some(shape_of(was)) || known == Some(now.clone())),
                "{context}"
            );
        }
    }
    assert_eq!(lately[0].get(&id), Some(&now), "{context}");
    known.insert(id, Some(now));
}

fn change(simulator: &Simulator, random: &mut Random) {
    let id = FIRST + random.below(ROOMS).cast_signed();
    let n = random.below(4).cast_signed();
    let is_there = simulator.room(id).is_some_and(|room| room.deleted_at.is_none());
    if !is_there {
        if simulator.room(id).is_some() {
            simulator.restore_room(id).unwrap();
        } else {
            let name = format!("room {n}");
            simulator.open_room_with(RoomSeed { id: Some(id), name, ..RoomSeed::default() });
        }
        return;
    }
    let changed = match random.below(8) {
        0 | 1 => simulator.close_room(id, n % 2 == 0),
        2 => simulator.set_room_kind(id, n),
        3 => simulator.set_room_status(id, n),
        4 => simulator.set_room_visibility(id, n % 2 == 0),
        5 => simulator.touch_room(id),
        _ => simulator.rename_room(id, &format!("room }} {n} \"")),
    };
    changed.unwrap();
}

fn fault(random: &mut Random) -> &'static str {
    random.pick(&[
        "",
        "",
        "",
        "list=empty",
        "list=half",
        "list=null",
        "list=map",
        "list=paged",
        "list=reversed",
        "list=doubled",
        "list=bad-row",
        "truncate=150",
        "truncate=700",
        "status=502",
        "body=@html",
        "body=@empty",
        "code=500",
        "other-widget=9",
        "close",
    ])
}
