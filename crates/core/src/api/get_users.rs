//! `get_users`: the users of a widget. The server's filters are asked for and not believed: what
//! can be checked here is checked again.

use super::list::{Rows, Sink};
use super::pages::Page;
use super::{Api, List, ListSummary};
use crate::error::Error;
use crate::id::UserId;
use crate::model::{User, UserStatus};
use crate::transport::{Endpoint, Request};
use crate::wire::decode_user;
use crate::wire::multipart::Form;
use crate::wire::split::RawElement;

/// Which users are asked for.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct GetUsers {
    /// Only the user with this login in the chat.
    pub login: Option<String>,
    /// Only the user with this number of ImbaChat's.
    pub id: Option<UserId>,
    /// Repeat the widget's number in the body, as the API's sample does. Default: yes.
    pub imba_id: bool,
    /// Only users with this status.
    pub status: Option<UserStatus>,
    /// Passed on as it is: neither its format nor its meaning is documented.
    pub last_message_date: Option<String>,
    /// Passed on as it is: its values are not documented.
    pub banned: Option<String>,
    /// Further fields of the form, passed on as they are.
    pub extra: Vec<(String, String)>,
}

impl Default for GetUsers {
    fn default() -> Self {
        Self {
            login: None,
            id: None,
            imba_id: true,
            status: None,
            last_message_date: None,
            banned: None,
            extra: Vec::new(),
        }
    }
}

impl GetUsers {
    /// All users.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a user is one that was asked for, as far as the user's fields tell.
    #[must_use]
    pub fn matches(&self, user: &User) -> bool {
        self.login.as_ref().is_none_or(|login| user.login.as_ref() == Some(login))
            && self.id.is_none_or(|id| user.id == id)
            && self.status.as_ref().is_none_or(|status| user.status == *status)
    }

    fn form(&self, imba_id: &str) -> Form {
        let mut form = Form::default();
        if self.imba_id {
            form.add("imba_id", imba_id);
        }
        form.add_some("login", self.login.as_deref());
        form.add_some("id", self.id.map(|id| id.to_string()));
        form.add_some("status", self.status.as_ref().map(ToString::to_string));
        form.add_some("last_message_date", self.last_message_date.as_deref());
        form.add_some("banned", self.banned.as_deref());
        for (name, value) in &self.extra {
            form.add(name.as_str(), value.as_str());
        }
        form
    }
}

impl Api {
    /// Lists users, element by element as the bytes arrive; see [`Api::list_rooms`].
    ///
    /// # Errors
    ///
    /// [`Error`], and then nothing that was handed to `sink` counts; among them
    /// [`ErrorKind::Senseless`](crate::ErrorKind::Senseless), where `sink` had seen enough.
    pub async fn list_users(
        &self,
        request: &GetUsers,
        sink: &mut Sink<'_>,
    ) -> Result<ListSummary, Error> {
        self.stream_list(&|page| self.users_request(request, page), sink).await
    }

    /// The users, decoded, filtered again, in ascending order. All of them are in memory then: what they
    /// take is bounded by [`ApiOptions::max_list`](super::ApiOptions::max_list), twice over.
    ///
    /// # Errors
    ///
    /// [`Error`]: the list is had whole or not at all. [`ErrorKind::Senseless`](crate::ErrorKind::Senseless)
    /// also for a list that says the same few users again and again.
    pub async fn users(&self, request: &GetUsers) -> Result<List<User>, Error> {
        let mut rows = Rows::new(self.options.max_list, |user: &User| user.id);
        let summary = self
            .list_users(request, &mut |element: RawElement<'_>| rows.push(element, decode_user))
            .await;
        rows.finish(summary, |user| user.deleted_at.is_some(), |user| request.matches(user))
    }

    pub(super) fn users_request(&self, request: &GetUsers, page: Option<&Page>) -> Request {
        let mut form = request.form(&self.credentials.widget.to_string());
        let query = page.map(|page| page.add_to(&mut form));
        self.page_request(Endpoint::GetUsers, &form, query)
    }
}
