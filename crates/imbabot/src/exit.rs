//! Exit codes: the part of the contract that scripts read.

use std::process::ExitCode;

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0.
    Ok,
    /// 1: another failure.
    Failure,
    /// 2: the command line.
    Usage,
    /// 10: nobody knows whether the message was posted.
    SendUnknown,
    /// 11: the message is dead.
    SendDead,
    /// 12: not finished in time.
    Unfinished,
    /// 65: the input cannot be used.
    BadInput,
    /// 69: the server or the daemon is not there.
    Unavailable,
    /// 70: supervision gave up.
    Internal,
    /// 74: the store cannot be read or written, or is damaged.
    Store,
    /// 75: another process has the store.
    Held,
    /// 77: the secret key is refused.
    Credentials,
    /// 78: the configuration.
    Config,
    /// 143: ended by force.
    Forced,
}

impl Exit {
    /// The number.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::SendUnknown => 10,
            Self::SendDead => 11,
            Self::Unfinished => 12,
            Self::BadInput => 65,
            Self::Unavailable => 69,
            Self::Internal => 70,
            Self::Store => 74,
            Self::Held => 75,
            Self::Credentials => 77,
            Self::Config => 78,
            Self::Forced => 143,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a verb ends without having done what was asked: an exit code, and one line for a person.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, code: &'static str, message: impl Into<String>) -> Self {
        Self { exit, code, message: message.into(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn bad_input(message: impl Into<String>) -> Self {
        Self::new(Exit::BadInput, "IMB-V-INPUT", message)
    }
}

impl From<imbabot_store::Error> for Failure {
    fn from(error: imbabot_store::Error) -> Self {
        use imbabot_store::ErrorKind;
        let exit = match error.kind() {
            ErrorKind::Held { .. } => Exit::Held,
            ErrorKind::Newer | ErrorKind::OtherWidget => Exit::Config,
            ErrorKind::Occupied => Exit::BadInput,
            _ => Exit::Store,
        };
        let failure = Self::new(exit, error.code(), error.to_string());
        match error.kind() {
            ErrorKind::Held { .. } => failure.hint("one daemon per store; stop that one first"),
            ErrorKind::Occupied => failure.hint(
                "nothing was changed. Name a file that is not there, or a database in which no \
                 imbabot ever ran",
            ),
            ErrorKind::Corrupt => failure.hint(
                "nothing was changed. Stop the daemon, keep the file and its -wal for \
                 inspection, and put a backup in its place",
            ),
            ErrorKind::Restored => failure.hint(
                "nothing was changed. `imbabot store reanchor` takes an old copy into use, and sends \
                 nothing that may have been sent since; for a store that was only moved, remove the \
                 file that ends in .seen. See \"Disasters\" in docs/operating.md",
            ),
            ErrorKind::Moved => failure.hint(
                "nothing was changed. `[store]` has to name the store that it was moved into; \
                 \"Moving a store\" in docs/operating.md says how this one is taken \
                 into use again if that one is lost",
            ),
            ErrorKind::OtherWidget => failure.hint(
                "give the new widget another `name`, or another store; the old id would also do",
            ),
            _ => failure,
        }
    }
}

impl From<imbabot_scheduler::Fatal> for Failure {
    fn from(fatal: imbabot_scheduler::Fatal) -> Self {
        match fatal {
            imbabot_scheduler::Fatal::Store(error) => error.into(),
            other => Self::new(Exit::Internal, "IMB-X-TASK", other.to_string()),
        }
    }
}

impl From<imbabot_core::Error> for Failure {
    fn from(error: imbabot_core::Error) -> Self {
        let exit = if error.is_credentials() { Exit::Credentials } else { Exit::Unavailable };
        Self::new(exit, error.code(), error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use imbabot_scheduler::Fatal;

    use super::*;

    #[test]
    fn p16_a_task_that_fails_again_and_again_is_exit_70() {
        let fatal = Fatal::Task { task: "timer", times: 5, last: "oh".into() };
        let failure = Failure::from(fatal);
        assert_eq!((failure.exit.code(), failure.code), (70, "IMB-X-TASK"));
    }
}
