//! x
#![allow(clippy::unwrap_used, clippy::panic, reason = "x")]
mod support;
use support::*;
#[test]
fn repro() {
    let chat = Chat::open();
    let room = chat.open_room("Team 1").to_string();
    let home = Home::at(&chat, "");
    for n in 0..300 {
        chat.server_down(true);
        home.imbabot(&["send", "--room", &room, "x"]);
        chat.server_down(false);
        chat.faults().clear();
        chat.fault("any:status=500:body=@warning:always");
        let asked = chat.log().len();
        let daemon = home.start();
        wait_until("asks", || chat.log().len() > asked + 1);
        daemon.signal(Signal::TERM);
        let b = std::time::Instant::now();
        let mut daemon = daemon;
        while daemon.is_running() {
            if b.elapsed() > std::time::Duration::from_secs(3) {
                println!("HANG at {n}");
                let pid = daemon.pid();
                let ss = std::process::Command::new("sh").arg("-c").arg(format!("ss -tnpo | grep -E 'pid={pid}|{}'; ls -l /proc/{pid}/fd", chat.url().rsplit(':').next().unwrap())).output().unwrap();
                println!("{}", String::from_utf8_lossy(&ss.stdout));
                for e in chat.log().iter().skip(asked) { println!("{}", e.to_json_line()); }
                println!("{:?}", daemon.http().get("/api/status"));
                panic!("{}", daemon.log());
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}
