//! What can happen, as data and as text: `open team`, `pass 90s`, `crash before settle 1`. What is
//! written reads back. An operation names rooms and messages by place ("the third of those there
//! are"), so that it still means something when others are left out.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use imbabot_bot::units::{format_duration, parse_duration};

use super::crash::CrashPoint;
use super::plan::Plan;

/// A seed, which makes the conditions, and what happens under them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// Where and when it takes place; see `conditions`.
    pub seed: u64,
    /// What happens.
    pub operations: Vec<Operation>,
}

/// Something that happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Somebody opens a room whose name begins like this.
    Open(String),
    /// Somebody does something with a room.
    Room(Change, u64),
    /// Somebody joins the site.
    Join(u64),
    /// The next request meets a fault, in the simulator's words.
    Fault(String),
    /// The server goes down, or comes back.
    Down(bool),
    /// The server has another secret key than the daemon, or the same again.
    Secret(bool),
    /// The bots' user is banned, or not any more.
    Banned(bool),
    /// Every list is polled now.
    Poll,
    /// Time passes.
    Pass(Duration),
    /// The host sleeps: time passes for everybody else.
    Suspend(Duration),
    /// The wall is set forward (true) or back.
    Wall(bool, Duration),
    /// The daemon is killed where it stands, and stays down.
    Kill,
    /// The daemon starts, unless it runs.
    Start,
    /// The daemon is stopped in good order and starts again.
    Restart,
    /// The daemon will be killed at this point, and starts again.
    Crash(CrashPoint),
    /// A schedule is written into the configuration.
    Schedule(Box<Plan>),
    /// A schedule is taken out of the configuration.
    Unschedule(String),
    /// A bot is put into the configuration or taken out of it.
    Bot(String, bool),
    /// The configuration is put into force.
    Reload,
    /// An operator pauses (true) or resumes.
    Pause(bool, Scope),
    /// An operator triggers a schedule.
    Trigger(String),
    /// An operator sends a message under a key.
    Send {
        /// The key.
        key: u64,
        /// To which room, by place.
        room: u64,
        /// It is repeated where its outcome is unknown.
        insistent: bool,
        /// Not before so much later.
        later: Duration,
    },
    /// An operator cancels what is queued.
    Cancel(Scope),
    /// An operator queues a message again that is dead or unknown, and accepts that it may double.
    Retry(u64),
    /// An operator looks into the room and says what became of an unknown message.
    Resolve(u64),
    /// An operator lets a poisoned event be tried again.
    RetryEvent(u64),
}

/// What somebody does with a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It gets another name.
    Rename,
    /// It is marked as deleted.
    Delete,
    /// It is no longer listed.
    Vanish,
    /// It is back.
    Restore,
    /// Its `updated_at` moves.
    Touch,
    /// A person posts.
    Post,
    /// It is of another kind.
    Kind,
    /// It becomes public, or private.
    Publish,
}

impl Change {
    pub(super) const ALL: [(Self, &'static str); 8] = [
        (Self::Rename, "rename"),
        (Self::Delete, "delete"),
        (Self::Vanish, "vanish"),
        (Self::Restore, "restore"),
        (Self::Touch, "touch"),
        (Self::Post, "post"),
        (Self::Kind, "kind"),
        (Self::Publish, "publish"),
    ];

    fn word(self) -> &'static str {
        Self::ALL.iter().find(|(change, _)| *change == self).map_or("", |(_, word)| word)
    }
}

/// What an operator pauses or cancels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    All,
    /// The widget.
    Widget,
    /// A bot.
    Bot(String),
    /// A schedule.
    Schedule(String),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Widget => f.write_str("widget"),
            Self::Bot(name) => write!(f, "bot {name}"),
            Self::Schedule(id) => write!(f, "schedule {id}"),
        }
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        match words.as_slice() {
            ["all"] => Ok(Self::All),
            ["widget"] => Ok(Self::Widget),
            ["bot", name] => Ok(Self::Bot((*name).into())),
            ["schedule", id] => Ok(Self::Schedule((*id).into())),
            _ => Err(format!("{text:?} is no scope: all, widget, bot NAME, schedule ID")),
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or = |first: bool, yes: &'static str, no: &'static str| if first { yes } else { no };
        match self {
            Self::Open(name) => write!(f, "open {name}"),
            Self::Room(change, room) => write!(f, "{} {room}", change.word()),
            Self::Join(user) => write!(f, "join {user}"),
            Self::Fault(spec) => write!(f, "fault {spec}"),
            Self::Down(down) => f.write_str(or(*down, "down", "up")),
            Self::Secret(right) => write!(f, "secret {}", or(*right, "right", "other")),
            Self::Banned(banned) => f.write_str(or(*banned, "ban", "unban")),
            Self::Poll => f.write_str("poll"),
            Self::Pass(length) => write!(f, "pass {}", format_duration(*length)),
            Self::Suspend(length) => write!(f, "suspend {}", format_duration(*length)),
            Self::Wall(on, length) => {
                write!(f, "wall {}{}", or(*on, "+", "-"), format_duration(*length))
            }
            Self::Kill => f.write_str("kill"),
            Self::Start => f.write_str("start"),
            Self::Restart => f.write_str("restart"),
            Self::Crash(point) => write!(f, "crash {point}"),
            Self::Schedule(plan) => write!(f, "schedule {plan}"),
            Self::Unschedule(id) => write!(f, "unschedule {id}"),
            Self::Bot(name, on) => write!(f, "bot {name} {}", or(*on, "on", "off")),
            Self::Reload => f.write_str("reload"),
            Self::Pause(paused, scope) => write!(f, "{} {scope}", or(*paused, "pause", "resume")),
            Self::Trigger(id) => write!(f, "trigger {id}"),
            Self::Send { key, room, insistent, later } => {
                write!(f, "send {key} to {room}")?;
                if *insistent {
                    f.write_str(" insistently")?;
                }
                if !later.is_zero() {
                    write!(f, " after {}", format_duration(*later))?;
                }
                Ok(())
            }
            Self::Cancel(scope) => write!(f, "cancel {scope}"),
            Self::Retry(n) => write!(f, "retry {n}"),
            Self::Resolve(n) => write!(f, "resolve {n}"),
            Self::RetryEvent(n) => write!(f, "retry-event {n}"),
        }
    }
}

impl FromStr for Operation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let number = || rest.parse::<u64>().map_err(|_| format!("{text:?}: a number is missing"));
        let length = |text: &str| parse_duration(text);
        if let Some((change, _)) = Change::ALL.iter().find(|(_, name)| *name == word) {
            return Ok(Self::Room(*change, number()?));
        }
        Ok(match word {
            "open" => Self::Open(rest.into()),
            "join" => Self::Join(number()?),
            "fault" => Self::Fault(rest.into()),
            "down" => Self::Down(true),
            "up" => Self::Down(false),
            "secret" => Self::Secret(rest == "right"),
            "ban" => Self::Banned(true),
            "unban" => Self::Banned(false),
            "poll" => Self::Poll,
            "pass" => Self::Pass(length(rest)?),
            "suspend" => Self::Suspend(length(rest)?),
            "wall" => match rest.split_at_checked(1) {
                Some(("+", by)) => Self::Wall(true, length(by)?),
                Some(("-", by)) => Self::Wall(false, length(by)?),
                _ => return Err(format!("{text:?}: it is set by +1h or -1h")),
            },
            "kill" => Self::Kill,
            "start" => Self::Start,
            "restart" => Self::Restart,
            "crash" => Self::Crash(rest.parse()?),
            "schedule" => Self::Schedule(Box::new(rest.parse()?)),
            "unschedule" => Self::Unschedule(rest.into()),
            "bot" => match rest.split_once(' ') {
                Some((name, "on")) => Self::Bot(name.into(), true),
                Some((name, "off")) => Self::Bot(name.into(), false),
                _ => return Err(format!("{text:?}: a bot is on or off")),
            },
            "reload" => Self::Reload,
            "pause" => Self::Pause(true, rest.parse()?),
            "resume" => Self::Pause(false, rest.parse()?),
            "trigger" => Self::Trigger(rest.into()),
            "send" => send(rest)?,
            "cancel" => Self::Cancel(rest.parse()?),
            "retry" => Self::Retry(number()?),
            "resolve" => Self::Resolve(number()?),
            "retry-event" => Self::RetryEvent(number()?),
            _ => return Err(format!("{text:?} is no operation")),
        })
    }
}

fn send(text: &str) -> Result<Operation, String> {
    let wrong = || format!("{text:?}: a message is sent as in `1 to 2 insistently after 5m`");
    let words: Vec<&str> = text.split_whitespace().collect();
    let [key, "to", room, how @ ..] = words.as_slice() else { return Err(wrong()) };
    let (key, room) = (key.parse().map_err(|_| wrong())?, room.parse().map_err(|_| wrong())?);
    let (insistent, how) = match how {
        ["insistently", rest @ ..] => (true, rest),
        all => (false, all),
    };
    let later = match how {
        [] => Duration::ZERO,
        ["after", length] => parse_duration(length)?,
        _ => return Err(wrong()),
    };
    Ok(Operation::Send { key, room, insistent, later })
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}:", self.seed)?;
        for (n, operation) in self.operations.iter().enumerate() {
            write!(f, "{} {operation}", if n == 0 { "" } else { ";" })?;
        }
        Ok(())
    }
}

impl FromStr for History {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{:?} does not begin with `seed N:`", text.get(..40).unwrap_or(text));
        let (seed, operations) = text.split_once(':').ok_or_else(wrong)?;
        let seed = seed.trim().strip_prefix("seed ").ok_or_else(wrong)?;
        let seed = seed.parse().map_err(|_| wrong())?;
        let operations = operations.split(';').map(str::trim).filter(|text| !text.is_empty());
        Ok(Self { seed, operations: operations.map(str::parse).collect::<Result<_, _>>()? })
    }
}
