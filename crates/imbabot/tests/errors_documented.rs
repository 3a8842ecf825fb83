//! A code that a person can meet stands in docs/errors.md.

#![allow(clippy::unwrap_used, reason = "this is a test")]

use std::collections::BTreeSet;
use std::path::Path;

fn sources(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(std::fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn every_code_in_the_sources_is_documented() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
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
