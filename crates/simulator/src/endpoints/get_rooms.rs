//! `get_rooms`: every room that was ever opened, members and messages left out. Changes nothing.

use std::collections::HashSet;

use crate::date;
use crate::fault::Tweaks;
use crate::form::Form;
use crate::json::write_to;
use crate::room::Room;
use crate::simulator::State;

use super::Reply;
use super::list::List;

pub(super) fn answer(state: &State, form: &Form, tweaks: &Tweaks) -> Reply {
    let filter = Filter::of(form, state.options.honour_filters);
    let mut list = List::new(form, tweaks);
    for room in state.rooms.values() {
        if !room.vanished && filter.admits(state, room) {
            list.push(row(state, room, tweaks));
        }
    }
    Reply::ok(list.reply())
}

fn row(state: &State, room: &Room, tweaks: &Tweaks) -> String {
    let dialect = state.dialect();
    let mut row = String::with_capacity(320);
    write_to(&mut row, format_args!(r#"{{"id":{},"pipe":"#, room.id));
    dialect.string(&mut row, &room.pipe);
    row.push_str(r#","name":"#);
    dialect.string(&mut row, &room.name);
    let deleted_at =
        room.deleted_at.map_or("null".to_owned(), |at| format!("\"{}\"", date::sql(at)));
    write_to(
        &mut row,
        format_args!(
            r#","admin_id":{},"type":{},"tab":0,"is_public":{},"created_at":"{}","updated_at":"{}","deleted_at":{},"status":{},"imba_id":{}}}"#,
            room.admin_id,
            room.kind,
            i64::from(room.is_public),
            date::sql(room.created_at),
            date::sql(room.updated_at),
            deleted_at,
            room.status,
            tweaks.imba_id.or(state.options.listed_imba_id).unwrap_or(state.options.widget),
        ),
    );
    row
}

/// The documented filters. Those that are ignored are `None`.
struct Filter {
    kind: Option<i64>,
    status: Option<i64>,
    count_users: Option<usize>,
    last_message_since: Option<i64>,
    banned: Option<bool>,
}

impl Filter {
    fn of(form: &Form, honoured: bool) -> Self {
        // The vendor's sample asks for type 0 and gets 3 and 0: PHP takes "0" for "not given".
        let kind = if honoured { form.value("room_type") } else { form.non_empty("room_type") };
        let value = |name| form.value(name).filter(|_| honoured);
        Self {
            kind: kind.and_then(|kind| kind.parse().ok()),
            status: value("status").and_then(|status| status.parse().ok()),
            count_users: value("count_users").and_then(|count| count.parse().ok()),
            last_message_since: value("last_message_date").and_then(date::parse_sql),
            banned: value("banned").map(|banned| !crate::form::php_empty(banned)),
        }
    }

    fn admits(&self, state: &State, room: &Room) -> bool {
        self.kind.is_none_or(|kind| room.kind == kind)
            && self.status.is_none_or(|status| room.status == status)
            && self.count_users.is_none_or(|count| authors(state, room) == count)
            && self.last_message_since.is_none_or(|since| {
                state.messages.get(&room.id).and_then(|posted| posted.last()).is_some_and(|last| {
                    last.time >= since
                })
            })
            // No room is banned here.
            && self.banned != Some(true)
    }
}

/// Membership is not modelled: whoever posted counts.
fn authors(state: &State, room: &Room) -> usize {
    let posted = state.messages.get(&room.id).map(Vec::as_slice).unwrap_or_default();
    posted.iter().map(|message| message.user_id).collect::<HashSet<_>>().len()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::auth::jwt::sign;
    use crate::room::{CONFERENCE, DIALOGUE, RoomSeed, SUPPORT};
    use crate::testing::{START, answer, ask, body, request, simulator};

    fn ids(reply: &Value) -> Vec<i64> {
        reply["data"].as_array().unwrap().iter().map(|row| row["id"].as_i64().unwrap()).collect()
    }

    #[test]
    fn a_room_is_listed_byte_for_byte_in_the_vendors_order() {
        let simulator = simulator();
        simulator.load_vendor_sample();
        let listed = body(&answer(simulator.handle(&request("get_rooms", &[]))));
        let support = concat!(
            r#"{"id":1853,"pipe":"5fde659f0ba18_1608410527","name":"Technical support","#,
            r#""admin_id":2157,"type":3,"tab":0,"is_public":0,"#,
            r#""created_at":"2020-12-19 20:42:07","updated_at":"2020-12-19 20:42:07","#,
            r#""deleted_at":null,"status":0,"imba_id":627}"#,
        );
        assert!(listed.starts_with(r#"{"success":"true","data":[{"id":1314,"#), "{listed}");
        assert!(listed.ends_with(&format!(r#"{support}],"code":200}}"#)), "{listed}");
    }

    #[test]
    fn type_zero_is_ignored_and_type_one_is_not() {
        let simulator = simulator();
        for kind in [DIALOGUE, CONFERENCE, SUPPORT] {
            simulator.open_room_with(RoomSeed { kind, ..RoomSeed::default() });
        }
        let listed = |kind| ids(&ask(&simulator, &request("get_rooms", &[("room_type", kind)])).1);
        assert_eq!(listed("0"), [1536, 1537, 1538]);
        assert_eq!(listed("1"), [1537]);
        simulator.configure(|options| options.honour_filters = true);
        assert_eq!(ids(&ask(&simulator, &request("get_rooms", &[("room_type", "0")])).1), [1536]);
    }

    #[test]
    fn honoured_filters_look_at_messages_too() {
        let simulator = simulator();
        simulator.configure(|options| options.honour_filters = true);
        let (busy, _quiet) = (simulator.open_room("busy"), simulator.open_room("quiet"));
        simulator.post(busy, 1, "one").unwrap();
        simulator.post(busy, 2, "two").unwrap();
        let listed = |name, value| ids(&ask(&simulator, &request("get_rooms", &[(name, value)])).1);
        assert_eq!(listed("count_users", "2"), [busy]);
        assert_eq!(listed("last_message_date", "2020-12-18"), [busy]);
        assert_eq!(listed("last_message_date", "2020-12-19"), [0_i64; 0]);
        assert_eq!(listed("banned", "1"), [0_i64; 0]);
    }

    #[test]
    fn a_closed_room_is_listed_with_its_end_unless_it_vanished() {
        let simulator = simulator();
        let (closed, vanished) = (simulator.open_room("a"), simulator.open_room("b"));
        simulator.close_room(closed, false).unwrap();
        simulator.close_room(vanished, true).unwrap();
        let reply = ask(&simulator, &request("get_rooms", &[])).1;
        assert_eq!(ids(&reply), [closed]);
        assert_eq!(reply["data"][0]["deleted_at"], json!("2020-12-18 07:17:07"));
    }

    #[test]
    fn a_good_token_opens_the_rooms_but_not_the_users() {
        let simulator = simulator();
        let claims = format!(r#"{{"exp":{},"user_id":1}}"#, START + 60);
        let token = sign(r#"{"typ":"JWT","alg":"HS256"}"#, &claims, "simulator-secret");
        for (endpoint, expected) in [("get_rooms", 200), ("get_users", 401), ("send_msg", 401)] {
            let mut request = request(endpoint, &[]);
            request.headers[0] = ("JWT".to_owned(), token.clone());
            assert_eq!(ask(&simulator, &request).0, expected, "{endpoint}");
        }
    }

    #[test]
    fn rows_can_claim_another_widget() {
        let simulator = simulator();
        simulator.open_room("a");
        simulator.configure(|options| options.listed_imba_id = Some(1));
        let reply = ask(&simulator, &request("get_rooms", &[])).1;
        assert_eq!(reply["data"][0]["imba_id"], json!(1));
    }
}
