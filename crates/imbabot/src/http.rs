//! What the daemon serves: probes, metrics, status as JSON and as a page. Nothing that changes state,
//! and nothing that a browser would run; who may read is decided in `access`.

pub(crate) mod access;
mod page;
mod process;
pub(crate) mod serve;

use axum::Json;
use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use imbabot_scheduler::Engine;
use serde_json::{Value, json};

pub(crate) use access::Access;

use crate::current::Current;
use crate::exit::Failure;
use crate::status::work::Work;

/// Where the daemon has its page.
pub(crate) const PAGE: &str = "/";
/// Nothing here takes a body; so much of one is read and passed over.
const BODY: usize = 64 * 1024;

/// The routes of a running engine, the page at this path.
pub(crate) fn router(engine: Current, access: Access, page: &str) -> Router {
    let routes = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/api/status", get(status))
        .route(page, get(shown))
        .with_state(engine)
        .fallback(|| async { refuse(StatusCode::NOT_FOUND, "there is no such page") })
        .layer(middleware::from_fn(no_body));
    guarded(routes, access)
}

/// Routes that only those may use who may.
pub(crate) fn guarded(routes: Router, access: Access) -> Router {
    routes
        .layer(middleware::from_fn_with_state(access, access::guard))
        .layer(middleware::map_response(private))
}

/// What is served is for whoever asked, is what it says it is, and belongs into no other page.
async fn private(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    let same = HeaderValue::from_static("same-origin");
    headers.insert("cross-origin-resource-policy", same);
    response
}

/// A request with a body is refused if it is long; a short one is read to its end, so that the answer
/// is not lost in a reset.
async fn no_body(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    if body.size_hint().lower() > BODY as u64 {
        return refuse(StatusCode::PAYLOAD_TOO_LARGE, "no body is taken here");
    }
    if axum::body::to_bytes(body, BODY).await.is_err() {
        return refuse(StatusCode::PAYLOAD_TOO_LARGE, "no body is taken here");
    }
    let mut response = next.run(Request::from_parts(parts, Body::empty())).await;
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        let allow = response.headers_mut().remove(header::ALLOW);
        response = refuse(StatusCode::METHOD_NOT_ALLOWED, "nothing here changes anything");
        response.headers_mut().extend(allow.map(|allow| (header::ALLOW, allow)));
    }
    response
}

fn refuse(status: StatusCode, error: &str) -> Response {
    let mut response = (status, Json(json!({ "error": error }))).into_response();
    let more = match status {
        StatusCode::UNAUTHORIZED => Some((header::WWW_AUTHENTICATE, "Bearer")),
        StatusCode::TOO_MANY_REQUESTS => Some((header::RETRY_AFTER, "60")),
        _ => None,
    };
    let more = more.map(|(name, value)| (name, HeaderValue::from_static(value)));
    response.headers_mut().extend(more);
    response
}

async fn livez(State(current): State<Current>) -> Response {
    if current.engine().is_alive() {
        (StatusCode::OK, "ok\n").into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "stalled\n").into_response()
    }
}

async fn readyz(State(current): State<Current>) -> Response {
    let reasons = current.engine().reasons();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": reasons.is_empty(), "reasons": reasons }))).into_response()
}

async fn metrics(method: Method, State(current): State<Current>) -> Response {
    // Nobody waits for a count of what is not shown.
    let text = match method {
        Method::HEAD => String::new(),
        _ => current.engine().metrics().await + &process::metrics(),
    };
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

async fn status(State(current): State<Current>) -> Response {
    Json(told(&current.engine()).await).into_response()
}

async fn shown(State(current): State<Current>) -> Response {
    let engine = current.engine();
    match serde_json::from_value(told(&engine).await) {
        Ok(seen) => page::answer(&seen, engine.clock().now()),
        // Both are of this program: this is a bug, and no reason to show nothing at all.
        Err(error) => {
            tracing::error!(code = "IMB-H-PAGE", "the status cannot be shown: {error}");
            refuse(StatusCode::INTERNAL_SERVER_ERROR, "see /api/status")
        }
    }
}

/// What the engine says of itself, and how its work stands.
async fn told(engine: &Engine) -> Value {
    let status = engine.status();
    let settings = engine.settings();
    let bots: Vec<_> = settings.bots.iter().map(|bot| bot.name.clone()).collect();
    let aside = |name: &str| status.set_aside.keys().any(|bot| bot.as_str() == name);
    let now = engine.clock().now();
    let work = Work::read(&**engine.store(), &bots, aside, now, true).await;
    let mut told = json!(&status);
    match work.map(|work| json!(work)) {
        Ok(Value::Object(work)) => {
            if let Value::Object(told) = &mut told {
                told.extend(work);
            }
        }
        Ok(_) => {}
        // A store that cannot be read is itself what is to be told.
        Err(error) => told["unread"] = Failure::from(error).message.into(),
    }
    told
}
