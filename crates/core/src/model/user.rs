//! A user of a widget.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{SiteUserId, UserId, WidgetId};
use crate::time::Timestamp;

/// A user as `get_users` lists it. Names and addresses are not told: they live on the site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct User {
    /// ImbaChat's number.
    pub id: UserId,
    /// The site's id of the same person (`remote_user_id`): what `send_msg` takes.
    #[serde(default)]
    pub site_user_id: Option<SiteUserId>,
    /// The login in the chat; `None` for users that the site manages (`"NULL"` on the wire).
    #[serde(default)]
    pub login: Option<String>,
    /// What the user may do.
    #[serde(default)]
    pub status: UserStatus,
    /// The picture's address.
    #[serde(default)]
    pub avatar_url: Option<String>,
    /// When the row was made, UTC.
    #[serde(default)]
    pub created_at: Option<Timestamp>,
    /// When the row last changed, UTC.
    #[serde(default)]
    pub updated_at: Option<Timestamp>,
    /// When the user was deleted; such a row is gone for every purpose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<Timestamp>,
    /// The widget the row says it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub widget: Option<WidgetId>,
    /// Fields that nobody knows yet, as they came; never a password.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub extra: serde_json::Map<String, serde_json::Value>,
}

impl User {
    /// A user with this number and nothing else set.
    #[must_use]
    pub fn new(id: UserId) -> Self {
        Self {
            id,
            site_user_id: None,
            login: None,
            status: UserStatus::User,
            avatar_url: None,
            created_at: None,
            updated_at: None,
            deleted_at: None,
            widget: None,
            extra: serde_json::Map::new(),
        }
    }
}

/// What a user may do. The API's page says `administrator`, its data `admin`: both are `Admin`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
#[non_exhaustive]
pub enum UserStatus {
    /// `user`.
    #[default]
    User,
    /// `admin` or `administrator`.
    Admin,
    /// Any other word, as it came.
    Unknown(String),
}

impl From<String> for UserStatus {
    fn from(text: String) -> Self {
        match text.as_str() {
            "user" => Self::User,
            "admin" | "administrator" => Self::Admin,
            _ => Self::Unknown(text),
        }
    }
}

impl From<UserStatus> for String {
    fn from(status: UserStatus) -> Self {
        status.to_string()
    }
}

impl fmt::Display for UserStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User => f.pad("user"),
            Self::Admin => f.pad("admin"),
            Self::Unknown(text) => f.pad(text),
        }
    }
}
