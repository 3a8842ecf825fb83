//! What is deployed beside the program is held against it: alerts and dashboard name only metrics and
//! labels that the daemon declares, the unit starts what there is, and what the book shows can be typed.

#![allow(clippy::unwrap_used, reason = "this is a test")]

mod repository;

use std::collections::{BTreeMap, BTreeSet};

use imbabot_scheduler::metrics::Metrics;
use repository::root;
use serde_json::Value;

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// The families that the daemon declares, with their labels as the book has them.
fn families() -> BTreeMap<String, BTreeSet<String>> {
    let rendered = Metrics::new().render();
    let declared = rendered.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let mut families: BTreeMap<String, BTreeSet<String>> = declared
        .map(|line| (line.split(' ').next().unwrap().to_owned(), BTreeSet::new()))
        .collect();
    let row = regex::Regex::new(r"(?m)^\| `(imbabot_[a-z_]+)` \|([^|]*)\|").unwrap();
    let word = regex::Regex::new("`([a-z]+)`").unwrap();
    let book = read("docs/operating.md");
    let mut told = BTreeSet::new();
    for found in row.captures_iter(&book) {
        told.insert(found[1].to_owned());
        let labels = families.get_mut(&found[1]).unwrap();
        labels.extend(word.captures_iter(&found[2]).map(|label| label[1].to_owned()));
    }
    assert_eq!(told, families.keys().cloned().collect(), "the book tells of each");
    for own in ["process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"] {
        families.insert(own.into(), BTreeSet::new());
    }
    families
}

/// What an expression names is there.
fn holds(families: &BTreeMap<String, BTreeSet<String>>, expression: &str) {
    let metric = regex::Regex::new(r"\b((?:imbabot|process)_[a-z_]+)(?:\{([^}]*)\})?").unwrap();
    let label = regex::Regex::new(r#"([a-z]+)\s*(?:=~|!~|!=|=)\s*""#).unwrap();
    let mut found = 0;
    for named in metric.captures_iter(expression) {
        found += 1;
        let name = &named[1];
        let bare = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let labels = families.get(name).or_else(|| families.get(bare?));
        assert!(labels.is_some(), "no such metric: {name} in {expression}");
        let given = named.get(2).map(|labels| labels.as_str()).unwrap_or_default();
        for used in label.captures_iter(given) {
            let used = &used[1];
            let known = ["instance", "job"].contains(&used) || labels.unwrap().contains(used);
            assert!(known, "{name} has no label {used}: {expression}");
        }
    }
    let about_the_job = expression.contains("up{job=\"imbabot\"}");
    assert!(found > 0 || about_the_job, "names no metric: {expression}");
}

#[test]
fn alerts_name_only_what_the_daemon_declares_and_say_what_to_do() {
    let families = families();
    let (rules, book) = (read("config/prometheus-rules.yml"), read("docs/operating.md"));
    let alerts: Vec<&str> = rules.split("- alert: ").skip(1).collect();
    assert!(alerts.len() > 10);
    let mut names = BTreeSet::new();
    let typed = regex::Regex::new("`imbabot ([a-z]+)").unwrap();
    let line = |alert: &str, key: &str| {
        let line = alert.lines().find_map(|line| line.trim().strip_prefix(key));
        line.map(str::trim).filter(|value| !value.is_empty()).map(str::to_owned)
    };
    for alert in alerts {
        let value = |key: &str| line(alert, key);
        let name = alert.lines().next().unwrap();
        assert!(names.insert(name), "twice: {name}");
        holds(&families, &value("expr:").unwrap());
        for key in ["severity:", "summary:", "description:"] {
            assert!(value(key).is_some(), "{name} has no {key}");
        }
        // Verbs and pages that an alert sends its reader to are there.
        for verb in typed.captures_iter(alert) {
            let shown = ["imbabot", ".toml"].map(|before| format!("{before} {}", &verb[1]));
            assert!(shown.iter().any(|words| book.contains(words)), "{name}: {}", &verb[1]);
        }
    }
}

#[test]
fn the_dashboard_names_only_what_the_daemon_declares() {
    let families = families();
    let board: Value = serde_json::from_str(&read("config/grafana-dashboard.json")).unwrap();
    let panels = board["panels"].as_array().unwrap();
    assert!(panels.len() > 15);
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has an id of its own");
    let mut shown = BTreeSet::new();
    for panel in panels {
        assert!(!panel["title"].as_str().unwrap().is_empty());
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            holds(&families, expression);
            shown.insert(expression);
        }
        let place = &panel["gridPos"];
        let (x, w) = (place["x"].as_u64().unwrap(), place["w"].as_u64().unwrap());
        assert!(x + w <= 24, "{panel}");
    }
    assert!(shown.len() > 20);
}

#[test]
fn the_unit_starts_what_there_is_and_hands_out_the_key() {
    let unit = read("config/imbabot.service");
    let values = |key: &str| -> Vec<String> {
        let lines = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(
        values("ExecStart"),
        ["/usr/local/bin/imbabot --config /etc/imbabot/imbabot.toml run"]
    );
    assert_eq!(values("Type"), ["notify"]);
    assert_eq!(values("LoadCredential"), ["secret_key:/etc/imbabot/secret_key"]);
    assert_eq!(values("LimitCORE"), ["0"]);
    assert!(unit.contains("RestartPreventExitStatus=77 78"));
    let book = read("docs/operating.md");
    assert!(book.contains("/run/credentials/imbabot.service/secret_key"));
    // What verbs read, which know nothing of the unit, is the store that the unit names.
    let store = values("Environment");
    let store = store.iter().find_map(|set| set.strip_prefix("IMBABOT__STORE__PATH=")).unwrap();
    assert!(book.contains(&format!("[store]\npath = \"{store}\"")), "{store}");
    for line in unit.lines() {
        let known = line.is_empty()
            || line.starts_with('#')
            || line.starts_with('[')
            || line.split_once('=').is_some_and(|(key, _)| {
                key.chars().all(|c| c.is_ascii_alphanumeric()) && !key.is_empty()
            });
        assert!(known, "{line}");
    }
    // systemd's own opinion, where there is one.
    let path = root().join("config/imbabot.service");
    let rated = std::process::Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--threshold=20"])
        .arg(&path)
        .output();
    let Ok(rated) = rated else { return };
    let told = String::from_utf8_lossy(&rated.stdout);
    // An old one cannot rate a file.
    if told.contains("Overall exposure level") {
        assert!(rated.status.success(), "more exposed than 2.0: {told}");
    }
}

#[test]
fn the_container_runs_what_is_built_as_nobody_and_with_a_store_of_its_own() {
    let file = read("config/Containerfile");
    for line in [
        "RUN cargo build --release --locked",
        "COPY --from=build /src/target/release/imbabot /usr/local/bin/imbabot",
        "USER 65532:65532",
        "ENV IMBABOT__STORE__PATH=/data/imbabot.db",
        "ENTRYPOINT [\"imbabot\"]",
        "CMD [\"--config\", \"/etc/imbabot/imbabot.toml\", \"run\"]",
    ] {
        assert!(file.lines().any(|found| found == line), "{line}");
    }
    let channel = regex::Regex::new(r#"channel = "(\d+\.\d+)"#).unwrap();
    let toolchain = read("rust-toolchain.toml");
    let version = &channel.captures(&toolchain).unwrap()[1];
    assert!(file.contains(&format!("rust:{version}-")), "the toolchain that is named here");
}

#[test]
fn blocks_of_configuration_in_the_books_can_be_read() {
    let block = regex::Regex::new(r"(?ms)^ *```([a-z]*)\n(.*?)^ *```$").unwrap();
    let mut count = 0;
    for path in ["docs/operating.md", "docs/logging.md", "README.md"] {
        for found in block.captures_iter(&read(path)) {
            let (kind, text) = (&found[1], &found[2]);
            count += 1;
            match kind {
                "toml" => drop(text.parse::<toml::Table>().unwrap()),
                "json" => drop(serde_json::from_str::<Value>(text).unwrap()),
                _ => {}
            }
        }
    }
    assert!(count > 15, "the pattern finds them: {count}");
}
