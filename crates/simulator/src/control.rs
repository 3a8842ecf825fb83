//! The control API: how a demo page watches the chat and plays its people. Only for loopback:
//! it has no credentials, so it answers nobody whose `Host` or `Origin` comes from elsewhere, and
//! it never sends a CORS header.

use std::convert::Infallible;

use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::{Stream, stream};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::change::{Change, message_json, room_json, user_json};
use crate::room::{CONFERENCE, RoomSeed};
use crate::simulator::{Simulator, SimulatorError};

/// The control API under `/control`, for a page's own server to mount beside its page. The routes
/// stand in the README.
pub fn control_router(simulator: Simulator) -> Router {
    let outage = Router::new().route("/control/outage", post(outage)).with_state(simulator.clone());
    guarded(routes(simulator).merge(outage))
}

/// The same for the simulator's own door, which must not be able to close itself for good.
pub(crate) fn own_router(simulator: Simulator) -> Router {
    guarded(routes(simulator))
}

fn routes(simulator: Simulator) -> Router {
    Router::new()
        .route("/control/state", get(state))
        .route("/control/events", get(events))
        .route("/control/log", get(log))
        .route("/control/rooms", post(open_room))
        .route("/control/rooms/{id}/messages", get(messages))
        .route("/control/rooms/{id}/rename", post(rename_room))
        .route("/control/rooms/{id}/close", post(close_room))
        .route("/control/rooms/{id}/restore", post(restore_room))
        .route("/control/rooms/{id}/post", post(post_message))
        .route("/control/users", post(join))
        .route("/control/faults", get(faults).post(push_fault))
        .route("/control/faults/clear", post(clear_faults))
        .with_state(simulator)
}

fn guarded(router: Router) -> Router {
    router.route_layer(middleware::from_fn(guard))
}

/// Refuses what a foreign page could make a browser send.
async fn guard(request: Request, next: Next) -> Response {
    let headers = request.headers();
    if !header_text(headers, "host").is_some_and(is_loopback_authority) {
        return refusal(StatusCode::MISDIRECTED_REQUEST, "the Host is not a loopback address");
    }
    let foreign_origin = headers.contains_key(header::ORIGIN)
        && !header_text(headers, "origin").is_some_and(is_loopback_origin);
    let foreign_site = header_text(headers, "sec-fetch-site") == Some("cross-site");
    if foreign_origin || foreign_site {
        return refusal(StatusCode::FORBIDDEN, "the request comes from another site");
    }
    if request.method() == Method::POST && !is_json(headers) {
        return refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send content-type: application/json");
    }
    next.run(request).await
}

fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn is_loopback_origin(origin: &str) -> bool {
    origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"))
        .is_some_and(is_loopback_authority)
}

fn is_loopback_authority(authority: &str) -> bool {
    let host = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) if port.is_empty() || port.starts_with(':') => host,
        Some(_) => return false,
        None => authority.split_once(':').map_or(authority, |(host, _)| host),
    };
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_json(headers: &HeaderMap) -> bool {
    let media_type = header_text(headers, "content-type").unwrap_or("");
    let media_type = media_type.split_once(';').map_or(media_type, |(media_type, _)| media_type);
    media_type.trim().eq_ignore_ascii_case("application/json")
}

fn refusal(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({ "error": error }))).into_response()
}

async fn state(State(simulator): State<Simulator>) -> Json<Value> {
    let (server_time, down) = (simulator.server_time(), simulator.is_down());
    let state = simulator.state();
    let rooms = state.rooms.values().map(|room| {
        let posted = state.messages.get(&room.id).map(Vec::as_slice).unwrap_or_default();
        let mut json = room_json(room);
        json["message_count"] = json!(posted.len());
        json["last_message"] = posted.last().map_or(Value::Null, message_json);
        json
    });
    Json(json!({
        "widget": state.options.widget,
        "server_time": server_time,
        "down": down,
        "rooms": rooms.collect::<Vec<_>>(),
        "users": state.users.values().map(user_json).collect::<Vec<_>>(),
    }))
}

async fn messages(State(simulator): State<Simulator>, Path(room): Path<i64>) -> Response {
    if simulator.room(room).is_none() {
        return SimulatorError::UnknownRoom(room).into_response();
    }
    let messages: Vec<_> = simulator.messages(room).iter().map(message_json).collect();
    Json(messages).into_response()
}

#[derive(Deserialize)]
struct Since {
    #[serde(default)]
    since: u64,
}

/// The log as JSON lines, as in the log file.
async fn log(State(simulator): State<Simulator>, Query(Since { since }): Query<Since>) -> Response {
    let lines: String =
        simulator.log_since(since).iter().map(|entry| entry.to_json_line() + "\n").collect();
    ([(header::CONTENT_TYPE, "application/x-ndjson")], lines).into_response()
}

async fn events(
    State(simulator): State<Simulator>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    Sse::new(stream::unfold(simulator.subscribe(), next_event)).keep_alive(KeepAlive::default())
}

async fn next_event(
    mut changes: Receiver<Change>,
) -> Option<(Result<Event, Infallible>, Receiver<Change>)> {
    let event = match changes.recv().await {
        Ok(change) => Event::default().event(change.name()).data(change.to_json().to_string()),
        // Whoever was too slow has to read the state again.
        Err(RecvError::Lagged(missed)) => {
            Event::default().event("lagged").data(json!({ "missed": missed }).to_string())
        }
        Err(RecvError::Closed) => return None,
    };
    Some((Ok(event), changes))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewRoom {
    name: String,
    kind: Option<i64>,
    public: Option<bool>,
}

async fn open_room(State(simulator): State<Simulator>, Json(new): Json<NewRoom>) -> Json<Value> {
    let room = simulator.open_room_with(RoomSeed {
        name: new.name,
        kind: new.kind.unwrap_or(CONFERENCE),
        public: new.public.unwrap_or(true),
        ..RoomSeed::default()
    });
    Json(json!({ "room": room }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewName {
    name: String,
}

async fn rename_room(
    State(simulator): State<Simulator>,
    Path(room): Path<i64>,
    Json(new): Json<NewName>,
) -> Result<Json<Value>, SimulatorError> {
    simulator.rename_room(room, &new.name)?;
    Ok(Json(json!({ "room": room })))
}

async fn close_room(
    State(simulator): State<Simulator>,
    Path(room): Path<i64>,
) -> Result<Json<Value>, SimulatorError> {
    simulator.close_room(room, false)?;
    Ok(Json(json!({ "room": room })))
}

async fn restore_room(
    State(simulator): State<Simulator>,
    Path(room): Path<i64>,
) -> Result<Json<Value>, SimulatorError> {
    simulator.restore_room(room)?;
    Ok(Json(json!({ "room": room })))
}

/// The site's id of a user, as a number or as a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum SiteUser {
    Number(i64),
    Text(String),
}

impl std::fmt::Display for SiteUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewMessage {
    user: SiteUser,
    text: String,
}

async fn post_message(
    State(simulator): State<Simulator>,
    Path(room): Path<i64>,
    Json(new): Json<NewMessage>,
) -> Result<Json<Value>, SimulatorError> {
    let message = simulator.post(room, new.user, &new.text)?;
    Ok(Json(json!({ "message": message })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewUser {
    name: String,
    site_user_id: SiteUser,
}

async fn join(State(simulator): State<Simulator>, Json(new): Json<NewUser>) -> Json<Value> {
    let user = simulator.join(&new.name, new.site_user_id);
    Json(json!({ "user": user }))
}

async fn faults(State(simulator): State<Simulator>) -> Json<Vec<String>> {
    Json(simulator.faults().waiting().iter().map(ToString::to_string).collect())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewFault {
    spec: String,
}

async fn push_fault(State(simulator): State<Simulator>, Json(new): Json<NewFault>) -> Response {
    match simulator.faults().push_spec(&new.spec) {
        Ok(()) => Json(json!({ "waiting": simulator.faults().waiting().len() })).into_response(),
        Err(error) => refusal(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string()),
    }
}

async fn clear_faults(State(simulator): State<Simulator>) -> Json<Value> {
    simulator.faults().clear();
    Json(json!({ "waiting": 0 }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Outage {
    down: bool,
}

async fn outage(State(simulator): State<Simulator>, Json(wanted): Json<Outage>) -> Json<Value> {
    simulator.server_down(wanted.down);
    Json(json!({ "down": wanted.down }))
}

impl IntoResponse for SimulatorError {
    fn into_response(self) -> Response {
        let status = match self {
            Self::UnknownRoom(_) => StatusCode::NOT_FOUND,
            Self::ClosedRoom(_) => StatusCode::CONFLICT,
        };
        refusal(status, &self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_and_addresses_are_loopback() {
        for loopback in
            ["localhost", "LOCALHOST:80", "127.0.0.1", "127.0.0.2:9627", "[::1]", "[::1]:9627"]
        {
            assert!(is_loopback_authority(loopback), "{loopback}");
        }
        for foreign in [
            "",
            "example.com",
            "localhost.example.com",
            "127.0.0.1.example.com",
            "192.0.2.1",
            "[::1]x",
            "[2001:db8::1]:80",
            "0.0.0.0",
        ] {
            assert!(!is_loopback_authority(foreign), "{foreign}");
        }
        assert!(is_loopback_origin("http://localhost:9627"));
        assert!(!is_loopback_origin("null"));
        assert!(!is_loopback_origin("file://localhost"));
    }
}
