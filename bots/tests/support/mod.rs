//! What the tests of the real program share: a chat in this process, a folder with a configuration,
//! and the program as a process that is watched, asked over HTTP, signalled and killed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]
#![allow(clippy::disallowed_methods, reason = "another process takes real time")]
#![allow(clippy::print_stdout, reason = "what was measured is told")]
#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod postgres;
pub(crate) mod wall;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use imbabot_simulator::{Clock, LogEntry, Loopback, LoopbackOptions, Options, Simulator};
use imbabot_store::{DeliveryRecord, LedgerLine, Line};
use imbabot_testing::{Check, SeenRequest};
pub(crate) use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
use serde_json::Value;

/// How long anything may take on a busy machine that is expected to happen at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The secret of the simulated widget.
pub(crate) const SECRET: &str = "simulator-secret";

/// The program under test; `IMBABOT_TEST_PROGRAM` names another build of it. The tests of the crate
/// `hostile` run their own.
pub(crate) fn path_of_program() -> PathBuf {
    match option_env!("CARGO_BIN_EXE_imbabot") {
        Some(program) => {
            let other = std::env::var_os("IMBABOT_TEST_PROGRAM");
            other.map_or_else(|| program.into(), PathBuf::from)
        }
        None => option_env!("CARGO_BIN_EXE_imbabot-hostile").unwrap_or_default().into(),
    }
}

/// Microseconds since 1970.
pub(crate) fn now_micros() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap()
}

/// Looks until there is something.
pub(crate) fn wait_for<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    wait_within(PATIENCE, what, look)
}

/// The same, with another patience.
pub(crate) fn wait_within<T>(
    patience: Duration,
    what: &str,
    mut look: impl FnMut() -> Option<T>,
) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < patience, "waited {patience:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Looks until it holds.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    wait_for(what, || holds().then_some(()));
}

/// Watches for a while that something goes on to hold.
pub(crate) fn holds_for(length: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while begun.elapsed() < length {
        assert!(holds(), "{what}, after {:?}", begun.elapsed());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A simulated ImbaChat on a port of its own.
pub(crate) struct Chat {
    simulator: Simulator,
    url: String,
    door: Option<Loopback>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Chat {
    pub(crate) fn open() -> Self {
        Self::with(Options::default())
    }

    pub(crate) fn with(options: Options) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let simulator = Simulator::new(options, Clock::system());
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let door = Loopback::bind(any, simulator.clone(), LoopbackOptions::default());
        let door = runtime.block_on(door).unwrap();
        Self { simulator, url: door.url(), door: Some(door), runtime: Some(runtime) }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Takes the server down, or up again, and waits until a client sees it.
    pub(crate) fn down(&self, down: bool) {
        self.simulator.server_down(down);
        let address: SocketAddr = self.url.strip_prefix("http://").unwrap().parse().unwrap();
        wait_until("the port follows", || TcpStream::connect(address).is_err() == down);
    }

    /// The texts in a room, in order.
    pub(crate) fn texts(&self, room: i64) -> Vec<String> {
        self.simulator.messages(room).into_iter().map(|message| message.text).collect()
    }

    /// Adds faults, in the words of the simulator.
    pub(crate) fn fault(&self, spec: &str) {
        self.simulator.faults().push_spec(spec).unwrap();
    }

    /// What was asked of an endpoint so far.
    pub(crate) fn asked(&self, endpoint: &str) -> Vec<LogEntry> {
        let mut log = self.simulator.log();
        log.retain(|entry| entry.endpoint.is_some_and(|e| e.name() == endpoint));
        log
    }

    pub(crate) fn seen(&self) -> Vec<SeenRequest> {
        self.simulator.log().iter().map(SeenRequest::from).collect()
    }
}

impl Deref for Chat {
    type Target = Simulator;
    fn deref(&self) -> &Simulator {
        &self.simulator
    }
}

impl Drop for Chat {
    fn drop(&mut self) {
        drop(self.door.take());
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// A folder with a configuration, a secret and, once something ran, a store.
pub(crate) struct Home {
    folder: tempfile::TempDir,
    port: u16,
}

impl Home {
    /// With one widget at this address; `more` goes on where that widget's table ends.
    pub(crate) fn new(url: &str, more: &str) -> Self {
        let home = Self { folder: tempfile::tempdir().unwrap(), port: free_port() };
        home.secret(SECRET);
        home.configure(url, more);
        home
    }

    pub(crate) fn at(chat: &Chat, more: &str) -> Self {
        Self::new(chat.url(), more)
    }

    /// Writes the configuration anew. Rates do not hold tests up; polls are quick.
    pub(crate) fn configure(&self, url: &str, more: &str) {
        let port = self.port;
        let mut text = format!(
            "[[widget]]\nid = 627\nbase_url = \"{url}\"\nsecret_key_file = \"secret_key\"\nsender = 1\n\
             [http]\nlisten = \"127.0.0.1:{port}\"\n"
        );
        for (section, usual) in [
            ("[poll]", "rooms = \"100ms\"\nusers = \"100ms\"\n"),
            ("[delivery]", "rate = \"1000/s\"\nrate_per_room = \"1000/s\"\n"),
        ] {
            if !more.contains(section) {
                text.push_str(&format!("{section}\n{usual}"));
            }
        }
        text.push_str(more);
        self.write("imbabot.toml", text, 0o600);
    }

    pub(crate) fn secret(&self, key: &str) {
        self.write("secret_key", key, 0o600);
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>, mode: u32) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn http(&self) -> Http {
        Http(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)))
    }

    /// The program with this configuration.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program(arguments);
        command.arg("--config").arg(self.path("imbabot.toml"));
        command
    }

    /// Runs a verb to its end.
    pub(crate) fn imbabot(&self, arguments: &[&str]) -> Ended {
        end_of(self.command(arguments), "")
    }

    /// Runs a verb that has to work, and reads the JSON that it prints.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let mut with_json = arguments.to_vec();
        with_json.push("--json");
        self.imbabot(&with_json).expect(0).json()
    }

    /// Starts the daemon and does not wait for anything.
    pub(crate) fn start(&self) -> Daemon {
        Daemon::spawn(self.command(&["run"]), self)
    }

    /// Starts the daemon and waits until it is ready.
    pub(crate) fn ready(&self) -> Daemon {
        let daemon = self.start();
        daemon.wait_ready();
        daemon
    }

    pub(crate) fn ledger(&self) -> Vec<LedgerLine> {
        let export = self.imbabot(&["ledger", "export"]).expect(0);
        export.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The present of every delivery.
    pub(crate) fn deliveries(&self) -> Vec<DeliveryRecord> {
        present(&self.ledger())
    }

    /// Holds the ledger against what the server saw.
    pub(crate) fn check(&self, chat: &Chat) -> Check {
        Check::new().requests(chat.seen()).ledger(self.ledger())
    }
}

/// The present of every delivery in a ledger, in the order of their first lines.
pub(crate) fn present(lines: &[LedgerLine]) -> Vec<DeliveryRecord> {
    let mut records: Vec<DeliveryRecord> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for line in lines {
        if let Line::Delivery(record) = &line.line {
            let place = *places.entry(record.id).or_insert(records.len());
            match records.get_mut(place) {
                Some(known) => *known = (**record).clone(),
                None => records.push((**record).clone()),
            }
        }
    }
    records
}

/// No violation, or all of them.
#[track_caller]
pub(crate) fn assert_holds(check: &Check) {
    let found: Vec<String> = check.run().iter().map(ToString::to_string).collect();
    assert!(found.is_empty(), "{} violations:\n{}", found.len(), found.join("\n"));
}

/// The program, without anything in its environment that is meant for it.
pub(crate) fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(path_of_program());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("IMBABOT") {
            command.env_remove(name);
        }
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs a command to its end.
pub(crate) fn end_of(mut command: Command, input: &str) -> Ended {
    let words = format!("{command:?}");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A program that does not read its input may be gone by now.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Ended {
        words,
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// How a process ended, and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    words: String,
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// It ended with this exit code.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        let Self { words, code: got, stdout, stderr } = &self;
        assert_eq!(*got, Some(code), "{words}\nstdout: {stdout}\nstderr: {stderr}");
        self
    }

    /// What it printed, as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        match serde_json::from_str(&self.stdout) {
            Ok(value) => value,
            Err(error) => panic!("{}: {error}\n{}", self.words, self.stdout),
        }
    }

    /// The last line of stderr, as the JSON of an error.
    #[track_caller]
    pub(crate) fn error(&self) -> Value {
        let line = self.stderr.lines().last().unwrap_or_default();
        match serde_json::from_str::<Value>(line) {
            Ok(value) => value["error"].clone(),
            Err(error) => panic!("{}: {error}\n{}", self.words, self.stderr),
        }
    }
}

/// A daemon that runs. Dropping it kills it.
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
    /// So much of it earlier ones said.
    before: usize,
    http: Http,
    spawned: Instant,
}

impl Daemon {
    /// Starts the command; what it says goes to a file, appended to what earlier ones said.
    pub(crate) fn spawn(mut command: Command, home: &Home) -> Self {
        let log = home.path("daemon.log");
        let file = File::options().create(true).append(true).open(&log).unwrap();
        let before = usize::try_from(file.metadata().unwrap().len()).unwrap();
        command.stdout(file.try_clone().unwrap()).stderr(file);
        let spawned = Instant::now();
        Self { child: command.spawn().unwrap(), log, before, http: home.http(), spawned }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Since it was spawned.
    pub(crate) fn age(&self) -> Duration {
        self.spawned.elapsed()
    }

    /// What it said, without what earlier ones did.
    pub(crate) fn said(&self) -> String {
        self.log().get(self.before..).unwrap_or_default().to_owned()
    }

    /// What was said here; lines that are on their way to the file have a moment to get there.
    pub(crate) fn log(&self) -> String {
        let read = || std::fs::read_to_string(&self.log).unwrap();
        let mut said = read();
        for _ in 0..10 {
            std::thread::sleep(Duration::from_millis(20));
            let more = read();
            if more.len() == said.len() {
                break;
            }
            said = more;
        }
        said
    }

    /// Waits until it says so.
    pub(crate) fn wait_says(&self, words: &str) {
        wait_until(&format!("it says {words:?}"), || self.said().contains(words));
    }

    pub(crate) fn http(&self) -> &Http {
        &self.http
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn wait_ready(&self) {
        wait_until(&format!("ready:\n{}", self.log()), || self.http.is_ready());
    }

    /// Waits until `/readyz` gives this as its only reason.
    pub(crate) fn wait_reason(&self, reason: &str) {
        wait_until(&format!("not ready because {reason}"), || {
            self.http.get("/readyz").is_some_and(|answer| {
                answer.status == 503
                    && answer.json() == serde_json::json!({"ready": false, "reasons": [reason]})
            })
        });
    }

    /// Waits until `/readyz` gives this as one of its reasons.
    pub(crate) fn wait_reason_among(&self, reason: &str) {
        wait_until(&format!("not ready because {reason}, among others"), || {
            self.http.get("/readyz").is_some_and(|answer| {
                answer.status == 503 && answer.body.contains(&format!("{reason:?}"))
            })
        });
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }

    /// Waits for its end: the exit code, or `None` where a signal ended it.
    pub(crate) fn end(mut self) -> Option<i32> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            if begun.elapsed() > PATIENCE {
                let doing = self.http.get("/api/status").map(|page| page.body);
                panic!("the process does not end; it says {doing:?}\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Asks it to stop, which it has to do well.
    #[track_caller]
    pub(crate) fn stop(self) {
        let log = self.log.clone();
        self.signal(Signal::TERM);
        assert_eq!(self.end(), Some(0), "{}", std::fs::read_to_string(log).unwrap());
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The HTTP surface of a daemon.
#[derive(Clone, Copy)]
pub(crate) struct Http(pub(crate) SocketAddr);

impl Http {
    /// Asks for a page; `None` where nobody answers.
    pub(crate) fn get(&self, path: &str) -> Option<Page> {
        request(
            self.0,
            &format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.0),
        )
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.get("/readyz").is_some_and(|answer| answer.status == 200)
    }

    /// The value of a metric, written as `name{labels}`.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let page = self.get("/metrics")?;
        let line = page.body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        line.parse().ok()
    }
}

/// Sends these bytes and reads what comes back.
pub(crate) fn request(to: SocketAddr, text: &str) -> Option<Page> {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.write_all(text.as_bytes()).ok()?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Page { status, head: head.to_ascii_lowercase(), body: body.to_owned() })
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Page {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// Random numbers from a seed (SplitMix64): a test that fails says with which.
pub(crate) struct Rng(u64);

impl Rng {
    /// Seeded by `IMBABOT_TEST_SEED`, or by the time.
    pub(crate) fn new() -> Self {
        let seed = match std::env::var("IMBABOT_TEST_SEED") {
            Ok(seed) => seed.parse().unwrap(),
            Err(_) => now_micros().unsigned_abs(),
        };
        println!("IMBABOT_TEST_SEED={seed}");
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from `from` to `to`, both possible.
    pub(crate) fn within(&mut self, from: u64, to: u64) -> u64 {
        from + self.next() % (to - from + 1)
    }

    pub(crate) fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.within(from, to))
    }

    /// One of several.
    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.next()).unwrap_or(usize::MAX) % from.len()]
    }

    /// True once in so many times.
    pub(crate) fn once_in(&mut self, times: u64) -> bool {
        self.next().is_multiple_of(times)
    }
}
