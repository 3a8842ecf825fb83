//! The daemon beneath a supervisor: what it tells systemd and when, and what becomes of it when nobody
//! reads what it says.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]
#![allow(clippy::disallowed_methods, reason = "another process takes real time")]

mod support;

use std::io::{PipeWriter, Read, Write, pipe};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::process::{Pid, kill_process};
use support::{Chat, Daemon, Home, Signal, holds_for, wait_until};

const GREETER: &str = r#"
[[bot]]
name = "greeter"
kind = "greeter"
settings = { greeting = "Welcome!" }
"#;

/// What a supervisor hears.
struct Ear(UnixDatagram);

impl Ear {
    fn on(socket: UnixDatagram) -> Self {
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        Self(socket)
    }

    /// The next datagram, if one comes within a moment.
    fn hear(&self) -> Option<String> {
        let mut bytes = [0; 4_096];
        let length = self.0.recv(&mut bytes).ok()?;
        Some(String::from_utf8(bytes[..length].to_vec()).unwrap())
    }

    /// Waits for one with this line; what came before it.
    fn wait(&self, line: &str) -> Vec<String> {
        let mut heard = Vec::new();
        wait_until(line, || {
            heard.extend(self.hear());
            heard.last().is_some_and(|last: &String| last.lines().any(|l| l.starts_with(line)))
        });
        heard
    }

    /// All within a while.
    fn listen(&self, length: Duration) -> Vec<String> {
        let begun = Instant::now();
        let mut heard = Vec::new();
        while begun.elapsed() < length {
            heard.extend(self.hear());
        }
        heard
    }
}

#[test]
fn a_supervisor_is_told_of_readiness_progress_reload_and_end() {
    let chat = Chat::open();
    let home = Home::at(&chat, GREETER);
    let path = home.path("notify");
    let ear = Ear::on(UnixDatagram::bind(&path).unwrap());
    let mut command = home.command(&["run"]);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "600000");
    let daemon = Daemon::spawn(command, &home);
    let before = ear.wait("READY=1");
    assert_eq!(before.len(), 1, "nothing before it: {before:?}");
    assert!(daemon.http().get("/livez").is_some(), "whoever is ready is served");
    daemon.wait_ready();
    ear.wait("WATCHDOG=1");
    let fed = ear.listen(Duration::from_secs(2));
    let fed = fed.iter().filter(|said| *said == "WATCHDOG=1").count();
    assert!(
        (5..=12).contains(&fed),
        "three times within the watchdog's time: {fed} in two seconds"
    );

    // What hangs does not say that it makes progress.
    daemon.signal(Signal::STOP);
    ear.listen(Duration::from_millis(300));
    assert_eq!(ear.listen(Duration::from_secs(1)), Vec::<String>::new());
    daemon.signal(Signal::CONT);
    ear.wait("WATCHDOG=1");

    home.imbabot(&["pause"]).expect(0);
    ear.wait("STATUS=not ready: paused");
    home.imbabot(&["resume"]).expect(0);
    ear.wait("STATUS=ready");

    daemon.signal(Signal::HUP);
    let heard = ear.wait("RELOADING=1");
    let micros =
        heard.last().unwrap().lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
    assert!(micros.unwrap().parse::<u64>().unwrap() > 0);
    ear.wait("READY=1");
    // A reload that is refused is over, too.
    home.write("imbabot.toml", "broken", 0o600);
    daemon.signal(Signal::HUP);
    ear.wait("RELOADING=1");
    ear.wait("READY=1");

    daemon.signal(Signal::TERM);
    ear.wait("STOPPING=1");
    assert_eq!(daemon.end(), Some(0));
}

#[test]
fn an_abstract_socket_is_a_supervisor_too_and_a_wrong_one_is_none() {
    use std::os::linux::net::SocketAddrExt;
    let chat = Chat::open();
    let home = Home::at(&chat, "");
    let name = format!("imbabot-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let ear = Ear::on(UnixDatagram::bind_addr(&address).unwrap());
    let mut command = home.command(&["run"]);
    // The watchdog is another process's.
    command.env("NOTIFY_SOCKET", format!("@{name}")).env("WATCHDOG_USEC", "100000");
    command.env("WATCHDOG_PID", "1");
    let daemon = Daemon::spawn(command, &home);
    ear.wait("READY=1");
    daemon.wait_ready();
    let heard = ear.listen(Duration::from_secs(1));
    assert!(!heard.iter().any(|said| said.contains("WATCHDOG")), "{heard:?}");
    daemon.stop();

    for wrong in ["/no/such/socket", "relative", "vsock:2:1"] {
        let mut command = home.command(&["run"]);
        command.env("NOTIFY_SOCKET", wrong).env("WATCHDOG_USEC", "100000");
        let daemon = Daemon::spawn(command, &home);
        daemon.wait_ready();
        daemon.wait_says("IMB-X-NOTIFY");
        holds_for(Duration::from_millis(300), "said once", || {
            daemon.said().matches("IMB-X-NOTIFY").count() == 1
        });
        daemon.stop();
    }
}

/// A daemon whose stdout and stderr are this pipe, with much to say.
struct Talkative(Child);

impl Talkative {
    fn start(home: &Home, to: PipeWriter) -> Self {
        let mut command: Command = home.command(&["run", "--log", "trace"]);
        command.stdout(to.try_clone().unwrap()).stderr(to);
        Self(command.spawn().unwrap())
    }

    /// It does all that it does otherwise, for a while.
    fn works(&mut self, chat: &Chat, home: &Home) {
        wait_until("ready", || home.http().is_ready());
        for n in 0..5 {
            let room = chat.open_room(&format!("Team {n}"));
            wait_until("greeted", || chat.texts(room) == ["Welcome!"]);
        }
        let pid = Pid::from_child(&self.0);
        kill_process(pid, Signal::HUP).unwrap();
        holds_for(Duration::from_millis(500), "alive", || home.http().is_ready());
        let begun = Instant::now();
        kill_process(pid, Signal::TERM).unwrap();
        assert_eq!(self.0.wait().unwrap().code(), Some(0));
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
}

impl Drop for Talkative {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_pipe_that_nobody_reads_holds_up_no_message() {
    let chat = Chat::open();
    let home = Home::at(&chat, GREETER);
    let (mut reader, mut writer) = pipe().unwrap();
    // To the brim: whoever writes one byte more waits for ever.
    writer.write_all(&[b'x'; 65_536]).unwrap();
    let mut daemon = Talkative::start(&home, writer);
    daemon.works(&chat, &home);
    let mut said = Vec::new();
    reader.read_to_end(&mut said).unwrap();
    assert_eq!(
        said.iter().filter(|byte| **byte == b'x').count(),
        said.len(),
        "it was full all along"
    );
}

#[test]
fn a_pipe_that_was_closed_holds_up_no_message() {
    let chat = Chat::open();
    let home = Home::at(&chat, GREETER);
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    Talkative::start(&home, writer).works(&chat, &home);
}

#[test]
fn a_machine_that_reads_the_log_finds_an_object_in_each_line() {
    let chat = Chat::open();
    let home = Home::at(&chat, GREETER);
    let mut command = home.command(&["run", "--log", "debug", "--log-format", "json"]);
    command.env("RUST_BACKTRACE", "full");
    let daemon = Daemon::spawn(command, &home);
    daemon.wait_ready();
    let room = chat.open_room("A\u{1b}[2J\r\nroom");
    wait_until("greeted", || chat.texts(room) == ["Welcome!"]);
    chat.fault("send_msg:code=422");
    home.imbabot(&["send", "--room", &room.to_string(), "refused"]).expect(0);
    wait_until("it is said", || daemon.log().contains("rejected"));
    let log = daemon.log();
    daemon.stop();
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
        .collect();
    for line in &lines {
        for field in ["timestamp", "level", "target", "message"] {
            assert!(line[field].is_string(), "{line}");
        }
    }
    let said = |words: &str| {
        let found = lines.iter().find(|line| line["message"].as_str().unwrap().contains(words));
        found.unwrap_or_else(|| panic!("{words}:\n{log}"))
    };
    assert_eq!(said("delivered")["delivery"].as_str().unwrap().len(), 32);
    assert_eq!(said("rejected")["code"], "body_4xx");
}

#[test]
fn core_dumps_are_off_unless_they_are_wanted() {
    let chat = Chat::open();
    let home = Home::at(&chat, "");
    let limit = |daemon: &Daemon| {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        line.split_whitespace().nth(4).unwrap().to_owned()
    };
    for (wanted, expected) in [(None, "0"), (Some("0"), "0"), (Some("1"), "8192")] {
        let mut shell = Command::new("sh");
        shell.args(["-c", "ulimit -S -c 16; exec \"$0\" \"$@\""]);
        let inner = home.command(&["run"]);
        shell.arg(inner.get_program()).args(inner.get_args());
        if let Some(wanted) = wanted {
            shell.env("IMBABOT_CORE_DUMPS", wanted);
        }
        let daemon = Daemon::spawn(shell, &home);
        daemon.wait_ready();
        assert_eq!(limit(&daemon), expected, "{wanted:?}");
        daemon.stop();
    }
}
