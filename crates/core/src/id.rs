//! The ids of ImbaChat, a type each. ImbaChat's own reply shows two id spaces side by side
//! (`user_id: 2046`, `remote_user_id: 1`): here they cannot be mixed. Nothing in this module
//! checks that an id exists.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidId(String);

macro_rules! numeric_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                text.trim().parse().map(Self).map_err(|_| {
                    InvalidId(format!("{:?} is not a number from 0 to {}", text, u64::MAX))
                })
            }
        }

        impl From<u64> for $name {
            fn from(number: u64) -> Self {
                Self(number)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Number;
                impl de::Visitor<'_> for Number {
                    type Value = u64;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a number, or a string of digits")
                    }
                    fn visit_u64<E: de::Error>(self, number: u64) -> Result<u64, E> {
                        Ok(number)
                    }
                    fn visit_i64<E: de::Error>(self, number: i64) -> Result<u64, E> {
                        u64::try_from(number)
                            .map_err(|_| E::invalid_value(de::Unexpected::Signed(number), &self))
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
                        text.trim()
                            .parse()
                            .map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
                    }
                }
                deserializer.deserialize_any(Number).map(Self)
            }
        }
    };
}

numeric_id! {
    /// The number of a widget in ImbaChat: the login of every request, `imba_id` in the API.
    WidgetId
}
numeric_id! {
    /// A room of a widget. Rooms are addressed by this number only.
    RoomId
}
numeric_id! {
    /// A user in ImbaChat's own numbering: what replies call `user_id` and rooms call `admin_id`.
    UserId
}
numeric_id! {
    /// A message that ImbaChat stored.
    MessageId
}

/// A user in the numbering of the site that embeds the widget: what `send_msg` takes and replies
/// call `remote_user_id`. Sites number their users, but nothing forces them to: any short text
/// without control characters is kept as it came.
///
/// As JSON a plain decimal number is a number, anything else a string, so nothing is lost.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SiteUserId(Box<str>);

impl SiteUserId {
    /// The id as the site writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn as_number(&self) -> Option<u64> {
        let number: u64 = self.0.parse().ok()?;
        (number.to_string() == *self.0).then_some(number)
    }
}

impl fmt::Display for SiteUserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SiteUserId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let text = text.trim();
        if text.is_empty() {
            return Err(InvalidId("a site user id is not empty".into()));
        }
        if text.len() > 100 || text.chars().any(char::is_control) {
            return Err(InvalidId(
                "a site user id has at most 100 bytes and no control characters".into(),
            ));
        }
        Ok(Self(text.into()))
    }
}

impl From<u64> for SiteUserId {
    fn from(number: u64) -> Self {
        Self(number.to_string().into())
    }
}

impl Serialize for SiteUserId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.as_number() {
            Some(number) => serializer.serialize_u64(number),
            None => serializer.serialize_str(&self.0),
        }
    }
}

impl<'de> Deserialize<'de> for SiteUserId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Id;
        impl de::Visitor<'_> for Id {
            type Value = SiteUserId;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a site user id: a number or a short string")
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<SiteUserId, E> {
                Ok(number.into())
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<SiteUserId, E> {
                u64::try_from(number)
                    .map(Into::into)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(number), &self))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<SiteUserId, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_numbers_and_strings_of_digits_alike() {
        assert_eq!(serde_json::from_str::<RoomId>("1536").unwrap(), RoomId(1536));
        assert_eq!(serde_json::from_str::<RoomId>("\"1536\"").unwrap(), RoomId(1536));
        assert!(serde_json::from_str::<RoomId>("-1").is_err());
        assert!(serde_json::from_str::<RoomId>("\"NULL\"").is_err());
    }

    #[test]
    fn the_largest_number_keeps_its_last_digit() {
        let id: MessageId = serde_json::from_str("18446744073709551615").unwrap();
        assert_eq!(serde_json::to_string(&id).unwrap(), "18446744073709551615");
    }

    #[test]
    fn a_site_user_id_is_a_number_in_json_only_where_nothing_is_lost() {
        let json =
            |text: &str| serde_json::to_string(&text.parse::<SiteUserId>().unwrap()).unwrap();
        assert_eq!(json("1"), "1");
        assert_eq!(json("007"), "\"007\"");
        assert_eq!(json("P11-A"), "\"P11-A\"");
        assert!("".parse::<SiteUserId>().is_err());
        assert!("a\nb".parse::<SiteUserId>().is_err());
    }
}
