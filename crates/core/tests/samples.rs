//! The samples of the API's page, answered by an in-process transport, through the public API.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on stops")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use imbabot_core::{
    Advice, Api, Class, Credentials, Endpoint, ErrorKind, GetRooms, GetUsers, NetCode, Probe,
    RawElement, Request, Response, RoomId, RoomKind, RoomsAuth, SecretKey, SendMsg, Timestamp,
    Transport, TransportError, UserId, UserStatus,
};

const SECRET: &str = "k3y-of-the-w1dget";

/// Answers in order and remembers what it was asked.
#[derive(Default)]
struct Script {
    answers: Mutex<VecDeque<Result<Response, TransportError>>>,
    asked: Mutex<Vec<Request>>,
}

#[async_trait]
impl Transport for Script {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        self.asked.lock().unwrap().push(request);
        self.answers.lock().unwrap().pop_front().expect("no answer is left")
    }
}

fn api(answers: impl IntoIterator<Item = Result<Response, TransportError>>) -> (Api, Arc<Script>) {
    let script = Arc::new(Script::default());
    script.answers.lock().unwrap().extend(answers);
    let credentials = Credentials::new(627.into(), SecretKey::parse(SECRET).unwrap());
    (Api::new(script.clone(), credentials), script)
}

fn ok(body: &str) -> Result<Response, TransportError> {
    Ok(Response::full(200, vec![], body.to_owned()))
}

fn run<T>(future: impl Future<Output = T> + Send) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn body_of(request: &Request) -> String {
    String::from_utf8(request.body.to_vec()).unwrap()
}

const ROOMS: &str = include_str!("fixtures/get_rooms.response.json");
const USERS: &str = include_str!("fixtures/get_users.response.json");
const SENT: &str = include_str!("fixtures/send_msg.response.json");

#[test]
fn the_sample_of_get_rooms_is_two_rooms_in_ascending_order() {
    let (api, script) = api([ok(ROOMS)]);
    let list = run(api.rooms(&GetRooms::new())).unwrap();
    let rooms: Vec<_> = list.items.iter().map(|r| (r.id, r.name.as_str(), r.kind)).collect();
    assert_eq!(
        rooms,
        [
            (RoomId(1314), "New conversation", RoomKind::Dialogue),
            (RoomId(1853), "Technical support", RoomKind::Support),
        ]
    );
    assert_eq!((list.summary.elements, list.summary.code, list.summary.pages), (2, Some(200), 1));
    assert_eq!(list.summary.bytes, ROOMS.len() as u64);
    assert!(list.quarantined.is_empty() && list.duplicates == 0 && !list.summary.salvaged);

    let asked = script.asked.lock().unwrap();
    assert_eq!(asked[0].endpoint, Endpoint::GetRooms);
    assert_eq!(asked[0].path, "/imbachat/v2/627/get_rooms");
    // printf '627:k3y-of-the-w1dget' | base64
    assert_eq!(asked[0].header("authorization"), Some("Basic NjI3OmszeS1vZi10aGUtdzFkZ2V0"));
    assert!(body_of(&asked[0]).contains("name=\"imba_id\"\r\n\r\n627\r\n"));
}

#[test]
fn a_filter_that_the_server_ignores_is_applied_here() {
    let (api, script) = api([ok(ROOMS)]);
    let mut request = GetRooms::new();
    request.room_type = Some(RoomKind::Dialogue);
    let list = run(api.rooms(&request)).unwrap();
    assert_eq!((list.items.len(), list.items[0].id, list.filtered), (1, RoomId(1314), 1));
    assert!(body_of(&script.asked.lock().unwrap()[0]).contains("name=\"room_type\"\r\n\r\n0\r\n"));
}

#[test]
fn the_sample_of_get_users_is_one_admin() {
    let (api, script) = api([ok(USERS), ok(USERS)]);
    let list = run(api.users(&GetUsers::new())).unwrap();
    assert_eq!(list.items.len(), 1);
    let user = &list.items[0];
    assert_eq!((user.id, &user.site_user_id), (UserId(2046), &Some(1.into())));
    assert_eq!((&user.login, &user.status), (&None, &UserStatus::Admin));
    // The page's own question: status=user. Its answer: an admin.
    let mut request = GetUsers::new();
    request.status = Some(UserStatus::User);
    assert_eq!(run(api.users(&request)).unwrap().filtered, 1);
    assert!(body_of(&script.asked.lock().unwrap()[1]).contains("name=\"status\"\r\n\r\nuser\r\n"));
}

#[test]
fn the_sample_of_send_msg_is_delivered() {
    let (api, script) = api([ok(SENT)]);
    let message =
        SendMsg::new(1.into(), RoomId(1536), "api message").with_delivery("d41d8cd9\r\n8f", 2);
    let outcome = run(api.send_msg(&message));
    assert_eq!((outcome.class, outcome.code.as_str()), (Class::Delivered, "accepted"));
    let message = outcome.receipt.unwrap().message;
    assert_eq!((message.id.0, message.user_id), (4543, Some(UserId(2046))));
    assert_eq!(message.time, Some(Timestamp::from_seconds(1_608_275_827)));

    let asked = script.asked.lock().unwrap();
    assert_eq!(asked[0].path, "/imbachat/v2/627/send_msg");
    assert_eq!(asked[0].header("x-imbabot-delivery"), Some("d41d8cd98f"));
    assert_eq!(asked[0].header("x-imbabot-attempt"), Some("2"));
    let body = body_of(&asked[0]);
    let names: Vec<_> =
        body.split("name=\"").skip(1).map(|p| p.split('"').next().unwrap()).collect();
    assert_eq!(names, ["user_id", "room_id", "message"]);
}

#[test]
fn rooms_can_be_asked_for_as_a_user() {
    let (api, script) = api([ok(ROOMS)]);
    let mut request = GetRooms::new();
    request.auth = RoomsAuth::Jwt { user: 7.into(), expires: Timestamp::from_seconds(60) };
    run(api.rooms(&request)).unwrap();
    let asked = script.asked.lock().unwrap();
    assert_eq!(asked[0].header("authorization"), None);
    assert_eq!(asked[0].header("jwt").unwrap().split('.').count(), 3);
    assert!(!format!("{:?}", asked[0]).contains(asked[0].header("jwt").unwrap()));
}

#[test]
fn one_bad_row_is_set_aside_and_the_last_of_two_counts() {
    let body = r#"{"success":true,"data":[{"id":1,"name":"old"},{"id":"x"},{"id":3,"deleted_at":"2020-01-01 00:00:00"},
        17,{"id":1,"name":"new"}]}"#;
    let (api, _) = api([ok(body)]);
    let list = run(api.rooms(&GetRooms::new())).unwrap();
    assert_eq!((list.items.len(), list.items[0].name.as_str()), (1, "new"));
    assert_eq!((list.duplicates, list.deleted, list.quarantined.len()), (1, 1, 2));
    let offset = usize::try_from(list.quarantined[0].offset).unwrap();
    assert!(body[offset..].starts_with("{\"id\":\"x\"}"));
}

#[test]
fn pages_are_asked_for_until_the_last() {
    let page = |n: u64| {
        let next =
            if n < 3 { format!("\"/get_rooms?page={}&imba_id=1\"", n + 1) } else { "null".into() };
        ok(&format!(
            r#"{{"success":true,"data":{{"current_page":{n},"data":[{{"id":{n}}}],"next_page_url":{next}}}}}"#
        ))
    };
    let (asked_api, script) = api([page(1), page(2), page(3)]);
    let list = run(asked_api.rooms(&GetRooms::new())).unwrap();
    assert_eq!((list.items.len(), list.summary.pages), (3, 3));
    let asked = script.asked.lock().unwrap();
    assert!(!body_of(&asked[0]).contains("name=\"page\""));
    assert!(body_of(&asked[2]).contains("name=\"page\"\r\n\r\n3\r\n"));
    assert!(!body_of(&asked[2]).contains("\r\n1\r\n"), "the widget is ours to name");
    assert_eq!(asked[2].path, "/imbachat/v2/627/get_rooms?page=3");

    let (deaf, _) = api([page(1), page(1), page(1)]);
    let error = run(deaf.rooms(&GetRooms::new())).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::EndlessPages);
    let said = "the pages of the list do not come to an end: on page 2: page 2 was asked for and page 1 came";
    assert_eq!(error.to_string(), said);

    let failing = Ok(Response::full(500, vec![], ""));
    let (broken, _) = api([page(1), failing]);
    let error = run(broken.rooms(&GetRooms::new())).unwrap_err();
    assert_eq!(error.to_string(), "the server answered HTTP 500: on page 2");

    // What is allowed, is allowed for all pages together.
    let (large, _) = api([page(1), page(2), page(3)]);
    let mut options = large.options().clone();
    options.max_list = 250;
    let error = run(large.with_options(options).rooms(&GetRooms::new())).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::TooLarge);
}

#[test]
fn a_list_whose_next_page_lies_elsewhere_is_no_list_and_nobody_else_is_asked() {
    let page = r#"{"success":true,"data":[{"id":1}],"links":{"next":"https://elsewhere.example/?page=2"},"meta":{"current_page":1,"total":9}}"#;
    let (api, script) = api([ok(page)]);
    let error = run(api.rooms(&GetRooms::new())).unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (&ErrorKind::PagesElsewhere, "IMB-LIST-PAGES-ELSEWHERE")
    );
    assert!(error.to_string().ends_with(": https://elsewhere.example"), "{error}");
    assert_eq!(script.asked.lock().unwrap().len(), 1);
}

#[test]
fn a_list_that_is_cut_or_too_large_is_an_error() {
    let half = Bytes::from(&ROOMS.as_bytes()[..500]);
    let cut = TransportError::new(NetCode::BodyCut, "");
    let (cut_api, _) = api([Ok(Response::chunks(200, vec![], [Ok(half.clone()), Err(cut)]))]);
    assert_eq!(run(cut_api.rooms(&GetRooms::new())).unwrap_err().kind(), &ErrorKind::Truncated);
    let (short, _) = api([Ok(Response::full(200, vec![], half))]);
    assert_eq!(run(short.rooms(&GetRooms::new())).unwrap_err().kind(), &ErrorKind::Truncated);
    let (large, _) = api([ok(ROOMS)]);
    let mut options = large.options().clone();
    options.max_list = 100;
    let error = run(large.with_options(options).rooms(&GetRooms::new())).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::TooLarge);
}

#[test]
fn a_status_and_a_redirect_are_errors_with_their_words() {
    let headers = vec![("retry-after".to_owned(), "9".to_owned())];
    let (busy, _) = api([Ok(Response::full(429, headers, r#"{"error":"slow down"}"#))]);
    let error = run(busy.rooms(&GetRooms::new())).unwrap_err();
    assert_eq!(error.to_string(), "the server answered HTTP 429: slow down");
    assert!(error.is_rate_limit() && error.retry_after().unwrap().as_secs() == 9);

    let headers = vec![("location".to_owned(), "https://new.example/x?y=z".to_owned())];
    let (moved, _) = api([Ok(Response::full(301, headers, ""))]);
    let error = run(moved.rooms(&GetRooms::new())).unwrap_err();
    assert!(error.is_redirect());
    assert!(error.to_string().contains("https://new.example;"), "{error}");
}

#[test]
fn the_probe_reads_no_further_than_it_has_to() {
    // The first piece decides; the transport would fail at the second.
    let cut = TransportError::new(NetCode::BodyCut, "");
    let head = Bytes::from_static(b"{\"success\":\"true\",\"data\":[{");
    let (good, _) = api([Ok(Response::chunks(200, vec![], [Ok(head), Err(cut)]))]);
    assert_eq!(run(good.probe_credentials()), Probe::Accepted);
    let (refused, _) = api([ok(r#"{"code":403,"error":"no"}"#)]);
    assert!(matches!(run(refused.probe_credentials()), Probe::Refused(_)));
    let (refused, _) = api([Ok(Response::full(401, vec![], ""))]);
    assert!(matches!(run(refused.probe_credentials()), Probe::Refused(_)));
    let (down, _) = api([Err(TransportError::new(NetCode::Refused, "x"))]);
    assert!(matches!(run(down.probe_credentials()), Probe::Undecided(_)));
}

#[test]
fn a_server_that_repeats_the_key_does_not_bring_it_into_our_words() {
    let basic = "Basic NjI3OmszeS1vZi10aGUtdzFkZ2V0";
    for leak in [SECRET, basic] {
        let body = format!("<pre>Authorization: {leak}</pre>");
        let answer = || Ok(Response::full(500, vec![], body.clone()));
        let (leaky, _) = api([answer(), answer()]);
        let outcome = run(leaky.send_msg(&SendMsg::new(1.into(), RoomId(1), "x")));
        assert_eq!(outcome.class, Class::Ambiguous);
        assert!(outcome.detail.starts_with("(withheld"), "{}", outcome.detail);
        let error = run(leaky.rooms(&GetRooms::new())).unwrap_err();
        assert!(error.message().starts_with("(withheld"), "{error}");
    }
}

#[test]
fn an_elements_bytes_are_handed_on_as_they_came() {
    let (api, _) = api([ok(ROOMS)]);
    let mut elements = Vec::new();
    let mut sink = |element: RawElement<'_>| {
        elements.push((element.bytes.to_vec(), element.offset));
        std::ops::ControlFlow::Continue(())
    };
    run(api.list_rooms(&GetRooms::new(), &mut sink)).unwrap();
    for (bytes, offset) in elements {
        let offset = usize::try_from(offset).unwrap();
        assert_eq!(&ROOMS.as_bytes()[offset..offset + bytes.len()], bytes);
    }
}

#[test]
fn a_failed_attempt_says_whether_anything_left() {
    let (api, _) = api([
        Err(TransportError::new(NetCode::Refused, "chat.example")),
        Err(TransportError::new(NetCode::Interrupted, "chat.example")),
    ]);
    let message = SendMsg::new(1.into(), RoomId(1), "x");
    let refused = run(api.send_msg(&message));
    assert_eq!((refused.class, refused.advice), (Class::NotSent, Advice::Backoff));
    assert_eq!(refused.detail, "connection refused: chat.example");
    assert_eq!(run(api.send_msg(&message)).class, Class::Ambiguous);
}
