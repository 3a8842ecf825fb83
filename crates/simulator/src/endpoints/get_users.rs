//! `get_users`: every user of the widget, without names. Changes nothing.

use crate::date;
use crate::fault::Tweaks;
use crate::form::{Form, php_empty};
use crate::json::write_to;
use crate::simulator::State;
use crate::user::User;

use super::Reply;
use super::list::List;

pub(super) fn answer(state: &State, form: &Form, tweaks: &Tweaks) -> Reply {
    let mut list = List::new(form, tweaks);
    for user in state.users.values() {
        if admits(state, form, user) {
            list.push(row(state, user, tweaks));
        }
    }
    Reply::ok(list.reply())
}

fn row(state: &State, user: &User, tweaks: &Tweaks) -> String {
    let dialect = state.dialect();
    let deleted_at =
        user.deleted_at.map_or("null".to_owned(), |at| format!("\"{}\"", date::sql(at)));
    let mut row = String::with_capacity(320);
    write_to(
        &mut row,
        format_args!(
            r#"{{"id":{},"deleted_at":{},"created_at":"{}","updated_at":"{}","remote_user_id":{},"user_data":null,"imba_id":{},"login":{},"password":"NULL","status":{},"avatar_url":"#,
            user.id,
            deleted_at,
            date::sql(user.created_at),
            date::sql(user.updated_at),
            dialect.quoted(&user.site_user_id),
            tweaks.imba_id.or(state.options.listed_imba_id).unwrap_or(state.options.widget),
            dialect.quoted(&user.login),
            dialect.quoted(&user.status),
        ),
    );
    match &user.avatar_url {
        Some(url) => dialect.string(&mut row, url),
        None => row.push_str("false"),
    }
    row.push('}');
    row
}

/// `login` and `id` always work. The vendor's sample asks for status `user` and gets an `admin`,
/// so the others work only if the options say so.
fn admits(state: &State, form: &Form, user: &User) -> bool {
    let documented = form.non_empty("id").is_none_or(|id| id == user.id.to_string())
        && form.non_empty("login").is_none_or(|login| login == user.login);
    if !state.options.honour_filters {
        return documented;
    }
    let status = |wanted: &str| match wanted {
        "administrator" => user.status == "admin",
        wanted => user.status == wanted,
    };
    documented
        && form.non_empty("imba_id").is_none_or(|id| id == state.options.widget.to_string())
        && form.non_empty("status").is_none_or(status)
        && form.value("banned").is_none_or(|banned| php_empty(banned) != user.banned)
        && form.value("last_message_date").and_then(date::parse_sql).is_none_or(|since| {
            let mut posted = state.messages.values().flatten();
            posted.any(|message| message.user_id == user.id && message.time >= since)
        })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use crate::testing::{answer, ask, body, request, simulator};

    fn ids(reply: &Value) -> Vec<i64> {
        reply["data"].as_array().unwrap().iter().map(|row| row["id"].as_i64().unwrap()).collect()
    }

    #[test]
    fn the_vendors_sample_user_is_listed_byte_for_byte() {
        let simulator = simulator();
        simulator.load_vendor_sample();
        let asked = request("get_users", &[("imba_id", "627"), ("status", "user")]);
        let expected = concat!(
            r#"{"success":"true","data":[{"id":2046,"deleted_at":null,"#,
            r#""created_at":"2020-11-23 05:26:41","updated_at":"2020-11-24 06:59:54","#,
            r#""remote_user_id":"1","user_data":null,"imba_id":627,"login":"NULL","#,
            r#""password":"NULL","status":"admin","avatar_url":"#,
            r#""https://secure.gravatar.com/avatar/3875115bacc48cca24ac51ee4b0e7975?s=48&d=identicon""#,
            r#"}],"code":200}"#,
        );
        assert_eq!(body(&answer(simulator.handle(&asked))), expected);
    }

    #[test]
    fn the_status_filter_works_only_if_filters_are_honoured() {
        let simulator = simulator();
        let (person, admin) = (simulator.join("a", 1), simulator.join("b", 2));
        simulator.set_user_status(2, "admin");
        let listed = |status| ids(&ask(&simulator, &request("get_users", &[("status", status)])).1);
        assert_eq!(listed("user"), [person, admin]);
        simulator.configure(|options| options.honour_filters = true);
        assert_eq!(listed("user"), [person]);
        assert_eq!(listed("administrator"), [admin]);
    }

    #[test]
    fn users_can_be_asked_for_by_imbachats_id() {
        let simulator = simulator();
        simulator.join("a", 1);
        let second = simulator.join("b", 2);
        let asked = request("get_users", &[("id", &second.to_string())]);
        assert_eq!(ids(&ask(&simulator, &asked).1), [second]);
    }

    #[test]
    fn banned_users_and_recent_authors_are_found_if_filters_are_honoured() {
        let simulator = simulator();
        simulator.configure(|options| options.honour_filters = true);
        let (quiet, author) = (simulator.join("a", 1), simulator.join("b", 2));
        simulator.set_banned(1, true);
        let room = simulator.open_room("Team 1");
        simulator.post(room, 2, "hello").unwrap();
        let listed = |name, value| ids(&ask(&simulator, &request("get_users", &[(name, value)])).1);
        assert_eq!(listed("banned", "1"), [quiet]);
        assert_eq!(listed("banned", "0"), [author]);
        assert_eq!(listed("last_message_date", "2020-12-18 07:00:00"), [author]);
    }
}
