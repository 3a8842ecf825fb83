//! What the book of operating shows to be typed is there: verbs, words behind them, and flags.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use support::{end_of, program};

/// What `--help` says of these words; none where they are none.
fn help(known: &mut BTreeMap<String, Option<String>>, words: &[&str]) -> Option<String> {
    let key = words.join(" ");
    known
        .entry(key)
        .or_insert_with(|| {
            let mut arguments = words.to_vec();
            arguments.push("--help");
            let ended = end_of(program(&arguments), "");
            (ended.code == Some(0)).then_some(ended.stdout)
        })
        .clone()
}

#[test]
fn every_command_of_the_books_can_be_typed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut known = BTreeMap::new();
    let mut seen = 0;
    for page in [
        "docs/operating.md",
        "docs/announcements.md",
        "docs/bots.md",
        "docs/logging.md",
        "README.md",
    ] {
        let text = std::fs::read_to_string(root.join(page)).unwrap();
        let mut inside = false;
        for line in text.lines() {
            if let Some(kind) = line.trim().strip_prefix("```") {
                inside = kind == "sh";
                continue;
            }
            let Some(place) = line.find("imbabot ").filter(|_| inside) else { continue };
            // The first may be the name of a user.
            let twice = line[place..].starts_with("imbabot imbabot ");
            let place = if twice { place + "imbabot ".len() } else { place };
            // Not where it is a file, a user or a service.
            let before = line[..place].chars().last().unwrap_or(' ');
            let line = line[place + "imbabot ".len()..].split('#').next().unwrap();
            if !(before == ' ' || before == '/') || line.trim().is_empty() {
                continue;
            }
            let all: Vec<&str> = line.split_whitespace().collect();
            let mut words: Vec<&str> = Vec::new();
            let mut rest = all.as_slice();
            // `--config FILE` stands before the verb.
            if let ["--config", _, after @ ..] = rest {
                rest = after;
            }
            let Some(verb) =
                rest.first().filter(|word| word.chars().all(|c| c.is_ascii_lowercase()))
            else {
                continue;
            };
            words.push(verb);
            let Some(mut told) = help(&mut known, &words) else {
                // A user of that name is no verb.
                assert!(
                    line.contains("/etc/") || !page.ends_with("md"),
                    "{page}: no verb {verb}: {line}"
                );
                continue;
            };
            if let Some(word) =
                rest.get(1).filter(|word| word.chars().all(|c| c.is_ascii_lowercase()))
                && let Some(more) = help(&mut known, &[verb, word])
            {
                told.push_str(&more);
            }
            for flag in rest.iter().filter(|word| word.trim_start_matches('[').starts_with("--")) {
                let flag = flag.trim_matches(|c| c == '[' || c == ']');
                assert!(told.contains(flag), "{page}: {verb} has no {flag}: {line}");
            }
            seen += 1;
        }
    }
    assert!(seen > 20, "the pattern finds them: {seen}");
}
