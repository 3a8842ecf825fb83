//! An announcement as a line of words: `s1 cron=0_9_*_*_1-5 zone=Europe/Berlin misfire=catch_up
//! rooms=team`. Blanks within a value are written as `_`. Whatever is left out has its default.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use imbabot_bot::schedule::{Dst, Gap, Misfire, Overlap, Repeat};
use imbabot_bot::units::parse_duration;
use imbabot_bot::{Policy, RoomSelector, Schedule, Template};
use imbabot_core::RoomId;
use imbabot_scheduler::Announcement;

/// An announcement in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    id: String,
    words: Vec<(String, String)>,
}

impl Plan {
    /// Its schedule's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What the words say.
    ///
    /// # Errors
    /// A sentence that names the word that is wrong.
    pub fn announcement(&self) -> Result<Announcement, String> {
        let mut schedule: Option<Schedule> = None;
        let mut zone = "UTC";
        let mut rooms = RoomSelector::all();
        let mut text = format!("{} of {{{{ occurrence.at }}}}", self.id);
        let (mut dst, mut policy) = (Dst::default(), None);
        for (word, value) in &self.words {
            let value = value.replace('_', " ");
            match word.as_str() {
                "cron" => schedule = Some(words(Schedule::cron(&self.id, &value))?),
                "every" => schedule = Some(words(Schedule::every(&self.id, length(&value)?))?),
                "at" => schedule = Some(words(Schedule::at(&self.id, &value))?),
                _ => {}
            }
        }
        let mut schedule = schedule.ok_or_else(|| format!("{self} has no rule"))?;
        for (word, value) in &self.words {
            let wrong = || format!("{word}={value} is not understood");
            schedule = match word.as_str() {
                "cron" | "every" | "at" => schedule,
                "zone" => {
                    zone = value;
                    schedule
                }
                "misfire" => schedule.misfire(match value.as_str() {
                    "skip" => Misfire::Skip,
                    "once" => Misfire::FireOnce,
                    "catch-up" => Misfire::CatchUp,
                    _ => return Err(wrong()),
                }),
                "catch-up-max" => schedule.catch_up_max(value.parse().map_err(|_| wrong())?),
                "grace" => schedule.grace(length(value)?),
                "keeps" => schedule.expires_after(length(value)?),
                "jitter" => schedule.jitter(length(value)?),
                "overlap" => schedule.overlap(match value.as_str() {
                    "skip" => Overlap::Skip,
                    "allow" => Overlap::Allow,
                    _ => return Err(wrong()),
                }),
                "gap" => {
                    dst.gap = if value == "skip" { Gap::Skip } else { Gap::Shift };
                    schedule
                }
                "repeat" => {
                    dst.repeat = match value.as_str() {
                        "second" => Repeat::Second,
                        "both" => Repeat::Both,
                        _ => Repeat::First,
                    };
                    schedule
                }
                "except" => words(schedule.except(value.split(',')))?,
                "rooms" => {
                    rooms = match value.as_str() {
                        "all" => RoomSelector::all(),
                        "team" => words(RoomSelector::named("^team"))?,
                        ids => {
                            let ids = ids.split(',').map(|id| id.parse().map(RoomId));
                            RoomSelector::ids(
                                ids.collect::<Result<Vec<_>, _>>().map_err(|_| wrong())?,
                            )
                        }
                    };
                    schedule
                }
                "say" => {
                    let to_room = value == "room";
                    text = if to_room { "{{ room.name }}: hello".into() } else { value.clone() };
                    schedule
                }
                "policy" => {
                    policy = Some(value.parse::<Policy>()?);
                    schedule
                }
                _ => return Err(wrong()),
            };
        }
        let schedule = words(schedule.dst(dst).timezone(zone))?;
        words(schedule.validate())?;
        let text = Template::announcement(&text).map_err(|error| format!("{self}: {error}"))?;
        Ok(Announcement { policy, ..Announcement::new(schedule, rooms, text) })
    }
}

fn words<T, E: fmt::Display>(result: Result<T, E>) -> Result<T, String> {
    result.map_err(|error| error.to_string())
}

fn length(text: &str) -> Result<Duration, String> {
    parse_duration(text)
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)?;
        self.words.iter().try_for_each(|(word, value)| write!(f, " {word}={value}"))
    }
}

impl FromStr for Plan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let id = words.next().ok_or("a schedule has an id")?.to_owned();
        let words = words
            .map(|word| word.split_once('=').ok_or_else(|| format!("{word:?} is no word=value")))
            .map(|pair| pair.map(|(word, value)| (word.to_owned(), value.to_owned())));
        let plan = Self { id, words: words.collect::<Result<_, _>>()? };
        plan.announcement()?;
        Ok(plan)
    }
}
