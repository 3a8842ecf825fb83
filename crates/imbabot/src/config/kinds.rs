//! The kinds of bots that are built in, and what each says about its settings. A configuration is
//! checked against them without a bot ever being started.

use std::collections::BTreeMap;
use std::fmt;

use crate::rules::{self, Rules};

type Check<'a> = Box<dyn Fn(&serde_json::Value) -> Result<(), String> + Send + Sync + 'a>;

/// The kinds of bots there are.
#[derive(Default)]
pub struct Kinds<'a> {
    checks: BTreeMap<String, Check<'a>>,
    /// The kind `rules` is that of bots without code.
    rules: bool,
}

impl<'a> Kinds<'a> {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// And this one, with what it says about settings: nothing, or a sentence that says what is
    /// wrong. A sentence of the form `key: …`, or one that names an unknown or missing field in
    /// backticks as serde does, is shown at that key.
    #[must_use]
    pub fn with(
        mut self,
        kind: impl Into<String>,
        check: impl Fn(&serde_json::Value) -> Result<(), String> + Send + Sync + 'a,
    ) -> Self {
        let kind = kind.into();
        self.rules &= kind != rules::KIND;
        self.checks.insert(kind, Box::new(check));
        self
    }

    /// And bots without code.
    #[must_use]
    pub fn with_rules(self) -> Self {
        let check = |settings: &serde_json::Value| {
            let read = serde_json::from_value::<Rules>(settings.clone());
            read.map(drop).map_err(|error| error.to_string())
        };
        Self { rules: true, ..self.with(rules::KIND, check) }
    }

    /// Whether a bot of this kind is one without code, whose settings are read like every other key.
    pub(crate) fn is_rules(&self, kind: &str) -> bool {
        self.rules && kind == rules::KIND
    }

    /// Their names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.checks.keys().map(String::as_str)
    }

    pub(crate) fn check(&self, kind: &str) -> Option<&Check<'a>> {
        self.checks.get(kind)
    }
}

impl fmt::Debug for Kinds<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.checks.keys()).finish()
    }
}
