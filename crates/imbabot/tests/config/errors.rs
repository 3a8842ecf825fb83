//! What people read when a file is wrong.

use crate::support::{Folder, SECRET, WIDGET, codes};

fn errors(text: &str) -> String {
    Folder::new().errors(&format!("{WIDGET}{text}"))
}

fn schedule(lines: &str) -> String {
    format!("[[schedule]]\nid = \"s\"\nrooms = {{ all = true }}\ntext = \"Hi\"\n{lines}\n")
}

#[test]
fn ten_mistakes_in_one_file_are_ten_located_errors() {
    let folder = Folder::new();
    let text = r#"[[widget]]
id = 627
sendr = 1
base_url = "https://me:hunter2@api.imbachat.com"
secret_key_file = "secret_key"

[poll]
rooms = 5
users = "1w"

[delivery]
rate = "10"
policy = "exactly_once"

[[schedule]]
id = "standup"
cron = "0 25 * * MON-FRI"
timezone = "Europe/Berln"
rooms = { nmae = "^Team" }
text = """
Good morning,
{{ room.nmae }}!"""

[[bot]]
name = "greeter"
kind = "greter"
widgets = ["mian"]
"#;
    let problems = folder.load(text).unwrap_err();
    assert!(problems.errors.len() >= 10);
    assert!(problems.errors.iter().all(|e| e.line.is_some() && e.column.is_some()));
    let shown = folder.shown(&problems);
    assert!(!shown.contains("hunter2"));
    insta::assert_snapshot!(shown, @"");
}

#[test]
fn an_error_is_a_json_object_with_its_place() {
    let folder = Folder::new();
    let problems = folder.load(&format!("{WIDGET}[poll]\nroms = \"5s\"\n")).unwrap_err();
    let json = folder.without_folder(&problems.errors_json().to_string());
    insta::assert_snapshot!(json, @"");
}

#[test]
fn a_mistake_of_syntax_has_a_line_and_does_not_hide_the_others() {
    insta::assert_snapshot!(errors("[poll]\nrooms = 5s\n[delivery]\nrate = \"fast\"\n"), @"");
}

#[test]
fn a_value_of_the_wrong_kind_names_the_key_and_what_was_expected() {
    insta::assert_snapshot!(errors(
        "[poll]\nrooms = \"5\"\nusers = \"-5s\"\ngone_after = \"3\"\nbaseline = \"yes\"\ntimeout = nan\nmax_body = 5\n\
         [delivery]\nconcurrency = -1\nmax_text = \"1.5KiB\"\nrate = \"0/s\"\nnot_applied_statuses = [429, 200]\n\
         backoff = { min = \"2m\", max = \"1m\" }\n"
    ), @"");
}

#[test]
fn polling_down_to_a_tenth_of_a_second_is_accepted_and_no_further() {
    let with = |rooms: &str| Folder::new().load(&format!("{WIDGET}[poll]\nrooms = \"{rooms}\"\n"));
    assert!(with("100ms").is_ok());
    assert_eq!(codes(&with("99ms").unwrap_err()), ["IMB-C-013 6:9"]);
    assert!(with("0s").is_err());
}

#[test]
fn a_name_given_twice_shows_both_places() {
    let twice = "[[schedule]]\nid = \"a\"\nevery = \"1h\"\nrooms = { all = true }\ntext = \"x\"\n";
    insta::assert_snapshot!(errors(&format!("{twice}{twice}")), @"");
}

#[test]
fn bots_and_widgets_have_one_name_each() {
    let bot = "[[bot]]\nname = \"b\"\nkind = \"quiet\"\n";
    assert_eq!(Folder::new().codes(&format!("{WIDGET}{bot}{bot}")), ["IMB-C-015 9:8"]);
    let widget = WIDGET.replace("id =", "name = \"w\"\nid =");
    let codes = Folder::new().codes(&format!("{widget}{widget}"));
    assert_eq!(codes, ["IMB-C-015 7:8"]);
}

#[test]
fn the_column_of_a_cron_mistake_lies_inside_the_text() {
    insta::assert_snapshot!(errors(&schedule("cron = \"0  9 * * MON-FRY\"")), @"");
    insta::assert_snapshot!(errors(&schedule("cron = \"0 0 30 2 *\"")), @"");
    insta::assert_snapshot!(errors(&schedule("cron = '''0 9 * *'''")), @"");
}

#[test]
fn a_schedule_has_one_time_and_one_text() {
    insta::assert_snapshot!(errors(
        "[[schedule]]\nid = \"s\"\ncron = \"0 9 * * *\"\nevery = \"1h\"\nrooms = {}\n"
    ), @"");
    assert_eq!(
        Folder::new().codes(&format!("{WIDGET}[[schedule]]\n")),
        ["IMB-C-014 5:1"; 4],
        "id, time, rooms, text"
    );
}

#[test]
fn jitter_is_shorter_than_the_shortest_period() {
    insta::assert_snapshot!(errors(&schedule("every = \"1m\"\njitter = \"1m\"")), @"");
}

#[test]
fn dates_and_times_are_local_ones() {
    insta::assert_snapshot!(errors(&schedule(
        "at = \"2026-12-24T18:00:00Z\"\nexcept = [\"25.12.2026\", 2026-12-26]"
    )), @"");
    insta::assert_snapshot!(errors(&schedule("at = 2026-12-24T18:00:00")), @"");
}

#[test]
fn a_selector_is_checked_condition_by_condition() {
    let rooms = |rooms: &str| {
        errors(&format!(
            "[[schedule]]\nid = \"s\"\nevery = \"1h\"\ntext = \"x\"\nrooms = {rooms}\n"
        ))
    };
    insta::assert_snapshot!(rooms("{ name = \"(\", kind = \"confrence\", ids = [1, -2] }"), @"");
    insta::assert_snapshot!(rooms("{ all = true, public = true }"), @"");
    insta::assert_snapshot!(rooms("\"all\""), @"");
}

#[test]
fn a_template_is_checked_when_it_is_loaded_at_its_own_line() {
    let text = |text: &str| {
        errors(&format!(
            "[[schedule]]\nid = \"s\"\nevery = \"1h\"\nrooms = {{ all = true }}\ntext = {text}\n"
        ))
    };
    insta::assert_snapshot!(text("\"Hello {{ room.nmae }}\""), @"");
    insta::assert_snapshot!(text("\"\"\"\nHello,\n{{ room.name | shout }}\n\"\"\""), @"");
    insta::assert_snapshot!(text("\"{{ room.name\""), @"");
}

#[test]
fn a_mistake_in_a_template_file_is_shown_in_that_file() {
    let folder = Folder::new().file("hello.txt", "Hello,\n{{ rom.name }}!\n", 0o644);
    let text = schedule("every = \"1h\"").replace("text = \"Hi\"", "template_file = \"hello.txt\"");
    insta::assert_snapshot!(folder.errors(&format!("{WIDGET}{text}")), @"");
}

#[test]
fn a_base_url_is_an_address_and_nothing_else() {
    for (url, plain) in [
        ("https://u:hunter2@api.imbachat.com", false),
        ("https://api.imbachat.com?k=hunter2", false),
        ("https://api.imbachat.com#hunter2", false),
        ("ftp://api.imbachat.com", true),
        ("https://", true),
        ("api.imbachat.com", true),
        ("http://api.imbachat.com", true),
        ("https://169.254.169.254", true),
        ("https://[fe80::1]", true),
    ] {
        let folder = Folder::new();
        let shown = folder.errors(&format!("{WIDGET}base_url = \"{url}\"\n"));
        assert!(shown.contains("IMB-C-031") && shown.contains("imbabot.toml:5:12"), "{shown}");
        assert!(plain || !shown.contains("hunter2"), "{shown}");
    }
    insta::assert_snapshot!(errors("base_url = \"http://api.imbachat.com\"\n"), @"");
    let allowed =
        format!("{WIDGET}base_url = \"http://api.imbachat.com\"\nallow_insecure_http = true\n");
    let warnings = Folder::new().load(&allowed).unwrap().warnings;
    assert_eq!(warnings.len(), 1);
    assert_eq!(warnings[0].code.as_str(), "IMB-C-101");
}

#[test]
fn http_beyond_this_machine_wants_a_token() {
    insta::assert_snapshot!(errors("[http]\nlisten = \"0.0.0.0:9627\"\n"), @"");
    insta::assert_snapshot!(errors("[http]\nlisten = \"9627\"\nallowed_hosts = [\"http://x\"]\n"), @"");
    let folder = Folder::new().file("token", "0123456789abcdef0123456789abcdef\n", 0o600);
    let text = format!("{WIDGET}[http]\nlisten = \"0.0.0.0:9627\"\ntoken_file = \"token\"\n");
    let loaded = folder.load(&text).unwrap();
    assert!(loaded.config.http.token.is_some());
    assert_eq!(loaded.warnings[0].code.as_str(), "IMB-C-105");
    assert!(
        Folder::new()
            .load(&format!("{WIDGET}[http]\nlisten = \"off\"\n"))
            .unwrap()
            .config
            .http
            .listen
            .is_none()
    );
}

#[test]
fn a_bot_is_of_a_known_kind_and_its_settings_are_asked() {
    insta::assert_snapshot!(errors(
        "[[bot]]\nname = \"a\"\nkind = \"greter\"\n\
         [[bot]]\nname = \"b\"\nkind = \"greeter\"\nsettings = { greting = \"x\" }\n\
         [[bot]]\nname = \"c\"\nkind = \"greeter\"\n"
    ), @"");
}

#[test]
fn a_widget_that_does_not_exist_is_named() {
    insta::assert_snapshot!(errors(&schedule("every = \"1h\"\nwidgets = [\"mian\"]")), @"");
}

#[test]
fn only_one_kind_of_store_is_there() {
    insta::assert_snapshot!(errors("[store]\nkind = \"postgres\"\nurl_file = \"x\"\n"), @"");
}

#[test]
fn sections_and_lists_of_sections_are_told_apart() {
    insta::assert_snapshot!(errors("[schedule]\nid = \"x\"\n[[poll]]\nrooms = \"5s\"\n[[widgets]]\nid = 1\n"), @"");
}

#[test]
fn a_key_in_the_wrong_section_is_sent_to_the_right_one() {
    insta::assert_snapshot!(errors("[log]\ngone_after = 3\n"), @"");
}

#[test]
fn an_empty_file_says_what_is_required() {
    insta::assert_snapshot!(Folder::new().errors(""), @"");
}

#[test]
fn a_file_that_is_none_is_named() {
    let folder = Folder::new().file("latin", b"a = \"\xe9\"\n", 0o644);
    let folder = folder.file("huge", vec![b'#'; (16 << 20) + 1], 0o644);
    std::fs::create_dir(folder.path("dir")).unwrap();
    let shown: String = ["missing.toml", "dir", "latin", "huge"]
        .iter()
        .map(|name| folder.shown(&folder.load_file(name).unwrap_err()))
        .collect();
    insta::assert_snapshot!(shown, @"");
}

#[test]
fn a_level_of_the_log_is_a_level() {
    insta::assert_snapshot!(errors("[log]\nlevel = \"inof\"\nformat = \"xml\"\n"), @"");
    for level in ["debug", "info,imbabot=trace", "off"] {
        assert!(Folder::new().load(&format!("{WIDGET}[log]\nlevel = \"{level}\"\n")).is_ok());
    }
}

#[test]
fn a_past_time_is_a_note() {
    let text = format!("{WIDGET}{}", schedule("at = \"2020-01-01T00:00:00\""));
    let folder = Folder::new();
    let loaded = folder.load(&text).unwrap();
    let now = imbabot_core::Timestamp::from_seconds(1_800_000_000);
    let notes: String = loaded.past(now).iter().map(|note| note.render(false)).collect();
    insta::assert_snapshot!(folder.without_folder(&notes), @"");
    assert!(loaded.past(imbabot_core::Timestamp::EPOCH).is_empty());
}

#[test]
fn hostile_files_end_in_errors() {
    for text in [
        "a".repeat(100_000),
        "[".repeat(10_000),
        format!("a = {}", "[".repeat(10_000)),
        "a.".repeat(10_000),
        "\u{1b}[2J = 1\n".to_owned(),
        "\"\\u001b[2J\" = 1\n".to_owned(),
        "x = \"\"\"".to_owned(),
        "\0\0\0".to_owned(),
        "= = =\n".repeat(1000),
    ] {
        let problems = Folder::new().load(&text).unwrap_err();
        let shown = problems.render(false);
        assert!(!shown.contains('\u{1b}'), "{shown}");
    }
}

#[test]
fn every_key_is_read_and_a_wrong_type_is_found_at_it() {
    use imbabot::config::keys::{SECTIONS, Shape};
    for section in SECTIONS {
        for key in section.keys {
            // A number fits these.
            let wrong = match key.shape {
                Shape::Count(..) | Shape::User | Shape::RoomKind => "[true]",
                _ => "7",
            };
            let header = match (section.name, section.named_by) {
                ("widget", _) => String::new(),
                (name, Some(_)) => format!("[[{name}]]\n"),
                (name, None) => format!("[{name}]\n"),
            };
            let others = WIDGET.lines().filter(|line| !line.starts_with(&format!("{} ", key.name)));
            let widget: Vec<&str> = others.collect();
            let widget = if section.name == "widget" { widget.join("\n") } else { WIDGET.into() };
            let text = format!("{widget}\n{header}{} = {wrong}\n", key.name);
            let line = text.lines().count();
            let problems = Folder::new().load(&text).unwrap_err();
            let found = problems.errors.iter().any(|e| e.line == Some(line));
            assert!(found, "{}.{}: {problems}", section.name, key.name);
            assert!(!problems.to_string().contains(SECRET));
        }
    }
}
