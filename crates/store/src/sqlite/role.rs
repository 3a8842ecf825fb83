//! Who may use a database file: the lock of the daemon's role beside it, permissions, owner. The
//! lock is never SQLite's own exclusive mode, so that verbs work beside the daemon.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use imbabot_core::Timestamp;
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use super::Role;
use crate::error::{Error, ErrorKind, Result};

/// How a verb that takes the role for one row says so in the lock file.
const BRIEF: &str = "brief";

/// So many who only look are waited for.
const LOOKS: usize = 10_000;

/// The daemon's role, held as long as this lives. The operating system gives it back when the
/// process dies, however it dies.
pub(super) struct RoleLock {
    _file: File,
}

impl RoleLock {
    pub(super) fn take(database: &Path, role: Role) -> Result<Self> {
        let path = lock_path(database);
        let mut file = open_private(&path)
            .map_err(|e| unusable(&path, "the lock file cannot be opened", &e))?;
        match lock(&file) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let (pid, brief) = read_holder(&mut file);
                // Nobody's name, or that of one who is dead: somebody has just taken the role and has not
                // said yet who it is. Whoever waits for a moment will know.
                let brief = brief || pid.is_none_or(is_dead);
                let who = pid.map_or_else(|| "another process".into(), |p| format!("process {p}"));
                return Err(Error::new(
                    ErrorKind::Held { pid, brief },
                    format!("{who} runs on the store {}", database.display()),
                ));
            }
            Err(TryLockError::Error(e)) => {
                return Err(unusable(&path, "the lock file cannot be locked", &e));
            }
        }
        // For people and error messages only: the lock is the truth, the number is a hint.
        let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| {
            let word = if role == Role::Brief { BRIEF } else { "daemon" };
            writeln!(file, "{} {word}", std::process::id())
        });
        written.map_err(|e| unusable(&path, "the lock file cannot be written", &e))?;
        Ok(Self { _file: file })
    }
}

/// The process in the daemon's role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// Its number; 0 if that cannot be read.
    pub pid: u32,
    /// It is a verb that has the role for a moment.
    pub brief: bool,
    /// Since when it has the role, by the clock of then.
    pub since: Option<Timestamp>,
}

/// The process in the daemon's role, if there is one.
pub(super) fn holder(database: &Path) -> Option<Holder> {
    let path = lock_path(database);
    let mut file = File::open(path).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {
            let (pid, brief) = read_holder(&mut file);
            // Whoever takes the role writes the file, and nobody else does.
            let written = file.metadata().ok();
            let since = written.map(|data| Timestamp::from_seconds(data.mtime()));
            Some(Holder { pid: pid.unwrap_or(0), brief, since })
        }
        _ => None,
    }
}

/// Takes the lock. Whoever asks for its [`holder`] shares it for some microseconds, which is no
/// reason to be refused: as long as it can be shared, nobody has the role.
fn lock(file: &File) -> std::result::Result<(), TryLockError> {
    let mut end = file.try_lock();
    for _ in 0..LOOKS {
        if !matches!(end, Err(TryLockError::WouldBlock)) || file.try_lock_shared().is_err() {
            break;
        }
        file.unlock().map_err(TryLockError::Error)?;
        std::thread::yield_now();
        end = file.try_lock();
    }
    end
}

/// Whether the database file is there and may be used; false if it is to be made. A file that
/// belongs to somebody else is refused.
pub(super) fn find_file(path: &Path, role: Role) -> Result<bool> {
    if path.is_dir() {
        return Err(Error::new(
            ErrorKind::Unusable,
            format!("the store {} is a folder, not a file", path.display()),
        ));
    }
    match std::fs::metadata(path) {
        Ok(data) => {
            let me = rustix::process::geteuid().as_raw();
            if data.uid() != me {
                return Err(Error::new(
                    ErrorKind::Unusable,
                    format!(
                        "the store {} belongs to user {}, this process runs as user {me}: run it as that user",
                        path.display(),
                        data.uid()
                    ),
                ));
            }
            Ok(true)
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && role != Role::Visitor => {
            let log = beside(path, "-wal");
            if std::fs::metadata(&log).is_ok_and(|data| data.len() > 0) {
                // SQLite would mix it into whatever is made in that place.
                return Err(Error::new(
                    ErrorKind::Corrupt,
                    format!(
                        "the store {} is gone, its log {} is not: restore both, or remove the log",
                        path.display(),
                        log.display()
                    ),
                ));
            }
            Ok(false)
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(Error::new(
            ErrorKind::Unusable,
            format!("there is no store at {}; `imbabot run` makes it", path.display()),
        )),
        Err(e) => Err(unusable(path, "the store cannot be opened", &e)),
    }
}

/// An empty file beside the place of the store, to become it. Made with mode 0600 here, because
/// SQLite would go by the umask; the files that SQLite adds get the mode of this one.
pub(super) fn draft(path: &Path) -> Result<PathBuf> {
    let draft = beside(path, ".new");
    for left in [draft.clone(), beside(&draft, "-journal")] {
        match std::fs::remove_file(&left) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(unusable(&left, "what an earlier start left cannot be removed", &e));
            }
            _ => {}
        }
    }
    open_private(&draft).map_err(|e| unusable(path, "the store cannot be made", &e))?;
    Ok(draft)
}

/// Gives the draft its name, durably.
pub(super) fn publish(draft: &Path, path: &Path) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(draft)
        .and_then(|file| file.sync_all())
        .and_then(|()| std::fs::rename(draft, path))
        .and_then(|()| File::open(folder)?.sync_all())
        .map_err(|e| unusable(path, "the store cannot be made", &e))
}

fn open_private(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn lock_path(database: &Path) -> PathBuf {
    beside(database, ".lock")
}

pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// The holder's process id, and whether it holds the role only for a moment.
fn read_holder(file: &mut File) -> (Option<u32>, bool) {
    let mut text = String::new();
    // Unreadable or half written: somebody holds it, and that is all that is known.
    let _ = file.take(40).read_to_string(&mut text);
    let mut words = text.split_whitespace();
    let pid = words.next().and_then(|pid| pid.parse().ok());
    (pid, words.next() == Some(BRIEF))
}

/// Whether there is no such process.
fn is_dead(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH))
}

pub(super) fn unusable(path: &Path, what: &str, error: &std::io::Error) -> Error {
    let hint = match error.kind() {
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
            "; its folder must be writable for the user that runs imbabot (chmod u+rwx)"
        }
        std::io::ErrorKind::NotFound => "; its folder does not exist",
        _ => "",
    };
    let cause = error.kind();
    Error::new(ErrorKind::Unusable, format!("{what}: {}: {cause}{hint}", path.display()))
}
