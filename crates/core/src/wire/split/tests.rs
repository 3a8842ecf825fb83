//! The splitter against serde_json, whole and in pieces, and against what PHP and proxies do.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

type Split = (Vec<(String, u64)>, Result<ListEnd, Error>);

/// Feeds a body in pieces of these sizes, the last size for ever.
fn split_at(body: &[u8], sizes: &[usize]) -> Split {
    let mut splitter = Splitter::new(1024 * 1024);
    let mut elements = Vec::new();
    let mut keep = |element: RawElement<'_>| {
        elements.push((String::from_utf8_lossy(element.bytes).into_owned(), element.offset));
    };
    let mut rest = body;
    let mut sizes = sizes.iter().copied();
    let mut size = body.len();
    while !rest.is_empty() {
        size = sizes.next().unwrap_or(size).clamp(1, rest.len().max(1));
        let (head, tail) = rest.split_at(size.min(rest.len()));
        if let Err(error) = splitter.feed(head, &mut keep) {
            return (elements, Err(error));
        }
        rest = tail;
    }
    (elements, splitter.finish())
}

fn split(body: &str) -> Split {
    let whole = split_at(body.as_bytes(), &[]);
    let bytewise = split_at(body.as_bytes(), &[1]);
    assert_eq!(whole, bytewise, "{body}");
    for (element, offset) in &whole.0 {
        let offset = usize::try_from(*offset).unwrap();
        assert_eq!(&body[offset..offset + element.len()], element);
    }
    whole
}

#[track_caller]
fn list(body: &str) -> Vec<String> {
    let (elements, end) = split(body);
    assert_eq!(end.map(|end| end.elements), Ok(elements.len() as u64), "{body}");
    elements.into_iter().map(|(element, _)| element).collect()
}

#[track_caller]
fn refused(body: &str) -> ErrorKind {
    split(body).1.expect_err(body).kind().clone()
}

#[test]
fn the_elements_of_a_list_come_in_order_with_their_places() {
    let body = "{\n  \"success\": \"true\",\n \"data\": [ {\"id\": 1} , \n {\"id\":2,\"name\":\"}]\"}],\"code\":200}";
    assert_eq!(list(body), ["{\"id\": 1}", "{\"id\":2,\"name\":\"}]\"}"]);
    let end = split(body).1.unwrap();
    assert_eq!((end.code, end.salvaged, end.bytes), (Some(200), false, body.len() as u64));
}

#[test]
fn keys_come_in_any_order() {
    assert_eq!(list(r#"{"code":200,"data":[{"id":1}],"success":true}"#), ["{\"id\":1}"]);
    assert_eq!(list(r#"{"data":[],"x":{"data":[1]},"success":1}"#), [""; 0]);
}

#[test]
fn elements_of_every_kind_are_handed_on() {
    let body = r#"{"success":true,"data":[null,true,1.5e3,"a,]\"b",[1,[2]],{"a":{"b":[]}},{}]}"#;
    assert_eq!(
        list(body),
        ["null", "true", "1.5e3", "\"a,]\\\"b\"", "[1,[2]]", "{\"a\":{\"b\":[]}}", "{}"]
    );
}

#[test]
fn a_list_with_gaps_is_an_object_with_numbers() {
    assert_eq!(list(r#"{"success":true,"data":{"0":{"id":1},"2":{"id":2}}}"#).len(), 2);
    assert_eq!(list(r#"{"success":true,"data":{}}"#).len(), 0);
}

#[test]
fn a_page_of_laravels_is_a_list_that_names_the_next() {
    let body = r#"{"success":true,"data":{"current_page":1,"data":[{"id":1}],"last_page":3,
        "next_page_url":"http://x/y?page=2","links":[{"url":null}],"total":3,"0":0}}"#;
    assert_eq!(refused(body), ErrorKind::NotAList, "numbers beside a page are not a page");
    let body = body.replace(",\"0\":0", "");
    assert_eq!(list(&body), ["{\"id\":1}"]);
    assert_eq!(split(&body).1.unwrap().next_page, Some(2));
    let last = r#"{"success":true,"data":{"data":{"0":{"id":9}},"current_page":3,"last_page":3,"next_page_url":null}}"#;
    assert_eq!((list(last).len(), split(last).1.unwrap().next_page), (1, None));
    let resource =
        r#"{"success":true,"data":[],"links":{"next":"/r?a=b&page=5"},"meta":{"current_page":4}}"#;
    assert_eq!(split(resource).1.unwrap().next_page, Some(5));
}

#[test]
fn what_is_no_list_is_refused() {
    for data in [
        "null",
        "false",
        "\"\"",
        "0",
        "{\"id\":1}",
        "{\"0\":{},\"x\":1}",
        "{\"data\":null}",
        "{\"data\":{\"x\":1}}",
    ] {
        assert_eq!(
            refused(&format!(r#"{{"success":true,"data":{data}}}"#)),
            ErrorKind::NotAList,
            "{data}"
        );
    }
    assert_eq!(refused(r#"{"success":true}"#), ErrorKind::NotAList);
    assert_eq!(refused(r#"{"success":true,"data":[],"data":[]}"#), ErrorKind::Undecodable);
}

#[test]
fn a_reply_that_says_no_is_refused_with_its_code() {
    let code = |code| ErrorKind::Refused { code };
    assert_eq!(
        refused(r#"{"code":401,"version":1.0,"error":"Authenticate required!"}"#),
        code(Some(401))
    );
    assert_eq!(refused(r#"{"success":true,"data":[],"code":"500"}"#), code(Some(500)));
    assert_eq!(refused(r#"{"success":"false","data":[]}"#), code(None));
    assert_eq!(refused(r#"{"data":[],"errorMsg":"no"}"#), code(None));
    let error = split(r#"{"code":403,"error":"\u001b[1mno"}"#).1.unwrap_err();
    assert_eq!((error.message(), error.is_credentials()), ("\\u{1b}[1mno", true));
    assert_eq!(refused(r#"{"data":[]}"#), ErrorKind::Undecodable);
    assert_eq!(refused("{}"), ErrorKind::Undecodable);
}

#[test]
fn what_php_prints_around_is_salvaged() {
    let json = r#"{"success":true,"data":[{"id":1}]}"#;
    for body in [
        format!("\u{feff}{json}"),
        format!(")]}}'\n{json}"),
        format!("<br />\n<b>Warning</b>: in {{closure}}() on line { } 3<br />\n{json}", "{"),
        format!("{json}\n<br /><b>Notice</b>: {{closure}}"),
    ] {
        assert_eq!(list(&body), ["{\"id\":1}"], "{body}");
        assert!(split(&body).1.unwrap().salvaged, "{body}");
    }
    assert_eq!(refused(&format!("{json}{json}")), ErrorKind::Undecodable);
    assert_eq!(refused(&format!("{json} x {{}}")), ErrorKind::Undecodable);
    assert_eq!(refused(&format!("{}{json}", "x".repeat(70_000))), ErrorKind::Undecodable);
    assert_eq!(refused(&format!("{json}{}", "x".repeat(70_000))), ErrorKind::Undecodable);
}

#[test]
fn text_html_and_nothing_are_undecodable() {
    for body in ["", "   ", "<html>Whoops</html>", "die", "null", "[]", "\0\0\0"] {
        assert_eq!(refused(body), ErrorKind::Undecodable, "{body}");
    }
    for body in [
        r#"{"success":true,"data":[{}{}]}"#,
        r#"{"success":true "data":[]}"#,
        r#"{"success":true,"data":[,]}"#,
        r#"{"success":true,"data":[]]"#,
        r#"{"success":true,"data":[{"a":1}],}"#,
        r#"{"a":NaN}"#,
        r#"{"a" 1}"#,
        r#"{"\q":1}"#,
    ] {
        assert_eq!(refused(body), ErrorKind::Undecodable, "{body}");
    }
}

#[test]
fn a_list_cut_anywhere_is_never_a_list() {
    let body = r#"{"success":true,"code":200,"data":{"current_page":1,"data":[{"id":1,"n":"\"}"},
        {"id":2,"a":[{}]},7,"x"],"next_page_url":null},"x":[1,{"y":2}],"z":"ok"}"#;
    list(body);
    for end in 0..body.len() {
        let cut = &body[..end];
        assert!(split(cut).1.is_err(), "{cut}");
    }
}

#[test]
fn a_bracket_that_was_never_opened_is_found_however_the_list_arrives() {
    assert_eq!(refused(r#"{"success":true,"data":[{"a":1],}]}"#), ErrorKind::Undecodable);
    assert_eq!(list(r#"{"success":true,"data":[{"a":"]"},{"b":"}"}]}"#).len(), 2);
}

#[test]
fn an_element_over_the_limit_ends_it_however_it_comes() {
    let body = format!(r#"{{"success":true,"data":[{{"a":"{}"}}]}}"#, "x".repeat(100));
    let nested = body.replace(r#"{"a":"#, r#"{"b":[],"a":"#);
    for body in [body, nested] {
        for size in [1, 10, 1000] {
            let mut splitter = Splitter::new(50);
            let fed = body
                .as_bytes()
                .chunks(size)
                .try_for_each(|c| splitter.feed(c, &mut |_: RawElement<'_>| {}));
            assert_eq!(fed.unwrap_err().kind(), &ErrorKind::ElementTooLarge);
            assert_eq!(
                splitter.feed(b"]}", &mut |_: RawElement<'_>| {}).unwrap_err().kind(),
                &ErrorKind::ElementTooLarge
            );
        }
    }
}

#[test]
fn a_great_depth_costs_nothing() {
    let deep = format!("{}{}", "[".repeat(300_000), "]".repeat(300_000));
    let body = format!(r#"{{"success":true,"x":{deep},"data":[{deep},{{"id":1}}]}}"#);
    let (elements, end) = split_at(body.as_bytes(), &[4096]);
    assert_eq!((elements.len(), end.unwrap().elements), (2, 2));
}

#[test]
fn success_and_an_open_list_are_a_good_beginning() {
    let mut splitter = Splitter::new(100);
    splitter.feed(b"{\"success\":\"true\",\"data\":", &mut |_: RawElement<'_>| {}).unwrap();
    assert!(!splitter.has_begun_well());
    splitter.feed(b"[", &mut |_: RawElement<'_>| {}).unwrap();
    assert!(splitter.has_begun_well());
}

/// JSON values with the characters that matter most.
fn value() -> impl Strategy<Value = Value> {
    let text = "[ab\"\\\\{}\\[\\],:é😀\n\u{1}]{0,8}";
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|f| json!(f)),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 5, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::vec((text, inner), 0..5)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

/// A reply of one of the accepted shapes, its elements, and whether it is a success.
fn reply() -> impl Strategy<Value = (Value, Vec<Value>, bool)> {
    let success = prop_oneof![
        3 => Just((json!(true), true)), 3 => Just((json!("true"), true)), 1 => Just((json!("1"), true)),
        1 => Just((json!(false), false)), 1 => Just((json!("no"), false)), 1 => Just((Value::Null, false)),
    ];
    let code = prop_oneof![
        Just((None, true)),
        Just((Some(json!(200)), true)),
        Just((Some(json!("200")), true)),
        Just((Some(json!(422)), false)),
    ];
    let other = ("[a-z\"\\\\]{1,6}x", value());
    (
        proptest::collection::vec(value(), 0..8),
        success,
        code,
        0..4,
        other,
        any::<prop::sample::Index>(),
    )
        .prop_map(|(elements, (success, ok), (code, code_ok), shape, other, at)| {
            let map = || {
                Value::Object(
                    elements.iter().enumerate().map(|(i, v)| (i.to_string(), v.clone())).collect(),
                )
            };
            let data = match shape {
                0 => Value::from(elements.clone()),
                1 => map(),
                2 => json!({"per_page": [1], "data": elements, "next_page_url": null}),
                _ => json!({"data": map(), "current_page": 1, "last_page": 1}),
            };
            let mut pairs = vec![("success".to_owned(), success), ("data".to_owned(), data), other];
            pairs.extend(code.map(|code| ("code".to_owned(), code)));
            let rotation = at.index(pairs.len());
            pairs.rotate_left(rotation);
            (Value::Object(pairs.into_iter().collect()), elements, ok && code_ok)
        })
}

proptest! {
    #[test]
    fn it_agrees_with_serde_json_however_the_body_is_cut_up(
        (reply, elements, ok) in reply(),
        pretty in any::<bool>(),
        sizes in proptest::collection::vec(1_usize..40, 1..30),
    ) {
        let body = if pretty { serde_json::to_string_pretty(&reply) } else { serde_json::to_string(&reply) }.unwrap();
        let (found, end) = split_at(body.as_bytes(), &sizes);
        prop_assert_eq!(end.is_ok(), ok, "{}", body);
        let found: Vec<Value> = found.iter().map(|(raw, _)| serde_json::from_str(raw).unwrap()).collect();
        // Through text as well: serde_json may read a double's last digit differently.
        let text = serde_json::to_string(&elements).unwrap();
        let expected: Vec<Value> = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(found, expected);
        prop_assert_eq!(split_at(body.as_bytes(), &sizes), split_at(body.as_bytes(), &[]));
    }

    #[test]
    fn no_beginning_of_a_body_is_a_list((reply, _, _) in reply(), at in any::<prop::sample::Index>()) {
        let body = serde_json::to_string(&reply).unwrap();
        let end = at.index(body.len());
        prop_assert!(split_at(&body.as_bytes()[..end], &[7]).1.is_err());
    }

    #[test]
    fn whatever_comes_ends_in_a_verdict_that_no_cut_changes(
        (reply, _, _) in reply(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), prop_oneof![any::<u8>(), Just(b'"'), Just(b'}'), Just(b'{'), Just(b'\\')]), 0..4),
        sizes in proptest::collection::vec(1_usize..20, 1..20),
    ) {
        let mut body = serde_json::to_vec(&reply).unwrap();
        for (at, byte) in edits {
            let at = at.index(body.len());
            body[at] = byte;
        }
        let whole = split_at(&body, &[]);
        let pieces = split_at(&body, &sizes);
        prop_assert_eq!(whole.1.is_ok(), pieces.1.is_ok());
        if whole.1.is_ok() {
            prop_assert_eq!(whole, pieces);
        }
    }
}

#[test]
fn megabytes_of_filler_are_no_list_wherever_they_stand() {
    for head in
        ["", "{", "{\"data\":[", "{\"data\":[1,", "{\"data\":[1]", "{\"data\":[1]}", "{\"x\":["]
    {
        let mut splitter = Splitter::new(1_000);
        let mut ignore = |_: RawElement<'_>| {};
        splitter.feed(head.as_bytes(), &mut ignore).unwrap();
        let piece = if head.ends_with("x\":[") { b"0,".repeat(4_096) } else { vec![b' '; 8_192] };
        let fed = (0..1_000).find_map(|_| splitter.feed(&piece, &mut ignore).err());
        let error = fed.unwrap_or_else(|| panic!("{head:?} goes on for ever"));
        assert_eq!(error.kind(), &ErrorKind::Undecodable, "{head:?}");
    }
}
