//! The very bytes that curl 7.88 and PHP 8.2 send for the vendor's samples, recorded, through the
//! loopback door.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod common;

use common::{Client, Seen};
use imbabot_simulator::End;

/// `curl … --form 'user_id="1"' --form 'room_id="1536"' --form 'message="api message"'`.
const CURL_SEND_MSG: &str = concat!(
    "POST /imbachat/v2/627/send_msg HTTP/1.1\r\n",
    "Host: 127.0.0.1:6399\r\n",
    "Authorization: Basic NjI3OnNpbXVsYXRvci1zZWNyZXQ=\r\n",
    "User-Agent: curl/7.88.1\r\n",
    "Accept: */*\r\n",
    "Content-Length: 350\r\n",
    "Content-Type: multipart/form-data; boundary=------------------------3bea455864634070\r\n",
    "\r\n",
    "--------------------------3bea455864634070\r\n",
    "Content-Disposition: form-data; name=\"user_id\"\r\n",
    "\r\n",
    "1\r\n",
    "--------------------------3bea455864634070\r\n",
    "Content-Disposition: form-data; name=\"room_id\"\r\n",
    "\r\n",
    "1536\r\n",
    "--------------------------3bea455864634070\r\n",
    "Content-Disposition: form-data; name=\"message\"\r\n",
    "\r\n",
    "api message\r\n",
    "--------------------------3bea455864634070--\r\n",
);

/// `curl … --form 'imba_id="627"' --form 'status="user"'`.
const CURL_GET_USERS: &str = concat!(
    "POST /imbachat/v2/627/get_users HTTP/1.1\r\n",
    "Host: 127.0.0.1:6399\r\n",
    "Authorization: Basic NjI3OnNpbXVsYXRvci1zZWNyZXQ=\r\n",
    "User-Agent: curl/7.88.1\r\n",
    "Accept: */*\r\n",
    "Content-Length: 244\r\n",
    "Content-Type: multipart/form-data; boundary=------------------------2b2687c7545868d4\r\n",
    "\r\n",
    "--------------------------2b2687c7545868d4\r\n",
    "Content-Disposition: form-data; name=\"imba_id\"\r\n",
    "\r\n",
    "627\r\n",
    "--------------------------2b2687c7545868d4\r\n",
    "Content-Disposition: form-data; name=\"status\"\r\n",
    "\r\n",
    "user\r\n",
    "--------------------------2b2687c7545868d4--\r\n",
);

/// `curl … --form 'imba_id="627"' --form 'room_type="0"'`.
const CURL_GET_ROOMS: &str = concat!(
    "POST /imbachat/v2/627/get_rooms HTTP/1.1\r\n",
    "Host: 127.0.0.1:6399\r\n",
    "Authorization: Basic NjI3OnNpbXVsYXRvci1zZWNyZXQ=\r\n",
    "User-Agent: curl/7.88.1\r\n",
    "Accept: */*\r\n",
    "Content-Length: 244\r\n",
    "Content-Type: multipart/form-data; boundary=------------------------e993911a01f7d008\r\n",
    "\r\n",
    "--------------------------e993911a01f7d008\r\n",
    "Content-Disposition: form-data; name=\"imba_id\"\r\n",
    "\r\n",
    "627\r\n",
    "--------------------------e993911a01f7d008\r\n",
    "Content-Disposition: form-data; name=\"room_type\"\r\n",
    "\r\n",
    "0\r\n",
    "--------------------------e993911a01f7d008--\r\n",
);

/// The vendor's PHP sample, with `CURLOPT_POSTFIELDS => array(…)`.
const PHP_SEND_MSG: &str = concat!(
    "POST /imbachat/v2/627/send_msg HTTP/1.1\r\n",
    "Host: 127.0.0.1:6399\r\n",
    "Authorization: Basic NjI3OnNpbXVsYXRvci1zZWNyZXQ=\r\n",
    "Accept: */*\r\n",
    "Accept-Encoding: deflate, gzip, br, zstd\r\n",
    "Content-Length: 350\r\n",
    "Content-Type: multipart/form-data; boundary=------------------------8309138855e98198\r\n",
    "\r\n",
    "--------------------------8309138855e98198\r\n",
    "Content-Disposition: form-data; name=\"user_id\"\r\n",
    "\r\n",
    "1\r\n",
    "--------------------------8309138855e98198\r\n",
    "Content-Disposition: form-data; name=\"room_id\"\r\n",
    "\r\n",
    "1536\r\n",
    "--------------------------8309138855e98198\r\n",
    "Content-Disposition: form-data; name=\"message\"\r\n",
    "\r\n",
    "api message\r\n",
    "--------------------------8309138855e98198--\r\n",
);

async fn answered(bytes: &str) -> (Seen, imbabot_simulator::LogEntry) {
    let simulator = common::sample();
    let door = common::open(&simulator).await;
    let seen = Client::connect(&door).await.ask(bytes.as_bytes()).await;
    door.shutdown().await;
    assert!(matches!(seen, Seen::Answer { status: 200, then: End::Complete, .. }), "{seen:?}");
    (seen, simulator.log().remove(0))
}

#[tokio::test]
async fn curls_send_msg_posts_the_message() {
    let (seen, entry) = answered(CURL_SEND_MSG).await;
    let message = &seen.json()["message"];
    assert_eq!((&message["message"], &message["room_id"]), (&"api message".into(), &"1536".into()));
    assert_eq!((entry.complete, entry.applied, entry.room), (true, true, Some(1536)));
    assert_eq!((entry.user_id.as_deref(), entry.text.as_deref()), (Some("1"), Some("api message")));
    assert_eq!((entry.delivery, entry.attempt), (None, None));
}

#[tokio::test]
async fn curls_get_users_lists_the_sample_user_although_it_is_an_admin() {
    let (seen, _) = answered(CURL_GET_USERS).await;
    assert_eq!(seen.json()["data"][0]["status"], "admin");
}

#[tokio::test]
async fn curls_get_rooms_lists_rooms_of_all_types() {
    let (seen, _) = answered(CURL_GET_ROOMS).await;
    let kinds: Vec<_> =
        seen.json()["data"].as_array().unwrap().iter().map(|room| room["type"].clone()).collect();
    assert_eq!(kinds, [0, 1, 3]);
}

#[tokio::test]
async fn phps_send_msg_posts_the_message() {
    let (seen, entry) = answered(PHP_SEND_MSG).await;
    assert_eq!(seen.json()["message"]["message"], "api message");
    assert!(entry.applied);
}

#[tokio::test]
async fn one_connection_carries_several_requests() {
    let simulator = common::sample();
    let door = common::open(&simulator).await;
    let mut client = Client::connect(&door).await;
    for request in [CURL_SEND_MSG, CURL_GET_ROOMS, CURL_SEND_MSG, CURL_GET_USERS] {
        let seen = client.ask(request.as_bytes()).await;
        assert!(matches!(seen, Seen::Answer { status: 200, then: End::Complete, .. }), "{seen:?}");
    }
    assert_eq!(simulator.messages(1536).len(), 2);
    assert_eq!(simulator.log().iter().map(|entry| entry.seq).collect::<Vec<_>>(), [1, 2, 3, 4]);
}
