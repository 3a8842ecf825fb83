//! The door with a socket: HTTP/1.1 on a TCP port.
//!
//! axum and hyper do everything that is ordinary: parsing, keep-alive, `Expect`, framing. What
//! they would never do on purpose (a reset, a body that ends too early, one byte per second, an
//! interim status and nothing else) is written past them, straight onto the connection they
//! lent: that gives every fault its exact bytes without a second HTTP parser. See `wire`.

use std::fs::OpenOptions;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header, request};
use axum::response::{IntoResponse, Response};
use axum::serve::{IncomingStream, Listener};
use futures_util::{StreamExt, stream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::in_process::{Answer, Close, End, Framing, Pace, RawOutcome, RawRequest};
use super::pause::pause;
use super::wire::{Wire, WireHandle, Wires};
use super::written;
use crate::control;
use crate::simulator::Simulator;

/// The largest body that is read: a message is never so long, and a client gone mad shall not
/// take the machine with it.
const MAX_BODY: usize = 64 * 1024 * 1024;

/// How long answers may take to finish once the door closes.
const CLOSING_MICROS: u64 = 200_000;

/// How long to wait before a port is tried again that is taken at the end of an outage.
const REBIND_MICROS: u64 = 20_000;

/// How the loopback door serves.
#[derive(Debug, Clone)]
pub struct LoopbackOptions {
    /// Where to append the log of requests, a JSON line each, before their answers leave.
    pub log_file: Option<PathBuf>,
    /// Whether the control API is served as well; it never is on other than loopback addresses.
    /// Default true.
    pub control: bool,
}

impl Default for LoopbackOptions {
    fn default() -> Self {
        Self { log_file: None, control: true }
    }
}

/// A door that is open. Dropping it closes it without waiting.
#[derive(Debug)]
pub struct Loopback {
    addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<()>>,
}

impl Loopback {
    /// Opens the door on `addr`; port 0 takes a free one. Serves on tokio's present runtime.
    #[expect(clippy::disallowed_methods, reason = "the task is owned: it ends with this value")]
    pub async fn bind(
        addr: SocketAddr,
        simulator: Simulator,
        options: LoopbackOptions,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        if let Some(path) = options.log_file {
            simulator.append_log_to(OpenOptions::new().create(true).append(true).open(path)?);
        }
        let wires = Arc::new(Wires::default());
        let door = Door {
            addr,
            listener: Some(listener),
            down: simulator.down_watch(),
            wires: Arc::clone(&wires),
        };
        let mut router = Router::new().fallback(serve).with_state(simulator.clone());
        if options.control && addr.ip().is_loopback() {
            router = router.merge(control::own_router(simulator));
        }
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(run(door, router, stopped, wires));
        Ok(Self { addr, stop: Some(stop), serving: Some(serving) })
    }

    /// Where the door is.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What to configure as a client's base URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Closes the door: answers that are on their way may finish for a moment, then every
    /// connection is closed.
    pub async fn shutdown(mut self) {
        self.stop = None;
        if let Some(serving) = self.serving.take() {
            let _ = serving.await;
        }
    }
}

/// Serves until the other end of `stopped` is gone.
async fn run(door: Door, router: Router, stopped: oneshot::Receiver<()>, wires: Arc<Wires>) {
    let (closing, closes) = oneshot::channel::<()>();
    let service = router.into_make_service_with_connect_info::<WireHandle>();
    let serving = axum::serve(door, service).with_graceful_shutdown(async move {
        let _ = stopped.await;
        drop(closing);
    });
    let ending = async {
        let _ = closes.await;
        pause(CLOSING_MICROS).await;
        wires.end_all(Close::Fin);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        _ = serving.into_future() => {}
        () = ending => {}
    }
}

/// The listening socket, which is gone while the server is down.
struct Door {
    addr: SocketAddr,
    listener: Option<TcpListener>,
    down: watch::Receiver<bool>,
    wires: Arc<Wires>,
}

impl Listener for Door {
    type Io = Wire;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Wire, SocketAddr) {
        loop {
            if *self.down.borrow_and_update() {
                self.listener = None;
                self.wires.end_all(Close::Rst);
                self.changed().await;
                continue;
            }
            let Some(listener) = &self.listener else {
                match TcpListener::bind(self.addr).await {
                    Ok(listener) => self.listener = Some(listener),
                    Err(_) => pause(REBIND_MICROS).await,
                }
                continue;
            };
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => return (self.wire(stream), peer),
                    Err(_) => pause(REBIND_MICROS).await,
                },
                changed = self.down.changed() => if changed.is_err() {
                    std::future::pending::<()>().await;
                },
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.addr)
    }
}

impl Door {
    fn wire(&self, stream: TcpStream) -> Wire {
        // A slow answer's single bytes shall leave one by one.
        let _ = stream.set_nodelay(true);
        let wire = Wire::new(stream);
        self.wires.add(&wire);
        wire
    }

    async fn changed(&mut self) {
        if self.down.changed().await.is_err() {
            // The simulator is gone, and with it whoever could end the outage.
            std::future::pending::<()>().await;
        }
    }
}

impl Connected<IncomingStream<'_, Door>> for WireHandle {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        stream.io().handle()
    }
}

/// Serves every path that is not the control API's.
async fn serve(
    State(simulator): State<Simulator>,
    ConnectInfo(wire): ConnectInfo<WireHandle>,
    request: Request,
) -> Response {
    if simulator.is_down() {
        return ended(&wire, Close::Rst);
    }
    let (head, body) = request.into_parts();
    let mut request = raw_request(&head);
    if let Some(outcome) = simulator.receive_head(&request) {
        // The body stays in the socket, and this is why it lives until the end of the fault.
        let response = show(outcome, &wire).await;
        drop(body);
        return response;
    }
    let mut arrival = Arrival { simulator: &simulator, unfinished: Some(request.clone()) };
    let Some(whole) = read(body).await else {
        drop(arrival);
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    request.body = whole;
    arrival.unfinished = None;
    // No await between arrival and application: a request is either cut or served.
    let outcome = simulator.receive_whole(&request);
    show(outcome, &wire).await
}

fn raw_request(head: &request::Parts) -> RawRequest {
    let headers = head.headers.iter().map(|(name, value)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    });
    RawRequest {
        method: head.method.as_str().to_owned(),
        path: head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
        headers: headers.collect(),
        body: Bytes::new(),
    }
}

/// The whole body, or `None` if the client cut it or it is too large.
async fn read(body: Body) -> Option<Bytes> {
    let mut chunks = body.into_data_stream();
    let mut whole = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.ok()?;
        if whole.len() + chunk.len() > MAX_BODY {
            return None;
        }
        whole.extend_from_slice(&chunk);
    }
    Some(Bytes::from(whole))
}

/// A request of which only the head has arrived so far. If the client goes away now, hyper drops
/// the handler, and this writes down that the request was never whole.
struct Arrival<'a> {
    simulator: &'a Simulator,
    unfinished: Option<RawRequest>,
}

impl Drop for Arrival<'_> {
    fn drop(&mut self) {
        if let Some(request) = self.unfinished.take() {
            self.simulator.receive_incomplete(&request);
        }
    }
}

/// Lets the client see the outcome: through hyper if it is an honest answer, past it otherwise.
async fn show(outcome: RawOutcome, wire: &WireHandle) -> Response {
    match outcome {
        RawOutcome::Answer(answer) => {
            pause(answer.delay_micros).await;
            if answer.then == End::Complete && answer.pace.is_none() {
                return honest(answer);
            }
            let _ = write_answer(&answer, wire).await;
            finish(answer.then, wire).await
        }
        RawOutcome::Refused | RawOutcome::ClosedUnread(Close::Rst) => ended(wire, Close::Rst),
        RawOutcome::ClosedUnread(Close::Fin) => {
            wire.end_unread().await;
            ended(wire, Close::Fin)
        }
        RawOutcome::ClosedUnanswered { close, delay_micros } => {
            pause(delay_micros).await;
            ended(wire, close)
        }
        RawOutcome::Blackhole | RawOutcome::NoAnswer => finish(End::NeverEnds, wire).await,
        RawOutcome::OnlyInterim { status, then, delay_micros } => {
            pause(delay_micros).await;
            let _ = wire
                .write(format!("HTTP/1.1 {}\r\n\r\n", written::status_text(status)).as_bytes())
                .await;
            finish(then, wire).await
        }
        RawOutcome::NotHttp { bytes, close, delay_micros }
        | RawOutcome::Cut { bytes, close, delay_micros, .. } => {
            pause(delay_micros).await;
            let _ = wire.write(&bytes).await;
            ended(wire, close)
        }
    }
}

async fn finish(end: End, wire: &WireHandle) -> Response {
    match end {
        End::Complete => ended(wire, Close::Fin),
        End::Cut(close) => ended(wire, close),
        // Until the client goes away, and hyper drops this.
        End::NeverEnds => std::future::pending().await,
    }
}

/// The response hyper cannot send any more.
fn ended(wire: &WireHandle, close: Close) -> Response {
    wire.end(close);
    StatusCode::OK.into_response()
}

fn honest(answer: Answer) -> Response {
    let chunks = answer.body_chunks.into_iter().map(Ok::<_, std::convert::Infallible>);
    let mut response = Response::new(Body::from_stream(stream::iter(chunks)));
    *response.status_mut() =
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    if let Framing::Length(length) = answer.framing {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    for (name, value) in &answer.headers {
        match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            (Ok(name), Ok(value)) => drop(headers.append(name, value)),
            _ => tracing::warn!(name, "a fault's header cannot be sent"),
        }
    }
    response
}

async fn write_answer(answer: &Answer, wire: &WireHandle) -> io::Result<()> {
    wire.write(written::head(answer).as_bytes()).await?;
    for chunk in &answer.body_chunks {
        if answer.framing == Framing::Chunked {
            wire.write(format!("{:x}\r\n", chunk.len()).as_bytes()).await?;
            write_paced(chunk, answer.pace, wire).await?;
            wire.write(b"\r\n").await?;
        } else {
            write_paced(chunk, answer.pace, wire).await?;
        }
    }
    Ok(())
}

/// At most twenty portions a second, and never less than a byte.
async fn write_paced(bytes: &[u8], pace: Option<Pace>, wire: &WireHandle) -> io::Result<()> {
    let Some(Pace { bytes_per_second }) = pace else { return wire.write(bytes).await };
    let portion = (bytes_per_second / 20).max(1);
    let wait_micros = portion * 1_000_000 / bytes_per_second.max(1);
    for bytes in bytes.chunks(usize::try_from(portion).unwrap_or(usize::MAX)) {
        pause(wait_micros).await;
        wire.write(bytes).await?;
    }
    Ok(())
}
