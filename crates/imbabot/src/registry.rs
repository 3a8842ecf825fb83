//! The kinds of bots that are built in, and how each is made from its settings.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbabot_bot::Bot;
use imbabot_core::escape_foreign;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::config::Kinds;
use crate::rules::{self, Rules};

type Make = Box<dyn Fn(&Value) -> Result<Arc<dyn Bot>, String> + Send + Sync>;

/// Kinds of bots by name.
pub(crate) struct Registry {
    kinds: BTreeMap<String, Make>,
    /// The kind `rules` is ours, and not one of the program's own.
    rules: bool,
}

/// Every program has bots without code.
impl Default for Registry {
    fn default() -> Self {
        let mut registry = Self { kinds: BTreeMap::new(), rules: false };
        registry.add::<Rules>(rules::KIND);
        Self { rules: true, ..registry }
    }
}

/// Runs code of a bot: a panic in it is a mistake of its settings, and no end of the program.
fn contained<T>(code: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    imbabot_scheduler::contained(code)
        .unwrap_or_else(|words| Err(format!("the bot panicked: {}", escape_foreign(&words, 200))))
}

impl Registry {
    pub(crate) fn add<B: Bot + DeserializeOwned>(&mut self, kind: &str) {
        let make = |settings: &Value| -> Result<Arc<dyn Bot>, String> {
            let settings = match settings {
                // A bot without settings is written without any.
                Value::Null => Value::Object(serde_json::Map::new()),
                given => given.clone(),
            };
            contained(|| -> Result<Arc<dyn Bot>, String> {
                let bot: B = serde_path_to_error::deserialize(settings).map_err(|error| {
                    let path = error.path().to_string();
                    let inner = error.into_inner().to_string();
                    if path == "." { inner } else { format!("{path}: {inner}") }
                })?;
                Ok(Arc::new(bot))
            })
        };
        self.rules &= kind != rules::KIND;
        self.kinds.insert(kind.to_owned(), Box::new(make));
    }

    #[cfg(feature = "demo")]
    pub(crate) fn has(&self, kind: &str) -> bool {
        self.kinds.contains_key(kind)
    }

    pub(crate) fn make(&self, kind: &str, settings: &Value) -> Result<Arc<dyn Bot>, String> {
        match self.kinds.get(kind) {
            Some(make) => make(settings),
            None => Err(format!("there is no kind of bot called {kind:?}")),
        }
    }

    /// What a configuration is checked against.
    pub(crate) fn kinds(&self) -> Kinds<'_> {
        self.kinds.iter().fold(Kinds::new(), |kinds, (name, make)| {
            if self.rules && name == rules::KIND {
                return kinds.with_rules();
            }
            kinds.with(name, move |settings| {
                let bot = make(settings)?;
                contained(|| {
                    let _ = bot.listens();
                    for schedule in bot.schedules() {
                        schedule.validate().map_err(|error| error.to_string())?;
                    }
                    drop(bot);
                    Ok(())
                })
            })
        })
    }
}
