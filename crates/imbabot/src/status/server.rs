//! What is known of a widget's server, in a line for people. It reads what polls and `doctor` wrote down,
//! perhaps another version of them, and asks nobody.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::output::foreign;

/// What is known of a widget's server, by the daemon's polls and by `doctor`.
pub(crate) fn words(known: &BTreeMap<String, Value>) -> Option<String> {
    let (polls, doctor) = (known.get("polls"), known.get("doctor"));
    let either = |name: &str| {
        let of = |known: Option<&Value>| known?.get(name).filter(|value| !value.is_null()).cloned();
        of(polls).or_else(|| of(doctor))
    };
    let mut said = Vec::new();
    for name in ["rooms", "users"] {
        let Some(list) = either(name) else { continue };
        let number = |field: &str| list.get(field).and_then(Value::as_u64).unwrap_or_default();
        let (rows, bytes, took) = (number("rows"), number("bytes"), number("milliseconds"));
        let mut text = format!("{rows} {name} in {bytes} bytes and {took} ms");
        let quirks = list.get("quirks").and_then(Value::as_array).into_iter().flatten();
        let quirks: Vec<String> = quirks.filter_map(Value::as_str).map(foreign).collect();
        if !quirks.is_empty() {
            text.push_str(&format!(" ({})", quirks.join(", ")));
        }
        said.push(text);
    }
    if let Some(ahead) = either("server_ahead_seconds").and_then(|ahead| ahead.as_i64()) {
        said.push(match ahead {
            0 => "its clock and ours agree".to_owned(),
            1.. => format!("its clock is {ahead} s ahead of ours"),
            _ => format!("its clock is {} s behind ours", ahead.unsigned_abs()),
        });
    }
    let activity = either("activity").and_then(|word| Some(word.as_str()?.to_owned()));
    match activity.as_deref() {
        Some("seen") => said.push("its rooms are touched by messages".to_owned()),
        Some("no_activity_signal") => said.push(
            "no_activity_signal: `updated_at` does not move with messages, so bots are not told of them"
                .to_owned(),
        ),
        _ => {}
    }
    (!said.is_empty()).then(|| format!("Its server: {}.", said.join("; ")))
}
