//! A server of a few lines that does exactly what it is told, and the client that is tried on it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]
#![allow(clippy::disallowed_methods, reason = "the other end of a socket")]
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use imbabot_core::{
    Api, BaseUrl, Class, Credentials, HttpSettings, HttpTransport, OutcomeCode, RoomId, SecretKey,
    SendMsg, SendOutcome,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

/// What the server does with the nth request that it reads.
#[derive(Clone)]
pub(crate) enum Deed {
    Answer(Vec<u8>),
    /// Answers and closes.
    Last(Vec<u8>),
    Reset,
    Close,
    Silence,
    /// Answers after a while.
    Late(Duration, Vec<u8>),
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) connections: Arc<AtomicUsize>,
    pub(crate) requests: UnboundedReceiver<String>,
    script: Arc<Mutex<Script>>,
}

/// First these, one after the other; then always the same to a message and to a list.
struct Script {
    deeds: VecDeque<Deed>,
    to_send: Deed,
    to_list: Deed,
}

impl Server {
    /// What is done when the script has ended; else connections are closed.
    pub(crate) fn always(&self, to_send: Deed, to_list: Deed) {
        let mut script = self.script.lock().unwrap();
        (script.to_send, script.to_list) = (to_send, to_list);
    }
}

pub(crate) async fn server(deeds: Vec<Deed>) -> Server {
    on(TcpListener::bind("127.0.0.1:0").await.unwrap(), deeds)
}

pub(crate) fn on(listener: TcpListener, deeds: Vec<Deed>) -> Server {
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    let (said, requests) = tokio::sync::mpsc::unbounded_channel();
    let script = Script { deeds: deeds.into(), to_send: Deed::Close, to_list: Deed::Close };
    let script = Arc::new(Mutex::new(script));
    let shared = script.clone();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(serve(socket, shared.clone(), said.clone()));
        }
    });
    Server { address, connections, requests, script }
}

async fn serve(mut socket: TcpStream, script: Arc<Mutex<Script>>, said: UnboundedSender<String>) {
    while let Some(request) = read_request(&mut socket).await {
        let deed = {
            let mut script = script.lock().unwrap();
            let is_send = request.lines().next().is_some_and(|line| line.contains("/send_msg "));
            let always = if is_send { script.to_send.clone() } else { script.to_list.clone() };
            script.deeds.pop_front().unwrap_or(always)
        };
        let _ = said.send(request);
        match deed {
            Deed::Answer(bytes) => {
                if socket.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Deed::Last(bytes) => {
                socket.write_all(&bytes).await.unwrap();
                return;
            }
            Deed::Reset => {
                let _ = socket.set_zero_linger();
                return;
            }
            Deed::Close => return,
            Deed::Late(delay, bytes) => {
                tokio::time::sleep(delay).await;
                socket.write_all(&bytes).await.unwrap();
            }
            Deed::Silence => std::future::pending().await,
        }
    }
}

/// Head and body of one request.
pub(crate) async fn read_request(socket: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|l| {
                let (name, value) = l.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().unwrap())
            });
            if body.len() >= length.unwrap_or(0) {
                return Some(text);
            }
        }
        let mut buffer = [0; 8192];
        match socket.read(&mut buffer).await {
            Ok(0) | Err(_) => return None,
            Ok(n) => bytes.extend_from_slice(&buffer[..n]),
        }
    }
}

pub(crate) fn http(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

pub(crate) const OK: &str = r#"{"success":true,"message":{"id":1,"room_id":5,"message":"hello"}}"#;
pub(crate) const LIST: &str =
    r#"{"success":"true","data":[{"id":1,"name":"a","type":1}],"code":200}"#;

pub(crate) fn accepted() -> Deed {
    Deed::Answer(http("200 OK", "", OK.as_bytes()))
}

pub(crate) fn settings(address: SocketAddr) -> HttpSettings {
    let base_url = BaseUrl::parse(&format!("http://{address}/prefix"), false).unwrap();
    let mut settings = HttpSettings::new(base_url);
    settings.connect_timeout = Duration::from_millis(500);
    settings.send_timeout = Duration::from_secs(5);
    settings
}

pub(crate) fn api_with(settings: HttpSettings) -> Api {
    let transport = HttpTransport::new(settings).unwrap();
    let secret = SecretKey::parse("the-real-key").unwrap();
    Api::new(Arc::new(transport), Credentials::new(627.into(), secret))
}

pub(crate) fn api(address: SocketAddr) -> Api {
    api_with(settings(address))
}

pub(crate) async fn send(api: &Api) -> SendOutcome {
    api.send_msg(&SendMsg::new(1.into(), RoomId(5), "hello").with_delivery("d1", 1)).await
}

#[track_caller]
pub(crate) fn check(outcome: &SendOutcome, class: Class, code: OutcomeCode) {
    assert_eq!((outcome.class, outcome.code), (class, code), "{outcome:?}");
}
