//! Sixty files that people write: each is refused with 78 before anything is opened, by `check` and by
//! `run` alike, with the place and with what to do.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod support;

use support::{Home, end_of};

const WIDGET: &str = "[[widget]]
id = 627
base_url = \"http://127.0.0.1:9\"
secret_key_file = \"secret_key\"
sender = 1
";

/// What follows a good widget.
const AFTER_THE_WIDGET: &[&str] = &[
    // No TOML.
    "[poll",
    "[poll]\nrooms = 5s",
    "[poll]\nrooms = \"5s",
    "[poll]\nrooms = \"5s\"\nrooms = \"6s\"",
    "[poll]\nrooms = \"5s\"\n[poll]\nusers = \"5s\"",
    "= 5",
    // Keys and sections that do not exist.
    "[pol]\nrooms = \"5s\"",
    "[poll]\nroms = \"5s\"",
    "[poll]\nrate = \"5/s\"",
    "[[poll]]\nrooms = \"5s\"",
    "[delivery.backof]\nmin = \"1s\"",
    // Types, units, ranges.
    "[poll]\nrooms = 5",
    "[poll]\nrooms = \"5\"",
    "[poll]\nrooms = \"-5s\"",
    "[poll]\nrooms = nan",
    "[poll]\nrooms = \"1ms\"",
    "[poll]\nbaseline = \"yes\"",
    "[poll]\ngone_after = 0",
    "[poll]\nmax_body = \"much\"",
    "[delivery]\nrate = \"10\"",
    "[delivery]\nrate = \"0/s\"",
    "[delivery]\npolicy = \"exactly_once\"",
    "[delivery]\nbackoff = { min = \"2m\", max = \"1m\" }",
    "[delivery]\nnot_applied_statuses = [200]",
    "[delivery]\nconcurrency = -1",
    "[limits]\nper_bot = \"600\"",
    "[store]\nkind = \"mysql\"",
    "[store]\nretention = \"1m\"",
    "[http]\nlisten = \"localhost\"",
    "[http]\nlisten = \"0.0.0.0:9627\"",
    "[log]\nlevel = \"loud\"",
    "[log]\nformat = \"xml\"",
    // Schedules.
    "[[schedule]]\nid = \"a\"\nrooms = { all = true }\ntext = \"x\"",
    "[[schedule]]\nid = \"a\"\ncron = \"0 9 * *\"\nrooms = { all = true }\ntext = \"x\"",
    "[[schedule]]\nid = \"a\"\ncron = \"0 25 * * *\"\nrooms = { all = true }\ntext = \"x\"",
    "[[schedule]]\nid = \"a\"\ncron = \"0 0 30 2 *\"\nrooms = { all = true }\ntext = \"x\"",
    "[[schedule]]\nid = \"a\"\ncron = \"0 9 * * *\"\nevery = \"1h\"\nrooms = { all = true }\ntext = \"x\"",
    "[[schedule]]\nid = \"a\"\nevery = \"1h\"\ntimezone = \"Europe/Berln\"\nrooms = { all = true }\ntext = \"x\"",
    "[[schedule]]\nid = \"a\"\nat = \"2026-02-30T09:00:00\"\nrooms = { all = true }\ntext = \"x\"",
    "[[schedule]]\nid = \"A b\"\nevery = \"1h\"\nrooms = { all = true }\ntext = \"x\"",
    "[[schedule]]\nid = \"a\"\nevery = \"1h\"\ntext = \"x\"",
    "[[schedule]]\nid = \"a\"\nevery = \"1h\"\nrooms = {}\ntext = \"x\"",
    "[[schedule]]\nid = \"a\"\nevery = \"1h\"\nrooms = { name = \"(\" }\ntext = \"x\"",
    "[[schedule]]\nid = \"a\"\nevery = \"1h\"\nrooms = { all = true, ids = [1] }\ntext = \"x\"",
    "[[schedule]]\nid = \"a\"\nevery = \"1h\"\nrooms = { all = true }\ntext = \"{{ room.nmae }}\"",
    "[[schedule]]\nid = \"a\"\nevery = \"1h\"\nrooms = { all = true }\ntext = \"{{ room.name\"",
    "[[schedule]]\nid = \"a\"\nevery = \"1h\"\nrooms = { all = true }",
    "[[schedule]]\nid = \"a\"\nevery = \"1h\"\nrooms = { all = true }\ntemplate_file = \"nowhere.txt\"",
    "[[schedule]]\nid = \"a\"\nevery = \"1m\"\njitter = \"2m\"\nrooms = { all = true }\ntext = \"x\"",
    "[[schedule]]\nid = \"a\"\nevery = \"1h\"\nrooms = { all = true }\ntext = \"x\"\nwidgets = [\"mian\"]",
    "[[schedule]]\nid = \"a\"\nevery = \"1h\"\nrooms = { all = true }\ntext = \"x\"\nmisfire = \"later\"",
    "[[schedule]]\nid = \"a\"\nevery = \"1h\"\nrooms = { all = true }\ntext = \"x\"\nexcept = [\"25.12.\"]",
    // Bots.
    "[[bot]]\nname = \"a\"\nkind = \"greter\"\nsettings = { greeting = \"x\" }",
    "[[bot]]\nname = \"a\"\nkind = \"greeter\"",
    "[[bot]]\nname = \"a\"\nkind = \"greeter\"\nsettings = { greting = \"x\" }",
    "[[bot]]\nname = \"a\"\nkind = \"greeter\"\nsettings = { greeting = \"{{ rom.name }}\" }",
    "[[bot]]\nname = \"a\"\nkind = \"rules\"\nsettings = { when = \"opend\", text = \"x\" }",
    "[[bot]]\nname = \"a\"\nkind = \"rules\"\nsettings = { when = \"gone\", text = \"x\" }",
    "[[bot]]\nname = \"a\"\nkind = \"rules\"",
    "[[bot]]\nname = \"a\"\nkind = \"rules\"\nsettings = { when = \"opened\", text = \"x\" }\n\
     [[bot]]\nname = \"a\"\nkind = \"rules\"\nsettings = { when = \"opened\", text = \"y\" }",
    "[[bot]]\nname = \"a\"\nkind = \"rules\"\ntimeout = \"0s\"\nsettings = { when = \"opened\", text = \"x\" }",
    // Widgets.
    "[[widget]]\nid = 628\nsecret_key_file = \"secret_key\"\nsender = 1",
];

/// What stands instead of the widget's lines.
const WIDGETS: &[(&str, &str)] = &[
    ("id = 627\n", ""),
    ("id = 627", "id = \"627\""),
    ("id = 627", "id = 0"),
    ("sender = 1\n", ""),
    ("sender = 1", "sender = -1"),
    ("127.0.0.1:9", "chat.example"),
    ("http://127.0.0.1:9", "https://me:word@api.imbachat.com"),
    ("http://127.0.0.1:9", "https://api.imbachat.com/?a=1"),
    ("http://127.0.0.1:9", "https://api.imbachat.com/#a"),
    ("http://127.0.0.1:9", "ftp://api.imbachat.com"),
    ("http://127.0.0.1:9", "https://169.254.169.254"),
    ("http://127.0.0.1:9", "https://"),
    ("secret_key_file = \"secret_key\"", "secret_key = \"word\""),
    ("secret_key_file = \"secret_key\"\n", ""),
    ("secret_key_file = \"secret_key\"", "secret_key_file = \"nowhere\""),
    ("secret_key_file = \"secret_key\"", "secret_key_file = \"empty\""),
    ("secret_key_file = \"secret_key\"", "secret_key_file = \"placeholder\""),
    ("secret_key_file = \"secret_key\"", "secret_key_file = \"for_all\""),
    ("sender = 1", "sender = 1\nrooms_auth = \"digest\""),
    ("sender = 1", "sender = 1\nca_file = \"nowhere.pem\""),
];

#[test]
fn more_than_fifty_broken_configurations_are_each_refused_located_and_with_a_hint() {
    let home = Home::new("http://127.0.0.1:9", "");
    home.write("empty", "", 0o600);
    home.write("placeholder", "secret_key", 0o600);
    home.write("for_all", "Tr0ub4dor-and-3", 0o644);
    let after = AFTER_THE_WIDGET.iter().map(|more| format!("{WIDGET}{more}\n"));
    let instead = WIDGETS.iter().map(|(this, that)| {
        let text = WIDGET.replace(this, that);
        assert_ne!(text, WIDGET, "{this}");
        text
    });
    let files: Vec<String> = after.chain(instead).collect();
    assert!(files.len() >= 50, "{}", files.len());
    home.write("imbabot.toml", WIDGET, 0o600);
    home.imbabot(&["check"]).expect(0);

    let told_by = |words: &[&str], text: &str| {
        let mut command = home.command(words);
        command.current_dir(home.folder());
        let end = end_of(command, "");
        assert_eq!(end.code, Some(78), "{words:?} of\n{text}\n{end:?}");
        end
    };
    for text in &files {
        home.write("imbabot.toml", text, 0o600);
        let told = told_by(&["check", "--json"], text).json();
        assert_eq!(told["ok"], false, "{text}");
        let errors = told["errors"].as_array().unwrap();
        assert!(!errors.is_empty(), "{text}");
        for error in errors {
            assert!(error["code"].as_str().unwrap().starts_with("IMB-C-"), "{text}: {error}");
            assert!(error["line"].is_u64() && error["column"].is_u64(), "{text}: {error}");
            assert!(error["file"].is_string(), "{text}: {error}");
            assert!(error["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{text}: {error}");
        }
        assert!(!told.to_string().contains("word\\\""), "a secret is repeated: {told}");
        let run = told_by(&["run"], text);
        assert!(run.stderr.contains("= help: "), "{text}: {}", run.stderr);
        assert!(!home.path("imbabot.db").exists(), "nothing was opened for\n{text}");
    }
}

#[test]
fn a_file_that_is_none_is_refused_with_its_path() {
    let home = Home::new("http://127.0.0.1:9", "");
    home.write("binary", [0xff, 0xfe, 0x00], 0o600);
    std::fs::create_dir(home.path("folder")).unwrap();
    home.write("nothing", "", 0o600);
    for name in ["missing", "folder", "binary", "nothing"] {
        let file = home.path(name);
        let mut command = support::program(&["check", "--json", "--config"]);
        command.arg(&file);
        let told = end_of(command, "").expect(78).json();
        assert!(told["errors"].to_string().contains(name), "{told}");
        assert!(told["errors"][0]["hint"].is_string(), "{told}");
    }
}
