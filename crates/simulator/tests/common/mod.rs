//! What the tests of the doors share: a simulator that stands at a fixed second, requests, and a
//! client that sees bytes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

use std::time::Duration;

use bytes::Bytes;
use imbabot_simulator::{
    Close, End, Framing, Loopback, LoopbackOptions, ManualClock, Options, RawOutcome, RawRequest,
    Simulator,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// `627:simulator-secret`, as curl encodes it.
pub const AUTHORIZATION: &str = "Basic NjI3OnNpbXVsYXRvci1zZWNyZXQ=";

/// How long a connection is watched that is expected to stay silent.
const SILENCE: Duration = Duration::from_millis(60);

/// How long anything else may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// The vendor's sample server in the second of the sample message.
pub fn sample() -> Simulator {
    let clock = ManualClock::at(1_608_275_827_000_000);
    let simulator = Simulator::new(Options::default(), clock.clock());
    simulator.load_vendor_sample();
    simulator
}

pub async fn open(simulator: &Simulator) -> Loopback {
    let addr = ([127, 0, 0, 1], 0).into();
    Loopback::bind(addr, simulator.clone(), LoopbackOptions::default()).await.unwrap()
}

/// A request to an endpoint with the right credentials.
pub fn request(endpoint: &str, body: &str) -> RawRequest {
    RawRequest {
        method: "POST".to_owned(),
        path: format!("/imbachat/v2/627/{endpoint}"),
        headers: vec![
            ("Host".to_owned(), "127.0.0.1".to_owned()),
            ("Authorization".to_owned(), AUTHORIZATION.to_owned()),
            ("Content-Type".to_owned(), "application/x-www-form-urlencoded".to_owned()),
            ("X-Imbabot-Delivery".to_owned(), "d1".to_owned()),
            ("X-Imbabot-Attempt".to_owned(), "1".to_owned()),
        ],
        body: Bytes::from(body.to_owned()),
    }
}

pub fn send() -> RawRequest {
    request("send_msg", "user_id=1&room_id=1536&message=api+%3Cmessage%3E+")
}

pub fn wire_bytes(request: &RawRequest) -> Vec<u8> {
    let mut bytes = format!("{} {} HTTP/1.1\r\n", request.method, request.path).into_bytes();
    for (name, value) in &request.headers {
        bytes.extend(format!("{name}: {value}\r\n").bytes());
    }
    bytes.extend(format!("Content-Length: {}\r\n\r\n", request.body.len()).bytes());
    bytes.extend(&request.body);
    bytes
}

/// What a client saw of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    Answer { status: u16, content_type: String, framing: Framing, body: String, then: End },
    Bytes(String, End),
}

impl Seen {
    /// How it ended.
    pub fn end(&self) -> End {
        match self {
            Self::Answer { then, .. } | Self::Bytes(_, then) => *then,
        }
    }

    pub fn body(&self) -> &str {
        match self {
            Self::Answer { body, .. } => body,
            Self::Bytes(bytes, _) => bytes,
        }
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(self.body()).unwrap()
    }
}

pub fn seen_in_process(outcome: RawOutcome) -> Seen {
    match outcome {
        RawOutcome::Answer(answer) => Seen::Answer {
            status: answer.status,
            content_type: header(&answer.headers, "content-type").unwrap(),
            framing: answer.framing,
            body: String::from_utf8_lossy(&answer.body_chunks.concat()).into_owned(),
            then: answer.then,
        },
        RawOutcome::ClosedUnread(close) | RawOutcome::ClosedUnanswered { close, .. } => {
            Seen::Bytes(String::new(), End::Cut(close))
        }
        // The loopback door has accepted by the time it can refuse, so it resets instead.
        RawOutcome::Refused => Seen::Bytes(String::new(), End::Cut(Close::Rst)),
        RawOutcome::Blackhole | RawOutcome::NoAnswer => Seen::Bytes(String::new(), End::NeverEnds),
        RawOutcome::OnlyInterim { status, then, .. } => {
            Seen::Bytes(format!("HTTP/1.1 {status} Processing\r\n\r\n"), then)
        }
        RawOutcome::Cut { bytes, close, .. } => answer(&bytes, End::Cut(close)),
        RawOutcome::NotHttp { bytes, close, .. } => {
            Seen::Bytes(String::from_utf8_lossy(&bytes).into_owned(), End::Cut(close))
        }
    }
}

fn header(headers: &[(String, String)], name: &str) -> Option<String> {
    let header = headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    header.map(|(_, value)| value.clone())
}

/// A connection that can carry several requests.
pub struct Client(TcpStream);

impl Client {
    pub async fn connect(door: &Loopback) -> Self {
        Self::to(door.addr()).await
    }

    pub async fn to(addr: std::net::SocketAddr) -> Self {
        Self(TcpStream::connect(addr).await.unwrap())
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    pub async fn ask(&mut self, bytes: &[u8]) -> Seen {
        self.ask_within(PATIENCE, bytes).await
    }

    /// As `ask`, where silence is expected in the end.
    pub async fn ask_silence(&mut self, bytes: &[u8]) -> Seen {
        self.ask_within(SILENCE, bytes).await
    }

    async fn ask_within(&mut self, patience: Duration, bytes: &[u8]) -> Seen {
        // A door that closes unread may do so while this still writes.
        let _ = self.0.write_all(bytes).await;
        self.read_within(patience).await
    }

    /// Reads an answer to its end, or to the end of the connection, or until nothing more comes.
    pub async fn read(&mut self) -> Seen {
        self.read_within(PATIENCE).await
    }

    #[expect(clippy::disallowed_methods, reason = "a socket's silence takes real time")]
    async fn read_within(&mut self, patience: Duration) -> Seen {
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(whole) = whole_answer(&bytes) {
                return whole;
            }
            let mut buffer = vec![0; 65536];
            match tokio::time::timeout(patience, self.0.read(&mut buffer)).await {
                Err(_) => break End::NeverEnds,
                Ok(Ok(0)) => break End::Cut(Close::Fin),
                Ok(Ok(read)) => bytes.extend(&buffer[..read]),
                Ok(Err(_)) => break End::Cut(Close::Rst),
            }
        };
        answer(&bytes, end)
    }

    /// The bytes that have come until `text` is among them.
    pub async fn read_until(&mut self, text: &str) -> String {
        let mut bytes = Vec::new();
        while !String::from_utf8_lossy(&bytes).contains(text) {
            let mut buffer = [0; 4096];
            let read = self.0.read(&mut buffer).await.unwrap();
            assert!(read > 0, "the stream ended: {}", String::from_utf8_lossy(&bytes));
            bytes.extend(&buffer[..read]);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

fn whole_answer(bytes: &[u8]) -> Option<Seen> {
    let seen = answer(bytes, End::Complete);
    match &seen {
        Seen::Answer { framing: Framing::Length(length), .. } => {
            let head = head_length(bytes)?;
            (bytes.len() - head == usize::try_from(*length).ok()?).then_some(seen)
        }
        Seen::Answer { framing: Framing::Chunked, .. } => {
            bytes.ends_with(b"\r\n0\r\n\r\n").then_some(seen)
        }
        _ => None,
    }
}

fn head_length(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

fn answer(bytes: &[u8], then: End) -> Seen {
    let not_http = || Seen::Bytes(String::from_utf8_lossy(bytes).into_owned(), then);
    let Some(head_length) = head_length(bytes) else { return not_http() };
    let head = String::from_utf8_lossy(&bytes[..head_length]).into_owned();
    let mut lines = head.split("\r\n");
    let status_line = lines.next().unwrap();
    let Some(status) = status_line.strip_prefix("HTTP/1.1 ").and_then(|line| line.get(..3)) else {
        return not_http();
    };
    let status: u16 = status.parse().unwrap();
    if status < 200 {
        return not_http();
    }
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let body = &bytes[head_length..];
    let (framing, body) = match header(&headers, "content-length") {
        Some(length) => (Framing::Length(length.parse().unwrap()), body.to_vec()),
        None => (Framing::Chunked, unchunked(body)),
    };
    Seen::Answer {
        status,
        content_type: header(&headers, "content-type").unwrap_or_default(),
        framing,
        body: String::from_utf8_lossy(&body).into_owned(),
        then,
    }
}

/// As much of the body as came.
fn unchunked(mut coded: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(at) = coded.windows(2).position(|window| window == b"\r\n") {
        let length = usize::from_str_radix(std::str::from_utf8(&coded[..at]).unwrap(), 16).unwrap();
        let end = coded.len().min(at + 2 + length);
        body.extend(&coded[at + 2..end]);
        coded = &coded[coded.len().min(end + 2)..];
    }
    body
}
