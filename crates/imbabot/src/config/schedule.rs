//! `[[schedule]]`: an announcement. What a schedule means is the calendar's business; here its
//! parts are read, each mistake at its own column.

use std::collections::HashMap;
use std::ops::Range;
use std::path::PathBuf;

use imbabot_bot::schedule::{Dst, Gap, Misfire, Overlap, Repeat, Rule, Zone};
use imbabot_bot::{Policy, RoomSelector, Schedule, ScheduleId, Template, WidgetName};
use imbabot_core::SiteUserId;

use super::code::Code;
use super::files;
use super::keys::{Key, LONG, SECOND, Shape};
use super::read::{Misread, POLICIES, words};
use super::rooms;
use super::source::{Place, Source};
use super::text::{self, For};
use super::value::{Table, quoted};
use super::walk::{Fault, Part, Walk};

/// A `[[schedule]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleConfig {
    /// When.
    pub schedule: Schedule,
    /// In which rooms.
    pub rooms: RoomSelector,
    /// What is said.
    pub template: Template,
    /// Its policy, if not that of `[delivery]`.
    pub policy: Option<Policy>,
    /// Who says it, if not the widget's sender.
    pub sender: Option<SiteUserId>,
    /// In which widgets; empty for all.
    pub widgets: Vec<WidgetName>,
    /// Whether it runs.
    pub enabled: bool,
}

impl ScheduleConfig {
    /// Whether it speaks in this widget.
    #[must_use]
    pub fn serves(&self, widget: &WidgetName) -> bool {
        self.widgets.is_empty() || self.widgets.contains(widget)
    }
}

words!(Misfire, Misfire::Skip, {
    "skip" => Misfire::Skip,
    "fire_once" => Misfire::FireOnce,
    "catch_up" => Misfire::CatchUp,
});
words!(Overlap, Overlap::Skip, { "skip" => Overlap::Skip, "allow" => Overlap::Allow });
words!(Gap, Gap::Shift, { "shift" => Gap::Shift, "skip" => Gap::Skip });
words!(Repeat, Repeat::First, {
    "first" => Repeat::First,
    "second" => Repeat::Second,
    "both" => Repeat::Both,
});

static DST: &[Key] = &[
    Key::new("gap", Shape::Choice(&["shift", "skip"]), "a time that the clock skips").or("shift"),
    Key::new(
        "repeat",
        Shape::Choice(&["first", "second", "both"]),
        "a time that the clock shows twice",
    )
    .or("first"),
];

pub(crate) static KEYS: &[Key] = &[
    Key::new("id", Shape::Name, "unique, stable: it names the occurrences")
        .required()
        .example("\"standup\""),
    Key::new(
        "cron",
        Shape::Text,
        "exactly one of cron, every, at: 5 fields (minute hour day month weekday), or 6 with seconds first",
    )
    .example("\"0 9 * * MON-FRI\""),
    Key::new("every", Shape::Duration(SECOND, LONG), "every multiple of this since 1970, in UTC")
        .example("\"15m\""),
    Key::new("at", Shape::Text, "once, at a local date and time").example("\"2026-12-24T18:00:00\""),
    Key::new("timezone", Shape::Text, "IANA name of the zone of cron, at and except").or("UTC"),
    Key::new(
        "rooms",
        Shape::Rooms(rooms::KEYS),
        "at least one condition, joined by AND; { all = true } for every room",
    )
    .required()
    .example("{ ids = [1536], name = \"^Team\", kind = \"conference\", public = true }"),
    Key::new("text", Shape::Text, "what is said, or template_file")
        .example("\"Good morning, {{ room.name }}!\""),
    Key::new("template_file", Shape::Path, "a file with what is said").example("\"standup.txt\""),
    Key::new(
        "misfire",
        Shape::Choice(&["skip", "fire_once", "catch_up"]),
        "what happens to instants missed by more than grace; default fire_once, below 5 min of period skip",
    )
    .example("\"fire_once\""),
    Key::new(
        "grace",
        Shape::Duration(std::time::Duration::ZERO, LONG),
        "late by no more than this is on time",
    )
    .or("60s"),
    Key::new("catch_up_max", Shape::Count(1, 10_000), "how many missed instants catch_up fires")
        .or("10"),
    Key::new(
        "expires_after",
        Shape::Duration(SECOND, LONG),
        "counted from the nominal instant: \"good morning\" is never posted at noon",
    )
    .or("1h"),
    Key::new(
        "overlap",
        Shape::Choice(&["skip", "allow"]),
        "a room in which an earlier occurrence still waits: left out, or not",
    )
    .or("skip"),
    Key::new(
        "jitter",
        Shape::Duration(std::time::Duration::ZERO, LONG),
        "delays each occurrence by a part of this; shorter than the shortest period",
    )
    .or("0s"),
    Key::new("dst", Shape::Table(DST), "fixed times on the two odd days of a year"),
    Key::new("except", Shape::List(&Shape::Date), "local dates on which nothing is announced")
        .or("[]"),
    Key::new("policy", Shape::Choice(POLICIES), "default that of [delivery]")
        .example("\"at_least_once\""),
    Key::new("sender", Shape::User, "who says it; default the widget's sender").example("7"),
    Key::new("widgets", Shape::List(&Shape::Name), "in which widgets; default all")
        .example("[\"main\"]"),
    Key::new("enabled", Shape::Flag, "whether it runs").or("true"),
];

pub(crate) fn read(walk: &mut Walk<'_>, root: &Table) -> Vec<ScheduleConfig> {
    let parts = walk.entries(root, "schedule");
    let mut seen: HashMap<ScheduleId, Place> = HashMap::new();
    let mut schedules = Vec::with_capacity(parts.len());
    for part in &parts {
        let id = walk.name::<ScheduleId>(part, "id");
        if let Some((id, place)) = &id {
            match seen.get(id).cloned() {
                Some(first) => {
                    let message = format!("two schedules have the id {:?}", id.as_str());
                    let fault = Fault::new(Code::Duplicate, place, message);
                    walk.error(fault.label("the second").also(&first, "the first"));
                }
                None => {
                    seen.insert(id.clone(), place.clone());
                }
            }
        }
        schedules.extend(read_one(walk, part, id.map(|(id, _)| id)));
    }
    schedules
}

fn read_one(
    walk: &mut Walk<'_>,
    part: &Part<'_>,
    id: Option<ScheduleId>,
) -> Option<ScheduleConfig> {
    let rule = rule(walk, part);
    let zone = zone(walk, part);
    if part.get("rooms").is_none() {
        walk.missing(part, "rooms", Some("{ all = true } is every room"));
    }
    let rooms = rooms::read(walk, part);
    let template = template(walk, part);
    let dst = walk.inner(part, "dst");
    let dst = Dst { gap: walk.get(&dst, "gap"), repeat: walk.get(&dst, "repeat") };
    let except = except(walk, part);
    let misfire = walk.optional(part, "misfire");
    let parts = Parts {
        grace: walk.get(part, "grace"),
        catch_up_max: walk.get(part, "catch_up_max"),
        expires_after: walk.get(part, "expires_after"),
        overlap: walk.get(part, "overlap"),
        jitter: walk.get(part, "jitter"),
    };
    let policy = walk.optional(part, "policy");
    let sender = walk.optional(part, "sender");
    let widgets = walk.widget_names(part);
    let enabled = walk.get(part, "enabled");

    // A name that could not be read must not hide that the rest does not fit together.
    let id_or = id.clone().or_else(|| "x".parse().ok())?;
    let schedule = Schedule::new(id_or, rule?);
    let mut schedule = parts.apply(schedule).dst(dst);
    if let Some(zone) = zone {
        schedule = schedule.timezone(zone.name()).ok()?;
    }
    if let Some(misfire) = misfire {
        schedule = schedule.misfire(misfire);
    }
    schedule = schedule.except(except.iter().map(String::as_str)).ok()?;
    fits_together(walk, part, &schedule);
    let (_, rooms, template) = (id?, rooms?, template?);
    Some(ScheduleConfig { schedule, rooms, template, policy, sender, widgets, enabled })
}

/// What every schedule has.
struct Parts {
    grace: std::time::Duration,
    catch_up_max: u32,
    expires_after: std::time::Duration,
    overlap: Overlap,
    jitter: std::time::Duration,
}

impl Parts {
    fn apply(self, schedule: Schedule) -> Schedule {
        schedule
            .grace(self.grace)
            .catch_up_max(self.catch_up_max)
            .expires_after(self.expires_after)
            .overlap(self.overlap)
            .jitter(self.jitter)
    }
}

fn fits_together(walk: &mut Walk<'_>, part: &Part<'_>, schedule: &Schedule) {
    // No expression of five fields comes more often than every minute, no rule at all more often
    // than every second: below that nothing can clash, and the true period is dear to compute.
    let jitter = schedule.longest_delay();
    let surely = match schedule.rule() {
        Rule::Cron(cron) if cron.to_string().split_whitespace().count() == 5 => 60 * SECOND,
        _ => SECOND,
    };
    if jitter < surely {
        return;
    }
    let rule = (schedule.time_definition(), jitter);
    let verdict = walk
        .jitters
        .entry(rule)
        .or_insert_with(|| schedule.validate().map_err(|why| why.to_string()));
    if let Err(why) = verdict.clone() {
        let place = part.get("jitter").map_or(&part.place, |value| &value.place);
        let called = part.called("jitter", place);
        let why = why.strip_prefix("`jitter` ").unwrap_or(&why);
        let fault = Fault::new(Code::BadSchedule, place, format!("{called} {why}"));
        walk.error(fault.hint("give a shorter jitter"));
    }
}

/// Exactly one of cron, every, at.
fn rule(walk: &mut Walk<'_>, part: &Part<'_>) -> Option<Rule> {
    let given: Vec<&str> =
        ["cron", "every", "at"].into_iter().filter(|key| part.get(key).is_some()).collect();
    let rule = match given.first() {
        Some(&"cron") => cron(walk, part),
        Some(&"every") => walk.optional(part, "every").map(Rule::Every),
        Some(_) => at(walk, part),
        None => {
            if !walk.partial {
                let message = format!("`{}` says no time", part.path);
                let hint = "give exactly one of cron = \"0 9 * * MON-FRI\", every = \"15m\", \
                            at = \"2026-12-24T18:00:00\"";
                walk.error(Fault::new(Code::Missing, &part.place, message).hint(hint));
            }
            None
        }
    };
    if let [first, second, ..] = given.as_slice()
        && let (Some(one), Some(two)) = (part.get(first), part.get(second))
    {
        let message = format!("`{}` has both `{first}` and `{second}`", part.path);
        let fault = Fault::new(Code::Conflict, &two.place, message);
        let fault = fault.hint("keep exactly one of cron, every, at");
        walk.error(fault.also(&one.place, "the other time"));
        return None;
    }
    rule
}

const CRON_HINT: &str = "the fields are minute, hour, day of month, month, day of week: \"0 9 * * MON-FRI\"; \
                         with six, seconds stand first";

fn cron(walk: &mut Walk<'_>, part: &Part<'_>) -> Option<Rule> {
    let (text, place) = walk.located::<String>(part, "cron")?;
    let parsed = walk.crons.entry(text.clone()).or_insert_with(|| text.parse()).clone();
    match parsed {
        Ok(cron) => Some(Rule::Cron(cron)),
        Err(why) => {
            let start = why.column() - 1;
            let field = text.chars().skip(start).take_while(|c| !c.is_whitespace()).count();
            let whole = start == 0 && field == text.chars().count();
            let place = match whole {
                true => place,
                false => inside(walk, &place, start..start + field.max(1)),
            };
            let called = part.called("cron", &place);
            let fault = Fault::new(Code::BadCron, &place, format!("{called}: {why}"));
            walk.error(fault.hint(match why.to_string().contains("never fire") {
                true => "choose days that the chosen months have",
                false => CRON_HINT,
            }));
            None
        }
    }
}

fn at(walk: &mut Walk<'_>, part: &Part<'_>) -> Option<Rule> {
    let value = part.get("at")?;
    if let super::value::Data::Date(date) = &value.data {
        let message = format!("expected a text such as \"{date}\", found a date without quotes");
        let misread = Misread { code: Code::WrongType, message, hint: None };
        walk.misread(part, "at", value, misread.hint(format!("write \"{date}\" in quotes")));
        return None;
    }
    let (text, place) = walk.located::<String>(part, "at")?;
    match text.parse() {
        Ok(local) => Some(Rule::At(local)),
        Err(why) => {
            let misread = Misread::split(&why);
            let called = part.called("at", &place);
            let fault =
                Fault::new(Code::BadValue, &place, format!("{called}: {}", misread.message));
            walk.error(fault.maybe_hint(misread.hint));
            None
        }
    }
}

fn zone(walk: &mut Walk<'_>, part: &Part<'_>) -> Option<Zone> {
    let (text, place) = walk.located::<String>(part, "timezone")?;
    let parsed = walk.zones.entry(text.clone()).or_insert_with(|| text.parse()).clone();
    match parsed {
        Ok(zone) => Some(zone),
        Err(why) => {
            let called = part.called("timezone", &place);
            let message = format!("{called}: unknown time zone {}", quoted(&text));
            let hint = match why.suggestion() {
                Some(near) => format!("did you mean {near:?}?"),
                None => "it is an IANA name such as \"Europe/Berlin\"".into(),
            };
            walk.error(Fault::new(Code::BadZone, &place, message).hint(hint));
            None
        }
    }
}

fn except(walk: &mut Walk<'_>, part: &Part<'_>) -> Vec<String> {
    let mut dates = Vec::new();
    for (text, place) in walk.list::<DateText>(part, "except").unwrap_or_default() {
        let probe = Schedule::every("x", SECOND).and_then(|s| s.except([text.0.as_str()]));
        match probe {
            Ok(_) => dates.push(text.0),
            Err(why) => {
                let misread = Misread::split(&why.to_string());
                let called = part.called("except", &place);
                let message = format!("{called}: {}", misread.message);
                let fault = Fault::new(Code::BadValue, &place, message);
                walk.error(fault.maybe_hint(misread.hint));
            }
        }
    }
    dates
}

/// A date as text, in quotes or as TOML's own.
struct DateText(String);

impl super::read::Readable for DateText {
    fn read(shape: &Shape, value: &super::value::Value) -> Result<Self, Misread> {
        match &value.data {
            super::value::Data::Text(text) | super::value::Data::Date(text) => {
                Ok(Self(text.clone()))
            }
            _ => Err(Misread::wrong_type(shape, value)),
        }
    }
    fn placeholder() -> Self {
        Self(String::new())
    }
}

/// Exactly one of text and template_file.
fn template(walk: &mut Walk<'_>, part: &Part<'_>) -> Option<Template> {
    match (part.get("text"), part.get("template_file")) {
        (Some(text), Some(file)) => {
            let message = format!("`{}` has both `text` and `template_file`", part.path);
            let fault = Fault::new(Code::Conflict, &file.place, message);
            walk.error(fault.hint("keep one of them").also(&text.place, "the other text"));
            None
        }
        (None, None) => {
            if !walk.partial {
                let message = format!("`{}` says no text", part.path);
                let hint = "give text = \"Good morning!\" or template_file";
                walk.error(Fault::new(Code::Missing, &part.place, message).hint(hint));
            }
            None
        }
        (Some(_), None) => {
            let (text, place) = walk.located::<String>(part, "text")?;
            text::compile(walk, part, "text", &text, &place, For::Announcement)
        }
        (None, Some(_)) => {
            let (path, place) = walk.path(part, "template_file")?;
            from_file(walk, part, path, &place)
        }
    }
}

/// A template's file is a source of its own: mistakes are shown in it.
fn from_file(
    walk: &mut Walk<'_>,
    part: &Part<'_>,
    path: PathBuf,
    place: &Place,
) -> Option<Template> {
    let text = match files::read(&path) {
        Ok(text) => text,
        Err((code, why)) => {
            let called = part.called("template_file", place);
            walk.error(Fault::new(code, place, format!("{called}: {} {why}", path.display())));
            return None;
        }
    };
    // An editor's last line end is not meant to be posted.
    let template = text.strip_suffix('\n').unwrap_or(&text).to_owned();
    let source = walk.sources.len();
    walk.sources.push(Source::new(path, text));
    let whole = Place::File { source, span: 0..0 };
    text::compile(walk, part, "template_file", &template, &whole, For::Announcement)
}

/// The place of some characters inside of a text on one line; the whole text where escapes make
/// the characters uncertain.
fn inside(walk: &Walk<'_>, place: &Place, characters: Range<usize>) -> Place {
    let Place::File { source, span } = place else { return place.clone() };
    let raw = walk.sources.get(*source).and_then(|file| file.text.get(span.clone()));
    let Some(raw) = raw.filter(|raw| !raw.contains(['\\', '\n'])) else { return place.clone() };
    let quotes = if raw.starts_with("\"\"\"") || raw.starts_with("'''") { 3 } else { 1 };
    let mut places = raw.char_indices().map(|(at, _)| span.start + at).skip(quotes);
    let mut at = |n: usize| places.nth(n);
    let Some(start) = at(characters.start) else { return place.clone() };
    let end = match characters.len() {
        0 | 1 => raw[start - span.start..].chars().next().map(|c| start + c.len_utf8()),
        more => at(more - 1),
    };
    place.within(start..end.unwrap_or(span.end))
}
