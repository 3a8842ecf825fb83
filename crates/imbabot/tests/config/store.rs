//! `[store]`: the kinds of stores, and the URL of a database, which is a secret.

use std::time::Duration;

use imbabot::config::{
    Environment, LoadOptions, StorePlace, load_for_store, load_without_secrets, show, show_json,
    show_text,
};

use crate::support::{Folder, WIDGET, codes, kinds};

const URL: &str = "postgres://imbabot:hunter2@db.example:5432/imbabot";
const POSTGRES: &str = "[store]\nkind = \"postgres\"\nurl_file = \"database_url\"\n";

fn with(store: &str) -> String {
    format!("{WIDGET}{store}")
}

fn folder() -> Folder {
    Folder::new().file("database_url", format!("{URL}\n"), 0o600)
}

#[test]
fn a_kind_of_store_that_does_not_exist_is_named() {
    insta::assert_snapshot!(Folder::new().errors(&with("[store]\nkind = \"mysql\"\nurl_file = \"x\"\n")), @r#"
    error[IMB-C-070]: `store.kind`: there is no kind of store "mysql"
     --> imbabot.toml:6:8
      |
    6 | kind = "mysql"
      |        ^^^^^^^
      |
      = help: use `kind = "sqlite"`, a file of this machine, or `kind = "postgres"`, a server

    1 error
    "#);
    insta::assert_snapshot!(Folder::new().errors(&with("[store]\nkind = \"postgresql\"\n")), @r#"
    error[IMB-C-070]: `store.kind`: there is no kind of store "postgresql"
     --> imbabot.toml:6:8
      |
    6 | kind = "postgresql"
      |        ^^^^^^^^^^^^
      |
      = help: did you mean "postgres"?

    1 error
    "#);
    assert_eq!(Folder::new().codes(&with("[store]\nkind = 7\n")), ["IMB-C-012 6:8"]);
}

#[test]
fn a_server_is_read_with_its_defaults() {
    let loaded = folder().load(&with(POSTGRES)).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert_eq!(loaded.config.store.file(), None);
    let StorePlace::Server(server) = &loaded.config.store.place else { panic!("no server") };
    assert_eq!(server.url.expose(), URL);
    assert_eq!(server.lease, Duration::from_secs(10));
    assert_eq!((&server.instance, server.unsafe_durability), (&None, false));
    assert_eq!(loaded.config.store.place.to_string(), "PostgreSQL on db.example");
    let more = format!("{POSTGRES}lease = \"2s\"\ninstance = \"blue\"\nunsafe_durability = true\n");
    let loaded = folder().load(&with(&more)).unwrap();
    let StorePlace::Server(server) = &loaded.config.store.place else { panic!("no server") };
    assert_eq!((server.lease, server.unsafe_durability), (Duration::from_secs(2), true));
    assert_eq!(server.instance.as_deref(), Some("blue"));
}

#[test]
fn a_server_without_a_url_is_an_error_with_its_place() {
    insta::assert_snapshot!(Folder::new().errors(&with("[store]\nkind = \"postgres\"\n")), @r#"
    error[IMB-C-041]: `store.kind`: no URL of a PostgreSQL server is given
     --> imbabot.toml:6:8
      |
    6 | kind = "postgres"
      |        ^^^^^^^^^^
      |
      = help: name a file that holds it in url_file, or set IMBABOT_DATABASE_URL; it is written postgres://user:password@host:5432/database, and signs such as / @ # ? in the password as %2F %40 %23 %3F

    1 error
    "#);
    insta::assert_snapshot!(Folder::new().errors(&with(POSTGRES)), @r#"
    error[IMB-C-041]: `store.url_file`: database_url does not exist
     --> imbabot.toml:7:12
      |
    7 | url_file = "database_url"
      |            ^^^^^^^^^^^^^^
      |
      = help: write the secret into it and run: chmod 600 database_url

    1 error
    "#);
    let folder = Folder::new().variable("IMBABOT__STORE__KIND", "postgres");
    insta::assert_snapshot!(folder.errors(WIDGET), @r"
    error[IMB-C-041]: `store.kind` (from IMBABOT__STORE__KIND): no URL of a PostgreSQL server is given
     |
     = help: name a file that holds it in url_file, or set IMBABOT_DATABASE_URL; it is written postgres://user:password@host:5432/database, and signs such as / @ # ? in the password as %2F %40 %23 %3F

    1 error
    ");
}

#[test]
fn a_url_that_others_can_read_is_refused_as_other_secrets_are() {
    let exposed = Folder::new().file("database_url", URL, 0o640);
    insta::assert_snapshot!(exposed.errors(&with(POSTGRES)), @r#"
    error[IMB-C-043]: `store.url_file`: database_url can be read by group or others
     --> imbabot.toml:7:12
      |
    7 | url_file = "database_url"
      |            ^^^^^^^^^^^^^^
      |
      = help: run: chmod 600 database_url; a container's mount is accepted with allow_group_readable = true

    1 error
    "#);
    let lenient = format!("{POSTGRES}allow_group_readable = true\n");
    assert!(exposed.load(&with(&lenient)).unwrap().warnings.is_empty());
    assert!(exposed.load(&format!("allow_group_readable = true\n{}", with(POSTGRES))).is_ok());
    let directory = exposed.path("").display().to_string();
    assert!(exposed.variable("CREDENTIALS_DIRECTORY", &directory).load(&with(POSTGRES)).is_ok());
}

#[test]
fn a_url_of_another_shape_is_refused_and_not_repeated() {
    for url in ["", "mysql://u:hunter2@h/d", "host=h password=hunter2", "postgres://u:hunter2@"] {
        let folder = Folder::new().file("database_url", url, 0o600);
        assert_eq!(folder.codes(&with(POSTGRES)), ["IMB-C-071 7:12"], "{url}");
        assert!(!folder.errors(&with(POSTGRES)).contains("hunter2"), "{url}");
    }
    let folder = Folder::new().file("database_url", "postgres://u:hun/ter2@h/d", 0o600);
    insta::assert_snapshot!(folder.errors(&with(POSTGRES)), @r#"
    error[IMB-C-071]: database_url: the URL of the database has no host where one should stand
     --> imbabot.toml:7:12
      |
    7 | url_file = "database_url"
      |            ^^^^^^^^^^^^^^
      |
      = help: it is written postgres://user:password@host:5432/database, and signs such as / @ # ? in the password as %2F %40 %23 %3F

    1 error
    "#);
    let folder = Folder::new().variable("IMBABOT_DATABASE_URL", "mysql://u:hunter2@h/d");
    insta::assert_snapshot!(folder.errors(&with("[store]\nkind = \"postgres\"\n")), @r"
    error[IMB-C-071]: IMBABOT_DATABASE_URL: the URL of the database does not begin with postgres:// or postgresql://
     |
     = help: it is written postgres://user:password@host:5432/database, and signs such as / @ # ? in the password as %2F %40 %23 %3F

    1 error
    ");
}

#[test]
fn the_variable_goes_before_the_file() {
    let origin = |folder: &Folder| {
        let loaded = folder.load(&with(POSTGRES)).unwrap();
        folder.without_folder(&show(&loaded)["store.url"].1)
    };
    assert_eq!(origin(&folder()), "database_url");
    let folder = Folder::new().variable("IMBABOT_DATABASE_URL", URL);
    assert_eq!(origin(&folder), "IMBABOT_DATABASE_URL", "the file is not looked at");
}

#[test]
fn no_part_of_a_url_is_shown() {
    let loaded = folder().load(&with(POSTGRES)).unwrap();
    for shown in [show_text(&loaded), show_json(&loaded).to_string(), format!("{loaded:?}")] {
        assert!(!shown.contains("hunter2") && !shown.contains("db.example"), "{shown}");
    }
    assert_eq!(show(&loaded)["store.url"].0, "***");
}

#[test]
fn a_url_in_the_file_or_under_another_variable_is_refused_and_not_repeated() {
    for line in [
        "url = \"postgres://u:hunter2@h/d\"",
        "url = \"postgres:/u:hunter2@h/d\"",
        "database_url = \"host=h pass=hunter2\"",
        "dsn = hunter2",
    ] {
        let problems = folder().load(&with(&format!("{POSTGRES}{line}\n"))).unwrap_err();
        for shown in [problems.render(true), problems.to_string(), format!("{problems:?}")] {
            assert!(!shown.contains("hunter2"), "{line}: {shown}");
        }
        assert_eq!(problems.errors[0].line, Some(8), "{line}");
    }
    let text = with(&format!("{POSTGRES}url = \"{URL}\"\n"));
    insta::assert_snapshot!(folder().errors(&text), @r"
    error[IMB-C-040]: `store.url`: a secret is never written into this file
     --> imbabot.toml:8:1
      |
    8 | url = ***
      | ^^^ remove this, and change the secret if others saw it
      |
      = help: put it into a file of its own, `chmod 600` it and name it in url_file, or set IMBABOT_DATABASE_URL

    1 error
    ");
    let folder = folder().variable("IMBABOT__STORE__URL", URL);
    insta::assert_snapshot!(folder.errors(&with(POSTGRES)), @r"
    error[IMB-C-040]: the environment variable IMBABOT__STORE__URL would give a secret, which is not read from there
     |
     = help: name a file that holds it in url_file, or set IMBABOT_DATABASE_URL

    1 error
    ");
}

#[test]
fn keys_of_the_other_kind_are_warned_about() {
    let warned = |folder: &Folder, store: &str| -> String {
        let loaded = folder.load(&with(store)).unwrap();
        let one = |warning: &imbabot::config::Problem| format!("{warning}\n");
        loaded.warnings.iter().map(one).map(|line| folder.without_folder(&line)).collect()
    };
    let of_postgres = "[store]\nurl_file = \"x\"\nallow_group_readable = true\nlease = \"5s\"\n\
                       instance = \"blue\"\nunsafe_durability = true\n";
    insta::assert_snapshot!(warned(&folder(), of_postgres), @r#"
    IMB-C-106 imbabot.toml:6:12: `store.url_file` has no effect with kind = "sqlite" (remove it)
    IMB-C-106 imbabot.toml:7:24: `store.allow_group_readable` has no effect with kind = "sqlite" (remove it)
    IMB-C-106 imbabot.toml:8:9: `store.lease` has no effect with kind = "sqlite" (remove it)
    IMB-C-106 imbabot.toml:9:12: `store.instance` has no effect with kind = "sqlite" (remove it)
    IMB-C-106 imbabot.toml:10:21: `store.unsafe_durability` has no effect with kind = "sqlite" (remove it)
    "#);
    insta::assert_snapshot!(warned(&folder(), &format!("{POSTGRES}path = \"imbabot.db\"\n")), @r#"IMB-C-106 imbabot.toml:8:8: `store.path` has no effect with kind = "postgres" (remove it)"#);
    let folder = folder().variable("IMBABOT_DATABASE_URL", URL);
    insta::assert_snapshot!(warned(&folder, ""), @r#"IMB-C-106 IMBABOT_DATABASE_URL has no effect with kind = "sqlite" (remove it)"#);
    let folder = folder.variable("IMBABOT__STORE__PATH", "imbabot.db");
    insta::assert_snapshot!(warned(&folder, POSTGRES), @r#"IMB-C-106 `store.path` (from IMBABOT__STORE__PATH) has no effect with kind = "postgres" (remove it)"#);
}

#[test]
fn a_lease_and_a_name_out_of_bounds_are_refused() {
    let of = |line: &str| folder().codes(&with(&format!("{POSTGRES}{line}\n")));
    for lease in ["1999ms", "6m", "0s"] {
        assert_eq!(of(&format!("lease = \"{lease}\"")), ["IMB-C-013 8:9"], "{lease}");
    }
    for name in [String::new(), "\\n".into(), "x".repeat(65)] {
        assert_eq!(of(&format!("instance = \"{name}\"")), ["IMB-C-013 8:12"], "{name}");
    }
}

#[test]
fn a_verb_that_asks_the_store_needs_the_url_and_no_key() {
    let of = |folder: &Folder, by: fn(&LoadOptions<'_>) -> _| {
        std::fs::write(folder.path("imbabot.toml"), with(POSTGRES)).unwrap();
        let kinds = kinds();
        by(&LoadOptions {
            config_path: Some(folder.path("imbabot.toml")),
            flags: Vec::new(),
            environment: Environment::empty(),
            kinds: &kinds,
        })
    };
    let folder = folder();
    std::fs::remove_file(folder.path("secret_key")).unwrap();
    let loaded = of(&folder, load_for_store).unwrap();
    let StorePlace::Server(server) = &loaded.config.store.place else { panic!("no server") };
    assert_eq!(server.url.expose(), URL);
    std::fs::remove_file(folder.path("database_url")).unwrap();
    assert_eq!(codes(&of(&folder, load_for_store).unwrap_err()), ["IMB-C-041 7:12"]);
    assert!(of(&folder, load_without_secrets).is_ok());
}
