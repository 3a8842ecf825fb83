//! What can go wrong with the store, in words that no driver leaks into.

use std::fmt;

/// The result of a verb.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure it is: what a caller can do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The same verb may succeed later: the database was busy.
    Retryable,
    /// No room left on the disk. Nothing was written.
    Full,
    /// Writing or reading failed, or the disk refused to say that it wrote. Final for this process.
    Io,
    /// The file is damaged or is not an imbabot store.
    Corrupt,
    /// The file was written by a newer imbabot.
    Newer,
    /// It is a copy that was not yet taken into use: what happened after it was made is not in it.
    Restored,
    /// It was moved into another database: what happened since is not in it.
    Moved,
    /// Another process runs on this store.
    Held {
        /// Its process id, if it could be read.
        pid: Option<u32>,
        /// It is a verb that gives the role back within seconds.
        brief: bool,
    },
    /// A file or folder cannot be used as asked: permissions, owner, path.
    Unusable,
    /// There is no store there yet.
    Absent,
    /// There is something already where a store was to be moved to.
    Occupied,
    /// A widget's name was used for another widget before.
    OtherWidget,
    /// This instance was taken for dead: others have taken over, and it must begin anew.
    Fenced,
    /// The store was closed.
    Closed,
    /// A record cannot be read by this build.
    Undecodable,
}

/// A failure of the store: its kind, and a sentence without anything secret.
#[derive(Debug, Clone)]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

impl Error {
    /// An error of this kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// The kind.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// Whether the same verb may succeed later in this process.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, ErrorKind::Retryable | ErrorKind::Full)
    }

    /// The stable code, registered in docs/errors.md.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self.kind {
            ErrorKind::Retryable => "IMB-S-BUSY",
            ErrorKind::Full => "IMB-S-FULL",
            ErrorKind::Io => "IMB-S-IO",
            ErrorKind::Corrupt => "IMB-S-CORRUPT",
            ErrorKind::Newer => "IMB-S-NEWER",
            ErrorKind::Restored | ErrorKind::Moved => "IMB-S-RESTORED",
            ErrorKind::Held { .. } => "IMB-S-HELD",
            ErrorKind::Unusable | ErrorKind::Absent => "IMB-S-UNUSABLE",
            ErrorKind::Occupied => "IMB-S-OCCUPIED",
            ErrorKind::OtherWidget => "IMB-S-OTHER-WIDGET",
            ErrorKind::Fenced => "IMB-S-FENCED",
            ErrorKind::Closed => "IMB-S-CLOSED",
            ErrorKind::Undecodable => "IMB-S-UNDECODABLE",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
