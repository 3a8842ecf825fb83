//! Rows in which an answer comes whole, and decides by its status or by what it says.

use std::time::Duration;

use imbabot_core::Class::{Ambiguous, Delivered, Rejected};
use imbabot_core::OutcomeCode as Code;
use imbabot_core::{Advice, ClassifyRules};
use imbabot_simulator::{Canned, Endpoint, Fault, FaultKind, Matcher};

use crate::rows::Next::{Dropped, Kept};
use crate::rows::Wrong::{Fault as F, Says};
use crate::rows::{Row, Stage, advice, check, check_with, outcome};

#[rustfmt::skip]
#[tokio::test]
async fn a_success_that_names_the_message_is_delivered() {
    const ECHO: &str = r#"{"success":1,"message":{"id":"9","room_id":"1536","message":"api &lt;message&gt; &amp; &quot;more&quot;"}}"#;
    check(&[
        Row("as the vendor answers", F(""), Delivered, Code::Accepted, Kept),
        Row("success true", F("send_msg:success=true"), Delivered, Code::Accepted, Kept),
        Row("success \"true\"", F("send_msg:success=\"true\""), Delivered, Code::Accepted, Kept),
        Row("success 1", F("send_msg:success=1"), Delivered, Code::Accepted, Kept),
        Row("success \"1\"", F("send_msg:success=\"1\""), Delivered, Code::Accepted, Kept),
        Row("escaped echo", F("send_msg:echo=escaped"), Delivered, Code::Accepted, Kept),
        Row("trimmed echo", F("send_msg:echo=trimmed"), Delivered, Code::Accepted, Kept),
        Row("escaped and trimmed echo, numbers as text", Says(200, ECHO), Delivered, Code::Accepted, Kept),
        Row("201", Says(201, ECHO), Delivered, Code::Accepted, Kept),
        Row("202", Says(202, ECHO), Delivered, Code::Accepted, Kept),
        Row("299", Says(299, ECHO), Delivered, Code::Accepted, Kept),
        Row("JSON that says it is HTML", F("send_msg:type=text/html"), Delivered, Code::Accepted, Kept),
        Row("late, but in time", F("send_msg:late=50ms"), Delivered, Code::Accepted, Kept),
    ])
    .await;
}

#[rustfmt::skip]
#[tokio::test]
async fn a_success_with_something_odd_about_it_is_delivered_and_flagged() {
    const NO_ECHO: &str = r#"{"success":true,"message":{"id":9,"room_id":1536}}"#;
    const NOTICE: &str = "<br />\n<b>Notice</b>: {closure} in x.php\n{\"success\":true,\"message\":{\"id\":9,\"room_id\":1536,\"message\":\"api <message> & \\\"more\\\"\"}}\n<b>Notice</b>";
    check(&[
        Row("another echo", F("send_msg:echo=other"), Delivered, Code::EchoDiffers, Dropped),
        Row("no echo", Says(200, NO_ECHO), Delivered, Code::EchoDiffers, Dropped),
        Row("warning before", F("send_msg:before=@warning"), Delivered, Code::Salvaged, Dropped),
        Row("warning after", F("send_msg:after=@warning"), Delivered, Code::Salvaged, Dropped),
        Row("notices around", Says(200, NOTICE), Delivered, Code::Salvaged, Dropped),
        Row("byte order mark", F("send_msg:before=@bom"), Delivered, Code::Salvaged, Dropped),
        Row("guard against hijacking", F("send_msg:before=@guard"), Delivered, Code::Salvaged, Dropped),
        Row("warning and another echo", F("send_msg:before=@warning:echo=other"), Delivered, Code::EchoDiffers, Dropped),
    ])
    .await;
    let flags = |wrong| async move {
        let receipt = outcome(wrong, ClassifyRules::default()).await.receipt.unwrap();
        (receipt.echo_differs, receipt.salvaged)
    };
    assert_eq!(flags(F("")).await, (false, false));
    assert_eq!(flags(F("send_msg:echo=other")).await, (true, false));
    assert_eq!(flags(F("send_msg:after=@warning")).await, (false, true));
    assert_eq!(flags(F("send_msg:before=@bom:echo=other")).await, (true, true));
}

#[rustfmt::skip]
#[tokio::test]
async fn a_success_that_does_not_name_the_message_is_ambiguous() {
    const TEXT_ID: &str = r#"{"success":true,"message":{"id":"x9","room_id":1536,"message":"m"}}"#;
    const ZERO_ID: &str = r#"{"success":true,"message":{"id":0,"room_id":1536,"message":"m"}}"#;
    const NULL_ID: &str = r#"{"success":true,"message":{"id":null,"room_id":1536,"message":"m"}}"#;
    const NO_ROOM: &str = r#"{"success":true,"message":{"id":9,"message":"m"}}"#;
    const NULL_ROOM: &str = r#"{"success":true,"message":{"id":9,"room_id":null,"message":"m"}}"#;
    check(&[
        Row("no id", F("send_msg:no-id"), Ambiguous, Code::NoMessageId, Dropped),
        Row("an id that is no number", Says(200, TEXT_ID), Ambiguous, Code::NoMessageId, Dropped),
        Row("id 0", Says(200, ZERO_ID), Ambiguous, Code::NoMessageId, Dropped),
        Row("id null", Says(200, NULL_ID), Ambiguous, Code::NoMessageId, Dropped),
        Row("no message", Says(200, r#"{"success":true}"#), Ambiguous, Code::NoMessageId, Dropped),
        Row("only words", Says(200, r#"{"success":true,"message":"ok"}"#), Ambiguous, Code::NoMessageId, Dropped),
        Row("no room", Says(200, NO_ROOM), Ambiguous, Code::NoEchoRoom, Dropped),
        Row("room null", Says(200, NULL_ROOM), Ambiguous, Code::NoEchoRoom, Dropped),
        Row("another room", F("send_msg:wrong-room=7"), Ambiguous, Code::BadEchoRoom, Dropped),
        Row("another room and another echo", F("send_msg:wrong-room=7:echo=other"), Ambiguous, Code::BadEchoRoom, Dropped),
    ])
    .await;
}

#[rustfmt::skip]
#[tokio::test]
async fn a_2xx_that_says_no_is_rejected() {
    const ERROR: &str = r#"{"error":"no such room"}"#;
    const ERROR_MSG: &str = r#"{"errorMsg":"no such room"}"#;
    const FALSE_500: &str = r#"{"success":false,"code":500}"#;
    const BOTH: &str = r#"{"code":422,"success":true,"message":{"id":9,"room_id":1536,"message":"m"}}"#;
    check(&[
        Row("success false", F("send_msg:success=false:unapplied"), Rejected, Code::SuccessFalse, Kept),
        Row("success \"false\"", F("send_msg:success=\"false\":unapplied"), Rejected, Code::SuccessFalse, Kept),
        Row("success 0", F("send_msg:success=0:unapplied"), Rejected, Code::SuccessFalse, Kept),
        Row("success \"0\"", F("send_msg:success=\"0\":unapplied"), Rejected, Code::SuccessFalse, Kept),
        Row("success \"\"", F("send_msg:success=\"\":unapplied"), Rejected, Code::SuccessFalse, Kept),
        Row("error", Says(200, ERROR), Rejected, Code::BodyError, Kept),
        Row("errorMsg", Says(200, ERROR_MSG), Rejected, Code::BodyError, Kept),
        Row("code 400", F("send_msg:code=400"), Rejected, Code::Body4xx, Kept),
        Row("code 401", F("send_msg:code=401"), Rejected, Code::Body401, Kept),
        Row("code 403", F("send_msg:code=403"), Rejected, Code::Body403, Kept),
        Row("code 404", F("send_msg:code=404"), Rejected, Code::Body4xx, Kept),
        Row("code 408", F("send_msg:code=408"), Ambiguous, Code::Body408, Dropped),
        Row("code 422", F("send_msg:code=422"), Rejected, Code::Body4xx, Kept),
        Row("code 425", F("send_msg:code=425"), Rejected, Code::Body429, Kept),
        Row("code 429", F("send_msg:code=429"), Rejected, Code::Body429, Kept),
        Row("code 500", F("send_msg:code=500"), Ambiguous, Code::Body5xx, Dropped),
        Row("code 520", F("send_msg:code=520"), Ambiguous, Code::Body5xx, Dropped),
        Row("success false with code 500", Says(200, FALSE_500), Ambiguous, Code::Body5xx, Dropped),
        Row("a refusal that confirms", Says(200, BOTH), Ambiguous, Code::Contradictory, Dropped),
        Row("a 404 that confirms", Says(404, BOTH), Ambiguous, Code::Contradictory, Dropped),
    ])
    .await;
    for code in ["401", "403"] {
        let advice = advice(F(if code == "401" { "send_msg:code=401" } else { "send_msg:code=403" }));
        assert_eq!(advice.await, Advice::CheckCredentials, "code {code}");
    }
    assert_eq!(advice(Says(200, ERROR)).await, Advice::Permanent);
    assert_eq!(advice(F("send_msg:success=false:unapplied")).await, Advice::Permanent);
    assert_eq!(advice(F("send_msg:code=422")).await, Advice::Permanent);
}

#[rustfmt::skip]
#[tokio::test]
async fn a_2xx_that_cannot_be_understood_is_ambiguous() {
    const TWO: &str = r#"{"success":true,"message":{"id":9,"room_id":1536}}{"success":true}"#;
    const HALF: &str = r#"{"success":true,"message":{"id":9,"room_id":1536"#;
    check(&[
        Row("204", F("send_msg:status=204:body=@empty"), Ambiguous, Code::ReplyEmpty, Dropped),
        Row("empty", F("send_msg:body=@empty"), Ambiguous, Code::ReplyEmpty, Dropped),
        Row("blank", Says(200, " \r\n\t"), Ambiguous, Code::ReplyEmpty, Dropped),
        Row("HTML", F("send_msg:body=@html"), Ambiguous, Code::ReplyNotJson, Dropped),
        Row("HTML that says it is JSON", F("send_msg:body=@html:type=application/json"), Ambiguous, Code::ReplyNotJson, Dropped),
        Row("HTML, although applied", F("send_msg:body=@html:applied"), Ambiguous, Code::ReplyNotJson, Dropped),
        Row("bare text", F("send_msg:body=@die"), Ambiguous, Code::ReplyNotJson, Dropped),
        Row("null", Says(200, "null"), Ambiguous, Code::ReplyNotJson, Dropped),
        Row("a list", Says(200, "[]"), Ambiguous, Code::ReplyNotJson, Dropped),
        Row("half an object", Says(200, HALF), Ambiguous, Code::ReplyNotJson, Dropped),
        Row("two objects", Says(200, TWO), Ambiguous, Code::ReplyNotJson, Dropped),
        Row("an empty object", Says(200, "{}"), Ambiguous, Code::ReplyUnclear, Dropped),
        Row("success null", Says(200, r#"{"success":null}"#), Ambiguous, Code::ReplyUnclear, Dropped),
        Row("a code that is no error", Says(200, r#"{"code":200}"#), Ambiguous, Code::ReplyUnclear, Dropped),
        Row("gzip unasked", F("send_msg:gzip"), Ambiguous, Code::ReplyEncoding, Dropped),
        Row("gzip in gzip", F("send_msg:gzip:gzip"), Ambiguous, Code::ReplyEncoding, Dropped),
        Row("a gzip bomb", F("send_msg:gzip-bomb=1GiB"), Ambiguous, Code::ReplyEncoding, Dropped),
        Row("another coding", F("send_msg:header=Content-Encoding=br"), Ambiguous, Code::ReplyEncoding, Dropped),
    ])
    .await;
}

#[tokio::test]
async fn bytes_that_are_no_text_and_bodies_beyond_measure_are_ambiguous() {
    let deep = format!("{{\"success\":true,\"x\":{}", "[".repeat(200_000));
    let long = format!("{{\"success\":true,\"x\":\"{}\"}}", "x".repeat(3 << 20));
    for (name, body, code) in [
        ("not UTF-8", b"\xff\xfe{\x00\"".to_vec(), Code::ReplyNotJson),
        ("too deep", deep.into_bytes(), Code::ReplyNotJson),
        ("too long", long.into_bytes(), Code::ReplyTooLarge),
    ] {
        let stage = Stage::set().await;
        let kind = FaultKind::Body(Canned::Bytes(body.into()));
        stage.simulator.faults().push(Fault::new(Matcher::on(Endpoint::SendMsg), kind));
        let outcome = stage.send("first", 1).await;
        assert_eq!((outcome.class, outcome.code), (Ambiguous, code), "{name}: {outcome:?}");
        assert_eq!(stage.send("second", 1).await.class, Delivered, "{name}");
        let heard = stage.server.heard();
        let connections: Vec<_> = heard.requests.iter().map(|r| r.connection).collect();
        assert_eq!(connections, [0, 1], "{name}");
    }
}

#[rustfmt::skip]
#[tokio::test]
async fn a_4xx_is_rejected_for_good() {
    check(&[
        Row("400", F("send_msg:status=400"), Rejected, Code::Http4xx, Kept),
        Row("402", F("send_msg:status=402"), Rejected, Code::Http4xx, Kept),
        Row("404", F("send_msg:status=404"), Rejected, Code::Http4xx, Kept),
        Row("404 in HTML", F("send_msg:status=404:body=@html"), Rejected, Code::Http4xx, Kept),
        Row("405", F("send_msg:status=405"), Rejected, Code::Http4xx, Kept),
        Row("406", F("send_msg:status=406"), Rejected, Code::Http4xx, Kept),
        Row("407", F("send_msg:status=407"), Rejected, Code::Http4xx, Kept),
        Row("409", F("send_msg:status=409"), Rejected, Code::Http4xx, Kept),
        Row("410", F("send_msg:status=410"), Rejected, Code::Http4xx, Kept),
        Row("411", F("send_msg:status=411"), Rejected, Code::Http4xx, Kept),
        Row("412", F("send_msg:status=412"), Rejected, Code::Http4xx, Kept),
        Row("413", F("send_msg:status=413"), Rejected, Code::Http4xx, Kept),
        Row("414", F("send_msg:status=414"), Rejected, Code::Http4xx, Kept),
        Row("415", F("send_msg:status=415"), Rejected, Code::Http4xx, Kept),
        Row("417", F("send_msg:status=417"), Rejected, Code::Http4xx, Kept),
        Row("418", F("send_msg:status=418"), Rejected, Code::Http4xx, Kept),
        Row("421", F("send_msg:status=421"), Rejected, Code::Http4xx, Kept),
        Row("422", F("send_msg:status=422"), Rejected, Code::Http4xx, Kept),
        Row("423", F("send_msg:status=423"), Rejected, Code::Http4xx, Kept),
        Row("426", F("send_msg:status=426"), Rejected, Code::Http4xx, Kept),
        Row("428", F("send_msg:status=428"), Rejected, Code::Http4xx, Kept),
        Row("431", F("send_msg:status=431"), Rejected, Code::Http4xx, Kept),
        Row("451", F("send_msg:status=451"), Rejected, Code::Http4xx, Kept),
        Row("499", F("send_msg:status=499"), Rejected, Code::Http4xx, Kept),
    ])
    .await;
    assert_eq!(advice(F("send_msg:status=422")).await, Advice::Permanent);
}

#[rustfmt::skip]
#[tokio::test]
async fn a_401_or_403_is_rejected_and_asks_for_a_look_at_the_credentials() {
    check(&[
        Row("401", F("send_msg:status=401"), Rejected, Code::Http401, Kept),
        Row("401 in HTML", F("send_msg:status=401:body=@html"), Rejected, Code::Http401, Kept),
        Row("403", F("send_msg:status=403"), Rejected, Code::Http403, Kept),
        Row("403, empty", F("send_msg:status=403:body=@empty"), Rejected, Code::Http403, Kept),
    ])
    .await;
    assert_eq!(advice(F("send_msg:status=401")).await, Advice::CheckCredentials);
    assert_eq!(advice(F("send_msg:status=403")).await, Advice::CheckCredentials);
}

#[rustfmt::skip]
#[tokio::test]
async fn a_429_or_425_is_rejected_and_says_how_long_to_wait() {
    check(&[
        Row("429", F("send_msg:status=429"), Rejected, Code::Http429, Kept),
        Row("429 with Retry-After", F("send_msg:status=429:retry-after=7"), Rejected, Code::Http429, Kept),
        Row("425", F("send_msg:status=425"), Rejected, Code::Http429, Kept),
        Row("425 with Retry-After", F("send_msg:status=425:retry-after=7"), Rejected, Code::Http429, Kept),
    ])
    .await;
    let seconds = |n| Advice::RetryAfter(Some(Duration::from_secs(n)));
    assert_eq!(advice(F("send_msg:status=429")).await, Advice::RetryAfter(None));
    assert_eq!(advice(F("send_msg:status=429:retry-after=7")).await, seconds(7));
    assert_eq!(advice(F("send_msg:status=425:retry-after=7")).await, seconds(7));
    assert_eq!(advice(F("send_msg:status=429:retry-after=0")).await, seconds(1));
    assert_eq!(advice(F("send_msg:status=429:retry-after=86400")).await, seconds(3600));
    assert_eq!(advice(F("send_msg:code=429:retry-after=7")).await, seconds(7));
    let dated = F("send_msg:status=429:retry-after=Thu, 31 Dec 2099 23\\:59\\:59 GMT");
    assert_eq!(advice(dated).await, seconds(3600));
}

#[rustfmt::skip]
#[tokio::test]
async fn a_408_or_5xx_is_ambiguous() {
    check(&[
        Row("408", F("send_msg:status=408"), Ambiguous, Code::Http408, Dropped),
        Row("500", F("send_msg:status=500"), Ambiguous, Code::Http5xx, Dropped),
        Row("500, although applied", F("send_msg:status=500:applied"), Ambiguous, Code::Http5xx, Dropped),
        Row("501", F("send_msg:status=501"), Ambiguous, Code::Http5xx, Dropped),
        Row("502", F("send_msg:status=502"), Ambiguous, Code::Http5xx, Dropped),
        Row("502, although applied", F("send_msg:status=502:applied"), Ambiguous, Code::Http5xx, Dropped),
        Row("503", F("send_msg:status=503"), Ambiguous, Code::Http5xx, Dropped),
        Row("503 with Retry-After", F("send_msg:status=503:retry-after=9"), Ambiguous, Code::Http5xx, Dropped),
        Row("504", F("send_msg:status=504"), Ambiguous, Code::Http5xx, Dropped),
        Row("504, although applied", F("send_msg:status=504:applied"), Ambiguous, Code::Http5xx, Dropped),
        Row("505", F("send_msg:status=505"), Ambiguous, Code::Http5xx, Dropped),
        Row("507", F("send_msg:status=507"), Ambiguous, Code::Http5xx, Dropped),
        Row("511", F("send_msg:status=511"), Ambiguous, Code::Http5xx, Dropped),
        Row("520", F("send_msg:status=520"), Ambiguous, Code::Http5xx, Dropped),
        Row("521", F("send_msg:status=521"), Ambiguous, Code::Http5xx, Dropped),
        Row("522", F("send_msg:status=522"), Ambiguous, Code::Http5xx, Dropped),
        Row("523", F("send_msg:status=523"), Ambiguous, Code::Http5xx, Dropped),
        Row("524", F("send_msg:status=524"), Ambiguous, Code::Http5xx, Dropped),
        Row("525", F("send_msg:status=525"), Ambiguous, Code::Http5xx, Dropped),
        Row("526", F("send_msg:status=526"), Ambiguous, Code::Http5xx, Dropped),
        Row("599", F("send_msg:status=599"), Ambiguous, Code::Http5xx, Dropped),
    ])
    .await;
}

#[rustfmt::skip]
#[tokio::test]
async fn a_status_of_which_the_operator_knows_better_is_rejected_and_tried_again() {
    let rules = ClassifyRules { not_applied_statuses: vec![408, 503, 521, 302] };
    check_with(&[
        Row("408, listed", F("send_msg:status=408"), Rejected, Code::NotApplied, Kept),
        Row("503, listed", F("send_msg:status=503:retry-after=9"), Rejected, Code::NotApplied, Kept),
        Row("521, listed", F("send_msg:status=521"), Rejected, Code::NotApplied, Kept),
        Row("302, listed", F("send_msg:status=302"), Rejected, Code::NotApplied, Kept),
        Row("code 503, listed", F("send_msg:code=503"), Rejected, Code::NotApplied, Kept),
        Row("502, not listed", F("send_msg:status=502"), Ambiguous, Code::Http5xx, Dropped),
        Row("303, not listed", F("send_msg:status=303"), Ambiguous, Code::Http3xx, Dropped),
        Row("429 needs no listing", F("send_msg:status=429"), Rejected, Code::Http429, Kept),
    ], &rules, Duration::from_secs(10))
    .await;
    let outcome = outcome(F("send_msg:status=503:retry-after=9"), rules).await;
    assert_eq!(outcome.advice, Advice::RetryAfter(Some(Duration::from_secs(9))));
}

#[rustfmt::skip]
#[tokio::test]
async fn a_redirect_is_rejected_or_after_the_deed_ambiguous() {
    check(&[
        Row("301", F("send_msg:status=301:location=http://127.0.0.1\\:1/x"), Rejected, Code::Redirect, Kept),
        Row("307", F("send_msg:status=307:location=http://127.0.0.1\\:1/x"), Rejected, Code::Redirect, Kept),
        Row("308", F("send_msg:status=308:location=http://127.0.0.1\\:1/x"), Rejected, Code::Redirect, Kept),
        Row("308 to nowhere", F("send_msg:status=308"), Rejected, Code::Redirect, Kept),
        Row("300", F("send_msg:status=300"), Ambiguous, Code::Http3xx, Dropped),
        Row("302", F("send_msg:status=302:location=http://127.0.0.1\\:1/x:applied"), Ambiguous, Code::Http3xx, Dropped),
        Row("303", F("send_msg:status=303:location=http://127.0.0.1\\:1/x:applied"), Ambiguous, Code::Http3xx, Dropped),
        Row("304", F("send_msg:status=304:body=@empty"), Ambiguous, Code::Http3xx, Dropped),
        Row("399", F("send_msg:status=399"), Ambiguous, Code::Http3xx, Dropped),
    ])
    .await;
    let origin = "https://elsewhere.example:8443".to_owned();
    let to = F("send_msg:status=301:location=https://u\\:p@elsewhere.example\\:8443/a?token=b");
    assert_eq!(advice(to).await, Advice::Redirect { origin });
}
