//! What the daemon tells the supervisor that started it, by systemd's protocol: that it is ready, that it
//! still makes progress, that it reloads, that it stops. One datagram each, which is never waited for.
//! Without a supervisor nobody is told anything.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use imbabot_scheduler::Engine;

use crate::current::Current;

/// Without a watchdog the status is looked at this often.
const LOOK: Duration = Duration::from_secs(10);

/// No watchdog is fed more often; one that wants it is a mistake, and no reason to spin.
const LEAST: Duration = Duration::from_millis(10);

/// The way to the supervisor.
pub(crate) struct Notifier {
    to: Option<(UnixDatagram, SocketAddr)>,
    /// It wants to hear within this that there is progress.
    watchdog: Option<Duration>,
    /// That it does not listen was said.
    complained: AtomicBool,
}

impl Notifier {
    /// As the environment says.
    pub(crate) fn of_process() -> Self {
        let text = |name: &str| std::env::var(name).ok();
        let ours = text("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let micros = text("WATCHDOG_USEC").and_then(|micros| micros.parse().ok());
        let watchdog = micros.filter(|micros| ours && *micros > 0).map(Duration::from_micros);
        let to = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty());
        let to = to.and_then(|name| match open(&name) {
            Ok(to) => Some(to),
            Err(error) => {
                tracing::warn!(
                    code = "IMB-X-NOTIFY",
                    "the supervisor cannot be told anything: NOTIFY_SOCKET: {}",
                    error.kind()
                );
                None
            }
        });
        Self { to, watchdog, complained: AtomicBool::new(false) }
    }

    /// For a run that no supervisor waits for.
    pub(crate) fn nobody() -> Self {
        Self { to: None, watchdog: None, complained: AtomicBool::new(false) }
    }

    /// Everything has started.
    pub(crate) fn ready(&self, engine: &Engine) {
        self.say(&format!("READY=1\nSTATUS={}", standing(engine)));
    }

    /// A reload begins; `ready` ends it.
    pub(crate) fn reloading(&self) {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let micros = time.tv_sec * 1_000_000 + time.tv_nsec / 1_000;
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// The end has begun.
    pub(crate) fn stopping(&self) {
        self.say("STOPPING=1\nSTATUS=stopping: what is in flight is finished");
    }

    /// Says that there is progress, as long as there is, and what is the matter, if that changes.
    pub(crate) async fn watch(&self, current: &Current) -> Infallible {
        if self.to.is_none() {
            return std::future::pending().await;
        }
        // Two may be late or lost before the third counts.
        let every = self.watchdog.map_or(LOOK, |within| (within / 3).max(LEAST));
        let mut told = String::new();
        loop {
            current.engine().clock().sleep(every).await;
            let engine = current.engine();
            if self.watchdog.is_some() && engine.is_alive() {
                self.say("WATCHDOG=1");
            }
            let standing = standing(&engine);
            // While it stops that is what there is to say.
            if standing != told && !engine.is_stopping() {
                self.say(&format!("STATUS={standing}"));
                told = standing;
            }
        }
    }

    /// A supervisor that does not listen is no reason to wait, or to fail. It may end what it never heard
    /// of, so that it did not listen is said, once.
    fn say(&self, text: &str) {
        if let Some((socket, to)) = &self.to
            && let Err(error) = socket.send_to_addr(text.as_bytes(), to)
            && !self.complained.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                code = "IMB-X-NOTIFY",
                "the supervisor was not told: NOTIFY_SOCKET: {}",
                error.kind()
            );
        }
    }
}

fn standing(engine: &Engine) -> String {
    let reasons: Vec<&str> = engine.reasons().into_iter().map(|reason| reason.as_str()).collect();
    match reasons.is_empty() {
        true => "ready".into(),
        false => format!("not ready: {}", reasons.join(", ")),
    }
}

fn open(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let to = match name.as_bytes() {
        [b'@', name @ ..] => abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(name)?,
        _ => return Err(io::ErrorKind::Unsupported.into()),
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, to))
}

#[cfg(target_os = "linux")]
fn abstract_name(name: &[u8]) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    SocketAddr::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn abstract_name(_: &[u8]) -> io::Result<SocketAddr> {
    Err(io::ErrorKind::Unsupported.into())
}
