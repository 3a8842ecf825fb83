//! The environment as a map that is handed in, so that what a configuration means depends on
//! nothing unseen, and tests never touch the process's own. Its `Debug` shows names, never values.

use std::collections::BTreeMap;
use std::fmt;

/// The environment variables that concern imbabot.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Nothing is set.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// What is set for this process: everything that starts with `IMBABOT_`, and
    /// `CREDENTIALS_DIRECTORY`. A value that is no text is taken with its odd bytes replaced.
    #[must_use]
    pub fn of_process() -> Self {
        let ours = |name: &str| name.starts_with("IMBABOT_") || name == "CREDENTIALS_DIRECTORY";
        std::env::vars_os()
            .map(|(name, value)| {
                (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
            })
            .filter(|(name, _)| ours(name))
            .collect()
    }

    /// The value of a variable.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The variables whose names start so, by name.
    pub(crate) fn starting_with<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0
            .iter()
            .filter(move |(name, _)| name.starts_with(prefix))
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
