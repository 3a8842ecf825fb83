//! Where secrets may come from, and that they never come out again.

use crate::support::{Folder, SECRET, WIDGET, codes};

#[test]
fn a_secret_that_others_can_read_is_refused_with_what_to_run() {
    let folder = Folder::new().file("secret_key", SECRET, 0o640);
    let shown = folder.errors(WIDGET);
    assert!(!shown.contains(SECRET));
    insta::assert_snapshot!(shown, @r#"
    error[IMB-C-043]: `widget.main.secret_key_file`: secret_key can be read by group or others
     --> imbabot.toml:4:19
      |
    4 | secret_key_file = "secret_key"
      |                   ^^^^^^^^^^^^
      |
      = help: run: chmod 600 secret_key; a container's mount is accepted with allow_group_readable = true

    1 error
    "#);
}

#[test]
fn a_container_mount_and_systemd_are_exceptions() {
    let folder = Folder::new().file("secret_key", SECRET, 0o644);
    assert!(folder.load(&format!("{WIDGET}allow_group_readable = true\n")).is_ok());
    assert!(folder.load(&format!("allow_group_readable = true\n{WIDGET}")).is_ok());
    let directory = folder.path("").display().to_string();
    assert!(folder.variable("CREDENTIALS_DIRECTORY", &directory).load(WIDGET).is_ok());
    let elsewhere = Folder::new().file("secret_key", SECRET, 0o644);
    assert!(elsewhere.variable("CREDENTIALS_DIRECTORY", "/nowhere").load(WIDGET).is_err());
}

#[test]
fn no_secret_an_empty_one_and_a_placeholder_are_refused() {
    let bare = "[[widget]]\nid = 627\nsender = 1\n";
    insta::assert_snapshot!(Folder::new().errors(bare), @r#"
    error[IMB-C-041]: no secret key is given for the widget "main"
     --> imbabot.toml:1:1
      |
    1 | [[widget]]
      | ^^^^^^^^^^
      |
      = help: name a file that holds it in secret_key_file, or set IMBABOT_SECRET_KEY; it is the "Secret key" of the widget in the ImbaChat dashboard

    1 error
    "#);
    insta::assert_snapshot!(Folder::new().errors(&format!("{bare}secret_key_file = \"none\"\n")), @r#"
    error[IMB-C-041]: `widget.main.secret_key_file`: none does not exist
     --> imbabot.toml:4:19
      |
    4 | secret_key_file = "none"
      |                   ^^^^^^
      |
      = help: write the secret into it and run: chmod 600 none

    1 error
    "#);
    let folder = Folder::new().file("secret_key", "\n", 0o600);
    insta::assert_snapshot!(folder.errors(WIDGET), @r#"
    error[IMB-C-042]: secret_key: the secret key is empty
     --> imbabot.toml:4:19
      |
    4 | secret_key_file = "secret_key"
      |                   ^^^^^^^^^^^^
      |
      = help: it is the "Secret key" of the widget in the ImbaChat dashboard

    1 error
    "#);
    let folder = Folder::new().file("secret_key", "secret_key\n", 0o600);
    insta::assert_snapshot!(folder.errors(WIDGET), @r#"
    error[IMB-C-042]: secret_key: the secret key is still the placeholder of an example
     --> imbabot.toml:4:19
      |
    4 | secret_key_file = "secret_key"
      |                   ^^^^^^^^^^^^
      |
      = help: copy the real one from the ImbaChat dashboard

    1 error
    "#);
    let folder = Folder::new().variable("IMBABOT_SECRET_KEY", "");
    assert_eq!(codes(&folder.load(bare).unwrap_err()), ["IMB-C-042 -:-"]);
    let folder = Folder::new();
    std::fs::create_dir(folder.path("dir")).unwrap();
    assert_eq!(folder.codes(&format!("{bare}secret_key_file = \"dir\"\n")), ["IMB-C-044 4:19"]);
}

#[test]
fn a_secret_in_the_file_is_an_error_that_does_not_repeat_it() {
    for line in [
        "secret_key = \"hunter2\"",
        "secret_key = hunter2",
        "secret_key = \"hunter2",
        "secret = 'hunter2'",
        "password = \"hunter2\"",
        "secert_key = \"hunter2\"",
        "secret_key = \"\"\"\nhunter2\n\"\"\"",
        "secret_key =\n\"hunter2\"",
        "secret_key = [\"hunter2\"]",
        "secret_key = { main = \"hunter2\" }",
    ] {
        let problems = Folder::new().load(&format!("{WIDGET}{line}\n")).unwrap_err();
        for shown in [problems.render(true), problems.to_string(), format!("{problems:?}")] {
            assert!(!shown.contains("hunter2"), "{line}: {shown}");
        }
        assert!(!problems.errors_json().to_string().contains("hunter2"));
        assert_eq!(problems.errors[0].line, Some(5), "{line}");
    }
    insta::assert_snapshot!(Folder::new().errors(&format!("{WIDGET}secret_key = \"hunter2\"\n")), @r"
    error[IMB-C-040]: `widget.main.secret_key`: a secret is never written into this file
     --> imbabot.toml:5:1
      |
    5 | secret_key = ***
      | ^^^^^^^^^^ remove this, and change the secret if others saw it
      |
      = help: put it into a file of its own, `chmod 600` it and name it in secret_key_file, or set IMBABOT_SECRET_KEY

    1 error
    ");
    insta::assert_snapshot!(Folder::new().errors(&format!("{WIDGET}[http]\ntoken = \"hunter2\"\n")), @r"
    error[IMB-C-040]: `http.token`: a secret is never written into this file
     --> imbabot.toml:6:1
      |
    6 | token = ***
      | ^^^^^ remove this, and change the secret if others saw it
      |
      = help: name a file that holds it in token_file

    1 error
    ");
}

#[test]
fn a_variable_goes_before_the_file_and_the_named_one_before_the_common_one() {
    let origin = |folder: &Folder, text: &str, name: &str| {
        let loaded = folder.load(text).unwrap();
        let shown = imbabot::config::show(&loaded);
        folder.without_folder(&shown[&format!("widget.{name}.secret_key")].1)
    };
    let folder = Folder::new();
    assert_eq!(origin(&folder, WIDGET, "main"), "secret_key");
    let folder = folder.variable("IMBABOT_SECRET_KEY", SECRET);
    assert_eq!(origin(&folder, WIDGET, "main"), "IMBABOT_SECRET_KEY");
    // With several widgets the common variable is for those without a file of their own.
    let two = format!(
        "{}[[widget]]\nname = \"b-c\"\nid = 2\nsender = 1\n",
        WIDGET.replace("id =", "name = \"a\"\nid =")
    );
    assert_eq!(origin(&folder, &two, "a"), "secret_key");
    assert_eq!(origin(&folder, &two, "b-c"), "IMBABOT_SECRET_KEY");
    let folder = folder.variable("IMBABOT_SECRET_KEY_B_C", SECRET);
    assert_eq!(origin(&folder, &two, "b-c"), "IMBABOT_SECRET_KEY_B_C");
}

#[test]
fn a_secret_for_nobody_is_a_warning() {
    let folder = Folder::new().variable("IMBABOT_SECRET_KEY_MIAN", SECRET);
    let warnings = folder.load(WIDGET).unwrap().warnings;
    let shown: String = warnings.iter().map(|warning| warning.render(false)).collect();
    assert!(!shown.contains(SECRET));
    insta::assert_snapshot!(shown, @r"
    warning[IMB-C-102]: IMBABOT_SECRET_KEY_MIAN belongs to no widget
     |
     = help: the last part of the variable is a widget's name in upper case
    ");
}

#[test]
fn a_bot_that_refuses_its_settings_does_not_repeat_the_secrets_in_them() {
    let with = |settings: &str| {
        let bot = format!("[[bot]]\nname = \"a\"\nkind = \"caller\"\nsettings = {settings}\n");
        Folder::new().errors(&format!("{WIDGET}{bot}"))
    };
    for settings in
        ["{ api_token = \"hunter2\" }", "{ api_token = 12344321 }", "{ tokens = [\"hunter2\"] }"]
    {
        let shown = with(settings);
        assert!(shown.contains("IMB-C-061") && shown.contains("***"), "{shown}");
        assert!(!shown.contains("hunter2") && !shown.contains("12344321"), "{shown}");
    }
}

#[test]
fn a_token_is_guarded_like_a_secret() {
    let text = format!("{WIDGET}[http]\ntoken_file = \"token\"\n");
    let folder = Folder::new().file("token", "0123456789abcdef0123456789abcdef", 0o644);
    assert_eq!(folder.codes(&text), ["IMB-C-043 6:14"]);
    let folder = folder.file("token", "hunter2", 0o600);
    let loaded = folder.load(&text).unwrap();
    assert_eq!(loaded.warnings[0].code.as_str(), "IMB-C-103");
    assert!(!format!("{loaded:?}").contains("hunter2"));
    assert_eq!(folder.file("token", "", 0o600).codes(&text), ["IMB-C-042 6:14"]);
}
