//! The stable codes of configuration problems. A code never changes its meaning and is never
//! used again for another one; scripts may match on it. `docs/errors.md` lists the same codes.

use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $title:literal, $advice:literal;)*) => {
        /// What kind of problem it is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Code {
            $(#[doc = $title] $name,)*
        }

        impl Code {
            /// All of them, by number.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The code as it is printed: `IMB-C-011`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// What it stands for, in a few words.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }

            /// What the reader can do about it, where nothing more particular is known.
            #[must_use]
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$name => $advice,)* }
            }
        }
    };
}

codes! {
    FileMissing = "IMB-C-001", "a file that is named does not exist",
        "create the file, or correct the path; relative paths start at the folder of the file that names them";
    FileUnreadable = "IMB-C-002", "a file cannot be read, or is a directory",
        "give a file that the user imbabot runs as can read";
    NotText = "IMB-C-003", "a file is not UTF-8 text",
        "save the file as UTF-8";
    TooLarge = "IMB-C-004", "a file is too large to be what it should be",
        "check that it is the right file: none has more than 16 MiB";
    Syntax = "IMB-C-010", "not TOML",
        "correct the line: texts stand in quotes, and what is opened is closed; the other lines are checked as far as they can be read";
    UnknownKey = "IMB-C-011", "a key that does not exist",
        "take the suggestion; keys that follow a `[section]` belong to it, up to the next one";
    WrongType = "IMB-C-012", "a value of another type than the key takes",
        "write the value as the message says: durations, sizes and rates are texts with a unit, numbers and `true` stand without quotes";
    BadValue = "IMB-C-013", "a value that cannot be read or is out of range",
        "give a value of the form, or in the range, that the message names";
    Missing = "IMB-C-014", "a required key is missing",
        "add the key to the section that is shown";
    Duplicate = "IMB-C-015", "two widgets, schedules or bots have the same name",
        "give one of the two another name; what the store remembers belongs to the name that stays";
    BadName = "IMB-C-016", "not a name",
        "use `a-z`, `0-9`, `_` and `-`, starting with a letter or a digit, at most 64 characters";
    Conflict = "IMB-C-017", "keys that do not go together",
        "keep one of them";
    UnknownVariable = "IMB-C-020", "an environment variable that sets nothing",
        "correct or unset the variable";
    UnknownFlag = "IMB-C-021", "a flag that sets nothing",
        "correct the flag";
    NoWidget = "IMB-C-030", "no widget is configured",
        "add a `[[widget]]`; `config/minimal.toml` shows how";
    BadUrl = "IMB-C-031", "a base_url that is not accepted",
        "use `https://api.imbachat.com`, or the address of your own server; `allow_insecure_http = true` accepts plain http beyond this machine";
    UnknownWidget = "IMB-C-032", "a widget name that is not configured",
        "use the `name` of a `[[widget]]`, or leave `widgets` out for all";
    SecretInline = "IMB-C-040", "a secret where it does not belong",
        "move the secret into a file of its own, or into the environment, and change it if others have seen it";
    SecretAbsent = "IMB-C-041", "no secret is given",
        "name a file in `secret_key_file`, or set `IMBABOT_SECRET_KEY`; for the URL of a database, `url_file` or `IMBABOT_DATABASE_URL`";
    SecretRefused = "IMB-C-042", "an empty or placeholder secret",
        "copy the real \"Secret key\" from the ImbaChat dashboard";
    SecretExposed = "IMB-C-043", "a secret file that group or others can read",
        "run the `chmod 600` that is shown; for a container's mount set `allow_group_readable = true`";
    SecretUnreadable = "IMB-C-044", "a secret file that cannot be read",
        "give a small text file that the user imbabot runs as can read";
    BadCron = "IMB-C-050", "a cron expression that cannot be read or never fires",
        "correct the field that is shown";
    BadZone = "IMB-C-051", "an unknown time zone",
        "use an IANA name such as `Europe/Berlin`";
    BadSelector = "IMB-C-052", "a selection of rooms that cannot be made",
        "give at least one of `ids`, `name`, `kind`, `public`, or `all = true` alone; a `name` is a regular expression";
    BadTemplate = "IMB-C-053", "a template that cannot be rendered",
        "the template language is that of minijinja, and the variables are those that docs/announcements.md and docs/bots.md list";
    BadSchedule = "IMB-C-054", "a schedule whose parts do not fit together",
        "change the value that is shown";
    UnknownKind = "IMB-C-060", "a kind of bot that is not built in",
        "use a kind that is listed in `bots/src/main.rs`, or add it there and build";
    BadSettings = "IMB-C-061", "settings that the bot refuses",
        "change the settings as the bot says";
    StoreKind = "IMB-C-070", "a kind of store that this version does not have",
        "use `kind = \"sqlite\"`, a file of this machine, or `kind = \"postgres\"`, a server";
    BadDatabaseUrl = "IMB-C-071", "a URL of a database that cannot be one",
        "write it as `postgres://user:password@host:5432/database`";
    BadListen = "IMB-C-080", "an HTTP address that is not accepted",
        "listen on 127.0.0.1, or set `token_file`";
    InsecureHttp = "IMB-C-101", "warning: the secret key travels unencrypted",
        "use https";
    UnusedSecret = "IMB-C-102", "warning: a secret in the environment that belongs to no widget",
        "correct the name of the variable, or unset it";
    WeakToken = "IMB-C-103", "warning: a token that is easy to guess",
        "`openssl rand -hex 32` makes a better one";
    SameWidget = "IMB-C-104", "warning: two names for one widget",
        "remove one of the two, or name the wanted one in the `widgets` of schedules and bots";
    OpenHttp = "IMB-C-105", "warning: HTTP beyond this machine without TLS",
        "put a proxy with TLS in front";
    Unused = "IMB-C-106", "warning: a value without effect",
        "remove it";
    Past = "IMB-C-107", "note: a schedule whose only instant is past",
        "remove the schedule, or give it another time";
    OddDay = "IMB-C-108", "note: a clock change bears on a schedule within a year",
        "choose another time, or what happens then with `dst`; `imbabot plan` shows the day";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_code_is_given_twice() {
        let mut seen: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        seen.sort_unstable();
        let all = seen.len();
        seen.dedup();
        assert_eq!(seen.len(), all);
    }
}
