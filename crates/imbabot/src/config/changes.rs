//! What is different between two configurations, in a line for the person who reloaded: names, never
//! values, so that nothing secret can be in it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Config, Widget};

/// The difference of two lists of named parts.
struct Parts {
    added: Vec<String>,
    removed: Vec<String>,
    changed: Vec<String>,
}

/// So many names of a kind are said.
const NAMED: usize = 10;

/// What changed from one to the other: `bots: added porter; schedules: changed standup; [poll]`.
#[must_use]
pub fn summary(old: &Config, new: &Config) -> String {
    let mut said = Vec::new();
    let widgets = |config: &Config| -> BTreeMap<String, Widget> {
        config.widgets.iter().map(|one| (one.name.to_string(), one.clone())).collect()
    };
    said.extend(tell("widgets", &parts(&widgets(old), &widgets(new), same_widget)));
    let bots = |config: &Config| -> BTreeMap<String, _> {
        config.bots.iter().map(|one| (one.name.to_string(), one.clone())).collect()
    };
    said.extend(tell("bots", &parts(&bots(old), &bots(new), PartialEq::eq)));
    let schedules = |config: &Config| -> BTreeMap<String, _> {
        config.schedules.iter().map(|one| (one.schedule.id().to_string(), one.clone())).collect()
    };
    said.extend(tell("schedules", &parts(&schedules(old), &schedules(new), PartialEq::eq)));
    for (section, same) in [
        ("[poll]", old.poll == new.poll),
        ("[delivery]", old.delivery == new.delivery),
        ("[limits]", old.limits == new.limits),
        ("[store] retention", old.store.retention == new.store.retention),
    ] {
        if !same {
            said.push(section.to_owned());
        }
    }
    if said.is_empty() { "nothing changed".to_owned() } else { said.join("; ") }
}

/// The keys are compared by themselves: what is shown of a widget does not hold them.
fn same_widget(old: &Widget, new: &Widget) -> bool {
    format!("{old:?}") == format!("{new:?}") && old.secret.is(&new.secret)
}

fn parts<T>(
    old: &BTreeMap<String, T>,
    new: &BTreeMap<String, T>,
    same: impl Fn(&T, &T) -> bool,
) -> Parts {
    let missing = |from: &BTreeMap<String, T>, of: &BTreeMap<String, T>| {
        from.keys().filter(|name| !of.contains_key(*name)).cloned().collect()
    };
    let differs = |(name, new): &(&String, &T)| old.get(*name).is_some_and(|old| !same(old, new));
    let changed = new.iter().filter(differs).map(|(name, _)| name.clone()).collect();
    Parts { added: missing(new, old), removed: missing(old, new), changed }
}

fn tell(what: &str, parts: &Parts) -> Option<String> {
    let mut said = String::new();
    for (word, names) in
        [("added", &parts.added), ("removed", &parts.removed), ("changed", &parts.changed)]
    {
        if names.is_empty() {
            continue;
        }
        let separator = if said.is_empty() { ":" } else { "," };
        let shown = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(" ");
        let _ = write!(said, "{separator} {word} {shown}");
        if names.len() > NAMED {
            let _ = write!(said, " and {} more", names.len() - NAMED);
        }
    }
    (!said.is_empty()).then(|| format!("{what}{said}"))
}
