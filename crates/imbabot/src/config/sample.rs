//! The sample file and the reference of the book, both written from the table of keys; the files
//! in `config/` and `docs/` are compared with them by the tests, so that neither can drift.
//!
//! In the sample a comment starts with `# `, and a line that can be switched on with `#` alone.

use std::fmt::Write as _;

use super::keys::{Key, SECTIONS, Section, Shape, TOP};
use super::rules;

/// The sample: every key, its default and its unit; nothing in it posts to a real room.
pub const SAMPLE: &str = include_str!("../../../../config/imbabot.toml");
/// The smallest configuration that does something.
pub const MINIMAL: &str = include_str!("../../../../config/minimal.toml");

/// What the sample and the reference of the book have to be, in this order.
#[must_use]
pub fn reference() -> (String, String) {
    (sample(), book())
}

const HEAD: &str = "\
#:schema ./imbabot.schema.json
# imbabot: every key, its default and its unit.
#
# To start: fill in `id` and `sender` below, write the widget's \"Secret key\" into the file
# secret_key beside this one, `chmod 600` it, and run `imbabot check`. Nothing is posted until a
# [[schedule]] or a [[bot]] is switched on.
#
# Durations carry a unit (\"500ms\" \"5s\" \"2m\" \"1h\" \"7d\"), sizes too (\"32MiB\"), rates are \"5/s\".
# Relative paths start at the folder of this file. Every key can be set from the environment, as
# IMBABOT__POLL__ROOMS=5s or IMBABOT__WIDGET__MAIN__ID=627; secrets never stand in here.
#
# The first line is for editors that know TOML: `imbabot config schema > imbabot.schema.json` makes
# the file that it names.
";

fn sample() -> String {
    let mut text = HEAD.to_owned();
    text.push('\n');
    for key in TOP {
        line(&mut text, key, "");
    }
    for section in SECTIONS {
        let is_example = matches!(section.name, "schedule" | "bot");
        let off = if is_example { "#" } else { "" };
        let _ = writeln!(text, "\n# {}", section.doc);
        if section.name == "schedule" {
            text.push_str(VARIABLES);
        }
        let header = match section.named_by {
            Some(_) => format!("[[{}]]", section.name),
            None => format!("[{}]", section.name),
        };
        let _ = writeln!(text, "{off}{header}");
        for key in section.keys {
            line(&mut text, key, off);
        }
        if section.name == "bot" {
            text.push_str(RULES);
            for key in rules::KEYS {
                line(&mut text, key, off);
            }
        }
    }
    text
}

const RULES: &str = "
# A bot without code: one [[bot.settings.rules]] for each thing that it says. In `text`: room.id
# room.name room.kind event.kind event.change event.at
#[[bot]]
#name = \"porter\"
#kind = \"rules\"
#[[bot.settings.rules]]
";

const VARIABLES: &str = "\
# In `text`: room.id room.name room.kind schedule.id occurrence.at occurrence.id
";

/// Keys of the examples that the others of the example exclude.
const ALTERNATIVES: &[&str] = &["every", "at", "template_file"];

fn line(text: &mut String, key: &Key, off: &str) {
    let value = match (key.default_toml(), key.shape) {
        (Some(default), _) => default,
        (None, Shape::Table(keys)) => inline(keys),
        (None, _) => key.example.to_owned(),
    };
    // To be filled in; or given in the sample although it has no default; or optional.
    let is_optional =
        key.default.is_none() && !key.required && !matches!(key.shape, Shape::Table(_));
    let given = ["name", "secret_key_file"].contains(&key.name);
    let in_example = !off.is_empty();
    let mark = match () {
        () if in_example && ALTERNATIVES.contains(&key.name) => "# or ",
        () if in_example => "#",
        () if key.required => "#",
        () if key.off || (is_optional && !given) => "# ",
        () => "",
    };
    let unit = match key.shape {
        Shape::Text
        | Shape::Name
        | Shape::Flag
        | Shape::Table(_)
        | Shape::Rooms(_)
        | Shape::Free => String::new(),
        _ => format!(" [{}]", unit(&key.shape)),
    };
    let required = if key.required && !in_example { "FILL IN: " } else { "" };
    let assignment = format!("{mark}{} = {value}", key.name);
    let _ = writeln!(text, "{assignment:38} # {required}{}{unit}", key.doc);
}

fn unit(shape: &Shape) -> String {
    match shape {
        Shape::Count(min, u64::MAX) => format!("number from {min}"),
        other => other.unit(),
    }
}

fn inline(keys: &[Key]) -> String {
    let pairs =
        keys.iter().filter_map(|key| Some(format!("{} = {}", key.name, key.default_toml()?)));
    format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
}

fn book() -> String {
    let mut text = String::new();
    let _ = writeln!(text, "### At the top\n");
    table(&mut text, TOP, "IMBABOT__");
    for section in SECTIONS {
        let header = match section.named_by {
            Some(_) => format!("[[{}]]", section.name),
            None => format!("[{}]", section.name),
        };
        let _ = writeln!(text, "\n### `{header}`\n\n{}\n", section.doc);
        table(&mut text, section.keys, &prefix(section));
        if section.name == "bot" {
            text.push_str(RULES_BOOK);
            let head = "| key | takes | default | meaning |\n|---|---|---|---|\n";
            text.push_str(head);
            for key in rules::KEYS {
                let default = if key.required { "required" } else { "–" };
                let unit = unit(&key.shape).replace('|', "\\|");
                let _ = writeln!(text, "| `{}` | {unit} | {default} | {} |", key.name, key.doc);
            }
        }
    }
    text
}

const RULES_BOOK: &str = "
### `[[bot.settings.rules]]`

A rule of a bot with `kind = \"rules\"`; see [Bots without code](bots.md#bots-without-code). Where there is
only one rule, `settings` may hold its keys itself.

";

fn prefix(section: &Section) -> String {
    let name = section.name.to_uppercase();
    match section.named_by {
        Some(key) => format!("IMBABOT__{name}__<{}>__", key.to_uppercase()),
        None => format!("IMBABOT__{name}__"),
    }
}

fn table(text: &mut String, keys: &[Key], prefix: &str) {
    text.push_str("| key | takes | default | meaning | environment |\n|---|---|---|---|---|\n");
    rows(text, keys, "", prefix);
}

fn rows(text: &mut String, keys: &[Key], path: &str, prefix: &str) {
    for key in keys {
        let name = format!("{path}{}", key.name);
        let default = match (key.default_toml(), key.required) {
            (Some(default), _) => format!("`{default}`"),
            (None, true) => "required".into(),
            (None, false) => "–".into(),
        };
        let variable = format!("{prefix}{}", key.name.to_uppercase());
        let unit = unit(&key.shape).replace('|', "\\|");
        let _ = writeln!(text, "| `{name}` | {unit} | {default} | {} | `{variable}` |", key.doc);
        if let Shape::Table(inner) | Shape::Rooms(inner) = key.shape {
            rows(text, inner, &format!("{name}."), &format!("{variable}__"));
        }
    }
}
