//! The endpoints, one file each, and the [`Api`] that asks them over a [`Transport`]. Nothing here
//! repeats a request, waits, or knows what time it is.

mod get_rooms;
mod get_users;
mod list;
mod pages;
mod probe;
mod send_msg;

use std::sync::Arc;

use secrecy::SecretString;

use crate::credentials::Credentials;
use crate::outcome::ClassifyRules;
use crate::transport::{Endpoint, HeaderText, Request, Transport};
use crate::wire::multipart::Form;

pub use get_rooms::{GetRooms, RoomsAuth};
pub use get_users::GetUsers;
pub use list::{List, ListSummary, Quarantined, Sink, TakeElements, is_senseless, repeats_itself};
pub use probe::Probe;
pub use send_msg::SendMsg;

/// The API of one widget.
#[derive(Clone)]
pub struct Api {
    transport: Arc<dyn Transport>,
    credentials: Credentials,
    basic: Arc<SecretString>,
    options: ApiOptions,
}

/// What can be chosen about how the API is asked.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ApiOptions {
    /// Repeat the widget's number in the body of `send_msg`, as the API's page demands and its
    /// own sample does not. Default: no.
    pub imba_id_in_send: bool,
    /// What of the classification is the operator's choice.
    pub rules: ClassifyRules,
    /// The largest reply to `send_msg` that is read. Default 1 MiB; real ones have 1 kB.
    pub max_reply: usize,
    /// The largest list that is read, after decompression and over all pages. Default 512 MiB.
    pub max_list: u64,
    /// The largest element of a list. Default 1 MiB; real ones have 300 bytes.
    pub max_element: usize,
    /// How many pages a list may have. Default 100,000: at the smallest usual page size that is more
    /// rooms than any site has, so more are taken for a server that pages without end.
    pub max_pages: u32,
}

impl Default for ApiOptions {
    fn default() -> Self {
        Self {
            imba_id_in_send: false,
            rules: ClassifyRules::default(),
            max_reply: 1024 * 1024,
            max_list: 512 * 1024 * 1024,
            max_element: 1024 * 1024,
            max_pages: 100_000,
        }
    }
}

impl Api {
    /// The API of the widget of these credentials.
    #[must_use]
    pub fn new(transport: Arc<dyn Transport>, credentials: Credentials) -> Self {
        let basic = Arc::new(credentials.basic_header());
        Self { transport, credentials, basic, options: ApiOptions::default() }
    }

    /// The same with other options.
    #[must_use]
    pub fn with_options(mut self, options: ApiOptions) -> Self {
        self.options = options;
        self
    }

    /// Whose API this is.
    #[must_use]
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// How it is asked.
    #[must_use]
    pub fn options(&self) -> &ApiOptions {
        &self.options
    }

    /// Says that an answer was for another message; see [`Transport::retire_connections`].
    pub fn retire_connections(&self) {
        self.transport.retire_connections();
    }

    fn request(&self, endpoint: Endpoint, form: &Form) -> Request {
        let (content_type, body) = form.encode();
        let path = format!("/imbachat/v2/{}/{endpoint}", self.credentials.widget);
        let basic = HeaderText::Secret(self.basic.clone());
        Request::new(endpoint, path, vec![("Authorization", basic)], content_type, body)
    }

    /// A further page is asked for in the address as well: plain PHP may look nowhere else.
    fn page_request(&self, endpoint: Endpoint, form: &Form, query: Option<String>) -> Request {
        let mut request = self.request(endpoint, form);
        if let Some(query) = query.filter(|query| !query.is_empty()) {
            request.path = format!("{}?{query}", request.path);
        }
        request
    }
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").field("widget", &self.credentials.widget).finish_non_exhaustive()
    }
}
