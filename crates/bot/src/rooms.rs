//! Rooms as a bot sees them, how to choose among them, and how to look them up. Choosing is pure;
//! looking up reads the last committed snapshot and never asks the server.

use std::sync::Arc;

use async_trait::async_trait;
use imbabot_core::{RoomId, RoomKind, SiteUserId, Timestamp, UserId, UserStatus};
use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use crate::bot::Result;
use crate::foreign::{ForeignMarkup, ForeignText};
use crate::name::WidgetName;

/// A room as a bot sees it. What people named it is [`ForeignText`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Room {
    /// Its number, for [`Context::send`](crate::Context::send).
    pub id: RoomId,
    /// Its name; safe to post as `{name}`.
    pub name: ForeignText,
    /// What kind of room it is.
    pub kind: RoomKind,
    /// Its second key.
    pub pipe: ForeignText,
    /// Its administrator, in ImbaChat's numbering.
    pub admin_id: Option<UserId>,
    /// Whether people may join by themselves.
    pub is_public: bool,
    /// ImbaChat's status of the room.
    pub status: i64,
    /// When it was opened.
    pub created_at: Option<Timestamp>,
    /// When its row last changed. Not an activity clock: it is not shown to move with messages.
    pub updated_at: Option<Timestamp>,
}

impl Room {
    /// The bot's view of a listed room, with foreign text to be shown as `markup` says.
    #[must_use]
    pub fn of(room: &imbabot_core::Room, markup: ForeignMarkup) -> Self {
        Self {
            id: room.id,
            name: ForeignText::new(&*room.name, markup),
            kind: room.kind,
            pipe: ForeignText::new(&*room.pipe, markup),
            admin_id: room.admin_id,
            is_public: room.is_public,
            status: room.status,
            created_at: room.created_at,
            updated_at: room.updated_at,
        }
    }
}

impl From<&Room> for RoomId {
    fn from(room: &Room) -> Self {
        room.id
    }
}

/// A user as a bot sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct User {
    /// ImbaChat's number.
    pub id: UserId,
    /// The site's id of the same person.
    pub site_user_id: Option<SiteUserId>,
    /// The login in the chat, where there is one.
    pub login: Option<ForeignText>,
    /// What the user may do.
    pub status: UserStatus,
    /// When the row was made.
    pub created_at: Option<Timestamp>,
    /// When the row last changed.
    pub updated_at: Option<Timestamp>,
}

impl User {
    /// The bot's view of a listed user, with foreign text to be shown as `markup` says.
    #[must_use]
    pub fn of(user: &imbabot_core::User, markup: ForeignMarkup) -> Self {
        Self {
            id: user.id,
            site_user_id: user.site_user_id.clone(),
            login: user.login.as_ref().map(|login| ForeignText::new(&**login, markup)),
            status: user.status.clone(),
            created_at: user.created_at,
            updated_at: user.updated_at,
        }
    }
}

/// Which rooms: `{ ids = [1536], name = "^Team", kind = "conference", public = true }`, joined by
/// AND, or `{ all = true }`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "SelectorFields", into = "SelectorFields")]
pub struct RoomSelector(Arc<Conditions>);

#[derive(Debug, Default, PartialEq)]
struct Conditions {
    fields: SelectorFields,
    name: Option<NamePattern>,
}

impl Conditions {
    fn of(fields: SelectorFields) -> Arc<Self> {
        Arc::new(Self { fields, name: None })
    }
}

#[derive(Debug, Clone)]
struct NamePattern(Arc<Regex>);

impl PartialEq for NamePattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SelectorFields {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ids: Option<Vec<RoomId>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kind: Option<RoomKind>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    public: Option<bool>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    all: bool,
}

impl TryFrom<SelectorFields> for RoomSelector {
    type Error = String;
    fn try_from(mut fields: SelectorFields) -> Result<Self, String> {
        let conditions = fields.ids.is_some()
            || fields.name.is_some()
            || fields.kind.is_some()
            || fields.public.is_some();
        if conditions && fields.all {
            return Err("`all` goes with no other condition".into());
        }
        if !conditions && !fields.all {
            return Err(
                "at least one condition is needed: ids, name, kind, public, or all = true".into()
            );
        }
        let name = match &fields.name {
            Some(pattern) => Some(NamePattern(Arc::new(compile(pattern)?))),
            None => None,
        };
        if let Some(ids) = &mut fields.ids {
            if ids.is_empty() {
                return Err("`ids` is empty: no room would ever be chosen".into());
            }
            ids.sort_unstable();
            ids.dedup();
        }
        Ok(Self(Arc::new(Conditions { fields, name })))
    }
}

impl From<RoomSelector> for SelectorFields {
    fn from(selector: RoomSelector) -> Self {
        selector.0.fields.clone()
    }
}

fn compile(pattern: &str) -> Result<Regex, String> {
    // A megabyte of compiled pattern is far more than a name needs, and bounds a hostile file.
    RegexBuilder::new(pattern).size_limit(1 << 20).build().map_err(|error| match error {
        regex::Error::Syntax(text) => {
            let last = text.lines().last().unwrap_or_default().trim();
            format!(
                "{pattern:?} is not a regular expression: {}",
                last.trim_start_matches("error: ")
            )
        }
        _ => format!(
            "the regular expression {:?} is too large",
            pattern.chars().take(60).collect::<String>()
        ),
    })
}

impl RoomSelector {
    /// Every room.
    #[must_use]
    pub fn all() -> Self {
        Self(Conditions::of(SelectorFields { all: true, ..SelectorFields::default() }))
    }

    /// Rooms of one kind.
    #[must_use]
    pub fn of_kind(kind: RoomKind) -> Self {
        Self(Conditions::of(SelectorFields { kind: Some(kind), ..SelectorFields::default() }))
    }

    /// These rooms and no others.
    #[must_use]
    pub fn ids(ids: impl IntoIterator<Item = RoomId>) -> Self {
        let mut ids: Vec<RoomId> = ids.into_iter().collect();
        ids.sort_unstable();
        ids.dedup();
        Self(Conditions::of(SelectorFields { ids: Some(ids), ..SelectorFields::default() }))
    }

    /// Rooms whose name matches a regular expression (anywhere in it, unless anchored).
    ///
    /// # Errors
    /// The pattern is no regular expression or compiles to more than a megabyte.
    pub fn named(pattern: &str) -> Result<Self> {
        let fields = SelectorFields { name: Some(pattern.into()), ..SelectorFields::default() };
        Self::try_from(fields).map_err(anyhow::Error::msg)
    }

    /// Whether the room is chosen. A room with `deleted_at` never is.
    #[must_use]
    pub fn matches(&self, room: &imbabot_core::Room) -> bool {
        room.deleted_at.is_none() && self.chooses(room.id, &room.name, room.kind, room.is_public)
    }

    /// Whether the room is chosen, of which a bot was told.
    #[must_use]
    pub fn includes(&self, room: &Room) -> bool {
        self.chooses(room.id, room.name.raw(), room.kind, room.is_public)
    }

    fn chooses(&self, id: RoomId, name: &str, kind: RoomKind, is_public: bool) -> bool {
        let fields = &self.0.fields;
        fields.ids.as_ref().is_none_or(|ids| ids.binary_search(&id).is_ok())
            && fields.kind.is_none_or(|wanted| wanted == kind)
            && fields.public.is_none_or(|wanted| wanted == is_public)
            && self.0.name.as_ref().is_none_or(|pattern| pattern.0.is_match(name))
    }

    /// The rooms by number, if numbers are the only condition: such a selection needs no snapshot.
    #[must_use]
    pub fn only_ids(&self) -> Option<&[RoomId]> {
        let fields = &self.0.fields;
        match &fields.ids {
            Some(ids)
                if fields.name.is_none() && fields.kind.is_none() && fields.public.is_none() =>
            {
                Some(ids)
            }
            _ => None,
        }
    }
}

/// Where a handler looks rooms up: the last committed snapshot. The engine implements it, so that
/// a million rooms are not held decoded; a lookup costs one indexed read, [`rooms`] one pass over
/// the widget's rooms.
///
/// [`rooms`]: RoomDirectory::rooms
#[async_trait]
pub trait RoomDirectory: Send + Sync {
    /// One room, if the last snapshot has it.
    async fn room(&self, widget: &WidgetName, id: RoomId) -> Result<Option<imbabot_core::Room>>;

    /// All rooms that the selector chooses, by ascending number.
    async fn rooms(
        &self,
        widget: &WidgetName,
        selector: &RoomSelector,
    ) -> Result<Vec<imbabot_core::Room>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(json: &str) -> Result<RoomSelector, String> {
        serde_json::from_str(json).map_err(|e| e.to_string())
    }

    #[test]
    fn conditions_are_joined_by_and() {
        let team = selector(r#"{"name": "^Team", "kind": "conference", "public": false}"#).unwrap();
        let mut room = imbabot_core::Room::new(RoomId(7), "Team 7");
        assert!(team.matches(&room));
        room.is_public = true;
        assert!(!team.matches(&room));
        room.is_public = false;
        room.deleted_at = Some(Timestamp::EPOCH);
        assert!(!team.matches(&room));
    }

    #[test]
    fn a_selector_without_a_condition_is_refused() {
        assert!(selector("{}").unwrap_err().contains("at least one condition"));
        assert!(
            selector(r#"{"all": true, "ids": [1]}"#).unwrap_err().contains("no other condition")
        );
        assert!(selector(r#"{"nmae": "x"}"#).unwrap_err().contains("unknown field"));
        assert!(selector(r#"{"name": "("}"#).unwrap_err().contains("unclosed group"));
        assert!(selector(r#"{"name": "\\w{100}{100}{100}"}"#).unwrap_err().contains("too large"));
    }

    #[test]
    fn ids_alone_need_no_snapshot() {
        let ids = selector(r#"{"ids": [9, 3, 9]}"#).unwrap();
        assert_eq!(ids.only_ids(), Some(&[RoomId(3), RoomId(9)][..]));
        assert_eq!(selector(r#"{"ids": [9], "public": true}"#).unwrap().only_ids(), None);
        assert_eq!(RoomSelector::all().only_ids(), None);
    }
}
