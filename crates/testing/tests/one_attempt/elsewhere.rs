//! What nothing of a message may reach: the target of a redirect, a proxy of the environment, the
//! answer of another request.

use std::net::TcpListener;
use std::time::Duration;

use imbabot_core::{Class, ClassifyRules, OutcomeCode as Code};

use crate::rows::{TEXT, api, send};
use crate::sockets::{Answer, Close, Server, Then, confirmation, http, settings};

/// A port at which nobody may knock.
struct Trap(TcpListener);

impl Trap {
    fn set() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    fn url(&self) -> String {
        format!("http://{}", self.0.local_addr().unwrap())
    }

    fn is_untouched(&self) -> bool {
        self.0.accept().is_err()
    }
}

#[tokio::test]
async fn the_target_of_a_redirect_gets_nothing_and_no_cookie_or_advice_is_kept() {
    let trap = Trap::set();
    let url = trap.url();
    let port = url.rsplit(':').next().unwrap().to_owned();
    for status in ["301", "302", "303", "307", "308"] {
        let headers = format!(
            "Location: {url}/x\r\nSet-Cookie: a=b\r\nRefresh: 0; url={url}\r\n\
             Alt-Svc: h2=\":{port}\"\r\nStrict-Transport-Security: max-age=9999\r\n\
             Link: <{url}/y>; rel=preload\r\nContent-Location: {url}/z\r\n"
        );
        let status = format!("{status} Elsewhere");
        let server = Server::start(move |request| {
            let first = request.header("x-imbabot-delivery") == Some("first");
            let body = if first { String::new() } else { confirmation(request) };
            let status = if first { &status } else { "200 OK" };
            Answer { bytes: http(status, &headers, body.as_bytes()), then: Then::Stay }
        })
        .await;
        let api = api(settings(server.address), ClassifyRules::default());
        assert_ne!(send(&api, 1536, "first", 1).await.class, Class::Delivered);
        assert_eq!(send(&api, 1536, "second", 1).await.class, Class::Delivered);
        assert_eq!(send(&api, 1536, "third", 1).await.class, Class::Delivered);
        let heard = server.heard();
        assert_eq!(heard.requests.len(), 3);
        for request in &heard.requests {
            for absent in ["cookie", "referer", "upgrade", "upgrade-insecure-requests", "expect"] {
                assert_eq!(request.header(absent), None, "{}", request.head);
            }
        }
    }
    assert!(trap.is_untouched(), "somebody went there");
}

#[test]
fn a_proxy_of_the_environment_gets_nothing() {
    const AGAIN: &str = "IMBABOT_TEST_BEHIND_PROXY";
    // The environment is read when a client is made, so this runs the test binary again.
    if std::env::var_os(AGAIN).is_some() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        return runtime.block_on(async {
            let server = Server::start(|request| Answer {
                bytes: http("200 OK", "", confirmation(request).as_bytes()),
                then: Then::Stay,
            })
            .await;
            let plain = api(settings(server.address), ClassifyRules::default());
            assert_eq!(send(&plain, 1536, "first", 1).await.class, Class::Delivered);
            assert_eq!(server.heard().requests.len(), 1);
        });
    }
    let trap = Trap::set();
    let mut again = std::process::Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", "elsewhere::a_proxy_of_the_environment_gets_nothing"]).env(AGAIN, "1");
    for name in ["http_proxy", "https_proxy", "all_proxy", "ftp_proxy"] {
        again.env(name, trap.url()).env(name.to_uppercase(), trap.url());
    }
    let output = again.env_remove("no_proxy").env_remove("NO_PROXY").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    assert!(trap.is_untouched(), "the proxy was asked");
}

/// The second reply on a connection belongs to nobody, whenever it comes.
#[tokio::test]
async fn a_stray_second_reply_never_answers_the_next_message() {
    for (name, odd) in [("beside a good answer", false), ("beside an odd answer", true)] {
        let server = Server::start(move |request| {
            let first = request.header("x-imbabot-delivery") == Some("first");
            let mut bytes = http("200 OK", "", confirmation(request).as_bytes());
            if first {
                // The stray one would confirm the second message, word for word.
                let stray = confirmation(request).replace("\"id\":7", "\"id\":666");
                if odd {
                    bytes = http("200 OK", "", b"<html>");
                }
                bytes.extend(http("200 OK", "", stray.as_bytes()));
            }
            Answer { bytes, then: Then::Stay }
        })
        .await;
        let api = api(settings(server.address), ClassifyRules::default());
        let first = send(&api, 1536, "first", 1).await;
        let expected = if odd { Code::ReplyNotJson } else { Code::Accepted };
        assert_eq!(first.code, expected, "{name}");
        for delivery in ["second", "third"] {
            let next = send(&api, 1536, delivery, 1).await;
            assert_eq!(next.code, Code::Accepted, "{name}: {next:?}");
            assert_eq!(next.receipt.unwrap().message.id.0, 7, "{name}: the stray reply answered");
        }
        let heard = server.heard();
        let connections: Vec<_> = heard.requests.iter().map(|r| r.connection).collect();
        assert_eq!(connections, [0, 1, 1], "{name}");
    }
}

/// It comes a little later, when the connection is idle already.
#[tokio::test]
async fn a_stray_reply_to_an_idle_connection_ends_that_connection() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    #[expect(clippy::disallowed_methods, reason = "the other end of a socket")]
    let serving = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let answer = |id: u32| {
            let text = serde_json::Value::from(TEXT);
            let message = format!(r#"{{"id":{id},"room_id":1536,"message":{text}}}"#);
            http("200 OK", "", format!(r#"{{"success":true,"message":{message}}}"#).as_bytes())
        };
        let (mut first, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 8192];
        let _ = first.read(&mut buffer).await.unwrap();
        first.write_all(&answer(1)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        first.write_all(&answer(666)).await.unwrap();
        let (mut second, _) = listener.accept().await.unwrap();
        let _ = second.read(&mut buffer).await.unwrap();
        second.write_all(&answer(2)).await.unwrap();
        // The client has let go of the first one.
        let rest = first.read(&mut buffer).await;
        assert!(matches!(rest, Ok(0) | Err(_)), "{rest:?}");
    });
    let api = api(settings(address), ClassifyRules::default());
    let ids = async |delivery| {
        let outcome = send(&api, 1536, delivery, 1).await;
        outcome.receipt.map(|receipt| receipt.message.id.0)
    };
    assert_eq!(ids("first").await, Some(1));
    #[expect(clippy::disallowed_methods, reason = "the stray reply comes meanwhile")]
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(ids("second").await, Some(2));
    serving.await.unwrap();
}

#[tokio::test]
async fn what_is_closed_as_announced_carries_nothing_more() {
    let server = Server::start(|request| Answer {
        bytes: http("200 OK", "Connection: close\r\n", confirmation(request).as_bytes()),
        then: Then::Close(Close::Fin),
    })
    .await;
    let api = api(settings(server.address), ClassifyRules::default());
    for _ in 0..20 {
        assert_eq!(send(&api, 1536, "d", 1).await.class, Class::Delivered);
    }
    let heard = server.heard();
    assert_eq!((heard.requests.len(), heard.bytes.len(), heard.cut), (20, 20, 0));
}
