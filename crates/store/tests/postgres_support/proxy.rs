//! What lies between a store and its database: a wire that can be cut at the one moment that matters,
//! before a COMMIT arrives, or after it arrived and before its answer is heard.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// What happens to the next COMMIT, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum AtCommit {
    Passes = 0,
    /// The wire is cut before it arrives.
    Lost = 1,
    /// It arrives, and the wire is cut before the answer does.
    AnswerLost = 2,
    /// It is held up until [`Proxy::go_on`], and the connection stays.
    Frozen = 3,
}

#[derive(Default)]
struct Plan {
    at_commit: AtomicU8,
    /// Nobody gets through.
    down: AtomicBool,
    cut: AtomicUsize,
    going: (Mutex<bool>, Condvar),
}

/// A wire to a server.
pub(crate) struct Proxy {
    pub(crate) at: SocketAddr,
    plan: Arc<Plan>,
}

impl Proxy {
    /// To the server of this address.
    pub(crate) fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let plan = Arc::new(Plan::default());
        let shared = Arc::clone(&plan);
        thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { return };
                if shared.down.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(server) = TcpStream::connect(server) else { continue };
                carry(client, server, &shared);
            }
        });
        Self { at, plan }
    }

    /// What the next COMMIT meets.
    pub(crate) fn at_commit(&self, what: AtCommit) {
        *self.plan.going.0.lock().unwrap() = false;
        self.plan.at_commit.store(what as u8, Ordering::SeqCst);
    }

    /// What was frozen goes on.
    pub(crate) fn go_on(&self) {
        *self.plan.going.0.lock().unwrap() = true;
        self.plan.going.1.notify_all();
    }

    /// New connections are closed at once, or not any more.
    pub(crate) fn down(&self, down: bool) {
        self.plan.down.store(down, Ordering::SeqCst);
    }

    /// How many COMMITs met something.
    pub(crate) fn met(&self) -> usize {
        self.plan.cut.load(Ordering::SeqCst)
    }
}

fn carry(client: TcpStream, server: TcpStream, plan: &Arc<Plan>) {
    let swallow = Arc::new(AtomicBool::new(false));
    let (mut from_server, mut to_client) =
        (server.try_clone().unwrap(), client.try_clone().unwrap());
    let silent = Arc::clone(&swallow);
    thread::spawn(move || {
        let mut buffer = [0; 16_384];
        while let Ok(n @ 1..) = from_server.read(&mut buffer) {
            if silent.load(Ordering::SeqCst) || to_client.write_all(&buffer[..n]).is_err() {
                break;
            }
        }
        let _ = to_client.shutdown(Shutdown::Both);
        let _ = from_server.shutdown(Shutdown::Both);
    });
    let (mut from_client, mut to_server) = (client, server);
    let plan = Arc::clone(plan);
    thread::spawn(move || {
        let mut first = true;
        while let Some(message) = next(&mut from_client, first) {
            first = false;
            if message == *b"Q\0\0\0\x0bCOMMIT\0" {
                match plan.at_commit.swap(0, Ordering::SeqCst) {
                    0 => {}
                    what => {
                        plan.cut.fetch_add(1, Ordering::SeqCst);
                        if what == AtCommit::Lost as u8 {
                            break;
                        }
                        if what == AtCommit::Frozen as u8 {
                            let (going, told) = &plan.going;
                            let mut going = going.lock().unwrap();
                            while !*going {
                                going = told.wait(going).unwrap();
                            }
                        } else {
                            swallow.store(true, Ordering::SeqCst);
                            let _ = to_server.write_all(&message);
                            // Until its answer was read on the other side, and not passed on.
                            let mut nothing = [0; 1];
                            let _ = from_client.set_read_timeout(Some(Duration::from_secs(5)));
                            let _ = from_client.read(&mut nothing);
                            break;
                        }
                    }
                }
            }
            if to_server.write_all(&message).is_err() {
                break;
            }
        }
        let _ = from_client.shutdown(Shutdown::Both);
        let _ = to_server.shutdown(Shutdown::Both);
    });
}

/// The next message of a client; the first has no letter.
fn next(from: &mut TcpStream, first: bool) -> Option<Vec<u8>> {
    let mut head = vec![0; if first { 4 } else { 5 }];
    from.read_exact(&mut head).ok()?;
    let length = head[head.len() - 4..].try_into().ok().map(u32::from_be_bytes)? as usize;
    let at = head.len();
    head.resize(at + length.saturating_sub(4), 0);
    from.read_exact(&mut head[at..]).ok()?;
    Some(head)
}
