//! `rooms` and `users`: the lists as the server has them now.

use imbabot_core::{GetRooms, GetUsers, Room, User};
use regex::Regex;
use serde_json::{Value, json};

use super::args::{ListFilter, Rooms, Users};
use super::{Command, Result};
use crate::config::{Config, RoomsAuth, Widget};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::setup;

pub(crate) async fn rooms(command: &Command, options: Rooms) -> Result {
    let loaded = command.loaded()?;
    let name = pattern(&options.filter)?;
    let mut found: Vec<(String, Room)> = Vec::new();
    for widget in widgets(&loaded.config, &options.filter)? {
        let mut request = GetRooms::new();
        request.room_type = options.kind;
        request.extra.clone_from(&options.filter.server_filter);
        if widget.rooms_auth == RoomsAuth::Jwt {
            let expires = super::clock().now() + std::time::Duration::from_secs(900);
            request.auth = imbabot_core::RoomsAuth::Jwt { user: widget.sender.clone(), expires };
        }
        let list = setup::api(&loaded.config, widget)?.rooms(&request).await?;
        told_bad_rows(list.quarantined.len());
        found.extend(list.items.into_iter().map(|room| (widget.name.to_string(), room)));
    }
    found.retain(|(_, room)| {
        name.as_ref().is_none_or(|name| name.is_match(&room.name))
            && since(&options.filter, room.updated_at)
    });
    found.truncate(options.filter.limit.unwrap_or(usize::MAX));
    let value: Value = found
        .iter()
        .map(|(widget, room)| {
            json!({
                "widget": widget, "id": room.id, "name": room.name, "kind": room.kind,
                "admin_id": room.admin_id, "is_public": room.is_public, "status": room.status,
                "pipe": room.pipe, "created_at": room.created_at, "updated_at": room.updated_at,
            })
        })
        .collect();
    command.output.data(&value, || {
        let rows = found.iter().map(|(widget, room)| {
            vec![
                widget.clone(),
                room.id.to_string(),
                room.kind.to_string(),
                if room.is_public { "public" } else { "private" }.to_owned(),
                room.updated_at.map(|at| at.compact()).unwrap_or_default(),
                output::foreign(&room.name),
            ]
        });
        output::table(&["WIDGET", "ID", "KIND", "ACCESS", "UPDATED", "NAME"], rows)
    });
    Ok(Exit::Ok)
}

pub(crate) async fn users(command: &Command, options: Users) -> Result {
    let loaded = command.loaded()?;
    let name = pattern(&options.filter)?;
    let mut found: Vec<(String, User)> = Vec::new();
    for widget in widgets(&loaded.config, &options.filter)? {
        let mut request = GetUsers::new();
        request.extra.clone_from(&options.filter.server_filter);
        let list = setup::api(&loaded.config, widget)?.users(&request).await?;
        told_bad_rows(list.quarantined.len());
        found.extend(list.items.into_iter().map(|user| (widget.name.to_string(), user)));
    }
    found.retain(|(_, user)| {
        let login = user.login.as_deref().unwrap_or_default();
        name.as_ref().is_none_or(|name| name.is_match(login))
            && since(&options.filter, user.updated_at)
    });
    found.truncate(options.filter.limit.unwrap_or(usize::MAX));
    let value: Value = found
        .iter()
        .map(|(widget, user)| {
            json!({
                "widget": widget, "id": user.id, "site_user_id": user.site_user_id,
                "login": user.login, "status": user.status, "avatar_url": user.avatar_url,
                "created_at": user.created_at, "updated_at": user.updated_at,
            })
        })
        .collect();
    command.output.data(&value, || {
        let rows = found.iter().map(|(widget, user)| {
            vec![
                widget.clone(),
                user.id.to_string(),
                user.site_user_id
                    .as_ref()
                    .map(|id| output::foreign(id.as_str()))
                    .unwrap_or_default(),
                output::foreign(&user.status.to_string()),
                user.updated_at.map(|at| at.compact()).unwrap_or_default(),
                output::foreign(user.login.as_deref().unwrap_or("-")),
            ]
        });
        output::table(&["WIDGET", "ID", "SITE USER", "STATUS", "UPDATED", "LOGIN"], rows)
    });
    Ok(Exit::Ok)
}

fn told_bad_rows(count: usize) {
    if count > 0 {
        tracing::warn!(code = "IMB-P-ROWS", rows = count, "rows that cannot be read were left out");
    }
}

fn widgets<'a>(config: &'a Config, filter: &ListFilter) -> Result<Vec<&'a Widget>> {
    match &filter.widget {
        None => Ok(config.widgets.iter().collect()),
        Some(name) => match config.widget(name) {
            Some(widget) => Ok(vec![widget]),
            None => Err(Failure::bad_input(format!("there is no widget {name}"))),
        },
    }
}

fn pattern(filter: &ListFilter) -> Result<Option<Regex>> {
    filter
        .name
        .as_deref()
        .map(Regex::new)
        .transpose()
        .map_err(|_| Failure::bad_input("--name is not a regular expression"))
}

fn since(filter: &ListFilter, changed: Option<imbabot_core::Timestamp>) -> bool {
    filter.changed_since.is_none_or(|since| changed.is_some_and(|changed| changed >= since))
}
