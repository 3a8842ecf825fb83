//! PostgreSQL for tests of the real program: a database of its own in the server that
//! `IMBABOT_TEST_POSTGRES` names, or a server of its own that may be killed. Where there is neither, one
//! line says so and the test is left out.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use super::{free_port, wait_until};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Says what is not run, past the capture of the test's own output.
fn left_out(what: &str) {
    let line = format!("left out: {what}\n");
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
}

/// A database, dropped with this value.
pub(crate) struct Database {
    server: String,
    name: String,
    pub(crate) url: String,
}

impl Database {
    /// A new one; none where no server is named.
    pub(crate) fn new() -> Option<Self> {
        let Ok(server) = std::env::var("IMBABOT_TEST_POSTGRES") else {
            left_out("what needs PostgreSQL; IMBABOT_TEST_POSTGRES names no database");
            return None;
        };
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("imba_test_{}_{n}", std::process::id());
        run(&server, &format!("CREATE DATABASE {name}"));
        // The same server, another database: the path of the URL.
        let (before, query) =
            server.split_once('?').map_or((&*server, None), |(b, q)| (b, Some(q)));
        let base = before.rsplit_once('/').unwrap().0;
        let url = match query {
            Some(query) => format!("{base}/{name}?{query}"),
            None => format!("{base}/{name}"),
        };
        Some(Self { server, name, url })
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        run(&self.server, &format!("DROP DATABASE {} WITH (FORCE)", self.name));
    }
}

/// Runs a statement by itself.
pub(crate) fn run(url: &str, sql: &str) {
    with(url, async |client| client.batch_execute(sql).await.unwrap());
}

/// The number that a statement gives.
pub(crate) fn number(url: &str, sql: &str) -> i64 {
    with(url, async |client| client.query_one(sql, &[]).await.unwrap().get(0))
}

fn with<T>(url: &str, act: impl AsyncFnOnce(&tokio_postgres::Client) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut config: tokio_postgres::Config = url.parse().unwrap();
        config.ssl_mode(tokio_postgres::config::SslMode::Disable);
        let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
        let driven = tokio::spawn(connection);
        let end = act(&client).await;
        drop(client);
        driven.await.unwrap().unwrap();
        end
    })
}

/// The way of one instance to its database, which may be interrupted: then nothing gets through, in
/// either direction, and nobody is told. What was on its way arrives when it is whole again.
pub(crate) struct Way {
    pub(crate) url: String,
    open: Arc<(Mutex<bool>, Condvar)>,
}

impl Way {
    /// To the database of this URL.
    pub(crate) fn to(url: &str) -> Self {
        let (scheme, rest) = url.split_once("://").unwrap();
        let (authority, path) = rest.split_once('/').unwrap();
        let (user, server) = authority.rsplit_once('@').unwrap_or(("postgres", authority));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("{scheme}://{user}@{}/{path}", listener.local_addr().unwrap());
        let (server, open) = (server.to_owned(), Arc::new((Mutex::new(true), Condvar::new())));
        let way = Arc::clone(&open);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(&server)) else {
                    return;
                };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let way = Arc::clone(&way);
                    thread::spawn(move || carry(from, to, &way));
                }
            }
        });
        Self { url, open }
    }

    /// Interrupts it, or mends it.
    pub(crate) fn open(&self, open: bool) {
        *self.open.0.lock().unwrap() = open;
        self.open.1.notify_all();
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, (open, told): &(Mutex<bool>, Condvar)) {
    let mut buffer = [0; 16_384];
    while let Ok(n) = from.read(&mut buffer) {
        let open = open.lock().unwrap();
        drop(told.wait_while(open, |open| !*open).unwrap());
        if n == 0 || to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

/// A server of our own, that may be stopped and killed.
pub(crate) struct Server {
    folder: tempfile::TempDir,
    programs: PathBuf,
    user: Option<(u32, u32)>,
    port: u16,
}

impl Server {
    /// Makes and starts one; none where PostgreSQL is not installed.
    pub(crate) fn start() -> Option<Self> {
        if std::env::var_os("IMBABOT_TEST_POSTGRES").is_none() {
            left_out("what needs a PostgreSQL of its own; IMBABOT_TEST_POSTGRES names no database");
            return None;
        }
        let Some(programs) = programs() else {
            left_out("what needs a PostgreSQL of its own; there is no initdb here");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        // The server refuses to run as root.
        let user = rustix::process::geteuid().is_root().then(|| user_of("postgres")).flatten();
        if let Some((uid, gid)) = user {
            chown(folder.path(), Some(uid), Some(gid)).unwrap();
        }
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let server = Self { folder, programs, user, port: free_port() };
        server.does("initdb", &["--auth=trust", "--username=postgres", "--encoding=UTF8"]);
        server.up();
        Some(server)
    }

    /// The address of its first database.
    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Starts it.
    pub(crate) fn up(&self) {
        let log = self.folder.path().join("log");
        let options = format!(
            "-c port={} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' \
             -c max_connections=60",
            self.port
        );
        self.does("pg_ctl", &["start", "-w", "-l", log.to_str().unwrap(), "-o", &options]);
    }

    /// Ends it as a power cut would.
    pub(crate) fn killed(&self) {
        self.does("pg_ctl", &["stop", "-m", "immediate"]);
    }

    fn does(&self, program: &str, arguments: &[&str]) {
        let ended = self.command(program, arguments).output().unwrap();
        assert!(ended.status.success(), "{program}: {}", String::from_utf8_lossy(&ended.stderr));
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command
            .arg("-D")
            .arg(self.folder.path().join("data"))
            .args(arguments)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.command("pg_ctl", &["stop", "-m", "immediate"]).output();
    }
}

/// Where the programs of the newest PostgreSQL are.
fn programs() -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|folder| folder.join("initdb").exists())
        .collect();
    found.sort();
    let in_path = std::env::var_os("PATH").into_iter().flat_map(|path| {
        std::env::split_paths(&path).filter(|f| f.join("initdb").exists()).collect::<Vec<_>>()
    });
    in_path.chain(found.into_iter().rev()).next()
}

/// The number of a user and of its group.
fn user_of(name: &str) -> Option<(u32, u32)> {
    let users = std::fs::read_to_string(Path::new("/etc/passwd")).ok()?;
    let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Waits until the server answers again.
pub(crate) fn answers(url: &str) {
    let config: tokio_postgres::Config = url.parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    wait_until("the database answers", || {
        runtime.block_on(config.connect(tokio_postgres::NoTls)).is_ok()
    });
}
