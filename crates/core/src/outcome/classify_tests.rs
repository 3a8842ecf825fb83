//! One test per row of the table, named after the row, and one that throws everything at it.

use proptest::prelude::*;

use super::*;
use crate::id::{MessageId, RoomId};
use crate::outcome::ClassifyRules;
use std::time::Duration;

const OK: &str = r#"{"success":true,"message":{"id":4543,"uuid":"1536-1608275827-Z6Eq1W",
    "message":"api message","time":"1608275827","user_id":2046,"room_id":"1536"}}"#;

fn request() -> SendMsg {
    SendMsg::new(1.into(), RoomId(1536), "api message")
}

fn with(rules: &ClassifyRules, status: u16, headers: &[(&str, &str)], body: &str) -> SendOutcome {
    let headers: Vec<_> = headers.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
    let seen = Seen::Answer { status, headers: &headers, body: Ok(body.as_bytes()) };
    classify(&request(), seen, rules)
}

fn answer(status: u16, body: &str) -> SendOutcome {
    with(&ClassifyRules::default(), status, &[], body)
}

fn failure(code: NetCode) -> SendOutcome {
    let error = TransportError::new(code, "api.imbachat.com");
    classify(&request(), Seen::Failed(&error), &ClassifyRules::default())
}

#[track_caller]
fn check(outcome: &SendOutcome, class: Class, code: &str, advice: &Advice) {
    assert_eq!((outcome.class, outcome.code.as_str()), (class, code), "{outcome:?}");
    assert_eq!(&outcome.advice, advice, "{outcome:?}");
    // What is ambiguous came over a connection that is not to be trusted.
    assert!(outcome.class != Class::Ambiguous || outcome.drop_connection, "{outcome:?}");
    assert_eq!(outcome.receipt.is_some(), class == Class::Delivered, "{outcome:?}");
}

#[test]
fn dns_refused_unreachable_connect_timeout_or_tls_is_not_sent() {
    for (net, code) in [
        (NetCode::Dns, "dns"),
        (NetCode::Refused, "connect_refused"),
        (NetCode::Unreachable, "unreachable"),
        (NetCode::ConnectTimeout, "connect_timeout"),
        (NetCode::Tls, "tls"),
        (NetCode::Connect, "connect_failed"),
        (NetCode::Unsendable, "unsendable"),
    ] {
        check(&failure(net), Class::NotSent, code, &Advice::Backoff);
    }
}

#[test]
fn closed_before_anything_was_written_is_not_sent() {
    check(
        &failure(NetCode::ClosedBeforeWrite),
        Class::NotSent,
        "closed_before_write",
        &Advice::Backoff,
    );
}

#[test]
fn what_was_claimed_too_long_ago_is_not_sent_and_nothing_is_waited_for() {
    let outcome = classify(&request(), Seen::TooLate, &ClassifyRules::default());
    check(&outcome, Class::NotSent, "claim_too_old", &Advice::None);
}

#[test]
fn reset_silence_and_garbage_are_ambiguous() {
    check(&failure(NetCode::Interrupted), Class::Ambiguous, "connection_lost", &Advice::None);
    check(&failure(NetCode::Timeout), Class::Ambiguous, "no_answer", &Advice::None);
}

#[test]
fn a_body_that_is_cut_is_ambiguous() {
    for (net, code) in [
        (NetCode::BodyCut, "reply_cut"),
        (NetCode::BodyTooLarge, "reply_too_large"),
        (NetCode::Encoding, "reply_encoding"),
        (NetCode::Timeout, "no_answer"),
    ] {
        let error = TransportError::new(net, "");
        let seen = Seen::Answer { status: 200, headers: &[], body: Err(&error) };
        let outcome = classify(&request(), seen, &ClassifyRules::default());
        check(&outcome, Class::Ambiguous, code, &Advice::None);
        assert_eq!(outcome.http_status, Some(200));
    }
}

#[test]
fn a_status_line_decides_although_the_body_is_cut() {
    let error = TransportError::new(NetCode::BodyCut, "");
    let seen = Seen::Answer { status: 422, headers: &[], body: Err(&error) };
    let outcome = classify(&request(), seen, &ClassifyRules::default());
    check(&outcome, Class::Rejected, "http_4xx", &Advice::Permanent);
}

#[test]
fn success_with_number_room_and_echo_is_delivered() {
    let outcome = answer(200, OK);
    check(&outcome, Class::Delivered, "accepted", &Advice::None);
    let receipt = outcome.receipt.unwrap();
    assert_eq!(receipt.message.id, MessageId(4543));
    assert_eq!(receipt.message.uuid.as_deref(), Some("1536-1608275827-Z6Eq1W"));
    assert_eq!(receipt.message.time.unwrap().as_seconds(), 1_608_275_827);
    assert!(!receipt.echo_differs && !receipt.salvaged && !outcome.drop_connection);
}

#[test]
fn success_comes_in_four_spellings_and_numbers_as_strings() {
    for success in ["true", "\"true\"", "1", "\"1\""] {
        for (id, room) in [("4543", "1536"), ("\"4543\"", "\"1536\"")] {
            let body = format!(
                r#"{{"message":{{"id":{id},"room_id":{room},"message":"api message"}},"success":{success}}}"#
            );
            check(&answer(201, &body), Class::Delivered, "accepted", &Advice::None);
        }
    }
}

#[test]
fn an_escaped_and_trimmed_echo_is_no_difference() {
    let request = SendMsg::new(1.into(), RoomId(1), " <b> & \"c\"\n");
    let body =
        r#"{"success":1,"message":{"id":1,"room_id":1,"message":"&lt;b&gt; &amp; &quot;c&quot;"}}"#;
    let seen = Seen::Answer { status: 200, headers: &[], body: Ok(body.as_bytes()) };
    let outcome = classify(&request, seen, &ClassifyRules::default());
    check(&outcome, Class::Delivered, "accepted", &Advice::None);
}

#[test]
fn a_php_warning_around_the_json_is_delivered_and_flagged() {
    for body in [
        format!("<br />\n<b>Warning</b>: foo() in x.php on line 3<br />\n{OK}"),
        format!("\u{feff}{OK}"),
        format!("{OK}\n<b>Notice</b>: bar"),
    ] {
        let outcome = answer(200, &body);
        check(&outcome, Class::Delivered, "salvaged", &Advice::None);
        assert!(outcome.receipt.unwrap().salvaged && outcome.drop_connection);
    }
}

#[test]
fn a_differing_echo_is_delivered_and_flagged() {
    for body in
        [OK.replace("api message", "api mess"), OK.replace("\"message\":\"api message\",", "")]
    {
        let outcome = answer(200, &body);
        check(&outcome, Class::Delivered, "echo_differs", &Advice::None);
        assert!(outcome.receipt.unwrap().echo_differs);
    }
}

#[test]
fn success_in_another_room_or_in_none_is_ambiguous() {
    let other = answer(200, &OK.replace("\"1536\"}", "1537}"));
    check(&other, Class::Ambiguous, "bad_echo_room", &Advice::None);
    let none = answer(200, &OK.replace(",\"room_id\":\"1536\"", ""));
    check(&none, Class::Ambiguous, "no_echo_room", &Advice::None);
}

#[test]
fn success_without_a_number_is_ambiguous() {
    for body in [
        r#"{"success":true}"#.to_owned(),
        r#"{"success":true,"message":"ok"}"#.to_owned(),
        r#"{"success":true,"message":{"room_id":1536}}"#.to_owned(),
        OK.replace("4543", "0"),
        OK.replace("4543", "null"),
    ] {
        check(&answer(200, &body), Class::Ambiguous, "no_message_id", &Advice::None);
    }
}

#[test]
fn success_false_is_rejected_for_good() {
    for success in ["false", "\"false\"", "0", "\"0\"", "\"\""] {
        let outcome = answer(200, &format!(r#"{{"success":{success},"error":"no such room"}}"#));
        check(&outcome, Class::Rejected, "success_false", &Advice::Permanent);
        assert_eq!(outcome.detail, "no such room");
    }
}

#[test]
fn an_error_without_success_is_rejected_for_good() {
    for name in ["error", "errorMsg"] {
        let outcome = answer(200, &format!(r#"{{"{name}":"nope"}}"#));
        check(&outcome, Class::Rejected, "body_error", &Advice::Permanent);
        assert_eq!(outcome.detail, "nope");
    }
}

#[test]
fn an_error_code_in_the_body_of_a_200_counts_like_a_status() {
    let body = |code: &str| answer(200, &format!(r#"{{"code":{code},"error":"x","debug":""}}"#));
    check(&body("401"), Class::Rejected, "body_401", &Advice::CheckCredentials);
    check(&body("\"403\""), Class::Rejected, "body_403", &Advice::CheckCredentials);
    check(&body("422"), Class::Rejected, "body_4xx", &Advice::Permanent);
    check(&body("429"), Class::Rejected, "body_429", &Advice::RetryAfter(None));
    check(&body("500"), Class::Ambiguous, "body_5xx", &Advice::None);
    check(&body("408"), Class::Ambiguous, "body_408", &Advice::None);
    let both = answer(200, r#"{"success":false,"code":500}"#);
    check(&both, Class::Ambiguous, "body_5xx", &Advice::None);
}

#[test]
fn a_2xx_that_is_empty_html_text_or_broken_is_ambiguous() {
    check(&answer(200, ""), Class::Ambiguous, "reply_empty", &Advice::None);
    check(&answer(204, "  \n"), Class::Ambiguous, "reply_empty", &Advice::None);
    for body in
        ["<html>Whoops</html>", "No room", "null", "[]", &OK[..OK.len() - 1], "{\"success\":tr"]
    {
        check(&answer(200, body), Class::Ambiguous, "reply_not_json", &Advice::None);
    }
    let deep = format!("{{\"success\":true,\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    check(&answer(200, &deep), Class::Ambiguous, "reply_not_json", &Advice::None);
    check(&answer(200, &format!("{OK}{OK}")), Class::Ambiguous, "reply_not_json", &Advice::None);
}

#[test]
fn json_that_neither_confirms_nor_refuses_is_ambiguous() {
    for body in
        ["{}", r#"{"success":null}"#, r#"{"message":"Unauthenticated."}"#, r#"{"code":200}"#]
    {
        check(&answer(200, body), Class::Ambiguous, "reply_unclear", &Advice::None);
    }
}

#[test]
fn content_decides_and_not_its_label() {
    let rules = ClassifyRules::default();
    let json = with(&rules, 200, &[("content-type", "text/html")], OK);
    check(&json, Class::Delivered, "accepted", &Advice::None);
    let html = with(&rules, 200, &[("content-type", "application/json")], "<html>");
    check(&html, Class::Ambiguous, "reply_not_json", &Advice::None);
}

#[test]
fn other_4xx_are_rejected_for_good() {
    for status in [400, 402, 404, 405, 409, 410, 411, 413, 414, 415, 418, 422, 451, 499] {
        let outcome = answer(status, r#"{"code":422,"error":"room_id required"}"#);
        check(&outcome, Class::Rejected, "http_4xx", &Advice::Permanent);
        assert_eq!(outcome.http_status, Some(status));
        assert_eq!(outcome.detail, "room_id required");
    }
}

#[test]
fn a_401_or_403_asks_for_a_look_at_the_credentials() {
    check(&answer(401, ""), Class::Rejected, "http_401", &Advice::CheckCredentials);
    check(&answer(403, "<html>"), Class::Rejected, "http_403", &Advice::CheckCredentials);
}

#[test]
fn a_429_or_425_makes_the_widget_wait_within_a_second_and_an_hour() {
    let rules = ClassifyRules { not_applied_statuses: vec![] };
    let wait = |status, value| with(&rules, status, &[("retry-after", value)], "");
    let secs = |secs| Advice::RetryAfter(Some(Duration::from_secs(secs)));
    check(&wait(429, "7"), Class::Rejected, "http_429", &secs(7));
    check(&wait(425, "0"), Class::Rejected, "http_429", &secs(1));
    check(&wait(429, "86400"), Class::Rejected, "http_429", &secs(3600));
    check(&answer(429, ""), Class::Rejected, "http_429", &Advice::RetryAfter(None));
}

#[test]
fn a_408_and_every_5xx_are_ambiguous() {
    check(&answer(408, ""), Class::Ambiguous, "http_408", &Advice::None);
    for status in [500, 501, 502, 503, 504, 520, 521, 522, 524, 530, 599] {
        check(&answer(status, "oops"), Class::Ambiguous, "http_5xx", &Advice::None);
    }
    let unavailable = with(&ClassifyRules::default(), 503, &[("retry-after", "9")], "");
    check(&unavailable, Class::Ambiguous, "http_5xx", &Advice::None);
}

#[test]
fn a_listed_status_is_rejected_and_may_be_tried_again() {
    let rules = ClassifyRules { not_applied_statuses: vec![429, 503, 408] };
    let wait = Advice::RetryAfter(Some(Duration::from_secs(9)));
    let outcome = with(&rules, 503, &[("retry-after", "9")], "");
    check(&outcome, Class::Rejected, "not_applied", &wait);
    check(&with(&rules, 408, &[], ""), Class::Rejected, "not_applied", &Advice::RetryAfter(None));
    check(&with(&rules, 502, &[], ""), Class::Ambiguous, "http_5xx", &Advice::None);
    let body = with(&rules, 200, &[], r#"{"code":503}"#);
    check(&body, Class::Rejected, "not_applied", &Advice::RetryAfter(None));
}

#[test]
fn a_redirect_that_keeps_the_method_is_rejected_and_names_the_origin_only() {
    for status in [301, 307, 308] {
        let location = "https://u:p@evil.example:8443/path?token=x";
        let outcome = with(&ClassifyRules::default(), status, &[("location", location)], "");
        let advice = Advice::Redirect { origin: "https://evil.example:8443".into() };
        check(&outcome, Class::Rejected, "redirect", &advice);
    }
    let relative = with(&ClassifyRules::default(), 301, &[("location", "/login")], "");
    check(&relative, Class::Rejected, "redirect", &Advice::Redirect { origin: String::new() });
}

#[test]
fn a_redirect_after_the_deed_is_ambiguous() {
    for status in [302, 303, 300, 304, 399] {
        check(&answer(status, ""), Class::Ambiguous, "http_3xx", &Advice::None);
    }
}

#[test]
fn a_status_that_is_none_is_ambiguous() {
    for status in [0, 100, 101, 199, 600, 999] {
        check(&answer(status, OK), Class::Ambiguous, "http_odd", &Advice::None);
    }
}

#[test]
fn a_refusal_that_names_the_message_as_posted_is_ambiguous() {
    for status in [404, 403, 429, 301] {
        check(&answer(status, OK), Class::Ambiguous, "contradictory", &Advice::None);
    }
    let code = OK.replacen("{\"success\"", "{\"code\":422,\"success\"", 1);
    check(&answer(200, &code), Class::Ambiguous, "contradictory", &Advice::None);
}

#[test]
fn foreign_words_are_escaped_and_short() {
    let body = format!(r#"{{"success":false,"error":"\u001b[2J{}"}}"#, "x".repeat(1000));
    let detail = answer(200, &body).detail;
    assert!(detail.starts_with("\\u{1b}[2Jxxx") && detail.ends_with('…'), "{detail}");
    assert_eq!(detail.chars().count(), 200);
}

#[test]
fn codes_are_distinct_words() {
    let mut words: Vec<_> = OutcomeCode::ALL.iter().map(|code| code.as_str()).collect();
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), OutcomeCode::ALL.len());
}

proptest! {
    #[test]
    fn whatever_comes_has_an_outcome(
        status in 0_u16..1100,
        body in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..200),
            "[\\[\\]{}\":,a-z0-9\\\\ ]{0,80}".prop_map(String::into_bytes),
            (0..OK.len(), any::<u8>()).prop_map(|(at, byte)| {
                let mut body = OK.as_bytes().to_vec();
                body[at] = byte;
                body
            }),
        ],
        header in "[ -~]{0,40}",
    ) {
        let headers = [("retry-after".to_owned(), header.clone()), ("location".to_owned(), header)];
        let seen = Seen::Answer { status, headers: &headers, body: Ok(&body) };
        let outcome = classify(&request(), seen, &ClassifyRules::default());
        prop_assert_eq!(outcome.receipt.is_some(), outcome.class == Class::Delivered);
        prop_assert!(outcome.class != Class::NotSent);
        prop_assert!(outcome.detail.chars().count() <= 200);
        prop_assert!(!outcome.detail.chars().any(char::is_control));
    }
}
