//! `HttpTransport` over real sockets, against a server of a few lines that does exactly what it is
//! told: answer, cut, reset, or say nothing.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod server;

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use imbabot_core::{
    Advice, Api, BaseUrl, Class, Credentials, ErrorKind, GetRooms, HttpSettings, HttpTransport,
    OutcomeCode, SecretKey,
};
use server::{Deed, LIST, OK, accepted, api, api_with, check, http, send, server, settings};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

#[tokio::test]
async fn a_post_looks_on_the_wire_as_curl_sends_it() {
    let mut server = server(vec![accepted()]).await;
    check(&send(&api(server.address)).await, Class::Delivered, OutcomeCode::Accepted);
    let request = server.requests.recv().await.unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    assert_eq!(lines.next(), Some("POST /prefix/imbachat/v2/627/send_msg HTTP/1.1"));
    let header = |name: &str| {
        let line = head.lines().find(|l| l.to_lowercase().starts_with(&format!("{name}: ")));
        line.map(|l| l.split_once(": ").unwrap().1.to_owned())
    };
    // printf '627:the-real-key' | base64
    assert_eq!(header("authorization").as_deref(), Some("Basic NjI3OnRoZS1yZWFsLWtleQ=="));
    assert_eq!(header("user-agent").unwrap(), concat!("imbabot/", env!("CARGO_PKG_VERSION")));
    assert_eq!(header("accept-encoding").as_deref(), Some("identity"));
    assert_eq!(header("x-imbabot-delivery").as_deref(), Some("d1"));
    assert_eq!(header("content-length").unwrap(), body.len().to_string());
    assert_eq!(header("transfer-encoding"), None);
    for absent in ["cookie", "referer", "expect"] {
        assert_eq!(header(absent), None);
    }
    let content_type = header("content-type").unwrap();
    let boundary = content_type.strip_prefix("multipart/form-data; boundary=").unwrap();
    let parts: Vec<_> = body.split(&format!("--{boundary}")).collect();
    assert_eq!(parts.len(), 5);
    assert_eq!(parts[1], "\r\nContent-Disposition: form-data; name=\"user_id\"\r\n\r\n1\r\n");
    assert_eq!(parts[2], "\r\nContent-Disposition: form-data; name=\"room_id\"\r\n\r\n5\r\n");
    assert_eq!(parts[3], "\r\nContent-Disposition: form-data; name=\"message\"\r\n\r\nhello\r\n");
    assert_eq!((parts[0], parts[4]), ("", "--\r\n"));
}

#[tokio::test]
async fn n1_a_closed_port_is_not_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let outcome = send(&api(address)).await;
    check(&outcome, Class::NotSent, OutcomeCode::ConnectRefused);
    assert_eq!(outcome.detail, "connection refused: 127.0.0.1: Connection refused (os error 111)");
    assert_eq!(outcome.advice, Advice::Backoff);
}

#[tokio::test]
async fn n2_a_name_that_does_not_exist_is_not_sent() {
    let base_url = BaseUrl::parse("http://nobody.invalid:1", true).unwrap();
    let outcome = send(&api_with(HttpSettings::new(base_url))).await;
    check(&outcome, Class::NotSent, OutcomeCode::Dns);
}

#[tokio::test]
async fn h9_tls_to_a_server_without_it_is_not_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let base_url = BaseUrl::parse(&format!("https://{address}"), false).unwrap();
    let mut settings = HttpSettings::new(base_url);
    // A self-made certificate, so that this passes where the system has none.
    settings.ca_pem = Some(include_bytes!("fixtures/ca.pem").to_vec());
    #[expect(clippy::disallowed_methods, reason = "the other end of a socket")]
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    });
    check(&send(&api_with(settings)).await, Class::NotSent, OutcomeCode::Tls);
}

#[tokio::test]
async fn n6_a_reset_or_an_end_after_the_request_is_ambiguous_and_not_repeated() {
    for deed in [Deed::Reset, Deed::Close] {
        let mut server = server(vec![deed, accepted(), accepted()]).await;
        let outcome = send(&api(server.address)).await;
        check(&outcome, Class::Ambiguous, OutcomeCode::ConnectionLost);
        assert!(server.requests.recv().await.is_some());
        assert!(server.requests.try_recv().is_err(), "the request came twice");
    }
}

#[tokio::test]
async fn n6_a_reset_on_a_used_connection_is_ambiguous_and_not_repeated() {
    let mut server = server(vec![accepted(), Deed::Reset, accepted()]).await;
    let api = api(server.address);
    check(&send(&api).await, Class::Delivered, OutcomeCode::Accepted);
    check(&send(&api).await, Class::Ambiguous, OutcomeCode::ConnectionLost);
    assert!(server.requests.recv().await.is_some() && server.requests.recv().await.is_some());
    assert!(server.requests.try_recv().is_err(), "the request came twice");
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn garbage_and_a_lone_100_are_ambiguous() {
    for bytes in ["SSH-2.0-OpenSSH\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\n"] {
        let server = server(vec![Deed::Last(bytes.into())]).await;
        check(&send(&api(server.address)).await, Class::Ambiguous, OutcomeCode::ConnectionLost);
    }
}

#[tokio::test]
async fn n9_silence_is_ambiguous_after_the_timeout() {
    let server = server(vec![Deed::Silence]).await;
    let mut settings = settings(server.address);
    settings.send_timeout = Duration::from_millis(80);
    check(&send(&api_with(settings)).await, Class::Ambiguous, OutcomeCode::NoAnswer);
}

#[tokio::test]
async fn n7_a_cut_answer_is_ambiguous() {
    let whole = http("200 OK", "", OK.as_bytes());
    let cut = whole[..whole.len() - 5].to_vec();
    let server = server(vec![Deed::Last(cut)]).await;
    check(&send(&api(server.address)).await, Class::Ambiguous, OutcomeCode::ReplyCut);
}

#[tokio::test]
async fn an_endless_answer_is_ambiguous_and_ends() {
    let server = server(vec![Deed::Answer(http("200 OK", "", &vec![b' '; 3_000_000]))]).await;
    check(&send(&api(server.address)).await, Class::Ambiguous, OutcomeCode::ReplyTooLarge);
}

#[tokio::test]
async fn h1_h2_a_redirect_is_not_followed() {
    let mut elsewhere = server(vec![accepted(), accepted()]).await;
    let to = format!("Location: http://{}/x?y=z\r\n", elsewhere.address);
    let answers = ["301 Moved", "307 Temporary", "308 Moved", "302 Found", "303 Other"]
        .map(|s| Deed::Answer(http(s, &to, b"")));
    let server = server(answers.to_vec()).await;
    let api = api(server.address);
    let origin = format!("http://{}", elsewhere.address);
    for _ in 0..3 {
        let outcome = send(&api).await;
        check(&outcome, Class::Rejected, OutcomeCode::Redirect);
        assert_eq!(outcome.advice, Advice::Redirect { origin: origin.clone() });
    }
    for _ in 0..2 {
        check(&send(&api).await, Class::Ambiguous, OutcomeCode::Http3xx);
    }
    assert_eq!(elsewhere.connections.load(Ordering::SeqCst), 0);
    assert!(elsewhere.requests.try_recv().is_err());
}

#[tokio::test]
async fn a_good_connection_is_used_again() {
    let server = server(vec![accepted(), accepted(), accepted()]).await;
    let api = api(server.address);
    for _ in 0..3 {
        check(&send(&api).await, Class::Delivered, OutcomeCode::Accepted);
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn after_an_odd_answer_the_next_request_takes_a_new_connection() {
    let other_room = OK.replace(":5,", ":6,");
    let server = server(vec![
        Deed::Answer(http("200 OK", "", other_room.as_bytes())),
        accepted(),
        Deed::Answer(http("200 OK", "", b"<html>")),
        accepted(),
        accepted(),
    ])
    .await;
    let api = api(server.address);
    check(&send(&api).await, Class::Ambiguous, OutcomeCode::BadEchoRoom);
    check(&send(&api).await, Class::Delivered, OutcomeCode::Accepted);
    assert_eq!(server.connections.load(Ordering::SeqCst), 2);
    check(&send(&api).await, Class::Ambiguous, OutcomeCode::ReplyNotJson);
    check(&send(&api).await, Class::Delivered, OutcomeCode::Accepted);
    check(&send(&api).await, Class::Delivered, OutcomeCode::Accepted);
    assert_eq!(server.connections.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_refresh_takes_a_new_connection() {
    let server = server(vec![accepted(), accepted()]).await;
    let transport = Arc::new(HttpTransport::new(settings(server.address)).unwrap());
    let secret = SecretKey::parse("the-real-key").unwrap();
    let api = Api::new(transport.clone(), Credentials::new(627.into(), secret));
    send(&api).await;
    transport.refresh();
    send(&api).await;
    assert_eq!(server.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn h18_cookies_and_other_wishes_of_the_server_are_not_kept() {
    let elsewhere = server(vec![accepted(), accepted()]).await;
    let port = elsewhere.address.port();
    let wishes = format!(
        "Set-Cookie: a=b\r\nSet-Cookie: c=d; Path=/; Secure\r\nAlt-Svc: http/1.1=\":{port}\"; ma=86400\r\n\
         Strict-Transport-Security: max-age=31536000; includeSubDomains\r\n\
         Refresh: 0; url=http://127.0.0.1:{port}/\r\nLink: <http://127.0.0.1:{port}/>; rel=preload\r\n\
         Content-Location: http://127.0.0.1:{port}/\r\nAccept-CH: DPR\r\n"
    );
    let wishing = || Deed::Answer(http("200 OK", &wishes, OK.as_bytes()));
    let list = || Deed::Answer(http("200 OK", &wishes, LIST.as_bytes()));
    let refused = Deed::Answer(http("401 No", &wishes, b"{}"));
    let mut server = server(vec![wishing(), list(), refused, list(), accepted()]).await;
    let api = api(server.address);
    send(&api).await;
    api.rooms(&GetRooms::new()).await.unwrap();
    send(&api).await;
    api.rooms(&GetRooms::new()).await.unwrap();
    check(&send(&api).await, Class::Delivered, OutcomeCode::Accepted);
    for _ in 0..5 {
        let request = server.requests.recv().await.unwrap().to_lowercase();
        assert!(!request.contains("\r\ncookie:") && !request.contains("a=b"), "{request}");
    }
    assert_eq!(elsewhere.connections.load(Ordering::SeqCst), 0);
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn encoded(encoding: &str, body: &[u8]) -> Deed {
    Deed::Answer(http("200 OK", &format!("Content-Encoding: {encoding}\r\n"), body))
}

#[tokio::test]
async fn h16_a_list_may_come_compressed_and_a_receipt_may_not() {
    let mut server = server(vec![
        encoded("gzip", &gzip(LIST.as_bytes())),
        encoded("gzip", &gzip(OK.as_bytes())),
    ])
    .await;
    let api = api(server.address);
    assert_eq!(api.rooms(&GetRooms::new()).await.unwrap().items.len(), 1);
    assert!(
        server.requests.recv().await.unwrap().to_lowercase().contains("accept-encoding: gzip\r\n")
    );
    check(&send(&api).await, Class::Ambiguous, OutcomeCode::ReplyEncoding);
}

#[tokio::test]
async fn h16_compression_that_was_not_asked_for_or_is_broken_is_no_list() {
    let whole = gzip(LIST.as_bytes());
    let server = server(vec![
        encoded("br", b"xxxx"),
        encoded("gzip, gzip", &gzip(&whole)),
        encoded("gzip", &gzip(&whole)),
        encoded("gzip", b"not gzip at all"),
        encoded("gzip", &whole[..whole.len() - 12]),
    ])
    .await;
    let api = api(server.address);
    let mut codes = Vec::new();
    for _ in 0..5 {
        codes.push(api.rooms(&GetRooms::new()).await.unwrap_err().code());
    }
    let encoding = "IMB-NET-ENCODING";
    assert_eq!(codes, [encoding, encoding, "IMB-LIST-UNDECODABLE", encoding, "IMB-NET-BODY-CUT"]);
}

#[tokio::test]
async fn h16_a_gzip_bomb_is_put_down_early() {
    // 16 MiB of one string, of blanks, and of rows, each from little on the wire.
    let list = b"{\"success\":true,\"data\":[";
    let string = [&list[..], b"\"", &vec![b'x'; 16 << 20]].concat();
    let blanks = [&list[..], &vec![b' '; 16 << 20]].concat();
    let name = "x".repeat(1_000);
    let row = |id: u32| format!("{{\"id\":{id},\"name\":\"{name}\"}},");
    let rows: String = (0..16_000).map(row).collect();
    let rows = [&list[..], rows.as_bytes()].concat();
    let bombs = [&string, &blanks, &rows].map(|bomb| encoded("gzip", &gzip(bomb)));
    let server = server(bombs.to_vec()).await;
    let mut settings = settings(server.address);
    settings.max_body = 8 << 20;
    let api = api_with(settings);
    for kind in [ErrorKind::ElementTooLarge, ErrorKind::Undecodable, ErrorKind::TooLarge] {
        let error = api.rooms(&GetRooms::new()).await.unwrap_err();
        assert_eq!(error.kind(), &kind);
    }
}

#[tokio::test]
async fn a_list_without_a_byte_for_too_long_is_given_up() {
    let server = server(vec![Deed::Silence]).await;
    let mut settings = settings(server.address);
    settings.poll_read_timeout = Duration::from_millis(80);
    let error = api_with(settings).rooms(&GetRooms::new()).await.unwrap_err();
    assert_eq!(error.code(), "IMB-NET-TIMEOUT");
    assert!(error.is_retryable());
}

#[tokio::test]
async fn the_time_of_the_server_comes_with_the_list() {
    let date = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    let server = server(vec![Deed::Answer(http("200 OK", date, LIST.as_bytes()))]).await;
    let list = api(server.address).rooms(&GetRooms::new()).await.unwrap();
    assert_eq!(list.summary.server_time.unwrap().to_string(), "1994-11-06T08:49:37.000000Z");
}

#[test]
fn n16_proxies_of_the_environment_are_ignored() {
    // The environment is read when a client is made, so this runs the test binary again.
    if std::env::var_os("IMBABOT_TEST_BEHIND_PROXY").is_some() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        return runtime.block_on(async {
            let server = server(vec![accepted()]).await;
            check(&send(&api(server.address)).await, Class::Delivered, OutcomeCode::Accepted);
        });
    }
    let trap = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    trap.set_nonblocking(true).unwrap();
    let address = format!("http://{}", trap.local_addr().unwrap());
    let mut again = std::process::Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", "n16_proxies_of_the_environment_are_ignored"]);
    again.env("IMBABOT_TEST_BEHIND_PROXY", "1");
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]
    {
        again.env(name, &address);
    }
    let output = again.env_remove("no_proxy").env_remove("NO_PROXY").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(trap.accept().is_err(), "the proxy was asked");
}

#[test]
fn a_file_without_certificates_is_refused() {
    let base_url = BaseUrl::parse("https://chat.example", false).unwrap();
    let mut settings = HttpSettings::new(base_url);
    settings.ca_pem = Some(b"not a certificate".to_vec());
    let error = HttpTransport::new(settings).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Settings);
    assert!(error.to_string().contains("ca_file"), "{error}");
}
