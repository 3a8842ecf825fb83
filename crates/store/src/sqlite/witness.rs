//! How far a store ever came, in a file beside it: one line that is written over in place. Whoever puts
//! an old copy of the database where the store was does not put the same copy of this in its place, and
//! so the two disagree. It decides nothing else, and a store without one is believed.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::provenance::Reached;
use super::role;
use crate::error::{Error, ErrorKind, Result};

pub(super) struct Witness {
    path: PathBuf,
    state: Mutex<(Option<File>, Option<Reached>)>,
}

impl Witness {
    pub(super) fn of(database: &Path) -> Self {
        Self { path: role::beside(database, ".seen"), state: Mutex::default() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What it says, if it is there and says anything.
    pub(super) fn read(&self) -> Option<Reached> {
        let text = std::fs::read_to_string(&self.path).ok()?;
        let (line, seq) = text.lines().next()?.split_once(' ')?;
        Some(Reached { line: line.to_owned(), seq: seq.trim().parse().ok()? })
    }

    /// Says that the store came so far. Behind a commit, never before it; where a power cut takes it
    /// back, a little less is noticed.
    pub(super) fn write(&self, reached: &Reached) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, said) = &mut *state;
        if said.as_ref() == Some(reached) {
            return Ok(());
        }
        let failed = |error: std::io::Error| {
            let path = self.path.display();
            let message =
                format!("how far the store came cannot be written to {path}: {}", error.kind());
            Error::new(ErrorKind::Retryable, message)
        };
        let is_new = file.is_none();
        let file = match file {
            Some(file) => file,
            None => {
                let mut options = OpenOptions::new();
                options.write(true).create(true).truncate(false).mode(0o600);
                file.insert(options.open(&self.path).map_err(failed)?)
            }
        };
        // Of one length, so that a line is never the end of another.
        let text = format!("{} {:020}\n", reached.line, reached.seq);
        file.write_all_at(text.as_bytes(), 0).map_err(failed)?;
        if is_new {
            file.sync_all().map_err(failed)?;
        }
        *said = Some(reached.clone());
        Ok(())
    }
}
