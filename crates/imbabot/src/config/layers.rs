//! Environment and flags laid over the file. An override has the place of its variable or flag;
//! one that names no key is an error, never ignored.

use super::code::Code;
use super::keys::{self, Key, Shape};
use super::mask::{sounds_like_url, sounds_secret};
use super::source::Place;
use super::value::{Data, Table, Value, variable};
use super::walk::{Fault, Walk, few};

/// What every variable that sets a key starts with.
pub(crate) const PREFIX: &str = "IMBABOT__";

/// One value from outside of the file.
#[derive(Debug)]
pub(crate) struct Override {
    /// As the user wrote it.
    name: String,
    /// The steps to the key, in lower case for variables.
    steps: Vec<String>,
    text: String,
    place: Place,
}

/// The overrides in the order in which they are laid: environment, then flags.
pub(crate) fn collect(walk: &Walk<'_>, flags: &[(String, String)]) -> Vec<Override> {
    let variables = walk.environment.starting_with(PREFIX).map(|(name, text)| Override {
        name: name.to_owned(),
        steps: name[PREFIX.len()..].split("__").map(str::to_lowercase).collect(),
        text: text.to_owned(),
        place: variable(name),
    });
    let flags = flags.iter().map(|(key, text)| Override {
        name: key.clone(),
        steps: key.split('.').map(str::to_owned).collect(),
        text: text.clone(),
        place: Place::Flag(key.as_str().into()),
    });
    variables.chain(flags).collect()
}

/// The value of a key at the top, if an override sets it: for what decides about further files.
pub(crate) fn top<'o>(overrides: &'o [Override], key: &str) -> Option<(&'o str, &'o Place)> {
    let ours = |o: &&Override| o.steps.len() == 1 && o.steps[0] == key;
    overrides.iter().rev().find(ours).map(|o| (o.text.as_str(), &o.place))
}

/// Lays them over the tree.
pub(crate) fn lay(walk: &mut Walk<'_>, root: &mut Table, overrides: &[Override]) {
    for one in overrides {
        if let Err(unknown) = lay_one(root, one) {
            report(walk, one, unknown);
        }
    }
}

/// Why an override sets nothing, with the names that would.
enum Unknown {
    /// The step that is no key.
    Key(String, Vec<&'static str>),
    /// Where it ends there is a section, or an entry of one.
    Section(&'static str, &'static [Key]),
    /// The file has something else where a table should be; its reader says so.
    NoTable,
    Entry(&'static str, Vec<String>),
    Secret(&'static str),
}

fn lay_one(root: &mut Table, one: &Override) -> Result<(), Unknown> {
    let all: Vec<&str> = one.steps.iter().map(String::as_str).collect();
    let (first, steps) = all.split_first().map_or(("", &[][..]), |(first, rest)| (*first, rest));
    let Some(section) = keys::section(first) else {
        return set(root, keys::TOP, &all, one).map_err(at_top);
    };
    if steps.is_empty() || (section.named_by.is_some() && steps.len() == 1) {
        return Err(Unknown::Section(section.name, section.keys));
    }
    let Some(named_by) = section.named_by else {
        let table = table_in(root, section.name, &one.place)?;
        return set(table, section.keys, steps, one);
    };
    let (table, used) = entry(root, section.name, named_by, steps, one)?;
    set(table, section.keys, &steps[used..], one)
}

/// At the top, sections can be meant as well.
fn at_top(unknown: Unknown) -> Unknown {
    match unknown {
        Unknown::Key(step, mut names) => {
            names.extend(keys::SECTIONS.iter().map(|section| section.name));
            Unknown::Key(step, names)
        }
        other => other,
    }
}

/// The entry that the steps start with, and how many of them are its name: a name may itself hold
/// two underscores.
fn entry<'t>(
    root: &'t mut Table,
    section: &'static str,
    named_by: &str,
    steps: &[&str],
    one: &Override,
) -> Result<(&'t mut Table, usize), Unknown> {
    let is_widget = section == "widget";
    let wanted = |n: usize| fold(&steps[..n].join("__"));
    if is_widget && root.get(section).is_none() && steps.first() == Some(&"main") {
        let table =
            Value { data: Data::Table(Table::new(one.place.clone())), place: one.place.clone() };
        root.set(section, Value { data: Data::List(vec![table]), place: one.place.clone() });
    }
    let list = match root.get_mut(section).map(|value| &mut value.data) {
        Some(Data::List(list)) => list,
        _ => return Err(Unknown::Entry(section, Vec::new())),
    };
    let alone = list.len() == 1;
    let name_of = |value: &Value| -> Option<String> {
        let table = value.as_table()?;
        match table.get(named_by) {
            Some(name) => name.as_text().map(str::to_owned),
            None if is_widget && alone => Some("main".to_owned()),
            None => None,
        }
    };
    let names: Vec<Option<String>> = list.iter().map(name_of).collect();
    let found = (1..steps.len()).rev().find_map(|n| {
        let wanted = wanted(n);
        names
            .iter()
            .position(|name| name.as_deref().map(fold) == Some(wanted.clone()))
            .map(|at| (at, n))
    });
    match found {
        Some((at, used)) => match list.get_mut(at).map(|value| &mut value.data) {
            Some(Data::Table(table)) => Ok((table, used)),
            _ => Err(Unknown::Entry(section, Vec::new())),
        },
        None => Err(Unknown::Entry(section, names.into_iter().flatten().collect())),
    }
}

/// A name as a variable can write it.
pub(crate) fn fold(name: &str) -> String {
    name.to_lowercase().replace('-', "_")
}

/// The table under a key, made if there is none.
fn table_in<'t>(root: &'t mut Table, name: &str, place: &Place) -> Result<&'t mut Table, Unknown> {
    if root.get(name).is_none() {
        let table = Data::Table(Table::new(place.clone()));
        root.set(name, Value { data: table, place: place.clone() });
    }
    match root.get_mut(name).map(|value| &mut value.data) {
        Some(Data::Table(table)) => Ok(table),
        _ => Err(Unknown::NoTable),
    }
}

fn set(
    table: &mut Table,
    keys: &'static [Key],
    steps: &[&str],
    one: &Override,
) -> Result<(), Unknown> {
    let Some((first, rest)) = steps.split_first() else {
        return Err(Unknown::Key(String::new(), Vec::new()));
    };
    let Some(key) = keys::key(keys, first) else {
        if keys::key(keys, "url_file").is_some() && sounds_like_url(first) {
            return Err(Unknown::Secret(
                "name a file that holds it in url_file, or set IMBABOT_DATABASE_URL",
            ));
        }
        if sounds_secret(first) {
            return Err(Unknown::Secret(match keys::key(keys, "token_file") {
                Some(_) => "name a file that holds it in token_file",
                None => {
                    "set IMBABOT_SECRET_KEY, or IMBABOT_SECRET_KEY_<NAME> for one widget of several"
                }
            }));
        }
        let names = keys.iter().map(|key| key.name).collect();
        return Err(Unknown::Key((*first).to_owned(), names));
    };
    if rest.is_empty() {
        table.set(key.name, Value::from_text(&key.shape, &one.text, &one.place));
        return Ok(());
    }
    match key.shape {
        Shape::Table(inner) | Shape::Rooms(inner) => {
            set(table_in(table, key.name, &one.place)?, inner, rest, one)
        }
        Shape::Free => set_free(table_in(table, key.name, &one.place)?, rest, one),
        _ => Err(Unknown::Key(rest.join("__"), Vec::new())),
    }
}

/// Settings have keys that only the bot knows: the type follows the value that is there, or how
/// the text looks.
fn set_free(table: &mut Table, steps: &[&str], one: &Override) -> Result<(), Unknown> {
    let Some((first, rest)) = steps.split_first() else { return Ok(()) };
    let known = table.entries.iter().map(|entry| &entry.key).find(|key| fold(key) == fold(first));
    let key = known.cloned().unwrap_or_else(|| (*first).to_owned());
    if !rest.is_empty() {
        // What stands in settings only their bot can judge.
        if table.get(&key).is_some_and(|value| value.as_table().is_none()) {
            return Err(Unknown::Key(rest.join("__"), Vec::new()));
        }
        return set_free(table_in(table, &key, &one.place)?, rest, one);
    }
    let is_text = table.get(&key).is_some_and(|value| value.as_text().is_some());
    let parsed = if is_text { None } else { Value::parse(&one.text, &one.place) };
    table.set(&key, parsed.unwrap_or_else(|| Value::text(&*one.text, one.place.clone())));
    Ok(())
}

fn report(walk: &mut Walk<'_>, one: &Override, unknown: Unknown) {
    let (code, what) = match one.place {
        Place::Flag(_) => (Code::UnknownFlag, format!("the flag for `{}`", one.name)),
        _ => (Code::UnknownVariable, format!("the environment variable {}", one.name)),
    };
    let fault = match unknown {
        Unknown::Key(step, names) => {
            let hint = match keys::nearest(&step, names.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None if names.is_empty() => "the key before it has no keys of its own".into(),
                None => format!("known there are {}", few(&names)),
            };
            Fault::new(code, &one.place, format!("{what} sets no key that exists: `{step}`"))
                .hint(hint)
        }
        Unknown::NoTable => return,
        Unknown::Section(section, keys) => {
            let names: Vec<&str> = keys.iter().map(|key| key.name).collect();
            let message = format!("{what} ends before the name of a key of `{section}`");
            Fault::new(code, &one.place, message).hint(format!("known there are {}", few(&names)))
        }
        Unknown::Entry(section, names) => {
            let known: Vec<&str> = names.iter().map(String::as_str).collect();
            let named = one.steps.get(1).map(String::as_str).unwrap_or_default();
            let message = format!("{what} names no [[{section}]] that exists: `{named}`");
            let hint = match keys::nearest(named, known.iter().copied()) {
                Some(near) => format!("did you mean {near:?}?"),
                None if known.is_empty() => {
                    format!(
                        "the file has no [[{section}]] with a name; entries are made there only"
                    )
                }
                None => format!("there are: {}", few(&known)),
            };
            Fault::new(code, &one.place, message).hint(hint)
        }
        Unknown::Secret(hint) => {
            let message = format!("{what} would give a secret, which is not read from there");
            Fault::new(Code::SecretInline, &one.place, message).hint(hint)
        }
    };
    walk.error(fault);
}

impl Value {
    /// A value written as bare text: what it is follows from what the key takes. A text that does
    /// not fit stays a text, so that reading it says what was expected.
    pub(crate) fn from_text(shape: &Shape, text: &str, place: &Place) -> Self {
        let data = match shape {
            Shape::Count(..) => text.trim().parse().ok().map(Data::Integer),
            Shape::Flag => text.trim().parse().ok().map(Data::Flag),
            Shape::User | Shape::RoomKind => {
                let number = text.parse::<i128>().ok().filter(|n| n.to_string() == text);
                number.map(Data::Integer)
            }
            Shape::List(_) if text.trim_start().starts_with('[') => {
                return Self::parse(text, place).unwrap_or_else(|| Self::text(text, place.clone()));
            }
            Shape::List(of) => {
                let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                Some(Data::List(parts.map(|part| Self::from_text(of, part, place)).collect()))
            }
            Shape::Table(_) | Shape::Rooms(_) | Shape::Free => {
                return Self::parse(text, place).unwrap_or_else(|| Self::text(text, place.clone()));
            }
            _ => None,
        };
        match data {
            Some(data) => Self { data, place: place.clone() },
            None => Self::text(text, place.clone()),
        }
    }
}
