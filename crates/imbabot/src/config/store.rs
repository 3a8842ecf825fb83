//! `[store]`: where everything is remembered, in a file of this machine or on a database server
//! that several instances share.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::code::Code;
use super::database::DatabaseUrl;
use super::keys::{self, Key, LONG, Shape};
use super::read::words;
use super::secrets;
use super::value::{Table, Value, quoted, variable};
use super::walk::{Fault, Part, Walk};

/// `[store]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// Where it is.
    pub place: StorePlace,
    /// Whether the ledger keeps what was said.
    pub bodies: Bodies,
    /// How long what is finished is kept.
    pub retention: Duration,
}

/// Where a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorePlace {
    /// `sqlite`: this file, for one instance.
    File(PathBuf),
    /// `postgres`: a database server, for any number of instances.
    Server(Server),
}

/// A database server, and how an instance behaves on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Where it is, and with which password.
    pub url: DatabaseUrl,
    /// How long an instance is believed after its last heartbeat.
    pub lease: Duration,
    /// What people call this instance; none for the name of its host.
    pub instance: Option<String>,
    /// Whether a server is accepted that may forget what it has confirmed.
    pub unsafe_durability: bool,
}

/// What the ledger keeps of a message's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bodies {
    /// The text.
    Full,
    /// Its hash.
    Hash,
}

/// As messages name it.
impl fmt::Display for StorePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Server(server) => write!(f, "PostgreSQL on {}", server.url.host()),
        }
    }
}

impl Store {
    /// The database's file, if it is one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match &self.place {
            StorePlace::File(path) => Some(path),
            StorePlace::Server(_) => None,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sqlite,
    Postgres,
}

/// The kinds, and for each the keys that mean something only with it.
const KINDS: [(&str, Kind, &[&str]); 2] = [
    ("sqlite", Kind::Sqlite, &["path"]),
    (
        "postgres",
        Kind::Postgres,
        &["url_file", "allow_group_readable", "lease", "instance", "unsafe_durability"],
    ),
];

words!(Bodies, Bodies::Full, { "full" => Bodies::Full, "hash" => Bodies::Hash });

/// The variable that holds the URL of the database.
pub(crate) const URL: &str = "IMBABOT_DATABASE_URL";

/// Below this, a pause of the host costs an instance its place; above, a dead one blocks for minutes.
const LEASE: Shape = Shape::Duration(Duration::from_secs(2), Duration::from_secs(300));
const INSTANCE_MAX: usize = 64;

pub(crate) static KEYS: &[Key] = &[
    Key::new(
        "kind",
        Shape::Choice(&["sqlite", "postgres"]),
        "a file of this machine, for one instance; or a PostgreSQL server, for any number",
    )
    .or("sqlite"),
    Key::new("path", Shape::Path, "sqlite: the database's file").or("imbabot.db"),
    Key::new(
        "url_file",
        Shape::Path,
        "postgres: a file (chmod 600) with the server's URL; or the variable IMBABOT_DATABASE_URL",
    )
    .example("\"database_url\""),
    Key::new(
        "allow_group_readable",
        Shape::Flag,
        "postgres: accept a url_file that group or others can read, for container mounts",
    )
    .or("false")
    .off(),
    Key::new(
        "lease",
        LEASE,
        "postgres: how long an instance is believed after its last heartbeat; at most 5m",
    )
    .or("10s")
    .off(),
    Key::new(
        "instance",
        Shape::Text,
        "postgres: what people call this instance; default the host's name",
    )
    .example("\"blue\""),
    Key::new(
        "unsafe_durability",
        Shape::Flag,
        "postgres: accept fsync = off or synchronous_commit = off; messages can then be sent twice",
    )
    .or("false")
    .off(),
    Key::new(
        "bodies",
        Shape::Choice(&["full", "hash"]),
        "what the ledger keeps of a message's text: all of it, or its hash",
    )
    .or("full"),
    Key::new(
        "retention",
        Shape::Duration(Duration::from_secs(3600), LONG),
        "how long finished deliveries, occurrences and events are kept",
    )
    .or("30d"),
];

pub(crate) fn read(walk: &mut Walk<'_>, root: &Table) -> Store {
    let part = walk.section(root, "store");
    let kind = kind(walk, &part);
    let path = walk.path(&part, "path").map(|(path, _)| path).unwrap_or_default();
    let server = Server {
        url: DatabaseUrl::stand_in(),
        lease: walk.get(&part, "lease"),
        instance: instance(walk, &part),
        unsafe_durability: walk.get(&part, "unsafe_durability"),
    };
    let lenient = walk.get::<bool>(&part, "allow_group_readable") || secrets::lenient(root);
    // A kind that does not exist says nothing about the keys beside it.
    if let Some(kind) = kind {
        warn_of_others(walk, &part, kind);
    }
    let place = match kind {
        Some(Kind::Postgres) => {
            let url = secrets::database_url(walk, &part, lenient);
            StorePlace::Server(Server { url: url.unwrap_or_else(DatabaseUrl::stand_in), ..server })
        }
        _ => {
            walk.optional::<String>(&part, "url_file");
            StorePlace::File(path)
        }
    };
    Store { place, bodies: walk.get(&part, "bodies"), retention: walk.get(&part, "retention") }
}

fn kind(walk: &mut Walk<'_>, part: &Part<'_>) -> Option<Kind> {
    let Some(value) = part.get("kind") else { return Some(Kind::Sqlite) };
    let Some(text) = value.as_text() else {
        walk.optional::<String>(part, "kind");
        return None;
    };
    let found = KINDS.iter().find(|(word, ..)| *word == text);
    if found.is_none() {
        let called = part.called("kind", &value.place);
        let message = format!("{called}: there is no kind of store {}", quoted(text));
        let near = keys::nearest(text, KINDS.iter().map(|(word, ..)| *word));
        let fault = Fault::new(Code::StoreKind, &value.place, message);
        walk.error(match near {
            Some(near) => fault.hint(format!("did you mean {near:?}?")),
            None => fault,
        });
    }
    found.map(|(_, kind, _)| *kind)
}

fn instance(walk: &mut Walk<'_>, part: &Part<'_>) -> Option<String> {
    let (name, place) = walk.located::<String>(part, "instance")?;
    let usable = !name.trim().is_empty()
        && name.chars().count() <= INSTANCE_MAX
        && !name.chars().any(char::is_control);
    if !usable {
        let called = part.called("instance", &place);
        let message = format!("{called}: {} is no name for an instance", quoted(&name));
        let hint = "one to 64 characters on one line; leave it out for the host's name";
        walk.error(Fault::new(Code::BadValue, &place, message).hint(hint));
    }
    usable.then_some(name)
}

/// Names what was given for another kind of store than the one that is used.
fn warn_of_others(walk: &mut Walk<'_>, part: &Part<'_>, used: Kind) {
    let word = KINDS.iter().find(|(_, kind, _)| *kind == used).map_or("", |(word, ..)| *word);
    let others = KINDS.iter().filter(|(_, kind, _)| *kind != used).flat_map(|(.., keys)| *keys);
    let given: Vec<(&str, &Value)> =
        others.filter_map(|key| Some((*key, part.get(key)?))).collect();
    for (key, value) in given {
        let called = part.called(key, &value.place);
        let message = format!("{called} has no effect with kind = {word:?}");
        walk.warn(Fault::new(Code::Unused, &value.place, message));
    }
    if used == Kind::Sqlite && walk.environment.get(URL).is_some() {
        let message = format!("{URL} has no effect with kind = {word:?}");
        walk.warn(Fault::new(Code::Unused, &variable(URL), message));
    }
}
