//! A TCP connection that can be taken out of hyper's hands: a handler may write bytes of its own,
//! half-close, or end it by FIN or RST at any point. Knows nothing of HTTP.

use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, ready};

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::in_process::Close;
use super::pause::pause;

/// How long a half-closed connection goes on swallowing what the client still sends. Closing with
/// unread bytes would turn the FIN into a reset.
const SWALLOW_MICROS: u64 = 500_000;

/// The connection as hyper sees it.
pub(super) struct Wire(WireHandle);

/// The same connection as a handler sees it.
#[derive(Clone)]
pub(super) struct WireHandle(Arc<Shared>);

struct Shared {
    stream: TcpStream,
    closed: AtomicBool,
    reader: AtomicWaker,
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self(WireHandle(Arc::new(Shared {
            stream,
            closed: AtomicBool::new(false),
            reader: AtomicWaker::new(),
        })))
    }

    pub(super) fn handle(&self) -> WireHandle {
        self.0.clone()
    }
}

impl WireHandle {
    /// Sends bytes past hyper, which must not be answering at that time.
    pub(super) async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.0.stream.writable().await?;
            match self.0.stream.try_write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Ends the connection: hyper finds it broken at its next read or write and lets go of it, and
    /// the last owner closes the socket.
    pub(super) fn end(&self, close: Close) {
        if close == Close::Rst {
            let _ = self.0.stream.set_zero_linger();
        }
        self.0.closed.store(true, Ordering::SeqCst);
        self.0.reader.wake();
    }

    /// Ends the connection by FIN although there may be bytes that nobody has read.
    pub(super) async fn end_unread(&self) {
        let _ = half_close(&self.0.stream);
        tokio::select! {
            () = self.swallow() => {}
            () = pause(SWALLOW_MICROS) => {}
        }
        self.end(Close::Fin);
    }

    async fn swallow(&self) {
        let mut nowhere = [0; 4096];
        while self.0.stream.readable().await.is_ok() {
            match self.0.stream.try_read(&mut nowhere) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }

    fn check_open(&self) -> io::Result<()> {
        if self.0.closed.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let shared = &self.0.0;
        // Before the look at `closed`, or a wake between the two would be lost.
        shared.reader.register(cx.waker());
        loop {
            self.0.check_open()?;
            ready!(shared.stream.poll_read_ready(cx))?;
            match shared.stream.try_read(buffer.initialize_unfilled()) {
                Ok(read) => {
                    buffer.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            self.0.check_open()?;
            ready!(self.0.0.stream.poll_write_ready(cx))?;
            match self.0.0.stream.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.check_open()?;
        Poll::Ready(half_close(&self.0.0.stream))
    }
}

/// Sends the FIN and leaves the other direction open. tokio can do it only to a stream that
/// nobody shares, so a duplicate of the descriptor does it.
#[cfg(unix)]
fn half_close(stream: &TcpStream) -> io::Result<()> {
    use std::os::fd::AsFd;
    let duplicate = std::net::TcpStream::from(stream.as_fd().try_clone_to_owned()?);
    duplicate.shutdown(Shutdown::Write)
}

/// Sends the FIN and leaves the other direction open.
#[cfg(windows)]
fn half_close(stream: &TcpStream) -> io::Result<()> {
    use std::os::windows::io::AsSocket;
    let duplicate = std::net::TcpStream::from(stream.as_socket().try_clone_to_owned()?);
    duplicate.shutdown(Shutdown::Write)
}

/// All open connections of a door.
#[derive(Default)]
pub(super) struct Wires(Mutex<Vec<Weak<Shared>>>);

impl Wires {
    pub(super) fn add(&self, wire: &Wire) {
        let mut wires = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        wires.retain(|wire| wire.strong_count() > 0);
        wires.push(Arc::downgrade(&wire.0.0));
    }

    pub(super) fn end_all(&self, close: Close) {
        let mut wires = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for shared in wires.drain(..).filter_map(|wire| wire.upgrade()) {
            WireHandle(shared).end(close);
        }
    }
}
