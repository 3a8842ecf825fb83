//! The people of the demo: they open rooms, rename them and talk, so that there is something to
//! watch. They use the simulator as a browser would; the daemon knows nothing of them.

use std::time::Duration;

use imbabot_scheduler::Clock;
use imbabot_simulator::{CONFERENCE, DIALOGUE, RoomSeed, SUPPORT, Simulator};

const NAMES: [&str; 6] = ["Ada", "Grace", "Linus", "Margaret", "Dennis", "Barbara"];
const ROOMS: [(&str, i64); 10] = [
    ("Team Blue", CONFERENCE),
    ("Support: order 1482", SUPPORT),
    ("Team Green", CONFERENCE),
    ("Ada and Grace", DIALOGUE),
    ("Book club", CONFERENCE),
    ("Support: login", SUPPORT),
    ("Team Red", CONFERENCE),
    ("Weekend plans", CONFERENCE),
    ("Support: invoice", SUPPORT),
    ("Team Yellow", CONFERENCE),
];
const WORDS: [&str; 8] = [
    "Good morning!",
    "Has anybody seen the new page?",
    "It works now, thank you.",
    "I will have a look after lunch.",
    "Can somebody help me with my order?",
    "See you tomorrow.",
    "That was quick!",
    "Who is the one that greets everybody?",
];
/// Slow enough to read along.
const PACE: Duration = Duration::from_secs(4);
/// More rooms than this are no easier to watch.
const MOST: usize = 40;

/// The state of the chat before the daemon's first poll: none of it is news to a bot.
pub(super) fn move_in(simulator: &Simulator, rooms: usize) {
    simulator.join("imbabot", super::BOT_USER);
    for (number, name) in (2_u64..).zip(NAMES) {
        simulator.join(name, number);
    }
    for n in 0..rooms.min(ROOMS.len()) {
        open(simulator, n);
    }
    simulator.populate(rooms.saturating_sub(ROOMS.len()));
}

/// Life goes on until this is dropped.
pub(super) async fn live(simulator: &Simulator, clock: &dyn Clock) {
    let before = simulator.rooms().len();
    for turn in 0_usize.. {
        clock.sleep(PACE).await;
        let rooms: Vec<i64> = simulator
            .rooms()
            .into_iter()
            .filter(|room| room.deleted_at.is_none())
            .map(|room| room.id)
            .collect();
        let Some(room) = rooms.get(turn * 7 % rooms.len().max(1)).copied() else {
            open(simulator, before + turn);
            continue;
        };
        let person = (turn * 5 % NAMES.len()) as u64 + 2;
        // A room may have been closed by whoever watches: then nobody says anything in it.
        let _ = match turn % 5 {
            0 if rooms.len() < MOST => {
                open(simulator, before + turn / 5);
                Ok(())
            }
            3 if turn % 15 == 3 => {
                let name = simulator.room(room).map(|room| room.name).unwrap_or_default();
                simulator.rename_room(
                    room,
                    &format!("{} (renamed)", name.trim_end_matches(" (renamed)")),
                )
            }
            _ => simulator.post(room, person, WORDS[turn * 3 % WORDS.len()]).map(|_| ()),
        };
    }
}

fn open(simulator: &Simulator, n: usize) {
    let (name, kind) = ROOMS[n % ROOMS.len()];
    let round = n / ROOMS.len();
    let name = if round == 0 { name.to_owned() } else { format!("{name} {}", round + 1) };
    simulator.open_room_with(RoomSeed { name, kind, ..RoomSeed::default() });
}
