//! The door of the HTTP surface: how many may come in at once and how long each may take. Whoever
//! asks slowly, often or never to the end takes nothing from the daemon but a bounded number of
//! connections; no task of the engine ever waits for one of them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use imbabot_scheduler::Clock;
use tokio::net::{TcpListener, TcpStream};

use super::access::Peer;

/// So many connections at once: a scraper, some probes and a few people. More wait in the kernel's
/// queue, where they cost nothing.
const CONNECTIONS: usize = 64;
/// A request's head has so long to arrive.
const HEADER: Duration = Duration::from_secs(5);
/// A connection has so long in all: an answer that nobody reads is not kept.
const WHOLE: Duration = Duration::from_secs(30);
/// A request's head may have so many bytes and so many lines.
const HEAD: usize = 16 * 1024;
const LINES: usize = 64;
/// After a failure to accept, which is most often a lack of file descriptors.
const PAUSE: Duration = Duration::from_millis(200);

/// Serves for ever.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    clock: Arc<dyn Clock>,
) -> Infallible {
    let mut connections = FuturesUnordered::new();
    loop {
        let full = connections.len() >= CONNECTIONS;
        tokio::select! {
            biased;
            Some(()) = connections.next(), if !connections.is_empty() => {}
            accepted = listener.accept(), if !full => match accepted {
                Ok((stream, peer)) => {
                    let answered = connection(stream, peer, router.clone(), Arc::clone(&clock));
                    connections.push(contained(answered).boxed());
                }
                Err(error) => {
                    tracing::warn!(
                        code = "IMB-H-ACCEPT",
                        "a connection to the HTTP surface was not accepted: {}", error.kind()
                    );
                    clock.sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Whatever goes wrong while one is answered is the end of that connection only.
async fn contained(answered: impl Future<Output = ()>) {
    if AssertUnwindSafe(answered).catch_unwind().await.is_err() {
        tracing::error!(code = "IMB-H-PANIC", "an answer of the HTTP surface panicked");
    }
}

/// One request and its answer. A connection that is kept open would keep others out.
async fn connection(stream: TcpStream, peer: SocketAddr, router: Router, clock: Arc<dyn Clock>) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        router.call(request)
    });
    let answered = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER)
        .keep_alive(false)
        .max_buf_size(HEAD)
        .max_headers(LINES)
        .serve_connection(TokioIo::new(stream), service);
    match select(std::pin::pin!(answered), clock.sleep(WHOLE)).await {
        Either::Left((Ok(()), _)) => {}
        Either::Left((Err(error), _)) => tracing::debug!("a client of the HTTP surface: {error}"),
        Either::Right(_) => tracing::debug!("a client of the HTTP surface took too long"),
    }
}
