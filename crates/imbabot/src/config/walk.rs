//! The walk over the values: it reads every key of every section, and goes on after a mistake, so
//! that one pass finds them all. What a section means is the section's own business.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use imbabot_bot::schedule::{Cron, CronError, UnknownZone, Zone};
use imbabot_bot::{RoomSelector, Template, WidgetName};

use super::code::Code;
use super::environment::Environment;
use super::keys::{self, Key, Shape};
use super::kinds::Kinds;
use super::mask::{sounds_like_url, sounds_secret};
use super::problem::{Problem, Severity};
use super::read::{Misread, Readable};
use super::secrets::Wanted;
use super::source::{Place, Source};
use super::store::URL;
use super::text::For;
use super::value::{Data, Entry, Table, Value};

/// A problem before its place is looked up.
#[derive(Debug)]
pub(crate) struct Fault {
    code: Code,
    place: Place,
    message: String,
    hint: Option<String>,
    label: Option<String>,
    also: Option<(Place, String)>,
}

impl Fault {
    pub(crate) fn new(code: Code, place: &Place, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code, place: place.clone(), message, hint: None, label: None, also: None }
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    pub(crate) fn maybe_hint(self, hint: Option<String>) -> Self {
        Self { hint, ..self }
    }

    pub(crate) fn label(self, label: impl Into<String>) -> Self {
        Self { label: Some(label.into()), ..self }
    }

    pub(crate) fn also(self, place: &Place, label: impl Into<String>) -> Self {
        Self { also: Some((place.clone(), label.into())), ..self }
    }
}

/// The state of the walk.
pub(crate) struct Walk<'a> {
    pub(crate) sources: Vec<Source>,
    pub(crate) environment: &'a Environment,
    pub(crate) kinds: &'a Kinds<'a>,
    /// The folder at which a relative path starts that no file names.
    pub(crate) base: PathBuf,
    /// Lines were left out for their syntax: what seems to be missing may stand there.
    pub(crate) partial: bool,
    /// Names of widgets, and where they are given.
    pub(crate) widgets: HashMap<String, Place>,
    /// Which secrets are needed and read.
    pub(crate) wanted: Wanted,
    /// Where secrets were found, by dotted key.
    pub(crate) secrets: BTreeMap<String, String>,
    /// What was read once need not be read again: ten thousand schedules repeat themselves.
    pub(crate) crons: HashMap<String, Result<Cron, CronError>>,
    pub(crate) zones: HashMap<String, Result<Zone, UnknownZone>>,
    pub(crate) selectors: HashMap<String, Result<RoomSelector, String>>,
    pub(crate) templates: HashMap<(For, String), Template>,
    pub(crate) jitters: HashMap<(String, std::time::Duration), Result<(), String>>,
    errors: Vec<(Place, Problem)>,
    warnings: Vec<(Place, Problem)>,
}

/// One section, or one entry of a list, as it was given.
#[derive(Debug)]
pub(crate) struct Part<'t> {
    /// As it is named in messages: `poll`, `schedule.standup`.
    pub(crate) path: String,
    pub(crate) keys: &'static [Key],
    pub(crate) table: Option<&'t Table>,
    pub(crate) place: Place,
}

impl<'t> Part<'t> {
    pub(crate) fn get(&self, key: &str) -> Option<&'t Value> {
        self.table?.get(key)
    }

    /// The key as it is named in messages, with where the value came from if not from a file.
    pub(crate) fn called(&self, key: &str, place: &Place) -> String {
        let name = match self.path.is_empty() {
            true => format!("`{key}`"),
            false => format!("`{}.{key}`", self.path),
        };
        match place {
            Place::Variable(variable) => format!("{name} (from {variable})"),
            Place::Flag(_) => format!("{name} (from a flag)"),
            Place::Default | Place::File { .. } => name,
        }
    }

    fn key(&self, name: &str) -> Option<&'static Key> {
        let key = keys::key(self.keys, name);
        debug_assert!(key.is_some(), "{} has no key {name}", self.path);
        key
    }
}

impl<'a> Walk<'a> {
    pub(crate) fn new(environment: &'a Environment, kinds: &'a Kinds<'a>) -> Self {
        Self {
            sources: Vec::new(),
            environment,
            kinds,
            base: PathBuf::new(),
            partial: false,
            widgets: HashMap::new(),
            wanted: Wanted::All,
            secrets: BTreeMap::new(),
            crons: HashMap::new(),
            zones: HashMap::new(),
            selectors: HashMap::new(),
            templates: HashMap::new(),
            jitters: HashMap::new(),
            errors: Vec::new(),
            warnings: Vec::new(),
        }
    }

    pub(crate) fn error(&mut self, fault: Fault) {
        let entry = self.locate(fault, Severity::Error);
        self.errors.push(entry);
    }

    /// How many errors were found so far.
    pub(crate) fn found(&self) -> usize {
        self.errors.len()
    }

    pub(crate) fn warn(&mut self, fault: Fault) {
        let entry = self.locate(fault, Severity::Warning);
        self.warnings.push(entry);
    }

    /// A problem that has a file, or nothing, but no line.
    pub(crate) fn error_in_file(&mut self, code: Code, file: Option<&Path>, fault: Misread) {
        let problem = Problem {
            code,
            message: fault.message,
            file: file.map(|path| path.display().to_string()),
            line: None,
            column: None,
            hint: fault.hint.or_else(|| Some(code.advice().to_owned())),
            label: None,
            severity: Severity::Error,
            excerpt: None,
            also: None,
        };
        self.errors.push((Place::File { source: 0, span: 0..0 }, problem));
    }

    pub(crate) fn locate(&self, fault: Fault, severity: Severity) -> (Place, Problem) {
        let excerpt = self.excerpt(&fault.place);
        let problem = Problem {
            code: fault.code,
            message: fault.message,
            file: excerpt.as_ref().map(|excerpt| excerpt.file.clone()),
            line: excerpt.as_ref().map(|excerpt| excerpt.line),
            column: excerpt.as_ref().map(|excerpt| excerpt.column),
            hint: fault.hint.or_else(|| Some(fault.code.advice().to_owned())),
            label: fault.label,
            severity,
            also: fault.also.and_then(|(place, label)| Some((self.excerpt(&place)?, label))),
            excerpt,
        };
        (fault.place, problem)
    }

    fn excerpt(&self, place: &Place) -> Option<super::source::Excerpt> {
        match place {
            Place::File { source, span } => Some(self.sources.get(*source)?.excerpt(span)),
            _ => None,
        }
    }

    /// What was found: errors, then warnings, each in the order of the files.
    pub(crate) fn into_problems(self) -> (Vec<Problem>, Vec<Problem>, Vec<Source>) {
        (in_order(self.errors), in_order(self.warnings), self.sources)
    }

    // Sections and entries.

    /// A section that is a table.
    pub(crate) fn section<'t>(&mut self, root: &'t Table, name: &'static str) -> Part<'t> {
        let keys = keys::section(name).map_or(&[][..], |section| section.keys);
        let value = root.get(name);
        let table = value.and_then(Value::as_table);
        if let (Some(value), None) = (value, table) {
            let message = format!("expected a section [{name}], found {}", value.describe());
            let hint = format!("write [{name}] once, with single brackets");
            self.error(Fault::new(Code::WrongType, &value.place, message).hint(hint));
        }
        let place = table.map_or(Place::Default, |table| table.place.clone());
        let part = Part { path: name.to_owned(), keys, table, place };
        self.check_keys(&part);
        part
    }

    /// The entries of a list of sections, each under its name.
    pub(crate) fn entries<'t>(&mut self, root: &'t Table, name: &'static str) -> Vec<Part<'t>> {
        let Some(section) = keys::section(name) else { return Vec::new() };
        let Some(value) = root.get(name) else { return Vec::new() };
        let Data::List(list) = &value.data else {
            let message = format!("expected [[{name}]] entries, found {}", value.describe());
            let hint = format!("write [[{name}]] with double brackets: there can be several");
            self.error(Fault::new(Code::WrongType, &value.place, message).hint(hint));
            return Vec::new();
        };
        let mut parts = Vec::with_capacity(list.len());
        for (n, value) in list.iter().enumerate() {
            let Some(table) = value.as_table() else {
                let message = format!("expected a [[{name}]] entry, found {}", value.describe());
                self.error(Fault::new(Code::WrongType, &value.place, message));
                continue;
            };
            let called = section
                .named_by
                .and_then(|key| table.get(key))
                .and_then(Value::as_text)
                .filter(|text| text.parse::<WidgetName>().is_ok());
            let path = match called {
                Some(called) => format!("{name}.{called}"),
                None if list.len() == 1 && name == "widget" => "widget.main".to_owned(),
                None => format!("{name}[{}]", n + 1),
            };
            let place = table.place.clone();
            let part = Part { path, keys: section.keys, table: Some(table), place };
            self.check_keys(&part);
            parts.push(part);
        }
        parts
    }

    /// A table inside of a section.
    pub(crate) fn inner<'t>(&mut self, part: &Part<'t>, name: &str) -> Part<'t> {
        let key = part.key(name);
        let keys = match key.map(|key| key.shape) {
            Some(Shape::Table(keys) | Shape::Rooms(keys)) => keys,
            _ => &[],
        };
        let value = part.get(name);
        let table = value.and_then(Value::as_table);
        if let (Some(value), None, Some(key)) = (value, table, key) {
            self.misread(part, name, value, Misread::wrong_type(&key.shape, value));
        }
        let place = table.map_or_else(|| part.place.clone(), |table| table.place.clone());
        let inner = Part { path: format!("{}.{name}", part.path), keys, table, place };
        self.check_keys(&inner);
        inner
    }

    /// Names every key that does not exist.
    pub(crate) fn check_keys(&mut self, part: &Part<'_>) {
        for entry in part.table.iter().flat_map(|table| &table.entries) {
            if keys::key(part.keys, &entry.key).is_none() {
                let names: Vec<&str> = part.keys.iter().map(|key| key.name).collect();
                self.unknown_key(part, entry, &names);
            }
        }
    }

    /// Names every key at the top that does not exist.
    pub(crate) fn check_root(&mut self, root: &Table) {
        let sections = keys::SECTIONS.iter().map(|section| section.name);
        let names: Vec<&str> = keys::TOP.iter().map(|key| key.name).chain(sections).collect();
        let place = Place::Default;
        let top = Part { path: String::new(), keys: keys::TOP, table: Some(root), place };
        for entry in root.entries.iter().filter(|entry| !names.contains(&entry.key.as_str())) {
            self.unknown_key(&top, entry, &names);
        }
        self.optional::<bool>(&top, "allow_group_readable");
    }

    fn unknown_key(&mut self, part: &Part<'_>, entry: &Entry, names: &[&str]) {
        let called = part.called(&entry.key, &entry.key_place);
        if let Some(hint) = secret_hint(part, &entry.key) {
            let message = format!("{called}: a secret is never written into this file");
            let fault = Fault::new(Code::SecretInline, &entry.key_place, message).hint(hint);
            return self.error(fault.label("remove this, and change the secret if others saw it"));
        }
        let hint = match keys::nearest(&entry.key, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => match elsewhere(&entry.key) {
                Some(place) => format!("`{}` belongs into {place}", entry.key),
                None => format!("known are {}", names.join(", ")),
            },
        };
        let message = format!("unknown key {called}");
        self.error(Fault::new(Code::UnknownKey, &entry.key_place, message).hint(hint));
    }

    // Values.

    /// The value of a key, or its default, or a placeholder where both fail.
    pub(crate) fn get<T: Readable>(&mut self, part: &Part<'_>, name: &str) -> T {
        self.optional(part, name).unwrap_or_else(T::placeholder)
    }

    /// The value of a key, or its default if it has one.
    pub(crate) fn optional<T: Readable>(&mut self, part: &Part<'_>, name: &str) -> Option<T> {
        let key = part.key(name)?;
        match part.get(name) {
            Some(value) => match T::read(&key.shape, value) {
                Ok(found) => return Some(found),
                Err(misread) => self.misread(part, name, value, misread),
            },
            None if key.required => self.missing(part, name, None),
            None => {}
        }
        let default = Value::from_text(&key.shape, key.default?, &Place::Default);
        T::read(&key.shape, &default).ok()
    }

    /// Like [`Walk::optional`], with where the value came from.
    pub(crate) fn located<T: Readable>(
        &mut self,
        part: &Part<'_>,
        name: &str,
    ) -> Option<(T, Place)> {
        let place = part.get(name).map_or(Place::Default, |value| value.place.clone());
        Some((self.optional(part, name)?, place))
    }

    /// A list, each element read; elements that cannot be read are named and left out.
    pub(crate) fn list<T: Readable>(
        &mut self,
        part: &Part<'_>,
        name: &str,
    ) -> Option<Vec<(T, Place)>> {
        let key = part.key(name)?;
        let Shape::List(of) = &key.shape else { return None };
        let default;
        let value = match part.get(name) {
            Some(value) => value,
            None => {
                default = Value::from_text(&key.shape, key.default?, &Place::Default);
                &default
            }
        };
        let Data::List(list) = &value.data else {
            self.misread(part, name, value, Misread::wrong_type(&key.shape, value));
            return None;
        };
        let mut read = Vec::with_capacity(list.len());
        for value in list {
            match T::read(of, value) {
                Ok(found) => read.push((found, value.place.clone())),
                Err(misread) => self.misread(part, name, value, misread),
            }
        }
        Some(read)
    }

    /// A path, made absolute by the folder of the file that names it.
    pub(crate) fn path(&mut self, part: &Part<'_>, name: &str) -> Option<(PathBuf, Place)> {
        let (text, place) = self.located::<String>(part, name)?;
        if text.trim().is_empty() || text.contains('\0') {
            let called = part.called(name, &place);
            self.error(Fault::new(Code::BadValue, &place, format!("{called}: the path is empty")));
            return None;
        }
        Some((self.resolve(&text, &place), place))
    }

    pub(crate) fn resolve(&self, text: &str, place: &Place) -> PathBuf {
        resolve(&self.sources, &self.base, text, place)
    }

    /// A name; an error names what a name may look like.
    pub(crate) fn name<T: std::str::FromStr<Err = imbabot_bot::name::InvalidName>>(
        &mut self,
        part: &Part<'_>,
        key: &str,
    ) -> Option<(T, Place)> {
        let (text, place) = self.located::<String>(part, key)?;
        match text.parse() {
            Ok(name) => Some((name, place)),
            Err(why) => {
                let why = why.to_string();
                let (message, hint) = why.split_once(": ").unwrap_or((&why, ""));
                let called = part.called(key, &place);
                let fault = Fault::new(Code::BadName, &place, format!("{called}: {message}"));
                self.error(fault.hint(hint));
                None
            }
        }
    }

    /// The `widgets = [...]` of a schedule or a bot; empty means all.
    pub(crate) fn widget_names(&mut self, part: &Part<'_>) -> Vec<WidgetName> {
        let Some(given) = self.list::<String>(part, "widgets") else { return Vec::new() };
        if let (true, Some(value)) = (given.is_empty(), part.get("widgets")) {
            let called = part.called("widgets", &value.place);
            let message = format!("{called} is empty, so it would never reach anybody");
            let hint = "leave it out for all widgets";
            self.error(Fault::new(Code::BadValue, &value.place, message).hint(hint));
        }
        let mut names = Vec::with_capacity(given.len());
        for (text, place) in given {
            if !self.widgets.contains_key(&text) {
                let called = part.called("widgets", &place);
                let message =
                    format!("{called}: no [[widget]] has the name {}", super::value::quoted(&text));
                let mut known: Vec<&str> = self.widgets.keys().map(String::as_str).collect();
                known.sort_unstable();
                let hint = match keys::nearest(&text, known.iter().copied()) {
                    Some(near) => format!("did you mean {near:?}?"),
                    None => format!("known are {}", few(&known)),
                };
                self.error(Fault::new(Code::UnknownWidget, &place, message).hint(hint));
            } else if let Ok(name) = text.parse() {
                names.push(name);
            }
        }
        names
    }

    pub(crate) fn misread(&mut self, part: &Part<'_>, name: &str, value: &Value, misread: Misread) {
        let called = part.called(name, &value.place);
        let message = format!("{called}: {}", misread.message);
        let fault = Fault::new(misread.code, &value.place, message);
        self.error(fault.maybe_hint(misread.hint));
    }

    pub(crate) fn missing(&mut self, part: &Part<'_>, name: &str, hint: Option<&str>) {
        if self.partial {
            return;
        }
        let message = format!("{} is missing", part.called(name, &Place::Default));
        let fault = Fault::new(Code::Missing, &part.place, message);
        self.error(fault.maybe_hint(hint.map(str::to_owned)));
    }
}

/// Relative to the folder of the file that names it; as it is where no file does.
pub(crate) fn resolve(sources: &[Source], base: &Path, text: &str, place: &Place) -> PathBuf {
    match place {
        Place::File { source, .. } => match sources.get(*source) {
            Some(source) => source.folder().join(text),
            None => PathBuf::from(text),
        },
        Place::Default => base.join(text),
        Place::Variable(_) | Place::Flag(_) => PathBuf::from(text),
    }
}

/// The first few of many names.
pub(crate) fn few(names: &[&str]) -> String {
    match names.len() {
        0 => "none".into(),
        1..=12 => names.join(", "),
        more => format!("{}, and {} more", names[..10].join(", "), more - 10),
    }
}

fn in_order(mut found: Vec<(Place, Problem)>) -> Vec<Problem> {
    found.sort_by_key(|(place, _)| match place {
        Place::File { source, span } => (*source, span.start),
        _ => (usize::MAX, 0),
    });
    found.dedup_by(|a, b| a.1 == b.1);
    found.into_iter().map(|(_, problem)| problem).collect()
}

/// Where a secret of this kind belongs, if the key is one.
fn secret_hint(part: &Part<'_>, key: &str) -> Option<String> {
    let section = part.path.split(['.', '[']).next().unwrap_or_default();
    let is_url = section == "store" && sounds_like_url(key);
    let is_path = key.to_lowercase().contains("file");
    if !is_url && (!sounds_secret(key) || is_path) {
        return None;
    }
    Some(match section {
        "store" => format!(
            "put it into a file of its own, `chmod 600` it and name it in url_file, or set {URL}"
        ),
        "http" => "name a file that holds it in token_file".into(),
        _ => {
            "put it into a file of its own, `chmod 600` it and name it in secret_key_file, or set \
              IMBABOT_SECRET_KEY"
                .into()
        }
    })
}

/// The section in which a key of this name exists.
fn elsewhere(key: &str) -> Option<String> {
    if keys::TOP.iter().any(|known| known.name == key) {
        return Some("the top of the file, above every section".into());
    }
    let section = keys::SECTIONS.iter().find(|s| keys::key(s.keys, key).is_some())?;
    Some(match section.named_by {
        Some(_) => format!("[[{}]]", section.name),
        None => format!("[{}]", section.name),
    })
}
