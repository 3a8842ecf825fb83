//! The address of a store on a command line. No flag takes a secret: a URL with a password in it is
//! refused, and nothing of what is refused is repeated.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::Result;
use crate::config::{DatabaseUrl, Environment, Refused, Server, database_url_in, database_url_of};
use crate::exit::{Exit, Failure};

/// What an instance would be believed for; a verb is no instance.
const LEASE: Duration = Duration::from_secs(10);
const SHAPE: &str = "an address is sqlite:PATH; postgres:FILE, where FILE (chmod 600) holds the URL; \
                     postgres: alone, with the URL in IMBABOT_DATABASE_URL; or a postgres:// URL \
                     without a password";

/// Where a store is, or is to be.
#[derive(Debug)]
pub(super) enum Address {
    /// In this file.
    File(PathBuf),
    /// On a server.
    Server(Url),
}

/// Where the URL of a server is.
#[derive(Debug)]
pub(super) enum Url {
    /// In this file.
    In(PathBuf),
    /// In the variable.
    Variable,
    /// Here.
    Given(DatabaseUrl),
}

impl Address {
    /// Reads what was given with `flag`.
    pub(super) fn parse(flag: &str, text: &str) -> Result<Self> {
        let wrong = |why: &str| Failure::new(Exit::Usage, CODE, format!("{flag}: {why}"));
        if let Some(path) = text.strip_prefix("sqlite:") {
            // An URL of three parts, of which the host is missing, in the words of other programs.
            let path = path.strip_prefix("//").map_or(Ok(path), |rest| {
                rest.starts_with('/').then_some(rest).ok_or_else(|| {
                    wrong("a file has no host")
                        .hint("write sqlite: and the path: sqlite:imbabot.db")
                })
            })?;
            return match path {
                "" => Err(wrong("the path of the file is missing").hint(SHAPE)),
                path => Ok(Self::File(path.into())),
            };
        }
        let is_url = text.starts_with("postgres://") || text.starts_with("postgresql://");
        if is_url {
            if has_password(text) {
                return Err(wrong(
                    "a password does not belong on a command line, where others see it",
                )
                .hint(
                    "write the URL into a file (chmod 600) and give postgres:FILE, or put it into \
                         IMBABOT_DATABASE_URL and give postgres:",
                ));
            }
            let url = DatabaseUrl::parse(text).map_err(|why| wrong(why).hint(SHAPE))?;
            return Ok(Self::Server(Url::Given(url)));
        }
        match text.strip_prefix("postgres:") {
            Some("") => Ok(Self::Server(Url::Variable)),
            Some(file) => Ok(Self::Server(Url::In(file.into()))),
            None => Err(wrong("that is no address of a store").hint(SHAPE)),
        }
    }
}

const CODE: &str = "IMB-V-ADDRESS";

/// Two addresses between which nothing is moved.
pub(super) fn alike(message: &str, hint: &str) -> Failure {
    Failure::new(Exit::Usage, CODE, message).hint(hint)
}

impl Url {
    /// The server, with the URL from where it is.
    pub(super) fn server(&self, unsafe_durability: bool) -> Result<Server> {
        let environment = Environment::of_process();
        let url = match self {
            Self::In(file) => database_url_in(file, &environment).map_err(refused)?,
            Self::Variable => database_url_of(&environment).map_err(refused)?,
            Self::Given(url) => url.clone(),
        };
        Ok(Server { url, lease: LEASE, instance: None, unsafe_durability })
    }

    /// What is written into `[store]` for it, beside the kind.
    pub(super) fn in_configuration(&self) -> String {
        match self {
            Self::In(file) => format!("url_file = {}", quoted(file)),
            Self::Variable => "the URL in IMBABOT_DATABASE_URL".into(),
            Self::Given(_) => "url_file = a file that holds the URL".into(),
        }
    }
}

/// A path as TOML writes it, from the root on.
pub(super) fn quoted(path: &Path) -> String {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    serde_json::Value::from(whole.display().to_string()).to_string()
}

fn refused(Refused { code, message, hint }: Refused) -> Failure {
    let failure = Failure::new(Exit::Config, code.as_str(), message);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// Whether there is one, wherever a driver might find it.
fn has_password(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let of_user = rest.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'));
    // A name that is written in numbers is read too.
    let of_query = |pair: &str| {
        let name = pair.split('=').next().unwrap_or_default();
        name.contains('%') || name.to_ascii_lowercase().contains("password")
    };
    let query = rest.split_once('?').map_or("", |(_, query)| query);
    of_user || query.split('&').any(of_query)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_of_files_and_servers_are_read() {
        for (text, path) in [
            ("sqlite:imbabot.db", "imbabot.db"),
            ("sqlite:/var/lib/imbabot/imbabot.db", "/var/lib/imbabot/imbabot.db"),
            ("sqlite:///var/lib/imbabot.db", "/var/lib/imbabot.db"),
        ] {
            let read = Address::parse("--from", text).unwrap();
            assert!(matches!(&read, Address::File(file) if file == Path::new(path)), "{read:?}");
        }
        let read = Address::parse("--to", "postgres:").unwrap();
        assert!(matches!(read, Address::Server(Url::Variable)));
        let read = Address::parse("--to", "postgres:url").unwrap();
        assert!(matches!(read, Address::Server(Url::In(file)) if file == Path::new("url")));
        for url in [
            "postgres://db.example/imbabot",
            "postgresql://imbabot@db.example:5432/imbabot?sslmode=require",
            "postgres://imbabot@[::1]:5432/imbabot",
            "postgres:///imbabot?host=/run/postgresql",
        ] {
            let read = Address::parse("--to", url).unwrap();
            assert!(matches!(read, Address::Server(Url::Given(given)) if given.expose() == url));
        }
    }

    #[test]
    fn what_is_no_address_or_has_a_password_is_refused_and_not_repeated() {
        for text in [
            "",
            "hunter2",
            "sqlite:",
            "sqlite://hunter2.db",
            "mysql://hunter2@db.example/imbabot",
            "postgres://",
            "postgres:///hunter2",
            "postgres://imbabot:hunter2@db.example/imbabot",
            "postgresql://imbabot:hunt@er2:hunter2@db.example/imbabot",
            "postgres://db.example/imbabot?password=hunter2",
            "postgres://db.example/imbabot?sslmode=require&p%61ssword=hunter2",
            "postgres://imbabot:hun/hunter2@db.example/imbabot",
        ] {
            let failure = Address::parse("--from", text).unwrap_err();
            assert_eq!((failure.exit, failure.code), (Exit::Usage, CODE), "{text}");
            assert!(failure.message.starts_with("--from: ") && failure.hint.is_some());
            assert!(!format!("{failure:?}").contains("hunter2"), "{failure:?}");
        }
    }
}
