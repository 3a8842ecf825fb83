//! The settings of bots without code: as well read as every other key.

use crate::support::{Folder, WIDGET, codes};

fn rules(settings: &str) -> String {
    format!("{WIDGET}[[bot]]\nname = \"porter\"\nkind = \"rules\"\n{settings}\n")
}

#[test]
fn every_mistake_of_every_rule_is_told_at_its_place() {
    let folder = Folder::new();
    let text = rules(
        r#"rooms = { kind = "conference" }
[[bot.settings.rules]]
when = "opend"
text = "Welcome to {{ room.nmae }}!"
after = "1 day"

[[bot.settings.rules]]
when = ["opened", "gone"]
txt = "Gone"
rooms = { nmae = "^Team" }

[[bot.settings.rules]]
when = "opened"
text = """
It is
{{ occurrence.at }}"""
to = "1536""#,
    );
    let problems = folder.load(&text).unwrap_err();
    assert!(problems.errors.iter().all(|e| e.line.is_some() && e.hint.is_some()));
    insta::assert_snapshot!(folder.shown(&problems), @r#"
    error[IMB-C-013]: `bot.porter.settings.rules[1].when`: "opend" is no change of a room
      --> imbabot.toml:10:8
       |
    10 | when = "opend"
       |        ^^^^^^^
       |
       = help: did you mean "opened"?

    error[IMB-C-053]: `bot.porter.settings.rules[1].text`: unknown variable `room.nmae`
      --> imbabot.toml:11:23
       |
    11 | text = "Welcome to {{ room.nmae }}!"
       |                       ^^^^^^^^^
       |
       = help: known are room.id, room.name, room.kind, event.kind, event.change, event.at

    error[IMB-C-013]: `bot.porter.settings.rules[1].after`: "1 day" is not a length of time: the unit is unknown
      --> imbabot.toml:12:9
       |
    12 | after = "1 day"
       |         ^^^^^^^
       |
       = help: write a number with a unit, as "500ms", "5s", "2m", "1h" or "7d"

    error[IMB-C-014]: `bot.porter.settings.rules[2].text` is missing
      --> imbabot.toml:14:1
       |
    14 | [[bot.settings.rules]]
       | ^^^^^^^^^^^^^^^^^^^^^^
       |
       = help: add the key to the section that is shown

    error[IMB-C-017]: `bot.porter.settings.rules[2].when`: a room that is gone cannot be spoken to
      --> imbabot.toml:15:19
       |
    15 | when = ["opened", "gone"]
       |                   ^^^^^^
       |
       = help: say with `to` in which other room it is said: to = 1536

    error[IMB-C-011]: unknown key `bot.porter.settings.rules[2].txt`
      --> imbabot.toml:16:1
       |
    16 | txt = "Gone"
       | ^^^
       |
       = help: did you mean `text`?

    error[IMB-C-011]: unknown key `bot.porter.settings.rules[2].rooms.nmae`
      --> imbabot.toml:17:11
       |
    17 | rooms = { nmae = "^Team" }
       |           ^^^^
       |
       = help: did you mean `name`?

    error[IMB-C-053]: `bot.porter.settings.rules[3].text`: unknown variable `occurrence.at`
      --> imbabot.toml:23:4
       |
    23 | {{ occurrence.at }}"""
       |    ^^^^^^^^^^^^^
       |
       = help: known are room.id, room.name, room.kind, event.kind, event.change, event.at

    error[IMB-C-012]: `bot.porter.settings.rules[3].to`: expected a whole number, found the text "1536"
      --> imbabot.toml:24:6
       |
    24 | to = "1536"
       |      ^^^^^^
       |
       = help: write 1536 without quotes

    9 errors
    "#);
}

#[test]
fn settings_without_a_rule_or_with_two_ways_of_writing_them_are_refused() {
    let folder = Folder::new();
    let told: Vec<String> = [
        "",
        "settings = {}",
        "settings = 5",
        "settings = { rules = [] }",
        "settings = { rules = \"opened\" }",
        "settings = { rules = [1] }",
        "settings = { ruls = [] }",
        "settings = { rules = [{ when = \"opened\", text = \"a\" }], text = \"b\" }",
        "settings = { rules = [{ when = \"opened\", text = \"a\" }], greeting = \"b\" }",
        "settings = { when = [], text = \"a\" }",
        "settings = { when = 1, text = \"a\" }",
        "settings = { when = \"opened\", text = \"  \" }",
        "settings = { when = \"opened\" }",
    ]
    .iter()
    .map(|settings| {
        let problems = folder.load(&rules(settings)).unwrap_err();
        assert!(problems.errors.iter().all(|e| e.line.is_some() && e.hint.is_some()), "{settings}");
        folder.without_folder(&problems.to_string())
    })
    .collect();
    insta::assert_snapshot!(told.join("\n"), @r#"
    IMB-C-014 imbabot.toml:5:1: `bot.porter.settings` has no rule (give { when = "opened", text = "Welcome!" }, or several with [[bot.settings.rules]])
    IMB-C-014 imbabot.toml:5:1: `bot.porter.settings` has no rule (give { when = "opened", text = "Welcome!" }, or several with [[bot.settings.rules]])
    IMB-C-012 imbabot.toml:8:12: `bot.porter.settings`: expected a table, found the number 5 (write the value as the message says: durations, sizes and rates are texts with a unit, numbers and `true` stand without quotes)
    IMB-C-013 imbabot.toml:8:22: `bot.porter.settings.rules` is empty: the bot would never say anything (add a rule, or remove the bot)
    IMB-C-012 imbabot.toml:8:22: `bot.porter.settings.rules`: expected a list, found the text "opened" (write [[bot.settings.rules]] with double brackets: there can be several)
    IMB-C-012 imbabot.toml:8:23: `bot.porter.settings.rules[1]`: expected a rule, found the number 1 (a rule is { when = "opened", text = "Welcome!" })
    IMB-C-014 imbabot.toml:8:12: `bot.porter.settings.when` is missing (when = "opened", say)
    IMB-C-014 imbabot.toml:8:12: `bot.porter.settings.text` is missing (add the key to the section that is shown)
    IMB-C-011 imbabot.toml:8:14: unknown key `bot.porter.settings.ruls` (known are when, rooms, text, after, to)
    IMB-C-017 imbabot.toml:8:57: `bot.porter.settings` has both `rules` and `text` (a single rule needs no `rules`; of several, each has its own)
    IMB-C-011 imbabot.toml:8:57: unknown key `bot.porter.settings.greeting` (known is rules)
    IMB-C-013 imbabot.toml:8:21: `bot.porter.settings.when`: it is empty: the rule would never say anything (when = ["opened", "returned"], say)
    IMB-C-012 imbabot.toml:8:21: `bot.porter.settings.when`: expected one of opened, renamed, kind_changed, status_changed, visibility_changed, admin_changed, touched, gone, returned, or a list of them, found the number 1 (write the value as the message says: durations, sizes and rates are texts with a unit, numbers and `true` stand without quotes)
    IMB-C-053 imbabot.toml:8:38: `bot.porter.settings.text`: the text is empty (write what is to be said)
    IMB-C-014 imbabot.toml:8:12: `bot.porter.settings.text` is missing (add the key to the section that is shown)
    "#);
}

#[test]
fn one_rule_may_stand_in_the_settings_and_be_set_from_the_environment() {
    let text = rules("settings = { when = \"opened\", text = \"Welcome!\" }");
    let folder = Folder::new().variable("IMBABOT__BOT__PORTER__SETTINGS__TEXT", "Hello!");
    let loaded = folder.load(&text).unwrap();
    assert_eq!(loaded.config.bots[0].settings["text"], "Hello!");
    let folder = Folder::new().variable("IMBABOT__BOT__PORTER__SETTINGS__TEXT", "{{ nobody }}");
    let problems = folder.load(&text).unwrap_err();
    assert!(problems.to_string().contains("IMBABOT__BOT__PORTER__SETTINGS__TEXT"), "{problems}");
}

#[test]
fn whatever_the_check_lets_pass_is_a_bot() {
    // The check reads the file, the bot the settings: neither may accept what the other refuses.
    let words = ["when = \"opened\"", "when = [\"gone\", \"touched\"]", "when = \"never\"", ""];
    let texts = ["text = \"{{ event.at }}\"", "text = \"{{ schedule.id }}\"", "text = \"\"", ""];
    let more = ["", "after = \"1h\"", "after = \"-1h\"", "to = 7", "to = 0", "rooms = {}", "x = 1"];
    let mut accepted = 0;
    for (when, text, more) in itertools(&words, &texts, &more) {
        let given: Vec<&str> =
            [when, text, more].into_iter().filter(|one| !one.is_empty()).collect();
        let settings = format!("{{ {} }}", given.join(", "));
        let loaded = Folder::new().load(&rules(&format!("settings = {settings}")));
        let json: toml::Table = toml::from_str(&format!("settings = {settings}")).unwrap();
        let json = serde_json::to_value(&json["settings"]).unwrap();
        let bot = serde_json::from_value::<imbabot::rules::Rules>(json);
        assert_eq!(loaded.is_ok(), bot.is_ok() && more != "to = 0", "{settings}");
        accepted += usize::from(loaded.is_ok());
    }
    assert_eq!(accepted, 4);
}

fn itertools<'a>(
    one: &'a [&'a str],
    two: &'a [&'a str],
    three: &'a [&'a str],
) -> impl Iterator<Item = (&'a str, &'a str, &'a str)> {
    let pairs = one.iter().flat_map(move |a| two.iter().map(move |b| (*a, *b)));
    pairs.flat_map(move |(a, b)| three.iter().map(move |c| (a, b, *c)))
}

#[test]
fn the_bots_of_the_book_that_need_no_code_load() {
    let book = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/bots.md");
    let book = std::fs::read_to_string(book).unwrap();
    let section = book.split("\n## Bots without code\n").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let snippets: Vec<&str> =
        section.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(snippets.len() >= 2, "{section}");
    let loaded = Folder::new().load(&format!("{WIDGET}{}", snippets.join("\n")));
    let loaded = loaded.map_err(|problems| problems.to_string()).unwrap();
    assert!(loaded.config.bots.iter().all(|bot| bot.kind == "rules"));
}

#[test]
fn a_program_may_have_another_kind_of_that_name() {
    let kinds = imbabot::config::Kinds::new().with_rules().with("rules", |_| Ok(()));
    let folder = Folder::new();
    std::fs::write(folder.path("imbabot.toml"), rules("settings = { any = 1 }")).unwrap();
    let loaded = imbabot::config::load(&imbabot::config::LoadOptions {
        config_path: Some(folder.path("imbabot.toml")),
        flags: Vec::new(),
        environment: imbabot::config::Environment::empty(),
        kinds: &kinds,
    });
    assert!(loaded.is_ok(), "{:?}", codes(&loaded.unwrap_err()));
}
