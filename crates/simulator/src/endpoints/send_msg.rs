//! `send_msg`: posts a message into a room. The only endpoint that changes anything.

use crate::fault::{EchoChange, Tweaks};
use crate::form::php_empty;
use crate::json::{Dialect, write_to};
use crate::message::Message;
use crate::simulator::State;
use crate::user::User;

use super::{Asked, Reply};

pub(super) fn answer(state: &mut State, asked: &Asked<'_>, tweaks: &Tweaks) -> Reply {
    // `imba_id` counts as given by the path; `password` is documented as required, yet the
    // vendor's own sample succeeds without it.
    let form = asked.form;
    let Some(user_id) = form.non_empty("user_id") else { return Reply::missing(state, "user_id") };
    let Some(room_id) = form.non_empty("room_id") else { return Reply::missing(state, "room_id") };
    let Some(text) = form.text("message").filter(|text| !php_empty(text)) else {
        return Reply::missing(state, "message");
    };
    let Ok(room_id) = room_id.parse::<i64>() else {
        return Reply::error(state, 422, "The parameter room_id must be an integer!");
    };
    if state.rooms.get(&room_id).is_none_or(|room| room.deleted_at.is_some()) {
        return Reply::error(state, 404, "Room not found!");
    }
    if state.options.known_users_only && state.user_of_site(user_id).is_none() {
        return Reply::error(state, 422, "User not found!");
    }
    let author = state.user_or_join(user_id, asked.now_micros);
    if author.banned {
        return Reply::error(state, 403, "User is banned!");
    }
    let delivery = asked.request.header("x-imbabot-delivery");
    let previous = state.last_message.clone();
    let message = state.draft_message(room_id, &author, text, delivery, asked.now_micros);
    let body = body(state.dialect(), &message, &author, tweaks, previous);
    let applied = (!tweaks.phantom).then(|| {
        let stored = (message.id, message.uuid.clone());
        state.store_message(message);
        stored
    });
    Reply { applied, ..Reply::ok(body) }
}

fn body(
    dialect: Dialect,
    message: &Message,
    author: &User,
    tweaks: &Tweaks,
    previous: Option<(i64, String)>,
) -> String {
    let success = tweaks.success.as_deref().unwrap_or("true");
    let mut out = format!(r#"{{"success":{success},"message":{{"#);
    let (previous_id, previous_uuid) = previous.unzip();
    if !tweaks.no_id {
        let id = previous_id.filter(|_| tweaks.repeat_id).unwrap_or(message.id);
        write_to(&mut out, format_args!(r#""id":{id},"#));
    }
    let uuid = previous_uuid.filter(|_| tweaks.repeat_uuid).unwrap_or(message.uuid.clone());
    let echo = tweaks.echo.as_ref().map(|change| change.apply(&message.text));
    write_to(
        &mut out,
        format_args!(
            r#""uuid":{},"message":{},"time":"{}","answer_to":0,"liked":"0","user_id":{},"room_id":"{}","meta":[]}},"user":"#,
            dialect.quoted(&uuid),
            dialect.quoted(echo.as_deref().unwrap_or(&message.text)),
            message.time,
            message.user_id,
            tweaks.room.unwrap_or(message.room),
        ),
    );
    author_json(&mut out, dialect, author);
    out.push_str(r#","relation":0}"#);
    out
}

/// The author as the site describes it, once flat and once among its profiles. The picture is
/// `false` even where `get_users` knows one, as in the vendor's samples.
fn author_json(out: &mut String, dialect: Dialect, author: &User) {
    let name = dialect.quoted(&author.name);
    let chat_role = dialect.quoted(&author.status);
    let mail = dialect.quoted(&format!("{}@example.com", author.name.replace(' ', ".")));
    let profile_key = dialect.quoted(&author.site_user_id);
    // A number where it is one, although get_users quotes it.
    let site_user_id = match author.site_user_id.parse::<i64>() {
        Ok(number) => number.to_string(),
        Err(_) => profile_key.clone(),
    };
    let id = author.id;
    write_to(
        out,
        format_args!(
            r#"{{"name":{name},"user_id":"{id}","user_mail":{mail},"chat_role":{chat_role},"status":0,"avatar_url":false,"profile_url":false,"profiles":{{{profile_key}:{{"profile_id":{site_user_id},"name":{name},"chat_role":{chat_role},"avatar_url":false,"profile_url":false,"user_id":"{id}","status":0,"lastlogin":-1,"remote_user_id":{site_user_id}}}}},"lastlogin":-1,"remote_user_id":{site_user_id}}}"#,
        ),
    );
}

impl EchoChange {
    fn apply(&self, text: &str) -> String {
        match self {
            // PHP's htmlspecialchars().
            Self::Escaped => text
                .replace('&', "&amp;")
                .replace('<', "&lt;")
                .replace('>', "&gt;")
                .replace('"', "&quot;")
                .replace('\'', "&#039;"),
            Self::Trimmed => text.trim().to_owned(),
            Self::Altered(other) => other.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::{answer, ask, body, request, send, simulator};

    #[test]
    fn the_vendors_sample_is_answered_byte_for_byte_but_for_the_chance_part_of_the_uuid() {
        let simulator = simulator();
        simulator.load_vendor_sample();
        let replied = body(&answer(simulator.handle(&send(1536, "api message"))));
        let uuid = &simulator.messages(1536)[0].uuid;
        let profile = concat!(
            r#"{"profile_id":1,"name":"spray","chat_role":"admin","avatar_url":false,"#,
            r#""profile_url":false,"user_id":"2046","status":0,"lastlogin":-1,"remote_user_id":1}"#,
        );
        let expected = format!(
            r#"{{"success":true,"message":{{"id":4543,"uuid":"{uuid}","message":"api message","time":"1608275827","answer_to":0,"liked":"0","user_id":2046,"room_id":"1536","meta":[]}},"user":{{"name":"spray","user_id":"2046","user_mail":"spray@example.com","chat_role":"admin","status":0,"avatar_url":false,"profile_url":false,"profiles":{{"1":{profile}}},"lastlogin":-1,"remote_user_id":1}},"relation":0}}"#,
        );
        assert_eq!(replied, expected);
        assert!(uuid.starts_with("1536-1608275827-"));
    }

    #[test]
    fn a_missing_or_empty_parameter_is_422_and_names_itself() {
        let simulator = simulator();
        let room = simulator.open_room("Team 1").to_string();
        let full = [("user_id", "1"), ("room_id", room.as_str()), ("message", "hello")];
        for missing in 0..3 {
            for empty in [None, Some(""), Some("0")] {
                let mut fields = full.to_vec();
                match empty {
                    None => drop(fields.remove(missing)),
                    Some(empty) => fields[missing].1 = empty,
                }
                let (status, reply) = ask(&simulator, &request("send_msg", &fields));
                let expected =
                    format!("The required parameter {} was not passed!", full[missing].0);
                assert_eq!(status, 422);
                assert_eq!(
                    reply,
                    json!({"code": 422, "version": 1.0, "error": expected, "debug": ""})
                );
            }
        }
        assert!(simulator.all_messages().is_empty());
    }

    #[test]
    fn an_unknown_or_closed_room_is_refused() {
        let simulator = simulator();
        assert_eq!(ask(&simulator, &send(9, "x")).0, 404);
        let room = simulator.open_room("Team 1");
        simulator.close_room(room, false).unwrap();
        assert_eq!(ask(&simulator, &send(room, "x")).0, 404);
    }

    #[test]
    fn an_unknown_sender_joins_unless_only_known_ones_may_speak() {
        let simulator = simulator();
        let room = simulator.open_room("Team 1");
        assert_eq!(ask(&simulator, &send(room, "x")).0, 200);
        assert_eq!(simulator.users()[0].name, "user 1");
        simulator.configure(|options| options.known_users_only = true);
        let stranger = request(
            "send_msg",
            &[("user_id", "2"), ("room_id", &room.to_string()), ("message", "x")],
        );
        assert_eq!(ask(&simulator, &stranger).0, 422);
    }

    #[test]
    fn a_banned_sender_is_403_until_it_may_speak_again() {
        let simulator = simulator();
        let room = simulator.open_room("Team 1");
        simulator.set_banned(1, true);
        let (status, reply) = ask(&simulator, &send(room, "x"));
        assert_eq!((status, &reply["code"]), (403, &json!(403)));
        simulator.set_banned("1", false);
        assert_eq!(ask(&simulator, &send(room, "x")).0, 200);
    }

    #[test]
    fn the_text_is_kept_as_it_came() {
        let simulator = simulator();
        let room = simulator.open_room("Team 1");
        for text in ["\"quoted\"", " padded ", "a\0b", "🎉 é\r\n<b>&amp;", " ", "00"] {
            let (status, reply) = ask(&simulator, &send(room, text));
            assert_eq!((status, &reply["message"]["message"]), (200, &json!(text)));
            assert_eq!(simulator.messages(room).last().unwrap().text, text);
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let run = || {
            let simulator = simulator();
            simulator.populate(5);
            (0..5)
                .map(|n| body(&answer(simulator.handle(&send(1536 + n, "hello")))))
                .collect::<Vec<_>>()
        };
        assert_eq!(run(), run());
    }

    #[test]
    fn the_servers_clock_may_be_wrong() {
        let simulator = simulator();
        simulator.configure(|options| options.clock_offset_micros = 3_600_000_000);
        let room = simulator.open_room("Team 1");
        let answer = answer(simulator.handle(&send(room, "x")));
        assert!(body(&answer).contains(r#""time":"1608279427""#));
        assert!(answer.headers.contains(&("Date".into(), "Fri, 18 Dec 2020 08:17:07 GMT".into())));
    }
}
