//! Who may ask: HTTP Basic with the widget's id and its secret, or (for rooms) the `JWT` header.
//! Nothing here looks at what is asked.

mod basic;
pub(crate) mod jwt;

use crate::door::in_process::RawRequest;
use crate::simulator::State;

/// Whether the request carries the widget's credentials.
pub(crate) fn basic(state: &State, request: &RawRequest) -> bool {
    request.header("authorization").is_some_and(|value| {
        basic::credentials(value).is_some_and(|(login, password)| {
            login == state.options.widget.to_string() && password == state.options.secret
        })
    })
}

/// The site's id of the user whose token the request carries, if the token is good.
pub(crate) fn token_user(state: &State, request: &RawRequest, server_time: i64) -> Option<String> {
    jwt::user_id(request.header("jwt")?, &state.options.secret, server_time)
}
