//! A server that answers `get_rooms` with as many rooms as one likes and `send_msg` with a
//! confirmation, straight from memory, so that it costs the machine as little as it can. A path
//! begins with the name of who asks, so that several can be told apart.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::lists::body::{Site, room};

/// The server; it ends with the process.
pub(crate) struct Server {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    asked: Condvar,
    /// No two servers of a run name a message alike.
    port: u16,
}

struct State {
    body: Arc<Vec<u8>>,
    rooms: u64,
    /// One room in so many changes before each answer; 0: none.
    one_in: u64,
    version: u64,
    /// How often each asked for its rooms.
    requests: BTreeMap<String, u64>,
    messages: u64,
}

impl Server {
    pub(crate) fn start(rooms: u64) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let state = State {
            body: Arc::new(Site::new(rooms).body()),
            rooms,
            one_in: 0,
            version: 1,
            requests: BTreeMap::new(),
            messages: 0,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), asked: Condvar::new(), port });
        let server = Self { port, shared: Arc::clone(&shared) };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    // Whoever goes away in the middle of an answer needs no more of it.
                    let _ = shared.serve(stream);
                });
            }
        });
        Ok(server)
    }

    pub(crate) fn url(&self, who: &str) -> String {
        format!("http://127.0.0.1:{}/{who}", self.port)
    }

    /// From now on one room in so many is another one in each answer.
    pub(crate) fn change_one_in(&self, one_in: u64) {
        self.shared.state().one_in = one_in;
    }

    /// Waits until this one has asked for its rooms so often.
    pub(crate) fn wait_for(&self, who: &str, times: u64, patience: Duration) -> anyhow::Result<()> {
        let state = self.shared.state();
        let is_short = |state: &mut State| state.requests.get(who).is_none_or(|n| *n < times);
        let waited = self.shared.asked.wait_timeout_while(state, patience, is_short);
        let waited = waited.unwrap_or_else(PoisonError::into_inner).1;
        anyhow::ensure!(!waited.timed_out(), "{who} does not ask");
        Ok(())
    }

    /// How many messages were confirmed.
    pub(crate) fn messages(&self) -> u64 {
        self.shared.state().messages
    }

    /// How often this one has asked for its rooms.
    pub(crate) fn requests(&self, who: &str) -> u64 {
        self.shared.state().requests.get(who).copied().unwrap_or(0)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut writer = stream;
        loop {
            let (mut path, mut length) = (String::new(), 0);
            if reader.read_line(&mut path)? == 0 {
                return Ok(());
            }
            loop {
                let mut header = String::new();
                if reader.read_line(&mut header)? <= 2 {
                    break;
                }
                if let Some((name, value)) = header.split_once(':')
                    && name.eq_ignore_ascii_case("content-length")
                {
                    length = value.trim().parse().unwrap_or(0);
                }
            }
            let mut form = vec![0; length];
            reader.read_exact(&mut form)?;
            let path = path.split(' ').nth(1).unwrap_or_default().to_owned();
            let body = if path.ends_with("send_msg") {
                self.confirm(&String::from_utf8_lossy(&form))
            } else {
                self.rooms(path.split('/').nth(1).unwrap_or_default())
            };
            write!(
                writer,
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                body.len()
            )?;
            writer.write_all(&body)?;
        }
    }

    fn rooms(&self, who: &str) -> Arc<Vec<u8>> {
        let mut state = self.state();
        if state.one_in > 0 {
            state.change();
        }
        *state.requests.entry(who.to_owned()).or_default() += 1;
        self.asked.notify_all();
        Arc::clone(&state.body)
    }

    fn confirm(&self, form: &str) -> Arc<Vec<u8>> {
        let field = |name: &str| {
            let from = form.split_once(&format!("name=\"{name}\"\r\n\r\n"));
            from.and_then(|(_, rest)| rest.split("\r\n").next()).unwrap_or_default().to_owned()
        };
        let mut state = self.state();
        state.messages += 1;
        let (id, port) = (state.messages, self.port);
        let (room, text) = (field("room_id"), field("message"));
        let body = format!(
            r#"{{"success":true,"message":{{"id":{id},"uuid":"{port}-{id}","message":"{text}","user_id":1,"room_id":{room},"time":"1608275827"}}}}"#
        );
        Arc::new(body.into_bytes())
    }
}

impl State {
    /// Every room has the same length in each of its states, so it is written over.
    fn change(&mut self) {
        self.version += 1;
        let (one_in, version) = (self.one_in, self.version);
        let body = Arc::make_mut(&mut self.body);
        let mut text = String::new();
        for id in (one_in..=self.rooms).step_by(usize::try_from(one_in).unwrap_or(1)) {
            text.clear();
            room(&mut text, id, version);
            let at = Site::offset_of(id);
            body[at..at + text.len()].copy_from_slice(text.as_bytes());
        }
    }
}
