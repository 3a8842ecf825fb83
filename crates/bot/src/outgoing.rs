//! A message that a bot wants sent: recorded, not sent. It becomes a row of the outbox when the
//! handler returns `Ok`, and a request only after that row's claim is committed.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use imbabot_core::{RoomId, SiteUserId, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};

/// The id of a delivery: 128 bits of a hash of its key, 32 hexadecimal digits. It is known before
/// any I/O, and the same key always has the same id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeliveryId([u8; 16]);

impl DeliveryId {
    /// The id that belongs to a delivery's full key.
    #[must_use]
    pub fn of_key(key: &str) -> Self {
        let digest = Sha256::digest(key.as_bytes());
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        Self(id)
    }

    /// The 16 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// From the 16 bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for DeliveryId {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            let shown: String = text.chars().take(60).collect();
            format!("{shown:?} is not a delivery id: 32 hexadecimal digits")
        };
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        u128::from_str_radix(text, 16).map(|n| Self(n.to_be_bytes())).map_err(|_| wrong())
    }
}

impl Serialize for DeliveryId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DeliveryId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// What happens when nobody knows whether a message was applied. The default is `AtMostOnce`:
/// people forgive a missing greeting sooner than two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Policy {
    /// Never send a second request for it: the outcome stays `unknown` until somebody resolves it.
    #[default]
    AtMostOnce,
    /// After `settle` send it again, a bounded number of times, marked as a possible duplicate.
    AtLeastOnce,
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::AtMostOnce => "at_most_once",
            Self::AtLeastOnce => "at_least_once",
        })
    }
}

impl FromStr for Policy {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "at_most_once" => Ok(Self::AtMostOnce),
            "at_least_once" => Ok(Self::AtLeastOnce),
            _ => Err(format!("{text:?} is no policy: at_most_once or at_least_once")),
        }
    }
}

/// One message to one room, as the handler asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "the methods on it change how the message is sent; it is sent in any case"]
pub struct Outgoing {
    pub(crate) room: RoomId,
    pub(crate) text: String,
    pub(crate) not_before: Option<Timestamp>,
    pub(crate) key: Option<String>,
    pub(crate) sender: Option<SiteUserId>,
    pub(crate) policy: Option<Policy>,
    pub(crate) expires_after: Option<Duration>,
    pub(crate) now: Timestamp,
    /// `bot/<name>/`: what a caller's key is put behind.
    pub(crate) key_prefix: String,
    /// The key it has when the caller gives none.
    pub(crate) own_key: String,
}

impl Outgoing {
    /// Not before this long after the event.
    pub fn after(&mut self, delay: Duration) -> &mut Self {
        self.not_before = Some(self.now + delay);
        self
    }

    /// Not before this instant.
    pub fn at(&mut self, instant: Timestamp) -> &mut Self {
        self.not_before = Some(instant);
        self
    }

    /// A key of the bot's own choosing, unique per bot for the store's `retention`: a second
    /// message with the same key is the same message and sends nothing.
    pub fn key(&mut self, key: impl Into<String>) -> &mut Self {
        self.key = Some(key.into());
        self
    }

    /// Speak as this user instead of the configured one.
    pub fn sender(&mut self, user: impl Into<SiteUserId>) -> &mut Self {
        self.sender = Some(user.into());
        self
    }

    /// Another policy than the configured one.
    pub fn policy(&mut self, policy: Policy) -> &mut Self {
        self.policy = Some(policy);
        self
    }

    /// How long the content keeps, counted from the instant at which it may first be sent.
    pub fn expires_after(&mut self, keeps: Duration) -> &mut Self {
        self.expires_after = Some(keeps);
        self
    }

    /// The id under which the ledger and delivery events will know it. Set the key first.
    #[must_use]
    pub fn id(&self) -> DeliveryId {
        DeliveryId::of_key(&self.full_key())
    }

    /// The full key: unique over everything that imbabot ever sends.
    #[must_use]
    pub fn full_key(&self) -> String {
        match &self.key {
            Some(key) => format!("{}{key}", self.key_prefix),
            None => self.own_key.clone(),
        }
    }

    /// The room it is for.
    #[must_use]
    pub fn room(&self) -> RoomId {
        self.room
    }

    /// The text as it will be posted.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The instant before which it is not sent, if one was given.
    #[must_use]
    pub fn not_before(&self) -> Option<Timestamp> {
        self.not_before
    }

    /// The user to speak as, if one was given.
    #[must_use]
    pub fn chosen_sender(&self) -> Option<&SiteUserId> {
        self.sender.as_ref()
    }

    /// The policy, if one was given.
    #[must_use]
    pub fn chosen_policy(&self) -> Option<Policy> {
        self.policy
    }

    /// How long it keeps, if that was given.
    #[must_use]
    pub fn chosen_expiry(&self) -> Option<Duration> {
        self.expires_after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_function_of_the_key_and_reads_what_it_writes() {
        let id = DeliveryId::of_key("cli/hello");
        assert_eq!(id, DeliveryId::of_key("cli/hello"));
        assert_ne!(id, DeliveryId::of_key("cli/hell"));
        assert_eq!(id.to_string().len(), 32);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("+0000000000000000000000000000000".parse::<DeliveryId>().is_err());
    }
}
