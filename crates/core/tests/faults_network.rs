//! Faults of the network (N) that only real sockets show: name servers that fail, dawdle and change
//! their mind, ports that swallow connections, replies that trickle, peers that are gone.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]
#![allow(clippy::disallowed_methods, reason = "sockets live in real time")]
#![allow(clippy::print_stdout, reason = "what was measured is told")]

mod server;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use imbabot_core::{
    Api, BaseUrl, Class, Credentials, GetRooms, HttpSettings, HttpTransport, OutcomeCode, Resolver,
    SecretKey,
};
use server::{
    Deed, LIST, OK, accepted, api_with, check, http, read_request, send, server, settings,
};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

fn named(host: &str, port: u16) -> HttpSettings {
    HttpSettings::new(BaseUrl::parse(&format!("http://{host}:{port}"), true).unwrap())
}

fn api_by(settings: HttpSettings, resolver: Resolver) -> Api {
    let transport = HttpTransport::with_resolver(settings, resolver).unwrap();
    let secret = SecretKey::parse("the-real-key").unwrap();
    Api::new(Arc::new(transport), Credentials::new(627.into(), secret))
}

#[tokio::test]
async fn n2_a_name_server_that_says_no_is_not_sent() {
    for (kind, words) in [
        (io::ErrorKind::NotFound, "Name or service not known"),
        (io::ErrorKind::Other, "Temporary failure in name resolution"),
    ] {
        let resolver = Resolver::new(move |_| Err(io::Error::new(kind, words)));
        let api = api_by(named("chat.example", 80), resolver);
        let outcome = send(&api).await;
        check(&outcome, Class::NotSent, OutcomeCode::Dns);
        assert!(outcome.detail.contains(words) && outcome.detail.contains("chat.example"));
        assert_eq!(api.rooms(&GetRooms::new()).await.unwrap_err().code(), "IMB-NET-DNS");
    }
    let nowhere = Resolver::new(|_| Ok(Vec::new()));
    check(
        &send(&api_by(named("chat.example", 80), nowhere)).await,
        Class::NotSent,
        OutcomeCode::Dns,
    );
    let broken = Resolver::new(|_| panic!("the library is broken"));
    check(
        &send(&api_by(named("chat.example", 80), broken)).await,
        Class::NotSent,
        OutcomeCode::Dns,
    );
}

/// The runtime has one thread, and one more for what blocks: a lookup on either would be felt.
#[test]
fn n2_a_name_server_that_hangs_for_30_seconds_holds_up_nobody_and_is_asked_once() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let resolver = Resolver::new(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_secs(30));
        Ok(vec![IpAddr::from(Ipv4Addr::LOCALHOST)])
    });
    let begun = Instant::now();
    runtime.block_on(async {
        let other = server(vec![accepted()]).await;
        let mut settings = named("chat.example", 80);
        settings.connect_timeout = Duration::from_millis(700);
        let api = api_by(settings, resolver);
        let late = tokio::spawn(async {
            let mut worst = Duration::ZERO;
            for _ in 0..50 {
                let at = Instant::now();
                tokio::time::sleep(Duration::from_millis(10)).await;
                worst = worst.max(at.elapsed().saturating_sub(Duration::from_millis(10)));
            }
            worst
        });
        let hanging: Vec<_> = (0..8)
            .map(|_| {
                let api = api.clone();
                tokio::spawn(async move { send(&api).await })
            })
            .collect();
        // Others go on, and whoever blocks finds its thread.
        check(&send(&server::api(other.address)).await, Class::Delivered, OutcomeCode::Accepted);
        tokio::task::spawn_blocking(|| ()).await.unwrap();
        assert!(begun.elapsed() < Duration::from_millis(600), "{:?}", begun.elapsed());
        for outcome in hanging {
            check(&outcome.await.unwrap(), Class::NotSent, OutcomeCode::ConnectTimeout);
        }
        let worst = late.await.unwrap();
        println!("the worst timer beside a hanging lookup: {worst:?} late");
        assert!(worst < Duration::from_millis(100), "{worst:?}");
    });
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    // Nor does the end of the program wait for it.
    drop(runtime);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn n2_an_answer_that_comes_too_late_for_one_attempt_serves_the_next() {
    // As where the first of two name servers is dead: each lookup outlasts the time for a
    // connection.
    let server = server(vec![accepted()]).await;
    let resolver = Resolver::new(|_| {
        std::thread::sleep(Duration::from_millis(300));
        Ok(vec![IpAddr::from(Ipv4Addr::LOCALHOST)])
    });
    let mut settings = named("chat.example", server.address.port());
    settings.connect_timeout = Duration::from_millis(200);
    let api = api_by(settings, resolver);
    check(&send(&api).await, Class::NotSent, OutcomeCode::ConnectTimeout);
    tokio::time::sleep(Duration::from_millis(200)).await;
    check(&send(&api).await, Class::Delivered, OutcomeCode::Accepted);
}

/// Two servers behind one port, at two addresses.
async fn twins() -> (u16, server::Server, server::Server) {
    for _ in 0..20 {
        let first = server(vec![]).await;
        let port = first.address.port();
        let second = SocketAddr::from(([127, 0, 0, 2], port));
        if let Ok(listener) = TcpListener::bind(second).await {
            return (port, first, server::on(listener, vec![]));
        }
    }
    panic!("no port is free at both addresses");
}

#[tokio::test]
async fn n3_a_name_that_moves_is_followed_without_hurting_what_is_in_flight() {
    let (port, mut old, mut new) = twins().await;
    let ok = || Deed::Answer(http("200 OK", "", OK.as_bytes()));
    let list = || Deed::Answer(http("200 OK", "", LIST.as_bytes()));
    old.always(ok(), list());
    new.always(ok(), list());
    let moved = Arc::new(AtomicBool::new(false));
    let now = moved.clone();
    let resolver = Resolver::new(move |_| {
        let last = if now.load(Ordering::SeqCst) { 2 } else { 1 };
        Ok(vec![IpAddr::from([127, 0, 0, last])])
    });
    let mut settings = named("chat.example", port);
    // 40 s in production.
    settings.max_connection_age = Duration::from_millis(400);
    let api = api_by(settings, resolver);

    let begun = Instant::now();
    let mut moved_at = None;
    let mut last_old = Duration::ZERO;
    let mut sent = 0;
    while begun.elapsed() < Duration::from_millis(2_000) {
        if moved_at.is_none() && begun.elapsed() > Duration::from_millis(700) {
            moved.store(true, Ordering::SeqCst);
            moved_at = Some(begun.elapsed());
            while old.requests.try_recv().is_ok() {}
        }
        // Never idle for long enough to lose a connection.
        let (a, b, rooms) =
            tokio::join!(send(&api), send(&api), async { api.rooms(&GetRooms::new()).await });
        check(&a, Class::Delivered, OutcomeCode::Accepted);
        check(&b, Class::Delivered, OutcomeCode::Accepted);
        rooms.unwrap();
        sent += 3;
        while old.requests.try_recv().is_ok() {
            last_old = begun.elapsed();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let followed = last_old.saturating_sub(moved_at.unwrap());
    let connections = old.connections.load(Ordering::SeqCst);
    println!(
        "{sent} requests, the last to the old address {followed:?} after it moved, \
              {connections} connections to it"
    );
    assert!(followed < Duration::from_millis(600), "{followed:?}");
    assert!(new.requests.try_recv().is_ok());
    assert!(connections <= 12, "{connections} connections for {sent} requests");
}

#[tokio::test]
async fn n3_a_host_that_is_an_address_keeps_its_connections() {
    let server = server(vec![accepted(), accepted(), accepted(), accepted()]).await;
    let mut settings = settings(server.address);
    settings.max_connection_age = Duration::from_millis(1);
    let api = api_with(settings);
    for _ in 0..4 {
        check(&send(&api).await, Class::Delivered, OutcomeCode::Accepted);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn n3_a_request_in_flight_is_finished_where_it_began() {
    let server = server(vec![
        Deed::Late(Duration::from_millis(300), http("200 OK", "", OK.as_bytes())),
        accepted(),
    ])
    .await;
    let port = server.address.port();
    let mut settings = named("localhost", port);
    settings.max_connection_age = Duration::from_millis(50);
    let api = api_by(settings, Resolver::new(|_| Ok(vec![IpAddr::from(Ipv4Addr::LOCALHOST)])));
    let slow = {
        let api = api.clone();
        tokio::spawn(async move { send(&api).await })
    };
    tokio::time::sleep(Duration::from_millis(100)).await;
    check(&send(&api).await, Class::Delivered, OutcomeCode::Accepted);
    check(&slow.await.unwrap(), Class::Delivered, OutcomeCode::Accepted);
    assert_eq!(server.connections.load(Ordering::SeqCst), 2);
}

/// A port at which connections never come about: nobody accepts, and the queue is full.
async fn blackhole() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut fill = Vec::new();
    let patience = Duration::from_millis(300);
    while let Ok(Ok(stream)) = tokio::time::timeout(patience, TcpStream::connect(address)).await {
        fill.push(stream);
        assert!(fill.len() < 100, "the queue is never full");
    }
    (address, listener, fill)
}

#[tokio::test]
async fn n4_a_swallowed_connection_is_not_sent_after_the_connect_timeout() {
    let (address, _listener, _fill) = blackhole().await;
    let base_url = BaseUrl::parse(&format!("http://{address}"), false).unwrap();
    // The defaults: 5 s for a connection, 20 s for the whole.
    let api = api_with(HttpSettings::new(base_url));
    let begun = Instant::now();
    let (sent, listed) = tokio::join!(send(&api), async { api.rooms(&GetRooms::new()).await });
    let took = begun.elapsed();
    println!("given up after {took:?}");
    check(&sent, Class::NotSent, OutcomeCode::ConnectTimeout);
    assert_eq!(listed.unwrap_err().code(), "IMB-NET-CONNECT-TIMEOUT");
    assert!((Duration::from_secs(4)..Duration::from_secs(6)).contains(&took), "{took:?}");
}

#[tokio::test]
async fn n4_of_two_addresses_the_one_that_answers_is_found_in_time() {
    let server = server(vec![accepted()]).await;
    // Nobody is at the first; TEST-NET swallows or refuses, as the host's routes have it.
    let resolver = Resolver::new(|_| {
        Ok(vec![IpAddr::from([192, 0, 2, 1]), IpAddr::from(Ipv4Addr::LOCALHOST)])
    });
    let mut settings = named("chat.example", server.address.port());
    settings.connect_timeout = Duration::from_secs(2);
    check(&send(&api_by(settings, resolver)).await, Class::Delivered, OutcomeCode::Accepted);
}

#[tokio::test]
async fn n10_a_reply_that_trickles_is_bounded_as_a_whole() {
    // A byte each 50 ms renews every time-out but the one for the whole.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                while read_request(&mut socket).await.is_some() {
                    for byte in http("200 OK", "", OK.as_bytes()) {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        if socket.write_all(&[byte]).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    let mut settings = settings(address);
    settings.send_timeout = Duration::from_millis(1_000);
    let begun = Instant::now();
    let outcome = send(&api_with(settings)).await;
    assert_eq!(outcome.class, Class::Ambiguous, "{outcome:?}");
    let took = begun.elapsed();
    assert!((Duration::from_millis(900)..Duration::from_millis(1_500)).contains(&took), "{took:?}");
}

/// In a network of its own, whose cable can be pulled: the test runs itself again in there.
#[test]
fn n15_a_peer_that_is_gone_without_a_word_is_noticed_within_half_a_minute() {
    const INSIDE: &str = "IMBABOT_TEST_OWN_NETWORK";
    const NAME: &str = "n15_a_peer_that_is_gone_without_a_word_is_noticed_within_half_a_minute";
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        return runtime.block_on(a_cable_is_pulled());
    }
    let ip = |words: &str| {
        let script = format!("ip link set lo up && {words}");
        let mut unshare = std::process::Command::new("unshare");
        unshare.args(["--map-root-user", "--net", "sh", "-c", &script]);
        unshare.arg(std::env::current_exe().unwrap()).args(["--exact", NAME, "--nocapture"]);
        unshare.env(INSIDE, "1").output()
    };
    let usable = ip(&silence(9));
    if !usable.is_ok_and(|output| output.status.success()) {
        println!("left out: no network of our own to be had here (unshare, ip)");
        return;
    }
    let output = ip("exec \"$0\" \"$@\"").unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let wrong = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}\n{wrong}");
    print!("{said}");
}

/// From now on, nothing that a server on this port says arrives any more.
fn silence(port: u16) -> String {
    format!(
        "(ip rule add prio 9 lookup local; ip rule del prio 0) 2>/dev/null; \
         ip rule add prio 1 ipproto tcp sport {port} blackhole"
    )
}

async fn a_cable_is_pulled() {
    let silent = server(vec![accepted(), Deed::Silence]).await;
    let api = api_with(HttpSettings::new(
        BaseUrl::parse(&format!("http://{}", silent.address), false).unwrap(),
    ));
    // A connection that was good a moment ago, and a request that is on its way when the cable goes.
    check(&send(&api).await, Class::Delivered, OutcomeCode::Accepted);
    let waiting = {
        let api = api.clone();
        tokio::spawn(async move { (send(&api).await, Instant::now()) })
    };
    let polled = server(vec![Deed::Silence]).await;
    let poller = api_with(HttpSettings::new(
        BaseUrl::parse(&format!("http://{}", polled.address), false).unwrap(),
    ));
    let listing =
        tokio::spawn(
            async move { (poller.rooms(&GetRooms::new()).await.map(|_| ()), Instant::now()) },
        );
    // And one that is used again right after.
    let idle = server(vec![accepted(), accepted()]).await;
    let again = api_with(HttpSettings::new(
        BaseUrl::parse(&format!("http://{}", idle.address), false).unwrap(),
    ));
    tokio::time::sleep(Duration::from_millis(500)).await;
    // The last thing before: a connection that is to carry a message is not idle for long.
    check(&send(&again).await, Class::Delivered, OutcomeCode::Accepted);
    for port in [silent.address.port(), polled.address.port(), idle.address.port()] {
        let status = std::process::Command::new("sh").args(["-c", &silence(port)]).status();
        assert!(status.unwrap().success());
    }
    let pulled = Instant::now();
    let written = tokio::spawn(async move { (send(&again).await, Instant::now()) });
    let (outcome, at) = waiting.await.unwrap();
    println!("a message noticed after {:?}: {}", at - pulled, outcome.detail);
    assert_eq!(outcome.class, Class::Ambiguous, "{outcome:?}");
    assert!(at - pulled < Duration::from_secs(17), "{:?}", at - pulled);
    let (list, at) = listing.await.unwrap();
    let error = list.unwrap_err();
    println!("a list noticed after {:?}: {error}", at - pulled);
    // The longest pause after that is 12 s: the next poll comes within 30 s.
    assert!(at - pulled < Duration::from_secs(17), "{:?}", at - pulled);
    let (outcome, at) = written.await.unwrap();
    println!("a message on an idle connection after {:?}: {}", at - pulled, outcome.detail);
    assert_eq!(outcome.class, Class::Ambiguous, "{outcome:?}");
    assert!(at - pulled < Duration::from_secs(17), "{:?}", at - pulled);
}
