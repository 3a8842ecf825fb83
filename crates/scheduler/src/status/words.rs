//! What each reason for not being ready means in words, for whoever shows a status to people. The
//! page of errors (`docs/errors.md`) has the same list.

use super::NotReady;

/// A reason in words; each is the end of a sentence without its full stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Words {
    /// What is the matter.
    pub what: &'static str,
    /// What the daemon does about it: "the daemon …".
    pub daemon: &'static str,
    /// What the reader can do.
    pub you: &'static str,
}

impl NotReady {
    /// The reason of that word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }

    /// The reason in words, where it is about this subject.
    #[must_use]
    pub fn words_about(self, subject: &str) -> Words {
        if self == Self::TaskStalled && subject.starts_with("task/") {
            return Words {
                what: "a task of the daemon has made no progress for minutes",
                daemon: "waits for it; under systemd it is ended and started again",
                you: "look at the disk of the store and at the log; a restart loses nothing",
            };
        }
        if subject == crate::shared::FLEET {
            match self {
                Self::Starting => {
                    return Words {
                        what: "this instance was out of touch with the store for longer than its lease, \
                               and others have taken over",
                        daemon: "begins anew by itself, and takes its share again",
                        you: "wait; if it happens often, the database or the host is too slow for the lease",
                    };
                }
                Self::Draining => {
                    return Words {
                        what: "an operator asked this instance to give everything away",
                        daemon: "finishes what is in flight, takes nothing more, and stands by",
                        you: "stop it, or take the request back",
                    };
                }
                _ => {}
            }
        }
        self.words()
    }

    /// The reason in words.
    #[must_use]
    pub fn words(self) -> Words {
        let (what, daemon, you) = match self {
            Self::Starting => (
                "no good list came yet since the start or the reload",
                "asks for it again and again",
                "wait; if it stays, look at what the widget says below",
            ),
            Self::ApiUnreachable => (
                "ImbaChat does not answer, or no answer can be used",
                "keeps everything, goes on asking, and sends again once it was answered",
                "look at `base_url` and at the way to that host; a restart does not help",
            ),
            Self::CredentialsRejected => (
                "ImbaChat refuses the secret key, or the token that is made with it",
                "sends nothing, keeps everything, and probes about once a minute",
                "put the right key in place and reload (SIGHUP); look at the widget's `id`, too",
            ),
            Self::Redirected => (
                "ImbaChat answers with a redirect, which is not followed",
                "sends nothing, keeps everything, and probes about once a minute",
                "correct `base_url` and reload (SIGHUP)",
            ),
            Self::StoreUnwritable => (
                "the store cannot be written, or is damaged",
                "does nothing that it could not write down first, and tries again",
                "look at the disk and the log; put a backup in the place of a damaged store",
            ),
            Self::ClockSuspect => (
                "the clock was set back over instants for which schedules have fired",
                "repeats nothing; those schedules go on when the clock reaches them again",
                "look at the host's clock; if it is right now, wait",
            ),
            Self::TaskStalled => (
                "a bot was set aside because it never awaits",
                "tells it nothing and keeps its events; everything else goes on",
                "mend the bot and restart, or reload (SIGHUP) to let it try again",
            ),
            Self::Draining => (
                "the daemon is stopping",
                "finishes what is in flight and claims nothing more",
                "wait until it has ended",
            ),
            Self::Paused => (
                "an operator paused something",
                "goes on polling and firing; what may not be sent waits, and expires as ever",
                "`imbabot resume`, with `--widget` or `--bot` where one of them is paused",
            ),
        };
        Words { what, daemon, you }
    }
}
