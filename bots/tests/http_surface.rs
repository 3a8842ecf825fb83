//! The HTTP surface of the real program, as strangers, browsers and guessers of tokens meet it: who may
//! read, what is refused, and that nothing that is asked changes anything.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]
#![allow(clippy::disallowed_methods, reason = "another process takes real time")]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use support::{Chat, Daemon, Home, Page, request, wait_until};

const TOKEN: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";

/// Bytes as they are, and the status of what comes back; none where the connection just ends.
fn raw(to: SocketAddr, text: &str) -> Option<u16> {
    request(to, text).map(|page| page.status)
}

/// A request of this method with these further lines.
fn ask(home: &Home, method: &str, path: &str, lines: &[&str]) -> Page {
    let mut text = format!("{method} {path} HTTP/1.1\r\n");
    if !lines.iter().any(|line| line.starts_with("Host:")) {
        text.push_str(&format!("Host: {}\r\n", home.http().0));
    }
    for line in lines {
        text.push_str(&format!("{line}\r\n"));
    }
    request(home.http().0, &format!("{text}\r\n")).unwrap_or_else(|| panic!("no answer to {text}"))
}

fn status(home: &Home, path: &str, lines: &[&str]) -> u16 {
    ask(home, "GET", path, lines).status
}

/// A daemon that asks for a token.
fn with_token(chat: &Chat, more: &str) -> (Home, Daemon) {
    let home = Home::at(chat, "");
    let file = std::fs::read_to_string(home.path("imbabot.toml")).unwrap();
    home.write("http_token", TOKEN, 0o600);
    let changed =
        file.replacen("[http]\n", &format!("[http]\ntoken_file = \"http_token\"\n{more}"), 1);
    home.write("imbabot.toml", changed, 0o600);
    let daemon = home.ready();
    (home, daemon)
}

#[test]
fn the_page_shows_how_everything_stands_and_a_hostile_room_stays_text() {
    let chat = Chat::open();
    let hostile = "<script>document.title='owned'</script>\u{202e}";
    let room = chat.open_room(hostile);
    let home = Home::at(
        &chat,
        "[[schedule]]\nid = \"yearly\"\ncron = \"0 9 1 1 *\"\nrooms = { all = true }\ntext = \"x\"\n\
         [[bot]]\nname = \"greeter\"\nkind = \"greeter\"\nsettings = { greeting = \"Hi\" }\n",
    );
    let daemon = home.ready();
    let page = ask(&home, "GET", "/", &[]);
    assert!(page.body.contains(">Ready<") && page.body.contains("Nothing waits."), "{}", page.body);

    chat.down(true);
    home.imbabot(&["pause", "--bot", "greeter"]).expect(0);
    home.imbabot(&["pause", "--widget", "main"]).expect(0);
    home.imbabot(&["send", "--room", &room.to_string(), "hello"]).expect(0);
    daemon.wait_reason_among("api_unreachable");
    daemon.wait_reason_among("paused");
    let page = ask(&home, "GET", "/", &[]);
    assert_eq!(page.status, 200);
    for words in [
        "Not ready since",
        "ImbaChat does not answer",
        "What to do:",
        "not reachable",
        "&lt;script&gt;document.title=&#39;owned&#39;&lt;/script&gt;\\u{202e}",
        "imbabot send",
        "yearly",
        "greeter",
        "paused",
        "queued",
    ] {
        assert!(page.body.contains(words), "{words}:\n{}", page.body);
    }
    for absent in ["<script", "javascript:", "http://", "https://", "<link", "<img", "<iframe"] {
        assert!(!page.body.contains(absent), "{absent}");
    }
    for line in [
        "content-security-policy: default-src 'none'; style-src 'sha256-",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
        "cache-control: no-store",
        "x-frame-options: deny",
    ] {
        assert!(page.head.contains(line), "{line}:\n{}", page.head);
    }
    // What the page says, programs can read, too.
    let told = ask(&home, "GET", "/api/status", &[]).json();
    assert_eq!(told["deliveries"]["queued"], 1);
    assert_eq!(told["waiting"][0]["name"], hostile);
    assert_eq!(told["bots"]["greeter"]["health"], "paused");
    let verb = home.imbabot(&["status", "--json"]).expect(69).json();
    for part in ["deliveries", "bots", "dead"] {
        assert_eq!(verb[part], told[part]);
    }
    assert_eq!(verb["waiting"][0]["name"], hostile);
}

#[test]
fn a_host_that_is_not_ours_is_told_nothing_but_the_probes() {
    let chat = Chat::open();
    let home = Home::at(&chat, "");
    let file = std::fs::read_to_string(home.path("imbabot.toml")).unwrap();
    let allowed = "[http]\nallowed_hosts = [\"bots.example\"]\n";
    home.write("imbabot.toml", file.replacen("[http]\n", allowed, 1), 0o600);
    let daemon = home.ready();
    let pages = ["/", "/metrics", "/api/status", "/no/such/page"];
    for host in ["evil.example", "localhost.evil.example", "", "localhost@evil.example", "0.0.0.0"]
    {
        for path in pages {
            assert_eq!(status(&home, path, &[&format!("Host: {host}")]), 421, "{host} {path}");
        }
        for probe in ["/livez", "/readyz"] {
            assert_eq!(status(&home, probe, &[&format!("Host: {host}")]), 200, "{host} {probe}");
        }
    }
    for host in ["localhost", "127.0.0.1:1", "[::1]:9627", "bots.example", "BOTS.example:443"] {
        for path in &pages[..3] {
            assert_eq!(status(&home, path, &[&format!("Host: {host}")]), 200, "{host} {path}");
        }
    }
    let to = home.http().0;
    // The target counts before the header; several hosts are none.
    let absolute = "GET http://evil.example/metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(raw(to, absolute), Some(421));
    let twice = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n";
    assert_eq!(raw(to, twice), Some(400));
    assert_eq!(raw(to, "GET /metrics HTTP/1.0\r\n\r\n"), Some(421));
    daemon.stop();
}

#[test]
fn x16_nothing_that_is_asked_changes_anything_and_no_other_origin_is_let_in() {
    let chat = Chat::open();
    chat.open_room("Team");
    let home = Home::at(&chat, "");
    let daemon = home.ready();
    let before = home.imbabot(&["ledger", "export"]).expect(0).stdout;
    for path in ["/", "/livez", "/readyz", "/metrics", "/api/status"] {
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"] {
            let page = ask(&home, method, path, &["Content-Length: 0"]);
            assert_eq!(page.status, 405, "{method} {path}");
            assert!(page.head.contains("allow: get,head"), "{}", page.head);
        }
        assert_eq!(ask(&home, "HEAD", path, &[]).status, 200, "HEAD {path}");
        assert_eq!(ask(&home, "HEAD", path, &[]).body, "");
        let lines = ["Origin: https://evil.example", "Sec-Fetch-Site: cross-site"];
        let page = ask(&home, "GET", path, &lines);
        assert!(!page.head.contains("access-control-"), "{}", page.head);
        assert!(page.head.contains("cross-origin-resource-policy: same-origin"));
        assert!(page.head.contains("frame-ancestors 'none'"));
    }
    for path in
        ["/pause", "/resume", "/api", "/api/status/x", "/control/state", "/..", "/metrics/", "//"]
    {
        for method in ["GET", "POST"] {
            let got = ask(&home, method, path, &["Content-Length: 0"]).status;
            assert!([404, 405].contains(&got), "{method} {path}: {got}");
        }
    }
    let after = home.imbabot(&["ledger", "export"]).expect(0).stdout;
    assert_eq!(before, after, "state unchanged");
    daemon.stop();
}

#[test]
fn heads_and_bodies_have_their_limits() {
    let chat = Chat::open();
    let home = Home::at(&chat, "");
    let daemon = home.ready();
    let to = home.http().0;
    let host = format!("Host: {to}\r\n");
    // A head of many kilobytes, of many lines, a target without end, and what is no HTTP at all.
    for (what, text) in [
        ("bytes", format!("GET /metrics HTTP/1.1\r\n{host}X: {}\r\n\r\n", "x".repeat(20_000))),
        ("lines", format!("GET /metrics HTTP/1.1\r\n{host}{}\r\n", "X: y\r\n".repeat(100))),
        ("target", format!("GET /{} HTTP/1.1\r\n{host}\r\n", "x".repeat(20_000))),
        ("nonsense", "\u{1}\u{2}\u{3}\r\n\r\n".to_owned()),
    ] {
        let status = raw(to, &text);
        assert!(status.is_none_or(|status| (400..500).contains(&status)), "{what}: {status:?}");
    }
    let long = ask(&home, "GET", "/metrics", &["Content-Length: 1000000"]);
    assert_eq!(long.status, 413, "before a byte of it came");
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let chunked = format!(
        "GET /metrics HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n{chunk}{chunk}0\r\n\r\n"
    );
    // The answer may be lost with what was still on its way.
    assert!(raw(to, &chunked).is_none_or(|status| status == 413));
    let short = format!("GET /livez HTTP/1.1\r\n{host}Content-Length: 5\r\n\r\nhello");
    assert_eq!(raw(to, &short), Some(200));
    assert!(home.http().is_ready(), "and it goes on");
    daemon.stop();
}

#[test]
fn x14_beyond_this_machine_nothing_is_served_without_a_good_token() {
    let home = Home::new("http://127.0.0.1:9", "");
    let file = std::fs::read_to_string(home.path("imbabot.toml")).unwrap();
    let change = |listen: &str, more: &str| {
        let port = home.http().0.port();
        let was = format!("listen = \"127.0.0.1:{port}\"\n");
        assert!(file.contains(&was));
        home.write(
            "imbabot.toml",
            file.replace(&was, &format!("listen = \"{listen}\"\n{more}")),
            0o600,
        );
    };
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:9627", "[::ffff:192.0.2.1]:9627"] {
        change(address, "");
        for verb in ["check", "run"] {
            let ended = home.imbabot(&[verb]).expect(78);
            assert!(
                ended.stderr.contains("IMB-C-080") || ended.stdout.contains("IMB-C-080"),
                "{ended:?}"
            );
        }
    }
    // All that keeps others out must not be guessed.
    home.write("http_token", "s3cret", 0o600);
    change("0.0.0.0:0", "token_file = \"http_token\"\n");
    let ended = home.imbabot(&["check"]).expect(78);
    assert!(ended.stdout.contains("IMB-C-042") || ended.stderr.contains("IMB-C-042"), "{ended:?}");
    home.write("http_token", TOKEN, 0o644);
    home.imbabot(&["check"]).expect(78);
    home.write("http_token", TOKEN, 0o600);
    home.imbabot(&["check"]).expect(0);
}

#[test]
fn a_token_opens_the_pages_for_any_host_and_nothing_else_does() {
    let chat = Chat::open();
    let (home, daemon) = with_token(&chat, "");
    let bearer = format!("Authorization: Bearer {TOKEN}");
    for path in ["/", "/metrics", "/api/status"] {
        assert_eq!(status(&home, path, &[&bearer]), 200);
        assert_eq!(status(&home, path, &[&bearer, "Host: evil.example"]), 200);
        assert_eq!(status(&home, path, &[&bearer.replace("Bearer", "bearer")]), 200);
        let refused = ask(&home, "GET", path, &[]);
        assert_eq!(refused.status, 401, "a loopback name is not enough");
        assert!(refused.head.contains("www-authenticate: bearer"), "{}", refused.head);
        assert_eq!(status(&home, path, &["Host: evil.example"]), 421);
        let in_target = format!("{path}?token={TOKEN}");
        assert_eq!(status(&home, &in_target, &[]), 401, "never in an address");
    }
    for probe in ["/livez", "/readyz"] {
        assert_eq!(status(&home, probe, &["Host: evil.example"]), 200);
    }
    assert!(!daemon.log().contains(TOKEN));
    daemon.stop();
}

#[test]
fn x17_ten_wrong_tokens_within_a_minute_and_none_is_looked_at() {
    let chat = Chat::open();
    let (home, daemon) = with_token(&chat, "");
    let bearer = |token: &str| format!("Authorization: Bearer {token}");
    for n in 0..10 {
        let guess = format!("{TOKEN}{n}");
        assert_eq!(status(&home, "/metrics", &[&bearer(&guess)]), 401, "guess {n}");
    }
    let refused = ask(&home, "GET", "/metrics", &[&bearer("another")]);
    assert_eq!(refused.status, 429);
    assert!(refused.head.contains("retry-after: 60"), "{}", refused.head);
    // That it is right is what a guesser must not learn.
    assert_eq!(status(&home, "/metrics", &[&bearer(TOKEN)]), 429);
    assert_eq!(status(&home, "/metrics", &[&bearer(TOKEN), "Host: evil.example"]), 429);
    assert_eq!(status(&home, "/metrics", &[]), 401, "who does not guess is told what is needed");
    assert!(home.http().is_ready(), "probes are for everybody");
    wait_until("it is said once", || daemon.log().matches("IMB-H-TOKEN").count() == 1);
    daemon.stop();
}

#[test]
fn o5_connections_beyond_64_wait_and_are_served_in_turn() {
    let chat = Chat::open();
    let home = Home::at(&chat, "");
    let daemon = home.ready();
    let to = home.http().0;
    let mut silent: Vec<TcpStream> = (0..64).map(|_| TcpStream::connect(to).unwrap()).collect();
    // The 65th is not answered while 64 others say nothing; it is once one of them goes.
    let mut waiting = TcpStream::connect(to).unwrap();
    waiting.write_all(format!("GET /livez HTTP/1.1\r\nHost: {to}\r\n\r\n").as_bytes()).unwrap();
    waiting.set_read_timeout(Some(std::time::Duration::from_millis(500))).unwrap();
    let mut byte = [0];
    assert!(waiting.read(&mut byte).is_err(), "it waits");
    silent.truncate(60);
    waiting.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    daemon.stop();
}
