//! The configuration in force, each value with where it came from. Secrets are shown as stars.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde_json::{Value as Json, json};

use super::keys::{self, Key, Shape};
use super::load::Loaded;
use super::mask::{MASK, masked, masked_json};
use super::source::{Place, Source};
use super::value::{Data, Table, Value};
use super::walk::resolve;

/// Where every value of a configuration came from. Its `Debug` shows nothing of them.
pub struct Origins {
    pub(crate) root: Table,
    pub(crate) sources: Vec<Source>,
    pub(crate) base: PathBuf,
    pub(crate) secrets: BTreeMap<String, String>,
}

impl fmt::Debug for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Origins")
    }
}

impl Origins {
    /// Where a value is given, by its dotted key; `None` for a default.
    pub(crate) fn place(&self, dotted: &str) -> Option<Place> {
        let mut steps = dotted.splitn(3, '.');
        let (first, second) = (steps.next()?, steps.next());
        let value = self.root.get(first)?;
        let (Some(section), Some(second)) = (keys::section(first), second) else {
            return Some(value.place.clone());
        };
        let Some(named_by) = section.named_by else {
            return Some(value.as_table()?.get(second)?.place.clone());
        };
        let Data::List(list) = &value.data else { return None };
        let is_it = |entry: &&Value| {
            let name = entry.as_table().and_then(|table| table.get(named_by));
            name.and_then(Value::as_text).unwrap_or("main") == second
        };
        let entry = list.iter().find(is_it)?;
        Some(entry.as_table()?.get(steps.next()?)?.place.clone())
    }

    fn describe(&self, place: &Place) -> String {
        match place {
            Place::Default => "default".into(),
            Place::Variable(name) => name.to_string(),
            Place::Flag(_) => "flag".into(),
            Place::File { source, span } => match self.sources.get(*source) {
                Some(file) => format!("{}:{}", file.path.display(), file.line(span.start)),
                None => "file".into(),
            },
        }
    }
}

/// Every value by its dotted key, with its origin: `default`, `file:line`, the name of an
/// environment variable, or `flag`. Keys without value and default are left out.
#[must_use]
pub fn show(loaded: &Loaded) -> BTreeMap<String, (Json, String)> {
    let origins = &loaded.origins;
    let mut shown = BTreeMap::new();
    part(origins, &mut shown, "", keys::TOP, Some(&origins.root));
    for section in keys::SECTIONS {
        let value = origins.root.get(section.name);
        let Some(named_by) = section.named_by else {
            let table = value.and_then(Value::as_table);
            part(origins, &mut shown, section.name, section.keys, table);
            continue;
        };
        let Some(Data::List(list)) = value.map(|value| &value.data) else { continue };
        for table in list.iter().filter_map(Value::as_table) {
            let name = table.get(named_by).and_then(Value::as_text).unwrap_or("main");
            let path = format!("{}.{name}", section.name);
            part(origins, &mut shown, &path, section.keys, Some(table));
        }
    }
    for one in &loaded.config.schedules {
        // The default of this one follows from the period.
        let key = format!("schedule.{}.misfire", one.schedule.id());
        let rule = json!(one.schedule.misfire_rule());
        shown.entry(key).or_insert((rule, "default".into()));
    }
    if let [only] = loaded.config.widgets.as_slice() {
        let key = format!("widget.{}.name", only.name);
        shown.entry(key).or_insert((json!(only.name), "default".into()));
    }
    for (key, origin) in &origins.secrets {
        shown.insert(key.clone(), (MASK.into(), origin.clone()));
    }
    shown
}

fn part(
    origins: &Origins,
    shown: &mut BTreeMap<String, (Json, String)>,
    path: &str,
    keys: &'static [Key],
    table: Option<&Table>,
) {
    for key in keys {
        let dotted = if path.is_empty() { key.name.into() } else { format!("{path}.{}", key.name) };
        let given = table.and_then(|table| table.get(key.name));
        if let Shape::Table(inner) = key.shape {
            part(origins, shown, &dotted, inner, given.and_then(Value::as_table));
            continue;
        }
        let default;
        let value = match (given, key.default) {
            (Some(value), _) => value,
            (None, Some(text)) => {
                default = Value::from_text(&key.shape, text, &Place::Default);
                &default
            }
            (None, None) => continue,
        };
        shown.insert(dotted, (json_of(origins, key, value), origins.describe(&value.place)));
    }
}

fn json_of(origins: &Origins, key: &Key, value: &Value) -> Json {
    match (key.shape, value.as_text()) {
        (Shape::Path, Some(text)) => {
            let path = resolve(&origins.sources, &origins.base, text, &value.place);
            path.display().to_string().into()
        }
        (Shape::Url, Some(text)) => masked(text).into(),
        _ => masked_json(&value.to_json().unwrap_or(Json::Null)),
    }
}

/// `{"key":{"value","origin"}}`.
#[must_use]
pub fn show_json(loaded: &Loaded) -> Json {
    let entry = |(key, (value, origin))| (key, json!({ "value": value, "origin": origin }));
    Json::Object(show(loaded).into_iter().map(entry).collect())
}

/// A table for people: key, value, origin.
#[must_use]
pub fn show_text(loaded: &Loaded) -> String {
    let rows: Vec<[String; 3]> = show(loaded)
        .into_iter()
        .map(|(key, (value, origin))| [key, cut(&value.to_string()), origin])
        .collect();
    let width = |n: usize| rows.iter().map(|row| row[n].chars().count()).max().unwrap_or(0);
    let (first, second) = (width(0), width(1));
    let line =
        |[key, value, origin]: &[String; 3]| format!("{key:first$}  {value:second$}  {origin}\n");
    rows.iter().map(line).collect()
}

/// A long text would push every origin off the screen.
fn cut(text: &str) -> String {
    const WIDTH: usize = 60;
    match text.chars().count() > WIDTH {
        true => text.chars().take(WIDTH - 1).chain(['…']).collect(),
        false => text.to_owned(),
    }
}
