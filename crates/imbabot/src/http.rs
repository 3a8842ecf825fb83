//! What the daemon serves: probes, metrics, status. Nothing that changes state; names of hosts are
//! checked, so that no page of somebody else's can read it through a browser.

pub(crate) mod serve;

use axum::Json;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use imbabot_scheduler::Engine;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use sha2::{Digest, Sha256};

/// Who may ask.
#[derive(Clone)]
pub(crate) struct Access {
    pub(crate) token: Option<SecretString>,
    pub(crate) allowed_hosts: Vec<String>,
}

/// The routes of a running engine.
pub(crate) fn router(engine: Engine, access: Access) -> Router {
    let open = Router::new().route("/livez", get(livez)).route("/readyz", get(readyz));
    let guarded = Router::new()
        .route("/metrics", get(metrics))
        .route("/api/status", get(status))
        .route_layer(middleware::from_fn_with_state(access, guard));
    open.merge(guarded).with_state(engine)
}

/// A Host that is not ours is refused, unless the request brings the token.
async fn guard(State(access): State<Access>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let bearer = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    let knows = match (&access.token, bearer) {
        (Some(token), Some(given)) => same(token.expose_secret(), given),
        _ => false,
    };
    if access.token.is_some() && !knows {
        return refuse(StatusCode::UNAUTHORIZED, "a bearer token is needed");
    }
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !knows && !is_ours(host, &access.allowed_hosts) {
        return refuse(StatusCode::MISDIRECTED_REQUEST, "this host is not served here");
    }
    next.run(request).await
}

/// Compares without telling by time how much was right.
fn same(a: &str, b: &str) -> bool {
    let (a, b) = (Sha256::digest(a.as_bytes()), Sha256::digest(b.as_bytes()));
    a.iter().zip(b.iter()).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

fn is_ours(authority: &str, allowed: &[String]) -> bool {
    let host = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, _)) => host,
        None => authority.split_once(':').map_or(authority, |(host, _)| host),
    };
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        || allowed.iter().any(|name| name.eq_ignore_ascii_case(host))
}

fn refuse(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({ "error": error }))).into_response()
}

async fn livez(State(engine): State<Engine>) -> Response {
    if engine.is_alive() {
        (StatusCode::OK, "ok\n").into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "stalled\n").into_response()
    }
}

async fn readyz(State(engine): State<Engine>) -> Response {
    let reasons = engine.reasons();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": reasons.is_empty(), "reasons": reasons }))).into_response()
}

async fn metrics(State(engine): State<Engine>) -> Response {
    let text = engine.metrics().await + &process();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

async fn status(State(engine): State<Engine>) -> Response {
    Json(json!(engine.status())).into_response()
}

/// What the process itself uses, from the kernel.
fn process() -> String {
    let mut text = String::new();
    let page = 4096.0;
    let ticks = 100.0;
    if let Ok(statm) = std::fs::read_to_string("/proc/self/statm")
        && let Some(pages) = statm.split_whitespace().nth(1).and_then(|n| n.parse::<f64>().ok())
    {
        gauge(
            &mut text,
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory.",
            pages * page,
        );
    }
    if let Ok(stat) = std::fs::read_to_string("/proc/self/stat")
        && let Some((_, fields)) = stat.rsplit_once(')')
    {
        let fields: Vec<f64> = fields.split_whitespace().filter_map(|f| f.parse().ok()).collect();
        // The state letter is no number: utime and stime are the 11th and 12th numbers.
        if let (Some(user), Some(system)) = (fields.get(10), fields.get(11)) {
            let seconds = (user + system) / ticks;
            gauge(&mut text, "process_cpu_seconds_total", "counter", "CPU time.", seconds);
        }
    }
    if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
        #[expect(clippy::cast_precision_loss, reason = "a handful")]
        let count = entries.count() as f64;
        gauge(&mut text, "process_open_fds", "gauge", "Open file descriptors.", count);
    }
    text
}

fn gauge(text: &mut String, name: &str, kind: &str, help: &str, value: f64) {
    use std::fmt::Write;
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
}
