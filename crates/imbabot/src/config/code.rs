//! The stable codes of configuration problems. A code never changes its meaning and is never
//! used again for another one; scripts may match on it. `docs/errors.md` lists the same codes.

use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $title:literal;)*) => {
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
        }
    };
}

codes! {
    FileMissing = "IMB-C-001", "a file that is named does not exist";
    FileUnreadable = "IMB-C-002", "a file cannot be read, or is a directory";
    NotText = "IMB-C-003", "a file is not UTF-8 text";
    TooLarge = "IMB-C-004", "a file is too large to be what it should be";
    Syntax = "IMB-C-010", "not TOML";
    UnknownKey = "IMB-C-011", "a key that does not exist";
    WrongType = "IMB-C-012", "a value of another type than the key takes";
    BadValue = "IMB-C-013", "a value that cannot be read or is out of range";
    Missing = "IMB-C-014", "a required key is missing";
    Duplicate = "IMB-C-015", "two widgets, schedules or bots have the same name";
    BadName = "IMB-C-016", "not a name";
    Conflict = "IMB-C-017", "keys that do not go together";
    UnknownVariable = "IMB-C-020", "an environment variable that sets nothing";
    UnknownFlag = "IMB-C-021", "a flag that sets nothing";
    NoWidget = "IMB-C-030", "no widget is configured";
    BadUrl = "IMB-C-031", "a base_url that is not accepted";
    UnknownWidget = "IMB-C-032", "a widget name that no [[widget]] has";
    SecretInline = "IMB-C-040", "a secret where it does not belong";
    SecretAbsent = "IMB-C-041", "no secret is given";
    SecretRefused = "IMB-C-042", "an empty or placeholder secret";
    SecretExposed = "IMB-C-043", "a secret file that group or others can read";
    SecretUnreadable = "IMB-C-044", "a secret file that cannot be read";
    BadCron = "IMB-C-050", "a cron expression that cannot be read or never fires";
    BadZone = "IMB-C-051", "an unknown time zone";
    BadSelector = "IMB-C-052", "a selection of rooms that cannot be made";
    BadTemplate = "IMB-C-053", "a template that cannot be rendered";
    BadSchedule = "IMB-C-054", "a schedule whose parts do not fit together";
    UnknownKind = "IMB-C-060", "a kind of bot that is not built in";
    BadSettings = "IMB-C-061", "settings that the bot refuses";
    StoreKind = "IMB-C-070", "a kind of store that this version does not have";
    BadListen = "IMB-C-080", "an HTTP address that is not accepted";
    InsecureHttp = "IMB-C-101", "warning: the secret key travels unencrypted";
    UnusedSecret = "IMB-C-102", "warning: a secret in the environment that belongs to no widget";
    WeakToken = "IMB-C-103", "warning: a token that is easy to guess";
    SameWidget = "IMB-C-104", "warning: two names for one widget";
    OpenHttp = "IMB-C-105", "warning: HTTP beyond this machine without TLS";
    Unused = "IMB-C-106", "warning: a value without effect";
    Past = "IMB-C-107", "note: a schedule whose only instant is past";
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
