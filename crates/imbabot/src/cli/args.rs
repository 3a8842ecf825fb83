//! The words of the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use imbabot_bot::units::parse_duration;
use imbabot_bot::{BotName, DeliveryId, Policy, WidgetName};
use imbabot_core::{RoomId, RoomKind, SiteUserId, Timestamp};
use imbabot_store::DeliveryState;

use super::when::{parse_future, parse_when};

#[derive(Parser)]
#[command(
    name = "imbabot",
    version,
    about = "ImbaChat bots: polls rooms, tells bots what changed, posts announcements on time, and \
             keeps a truthful ledger of every message.",
    after_help = "Exit codes: 0 ok, 2 usage, 10 outcome unknown, 11 dead, 12 not finished in time, \
                  65 bad input, 69 unavailable, 74 store, 75 store held, 77 credentials refused, \
                  78 configuration."
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Args)]
pub(crate) struct Global {
    /// The configuration [default: config/imbabot.toml, then /etc/imbabot/imbabot.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Machine-readable output on stdout
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// What is logged: a level, or a filter such as imbabot=debug
    #[arg(long, global = true, value_name = "FILTER")]
    pub(crate) log: Option<String>,
    /// How it is logged
    #[arg(long, global = true, value_name = "FORMAT")]
    pub(crate) log_format: Option<Format>,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

impl Global {
    /// What the flags set in the configuration.
    pub(crate) fn flags(&self) -> Vec<(String, String)> {
        let format = self.log_format.map(|format| match format {
            Format::Text => "text".to_owned(),
            Format::Json => "json".to_owned(),
        });
        let level = self.log.clone().map(|level| ("log.level".to_owned(), level));
        level.into_iter().chain(format.map(|format| ("log.format".to_owned(), format))).collect()
    }
}

#[derive(Subcommand)]
pub(crate) enum Verb {
    #[cfg(feature = "demo")]
    /// A simulated chat, the daemon and a page to watch them, on this machine only
    Demo(Demo),
    /// The daemon
    Run {
        /// One poll, dispatch and drain of what is due, then exit
        #[arg(long)]
        once: bool,
    },
    /// Checks the configuration offline and prints all errors
    Check,
    /// Looks at this host, the store and the servers, and says what to do; posts nothing
    Doctor(Doctor),
    /// Sends one message through the ledger
    Send(Send),
    /// The rooms, fetched now
    Rooms(Rooms),
    /// The users, fetched now
    Users(Users),
    /// The calendar of the future, with rooms and texts
    Plan(Plan),
    #[cfg(feature = "rehearse")]
    /// The configuration and its bots in virtual time, against a simulated site
    Rehearse(Rehearse),
    /// The schedules, with their last and next occurrence
    Schedules {
        #[command(subcommand)]
        verb: Option<SchedulesVerb>,
    },
    /// The outbox and its history
    Deliveries {
        #[command(subcommand)]
        verb: Option<DeliveriesVerb>,
        #[command(flatten)]
        filter: DeliveriesFilter,
    },
    /// What bots were told, and how it went
    Events {
        #[command(subcommand)]
        verb: Option<EventsVerb>,
        /// Only events that a bot failed on every try
        #[arg(long)]
        poisoned: bool,
        /// At most so many, the newest
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// How the daemon is: ready or why not, and what its parts did last
    Status,
    /// Why a message is where it is, or why there is none
    Why {
        /// A delivery, or an occurrence such as standup@2026-03-30T07:00:00Z
        #[arg(value_name = "OCCURRENCE|DELIVERY")]
        id: String,
    },
    /// The emergency stop: nothing is sent until `resume`, also over restarts
    Pause(Scope),
    /// Goes on after `pause`
    Resume(Scope),
    /// Asks an instance to give everything away before it is stopped, where several share a store
    Drain {
        /// Its number, as `status` shows it [default: the one of this host's name]
        #[arg(value_name = "INSTANCE")]
        instance: Option<i64>,
        /// Takes that back
        #[arg(long)]
        undo: bool,
    },
    /// What happened, in order
    Ledger {
        #[command(subcommand)]
        verb: LedgerVerb,
    },
    /// The store: what it holds; of a file a copy, and an old copy taken into use; moving it
    Store {
        #[command(subcommand)]
        verb: StoreVerb,
    },
    #[cfg(feature = "simulator")]
    /// The stand-in ImbaChat server alone, for trying clients against it
    Simulator(Simulator),
    /// The effective configuration, or its schema
    Config {
        #[command(subcommand)]
        verb: ConfigVerb,
    },
    /// Completions for a shell, on standard output
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// The manual, as a man page on standard output
    #[command(hide = true)]
    Man,
    /// The version
    Version {
        /// Also what it was built with
        #[arg(long)]
        verbose: bool,
    },
}

#[cfg(feature = "demo")]
#[derive(Args)]
pub(crate) struct Demo {
    /// Where the page is served
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub(crate) listen: std::net::SocketAddr,
    /// Ends by itself after this long
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) duration: Option<Duration>,
    /// How many rooms there are at the start
    #[arg(long, value_name = "N", default_value_t = 6)]
    pub(crate) rooms: usize,
    /// Does not try to open the page in a browser
    #[arg(long)]
    pub(crate) no_open: bool,
}

#[derive(Args)]
pub(crate) struct Doctor {
    /// Only this widget [default: all]
    #[arg(long, value_name = "W")]
    pub(crate) widget: Option<WidgetName>,
}

#[derive(Args)]
pub(crate) struct Send {
    /// The room's number
    #[arg(long, value_name = "ID")]
    pub(crate) room: RoomId,
    /// The widget, where there are several
    #[arg(long, value_name = "W")]
    pub(crate) widget: Option<WidgetName>,
    /// The site user to speak as, instead of the widget's sender
    #[arg(long = "as", value_name = "USER")]
    pub(crate) sender: Option<SiteUserId>,
    /// at_most_once or at_least_once
    #[arg(long, value_name = "P")]
    pub(crate) policy: Option<Policy>,
    /// A key of your own: the same key again is the same message
    #[arg(long, value_name = "K")]
    pub(crate) key: Option<String>,
    /// Waits so long for the outcome
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) wait: Option<Duration>,
    /// Reads the text from standard input
    #[arg(long, conflicts_with = "text")]
    pub(crate) stdin: bool,
    /// The text
    #[arg(required_unless_present = "stdin")]
    pub(crate) text: Option<String>,
}

#[derive(Args)]
pub(crate) struct ListFilter {
    /// The widget, where there are several [default: all]
    #[arg(long, value_name = "W")]
    pub(crate) widget: Option<WidgetName>,
    /// Only with a name (a login) that matches
    #[arg(long, value_name = "REGEX")]
    pub(crate) name: Option<String>,
    /// Only changed at or after T: an instant, or a length of time ago
    #[arg(long, value_name = "T", value_parser = parse_when)]
    pub(crate) changed_since: Option<Timestamp>,
    /// At most so many
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// A filter of the vendor's own, passed on as it is
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub(crate) server_filter: Vec<(String, String)>,
}

#[derive(Args)]
pub(crate) struct Rooms {
    #[command(flatten)]
    pub(crate) filter: ListFilter,
    /// dialogue, conference, support or a number
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Option<RoomKind>,
}

#[derive(Args)]
pub(crate) struct Users {
    #[command(flatten)]
    pub(crate) filter: ListFilter,
}

#[derive(Args)]
pub(crate) struct Plan {
    /// From T on: an instant, or a length of time from now [default: now]
    #[arg(long, value_name = "T", value_parser = parse_future)]
    pub(crate) from: Option<Timestamp>,
    /// Up to T: an instant, or a length of time from now
    #[arg(long, value_name = "T", value_parser = parse_future)]
    pub(crate) until: Option<Timestamp>,
    /// At most so many [default: 20, or all up to --until]
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<usize>,
    /// Only this schedule
    #[arg(long, value_name = "ID")]
    pub(crate) schedule: Option<String>,
}

#[cfg(feature = "rehearse")]
#[derive(Args)]
pub(crate) struct Rehearse {
    /// From T on: an instant, or a length of time from now [default: now]
    #[arg(long, value_name = "T", value_parser = parse_future)]
    pub(crate) from: Option<Timestamp>,
    /// Up to T: an instant, or a length of time from now [default: a week after --from]
    #[arg(long, value_name = "T", value_parser = parse_future)]
    pub(crate) until: Option<Timestamp>,
    /// The rooms, as a reply to get_rooms [default: the last list in the store]
    #[arg(long, value_name = "FILE")]
    pub(crate) rooms: Option<PathBuf>,
    /// Lets people come, open rooms and close them: the same number, the same people
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
}

#[derive(Subcommand)]
pub(crate) enum SchedulesVerb {
    /// Nothing of it fires until it is resumed
    Pause {
        /// The schedule
        id: String,
    },
    /// It fires again
    Resume {
        /// The schedule
        id: String,
    },
    /// One extra occurrence, now
    Trigger {
        /// The schedule
        id: String,
    },
}

#[derive(Args)]
pub(crate) struct DeliveriesFilter {
    /// queued, sending, unknown, delivered or dead
    #[arg(long, value_name = "S")]
    pub(crate) state: Option<DeliveryState>,
    /// Recorded at or after T: an instant, or a length of time ago
    #[arg(long, value_name = "T", value_parser = parse_when)]
    pub(crate) since: Option<Timestamp>,
    /// At most so many, the newest
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
}

#[derive(Subcommand)]
pub(crate) enum DeliveriesVerb {
    /// Takes back what is still queued
    #[command(group = clap::ArgGroup::new("which").required(true).multiple(false))]
    Cancel {
        /// These deliveries
        #[arg(group = "which", value_name = "ID")]
        ids: Vec<DeliveryId>,
        /// All of a bot
        #[arg(long, group = "which", value_name = "B")]
        bot: Option<BotName>,
        /// All of a schedule
        #[arg(long, group = "which", value_name = "S")]
        schedule: Option<String>,
        /// All in a state
        #[arg(long, group = "which", value_name = "S")]
        state: Option<DeliveryState>,
    },
    /// Queues a dead or unknown delivery again
    Retry {
        /// The delivery
        id: DeliveryId,
        /// It may have been posted already, and may then be posted twice
        #[arg(long)]
        accept_duplicate: bool,
    },
    /// Says what became of an unknown delivery
    Resolve {
        /// The delivery
        id: DeliveryId,
        /// delivered or dead
        #[arg(long = "as", value_name = "WHAT")]
        as_: Resolve,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Resolve {
    Delivered,
    Dead,
}

#[derive(Subcommand)]
pub(crate) enum EventsVerb {
    /// Tells a poisoned event to its bot again
    Retry {
        /// The event, as `events` shows it: e17/greeter
        id: String,
    },
}

#[derive(Args)]
pub(crate) struct Scope {
    /// Only this widget
    #[arg(long, value_name = "W", conflicts_with = "bot")]
    pub(crate) widget: Option<WidgetName>,
    /// Only this bot
    #[arg(long, value_name = "B")]
    pub(crate) bot: Option<BotName>,
}

#[derive(Subcommand)]
pub(crate) enum LedgerVerb {
    /// Prints it as JSON lines
    Export {
        /// Only what comes after this line
        #[arg(long, value_name = "SEQ", default_value_t = 0)]
        since: i64,
        /// Goes on as it grows
        #[arg(long)]
        follow: bool,
    },
    /// Holds it against the rules it has to obey
    Verify,
}

#[derive(Subcommand)]
pub(crate) enum StoreVerb {
    /// A consistent copy, also while the daemon runs
    Backup {
        /// Where it goes; no file may be there
        file: PathBuf,
    },
    /// Version, size, records, last checks and backups
    Info,
    /// Takes the store in place, an old copy, into use: sends nothing that may have been sent since
    Reanchor,
    /// Moves a whole store from a file to a PostgreSQL server, or back, while no daemon runs on it
    ///
    /// An address is sqlite:PATH; postgres:FILE, a file with the URL of the server; postgres: alone for
    /// the URL in IMBABOT_DATABASE_URL; or a postgres:// URL without a password.
    Migrate {
        /// Where it is
        #[arg(long, value_name = "ADDRESS")]
        from: String,
        /// Where it goes: nothing may be there yet
        #[arg(long, value_name = "ADDRESS")]
        to: String,
    },
}

#[cfg(feature = "simulator")]
#[derive(Args)]
pub(crate) struct Simulator {
    /// Where it listens
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:6270")]
    pub(crate) listen: std::net::SocketAddr,
    /// The widget's number
    #[arg(long, value_name = "ID", default_value_t = 627)]
    pub(crate) widget: i64,
    /// A file with the secret key [default: the secret is simulator-secret]
    #[arg(long, value_name = "FILE")]
    pub(crate) secret_file: Option<PathBuf>,
    /// How many rooms there are at the start
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) rooms: usize,
    /// What makes ids and names
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// What goes wrong, such as send_msg:apply-then-close
    #[arg(long, value_name = "SPEC")]
    pub(crate) fault: Vec<String>,
    /// Appends every request to this file, as JSON lines
    #[arg(long, value_name = "FILE")]
    pub(crate) log_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Subcommand)]
pub(crate) enum ConfigVerb {
    /// Every value with its origin, secrets masked
    Show,
    /// JSON Schema, for editors
    Schema,
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    if name.is_empty() {
        return Err("the name is missing".into());
    }
    Ok((name.to_owned(), value.to_owned()))
}
