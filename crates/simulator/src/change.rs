//! What subscribers are told: every change of rooms, users and messages, in order. Changes carry
//! the new state, never the old one.

use serde_json::{Value, json};

use crate::message::Message;
use crate::room::Room;
use crate::user::User;

/// One change of the server's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A room was opened.
    RoomOpened(Room),
    /// A room was renamed, closed, restored, touched or otherwise changed. A message that moves
    /// `updated_at` is no change of its own.
    RoomChanged(Room),
    /// A user joined.
    UserJoined(User),
    /// A user was renamed, banned, removed or otherwise changed.
    UserChanged(User),
    /// Someone posted.
    Message(Message),
    /// The server went down or came up.
    Server {
        /// Whether it is down now.
        down: bool,
    },
}

impl Change {
    /// The change's name, as in the `event:` line of the control API's stream.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::RoomOpened(_) => "room_opened",
            Self::RoomChanged(_) => "room_changed",
            Self::UserJoined(_) => "user_joined",
            Self::UserChanged(_) => "user_changed",
            Self::Message(_) => "message",
            Self::Server { .. } => "server",
        }
    }

    /// The change as JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match self {
            Self::RoomOpened(room) | Self::RoomChanged(room) => room_json(room),
            Self::UserJoined(user) | Self::UserChanged(user) => user_json(user),
            Self::Message(message) => message_json(message),
            Self::Server { down } => json!({ "down": down }),
        }
    }
}

pub(crate) fn room_json(room: &Room) -> Value {
    json!({
        "id": room.id,
        "name": room.name,
        "kind": room.kind,
        "status": room.status,
        "public": room.is_public,
        "admin_id": room.admin_id,
        "pipe": room.pipe,
        "created_at": room.created_at,
        "updated_at": room.updated_at,
        "deleted_at": room.deleted_at,
    })
}

pub(crate) fn user_json(user: &User) -> Value {
    json!({
        "id": user.id,
        "site_user_id": user.site_user_id,
        "name": user.name,
        "status": user.status,
        "banned": user.banned,
        "deleted_at": user.deleted_at,
    })
}

pub(crate) fn message_json(message: &Message) -> Value {
    json!({
        "room": message.room,
        "id": message.id,
        "uuid": message.uuid,
        "user_id": message.user_id,
        "site_user_id": message.site_user_id,
        "user": message.user,
        "text": message.text,
        "time": message.time,
        "by_bot": message.by_bot(),
        "delivery": message.delivery,
    })
}
