//! H9: a server whose certificate is not to be trusted gets nothing. The certificates were made by
//! `fixtures/tls/make.sh`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod server;
mod tls;

use std::time::Duration;

use imbabot_core::{BaseUrl, Class, GetRooms, HttpSettings, OutcomeCode};
use server::{accepted, api_with, check, send, server};

fn settings(host: &str, port: u16) -> HttpSettings {
    let base_url = BaseUrl::parse(&format!("https://{host}:{port}"), false).unwrap();
    let mut settings = HttpSettings::new(base_url);
    settings.ca_pem = Some(tls::CA.to_vec());
    settings.connect_timeout = Duration::from_secs(5);
    settings
}

#[tokio::test]
async fn a_good_certificate_is_taken() {
    let server = server(vec![accepted(), accepted()]).await;
    let front = tls::front(tls::GOOD, server.address).await;
    for host in ["localhost", "127.0.0.1"] {
        let outcome = send(&api_with(settings(host, front.port()))).await;
        check(&outcome, Class::Delivered, OutcomeCode::Accepted);
    }
}

#[tokio::test]
async fn h9_a_certificate_that_is_not_to_be_trusted_is_not_sent_names_host_and_reason_and_sees_no_byte()
 {
    for (name, certificate, reason) in [
        ("expired", tls::EXPIRED, "expired"),
        ("not yet valid", tls::NOT_YET_VALID, "not valid yet"),
        ("wrong name", tls::WRONG_NAME, "not valid for name"),
        ("unknown CA", tls::UNKNOWN_CA, "UnknownIssuer"),
    ] {
        let behind = server(vec![accepted(), accepted()]).await;
        let front = tls::front(certificate, behind.address).await;
        let api = api_with(settings("localhost", front.port()));
        let outcome = send(&api).await;
        println!("{name}: {}", outcome.detail);
        check(&outcome, Class::NotSent, OutcomeCode::Tls);
        assert!(outcome.detail.contains("localhost"), "{}", outcome.detail);
        assert!(outcome.detail.contains(reason), "{}", outcome.detail);
        let error = api.rooms(&GetRooms::new()).await.unwrap_err();
        assert_eq!(error.code(), "IMB-NET-TLS");
        let cause = error.transport_error().unwrap().to_string();
        assert!(cause.contains("localhost") && cause.contains(reason), "{cause}");
        // Two handshakes came, and of what they were for nothing.
        let heard = front.heard();
        assert_eq!(heard.len(), 2, "{name}");
        for bytes in heard {
            assert_eq!(bytes[0], 0x16, "{name}: no handshake");
            tls::assert_nothing_told(&bytes);
        }
        assert_eq!(behind.connections.load(std::sync::atomic::Ordering::SeqCst), 0, "{name}");
    }
}

#[tokio::test]
async fn h9_a_port_without_tls_is_told_nothing_in_plain_text() {
    let plain = server(vec![accepted(), accepted()]).await;
    let front = tls::pass_on(plain.address).await;
    let mut settings = settings("localhost", front.port());
    settings.connect_timeout = Duration::from_millis(500);
    let outcome = send(&api_with(settings)).await;
    assert_eq!(outcome.class, Class::NotSent, "{outcome:?}");
    let heard = front.heard();
    assert_eq!(heard.len(), 1);
    tls::assert_nothing_told(&heard[0]);
}
