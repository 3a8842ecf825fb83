//! What `rehearse` prints: room by room, in the order of widgets' names and rooms' numbers, each from
//! its beginning to its end. The same history gives the same bytes.

use std::collections::BTreeMap;

use imbabot_bot::WidgetName;
use imbabot_core::RoomId;
use imbabot_store::{DeliveryState, OccurrenceOutcome};
use imbabot_testing::transcript::{Deed, Entry, What};
use imbabot_testing::{Rehearsed, Wanted};
use serde_json::{Value, json};

use super::rooms::Sites;
use crate::output;

/// A rehearsal and how it came about.
pub(super) struct Told<'a> {
    pub(super) wanted: Wanted,
    /// Nobody said from when on.
    pub(super) from_now: bool,
    pub(super) widgets: Vec<WidgetName>,
    pub(super) sites: &'a Sites,
    pub(super) rehearsed: &'a Rehearsed,
}

type Place<'a> = (&'a WidgetName, RoomId);

/// How it ended, in numbers.
#[derive(Default)]
struct Totals {
    fired: usize,
    skipped: usize,
    missed: usize,
    delivered: usize,
    unknown: usize,
    dead: usize,
}

impl Told<'_> {
    fn by_room(&self) -> (BTreeMap<Place<'_>, Vec<&Entry>>, Vec<&Entry>) {
        let mut rooms: BTreeMap<Place<'_>, Vec<&Entry>> = BTreeMap::new();
        let mut elsewhere = Vec::new();
        for entry in self.rehearsed.transcript.entries() {
            match (&entry.widget, entry.room) {
                (Some(widget), Some(room)) => rooms.entry((widget, room)).or_default().push(entry),
                _ => elsewhere.push(entry),
            }
        }
        (rooms, elsewhere)
    }

    fn name_of(&self, (widget, room): Place<'_>) -> Option<&str> {
        let place = (widget.clone(), room);
        self.rehearsed.names.get(&place).map(String::as_str)
    }

    fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for occurrence in &self.rehearsed.occurrences {
            match occurrence.outcome {
                OccurrenceOutcome::Fired => totals.fired += 1,
                OccurrenceOutcome::Skipped => totals.skipped += 1,
                OccurrenceOutcome::Missed => totals.missed += 1,
            }
        }
        let mut ends = BTreeMap::new();
        for entry in self.rehearsed.transcript.entries() {
            if let What::Message(message) = &entry.what {
                ends.insert(message.delivery.to_string(), message.state);
            }
        }
        for state in ends.into_values() {
            match state {
                DeliveryState::Delivered => totals.delivered += 1,
                DeliveryState::Dead => totals.dead += 1,
                DeliveryState::Unknown => totals.unknown += 1,
                DeliveryState::Queued | DeliveryState::Sending => {}
            }
        }
        totals
    }

    pub(super) fn text(&self) -> String {
        let Wanted { from, until, seed } = self.wanted;
        let mut lines = vec![format!(
            "Rehearsal from {} to {}; nothing of it reaches a real room.",
            from.compact(),
            until.compact()
        )];
        if self.from_now {
            lines.push("It begins now, since --from was not given.".into());
        }
        lines.push(match seed {
            Some(seed) => format!("People come and go as seed {seed} has it."),
            None => "Nobody but the bots does anything; with --seed N people come and go.".into(),
        });
        for widget in &self.widgets {
            let (origin, count) = self.sites.origin_of(widget);
            let origin = match origin {
                "file" => "from the file",
                "store" => "by the last list in the store",
                _ => "made up",
            };
            lines.push(format!("{widget}: {count} rooms, {origin}"));
        }
        lines.extend(self.sites.notes.iter().map(|note| format!("note: {note}")));
        let (rooms, elsewhere) = self.by_room();
        for (place, entries) in rooms {
            let (widget, room) = place;
            let name = self.name_of(place).map(|name| format!(" \"{}\"", output::foreign(name)));
            lines.push(format!("\n{widget}, room {room}{}", name.unwrap_or_default()));
            lines.extend(entries.into_iter().map(|entry| line(entry, false)));
        }
        if !elsewhere.is_empty() {
            lines.push("\nin no room".into());
            lines.extend(elsewhere.into_iter().map(|entry| line(entry, true)));
        }
        let Totals { fired, skipped, missed, delivered, unknown, dead } = self.totals();
        let waiting = self.rehearsed.waiting.len();
        lines.push(format!(
            "\n{fired} occurrences fired, {skipped} skipped, {missed} missed; {delivered} messages \
             posted, {dead} dead, {unknown} unknown, {waiting} still to come"
        ));
        if !self.rehearsed.failures.is_empty() {
            let count = self.rehearsed.failures.len();
            lines.push(format!("{count} tries of bots FAILED"));
        }
        lines.join("\n")
    }

    pub(super) fn json(&self) -> Value {
        let Wanted { from, until, seed } = self.wanted;
        let (rooms, elsewhere) = self.by_room();
        let rooms: Vec<Value> = rooms
            .into_iter()
            .map(|(place, entries)| {
                let (widget, room) = place;
                let entries: Vec<Value> = entries.into_iter().map(object).collect();
                let name = self.name_of(place);
                json!({ "widget": widget, "room": room, "name": name, "entries": entries })
            })
            .collect();
        let lists: Vec<Value> = self
            .widgets
            .iter()
            .map(|widget| {
                let (origin, count) = self.sites.origin_of(widget);
                json!({ "widget": widget, "rooms": count, "from": origin })
            })
            .collect();
        let occurrences: Vec<Value> = self
            .rehearsed
            .occurrences
            .iter()
            .map(|one| {
                json!({
                    "occurrence": one.id,
                    "schedule": one.schedule,
                    "at": one.nominal_at,
                    "outcome": one.outcome,
                    "reason": one.reason,
                    "deliveries": one.deliveries,
                })
            })
            .collect();
        let waiting: Vec<Value> = self
            .rehearsed
            .waiting
            .iter()
            .map(|one| {
                json!({
                    "widget": one.widget,
                    "room": one.room,
                    "delivery": one.id,
                    "text": one.text,
                    "not_before": one.not_before,
                })
            })
            .collect();
        let Totals { fired, skipped, missed, delivered, unknown, dead } = self.totals();
        json!({
            "from": from,
            "until": until,
            "seed": seed,
            "lists": lists,
            "notes": self.sites.notes,
            "rooms": rooms,
            "elsewhere": elsewhere.into_iter().map(object).collect::<Vec<_>>(),
            "occurrences": occurrences,
            "waiting": waiting,
            "failures": self.rehearsed.failures,
            "totals": {
                "fired": fired,
                "skipped": skipped,
                "missed": missed,
                "delivered": delivered,
                "dead": dead,
                "unknown": unknown,
                "waiting": waiting.len(),
            },
        })
    }
}

fn line(entry: &Entry, with_widget: bool) -> String {
    let widget = entry.widget.as_ref().filter(|_| with_widget);
    let widget = widget.map(|widget| format!("{widget}: ")).unwrap_or_default();
    format!("  {}  {widget}{}", entry.at.compact(), entry.words(false))
}

fn object(entry: &Entry) -> Value {
    let mut object = match &entry.what {
        What::Message(message) => json!({
            "kind": "message",
            "from": message.from,
            "delivery": message.delivery,
            "occurrence": message.occurrence,
            "event": message.event,
            "text": message.text,
            "state": message.state,
            "reason": message.reason,
            "recorded_at": message.recorded_at,
            "not_before": message.not_before,
        }),
        What::Told { bot, event, what, failed } => {
            json!({ "kind": "told", "bot": bot, "event": event, "what": what, "failed": failed })
        }
        What::Poisoned { bot, event } => json!({ "kind": "poisoned", "bot": bot, "event": event }),
        What::LeftOut { schedule, from, count, outcome, reason } => json!({
            "kind": "left_out",
            "schedule": schedule,
            "first": from,
            "count": count,
            "outcome": outcome,
            "reason": reason,
        }),
        What::People { who, did } => {
            let (did, detail) = deed(did);
            json!({ "kind": "people", "who": who, "did": did, "detail": detail })
        }
        _ => json!({ "kind": "other", "what": entry.words(true) }),
    };
    if let Some(fields) = object.as_object_mut() {
        fields.insert("at".into(), json!(entry.at));
        if entry.room.is_none() {
            fields.insert("widget".into(), json!(entry.widget));
        }
    }
    object
}

fn deed(did: &Deed) -> (&'static str, Option<String>) {
    match did {
        Deed::Opens(kind) => ("opens", kind.clone()),
        Deed::Renames(from) => ("renames", Some(from.clone())),
        Deed::Closes => ("closes", None),
        Deed::Restores => ("opens again", None),
        Deed::Changes(what, to) => ("changes", Some(format!("{what}: {to}"))),
        Deed::Touches => ("touches", None),
        Deed::Posts(text) => ("posts", Some(text.clone())),
        Deed::Joins => ("joins", None),
        _ => ("does something", None),
    }
}
