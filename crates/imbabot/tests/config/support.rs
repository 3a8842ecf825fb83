//! A folder with a configuration in it, loaded with an environment and flags of its own.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use imbabot::config::{Environment, Kinds, LoadOptions, Loaded, Problems, load};

pub(crate) struct Folder {
    dir: tempfile::TempDir,
    variables: Vec<(String, String)>,
    flags: Vec<(String, String)>,
}

pub(crate) const WIDGET: &str =
    "[[widget]]\nid = 627\nsender = 1\nsecret_key_file = \"secret_key\"\n";
pub(crate) const SECRET: &str = "Tr0ub4dor-and-3";

impl Folder {
    /// With a secret in `secret_key`.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = Self { dir, variables: Vec::new(), flags: Vec::new() };
        folder.file("secret_key", SECRET, 0o600)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn file(self, name: &str, content: impl AsRef<[u8]>, mode: u32) -> Self {
        std::fs::write(self.path(name), content).unwrap();
        std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    pub(crate) fn flag(mut self, key: &str, value: &str) -> Self {
        self.flags.push((key.into(), value.into()));
        self
    }

    /// Loads this text as `imbabot.toml`.
    pub(crate) fn load(&self, text: &str) -> Result<Loaded, Problems> {
        std::fs::write(self.path("imbabot.toml"), text).unwrap();
        self.load_file("imbabot.toml")
    }

    pub(crate) fn load_file(&self, name: &str) -> Result<Loaded, Problems> {
        let kinds = kinds();
        load(&LoadOptions {
            config_path: Some(self.path(name)),
            flags: self.flags.clone(),
            environment: self.variables.iter().cloned().collect::<Environment>(),
            kinds: &kinds,
        })
    }

    /// What is wrong with this text, as a person reads it, without the folder's name.
    pub(crate) fn errors(&self, text: &str) -> String {
        self.shown(&self.load(text).unwrap_err())
    }

    pub(crate) fn shown(&self, problems: &Problems) -> String {
        self.without_folder(&problems.render(false))
    }

    pub(crate) fn without_folder(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.dir.path().display()), "")
            .replace(&self.dir.path().display().to_string(), ".")
    }

    /// The codes and places: `IMB-C-011 2:1`.
    pub(crate) fn codes(&self, text: &str) -> Vec<String> {
        codes(&self.load(text).unwrap_err())
    }
}

pub(crate) fn codes(problems: &Problems) -> Vec<String> {
    let place = |n: Option<usize>| n.map_or("-".to_owned(), |n| n.to_string());
    let one =
        |p: &imbabot::config::Problem| format!("{} {}:{}", p.code, place(p.line), place(p.column));
    problems.errors.iter().map(one).collect()
}

/// A greeter that wants a greeting.
pub(crate) fn kinds() -> Kinds<'static> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Greeter {
        #[serde(rename = "greeting")]
        _greeting: imbabot_bot::Template,
    }
    let check = |settings: &serde_json::Value| {
        serde_json::from_value::<Greeter>(settings.clone()).map(|_| ()).map_err(|e| e.to_string())
    };
    // One that says what it was given.
    let caller = |settings: &serde_json::Value| Err(format!("cannot use {settings}"));
    Kinds::new()
        .with_rules()
        .with("greeter", check)
        .with("quiet", |_| Ok(()))
        .with("caller", caller)
}
