//! Where the bytes of changed elements wait until their list is whole and committed: half a megabyte
//! in memory, then a file without a name, which nobody else can open and which is gone with the
//! process. So a list in which everything changed costs disk, not memory. Decides nothing.

use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::diff;

/// As much stays in memory: some two thousand rooms, more than change at once on most sites. It
/// is also how much is written at a time.
const IN_MEMORY: usize = 512 * 1024;
/// Bytes before each element that say how long it is.
const HEAD: usize = 4;

/// A bounded place for bytes.
#[derive(Debug)]
pub(super) struct Spool {
    folder: PathBuf,
    /// What is not in the file: the end of everything.
    recent: Vec<u8>,
    file: Option<File>,
    /// How long the file is.
    written: u64,
    failure: Option<io::Error>,
}

impl Spool {
    /// An empty one, with its file, if there has to be one, in this folder, or else where temporary
    /// files belong.
    pub(super) fn new(folder: Option<&Path>) -> Self {
        Self {
            folder: folder.map_or_else(std::env::temp_dir, Path::to_owned),
            recent: Vec::new(),
            file: None,
            written: 0,
            failure: None,
        }
    }

    /// Why it could not take everything.
    pub(super) fn failure(&self) -> Option<&io::Error> {
        self.failure.as_ref()
    }

    /// Moves what is in memory to the file.
    fn write_out(&mut self) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(nameless(&self.folder)?),
        };
        file.write_all(&self.recent)?;
        self.written += self.recent.len() as u64;
        self.recent.clear();
        Ok(())
    }

    fn read(&self, at: u64, into: &mut [u8]) -> Option<()> {
        if at < self.written {
            return self.file.as_ref()?.read_exact_at(into, at).ok();
        }
        let from = usize::try_from(at - self.written).ok()?;
        into.copy_from_slice(self.recent.get(from..from.checked_add(into.len())?)?);
        Some(())
    }
}

/// A file that has no name from the start where the system can do that, and else soon.
fn nameless(folder: &Path) -> io::Result<File> {
    let file = tempfile::tempfile_in(folder)?;
    // Nobody else can open it, but for root; and what root looks at may say whose it is.
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

impl diff::Spool for Spool {
    fn put(&mut self, bytes: &[u8]) -> Option<u64> {
        let length = u32::try_from(bytes.len()).ok()?;
        if self.recent.len() + HEAD + bytes.len() > IN_MEMORY
            && !self.recent.is_empty()
            && let Err(error) = self.write_out()
        {
            self.failure = Some(error);
            return None;
        }
        let at = self.written + self.recent.len() as u64;
        self.recent.extend_from_slice(&length.to_le_bytes());
        self.recent.extend_from_slice(bytes);
        Some(at)
    }

    fn get(&self, at: u64) -> Option<Vec<u8>> {
        let mut head = [0; HEAD];
        self.read(at, &mut head)?;
        let mut bytes = vec![0; u32::from_le_bytes(head) as usize];
        self.read(at + HEAD as u64, &mut bytes)?;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::diff::Spool as _;

    #[test]
    fn what_is_put_away_is_found_again_in_memory_and_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(Some(folder.path()));
        let element = |n: u32| vec![n.to_le_bytes()[0]; 100 + n as usize % 1_000];
        let places: Vec<_> = (0..30_000).map(|n| spool.put(&element(n)).unwrap()).collect();
        assert!(spool.recent.len() <= IN_MEMORY && spool.recent.capacity() <= 2 * IN_MEMORY);
        for (n, at) in (0..).zip(places) {
            assert_eq!(spool.get(at).unwrap(), element(n));
        }
        let file = spool.file.as_ref().unwrap().metadata().unwrap();
        assert_eq!((file.nlink(), file.permissions().mode() & 0o777), (0, 0o600));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_short_list_needs_no_file_and_no_folder() {
        let mut spool = Spool::new(Some(Path::new("/nowhere")));
        let places: Vec<_> = (0..1_000).map(|_| spool.put(b"{}").unwrap()).collect();
        assert!(places.iter().all(|at| spool.get(*at).unwrap() == b"{}"));
        assert!(spool.file.is_none() && spool.failure().is_none());
    }

    #[test]
    fn where_nothing_can_be_written_that_is_told() {
        let mut spool = Spool::new(Some(Path::new("/nowhere")));
        let room = [b'x'; 1_000];
        assert!((0..10_000).any(|_| spool.put(&room).is_none()));
        assert_eq!(spool.failure().unwrap().kind(), io::ErrorKind::NotFound);
    }
}
