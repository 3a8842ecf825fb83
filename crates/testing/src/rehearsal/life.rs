//! People on a simulated site: on each day a few of them come, open a room, write into it, perhaps
//! rename it and close it again. They never touch a room that was there before them. The same seed, the
//! same people.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use imbabot_bot::WidgetName;
use imbabot_core::Timestamp;
use imbabot_simulator::{CONFERENCE, RoomSeed, SUPPORT, Simulator};

use super::{DAY, Wanted, salt};
use crate::random::Random;

/// So many come on a day at most.
const VISITORS: u64 = 5;
/// They come from eight o'clock on, within twelve hours, UTC.
const OPENS: Duration = Duration::from_secs(8 * 3_600);
const OPEN_FOR: u64 = 12 * 3_600;
/// The site's number of the first of them: above those that a configuration is likely to name.
const FIRST: u64 = 9_000_001;

const NAMES: [&str; 16] = [
    "Ada", "Ben", "Chloe", "Dov", "Emre", "Fay", "Goran", "Hana", "Ines", "Jun", "Kofi", "Lea",
    "Mira", "Noor", "Otto", "Pia",
];

/// The people of one site.
pub(super) struct Life {
    site: Simulator,
    random: Random,
    /// The day whose people are known.
    day: Timestamp,
    until: Timestamp,
    /// What is still to come, in order.
    acts: BTreeMap<(Timestamp, u64), Act>,
    acted: u64,
    visitors: u64,
    /// Their rooms, by the number of the visitor.
    rooms: HashMap<u64, i64>,
}

enum Act {
    Opens { visitor: u64, name: &'static str, kind: i64 },
    Writes { visitor: u64 },
    Renames { visitor: u64, name: String },
    Closes { visitor: u64 },
}

impl Life {
    /// The people of each site; of one site they are the same whatever others there are.
    pub(super) fn of(
        seed: u64,
        wanted: &Wanted,
        sites: &BTreeMap<WidgetName, Simulator>,
    ) -> Vec<Self> {
        let day = DAY.as_secs().cast_signed();
        let first = wanted.from.as_seconds().div_euclid(day).saturating_mul(day);
        sites
            .iter()
            .map(|(widget, site)| {
                let mut life = Self {
                    site: site.clone(),
                    random: Random(seed ^ salt(widget)),
                    day: Timestamp::from_seconds(first),
                    until: wanted.until,
                    acts: BTreeMap::new(),
                    acted: 0,
                    visitors: 0,
                    rooms: HashMap::new(),
                };
                life.come();
                // Nobody has come before it begins.
                life.acts.retain(|(at, _), _| *at >= wanted.from);
                life.know_more();
                life
            })
            .collect()
    }

    /// When somebody does something next.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.acts.keys().next().map(|(at, _)| *at)
    }

    /// Everything that somebody does up to now.
    pub(super) fn act(&mut self, now: Timestamp) {
        while let Some(first) = self.acts.first_entry()
            && first.key().0 <= now
        {
            let act = first.remove();
            self.do_it(act);
            self.know_more();
        }
    }

    fn do_it(&mut self, act: Act) {
        // A room that is closed already, or was never opened, is no place for anything.
        match act {
            Act::Opens { visitor, name, kind } => {
                let admin = self.site.join(name, FIRST + visitor);
                let name = match kind {
                    SUPPORT => format!("Question of {name}"),
                    _ => format!("{name}'s table"),
                };
                let public = kind == CONFERENCE;
                let seed = RoomSeed { name, kind, admin, public, ..RoomSeed::default() };
                self.rooms.insert(visitor, self.site.open_room_with(seed));
            }
            Act::Writes { visitor } => {
                if let Some(room) = self.rooms.get(&visitor) {
                    let _ = self.site.post(*room, FIRST + visitor, "Hello?");
                }
            }
            Act::Renames { visitor, name } => {
                if let Some(room) = self.rooms.get(&visitor) {
                    let _ = self.site.rename_room(*room, &name);
                }
            }
            Act::Closes { visitor } => {
                if let Some(room) = self.rooms.remove(&visitor) {
                    let _ = self.site.close_room(room, false);
                }
            }
        }
    }

    /// Sees to it that the next act is known, if there is one before the end.
    fn know_more(&mut self) {
        while self.day <= self.until && self.next().is_none_or(|next| next >= self.day) {
            self.come();
        }
    }

    /// The people of one day.
    fn come(&mut self) {
        for _ in 0..self.random.below(VISITORS + 1) {
            let visitor = self.visitors;
            self.visitors += 1;
            let opens = self.day + OPENS + self.random.seconds(OPEN_FOR);
            let name = self.random.pick(&NAMES);
            let kind = if self.random.one_in(2) { SUPPORT } else { CONFERENCE };
            self.plan(opens, Act::Opens { visitor, name, kind });
            let writes = opens + Duration::from_secs(30) + self.random.seconds(600);
            self.plan(writes, Act::Writes { visitor });
            if self.random.one_in(4) {
                let renames = writes + self.random.seconds(3_600);
                self.plan(renames, Act::Renames { visitor, name: format!("{name} and friends") });
            }
            if !self.random.one_in(4) {
                let closes = writes + Duration::from_secs(3_600) + self.random.seconds(3 * 86_400);
                self.plan(closes, Act::Closes { visitor });
            }
        }
        self.day = self.day + DAY;
    }

    fn plan(&mut self, at: Timestamp, act: Act) {
        if at <= self.until {
            self.acts.insert((at, self.acted), act);
            self.acted += 1;
        }
    }
}
