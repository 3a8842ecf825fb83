//! x
#![allow(clippy::unwrap_used, clippy::panic, reason = "x")]
mod support;
use support::*;
const BOTS: &str = r#"
[[bot]]
name = "greeter"
kind = "greeter"
settings = { greeting = "Welcome!" }

[[bot]]
name = "digest"
kind = "digest"
settings = { room = 1536 }
"#;
#[test]
fn repro() {
    let chat = Chat::open();
    let room = chat.open_room("Team 1").to_string();
    let home = Home::at(&chat, BOTS);
    for n in 0..120 {
        home.configure("http://127.0.0.1:9", BOTS);
        for _ in 0..8 {
            home.imbabot(&["send", "--room", &room, "x"]);
        }
        home.configure(chat.url(), BOTS);
        for spec in [
            "any:not-http=garbage garbage:always",
            "any:body=@html:always",
            "any:body=@die:always",
            "any:truncate=20:always",
            "any:status=500:body=@warning:always",
        ] {
            chat.faults().clear();
            chat.fault(spec);
            let asked = chat.log().len();
            let mut c = home.command(&["run", "--log", "trace,hyper=trace,reqwest=trace"]);
            c.env("RUST_BACKTRACE", "full");
            let daemon = Daemon::spawn(c, &home);
            wait_until("it answers", || daemon.http().get("/livez").is_some());
            wait_until("asks", || chat.log().len() > asked + 1);
            for path in ["/readyz", "/livez", "/metrics", "/api/status", "/"] {
                daemon.http().get(path).unwrap();
            }
            daemon.signal(Signal::TERM);
            let b = std::time::Instant::now();
            let mut daemon = daemon;
            while daemon.is_running() {
                if b.elapsed() > std::time::Duration::from_secs(3) {
                    println!("HANG at {n}");
                    let pid = daemon.pid();
                    let ss = std::process::Command::new("sh")
                        .arg("-c")
                        .arg(format!(
                            "ss -tnpo | grep -E 'pid={pid}|{}'; ls -l /proc/{pid}/fd",
                            chat.url().rsplit(':').next().unwrap()
                        ))
                        .output()
                        .unwrap();
                    println!("{}", String::from_utf8_lossy(&ss.stdout));
                    for e in chat.log().iter().skip(asked) {
                        println!("{}", e.to_json_line());
                    }
                    println!("{:?}", daemon.http().get("/api/status"));
                    let l = daemon.log();
                    panic!("{}", &l[l.len().saturating_sub(6000)..]);
                }
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
    }
}
