//! The instances that share the store, on the page of each of them. Nothing where there is one alone.

use imbabot_core::Timestamp;

use super::{NAME, Table, coloured, moment, section, text};
use crate::status::instances::Instance;
use crate::status::phrases::short;
use crate::status::seen::Seen;

pub(super) fn instances(seen: &Seen, now: Timestamp) -> String {
    if seen.work.instances.is_empty() {
        return String::new();
    }
    let mut table =
        Table::new(&["Instance", "Name", "State", "#Widgets", "Schedules", "Heartbeat", "Version"]);
    for one in &seen.work.instances {
        let class = match one.state() {
            "alive" => "good",
            "draining" => "warn",
            _ => "bad",
        };
        let state = coloured(class, one.state());
        let Instance { incarnation, name, version, widgets, heartbeat_at, alive_until, .. } = one;
        let is_ours = seen.fleet.as_ref().is_some_and(|fleet| fleet.incarnation == *incarnation);
        let ours = if is_ours { " <small>this one</small>" } else { "" };
        let schedules = if one.schedules { "here" } else { "–" };
        table.row(&[
            format!("{incarnation}{ours}"),
            text(name, NAME),
            state,
            widgets.to_string(),
            schedules.to_owned(),
            moment(now, *heartbeat_at),
            text(version, NAME),
        ]);
        if !one.alive {
            let words = format!(
                "Its lease ended {} ago: what it had goes to others.",
                short(now.since(*alive_until))
            );
            table.note(&text(&words, NAME));
        }
    }
    section("Instances", "", &table.html())
}
