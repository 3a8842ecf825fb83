//! `[store]`: where everything is remembered.

use std::path::PathBuf;
use std::time::Duration;

use super::code::Code;
use super::keys::{Key, LONG, Shape};
use super::read::words;
use super::value::Table;
use super::walk::{Fault, Walk};

/// `[store]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// What kind of store.
    pub kind: StoreKind,
    /// The database's file.
    pub path: PathBuf,
    /// Whether the ledger keeps what was said.
    pub bodies: Bodies,
    /// How long what is finished is kept.
    pub retention: Duration,
}

/// The kinds of stores that this version has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreKind {
    /// A file on this machine.
    Sqlite,
}

/// What the ledger keeps of a message's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bodies {
    /// The text.
    Full,
    /// Its hash.
    Hash,
}

words!(StoreKind, StoreKind::Sqlite, { "sqlite" => StoreKind::Sqlite });
words!(Bodies, Bodies::Full, { "full" => Bodies::Full, "hash" => Bodies::Hash });

pub(crate) static KEYS: &[Key] = &[
    Key::new("kind", Shape::Choice(&["sqlite"]), "the only kind of this version").or("sqlite"),
    Key::new("path", Shape::Path, "the database's file").or("imbabot.db"),
    Key::new("url_file", Shape::Path, "a file with the URL of a database server; sqlite has none")
        .example("\"database_url\""),
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
    let kind = part.get("kind");
    let wants_other = kind.and_then(|value| value.as_text()).is_some_and(|kind| kind == "postgres");
    let kind = match (kind, wants_other) {
        (Some(value), true) => {
            let called = part.called("kind", &value.place);
            let message = format!("{called}: only \"sqlite\" is available in this version");
            walk.error(Fault::new(Code::StoreKind, &value.place, message));
            StoreKind::Sqlite
        }
        _ => walk.get(&part, "kind"),
    };
    walk.optional::<String>(&part, "url_file");
    if let (Some(value), false) = (part.get("url_file"), wants_other) {
        let called = part.called("url_file", &value.place);
        let message = format!("{called} has no effect with kind = \"sqlite\"");
        walk.warn(Fault::new(Code::Unused, &value.place, message));
    }
    if walk.environment.get("IMBABOT_DATABASE_URL").is_some() && !wants_other {
        let place = super::value::variable("IMBABOT_DATABASE_URL");
        let message = "IMBABOT_DATABASE_URL has no effect with kind = \"sqlite\"";
        walk.warn(Fault::new(Code::Unused, &place, message));
    }
    Store {
        kind,
        path: walk.path(&part, "path").map(|(path, _)| path).unwrap_or_default(),
        bodies: walk.get(&part, "bodies"),
        retention: walk.get(&part, "retention"),
    }
}
