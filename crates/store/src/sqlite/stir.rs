//! Notices that somebody writes to the database, at once and without asking again and again: the
//! system says so of the file beside it in which every commit ends (`-wal`). It is a hint that may
//! come for nothing and never says what changed; whoever needs to know asks the store.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::Notify;

use super::role;

/// Rings when the database is written to, by whatever process.
pub(super) struct Stir {
    bell: Arc<Notify>,
    #[cfg(target_os = "linux")]
    watch: Option<Watch>,
}

impl Stir {
    /// Listens beside this database. Where that is not possible it never rings.
    pub(super) fn of(database: &Path) -> Self {
        let bell = Arc::new(Notify::new());
        Self {
            #[cfg(target_os = "linux")]
            watch: Watch::begin(database, &bell)
                .inspect_err(|error| tracing::debug!(%error, "writes by others are looked for"))
                .ok(),
            bell,
        }
    }

    /// Never rings: for whoever looks once and goes.
    pub(super) fn nowhere() -> Self {
        Self {
            bell: Arc::default(),
            #[cfg(target_os = "linux")]
            watch: None,
        }
    }

    /// Resolves when something was written since this was asked last.
    pub(super) async fn heard(&self) {
        self.bell.notified().await;
    }

    /// Ends the listening.
    pub(super) fn end(&mut self) {
        #[cfg(target_os = "linux")]
        drop(self.watch.take());
    }
}

/// A thread that sleeps in the system until something is written.
#[cfg(target_os = "linux")]
struct Watch {
    notes: Arc<std::os::fd::OwnedFd>,
    file: i32,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[cfg(target_os = "linux")]
impl Watch {
    fn begin(database: &Path, bell: &Arc<Notify>) -> std::io::Result<Self> {
        use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};

        let notes = Arc::new(init(CreateFlags::CLOEXEC)?);
        let file = add_watch(&notes, role::beside(database, "-wal"), WatchFlags::MODIFY)?;
        let (read, bell) = (Arc::clone(&notes), Arc::clone(bell));
        let body = move || listen(&read, &bell);
        let thread = std::thread::Builder::new().name("store-watch".into()).spawn(body)?;
        Ok(Self { notes, file, thread: Some(thread) })
    }
}

#[cfg(target_os = "linux")]
impl Drop for Watch {
    /// The system tells the thread that there is nothing to listen to any more.
    fn drop(&mut self) {
        if rustix::fs::inotify::remove_watch(&*self.notes, self.file).is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

#[cfg(target_os = "linux")]
fn listen(notes: &std::os::fd::OwnedFd, bell: &Notify) {
    use rustix::fs::inotify::{ReadFlags, Reader};

    // An event has 16 bytes, and one that is like the last one is not queued again.
    let mut buffer = [std::mem::MaybeUninit::uninit(); 1024];
    let mut reader = Reader::new(notes, &mut buffer);
    loop {
        match reader.next() {
            Ok(note) if note.events().contains(ReadFlags::IGNORED) => return,
            Ok(_) => bell.notify_one(),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}
