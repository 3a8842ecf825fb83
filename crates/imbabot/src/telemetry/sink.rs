//! Where lines go: a queue of bounded length, and a thread that writes what is in it to stderr. Whoever
//! logs never waits: if nobody reads, lines are lost, counted, and their number is said.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::lines::{Form, notice};
use super::repeats::Repeats;

/// So many lines wait at most; beyond that the reader is slower than what there is to say.
const QUEUE: usize = 8_192;
/// While repeats are held back, their count is told at the latest so long after its time.
const TICK: Duration = Duration::from_secs(5);

enum Message {
    Line(String),
    /// Repeats are held back: from now on somebody looks at the clock.
    Held,
    Flush(SyncSender<()>),
}

/// The way into the queue.
#[derive(Clone)]
pub(super) struct Sink {
    queue: SyncSender<Message>,
    lost: Arc<AtomicU64>,
}

impl Sink {
    /// Starts the thread that writes.
    pub(super) fn new(form: Form, repeats: Arc<Mutex<Repeats>>) -> Option<Self> {
        let (queue, messages) = sync_channel(QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&lost);
        let writer = std::thread::Builder::new().name("imbabot-log".into());
        writer.spawn(move || write(form, &messages, &repeats, &counted)).ok()?;
        Some(Self { queue, lost })
    }

    pub(super) fn line(&self, line: String) {
        if self.queue.try_send(Message::Line(line)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn held(&self) {
        // If the queue is full, the thread has much to do and looks at the clock after it.
        let _ = self.queue.try_send(Message::Held);
    }

    /// Waits until what is in the queue is written, but not for ever.
    pub(super) fn flush(&self, patience: Duration) {
        let (done, written) = sync_channel(1);
        if self.queue.try_send(Message::Flush(done)).is_ok() {
            let _ = written.recv_timeout(patience);
        }
    }
}

fn write(form: Form, messages: &Receiver<Message>, repeats: &Mutex<Repeats>, lost: &AtomicU64) {
    let mut held = false;
    // Nothing can be done about a reader that went away.
    let put = |line: &str| {
        let mut stderr = std::io::stderr().lock();
        let _ = stderr.write_all(line.as_bytes());
        let _ = stderr.flush();
    };
    let tell = |all: bool| {
        let mut repeats = repeats.lock().unwrap_or_else(PoisonError::into_inner);
        let (told, left) = repeats.told(all);
        drop(repeats);
        for (target, text) in told {
            put(&notice(form, &target, "IMB-X-REPEATED", &text));
        }
        left
    };
    loop {
        let message = match held {
            true => messages.recv_timeout(TICK),
            false => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match message {
            Ok(Message::Line(line)) => put(&line),
            Ok(Message::Held) => held = true,
            Ok(Message::Flush(done)) => {
                tell(true);
                let _ = done.try_send(());
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let missing = lost.swap(0, Ordering::Relaxed);
        if missing > 0 {
            let text = format!("{missing} lines of the log were lost: nobody read them in time");
            put(&notice(form, module_path!(), "IMB-X-LOG-LOST", &text));
        }
        if held {
            held = tell(false);
        }
    }
}
