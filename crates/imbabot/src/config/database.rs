//! The URL of a database: a secret as a whole, because a password stands in it. Only its shape is
//! looked at here, and no part of it is ever repeated, not even the host.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

/// The URL of a PostgreSQL server. It is shown as stars.
#[derive(Clone)]
pub struct DatabaseUrl(SecretString);

const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];
/// What takes the place of an URL that is not read. Nobody answers there.
const STAND_IN: &str = "postgres://not-read.invalid/";

impl DatabaseUrl {
    /// The URL in this text; what surrounds it on its line is passed over.
    ///
    /// # Errors
    /// What is wrong with its shape, without a word of it.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let url = text.trim();
        if url.is_empty() {
            return Err("the URL of the database is empty");
        }
        let rest = SCHEMES.iter().find_map(|scheme| url.strip_prefix(scheme));
        let Some(rest) = rest else {
            return Err("the URL of the database does not begin with postgres:// or postgresql://");
        };
        if rest.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err("the URL of the database is more than one word");
        }
        let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
        let authority = before.split_once('/').map_or(before, |(authority, _)| authority);
        let hosts = authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts);
        let named_behind = query
            .split('&')
            .any(|pair| pair.strip_prefix("host=").is_some_and(|host| !host.is_empty()));
        if hosts.is_empty() && !named_behind {
            return Err("the URL of the database names no host");
        }
        if !hosts.is_empty() && !hosts.split(',').all(is_host) {
            return Err("the URL of the database has no host where one should stand");
        }
        Ok(Self(SecretString::from(url)))
    }

    pub(crate) fn stand_in() -> Self {
        Self(SecretString::from(STAND_IN))
    }

    /// The host that it names, for a sentence: without a port, a user or a password.
    #[must_use]
    pub fn host(&self) -> &str {
        let url = self.expose();
        let rest = SCHEMES.iter().find_map(|scheme| url.strip_prefix(scheme)).unwrap_or_default();
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let hosts = authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts);
        let first = hosts.split(',').next().unwrap_or_default();
        let name = match first.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => first.split(':').next().unwrap_or_default(),
        };
        if name.is_empty() { "this host" } else { name }
    }

    /// The URL itself, for the driver and nobody else.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

/// `db.example`, `10.0.0.7:5432`, `[::1]:5432`, or a folder with a socket in it, `%2Frun%2Fpostgresql`.
fn is_host(text: &str) -> bool {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((name, "")) => (name, None),
            Some((name, port)) => (name, Some(port.strip_prefix(':').unwrap_or("none"))),
            None => return false,
        },
        None => match text.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        },
    };
    let usable = |c: char| c.is_alphanumeric() || "-._%:".contains(c);
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    !name.is_empty() && name.chars().all(usable) && port.is_none_or(is_port)
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatabaseUrl(***)")
    }
}

impl PartialEq for DatabaseUrl {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for DatabaseUrl {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_driver_takes_is_taken() {
        for url in [
            "postgres://db.example/imbabot",
            "postgresql://imbabot@db.example",
            " postgres://imbabot:hunter2@10.0.0.7:5432/imbabot?sslmode=require\n",
            "postgres://imbabot:hunter2@[fe80::1]:5432/imbabot",
            "postgres://imbabot:hun%2Fter2@a.example,b.example:6432/imbabot",
            "postgres:///imbabot?host=/run/postgresql",
            "postgres://%2Frun%2Fpostgresql/imbabot",
        ] {
            let parsed = DatabaseUrl::parse(url).unwrap_or_else(|why| panic!("{url}: {why}"));
            assert_eq!(parsed.expose(), url.trim());
        }
        assert!(DatabaseUrl::parse(DatabaseUrl::stand_in().expose()).is_ok());
    }

    #[test]
    fn what_no_driver_takes_is_refused_and_not_repeated() {
        for url in [
            "",
            "\n",
            "mysql://hunter2@db.example/imbabot",
            "host=db.example password=hunter2",
            "postgres:/hunter2",
            "postgres://hunter2@",
            "postgres:///hunter2",
            "postgres://imbabot:hun/ter2@db.example/imbabot",
            "postgres://imbabot:hunter2@db.example:port/imbabot",
            "postgres://imbabot:hunter2@db.example:0/imbabot",
            "postgres://imbabot:hunter2@[::1/imbabot",
            "postgres://imbabot:hunter2@db.example/imbabot and more",
        ] {
            let why = DatabaseUrl::parse(url).err().unwrap_or_else(|| panic!("{url} is taken"));
            assert!(!why.contains("hunter2"), "{why}");
        }
    }

    #[test]
    fn no_more_of_it_is_said_than_the_first_host() {
        for (url, host) in [
            ("postgres://imbabot:hunter2@db.example:5432/imbabot", "db.example"),
            ("postgres://imbabot:hunter2@a.example:6432,b.example/imbabot", "a.example"),
            ("postgres://imbabot:hunter2@[fe80::1]:5432/imbabot", "fe80::1"),
            ("postgres:///imbabot?host=/run/postgresql&password=hunter2", "this host"),
        ] {
            assert_eq!(DatabaseUrl::parse(url).unwrap().host(), host);
        }
    }

    #[test]
    fn it_is_shown_as_stars() {
        let url = DatabaseUrl::parse("postgres://imbabot:hunter2@db.example/imbabot").unwrap();
        assert_eq!(format!("{url:?}"), "DatabaseUrl(***)");
    }
}
