//! `check`, `config` and `version`: verbs that need no store and no network.

use serde_json::json;

use super::args::ConfigVerb;
use super::{Command, Result, clock};
use crate::config::{self, to_json};
use crate::exit::Exit;
use crate::output;

pub(crate) fn check(command: &Command) -> Result {
    match command.load() {
        Ok(loaded) => {
            // What only the making of clients and bots can find: `run` would find it too.
            command.settings(&loaded.config)?;
            let mut warnings = loaded.warnings.clone();
            let now = clock().now();
            warnings.extend(loaded.past(now));
            warnings.extend(loaded.odd_days(now));
            let value = json!({"ok": true, "errors": [], "warnings": to_json(&warnings)});
            command.output.data(&value, || {
                let told: String =
                    warnings.iter().map(|warning| warning.render(false) + "\n").collect();
                let config = &loaded.config;
                format!(
                    "{told}{} is fine: {} widgets, {} bots, {} schedules",
                    loaded.file.display(),
                    config.widgets.len(),
                    config.bots.len(),
                    config.schedules.len()
                )
            });
            Ok(Exit::Ok)
        }
        Err(problems) => {
            if command.output.json {
                let value = json!({
                    "ok": false,
                    "errors": problems.errors_json(),
                    "warnings": problems.warnings_json(),
                });
                output::line(&value.to_string());
            } else {
                output::error_line(problems.render(output::colour()).trim_end());
            }
            Ok(Exit::Config)
        }
    }
}

pub(crate) fn config(command: &Command, verb: ConfigVerb) -> Result {
    match verb {
        ConfigVerb::Schema => {
            let schema = config::schema();
            output::line(&serde_json::to_string_pretty(&schema).unwrap_or_default());
        }
        ConfigVerb::Show => {
            let loaded = command.load().map_err(|problems| command.problems(&problems))?;
            command.output.data(&config::show_json(&loaded), || config::show_text(&loaded));
        }
    }
    Ok(Exit::Ok)
}

pub(crate) fn version(command: &Command, verbose: bool) -> Exit {
    let version = env!("CARGO_PKG_VERSION");
    if !verbose {
        command.output.data(&json!({"version": version}), || format!("imbabot {version}"));
        return Exit::Ok;
    }
    let sqlite = imbabot_store::SqliteStore::sqlite_version();
    let tzdb = imbabot_bot::schedule::Zone::database_version();
    let (rustc, revision) = (env!("IMBABOT_RUSTC"), env!("IMBABOT_REVISION"));
    let kinds: Vec<String> = command.registry.kinds().names().map(str::to_owned).collect();
    let features: Vec<&str> = [
        ("demo", cfg!(feature = "demo")),
        ("rehearse", cfg!(feature = "rehearse")),
        ("simulator", cfg!(feature = "simulator")),
    ]
    .into_iter()
    .filter_map(|(name, built_in)| built_in.then_some(name))
    .collect();
    let value = json!({
        "version": version, "revision": revision, "rustc": rustc, "sqlite": sqlite,
        "tzdb": tzdb, "features": features, "bots": kinds,
    });
    command.output.data(&value, || {
        format!(
            "imbabot {version}\nrevision {revision}\n{rustc}\nfeatures {}\n\
             SQLite {sqlite} (bundled)\ntime zones {tzdb} (bundled)\nbots {}",
            features.join(", "),
            kinds.join(", ")
        )
    });
    Exit::Ok
}
