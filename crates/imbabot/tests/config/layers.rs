//! Default, file, environment, flag; and where each value came from.

use imbabot::config::{show, show_json, show_text};

use crate::support::{Folder, SECRET, WIDGET};

#[test]
fn a_flag_goes_before_the_environment_before_the_file_before_the_default() {
    let folder = Folder::new()
        .variable("IMBABOT__POLL__USERS", "7s")
        .variable("IMBABOT__POLL__TIMEOUT", "8s")
        .flag("poll.timeout", "9s");
    let text = format!("{WIDGET}[poll]\nrooms = \"2s\"\nusers = \"3s\"\ntimeout = \"4s\"\n");
    let loaded = folder.load(&text).unwrap();
    let poll = &loaded.config.poll;
    assert_eq!([poll.rooms, poll.users, poll.timeout].map(|d| d.as_secs()), [2, 7, 9]);
    assert_eq!(poll.gone_after, 3);
    let shown = show(&loaded);
    let origin = |key: &str| folder.without_folder(&shown[key].1);
    assert_eq!(origin("poll.rooms"), "imbabot.toml:6");
    assert_eq!(origin("poll.users"), "IMBABOT__POLL__USERS");
    assert_eq!(origin("poll.timeout"), "flag");
    assert_eq!(origin("poll.gone_after"), "default");
}

#[test]
fn every_shape_of_value_can_come_from_the_environment() {
    let folder = Folder::new()
        .variable("IMBABOT__WIDGET__MAIN__BASE_URL", "http://127.0.0.1:1")
        .variable("IMBABOT__WIDGET__MAIN__SENDER", "P11-A")
        .variable("IMBABOT__DELIVERY__CONCURRENCY", "3")
        .variable("IMBABOT__DELIVERY__BACKOFF__MIN", "1s")
        .variable("IMBABOT__DELIVERY__NOT_APPLIED_STATUSES", "429,503")
        .variable("IMBABOT__POLL__BASELINE", "false")
        .variable("IMBABOT__POLL__MAX_BODY", "1MiB")
        .variable("IMBABOT__SCHEDULE__STAND_UP__ENABLED", "false")
        .variable("IMBABOT__SCHEDULE__STAND_UP__ROOMS__KIND", "support")
        .variable("IMBABOT__SCHEDULE__STAND_UP__EXCEPT", "2026-12-25, 2026-12-26")
        .variable("IMBABOT__BOT__A__B__SETTINGS__GREETING", "Hello")
        .variable("IMBABOT__HTTP__LISTEN", "off");
    let text = format!(
        "{WIDGET}[[schedule]]\nid = \"stand-up\"\nevery = \"1h\"\nrooms = {{ kind = \"conference\" }}\ntext = \"x\"\n\
         [[bot]]\nname = \"a__b\"\nkind = \"greeter\"\n"
    );
    let config = folder.load(&text).unwrap().config;
    assert_eq!(config.widgets[0].base_url.to_string(), "http://127.0.0.1:1");
    assert_eq!(config.widgets[0].sender.as_str(), "P11-A");
    assert_eq!(config.delivery.concurrency, 3);
    assert_eq!(config.delivery.backoff.min.as_secs(), 1);
    assert_eq!(config.delivery.backoff.max.as_secs(), 60);
    assert_eq!(config.delivery.not_applied_statuses, [429, 503]);
    assert!(!config.poll.baseline);
    assert_eq!(config.poll.max_body, 1 << 20);
    assert!(!config.schedules[0].enabled);
    let wanted = imbabot_bot::RoomSelector::of_kind(imbabot_core::RoomKind::Support);
    assert_eq!(config.schedules[0].rooms, wanted);
    assert_eq!(config.bots[0].settings["greeting"], "Hello");
    assert!(config.http.listen.is_none());
}

#[test]
fn a_variable_that_sets_nothing_is_an_error_and_its_value_is_not_shown() {
    let folder = Folder::new()
        .variable("IMBABOT__POLL__ROMS", "hunter2")
        .variable("IMBABOT__POL__ROOMS", "5s")
        .variable("IMBABOT__WIDGET__MIAN__BASE_URL", "x")
        .variable("IMBABOT__WIDGET__MAIN__SECRET_KEY", "hunter2")
        .variable("IMBABOT__SCHEDULE__X__ENABLED", "true")
        .variable("IMBABOT__LOG", "debug")
        .variable("IMBABOT__POLL__ROOMS", "5")
        .flag("log.levle", "debug");
    let shown = folder.errors(WIDGET);
    assert!(!shown.contains("hunter2"));
    insta::assert_snapshot!(shown, @"");
}

#[test]
fn the_only_widget_can_come_from_the_environment_alone() {
    let folder = Folder::new()
        .variable("IMBABOT__WIDGET__MAIN__ID", "627")
        .variable("IMBABOT__WIDGET__MAIN__SENDER", "1")
        .variable("IMBABOT_SECRET_KEY", SECRET);
    let config = folder.load("").unwrap().config;
    assert_eq!(config.widgets[0].id, imbabot_core::WidgetId(627));
}

#[test]
fn relative_paths_start_at_the_file_that_names_them() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("more")).unwrap();
    let folder = folder.file("more/key", SECRET, 0o600).file(
        "more/widgets.toml",
        "[[widget]]\nname = \"b\"\nid = 2\nsender = 1\nsecret_key_file = \"key\"\n",
        0o644,
    );
    let first = WIDGET.replace("id =", "name = \"a\"\nid =");
    let loaded = folder.load(&format!("widgets_file = \"more/widgets.toml\"\n{first}")).unwrap();
    let names: Vec<&str> = loaded.config.widgets.iter().map(|w| w.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(loaded.config.store.path, folder.path("imbabot.db"));
    assert_eq!(loaded.files, [folder.path("imbabot.toml"), folder.path("more/widgets.toml")]);
}

#[test]
fn a_widgets_file_holds_widgets_only() {
    let folder =
        Folder::new().file("w.toml", "[poll]\nrooms = \"5s\"\n[[widget]]\nname = \"b\"\n", 0o644);
    let first = WIDGET.replace("id =", "name = \"a\"\nid =");
    insta::assert_snapshot!(folder.errors(&format!("widgets_file = \"w.toml\"\n{first}")), @"");
    let folder = Folder::new();
    insta::assert_snapshot!(folder.errors(&format!("widgets_file = \"none.toml\"\n{WIDGET}")), @"");
}

#[test]
fn what_is_shown_has_an_origin_each_and_no_secret() {
    let folder = Folder::new().variable("IMBABOT__LOG__LEVEL", "debug");
    let text = format!(
        "{WIDGET}[[bot]]\nname = \"b\"\nkind = \"quiet\"\nsettings = {{ api_token = \"hunter2\", n = 1 }}\n\
         [[schedule]]\nid = \"s\"\nevery = \"1m\"\nrooms = {{ all = true }}\ntext = \"Hi\"\n"
    );
    let loaded = folder.load(&text).unwrap();
    let shown = folder.without_folder(&show_text(&loaded));
    assert!(!shown.contains(SECRET) && !shown.contains("hunter2"), "{shown}");
    assert!(!format!("{loaded:?}").contains("hunter2"));
    assert!(!format!("{loaded:?}").contains(SECRET));
    let json = show_json(&loaded);
    assert_eq!(json["widget.main.secret_key"]["value"], "***");
    assert_eq!(json["log.level"]["origin"], "IMBABOT__LOG__LEVEL");
    let shown: Vec<String> =
        shown.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    insta::assert_snapshot!(shown.join("\n"), @"");
}
