//! Secrets: where they may come from, and who else may read them. A secret goes from its file or
//! variable into a type that prints as stars, and nowhere else.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use imbabot_core::SecretKey;
use secrecy::SecretString;

use super::code::Code;
use super::database::DatabaseUrl;
use super::environment::Environment;
use super::source::Place;
use super::store::URL;
use super::value::{Data, Table, variable};
use super::walk::{Fault, Part, Walk};

/// The variable for the only widget, or for those without a file of their own.
const ONE: &str = "IMBABOT_SECRET_KEY";
/// What the variable for a widget of this name starts with.
const NAMED: &str = "IMBABOT_SECRET_KEY_";
/// What takes the place of a secret that is not read. It opens nothing.
const STAND_IN: &str = "not-read-stand-in-of-a-secret";
/// No secret is longer.
const MAX: u64 = 4096;

/// Which secrets a load looks at. A stand-in takes the place of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All of them.
    All,
    /// What the store needs: the URL of its database.
    OfStore,
    /// None.
    None,
}

/// Whether the whole file accepts secrets that others can read.
pub(crate) fn lenient(root: &Table) -> bool {
    matches!(root.get("allow_group_readable").map(|v| &v.data), Some(Data::Flag(true)))
}

/// The variable for a widget of this name.
pub(crate) fn variable_for(name: &str) -> String {
    format!("{NAMED}{}", name.to_uppercase().replace('-', "_"))
}

/// The secret of a widget: its own variable, then the common variable if it is the only widget,
/// then its file, then the common variable.
pub(crate) fn of_widget(
    walk: &mut Walk<'_>,
    part: &Part<'_>,
    name: &str,
    alone: bool,
    lenient: bool,
) -> Option<SecretKey> {
    if walk.wanted != Wanted::All {
        return SecretKey::parse(STAND_IN).ok();
    }
    let own = variable_for(name);
    let has_file = part.get("secret_key_file").is_some();
    let from = match () {
        () if walk.environment.get(&own).is_some() => Some(own.as_str()),
        () if walk.environment.get(ONE).is_some() && (alone || !has_file) => Some(ONE),
        () => None,
    };
    let key = format!("widget.{name}.secret_key");
    if let Some(from) = from {
        walk.secrets.insert(key, from.to_owned());
        let text = walk.environment.get(from).unwrap_or_default().to_owned();
        return accept(walk, &text, &variable(from), from);
    }
    let Some((path, place)) = walk.path(part, "secret_key_file") else {
        if !has_file && !walk.partial {
            let message = format!("no secret key is given for the widget {name:?}");
            let hint = format!(
                "name a file that holds it in secret_key_file, or set {ONE}{}; it is the \"Secret \
                 key\" of the widget in the ImbaChat dashboard",
                if alone { String::new() } else { format!(" or {own}") }
            );
            walk.error(Fault::new(Code::SecretAbsent, &part.place, message).hint(hint));
        }
        return None;
    };
    walk.secrets.insert(key, path.display().to_string());
    let called = part.called("secret_key_file", &place);
    let text = read(walk, &called, &path, &place, lenient)?;
    let shown = path.display().to_string();
    accept(walk, &text, &place, &shown)
}

fn accept(walk: &mut Walk<'_>, text: &str, place: &Place, from: &str) -> Option<SecretKey> {
    match SecretKey::parse(text) {
        Ok(key) => Some(key),
        Err(why) => {
            let why = why.to_string();
            let (message, hint) = why.split_once("; ").unwrap_or((
                &why,
                "it is the \"Secret key\" of the widget in the ImbaChat dashboard",
            ));
            let message = format!("{from}: {message}");
            walk.error(Fault::new(Code::SecretRefused, place, message).hint(hint));
            None
        }
    }
}

/// A bearer token, and how many characters it has.
pub(crate) fn token(
    walk: &mut Walk<'_>,
    called: &str,
    path: &Path,
    place: &Place,
    lenient: bool,
) -> Option<(SecretString, usize)> {
    if walk.wanted != Wanted::All {
        return Some((SecretString::from(STAND_IN), usize::MAX));
    }
    let text = read(walk, called, path, place, lenient)?;
    let token = text.trim();
    let usable = !token.is_empty() && token.chars().all(|c| c.is_ascii_graphic());
    if !usable {
        let message = match token.is_empty() {
            true => format!("{}: the token is empty", path.display()),
            false => {
                format!("{}: a token has no spaces and no letters beyond ASCII", path.display())
            }
        };
        let hint = "make one with `openssl rand -hex 32`";
        walk.error(Fault::new(Code::SecretRefused, place, message).hint(hint));
        return None;
    }
    Some((SecretString::from(token), token.len()))
}

/// The URL of the database: the variable, then the file.
pub(crate) fn database_url(
    walk: &mut Walk<'_>,
    part: &Part<'_>,
    lenient: bool,
) -> Option<DatabaseUrl> {
    if walk.wanted == Wanted::None {
        return Some(DatabaseUrl::stand_in());
    }
    let (text, place, from) = match walk.environment.get(URL) {
        Some(text) => {
            walk.optional::<String>(part, "url_file");
            (text.to_owned(), variable(URL), URL.to_owned())
        }
        None => {
            if part.get("url_file").is_none() {
                let place = part.get("kind").map_or(&part.place, |kind| &kind.place);
                let called = part.called("kind", place);
                let message = format!("{called}: no URL of a PostgreSQL server is given");
                let hint = format!("name a file that holds it in url_file, or set {URL}; {SHAPE}");
                walk.error(Fault::new(Code::SecretAbsent, place, message).hint(hint));
                return None;
            }
            let (path, place) = walk.path(part, "url_file")?;
            let called = part.called("url_file", &place);
            (read(walk, &called, &path, &place, lenient)?, place, path.display().to_string())
        }
    };
    walk.secrets.insert("store.url".into(), from.clone());
    match DatabaseUrl::parse(&text) {
        Ok(url) => Some(url),
        Err(why) => {
            let fault = Fault::new(Code::BadDatabaseUrl, &place, format!("{from}: {why}"));
            walk.error(fault.hint(SHAPE));
            None
        }
    }
}

const SHAPE: &str = "it is written postgres://user:password@host:5432/database, and signs such as \
                     / @ # ? in the password as %2F %40 %23 %3F";

/// The same for whoever names the file by hand.
///
/// # Errors
/// It cannot be read, others can read it, or it holds no URL; without a word of what is in it.
pub(crate) fn database_url_in(
    path: &Path,
    environment: &Environment,
) -> Result<DatabaseUrl, Refused> {
    let text = content(path, false, environment)?;
    DatabaseUrl::parse(&text).map_err(|why| bad_url(&path.display().to_string(), why))
}

/// The same from its variable.
///
/// # Errors
/// It is not set, or holds no URL.
pub(crate) fn database_url_of(environment: &Environment) -> Result<DatabaseUrl, Refused> {
    let Some(text) = environment.get(URL) else {
        let message = format!("{URL} is not set");
        return Err(Refused { code: Code::SecretAbsent, message, hint: Some(SHAPE.into()) });
    };
    DatabaseUrl::parse(text).map_err(|why| bad_url(URL, why))
}

fn bad_url(from: &str, why: &str) -> Refused {
    let message = format!("{from}: {why}");
    Refused { code: Code::BadDatabaseUrl, message, hint: Some(SHAPE.into()) }
}

/// Why a secret is not taken, without a word of it.
pub(crate) struct Refused {
    pub(crate) code: Code,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

/// What a secret's file holds, if nobody else can read it.
fn read(
    walk: &mut Walk<'_>,
    called: &str,
    path: &Path,
    place: &Place,
    lenient: bool,
) -> Option<String> {
    match content(path, lenient, walk.environment) {
        Ok(text) => Some(text),
        Err(Refused { code, message, hint }) => {
            let found = Fault::new(code, place, format!("{called}: {message}"));
            walk.error(match hint {
                Some(hint) if code == Code::SecretExposed => found.hint(format!(
                    "{hint}; a container's mount is accepted with allow_group_readable = true"
                )),
                Some(hint) => found.hint(hint),
                None => found,
            });
            None
        }
    }
}

fn content(path: &Path, lenient: bool, environment: &Environment) -> Result<String, Refused> {
    let shown = path.display();
    let fault = match open(path) {
        Ok((file, mode)) => {
            if mode & 0o077 != 0 && !lenient && !in_credentials(environment, path) {
                return Err(Refused {
                    code: Code::SecretExposed,
                    message: format!("{shown} can be read by group or others"),
                    hint: Some(format!("run: chmod 600 {}", quoted_for_shell(path))),
                });
            }
            let mut text = String::new();
            match file.take(MAX + 1).read_to_string(&mut text) {
                Ok(_) if text.len() as u64 <= MAX => return Ok(text),
                Ok(_) => (Code::SecretUnreadable, "is too large to hold a secret".to_owned()),
                Err(_) => (Code::SecretUnreadable, "is not a text".to_owned()),
            }
        }
        Err(why) => why,
    };
    let write_it =
        || format!("write the secret into it and run: chmod 600 {}", quoted_for_shell(path));
    Err(Refused {
        code: fault.0,
        message: format!("{shown} {}", fault.1),
        hint: (fault.0 == Code::SecretAbsent).then(write_it),
    })
}

fn open(path: &Path) -> Result<(File, u32), (Code, String)> {
    let failed = |error: &std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => (Code::SecretAbsent, "does not exist".to_owned()),
        kind => (Code::SecretUnreadable, format!("cannot be read: {kind}")),
    };
    let metadata = std::fs::metadata(path).map_err(|error| failed(&error))?;
    if metadata.is_dir() {
        return Err((Code::SecretUnreadable, "is a directory".into()));
    }
    if !metadata.is_file() {
        return Err((Code::SecretUnreadable, "is not a regular file".into()));
    }
    let file = File::open(path).map_err(|error| failed(&error))?;
    // What counts is the file that was opened, not the one that was looked at before.
    let mode = file.metadata().map_err(|error| failed(&error))?.mode();
    Ok((file, mode))
}

/// systemd hands out credentials in a directory of its own, which nobody else can enter.
fn in_credentials(environment: &Environment, path: &Path) -> bool {
    let Some(directory) = environment.get("CREDENTIALS_DIRECTORY") else { return false };
    if directory.is_empty() {
        return false;
    }
    match (Path::new(directory).canonicalize(), path.canonicalize()) {
        (Ok(directory), Ok(path)) => path.starts_with(directory),
        _ => false,
    }
}

/// A path as a shell takes it.
fn quoted_for_shell(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=@%:,".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// Secrets in the environment that no widget asks for: most often a slip in the name.
pub(crate) fn warn_of_unused(walk: &mut Walk<'_>) {
    let wanted: Vec<String> = walk.widgets.keys().map(|name| variable_for(name)).collect();
    let unused: Vec<String> = walk
        .environment
        .starting_with(NAMED)
        .map(|(name, _)| name.to_owned())
        .filter(|name| !wanted.contains(name))
        .collect();
    for name in unused {
        let message = format!("{name} belongs to no widget");
        let fault = Fault::new(Code::UnusedSecret, &variable(&name), message);
        walk.warn(fault.hint("the last part of the variable is a widget's name in upper case"));
    }
}
