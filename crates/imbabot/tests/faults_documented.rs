//! docs/faults.md says which fault is covered by which test: each name it gives is a test, and each test
//! that is named after a fault stands in it.

#![allow(clippy::unwrap_used, reason = "this is a test")]

mod repository;

use std::collections::BTreeSet;
use std::path::Path;

use repository::{root, sources};

fn tests(root: &Path) -> BTreeSet<String> {
    let mut texts = Vec::new();
    for folder in ["crates", "bots"] {
        sources(&root.join(folder), &mut texts);
    }
    let test = regex::Regex::new(r"(?m)^\s*(?:pub )?(?:async )?fn ([a-z0-9_]+)\(").unwrap();
    texts
        .iter()
        .flat_map(|text| test.captures_iter(text).map(|found| found[1].to_owned()))
        .collect()
}

#[test]
fn every_test_that_the_page_of_faults_names_is_there_and_the_other_way_round() {
    let root = root();
    let page = std::fs::read_to_string(root.join("docs/faults.md")).unwrap();
    let tests = tests(&root);
    let named = regex::Regex::new(r"`([a-z0-9_]{12,})`").unwrap();
    let named: BTreeSet<String> =
        named.captures_iter(&page).map(|found| found[1].to_owned()).collect();
    assert!(named.len() > 50, "the pattern finds the names: {}", named.len());
    let missing: Vec<&String> = named.difference(&tests).collect();
    assert!(missing.is_empty(), "docs/faults.md names tests that are not there: {missing:?}");

    let of_a_fault = regex::Regex::new(r"^[bnhskotpcxm][0-9]{1,2}[a-z]?_").unwrap();
    let unnamed = tests.iter().filter(|test| of_a_fault.is_match(test) && !named.contains(*test));
    // A percentile is no fault.
    let unnamed: Vec<&String> = unnamed.filter(|test| !test.starts_with("p99_")).collect();
    assert!(unnamed.is_empty(), "not in docs/faults.md: {unnamed:?}");
}

#[test]
fn the_page_of_faults_has_each_section_and_each_fault_once() {
    let page = std::fs::read_to_string(root().join("docs/faults.md")).unwrap();
    let first = |line: &str| {
        let fault = line.strip_prefix("| ").and_then(|row| row.split(" |").next());
        let fault = fault.filter(|id| id.starts_with(|c: char| c.is_ascii_uppercase()));
        line.strip_prefix("## ").or(fault).map(str::to_owned)
    };
    let mut seen = BTreeSet::new();
    let twice: Vec<String> =
        page.lines().filter_map(first).filter(|it| !seen.insert(it.clone())).collect();
    assert!(seen.len() > 100, "the pattern finds them: {}", seen.len());
    assert!(twice.is_empty(), "twice in docs/faults.md: {twice:?}");
}
