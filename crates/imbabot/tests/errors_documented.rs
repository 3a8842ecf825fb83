//! A code that a person can meet stands in docs/errors.md.

#![allow(clippy::unwrap_used, reason = "this is a test")]

mod repository;

use std::collections::BTreeSet;

use repository::{root, sources};

#[test]
fn every_code_in_the_sources_is_documented() {
    let root = root();
    let page = std::fs::read_to_string(root.join("docs/errors.md")).unwrap();
    let mut texts = Vec::new();
    for folder in ["core", "bot", "store", "scheduler", "imbabot"] {
        sources(&root.join("crates").join(folder).join("src"), &mut texts);
    }
    let pattern = regex::Regex::new(r#""(IMB-[A-Z0-9]+(?:-[A-Z0-9]+)*)""#).unwrap();
    let codes: BTreeSet<String> = texts
        .iter()
        .flat_map(|text| pattern.captures_iter(text).map(|found| found[1].to_owned()))
        .collect();
    assert!(codes.len() > 50, "the pattern finds the codes: {}", codes.len());
    let missing: Vec<&String> =
        codes.iter().filter(|code| !page.contains(&format!("`{code}`"))).collect();
    assert!(missing.is_empty(), "not in docs/errors.md: {missing:?}");
}

#[test]
fn every_warning_and_error_of_the_log_has_a_code() {
    let root = root();
    let mut texts = Vec::new();
    for folder in ["core", "bot", "store", "scheduler", "imbabot"] {
        sources(&root.join("crates").join(folder).join("src"), &mut texts);
    }
    let said = regex::Regex::new(r"tracing::(?:warn|error)!\(").unwrap();
    let code = regex::Regex::new(r"\bcode\b").unwrap();
    let all: Vec<&str> = texts
        .iter()
        .flat_map(|text| said.find_iter(text).map(|found| arguments(&text[found.end()..])))
        .collect();
    assert!(all.len() > 30, "the pattern finds them: {}", all.len());
    let without: Vec<&&str> = all.iter().filter(|said| !code.is_match(said)).collect();
    assert!(without.is_empty(), "without a code: {without:#?}");
}

/// Up to the parenthesis that closes what stands open before.
fn arguments(text: &str) -> &str {
    let mut depth = 1;
    let end = text.find(|c| {
        depth += match c {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        depth == 0
    });
    &text[..end.unwrap_or(text.len())]
}
