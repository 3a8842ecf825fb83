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
