//! The samples load, and mean what they say.

use std::time::Duration;

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
    insta::assert_snapshot!(folder.shown(&problems), @r"
    error[IMB-C-014]: `widget.main.id` is missing
      --> imbabot.toml:19:1
       |
    19 | [[widget]]
       | ^^^^^^^^^^
       |
       = help: it is the number of the widget (imba_id): it stands in the address of its dashboard, dashboard.imbachat.com/#/<id>/, and of its API, /imbachat/v2/<id>/

    error[IMB-C-014]: `widget.main.sender` is missing
      --> imbabot.toml:19:1
       |
    19 | [[widget]]
       | ^^^^^^^^^^
       |
       = help: it is the site's own number of the user as whom the bots speak (in WordPress: the user_id in the address of Users > Edit), not ImbaChat's

    2 errors
    ");
}

#[test]
fn the_examples_of_the_sample_load_when_they_are_switched_on() {
    let switched_on: String = SAMPLE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.is_empty() && !rest.starts_with([' ', ':']) => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let loaded = Folder::new().load(&switched_on).unwrap();
    assert_eq!(loaded.config.schedules.len(), 1);
    assert_eq!(loaded.config.bots.len(), 2);
    assert_eq!(loaded.config.bots[1].settings["rules"][0]["when"], "opened");
    assert_eq!(loaded.config.bots[0].settings["greeting"], "Welcome to {{ room.name }}!");
}

#[test]
fn the_minimal_file_loads_and_announces_nothing_before_it_is_told_to() {
    let filled_in = MINIMAL.replace("# id = 6", "id = 6").replace("# sender = ", "sender = ");
    let loaded = Folder::new().load(&filled_in).unwrap();
    assert_eq!(loaded.config.schedules.len(), 0);
    assert_eq!(loaded.config.widgets[0].name.as_str(), "main");
    let (widget, announcement) = filled_in.split_once("# [[schedule]]").unwrap();
    let switched_on = format!("{widget}[[schedule]]{}", announcement.replace("\n# ", "\n"));
    let loaded = Folder::new().load(&switched_on).unwrap();
    assert_eq!(loaded.config.schedules[0].schedule.id().as_str(), "standup");
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let loaded = Folder::new().load(WIDGET).unwrap();
    let config = loaded.config;
    insta::assert_debug_snapshot!(
        (config.poll, config.delivery, config.limits, config.http, config.log),
        @r#"
        (
            Poll {
                rooms: 5s,
                users: 60s,
                quiet_max: 0ns,
                gone_after: 3,
                baseline: true,
                timeout: 30s,
                max_body: 536870912,
            },
            Delivery {
                policy: AtMostOnce,
                expires_after: 3600s,
                rate: Rate {
                    count: 10,
                    per: 1s,
                },
                rate_per_room: Rate {
                    count: 1,
                    per: 1s,
                },
                concurrency: 8,
                connect_timeout: 5s,
                timeout: 20s,
                backoff: Backoff {
                    min: 500ms,
                    max: 60s,
                },
                settle: 60s,
                max_ambiguous_resends: 2,
                unresolved_after: 86400s,
                not_applied_statuses: [
                    429,
                ],
                max_text: 16384,
            },
            Limits {
                per_event: 5,
                per_bot: Rate {
                    count: 600,
                    per: 3600s,
                },
                per_bot_and_room: Rate {
                    count: 6,
                    per: 600s,
                },
            },
            Http {
                listen: Some(
                    127.0.0.1:9627,
                ),
                token: None,
                allowed_hosts: [],
            },
            Log {
                format: Text,
                level: "info",
            },
        )
        "#
    );
    assert!(config.store.file().unwrap().ends_with("imbabot.db"));
    assert_eq!(config.store.retention, imbabot_bot::units::days(30));
    assert_eq!(config.widgets[0].base_url.to_string(), "https://api.imbachat.com");
}

/// What this thread has computed so far: unlike a clock on the wall it does not count what other
/// programs do meanwhile, so a busy machine fails nobody.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
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
    let before = cpu_time();
    let loaded = folder.load(&text).unwrap();
    let took = cpu_time() - before;
    assert_eq!(loaded.config.schedules.len(), count);
    println!("{count} schedules in {took:?} of computing");
    assert!(took.as_secs() < limit, "{took:?}");
}
