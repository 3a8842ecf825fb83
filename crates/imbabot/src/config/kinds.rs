//! The kinds of bots that are built in, and what each says about its settings. A configuration is
//! checked against them without a bot ever being started.

use std::collections::BTreeMap;
use std::fmt;

type Check<'a> = Box<dyn Fn(&serde_json::Value) -> Result<(), String> + Send + Sync + 'a>;

/// The kinds of bots there are.
#[derive(Default)]
pub struct Kinds<'a>(BTreeMap<String, Check<'a>>);

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
        self.0.insert(kind.into(), Box::new(check));
        self
    }

    /// Their names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(crate) fn check(&self, kind: &str) -> Option<&Check<'a>> {
        self.0.get(kind)
    }
}

impl fmt::Debug for Kinds<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
