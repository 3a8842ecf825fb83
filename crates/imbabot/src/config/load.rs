//! Loading: which file, its layers, its check. `check` and `run` both come through here, so that
//! their verdict is the same.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use imbabot_bot::Schedule;
use imbabot_bot::schedule::{ClockChange, Gap, OddDay, Repeat, Rule};
use imbabot_core::Timestamp;

use super::code::Code;
use super::environment::Environment;
use super::kinds::Kinds;
use super::problem::{Problem, Problems, Severity};
use super::read::Misread;
use super::secrets::Wanted;
use super::show::Origins;
use super::source::{Place, Source};
use super::value::{Data, Table, Value};
use super::walk::{Fault, Part, Walk};
use super::{
    Config, bot, delivery, document, files, http, keys, layers, limits, log, poll, schedule, store,
    widget,
};

/// Where a configuration is looked for when nobody says.
pub const DEFAULT_PATHS: [&str; 2] = ["config/imbabot.toml", "/etc/imbabot/imbabot.toml"];

/// What a load depends on, besides the files it names.
#[derive(Debug)]
pub struct LoadOptions<'a> {
    /// The file that was asked for; `None` for the usual places.
    pub config_path: Option<PathBuf>,
    /// What flags set: dotted key (`log.level`, `widget.main.base_url`) and value.
    pub flags: Vec<(String, String)>,
    /// The environment.
    pub environment: Environment,
    /// The kinds of bots that are built in.
    pub kinds: &'a Kinds<'a>,
}

/// A configuration that may be used.
#[derive(Debug)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// What is odd about it.
    pub warnings: Vec<Problem>,
    /// The file it was read from.
    pub file: PathBuf,
    /// All files whose text became part of it: this one, `widgets_file`, templates.
    pub files: Vec<PathBuf>,
    /// Where every value came from.
    pub origins: Origins,
}

/// Reads and checks a configuration.
///
/// # Errors
/// Everything that is wrong with it, at once.
pub fn load(options: &LoadOptions<'_>) -> Result<Loaded, Problems> {
    load_by(options, Wanted::All)
}

/// The same for who asks the store and no other server: of the secrets only the URL of its database
/// is looked at, so that it works where the others are not.
///
/// # Errors
/// Everything else that is wrong with it, at once.
pub fn load_for_store(options: &LoadOptions<'_>) -> Result<Loaded, Problems> {
    load_by(options, Wanted::OfStore)
}

/// The same, but for secrets: no file or variable that holds one is looked at, so that a
/// configuration can be rehearsed where they are not. What it says reaches no server.
///
/// # Errors
/// Everything else that is wrong with it, at once.
pub fn load_without_secrets(options: &LoadOptions<'_>) -> Result<Loaded, Problems> {
    load_by(options, Wanted::None)
}

fn load_by(options: &LoadOptions<'_>, wanted: Wanted) -> Result<Loaded, Problems> {
    let mut walk = Walk::new(&options.environment, options.kinds);
    walk.wanted = wanted;
    let Some(path) = find(&mut walk, options.config_path.as_deref()) else {
        return Err(fail(walk));
    };
    let text = match files::read(&path) {
        Ok(text) => text,
        Err((code, why)) => {
            let message = format!("the configuration {} {why}", path.display());
            walk.error_in_file(code, Some(&path), Misread::bad(message));
            return Err(fail(walk));
        }
    };
    walk.base = path.parent().map(Path::to_owned).unwrap_or_default();
    let Some(mut root) = parse(&mut walk, path.clone(), text) else { return Err(fail(walk)) };

    let overrides = layers::collect(&walk, &options.flags);
    widgets_file(&mut walk, &mut root, &overrides);
    layers::lay(&mut walk, &mut root, &overrides);
    let config = read(&mut walk, &root);

    let secrets = std::mem::take(&mut walk.secrets);
    let base = walk.base.clone();
    let (errors, warnings, sources) = walk.into_problems();
    if !errors.is_empty() {
        return Err(Problems { errors, warnings });
    }
    let files = sources.iter().map(|source| source.path.clone()).collect();
    let origins = Origins { root, sources, base, secrets };
    Ok(Loaded { config, warnings, file: path, files, origins })
}

impl Loaded {
    /// Schedules whose only instant is past: a note each, never an error, for who knows the time.
    #[must_use]
    pub fn past(&self, now: Timestamp) -> Vec<Problem> {
        let schedules = self.config.schedules.iter().map(|one| &one.schedule);
        let gone = schedules.filter(|schedule| {
            matches!(schedule.rule(), Rule::At(_)) && schedule.next_after(now).is_none()
        });
        gone.map(|schedule| {
            let id = schedule.id();
            let message = format!("`schedule.{id}.at` is past: it will not fire again");
            self.note(Code::Past, &format!("schedule.{id}.at"), message)
        })
        .collect()
    }

    /// The days of the next year on which a clock change bears on a schedule: a note each.
    #[must_use]
    pub fn odd_days(&self, now: Timestamp) -> Vec<Problem> {
        let mut changes: BTreeMap<String, Vec<ClockChange>> = BTreeMap::new();
        let mut found = Vec::new();
        for one in &self.config.schedules {
            let (id, zone) = (one.schedule.id(), one.schedule.zone());
            let key = match one.schedule.rule() {
                Rule::Cron(_) => "cron",
                Rule::At(_) => "at",
                _ => continue,
            };
            let changes = changes
                .entry(zone.name().to_owned())
                .or_insert_with(|| zone.clock_changes(now, now + YEAR));
            for day in one.schedule.odd_days(changes) {
                let key = format!("schedule.{id}.{key}");
                let message = odd_day(&key, &one.schedule, &day);
                found.push(self.note(Code::OddDay, &key, message));
            }
        }
        found
    }

    fn note(&self, code: Code, key: &str, message: String) -> Problem {
        let environment = Environment::empty();
        let kinds = Kinds::new();
        let mut walk = Walk::new(&environment, &kinds);
        // Only the place is looked up in it.
        walk.sources = self.origins.sources.iter().map(Source::again).collect();
        let place = self.origins.place(key).unwrap_or(Place::Default);
        walk.locate(Fault::new(code, &place, message), Severity::Warning).1
    }
}

const YEAR: Duration = Duration::from_secs(366 * 86_400);

fn odd_day(key: &str, schedule: &Schedule, day: &OddDay) -> String {
    let (local, zone) = (&day.local, schedule.zone());
    if !day.twice {
        let then = match schedule.dst_rule().gap {
            Gap::Skip => "it is left out (`dst.gap` is \"skip\")".to_owned(),
            _ => format!("it comes at {} (`dst.gap` is \"shift\")", zone.show(day.change)),
        };
        return format!("`{key}`: {local} does not exist in {zone}; {then}");
    }
    let then = match schedule.dst_rule().repeat {
        Repeat::Second => "it comes on the second pass (`dst.repeat` is \"second\")",
        Repeat::Both => "it comes on both passes (`dst.repeat` is \"both\")",
        _ => "it comes on the first pass (`dst.repeat` is \"first\")",
    };
    format!("`{key}`: {local} comes twice in {zone}; {then}")
}

fn fail(walk: Walk<'_>) -> Problems {
    let (errors, warnings, _) = walk.into_problems();
    Problems { errors, warnings }
}

/// The file that was asked for, or the first of the usual ones that exists.
fn find(walk: &mut Walk<'_>, asked: Option<&Path>) -> Option<PathBuf> {
    if let Some(path) = asked {
        return Some(path.to_owned());
    }
    let exists = |path: &str| {
        let found = std::fs::symlink_metadata(path);
        !matches!(found, Err(error) if error.kind() == std::io::ErrorKind::NotFound)
    };
    if let Some(path) = DEFAULT_PATHS.into_iter().find(|path| exists(path)) {
        return Some(PathBuf::from(path));
    }
    let [first, second] = DEFAULT_PATHS;
    let why =
        Misread::bad(format!("there is no configuration: neither {first} nor {second} exists"));
    let why = why.hint("name one with --config FILE; `imbabot demo` needs none");
    walk.error_in_file(Code::FileMissing, Some(Path::new(first)), why);
    None
}

/// The tree of a file, its mistakes of syntax reported; `None` if it cannot be used.
fn parse(walk: &mut Walk<'_>, path: PathBuf, text: String) -> Option<Table> {
    let source = Source::new(path, text);
    let index = walk.sources.len();
    let document = document::parse(&source, index);
    walk.sources.push(source);
    for error in document.errors {
        walk.partial = true;
        let place = Place::File { source: index, span: error.span };
        walk.error(Fault::new(Code::Syntax, &place, format!("not TOML: {}", error.message)));
    }
    document.usable.then_some(document.table)
}

/// Adds the widgets of `widgets_file` to those of the file.
fn widgets_file(walk: &mut Walk<'_>, root: &mut Table, overrides: &[layers::Override]) {
    let top =
        Part { path: String::new(), keys: keys::TOP, table: Some(root), place: Place::Default };
    let (text, place) = match layers::top(overrides, "widgets_file") {
        Some((text, place)) => (text.to_owned(), place.clone()),
        None => match walk.located::<String>(&top, "widgets_file") {
            Some(found) => found,
            None => return,
        },
    };
    let path = walk.resolve(&text, &place);
    let text = match files::read(&path) {
        Ok(text) => text,
        Err((code, why)) => {
            let called = top.called("widgets_file", &place);
            let message = format!("{called}: {} {why}", path.display());
            return walk.error(Fault::new(code, &place, message));
        }
    };
    let Some(table) = parse(walk, path, text) else { return };
    for entry in table.entries {
        let Data::List(mut more) = entry.value.data else {
            only_widgets(walk, &entry.key, &entry.key_place);
            continue;
        };
        if entry.key != "widget" {
            only_widgets(walk, &entry.key, &entry.key_place);
            continue;
        }
        match root.get_mut("widget").map(|value| &mut value.data) {
            Some(Data::List(list)) => list.append(&mut more),
            Some(_) => {}
            None => root.set("widget", Value { data: Data::List(more), place: entry.value.place }),
        }
    }
}

fn only_widgets(walk: &mut Walk<'_>, key: &str, place: &Place) {
    let message = format!("unknown key `{key}`: a widgets_file holds [[widget]] entries only");
    let hint = "move it into the main file, which names the widgets_file";
    walk.error(Fault::new(Code::UnknownKey, place, message).hint(hint));
}

fn read(walk: &mut Walk<'_>, root: &Table) -> Config {
    walk.check_root(root);
    Config {
        // First: the others name widgets.
        widgets: widget::read(walk, root),
        poll: poll::read(walk, root),
        delivery: delivery::read(walk, root),
        limits: limits::read(walk, root),
        schedules: schedule::read(walk, root),
        bots: bot::read(walk, root),
        store: store::read(walk, root),
        http: http::read(walk, root),
        log: log::read(walk, root),
    }
}
