//! Faults of the network (N) as a real daemon meets them: names that do not resolve, proxies in its
//! environment, an outage.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]
#![allow(clippy::disallowed_methods, reason = "measurements of real time")]

mod support;

use std::net::TcpListener;
use std::time::{Duration, Instant};

use support::{Chat, Daemon, Home, assert_holds, free_port, wait_until};

/// The times that `/livez` takes while something goes on, sorted.
fn livez(daemon: &Daemon, length: Duration) -> Vec<Duration> {
    let begun = Instant::now();
    let mut all = Vec::new();
    while begun.elapsed() < length {
        let at = Instant::now();
        let page = daemon.http().get("/livez");
        assert_eq!(page.map(|page| page.status), Some(200));
        all.push(at.elapsed());
        std::thread::sleep(Duration::from_millis(5));
    }
    all.sort_unstable();
    all
}

#[test]
fn n1_an_outage_shows_within_five_seconds_and_ends_by_itself() {
    let chat = Chat::open();
    let room = chat.open_room("Team 1");
    let home = Home::at(&chat, "");
    let daemon = home.ready();
    chat.down(true);
    let begun = Instant::now();
    daemon.wait_reason("api_unreachable");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    home.imbabot(&["send", "--room", &room.to_string(), "patient"]).expect(0);
    chat.down(false);
    wait_until("delivered", || chat.texts(room) == ["patient"]);
    daemon.wait_ready();
    daemon.stop();
    assert_holds(&home.check(&chat).quiescent());
}

#[test]
fn n2_a_name_that_does_not_resolve_is_an_outage_and_slows_nothing_down() {
    let home = Home::new("http://nobody.invalid", "");
    let file = std::fs::read_to_string(home.path("imbabot.toml")).unwrap();
    let allowed = file.replacen("sender = 1", "sender = 1\nallow_insecure_http = true", 1);
    home.write("imbabot.toml", allowed, 0o600);
    let daemon = home.start();
    daemon.wait_reason("api_unreachable");
    home.imbabot(&["send", "--room", "1536", "patient"]).expect(0);
    let times = livez(&daemon, Duration::from_secs(2));
    let p99 = times[times.len() * 99 / 100];
    println!("/livez without a name server: p99 {p99:?} of {}", times.len());
    assert!(p99 < Duration::from_millis(100), "{p99:?}");
    wait_until("the attempt is in the ledger", || {
        home.ledger()
            .iter()
            .any(|line| serde_json::to_string(line).unwrap().contains("\"code\":\"dns\""))
    });
    let status = daemon.http().get("/api/status").unwrap().body;
    assert!(status.contains("nobody.invalid"), "{status}");
    daemon.stop();
}

#[test]
fn n16_proxies_in_the_environment_of_the_daemon_see_nothing() {
    let chat = Chat::open();
    let room = chat.open_room("Team 1");
    let home = Home::at(&chat, "");
    let trap = TcpListener::bind("127.0.0.1:0").unwrap();
    trap.set_nonblocking(true).unwrap();
    let address = trap.local_addr().unwrap();
    let mut command = home.command(&["run"]);
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "FTP_PROXY", "SOCKS_PROXY"] {
        let scheme = if name == "ALL_PROXY" { "socks5h" } else { "http" };
        command.env(name, format!("{scheme}://{address}"));
        command.env(name.to_lowercase(), format!("http://{address}"));
    }
    command.env_remove("NO_PROXY").env_remove("no_proxy");
    let daemon = Daemon::spawn(command, &home);
    daemon.wait_ready();
    home.imbabot(&["send", "--room", &room.to_string(), "direct"]).expect(0);
    wait_until("delivered", || chat.texts(room) == ["direct"]);
    daemon.stop();
    assert!(trap.accept().is_err(), "the proxy was asked");

    // The same for a host that a proxy would be asked for, loopback being often excepted.
    let elsewhere = Home::new("https://nobody.invalid", "");
    let mut command = elsewhere.command(&["run"]);
    for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        command.env(name, format!("http://{address}"));
    }
    let daemon = Daemon::spawn(command, &elsewhere);
    daemon.wait_reason("api_unreachable");
    daemon.stop();
    assert!(trap.accept().is_err(), "the proxy was asked");
}

#[test]
fn n1_a_port_where_nobody_listened_yet_is_found_when_somebody_does() {
    // As where the daemon starts before the server.
    let port = free_port();
    let home = Home::new(&format!("http://127.0.0.1:{port}"), "");
    let daemon = home.start();
    daemon.wait_reason("api_unreachable");
    let log = daemon.log();
    assert!(log.contains("IMB-NET-REFUSED") && log.contains("127.0.0.1"), "{log}");
    let chat = Chat::open();
    home.configure(chat.url(), "");
    daemon.signal(support::Signal::HUP);
    daemon.wait_ready();
    daemon.stop();
}
