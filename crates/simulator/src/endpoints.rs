//! The three endpoints, a file each, and what they share: the path, the error body, the reply.
//! Knows nothing of sockets, and of faults only the changes they make to a genuine reply.

mod get_rooms;
mod get_users;
mod list;
mod send_msg;

use bytes::Bytes;

use crate::auth;
use crate::door::in_process::RawRequest;
use crate::fault::Tweaks;
use crate::form::Form;
use crate::simulator::State;

/// One of the API's endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `send_msg`: posts a message.
    SendMsg,
    /// `get_users`: lists users.
    GetUsers,
    /// `get_rooms`: lists rooms.
    GetRooms,
}

impl Endpoint {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::SendMsg, Self::GetUsers, Self::GetRooms];

    /// The last part of its path.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SendMsg => "send_msg",
            Self::GetUsers => "get_users",
            Self::GetRooms => "get_rooms",
        }
    }

    /// The endpoint of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|endpoint| endpoint.name() == name)
    }
}

/// The endpoint behind a path, and the `imba_id` in it.
pub(crate) fn of_path(path: &str) -> Option<(Endpoint, &str)> {
    let (imba_id, name) = path.strip_prefix("/imbachat/v2/")?.split_once('/')?;
    Some((Endpoint::named(name)?, imba_id))
}

/// What the server wants to answer, before any fault gets hold of it.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
    /// Id and uuid of the message that is in its room now.
    pub(crate) applied: Option<(i64, String)>,
}

impl Reply {
    pub(crate) fn ok(body: String) -> Self {
        Self { status: 200, body: Bytes::from(body), applied: None }
    }

    /// The vendor's shape of an error.
    pub(crate) fn error(state: &State, code: u16, error: &str) -> Self {
        let status = if state.options.errors_as_200 { 200 } else { code };
        Self { status, body: error_body(state, code, error), applied: None }
    }

    fn missing(state: &State, parameter: &str) -> Self {
        Self::error(state, 422, &format!("The required parameter {parameter} was not passed!"))
    }
}

pub(crate) fn error_body(state: &State, code: u16, error: &str) -> Bytes {
    let error = state.dialect().quoted(error);
    Bytes::from(format!(r#"{{"code":{code},"version":1.0,"error":{error},"debug":""}}"#))
}

/// A request that arrived whole, and when.
pub(crate) struct Asked<'a> {
    pub(crate) request: &'a RawRequest,
    pub(crate) form: &'a Form,
    pub(crate) now_micros: i64,
}

/// Does what the request asks for and says what to answer.
pub(crate) fn answer(state: &mut State, asked: &Asked<'_>, tweaks: &Tweaks) -> Reply {
    let Some((endpoint, imba_id)) = of_path(asked.request.path_only()) else {
        return Reply::error(state, 404, "Page not found!");
    };
    if asked.request.method != "POST" {
        return Reply::error(state, 405, "Method not allowed!");
    }
    let server_time = state.server_time(asked.now_micros);
    let allowed = auth::basic(state, asked.request)
        || (endpoint == Endpoint::GetRooms
            && auth::token_user(state, asked.request, server_time).is_some());
    if !allowed {
        return Reply::error(state, 401, "Authenticate required!");
    }
    if imba_id != state.options.widget.to_string() {
        return Reply::error(state, 404, "Widget not found!");
    }
    match endpoint {
        Endpoint::SendMsg => send_msg::answer(state, asked, tweaks),
        Endpoint::GetUsers => get_users::answer(state, asked.form, tweaks),
        Endpoint::GetRooms => get_rooms::answer(state, asked.form, tweaks),
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{ask, basic, request, simulator};

    use super::*;

    const UNAUTHENTICATED: &str =
        r#"{"code":401,"version":1.0,"error":"Authenticate required!","debug":""}"#;

    #[test]
    fn wrong_credentials_are_answered_in_the_vendors_words() {
        let simulator = simulator();
        for credentials in [
            basic("627", "wrong"),
            basic("628", "simulator-secret"),
            ("authorization".to_owned(), "Bearer x".to_owned()),
            ("x-nothing".to_owned(), String::new()),
        ] {
            for endpoint in Endpoint::ALL {
                let mut request = request(endpoint.name(), &[]);
                request.headers[0] = credentials.clone();
                let answer = crate::testing::answer(simulator.handle(&request));
                assert_eq!(answer.status, 401);
                assert_eq!(crate::testing::body(&answer), UNAUTHENTICATED);
            }
        }
    }

    #[test]
    fn a_new_secret_locks_the_old_one_out() {
        let simulator = simulator();
        simulator.set_secret("new");
        let mut request = request("get_rooms", &[]);
        assert_eq!(ask(&simulator, &request).0, 401);
        request.headers[0] = basic("627", "new");
        assert_eq!(ask(&simulator, &request).0, 200);
    }

    #[test]
    fn other_paths_methods_and_widgets_are_refused() {
        let simulator = simulator();
        let mut other = request("get_rooms", &[]);
        other.path = "/imbachat/v2/628/get_rooms".to_owned();
        assert_eq!(ask(&simulator, &other).0, 404);
        other.path = "/imbachat/v2/627/get_messages".to_owned();
        assert_eq!(ask(&simulator, &other).0, 404);
        other.path = "/".to_owned();
        assert_eq!(ask(&simulator, &other).0, 404);
        let mut get = request("get_rooms", &[]);
        get.method = "GET".to_owned();
        assert_eq!(ask(&simulator, &get).0, 405);
    }

    #[test]
    fn errors_can_come_with_http_200_as_in_the_vendors_plugins() {
        let simulator = simulator();
        simulator.configure(|options| options.errors_as_200 = true);
        let (status, body) = ask(&simulator, &request("send_msg", &[]));
        assert_eq!((status, &body["code"]), (200, &serde_json::json!(422)));
    }
}
