//! `send_msg`: posts a message into a room as a user of the site. One attempt per call; what it
//! meant is in the outcome, and whether to try again is the caller's business.

use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};

use super::Api;
use crate::id::{RoomId, SiteUserId};
use crate::outcome::{Advice, Class, Seen, SendOutcome, classify};
use crate::transport::{
    BodyStream, Endpoint, HeaderText, NetCode, Request, Response, TransportError,
};
use crate::wire::multipart::Form;

/// A message to be posted.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SendMsg {
    /// As whom, in the numbering of the site.
    pub user_id: SiteUserId,
    /// Where.
    pub room_id: RoomId,
    /// What; see [`validate_text`](crate::validate_text).
    pub message: String,
    /// The password of that user on the site. The API's page calls it required, its sample leaves
    /// it out: normally `None`.
    pub password: Option<SecretString>,
    /// The delivery's id and the number of this attempt, sent as `X-Imbabot-Delivery` and
    /// `X-Imbabot-Attempt`. ImbaChat ignores them; logs and proxies do not.
    pub delivery: Option<(String, u32)>,
}

impl SendMsg {
    /// This text, there, as that user.
    #[must_use]
    pub fn new(user_id: SiteUserId, room_id: RoomId, message: impl Into<String>) -> Self {
        Self { user_id, room_id, message: message.into(), password: None, delivery: None }
    }

    /// Marks the attempt.
    #[must_use]
    pub fn with_delivery(mut self, id: impl Into<String>, attempt: u32) -> Self {
        self.delivery = Some((id.into(), attempt));
        self
    }

    fn form(&self, imba_id: Option<String>) -> Form {
        let mut form = Form::default();
        if let Some(imba_id) = imba_id {
            form.add("imba_id", imba_id);
        }
        form.add("user_id", self.user_id.as_str());
        form.add("room_id", self.room_id.to_string());
        if let Some(password) = &self.password {
            form.add("password", password.expose_secret());
        }
        form.add("message", self.message.as_str());
        form
    }
}

impl Api {
    /// Posts a message, once. Never an error: the outcome is the truth about the attempt.
    ///
    /// Dropping the future abandons the attempt: the request may have left, so the caller has to
    /// treat it as ambiguous.
    pub async fn send_msg(&self, request: &SendMsg) -> SendOutcome {
        let rules = &self.options.rules;
        let mut response = match self.transport.send(self.send_request(request)).await {
            Ok(response) => response,
            Err(error) => return classify(request, Seen::Failed(&error), rules),
        };
        let body = read_reply(&mut *response.body, self.options.max_reply).await;
        let Response { status, headers, .. } = &response;
        let seen =
            Seen::Answer { status: *status, headers, body: body.as_ref().map(|body| &body[..]) };
        let mut outcome = classify(request, seen, rules);
        if outcome.drop_connection {
            response.body.retire_connection();
        }
        if outcome.class != Class::Delivered {
            self.withhold_secrets(request, body.as_deref().unwrap_or_default(), &mut outcome);
        }
        outcome
    }

    fn send_request(&self, message: &SendMsg) -> Request {
        let imba_id = self.options.imba_id_in_send.then(|| self.credentials.widget.to_string());
        let mut request = self.request(Endpoint::SendMsg, &message.form(imba_id));
        if let Some((id, attempt)) = &message.delivery {
            let id: String = id.chars().filter(|c| c.is_ascii_graphic()).collect();
            request.headers.push(("X-Imbabot-Delivery", HeaderText::Plain(id)));
            request.headers.push(("X-Imbabot-Attempt", HeaderText::Plain(attempt.to_string())));
        }
        request
    }

    /// A server that repeats what it was given in an error page must not bring it into our log.
    fn withhold_secrets(&self, request: &SendMsg, body: &[u8], outcome: &mut SendOutcome) {
        let body = String::from_utf8_lossy(body);
        let password = request.password.as_ref().map(|password| password.expose_secret());
        let password = password.filter(|password| !password.is_empty());
        let leaks = |text: &str| {
            self.credentials.secret.leaks_into(text)
                || password.is_some_and(|password| text.contains(password))
        };
        if leaks(&body) || leaks(&outcome.detail) {
            outcome.detail = "(withheld: the answer repeats a secret)".into();
        }
        if let Advice::Redirect { origin } = &mut outcome.advice
            && leaks(origin)
        {
            origin.clear();
        }
    }
}

/// The whole body, if it is not larger than `max`. Nearly always it is one piece.
async fn read_reply(body: &mut dyn BodyStream, max: usize) -> Result<Bytes, TransportError> {
    let mut whole = Bytes::new();
    while let Some(chunk) = body.chunk().await? {
        if whole.len() + chunk.len() > max {
            return Err(TransportError::new(NetCode::BodyTooLarge, format!("over {max} bytes")));
        }
        whole = if whole.is_empty() { chunk } else { [whole, chunk].concat().into() };
    }
    Ok(whole)
}
