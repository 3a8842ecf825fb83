//! The three replies have the very shape of the vendor's samples: the same keys in the same order
//! with values of the same JSON types, at every depth.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod common;

use serde_json::Value;

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn assert_same_shape(path: &str, sample: &Value, ours: &Value) {
    assert_eq!(kind(ours), kind(sample), "at {path}");
    match (sample, ours) {
        (Value::Object(sample), Value::Object(ours)) => {
            assert_eq!(
                ours.keys().collect::<Vec<_>>(),
                sample.keys().collect::<Vec<_>>(),
                "at {path}"
            );
            for (key, value) in sample {
                assert_same_shape(&format!("{path}.{key}"), value, &ours[key]);
            }
        }
        (Value::Array(sample), Value::Array(ours)) if sample.is_empty() => {
            assert!(ours.is_empty(), "at {path}");
        }
        (Value::Array(sample), Value::Array(ours)) => {
            assert!(!ours.is_empty(), "at {path}");
            for row in ours {
                assert_same_shape(&format!("{path}[]"), &sample[0], row);
            }
        }
        _ => {}
    }
}

fn check(endpoint: &str, body: &str, sample: &str) {
    let outcome = common::sample().handle(&common::request(endpoint, body));
    let ours = common::seen_in_process(outcome).json();
    assert_same_shape(endpoint, &serde_json::from_str(sample).unwrap(), &ours);
}

#[test]
fn a_sent_message_is_answered_in_the_vendors_shape() {
    let body = "user_id=1&room_id=1536&message=api+message";
    check("send_msg", body, include_str!("samples/send_msg.response.json"));
}

#[test]
fn users_are_listed_in_the_vendors_shape() {
    check("get_users", "imba_id=627&status=user", include_str!("samples/get_users.response.json"));
}

#[test]
fn rooms_are_listed_in_the_vendors_shape() {
    check("get_rooms", "imba_id=627&room_type=0", include_str!("samples/get_rooms.response.json"));
}

#[test]
fn the_vendors_own_values_come_back() {
    let simulator = common::sample();
    let reply = common::seen_in_process(simulator.handle(&common::request("get_users", "")));
    let sample: Value =
        serde_json::from_str(include_str!("samples/get_users.response.json")).unwrap();
    assert_eq!(reply.json(), sample);

    let reply = common::seen_in_process(simulator.handle(&common::request("get_rooms", "")));
    let sample: Value =
        serde_json::from_str(include_str!("samples/get_rooms.response.json")).unwrap();
    let ours = reply.json();
    for room in sample["data"].as_array().unwrap() {
        assert!(ours["data"].as_array().unwrap().contains(room), "{room}");
    }
}

#[test]
fn a_simulator_can_be_shared_between_threads() {
    fn assert_shareable<T: Clone + Send + Sync + 'static>() {}
    assert_shareable::<imbabot_simulator::Simulator>();
}
