//! Faults of HTTP and TLS (H) as a real daemon meets them: second listeners that must hear nothing,
//! certificates, configuration, and answers that unpack to far more than there is memory.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]
#![allow(clippy::disallowed_methods, reason = "measurements of real time")]

mod support;
#[path = "../../crates/core/tests/tls/mod.rs"]
mod tls;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use imbabot_store::{Class, DeliveryState, Line};
use support::{Chat, Daemon, Home, Signal, assert_holds, wait_for, wait_until};

fn states(home: &Home) -> Vec<DeliveryState> {
    home.deliveries().iter().map(|delivery| delivery.state).collect()
}

/// Somebody who must not hear anything.
fn trap() -> (TcpListener, SocketAddr) {
    let trap = TcpListener::bind("127.0.0.1:0").unwrap();
    trap.set_nonblocking(true).unwrap();
    let address = trap.local_addr().unwrap();
    (trap, address)
}

#[test]
fn h1_h3_a_redirect_to_another_host_brings_it_no_byte_and_ends_with_the_right_base_url() {
    for status in [301, 307, 308] {
        let (attacker, address) = trap();
        let port = address.port();
        let chat = Chat::open();
        let room = chat.open_room("Team 1");
        let home = Home::at(&chat, "");
        let daemon = home.ready();
        let location = format!("location=http://127.0.0.1\\:{port}/imbachat/v2/627/send_msg?a=b");
        chat.fault(&format!("any:status={status}:{location}:always"));
        daemon.wait_reason("redirected");
        home.imbabot(&["send", "--room", &room.to_string(), "patient"]).expect(0);
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(states(&home), [DeliveryState::Queued], "{status}");
        let log = daemon.log();
        assert!(log.contains("IMB-API-REDIRECT"), "{log}");
        assert!(log.contains(&format!("http://{address}")), "{log}");
        assert!(!log.contains(&format!("{address}/")), "only the origin is named: {log}");
        assert!(attacker.accept().is_err(), "{status}: the other host was asked");
        // The right address, by SIGHUP.
        chat.faults().clear();
        let right = chat.url().replace("127.0.0.1", "localhost");
        home.configure(&right, "");
        daemon.signal(Signal::HUP);
        wait_until("delivered", || chat.texts(room) == ["patient"]);
        daemon.wait_ready();
        daemon.stop();
        assert!(attacker.accept().is_err(), "{status}: the other host was asked");
        assert_holds(&home.check(&chat).quiescent());
    }
}

#[test]
fn h1_a_redirect_of_messages_alone_is_told_with_its_origin_and_holds_them() {
    let (attacker, address) = trap();
    let chat = Chat::open();
    let room = chat.open_room("Team 1");
    let home = Home::at(&chat, "");
    let daemon = home.ready();
    let location = format!("location=http://127.0.0.1\\:{}/login?token=x", address.port());
    chat.fault(&format!("send_msg:status=307:{location}:always"));
    home.imbabot(&["send", "--room", &room.to_string(), "patient"]).expect(0);
    daemon.wait_reason("redirected");
    let log = daemon.log();
    assert!(log.contains("IMB-API-REDIRECT") && log.contains(&address.to_string()), "{log}");
    assert!(!log.contains("/login") && !log.contains("token=x"), "{log}");
    assert_eq!(states(&home), [DeliveryState::Queued]);
    assert!(attacker.accept().is_err(), "the other host was asked");
    daemon.stop();
    assert_holds(&home.check(&chat));
}

#[test]
fn a_next_page_on_another_server_brings_it_no_byte() {
    let (attacker, address) = trap();
    let chat = Chat::open();
    chat.populate(5);
    let next = format!("http\\://127.0.0.1\\:{}/imbachat/v2/627/get_rooms?page=2", address.port());
    chat.fault(&format!("get_rooms:pages=2:next-page={next}:always"));
    let home = Home::at(&chat, "");
    let told = home.imbabot(&["rooms", "--json"]).expect(69);
    assert_eq!(told.error()["code"], "IMB-LIST-PAGES-ELSEWHERE");
    let daemon = home.start();
    daemon.wait_reason("api_unreachable");
    wait_until("some more polls", || chat.asked("get_rooms").len() > 4);
    daemon.stop();
    assert!(attacker.accept().is_err(), "somebody came");
}

#[test]
fn h9_a_certificate_that_is_not_to_be_trusted_is_an_outage_with_its_reason_and_a_good_one_ends_it()
{
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let chat = Chat::open();
    let room = chat.open_room("Team 1");
    let behind: SocketAddr = chat.url().strip_prefix("http://").unwrap().parse().unwrap();
    for (certificate, reason) in [
        (tls::EXPIRED, "certificate expired"),
        (tls::NOT_YET_VALID, "certificate not valid yet"),
        (tls::WRONG_NAME, "certificate not valid for name"),
        (tls::UNKNOWN_CA, "UnknownIssuer"),
    ] {
        let before = chat.log().len();
        let bad = runtime.block_on(tls::front(certificate, behind));
        let url = |port| format!("https://localhost:{port}");
        let home = Home::new(&url(bad.port()), "");
        home.write("ca.pem", tls::CA, 0o644);
        let trusting = |home: &Home| {
            let file = std::fs::read_to_string(home.path("imbabot.toml")).unwrap();
            let file = file.replacen("sender = 1", "sender = 1\nca_file = \"ca.pem\"", 1);
            home.write("imbabot.toml", file, 0o600);
        };
        trusting(&home);
        let daemon = home.start();
        daemon.wait_reason("api_unreachable");
        home.imbabot(&["send", "--room", &room.to_string(), "patient"]).expect(0);
        // Nothing but attempts of which no byte arrived.
        wait_until("it is tried", || {
            home.deliveries()[0].state == DeliveryState::Queued
                && home.ledger().iter().any(|line| {
                    matches!(&line.line,
                Line::Attempt(attempt) if attempt.class == Some(Class::NotSent))
                })
        });
        let log = daemon.log();
        let told = log.lines().any(|l| l.contains("localhost") && l.contains(reason));
        assert!(told && log.contains("IMB-NET-TLS"), "{log}");
        let status = daemon.http().get("/api/status").unwrap().body;
        assert!(status.contains("localhost") && status.contains(reason), "{status}");
        for bytes in bad.heard() {
            tls::assert_nothing_told(&bytes);
        }
        assert_eq!(chat.log().len(), before, "{reason}: something got through");

        let good = runtime.block_on(tls::front(tls::GOOD, behind));
        home.configure(&url(good.port()), "");
        trusting(&home);
        daemon.signal(Signal::HUP);
        daemon.wait_ready();
        wait_until("delivered", || states(&home) == [DeliveryState::Delivered]);
        daemon.stop();
        for bytes in good.heard() {
            tls::assert_nothing_told(&bytes);
        }
    }
    assert_eq!(chat.texts(room).len(), 4);
}

#[test]
fn h11_plain_http_beyond_this_machine_is_refused_unless_allowed_and_warned_about_each_time() {
    for url in ["http://api.imbachat.com", "http://192.0.2.7:8080", "http://nobody.invalid"] {
        let home = Home::new(url, "");
        for verb in ["run", "check"] {
            let refused = home.imbabot(&[verb]).expect(78);
            let said = format!("{}{}", refused.stdout, refused.stderr);
            assert!(said.contains("IMB-C-031") && said.contains("allow_insecure_http"), "{said}");
        }
    }
    let home = Home::new("http://nobody.invalid", "");
    let file = std::fs::read_to_string(home.path("imbabot.toml")).unwrap();
    let allowed = file.replacen("sender = 1", "sender = 1\nallow_insecure_http = true", 1);
    home.write("imbabot.toml", allowed, 0o600);
    for start in 1..=3 {
        let daemon = home.start();
        wait_until("it answers", || daemon.http().get("/livez").is_some());
        let log = daemon.log();
        let warnings = log.lines().filter(|l| l.contains("WARN") && l.contains("unencrypted"));
        assert_eq!(warnings.count(), start, "{log}");
        daemon.stop();
    }
    for url in ["http://127.0.0.1:9", "http://localhost:9", "http://[::1]:9"] {
        Home::new(url, "").imbabot(&["check"]).expect(0);
    }
}

#[test]
fn h18_what_a_server_sets_and_advertises_is_not_followed() {
    let (attacker, address) = trap();
    let chat = Chat::open();
    let room = chat.open_room("Team 1");
    let port = address.port();
    for header in [
        "Set-Cookie=a=b".to_owned(),
        format!("Alt-Svc=http/1.1=\"127.0.0.1\\:{port}\"; ma=86400"),
        "Strict-Transport-Security=max-age=31536000".to_owned(),
        format!("Refresh=0; url=http://127.0.0.1\\:{port}/"),
    ] {
        chat.fault(&format!("any:header={header}:times=5"));
    }
    let home = Home::at(&chat, "");
    let daemon = home.ready();
    home.imbabot(&["send", "--room", &room.to_string(), "plain"]).expect(0);
    wait_until("delivered", || chat.texts(room) == ["plain"]);
    let asked = chat.log().len();
    wait_until("it goes on", || chat.log().len() > asked + 20);
    daemon.stop();
    assert!(attacker.accept().is_err(), "the other host was asked");
}

/// A server that answers each list with these bytes, and says which request it is at.
struct Bomb {
    address: SocketAddr,
    asked: Arc<Mutex<usize>>,
}

impl Bomb {
    fn new(encoding: &str, body: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(0));
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: {encoding}\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        let (counted, body) = (Arc::clone(&asked), Arc::new(body));
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let (head, body, counted) = (head.clone(), Arc::clone(&body), counted.clone());
                std::thread::spawn(move || {
                    let mut socket = socket.unwrap();
                    while read_request(&mut socket) {
                        *counted.lock().unwrap() += 1;
                        // The client hangs up in the middle.
                        if socket.write_all(head.as_bytes()).is_err()
                            || socket.write_all(&body).is_err()
                        {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, asked }
    }
}

fn read_request(socket: &mut TcpStream) -> bool {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|l| l.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |l| l.trim().parse().unwrap()) {
                return true;
            }
        }
        match socket.read(&mut buffer) {
            Ok(n @ 1..) => bytes.extend_from_slice(&buffer[..n]),
            _ => return false,
        }
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Gzip of `head` and then so many bytes of `unit` over and over. The same compressed block comes
/// again and again, so that gigabytes are made in no time; the checksum behind them is wrong.
fn bomb(head: &str, unit: &str, size: u64) -> Vec<u8> {
    let count = (4 << 20) / unit.len();
    let block = deflate(unit.repeat(count).as_bytes());
    let times = usize::try_from(size).unwrap() / (count * unit.len());
    let mut all = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    all.extend(deflate(head.as_bytes()));
    for _ in 0..times {
        all.extend_from_slice(&block);
    }
    // An empty last block.
    all.extend([3, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    all
}

/// Blocks that refer to nothing before them.
fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut compress = flate2::Compress::new(flate2::Compression::best(), false);
    let mut out = Vec::with_capacity(bytes.len() + 1024);
    compress.compress_vec(bytes, &mut out, flate2::FlushCompress::Full).unwrap();
    assert_eq!(compress.total_in(), bytes.len() as u64);
    out
}

fn memory(daemon: &Daemon, what: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[test]
fn h16_bombs_cost_neither_memory_nor_time_and_the_daemon_lives() {
    const GIB: u64 = 1 << 30;
    let released = support::path_of_program().to_string_lossy().contains("release");
    let size = if released { 10 * GIB } else { GIB };
    // The promise is 2 s, for a program that was built to be used.
    let busy = Duration::from_secs(if released { 2 } else { 15 });
    let list = "{\"success\":true,\"data\":[";
    let whole = bomb(list, " ", size);
    let chat = Chat::open();
    let room = chat.open_room("Team 1").to_string();
    let home = Home::at(&chat, "");
    let daemon = home.ready();
    // The first message and the first polls have their costs as well.
    home.imbabot(&["send", "--room", &room, "--wait", "10s", "first"]).expect(0);
    std::fs::write(format!("/proc/{}/clear_refs", daemon.pid()), "5").unwrap();
    let before = memory(&daemon, "VmRSS");
    for (name, encoding, body) in [
        ("10 MiB of blanks", "gzip", bomb(list, " ", 10 << 20)),
        ("blanks", "gzip", whole.clone()),
        ("blanks before any JSON", "gzip", bomb("", " ", size)),
        ("zeros", "gzip", bomb("", "\0", size)),
        ("one string", "gzip", bomb(&format!("{list}\""), "x", size)),
        ("one key", "gzip", bomb("{\"", "x", size)),
        ("skipped values", "gzip", bomb("{\"x\":[", "0,", size)),
        ("the same row", "gzip", bomb(list, "{\"id\":1,\"name\":\"a\",\"type\":1},", size)),
        ("rows that make no sense", "gzip", bomb(list, "{},", size)),
        ("no rows", "gzip", bomb(list, "0,", size)),
        ("gzip in gzip", "gzip, gzip", gzip(&whole)),
        ("gzip in gzip, said once", "gzip", gzip(&whole)),
        ("brotli", "br", whole.clone()),
        ("zstd", "zstd", whole.clone()),
        ("deflate", "deflate", whole.clone()),
        ("no such coding", "bomb", whole.clone()),
        ("truncated", "gzip", whole[..whole.len() / 2].to_vec()),
        ("truncated at once", "gzip", whole[..12].to_vec()),
        ("broken", "gzip", b"not gzip at all".to_vec()),
    ] {
        let server = Bomb::new(encoding, body);
        home.configure(&format!("http://{}", server.address), "");
        daemon.signal(Signal::HUP);
        wait_until(&format!("{name}: it is asked"), || *server.asked.lock().unwrap() > 0);
        let begun = Instant::now();
        let outcome = wait_for_outcome(&daemon, name);
        let took = begun.elapsed();
        let peak = memory(&daemon, "VmHWM");
        println!(
            "{name}: {outcome} after {took:?}, {} MiB more at the most",
            peak.saturating_sub(before)
        );
        assert!(took < busy, "{name}: {took:?}");
        assert!(peak <= before + 32, "{name}: {before} MiB before, {peak} MiB at the most");
        assert_eq!(daemon.http().get("/livez").map(|page| page.status), Some(200), "{name}");
        // The good server again.
        home.configure(chat.url(), "");
        daemon.signal(Signal::HUP);
        daemon.wait_ready();
    }
    for fault in [
        format!("gzip-bomb={}GiB", size / GIB),
        format!("gzip-bomb={}GiB:gzip", size / GIB),
        "gzip:applied".into(),
        "gzip:truncate=20".into(),
        "header=Content-Encoding=br".into(),
        "header=Content-Encoding=zstd".into(),
    ] {
        chat.fault(&format!("send_msg:{fault}"));
        let begun = Instant::now();
        home.imbabot(&["send", "--room", &room, "--wait", "20s", &fault]).expect(10);
        let peak = memory(&daemon, "VmHWM");
        println!("send_msg {fault}: unknown after {:?}", begun.elapsed());
        assert!(peak <= before + 32, "{fault}: {before} MiB before, {peak} MiB at the most");
    }
    daemon.stop();
    assert_holds(&home.check(&chat).quiescent());
}

/// What the status says of the poll that failed.
fn wait_for_outcome(daemon: &Daemon, name: &str) -> String {
    wait_for(&format!("{name}: it is given up"), || {
        let page = daemon.http().get("/api/status")?.json();
        let outcome = page["widgets"]["main"]["last_outcome"].as_str()?.to_owned();
        let problem = page["widgets"]["main"]["problem"].as_str().unwrap_or_default();
        (outcome != "ok").then(|| format!("{outcome} ({problem})"))
    })
}
