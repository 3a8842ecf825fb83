//! A database server of a test's own, to be stopped and started as it likes. There is none where
//! PostgreSQL's programs are not installed, which one line says.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A server in a folder of its own.
pub(crate) struct Server {
    bin: PathBuf,
    folder: tempfile::TempDir,
    user: Option<(u32, u32)>,
    pub(crate) at: SocketAddr,
}

impl Server {
    /// A new one, which runs with these settings.
    pub(crate) fn start(settings: &[&str]) -> Option<Self> {
        let Some(bin) = programs() else {
            let line = "left out: what needs a server of its own; there is no initdb\n";
            let _ = std::io::stderr().lock().write_all(line.as_bytes());
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        // It does not run as root.
        let user = (id(&["-u"]) == Some(0)).then(|| {
            let user = ["postgres", "nobody"].into_iter();
            user.filter_map(|name| Some((id(&["-u", name])?, id(&["-g", name])?))).next().unwrap()
        });
        if let Some((uid, gid)) = user {
            std::os::unix::fs::chown(folder.path(), Some(uid), Some(gid)).unwrap();
        }
        let at = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let server = Self { bin, folder, user, at };
        server.run("initdb", &["-A", "trust", "-U", "postgres", "-N", "-E", "UTF8", "--locale=C"]);
        let mut lines = format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = ''\n\
             shared_buffers = '16MB'\n",
            at.port()
        );
        for setting in settings {
            lines.push_str(setting);
            lines.push('\n');
        }
        let conf = server.data().join("postgresql.conf");
        std::fs::OpenOptions::new()
            .append(true)
            .open(conf)
            .unwrap()
            .write_all(lines.as_bytes())
            .unwrap();
        server.go();
        Some(server)
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@{}/postgres", self.at)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Starts it.
    pub(crate) fn go(&self) {
        self.run("pg_ctl", &["-w", "-t", "60", "-l", &self.log(), "start"]);
    }

    /// Stops it as if it were killed: what it has not written is lost, and it recovers when it starts.
    pub(crate) fn stop(&self) {
        self.run("pg_ctl", &["-w", "-m", "immediate", "stop"]);
    }

    /// Stops it with everything written.
    pub(crate) fn stop_well(&self) {
        self.run("pg_ctl", &["-w", "-m", "fast", "stop"]);
    }

    fn log(&self) -> String {
        self.folder.path().join("log").display().to_string()
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let status = self.command(program, arguments).status().unwrap();
        let log = || std::fs::read_to_string(self.log()).unwrap_or_default();
        assert!(status.success(), "{program} {arguments:?}\n{}", log());
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.arg("-D").arg(self.data()).args(arguments);
        command.current_dir(self.folder.path()).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::null()).env("LC_ALL", "C");
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.command("pg_ctl", &["-w", "-m", "immediate", "stop"]).status();
    }
}

/// Where the newest `initdb` is.
fn programs() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = folders.map(|entry| entry.path().join("bin")).collect();
    found.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    found.splice(0..0, std::env::split_paths(&path));
    found.into_iter().rev().find(|folder| is_there(&folder.join("initdb")))
}

fn is_there(path: &Path) -> bool {
    path.is_file()
}

fn id(arguments: &[&str]) -> Option<u32> {
    let output = Command::new("id").args(arguments).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}
