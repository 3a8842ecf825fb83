//! Who may use a database file: the lock of the daemon's role beside it, permissions, owner. The
//! lock is never SQLite's own exclusive mode, so that verbs work beside the daemon.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::Role;
use crate::error::{Error, ErrorKind, Result};

/// The daemon's role, held as long as this lives. The operating system gives it back when the
/// process dies, however it dies.
pub(super) struct RoleLock {
    _file: File,
}

impl RoleLock {
    pub(super) fn take(database: &Path) -> Result<Self> {
        let path = lock_path(database);
        let mut file = open_private(&path)
            .map_err(|e| unusable(&path, "the lock file cannot be opened", &e))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let pid = read_pid(&mut file);
                let who = pid.map_or_else(|| "another process".into(), |p| format!("process {p}"));
                return Err(Error::new(
                    ErrorKind::Held { pid },
                    format!("{who} runs on the store {}", database.display()),
                ));
            }
            Err(TryLockError::Error(e)) => {
                return Err(unusable(&path, "the lock file cannot be locked", &e));
            }
        }
        // For people and error messages only: the lock is the truth, the number is a hint.
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        written.map_err(|e| unusable(&path, "the lock file cannot be written", &e))?;
        Ok(Self { _file: file })
    }
}

/// The process in the daemon's role, if there is one.
pub(super) fn holder(database: &Path) -> Option<u32> {
    let path = lock_path(database);
    let mut file = File::open(path).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => read_pid(&mut file),
        _ => None,
    }
}

/// Makes the database file with mode 0600 before SQLite would make it by the umask, and refuses a
/// file that belongs to somebody else.
pub(super) fn prepare_file(path: &Path, role: Role) -> Result<()> {
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
            Ok(())
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && role == Role::Daemon => {
            open_private(path)
                .map(|_| ())
                .map_err(|e| unusable(path, "the store cannot be made", &e))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(Error::new(
            ErrorKind::Unusable,
            format!("there is no store at {}; `imbabot run` makes it", path.display()),
        )),
        Err(e) => Err(unusable(path, "the store cannot be opened", &e)),
    }
}

fn open_private(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn lock_path(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(20).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn unusable(path: &Path, what: &str, error: &std::io::Error) -> Error {
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
