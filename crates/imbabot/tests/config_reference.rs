//! The sample in `config/`, the book's page of keys and the list of codes say what the program
//! says. With `IMBABOT_UPDATE=1` the first two are written anew.

use std::path::PathBuf;

use imbabot::config::keys::{SECTIONS, Shape};
use imbabot::config::{Code, MINIMAL, SAMPLE, reference, schema};

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn update() -> bool {
    std::env::var_os("IMBABOT_UPDATE").is_some()
}

const BEGIN: &str = "<!-- keys: written by the tests -->\n";
const END: &str = "<!-- end of keys -->";

#[test]
fn the_sample_is_what_the_table_of_keys_says() {
    let (sample, _) = reference();
    if update() {
        std::fs::write(repository().join("config/imbabot.toml"), &sample).unwrap();
        return;
    }
    assert_eq!(SAMPLE, sample, "run the tests once with IMBABOT_UPDATE=1");
}

#[test]
fn the_schema_beside_the_sample_is_what_the_program_prints() {
    let printed = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    let path = repository().join("config/imbabot.schema.json");
    if update() {
        std::fs::write(&path, &printed).unwrap();
        return;
    }
    let hint = SAMPLE.lines().next().unwrap();
    assert_eq!(hint, "#:schema ./imbabot.schema.json", "editors look at the first line");
    let kept = std::fs::read_to_string(&path).unwrap();
    assert_eq!(kept, printed, "run the tests once with IMBABOT_UPDATE=1");
}

#[test]
fn the_book_lists_every_key_as_the_table_has_it() {
    let (_, keys) = reference();
    let path = repository().join("docs/configuration.md");
    let book = std::fs::read_to_string(&path).unwrap();
    let (head, rest) = book.split_once(BEGIN).unwrap();
    let (listed, tail) = rest.split_once(END).unwrap();
    if update() {
        std::fs::write(&path, format!("{head}{BEGIN}\n{keys}\n{END}{tail}")).unwrap();
        return;
    }
    assert_eq!(listed.trim(), keys.trim(), "run the tests once with IMBABOT_UPDATE=1");
}

#[test]
fn the_book_lists_every_code() {
    let book = std::fs::read_to_string(repository().join("docs/errors.md")).unwrap();
    for code in Code::ALL {
        let row = format!("| `{code}` | {} | {} |", code.title(), code.advice());
        assert!(book.contains(&row), "docs/errors.md lacks: {row}");
    }
}

#[test]
fn the_schema_knows_every_key_and_every_default() {
    let schema = schema();
    for section in SECTIONS {
        let mut at = &schema["properties"][section.name];
        if section.named_by.is_some() {
            at = &at["items"];
        }
        assert_eq!(at["additionalProperties"], false, "{}", section.name);
        for key in section.keys {
            let property = &at["properties"][key.name];
            assert!(property.is_object(), "{}.{}", section.name, key.name);
            let plain = !matches!(key.shape, Shape::Table(_));
            assert_eq!(property.get("default").is_some(), key.default.is_some() && plain);
        }
    }
}

#[test]
fn the_minimal_file_has_an_announcement_of_at_most_eight_lines() {
    let (_, announcement) = MINIMAL.split_once("# [[schedule]]").unwrap();
    assert!(announcement.lines().filter(|line| !line.trim().is_empty()).count() <= 8);
}
