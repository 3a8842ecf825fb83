//! What the tests over real sockets share: a server of a few lines that does exactly what it is told
//! and writes down every byte it was sent, by connection. It knows nothing of ImbaChat.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]
#![allow(dead_code, reason = "each test binary uses its part")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use imbabot_core::{Api, BaseUrl, Credentials, HttpSettings, HttpTransport, SecretKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Close {
    Fin,
    Rst,
}

/// What follows an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// The next request.
    Stay,
    /// The next request, if its first byte comes soon enough.
    StayFor(Duration, Close),
    /// The end, as soon as a byte of the next request comes.
    StayUntilAsked(Close),
    /// The end, at once.
    Close(Close),
}

/// What the server says to a request, and what follows.
pub(crate) struct Answer {
    pub(crate) bytes: Vec<u8>,
    pub(crate) then: Then,
}

/// A whole request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Counted from 0, over all connections.
    pub(crate) connection: usize,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (known, value) = line.split_once(':')?;
            known.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// A field of the form, which is sent as curl sends it.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let start = format!("name=\"{name}\"\r\n\r\n");
        let (_, rest) = self.body.split_once(&start)?;
        rest.split_once("\r\n--").map(|(value, _)| value)
    }
}

/// What a server was sent.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// The bytes of each connection.
    pub(crate) bytes: Vec<usize>,
    /// The whole requests, in the order in which their last bytes came.
    pub(crate) requests: Vec<Request>,
    /// How many connections ended with a part of a request.
    pub(crate) cut: usize,
}

/// A server on a port of its own. It ends with the runtime that it was started on.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    heard: Arc<Mutex<Heard>>,
}

impl Server {
    /// Answers each request as `answer` says.
    #[expect(clippy::disallowed_methods, reason = "the other end of a socket")]
    pub(crate) async fn start(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(Heard::default()));
        let shared = Arc::clone(&heard);
        let answer = Arc::new(answer);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, Arc::clone(&answer), Arc::clone(&shared)));
            }
        });
        Self { address, heard }
    }

    pub(crate) fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap()
    }
}

async fn serve(
    mut socket: TcpStream,
    answer: Arc<impl Fn(&Request) -> Answer>,
    heard: Arc<Mutex<Heard>>,
) {
    socket.set_nodelay(true).unwrap();
    let number = {
        let mut heard = heard.lock().unwrap();
        heard.bytes.push(0);
        heard.bytes.len() - 1
    };
    let mut pending = Vec::new();
    let mut stay = Then::Stay;
    loop {
        let request = loop {
            if let Some((head, body)) = take_request(&mut pending) {
                break Request { connection: number, head, body };
            }
            let mut buffer = [0; 8192];
            let read = match (stay, pending.is_empty()) {
                (Then::StayFor(patience, close), true) => {
                    #[expect(clippy::disallowed_methods, reason = "a server's patience is real")]
                    match tokio::time::timeout(patience, socket.read(&mut buffer)).await {
                        Ok(read) => read,
                        Err(_) => return end(&socket, close),
                    }
                }
                _ => socket.read(&mut buffer).await,
            };
            match read {
                Ok(0) | Err(_) => {
                    heard.lock().unwrap().cut += usize::from(!pending.is_empty());
                    return;
                }
                Ok(read) => {
                    heard.lock().unwrap().bytes[number] += read;
                    if let Then::StayUntilAsked(close) = stay {
                        heard.lock().unwrap().cut += 1;
                        return end(&socket, close);
                    }
                    pending.extend_from_slice(&buffer[..read]);
                }
            }
        };
        let Answer { bytes, then } = answer(&request);
        heard.lock().unwrap().requests.push(request);
        if socket.write_all(&bytes).await.is_err() {
            return;
        }
        match then {
            Then::Close(close) => return end(&socket, close),
            _ => stay = then,
        }
    }
}

fn end(socket: &TcpStream, close: Close) {
    if close == Close::Rst {
        let _ = socket.set_zero_linger();
    }
}

/// Head and body of the first request in here, if it is whole.
fn take_request(pending: &mut Vec<u8>) -> Option<(String, String)> {
    // A character that is cut at the end is no whole request either.
    let text = std::str::from_utf8(pending).ok()?;
    let head_end = text.find("\r\n\r\n")? + 4;
    let head = text[..head_end].to_owned();
    let length: usize = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(0, |(_, value)| value.trim().parse().unwrap());
    if pending.len() < head_end + length {
        return None;
    }
    let body = text[head_end..head_end + length].to_owned();
    pending.drain(..head_end + length);
    Some((head, body))
}

/// An answer with a length.
pub(crate) fn http(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// A confirmation of this very message.
pub(crate) fn confirmation(request: &Request) -> String {
    let room = request.field("room_id").unwrap();
    let text = serde_json::Value::from(request.field("message").unwrap());
    format!(r#"{{"success":true,"message":{{"id":7,"room_id":{room},"message":{text}}}}}"#)
}

/// How the daemon reaches a server by default, with shorter time-outs.
pub(crate) fn settings(address: SocketAddr) -> HttpSettings {
    let base_url = BaseUrl::parse(&format!("http://{address}"), false).unwrap();
    let mut settings = HttpSettings::new(base_url);
    settings.connect_timeout = Duration::from_secs(5);
    settings.send_timeout = Duration::from_secs(20);
    settings
}

pub(crate) fn api(settings: HttpSettings) -> Api {
    let transport = HttpTransport::new(settings).unwrap();
    let secret = SecretKey::parse("simulator-secret").unwrap();
    Api::new(Arc::new(transport), Credentials::new(627.into(), secret))
}

/// A server before a server: hands everything on, both ways, and writes down what came.
#[expect(clippy::disallowed_methods, reason = "the other end of a socket")]
pub(crate) async fn tap(upstream: SocketAddr) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heard = Arc::new(Mutex::new(Heard::default()));
    let shared = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(hand_on(client, upstream, Arc::clone(&shared)));
        }
    });
    Server { address, heard }
}

/// Ends as the server ends: by FIN or by RST; or when the client goes away.
async fn hand_on(mut client: TcpStream, upstream: SocketAddr, heard: Arc<Mutex<Heard>>) {
    let number = {
        let mut heard = heard.lock().unwrap();
        heard.bytes.push(0);
        heard.bytes.len() - 1
    };
    client.set_nodelay(true).unwrap();
    let mut server = TcpStream::connect(upstream).await.unwrap();
    server.set_nodelay(true).unwrap();
    let (mut asked, mut answered) = ([0; 8192], [0; 65536]);
    let mut pending = Vec::new();
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(read @ 1..) = read else { return };
                {
                    let mut heard = heard.lock().unwrap();
                    heard.bytes[number] += read;
                    pending.extend_from_slice(&asked[..read]);
                    while let Some((head, body)) = take_request(&mut pending) {
                        heard.requests.push(Request { connection: number, head, body });
                    }
                }
                let _ = server.write_all(&asked[..read]).await;
            }
            read = server.read(&mut answered) => match read {
                Ok(0) => return,
                Ok(read) => if client.write_all(&answered[..read]).await.is_err() { return },
                Err(_) => return end(&client, Close::Rst),
            },
        }
    }
}
