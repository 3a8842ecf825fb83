//! The page of the demo: three files, no framework, nothing from elsewhere. Everything it shows is
//! written as text, never as markup.

use axum::Router;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use imbabot_simulator::{Simulator, control_router};

const POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page, and the control API that it plays the people with.
pub(super) fn router<S: Clone + Send + Sync + 'static>(simulator: Simulator) -> Router<S> {
    let page = Router::new()
        .route("/", get(|| async { file("text/html; charset=utf-8", include_str!("page.html")) }))
        .route("/page.css", get(|| async { file("text/css", include_str!("page.css")) }))
        .route("/favicon.ico", get(|| async { axum::http::StatusCode::NO_CONTENT }))
        .route("/page.js", get(|| async { file("text/javascript", include_str!("page.js")) }));
    page.merge(control_router(simulator).with_state(()))
}

fn file(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, text).into_response()
}
