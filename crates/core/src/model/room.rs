//! A room, and what kind of room it is.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::id::{RoomId, UserId, WidgetId};
use crate::time::Timestamp;

/// A room as `get_rooms` lists it. Who is in it and what was said in it is not told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Room {
    /// The number by which `send_msg` addresses it.
    pub id: RoomId,
    /// Its name: foreign text, anything may stand in it.
    #[serde(default)]
    pub name: String,
    /// What kind of room it is (`type` in the API).
    pub kind: RoomKind,
    /// Its second key, chosen by the site or made by ImbaChat.
    #[serde(default)]
    pub pipe: String,
    /// Its administrator, in ImbaChat's numbering.
    #[serde(default)]
    pub admin_id: Option<UserId>,
    /// Whether people may join by themselves.
    #[serde(default)]
    pub is_public: bool,
    /// ImbaChat's status of the room; 0 in every sample that was seen.
    #[serde(default)]
    pub status: i64,
    /// When it was opened, UTC.
    #[serde(default)]
    pub created_at: Option<Timestamp>,
    /// When its row last changed, UTC. Not shown to move with messages.
    #[serde(default)]
    pub updated_at: Option<Timestamp>,
    /// When it was deleted; such a row is gone for every purpose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<Timestamp>,
    /// The widget the row says it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub widget: Option<WidgetId>,
    /// Fields that nobody knows yet, as they came.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub extra: serde_json::Map<String, serde_json::Value>,
}

impl Room {
    /// A room with this number and name and nothing else set: a private conference.
    #[must_use]
    pub fn new(id: RoomId, name: impl Into<String>) -> Self {
        Self {
            id,
            name: name.into(),
            kind: RoomKind::Conference,
            pipe: String::new(),
            admin_id: None,
            is_public: false,
            status: 0,
            created_at: None,
            updated_at: None,
            deleted_at: None,
            widget: None,
            extra: serde_json::Map::new(),
        }
    }
}

/// The kind of a room. Open: the API's page names 0 and 1 and shows 3 in its own example.
///
/// In text `dialogue`, `conference`, `support`, or the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum RoomKind {
    /// 0: two people.
    Dialogue,
    /// 1: a group.
    Conference,
    /// 3: technical support.
    Support,
    /// Any other number.
    Unknown(i64),
}

impl RoomKind {
    /// ImbaChat's number.
    #[must_use]
    pub fn number(self) -> i64 {
        match self {
            Self::Dialogue => 0,
            Self::Conference => 1,
            Self::Support => 3,
            Self::Unknown(number) => number,
        }
    }
}

impl From<i64> for RoomKind {
    fn from(number: i64) -> Self {
        match number {
            0 => Self::Dialogue,
            1 => Self::Conference,
            3 => Self::Support,
            other => Self::Unknown(other),
        }
    }
}

impl fmt::Display for RoomKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dialogue => f.pad("dialogue"),
            Self::Conference => f.pad("conference"),
            Self::Support => f.pad("support"),
            Self::Unknown(number) => number.fmt(f),
        }
    }
}

impl FromStr for RoomKind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "dialogue" => Ok(Self::Dialogue),
            "conference" => Ok(Self::Conference),
            "support" => Ok(Self::Support),
            other => other.parse::<i64>().map(Self::from).map_err(|_| {
                format!("{other:?} is no kind of room: dialogue, conference, support or a number")
            }),
        }
    }
}

impl Serialize for RoomKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Unknown(number) => serializer.serialize_i64(*number),
            known => serializer.collect_str(known),
        }
    }
}

impl<'de> Deserialize<'de> for RoomKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Kind;
        impl de::Visitor<'_> for Kind {
            type Value = RoomKind;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("dialogue, conference, support or a number")
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<RoomKind, E> {
                Ok(number.into())
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<RoomKind, E> {
                i64::try_from(number)
                    .map(Into::into)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(number), &self))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<RoomKind, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_nobody_knows_keeps_its_number() {
        assert_eq!(RoomKind::from(7), RoomKind::Unknown(7));
        assert_eq!("7".parse(), Ok(RoomKind::Unknown(7)));
        assert_eq!("1".parse(), Ok(RoomKind::Conference));
        assert_eq!(serde_json::to_string(&RoomKind::Unknown(7)).unwrap(), "7");
        assert_eq!(serde_json::to_string(&RoomKind::Support).unwrap(), "\"support\"");
    }
}
