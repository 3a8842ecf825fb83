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
    insta::assert_snapshot!(shown, @r#"
    error[IMB-C-014]: `widget.main.sender` is missing
     --> imbabot.toml:1:1
      |
    1 | [[widget]]
      | ^^^^^^^^^^
      |
      = help: it is the site's own number of the user as whom the bots speak (in WordPress: the user_id in the address of Users > Edit), not ImbaChat's

    error[IMB-C-011]: unknown key `widget.main.sendr`
     --> imbabot.toml:3:1
      |
    3 | sendr = 1
      | ^^^^^
      |
      = help: did you mean `sender`?

    error[IMB-C-031]: `widget.main.base_url`: a URL with a user name or password is not accepted
     --> imbabot.toml:4:12
      |
    4 | base_url = "https://***@api.imbachat.com"
      |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = help: put the secret in secret_key_file

    error[IMB-C-012]: `poll.rooms`: expected a length of time such as "5s", found the number 5
     --> imbabot.toml:8:9
      |
    8 | rooms = 5
      |         ^
      |
      = help: a length of time carries a unit: write "5s"

    error[IMB-C-013]: `poll.users`: "1w" is not a length of time: the unit is unknown
     --> imbabot.toml:9:9
      |
    9 | users = "1w"
      |         ^^^^
      |
      = help: write a number with a unit, as "500ms", "5s", "2m", "1h" or "7d"

    error[IMB-C-013]: `delivery.rate`: "10" is not a rate: the '/' is missing
      --> imbabot.toml:12:8
       |
    12 | rate = "10"
       |        ^^^^
       |
       = help: write it as "5/s", "60/m", "600/h" or "6/10m"

    error[IMB-C-013]: `delivery.policy`: expected "at_most_once" or "at_least_once", found "exactly_once"
      --> imbabot.toml:13:10
       |
    13 | policy = "exactly_once"
       |          ^^^^^^^^^^^^^^
       |
       = help: give a value of the form, or in the range, that the message names

    error[IMB-C-050]: `schedule.standup.cron`: the hour field "25" cannot be read: 25 is not between 0 and 23
      --> imbabot.toml:17:11
       |
    17 | cron = "0 25 * * MON-FRI"
       |           ^^
       |
       = help: the fields are minute, hour, day of month, month, day of week: "0 9 * * MON-FRI"; with six, seconds stand first

    error[IMB-C-051]: `schedule.standup.timezone`: unknown time zone "Europe/Berln"
      --> imbabot.toml:18:12
       |
    18 | timezone = "Europe/Berln"
       |            ^^^^^^^^^^^^^^
       |
       = help: did you mean "Europe/Berlin"?

    error[IMB-C-011]: unknown key `schedule.standup.rooms.nmae`
      --> imbabot.toml:19:11
       |
    19 | rooms = { nmae = "^Team" }
       |           ^^^^
       |
       = help: did you mean `name`?

    error[IMB-C-053]: `schedule.standup.text`: unknown variable `room.nmae`
      --> imbabot.toml:22:4
       |
    22 | {{ room.nmae }}!"""
       |    ^^^^^^^^^
       |
       = help: known are room.id, room.name, room.kind, schedule.id, occurrence.id, occurrence.at

    error[IMB-C-060]: `bot.greeter.kind`: no bot of the kind "greter" is built in
      --> imbabot.toml:26:8
       |
    26 | kind = "greter"
       |        ^^^^^^^^
       |
       = help: did you mean "greeter"? known are caller, greeter, quiet, rules

    error[IMB-C-032]: `bot.greeter.widgets`: no [[widget]] has the name "mian"
      --> imbabot.toml:27:12
       |
    27 | widgets = ["mian"]
       |            ^^^^^^
       |
       = help: did you mean "main"?

    13 errors
    "#);
}

#[test]
fn no_problem_is_without_a_hint() {
    for text in [
        "a =",
        "[poll]\nrooms = nan\n",
        "[poll]\nusers = \"-5s\"\n",
        "[delivery]\npolicy = \"exactly_once\"\n",
        "[store]\nkind = \"postgres\"\n",
        "[[bot]]\nname = \"a\"\nkind = \"greeter\"\n",
        &schedule("cron = \"0 0 30 2 *\""),
        &schedule("every = \"1m\"\njitter = \"1m\""),
    ] {
        let problems = Folder::new().load(&format!("{WIDGET}{text}")).unwrap_err();
        assert!(problems.errors.iter().all(|e| e.hint.is_some()), "{problems}");
        assert!(problems.errors.iter().all(|e| e.line.is_some()), "{problems}");
    }
    assert!(Folder::new().load_file("missing").unwrap_err().errors[0].hint.is_some());
}

#[test]
fn an_error_is_a_json_object_with_its_place() {
    let folder = Folder::new();
    let problems = folder.load(&format!("{WIDGET}[poll]\nroms = \"5s\"\n")).unwrap_err();
    let json = folder.without_folder(&problems.errors_json().to_string());
    insta::assert_snapshot!(json, @r#"[{"code":"IMB-C-011","message":"unknown key `poll.roms`","file":"imbabot.toml","line":6,"column":1,"hint":"did you mean `rooms`?"}]"#);
}

#[test]
fn a_mistake_of_syntax_has_a_line_and_does_not_hide_the_others() {
    insta::assert_snapshot!(errors("[poll]\nrooms = 5s\n[delivery]\nrate = \"fast\"\n"), @r#"
    error[IMB-C-010]: not TOML: string values must be quoted, expected literal string
     --> imbabot.toml:6:9
      |
    6 | rooms = 5s
      |         ^^
      |
      = help: correct the line: texts stand in quotes, and what is opened is closed; the other lines are checked as far as they can be read

    error[IMB-C-013]: `delivery.rate`: "fast" is not a rate: the '/' is missing
     --> imbabot.toml:8:8
      |
    8 | rate = "fast"
      |        ^^^^^^
      |
      = help: write it as "5/s", "60/m", "600/h" or "6/10m"

    2 errors
    "#);
}

#[test]
fn a_value_of_the_wrong_kind_names_the_key_and_what_was_expected() {
    insta::assert_snapshot!(errors(
        "[poll]\nrooms = \"5\"\nusers = \"-5s\"\ngone_after = \"3\"\nbaseline = \"yes\"\ntimeout = nan\nmax_body = 5\n\
         [delivery]\nconcurrency = -1\nmax_text = \"1.5KiB\"\nrate = \"0/s\"\nnot_applied_statuses = [429, 200]\n\
         backoff = { min = \"2m\", max = \"1m\" }\n"
    ), @r#"
    error[IMB-C-013]: `poll.rooms`: "5" is not a length of time: the unit is missing
     --> imbabot.toml:6:9
      |
    6 | rooms = "5"
      |         ^^^
      |
      = help: write a number with a unit, as "500ms", "5s", "2m", "1h" or "7d"

    error[IMB-C-013]: `poll.users`: "-5s" is not a length of time: it is negative
     --> imbabot.toml:7:9
      |
    7 | users = "-5s"
      |         ^^^^^
      |
      = help: write a number with a unit, as "5s"

    error[IMB-C-012]: `poll.gone_after`: expected a whole number, found the text "3"
     --> imbabot.toml:8:14
      |
    8 | gone_after = "3"
      |              ^^^
      |
      = help: write 3 without quotes

    error[IMB-C-012]: `poll.baseline`: expected true or false, found the text "yes"
     --> imbabot.toml:9:12
      |
    9 | baseline = "yes"
      |            ^^^^^
      |
      = help: write true or false, without quotes

    error[IMB-C-012]: `poll.timeout`: expected a length of time such as "5s", found the number NaN
      --> imbabot.toml:10:11
       |
    10 | timeout = nan
       |           ^^^
       |
       = help: write the value as the message says: durations, sizes and rates are texts with a unit, numbers and `true` stand without quotes

    error[IMB-C-012]: `poll.max_body`: expected a size such as "32MiB", found the number 5
      --> imbabot.toml:11:12
       |
    11 | max_body = 5
       |            ^
       |
       = help: a size carries a unit: write "5B" or "5KiB"

    error[IMB-C-013]: `delivery.concurrency`: -1 is out of range: expected 1 to 1024
      --> imbabot.toml:13:15
       |
    13 | concurrency = -1
       |               ^^
       |
       = help: give a value of the form, or in the range, that the message names

    error[IMB-C-013]: `delivery.max_text`: "1.5KiB" is not a size: only whole numbers are read
      --> imbabot.toml:14:12
       |
    14 | max_text = "1.5KiB"
       |            ^^^^^^^^
       |
       = help: write it as "16KiB", "32MiB" or "1GiB"

    error[IMB-C-013]: `delivery.rate`: "0/s" is not a rate: it would let nothing pass
      --> imbabot.toml:15:8
       |
    15 | rate = "0/s"
       |        ^^^^^
       |
       = help: write it as "5/s", "60/m", "600/h" or "6/10m"

    error[IMB-C-013]: `delivery.not_applied_statuses`: 200 is out of range: expected 400 to 599
      --> imbabot.toml:16:30
       |
    16 | not_applied_statuses = [429, 200]
       |                              ^^^
       |
       = help: give a value of the form, or in the range, that the message names

    error[IMB-C-013]: `delivery.backoff`: min (2m) is longer than max (1m)
      --> imbabot.toml:17:19
       |
    17 | backoff = { min = "2m", max = "1m" }
       |                   ^^^^
       |
       = help: the wait grows from min to max: max is the longer one

    11 errors
    "#);
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
    insta::assert_snapshot!(errors(&format!("{twice}{twice}")), @r#"
    error[IMB-C-015]: two schedules have the id "a"
      --> imbabot.toml:11:6
       |
    11 | id = "a"
       |      ^^^ the second
       |
      ::: imbabot.toml:6:6
       |
     6 | id = "a"
       |      --- the first
       |
       = help: give one of the two another name; what the store remembers belongs to the name that stays

    1 error
    "#);
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
    insta::assert_snapshot!(errors(&schedule("cron = \"0  9 * * MON-FRY\"")), @r#"
    error[IMB-C-050]: `schedule.s.cron`: the day of week field "MON-FRY" cannot be read: "FRY" is no number, and no name such as SUN
     --> imbabot.toml:9:18
      |
    9 | cron = "0  9 * * MON-FRY"
      |                  ^^^^^^^
      |
      = help: the fields are minute, hour, day of month, month, day of week: "0 9 * * MON-FRI"; with six, seconds stand first

    1 error
    "#);
    insta::assert_snapshot!(errors(&schedule("cron = \"0 0 30 2 *\"")), @r#"
    error[IMB-C-050]: `schedule.s.cron`: the expression fits no date of any year, so it would never fire
     --> imbabot.toml:9:13
      |
    9 | cron = "0 0 30 2 *"
      |             ^^
      |
      = help: choose days that the chosen months have

    1 error
    "#);
    insta::assert_snapshot!(errors(&schedule("cron = '''0 9 * *'''")), @r#"
    error[IMB-C-050]: `schedule.s.cron`: a cron expression has 5 fields (minute hour day-of-month month day-of-week), or 6 with seconds first; this has 4
     --> imbabot.toml:9:11
      |
    9 | cron = '''0 9 * *'''
      |           ^
      |
      = help: the fields are minute, hour, day of month, month, day of week: "0 9 * * MON-FRI"; with six, seconds stand first

    1 error
    "#);
}

#[test]
fn a_schedule_has_one_time_and_one_text() {
    insta::assert_snapshot!(errors(
        "[[schedule]]\nid = \"s\"\ncron = \"0 9 * * *\"\nevery = \"1h\"\nrooms = {}\n"
    ), @r#"
    error[IMB-C-014]: `schedule.s` says no text
     --> imbabot.toml:5:1
      |
    5 | [[schedule]]
      | ^^^^^^^^^^^^
      |
      = help: give text = "Good morning!" or template_file

    error[IMB-C-017]: `schedule.s` has both `cron` and `every`
     --> imbabot.toml:8:9
      |
    8 | every = "1h"
      |         ^^^^
      |
     ::: imbabot.toml:7:8
      |
    7 | cron = "0 9 * * *"
      |        ----------- the other time
      |
      = help: keep exactly one of cron, every, at

    error[IMB-C-052]: `schedule.s.rooms` has no condition
     --> imbabot.toml:9:9
      |
    9 | rooms = {}
      |         ^^
      |
      = help: give at least one of ids, name, kind, public (joined by AND), or all = true

    3 errors
    "#);
    assert_eq!(
        Folder::new().codes(&format!("{WIDGET}[[schedule]]\n")),
        ["IMB-C-014 5:1"; 4],
        "id, time, rooms, text"
    );
}

#[test]
fn jitter_is_shorter_than_the_shortest_period() {
    insta::assert_snapshot!(errors(&schedule("every = \"1m\"\njitter = \"1m\"")), @r#"
    error[IMB-C-054]: `schedule.s.jitter` (1m) must be shorter than the shortest period of the schedule (1m)
      --> imbabot.toml:10:10
       |
    10 | jitter = "1m"
       |          ^^^^
       |
       = help: give a shorter jitter

    1 error
    "#);
}

#[test]
fn dates_and_times_are_local_ones() {
    insta::assert_snapshot!(errors(&schedule(
        "at = \"2026-12-24T18:00:00Z\"\nexcept = [\"25.12.2026\", 2026-12-26]"
    )), @r#"
    error[IMB-C-013]: `schedule.s.at`: "2026-12-24T18:00:00Z" is not a local date and time
     --> imbabot.toml:9:6
      |
    9 | at = "2026-12-24T18:00:00Z"
      |      ^^^^^^^^^^^^^^^^^^^^^^
      |
      = help: write it as 2026-12-24T18:00:00, without an offset: the zone is the schedule's `timezone`

    error[IMB-C-013]: `schedule.s.except`: "25.12.2026" is not a date
      --> imbabot.toml:10:11
       |
    10 | except = ["25.12.2026", 2026-12-26]
       |           ^^^^^^^^^^^^
       |
       = help: write it as 2026-12-25

    2 errors
    "#);
    insta::assert_snapshot!(errors(&schedule("at = 2026-12-24T18:00:00")), @r#"
    error[IMB-C-012]: `schedule.s.at`: expected a text such as "2026-12-24T18:00:00", found a date without quotes
     --> imbabot.toml:9:6
      |
    9 | at = 2026-12-24T18:00:00
      |      ^^^^^^^^^^^^^^^^^^^
      |
      = help: write "2026-12-24T18:00:00" in quotes

    1 error
    "#);
}

#[test]
fn a_selector_is_checked_condition_by_condition() {
    let rooms = |rooms: &str| {
        errors(&format!(
            "[[schedule]]\nid = \"s\"\nevery = \"1h\"\ntext = \"x\"\nrooms = {rooms}\n"
        ))
    };
    insta::assert_snapshot!(rooms("{ name = \"(\", kind = \"confrence\", ids = [1, -2] }"), @r#"
    error[IMB-C-052]: `schedule.s.rooms.name`: "(" is not a regular expression: unclosed group
     --> imbabot.toml:9:18
      |
    9 | rooms = { name = "(", kind = "confrence", ids = [1, -2] }
      |                  ^^^
      |
      = help: give at least one of `ids`, `name`, `kind`, `public`, or `all = true` alone; a `name` is a regular expression

    error[IMB-C-013]: `schedule.s.rooms.kind`: "confrence" is no kind of room: dialogue, conference, support or a number
     --> imbabot.toml:9:30
      |
    9 | rooms = { name = "(", kind = "confrence", ids = [1, -2] }
      |                              ^^^^^^^^^^^
      |
      = help: did you mean "conference"?

    error[IMB-C-013]: `schedule.s.rooms.ids`: -2 is out of range: expected 1 or more
     --> imbabot.toml:9:53
      |
    9 | rooms = { name = "(", kind = "confrence", ids = [1, -2] }
      |                                                     ^^
      |
      = help: give a value of the form, or in the range, that the message names

    3 errors
    "#);
    insta::assert_snapshot!(rooms("{ all = true, public = true }"), @"
    error[IMB-C-052]: `schedule.s.rooms.all` goes with no other condition
     --> imbabot.toml:9:17
      |
    9 | rooms = { all = true, public = true }
      |                 ^^^^
      |
      = help: drop `all`, or the other conditions

    1 error
    ");
    insta::assert_snapshot!(rooms("\"all\""), @r#"
    error[IMB-C-012]: `schedule.s.rooms`: expected a selection of rooms such as { kind = "conference" } or { all = true }, found the text "all"
     --> imbabot.toml:9:9
      |
    9 | rooms = "all"
      |         ^^^^^
      |
      = help: write the value as the message says: durations, sizes and rates are texts with a unit, numbers and `true` stand without quotes

    1 error
    "#);
}

#[test]
fn a_template_is_checked_when_it_is_loaded_at_its_own_line() {
    let text = |text: &str| {
        errors(&format!(
            "[[schedule]]\nid = \"s\"\nevery = \"1h\"\nrooms = {{ all = true }}\ntext = {text}\n"
        ))
    };
    insta::assert_snapshot!(text("\"Hello {{ room.nmae }}\""), @r#"
    error[IMB-C-053]: `schedule.s.text`: unknown variable `room.nmae`
     --> imbabot.toml:9:18
      |
    9 | text = "Hello {{ room.nmae }}"
      |                  ^^^^^^^^^
      |
      = help: known are room.id, room.name, room.kind, schedule.id, occurrence.id, occurrence.at

    1 error
    "#);
    insta::assert_snapshot!(text("\"\"\"\nHello,\n{{ room.name | shout }}\n\"\"\""), @r"
    error[IMB-C-053]: `schedule.s.text`: unknown filter: filter shout is unknown
      --> imbabot.toml:11:1
       |
    11 | {{ room.name | shout }}
       | ^^^^^^^^^^^^^^^^^^^^^^^
       |
       = help: the template language is that of minijinja, and the variables are those that docs/announcements.md and docs/bots.md list

    1 error
    ");
    insta::assert_snapshot!(text("\"{{ room.name\""), @r#"
    error[IMB-C-053]: `schedule.s.text`: syntax error: unexpected end of input, expected end of variable block
     --> imbabot.toml:9:8
      |
    9 | text = "{{ room.name"
      |        ^^^^^^^^^^^^^^
      |
      = help: the template language is that of minijinja, and the variables are those that docs/announcements.md and docs/bots.md list

    1 error
    "#);
}

#[test]
fn a_mistake_in_a_template_file_is_shown_in_that_file() {
    let folder = Folder::new().file("hello.txt", "Hello,\n{{ rom.name }}!\n", 0o644);
    let text = schedule("every = \"1h\"").replace("text = \"Hi\"", "template_file = \"hello.txt\"");
    insta::assert_snapshot!(folder.errors(&format!("{WIDGET}{text}")), @r"
    error[IMB-C-053]: `schedule.s.template_file`: unknown variable `rom.name`
     --> hello.txt:2:4
      |
    2 | {{ rom.name }}!
      |    ^^^^^^^^
      |
      = help: known are room.id, room.name, room.kind, schedule.id, occurrence.id, occurrence.at

    1 error
    ");
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
    insta::assert_snapshot!(errors("base_url = \"http://api.imbachat.com\"\n"), @r#"
    error[IMB-C-031]: `widget.main.base_url`: plain http would send the secret key unencrypted to api.imbachat.com
     --> imbabot.toml:5:12
      |
    5 | base_url = "http://api.imbachat.com"
      |            ^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = help: use https, or set allow_insecure_http = true

    1 error
    "#);
    let allowed =
        format!("{WIDGET}base_url = \"http://api.imbachat.com\"\nallow_insecure_http = true\n");
    let warnings = Folder::new().load(&allowed).unwrap().warnings;
    assert_eq!(warnings.len(), 1);
    assert_eq!(warnings[0].code.as_str(), "IMB-C-101");
}

#[test]
fn http_beyond_this_machine_wants_a_token() {
    insta::assert_snapshot!(errors("[http]\nlisten = \"0.0.0.0:9627\"\n"), @r#"
    error[IMB-C-080]: `http.listen`: 0.0.0.0:9627 can be reached from other machines, and no token is asked for
     --> imbabot.toml:6:10
      |
    6 | listen = "0.0.0.0:9627"
      |          ^^^^^^^^^^^^^^
      |
      = help: set token_file, or listen on 127.0.0.1

    1 error
    "#);
    insta::assert_snapshot!(errors("[http]\nlisten = \"9627\"\nallowed_hosts = [\"http://x\"]\n"), @r#"
    error[IMB-C-080]: `http.listen`: "9627" is no IP address with a port
     --> imbabot.toml:6:10
      |
    6 | listen = "9627"
      |          ^^^^^^
      |
      = help: write it as "127.0.0.1:9627" or "[::1]:9627", or "off"

    error[IMB-C-013]: `http.allowed_hosts`: "http://x" is no host name
     --> imbabot.toml:7:18
      |
    7 | allowed_hosts = ["http://x"]
      |                  ^^^^^^^^^^
      |
      = help: a name or an address as in the Host header, without http://

    2 errors
    "#);
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
    ), @r#"
    error[IMB-C-060]: `bot.a.kind`: no bot of the kind "greter" is built in
     --> imbabot.toml:7:8
      |
    7 | kind = "greter"
      |        ^^^^^^^^
      |
      = help: did you mean "greeter"? known are caller, greeter, quiet, rules

    error[IMB-C-061]: `bot.b.settings`: unknown field `greting`, expected `greeting`
      --> imbabot.toml:11:14
       |
    11 | settings = { greting = "x" }
       |              ^^^^^^^
       |
       = help: change the settings as the bot says

    error[IMB-C-061]: `bot.c.settings`: missing field `greeting`
      --> imbabot.toml:12:1
       |
    12 | [[bot]]
       | ^^^^^^^
       |
       = help: change the settings as the bot says

    3 errors
    "#);
}

#[test]
fn a_widget_that_does_not_exist_is_named() {
    insta::assert_snapshot!(errors(&schedule("every = \"1h\"\nwidgets = [\"mian\"]")), @r#"
    error[IMB-C-032]: `schedule.s.widgets`: no [[widget]] has the name "mian"
      --> imbabot.toml:10:12
       |
    10 | widgets = ["mian"]
       |            ^^^^^^
       |
       = help: did you mean "main"?

    1 error
    "#);
}

#[test]
fn sections_and_lists_of_sections_are_told_apart() {
    insta::assert_snapshot!(errors("[schedule]\nid = \"x\"\n[[poll]]\nrooms = \"5s\"\n[[widgets]]\nid = 1\n"), @r"
    error[IMB-C-012]: expected [[schedule]] entries, found a table
     --> imbabot.toml:5:1
      |
    5 | [schedule]
      | ^^^^^^^^^^
      |
      = help: write [[schedule]] with double brackets: there can be several

    error[IMB-C-012]: expected a section [poll], found a list
     --> imbabot.toml:7:1
      |
    7 | [[poll]]
      | ^^^^^^^^
      |
      = help: write [poll] once, with single brackets

    error[IMB-C-011]: unknown key `widgets`
     --> imbabot.toml:9:3
      |
    9 | [[widgets]]
      |   ^^^^^^^
      |
      = help: did you mean `widget`?

    3 errors
    ");
}

#[test]
fn a_key_in_the_wrong_section_is_sent_to_the_right_one() {
    insta::assert_snapshot!(errors("[log]\ngone_after = 3\n"), @r"
    error[IMB-C-011]: unknown key `log.gone_after`
     --> imbabot.toml:6:1
      |
    6 | gone_after = 3
      | ^^^^^^^^^^
      |
      = help: `gone_after` belongs into [poll]

    1 error
    ");
}

#[test]
fn an_empty_file_says_what_is_required() {
    insta::assert_snapshot!(Folder::new().errors(""), @r"
    error[IMB-C-030]: no [[widget]] is configured
     --> imbabot.toml:1:1
      |
    1 |
      | ^
      |
      = help: add [[widget]] with id, sender and secret_key_file; config/minimal.toml shows how

    1 error
    ");
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
    insta::assert_snapshot!(shown, @"
    error[IMB-C-001]: the configuration missing.toml does not exist
    --> missing.toml
     = help: create the file, or correct the path; relative paths start at the folder of the file that names them

    1 error
    error[IMB-C-002]: the configuration dir is a directory
    --> dir
     = help: give a file that the user imbabot runs as can read

    1 error
    error[IMB-C-003]: the configuration latin is not UTF-8: the first wrong byte is in line 1
    --> latin
     = help: save the file as UTF-8

    1 error
    error[IMB-C-004]: the configuration huge is larger than 16 MiB
    --> huge
     = help: check that it is the right file: none has more than 16 MiB

    1 error
    ");
}

#[test]
fn a_level_of_the_log_is_a_level() {
    insta::assert_snapshot!(errors("[log]\nlevel = \"inof\"\nformat = \"xml\"\n"), @r#"
    error[IMB-C-013]: `log.level`: "inof" is neither a level nor a filter
     --> imbabot.toml:6:9
      |
    6 | level = "inof"
      |         ^^^^^^
      |
      = help: did you mean "info"?

    error[IMB-C-013]: `log.format`: expected "text" or "json", found "xml"
     --> imbabot.toml:7:10
      |
    7 | format = "xml"
      |          ^^^^^
      |
      = help: give a value of the form, or in the range, that the message names

    2 errors
    "#);
    for level in ["debug", "info,imbabot=trace", "off"] {
        assert!(Folder::new().load(&format!("{WIDGET}[log]\nlevel = \"{level}\"\n")).is_ok());
    }
}

#[test]
fn the_odd_days_of_the_next_year_are_notes() {
    let rule = "cron = \"30 2 * * *\"\ntimezone = \"Europe/Berlin\"\ndst = { repeat = \"both\" }";
    let text = format!("{WIDGET}{}", schedule(rule));
    let folder = Folder::new();
    let loaded = folder.load(&text).unwrap();
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let notes = loaded.odd_days(now);
    let notes: Vec<String> = notes.iter().map(|note| note.render(false)).collect();
    insta::assert_snapshot!(folder.without_folder(&notes.join("\n")), @r#"
    warning[IMB-C-108]: `schedule.s.cron`: 2026-03-29 02:30:00 does not exist in Europe/Berlin; it comes at 2026-03-29 03:00:00 CEST (`dst.gap` is "shift")
     --> imbabot.toml:9:8
      |
    9 | cron = "30 2 * * *"
      |        ^^^^^^^^^^^^
      |
      = help: choose another time, or what happens then with `dst`; `imbabot plan` shows the day
    warning[IMB-C-108]: `schedule.s.cron`: 2026-10-25 02:30:00 comes twice in Europe/Berlin; it comes on both passes (`dst.repeat` is "both")
     --> imbabot.toml:9:8
      |
    9 | cron = "30 2 * * *"
      |        ^^^^^^^^^^^^
      |
      = help: choose another time, or what happens then with `dst`; `imbabot plan` shows the day
    "#);
    let later = "2026-11-01T00:00:00Z".parse().unwrap();
    assert_eq!(loaded.odd_days(later).len(), 2, "always the next twelve months");
}

#[test]
fn a_past_time_is_a_note() {
    let text = format!("{WIDGET}{}", schedule("at = \"2020-01-01T00:00:00\""));
    let folder = Folder::new();
    let loaded = folder.load(&text).unwrap();
    let now = imbabot_core::Timestamp::from_seconds(1_800_000_000);
    let notes: String = loaded.past(now).iter().map(|note| note.render(false)).collect();
    insta::assert_snapshot!(folder.without_folder(&notes), @r#"
    warning[IMB-C-107]: `schedule.s.at` is past: it will not fire again
     --> imbabot.toml:9:6
      |
    9 | at = "2020-01-01T00:00:00"
      |      ^^^^^^^^^^^^^^^^^^^^^
      |
      = help: remove the schedule, or give it another time
    "#);
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
