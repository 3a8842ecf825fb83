//! Rows in which no byte of the request leaves: only these are tried again.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use imbabot_core::Class::{Ambiguous, Delivered, NotSent};
use imbabot_core::{
    Advice, BaseUrl, ClassifyRules, HttpSettings, OutcomeCode as Code, SendOutcome,
};

use imbabot_simulator::{Clock, Loopback, LoopbackOptions, Options, Simulator};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use crate::rows::{TEXT, api, send};
use crate::sockets::{Answer, Close, Server, Then, confirmation, http, settings};

fn at(url: &str) -> HttpSettings {
    let mut settings = HttpSettings::new(BaseUrl::parse(url, true).unwrap());
    settings.connect_timeout = Duration::from_millis(300);
    settings.ca_pem = Some(include_bytes!("../../../core/tests/fixtures/ca.pem").to_vec());
    settings
}

async fn one(settings: HttpSettings) -> SendOutcome {
    send(&api(settings, ClassifyRules::default()), 1536, "first", 1).await
}

#[track_caller]
fn check(name: &str, outcome: &SendOutcome, code: Code) {
    assert_eq!((outcome.class, outcome.code), (NotSent, code), "{name}: {outcome:?}");
    assert_eq!((&outcome.advice, outcome.http_status), (&Advice::Backoff, None), "{name}");
    assert!(outcome.receipt.is_none(), "{name}");
}

/// Takes one connection, treats it like this, and returns every byte that came on it.
fn listener(
    treatment: impl FnOnce(TcpStream) -> Vec<u8> + Send + 'static,
) -> (SocketAddr, JoinHandle<Vec<u8>>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let heard = std::thread::spawn(move || treatment(listener.accept().unwrap().0));
    (address, heard)
}

fn rest(mut socket: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = socket.read_to_end(&mut bytes);
    bytes
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_not_sent() {
    check("dns", &one(at("http://nobody.invalid")).await, Code::Dns);
    check("dns, tls", &one(at("https://nobody.invalid")).await, Code::Dns);
}

#[tokio::test]
async fn a_closed_port_is_not_sent() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    check("refused", &one(at(&format!("http://{address}"))).await, Code::ConnectRefused);
    check("refused, tls", &one(at(&format!("https://{address}"))).await, Code::ConnectRefused);
}

#[tokio::test]
async fn a_server_that_is_down_is_not_sent_and_heard_when_it_is_up_again() {
    let simulator = Simulator::new(Options::default(), Clock::system());
    let room = simulator.open_room("Team 1");
    let any = ([127, 0, 0, 1], 0).into();
    let door = Loopback::bind(any, simulator.clone(), LoopbackOptions::default()).await.unwrap();
    let api = api(settings(door.addr()), ClassifyRules::default());
    assert_eq!(send(&api, room, "first", 1).await.class, Delivered);
    simulator.server_down(true);
    while tokio::net::TcpStream::connect(door.addr()).await.is_ok() {
        tokio::task::yield_now().await;
    }
    for attempt in 1..=3 {
        check("down", &send(&api, room, "second", attempt).await, Code::ConnectRefused);
    }
    simulator.server_down(false);
    while tokio::net::TcpStream::connect(door.addr()).await.is_err() {
        tokio::task::yield_now().await;
    }
    assert_eq!(send(&api, room, "second", 4).await.class, Delivered);
    let attempts: Vec<_> = simulator.log().into_iter().filter_map(|entry| entry.attempt).collect();
    assert_eq!(attempts, ["1", "4"]);
}

#[tokio::test]
async fn a_host_to_which_there_is_no_way_is_not_sent() {
    // No connection to a multicast address is possible, on any network.
    check("unreachable", &one(at("http://224.0.0.1")).await, Code::Unreachable);
}

/// A backlog that is full: the kernel answers no further greeting.
#[tokio::test]
async fn a_connection_that_does_not_come_about_in_time_is_not_sent() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    for _ in 0..8 {
        let socket = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(100));
        waiting.extend(socket);
    }
    assert!(waiting.len() < 8, "the backlog has no end");
    check("timeout", &one(at(&format!("http://{address}"))).await, Code::ConnectTimeout);
    check("timeout, tls", &one(at(&format!("https://{address}"))).await, Code::ConnectTimeout);
    let mut impatient = at(&format!("http://{address}"));
    impatient.connect_timeout = Duration::from_secs(20);
    impatient.send_timeout = Duration::from_millis(200);
    check("the whole time is over", &one(impatient).await, Code::ConnectTimeout);
    // Nothing was written on any connection but the greetings of the kernel.
    drop(waiting);
    let mut whole = Vec::new();
    while let Ok(Ok((socket, _))) = accept_soon(&listener).await {
        let mut socket = socket.into_std().unwrap();
        socket.set_nonblocking(false).unwrap();
        socket.read_to_end(&mut whole).unwrap();
    }
    assert!(whole.is_empty(), "{whole:?}");
}

#[expect(clippy::disallowed_methods, reason = "nobody may come")]
async fn accept_soon(
    listener: &tokio::net::TcpListener,
) -> Result<std::io::Result<(tokio::net::TcpStream, SocketAddr)>, tokio::time::error::Elapsed> {
    tokio::time::timeout(Duration::from_millis(50), listener.accept()).await
}

#[tokio::test]
async fn a_handshake_that_fails_is_not_sent_and_nothing_goes_in_the_clear() {
    type Treatment = fn(TcpStream) -> Vec<u8>;
    fn says(mut socket: TcpStream, bytes: &[u8]) -> Vec<u8> {
        socket.write_all(bytes).unwrap();
        rest(socket)
    }
    let treatments: [(&str, Code, Treatment); 6] = [
        ("no TLS", Code::Tls, |s| says(s, b"HTTP/1.1 400 Bad Request\r\n\r\n")),
        ("another protocol", Code::Tls, |s| says(s, b"SSH-2.0-OpenSSH_9.7\r\n")),
        ("an alert", Code::Tls, |s| says(s, b"\x15\x03\x03\0\x02\x02\x28")),
        ("an end within the handshake", Code::Tls, |mut socket| {
            let mut hello = [0; 5];
            socket.read_exact(&mut hello).unwrap();
            socket.shutdown(std::net::Shutdown::Write).unwrap();
            rest(socket)
        }),
        ("a reset within the handshake", Code::Tls, |mut socket| {
            let mut hello = [0; 5];
            // What is left unread makes the end a reset.
            socket.read_exact(&mut hello).unwrap();
            hello.to_vec()
        }),
        ("silence within the handshake", Code::ConnectTimeout, rest),
    ];
    for (name, code, treatment) in treatments {
        let (address, heard) = listener(treatment);
        check(name, &one(at(&format!("https://{address}"))).await, code);
        let bytes = heard.join().unwrap();
        let text = String::from_utf8_lossy(&bytes);
        let secret = text.contains("POST") || text.contains("Basic") || text.contains("message");
        assert!(!secret, "{name}: {text}");
    }
}

/// A server with TLS and this certificate; it answers every request, and tells what it read.
#[expect(clippy::disallowed_methods, reason = "the other end of a socket")]
async fn secure(certificate: &[u8]) -> (SocketAddr, Arc<Mutex<String>>) {
    use tokio_rustls::rustls::ServerConfig;
    use tokio_rustls::rustls::pki_types::pem::PemObject;
    use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let chain = vec![CertificateDer::from_pem_slice(certificate).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("../sockets/tls/server.key")).unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config.unwrap()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heard = Arc::new(Mutex::new(String::new()));
    let shared = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let Ok(mut socket) = acceptor.accept(socket).await else { continue };
            let mut buffer = [0; 8192];
            while let Ok(read @ 1..) = socket.read(&mut buffer).await {
                shared.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..read]));
                let body = format!(
                    r#"{{"success":true,"message":{{"id":7,"room_id":1536,"message":{}}}}}"#,
                    serde_json::Value::from(TEXT),
                );
                let _ = socket.write_all(&http("200 OK", "", body.as_bytes())).await;
            }
        }
    });
    (address, heard)
}

#[tokio::test]
async fn a_certificate_that_proves_nothing_is_not_sent() {
    const AUTHORITY: &[u8] = include_bytes!("../sockets/tls/authority.pem");
    const STRANGER: &[u8] = include_bytes!("../../../core/tests/fixtures/ca.pem");
    const RIGHT: &[u8] = include_bytes!("../sockets/tls/right.pem");
    for (name, certificate, trusted, expected) in [
        ("right", RIGHT, AUTHORITY, (Delivered, Code::Accepted)),
        ("unknown authority", RIGHT, STRANGER, (NotSent, Code::Tls)),
        ("expired", include_bytes!("../sockets/tls/expired.pem"), AUTHORITY, (NotSent, Code::Tls)),
        ("not yet", include_bytes!("../sockets/tls/not-yet.pem"), AUTHORITY, (NotSent, Code::Tls)),
        (
            "other name",
            include_bytes!("../sockets/tls/other-name.pem"),
            AUTHORITY,
            (NotSent, Code::Tls),
        ),
    ] {
        let (address, heard) = secure(certificate).await;
        let mut settings = at(&format!("https://{address}"));
        settings.connect_timeout = Duration::from_secs(5);
        settings.ca_pem = Some(trusted.to_vec());
        let outcome = one(settings).await;
        assert_eq!((outcome.class, outcome.code), expected, "{name}: {outcome:?}");
        let requests = heard.lock().unwrap().matches("POST ").count();
        assert_eq!(requests, usize::from(name == "right"), "{name}");
    }
}

/// Accepts and closes at once, and tells of each connection how many bytes came all the same.
fn closer() -> (SocketAddr, std::sync::mpsc::Receiver<usize>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (said, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        while let Ok((socket, _)) = listener.accept() {
            socket.shutdown(std::net::Shutdown::Write).unwrap();
            if said.send(rest(socket).len()).is_err() {
                return;
            }
        }
    });
    (address, heard)
}

/// The same without the race: whenever the attempt has done something, its thread sleeps, so that it
/// finds its new connection and the end of it at once.
#[tokio::test]
async fn a_connection_that_is_closed_before_anything_was_written_is_not_sent() {
    let (address, heard) = closer();
    #[expect(clippy::disallowed_methods, reason = "the worst moment has to come")]
    let asleep = async {
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(5));
            tokio::task::yield_now().await;
        }
    };
    let attempt = std::pin::pin!(one(settings(address)));
    let (outcome, ()) = futures_util::future::join(attempt, std::pin::pin!(asleep)).await;
    check("closed", &outcome, Code::ClosedBeforeWrite);
    assert_eq!(heard.recv().unwrap(), 0);
}

/// As a proxy does whose server is gone. Whether the request is written before the end is seen is
/// a race: the class has to say which it was, each time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_closed_at_once_is_not_sent_exactly_if_nothing_was_written() {
    let (address, heard) = closer();
    let api = api(settings(address), ClassifyRules::default());
    for n in 0..400 {
        let outcome = send(&api, 1536, "first", n + 1).await;
        match heard.recv().unwrap() {
            0 => check("closed at once", &outcome, Code::ClosedBeforeWrite),
            written => {
                let seen = (outcome.class, outcome.code);
                assert_eq!(seen, (Ambiguous, Code::ConnectionLost), "{written} bytes: {outcome:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_reset_at_once_is_not_sent_or_ambiguous_and_nothing_else() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((socket, _)) = listener.accept() {
            TcpSocket::from_std_stream(socket).set_zero_linger().unwrap();
        }
    });
    let api = api(settings(address), ClassifyRules::default());
    for n in 0..200 {
        let outcome = send(&api, 1536, "first", n + 1).await;
        let seen = (outcome.class, outcome.code);
        let expected = [
            (NotSent, Code::ClosedBeforeWrite),
            (NotSent, Code::ConnectFailed),
            (Ambiguous, Code::ConnectionLost),
        ];
        assert!(expected.contains(&seen), "{outcome:?}");
    }
}

/// An idle connection that was closed meanwhile: the next message goes over another one, and what
/// was not written on the first is not lost.
#[tokio::test]
async fn an_idle_connection_that_was_closed_carries_nothing_and_costs_nothing() {
    let server = Server::start(|request| Answer {
        bytes: http("200 OK", "", confirmation(request).as_bytes()),
        then: Then::StayFor(Duration::from_millis(10), Close::Fin),
    })
    .await;
    let api = api(settings(server.address), ClassifyRules::default());
    for attempt in 1..=5 {
        assert_eq!(send(&api, 1536, "first", attempt).await.class, Delivered);
        #[expect(clippy::disallowed_methods, reason = "the server closes meanwhile")]
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    let heard = server.heard();
    let connections: Vec<_> = heard.requests.iter().map(|r| r.connection).collect();
    assert_eq!((connections, heard.cut), (vec![0, 1, 2, 3, 4], 0));
}
