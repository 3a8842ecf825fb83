//! Rows as the API's page shows them, as PHP may write them, and as nobody should.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn time(text: &str) -> Option<Timestamp> {
    Some(text.parse().unwrap())
}

#[test]
fn the_room_of_the_api_page_is_read_exactly() {
    let room = decode_room(
        br#"{"id": 1853, "pipe": "5fde659f0ba18_1608410527", "name": "Technical support",
            "admin_id": 2157, "type": 3, "tab": 0, "is_public": 0,
            "created_at": "2020-12-19 20:42:07", "updated_at": "2020-12-19 20:42:07",
            "deleted_at": null, "status": 0, "imba_id": 627}"#,
    );
    let mut expected = Room::new(RoomId(1853), "Technical support");
    expected.kind = RoomKind::Support;
    expected.pipe = "5fde659f0ba18_1608410527".into();
    expected.admin_id = Some(UserId(2157));
    expected.created_at = time("2020-12-19T20:42:07Z");
    expected.updated_at = time("2020-12-19T20:42:07Z");
    expected.widget = Some(WidgetId(627));
    expected.extra.insert("tab".into(), json!(0));
    assert_eq!(room, Ok(expected));
}

#[test]
fn the_user_of_the_api_page_is_read_exactly_and_without_the_password() {
    let user = decode_user(
        br#"{"id": 2046, "deleted_at": null, "created_at": "2020-11-23 05:26:41",
            "updated_at": "2020-11-24 06:59:54", "remote_user_id": "1", "user_data": null,
            "imba_id": 627, "login": "NULL", "password": "NULL", "status": "admin",
            "avatar_url": "https://secure.gravatar.com/avatar/3875?s=48&d=identicon"}"#,
    );
    let mut expected = User::new(UserId(2046));
    expected.site_user_id = Some(1.into());
    expected.status = UserStatus::Admin;
    expected.avatar_url = Some("https://secure.gravatar.com/avatar/3875?s=48&d=identicon".into());
    expected.created_at = time("2020-11-23T05:26:41Z");
    expected.updated_at = time("2020-11-24T06:59:54Z");
    expected.widget = Some(WidgetId(627));
    expected.extra.insert("user_data".into(), json!(null));
    assert_eq!(user, Ok(expected));
}

#[test]
fn a_row_of_strings_is_the_same_row() {
    let numbers =
        decode_room(br#"{"id":1,"type":1,"is_public":1,"status":2,"admin_id":7,"imba_id":627}"#);
    let strings = decode_room(
        br#"{"id":"1","type":"1","is_public":"true","status":"2","admin_id":"7","imba_id":"627"}"#,
    );
    assert!(numbers.is_ok());
    assert_eq!(numbers, strings);
}

#[test]
fn nothing_is_written_in_many_ways() {
    for nothing in ["null", "false", "\"\"", "\"NULL\"", "-1"] {
        let json = format!(
            r#"{{"id":1,"login":{nothing},"avatar_url":{nothing},"remote_user_id":{nothing},
                "deleted_at":{nothing},"created_at":{nothing},"imba_id":{nothing},"status":{nothing}}}"#
        );
        assert_eq!(decode_user(json.as_bytes()), Ok(User::new(UserId(1))), "{nothing}");
    }
}

#[test]
fn a_zero_date_is_none_and_any_other_mark_of_deletion_counts() {
    let deleted = |value: &str| {
        decode_room(format!(r#"{{"id":1,"deleted_at":{value}}}"#).as_bytes()).unwrap().deleted_at
    };
    assert_eq!(deleted("\"0000-00-00 00:00:00\""), None);
    assert_eq!(deleted("0"), None);
    assert_eq!(deleted("\"2020-12-19 20:42:07\""), time("2020-12-19T20:42:07Z"));
    assert_eq!(deleted("1608410527"), time("2020-12-19T20:42:07Z"));
    assert!(deleted("true").is_some() && deleted("\"yesterday\"").is_some());
}

#[test]
fn a_date_that_is_none_is_kept_as_it_came() {
    let room = decode_room(br#"{"id":1,"updated_at":"soon"}"#).unwrap();
    assert_eq!((room.updated_at, &room.extra["updated_at"]), (None, &json!("soon")));
}

#[test]
fn ids_keep_their_last_digit_and_the_last_of_several_keys_wins() {
    let room = decode_room(br#"{"id":1,"id":18446744073709551615}"#).unwrap();
    assert_eq!(room.id, RoomId(u64::MAX));
    let user = decode_user(br#"{"id":1,"remote_user_id":123456789012345678901234567890}"#).unwrap();
    assert_eq!(user.site_user_id.unwrap().as_str(), "123456789012345678901234567890");
}

#[test]
fn a_room_may_be_called_null_and_a_kind_may_be_new() {
    let room = decode_room(br#"{"id":1,"name":"NULL","type":"9"}"#).unwrap();
    assert_eq!((room.name.as_str(), room.kind), ("NULL", RoomKind::Unknown(9)));
    let room = decode_room(br#"{"id":1,"name":12}"#).unwrap();
    assert_eq!((room.name.as_str(), room.kind), ("12", RoomKind::Unknown(-1)));
}

#[test]
fn a_bad_row_says_which_field_and_why() {
    let error = |json: &str| decode_room(json.as_bytes()).unwrap_err().to_string();
    assert_eq!(error(r#"{"name":"x"}"#), "id should be a number, found nothing");
    assert_eq!(error(r#"{"id":"x"}"#), "id should be a number, found a text of 1 characters");
    assert_eq!(error(r#"{"id":-1}"#), "id should be a number, found -1");
    assert_eq!(error(r#"{"id":1,"name":{}}"#), "name should be a text, found an object");
    assert_eq!(
        error(r#"{"id":1,"type":"new\u001b"}"#),
        "type should be a number, found a text of 4 characters"
    );
    assert_eq!(error("[]"), "not a JSON object: something else, at line 1 column 0");
    assert!(!error("\"secret\"").contains("secret") && !error("{\"id\":secret").contains("secret"));
    assert!(error("{\"id\":1").starts_with("not a JSON object"));
}

#[test]
fn deep_nesting_is_refused_at_65() {
    let row = |depth: usize| {
        let json = format!("{{\"id\":1,\"x\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        decode_room(json.as_bytes())
    };
    assert!(row(63).is_ok());
    assert_eq!(row(64).unwrap_err().to_string(), "nested more than 64 deep");
    assert!(row(1_000_000).is_err());
    assert!(decode_room(format!("{{\"id\":1,\"x\":\"{}\"}}", "[".repeat(99)).as_bytes()).is_ok());
}

proptest! {
    #[test]
    fn whatever_comes_is_a_row_or_an_error(
        bytes in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..120),
            "\\{(\"(id|name|type|status|deleted_at)\":([0-9e.+-]{1,25}|null|true|\"[^\"\\\\]{0,8}\"|\\[\\]|\\{\\}),){0,4}\"id\":[0-9]{1,21}\\}"
                .prop_map(String::into_bytes),
        ],
    ) {
        if let Ok(room) = decode_room(&bytes) {
            // What was kept can be written down again.
            prop_assert!(serde_json::to_string(&room).is_ok());
        }
        let _ = decode_user(&bytes);
    }
}
