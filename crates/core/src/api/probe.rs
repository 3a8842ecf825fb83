//! Asking a list only to learn whether the secret key is accepted. The body is read as far as the
//! answer is clear and then dropped, however many users there are.

use super::{Api, GetUsers};
use crate::error::Error;

/// What became of the credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// The server accepts them.
    Accepted,
    /// The server refuses them (401 or 403, as status or in the body).
    Refused(Error),
    /// The server could not be asked, or said something else.
    Undecided(Error),
}

impl Api {
    /// Asks `get_users` with the widget's credentials and looks only at the beginning of the answer.
    pub async fn probe_credentials(&self) -> Probe {
        match self.peek_list(self.users_request(&GetUsers::new(), None)).await {
            Ok(()) => Probe::Accepted,
            Err(error) if error.is_credentials() => Probe::Refused(error),
            Err(error) => Probe::Undecided(error),
        }
    }
}
