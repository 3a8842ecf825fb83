//! A process that polls, seen from outside.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::naive::{NAIVE, NODE, PAUSE, PYTHON, TELEGRAM};
use crate::process;
use crate::server::Server;

/// A process; it is killed with this.
pub(super) struct Contender {
    name: &'static str,
    child: Child,
    /// Where the daemon keeps what it has.
    folder: Option<(TempDir, PathBuf)>,
}

impl Drop for Contender {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Contender {
    /// The daemon, without bots, with this pause between two polls.
    pub(super) fn imbabot(binary: &Path, server: &Server, pause: &str) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("imbabot-bench").tempdir_in(".")?;
        let secret = folder.path().join("secret_key");
        fs::write(&secret, "bench")?;
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600))?;
        let config = folder.path().join("imbabot.toml");
        let text = format!(
            "[[widget]]\nid = 627\nsender = 1\nbase_url = \"{}\"\nsecret_key_file = \"secret_key\"\n\
             [poll]\nrooms = \"{pause}\"\n[http]\nlisten = \"off\"\n[log]\nlevel = \"warn\"\n",
            server.url("imbabot"),
        );
        fs::write(&config, text)?;
        let mut command = Command::new(binary);
        command.arg("run").arg("--config").arg(&config);
        Self::start("imbabot", command, Some((folder, config)))
    }

    /// The daemon killed and started again, on the store that it has.
    pub(super) fn again(mut self, binary: &Path) -> anyhow::Result<Self> {
        self.child.kill()?;
        self.child.wait()?;
        let mut command = Command::new(binary);
        command.arg("run");
        if let Some(config) = self.config() {
            command.arg("--config").arg(config);
        }
        let folder = self.folder.take();
        Self::start(self.name, command, folder)
    }

    pub(super) fn naive(server: &Server) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(NAIVE).arg(server.url("naive") + "/get_rooms");
        Self::start("naive", command, None)
    }

    /// `None` if there is no Python with aiohttp.
    pub(super) fn aiohttp(server: &Server) -> anyhow::Result<Option<Self>> {
        Self::python("aiohttp", "aiohttp", PYTHON, PAUSE, server)
    }

    /// `None` if there is no Python with python-telegram-bot.
    pub(super) fn telegram(server: &Server) -> anyhow::Result<Option<Self>> {
        Self::python("telegram", "telegram.ext", TELEGRAM, Duration::from_secs(1), server)
    }

    /// A process that runs this, with the address and the seconds between two polls.
    fn python(
        name: &'static str,
        library: &str,
        code: &str,
        pause: Duration,
        server: &Server,
    ) -> anyhow::Result<Option<Self>> {
        let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
        let imports = format!("import {library}");
        let has = Command::new(&python).args(["-c", &imports]).stderr(Stdio::null()).status();
        if !has.is_ok_and(|status| status.success()) {
            return Ok(None);
        }
        let mut command = Command::new(python);
        let pause = pause.as_secs_f64().to_string();
        command.args(["-c", code]).arg(server.url(name) + "/get_rooms").arg(pause);
        Self::start(name, command, None).map(Some)
    }

    /// `None` if there is no Node.js.
    pub(super) fn node(server: &Server) -> anyhow::Result<Option<Self>> {
        let has = Command::new("node").arg("--version").stdout(Stdio::null()).status();
        if !has.is_ok_and(|status| status.success()) {
            return Ok(None);
        }
        let mut command = Command::new("node");
        command.args(["-e", NODE]).arg(server.url("node") + "/get_rooms");
        Self::start("node", command, None).map(Some)
    }

    fn start(
        name: &'static str,
        mut command: Command,
        folder: Option<(TempDir, PathBuf)>,
    ) -> anyhow::Result<Self> {
        Ok(Self { name, child: command.spawn()?, folder })
    }

    /// The daemon's configuration.
    pub(super) fn config(&self) -> Option<&Path> {
        self.folder.as_ref().map(|(_, config)| config.as_path())
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        Ok(kill_process(pid.ok_or_else(|| anyhow::anyhow!("no process"))?, signal)?)
    }

    pub(super) fn stop(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    pub(super) fn resume(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    /// Waits until the first poll has ended and the second begins; seconds and CPU of the first.
    pub(super) fn first(
        &mut self,
        server: &Server,
        patience: Duration,
    ) -> anyhow::Result<(f64, f64)> {
        server.wait_for(self.name, 1, patience)?;
        let begun = Instant::now();
        while server.requests(self.name) < 2 {
            anyhow::ensure!(begun.elapsed() < patience, "{} does not ask again", self.name);
            anyhow::ensure!(self.child.try_wait()?.is_none(), "{} has ended", self.name);
            self.hurry()?;
            std::thread::sleep(Duration::from_millis(250));
        }
        Ok((begun.elapsed().as_secs_f64(), process::cpu(self.pid())?))
    }

    /// The pause of the daemon after a long poll can be long; a reload ends it.
    pub(super) fn hurry(&self) -> anyhow::Result<()> {
        if self.name == "imbabot" { self.signal(Signal::HUP) } else { Ok(()) }
    }

    /// CPU of each of so many polls, from one request to another: all that it does is in it.
    pub(super) fn cpu_of_polls(&self, server: &Server, polls: u64) -> anyhow::Result<f64> {
        let before = server.requests(self.name);
        let patience = Duration::from_secs(120);
        // To it a poll in the middle of which it was stopped took long, and so does the pause after.
        while server.requests(self.name) < before + 1 {
            self.hurry()?;
            std::thread::sleep(Duration::from_millis(100));
        }
        let begun = process::cpu(self.pid())?;
        server.wait_for(self.name, before + 1 + polls, patience)?;
        let ended = process::cpu(self.pid())?;
        Ok((ended - begun) / f64::from(u32::try_from(polls)?))
    }

    /// How long it was on a processor so far, in seconds.
    pub(super) fn cpu(&self) -> anyhow::Result<f64> {
        process::cpu(self.pid())
    }

    /// Its largest memory so far, in MiB.
    pub(super) fn peak(&self) -> anyhow::Result<f64> {
        process::memory(self.pid(), "VmHWM:")
    }

    /// Its memory now, in MiB.
    pub(super) fn resident(&self) -> anyhow::Result<f64> {
        process::memory(self.pid(), "VmRSS:")
    }

    pub(super) fn forget_peak(&self) -> anyhow::Result<()> {
        process::forget_peak(self.pid())
    }
}
