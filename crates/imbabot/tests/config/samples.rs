//! The samples load, and mean what they say.

use imbabot::config::{Loaded, MINIMAL, SAMPLE};

use crate::support::{Folder, WIDGET};

/// The sample with what it leaves to the reader.
fn filled_in() -> String {
    SAMPLE.replace("\n#id = 627 ", "\nid = 627 ").replace("\n#sender = 1 ", "\nsender = 1 ")
}

/// Everything but the origins, which differ.
fn said(loaded: &Loaded) -> String {
    format!("{:#?}", loaded.config)
}

#[test]
fn the_sample_filled_in_is_the_defaults() {
    let folder = Folder::new();
    let sample = folder.load(&filled_in()).unwrap();
    assert_eq!(sample.warnings, []);
    let defaults = folder.load(WIDGET).unwrap();
    assert_eq!(said(&sample), said(&defaults));
}

#[test]
fn the_sample_as_it_is_asks_for_id_and_sender() {
    let folder = Folder::new();
    let problems = folder.load(SAMPLE).unwrap_err();
    assert_eq!(problems.exit_code(), 78);
    insta::assert_snapshot!(folder.shown(&problems), @"");
}

#[test]
fn the_examples_of_the_sample_load_when_they_are_switched_on() {
    let switched_on: String = SAMPLE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.is_empty() && !rest.starts_with(' ') => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let loaded = Folder::new().load(&switched_on).unwrap();
    assert_eq!(loaded.config.schedules.len(), 1);
    assert_eq!(loaded.config.bots.len(), 1);
    assert_eq!(loaded.config.bots[0].settings["greeting"], "Welcome to {{ room.name }}!");
}

#[test]
fn the_minimal_file_loads() {
    let loaded = Folder::new().load(MINIMAL).unwrap();
    assert_eq!(loaded.config.schedules[0].schedule.id().as_str(), "standup");
    assert_eq!(loaded.config.widgets[0].name.as_str(), "main");
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let loaded = Folder::new().load(WIDGET).unwrap();
    let config = loaded.config;
    insta::assert_debug_snapshot!(
        (config.poll, config.delivery, config.limits, config.http, config.log),
        @""
    );
    assert!(config.store.path.ends_with("imbabot.db"));
    assert_eq!(config.store.retention, imbabot_bot::units::days(30));
    assert_eq!(config.widgets[0].base_url.to_string(), "https://api.imbachat.com");
}

#[test]
fn ten_thousand_schedules_load_quickly() {
    use std::fmt::Write as _;
    // The promise is 2 s for a release build; without optimisation a tenth of it has to do.
    let (count, limit) = if cfg!(debug_assertions) { (1_000, 20) } else { (10_000, 2) };
    let mut text = WIDGET.to_owned();
    for n in 0..count {
        let (minute, hour) = (n % 60, n / 60 % 24);
        let _ = write!(
            text,
            "\n[[schedule]]\nid = \"s{n}\"\ncron = \"{minute} {hour} * * MON-FRI\"\n\
             timezone = \"Europe/Berlin\"\nrooms = {{ ids = [{}], name = \"^Team {n}\" }}\n\
             text = \"Good morning number {n}, {{{{ room.name }}}}!\"\njitter = \"30s\"\n",
            n + 1
        );
    }
    let folder = Folder::new();
    #[expect(clippy::disallowed_methods, reason = "a measurement of real time")]
    let start = std::time::Instant::now();
    let loaded = folder.load(&text).unwrap();
    let took = start.elapsed();
    assert_eq!(loaded.config.schedules.len(), count);
    println!("{count} schedules in {took:?}");
    assert!(took.as_secs() < limit, "{took:?}");
}
