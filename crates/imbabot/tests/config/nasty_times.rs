//! Times that cannot be read, as the file shows them: each mistake at its own place, with a hint.

use std::fmt::Write as _;

use crate::support::{Folder, WIDGET};

fn schedule(lines: &str) -> String {
    format!("{WIDGET}[[schedule]]\nid = \"s\"\nrooms = {{ all = true }}\ntext = \"Hi\"\n{lines}\n")
}

#[test]
fn t20_each_nasty_time_is_one_error_with_its_column_and_a_hint() {
    let mut told = String::new();
    for line in [
        r#"cron = """#,
        r#"cron = "0 9 * *""#,
        r#"cron = "@hourly""#,
        r#"cron = "0  24 * * *""#,
        r#"cron = "*/0 * * * *""#,
        r#"cron = "0 9 * * SAT-MON""#,
        r#"cron = "0 9 * * ſUN""#,
        r#"cron = "JAN 9 * * *""#,
        r#"cron = "0 0 31 4,6,9,11 *""#,
        r#"cron = 5"#,
        r#"every = """#,
        r#"every = "15""#,
        r#"every = "0s""#,
        r#"every = "500ms""#,
        r#"every = "101000d""#,
        r#"every = "99999999999999999999s""#,
        r#"at = """#,
        r#"at = "2026-02-30T09:00:00""#,
        r#"at = "2026-12-24T18:00:00.5""#,
        r#"at = "tomorrow""#,
        "every = \"1h\"\nexcept = [\"2026-02-30\"]",
        "every = \"1h\"\nexcept = [\"\"]",
        "every = \"1h\"\ntimezone = \"\"",
        "every = \"1h\"\ntimezone = \"Berlin\"",
        "every = \"1h\"\ntimezone = \"../../etc/passwd\"",
        "every = \"1h\"\ndst = { gap = \"leap\" }",
    ] {
        let problems = Folder::new().load(&schedule(line)).unwrap_err();
        let [error] = &problems.errors[..] else { panic!("{line}: {problems}") };
        let row = error.line.unwrap().checked_sub(9).and_then(|row| line.lines().nth(row));
        let row = row.unwrap_or_else(|| panic!("{line}: line {:?}", error.line));
        let column = error.column.unwrap();
        assert!((1..=row.chars().count()).contains(&column), "{line}: column {column}");
        let here: String = row.chars().skip(column - 1).collect();
        let hint = error.hint.as_deref().unwrap_or_else(|| panic!("{line}: no hint"));
        writeln!(told, "{here}\n  {}\n  {hint}", error.message).unwrap();
    }
    insta::assert_snapshot!(told);
}
