//! `get_rooms`: the rooms of a widget. The server's filters are asked for and not believed: the
//! API's own sample asks for dialogues and gets a support room.

use super::list::{Rows, Sink};
use super::pages::Page;
use super::{Api, List, ListSummary};
use crate::error::Error;
use crate::id::SiteUserId;
use crate::model::{Room, RoomKind};
use crate::time::Timestamp;
use crate::transport::{Endpoint, HeaderText, Request};
use crate::wire::decode_room;
use crate::wire::multipart::Form;
use crate::wire::split::RawElement;

/// Which rooms are asked for, and as whom.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct GetRooms {
    /// Only rooms of this kind.
    pub room_type: Option<RoomKind>,
    /// Passed on as it is: the status of a user in the room, which no field of a room tells.
    pub status: Option<String>,
    /// Repeat the widget's number in the body, as the API's sample does. Default: yes.
    pub imba_id: bool,
    /// Passed on as it is: the number of users, which no field of a room tells.
    pub count_users: Option<String>,
    /// Passed on as it is: neither its format nor its meaning is documented.
    pub last_message_date: Option<String>,
    /// Passed on as it is: its values are not documented.
    pub banned: Option<String>,
    /// Further fields of the form, passed on as they are.
    pub extra: Vec<(String, String)>,
    /// As whom it is asked.
    pub auth: RoomsAuth,
}

/// As whom rooms are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum RoomsAuth {
    /// As the widget, with its secret key.
    #[default]
    Basic,
    /// As a user of the site, with a `JWT` header instead. Whose rooms that lists is not documented;
    /// presumably that user's.
    Jwt {
        /// Which user.
        user: SiteUserId,
        /// When the token ends; ImbaChat's plugins give it 7 hours.
        expires: Timestamp,
    },
}

impl Default for GetRooms {
    fn default() -> Self {
        Self {
            room_type: None,
            status: None,
            imba_id: true,
            count_users: None,
            last_message_date: None,
            banned: None,
            extra: Vec::new(),
            auth: RoomsAuth::Basic,
        }
    }
}

impl GetRooms {
    /// All rooms.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a room is one that was asked for, as far as the room's fields tell.
    #[must_use]
    pub fn matches(&self, room: &Room) -> bool {
        self.room_type.is_none_or(|kind| room.kind == kind)
    }

    fn form(&self, imba_id: &str) -> Form {
        let mut form = Form::default();
        if self.imba_id {
            form.add("imba_id", imba_id);
        }
        form.add_some("room_type", self.room_type.map(|kind| kind.number().to_string()));
        form.add_some("status", self.status.as_deref());
        form.add_some("count_users", self.count_users.as_deref());
        form.add_some("last_message_date", self.last_message_date.as_deref());
        form.add_some("banned", self.banned.as_deref());
        for (name, value) in &self.extra {
            form.add(name.as_str(), value.as_str());
        }
        form
    }
}

impl Api {
    /// Lists rooms, element by element as the bytes arrive: each element's raw bytes are handed to
    /// `sink` in order, undecoded and unfiltered, and nothing is kept. If the server answers in
    /// pages, all of them are asked for.
    ///
    /// **Believe what the sink was given only after `Ok`.** Whether the server succeeded, and
    /// whether the list is complete, may stand behind its last element.
    ///
    /// # Errors
    ///
    /// [`Error`], and then nothing that was handed to `sink` counts; among them
    /// [`ErrorKind::Senseless`](crate::ErrorKind::Senseless), where `sink` had seen enough.
    pub async fn list_rooms(
        &self,
        request: &GetRooms,
        sink: &mut Sink<'_>,
    ) -> Result<ListSummary, Error> {
        self.stream_list(&|page| self.rooms_request(request, page), sink).await
    }

    /// The rooms, decoded, filtered again, in ascending order. All of them are in memory then: what they
    /// take is bounded by [`ApiOptions::max_list`](super::ApiOptions::max_list), twice over.
    ///
    /// # Errors
    ///
    /// [`Error`]: the list is had whole or not at all. [`ErrorKind::Senseless`](crate::ErrorKind::Senseless)
    /// also for a list that says the same few rooms again and again.
    pub async fn rooms(&self, request: &GetRooms) -> Result<List<Room>, Error> {
        let mut rows = Rows::new(self.options.max_list, |room: &Room| room.id);
        let summary = self
            .list_rooms(request, &mut |element: RawElement<'_>| rows.push(element, decode_room))
            .await;
        rows.finish(summary, |room| room.deleted_at.is_some(), |room| request.matches(room))
    }

    fn rooms_request(&self, request: &GetRooms, page: Option<&Page>) -> Request {
        let mut form = request.form(&self.credentials.widget.to_string());
        let query = page.map(|page| page.add_to(&mut form));
        let mut http = self.page_request(Endpoint::GetRooms, &form, query);
        if let RoomsAuth::Jwt { user, expires } = &request.auth {
            let token = self.credentials.jwt(user, *expires);
            http.headers = vec![("JWT", HeaderText::Secret(token.into()))];
        }
        http
    }
}
