//! Default, file, environment, flag; and where each value came from.

use imbabot::config::{show, show_json, show_text, summary};

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
    insta::assert_snapshot!(shown, @r#"
    error[IMB-C-020]: the environment variable IMBABOT__LOG ends before the name of a key of `log`
     |
     = help: known there are format, level

    error[IMB-C-020]: the environment variable IMBABOT__POLL__ROMS sets no key that exists: `roms`
     |
     = help: did you mean `rooms`?

    error[IMB-C-020]: the environment variable IMBABOT__POL__ROOMS sets no key that exists: `pol`
     |
     = help: did you mean `poll`?

    error[IMB-C-020]: the environment variable IMBABOT__SCHEDULE__X__ENABLED names no [[schedule]] that exists: `x`
     |
     = help: the file has no [[schedule]] with a name; entries are made there only

    error[IMB-C-040]: the environment variable IMBABOT__WIDGET__MAIN__SECRET_KEY would give a secret, which is not read from there
     |
     = help: set IMBABOT_SECRET_KEY, or IMBABOT_SECRET_KEY_<NAME> for one widget of several

    error[IMB-C-020]: the environment variable IMBABOT__WIDGET__MIAN__BASE_URL names no [[widget]] that exists: `mian`
     |
     = help: did you mean "main"?

    error[IMB-C-021]: the flag for `log.levle` sets no key that exists: `levle`
     |
     = help: did you mean `level`?

    error[IMB-C-013]: `poll.rooms` (from IMBABOT__POLL__ROOMS): "5" is not a length of time: the unit is missing
     |
     = help: write a number with a unit, as "500ms", "5s", "2m", "1h" or "7d"

    8 errors
    "#);
}

#[test]
fn a_variable_does_not_cover_up_a_section_of_the_wrong_kind() {
    let folder = Folder::new()
        .variable("IMBABOT__POLL__USERS", "7s")
        .variable("IMBABOT__DELIVERY__BACKOFF__MIN", "1s");
    let text = format!("{WIDGET}[[poll]]\nrooms = \"2s\"\n[delivery]\nbackoff = \"1s\"\n");
    assert_eq!(folder.codes(&text), ["IMB-C-012 5:1", "IMB-C-012 8:11"]);
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
    assert_eq!(loaded.config.store.file(), Some(&*folder.path("imbabot.db")));
    assert_eq!(loaded.files, [folder.path("imbabot.toml"), folder.path("more/widgets.toml")]);
}

#[test]
fn what_a_reload_changed_is_told_by_name_and_without_a_secret() {
    let more =
        "[[bot]]\nname = \"a\"\nkind = \"rules\"\nsettings = { when = \"opened\", text = \"x\" }\n";
    let load = |folder: &Folder, text: &str| folder.load(text).unwrap().config;
    let folder = Folder::new();
    let text = format!("{WIDGET}{more}");
    let old = load(&folder, &text);
    assert_eq!(summary(&old, &load(&folder, &text)), "nothing changed");
    let schedule =
        "[[schedule]]\nid = \"s\"\nevery = \"1h\"\nrooms = { all = true }\ntext = \"x\"\n";
    let new = load(
        &folder,
        &format!("{}[poll]\nrooms = \"9s\"\n{schedule}", text.replace("\"x\"", "\"y\"")),
    );
    assert_eq!(summary(&old, &new), "bots: changed a; schedules: added s; [poll]");
    assert_eq!(summary(&new, &old), "bots: changed a; schedules: removed s; [poll]");
    let folder = folder.file("secret_key", "another-one", 0o600);
    assert_eq!(summary(&old, &load(&folder, &text)), "widgets: changed main");
}

#[test]
fn a_widgets_file_holds_widgets_only() {
    let folder =
        Folder::new().file("w.toml", "[poll]\nrooms = \"5s\"\n[[widget]]\nname = \"b\"\n", 0o644);
    let first = WIDGET.replace("id =", "name = \"a\"\nid =");
    insta::assert_snapshot!(folder.errors(&format!("widgets_file = \"w.toml\"\n{first}")), @r#"
    error[IMB-C-011]: unknown key `poll`: a widgets_file holds [[widget]] entries only
     --> w.toml:1:2
      |
    1 | [poll]
      |  ^^^^
      |
      = help: move it into the main file, which names the widgets_file

    error[IMB-C-014]: `widget.b.id` is missing
     --> w.toml:3:1
      |
    3 | [[widget]]
      | ^^^^^^^^^^
      |
      = help: it is the number of the widget (imba_id): it stands in the address of its dashboard, dashboard.imbachat.com/#/<id>/, and of its API, /imbachat/v2/<id>/

    error[IMB-C-014]: `widget.b.sender` is missing
     --> w.toml:3:1
      |
    3 | [[widget]]
      | ^^^^^^^^^^
      |
      = help: it is the site's own number of the user as whom the bots speak (in WordPress: the user_id in the address of Users > Edit), not ImbaChat's

    error[IMB-C-041]: no secret key is given for the widget "b"
     --> w.toml:3:1
      |
    3 | [[widget]]
      | ^^^^^^^^^^
      |
      = help: name a file that holds it in secret_key_file, or set IMBABOT_SECRET_KEY or IMBABOT_SECRET_KEY_B; it is the "Secret key" of the widget in the ImbaChat dashboard

    4 errors
    "#);
    let folder = Folder::new();
    insta::assert_snapshot!(folder.errors(&format!("widgets_file = \"none.toml\"\n{WIDGET}")), @r#"
    error[IMB-C-001]: `widgets_file`: none.toml does not exist
     --> imbabot.toml:1:16
      |
    1 | widgets_file = "none.toml"
      |                ^^^^^^^^^^^
      |
      = help: create the file, or correct the path; relative paths start at the folder of the file that names them

    1 error
    "#);
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
    insta::assert_snapshot!(shown.join("\n"), @r#"
    allow_group_readable false default
    bot.b.concurrency 8 default
    bot.b.kind "quiet" imbabot.toml:7
    bot.b.name "b" imbabot.toml:6
    bot.b.settings {"api_token":"***","n":1} imbabot.toml:8
    bot.b.timeout "30s" default
    delivery.backoff.max "60s" default
    delivery.backoff.min "500ms" default
    delivery.concurrency 8 default
    delivery.connect_timeout "5s" default
    delivery.expires_after "1h" default
    delivery.max_ambiguous_resends 2 default
    delivery.max_text "16KiB" default
    delivery.not_applied_statuses [429] default
    delivery.policy "at_most_once" default
    delivery.rate "10/s" default
    delivery.rate_per_room "1/s" default
    delivery.settle "60s" default
    delivery.timeout "20s" default
    delivery.unresolved_after "24h" default
    http.allow_group_readable false default
    http.allowed_hosts [] default
    http.listen "127.0.0.1:9627" default
    limits.per_bot "600/h" default
    limits.per_bot_and_room "6/10m" default
    limits.per_event 5 default
    log.format "text" default
    log.level "debug" IMBABOT__LOG__LEVEL
    poll.baseline true default
    poll.gone_after 3 default
    poll.max_body "512MiB" default
    poll.quiet_max "0s" default
    poll.rooms "5s" default
    poll.timeout "30s" default
    poll.users "60s" default
    schedule.s.catch_up_max 10 default
    schedule.s.dst.gap "shift" default
    schedule.s.dst.repeat "first" default
    schedule.s.enabled true default
    schedule.s.every "1m" imbabot.toml:11
    schedule.s.except [] default
    schedule.s.expires_after "1h" default
    schedule.s.grace "60s" default
    schedule.s.id "s" imbabot.toml:10
    schedule.s.jitter "0s" default
    schedule.s.misfire "skip" default
    schedule.s.overlap "skip" default
    schedule.s.rooms {"all":true} imbabot.toml:12
    schedule.s.text "Hi" imbabot.toml:13
    schedule.s.timezone "UTC" default
    store.allow_group_readable false default
    store.bodies "full" default
    store.kind "sqlite" default
    store.lease "10s" default
    store.path "imbabot.db" default
    store.retention "30d" default
    store.unsafe_durability false default
    widget.main.allow_group_readable false default
    widget.main.allow_insecure_http false default
    widget.main.base_url "https://api.imbachat.com" default
    widget.main.foreign_markup "neutralize" default
    widget.main.id 627 imbabot.toml:2
    widget.main.name "main" default
    widget.main.rooms_auth "basic" default
    widget.main.secret_key "***" secret_key
    widget.main.secret_key_file "secret_key" imbabot.toml:4
    widget.main.sender 1 imbabot.toml:3
    "#);
}
