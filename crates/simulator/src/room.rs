//! Rooms, and what people do with them. Nothing here checks who does it.

use crate::change::Change;
use crate::clock::SECOND;
use crate::simulator::{Simulator, SimulatorError, State};

/// `type` of a dialogue.
pub const DIALOGUE: i64 = 0;
/// `type` of a conference.
pub const CONFERENCE: i64 = 1;
/// `type` of a technical support room.
pub const SUPPORT: i64 = 3;

/// A room as the server stores it. Times are unix seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// ImbaChat's id of the room.
    pub id: i64,
    /// The text id; the server's own are `<13 hex digits>_<unix seconds>`.
    pub pipe: String,
    /// What people see.
    pub name: String,
    /// ImbaChat's id (not the site's) of the user who owns the room.
    pub admin_id: i64,
    /// `type`: 0 dialogue, 1 conference, 3 technical support.
    pub kind: i64,
    /// `status`, 0 as a rule.
    pub status: i64,
    /// Whether anyone may enter.
    pub is_public: bool,
    /// When it was opened.
    pub created_at: i64,
    /// When it last changed.
    pub updated_at: i64,
    /// When it was closed.
    pub deleted_at: Option<i64>,
    /// Whether a closed room is left out of the lists altogether.
    pub vanished: bool,
}

/// What a new room shall look like. `Default` is a public conference named `new room`, owned by
/// user 2046.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomSeed {
    /// Its id; the next free one if `None`.
    pub id: Option<i64>,
    /// What people see.
    pub name: String,
    /// `type`: 0 dialogue, 1 conference, 3 technical support.
    pub kind: i64,
    /// Whether anyone may enter.
    pub public: bool,
    /// ImbaChat's id of the owner.
    pub admin: i64,
    /// `status`.
    pub status: i64,
    /// The text id; one as the server makes them if `None`.
    pub pipe: Option<String>,
    /// When it was opened, in unix seconds; now if `None`.
    pub created_at: Option<i64>,
}

impl Default for RoomSeed {
    fn default() -> Self {
        Self {
            id: None,
            name: "new room".to_owned(),
            kind: CONFERENCE,
            public: true,
            admin: 2046,
            status: 0,
            pipe: None,
            created_at: None,
        }
    }
}

impl Simulator {
    /// Opens a public conference and returns its id.
    pub fn open_room(&self, name: &str) -> i64 {
        self.open_room_with(RoomSeed { name: name.to_owned(), ..RoomSeed::default() })
    }

    /// Opens a room and returns its id. A seed with the id of an existing room replaces it.
    pub fn open_room_with(&self, seed: RoomSeed) -> i64 {
        let now = self.now_micros();
        self.state().open_room(seed, now)
    }

    /// Gives a room another name.
    pub fn rename_room(&self, room: i64, name: &str) -> Result<(), SimulatorError> {
        self.change_room(room, |room| name.clone_into(&mut room.name))
    }

    /// Closes a room: it stays in the lists with a `deleted_at`, unless `vanish`.
    pub fn close_room(&self, room: i64, vanish: bool) -> Result<(), SimulatorError> {
        let now = self.server_time();
        self.change_room(room, |room| {
            room.deleted_at = Some(now);
            room.vanished = vanish;
        })
    }

    /// Takes the closing of a room back.
    pub fn restore_room(&self, room: i64) -> Result<(), SimulatorError> {
        self.change_room(room, |room| {
            room.deleted_at = None;
            room.vanished = false;
        })
    }

    /// Changes a room's `type`.
    pub fn set_room_kind(&self, room: i64, kind: i64) -> Result<(), SimulatorError> {
        self.change_room(room, |room| room.kind = kind)
    }

    /// Changes a room's `status`.
    pub fn set_room_status(&self, room: i64, status: i64) -> Result<(), SimulatorError> {
        self.change_room(room, |room| room.status = status)
    }

    /// Changes a room's `is_public`.
    pub fn set_room_visibility(&self, room: i64, public: bool) -> Result<(), SimulatorError> {
        self.change_room(room, |room| room.is_public = public)
    }

    /// Changes a room's owner (ImbaChat's id).
    pub fn set_room_admin(&self, room: i64, admin: i64) -> Result<(), SimulatorError> {
        self.change_room(room, |room| room.admin_id = admin)
    }

    /// Moves a room's `updated_at` to now and changes nothing else.
    pub fn touch_room(&self, room: i64) -> Result<(), SimulatorError> {
        self.change_room(room, |_| {})
    }

    /// Opens `n` rooms as a busy site has them: teams, dialogues, support; opened an hour apart
    /// before now. Also lets their owners join.
    pub fn populate(&self, n: usize) {
        let now = self.now_micros();
        let mut state = self.state();
        let owners: Vec<i64> = (1..=(n / 10).clamp(1, OWNERS.len()))
            .map(|site_id| {
                // Whoever is there already keeps the name it has.
                if let Some(known) = state.user_of_site(&site_id.to_string()) {
                    return known.id;
                }
                let status = if site_id == 1 { "admin" } else { "user" };
                state.join(OWNERS[site_id - 1], &site_id.to_string(), status, now)
            })
            .collect();
        let newest = state.server_time(now);
        for index in 0..n {
            let (name, kind, public) = match state.rng.below(10) {
                0..=3 => (format!("Team {}", index + 1), CONFERENCE, true),
                4..=7 => ("New conversation".to_owned(), DIALOGUE, false),
                8 => ("Technical support".to_owned(), SUPPORT, false),
                _ => (format!("Project {}", index + 1), CONFERENCE, false),
            };
            let admin = owners[state.rng.below(owners.len() as u64) as usize];
            let created_at = Some(newest - 3600 * (n - index) as i64);
            let seed = RoomSeed { name, kind, public, admin, created_at, ..RoomSeed::default() };
            state.open_room(seed, now);
        }
    }

    /// Puts rooms into the lists as they are, under their own ids; rooms that are opened afterwards
    /// get higher ones. Nobody is told of a change.
    pub fn place_rooms(&self, rooms: impl IntoIterator<Item = Room>) {
        let mut state = self.state();
        for room in rooms {
            state.next_room = state.next_room.max(room.id.saturating_add(1));
            state.rooms.insert(room.id, room);
        }
    }

    /// Fills in what the vendor's sample responses show: user 2046 (site user 1), the rooms 1853
    /// and 1314, and room 1536, to which the sample posts.
    pub fn load_vendor_sample(&self) {
        let now = self.now_micros();
        let mut state = self.state();
        let spray = state.join("spray", "1", "admin", now);
        if let Some(user) = state.users.get_mut(&spray) {
            user.created_at = 1_606_109_201;
            user.updated_at = 1_606_201_194;
            user.avatar_url = Some(
                "https://secure.gravatar.com/avatar/3875115bacc48cca24ac51ee4b0e7975?s=48&d=identicon"
                    .to_owned(),
            );
        }
        let samples = [
            (1853, "5fde659f0ba18_1608410527", "Technical support", 2157, SUPPORT, 1_608_410_527),
            (1314, "5fbcaf6a4ba35_1606201194", "New conversation", 2046, DIALOGUE, 1_606_201_194),
            (1536, "5fdc576f3c2a1_1608275823", "API", 2046, CONFERENCE, 1_608_275_823),
        ];
        for (id, pipe, name, admin, kind, created_at) in samples {
            let seed = RoomSeed {
                id: Some(id),
                pipe: Some(pipe.to_owned()),
                name: name.to_owned(),
                admin,
                kind,
                public: false,
                status: 0,
                created_at: Some(created_at),
            };
            state.open_room(seed, now);
        }
    }

    /// All rooms by ascending id, closed and vanished ones included.
    #[must_use]
    pub fn rooms(&self) -> Vec<Room> {
        self.state().rooms.values().cloned().collect()
    }

    /// One room.
    #[must_use]
    pub fn room(&self, room: i64) -> Option<Room> {
        self.state().rooms.get(&room).cloned()
    }

    fn change_room(&self, id: i64, change: impl FnOnce(&mut Room)) -> Result<(), SimulatorError> {
        let now = self.now_micros();
        let mut state = self.state();
        let server_time = state.server_time(now);
        let room = state.rooms.get_mut(&id).ok_or(SimulatorError::UnknownRoom(id))?;
        change(room);
        room.updated_at = server_time;
        let room = room.clone();
        state.announce(Change::RoomChanged(room));
        Ok(())
    }
}

impl State {
    pub(crate) fn open_room(&mut self, seed: RoomSeed, now_micros: i64) -> i64 {
        let id = seed.id.unwrap_or_else(|| {
            // Skips the ids that seeds took.
            while self.rooms.contains_key(&self.next_room) {
                self.next_room += 1;
            }
            self.next_room
        });
        let created_at = seed.created_at.unwrap_or_else(|| self.server_time(now_micros));
        // PHP's uniqid(): the second and the microsecond, in hex.
        let pipe = seed.pipe.unwrap_or_else(|| {
            let micros = self.rng.below(SECOND.unsigned_abs());
            format!("{created_at:08x}{micros:05x}_{created_at}")
        });
        let room = Room {
            id,
            pipe,
            name: seed.name,
            admin_id: seed.admin,
            kind: seed.kind,
            status: seed.status,
            is_public: seed.public,
            created_at,
            updated_at: created_at,
            deleted_at: None,
            vanished: false,
        };
        self.rooms.insert(id, room.clone());
        self.announce(Change::RoomOpened(room));
        id
    }
}

const OWNERS: [&str; 8] =
    ["spray", "juniper", "harbour", "lantern", "meadow", "compass", "saffron", "willow"];

#[cfg(test)]
mod tests {
    use crate::testing::{START, simulator};

    use super::*;

    #[test]
    fn the_first_room_is_the_one_the_vendors_sample_posts_to() {
        assert_eq!(simulator().open_room("Team 1"), 1536);
    }

    #[test]
    fn a_pipe_names_the_second_the_room_was_opened() {
        let simulator = simulator();
        let room = simulator.open_room("Team 1");
        let pipe = simulator.room(room).unwrap().pipe;
        let (uniqid, unix) = pipe.split_once('_').unwrap();
        assert_eq!(unix, START.to_string());
        assert_eq!(uniqid.len(), 13);
        assert_eq!(i64::from_str_radix(&uniqid[..8], 16).unwrap(), START);
    }

    #[test]
    fn the_same_seed_populates_the_same_rooms() {
        let (one, two) = (simulator(), simulator());
        one.populate(100);
        two.populate(100);
        assert_eq!(one.rooms(), two.rooms());
        for kind in [DIALOGUE, CONFERENCE, SUPPORT] {
            assert!(one.rooms().iter().any(|room| room.kind == kind), "no room of type {kind}");
        }
    }

    #[test]
    fn a_closed_room_comes_back_when_restored() {
        let simulator = simulator();
        let room = simulator.open_room("Team 1");
        simulator.close_room(room, true).unwrap();
        assert!(simulator.room(room).unwrap().deleted_at.is_some());
        simulator.restore_room(room).unwrap();
        let restored = simulator.room(room).unwrap();
        assert!(restored.deleted_at.is_none() && !restored.vanished);
    }

    #[test]
    fn a_room_nobody_opened_cannot_be_renamed() {
        assert_eq!(simulator().rename_room(9, "x"), Err(SimulatorError::UnknownRoom(9)));
    }

    #[test]
    fn ids_taken_by_seeds_are_skipped() {
        let simulator = simulator();
        simulator.load_vendor_sample();
        assert_eq!(simulator.open_room("Team 1"), 1537);
    }
}
