//! What must never be shown, found by how it looks: values of keys that sound like secrets, and
//! the user, password and query of URLs. It guards every line that an error repeats, because a
//! mistake in a file often stands right beside the secret that should not be there.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

/// What is shown instead.
pub(crate) const MASK: &str = "***";

/// Keys that sound like secrets and hold only a path.
const PATHS: &[&str] = &["secret_key_file", "token_file", "url_file"];

/// Whether the value of a key with this name is to be hidden.
pub(crate) fn sounds_secret(key: &str) -> bool {
    let lower = key.to_lowercase();
    if PATHS.contains(&lower.as_str()) {
        return false;
    }
    let plain: String = lower.chars().filter(|c| c.is_alphanumeric()).collect();
    ["secret", "passw", "token", "apikey", "credential", "privatekey"]
        .iter()
        .any(|word| plain.contains(word))
        || strsim::jaro_winkler(&plain, "secretkey") > 0.88
}

/// Whether a key of this name may hold the URL of a database, with its password.
pub(crate) fn sounds_like_url(key: &str) -> bool {
    ["url", "database_url", "db_url", "dsn"].contains(&key.to_lowercase().as_str())
}

// The patterns are constants; the tests compile them.
static KEY: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r#"([A-Za-z0-9_-]+)["']?[\t\x20]*[=:][\t\x20]*"#).ok());
static VALUE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    // In three quotes, in quotes, a list or a table up to its end, or bare; what is missing on the
    // line of the key stands on the next.
    Regex::new(
        r#"(?x) \A (?: \r?\n \s* )? (?: """ (?s:.*?) (?: """ | \z ) | ''' (?s:.*?) (?: ''' | \z )
           | \[ [^\]]* \]? [^\n]* | \{ [^}]* }? [^\n]*
           | " (?: [^"\\\n] | \\. )* "? | ' [^'\n]* '? | [^"'\n]+ )"#,
    )
    .ok()
});
static URL: LazyLock<Option<Regex>> =
    // A password may hold any sign: everything up to the last "@" is hidden.
    LazyLock::new(|| Regex::new(r#"://(?:([^\s"']*)@)?[^\s"'?\#]*(?:[?\#]([^\s"']*))?"#).ok());

/// The parts of a text that are not to be shown, in ascending order.
pub(crate) fn hidden(text: &str) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut until = 0;
    for groups in KEY.iter().flat_map(|r| r.captures_iter(text)) {
        let (Some(whole), Some(key)) = (groups.get(0), groups.get(1)) else { continue };
        let is_url = sounds_like_url(key.as_str());
        if whole.start() < until || !(is_url || sounds_secret(key.as_str())) {
            continue;
        }
        // Only here the value is looked at: each byte at most twice, however hostile the file.
        let value = VALUE.as_ref().and_then(|r| r.find(&text[whole.end()..]));
        // Of an URL of the web the rest is looked for below.
        let of_web = |value: &str| value.trim_start_matches(['"', '\'']).starts_with("http");
        if let Some(value) = value
            && !(is_url && of_web(value.as_str()))
        {
            until = whole.end() + value.end();
            found.push(whole.end()..until);
        }
    }
    if text.contains("://") {
        for groups in URL.iter().flat_map(|r| r.captures_iter(text)) {
            found.extend(groups.iter().skip(1).flatten().map(|part| part.range()));
        }
    }
    found.retain(|range| !range.is_empty());
    found.sort_by_key(|range| (range.start, std::cmp::Reverse(range.end)));
    let mut last = 0;
    found.retain(|range| {
        let apart = range.start >= last;
        if apart {
            last = range.end;
        }
        apart
    });
    found
}

/// The text without what is not to be shown.
pub(crate) fn masked(text: &str) -> String {
    let mut shown = String::new();
    let mut from = 0;
    for range in hidden(text) {
        shown.push_str(&text[from..range.start]);
        shown.push_str(MASK);
        from = range.end;
    }
    shown.push_str(&text[from..]);
    shown
}

/// A sentence about settings without the secrets that are in them.
pub(crate) fn without_secrets(sentence: &str, settings: &serde_json::Value) -> String {
    fn hide(sentence: &mut String, value: &serde_json::Value, secret: bool) {
        use serde_json::Value;
        match value {
            Value::Object(map) => map
                .iter()
                .for_each(|(key, value)| hide(sentence, value, secret || sounds_secret(key))),
            Value::Array(list) => list.iter().for_each(|value| hide(sentence, value, secret)),
            Value::String(text) if secret && !text.is_empty() => {
                let escaped = format!("{text:?}");
                *sentence = sentence.replace(&escaped[1..escaped.len() - 1], MASK);
                *sentence = sentence.replace(text.as_str(), MASK);
            }
            Value::Number(number) if secret => {
                *sentence = sentence.replace(&number.to_string(), MASK);
            }
            _ => {}
        }
    }
    let mut shown = sentence.to_owned();
    hide(&mut shown, settings, false);
    masked(&shown)
}

/// Hides the values of keys that sound like secrets inside free settings.
pub(crate) fn masked_json(value: &serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(key, value)| match sounds_secret(key) {
                    true => (key.clone(), Value::from(MASK)),
                    false => (key.clone(), masked_json(value)),
                })
                .collect(),
        ),
        Value::Array(list) => Value::Array(list.iter().map(masked_json).collect()),
        Value::String(text) if text.contains("://") => Value::from(masked(text)),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_hidden_however_it_is_written() {
        for text in [
            r#"secret_key = "hunter2""#,
            r#"secert_key = "hunter2""#,
            "secret-key = hunter2",
            "secret_key: hunter2",
            r#"widget = [{ name = "x", secret_key = "hunter2", foo = 1 }]"#,
            r#""secret_key" = 'hunter2'"#,
            "secret_key = \"hunter2",
            "secret_key = \"\"\"\nhunter2\n\"\"\"",
            r#"password="hunter2""#,
            r#"url = "postgres://imbabot:hunter2@db.example/imbabot""#,
            r#"url = "postgres:/imbabot:hunter2@db.example""#,
            r#"dsn = "host=db.example pass=hunter2""#,
            r#"url = "https://u:hunter2@api.imbachat.com""#,
            r#"base_url = "https://u:hunter2@api.imbachat.com""#,
            r#"base_url = "https://api.imbachat.com/?k=hunter2""#,
            r#"base_url = "https://hunter2@api.imbachat.com""#,
            r#"base_url = "https://u:hun/ter@hunter2@api.imbachat.com""#,
            r#"tokens = ["hunter2", "hunter2"]"#,
            "tokens = [\n  \"hunter2\",\n  \"hunter2\",\n]",
            r#"secret = { value = "hunter2" }"#,
            "secret_key =\n\"hunter2\"",
            "secret_key = \n  hunter2",
        ] {
            let shown = masked(text);
            assert!(!shown.contains("hunter2"), "{shown}");
            assert!(shown.contains(MASK), "{shown}");
        }
    }

    #[test]
    fn a_file_made_of_equals_signs_takes_no_time() {
        let text = "a=".repeat(100_000);
        assert_eq!(masked(&text), text);
        let text = "secret_key=".repeat(20_000);
        assert_eq!(masked(&text), "secret_key=***");
    }

    #[test]
    fn what_is_no_secret_stays() {
        for text in [
            r#"secret_key_file = "secret_key""#,
            r#"token_file = "http_token""#,
            r#"text = "Hello, {{ room.name }}""#,
            r#"base_url = "https://api.imbachat.com/x""#,
            r#"url = "https://api.imbachat.com/x""#,
            r#"url_file = "database_url""#,
            "a = é = ü",
        ] {
            assert_eq!(masked(text), text);
        }
    }
}
