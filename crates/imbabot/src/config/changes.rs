//! What is different between two configurations, in a line for the person who reloaded: names, never
//! values, so that nothing secret can be in it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Config, Widget};

/// The difference of two lists of named parts.
struct Parts<'a> {
    added: Vec<&'a str>,
    removed: Vec<&'a str>,
    changed: Vec<&'a str>,
}

/// So many names of a kind are said.
const NAMED: usize = 10;

/// What changed from one to the other: `bots: added porter; schedules: changed standup; [poll]`.
#[must_use]
pub fn summary(old: &Config, new: &Config) -> String {
    let mut said = Vec::new();
    let widgets = parts(&old.widgets, &new.widgets, |one| one.name.as_str(), same_widget);
    said.extend(tell("widgets", &widgets));
    let bots = parts(&old.bots, &new.bots, |one| one.name.as_str(), PartialEq::eq);
    said.extend(tell("bots", &bots));
    let (before, now) = (&old.schedules, &new.schedules);
    let schedules = parts(before, now, |one| one.schedule.id().as_str(), PartialEq::eq);
    said.extend(tell("schedules", &schedules));
    for (section, same) in [
        ("[poll]", old.poll == new.poll),
        ("[delivery]", old.delivery == new.delivery),
        ("[limits]", old.limits == new.limits),
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

fn parts<'a, T>(
    old: &'a [T],
    new: &'a [T],
    name: impl Fn(&T) -> &str,
    same: impl Fn(&T, &T) -> bool,
) -> Parts<'a> {
    let named = |list: &'a [T]| -> BTreeMap<&'a str, &'a T> {
        list.iter().map(|one| (name(one), one)).collect()
    };
    let (old, new) = (named(old), named(new));
    let missing = |from: &BTreeMap<&'a str, &'a T>, of: &BTreeMap<&'a str, &'a T>| {
        from.keys().filter(|name| !of.contains_key(*name)).copied().collect()
    };
    let differs =
        |name: &&str| old.get(*name).zip(new.get(*name)).is_some_and(|(a, b)| !same(a, b));
    let changed = new.keys().copied().filter(differs).collect();
    Parts { added: missing(&new, &old), removed: missing(&old, &new), changed }
}

fn tell(what: &str, parts: &Parts<'_>) -> Option<String> {
    let mut said = String::new();
    for (word, names) in
        [("added", &parts.added), ("removed", &parts.removed), ("changed", &parts.changed)]
    {
        if names.is_empty() {
            continue;
        }
        let separator = if said.is_empty() { ":" } else { "," };
        let shown = names.iter().take(NAMED).copied().collect::<Vec<_>>().join(" ");
        let _ = write!(said, "{separator} {word} {shown}");
        if names.len() > NAMED {
            let _ = write!(said, " and {} more", names.len() - NAMED);
        }
    }
    (!said.is_empty()).then(|| format!("{what}{said}"))
}
